//! Sign-ins kept between commands: one file per account, readable by its owner alone.
//!
//! A file is made whole under a name of its own and renamed. What is in the directory under any other name than azsreg gives
//! (a draft of a killed `login`, an editor's copy) is no sign-in; `logout` removes it all the same, for it holds a secret.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::challenge::Claims;
use crate::place::Place;

/// A file of this size is no sign-in.
const LONGEST: u64 = 1 << 20;

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
    /// Where it was made, and what alone it is for; none for one that an older azsreg kept for a custom cloud, which is used
    /// for nothing any more.
    pub place: Option<Place>,
    /// The public client that signed in.
    pub client: Uuid,
    /// The refresh token.
    pub refresh_token: SecretString,
    /// Whether the person signed in with a browser; with a code otherwise.
    pub browser: bool,
    /// What Azure asked for that this sign-in does not give: the next one of the person asks for it.
    pub claims: Option<Claims>,
}

impl Account {
    fn is_of(&self, tenant: &str) -> bool {
        self.tenant.eq_ignore_ascii_case(tenant) || self.asked.eq_ignore_ascii_case(tenant)
    }

    fn host(&self) -> &str {
        self.authority.split_once("://").map_or(&*self.authority, |(_, rest)| rest)
    }

    /// The name of its file: what it is of, readable, and a digest of all that makes it another one.
    fn name(&self) -> String {
        let place = self.place.as_ref();
        let parts = [
            place.map_or("", |place| &place.endpoint),
            place.map_or("", |place| &place.audience),
            &self.authority,
            &self.tenant.to_lowercase(),
        ];
        let digest = Sha256::digest(parts.join("\n").as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{}@{}.{digest}.json", safe(&self.tenant.to_lowercase()), safe(self.host()))
    }

    /// The name that an older azsreg gave.
    fn older_name(&self) -> String {
        format!("{}@{}.json", safe(&self.tenant.to_lowercase()), safe(self.host()))
    }
}

/// The cache in a state directory.
#[derive(Debug, Clone)]
pub struct SignInCache {
    directory: PathBuf,
}

/// What was forgotten.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// The sign-ins.
    pub accounts: Vec<Account>,
    /// The number of other files that were in the directory.
    pub others: usize,
}

/// A name that is safe as a file's: what is not is replaced.
fn safe(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    text.chars().take(100).map(safe).collect()
}

impl SignInCache {
    /// The cache of a state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("sign-in") }
    }

    /// The sign-in of a place and tenant.
    #[must_use]
    pub fn get(&self, place: &Place, tenant: &str) -> Option<Account> {
        let here = |account: &Account| account.place.as_ref().is_some_and(|kept| kept.is(place));
        self.all().into_iter().find(|account| here(account) && account.is_of(tenant))
    }

    /// What the next sign-in at a place asks for, because Azure asked for it before: for a tenant, or for any where none is
    /// named.
    #[must_use]
    pub fn claims(&self, place: &Place, tenant: &str) -> Option<Claims> {
        let here = |account: &Account| account.place.as_ref().is_some_and(|kept| kept.is(place));
        let any = tenant.eq_ignore_ascii_case("organizations");
        self.all().into_iter().filter(|account| here(account) && (any || account.is_of(tenant))).find_map(|a| a.claims)
    }

    /// The sign-in of the same authority and tenant that was made at another place: it is not used, but may be named.
    #[must_use]
    pub fn elsewhere(&self, place: &Place, tenant: &str) -> Option<Account> {
        let same = |account: &Account| account.authority.trim_end_matches('/') == place.authority.trim_end_matches('/');
        self.all().into_iter().find(|account| same(account) && account.is_of(tenant))
    }

    /// Where sign-ins were made.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        self.all().into_iter().filter_map(|account| account.place).collect()
    }

    fn read(path: &Path) -> Option<Account> {
        let entry = fs::symlink_metadata(path).ok()?;
        if !entry.is_file() || entry.len() > LONGEST {
            return None;
        }
        let mut bytes = Vec::new();
        fs::File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let authority = text("authority")?;
        let place = match (text("endpoint"), text("audience")) {
            (Some(endpoint), Some(audience)) => {
                let graph = text("graph").unwrap_or_default();
                Some(Place { endpoint, authority: authority.clone(), audience, graph })
            }
            _ => Place::of_authority(&authority),
        };
        Some(Account {
            user: text("user")?,
            asked: text("asked").or_else(|| text("tenant"))?,
            tenant: text("tenant")?,
            place,
            authority,
            client: text("client")?.parse().ok()?,
            refresh_token: text("refresh_token")?.into(),
            browser: value["browser"].as_bool().unwrap_or_default(),
            claims: text("claims").and_then(|claims| Claims::read(&claims)),
        })
    }

    /// Every file of the directory, and the sign-in that it is, if it has the name of one.
    fn files(&self) -> std::io::Result<Vec<(PathBuf, Option<Account>)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                continue;
            }
            let name = entry.file_name();
            let named = |account: &Account| name == *account.name() || name == *account.older_name();
            files.push((entry.path(), Self::read(&entry.path()).filter(named)));
        }
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(files)
    }

    /// All sign-ins.
    #[must_use]
    pub fn all(&self) -> Vec<Account> {
        self.files().unwrap_or_default().into_iter().filter_map(|(_, account)| account).collect()
    }

    /// Keeps a sign-in.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn put(&self, account: &Account) -> std::io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.directory)?;
        let mut body = json!({
            "user": account.user, "tenant": account.tenant, "asked": account.asked, "authority": account.authority, "client": account.client,
            "refresh_token": account.refresh_token.expose_secret(), "browser": account.browser,
        });
        if let Some(claims) = &account.claims {
            body["claims"] = json!(claims.kept());
        }
        if let Some(place) = &account.place {
            body["endpoint"] = json!(place.endpoint);
            body["audience"] = json!(place.audience);
            body["graph"] = json!(place.graph);
        }
        // A random name, made here and now, its owner's alone.
        let mut draft = tempfile::Builder::new().prefix(".new-").suffix(".tmp").tempfile_in(&self.directory)?;
        draft.write_all(body.to_string().as_bytes())?;
        draft.as_file().sync_all()?;
        draft.persist(self.directory.join(account.name())).map_err(|error| error.error)?;
        // The same account under the name that an older azsreg gave it.
        let older = self.directory.join(account.older_name());
        let same = |kept: &Account| kept.place.is_none() || kept.place == account.place;
        if Self::read(&older).is_some_and(|kept| same(&kept)) {
            fs::remove_file(older)?;
        }
        #[cfg(unix)]
        fs::File::open(&self.directory)?.sync_all()?;
        Ok(())
    }

    /// Forgets the sign-ins of a tenant, or all. What is in the directory besides goes with them: whose it is can't be told.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn forget(&self, tenant: Option<&str>) -> std::io::Result<Forgotten> {
        let mut gone = Forgotten::default();
        for (path, account) in self.files()? {
            let keep = account.as_ref().is_some_and(|account| tenant.is_some_and(|tenant| !account.is_of(tenant)));
            if keep {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            match account {
                Some(account) => gone.accounts.push(account),
                None => gone.others += 1,
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(endpoint: &str, tenant: &str) -> Account {
        let authority = "https://login.example";
        Account {
            user: "a@b".into(),
            tenant: tenant.into(),
            asked: "contoso.example".into(),
            authority: authority.into(),
            place: Some(place(endpoint)),
            client: Uuid::nil(),
            refresh_token: "secret".to_owned().into(),
            browser: false,
            claims: None,
        }
    }

    fn place(endpoint: &str) -> Place {
        Place {
            endpoint: endpoint.into(),
            authority: "https://login.example".into(),
            audience: format!("{endpoint}/"),
            graph: String::new(),
        }
    }

    #[test]
    fn a_sign_in_is_kept_apart_by_place_and_tenant_and_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let cache = SignInCache::new(dir.path());
        let one = account("https://one", "T1");
        cache.put(&one).unwrap();
        cache.put(&one).unwrap();
        let here = place("https://one");
        assert_eq!(cache.get(&here, "t1").unwrap().user, "a@b");
        assert_eq!(cache.get(&here, "Contoso.example").unwrap().user, "a@b");
        assert!(cache.get(&here, "t2").is_none());
        // The same authority, but another endpoint, or another audience at the same one.
        assert!(cache.get(&place("https://two"), "t1").is_none());
        assert!(cache.elsewhere(&place("https://two"), "t1").is_some());
        assert!(cache.get(&Place { audience: "https://two/".into(), ..here.clone() }, "t1").is_none());
        assert!(cache.get(&Place { authority: "https://login.other".into(), ..here.clone() }, "t1").is_none());
        cache.put(&account("https://two", "T1")).unwrap();
        assert_eq!((cache.all().len(), cache.places().len()), (2, 2));
        #[cfg(unix)]
        for (path, _) in cache.files().unwrap() {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!format!("{one:?}").contains("secret"));
        assert_eq!(cache.forget(Some("t2")).unwrap().accounts.len(), 0);
        assert_eq!(cache.forget(Some("t1")).unwrap().accounts.len(), 2);
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), 0);
    }

    #[test]
    fn what_azure_asked_for_is_kept_beside_the_sign_in() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, here) = (SignInCache::new(dir.path()), place("https://one"));
        cache.put(&account("https://one", "t1")).unwrap();
        assert_eq!(cache.claims(&here, "t1"), None);
        let claims = Claims::read(r#"{"access_token":{"acrs":{"values":["p1"]}}}"#);
        cache.put(&Account { claims: claims.clone(), browser: true, ..account("https://one", "t1") }).unwrap();
        assert!(claims.is_some() && cache.get(&here, "t1").unwrap().browser);
        for (tenant, found) in [("t1", &claims), ("organizations", &claims), ("t2", &None)] {
            assert_eq!(&cache.claims(&here, tenant), found, "{tenant}");
        }
        assert_eq!(cache.claims(&place("https://two"), "t1"), None);
    }

    #[test]
    fn names_that_look_alike_are_of_different_accounts() {
        let names = ["t/1", "t:1", "T_1", "t_1"].map(|tenant| account("https://one", tenant).name());
        let apart: std::collections::HashSet<_> = names.iter().collect();
        // The same tenant in another letter case is the same account.
        assert_eq!(apart.len(), 3, "{names:?}");
    }

    #[test]
    fn what_is_no_sign_in_is_not_used_and_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let cache = SignInCache::new(dir.path());
        let kept = account("https://one", "t1");
        cache.put(&kept).unwrap();
        let text = fs::read(cache.directory.join(kept.name())).unwrap();
        fs::remove_file(cache.directory.join(kept.name())).unwrap();
        // Drafts of a killed login of today and of before, an editor's copies, another sign-in's name.
        let name = kept.name();
        for other in
            [".new-a1b2c3.tmp", "t1@login.example.4711.new", &format!("{name}~"), &format!(".{name}.swp"), "t2@x.json"]
        {
            fs::write(cache.directory.join(other), &text).unwrap();
        }
        fs::create_dir(cache.directory.join("directory")).unwrap();
        assert!(cache.all().is_empty() && cache.get(&place("https://one"), "t1").is_none());
        assert_eq!(cache.forget(Some("other")).unwrap().others, 5);
        assert_eq!(cache.forget(None).unwrap().others, 0);
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), 1);
    }

    #[test]
    fn what_an_older_azsreg_kept_counts_for_the_named_cloud_of_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        let cache = SignInCache::new(dir.path());
        fs::create_dir(&cache.directory).unwrap();
        let older = |host: &str| {
            let text = format!(
                r#"{{"user":"u@c","tenant":"t1","asked":"c.example","authority":"https://{host}","client":"{}","refresh_token":"r"}}"#,
                Uuid::nil()
            );
            fs::write(cache.directory.join(format!("t1@{}.json", safe(host))), text).unwrap();
        };
        older("login.microsoftonline.com");
        older("127.0.0.1:4711");
        let azure = Place::of_authority("https://login.microsoftonline.com").unwrap();
        assert_eq!(cache.get(&azure, "c.example").unwrap().user, "u@c");
        assert!(cache.get(&Place { endpoint: "https://other.example".into(), ..azure.clone() }, "t1").is_none());
        let custom = Place { authority: "https://127.0.0.1:4711".into(), ..place("https://127.0.0.1:1") };
        assert!(cache.get(&custom, "t1").is_none() && cache.elsewhere(&custom, "t1").is_some());
        // Kept again, it has a name of today, once.
        let again = cache.get(&azure, "t1").unwrap();
        cache.put(&again).unwrap();
        assert_eq!(cache.all().len(), 2);
        assert_eq!(cache.forget(None).unwrap().accounts.len(), 2);
    }
}
