//! What a stamp's tenants use, hour by hour: a small fleet of machines, disks, addresses and storage for each.
//!
//! A tenant's fleet and its readings are a function of the tenant's id and the hour. So the stamp's record of a year needs
//! no room, is the same whenever it is asked for, and a batch that is sent again is the same batch.

use std::sync::Arc;

use azsreg_model::{METERS, UsageLine};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// Hours since 1970, UTC.
pub type Hour = i64;

/// After how many hours the last record of an hour has entered the usage system.
pub const LAG: Hour = 2;
/// A tenant lives until then.
const FOREVER: Hour = Hour::MAX;

/// The hour that a time is in.
#[must_use]
pub fn hour_of(at: Timestamp) -> Hour {
    at.as_second().div_euclid(3600)
}

/// When an hour begins.
#[must_use]
pub fn time_of(hour: Hour) -> Timestamp {
    Timestamp::from_second(hour.saturating_mul(3600)).unwrap_or(Timestamp::MAX)
}

/// What was used from an hour on, as pages and spreadsheets show it. The meter is its id, its name and its unit.
#[must_use]
pub fn used_line(hour: Hour, subscription: Option<Uuid>, meter: (&str, &str, &str), quantity: Micro) -> UsageLine {
    let (id, name, unit) = meter;
    UsageLine {
        start: time_of(hour),
        meter: id.to_owned(),
        name: name.to_owned(),
        unit: unit.to_owned(),
        subscription: subscription.map(|id| id.to_string()),
        resource: None,
        quantity: Decimal::new(quantity, 6),
    }
}

/// A tenant's subscription on the stamp.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tenant {
    /// The subscription.
    pub subscription: Uuid,
    /// The tenant's directory: what a customer's subscription is mapped to.
    pub directory: Uuid,
    /// The first hour of its life.
    pub since: Hour,
    /// The hour in which it was deleted.
    pub until: Option<Hour>,
}

/// A resource of a tenant.
#[derive(Debug)]
pub struct Resource {
    /// Its id.
    pub uri: String,
    /// What `instanceData` says beside the id: more details, as JSON.
    pub details: Value,
    /// `instanceData` as the stamp writes it.
    pub instance: String,
    kind: Kind,
    seed: u64,
    born: Hour,
    dies: Hour,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Runs at all hours, or at those of an office.
    Machine {
        meter: usize,
        office: bool,
    },
    /// Counts as this much of a month.
    Disk {
        meter: usize,
    },
    Address {
        meter: usize,
    },
    Storage,
    Vault,
}

/// The resources of a tenant.
pub type Fleet = Arc<Vec<Resource>>;

/// An amount in millionths: sums of it are exact.
pub type Micro = i64;

/// One record: a resource's reading of a meter in an hour, or in a day.
#[derive(Debug, Clone)]
pub struct Reading<'f> {
    /// The tenant.
    pub tenant: &'f Tenant,
    /// The resource.
    pub resource: &'f Resource,
    /// The meter, as its place in the table.
    pub meter: usize,
    /// How much.
    pub quantity: Micro,
}

/// Where a meter is in the table; the ids are this file's, so they are there.
fn place(id: &str) -> usize {
    METERS.iter().position(|meter| meter.id.eq_ignore_ascii_case(id)).unwrap_or(0)
}

/// A well-mixed number of these two.
pub(super) fn mix(seed: u64, value: u64) -> u64 {
    let mut x = seed ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn below(seed: u64, value: u64, end: u64) -> i64 {
    i64::try_from(mix(seed, value) % end).unwrap_or(0)
}

const SIZES: &[&str] =
    &["Standard_A1_v2", "Standard_D2_v2", "Standard_DS3_v2", "Standard_F4s_v2", "Standard_A2", "Standard_D12_v2"];
const DISKS: &[&str] = &[
    "380874f9-300c-48e0-95a0-d2d9a21ade8f",
    "d5f7731b-f639-404a-89d0-e46186e22c8d",
    "7660b45b-b29d-49cb-b816-59f30fbab011",
    "e554b6bc-96cd-4938-a5b5-0da990278519",
];
/// A managed disk's hour, in months.
const DISK_HOUR: Micro = 1_344;
const ONE: Micro = 1_000_000;

impl Tenant {
    fn seed(&self) -> u64 {
        let bytes = self.subscription.as_bytes();
        bytes.chunks(8).fold(7, |seed, half| mix(seed, half.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))))
    }

    /// Its resources, oldest first.
    #[must_use]
    pub fn fleet(&self, region: &str) -> Fleet {
        let seed = self.seed();
        let mut resources = Vec::new();
        let mut add = |provider: &str, name: String, details: Value, kind: Kind, born: Hour, dies: Hour| {
            let uri = format!(
                "/subscriptions/{}/resourceGroups/rg{}/providers/{provider}/{name}",
                self.subscription,
                seed % 3
            );
            let seed = mix(seed, resources.len() as u64 + 1);
            let tags = if seed.is_multiple_of(4) { json!({"cost": format!("cc{}", seed % 9)}) } else { Value::Null };
            let instance = json!({"Microsoft.Resources": {"resourceUri": uri, "location": region, "tags": tags, "additionalInfo": details}});
            resources.push(Resource { uri, details, instance: instance.to_string(), kind, seed, born, dies });
        };
        for n in 0..1 + below(seed, 10, 4) {
            let own = mix(seed, 100 + u64::try_from(n).unwrap_or(0));
            // The first machine is there from the beginning; the others come and go.
            let born = if n == 0 { self.since } else { self.since + below(own, 1, 480) };
            let dies = if n > 0 && own.is_multiple_of(3) { born + 48 + below(own, 2, 700) } else { FOREVER };
            let windows = own.is_multiple_of(2);
            let size = SIZES[usize::try_from(below(own, 3, SIZES.len() as u64)).unwrap_or(0)];
            let vm = format!("vm{n}");
            let meter = match (windows, own.is_multiple_of(5)) {
                // With a licence of one's own no Windows meter arises.
                (true, false) => place("9CD92D4C-BAFD-4492-B278-BEDC2DE8232A"),
                (false, true) => place("6DAB500F-A4FD-49C4-956D-229BB9C8C793"),
                _ => place("FAB6EB84-500B-4A09-A8CA-7358F8BBAEA5"),
            };
            let image = if windows { "WindowsServer" } else { "Linux" };
            let details = json!({"ServiceType": size, "ImageType": image, "VMName": vm, "UsageType": "ComputeHR"});
            let office = own.is_multiple_of(7);
            add("Microsoft.Compute/virtualMachines", vm, details, Kind::Machine { meter, office }, born, dies);
            let meter = place(DISKS[usize::try_from(below(own, 4, DISKS.len() as u64)).unwrap_or(0)]);
            // A disk outlives its machine.
            let kept = dies.saturating_add(if own.is_multiple_of(2) { 0 } else { 200 });
            add("Microsoft.Compute/disks", format!("vm{n}-os"), Value::Null, Kind::Disk { meter }, born, kept);
            if n == 0 || own.is_multiple_of(2) {
                let fixed = own.is_multiple_of(4);
                let meter =
                    place(if fixed { "F271A8A388C44D93956A063E1D2FA80B" } else { "9E2739BA86744796B465F64674B822BA" });
                let name = format!("vm{n}-ip");
                add("Microsoft.Network/publicIPAddresses", name, Value::Null, Kind::Address { meter }, born, dies);
            }
        }
        let name = format!("store{:06x}", seed & 0xff_ffff);
        add("Microsoft.Storage/storageAccounts", name, Value::Null, Kind::Storage, self.since, FOREVER);
        if seed.is_multiple_of(3) {
            add("Microsoft.KeyVault/vaults", "vault".into(), Value::Null, Kind::Vault, self.since + 24, FOREVER);
        }
        Arc::new(resources)
    }
}

impl Resource {
    /// What it used in an hour, as meter and amount.
    pub fn read(&self, hour: Hour, mut each: impl FnMut(usize, Micro)) {
        if hour < self.born || hour >= self.dies {
            return;
        }
        let age = hour - self.born;
        let draw = |what: u64, end: u64| below(self.seed, mix(what, hour.unsigned_abs()), end);
        match self.kind {
            Kind::Machine { meter, office } => {
                let (day, time) = (hour.div_euclid(24), hour.rem_euclid(24));
                // The first of January 1970 was a Thursday.
                let weekend = matches!((day + 3).rem_euclid(7), 5 | 6);
                let deallocated = below(self.seed, day.unsigned_abs(), 40) == 0;
                if deallocated || office && (weekend || !(7..19).contains(&time)) {
                    return;
                }
                // Not a whole hour when it begins.
                each(meter, if age == 0 { 250_000 + draw(1, 700_000) } else { ONE });
            }
            Kind::Disk { meter } => each(meter, DISK_HOUR),
            Kind::Address { meter } => each(meter, ONE),
            Kind::Storage => {
                let base = below(self.seed, 1, 400 * ONE.unsigned_abs());
                each(place_of().blobs, base + age * below(self.seed, 2, 9_000));
                each(place_of().tables, base / 40 + age * 17);
                if !self.seed.is_multiple_of(3) {
                    each(place_of().pages, base / 3 + age * 230);
                    each(place_of().queues, 1_000 + draw(3, 90_000));
                }
                if draw(4, 5) > 0 {
                    each(place_of().requests, draw(5, 300_000));
                    each(place_of().transfer_in, draw(6, 2 * ONE.unsigned_abs()));
                    each(place_of().transfer_out, draw(7, 3 * ONE.unsigned_abs()));
                }
            }
            Kind::Vault => each(place_of().secrets, draw(8, 40_000)),
        }
    }

    /// The hour in which what it used in this hour entered the usage system.
    #[must_use]
    pub fn reported(&self, hour: Hour) -> Hour {
        let late = match below(self.seed, hour.unsigned_abs() ^ 0xa5, 8) {
            0 => 2,
            1 | 2 => 1,
            _ => 0,
        };
        hour + 1 + late
    }
}

struct Places {
    blobs: usize,
    tables: usize,
    pages: usize,
    queues: usize,
    requests: usize,
    transfer_in: usize,
    transfer_out: usize,
    secrets: usize,
}

fn place_of() -> &'static Places {
    static PLACES: std::sync::OnceLock<Places> = std::sync::OnceLock::new();
    PLACES.get_or_init(|| Places {
        blobs: place("09F8879E-87E9-4305-A572-4B7BE209F857"),
        tables: place("B4438D5D-453B-4EE1-B42A-DC72E377F1E4"),
        pages: place("B5C15376-6C94-4FDD-B655-1A69D138ACA3"),
        queues: place("B03C6AE7-B080-4BFA-84A3-22C800F315C6"),
        requests: place("43DAF82B-4618-444A-B994-40C23F7CD438"),
        transfer_in: place("9764F92C-E44A-498E-8DC1-AAD66587A810"),
        transfer_out: place("3023FEF4-ECA5-4D7B-87B3-CFBC061931E8"),
        secrets: place("EBF13B9F-B3EA-46FE-BF54-396E93D48AB4"),
    })
}

/// Which records are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The first hour in which they may have entered the usage system.
    pub from: Hour,
    /// The hour after the last one.
    pub to: Hour,
    /// Hours in a bucket: 1 or 24.
    pub bucket: Hour,
    /// The one subscription, if it is one.
    pub subscription: Option<Uuid>,
}

/// Where a list goes on: bucket, tenant, resource, and how many of its readings were given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The bucket's first hour; 0 for the beginning.
    pub hour: Hour,
    /// The tenant's place.
    pub tenant: usize,
    /// The resource's place.
    pub resource: usize,
    /// Readings of that resource that were given.
    pub given: usize,
}

/// Lists records from a place on, until `each` refuses one: the place of that one, or none at the end.
pub fn list(
    tenants: &[Tenant],
    fleets: &[Fleet],
    asked: Asked,
    from: Place,
    mut each: impl FnMut(Hour, Reading<'_>) -> bool,
) -> Option<Place> {
    let bucket = asked.bucket;
    // What entered in an hour may have been used up to three hours before.
    let first = (asked.from - 1 - LAG).div_euclid(bucket) * bucket;
    let born = tenants.iter().map(|tenant| tenant.since).min()?.div_euclid(bucket) * bucket;
    let mut at = if from == Place::default() { Place { hour: first.max(born), ..from } } else { from };
    while at.hour < asked.to {
        while let Some((tenant, fleet)) = tenants.get(at.tenant).zip(fleets.get(at.tenant)) {
            let alive = tenant.since < at.hour + bucket && tenant.until.is_none_or(|until| at.hour < until);
            let wanted = alive && asked.subscription.is_none_or(|only| only == tenant.subscription);
            while let Some(resource) = fleet.get(at.resource).filter(|_| wanted) {
                let mut sums: Vec<(usize, Micro)> = Vec::new();
                for hour in at.hour..at.hour + bucket {
                    let entered = resource.reported(hour);
                    if entered < asked.from || entered >= asked.to || tenant.until.is_some_and(|until| hour >= until) {
                        continue;
                    }
                    resource.read(hour, |meter, amount| match sums.iter_mut().find(|(known, _)| *known == meter) {
                        Some((_, sum)) => *sum += amount,
                        None => sums.push((meter, amount)),
                    });
                }
                for (meter, quantity) in sums.into_iter().skip(at.given) {
                    if !each(at.hour, Reading { tenant, resource, meter, quantity }) {
                        return Some(at);
                    }
                    at.given += 1;
                }
                (at.resource, at.given) = (at.resource + 1, 0);
            }
            (at.tenant, at.resource, at.given) = (at.tenant + 1, 0, 0);
        }
        (at.hour, at.tenant) = (at.hour + bucket, 0);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(tenants: u128) -> (Vec<Tenant>, Vec<Fleet>) {
        let tenant = |n| Tenant {
            subscription: Uuid::from_u128(n * 7919 + 1),
            directory: Uuid::from_u128(n),
            since: 495_000,
            until: (n % 5 == 4).then_some(495_100),
        };
        let tenants: Vec<Tenant> = (0..tenants).map(tenant).collect();
        let fleets = tenants.iter().map(|tenant| tenant.fleet("local")).collect();
        (tenants, fleets)
    }

    fn sum(tenants: &[Tenant], fleets: &[Fleet], asked: Asked, page: usize) -> (Micro, usize) {
        let (mut place, mut total, mut rows) = (Place::default(), 0, 0);
        loop {
            let mut left = page;
            let next = list(tenants, fleets, asked, place, |_, reading| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                total += reading.quantity;
                rows += 1;
                true
            });
            match next {
                Some(next) => place = next,
                None => return (total, rows),
            }
        }
    }

    #[test]
    fn pages_of_any_size_and_granularity_hold_the_same_sum() {
        let (tenants, fleets) = world(9);
        let asked = Asked { from: 495_000, to: 495_240, bucket: 1, subscription: None };
        let (whole, rows) = sum(&tenants, &fleets, asked, usize::MAX);
        assert!(rows > 9 * 240, "{rows}");
        for page in [1, 7, 1000] {
            assert_eq!(sum(&tenants, &fleets, asked, page), (whole, rows), "pages of {page}");
        }
        let (daily, fewer) = sum(&tenants, &fleets, Asked { bucket: 24, ..asked }, 10);
        assert_eq!(daily, whole);
        assert!(fewer < rows / 10, "{fewer} of {rows}");
        let each = tenants
            .iter()
            .map(|tenant| sum(&tenants, &fleets, Asked { subscription: Some(tenant.subscription), ..asked }, 3).0);
        assert_eq!(each.sum::<Micro>(), whole);
        // Two halves of the time are the whole of it: by reported time nothing is in both, or in none.
        let half = |from, to| sum(&tenants, &fleets, Asked { from, to, ..asked }, 100).0;
        assert_eq!(half(495_000, 495_119) + half(495_119, 495_240), whole);
    }
}
