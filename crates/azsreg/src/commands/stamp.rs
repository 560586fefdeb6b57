//! `azsreg stamp`: questions to a stamp alone.

use azsreg_model::ExitCode;
use azsreg_operations::engine::retry::{self, Policy};
use azsreg_operations::ports::Stamp as _;

use super::shared;
use crate::Ended;
use crate::cli::{Global, StampInfoOptions};
use crate::clock::SystemClock;
use crate::interrupt;
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn info(
    global: &Global,
    options: &StampInfoOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let ca = shared::ca(&options.network)?;
    let pep = shared::pep_options(global, &options.pep, &options.network, ca.as_ref(), sources)?;
    let screen = Screen::new(global, 0);
    screen.say("asking the stamp");
    let stamp = shared::endpoint(pep, &screen);
    let clock = SystemClock;
    let work = async { Ok(retry::read(&clock, Policy::AZURE, async || stamp.information().await).await?) };
    let information = interrupt::or(&screen.acting, work).await;
    screen.clear();
    stamp.close().await;
    view.stamp(&information?);
    Ok(ExitCode::Done)
}
