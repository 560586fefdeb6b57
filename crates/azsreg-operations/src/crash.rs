//! Where a test may kill the process. Does nothing in a build without the `crash-points` feature.

/// Passes a point. With the `crash-points` feature and `AZSREG_CRASH_AT=n`, the nth point of the process aborts it;
/// with `AZSREG_CRASH_TRACE=FILE`, each point's name is appended to that file.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let passed = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(path) = std::env::var_os("AZSREG_CRASH_TRACE")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{passed} {name}");
    }
    let wanted = std::env::var("AZSREG_CRASH_AT").ok().and_then(|at| at.parse().ok());
    if wanted == Some(passed) {
        // As a power failure would: no destructor runs, nothing is flushed.
        std::process::abort();
    }
}

/// Passes a point: nothing happens in this build.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &str) {}

/// Takes bytes of a download. With the `crash-points` feature and `AZSREG_CRASH_AT_BYTE=n`, the process aborts when so many
/// have come in all.
#[cfg(feature = "crash-points")]
pub fn bytes(count: u64) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CAME: AtomicU64 = AtomicU64::new(0);
    let before = CAME.fetch_add(count, Ordering::SeqCst);
    let wanted: Option<u64> = std::env::var("AZSREG_CRASH_AT_BYTE").ok().and_then(|at| at.parse().ok());
    if wanted.is_some_and(|at| before <= at && at < before + count) {
        std::process::abort();
    }
}

/// Takes bytes of a download: nothing happens in this build.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn bytes(_count: u64) {}
