//! The one retry policy: classified, with jitter, within a deadline.

use std::time::Duration;

use azsreg_model::{Problem, code};
use jiff::{SignedDuration, Timestamp};

use crate::ports::{Class, Clock, PortError};
use crate::waits;

/// How patient a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// From the step's beginning, no new try after this.
    pub deadline: Duration,
    /// Failures that may pass: tried this often at most.
    pub tries: u32,
}

impl Policy {
    /// For calls to Azure.
    pub const AZURE: Self = Self { deadline: Duration::from_secs(5 * 60), tries: 6 };
    /// For a download that has begun to move: a line that is down for half an hour is waited for.
    pub const BLOBS: Self = Self { deadline: Duration::from_secs(60 * 60), tries: 200 };
    /// For actions of the stamp: ten minutes are normal, and an earlier action may have to end first.
    pub const STAMP: Self = Self { deadline: Duration::from_secs(60 * 60), tries: 6 };
}

/// How often an action of the stamp is tried that fails for no final reason.
const ACTION_TRIES: u32 = 3;
/// How long between two of these tries.
const ACTION_WAIT: Duration = Duration::from_secs(10);

/// The waits of one step.
#[derive(Debug)]
pub struct Backoff {
    policy: Policy,
    begun: Timestamp,
    /// How long people had taken by then.
    asked: Duration,
    failures: u32,
    again: u32,
    busy: u32,
}

impl Backoff {
    /// Waits of a step that begins now.
    #[must_use]
    pub fn new(policy: Policy, now: Timestamp) -> Self {
        Self { policy, begun: now, asked: waits::asked(), failures: 0, again: 0, busy: 0 }
    }

    /// How long to wait before the next try; `None` to give up.
    pub fn next<C: Clock>(&mut self, class: Class, clock: &C) -> Option<Duration> {
        let passed = without_people(clock.now().duration_since(self.begun), self.asked);
        if passed >= SignedDuration::try_from(self.policy.deadline).unwrap_or(SignedDuration::MAX) {
            return None;
        }
        match class {
            Class::Permanent | Class::Refused => None,
            Class::Again => {
                self.again += 1;
                (self.again < ACTION_TRIES).then_some(ACTION_WAIT)
            }
            // A minute and a half to the next look, at most; the first looks come soon.
            Class::Busy => {
                self.busy += 1;
                Some(spread(Duration::from_secs(1 << self.busy.min(4)), clock.jitter()))
            }
            Class::Throttled(after) => {
                self.failures += 1;
                // Never less than was said: rather give up, and be run again.
                let wait = after.unwrap_or(Duration::from_secs(10)).max(Duration::from_secs(1));
                let left = self.policy.deadline.saturating_sub(Duration::try_from(passed).unwrap_or_default());
                (self.failures <= self.policy.tries && wait < left).then_some(wait)
            }
            Class::Transient => {
                self.failures += 1;
                let wait = Duration::from_millis(400) * 2u32.pow(self.failures.min(6) - 1);
                (self.failures <= self.policy.tries).then(|| spread(wait, clock.jitter()))
            }
        }
    }
}

/// What has passed, without what people have taken of it since they had taken so much.
pub(super) fn without_people(passed: SignedDuration, before: Duration) -> SignedDuration {
    passed.saturating_sub(SignedDuration::try_from(waits::asked().saturating_sub(before)).unwrap_or_default())
}

/// Between half of the wait and all of it.
fn spread(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// Runs a read until it gives something or fails for good.
///
/// # Errors
/// The last failure.
pub async fn read<T, C: Clock>(
    clock: &C,
    policy: Policy,
    mut call: impl AsyncFnMut() -> Result<T, PortError>,
) -> Result<T, PortError> {
    let mut backoff = Backoff::new(policy, clock.now());
    let _tries = waits::tries(policy.deadline);
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) => match backoff.next(error.class, clock) {
                Some(wait) => {
                    tracing::info!(wait = ?wait, problem = %error.problem, "trying again");
                    clock.sleep(wait).await;
                }
                None => return Err(error),
            },
        }
    }
}

/// What was done is not to be seen. Doing it again would not show it sooner.
#[must_use]
pub fn not_seen(step: &str) -> PortError {
    PortError::new(
        Class::Permanent,
        Problem::new(&code::NOT_SEEN, format!("the step {step} was done, but its effect is not to be seen")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Virtual(Cell<Timestamp>);

    impl Clock for Virtual {
        fn now(&self) -> Timestamp {
            self.0.get()
        }
        async fn sleep(&self, duration: Duration) {
            self.0.set(self.0.get() + SignedDuration::try_from(duration).unwrap());
        }
        fn jitter(&self) -> f64 {
            1.0
        }
    }

    #[test]
    fn permanent_and_refused_never_wait_and_busy_waits_until_the_deadline() {
        let clock = Virtual(Cell::new(Timestamp::UNIX_EPOCH));
        let mut backoff = Backoff::new(Policy::STAMP, clock.now());
        assert_eq!(backoff.next(Class::Permanent, &clock), None);
        assert_eq!(backoff.next(Class::Refused, &clock), None);
        let mut waits = 0;
        while let Some(wait) = backoff.next(Class::Busy, &clock) {
            clock.0.set(clock.now() + SignedDuration::try_from(wait).unwrap());
            waits += 1;
        }
        assert!(waits > 100, "an hour of looking every sixteen seconds, not {waits} looks");
        // A person who takes longer than the step has leaves it the time that it had.
        let mut backoff = Backoff::new(Policy { deadline: Duration::from_millis(20), tries: 6 }, clock.now());
        let asking = waits::person("the person who signs in", Duration::from_secs(900));
        std::thread::sleep(Duration::from_millis(40));
        drop(asking);
        clock.0.set(clock.now() + SignedDuration::from_millis(40));
        assert!(backoff.next(Class::Transient, &clock).is_some());
        let mut backoff = Backoff::new(Policy::AZURE, clock.now());
        let waits = std::iter::from_fn(|| backoff.next(Class::Transient, &clock)).count();
        assert_eq!(waits, 6);
        let mut backoff = Backoff::new(Policy::STAMP, clock.now());
        let waits: Vec<_> = std::iter::from_fn(|| backoff.next(Class::Again, &clock)).collect();
        assert_eq!(waits, [Duration::from_secs(10); 2]);
        let mut backoff = Backoff::new(Policy::AZURE, clock.now());
        assert_eq!(backoff.next(Class::Throttled(Some(Duration::from_secs(7))), &clock), Some(Duration::from_secs(7)));
    }
}
