//! Whether Azure has what the stamp recorded.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use azsreg_model::{
    Charged, ComparedLine, Comparison, Granularity, MeterTable, Range, StampInformation, UsageRow, Verdict,
    commerce_meter, day_of, midnight, stamp_meter,
};
use jiff::SignedDuration;
use jiff::civil::Date;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{NOT_READY, billed, check_range, is_of_today, recorded, windows};
use crate::engine::Failure;
use crate::ports::{Billed, Clock, Recorded, UsageQuery};

/// How long before a range it is looked for whether anything was reported.
const BEFORE: SignedDuration = SignedDuration::from_hours(2 * 24);
/// How late a record of an hour may be at the stamp, with the hour itself.
const LATE: SignedDuration = SignedDuration::from_hours(3);

/// A meter that the table does not map, as it is told.
fn unknown(meter: String, size: Option<String>) -> String {
    match (stamp_meter(&meter), size) {
        (Some(known), Some(size)) => format!("{meter} ({}) of the size {size}", known.name),
        (Some(known), None) => format!("{meter} ({})", known.name),
        (None, _) => meter,
    }
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
    // One time for both sides: what is reported while pages come is on neither.
    let now = clock.now();
    check_range(range, now)?;
    let today = midnight(day_of(now));
    let mut sums: BTreeMap<(Date, String), (Decimal, Decimal)> = BTreeMap::new();
    let mut tenants = BTreeSet::new();
    let (mut unmapped, mut free_rows) = (BTreeMap::<String, u64>::new(), 0);
    let mut ready = true;
    for (reported, granularity) in windows(range, Granularity::Daily, now) {
        let query = UsageQuery { reported, granularity, subscription: None };
        let mut take = |row: UsageRow| {
            if !range.holds(row.start) {
                return true;
            }
            match table.charged(&row.meter, row.size.as_deref()) {
                Charged::As { meter, factor } => {
                    let (sum, _) = sums.entry((day_of(row.start), meter)).or_default();
                    *sum = sum.saturating_add(row.quantity.saturating_mul(factor));
                }
                Charged::Free => free_rows += 1,
                Charged::Unknown => *unmapped.entry(unknown(row.meter, row.size)).or_default() += 1,
            }
            tenants.insert(row.subscription);
            true
        };
        match recorded(records, clock, stamp, query, &mut take).await {
            Err(failure) if is_of_today(&failure, reported, now) => {
                ready = false;
                notes.push(NOT_READY.into());
            }
            result => result?,
        }
    }
    let (mut until, mut first, mut seen) = (None, None, Vec::new());
    for payer in payers {
        // Usage that waited for a month was reported a month later. The days before tell whether any was reported then.
        let reported = Range { from: range.from - BEFORE, to: now };
        let mut failed = None;
        for (reported, granularity) in windows(reported, Granularity::Daily, now) {
            // What one side does not have ready is not looked at on the other.
            if !ready && reported.from >= today {
                continue;
            }
            let query = UsageQuery { reported, granularity, subscription: None };
            let mut take = |row: UsageRow| {
                // Other stamps' usage, and Azure's own, is under the same subscription.
                if !tenants.contains(&row.subscription) {
                    return true;
                }
                let day = day_of(row.start);
                until = until.max(Some(row.end));
                first = Some(first.map_or(day, |first: Date| first.min(day)));
                if range.holds(row.start) {
                    let (_, sum) = sums.entry((day, row.meter.to_ascii_lowercase())).or_default();
                    *sum = sum.saturating_add(row.quantity);
                }
                true
            };
            match billed(azure, clock, payer, query, &mut take).await {
                Ok(()) => {}
                Err(failure) if is_of_today(&failure, reported, now) => notes.push(NOT_READY.into()),
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
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
    // The last hours that Azure knows of may not be whole: records come some hours late.
    let last = until.map(|until| day_of(until - LATE));
    let lines = sums.into_iter().map(|((day, meter), (recorded, has))| {
        let verdict = match recorded.cmp(&has) {
            Ordering::Equal => Verdict::Equal,
            Ordering::Less => Verdict::Surplus,
            Ordering::Greater if first.is_some_and(|first| day <= first) => Verdict::Unreported,
            Ordering::Greater if last.is_none_or(|last| day >= last) => Verdict::Late,
            Ordering::Greater => Verdict::Missing,
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

#[cfg(test)]
mod tests {
    use azsreg_model::{Problem, UsagePage, code};
    use jiff::Timestamp;

    use super::*;
    use crate::ports::PortError;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A clock that nobody waits for.
    struct Still(Timestamp);

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            self.0
        }

        async fn sleep(&self, _: std::time::Duration) {}

        fn jitter(&self) -> f64 {
            0.0
        }
    }

    const METER: &str = "09F8879E-87E9-4305-A572-4B7BE209F857";

    /// Both sides as lists of days with an amount; today's hours are not ready.
    struct Lists {
        stamp: Vec<(&'static str, i64)>,
        azure: Vec<(&'static str, i64)>,
        ready_until: Timestamp,
    }

    impl Lists {
        fn page(&self, list: &[(&str, i64)], query: &UsageQuery, meter: &str) -> Result<UsagePage, PortError> {
            if query.reported.to > self.ready_until {
                return Err(PortError::permanent(Problem::new(&code::USAGE_NOT_READY, "not ready")));
            }
            let rows = list.iter().map(|(day, amount)| UsageRow {
                start: at(&format!("{day}T05:00:00Z")),
                end: at(&format!("{day}T06:00:00Z")),
                subscription: "tenant".into(),
                meter: meter.into(),
                quantity: Decimal::from(*amount),
                resource: None,
                location: None,
                size: None,
            });
            // Reported in the hour after.
            let rows = rows.filter(|row| query.reported.holds(row.end)).collect();
            Ok(UsagePage { rows, next: None })
        }
    }

    impl Recorded for Lists {
        async fn recorded(
            &self,
            _: &StampInformation,
            query: &UsageQuery,
            _: Option<&str>,
        ) -> Result<UsagePage, PortError> {
            self.page(&self.stamp, query, METER)
        }
    }

    impl Billed for Lists {
        async fn billed(&self, _: Uuid, query: &UsageQuery, _: Option<&str>) -> Result<UsagePage, PortError> {
            self.page(&self.azure, query, azsreg_model::COMMERCE_METERS[2].id)
        }
    }

    fn stamp() -> StampInformation {
        StampInformation {
            cloud_id: Uuid::nil(),
            deployment_id: None,
            version: Some("1.2501.0.21".parse().unwrap()),
            nodes: Some(4),
            identity_system: azsreg_model::IdentitySystem::Aad,
            tenant_id: None,
            tenant_name: None,
            domain: None,
            region: None,
            admin_arm_endpoint: None,
            tenant_arm_endpoint: None,
            other: std::collections::BTreeMap::default(),
        }
    }

    fn verdicts(lists: &Lists, now: &str) -> (Vec<Verdict>, Vec<String>) {
        let range = Range { from: at("2026-11-02T00:00:00Z"), to: at("2026-11-06T00:00:00Z") };
        let asked = Compare { range, payers: vec![Uuid::nil()], table: MeterTable::default(), notes: Vec::new() };
        let clock = Still(at(now));
        let information = stamp();
        let future = std::pin::pin!(compare(lists, lists, &clock, &information, asked));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(found) = std::future::Future::poll(future, &mut context) else {
            panic!("it waits");
        };
        let found = found.unwrap();
        (found.lines.iter().map(|line| line.verdict).collect(), found.notes)
    }

    #[test]
    fn late_missing_unreported_and_surplus_are_told_apart() {
        use Verdict::{Equal, Late, Missing, Surplus, Unreported};
        let every = vec![("2026-11-02", 4), ("2026-11-03", 4), ("2026-11-04", 4), ("2026-11-05", 4)];
        let lists = |azure| Lists { stamp: every.clone(), azure, ready_until: Timestamp::MAX };
        let told = |azure| verdicts(&lists(azure), "2026-11-20T10:30:00Z").0;
        assert_eq!(told(every.clone()), [Equal; 4]);
        assert_eq!(told(vec![]), [Late; 4]);
        assert_eq!(told(vec![("2026-11-02", 4), ("2026-11-03", 3)]), [Equal, Late, Late, Late]);
        assert_eq!(told(vec![("2026-11-02", 4), ("2026-11-04", 5)]), [Equal, Missing, Surplus, Late]);
        // The first that Azure was told of is a part of the fourth.
        assert_eq!(told(vec![("2026-11-04", 3), ("2026-11-05", 4)]), [Unreported, Unreported, Unreported, Equal]);
        // Later usage, outside the range, tells as much.
        assert_eq!(told(vec![("2026-11-02", 4), ("2026-11-08", 1)]), [Equal, Missing, Missing, Missing]);
        assert_eq!(told(vec![("2026-11-08", 1)]), [Unreported; 4]);
        // It was told of usage before: then it is missing.
        let before = vec![("2026-11-01", 1), ("2026-11-04", 3), ("2026-11-05", 4)];
        assert_eq!(told(before), [Missing, Missing, Missing, Equal]);
    }

    #[test]
    fn what_is_not_ready_today_is_said_and_the_days_before_are_shown() {
        let every = vec![("2026-11-04", 4), ("2026-11-05", 4)];
        let lists = Lists { stamp: every.clone(), azure: every, ready_until: at("2026-11-06T00:00:00Z") };
        let (verdicts, notes) = verdicts(&lists, "2026-11-06T10:30:00Z");
        assert_eq!(verdicts, [Verdict::Equal; 2]);
        assert_eq!(notes, [NOT_READY]);
    }
}
