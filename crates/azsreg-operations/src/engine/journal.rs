//! The journal of an operation: JSON lines, each with the hash of the one before, each synced before the next effect.
//!
//! It is what a run resumes from, what tells later what the world can't (agreement number), and the audit log.
//! A secret never enters it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use azsreg_model::{Problem, Registration, RegistrationId, StepState, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::crash;
use crate::files::{kept, output};

/// A journal may have this many bytes.
const MAX_BYTES: u64 = 16 << 20;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The operation began: the first line.
    Opened {
        /// The operation's name.
        operation: String,
        /// The version of its steps.
        version: u32,
        /// The version of azsreg.
        azsreg: String,
        /// The stamp.
        cloud_id: Uuid,
        /// Who ran it, on which machine.
        who: String,
        /// What was asked for. No secret is in it.
        request: Value,
    },
    /// What was there when the operation began, and what was agreed to: what was recorded holds while this does.
    Seen(Mark),
    /// A step is about to have its effect.
    Started {
        /// The step.
        step: String,
    },
    /// A step is true.
    Succeeded {
        /// The step.
        step: String,
        /// How.
        state: StepState,
        /// The line that the operator saw.
        detail: String,
        /// What later steps need of it.
        output: Value,
        /// Azure's ids of the requests that it took, for a support case.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        requests: Vec<String>,
    },
    /// A step failed for good in this run.
    Failed {
        /// The step.
        step: String,
        /// The code.
        code: String,
        /// The message.
        message: String,
    },
    /// The operation ended.
    Finished {
        /// How.
        outcome: String,
    },
}

/// What one run saw before it changed anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The registrations that it is about, as they were.
    pub registrations: Vec<Marked>,
    /// The registration that the stamp's record named, where the record was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RegistrationId>,
    /// The stamp's newest activation by its own account, where the record was not read: it tells one activation from the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
    /// What would be lost for good, as it was shown, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

impl Mark {
    /// Whether who agreed to this agreed to all that a deactivation takes away now.
    #[must_use]
    pub fn covers(&self, now: &Self) -> bool {
        let same = now.activation.is_none() || now.activation == self.activation;
        same && now.lost.iter().all(|one| self.lost.contains(one))
    }
}

/// A registration as it was when somebody looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// Which.
    pub id: RegistrationId,
    /// Its etag; `None` if it was not there.
    pub etag: Option<String>,
}

impl Marked {
    /// A registration as it is now.
    #[must_use]
    pub fn of(id: &RegistrationId, now: Option<&Registration>) -> Self {
        Self { id: id.clone(), etag: now.map(|now| now.etag.clone().unwrap_or_default()) }
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    at: Timestamp,
    prev: String,
    #[serde(flatten)]
    event: Event,
}

/// Why a journal could not be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("{} can't be used", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// A line does not follow from the one before.
    #[error("line {line} of {} does not follow from the one before", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A line has something that this version does not know.
    #[error("line {line} of {} was written by a newer azsreg", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// It lies among the journals of a stamp that is not its own.
    #[error("{} is the journal of the stamp {of}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The stamp that it is of.
        of: Uuid,
    },
}

impl JournalError {
    /// As the operator sees it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Io { path, source } => state_problem(path, source),
            Self::Damaged { .. } => Problem::new(&code::JOURNAL_DAMAGED, self.to_string()),
            Self::Newer { .. } => Problem::new(&code::JOURNAL_NEWER, self.to_string()),
            Self::Foreign { of, .. } => Problem::new(&code::JOURNAL_FOREIGN, self.to_string())
                .next(format!("Move the file to the directory {of} beside this one, then run the same command again.")),
        }
    }
}

/// A failure of the state directory, as the operator sees it.
pub(crate) fn state_problem(path: &Path, error: &std::io::Error) -> Problem {
    crate::files::problem(path, error)
}

/// Who runs this process, on which machine.
pub(crate) fn who() -> String {
    let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let user = variable(&["USER", "USERNAME", "LOGNAME"]).unwrap_or_else(system_user);
    let machine = variable(&["HOSTNAME", "COMPUTERNAME"]).unwrap_or_else(system_name);
    format!("{user}@{machine}")
}

/// The user's name as the operating system has it, or the number.
#[cfg(unix)]
fn system_user() -> String {
    let id = rustix::process::getuid().as_raw();
    crate::files::kept::user_name(id).unwrap_or_else(|| format!("uid {id}"))
}

/// The machine's name as the operating system has it.
#[cfg(unix)]
fn system_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn system_user() -> String {
    "unknown".into()
}

#[cfg(not(unix))]
fn system_name() -> String {
    "unknown".into()
}

/// The record of one operation.
pub trait Journal {
    /// What was recorded, in order.
    fn events(&self) -> &[Event];
    /// When each of it was recorded.
    fn times(&self) -> &[Timestamp];
    /// Whether all of it could be read.
    fn is_sound(&self) -> bool {
        true
    }
    /// Records; durable when it returns.
    ///
    /// # Errors
    /// It could not be made durable.
    fn append(&mut self, at: Timestamp, event: Event) -> Result<(), JournalError>;
}

/// A journal in memory, for virtual time.
#[derive(Debug, Default, Clone)]
pub struct MemoryJournal {
    events: Vec<Event>,
    times: Vec<Timestamp>,
}

impl Journal for MemoryJournal {
    fn events(&self) -> &[Event] {
        &self.events
    }

    fn times(&self) -> &[Timestamp] {
        &self.times
    }

    fn append(&mut self, at: Timestamp, event: Event) -> Result<(), JournalError> {
        self.events.push(event);
        self.times.push(at);
        Ok(())
    }
}

/// A journal in a file under `<state-dir>/journals/<cloud id>/`.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    /// Open for writing from the first line that this process writes: who only reads can't harm a run that goes on.
    file: Option<File>,
    /// How many bytes are whole lines.
    whole: u64,
    events: Vec<Event>,
    last: String,
    times: Vec<Timestamp>,
    /// How many lines there are, with those that could not be read.
    lines: u64,
    /// What is wrong with it. What can be read is read all the same.
    trouble: Option<JournalError>,
}

/// Where a journal stands among those of its stamp. Journals are ordered by a counter: a clock may be set back. Those of
/// earlier versions have a time in its place, and are older.
fn order(path: &Path) -> (u64, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let counter = name.strip_prefix(COUNTED).and_then(|rest| rest.split_once('-')).and_then(|(n, _)| n.parse().ok());
    (counter.unwrap_or(0), name)
}

/// How names with a counter begin: after those with a time, for versions that sort by name.
const COUNTED: &str = "j";

fn hash(line: &[u8]) -> String {
    Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FileJournal {
    fn directory(state_dir: &Path, cloud_id: Uuid) -> PathBuf {
        state_dir.join("journals").join(cloud_id.to_string())
    }

    /// The journals of a stamp, oldest first.
    ///
    /// # Errors
    /// The directory is there but can't be read.
    pub fn list(state_dir: &Path, cloud_id: Uuid) -> Result<Vec<PathBuf>, JournalError> {
        let directory = Self::directory(state_dir, cloud_id);
        let io = |source| JournalError::Io { path: directory.clone(), source };
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error)),
        };
        let mut paths = entries.map(|entry| entry.map(|e| e.path()).map_err(io)).collect::<Result<Vec<_>, _>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        paths.sort_by_key(|path| order(path));
        Ok(paths)
    }

    /// The stamps that there are journals of, by cloud id.
    ///
    /// # Errors
    /// The directory is there but can't be read.
    pub fn stamps(state_dir: &Path) -> Result<Vec<Uuid>, JournalError> {
        let path = state_dir.join("journals");
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(JournalError::Io { path, source }),
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// The newest journal of a stamp: its operation, when that began, and whether it has ended. Only its name and its last line
    /// are looked at.
    #[must_use]
    pub fn newest(state_dir: &Path, cloud_id: Uuid) -> Option<(String, Timestamp, bool)> {
        let journals = Self::list(state_dir, cloud_id).ok()?;
        let newest = journals.last()?;
        let name = newest.file_stem()?.to_str()?;
        let name = name.strip_prefix(COUNTED).and_then(|rest| rest.split_once('-')).map_or(name, |(_, rest)| rest);
        let (at, operation) = name.split_once('-')?;
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", at.get(..15)?).ok()?;
        let text = tail(newest).unwrap_or_default();
        let last = text.lines().last().and_then(|line| serde_json::from_str::<Line>(line).ok());
        let ended = last.is_some_and(|line| matches!(line.event, Event::Finished { .. }));
        Some((operation.to_owned(), at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(), ended))
    }

    /// Takes a stamp's journals away from those that are read, and says where they are from now on; none where there are none.
    ///
    /// # Errors
    /// They can't be moved.
    pub fn archive(state_dir: &Path, cloud_id: Uuid, now: Timestamp) -> Result<Option<PathBuf>, JournalError> {
        let directory = Self::directory(state_dir, cloud_id);
        let archive = state_dir.join("forgotten");
        let to = archive.join(format!("{cloud_id}-{}", now.strftime("%Y%m%dT%H%M%SZ")));
        let moved = kept::make_directory(&archive).and_then(|()| std::fs::rename(&directory, &to));
        match moved {
            Ok(()) => Ok(Some(to)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(JournalError::Io { path: directory, source }),
        }
    }

    /// Begins a journal.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn create(state_dir: &Path, cloud_id: Uuid, operation: &str, now: Timestamp) -> Result<Self, JournalError> {
        let directory = Self::directory(state_dir, cloud_id);
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        // In a directory that a group shares they are the group's.
        kept::make_directory(&directory).map_err(io(&directory))?;
        let next = Self::list(state_dir, cloud_id)?.last().map_or(0, |newest| order(newest).0) + 1;
        let stamp = now.strftime("%Y%m%dT%H%M%S%6fZ");
        let path = directory.join(format!("{COUNTED}{next:08}-{stamp}-{operation}.jsonl"));
        let file = kept::create_exclusive(&path).map_err(io(&path))?;
        // The name itself has to survive a power failure too.
        output::sync_directory(&directory).map_err(io(&directory))?;
        Ok(Self {
            path,
            file: Some(file),
            whole: 0,
            events: Vec::new(),
            last: String::new(),
            times: Vec::new(),
            lines: 0,
            trouble: None,
        })
    }

    /// Reads a journal of a stamp and checks that each line follows from the one before. A last line that was cut off in the
    /// middle of being written is left out: its effect had not begun. What is wrong is in [`Self::trouble`]; what can be read is
    /// read all the same. The file is not changed before something is recorded.
    ///
    /// # Errors
    /// The file can't be read at all.
    pub fn read(path: &Path, cloud_id: Uuid) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        kept::open(File::options().read(true), path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(io)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io(std::io::Error::other(format!("larger than {MAX_BYTES} bytes"))));
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut journal = Self {
            path: path.to_owned(),
            file: None,
            whole: whole as u64,
            events: Vec::new(),
            last: String::new(),
            times: Vec::new(),
            lines: 0,
            trouble: None,
        };
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if let Err(error) = journal.take(line) {
                journal.trouble.get_or_insert(error);
            }
            journal.last = hash(line);
            journal.lines += 1;
        }
        if let Some(Event::Opened { cloud_id: of, .. }) = journal.events.first()
            && *of != cloud_id
        {
            journal.trouble = Some(JournalError::Foreign { path: path.to_owned(), of: *of });
        }
        Ok(journal)
    }

    /// Takes a line. One that says something is taken even where it does not follow from the one before.
    fn take(&mut self, line: &[u8]) -> Result<(), JournalError> {
        let at = self.lines + 1;
        let damaged = || JournalError::Damaged { path: self.path.clone(), line: at };
        let value: Value = serde_json::from_slice(line).map_err(|_| damaged())?;
        let follows = value["n"] == self.lines && value["prev"] == self.last;
        let Ok(read) = serde_json::from_value::<Line>(value) else {
            // Whole, and yet not to be understood.
            return Err(if follows { JournalError::Newer { path: self.path.clone(), line: at } } else { damaged() });
        };
        let outcome = if follows { Ok(()) } else { Err(damaged()) };
        self.times.push(read.at);
        self.events.push(read.event);
        outcome
    }

    /// What is wrong with it.
    #[must_use]
    pub fn trouble(&self) -> Option<&JournalError> {
        self.trouble.as_ref()
    }

    /// Keeps a copy beside a journal that is damaged, once: whoever mends it by hand has what was there.
    pub(crate) fn keep_copy(&self) {
        let copy = self.path.with_extension("jsonl.damaged");
        if !copy.exists()
            && let Err(error) = std::fs::copy(&self.path, &copy)
        {
            tracing::warn!(%error, copy = %copy.display(), "no copy of the damaged journal could be kept");
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Journal for FileJournal {
    fn events(&self) -> &[Event] {
        &self.events
    }

    fn times(&self) -> &[Timestamp] {
        &self.times
    }

    fn is_sound(&self) -> bool {
        self.trouble.is_none()
    }

    fn append(&mut self, at: Timestamp, event: Event) -> Result<(), JournalError> {
        let event = without_secrets(event);
        let line = Line { n: self.lines, at, prev: self.last.clone(), event };
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let text = serde_json::to_string(&line).map_err(|e| io(std::io::Error::other(e)))?;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = kept::open(File::options().write(true), &self.path).map_err(io)?;
                // What was cut off goes, so that the next line follows the last whole one.
                file.set_len(self.whole).and_then(|()| file.seek(std::io::SeekFrom::End(0))).map_err(io)?;
                none.insert(file)
            }
        };
        let written = format!("{text}\n");
        file.write_all(written.as_bytes()).and_then(|()| file.sync_data()).map_err(io)?;
        self.whole += written.len() as u64;
        self.last = hash(text.as_bytes());
        self.lines += 1;
        self.times.push(at);
        self.events.push(line.event);
        crash::point("journal");
        Ok(())
    }
}

/// The words of an event may be a server's, and a server may quote what it was sent.
fn without_secrets(mut event: Event) -> Event {
    if let Event::Failed { message: text, .. } | Event::Succeeded { detail: text, .. } = &mut event
        && let std::borrow::Cow::Owned(shown) = azsreg_model::redact::redacted(text)
    {
        *text = shown;
    }
    event
}

/// Whether the operation of a journal ended.
#[must_use]
pub fn is_ended(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Finished { .. }))
}

/// The end of a file: more than the line that says how an operation ended.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The output of a step that ended well, the newest.
#[must_use]
pub fn succeeded<'e>(events: &'e [Event], step: &str) -> Option<&'e Value> {
    events.iter().rev().find_map(|event| match event {
        Event::Succeeded { step: name, output, .. } if name == step => Some(output),
        _ => None,
    })
}

/// What a journal's first line asked for.
#[must_use]
pub fn request_of(events: &[Event]) -> Option<&Value> {
    match events.first() {
        Some(Event::Opened { request, .. }) => Some(request),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Event {
        Event::Opened {
            operation: "register".into(),
            version: 1,
            azsreg: "0".into(),
            cloud_id: Uuid::nil(),
            who: "a@b".into(),
            request: Value::Null,
        }
    }

    #[test]
    fn what_was_written_is_read_and_a_torn_end_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", now).unwrap();
        journal.append(now, opened()).unwrap();
        journal.append(now, Event::Started { step: "lock".into() }).unwrap();
        let path = journal.path().to_owned();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"n\":2,\"at\":\"1970-").unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        let mut again = FileJournal::read(&path, Uuid::nil()).unwrap();
        // A reader beside the run that writes changes nothing.
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
        assert_eq!(again.events(), journal.events());
        again.append(now, Event::Finished { outcome: "verified".into() }).unwrap();
        let whole = FileJournal::read(&path, Uuid::nil()).unwrap();
        assert!(whole.events().len() == 3 && whole.is_sound());
    }

    #[test]
    fn a_changed_line_is_noticed_and_what_can_be_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", now).unwrap();
        journal.append(now, opened()).unwrap();
        journal.append(now, Event::Started { step: "lock".into() }).unwrap();
        journal.append(now, Event::Started { step: "role".into() }).unwrap();
        let text = std::fs::read_to_string(journal.path()).unwrap();
        std::fs::write(journal.path(), text.replacen("a@b", "c@d", 1)).unwrap();
        let read = FileJournal::read(journal.path(), Uuid::nil()).unwrap();
        let error = read.trouble().unwrap();
        assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
        assert_eq!(error.problem().code.id, "AZR5002");
        assert_eq!(read.events().len(), 3);
        // A line that is no line is skipped.
        std::fs::write(journal.path(), text.replacen("\"event\"", "\"ev", 1)).unwrap();
        let read = FileJournal::read(journal.path(), Uuid::nil()).unwrap();
        assert!(matches!(read.trouble(), Some(JournalError::Damaged { line: 1, .. })));
        assert_eq!(read.events().len(), 2);
    }

    #[test]
    fn what_a_newer_version_wrote_is_not_a_failing_disk() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", now).unwrap();
        journal.append(now, opened()).unwrap();
        let first = std::fs::read_to_string(journal.path()).unwrap();
        let prev = hash(first.trim_end().as_bytes());
        let line = format!("{{\"n\":1,\"at\":\"1970-01-01T00:00:00Z\",\"prev\":\"{prev}\",\"event\":\"pondered\"}}\n");
        std::fs::write(journal.path(), format!("{first}{line}")).unwrap();
        let read = FileJournal::read(journal.path(), Uuid::nil()).unwrap();
        assert!(matches!(read.trouble(), Some(JournalError::Newer { line: 2, .. })), "{:?}", read.trouble());
        assert_eq!(read.trouble().unwrap().problem().code.id, "AZR5020");
    }

    #[test]
    fn the_journal_of_another_stamp_is_known_by_its_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", now).unwrap();
        journal.append(now, opened()).unwrap();
        let read = FileJournal::read(journal.path(), Uuid::from_u128(7)).unwrap();
        assert!(matches!(read.trouble(), Some(JournalError::Foreign { of, .. }) if of.is_nil()));
    }

    #[test]
    fn journals_are_in_the_order_of_their_making_though_the_clock_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        // As earlier versions named them.
        let old = FileJournal::directory(dir.path(), Uuid::nil());
        std::fs::create_dir_all(&old).unwrap();
        std::fs::write(old.join("20270101T000000000000Z-adopt.jsonl"), "").unwrap();
        for (n, operation) in ["register", "unregister", "renew"].into_iter().enumerate() {
            let back = Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_hours(24 * n as i64);
            let mut journal = FileJournal::create(dir.path(), Uuid::nil(), operation, back).unwrap();
            journal.append(back, opened()).unwrap();
        }
        let names: Vec<String> = FileJournal::list(dir.path(), Uuid::nil())
            .unwrap()
            .iter()
            .map(|path| path.file_stem().unwrap().to_string_lossy().rsplit_once('-').unwrap().1.to_owned())
            .collect();
        assert_eq!(names, ["adopt", "register", "unregister", "renew"]);
        assert_eq!(FileJournal::newest(dir.path(), Uuid::nil()).unwrap().0, "renew");
    }

    #[test]
    fn what_a_server_quotes_of_a_secret_is_not_recorded() {
        let secret = "canary-of-the-journal-0123456789";
        azsreg_model::redact::remember(secret);
        let dir = tempfile::tempdir().unwrap();
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", Timestamp::UNIX_EPOCH).unwrap();
        let words = format!("the stamp says {secret}");
        let output = serde_json::json!({ "name": "kept" });
        journal.append(Timestamp::UNIX_EPOCH, opened()).unwrap();
        let step = "activation".to_owned();
        let succeeded = Event::Succeeded {
            step: step.clone(),
            state: StepState::Done,
            detail: words.clone(),
            output: output.clone(),
            requests: Vec::new(),
        };
        journal.append(Timestamp::UNIX_EPOCH, succeeded).unwrap();
        let failed = Event::Failed { step, code: "AZR2011".into(), message: words };
        journal.append(Timestamp::UNIX_EPOCH, failed).unwrap();
        let text = std::fs::read_to_string(journal.path()).unwrap();
        assert!(!text.contains("0123456789") && text.matches("the stamp says [redacted]").count() == 2, "{text}");
        // It is as good a journal as any, and says the same in this process.
        let read = FileJournal::read(journal.path(), Uuid::nil()).unwrap();
        assert_eq!(read.events(), journal.events());
        assert!(matches!(&read.events()[1], Event::Succeeded { output: kept, .. } if *kept == output));
    }
}
