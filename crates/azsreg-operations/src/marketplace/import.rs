//! Importing carried marketplace items at a disconnected stamp, as the offline tool does it (`facts-stamp.md` section 3):
//! the files go to a storage account of the stamp, the stamp is told where they are, and the account goes again.
//!
//! Before anything changes, every byte in the folder is compared with the manifests. An upload leaves its sum with the blob
//! when it is whole: unfinished copies are told from finished ones, and go on where they were.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use azsreg_model::{
    ItemFile, ItemManifest, ItemState, Outcome, PartRole, PlannedStep, Problem, Report, StepReport, StepState, code, hex,
};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::folder::{FolderLock, ItemVerdict, verify};
use super::{StagedBlob, Staging, StampMarket, begin, follow};
use crate::engine::retry::{Policy, read};
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Clock, PortError};
use crate::register::refused;

/// The operation's name.
pub const NAME: &str = "marketplace-import";
const VERSION: u32 = 1;
/// One block or one write of pages.
const BLOCK: u64 = 4 << 20;

/// Reads every byte of a folder and refuses it if anything is wrong with it.
///
/// # Errors
/// What is wrong, a problem for each item.
pub fn verified(folder: &Path, watch: &mut dyn Watch) -> Result<Vec<ItemVerdict>, Failure> {
    let verdicts = verify(folder, &mut |file, done, of| watch.progress(file, done, of)).map_err(Failure::before)?;
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
    state_dir: &Path,
    cloud_id: Uuid,
    folder: &Path,
    plan: bool,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    watch.step_started("verify", "verifying what was carried");
    let verdicts = verified(folder, watch)?;
    let _held = FolderLock::take(folder);
    let mut report = Report::new(NAME, Outcome::Planned, cloud_id, None);
    let mut wanted: Vec<(&Path, &ItemManifest, Value)> = Vec::new();
    let mut problems = Vec::new();
    for verdict in &verdicts {
        let Some(manifest) = &verdict.manifest else { continue };
        if manifest.cloud_id != cloud_id {
            let message = format!("{} was downloaded for the stamp {}", manifest.product, manifest.cloud_id);
            problems.push(Problem::new(&code::BUNDLE_OTHER_STAMP, message).next("Download it with this stamp's --cloud-id."));
        }
        let path = verdict.folder.join(format!("{}.json", manifest.product));
        let text = std::fs::read_to_string(&path).map_err(|e| Failure::before(Problem::new(&code::FILE_UNREADABLE, format!("{}: {e}", path.display()))))?;
        match serde_json::from_str(&text) {
            Ok(properties) => wanted.push((&verdict.folder, manifest, properties)),
            Err(error) => problems.push(Problem::new(&code::ITEM_DAMAGED, format!("{}: {error}", path.display()))),
        }
    }
    if !problems.is_empty() {
        return Err(Failure { exit: problems[0].code.exit, ..refused(problems) });
    }
    // Those that others can't do without come first.
    wanted.sort_by_key(|(_, _, properties)| properties["dependentProducts"].as_array().map_or(0, Vec::len));
    let there = read(clock, Policy::AZURE, async || market.items().await).await?;
    let state = |name: &str| there.iter().find(|item| item.product.name.eq_ignore_ascii_case(name)).map(|item| item.state.clone());
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
        if state(&manifest.product) == Some(ItemState::Succeeded) {
            let step = StepReport { step: "import", state: StepState::AlreadyDone, detail: format!("{}: there", manifest.product) };
            watch.step_ended(&step);
            report.steps.push(step);
            sent += manifest.bytes();
            continue;
        }
        changed = true;
        let one = Item { market, clock, path, manifest, properties };
        let steps = one.import(state_dir, cloud_id, (&mut sent, total), watch).await.map_err(|mut failure| {
            failure.steps = [report.steps.clone(), failure.steps.clone()].concat();
            failure
        })?;
        report.steps.extend(steps);
    }
    // A run that died in its last moment left the account: it goes, if nothing of somebody else's is in it.
    let ours = |name: &String| wanted.iter().any(|(_, manifest, _)| name.starts_with(&format!("{}_", manifest.product)));
    let left = read(clock, Policy::AZURE, async || market.names().await).await;
    if left.is_ok_and(|names| names.iter().all(ours)) {
        read(clock, Policy::AZURE, async || market.close().await).await?;
    }
    report.outcome = if changed { Outcome::Done } else { Outcome::NothingToDo };
    Ok(report)
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

    async fn import(
        &self,
        state_dir: &Path,
        cloud_id: Uuid,
        (sent, total): (&mut u64, u64),
        watch: &mut dyn Watch,
    ) -> Result<Vec<StepReport>, Failure> {
        let product = self.manifest.product.as_str();
        let request = json!({"item": product, "version": self.manifest.version});
        let (lock, mut journal) = begin(state_dir, cloud_id, (NAME, VERSION), &request, self.clock)?;
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
                    let name = self.blob(file);
                    if !self.is_there(&name, file).await? {
                        return Ok(None);
                    }
                }
                Ok(Some(((), format!("{product}: {} files are in the stamp's storage", self.files().count()))))
            };
            let act = async || {
                self.market.open().await?;
                let mut done = begun;
                for file in self.files() {
                    self.upload(file, done).await?;
                    done += file.bytes;
                }
                Ok(None)
            };
            steps.step("upload", &format!("uploading {product}"), Policy::STAMP, observe, act, |()| json!({ "item": product })).await?;
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
        let operation = steps.step("item", &format!("giving {product} to the stamp"), Policy::STAMP, observe, act, output).await?;
        let reports = steps.into_reports();
        *sent = begun + self.manifest.bytes();
        watch.progress(product, *sent, total);
        let waited = follow(self.market, self.clock, product, operation.as_deref(), watch).await;
        waited.map_err(|failure| Failure { steps: reports.clone(), exit: failure.exit, ..failure })?;
        let mut steps = Steps::new(&mut journal, self.clock, watch, &none);
        let observe = async || {
            let left = self.market.names().await?;
            let prefix = format!("{product}_");
            Ok(left.iter().all(|name| !name.starts_with(&prefix)).then(|| ((), format!("{product}: there, its files are removed"))))
        };
        let act = async || {
            for file in self.files() {
                self.market.delete(&self.blob(file)).await?;
            }
            Ok(None)
        };
        steps.step("clean-up", "removing the files from the stamp's storage", Policy::STAMP, observe, act, |()| json!({})).await?;
        steps.finish("imported")?;
        drop(lock);
        Ok([reports, steps.into_reports()].concat())
    }

    async fn is_there(&self, name: &str, file: &ItemFile) -> Result<bool, PortError> {
        let found = self.market.blob(name).await?;
        Ok(found.is_some_and(|blob| blob.length == file.bytes && blob.sha256.as_deref() == Some(file.sha256.as_str())))
    }

    /// Uploads a file from where an earlier run left it; what is not whole gets no sum.
    async fn upload(&self, file: &ItemFile, _done: u64) -> Result<(), PortError> {
        let name = self.blob(file);
        if self.is_there(&name, file).await? {
            return Ok(());
        }
        let path = self.path.join(&file.path);
        let unreadable = |error: std::io::Error| PortError::permanent(Problem::new(&code::FILE_UNREADABLE, format!("{}: {error}", path.display())));
        let mut data = File::open(&path).map_err(unreadable)?;
        let pages = file.path.to_lowercase().ends_with(".vhd") && file.bytes.is_multiple_of(512);
        let have = if pages { self.begun_pages(&name, file).await? } else { self.market.blocks(&name, BLOCK).await? };
        // Whole blocks alone are gone on from; the sum is of every byte, also of those that are there.
        let have = have.min(file.bytes) / BLOCK * BLOCK;
        let mut hash = Sha256::new();
        let mut at = 0;
        let mut buffer = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
        while at < file.bytes {
            let length = usize::try_from((file.bytes - at).min(BLOCK)).unwrap_or(0);
            let block = &mut buffer[..length];
            data.read_exact(block).map_err(unreadable)?;
            hash.update(&*block);
            if at >= have {
                if !pages {
                    self.market.put_block(&name, at / BLOCK, Bytes::copy_from_slice(block)).await?;
                } else if block.iter().any(|byte| *byte != 0) || at + length as u64 == file.bytes {
                    // Pages that were never written are zero already.
                    self.market.put_pages(&name, at, Bytes::copy_from_slice(block)).await?;
                }
            }
            at += length as u64;
        }
        let sum = hex(&hash.finalize());
        if sum != file.sha256 {
            let message = format!("{}: its SHA-256 is {sum} now", path.display());
            return Err(PortError::permanent(Problem::new(&code::ITEM_DAMAGED, message)));
        }
        if pages {
            self.market.finish_pages(&name, &sum).await
        } else {
            self.market.commit(&name, file.bytes.div_ceil(BLOCK), &sum).await
        }
    }

    /// A page blob of this file's length, and how much of it was written.
    async fn begun_pages(&self, name: &str, file: &ItemFile) -> Result<u64, PortError> {
        match self.market.blob(name).await? {
            Some(StagedBlob { length, sha256: None }) if length == file.bytes => self.market.pages(name).await,
            _ => {
                self.market.create_pages(name, file.bytes).await?;
                Ok(0)
            }
        }
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
