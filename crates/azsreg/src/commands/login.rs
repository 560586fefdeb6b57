//! `azsreg login`, `logout`, `whoami`: one sign-in for several commands.

use azsreg_arm::{Identity, Place, SignIn, SignInCache};
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
    shared::check_cloud(&options.cloud, &options.network, &sources)?;
    if global.non_interactive {
        return Err(Problem::new(&code::NO_SIGN_IN, "signing in needs a person").into());
    }
    let state_dir = state::directory(global)?;
    let ca = shared::ca(&options.network)?;
    let http = shared::http(&options.network, &ca, false)?;
    let screen = Screen::new(global, 0);
    let work = async {
        let known = shared::known(&state_dir);
        let cloud = shared::cloud(&options.cloud, &sources, &http, &known).await?;
        let tenant = shared::tenant(&options.cloud, &http, &cloud, options.subscription).await?;
        let sign_in = if options.browser { SignIn::Browser } else { SignIn::DeviceCode };
        let place = Place::from(&cloud);
        let claims = SignInCache::new(&state_dir).claims(&place, &tenant);
        if let Some(claims) = &claims {
            screen.aside(&format!("Azure has asked for {}: this sign-in asks for it.", claims.words()));
        }
        let identity = Identity::new(&http, &place, &known, &tenant, sign_in, &screen).asking(claims);
        Ok(identity.account().await.map_err(PortError::from)?)
    };
    let account = interrupt::or(&screen.acting, work).await;
    screen.clear();
    let account = account?;
    SignInCache::new(&state_dir)
        .put(&account)
        .map_err(|error| Problem::new(&code::SIGN_IN_NOT_KEPT, format!("the sign-in could not be kept: {error}")))?;
    if view.is_json() {
        view.json(&json!({"user": account.user, "tenant": account.tenant, "authority": account.authority}));
    } else {
        view.line(&format!("Signed in as {} (tenant {}).", account.user, account.tenant));
    }
    Ok(ExitCode::Done)
}

pub(crate) fn logout(global: &Global, options: &LogoutOptions, view: &View) -> Result<ExitCode, Ended> {
    let cache = SignInCache::new(&state::directory(global)?);
    let forgotten = cache
        .forget(options.tenant.as_deref())
        .map_err(|error| Problem::new(&code::STATE_UNWRITABLE, format!("the sign-in could not be removed: {error}")))?;
    let (gone, others) = (forgotten.accounts, forgotten.others);
    if view.is_json() {
        let gone: Vec<_> = gone.iter().map(|a| json!({"user": a.user, "tenant": a.tenant})).collect();
        view.json(&json!({ "value": gone, "other_files_removed": others }));
    } else if gone.is_empty() {
        view.line("No account was signed in.");
    } else {
        view.line(&format!("Signed out ({}).", gone.len()));
    }
    if others > 0 && !view.is_json() {
        view.line(&format!("Removed {others} other file(s) of the sign-in directory: drafts or copies of sign-ins."));
    }
    Ok(ExitCode::Done)
}

pub(crate) fn whoami(global: &Global, view: &View) -> Result<ExitCode, Ended> {
    let accounts = SignInCache::new(&state::directory(global)?).all();
    if accounts.is_empty() {
        let problem = Problem::new(&code::NO_SIGN_IN, "no account is signed in").cause("No sign-in is kept.");
        return Err(Ended { exit: ExitCode::NotRegistered, ..problem.into() });
    }
    if view.is_json() {
        let list: Vec<_> =
            accounts.iter().map(|a| json!({"user": a.user, "tenant": a.tenant, "authority": a.authority, "endpoint": a.place.as_ref().map(|place| &place.endpoint)})).collect();
        view.json(&list);
        return Ok(ExitCode::Done);
    }
    for account in &accounts {
        let endpoint = account.place.as_ref().map_or("kept by an older azsreg, not used", |place| &place.endpoint);
        view.line(&format!("{}  tenant {}  {}  for {endpoint}", account.user, account.tenant, account.authority));
    }
    Ok(ExitCode::Done)
}
