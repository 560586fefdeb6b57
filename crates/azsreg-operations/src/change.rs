//! Where the request of `set`, `renew` and `change-subscription` comes from: what is registered now, read from the
//! activation record, the registration and the journal, with what the operator wants otherwise.

use azsreg_model::{
    ActivationClaims, BillingModel, Known, Problem, RegisterRequest, Registration, RegistrationId, Replaced,
    StampInformation, StampSide, TokenVersion, code, offline_renewal,
};
use uuid::Uuid;

use crate::checks;
use crate::engine::Failure;
use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Class, Clock, PortError, Records, Stamp, World};
use crate::register::refused;
use crate::status::{self, stamp_side};

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

/// A request made of what is and what is wanted.
#[derive(Debug, Clone)]
pub struct Derived {
    /// The request.
    pub request: RegisterRequest,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// What will be lost for good.
    pub lost: Vec<String>,
}

/// Puts the request together. Changes nothing.
///
/// # Errors
/// Nothing is registered, or a detail is known to nobody: every option that is needed is named at once.
pub async fn derive<A: Azure, S: Stamp, R: Records, C: Clock>(
    world: World<'_, A, S, R, C>,
    change: Change,
    subscription: Uuid,
    wishes: &Wishes,
    stamp: &StampInformation,
    known: &Known,
) -> Result<Derived, Failure> {
    let World { azure, clock, .. } = world;
    let side = stamp_side(world, stamp.clone()).await?;
    let base = base(world, change, subscription, wishes, &side, known).await?;
    let writes = change != Change::Adopt;
    if let Some(listed) = base.registration.as_ref().filter(|r| writes && r.object_id.is_none()) {
        // A list may leave out what the resource itself has.
        let read = retry::read(clock, Policy::AZURE, async || azure.registration(&listed.id).await).await?;
        if let Some(registration) = read.filter(|registration| registration.object_id.is_none()) {
            return Err(of_a_disconnected(&registration, change, known));
        }
    }
    let claims = match &base.registration {
        Some(registration) => claims(azure, clock, &registration.id).await?,
        None => None,
    };
    let mut warnings = Vec::new();
    let mut missing = Vec::new();
    let details = known.details.as_ref();
    let record = side.activation.as_ref().filter(|record| record.registration == base.id);

    let now: Option<BillingModel> = base.registration.as_ref().and_then(|r| r.billing_model.parse().ok());
    let finite = record.is_some_and(|r| r.is_expired(clock.now()));
    let before = now.or_else(|| details.map(|d| d.billing_model)).or(finite.then_some(BillingModel::Capacity));
    let Some(model) = wishes.billing_model.or(before) else {
        return Err(unknown(&base.id, &["--billing-model"]));
    };
    let changed = before.is_some_and(|before| before != model);
    let agreement_number = wishes
        .agreement_number
        .clone()
        .or_else(|| details?.agreement_number.clone())
        .filter(|_| model == BillingModel::Capacity);
    let ms_asset_tag =
        wishes.ms_asset_tag.clone().or_else(|| details?.ms_asset_tag.clone()).filter(|_| model == BillingModel::Custom);
    // Whoever only reads can do without; a later renewal asks.
    if writes && model == BillingModel::Capacity && agreement_number.is_none() {
        missing.push("--agreement-number");
    }
    if writes && model == BillingModel::Custom && ms_asset_tag.is_none() {
        missing.push("--ms-asset-tag");
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
        return Err(unknown(&base.id, &missing));
    }

    let end = claims.map(|claims| claims.expires).or(record.and_then(|r| r.expiration.as_ref().map(|end| end.at)));
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
            }
        }
    }
    if !writes {
        return Ok(Derived { request, warnings, lost });
    }
    // What the words alone would have shown.
    request.validate().map_err(|error| refused(vec![Problem::new(&code::BAD_ARGUMENT, error.to_string())]))?;
    Ok(Derived { request, warnings, lost })
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
fn of_a_disconnected(registration: &Registration, change: Change, known: &Known) -> Failure {
    let message =
        format!("{} was registered disconnected: azsreg {} can't change it", registration.id.name, change.name());
    let next = match change {
        Change::ChangeSubscription => {
            "azsreg offline deactivate --out FILE  (at the stamp); carry the file, run azsreg offline unregister FILE, and \
             register it anew in the other subscription"
                .to_owned()
        }
        _ => offline_renewal(registration, known),
    };
    refused(vec![Problem::new(&code::OF_A_DISCONNECTED, message).next(next)])
}

fn unknown(id: &RegistrationId, options: &[&str]) -> Failure {
    let message =
        format!("{} of {}: neither Azure nor the stamp nor this machine's journal knows", options.join(", "), id.name);
    refused(vec![
        Problem::new(&code::DETAILS_UNKNOWN, message).next(format!("Add {}. Nothing was changed.", options.join(", "))),
    ])
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
        checks::subscription(azure, clock, to.subscription).await?.map_err(|problem| refused(vec![problem]))?;
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
pub fn begun(
    events: &[crate::engine::journal::Event],
    change: Change,
    subscription: Uuid,
    wishes: &Wishes,
) -> Option<RegisterRequest> {
    use crate::engine::journal::{Event, request_of};
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
