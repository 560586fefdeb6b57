//! `azsreg alerts`: the options.

use clap::{ArgAction, Args, Subcommand};

use super::shared::{PlanOptions, StampOptions};
use super::values::{BoolishValueParser, name};

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// List the stamp's open alerts that have to do with its registration
    List(Box<AlertListOptions>),
    /// Close alerts
    Close(Box<AlertCloseOptions>),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AlertListOptions {
    /// All alerts of the stamp, the closed ones too
    #[arg(long, env = "AZSREG_ALL", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AlertCloseOptions {
    /// The alerts' ids, as the list has them
    #[arg(required = true, value_name = "ID", value_parser = name())]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}
