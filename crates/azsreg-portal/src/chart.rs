//! Bars of days, as SVG in the page: no script, and a table beside it says the same.

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
pub(crate) const STEP: u32 = 14;
pub(crate) const HEIGHT: u32 = 48;

/// The bars of a row of days.
pub(crate) fn bars(days: &[(Date, Decimal)], unit: &str) -> Vec<Bar> {
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
