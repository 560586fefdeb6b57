//! `azsreg check`.

use azsreg_model::{BillingModel, ExitCode, Problem, RegisterRequest, code};
use azsreg_operations::ports::Nobody;
use azsreg_operations::prerequisites::{self, Prerequisite, Verdict};
use azsreg_pep::PrivilegedEndpoint;
use serde_json::json;

use super::connect::{self, Both, CLOCK, Needs};
use super::transcript;
use crate::Ended;
use crate::advice::Advice;
use crate::cli::{CheckOptions, Global};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

fn request(options: &CheckOptions) -> RegisterRequest {
    let model = options.billing_model;
    RegisterRequest {
        subscription: options.subscription,
        name: options.name.clone(),
        resource_group: options.resource_group.clone(),
        location: options.location.clone(),
        billing_model: model,
        // What is not looked at here needs no real number.
        agreement_number: (model == BillingModel::Capacity).then(|| "-".to_owned()),
        ms_asset_tag: (model == BillingModel::Custom).then(|| "-".to_owned()),
        usage_reporting: model.reports_usage_by_default(),
        marketplace: true,
        tenant: options.sides.cloud.tenant.clone(),
        token_version: None,
        renew: false,
        replaces: None,
    }
}

pub(crate) async fn run(
    global: &Global,
    options: &CheckOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    let request = request(options);
    let bridge = connect::bridge(&options.bridge, sources)?;
    let needs = Needs { subscription: Some(options.subscription), bridge, ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let world = both.world;
        let list = prerequisites::check(Ok(world.azure), (world.stamp, world.records), world.clock, &request).await;
        Ok((list, transcript::take_for(options, world.stamp, Some(world.azure), world.records).await))
    };
    let (mut list, taken) = match connect::both(global, &options.sides, sources, &screen, needs, work).await {
        Ok(done) => done,
        // A sign-in that fails is one of the prerequisites: the stamp is looked at all the same.
        Err(ended) if signs_in_badly(&ended) => {
            let stamp = crate::cli::StampOptions {
                pep: options.sides.pep.clone(),
                stamp_sign_in: options.sides.stamp_sign_in.clone(),
                network: options.sides.network.clone(),
            };
            let problem = ended.problems[0].clone();
            stamp_alone(global, options, &stamp, sources, &screen, &request, problem).await?
        }
        Err(ended) => return Err(ended),
    };
    if sources.way().is_some() {
        let advice = Advice::of(sources);
        for problem in list.iter_mut().filter_map(|one| one.problem.as_mut()) {
            advice.about(problem, sources.way(), Some(options.subscription));
        }
    }
    let failed = list.iter().filter(|one| one.verdict == Verdict::Failed).count();
    let warned = list.iter().filter(|one| one.verdict == Verdict::Warning).count();
    let exit = if failed == 0 { ExitCode::Done } else { ExitCode::CheckFailed };
    let offer = || match (&taken, &options.transcript) {
        (Ok(Some(taken)), Some(path)) => transcript::offer(options, path, taken),
        (Ok(_), _) => Ok(()),
        (Err(problem), _) => {
            View::note(&format!("there is no transcript: {}", problem.message));
            Ok(())
        }
    };
    if view.is_json() {
        let of = |one: &Prerequisite| one.problem.clone().filter(|_| one.verdict == Verdict::Failed);
        let problems: Vec<_> = list.iter().filter_map(of).collect();
        // One document: what fails here is said in the one of the failure.
        offer()?;
        view.document(&json!({ "value": list, "failed": failed, "warnings": warned }), exit, &problems);
    } else {
        view.prerequisites(&list);
        view.line("");
        let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (failures, warnings) = (many(failed, "check"), many(warned, "warning"));
        view.line(&match (failed, warned) {
            (0, 0) => "Everything that registering needs is there. Nothing was changed.".to_owned(),
            (0, _) => format!("Registering can begin; {warnings}. Nothing was changed."),
            _ => format!("{failures} failed, {warnings}. Nothing was changed."),
        });
        offer()?;
    }
    Ok(exit)
}

/// What was looked at; and the transcript, where one is wanted.
type Checked = (Vec<Prerequisite>, Result<Option<transcript::Taken>, Problem>);

fn signs_in_badly(ended: &Ended) -> bool {
    let problem = ended.problems.first();
    let refused = [&code::SUBSCRIPTION_NOT_VISIBLE, &code::FORBIDDEN];
    problem
        .map(|problem| problem.code)
        .is_some_and(|code| code.is_of_sign_in() || code.is_away() || refused.contains(&code))
}

async fn stamp_alone(
    global: &Global,
    check: &CheckOptions,
    options: &crate::cli::StampOptions,
    sources: &Sources,
    screen: &Screen,
    request: &RegisterRequest,
    problem: Problem,
) -> Result<Checked, Ended> {
    let authorities = super::shared::ca(&options.network)?;
    let pep = super::shared::pep_options(global, &options.pep, &options.network, &authorities, sources)?;
    let stamp: PrivilegedEndpoint = super::shared::endpoint(pep, screen);
    let nobody: Result<&azsreg_arm::AzurePort<'_>, _> = Err(problem);
    let list = connect::watched(screen, async {
        let list = prerequisites::check(nobody, (&stamp, None::<&Nobody>), &CLOCK, request).await;
        Ok((list, transcript::take_for(check, &stamp, None, None).await))
    })
    .await;
    connect::closed(list, stamp.close().await)
}
