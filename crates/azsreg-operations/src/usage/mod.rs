//! Usage: what the stamp recorded, what Azure has of it, and whether the two are the same.
//!
//! Both services are asked by the time at which usage was reported to them, which may be hours after it was used. So a
//! little more is asked for than is shown. It is asked for a day at a time: what is held in memory is two days' sums at
//! most, however many rows there are.

mod compare;
mod show;
mod status;

use azsreg_model::{
    Granularity, Problem, Range, StampInformation, UsagePage, UsageRow, code, day_of, midnight, whole_hour,
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::engine::Failure;
use crate::engine::retry::{Policy, read};
use crate::ports::{Billed, Class, Clock, PortError, Recorded, UsageQuery};
use crate::register::refused;

pub use compare::{Compare, compare};
pub use show::{By, Show, show};
pub use status::status;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

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

/// What is said where today's usage can't be had yet.
const NOT_READY: &str = "today's usage is still being processed: the last hours of yesterday may be missing";

/// Whether a failure is of the hours of today alone, which a service may not have ready: what came before is good.
fn is_of_today(failure: &Failure, reported: Range, now: Timestamp) -> bool {
    let not_ready = failure.problems.first().is_some_and(|problem| problem.code == &code::USAGE_NOT_READY);
    not_ready && reported.from >= midnight(day_of(now))
}

/// Pages of a query, row by row. A query that takes too long is asked in halves, down to an hour.
async fn rows<C: Clock>(
    clock: &C,
    query: UsageQuery,
    ask: impl AsyncFn(&UsageQuery, Option<&str>) -> Result<UsagePage, PortError>,
    take: &mut dyn FnMut(UsageRow) -> bool,
) -> Result<(), Failure> {
    let mut left = vec![query];
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
            // Who has seen enough is not read to.
            if !page.rows.into_iter().all(&mut *take) {
                return Ok(());
            }
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
    Ok(())
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
    take: &mut dyn FnMut(UsageRow) -> bool,
) -> Result<(), Failure> {
    rows(clock, query, async |query: &UsageQuery, next: Option<&str>| port.recorded(stamp, query, next).await, take)
        .await
}

/// What Azure has under a subscription, row by row.
async fn billed<B: Billed, C: Clock>(
    port: &B,
    clock: &C,
    payer: Uuid,
    query: UsageQuery,
    take: &mut dyn FnMut(UsageRow) -> bool,
) -> Result<(), Failure> {
    rows(clock, query, async |query: &UsageQuery, next: Option<&str>| port.billed(payer, query, next).await, take).await
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
