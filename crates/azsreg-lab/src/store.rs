//! Where a lab's world is kept across restarts: one SQLite file, a few named documents, each written whole with its sum.
//!
//! The keys, the certificates and the ports are kept with it: clients keep tokens, and addresses, longer than a lab lives.
//!
//! What was kept is on the disk: each write is synced before anybody is told of it. A store that can't be what the last lab
//! left (emptied, truncated, damaged, gone) is refused rather than begun anew: a world that clients still have tokens and
//! registrations of does not vanish without a word.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use thiserror::Error;

use crate::files;
use crate::keys::Keys;
use crate::tls;

/// The version of the documents' form. 1 had no sums.
const FORMAT: i64 = 2;
/// The store's file in the data directory.
const FILE: &str = "lab.sqlite";
/// How long the store is waited for that another process has.
const BUSY: Duration = Duration::from_millis(500);
/// How long the store's connection is waited for.
const WAIT: Duration = Duration::from_secs(10);
/// The documents that every store has.
const IDENTITY: &str = "identity";
pub(crate) const WORLD: &str = "world";
/// How far the books were, in one that has them.
pub(crate) const BOOKS: &str = "books";

/// Why a store can't be used. Each names the file.
#[derive(Debug, Clone, Error)]
pub(crate) enum StoreError {
    /// It is not what a lab left.
    #[error("{}: {why}", file.display())]
    Damaged { file: PathBuf, why: String },
    /// A newer azsreg wrote it.
    #[error("{}: it is of format {format}; this azsreg knows {FORMAT}", file.display())]
    Newer { file: PathBuf, format: i64 },
    /// There is no room to write.
    #[error("{}: the disk is full", file.display())]
    Full { file: PathBuf },
    /// Anything else: in use, not readable, not writable.
    #[error("{}: {why}", file.display())]
    Unusable { file: PathBuf, why: String },
}

impl StoreError {
    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    pub(crate) fn io(file: &Path, error: &std::io::Error) -> Self {
        let file = file.to_owned();
        if files::is_full(error) { Self::Full { file } } else { Self::Unusable { file, why: error.to_string() } }
    }

    pub(crate) fn damaged(file: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), why: why.into() }
    }

    /// By SQLite's own result codes (`sqlite.org/rescode.html`), extended ones by their last byte.
    fn sqlite(file: &Path, error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
        let file = file.to_owned();
        // Read short, a sum of the file system's that is wrong, a file system that is damaged: of the last byte 10, input/output.
        let cut = matches!(code, Some(522 | 8202 | 8458));
        match code.map(|code| code & 0xff) {
            Some(13) => Self::Full { file },
            Some(11 | 26) => Self::Damaged { file, why: error.to_string() },
            _ if cut => Self::Damaged { file, why: error.to_string() },
            Some(5 | 6) => Self::Unusable { file, why: "another lab uses it".into() },
            _ => Self::Unusable { file, why: error.to_string() },
        }
    }
}

/// A data directory that this process alone uses.
pub(crate) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Takes a directory, and makes it where there is none.
    pub(crate) fn hold(path: &Path) -> Result<Self, StoreError> {
        let name = path.join("lab.lock");
        let taken = files::private_directory(path).and_then(|()| files::open_private(&name));
        let lock = taken.map_err(|error| StoreError::io(&name, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(StoreError::Unusable { file: path.to_owned(), why: "another lab uses this directory".into() })
            }
            Err(std::fs::TryLockError::Error(error)) => Err(StoreError::io(&name, &error)),
        }
    }

    /// The store that an earlier lab left; none in a directory that no lab has used.
    pub(crate) async fn open(self) -> Result<Result<Store, Self>, StoreError> {
        let file = self.path.join(FILE);
        files::refuse_other(&file).map_err(|error| StoreError::io(&file, &error))?;
        if file.exists() {
            return Store::open(file, self).await.map(Ok);
        }
        // A new store is there before any other file is: what else is found was left by a lab that had one.
        let left = [format!("{FILE}-wal"), "usage.jsonl".into(), "client-secret".into(), "blobs".into()];
        if let Some(left) = left.iter().find(|name| self.path.join(name).symlink_metadata().is_ok()) {
            let why = format!("it is gone, though a lab has used this directory: {left} is there");
            return Err(StoreError::damaged(&file, why));
        }
        Ok(Err(self))
    }

    /// A new store with these documents: it is there whole, or not at all.
    pub(crate) async fn create(self, documents: &[(&'static str, String)]) -> Result<Store, StoreError> {
        let file = self.path.join(FILE);
        let draft = self.path.join(format!("{FILE}.new"));
        let io = |error: std::io::Error| StoreError::io(&file, &error);
        for name in [draft.clone(), self.path.join(format!("{FILE}.new-journal"))] {
            match std::fs::remove_file(name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        files::open_private(&draft).map_err(io)?;
        let failed = |error: sqlx::Error| StoreError::sqlite(&file, &error);
        let options = SqliteConnectOptions::new().filename(&draft).journal_mode(SqliteJournalMode::Delete);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(failed)?;
        let written = async {
            let mut all = pool.begin().await?;
            sqlx::query("CREATE TABLE documents (name TEXT PRIMARY KEY, json TEXT NOT NULL, sum TEXT)")
                .execute(&mut *all)
                .await?;
            for (name, json) in documents {
                put(&mut all, name, json).await?;
            }
            sqlx::query("PRAGMA user_version = 2").execute(&mut *all).await?;
            all.commit().await
        };
        written.await.map_err(failed)?;
        pool.close().await;
        let placed = File::open(&draft).and_then(|draft| draft.sync_all());
        placed.and_then(|()| std::fs::rename(&draft, &file)).map_err(io)?;
        files::sync_directory(&self.path).map_err(io)?;
        Store::open(file, self).await
    }
}

/// An open store.
pub(crate) struct Store {
    pool: SqlitePool,
    file: PathBuf,
    /// What is in it. Who holds this writes: a world that was looked at earlier never comes over a later one.
    pub(crate) kept: tokio::sync::Mutex<Vec<(&'static str, String)>>,
    _directory: DataDirectory,
}

impl Store {
    async fn open(file: PathBuf, directory: DataDirectory) -> Result<Self, StoreError> {
        let damaged = |why: &str| StoreError::damaged(&file, why);
        let opened = files::open_private(&file).and_then(|opened| opened.metadata());
        if opened.map_err(|error| StoreError::io(&file, &error))?.len() == 0 {
            return Err(damaged("it is empty"));
        }
        let failed = |error: sqlx::Error| StoreError::sqlite(&file, &error);
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .locking_mode(SqliteLockingMode::Exclusive)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            // The log holds nothing alone for longer than it takes to copy it.
            .pragma("wal_autocheckpoint", "1");
        // The one connection stays: with it goes the store's own lock.
        let pool =
            SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None).acquire_timeout(WAIT);
        let pool = pool.connect_with(options).await.map_err(failed)?;
        let (format,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&pool).await.map_err(failed)?;
        if format > FORMAT {
            return Err(StoreError::Newer { file, format });
        }
        let (intact,): (String,) =
            sqlx::query_as("PRAGMA integrity_check(1)").fetch_one(&pool).await.map_err(failed)?;
        if intact != "ok" {
            return Err(damaged(&intact));
        }
        let columns: Vec<(String,)> =
            sqlx::query_as("SELECT name FROM pragma_table_info('documents')").fetch_all(&pool).await.map_err(failed)?;
        let has = |column: &str| columns.iter().any(|(name,)| name == column);
        if format < 1 || !has("name") || !has("json") {
            return Err(damaged("it holds no lab's documents"));
        }
        if format < FORMAT {
            // Its documents have no sums yet: they get them with what is written next.
            let upgraded = async {
                let mut all = pool.begin().await?;
                if !has("sum") {
                    sqlx::query("ALTER TABLE documents ADD COLUMN sum TEXT").execute(&mut *all).await?;
                }
                let found: Vec<(String, String)> =
                    sqlx::query_as("SELECT name, json FROM documents").fetch_all(&mut *all).await?;
                for (name, json) in &found {
                    put(&mut all, name, json).await?;
                }
                sqlx::query("PRAGMA user_version = 2").execute(&mut *all).await?;
                all.commit().await
            };
            upgraded.await.map_err(failed)?;
        }
        let store = Self { pool, file, kept: tokio::sync::Mutex::default(), _directory: directory };
        for name in [IDENTITY, WORLD] {
            if store.get(name).await?.is_none() {
                return Err(StoreError::damaged(&store.file, format!("it holds no document {name:?}")));
            }
        }
        Ok(store)
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// A document, if it is there, as it was written.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        let row: Option<(String, Option<String>)> = sqlx::query_as("SELECT json, sum FROM documents WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| StoreError::sqlite(&self.file, &error))?;
        let Some((json, sum)) = row else { return Ok(None) };
        if sum.as_deref() != Some(&sum_of(&json)) {
            return Err(StoreError::damaged(&self.file, format!("its document {name:?} is not as it was written")));
        }
        Ok(Some(json))
    }

    /// Writes documents, all or none, and returns when they are on the disk.
    pub(crate) async fn put(&self, documents: Vec<(&'static str, String)>) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        // To its end, whoever waits for it: a client that goes away leaves no transaction open.
        let written = tokio::spawn(async move { put_all(&pool, &documents).await }).await;
        let written = written.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed));
        written.map_err(|error| StoreError::sqlite(&self.file, &error))
    }
}

async fn put_all(pool: &SqlitePool, documents: &[(&'static str, String)]) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let written = async {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        for (name, json) in documents {
            put(&mut connection, name, json).await?;
        }
        sqlx::query("COMMIT").execute(&mut *connection).await?;
        Ok(())
    };
    let written: Result<(), sqlx::Error> = written.await;
    if written.is_err() {
        // A transaction that failed may be over or still open, by what it failed of. In one that is still open a later write
        // would look as if it were on the disk: the connection goes, and the transaction with it.
        let _ = connection.detach().close_hard().await;
    }
    written
}

async fn put(all: &mut sqlx::SqliteConnection, name: &str, json: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO documents (name, json, sum) VALUES (?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET json = excluded.json, sum = excluded.sum",
    )
    .bind(name)
    .bind(json)
    .bind(sum_of(json))
    .execute(all)
    .await?;
    Ok(())
}

fn sum_of(json: &str) -> String {
    Sha256::digest(json).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// What makes a lab the same for its clients: keys, certificates, ports.
#[derive(Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) tokens: String,
    pub(crate) activation: String,
    pub(crate) tls: tls::Kept,
    pub(crate) ports: Vec<u16>,
    /// The control port's token; a lab of before had none.
    #[serde(default)]
    pub(crate) control: Option<String>,
    /// What its contents are drawn from; a lab of before had the first.
    #[serde(default = "first_seed")]
    pub(crate) seed: u64,
}

fn first_seed() -> u64 {
    1
}

impl Identity {
    pub(crate) async fn read(store: &Store) -> Result<Self, StoreError> {
        let text = store.get(IDENTITY).await?.unwrap_or_default();
        serde_json::from_str(&text).map_err(|error| StoreError::damaged(store.file(), error.to_string()))
    }

    /// As it is kept.
    pub(crate) fn document(&self) -> (&'static str, String) {
        (IDENTITY, serde_json::to_string(self).unwrap_or_default())
    }

    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        Keys::kept(self.tokens.clone(), self.activation.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(world: &str) -> Vec<(&'static str, String)> {
        vec![(IDENTITY, "{}".into()), (WORLD, world.to_owned())]
    }

    async fn open(dir: &Path) -> Result<Store, StoreError> {
        match DataDirectory::hold(dir)?.open().await? {
            Ok(store) => Ok(store),
            Err(_) => panic!("a new one was begun"),
        }
    }

    /// A store that a lab left, with a world of some pages.
    async fn made(dir: &Path) -> String {
        let world = serde_json::json!({"world": (0..2_000).collect::<Vec<_>>()}).to_string();
        let Err(new) = DataDirectory::hold(dir).unwrap().open().await.unwrap() else { panic!("it is new") };
        let store = new.create(&documents("{}")).await.unwrap();
        store.put(documents(&world)).await.unwrap();
        store.pool.close().await;
        world
    }

    async fn changed(dir: &Path, statement: &'static str) {
        let options = SqliteConnectOptions::new().filename(dir.join(FILE));
        let pool = SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }

    #[tokio::test]
    async fn what_was_written_is_synced_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let world = made(&data).await;
        let store = open(&data).await.unwrap();
        assert_eq!(store.get(WORLD).await.unwrap(), Some(world));
        for (pragma, expected) in [("PRAGMA synchronous", "2"), ("PRAGMA journal_mode", "wal")] {
            let row = sqlx::query(pragma).fetch_one(&store.pool).await.unwrap();
            use sqlx::Row as _;
            let found = row.try_get::<String, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string());
            assert_eq!(found, expected, "{pragma}");
        }
        // Nobody else has it meanwhile.
        let second = open(&data).await.err().unwrap();
        assert!(second.to_string().contains("another lab uses this directory"), "{second}");
        #[cfg(unix)]
        for name in ["", FILE, "lab.sqlite-wal", "lab.lock"] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if name.is_empty() { 0o700 } else { 0o600 }, "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_store_that_is_not_what_a_lab_left_is_refused() {
        let whole = tempfile::tempdir().unwrap();
        let world = made(whole.path()).await;
        let bytes = std::fs::read(whole.path().join(FILE)).unwrap();
        let refused = async |what: &str, bytes: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), bytes).unwrap();
            let error = open(dir.path()).await.err().unwrap_or_else(|| panic!("{what}: it was taken"));
            assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error}");
            assert!(error.to_string().contains("lab.sqlite: "), "{what}: {error}");
            assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), bytes, "{what}: it is left as it is");
        };
        refused("emptied", b"").await;
        refused("of zeroes", &vec![0; bytes.len()]).await;
        refused("something else", "nonsense ".repeat(1_000).as_bytes()).await;
        for cut in [1, 2, 3, 4] {
            let at = bytes.len() * cut / 5;
            refused(&format!("cut at {at}"), &bytes[..at]).await;
        }
        for (what, statement) in [
            ("no documents", "DELETE FROM documents"),
            ("no table", "DROP TABLE documents"),
            ("no world", "DELETE FROM documents WHERE name = 'world'"),
            ("no identity", "DELETE FROM documents WHERE name = 'identity'"),
            ("an older form of no lab", "PRAGMA user_version = 0"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), &bytes).unwrap();
            changed(dir.path(), statement).await;
            let error = open(dir.path()).await.err().unwrap_or_else(|| panic!("{what}: it was taken"));
            assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error}");
        }
        // One bit, anywhere: it is found, or it was of no meaning.
        let mut found = 0;
        for at in (0..bytes.len()).step_by(97) {
            let dir = tempfile::tempdir().unwrap();
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let read = match DataDirectory::hold(dir.path()).unwrap().open().await {
                Ok(Ok(store)) => store.get(WORLD).await,
                Ok(Err(_)) => panic!("byte {at}: a new one was begun"),
                Err(error) => Err(error),
            };
            match read {
                Ok(read) => assert_eq!(read.as_deref(), Some(world.as_str()), "byte {at}"),
                Err(_) => found += 1,
            }
        }
        assert!(found > bytes.len() / 97 / 3, "{found} of {}", bytes.len() / 97);
    }

    #[tokio::test]
    async fn a_store_that_is_gone_is_not_begun_anew_and_a_half_made_one_is() {
        let dir = tempfile::tempdir().unwrap();
        for left in ["usage.jsonl", "client-secret", "lab.sqlite-wal", "blobs"] {
            let data = dir.path().join(left);
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join(left), "").unwrap();
            let error = DataDirectory::hold(&data).unwrap().open().await.err().unwrap();
            assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains(left), "{error}");
        }
        // Killed while the first store was made: nobody was told of anything in it.
        let data = dir.path().join("half");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("lab.sqlite.new"), "half").unwrap();
        std::fs::write(data.join("lab.sqlite.new-journal"), "half").unwrap();
        made(&data).await;
        assert!(!data.join("lab.sqlite.new").exists());
    }

    #[tokio::test]
    async fn a_newer_form_is_refused_and_an_older_one_gets_its_sums() {
        let dir = tempfile::tempdir().unwrap();
        let world = made(dir.path()).await;
        changed(dir.path(), "PRAGMA user_version = 3").await;
        let error = open(dir.path()).await.err().unwrap();
        assert!(matches!(error, StoreError::Newer { format: 3, .. }), "{error}");
        changed(dir.path(), "ALTER TABLE documents DROP COLUMN sum").await;
        changed(dir.path(), "PRAGMA user_version = 1").await;
        let store = open(dir.path()).await.unwrap();
        assert_eq!(store.get(WORLD).await.unwrap(), Some(world));
        store.pool.close().await;
        drop(store);
        changed(dir.path(), "UPDATE documents SET json = '{}' WHERE name = 'world'").await;
        assert!(matches!(open(dir.path()).await.err().unwrap(), StoreError::Damaged { .. }));
    }
}
