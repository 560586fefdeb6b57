//! Where azsreg keeps things. The one place that knows the platform's conventions.

use std::path::PathBuf;

use azsreg_model::{Problem, code};
use directories::ProjectDirs;

use crate::cli::Global;

/// The state directory: as given, or the platform's.
pub(crate) fn directory(global: &Global) -> Result<PathBuf, Problem> {
    directory_of(global.state_dir.clone())
}

/// Likewise, of what `--state-dir` says.
pub(crate) fn directory_of(given: Option<PathBuf>) -> Result<PathBuf, Problem> {
    if let Some(directory) = given {
        return Ok(directory);
    }
    let dirs = ProjectDirs::from("", "", "azsreg")
        .ok_or_else(|| Problem::new(&code::STATE_UNWRITABLE, "this account has no home directory"))?;
    Ok(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned())
}

/// Files that only their owner may read.
pub(crate) trait Private {
    /// A file that is made is its owner's alone.
    fn private(&mut self) -> &mut Self;
}

impl Private for std::fs::OpenOptions {
    fn private(&mut self) -> &mut Self {
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(self, 0o600);
        self
    }
}

/// A file that an option names.
pub(crate) fn read(option: &str, path: &std::path::Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path)
        .map_err(|error| Problem::new(&code::FILE_UNREADABLE, format!("{option} {}: {error}", path.display())))
}
