//! Whether usage is reported, and how far Azure has it.

use std::collections::{BTreeMap, BTreeSet};

use azsreg_model::{
    Granularity, Range, Registration, StampInformation, UsageRow, UsageStatus, day_of, midnight, whole_hour,
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{NOT_READY, billed, is_of_today, recorded, windows};
use crate::engine::Failure;
use crate::engine::retry::{Policy, read};
use crate::ports::{Alerts, Billed, Clock, Recorded, Records, UsageQuery};

/// How far back `status` looks for what has been reported.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

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
            true
        };
        match recorded(records, clock, stamp, query, &mut take).await {
            Ok(()) => {}
            Err(failure) if is_of_today(&failure, reported, now) => notes.push(NOT_READY.into()),
            // Activation and alert were read: they are shown all the same.
            Err(failure) => {
                let why = failure.problems.first().map(ToString::to_string).unwrap_or_default();
                notes.push(format!("what the stamp recorded was not read: {why}"));
                break;
            }
        }
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
                true
            };
            match billed(azure, clock, *payer, query, &mut take).await {
                Ok(()) => asked = true,
                Err(failure) if is_of_today(&failure, reported, now) => {}
                Err(failure) => {
                    let why = failure.problems.first().map(ToString::to_string).unwrap_or_default();
                    notes.push(format!("the usage under the subscription {payer} was not seen: {why}"));
                    break;
                }
            }
        }
        azure_until = azure_until.max(of_payer);
    }
    let waiting = azure_until.map(|until| hours.range(until..).map(|(_, rows)| *rows).collect::<Vec<u64>>());
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
        waiting_hours: waiting.as_ref().map(|hours| hours.len() as u64),
        waiting_rows: waiting.map(|hours| hours.iter().sum()),
        alert,
        notes,
    })
}
