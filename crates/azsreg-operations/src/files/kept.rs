//! What azsreg keeps: directories of 0700 and files of 0600, its owner's alone. A directory that an administrator has made
//! for a group (set-group-ID, such as `chmod 2770`) hands its group's rights on to what is made in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::output::{directory_of, there, writable};

/// Makes a directory and what lacks above it. One that is there stays as it is.
///
/// # Errors
/// It can't be made.
pub fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = directory_of(path);
    if parent != path {
        make_directory(parent)?;
    }
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Ok(()) => {
            #[cfg(unix)]
            if let Some(group) = unix::group(parent) {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = 0o2700 | (group.mode & 0o070);
                let made = File::open(path)?;
                // Where it is of the group already, that is what set-group-ID does.
                let _ = std::os::unix::fs::fchown(&made, None, Some(group.id));
                made.set_permissions(std::fs::Permissions::from_mode(mode))?;
            }
            Ok(())
        }
        // Somebody else was quicker.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Looks whether a directory of ours can be written, or made where it is not there. Makes nothing.
///
/// # Errors
/// It can't, and why.
pub fn usable(directory: &Path) -> io::Result<()> {
    let directory = std::path::absolute(directory)?;
    for at in directory.ancestors() {
        if there(at)?.is_some() {
            writable(&at.join("new"))?;
            break;
        }
    }
    for inner in ["locks", "journals", "sign-in"].map(|name| directory.join(name)) {
        if inner.is_dir() {
            writable(&inner.join("new"))?;
        }
    }
    Ok(())
}

/// Makes a file anew, to be written and read. Nothing of this name may be there, not even a link.
///
/// # Errors
/// It can't be made, or is there.
pub fn create_exclusive(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create_new(true).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    share(&file, directory_of(path))?;
    Ok(file)
}

/// Opens a file to be locked, and makes it where it is not there. Who may only read it may hold the lock all the same.
///
/// # Errors
/// It can't be opened, or is a link.
pub fn open_lock(path: &Path) -> io::Result<File> {
    match create_exclusive(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // Who may not make files in a directory may be let open them.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => {}
        made => return made,
    }
    match open(File::options().write(true), path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(File::options().read(true), path),
        opened => opened,
    }
}

/// Opens a file of ours as the options say; not through a link, and only if it is a file.
///
/// # Errors
/// It can't be opened, is a link or no file.
pub fn open(options: &mut std::fs::OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, i32::try_from(flags.bits()).unwrap_or_default());
    }
    let file = options.open(path).map_err(|error| {
        let link = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink());
        if link { io::Error::other("it is a link, which is not followed") } else { error }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

/// Gives a file that was made in a group's directory that group's rights.
pub(super) fn share(file: &File, directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(group) = unix::group(directory) {
        use std::os::unix::fs::PermissionsExt as _;
        let _ = std::os::unix::fs::fchown(file, None, Some(group.id));
        file.set_permissions(std::fs::Permissions::from_mode(0o600 | (group.mode & 0o060)))?;
    }
    #[cfg(not(unix))]
    let _ = (file, directory);
    Ok(())
}

/// Whose a file or directory is, where it is neither this process's nor can be looked at: the lowest one on the way to it
/// that can be seen, and its owner's name.
#[must_use]
pub fn other_owner(path: &Path) -> Option<(PathBuf, String)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let path = std::path::absolute(path).ok()?;
        let (at, found) = path.ancestors().find_map(|at| Some((at, std::fs::symlink_metadata(at).ok()?)))?;
        let other = found.uid() != rustix::process::geteuid().as_raw();
        let named = || user_name(found.uid()).unwrap_or_else(|| format!("the user with the number {}", found.uid()));
        other.then(|| (at.to_owned(), named()))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(unix)]
pub(crate) use unix::user_name;

#[cfg(unix)]
mod unix {
    use std::path::Path;

    /// The group that a directory was made for.
    pub(super) struct Group {
        pub(super) id: u32,
        pub(super) mode: u32,
    }

    pub(super) fn group(directory: &Path) -> Option<Group> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(directory).ok()?;
        // Set-group-ID is what an administrator sets on purpose: a habit of 002 alone shares nothing.
        let shared = found.mode() & 0o2000 != 0 && found.mode() & 0o070 != 0;
        shared.then(|| Group { id: found.gid(), mode: found.mode() })
    }

    /// A user's name: of this machine's list, or of the directory that the machine is joined to.
    pub(crate) fn user_name(id: u32) -> Option<String> {
        let of = |line: &str| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            (parts.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
        };
        let listed = std::fs::read_to_string("/etc/passwd").ok().and_then(|text| text.lines().find_map(of));
        let asked = || {
            let answer = std::process::Command::new("getent").args(["passwd", &id.to_string()]).output().ok()?;
            String::from_utf8(answer.stdout).ok()?.lines().find_map(of)
        };
        listed.or_else(asked)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_kept_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (state, lock) = (dir.path().join("state"), dir.path().join("state/locks/a.lock"));
        make_directory(lock.parent().unwrap()).unwrap();
        open_lock(&lock).unwrap();
        create_exclusive(&state.join("journal")).unwrap();
        assert_eq!([mode(&state), mode(&state.join("locks"))], [0o700; 2]);
        assert_eq!([mode(&lock), mode(&state.join("journal"))], [0o600; 2]);
    }

    #[test]
    fn a_groups_directory_hands_its_rights_on() {
        let dir = tempfile::tempdir().unwrap();
        for (given, directory, file) in [(0o2770, 0o2770, 0o660), (0o2750, 0o2750, 0o640), (0o775, 0o700, 0o600)] {
            let state = dir.path().join(format!("{given:o}"));
            std::fs::create_dir(&state).unwrap();
            std::fs::set_permissions(&state, std::fs::Permissions::from_mode(given)).unwrap();
            let lock = state.join("locks/a.lock");
            make_directory(lock.parent().unwrap()).unwrap();
            open_lock(&lock).unwrap();
            super::super::output::write(&state.join("locks/a.holder"), b"x", super::super::output::Rights::Kept)
                .unwrap();
            assert_eq!(mode(&state), given, "what was there stays as it is");
            assert_eq!(mode(&state.join("locks")), directory, "{given:o}");
            assert_eq!([mode(&lock), mode(&state.join("locks/a.holder"))], [file; 2], "{given:o}");
        }
    }

    #[test]
    fn a_lock_is_not_opened_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, target) = (dir.path().join("a.lock"), dir.path().join("target"));
        symlink(&target, &lock).unwrap();
        assert!(open_lock(&lock).unwrap_err().to_string().contains("link"));
        assert!(!target.exists());
    }
}
