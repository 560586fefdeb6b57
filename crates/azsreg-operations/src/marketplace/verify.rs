//! Verifying a carried folder: every byte of it compared with what its manifests say. It detects mistakes of copying and
//! carrying, not forgery.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use azsreg_model::{ItemFile, ItemManifest, MANIFEST, Problem, code, hex, is_file_name};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::folder::{LEDGER, LIST, listed, unreadable};
use crate::files::input::{self, Input};
use crate::files::kept;

/// What is wrong with a folder, or that nothing is.
#[derive(Debug, Clone, Serialize)]
pub struct ItemVerdict {
    /// The folder.
    pub folder: PathBuf,
    /// The manifest, where it can be read.
    #[serde(skip)]
    pub manifest: Option<ItemManifest>,
    /// The product, as far as it is known.
    pub product: String,
    /// How many files it should have.
    pub files: usize,
    /// How many bytes.
    pub bytes: u64,
    /// What is wrong, a line each.
    pub wrong: Vec<String>,
    /// Whether it is a copy that was not finished.
    pub unfinished: bool,
}

impl ItemVerdict {
    /// As a problem; none where the item is whole.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        if self.wrong.is_empty() {
            return None;
        }
        let (entry, what) = match self.unfinished {
            true => (&code::ITEM_UNFINISHED, "is an unfinished copy"),
            false => (&code::ITEM_DAMAGED, "is not whole"),
        };
        let mut problem = Problem::new(entry, format!("{}: the item {} {what}", self.folder.display(), self.product));
        problem.details.clone_from(&self.wrong);
        if self.wrong.iter().all(|wrong| wrong.contains(FOREIGN)) {
            problem = problem.next("Delete what is foreign, or move it elsewhere; the item itself is whole.");
        } else if self.unfinished && !self.folder.is_dir() {
            let next = format!("Copy it too. If it was left out on purpose, delete {LIST} from the copy.");
            problem = problem.next(next);
        }
        Some(problem)
    }
}

/// The folders of items in a folder, or the folder itself if it is one.
///
/// # Errors
/// It can't be read, or holds no item.
pub fn items(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    if !folder.is_dir() {
        let message = format!("{}: there is no such folder", folder.display());
        return Err(Problem::new(&code::FILE_UNREADABLE, message));
    }
    let inside = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    if folder.join(MANIFEST).is_file() || folder.join(LEDGER).is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    // A stick has folders of its own; an item has something of an item in it, or stands on the list.
    let list = listed(folder);
    let is_item = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let item = |entry: std::fs::DirEntry| {
            let entry = entry.file_name().to_string_lossy().to_lowercase();
            let ending = entry.rsplit_once('.').map_or("", |(_, ending)| ending);
            entry == MANIFEST
                || entry == LEDGER
                || entry == "icons"
                || ["azpkg", "vhd", "json", "part"].contains(&ending)
        };
        list.contains_key(&name) || std::fs::read_dir(path).into_iter().flatten().flatten().any(item)
    };
    let mut found: Vec<PathBuf> =
        inside.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && is_item(path)).collect();
    found.extend(list.keys().map(|name| folder.join(name)).filter(|path| is_file_name_of(path) && !path.exists()));
    found.sort();
    if found.is_empty() {
        let message = format!("{} holds no marketplace item", folder.display());
        return Err(Problem::new(&code::FILE_UNREADABLE, message)
            .next("Give the folder that azsreg marketplace download --to wrote."));
    }
    Ok(found)
}

fn is_file_name_of(path: &Path) -> bool {
    path.file_name().is_some_and(|name| is_file_name(&name.to_string_lossy()))
}

/// Reads every byte of the items in a folder and compares it with their manifests. `seen` is told of the bytes.
///
/// # Errors
/// The folder can't be read, or holds no item.
pub async fn verify(folder: &Path, seen: &mut dyn FnMut(&str, u64, u64)) -> Result<Vec<ItemVerdict>, Problem> {
    let mut verdicts = Vec::new();
    // Sums that do not fit are looked for in the other items: files are swapped more often than they rot.
    let mut known: HashMap<String, String> = HashMap::new();
    let mut strays: Vec<(usize, String, String)> = Vec::new();
    for path in items(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut verdict = ItemVerdict {
            folder: path.clone(),
            manifest: None,
            product: name,
            files: 0,
            bytes: 0,
            wrong: Vec::new(),
            unfinished: false,
        };
        let manifest = input::read(&path.join(MANIFEST), Input::Manifest);
        match manifest {
            Err(error) if error.is_missing() => {
                verdict.unfinished = true;
                verdict.wrong.push(match (path.is_dir(), path.join(LEDGER).is_file()) {
                    (false, _) => format!("it stands in {LIST} and is not here"),
                    (true, true) => "its download was not finished".into(),
                    (true, false) => {
                        format!("it has no {MANIFEST}: it was not copied whole, or azsreg did not make it")
                    }
                });
            }
            Err(error) => verdict.wrong.push(format!("{MANIFEST}: {error}")),
            Ok(bytes) => match ItemManifest::decode(&bytes) {
                Err(error) => {
                    verdict.wrong.push(format!("{MANIFEST}: {error}"));
                }
                Ok(manifest) => {
                    (verdict.files, verdict.bytes) = (manifest.files.len(), manifest.bytes());
                    verdict.product.clone_from(&manifest.product);
                    for file in &manifest.files {
                        known.insert(file.sha256.clone(), format!("{} of {}", file.path, manifest.product));
                    }
                    for file in &manifest.files {
                        if let Some((wrong, sum)) = compare(&path, file, seen).await {
                            if let Some(sum) = sum {
                                strays.push((verdicts.len(), sum, file.path.clone()));
                            }
                            verdict.wrong.push(wrong);
                        }
                    }
                    foreign(&path, &manifest, &mut verdict.wrong);
                    verdict.manifest = Some(manifest);
                }
            },
        }
        verdicts.push(verdict);
    }
    for (at, sum, path) in strays {
        if let Some(of) = known.get(&sum) {
            verdicts[at].wrong.push(format!("{path} holds {of}: they were swapped"));
        }
    }
    Ok(verdicts)
}

/// The files of an item that are as its manifest says, every byte looked at.
pub async fn good(folder: &Path, manifest: &ItemManifest, seen: &mut dyn FnMut(&str, u64, u64)) -> Vec<ItemFile> {
    let path = folder.join(&manifest.product);
    let mut good = Vec::new();
    for file in &manifest.files {
        if compare(&path, file, seen).await.is_none() {
            good.push(file.clone());
        }
    }
    good
}

/// Compares a file with what it has to be: what is wrong, and its sum where it was read.
async fn compare(
    folder: &Path,
    file: &ItemFile,
    seen: &mut dyn FnMut(&str, u64, u64),
) -> Option<(String, Option<String>)> {
    let path = folder.join(&file.path);
    let found = match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Some((format!("{} is not a file", file.path), None)),
        Err(_) => return Some((format!("{} is missing", file.path), None)),
    };
    if found < file.bytes {
        return Some((format!("{} is cut: {found} of {} bytes", file.path, file.bytes), None));
    }
    let sum = match sum(&path, &mut |done| seen(&file.path, done, file.bytes)).await {
        Ok(sum) => sum,
        Err(error) => return Some((format!("{}: {error}", file.path), None)),
    };
    if found > file.bytes {
        return Some((format!("{} is too long: {found} in place of {} bytes", file.path, file.bytes), Some(sum)));
    }
    (sum != file.sha256).then(|| (format!("{} was changed: its SHA-256 is {sum}", file.path), Some(sum)))
}

/// The SHA-256 of a file.
async fn sum(path: &Path, seen: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut file = kept::open(File::options().read(true), path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
        done += read as u64;
        seen(done);
        super::turn().await;
    }
}

/// How a foreign file is named.
const FOREIGN: &str = " is foreign: the manifest does not name it";

/// What is in the folder and not in the manifest.
fn foreign(folder: &Path, manifest: &ItemManifest, wrong: &mut Vec<String>) {
    let known = |path: &str| path == MANIFEST || path == LEDGER || manifest.files.iter().any(|file| file.path == path);
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((dir, prefix)) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            // What the old importer and file managers leave beside is their mark, not a foreign file.
            let manager = ["thumbs.db", "desktop.ini"].contains(&name.to_lowercase().as_str());
            let mark = name.ends_with(".json.origin") || name.ends_with(".marketplace") || name.starts_with('.');
            // A link to a folder is not followed: it may lead round.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), format!("{path}/")));
            } else if !known(&path) && !mark && !manager {
                wrong.push(format!("{path}{FOREIGN}"));
            }
        }
    }
}
