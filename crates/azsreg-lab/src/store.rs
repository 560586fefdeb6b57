//! Where a lab's world is kept across restarts: one SQLite file, a few named documents, each written whole.
//!
//! The keys, the certificates and the ports are kept with it: clients keep tokens, and addresses, longer than a lab lives.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePool, SqlitePoolOptions};

use crate::keys::Keys;
use crate::tls;

/// The version of the documents' form.
const FORMAT: i64 = 1;

/// An open store. One lab at a time.
pub(crate) struct Store(SqlitePool);

impl Store {
    /// Opens the store of a directory, or makes it.
    pub(crate) async fn open(directory: &Path) -> Result<Self, sqlx::Error> {
        std::fs::create_dir_all(directory).map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(directory.join("lab.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .locking_mode(SqliteLockingMode::Exclusive);
        let _file = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("lab.sqlite"));
        // It holds the simulated passwords and keys: its owner's alone, like every file with secrets.
        #[cfg(unix)]
        if let Ok(file) = _file {
            use std::os::unix::fs::PermissionsExt as _;
            let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
        }
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, json TEXT NOT NULL)")
            .execute(&pool)
            .await?;
        let (format,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&pool).await?;
        if format > FORMAT {
            return Err(sqlx::Error::Protocol(format!("it is of format {format}; this azsreg knows {FORMAT}")));
        }
        // The second lab on the same data is refused here: the lock is taken by the first write.
        sqlx::query("PRAGMA user_version = 1").execute(&pool).await?;
        Ok(Self(pool))
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
        let row: Option<(String,)> =
            sqlx::query_as("SELECT json FROM documents WHERE name = ?").bind(name).fetch_optional(&self.0).await?;
        Ok(row.map(|(json,)| json))
    }

    pub(crate) async fn put(&self, name: &str, json: &str) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO documents (name, json) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET json = excluded.json",
        )
        .bind(name)
        .bind(json)
        .execute(&self.0)
        .await?;
        Ok(())
    }
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
}

impl Identity {
    pub(crate) async fn read(store: &Store) -> Result<Option<Self>, String> {
        let text = store.get("identity").await.map_err(|error| error.to_string())?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| error.to_string())).transpose()
    }

    pub(crate) async fn write(&self, store: &Store) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        store.put("identity", &text).await.map_err(|error| error.to_string())
    }

    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        Keys::kept(self.tokens.clone(), self.activation.clone())
    }
}
