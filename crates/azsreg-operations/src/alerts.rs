//! The alerts of a stamp: looked at, and closed.

use azsreg_model::{Alert, Outcome, PlannedStep, Problem, Report, StampInformation, code};
use serde_json::json;

use crate::engine::retry::{Policy, read};
use crate::engine::session::FileBooks;
use crate::engine::{Failure, Steps, Watch};
use crate::marketplace::begin_in;
use crate::ports::{Alerts, Clock};
use crate::register::refused;

/// The operation that closes alerts.
pub const CLOSE: &str = "alerts-close";
const VERSION: u32 = 1;

/// The alerts, newest first.
///
/// # Errors
/// The stamp can't be read.
pub async fn list<P: Alerts, C: Clock>(port: &P, clock: &C, stamp: &StampInformation) -> Result<Vec<Alert>, Failure> {
    let mut all = read(clock, Policy::AZURE, async || port.alerts(stamp).await).await?;
    all.sort_by_key(|alert| std::cmp::Reverse(alert.created));
    Ok(all)
}

/// Closes alerts. All of them are looked for before any is closed.
///
/// # Errors
/// One is not there, or the stamp refused.
pub async fn close<P: Alerts, C: Clock>(
    port: &P,
    clock: &C,
    books: &FileBooks,
    stamp: &StampInformation,
    (names, plan): (&[String], bool),
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let all = list(port, clock, stamp).await?;
    let find = |name: &String| all.iter().find(|alert| alert.name.eq_ignore_ascii_case(name));
    let unknown = |name: &&String| find(name).is_none();
    let problems: Vec<Problem> = names
        .iter()
        .filter(unknown)
        .map(|name| Problem::new(&code::ALERT_UNKNOWN, format!("the stamp has no alert {name}")))
        .collect();
    if !problems.is_empty() {
        return Err(Failure { exit: problems[0].code.exit, ..refused(problems) });
    }
    if plan {
        let close = |alert: &Alert| PlannedStep { step: "close", changes: alert.active, detail: alert.title.clone() };
        let plan = names.iter().filter_map(find).map(close).collect();
        return Ok(Report { plan, ..Report::new(CLOSE, Outcome::Planned, stamp.cloud_id, None) });
    }
    let mut report = Report::new(CLOSE, Outcome::NothingToDo, stamp.cloud_id, None);
    for alert in names.iter().filter_map(find) {
        let request = json!({ "alert": alert.name });
        let dir = books.within("alerts");
        let (_lock, mut journal) = begin_in(&dir, stamp.cloud_id, (CLOSE, VERSION), &request, clock)?;
        let none = || Vec::new();
        let mut steps = Steps::new(&mut journal, clock, &mut *watch, &none);
        let observe = async || {
            let now = port.alerts(stamp).await?;
            let open = now.iter().any(|other| other.name == alert.name && other.active);
            Ok((!open).then(|| ((), format!("{}: closed", alert.title))))
        };
        let act = async || {
            port.close_alert(stamp, &alert.name).await?;
            Ok(None)
        };
        let title = format!("closing {}", alert.title);
        steps.step("close", &title, Policy::AZURE, observe, act, |()| request.clone()).await?;
        steps.finish("closed")?;
        report.steps.extend(steps.into_reports());
    }
    if report.steps.iter().any(|step| step.state == azsreg_model::StepState::Done) {
        report.outcome = Outcome::Done;
    }
    Ok(report)
}
