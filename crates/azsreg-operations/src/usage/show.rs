//! What the stamp recorded, in days or hours, by meter, tenant or resource.

use std::collections::BTreeMap;

use azsreg_model::{Granularity, Range, StampInformation, UsageLine, UsageRow, day_of, midnight, stamp_meter};
use jiff::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{DAY, NOT_READY, check_range, is_of_today, recorded, windows};
use crate::engine::Failure;
use crate::ports::{Clock, Recorded, UsageQuery};

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

/// Shows what the stamp recorded, until `each` has enough; what is to be said about it, if anything is.
///
/// # Errors
/// The stamp can't be read, or the range has not ended.
pub async fn show<P: Recorded, C: Clock>(
    port: &P,
    clock: &C,
    stamp: &StampInformation,
    show: &Show,
    mut each: impl FnMut(UsageLine) -> bool,
) -> Result<Option<&'static str>, Failure> {
    // One time for all: an hour may end while pages come.
    let now = clock.now();
    check_range(show.range, now)?;
    let wanted = |row: &UsageRow| {
        let meter = show.meter.as_deref().is_none_or(|meter| {
            row.meter.eq_ignore_ascii_case(meter)
                || stamp_meter(&row.meter).is_some_and(|known| known.name.eq_ignore_ascii_case(meter))
        });
        meter && show.range.holds(bucket(row, show.granularity))
    };
    // A resource's hour is one row: it goes out as it comes.
    let streams = show.by == By::Resource && show.granularity == Granularity::Hourly;
    // In the order in which they are read: a meter by its name.
    type Key = (Timestamp, Option<String>, Option<String>, Option<&'static str>, String);
    let mut sums: BTreeMap<Key, Decimal> = BTreeMap::new();
    let (mut note, mut more) = (None, true);
    for (reported, granularity) in windows(show.range, show.granularity, now) {
        let query = UsageQuery { reported, granularity, subscription: show.subscription };
        let mut take = |row: UsageRow| {
            if !wanted(&row) {
                return true;
            }
            let start = bucket(&row, show.granularity);
            let UsageRow { meter, subscription, resource, quantity, .. } = row;
            if streams {
                more = each(line(start, meter, Some(subscription), resource, quantity));
                return more;
            }
            let subscription = (show.by != By::Meter).then_some(subscription);
            let resource = resource.filter(|_| show.by == By::Resource);
            let name = stamp_meter(&meter).map(|known| known.name);
            let sum = sums.entry((start, subscription, resource, name, meter)).or_default();
            *sum = sum.saturating_add(quantity);
            true
        };
        match recorded(port, clock, stamp, query, &mut take).await {
            Err(failure) if is_of_today(&failure, reported, now) => note = Some(NOT_READY),
            result => result?,
        }
        // What was used more than a day before has been reported.
        let over = reported.to - DAY - show.granularity.length();
        while more && let Some(entry) = sums.first_entry().filter(|entry| entry.key().0 <= over) {
            let ((start, subscription, resource, _, meter), quantity) = entry.remove_entry();
            more = each(line(start, meter, subscription, resource, quantity));
        }
        if !more {
            return Ok(note);
        }
    }
    for ((start, subscription, resource, _, meter), quantity) in sums {
        if !each(line(start, meter, subscription, resource, quantity)) {
            break;
        }
    }
    Ok(note)
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
