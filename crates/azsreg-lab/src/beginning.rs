//! The world that a lab begins with: a new one out of its seed, or one that was kept.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

use crate::lab::{AzureWorld, LabError, LabOptions};
use crate::world::Draw;
use crate::world::arm::{Arm, Subscription, enabled};
use crate::world::directory::{Application, Directory, Tenant, User};
use crate::world::roles;
use crate::world::stamp::Stamp;

/// The application that the lab's caller signs in with.
pub(crate) const OPERATOR: &str = "azsreg lab operator";

/// How long tenants have used a stamp when the lab begins.
const BEFORE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The world as it is kept.
#[derive(Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) azure: AzureWorld,
    pub(crate) stamps: Vec<StampSnapshot>,
    pub(crate) offset: i64,
}

#[derive(Deserialize)]
pub(crate) struct StampSnapshot {
    pub(crate) world: Stamp,
    /// Client id, secret and principal of the operators' application.
    pub(crate) operator: (Uuid, String, Uuid),
    pub(crate) operators: Vec<Uuid>,
    pub(crate) audience: String,
}

/// The directory's first domain. No real directory can have it: Microsoft lets none have a hyphen.
const DIRECTORY: &str = "azsreg-lab.onmicrosoft.com";

/// The audience of tokens for a stamp's admin Resource Manager: where Entra is its identity system it is of the
/// directory's domain, and has nothing of the stamp's own host.
fn audience(stamp: &Stamp) -> String {
    let domain = if stamp.options.identity == "adfs" { stamp.domain.as_str() } else { DIRECTORY };
    format!("https://adminmanagement.{domain}/{}", stamp.deployment_id)
}

/// A new world.
pub(crate) fn new_world(options: &LabOptions) -> Result<(AzureWorld, Vec<StampSnapshot>), LabError> {
    let mut draw = Draw::new(options.seed);
    let (mut world, _) = azure(&mut draw, options);
    let mut stamps = Vec::new();
    let now = Timestamp::now();
    for stamp_options in &options.stamps {
        let mut stamp = Stamp::new(&mut world.draw, stamp_options.clone(), world.home, &world.domain)
            .ok_or_else(|| LabError::Build(stamp_options.build.clone()))?;
        // Its tenants have used it for a while, so that there is something to look at.
        stamp.set_tenants(stamp_options.tenants, now - BEFORE, now);
        stamp.collect(now);
        let operator = Application {
            app_id: world.draw.guid(),
            object_id: world.draw.guid(),
            principal: Some(world.draw.guid()),
            tenant: world.home,
            name: format!("{} operator", stamp_options.name),
            uris: Vec::new(),
            secrets: vec![world.draw.opaque()],
            certificates: Vec::new(),
            owners: Vec::new(),
        };
        let principal = operator.principal.unwrap_or_default();
        stamps.push(StampSnapshot {
            operator: (operator.app_id, operator.secrets[0].clone(), principal),
            operators: vec![principal, world.operator],
            audience: audience(&stamp),
            world: stamp,
        });
        world.directory.applications.push(operator);
    }
    Ok((world, stamps))
}

/// The lab's Azure before anybody has called: a tenant, its people, two subscriptions.
fn azure(draw: &mut Draw, options: &LabOptions) -> (AzureWorld, Application) {
    let home = draw.guid();
    let domain = "lab.azsreg.invalid".to_owned();
    let operator = User { object_id: draw.guid(), upn: format!("operator@{domain}"), tenant: home };
    let application = Application {
        app_id: draw.guid(),
        object_id: draw.guid(),
        principal: Some(draw.guid()),
        tenant: home,
        name: OPERATOR.into(),
        uris: Vec::new(),
        secrets: vec![draw.opaque()],
        certificates: Vec::new(),
        owners: Vec::new(),
    };
    let mut directory = Directory::default();
    directory
        .tenants
        .insert(home, Tenant { id: home, domain: domain.clone(), users_may_register_applications: true, policy: None });
    directory.auto_approve = options.auto_approve.then_some(operator.object_id);
    directory.users.push(operator.clone());
    directory.applications.push(application.clone());
    let mut arm = Arm { roles: roles::built_in(), ..Arm::default() };
    let mut ids = Vec::new();
    for (name, ready) in [("azsreg lab CSP", true), ("azsreg lab fresh", false)] {
        let id = draw.guid();
        let providers = if ready { ["microsoft.azurestack".to_owned()].into() } else { [].into() };
        let quota_id = "CSP_2015-05-01".to_owned();
        let partner = Some("partner-1".to_owned());
        arm.subscriptions.insert(
            id,
            Subscription {
                id,
                tenant: home,
                name: name.into(),
                quota_id,
                state: enabled(),
                partner,
                multi_tenant: ready,
                providers,
            },
        );
        let scope = format!("/subscriptions/{id}");
        arm.assign(draw, operator.object_id, "User", "Owner", &scope);
        if let Some(principal) = application.principal {
            arm.assign(draw, principal, "ServicePrincipal", "Owner", &scope);
        }
        ids.push(id);
    }
    let world = AzureWorld {
        directory,
        arm,
        draw: draw.clone(),
        operator: operator.object_id,
        home,
        domain,
        default_subscription: ids[0],
        product_logs: Vec::new(),
    };
    (world, application)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::stamp::StampOptions;

    #[test]
    fn the_audience_of_an_entra_stamp_is_the_directorys_and_of_an_ad_fs_stamp_its_own() {
        let adfs = StampOptions { name: "stamp2".into(), identity: "adfs".into(), ..StampOptions::default() };
        let options = LabOptions { stamps: vec![StampOptions::default(), adfs], ..LabOptions::default() };
        let (_, stamps) = new_world(&options).unwrap();
        let (entra, adfs) = (&stamps[0], &stamps[1]);
        let id = entra.world.deployment_id;
        assert_eq!(entra.audience, format!("https://adminmanagement.azsreg-lab.onmicrosoft.com/{id}"));
        assert!(!entra.audience.contains(&entra.world.domain), "{}", entra.audience);
        let (domain, id) = (&adfs.world.domain, adfs.world.deployment_id);
        assert_eq!(adfs.audience, format!("https://adminmanagement.{domain}/{id}"));
    }
}
