//! `azsreg usage`: the options.

use std::path::PathBuf;

use azsreg_model::{day_of, midnight};
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use super::shared::{SidesOptions, StampOptions};
use super::values::{BoolishValueParser, choice, id, name, path, read};

#[derive(Debug, Subcommand)]
pub(crate) enum UsageCommand {
    /// Show what the stamp recorded of its tenants' usage
    Show(Box<UsageShowOptions>),
    /// Compare what the stamp recorded with what Azure has, by day and meter
    Compare(Box<UsageCompareOptions>),
    /// Show whether usage is reported, and how far Azure has it
    Status(Box<UsageStatusOptions>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Buckets {
    /// Days of UTC.
    Daily,
    /// Hours.
    Hourly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Grouping {
    /// Each meter.
    Meter,
    /// Each meter of each tenant's subscription.
    Subscription,
    /// Each meter of each resource.
    Resource,
}

/// A day of UTC (2026-11-01), or a whole hour of it (2026-11-01T13:00Z).
fn moment(text: &str) -> Result<Timestamp, String> {
    if !text.contains(['T', 't', ' '])
        && let Ok(day) = text.parse::<Date>()
    {
        return Ok(midnight(day));
    }
    let at: Timestamp =
        text.parse().map_err(|_| "it is not a day (2026-11-01) or a time (2026-11-01T13:00Z)".to_owned())?;
    if at == azsreg_model::whole_hour(at) { Ok(at) } else { Err("it is not the beginning of an hour".into()) }
}

/// A day of UTC.
fn day(text: &str) -> Result<Timestamp, String> {
    let at = moment(text)?;
    if at == midnight(day_of(at)) { Ok(at) } else { Err("it is not the beginning of a day of UTC".into()) }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UsageShowOptions {
    /// From this day of UTC, or this hour (2026-11-01T13:00Z) [default: the first day of the month]
    #[arg(long, value_name = "WHEN", env = "AZSREG_USAGE_FROM", value_parser = read(moment))]
    pub(crate) from: Option<Timestamp>,
    /// Until the beginning of this day, or of this hour [default: today]
    #[arg(long, value_name = "WHEN", env = "AZSREG_USAGE_TO", value_parser = read(moment))]
    pub(crate) to: Option<Timestamp>,
    /// By day or by hour
    #[arg(long, value_parser = choice::<Buckets>(), value_name = "BUCKET", default_value = "daily", env = "AZSREG_USAGE_GRANULARITY")]
    pub(crate) granularity: Buckets,
    /// What to sum by
    #[arg(long, value_parser = choice::<Grouping>(), value_name = "WHAT", default_value = "meter", env = "AZSREG_USAGE_BY")]
    pub(crate) by: Grouping,
    /// One tenant alone, by its subscription on the stamp
    #[arg(long, value_name = "ID", env = "AZSREG_TENANT_SUBSCRIPTION", value_parser = id())]
    pub(crate) tenant_subscription: Option<Uuid>,
    /// One meter alone, by its id or name
    #[arg(long, value_name = "METER", env = "AZSREG_METER", value_parser = name())]
    pub(crate) meter: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: StampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UsageCompareOptions {
    /// From this day of UTC [default: the first day of the month]
    #[arg(long, value_name = "DAY", env = "AZSREG_USAGE_FROM", value_parser = read(day))]
    pub(crate) from: Option<Timestamp>,
    /// Until the beginning of this day [default: today]
    #[arg(long, value_name = "DAY", env = "AZSREG_USAGE_TO", value_parser = read(day))]
    pub(crate) to: Option<Timestamp>,
    /// Only days and meters that differ
    #[arg(long, env = "AZSREG_DIFFERENCES", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) differences: bool,
    /// How the stamp's meters become Azure's: a JSON list of {"meter", "size", "commerceMeter", "factor"} [default: the lab's]
    #[arg(long, value_name = "FILE", env = "AZSREG_METERS", value_parser = path())]
    pub(crate) meters: Option<PathBuf>,
    /// Another subscription that paid for a part of the time: a customer's whose mapping is gone
    #[arg(long, value_name = "ID", env = "AZSREG_PAYER", value_parser = id())]
    pub(crate) payer: Vec<Uuid>,
    /// The subscription of the registration
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UsageStatusOptions {
    /// The subscription of the registration
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[cfg(test)]
mod tests {
    use super::{day, moment};

    #[test]
    fn days_and_whole_hours_are_taken() {
        assert_eq!(moment("2026-11-01").unwrap().to_string(), "2026-11-01T00:00:00Z");
        assert_eq!(moment("2026-11-01T13:00Z").unwrap().to_string(), "2026-11-01T13:00:00Z");
        assert_eq!(moment("2026-11-01T13:00+00:00").unwrap().to_string(), "2026-11-01T13:00:00Z");
        assert!(moment("2026-11-01T13:00").unwrap_err().contains("13:00Z"), "of which zone?");
        assert!(moment("2026-11-01T13:30Z").unwrap_err().contains("hour"));
        assert!(moment("yesterday").unwrap_err().contains("2026-11-01"));
        assert!(day("2026-11-01T13:00Z").unwrap_err().contains("day of UTC"));
    }
}
