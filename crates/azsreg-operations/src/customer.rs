//! Customers of a cloud solution provider: whose usage of the stamp is shown under which subscription. What has no mapping is
//! shown under the registration's own (`facts-billing-usage.md` section 7).

use azsreg_model::{
    Customer, ExitCode, Outcome, PlannedStep, Problem, Registration, Report, StepReport, StepState, code,
};
use serde_json::json;
use uuid::Uuid;

use crate::checks;
use crate::engine::journal::{Mark, Marked};
use crate::engine::retry::{Policy, read};
use crate::engine::session::{Agreed, Books, Desk, FileBooks, Question};
use crate::engine::{Failure, Steps, Watch};
use crate::marketplace::{begin_in, fetch};
use crate::ports::{Azure, Clock, Customers};
use crate::register::refused;
use crate::steps;

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

/// Changes a mapping: what a person asked for, from the first look to the report.
///
/// # Errors
/// It was not agreed to, or Azure refused: the documented codes name the cause.
pub async fn run<A: Azure + Customers, C: Clock, B: Books>(
    azure: &A,
    clock: &C,
    books: &FileBooks,
    (subscription, cloud_id): (Uuid, Option<Uuid>),
    change: Change,
    desk: &mut Desk<'_, B>,
) -> Result<Report, Failure> {
    let find = async |cloud_id| fetch::registration(azure, clock, subscription, cloud_id).await;
    let Some(cloud_id) = cloud_id else { return Err(find(None).await.err().unwrap_or_else(unnamed)) };
    let operation = if matches!(change, Change::Add(_)) { ADD } else { REMOVE };
    // A registration's lock is lifted for a removal: what works on the stamp is held apart.
    let _held = match desk.plan {
        true => None,
        false => Some(desk.books.hold(cloud_id, operation, clock.now()).map_err(Failure::before)?),
    };
    let mut agreed = Agreed::default();
    loop {
        let registration = find(Some(cloud_id)).await?;
        let prepared = prepare(azure, clock, &registration, change).await?;
        if desk.plan {
            return Ok(prepared.report(&registration, Outcome::Planned));
        }
        if prepared.done {
            return Ok(prepared.report(&registration, Outcome::NothingToDo));
        }
        let registrations = vec![Marked::of(&registration.id, Some(&registration))];
        let mark = Mark { registrations, lost: prepared.lost.clone(), ..Mark::default() };
        let what = "From now on usage is shown elsewhere; what was reported stays where it is.".to_owned();
        let question = Question { what, mark };
        if prepared.lost.is_empty() || agreed.covers(&question, desk.consent)? {
            return make(azure, clock, books, &registration, &prepared, desk.watch).await;
        }
    }
}

fn unnamed() -> Failure {
    Failure::before(Problem::new(&code::WHICH_STAMP, "the stamp is not named"))
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
/// Azure can't be read, or a lock of somebody else's stands in the way.
async fn prepare<A: Azure + Customers, C: Clock>(
    azure: &A,
    clock: &C,
    registration: &Registration,
    change: Change,
) -> Result<Prepared, Failure> {
    let known = list(azure, clock, registration).await?;
    let adds = matches!(change, Change::Add(_));
    // A removal, too: it puts the lock back, which a disabled subscription refuses.
    checks::writable(azure, clock, registration.id.subscription).await?.map_err(|problem| refused(vec![problem]))?;
    if let Some(problem) = checks::foreign_locks(azure, clock, &registration.id, adds).await? {
        return Err(refused(vec![problem]));
    }
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
            let locks = read(clock, Policy::AZURE, async || azure.locks(&registration.id).await).await?;
            // A removal that was killed may have left the registration without its lock.
            let done = found.is_empty() && locks.iter().any(azsreg_model::Lock::is_ours);
            let lost = found.iter().map(|known| {
                format!(
                    "the mapping of the tenant {}: its usage is shown under {} from now on",
                    known.tenant, registration.id.subscription
                )
            });
            Prepared { change, done, lost: lost.collect() }
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
    fn report(&self, registration: &Registration, outcome: Outcome) -> Report {
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
async fn make<A: Azure + Customers, C: Clock>(
    azure: &A,
    clock: &C,
    books: &FileBooks,
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
    let (_lock, mut journal) = begin_in(&books.within("customers"), cloud_id, (operation, VERSION), &request, clock)?;
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
    // Locks are inherited: that of the registration protects its customers from deletion.
    let locked = matches!(prepared.change, Change::Remove(_));
    let all = async {
        if locked {
            steps::unlock(&mut steps, azure, id).await?;
        }
        steps.step(step, title, Policy::AZURE, observe, act, |()| request.clone()).await?;
        if locked { steps::lock(&mut steps, azure, id).await } else { Ok(()) }
    };
    let changed = match all.await {
        Err(failure) => Err(steps::lock::put_back(&steps, azure, clock, &[id], failure).await),
        done => done,
    };
    // One call: what Azure refuses has changed nothing, and is not gone on with.
    changed.map_err(|failure| match failure.problems.first().map(|problem| problem.code.exit) {
        Some(exit @ (ExitCode::CheckFailed | ExitCode::NotRegistered)) => Failure { exit, ..failure },
        _ => failure,
    })?;
    steps.finish("changed")?;
    let steps = steps.into_reports();
    Ok(Report { steps, ..Report::new(operation, Outcome::Done, cloud_id, Some(id.clone())) })
}
