//! Azure's portal: the pages of `azsreg-portal` over the lab's Azure.

use azsreg_model::{COMMERCE_METERS, UsageLine};
use azsreg_portal::UsageAsked;
use azsreg_portal::azure::{Cloud, Event, Registered, Resource, answer};
use jiff::Timestamp;
use uuid::Uuid;

use crate::http::{self, Read, Reply};
use crate::lab::{AzureWorld, State, lock};
use crate::world::metering::{hour_of, used_line};

/// A request for a page.
pub(crate) async fn handle(state: &State, request: &Read) -> Reply {
    http::page_of(request, async |ask| answer(ask, state)).await
}

impl Cloud for State {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn directory(&self) -> String {
        self.azure().domain.clone()
    }

    fn resources(&self) -> Vec<Resource> {
        let azure = self.azure();
        let named = |id| azure.arm.subscriptions.get(&id).map(|known| known.name.clone()).unwrap_or_default();
        let groups = azure.arm.groups.iter().map(|((subscription, _), group)| Resource {
            name: group.name.clone(),
            kind: "Resource group",
            hidden: false,
            group: group.name.clone(),
            location: group.location.clone(),
            subscription: named(*subscription),
            id: None,
        });
        let registrations = azure.arm.registrations.iter().map(|registration| Resource {
            name: registration.name.clone(),
            kind: "Microsoft.AzureStack/registrations",
            hidden: true,
            group: registration.group.clone(),
            location: "global".into(),
            subscription: named(registration.subscription),
            id: Some(registration.id()),
        });
        groups.chain(registrations).collect()
    }

    fn registration(&self, id: &str) -> Option<Registered> {
        let azure = self.azure();
        let found = azure.arm.with_id(id)?;
        let scope = found.id();
        let on = |other: &str| other.eq_ignore_ascii_case(&scope);
        let who = |principal| who(&azure, principal);
        let role = |id| {
            let known = azure.arm.roles.iter().find(|role| role.id == id);
            known.map_or_else(|| "a role".to_owned(), |role| role.name.clone())
        };
        let principal = found.token.object_id.map_or_else(|| "\u{2013}".to_owned(), |id| id.to_string());
        Some(Registered {
            name: found.name.clone(),
            subscription: found.subscription,
            properties: vec![
                ("Resource group", found.group.clone()),
                ("Subscription", found.subscription.to_string()),
                ("Cloud ID", found.token.cloud_id.to_string()),
                ("Billing model", found.token.billing_model.clone()),
                ("Service principal", principal),
            ],
            expires: found.expires(),
            written: found.written,
            locks: azure.arm.locks.iter().filter(|l| on(&l.scope)).map(|l| (l.name.clone(), l.level.clone())).collect(),
            roles: azure
                .arm
                .assignments
                .iter()
                .filter(|assignment| on(&assignment.scope))
                .map(|assignment| (role(assignment.role), who(assignment.principal)))
                .collect(),
            customers: azure
                .arm
                .customers
                .iter()
                .filter(|customer| on(&customer.registration))
                .map(|c| (c.name.clone(), c.tenant.to_string(), c.written, c.ended))
                .collect(),
            history: azure
                .arm
                .history
                .iter()
                .rev()
                .filter(|event| on(&event.scope))
                .take(RECENT)
                .map(|event| shown(&azure, event))
                .collect(),
        })
    }

    fn activity(&self) -> Vec<Event> {
        let azure = self.azure();
        azure.arm.history.iter().rev().map(|event| shown(&azure, event)).collect()
    }

    fn payers(&self) -> Vec<(Uuid, String)> {
        self.azure().arm.subscriptions.values().map(|known| (known.id, known.name.clone())).collect()
    }

    fn billed(&self, asked: UsageAsked) -> Vec<UsageLine> {
        let today = hour_of(Self::now(self)).div_euclid(24) * 24;
        let from = today - i64::from(asked.days) * 24;
        let mut sums = std::collections::BTreeMap::<(i64, Option<Uuid>, usize), i64>::new();
        let payers: Vec<Uuid> = self.payers().into_iter().map(|(id, _)| id).collect();
        let books = lock(&self.books);
        for payer in payers.into_iter().filter(|id| asked.subscription.is_none_or(|only| only == *id)) {
            for (day, meter, quantity) in books.ledger.used(payer, from, today) {
                *sums.entry((day, asked.apart.then_some(payer), meter)).or_default() += quantity;
            }
        }
        let lines = sums.into_iter().map(|((hour, subscription, meter), quantity)| {
            let meter = &COMMERCE_METERS[meter];
            used_line(hour, subscription, (meter.id, meter.name, meter.unit), quantity)
        });
        lines.collect()
    }
}

/// How much of a registration's history its page shows.
const RECENT: usize = 30;

fn shown(azure: &AzureWorld, event: &crate::world::history::Event) -> Event {
    Event {
        at: event.at,
        what: event.what.clone(),
        resource: event.scope.rsplit('/').next().unwrap_or_default().to_owned(),
        by: event.by.map_or_else(|| "Azure".to_owned(), |by| who(azure, by)),
        times: event.times,
    }
}

/// A principal's name: an application's, or a person's.
fn who(azure: &AzureWorld, principal: Uuid) -> String {
    let application = azure.directory.applications.iter().find(|known| known.principal == Some(principal));
    application.map_or_else(|| azure.directory.name_of(principal), |application| application.name.clone())
}
