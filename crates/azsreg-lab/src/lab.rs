//! A running lab: its listeners, its state, and what it tells the world about itself.

mod listen;
mod state;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use azsreg_portal::{Forms, Portal};
use jiff::SignedDuration;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::azure::blobs::Blobs;
use crate::azure::products::SIGNED_FOR;
use crate::azure::usage::{Books, Mark};
use crate::beginning::{OPERATOR, Snapshot, StampSnapshot, new_world};
use crate::faults::Faults;
use crate::files::{open_private, private_directory, temporary_directory, write_private};
use crate::http;
use crate::keys::Keys;
use crate::stamp::link::Link;
use crate::stamp::pep::Endpoint;
use crate::store::{BOOKS, DataDirectory, Identity, Store, StoreError, WORLD};
use crate::tls;
use crate::world::stamp::StampOptions;

use listen::{Plane, listen};
use state::StampUrls;
pub(crate) use state::{AzureWorld, StampState, State, Urls, lock};

/// How a lab is built.
#[derive(Clone)]
pub struct LabOptions {
    /// The seed of every draw but keys, TLS and NTLM nonces.
    pub seed: u64,
    /// The stamps.
    pub stamps: Vec<StampOptions>,
    /// How much faster than real time the stamps' actions go.
    pub time_scale: f64,
    /// Whether device codes are approved as soon as they are asked for.
    pub auto_approve: bool,
    /// The poll interval that device codes name, in seconds.
    pub device_code_interval: u64,
    /// How many items a page of a list has.
    pub page_size: usize,
    /// How long a move of resources takes.
    pub move_takes: SignedDuration,
    /// How long every answer of a privileged endpoint waits, for measurements.
    pub response_delay: Duration,
    /// Where files go (the authority's certificate, secrets); a temporary directory where none is given.
    pub directory: Option<PathBuf>,
    /// Where the world is kept across restarts; nowhere where none is given.
    pub data_dir: Option<PathBuf>,
    /// A world to begin with in place of a new one: what [`Lab::snapshot`] gave.
    pub restore: Option<String>,
    /// Keys to sign with; new ones where none are given.
    pub keys: Option<Arc<Keys>>,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            stamps: vec![StampOptions::default()],
            time_scale: 1.0,
            auto_approve: true,
            device_code_interval: 1,
            page_size: 3,
            move_takes: SignedDuration::ZERO,
            response_delay: Duration::ZERO,
            directory: None,
            data_dir: None,
            restore: None,
            keys: None,
        }
    }
}

/// Why a lab did not start.
#[derive(Debug, Error)]
pub enum LabError {
    /// A port or a file could not be had.
    #[error("the lab could not have a port or a file")]
    Io(#[from] std::io::Error),
    /// The certificates could not be made.
    #[error("the lab could not make its certificates")]
    Certificates(#[from] rcgen::Error),
    /// The stamps' way to Azure could not be made.
    #[error("the lab could not make the stamps' way to Azure")]
    Link(#[from] reqwest::Error),
    /// What was kept can't be read, or not be written, or another lab uses it.
    #[error("the lab's data can't be used: {0}")]
    Store(String),
    /// What was kept is emptied, cut short or damaged: it is not begun anew.
    #[error("the lab's data are damaged: {0}")]
    Damaged(String),
    /// What was kept is of a newer azsreg.
    #[error("the lab's data are of a newer azsreg: {0}")]
    Newer(String),
    /// There is no room to keep anything.
    #[error("the lab's data can't be written: {0}")]
    Full(String),
    /// A build is not one.
    #[error("{0:?} is not a build such as 1.2501.0.21")]
    Build(String),
}

impl From<StoreError> for LabError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Damaged { .. } => Self::Damaged(text),
            StoreError::Newer { .. } => Self::Newer(text),
            StoreError::Full { .. } => Self::Full(text),
            StoreError::Unusable { .. } => Self::Store(text),
        }
    }
}

/// What `lab up` prints: everything that a client needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Descriptor {
    pub arm_endpoint: String,
    pub authority: String,
    pub graph_endpoint: String,
    pub blob_endpoint: String,
    #[serde(default)]
    pub usage_endpoint: String,
    #[serde(default)]
    pub portal_endpoint: String,
    pub audience: String,
    pub ca_file: PathBuf,
    pub tenant_id: Uuid,
    pub subscription_id: Uuid,
    pub fresh_subscription_id: Uuid,
    pub client_id: Uuid,
    pub client_secret_file: PathBuf,
    /// With the token as the first segment of its path: whoever has the address needs nothing else.
    pub control_endpoint: String,
    #[serde(default)]
    pub control_token: String,
    pub seed: u64,
    pub stamps: Vec<StampDescriptor>,
}

/// A stamp of the [`Descriptor`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StampDescriptor {
    pub name: String,
    pub pep: Vec<String>,
    pub pep_https: String,
    pub pep_user: String,
    pub pep_password_file: PathBuf,
    pub cloud_id: Uuid,
    pub admin_arm_endpoint: String,
    pub blob_endpoint: String,
    #[serde(default)]
    pub portal_endpoint: String,
    pub stamp_client_id: Uuid,
    pub stamp_client_secret_file: PathBuf,
}

/// A running lab. Its listeners close and its files go when it is dropped.
pub struct Lab {
    descriptor: Descriptor,
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
    _directory: Option<TempDir>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for stamp in &self.state.stamps {
            stamp.stop_bridge();
        }
    }
}

/// A document of a store, read.
fn read<T: DeserializeOwned>(store: &Store, text: Option<String>) -> Result<Option<T>, StoreError> {
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| StoreError::damaged(store.file(), error.to_string()))
}

/// A listener on a port that was had before, or on one of the system's choice.
async fn bind(ports: &mut impl Iterator<Item = u16>, bound: &mut Vec<u16>) -> std::io::Result<TcpListener> {
    let listener = match ports.next() {
        Some(port) => match http::bind(port).await {
            Ok(listener) => listener,
            Err(_) => http::bind(0).await?,
        },
        None => http::bind(0).await?,
    };
    bound.push(listener.local_addr()?.port());
    Ok(listener)
}

impl Lab {
    /// Starts a lab on ports of the system's choice, on loopback.
    ///
    /// # Errors
    /// A port, a file or a certificate could not be had, or a build is none.
    pub async fn start(options: LabOptions) -> Result<Self, LabError> {
        let (store, new) = match &options.data_dir {
            None => (None, None),
            Some(directory) => match DataDirectory::hold(directory)?.open().await? {
                Ok(store) => (Some(store), None),
                Err(new) => (None, Some(new)),
            },
        };
        let kept = match &store {
            None => None,
            Some(store) => Some(Identity::read(store).await?),
        };
        let options = LabOptions { seed: kept.as_ref().map_or(options.seed, |kept| kept.seed), ..options };
        let mark: Option<Mark> = match &store {
            None => None,
            Some(store) => read(store, store.get(BOOKS).await?)?,
        };
        let snapshot: Option<Snapshot> = match (&options.restore, &store) {
            (Some(text), _) => {
                Some(serde_json::from_str(text).map_err(|error| LabError::Store(format!("the world: {error}")))?)
            }
            (None, Some(store)) => read(store, store.get(WORLD).await?)?,
            (None, None) => None,
        };
        let kept_keys = match (&kept, &store) {
            (Some(kept), Some(store)) => {
                Some(kept.keys().ok_or_else(|| StoreError::damaged(store.file(), "its keys can't be read"))?)
            }
            _ => None,
        };
        let keys = options.keys.clone().or(kept_keys).unwrap_or_else(Keys::start);
        let in_data = options.data_dir.clone().filter(|_| options.directory.is_none());
        let given = options.directory.clone().or(in_data);
        let temporary = match &given {
            None => Some(temporary_directory("azsreg-lab-")?),
            Some(directory) => {
                private_directory(directory)?;
                None
            }
        };
        let directory = temporary.as_ref().map(TempDir::path).or(given.as_deref()).unwrap_or(Path::new("."));
        let tls = match kept.as_ref() {
            Some(kept) => tls::listeners(kept.tls.clone())?,
            None => tls::generate()?,
        };
        let offset = snapshot.as_ref().map_or(0, |snapshot| snapshot.offset);
        let (mut world, made) = match snapshot {
            Some(snapshot) => (snapshot.azure, snapshot.stamps),
            None => new_world(&options)?,
        };
        let application = world.directory.applications.iter().find(|a| a.name == OPERATOR).cloned();
        let application = application.ok_or_else(|| LabError::Store("it has no operator".into()))?;
        let mut ports = kept.as_ref().map(|kept| kept.ports.clone()).unwrap_or_default().into_iter();
        let mut bound = Vec::new();
        // Written when there is a store: what lies beside none was left by a lab that had one.
        let mut files: Vec<(PathBuf, String)> = Vec::new();

        let mut stamps = Vec::new();
        let mut stamp_descriptors = Vec::new();
        let mut listeners: Vec<(Plane, TcpListener)> = Vec::new();
        let loopback = |listener: &TcpListener| listener.local_addr().map(|a| a.to_string());
        let ca_file = directory.join("ca.pem");
        files.push((ca_file.clone(), tls.ca_pem.clone()));
        for (index, StampSnapshot { world: stamp, operator, operators, audience }) in made.into_iter().enumerate() {
            let stamp_options = stamp.options.clone();
            let mut urls = StampUrls::default();
            for _ in 0..3 {
                let listener = bind(&mut ports, &mut bound).await?;
                urls.pep.push(loopback(&listener)?);
                listeners.push((Plane::Pep(index, false), listener));
            }
            let listener = bind(&mut ports, &mut bound).await?;
            urls.pep_https = loopback(&listener)?;
            listeners.push((Plane::Pep(index, true), listener));
            let listener = bind(&mut ports, &mut bound).await?;
            urls.admin_arm = format!("https://{}", loopback(&listener)?);
            listeners.push((Plane::StampArm(index), listener));

            let file = |what: &str| directory.join(format!("{}-{what}", stamp_options.name));
            files.push((file("pep-password"), stamp.password.clone()));
            files.push((file("operator-secret"), operator.1.clone()));
            stamp_descriptors.push(StampDescriptor {
                name: stamp_options.name.clone(),
                pep: urls.pep.clone(),
                pep_https: urls.pep_https.clone(),
                pep_user: format!("{}\\CloudAdmin", stamp.netbios),
                pep_password_file: file("pep-password"),
                cloud_id: stamp.cloud_id,
                admin_arm_endpoint: urls.admin_arm.clone(),
                blob_endpoint: String::new(),
                portal_endpoint: String::new(),
                stamp_client_id: operator.0,
                stamp_client_secret_file: file("operator-secret"),
            });
            let state = StampState {
                name: stamp_options.name.clone(),
                endpoint: Endpoint::new(&format!("http://{}/wsman", urls.pep[0])),
                link: if stamp_options.connected { Link::https(&tls.ca_pem)? } else { Link::Down },
                requests: AtomicU64::new(0),
                download_rate: AtomicU64::new(0),
                operators: Mutex::new(operators),
                operator,
                portal: Portal::new(Forms::new(Uuid::new_v4().to_string())),
                bridge: Mutex::new(None),
                audience,
                world: Mutex::new(stamp),
                urls: OnceLock::new(),
            };
            stamps.push((state, urls));
        }

        let mut azure_urls = Vec::new();
        for plane in [Plane::Login, Plane::Arm, Plane::Graph] {
            let listener = bind(&mut ports, &mut bound).await?;
            azure_urls.push(format!("https://{}", loopback(&listener)?));
            listeners.push((plane, listener));
        }
        let control = bind(&mut ports, &mut bound).await?;
        let control_token = match kept.as_ref().and_then(|kept| kept.control.clone()) {
            Some(token) => token,
            None => crate::control::draw_token()?,
        };
        let control_endpoint = format!("http://{}/{control_token}", loopback(&control)?);
        listeners.push((Plane::Control, control));
        // Last, so that the ports of a lab that was kept before there were blobs stay what they were.
        let blobs = bind(&mut ports, &mut bound).await?;
        azure_urls.push(format!("https://{}", loopback(&blobs)?));
        listeners.push((Plane::Blobs, blobs));
        let mut with_blobs = Vec::new();
        for (index, (stamp, mut urls)) in stamps.into_iter().enumerate() {
            let listener = bind(&mut ports, &mut bound).await?;
            urls.blobs = format!("https://{}", loopback(&listener)?);
            stamp_descriptors[index].blob_endpoint.clone_from(&urls.blobs);
            listeners.push((Plane::StampBlobs(index), listener));
            with_blobs.push((stamp, urls));
        }
        let usage = bind(&mut ports, &mut bound).await?;
        azure_urls.push(format!("https://{}", loopback(&usage)?));
        listeners.push((Plane::Usage, usage));
        let mut finished = Vec::new();
        for (index, (stamp, mut urls)) in with_blobs.into_iter().enumerate() {
            let listener = bind(&mut ports, &mut bound).await?;
            urls.portal = format!("http://{}", loopback(&listener)?);
            stamp_descriptors[index].portal_endpoint.clone_from(&urls.portal);
            listeners.push((Plane::StampPortal(index), listener));
            finished.push(Arc::new(StampState { urls: OnceLock::from(urls), ..stamp }));
        }
        let portal = bind(&mut ports, &mut bound).await?;
        let portal_endpoint = format!("http://{}", loopback(&portal)?);
        listeners.push((Plane::Portal, portal));
        let urls = Urls {
            authority: azure_urls[0].clone(),
            arm: azure_urls[1].clone(),
            graph: azure_urls[2].clone(),
            blobs: azure_urls[3].clone(),
            usage: azure_urls[4].clone(),
        };
        world.directory.graph_audience.clone_from(&urls.graph);

        let secret_file = directory.join("client-secret");
        files.push((secret_file.clone(), application.secrets.first().cloned().unwrap_or_default()));
        let fresh = world.arm.subscriptions.keys().copied().find(|id| *id != world.default_subscription);
        let descriptor = Descriptor {
            arm_endpoint: urls.arm.clone(),
            authority: urls.authority.clone(),
            graph_endpoint: urls.graph.clone(),
            blob_endpoint: urls.blobs.clone(),
            usage_endpoint: urls.usage.clone(),
            portal_endpoint,
            audience: format!("{}/", urls.arm),
            ca_file,
            tenant_id: world.home,
            subscription_id: world.default_subscription,
            fresh_subscription_id: fresh.unwrap_or_default(),
            client_id: application.app_id,
            client_secret_file: secret_file,
            control_endpoint,
            control_token: control_token.clone(),
            seed: options.seed,
            stamps: stamp_descriptors,
        };
        let data_dir = options.data_dir.clone();
        let mut state = State {
            faults: Mutex::new(Faults::new(options.seed)),
            keys,
            stamps: finished,
            blob_dir: directory.join("blobs"),
            end_point: tls.end_point,
            control_token,
            blobs: Blobs::new(options.seed),
            sealed: AtomicBool::new(false),
            signed_for: AtomicI64::new(i64::try_from(SIGNED_FOR.as_secs()).unwrap_or(i64::MAX)),
            books: Mutex::default(),
            moved: tokio::sync::watch::Sender::new(()),
            azure: Mutex::new(world),
            urls: OnceLock::from(urls),
            offset: AtomicI64::new(offset),
            store,
            unkept: AtomicBool::new(false),
            options,
        };
        if let Some(data_dir) = data_dir {
            let (tokens, activation) = state.keys.pems();
            let (control, seed) = (Some(state.control_token.clone()), state.options.seed);
            let identity =
                Identity { tokens, activation, tls: tls.kept.clone(), ports: bound, control, seed }.document();
            match (new, &state.store) {
                (Some(new), _) => {
                    let documents: Vec<_> = state.documents().into_iter().chain([identity]).collect();
                    state.store = Some(new.create(&documents).await?);
                    state.books = Mutex::new(Books::open(Some(&data_dir), None)?);
                }
                (None, Some(store)) => {
                    state.books = Mutex::new(Books::open(Some(&data_dir), mark.as_ref())?);
                    store.put(vec![identity]).await?;
                }
                (None, None) => {}
            }
            state.keep().await?;
        }
        for (path, text) in files {
            // One that is as it was needs no room.
            let same = std::fs::read(&path).is_ok_and(|now| now == text.as_bytes());
            let placed = if same { open_private(&path).map(drop) } else { write_private(&path, text.as_bytes()) };
            placed.map_err(|error| StoreError::io(&path, &error))?;
        }
        let state = Arc::new(state);
        crate::stamp::market::resume(&state);
        for stamp in &state.stamps {
            state.start_bridge(stamp);
        }
        let acceptor = TlsAcceptor::from(tls.server);
        let tasks = listeners
            .into_iter()
            .map(|(plane, listener)| listen(Arc::clone(&state), plane, listener, acceptor.clone()))
            .collect();
        Ok(Self { descriptor, state, tasks, _directory: temporary })
    }

    /// What a client needs to know.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The world as one document: registrations, locks, role assignments, service principals, stamps.
    #[must_use]
    pub fn world(&self) -> Value {
        self.state.world()
    }

    /// Everything that the world holds but the log and the secrets, for comparing one moment with another.
    #[must_use]
    pub fn export(&self) -> Value {
        self.state.export()
    }

    /// The world as text, for another lab to begin with.
    #[must_use]
    pub fn snapshot(&self) -> String {
        self.state.snapshot()
    }

    /// Registers a certificate with the lab's operator application, for signing in with it.
    pub fn trust_certificate(&self, der: Vec<u8>) {
        let client = self.descriptor.client_id;
        let mut azure = self.state.azure();
        if let Some(application) = azure.directory.applications.iter_mut().find(|a| a.app_id == client) {
            application.certificates.push(der);
        }
    }

    /// How many shells are open at a stamp's privileged endpoint, and how many commands are in them: running, or ended and
    /// not closed.
    #[must_use]
    pub fn shells(&self, stamp: usize) -> (usize, usize) {
        self.state.stamps.get(stamp).map(|stamp| stamp.endpoint.shells()).unwrap_or_default()
    }

    /// Adds a fault rule, as `POST /faults` on the control port does.
    ///
    /// # Errors
    /// The rule is not one.
    pub fn fault(&self, rule: Value) -> Result<(), serde_json::Error> {
        let rule = serde_json::from_value(rule)?;
        self.state.faults().add(rule);
        Ok(())
    }
}
