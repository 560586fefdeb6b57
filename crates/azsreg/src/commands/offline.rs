//! `azsreg offline`: one file for each trip.

use azsreg_model::{
    BillingModel, Bundle, BundleKind, Carried, ExitCode, Outcome, Problem, Receipt, RegisterRequest, RegistrationId,
    RegistrationToken, Report, code,
};
use azsreg_operations::engine::journal::{Event, request_of};
use azsreg_operations::offline::{self, ActivateRequest, DeactivateRequest, OfflineRequest, TokenOrder};
use azsreg_operations::ports::Clock as _;
use azsreg_operations::unregister::{self, Sides, UnregisterRequest};
use azsreg_operations::{Journal as _, change, register, status};
use serde_json::json;
use uuid::Uuid;

use super::connect::{self, Azure, CLOCK, Stamp};
use super::files::{carried, carry, check_out, check_receipt, hand_over, receipt_file, wrong_kind};
use super::register::{broken_rule, usage};
use super::{confirm, inspect};
use crate::Ended;
use crate::cli::{
    Global, OfflineActivateOptions, OfflineCommand, OfflineDeactivateOptions, OfflineKeyOptions,
    OfflineRegisterOptions, OfflineRenewCommand, OfflineTokenOptions, OfflineUnregisterOptions, OutOptions, Switch,
    WhichOptions,
};
use crate::secrets::Sources;
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
    let mut screen = Screen::new(global, offline::STEPS);
    for warning in &warnings {
        azsreg_operations::Watch::warning(&mut screen, warning);
    }
    let shown = screen.clone();
    let wanted = if renewal { BundleKind::RenewalToken } else { BundleKind::RegistrationToken };
    let mut kind = wanted;
    let made = &mut kind;
    let work = async |stamp: Stamp<'_, '_>| {
        let Stamp { world, information, state_dir } = stamp;
        check_out(&options.out.out, wanted, information.cloud_id, &[])?;
        let problems = azsreg_operations::checks::stamp(&details, &information);
        if !problems.is_empty() {
            return Err(Ended { problems, exit: ExitCode::CheckFailed, step: None, steps: Vec::new() });
        }
        // What runs on the stamp decides what a renewal finds; a token alone does not look.
        if renewal && !options.care.plan {
            register::wait_for_running(world, &mut screen).await?;
        }
        let name = if renewal { "offline-renew-start" } else { "offline-token" };
        let (_lock, history) =
            connect::begin_or_look(options.care.plan, &state_dir, information.cloud_id, name, &screen)?;
        let known = history.known();
        let begun = history.open.as_ref().and_then(|journal| order_of(journal.events(), &details, renewal));
        let order = match begun {
            Some(order) => order,
            None if !renewal => TokenOrder { details, renewal, deactivate: false, registration: None },
            None => {
                let side = status::stamp_side(world, information.clone()).await?;
                let record = side.activation.as_ref();
                // A raw file holds no receipt, so that the visit at Azure could not tell: there all is undone.
                let plain = !options.out.raw
                    && known.details.as_ref().is_some_and(|before| {
                        // Turning usage reporting off is a plain update under the same name: nothing is undone.
                        let same =
                            RegisterRequest { usage_reporting: details.usage_reporting, ..before.clone() } == details;
                        same && before.usage_reporting && !details.usage_reporting
                    })
                    && record.is_some_and(|record| !record.is_expired(CLOCK.now()))
                    && known.hosts.is_none_or(|hosts| hosts == information.nodes as usize);
                let registration = record.map(|record| record.registration.clone());
                if !plain && !options.care.plan {
                    let lost = if record.is_some() || world.records.is_none() {
                        change::items(world, &information).await?
                    } else {
                        Vec::new()
                    };
                    let what = format!(
                        "The stamp {} will be deactivated until the new key is carried back to it.",
                        information.cloud_id
                    );
                    confirm::agree(global, &options.care, &screen, &what, &lost)?;
                }
                TokenOrder { details, renewal, deactivate: !plain, registration }
            }
        };
        if options.care.plan {
            let report = Report::new(order.name(), Outcome::Planned, information.cloud_id, order.registration.clone());
            return Ok(Report { plan: order.plan(&information), warnings, ..report });
        }
        if renewal && !order.deactivate {
            screen.aside(
                "A plain update: usage reporting goes off under the same name. Nothing is deactivated or removed.",
            );
        }
        let value = serde_json::to_value(&order).unwrap_or_default();
        let (_, open) = history.past(order.name(), offline::VERSION, &value);
        let mut journal = connect::journal(open, &state_dir, information.cloud_id, order.name())?;
        let mut deliver = |bundle: &Bundle| {
            *made = bundle.kind;
            hand_over(&options.out, bundle)
        };
        let report = offline::token(world, &order, &information, &mut journal, &mut screen, &mut deliver).await?;
        Ok(Report { warnings, ..report })
    };
    let report = connect::stamp(global, &options.stamp, sources, &shown, work).await?;
    let exit = view.report(&report);
    if exit != ExitCode::ChangesPlanned {
        carry(view, &options.out.out, kind);
    }
    Ok(exit)
}

/// The order of an interrupted run that asked for the same.
fn order_of(events: &[Event], details: &RegisterRequest, renewal: bool) -> Option<TokenOrder> {
    let order: TokenOrder = serde_json::from_value(request_of(events)?.clone()).ok()?;
    (order.details == *details && order.renewal == renewal).then_some(order)
}

async fn register_file(
    global: &Global,
    options: &OfflineRegisterOptions,
    renewal: bool,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let (token, receipt) = match carried(&options.file)? {
        Carried::Token(token) => (token, None),
        Carried::Key(_) => return Err(wrong_kind(&options.file, BundleKind::ActivationKey).into()),
        Carried::Bundle(bundle) => match (bundle.kind, renewal) {
            (BundleKind::RegistrationToken, false) | (BundleKind::RenewalToken, true) => {
                let Bundle { token, receipt, .. } = *bundle;
                let lacks = || Problem::new(&code::BUNDLE_DAMAGED, "the bundle holds no token");
                (token.ok_or_else(lacks)?, receipt)
            }
            (kind, _) => return Err(wrong_kind(&options.file, kind).into()),
        },
    };
    let contents = offline::decode(&token)?;
    if matches!(contents.billing_model, BillingModel::PayAsYouUse | BillingModel::Ruggedized) {
        let message = format!("the token says {}, which can't be registered disconnected", contents.billing_model);
        return Err(Ended {
            exit: ExitCode::CheckFailed,
            ..Problem::new(&code::MODEL_NOT_DISCONNECTED, message).into()
        });
    }
    let cloud_id = contents.cloud_id;
    let deactivated_at = receipt.as_ref().and_then(|receipt| receipt.deactivated_at);
    let deactivated = deactivated_at.is_some();
    let made = if renewal { BundleKind::RenewalKey } else { BundleKind::ActivationKey };
    check_out(&options.out.out, made, cloud_id, &[&options.file])?;
    check_receipt(&options.out.out, cloud_id)?;
    let mut screen = Screen::new(global, offline::STEPS);
    let shown = screen.clone();
    let work = async |azure: Azure<'_, '_>| {
        let Azure { world, state_dir } = azure;
        let mut request = offline_request(world.azure, options, renewal, &token, cloud_id, receipt).await?;
        request_names(&request)?;
        let (_lock, history) =
            connect::begin_or_look(options.care.plan, &state_dir, cloud_id, request.name(), &screen)?;
        if let (Some(old), Some(at), None) = (&request.remove, deactivated_at, &history.open)
            && offline::registered_since(world.azure, world.clock, old, at).await?
            && history.ended.is_empty()
        {
            // Another machine, or this one before its journal was lost, came as far: there is nothing old to remove.
            request.remove = None;
        }
        let value = serde_json::to_value(&request).unwrap_or_default();
        let already = deactivated_at.is_some_and(|at| offline::renewed_before(&history.ended, &request.token, at));
        let (past, open) = history.past(request.name(), offline::VERSION, &value);
        if renewal && !past.finished && past.open.is_empty() && already {
            let message = format!("{}: the renewal that this file asks for was made before", options.file.display());
            return Err(Problem::new(&code::BUNDLE_STALE, message)
                .next(format!("To fetch its key again: azsreg offline key --subscription {} --cloud-id {cloud_id} --out KEY. To renew once more, at the stamp: azsreg offline renew start.", options.subscription))
                .into());
        }
        let prepared = offline::prepare(world.azure, world.clock, &request, &past).await?;
        if options.care.plan {
            let report = Report::new(request.name(), Outcome::Planned, cloud_id, Some(request.id.clone()));
            return Ok(Report { plan: prepared.plan(&request), ..report });
        }
        if prepared.updates() && past.open.is_empty() {
            screen.aside(&format!("{} exists and is this stamp's: it is updated in place.", request.id.name));
        }
        if let Some(old) = prepared.removes().filter(|_| past.open.is_empty()) {
            let what = if deactivated {
                format!("{old} will be deleted, and made anew. The stamp was deactivated before.")
            } else {
                format!(
                    "{old} will be deleted, and made anew. The file does not say that the stamp was deactivated: make sure that it was."
                )
            };
            confirm::agree(global, &options.care, &screen, &what, &[])?;
        }
        let mut journal = connect::journal(open, &state_dir, cloud_id, request.name())?;
        let mut deliver = |bundle: &Bundle| {
            hand_over(&options.out, bundle)?;
            receipt_file(&options.out.out, bundle, &token)
        };
        let (azure, clock) = (world.azure, world.clock);
        let report =
            offline::register(azure, clock, &request, &token, prepared, &mut journal, &mut screen, &mut deliver);
        Ok(report.await?)
    };
    let report = connect::azure(global, &options.azure, sources, &shown, Some(options.subscription), work).await?;
    let exit = view.report(&report);
    if exit != ExitCode::ChangesPlanned {
        carry(view, &options.out.out, made);
    }
    Ok(exit)
}

/// Names that Azure would refuse are refused before anything is asked.
fn request_names(request: &OfflineRequest) -> Result<(), Problem> {
    let words = RegisterRequest {
        subscription: request.id.subscription,
        name: Some(request.id.name.clone()),
        resource_group: request.id.resource_group.clone(),
        location: None,
        billing_model: BillingModel::Development,
        agreement_number: None,
        ms_asset_tag: None,
        usage_reporting: false,
        marketplace: false,
        tenant: None,
        token_version: None,
        renew: false,
        replaces: None,
    };
    words.validate().map_err(|error| broken_rule(&error))
}

/// The registration to be, and for a renewal the one to remove: what the receipt names, or what has the cloud id.
async fn offline_request<A: azsreg_operations::ports::Azure>(
    azure: &A,
    options: &OfflineRegisterOptions,
    renewal: bool,
    token: &RegistrationToken,
    cloud_id: Uuid,
    receipt: Option<Receipt>,
) -> Result<OfflineRequest, Ended> {
    let id = |name: String| RegistrationId {
        subscription: options.subscription,
        resource_group: options.resource_group.clone(),
        name,
    };
    let mut request = OfflineRequest {
        id: id(options.name.clone().unwrap_or_else(|| format!("AzureStack-{cloud_id}"))),
        location: options.location.clone(),
        cloud_id,
        token: token.digest(),
        remove: None,
        deactivated_at: receipt.as_ref().and_then(|receipt| receipt.deactivated_at),
        renewal,
    };
    if !renewal {
        return Ok(request);
    }
    let named = receipt.as_ref().and_then(|receipt| receipt.registration.clone());
    let before = match named {
        Some(id) => Some(id),
        None => {
            let mut found = offline::registration_of(azure, &CLOCK, options.subscription, cloud_id).await?;
            if found.len() > 1 {
                let mut problem =
                    Problem::new(&code::DETAILS_UNKNOWN, format!("{cloud_id} has {} registrations", found.len()));
                problem.details = found.iter().map(ToString::to_string).collect();
                return Err(problem.next("Say which is to be renewed with --name and --resource-group.").into());
            }
            found.pop()
        }
    };
    if let (Some(before), None) = (&before, &options.name) {
        request.id = before.clone();
    }
    // A raw token bears no receipt: whoever carries one has deactivated the stamp by hand.
    let plain = receipt.is_some_and(|receipt| receipt.deactivated_at.is_none());
    request.remove = before.filter(|_| !plain);
    Ok(request)
}

/// The one registration that is meant, or why there is none.
async fn which<A: azsreg_operations::ports::Azure>(
    azure: &A,
    options: &WhichOptions,
    cloud_id: Option<Uuid>,
) -> Result<RegistrationId, Ended> {
    if let Some(name) = &options.name {
        return Ok(RegistrationId {
            subscription: options.subscription,
            resource_group: options.resource_group.clone(),
            name: name.clone(),
        });
    }
    let Some(cloud_id) = options.cloud_id.or(cloud_id) else {
        return Err(Problem::new(&code::BAD_ARGUMENT, "nothing says which registration is meant")
            .next("Add --name, --cloud-id, or the carried file.")
            .into());
    };
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
    let screen = Screen::new(global, 0);
    let work = async |azure: Azure<'_, '_>| {
        let id = which(azure.world.azure, &options.which, None).await?;
        let bundle = offline::key(azure.world.azure, &CLOCK, &id).await?;
        check_out(&options.out.out, bundle.kind, bundle.cloud_id, &[])?;
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
    let (key, token_digest) = match carried(&options.file)? {
        Carried::Key(key) => (key, None),
        Carried::Token(_) => return Err(wrong_kind(&options.file, BundleKind::RegistrationToken).into()),
        Carried::Bundle(bundle) => match (bundle.kind, renewal) {
            (BundleKind::ActivationKey, _) | (BundleKind::RenewalKey, true) => {
                let Bundle { key, token_digest, .. } = *bundle;
                let lacks = || Problem::new(&code::BUNDLE_DAMAGED, "the bundle holds no key");
                (key.ok_or_else(lacks)?, token_digest)
            }
            (kind, _) => return Err(wrong_kind(&options.file, kind).into()),
        },
    };
    let mut screen = Screen::new(global, offline::STEPS);
    let shown = screen.clone();
    let work = async |stamp: Stamp<'_, '_>| {
        let Stamp { world, information, state_dir } = stamp;
        let id = offline::compare(world.clock, &key, &information)?;
        let request = ActivateRequest { id, key: key.digest(), renewal };
        let (_lock, history) = connect::begin(&state_dir, information.cloud_id, request.name())?;
        if let (Some(newest), Some(of)) = (offline::newest_token(&history.ended), &token_digest)
            && newest != *of
        {
            let message =
                format!("the key comes of the token sha256:{of}; the newest token of this stamp is sha256:{newest}");
            return Err(Problem::new(&code::BUNDLE_STALE, message)
                .next("Carry the newest token to Azure, and the key that comes of it back.")
                .into());
        }
        let value = serde_json::to_value(&request).unwrap_or_default();
        let (past, open) = history.past(request.name(), offline::VERSION, &value);
        let mut journal = connect::journal(open, &state_dir, information.cloud_id, request.name())?;
        Ok(offline::activate(world, &request, &key, &information, &past, &mut journal, &mut screen).await?)
    };
    let report = connect::stamp(global, &options.stamp, sources, &shown, work).await?;
    Ok(view.report(&report))
}

async fn deactivate(
    global: &Global,
    options: &OfflineDeactivateOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let mut screen = Screen::new(global, offline::STEPS);
    let shown = screen.clone();
    let work = async |stamp: Stamp<'_, '_>| {
        let Stamp { world, information, state_dir } = stamp;
        check_out(&options.out, BundleKind::Deactivation, information.cloud_id, &[])?;
        if options.care.plan {
            let side = status::stamp_side(world, information.clone()).await?;
            let active = side.activation.is_some() || side.unread.is_some();
            let lost = if active { change::items(world, &information).await? } else { Vec::new() };
            let registration = side.activation.map(|record| record.registration);
            let report = Report::new("offline-deactivate", Outcome::Planned, information.cloud_id, registration);
            return Ok(Report { plan: offline::plan_deactivation(active), lost, ..report });
        }
        register::wait_for_running(world, &mut screen).await?;
        let (_lock, history) = connect::begin(&state_dir, information.cloud_id, "offline-deactivate")?;
        let begun: Option<DeactivateRequest> = history.open.as_ref().and_then(|journal| {
            let ours = matches!(journal.events().first(), Some(Event::Opened { operation, .. }) if operation == "offline-deactivate");
            serde_json::from_value(request_of(journal.events())?.clone()).ok().filter(|_| ours)
        });
        let registration = match &begun {
            Some(request) => request.registration.clone(),
            None => {
                let side = status::stamp_side(world, information.clone()).await?;
                let lost = change::items(world, &information).await?;
                let what = format!("The stamp {} will be deactivated.", information.cloud_id);
                confirm::agree(global, &options.care, &screen, &what, &lost)?;
                side.activation.map(|record| record.registration)
            }
        };
        let request = DeactivateRequest { registration: registration.clone() };
        let value = serde_json::to_value(&request).unwrap_or_default();
        let (_, open) = history.past("offline-deactivate", offline::VERSION, &value);
        let mut journal = connect::journal(open, &state_dir, information.cloud_id, "offline-deactivate")?;
        let out = OutOptions { out: options.out.clone(), raw: false };
        let mut deliver = |bundle: &Bundle| hand_over(&out, bundle);
        let report = offline::deactivate(world, registration, &information, &mut journal, &mut screen, &mut deliver);
        Ok(report.await?)
    };
    let report = connect::stamp(global, &options.stamp, sources, &shown, work).await?;
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
    let (of_file, cloud_id) =
        match options.file.as_deref().map(|path| Ok::<_, Problem>((path, carried(path)?))).transpose()? {
            None => (None, None),
            Some((path, Carried::Key(_))) => return Err(wrong_kind(path, BundleKind::ActivationKey).into()),
            Some((_, Carried::Token(token))) => (None, Some(offline::decode(&token)?.cloud_id)),
            Some((path, Carried::Bundle(bundle))) => match bundle.kind {
                BundleKind::Deactivation | BundleKind::RegistrationToken => {
                    (bundle.registration, Some(bundle.cloud_id))
                }
                kind => return Err(wrong_kind(path, kind).into()),
            },
        };
    let mut screen = Screen::new(global, unregister::STEPS);
    let shown = screen.clone();
    let work = async |azure: Azure<'_, '_>| {
        let Azure { world, state_dir } = azure;
        let id = match &of_file {
            Some(id) if options.which.name.is_none() && options.which.cloud_id.is_none() => id.clone(),
            _ => which(world.azure, &options.which, cloud_id).await?,
        };
        let prepared = unregister::prepare_azure(world.azure, world.clock, id.clone()).await?;
        let owner = prepared.cloud_id();
        if let Some(cloud_id) = cloud_id.filter(|cloud_id| *cloud_id != owner) {
            let message = format!("{} is of the stamp {owner}; the file is of {cloud_id}", id.name);
            return Err(Problem::new(&code::BUNDLE_OTHER_STAMP, message).into());
        }
        if options.care.plan {
            return Ok(prepared.report(Outcome::Planned));
        }
        let request = UnregisterRequest { subscription: id.subscription, named: Some(id.clone()), sides: Sides::Azure };
        let (_lock, history) = connect::begin(&state_dir, owner, "offline-unregister")?;
        let value = serde_json::to_value(&request).unwrap_or_default();
        let (past, open) = history.past(unregister::NAME, unregister::VERSION, &value);
        if past.open.is_empty() {
            let what = format!(
                "{id} will be deleted. Deactivate the stamp first, if that was not done: azsreg offline deactivate."
            );
            confirm::agree(global, &options.care, &screen, &what, &[])?;
        }
        let mut journal = connect::journal(open, &state_dir, owner, unregister::NAME)?;
        let report = unregister::unregister(world, &request, prepared, &mut journal, &mut screen).await?;
        Ok(Report { operation: "offline-unregister", ..report })
    };
    let subscription = Some(options.which.subscription);
    let report = connect::azure(global, &options.azure, sources, &shown, subscription, work).await?;
    Ok(view.report(&report))
}
