//! The storage account of a stamp that takes carried marketplace items, as the offline tool makes and removes it
//! (`facts-stamp.md` section 3), and the blob service behind it ("Authorize with Shared Key").

use std::cell::RefCell;

use aws_lc_rs::hmac;
use azsreg_model::{Problem, code, redact};
use azsreg_operations::marketplace::{StagedBlob, Staging};
use azsreg_operations::ports::{Class, PortError};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use reqwest::Method;
use reqwest::header::HeaderMap;
use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};

use crate::absent;
use crate::address::{checked, too_large};
use crate::error::{ArmError, too_long};
use crate::http::{MAX_HELD, host_of, retry_after, stamp_clock_skew};
use crate::manager::loops;
use crate::market::MarketPort;
use crate::products::segment;
use crate::records::RecordsPort;

const GROUP: &str = "System.syndication";
const ACCOUNT: &str = "syndicationstorage";
const CONTAINER: &str = "syndicationartifacts";
const GROUPS: &str = "2016-02-01";
const STORAGE: &str = "2016-01-01";
/// What every supported build's blob service speaks.
const BLOBS: &str = "2017-11-09";
/// The sum that a finished upload leaves with its blob.
const SUM: &str = "x-ms-meta-azsreg_sha256";
/// The sum of the file that an upload of pages was begun for, and how far it is: a byte, and the sum of all before it.
const BEGUN_FOR: &str = "x-ms-meta-azsreg_for";
const UP_TO: &str = "x-ms-meta-azsreg_up_to";
/// What azsreg leaves with a group that it made: no other is removed.
const TAG: &str = "azsreg";

/// An account that was opened.
#[derive(Clone)]
struct Account {
    /// The blob endpoint, with a slash at the end.
    endpoint: String,
    key: Zeroizing<Vec<u8>>,
}

/// What is known of the account: nothing, that there is none, or where it is.
#[derive(Default)]
pub(crate) struct StampStorage(RefCell<Option<Account>>);

/// An answer of the blob service.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The texts of all elements of a name, in order.
fn texts(xml: &[u8], name: &str) -> Vec<String> {
    use quick_xml::events::Event;
    let text = String::from_utf8_lossy(xml);
    let mut reader = quick_xml::Reader::from_str(text.trim_start_matches('\u{feff}'));
    let (mut found, mut inside) = (Vec::new(), None::<String>);
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(tag) if tag.name().as_ref() == name => inside = Some(String::new()),
            Event::End(tag) if tag.name().as_ref() == name => found.extend(inside.take()),
            Event::Eof => break,
            event => {
                let Some(inside) = &mut inside else { continue };
                match event {
                    Event::Text(part) => inside.push_str(&part.xml10_content()),
                    Event::GeneralRef(part) => match (part.resolve_char_ref(), &*part.xml10_content()) {
                        (Ok(Some(c)), _) => inside.push(c),
                        (_, "amp") => inside.push('&'),
                        (_, "lt") => inside.push('<'),
                        (_, "gt") => inside.push('>'),
                        (_, "quot") => inside.push('"'),
                        (_, "apos") => inside.push('\''),
                        _ => {}
                    },
                    _ => {}
                }
            }
        }
    }
    found
}

/// How far an upload of pages is, as its mark has it: `BYTE-SUM`.
fn up_to(mark: &str) -> Option<(u64, String)> {
    let (byte, sum) = mark.split_once('-')?;
    Some((byte.parse().ok()?, sum.to_owned()))
}

impl MarketPort<'_, '_> {
    /// The account, made if asked to.
    async fn account(&self, make: bool) -> Result<Option<Account>, PortError> {
        if let Some(known) = self.storage.0.borrow().clone() {
            return Ok(Some(known));
        }
        let (manager, record) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let subscription: String = record.split('/').take(3).collect::<Vec<_>>().join("/");
        let group = format!("{subscription}/resourceGroups/{GROUP}");
        let path = format!("{group}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}");
        let mut found =
            manager.find(&path, STORAGE, absent::RESOURCE).await.map_err(|error| self.records.failed(error))?;
        if found.is_none() && make {
            let location = self.information.region.clone().unwrap_or_else(|| "local".into());
            // A group that is there already is somebody's, and keeps its tags.
            if manager.find(&group, GROUPS, absent::GROUP).await.map_err(|error| self.records.failed(error))?.is_none()
            {
                let body = json!({"location": location, "tags": {TAG: "import"}});
                manager
                    .call(Method::PUT, &group, GROUPS, Some(&body))
                    .await
                    .map_err(|error| being_deleted(self.records, error))?;
            }
            let body =
                json!({"location": location, "kind": "Storage", "sku": {"name": "Standard_LRS"}, "properties": {}});
            found = Some(
                manager
                    .call(Method::PUT, &path, STORAGE, Some(&body))
                    .await
                    .map_err(|error| being_deleted(self.records, error))?,
            );
        }
        let Some(mut resource) = found else { return Ok(None) };
        let endpoint = |resource: &Value| {
            resource.pointer("/properties/primaryEndpoints/blob").and_then(Value::as_str).map(str::to_owned)
        };
        let mut polls = 0;
        let endpoint = loop {
            match endpoint(&resource) {
                Some(endpoint) => break endpoint,
                None if polls > 60 => {
                    let message = format!("the storage account {ACCOUNT} does not say where it is");
                    return Err(PortError::permanent(Problem::new(&code::STAMP_STORAGE, message)));
                }
                // One that was made a moment ago.
                None => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
            }
            polls += 1;
            resource = manager
                .find(&path, STORAGE, absent::RESOURCE)
                .await
                .map_err(|error| self.records.failed(error))?
                .unwrap_or_default();
        };
        // What goes there is signed with the account's key.
        checked(&endpoint, "the stamp's blob endpoint", self.records.http().allow_http())
            .map_err(|error| self.records.failed(error))?;
        let keys = manager
            .call(Method::POST, &format!("{path}/listKeys"), STORAGE, None)
            .await
            .map_err(|error| self.records.failed(error))?;
        let key = keys.pointer("/keys/0/value").and_then(Value::as_str).inspect(|key| redact::remember(key));
        let key = key.and_then(|key| BASE64_STANDARD.decode(key).ok());
        let key = key.map(Zeroizing::new);
        let Some(key) = key else {
            return Err(PortError::permanent(Problem::new(&code::STAMP_STORAGE, "the storage account gives no key")));
        };
        let account = Account { endpoint: format!("{}/", endpoint.trim_end_matches('/')), key };
        self.storage.0.replace(Some(account.clone()));
        Ok(Some(account))
    }

    /// A call to the blob service: `blob` is empty for the container itself, and `/` for the account.
    async fn blob_call(
        &self,
        account: &Account,
        method: Method,
        blob: &str,
        query: &[(&str, &str)],
        headers: &[(&str, String)],
        body: Option<Bytes>,
    ) -> Result<Answer, PortError> {
        let mut url = account.endpoint.clone();
        if blob != "/" {
            url.push_str(CONTAINER);
        }
        if !blob.is_empty() && blob != "/" {
            url.push('/');
            url.push_str(&segment(blob));
        }
        let path = url
            .split_once("://")
            .and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()))
            .unwrap_or_default();
        let now = Timestamp::now() + stamp_clock_skew().unwrap_or_default();
        let mut own: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        own.push(("x-ms-date".into(), now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()));
        own.push(("x-ms-version".into(), BLOBS.into()));
        let length = body.as_ref().map_or(0, Bytes::len);
        let of =
            |name: &str| own.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str()).to_owned();
        let length_text = if length == 0 { String::new() } else { length.to_string() };
        // Verb, twelve headers in this order, then what the service knows of itself.
        let none = of("if-none-match");
        let standard = ["", "", &length_text, &of("content-md5"), &of("content-type"), "", "", "", &none, "", ""];
        let mut text = method.to_string();
        standard.iter().for_each(|part| text.push_str(&format!("\n{part}")));
        let mut special: Vec<&(String, String)> = own.iter().filter(|(name, _)| name.starts_with("x-ms-")).collect();
        special.sort();
        special.iter().for_each(|(name, value)| text.push_str(&format!("\n{name}:{value}")));
        text.push_str(&format!("\n/{ACCOUNT}{path}"));
        let mut sorted = query.to_vec();
        sorted.sort_unstable();
        sorted.iter().for_each(|(name, value)| text.push_str(&format!("\n{name}:{value}")));
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &account.key), text.as_bytes());
        own.push(("authorization".into(), format!("SharedKey {ACCOUNT}:{}", BASE64_STANDARD.encode(signature))));
        let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
        if !pairs.is_empty() {
            url = format!("{url}?{}", pairs.join("&"));
        }
        let sent = self.records.http().raw(method, &url, &own, body).await;
        let (status, headers, body) = sent.map_err(|error| storage_error(error.into(), &url))?;
        Ok(Answer { status: status.as_u16(), headers, body })
    }

    /// A call on an account that has to be there.
    async fn on(
        &self,
        method: Method,
        blob: &str,
        query: &[(&str, &str)],
        headers: &[(&str, String)],
        body: Option<Bytes>,
    ) -> Result<Answer, PortError> {
        let account = self.account(true).await?;
        let Some(account) = account else { return Err(refused(404, "ResourceNotFound")) };
        let answer = self.blob_call(&account, method, blob, query, headers, body).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let said = answer.header("x-ms-error-code").unwrap_or_default();
        if ["ResourceNotFound", "ContainerNotFound", "AccountBeingCreated"].contains(&said) {
            // Another import has cleaned up: where the account is has to be asked for anew.
            self.storage.0.replace(None);
        }
        Err(refusal(&answer))
    }

    /// Likewise, where neither the account nor the blob may be there.
    async fn find_blob(&self, method: Method, blob: &str, query: &[(&str, &str)]) -> Result<Option<Answer>, PortError> {
        let Some(account) = self.account(false).await? else { return Ok(None) };
        let answer = self.blob_call(&account, method, blob, query, &[], None).await?;
        match answer.status {
            404 if absent::BLOB.contains(&answer.header("x-ms-error-code").unwrap_or_default()) => Ok(None),
            // A page of a proxy: the blobs may all be there.
            404 => Err(self.blobs_unclear("the answer is not the blob service's")),
            200..=299 => Ok(Some(answer)),
            _ => Err(refusal(&answer)),
        }
    }

    fn blobs_unclear(&self, reason: &str) -> PortError {
        let (host, what) = ("the stamp's blob service".to_owned(), "a blob or a container".to_owned());
        ArmError::Unclear { host, what, reason: reason.to_owned() }.into()
    }
}

/// A group or account that is just being deleted is waited for.
fn being_deleted(records: &RecordsPort<'_>, error: ArmError) -> PortError {
    let passing = matches!(&error, ArmError::Refused { code, .. } if code.contains("BeingDeleted") || code.contains("Deprovisioning"));
    let error = records.failed(error);
    if passing { PortError::new(Class::Busy, *error.problem) } else { error }
}

fn refusal(answer: &Answer) -> PortError {
    let error = refused(answer.status, answer.header("x-ms-error-code").unwrap_or_default());
    let after = retry_after(&answer.headers);
    match after {
        Some(_) if too_long("the stamp's blob service", after).is_some() => {
            too_long("the stamp's blob service", after).map_or(error, PortError::permanent)
        }
        Some(_) if error.class == Class::Transient => PortError::new(Class::Throttled(after), *error.problem),
        _ => error,
    }
}

fn storage_error(error: PortError, url: &str) -> PortError {
    if error.problem.code.id.starts_with("AZR404") && error.problem.code != &code::NO_ANSWER_IN_TIME {
        return error;
    }
    let mut problem = Problem::new(&code::STAMP_STORAGE, format!("the stamp's blob endpoint {} failed", host_of(url)));
    problem.details.push(error.problem.message.clone());
    let class = if error.class == Class::Permanent { Class::Permanent } else { Class::Transient };
    PortError::new(class, problem)
}

fn refused(status: u16, said: &str) -> PortError {
    let problem = Problem::new(
        &code::STAMP_STORAGE,
        format!("the stamp's blob service refused with HTTP status {status} {said}"),
    );
    // Another import that cleans up, or makes the same blob, is a matter of moments.
    let others = [
        "ContainerBeingDeleted",
        "Md5Mismatch",
        "BlobAlreadyExists",
        "InvalidBlockList",
        "ResourceNotFound",
        "ContainerNotFound",
    ];
    let passing = status >= 500 || status == 408 || status == 429 || others.contains(&said);
    PortError::new(if passing { Class::Transient } else { Class::Permanent }, problem)
}

fn md5_header(bytes: &[u8]) -> (&'static str, String) {
    ("content-md5", BASE64_STANDARD.encode(Md5::digest(bytes)))
}

impl Staging for MarketPort<'_, '_> {
    async fn open(&self) -> Result<(), PortError> {
        let account = self.account(true).await?;
        let Some(account) = account else { return Err(refused(404, "ResourceNotFound")) };
        // The stamp's bridge reads without a signature, as of the offline tool's container.
        let public = [("x-ms-blob-public-access", "blob".to_owned())];
        let container = [("restype", "container")];
        let answer = self.blob_call(&account, Method::PUT, "", &container, &public, None).await?;
        match (answer.status, answer.header("x-ms-error-code").unwrap_or_default()) {
            (200..=299, _) => Ok(()),
            (409, "ContainerAlreadyExists") => {
                let acl = [("restype", "container"), ("comp", "acl")];
                self.on(Method::PUT, "", &acl, &public, None).await.map(drop)
            }
            (404, _) => {
                self.storage.0.replace(None);
                Err(refusal(&answer))
            }
            _ => Err(refusal(&answer)),
        }
    }

    async fn blob(&self, name: &str) -> Result<Option<StagedBlob>, PortError> {
        let Some(answer) = self.find_blob(Method::HEAD, name, &[]).await? else { return Ok(None) };
        Ok(Some(StagedBlob {
            length: answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0),
            sha256: answer.header(SUM).map(str::to_owned),
            begun_for: answer.header(BEGUN_FOR).map(str::to_owned),
            up_to: answer.header(UP_TO).and_then(up_to),
        }))
    }

    async fn blocks(&self, name: &str) -> Result<Vec<String>, PortError> {
        let query = [("comp", "blocklist"), ("blocklisttype", "uncommitted")];
        let Some(answer) = self.find_blob(Method::GET, name, &query).await? else { return Ok(Vec::new()) };
        let plain = |id: &String| String::from_utf8(BASE64_STANDARD.decode(id).ok()?).ok();
        Ok(texts(&answer.body, "Name").iter().filter_map(plain).collect())
    }

    async fn put_block(&self, name: &str, id: &str, bytes: Bytes) -> Result<(), PortError> {
        let headers = [md5_header(&bytes)];
        let id = BASE64_STANDARD.encode(id);
        let query = [("comp", "block"), ("blockid", id.as_str())];
        let Some(account) = self.account(true).await? else { return Err(refused(404, "ResourceNotFound")) };
        let answer = self.blob_call(&account, Method::PUT, name, &query, &headers, Some(bytes.clone())).await?;
        if answer.header("x-ms-error-code") == Some("InvalidBlobOrBlock") {
            // Blocks of another tool wait there under ids of another length: an empty blob discards them.
            let empty = [("x-ms-blob-type", "BlockBlob".to_owned())];
            self.on(Method::PUT, name, &[], &empty, None).await?;
        } else if (200..300).contains(&answer.status) {
            (self.sent)(bytes.len() as u64);
            return Ok(());
        }
        let length = bytes.len() as u64;
        self.on(Method::PUT, name, &query, &headers, Some(bytes)).await?;
        (self.sent)(length);
        Ok(())
    }

    async fn commit(&self, name: &str, ids: &[String], sha256: &str) -> Result<(), PortError> {
        let mut xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>".to_owned();
        ids.iter().for_each(|id| xml.push_str(&format!("<Latest>{}</Latest>", BASE64_STANDARD.encode(id))));
        xml.push_str("</BlockList>");
        let headers = [(SUM, sha256.to_owned()), ("content-type", "application/xml".to_owned())];
        self.on(Method::PUT, name, &[("comp", "blocklist")], &headers, Some(xml.into())).await.map(drop)
    }

    async fn create_pages(&self, name: &str, length: u64, begun_for: &str) -> Result<(), PortError> {
        let headers = [
            ("x-ms-blob-type", "PageBlob".to_owned()),
            ("x-ms-blob-content-length", length.to_string()),
            (BEGUN_FOR, begun_for.to_owned()),
            // Never over one that another import has begun meanwhile.
            ("if-none-match", "*".to_owned()),
        ];
        self.on(Method::PUT, name, &[], &headers, None).await.map(drop)
    }

    async fn put_pages(&self, name: &str, from: u64, bytes: Bytes) -> Result<(), PortError> {
        let range = format!("bytes={from}-{}", from + bytes.len() as u64 - 1);
        let headers = [md5_header(&bytes), ("x-ms-page-write", "update".to_owned()), ("x-ms-range", range)];
        let length = bytes.len() as u64;
        self.on(Method::PUT, name, &[("comp", "page")], &headers, Some(bytes)).await?;
        (self.sent)(length);
        Ok(())
    }

    async fn mark_pages(&self, name: &str, begun_for: &str, (byte, sum): (u64, &str)) -> Result<(), PortError> {
        let headers = [(BEGUN_FOR, begun_for.to_owned()), (UP_TO, format!("{byte}-{sum}"))];
        self.on(Method::PUT, name, &[("comp", "metadata")], &headers, None).await.map(drop)
    }

    async fn finish_pages(&self, name: &str, sha256: &str) -> Result<(), PortError> {
        let headers = [(SUM, sha256.to_owned())];
        self.on(Method::PUT, name, &[("comp", "metadata")], &headers, None).await.map(drop)
    }

    async fn address(&self, name: &str) -> Result<String, PortError> {
        let account = self.account(true).await?;
        let endpoint = account.map(|account| account.endpoint).unwrap_or_default();
        Ok(format!("{endpoint}{CONTAINER}/{}", segment(name)))
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        self.find_blob(Method::DELETE, name, &[]).await.map(drop)
    }

    async fn close(&self) -> Result<Option<String>, PortError> {
        let (manager, record) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let subscription: String = record.split('/').take(3).collect::<Vec<_>>().join("/");
        let group = format!("{subscription}/resourceGroups/{GROUP}");
        let Some(found) =
            manager.find(&group, GROUPS, absent::GROUP).await.map_err(|error| self.records.failed(error))?
        else {
            return Ok(None);
        };
        if found["tags"].get(TAG).is_none() {
            return Ok(Some("azsreg did not make it".into()));
        }
        let accounts = manager
            .list(&format!("{group}/providers/Microsoft.Storage/storageAccounts"), STORAGE, absent::RESOURCE)
            .await;
        if accounts
            .map_err(|error| self.records.failed(error))?
            .iter()
            .any(|account| account["name"].as_str() != Some(ACCOUNT))
        {
            return Ok(Some("another storage account is in it".into()));
        }
        let containers = self.all("/", &[("comp", "list")]).await?;
        if let Some(other) = containers.iter().find(|container| *container != CONTAINER) {
            return Ok(Some(format!("its account has another container, {other}")));
        }
        // Blobs that somebody is still uploading have no list yet: they count as well.
        let list = [("comp", "list"), ("include", "uncommittedblobs"), ("restype", "container")];
        let left = self.all("", &list).await?;
        if let Some(blob) = left.first() {
            let count = left.len();
            return Ok(Some(format!(
                "{count} files are in it, {blob} among them: another import is at work or was broken off"
            )));
        }
        self.storage.0.replace(None);
        manager.delete(&group, GROUPS, absent::GROUP).await.map_err(|error| self.records.failed(error))?;
        Ok(None)
    }
}

impl MarketPort<'_, '_> {
    /// All names of a list of the blob service.
    async fn all(&self, of: &str, query: &[(&str, &str)]) -> Result<Vec<String>, PortError> {
        let (mut names, mut marker) = (Vec::new(), String::new());
        let (mut seen, mut held) = (std::collections::HashSet::new(), 0);
        let host = "the stamp's blob service";
        loop {
            let mut query = query.to_vec();
            if !marker.is_empty() {
                query.push(("marker", &marker));
            }
            let Some(answer) = self.find_blob(Method::GET, of, &query).await? else {
                // A first page that is not there is an empty list; a later one is not its end.
                return if marker.is_empty() {
                    Ok(names)
                } else {
                    Err(self.blobs_unclear("a page of the list is gone"))
                };
            };
            if !is_list(&answer.body) {
                return Err(self.blobs_unclear("the answer is no list"));
            }
            let page = texts(&answer.body, "Name");
            // A page costs something even where it names nothing: a list of empty pages ends too.
            held += 4_096 + page.iter().map(|name| 64 + name.len()).sum::<usize>();
            if held > MAX_HELD {
                return Err(self.records.failed(too_large(&format!("a list of {host}"), "bytes", MAX_HELD)));
            }
            names.extend(page);
            match texts(&answer.body, "NextMarker").pop().filter(|marker| !marker.is_empty()) {
                Some(next) if !seen.insert(next.clone()) => return Err(self.records.failed(loops(host))),
                Some(next) => marker = next,
                None => return Ok(names),
            }
        }
    }
}

/// Whether a body is a list of the blob service, whole to its end.
fn is_list(body: &[u8]) -> bool {
    let body = String::from_utf8_lossy(body);
    body.contains("<EnumerationResults") && body.trim_end().ends_with("</EnumerationResults>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::SignIn;
    use crate::place::Known;
    use crate::records::RecordsPort;
    use crate::testing::{GONE, Nobody, http, metadata, server, stamp};

    #[test]
    fn what_is_no_list_is_no_empty_list() {
        let list = "<?xml version=\"1.0\"?><EnumerationResults><Blobs /><NextMarker /></EnumerationResults>\n";
        assert!(is_list(list.as_bytes()));
        for other in ["", "{}", "<html></html>", &list[..60]] {
            assert!(!is_list(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn names_come_out_of_a_list_as_they_are() {
        let xml = "\u{feff}<?xml version=\"1.0\"?><E><Blobs><Blob><Name>a &amp; b</Name></Blob><Blob><Name>c</Name></Blob></Blobs><NextMarker /></E>";
        assert_eq!(texts(xml.as_bytes(), "Name"), ["a & b", "c"]);
        assert!(texts(xml.as_bytes(), "NextMarker").is_empty());
    }

    /// What closing the account ends with, of a stamp whose blob service is at `blobs` and lists its containers so.
    async fn closed(blobs: Option<&str>, containers: &str) -> String {
        let (login, _) = server(vec![("/", json!({"access_token": "t", "expires_in": 3600}).to_string())]).await;
        let later = ("/?comp=list&marker=gone", GONE.to_owned());
        let (own, received) = server(vec![later, ("/", containers.to_owned())]).await;
        let group = "/subscriptions/s/resourceGroups/System.syndication";
        let account = "/subscriptions/s/resourceGroups/System.syndication/providers/Microsoft.Storage/storageAccounts";
        let (named, keys) =
            (format!("{account}/syndicationstorage?"), format!("{account}/syndicationstorage/listKeys"));
        let blob = blobs.unwrap_or(&own);
        let text = |body: Value| body.to_string();
        let leak = |path: String| -> &'static str { Box::leak(path.into_boxed_str()) };
        let (arm, _) = server(vec![
            ("/metadata", metadata(&format!("{login}/t"), "https://adminmanagement.c.onmicrosoft.com/1")),
            (
                "/subscriptions?",
                text(json!({"value": [{"displayName": "Default Provider Subscription", "subscriptionId": "s"}]})),
            ),
            (leak(keys), text(json!({"keys": [{"value": "a2V5"}]}))),
            (leak(named), text(json!({"properties": {"primaryEndpoints": {"blob": blob}}}))),
            (account, text(json!({"value": [{"name": "syndicationstorage"}]}))),
            (group, text(json!({"tags": {"azsreg": "import"}}))),
        ])
        .await;
        let http = http(true);
        let sign_in = SignIn::ClientSecret { client: uuid::Uuid::nil(), secret: "s".to_owned().into() };
        let records = RecordsPort::new(&http, &http, sign_in, &Nobody, Known::default());
        let port = MarketPort::new(&records, &stamp(&arm), Box::new(|_| {}));
        let ended = match port.close().await {
            Ok(why) => format!("closed: {}", why.unwrap_or_default()),
            Err(error) => error.problem.code.id.to_owned(),
        };
        let signed = received.lock().unwrap().iter().filter(|sent| sent.contains("SharedKey")).count();
        format!("{ended}, {signed} calls")
    }

    #[tokio::test]
    async fn a_list_of_blobs_does_not_go_round_and_its_service_is_https() {
        let page = |more: &str| {
            let other = "<Containers><Container><Name>other</Name></Container></Containers>";
            format!("<EnumerationResults>{other}{more}</EnumerationResults>")
        };
        assert_eq!(closed(None, &page("")).await, "closed: its account has another container, other, 1 calls");
        assert_eq!(closed(None, &page("<NextMarker>m</NextMarker>")).await, "AZR4042, 2 calls");
        // A later page that is gone is not the end of the list.
        assert_eq!(closed(None, &page("<NextMarker>gone</NextMarker>")).await, "AZR4037, 2 calls");
        assert_eq!(closed(Some("http://blob.east.corp/"), &page("")).await, "AZR4040, 0 calls");
    }
}
