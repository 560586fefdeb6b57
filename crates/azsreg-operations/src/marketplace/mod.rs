//! Marketplace items: brought to a connected stamp by the stamp itself, carried to a disconnected one in a folder.
//!
//! [`stamp`] is what an operator does at a connected stamp, [`fetch`] what is done on a machine with internet, [`folder`]
//! what is carried and [`mod@verify`] how it is verified, [`import`] what is done with it at the disconnected stamp. Journals and locks
//! lie apart from those of registrations: a download of an hour stands in no renewal's way.

pub mod fetch;
pub mod folder;
pub mod import;
pub mod stamp;
pub mod verify;

use std::path::{Path, PathBuf};
use std::time::Duration;

use azsreg_model::{
    ExitCode, ItemProgress, ItemState, Problem, Product, ProductDetails, RegistrationId, StampItem, code,
};
use bytes::Bytes;
use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::Value;

use crate::engine::journal::{self, FileJournal};
use crate::engine::lock::StampLock;
use crate::engine::retry::{Policy, read};
use crate::engine::session::{Books as _, FileBooks};
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
    /// First, what the blob is: false if it is not the one that was begun with.
    fn begun(&mut self, about: &BlobAbout) -> Result<bool, Problem>;
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

/// A blob in the stamp's storage, as far as it was uploaded. What an upload has said of itself tells what may be gone on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StagedBlob {
    /// All its bytes.
    pub length: u64,
    /// The SHA-256 that a finished upload left with it.
    pub sha256: Option<String>,
    /// The SHA-256 of the file that an upload of pages was begun for.
    pub begun_for: Option<String>,
    /// How far that upload was: a byte, and the SHA-256 of all before it.
    pub up_to: Option<(u64, String)>,
}

/// The stamp's storage account that takes the carried files.
#[allow(async_fn_in_trait)]
pub trait Staging {
    /// Makes group, account and container where they are not there.
    async fn open(&self) -> Result<(), PortError>;
    /// A blob, finished or not.
    async fn blob(&self, name: &str) -> Result<Option<StagedBlob>, PortError>;
    /// The ids of the blocks of a blob that wait to be committed.
    async fn blocks(&self, name: &str) -> Result<Vec<String>, PortError>;
    /// Uploads a block under an id; all ids of a blob are of one length.
    async fn put_block(&self, name: &str, id: &str, bytes: Bytes) -> Result<(), PortError>;
    /// Makes a block blob of these blocks.
    async fn commit(&self, name: &str, ids: &[String], sha256: &str) -> Result<(), PortError>;
    /// Makes an empty page blob for a file, where there is no blob of this name.
    async fn create_pages(&self, name: &str, length: u64, begun_for: &str) -> Result<(), PortError>;
    /// Writes pages.
    async fn put_pages(&self, name: &str, from: u64, bytes: Bytes) -> Result<(), PortError>;
    /// Leaves with a page blob how far its upload is.
    async fn mark_pages(&self, name: &str, begun_for: &str, up_to: (u64, &str)) -> Result<(), PortError>;
    /// Marks a page blob as finished.
    async fn finish_pages(&self, name: &str, sha256: &str) -> Result<(), PortError>;
    /// The address that the stamp reads it by.
    async fn address(&self, name: &str) -> Result<String, PortError>;
    /// Removes a blob. It is no failure if there is none.
    async fn delete(&self, name: &str) -> Result<(), PortError>;
    /// Removes group, account and container, if azsreg made them and nothing else is in them; otherwise says what is.
    async fn close(&self) -> Result<Option<String>, PortError>;
}

/// The directory of the journals and locks of marketplace commands.
const STATE: &str = "marketplace";

/// Where it is.
#[must_use]
pub fn state(state_dir: &Path) -> PathBuf {
    state_dir.join(STATE)
}

/// Takes the lock and opens the journal of one item's operation: the one that did not end, or a new one.
pub(crate) fn begin<C: Clock>(
    books: &FileBooks,
    cloud_id: uuid::Uuid,
    operation: (&'static str, u32),
    request: &Value,
    clock: &C,
) -> Result<(StampLock, FileJournal), Failure> {
    begin_in(&books.within(STATE), cloud_id, operation, request, clock)
}

/// Likewise, with journals and locks in a directory of their own.
pub(crate) fn begin_in<C: Clock>(
    books: &FileBooks,
    cloud_id: uuid::Uuid,
    (operation, version): (&'static str, u32),
    request: &Value,
    clock: &C,
) -> Result<(StampLock, FileJournal), Failure> {
    use journal::{Event, Journal as _};
    let lock = books.hold(cloud_id, operation, clock.now()).map_err(Failure::before)?;
    let failed = |error: journal::JournalError| Failure::before(error.problem());
    let open = books.history(cloud_id).map_err(Failure::before)?.open;
    let same = |events: &[Event]| {
        matches!(events.first(), Some(Event::Opened { operation: name, version: of, request: asked, .. })
            if name == operation && *of == version && asked == request)
    };
    if let Some(journal) = open.filter(|journal| same(journal.events())) {
        return Ok((lock, journal));
    }
    let mut journal = books.begin(cloud_id, operation, clock.now()).map_err(failed)?;
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

/// The exit code of several refusals: their own if they have one.
pub(crate) fn exit_of(problems: &[Problem]) -> ExitCode {
    let first = problems.first().map_or(ExitCode::Failed, |problem| problem.code.exit);
    if problems.iter().all(|problem| problem.code.exit == first) { first } else { ExitCode::CheckFailed }
}

/// A name that nothing has, with what it may have been meant to be.
#[must_use]
pub fn unknown(name: &str, known: &[Product]) -> Problem {
    let mut problem = Problem::new(&code::ITEM_UNKNOWN, format!("there is no item {name:?}"));
    // What begins alike is meant most often: a version is forgotten or wrong.
    let wanted = name.to_lowercase();
    let alike = |product: &Product| {
        let known = product.name.to_lowercase();
        let begins = known.chars().zip(wanted.chars()).take_while(|(a, b)| a == b).count();
        let words = wanted.split(['.', '-', '_', ' ']).filter(|word| word.len() > 3 && product.matches(word)).count();
        let whole = usize::from(wanted.len() > 3 && product.matches(&wanted));
        whole * 100 + begins + words * 4
    };
    let mut near: Vec<(usize, &Product)> = known.iter().map(|product| (alike(product), product)).collect();
    near.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let best = near.first().map_or(0, |(score, _)| *score);
    let near = near.iter().filter(|(score, _)| *score > 5 && *score * 4 >= best * 3).take(3);
    problem.details = near.map(|(_, product)| format!("is it {}?", product.name)).collect();
    problem
}

/// The one of this name, whatever its case, or a problem with those that are near.
///
/// # Errors
/// There is none.
pub fn named<'p>(name: &str, known: &'p [Product]) -> Result<&'p Product, Problem> {
    known.iter().find(|product| product.name.eq_ignore_ascii_case(name)).ok_or_else(|| unknown(name, known))
}

/// A stamp that gets no further for so long has given up.
const STUCK: SignedDuration = SignedDuration::from_hours(6);
/// What was begun may take so long to be seen.
const UNSEEN: SignedDuration = SignedDuration::from_mins(5);

/// Waits for an operation of a stamp. What the stamp does goes on when nobody waits: but for its own failures, the same
/// command goes on waiting.
pub(crate) async fn follow<M: StampMarket, C: Clock>(
    market: &M,
    clock: &C,
    name: &str,
    operation: Option<&str>,
    watch: &mut dyn Watch,
) -> Result<(), Failure> {
    let ended =
        |problem: Problem, exit| Failure { exit, problems: vec![problem], step: Some("wait"), steps: Vec::new() };
    // It had begun: the same command begins it anew.
    let failed = |problem: Problem| ended(problem, ExitCode::Resumable);
    let broken = |error: PortError| ended(*error.problem, ExitCode::Resumable);
    let begun = clock.now();
    let mut wait = Duration::from_millis(200);
    let (mut since, mut last) = (begun, None);
    loop {
        // Waiting takes hours: so does patience with the line.
        let progress = match operation {
            None => ItemProgress::Running(None),
            Some(operation) => match read(clock, Policy::STAMP, async || market.progress(operation).await).await {
                Ok(progress) => progress,
                // An operation that the stamp has forgotten says nothing; the item does.
                Err(error) if error.problem.code == &code::ITEM_UNKNOWN => ItemProgress::Running(None),
                Err(error) => return Err(broken(error)),
            },
        };
        // The item has the last word: an operation may be an old one.
        let item = read(clock, Policy::STAMP, async || market.item(name).await).await.map_err(broken)?;
        let why = |progress: ItemProgress| match progress {
            ItemProgress::Failed(code, message) => stamp::failed(name, &code, &message),
            _ => {
                let message = format!("the stamp could not bring {name}, and does not say why any more");
                Problem::new(&code::ITEM_FAILED, message)
            }
        };
        let percent = match (&progress, item.map(|item| item.state)) {
            (_, Some(ItemState::Succeeded)) => return Ok(()),
            (_, Some(ItemState::Failed)) => {
                // It may have failed between the two looks.
                let late = match (&progress, operation) {
                    (ItemProgress::Running(_), Some(operation)) => market.progress(operation).await.unwrap_or(progress),
                    _ => progress,
                };
                return Err(failed(why(late)));
            }
            (ItemProgress::Failed(..), None) => return Err(failed(why(progress))),
            (_, None) if clock.now().duration_since(begun) >= UNSEEN => {
                let message = format!("the stamp does not have {name} any more: it was removed");
                return Err(failed(Problem::new(&code::ITEM_FAILED, message)));
            }
            (ItemProgress::Running(percent), _) => *percent,
            _ => None,
        };
        if percent != last {
            (since, last) = (clock.now(), percent);
        }
        match percent {
            Some(percent) => watch.waiting(&format!("{name}: {percent} %")),
            None => watch.waiting(&format!("{name}: the stamp is bringing it")),
        }
        if clock.now().duration_since(since) >= STUCK {
            let problem = Problem::new(&code::STAMP_TIMEOUT, format!("the stamp gets no further with {name}"));
            return Err(ended(problem.next("Run the same command again: it goes on waiting."), ExitCode::Resumable));
        }
        clock.sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// Lets others have a turn, the one who watches for ^C among them: work on files is long and never waits by itself.
pub(crate) async fn turn() {
    let mut first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}

/// Names in an order in which each comes after those that it depends on. A circle is broken anywhere.
pub(crate) fn in_order(names: &[String], depends: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
    fn place(
        name: &str,
        names: &[String],
        depends: &dyn Fn(&str) -> Vec<String>,
        done: &mut Vec<String>,
        open: &mut Vec<String>,
    ) {
        if done.iter().chain(open.iter()).any(|known| known.eq_ignore_ascii_case(name)) {
            return;
        }
        open.push(name.to_owned());
        for before in depends(name) {
            if let Some(before) = names.iter().find(|known| known.eq_ignore_ascii_case(&before)) {
                place(before, names, depends, done, open);
            }
        }
        open.retain(|known| known != name);
        done.push(name.to_owned());
    }
    let (mut done, mut open) = (Vec::new(), Vec::new());
    names.iter().for_each(|name| place(name, names, depends, &mut done, &mut open));
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first_and_a_circle_ends() {
        let depends = |name: &str| match name {
            "a" => vec!["b".to_owned()],
            "b" => vec!["C".to_owned(), "d".to_owned()],
            "d" => vec!["a".to_owned(), "elsewhere".to_owned()],
            _ => Vec::new(),
        };
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(in_order(&names, &depends), ["c", "d", "b", "a"]);
    }

    struct Still;

    impl Clock for Still {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        async fn sleep(&self, _: std::time::Duration) {}
        fn jitter(&self) -> f64 {
            0.0
        }
    }

    /// A journal that can't be trusted stops, and is left with --without-journal, as the refusal says.
    #[test]
    fn a_damaged_journal_is_left_where_it_is_said_to_be() {
        use crate::engine::history::OnDamage;
        let dir = tempfile::tempdir().unwrap();
        let books = |on_damage| FileBooks { directory: dir.path().to_owned(), on_damage };
        let (request, clock) = (serde_json::json!({"item": "a"}), Still);
        let begin = |on_damage| begin(&books(on_damage), uuid::Uuid::nil(), ("marketplace-add", 1), &request, &clock);
        let (_, journal) = begin(OnDamage::Stop).unwrap();
        std::fs::write(journal.path(), "{}\n").unwrap();
        assert_eq!(begin(OnDamage::Stop).unwrap_err().problems[0].code.id, "AZR5002");
        assert_ne!(begin(OnDamage::WorldOnly).unwrap().1.path(), journal.path());
    }
}
