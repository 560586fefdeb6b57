//! Downloading marketplace items on a machine with internet, for a stamp that has none.
//!
//! The registration is found by the stamp's cloud id. Everything that can be checked is checked before the first byte:
//! names, compatibility, terms, room. Then files come several at once, each resumable and summed up while it is written;
//! an item's manifest is written when all of it is there.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use azsreg_model::{
    Agreed, ItemContents, ItemFile, ItemManifest, Outcome, Part, PartRole, PlannedStep, Problem, Product,
    ProductDetails, Registration, RegistrationId, Report, StepReport, StepState, code,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::folder::{Fetch, FolderLock, ItemFolder, Unfit, free_space, list_item};
use super::verify;
use super::{BlobAbout, BlobError, Blobs, Catalogue, Device, Sink, exit_of, in_order, named};
use crate::engine::retry::{Backoff, Policy, read};
use crate::engine::{Failure, Watch, journal};
use crate::ports::{Azure, Class, Clock, PortError};
use crate::register::refused;

/// The operation's name.
pub const NAME: &str = "marketplace-download";
/// So many items come at once, and of each so many files.
const ITEMS_AT_ONCE: usize = 3;
const AT_ONCE: usize = 3;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The subscription of the registration.
    pub subscription: Uuid,
    /// The stamp that the items are for.
    pub cloud_id: Uuid,
    /// The items, by name.
    pub items: Vec<String>,
    /// Where they go.
    pub folder: PathBuf,
    /// The stamp, where its build and identity system are known.
    pub device: Option<Device>,
    /// Only say what would be done.
    pub plan: bool,
}

/// The registration of a stamp: by its cloud id, never the first one.
///
/// # Errors
/// There is none, or Azure can't be read.
pub async fn registration<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    subscription: Uuid,
    cloud_id: Option<Uuid>,
) -> Result<Registration, Failure> {
    crate::checks::subscription(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let all = read(clock, Policy::AZURE, async || azure.registrations(subscription).await).await?;
    let shown = |r: &Registration| format!("{} has the cloud id {}", r.id.name, r.cloud_id.unwrap_or_default());
    let Some(wanted) = cloud_id else {
        let mut problem = Problem::new(&code::WHICH_STAMP, "the stamp that the items are for is not named");
        problem.details = all.iter().map(shown).collect();
        return Err(refused_as(problem));
    };
    let mut found: Vec<Registration> = all.iter().filter(|r| r.cloud_id == Some(wanted)).cloned().collect();
    if found.len() > 1 {
        // A stamp that was renewed under another name leaves the expired one behind, and Azure gives nothing to that.
        let mut ends = Vec::new();
        for registration in found {
            let expires = crate::checks::expiry(azure, clock, &registration).await?;
            ends.push((expires.unwrap_or(Timestamp::MAX), registration));
        }
        ends.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.id.name.cmp(&b.1.id.name)));
        found = ends.into_iter().map(|(_, registration)| registration).collect();
    }
    match found.pop() {
        Some(registration) => Ok(registration),
        None => {
            let message = format!("the subscription {subscription} has no registration of the stamp {wanted}");
            let mut problem = Problem::new(&code::NOT_REGISTERED, message)
                .next("Check --cloud-id and --subscription: azsreg list shows the registrations with their cloud ids.");
            problem.details = all.iter().map(shown).collect();
            Err(refused_as(problem))
        }
    }
}

fn refused_as(problem: Problem) -> Failure {
    Failure { exit: problem.code.exit, ..refused(vec![problem]) }
}

/// An item that is to be fetched.
struct Wanted {
    product: Product,
    details: ProductDetails,
}

/// What Azure has of the items, and of those that they can't do without.
async fn look<A: Catalogue, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
    request: &FetchRequest,
) -> Result<Vec<Wanted>, Failure> {
    let ask = async || azure.products(id, request.device.as_ref()).await;
    let offered = read(clock, Policy::AZURE, ask).await.map_err(refusal)?;
    let (mut wanted, mut problems) = (Vec::<Wanted>::new(), Vec::new());
    let mut open: Vec<String> = request.items.iter().rev().cloned().collect();
    while let Some(name) = open.pop() {
        let known = match named(&name, &offered) {
            Ok(known) => known,
            Err(problem) => {
                problems.push(problem.next(format!("azsreg marketplace list --cloud-id {}", request.cloud_id)));
                continue;
            }
        };
        if wanted.iter().any(|item| item.product.name == known.name) {
            continue;
        }
        if let Some(why) = known.incompatible() {
            let problem =
                Problem::new(&code::ITEM_INCOMPATIBLE, format!("{} is not for this stamp: {why}", known.name));
            let build = request.device.as_ref().map_or("BUILD", |device| device.build.as_str());
            let next =
                format!("azsreg marketplace list --compatible --cloud-id {} --stamp-build {build}", request.cloud_id);
            problems.push(problem.next(next));
            continue;
        }
        // A list is short of words; the item itself has them.
        let ask = async || azure.product(id, &known.name, request.device.as_ref()).await;
        let product = read(clock, Policy::AZURE, ask).await?.unwrap_or_else(|| known.clone());
        let details = read(clock, Policy::AZURE, async || azure.product_details(id, &known.name).await).await?;
        open.extend(details.dependents.iter().cloned());
        wanted.push(Wanted { product, details });
    }
    // Those that others can't do without come first: a run that is killed leaves nothing that lacks them.
    let names: Vec<String> = wanted.iter().map(|item| item.product.name.clone()).collect();
    let needs = |name: &str| {
        let item = wanted.iter().find(|item| item.product.name.eq_ignore_ascii_case(name));
        item.map(|item| item.details.dependents.clone()).unwrap_or_default()
    };
    let order = in_order(&names, &needs);
    wanted.sort_by_key(|item| order.iter().position(|name| *name == item.product.name));
    if problems.is_empty() { Ok(wanted) } else { Err(Failure { exit: exit_of(&problems), ..refused(problems) }) }
}

fn refusal(error: PortError) -> Failure {
    let mut problem = *error.problem;
    let words = problem.details.join(" ");
    if words.contains("RegistrationExpired") {
        problem = Problem { details: problem.details, ..Problem::new(&code::EXPIRED, "the registration has expired") };
    }
    Failure::before(problem)
}

/// Who is shown titles and terms, and says whether they are accepted.
pub type Agree<'a> = dyn FnMut(&[(String, String)]) -> Result<(), Problem> + 'a;

/// Downloads items. `agree` is shown the terms of those that have any, and says whether they are accepted.
///
/// # Errors
/// Nothing was written: an item is unknown or not for the stamp, terms are not accepted, there is no room. Or half-way: what
/// came stays, and the same command goes on from there.
pub async fn download<A: Azure + Catalogue, B: Blobs, C: Clock>(
    azure: &A,
    blobs: &B,
    clock: &C,
    request: &FetchRequest,
    agree: &mut Agree<'_>,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let registration = registration(azure, clock, request.subscription, Some(request.cloud_id)).await?;
    let id = registration.id;
    let wanted = look(azure, clock, &id, request).await?;
    let mut report = Report::new(NAME, Outcome::Planned, request.cloud_id, Some(id.clone()));
    let size = |item: &Wanted| item.product.bytes.unwrap_or(0);
    let (mut there, mut missing): (Vec<&Wanted>, Vec<&Wanted>) = (Vec::new(), Vec::new());
    let (mut again, mut elsewhere) = (Vec::new(), Vec::new());
    watch.step_started("verify", "looking at what is there");
    for item in &wanted {
        let Some(manifest) = ItemFolder::manifest(&request.folder, &item.product.name) else {
            missing.push(item);
            continue;
        };
        if manifest.cloud_id != request.cloud_id {
            let message =
                format!("{} of the stamp {} is in {}", manifest.product, manifest.cloud_id, request.folder.display());
            elsewhere
                .push(Problem::new(&code::BUNDLE_OTHER_STAMP, message).next("Choose another --to for each stamp."));
            continue;
        }
        let good = verify::good(&request.folder, &manifest, &mut |file, done, of| watch.progress(file, done, of)).await;
        if good.len() == manifest.files.len() && manifest.version == item.product.version {
            there.push(item);
        } else {
            // What was replaced in Azure, or has rotted here, is fetched anew.
            let same = if manifest.version == item.product.version { good } else { Vec::new() };
            again.push((manifest, same));
            missing.push(item);
        }
    }
    if !elsewhere.is_empty() {
        return Err(Failure { exit: elsewhere[0].code.exit, ..refused(elsewhere) });
    }
    let need: u64 = missing
        .iter()
        .map(|item| size(item).saturating_sub(ItemFolder::bytes_there(&request.folder, &item.product.name)))
        .sum();
    if request.plan {
        report.plan = wanted
            .iter()
            .map(|item| {
                let changes = missing.iter().any(|other| other.product.name == item.product.name);
                let what = if changes { format!("{} would be downloaded", amount(size(item))) } else { "there".into() };
                PlannedStep { step: "download", changes, detail: format!("{}: {what}", item.product.name) }
            })
            .collect();
        return Ok(report);
    }
    if let Some(free) = free_space(&request.folder).filter(|free| *free < need) {
        let message =
            format!("{}: {} are needed and {} are free", request.folder.display(), amount(need), amount(free));
        return Err(refused_as(Problem::new(&code::NO_SPACE, message)));
    }
    let terms: Vec<(String, String)> = missing
        .iter()
        .filter(|item| !item.product.legal_terms.is_empty())
        .map(|item| (item.product.title.clone(), item.product.legal_terms.clone()))
        .collect();
    if !terms.is_empty() {
        agree(&terms).map_err(refused_as)?;
    }
    let _lock = FolderLock::take(&request.folder).map_err(refused_as)?;
    for (manifest, good) in &again {
        ItemFolder::reopen(&request.folder, manifest, good).map_err(refused_as)?;
    }
    for item in &there {
        ItemFolder::tidy(&request.folder, &item.product.name).map_err(refused_as)?;
        if let Some(manifest) = ItemFolder::manifest(&request.folder, &item.product.name) {
            list_item(&request.folder, &manifest).map_err(refused_as)?;
        }
        let step = StepReport {
            step: "download",
            state: StepState::AlreadyDone,
            detail: format!("{}: there", item.product.name),
        };
        watch.step_ended(&step);
        report.steps.push(step);
    }
    let total: u64 = missing.iter().map(|item| size(item)).sum();
    let came = RefCell::new((0, total));
    let first = missing.first().map_or("", |item| item.product.name.as_str());
    let title = if missing.len() > 1 { format!("{} items", missing.len()) } else { first.to_owned() };
    watch.step_started("download", &title);
    if !missing.is_empty() {
        watch.acting("download");
    }
    let watch = RefCell::new(watch);
    if request.device.is_none() && !missing.is_empty() {
        let text = "Whether the stamp can have them was not checked: with --stamp-build Azure says so.";
        watch.borrow_mut().note(text);
    }
    let (came, shared) = (&came, &watch);
    let fetching = missing.iter().map(|item| async {
        let manifest = one(azure, blobs, clock, &id, item, request, came, shared).await?;
        let sum = |file: &&ItemFile| file.role != PartRole::Description && !file.md5_held;
        let how = match manifest.files.iter().any(|file| sum(&file)) {
            // What Azure gives no sum of can only be told from what it was when it came.
            true => "summed up; Azure has no MD5 of a file this large",
            false => "verified",
        };
        let detail = format!("{}: {}, {how}", item.product.name, amount(manifest.bytes()));
        let step = StepReport { step: "download", state: StepState::Done, detail };
        shared.borrow_mut().step_ended(&step);
        Ok::<_, Problem>(step)
    });
    // Those that others need are begun first. What fails keeps nothing else from coming.
    let fetched: Vec<Result<StepReport, Problem>> =
        futures_util::stream::iter(fetching).buffer_unordered(ITEMS_AT_ONCE).collect().await;
    let mut problems = Vec::new();
    for result in fetched {
        match result {
            Ok(step) => report.steps.push(step),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        // What came stays: the same command goes on.
        let exit = azsreg_model::ExitCode::Resumable;
        return Err(Failure { exit, problems, step: Some("download"), steps: report.steps });
    }
    report.outcome = if missing.is_empty() { Outcome::NothingToDo } else { Outcome::Done };
    Ok(report)
}

/// Bytes as people say them.
#[must_use]
pub fn amount(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let n = bytes as f64;
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{:.1} KiB", n / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n / 1_048_576.0),
        _ => format!("{:.2} GiB", n / 1_073_741_824.0),
    }
}

/// Addresses of an item's parts, asked for again when they are not good any more.
struct Addresses<'a, A> {
    azure: &'a A,
    id: &'a RegistrationId,
    name: &'a str,
    details: RefCell<ProductDetails>,
}

impl<A: Catalogue> Addresses<'_, A> {
    fn of(&self, pointer: &str) -> Option<Part> {
        self.details.borrow().parts.iter().find(|part| part.pointer == pointer).cloned()
    }

    async fn renew<C: Clock>(&self, clock: &C) -> Result<(), PortError> {
        let new = read(clock, Policy::AZURE, async || self.azure.product_details(self.id, self.name).await).await?;
        self.details.replace(new);
        Ok(())
    }
}

#[allow(clippy::too_many_arguments)]
async fn one<A: Catalogue, B: Blobs, C: Clock>(
    azure: &A,
    blobs: &B,
    clock: &C,
    id: &RegistrationId,
    item: &Wanted,
    request: &FetchRequest,
    came: &RefCell<(u64, u64)>,
    watch: &RefCell<&mut dyn Watch>,
) -> Result<ItemManifest, Problem> {
    let product = &item.product;
    let folder = ItemFolder::open(&request.folder, &product.name)?;
    let addresses = Addresses { azure, id, name: &product.name, details: RefCell::new(item.details.clone()) };
    let mut parts = item.details.parts.clone();
    parts.extend(product.icons.iter().map(|(size, address)| Part {
        role: PartRole::Icon,
        pointer: format!("/iconUris/{size}"),
        file: format!("Icons/{}.png", size.to_lowercase()),
        address: address.clone().into(),
    }));
    let written = [format!("{}.json", product.name), format!("{}.txt", package_name(product))];
    distinct(product, &parts, &written)?;
    let fetched = futures_util::stream::iter(parts.iter().map(|part| async {
        let (bytes, sha256, md5_held) = match folder.whole(&part.file) {
            Some(whole) => {
                came.borrow_mut().0 += whole.0;
                whole
            }
            None => file(blobs, clock, &folder, part, &addresses, came, watch).await?,
        };
        Ok::<_, Problem>(ItemFile {
            path: part.file.clone(),
            role: part.role,
            pointer: part.pointer.clone(),
            bytes,
            sha256,
            md5_held,
        })
    }));
    let fetched: Vec<Result<ItemFile, Problem>> = fetched.buffer_unordered(AT_ONCE).collect().await;
    let mut files = fetched.into_iter().collect::<Result<Vec<_>, _>>()?;
    let described = |path: String, text: String| {
        let (bytes, sha256) = folder.write(&path, text.as_bytes())?;
        Ok::<_, Problem>(ItemFile {
            path,
            role: PartRole::Description,
            pointer: String::new(),
            bytes,
            sha256,
            md5_held: false,
        })
    };
    let listed = listing(product, &files);
    let [json_file, list_file] = written;
    files.push(described(list_file, listed)?);
    // The old importer takes an item as whole once this is there: it comes last.
    files.push(described(json_file, ascii(&record(product, &item.details)))?);
    let agreed = (!product.legal_terms.is_empty()).then(|| Agreed {
        terms: product.legal_terms.clone(),
        by: journal::who(),
        at: clock.now(),
    });
    let manifest = ItemManifest::new(ItemContents {
        product: product.name.clone(),
        title: product.title.clone(),
        kind: product.kind.clone(),
        version: product.version.clone(),
        cloud_id: request.cloud_id,
        registration: id.clone(),
        azsreg: env!("CARGO_PKG_VERSION").into(),
        at: clock.now(),
        agreed,
        files,
    });
    folder.finish(&manifest)?;
    list_item(&request.folder, &manifest)?;
    Ok(manifest)
}

/// Refuses parts that would be one file: in the folder, or in the stamp's storage, where folders do not count.
fn distinct(product: &Product, parts: &[Part], written: &[String]) -> Result<(), Problem> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_lowercase();
    let mut names: Vec<String> =
        parts.iter().map(|part| last(&part.file)).chain(written.iter().map(|path| last(path))).collect();
    names.sort();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone());
    let reserved = names.iter().find(|name| name.starts_with("azsreg-") && name.contains(".json")).cloned();
    match twice.or(reserved) {
        Some(name) => {
            let message = format!("Azure names two parts of {} alike: {name}", product.name);
            Err(Problem::new(&code::AZURE_PROTOCOL, message).next("Please report this with the item's name."))
        }
        None => Ok(()),
    }
}

/// The package's name: the gallery item's identity, or the product's name.
fn package_name(product: &Product) -> &str {
    if product.gallery_item.is_empty() { &product.name } else { &product.gallery_item }
}

/// The list of files that the old tool writes beside an item; its importer does not read it.
fn listing(product: &Product, files: &[ItemFile]) -> String {
    let mut text = format!(
        "product: {}\r\nversion: {}\r\nkind: {}\r\npublisher: {}\r\n",
        product.name,
        product.version,
        product.kind.wire(),
        product.publisher
    );
    for file in files {
        text.push_str(&format!("{}\r\n", file.path));
    }
    ascii_text(&text)
}

/// What the old importer reads: the product's properties at the top, and where its parts came from, without signatures.
fn record(product: &Product, details: &ProductDetails) -> Value {
    let mut record = product.properties.clone();
    if let (Value::Object(record), Value::Object(more)) = (&mut record, &details.properties) {
        record.retain(|name, _| !["compatibility", "privacyPolicy", "provisioningState"].contains(&name.as_str()));
        for (name, value) in more {
            record.insert(name.clone(), value.clone());
        }
        for name in ["offer", "offerVersion", "sku", "billingPartNumber", "vmExtensionType", "description", "links"] {
            record.entry(name).or_insert(Value::Null);
        }
    }
    record
}

/// JSON in ASCII alone: whatever encoding an old PowerShell takes it for, it reads the same.
fn ascii(value: &Value) -> String {
    ascii_text(&serde_json::to_string_pretty(value).unwrap_or_default())
}

fn ascii_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Bytes on their way into a file, counted.
struct Counted<'a, 'w> {
    fetch: &'a mut Fetch,
    came: &'a RefCell<(u64, u64)>,
    watch: &'a RefCell<&'w mut dyn Watch>,
    name: &'a str,
    any: bool,
}

impl Sink for Counted<'_, '_> {
    fn begun(&mut self, about: &BlobAbout) -> Result<bool, Problem> {
        self.fetch.begun(about)
    }

    fn bytes(&mut self, bytes: Bytes) -> Result<(), Problem> {
        self.any = true;
        let mut came = self.came.borrow_mut();
        came.0 += bytes.len() as u64;
        // Nobody reads faster; a screen is not drawn for each packet.
        if let Ok(mut watch) = self.watch.try_borrow_mut() {
            watch.progress(self.name, came.0, came.1);
        }
        drop(came);
        self.fetch.bytes(bytes)
    }
}

/// Fetches one file: goes on where it was, asks for a new address where the old one has expired, begins anew where the blob
/// is another.
async fn file<A: Catalogue, B: Blobs, C: Clock>(
    blobs: &B,
    clock: &C,
    folder: &ItemFolder,
    part: &Part,
    addresses: &Addresses<'_, A>,
    came: &RefCell<(u64, u64)>,
    watch: &RefCell<&mut dyn Watch>,
) -> Result<(u64, String, bool), Problem> {
    let mut backoff = Backoff::new(Policy::AZURE, clock.now());
    let (mut renewed, mut changed, mut damaged) = (0, 0, 0);
    let mut fetch = folder.fetch(&part.file).await?;
    came.borrow_mut().0 += fetch.at();
    loop {
        if fetch.is_complete() {
            match fetch.finish() {
                Ok(whole) => return Ok(whole),
                Err(Unfit::Disk(problem)) => return Err(problem),
                Err(Unfit::Damaged(why)) => {
                    damaged += 1;
                    let problem =
                        Problem::new(&code::BLOB_DAMAGED, format!("{} of {}: {why}", part.file, addresses.name));
                    if damaged > 1 {
                        return Err(problem);
                    }
                    tracing::warn!(file = part.file, why, "fetching anew");
                    fetch = folder.fetch(&part.file).await?;
                    fetch.restart();
                    continue;
                }
            }
        }
        let address = addresses.of(&part.pointer).map_or_else(|| part.address.clone(), |part| part.address);
        let (from, etag) = (fetch.at(), fetch.etag().map(str::to_owned));
        let mut sink = Counted { fetch: &mut fetch, came, watch, name: addresses.name, any: false };
        let result = blobs.read(&address, from, etag.as_deref(), &mut sink).await;
        let any = sink.any;
        if any {
            // It moves: patience begins anew, and a night's break of the line does not end it.
            backoff = Backoff::new(Policy::BLOBS, clock.now());
            (renewed, changed) = (0, 0);
        }
        // What was written counts, not what came.
        let stopped = fetch.stop();
        let error = match (result, stopped) {
            (Err(BlobError::Sink(problem)), _) | (_, Err(problem)) => return Err(problem),
            (Ok(()), Ok(())) if fetch.is_complete() => continue,
            (Ok(()), Ok(())) => {
                let text = format!("{} of {}: the connection ended early", part.file, addresses.name);
                PortError::new(Class::Transient, Problem::new(&code::BLOB_REFUSED, text))
            }
            (Err(BlobError::Address(error)), Ok(())) => {
                renewed += 1;
                // One that is refused as soon as it was given is not refused for its age.
                if renewed > 3 {
                    return Err(*error.problem);
                }
                addresses.renew(clock).await.map_err(|error| *error.problem)?;
                continue;
            }
            (Err(BlobError::Changed), Ok(())) => {
                changed += 1;
                if changed > 3 {
                    let text = format!("{} of {} changes again and again", part.file, addresses.name);
                    return Err(Problem::new(&code::BLOB_CHANGED, text));
                }
                watch
                    .borrow_mut()
                    .note(&format!("{} of {} was replaced in Azure: it is fetched anew", part.file, addresses.name));
                fetch.restart();
                continue;
            }
            (Err(BlobError::Port(error)), Ok(())) => error,
        };
        match backoff.next(error.class, clock) {
            Some(wait) => {
                tracing::info!(file = part.file, at = fetch.at(), problem = %error.problem, "trying again");
                clock.sleep(wait.max(Duration::from_millis(50))).await;
            }
            None => return Err(*error.problem),
        }
    }
}
