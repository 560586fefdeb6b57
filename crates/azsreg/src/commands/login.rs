//! `azsreg login`, `logout`, `whoami`: one sign-in for several commands.

use azsreg_arm::{Identity, SignIn, SignInCache};
use azsreg_model::{ExitCode, Problem, code};
use azsreg_operations::ports::PortError;
use serde_json::json;

use super::shared;
use crate::Ended;
use crate::cli::{Global, LoginOptions, LogoutOptions};
use crate::interrupt;
use crate::secrets::Sources;
use crate::state;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn login(global: &Global, options: &LoginOptions, view: &View) -> Result<ExitCode, Ended> {
    let sources = Sources::default();
    shared::check_cloud(&options.cloud, &sources)?;
    if global.non_interactive {
        return Err(Problem::new(&code::NO_SIGN_IN, "signing in needs a person").into());
    }
    let state_dir = state::directory(global)?;
    let ca = shared::ca(&options.network)?;
    let http = shared::http(&options.network, ca.as_ref(), false)?;
    let screen = Screen::new(global, 0);
    let work = async {
        let cloud = shared::cloud(&options.cloud, &sources, &http).await?;
        let tenant = shared::tenant(&options.cloud, &http, &cloud, options.subscription).await?;
        let sign_in = if options.browser { SignIn::Browser } else { SignIn::DeviceCode };
        let identity = Identity::new(&http, &cloud.authority, &tenant, sign_in, &screen);
        Ok(identity.account(&cloud.audience).await.map_err(PortError::from)?)
    };
    let account = interrupt::or(&screen.acting, work).await;
    screen.clear();
    let account = account?;
    SignInCache::new(&state_dir)
        .put(&account)
        .map_err(|error| Problem::new(&code::STATE_UNWRITABLE, format!("the sign-in could not be kept: {error}")))?;
    if view.is_json() {
        view.json(&json!({"user": account.user, "tenant": account.tenant, "authority": account.authority}));
    } else {
        view.line(&format!("Signed in as {} (tenant {}).", account.user, account.tenant));
    }
    Ok(ExitCode::Done)
}

pub(crate) fn logout(global: &Global, options: &LogoutOptions, view: &View) -> Result<ExitCode, Ended> {
    let cache = SignInCache::new(&state::directory(global)?);
    let mut gone = Vec::new();
    for account in cache.all() {
        if options.tenant.as_ref().is_none_or(|tenant| tenant.eq_ignore_ascii_case(&account.tenant)) {
            cache.forget(&account).map_err(|error| {
                Problem::new(&code::STATE_UNWRITABLE, format!("the sign-in could not be removed: {error}"))
            })?;
            gone.push(json!({"user": account.user, "tenant": account.tenant}));
        }
    }
    if view.is_json() {
        view.json(&json!({ "signed_out": gone }));
    } else if gone.is_empty() {
        view.line("Nobody was signed in.");
    } else {
        view.line(&format!("Signed out ({}).", gone.len()));
    }
    Ok(ExitCode::Done)
}

pub(crate) fn whoami(global: &Global, view: &View) -> Result<ExitCode, Ended> {
    let accounts = SignInCache::new(&state::directory(global)?).all();
    if view.is_json() {
        let list: Vec<_> =
            accounts.iter().map(|a| json!({"user": a.user, "tenant": a.tenant, "authority": a.authority})).collect();
        view.json(&list);
    } else {
        for account in &accounts {
            view.line(&format!("{}  tenant {}  {}", account.user, account.tenant, account.authority));
        }
    }
    if accounts.is_empty() {
        if !view.is_json() {
            let problem = Problem::new(&code::NO_SIGN_IN, "nobody is signed in").cause("No sign-in is kept.");
            return Err(Ended { exit: ExitCode::NotRegistered, ..problem.into() });
        }
        return Ok(ExitCode::NotRegistered);
    }
    Ok(ExitCode::Done)
}
