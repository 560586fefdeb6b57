//! Usage: what a stamp's tenants used, and what Azure has of it (`facts-billing-usage.md` sections 4 to 6).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

/// How long the buckets of usage are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// A day of UTC.
    Daily,
    /// An hour.
    Hourly,
}

impl Granularity {
    /// As the stamp and Azure write it.
    #[must_use]
    pub fn wire(self) -> &'static str {
        match self {
            Self::Daily => "Daily",
            Self::Hourly => "Hourly",
        }
    }

    /// How long a bucket is.
    #[must_use]
    pub fn length(self) -> SignedDuration {
        SignedDuration::from_hours(if self == Self::Daily { 24 } else { 1 })
    }
}

/// From a beginning to an end, the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The beginning.
    pub from: Timestamp,
    /// The end.
    pub to: Timestamp,
}

impl Range {
    /// Whether something at this time is in it.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}

/// One record of usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// When the bucket begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// The tenant's subscription on the stamp, in lower case.
    pub subscription: String,
    /// The meter's id, as it was written.
    pub meter: String,
    /// How much.
    #[serde(serialize_with = "number")]
    pub quantity: Decimal,
    /// The resource, where it is said.
    pub resource: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// The machine's size, where it is one.
    pub size: Option<String>,
}

/// A page of rows and how to ask for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePage {
    /// The rows.
    pub rows: Vec<UsageRow>,
    /// The address of the next page.
    pub next: Option<String>,
}

/// The decimal that a JSON number shows; `None` for what is none.
#[must_use]
pub fn quantity(value: f64) -> Option<Decimal> {
    // The shortest text of a double is the decimal that was meant, and never has an exponent here.
    value.is_finite().then(|| value.to_string().parse().ok()).flatten()
}

/// A decimal as a JSON number, exact to a double's fifteen digits.
fn number<S: serde::Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.to_string().parse().unwrap_or(f64::NAN))
}

/// The day of UTC that a time is in.
#[must_use]
pub fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// The midnight of UTC that a day begins with.
#[must_use]
pub fn midnight(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).unwrap_or(Timestamp::MAX)
}

/// The hour that a time is in, at its beginning.
#[must_use]
pub fn whole_hour(at: Timestamp) -> Timestamp {
    let seconds = at.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(3600)).unwrap_or(at)
}

/// A sum of usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageLine {
    /// When the bucket begins.
    pub start: Timestamp,
    /// The meter's id.
    pub meter: String,
    /// The meter's name, where it is known.
    pub name: String,
    /// What the quantity counts.
    pub unit: String,
    /// The tenant's subscription, unless it is summed over.
    pub subscription: Option<String>,
    /// The resource, unless it is summed over.
    pub resource: Option<String>,
    /// How much.
    #[serde(serialize_with = "number")]
    pub quantity: Decimal,
}

/// What to make of a day's usage of a meter on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The same on both sides.
    Equal,
    /// Azure has not got so far yet.
    Late,
    /// Azure has later usage of this stamp, but not this.
    Missing,
    /// It was used before anything was reported to Azure.
    Unreported,
    /// Azure has more than the stamp recorded.
    Surplus,
}

/// A day's usage of a commerce meter: what the stamp recorded, after mapping, and what Azure has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparedLine {
    /// The day.
    pub day: Date,
    /// The commerce meter's id.
    pub meter: String,
    /// Its name.
    pub name: String,
    /// What the quantities count.
    pub unit: String,
    /// What the stamp recorded.
    #[serde(serialize_with = "number")]
    pub stamp: Decimal,
    /// What Azure has.
    #[serde(serialize_with = "number")]
    pub azure: Decimal,
    /// What is still to come of the difference.
    #[serde(serialize_with = "number")]
    pub late: Decimal,
    /// What to make of it.
    pub verdict: Verdict,
}

/// The whole of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The usage compared.
    pub range: Range,
    /// By day and meter.
    #[serde(rename = "value")]
    pub lines: Vec<ComparedLine>,
    /// Until when Azure has usage of this stamp, to the day where that day is over; none if it has none of those days or
    /// later ones.
    pub azure_until: Option<Timestamp>,
    /// The subscriptions that were looked at.
    pub subscriptions: Vec<Uuid>,
    /// Subscriptions of customers whose usage the caller may not see, or other things that make it incomplete.
    pub notes: Vec<String>,
    /// Meters that the table does not map, and how many rows they have.
    pub unmapped: Vec<(String, u64)>,
    /// Rows of the stamp that are not billed.
    pub free_rows: u64,
}

impl Comparison {
    /// How many lines are so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|line| line.verdict == verdict).count()
    }

    /// Whether the two sides differ otherwise than by what is under way.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.verdict, Verdict::Missing | Verdict::Surplus))
    }
}

/// Whether and how far usage is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageStatus {
    /// The stamp.
    pub cloud_id: Uuid,
    /// Whether the stamp is activated with usage reporting; none if it is not activated.
    pub reporting: Option<bool>,
    /// The billing model, where the registration is seen.
    pub billing_model: Option<String>,
    /// The registration.
    pub registration: Option<String>,
    /// When the registration ends, where it ends and is over.
    pub expired: Option<Timestamp>,
    /// Until when the stamp has recorded usage, of the time looked at.
    pub recorded_until: Option<Timestamp>,
    /// Until when Azure has usage of this stamp, of the time looked at; none if it has none or was not asked.
    pub azure_until: Option<Timestamp>,
    /// Whether Azure was asked.
    pub azure_asked: bool,
    /// How many hours of usage the stamp has after the newest that Azure has; none where Azure has none to go by.
    pub waiting_hours: Option<u64>,
    /// How many records those are.
    pub waiting_rows: Option<u64>,
    /// The open alert about the upload.
    pub alert: Option<crate::Alert>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_the_decimals_that_were_meant() {
        for text in ["0.1", "2.4", "1e-7", "123456.789", "0.041666666666666664", "1234567890123.5"] {
            let value: f64 = text.parse().unwrap();
            let exact = quantity(value).unwrap();
            assert_eq!(exact.to_string().parse::<f64>().unwrap(), value, "{text}");
        }
        let sum: Decimal = std::iter::repeat_n(quantity(0.1).unwrap(), 10).sum();
        assert_eq!(sum, Decimal::ONE);
        assert_eq!(quantity(f64::NAN), None);
        assert_eq!(quantity(f64::INFINITY), None);
    }

    #[test]
    fn days_and_hours_are_of_utc() {
        let at: Timestamp = "2026-11-25T23:59:59Z".parse().unwrap();
        assert_eq!(day_of(at).to_string(), "2026-11-25");
        assert_eq!(midnight(day_of(at)).to_string(), "2026-11-25T00:00:00Z");
        assert_eq!(whole_hour(at).to_string(), "2026-11-25T23:00:00Z");
    }
}
