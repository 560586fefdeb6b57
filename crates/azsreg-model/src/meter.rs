//! The meters of a stamp and the commerce meters that Azure bills by (`facts-billing-usage.md` section 6).
//!
//! The stamp's meters, their names and units are documented. The commerce meters are fewer, and their ids are not public:
//! the table here is the one that the lab's Azure declares. For a real cloud, `azsreg usage compare --meters FILE` takes
//! another one.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A meter of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Its id, as the stamp writes it.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What its quantity counts.
    pub unit: &'static str,
    /// What it becomes in Azure.
    charge: Charge,
}

/// How a stamp's meter is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charge {
    /// Not at all: transactions, transfers, addresses.
    Free,
    /// By the same quantity.
    As(usize),
    /// By the virtual cores of the machine's size.
    Cores(usize),
}

/// A meter of Azure's commerce system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommerceMeter {
    /// Its id.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What its quantity counts.
    pub unit: &'static str,
}

const BASE: usize = 0;
const WINDOWS: usize = 1;
const BLOBS: usize = 2;
const TABLES: usize = 3;
const UNMANAGED: usize = 4;
const STANDARD: usize = 5;
const PREMIUM: usize = 6;
const CAPACITY: usize = 7;
const APPS: usize = 8;
const EVENTS: usize = 9;

/// The commerce meters.
pub const COMMERCE_METERS: &[CommerceMeter] = &[
    commerce("a25e9000-0000-4000-8000-000000000001", "Virtual Machine Base", "vCPU hours"),
    commerce("a25e9000-0000-4000-8000-000000000002", "Windows Server Virtual Machine", "vCPU hours"),
    commerce("a25e9000-0000-4000-8000-000000000003", "Block Blob Storage", "GB hours"),
    commerce("a25e9000-0000-4000-8000-000000000004", "Table and Queue Storage", "GB hours"),
    commerce("a25e9000-0000-4000-8000-000000000005", "Unmanaged Disk Storage", "GB hours"),
    commerce("a25e9000-0000-4000-8000-000000000006", "Standard Managed Disk", "disk months"),
    commerce("a25e9000-0000-4000-8000-000000000007", "Premium Managed Disk", "disk months"),
    commerce("a25e9000-0000-4000-8000-000000000008", "Managed Disk Capacity", "GB months"),
    commerce("a25e9000-0000-4000-8000-000000000009", "App Service", "vCPU hours"),
    commerce("a25e9000-0000-4000-8000-00000000000a", "Event Hubs", "core hours"),
];

const fn commerce(id: &'static str, name: &'static str, unit: &'static str) -> CommerceMeter {
    CommerceMeter { id, name, unit }
}

const fn meter(id: &'static str, name: &'static str, unit: &'static str, charge: Charge) -> Meter {
    Meter { id, name, unit, charge }
}

use Charge::{As, Cores, Free};

const GB_HOURS: &str = "GB*hours";
const MONTHS: &str = "disk*months";
const REQUESTS: &str = "requests in 10,000s";

/// The stamp's meters that we know the name of.
pub const METERS: &[Meter] = &[
    meter("F271A8A388C44D93956A063E1D2FA80B", "Static IP Address Usage", "IP addresses", Free),
    meter("9E2739BA86744796B465F64674B822BA", "Dynamic IP Address Usage", "IP addresses", Free),
    meter("f114cb19-ea64-40b5-bcd7-aee474b62853", "Public IP Address Usage", "IP addresses", Free),
    meter("B4438D5D-453B-4EE1-B42A-DC72E377F1E4", "TableCapacity", GB_HOURS, As(TABLES)),
    meter("B5C15376-6C94-4FDD-B655-1A69D138ACA3", "PageBlobCapacity", GB_HOURS, As(UNMANAGED)),
    meter("B03C6AE7-B080-4BFA-84A3-22C800F315C6", "QueueCapacity", GB_HOURS, As(TABLES)),
    meter("09F8879E-87E9-4305-A572-4B7BE209F857", "BlockBlobCapacity", GB_HOURS, As(BLOBS)),
    meter("B9FF3CD0-28AA-4762-84BB-FF8FBAEA6A90", "TableTransactions", REQUESTS, Free),
    meter("50A1AEAF-8ECA-48A0-8973-A5B3077FEE0D", "TableDataTransIn", "GB", Free),
    meter("1B8C1DEC-EE42-414B-AA36-6229CF199370", "TableDataTransOut", "GB", Free),
    meter("43DAF82B-4618-444A-B994-40C23F7CD438", "BlobTransactions", REQUESTS, Free),
    meter("9764F92C-E44A-498E-8DC1-AAD66587A810", "BlobDataTransIn", "GB", Free),
    meter("3023FEF4-ECA5-4D7B-87B3-CFBC061931E8", "BlobDataTransOut", "GB", Free),
    meter("EB43DD12-1AA6-4C4B-872C-FAF15A6785EA", "QueueTransactions", REQUESTS, Free),
    meter("E518E809-E369-4A45-9274-2017B29FFF25", "QueueDataTransIn", "GB", Free),
    meter("DD0A10BA-A5D6-4CB6-88C0-7D585CEF9FC2", "QueueDataTransOut", "GB", Free),
    meter("FAB6EB84-500B-4A09-A8CA-7358F8BBAEA5", "Base VM Size Hours", "VM hours", Cores(BASE)),
    meter("9CD92D4C-BAFD-4492-B278-BEDC2DE8232A", "Windows VM Size Hours", "VM hours", Cores(WINDOWS)),
    meter("6DAB500F-A4FD-49C4-956D-229BB9C8C793", "VM size hours", "VM hours", Cores(BASE)),
    meter("380874f9-300c-48e0-95a0-d2d9a21ade8f", "Standard Managed Disk S4", MONTHS, As(STANDARD)),
    meter("1b77d90f-427b-4435-b4f1-d78adec53222", "Standard Managed Disk S6", MONTHS, As(STANDARD)),
    meter("d5f7731b-f639-404a-89d0-e46186e22c8d", "Standard Managed Disk S10", MONTHS, As(STANDARD)),
    meter("ff85ef31-da5b-4eac-95dd-a69d6f97b18a", "Standard Managed Disk S15", MONTHS, As(STANDARD)),
    meter("88ea9228-457a-4091-adc9-ad5194f30b6e", "Standard Managed Disk S20", MONTHS, As(STANDARD)),
    meter("5b1db88a-8596-4002-8052-347947c26940", "Standard Managed Disk S30", MONTHS, As(STANDARD)),
    meter("14496322-39cb-4d33-b67d-39b0c2de0c8e", "Standard Managed Disk S40", MONTHS, As(STANDARD)),
    meter("8c003d25-afb4-4f21-b1fa-86a5b0f001c7", "Standard Managed Disk S50", MONTHS, As(STANDARD)),
    meter("7660b45b-b29d-49cb-b816-59f30fbab011", "Premium Managed Disk P4", MONTHS, As(PREMIUM)),
    meter("817007fd-a077-477f-bc01-b876f27205fd", "Premium Managed Disk P6", MONTHS, As(PREMIUM)),
    meter("e554b6bc-96cd-4938-a5b5-0da990278519", "Premium Managed Disk P10", MONTHS, As(PREMIUM)),
    meter("cdc0f53a-62a9-4472-a06c-e99a23b02907", "Premium Managed Disk P15", MONTHS, As(PREMIUM)),
    meter("b9cb2d1a-84c2-4275-aa8b-70d2145d59aa", "Premium Managed Disk P20", MONTHS, As(PREMIUM)),
    meter("06bde724-9f94-43c0-84c3-d0fc54538369", "Premium Managed Disk P30", MONTHS, As(PREMIUM)),
    meter("eecb2657-e7e6-47f9-9b00-7f58fa8839cb", "Premium Managed Disk P40", MONTHS, As(PREMIUM)),
    meter("43626c21-849b-40fe-8c01-e19666059c38", "Premium Managed Disk P50", MONTHS, As(PREMIUM)),
    meter("7ba084ec-ef9c-4d64-a179-7732c6cb5e28", "Standard Managed Disk size", "GB*months", As(CAPACITY)),
    meter("daef389a-06e5-4684-a7f7-8813d9f792d5", "Premium Managed Disk size", "GB*months", As(CAPACITY)),
    meter("75d4b707-1027-4403-9986-6ec7c05579c8", "Standard Managed Disk snapshot", "GB*months", As(CAPACITY)),
    meter("108fa95b-be0d-4cd9-96e8-5b0d59505df1", "Standard Managed Disk snapshot", "GB*months", As(CAPACITY)),
    meter("5ca1cbb9-6f14-4e76-8be8-1ca91547965e", "Premium Managed Disk snapshot", "GB*months", As(CAPACITY)),
    meter("578ae51d-4ef9-42f9-85ae-42b52d3d83ac", "Premium Managed Disk snapshot", "GB*months", As(CAPACITY)),
    meter("EBF13B9F-B3EA-46FE-BF54-396E93D48AB4", "Key Vault transactions", REQUESTS, Free),
    meter("2C354225-B2FE-42E5-AD89-14F0EA302C87", "Advanced keys transactions", REQUESTS, Free),
    meter("190c935e-9ada-48ff-9ab8-56ea1cf9adaa", "App Service", "virtual core hours", As(APPS)),
    meter("957e9f36-2c14-45a1-b6a1-1723ef71a01d", "Shared App Service hours", "hours", Free),
    meter("539cdec7-b4f5-49f6-aac4-1f15cff0eda9", "Free App Service hours", "hours", Free),
    meter("d1d04836-075c-4f27-bf65-0a1130ec60ed", "Functions compute", "GB*seconds", Free),
    meter("67cc4afc-0691-48e1-a4b8-d744d1fedbde", "Functions requests", REQUESTS, Free),
    meter("CBCFEF9A-B91F-4597-A4D3-01FE334BED82", "SQL database size", "MB*hours", Free),
    meter("E6D8CFCD-7734-495E-B1CC-5AB0B9C24BD3", "MySQL database size", "MB*hours", Free),
    meter("CB6A35C5-FADE-406C-B14D-6DDB7C4CA3D5", "Event Hubs core hours", "core hours", As(EVENTS)),
];

/// A meter of a stamp by its id, without regard to case.
#[must_use]
pub fn stamp_meter(id: &str) -> Option<&'static Meter> {
    METERS.iter().find(|meter| meter.id.eq_ignore_ascii_case(id))
}

/// A commerce meter by its id, without regard to case.
#[must_use]
pub fn commerce_meter(id: &str) -> Option<&'static CommerceMeter> {
    COMMERCE_METERS.iter().find(|meter| meter.id.eq_ignore_ascii_case(id))
}

/// What a quantity of a stamp's meter becomes in Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// So much of this commerce meter for one of the stamp's.
    As {
        /// The commerce meter's id.
        meter: String,
        /// The factor.
        factor: Decimal,
    },
    /// Nothing.
    Free,
    /// The table does not say.
    Unknown,
}

impl Meter {
    /// What one of it becomes, for a machine of this size where it counts machines.
    #[must_use]
    pub fn charged(&self, size: Option<&str>) -> Charged {
        let (meter, factor) = match self.charge {
            Free => return Charged::Free,
            As(meter) => (meter, Some(1)),
            Cores(meter) => (meter, size.and_then(cores)),
        };
        match factor {
            Some(factor) => Charged::As { meter: COMMERCE_METERS[meter].id.to_owned(), factor: Decimal::from(factor) },
            None => Charged::Unknown,
        }
    }
}

/// The virtual cores of a machine's size, such as `Standard_D2_v2`.
#[must_use]
pub fn cores(size: &str) -> Option<u32> {
    const D: [u32; 5] = [1, 2, 4, 8, 16];
    const HIGH: [u32; 4] = [2, 4, 8, 16];
    let size = size.to_ascii_lowercase();
    let name = size.trim_start_matches("standard_").trim_start_matches("basic_");
    let (name, version) = name.split_once('_').unwrap_or((name, ""));
    let letters: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    let digits: String = name[letters.len()..].chars().take_while(char::is_ascii_digit).collect();
    let number: usize = digits.parse().ok()?;
    let at = |list: &[u32], index: usize| list.get(index).copied();
    match (letters.as_str(), version) {
        ("a", "v2") | ("f" | "fs", _) => u32::try_from(number).ok(),
        ("a", _) => match number {
            0 | 1 => Some(1),
            2..=4 => at(&D, number - 1),
            5..=7 => at(&HIGH, number - 5),
            _ => None,
        },
        ("d" | "ds", "v3") | ("e" | "es", _) | ("nc" | "nv", _) => u32::try_from(number).ok(),
        ("d" | "ds", _) => match number {
            1..=5 => at(&D, number - 1),
            11..=14 => at(&HIGH, number - 11),
            _ => None,
        },
        _ => None,
    }
}

/// A mapping of a stamp's meters to commerce meters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterTable {
    own: BTreeMap<String, Charged>,
}

/// A line of a table that was given: `{"meter", "size", "commerceMeter", "factor"}`; without a commerce meter it is free.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    meter: String,
    #[serde(default)]
    size: Option<String>,
    #[serde(default)]
    commerce_meter: Option<String>,
    #[serde(default)]
    factor: Option<f64>,
}

impl MeterTable {
    /// A table out of a JSON list of `{"meter", "size", "commerceMeter", "factor"}`. What it does not name is as declared.
    ///
    /// # Errors
    /// It is not such a list, or a factor is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<Line> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut own = BTreeMap::new();
        for line in lines {
            let charged = match line.commerce_meter {
                None => Charged::Free,
                Some(meter) => {
                    let factor = line.factor.unwrap_or(1.0);
                    let sane = (0.0..=1_000_000.0).contains(&factor).then_some(factor);
                    let exact = sane.and_then(crate::usage::quantity);
                    let factor = exact.ok_or_else(|| format!("{factor} is not a factor"))?;
                    Charged::As { meter: meter.to_ascii_lowercase(), factor }
                }
            };
            own.insert(key(&line.meter, line.size.as_deref()), charged);
        }
        Ok(Self { own })
    }

    /// What one of a stamp's meter becomes, for a machine of this size where it counts machines.
    #[must_use]
    pub fn charged(&self, meter: &str, size: Option<&str>) -> Charged {
        let own =
            size.and_then(|size| self.own.get(&key(meter, Some(size)))).or_else(|| self.own.get(&key(meter, None)));
        if let Some(charged) = own {
            return charged.clone();
        }
        stamp_meter(meter).map_or(Charged::Unknown, |meter| meter.charged(size))
    }
}

fn key(meter: &str, size: Option<&str>) -> String {
    format!("{} {}", meter.to_ascii_lowercase(), size.unwrap_or_default().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_their_cores() {
        let known = [
            ("Basic_A0", 1),
            ("Standard_A4", 8),
            ("Standard_A5", 2),
            ("Standard_A8_v2", 8),
            ("Standard_D1_v2", 1),
            ("Standard_D5_v2", 16),
            ("Standard_DS13_v2", 8),
            ("Standard_D12", 4),
            ("Standard_F16s", 16),
            ("Standard_F4s_v2", 4),
            ("standard_nc12s_v3", 12),
        ];
        for (size, expected) in known {
            assert_eq!(cores(size), Some(expected), "{size}");
        }
        assert_eq!((cores("Standard_A9"), cores("Custom"), cores("")), (None, None, None));
    }

    #[test]
    fn no_meter_is_listed_twice() {
        let mut ids: Vec<String> = METERS.iter().map(|meter| meter.id.to_ascii_lowercase()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), METERS.len());
    }

    #[test]
    fn a_given_table_comes_first() {
        let table = r#"[{"meter": "FAB6EB84-500B-4A09-A8CA-7358F8BBAEA5", "size": "Odd", "commerceMeter": "X", "factor": 2.5},
                        {"meter": "b4438d5d-453b-4ee1-b42a-dc72e377f1e4"}]"#;
        let table = MeterTable::parse(table).unwrap();
        let odd = Charged::As { meter: "x".into(), factor: "2.5".parse().unwrap() };
        assert_eq!(table.charged("fab6eb84-500b-4a09-a8ca-7358f8bbaea5", Some("ODD")), odd);
        assert_eq!(table.charged("B4438D5D-453B-4EE1-B42A-DC72E377F1E4", None), Charged::Free);
        let base = Charged::As { meter: COMMERCE_METERS[0].id.into(), factor: Decimal::from(4) };
        assert_eq!(table.charged("FAB6EB84-500B-4A09-A8CA-7358F8BBAEA5", Some("Standard_F4s_v2")), base);
        assert_eq!(table.charged("FAB6EB84-500B-4A09-A8CA-7358F8BBAEA5", None), Charged::Unknown);
        assert_eq!(table.charged("something", None), Charged::Unknown);
        assert!(MeterTable::parse("{}").is_err());
        for factor in ["-1", "1e28"] {
            let text = format!(r#"[{{"meter": "x", "commerceMeter": "y", "factor": {factor}}}]"#);
            assert!(MeterTable::parse(&text).unwrap_err().contains("not a factor"), "{factor}");
        }
    }
}
