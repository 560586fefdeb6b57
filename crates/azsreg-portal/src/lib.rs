//! Pages to look at a stamp, at Azure and at a fleet, over small traits: [`Source`], [`azure::Cloud`] and [`fleet::Fleet`]
//! give what is shown, [`Actions`] does what is asked.
//!
//! Rendered on the server, readable without JavaScript, nothing from another host: a page is one document, one style sheet
//! and one small script. Who serves them (the lab, or `azsreg` for real stamps) brings the connection; there is none in here.

pub mod azure;
mod chart;
mod choice;
pub mod fleet;
mod frame;
mod market;
mod pages;
mod tile;

use azsreg_model::{Alert, BillingModel, UsageLine};
use jiff::Timestamp;
use uuid::Uuid;

pub use frame::{Answer, Ask, Forms, Notice, is_loopback, pairs};
pub use pages::Portal;

/// The one word for a registration, as the administrator portal has it (`facts-stamp.md` section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Activated, and its time is not over.
    Registered,
    /// Activated, and its time is over soon: when that begins is for whoever warns of it to say.
    Expiring,
    /// Activated, and its time is over.
    Expired,
    /// Not activated.
    NotRegistered,
}

impl Registration {
    /// The administrator portal's word; it has three.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Registered | Self::Expiring => "Registered",
            Self::Expired => "Expired",
            Self::NotRegistered => "Not registered",
        }
    }

    /// What is said beside the word.
    fn beside(self) -> Option<&'static str> {
        (self == Self::Expiring).then_some("Expires soon")
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
    /// Whether it has a way to Azure.
    pub connected: bool,
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

impl Region {
    /// The command that mends the registration, where something is to be mended: with all that it needs, and in capitals
    /// what only the operator knows.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        let command = match (self.registration, self.connected) {
            (Registration::Registered, _) => return None,
            (Registration::Expiring | Registration::Expired, true) => {
                format!("azsreg renew --subscription {}", self.subscription())
            }
            (Registration::Expiring | Registration::Expired, false) => {
                format!("azsreg offline renew start --billing-model {} --out FILE", self.model())
            }
            (Registration::NotRegistered, true) => "azsreg register --subscription ID --billing-model MODEL".into(),
            (Registration::NotRegistered, false) => "azsreg offline token --billing-model MODEL --out FILE".into(),
        };
        Some(command)
    }

    /// The registration's subscription, for a command.
    #[must_use]
    pub fn subscription(&self) -> String {
        self.registered_as.as_ref().map_or_else(|| "ID".to_owned(), |id| id.subscription.to_string())
    }

    /// The billing model and what goes with it, for a command.
    fn model(&self) -> &'static str {
        match self.billing_model.as_deref().and_then(|model| model.parse().ok()) {
            Some(BillingModel::Capacity) => "capacity --agreement-number NUMBER",
            Some(BillingModel::Custom) => "custom --ms-asset-tag TAG",
            Some(model) => model.as_str(),
            None => "MODEL",
        }
    }
}

/// Marketplace management: what the stamp has, and what is said about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Market {
    /// Why there is nothing, or nothing can be had.
    pub notice: Option<Notice>,
    /// Whether items can be added from Azure.
    pub addable: bool,
    /// The items, in the order of their titles.
    pub items: Vec<Item>,
}

/// How far a marketplace item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemState {
    /// The stamp has it.
    Downloaded,
    /// It is being brought: so many per cent of it are there.
    Downloading(u8),
    /// It could not be brought, and why.
    Failed(String),
}

impl ItemState {
    fn title(&self) -> &'static str {
        match self {
            Self::Downloaded => "Downloaded",
            Self::Downloading(_) => "Downloading",
            Self::Failed(_) => "Failed",
        }
    }

    fn tone(&self) -> &'static str {
        match self {
            Self::Downloaded => "good",
            Self::Downloading(_) => "warn",
            Self::Failed(_) => "bad",
        }
    }
}

/// A marketplace item of the stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name, as the routes have it.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its publisher.
    pub publisher: String,
    /// `Virtual machine`, `Extension` ...
    pub kind: &'static str,
    /// Its version.
    pub version: String,
    /// How far it is.
    pub state: ItemState,
    /// Its bytes; 0 where that is not known.
    pub bytes: u64,
}

/// An item that Azure offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The item; downloaded where the stamp has it, and `Failed` with the reason where the last download of it failed.
    pub item: Item,
    /// Whether the stamp knows it: else its state says nothing.
    pub here: bool,
    /// What it is, for a person.
    pub description: String,
    /// The address of its legal terms.
    pub legal_terms: String,
    /// The address of its privacy policy.
    pub privacy_policy: String,
    /// Why this stamp can't have it.
    pub incompatible: Option<String>,
}

/// Which usage is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageAsked {
    /// The last so many days that have ended.
    pub days: u16,
    /// Of one subscription alone.
    pub subscription: Option<Uuid>,
    /// Each subscription by itself, or all in one.
    pub apart: bool,
}

/// What pages show.
pub trait Source {
    /// The region.
    fn region(&self) -> Region;
    /// The alerts, newest first.
    fn alerts(&self) -> Vec<Alert>;
    /// Marketplace management.
    fn market(&self) -> Market;
    /// What Azure offers to this stamp, or why it can't be asked.
    fn offers(&self) -> impl Future<Output = Result<Vec<Offer>, Notice>> + Send;
    /// The tenants' subscriptions.
    fn tenants(&self) -> Vec<Uuid>;
    /// What was used by day and meter.
    fn usage(&self, asked: UsageAsked) -> Vec<UsageLine>;
}

/// What pages do.
pub trait Actions {
    /// Closes an alert.
    ///
    /// # Errors
    /// Why not.
    fn close_alert(&self, id: &str) -> Result<(), Notice>;
    /// Begins to bring an item from Azure.
    ///
    /// # Errors
    /// Why not.
    fn add_item(&self, name: &str) -> impl Future<Output = Result<(), Notice>> + Send;
    /// Deletes an item from the stamp.
    ///
    /// # Errors
    /// Why not.
    fn delete_item(&self, name: &str) -> Result<(), Notice>;
}
