//! How far the clocks of the other sides are ahead of this machine's, by the newest `Date` of each.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// The least number is unknown.
static AZURE: AtomicI64 = AtomicI64::new(i64::MIN);
static STAMP: AtomicI64 = AtomicI64::new(i64::MIN);

/// Whose clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Azure's, or its directory's.
    Azure,
    /// A stamp's.
    Stamp,
}

impl Whose {
    fn kept(self) -> &'static AtomicI64 {
        match self {
            Self::Azure => &AZURE,
            Self::Stamp => &STAMP,
        }
    }

    /// For a sentence: `Azure's`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Azure => "Azure's",
            Self::Stamp => "the stamp's",
        }
    }

    /// It says that it is this late.
    pub fn says(self, at: Timestamp) {
        self.kept().store(at.as_second() - Timestamp::now().as_second(), Ordering::Relaxed);
    }

    /// How far it is ahead; `None` before it has said anything.
    #[must_use]
    pub fn ahead(self) -> Option<SignedDuration> {
        let kept = self.kept().load(Ordering::Relaxed);
        (kept != i64::MIN).then(|| SignedDuration::from_secs(kept))
    }
}

/// The better of the clocks that are known: Azure's, for of several stamps one may be wrong.
#[must_use]
pub fn other() -> Option<(Whose, SignedDuration)> {
    [Whose::Azure, Whose::Stamp].into_iter().find_map(|whose| Some((whose, whose.ahead()?)))
}
