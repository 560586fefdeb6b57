//! `azsreg alerts`: what the stamp warns of.

use azsreg_arm::RecordsPort;
use azsreg_model::{ExitCode, StampInformation};
use azsreg_operations::{alerts, marketplace};

use super::connect::{self, CLOCK, Stamp};
use super::shared;
use crate::Ended;
use crate::cli::{AlertCloseOptions, AlertListOptions, AlertsCommand, Global, StampOptions};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(
    global: &Global,
    command: &AlertsCommand,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    match command {
        AlertsCommand::List(options) => list(global, options, view, sources).await,
        AlertsCommand::Close(options) => close(global, options, view, sources).await,
    }
}

/// Opens the stamp's Resource Manager: somebody has to be signed in to it.
pub(super) async fn at_stamp<T>(
    global: &Global,
    options: &StampOptions,
    sources: &Sources,
    screen: &Screen,
    work: impl AsyncFnOnce(&RecordsPort<'_>, &StampInformation, &std::path::Path) -> Result<T, Ended>,
) -> Result<T, Ended> {
    let nobody = || Ended::from(*marketplace::stamp::no_operator().problem);
    if shared::stamp_sign_in(&options.stamp_sign_in, sources)?.is_none() {
        return Err(nobody());
    }
    let work = async |stamp: Stamp<'_, '_>| {
        let records = stamp.world.records.ok_or_else(nobody)?;
        work(records, &stamp.information, &stamp.state_dir).await
    };
    connect::stamp(global, options, sources, screen, work).await
}

async fn list(global: &Global, options: &AlertListOptions, view: &View, sources: &Sources) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    let work = async |records: &RecordsPort<'_>, stamp: &StampInformation, _: &std::path::Path| {
        Ok(alerts::list(records, &CLOCK, stamp).await?)
    };
    let mut found = at_stamp(global, &options.stamp, sources, &screen, work).await?;
    found.retain(|alert| options.all || (alert.active && alert.is_of_registration()));
    if view.is_json() {
        view.json(&found);
        return Ok(ExitCode::Done);
    }
    if found.is_empty() {
        view.line("The stamp has no open alert that has to do with its registration.");
    }
    for alert in &found {
        let state = if alert.active { "open" } else { "closed" };
        let since = alert.created.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
        let code = alert.error_code.as_ref().map_or_else(String::new, |code| format!(" ({code})"));
        view.line(&format!("{}: {}{code}", alert.severity, alert.title));
        view.line(&format!("  {state} since {since}, {}, {}", alert.impacted, alert.fault_type));
        view.line(&format!("  {}", alert.description));
        view.line(&format!("  next: {}", alert.remediation));
        view.line(&format!("  id: {}", alert.name));
    }
    Ok(ExitCode::Done)
}

async fn close(
    global: &Global,
    options: &AlertCloseOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let mut screen = Screen::new(global, options.ids.len());
    let shown = screen.clone();
    let work = async |records: &RecordsPort<'_>, stamp: &StampInformation, state_dir: &std::path::Path| {
        Ok(alerts::close(
            records,
            &CLOCK,
            &connect::books(global, state_dir),
            stamp,
            (&options.ids, options.plan.plan),
            &mut screen,
        )
        .await?)
    };
    let report = at_stamp(global, &options.stamp, sources, &shown, work).await?;
    Ok(view.report(&report))
}
