//! The usage bridge of a stamp: which hours wait to be uploaded, and what was said of the last upload.
//!
//! An hour is collected when it ends, if the stamp is activated with usage reporting then; it waits in the spool until
//! Azure has acknowledged it. An hour that was collected without reporting is never uploaded: that is our inference.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::metering::{Asked, Fleet, Hour, LAG, Micro, Place, Tenant, hour_of, list, time_of};
use super::stamp::Stamp;

/// How many records a batch holds.
pub const BATCH: usize = 5_000;

/// Usage on a stamp: who uses it, and what of it is still to be uploaded.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The tenants' subscriptions, deleted ones too.
    pub tenants: Vec<Tenant>,
    /// Hours before this one were collected.
    pub collected: Hour,
    /// Hours that wait to be acknowledged, as ranges without their ends.
    pub spool: Vec<(Hour, Hour)>,
    /// Batches of the spool's first hour that were acknowledged.
    pub parts: usize,
    /// When Azure last acknowledged a batch.
    pub last_upload: Option<Timestamp>,
    /// How many records were acknowledged.
    pub uploaded: u64,
    /// Why the last upload failed.
    pub failing: Option<Failing>,
    #[serde(skip)]
    fleets: Vec<Fleet>,
}

/// Why uploads fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The code, as the stamp's alert has it (`facts-errors.md` row 74).
    pub code: String,
    /// What was said.
    pub message: String,
}

/// What is uploaded: the records of an hour, or a part of them. The same batch has the same name whenever it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// Its name: the hour and the part.
    pub name: String,
    /// The stamp.
    pub cloud_id: Uuid,
    /// The registration's resource id.
    pub registration: String,
    /// Its records.
    pub records: Vec<Record>,
}

/// A record of usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// The hour of use, as hours since 1970.
    pub hour: Hour,
    /// The tenant's subscription on the stamp.
    pub subscription_id: Uuid,
    /// The tenant's directory.
    pub tenant_id: Uuid,
    /// The meter.
    pub meter_id: String,
    /// How much, in millionths.
    pub quantity: Micro,
    /// The resource.
    pub resource_uri: String,
    /// Where it is.
    pub location: String,
    /// More details of it.
    pub additional_info: serde_json::Value,
}

impl Stamp {
    /// Brings the number of tenants to this: new ones live from `since`, those too many are deleted now.
    pub fn set_tenants(&mut self, count: usize, since: Timestamp, now: Timestamp) {
        // What was collected stays as it was, whatever the clock says: a batch that is sent again is the same.
        let (until, since) = (hour_of(now).max(self.usage.collected), hour_of(since).max(self.usage.collected));
        let living = self.usage.tenants.iter().filter(|tenant| tenant.until.is_none()).count();
        for tenant in self.usage.tenants.iter_mut().filter(|tenant| tenant.until.is_none()).skip(count) {
            tenant.until = Some(until);
        }
        for _ in living..count {
            let n = self.usage.tenants.len() + 1;
            self.usage.tenants.push(Tenant {
                subscription: Uuid::new_v5(&self.cloud_id, format!("tenant {n}").as_bytes()),
                directory: Uuid::new_v5(&self.cloud_id, format!("directory {n}").as_bytes()),
                since,
                until: None,
            });
        }
    }

    fn is_reporting(&self) -> bool {
        self.activation.as_ref().is_some_and(|activation| activation.usage)
    }

    /// Collects the hours that have ended. It has to be done before reporting changes.
    pub fn collect(&mut self, now: Timestamp) {
        let end = hour_of(now);
        let from = self.usage.collected;
        self.usage.collected = end.max(from);
        if from == 0 || from >= end || !self.is_reporting() {
            return;
        }
        match self.usage.spool.last_mut().filter(|(_, until)| *until == from) {
            Some((_, until)) => *until = end,
            None => self.usage.spool.push((from, end)),
        }
    }

    /// The tenants and what they have.
    pub fn fleets(&mut self) -> (&[Tenant], &[Fleet]) {
        let known = self.usage.fleets.len();
        let more: Vec<Fleet> = self.usage.tenants[known..].iter().map(|tenant| tenant.fleet(&self.region)).collect();
        self.usage.fleets.extend(more);
        (&self.usage.tenants, &self.usage.fleets)
    }

    /// How many hours wait.
    #[must_use]
    pub fn waiting(&self) -> Hour {
        self.usage.spool.iter().map(|(from, until)| until - from).sum()
    }

    /// The next batch to upload: none while nothing waits, or while nothing may be uploaded.
    pub fn next_batch(&mut self, now: Timestamp) -> Option<Batch> {
        self.collect(now);
        let activation = self.activation.as_ref().filter(|activation| activation.usage && activation.expires > now)?;
        let registration = activation.registration.clone();
        let (cloud_id, region) = (self.cloud_id, self.region.clone());
        loop {
            let (hour, _) = *self.usage.spool.first()?;
            // The last records of an hour are late.
            if hour + 1 + LAG > hour_of(now) {
                return None;
            }
            let (part, mut skipped, mut records) = (self.usage.parts, 0, Vec::new());
            let (tenants, fleets) = self.fleets();
            // Every record of one hour, whenever it entered.
            let asked = Asked { from: hour + 1, to: hour + 2 + LAG, bucket: 1, subscription: None };
            let place = Place { hour, ..Place::default() };
            list(tenants, fleets, asked, place, |at, reading| {
                if at != hour || records.len() == BATCH {
                    return false;
                }
                if skipped < part * BATCH {
                    skipped += 1;
                    return true;
                }
                records.push(Record {
                    hour,
                    subscription_id: reading.tenant.subscription,
                    tenant_id: reading.tenant.directory,
                    meter_id: azsreg_model::METERS[reading.meter].id.to_owned(),
                    quantity: reading.quantity,
                    resource_uri: reading.resource.uri.clone(),
                    location: region.clone(),
                    additional_info: reading.resource.details.clone(),
                });
                true
            });
            if records.is_empty() {
                self.pass();
                continue;
            }
            return Some(Batch { name: batch_name(hour, part), cloud_id, registration, records });
        }
    }

    /// The spool's first hour is done with.
    fn pass(&mut self) {
        self.usage.parts = 0;
        if let Some((from, until)) = self.usage.spool.first_mut() {
            *from += 1;
            if from == until {
                self.usage.spool.remove(0);
            }
        }
    }

    /// Azure has a batch. One that is not the next any more changes nothing.
    pub fn acknowledged(&mut self, batch: &Batch, now: Timestamp) {
        let next = self.usage.spool.first().map(|(hour, _)| *hour);
        let name = next.map(|hour| batch_name(hour, self.usage.parts));
        (self.usage.last_upload, self.usage.failing) = (Some(now), None);
        if name.as_deref() != Some(&batch.name) {
            return;
        }
        self.usage.uploaded += batch.records.len() as u64;
        if batch.records.len() < BATCH { self.pass() } else { self.usage.parts += 1 }
    }
}

/// What a part of an hour's records is called, whenever it is made.
fn batch_name(hour: Hour, part: usize) -> String {
    format!("{}-{part}", time_of(hour).strftime("%Y%m%dT%H"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Draw;
    use crate::world::stamp::{Activation, StampOptions};

    fn at(hour: Hour) -> Timestamp {
        time_of(495_000 + hour)
    }

    fn stamp(usage: bool) -> Stamp {
        let mut stamp = Stamp::new(&mut Draw::new(3), StampOptions::default(), Uuid::nil(), "lab").unwrap();
        stamp.set_tenants(3, at(-100), at(0));
        stamp.collect(at(0));
        activate(&mut stamp, usage);
        stamp
    }

    fn activate(stamp: &mut Stamp, usage: bool) {
        stamp.activation = Some(Activation {
            registration: "/r".into(),
            expiration: String::new(),
            expires: Timestamp::MAX,
            marketplace: false,
            usage,
            billing_model: String::new(),
            usage_endpoint: String::new(),
            usage_resource: String::new(),
            object_id: None,
            written: at(0),
        });
    }

    /// Uploads what can be, and tells the hours of it.
    fn upload(stamp: &mut Stamp, now: Timestamp) -> Vec<Hour> {
        let mut hours = Vec::new();
        while let Some(batch) = stamp.next_batch(now) {
            assert_eq!(Some(&batch), stamp.next_batch(now).as_ref(), "the same batch until it is acknowledged");
            hours.push(batch.records[0].hour - 495_000);
            stamp.acknowledged(&batch, now);
            stamp.acknowledged(&batch, now);
        }
        hours
    }

    #[test]
    fn every_hour_with_reporting_is_uploaded_once() {
        let mut stamp = stamp(true);
        assert!(upload(&mut stamp, at(1)).is_empty());
        assert_eq!(upload(&mut stamp, at(6)), [0, 1, 2, 3]);
        // Off for a while: nothing is uploaded, not even what waits; and what is gathered then stays here.
        stamp.collect(at(8));
        activate(&mut stamp, false);
        assert!(upload(&mut stamp, at(20)).is_empty());
        assert_eq!(stamp.waiting(), 4);
        stamp.collect(at(20));
        activate(&mut stamp, true);
        assert_eq!(upload(&mut stamp, at(26)), [4, 5, 6, 7, 20, 21, 22, 23]);
        // It survives being kept.
        let mut stamp: Stamp = serde_json::from_value(serde_json::to_value(&stamp).unwrap()).unwrap();
        assert_eq!(upload(&mut stamp, at(30)), [24, 25, 26, 27]);
    }
}
