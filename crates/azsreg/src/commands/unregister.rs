//! `azsreg unregister`.

use azsreg_model::{ExitCode, Outcome, Problem, RegistrationId, Report, code};
use azsreg_operations::register;
use azsreg_operations::unregister::{self, Prepared, Sides, UnregisterRequest};

use super::confirm;
use super::connect::{self, Azure, Both, Needs};
use crate::Ended;
use crate::cli::{AzureOptions, CareOptions, Global, NamedOptions, Orphan, UnregisterOptions};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

/// The registration that the options name, if they do.
pub(crate) fn named(options: &NamedOptions) -> Option<RegistrationId> {
    options.name.as_ref().map(|name| RegistrationId {
        subscription: options.subscription,
        resource_group: options.resource_group.clone(),
        name: name.clone(),
    })
}

pub(crate) async fn run(
    global: &Global,
    options: &UnregisterOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, unregister::STEPS);
    let sides = match options.orphan {
        None => Sides::Both,
        Some(Orphan::Stamp) => Sides::Stamp,
        Some(Orphan::Azure) => Sides::Azure,
    };
    let request = UnregisterRequest { subscription: options.named.subscription, named: named(&options.named), sides };
    if options.orphan == Some(Orphan::Azure) {
        let Some(id) = request.named.clone() else {
            let problem = Problem::new(&code::BAD_ARGUMENT, "--orphan azure needs --name: there is no stamp to ask");
            return Err(problem
                .next(format!("azsreg list --subscription {}  shows the names.", request.subscription))
                .into());
        };
        let azure = AzureOptions {
            cloud: options.sides.cloud.clone(),
            sign_in: options.sides.sign_in.clone(),
            network: options.sides.network.clone(),
        };
        let work = async |azure: Azure<'_, '_>| {
            let Azure { world, state_dir } = azure;
            let prepared = unregister::prepare_azure(world.azure, world.clock, id).await?;
            let going = Going { global, care: &options.care, screen: screen.clone(), request };
            run_steps(world, &state_dir, prepared, going).await
        };
        let report = connect::azure(global, &azure, sources, &screen, Some(options.named.subscription), work).await?;
        return Ok(view.report(&report));
    }
    let needs = Needs { subscription: Some(request.subscription), stamp_first: true, ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let Both { world, information, state_dir } = both;
        let information =
            information.ok_or_else(|| Problem::new(&code::STAMP_INFORMATION, "the stamp was not asked"))?;
        if !options.care.plan {
            register::wait_for_running(world, &mut screen.clone()).await?;
        }
        let prepared = match options.orphan {
            Some(_) => unregister::prepare_stamp(world, &request, information).await?,
            None => {
                let (plan, cloud_id) = (options.care.plan, information.cloud_id);
                let (_lock, history) = connect::begin_or_look(plan, &state_dir, cloud_id, unregister::NAME, &screen)?;
                let value = serde_json::to_value(&request).unwrap_or_default();
                let (past, _) = history.past(unregister::NAME, unregister::VERSION, &value);
                unregister::prepare(world, &request, information, &past).await?
            }
        };
        let going = Going { global, care: &options.care, screen: screen.clone(), request };
        run_steps(world, &state_dir, prepared, going).await
    };
    let report = connect::both(global, &options.sides, sources, &screen, needs, work).await?;
    Ok(view.report(&report))
}

/// What a run needs beside the world.
struct Going<'g> {
    global: &'g Global,
    care: &'g CareOptions,
    screen: Screen,
    request: UnregisterRequest,
}

/// The plan, or the question and then the steps.
async fn run_steps<A, S, R, C>(
    world: azsreg_operations::ports::World<'_, A, S, R, C>,
    state_dir: &std::path::Path,
    prepared: Prepared,
    going: Going<'_>,
) -> Result<Report, Ended>
where
    A: azsreg_operations::ports::Azure,
    S: azsreg_operations::ports::Stamp,
    R: azsreg_operations::ports::Records,
    C: azsreg_operations::ports::Clock,
{
    let Going { global, care, mut screen, request } = going;
    let cloud_id = prepared.cloud_id();
    let (_lock, history) = connect::begin_or_look(care.plan, state_dir, cloud_id, unregister::NAME, &screen)?;
    let value = serde_json::to_value(&request).unwrap_or_default();
    let (past, open) = history.past(unregister::NAME, unregister::VERSION, &value);
    if care.plan {
        return Ok(prepared.report(Outcome::Planned));
    }
    if prepared.nothing_to_do() && open.is_none() {
        return Ok(prepared.report(Outcome::NothingToDo));
    }
    // What was agreed to once is not asked again, unless the stamp was activated anew since.
    let again = past.has("deactivation") && prepared.record.is_some();
    if past.open.is_empty() || again {
        let what = match (&prepared.id, prepared.deactivate) {
            (Some(id), true) => format!("The stamp {cloud_id} will be deactivated and {id} deleted."),
            (Some(id), false) => format!("{id} will be deleted."),
            (None, _) => format!("The stamp {cloud_id} will be deactivated."),
        };
        confirm::agree(global, care, &screen, &what, &prepared.lost)?;
    }
    let mut journal = connect::journal(open, state_dir, cloud_id, unregister::NAME)?;
    Ok(unregister::unregister(world, &request, prepared, &mut journal, &mut screen).await?)
}
