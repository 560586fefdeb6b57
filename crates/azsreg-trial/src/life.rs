//! The whole life of a registration, by seed: registered, changed, renewed, moved, removed, each through crashes.

use std::cell::{Cell, RefCell};

use azsreg_lab::{Keys, StampOptions};
use azsreg_model::{BillingModel, Bundle, RegisterRequest, RegistrationId};
use azsreg_operations::change::{self, Change, Wishes};
use azsreg_operations::engine::session::{Consent, Desk};
use azsreg_operations::moving::{self, Destination};
use azsreg_operations::offline::{self, Visit};
use azsreg_operations::ports::{Stamp as _, World as Ports};
use azsreg_operations::unregister::{self, AzureOrder, Sides, Target, UnregisterRequest};
use azsreg_operations::{Failure, Silent, register};
use jiff::{SignedDuration, Timestamp};

use crate::chaos::{Chaos, VirtualClock};
use crate::machine::{Machine, Person, Willing};
use crate::ports::InProcess;
use crate::{Broken, Trial, World, request};

const BUILDS: &[&str] =
    &["1.1910.0.50", "1.2005.0.4", "1.2008.0.59", "1.2206.0.1", "1.2301.2.58", "1.2501.0.21", "1.2601.0.4"];

/// The stage of a trial.
struct Stage {
    world: RefCell<World>,
    clock: VirtualClock,
    chaos: Chaos,
    draw: fastrand::Rng,
    begun: Timestamp,
    records: bool,
}

impl Stage {
    fn new(seed: u64, connected: bool) -> Self {
        let mut draw = fastrand::Rng::with_seed(seed);
        let options = StampOptions {
            build: BUILDS[draw.usize(..BUILDS.len())].into(),
            nodes: [1, 4, 8][draw.usize(..3)],
            activation: SignedDuration::from_secs(draw.i64(0..900)),
            connected,
            ..StampOptions::default()
        };
        let begun: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH);
        Self {
            world: RefCell::new(World::new(seed, options)),
            clock: VirtualClock { now: Cell::new(begun), draw: RefCell::new(fastrand::Rng::with_seed(seed ^ 1)) },
            chaos: Chaos::new(seed, draw.f64() * 0.08, draw.f64() * 0.05),
            records: draw.u8(0..4) > 0,
            begun,
            draw,
        }
    }

    fn pass(&self, hours: i64) {
        self.clock.now.set(self.clock.now.get() + SignedDuration::from_hours(hours));
        let now = self.clock.now.get();
        let mut world = self.world.borrow_mut();
        world.stamp.settle(now);
        world.arm.settle_moves(now);
    }
}

/// Registers a stamp, changes, renews and moves the registration and removes it, through crashes and failures drawn from a
/// seed, and judges each end.
///
/// # Errors
/// It did not end, or not as it must.
pub fn life_trial(seed: u64, keys: &Keys) -> Result<Trial, Broken> {
    let broken = |what: &str, why: String| Broken { seed, why: format!("{what}: {why}") };
    let mut stage = Stage::new(seed, true);
    let forgetful = stage.draw.u8(0..3);
    let models =
        [BillingModel::PayAsYouUse, BillingModel::Capacity, BillingModel::Development, BillingModel::Ruggedized];
    let model = models[stage.draw.usize(..models.len())];
    let subscriptions = stage.world.borrow().subscriptions;
    let marketplace = stage.draw.bool();
    let mut request = RegisterRequest {
        name: stage.draw.bool().then(|| "trial".to_owned()),
        marketplace,
        ..request(subscriptions[0], model)
    };
    let mut draw = stage.draw.clone();
    let mut order = fastrand::Rng::with_seed(seed ^ 0x0bde);
    let trial = Trial { seed, runs: 0, crashes: 0, failures: 0, took: SignedDuration::ZERO };
    let ports = InProcess { world: &stage.world, keys, clock: &stage.clock, chaos: &stage.chaos, between: None };
    let records = stage.records.then_some(&ports);
    let world = Ports { azure: &ports, stamp: &ports, records, clock: &stage.clock };
    let mut person = Person { clock: &stage.clock, chaos: &stage.chaos, draw: &mut draw, forgetful, trial };
    let machine = Machine::default();
    let never = |_: &Failure| false;
    let once = async || {
        let information = ports.information().await?;
        register::run(world, &request, information, &mut desk(&machine, &mut Willing, &mut Silent)).await.map(drop)
    };
    person.until_done("register", &machine, once, never)?;
    stage.pass(1);
    stage.world.borrow().judge(&request, true).map_err(|why| broken("register", why))?;

    for _ in 0..4 {
        let kind = order.u8(0..7);

        let (change, mut wishes) = match kind {
            // What the world can't tell is given again: a forgetful machine has nothing else.
            0 => (Change::Set, Wishes { marketplace: Some(!request.marketplace), ..Wishes::default() }),
            1 => {
                let capacity = request.billing_model != BillingModel::Capacity;
                let model = if capacity { BillingModel::Capacity } else { BillingModel::Development };
                (Change::Set, Wishes { billing_model: Some(model), ..Wishes::default() })
            }
            2 => {
                let nodes = [2, 4, 6, 8][order.usize(..4)];
                let mut guard = stage.world.borrow_mut();
                let World { stamp, draw, .. } = &mut *guard;
                stamp.scale(draw, nodes);
                drop(guard);
                (Change::Renew, Wishes::default())
            }
            3 => {
                // A year and a month later: a capacity registration has expired.
                stage.pass(24 * 400);
                (Change::Renew, Wishes::default())
            }
            4 => {
                let other = subscriptions[usize::from(request.subscription == subscriptions[0])];
                let group = Some(request.resource_group.clone());
                let to = change::Destination { subscription: other, resource_group: group, location: None };
                (Change::ChangeSubscription, Wishes { to: Some(to), ..Wishes::default() })
            }
            5 | 6 => {
                let across = kind == 6;
                let other = subscriptions[usize::from(request.subscription == subscriptions[0])];
                if across && stage.world.borrow().arm.provider_ready(other).is_err() {
                    continue;
                }
                let to = RegistrationId {
                    subscription: if across { other } else { request.subscription },
                    resource_group: if request.resource_group == "moved" { "azurestack" } else { "moved" }.into(),
                    name: request.name_for(stage.world.borrow().stamp.cloud_id),
                };
                relocate(&mut person, &machine, world, &request, &to)?;
                request.subscription = to.subscription;
                request.resource_group.clone_from(&to.resource_group);
                request.name = Some(to.name);
                request.renew = false;
                stage.pass(1);
                stage.world.borrow().judge(&request, true).map_err(|why| broken("move", why))?;
                continue;
            }
            _ => continue,
        };
        let changes_to = wishes.billing_model.unwrap_or(request.billing_model);
        wishes.billing_model = Some(changes_to);
        wishes.agreement_number = (changes_to == BillingModel::Capacity).then(|| "A-17".to_owned());
        if change != Change::Set {
            wishes.name.clone_from(&request.name);
        }
        if kind != 1 {
            wishes.usage_reporting = Some(request.usage_reporting);
        }
        wishes.marketplace = wishes.marketplace.or(Some(request.marketplace));
        let from = request.subscription;
        let once = async || {
            let information = ports.information().await?;
            let (willing, silent) = (&mut Willing, &mut Silent);
            change::run(world, change, from, &wishes, information, &mut desk(&machine, willing, silent)).await.map(drop)
        };
        person.until_done(change.name(), &machine, once, never)?;
        request = asked(request, change, &wishes);
        if change == Change::Renew && forgetful > 0 {
            // Deleted by a run whose journal is lost, nothing remembers in which group it was: it is made in the usual one.
            let world = stage.world.borrow();
            let made = world.arm.registrations.first().map(|one| one.id().parse::<RegistrationId>());
            request.resource_group = made.and_then(Result::ok).map_or(request.resource_group, |id| id.resource_group);
        }
        stage.pass(1);
        let what = format!("{} ({kind})", change.name());
        stage.world.borrow().judge(&request, true).map_err(|why| broken(&what, why))?;
        request.renew = false;
        request.replaces = None;
    }

    let remove = UnregisterRequest { subscription: request.subscription, named: None, sides: Sides::Both };
    let once = async || {
        let information = ports.information().await?;
        unregister::run(world, &remove, information, &mut desk(&machine, &mut Willing, &mut Silent)).await.map(drop)
    };
    person.until_done("unregister", &machine, once, never)?;
    let trial = person.trial.clone();
    stage.pass(1);
    stage.world.borrow().judge_bare().map_err(|why| broken("unregister", why))?;
    Ok(Trial { took: stage.clock.now.get().duration_since(stage.begun), ..trial })
}

/// What a change leads to.
fn asked(before: RegisterRequest, change: Change, wishes: &Wishes) -> RegisterRequest {
    let model = wishes.billing_model.unwrap_or(before.billing_model);
    let usage = wishes.usage_reporting.unwrap_or(match model == before.billing_model {
        true => before.usage_reporting,
        false => model.reports_usage_by_default(),
    });
    RegisterRequest {
        subscription: wishes.to.as_ref().map_or(before.subscription, |to| to.subscription),
        billing_model: model,
        agreement_number: wishes.agreement_number.clone(),
        usage_reporting: usage && model != BillingModel::Capacity,
        marketplace: wishes.marketplace.unwrap_or(before.marketplace),
        renew: change == Change::Renew,
        ..before
    }
}

/// A run with these journals, and somebody who agrees.
pub(crate) fn desk<'d>(books: &'d Machine, consent: &'d mut dyn Consent, watch: &'d mut Silent) -> Desk<'d, Machine> {
    Desk { books, consent, watch, plan: false }
}

/// A move, until it is done.
fn relocate(
    person: &mut Person<'_>,
    machine: &Machine,
    world: Ports<'_, InProcess<'_>, InProcess<'_>, InProcess<'_>, VirtualClock>,
    request: &RegisterRequest,
    to: &RegistrationId,
) -> Result<(), Broken> {
    let target =
        Destination { subscription: to.subscription, resource_group: to.resource_group.clone(), location: None };
    let once = async || {
        let (consent, watch) = (&mut Willing, &mut Silent);
        let desk = &mut desk(machine, consent, watch);
        moving::run(world, request.subscription, None, Some(&target), desk).await.map(drop)
    };
    person.until_done("move", machine, once, |_| false)
}

/// Registers a disconnected stamp, renews and removes it, on two machines that share nothing but the carried file.
///
/// # Errors
/// It did not end, or not as it must.
pub fn offline_trial(seed: u64, keys: &Keys) -> Result<Trial, Broken> {
    let broken = |what: &str, why: String| Broken { seed, why: format!("{what}: {why}") };
    let mut stage = Stage::new(seed, false);
    let forgetful = stage.draw.u8(0..3);
    let model = if stage.draw.bool() { BillingModel::Capacity } else { BillingModel::Development };
    let subscription = stage.world.borrow().subscriptions[0];
    let details = RegisterRequest { usage_reporting: false, marketplace: false, ..request(subscription, model) };
    let mut draw = stage.draw.clone();
    let trial = Trial { seed, runs: 0, crashes: 0, failures: 0, took: SignedDuration::ZERO };
    let ports = InProcess { world: &stage.world, keys, clock: &stage.clock, chaos: &stage.chaos, between: None };
    let records = stage.records.then_some(&ports);
    let world = Ports { azure: &(), stamp: &ports, records, clock: &stage.clock };
    let mut person = Person { clock: &stage.clock, chaos: &stage.chaos, draw: &mut draw, forgetful, trial };
    let (at_stamp, at_azure) = (Machine::default(), Machine::default());
    let never = |_: &Failure| false;
    let cloud_id = stage.world.borrow().stamp.cloud_id;
    let id = details.id_for(cloud_id);

    for round in 0..2 {
        let renewal = round == 1;
        // The file on its way: whatever was written last.
        let carried: RefCell<Option<Bundle>> = RefCell::default();
        let deliver = |bundle: &Bundle| {
            *carried.borrow_mut() = Some(bundle.clone());
            Ok(())
        };
        let name = if renewal { "offline-renew-start" } else { "offline-token" };
        let once = async || {
            let information = ports.information().await?;
            let order = (details.clone(), renewal, false);
            let (consent, watch) = (&mut Willing, &mut Silent);
            let desk = &mut desk(&at_stamp, consent, watch);
            offline::run_token(world, order, &information, desk, &mut { deliver }).await.map(drop)
        };
        person.until_done(name, &at_stamp, once, never)?;
        let bundle = carried.take().ok_or_else(|| broken(name, "no file was written".into()))?;
        let Bundle { token, receipt, .. } = bundle;
        let token = token.ok_or_else(|| broken(name, "the file has no token".into()))?;
        let name = if renewal { "offline-renew-register" } else { "offline-register" };
        let visit = Visit {
            subscription,
            resource_group: id.resource_group.clone(),
            name: Some(id.name.clone()),
            location: None,
            token: &token,
            cloud_id,
            receipt,
            renewal,
            file: "token".into(),
        };
        let once = async || {
            let (consent, watch) = (&mut Willing, &mut Silent);
            let desk = &mut desk(&at_azure, consent, watch);
            offline::run_register(&ports, &stage.clock, &visit, desk, &mut { deliver }).await.map(drop)
        };
        person.until_done(name, &at_azure, once, never)?;
        let key = carried.take().and_then(|bundle| bundle.key);
        let key = key.ok_or_else(|| broken("offline register", "no file was written".into()))?;
        let name = if renewal { "offline-renew-finish" } else { "offline-activate" };
        let once = async || {
            let information = ports.information().await?;
            let (consent, watch) = (&mut Willing, &mut Silent);
            let desk = &mut desk(&at_stamp, consent, watch);
            offline::run_activate(world, &offline::CarriedKey::bare(&key), renewal, &information, desk).await.map(drop)
        };
        person.until_done(name, &at_stamp, once, never)?;
        stage.pass(1);
        stage.world.borrow().judge(&details, false).map_err(|why| broken(name, why))?;
        // A year and a month later the renewal is due.
        stage.pass(24 * 400);
    }

    let receipt: RefCell<Option<Bundle>> = RefCell::default();
    let once = async || {
        let information = ports.information().await?;
        let mut deliver = |bundle: &Bundle| {
            *receipt.borrow_mut() = Some(bundle.clone());
            Ok(())
        };
        let (consent, watch) = (&mut Willing, &mut Silent);
        let desk = &mut desk(&at_stamp, consent, watch);
        offline::run_deactivate(world, &information, desk, &mut deliver).await.map(drop)
    };
    person.until_done("offline-deactivate", &at_stamp, once, never)?;
    let nobody = azsreg_operations::ports::Nobody;
    let azure = Ports {
        azure: &ports,
        stamp: &nobody,
        records: None::<&azsreg_operations::ports::Nobody>,
        clock: &stage.clock,
    };
    let order = AzureOrder {
        operation: "offline-unregister",
        subscription,
        target: Target::Named(id.clone()),
        cloud_id: Some(cloud_id),
        deactivated_at: receipt.take().and_then(|bundle| bundle.receipt?.deactivated_at),
    };
    let once = async || {
        let (consent, watch) = (&mut Willing, &mut Silent);
        let desk = &mut desk(&at_azure, consent, watch);
        unregister::run_azure(azure, &order, desk).await.map(drop)
    };
    // Removed by a run that was killed and whose journal is lost: what is missing is said to be missing.
    let missing = |failure: &Failure| failure.problems[0].code.id == "AZR6004";
    person.until_done("offline-unregister", &at_azure, once, missing)?;
    let trial = person.trial.clone();
    stage.pass(1);
    stage.world.borrow().judge_bare().map_err(|why| broken("offline-unregister", why))?;
    Ok(Trial { took: stage.clock.now.get().duration_since(stage.begun), ..trial })
}
