//! What a stamp's operator keeps in its own resource groups: storage accounts, as far as an import of marketplace items
//! needs them (`facts-stamp.md` section 3). The bytes themselves lie in files beside the lab.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Draw;
use super::arm::{Answer, ArmError};

/// A resource group of the stamp.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StampGroup {
    /// Its name, as first written.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Value,
}

/// A storage account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StorageAccount {
    /// Its name.
    pub name: String,
    /// Its group's name.
    pub group: String,
    /// `Storage` or another kind.
    pub kind: String,
    /// The key, base64.
    pub key: String,
    /// Containers by name.
    pub containers: BTreeMap<String, Container>,
}

/// A container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Container {
    /// Whether everybody may read its blobs.
    #[serde(default)]
    pub public: bool,
    /// Blobs by name.
    pub blobs: BTreeMap<String, StoredBlob>,
}

/// A blob, without its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredBlob {
    /// Whether it is a page blob.
    pub page: bool,
    /// How many bytes; of a block blob that is not committed, none.
    pub length: u64,
    /// Whether it is there for readers: a block blob is once its list was put.
    pub committed: bool,
    /// The version.
    pub version: u64,
    /// When it was last written.
    pub modified: Timestamp,
    /// The MD5 that was given with it, base64.
    pub md5: Option<String>,
    /// Its metadata, by lower-case name.
    pub metadata: BTreeMap<String, String>,
    /// Blocks that wait for a list: id and length.
    pub waiting: Vec<(String, u64)>,
    /// Blocks of the list.
    pub blocks: Vec<(String, u64)>,
    /// Pages that were written: first byte and the one after the last, in order, apart from each other.
    pub pages: Vec<(u64, u64)>,
}

impl StoredBlob {
    /// An empty one.
    #[must_use]
    pub fn new(page: bool, length: u64, now: Timestamp) -> Self {
        Self {
            page,
            length,
            committed: page,
            version: 1,
            modified: now,
            md5: None,
            metadata: BTreeMap::new(),
            waiting: Vec::new(),
            blocks: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// A write changes version and time.
    pub fn touch(&mut self, now: Timestamp) {
        self.version += 1;
        self.modified = now;
    }

    /// The version as a header has it.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"0x8DL{:X}{:X}\"", self.modified.as_millisecond(), self.version)
    }

    /// Marks pages as written, or as cleared.
    pub fn mark(&mut self, from: u64, to: u64, written: bool) {
        let mut pages: Vec<(u64, u64)> = Vec::new();
        for &(a, b) in &self.pages {
            if b <= from || a >= to {
                pages.push((a, b));
                continue;
            }
            if a < from {
                pages.push((a, from));
            }
            if b > to {
                pages.push((to, b));
            }
        }
        if written {
            pages.push((from, to));
        }
        pages.sort_unstable();
        self.pages.clear();
        for (a, b) in pages {
            match self.pages.last_mut() {
                Some(last) if last.1 == a => last.1 = b,
                _ => self.pages.push((a, b)),
            }
        }
    }
}

/// Groups and accounts of a stamp.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Accounts {
    /// Groups by lower-case name.
    pub groups: BTreeMap<String, StampGroup>,
    /// Accounts by name.
    pub accounts: BTreeMap<String, StorageAccount>,
}

impl Accounts {
    /// Makes a group, or finds it; true if it is new.
    ///
    /// # Errors
    /// 400 without a location.
    pub fn put_group(&mut self, name: &str, body: &Value) -> Answer<(bool, &StampGroup)> {
        let Some(location) = body["location"].as_str().filter(|l| !l.is_empty()) else {
            return Err(ArmError::new(
                400,
                "LocationRequired",
                "The location property is required for this definition.",
            ));
        };
        let key = name.to_ascii_lowercase();
        let new = !self.groups.contains_key(&key);
        let made = StampGroup { name: name.to_owned(), location: location.to_owned(), tags: Value::Null };
        let group = self.groups.entry(key).or_insert(made);
        // A PUT replaces the tags, as of every resource.
        group.tags = body.get("tags").cloned().unwrap_or(Value::Null);
        Ok((new, group))
    }

    /// The group.
    ///
    /// # Errors
    /// 404 ResourceGroupNotFound.
    pub fn group(&self, name: &str) -> Answer<&StampGroup> {
        self.groups.get(&name.to_ascii_lowercase()).ok_or_else(|| {
            ArmError::new(404, "ResourceGroupNotFound", format!("Resource group '{name}' could not be found."))
        })
    }

    /// Deletes a group and the accounts in it: their names.
    ///
    /// # Errors
    /// 404 ResourceGroupNotFound.
    pub fn delete_group(&mut self, name: &str) -> Answer<Vec<String>> {
        self.group(name)?;
        self.groups.remove(&name.to_ascii_lowercase());
        let gone: Vec<String> =
            self.accounts.values().filter(|a| a.group.eq_ignore_ascii_case(name)).map(|a| a.name.clone()).collect();
        gone.iter().for_each(|name| {
            self.accounts.remove(name);
        });
        Ok(gone)
    }

    /// Makes an account, or finds it.
    ///
    /// # Errors
    /// 404 for the group, 400 for the name, 409 if it is in another group.
    pub fn put_account(&mut self, draw: &mut Draw, group: &str, name: &str, body: &Value) -> Answer<&StorageAccount> {
        let group = self.group(group)?.name.clone();
        let fits = (3..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !fits {
            let message = format!(
                "{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only."
            );
            return Err(ArmError::new(400, "AccountNameInvalid", message));
        }
        if self.accounts.get(name).is_some_and(|known| !known.group.eq_ignore_ascii_case(&group)) {
            return Err(ArmError::new(
                409,
                "StorageAccountAlreadyTaken",
                format!("The storage account named {name} is already taken."),
            ));
        }
        let key: Vec<u8> =
            [draw.guid(), draw.guid(), draw.guid(), draw.guid()].iter().flat_map(|g: &Uuid| *g.as_bytes()).collect();
        Ok(self.accounts.entry(name.to_owned()).or_insert_with(|| StorageAccount {
            name: name.to_owned(),
            group,
            kind: body["kind"].as_str().unwrap_or("Storage").to_owned(),
            key: BASE64_STANDARD.encode(key),
            containers: BTreeMap::new(),
        }))
    }
}

impl StorageAccount {
    /// The resource's body; `endpoint` ends with a slash.
    #[must_use]
    pub fn body(&self, group_scope: &str, location: &str, endpoint: &str) -> Value {
        json!({
            "id": format!("{group_scope}/providers/Microsoft.Storage/storageAccounts/{}", self.name),
            "name": self.name, "type": "Microsoft.Storage/storageAccounts", "location": location, "kind": self.kind,
            "sku": {"name": "Standard_LRS", "tier": "Standard"},
            "properties": {"provisioningState": "Succeeded", "primaryLocation": location, "statusOfPrimary": "available", "primaryEndpoints": {"blob": endpoint}},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_touch_are_one_range() {
        let mut blob = StoredBlob::new(true, 4096, Timestamp::UNIX_EPOCH);
        blob.mark(0, 512, true);
        blob.mark(1024, 2048, true);
        blob.mark(512, 1024, true);
        assert_eq!(blob.pages, [(0, 2048)]);
        blob.mark(512, 1024, false);
        assert_eq!(blob.pages, [(0, 512), (1024, 2048)]);
    }
}
