//! Bars of days, as SVG in the page: no script, and a table beside it says the same.

use std::collections::BTreeMap;

use azsreg_model::{UsageLine, day_of};
use jiff::civil::Date;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

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

/// The bars of a row of days.
fn bars(days: &[(Date, Decimal)], unit: &str) -> Vec<Bar> {
    let most = days.iter().map(|(_, amount)| *amount).max().unwrap_or_default();
    let mut bars = Vec::with_capacity(days.len());
    let mut x = 0;
    for (day, amount) in days {
        let share = if most.is_zero() { Decimal::ZERO } else { amount / most };
        let height = (share * Decimal::from(HEIGHT)).round().to_u32().unwrap_or(0);
        // What is not nothing can be seen.
        let height = if amount.is_zero() { 0 } else { height.max(1) };
        let title = format!("{day}: {} {unit}", amount.normalize());
        bars.push(Bar { x, y: HEIGHT - height, height, title });
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
pub(crate) fn meters(lines: Vec<UsageLine>, today: Date, days: u16) -> Vec<Meter> {
    let mut found: BTreeMap<(String, String), BTreeMap<Date, Decimal>> = BTreeMap::new();
    for line in lines {
        let name = if line.name.is_empty() { line.meter } else { line.name };
        *found.entry((name, line.unit)).or_default().entry(day_of(line.start)).or_default() += line.quantity;
    }
    let first = today.saturating_sub(jiff::Span::new().days(i64::from(days)));
    let every: Vec<Date> = first.series(jiff::Span::new().days(1)).take(usize::from(days)).collect();
    let meters = found.into_iter().map(|((name, unit), amounts)| {
        let total: Decimal = amounts.values().sum();
        let row: Vec<(Date, Decimal)> =
            every.iter().map(|day| (*day, amounts.get(day).copied().unwrap_or_default())).collect();
        let total = grouped(total);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_is_as_high_as_the_chart_and_the_least_is_seen() {
        let day = |n| Date::constant(2026, 11, n);
        let found = bars(&[(day(1), Decimal::from(1000)), (day(2), Decimal::ONE), (day(3), Decimal::ZERO)], "GB");
        assert_eq!(found.iter().map(|bar| bar.height).collect::<Vec<_>>(), [HEIGHT, 1, 0]);
        assert_eq!((found[1].x, found[1].y), (STEP, HEIGHT - 1));
        assert_eq!(found[0].title, "2026-11-01: 1000 GB");
    }
}
