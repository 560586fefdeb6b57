//! Marketplace items: brought to a connected stamp by the stamp itself, carried to a disconnected one in a folder.
//!
//! [`stamp`] is what an operator does at a connected stamp, [`fetch`] what is done on a machine with internet, [`folder`]
//! what is carried and how it is verified, [`import`] what is done with it at the disconnected stamp. Journals and locks
//! lie apart from those of registrations: a download of an hour stands in no renewal's way.

pub mod fetch;
pub mod folder;
pub mod import;
pub mod stamp;

use std::path::{Path, PathBuf};

use azsreg_model::{ItemProgress, Problem, Product, ProductDetails, RegistrationId, StampItem, code};
use bytes::Bytes;
use secrecy::SecretString;
use serde_json::Value;

use crate::engine::journal::{self, FileJournal, History};
use crate::engine::lock::StampLock;
use crate::engine::{Failure, Watch};
use crate::ports::{Clock, PortError};

/// A stamp, as Azure's compatibility rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its build.
    pub build: String,
    /// `AzureAD` or `ADFS`.
    pub identity: String,
}

/// Azure's marketplace, as a registration sees it.
#[allow(async_fn_in_trait)]
pub trait Catalogue {
    /// All products; with a device, each says whether it can have it.
    async fn products(&self, id: &RegistrationId, device: Option<&Device>) -> Result<Vec<Product>, PortError>;
    /// A product.
    async fn product(
        &self,
        id: &RegistrationId,
        name: &str,
        device: Option<&Device>,
    ) -> Result<Option<Product>, PortError>;
    /// Where its parts are, for a while.
    async fn product_details(&self, id: &RegistrationId, name: &str) -> Result<ProductDetails, PortError>;
}

/// What a storage service says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobAbout {
    /// All its bytes.
    pub length: u64,
    /// Its version.
    pub etag: String,
    /// The MD5 of the whole, where it is known.
    pub md5: Option<[u8; 16]>,
}

/// Where the bytes of a blob go.
#[allow(async_fn_in_trait)]
pub trait Sink {
    /// First, what the blob is.
    fn begun(&mut self, about: &BlobAbout) -> Result<(), Problem>;
    /// Then its bytes, in order.
    fn bytes(&mut self, bytes: Bytes) -> Result<(), Problem>;
}

/// Why a blob could not be read.
#[derive(Debug)]
pub enum BlobError {
    /// The address is not good any more: another has to be asked for.
    Address(PortError),
    /// It is not the version that was begun with.
    Changed,
    /// The bytes could not be taken.
    Sink(Problem),
    /// Otherwise.
    Port(PortError),
}

/// Reads blobs.
#[allow(async_fn_in_trait)]
pub trait Blobs {
    /// Reads a blob from a byte on; with a version, that very version.
    async fn read(
        &self,
        address: &SecretString,
        from: u64,
        etag: Option<&str>,
        sink: &mut impl Sink,
    ) -> Result<(), BlobError>;
}

/// The marketplace of a stamp, over its admin Resource Manager.
#[allow(async_fn_in_trait)]
pub trait StampMarket {
    /// What Azure offers to the stamp.
    async fn products(&self) -> Result<Vec<Product>, PortError>;
    /// One of those.
    async fn product(&self, name: &str) -> Result<Option<Product>, PortError>;
    /// What the stamp has, or is about to.
    async fn items(&self) -> Result<Vec<StampItem>, PortError>;
    /// One of those.
    async fn item(&self, name: &str) -> Result<Option<StampItem>, PortError>;
    /// Has the stamp download a product: the address of its operation, where it goes on after the answer.
    async fn download(&self, name: &str) -> Result<Option<String>, PortError>;
    /// How far an operation is.
    async fn progress(&self, operation: &str) -> Result<ItemProgress, PortError>;
    /// Removes an item. It is no failure if there is none.
    async fn remove(&self, name: &str) -> Result<(), PortError>;
    /// Gives the stamp an item whose parts lie in its storage: the address of the operation.
    async fn put(&self, name: &str, properties: &Value) -> Result<Option<String>, PortError>;
}

/// A blob in the stamp's storage, as far as it was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedBlob {
    /// All its bytes.
    pub length: u64,
    /// The SHA-256 that a finished upload left with it.
    pub sha256: Option<String>,
}

/// The stamp's storage account that takes the carried files.
#[allow(async_fn_in_trait)]
pub trait Staging {
    /// Makes group, account and container where they are not there.
    async fn open(&self) -> Result<(), PortError>;
    /// A blob, finished or not.
    async fn blob(&self, name: &str) -> Result<Option<StagedBlob>, PortError>;
    /// How many bytes of a block blob wait to be committed, in blocks of this length.
    async fn blocks(&self, name: &str, block: u64) -> Result<u64, PortError>;
    /// Uploads a block.
    async fn put_block(&self, name: &str, number: u64, bytes: Bytes) -> Result<(), PortError>;
    /// Makes a block blob of so many blocks.
    async fn commit(&self, name: &str, blocks: u64, sha256: &str) -> Result<(), PortError>;
    /// Makes an empty page blob.
    async fn create_pages(&self, name: &str, length: u64) -> Result<(), PortError>;
    /// The byte after the last page that was written.
    async fn pages(&self, name: &str) -> Result<u64, PortError>;
    /// Writes pages.
    async fn put_pages(&self, name: &str, from: u64, bytes: Bytes) -> Result<(), PortError>;
    /// Marks a page blob as finished.
    async fn finish_pages(&self, name: &str, sha256: &str) -> Result<(), PortError>;
    /// The address that the stamp reads it by.
    async fn address(&self, name: &str) -> Result<String, PortError>;
    /// Removes a blob. It is no failure if there is none.
    async fn delete(&self, name: &str) -> Result<(), PortError>;
    /// The names of all blobs.
    async fn names(&self) -> Result<Vec<String>, PortError>;
    /// Removes the group with all that is in it. It is no failure if there is none.
    async fn close(&self) -> Result<(), PortError>;
}

/// Where journals and locks of marketplace commands lie.
#[must_use]
pub fn state(state_dir: &Path) -> PathBuf {
    state_dir.join("marketplace")
}

/// Takes the lock and opens the journal of one item's operation: the one that did not end, or a new one.
pub(crate) fn begin<C: Clock>(
    state_dir: &Path,
    cloud_id: uuid::Uuid,
    (operation, version): (&'static str, u32),
    request: &Value,
    clock: &C,
) -> Result<(StampLock, FileJournal), Failure> {
    use journal::{Event, Journal as _};
    let dir = state(state_dir);
    let lock = StampLock::take(&dir, cloud_id, operation, clock.now()).map_err(Failure::before)?;
    let failed = |error: journal::JournalError| Failure::before(error.problem());
    let open = History::read(&dir, cloud_id).map_err(failed)?.open;
    let same = |events: &[Event]| {
        matches!(events.first(), Some(Event::Opened { operation: name, version: of, request: asked, .. })
            if name == operation && *of == version && asked == request)
    };
    if let Some(journal) = open.filter(|journal| same(journal.events())) {
        return Ok((lock, journal));
    }
    let mut journal = FileJournal::create(&dir, cloud_id, operation, clock.now()).map_err(failed)?;
    let event = Event::Opened {
        operation: operation.to_owned(),
        version,
        azsreg: env!("CARGO_PKG_VERSION").to_owned(),
        cloud_id,
        who: journal::who(),
        request: request.clone(),
    };
    journal.append(clock.now(), event).map_err(failed)?;
    Ok((lock, journal))
}

/// A name that nothing has, with what it may have been meant to be.
#[must_use]
pub fn unknown(name: &str, known: &[Product]) -> Problem {
    let mut problem = Problem::new(&code::ITEM_UNKNOWN, format!("there is no item {name:?}"));
    let words: Vec<&str> = name.split(['.', '-', '_', ' ']).filter(|word| word.len() > 3).collect();
    let near = |product: &&Product| product.matches(name) || words.iter().any(|word| product.matches(word));
    problem.details = known.iter().filter(near).take(5).map(|product| format!("is it {}?", product.name)).collect();
    problem
}

/// The one of this name, whatever its case, or a problem with those that are near.
///
/// # Errors
/// There is none.
pub fn named<'p>(name: &str, known: &'p [Product]) -> Result<&'p Product, Problem> {
    known.iter().find(|product| product.name.eq_ignore_ascii_case(name)).ok_or_else(|| unknown(name, known))
}

/// Waits for an operation of a stamp. What the stamp does goes on when nobody waits.
pub(crate) async fn follow<M: StampMarket, C: Clock>(
    market: &M,
    clock: &C,
    name: &str,
    operation: Option<&str>,
    watch: &mut dyn Watch,
) -> Result<(), Failure> {
    use std::time::Duration;

    use azsreg_model::{ExitCode, ItemState};
    use jiff::SignedDuration;

    use crate::engine::retry::{Policy, read};
    /// A stamp that gets no further for so long has given up.
    const STUCK: SignedDuration = SignedDuration::from_hours(6);

    let failed = |problem: Problem| Failure { exit: problem.code.exit, problems: vec![problem], step: Some("wait"), steps: Vec::new() };
    let mut wait = Duration::from_millis(200);
    let (mut since, mut last) = (clock.now(), None);
    loop {
        let progress = match operation {
            None => ItemProgress::Running(None),
            Some(operation) => match read(clock, Policy::AZURE, async || market.progress(operation).await).await {
                Ok(progress) => progress,
                // An operation that the stamp has forgotten says nothing; the item does.
                Err(error) if error.problem.code == &code::ITEM_UNKNOWN => ItemProgress::Running(None),
                Err(error) => return Err(failed(*error.problem)),
            },
        };
        match progress {
            ItemProgress::Succeeded => return Ok(()),
            ItemProgress::Failed(code, message) => {
                return Err(failed(stamp::failed(name, &code, &message)));
            }
            ItemProgress::Running(percent) => {
                let item = read(clock, Policy::AZURE, async || market.item(name).await).await.map_err(|e| failed(*e.problem))?;
                match item.map(|item| item.state) {
                    Some(ItemState::Succeeded) => return Ok(()),
                    Some(ItemState::Failed) => {
                        // It may have failed between the two looks.
                        if let Some(operation) = operation
                            && let Ok(ItemProgress::Failed(code, message)) = market.progress(operation).await
                        {
                            return Err(failed(stamp::failed(name, &code, &message)));
                        }
                        let message = format!("the stamp could not bring {name}, and does not say why any more");
                        return Err(failed(Problem::new(&code::ITEM_FAILED, message)));
                    }
                    Some(_) => {}
                    None => {
                        let message = format!("the stamp does not have {name} any more: somebody removed it");
                        return Err(failed(Problem::new(&code::ITEM_FAILED, message)));
                    }
                }
                if percent != last {
                    (since, last) = (clock.now(), percent);
                }
                match percent {
                    Some(percent) => watch.waiting(&format!("{name}: {percent} %")),
                    None => watch.waiting(&format!("{name}: the stamp is bringing it")),
                }
                if clock.now().duration_since(since) >= STUCK {
                    let message = format!("the stamp gets no further with {name}");
                    return Err(Failure {
                        exit: ExitCode::Resumable,
                        ..failed(Problem::new(&code::STAMP_TIMEOUT, message).next("Run the same command again: it goes on waiting."))
                    });
                }
                clock.sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
        }
    }
}
