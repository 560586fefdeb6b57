//! `azsreg status`: both sides, as they are.

use azsreg_arm::{AzurePort, Manager, RecordsPort};
use azsreg_model::{ExitCode, RegistrationId, Status};
use azsreg_operations::ports::World;

use super::shared::{self, Sides};
use crate::Ended;
use crate::cli::{Global, StatusOptions};
use crate::clock::SystemClock;
use crate::interrupt;
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(
    global: &Global,
    options: &StatusOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let sides = Sides::of(global, &options.sides, sources)?;
    let Sides { asked, stamp_sign_in, state_dir, pep, http, direct } = sides;
    let screen = Screen::new(global, 0);
    screen.say("asking both sides");
    let stamp = shared::endpoint(pep, &screen);
    let prompt = screen.clone();
    let clock = SystemClock;
    let work = async {
        let cloud = shared::cloud(&options.sides.cloud, sources, &http).await?;
        let tenant = shared::tenant(&options.sides.cloud, &http, &cloud, Some(options.subscription)).await?;
        let sign_in = shared::chosen_sign_in(asked, global, &state_dir, &cloud, &tenant)?;
        let identity = shared::signed_in(&http, &cloud, &tenant, sign_in, &prompt, global, &state_dir).await?;
        let manager = Manager::new(&http, &identity, &cloud.arm_endpoint, &cloud.audience);
        let azure = AzurePort::new(manager, &cloud, None);
        let records = stamp_sign_in.map(|sign_in| RecordsPort::new(&http, &direct, sign_in, &prompt));
        let world = World { azure: &azure, stamp: &stamp, records: records.as_ref(), clock: &clock };
        let named = options.name.as_ref().map(|name| RegistrationId {
            subscription: options.subscription,
            resource_group: options.resource_group.clone(),
            name: name.clone(),
        });
        Ok(azsreg_operations::status(world, options.subscription, named).await)
    };
    let report = interrupt::or(&screen.acting, work).await;
    screen.clear();
    stamp.close().await;
    let report = report?;
    view.status(&report);
    Ok(match report.status {
        Status::NotRegistered | Status::HalfRegistered => ExitCode::NotRegistered,
        Status::Expired => ExitCode::Expiring,
        Status::Unknown => ExitCode::Failed,
        _ => ExitCode::Done,
    })
}
