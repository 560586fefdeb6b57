//! One operation per stamp at a time on this machine: a lock that says who, what and since when.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use azsreg_model::{Problem, Running, code};
use jiff::Timestamp;
use uuid::Uuid;

use super::journal::{Event, FileJournal, Journal as _};
use crate::files::input::{self, Input};
use crate::files::kept;
use crate::files::output::{self, Rights};
use crate::files::problem;

/// Who only looks whether there is an operation holds the lock for a moment: so often it is asked for before it counts as held.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The lock on a stamp, held until dropped. The operating system lets it go when the process dies.
#[derive(Debug)]
pub struct StampLock {
    _file: File,
}

/// The lock's file, and beside it the note that says who has it: Windows lets nobody read a locked file.
fn paths(state_dir: &Path, cloud_id: Uuid) -> (PathBuf, PathBuf) {
    let directory = state_dir.join("locks");
    (directory.join(format!("{cloud_id}.lock")), directory.join(format!("{cloud_id}.holder")))
}

/// What the note says. It may be another user's: one line of it, and no control characters.
fn noted(note: &Path) -> String {
    let text = input::read(note, Input::Manifest).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line: String =
        text.trim().lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    if line.is_empty() { "another process".to_owned() } else { line }
}

/// Who works on a stamp by its note, and the step that the newest journal has begun and not ended since then.
fn running(state_dir: &Path, cloud_id: Uuid) -> Running {
    let by = noted(&paths(state_dir, cloud_id).1);
    let since: Option<Timestamp> = by.rsplit_once("since ").and_then(|(_, at)| at.parse().ok());
    let newest = FileJournal::list(state_dir, cloud_id).ok().and_then(|journals| journals.last().cloned());
    let journal = newest.and_then(|path| FileJournal::read(&path, cloud_id).ok());
    let last = journal.as_ref().and_then(|journal| journal.events().last().zip(journal.times().last()));
    match last {
        // An older one is of a run that was interrupted, and is gone on from.
        Some((Event::Started { step }, at)) if since.is_some_and(|since| since <= *at) => {
            Running { by, step: Some(step.clone()), step_since: Some(*at) }
        }
        _ => Running { by, step: None, step_since: None },
    }
}

fn locked(cloud_id: Uuid, holder: &Running) -> Problem {
    Problem::new(&code::LOCKED, format!("the stamp {cloud_id} is being worked on by {holder}"))
}

impl StampLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Somebody else has it (exit 5), or the state directory can't be written.
    pub fn take(state_dir: &Path, cloud_id: Uuid, operation: &str, now: Timestamp) -> Result<Self, Problem> {
        let (path, note) = paths(state_dir, cloud_id);
        let opened = kept::make_directory(&state_dir.join("locks")).and_then(|()| kept::open_lock(&path));
        let file = opened.map_err(|error| match Self::holder(state_dir, cloud_id) {
            // Who may look and not work is told who works.
            Some(holder) if error.kind() == io::ErrorKind::PermissionDenied => locked(cloud_id, &holder),
            _ => problem(&path, &error),
        })?;
        let mut tries = 1;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(locked(cloud_id, &running(state_dir, cloud_id))),
                Err(TryLockError::Error(error)) => return Err(problem(&path, &error)),
            }
        }
        let who = super::journal::who();
        let text = format!("{operation} of {who}, process {}, since {now:.0}\n", std::process::id());
        output::write(&note, text.as_bytes(), Rights::Kept).map_err(|error| problem(&note, &error))?;
        Ok(Self { _file: file })
    }

    /// Looks whether the lock could be taken, as far as the directory's rights let it be seen. Nothing is made or written.
    ///
    /// # Errors
    /// Another process has it (exit 5).
    pub fn look(state_dir: &Path, cloud_id: Uuid) -> Result<(), Problem> {
        Self::holder(state_dir, cloud_id).map_or(Ok(()), |holder| Err(locked(cloud_id, &holder)))
    }

    /// Whether any stamp is being worked on, as far as it can be seen.
    #[must_use]
    pub fn is_any_held(state_dir: &Path) -> bool {
        let names = std::fs::read_dir(state_dir.join("locks")).into_iter().flatten().flatten();
        let mut stamps = names.filter_map(|entry| entry.path().file_stem()?.to_str()?.parse().ok());
        stamps.any(|cloud_id| Self::holder(state_dir, cloud_id).is_some())
    }

    /// Who works on a stamp at the moment, as far as the directory's rights let it be seen. Nothing is made or written: for
    /// `--plan`, which needs no lock, and for those who only look.
    #[must_use]
    pub fn holder(state_dir: &Path, cloud_id: Uuid) -> Option<Running> {
        let (path, _) = paths(state_dir, cloud_id);
        let file = kept::open(File::options().read(true), &path).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| running(state_dir, cloud_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn the_second_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(StampLock::holder(dir.path(), Uuid::nil()), None);
        let held = StampLock::take(dir.path(), Uuid::nil(), "register", NOW).unwrap();
        let refused = StampLock::take(dir.path(), Uuid::nil(), "register", NOW).unwrap_err();
        assert_eq!(refused.code.id, "AZR5001");
        assert!(refused.message.contains("register of"), "{}", refused.message);
        assert!(StampLock::holder(dir.path(), Uuid::nil()).unwrap().by.starts_with("register of"));
        drop(held);
        assert_eq!(StampLock::holder(dir.path(), Uuid::nil()), None);
        StampLock::take(dir.path(), Uuid::nil(), "register", NOW).unwrap();
    }

    #[test]
    fn the_second_is_told_the_step_of_this_run_alone() {
        let dir = tempfile::tempdir().unwrap();
        let started = |step: &str| Event::Started { step: step.into() };
        let later = NOW + jiff::SignedDuration::from_secs(90);
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", NOW).unwrap();
        journal.append(NOW, started("role")).unwrap();
        let _held = StampLock::take(dir.path(), Uuid::nil(), "register", later).unwrap();
        let running = || StampLock::holder(dir.path(), Uuid::nil()).unwrap();
        assert_eq!(running().step, None, "the step of the run before");
        journal.append(later, started("activation")).unwrap();
        let told = running().to_string();
        assert!(
            told.ends_with("since 1970-01-01T00:01:30Z, at the step activation since 1970-01-01T00:01:30Z"),
            "{told}"
        );
        let refused = StampLock::take(dir.path(), Uuid::nil(), "repair", later).unwrap_err();
        assert!(refused.message.contains("at the step activation"), "{}", refused.message);
        journal.append(later, Event::Finished { outcome: "verified".into() }).unwrap();
        assert_eq!(running().step, None);
    }

    #[test]
    fn who_looks_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(StampLock::holder(&dir.path().join("state"), Uuid::nil()), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn the_note_is_not_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (_, note) = paths(dir.path(), Uuid::nil());
        let target = dir.path().join("target");
        std::fs::write(&target, "mine").unwrap();
        std::fs::create_dir(dir.path().join("locks")).unwrap();
        std::os::unix::fs::symlink(&target, &note).unwrap();
        let _held = StampLock::take(dir.path(), Uuid::nil(), "register", NOW).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    }
}
