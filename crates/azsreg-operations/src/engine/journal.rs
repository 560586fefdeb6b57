//! The journal of an operation: JSON lines, each with the hash of the one before, each synced before the next effect.
//!
//! It is what a run resumes from, what tells later what the world can't (agreement number), and the audit log.
//! A secret never enters it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use azsreg_model::{Known, Problem, StepState, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::crash;

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
}

impl JournalError {
    /// As the operator sees it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Io { path, source } => state_problem(path, source),
            Self::Damaged { .. } => Problem::new(&code::JOURNAL_DAMAGED, self.to_string()),
        }
    }
}

/// A failure of the state directory, as the operator sees it.
pub(crate) fn state_problem(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(&code::STATE_UNWRITABLE, format!("{}: {error}", path.display()))
}

/// Who runs this process, on which machine.
pub(crate) fn who() -> String {
    let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let user = variable(&["USER", "USERNAME", "LOGNAME"]).unwrap_or_else(|| "unknown".into());
    let machine = variable(&["HOSTNAME", "COMPUTERNAME"])
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned()))
        .unwrap_or_else(|| "unknown".into());
    format!("{user}@{machine}")
}

/// The record of one operation.
pub trait Journal {
    /// What was recorded, in order.
    fn events(&self) -> &[Event];
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
}

impl Journal for MemoryJournal {
    fn events(&self) -> &[Event] {
        &self.events
    }

    fn append(&mut self, _at: Timestamp, event: Event) -> Result<(), JournalError> {
        self.events.push(event);
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
}

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
        paths.sort();
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
        let (at, operation) = newest.file_stem()?.to_str()?.split_once('-')?;
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", at.get(..15)?).ok()?;
        let text = tail(newest).unwrap_or_default();
        let last = text.lines().last().and_then(|line| serde_json::from_str::<Line>(line).ok());
        let ended = last.is_some_and(|line| matches!(line.event, Event::Finished { .. }));
        Some((operation.to_owned(), at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(), ended))
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
        std::fs::create_dir_all(&directory).map_err(io(&directory))?;
        let stamp = now.strftime("%Y%m%dT%H%M%S%6fZ");
        let path = directory.join(format!("{stamp}-{operation}.jsonl"));
        let mut options = File::options();
        options.create_new(true).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(io(&path))?;
        // The name itself has to survive a power failure too.
        #[cfg(unix)]
        File::open(&directory).and_then(|d| d.sync_all()).map_err(io(&directory))?;
        Ok(Self { path, file: Some(file), whole: 0, events: Vec::new(), last: String::new(), times: Vec::new() })
    }

    /// Opens a journal and checks that each line follows from the one before. A last line that was cut off in the middle
    /// of being written is left out: its effect had not begun. The file is not changed before something is recorded.
    ///
    /// # Errors
    /// The file can't be read, or was changed.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(io)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io(std::io::Error::other(format!("larger than {MAX_BYTES} bytes"))));
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (mut events, mut last, mut times) = (Vec::new(), String::new(), Vec::new());
        for (n, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let n = n as u64;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let damaged = || JournalError::Damaged { path: path.to_owned(), line: n + 1 };
            let read: Line = serde_json::from_slice(line).map_err(|_| damaged())?;
            if read.n != n || read.prev != last {
                return Err(damaged());
            }
            last = hash(line);
            times.push(read.at);
            events.push(read.event);
        }
        Ok(Self { path: path.to_owned(), file: None, whole: whole as u64, events, last, times })
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

    fn append(&mut self, at: Timestamp, event: Event) -> Result<(), JournalError> {
        let event = without_secrets(event);
        let line = Line { n: self.events.len() as u64, at, prev: self.last.clone(), event };
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let text = serde_json::to_string(&line).map_err(|e| io(std::io::Error::other(e)))?;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = File::options().write(true).open(&self.path).map_err(io)?;
                // What was cut off goes, so that the next line follows the last whole one.
                file.set_len(self.whole).and_then(|()| file.seek(std::io::SeekFrom::End(0))).map_err(io)?;
                none.insert(file)
            }
        };
        let written = format!("{text}\n");
        file.write_all(written.as_bytes()).and_then(|()| file.sync_data()).map_err(io)?;
        self.whole += written.len() as u64;
        self.last = hash(text.as_bytes());
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

/// What earlier runs on this stamp left, whatever the operation.
#[derive(Debug, Default)]
pub struct History {
    /// All journals that ended, oldest first.
    pub ended: Vec<Vec<Event>>,
    /// The newest run, if it did not end.
    pub open: Option<FileJournal>,
    /// Whether a run began to write and none has written since.
    unsettled: bool,
    /// Everything that was recorded, oldest first, for what the world does not tell.
    all: Vec<Vec<Event>>,
}

impl History {
    /// Reads the journals of a stamp. Only the newest run can be resumed: a later one made it stale.
    ///
    /// # Errors
    /// A journal can't be read or was changed.
    pub fn read(state_dir: &Path, cloud_id: Uuid) -> Result<Self, JournalError> {
        let mut history = Self::default();
        for path in FileJournal::list(state_dir, cloud_id)? {
            let journal = FileJournal::open(&path)?;
            history.all.push(journal.events.clone());
            history.unsettled = match is_ended(&journal.events) {
                true => history.unsettled && !writing(&journal.events),
                false => history.unsettled || writing(&journal.events),
            };
            if is_ended(&journal.events) {
                history.ended.push(journal.events);
                history.open = None;
            } else {
                history.open = Some(journal);
            }
        }
        Ok(history)
    }

    /// What the journals know and the world does not tell.
    #[must_use]
    pub fn known(&self) -> Known {
        known(&self.all)
    }

    /// The open journal, if it is of this request; and what `Past` it makes.
    #[must_use]
    pub fn past(self, operation: &str, version: u32, request: &Value) -> (Past, Option<FileJournal>) {
        let open = self.open.as_ref().map(|journal| journal.events.as_slice());
        let mut past = Past::of(&self.ended, open, operation, version, request);
        if self.unsettled && past.open.is_empty() {
            past.suspect = true;
            past.finished = false;
            past.activated = false;
        }
        let journal = self.open.filter(|_| !past.open.is_empty());
        (past, journal)
    }
}

/// What earlier runs tell a run of one request.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The newest run of any operation, if it ended and asked for the same.
    pub finished: bool,
    /// Whether that run saw the stamp activated.
    pub activated: bool,
    /// The events of the run that this one goes on from.
    pub open: Vec<Event>,
    /// Whether something else was begun and did not end: what it left is not to be trusted.
    pub suspect: bool,
}

impl Past {
    /// Puts it together from the journals that ended, oldest first, and the one that did not.
    #[must_use]
    pub fn of(ended: &[Vec<Event>], open: Option<&[Event]>, operation: &str, version: u32, request: &Value) -> Self {
        let same = |events: &[Event]| request_of(events) == Some(request);
        let resumed = open.filter(|events| {
            same(events)
                && matches!(events.first(), Some(Event::Opened { operation: name, version: of, .. }) if name == operation && *of == version)
        });
        let finished = ended.last().is_some_and(|events| same(events));
        let suspect = open.is_some_and(|events| resumed.is_none() && began(events));
        let activated = finished && ended.last().is_some_and(|events| succeeded(events, "activation").is_some());
        Self {
            finished: finished && !suspect,
            activated: activated && !suspect,
            open: resumed.map(<[Event]>::to_vec).unwrap_or_default(),
            suspect,
        }
    }

    /// Whether the run that this one goes on from has ended this step well.
    #[must_use]
    pub fn has(&self, step: &str) -> bool {
        self.output(step).is_some()
    }

    /// What that step gave.
    #[must_use]
    pub fn output(&self, step: &str) -> Option<&Value> {
        succeeded(&self.open, step)
    }

    /// The steps that the run which this one goes on from has ended well.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let steps = self.open.iter().filter_map(|event| match event {
            Event::Succeeded { step, .. } => Some(step.clone()),
            _ => None,
        });
        steps.collect()
    }
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

/// Whether a step of it began.
fn began(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Started { .. }))
}

/// Whether a run has begun to change what the stamp and the registration agree on.
fn writing(events: &[Event]) -> bool {
    let of = |step: &str| ["key-pair", "token", "registration", "removal"].contains(&step);
    events.iter().any(|event| matches!(event, Event::Started { step } if of(step)))
}

/// Whether a run that ended has removed the registration.
fn removed(events: &[Event]) -> bool {
    let unregister = |event: &Event| matches!(event, Event::Opened { operation, .. } if operation == "unregister");
    is_ended(events) && events.first().is_some_and(unregister) && succeeded(events, "removal").is_some()
}

/// The output of a step that ended well, the newest.
#[must_use]
pub fn succeeded<'e>(events: &'e [Event], step: &str) -> Option<&'e Value> {
    events.iter().rev().find_map(|event| match event {
        Event::Succeeded { step: name, output, .. } if name == step => Some(output),
        _ => None,
    })
}

/// What journals know of a stamp's registration and the world does not tell: the newest that wrote one.
#[must_use]
pub fn known(journals: &[Vec<Event>]) -> Known {
    let mut known = Known::default();
    for events in journals {
        // The visits at a disconnected stamp keep the details inside their own request.
        let request = request_of(events).map(|request| request.get("details").unwrap_or(request));
        if let Some(details) = request.and_then(|request| serde_json::from_value(request.clone()).ok()) {
            // Asked for is enough to know the numbers: what was not written is written by the resumed run.
            known.details = Some(details);
        }
        let number = |output: &Value| output["hosts"].as_u64().and_then(|n| usize::try_from(n).ok());
        known.hosts = succeeded(events, "token").and_then(number).or(known.hosts);
        if let Some(output) = succeeded(events, "registration") {
            let text = |name: &str| output[name].as_str().map(str::to_owned);
            known.hosts = number(output).or(known.hosts);
            known.tenant = text("tenant").or(known.tenant);
            known.registration = text("id").and_then(|id| id.parse().ok()).or(known.registration);
        }
        if let Some(id) = succeeded(events, "move").and_then(|output| output["id"].as_str()) {
            known.registration = id.parse().ok().or(known.registration);
        }
        if removed(events) {
            known.registration = None;
        }
    }
    known
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
        let mut again = FileJournal::open(&path).unwrap();
        // A reader beside the run that writes changes nothing.
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
        assert_eq!(again.events(), journal.events());
        again.append(now, Event::Finished { outcome: "verified".into() }).unwrap();
        assert_eq!(FileJournal::open(&path).unwrap().events().len(), 3);
        let history = History::read(dir.path(), Uuid::nil()).unwrap();
        assert!(history.open.is_none() && history.ended.len() == 1);
    }

    #[test]
    fn a_changed_line_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", now).unwrap();
        journal.append(now, opened()).unwrap();
        journal.append(now, Event::Started { step: "lock".into() }).unwrap();
        let text = std::fs::read_to_string(journal.path()).unwrap();
        std::fs::write(journal.path(), text.replacen("a@b", "c@d", 1)).unwrap();
        let error = FileJournal::open(journal.path()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
        assert_eq!(error.problem().code.id, "AZR5002");
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
        let read = FileJournal::open(journal.path()).unwrap();
        assert_eq!(read.events(), journal.events());
        assert!(matches!(&read.events()[1], Event::Succeeded { output: kept, .. } if *kept == output));
    }
}
