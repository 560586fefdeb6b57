//! The folder in which a marketplace item is carried to an air-gapped stamp, and its manifest.
//!
//! The folder is laid out as the offline tool of the PowerShell modules does it, so that the old importer reads it
//! (`facts-stamp.md` section 3); the manifest beside it says what each file has to be. It detects mistakes of copying and
//! carrying, not forgery.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::RegistrationId;
use crate::product::{PartRole, ProductKind};

/// The manifest's name in the item's folder.
pub const MANIFEST: &str = "azsreg-manifest.json";
/// What begins every manifest of this form.
const FORMAT: &str = "azsreg-marketplace-item-1";
/// No manifest is longer than this.
const MAX_BYTES: usize = 4 << 20;

/// A file of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFile {
    /// Its path in the folder, with `/`.
    pub path: String,
    /// What it is for.
    pub role: PartRole,
    /// Where in the product's properties its address stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pointer: String,
    /// How many bytes.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Whether Azure gave an MD5 of the whole, and it held.
    pub md5_held: bool,
}

/// Who agreed to the terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The terms, as they were shown.
    pub terms: String,
    /// The account of the machine.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemManifest {
    /// The form.
    format: String,
    /// The product's name.
    pub product: String,
    /// What people see.
    pub title: String,
    /// The kind.
    pub kind: ProductKind,
    /// The version.
    pub version: String,
    /// The stamp that it was downloaded for.
    pub cloud_id: Uuid,
    /// The registration that it was downloaded with.
    pub registration: RegistrationId,
    /// The version of azsreg.
    pub azsreg: String,
    /// When it was whole.
    pub at: Timestamp,
    /// Who agreed to its terms, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Agreed>,
    /// Its files, in the order of their paths.
    pub files: Vec<ItemFile>,
    /// SHA-256 over all that is above.
    checksum: String,
}

/// Why a manifest can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// It is not one.
    #[error("it is not a manifest of azsreg: {0}")]
    Malformed(String),
    /// It was changed or cut.
    #[error("its checksum does not hold: it was changed")]
    Checksum,
    /// It is of another form.
    #[error("it is of the form {0}, which this azsreg does not know")]
    Format(String),
    /// A path leads out of the folder.
    #[error("it names the path {0:?}, which leads out of the folder")]
    Path(String),
}

/// What a manifest is made of.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct ItemContents {
    pub product: String,
    pub title: String,
    pub kind: ProductKind,
    pub version: String,
    pub cloud_id: Uuid,
    pub registration: RegistrationId,
    pub azsreg: String,
    pub at: Timestamp,
    pub agreed: Option<Agreed>,
    pub files: Vec<ItemFile>,
}

impl ItemManifest {
    /// A manifest of these contents.
    #[must_use]
    pub fn new(contents: ItemContents) -> Self {
        let ItemContents { product, title, kind, version, cloud_id, registration, azsreg, at, agreed, mut files } =
            contents;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut made = Self {
            format: FORMAT.into(),
            product,
            title,
            kind,
            version,
            cloud_id,
            registration,
            azsreg,
            at,
            agreed,
            files,
            checksum: String::new(),
        };
        made.checksum = made.sum();
        made
    }

    fn sum(&self) -> String {
        let bare = Self { checksum: String::new(), ..self.clone() };
        hex(&Sha256::digest(serde_json::to_vec(&bare).unwrap_or_default()))
    }

    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// It is none, was changed, is of a later form, or names what is not in its folder.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::Malformed("it is too large".into()));
        }
        #[derive(Deserialize)]
        struct Form {
            format: String,
        }
        let malformed = |error: serde_json::Error| ManifestError::Malformed(error.to_string());
        let form: Form = serde_json::from_slice(bytes).map_err(malformed)?;
        if form.format != FORMAT {
            return Err(ManifestError::Format(form.format));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if manifest.checksum != manifest.sum() {
            return Err(ManifestError::Checksum);
        }
        // The product's name becomes a path too, here and in calls.
        let mut paths = manifest.files.iter().map(|file| &file.path).filter(|path| !is_inside(path));
        match paths.next().or(Some(&manifest.product).filter(|product| !is_file_name(product))) {
            Some(path) => Err(ManifestError::Path(path.clone())),
            None => Ok(manifest),
        }
    }

    /// All bytes of the item's files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Whether a path stays in its folder, on every operating system.
#[must_use]
pub fn is_inside(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(is_file_name)
}

/// Whether some text may be the name of a file or folder, on every operating system.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let odd = |c: char| c.is_control() || "\\/:*?\"<>|".contains(c);
    // Windows keeps these for devices, with any ending.
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered = |device: &str| stem.strip_prefix(device).is_some_and(|rest| rest.len() == 1 && rest != "0");
    let device = ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str()) || numbered("COM") || numbered("LPT");
    !device
        && !name.is_empty()
        && name.len() < 200
        && !name.contains(odd)
        && !name.starts_with('.')
        && !name.ends_with(['.', ' '])
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> ItemManifest {
        ItemManifest::new(ItemContents {
            product: "a.b-1".into(),
            title: "A".into(),
            kind: ProductKind::Solution,
            version: "1".into(),
            cloud_id: Uuid::nil(),
            registration: RegistrationId { subscription: Uuid::nil(), resource_group: "g".into(), name: "n".into() },
            azsreg: "0".into(),
            at: Timestamp::UNIX_EPOCH,
            agreed: None,
            files: vec![ItemFile {
                path: "Icons/Large.png".into(),
                role: PartRole::Icon,
                pointer: "/iconUris/large".into(),
                bytes: 3,
                sha256: "00".into(),
                md5_held: true,
            }],
        })
    }

    #[test]
    fn what_was_changed_is_noticed() {
        let text = manifest().encode();
        assert_eq!(ItemManifest::decode(text.as_bytes()).unwrap(), manifest());
        let changed = text.replace("\"bytes\": 3", "\"bytes\": 4");
        assert_eq!(ItemManifest::decode(changed.as_bytes()), Err(ManifestError::Checksum));
        assert!(matches!(ItemManifest::decode(b"{}"), Err(ManifestError::Malformed(_))));
        assert!(matches!(ItemManifest::decode(&text.as_bytes()[..200]), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in ["../x", "/etc/passwd", "a//b", "C:\\x", "a/../b", "", "a/.", "a\\b", "NUL:", "CON", "com1.zip"] {
            assert!(!is_inside(path), "{path}");
            let mut bad = manifest();
            bad.files[0].path = path.into();
            bad.checksum = bad.sum();
            assert_eq!(ItemManifest::decode(bad.encode().as_bytes()), Err(ManifestError::Path(path.into())));
        }
        assert!(is_inside("Icons/Large.png"));
    }
}
