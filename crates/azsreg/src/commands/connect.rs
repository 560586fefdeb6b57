//! Opens the way to both sides, or to one, and hands the ports to an operation.

use std::path::{Path, PathBuf};

use azsreg_arm::{AzurePort, Http, Identity, Manager, Place, RecordsPort, SignIn};
use azsreg_model::{Problem, StampInformation, code};
use azsreg_operations::FileJournal;
use azsreg_operations::engine::history::{History, OnDamage};
use azsreg_operations::engine::retry::{self, Policy};
use azsreg_operations::engine::session::FileBooks;
use azsreg_operations::ports::{Nobody, Records as _, Stamp as _, World};
use azsreg_pep::{Closed, PrivilegedEndpoint};
use secrecy::SecretString;
use uuid::Uuid;

use super::files::Writer;
use super::shared::{self, Sides};
use crate::Ended;
use crate::cli::{AzureOptions, BridgeOptions, Global, SidesOptions, StampOptions};
use crate::clock::SystemClock;
use crate::interrupt;
use crate::machine;
use crate::secrets::{self, Sources};
use crate::state;
use crate::watch::Screen;

/// The system's clock, for everybody.
pub(crate) static CLOCK: SystemClock = SystemClock;

/// Both sides, open.
pub(crate) struct Both<'w, 'p> {
    pub(crate) world: World<'w, AzurePort<'p>, PrivilegedEndpoint, RecordsPort<'p>, SystemClock>,
    /// The stamp's information, where it was asked first.
    pub(crate) information: Option<StampInformation>,
    /// The subscription that pays: as it was given, or as the stamp's record or a journal names it.
    pub(crate) subscription: Uuid,
    pub(crate) state_dir: PathBuf,
}

/// Azure alone.
pub(crate) struct Azure<'w, 'p> {
    pub(crate) world: World<'w, AzurePort<'p>, Nobody, Nobody, SystemClock>,
    pub(crate) state_dir: PathBuf,
}

/// A stamp alone.
pub(crate) struct Stamp<'w, 'p> {
    pub(crate) world: World<'w, (), PrivilegedEndpoint, RecordsPort<'p>, SystemClock>,
    pub(crate) information: StampInformation,
    pub(crate) state_dir: PathBuf,
}

/// What an operation wants beside the ways themselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// The subscription that pays, which says which directory to sign in to; none where the stamp or a journal shall name it.
    pub(crate) subscription: Option<Uuid>,
    /// The stamp is asked before anybody signs in to Azure.
    pub(crate) stamp_first: bool,
    /// It changes what the stamp's lock guards: whoever works there already is named before a person is asked.
    pub(crate) changes: bool,
    /// A user's refresh token for the stamp's principal.
    pub(crate) bridge: Option<SecretString>,
    /// The stamp makes its principal: an application alone can't do that.
    pub(crate) user: bool,
}

/// The refresh token that was given for the stamp.
pub(crate) fn bridge(options: &BridgeOptions, sources: &Sources) -> Result<Option<SecretString>, Problem> {
    let read = |given| secrets::read(sources, "bridge_refresh_token", "--bridge-refresh-token", given);
    options.bridge_refresh_token.as_ref().map(read).transpose()
}

/// Refuses an application's sign-in where the stamp needs a person's.
fn check_user(asked: Option<&SignIn>, needs: &Needs) -> Result<(), Problem> {
    if needs.user && needs.bridge.is_none() && asked.is_some_and(|sign_in| !sign_in.is_user()) {
        let message = "a client secret or certificate alone can't register a connected stamp";
        return Err(Problem::new(&code::USER_SIGN_IN_NEEDED, message));
    }
    Ok(())
}

/// Opens both sides. The privileged endpoint is closed at the end, come what may.
pub(crate) async fn both<T>(
    global: &Global,
    options: &SidesOptions,
    sources: &Sources,
    screen: &Screen,
    needs: Needs,
    work: impl AsyncFnOnce(Both<'_, '_>) -> Result<T, Ended>,
) -> Result<T, Ended> {
    let check = |asked: Option<&SignIn>| check_user(asked, &needs);
    let Sides { asked, stamp_sign_in, state_dir, pep, http, direct } = Sides::of(global, options, sources, check)?;
    let stamp = shared::endpoint(pep, screen);
    let prompt = screen.clone();
    let work = async {
        let information = if needs.stamp_first || sources.expects() || needs.subscription.is_none() {
            screen.say("asking the stamp");
            let information = retry::read(&CLOCK, Policy::AZURE, async || stamp.information().await).await?;
            sources.check_stamp(information.cloud_id)?;
            if needs.changes {
                machine::ready(&state_dir, Some(information.cloud_id))?;
            }
            Some(information)
        } else {
            None
        };
        screen.say("signing in to Azure");
        let known = shared::known(&state_dir);
        let cloud = shared::cloud(&options.cloud, sources, &http, &known).await?;
        // It lives as long as what asks with it.
        let identity;
        let places = known.clone().and(Place::from(&cloud));
        let records = stamp_sign_in.map(|sign_in| RecordsPort::new(&http, &direct, sign_in, &prompt, places));
        let subscription = match (needs.subscription, &information) {
            (Some(subscription), _) => subscription,
            (None, information) => recorded(&state_dir, information.as_ref(), records.as_ref()).await?,
        };
        let tenant = shared::tenant(&options.cloud, &http, &cloud, Some(subscription)).await?;
        let sign_in = shared::chosen_sign_in(asked, global, &state_dir, &cloud, &tenant)?;
        shared::warn_unkept(&state_dir, &sign_in, screen);
        identity = shared::signed_in(&http, (&cloud, &known), &tenant, sign_in, &prompt, global, &state_dir).await?;
        let manager = Manager::new(&http, &identity);
        let azure = AzurePort::new(manager, &cloud, needs.bridge);
        screen.say("checking");
        let world = World { azure: &azure, stamp: &stamp, records: records.as_ref(), clock: &CLOCK };
        let outcome = work(Both { world, information, subscription, state_dir: state_dir.clone() }).await;
        keep(&identity, &state_dir).await;
        outcome
    };
    let outcome = watched(screen, work).await;
    closed(outcome, stamp.close().await)
}

/// The subscription that the stamp's record names, else the one that this machine's newest journal does.
async fn recorded(
    state_dir: &Path,
    information: Option<&StampInformation>,
    records: Option<&RecordsPort<'_>>,
) -> Result<Uuid, Problem> {
    let unknown = |why: String| Problem::new(&code::SUBSCRIPTION_UNKNOWN, format!("--subscription is needed: {why}"));
    let Some(information) = information else { return Err(unknown("the stamp was not asked".into())) };
    let (known, _) = History::look(state_dir, information.cloud_id);
    let details = || known.details.map(|details| details.subscription).filter(|id| !id.is_nil());
    let journalled = known.registration.map(|id| id.subscription).or_else(details);
    let (recorded, says) = match records {
        None => (None, "the stamp's record can't be read without an operator's sign-in"),
        Some(records) => {
            match retry::read(&CLOCK, Policy::AZURE, async || records.activation(information).await).await {
                Ok(Some(record)) => (Some(record.registration.subscription), ""),
                Ok(None) => (None, "the stamp has no activation record"),
                Err(_) => (None, "the stamp's record could not be read"),
            }
        }
    };
    recorded.or(journalled).ok_or_else(|| unknown(format!("{says}, and no journal of this machine names it")))
}

/// A directory may hand out a new refresh token each time and forget the one before; and what Azure asked for in vain is asked
/// for by the next `azsreg login`.
async fn keep(identity: &Identity<'_>, state_dir: &Path) {
    if let Some(account) = identity.known_account().await {
        shared::keep(state_dir, &account);
    }
}

/// Runs until it ends or is interrupted; an interrupted operation says what it has done, and what it waited for.
pub(crate) async fn watched<T>(screen: &Screen, work: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    let acting = screen.acting.clone();
    let result = interrupt::or(&acting, work).await;
    screen.clear();
    result.map_err(|ended| {
        if ended.problems.first().is_some_and(|problem| problem.code == &code::INTERRUPTED) {
            let (steps, step) = screen.so_far();
            let mut ended = Ended { steps, step, ..ended };
            let why = screen.waits_because();
            if let Some(problem) = ended.problems.first_mut().filter(|_| !why.is_empty()) {
                problem.details.push(format!("It was waiting: {why}."));
            }
            return ended;
        }
        ended
    })
}

/// What the end of the session adds: a cmdlet that goes on at the stamp, and a transcript that was not delivered.
pub(crate) fn closed<T>(outcome: Result<T, Ended>, closed: Closed) -> Result<T, Ended> {
    let Closed { left, undelivered } = closed;
    let undelivered = undelivered.map(|error| Problem { code: &code::TRANSCRIPT_NOT_DELIVERED, ..*error.problem });
    match (outcome, undelivered) {
        (Ok(outcome), None) => Ok(outcome),
        (Ok(_), Some(problem)) => Err(problem.into()),
        (Err(mut ended), undelivered) => {
            if let (Some(cmdlet), Some(problem)) = (left, ended.problems.first_mut()) {
                problem.details.push(format!(
                    "{cmdlet} goes on at the stamp, in a session that stays open, and ends by itself: it changes the stamp, and is not stopped in the middle."
                ));
            }
            ended.problems.extend(undelivered);
            Err(ended)
        }
    }
}

/// Opens Azure alone.
pub(crate) async fn azure<T>(
    global: &Global,
    options: &AzureOptions,
    sources: &Sources,
    screen: &Screen,
    subscription: Option<Uuid>,
    work: impl AsyncFnOnce(Azure<'_, '_>) -> Result<T, Ended>,
) -> Result<T, Ended> {
    shared::check_cloud(&options.cloud, &options.network, sources)?;
    let asked = shared::sign_in(&options.sign_in, sources)?;
    let state_dir = state::directory(global)?;
    let ca = shared::ca(&options.network)?;
    let http: Http = shared::http(&options.network, &ca, false)?;
    let prompt = screen.clone();
    let work = async {
        screen.say("signing in to Azure");
        let known = shared::known(&state_dir);
        let cloud = shared::cloud(&options.cloud, sources, &http, &known).await?;
        let tenant = shared::tenant(&options.cloud, &http, &cloud, subscription).await?;
        let sign_in = shared::chosen_sign_in(asked, global, &state_dir, &cloud, &tenant)?;
        shared::warn_unkept(&state_dir, &sign_in, screen);
        let identity =
            shared::signed_in(&http, (&cloud, &known), &tenant, sign_in, &prompt, global, &state_dir).await?;
        let manager = Manager::new(&http, &identity);
        let azure = AzurePort::new(manager, &cloud, None);
        screen.say("asking Azure");
        let world = World { azure: &azure, stamp: &Nobody, records: None, clock: &CLOCK };
        let outcome = work(Azure { world, state_dir: state_dir.clone() }).await;
        keep(&identity, &state_dir).await;
        outcome
    };
    watched(screen, work).await
}

/// Opens a stamp alone, and asks for its information.
pub(crate) async fn stamp<T>(
    global: &Global,
    options: &StampOptions,
    sources: &Sources,
    screen: &Screen,
    work: impl AsyncFnOnce(Stamp<'_, '_>) -> Result<T, Ended>,
) -> Result<T, Ended> {
    let stamp_sign_in = shared::stamp_sign_in(&options.stamp_sign_in, sources)?;
    let state_dir = state::directory(global)?;
    let ca = shared::ca(&options.network)?;
    let http = shared::http(&options.network, &ca, false)?;
    let direct = shared::http(&options.network, &ca, true)?;
    let pep = shared::pep_options(global, &options.pep, &options.network, &ca, sources)?;
    let stamp = shared::endpoint(pep, screen);
    let prompt = screen.clone();
    let work = async {
        screen.say("asking the stamp");
        let information = retry::read(&CLOCK, Policy::AZURE, async || stamp.information().await).await?;
        sources.check_stamp(information.cloud_id)?;
        let known = shared::known(&state_dir);
        let records = stamp_sign_in.map(|sign_in| RecordsPort::new(&http, &direct, sign_in, &prompt, known));
        let world = World { azure: &(), stamp: &stamp, records: records.as_ref(), clock: &CLOCK };
        work(Stamp { world, information, state_dir: state_dir.clone() }).await
    };
    let outcome = watched(screen, work).await;
    closed(outcome, stamp.close().await)
}

/// Journals and locks of this machine.
pub(crate) fn books(global: &Global, state_dir: &Path) -> FileBooks {
    let on_damage = if global.without_journal { OnDamage::WorldOnly } else { OnDamage::Stop };
    FileBooks { directory: state_dir.to_owned(), on_damage }
}

/// Whether a command goes on from an interrupted run of the same operation.
pub(crate) fn writer(state_dir: &Path, cloud_id: Uuid, operation: &str) -> Writer {
    match FileJournal::newest(state_dir, cloud_id) {
        Some((newest, _, false)) if newest == operation => Writer::Resumed,
        _ => Writer::New,
    }
}
