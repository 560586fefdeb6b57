//! Cases that a review found, told out one by one: who has done what before, what happens at which call, what a run then asks,
//! does and says.

mod consent;
mod lock;
mod receipt;
mod removal;
mod steps;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use azsreg_lab::world::market::Downloaded;
use azsreg_lab::{Keys, StampOptions};
use azsreg_model::{BillingModel, Bundle, Problem, RegistrationId, Report, StampInformation, code};
use azsreg_operations::change::{self, Change, Wishes};
use azsreg_operations::engine::session::{Consent, Desk, Question};
use azsreg_operations::offline::{self, Visit};
use azsreg_operations::ports::{Stamp as _, World as Ports};
use azsreg_operations::unregister::{self, AzureOrder, Sides, Target, UnregisterRequest};
use azsreg_operations::{Failure, Silent, moving, register};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::chaos::{Chaos, VirtualClock};
use crate::machine::{Machine, drive};
use crate::ports::InProcess;
use crate::{World, request};

type InVirtualTime<'w> = Ports<'w, InProcess<'w>, InProcess<'w>, InProcess<'w>, VirtualClock>;

type Happens = Box<dyn FnOnce(&Stage)>;

/// Where a case plays.
struct Stage {
    world: RefCell<World>,
    clock: VirtualClock,
    chaos: Chaos,
    keys: Arc<Keys>,
    /// What happens before the next call of this name.
    at: RefCell<Vec<(&'static str, Happens)>>,
    /// What was called, by every run.
    calls: RefCell<Vec<String>>,
    /// The files that were carried, newest last.
    files: RefCell<Vec<Bundle>>,
}

/// Who runs azsreg, and how.
struct Operator {
    machine: Machine,
    /// Whether they sign in to the stamp's Resource Manager.
    reads: bool,
    /// Whether they agree to what they are asked.
    agrees: Cell<bool>,
}

impl Operator {
    fn new(reads: bool) -> Self {
        Self { machine: Machine::default(), reads, agrees: Cell::new(true) }
    }
}

/// How a run went: what it was asked is in `asked`; a run that was killed has no result.
struct Ran {
    result: Option<Result<Report, Failure>>,
    asked: Vec<Question>,
}

impl Ran {
    #[track_caller]
    fn ends(self) -> Report {
        match self.result {
            Some(Ok(report)) => report,
            other => panic!("it did not end well: {other:?}"),
        }
    }

    /// It was refused with this code.
    #[track_caller]
    fn refused(&self, id: &str) -> &Failure {
        match &self.result {
            Some(Err(failure)) if failure.problems.iter().any(|problem| problem.code.id == id) => failure,
            other => panic!("it was not refused with {id}: {other:?}"),
        }
    }

    #[track_caller]
    fn is_killed(&self) {
        assert!(self.result.is_none(), "it was not killed: {:?}", self.result);
    }
}

struct Answers<'o> {
    agrees: &'o Cell<bool>,
    asked: Vec<Question>,
}

impl Consent for Answers<'_> {
    fn agree(&mut self, question: &Question, _: bool) -> Result<(), Problem> {
        self.asked.push(question.clone());
        if self.agrees.get() { Ok(()) } else { Err(Problem::new(&code::NOT_CONFIRMED, question.what.clone())) }
    }
}

impl Stage {
    fn new(connected: bool) -> Self {
        let begun: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
        let options = StampOptions { connected, ..StampOptions::default() };
        Self {
            world: RefCell::new(World::new(5, options)),
            clock: VirtualClock { now: Cell::new(begun), draw: RefCell::new(fastrand::Rng::with_seed(5)) },
            chaos: Chaos::new(5, 0.0, 0.0),
            keys: Keys::start(),
            at: RefCell::default(),
            calls: RefCell::default(),
            files: RefCell::default(),
        }
    }

    fn pass_days(&self, days: i64) {
        self.clock.now.set(self.clock.now.get() + SignedDuration::from_hours(24 * days));
    }

    /// Before the next call of this name something happens.
    fn at(&self, call: &'static str, happens: impl FnOnce(&Stage) + 'static) {
        self.at.borrow_mut().push((call, Box::new(happens)));
    }

    /// The run that comes is killed before its next call of this name.
    fn kill_at(&self, call: &'static str) {
        self.at(call, |stage| stage.chaos.kill());
    }

    fn subscription(&self) -> Uuid {
        self.world.borrow().subscriptions[0]
    }

    /// The registrations that are there.
    fn registrations(&self) -> Vec<RegistrationId> {
        self.world.borrow().arm.registrations.iter().map(|one| one.id().parse().unwrap()).collect()
    }

    /// The registration that the stamp is activated for.
    fn activated(&self) -> Option<RegistrationId> {
        self.world.borrow().stamp.activation.as_ref().map(|one| one.registration.parse().unwrap())
    }

    /// Whether the one registration is locked.
    fn is_locked(&self) -> bool {
        let world = self.world.borrow();
        let id = world.arm.registrations[0].id();
        world.arm.locks.iter().any(|lock| lock.scope.eq_ignore_ascii_case(&id))
    }

    /// How often this was called.
    fn called(&self, name: &str) -> usize {
        self.calls.borrow().iter().filter(|call| *call == name).count()
    }

    /// The stamp downloads an item.
    fn download(&self, name: &str) {
        self.world.borrow_mut().stamp.downloaded.push(Downloaded::named(name));
    }

    /// The registration is moved to another group, in the portal.
    fn moved_in_the_portal(&self) {
        let id = self.registrations().remove(0);
        let mut world = self.world.borrow_mut();
        let World { arm, draw, .. } = &mut *world;
        arm.put_group(id.subscription, "portal", &serde_json::json!({"location": "westcentralus"})).unwrap();
        let (from, to) = ((id.subscription, id.resource_group.as_str()), (id.subscription, "portal"));
        arm.begin_move(draw.guid(), self.clock.now.get(), SignedDuration::ZERO, vec![id.to_string()], from, to)
            .unwrap();
    }

    fn run(
        &self,
        operator: &Operator,
        deed: impl AsyncFnOnce(InVirtualTime<'_>, StampInformation, &mut Desk<'_, Machine>) -> Result<Report, Failure>,
    ) -> Ran {
        let between = |call: &str| {
            self.calls.borrow_mut().push(call.to_owned());
            let mut at = self.at.borrow_mut();
            let next = at.iter().position(|(name, _)| *name == call).map(|n| at.remove(n));
            drop(at);
            if let Some((_, happens)) = next {
                happens(self);
            }
        };
        let ports = InProcess {
            world: &self.world,
            keys: &self.keys,
            clock: &self.clock,
            chaos: &self.chaos,
            between: Some(&between),
        };
        self.chaos.revive();
        let world =
            Ports { azure: &ports, stamp: &ports, records: operator.reads.then_some(&ports), clock: &self.clock };
        let mut answers = Answers { agrees: &operator.agrees, asked: Vec::new() };
        let result = drive(async {
            let information = ports.information().await?;
            let (watch, consent) = (&mut Silent, &mut answers);
            let desk = &mut Desk { books: &operator.machine, consent, watch, plan: false };
            deed(world, information, desk).await
        });
        Ran { result, asked: answers.asked }
    }

    fn register(&self, operator: &Operator, model: BillingModel) -> Ran {
        self.register_in(self.subscription(), operator, model)
    }

    fn register_in(&self, subscription: Uuid, operator: &Operator, model: BillingModel) -> Ran {
        let request = request(subscription, model);
        self.run(operator, async |world, information, desk| register::run(world, &request, information, desk).await)
    }

    fn renew(&self, operator: &Operator) -> Ran {
        self.change(operator, Change::Renew, Wishes::default())
    }

    /// A renewal under another name, after the year is over.
    fn renew_as(&self, operator: &Operator, name: &str) -> Ran {
        self.change(operator, Change::Renew, Wishes { name: Some(name.to_owned()), ..Wishes::default() })
    }

    fn change_subscription(&self, operator: &Operator) -> Ran {
        let subscription = self.world.borrow().subscriptions[1];
        let to = change::Destination { subscription, resource_group: None, location: None };
        self.change(operator, Change::ChangeSubscription, Wishes { to: Some(to), ..Wishes::default() })
    }

    fn change(&self, operator: &Operator, change: Change, wishes: Wishes) -> Ran {
        let from = self.subscription();
        self.run(operator, async |world, information, desk| {
            change::run(world, change, from, &wishes, information, desk).await
        })
    }

    fn unregister(&self, operator: &Operator, sides: Sides) -> Ran {
        self.unregister_what(operator, UnregisterRequest { subscription: self.subscription(), named: None, sides })
    }

    fn unregister_named(&self, operator: &Operator, id: &RegistrationId) -> Ran {
        let (subscription, named) = (id.subscription, Some(id.clone()));
        self.unregister_what(operator, UnregisterRequest { subscription, named, sides: Sides::Both })
    }

    fn unregister_what(&self, operator: &Operator, request: UnregisterRequest) -> Ran {
        self.run(operator, async |world, information, desk| unregister::run(world, &request, information, desk).await)
    }

    fn relocate(&self, operator: &Operator, group: Option<&str>) -> Ran {
        let from = self.subscription();
        let to = group.map(|group| moving::Destination {
            subscription: from,
            resource_group: group.to_owned(),
            location: None,
        });
        self.run(operator, async |world, _, desk| moving::run(world, from, None, to.as_ref(), desk).await)
    }

    fn keep(&self, bundle: &Bundle) -> Result<(), Problem> {
        self.files.borrow_mut().push(bundle.clone());
        Ok(())
    }

    /// The file that was carried last.
    fn file(&self) -> Bundle {
        self.files.borrow().last().cloned().unwrap()
    }

    /// At the stamp: a token, or the start of a renewal.
    fn token(&self, operator: &Operator, model: BillingModel, renewal: bool) -> Ran {
        let details = request(Uuid::nil(), model);
        self.run(operator, async |world, information, desk| {
            let order = (details, renewal, false);
            offline::run_token(world, order, &information, desk, &mut |bundle| self.keep(bundle)).await
        })
    }

    /// In Azure: the registration with the token that was carried last.
    fn register_file(&self, operator: &Operator) -> Ran {
        let Bundle { token, receipt, .. } = self.file();
        let token = token.unwrap();
        let renewal = receipt.is_some();
        let visit = Visit {
            subscription: self.subscription(),
            resource_group: "azurestack".into(),
            name: None,
            location: None,
            token: &token,
            cloud_id: self.world.borrow().stamp.cloud_id,
            receipt,
            renewal,
            file: "FILE".into(),
        };
        self.run(operator, async |world, _, desk| {
            offline::run_register(world.azure, world.clock, &visit, desk, &mut |bundle| self.keep(bundle)).await
        })
    }

    /// At the stamp: the activation with the key that was carried last.
    fn activate(&self, operator: &Operator) -> Ran {
        let key = self.file().key.unwrap();
        self.run(operator, async |world, information, desk| {
            offline::run_activate(world, &offline::CarriedKey::bare(&key), false, &information, desk).await
        })
    }

    /// At the stamp: the deactivation, with its receipt.
    fn deactivate(&self, operator: &Operator) -> Ran {
        self.run(operator, async |world, information, desk| {
            offline::run_deactivate(world, &information, desk, &mut |bundle| self.keep(bundle)).await
        })
    }

    /// In Azure: the removal that a receipt stands for.
    fn unregister_file(&self, operator: &Operator, receipt: &Bundle, target: Target) -> Ran {
        let order = AzureOrder {
            operation: "offline-unregister",
            subscription: self.subscription(),
            target,
            cloud_id: Some(receipt.cloud_id),
            deactivated_at: receipt.receipt.as_ref().and_then(|receipt| receipt.deactivated_at),
        };
        self.run(operator, async |world, _, desk| unregister::run_azure(world, &order, desk).await)
    }

    /// The three visits of a disconnected registration.
    fn register_offline(&self, at_stamp: &Operator, at_azure: &Operator, model: BillingModel) {
        self.token(at_stamp, model, false).ends();
        self.register_file(at_azure).ends();
        self.activate(at_stamp).ends();
    }
}
