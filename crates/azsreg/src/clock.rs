//! The system's time.

use std::time::Duration;

use azsreg_operations::ports::Clock;
use jiff::Timestamp;

/// The clock of this machine.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn jitter(&self) -> f64 {
        // Not a secret: the low bits of the time spread retries of several machines well enough.
        f64::from(Timestamp::now().subsec_nanosecond() % 1_000_003) / 1_000_003.0
    }
}
