//! `azsreg status` and `azsreg list`.

use azsreg_model::{ExitCode, Problem, RegistrationId, Status, StatusReport, code, finite};
use azsreg_operations::checks::expiry;
use azsreg_operations::engine::history::History;
use azsreg_operations::ports::Clock as _;
use azsreg_operations::status;
use serde_json::{Value, json};
use uuid::Uuid;

use super::connect::{self, Azure, Both, CLOCK, Needs};
use crate::Ended;
use crate::advice::Advice;
use crate::cli::{Global, ListOptions, Output, StatusOptions};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(
    global: &Global,
    options: &StatusOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    if options.web {
        return super::web::run(global, options, view, sources).await;
    }
    let mut report = look(global, options, sources, &Screen::new(global, 0)).await?;
    if sources.way().is_some() {
        Advice::of(sources).report(&mut report, sources.way(), options.subscription);
    }
    // Whoever asks for what he can't see, or for what is not there, is told so, not shown half of it.
    if let Err(problem) = &report.azure
        && (problem.code == &code::SUBSCRIPTION_NOT_VISIBLE || problem.code == &code::REGISTRATION_MISSING)
    {
        return Err(problem.clone().into());
    }
    if global.output == Output::Prometheus {
        view.prometheus(&report);
    } else {
        view.status(&report, exit(&report, options));
    }
    Ok(exit(&report, options))
}

/// Looks at both sides, each as far as it can be read.
pub(crate) async fn look(
    global: &Global,
    options: &StatusOptions,
    sources: &Sources,
    screen: &Screen,
) -> Result<StatusReport, Ended> {
    screen.say("asking both sides");
    // The page looks for the subscription itself, in more places.
    if options.web && options.subscription.is_none() {
        let none = Problem::new(&code::SUBSCRIPTION_UNKNOWN, "the subscription that it is registered in is not known")
            .next("Write \"subscription\" into its entry of stamps.json, or give --subscription.");
        return stamp_alone(global, options, sources, screen, none.into()).await;
    }
    let needs = Needs { subscription: options.subscription, ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let Both { world, subscription, state_dir, .. } = both;
        let named = options.name.as_ref().map(|name| RegistrationId {
            subscription,
            resource_group: options.resource_group.clone(),
            name: name.clone(),
        });
        // A journal that can't be read is no reason to show nothing; it is shown too.
        let look = |cloud_id: Uuid| History::look(&state_dir, cloud_id);
        Ok(status::status(world, subscription, named, look).await)
    };
    let report = match connect::both(global, &options.sides, sources, screen, needs.clone(), work).await {
        Ok(report) => report,
        // Without Azure there is still the stamp to look at.
        Err(ended) if azure_is_away(&ended, options.web || options.subscription.is_none()) => {
            stamp_alone(global, options, sources, screen, ended).await?
        }
        Err(ended) => return Err(ended),
    };
    Ok(report)
}

/// Whether it is Azure alone that can't be asked. The page asks for no sign-in, and shows what can be seen without; so does
/// who names no subscription, as at a disconnected stamp.
fn azure_is_away(ended: &Ended, without: bool) -> bool {
    ended.problems.first().map(|problem| problem.code).is_some_and(|code| {
        let unknown = code == &code::SUBSCRIPTION_UNKNOWN;
        code.is_away() || without && (unknown || code.is_of_sign_in() || code.is_of_azure())
    })
}

async fn stamp_alone(
    global: &Global,
    options: &StatusOptions,
    sources: &Sources,
    screen: &Screen,
    ended: Ended,
) -> Result<StatusReport, Ended> {
    let stamp = crate::cli::StampOptions {
        pep: options.sides.pep.clone(),
        stamp_sign_in: options.sides.stamp_sign_in.clone(),
        network: options.sides.network.clone(),
    };
    let Some(problem) = ended.problems.first().cloned() else { return Err(ended) };
    let work = async |stamp: connect::Stamp<'_, '_>| {
        let side = status::stamp_side(stamp.world, stamp.information.clone()).await.unwrap_or_else(|error| {
            azsreg_model::StampSide {
                information: stamp.information,
                activation: None,
                unread: Some(error.problem.to_string()),
            }
        });
        let (known, _) = History::look(&stamp.state_dir, side.information.cloud_id);
        Ok(StatusReport::of(CLOCK.now(), Err(problem), Ok(side), &known))
    };
    let mut failed = match connect::stamp(global, &stamp, sources, screen, work).await {
        Ok(report) => return Ok(report),
        Err(failed) => failed,
    };
    failed.problems.extend(ended.problems);
    Err(failed)
}

/// Without `--check` the exit code says what a script wants to know first; with it, what a monitor does.
fn exit(report: &StatusReport, options: &StatusOptions) -> ExitCode {
    let soon = report.days_left.is_some_and(|days| days < i64::from(options.within));
    match report.status {
        Status::NotRegistered | Status::HalfRegistered | Status::Mismatch => ExitCode::NotRegistered,
        Status::InProgress => ExitCode::Locked,
        Status::Expired => ExitCode::Expiring,
        Status::Unknown => ExitCode::Failed,
        _ if options.check && soon => ExitCode::Expiring,
        // A monitor that can't see one side must not say that all is well.
        Status::ActivatedOnStamp | Status::RegisteredInAzure if options.check => ExitCode::Failed,
        _ if options.check && (report.azure.is_err() || report.stamp.is_err()) => ExitCode::Failed,
        _ => ExitCode::Done,
    }
}

pub(crate) async fn list(
    global: &Global,
    options: &ListOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    let work = async |azure: Azure<'_, '_>| {
        let azure = azure.world.azure;
        let seen = azsreg_operations::checks::subscription(azure, &CLOCK, options.subscription).await?;
        seen.map_err(|problem| Ended { exit: ExitCode::CheckFailed, ..problem.into() })?;
        let mut rows = Vec::new();
        let all = status::registrations(azure, &CLOCK, options.subscription).await?;
        for registration in &all {
            let side = status::azure_side(azure, &CLOCK, &registration.id).await?;
            let end = expiry(azure, &CLOCK, registration).await?;
            let principal = match registration.object_id {
                Some(id) => azsreg_operations::ports::Azure::principal_exists(azure, id).await.unwrap_or(None),
                None => None,
            };
            let twins = all.iter().filter(|other| other.cloud_id.is_some() && other.cloud_id == registration.cloud_id);
            let expired = end.is_some_and(|end| end <= CLOCK.now());
            let mut notes = Vec::new();
            if expired && twins.count() > 1 {
                notes.push("orphan: the stamp has a newer registration");
            } else if expired {
                notes.push("expired");
            }
            if principal == Some(false) {
                notes.push(match side.role {
                    Some(_) => "orphan: its stamp's principal is gone",
                    None => "its principal is not in the directory: an orphan, or of a disconnected stamp",
                });
            }
            if side.lock.is_none() {
                notes.push("not locked");
            }
            if side.role.is_none() && registration.object_id.is_some() && principal != Some(false) {
                notes.push("no role");
            }
            let shown = match end {
                None => "-".to_owned(),
                Some(end) => finite(end).map_or("never".to_owned(), |end| end.strftime("%Y-%m-%d").to_string()),
            };
            let row = json!({
                "name": registration.id.name, "resource_group": registration.id.resource_group, "cloud_id": registration.cloud_id,
                "billing_model": registration.billing_model, "locked": side.lock.is_some(), "role": side.role.is_some(),
                "expires": end.and_then(finite), "notes": notes,
            });
            rows.push((row, shown));
        }
        // An empty list is not the last word: the registration may be in another subscription.
        let elsewhere = match all.is_empty() {
            true => Some(status::all_elsewhere(azure, &CLOCK, options.subscription).await?),
            false => None,
        };
        Ok((rows, elsewhere))
    };
    let (rows, elsewhere) =
        connect::azure(global, &options.azure, sources, &screen, Some(options.subscription), work).await?;
    if view.is_json() {
        let found = elsewhere.as_ref();
        view.json(&json!({
            "subscription": options.subscription, "value": rows.iter().map(|(row, _)| row).collect::<Vec<_>>(),
            "elsewhere": found.map(|(found, _)| found.iter().map(|one| &one.id).collect::<Vec<_>>()),
            "searched": found.map(|(_, searched)| searched),
        }));
        return Ok(ExitCode::Done);
    }
    if let Some((found, searched)) = elsewhere {
        view.line(&format!("The subscription {} has no registrations.", options.subscription));
        match found.len() {
            0 => view.line(&format!("None was found in {}.", searched.text())),
            _ => {
                view.line(&format!("Of {}, these have some:", searched.text()));
                found.iter().for_each(|one| view.line(&format!("  {}", one.id)));
            }
        }
        return Ok(ExitCode::Done);
    }
    let cell = |(row, expires): &(Value, String), name: &str| match &row[name] {
        _ if name == "expires" => expires.clone(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    };
    let columns = [
        ("NAME", "name"),
        ("RESOURCE GROUP", "resource_group"),
        ("CLOUD ID", "cloud_id"),
        ("BILLING MODEL", "billing_model"),
        ("LOCK", "locked"),
        ("ROLE", "role"),
        ("EXPIRES", "expires"),
        ("NOTES", "notes"),
    ];
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    view.table(&titles, rows.iter().map(|row| columns.iter().map(|(_, name)| cell(row, name)).collect()));
    Ok(ExitCode::Done)
}
