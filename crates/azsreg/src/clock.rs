//! The time: this machine's, set right by what Azure or the stamp say it is.
//!
//! A machine at an air-gapped site may be days off. What expires is judged by the clock of those who made it: the newest
//! `Date` of Azure's that came over TLS, a stamp's where Azure is not asked, where it differs by more than five minutes.

use std::time::Duration;

use azsreg_arm::clock_skew;
use azsreg_operations::ports::Clock;
use jiff::{SignedDuration, Timestamp};

/// Less than this is the network's.
const TOLERATED: SignedDuration = SignedDuration::from_mins(5);

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let skew = clock_skew().filter(|skew| skew.abs() > TOLERATED).unwrap_or_default();
        Timestamp::now().checked_add(skew).unwrap_or_else(|_| Timestamp::now())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn jitter(&self) -> f64 {
        // The low bits of the time: spread enough for two clients not to meet again and again.
        f64::from(Timestamp::now().subsec_nanosecond() % 1_000) / 1_000.0
    }
}
