//! The blob service of a stamp's storage accounts: block and page blobs, with their bytes in files.
//!
//! Bytes are on the disk before they are acknowledged, as the world is that knows of them.
//!
//! As much of the protocol as an import uses, checked as the real service checks it: signatures, MD5s, page alignment.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use hyper::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::files;
use crate::http::{self, Body, Read, Reply, header, pairs, text, value};
use crate::lab::{StampState, State};
use crate::storage::{self, About, Account, StorageError, escaped};
use crate::world::accounts::{Container, StoredBlob};
use crate::world::stamp::Stamp;

/// One write has this many bytes at most ("Put Page").
const MAX_PAGES: u64 = 4 << 20;

/// Which blob.
struct Name {
    account: String,
    container: String,
    blob: String,
}

/// The file with a blob's bytes.
fn file_of(root: &Path, stamp: &str, name: &Name) -> PathBuf {
    let digest = Sha256::digest(format!("{stamp}/{}/{}/{}", name.account, name.container, name.blob));
    root.join(digest.iter().take(12).fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

fn block_file(file: &Path, id: &str) -> PathBuf {
    let hex = id.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    file.with_extension(format!("b{hex}"))
}

fn broken(error: std::io::Error) -> StorageError {
    if files::is_full(&error) {
        return StorageError::new(507, "InsufficientStorage", "The lab could not keep this: the disk is full.");
    }
    StorageError::new(500, "InternalError", "The server encountered an internal error. Please retry the request.")
}

fn refused(status: u16, code: &'static str, message: &str) -> StorageError {
    StorageError::new(status, code, message)
}

fn no_container() -> StorageError {
    refused(404, "ContainerNotFound", "The specified container does not exist.")
}

pub(crate) fn handle(state: &State, stamp: &StampState, request: &Read) -> Reply {
    let mut reply = answer(state, stamp, request).unwrap_or_else(|error| error.reply());
    storage::common(&mut reply);
    if request.method() == "HEAD" {
        *reply.body_mut() = Body::Whole(None);
    }
    reply
}

fn answer(state: &State, stamp: &StampState, request: &Read) -> Result<Reply, StorageError> {
    let segments = http::segments(request.uri().path());
    let Some(account) = segments.first() else {
        return Err(refused(400, "InvalidUri", "The requested URI does not represent any resource on the server."));
    };
    let query = pairs(request.uri().query().unwrap_or_default());
    let name = Name {
        account: account.clone(),
        container: segments.get(1).cloned().unwrap_or_default(),
        blob: segments.get(2..).unwrap_or_default().join("/"),
    };
    let mut world = stamp.world();
    let key = world.accounts.accounts.get(account).map(|known| known.key.clone());
    let key = key.ok_or_else(|| refused(404, "ResourceNotFound", "The specified resource does not exist."))?;
    let owner = Account { name: account.clone(), key: BASE64_STANDARD.decode(key).unwrap_or_default() };
    let reads = ["GET", "HEAD"].contains(&request.method().as_str()) && !name.blob.is_empty();
    if storage::has_sas(&query) {
        let permission = if reads { 'r' } else { 'w' };
        owner.check_sas(&query, (&name.container, &name.blob), permission, state.now())?;
    } else if !(reads && is_public(&world, &name)) {
        owner.check_key(request)?;
    }
    let file = file_of(&state.blob_dir, &stamp.name, &name);
    if name.blob.is_empty() {
        container(&mut world, request, &query, &name)
    } else {
        blob(state, &mut world, request, &query, &name, &file)
    }
}

fn is_public(world: &Stamp, name: &Name) -> bool {
    let account = world.accounts.accounts.get(&name.account);
    account.and_then(|account| account.containers.get(&name.container)).is_some_and(|container| container.public)
}

fn containers<'w>(
    world: &'w mut Stamp,
    name: &Name,
) -> Result<&'w mut std::collections::BTreeMap<String, Container>, StorageError> {
    let account = world.accounts.accounts.get_mut(&name.account);
    Ok(&mut account
        .ok_or_else(|| refused(404, "ResourceNotFound", "The specified resource does not exist."))?
        .containers)
}

fn container(
    world: &mut Stamp,
    request: &Read,
    query: &[(String, String)],
    name: &Name,
) -> Result<Reply, StorageError> {
    let of = |name: &str| value(query, name).unwrap_or_default();
    let containers = containers(world, name)?;
    match (request.method().as_str(), of("restype"), of("comp")) {
        ("GET", "", "list") if name.container.is_empty() => {
            let mut xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Containers>".to_owned();
            for name in containers.keys() {
                let _ = write!(xml, "<Container><Name>{}</Name><Properties></Properties></Container>", escaped(name));
            }
            xml.push_str("</Containers><NextMarker /></EnumerationResults>");
            Ok(as_xml(xml))
        }
        ("PUT", "container", "acl") => {
            let known = containers.get_mut(&name.container).ok_or_else(no_container)?;
            known.public = request.headers().get("x-ms-blob-public-access").is_some();
            Ok(text(StatusCode::OK, ""))
        }
        ("PUT", "container", "") => {
            if containers.contains_key(&name.container) {
                return Err(refused(409, "ContainerAlreadyExists", "The specified container already exists."));
            }
            let open = request.headers().get("x-ms-blob-public-access").is_some();
            containers.insert(name.container.clone(), Container { public: open, ..Container::default() });
            Ok(text(StatusCode::CREATED, ""))
        }
        ("GET" | "HEAD", "container", "") => {
            containers.get(&name.container).ok_or_else(no_container)?;
            Ok(text(StatusCode::OK, ""))
        }
        ("DELETE", "container", "") => {
            containers.remove(&name.container).ok_or_else(no_container)?;
            Ok(text(StatusCode::ACCEPTED, ""))
        }
        ("GET", "container", "list") => {
            let known = containers.get(&name.container).ok_or_else(no_container)?;
            let (prefix, all) = (of("prefix"), of("include").contains("uncommittedblobs"));
            let mut xml = format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{}\"><Blobs>",
                escaped(&name.container)
            );
            for (name, blob) in
                known.blobs.iter().filter(|(name, blob)| (blob.committed || all) && name.starts_with(prefix))
            {
                let kind = if blob.page { "PageBlob" } else { "BlockBlob" };
                let modified = blob.modified.strftime("%a, %d %b %Y %H:%M:%S GMT");
                let _ = write!(
                    xml,
                    "<Blob><Name>{}</Name><Properties><Last-Modified>{modified}</Last-Modified><Etag>{}</Etag><Content-Length>{}</Content-Length><BlobType>{kind}</BlobType></Properties></Blob>",
                    escaped(name),
                    escaped(&blob.etag()),
                    blob.length
                );
            }
            xml.push_str("</Blobs><NextMarker /></EnumerationResults>");
            Ok(as_xml(xml))
        }
        _ => Err(refused(400, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")),
    }
}

fn as_xml(xml: String) -> Reply {
    let mut reply = text(StatusCode::OK, xml);
    header(&mut reply, "content-type", "application/xml");
    reply
}

fn blob(
    state: &State,
    world: &mut Stamp,
    request: &Read,
    query: &[(String, String)],
    name: &Name,
    file: &Path,
) -> Result<Reply, StorageError> {
    let of = |name: &str| value(query, name).unwrap_or_default();
    let given = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let now = state.now();
    let body = request.body();
    let sum = BASE64_STANDARD.encode(storage::md5(std::iter::once(body.clone())));
    if !given("content-md5").is_empty() && given("content-md5") != sum {
        return Err(refused(
            400,
            "Md5Mismatch",
            "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
        ));
    }
    let blobs = &mut containers(world, name)?.get_mut(&name.container).ok_or_else(no_container)?.blobs;
    let metadata = || {
        request
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().strip_prefix("x-ms-meta-")?.to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    match (request.method().as_str(), of("comp")) {
        ("PUT", "") => {
            let page = given("x-ms-blob-type").eq_ignore_ascii_case("PageBlob");
            if !page && !given("x-ms-blob-type").eq_ignore_ascii_case("BlockBlob") {
                return Err(refused(
                    400,
                    "InvalidHeaderValue",
                    "The value for one of the HTTP headers is not in the correct format.",
                ));
            }
            if given("if-none-match") == "*" && blobs.get(&name.blob).is_some_and(|blob| blob.committed) {
                return Err(refused(409, "BlobAlreadyExists", "The specified blob already exists."));
            }
            files::private_directory(&state.blob_dir).map_err(broken)?;
            let made = if page {
                let length: u64 = given("x-ms-blob-content-length").parse().unwrap_or(1);
                if !length.is_multiple_of(512) {
                    return Err(refused(
                        400,
                        "InvalidHeaderValue",
                        "The value for one of the HTTP headers is not in the correct format.",
                    ));
                }
                files::write_private_with(file, |draft| draft.set_len(length)).map_err(broken)?;
                StoredBlob { metadata: metadata(), ..StoredBlob::new(true, length, now) }
            } else {
                files::write_private(file, body).map_err(broken)?;
                let length = body.len() as u64;
                StoredBlob {
                    committed: true,
                    md5: Some(sum),
                    metadata: metadata(),
                    ..StoredBlob::new(false, length, now)
                }
            };
            let mut reply = text(StatusCode::CREATED, "");
            header(&mut reply, "etag", &made.etag());
            blobs.insert(name.blob.clone(), made);
            Ok(reply)
        }
        ("PUT", "block") => {
            let id = of("blockid");
            if BASE64_STANDARD.decode(id).map_or(true, |id| id.is_empty() || id.len() > 64) {
                return Err(refused(
                    400,
                    "InvalidQueryParameterValue",
                    "Value for one of the query parameters specified in the request URI is invalid.",
                ));
            }
            let known = blobs.entry(name.blob.clone()).or_insert_with(|| StoredBlob::new(false, 0, now));
            if known.page {
                return Err(refused(409, "InvalidBlobType", "The blob type is invalid for this operation."));
            }
            // All ids of a blob are of one length.
            if known.waiting.iter().any(|(other, _)| other.len() != id.len()) {
                return Err(refused(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid."));
            }
            files::private_directory(&state.blob_dir)
                .and_then(|()| files::write_private(&block_file(file, id), body))
                .map_err(broken)?;
            known.waiting.retain(|(other, _)| other != id);
            known.waiting.push((id.to_owned(), body.len() as u64));
            let mut reply = text(StatusCode::CREATED, "");
            header(&mut reply, "content-md5", &sum);
            Ok(reply)
        }
        ("PUT", "blocklist") => {
            let known = blobs.entry(name.blob.clone()).or_insert_with(|| StoredBlob::new(false, 0, now));
            let list = String::from_utf8_lossy(body).into_owned();
            let mut chosen = Vec::new();
            for part in list
                .split('<')
                .filter(|part| ["Latest>", "Uncommitted>", "Committed>"].iter().any(|tag| part.starts_with(tag)))
            {
                let id = part.split_once('>').map_or("", |(_, id)| id.trim()).to_owned();
                let found = known.waiting.iter().chain(&known.blocks).find(|(other, _)| *other == id).cloned();
                chosen.push(
                    found.ok_or_else(|| refused(400, "InvalidBlockList", "The specified block list is invalid."))?,
                );
            }
            let whole = files::write_private_with(file, |out| {
                chosen.iter().try_for_each(|(id, _)| out.write_all(&std::fs::read(block_file(file, id))?))
            });
            whole.map_err(broken)?;
            known.length = chosen.iter().map(|(_, length)| length).sum();
            known.blocks = chosen;
            known.waiting.clear();
            known.committed = true;
            known.metadata = metadata();
            known.md5 = Some(given("x-ms-blob-content-md5").to_owned()).filter(|md5| !md5.is_empty());
            known.touch(now);
            let mut reply = text(StatusCode::CREATED, "");
            header(&mut reply, "etag", &known.etag());
            Ok(reply)
        }
        ("GET", "blocklist") => {
            let known = blobs.get(&name.blob).ok_or_else(StorageError::missing)?;
            let list = |blocks: &[(String, u64)]| {
                blocks.iter().fold(String::new(), |mut text, (id, length)| {
                    let _ = write!(text, "<Block><Name>{id}</Name><Size>{length}</Size></Block>");
                    text
                })
            };
            let kind = of("blocklisttype");
            let mut xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>".to_owned();
            if kind != "uncommitted" {
                let _ = write!(xml, "<CommittedBlocks>{}</CommittedBlocks>", list(&known.blocks));
            }
            if kind == "uncommitted" || kind == "all" {
                let _ = write!(xml, "<UncommittedBlocks>{}</UncommittedBlocks>", list(&known.waiting));
            }
            xml.push_str("</BlockList>");
            let mut reply = as_xml(xml);
            header(&mut reply, "x-ms-blob-content-length", &known.length.to_string());
            Ok(reply)
        }
        ("PUT", "page") => {
            let known = blobs.get_mut(&name.blob).ok_or_else(StorageError::missing)?;
            let spec = if given("x-ms-range").is_empty() { given("range") } else { given("x-ms-range") };
            let bounds = spec.strip_prefix("bytes=").and_then(|r| r.split_once('-'));
            let bounds =
                bounds.and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?.checked_add(1)?)));
            let (from, to) = bounds.ok_or_else(|| {
                refused(
                    400,
                    "InvalidHeaderValue",
                    "The value for one of the HTTP headers is not in the correct format.",
                )
            })?;
            let clear = given("x-ms-page-write").eq_ignore_ascii_case("clear");
            let whole = known.page && from % 512 == 0 && to % 512 == 0 && from < to && to <= known.length;
            if !whole || (!clear && (to - from > MAX_PAGES || body.len() as u64 != to - from)) {
                return Err(refused(416, "InvalidPageRange", "The page range specified is invalid."));
            }
            let mut out = OpenOptions::new().write(true).open(file).map_err(broken)?;
            out.seek(SeekFrom::Start(from)).map_err(broken)?;
            if clear {
                out.write_all(&vec![0; usize::try_from(to - from).unwrap_or(0)]).map_err(broken)?;
            } else {
                out.write_all(body).map_err(broken)?;
            }
            out.sync_data().map_err(broken)?;
            known.mark(from, to, !clear);
            known.touch(now);
            let mut reply = text(StatusCode::CREATED, "");
            header(&mut reply, "etag", &known.etag());
            header(&mut reply, "content-md5", &sum);
            Ok(reply)
        }
        ("GET", "pagelist") => {
            let known = blobs.get(&name.blob).filter(|blob| blob.page).ok_or_else(StorageError::missing)?;
            let mut xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>".to_owned();
            for (from, to) in &known.pages {
                let _ = write!(xml, "<PageRange><Start>{from}</Start><End>{}</End></PageRange>", to - 1);
            }
            xml.push_str("</PageList>");
            let mut reply = as_xml(xml);
            header(&mut reply, "x-ms-blob-content-length", &known.length.to_string());
            Ok(reply)
        }
        ("PUT", "metadata") => {
            let known = blobs.get_mut(&name.blob).filter(|blob| blob.committed).ok_or_else(StorageError::missing)?;
            known.metadata = metadata();
            known.touch(now);
            let mut reply = text(StatusCode::OK, "");
            header(&mut reply, "etag", &known.etag());
            Ok(reply)
        }
        ("DELETE", "") => {
            blobs.remove(&name.blob).filter(|blob| blob.committed).ok_or_else(StorageError::missing)?;
            let _ = std::fs::remove_file(file);
            Ok(text(StatusCode::ACCEPTED, ""))
        }
        ("GET" | "HEAD", "") => {
            let known = blobs.get(&name.blob).filter(|blob| blob.committed).ok_or_else(StorageError::missing)?;
            let md5 = known.md5.as_deref().and_then(|md5| BASE64_STANDARD.decode(md5).ok()?.try_into().ok());
            let about = About {
                length: known.length,
                etag: known.etag(),
                modified: known.modified,
                md5,
                kind: if known.page { "PageBlob" } else { "BlockBlob" },
                content_type: "application/octet-stream",
            };
            let pieces = |from, to| Box::new(file_pieces(file, from, to)) as storage::Pieces;
            let sum = |from, to| storage::md5(file_pieces(file, from, to).map_while(Result::ok));
            let (mut reply, _, _) = storage::read(request, &about, pieces, sum)?;
            for (name, value) in &known.metadata {
                let name = hyper::header::HeaderName::from_bytes(format!("x-ms-meta-{name}").as_bytes());
                if let (Ok(name), Ok(value)) = (name, value.parse()) {
                    reply.headers_mut().insert(name, value);
                }
            }
            Ok(reply)
        }
        _ => Err(refused(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")),
    }
}

/// The bytes of a file from `from` to before `to`.
fn file_pieces(path: &Path, from: u64, to: u64) -> impl Iterator<Item = std::io::Result<Bytes>> + Send + use<> {
    let opened = File::open(path).and_then(|mut file| file.seek(SeekFrom::Start(from)).map(|_| file));
    let mut left = to - from;
    let mut opened = Some(opened);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let file = match opened.as_mut()? {
            Ok(file) => file,
            Err(_) => return opened.take()?.err().map(Err),
        };
        let mut piece = vec![0; usize::try_from(left.min(256 << 10)).unwrap_or(0)];
        match file.read_exact(&mut piece) {
            Ok(()) => {
                left -= piece.len() as u64;
                Some(Ok(piece.into()))
            }
            Err(error) => {
                opened = None;
                Some(Err(error))
            }
        }
    })
}

/// How many bytes a blob has that an import names by its address, if it may be read with that.
pub(crate) fn named_blob(state: &State, stamp: &StampState, address: &str) -> Result<u64, String> {
    let base = format!("{}/", stamp.urls().blobs);
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    let inside = decoded
        .strip_prefix(&base)
        .ok_or_else(|| format!("{path} is not in a storage account of this Azure Stack."))?;
    let mut parts = inside.splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let name = Name { account: next(), container: next(), blob: next() };
    let world = stamp.world();
    let account = world
        .accounts
        .accounts
        .get(&name.account)
        .ok_or_else(|| format!("The storage account {} does not exist.", name.account))?;
    let query = pairs(query);
    // The bridge has no rights of its own on an operator's account: the address has to carry them, or everybody has them.
    if !is_public(&world, &name) {
        let owner =
            Account { name: account.name.clone(), key: BASE64_STANDARD.decode(&account.key).unwrap_or_default() };
        owner
            .check_sas(&query, (&name.container, &name.blob), 'r', state.now())
            .map_err(|error| format!("{path}: {}", error.1))?;
    }
    let blob =
        account.containers.get(&name.container).and_then(|c| c.blobs.get(&name.blob)).filter(|blob| blob.committed);
    let blob = blob.ok_or_else(|| format!("The blob {path} does not exist."))?;
    if blob.length == 0 {
        return Err(format!("The blob {path} is empty."));
    }
    Ok(blob.length)
}

/// Every blob of a stamp with the sum of its bytes, for looking behind the wires.
pub(crate) fn contents(state: &State, stamp: &StampState) -> serde_json::Value {
    let world = stamp.world();
    let mut all = Vec::new();
    for account in world.accounts.accounts.values() {
        for (container, inside) in &account.containers {
            for (name, blob) in &inside.blobs {
                let of = Name { account: account.name.clone(), container: container.clone(), blob: name.clone() };
                let file = file_of(&state.blob_dir, &stamp.name, &of);
                let mut sum = Sha256::new();
                file_pieces(&file, 0, blob.length).map_while(Result::ok).for_each(|piece| sum.update(&piece));
                let sum = sum.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
                all.push(serde_json::json!({
                    "container": container, "name": name, "bytes": blob.length, "committed": blob.committed,
                    "waiting": blob.waiting.len(), "sha256": sum, "metadata": blob.metadata,
                }));
            }
        }
    }
    serde_json::Value::Array(all)
}
