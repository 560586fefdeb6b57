//! What this process waits for right now: whoever looks on can say whom it waits for, since when, and until when.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static WAITS: Mutex<(u64, Vec<Wait>)> = Mutex::new((0, Vec::new()));

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
}
