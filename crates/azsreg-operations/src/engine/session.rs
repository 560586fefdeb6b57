//! One run of one operation: the lock from the first look on, what earlier runs left, the question and the second look.

use std::path::PathBuf;

use azsreg_model::{Problem, Remembered, code};
use jiff::Timestamp;
use uuid::Uuid;

use super::history::{History, OnDamage};
use super::journal::{FileJournal, Journal, JournalError, Mark};
use super::lock::StampLock;
use super::{Failure, Watch};
use crate::ports::Clock;

/// Where journals and locks are kept: files, or memory in virtual time.
pub trait Books {
    /// A journal.
    type Journal: Journal;
    /// A lock that is held.
    type Held;
    /// Takes the lock on a stamp.
    ///
    /// # Errors
    /// Somebody else has it.
    fn hold(&self, cloud_id: Uuid, operation: &str, now: Timestamp) -> Result<Self::Held, Problem>;
    /// Who has the lock on a stamp.
    fn holder(&self, cloud_id: Uuid) -> Option<String>;
    /// What earlier runs left.
    ///
    /// # Errors
    /// It can't be read.
    fn history(&self, cloud_id: Uuid) -> Result<History<Self::Journal>, Problem>;
    /// The stamps that there are journals of.
    fn stamps(&self) -> Vec<Uuid> {
        Vec::new()
    }
    /// Begins a journal.
    ///
    /// # Errors
    /// It can't be made.
    fn begin(&self, cloud_id: Uuid, operation: &str, now: Timestamp) -> Result<Self::Journal, JournalError>;
}

/// Journals and locks under a state directory.
#[derive(Debug, Clone)]
pub struct FileBooks {
    /// The directory.
    pub directory: PathBuf,
    /// What to do about a damaged journal.
    pub on_damage: OnDamage,
}

impl FileBooks {
    /// Those of another kind of operation, in a directory of their own.
    #[must_use]
    pub fn within(&self, directory: &str) -> Self {
        Self { directory: self.directory.join(directory), ..self.clone() }
    }
}

impl Books for FileBooks {
    type Journal = FileJournal;
    type Held = StampLock;

    fn hold(&self, cloud_id: Uuid, operation: &str, now: Timestamp) -> Result<StampLock, Problem> {
        StampLock::take(&self.directory, cloud_id, operation, now)
    }

    fn holder(&self, cloud_id: Uuid) -> Option<String> {
        StampLock::holder(&self.directory, cloud_id).map(|running| running.to_string())
    }

    fn history(&self, cloud_id: Uuid) -> Result<History, Problem> {
        History::read(&self.directory, cloud_id, self.on_damage)
    }

    fn stamps(&self) -> Vec<Uuid> {
        FileJournal::stamps(&self.directory).unwrap_or_default()
    }

    fn begin(&self, cloud_id: Uuid, operation: &str, now: Timestamp) -> Result<FileJournal, JournalError> {
        FileJournal::create(&self.directory, cloud_id, operation, now)
    }
}

/// What a person is asked to agree to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What will be done.
    pub what: String,
    /// What was seen, and what is lost for good.
    pub mark: Mark,
}

/// The person who is asked.
pub trait Consent {
    /// Asks. `changed` says that something else was shown before, and what is there now differs from it.
    ///
    /// # Errors
    /// It is not agreed to.
    fn agree(&mut self, question: &Question, changed: bool) -> Result<(), Problem>;
    /// Asks for a number that neither side shows: the option that says it, and what this machine remembers of it.
    fn number(&mut self, _option: &str, _remembered: Option<&Remembered>) -> Option<String> {
        None
    }
}

/// What an operation is run with.
pub struct Desk<'d, B> {
    /// Journals and locks.
    pub books: &'d B,
    /// Who is asked.
    pub consent: &'d mut dyn Consent,
    /// Who looks on.
    pub watch: &'d mut dyn Watch,
    /// Only show what would be done.
    pub plan: bool,
}

/// A run of an operation on a stamp, begun.
pub struct Session<B: Books> {
    _held: Option<B::Held>,
    /// What earlier runs left.
    pub history: History<B::Journal>,
}

impl<B: Books> Desk<'_, B> {
    /// Takes the lock and reads what earlier runs left. A plan needs no lock, and says when somebody works on the stamp.
    ///
    /// # Errors
    /// Somebody else works on the stamp, or what they left can't be read.
    pub fn begin<C: Clock>(&mut self, clock: &C, cloud_id: Uuid, operation: &str) -> Result<Session<B>, Failure> {
        let held = if self.plan {
            if let Some(holder) = self.books.holder(cloud_id) {
                let message = format!(
                    "the stamp {cloud_id} is being worked on by {holder}: the plan shows how it is now, and may be another when that has ended"
                );
                self.watch.warning(&Problem::new(&code::LOCKED, message));
            }
            None
        } else {
            Some(self.books.hold(cloud_id, operation, clock.now()).map_err(Failure::before)?)
        };
        let history = self.books.history(cloud_id).map_err(Failure::before)?;
        for trouble in &history.troubles {
            self.watch.warning(trouble);
        }
        Ok(Session { _held: held, history })
    }

    /// The journal to go on with, or a new one.
    ///
    /// # Errors
    /// It can't be made.
    pub fn journal<C: Clock>(
        &self,
        open: Option<B::Journal>,
        clock: &C,
        cloud_id: Uuid,
        operation: &str,
    ) -> Result<B::Journal, Failure> {
        match open {
            Some(journal) => Ok(journal),
            None => {
                self.books.begin(cloud_id, operation, clock.now()).map_err(|error| Failure::before(error.problem()))
            }
        }
    }
}

/// What one run has shown and what was agreed to.
#[derive(Debug, Default)]
pub struct Agreed(Option<Question>);

impl Agreed {
    /// Whether this is what was agreed to. If not, it is asked, and has to be looked at again: while a question is on the
    /// screen somebody else may act.
    ///
    /// # Errors
    /// It is not agreed to.
    pub fn covers(&mut self, question: &Question, consent: &mut dyn Consent) -> Result<bool, Failure> {
        if self.0.as_ref() == Some(question) {
            return Ok(true);
        }
        consent.agree(question, self.0.is_some()).map_err(Failure::before)?;
        self.0 = Some(question.clone());
        Ok(false)
    }

    /// Whether somebody has agreed to something in this run.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.is_some()
    }
}

/// What was agreed to is not what is there any more.
#[must_use]
pub fn changed_meanwhile(what: impl Into<String>) -> Problem {
    Problem::new(&code::CHANGED_MEANWHILE, what)
}
