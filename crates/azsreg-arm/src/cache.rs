//! Sign-ins kept between commands: one file per cloud and tenant, readable by its owner alone.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

/// A cached sign-in of a user.
#[derive(Debug, Clone)]
pub struct Account {
    /// The user's name.
    pub user: String,
    /// The tenant's id.
    pub tenant: String,
    /// The tenant as it was named when signing in: a domain, perhaps.
    pub asked: String,
    /// The authority that it is of.
    pub authority: String,
    /// The public client that signed in.
    pub client: Uuid,
    /// The refresh token.
    pub refresh_token: SecretString,
}

/// The cache in a state directory.
#[derive(Debug, Clone)]
pub struct SignInCache {
    directory: PathBuf,
}

/// A name that is safe as a file's: what is not is replaced.
fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).collect()
}

impl SignInCache {
    /// The cache of a state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("sign-in") }
    }

    fn path(&self, authority: &str, tenant: &str) -> PathBuf {
        let host = authority.split_once("://").map_or(authority, |(_, rest)| rest);
        self.directory.join(format!("{}@{}.json", safe(&tenant.to_lowercase()), safe(host)))
    }

    /// The sign-in of a cloud and tenant.
    #[must_use]
    pub fn get(&self, authority: &str, tenant: &str) -> Option<Account> {
        let names = |account: &Account| {
            let is = |name: &str| name.eq_ignore_ascii_case(tenant);
            account.authority == authority && (is(&account.tenant) || is(&account.asked))
        };
        Self::read(&self.path(authority, tenant)).or_else(|| self.all().into_iter().find(names))
    }

    fn read(path: &Path) -> Option<Account> {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Account {
            user: text("user")?,
            asked: text("asked").or_else(|| text("tenant"))?,
            tenant: text("tenant")?,
            authority: text("authority")?,
            client: text("client")?.parse().ok()?,
            refresh_token: text("refresh_token")?.into(),
        })
    }

    /// All sign-ins.
    #[must_use]
    pub fn all(&self) -> Vec<Account> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        paths.iter().filter_map(|path| Self::read(path)).collect()
    }

    /// Keeps a sign-in.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn put(&self, account: &Account) -> std::io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let body = json!({
            "user": account.user, "tenant": account.tenant, "asked": account.asked, "authority": account.authority, "client": account.client,
            "refresh_token": account.refresh_token.expose_secret(),
        });
        let path = self.path(&account.authority, &account.tenant);
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.write_all(body.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, path)
    }

    /// Forgets a sign-in; false if there was none.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn forget(&self, account: &Account) -> std::io::Result<bool> {
        match fs::remove_file(self.path(&account.authority, &account.tenant)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_kept_apart_by_cloud_and_tenant_and_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let cache = SignInCache::new(dir.path());
        let account = Account {
            user: "a@b".into(),
            tenant: "T1".into(),
            asked: "contoso.example".into(),
            authority: "https://login.example".into(),
            client: Uuid::nil(),
            refresh_token: "secret".to_owned().into(),
        };
        cache.put(&account).unwrap();
        assert_eq!(cache.get("https://login.example", "t1").unwrap().user, "a@b");
        assert_eq!(cache.get("https://login.example", "Contoso.example").unwrap().user, "a@b");
        assert!(cache.get("https://login.example", "t2").is_none());
        assert!(cache.get("https://login.other", "t1").is_none());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = cache.path(&account.authority, &account.tenant);
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!format!("{account:?}").contains("secret"));
        assert!(cache.forget(&account).unwrap() && !cache.forget(&account).unwrap());
    }
}
