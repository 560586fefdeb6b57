//! Usage: what the stamp recorded, what Azure has of it, and whether the two are the same.
//!
//! Both services are asked by the time at which usage was reported to them, which may be hours after it was used. So a
//! little more is asked for than is shown. It is asked for a day at a time: what is held in memory is two days' sums at
//! most, however many rows there are.

use std::collections::{BTreeMap, BTreeSet};

use azsreg_model::{
    Charged, ComparedLine, Comparison, Granularity, MeterTable, Problem, Range, Registration, StampInformation,
    UsageLine, UsagePage, UsageRow, UsageStatus, Verdict, code, commerce_meter, day_of, midnight, stamp_meter,
    whole_hour,
};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::engine::Failure;
use crate::engine::retry::{Policy, read};
use crate::ports::{Alerts, Billed, Class, Clock, PortError, Recorded, Records, UsageQuery};
use crate::register::refused;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long before a range it is looked for whether anything was reported.
const BEFORE: SignedDuration = SignedDuration::from_hours(2 * 24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What lines are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each meter.
    Meter,
    /// Each meter of each tenant's subscription.
    Subscription,
    /// Each meter of each resource.
    Resource,
}

/// Which usage is shown, and how.
#[derive(Debug, Clone)]
pub struct Show {
    /// When it was used.
    pub range: Range,
    /// How long the buckets are.
    pub granularity: Granularity,
    /// What lines are summed by.
    pub by: By,
    /// One tenant's subscription alone.
    pub subscription: Option<Uuid>,
    /// One meter alone, by its id or name.
    pub meter: Option<String>,
}

fn problem(problem: Problem) -> Failure {
    Failure { exit: problem.code.exit, ..refused(vec![problem]) }
}

/// Refuses a time that has not ended.
///
/// # Errors
/// It has not.
pub fn check_range(range: Range, now: Timestamp) -> Result<(), Failure> {
    if range.to <= now {
        return Ok(());
    }
    let message = format!("{} is in the future: the stamp's clock says {}", range.to, now.strftime("%Y-%m-%dT%H:%MZ"));
    Err(problem(Problem::new(&code::USAGE_FUTURE, message)))
}

/// The queries that together find what was used in a range, as far as it was reported before `now`: day after day in the
/// buckets that are asked for, and the hours of today in hours.
fn windows(range: Range, granularity: Granularity, now: Timestamp) -> Vec<(Range, Granularity)> {
    let mut windows = Vec::new();
    let today = midnight(day_of(now));
    let end = whole_hour(now).min(range.to + DAY);
    let mut from = if granularity == Granularity::Daily { midnight(day_of(range.from)) } else { range.from };
    while from < end.min(today) {
        let to = (midnight(day_of(from)) + DAY).min(end);
        let whole = granularity == Granularity::Daily && to == midnight(day_of(to));
        windows.push((Range { from, to }, if whole { Granularity::Daily } else { Granularity::Hourly }));
        from = to;
    }
    if from < end {
        windows.push((Range { from, to: end }, Granularity::Hourly));
    }
    windows
}

/// Pages of a query, row by row. A query that takes too long is asked in halves, down to an hour.
async fn rows<C: Clock>(
    clock: &C,
    query: UsageQuery,
    ask: impl AsyncFn(&UsageQuery, Option<&str>) -> Result<UsagePage, PortError>,
    take: &mut dyn FnMut(UsageRow),
) -> Result<u64, Failure> {
    let (mut left, mut count) = (vec![query], 0);
    while let Some(query) = left.pop() {
        let mut next: Option<String> = None;
        loop {
            let page = match read(clock, Policy::AZURE, async || ask(&query, next.as_deref()).await).await {
                Ok(page) => page,
                Err(error) if error.problem.code == &code::USAGE_TOO_LONG && next.is_none() => {
                    left.extend(halves(query).ok_or(error)?);
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            count += page.rows.len() as u64;
            page.rows.into_iter().for_each(&mut *take);
            match page.next {
                // An address that leads back to itself has no end.
                Some(link) if next.as_ref() != Some(&link) => next = Some(link),
                Some(_) => {
                    let message = "a list of usage leads back to itself";
                    return Err(PortError::new(Class::Permanent, Problem::new(&code::STAMP_ARM, message)).into());
                }
                None => break,
            }
        }
    }
    Ok(count)
}

/// The later half and the earlier one, in hours.
fn halves(query: UsageQuery) -> Option<[UsageQuery; 2]> {
    let Range { from, to } = query.reported;
    let hours = to.duration_since(from).as_hours();
    let middle = from + HOUR * i32::try_from(hours / 2).unwrap_or(0);
    let half = |from, to| UsageQuery { reported: Range { from, to }, granularity: Granularity::Hourly, ..query };
    (hours > 1).then(|| [half(middle, to), half(from, middle)])
}

/// What a stamp recorded, row by row.
async fn recorded<P: Recorded, C: Clock>(
    port: &P,
    clock: &C,
    stamp: &StampInformation,
    query: UsageQuery,
    take: &mut dyn FnMut(UsageRow),
) -> Result<u64, Failure> {
    rows(clock, query, async |query: &UsageQuery, next: Option<&str>| port.recorded(stamp, query, next).await, take)
        .await
}

/// What Azure has under a subscription, row by row.
async fn billed<B: Billed, C: Clock>(
    port: &B,
    clock: &C,
    payer: Uuid,
    query: UsageQuery,
    take: &mut dyn FnMut(UsageRow),
) -> Result<u64, Failure> {
    rows(clock, query, async |query: &UsageQuery, next: Option<&str>| port.billed(payer, query, next).await, take).await
}

/// The beginning of the bucket that a row belongs to.
fn bucket(row: &UsageRow, granularity: Granularity) -> Timestamp {
    if granularity == Granularity::Daily { midnight(day_of(row.start)) } else { row.start }
}

fn line(
    start: Timestamp,
    meter: String,
    subscription: Option<String>,
    resource: Option<String>,
    quantity: Decimal,
) -> UsageLine {
    let known = stamp_meter(&meter);
    UsageLine {
        start,
        name: known.map_or_else(String::new, |meter| meter.name.to_owned()),
        unit: known.map_or_else(String::new, |meter| meter.unit.to_owned()),
        meter,
        subscription,
        resource,
        quantity,
    }
}

/// Shows what the stamp recorded: how many rows that was.
///
/// # Errors
/// The stamp can't be read, or the range has not ended.
pub async fn show<P: Recorded, C: Clock>(
    port: &P,
    clock: &C,
    stamp: &StampInformation,
    show: &Show,
    mut each: impl FnMut(UsageLine),
) -> Result<u64, Failure> {
    check_range(show.range, clock.now())?;
    let wanted = |row: &UsageRow| {
        let meter = show.meter.as_deref().is_none_or(|meter| {
            row.meter.eq_ignore_ascii_case(meter)
                || stamp_meter(&row.meter).is_some_and(|known| known.name.eq_ignore_ascii_case(meter))
        });
        meter && show.range.holds(bucket(row, show.granularity))
    };
    // A resource's hour is one row: it goes out as it comes.
    let streams = show.by == By::Resource && show.granularity == Granularity::Hourly;
    type Key = (Timestamp, Option<String>, Option<String>, String);
    let mut sums: BTreeMap<Key, Decimal> = BTreeMap::new();
    let mut count = 0;
    for (reported, granularity) in windows(show.range, show.granularity, clock.now()) {
        let query = UsageQuery { reported, granularity, subscription: show.subscription };
        let mut take = |row: UsageRow| {
            if !wanted(&row) {
                return;
            }
            let start = bucket(&row, show.granularity);
            let UsageRow { meter, subscription, resource, quantity, .. } = row;
            if streams {
                return each(line(start, meter, Some(subscription), resource, quantity));
            }
            let subscription = (show.by != By::Meter).then_some(subscription);
            let resource = resource.filter(|_| show.by == By::Resource);
            *sums.entry((start, subscription, resource, meter)).or_default() += quantity;
        };
        count += recorded(port, clock, stamp, query, &mut take).await?;
        // What was used more than a day before has been reported.
        let over = reported.to - DAY - show.granularity.length();
        while let Some(entry) = sums.first_entry().filter(|entry| entry.key().0 <= over) {
            let ((start, subscription, resource, meter), quantity) = entry.remove_entry();
            each(line(start, meter, subscription, resource, quantity));
        }
    }
    for ((start, subscription, resource, meter), quantity) in sums {
        each(line(start, meter, subscription, resource, quantity));
    }
    Ok(count)
}

/// Which usage is compared, and with what.
#[derive(Debug, Clone)]
pub struct Compare {
    /// When it was used: whole days of UTC.
    pub range: Range,
    /// Who pays: the registration's own subscription, and its customers'.
    pub payers: Vec<Uuid>,
    /// How the stamp's meters become Azure's.
    pub table: MeterTable,
    /// What was not looked at.
    pub notes: Vec<String>,
}

/// Compares what the stamp recorded with what Azure has, by day and commerce meter.
///
/// Azure is told of usage in the order of time. So what is missing on the last day that Azure knows of, or after it, is
/// late; what is missing before is missing, unless it was used before Azure was told of anything.
///
/// # Errors
/// A side can't be read, or the range has not ended.
pub async fn compare<R: Recorded, B: Billed, C: Clock>(
    records: &R,
    azure: &B,
    clock: &C,
    stamp: &StampInformation,
    asked: Compare,
) -> Result<Comparison, Failure> {
    let Compare { range, payers, table, mut notes } = asked;
    check_range(range, clock.now())?;
    let mut sums: BTreeMap<(Date, String), (Decimal, Decimal)> = BTreeMap::new();
    let mut tenants = BTreeSet::new();
    let (mut unmapped, mut free_rows) = (BTreeMap::<String, u64>::new(), 0);
    for (reported, granularity) in windows(range, Granularity::Daily, clock.now()) {
        let query = UsageQuery { reported, granularity, subscription: None };
        let mut take = |row: UsageRow| {
            if !range.holds(row.start) {
                return;
            }
            match table.charged(&row.meter, row.size.as_deref()) {
                Charged::As { meter, factor } => {
                    sums.entry((day_of(row.start), meter)).or_default().0 += row.quantity * factor;
                }
                Charged::Free => free_rows += 1,
                Charged::Unknown => *unmapped.entry(row.meter).or_default() += 1,
            }
            tenants.insert(row.subscription);
        };
        recorded(records, clock, stamp, query, &mut take).await?;
    }
    let (mut until, mut first, mut earlier, mut seen) = (None, None, false, Vec::new());
    for payer in payers {
        // Usage that waited for a month was reported a month later. The days before tell whether any was reported then.
        let reported = Range { from: range.from - BEFORE, to: clock.now() };
        let mut failed = None;
        for (reported, granularity) in windows(reported, Granularity::Daily, clock.now()) {
            let query = UsageQuery { reported, granularity, subscription: None };
            let mut take = |row: UsageRow| {
                // Other stamps' usage, and Azure's own, is under the same subscription.
                if !tenants.contains(&row.subscription) {
                    return;
                }
                let day = day_of(row.start);
                earlier |= row.start < range.from;
                if range.holds(row.start) {
                    until = until.max(Some(midnight(day) + DAY));
                    first = Some(first.map_or(day, |first: Date| first.min(day)));
                    sums.entry((day_of(row.start), row.meter.to_ascii_lowercase())).or_default().1 += row.quantity;
                }
            };
            if let Err(failure) = billed(azure, clock, payer, query, &mut take).await {
                failed = Some(failure);
                break;
            }
        }
        match failed {
            None => seen.push(payer),
            // The registration's own has to be seen; a customer's may be another's affair.
            Some(failure) if seen.is_empty() => return Err(failure),
            Some(failure) => {
                let why = failure.problems.first().map(ToString::to_string).unwrap_or_default();
                notes.push(format!("the usage under the subscription {payer} was not seen: {why}"));
            }
        }
    }
    let last = until.map(|until| day_of(until - HOUR));
    let lines = sums.into_iter().map(|((day, meter), (recorded, has))| {
        let verdict = match recorded.cmp(&has) {
            std::cmp::Ordering::Equal => Verdict::Equal,
            std::cmp::Ordering::Less => Verdict::Surplus,
            std::cmp::Ordering::Greater if !earlier && first.is_some_and(|first| day <= first) => Verdict::Unreported,
            std::cmp::Ordering::Greater if last.is_none_or(|last| day >= last) => Verdict::Late,
            std::cmp::Ordering::Greater => Verdict::Missing,
        };
        let known = commerce_meter(&meter);
        ComparedLine {
            day,
            name: known.map_or_else(String::new, |meter| meter.name.to_owned()),
            unit: known.map_or_else(String::new, |meter| meter.unit.to_owned()),
            meter,
            stamp: recorded,
            azure: has,
            late: if verdict == Verdict::Late { recorded - has } else { Decimal::ZERO },
            verdict,
        }
    });
    Ok(Comparison {
        range,
        lines: lines.collect(),
        azure_until: until,
        subscriptions: seen,
        notes,
        unmapped: unmapped.into_iter().collect(),
        free_rows,
    })
}

/// How far back `status` looks for what has been reported.
pub const LOOK_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Whether usage is reported, how far Azure has it, and what is in the way.
///
/// What waits on the stamp is in no public API: it is what the stamp recorded after the newest usage that Azure has.
///
/// # Errors
/// The stamp can't be read.
pub async fn status<R: Recorded + Records + Alerts, B: Billed, C: Clock>(
    records: &R,
    azure: &B,
    clock: &C,
    stamp: &StampInformation,
    registration: Result<&Registration, String>,
    payers: &[Uuid],
) -> Result<UsageStatus, Failure> {
    let activation = read(clock, Policy::AZURE, async || records.activation(stamp).await).await?;
    let mut notes = Vec::new();
    let alert = match read(clock, Policy::AZURE, async || records.alerts(stamp).await).await {
        Ok(alerts) => alerts.into_iter().find(|alert| alert.active && alert.fault_type.starts_with("UsageBridge.")),
        Err(error) => {
            notes.push(format!("the stamp's alerts were not read: {}", error.problem));
            None
        }
    };
    let now = clock.now();
    let back = Range { from: midnight(day_of(now - LOOK_BACK)), to: whole_hour(now) };
    let mut hours: BTreeMap<Timestamp, u64> = BTreeMap::new();
    let (mut tenants, mut recorded_until) = (BTreeSet::new(), None);
    for (reported, granularity) in windows(back, Granularity::Hourly, now) {
        let query = UsageQuery { reported, granularity, subscription: None };
        let mut take = |row: UsageRow| {
            recorded_until = recorded_until.max(Some(row.end));
            *hours.entry(row.start).or_default() += 1;
            tenants.insert(row.subscription);
        };
        recorded(records, clock, stamp, query, &mut take).await?;
    }
    let mut azure_until = None;
    let mut asked = false;
    for payer in payers {
        // What was reported last was used last: the newest hours first, until there is something.
        let mut of_payer = None;
        for (reported, granularity) in windows(back, Granularity::Hourly, now).into_iter().rev() {
            if of_payer.is_some() {
                break;
            }
            let query = UsageQuery { reported, granularity, subscription: None };
            let mut take = |row: UsageRow| {
                if tenants.contains(&row.subscription) {
                    of_payer = of_payer.max(Some(row.end));
                }
            };
            match billed(azure, clock, *payer, query, &mut take).await {
                Ok(_) => asked = true,
                Err(failure) => {
                    let why = failure.problems.first().map(ToString::to_string).unwrap_or_default();
                    notes.push(format!("the usage under the subscription {payer} was not seen: {why}"));
                    break;
                }
            }
        }
        azure_until = azure_until.max(of_payer);
    }
    let waiting: Vec<u64> = match azure_until {
        Some(until) => hours.range(until..).map(|(_, rows)| *rows).collect(),
        None => Vec::new(),
    };
    let registration = registration.map_err(|why| notes.push(why)).ok();
    Ok(UsageStatus {
        cloud_id: stamp.cloud_id,
        reporting: activation.as_ref().map(|activation| activation.usage_reporting.unwrap_or(false)),
        billing_model: registration.map(|registration| registration.billing_model.clone()),
        registration: registration.map(|registration| registration.id.to_string()),
        expired: activation
            .as_ref()
            .and_then(|activation| activation.expiration.as_ref())
            .map(|expiration| expiration.at)
            .filter(|ends| *ends <= now),
        recorded_until,
        azure_until,
        azure_asked: asked,
        waiting_hours: waiting.len() as u64,
        waiting_rows: waiting.iter().sum(),
        alert,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn windows_are_days_and_then_the_hours_of_today() {
        let range = Range { from: at("2026-11-01T00:00:00Z"), to: at("2026-11-04T00:00:00Z") };
        let shown = |granularity, now| {
            let list = windows(range, granularity, at(now)).into_iter();
            list.map(|(range, granularity)| format!("{} {} {}", range.from, range.to, granularity.wire()))
                .collect::<Vec<_>>()
        };
        let later = shown(Granularity::Daily, "2026-12-01T10:30:00Z");
        assert_eq!(later.len(), 4, "{later:?}");
        assert_eq!(later[3], "2026-11-04T00:00:00Z 2026-11-05T00:00:00Z Daily");
        let soon = shown(Granularity::Daily, "2026-11-04T02:30:00Z");
        assert_eq!(soon.len(), 4, "{soon:?}");
        assert_eq!(soon[3], "2026-11-04T00:00:00Z 2026-11-04T02:00:00Z Hourly");
        assert_eq!(shown(Granularity::Daily, "2026-11-04T00:10:00Z").len(), 3);
        assert!(shown(Granularity::Hourly, "2026-12-01T10:30:00Z").iter().all(|window| window.ends_with("Hourly")));
    }

    #[test]
    fn a_query_is_halved_down_to_an_hour() {
        let reported = Range { from: at("2026-11-01T00:00:00Z"), to: at("2026-11-01T03:00:00Z") };
        let query = UsageQuery { reported, granularity: Granularity::Daily, subscription: None };
        let [later, earlier] = halves(query).unwrap();
        assert_eq!((earlier.reported.from, earlier.reported.to), (reported.from, at("2026-11-01T01:00:00Z")));
        assert_eq!((later.reported.from, later.reported.to), (at("2026-11-01T01:00:00Z"), reported.to));
        assert_eq!(halves(earlier), None);
    }
}
