//! What a run of `register` finds before its first step: every check, what is as asked already, and the plan.

use azsreg_model::{
    ActivationRecord, AzureSide, BillingModel, ExitCode, LOCK_NAME, Outcome, PlannedStep, Problem,
    REGISTRATION_OWNER_ROLE, RegisterRequest, Registration, RegistrationId, Replaced, Report, StampInformation,
    StampSide, StatusReport, StepState,
};
use serde_json::Value;

use super::NAME;
use crate::change::claims;
use crate::checks::{self, Found, Target};
use crate::engine::Failure;
use crate::engine::history::{Past, seen};
use crate::engine::journal::{Event, Mark, Marked};
use crate::engine::retry::{self, Policy};
use crate::engine::session::changed_meanwhile;
use crate::ports::{Azure, Clock, Provider, Records, Stamp, World};
use crate::status::{azure_side, stamp_side as read_stamp_side};
use crate::steps::{REGISTERING, newest_activation, no_key_pair};

/// What a run knows before its first step.
pub struct Prepared {
    /// The stamp.
    pub stamp: StampInformation,
    /// The registration to be.
    pub id: RegistrationId,
    /// What the checks found.
    pub found: Found,
    /// Azure's side before.
    pub azure: AzureSide,
    /// The stamp's side before.
    pub stamp_side: StampSide,
    /// Whether the token's flags and numbers are known to be as asked.
    pub as_asked: bool,
    /// Whether the activation is known to be of the registration as it is, and by which run of the stamp, where that is known.
    pub activated: Option<Option<String>>,
    /// The registration that is still to be removed.
    pub remove: Option<Replaced>,
    /// That registration as it is.
    pub doomed: Option<Registration>,
    /// What an interrupted run of the same request has done.
    pub past: Past,
    /// What was agreed to, in this run or in the one that it goes on from.
    agreed: Mark,
    /// Usage reporting and marketplace as they are, where the key or the record says it.
    flags: (Option<bool>, Option<bool>),
}

pub(crate) fn refused(problems: Vec<Problem>) -> Failure {
    Failure { problems, exit: ExitCode::CheckFailed, step: None, steps: Vec::new() }
}

/// Reads the stamp and Azure and makes every check. Changes nothing.
///
/// # Errors
/// All refused checks together, or what could not be asked.
pub async fn prepare<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &RegisterRequest,
    stamp: StampInformation,
    past: Past,
) -> Result<Prepared, Failure> {
    let id = request.id_for(stamp.cloud_id);
    let replaced = request.replaces.as_ref();
    let mut problems = checks::stamp(request, &stamp);
    let target = Target {
        id: &id,
        cloud_id: stamp.cloud_id,
        location: request.location.as_deref(),
        connected: true,
        replaced: replaced.map(|replaced| &replaced.id),
    };
    let checked = checks::azure(world.azure, world.clock, target).await?;
    let doomed = match replaced {
        None => None,
        Some(replaced) => to_remove(world, replaced, &id, &stamp, &mut problems).await?,
    };
    let remove = replaced.filter(|_| doomed.is_some()).cloned();
    let found = match (checked, checks::judged(problems)) {
        (Ok(mut found), Ok(more)) => {
            found.unchecked.extend(more);
            found
        }
        (Ok(_), Err(problems)) | (Err(problems), Ok(_)) => return Err(refused(problems)),
        (Err(more), Err(problems)) => return Err(refused(problems.into_iter().chain(more).collect())),
    };
    if let Some(registration) = found.registration.as_ref().filter(|_| remove.is_none()) {
        not_expired(world, registration).await?;
    }
    let azure = match &found.registration {
        None => AzureSide::default(),
        Some(_) => azure_side(world.azure, world.clock, &id).await?,
    };
    let stamp_side = read_stamp_side(world, stamp.clone()).await?;

    let other = stamp_side.activation.as_ref().map(|record| &record.registration).filter(|other| **other != id);
    if let Some(other) = other.filter(|other| replaced.is_none_or(|replaced| replaced.id != **other)) {
        let alive = checks::activated_elsewhere(world.azure, world.clock, other, stamp.cloud_id).await?;
        alive.map_or(Ok(()), |problem| Err(refused(vec![problem])))?;
    }

    // The world shows the cloud id, the model and the record's flags; the journal knows the rest.
    let open = past.open.as_slice();
    let record = stamp_side.activation.as_ref().filter(|record| record.is_of(&id));
    let flags = |record: &ActivationRecord| record.has_flags(request.usage_reporting, request.marketplace);
    // The key that Azure would give now says what was last written, and whether the activation is of that.
    let claims = match found.registration.as_ref().filter(|_| remove.is_none()) {
        Some(registration) => claims(world.azure, world.clock, &registration.id).await?,
        None => None,
    };
    let current = |record: &ActivationRecord| claims.as_ref().is_none_or(|claims| record.may_be_of(claims));
    let by_record = record.is_some_and(|record| flags(record) && current(record));
    let flagged = claims.as_ref().filter(|claims| claims.usage_reporting.is_some() || claims.marketplace.is_some());
    let by_key = flagged.map(|claims| {
        let same = |flag: Option<bool>, asked: bool| flag.is_none_or(|flag| flag == asked);
        same(claims.usage_reporting, request.usage_reporting) && same(claims.marketplace, request.marketplace)
    });
    // What the journal knows holds while nothing has written to the registration since.
    let etag = found.registration.as_ref().and_then(|registration| registration.etag.as_deref());
    let holds = etag.is_some_and(|etag| !etag.is_empty() && past.written() == Some(etag));
    let by_journal = holds && (past.has("registration") || !past.finished.is_empty() && record.is_none_or(flags));
    let needs_numbers = matches!(request.billing_model, BillingModel::Capacity | BillingModel::Custom);
    let written = if request.renew {
        // To renew is to write again: only this run's own writing counts.
        holds && past.has("registration")
    } else {
        let by_world = by_key.unwrap_or(by_record);
        !past.suspect && (by_journal && by_key != Some(false) || (by_world && !needs_numbers && open.is_empty()))
    };
    let as_asked = remove.is_none()
        && written
        && found.registration.as_ref().is_some_and(|registration| {
            registration.billing_model.eq_ignore_ascii_case(request.billing_model.wire())
                && registration.object_id.is_some()
        });
    let expired = record.is_some_and(|r| r.is_expired(world.clock.now()));
    let activated = match &stamp_side.unread {
        _ if !as_asked || expired => None,
        // The record is not to be seen: the stamp's account of its actions vouches for what the journal knows.
        Some(_) if request.renew && open.is_empty() => None,
        Some(_) => match past.activation() {
            None => None,
            Some(before) => {
                let newest = newest_activation(world.stamp, world.clock).await?;
                newest.filter(|newest| newest == before).map(Some)
            }
        },
        None if request.renew => (by_record && past.has("activation")).then_some(None),
        // A record that names a registration which this run updated may be of the key before.
        None => (by_record && (open.is_empty() || !updated(open) || past.has("activation"))).then_some(None),
    };
    let agreed = seen(&past.open).cloned().unwrap_or_default();
    let flags = (
        claims.as_ref().and_then(|claims| claims.usage_reporting).or_else(|| record.and_then(|r| r.usage_reporting)),
        claims.as_ref().and_then(|claims| claims.marketplace).or_else(|| record.and_then(|r| r.marketplace)),
    );
    let mut prepared =
        Prepared { stamp, id, found, azure, stamp_side, as_asked, activated, remove, doomed, past, agreed, flags };
    let stops = std::mem::take(&mut prepared.found.stops);
    // Where nothing is to be written nothing stands in the way.
    if stops.is_empty() || prepared.nothing_to_do() { Ok(prepared) } else { Err(refused(stops)) }
}

/// Whether the registration to be replaced is still there, and whether it can be removed.
async fn to_remove<A: Azure, S, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    replaced: &Replaced,
    id: &RegistrationId,
    stamp: &StampInformation,
    problems: &mut Vec<Problem>,
) -> Result<Option<Registration>, Failure> {
    let World { azure, clock, .. } = world;
    let read = retry::read(clock, Policy::AZURE, async || azure.registration(&replaced.id).await).await;
    let Some(there) = checks::refusal(read, problems)?.flatten() else { return Ok(None) };
    if there.cloud_id != Some(stamp.cloud_id) {
        return Ok(None);
    }
    // Of the same name: a live one is the new one already.
    if replaced.id == *id && checks::expiry(azure, clock, &there).await?.is_none_or(|end| end > clock.now()) {
        return Ok(None);
    }
    let scope = replaced.id.to_string();
    problems.extend(checks::missing_actions(azure, clock, &scope, checks::REMOVAL, "removing").await?);
    problems.extend(checks::foreign_locks(azure, clock, &replaced.id, false).await?);
    Ok(Some(there))
}

/// Azure does not update an expired registration: said before anything changes.
async fn not_expired<A: Azure, S, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    registration: &Registration,
) -> Result<(), Failure> {
    match checks::expired(world.azure, world.clock, registration).await? {
        Some(problem) => Err(refused(vec![problem])),
        None => Ok(()),
    }
}

/// Whether a run has written a registration that was there before.
fn updated(events: &[Event]) -> bool {
    events.iter().any(|event| match event {
        Event::Succeeded { step, state: StepState::Done, output, .. } => {
            step == "registration" && output["created"] != Value::Bool(true)
        }
        _ => false,
    })
}

impl Prepared {
    fn locked(&self) -> bool {
        self.azure.lock.as_ref().is_some_and(|lock| lock.name.eq_ignore_ascii_case(LOCK_NAME))
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn nothing_to_do(&self) -> bool {
        self.found.provider != Provider::NotRegistered
            && self.as_asked
            && self.activated.is_some()
            && self.locked()
            && self.azure.role.is_some()
    }

    /// What was seen.
    pub(super) fn mark(&self) -> Mark {
        let mut registrations = vec![Marked::of(&self.id, self.found.registration.as_ref())];
        if let Some(remove) = self.remove.as_ref().filter(|remove| remove.id != self.id) {
            registrations.push(Marked::of(&remove.id, self.doomed.as_ref()));
        }
        let record = self.stamp_side.activation.as_ref().map(|record| record.registration.clone());
        let Mark { activation, lost, .. } = self.agreed.clone();
        Mark { registrations, record, activation, lost }
    }

    /// Compares what is there with what was agreed to a moment ago.
    pub(super) fn compare(&mut self, agreed: Mark) -> Result<(), Failure> {
        let now = self.mark();
        if let Some(other) = agreed.registrations.iter().find(|one| !now.registrations.contains(one)) {
            let what = format!("{} was changed or removed since it was agreed to", other.id);
            return Err(Failure::before(changed_meanwhile(what)));
        }
        if now.record != agreed.record {
            let what = "the stamp was activated or deactivated since it was agreed to";
            return Err(Failure::before(changed_meanwhile(what)));
        }
        self.agreed = agreed;
        Ok(())
    }

    /// Whether a registration that is there keeps its activation until the new key comes.
    pub(super) fn was_created(&self) -> bool {
        let bare = self.found.registration.is_none() || self.remove.is_some();
        let deactivated = self.remove.as_ref().is_some_and(|remove| remove.deactivate);
        let unactivated = self.stamp_side.unread.is_none() && self.stamp_side.activation.is_none();
        bare && (unactivated || deactivated)
    }

    /// What a registration that is there is turned to: said before it is done.
    #[must_use]
    pub(super) fn turns(&self, request: &RegisterRequest) -> String {
        let word = |on: bool| if on { "on" } else { "off" };
        let flags = [
            ("usage reporting", self.flags.0, request.usage_reporting),
            ("marketplace", self.flags.1, request.marketplace),
        ];
        let turned = flags.into_iter().filter_map(|(name, now, asked)| {
            let now = now.filter(|now| *now != asked)?;
            Some(format!("{name} {} -> {}", word(now), word(asked)))
        });
        turned.collect::<Vec<_>>().join(", ")
    }

    /// The steps that would run, with what was observed.
    #[must_use]
    pub fn plan(&self, request: &RegisterRequest) -> Vec<PlannedStep> {
        let step = |step: &'static str, changes: bool, detail: String| PlannedStep { step, changes, detail };
        // With the registration and the activation as asked, the stamp is left in peace.
        let settled = self.as_asked && self.activated.is_some();
        let resumed = |step: &str| self.past.has(step);
        const BEFORE: &str = "done by the interrupted run";
        let key_pair = self.stamp.has_key_pair();
        let group = self.id.resource_group.as_str();
        let model = request.billing_model;
        let mut plan = Vec::new();
        // Azure before the stamp: what Azure alone can refuse comes first.
        plan.extend([
            step(
                "provider",
                matches!(self.found.provider, Provider::NotRegistered | Provider::NotKnown),
                match self.found.provider {
                    Provider::Registered => "registered already".into(),
                    Provider::Registering => REGISTERING.into(),
                    Provider::NotRegistered => "register Microsoft.AzureStack in the subscription".into(),
                    Provider::NotKnown => {
                        "register Microsoft.AzureStack, where it is not registered: that is not to be seen".into()
                    }
                },
            ),
            step(
                "resource-group",
                self.found.group.is_none(),
                match &self.found.group {
                    Some(location) => format!("{group} exists in {location}"),
                    None => format!("create {group} in {}", self.found.location),
                },
            ),
        ]);
        if let Some(remove) = &self.remove {
            let name = &remove.id.name;
            if remove.deactivate {
                plan.push(step("deactivation", true, "Remove-AzureStackActivation on the stamp".into()));
            }
            plan.push(step("unlock", true, format!("lift {LOCK_NAME} from {name}")));
            plan.push(step("role-removal", true, "remove the stamp's role from it".into()));
            plan.push(step("removal", true, format!("delete {}", remove.id)));
        }
        plan.extend([
            step(
                "key-pair",
                key_pair && !settled && !resumed("key-pair"),
                match key_pair {
                    _ if settled => "the stamp is activated as asked".into(),
                    true if resumed("key-pair") => BEFORE.into(),
                    true => "Set-RegistrationKeyPair on the stamp".into(),
                    false => no_key_pair(&self.stamp),
                },
            ),
            step(
                "service-principal",
                !settled && !resumed("service-principal"),
                match settled {
                    true => "as registered".into(),
                    false if resumed("service-principal") => BEFORE.into(),
                    false => {
                        "New-AzureBridgeServicePrincipal on the stamp: makes its principal, or finds it again".into()
                    }
                },
            ),
            step(
                "registration",
                !self.as_asked,
                match (self.found.registration.as_ref().filter(|_| self.remove.is_none()), self.as_asked) {
                    (_, true) => format!("{} exists, {model}", self.id.name),
                    (Some(now), false) => {
                        let billing = match now.billing_model.eq_ignore_ascii_case(model.wire()) {
                            true => format!("billing stays {model}"),
                            false => format!("{} -> {}", now.billing_model, model.wire()),
                        };
                        let turns = Some(self.turns(request)).filter(|turns| !turns.is_empty());
                        let turns = turns.map(|turns| format!(", {turns}")).unwrap_or_default();
                        format!("update {} with a new token ({billing}{turns})", self.id.name)
                    }
                    (None, _) => format!("create {} with {model} billing", self.id.name),
                },
            ),
            step(
                "lock",
                !self.locked() || self.remove.is_some(),
                if self.locked() && self.remove.is_none() {
                    format!("{LOCK_NAME} is there")
                } else {
                    format!("place {LOCK_NAME} (CanNotDelete)")
                },
            ),
            step(
                "role",
                self.azure.role.is_none() || self.remove.is_some(),
                match self.azure.role.as_ref().filter(|_| self.remove.is_none()) {
                    Some(role) => format!("{REGISTRATION_OWNER_ROLE} is assigned to {}", role.principal_id),
                    None => format!("assign {REGISTRATION_OWNER_ROLE} to the stamp's principal"),
                },
            ),
            step(
                "activation",
                self.activated.is_none(),
                if self.activated.is_some() {
                    "the stamp is activated for this registration".into()
                } else {
                    "New-AzureStackActivation on the stamp: takes up to ten minutes".into()
                },
            ),
        ]);
        plan
    }

    /// A report of what was found, before any step.
    pub(super) fn report(self, outcome: Outcome, now: jiff::Timestamp) -> Report {
        let known = azsreg_model::Known::default();
        let cloud_id = self.stamp.cloud_id;
        Report {
            status: Some(StatusReport::of(now, Ok(self.azure), Ok(self.stamp_side), &known)),
            ..Report::new(NAME, outcome, cloud_id, Some(self.id))
        }
    }
}
