//! Whose usage a page shows, and of how many days.

use askama::Template;
use jiff::civil::Date;
use uuid::Uuid;

use crate::frame::{Answer, Ask, Frame};

/// So many days are shown, unless others are asked for.
const DAYS: u16 = 14;
/// So many are offered in a list; of more, one is written.
const LISTED: usize = 50;

/// Whose usage, and of how many days: what was asked for, and what can be.
pub(crate) struct Choice {
    pub(crate) path: &'static str,
    pub(crate) label: &'static str,
    pub(crate) days: u16,
    pub(crate) offered: [u16; 3],
    pub(crate) chosen: Option<Uuid>,
    /// Id and name.
    pub(crate) known: Vec<(Uuid, String)>,
    /// The first and the last day.
    pub(crate) span: String,
}

impl Choice {
    /// What is asked for, however the id is written; else, where that is not known, the page that says so.
    pub(crate) fn of(
        ask: Ask<'_>,
        today: Date,
        (path, label): (&'static str, &'static str),
        known: Vec<(Uuid, String)>,
        frame: impl Fn(&'static str) -> Frame,
    ) -> Result<Self, Answer> {
        let chosen = match ask.value("subscription").map(str::trim) {
            None => None,
            Some(asked) => match asked.parse().ok().filter(|id| known.iter().any(|(known, _)| known == id)) {
                Some(id) => Some(id),
                None => {
                    let unknown = Unknown { frame: frame("Not found"), path, label, asked };
                    return Err(Answer::page(404, &unknown));
                }
            },
        };
        let days = ask.days(DAYS);
        let day = |back: u16| today.saturating_sub(jiff::Span::new().days(i64::from(back)));
        Ok(Self {
            path,
            label,
            days,
            offered: [7, 14, 31],
            chosen,
            known,
            span: format!("{} to {}", day(days), day(1)),
        })
    }

    pub(crate) fn listed(&self) -> bool {
        self.known.len() <= LISTED
    }

    pub(crate) fn is(&self, id: &Uuid) -> bool {
        self.chosen.as_ref() == Some(id)
    }

    /// The choice as a query, of as many days.
    pub(crate) fn query(&self, days: &u16) -> String {
        match &self.chosen {
            Some(id) => format!("days={days}&subscription={id}"),
            None => format!("days={days}"),
        }
    }
}

/// The page that is not there, for somebody that is not known.
#[derive(Template)]
#[template(path = "unknown.html")]
struct Unknown<'a> {
    frame: Frame,
    path: &'static str,
    label: &'static str,
    asked: &'a str,
}
