//! `azsreg unregister`.

use azsreg_model::{ExitCode, Problem, RegistrationId, code};
use azsreg_operations::engine::session::Desk;
use azsreg_operations::unregister::{self, AzureOrder, Sides, Target, UnregisterRequest};

use uuid::Uuid;

use super::confirm::Person;
use super::connect::{self, Azure, Both, Needs};
use super::register::asked;
use crate::Ended;
use crate::cli::{AzureOptions, Global, NamedOptions, Orphan, UnregisterOptions};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

/// The registration that the options name, if they do.
pub(crate) fn named(options: &NamedOptions, subscription: Uuid) -> Option<RegistrationId> {
    options.name.as_ref().map(|name| RegistrationId {
        subscription,
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
    let mut watch = screen.clone();
    let mut person = Person::new(global, Some(&options.care), &screen);
    let plan = options.care.plan;
    let report = if options.orphan == Some(Orphan::Azure) {
        let Some(subscription) = options.named.subscription else {
            let message = "--orphan azure needs --subscription: there is no stamp to ask";
            return Err(Problem::new(&code::SUBSCRIPTION_UNKNOWN, message).into());
        };
        let Some(id) = named(&options.named, subscription) else {
            let problem = Problem::new(&code::BAD_ARGUMENT, "--orphan azure needs --name: there is no stamp to ask");
            return Err(problem.next(format!("azsreg list --subscription {subscription}  shows the names.")).into());
        };
        let azure = AzureOptions {
            cloud: options.sides.cloud.clone(),
            sign_in: options.sides.sign_in.clone(),
            network: options.sides.network.clone(),
        };
        let work = async |azure: Azure<'_, '_>| {
            let books = connect::books(global, &azure.state_dir);
            let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan };
            let order = AzureOrder {
                operation: unregister::NAME,
                subscription,
                target: Target::Named(id),
                cloud_id: None,
                deactivated_at: None,
            };
            Ok(unregister::run_azure(azure.world, &order, desk).await?)
        };
        connect::azure(global, &azure, sources, &screen, Some(subscription), work).await?
    } else {
        let sides = if options.orphan.is_some() { Sides::Stamp } else { Sides::Both };
        let needs =
            Needs { subscription: options.named.subscription, stamp_first: true, changes: !plan, ..Needs::default() };
        let work = async |both: Both<'_, '_>| {
            let Both { world, information, subscription, state_dir } = both;
            let request = UnregisterRequest { subscription, named: named(&options.named, subscription), sides };
            let books = connect::books(global, &state_dir);
            let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan };
            Ok(unregister::run(world, &request, asked(information)?, desk).await?)
        };
        connect::both(global, &options.sides, sources, &screen, needs, work).await?
    };
    Ok(view.report(&report))
}
