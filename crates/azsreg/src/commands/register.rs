//! `azsreg register`, and its relatives that make their request of what is registered: `set`, `renew`,
//! `change-subscription`, `adopt`.

use azsreg_model::{BillingModel, ExitCode, Problem, RegisterRequest, Report, RequestError, StampInformation, code};
use azsreg_operations::adopt;
use azsreg_operations::change::{self, Change, Destination, Wishes};
use azsreg_operations::engine::session::{Books as _, Desk};
use azsreg_operations::register;

use uuid::Uuid;

use super::confirm::Person;
use super::connect::{self, Both, CLOCK, Needs};
use crate::Ended;
use crate::cli::{
    AdoptOptions, CareOptions, ChangeOptions, ChangeSubscriptionOptions, Global, RegisterOptions, RenewOptions,
    SetOptions, Switch,
};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

/// A rule of the words, as a problem.
pub(crate) fn broken_rule(error: &RequestError) -> Problem {
    let entry = match error {
        RequestError::AgreementNumber => &code::NO_AGREEMENT_NUMBER,
        RequestError::UsageReporting => &code::USAGE_REPORTING_REQUIRED,
        RequestError::MsAssetTag => &code::NO_ASSET_TAG,
        RequestError::Name { .. } => &code::BAD_ARGUMENT,
    };
    Problem::new(entry, error.to_string())
}

/// Capacity is billed by what is installed: usage is not reported, and an operator who asked for it is told.
pub(crate) fn usage(model: BillingModel, asked: bool, warnings: &mut Vec<Problem>) -> bool {
    if model == BillingModel::Capacity && asked {
        let text = "usage reporting is off: capacity billing does not support it";
        warnings.push(Problem::new(&code::USAGE_REPORTING_OFF, text));
        return false;
    }
    asked
}

/// The request, and what an operator should know of it.
fn request(options: &RegisterOptions) -> Result<(RegisterRequest, Vec<Problem>), Problem> {
    let model = options.billing_model;
    let mut warnings = Vec::new();
    let asked = options.usage_reporting.map_or(model.reports_usage_by_default(), |switch| switch == Switch::On);
    let request = RegisterRequest {
        subscription: options.subscription,
        name: options.name.clone(),
        resource_group: options.resource_group.clone(),
        location: options.location.clone(),
        billing_model: model,
        agreement_number: options.agreement_number.clone().filter(|_| model == BillingModel::Capacity),
        ms_asset_tag: options.ms_asset_tag.clone(),
        usage_reporting: usage(model, asked, &mut warnings),
        marketplace: options.marketplace == Switch::On,
        tenant: options.sides.cloud.tenant.clone(),
        token_version: options.token_version,
        renew: false,
        replaces: None,
    };
    request.validate().map_err(|error| broken_rule(&error))?;
    Ok((request, warnings))
}

pub(crate) async fn run(
    global: &Global,
    options: &RegisterOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, register::STEPS);
    let report = operate(global, options, sources, screen).await?;
    Ok(view.report(&report))
}

/// From the words to the report.
pub(crate) async fn operate(
    global: &Global,
    options: &RegisterOptions,
    sources: &Sources,
    screen: Screen,
) -> Result<Report, Ended> {
    // What the words alone show to be wrong, before a socket is touched.
    let (request, warnings) = request(options)?;
    let needs = Needs {
        subscription: Some(request.subscription),
        stamp_first: true,
        changes: !options.plan,
        bridge: connect::bridge(&options.bridge, sources)?,
        user: true,
    };
    warn(&screen, &warnings);
    let sides = &options.sides;
    let work = async |both: Both<'_, '_>| {
        let Both { world, information, state_dir, .. } = both;
        let information = asked(information)?;
        let books = connect::books(global, &state_dir);
        let mut person = Person::new(global, None, &screen);
        let mut watch = screen.clone();
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: options.plan };
        let report = register::run(world, &request, information, desk).await?;
        Ok(Report { warnings: [warnings, report.warnings].concat(), ..report })
    };
    connect::both(global, sides, sources, &screen, needs, work).await
}

/// The stamp's information, of a stamp that was asked first.
pub(crate) fn asked(information: Option<StampInformation>) -> Result<StampInformation, Problem> {
    information.ok_or_else(|| Problem::new(&code::STAMP_INFORMATION, "the stamp was not asked"))
}

fn warn(screen: &Screen, warnings: &[Problem]) {
    let mut screen = screen.clone();
    for warning in warnings {
        azsreg_operations::Watch::warning(&mut screen, warning);
    }
}

fn wishes(options: &ChangeOptions) -> Wishes {
    let on = |switch: Option<Switch>| switch.map(|switch| switch == Switch::On);
    Wishes {
        billing_model: options.billing_model,
        agreement_number: options.agreement_number.clone(),
        ms_asset_tag: options.ms_asset_tag.clone(),
        usage_reporting: on(options.usage_reporting),
        marketplace: on(options.marketplace),
        token_version: options.token_version,
        ..Wishes::default()
    }
}

/// What the words alone show to be wrong.
fn check_wishes(wishes: &Wishes) -> Result<(), Problem> {
    if wishes.billing_model == Some(BillingModel::PayAsYouUse) && wishes.usage_reporting == Some(false) {
        return Err(broken_rule(&RequestError::UsageReporting));
    }
    let blank = |text: &Option<String>| text.as_deref().is_some_and(|text| text.trim().is_empty());
    if blank(&wishes.agreement_number) {
        return Err(broken_rule(&RequestError::AgreementNumber));
    }
    if blank(&wishes.ms_asset_tag) {
        return Err(broken_rule(&RequestError::MsAssetTag));
    }
    Ok(())
}

pub(crate) async fn set(
    global: &Global,
    options: &SetOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let wishes = wishes(&options.change);
    if wishes == Wishes::default() {
        return Err(Problem::new(&code::NOTHING_ASKED, "set needs at least one option that says what to change").into());
    }
    let changing = Changing {
        change: Change::Set,
        subscription: options.subscription,
        wishes,
        care: &options.care,
        bridge: connect::bridge(&options.bridge, sources)?,
    };
    changed(global, &options.sides, sources, view, changing).await
}

pub(crate) async fn renew(
    global: &Global,
    options: &RenewOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let changing = Changing {
        change: Change::Renew,
        subscription: options.subscription,
        wishes: Wishes { name: options.name.clone(), ..wishes(&options.change) },
        care: &options.care,
        bridge: connect::bridge(&options.bridge, sources)?,
    };
    changed(global, &options.sides, sources, view, changing).await
}

pub(crate) async fn change_subscription(
    global: &Global,
    options: &ChangeSubscriptionOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    if options.subscription == Some(options.to_subscription) {
        let message = "--to-subscription is the subscription that pays now";
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Give another one.").into());
    }
    let to = Destination {
        subscription: options.to_subscription,
        resource_group: options.to_resource_group.clone(),
        location: options.to_location.clone(),
    };
    let changing = Changing {
        change: Change::ChangeSubscription,
        subscription: options.subscription,
        wishes: Wishes { name: options.to_name.clone(), to: Some(to), ..wishes(&options.change) },
        care: &options.care,
        bridge: connect::bridge(&options.bridge, sources)?,
    };
    changed(global, &options.sides, sources, view, changing).await
}

/// A change of what is registered.
struct Changing<'c> {
    change: Change,
    subscription: Option<Uuid>,
    wishes: Wishes,
    care: &'c CareOptions,
    bridge: Option<secrecy::SecretString>,
}

async fn changed(
    global: &Global,
    sides: &crate::cli::SidesOptions,
    sources: &Sources,
    view: &View,
    changing: Changing<'_>,
) -> Result<ExitCode, Ended> {
    check_wishes(&changing.wishes)?;
    let screen = Screen::new(global, register::STEPS);
    let needs = Needs {
        subscription: changing.subscription,
        stamp_first: true,
        changes: !changing.care.plan,
        bridge: changing.bridge.clone(),
        user: true,
    };
    let work = async |both: Both<'_, '_>| {
        let Changing { change, wishes, care, .. } = changing;
        let Both { world, information, subscription, state_dir } = both;
        let information = asked(information)?;
        let books = connect::books(global, &state_dir);
        let mut person = Person::new(global, Some(care), &screen);
        let mut watch = screen.clone();
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: care.plan };
        Ok(change::run(world, change, subscription, &wishes, information, desk).await?)
    };
    let report = connect::both(global, sides, sources, &screen, needs, work).await?;
    Ok(view.report(&report))
}

pub(crate) async fn adopt(
    global: &Global,
    options: &AdoptOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    let wishes = wishes(&options.change);
    let needs = Needs { subscription: options.subscription, stamp_first: true, changes: true, ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let Both { world, information, subscription, state_dir } = both;
        let cloud_id = asked(information)?.cloud_id;
        let books = connect::books(global, &state_dir);
        let (mut person, mut watch) = (Person::new(global, None, &screen), screen.clone());
        let mut desk = Desk { books: &books, consent: &mut person, watch: &mut watch, plan: false };
        let _session = desk.begin(&CLOCK, cloud_id, adopt::NAME)?;
        let mut journal = azsreg_operations::MemoryJournal::default();
        // Read first, written only when all was read.
        let (_, report) = adopt::adopt(world, subscription, &wishes, &mut journal).await?;
        let now = azsreg_operations::ports::Clock::now(&CLOCK);
        let mut file = books.begin(cloud_id, adopt::NAME, now).map_err(|error| Ended::from(error.problem()))?;
        for event in azsreg_operations::Journal::events(&journal).to_vec() {
            azsreg_operations::Journal::append(&mut file, now, event).map_err(|error| Ended::from(error.problem()))?;
        }
        Ok(report)
    };
    let report = connect::both(global, &options.sides, sources, &screen, needs, work).await?;
    Ok(view.report(&report))
}
