//! `azsreg register`.

use azsreg_arm::{AzurePort, Manager, RecordsPort};
use azsreg_model::{BillingModel, ExitCode, Outcome, Problem, RegisterReport, RegisterRequest, RequestError, code};
use azsreg_operations::engine::journal::History;
use azsreg_operations::engine::retry::{self, Policy};
use azsreg_operations::ports::{Clock as _, Stamp as _, World};
use azsreg_operations::{FileJournal, StampLock, register};

use super::shared::{self, Sides};
use crate::Ended;
use crate::cli::{Global, RegisterOptions, Switch};
use crate::clock::SystemClock;
use crate::interrupt;
use crate::secrets::{self, Sources};
use crate::view::View;
use crate::watch::Screen;

/// The request, and what an operator should know of it.
fn request(options: &RegisterOptions) -> Result<(RegisterRequest, Vec<Problem>), Problem> {
    let model = options.billing_model;
    let mut warnings = Vec::new();
    let mut usage = options.usage_reporting.map_or(model.reports_usage_by_default(), |switch| switch == Switch::On);
    if model == BillingModel::Capacity && usage {
        warnings.push(
            Problem::new(
                &code::USAGE_REPORTING_REQUIRED,
                "usage reporting is off: capacity billing does not support it",
            )
            .cause("Capacity is billed by what is installed.")
            .next("Leave --usage-reporting out."),
        );
        usage = false;
    }
    let request = RegisterRequest {
        subscription: options.subscription,
        name: options.name.clone(),
        resource_group: options.resource_group.clone(),
        location: options.location.clone(),
        billing_model: model,
        agreement_number: options.agreement_number.clone().filter(|_| model == BillingModel::Capacity),
        ms_asset_tag: options.ms_asset_tag.clone(),
        usage_reporting: usage,
        marketplace: options.marketplace == Switch::On,
        tenant: options.sides.cloud.tenant.clone(),
    };
    request.validate().map_err(|error| {
        let entry = match error {
            RequestError::AgreementNumber => &code::NO_AGREEMENT_NUMBER,
            RequestError::UsageReporting => &code::USAGE_REPORTING_REQUIRED,
            RequestError::MsAssetTag => &code::NO_ASSET_TAG,
            RequestError::Name { .. } => &code::BAD_ARGUMENT,
        };
        Problem::new(entry, error.to_string())
    })?;
    Ok((request, warnings))
}

pub(crate) async fn run(
    global: &Global,
    options: &RegisterOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, register::STEPS.len());
    let acting = screen.acting.clone();
    let result = interrupt::or(&acting, operate(global, options, sources, screen.clone())).await;
    screen.clear();
    let report = result.map_err(|ended| {
        if ended.problems.first().is_some_and(|problem| problem.code == &code::INTERRUPTED) {
            let (steps, step) = screen.so_far();
            return Ended { steps, step, ..ended };
        }
        ended
    })?;
    view.register(&report);
    Ok(match report.outcome {
        Outcome::Planned if report.plan.iter().any(|step| step.changes) => ExitCode::ChangesPlanned,
        _ => ExitCode::Done,
    })
}

/// From the words to the report.
pub(crate) async fn operate(
    global: &Global,
    options: &RegisterOptions,
    sources: &Sources,
    mut screen: Screen,
) -> Result<RegisterReport, Ended> {
    // What the words alone show to be wrong, before a socket is touched.
    let (request, warnings) = request(options)?;
    let sides = Sides::of(global, &options.sides, sources)?;
    let Sides { asked, stamp_sign_in, state_dir, pep, http, direct } = sides;
    let bridge = options
        .bridge_refresh_token
        .as_ref()
        .map(|given| secrets::read(sources, "bridge_refresh_token", "--bridge-refresh-token", given))
        .transpose()?;
    if asked.as_ref().is_some_and(|sign_in| !sign_in.is_user()) && bridge.is_none() {
        let message = "a client secret or certificate alone can't register a connected stamp";
        return Err(Problem::new(&code::USER_SIGN_IN_NEEDED, message).into());
    }
    for warning in &warnings {
        azsreg_operations::Watch::warning(&mut screen, warning);
    }

    screen.say("asking the stamp");
    let stamp = shared::endpoint(pep, &screen);
    let prompt = screen.clone();
    let clock = SystemClock;
    let outcome = async {
        let information = retry::read(&clock, Policy::AZURE, async || stamp.information().await).await?;
        let _lock = StampLock::take(&state_dir, information.cloud_id, register::NAME, clock.now())?;
        let history = History::read(&state_dir, information.cloud_id, register::NAME)
            .map_err(|error| Ended::from(error.problem()))?;

        screen.say("signing in to Azure");
        let cloud = shared::cloud(&options.sides.cloud, sources, &http).await?;
        let tenant = shared::tenant(&options.sides.cloud, &http, &cloud, Some(request.subscription)).await?;
        let sign_in = shared::chosen_sign_in(asked, global, &state_dir, &cloud, &tenant)?;
        let identity = shared::signed_in(&http, &cloud, &tenant, sign_in, &prompt, global, &state_dir).await?;
        let manager = Manager::new(&http, &identity, &cloud.arm_endpoint, &cloud.audience);
        let azure = AzurePort::new(manager, &cloud, bridge);
        let records = stamp_sign_in.map(|sign_in| RecordsPort::new(&http, &direct, sign_in, &prompt));

        screen.say("checking");
        let world = World { azure: &azure, stamp: &stamp, records: records.as_ref(), clock: &clock };
        if !options.plan {
            register::wait_for_running(world, &mut screen).await?;
        }
        let open =
            history.open.filter(|journal| register::resumes(azsreg_operations::Journal::events(journal), &request));
        let events = open.as_ref().map(|j| azsreg_operations::Journal::events(j).to_vec()).unwrap_or_default();
        let finished = history.finished.as_deref();
        let prepared = register::prepare(world, &request, information.clone(), finished, &events).await?;
        let report = if options.plan {
            register::planned(prepared, &request, &clock)
        } else if prepared.nothing_to_do() {
            register::nothing_to_do(prepared, &clock)
        } else {
            let mut journal = match open {
                Some(journal) => journal,
                None => FileJournal::create(&state_dir, information.cloud_id, register::NAME, clock.now())
                    .map_err(|error| Ended::from(error.problem()))?,
            };
            register::register(world, &request, prepared, &mut journal, &mut screen).await?
        };
        // A directory may hand out a new refresh token each time and forget the one before.
        if identity.is_user()
            && let Ok(account) = identity.account(&cloud.audience).await
        {
            shared::keep(&state_dir, &account);
        }
        Ok(RegisterReport { warnings, ..report })
    };
    let outcome: Result<RegisterReport, Ended> = outcome.await;
    stamp.close().await;
    outcome
}
