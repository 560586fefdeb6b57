//! The lab's own files: its owner's alone, and whole. What the operating system is asked for is in here.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Makes a directory with all above it, for its owner alone; one that is there stays as it is.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A directory in the system's place for temporary files, for its owner alone: others see that place.
pub(crate) fn temporary_directory(prefix: &str) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
}

/// Writes a file, whole or not at all, for its owner alone. A link of that name is replaced, not followed.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_private_with(path, |draft| draft.write_all(bytes))
}

/// Likewise, with what a function writes.
pub(crate) fn write_private_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    // A name that nobody can guess, made anew, 0600.
    let mut draft = tempfile::Builder::new().prefix(".lab-").tempfile_in(directory)?;
    write(draft.as_file_mut())?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    sync_directory(directory)
}

/// Opens a file of the lab's own, for its owner alone, and follows no link of that name.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    refuse_other(path)?;
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // One that was made before, or carried here, may be open to others.
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(file)
}

/// Refuses what is there under the name and is no file: a link may lead anywhere, and a pipe is read for ever.
pub(crate) fn refuse_other(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file", path.display())))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes names that were made or changed in a directory durable. Only Unix has a call for it.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Whether what failed is that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn what_the_lab_makes_is_its_owners_alone_and_no_link_is_followed() {
        use super::*;
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("a/b");
        private_directory(&made).unwrap();
        assert_eq!((mode(&made), mode(&dir.path().join("a"))), (0o700, 0o700));
        assert_eq!(mode(temporary_directory("azsreg-lab-test-").unwrap().path()), 0o700);
        // Somebody waits with a link to another file.
        let (theirs, ours) = (dir.path().join("theirs"), made.join("secret"));
        std::fs::write(&theirs, "theirs").unwrap();
        symlink(&theirs, &ours).unwrap();
        assert!(open_private(&ours).is_err());
        write_private(&ours, b"ours").unwrap();
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "theirs");
        assert!(std::fs::symlink_metadata(&ours).unwrap().is_file());
        assert_eq!((std::fs::read_to_string(&ours).unwrap().as_str(), mode(&ours)), ("ours", 0o600));
        // One that was open to others is so no more.
        let open = made.join("open");
        std::fs::write(&open, "").unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
        open_private(&open).unwrap();
        assert_eq!(mode(&open), 0o600);
        write_private(&open, b"").unwrap();
        assert_eq!(mode(&open), 0o600);
        assert!(open_private(&made).is_err(), "a directory is no file");
    }
}
