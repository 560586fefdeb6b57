//! `azsreg stamp`: questions to a stamp alone.

use azsreg_model::{ExitCode, Problem, code};
use azsreg_operations::engine::retry::{self, Policy};
use azsreg_operations::licence;
use azsreg_operations::ports::Stamp as _;

use super::{connect, shared};
use crate::Ended;
use crate::cli::{Global, HciLicenseOptions, StampInfoOptions};
use crate::clock::SystemClock;
use crate::secrets::{self, Sources};
use crate::state;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn info(
    global: &Global,
    options: &StampInfoOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let ca = shared::ca(&options.network)?;
    let pep = shared::pep_options(global, &options.pep, &options.network, &ca, sources)?;
    let screen = Screen::new(global, 0);
    screen.say("asking the stamp");
    let stamp = shared::endpoint(pep, &screen);
    let clock = SystemClock;
    let work = async { Ok(retry::read(&clock, Policy::AZURE, async || stamp.information().await).await?) };
    let information = connect::watched(&screen, work).await;
    let closed = stamp.close().await;
    if let Ok(information) = &information {
        view.stamp(information);
    }
    connect::closed(information, closed)?;
    Ok(ExitCode::Done)
}

/// `azsreg stamp hci-license`.
pub(crate) async fn hci_license(
    global: &Global,
    options: &HciLicenseOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let license = secrets::read_text(sources, "license", "the licence", &options.license)?;
    let ca = shared::ca(&options.network)?;
    let pep = shared::pep_options(global, &options.pep, &options.network, &ca, sources)?;
    let screen = Screen::new(global, 0);
    let stamp = shared::endpoint(pep, &screen);
    let clock = SystemClock;
    let work = async {
        let information = retry::read(&clock, Policy::AZURE, async || stamp.information().await).await?;
        sources.check_stamp(information.cloud_id)?;
        // Where the stamp does not say what it is, it judges the licence itself.
        if information.version.is_some() && information.nodes.is_some() && !information.has_key_pair() {
            let message = format!("build {} with {} takes no HCI licence", information.build(), information.size());
            return Err(Problem::new(&code::HCI_LICENCE, message).into());
        }
        if options.plan.plan {
            return Ok(());
        }
        screen.say("saving the licence");
        let state_dir = state::directory(global)?;
        Ok(licence::save(
            &stamp,
            &clock,
            &super::connect::books(global, &state_dir),
            &information,
            &license,
            &mut screen.clone(),
        )
        .await?)
    };
    let saved = connect::watched(&screen, work).await;
    connect::closed(saved, stamp.close().await)?;
    if options.plan.plan {
        return Ok(super::role::planned(view, "Save-HCILicense on the stamp"));
    }
    if view.is_json() {
        view.json(&serde_json::json!({"outcome": "done"}));
    } else {
        view.line("The HCI licence is saved on the stamp.");
    }
    Ok(ExitCode::Done)
}
