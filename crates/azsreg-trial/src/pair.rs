//! Two operators at one stamp, by seed. Each has journals of their own and knows nothing of the other; one acts while a question
//! of the other is on the screen, or between two calls of the other's; runs are killed, and what they left is run again at any
//! later time, by a clock that may have been set back.
//!
//! Whatever they do, no run that ends well leaves a stamp activated for a registration that is gone, and nothing is deactivated
//! or deleted that who does it was not asked about as it is.

use std::cell::{Cell, RefCell};

use azsreg_lab::{Keys, StampOptions};
use azsreg_model::{BillingModel, Problem, code};
use azsreg_operations::change::{self, Change, Wishes};
use azsreg_operations::engine::journal::Mark;
use azsreg_operations::engine::session::{Consent, Desk, Question};
use azsreg_operations::moving::{self, Destination};
use azsreg_operations::offline;
use azsreg_operations::ports::{Stamp as _, World as Ports};
use azsreg_operations::unregister::{self, Sides, UnregisterRequest};
use azsreg_operations::{Failure, Silent, register};
use jiff::{SignedDuration, Timestamp};

use crate::chaos::{Chaos, VirtualClock};
use crate::machine::{Machine, drive};
use crate::ports::InProcess;
use crate::{Broken, Trial, World, request};

/// What an operator does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    Register(BillingModel),
    Set(bool),
    Renew,
    ChangeSubscription(usize),
    Move(usize, &'static str),
    Repair,
    Unregister,
    Orphan,
    Deactivate,
    /// Moved in the portal, by whoever: no run of azsreg.
    Portal,
}

/// One of the two.
struct Operator {
    machine: Machine,
    /// Whether they sign in to the stamp's Resource Manager.
    reads: bool,
    /// What they began and did not see end: it is run again at any time.
    begun: RefCell<Vec<(Deed, usize)>>,
    /// What they agreed to, ever: an interrupted run carries it.
    agreed: RefCell<Vec<Mark>>,
}

/// Both of them, and the world.
struct Pair<'k> {
    world: RefCell<World>,
    clock: VirtualClock,
    keys: &'k Keys,
    draw: RefCell<fastrand::Rng>,
    operators: [Operator; 2],
    trial: RefCell<Trial>,
    /// How often a registration was moved in the portal.
    moved: Cell<u32>,
    /// What was done, for whoever replays a seed.
    log: RefCell<Vec<String>>,
    broken: RefCell<Option<String>>,
}

/// An operator at the terminal: while a question is on the screen the other may act. Without a terminal nobody agrees.
struct Person<'p, 'k> {
    pair: &'p Pair<'k>,
    who: usize,
    depth: u32,
    /// `--yes`, an answer, or neither.
    mood: u8,
}

impl Consent for Person<'_, '_> {
    fn agree(&mut self, question: &Question, changed: bool) -> Result<(), Problem> {
        let answer = match self.mood {
            0 if changed => Err(Problem::new(&code::CHANGED_MEANWHILE, question.what.clone())),
            0 => Ok(()),
            1 => Err(Problem::new(&code::NOT_CONFIRMED, question.what.clone())),
            _ => {
                if self.depth == 0 && self.pair.draw.borrow_mut().u8(0..2) == 0 {
                    self.pair.act(1 - self.who, 1);
                }
                Ok(())
            }
        };
        if answer.is_ok() {
            self.pair.operators[self.who].agreed.borrow_mut().push(question.mark.clone());
        }
        answer
    }
}

impl Pair<'_> {
    fn deed(&self) -> (Deed, usize) {
        let mut draw = self.draw.borrow_mut();
        let models = [BillingModel::PayAsYouUse, BillingModel::Capacity, BillingModel::Development];
        let subscription = draw.usize(..2);
        let deed = match draw.u8(0..13) {
            0..=2 => Deed::Register(models[draw.usize(..models.len())]),
            3 => Deed::Set(draw.bool()),
            4 => Deed::Renew,
            5 => Deed::ChangeSubscription(1 - subscription),
            6 => Deed::Move(draw.usize(..2), if draw.bool() { "moved" } else { "azurestack" }),
            7 => Deed::Repair,
            8 | 9 => Deed::Unregister,
            10 => Deed::Orphan,
            11 => Deed::Portal,
            _ => Deed::Deactivate,
        };
        (deed, subscription)
    }

    /// Whether somebody's newest run is half-way: what the world is then is nobody's word.
    fn is_open(&self) -> bool {
        self.operators.iter().any(|operator| operator.machine.is_half_way())
    }

    /// One operator does something, anew or again. `depth` is 0 for who is not interrupting the other.
    fn act(&self, who: usize, depth: u32) {
        let operator = &self.operators[who];
        let again = {
            let begun = operator.begun.borrow();
            let mut draw = self.draw.borrow_mut();
            (!begun.is_empty() && draw.u8(0..2) == 0).then(|| begun[draw.usize(..begun.len())].clone())
        };
        let (deed, subscription) = again.unwrap_or_else(|| self.deed());
        if deed == Deed::Portal {
            return self.moved_in_the_portal();
        }
        let (seed, failure, crash, mood) = {
            let mut draw = self.draw.borrow_mut();
            let crash = if draw.u8(0..2) == 0 { 0.05 } else { 0.0 };
            (draw.u64(..), draw.f64() * 0.03, crash, draw.u8(0..3))
        };
        let chaos = Chaos::new(seed, failure, crash);
        let calls = Cell::new(0u32);
        let (acts, moved) = (self.trial.borrow().runs, self.moved.get());
        // The other acts wholly between two calls of this one, now and then.
        let when = self.draw.borrow_mut().u32(0..120);
        let between = |call: &str| {
            // Between a run's last look and its call the other may act: no client can see that.
            if self.trial.borrow().runs == acts && moved == self.moved.get() {
                self.is_agreed(who, call, &deed);
            }
            calls.set(calls.get() + 1);
            if depth == 0 && calls.get() == when {
                self.act(1 - who, 1);
            }
        };
        let ports = InProcess {
            world: &self.world,
            keys: self.keys,
            clock: &self.clock,
            chaos: &chaos,
            between: Some(&between),
        };
        let mut person = Person { pair: self, who, depth, mood };
        let result = drive(self.run(who, &deed, subscription, &ports, &mut person));
        let name = ["A", "B"][who];
        let ended = match &result {
            None => "killed".to_owned(),
            Some(Ok(())) => "ended well".to_owned(),
            Some(Err(failure)) => failure.problems.first().map(ToString::to_string).unwrap_or_default(),
        };
        self.log.borrow_mut().push(format!("{name}{} {deed:?} in {subscription}: {ended}", "'".repeat(depth as usize)));
        {
            let mut trial = self.trial.borrow_mut();
            trial.runs += 1;
            trial.crashes += u32::from(result.is_none());
            trial.failures += u32::from(matches!(result, Some(Err(_))));
        }
        let mut begun = operator.begun.borrow_mut();
        if result.is_none() {
            begun.push((deed, subscription));
            return;
        }
        drop(begun);
        // Moved in the portal while this ran, the record may name what is gone, whatever the run did.
        if matches!(result, Some(Ok(()))) && !self.is_open() && moved == self.moved.get() {
            // What was so when it was looked at may not be so any more where the other has acted since.
            let alone = self.trial.borrow().runs == acts + 1;
            self.judge(&deed, alone);
        }
    }

    /// A registration is moved to another group, in the portal. The stamp's record names what is gone until it is repaired.
    fn moved_in_the_portal(&self) {
        let mut world = self.world.borrow_mut();
        let World { arm, draw, .. } = &mut *world;
        let Some(one) = arm.registrations.first() else { return };
        let (id, subscription, group) = (one.id(), one.subscription, one.group.clone());
        let to = if group == "moved" { "azurestack" } else { "moved" };
        let _ = arm.put_group(subscription, to, &serde_json::json!({"location": "westcentralus"}));
        let (operation, now) = (draw.guid(), self.clock.now.get());
        let moved =
            arm.begin_move(operation, now, SignedDuration::ZERO, vec![id], (subscription, &group), (subscription, to));
        if moved.is_ok() {
            self.moved.set(self.moved.get() + 1);
            self.log.borrow_mut().push(format!("moved to {to} in the portal"));
        }
    }

    /// What is deactivated or deleted is as it was when who does it agreed to that.
    fn is_agreed(&self, who: usize, call: &str, deed: &Deed) {
        let operator = &self.operators[who];
        let agreed = operator.agreed.borrow();
        let world = self.world.borrow();
        let fits = |mark: &Mark| match call {
            "delete the registration" => world.arm.registrations.iter().any(|one| {
                let id = one.id().parse().ok();
                let etag = Some(one.etag.clone());
                mark.registrations.iter().any(|marked| Some(&marked.id) == id.as_ref() && marked.etag == etag)
            }),
            _ => {
                let named = world.stamp.activation.as_ref().and_then(|one| one.registration.parse().ok());
                named.is_none() || mark.record.is_none() || mark.record == named
            }
        };
        let nothing = match call {
            "delete the registration" => world.arm.registrations.is_empty(),
            "Remove-AzureStackActivation" => world.stamp.activation.is_none(),
            _ => true,
        };
        if !nothing && !agreed.iter().any(fits) {
            let log = self.log.borrow().join("\n  ");
            let why = format!(
                "{deed:?} {} of {:?}: that was not agreed to by {}, who agreed to {agreed:?}, after\n  {log}",
                call,
                world.stamp.activation.as_ref().map(|one| &one.registration),
                ["A", "B"][who]
            );
            self.broken.borrow_mut().get_or_insert(why);
        }
    }

    /// No run that ends well, while nothing else is half-way, leaves the stamp activated for what is gone.
    fn judge(&self, deed: &Deed, alone: bool) {
        let now = self.clock.now.get();
        let mut world = self.world.borrow_mut();
        world.stamp.settle(now);
        world.arm.settle_moves(now);
        let activated = world.stamp.activation.as_ref().map(|activation| activation.registration.clone());
        let live = |id: &str| world.arm.registrations.iter().any(|one| one.id().eq_ignore_ascii_case(id));
        let why = match (&activated, deed) {
            (Some(id), _) if !live(id) => Some(format!("the stamp is activated for {id}, which is gone")),
            (None, Deed::Register(_) | Deed::Set(_) | Deed::Renew | Deed::ChangeSubscription(_) | Deed::Repair)
                if alone =>
            {
                Some("the stamp is not activated".to_owned())
            }
            _ => None,
        };
        if let Some(why) = why {
            let log = self.log.borrow().join("\n  ");
            self.broken.borrow_mut().get_or_insert(format!("{why}, after\n  {log}"));
        }
    }

    async fn run(
        &self,
        who: usize,
        deed: &Deed,
        subscription: usize,
        ports: &InProcess<'_>,
        person: &mut dyn Consent,
    ) -> Result<(), Failure> {
        let operator = &self.operators[who];
        let subscriptions = self.world.borrow().subscriptions;
        let from = subscriptions[subscription];
        let records = operator.reads.then_some(ports);
        let world = Ports { azure: ports, stamp: ports, records, clock: &self.clock };
        let desk = &mut Desk { books: &operator.machine, consent: person, watch: &mut Silent, plan: false };
        let information = ports.information().await?;
        let change = async |change, wishes: Wishes, desk| {
            change::run(world, change, from, &wishes, information.clone(), desk).await.map(drop)
        };
        let wishes = Wishes {
            agreement_number: Some("A-17".into()),
            usage_reporting: None,
            marketplace: Some(true),
            ..Wishes::default()
        };
        match deed {
            Deed::Register(model) => {
                let request = request(from, *model);
                register::run(world, &request, information, desk).await.map(drop)
            }
            Deed::Set(on) => change(Change::Set, Wishes { marketplace: Some(*on), ..wishes }, desk).await,
            Deed::Renew => change(Change::Renew, wishes, desk).await,
            Deed::ChangeSubscription(to) => {
                let to = change::Destination { subscription: subscriptions[*to], resource_group: None, location: None };
                change(Change::ChangeSubscription, Wishes { to: Some(to), ..wishes }, desk).await
            }
            Deed::Move(to, group) => {
                let to = Destination {
                    subscription: subscriptions[*to],
                    resource_group: (*group).to_owned(),
                    location: None,
                };
                moving::run(world, from, None, Some(&to), desk).await.map(drop)
            }
            Deed::Repair => moving::run(world, from, None, None, desk).await.map(drop),
            Deed::Unregister | Deed::Orphan => {
                let sides = if *deed == Deed::Orphan { Sides::Stamp } else { Sides::Both };
                let request = UnregisterRequest { subscription: from, named: None, sides };
                unregister::run(world, &request, information, desk).await.map(drop)
            }
            Deed::Portal => Ok(()),
            Deed::Deactivate => offline::run_deactivate(world, &information, desk, &mut |_| Ok(())).await.map(drop),
        }
    }
}

/// Two operators act in turn and into one another, drawn from a seed; each end is judged.
///
/// # Errors
/// A run that ended well left a stamp activated for a registration that is gone, or one that is registered not activated.
pub fn pair_trial(seed: u64, keys: &Keys) -> Result<Trial, Broken> {
    let mut draw = fastrand::Rng::with_seed(seed ^ 0xab);
    let options = StampOptions { activation: SignedDuration::from_secs(draw.i64(0..600)), ..StampOptions::default() };
    let begun: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let operator = |draw: &mut fastrand::Rng| Operator {
        // One of them may have a clock that is years behind.
        machine: Machine::behind(SignedDuration::from_hours(if draw.bool() { 0 } else { draw.i64(0..24 * 2000) })),
        reads: draw.bool(),
        begun: RefCell::default(),
        agreed: RefCell::default(),
    };
    let pair = Pair {
        world: RefCell::new(World::new(seed, options)),
        clock: VirtualClock { now: Cell::new(begun), draw: RefCell::new(fastrand::Rng::with_seed(seed ^ 1)) },
        keys,
        operators: [operator(&mut draw), operator(&mut draw)],
        draw: RefCell::new(draw),
        trial: RefCell::new(Trial { seed, runs: 0, crashes: 0, failures: 0, took: SignedDuration::ZERO }),
        moved: Cell::default(),
        log: RefCell::default(),
        broken: RefCell::default(),
    };
    for _ in 0..24 {
        let (who, pause) = {
            let mut draw = pair.draw.borrow_mut();
            // Mostly minutes later, sometimes weeks.
            let weeks = if draw.u8(0..8) == 0 { draw.i64(0..24 * 40) } else { 0 };
            (draw.usize(..2), SignedDuration::from_secs(draw.i64(0..900)) + SignedDuration::from_hours(weeks))
        };
        pair.act(who, 0);
        if let Some(why) = pair.broken.take() {
            return Err(Broken { seed, why });
        }
        pair.clock.now.set(pair.clock.now.get() + pause);
    }
    let took = pair.clock.now.get().duration_since(begun);
    Ok(Trial { took, ..pair.trial.into_inner() })
}
