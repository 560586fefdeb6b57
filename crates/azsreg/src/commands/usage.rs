//! `azsreg usage`: what tenants use, and what Azure has of it.

use azsreg_arm::RecordsPort;
use azsreg_model::{
    Comparison, ExitCode, Granularity, MeterTable, Problem, Range, Registration, StampInformation, UsageLine,
    UsageStatus, Verdict, code, day_of, decode_text, midnight, whole_hour,
};
use azsreg_operations::files::input::Input;
use azsreg_operations::marketplace::{self, fetch};
use azsreg_operations::ports::{Clock as _, Customers as _, Records as _};
use azsreg_operations::usage::{self, By, Compare, Show};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::alerts::at_stamp;
use super::connect::{self, Both, CLOCK, Needs};
use super::shared;
use crate::Ended;
use crate::advice::Advice;
use crate::cli::{
    Buckets, Global, Grouping, Output, SidesOptions, UsageCommand, UsageCompareOptions, UsageShowOptions,
    UsageStatusOptions,
};
use crate::rows::Rows;
use crate::secrets::Sources;
use crate::state;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(
    global: &Global,
    command: &UsageCommand,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    match command {
        UsageCommand::Show(options) => show(global, options, sources).await,
        UsageCommand::Compare(options) => compare(global, options, view, sources).await,
        UsageCommand::Status(options) => status(global, options, view, sources).await,
    }
}

/// From the first day of the month until today, or until this hour, unless somebody says otherwise.
fn range(from: Option<Timestamp>, to: Option<Timestamp>, hourly: bool) -> Result<Range, Problem> {
    let now = CLOCK.now();
    let to = to.unwrap_or(if hourly { whole_hour(now) } else { midnight(day_of(now)) });
    // On the first day of a month it is the month before that is of interest.
    let from = from.unwrap_or_else(|| midnight(day_of(to - jiff::SignedDuration::from_hours(1)).first_of_month()));
    if from < to {
        return Ok(Range { from, to });
    }
    let message = format!("--to {} is not after --from {}", to, from);
    Err(Problem::new(&code::BAD_ARGUMENT, message).next("Give a --to that is later than --from."))
}

/// A time as people read it: the day, and the hour unless it is the first.
fn when(at: Timestamp, hours: bool) -> String {
    at.strftime(if hours { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d" }).to_string()
}

fn amount(quantity: Decimal) -> String {
    quantity.normalize().to_string()
}

async fn show(global: &Global, options: &UsageShowOptions, sources: &Sources) -> Result<ExitCode, Ended> {
    let hourly = options.granularity == Buckets::Hourly;
    if !hourly && [options.from, options.to].into_iter().flatten().any(|at| at != midnight(day_of(at))) {
        let message = "daily usage is of whole days of UTC: --from and --to are days";
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Give days, or add --granularity hourly.").into());
    }
    // What can be refused from the arguments alone is, before anybody is asked.
    if let (Some(from), Some(to)) = (options.from, options.to) {
        range(Some(from), Some(to), hourly)?;
    }
    let screen = Screen::new(global, 0);
    let work = async |records: &RecordsPort<'_>, stamp: &StampInformation, _: &std::path::Path| {
        // The stamp's answer says what time it is there.
        records.activation(stamp).await.map_err(azsreg_operations::Failure::from)?;
        let asked = Show {
            range: range(options.from, options.to, hourly)?,
            granularity: if hourly { Granularity::Hourly } else { Granularity::Daily },
            by: match options.by {
                Grouping::Meter => By::Meter,
                Grouping::Subscription => By::Subscription,
                Grouping::Resource => By::Resource,
            },
            subscription: options.tenant_subscription,
            meter: options.meter.clone(),
        };
        screen.say("asking the stamp for usage");
        screen.clear();
        let mut out = Lines::new(global.output, asked.by, hourly);
        let ended = usage::show(records, &CLOCK, stamp, &asked, |line| out.line(&line)).await;
        let shown = out.end(ended.is_ok());
        Ok((asked.range, shown, ended?))
    };
    let (range, shown, note) = at_stamp(global, &options.stamp, sources, &screen, work).await?;
    if shown == 0 && global.output == Output::Human {
        let (from, to) = (when(range.from, hourly), when(range.to, hourly));
        View::new(global.output).line(&format!("The stamp recorded no such usage from {from} to {to}."));
    }
    if let Some(note) = note {
        View::note(note);
    }
    Ok(ExitCode::Done)
}

/// The columns of `usage show`.
pub(crate) fn columns(by: By, hourly: bool) -> Vec<(&'static str, i32)> {
    let mut columns = vec![if hourly { ("HOUR (UTC)", 16) } else { ("DAY (UTC)", 10) }];
    if by != By::Meter {
        columns.push(("SUBSCRIPTION", 36));
    }
    columns.extend([("METER", 29), ("UNIT", 18), ("QUANTITY", -16)]);
    if by == By::Resource {
        // As long as most of their ids are.
        columns.push(("RESOURCE", 150));
    }
    columns
}

/// The columns of `usage compare`.
pub(crate) const COMPARED: [(&str, i32); 7] =
    [("DAY (UTC)", 10), ("METER", 30), ("UNIT", 11), ("STAMP", -16), ("AZURE", -16), ("DIFFERENCE", -14), ("", 10)];

/// The lines of `usage show`, as they come.
struct Lines {
    rows: Rows,
    by: By,
    hourly: bool,
}

impl Lines {
    fn new(output: Output, by: By, hourly: bool) -> Self {
        let csv = ["start", "subscription", "meter", "name", "unit", "quantity", "resource"];
        Self { rows: Rows::new(output, &columns(by, hourly), &csv), by, hourly }
    }

    /// Writes one; whether anybody still reads.
    fn line(&mut self, line: &UsageLine) -> bool {
        let name = if line.name.is_empty() { &line.meter } else { &line.name };
        let (subscription, resource) =
            (line.subscription.clone().unwrap_or_default(), line.resource.clone().unwrap_or_default());
        self.rows.row(
            line,
            || {
                let mut cells = vec![when(line.start, self.hourly)];
                if self.by != By::Meter {
                    cells.push(subscription.clone());
                }
                cells.extend([name.clone(), line.unit.clone(), amount(line.quantity)]);
                if self.by == By::Resource {
                    cells.push(resource.clone());
                }
                cells
            },
            || {
                let start = line.start.to_string();
                let quantity = amount(line.quantity);
                let name = line.name.clone();
                vec![
                    start,
                    subscription.clone(),
                    line.meter.clone(),
                    name,
                    line.unit.clone(),
                    quantity,
                    resource.clone(),
                ]
            },
        )
    }

    fn end(self, whole: bool) -> u64 {
        self.rows.end(whole)
    }
}

/// What both sides know before usage is read: the registration, and who pays.
async fn sides(
    both: &Both<'_, '_>,
    subscription: Uuid,
    stamp: &StampInformation,
) -> Result<(Registration, Vec<Uuid>, Vec<String>), Ended> {
    let azure = both.world.azure;
    let registration = fetch::registration(azure, &CLOCK, subscription, Some(stamp.cloud_id)).await?;
    let (mut payers, mut notes) = (vec![registration.id.subscription], Vec::new());
    match azure.customers(&registration.id).await {
        Ok(customers) => payers.extend(customers.iter().map(|customer| customer.subscription)),
        Err(error) => notes.push(format!("the registration's customers were not seen: {}", error.problem)),
    }
    Ok((registration, once(payers), notes))
}

/// Each once, in their order: whoever is asked twice is counted twice.
fn once(payers: Vec<Uuid>) -> Vec<Uuid> {
    let mut seen = std::collections::BTreeSet::new();
    payers.into_iter().filter(|payer| seen.insert(*payer)).collect()
}

/// Opens both sides, with somebody signed in to the stamp's Resource Manager.
async fn at_both<T>(
    global: &Global,
    options: &SidesOptions,
    subscription: Uuid,
    sources: &Sources,
    screen: &Screen,
    work: impl AsyncFnOnce(&Both<'_, '_>, &RecordsPort<'_>, &StampInformation) -> Result<T, Ended>,
) -> Result<T, Ended> {
    let nobody = || Ended::from(*marketplace::stamp::no_operator().problem);
    if shared::stamp_sign_in(&options.stamp_sign_in, sources)?.is_none() {
        return Err(nobody());
    }
    let needs = Needs { subscription: Some(subscription), stamp_first: true, ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let records = both.world.records.ok_or_else(nobody)?;
        let stamp = both.information.clone().ok_or_else(nobody)?;
        work(&both, records, &stamp).await
    };
    connect::both(global, options, sources, screen, needs, work).await
}

async fn compare(
    global: &Global,
    options: &UsageCompareOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    if let (Some(from), Some(to)) = (options.from, options.to) {
        range(Some(from), Some(to), false)?;
    }
    let table = match &options.meters {
        None => MeterTable::default(),
        Some(path) => {
            let unreadable = |why: String| {
                Problem::new(
                    &code::FILE_UNREADABLE,
                    format!("{} can't be used as a table of meters: {why}", path.display()),
                )
            };
            let text = state::read("--meters", path, Input::Meters)?;
            let text = decode_text(&text).map_err(|error| unreadable(error.to_string()))?;
            MeterTable::parse(&text).map_err(unreadable)?
        }
    };
    let screen = Screen::new(global, 0);
    let work = async |both: &Both<'_, '_>, records: &RecordsPort<'_>, stamp: &StampInformation| {
        let (_, mut payers, notes) = sides(both, options.subscription, stamp).await?;
        payers.extend(&options.payer);
        let payers = once(payers);
        let range = range(options.from, options.to, false)?;
        screen.say("comparing usage");
        let asked = Compare { range, payers, table, notes };
        Ok(usage::compare(records, both.world.azure, &CLOCK, stamp, asked).await?)
    };
    let comparison = at_both(global, &options.sides, options.subscription, sources, &screen, work).await?;
    if !comparison.differs() {
        compared(global, options, view, &comparison, None);
        return Ok(ExitCode::Done);
    }
    let (missing, surplus) = (comparison.count(Verdict::Missing), comparison.count(Verdict::Surplus));
    let message =
        format!("of {} lines {missing} are missing in Azure, and {surplus} are more there", comparison.lines.len());
    let mut problem = Problem::new(&code::USAGE_DIFFERS, message);
    problem.details = comparison.notes.clone();
    compared(global, options, view, &comparison, Some(&problem));
    // The document says it to a program already.
    if view.is_json() { Ok(code::USAGE_DIFFERS.exit) } else { Err(problem.into()) }
}

fn compared(
    global: &Global,
    options: &UsageCompareOptions,
    view: &View,
    comparison: &Comparison,
    problem: Option<&Problem>,
) {
    let lines = comparison.lines.iter().filter(|line| !options.differences || line.verdict != Verdict::Equal);
    if view.is_json() {
        let mut document = serde_json::to_value(comparison).unwrap_or_default();
        document["value"] = lines.map(|line| json!(line)).collect();
        document["equal"] = json!(comparison.count(Verdict::Equal));
        let exit = problem.map_or(ExitCode::Done, |problem| problem.code.exit);
        return view.document(&document, exit, problem.map(std::slice::from_ref).unwrap_or_default());
    }
    let csv = ["day", "meter", "name", "unit", "stamp", "azure", "difference", "verdict"];
    let mut rows = Rows::new(global.output, &COMPARED, &csv);
    for line in lines {
        let verdict = match line.verdict {
            Verdict::Equal => "equal",
            Verdict::Late => "late",
            Verdict::Missing => "missing",
            Verdict::Unreported => "unreported",
            Verdict::Surplus => "surplus",
        };
        let name = if line.name.is_empty() { line.meter.clone() } else { line.name.clone() };
        let difference = line.azure - line.stamp;
        let shown = if difference.is_zero() { String::new() } else { amount(difference) };
        let numbers = [amount(line.stamp), amount(line.azure), shown];
        rows.row(
            line,
            || {
                let mut cells = vec![line.day.to_string(), name.clone(), line.unit.clone()];
                cells.extend(numbers.iter().cloned());
                cells.push(verdict.to_owned());
                cells
            },
            || {
                let mut cells = vec![line.day.to_string(), line.meter.clone(), line.name.clone(), line.unit.clone()];
                cells.extend([amount(line.stamp), amount(line.azure), amount(difference), verdict.to_owned()]);
                cells
            },
        );
    }
    rows.end(true);
    if global.output != Output::Human {
        for note in remarks(comparison) {
            View::note(&note);
        }
        return;
    }
    let count = |verdict| comparison.count(verdict);
    view.line(&format!(
        "{} equal, {} late, {} missing, {} unreported, {} surplus.",
        count(Verdict::Equal),
        count(Verdict::Late),
        count(Verdict::Missing),
        count(Verdict::Unreported),
        count(Verdict::Surplus)
    ));
    if count(Verdict::Unreported) > 0 {
        view.line("What is unreported was used before anything was reported under the subscriptions looked at; --payer names others.");
    }
    match comparison.azure_until {
        Some(until) => {
            let last = day_of(until - jiff::SignedDuration::from_hours(1));
            view.line(&format!("Azure has usage of this stamp until {last}; what is late is of that day or after it."));
        }
        None => view.line("Azure has no usage of this stamp of that time or later."),
    }
    for remark in remarks(comparison) {
        view.line(&format!("Note: {remark}"));
    }
}

/// What makes a comparison less than whole.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let unmapped = comparison.unmapped.iter();
    let unmapped = unmapped.map(|(meter, rows)| format!("not compared: no table maps the meter {meter} ({rows} rows)"));
    unmapped.chain(comparison.notes.iter().cloned()).collect()
}

async fn status(
    global: &Global,
    options: &UsageStatusOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    let work = async |both: &Both<'_, '_>, records: &RecordsPort<'_>, stamp: &StampInformation| {
        // Without a registration there is still the stamp to look at.
        let (registration, payers) = match sides(both, options.subscription, stamp).await {
            Ok((registration, payers, _)) => (Ok(registration), payers),
            Err(ended) => (Err(ended.problems.first().map(ToString::to_string).unwrap_or_default()), Vec::new()),
        };
        let registration = registration.as_ref().map_err(Clone::clone);
        Ok(usage::status(records, both.world.azure, &CLOCK, stamp, registration, &payers).await?)
    };
    let found = at_both(global, &options.sides, options.subscription, sources, &screen, work).await?;
    let inactive = Problem::new(&code::NOT_REGISTERED, "the stamp is not activated: it reports no usage");
    let (exit, problems) = match found.reporting {
        None => {
            (ExitCode::NotRegistered, vec![inactive.cause("The stamp has no activation record.").next("azsreg status")])
        }
        Some(_) => (ExitCode::Done, Vec::new()),
    };
    if view.is_json() {
        view.document(&found, exit, &problems);
    } else {
        shown(view, &found, sources);
    }
    Ok(exit)
}

/// What the codes of a failing upload mostly mean (`facts-errors.md` row 74).
fn upload_advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "NetworkError" => "a firewall or a proxy in the way, or Azure's service is down",
        "RequestTimedOut" => "a firewall or a proxy in the way, or a slow line",
        "LoginError" => "the sign-in host is blocked, or the stamp's principal is gone",
        "CertificateValidationError" => "TLS is opened on the way",
        "Unauthorized" => "the registration was changed by hand, or the stamp's clock is wrong: azsreg repair",
        _ => return None,
    })
}

fn shown(view: &View, status: &UsageStatus, sources: &Sources) {
    let hour = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| format!("{} UTC", when(at, true)));
    let model = status.billing_model.as_ref().map_or_else(String::new, |model| format!(" ({model})"));
    let reporting = match (status.reporting, status.expired) {
        (None, _) => "off: the stamp is not activated".to_owned(),
        (Some(_), Some(_)) => "stopped: the registration has expired".to_owned(),
        (Some(true), None) => format!("on{model}"),
        (Some(false), None) => format!("off{model}"),
    };
    let waiting = match (status.waiting_hours, status.waiting_rows) {
        (Some(0), _) => "nothing".to_owned(),
        (Some(hours), Some(rows)) => format!("{hours} hours, {rows} records"),
        _ if status.alert.is_some() => "not known: all since the alert was raised, at least".to_owned(),
        _ => "not known".to_owned(),
    };
    // What is not reported now does not wait: it stays here.
    let waits = if status.reporting == Some(true) { "Not in Azure yet: " } else { "Not reported:     " };
    let azure = match status.azure_until {
        None if status.azure_asked => "nothing of the last week".to_owned(),
        None => "not asked".to_owned(),
        until => hour(until),
    };
    let alert = status.alert.as_ref().map_or_else(
        || "none".to_owned(),
        |alert| {
            let code = alert.error_code.as_ref().map_or_else(String::new, |code| format!(" ({code})"));
            format!("{}{code} since {}", alert.title, hour(alert.created))
        },
    );
    view.line(&format!("Stamp:             {}", status.cloud_id));
    view.line(&format!("Usage reporting:   {reporting}"));
    view.line(&format!("Recorded until:    {}", hour(status.recorded_until)));
    view.line(&format!("Azure has until:   {azure}"));
    view.line(&format!("{waits} {waiting}"));
    view.line(&format!("Open alert:        {alert}"));
    if let Some(why) = status.alert.as_ref().and_then(|alert| upload_advice(alert.error_code.as_deref()?)) {
        view.line(&format!("  mostly:          {why}"));
    }
    for note in &status.notes {
        view.line(&format!("Note: {note}"));
    }
    let next = match status {
        UsageStatus { reporting: None, .. } => Some("azsreg register --billing-model MODEL"),
        UsageStatus { expired: Some(_), .. } => Some("azsreg renew"),
        UsageStatus { alert: Some(_), .. } => Some("azsreg status"),
        UsageStatus { reporting: Some(false), billing_model: Some(model), .. } if model == "Capacity" => {
            Some("azsreg set --billing-model pay-as-you-use")
        }
        UsageStatus { reporting: Some(false), .. } => Some("azsreg set --usage-reporting on"),
        _ => None,
    };
    if let Some(next) = next {
        let advised = || Advice::of(sources).next(next, sources.way(), sources.subscription());
        let next = if sources.way().is_some() { advised() } else { next.to_owned() };
        view.line(&format!("Next: {next}"));
    }
}
