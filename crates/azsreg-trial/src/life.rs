//! The whole life of a registration, by seed: registered, changed, renewed, moved, removed, each through crashes.

use std::cell::{Cell, RefCell};

use azsreg_lab::{Keys, StampOptions};
use azsreg_model::{BillingModel, Bundle, RegisterRequest, RegistrationId};
use azsreg_operations::change::{self, Change, Destination, Wishes};
use azsreg_operations::moving::{self, MoveRequest};
use azsreg_operations::offline::{self, ActivateRequest, OfflineRequest, TokenOrder};
use azsreg_operations::ports::{Stamp as _, World as Ports};
use azsreg_operations::unregister::{self, Sides, UnregisterRequest};
use azsreg_operations::{Failure, Silent, register};
use jiff::{SignedDuration, Timestamp};

use crate::machine::{Machine, Person};
use crate::ports::{Chaos, InProcess, VirtualClock};
use crate::{Broken, Trial, World};

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
        subscription: subscriptions[0],
        name: stage.draw.bool().then(|| "trial".to_owned()),
        resource_group: "azurestack".into(),
        location: None,
        billing_model: model,
        agreement_number: (model == BillingModel::Capacity).then(|| "A-17".to_owned()),
        ms_asset_tag: None,
        usage_reporting: model.reports_usage_by_default(),
        marketplace,
        tenant: None,
        token_version: None,
        renew: false,
        replaces: None,
    };
    let mut draw = stage.draw.clone();
    let mut order = fastrand::Rng::with_seed(seed ^ 0x0bde);
    let trial = Trial { seed, runs: 0, crashes: 0, failures: 0, took: SignedDuration::ZERO };
    let ports = InProcess { world: &stage.world, keys, clock: &stage.clock, chaos: &stage.chaos };
    let records = stage.records.then_some(&ports);
    let world = Ports { azure: &ports, stamp: &ports, records, clock: &stage.clock };
    let mut person = Person { clock: &stage.clock, chaos: &stage.chaos, draw: &mut draw, forgetful, trial };
    let mut machine = Machine::default();
    let never = |_: &Failure| false;

    let run = async |machine: &mut Machine, operation: &'static str, request: &RegisterRequest| {
        let information = ports.information().await?;
        register::wait_for_running(world, &mut Silent).await?;
        let asked = register::canonical(request, information.cloud_id);
        let past = machine.past(operation, register::VERSION, &asked);
        let resumed = !past.open.is_empty();
        let prepared = register::prepare(world, request, information, past).await?;
        if prepared.nothing_to_do() && !resumed {
            return Ok(());
        }
        register::register(world, operation, request, prepared, &mut machine.open, &mut Silent).await.map(drop)
    };
    person.until_done("register", &mut machine, async |machine| run(machine, register::NAME, &request).await, never)?;
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
                let to = Destination { subscription: other, resource_group: None, location: None };
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
                relocate(&mut person, &mut machine, world, &request, &to)?;
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
        if change == Change::Renew {
            wishes.name.clone_from(&request.name);
        }
        if kind != 1 {
            wishes.usage_reporting = Some(request.usage_reporting);
        }
        wishes.marketplace = wishes.marketplace.or(Some(request.marketplace));
        let derived: RefCell<Option<RegisterRequest>> = RefCell::default();
        let from = request.subscription;
        person.until_done(
            change.name(),
            &mut machine,
            async |machine| {
                let information = ports.information().await?;
                let begun = change::begun(&machine.begun(), change, from, &wishes);
                let made = match begun {
                    Some(made) => made,
                    None => {
                        register::wait_for_running(world, &mut Silent).await?;
                        let known = machine.known();
                        change::derive(world, change, from, &wishes, &information, &known).await?.request
                    }
                };
                *derived.borrow_mut() = Some(made.clone());
                run(machine, change.name(), &made).await
            },
            never,
        )?;
        request = derived.into_inner().unwrap_or(request);
        stage.pass(1);
        let what = format!("{} ({kind})", change.name());
        stage.world.borrow().judge(&request, true).map_err(|why| broken(&what, why))?;
        request.renew = false;
        request.replaces = None;
    }

    let remove = UnregisterRequest { subscription: request.subscription, named: None, sides: Sides::Both };
    person.until_done(
        "unregister",
        &mut machine,
        async |machine| {
            let information = ports.information().await?;
            register::wait_for_running(world, &mut Silent).await?;
            let past = machine.past(unregister::NAME, unregister::VERSION, &remove);
            let prepared = unregister::prepare(world, &remove, information, &past).await?;
            if prepared.nothing_to_do() && past.open.is_empty() {
                return Ok(());
            }
            unregister::unregister(world, &remove, prepared, &mut machine.open, &mut Silent).await.map(drop)
        },
        never,
    )?;
    let trial = person.trial.clone();
    stage.pass(1);
    stage.world.borrow().judge_bare().map_err(|why| broken("unregister", why))?;
    Ok(Trial { took: stage.clock.now.get().duration_since(stage.begun), ..trial })
}

/// A move, until it is done.
fn relocate(
    person: &mut Person<'_>,
    machine: &mut Machine,
    world: Ports<'_, InProcess<'_>, InProcess<'_>, InProcess<'_>, VirtualClock>,
    request: &RegisterRequest,
    to: &RegistrationId,
) -> Result<(), Broken> {
    let subscriptions = [request.subscription, to.subscription];
    person.until_done(
        "move",
        machine,
        async |machine| {
            let side = moving::reachable(world).await?;
            register::wait_for_running(world, &mut Silent).await?;
            let found = moving::find(world.azure, world.clock, &subscriptions, None, side.as_ref()).await?;
            let asked = MoveRequest { to: to.clone(), location: None };
            let past = machine.past(moving::MOVE, moving::VERSION, &asked);
            let resumed = !past.open.is_empty();
            let prepared = moving::prepare(world.azure, world.clock, &asked, found, side, past).await?;
            if prepared.nothing_to_do() && !resumed {
                return Ok(());
            }
            moving::relocate(world, moving::MOVE, &asked, prepared, &mut machine.open, &mut Silent).await.map(drop)
        },
        |_| false,
    )
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
    let details = RegisterRequest {
        subscription,
        name: None,
        resource_group: "azurestack".into(),
        location: None,
        billing_model: model,
        agreement_number: (model == BillingModel::Capacity).then(|| "A-17".to_owned()),
        ms_asset_tag: None,
        usage_reporting: false,
        marketplace: false,
        tenant: None,
        token_version: None,
        renew: false,
        replaces: None,
    };
    let mut draw = stage.draw.clone();
    let trial = Trial { seed, runs: 0, crashes: 0, failures: 0, took: SignedDuration::ZERO };
    let ports = InProcess { world: &stage.world, keys, clock: &stage.clock, chaos: &stage.chaos };
    let records = stage.records.then_some(&ports);
    let world = Ports { azure: &(), stamp: &ports, records, clock: &stage.clock };
    let mut person = Person { clock: &stage.clock, chaos: &stage.chaos, draw: &mut draw, forgetful, trial };
    let (mut at_stamp, mut at_azure) = (Machine::default(), Machine::default());
    let never = |_: &Failure| false;
    let cloud_id = stage.world.borrow().stamp.cloud_id;
    let id = details.id_for(cloud_id);

    for round in 0..2 {
        let renewal = round == 1;
        // The file on its way: whatever was written last.
        let carried: RefCell<Option<Bundle>> = RefCell::default();
        let registration = renewal.then(|| id.clone());
        let order = TokenOrder { details: details.clone(), renewal, deactivate: renewal, registration };
        person.until_done(
            order.name(),
            &mut at_stamp,
            async |machine| {
                let information = ports.information().await?;
                register::wait_for_running(world, &mut Silent).await?;
                drop(machine.past(order.name(), offline::VERSION, &order));
                let mut deliver = |bundle: &Bundle| {
                    *carried.borrow_mut() = Some(bundle.clone());
                    Ok(())
                };
                offline::token(world, &order, &information, &mut machine.open, &mut Silent, &mut deliver)
                    .await
                    .map(drop)
            },
            never,
        )?;
        let bundle = carried.take();
        let deactivated_at = bundle.as_ref().and_then(|bundle| bundle.receipt.as_ref()?.deactivated_at);
        let token = bundle.and_then(|bundle| bundle.token);
        let token = token.ok_or_else(|| broken("offline token", "no file was written".into()))?;
        let request = OfflineRequest {
            id: id.clone(),
            location: None,
            cloud_id,
            token: token.digest(),
            remove: renewal.then(|| id.clone()),
            deactivated_at,
            renewal,
        };
        person.until_done(
            request.name(),
            &mut at_azure,
            async |machine| {
                let past = machine.past(request.name(), offline::VERSION, &request);
                let prepared = offline::prepare(&ports, &stage.clock, &request, &past).await?;
                let mut deliver = |bundle: &Bundle| {
                    *carried.borrow_mut() = Some(bundle.clone());
                    Ok(())
                };
                let journal = &mut machine.open;
                offline::register(&ports, &stage.clock, &request, &token, prepared, journal, &mut Silent, &mut deliver)
                    .await
                    .map(drop)
            },
            never,
        )?;
        let key = carried.take().and_then(|bundle| bundle.key);
        let key = key.ok_or_else(|| broken("offline register", "no file was written".into()))?;
        let activate = ActivateRequest { id: id.clone(), key: key.digest(), renewal };
        person.until_done(
            activate.name(),
            &mut at_stamp,
            async |machine| {
                let information = ports.information().await?;
                offline::compare(&stage.clock, &key, &information).map_err(Failure::before)?;
                register::wait_for_running(world, &mut Silent).await?;
                let past = machine.past(activate.name(), offline::VERSION, &activate);
                let journal = &mut machine.open;
                offline::activate(world, &activate, &key, &information, &past, journal, &mut Silent).await.map(drop)
            },
            never,
        )?;
        stage.pass(1);
        stage.world.borrow().judge(&details, false).map_err(|why| broken(activate.name(), why))?;
        // A year and a month later the renewal is due.
        stage.pass(24 * 400);
    }

    person.until_done(
        "offline-deactivate",
        &mut at_stamp,
        async |machine| {
            let information = ports.information().await?;
            register::wait_for_running(world, &mut Silent).await?;
            let request = offline::DeactivateRequest { registration: Some(id.clone()) };
            drop(machine.past("offline-deactivate", offline::VERSION, &request));
            let (journal, registration) = (&mut machine.open, Some(id.clone()));
            let mut deliver = |_: &Bundle| Ok(());
            offline::deactivate(world, registration, &information, journal, &mut Silent, &mut deliver).await.map(drop)
        },
        never,
    )?;
    let remove = UnregisterRequest { subscription, named: Some(id.clone()), sides: Sides::Azure };
    let nobody = azsreg_operations::ports::Nobody;
    let azure = Ports {
        azure: &ports,
        stamp: &nobody,
        records: None::<&azsreg_operations::ports::Nobody>,
        clock: &stage.clock,
    };
    person.until_done(
        "offline-unregister",
        &mut at_azure,
        async |machine| {
            drop(machine.past(unregister::NAME, unregister::VERSION, &remove));
            let prepared = unregister::prepare_azure(&ports, &stage.clock, id.clone()).await?;
            unregister::unregister(azure, &remove, prepared, &mut machine.open, &mut Silent).await.map(drop)
        },
        // Removed by a run that was killed: what is missing is said to be missing.
        |failure| failure.problems[0].code.id == "AZR6004",
    )?;
    let trial = person.trial.clone();
    stage.pass(1);
    stage.world.borrow().judge_bare().map_err(|why| broken("offline-unregister", why))?;
    Ok(Trial { took: stage.clock.now.get().duration_since(stage.begun), ..trial })
}
