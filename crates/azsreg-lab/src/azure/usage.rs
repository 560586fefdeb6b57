//! Where stamps upload usage, and the books that it is entered in.
//!
//! What was entered is on the disk, where the lab's data are kept at all, before it is acknowledged: a stamp forgets what
//! was acknowledged. How far the file was is kept in the store, so that a file that lost something is not taken for whole.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Refused, caller};
use crate::files;
use crate::http::{self, Read, Reply};
use crate::lab::{State, lock};
use crate::store::StoreError;
use crate::world::arm::{ArmError, USAGE_RESOURCE};
use crate::world::ledger::{Entered, Ledger};
use crate::world::usage::Batch;

/// How far a file of books goes: its bytes, and a sum over its lines, each with the sum of those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    bytes: u64,
    sum: String,
}

impl Mark {
    fn after(&self, line: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(&self.sum).chain_update(line).finalize();
        let sum = digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        Self { bytes: self.bytes + line.len() as u64, sum }
    }
}

/// The ledger, and the file that it is kept in.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    mark: Mark,
    file: Option<(PathBuf, File)>,
}

impl Books {
    /// The books of a data directory, as they were kept; new ones, in memory, where there is none. `kept` is how far they
    /// were when the store was written last.
    pub(crate) fn open(directory: Option<&Path>, kept: Option<&Mark>) -> Result<Self, StoreError> {
        let Some(directory) = directory else { return Ok(Self::default()) };
        let path = directory.join("usage.jsonl");
        let io = |error: std::io::Error| StoreError::io(&path, &error);
        let damaged = |why: String| StoreError::damaged(&path, why);
        let kept = kept.cloned().unwrap_or_default();
        if kept.bytes > 0 && !path.exists() {
            return Err(damaged("it is gone".into()));
        }
        let file = files::open_private(&path).map_err(io)?;
        let mut books = Self::default();
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        let mut count = 0;
        let mut reached = books.mark == kept;
        // A last line without its end was never acknowledged.
        while reader.read_until(b'\n', &mut line).map_err(io)? > 0 && line.ends_with(b"\n") {
            count += 1;
            let entered: Entered =
                serde_json::from_slice(&line).map_err(|error| damaged(format!("line {count}: {error}")))?;
            books.ledger.enter(entered);
            books.mark = books.mark.after(&line);
            reached |= books.mark == kept;
            line.clear();
        }
        if !reached {
            let why = format!("usage that was entered is missing or changed: {} bytes were kept", kept.bytes);
            return Err(damaged(why));
        }
        file.set_len(books.mark.bytes).and_then(|()| files::sync_directory(directory)).map_err(io)?;
        books.file = Some((path.clone(), file));
        Ok(books)
    }

    /// How far they are.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    fn enter(&mut self, entered: Entered) -> Result<(), StoreError> {
        if let Some((path, file)) = &mut self.file {
            let mut line = serde_json::to_vec(&entered).unwrap_or_default();
            line.push(b'\n');
            let good = self.mark.bytes;
            // What is not known to be on the disk was not entered: it comes again, and must not be there twice. What a write
            // that failed has left behind is cut off, now or before the next one.
            let written = file
                .set_len(good)
                .and_then(|()| file.seek(SeekFrom::Start(good)))
                .and_then(|_| file.write_all(&line))
                .and_then(|()| file.sync_data());
            if let Err(error) = written {
                let _ = file.set_len(good);
                return Err(StoreError::io(path, &error));
            }
            self.mark = self.mark.after(&line);
        }
        self.ledger.enter(entered);
        Ok(())
    }
}

/// A call to the usage endpoint.
pub(crate) fn handle(state: &State, request: &Read) -> Reply {
    match route(state, request) {
        Ok(reply) => reply,
        Err(error) => http::json(error.status, &error.body()),
    }
}

/// What could not be kept, in Resource Manager's envelope.
fn unkept(error: &StoreError) -> ArmError {
    let (status, code) = if error.is_full() { (507, "InsufficientStorage") } else { (503, "ServiceUnavailable") };
    ArmError::new(status, code, format!("The lab could not keep this. {error}"))
}

fn route(state: &State, request: &Read) -> Result<Reply, ArmError> {
    let refused = |message: &str| ArmError::new(401, "InvalidAuthenticationToken", message);
    let who = caller(state, request, &[USAGE_RESOURCE]).map_err(|why| match why {
        Refused::Missing => refused("The 'Authorization' header is missing."),
        Refused::Expired => refused("The access token is expired."),
        Refused::Invalid(message) => refused(message),
    })?;
    let segments = http::segments(request.uri().path());
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["stamps", cloud_id, "batches", name] = parts[..] else {
        return Err(ArmError::new(404, "NotFound", "The lab's usage endpoint does not know this route."));
    };
    if request.method() != "PUT" {
        return Ok(http::text(StatusCode::METHOD_NOT_ALLOWED, ""));
    }
    let invalid = |message: String| ArmError::new(400, "InvalidRequestContent", message);
    let batch: Batch = serde_json::from_slice(request.body()).map_err(|error| invalid(error.to_string()))?;
    if batch.name != name || batch.cloud_id.to_string() != cloud_id {
        return Err(invalid("The batch is not the one that the address names.".into()));
    }
    let azure = state.azure();
    let registration = azure.arm.with_id(&batch.registration);
    if registration.is_some_and(|registration| registration.token.object_id != Some(who.object_id)) {
        let message = "The caller is not the principal of this registration.";
        return Err(ArmError::new(403, "AuthorizationFailed", message));
    }
    let mut books = lock(&state.books);
    let entered = books.ledger.judge(&azure.arm, &batch, state.now())?;
    drop(azure);
    let Some(entered) = entered else { return Ok(http::json(200, &json!({"known": true}))) };
    let billed = entered.billed();
    books.enter(entered).map_err(|error| unkept(&error))?;
    Ok(http::json(201, &json!({"received": batch.records.len(), "billed": billed})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ledger::Query;
    use uuid::Uuid;

    fn line_of(payer: Uuid, name: &str) -> serde_json::Value {
        json!({"cloud_id": Uuid::nil(), "name": name, "digest": 1, "received": 10, "lines": [{
            "payer": payer, "hour": 9, "meter": 2, "quantity": 5, "billed": {
                "cloud_id": Uuid::nil(), "subscription": Uuid::nil(), "meter": "m", "uri": "/u", "location": "local",
                "size": null, "free": false,
            },
        }]})
    }

    #[test]
    fn what_could_not_be_written_is_not_entered_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.jsonl");
        let entered = |name: &str| serde_json::from_value::<Entered>(line_of(Uuid::nil(), name)).unwrap();
        let billed = |books: &Books| books.ledger.used(Uuid::nil(), 0, 1_000).map(|(_, _, sum)| sum).sum::<i64>();
        let mut books = Books::open(Some(dir.path()), None).unwrap();
        books.enter(entered("20261125T10-0")).unwrap();
        let before = books.mark().clone();
        // A file that takes nothing, as on a full disk.
        let writable = books.file.replace((path.clone(), File::open(&path).unwrap()));
        let error = books.enter(entered("20261125T11-0")).unwrap_err();
        assert!(error.to_string().contains("usage.jsonl"), "{error}");
        assert_eq!((billed(&books), books.mark()), (5, &before));
        // What was half written then, and could not be cut off, is cut off now.
        books.file = writable;
        std::io::Write::write_all(&mut File::options().append(true).open(&path).unwrap(), b"{\"cloud").unwrap();
        books.enter(entered("20261125T11-0")).unwrap();
        let mark = books.mark().clone();
        assert_eq!(billed(&books), 10);
        drop(books);
        let books = Books::open(Some(dir.path()), Some(&mark)).unwrap();
        assert_eq!((billed(&books), books.mark()), (10, &mark));
    }

    #[test]
    fn books_that_lost_or_changed_what_was_entered_are_refused_and_more_than_was_marked_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.jsonl");
        let mut books = Books::open(Some(dir.path()), None).unwrap();
        let mut marks = vec![books.mark().clone()];
        for name in ["20261125T10-0", "20261125T11-0", "20261125T12-0"] {
            books.enter(serde_json::from_value(line_of(Uuid::nil(), name)).unwrap()).unwrap();
            marks.push(books.mark().clone());
        }
        drop(books);
        let whole = std::fs::read(&path).unwrap();
        let open = |mark: &Mark| Books::open(Some(dir.path()), Some(mark)).map(|books| books.mark().clone());
        // The last line is synced before the store is: it may be further than the store knows.
        for mark in &marks {
            assert_eq!(open(mark).unwrap(), marks[3]);
        }
        let refused = |what: &str| {
            let error = open(&marks[3]).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error}");
            assert!(error.to_string().contains("usage.jsonl: "), "{what}: {error}");
        };
        std::fs::write(&path, &whole[..usize::try_from(marks[2].bytes).unwrap()]).unwrap();
        refused("a line is missing");
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        refused("the last line has no end");
        std::fs::write(
            &path,
            String::from_utf8(whole.clone()).unwrap().replacen("\"quantity\":5", "\"quantity\":6", 1),
        )
        .unwrap();
        refused("a quantity is another");
        std::fs::write(&path, "").unwrap();
        refused("emptied");
        std::fs::remove_file(&path).unwrap();
        refused("gone");
        assert!(!path.exists(), "nothing is begun in its place");
        std::fs::write(&path, &whole).unwrap();
        open(&marks[3]).unwrap();
    }

    #[test]
    fn a_batch_that_was_written_twice_is_billed_once_and_a_torn_line_is_dropped() {
        let payer = Uuid::from_u128(7);
        let line = line_of(payer, "20261125T10-0");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.jsonl");
        std::fs::write(&path, format!("{line}\n{line}\n{}", &line.to_string()[..40])).unwrap();
        let total = |books: &Books| {
            let query = Query { subscription: payer, from: 0, to: 100, bucket: 24, details: true };
            books.ledger.page(query, None, 10).iter().map(|(_, quantity)| *quantity).sum::<i64>()
        };
        assert_eq!(total(&Books::open(Some(dir.path()), None).unwrap()), 5);
        // What comes next is on a line of its own.
        let mut books = Books::open(Some(dir.path()), None).unwrap();
        let other = line.to_string().replace("T10-0", "T11-0");
        books.enter(serde_json::from_str(&other).unwrap()).unwrap();
        drop(books);
        assert_eq!(total(&Books::open(Some(dir.path()), None).unwrap()), 10);
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = Books::open(Some(dir.path()), None).err().unwrap().to_string();
        assert!(error.contains("usage.jsonl: line 1"), "{error}");
    }
}
