//! Pages to look at a stamp and at Azure, over small traits: [`Source`] and [`azure::Cloud`] give what is shown, [`Actions`]
//! does what is asked.
//!
//! Rendered on the server, readable without JavaScript, nothing from another host: a page is one document and one style
//! sheet. Who serves them (the lab, or `azsreg` for real stamps) brings the connection; there is none in here.

pub mod azure;
mod chart;
mod frame;
mod pages;

use azsreg_model::{Alert, UsageLine};
use jiff::Timestamp;

pub use frame::{Answer, Ask};
pub use pages::Portal;

/// The one word for a registration, as the administrator portal has it (`facts-stamp.md` section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Activated, and its time is not over.
    Registered,
    /// Activated, and its time is over within thirty days.
    Expiring,
    /// Activated, and its time is over.
    Expired,
    /// Not activated.
    NotRegistered,
}

impl Registration {
    /// As people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Registered => "Registered",
            Self::Expiring => "Expires soon",
            Self::Expired => "Expired",
            Self::NotRegistered => "Not registered",
        }
    }

    /// The command that mends it, where something is to be mended.
    #[must_use]
    pub fn next(self) -> Option<&'static str> {
        match self {
            Self::Registered => None,
            Self::Expiring | Self::Expired => Some("azsreg renew"),
            Self::NotRegistered => Some("azsreg register"),
        }
    }

    fn tone(self) -> &'static str {
        match self {
            Self::Registered => "good",
            Self::Expiring => "warn",
            Self::Expired | Self::NotRegistered => "bad",
        }
    }
}

/// A stamp's region: what Region management and its Properties show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The region's name, such as `local`.
    pub name: String,
    /// The stamp's name, where it has one here.
    pub stamp: String,
    /// The registration in one word.
    pub registration: Registration,
    /// The registration's subscription, group and name.
    pub registered_as: Option<azsreg_model::RegistrationId>,
    /// The billing model, where it is known.
    pub billing_model: Option<String>,
    /// When the registration ends; none where it never does.
    pub expires: Option<Timestamp>,
    /// Marketplace syndication, where the record says.
    pub marketplace: Option<bool>,
    /// Usage reporting, where the record says.
    pub usage: Option<bool>,
    /// The cloud id.
    pub cloud_id: String,
    /// The build.
    pub version: String,
    /// How many hosts.
    pub nodes: u32,
    /// The privileged endpoints.
    pub privileged_endpoints: Vec<String>,
    /// The time there.
    pub now: Timestamp,
}

/// Marketplace management: what the stamp has, and what is said about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Market {
    /// Why there is nothing, where there is nothing or nothing can be had.
    pub message: Option<&'static str>,
    /// The command for that.
    pub next: Option<&'static str>,
    /// The items, in the order of their titles.
    pub items: Vec<Item>,
}

/// A marketplace item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its title.
    pub title: String,
    /// Its publisher.
    pub publisher: String,
    /// `Virtual machine`, `Extension` ...
    pub kind: &'static str,
    /// Its version.
    pub version: String,
    /// `Downloaded`, `Downloading` or `Failed`.
    pub status: &'static str,
    /// How that looks: `good`, `warn` or `bad`.
    pub tone: &'static str,
    /// How large it is, for a person; empty where it is not known.
    pub size: String,
}

/// What pages show.
pub trait Source {
    /// The region.
    fn region(&self) -> Region;
    /// The alerts, newest first.
    fn alerts(&self) -> Vec<Alert>;
    /// Marketplace management.
    fn market(&self) -> Market;
    /// What was used by day and meter, of the last so many days that have ended.
    fn usage(&self, days: u16) -> Vec<UsageLine>;
}

/// What pages do.
pub trait Actions {
    /// Closes an alert.
    ///
    /// # Errors
    /// Why not, for a person.
    fn close_alert(&self, id: &str) -> Result<(), String>;
}
