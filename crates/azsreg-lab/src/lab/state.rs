//! Everything behind the listeners: the world, its clock, its faults, and the forms in which it is kept and compared.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use azsreg_portal::Portal;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::LabOptions;
use crate::azure::blobs::Blobs;
use crate::azure::products::ProductLog;
use crate::azure::usage::Books;
use crate::faults::Faults;
use crate::keys::Keys;
use crate::stamp::link::Link;
use crate::stamp::pep::Endpoint;
use crate::store::{BOOKS, Store, StoreError, WORLD};
use crate::world::Draw;
use crate::world::arm::Arm;
use crate::world::directory::Directory;
use crate::world::roles;
use crate::world::stamp::Stamp;
use crate::world::token;

/// The endpoints of the lab's Azure, without a slash at the end.
#[derive(Debug)]
pub(crate) struct Urls {
    pub(crate) authority: String,
    pub(crate) arm: String,
    pub(crate) graph: String,
    pub(crate) blobs: String,
    pub(crate) usage: String,
}

/// The endpoints of a stamp.
#[derive(Debug, Default)]
pub(crate) struct StampUrls {
    pub(crate) pep: Vec<String>,
    pub(crate) pep_https: String,
    pub(crate) admin_arm: String,
    pub(crate) blobs: String,
    pub(crate) portal: String,
}

/// The state of the lab's Azure.
#[derive(Serialize, Deserialize)]
pub(crate) struct AzureWorld {
    pub(crate) directory: Directory,
    pub(crate) arm: Arm,
    pub(crate) draw: Draw,
    /// Who signs in where a person would.
    pub(crate) operator: Uuid,
    /// The default tenant.
    pub(crate) home: Uuid,
    /// The default tenant's domain.
    pub(crate) domain: String,
    /// The default subscription.
    pub(crate) default_subscription: Uuid,
    /// What stamps have logged of their work with products.
    #[serde(default)]
    pub(crate) product_logs: Vec<ProductLog>,
}

/// A stamp with its wires.
pub(crate) struct StampState {
    pub(crate) name: String,
    pub(super) world: Mutex<Stamp>,
    pub(crate) endpoint: Endpoint,
    pub(crate) link: Link,
    /// Who may sign in to the admin Resource Manager.
    pub(crate) operators: Mutex<Vec<Uuid>>,
    /// The operators' application: its client id, its secret and its principal. AD FS knows it too.
    pub(crate) operator: (Uuid, String, Uuid),
    /// How many HTTP requests the privileged endpoint has had.
    pub(crate) requests: AtomicU64,
    /// How many bytes of marketplace items it takes a second; as many as come where it is nought.
    pub(crate) download_rate: AtomicU64,
    /// The administrator portal's pages.
    pub(crate) portal: Portal,
    /// The usage bridge's task.
    pub(crate) bridge: Mutex<Option<JoinHandle<()>>>,
    pub(super) audience: String,
    pub(super) urls: OnceLock<StampUrls>,
}

impl StampState {
    pub(crate) fn world(&self) -> MutexGuard<'_, Stamp> {
        lock(&self.world)
    }

    /// Kills the usage bridge, wherever it is.
    pub(crate) fn stop_bridge(&self) {
        if let Some(task) = lock(&self.bridge).take() {
            task.abort();
        }
    }

    /// The audience of tokens for the admin Resource Manager.
    pub(crate) fn audience(&self) -> String {
        self.audience.clone()
    }

    #[allow(clippy::expect_used)]
    pub(crate) fn urls(&self) -> &StampUrls {
        self.urls.get().expect("a stamp is asked after it was started")
    }
}

/// Everything behind the listeners.
pub(crate) struct State {
    pub(crate) options: LabOptions,
    pub(crate) keys: Arc<Keys>,
    pub(crate) stamps: Vec<Arc<StampState>>,
    pub(crate) end_point: [u8; 32],
    /// What a request to the control port has to know.
    pub(crate) control_token: String,
    pub(crate) blobs: Blobs,
    /// Where the bytes of the stamps' storage accounts lie.
    pub(crate) blob_dir: PathBuf,
    /// How long a blob's address may be read, in seconds.
    pub(crate) signed_for: AtomicI64,
    /// Tokens and keys are handed out in a form that only this lab reads.
    pub(crate) sealed: AtomicBool,
    /// The usage that Azure was told of.
    pub(crate) books: Mutex<Books>,
    /// Says when the clock was moved.
    pub(crate) moved: watch::Sender<()>,
    pub(super) azure: Mutex<AzureWorld>,
    pub(super) faults: Mutex<Faults>,
    pub(super) urls: OnceLock<Urls>,
    pub(super) offset: AtomicI64,
    pub(super) store: Option<Store>,
    /// Whether the world in memory is known to have what the store has not.
    pub(super) unkept: AtomicBool,
}

/// A lock that a panic elsewhere does not take from us.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(crate) fn azure(&self) -> MutexGuard<'_, AzureWorld> {
        lock(&self.azure)
    }

    /// A GUID of the lab's draw.
    pub(crate) fn azure_draw_guid(&self) -> Uuid {
        self.azure().draw.guid()
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    #[allow(clippy::expect_used)]
    pub(crate) fn urls(&self) -> &Urls {
        self.urls.get().expect("the lab is asked after it was started")
    }

    /// A token as it is handed out.
    pub(crate) fn token(&self, plain: String) -> String {
        if self.sealed.load(Ordering::Relaxed) {
            token::seal(&BASE64_STANDARD.decode(plain).unwrap_or_default())
        } else {
            plain
        }
    }

    /// A key's claims as they are handed out.
    pub(crate) fn claims(&self, plain: Value) -> Value {
        if self.sealed.load(Ordering::Relaxed) {
            json!({ "sealed": token::seal(plain.to_string().as_bytes()) })
        } else {
            plain
        }
    }

    /// The lab's time: the system's, moved by what the clock was advanced.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.offset.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, by: SignedDuration) {
        self.offset.fetch_add(by.as_secs(), Ordering::Relaxed);
        self.moved.send_replace(());
    }

    /// The world as it is kept: text that [`LabOptions::restore`] takes.
    pub(crate) fn snapshot(&self) -> String {
        let stamps: Vec<Value> = self
            .stamps
            .iter()
            .map(|stamp| {
                json!({"world": &*stamp.world(), "operator": stamp.operator, "operators": &*lock(&stamp.operators), "audience": stamp.audience})
            })
            .collect();
        let azure = self.azure();
        json!({"azure": &*azure, "stamps": stamps, "offset": self.offset.load(Ordering::Relaxed)}).to_string()
    }

    /// Starts the usage bridge of a stamp, in place of one that runs.
    pub(crate) fn start_bridge(self: &Arc<Self>, stamp: &Arc<StampState>) {
        let task = crate::stamp::bridge::start(self, stamp);
        stamp.stop_bridge();
        *lock(&stamp.bridge) = Some(task);
    }

    /// What is kept of the world and of the books.
    pub(super) fn documents(&self) -> Vec<(&'static str, String)> {
        let books = serde_json::to_string(lock(&self.books).mark()).unwrap_or_default();
        vec![(BOOKS, books), (WORLD, self.snapshot())]
    }

    /// Keeps the world, where it is kept at all: when this returns, all that anybody saw or did before is on the disk. Who
    /// waits for an answer waits for this too, and is refused if it fails; then everything is refused until it succeeds, so
    /// that nobody is shown what may be gone after a restart.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) async fn keep(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut kept = store.kept.lock().await;
        let documents = self.documents();
        if *kept == documents {
            self.unkept.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let changed: Vec<_> = documents.iter().filter(|document| !kept.contains(document)).cloned().collect();
        let written = store.put(changed).await;
        self.unkept.store(written.is_err(), Ordering::Relaxed);
        match written {
            Ok(()) => *kept = documents,
            Err(error) => {
                tracing::error!(%error, "the world could not be kept");
                return Err(error);
            }
        }
        Ok(())
    }

    /// Keeps what could not be kept before, where there is something: nothing more is begun until that is done.
    ///
    /// # Errors
    /// It still can't be written.
    pub(crate) async fn catch_up(&self) -> Result<(), StoreError> {
        if self.unkept.load(Ordering::Relaxed) { self.keep().await } else { Ok(()) }
    }

    /// How long something takes here that takes `duration` on a real stamp.
    pub(crate) fn scaled(&self, duration: SignedDuration) -> SignedDuration {
        SignedDuration::try_from_secs_f64(duration.as_secs_f64() / self.options.time_scale.max(0.001))
            .unwrap_or(duration)
    }

    /// Everything that the world holds, for comparing one moment with another: all but the log (runs, logons) and the
    /// secrets, which differ each time they are made.
    pub(crate) fn export(&self) -> Value {
        let now = self.now();
        let strip = |mut value: Value, names: &[&str]| {
            if let Value::Object(members) = &mut value {
                members.retain(|name, _| !names.contains(&name.as_str()));
            }
            value
        };
        let whole = |value: serde_json::Result<Value>| value.unwrap_or_default();
        let stamps: Vec<Value> = self
            .stamps
            .iter()
            .map(|stamp| {
                let mut world = stamp.world();
                world.settle(now);
                let log = [
                    "runs",
                    "operations",
                    "alerts",
                    "usage",
                    "logons_failed",
                    "logons_succeeded",
                    "transcripts",
                    "password",
                ];
                let mut kept = strip(whole(serde_json::to_value(&*world)), &log);
                kept["bridge"] = strip(kept["bridge"].take(), &["secret"]);
                kept
            })
            .collect();
        let mut azure = self.azure();
        azure.arm.settle_moves(now);
        let mut directory =
            strip(whole(serde_json::to_value(&azure.directory)), &["refresh", "devices", "codes", "auto_approve"]);
        if let Some(applications) = directory["applications"].as_array_mut() {
            for application in applications {
                *application = strip(application.take(), &["secrets"]);
            }
        }
        let arm = strip(whole(serde_json::to_value(&azure.arm)), &["history"]);
        json!({"arm": arm, "directory": directory, "stamps": stamps})
    }

    /// The world as one document, for comparing.
    pub(crate) fn world(&self) -> Value {
        let now = self.now();
        // Stamps before Azure, as everywhere: two locks taken in two orders would wait for each other.
        let stamps: Vec<Value> = self
            .stamps
            .iter()
            .map(|stamp| {
                let mut world = stamp.world();
                world.settle(now);
                json!({
                    "name": stamp.name, "cloud_id": world.cloud_id, "activation": world.activation_body(),
                    "key_pair": world.key_pair, "bridge": world.bridge.as_ref().map(|b| b.object_id),
                    "nodes": world.options.nodes, "downloaded": world.downloaded.iter().map(|item| world.item_body(item)).collect::<Vec<_>>(), "hci_license": world.hci_license,
                    "transcripts": world.transcripts,
                    "logons_failed": world.logons_failed,
                    "running": world.running().map(|run| run.name.clone()),
                })
            })
            .collect();
        let mut azure = self.azure();
        azure.arm.settle_moves(now);
        let scope = |a: &&roles::Assignment| a.scope.contains("/registrations/");
        json!({
            "registrations": azure.arm.registrations.iter().map(|r| {
                let mut body = r.body();
                body["token"] = Value::Object(r.token.members.clone());
                body
            }).collect::<Vec<_>>(),
            "groups": azure.arm.groups.values().map(|g| json!({"name": g.name, "location": g.location})).collect::<Vec<_>>(),
            "locks": azure.arm.locks.iter().map(|l| l.body()).collect::<Vec<_>>(),
            "role_assignments": azure.arm.assignments.iter().filter(scope).map(|a| a.body()).collect::<Vec<_>>(),
            "service_principals": azure.directory.applications.iter().filter(|a| !a.uris.is_empty())
                .map(|a| json!({"object_id": a.principal, "app_id": a.app_id, "uris": a.uris})).collect::<Vec<_>>(),
            "stamps": stamps,
        })
    }
}
