//! The operations over the lab's world, in this process and in virtual time, with crashes and failures from a seed.
//!
//! What takes a stamp ten minutes takes no time here, so that every seed is another life: a run is killed in the middle,
//! an answer is lost after its effect, the stamp is busy with what a dead client began. A seed replays exactly.

mod ports;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use azsreg_lab::Keys;
use azsreg_lab::StampOptions;
use azsreg_lab::world::Draw;
use azsreg_lab::world::arm::{Arm, Subscription};
use azsreg_lab::world::directory::{Directory, Tenant, User};
use azsreg_lab::world::stamp::Stamp;
use azsreg_model::{BillingModel, ExitCode, RegisterRequest};
use azsreg_operations::engine::journal::Event;
use azsreg_operations::ports::World as Ports;
use azsreg_operations::{Journal as _, MemoryJournal, Silent, register};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

pub use ports::{Chaos, VirtualClock};

/// The lab's world without its wires.
pub struct World {
    /// Random draws of the world itself.
    pub draw: Draw,
    /// The directory.
    pub directory: Directory,
    /// Resource Manager.
    pub arm: Arm,
    /// The one stamp.
    pub stamp: Stamp,
    /// Who signs in.
    pub operator: Uuid,
    /// The subscription.
    pub subscription: Uuid,
}

impl World {
    fn new(seed: u64, options: StampOptions) -> Self {
        let mut draw = Draw::new(seed);
        let home = draw.guid();
        let operator = draw.guid();
        let mut directory = Directory::default();
        directory.graph_audience = "https://graph.lab.invalid".into();
        let domain = "lab.azsreg.invalid".to_owned();
        directory.tenants.insert(
            home,
            Tenant { id: home, domain: domain.clone(), users_may_register_applications: true, policy: None },
        );
        directory.users.push(User { object_id: operator, upn: format!("operator@{domain}"), tenant: home });
        let mut arm = Arm::default();
        let subscription = draw.guid();
        let quota_id = "CSP_2015-05-01".to_owned();
        let name = "trial".to_owned();
        arm.subscriptions.insert(
            subscription,
            Subscription { id: subscription, tenant: home, name, quota_id, providers: [].into() },
        );
        arm.assign(&mut draw, operator, "User", "Owner", &format!("/subscriptions/{subscription}"));
        #[allow(clippy::expect_used)]
        let stamp = Stamp::new(&mut draw, options, home, &domain).expect("the builds of a trial are builds");
        Self { draw, directory, arm, stamp, operator, subscription }
    }

    /// What is wrong with the world, if a stamp was registered in it once.
    fn judge(&self, request: &RegisterRequest) -> Result<(), String> {
        let one = |what: &str, count: usize| {
            if count == 1 { Ok(()) } else { Err(format!("{count} {what} in place of one")) }
        };
        one("registrations", self.arm.registrations.len())?;
        one("locks", self.arm.locks.len())?;
        let registration = &self.arm.registrations[0];
        let id = registration.id();
        one("role assignments", self.arm.assignments.iter().filter(|a| a.scope.eq_ignore_ascii_case(&id)).count())?;
        one("service principals", self.directory.applications.iter().filter(|a| a.principal.is_some()).count())?;
        if self.stamp.running().is_some() {
            return Err("an action still runs".into());
        }
        let Some(activation) = &self.stamp.activation else { return Err("the stamp is not activated".into()) };
        if !activation.registration.eq_ignore_ascii_case(&id) {
            return Err(format!("the stamp is activated for {}", activation.registration));
        }
        if activation.usage != request.usage_reporting || activation.marketplace != request.marketplace {
            return Err("the activation's flags are not as asked".into());
        }
        if registration.token.billing_model != request.billing_model.wire() {
            return Err(format!("the registration says {}", registration.token.billing_model));
        }
        let number = registration.token.members.get("agreementNumber").and_then(|n| n.as_str());
        if request.agreement_number.as_deref() != number {
            return Err("the agreement number is not as asked".into());
        }
        if registration.token.object_id != self.stamp.bridge.as_ref().map(|b| b.object_id) {
            return Err("the registration names another principal".into());
        }
        Ok(())
    }
}

/// How a trial went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The seed.
    pub seed: u64,
    /// Runs of the command until it ended well.
    pub runs: u32,
    /// Runs that were killed.
    pub crashes: u32,
    /// Runs that gave up, to be run again.
    pub failures: u32,
    /// Virtual time that passed.
    pub took: SignedDuration,
}

/// A trial that did not end as it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\nreplay it with: cargo xtask simulate --seed {}", self.seed, self.why, self.seed)
    }
}

impl std::error::Error for Broken {}

/// Polls a future that never waits: it ends, or it was killed.
fn drive<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Registers a stamp through crashes and failures drawn from a seed, and judges the end.
///
/// # Errors
/// It did not end, or not as it must.
pub fn register_trial(seed: u64, keys: &Keys) -> Result<Trial, Broken> {
    let broken = |why: String| Broken { seed, why };
    let mut draw = fastrand::Rng::with_seed(seed);
    let build = ["1.1910.0.50", "1.2005.0.4", "1.2008.0.59", "1.2206.0.1", "1.2301.2.58", "1.2501.0.21", "1.2601.0.4"];
    let options = StampOptions {
        build: build[draw.usize(..build.len())].into(),
        nodes: [1, 4, 8][draw.usize(..3)],
        activation: SignedDuration::from_secs(draw.i64(0..900)),
        ..StampOptions::default()
    };
    let models =
        [BillingModel::PayAsYouUse, BillingModel::Capacity, BillingModel::Development, BillingModel::Ruggedized];
    let model = models[draw.usize(..models.len())];
    let world = RefCell::new(World::new(seed, options));
    let request = RegisterRequest {
        subscription: world.borrow().subscription,
        name: draw.bool().then(|| "trial".to_owned()),
        resource_group: "azurestack".into(),
        location: None,
        billing_model: model,
        agreement_number: (model == BillingModel::Capacity).then(|| "A-17".to_owned()),
        ms_asset_tag: None,
        usage_reporting: model.reports_usage_by_default(),
        marketplace: draw.bool(),
        tenant: None,
    };
    let with_records = draw.bool();
    let forgetful = draw.u8(0..4);
    let begun: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let clock = VirtualClock { now: Cell::new(begun), draw: RefCell::new(fastrand::Rng::with_seed(seed ^ 1)) };
    let chaos = Chaos::new(seed, draw.f64() * 0.10, draw.f64() * 0.06);
    let ports = ports::InProcess { world: &world, keys, clock: &clock, chaos: &chaos };
    let mut open = MemoryJournal::default();
    let mut finished: Option<Vec<Event>> = None;
    let mut trial = Trial { seed, runs: 0, crashes: 0, failures: 0, took: SignedDuration::ZERO };
    loop {
        trial.runs += 1;
        if trial.runs > 200 {
            return Err(broken(format!("it does not end: {trial:?}")));
        }
        // At some time the world becomes quiet: then it must end well.
        if trial.runs == 60 {
            chaos.quiet();
        }
        if draw.u8(0..4) < forgetful {
            open = MemoryJournal::default();
        }
        chaos.revive();
        let attempt = drive(async {
            let port = Ports { azure: &ports, stamp: &ports, records: with_records.then_some(&ports), clock: &clock };
            let information = azsreg_operations::ports::Stamp::information(&ports).await?;
            register::wait_for_running(port, &mut Silent).await?;
            let events = open.events().to_vec();
            let prepared = register::prepare(port, &request, information, finished.as_deref(), &events).await?;
            if prepared.nothing_to_do() {
                return Ok(true);
            }
            let mut watch = Silent;
            register::register(port, &request, prepared, &mut open, &mut watch).await?;
            Ok::<bool, azsreg_operations::Failure>(false)
        });
        match attempt {
            None => trial.crashes += 1,
            Some(Err(failure)) => {
                trial.failures += 1;
                let problem = &failure.problems[0];
                let passing = ["AZR2006", "AZR2010", "AZR2014", "AZR4001", "AZR4011", "AZR4012"];
                if !passing.contains(&problem.code.id) {
                    return Err(broken(format!("a failure that no fault explains: {failure:?}")));
                }
                if failure.exit != ExitCode::Resumable && failure.step.is_some() && open.events().len() > 1 {
                    return Err(broken(format!("a run that acted must be resumable: {failure:?}")));
                }
            }
            Some(Ok(_)) => break,
        }
        // Between two runs some time passes; a dead client's action may end meanwhile, or not.
        let pause = SignedDuration::from_secs(draw.i64(0..600));
        clock.now.set(clock.now.get() + pause);
    }
    if open.events().iter().any(|event| matches!(event, Event::Finished { .. })) {
        finished = Some(open.events().to_vec());
    }
    clock.now.set(clock.now.get() + SignedDuration::from_hours(1));
    world.borrow_mut().stamp.settle(clock.now.get());
    world.borrow().judge(&request).map_err(broken)?;
    trial.took = clock.now.get().duration_since(begun);

    // Once more, on a quiet world: nothing is left to do, or at least nothing changes.
    chaos.quiet();
    chaos.revive();
    let once_more = drive(async {
        let port = Ports { azure: &ports, stamp: &ports, records: with_records.then_some(&ports), clock: &clock };
        let information = azsreg_operations::ports::Stamp::information(&ports).await?;
        let prepared = register::prepare(port, &request, information, finished.as_deref(), &[]).await?;
        Ok::<bool, azsreg_operations::Failure>(prepared.nothing_to_do())
    });
    match once_more {
        Some(Ok(nothing)) if nothing || finished.is_none() => Ok(trial),
        other => Err(broken(format!("the same command again: {other:?}"))),
    }
}
