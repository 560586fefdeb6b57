//! What this process waits for right now: whoever looks on can say whom it waits for, since when, and until when. What a
//! person takes to sign in is no time of a step.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static WAITS: Mutex<(u64, Vec<Wait>)> = Mutex::new((0, Vec::new()));
/// How long people have taken in all, and since when each takes who is asked now.
static PEOPLE: Mutex<(Duration, Vec<Instant>)> = Mutex::new((Duration::ZERO, Vec::new()));

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    id: u64,
    /// Whose answer it is: a host, mostly; `None` for a call with its repetitions.
    pub whose: Option<String>,
    /// Since when.
    pub since: Instant,
    /// How long at most.
    pub limit: Duration,
}

/// Ends the wait when it is dropped.
#[derive(Debug)]
#[must_use = "the wait ends when this is dropped"]
pub struct Waiting(u64);

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITS.lock().unwrap_or_else(PoisonError::into_inner).1.retain(|wait| wait.id != self.0);
    }
}

fn begin(whose: Option<String>, limit: Duration) -> Waiting {
    let mut waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
    waits.0 += 1;
    let id = waits.0;
    waits.1.push(Wait { id, whose, since: Instant::now(), limit });
    Waiting(id)
}

/// From now until this is dropped an answer of somebody is waited for, so long at most.
pub fn answer_of(whose: impl Into<String>, limit: Duration) -> Waiting {
    begin(Some(whose.into()), limit)
}

/// From now until this is dropped a call is tried, and no longer than this is it tried anew.
pub fn tries(limit: Duration) -> Waiting {
    begin(None, limit)
}

/// From now until this is dropped a person is asked: this time counts for nothing.
#[derive(Debug)]
#[must_use = "the person is asked until this is dropped"]
pub struct Asking {
    since: Instant,
    _answer: Waiting,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut people = PEOPLE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = people.1.iter().position(|since| *since == self.since) {
            people.1.swap_remove(at);
            people.0 += self.since.elapsed();
        }
    }
}

/// From now until this is dropped a person is asked, so long at most.
pub fn person(who: impl Into<String>, limit: Duration) -> Asking {
    let since = Instant::now();
    PEOPLE.lock().unwrap_or_else(PoisonError::into_inner).1.push(since);
    Asking { since, _answer: answer_of(who, limit) }
}

/// How long people have taken in all: it grows while one is asked.
#[must_use]
pub fn asked() -> Duration {
    let people = PEOPLE.lock().unwrap_or_else(PoisonError::into_inner);
    people.0 + people.1.iter().map(Instant::elapsed).sum::<Duration>()
}

/// A time that is not used up while a person is asked.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    begun: Instant,
    asked: Duration,
    limit: Duration,
}

impl Allowance {
    /// So long from now on.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { begun: Instant::now(), asked: asked(), limit }
    }

    /// All of it.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        let used = self.begun.elapsed().saturating_sub(asked().saturating_sub(self.asked));
        self.limit.saturating_sub(used)
    }
}

/// What is waited for, the longest wait first.
#[must_use]
pub fn now() -> Vec<Wait> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_known_until_it_ends() {
        let of = |host: &str| now().into_iter().find(|wait| wait.whose.as_deref() == Some(host));
        let outer = answer_of("a.example", Duration::from_secs(120));
        {
            let _inner = answer_of("b.example", Duration::from_secs(5));
            assert_eq!(of("b.example").map(|wait| wait.limit), Some(Duration::from_secs(5)));
        }
        assert!(of("b.example").is_none() && of("a.example").is_some());
        drop(outer);
        assert!(of("a.example").is_none());
    }

    #[test]
    fn what_a_person_takes_counts_for_nothing() {
        let (limit, before) = (Duration::from_secs(60), asked());
        let allowance = Allowance::new(limit);
        let asking = person("the person who signs in", Duration::from_secs(900));
        std::thread::sleep(Duration::from_millis(30));
        assert!(asked() - before >= Duration::from_millis(30), "it grows while the person is asked");
        drop(asking);
        let took = asked() - before;
        assert!(took >= Duration::from_millis(30));
        assert!(allowance.left() + allowance.begun.elapsed() >= limit + took - Duration::from_millis(1));
    }
}
