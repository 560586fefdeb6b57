//! `azsreg rehearse`: the main job from beginning to end, against a lab in this process, over real sockets.

use azsreg_lab::{Lab, LabOptions, StampOptions};
use azsreg_model::{BillingModel, ExitCode, Problem, code};
use azsreg_pep::Mechanism;
use serde_json::json;

use super::{lab, register};
use crate::Ended;
use crate::cli::{
    BridgeOptions, CloudOptions, Global, NetworkOptions, PepOptions, RegisterOptions, RehearseOptions, SecretArgument,
    SidesOptions, SignInOptions, StampSignInOptions, Switch,
};
use crate::interrupt;
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(global: &Global, options: &RehearseOptions, view: &View) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, azsreg_operations::register::STEPS).rehearsal();
    let acting = screen.acting.clone();
    let result = interrupt::or(&acting, rehearse(global, options, screen.clone())).await;
    screen.clear();
    let (report, again, world) = result?;
    if view.is_json() {
        view.json(&json!({"register": report, "again": again, "world": world}));
        return Ok(ExitCode::Done);
    }
    view.line("A rehearsal: a simulated Azure and a simulated stamp, in this process, over real sockets.");
    view.line(&format!("Registering the stamp {} with pay-as-you-use billing:", report.cloud_id));
    view.line("");
    let _ = view.report(&report);
    view.line("");
    view.line(&format!(
        "The same command once more: {}",
        match again.outcome {
            azsreg_model::Outcome::NothingToDo => "nothing to do.",
            _ => "it ran again.",
        }
    ));
    view.line(&format!(
        "The simulated world holds {} registration, {} lock, {} role assignment, {} service principal.",
        count(&world, "registrations"),
        count(&world, "locks"),
        count(&world, "role_assignments"),
        count(&world, "service_principals"),
    ));
    Ok(ExitCode::Done)
}

fn count(world: &serde_json::Value, what: &str) -> usize {
    world[what].as_array().map_or(0, Vec::len)
}

type Rehearsed = (azsreg_model::Report, azsreg_model::Report, serde_json::Value);

async fn rehearse(global: &Global, options: &RehearseOptions, screen: Screen) -> Result<Rehearsed, Ended> {
    screen.say("starting the simulated world");
    let delay = jiff::SignedDuration::try_from(options.stamp_delay).unwrap_or_default();
    let world = Lab::start(LabOptions {
        seed: lab::seed(options.seed),
        stamps: vec![StampOptions { activation: delay, ..StampOptions::default() }],
        ..LabOptions::default()
    })
    .await
    .map_err(|error| lab::start_problem(&error))?;
    let mut state = tempfile::Builder::new();
    state.prefix("azsreg-rehearsal-");
    // Others see the system's place for temporary files.
    #[cfg(unix)]
    state.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let state = state
        .tempdir()
        .map_err(|error| Problem::new(&code::STATE_UNWRITABLE, format!("no temporary directory: {error}")))?;
    let told = world.descriptor();
    let stamp = &told.stamps[0];
    let file = |path: &std::path::Path| Some(SecretArgument(format!("@{}", path.display())));
    let register = RegisterOptions {
        subscription: told.subscription_id,
        billing_model: BillingModel::PayAsYouUse,
        name: None,
        agreement_number: None,
        ms_asset_tag: None,
        resource_group: "azurestack".into(),
        location: None,
        usage_reporting: None,
        marketplace: Switch::On,
        plan: false,
        token_version: None,
        bridge: BridgeOptions { bridge_refresh_token: None },
        sides: SidesOptions {
            pep: PepOptions {
                pep: stamp.pep.iter().filter_map(|address| address.parse().ok()).collect(),
                pep_user: Some(stamp.pep_user.clone()),
                password_as_is: false,
                pep_password: file(&stamp.pep_password_file),
                pep_auth: Mechanism::Negotiate,
                pep_configuration: "PrivilegedEndpoint".into(),
                transcript_share: None,
                transcript_user: None,
                transcript_password: None,
            },
            cloud: CloudOptions { cloud: None, cloud_endpoint: Some(told.arm_endpoint.clone()), tenant: None },
            sign_in: SignInOptions {
                device_code: true,
                browser: false,
                client_id: None,
                client_secret: None,
                client_certificate: None,
            },
            stamp_sign_in: StampSignInOptions {
                stamp_client_id: Some(stamp.stamp_client_id),
                stamp_client_secret: file(&stamp.stamp_client_secret_file),
                stamp_client_certificate: None,
                stamp_device_code: false,
            },
            network: NetworkOptions {
                ca_file: Some(told.ca_file.clone()),
                connect_timeout: std::time::Duration::from_secs(10),
                answer_timeout: std::time::Duration::from_secs(120),
                allow_http: false,
            },
        },
    };
    let global = Global { state_dir: Some(state.path().to_owned()), ..global.clone() };
    let sources = Sources::default();
    let report = register::operate(&global, &register, &sources, screen.clone()).await?;
    // The sign-in was kept: the second run asks nobody.
    let mut kept = register;
    kept.sides.sign_in.device_code = false;
    let again = register::operate(&global, &kept, &sources, screen).await?;
    Ok((report, again, world.world()))
}
