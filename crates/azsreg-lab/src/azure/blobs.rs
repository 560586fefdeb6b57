//! The storage account of Azure's marketplace: packages behind signatures that expire, icons for everybody. Nothing is
//! stored: content is made as it is sent, and its MD5 is known for what is not too large (as of real page blobs, mostly
//! none is).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::{self, Body, Read, Reply, pairs};
use crate::lab::{State, lock};
use crate::storage::{self, About, Account, StorageError};
use crate::world::catalogue;
use crate::world::content::Content;

/// The account's name.
const ACCOUNT: &str = "azstmktlab";
/// Blobs above this have no MD5 of the whole.
const MD5_UP_TO: u64 = 256 << 20;

struct Blob {
    content: Content,
    etag: String,
    md5: OnceLock<Option<[u8; 16]>>,
}

/// What was asked of the account.
#[derive(Debug, Clone)]
struct Served {
    path: String,
    from: u64,
    to: u64,
}

/// The account's state: what was made once is kept, and who asked for what.
pub(crate) struct Blobs {
    account: Account,
    seed: u64,
    made: Mutex<HashMap<String, Arc<Blob>>>,
    served: Mutex<Vec<Served>>,
}

impl Blobs {
    pub(crate) fn new(seed: u64) -> Self {
        let key = Sha256::digest(format!("azsreg lab storage {seed}")).to_vec();
        Self { account: Account { name: ACCOUNT.into(), key }, seed, made: Mutex::default(), served: Mutex::default() }
    }

    /// Where the account is, without a slash at the end.
    pub(crate) fn base(state: &State) -> String {
        format!("{}/{ACCOUNT}", state.urls().blobs)
    }

    /// The address of a blob that may be read until `end`.
    pub(crate) fn signed(&self, base: &str, path: &str, end: Timestamp) -> String {
        format!("{base}/{path}?{}", self.account.sas(path, end))
    }

    fn blob(&self, path: &str) -> Option<Arc<Blob>> {
        if let Some(known) = lock(&self.made).get(path) {
            return Some(Arc::clone(known));
        }
        let content = catalogue::blob(self.seed, path)?;
        let digest = Sha256::digest(format!("{}|{path}", self.seed));
        let etag = digest.iter().take(6).fold("\"0x8D".to_owned(), |text, byte| format!("{text}{byte:02X}")) + "\"";
        let blob = Arc::new(Blob { content, etag, md5: OnceLock::new() });
        lock(&self.made).insert(path.to_owned(), Arc::clone(&blob));
        Some(blob)
    }

    /// An address of an item's disk or archive, without asking Resource Manager.
    pub(crate) fn payload(&self, state: &State, item: &str) -> Option<String> {
        let (_, payload) = catalogue::find(item)?.blobs();
        Some(self.signed(&Self::base(state), &payload?, state.now() + state.signed_for()))
    }

    /// The ranges that were asked for, oldest first.
    pub(crate) fn served(&self) -> Value {
        let served = lock(&self.served).clone();
        json!(served.iter().map(|s| json!({"path": s.path, "from": s.from, "to": s.to})).collect::<Vec<_>>())
    }

    pub(crate) fn forget(&self) {
        lock(&self.served).clear();
    }
}

pub(crate) async fn handle(state: &Arc<State>, request: &Read) -> Reply {
    let mut reply = match get(state, request).await {
        Ok(reply) => reply,
        Err(error) => error.reply(),
    };
    storage::common(&mut reply);
    if request.method() == "HEAD" {
        *reply.body_mut() = Body::Whole(None);
    }
    reply
}

async fn get(state: &Arc<State>, request: &Read) -> Result<Reply, StorageError> {
    let method = request.method().as_str();
    if !["GET", "HEAD"].contains(&method) {
        return Ok(http::text(StatusCode::METHOD_NOT_ALLOWED, ""));
    }
    let segments = http::segments(request.uri().path());
    let [account, container, rest @ ..] = &segments[..] else { return Err(StorageError::missing()) };
    let (path, inside) = (format!("{container}/{}", rest.join("/")), rest.join("/"));
    if account != ACCOUNT || rest.is_empty() {
        return Err(StorageError::new(404, "ResourceNotFound", "The specified resource does not exist."));
    }
    let query = pairs(request.uri().query().unwrap_or_default());
    if container != "icons" {
        if !storage::has_sas(&query) {
            return Err(StorageError::new(404, "ResourceNotFound", "The specified resource does not exist."));
        }
        state.blobs.account.check_sas(&query, (container, &inside), 'r', state.now())?;
    }
    let making = {
        let (state, path) = (Arc::clone(state), path.clone());
        // Sums of hundreds of megabytes are nobody else's waiting.
        tokio::task::spawn_blocking(move || {
            let blob = state.blobs.blob(&path)?;
            blob.md5.get_or_init(|| {
                let length = blob.content.length();
                (length <= MD5_UP_TO).then(|| storage::md5(blob.content.pieces(0, length)))
            });
            Some(blob)
        })
    };
    let blob = making.await.ok().flatten().ok_or_else(StorageError::missing)?;
    let page = path.ends_with(".vhd");
    match http::value(&query, "comp") {
        None => {}
        // A simulated disk has no hole.
        Some("pagelist") if page && method == "GET" => {
            let end = blob.content.length().saturating_sub(1);
            let xml = format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList><PageRange><Start>0</Start><End>{end}</End></PageRange></PageList>"
            );
            let mut reply = http::text(StatusCode::OK, xml);
            http::header(&mut reply, "content-type", "application/xml");
            http::header(&mut reply, "x-ms-blob-content-length", &blob.content.length().to_string());
            return Ok(reply);
        }
        Some(_) => {
            let message = "Value for one of the query parameters specified in the request URI is invalid.";
            return Err(StorageError::new(400, "InvalidQueryParameterValue", message));
        }
    }
    let about = About {
        length: blob.content.length(),
        etag: blob.etag.clone(),
        modified: "2025-03-01T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH),
        md5: blob.md5.get().copied().flatten(),
        kind: if page { "PageBlob" } else { "BlockBlob" },
        content_type: if path.ends_with(".png") { "image/png" } else { "application/octet-stream" },
    };
    let pieces = |from, to| Box::new(blob.content.pieces(from, to).map(Ok::<Bytes, std::io::Error>)) as storage::Pieces;
    let (reply, from, to) =
        storage::read(request, &about, pieces, |from, to| storage::md5(blob.content.pieces(from, to)))?;
    if method == "GET" && container != "icons" {
        lock(&state.blobs.served).push(Served { path, from, to });
    }
    Ok(reply)
}
