//! Where stamps upload usage, and the books that it is entered in.
//!
//! What was entered is on the disk, where the lab's data are kept at all, before it is acknowledged: a stamp forgets what
//! was acknowledged.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use hyper::StatusCode;
use serde_json::json;

use super::{Refused, caller};
use crate::http::{self, Read, Reply};
use crate::lab::{State, lock};
use crate::world::arm::{ArmError, USAGE_RESOURCE};
use crate::world::ledger::{Entered, Ledger};
use crate::world::usage::Batch;

/// The ledger, and the file that it is kept in.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    file: Option<File>,
}

impl Books {
    /// The books of a data directory, as they were kept; new ones, in memory, where there is none.
    pub(crate) fn open(directory: Option<&Path>) -> std::io::Result<Self> {
        let Some(directory) = directory else { return Ok(Self::default()) };
        let path = directory.join("usage.jsonl");
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        let mut books = Self::default();
        let mut good = 0;
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        // A last line without its end was never acknowledged.
        let mut count = 0;
        while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            count += 1;
            let entered: Entered = serde_json::from_str(&line).map_err(|error| {
                let why = format!("{}, line {count}: {error}", path.display());
                std::io::Error::new(std::io::ErrorKind::InvalidData, why)
            })?;
            books.ledger.enter(entered);
            good += line.len() as u64;
            line.clear();
        }
        file.set_len(good)?;
        std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0))?;
        books.file = Some(file);
        Ok(books)
    }

    fn enter(&mut self, entered: Entered) -> std::io::Result<()> {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&entered)?;
            line.push(b'\n');
            let length = file.metadata()?.len();
            // What is not known to be on the disk was not entered: it comes again, and must not be there twice.
            if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
                file.set_len(length)?;
                std::io::Seek::seek(file, std::io::SeekFrom::Start(length))?;
                return Err(error);
            }
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
    books.enter(entered).map_err(|error| ArmError::new(500, "InternalServerError", error.to_string()))?;
    Ok(http::json(201, &json!({"received": batch.records.len(), "billed": billed})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ledger::Query;
    use uuid::Uuid;

    #[test]
    fn a_batch_that_was_written_twice_is_billed_once_and_a_torn_line_is_dropped() {
        let payer = Uuid::from_u128(7);
        let line = json!({"cloud_id": Uuid::nil(), "name": "20261125T10-0", "digest": 1, "received": 10, "lines": [{
            "payer": payer, "hour": 9, "meter": 2, "quantity": 5, "billed": {
                "cloud_id": Uuid::nil(), "subscription": Uuid::nil(), "meter": "m", "uri": "/u", "location": "local",
                "size": null, "free": false,
            },
        }]});
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.jsonl");
        std::fs::write(&path, format!("{line}\n{line}\n{}", &line.to_string()[..40])).unwrap();
        let total = |books: &Books| {
            let query = Query { subscription: payer, from: 0, to: 100, bucket: 24, details: true };
            books.ledger.page(query, None, 10).iter().map(|(_, quantity)| *quantity).sum::<i64>()
        };
        assert_eq!(total(&Books::open(Some(dir.path())).unwrap()), 5);
        // What comes next is on a line of its own.
        let mut books = Books::open(Some(dir.path())).unwrap();
        let other = line.to_string().replace("T10-0", "T11-0");
        books.enter(serde_json::from_str(&other).unwrap()).unwrap();
        drop(books);
        assert_eq!(total(&Books::open(Some(dir.path())).unwrap()), 10);
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = Books::open(Some(dir.path())).err().unwrap().to_string();
        assert!(error.contains("usage.jsonl, line 1"), "{error}");
    }
}
