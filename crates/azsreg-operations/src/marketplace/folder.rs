//! The folder that is carried: how files are written into it so that nothing is lost by a kill, and how they are verified.
//!
//! While an item is fetched, each file lies under `NAME.part` beside a ledger of sums: after every mebibyte, the SHA-256 of
//! all that was written so far. A run that goes on sums the file up again and keeps what the ledger agrees with, so that
//! neither a kill nor a power failure leaves a byte that was not looked at. The manifest comes last, whole or not at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use azsreg_model::{ItemFile, ItemManifest, MANIFEST, Problem, code, hex, is_file_name};
use bytes::Bytes;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{BlobAbout, Sink};
use crate::crash;
use crate::files::{
    self,
    input::{self, Input},
    kept,
    output::{self, Rights},
};

/// The ledger's name in the item's folder.
pub(super) const LEDGER: &str = "azsreg-download.jsonl";
/// The list of what a folder should hold: an item that was not copied at all is missed by it.
pub(super) const LIST: &str = "azsreg-items.json";
/// After so many bytes the ledger has a sum. No byte that was fetched is fetched again beyond four of these.
const BLOCK: u64 = 1 << 20;
/// Bytes go to the disk in pieces of this length at most, and so many wait for it.
const PIECE: usize = 128 << 10;
const WAITING: usize = 8;
/// A ledger that is longer is none.
const MAX_LEDGER: u64 = 1 << 30;

/// A failure to write, as an operator sees it: a full disk is one that can be mended.
#[must_use]
pub fn unwritable(path: &Path, error: &io::Error) -> Problem {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        _ if files::no_descriptors(error) => files::out_of_descriptors(&path.display()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Problem::new(&code::NO_SPACE, message)
        }
        _ => Problem::new(&code::STATE_UNWRITABLE, message).next("Choose another --to."),
    }
}

/// A failure to read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Problem {
    if files::no_descriptors(error) {
        return files::out_of_descriptors(&path.display());
    }
    Problem::new(&code::FILE_UNREADABLE, format!("{}: {error}", path.display()))
}

/// How many bytes are free where a folder is, or will be.
#[must_use]
pub fn free_space(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists())?;
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    fs4::available_space(there).ok()
}

/// Holds a folder: one command at a time works on it.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code)] File);

impl FolderLock {
    /// Takes the folder, and makes it where it is not there.
    ///
    /// # Errors
    /// Another command has it, or it can't be written.
    pub fn take(folder: &Path) -> Result<Self, Problem> {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        let path = folder.join(".azsreg-lock");
        let file = kept::open(OpenOptions::new().create(true).truncate(false).write(true), &path);
        let file = file.map_err(|error| unwritable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Problem::new(&code::FOLDER_BUSY, format!("another command works on {}", folder.display())))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(unwritable(&path, &error)),
        }
    }
}

/// The items that a folder should hold, by name, each with its version.
pub(super) fn listed(folder: &Path) -> BTreeMap<String, String> {
    let path = folder.join(LIST);
    input::read(&path, Input::Manifest).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Puts an item on the folder's list.
///
/// # Errors
/// It can't be written.
pub fn list_item(folder: &Path, manifest: &ItemManifest) -> Result<(), Problem> {
    let mut list = listed(folder);
    if list.insert(manifest.product.clone(), manifest.version.clone()).as_ref() == Some(&manifest.version) {
        return Ok(());
    }
    whole(&folder.join(LIST), (serde_json::to_string_pretty(&list).unwrap_or_default() + "\n").as_bytes())
}

/// A line of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Entry {
    /// A file was begun: what the blob is.
    Begun { file: String, length: u64, etag: String, md5: Option<String> },
    /// So much of it was written.
    Sum { file: String, to: u64, sha256: String },
    /// It was wrong: what came is not gone on with.
    Discarded { file: String },
    /// It is whole.
    Whole { file: String, bytes: u64, sha256: String, md5_held: bool },
}

impl Entry {
    fn file(&self) -> &str {
        match self {
            Self::Begun { file, .. } | Self::Sum { file, .. } | Self::Discarded { file } | Self::Whole { file, .. } => {
                file
            }
        }
    }
}

/// What a file is to become, as its first answer said.
#[derive(Debug, Clone)]
struct Begun {
    length: u64,
    etag: String,
    md5: Option<[u8; 16]>,
}

/// The folder of one item while it is fetched.
pub struct ItemFolder {
    path: PathBuf,
    ledger: Arc<Mutex<File>>,
    entries: Vec<Entry>,
}

impl ItemFolder {
    /// Opens or makes the folder of a product below `folder`.
    ///
    /// # Errors
    /// It can't be written, or the product's name is no name for a folder.
    pub fn open(folder: &Path, product: &str) -> Result<Self, Problem> {
        if !is_file_name(product) {
            return Err(Problem::new(&code::AZURE_PROTOCOL, format!("{product:?} can't be the name of a folder")));
        }
        let path = folder.join(product);
        std::fs::create_dir_all(path.join("Icons")).map_err(|error| unwritable(&path, &error))?;
        let ledger = path.join(LEDGER);
        // The folder is carried about: a link in it may lead anywhere.
        let earlier = kept::open(OpenOptions::new().read(true), &ledger);
        let bytes = earlier.and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MAX_LEDGER + 1).read_to_end(&mut bytes)?;
            Ok(if bytes.len() as u64 > MAX_LEDGER { Vec::new() } else { bytes })
        });
        let bytes = bytes.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // A line that was cut by a power failure says nothing, and the next one begins anew.
        let entries = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut file =
            kept::open(OpenOptions::new().create(true).append(true), &ledger).map_err(|e| unwritable(&ledger, &e))?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(|error| unwritable(&ledger, &error))?;
        }
        Ok(Self { path, ledger: Arc::new(Mutex::new(file)), entries })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest of a product's folder, where there is one that can be read.
    #[must_use]
    pub fn manifest(folder: &Path, product: &str) -> Option<ItemManifest> {
        let path = folder.join(product).join(MANIFEST);
        ItemManifest::decode(&input::read(&path, Input::Manifest).ok()?).ok()
    }

    /// Opens the folder of an item that was whole once, keeping of it what is good: the rest is fetched anew.
    ///
    /// # Errors
    /// It can't be written.
    pub fn reopen(folder: &Path, manifest: &ItemManifest, good: &[ItemFile]) -> Result<(), Problem> {
        let opened = Self::open(folder, &manifest.product)?;
        for file in good {
            let entry = Entry::Whole {
                file: file.path.clone(),
                bytes: file.bytes,
                sha256: file.sha256.clone(),
                md5_held: file.md5_held,
            };
            record(&opened.ledger, &entry).map_err(|error| unwritable(&opened.path, &error))?;
        }
        for file in manifest.files.iter().filter(|file| !good.contains(file)) {
            let _ = std::fs::remove_file(opened.path.join(&file.path));
        }
        let path = opened.path.join(MANIFEST);
        std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))
    }

    /// Takes away what a run that died in its last moment left beside a whole item.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn tidy(folder: &Path, product: &str) -> Result<(), Problem> {
        let ledger = folder.join(product).join(LEDGER);
        match std::fs::remove_file(&ledger) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&ledger, &error)),
            _ => Ok(()),
        }
    }

    /// How many bytes of a product's files are there already, whole or not.
    #[must_use]
    pub fn bytes_there(folder: &Path, product: &str) -> u64 {
        let inside = std::fs::read_dir(folder.join(product)).into_iter().flatten().flatten();
        inside
            .filter_map(|entry| entry.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|found| found.len())
            .sum()
    }

    /// A file that is whole: its sums.
    #[must_use]
    pub fn whole(&self, file: &str) -> Option<(u64, String, bool)> {
        let last = self.entries.iter().rev().find(|entry| entry.file() == file)?;
        let Entry::Whole { bytes, sha256, md5_held, .. } = last else { return None };
        let there = std::fs::metadata(self.path.join(file)).is_ok_and(|found| found.len() == *bytes);
        there.then(|| (*bytes, sha256.clone(), *md5_held))
    }

    /// Opens a file to be fetched, from where an earlier run left it: what is there is summed up again.
    ///
    /// # Errors
    /// It can't be written.
    pub async fn fetch(&self, file: &str) -> Result<Fetch, Problem> {
        let path = self.path.join(format!("{file}.part"));
        let failed = |error: &io::Error| unwritable(&path, error);
        let mut fetch = Fetch {
            file: file.to_owned(),
            target: self.path.join(file),
            path: path.clone(),
            ledger: Arc::clone(&self.ledger),
            begun: None,
            at: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
            worker: None,
        };
        let of_file: Vec<&Entry> = self.entries.iter().filter(|entry| entry.file() == file).collect();
        let begun = of_file.iter().rposition(|entry| matches!(entry, Entry::Begun { .. } | Entry::Discarded { .. }));
        let Some(begun) = begun.filter(|_| path.exists()) else { return Ok(fetch) };
        if matches!(of_file[begun], Entry::Discarded { .. }) {
            return Ok(fetch);
        }
        if let Entry::Begun { length, etag, md5, .. } = of_file[begun] {
            let md5 = md5.as_deref().and_then(|text| unhex(text)?.try_into().ok());
            fetch.begun = Some(Begun { length: *length, etag: etag.clone(), md5 });
        }
        let sums: BTreeMap<u64, &str> = of_file[begun..]
            .iter()
            .filter_map(|entry| match entry {
                Entry::Sum { to, sha256, .. } => Some((*to, sha256.as_str())),
                _ => None,
            })
            .collect();
        let mut data = kept::open(OpenOptions::new().read(true), &path).map_err(|error| failed(&error))?;
        let mut buffer = vec![0; usize::try_from(BLOCK).unwrap_or(1 << 20)];
        let wants_md5 = fetch.begun.as_ref().is_some_and(|begun| begun.md5.is_some());
        for (to, sha256) in sums {
            let Some(length) = to.checked_sub(fetch.at).filter(|length| *length <= BLOCK) else { break };
            let block = &mut buffer[..usize::try_from(length).unwrap_or(0)];
            if data.read_exact(block).is_err() {
                break;
            }
            let next = fetch.sha256.clone().chain_update(&*block);
            if hex(&next.clone().finalize()) != sha256 {
                break;
            }
            fetch.sha256 = next;
            if wants_md5 {
                fetch.md5.update(&*block);
            }
            fetch.at = to;
            super::turn().await;
        }
        Ok(fetch)
    }

    /// A small file that is known whole: icons, lists.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, file: &str, bytes: &[u8]) -> Result<(u64, String), Problem> {
        whole(&self.path.join(file), bytes)?;
        Ok((bytes.len() as u64, hex(&Sha256::digest(bytes))))
    }

    /// Ends the fetching: the manifest is written, then the ledger goes.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(self, manifest: &ItemManifest) -> Result<(), Problem> {
        whole(&self.path.join(MANIFEST), manifest.encode().as_bytes())?;
        let ledger = self.path.join(LEDGER);
        drop(self.ledger);
        std::fs::remove_file(&ledger).map_err(|error| unwritable(&ledger, &error))
    }
}

/// Writes a file whole or not at all, and makes sure that it stays.
fn whole(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    crash::point("file >");
    output::write(path, bytes, Rights::Usual).map_err(|error| unwritable(path, &error))?;
    crash::point("file <");
    Ok(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// A file while it is fetched. Bytes are written and summed up beside the connection, in threads of their own.
pub struct Fetch {
    file: String,
    path: PathBuf,
    target: PathBuf,
    ledger: Arc<Mutex<File>>,
    begun: Option<Begun>,
    at: u64,
    sha256: Sha256,
    md5: Md5,
    worker: Option<Worker>,
}

struct Worker {
    sender: SyncSender<Bytes>,
    writer: JoinHandle<io::Result<(Sha256, u64)>>,
    summer: Option<(SyncSender<Bytes>, JoinHandle<Md5>)>,
}

/// Why a file that was fetched is not taken.
#[derive(Debug)]
pub enum Unfit {
    /// Its bytes are not what the service says.
    Damaged(String),
    /// It can't be written.
    Disk(Problem),
}

impl Fetch {
    /// How many bytes are there.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The version of the blob that was begun with.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.begun.as_ref().map(|begun| begun.etag.as_str())
    }

    /// Whether all bytes are there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.length == self.at)
    }

    /// Forgets what was fetched: the blob is another now, or the bytes were wrong.
    pub fn restart(&mut self) {
        let _ = self.stop();
        (self.begun, self.at) = (None, 0);
        (self.sha256, self.md5) = (Sha256::new(), Md5::new());
    }

    /// Lets the threads end, so that what was written is known.
    ///
    /// # Errors
    /// It could not be written.
    pub fn stop(&mut self) -> Result<(), Problem> {
        let Some(Worker { sender, writer, summer }) = self.worker.take() else { return Ok(()) };
        drop(sender);
        if let Some((sender, summer)) = summer {
            drop(sender);
            self.md5 = summer.join().unwrap_or_default();
        }
        let broken = || io::Error::other("the thread that writes has ended");
        match writer.join().unwrap_or_else(|_| Err(broken())) {
            Ok((sha256, at)) => {
                (self.sha256, self.at) = (sha256, at);
                Ok(())
            }
            Err(error) => Err(unwritable(&self.path, &error)),
        }
    }

    fn record(&self, entry: &Entry) -> Result<(), Problem> {
        record(&self.ledger, entry).map_err(|error| unwritable(&self.path, &error))
    }

    /// Ends a file: its sums are compared, it gets its name. Gives its length, its SHA-256 and whether there was an MD5 that
    /// held.
    ///
    /// # Errors
    /// It is not what the service says, or can't be written.
    pub fn finish(mut self) -> Result<(u64, String, bool), Unfit> {
        self.stop().map_err(Unfit::Disk)?;
        let begun = self.begun.clone().unwrap_or(Begun { length: 0, etag: String::new(), md5: None });
        if self.at != begun.length {
            return Err(Unfit::Damaged(format!("{} of {} bytes came", self.at, begun.length)));
        }
        if begun.md5.is_some_and(|md5| md5[..] != self.md5.clone().finalize()[..]) {
            // What is wrong is not gone on with.
            self.record(&Entry::Discarded { file: self.file.clone() }).map_err(Unfit::Disk)?;
            return Err(Unfit::Damaged("its MD5 is another".into()));
        }
        let failed = |error: io::Error| Unfit::Disk(unwritable(&self.target, &error));
        if !self.path.exists() {
            // A blob without a byte never had one written.
            File::create_new(&self.path).map_err(failed)?;
        }
        crash::point("file >");
        std::fs::rename(&self.path, &self.target).map_err(failed)?;
        output::sync_directory(output::directory_of(&self.target)).map_err(failed)?;
        let sha256 = hex(&self.sha256.clone().finalize());
        let md5_held = begun.md5.is_some();
        let entry = Entry::Whole { file: self.file.clone(), bytes: self.at, sha256: sha256.clone(), md5_held };
        self.record(&entry).map_err(Unfit::Disk)?;
        crash::point("file <");
        Ok((self.at, sha256, md5_held))
    }

    fn start(&mut self) -> Result<(), Problem> {
        let failed = |error: io::Error| unwritable(&self.path, &error);
        let file = kept::open(OpenOptions::new().create(true).truncate(false).write(true), &self.path);
        let mut file = file.map_err(failed)?;
        // Beyond what the ledger agrees with is nothing.
        file.set_len(self.at).and_then(|()| file.seek(SeekFrom::Start(self.at))).map_err(failed)?;
        let (sender, receiver) = sync_channel(WAITING);
        let (ledger, name, sha256, at) = (Arc::clone(&self.ledger), self.file.clone(), self.sha256.clone(), self.at);
        let writer = std::thread::spawn(move || write(file, &receiver, &ledger, &name, sha256, at));
        let wants_md5 = self.begun.as_ref().is_some_and(|begun| begun.md5.is_some());
        let summer = wants_md5.then(|| {
            let (sender, receiver) = sync_channel::<Bytes>(WAITING);
            let mut md5 = self.md5.clone();
            let thread = std::thread::spawn(move || {
                receiver.iter().for_each(|bytes| md5.update(&bytes));
                md5
            });
            (sender, thread)
        });
        self.worker = Some(Worker { sender, writer, summer });
        Ok(())
    }
}

impl Sink for Fetch {
    fn begun(&mut self, about: &BlobAbout) -> Result<bool, Problem> {
        if let Some(begun) = &self.begun {
            let other = !begun.etag.is_empty() && !about.etag.is_empty() && begun.etag != about.etag;
            if other || begun.length != about.length {
                return Ok(false);
            }
        } else {
            let BlobAbout { length, etag, md5 } = about.clone();
            let entry =
                Entry::Begun { file: self.file.clone(), length, etag: etag.clone(), md5: md5.map(|md5| hex(&md5)) };
            self.record(&entry)?;
            self.begun = Some(Begun { length, etag, md5 });
        }
        self.start()?;
        Ok(true)
    }

    fn bytes(&mut self, mut bytes: Bytes) -> Result<(), Problem> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            crash::bytes(piece.len() as u64);
            let Some(worker) = &self.worker else { return Ok(()) };
            if let Some((summer, _)) = &worker.summer {
                let _ = summer.send(piece.clone());
            }
            if worker.sender.send(piece).is_err() {
                // The writer has ended: it says why.
                return self.stop();
            }
        }
        Ok(())
    }
}

fn record(ledger: &Mutex<File>, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    let mut file = ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.write_all(&line)
}

/// The thread that writes: bytes, their running sum, a ledger's line after each block.
fn write(
    mut file: File,
    receiver: &Receiver<Bytes>,
    ledger: &Mutex<File>,
    name: &str,
    mut sha256: Sha256,
    mut at: u64,
) -> io::Result<(Sha256, u64)> {
    for mut bytes in receiver {
        while !bytes.is_empty() {
            let left = usize::try_from(BLOCK - at % BLOCK).unwrap_or(usize::MAX);
            let part = bytes.split_to(bytes.len().min(left));
            file.write_all(&part)?;
            sha256.update(&part);
            at += part.len() as u64;
            if at.is_multiple_of(BLOCK) {
                let sum = hex(&sha256.clone().finalize());
                record(ledger, &Entry::Sum { file: name.to_owned(), to: at, sha256: sum })?;
                // Blocks begin to go to the disk while the next ones come.
                crash::point("block");
            }
        }
    }
    if !at.is_multiple_of(BLOCK) {
        record(ledger, &Entry::Sum { file: name.to_owned(), to: at, sha256: hex(&sha256.clone().finalize()) })?;
    }
    file.sync_all()?;
    Ok((sha256, at))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_in_a_carried_folder_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, target) = (dir.path().join("folder"), dir.path().join("target"));
        std::fs::write(&target, "mine").unwrap();
        std::fs::create_dir_all(folder.join("item")).unwrap();
        let there = |name: &str| folder.join(name).symlink_metadata().is_ok();
        for name in [".azsreg-lock", LIST, "azsreg-items.json.new", "item/azsreg-download.jsonl", "item/a.vhd.part"] {
            symlink(&target, folder.join(name)).unwrap();
            assert!(there(name));
        }
        assert!(FolderLock::take(&folder).is_err());
        assert!(ItemFolder::open(&folder, "item").is_err());
        std::fs::remove_file(folder.join("item").join(LEDGER)).unwrap();
        let item = ItemFolder::open(&folder, "item").unwrap();
        whole(&folder.join(LIST), b"{}").unwrap();
        let mut fetch = Fetch {
            file: "a.vhd".into(),
            target: folder.join("item/a.vhd"),
            path: folder.join("item/a.vhd.part"),
            ledger: Arc::clone(&item.ledger),
            begun: None,
            at: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
            worker: None,
        };
        let about = BlobAbout { length: 4, etag: "x".into(), md5: None };
        assert!(fetch.begun(&about).is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
        assert!(folder.join(LIST).symlink_metadata().unwrap().is_file(), "the link itself is replaced");
    }

    #[test]
    fn a_manifest_that_is_no_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("item")).unwrap();
        let manifest = dir.path().join("item").join(MANIFEST);
        symlink("/dev/zero", &manifest).unwrap();
        assert!(ItemFolder::manifest(dir.path(), "item").is_none());
        std::fs::remove_file(&manifest).unwrap();
        File::create(&manifest).unwrap().set_len(1 << 43).unwrap();
        assert!(ItemFolder::manifest(dir.path(), "item").is_none());
    }
}
