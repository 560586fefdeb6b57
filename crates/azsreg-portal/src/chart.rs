//! Usage by meter and day: a chart of each meter, what each subscription has, and the rows for a spreadsheet.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use azsreg_model::{UsageLine, day_of};
use jiff::civil::Date;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use uuid::Uuid;

/// How wide a day is, and how high the highest one.
const STEP: u32 = 14;
const HEIGHT: u32 = 48;

/// The bars of a row of days as an SVG path: a stroke for each day on which there is something.
fn bars(days: &[(Date, Decimal)]) -> String {
    let most = days.iter().map(|(_, amount)| *amount).max().unwrap_or_default();
    let mut path = String::new();
    let mut x = STEP / 2;
    for (_, amount) in days {
        if !amount.is_zero() {
            let height = (amount / most * Decimal::from(HEIGHT)).round().to_u32().unwrap_or(0);
            // What is not nothing can be seen.
            let _ = write!(path, "M{x} {HEIGHT}V{}", HEIGHT - height.clamp(1, HEIGHT));
        }
        x += STEP;
    }
    path
}

/// A meter's days.
pub(crate) struct Meter {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) total: String,
    /// The highest day's amount.
    pub(crate) highest: String,
    /// What the chart shows, for who does not see it.
    pub(crate) label: String,
    pub(crate) path: String,
    /// The amounts of the days.
    pub(crate) days: Vec<String>,
}

/// The meters of some days.
pub(crate) struct Chart {
    /// The days, the first one first.
    pub(crate) days: Vec<Date>,
    /// In the order of their names.
    pub(crate) meters: Vec<Meter>,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Chart {
    /// The chart of the days before today.
    pub(crate) fn of(lines: &[UsageLine], today: Date, days: u16) -> Self {
        let mut found: BTreeMap<(&str, &str), BTreeMap<Date, Decimal>> = BTreeMap::new();
        for line in lines {
            *found.entry(named(line)).or_default().entry(day_of(line.start)).or_default() += line.quantity;
        }
        let first = today.saturating_sub(jiff::Span::new().days(i64::from(days)));
        let every: Vec<Date> = first.series(jiff::Span::new().days(1)).take(usize::from(days)).collect();
        let meters = found.into_iter().map(|((name, unit), amounts)| {
            let row: Vec<(Date, Decimal)> =
                every.iter().map(|day| (*day, amounts.get(day).copied().unwrap_or_default())).collect();
            let (day, most) = row.iter().copied().max_by_key(|(_, amount)| *amount).unwrap_or_default();
            let last = every.last().copied().unwrap_or(first);
            let highest = grouped(most);
            Meter {
                label: format!("{name} by day from {first} to {last}, the highest {highest} {unit} on {day}"),
                path: bars(&row),
                days: row.iter().map(|(_, amount)| grouped(*amount)).collect(),
                name: name.to_owned(),
                unit: unit.to_owned(),
                total: grouped(row.iter().map(|(_, amount)| amount).sum()),
                highest,
            }
        });
        Self { meters: meters.collect(), width: STEP * u32::from(days), height: HEIGHT, days: every }
    }

    /// The first and the last day as a chart's foot has them; fewer than six have no room for both.
    pub(crate) fn ends(&self) -> Option<(String, String)> {
        let day = |day: &Date| day.strftime("%m-%d").to_string();
        self.days.first().zip(self.days.last()).filter(|_| self.days.len() > 5).map(|(a, b)| (day(a), day(b)))
    }
}

/// A line's meter and its unit.
fn named(line: &UsageLine) -> (&str, &str) {
    (if line.name.is_empty() { &line.meter } else { &line.name }, &line.unit)
}

/// What each subscription has of each meter.
pub(crate) struct Shares {
    /// The meters and their units, in the order of the chart's.
    pub(crate) meters: Vec<(String, String)>,
    /// The subscriptions that have something, by their names: id, name, and an amount for each meter.
    pub(crate) rows: Vec<(Uuid, String, Vec<String>)>,
}

impl Shares {
    /// The shares of those that are known.
    pub(crate) fn of(lines: &[UsageLine], known: &[(Uuid, String)]) -> Self {
        let mut sums: BTreeMap<(&str, &str), BTreeMap<&str, Decimal>> = BTreeMap::new();
        for line in lines {
            let whose = line.subscription.as_deref().unwrap_or_default();
            *sums.entry(named(line)).or_default().entry(whose).or_default() += line.quantity;
        }
        let rows = known.iter().filter_map(|(id, name)| {
            let key = id.to_string();
            let amounts = sums.values().map(|of| of.get(key.as_str()).copied());
            amounts
                .clone()
                .any(|amount| amount.is_some())
                .then(|| (*id, name.clone(), amounts.map(|amount| grouped(amount.unwrap_or_default())).collect()))
        });
        let mut rows: Vec<(Uuid, String, Vec<String>)> = rows.collect();
        rows.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
        Self { meters: sums.keys().map(|(name, unit)| ((*name).to_owned(), (*unit).to_owned())).collect(), rows }
    }
}

/// A number that is read at a glance: three decimals, thousands apart, and nothing as a 0.
fn grouped(amount: Decimal) -> String {
    if amount.is_zero() {
        return "0".into();
    }
    let text = format!("{:.3}", amount.round_dp(3));
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let digits: Vec<char> = whole.chars().collect();
    let mut out = String::new();
    for (at, digit) in digits.iter().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(*digit);
    }
    format!("{out}.{decimals}")
}

/// The lines for a spreadsheet (RFC 4180), in the columns of `azsreg usage show -o csv`, quantities in full.
pub(crate) fn csv(lines: &[UsageLine]) -> String {
    let mut out = String::from("start,subscription,meter,name,unit,quantity,resource\r\n");
    let field = |text: &str| match text.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    for line in lines {
        let (start, subscription) = (line.start, field(line.subscription.as_deref().unwrap_or_default()));
        let (name, unit, quantity) = (field(&line.name), field(&line.unit), line.quantity.normalize());
        let _ = write!(out, "{start},{subscription},{},{name},{unit},{quantity},\r\n", field(&line.meter));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_is_as_high_as_the_chart_and_the_least_is_seen() {
        let day = |n| Date::constant(2026, 11, n);
        let found = bars(&[(day(1), Decimal::from(1000)), (day(2), Decimal::ONE), (day(3), Decimal::ZERO)]);
        assert_eq!(found, "M7 48V0M21 48V47");
    }

    fn line(day: i8, name: &str, subscription: Option<Uuid>, quantity: i64) -> UsageLine {
        UsageLine {
            start: format!("2026-11-{day:02}T00:00:00Z").parse().unwrap_or_default(),
            meter: "m".into(),
            name: name.into(),
            unit: "GB".into(),
            subscription: subscription.map(|id| id.to_string()),
            resource: None,
            quantity: Decimal::from(quantity),
        }
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let lines = [line(1, "A", None, 1), line(2, "A", None, 2000), line(2, "B", None, 3)];
        let chart = Chart::of(&lines, Date::constant(2026, 11, 8), 7);
        let label = "A by day from 2026-11-01 to 2026-11-07, the highest 2\u{202f}000.000 GB on 2026-11-02";
        assert_eq!(chart.meters[0].label, label);
        assert_eq!(chart.meters[0].total, "2\u{202f}001.000");
        assert_eq!(chart.meters[1].days, ["0", "3.000", "0", "0", "0", "0", "0"]);
        assert_eq!(chart.ends(), Some(("11-01".into(), "11-07".into())));
    }

    #[test]
    fn subscriptions_stand_beside_each_other() {
        let (one, two, none) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let lines = [line(1, "A", Some(one), 1), line(2, "A", Some(one), 2), line(2, "B", Some(two), 5)];
        let known = [(two, "Two".to_owned()), (one, "One".to_owned()), (none, "None".to_owned())];
        let shares = Shares::of(&lines, &known);
        assert_eq!(shares.meters, [("A".to_owned(), "GB".to_owned()), ("B".to_owned(), "GB".to_owned())]);
        let row = |id, name: &str, of: [&str; 2]| (id, name.to_owned(), of.map(str::to_owned).to_vec());
        assert_eq!(shares.rows, [row(one, "One", ["3.000", "0"]), row(two, "Two", ["0", "5.000"])]);
    }

    #[test]
    fn a_field_with_a_comma_stays_one_field() {
        let line = UsageLine { quantity: Decimal::new(1_500_000, 6), ..line(1, "a, \"b\"", None, 0) };
        assert_eq!(csv(&[line]).lines().nth(1), Some("2026-11-01T00:00:00Z,,m,\"a, \"\"b\"\"\",GB,1.5,"));
    }
}
