//! Both sides of a registration put together: one word, what is wrong with it, and the command that mends it.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::{
    ActivationRecord, BillingModel, LOCK_NAME, Lock, Problem, RegisterRequest, Registration, RegistrationId,
    RoleAssignment, StampInformation, code, quoted,
};

/// What ends within so long ends soon.
pub const SOON: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The one word for a stamp's registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Azure and the stamp agree.
    Registered,
    /// They agree, but its time is over within ninety days.
    Expiring,
    /// Azure has it; the stamp's record was not read.
    RegisteredInAzure,
    /// The stamp is activated; Azure was not read.
    ActivatedOnStamp,
    /// One side has it, the other has not.
    HalfRegistered,
    /// Both sides have one, but not the same, or it is another stamp's, or the stamp's principal is gone.
    Mismatch,
    /// Its time is over.
    Expired,
    /// A command is changing it at the moment: what one side has, the other has not yet.
    InProgress,
    /// Neither side has it.
    NotRegistered,
    /// Neither side could be read far enough.
    Unknown,
}

impl Status {
    /// Every word, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Registered,
        Self::Expiring,
        Self::RegisteredInAzure,
        Self::ActivatedOnStamp,
        Self::HalfRegistered,
        Self::Mismatch,
        Self::Expired,
        Self::InProgress,
        Self::NotRegistered,
        Self::Unknown,
    ];

    /// The word as people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Registered => "Registered",
            Self::Expiring => "Expiring",
            Self::RegisteredInAzure => "Registered in Azure",
            Self::ActivatedOnStamp => "Activated on the stamp",
            Self::HalfRegistered => "Half registered",
            Self::Mismatch => "Mismatch",
            Self::Expired => "Expired",
            Self::InProgress => "In progress",
            Self::NotRegistered => "Not registered",
            Self::Unknown => "Unknown",
        }
    }
}

/// What Azure shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AzureSide {
    /// It was not looked at, nor had to be: the machine is at a disconnected stamp.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_asked: bool,
    /// The registration, if there is one.
    pub registration: Option<Registration>,
    /// The lock, if there is one.
    pub lock: Option<Lock>,
    /// The bridge's role, if it is assigned.
    pub role: Option<RoleAssignment>,
    /// Whether the bridge's principal exists in the directory, where the caller may see that.
    pub principal: Option<bool>,
    /// Until when the registration's key is good, where the caller may read it; year 9999 stands for always, which programs get as null.
    #[serde(serialize_with = "expiry")]
    pub expires: Option<Timestamp>,
    /// The key was asked for, and may not be read or does not say until when it is good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub key_unread: bool,
    /// How many hosts were last registered, where the caller may read that.
    pub hosts: Option<usize>,
    /// The directory of the subscription.
    pub tenant: Option<String>,
    /// Where else a registration of the stamp was looked for, where neither its record nor the named subscription has one.
    pub searched: Option<Searched>,
}

/// A search for a stamp's registration in all subscriptions that the sign-in sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Searched {
    /// How many subscriptions were looked at.
    pub subscriptions: usize,
    /// How many were not: more than are looked at, out of time, or not readable.
    pub not_looked_at: usize,
}

impl Searched {
    /// As people read it.
    #[must_use]
    pub fn text(self) -> String {
        let many = |n: usize| if n == 1 { "1 subscription".to_owned() } else { format!("{n} subscriptions") };
        match self.not_looked_at {
            0 => many(self.subscriptions),
            left => format!("{} ({left} more could not be looked at)", many(self.subscriptions)),
        }
    }
}

/// What the stamp shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StampSide {
    /// Its information.
    pub information: StampInformation,
    /// Its activation record: absent, or `unread` says why it is not known.
    pub activation: Option<ActivationRecord>,
    /// Why the record was not read.
    pub unread: Option<String>,
}

/// When a registration was written, and its etag then. Azure changes the etag with each write and at no other time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The etag, where it was recorded.
    pub etag: Option<String>,
    /// When, by this machine's clock.
    pub at: Timestamp,
}

/// How long after a write of a capacity registration its key ends.
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

impl Written {
    /// Whether the registration is as it was written then. Without an etag the year of a capacity registration tells: it begins
    /// with the write.
    #[must_use]
    pub fn holds(&self, etag: Option<&str>, expires: Option<Timestamp>) -> bool {
        match (self.etag.as_deref(), etag) {
            (Some(then), Some(now)) => then == now && !now.is_empty(),
            _ => expires.and_then(finite).is_some_and(|end| {
                let written = end.checked_sub(YEAR).map(|written| written.duration_since(self.at).as_secs());
                written.is_ok_and(|after| (-120..=300).contains(&after))
            }),
        }
    }
}

/// What Azure takes and never shows, as this machine remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The number, or the tag.
    pub text: String,
    /// With which write.
    pub written: Written,
}

/// An operation that works on the stamp at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Which, who runs it, in which process and since when: one line.
    pub by: String,
    /// The step that it is at, as far as its journal tells.
    pub step: Option<String>,
    /// Since when.
    pub step_since: Option<Timestamp>,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by)?;
        match (&self.step, self.step_since) {
            (Some(step), Some(since)) => write!(f, ", at the step {step} since {since:.0}"),
            _ => Ok(()),
        }
    }
}

/// What this machine's journals know of a stamp's registration, and the world does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// What was last asked for: flags, billing model.
    pub details: Option<RegisterRequest>,
    /// The newest write of the registration.
    pub written: Option<Written>,
    /// The agreement number that was written last.
    pub agreement_number: Option<Remembered>,
    /// The asset tag that was written last.
    pub ms_asset_tag: Option<Remembered>,
    /// The registration that was made of it.
    pub registration: Option<RegistrationId>,
    /// How many hosts were registered.
    pub hosts: Option<usize>,
    /// The directory of the subscription at that time.
    pub tenant: Option<String>,
    /// What works on the stamp at the moment.
    pub running: Option<Running>,
    /// Whether it was registered disconnected: it has no principal then, whatever Azure fills in.
    pub disconnected: bool,
}

/// Both sides of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// In one word.
    pub status: Status,
    /// When it was looked at.
    pub at: Timestamp,
    /// Whole days until it expires; since it has, as a negative number, -1 for less than two days; none when it never does or is not known.
    pub days_left: Option<i64>,
    /// The nearest of 90, 30 and 7 days that it expires within.
    pub expires_within: Option<u16>,
    /// What is wrong, and what to run, the gravest first.
    pub findings: Vec<Problem>,
    /// What works on the stamp at the moment, on this machine.
    pub running: Option<Running>,
    /// Azure's side, or why not.
    #[serde(serialize_with = "side")]
    pub azure: Result<AzureSide, Problem>,
    /// The stamp's side, or why not.
    #[serde(serialize_with = "side")]
    pub stamp: Result<StampSide, Problem>,
}

/// A side is itself, or `{"problem": ...}`.
fn side<T: Serialize, S: Serializer>(side: &Result<T, Problem>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Unreadable<'a> {
        problem: &'a Problem,
    }
    match side {
        Ok(side) => side.serialize(serializer),
        Err(problem) => Unreadable { problem }.serialize(serializer),
    }
}

impl StatusReport {
    /// What is wrong, and what could not be read.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.findings.clone();
        problems.extend(self.azure.as_ref().err().cloned());
        problems.extend(self.stamp.as_ref().err().cloned());
        if let Ok(StampSide { unread: Some(why), .. }) = &self.stamp {
            problems.push(Problem::new(&code::STAMP_ARM, format!("the stamp's activation record was not read: {why}")));
        }
        problems
    }

    /// Puts the two sides together.
    #[must_use]
    pub fn of(
        at: Timestamp,
        azure: Result<AzureSide, Problem>,
        stamp: Result<StampSide, Problem>,
        known: &Known,
    ) -> Self {
        let view = Views::of(&azure, &stamp, at, known);
        let status = view.status(known);
        let end = view.end();
        let days_left = end.map(|end| end.duration_since(at).as_secs()).map(|left| match left / 86_400 {
            days if left <= 0 => days.min(-1),
            days => days,
        });
        let expires_within =
            days_left.and_then(|days| [7u16, 30, 90].into_iter().find(|limit| days < i64::from(*limit)));
        let findings = view.findings(status, days_left, known);
        Self { status, at, days_left, expires_within, findings, running: known.running.clone(), azure, stamp }
    }
}

/// The two sides as far as they were read.
struct Views<'a> {
    at: Timestamp,
    azure: Option<&'a AzureSide>,
    registration: Option<Option<&'a Registration>>,
    information: Option<&'a StampInformation>,
    record: Option<Option<&'a ActivationRecord>>,
    /// The bridge's principal as the registration names it. A disconnected stamp has none.
    bridge: Option<Uuid>,
}

/// A day, as people write it.
fn day(at: Option<Timestamp>) -> String {
    at.map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

/// An expiry; what never ends has none.
fn expiry<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.and_then(finite).serialize(serializer)
}

/// What an operator wants of a renewal; what is not said stays.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The billing model.
    pub billing_model: Option<BillingModel>,
    /// The agreement.
    pub agreement_number: Option<String>,
    /// The asset tag.
    pub ms_asset_tag: Option<String>,
    /// Usage reporting.
    pub usage_reporting: Option<bool>,
    /// Marketplace items.
    pub marketplace: Option<bool>,
}

/// The renewal of a disconnected stamp's registration, as a command: it begins at the stamp, with what is wanted and with the
/// details that are known.
#[must_use]
pub fn offline_renewal(
    registration: &Registration,
    expires: Option<Timestamp>,
    known: &Known,
    wanted: &Wanted,
) -> String {
    let registered = registration.billing_model.parse().ok();
    let registered = registered.or(known.details.as_ref().map(|details| details.billing_model));
    let model = wanted.billing_model.or(registered);
    let detail = |known: Option<&String>, unknown: &str| known.map_or_else(|| unknown.to_owned(), |text| quoted(text));
    let details = known.details.as_ref();
    // A number that somebody may have changed since is not written back: it is for the operator to say.
    let held = |remembered: &Option<Remembered>| {
        let held = remembered.as_ref().filter(|one| one.written.holds(registration.etag.as_deref(), expires));
        held.map(|one| one.text.clone())
    };
    let more = match model {
        Some(BillingModel::Capacity) => {
            let number = wanted.agreement_number.clone().or_else(|| held(&known.agreement_number));
            format!(" --agreement-number {}", detail(number.as_ref(), "NUMBER"))
        }
        Some(BillingModel::Custom) => {
            let tag = wanted.ms_asset_tag.clone().or_else(|| held(&known.ms_asset_tag));
            format!(" --ms-asset-tag {}", detail(tag.as_ref(), "TAG"))
        }
        _ => String::new(),
    };
    // What would be off without a word stays on; with capacity billing usage reporting is off whatever is asked.
    let on = |wanted: Option<bool>, known: fn(&RegisterRequest) -> bool, option: &str| {
        if wanted.unwrap_or(details.is_some_and(known)) { format!(" {option} on") } else { String::new() }
    };
    let usage = wanted.usage_reporting.or((model == Some(BillingModel::Capacity)).then_some(false));
    let usage = on(usage, |details| details.usage_reporting, "--usage-reporting");
    let more = format!("{more}{usage}{}", on(wanted.marketplace, |details| details.marketplace, "--marketplace"));
    let model = model.filter(|model| !matches!(model, BillingModel::PayAsYouUse | BillingModel::Ruggedized));
    let model = model.map_or("MODEL", BillingModel::as_str);
    format!("azsreg offline renew start --billing-model {model}{more} --out FILE  (at the stamp)")
}

/// So many days, as people say it.
#[must_use]
pub fn days_of(days: i64) -> String {
    match days {
        0 => "less than a day".into(),
        1 => "1 day".into(),
        _ => format!("{days} days"),
    }
}

/// An activation whose registration is gone.
fn orphaned(record: &ActivationRecord, known: &Known) -> Problem {
    let id = &record.registration;
    let model = known.details.as_ref().map(|details| details.billing_model);
    let mut next = format!(
        "azsreg register --subscription {} --billing-model {} --name {} --resource-group {}",
        id.subscription,
        model.map_or("MODEL", BillingModel::as_str),
        quoted(&id.name),
        quoted(&id.resource_group)
    );
    // These two are for connected stamps alone.
    if !matches!(model, Some(BillingModel::PayAsYouUse | BillingModel::Ruggedized)) {
        next.push_str("  (disconnected: begin with azsreg offline token)");
    }
    Problem::new(&code::ACTIVATION_ORPHANED, format!("the stamp is activated for {id}, which is gone")).next(next)
}

/// An end that will come: the last year of the calendar stands for always.
#[must_use]
pub fn finite(end: Timestamp) -> Option<Timestamp> {
    (end.strftime("%Y").to_string().as_str() < "9999").then_some(end)
}

impl<'a> Views<'a> {
    fn of(
        azure: &'a Result<AzureSide, Problem>,
        stamp: &'a Result<StampSide, Problem>,
        at: Timestamp,
        known: &Known,
    ) -> Self {
        let azure = azure.as_ref().ok();
        let named = azure.and_then(|azure| azure.registration.as_ref()?.object_id);
        Self {
            bridge: named.filter(|_| !known.disconnected),
            at,
            azure,
            registration: azure.map(|azure| azure.registration.as_ref()),
            information: stamp.as_ref().ok().map(|stamp| &stamp.information),
            record: match stamp {
                Ok(StampSide { unread: None, activation, .. }) => Some(activation.as_ref()),
                _ => None,
            },
        }
    }

    /// When it ends: as the stamp's record says, or as Azure's key does.
    fn end(&self) -> Option<Timestamp> {
        let record = self.record.flatten().and_then(|record| record.expiration.as_ref()).map(|end| end.at);
        let azure = self.azure.filter(|azure| azure.registration.is_some()).and_then(|azure| azure.expires);
        record.or(azure).and_then(finite)
    }

    /// Whether the registration is another stamp's.
    fn foreign(&self) -> bool {
        let registered = self.registration.flatten().and_then(|registration| registration.cloud_id);
        let own = self.information.map(|information| information.cloud_id);
        matches!((registered, own), (Some(registered), Some(own)) if registered != own)
    }

    /// The directories of the subscription, where it has changed: then and now.
    fn tenants<'k>(&self, known: &'k Known) -> Option<(&'k str, &'a str)> {
        let (now, then) = (self.azure?.tenant.as_deref()?, known.tenant.as_deref()?);
        (!now.eq_ignore_ascii_case(then)).then_some((then, now))
    }

    /// Whether the bridge's principal is not in the directory any more.
    fn is_without_bridge(&self) -> bool {
        self.bridge.is_some() && self.azure.is_some_and(|azure| azure.principal == Some(false))
    }

    fn status(&self, known: &Known) -> Status {
        match self.settled(known) {
            Status::HalfRegistered | Status::Mismatch | Status::NotRegistered if known.running.is_some() => {
                Status::InProgress
            }
            status => status,
        }
    }

    /// The word for what is there, whatever works on it.
    fn settled(&self, known: &Known) -> Status {
        let expired = self.end().is_some_and(|end| end <= self.at);
        let expiring = self.end().is_some_and(|end| end.duration_since(self.at) < SOON);
        match (self.registration, self.record) {
            (Some(Some(_)), _) if self.foreign() => Status::Mismatch,
            (Some(Some(registration)), Some(Some(record))) if record.registration != registration.id => {
                Status::Mismatch
            }
            (Some(None), Some(None)) => Status::NotRegistered,
            // One subscription was looked at, and the stamp not at all.
            (Some(None), None) if self.information.is_none() => Status::Unknown,
            (Some(None), None) => Status::NotRegistered,
            _ if expired => Status::Expired,
            // Both sides have it, and yet the stamp can't use it.
            (Some(Some(_)), _) if self.tenants(known).is_some() || self.is_without_bridge() => Status::Mismatch,
            (Some(Some(registration)), Some(Some(record))) if record.is_of(&registration.id) => {
                if expiring {
                    Status::Expiring
                } else {
                    Status::Registered
                }
            }
            (Some(Some(_)), Some(_)) | (Some(None), Some(Some(_))) => Status::HalfRegistered,
            (Some(Some(_)), None) => Status::RegisteredInAzure,
            (None, Some(Some(_))) => Status::ActivatedOnStamp,
            (None, _) => Status::Unknown,
        }
    }

    fn findings(&self, status: Status, days_left: Option<i64>, known: &Known) -> Vec<Problem> {
        // What is there changes, and to mend it is not for a second command.
        if let Some(running) = &known.running {
            let message = format!("the stamp is being worked on by {running}");
            return vec![Problem::new(&code::LOCKED, message).next("azsreg status  when that has ended")];
        }
        let mut found = Vec::new();
        let registration = self.registration.flatten();
        let record = self.record.flatten();
        let subscription =
            registration.map(|r| r.id.subscription).or_else(|| record.map(|r| r.registration.subscription));
        let command = |verb: &str| match subscription {
            Some(id) => format!("azsreg {verb} --subscription {id}"),
            None => format!("azsreg {verb}"),
        };
        // A disconnected stamp's registration has no principal: it is renewed by files that are carried.
        let renew = match registration {
            Some(registration) if self.bridge.is_none() => {
                offline_renewal(registration, self.azure.and_then(|azure| azure.expires), known, &Wanted::default())
            }
            Some(_) => command("renew"),
            // Azure was not read, or has it no more: nobody says which of the two it is.
            None => format!("{}  (disconnected: azsreg offline renew start)", command("renew")),
        };
        match status {
            Status::Mismatch if self.foreign() => {
                let name = registration.map(|r| r.id.name.as_str()).unwrap_or_default();
                let message = format!("the registration {name} belongs to another stamp than this one");
                found.push(Problem::new(&code::OTHER_CLOUD_ID, message).next(command("list")));
            }
            Status::Mismatch if record.is_some_and(|r| registration.is_none_or(|known| known.id != r.registration)) => {
                let named = record.map(|r| r.registration.to_string()).unwrap_or_default();
                let message = format!("the stamp is activated for {named}, but Azure has another registration of it");
                found.push(Problem::new(&code::ACTIVATED_ELSEWHERE, message).next(command("repair")));
            }
            Status::Expired => {
                let expired = Problem::new(&code::EXPIRED, format!("the registration expired on {}", day(self.end())));
                match (self.registration, record) {
                    // There is nothing left to renew.
                    (Some(None), Some(record)) => {
                        let orphaned = orphaned(record, known);
                        let next = orphaned.then().to_owned();
                        found.extend([orphaned, expired.next(next)]);
                    }
                    _ => found.push(expired.next(renew.clone())),
                }
            }
            Status::HalfRegistered => match (registration, record) {
                (None, Some(record)) => found.push(orphaned(record, known)),
                (_, Some(record)) => {
                    let message = format!("the stamp's activation is {:?}, not Succeeded", record.provisioning_state);
                    found.push(Problem::new(&code::NOT_ACTIVATED, message).next(command("repair")));
                }
                _ => found.push(
                    Problem::new(&code::HALF_REGISTERED, "Azure has the registration; the stamp is not activated")
                        .next(command("repair")),
                ),
            },
            Status::NotRegistered => {
                let looked = self.azure.and_then(|azure| azure.searched).map(Searched::text);
                let place = looked.map_or_else(|| "in Azure".to_owned(), |looked| format!("in {looked}"));
                let message = match self.record {
                    Some(_) => {
                        format!("no registration of the stamp was found {place}, and the stamp is not activated")
                    }
                    None => format!("no registration of the stamp was found {place}; the stamp's record was not read"),
                };
                found.push(Problem::new(&code::NOT_REGISTERED, message));
            }
            _ => {}
        }
        if let Some(days) =
            days_left.filter(|days| (0..SOON.as_hours() / 24).contains(days) && status != Status::Expired)
        {
            let when = day(self.end());
            found.push(
                Problem::new(&code::EXPIRING, format!("the registration expires on {when}, in {}", days_of(days)))
                    .next(renew.clone()),
            );
        }
        let (Some(azure), Some(_)) = (self.azure, registration) else { return found };
        if let Some((then, now)) = self.tenants(known) {
            let message = format!("the subscription was in the directory {then} and is in {now} now");
            found.push(Problem::new(&code::TENANT_CHANGED, message).next(renew.clone()));
        } else if let Some(id) = self.bridge.filter(|_| self.is_without_bridge()) {
            let message = format!("the directory of the subscription does not have the stamp's principal {id}");
            found.push(
                Problem::new(&code::PRINCIPAL_MISSING, message)
                    .cause("The bridge application was deleted, the subscription has changed its directory, or the stamp is disconnected.")
                    .next(format!("{}  (a disconnected stamp has no principal: nothing to do)", command("renew"))),
            );
        }
        if azure.lock.is_none() {
            let message = format!("{LOCK_NAME} is not on the registration: it can be deleted by accident");
            found.push(Problem::new(&code::LOCK_MISSING, message).next(command("repair")));
        }
        // A registration of a disconnected stamp has no principal and needs no role.
        if azure.role.is_none() && self.bridge.is_some() && !self.is_without_bridge() {
            let message = "the stamp's principal has no role on the registration: marketplace and usage fail";
            found.push(Problem::new(&code::ROLE_MISSING, message).next(command("repair")));
        }
        let nodes = self.information.and_then(|information| information.nodes).map(|nodes| nodes as usize);
        let hosts = azure.hosts.or(known.hosts);
        if let (Some(nodes), Some(hosts)) = (nodes, hosts)
            && hosts > 0
            && nodes != hosts
            && !self.foreign()
        {
            let message = format!("scale changed: the stamp has {nodes} nodes, {hosts} were registered");
            found.push(Problem::new(&code::SCALE_CHANGED, message).next(renew));
        }
        found
    }
}
