//! Thirty days of usage, by seed: metered, uploaded through failures, billed once and to whom it was mapped.
//!
//! The bridge and the ledger are the lab's own; who pays for what is reckoned here a second time, hour by hour, from what
//! this trial did to the world.

use std::collections::BTreeMap;

use azsreg_lab::StampOptions;
use azsreg_lab::world::arm::registration_scope;
use azsreg_lab::world::ledger::{Ledger, Query};
use azsreg_lab::world::metering::{Asked, Hour, LAG, Micro, Place, hour_of, list, time_of};
use azsreg_lab::world::stamp::{Stamp, TokenRequest};
use azsreg_model::{COMMERCE_METERS, Charged, METERS};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::{Broken, Trial, World};

/// Who pays, by day and commerce meter.
type Bill = BTreeMap<(Uuid, Hour, usize), Micro>;

/// What the trial did, and when: reporting on or off; a tenant's payer, or nobody.
struct Diary {
    reporting: Vec<(Timestamp, bool)>,
    mapped: Vec<(Timestamp, Uuid, Option<Uuid>)>,
}

impl Diary {
    fn is_on(&self, at: Timestamp) -> bool {
        self.reporting.iter().rev().find(|(since, _)| *since <= at).is_some_and(|(_, on)| *on)
    }

    fn payer(&self, tenant: Uuid, at: Timestamp) -> Option<Uuid> {
        let last = self.mapped.iter().rev().find(|(since, known, _)| *since <= at && *known == tenant);
        last.and_then(|(_, _, payer)| *payer)
    }
}

/// Thirty days of usage through crashes, lost answers and doubled requests, with reporting switched off and customers mapped
/// in between.
///
/// # Errors
/// Azure's totals are not the stamp's.
pub fn usage_trial(seed: u64) -> Result<Trial, Broken> {
    let broken = |why: String| Broken { seed, why: format!("usage: {why}") };
    let mut draw = fastrand::Rng::with_seed(seed);
    let tenants = if seed.is_multiple_of(50) { 50 } else { draw.usize(1..8) };
    let mut world = World::new(seed, StampOptions { tenants, ..StampOptions::default() });
    let begun: Timestamp = "2026-10-31T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let mut now = begun + SignedDuration::from_secs(draw.i64(0..86_400));
    let (payer, partner) = (world.subscriptions[0], world.subscriptions[1]);
    world.stamp.set_tenants(tenants, begun - SignedDuration::from_hours(48), now);
    world.stamp.collect(now);
    let mut diary = Diary { reporting: Vec::new(), mapped: Vec::new() };
    let mut ledger = Ledger::default();
    let mut trial = Trial { seed, runs: 0, crashes: 0, failures: 0, took: SignedDuration::ZERO };

    report(&mut world, payer, true, now).map_err(broken)?;
    diary.reporting.push((now, true));
    while now < begun + SignedDuration::from_hours(31 * 24) {
        now += SignedDuration::from_secs(draw.i64(600..100_000));
        trial.runs += 1;
        match draw.u8(0..12) {
            0 => {
                let on = draw.bool();
                report(&mut world, payer, on, now).map_err(broken)?;
                diary.reporting.push((now, on));
            }
            1 | 2 => {
                let tenant = world.stamp.usage.tenants[draw.usize(..tenants)].directory;
                let wanted = draw.u8(0..3) > 0;
                let id = registration_scope(payer, "azurestack", "usage");
                let Some(registration) = world.arm.registrations.iter().find(|r| r.id() == id).cloned() else {
                    continue;
                };
                let body = json!({"properties": {"tenantId": tenant}});
                let name = partner.to_string();
                if wanted {
                    world.arm.put_customer(&registration, &name, &body, now).map_err(|e| broken(e.message))?;
                    // A subscription has one tenant: the one that it had pays no more through it.
                    let had: Vec<Uuid> = diary.mapped.iter().map(|(_, tenant, _)| *tenant).collect();
                    diary.mapped.extend(had.into_iter().map(|had| (now, had, None)));
                    diary.mapped.push((now, tenant, Some(partner)));
                } else if world.arm.delete_customer(&registration, &name, now).map_err(|e| broken(e.message))? {
                    let had: Vec<Uuid> = diary.mapped.iter().map(|(_, tenant, _)| *tenant).collect();
                    diary.mapped.extend(had.into_iter().map(|had| (now, had, None)));
                }
            }
            3 => {
                // Tenants come and go.
                let count = draw.usize(1..=tenants);
                world.stamp.collect(now);
                world.stamp.set_tenants(count, now, now);
            }
            // The bridge is away for a while.
            4 => {}
            _ => upload(&mut world, &mut ledger, &mut draw, now, &mut trial),
        }
    }
    // The quiet end: reporting is on, and everything that waits is uploaded.
    report(&mut world, payer, true, now).map_err(broken)?;
    diary.reporting.push((now, true));
    let end = now;
    now += SignedDuration::from_hours(LAG + 2);
    while let Some(batch) = world.stamp.next_batch(now) {
        ledger.take(&world.arm, &batch, now).map_err(|error| broken(error.message))?;
        world.stamp.acknowledged(&batch, now);
    }
    let expected = reckon(&mut world.stamp, &diary, payer, hour_of(begun), hour_of(now) - LAG);
    let billed = total(&ledger, &[payer, partner], hour_of(begun), hour_of(now) + 1);
    if billed != expected {
        let differs = expected.iter().find(|(key, value)| billed.get(key) != Some(value));
        let surplus = billed.iter().find(|(key, _)| !expected.contains_key(key));
        return Err(broken(format!("the stamp has {differs:?}, which Azure has not, or Azure has {surplus:?} more")));
    }
    if expected.is_empty() {
        return Err(broken("nothing was used".into()));
    }
    Ok(Trial { took: end.duration_since(begun), ..trial })
}

/// Registers the stamp with reporting on or off, and activates it so.
fn report(world: &mut World, payer: Uuid, on: bool, now: Timestamp) -> Result<(), String> {
    world.stamp.settle(now);
    let request = TokenRequest { billing_model: "Development".into(), usage: on, ..TokenRequest::default() };
    let token = world.stamp.registration_token(&request).map_err(|error| error.message)?;
    let said = |error: azsreg_lab::world::arm::ArmError| error.message;
    if let Some(subscription) = world.arm.subscriptions.get_mut(&payer) {
        subscription.providers.insert("microsoft.azurestack".into());
    }
    world.arm.put_group(payer, "azurestack", &json!({"location": "eastus"})).map_err(said)?;
    let body = json!({"location": "global", "properties": {"registrationToken": token}});
    let (_, made) =
        world.arm.put_registration(&mut world.draw, now, payer, "azurestack", "usage", &body).map_err(said)?;
    let claims = made.activation_claims("https://arm.lab.invalid", "https://usage.lab.invalid");
    world.stamp.activation = Some(world.stamp.activation_of(&claims, now).map_err(|error| error.message)?);
    Ok(())
}

/// Uploads until something goes wrong, or until nothing waits.
fn upload(world: &mut World, ledger: &mut Ledger, draw: &mut fastrand::Rng, now: Timestamp, trial: &mut Trial) {
    while let Some(batch) = world.stamp.next_batch(now) {
        let fate = draw.u8(0..40);
        if fate == 0 {
            // The endpoint is away, and nothing arrived.
            trial.failures += 1;
            return;
        }
        for _ in 0..if fate < 6 { 2 } else { 1 } {
            if ledger.take(&world.arm, &batch, now).is_err() {
                trial.failures += 1;
                return;
            }
        }
        match fate {
            // It arrived, and its answer did not.
            6..9 => {
                trial.failures += 1;
                return;
            }
            // The bridge dies after the answer, before it has noted it; the stamp begins again with what it kept.
            9 | 10 => {
                trial.crashes += 1;
                if let Ok(kept) = serde_json::to_value(&world.stamp).and_then(serde_json::from_value::<Stamp>) {
                    world.stamp = kept;
                }
                return;
            }
            _ => world.stamp.acknowledged(&batch, now),
        }
    }
}

/// What has to be billed, from the stamp's own record and the diary.
fn reckon(stamp: &mut Stamp, diary: &Diary, payer: Uuid, from: Hour, to: Hour) -> Bill {
    let mut bill = Bill::new();
    let (tenants, fleets) = stamp.fleets();
    let asked = Asked { from, to: to + LAG + 1, bucket: 1, subscription: None };
    list(tenants, fleets, asked, Place::default(), |hour, reading| {
        let end = time_of(hour + 1);
        if hour < to && diary.is_on(end) && hour >= from {
            let details = &reading.resource.details;
            if let Charged::As { meter, factor } = METERS[reading.meter].charged(details["ServiceType"].as_str()) {
                let who = diary.payer(reading.tenant.directory, end).unwrap_or(payer);
                let meter = COMMERCE_METERS.iter().position(|known| known.id == meter).unwrap_or(usize::MAX);
                let factor: Micro = factor.to_string().parse().unwrap_or(0);
                *bill.entry((who, hour.div_euclid(24), meter)).or_default() += reading.quantity * factor;
            }
        }
        true
    });
    bill
}

/// What Azure has, through its pages.
fn total(ledger: &Ledger, payers: &[Uuid], from: Hour, to: Hour) -> Bill {
    let mut bill = Bill::new();
    for payer in payers {
        let query = Query { subscription: *payer, from, to, bucket: 24, details: true };
        let mut after = None;
        loop {
            let page = ledger.page(query, after, 100);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for ((hour, meter, _), quantity) in page {
                *bill.entry((*payer, hour.div_euclid(24), meter)).or_default() += quantity;
            }
        }
    }
    bill
}
