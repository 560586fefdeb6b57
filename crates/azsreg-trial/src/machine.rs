//! A machine that azsreg runs on: its state directory, its crashes, and the person who runs the same command again.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use azsreg_model::ExitCode;
use azsreg_operations::engine::journal::{Event, Past, is_ended};
use azsreg_operations::{Failure, Journal as _, MemoryJournal};
use jiff::SignedDuration;
use serde::Serialize;

use crate::ports::{Chaos, VirtualClock};
use crate::{Broken, Trial};

/// Problems that a fault explains: the same command is run again.
const PASSING: &[&str] = &["AZR2006", "AZR2010", "AZR2014", "AZR4001", "AZR4011", "AZR4012"];

/// The journals of one machine.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    ended: Vec<Vec<Event>>,
    pub(crate) open: MemoryJournal,
}

impl Machine {
    /// What a run of this request goes on from.
    pub(crate) fn past(&mut self, operation: &str, version: u32, request: &impl Serialize) -> Past {
        let request = serde_json::to_value(request).unwrap_or_default();
        let open = Some(self.open.events()).filter(|events| !events.is_empty());
        let past = Past::of(&self.ended, open, operation, version, &request);
        if past.open.is_empty() {
            // Something else was begun: it stays as it is, and a new journal is begun.
            self.open = MemoryJournal::default();
        }
        past
    }

    /// What the journals know and the world does not tell.
    pub(crate) fn known(&self) -> azsreg_model::Known {
        let mut all = self.ended.clone();
        all.push(self.open.events().to_vec());
        azsreg_operations::engine::journal::known(&all)
    }

    /// The events of the run that did not end.
    pub(crate) fn begun(&self) -> Vec<Event> {
        self.open.events().to_vec()
    }

    fn settle(&mut self) {
        if is_ended(self.open.events()) {
            self.ended.push(std::mem::take(&mut self.open).events().to_vec());
        }
    }
}

/// Polls a future that never waits: it ends, or it was killed.
fn drive<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// What a person has at hand who runs commands until they end well.
pub(crate) struct Person<'p> {
    pub(crate) clock: &'p VirtualClock,
    pub(crate) chaos: &'p Chaos,
    pub(crate) draw: &'p mut fastrand::Rng,
    /// How likely the state directory is lost between two runs, in quarters.
    pub(crate) forgetful: u8,
    pub(crate) trial: Trial,
}

impl Person<'_> {
    /// Runs a command until it ends well, through crashes and failures; `ended` says whether a failure that no fault
    /// explains is the right end all the same.
    pub(crate) fn until_done(
        &mut self,
        what: &str,
        machine: &mut Machine,
        mut attempt: impl AsyncFnMut(&mut Machine) -> Result<(), Failure>,
        ended: impl Fn(&Failure) -> bool,
    ) -> Result<(), Broken> {
        let seed = self.trial.seed;
        let broken = |why: String| Broken { seed, why: format!("{what}: {why}") };
        let loud = Cell::new(true);
        for run in 1..200u32 {
            self.trial.runs += 1;
            // At some time the world becomes quiet: then it must end well.
            if run == 40 {
                self.chaos.hush(true);
                loud.set(false);
            }
            if self.draw.u8(0..4) < self.forgetful {
                *machine = Machine::default();
            }
            self.chaos.revive();
            let result = drive(attempt(machine));
            machine.settle();
            match result {
                None => self.trial.crashes += 1,
                Some(Ok(())) => {
                    self.chaos.hush(false);
                    return Ok(());
                }
                Some(Err(failure)) if ended(&failure) => {
                    self.chaos.hush(false);
                    return Ok(());
                }
                Some(Err(failure)) => {
                    self.trial.failures += 1;
                    let problem = &failure.problems[0];
                    if !PASSING.contains(&problem.code.id) {
                        return Err(broken(format!("a failure that no fault explains: {failure:?}")));
                    }
                    if failure.exit != ExitCode::Resumable && failure.step.is_some() && machine.open.events().len() > 1
                    {
                        return Err(broken(format!("a run that acted must be resumable: {failure:?}")));
                    }
                }
            }
            // Between two runs some time passes; a dead client's action may end meanwhile, or not.
            let pause = SignedDuration::from_secs(self.draw.i64(0..600));
            self.clock.now.set(self.clock.now.get() + pause);
        }
        Err(broken(format!("it does not end: {:?}", self.trial)))
    }
}
