//! A stamp's tile on the fleet's page: its word, both sides, what is wrong and what to run.

use azsreg_model::{
    AzureSide, Problem, Registration, RegistrationId, SOON, StampSide, Status, StatusReport, command_of, days_of,
};
use jiff::Timestamp;

use crate::fleet::Stamp;
use crate::frame::{Notice, Time};

/// How long a text in a tile may be.
const LONG: usize = 240;

/// A side in a line or two.
pub(crate) struct Side {
    pub(crate) tone: &'static str,
    pub(crate) lines: Vec<String>,
}

pub(crate) struct Tile {
    pub(crate) stamp: Stamp,
    pub(crate) title: String,
    pub(crate) word: &'static str,
    pub(crate) tone: &'static str,
    /// When it ends; else what is said in its place.
    pub(crate) expires: Option<Time>,
    pub(crate) left: Option<String>,
    pub(crate) endless: Option<&'static str>,
    pub(crate) azure: Side,
    pub(crate) own: Side,
    /// What is wrong and what to run.
    pub(crate) findings: Vec<Notice>,
    pub(crate) at: Option<Time>,
    pub(crate) last: Option<(String, Time, bool)>,
    /// How urgent it is, then when it ends.
    pub(crate) order: (u8, i64),
}

/// What the button of a stamp goes by in the page.
pub(crate) fn anchor(stamp: &Stamp) -> String {
    // A name stays while the cloud id is learned.
    let name = stamp.name.as_deref().unwrap_or(&stamp.id);
    name.chars().fold("stamp-".to_owned(), |id, c| match c {
        'a'..='z' | '0'..='9' | '-' => id + &c.to_string(),
        _ => format!("{id}_{:x}", u32::from(c)),
    })
}

impl Tile {
    /// What its button goes by in the page.
    pub(crate) fn anchor(&self) -> String {
        anchor(&self.stamp)
    }

    pub(crate) fn of(stamp: Stamp, now: Timestamp) -> Self {
        let title = stamp.name.clone().unwrap_or_else(|| stamp.id.clone());
        let at = stamp.at.map(Time::of);
        let last = stamp.last.clone().map(|(what, at, ended)| (what, Time::of(at), ended));
        let blank = |tone, line: &str| Side { tone, lines: vec![line.to_owned()] };
        let noticed = |problem: &Problem| {
            let text = format!("{} ({})", sentence(cut(&problem.message)), problem.code.id);
            // Half of a command is none; a sentence may end early.
            let next =
                if command_of(problem.then()).is_some() { problem.then().to_owned() } else { cut(problem.then()) };
            Notice { text, next: Some(next).filter(|next| !next.is_empty()) }
        };
        let report = match &stamp.seen {
            Some(Ok(report)) => report,
            Some(Err(problem)) => {
                let findings = vec![noticed(problem)];
                return Self {
                    word: "Not seen",
                    tone: "bad",
                    expires: None,
                    left: None,
                    endless: None,
                    azure: blank("", "Not seen"),
                    own: blank("", "Not seen"),
                    findings,
                    order: (1, i64::MAX),
                    title,
                    at,
                    last,
                    stamp,
                };
            }
            None => {
                return Self {
                    word: if stamp.asking { "Being asked" } else { "Not asked yet" },
                    tone: "",
                    expires: None,
                    left: None,
                    endless: None,
                    azure: blank("", "Not asked yet"),
                    own: blank("", "Not asked yet"),
                    findings: Vec::new(),
                    order: (4, i64::MAX),
                    title,
                    at,
                    last,
                    stamp,
                };
            }
        };
        // What could not be seen again comes first: the rest is of an earlier time.
        let mut findings: Vec<Notice> = stamp.since.iter().map(noticed).collect();
        findings.extend(report.findings.iter().map(noticed));
        findings.extend(report.azure.as_ref().err().map(noticed));
        findings.extend(report.stamp.as_ref().err().map(noticed));
        let end = ends(report).filter(|_| report.days_left.is_some());
        let registered = report.azure.as_ref().is_ok_and(|azure| azure.registration.is_some())
            || report.stamp.as_ref().is_ok_and(|stamp| stamp.activation.is_some());
        // The year 9999 stands for never.
        let endless = match (end, ends(report)) {
            (None, Some(_)) => Some("Never"),
            (None, None) if registered => Some("Not known"),
            _ => None,
        };
        let left = end.map(|end| end.duration_since(now).as_secs());
        let tone = match report.status {
            Status::Registered if findings.is_empty() => "good",
            Status::Registered
            | Status::Expiring
            | Status::RegisteredInAzure
            | Status::ActivatedOnStamp
            | Status::InProgress => "warn",
            _ => "bad",
        };
        // What has ended or ends soon comes first; then what is wrong otherwise; then the rest. In each as it ends: what
        // nobody knows before what never does.
        let urgent = match (left, tone) {
            (Some(left), _) if left < SOON.as_secs() => 0,
            (_, "bad") => 1,
            (_, "warn") => 2,
            _ => 3,
        };
        let order = (urgent, left.unwrap_or(if endless == Some("Never") { i64::MAX } else { i64::MAX - 1 }));
        Self {
            word: report.status.title(),
            tone,
            expires: end.map(Time::of),
            left: left.map(time_left),
            endless,
            azure: azure(&report.azure),
            own: own(&report.stamp, report.azure.as_ref().ok().map(|azure| azure.registration.as_ref())),
            findings,
            order,
            title,
            at,
            last,
            stamp,
        }
    }
}

/// A text that is not longer than a tile is for.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((at, _)) => format!("{} ...", &text[..at]),
        None => text.to_owned(),
    }
}

/// How long until it ends, from seconds: in whole days, in hours on the last.
fn time_left(seconds: i64) -> String {
    let (days, hours) = (seconds.abs() / 86_400, seconds.abs() / 3_600);
    let about = match (days, hours) {
        (0, 0) => "less than an hour".to_owned(),
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (days, _) => days_of(days),
    };
    if seconds > 0 { format!("in {about}") } else { format!("{about} ago") }
}

/// A message that begins with a word, as a sentence does; one that begins with a name stays.
fn sentence(message: String) -> String {
    let word = message.split(' ').next().unwrap_or_default();
    match message.chars().next() {
        Some(first) if word.chars().all(|c| c.is_ascii_lowercase() || c == '\'') => {
            format!("{}{}", first.to_ascii_uppercase(), &message[1..])
        }
        _ => message,
    }
}

/// When it ends, as the stamp's record says, or Azure's key.
fn ends(report: &StatusReport) -> Option<Timestamp> {
    let record = report.stamp.as_ref().ok().and_then(|stamp| stamp.activation.as_ref());
    let record = record.and_then(|record| record.expiration.as_ref()).map(|end| end.at);
    record.or_else(|| report.azure.as_ref().ok().and_then(|azure| azure.expires))
}

fn azure(side: &Result<AzureSide, Problem>) -> Side {
    let side = match side {
        Ok(side) => side,
        Err(problem) => return Side { tone: "warn", lines: vec![format!("Not read ({})", problem.code.id)] },
    };
    let Some(registration) = &side.registration else {
        return Side { tone: "bad", lines: vec!["No registration".into()] };
    };
    let id = &registration.id;
    let mut on = vec![registration.billing_model.clone()];
    on.push(if side.lock.is_some() { "locked".into() } else { "not locked".into() });
    if registration.object_id.is_some() {
        on.push(if side.role.is_some() { "role assigned".into() } else { "no role".into() });
    }
    if side.principal == Some(false) {
        on.push("principal gone".into());
    }
    let lines = vec![id.name.clone(), format!("{}, {}", id.resource_group, id.subscription), on.join(", ")];
    Side { tone: "", lines }
}

/// The stamp's side. `registration` is Azure's, where Azure was read.
fn own(side: &Result<StampSide, Problem>, registration: Option<Option<&Registration>>) -> Side {
    let side = match side {
        Ok(side) => side,
        Err(problem) => return Side { tone: "warn", lines: vec![format!("Not read ({})", problem.code.id)] },
    };
    let information = &side.information;
    let about = format!("Build {}, {}", information.build(), information.size());
    let (tone, activated) = match (&side.activation, &side.unread) {
        (Some(record), _) if registration.flatten().is_some_and(|known| known.id == record.registration) => {
            ("", "Activated for this registration".to_owned())
        }
        (Some(record), _) => {
            let tone = if registration.is_some() { "bad" } else { "" };
            let RegistrationId { subscription, resource_group, name } = &record.registration;
            (tone, format!("Activated for {name} in {resource_group}, {subscription}"))
        }
        (None, Some(why)) => ("warn", format!("Record not read: {}", cut(why))),
        (None, None) => ("bad", "Not activated".to_owned()),
    };
    Side { tone, lines: vec![activated, about] }
}

#[cfg(test)]
mod tests {
    use azsreg_model::{Known, code};

    use super::*;

    #[test]
    fn the_last_day_is_counted_in_hours() {
        for (seconds, said) in [
            (86_400 * 64 + 5, "in 64 days"),
            (86_400, "in 1 day"),
            (86_399, "in 23 hours"),
            (3_600, "in 1 hour"),
            (59, "in less than an hour"),
            (-1_800, "less than an hour ago"),
            (-90_000, "1 day ago"),
        ] {
            assert_eq!(time_left(seconds), said);
        }
    }

    /// A registered stamp that expires in so many days.
    fn registered(days: i64) -> Stamp {
        let end = Timestamp::from_second(days * 86_400).unwrap();
        let id = "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/g/providers/Microsoft.AzureStack\
                  /registrations/r";
        let registration = Registration {
            id: id.parse().unwrap(),
            cloud_id: None,
            object_id: None,
            billing_model: "Capacity".into(),
            etag: None,
        };
        let azure = AzureSide { registration: Some(registration), expires: Some(end), ..AzureSide::default() };
        let away = Problem::new(&code::PEP_UNREACHABLE, "away");
        let at = Timestamp::UNIX_EPOCH;
        let report = StatusReport::of(at, Ok(azure), Err(away), &Known::default());
        let seen = Some(Ok(report));
        Stamp { id: "a".into(), name: None, seen, at: Some(at), asking: false, last: None, since: None }
    }

    #[test]
    fn what_has_ended_is_first_then_what_ends_next() {
        let tile = |days| Tile::of(registered(days), Timestamp::UNIX_EPOCH);
        assert_eq!([-1, 30].map(|days| tile(days).word), ["Expired", "Registered in Azure"]);
        let mut orders = [200, -1, 30, -300].map(|days| (tile(days).order, days));
        orders.sort_unstable();
        assert_eq!(orders.map(|(_, days)| days), [-300, -1, 30, 200]);
    }

    #[test]
    fn no_two_names_have_one_button() {
        let of = |name: &str| anchor(&Stamp { name: Some(name.into()), ..registered(1) });
        let all: std::collections::BTreeSet<String> = ["all", "A B", "A-B", "a b", "a_b", "K\u{f6}ln"].map(of).into();
        assert_eq!(all.len(), 6, "{all:?}");
    }
}
