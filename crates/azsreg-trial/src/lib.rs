//! The operations over the lab's world, in this process and in virtual time, with crashes and failures from a seed.
//!
//! What takes a stamp ten minutes takes no time here, so that every seed is another life: a run is killed in the middle,
//! an answer is lost after its effect, the stamp is busy with what a dead client began. A seed replays exactly.

#[cfg(test)]
mod cases;
mod chaos;
mod life;
mod machine;
mod pair;
mod ports;
mod sweep;
mod usage;

use std::fmt;

use azsreg_lab::StampOptions;
use azsreg_lab::world::Draw;
use azsreg_lab::world::arm::{Arm, ArmError, Subscription};
use azsreg_lab::world::directory::{Directory, Tenant, User};
use azsreg_lab::world::stamp::Stamp;
use azsreg_model::{BillingModel, RegisterRequest, RegistrationId};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

pub use chaos::{Chaos, VirtualClock};
pub use life::{life_trial, offline_trial};
pub use pair::pair_trial;
pub use sweep::{Sweep, sweep_trial};
pub use usage::usage_trial;

/// What is asked for in a trial: all as `register` has it by default.
pub(crate) fn request(subscription: Uuid, model: BillingModel) -> RegisterRequest {
    RegisterRequest {
        subscription,
        name: None,
        resource_group: "azurestack".into(),
        location: None,
        billing_model: model,
        agreement_number: (model == BillingModel::Capacity).then(|| "A-17".to_owned()),
        ms_asset_tag: None,
        usage_reporting: model.reports_usage_by_default(),
        marketplace: true,
        tenant: None,
        token_version: None,
        renew: false,
        replaces: None,
    }
}

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
    /// The subscription, and another one of the same partner.
    pub subscriptions: [Uuid; 2],
    /// How long Azure heeds a lock after it is gone, where it does.
    pub heeds_locks_for: Option<SignedDuration>,
    /// Until when it does.
    pub heeded_until: Option<Timestamp>,
}

impl World {
    /// Refuses a deletion or a move in the name of a lock that is gone.
    fn forgotten(&self, id: &RegistrationId, now: Timestamp) -> Result<(), ArmError> {
        match self.heeded_until {
            Some(until) if now < until => Err(ArmError::new(
                409,
                "ScopeLocked",
                format!(
                    "The scope '{id}' cannot perform delete operation because following scope(s) are locked: '{id}'. Please remove the lock and try again."
                ),
            )),
            _ => Ok(()),
        }
    }

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
        let subscriptions = [draw.guid(), draw.guid()];
        for id in subscriptions {
            let subscription = Subscription {
                id,
                tenant: home,
                name: "trial".into(),
                quota_id: "CSP_2015-05-01".into(),
                state: "Enabled".into(),
                multi_tenant: true,
                partner: Some("partner".into()),
                providers: [].into(),
            };
            arm.subscriptions.insert(id, subscription);
            arm.assign(&mut draw, operator, "User", "Owner", &format!("/subscriptions/{id}"));
        }
        #[allow(clippy::expect_used)]
        let stamp = Stamp::new(&mut draw, options, home, &domain).expect("the builds of a trial are builds");
        Self { draw, directory, arm, stamp, operator, subscriptions, heeds_locks_for: None, heeded_until: None }
    }

    /// What is wrong with the world, if the stamp is registered in it once, as asked. A disconnected stamp has no principal
    /// and no role.
    fn judge(&self, request: &RegisterRequest, connected: bool) -> Result<(), String> {
        let one = |what: &str, count: usize, wanted: usize| {
            if count == wanted { Ok(()) } else { Err(format!("{count} {what} in place of {wanted}")) }
        };
        one("registrations", self.arm.registrations.len(), 1)?;
        one("locks", self.arm.locks.len(), 1)?;
        let registration = &self.arm.registrations[0];
        let id = registration.id();
        let wanted = request.id_for(self.stamp.cloud_id).to_string();
        if !id.eq_ignore_ascii_case(&wanted) {
            return Err(format!("the registration is {id}, not {wanted}"));
        }
        if !self.arm.locks[0].scope.eq_ignore_ascii_case(&id) {
            return Err(format!("the lock is on {}", self.arm.locks[0].scope));
        }
        let roles: Vec<_> = self.arm.assignments.iter().filter(|a| a.scope.contains("/registrations/")).collect();
        one("role assignments", roles.len(), usize::from(connected))?;
        if roles.iter().any(|role| !role.scope.eq_ignore_ascii_case(&id)) {
            return Err("the role is assigned elsewhere".into());
        }
        let principals = self.directory.applications.iter().filter(|a| a.principal.is_some()).count();
        one("service principals", principals, usize::from(connected))?;
        self.idle()?;
        let Some(activation) = &self.stamp.activation else { return Err("the stamp is not activated".into()) };
        if !activation.registration.eq_ignore_ascii_case(&id) {
            return Err(format!("the stamp is activated for {}", activation.registration));
        }
        if activation.usage != request.usage_reporting || activation.marketplace != request.marketplace {
            return Err(format!(
                "the activation's flags are usage {}, marketplace {}; asked for were {}, {}",
                activation.usage, activation.marketplace, request.usage_reporting, request.marketplace
            ));
        }
        if registration.token.billing_model != request.billing_model.wire() {
            return Err(format!("the registration says {}", registration.token.billing_model));
        }
        let number = registration.token.members.get("agreementNumber").and_then(|n| n.as_str());
        if request.agreement_number.as_deref() != number {
            return Err(format!("the agreement number is {number:?}"));
        }
        let hosts = registration.token.members.get("hardwareInfo").and_then(|h| h.as_array()).map(Vec::len);
        if request.renew && hosts != Some(self.stamp.options.nodes as usize) {
            return Err(format!("{hosts:?} hosts are registered after a renewal"));
        }
        let principal = self.stamp.bridge.as_ref().map(|b| b.object_id);
        if connected && registration.token.object_id != principal {
            return Err("the registration names another principal".into());
        }
        Ok(())
    }

    /// What is wrong with the world, if nothing is registered in it.
    fn judge_bare(&self) -> Result<(), String> {
        self.idle()?;
        let left = [
            ("registrations", self.arm.registrations.len()),
            ("locks", self.arm.locks.len()),
            ("role assignments", self.arm.assignments.iter().filter(|a| a.scope.contains("/registrations/")).count()),
        ];
        if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
            return Err(format!("{count} {what} are left"));
        }
        if self.stamp.activation.is_some() { Err("the stamp is still activated".into()) } else { Ok(()) }
    }

    fn idle(&self) -> Result<(), String> {
        if self.stamp.running().is_some() { Err("an action still runs".into()) } else { Ok(()) }
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
