//! What the journals of a stamp tell a run: which earlier run it may go on from, and what the world does not tell.
//!
//! A journal saves work. It never decides that the world is as it was: what it recorded holds while the world still carries
//! the mark that was recorded with it.

use std::path::Path;

use azsreg_model::{Known, Problem, Remembered, Written};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::journal::{Event, FileJournal, Journal, JournalError, Mark, Marked, is_ended, request_of, succeeded};
use super::lock::StampLock;
use super::retry::{self, Policy};
use crate::ports::{Azure, Clock, PortError};

/// What earlier runs on this stamp left, whatever the operation.
#[derive(Debug)]
pub struct History<J = FileJournal> {
    /// All journals that ended, oldest first.
    pub ended: Vec<Vec<Event>>,
    /// The newest run, if it did not end.
    pub open: Option<J>,
    /// What is wrong with journals that a run can do without.
    pub troubles: Vec<Problem>,
    /// Whether a run began to write and none has written since.
    unsettled: bool,
    /// Whether what can't be gone on from is left for what both sides say.
    world_only: bool,
    known: Known,
}

impl<J> Default for History<J> {
    fn default() -> Self {
        Self {
            ended: Vec::new(),
            open: None,
            troubles: Vec::new(),
            unsettled: false,
            world_only: false,
            known: Known::default(),
        }
    }
}

/// What to do about a journal of an interrupted run that can't be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Refuse: the run might go on from it.
    Stop,
    /// Go on from what both sides say.
    WorldOnly,
}

impl History {
    /// Reads the journals of a stamp. Only the newest run can be resumed: a later one made it stale.
    ///
    /// # Errors
    /// A journal can't be read, is another stamp's, or is of the newest run, which did not end, and is damaged or newer.
    pub fn read(state_dir: &Path, cloud_id: Uuid, on_damage: OnDamage) -> Result<Self, Problem> {
        let mut journals = Vec::new();
        for path in FileJournal::list(state_dir, cloud_id).map_err(|error| error.problem())? {
            journals.push(FileJournal::read(&path, cloud_id).map_err(|error| error.problem())?);
        }
        let mut troubles = Vec::new();
        let newest = journals.len().saturating_sub(1);
        for (n, journal) in journals.iter().enumerate() {
            let Some(trouble) = journal.trouble() else { continue };
            let needed = n == newest && !is_ended(journal.events());
            match trouble {
                JournalError::Foreign { .. } => return Err(trouble.problem()),
                _ if needed && on_damage == OnDamage::Stop => {
                    if matches!(trouble, JournalError::Damaged { .. }) {
                        journal.keep_copy();
                    }
                    return Err(trouble.problem());
                }
                _ => troubles.push(trouble.problem()),
            }
        }
        Ok(Self { troubles, world_only: on_damage == OnDamage::WorldOnly, ..Self::of(journals) })
    }

    /// What the journals of a stamp know, as far as they can be read, and what is wrong with them: to be shown.
    #[must_use]
    pub fn look(state_dir: &Path, cloud_id: Uuid) -> (Known, Vec<Problem>) {
        let mut troubles = Vec::new();
        let paths = FileJournal::list(state_dir, cloud_id).unwrap_or_else(|error| {
            troubles.push(error.problem());
            Vec::new()
        });
        let mut journals = Vec::new();
        for path in paths {
            match FileJournal::read(&path, cloud_id) {
                Ok(journal) => {
                    troubles.extend(journal.trouble().map(JournalError::problem));
                    if !matches!(journal.trouble(), Some(JournalError::Foreign { .. })) {
                        journals.push(journal);
                    }
                }
                Err(error) => troubles.push(error.problem()),
            }
        }
        let running = StampLock::holder(state_dir, cloud_id);
        (Known { running, ..Self::of(journals).known }, troubles)
    }
}

impl<J: Journal> History<J> {
    /// The history of these journals, oldest first.
    #[must_use]
    pub fn of(journals: Vec<J>) -> Self {
        let mut history = Self::default();
        for journal in journals {
            learn(&mut history.known, journal.events(), journal.times());
            let (ended, writing) = (is_ended(journal.events()), writing(journal.events()));
            history.unsettled = if ended { history.unsettled && !writing } else { history.unsettled || writing };
            if ended {
                history.ended.push(journal.events().to_vec());
                history.open = None;
            } else if journal.is_sound() {
                history.open = Some(journal);
            } else {
                // What it began is not known in full.
                history.unsettled = true;
                history.open = None;
            }
        }
        history
    }

    /// What the journals know and the world does not tell.
    #[must_use]
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// The events of the newest run, if it did not end.
    #[must_use]
    pub fn begun(&self) -> &[Event] {
        self.open.as_ref().map(Journal::events).unwrap_or_default()
    }

    /// Leaves the newest run as it is: what it did not end is not gone on from.
    pub fn leave(&mut self) {
        if let Some(open) = self.open.take() {
            self.unsettled |= began(open.events());
        }
    }

    /// The open journal, if it is of this request; and what `Past` it makes.
    ///
    /// # Errors
    /// The interrupted run of this operation was a newer version's.
    pub fn past(mut self, operation: &str, version: u32, request: &Value) -> Result<(Past, Option<J>), Problem> {
        if let Some(Event::Opened { operation: name, version: of, .. }) = self.begun().first()
            && name == operation
            && *of > version
        {
            let message =
                format!("the interrupted {operation} was begun by a newer azsreg (version {of} of its steps)");
            if !self.world_only {
                return Err(Problem::new(&azsreg_model::code::JOURNAL_NEWER, message));
            }
            self.leave();
        }
        let open = self.open.as_ref().map(Journal::events);
        let times = self.open.as_ref().map(Journal::times).unwrap_or_default().to_vec();
        let mut past = Past::of(&self.ended, open, operation, version, request);
        past.times = times;
        if self.unsettled && past.open.is_empty() {
            past.suspect = true;
            past.finished = Vec::new();
        }
        let journal = self.open.filter(|_| !past.open.is_empty());
        Ok((past, journal))
    }
}

/// What earlier runs tell a run of one request.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The newest run of any operation, if it ended and asked for the same.
    pub finished: Vec<Event>,
    /// The events of the run that this one goes on from.
    pub open: Vec<Event>,
    /// When each of those was recorded.
    times: Vec<Timestamp>,
    /// Whether something else was begun and did not end: what it left is not to be trusted.
    pub suspect: bool,
}

impl Past {
    /// Puts it together from the journals that ended, oldest first, and the one that did not.
    fn of(ended: &[Vec<Event>], open: Option<&[Event]>, operation: &str, version: u32, request: &Value) -> Self {
        let same = |events: &[Event]| request_of(events) == Some(request);
        let resumed = open.filter(|events| {
            same(events)
                && matches!(events.first(), Some(Event::Opened { operation: name, version: of, .. }) if name == operation && *of == version)
        });
        let suspect = open.is_some_and(|events| resumed.is_none() && began(events));
        let finished = ended.last().filter(|events| same(events) && !suspect);
        Self {
            finished: finished.cloned().unwrap_or_default(),
            open: resumed.map(<[Event]>::to_vec).unwrap_or_default(),
            times: Vec::new(),
            suspect,
        }
    }

    /// Whether the run that this one goes on from has ended this step well.
    #[must_use]
    pub fn has(&self, step: &str) -> bool {
        succeeded(&self.open, step).is_some()
    }

    /// The etag that the registration has if nothing has written to it since the run that this one goes on from, or the newest
    /// one that ended.
    #[must_use]
    pub fn written(&self) -> Option<&str> {
        let of = |events| succeeded(events, "registration").and_then(|output| output["etag"].as_str());
        of(&self.open).or_else(|| of(&self.finished).filter(|_| self.open.is_empty()))
    }

    /// The run of the stamp's activation, as the stamp names it, that the newest run ended with.
    #[must_use]
    pub fn activation(&self) -> Option<&str> {
        let events = if self.open.is_empty() { &self.finished } else { &self.open };
        succeeded(events, "activation").and_then(|output| output["run"].as_str())
    }
}

/// Whether the world still carries what an interrupted run saw before it changed anything, but for what that run itself did.
///
/// # Errors
/// Azure could not be asked.
pub async fn is_as_seen<A: Azure, C: Clock>(azure: &A, clock: &C, events: &[Event]) -> Result<bool, PortError> {
    let Some(mark) = seen(events) else { return Ok(!began(events)) };
    for Marked { id, etag } in &mark.registrations {
        let now = retry::read(clock, Policy::AZURE, async || azure.registration(id).await).await?;
        let now = Marked::of(id, now.as_ref()).etag;
        let own = succeeded(events, "registration").and_then(|output| output["etag"].as_str()).map(str::to_owned);
        let removed = now.is_none() && started(events, "removal");
        // An etag that is not given vouches for nothing.
        let same = now.as_deref() != Some("") && (now == *etag || own.is_some() && now == own);
        if !same && !removed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a run saw before it changed anything.
#[must_use]
pub fn seen(events: &[Event]) -> Option<&Mark> {
    events.iter().rev().find_map(|event| if let Event::Seen(mark) = event { Some(mark) } else { None })
}

/// Whether a step began.
#[must_use]
pub fn started(events: &[Event], step: &str) -> bool {
    events.iter().any(|event| matches!(event, Event::Started { step: name } if name == step))
}

/// Whether any step of it began.
fn began(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Started { .. }))
}

/// Whether a run has begun to change what the stamp and the registration agree on.
fn writing(events: &[Event]) -> bool {
    ["key-pair", "token", "registration", "removal"].iter().any(|step| started(events, step))
}

/// Whether a run that ended has removed the registration.
fn removed(events: &[Event]) -> bool {
    let unregister = |event: &Event| matches!(event, Event::Opened { operation, .. } if operation == "unregister");
    is_ended(events) && events.first().is_some_and(unregister) && succeeded(events, "removal").is_some()
}

/// Takes from one journal what the world does not tell. What a later journal does not say does not hide what an earlier one did.
fn learn(known: &mut Known, events: &[Event], times: &[Timestamp]) {
    // The visits at a disconnected stamp keep the details inside their own request.
    let request = request_of(events).map(|request| request.get("details").unwrap_or(request));
    let details: Option<azsreg_model::RegisterRequest> =
        request.and_then(|request| serde_json::from_value(request.clone()).ok());
    if let Some(details) = details {
        if let Some(written) = written(events, times) {
            let remembered =
                |text: &Option<String>| text.clone().map(|text| Remembered { text, written: written.clone() });
            known.agreement_number = remembered(&details.agreement_number).or(known.agreement_number.take());
            known.ms_asset_tag = remembered(&details.ms_asset_tag).or(known.ms_asset_tag.take());
            known.written = Some(written);
        }
        known.details = Some(details);
    }
    let number = |output: &Value| output["hosts"].as_u64().and_then(|n| usize::try_from(n).ok());
    known.hosts = succeeded(events, "token").and_then(number).or(known.hosts);
    if let Some(output) = succeeded(events, "registration") {
        let text = |name: &str| output[name].as_str().map(str::to_owned);
        known.hosts = number(output).or(known.hosts);
        known.tenant = text("tenant").or(known.tenant.take());
        known.registration = text("id").and_then(|id| id.parse().ok()).or(known.registration.take());
    }
    let done = |step: &str| succeeded(events, step).is_some();
    if let Some(Event::Opened { operation, .. }) = events.first()
        && operation != "adopt"
        && (done("registration") || done("token") || done("activation"))
    {
        known.disconnected = match operation.as_str() {
            // They are the same for both.
            "move" | "repair" => known.disconnected,
            other => other.starts_with("offline-"),
        };
    }
    if let Some(output) = succeeded(events, "move") {
        let text = |name: &str| output[name].as_str().map(str::to_owned);
        known.registration = text("id").and_then(|id| id.parse().ok()).or(known.registration.take());
        // What was moved as it was written is what was written.
        let numbers = known.agreement_number.as_mut().map(|n| &mut n.written);
        let tags = known.ms_asset_tag.as_mut().map(|n| &mut n.written);
        for written in known.written.as_mut().into_iter().chain(numbers).chain(tags) {
            if written.etag.is_some() && written.etag == text("from_etag") {
                written.etag = text("etag");
            }
        }
    }
    if removed(events) {
        known.registration = None;
    }
}

/// When a run wrote the registration, or read it as it is, and what etag it had then. A run that was interrupted in between may
/// have written it.
fn written(events: &[Event], times: &[Timestamp]) -> Option<Written> {
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().rposition(wanted).and_then(|n| times.get(n)).copied();
    let ended = |event: &Event| matches!(event, Event::Succeeded { step, .. } if step == "registration");
    let begun = |event: &Event| matches!(event, Event::Started { step } if step == "registration");
    let output = succeeded(events, "registration");
    let etag = output.and_then(|output| output["etag"].as_str()).map(str::to_owned);
    match output {
        Some(_) => Some(Written { etag, at: at(&ended)? }),
        None => Some(Written { etag: None, at: at(&begun)? }),
    }
}

#[cfg(test)]
mod tests {
    use azsreg_model::StepState;
    use serde_json::json;

    use super::*;
    use crate::engine::journal::MemoryJournal;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY).unwrap()
    }

    fn run(day: i64, request: Value, etag: Option<&str>) -> MemoryJournal {
        let mut journal = MemoryJournal::default();
        let opened = Event::Opened {
            operation: "register".into(),
            version: 2,
            azsreg: "0".into(),
            cloud_id: Uuid::nil(),
            who: "a@b".into(),
            request,
        };
        journal.append(at(day), opened).unwrap();
        journal.append(at(day), Event::Started { step: "registration".into() }).unwrap();
        let succeeded = Event::Succeeded {
            step: "registration".into(),
            state: StepState::Done,
            detail: String::new(),
            output: json!({ "etag": etag }),
            requests: Vec::new(),
        };
        journal.append(at(day), succeeded).unwrap();
        journal.append(at(day), Event::Finished { outcome: "verified".into() }).unwrap();
        journal
    }

    fn request(number: Option<&str>) -> Value {
        let request = azsreg_model::RegisterRequest {
            subscription: Uuid::nil(),
            name: None,
            resource_group: "azurestack".into(),
            location: None,
            billing_model: azsreg_model::BillingModel::Capacity,
            agreement_number: number.map(str::to_owned),
            ms_asset_tag: None,
            usage_reporting: false,
            marketplace: true,
            tenant: None,
            token_version: None,
            renew: false,
            replaces: None,
        };
        serde_json::to_value(request).unwrap()
    }

    #[test]
    fn a_number_that_is_not_said_does_not_hide_an_older_one_and_holds_while_nothing_was_written() {
        let history = History::of(vec![run(1, request(Some("333")), Some("e1")), run(2, request(None), Some("e1"))]);
        let number = history.known().agreement_number.unwrap();
        assert_eq!(number.text, "333");
        assert!(number.written.holds(Some("e1"), None));
        assert!(!number.written.holds(Some("e2"), None) && !number.written.holds(Some(""), None));
        // A journal of an earlier version has no etag: the year of the key tells when the registration was written.
        let old = History::of(vec![run(1, request(Some("333")), None)]).known().agreement_number.unwrap().written;
        assert!(old.holds(Some("e1"), Some(at(366))) && !old.holds(Some("e1"), Some(at(367))));
    }

    #[test]
    fn a_damaged_journal_stops_only_the_run_that_would_go_on_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |operation: &str, ended: bool| {
            let mut journal = FileJournal::create(dir.path(), Uuid::nil(), operation, at(1)).unwrap();
            let whole = run(1, request(Some("333")), Some("e1"));
            let events = whole.events().iter().filter(|event| ended || !matches!(event, Event::Finished { .. }));
            events.for_each(|event| journal.append(at(1), event.clone()).unwrap());
            let text = std::fs::read_to_string(journal.path()).unwrap();
            std::fs::write(journal.path(), text.replacen("a@b", "c@d", 1)).unwrap();
            journal.path().to_owned()
        };
        write("register", true);
        let history = History::read(dir.path(), Uuid::nil(), OnDamage::Stop).unwrap();
        assert_eq!(history.troubles[0].code.id, "AZR5002");
        assert_eq!(history.known().agreement_number.unwrap().text, "333");
        let open = write("set", false);
        let problem = History::read(dir.path(), Uuid::nil(), OnDamage::Stop).unwrap_err();
        assert_eq!(problem.code.id, "AZR5002");
        assert!(open.exists() && open.with_extension("jsonl.damaged").exists());
        let history = History::read(dir.path(), Uuid::nil(), OnDamage::WorldOnly).unwrap();
        let (past, journal) = history.past("register", 2, &request(Some("333"))).unwrap();
        assert!(past.suspect && past.finished.is_empty() && journal.is_none());
        // To be looked at, all of it is worth showing.
        let (known, troubles) = History::look(dir.path(), Uuid::nil());
        assert_eq!((known.agreement_number.unwrap().text.as_str(), troubles.len()), ("333", 2));
    }

    #[test]
    fn a_newer_version_of_the_steps_is_not_gone_on_from() {
        let mut journal = MemoryJournal::default();
        let whole = run(1, request(None), None);
        whole.events()[..2].iter().for_each(|event| journal.append(at(1), event.clone()).unwrap());
        let error = History::of(vec![journal]).past("register", 1, &request(None)).unwrap_err();
        assert_eq!(error.code.id, "AZR5020");
        // What the refusal advises holds.
        let dir = tempfile::tempdir().unwrap();
        let mut journal = FileJournal::create(dir.path(), Uuid::nil(), "register", at(1)).unwrap();
        whole.events()[..2].iter().for_each(|event| journal.append(at(1), event.clone()).unwrap());
        let history = History::read(dir.path(), Uuid::nil(), OnDamage::WorldOnly).unwrap();
        let (past, open) = history.past("register", 1, &request(None)).unwrap();
        assert!(past.suspect && past.open.is_empty() && open.is_none());
    }
}
