//! Azure's commerce side: usage that stamps uploaded, billed once, and shown under the subscription that pays for it.
//!
//! A batch that comes twice is known by its stamp and name. Each record is mapped to a commerce meter by the declared table
//! (`azsreg_model::METERS`); who pays is who was mapped to the tenant when the hour ended, or the registration's own
//! subscription. What Microsoft's upload and pipeline do inside is not public: this is our inference (`COMPAT.md`).

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};

use azsreg_model::{COMMERCE_METERS, Charged, stamp_meter};
use jiff::Timestamp;
use rust_decimal::prelude::ToPrimitive as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::arm::{Answer, Arm, ArmError};
use super::metering::{Hour, Micro, hour_of, mix, time_of};
use super::usage::Batch;

/// What stamps have uploaded.
#[derive(Debug, Default)]
pub struct Ledger {
    batches: HashMap<(Uuid, String), u64>,
    resources: Vec<Billed>,
    known: HashMap<u64, Vec<u32>>,
    payers: HashMap<Uuid, Vec<Entry>>,
    /// What was used on each day, by who pays and meter: what a page shows without reading every entry.
    days: BTreeMap<(Uuid, Hour, usize), Micro>,
}

/// A resource as a bill shows it.
#[derive(Debug, PartialEq, Hash, Serialize, Deserialize)]
struct Billed {
    cloud_id: Uuid,
    subscription: Uuid,
    meter: String,
    uri: String,
    location: String,
    size: Option<String>,
    free: bool,
}

/// An hour of a resource.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hour: Hour,
    received: Hour,
    meter: usize,
    resource: u32,
    quantity: Micro,
}

/// Which usage is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Who pays.
    pub subscription: Uuid,
    /// The first hour in which it may have been received.
    pub from: Hour,
    /// The hour after the last one.
    pub to: Hour,
    /// Hours in a bucket: 1 or 24.
    pub bucket: Hour,
    /// Whether each resource has a line of its own.
    pub details: bool,
}

/// A line's place: bucket, meter, and resource where each has a line.
pub type Key = (Hour, usize, u32);

/// A batch as it is billed: what is entered, and kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entered {
    cloud_id: Uuid,
    name: String,
    digest: u64,
    received: Hour,
    lines: Vec<Line>,
}

/// A record as it is billed.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    payer: Uuid,
    hour: Hour,
    meter: usize,
    quantity: Micro,
    billed: Billed,
}

impl Entered {
    /// How many records are billed.
    #[must_use]
    pub fn billed(&self) -> usize {
        self.lines.len()
    }
}

impl Ledger {
    /// Takes a batch: how many records are billed because of it, or none if it came before.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn take(&mut self, arm: &Arm, batch: &Batch, now: Timestamp) -> Answer<Option<usize>> {
        let Some(entered) = self.judge(arm, batch, now)? else { return Ok(None) };
        let billed = entered.billed();
        self.enter(entered);
        Ok(Some(billed))
    }

    /// Looks at a batch: what would be entered, or none if it came before.
    ///
    /// # Errors
    /// 404 RegistrationNotFound; 403 UsageReportingDisabled where the registration does not report; 400 InvalidRequestContent
    /// for a meter that is none, a time that is to come, or another stamp's batch; 409 BatchConflict for another batch of a
    /// name that came before.
    pub fn judge(&self, arm: &Arm, batch: &Batch, now: Timestamp) -> Answer<Option<Entered>> {
        let registration = arm.with_id(&batch.registration);
        let registration = registration.filter(|r| r.token.cloud_id == batch.cloud_id).ok_or_else(|| {
            let message = format!("The registration '{}' was not found for this Azure Stack.", batch.registration);
            ArmError::new(404, "RegistrationNotFound", message)
        })?;
        let digest = digest(batch);
        match self.batches.get(&(batch.cloud_id, batch.name.clone())) {
            Some(known) if *known == digest => return Ok(None),
            Some(_) => {
                let message = format!("Another batch '{}' of this Azure Stack was received before.", batch.name);
                return Err(ArmError::new(409, "BatchConflict", message));
            }
            None => {}
        }
        let reporting = registration.token.members.get("usageReportingEnabled").and_then(Value::as_bool);
        if reporting != Some(true) || registration.token.billing_model == "Capacity" {
            let message = format!("The registration '{}' does not report usage.", registration.name);
            return Err(ArmError::new(403, "UsageReportingDisabled", message));
        }
        let free = registration.token.billing_model == "Development";
        let mut lines = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            let invalid = |why: &str| {
                let message = format!("The record of '{}' for '{}' {why}.", record.meter_id, record.resource_uri);
                ArmError::new(400, "InvalidRequestContent", message)
            };
            let meter = stamp_meter(&record.meter_id).ok_or_else(|| invalid("is of a meter that is not known"))?;
            if record.hour >= hour_of(now) || record.quantity < 0 {
                return Err(invalid("can't be billed"));
            }
            let size = record.additional_info["ServiceType"].as_str();
            let (meter, factor) = match meter.charged(size) {
                Charged::Free => continue,
                Charged::As { meter, factor } => (meter, factor.to_i64().ok_or_else(|| invalid("can't be billed"))?),
                Charged::Unknown => return Err(invalid("needs a machine size")),
            };
            lines.push(Line {
                payer: arm.payer(registration, record.tenant_id, time_of(record.hour + 1)),
                hour: record.hour,
                meter: COMMERCE_METERS.iter().position(|known| known.id == meter).unwrap_or(0),
                quantity: record.quantity.saturating_mul(factor),
                billed: Billed {
                    cloud_id: batch.cloud_id,
                    subscription: record.subscription_id,
                    meter: record.meter_id.clone(),
                    uri: record.resource_uri.clone(),
                    location: record.location.clone(),
                    size: size.map(str::to_owned),
                    free,
                },
            });
        }
        let (cloud_id, name, received) = (batch.cloud_id, batch.name.clone(), hour_of(now));
        Ok(Some(Entered { cloud_id, name, digest, received, lines }))
    }

    /// Enters what was looked at; nothing, if a batch of that name was entered before.
    pub fn enter(&mut self, entered: Entered) {
        let Entered { cloud_id, name, digest, received, lines } = entered;
        if self.batches.contains_key(&(cloud_id, name.clone())) {
            return;
        }
        for Line { payer, hour, meter, quantity, billed } in lines {
            let resource = self.resource(billed);
            *self.days.entry((payer, hour.div_euclid(24) * 24, meter)).or_default() += quantity;
            self.payers.entry(payer).or_default().push(Entry { hour, received, meter, resource, quantity });
        }
        self.batches.insert((cloud_id, name), digest);
    }

    fn resource(&mut self, billed: Billed) -> u32 {
        let mut hasher = std::hash::DefaultHasher::new();
        billed.hash(&mut hasher);
        let same = self.known.entry(hasher.finish()).or_default();
        if let Some(known) = same.iter().find(|known| self.resources.get(**known as usize) == Some(&billed)) {
            return *known;
        }
        let id = u32::try_from(self.resources.len()).unwrap_or(u32::MAX);
        same.push(id);
        self.resources.push(billed);
        id
    }

    /// What was used on the days from one to before another, whenever it came: day, meter and sum.
    pub fn used(&self, payer: Uuid, from: Hour, to: Hour) -> impl Iterator<Item = (Hour, usize, Micro)> {
        let days = self.days.range((payer, from, 0)..(payer, to, 0));
        days.map(|((_, day, meter), quantity)| (*day, *meter, *quantity))
    }

    /// The sums after a place, in order, at most so many.
    #[must_use]
    pub fn page(&self, query: Query, after: Option<Key>, most: usize) -> Vec<(Key, Micro)> {
        let mut sums: BTreeMap<Key, Micro> = BTreeMap::new();
        let mut last: Option<Key> = None;
        for entry in self.payers.get(&query.subscription).into_iter().flatten() {
            if entry.received < query.from || entry.received >= query.to {
                continue;
            }
            let bucket = entry.hour.div_euclid(query.bucket) * query.bucket;
            let key = (bucket, entry.meter, if query.details { entry.resource } else { 0 });
            // What is beyond the page can't come back into it: only smaller ones take its place.
            if after.is_some_and(|after| key <= after) || last.is_some_and(|last| key > last) {
                continue;
            }
            *sums.entry(key).or_default() += entry.quantity;
            if sums.len() > most {
                sums.pop_last();
            }
            if sums.len() == most {
                last = sums.last_key_value().map(|(key, _)| *key);
            }
        }
        sums.into_iter().collect()
    }

    /// A line as `UsageAggregates` shows it.
    #[must_use]
    pub fn body(&self, query: Query, key: Key, quantity: Micro) -> Value {
        let (hour, meter, resource) = key;
        let commerce = COMMERCE_METERS[meter];
        let granularity = if query.bucket == 24 { "Daily" } else { "Hourly" };
        let stamp = time_of(hour).strftime("%Y%m%d_%H%M");
        let line = if query.details { format!("_{resource}") } else { String::new() };
        let name = format!("{granularity}_BRSDT_{stamp}_{}{line}", &commerce.id[commerce.id.len() - 4..]);
        let subscription = query.subscription;
        let mut properties = json!({
            "subscriptionId": subscription,
            "usageStartTime": offset(time_of(hour)), "usageEndTime": offset(time_of(hour + query.bucket)),
            "meterName": commerce.name, "meterCategory": "Azure Stack Hub", "meterSubCategory": "", "meterRegion": "",
            "unit": commerce.unit, "meterId": commerce.id, "infoFields": {}, "quantity": amount(quantity),
        });
        if let Some(billed) = self.resources.get(resource as usize).filter(|_| query.details) {
            let mut info = json!({
                "AzureStackSubscriptionId": billed.subscription, "AzureStackCloudId": billed.cloud_id,
                "AzureStackMeterId": billed.meter,
            });
            if let Some(size) = &billed.size {
                info["ServiceType"] = json!(size);
            }
            if billed.free {
                info["UnitPrice"] = json!("0.00");
            }
            let instance = json!({"Microsoft.Resources": {
                "resourceUri": billed.uri, "location": billed.location, "tags": null, "additionalInfo": info,
            }});
            properties["instanceData"] = json!(instance.to_string());
        }
        json!({
            "id": format!("/subscriptions/{subscription}/providers/Microsoft.Commerce/UsageAggregates/{name}"),
            "name": name, "type": "Microsoft.Commerce/UsageAggregate", "properties": properties,
        })
    }
}

/// A time as both usage services write it.
#[must_use]
pub fn offset(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// Millionths as the JSON number that shows them.
#[must_use]
pub fn amount(quantity: Micro) -> Value {
    let text = format!("{}.{:06}", quantity / 1_000_000, quantity % 1_000_000);
    text.parse().ok().and_then(|number: f64| serde_json::Number::from_f64(number)).map_or(Value::Null, Value::Number)
}

/// What tells two batches of one name apart.
fn digest(batch: &Batch) -> u64 {
    let mut sum = 0;
    for record in &batch.records {
        let (high, low) = record.subscription_id.as_u64_pair();
        for word in [high, low, record.hour.unsigned_abs(), record.quantity.unsigned_abs()] {
            sum = mix(sum, word);
        }
        for text in [&record.meter_id, &record.resource_uri] {
            sum = text.as_bytes().chunks(8).fold(sum, |sum, part| {
                mix(sum, part.iter().fold(part.len() as u64, |word, byte| word << 8 | u64::from(*byte)))
            });
        }
    }
    sum
}
