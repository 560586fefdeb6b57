//! Files that a person names, to be read. What is there is looked at through the open handle before a byte is read: a file
//! has a size, a pipe may stay silent, a device never ends.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use azsreg_model::{Carried, Code, Problem, code};
use thiserror::Error;

/// So long a pipe may stay without a writer or without a byte.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A pipe from which single bytes drip has to end after so many times the patience.
#[cfg(unix)]
const AT_MOST: u32 = 10;

/// What a file is read as. Each kind has its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A password, a client's secret, a refresh token, a licence.
    Secret,
    /// A certificate with its private key.
    Certificate,
    /// Authorities to trust.
    Authorities,
    /// A token, a key or a bundle.
    Carried,
    /// `stamps.json`.
    Stamps,
    /// A table of meters.
    Meters,
    /// A transcript of a stamp's answers.
    Transcript,
    /// A log of the PowerShell module.
    Log,
    /// A manifest, a list of items, an item's description.
    Manifest,
}

impl Input {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Secret,
        Self::Certificate,
        Self::Authorities,
        Self::Carried,
        Self::Stamps,
        Self::Meters,
        Self::Transcript,
        Self::Log,
        Self::Manifest,
    ];

    /// So many bytes are read of it at most.
    #[must_use]
    pub const fn most(self) -> u64 {
        match self {
            Self::Secret | Self::Certificate => 1 << 20,
            Self::Carried => Carried::MAX_BYTES as u64,
            Self::Authorities | Self::Stamps | Self::Meters | Self::Transcript | Self::Manifest => 4 << 20,
            Self::Log => 64 << 20,
        }
    }

    /// What it is called in the table of limits (`docs/guide/README.md`).
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Secret => "a secret (`@FILE`, `-`)",
            Self::Certificate => "`--client-certificate`",
            Self::Authorities => "`--ca-file`",
            Self::Carried => "a carried file: token, key, bundle",
            Self::Stamps => "`stamps.json`",
            Self::Meters => "`--meters`",
            Self::Transcript => "a transcript (`lab compare`)",
            Self::Log => "`explain --from-log`",
            Self::Manifest => "a manifest or description of a marketplace item",
        }
    }
}

/// Why a file that a person named is not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InputError {
    /// It can't be opened or read.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// It is larger than what is read.
    #[error("it is larger than {}, the most that azsreg reads here", Size(*.most))]
    TooLarge {
        /// The most that is read.
        most: u64,
    },
    /// It is neither a file nor a pipe.
    #[error("it is {0}, not a file or a pipe")]
    Kind(&'static str),
    /// It is a pipe, and nothing came.
    #[error("it is a pipe, and {}", match .never { true => format!("nothing wrote to it for {} s", .seconds), false => format!("its end did not come: no byte for {} s", .seconds) })]
    Silent {
        /// So long was waited.
        seconds: u64,
        /// No byte came at all.
        never: bool,
    },
}

impl InputError {
    /// As the operator sees it. `named` is the option and the file, `otherwise` the code where the file just can't be read.
    #[must_use]
    pub fn problem(&self, named: &dyn fmt::Display, otherwise: &'static Code) -> Problem {
        let entry = match self {
            Self::Io(error) if super::no_descriptors(error) => return super::out_of_descriptors(named),
            Self::Io(_) => otherwise,
            Self::TooLarge { .. } => &code::INPUT_TOO_LARGE,
            Self::Kind(_) => &code::INPUT_KIND,
            Self::Silent { .. } => &code::INPUT_SILENT,
        };
        Problem::new(entry, format!("{named}: {self}"))
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl From<io::Error> for InputError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A number of bytes, for a person.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// Reads a file or a pipe. `/dev/stdin` and its other names are standard input.
///
/// # Errors
/// It can't be read, is too large, is of another kind, or stays silent.
pub fn read(path: &Path, input: Input) -> Result<Vec<u8>, InputError> {
    if is_stdin(path) {
        return stdin(input);
    }
    within(path, input.most(), PATIENCE)
}

/// Looks whether a file can be read later: what would be refused is refused now. A pipe is not touched, for its writer would
/// take that for the reading.
///
/// # Errors
/// As [`read`], as far as it can be seen.
pub fn check(path: &Path, input: Input) -> Result<(), InputError> {
    if is_stdin(path) {
        return Ok(());
    }
    let found = std::fs::metadata(path)?;
    if found.is_file() {
        File::open(path)?;
        return if found.len() > input.most() { Err(InputError::TooLarge { most: input.most() }) } else { Ok(()) };
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if found.file_type().is_fifo() {
            rustix::fs::access(path, rustix::fs::Access::READ_OK).map_err(io::Error::from)?;
            return Ok(());
        }
    }
    Err(InputError::Kind(foreign(&found)))
}

/// Reads standard input to its end. A terminal is not hurried: a person types there.
///
/// # Errors
/// As [`read`].
pub fn stdin(input: Input) -> Result<Vec<u8>, InputError> {
    standard(input.most(), PATIENCE)
}

fn is_stdin(path: &Path) -> bool {
    cfg!(unix) && ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].iter().any(|name| path == Path::new(name))
}

/// What is neither a file nor a pipe, by name.
fn foreign(found: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if found.file_type().is_socket() {
            return "a socket";
        }
    }
    if found.is_dir() { "a directory" } else { "a device" }
}

fn whole(file: &mut impl Read, length: u64, most: u64) -> Result<Vec<u8>, InputError> {
    if length > most {
        return Err(InputError::TooLarge { most });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // It may grow while it is read, and what /proc shows has no length.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(InputError::TooLarge { most }) } else { Ok(bytes) }
}

#[cfg(unix)]
fn within(path: &Path, most: u64, patience: Duration) -> Result<Vec<u8>, InputError> {
    use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
    // A pipe without a writer does not hold the opening up, and a terminal does not become the process's own.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    match found.file_type() {
        kind if kind.is_file() => whole(&mut file, found.len(), most),
        kind if kind.is_fifo() => piped(&mut file, most, patience),
        _ => Err(InputError::Kind(foreign(&found))),
    }
}

#[cfg(unix)]
fn standard(most: u64, patience: Duration) -> Result<Vec<u8>, InputError> {
    use std::io::IsTerminal as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileTypeExt as _;
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let found = file.metadata()?;
    match found.file_type() {
        kind if kind.is_file() => whole(&mut file, 0, most),
        kind if kind.is_fifo() || kind.is_socket() => piped(&mut file, most, patience),
        _ if file.is_terminal() => whole(&mut file, 0, most),
        _ => Err(InputError::Kind(foreign(&found))),
    }
}

/// Reads a pipe as bytes come.
#[cfg(unix)]
fn piped(file: &mut File, most: u64, patience: Duration) -> Result<Vec<u8>, InputError> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (begun, mut heard) = (Instant::now(), Instant::now());
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let left = patience.saturating_sub(heard.elapsed()).min((patience * AT_MOST).saturating_sub(begun.elapsed()));
        if left.is_zero() {
            let seconds = if heard.elapsed() >= patience { patience } else { begun.elapsed() }.as_secs();
            return Err(InputError::Silent { seconds, never: bytes.is_empty() });
        }
        let left = Timespec::try_from(left).map_err(|_| io::Error::other("no such time"))?;
        match poll(&mut [PollFd::new(&*file, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        match file.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => {
                heard = Instant::now();
                bytes.extend_from_slice(&piece[..count]);
                if bytes.len() as u64 > most {
                    return Err(InputError::TooLarge { most });
                }
            }
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(unix))]
fn within(path: &Path, most: u64, _patience: Duration) -> Result<Vec<u8>, InputError> {
    let mut file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(InputError::Kind(foreign(&found)));
    }
    whole(&mut file, found.len(), most)
}

#[cfg(not(unix))]
fn standard(most: u64, patience: Duration) -> Result<Vec<u8>, InputError> {
    use std::io::IsTerminal as _;
    if io::stdin().is_terminal() {
        return whole(&mut io::stdin().lock(), 0, most);
    }
    // There is no waiting for standard input with an end: a thread reads, and is left behind where nothing comes.
    let (sender, receiver) = std::sync::mpsc::sync_channel::<io::Result<Vec<u8>>>(1);
    std::thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = io::stdin().lock().read(&mut piece).map(|count| piece[..count].to_vec());
            let last = !matches!(&read, Ok(bytes) if !bytes.is_empty());
            if sender.send(read).is_err() || last {
                return;
            }
        }
    });
    let mut bytes = Vec::new();
    loop {
        match receiver.recv_timeout(patience) {
            Ok(Ok(piece)) if piece.is_empty() => return Ok(bytes),
            Ok(Ok(piece)) => bytes.extend(piece),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(InputError::Silent { seconds: patience.as_secs(), never: bytes.is_empty() }),
        }
        if bytes.len() as u64 > most {
            return Err(InputError::TooLarge { most });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: Result<Vec<u8>, InputError>) -> String {
        match result {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(error) => error.to_string(),
        }
    }

    #[cfg(unix)]
    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn a_file_is_measured_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        // A terabyte without a block: whoever reads it first never comes to an end.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(text(read(&path, Input::Secret)), "it is larger than 1 MiB, the most that azsreg reads here");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(text(read(&path, Input::Secret)), "1048576 bytes");
        assert_eq!(text(read(dir.path(), Input::Secret)), "it is a directory, not a file or a pipe");
        assert!(read(&dir.path().join("none"), Input::Secret).unwrap_err().is_missing());
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_refused() {
        for path in ["/dev/zero", "/dev/null", "/dev/full"] {
            assert_eq!(text(read(Path::new(path), Input::Carried)), "it is a device, not a file or a pipe", "{path}");
        }
    }

    #[cfg(unix)]
    fn fifo(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_without_a_writer_or_a_byte_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path());
        assert!(matches!(within(&path, 10, SHORT), Err(InputError::Silent { never: true, .. })));
        check(&path, Input::Secret).unwrap();
        assert!(matches!(check(dir.path(), Input::Secret), Err(InputError::Kind("a directory"))));
        // A writer that is there and says nothing.
        let silent = File::options().read(true).write(true).open(&path).unwrap();
        assert!(matches!(within(&path, 10, SHORT), Err(InputError::Silent { never: true, .. })));
        // One that stops in the middle.
        io::Write::write_all(&mut &silent, b"half").unwrap();
        assert!(matches!(within(&path, 10, SHORT), Err(InputError::Silent { never: false, .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_to_its_end_and_no_further_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path());
        for (bytes, expected) in
            [(100_000, "100000 bytes"), (100_001, "it is larger than 100000 bytes, the most that azsreg reads here")]
        {
            let writer = {
                let path = path.clone();
                std::thread::spawn(move || {
                    // The reader may go away before all is written.
                    let _ = std::fs::write(path, vec![b'x'; bytes]);
                })
            };
            assert_eq!(text(within(&path, 100_000, PATIENCE)), expected);
            writer.join().unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_descriptor_of_a_pipe_is_read_by_its_name() {
        use std::os::fd::AsRawFd as _;
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"secret").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        assert_eq!(read(Path::new(&path), Input::Secret).unwrap(), b"secret");
    }

    #[test]
    fn the_limits_are_those_of_the_guide() {
        let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/files.md")).unwrap();
        for input in Input::ALL {
            let row = format!("| {} | {} |", input.title(), Size(input.most()));
            assert!(guide.contains(&row), "docs/guide/files.md lacks the row\n{row}");
        }
    }
}
