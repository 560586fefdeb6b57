//! `azsreg offline`: one file for each trip.

use azsreg_model::{
    ActivationKey, BillingModel, Bundle, BundleKind, Carried, ExitCode, Outcome, Problem, RegisterRequest,
    RegistrationId, Report, code,
};
use azsreg_operations::engine::session::Desk;
use azsreg_operations::offline::{self, CarriedKey, Visit};
use azsreg_operations::unregister::{self, AzureOrder, Target};
use serde_json::json;
use uuid::Uuid;

use super::confirm::Person;
use super::connect::{self, Azure, CLOCK, Stamp};
use super::files::{Writer, carried, carry, check_out, check_receipt, hand_over, receipt_file, wrong_kind};
use super::inspect;
use super::register::{broken_rule, usage};
use crate::Ended;
use crate::cli::{
    Global, OfflineActivateOptions, OfflineCommand, OfflineDeactivateOptions, OfflineKeyOptions,
    OfflineRegisterOptions, OfflineRenewCommand, OfflineTokenOptions, OfflineUnregisterOptions, OutOptions, Switch,
    WhichOptions,
};
use crate::machine;
use crate::secrets::Sources;
use crate::state;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(
    global: &Global,
    command: &OfflineCommand,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    match command {
        OfflineCommand::Token(options) => token(global, options, false, view, sources).await,
        OfflineCommand::Register(options) => register_file(global, options, false, view, sources).await,
        OfflineCommand::Key(options) => key(global, options, view, sources).await,
        OfflineCommand::Activate(options) => activate(global, options, false, view, sources).await,
        OfflineCommand::Deactivate(options) => deactivate(global, options, view, sources).await,
        OfflineCommand::Unregister(options) => unregister_file(global, options, view, sources).await,
        OfflineCommand::Renew(OfflineRenewCommand::Start(options)) => token(global, options, true, view, sources).await,
        OfflineCommand::Renew(OfflineRenewCommand::Register(options)) => {
            register_file(global, options, true, view, sources).await
        }
        OfflineCommand::Renew(OfflineRenewCommand::Finish(options)) => {
            activate(global, options, true, view, sources).await
        }
        OfflineCommand::Inspect(options) => inspect::run(&options.file, view),
    }
}

/// The details of the token, checked as far as the words allow.
fn details(options: &OfflineTokenOptions, warnings: &mut Vec<Problem>) -> Result<RegisterRequest, Problem> {
    let model = options.billing_model;
    if !matches!(model, BillingModel::Capacity | BillingModel::Development | BillingModel::Custom) {
        let message = format!("{model} can't be registered disconnected");
        return Err(Problem::new(&code::MODEL_NOT_DISCONNECTED, message));
    }
    let details = RegisterRequest {
        subscription: Uuid::nil(),
        name: None,
        resource_group: "azurestack".into(),
        location: None,
        billing_model: model,
        agreement_number: options.agreement_number.clone().filter(|_| model == BillingModel::Capacity),
        ms_asset_tag: options.ms_asset_tag.clone(),
        usage_reporting: usage(model, options.usage_reporting == Switch::On, warnings),
        marketplace: options.marketplace == Switch::On,
        tenant: None,
        token_version: options.token_version,
        renew: false,
        replaces: None,
    };
    details.validate().map_err(|error| broken_rule(&error))?;
    Ok(details)
}

async fn token(
    global: &Global,
    options: &OfflineTokenOptions,
    renewal: bool,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let mut warnings = Vec::new();
    let details = details(options, &mut warnings)?;
    let screen = Screen::new(global, offline::STEPS);
    let mut watch = screen.clone();
    for warning in &warnings {
        azsreg_operations::Watch::warning(&mut watch, warning);
    }
    let kind = if renewal { BundleKind::RenewalToken } else { BundleKind::RegistrationToken };
    let work = async |stamp: Stamp<'_, '_>| {
        let Stamp { world, information, state_dir } = stamp;
        let name = if renewal { "offline-renew-start" } else { "offline-token" };
        let writer = connect::writer(&state_dir, information.cloud_id, name);
        check_out(&options.out.out, kind, information.cloud_id, &[], writer)?;
        let books = connect::books(global, &state_dir);
        let mut person = Person::new(global, Some(&options.care), &screen);
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: options.care.plan };
        let order = (details, renewal, options.out.raw);
        let mut deliver = |bundle: &Bundle| hand_over(&options.out, bundle);
        let report = offline::run_token(world, order, &information, desk, &mut deliver).await?;
        Ok(Report { warnings: [warnings, report.warnings].concat(), ..report })
    };
    let report = connect::stamp(global, &options.stamp, sources, &screen, work).await?;
    let exit = view.report(&report);
    if exit != ExitCode::ChangesPlanned {
        carry(view, &options.out.out, kind);
    }
    Ok(exit)
}

async fn register_file(
    global: &Global,
    options: &OfflineRegisterOptions,
    renewal: bool,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let (token, of_bundle, receipt) = match carried(&options.file)?.into_token() {
        Ok(token) => (token, None, None),
        Err(Carried::Bundle(bundle)) => match (bundle.kind, renewal) {
            (BundleKind::RegistrationToken, false) | (BundleKind::RenewalToken, true) => {
                let Bundle { token, receipt, cloud_id, .. } = *bundle;
                let lacks = || Problem::new(&code::BUNDLE_DAMAGED, "the bundle holds no token");
                (token.ok_or_else(lacks)?, Some(cloud_id), receipt)
            }
            (kind, _) => return Err(wrong_kind(&options.file, kind).into()),
        },
        Err(_) => return Err(wrong_kind(&options.file, BundleKind::ActivationKey).into()),
    };
    let contents = offline::decode(&token)?;
    if let Some(model @ (BillingModel::PayAsYouUse | BillingModel::Ruggedized)) = contents.billing_model {
        let message = format!("the token says {model}, which can't be registered disconnected");
        return Err(Ended {
            exit: ExitCode::CheckFailed,
            ..Problem::new(&code::MODEL_NOT_DISCONNECTED, message).into()
        });
    }
    let cloud_id = stamp_of(contents.cloud_id.or(of_bundle), options.cloud_id)?;
    let made = if renewal { BundleKind::RenewalKey } else { BundleKind::ActivationKey };
    check_out(&options.out.out, made, cloud_id, &[&options.file], Writer::New)?;
    check_receipt(&options.out.out, cloud_id)?;
    if !options.care.plan {
        machine::ready(&state::directory(global)?, Some(cloud_id))?;
    }
    let screen = Screen::new(global, offline::STEPS);
    let work = async |azure: Azure<'_, '_>| {
        let Azure { world, state_dir } = azure;
        let books = connect::books(global, &state_dir);
        let (mut person, mut watch) = (Person::new(global, Some(&options.care), &screen), screen.clone());
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: options.care.plan };
        let visit = Visit {
            subscription: options.subscription,
            resource_group: options.resource_group.clone(),
            name: options.name.clone(),
            location: options.location.clone(),
            token: &token,
            cloud_id,
            receipt,
            renewal,
            file: options.file.display().to_string(),
        };
        let mut deliver = |bundle: &Bundle| {
            hand_over(&options.out, bundle)?;
            receipt_file(&options.out.out, bundle, &token)
        };
        Ok(offline::run_register(world.azure, world.clock, &visit, desk, &mut deliver).await?)
    };
    let report = connect::azure(global, &options.azure, sources, &screen, Some(options.subscription), work).await?;
    let exit = view.report(&report);
    if exit != ExitCode::ChangesPlanned {
        carry(view, &options.out.out, made);
    }
    Ok(exit)
}

/// The stamp that a token is of: as it or its bundle says, or as the operator does; both, if both say it, are to be the same.
fn stamp_of(of_file: Option<Uuid>, named: Option<Uuid>) -> Result<Uuid, Ended> {
    match (of_file, named) {
        (Some(of_file), Some(named)) if of_file != named => {
            let message = format!("the file is of the stamp {of_file}; --cloud-id says {named}");
            Err(Problem::new(&code::BUNDLE_OTHER_STAMP, message).into())
        }
        (None, None) => {
            let message = "the token does not say of which stamp it is";
            let next = "Add --cloud-id ID: at the stamp azsreg stamp info shows it.";
            Err(Problem::new(&code::BAD_ARGUMENT, message).next(next).into())
        }
        (of_file, named) => Ok(of_file.or(named).unwrap_or_default()),
    }
}

fn unnamed() -> Problem {
    Problem::new(&code::BAD_ARGUMENT, "nothing says which registration is meant")
        .next("Add --name, --cloud-id, or the carried file.")
}

/// The one registration that is meant, or why there is none.
async fn which<A: azsreg_operations::ports::Azure>(azure: &A, options: &WhichOptions) -> Result<RegistrationId, Ended> {
    if let Some(name) = &options.name {
        return Ok(RegistrationId {
            subscription: options.subscription,
            resource_group: options.resource_group.clone(),
            name: name.clone(),
        });
    }
    let cloud_id = options.cloud_id.ok_or_else(unnamed)?;
    let mut found = offline::registration_of(azure, &CLOCK, options.subscription, cloud_id).await?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let message = format!("the subscription has no registration of the stamp {cloud_id}");
            let next = format!("azsreg list --subscription {}", options.subscription);
            Err(Problem::new(&code::REGISTRATION_MISSING, message).next(next).into())
        }
        several => {
            let mut problem = Problem::new(&code::DETAILS_UNKNOWN, format!("{cloud_id} has {several} registrations"));
            problem.details = found.iter().map(ToString::to_string).collect();
            Err(problem.next("Say which with --name and --resource-group.").into())
        }
    }
}

async fn key(global: &Global, options: &OfflineKeyOptions, view: &View, sources: &Sources) -> Result<ExitCode, Ended> {
    if options.which.name.is_none() && options.which.cloud_id.is_none() {
        return Err(unnamed().into());
    }
    let screen = Screen::new(global, 0);
    let work = async |azure: Azure<'_, '_>| {
        let id = which(azure.world.azure, &options.which).await?;
        let bundle = offline::key(azure.world.azure, &CLOCK, &id, &mut screen.clone()).await?;
        check_out(&options.out.out, bundle.kind, bundle.cloud_id, &[], Writer::New)?;
        hand_over(&options.out, &bundle)?;
        Ok(bundle)
    };
    let subscription = Some(options.which.subscription);
    let bundle = connect::azure(global, &options.azure, sources, &screen, subscription, work).await?;
    if view.is_json() {
        view.json(&json!({"operation": "offline-key", "outcome": "done", "cloud_id": bundle.cloud_id, "registration": bundle.registration, "out": options.out.out}));
    } else {
        view.line("Your activation key has been collected.");
        carry(view, &options.out.out, BundleKind::ActivationKey);
    }
    Ok(ExitCode::Done)
}

async fn activate(
    global: &Global,
    options: &OfflineActivateOptions,
    renewal: bool,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let (key, of_bundle, token_digest) = match carried(&options.file)? {
        Carried::Key(key) => (key, None, None),
        Carried::Token(_) => return Err(wrong_kind(&options.file, BundleKind::RegistrationToken).into()),
        Carried::Bundle(bundle) => match (bundle.kind, renewal) {
            (BundleKind::ActivationKey, _) | (BundleKind::RenewalKey, true) => {
                let Bundle { key, token_digest, registration, .. } = *bundle;
                let lacks = || Problem::new(&code::BUNDLE_DAMAGED, "the bundle holds no key");
                (key.ok_or_else(lacks)?, registration, token_digest)
            }
            (kind, _) => return Err(wrong_kind(&options.file, kind).into()),
        },
    };
    let registration = registration_of(&key, of_bundle, options)?;
    let screen = Screen::new(global, offline::STEPS);
    let work = async |stamp: Stamp<'_, '_>| {
        let Stamp { world, information, state_dir } = stamp;
        let books = connect::books(global, &state_dir);
        let (mut person, mut watch) = (Person::new(global, None, &screen), screen.clone());
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: options.plan.plan };
        let carried = CarriedKey { key: &key, registration, token_digest: token_digest.as_deref() };
        Ok(offline::run_activate(world, &carried, renewal, &information, desk).await?)
    };
    let report = connect::stamp(global, &options.stamp, sources, &screen, work).await?;
    Ok(view.report(&report))
}

/// The registration that a key is of: as it or its bundle says, or as the operator does. A name that is given is to be its own.
fn registration_of(
    key: &ActivationKey,
    of_bundle: Option<RegistrationId>,
    options: &OfflineActivateOptions,
) -> Result<Option<RegistrationId>, Problem> {
    let of_file = of_bundle.or_else(|| key.decode().ok()?.registration());
    if let (Some(id), Some(name)) = (&of_file, &options.name)
        && !id.name.eq_ignore_ascii_case(name)
    {
        let message = format!("the activation key comes from {id}; --name says {name}");
        return Err(Problem::new(&code::MALFORMED_KEY, message).next("Leave --name out, or carry the other key."));
    }
    let named = options.subscription.zip(options.name.clone()).map(|(subscription, name)| RegistrationId {
        subscription,
        resource_group: options.resource_group.clone(),
        name,
    });
    Ok(of_file.or(named))
}

async fn deactivate(
    global: &Global,
    options: &OfflineDeactivateOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, offline::STEPS);
    let work = async |stamp: Stamp<'_, '_>| {
        let Stamp { world, information, state_dir } = stamp;
        let writer = connect::writer(&state_dir, information.cloud_id, "offline-deactivate");
        check_out(&options.out, BundleKind::Deactivation, information.cloud_id, &[], writer)?;
        let books = connect::books(global, &state_dir);
        let (mut person, mut watch) = (Person::new(global, Some(&options.care), &screen), screen.clone());
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: options.care.plan };
        let out = OutOptions { out: options.out.clone(), raw: false };
        let mut deliver = |bundle: &Bundle| hand_over(&out, bundle);
        Ok(offline::run_deactivate(world, &information, desk, &mut deliver).await?)
    };
    let report = connect::stamp(global, &options.stamp, sources, &screen, work).await?;
    let exit = view.report(&report);
    if report.outcome != Outcome::Planned {
        carry(view, &options.out, BundleKind::Deactivation);
    }
    Ok(exit)
}

async fn unregister_file(
    global: &Global,
    options: &OfflineUnregisterOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let file = options.file.as_deref().map(|path| Ok::<_, Problem>((path, carried(path)?))).transpose()?;
    let (of_file, of_stamp, deactivated_at) = match file {
        None => (None, None, None),
        Some((path, Carried::Key(_))) => return Err(wrong_kind(path, BundleKind::ActivationKey).into()),
        Some((_, Carried::Token(token))) => (None, offline::decode(&token)?.cloud_id, None),
        Some((path, Carried::Bundle(bundle))) => match bundle.kind {
            BundleKind::Deactivation | BundleKind::RegistrationToken => {
                let deactivated_at = bundle.receipt.as_ref().and_then(|receipt| receipt.deactivated_at);
                (bundle.registration, Some(bundle.cloud_id), deactivated_at)
            }
            kind => return Err(wrong_kind(path, kind).into()),
        },
    };
    let which = &options.which;
    let target = match (&which.name, which.cloud_id, of_file) {
        (Some(name), _, _) => Target::Named(RegistrationId {
            subscription: which.subscription,
            resource_group: which.resource_group.clone(),
            name: name.clone(),
        }),
        (None, None, Some(id)) => Target::OfFile(id),
        (None, cloud_id, _) => Target::OfStamp(cloud_id.or(of_stamp).ok_or_else(unnamed)?),
    };
    if let Some(cloud_id) = which.cloud_id.or(of_stamp).filter(|_| !options.care.plan) {
        machine::ready(&state::directory(global)?, Some(cloud_id))?;
    }
    let screen = Screen::new(global, unregister::STEPS);
    let work = async |azure: Azure<'_, '_>| {
        let books = connect::books(global, &azure.state_dir);
        let (mut person, mut watch) = (Person::new(global, Some(&options.care), &screen), screen.clone());
        let desk = &mut Desk { books: &books, consent: &mut person, watch: &mut watch, plan: options.care.plan };
        let order = AzureOrder {
            operation: "offline-unregister",
            subscription: which.subscription,
            target,
            cloud_id: of_stamp,
            deactivated_at,
        };
        Ok(unregister::run_azure(azure.world, &order, desk).await?)
    };
    let report = connect::azure(global, &options.azure, sources, &screen, Some(which.subscription), work).await?;
    Ok(view.report(&report))
}
