//! One odd answer to one read: a gateway's page, another service's refusal, an empty document. Every read of every operation is
//! answered so, once or from then on, in virtual time. At the end the world is as a run without it leaves it, or the run did
//! not end well, and the same command run again does.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use azsreg_lab::{Keys, StampOptions};
use azsreg_model::{BillingModel, Bundle, Problem, RegisterRequest, code};
use azsreg_operations::change::{self, Change, Wishes};
use azsreg_operations::moving::{self, Destination};
use azsreg_operations::offline::{self, Visit};
use azsreg_operations::ports::{Stamp as _, World as Ports};
use azsreg_operations::unregister::{self, AzureOrder, Sides, Target, UnregisterRequest};
use azsreg_operations::{Failure, Silent, register};
use jiff::{SignedDuration, Timestamp};

use crate::chaos::{Chaos, Odd, VirtualClock};
use crate::life::desk;
use crate::machine::{Machine, Willing, drive};
use crate::ports::InProcess;
use crate::{Broken, World, request};

/// How a sweep went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Reads of operations that were answered oddly, in one way or another.
    pub reads: u32,
    /// Runs of commands with an odd answer.
    pub runs: u32,
    /// Runs that ended well all the same.
    pub well: u32,
    /// Runs that did not, and were run again.
    pub refused: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Register,
    Set,
    Renew,
    ChangeSubscription,
    Move,
    Repair,
    Unregister,
    Orphan,
    UnregisterAzure,
    Token,
    OfflineRegister,
    Activate,
    Deactivate,
    OfflineUnregister,
}

use Deed::{
    Activate, ChangeSubscription, Deactivate, Move, OfflineRegister, OfflineUnregister, Orphan, Register, Renew,
    Repair, Set, Token, Unregister, UnregisterAzure,
};

const DEEDS: &[Deed] = &[
    Register,
    Set,
    Renew,
    ChangeSubscription,
    Move,
    Repair,
    Unregister,
    Orphan,
    UnregisterAzure,
    Token,
    OfflineRegister,
    Activate,
    Deactivate,
    OfflineUnregister,
];

impl Deed {
    /// What comes before it.
    fn before(self) -> &'static [Deed] {
        match self {
            Register | Token => &[],
            Set | Renew | ChangeSubscription | Move | Repair | Unregister | Orphan | UnregisterAzure => &[Register],
            OfflineRegister => &[Token],
            Activate => &[Token, OfflineRegister],
            Deactivate => &[Token, OfflineRegister, Activate],
            OfflineUnregister => &[Token, OfflineRegister, Activate, Deactivate],
        }
    }

    fn is_offline(self) -> bool {
        matches!(self, Token | OfflineRegister | Activate | Deactivate | OfflineUnregister)
    }
}

/// A world before an operation.
struct Scene<'k> {
    world: RefCell<World>,
    clock: VirtualClock,
    chaos: Chaos,
    keys: &'k Keys,
    /// The files that were carried, by what is in them.
    carried: RefCell<HashMap<&'static str, Bundle>>,
}

/// How an operation is run.
#[derive(Debug, Clone, Copy)]
struct Way {
    deed: Deed,
    /// Signed in to the stamp's Resource Manager.
    reads: bool,
    /// On another machine than what came before.
    elsewhere: bool,
}

impl<'k> Scene<'k> {
    fn new(seed: u64, keys: &'k Keys, way: Way) -> Result<(Self, Machine), String> {
        let options = StampOptions {
            connected: !way.deed.is_offline(),
            activation: SignedDuration::from_secs(60),
            ..StampOptions::default()
        };
        let begun: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let scene = Self {
            world: RefCell::new(World::new(seed, options)),
            clock: VirtualClock { now: Cell::new(begun), draw: RefCell::new(fastrand::Rng::with_seed(seed)) },
            chaos: Chaos::new(seed, 0.0, 0.0),
            keys,
            carried: RefCell::default(),
        };
        let machine = Machine::default();
        for deed in way.deed.before() {
            scene.run(Way { deed: *deed, reads: true, ..way }, &machine).map_err(|failure| format!("{failure:?}"))?;
        }
        let mut world = scene.world.borrow_mut();
        match way.deed {
            Repair => {
                world.arm.locks.clear();
                world.stamp.activation = None;
            }
            Orphan => {
                world.arm.locks.clear();
                world.arm.registrations.clear();
                world.arm.assignments.retain(|one| !one.scope.contains("/registrations/"));
            }
            UnregisterAzure => world.stamp.activation = None,
            _ => {}
        }
        drop(world);
        Ok((scene, if way.elsewhere { Machine::default() } else { machine }))
    }

    /// Runs it to its end, and lets the world come to rest.
    fn run(&self, way: Way, machine: &Machine) -> Result<(), Box<Failure>> {
        let killed = || Failure::before(Problem::new(&code::AZURE_FAULT, "it never ended"));
        let result = drive(self.act(way, machine)).unwrap_or_else(|| Err(killed()));
        self.clock.now.set(self.clock.now.get() + SignedDuration::from_mins(10));
        let now = self.clock.now.get();
        let mut world = self.world.borrow_mut();
        world.stamp.settle(now);
        world.arm.settle_moves(now);
        result.map_err(Box::new)
    }

    async fn act(&self, way: Way, machine: &Machine) -> Result<(), Failure> {
        let (azure, clock) = (&self.ports(), &self.clock);
        let records = way.reads.then_some(azure);
        let world = Ports { azure, stamp: azure, records, clock };
        let (willing, silent) = (&mut Willing, &mut Silent);
        let desk = &mut desk(machine, willing, silent);
        let (subscriptions, cloud_id) = {
            let world = self.world.borrow();
            (world.subscriptions, world.stamp.cloud_id)
        };
        let [from, other] = subscriptions;
        let request = self.request(way.deed.is_offline());
        let id = request.id_for(cloud_id);
        let keep = |name: &'static str| {
            move |bundle: &Bundle| {
                self.carried.borrow_mut().insert(name, bundle.clone());
                Ok(())
            }
        };
        let file = |name: &str| self.carried.borrow().get(name).cloned();
        let missing = || Failure::before(Problem::new(&code::AZURE_FAULT, "the file was not carried"));
        match way.deed {
            Register => register::run(world, &request, azure.information().await?, desk).await?,
            Set | Renew | ChangeSubscription => {
                let (change, to, marketplace) = match way.deed {
                    Set => (Change::Set, None, false),
                    Renew => (Change::Renew, None, true),
                    _ => (Change::ChangeSubscription, Some(other), true),
                };
                let to =
                    to.map(|subscription| change::Destination { subscription, resource_group: None, location: None });
                // What the world can't tell where the record is not read is said.
                let wishes = Wishes {
                    billing_model: Some(request.billing_model),
                    usage_reporting: Some(true),
                    marketplace: Some(marketplace),
                    to,
                    ..Wishes::default()
                };
                change::run(world, change, from, &wishes, azure.information().await?, desk).await?
            }
            Move | Repair => {
                let to = Destination { subscription: from, resource_group: "moved".into(), location: None };
                moving::run(world, from, None, (way.deed == Move).then_some(&to), desk).await?
            }
            Unregister | Orphan => {
                let sides = if way.deed == Orphan { Sides::Stamp } else { Sides::Both };
                let request = UnregisterRequest { subscription: from, named: None, sides };
                unregister::run(world, &request, azure.information().await?, desk).await?
            }
            UnregisterAzure | OfflineUnregister => {
                let receipt = file("receipt").and_then(|bundle| bundle.receipt?.deactivated_at);
                let offline = way.deed == OfflineUnregister;
                let order = AzureOrder {
                    operation: if offline { "offline-unregister" } else { "unregister" },
                    subscription: from,
                    target: Target::Named(id),
                    cloud_id: offline.then_some(cloud_id),
                    deactivated_at: receipt,
                };
                unregister::run_azure(world, &order, desk).await?
            }
            Token => {
                let information = azure.information().await?;
                offline::run_token(world, (request, false, false), &information, desk, &mut keep("token")).await?
            }
            OfflineRegister => {
                let Bundle { token, receipt, .. } = file("token").ok_or_else(missing)?;
                let token = token.ok_or_else(missing)?;
                let visit = Visit {
                    subscription: from,
                    resource_group: id.resource_group.clone(),
                    name: Some(id.name.clone()),
                    location: None,
                    token: &token,
                    cloud_id,
                    receipt,
                    renewal: false,
                    file: "token".into(),
                };
                offline::run_register(azure, clock, &visit, desk, &mut keep("key")).await?
            }
            Activate => {
                let key = file("key").and_then(|bundle| bundle.key).ok_or_else(missing)?;
                let information = azure.information().await?;
                offline::run_activate(world, &offline::CarriedKey::bare(&key), false, &information, desk).await?
            }
            Deactivate => {
                let information = azure.information().await?;
                offline::run_deactivate(world, &information, desk, &mut keep("receipt")).await?
            }
        };
        Ok(())
    }

    fn ports(&self) -> InProcess<'_> {
        InProcess { world: &self.world, keys: self.keys, clock: &self.clock, chaos: &self.chaos, between: None }
    }

    fn request(&self, offline: bool) -> RegisterRequest {
        let model = if offline { BillingModel::Capacity } else { BillingModel::PayAsYouUse };
        RegisterRequest { marketplace: !offline, ..request(self.world.borrow().subscriptions[0], model) }
    }

    /// Everything that an operation may change, in words.
    fn end(&self) -> Vec<String> {
        let world = self.world.borrow();
        let mut end: Vec<String> = Vec::new();
        for one in &world.arm.registrations {
            let number = one.token.members.get("agreementNumber");
            end.push(format!("{} {} {number:?}", one.id(), one.token.billing_model));
        }
        end.extend(world.arm.locks.iter().map(|lock| format!("lock {} on {}", lock.name, lock.scope)));
        let roles = world.arm.assignments.iter().filter(|one| one.scope.contains("/registrations/"));
        end.extend(roles.map(|role| format!("role {} on {}", role.role, role.scope)));
        let activated = world.stamp.activation.as_ref();
        end.extend(activated.map(|one| format!("{} usage {} items {}", one.registration, one.usage, one.marketplace)));
        end.extend(world.stamp.running().map(|_| "an action runs".to_owned()));
        let files = self.carried.borrow();
        end.extend(files.contains_key("receipt").then(|| "a receipt".to_owned()));
        end.iter_mut().for_each(|line| line.make_ascii_lowercase());
        end.sort();
        end
    }
}

/// Answers every read of every operation oddly, in three ways, and judges each end.
///
/// # Errors
/// A run ended well and left another world than without the odd answer, or the same command run again does not end well.
pub fn sweep_trial(seed: u64, keys: &Keys) -> Result<Sweep, Broken> {
    let mut sweep = Sweep::default();
    for deed in DEEDS {
        for (reads, elsewhere) in [(true, false), (true, true), (false, false), (false, true)] {
            let way = Way { deed: *deed, reads, elsewhere };
            sweep_way(seed, keys, way, &mut sweep).map_err(|why| Broken { seed, why: format!("{way:?}: {why}") })?;
        }
    }
    Ok(sweep)
}

fn sweep_way(seed: u64, keys: &Keys, way: Way, sweep: &mut Sweep) -> Result<(), String> {
    let (scene, machine) = Scene::new(seed, keys, way)?;
    scene.chaos.answer(Odd::Never);
    scene.run(way, &machine).map_err(|failure| format!("without an odd answer: {failure:?}"))?;
    let (reads, _) = scene.chaos.answered();
    let wanted = scene.end();
    sweep.reads += reads;
    for nth in 1..=reads {
        for odd in [Odd::Once(nth), Odd::Refused(nth), Odd::From(nth)] {
            let (scene, machine) = Scene::new(seed, keys, way)?;
            scene.chaos.answer(odd);
            let result = scene.run(way, &machine);
            let (_, asked) = scene.chaos.answered();
            sweep.runs += 1;
            let what = format!("{odd:?}, to {asked:?}");
            if let Err(failure) = result {
                sweep.refused += 1;
                scene.chaos.answer(Odd::Never);
                // Deleted before the last look: named again, it is missing, and said to be. A receipt says that it was there.
                let removes = way.deed == UnregisterAzure;
                if let Err(again) = scene.run(way, &machine)
                    && !(removes && again.problems[0].code.id == "AZR6004")
                {
                    return Err(format!("{what}: after {failure:?}, run again: {again:?}"));
                }
            } else {
                sweep.well += 1;
            }
            let end = scene.end();
            if end != wanted {
                return Err(format!("{what}: the end is {end:#?}, not {wanted:#?}"));
            }
        }
    }
    Ok(())
}
