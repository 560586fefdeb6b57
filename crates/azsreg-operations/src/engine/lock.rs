//! One operation per stamp at a time on this machine: a lock that says who, what and since when.

use std::fs::{File, TryLockError};
use std::path::Path;

use azsreg_model::{Problem, code};
use jiff::Timestamp;
use uuid::Uuid;

use super::journal::state_problem;

/// The lock on a stamp, held until dropped. The operating system lets it go when the process dies.
#[derive(Debug)]
pub struct StampLock {
    _file: File,
}

impl StampLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Somebody else has it (exit 5), or the state directory can't be written.
    pub fn take(state_dir: &Path, cloud_id: Uuid, operation: &str, now: Timestamp) -> Result<Self, Problem> {
        let directory = state_dir.join("locks");
        std::fs::create_dir_all(&directory).map_err(|e| state_problem(&directory, &e))?;
        let path = directory.join(format!("{cloud_id}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| state_problem(&path, &e))?;
        // Beside the locked file, which Windows lets nobody else read.
        let note = directory.join(format!("{cloud_id}.holder"));
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&note).unwrap_or_default();
                let holder =
                    if holder.trim().is_empty() { "another process".to_owned() } else { holder.trim().to_owned() };
                return Err(Problem::new(
                    &code::LOCKED,
                    format!("the stamp {cloud_id} is being worked on by {holder}"),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(state_problem(&path, &error)),
        }
        let who = super::journal::who();
        let text = format!("{operation} of {who}, process {}, since {now:.0}\n", std::process::id());
        std::fs::write(&note, text).map_err(|e| state_problem(&note, &e))?;
        Ok(Self { _file: file })
    }

    /// Who has the lock on a stamp, as far as this process may see. Nothing is written.
    #[must_use]
    pub fn holder(state_dir: &Path, cloud_id: Uuid) -> Option<String> {
        let directory = state_dir.join("locks");
        let file = File::open(directory.join(format!("{cloud_id}.lock"))).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(directory.join(format!("{cloud_id}.holder"))).unwrap_or_default();
                Some(if holder.trim().is_empty() { "another process".to_owned() } else { holder.trim().to_owned() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let held = StampLock::take(dir.path(), Uuid::nil(), "register", now).unwrap();
        let refused = StampLock::take(dir.path(), Uuid::nil(), "register", now).unwrap_err();
        assert_eq!(refused.code.id, "AZR5001");
        assert!(refused.message.contains("register of"), "{}", refused.message);
        drop(held);
        StampLock::take(dir.path(), Uuid::nil(), "register", now).unwrap();
    }
}
