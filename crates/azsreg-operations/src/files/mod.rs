//! The files of this machine, in one place: what a person names is looked at before it is read, what is written is written
//! whole or not at all, and what azsreg keeps is its owner's or its group's alone.

pub mod input;
pub mod kept;
pub mod output;

use std::io;
use std::path::Path;

use azsreg_model::{Problem, code};

/// Whether the process or the machine has no descriptor left: a file, a socket, all of them fail then.
#[must_use]
pub fn no_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        [Errno::MFILE.raw_os_error(), Errno::NFILE.raw_os_error()].map(Some).contains(&error.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        // ERROR_TOO_MANY_OPEN_FILES and WSAEMFILE.
        [Some(4), Some(10024)].contains(&error.raw_os_error())
    }
}

/// The same, of an error that has it for its cause, however deep.
#[must_use]
pub fn is_without_descriptors(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(no_descriptors) {
            return true;
        }
        // An io::Error that wraps another one hides it from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        if inner.is_some_and(|inner| is_without_descriptors(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether words are the system's for that, where an error was kept as words only.
#[must_use]
pub fn says_no_descriptors(words: &str) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        [Errno::MFILE, Errno::NFILE].iter().any(|errno| words.contains(&io::Error::from(*errno).to_string()))
    }
    #[cfg(not(unix))]
    {
        let _ = words;
        false
    }
}

/// Looks whether so many files and sockets can be opened: what a runtime, its signals and the first connections need is asked
/// for before there is anything to lose.
///
/// # Errors
/// They can't.
pub fn room_for(count: usize) -> Result<(), Problem> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd as _;
        let stderr = io::stderr();
        let probe: io::Result<Vec<_>> = (0..count).map(|_| stderr.as_fd().try_clone_to_owned()).collect();
        if probe.is_err_and(|error| no_descriptors(&error)) {
            let message = format!("azsreg needs {count} files and sockets at a time, and may not open so many here");
            return Err(Problem::new(&code::TOO_MANY_FILES, message));
        }
    }
    #[cfg(not(unix))]
    let _ = count;
    Ok(())
}

/// That no file or socket can be opened any more.
#[must_use]
pub fn out_of_descriptors(what: &dyn std::fmt::Display) -> Problem {
    Problem::new(&code::TOO_MANY_FILES, format!("{what}: no more files or sockets can be opened"))
}

/// A failure of what azsreg keeps, as an operator sees it: a directory of somebody else's is said to be that.
#[must_use]
pub fn problem(path: &Path, error: &io::Error) -> Problem {
    let message = format!("{}: {error}", path.display());
    if no_descriptors(error) {
        return out_of_descriptors(&path.display());
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => match kept::other_owner(path) {
            Some((at, owner)) => Problem::new(
                &code::OWNED_BY_ANOTHER,
                format!("{message}: {} belongs to {owner}", at.display()),
            )
            .next(format!(
                "Run azsreg as {owner}, or share one state directory by a group: chgrp GROUP DIR; chmod 2770 DIR."
            )),
            None => Problem::new(&code::STATE_UNWRITABLE, message),
        },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Problem::new(&code::STATE_UNWRITABLE, message).next("Make room, then run the same command again.")
        }
        _ => Problem::new(&code::STATE_UNWRITABLE, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_for_want_of_descriptors_is_found_however_deep() {
        // EMFILE, as errno.h numbers it on Linux and macOS.
        let wrapped = io::Error::other(io::Error::other(io::Error::from_raw_os_error(24)));
        assert_eq!(is_without_descriptors(&wrapped), cfg!(unix));
        assert!(!is_without_descriptors(&io::Error::other("broken")));
        let problem = problem(Path::new("x"), &io::Error::from_raw_os_error(if cfg!(unix) { 24 } else { 4 }));
        assert_eq!(problem.code.id, "AZR5018");
        assert!(problem.code.next.contains("ulimit -n"), "{}", problem.code.next);
    }
}
