//! Where azsreg keeps things. The one place that knows the platform's conventions.

use std::fs::File;
use std::path::{Path, PathBuf};

use azsreg_model::{Problem, code};
use azsreg_operations::files::{
    self,
    input::{self, Input},
    output,
};
use directories::ProjectDirs;

use crate::cli::Global;

/// The state directory: as given, or the platform's.
pub(crate) fn directory(global: &Global) -> Result<PathBuf, Problem> {
    directory_of(global.state_dir.clone())
}

/// The state directory of what `--state-dir` says.
pub(crate) fn directory_of(given: Option<PathBuf>) -> Result<PathBuf, Problem> {
    if let Some(directory) = given {
        return Ok(directory);
    }
    let dirs = ProjectDirs::from("", "", "azsreg")
        .ok_or_else(|| Problem::new(&code::STATE_UNWRITABLE, "this account has no home directory"))?;
    Ok(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned())
}

/// A file that an option names.
pub(crate) fn read(option: &str, path: &Path, input: Input) -> Result<Vec<u8>, Problem> {
    input::read(path, input)
        .map_err(|error| error.problem(&format!("{option} {}", path.display()), &code::FILE_UNREADABLE))
}

/// Opens the log that `--log-file` names, to be gone on with. What is not a log is not written into: a carried file with a
/// line behind it is none any more. Where the disk has no room for it there is none, which is said.
pub(crate) fn log_file(path: &Path) -> Result<Option<File>, Problem> {
    let refused = |why: &str| {
        Problem::new(&code::FILE_EXISTS, format!("--log-file {}: {why}", path.display()))
            .next("Name a file that is not there, or an earlier log of azsreg.")
    };
    let failed = |error: &std::io::Error| {
        let named = format!("--log-file {}", path.display());
        match files::no_descriptors(error) {
            true => files::out_of_descriptors(&named),
            false => Problem::new(&code::STATE_UNWRITABLE, format!("{named}: {error}")).next(match error.kind() {
                std::io::ErrorKind::NotFound => "Make its directory, or name another: --log-file FILE.",
                _ => "Name a file that can be written: --log-file FILE.",
            }),
        }
    };
    match output::there(path).map_err(|error| failed(&error))? {
        None => {}
        Some(found) if found.is_symlink() => return Err(refused("it is a link, which is not followed")),
        Some(found) if !found.is_file() => return Err(refused("it is not a file")),
        Some(_) => {}
    }
    match files::kept::create_exclusive(path) {
        Err(error) if is_full(&error) => {
            let text = format!("warning: --log-file {}: {error}; the command goes on without a log", path.display());
            crate::door::Line::of(&text).tell();
            return Ok(None);
        }
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(&error)),
        _ => {}
    }
    let file = files::kept::open(File::options().read(true).append(true), path);
    let mut file = file.map_err(|error| failed(&error))?;
    let mut begins = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, 11), &mut begins).map_err(|error| failed(&error))?;
    if begins.is_empty() || is_date(&begins) {
        Ok(Some(file))
    } else {
        Err(refused("it holds something else than a log"))
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Whether a line begins as a log's does: `2026-11-28T`.
fn is_date(text: &[u8]) -> bool {
    let form = b"dddd-dd-ddT";
    text.len() == form.len()
        && text.iter().zip(form).all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_is_gone_on_with_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("azsreg.log");
        let line = b"2026-11-28T00:10:01.123456Z  INFO azsreg: azsreg\n";
        for _ in 0..2 {
            log_file(&path).unwrap().unwrap().write_all(line).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), line.repeat(2));
        let token = dir.path().join("t.json");
        std::fs::write(&token, "{\"azsreg_bundle\":1}\n").unwrap();
        assert_eq!(log_file(&token).unwrap_err().code.id, "AZR5006");
        assert_eq!(log_file(dir.path()).unwrap_err().code.id, "AZR5006");
        assert_eq!(std::fs::read(&token).unwrap(), b"{\"azsreg_bundle\":1}\n");
    }

    #[test]
    fn a_log_in_a_directory_that_is_not_there_is_about_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let problem = log_file(&dir.path().join("missing/azsreg.log")).unwrap_err();
        assert_eq!(problem.then(), "Make its directory, or name another: --log-file FILE.");
        assert!(!problem.code.title.contains("state directory"), "{}", problem.code.title);
    }

    #[cfg(unix)]
    #[test]
    fn a_log_is_not_written_through_a_link_or_into_a_pipe() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (link, target, pipe) = (dir.path().join("link"), dir.path().join("target"), dir.path().join("pipe"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(log_file(&link).unwrap_err().message.contains("link"));
        assert!(!target.exists());
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Without a reader the opening of a pipe would not come back.
        assert!(log_file(&pipe).unwrap_err().message.contains("not a file"));
        log_file(&target).unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
