//! Files that are written whole or not at all: a draft beside the file, under a name of its own that nobody can foresee,
//! made anew and never opened through a link; then it takes the file's name, and the directory is made durable too.

use std::fs::Metadata;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Its owner alone.
    Private,
    /// Its owner, and the group that the directory was made for.
    Kept,
    /// Whoever the process's habit (umask) lets.
    Usual,
}

/// The directory that a file is in.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes a file whole or not at all. What stood there under this name is replaced, be it a link: what a link points to is
/// not touched. A draft that could not be written in full is removed.
///
/// # Errors
/// It can't be written: what was there before is there still.
pub fn write(path: &Path, bytes: &[u8], rights: Rights) -> io::Result<()> {
    let draft = draft(path, bytes, rights)?;
    draft.persist(path).map_err(|error| error.error)?;
    sync_directory(directory_of(path))
}

/// The same, where nothing stands under this name yet: what came in between is not replaced.
///
/// # Errors
/// It can't be written, or the name is taken ([`io::ErrorKind::AlreadyExists`]).
pub fn write_new(path: &Path, bytes: &[u8], rights: Rights) -> io::Result<()> {
    let draft = draft(path, bytes, rights)?;
    match draft.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Err(error.error),
        // A file system (some sticks, some shares) that can't keep a name from being replaced.
        Err(error) if std::fs::symlink_metadata(path).is_err() => {
            error.file.persist(path).map_err(|error| error.error)?;
        }
        Err(error) => return Err(error.error),
    }
    sync_directory(directory_of(path))
}

fn draft(path: &Path, bytes: &[u8], rights: Rights) -> io::Result<tempfile::NamedTempFile> {
    let directory = directory_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".azsreg-").suffix(".new").rand_bytes(12);
    #[cfg(unix)]
    if rights == Rights::Usual {
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    }
    let mut draft = builder.tempfile_in(directory).map_err(plain)?;
    if rights == Rights::Kept {
        super::kept::share(draft.as_file(), directory)?;
    }
    draft.write_all(bytes).and_then(|()| draft.as_file().sync_all()).map_err(plain)?;
    Ok(draft)
}

/// An error without the draft's name, which says nothing to anybody.
fn plain(error: io::Error) -> io::Error {
    let of_system =
        error.get_ref().and_then(|inner| inner.source()).and_then(|inner| inner.downcast_ref::<io::Error>());
    match of_system.and_then(io::Error::raw_os_error).or(error.raw_os_error()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error,
    }
}

/// Makes durable which names a directory has.
///
/// # Errors
/// The disk fails.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
        let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
        match synced {
            // A directory that may be written and not read, and file systems that know no such thing.
            Err(error) if [InvalidInput, PermissionDenied, Unsupported].contains(&error.kind()) => Ok(()),
            synced => synced,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        Ok(())
    }
}

/// What stands under a name, links not followed; none where nothing does.
///
/// # Errors
/// It can't be looked at.
pub fn there(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file can be written under this name, asked without making anything: a stick that is not there, or is read-only.
///
/// # Errors
/// It can't, and why.
pub fn writable(path: &Path) -> io::Result<()> {
    let directory = directory_of(path);
    let found = std::fs::metadata(directory)?;
    if !found.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
    }
    Ok(())
}

/// Whether two names lead to one file, in whatever spelling.
#[must_use]
pub fn same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        id(one).is_some_and(|one| id(other) == Some(one))
    }
    #[cfg(not(unix))]
    {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        real(one).is_some_and(|one| real(other) == Some(one))
    }
}

/// What a link points to, as it stands in the link.
#[must_use]
pub fn target(link: &Path) -> Option<PathBuf> {
    std::fs::read_link(link).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_and_nothing_beside_it_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(dir.path().join("out.new"), "mine").unwrap();
        write(&path, b"one", Rights::Private).unwrap();
        write(&path, b"two", Rights::Private).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read(dir.path().join("out.new")).unwrap(), b"mine");
        assert_eq!(names(dir.path()), ["out", "out.new"]);
        let taken = write_new(&path, b"three", Rights::Private).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["out", "out.new"]);
        assert!(same(&path, &dir.path().join(".").join("out")));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_its_target_is_not_touched() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("out"), dir.path().join("target"));
        std::fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        write(&path, b"one", Rights::Private).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_nothing_behind() {
        // A file system with room for nothing: the limit on the size of files, in a process of its own.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "before").unwrap();
        let test = std::env::current_exe().unwrap();
        let run = std::process::Command::new("sh")
            .args(["-c", "ulimit -f 0; trap '' XFSZ; exec \"$0\" --exact files::output::tests::writes_where_told"])
            .arg(test)
            .env("AZSREG_TEST_OUT", &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && said.contains("FileTooLarge"), "it was written: {said}");
        assert_eq!(names(dir.path()), ["out"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
    }

    #[test]
    fn writes_where_told() {
        // The other half of a_full_disk_leaves_nothing_behind, which sets the variable.
        let Some(path) = std::env::var_os("AZSREG_TEST_OUT") else { return };
        write(Path::new(&path), &[b'x'; 4096], Rights::Private).unwrap();
    }

    #[test]
    fn whether_it_can_be_written_is_asked_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        writable(&dir.path().join("out")).unwrap();
        assert_eq!(names(dir.path()), Vec::<String>::new());
        let missing = writable(&dir.path().join("stick").join("out")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        std::fs::write(dir.path().join("file"), "").unwrap();
        let no_directory = writable(&dir.path().join("file").join("out")).unwrap_err();
        assert_eq!(no_directory.kind(), io::ErrorKind::NotADirectory);
    }
}
