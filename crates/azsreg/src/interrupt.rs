//! ^C and SIGTERM: the command ends at once. Nothing is lost; what the stamp has begun goes on.

use std::cell::Cell;
use std::future::Future;

use azsreg_model::{ExitCode, Problem, code};

use crate::{Ended, ask};

/// Runs until it ends or somebody interrupts. `acting` says whether a step's effect has begun.
pub(crate) async fn or<T>(acting: &Cell<bool>, work: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    tokio::select! {
        biased;
        // Who pressed ^C at a question has said so, whatever the work made of the missing answer.
        result = work => if result.is_err() && ask::was_interrupted() { Err(interrupted(acting.get())) } else { result },
        () = signal() => Err(interrupted(acting.get())),
    }
}

fn interrupted(acting: bool) -> Ended {
    let problem = if acting {
        Problem::new(&code::INTERRUPTED, "interrupted half-way: nothing is lost, and what the stamp has begun goes on")
            .next("Run the same command again: it resumes.")
    } else {
        Problem::new(&code::INTERRUPTED, "interrupted before anything was changed")
    };
    let exit = if acting { ExitCode::Resumable } else { ExitCode::Interrupted };
    Ended { exit, ..problem.into() }
}

/// Waits for ^C, or on Unix for SIGTERM too.
pub(crate) async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
