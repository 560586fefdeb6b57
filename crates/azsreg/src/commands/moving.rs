//! `azsreg move` and `azsreg repair`.

use azsreg_model::{ExitCode, Report};
use azsreg_operations::engine::session::Desk;
use azsreg_operations::moving::{self, Destination};

use uuid::Uuid;

use super::confirm::Person;
use super::connect::{self, Both, Needs};
use super::unregister::named;
use crate::Ended;
use crate::cli::{CareOptions, Global, MoveOptions, NamedOptions, RepairOptions, SidesOptions};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn relocate(
    global: &Global,
    options: &MoveOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let to = |from: Uuid| Destination {
        subscription: options.to_subscription.unwrap_or(from),
        resource_group: options.to_resource_group.clone(),
        location: options.to_location.clone(),
    };
    let report = run(global, &options.named, |from| Some(to(from)), &options.care, &options.sides, sources).await?;
    Ok(view.report(&report))
}

pub(crate) async fn repair(
    global: &Global,
    options: &RepairOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let report = run(global, &options.named, |_| None, &options.care, &options.sides, sources).await?;
    Ok(view.report(&report))
}

async fn run(
    global: &Global,
    options: &NamedOptions,
    to: impl FnOnce(Uuid) -> Option<Destination>,
    care: &CareOptions,
    sides: &SidesOptions,
    sources: &Sources,
) -> Result<Report, Ended> {
    let screen = Screen::new(global, moving::STEPS);
    let needs = Needs { subscription: options.subscription, ..Needs::default() };
    let work = async |both: Both<'_, '_>| {
        let Both { world, subscription, state_dir, .. } = both;
        let to = to(subscription);
        let books = connect::books(global, &state_dir);
        let (mut person, mut watch) = (Person::new(global, Some(care), &screen), screen.clone());
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: care.plan };
        Ok(moving::run(world, subscription, named(options, subscription).as_ref(), to.as_ref(), desk).await?)
    };
    connect::both(global, sides, sources, &screen, needs, work).await
}
