//! Blobs of a storage service, read from any byte on ("Get Blob").

use std::time::Duration;

use azsreg_model::{Problem, code};
use azsreg_operations::engine::retry::Policy;
use azsreg_operations::marketplace::{BlobAbout, BlobError, Blobs, Sink};
use azsreg_operations::ports::{Class, PortError};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::address::wait_within;
use crate::http::{Http, host_of, retry_after};

/// A connection that gives less than `TRICKLE` bytes in so long is given up, and gone on with anew.
const SILENCE: Duration = Duration::from_secs(60);
const TRICKLE: usize = 1 << 10;

/// Reads blobs over a client.
pub struct BlobPort<'a>(pub &'a Http);

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The MD5 of the whole: of a part, the service names it otherwise.
fn md5_of(headers: &HeaderMap, part: bool) -> Option<[u8; 16]> {
    let text = header(headers, if part { "x-ms-blob-content-md5" } else { "content-md5" })?;
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

impl Blobs for BlobPort<'_> {
    async fn read(
        &self,
        address: &SecretString,
        from: u64,
        etag: Option<&str>,
        sink: &mut impl Sink,
    ) -> Result<(), BlobError> {
        let url = address.expose_secret();
        let host = host_of(url);
        let mut headers = vec![("x-ms-version", "2017-11-09".to_owned())];
        if from > 0 {
            headers.push(("range", format!("bytes={from}-")));
        }
        headers.extend(etag.filter(|etag| !etag.is_empty()).map(|etag| ("if-match", etag.to_owned())));
        let mut answer = self.0.open(url, &headers).await.map_err(|error| {
            let error = PortError::from(error);
            // A host that was never reached may be for a moment: how long to try is the caller's affair. What an address or
            // an answer may not be does not pass.
            let passing = [&code::AZURE_UNREACHABLE, &code::NO_ANSWER_IN_TIME].contains(&error.problem.code);
            BlobError::Port(if passing { PortError::new(Class::Transient, *error.problem) } else { error })
        })?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let part = status == 206;
        if !answer.status().is_success() {
            return Err(refused(status, &headers, &host));
        }
        let range = header(&headers, "content-range").map(|range| range.trim_start_matches("bytes").trim());
        let begins = range.and_then(|range| range.split_once('-')?.0.parse::<u64>().ok());
        if part && begins != Some(from) {
            let problem = Problem::new(
                &code::AZURE_PROTOCOL,
                format!("{host} sent another part of a file than it was asked for"),
            );
            return Err(BlobError::Port(PortError::permanent(problem)));
        }
        let whole = || range.and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let length = if part { whole() } else { answer.content_length() };
        let Some(length) = length else {
            let problem = Problem::new(&code::AZURE_PROTOCOL, format!("{host} does not say how long a file is"));
            return Err(BlobError::Port(PortError::permanent(problem)));
        };
        let etag = header(&headers, "etag").unwrap_or_default().to_owned();
        let same = sink.begun(&BlobAbout { length, etag, md5: md5_of(&headers, part) }).map_err(BlobError::Sink)?;
        if !same {
            return Err(BlobError::Changed);
        }
        // A proxy that knows no ranges sends all of it again: what is there already is passed over.
        let mut known = if part { 0 } else { from };
        let broken = |reason: String| {
            BlobError::Port(PortError::new(
                Class::Transient,
                Problem::new(&code::AZURE_UNREACHABLE, format!("the download from {host} broke: {reason}")),
            ))
        };
        let (mut since, mut came) = (Instant::now(), 0usize);
        loop {
            match tokio::time::timeout_at(since + SILENCE, answer.chunk()).await {
                Err(_) if came >= TRICKLE => (since, came) = (Instant::now(), 0),
                Err(_) => return Err(broken(format!("{came} bytes came within a minute"))),
                Ok(Err(error)) => return Err(broken(crate::http::chain(&error))),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(mut bytes))) => {
                    came = came.saturating_add(bytes.len());
                    let passed = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
                    known -= passed as u64;
                    sink.bytes(bytes.split_off(passed)).map_err(BlobError::Sink)?;
                }
            }
        }
    }
}

/// What the service refuses, and what may be done about it.
fn refused(status: u16, headers: &HeaderMap, host: &str) -> BlobError {
    let said = header(headers, "x-ms-error-code").unwrap_or_default();
    let id = header(headers, "x-ms-request-id").unwrap_or_default();
    let mut problem =
        Problem::new(&code::BLOB_REFUSED, format!("{host} refused a file with HTTP status {status} {said}"));
    if !id.is_empty() {
        problem = problem.detail(format!("x-ms-request-id: {id}"));
    }
    match status {
        // An address that has expired is refused as a wrong one is.
        401 | 403 => BlobError::Address(PortError::permanent(problem)),
        404 | 410 => BlobError::Address(PortError::permanent(problem)),
        412 | 416 => BlobError::Changed,
        429 | 503 => {
            let after = retry_after(headers);
            if let Some(Err(long)) = after.map(|after| wait_within(host, after, Policy::BLOBS.deadline)) {
                return BlobError::Port(PortError::permanent(*long));
            }
            match after {
                Some(_) => BlobError::Port(PortError::new(Class::Throttled(after), problem)),
                None => BlobError::Port(PortError::new(Class::Transient, problem)),
            }
        }
        408 | 500.. => BlobError::Port(PortError::new(Class::Transient, problem)),
        _ => BlobError::Port(PortError::permanent(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{http, server};

    struct Nowhere;

    impl Sink for Nowhere {
        fn begun(&mut self, _: &BlobAbout) -> Result<bool, Problem> {
            Ok(true)
        }
        fn bytes(&mut self, _: bytes::Bytes) -> Result<(), Problem> {
            Ok(())
        }
    }

    async fn fetched(address: &str, allow_http: bool) -> String {
        let http = http(allow_http);
        match BlobPort(&http).read(&address.to_owned().into(), 0, None, &mut Nowhere).await {
            Ok(()) => "read".into(),
            Err(BlobError::Port(error)) => format!("{} {:?}", error.problem.code.id, error.class),
            Err(_) => "other".into(),
        }
    }

    #[tokio::test]
    async fn a_file_is_fetched_over_https_alone() {
        let (address, received) = server(vec![("/", "{}".into())]).await;
        assert_eq!(fetched(&format!("{address}/a?sig=secret"), false).await, "AZR4040 Permanent");
        assert_eq!(fetched("http://blobs.example/a?sig=secret", true).await, "AZR4040 Permanent");
        assert!(received.lock().unwrap().is_empty());
        assert_eq!(fetched(&format!("{address}/a?sig=secret"), true).await, "read");
    }
}
