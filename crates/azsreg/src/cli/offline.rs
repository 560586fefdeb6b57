//! The visits of a disconnected registration.

use std::path::PathBuf;

use azsreg_model::{BillingModel, TokenVersion};
use clap::{ArgAction, Args, Subcommand};
use uuid::Uuid;

use super::shared::{AzureOptions, CareOptions, PlanOptions, StampOptions, Switch};
use super::values::{BoolishValueParser, choice, id, name, path, word};

#[derive(Debug, Subcommand)]
pub(crate) enum OfflineCommand {
    /// At the stamp: ask for a registration token
    Token(Box<OfflineTokenOptions>),
    /// With internet: register with a carried token and fetch the activation key
    Register(Box<OfflineRegisterOptions>),
    /// With internet: fetch the activation key once more
    Key(Box<OfflineKeyOptions>),
    /// At the stamp: activate with a carried key
    Activate(Box<OfflineActivateOptions>),
    /// At the stamp: remove the activation
    Deactivate(Box<OfflineDeactivateOptions>),
    /// With internet: remove the registration
    Unregister(Box<OfflineUnregisterOptions>),
    /// Renew: another year, another number of nodes, other features
    #[command(subcommand)]
    Renew(OfflineRenewCommand),
    /// Show what a carried file holds, secrets as digests
    Inspect(OfflineInspectOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum OfflineRenewCommand {
    /// At the stamp: deactivate and ask for a new token
    Start(Box<OfflineTokenOptions>),
    /// With internet: remove the old registration, register anew and fetch the key
    Register(Box<OfflineRegisterOptions>),
    /// At the stamp: activate with the new key
    Finish(Box<OfflineActivateOptions>),
}

/// The file that is made.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutOptions {
    /// The file to make and to carry: never over another file, never through a link
    #[arg(long, value_name = "FILE", env = "AZSREG_OUT", value_parser = path())]
    pub(crate) out: PathBuf,
    /// Write the PowerShell module's bare form (UTF-16LE) in place of a bundle
    #[arg(long, env = "AZSREG_RAW", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) raw: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineTokenOptions {
    /// How it is paid: capacity, development or custom
    #[arg(long, value_name = "MODEL", env = "AZSREG_BILLING_MODEL", value_parser = word::<BillingModel>())]
    pub(crate) billing_model: BillingModel,
    /// The agreement, for capacity billing
    #[arg(long, value_name = "NUMBER", env = "AZSREG_AGREEMENT_NUMBER", value_parser = name())]
    pub(crate) agreement_number: Option<String>,
    /// The asset tag, for custom billing
    #[arg(long, value_name = "TAG", env = "AZSREG_MS_ASSET_TAG", value_parser = name())]
    pub(crate) ms_asset_tag: Option<String>,
    /// Whether usage is reported
    #[arg(long, value_name = "SWITCH", value_parser = choice::<Switch>(), env = "AZSREG_USAGE_REPORTING", default_value = "off")]
    pub(crate) usage_reporting: Switch,
    /// Whether marketplace items are offered
    #[arg(long, value_name = "SWITCH", value_parser = choice::<Switch>(), env = "AZSREG_MARKETPLACE", default_value = "off")]
    pub(crate) marketplace: Switch,
    /// The token version, in place of the one that the stamp's build calls for
    #[arg(long, value_name = "VERSION", env = "AZSREG_TOKEN_VERSION", value_parser = word::<TokenVersion>())]
    pub(crate) token_version: Option<TokenVersion>,
    #[command(flatten)]
    pub(crate) out: OutOptions,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineRegisterOptions {
    /// The carried file
    #[arg(value_parser = path())]
    pub(crate) file: PathBuf,
    /// The subscription that pays
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// The stamp's cloud id, where the carried file does not say it
    #[arg(long, value_name = "ID", env = "AZSREG_CLOUD_ID", value_parser = id())]
    pub(crate) cloud_id: Option<Uuid>,
    /// The registration's name [default: AzureStack-<cloud id>]
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME", value_parser = name())]
    pub(crate) name: Option<String>,
    /// The resource group
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack", value_parser = name())]
    pub(crate) resource_group: String,
    /// The resource group's location [default: the cloud's]
    #[arg(long, value_name = "LOCATION", env = "AZSREG_LOCATION", value_parser = name())]
    pub(crate) location: Option<String>,
    #[command(flatten)]
    pub(crate) out: OutOptions,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

/// Which registration.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhichOptions {
    /// The subscription that pays
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// The registration's name
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME", conflicts_with = "cloud_id", value_parser = name())]
    pub(crate) name: Option<String>,
    /// The resource group, with --name
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack", value_parser = name())]
    pub(crate) resource_group: String,
    /// The stamp's cloud id
    #[arg(long, value_name = "ID", env = "AZSREG_CLOUD_ID", value_parser = id())]
    pub(crate) cloud_id: Option<Uuid>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineKeyOptions {
    #[command(flatten)]
    pub(crate) which: WhichOptions,
    #[command(flatten)]
    pub(crate) out: OutOptions,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineActivateOptions {
    /// The carried file
    #[arg(value_parser = path())]
    pub(crate) file: PathBuf,
    /// The subscription that pays, where the carried file does not say the registration
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    /// The registration's name, where the carried file does not say it
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME", value_parser = name())]
    pub(crate) name: Option<String>,
    /// The resource group, with --name
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack", value_parser = name())]
    pub(crate) resource_group: String,
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineDeactivateOptions {
    /// The receipt to make and to carry: never over another file, never through a link
    #[arg(long, value_name = "FILE", env = "AZSREG_OUT", value_parser = path())]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineUnregisterOptions {
    /// The receipt of the deactivation, or the token that it was registered with
    #[arg(value_parser = path())]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) which: WhichOptions,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineInspectOptions {
    /// A bundle, or a token or key as the PowerShell module writes it
    #[arg(value_parser = path())]
    pub(crate) file: PathBuf,
}
