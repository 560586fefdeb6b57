//! A machine that azsreg runs on: its state directory, its crashes, and the person who runs the same command again.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use azsreg_model::{ExitCode, Problem, code};
use azsreg_operations::engine::history::History;
use azsreg_operations::engine::journal::{Event, JournalError, is_ended};
use azsreg_operations::engine::session::{Books, Consent, Question};
use azsreg_operations::{Failure, Journal, MemoryJournal};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::chaos::{Chaos, VirtualClock};
use crate::{Broken, Trial};

/// Problems that a fault explains: the same command is run again.
const PASSING: &[&str] = &["AZR2006", "AZR2010", "AZR2014", "AZR4001", "AZR4011", "AZR4012"];

/// Whether a fault explains it: also a look that a fault has broken off, where what was not seen may be there.
fn passes(problem: &Problem) -> bool {
    PASSING.contains(&problem.code.id)
        || problem.code == &code::DETAILS_UNKNOWN && problem.message.contains("could not be looked at")
}

/// The journals of one machine. What was recorded outlives the process that recorded it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Machine {
    journals: Rc<RefCell<Vec<MemoryJournal>>>,
    /// How far its clock is behind.
    behind: SignedDuration,
}

/// One of them, as a process has it open.
#[derive(Debug)]
pub(crate) struct Kept {
    all: Machine,
    at: usize,
    here: MemoryJournal,
}

impl Journal for Kept {
    fn events(&self) -> &[Event] {
        self.here.events()
    }

    fn times(&self) -> &[Timestamp] {
        self.here.times()
    }

    fn append(&mut self, at: Timestamp, event: Event) -> Result<(), JournalError> {
        self.here.append(at - self.all.behind, event)?;
        // A machine that lost its directory has no journal to write to any more.
        if let Some(kept) = self.all.journals.borrow_mut().get_mut(self.at) {
            kept.clone_from(&self.here);
        }
        Ok(())
    }
}

impl Machine {
    /// A machine whose clock is behind.
    pub(crate) fn behind(behind: SignedDuration) -> Self {
        Self { behind, ..Self::default() }
    }

    /// The state directory is lost.
    pub(crate) fn forget(&self) {
        self.journals.borrow_mut().clear();
    }

    /// The newest journal is cut after so many events, as a power failure leaves it.
    #[cfg(test)]
    pub(crate) fn cut(&self, events: usize) {
        if let Some(newest) = self.journals.borrow_mut().last_mut() {
            let mut cut = MemoryJournal::default();
            for (event, at) in newest.events().iter().zip(newest.times()).take(events) {
                let _ = cut.append(*at, event.clone());
            }
            *newest = cut;
        }
    }

    /// Whether the newest run has begun to act and did not end.
    pub(crate) fn is_half_way(&self) -> bool {
        let all = self.journals.borrow();
        let newest = all.last().map(Journal::events).unwrap_or_default();
        !is_ended(newest) && newest.iter().any(|event| matches!(event, Event::Started { .. }))
    }
}

impl Books for Machine {
    type Journal = Kept;
    type Held = ();

    fn hold(&self, _: Uuid, _: &str, _: Timestamp) -> Result<(), Problem> {
        Ok(())
    }

    fn holder(&self, _: Uuid) -> Option<String> {
        None
    }

    fn history(&self, _: Uuid) -> Result<History<Kept>, Problem> {
        let all = self.journals.borrow();
        let open = |(at, here): (usize, &MemoryJournal)| Kept { all: self.clone(), at, here: here.clone() };
        Ok(History::of(all.iter().enumerate().map(open).collect()))
    }

    fn begin(&self, _: Uuid, _: &str, _: Timestamp) -> Result<Kept, JournalError> {
        let mut all = self.journals.borrow_mut();
        all.push(MemoryJournal::default());
        Ok(Kept { all: self.clone(), at: all.len() - 1, here: MemoryJournal::default() })
    }
}

/// Somebody who agrees to everything.
pub(crate) struct Willing;

impl Consent for Willing {
    fn agree(&mut self, _: &Question, _: bool) -> Result<(), Problem> {
        Ok(())
    }
}

/// Polls a future that never waits: it ends, or it was killed.
pub(crate) fn drive<T>(future: impl Future<Output = T>) -> Option<T> {
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
        machine: &Machine,
        mut attempt: impl AsyncFnMut() -> Result<(), Failure>,
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
                machine.forget();
            }
            self.chaos.revive();
            let result = drive(attempt());
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
                    if !passes(problem) {
                        return Err(broken(format!("a failure that no fault explains: {failure:?}")));
                    }
                    if failure.exit != ExitCode::Resumable && failure.step.is_some() && machine.is_half_way() {
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
