//! Where the request of `set`, `renew` and `change-subscription` comes from: what is registered now, read from the
//! activation record, the registration and the journal, with what the operator wants otherwise.

use azsreg_model::{
    ActivationClaims, BillingModel, Known, Problem, RegisterRequest, Registration, RegistrationId, Remembered,
    Replaced, Report, RequestError, StampInformation, StampSide, TokenVersion, Wanted, code, offline_renewal,
};
use uuid::Uuid;

use crate::checks;
use crate::engine::Failure;
use crate::engine::history::{History, is_as_seen, seen};
use crate::engine::journal::{Event, Mark, Marked, request_of, succeeded};
use crate::engine::retry::{self, Policy};
use crate::engine::session::{Agreed, Books, Desk, Question};
use crate::ports::{Azure, Class, Clock, PortError, Records, Stamp, World};
use crate::register::{self, refused};
use crate::status::{self, stamp_side};
use crate::steps::{lock, unread_activation};

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// In place: billing model, numbers, features.
    Set,
    /// Once more, for another year or another number of nodes.
    Renew,
    /// In another subscription.
    ChangeSubscription,
    /// Not at all: what something else registered is only read.
    Adopt,
}

impl Change {
    /// The command, and the operation's name in journals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Renew => "renew",
            Self::ChangeSubscription => "change-subscription",
            Self::Adopt => "adopt",
        }
    }
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The new subscription.
    pub subscription: Uuid,
    /// The resource group there; as before where none is given.
    pub resource_group: Option<String>,
    /// Its location.
    pub location: Option<String>,
}

/// What the operator wants otherwise. What is not named stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Another billing model.
    pub billing_model: Option<BillingModel>,
    /// Another agreement, or the one that nobody remembers.
    pub agreement_number: Option<String>,
    /// Another asset tag, or the one that nobody remembers.
    pub ms_asset_tag: Option<String>,
    /// Usage reporting.
    pub usage_reporting: Option<bool>,
    /// Marketplace items.
    pub marketplace: Option<bool>,
    /// Another name for the registration.
    pub name: Option<String>,
    /// Another subscription.
    pub to: Option<Destination>,
    /// Another token version.
    pub token_version: Option<TokenVersion>,
}

/// Changes a registration: what a person asked for, from the first look to the report.
///
/// # Errors
/// It was not agreed to, a detail is not known, a check failed, or a step did; the same command goes on from there.
pub async fn run<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    change: Change,
    subscription: Uuid,
    wishes: &Wishes,
    information: StampInformation,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let session = desk.begin(world.clock, information.cloud_id, change.name())?;
    let begun = session.history.begun().to_vec();
    let ended = go_on(world, change, (subscription, wishes), information, session.history, desk).await;
    if desk.plan { ended } else { lock::or_put_back(world.azure, world.clock, &begun, ended).await }
}

/// The looks, the question, and what `register` does with the request. The lock on the stamp is held.
async fn go_on<A: Azure, S: Stamp, R: Records, C: Clock, B: Books>(
    world: World<'_, A, S, R, C>,
    change: Change,
    (subscription, wishes): (Uuid, &Wishes),
    information: StampInformation,
    mut history: History<B::Journal>,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    if !desk.plan {
        register::wait_for_running(world, desk.watch).await?;
    }
    let known = history.known();
    // A run that was interrupted goes on with what it had found out and was agreed to, unless either side was changed since. A
    // journal that does not say what was seen does not say that it was agreed to either.
    let mut resumed = begun(history.begun(), change, subscription, wishes).filter(|_| seen(history.begun()).is_some());
    if let Some(request) = &resumed
        && !is_as_agreed(world, request, &information, history.begun()).await?
    {
        history.leave();
        resumed = None;
    }
    let mut wishes = wishes.clone();
    let mut agreed = Agreed::default();
    let derived = loop {
        if let Some(request) = resumed {
            break Derived { request, warnings: Vec::new(), lost: Vec::new(), mark: Mark::default() };
        }
        let ask = &mut |option: &str, remembered: Option<&Remembered>| match desk.plan {
            true => None,
            false => desk.consent.number(option, remembered),
        };
        let derived = derive(world, change, subscription, &wishes, &information, &known, ask).await?;
        // What was asked for once is not asked for again.
        wishes.agreement_number.clone_from(&derived.request.agreement_number);
        wishes.ms_asset_tag.clone_from(&derived.request.ms_asset_tag);
        let question = derived.question();
        match question.filter(|_| !desk.plan) {
            None => break derived,
            Some(question) if agreed.covers(&question, desk.consent)? => break derived,
            Some(_) => {}
        }
    };
    let Derived { request, warnings, lost, mark } = derived;
    for warning in &warnings {
        desk.watch.warning(warning);
    }
    let mark = agreed.asked().then_some(mark);
    let order = (change.name(), &request, mark);
    let report = register::settle(world, order, information, history, desk).await?;
    Ok(Report { warnings: [warnings, report.warnings].concat(), lost, ..report })
}

/// Whether what an interrupted run was agreed to for is what is there, but for what it did itself.
async fn is_as_agreed<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    request: &RegisterRequest,
    information: &StampInformation,
    begun: &[Event],
) -> Result<bool, Failure> {
    if !is_as_seen(world.azure, world.clock, begun).await? {
        return Ok(false);
    }
    let deactivates = request.replaces.as_ref().is_some_and(|replaced| replaced.deactivate);
    let Some(mark) = seen(begun).filter(|_| deactivates && succeeded(begun, "removal").is_none()) else {
        return Ok(true);
    };
    let side = stamp_side(world, information.clone()).await?;
    let lost = items(world.readable(&side), information).await?;
    let activation = unread_activation(world, &side).await?;
    Ok(mark.covers(&Mark { lost, activation, ..Mark::default() }))
}

/// A request made of what is and what is wanted.
#[derive(Debug, Clone)]
pub struct Derived {
    /// The request.
    pub request: RegisterRequest,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// What will be lost for good.
    pub lost: Vec<String>,
    /// What was seen.
    pub mark: Mark,
}

impl Derived {
    /// What a person is asked, where something is removed.
    fn question(&self) -> Option<Question> {
        let replaced = self.request.replaces.as_ref()?;
        let what = if replaced.deactivate {
            format!("The stamp will be deactivated and the registration {} deleted.", replaced.id)
        } else {
            format!("The expired registration {} will be deleted, and made anew.", replaced.id)
        };
        Some(Question { what, mark: self.mark.clone() })
    }
}

/// Asks for a number that Azure does not show: the option, and what this machine remembers.
pub type Ask<'a> = &'a mut dyn FnMut(&str, Option<&Remembered>) -> Option<String>;

/// Puts the request together. Changes nothing.
///
/// # Errors
/// Nothing is registered, or a detail is not known: every option that is needed is named at once.
pub async fn derive<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    change: Change,
    subscription: Uuid,
    wishes: &Wishes,
    stamp: &StampInformation,
    known: &Known,
    ask: Ask<'_>,
) -> Result<Derived, Failure> {
    let World { azure, clock, .. } = world;
    let side = stamp_side(world, stamp.clone()).await?;
    let world = world.readable(&side);
    let mut base = base(world, change, subscription, wishes, &side, known).await?;
    let writes = change != Change::Adopt;
    if let Some(listed) = &base.registration {
        // A list may leave out what the resource itself has.
        let read = retry::read(clock, Policy::AZURE, async || azure.registration(&listed.id).await).await?;
        base.registration = read.or(base.registration);
    }
    let claims = match &base.registration {
        Some(registration) => claims(azure, clock, &registration.id).await?,
        None => None,
    };
    let expires = claims.as_ref().and_then(|claims| claims.expires);
    if let Some(registration) =
        base.registration.as_ref().filter(|r| writes && (r.object_id.is_none() || known.disconnected))
    {
        return Err(of_a_disconnected(registration, expires, (change, wishes), known));
    }
    let mut warnings = Vec::new();
    let mut missing = Vec::new();
    // What was remembered is known while nobody has written to the registration since.
    let etag = base.registration.as_ref().and_then(|registration| registration.etag.as_deref());
    let holds = |written: &azsreg_model::Written| written.holds(etag, expires);
    let details = known.details.as_ref().filter(|_| known.written.as_ref().is_some_and(holds));
    let mut number = |option: &'static str, wished: &Option<String>, remembered: Option<&Remembered>| {
        let held = remembered.filter(|one| holds(&one.written)).map(|one| one.text.clone());
        // Whoever only reads can do without; a later renewal asks.
        let found = wished.clone().or(held);
        if found.is_some() || !writes {
            Ok(found)
        } else {
            ask(option, remembered).map(Some).ok_or((option, remembered.cloned()))
        }
    };
    let record = side.activation.as_ref().filter(|record| record.registration == base.id);

    let now: Option<BillingModel> = base.registration.as_ref().and_then(|r| r.billing_model.parse().ok());
    let finite = record.is_some_and(|r| r.is_expired(clock.now()));
    let before = now.or_else(|| details.map(|d| d.billing_model)).or(finite.then_some(BillingModel::Capacity));
    let Some(model) = wishes.billing_model.or(before) else {
        return Err(unknown(&base.id, &["--billing-model"], &[]));
    };
    if writes && model == BillingModel::PayAsYouUse && wishes.usage_reporting == Some(false) {
        let problem = Problem::new(&code::USAGE_REPORTING_REQUIRED, RequestError::UsageReporting.to_string());
        return Err(Failure::before(problem));
    }
    let changed = before.is_some_and(|before| before != model);
    let (mut agreement_number, mut ms_asset_tag, mut remembered) = (None, None, Vec::new());
    let mut take = |asked: Result<Option<String>, (&'static str, Option<Remembered>)>| match asked {
        Ok(number) => number,
        Err((option, known)) => {
            missing.push(option);
            remembered.extend(known.map(|known| (option, known)));
            None
        }
    };
    if model == BillingModel::Capacity {
        agreement_number =
            take(number("--agreement-number", &wishes.agreement_number, known.agreement_number.as_ref()));
    }
    if model == BillingModel::Custom {
        ms_asset_tag = take(number("--ms-asset-tag", &wishes.ms_asset_tag, known.ms_asset_tag.as_ref()));
    }
    // Azure first: an interrupted change may have come that far and no further.
    let of_key = |flag: fn(&ActivationClaims) -> Option<bool>| claims.as_ref().and_then(flag);
    let usage_now = of_key(|c| c.usage_reporting).or_else(|| record.and_then(|r| r.usage_reporting));
    let usage_now = usage_now.or_else(|| details.map(|d| d.usage_reporting));
    let default = Some(model.reports_usage_by_default());
    let mut usage_reporting = wishes.usage_reporting.or(if changed { default } else { usage_now });
    if model == BillingModel::Capacity {
        if wishes.usage_reporting == Some(true) {
            warnings.push(Problem::new(
                &code::USAGE_REPORTING_OFF,
                "usage reporting is off: capacity billing does not support it",
            ));
        }
        usage_reporting = Some(false);
    }
    let marketplace = of_key(|c| c.marketplace).or_else(|| record.and_then(|r| r.marketplace));
    let marketplace = wishes.marketplace.or(marketplace).or_else(|| details.map(|d| d.marketplace));
    if usage_reporting.is_none() {
        missing.push("--usage-reporting");
    }
    if marketplace.is_none() {
        missing.push("--marketplace");
    }
    if !missing.is_empty() {
        return Err(unknown(&base.id, &missing, &remembered));
    }

    let end = expires.or(record.and_then(|r| r.expiration.as_ref().map(|end| end.at)));
    let expired = base.registration.is_some() && end.is_some_and(|end| end <= clock.now());
    let mut request = RegisterRequest {
        subscription: base.id.subscription,
        name: Some(base.id.name.clone()),
        resource_group: base.id.resource_group.clone(),
        location: None,
        billing_model: model,
        agreement_number,
        ms_asset_tag,
        usage_reporting: usage_reporting.unwrap_or_default(),
        marketplace: marketplace.unwrap_or_default(),
        tenant: None,
        token_version: wishes.token_version,
        renew: change == Change::Renew,
        replaces: None,
    };
    let mut lost = Vec::new();
    let mut mark = Mark {
        registrations: vec![Marked::of(&base.id, base.registration.as_ref())],
        record: side.activation.as_ref().map(|record| record.registration.clone()),
        ..Mark::default()
    };
    match change {
        Change::Set | Change::Adopt => {}
        Change::Renew => renew(&mut request, &base, wishes, expired)?,
        Change::ChangeSubscription => {
            let to = wishes.to.as_ref();
            request.subscription = to.map_or(request.subscription, |to| to.subscription);
            request.resource_group =
                to.and_then(|to| to.resource_group.clone()).unwrap_or(base.id.resource_group.clone());
            request.location = to.and_then(|to| to.location.clone());
            request.name = wishes.name.clone().or(request.name);
            if base.registration.is_some() && base.id != request.id_for(stamp.cloud_id) {
                request.replaces = Some(Replaced { id: base.id.clone(), deactivate: true });
                lost = items(world, stamp).await?;
                mark.lost.clone_from(&lost);
                mark.activation = unread_activation(world, &side).await?;
            }
        }
    }
    if !writes {
        return Ok(Derived { request, warnings, lost, mark });
    }
    // What the words alone would have shown.
    request.validate().map_err(|error| refused(vec![Problem::new(&code::BAD_ARGUMENT, error.to_string())]))?;
    Ok(Derived { request, warnings, lost, mark })
}

/// A live registration is updated in place; an expired one is deleted and made anew, or left for a new name.
fn renew(request: &mut RegisterRequest, base: &Base, wishes: &Wishes, expired: bool) -> Result<(), Failure> {
    let new_name = wishes.name.as_ref().filter(|name| !name.eq_ignore_ascii_case(&base.id.name));
    match (expired, new_name) {
        (false, None) => {}
        (true, None) => request.replaces = Some(Replaced { id: base.id.clone(), deactivate: false }),
        (true, Some(name)) => request.name = Some(name.clone()),
        (false, Some(name)) if base.registration.is_none() => request.name = Some(name.clone()),
        (false, Some(name)) => {
            let message = format!("{} has not expired: it can't be renewed under the name {name}", base.id);
            return Err(refused(vec![
                Problem::new(&code::STAMP_REGISTERED_ELSEWHERE, message)
                    .cause("Azure allows one live registration for each cloud id; a new name is for after it expired.")
                    .next("Leave --name out, or remove it first: azsreg unregister."),
            ]));
        }
    }
    Ok(())
}

/// A connected change would make a key pair on the stamp and then fail there.
fn of_a_disconnected(
    registration: &Registration,
    expires: Option<jiff::Timestamp>,
    (change, wishes): (Change, &Wishes),
    known: &Known,
) -> Failure {
    let message =
        format!("{} was registered disconnected: azsreg {} can't change it", registration.id.name, change.name());
    let next = match change {
        Change::ChangeSubscription => {
            "azsreg offline deactivate --out FILE  (at the stamp); carry the file, run azsreg offline unregister FILE, and \
             register it anew in the other subscription"
                .to_owned()
        }
        _ => {
            let wanted = Wanted {
                billing_model: wishes.billing_model,
                agreement_number: wishes.agreement_number.clone(),
                ms_asset_tag: wishes.ms_asset_tag.clone(),
                usage_reporting: wishes.usage_reporting,
                marketplace: wishes.marketplace,
            };
            offline_renewal(registration, expires, known, &wanted)
        }
    };
    let problem = Problem::new(&code::OF_A_DISCONNECTED, message);
    match wishes.billing_model {
        Some(model @ (BillingModel::PayAsYouUse | BillingModel::Ruggedized)) => {
            let message = format!("{}, and {model} can't be registered disconnected", problem.message);
            let next = "Where the stamp reaches Azure by now: azsreg offline deactivate, azsreg offline unregister, then azsreg register.";
            refused(vec![Problem { message, ..problem }.next(next)])
        }
        _ => refused(vec![problem.next(next)]),
    }
}

fn unknown(id: &RegistrationId, options: &[&str], remembered: &[(&str, Remembered)]) -> Failure {
    let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    let message =
        format!("{} of {}: neither Azure nor the stamp nor this machine's journal knows", options.join(", "), id.name);
    let mut problem = Problem::new(&code::DETAILS_UNKNOWN, message);
    for (option, known) in remembered {
        let number = azsreg_model::quoted(&known.text);
        problem.message = format!("{option} of {} is not known for sure", id.name);
        problem.cause =
            Some("Azure does not show it, and the registration was written to by something else since.".into());
        problem.details.push(format!("this machine wrote {number} at {:.0}", known.written.at));
        options.iter_mut().filter(|known| known == option).for_each(|known| *known = format!("{option} {number}"));
        problem.next = Some(format!("If it is still that: add {}. Nothing was changed.", options.join(" ")));
    }
    let next = format!("Add {}. Nothing was changed.", options.join(", "));
    refused(vec![if remembered.is_empty() { problem.next(next) } else { problem }])
}

/// The registration that is changed.
struct Base {
    id: RegistrationId,
    registration: Option<Registration>,
}

async fn base<A: Azure, S, R, C: Clock>(
    world: World<'_, A, S, R, C>,
    change: Change,
    subscription: Uuid,
    wishes: &Wishes,
    side: &StampSide,
    known: &Known,
) -> Result<Base, Failure> {
    let World { azure, clock, .. } = world;
    let cloud_id = side.information.cloud_id;
    checks::subscription(azure, clock, subscription).await?.map_err(|problem| refused(vec![problem]))?;
    let recorded = side.activation.as_ref().map(|record| &record.registration);
    let found = status::find(azure, clock, subscription, cloud_id).await?;
    if let Some(registration) = status::current(azure, clock, found, recorded).await? {
        return Ok(Base { id: registration.id.clone(), registration: Some(registration) });
    }
    if let Some(to) = wishes.to.as_ref().filter(|to| to.subscription != subscription) {
        // An interrupted run may have come as far as the new subscription.
        checks::writable(azure, clock, to.subscription).await?.map_err(|problem| refused(vec![problem]))?;
        if let Some(registration) = status::find(azure, clock, to.subscription, cloud_id).await?.pop() {
            return Ok(Base { id: registration.id.clone(), registration: Some(registration) });
        }
    }
    let remembered = recorded.or(known.registration.as_ref()).filter(|id| id.subscription == subscription);
    match (change, remembered) {
        (Change::Renew | Change::ChangeSubscription, Some(id)) => Ok(Base { id: id.clone(), registration: None }),
        // The old one is gone and nothing remembers it: what is asked for is all there is.
        (Change::Renew | Change::ChangeSubscription, None) if wishes.billing_model.is_some() && recorded.is_none() => {
            let name = wishes.name.clone().unwrap_or_else(|| format!("AzureStack-{cloud_id}"));
            Ok(Base {
                id: RegistrationId { subscription, resource_group: "azurestack".into(), name },
                registration: None,
            })
        }
        _ => {
            let message = format!("the subscription {subscription} has no registration of the stamp {cloud_id}");
            let problem = match recorded {
                Some(id) => Problem::new(&code::NOT_REGISTERED, message)
                    .cause(format!("The stamp is activated for {id}."))
                    .next(format!("Run the same command with --subscription {}.", id.subscription)),
                None => Problem::new(&code::NOT_REGISTERED, message),
            };
            Err(Failure::before(problem))
        }
    }
}

/// What the registration's key says, where the caller may read it.
///
/// # Errors
/// Azure could not be asked.
pub async fn claims<A: Azure, C: Clock>(
    azure: &A,
    clock: &C,
    id: &RegistrationId,
) -> Result<Option<ActivationClaims>, PortError> {
    match retry::read(clock, Policy::AZURE, async || azure.activation_key(id).await).await {
        Ok(key) => Ok(key.decode().ok()),
        Err(error) if error.class == Class::Permanent => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a deactivation takes away for good.
///
/// # Errors
/// The stamp's records could not be asked.
pub async fn items<A, S, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    stamp: &StampInformation,
) -> Result<Vec<String>, PortError> {
    let Some(records) = world.records else {
        return Ok(vec!["every downloaded marketplace item (they can't be listed: no operator sign-in)".into()]);
    };
    let items = retry::read(world.clock, Policy::AZURE, async || records.downloaded(stamp).await).await?;
    Ok(items.into_iter().map(|item| format!("downloaded marketplace item {item}")).collect())
}

/// The request of an interrupted run of the same change, if what is wanted now does not contradict it.
#[must_use]
pub fn begun(events: &[Event], change: Change, subscription: Uuid, wishes: &Wishes) -> Option<RegisterRequest> {
    let Some(Event::Opened { operation, .. }) = events.first() else { return None };
    let mut request: RegisterRequest = serde_json::from_value(request_of(events)?.clone()).ok()?;
    // The subscription that the command names is the old one, where there is one to leave.
    let from = match (&request.replaces, change) {
        (Some(replaced), _) => Some(replaced.id.subscription),
        (None, Change::ChangeSubscription) => None,
        (None, _) => Some(request.subscription),
    };
    let fits = operation == change.name()
        && from.is_none_or(|from| from == subscription)
        && wishes.billing_model.is_none_or(|model| model == request.billing_model)
        && (wishes.agreement_number.is_none() || wishes.agreement_number == request.agreement_number)
        && (wishes.ms_asset_tag.is_none() || wishes.ms_asset_tag == request.ms_asset_tag)
        && wishes.marketplace.is_none_or(|on| on == request.marketplace)
        && wishes
            .usage_reporting
            .is_none_or(|on| on == request.usage_reporting || request.billing_model == BillingModel::Capacity)
        && (wishes.token_version.is_none() || wishes.token_version == request.token_version)
        && (wishes.name.is_none() || wishes.name == request.name)
        && wishes.to.as_ref().is_none_or(|to| {
            to.subscription == request.subscription
                && to.resource_group.as_ref().is_none_or(|group| *group == request.resource_group)
        });
    // A journal leaves the location out: it matters only while nothing is there.
    request.location = wishes.to.as_ref().and_then(|to| to.location.clone()).or(request.location);
    fits.then_some(request)
}
