//! `azsreg move` and `azsreg repair`.

use azsreg_model::{ExitCode, Outcome, RegistrationId, Report};
use azsreg_operations::moving::{self, MoveRequest};
use azsreg_operations::register;

use super::connect::{self, Both, Needs};
use super::unregister::named;
use crate::Ended;
use crate::cli::{CareOptions, Global, MoveOptions, NamedOptions, RepairOptions, SidesOptions};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

/// Where to; nowhere for a repair.
struct Target {
    subscription: uuid::Uuid,
    resource_group: String,
    location: Option<String>,
}

pub(crate) async fn relocate(
    global: &Global,
    options: &MoveOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let to = Target {
        subscription: options.to_subscription.unwrap_or(options.named.subscription),
        resource_group: options.to_resource_group.clone(),
        location: options.to_location.clone(),
    };
    let report = run(global, &options.named, Some(to), &options.care, &options.sides, sources).await?;
    Ok(view.report(&report))
}

pub(crate) async fn repair(
    global: &Global,
    options: &RepairOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let report = run(global, &options.named, None, &options.care, &options.sides, sources).await?;
    Ok(view.report(&report))
}

async fn run(
    global: &Global,
    options: &NamedOptions,
    to: Option<Target>,
    care: &CareOptions,
    sides: &SidesOptions,
    sources: &Sources,
) -> Result<Report, Ended> {
    let mut screen = Screen::new(global, moving::STEPS);
    let shown = screen.clone();
    let operation = if to.is_some() { moving::MOVE } else { moving::REPAIR };
    let needs = Needs { subscription: Some(options.subscription), ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let Both { world, state_dir, .. } = both;
        let mut side = moving::reachable(world).await?;
        if side.is_some() && !care.plan && register::wait_for_running(world, &mut screen).await? {
            // What was read while something ran may not be so any more.
            side = moving::reachable(world).await?;
        }
        let mut subscriptions = vec![options.subscription];
        subscriptions.extend(to.as_ref().map(|to| to.subscription).filter(|id| *id != options.subscription));
        let mut asked = named(options);
        if let (Some(id), Some(to)) = (&asked, &to) {
            // A run that was interrupted after the move finds it where it was to go.
            let there = RegistrationId {
                subscription: to.subscription,
                resource_group: to.resource_group.clone(),
                name: id.name.clone(),
            };
            let gone = moving::absent(world.azure, world.clock, id).await?;
            if gone && !moving::absent(world.azure, world.clock, &there).await? {
                asked = Some(there);
            }
        }
        let found = moving::find(world.azure, world.clock, &subscriptions, asked.as_ref(), side.as_ref()).await?;
        let cloud_id = found.cloud_id.unwrap_or_default();
        let request = MoveRequest {
            to: match &to {
                Some(to) => RegistrationId {
                    subscription: to.subscription,
                    resource_group: to.resource_group.clone(),
                    name: found.id.name.clone(),
                },
                None => found.id.clone(),
            },
            location: to.and_then(|to| to.location),
        };
        let (_lock, history) = connect::begin_or_look(care.plan, &state_dir, cloud_id, operation, &screen)?;
        let value = serde_json::to_value(&request).unwrap_or_default();
        let (past, open) = history.past(operation, moving::VERSION, &value);
        let prepared = moving::prepare(world.azure, world.clock, &request, found, side, past).await?;
        if care.plan {
            return Ok(prepared.report(operation, Outcome::Planned));
        }
        if prepared.nothing_to_do() && open.is_none() {
            return Ok(prepared.report(operation, Outcome::NothingToDo));
        }
        let mut journal = connect::journal(open, &state_dir, cloud_id, operation)?;
        Ok(moving::relocate(world, operation, &request, prepared, &mut journal, &mut screen).await?)
    };
    connect::both(global, sides, sources, &shown, needs, work).await
}
