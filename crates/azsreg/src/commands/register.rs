//! `azsreg register`, and its relatives that make their request of what is registered: `set`, `renew`,
//! `change-subscription`, `adopt`.

use azsreg_model::{BillingModel, ExitCode, Problem, RegisterRequest, Report, RequestError, code};
use azsreg_operations::adopt;
use azsreg_operations::change::{self, Change, Destination, Wishes};
use azsreg_operations::register;

use super::confirm;
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
        bridge: connect::bridge(&options.bridge, sources)?,
        user: true,
    };
    warn(&screen, &warnings);
    let sides = &options.sides;
    let work = async |both: Both<'_, '_>| {
        let asked = Asked { operation: register::NAME, request, warnings, lost: Vec::new(), plan: options.plan };
        steps(both, asked, screen.clone()).await
    };
    connect::both(global, sides, sources, &screen, needs, work).await
}

fn warn(screen: &Screen, warnings: &[Problem]) {
    let mut screen = screen.clone();
    for warning in warnings {
        azsreg_operations::Watch::warning(&mut screen, warning);
    }
}

/// What is to be registered, by which command.
struct Asked {
    operation: &'static str,
    request: RegisterRequest,
    warnings: Vec<Problem>,
    lost: Vec<String>,
    plan: bool,
}

/// The checks, then the plan or the steps.
async fn steps(both: Both<'_, '_>, asked: Asked, mut screen: Screen) -> Result<Report, Ended> {
    let Both { world, information, state_dir } = both;
    let Asked { operation, request, warnings, lost, plan } = asked;
    let information = information.ok_or_else(|| Problem::new(&code::STAMP_INFORMATION, "the stamp was not asked"))?;
    let cloud_id = information.cloud_id;
    let (_lock, history) = connect::begin_or_look(plan, &state_dir, cloud_id, operation, &screen)?;
    if !plan {
        register::wait_for_running(world, &mut screen).await?;
    }
    let value = serde_json::to_value(register::canonical(&request, cloud_id)).unwrap_or_default();
    let (past, open) = history.past(operation, register::VERSION, &value);
    let prepared = register::prepare(world, &request, information, past).await?;
    let report = if plan {
        register::planned(prepared, &request, &CLOCK)
    } else if prepared.nothing_to_do() && open.is_none() {
        register::nothing_to_do(prepared, &CLOCK)
    } else {
        let mut journal = connect::journal(open, &state_dir, cloud_id, operation)?;
        register::register(world, operation, &request, prepared, &mut journal, &mut screen).await?
    };
    Ok(Report { operation, warnings, lost, ..report })
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
    if options.subscription == options.to_subscription {
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
    subscription: uuid::Uuid,
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
        subscription: Some(changing.subscription),
        stamp_first: true,
        bridge: changing.bridge.clone(),
        user: true,
    };
    let work = async |both: Both<'_, '_>| {
        let Changing { change, subscription, wishes, care, .. } = changing;
        let asked = {
            let Both { world, information, state_dir } = &both;
            let information = information
                .as_ref()
                .ok_or_else(|| Problem::new(&code::STAMP_INFORMATION, "the stamp was not asked"))?;
            let (_lock, history) =
                connect::begin_or_look(care.plan, state_dir, information.cloud_id, change.name(), &screen)?;
            let known = history.known();
            // A run that was interrupted goes on with what it had found out before it changed anything.
            let open = history.open.as_ref().map(|journal| azsreg_operations::Journal::events(journal).to_vec());
            let begun = open.as_deref().and_then(|events| change::begun(events, change, subscription, &wishes));
            let resumed = begun.is_some();
            let derived = match begun {
                Some(request) => change::Derived { request, warnings: Vec::new(), lost: Vec::new() },
                None => {
                    if !care.plan {
                        register::wait_for_running(*world, &mut screen.clone()).await?;
                    }
                    change::derive(*world, change, subscription, &wishes, information, &known).await?
                }
            };
            // What was agreed to once is not asked again.
            let replaced = derived.request.replaces.as_ref().filter(|_| !care.plan && !resumed);
            if let Some(replaced) = replaced {
                let what = if replaced.deactivate {
                    format!("The stamp will be deactivated and the registration {} deleted.", replaced.id)
                } else {
                    format!("The expired registration {} will be deleted, and made anew.", replaced.id)
                };
                confirm::agree(global, care, &screen, &what, &derived.lost)?;
            }
            Asked {
                operation: change.name(),
                request: derived.request,
                warnings: derived.warnings,
                lost: derived.lost,
                plan: care.plan,
            }
        };
        warn(&screen, &asked.warnings);
        steps(both, asked, screen.clone()).await
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
    let needs = Needs { subscription: Some(options.subscription), stamp_first: true, ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let Both { world, information, state_dir } = both;
        let cloud_id = information.map(|information| information.cloud_id).unwrap_or_default();
        let (_lock, history) = connect::begin(&state_dir, cloud_id, adopt::NAME)?;
        drop(history);
        let mut journal = azsreg_operations::MemoryJournal::default();
        // Read first, written only when all was read.
        let (_, report) = adopt::adopt(world, options.subscription, &wishes, &mut journal).await?;
        let mut file = connect::journal(None, &state_dir, cloud_id, adopt::NAME)?;
        for event in azsreg_operations::Journal::events(&journal).to_vec() {
            let now = azsreg_operations::ports::Clock::now(&CLOCK);
            azsreg_operations::Journal::append(&mut file, now, event).map_err(|error| Ended::from(error.problem()))?;
        }
        Ok(report)
    };
    let report = connect::both(global, &options.sides, sources, &screen, needs, work).await?;
    Ok(view.report(&report))
}
