//! Marketplace items: what Azure offers to a registration, what a stamp has, and of what parts an item is made
//! (`facts-azure-api.md` section 4, `facts-stamp.md` sections 2 and 3).

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kind of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ProductKind {
    /// A disk image.
    VirtualMachine,
    /// An extension of virtual machines.
    VirtualMachineExtension,
    /// A template.
    Solution,
    /// A resource provider of the stamp.
    ResourceProvider,
    /// One that azsreg does not know.
    Other(String),
}

impl ProductKind {
    /// As the wire writes it.
    #[must_use]
    pub fn wire(&self) -> &str {
        match self {
            Self::VirtualMachine => "virtualMachine",
            Self::VirtualMachineExtension => "virtualMachineExtension",
            Self::Solution => "solution",
            Self::ResourceProvider => "resourceProvider",
            Self::Other(other) => other,
        }
    }
}

impl From<String> for ProductKind {
    fn from(text: String) -> Self {
        // Both cases of the first letter are seen (the administrator's Swagger examples).
        let known = [Self::VirtualMachine, Self::VirtualMachineExtension, Self::Solution, Self::ResourceProvider];
        known.into_iter().find(|kind| kind.wire().eq_ignore_ascii_case(&text)).unwrap_or(Self::Other(text))
    }
}

impl From<ProductKind> for String {
    fn from(kind: ProductKind) -> Self {
        kind.wire().to_owned()
    }
}

/// For people.
impl fmt::Display for ProductKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VirtualMachine => "virtual machine",
            Self::VirtualMachineExtension => "extension",
            Self::Solution => "solution",
            Self::ResourceProvider => "resource provider",
            Self::Other(other) => other,
        })
    }
}

/// Whether a stamp can have a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compatibility {
    /// Whether it can.
    pub is_compatible: bool,
    /// Why not, in Azure's words.
    pub why: String,
    /// The issues, such as `HigherDeviceVersionRequired`.
    pub issues: Vec<String>,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Product {
    /// Its name, as the routes have it.
    pub name: String,
    /// What people see.
    pub title: String,
    /// Who offers it.
    pub publisher: String,
    /// The kind.
    pub kind: ProductKind,
    /// The version.
    pub version: String,
    /// How many bytes it is said to have.
    pub bytes: Option<u64>,
    /// Whether the stamp can have it; `None` where Azure was not told which stamp.
    pub compatibility: Option<Compatibility>,
    /// Its terms, an address mostly; empty where there are none.
    pub legal_terms: String,
    /// The publisher's words, perhaps with markup.
    pub description: String,
    /// The gallery item's identity.
    pub gallery_item: String,
    /// Its icons: size (`small`, `medium`, `large`, `wide`, `hero`), as it is written, and address.
    pub icons: Vec<(String, String)>,
    /// All its properties, as they came.
    #[serde(skip)]
    pub properties: Value,
}

impl Product {
    /// The products that it can't do without, by name, as far as its properties say so.
    #[must_use]
    pub fn depends_on(properties: &Value) -> Vec<String> {
        let list = properties["dependentProducts"].as_array().into_iter().flatten();
        list.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// Whether some text is in its name, title, publisher or kind, whatever the case.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let kind = self.kind.to_string();
        [self.name.as_str(), &self.title, &self.publisher, &kind, self.kind.wire()]
            .iter()
            .any(|of| of.to_lowercase().contains(&text))
    }

    /// What no stamp of this kind can have, said in a line.
    #[must_use]
    pub fn incompatible(&self) -> Option<String> {
        let compatibility = self.compatibility.as_ref().filter(|known| !known.is_compatible)?;
        Some(if compatibility.why.is_empty() { compatibility.issues.join(", ") } else { compatibility.why.clone() })
    }
}

/// What a part of an item is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartRole {
    /// The gallery's package.
    Package,
    /// The disk of the operating system.
    OsDisk,
    /// A data disk.
    DataDisk,
    /// An extension's archive.
    Archive,
    /// A resource provider's container.
    Container,
    /// An icon.
    Icon,
    /// A list or description that was written with the item.
    Description,
}

/// A part of an item, to be fetched.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is for.
    pub role: PartRole,
    /// Where in the item's properties its address stands (JSON pointer).
    pub pointer: String,
    /// The file in the item's folder.
    pub file: String,
    /// The address. With its signature it is a secret.
    pub address: SecretString,
}

/// What `listDetails` gives of a product.
#[derive(Debug, Clone)]
pub struct ProductDetails {
    /// The parts to fetch.
    pub parts: Vec<Part>,
    /// The products that it can't do without, by name.
    pub dependents: Vec<String>,
    /// Its further properties, addresses without their signatures.
    pub properties: Value,
}

/// The state of an item on a stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemState {
    /// It is being brought.
    Downloading,
    /// It is there.
    Succeeded,
    /// It could not be brought: it has to be removed before it is tried again.
    Failed,
    /// Another word of the stamp.
    Other(String),
}

impl From<&str> for ItemState {
    fn from(text: &str) -> Self {
        match text {
            "Downloading" | "Starting" | "Running" => Self::Downloading,
            // A stamp that says nothing of it has it.
            "Succeeded" | "" => Self::Succeeded,
            "Failed" | "Canceled" | "Cancelled" => Self::Failed,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Downloading => "downloading",
            Self::Succeeded => "there",
            Self::Failed => "failed",
            Self::Other(other) => other,
        })
    }
}

/// An item of a stamp.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StampItem {
    /// The product.
    #[serde(flatten)]
    pub product: Product,
    /// How far it is.
    pub state: ItemState,
}

/// How far an operation of a stamp on an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemProgress {
    /// It goes on: per cent, where the stamp says so.
    Running(Option<u8>),
    /// It ended well.
    Succeeded,
    /// It failed: the stamp's code and words.
    Failed(String, String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_in_either_case_and_kept_otherwise() {
        assert_eq!(ProductKind::from("VirtualMachine".to_owned()), ProductKind::VirtualMachine);
        assert_eq!(ProductKind::from("webApp".to_owned()).wire(), "webApp");
    }
}
