//! What a storage account speaks for blobs, as far as the marketplace uses it: signatures (shared access, shared key),
//! ranges, errors in XML. Azure's account and the stamps' share it.

use std::fmt::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::http::{self, Body, Read, Reply, header, value};

/// A range of which an MD5 is asked may have this many bytes ("Get Blob", `x-ms-range-get-content-md5`).
const MD5_RANGE: u64 = 4 << 20;
/// The version of the signatures that the lab itself makes.
const VERSION: &str = "2019-12-12";

/// A refusal in the storage service's envelope.
#[derive(Debug)]
pub(crate) struct StorageError(pub(crate) u16, pub(crate) &'static str, pub(crate) String);

impl StorageError {
    pub(crate) fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self(status, code, message.to_owned())
    }

    pub(crate) fn authentication(detail: &str) -> Self {
        let message = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.";
        Self(403, "AuthenticationFailed", format!("{message}|{detail}"))
    }

    pub(crate) fn missing() -> Self {
        Self::new(404, "BlobNotFound", "The specified blob does not exist.")
    }

    /// The answer: a header with the code, and XML.
    pub(crate) fn reply(&self) -> Reply {
        let (message, detail) = self.2.split_once('|').unwrap_or((&self.2, ""));
        let mut xml = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{}</Code><Message>{}</Message>",
            self.1,
            escaped(message)
        );
        if !detail.is_empty() {
            let _ = write!(xml, "<AuthenticationErrorDetail>{}</AuthenticationErrorDetail>", escaped(detail));
        }
        xml.push_str("</Error>");
        let mut reply = http::text(StatusCode::from_u16(self.0).unwrap_or(StatusCode::BAD_REQUEST), xml);
        header(&mut reply, "x-ms-error-code", self.1);
        header(&mut reply, "content-type", "application/xml");
        reply
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// An account: its name and its key.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) key: Vec<u8>,
}

impl Account {
    fn hmac(&self, text: &str) -> String {
        // Any length is a key.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return String::new() };
        mac.update(text.as_bytes());
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    }

    /// The query of an address that may be read until `end`: a service SAS of one blob, `container/path`.
    pub(crate) fn sas(&self, blob: &str, end: Timestamp) -> String {
        let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let query =
            [("sv", VERSION), ("sr", "b"), ("sp", "r"), ("se", &end)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let signature = self.hmac(&self.sas_text(&query, blob, ""));
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        format!("sv={VERSION}&sr=b&sig={}&se={}&sp=r", encode(&signature), encode(&end))
    }

    /// The string that a service SAS signs ("Create a service SAS", versions 2018-11-09 and 2020-12-06).
    fn sas_text(&self, query: &[(String, String)], blob: &str, container: &str) -> String {
        let of = |name: &str| value(query, name).unwrap_or_default();
        let path = if of("sr") == "c" { container } else { blob };
        let resource = format!("/blob/{}/{path}", self.name);
        let mut parts =
            vec![of("sp"), of("st"), of("se"), &resource, of("si"), of("sip"), of("spr"), of("sv"), of("sr"), ""];
        if of("sv") >= "2020-12-06" {
            parts.push(of("ses"));
        }
        parts.extend(["rscc", "rscd", "rsce", "rscl", "rsct"].map(of));
        parts.join("\n")
    }

    /// Checks a shared access signature for a permission such as `r`.
    pub(crate) fn check_sas(
        &self,
        query: &[(String, String)],
        (container, blob): (&str, &str),
        permission: char,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let of = |name: &str| value(query, name).unwrap_or_default();
        let full = format!("{container}/{blob}");
        let text = self.sas_text(query, &full, container);
        if of("sv") < "2018-11-09" || self.hmac(&text) != of("sig") {
            return Err(StorageError::authentication("Signature did not match."));
        }
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let (start, end) = (at(of("st")), at(of("se")));
        let shown = |at: Timestamp| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let early = start.is_some_and(|start| now < start);
        if end.is_none_or(|end| now >= end) || early {
            let range = format!(
                "Signature not valid in the specified time frame: Start [{}] - Expiry [{}] - Current [{}]",
                start.map(shown).unwrap_or_default(),
                end.map(shown).unwrap_or_default(),
                shown(now)
            );
            return Err(StorageError::authentication(&range));
        }
        if !of("sp").contains(permission) {
            return Err(StorageError::new(
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            ));
        }
        Ok(())
    }

    /// Checks a shared key's signature ("Authorize with Shared Key", blob service).
    pub(crate) fn check_key(&self, request: &Read) -> Result<(), StorageError> {
        let of = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let given = of("authorization").strip_prefix("SharedKey ").and_then(|rest| rest.split_once(':'));
        let Some((account, signature)) = given else {
            return Err(StorageError::new(
                401,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
            ));
        };
        let length = of("content-length");
        let mut text = request.method().to_string();
        let standard = [
            of("content-encoding"),
            of("content-language"),
            if length == "0" { "" } else { length },
            of("content-md5"),
            of("content-type"),
            if of("x-ms-date").is_empty() { of("date") } else { "" },
            of("if-modified-since"),
            of("if-match"),
            of("if-none-match"),
            of("if-unmodified-since"),
            of("range"),
        ];
        for part in standard {
            text.push('\n');
            text.push_str(part);
        }
        let mut own: Vec<(String, String)> = request
            .headers()
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-ms-"))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().trim().to_owned()))
            .collect();
        own.sort();
        for (name, value) in own {
            let _ = write!(text, "\n{name}:{value}");
        }
        let _ = write!(text, "\n/{}{}", self.name, request.uri().path());
        let mut query: Vec<(String, String)> = http::pairs(request.uri().query().unwrap_or_default())
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect();
        query.sort();
        for (name, value) in query {
            let _ = write!(text, "\n{name}:{value}");
        }
        if account != self.name || self.hmac(&text) != signature {
            return Err(StorageError::authentication(
                "The MAC signature found in the HTTP request is not the same as any computed signature.",
            ));
        }
        Ok(())
    }
}

/// Whether the request has a shared access signature.
pub(crate) fn has_sas(query: &[(String, String)]) -> bool {
    value(query, "sig").is_some()
}

/// What a blob says of itself.
pub(crate) struct About {
    pub(crate) length: u64,
    pub(crate) etag: String,
    pub(crate) modified: Timestamp,
    pub(crate) md5: Option<[u8; 16]>,
    pub(crate) kind: &'static str,
    pub(crate) content_type: &'static str,
}

/// The pieces of a body.
pub(crate) type Pieces = Box<dyn Iterator<Item = std::io::Result<Bytes>> + Send>;

/// The range of `x-ms-range` or `Range`: first byte, and the one after the last.
fn range(request: &Read, length: u64) -> Result<Option<(u64, u64)>, StorageError> {
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let Some(spec) = text("x-ms-range").or(text("range")).and_then(|r| r.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let Ok(first) = first.parse::<u64>() else { return Ok(None) };
    let end = if last.is_empty() { length } else { last.parse::<u64>().map_or(length, |last| last.saturating_add(1)) };
    if first >= length || end <= first {
        return Err(StorageError::new(
            416,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
        ));
    }
    Ok(Some((first, end.min(length))))
}

/// The first and the last byte, and what follows, that a read of a blob sends.
pub(crate) fn read(
    request: &Read,
    about: &About,
    pieces: impl FnOnce(u64, u64) -> Pieces,
    md5_of: impl FnOnce(u64, u64) -> [u8; 16],
) -> Result<(Reply, u64, u64), StorageError> {
    let given = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    if given("if-match").is_some_and(|wanted| wanted != "*" && wanted != about.etag) {
        return Err(StorageError::new(
            412,
            "ConditionNotMet",
            "The condition specified using HTTP conditional header(s) is not met.",
        ));
    }
    let head = request.method() == "HEAD";
    let part = if head { None } else { range(request, about.length)? };
    let (from, to) = part.unwrap_or((0, about.length));
    let wants = given("x-ms-range-get-content-md5").is_some_and(|wants| wants.eq_ignore_ascii_case("true"));
    if wants && (part.is_none() || to - from > MD5_RANGE) {
        return Err(StorageError::new(400, "OutOfRangeInput", "One of the request inputs is out of range."));
    }
    let body = if head { Body::Whole(None) } else { Body::Pieces { pieces: pieces(from, to), left: to - from } };
    let mut reply = Reply::new(body);
    if let Some((from, to)) = part {
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
        header(&mut reply, "content-range", &format!("bytes {from}-{}/{}", to - 1, about.length));
    }
    if head {
        header(&mut reply, "content-length", &about.length.to_string());
    }
    let whole = about.md5.map(|md5| BASE64_STANDARD.encode(md5));
    match (part, whole) {
        (Some(_), whole) => {
            if let Some(md5) = whole {
                header(&mut reply, "x-ms-blob-content-md5", &md5);
            }
            if wants {
                header(&mut reply, "content-md5", &BASE64_STANDARD.encode(md5_of(from, to)));
            }
        }
        (None, Some(md5)) => header(&mut reply, "content-md5", &md5),
        (None, None) => {}
    }
    header(&mut reply, "etag", &about.etag);
    header(&mut reply, "last-modified", &about.modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    header(&mut reply, "accept-ranges", "bytes");
    header(&mut reply, "x-ms-blob-type", about.kind);
    header(&mut reply, "x-ms-lease-state", "available");
    header(&mut reply, "x-ms-server-encrypted", "true");
    reply.headers_mut().insert("content-type", HeaderValue::from_static(about.content_type));
    Ok((reply, from, to))
}

/// The MD5 of pieces.
pub(crate) fn md5(pieces: impl Iterator<Item = Bytes>) -> [u8; 16] {
    let mut hash = Md5::new();
    pieces.for_each(|piece| hash.update(&piece));
    hash.finalize().into()
}

/// The headers that every answer of the service has.
pub(crate) fn common(reply: &mut Reply) {
    header(reply, "x-ms-request-id", &uuid::Uuid::new_v4().to_string());
    header(reply, "x-ms-version", "2021-12-02");
    header(reply, "server", "azsreg-lab-blob/1.0");
}
