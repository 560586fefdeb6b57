//! `azsreg customer`: whose usage of a stamp is shown under which subscription.

use azsreg_model::{Customer, ExitCode};
use azsreg_operations::customer::{self, Change};
use azsreg_operations::engine::session::Desk;
use azsreg_operations::marketplace::fetch;
use serde_json::json;

use super::confirm::Person;
use super::connect::{self, Azure, CLOCK};
use crate::Ended;
use crate::cli::{CareOptions, CustomerCommand, Global, OfStampOptions};
use crate::machine;
use crate::secrets::Sources;
use crate::state;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(
    global: &Global,
    command: &CustomerCommand,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    match command {
        CustomerCommand::Add(options) => {
            let wanted = Customer { subscription: options.customer, tenant: options.tenant };
            change(global, Change::Add(wanted), &options.of(), &options.care, view, sources).await
        }
        CustomerCommand::Remove(options) => {
            change(global, Change::Remove(options.customer), &options.of, &options.care, view, sources).await
        }
        CustomerCommand::List(options) => list(global, &options.of, view, sources).await,
    }
}

async fn list(global: &Global, of: &OfStampOptions, view: &View, sources: &Sources) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    let work = async |azure: Azure<'_, '_>| {
        let azure = azure.world.azure;
        let registration = fetch::registration(azure, &CLOCK, of.subscription, of.cloud_id).await?;
        let found = customer::list(azure, &CLOCK, &registration).await?;
        Ok((registration, found))
    };
    let (registration, found) =
        connect::azure(global, &of.azure, sources, &screen, Some(of.subscription), work).await?;
    if view.is_json() {
        view.json(&json!({"registration": registration.id, "value": found}));
    } else if found.is_empty() {
        view.line(&format!(
            "The registration {} has no customers: all usage is shown under {}.",
            registration.id.name, of.subscription
        ));
    } else {
        view.table(
            &["SUBSCRIPTION", "TENANT"],
            found.iter().map(|c| vec![c.subscription.to_string(), c.tenant.to_string()]),
        );
    }
    Ok(ExitCode::Done)
}

async fn change(
    global: &Global,
    change: Change,
    of: &OfStampOptions,
    care: &CareOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    if let Some(cloud_id) = of.cloud_id.filter(|_| !care.plan) {
        machine::ready(&state::directory(global)?, Some(cloud_id))?;
    }
    let screen = Screen::new(global, 3);
    let work = async |azure: Azure<'_, '_>| {
        let Azure { world, state_dir } = azure;
        let books = connect::books(global, &state_dir);
        let (mut person, mut watch) = (Person::new(global, Some(care), &screen), screen.clone());
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: care.plan };
        let stamp = (of.subscription, of.cloud_id);
        Ok(customer::run(world.azure, &CLOCK, &books, stamp, change, desk).await?)
    };
    let report = connect::azure(global, &of.azure, sources, &screen, Some(of.subscription), work).await?;
    Ok(view.report(&report))
}
