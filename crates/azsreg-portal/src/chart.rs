//! Usage by meter and day: bars as SVG in the page, the same as rows for a spreadsheet, and the choice of whose.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use azsreg_model::{UsageLine, day_of};
use jiff::civil::Date;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use crate::frame::Ask;

/// A day's bar.
pub(crate) struct Bar {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) height: u32,
    pub(crate) title: String,
}

/// How wide a bar and the room beside it are, and how high the highest one is.
const STEP: u32 = 14;
const HEIGHT: u32 = 48;

/// The bars of a row of days. A day of nothing has none.
fn bars(days: &[(Date, Decimal)], unit: &str) -> Vec<Bar> {
    let most = days.iter().map(|(_, amount)| *amount).max().unwrap_or_default();
    let mut bars = Vec::with_capacity(days.len());
    let mut x = 0;
    for (day, amount) in days {
        if !amount.is_zero() {
            let height = (amount / most * Decimal::from(HEIGHT)).round().to_u32().unwrap_or(0);
            // What is not nothing can be seen.
            let height = height.max(1);
            let title = format!("{day}: {} {unit}", grouped(*amount));
            bars.push(Bar { x, y: HEIGHT - height, height, title });
        }
        x += STEP;
    }
    bars
}

/// A meter's days.
pub(crate) struct Meter {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) total: String,
    pub(crate) bars: Vec<Bar>,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Each meter's days, the meters in the order of their names.
pub(crate) fn meters(lines: &[UsageLine], today: Date, days: u16) -> Vec<Meter> {
    let mut found: BTreeMap<(&str, &str), BTreeMap<Date, Decimal>> = BTreeMap::new();
    for line in lines {
        let name = if line.name.is_empty() { &line.meter } else { &line.name };
        *found.entry((name, &line.unit)).or_default().entry(day_of(line.start)).or_default() += line.quantity;
    }
    let first = today.saturating_sub(jiff::Span::new().days(i64::from(days)));
    let every: Vec<Date> = first.series(jiff::Span::new().days(1)).take(usize::from(days)).collect();
    let meters = found.into_iter().map(|((name, unit), amounts)| {
        let total: Decimal = amounts.values().sum();
        let row: Vec<(Date, Decimal)> =
            every.iter().map(|day| (*day, amounts.get(day).copied().unwrap_or_default())).collect();
        let (name, unit, total) = (name.to_owned(), unit.to_owned(), grouped(total));
        Meter { bars: bars(&row, &unit), width: STEP * u32::from(days), height: HEIGHT, name, unit, total }
    });
    meters.collect()
}

/// A number that is read at a glance: three decimals, thousands apart.
fn grouped(amount: Decimal) -> String {
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

/// So many are offered in a list; of more, one is written.
const LISTED: usize = 100;

/// Whose usage, and of how many days: what was asked for, and what can be.
pub(crate) struct Choice {
    pub(crate) path: &'static str,
    pub(crate) label: &'static str,
    pub(crate) days: u16,
    pub(crate) offered: [u16; 3],
    pub(crate) chosen: Option<String>,
    /// Id and name.
    pub(crate) known: Vec<(String, String)>,
    /// The first and the last day, once they are known.
    pub(crate) span: String,
}

impl Choice {
    pub(crate) fn of(
        ask: Ask<'_>,
        path: &'static str,
        label: &'static str,
        known: Vec<(String, String)>,
        usual: u16,
    ) -> Self {
        let chosen = ask.value("subscription").map(|id| id.trim().to_owned());
        Self { path, label, days: ask.days(usual), offered: [7, 14, 31], chosen, known, span: String::new() }
    }

    /// The days before this one.
    pub(crate) fn until(self, today: Date) -> Self {
        let day = |back: u16| today.saturating_sub(jiff::Span::new().days(i64::from(back)));
        Self { span: format!("{} to {}", day(self.days), day(1)), ..self }
    }

    pub(crate) fn listed(&self) -> bool {
        self.known.len() <= LISTED
    }

    pub(crate) fn is(&self, id: &str) -> bool {
        self.chosen.as_deref() == Some(id)
    }

    /// The choice as a query, for the same in another form.
    pub(crate) fn query(&self) -> String {
        match &self.chosen {
            Some(id) if id.chars().all(|c| c.is_ascii_hexdigit() || c == '-') => {
                format!("days={}&subscription={id}", self.days)
            }
            _ => format!("days={}", self.days),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_is_as_high_as_the_chart_and_the_least_is_seen() {
        let day = |n| Date::constant(2026, 11, n);
        let found = bars(&[(day(1), Decimal::from(1000)), (day(2), Decimal::ONE), (day(3), Decimal::ZERO)], "GB");
        assert_eq!(found.iter().map(|bar| bar.height).collect::<Vec<_>>(), [HEIGHT, 1]);
        assert_eq!((found[1].x, found[1].y), (STEP, HEIGHT - 1));
        assert_eq!(found[0].title, "2026-11-01: 1\u{202f}000.000 GB");
    }

    #[test]
    fn a_field_with_a_comma_stays_one_field() {
        let line = UsageLine {
            start: "2026-11-01T00:00:00Z".parse().unwrap_or_default(),
            meter: "m".into(),
            name: "a, \"b\"".into(),
            unit: "GB".into(),
            subscription: None,
            resource: None,
            quantity: Decimal::new(1_500_000, 6),
        };
        assert_eq!(csv(&[line]).lines().nth(1), Some("2026-11-01T00:00:00Z,,m,\"a, \"\"b\"\"\",GB,1.5,"));
    }
}
