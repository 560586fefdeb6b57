//! What goes wrong in a trial, by seed, and the time in which it does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use azsreg_model::{Problem, code};
use azsreg_operations::ports::{Class, Clock, PortError};
use jiff::{SignedDuration, Timestamp};

/// Time that passes only in a wait.
pub struct VirtualClock {
    pub(crate) now: Cell<Timestamp>,
    pub(crate) draw: RefCell<fastrand::Rng>,
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    async fn sleep(&self, duration: Duration) {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        self.now.set(self.now.get() + duration);
    }

    fn jitter(&self) -> f64 {
        self.draw.borrow_mut().f64()
    }
}

/// What goes wrong, by seed.
pub struct Chaos {
    draw: RefCell<fastrand::Rng>,
    failure: Cell<f64>,
    crash: Cell<f64>,
    dead: Cell<bool>,
    quiet: Cell<bool>,
    /// Whether the next points fail, one after the other, where a case is told.
    told: RefCell<VecDeque<bool>>,
    odd: Cell<Odd>,
    reads: Cell<u32>,
    /// What the odd answer was given to.
    asked: RefCell<Option<String>>,
}

/// An answer that does not say what was asked: another service's, a gateway's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Odd {
    /// None.
    #[default]
    Never,
    /// The nth read is answered so, once.
    Once(u32),
    /// The nth read is refused, once, with what no retry mends.
    Refused(u32),
    /// The nth read and all of its kind that follow are answered so.
    From(u32),
}

/// What reads are called.
const READS: &[&str] = &[
    "subscriptions",
    "locations",
    "permissions",
    "provider",
    "resource group",
    "registration",
    "registrations",
    "locks",
    "role assignments",
    "principal",
    "activation key",
    "activation record",
    "downloaded products",
];

impl Chaos {
    /// Failures and crashes with these probabilities at every point.
    #[must_use]
    pub fn new(seed: u64, failure: f64, crash: f64) -> Self {
        Self {
            draw: RefCell::new(fastrand::Rng::with_seed(seed ^ 0x5eed)),
            failure: Cell::new(failure),
            crash: Cell::new(crash),
            dead: Cell::new(false),
            quiet: Cell::new(false),
            told: RefCell::default(),
            odd: Cell::default(),
            reads: Cell::new(0),
            asked: RefCell::default(),
        }
    }

    /// From now on reads are counted, and this one is answered oddly.
    pub(crate) fn answer(&self, odd: Odd) {
        self.odd.set(odd);
        self.reads.set(0);
        self.asked.replace(None);
    }

    /// How many reads there were, and what the odd answer was given to.
    pub(crate) fn answered(&self) -> (u32, String) {
        (self.reads.get(), self.asked.borrow().clone().unwrap_or_default())
    }

    /// The odd answer to a read, if it gets one.
    pub(crate) fn odd_answer(&self, what: &str) -> Option<PortError> {
        if !READS.contains(&what) {
            return None;
        }
        self.reads.set(self.reads.get() + 1);
        let (nth, again) = match self.odd.get() {
            Odd::Never => return None,
            Odd::Once(nth) | Odd::Refused(nth) => (nth, false),
            Odd::From(nth) => (nth, self.asked.borrow().as_deref() == Some(what)),
        };
        if self.reads.get() != nth && !again {
            return None;
        }
        self.asked.replace(Some(what.to_owned()));
        let message = format!("{what}: another service answered");
        Some(match self.odd.get() {
            Odd::Refused(_) => PortError::permanent(Problem::new(&code::AZURE_REFUSED, message)),
            _ => PortError::new(Class::Transient, Problem::new(&code::ANSWER_UNCLEAR, message)),
        })
    }

    /// Nothing goes wrong for a while, or things do again.
    pub fn hush(&self, quiet: bool) {
        self.quiet.set(quiet);
    }

    /// A new process.
    pub fn revive(&self) {
        self.dead.set(false);
    }

    /// The process dies at the next point.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.dead.set(true);
    }

    /// The next points fail, or don't: one before each call's effect, one after it.
    #[cfg(test)]
    pub(crate) fn tell(&self, points: impl IntoIterator<Item = bool>) {
        self.told.borrow_mut().extend(points);
    }

    pub(crate) fn fails(&self) -> bool {
        if let Some(told) = self.told.borrow_mut().pop_front() {
            return told;
        }
        self.draw.borrow_mut().f64() < self.failure.get() && !self.quiet.get()
    }

    /// A point at which the process may die: it then never gets any further.
    pub(crate) async fn point(&self) {
        if !self.dead.get() && self.draw.borrow_mut().f64() < self.crash.get() && !self.quiet.get() {
            self.dead.set(true);
        }
        if self.dead.get() {
            std::future::pending::<()>().await;
        }
    }
}
