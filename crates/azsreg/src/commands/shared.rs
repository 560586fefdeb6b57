//! What several commands make out of their options.

use std::path::{Path, PathBuf};

use azsreg_arm::{
    Account, Http, HttpOptions, Identity, Known, Place, Prompt, SignIn, SignInCache, certificate_from_pem, custom_cloud,
};
use azsreg_model::{Cloud, NamedCloud, Problem, code, decode_text};
use azsreg_operations::engine::retry::{self, Policy};
use azsreg_operations::files::input::Input;
use azsreg_operations::ports::{Class, PortError};
use azsreg_pep::{Credentials, Options, PrivilegedEndpoint, Transcript};
use azsreg_tls::Authorities;
use uuid::Uuid;

use crate::ask;
use crate::cli::{CloudOptions, Global, NetworkOptions, PepOptions, SidesOptions, SignInOptions, StampSignInOptions};
use crate::clock::SystemClock;
use crate::machine;
use crate::secrets::{self, Passwords, Sources};
use crate::state;
use crate::watch::Screen;

/// `--ca-file`.
pub(crate) fn ca(network: &NetworkOptions) -> Result<Authorities, Problem> {
    let Some(path) = &network.ca_file else { return Ok(Authorities::default()) };
    let bytes = state::read("--ca-file", path, Input::Authorities)?;
    Authorities::read(&bytes)
        .map_err(|why| Problem::new(&code::CA_FILE, format!("--ca-file {}: {why}", path.display())))
}

/// An HTTPS client.
pub(crate) fn http(network: &NetworkOptions, ca: &Authorities, direct: bool) -> Result<Http, Problem> {
    let options = HttpOptions {
        authorities: ca.clone(),
        connect_timeout: network.connect_timeout,
        answer_timeout: network.answer_timeout,
        allow_http: network.allow_http,
        direct,
    };
    Http::new(&options).map_err(|error| *PortError::from(error).problem)
}

/// Both sides as the words name them: nothing of it has touched a socket yet.
pub(crate) struct Sides {
    /// The sign-in that was asked for.
    pub(crate) asked: Option<SignIn>,
    /// The sign-in to the stamp's Resource Manager.
    pub(crate) stamp_sign_in: Option<SignIn>,
    /// Where azsreg keeps things.
    pub(crate) state_dir: PathBuf,
    /// The privileged endpoint.
    pub(crate) pep: Options,
    /// For Azure, through a proxy where there is one.
    pub(crate) http: Http,
    /// For the stamp, directly.
    pub(crate) direct: Http,
}

impl Sides {
    /// Checks the words, reads files and asks for the password.
    pub(crate) fn of(
        global: &Global,
        options: &SidesOptions,
        sources: &Sources,
        check: impl FnOnce(Option<&SignIn>) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        check_cloud(&options.cloud, &options.network, sources)?;
        let asked = sign_in(&options.sign_in, sources)?;
        check(asked.as_ref())?;
        let stamp_sign_in = stamp_sign_in(&options.stamp_sign_in, sources)?;
        let state_dir = state::directory(global)?;
        let ca = ca(&options.network)?;
        let http = http(&options.network, &ca, false)?;
        let direct = self::http(&options.network, &ca, true)?;
        let pep = pep_options(global, &options.pep, &options.network, &ca, sources)?;
        Ok(Self { asked, stamp_sign_in, state_dir, pep, http, direct })
    }
}

/// The user of the privileged endpoint, as far as the words alone show it to be wrong.
fn check_user(user: &str) -> Result<(), Problem> {
    let name = user.rsplit('\\').next().unwrap_or(user).split('@').next().unwrap_or_default();
    if name.eq_ignore_ascii_case("AzureStackAdmin") {
        return Err(Problem::new(&code::NOT_CLOUD_ADMIN, format!("--pep-user {user} is the hosts' administrator")));
    }
    let has_domain = user.split_once('\\').is_some_and(|(domain, name)| !domain.is_empty() && !name.is_empty())
        || user.split_once('@').is_some_and(|(name, domain)| !domain.is_empty() && !name.is_empty());
    if !has_domain {
        return Err(Problem::new(&code::NO_DOMAIN, format!("--pep-user {user} names no domain"))
            .next(format!("Use the stamp's domain: --pep-user 'AZURESTACK\\{name}'.")));
    }
    Ok(())
}

/// Refuses a user whose backslash is doubled, as a file of JSON or a string of another language has it.
fn check_backslash(option: &str, user: &str, sources: &Sources) -> Result<(), Problem> {
    if !user.contains("\\\\") {
        return Ok(());
    }
    let meant = user.replace("\\\\", "\\");
    let problem = Problem::new(&code::BACKSLASH_DOUBLED, format!("{option} {user}: the backslash is doubled"));
    // JSON doubles it, and no more.
    Err(match sources.at_a_named_stamp() && !sources.on_command_line("pep_user") {
        true => problem.next(format!("Write it in stamps.json so: \"{}\".", user)),
        false => problem.next(format!("Write it once: {option} '{meant}'.")),
    })
}

/// The privileged endpoint's options; reads or asks for the password.
pub(crate) fn pep_options(
    global: &Global,
    pep: &PepOptions,
    network: &NetworkOptions,
    ca: &Authorities,
    sources: &Sources,
) -> Result<Options, Problem> {
    let without_password = pep.pep_password.is_none() && !ask::is_there(global);
    let mut missing: Vec<&str> =
        [("--pep <HOST[:PORT]>", pep.pep.is_empty()), ("--pep-user <DOMAIN\\USER>", pep.pep_user.is_none())]
            .into_iter()
            .filter_map(|(option, missing)| missing.then_some(option))
            .collect();
    if !missing.is_empty() && without_password {
        missing.push("--pep-password <@FILE>");
    }
    let (Some(user), []) = (&pep.pep_user, &missing[..]) else {
        let message = format!("the following required arguments were not provided: {}", missing.join(" "));
        return Err(Problem::new(&code::BAD_ARGUMENT, message)
            .next("Add them, or set AZSREG_PEP and AZSREG_PEP_USER; in a lab: eval \"$(azsreg lab env)\"."));
    };
    check_backslash("--pep-user", user, sources)?;
    check_user(user)?;
    let passwords = Passwords { sources, global, as_is: pep.password_as_is };
    // With --at a variable may be of another stamp: then only the line counts.
    let counts = |id: &str| !sources.at_a_named_stamp() || sources.on_command_line(id);
    let share = pep.transcript_share.as_ref().filter(|_| counts("transcript_share"));
    let user_of_share = pep.transcript_user.as_ref().filter(|_| counts("transcript_user"));
    let password_of_share = pep.transcript_password.as_ref().filter(|_| counts("transcript_password"));
    let transcript = match (share, user_of_share, password_of_share) {
        (None, _, _) => None,
        (Some(share), _, _) if !share.starts_with("\\\\") => {
            return Err(Problem::new(
                &code::BAD_ARGUMENT,
                format!("--transcript-share {share} is not \\\\HOST\\SHARE"),
            )
            .next("Give a share that the stamp reaches, such as \\\\fileserver\\transcripts."));
        }
        (Some(share), Some(user), Some(given)) => {
            check_backslash("--transcript-user", user, sources)?;
            let password = passwords.read("transcript_password", "--transcript-password", given)?;
            Some(Transcript { share: share.clone(), credentials: Credentials { user: user.clone(), password } })
        }
        (Some(_), _, _) => {
            return Err(Problem::new(
                &code::BAD_ARGUMENT,
                "--transcript-share needs --transcript-user and --transcript-password",
            )
            .next("Add both: the stamp writes to the share with them."));
        }
    };
    // Last: a person is asked when nothing else is to be refused.
    let password = passwords.of_endpoint(user, pep.pep_password.as_ref())?;
    Ok(Options {
        addresses: pep.pep.clone(),
        credentials: Credentials { user: user.clone(), password },
        transcript,
        mechanism: pep.pep_auth,
        configuration: pep.pep_configuration.clone(),
        connect_timeout: network.connect_timeout,
        authorities: ca.clone(),
    })
}

/// The privileged endpoint.
pub(crate) fn endpoint(options: Options, screen: &Screen) -> PrivilegedEndpoint {
    PrivilegedEndpoint::new(options, screen.news())
}

/// Refuses the German cloud and two clouds at once, from the words alone.
pub(crate) fn check_cloud(options: &CloudOptions, network: &NetworkOptions, sources: &Sources) -> Result<(), Problem> {
    if options.cloud == Some(NamedCloud::AzureGermanCloud) {
        return Err(Problem::new(&code::GERMAN_CLOUD, "AzureGermanCloud is not supported for registration"));
    }
    let both = sources.on_command_line("cloud") && sources.on_command_line("cloud_endpoint");
    if both {
        return Err(
            Problem::new(&code::BAD_ARGUMENT, "--cloud and --cloud-endpoint name two clouds").next("Keep one of them.")
        );
    }
    if let Some(url) = &options.cloud_endpoint
        && !url.starts_with("https://")
        && !(network.allow_http && url.starts_with("http://"))
    {
        return Err(Problem::new(&code::BAD_ARGUMENT, format!("--cloud-endpoint {url} is not an https URL"))
            .next("Give the Resource Manager's address, such as https://management.example.com."));
    }
    Ok(())
}

/// The endpoints that sign-ins are kept for: none of them is another's.
pub(crate) fn known(state_dir: &Path) -> Known {
    Known::new(SignInCache::new(state_dir).places())
}

/// The cloud: a named one, or one that is asked for its endpoints.
pub(crate) async fn cloud(
    options: &CloudOptions,
    sources: &Sources,
    http: &Http,
    known: &Known,
) -> Result<Cloud, Problem> {
    let custom = options.cloud_endpoint.as_ref().filter(|_| !sources.on_command_line("cloud"));
    match (custom, options.cloud) {
        (Some(endpoint), _) => {
            let read =
                retry::read(&SystemClock, Policy::AZURE, async || Ok(custom_cloud(http, endpoint, known).await?));
            read.await.map_err(|error| *error.problem)
        }
        (None, named) => Cloud::named(named.unwrap_or(NamedCloud::AzureCloud))
            .ok_or_else(|| Problem::new(&code::GERMAN_CLOUD, "AzureGermanCloud is not supported for registration")),
    }
}

/// The options that were given, of (id, option, whether it has a value), and whether any stands on the command line: that
/// outweighs the environment.
fn chosen<'o>(given: &[(&str, &'o str, bool)], sources: &Sources) -> (Vec<&'o str>, bool) {
    let on_line = given.iter().any(|(id, _, set)| *set && sources.on_command_line(id));
    let counts = |id: &str| !on_line || sources.on_command_line(id);
    (given.iter().filter(|(id, _, set)| *set && counts(id)).map(|(_, option, _)| *option).collect(), on_line)
}

/// A sign-in as asked for; `None` where none was, so that a kept one is used.
pub(crate) fn sign_in(options: &SignInOptions, sources: &Sources) -> Result<Option<SignIn>, Problem> {
    let given = [
        ("device_code", "--device-code", options.device_code),
        ("browser", "--browser", options.browser),
        ("client_secret", "--client-secret", options.client_secret.is_some()),
        ("client_certificate", "--client-certificate", options.client_certificate.is_some()),
    ];
    let (chosen, _) = chosen(&given, sources);
    let client = || {
        options.client_id.ok_or_else(|| {
            Problem::new(
                &code::BAD_ARGUMENT,
                "--client-id is missing: a secret or certificate belongs to an application",
            )
            .next("Add --client-id ID.")
        })
    };
    match chosen[..] {
        [] if options.client_id.is_some() && sources.on_command_line("client_id") => {
            Err(Problem::new(&code::BAD_ARGUMENT, "--client-id is given without a secret or certificate")
                .next("Add --client-secret @FILE or --client-certificate FILE."))
        }
        [] => Ok(None),
        ["--device-code"] => Ok(Some(SignIn::DeviceCode)),
        ["--browser"] => Ok(Some(SignIn::Browser)),
        ["--client-secret"] => {
            let client = client()?;
            let Some(given) = &options.client_secret else { return Ok(None) };
            let secret = secrets::read(sources, "client_secret", "--client-secret", given)?;
            Ok(Some(SignIn::ClientSecret { client, secret }))
        }
        ["--client-certificate"] => {
            let client = client()?;
            let Some(path) = &options.client_certificate else { return Ok(None) };
            certificate("--client-certificate", path, client).map(Some)
        }
        _ => Err(Problem::new(&code::TWO_SIGN_INS, format!("more than one sign-in is given: {}", chosen.join(", ")))),
    }
}

/// An application's certificate and key, out of a file that an option names.
fn certificate(option: &str, path: &Path, client: Uuid) -> Result<SignIn, Problem> {
    let bad = |why: &str| Problem::new(&code::SECRET_UNREADABLE, format!("{option} {}: {why}", path.display()));
    let pem = state::read(option, path, Input::Certificate)?;
    let pem = decode_text(&pem).map_err(|_| bad("it is not PEM"))?;
    let (certificate, key_pem) = certificate_from_pem(&pem).map_err(bad)?;
    Ok(SignIn::ClientCertificate { client, certificate, key_pem })
}

/// The sign-in to the stamp's own Resource Manager, if there is one.
pub(crate) fn stamp_sign_in(options: &StampSignInOptions, sources: &Sources) -> Result<Option<SignIn>, Problem> {
    // With --at a variable may be of another stamp: then only the line counts.
    let counts = |id: &str| !sources.at_a_named_stamp() || sources.on_command_line(id);
    let options = &StampSignInOptions {
        stamp_client_id: options.stamp_client_id.filter(|_| counts("stamp_client_id")),
        stamp_client_secret: options.stamp_client_secret.clone().filter(|_| counts("stamp_client_secret")),
        stamp_client_certificate: options
            .stamp_client_certificate
            .clone()
            .filter(|_| counts("stamp_client_certificate")),
        stamp_device_code: options.stamp_device_code && counts("stamp_device_code"),
    };
    let given = [
        ("stamp_device_code", "--stamp-device-code", options.stamp_device_code),
        ("stamp_client_secret", "--stamp-client-secret", options.stamp_client_secret.is_some()),
        ("stamp_client_certificate", "--stamp-client-certificate", options.stamp_client_certificate.is_some()),
    ];
    let (chosen, on_line) = chosen(&given, sources);
    let client = || {
        options.stamp_client_id.ok_or_else(|| {
            let message = "--stamp-client-id is missing: a secret or certificate belongs to an application";
            Problem::new(&code::BAD_ARGUMENT, message).next("Add --stamp-client-id ID.")
        })
    };
    match chosen[..] {
        [] if options.stamp_client_id.is_some() => {
            let message = "--stamp-client-id is given without a secret or certificate";
            let next = "Add --stamp-client-secret @FILE or --stamp-client-certificate FILE.";
            Err(Problem::new(&code::BAD_ARGUMENT, message).next(next))
        }
        [] => Ok(None),
        // As before: of two variables the person's counts.
        ["--stamp-device-code", ..] if !on_line => Ok(Some(SignIn::DeviceCode)),
        ["--stamp-device-code"] => Ok(Some(SignIn::DeviceCode)),
        ["--stamp-client-secret"] => {
            let Some(given) = &options.stamp_client_secret else { return Ok(None) };
            let client = client()?;
            let secret = secrets::read(sources, "stamp_client_secret", "--stamp-client-secret", given)?;
            Ok(Some(SignIn::ClientSecret { client, secret }))
        }
        ["--stamp-client-certificate"] => {
            let Some(path) = &options.stamp_client_certificate else { return Ok(None) };
            certificate("--stamp-client-certificate", path, client()?).map(Some)
        }
        _ => {
            let message = format!("more than one sign-in to the stamp is given: {}", chosen.join(", "));
            Err(Problem::new(&code::TWO_SIGN_INS, message))
        }
    }
}

/// The tenant to sign in to: as given, or as Azure says for the subscription.
pub(crate) async fn tenant(
    options: &CloudOptions,
    http: &Http,
    cloud: &Cloud,
    subscription: Option<Uuid>,
) -> Result<String, Problem> {
    if let Some(tenant) = &options.tenant {
        return Ok(tenant.clone());
    }
    let Some(subscription) = subscription else { return Ok("organizations".into()) };
    let found = retry::read(&SystemClock, Policy::AZURE, async || {
        Ok(azsreg_arm::tenant_of_subscription(http, cloud, subscription).await?)
    });
    let found = found.await.map_err(|error| *error.problem)?;
    Ok(found.unwrap_or_else(|| "organizations".into()))
}

/// The sign-in to use: as asked, or kept, or a device code where a person can be asked.
pub(crate) fn chosen_sign_in(
    asked: Option<SignIn>,
    global: &Global,
    state_dir: &Path,
    cloud: &Cloud,
    tenant: &str,
) -> Result<SignIn, Problem> {
    if let Some(sign_in) = asked {
        return Ok(sign_in);
    }
    let cache = SignInCache::new(state_dir);
    let place = Place::from(cloud);
    if let Some(account) = cache.get(&place, tenant) {
        return Ok(SignIn::Cached(Box::new(account)));
    }
    if global.non_interactive {
        if let Some(account) = cache.elsewhere(&place, tenant) {
            let made = account.place.map_or_else(|| "another cloud".to_owned(), |place| place.endpoint);
            let message = format!("the sign-in of {} is for {made}, not for {}", account.user, place.endpoint);
            return Err(Problem::new(&code::SIGN_IN_ELSEWHERE, message));
        }
        let message =
            format!("no account is signed in to {cloud} for the tenant {tenant}, and azsreg can't ask for a sign-in");
        return Err(Problem::new(&code::NO_SIGN_IN, message));
    }
    Ok(SignIn::DeviceCode)
}

/// Signs in and keeps a person's sign-in. A kept one that the directory no longer takes is replaced by asking again, where
/// a person can be asked.
pub(crate) async fn signed_in<'a>(
    http: &'a Http,
    (cloud, known): (&Cloud, &Known),
    tenant: &str,
    sign_in: SignIn,
    prompt: &'a dyn Prompt,
    global: &Global,
    state_dir: &Path,
) -> Result<Identity<'a>, Problem> {
    // How the person signed in before, and what Azure has asked for since.
    let before = match &sign_in {
        SignIn::Cached(account) => Some((account.browser, account.claims.clone())),
        _ => None,
    };
    let person = sign_in.is_user();
    let place = Place::from(cloud);
    let mut identity = Identity::new(http, &place, known, tenant, sign_in, prompt);
    if !person {
        return Ok(identity);
    }
    let mut account = retry::read(&SystemClock, Policy::AZURE, async || Ok(identity.account().await?)).await;
    let stale = account.as_ref().is_err_and(|error| error.class == Class::Refused);
    if let Some((browser, claims)) = before.filter(|_| stale && !global.non_interactive) {
        let sign_in = if browser { SignIn::Browser } else { SignIn::DeviceCode };
        identity = Identity::new(http, &place, known, tenant, sign_in, prompt).asking(claims);
        account = identity.account().await.map_err(PortError::from);
    }
    let account = account.map_err(|error| *error.problem)?;
    keep(state_dir, &account);
    Ok(identity)
}

/// Says beforehand that the sign-in of a person who is asked now will not be kept. What only looks is served all the same.
pub(crate) fn warn_unkept(state_dir: &Path, sign_in: &SignIn, screen: &Screen) {
    if matches!(sign_in, SignIn::DeviceCode | SignIn::Browser)
        && let Err(problem) = machine::can_keep(state_dir)
    {
        let (id, message) = (problem.code.id, problem.message);
        screen.asides(&[format!("warning[{id}]: {message}. It is asked for again by the next command.")]);
    }
}

/// Keeps a person's sign-in. A failure costs a further sign-in, no more: it is logged.
pub(crate) fn keep(state_dir: &Path, account: &Account) {
    if let Err(error) = SignInCache::new(state_dir).put(account) {
        tracing::warn!(%error, "the sign-in could not be kept");
    }
}
