//! Runs an operation's steps: observe, act, verify by observing, each recorded.

pub mod history;
pub mod journal;
pub mod lock;
pub mod retry;
pub mod session;

use std::time::Duration;

use azsreg_model::{ExitCode, Problem, StepReport, StepState};
use jiff::SignedDuration;
use serde_json::Value;
use thiserror::Error;

use crate::ports::{Class, Clock, PortError};
use crate::waits;
use journal::{Event, Journal};
use retry::Policy;

/// How long what was done may take to be seen.
const VISIBLE_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// Why an operation ended early.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", problems.first().map(ToString::to_string).unwrap_or_default())]
pub struct Failure {
    /// What happened; several where checks were made together.
    pub problems: Vec<Problem>,
    /// The exit code of the command.
    pub exit: ExitCode,
    /// The step in which it happened, if one had started.
    pub step: Option<&'static str>,
    /// The steps that had ended well.
    pub steps: Vec<StepReport>,
}

impl Failure {
    /// A failure before any step.
    #[must_use]
    pub fn before(problem: Problem) -> Self {
        Self { exit: problem.code.exit, problems: vec![problem], step: None, steps: Vec::new() }
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Self::before(*error.problem)
    }
}

/// Who looks on while an operation runs.
pub trait Watch {
    /// A step begins.
    fn step_started(&mut self, _step: &'static str, _title: &str) {}
    /// The step that began is tried no longer than this.
    fn tried_for(&mut self, _limit: Duration) {}
    /// From here on the world may have changed: the step's effect begins.
    fn acting(&mut self, _step: &'static str) {}
    /// A step ended well.
    fn step_ended(&mut self, _report: &StepReport) {}
    /// The engine waits.
    fn waiting(&mut self, _why: &str) {}
    /// How much of something has come.
    fn progress(&mut self, _what: &str, _done: u64, _of: u64) {}
    /// Something to read besides.
    fn note(&mut self, _text: &str) {}
    /// Something that the operator should know.
    fn warning(&mut self, _problem: &Problem) {}
    /// Whether a token or key that can't be read is refused, not passed on.
    fn strict(&self) -> bool {
        false
    }
}

/// Nobody looks on.
#[derive(Debug, Default)]
pub struct Silent;

impl Watch for Silent {}

/// What a step found or did: its output, and a line for the operator.
pub type Found<T> = (T, String);

/// The steps of one run of an operation.
pub struct Steps<'a, J: Journal, C: Clock> {
    journal: &'a mut J,
    clock: &'a C,
    watch: &'a mut dyn Watch,
    requests: &'a dyn Fn() -> Vec<String>,
    reports: Vec<StepReport>,
    warnings: Vec<Problem>,
    started: bool,
}

impl<'a, J: Journal, C: Clock> Steps<'a, J, C> {
    /// Steps recorded in a journal. `requests` gives the ids of the requests since it was last asked.
    pub fn new(
        journal: &'a mut J,
        clock: &'a C,
        watch: &'a mut dyn Watch,
        requests: &'a dyn Fn() -> Vec<String>,
    ) -> Self {
        let started = journal.events().iter().any(|event| matches!(event, Event::Started { .. }));
        Self { journal, clock, watch, requests, reports: Vec::new(), warnings: Vec::new(), started }
    }

    /// The steps as they went.
    #[must_use]
    pub fn into_reports(self) -> Vec<StepReport> {
        self.reports
    }

    /// Says what a step has found that the operator should know.
    pub fn warn(&mut self, found: Option<Problem>) {
        // What is tried again finds it again.
        if let Some(problem) = found.filter(|problem| !self.warnings.contains(problem)) {
            self.watch.warning(&problem);
            self.warnings.push(problem);
        }
    }

    /// What was said so.
    #[must_use]
    pub fn take_warnings(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.warnings)
    }

    /// Whether a token or key that can't be read is refused.
    #[must_use]
    pub fn strict(&self) -> bool {
        self.watch.strict()
    }

    /// A recorded output of an earlier run of this operation.
    #[must_use]
    pub fn recorded(&self, step: &str) -> Option<Value> {
        self.journal.events().iter().rev().find_map(|event| match event {
            Event::Succeeded { step: name, output, .. } if name == step => Some(output.clone()),
            _ => None,
        })
    }

    /// Whether this operation has begun a step's effect, in this run or in the one that it goes on from.
    #[must_use]
    pub fn has_begun(&self, step: &str) -> bool {
        history::started(self.journal.events(), step)
    }

    /// A failure in a step, or after all of them.
    #[must_use]
    pub fn failure(&self, step: &'static str, problem: Problem) -> Failure {
        // From the first effect on, the same command resumes; a permanent refusal stays a refusal in its code's text.
        let exit = if self.started { ExitCode::Resumable } else { problem.code.exit };
        Failure { problems: vec![problem], exit, step: Some(step), steps: self.reports.clone() }
    }

    /// A journal line; what can't be written stops the operation before its effect.
    fn record(&mut self, step: &'static str, event: Event) -> Result<(), Failure> {
        let at = self.clock.now();
        self.journal.append(at, event).map_err(|error| self.failure(step, error.problem()))
    }

    /// A step that does not apply here.
    pub fn not_needed(&mut self, step: &'static str, why: &str) {
        let report = StepReport { step, state: StepState::NotNeeded, detail: why.to_owned() };
        self.watch.step_ended(&report);
        self.reports.push(report);
    }

    /// Runs a step. `observe` says whether it is true already; `act` makes it true. After an action the world is observed
    /// again. A failure that may pass is tried again from the observation on, until the policy's deadline.
    ///
    /// # Errors
    /// What went wrong; permanent failures at once.
    pub async fn step<T>(
        &mut self,
        step: &'static str,
        title: &str,
        policy: Policy,
        mut observe: impl AsyncFnMut() -> Result<Option<Found<T>>, PortError>,
        mut act: impl AsyncFnMut() -> Result<Option<Found<T>>, PortError>,
        output: impl Fn(&T) -> Value,
    ) -> Result<T, Failure> {
        self.watch.step_started(step, title);
        self.watch.tried_for(policy.deadline);
        let mut backoff = retry::Backoff::new(policy, self.clock.now());
        let mut acted = false;
        loop {
            let attempt = async {
                if let Some(found) = observe().await? {
                    return Ok(Some(found));
                }
                Ok::<_, PortError>(None)
            };
            let error = match attempt.await {
                Ok(Some((value, detail))) => {
                    let state = if acted { StepState::Done } else { StepState::AlreadyDone };
                    return self.succeed(step, state, value, detail, &output);
                }
                Ok(None) => {
                    if !acted {
                        self.record(step, Event::Started { step: step.to_owned() })?;
                        self.started = true;
                        self.watch.acting(step);
                    }
                    acted = true;
                    match act().await {
                        // Who acted knows the outcome: there is nothing to observe.
                        Ok(Some((value, detail))) => {
                            return self.succeed(step, StepState::Done, value, detail, &output);
                        }
                        Ok(None) => match self.verify(step, &mut observe).await {
                            Ok((value, detail)) => {
                                return self.succeed(step, StepState::Done, value, detail, &output);
                            }
                            Err(error) => error,
                        },
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            match backoff.next(error.class, self.clock) {
                Some(wait) => {
                    if error.class == Class::Busy {
                        self.watch.waiting(&error.problem.message);
                    } else {
                        tracing::info!(step, wait = ?wait, problem = %error.problem, "trying again");
                        self.watch.waiting(&format!("{}: trying again", error.problem.message));
                    }
                    self.clock.sleep(wait).await;
                }
                None => {
                    let failure = self.failure(step, *error.problem);
                    let problem = &failure.problems[0];
                    let event = Event::Failed {
                        step: step.to_owned(),
                        code: problem.code.id.to_owned(),
                        message: problem.message.clone(),
                    };
                    if self.started {
                        self.record(step, event)?;
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// Observes what was done until it is to be seen: replication takes its time. The effect is not repeated meanwhile.
    async fn verify<T>(
        &mut self,
        step: &'static str,
        observe: &mut impl AsyncFnMut() -> Result<Option<Found<T>>, PortError>,
    ) -> Result<Found<T>, PortError> {
        let (begun, asked) = (self.clock.now(), waits::asked());
        let mut wait = Duration::from_millis(500);
        loop {
            if let Some(found) = observe().await? {
                return Ok(found);
            }
            if retry::without_people(self.clock.now().duration_since(begun), asked) >= VISIBLE_WITHIN {
                return Err(retry::not_seen(step));
            }
            self.watch.waiting("done, but not to be seen yet");
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(8));
        }
    }

    fn succeed<T>(
        &mut self,
        step: &'static str,
        state: StepState,
        value: T,
        detail: String,
        output: &impl Fn(&T) -> Value,
    ) -> Result<T, Failure> {
        let report = StepReport { step, state, detail };
        self.record(
            step,
            Event::Succeeded {
                step: step.to_owned(),
                state,
                detail: report.detail.clone(),
                output: output(&value),
                requests: (self.requests)(),
            },
        )?;
        self.watch.step_ended(&report);
        self.reports.push(report);
        Ok(value)
    }

    /// Ends the operation's record.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn finish(&mut self, outcome: &str) -> Result<(), Failure> {
        self.record("finish", Event::Finished { outcome: outcome.to_owned() })
    }
}
