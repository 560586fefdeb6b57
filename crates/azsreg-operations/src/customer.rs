//! Customers of a cloud solution provider: whose usage of the stamp is shown under which subscription. What has no mapping is
//! shown under the registration's own (`facts-billing-usage.md` section 7).

use std::path::Path;

use azsreg_model::{
    Customer, ExitCode, Outcome, PlannedStep, Problem, Registration, Report, StepReport, StepState, code,
};
use serde_json::json;
use uuid::Uuid;

use crate::engine::retry::{Policy, read};
use crate::engine::{Failure, Steps, Watch};
use crate::marketplace::begin_in;
use crate::ports::{Azure, Clock, Customers};
use crate::register::refused;

/// The operation that maps a tenant.
pub const ADD: &str = "customer-add";
/// The operation that removes a mapping.
pub const REMOVE: &str = "customer-remove";
const VERSION: u32 = 1;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Map this tenant to this subscription.
    Add(Customer),
    /// Remove the mapping of this subscription.
    Remove(Uuid),
}

/// The customers of a registration.
///
/// # Errors
/// Azure can't be read, or there is no such registration.
pub async fn list<A: Customers, C: Clock>(
    azure: &A,
    clock: &C,
    registration: &Registration,
) -> Result<Vec<Customer>, Failure> {
    Ok(read(clock, Policy::AZURE, async || azure.customers(&registration.id).await).await?)
}

/// What a change means for mappings that are there: nothing to do, or what is given up.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The change.
    pub change: Change,
    /// Whether it is so already.
    pub done: bool,
    /// What is given up, a line each.
    pub lost: Vec<String>,
}

/// Looks before.
///
/// # Errors
/// Azure can't be read, or a mapping that shall be removed is not there.
pub async fn prepare<A: Customers, C: Clock>(
    azure: &A,
    clock: &C,
    registration: &Registration,
    change: Change,
) -> Result<Prepared, Failure> {
    let known = list(azure, clock, registration).await?;
    Ok(match change {
        Change::Add(wanted) => {
            let lost = known
                .iter()
                .filter(|other| {
                    **other != wanted && (other.tenant == wanted.tenant || other.subscription == wanted.subscription)
                })
                .map(|other| {
                    format!("the mapping of the tenant {} to the subscription {}", other.tenant, other.subscription)
                });
            Prepared { change, done: known.contains(&wanted), lost: lost.collect() }
        }
        Change::Remove(subscription) => {
            let found: Vec<&Customer> = known.iter().filter(|known| known.subscription == subscription).collect();
            if found.is_empty() {
                let message =
                    format!("the registration {} has no customer subscription {subscription}", registration.id.name);
                let mut problem = Problem::new(&code::CUSTOMER_MISSING, message);
                problem.details = known
                    .iter()
                    .map(|known| format!("it has {} of the tenant {}", known.subscription, known.tenant))
                    .collect();
                return Err(Failure { exit: problem.code.exit, ..refused(vec![problem]) });
            }
            let lost = found.iter().map(|known| {
                format!(
                    "the mapping of the tenant {}: its usage is shown under {} from now on",
                    known.tenant, registration.id.subscription
                )
            });
            Prepared { change, done: false, lost: lost.collect() }
        }
    })
}

impl Prepared {
    fn words(&self) -> (&'static str, &'static str, String) {
        match self.change {
            Change::Add(customer) => (
                ADD,
                "mapping",
                format!("the tenant {} is paid by the subscription {}", customer.tenant, customer.subscription),
            ),
            Change::Remove(subscription) => {
                (REMOVE, "mapping", format!("the subscription {subscription} pays for no tenant"))
            }
        }
    }

    /// What would be done.
    #[must_use]
    pub fn report(&self, registration: &Registration, outcome: Outcome) -> Report {
        let (operation, step, detail) = self.words();
        let cloud_id = registration.cloud_id.unwrap_or_default();
        let mut report = Report::new(operation, outcome, cloud_id, Some(registration.id.clone()));
        report.lost.clone_from(&self.lost);
        if outcome == Outcome::Planned {
            report.plan = vec![PlannedStep { step, changes: !self.done, detail }];
        } else {
            report.steps = vec![StepReport { step, state: StepState::AlreadyDone, detail }];
        }
        report
    }
}

/// Makes the change.
///
/// # Errors
/// Azure refused: the documented codes name the cause.
pub async fn change<A: Azure + Customers, C: Clock>(
    azure: &A,
    clock: &C,
    state_dir: &Path,
    registration: &Registration,
    prepared: &Prepared,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let (operation, step, detail) = prepared.words();
    let cloud_id = registration.cloud_id.unwrap_or_default();
    let id = &registration.id;
    let request = match prepared.change {
        Change::Add(customer) => {
            json!({"registration": id, "subscription": customer.subscription, "tenant": customer.tenant})
        }
        Change::Remove(subscription) => json!({"registration": id, "subscription": subscription}),
    };
    let (_lock, mut journal) = begin_in(&state_dir.join("customers"), cloud_id, (operation, VERSION), &request, clock)?;
    let requests = || azure.take_request_ids();
    let mut steps = Steps::new(&mut journal, clock, watch, &requests);
    let observe = async || {
        let known = azure.customers(id).await?;
        let so = match prepared.change {
            Change::Add(customer) => known.contains(&customer),
            Change::Remove(subscription) => !known.iter().any(|known| known.subscription == subscription),
        };
        Ok(so.then(|| ((), detail.clone())))
    };
    let act = async || {
        match prepared.change {
            Change::Add(customer) => azure.put_customer(id, &customer).await?,
            Change::Remove(subscription) => azure.delete_customer(id, subscription).await?,
        }
        Ok(None)
    };
    let title = "changing whose usage is shown where";
    let changed = steps.step(step, title, Policy::AZURE, observe, act, |()| request.clone()).await;
    // One call: what Azure refuses has changed nothing, and is not gone on with.
    changed.map_err(|failure| match failure.problems.first().map(|problem| problem.code.exit) {
        Some(exit @ (ExitCode::CheckFailed | ExitCode::NotRegistered)) => Failure { exit, ..failure },
        _ => failure,
    })?;
    steps.finish("changed")?;
    let steps = steps.into_reports();
    Ok(Report { steps, ..Report::new(operation, Outcome::Done, cloud_id, Some(id.clone())) })
}
