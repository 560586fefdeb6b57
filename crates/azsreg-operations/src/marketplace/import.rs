//! Importing carried marketplace items at a disconnected stamp, as the offline tool does it (`facts-stamp.md` section 3):
//! the files go to a storage account of the stamp, the stamp is told where they are, and the account goes again.
//!
//! Before anything changes, every byte in the folder is compared with the manifests. An upload leaves its sum with the blob
//! when it is whole: unfinished copies are told from finished ones. One that was broken off goes on where it was, but only
//! behind bytes whose sum it left there: what some earlier file or an earlier reading put there is never taken for this one.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use azsreg_model::{
    ItemFile, ItemManifest, ItemState, Outcome, PartRole, PlannedStep, Problem, Product, Report, StepReport, StepState,
    code, hex,
};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::folder::FolderLock;
use super::verify::{ItemVerdict, verify};
use super::{Staging, StampMarket, begin, follow, in_order, turn};
use crate::engine::retry::{Policy, read};
use crate::engine::session::FileBooks;
use crate::engine::{Failure, Steps, Watch};
use crate::files::input::{self, Input};
use crate::files::kept;
use crate::ports::{Clock, PortError};
use crate::register::refused;

/// The operation's name.
pub const NAME: &str = "marketplace-import";
const VERSION: u32 = 1;
/// One block or one write of pages.
const BLOCK: u64 = 4 << 20;
/// After so many bytes a page blob is told how far it is.
const MARK: u64 = 16 * BLOCK;

/// Reads every byte of a folder and refuses it if anything is wrong with it.
///
/// # Errors
/// What is wrong, a problem for each item.
pub async fn verified(folder: &Path, watch: &mut dyn Watch) -> Result<Vec<ItemVerdict>, Failure> {
    let verdicts =
        verify(folder, &mut |file, done, of| watch.progress(file, done, of)).await.map_err(Failure::before)?;
    let problems: Vec<Problem> = verdicts.iter().filter_map(ItemVerdict::problem).collect();
    if problems.is_empty() { Ok(verdicts) } else { Err(Failure { exit: problems[0].code.exit, ..refused(problems) }) }
}

/// Imports the items of a folder.
///
/// # Errors
/// An item is not whole or not for this stamp (nothing is changed then), or the stamp refused: the same command goes on.
#[allow(clippy::too_many_arguments)]
pub async fn import<M: StampMarket + Staging, C: Clock>(
    market: &M,
    clock: &C,
    books: &FileBooks,
    cloud_id: Uuid,
    folder: &Path,
    plan: bool,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    // Nothing is made where there is nothing to import.
    super::verify::items(folder).map_err(Failure::before)?;
    // A medium that can't be written is nobody's to change meanwhile.
    let _held = match FolderLock::take(folder) {
        Err(problem) if problem.code == &code::FOLDER_BUSY => {
            return Err(Failure { exit: problem.code.exit, ..refused(vec![problem]) });
        }
        other => other.ok(),
    };
    watch.step_started("verify", "verifying what was carried");
    let verdicts = verified(folder, watch).await?;
    of_this_stamp(&verdicts, cloud_id)?;
    let there = read(clock, Policy::AZURE, async || market.items().await).await?;
    let state = |name: &str| {
        there.iter().find(|item| item.product.name.eq_ignore_ascii_case(name)).map(|item| item.state.clone())
    };
    let wanted = wanted(&verdicts, &|name| state(name) == Some(ItemState::Succeeded))?;
    let mut report = Report::new(NAME, Outcome::Planned, cloud_id, None);
    if plan {
        report.plan = wanted
            .iter()
            .map(|(_, manifest, _)| {
                let (changes, what) = match state(&manifest.product) {
                    Some(ItemState::Succeeded) => (false, "there already"),
                    _ => (true, "would be imported"),
                };
                PlannedStep { step: "import", changes, detail: format!("{}: {what}", manifest.product) }
            })
            .collect();
        return Ok(report);
    }
    let total: u64 = wanted.iter().map(|(_, manifest, _)| manifest.bytes()).sum();
    let mut sent = 0;
    let mut changed = false;
    for (path, manifest, properties) in &wanted {
        let one = Item { market, clock, path, manifest, properties };
        if state(&manifest.product) == Some(ItemState::Succeeded) {
            let detail = format!("{}: there", manifest.product);
            let step = StepReport { step: "import", state: StepState::AlreadyDone, detail };
            watch.step_ended(&step);
            report.steps.push(step);
            sent += manifest.bytes();
            // A run that died before it cleaned up left its files.
            if let Err(error) = read(clock, Policy::AZURE, async || one.clean().await).await {
                watch.warning(&error.problem);
            }
            continue;
        }
        changed = true;
        let steps = one.import(books, cloud_id, (&mut sent, total), watch).await.map_err(|mut failure| {
            failure.steps = [report.steps.clone(), failure.steps.clone()].concat();
            failure
        })?;
        report.steps.extend(steps);
    }
    // The items are there whatever becomes of the account.
    match read(clock, Policy::AZURE, async || market.close().await).await {
        Ok(None) => {}
        Ok(Some(why)) => watch.note(&format!("The group System.syndication stays at the stamp: {why}.")),
        Err(error) => watch.warning(&error.problem),
    }
    report.outcome = if changed { Outcome::Done } else { Outcome::NothingToDo };
    Ok(report)
}

/// Refuses what was downloaded for another stamp.
fn of_this_stamp(verdicts: &[ItemVerdict], cloud_id: Uuid) -> Result<(), Failure> {
    let other = |manifest: &&ItemManifest| manifest.cloud_id != cloud_id;
    let problems: Vec<Problem> = verdicts
        .iter()
        .filter_map(|verdict| verdict.manifest.as_ref())
        .filter(other)
        .map(|manifest| {
            let message = format!("{} was downloaded for the stamp {}", manifest.product, manifest.cloud_id);
            let next = format!("Download it with --cloud-id {cloud_id}, into another --to.");
            Problem::new(&code::BUNDLE_OTHER_STAMP, message).next(next)
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Failure { exit: problems[0].code.exit, ..refused(problems) }) }
}

/// The items of a folder with their properties, each after those that it can't do without.
fn wanted<'v>(
    verdicts: &'v [ItemVerdict],
    there: &dyn Fn(&str) -> bool,
) -> Result<Vec<(&'v Path, &'v ItemManifest, Value)>, Failure> {
    let mut wanted: Vec<(&Path, &ItemManifest, Value)> = Vec::new();
    let mut problems = Vec::new();
    for verdict in verdicts {
        let Some(manifest) = &verdict.manifest else { continue };
        let path = verdict.folder.join(format!("{}.json", manifest.product));
        let damaged = |why: String| Problem::new(&code::ITEM_DAMAGED, format!("{}: {why}", path.display()));
        let text = input::read(&path, Input::Manifest).map_err(|error| error.to_string());
        let text = match text.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string())) {
            Ok(text) => text,
            Err(error) => {
                problems.push(damaged(error));
                continue;
            }
        };
        match serde_json::from_str::<Value>(&text) {
            Ok(properties) => {
                let parts = manifest.files.iter().filter(|file| file.role != PartRole::Description);
                for file in parts {
                    if properties.pointer(&file.pointer).is_none() {
                        problems.push(damaged(format!("it has no place for {}", file.path)));
                    }
                    if file.path.to_lowercase().ends_with(".vhd") && !file.bytes.is_multiple_of(512) {
                        problems
                            .push(damaged(format!("{} is no disk: its length is not a multiple of 512", file.path)));
                    }
                }
                wanted.push((&verdict.folder, manifest, properties));
            }
            Err(error) => problems.push(damaged(error.to_string())),
        }
    }
    let names: Vec<String> = wanted.iter().map(|(_, manifest, _)| manifest.product.clone()).collect();
    for (path, manifest, properties) in &wanted {
        for needed in Product::depends_on(properties) {
            if !there(&needed) && !names.iter().any(|name| name.eq_ignore_ascii_case(&needed)) {
                let message = format!("{}: {} can't do without {needed}", path.display(), manifest.product);
                let problem =
                    Problem::new(&code::ITEM_DAMAGED, message).cause("It is neither in the folder nor on the stamp.");
                problems.push(problem.next("Download the item again: what it needs comes along."));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Failure { exit: problems[0].code.exit, ..refused(problems) });
    }
    let needs = |name: &str| {
        let item = wanted.iter().find(|(_, manifest, _)| manifest.product.eq_ignore_ascii_case(name));
        item.map(|(_, _, properties)| Product::depends_on(properties)).unwrap_or_default()
    };
    let order = in_order(&names, &needs);
    wanted.sort_by_key(|(_, manifest, _)| order.iter().position(|name| *name == manifest.product));
    Ok(wanted)
}

/// One item on its way.
struct Item<'a, M, C> {
    market: &'a M,
    clock: &'a C,
    path: &'a Path,
    manifest: &'a ItemManifest,
    properties: &'a Value,
}

impl<M: StampMarket + Staging, C: Clock> Item<'_, M, C> {
    /// The blob of a file, as the old tool names it.
    fn blob(&self, file: &ItemFile) -> String {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        format!("{}_{name}", self.manifest.product)
    }

    /// The files that the stamp wants.
    fn files(&self) -> impl Iterator<Item = &ItemFile> {
        self.manifest.files.iter().filter(|file| file.role != PartRole::Description)
    }

    /// Removes the item's files from the stamp's storage.
    async fn clean(&self) -> Result<(), PortError> {
        for file in self.files() {
            self.market.delete(&self.blob(file)).await?;
        }
        Ok(())
    }

    async fn import(
        &self,
        books: &FileBooks,
        cloud_id: Uuid,
        (sent, total): (&mut u64, u64),
        watch: &mut dyn Watch,
    ) -> Result<Vec<StepReport>, Failure> {
        let product = self.manifest.product.as_str();
        let request = json!({"item": product, "version": self.manifest.version});
        let (lock, mut journal) = begin(books, cloud_id, (NAME, VERSION), &request, self.clock)?;
        let none = || Vec::new();
        let begun = *sent;
        let mut steps = Steps::new(&mut journal, self.clock, &mut *watch, &none);
        let recorded = steps.recorded("item").and_then(|output| output["operation"].as_str().map(str::to_owned));
        let given = async || {
            let item = self.market.item(product).await?.filter(|item| item.state != ItemState::Failed);
            Ok::<_, PortError>(item.map(|item| format!("{product}: {}", item.state)))
        };
        // What the stamp is already told of needs no files any more; it may be reading them.
        let known = read(self.clock, Policy::AZURE, given).await?;
        if known.is_none() {
            let observe = async || {
                for file in self.files() {
                    if !self.is_there(&self.blob(file), file).await? {
                        return Ok(None);
                    }
                }
                Ok(Some(((), format!("{product}: {} files are in the stamp's storage", self.files().count()))))
            };
            let act = async || {
                self.market.open().await?;
                for file in self.files() {
                    self.upload(file).await?;
                }
                Ok(None)
            };
            let title = format!("uploading {product}");
            steps.step("upload", &title, Policy::STAMP, observe, act, |()| json!({ "item": product })).await?;
        }
        let observe = async || Ok(given().await?.map(|detail| (recorded.clone(), detail)));
        let act = async || {
            if self.market.item(product).await?.is_some_and(|item| item.state == ItemState::Failed) {
                self.market.remove(product).await?;
            }
            let operation = self.market.put(product, &self.placed().await?).await?;
            Ok(Some((operation, format!("{product}: given to the stamp"))))
        };
        let output = |operation: &Option<String>| json!({"item": product, "operation": operation});
        let title = format!("giving {product} to the stamp");
        let operation = steps.step("item", &title, Policy::STAMP, observe, act, output).await?;
        let reports = steps.into_reports();
        *sent = begun + self.manifest.bytes();
        watch.progress(product, *sent, total);
        let waited = follow(self.market, self.clock, product, operation.as_deref(), watch).await;
        waited.map_err(|failure| Failure { steps: reports.clone(), ..failure })?;
        let mut steps = Steps::new(&mut journal, self.clock, watch, &none);
        let observe = async || {
            for file in self.files() {
                if self.market.blob(&self.blob(file)).await?.is_some() {
                    return Ok(None);
                }
            }
            Ok(Some(((), format!("{product}: there, its files are removed"))))
        };
        let act = async || {
            self.clean().await?;
            Ok(None)
        };
        let title = "removing the files from the stamp's storage";
        steps.step("clean-up", title, Policy::STAMP, observe, act, |()| json!({})).await?;
        steps.finish("imported")?;
        drop(lock);
        Ok([reports, steps.into_reports()].concat())
    }

    async fn is_there(&self, name: &str, file: &ItemFile) -> Result<bool, PortError> {
        let found = self.market.blob(name).await?;
        Ok(found.is_some_and(|blob| blob.length == file.bytes && blob.sha256.as_deref() == Some(file.sha256.as_str())))
    }

    /// Uploads a file from where an earlier run left it; what is not whole gets no sum.
    async fn upload(&self, file: &ItemFile) -> Result<(), PortError> {
        let name = self.blob(file);
        if self.is_there(&name, file).await? {
            return Ok(());
        }
        let sum = match file.path.to_lowercase().ends_with(".vhd") {
            true => self.pages(&name, file).await?,
            false => self.blocks(&name, file).await?,
        };
        if sum == file.sha256 {
            return Ok(());
        }
        // What was uploaded is of no use to anybody.
        self.market.delete(&name).await?;
        let message = format!("{}: its SHA-256 is {sum} now", self.path.join(&file.path).display());
        Err(PortError::permanent(Problem::new(&code::ITEM_DAMAGED, message)))
    }

    /// Retries a call that may be repeated: one bad moment of a long upload is not the upload's.
    async fn again(&self, call: impl AsyncFnMut() -> Result<(), PortError>) -> Result<(), PortError> {
        read(self.clock, Policy::AZURE, call).await
    }

    fn open(&self, file: &ItemFile) -> Result<Reader, PortError> {
        let path = self.path.join(&file.path);
        match kept::open(File::options().read(true), &path) {
            Ok(data) => Ok(Reader { path, data, hash: Sha256::new(), at: 0, length: file.bytes }),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// A block blob. A block's id holds the sum of all up to its end: what waits there under it is what is here.
    async fn blocks(&self, name: &str, file: &ItemFile) -> Result<String, PortError> {
        let waiting = self.market.blocks(name).await?;
        let mut reader = self.open(file)?;
        let mut ids = Vec::new();
        while let Some((_, block)) = reader.next().await? {
            let id = format!("azsreg-{:09}-{}", ids.len(), &reader.sum()[..16]);
            if !waiting.contains(&id) {
                self.again(async || self.market.put_block(name, &id, block.clone()).await).await?;
            }
            ids.push(id);
        }
        let sum = reader.sum();
        if sum == file.sha256 {
            self.again(async || self.market.commit(name, &ids, &sum).await).await?;
        }
        Ok(sum)
    }

    /// A page blob. It says for which file it was begun and how far it is: what is before that is gone on from if it is what
    /// is here.
    async fn pages(&self, name: &str, file: &ItemFile) -> Result<String, PortError> {
        let found = self.market.blob(name).await?;
        let known = found.is_some();
        let ours = found.filter(|blob| blob.length == file.bytes && blob.begun_for.as_ref() == Some(&file.sha256));
        let mut reader = self.open(file)?;
        let mut from = None;
        if let Some((up_to, sum)) = ours.as_ref().and_then(|blob| blob.up_to.clone()) {
            while reader.at < up_to && reader.next().await?.is_some() {}
            from = Some(up_to).filter(|up_to| reader.at == *up_to && reader.sum() == sum);
        }
        if from.is_none() {
            reader = self.open(file)?;
        }
        if ours.is_none() {
            if known {
                self.market.delete(name).await?;
            }
            self.again(async || self.market.create_pages(name, file.bytes, &file.sha256).await).await?;
        }
        // A new blob is all zero; in one that was begun anything may lie beyond the mark.
        let fresh = ours.is_none();
        while let Some((at, block)) = reader.next().await? {
            if !fresh || block.iter().any(|byte| *byte != 0) {
                self.again(async || self.market.put_pages(name, at, block.clone()).await).await?;
            }
            if reader.at.is_multiple_of(MARK) {
                let sum = reader.sum();
                self.again(async || self.market.mark_pages(name, &file.sha256, (reader.at, &sum)).await).await?;
            }
        }
        let sum = reader.sum();
        if sum == file.sha256 {
            self.again(async || self.market.finish_pages(name, &sum).await).await?;
        }
        Ok(sum)
    }

    /// The item's properties, with the addresses of the uploaded files in place of Azure's.
    async fn placed(&self) -> Result<Value, PortError> {
        let mut properties = self.properties.clone();
        for file in self.files() {
            let address = self.market.address(&self.blob(file)).await?;
            if let Some(place) = properties.pointer_mut(&file.pointer) {
                *place = json!(address);
            }
        }
        Ok(properties)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> PortError {
    PortError::permanent(Problem::new(&code::FILE_UNREADABLE, format!("{}: {error}", path.display())))
}

/// A file, block after block, with the sum of all that was read.
struct Reader {
    path: PathBuf,
    data: File,
    hash: Sha256,
    at: u64,
    length: u64,
}

impl Reader {
    /// The next block and where it begins; nothing at the end.
    async fn next(&mut self) -> Result<Option<(u64, Bytes)>, PortError> {
        let length = usize::try_from((self.length - self.at).min(BLOCK)).unwrap_or(0);
        if length == 0 {
            return Ok(None);
        }
        turn().await;
        let mut block = vec![0; length];
        self.data.read_exact(&mut block).map_err(|error| unreadable(&self.path, &error))?;
        self.hash.update(&block);
        let begins = self.at;
        self.at += length as u64;
        Ok(Some((begins, block.into())))
    }

    /// The SHA-256 of all that was read.
    fn sum(&self) -> String {
        hex(&self.hash.clone().finalize())
    }
}
