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
        let file = options.open(path)?;
        let mut books = Self::default();
        let mut good = 0;
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        // A last line without its end was never acknowledged.
        while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let entered: Entered = serde_json::from_str(&line)?;
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
            file.write_all(&line)?;
            file.sync_data()?;
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
    let registration = azure.arm.registrations.iter().find(|r| r.id().eq_ignore_ascii_case(&batch.registration));
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
