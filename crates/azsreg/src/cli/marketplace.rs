//! `azsreg marketplace`: the options.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args, Subcommand};
use uuid::Uuid;

use super::shared::{AzureOptions, CareOptions, SidesOptions, StampOptions};
use super::values::{BoolishValueParser, id, name, path, read, text};

#[derive(Debug, Subcommand)]
pub(crate) enum MarketplaceCommand {
    /// List what is offered: to the stamp, or with --cloud-id to a stamp's registration in Azure
    List(Box<ItemListOptions>),
    /// Show an item: its terms, its size, whether the stamp can have it
    Show(Box<ItemShowOptions>),
    /// Have a connected stamp download items, and wait for them
    Add(Box<ItemAddOptions>),
    /// List the items that the stamp has, and those on their way
    Downloaded(Box<StampOptions>),
    /// Remove items from the stamp
    Remove(Box<ItemRemoveOptions>),
    /// Download items into a folder, on a machine with internet, for a disconnected stamp
    Download(Box<ItemDownloadOptions>),
    /// Compare every byte of a folder with its manifests
    Verify(ItemVerifyOptions),
    /// Import the items of a folder at a disconnected stamp
    Import(Box<ItemImportOptions>),
}

/// Whose marketplace is looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfferedToOptions {
    /// Ask Azure, with the registration of the stamp of this cloud id [default: ask the stamp]
    #[arg(long, value_name = "ID", value_parser = id())]
    pub(crate) cloud_id: Option<Uuid>,
    /// The subscription of that registration
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

/// The stamp that is not asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceOptions {
    /// The stamp's build, such as 1.2501.0.21, so that Azure says what it can have
    #[arg(long, value_name = "BUILD", env = "AZSREG_STAMP_BUILD", value_parser = name())]
    pub(crate) stamp_build: Option<String>,
    /// The stamp's identity system, with --stamp-build: aad or adfs
    #[arg(long, value_name = "SYSTEM", env = "AZSREG_STAMP_IDENTITY", default_value = "adfs", value_parser = read(PossibleValuesParser::new(["aad", "adfs"])))]
    pub(crate) stamp_identity: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ItemListOptions {
    /// Only those with this text in name, title, publisher or kind
    #[arg(long, value_name = "TEXT", env = "AZSREG_FILTER", value_parser = text())]
    pub(crate) filter: Option<String>,
    /// Only those that the stamp can have
    #[arg(long, env = "AZSREG_COMPATIBLE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) compatible: bool,
    #[command(flatten)]
    pub(crate) to: OfferedToOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ItemShowOptions {
    /// The item's name, as the list has it
    #[arg(value_parser = name())]
    pub(crate) item: String,
    #[command(flatten)]
    pub(crate) to: OfferedToOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ItemAddOptions {
    /// The items' names, as the list has them
    #[arg(required = true, value_name = "ITEM", value_parser = name())]
    pub(crate) items: Vec<String>,
    /// Don't wait until the stamp has them
    #[arg(long, env = "AZSREG_NO_WAIT", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) no_wait: bool,
    /// Show what would be done and change nothing (exit 4 if there is something to do)
    #[arg(long, env = "AZSREG_PLAN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) plan: bool,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ItemRemoveOptions {
    /// The items' names
    #[arg(required = true, value_name = "ITEM", value_parser = name())]
    pub(crate) items: Vec<String>,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ItemDownloadOptions {
    /// The items' names, as the list has them
    #[arg(required = true, value_name = "ITEM", value_parser = name())]
    pub(crate) items: Vec<String>,
    /// The folder to carry; each item has its own below it
    #[arg(long, value_name = "DIR", env = "AZSREG_MARKETPLACE_DIR", value_parser = path())]
    pub(crate) to: PathBuf,
    /// The stamp that they are for, by its cloud id
    #[arg(long, value_name = "ID", env = "AZSREG_CLOUD_ID", value_parser = id())]
    pub(crate) cloud_id: Option<Uuid>,
    /// The subscription of its registration
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// Accept the legal terms of the items
    #[arg(long, env = "AZSREG_ACCEPT_LEGAL_TERMS", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) accept_legal_terms: bool,
    /// Show what would be done and change nothing (exit 4 if there is something to do)
    #[arg(long, env = "AZSREG_PLAN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) plan: bool,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ItemVerifyOptions {
    /// The folder that azsreg marketplace download wrote
    #[arg(value_parser = path())]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ItemImportOptions {
    /// The folder that azsreg marketplace download wrote
    #[arg(value_parser = path())]
    pub(crate) dir: PathBuf,
    /// Show what would be done and change nothing (exit 4 if there is something to do)
    #[arg(long, env = "AZSREG_PLAN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) plan: bool,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}
