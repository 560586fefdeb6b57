//! What the privileged endpoint's cmdlets do (`facts-protocol.md` section 2). NoLanguage: one command with named arguments;
//! anything else is refused as the real endpoint refuses it.

use std::sync::Arc;
use std::time::Duration;

use azsreg_psrp::clixml::{Content, Object, Value};
use azsreg_psrp::messages::{Command, ErrorRecord, PipelineState, ProgressRecord};
use azsreg_psrp::server::Push;
use jiff::SignedDuration;
use serde_json::Value as Json;
use uuid::Uuid;

use super::parameters::{Bound, COMMON, NAMES, Parameter, bind, parameters};
use crate::faults::Asked;
use crate::keys;
use crate::lab::{StampState, State};
use crate::store::StoreError;
use crate::world::stamp::{ActivationKind, CmdletError, Effect, TokenRequest};

/// Runs a pipeline to its end.
pub(crate) async fn run(
    state: Arc<State>,
    stamp: Arc<StampState>,
    shell: Uuid,
    pipeline: Uuid,
    commands: Vec<Command>,
) {
    let push = |push: Push| stamp.endpoint.push(shell, pipeline, push);
    let name = commands.first().map(|c| c.name.clone()).unwrap_or_default();
    let commands = revealed(&stamp, shell, commands);
    // Nothing is begun while what was done before is not kept.
    let result = match state.catch_up().await {
        Ok(()) => pipeline_result(&state, &stamp, &push, &commands).await,
        Err(error) => Err(unkept(&error)),
    };
    // Kept before it is told, whoever asked.
    let result = match state.keep().await {
        Ok(()) => result,
        Err(error) => Err(unkept(&error)),
    };
    match result {
        Ok(outputs) => {
            for output in outputs {
                push(Push::Output(output));
            }
            push(Push::End(PipelineState::Completed, None));
        }
        Err(error) => push(Push::End(PipelineState::Failed, Some(record(&name, &error)))),
    }
}

/// What a cmdlet says of what could not be kept: it is not acknowledged.
fn unkept(error: &StoreError) -> CmdletError {
    CmdletError::failed(format!(
        "The lab could not keep what it was asked for, and acknowledges nothing until it can. {error}"
    ))
}

/// A credential's user in its place, where its password came under the shell's key; nothing where it did not.
fn revealed(stamp: &StampState, shell: Uuid, mut commands: Vec<Command>) -> Vec<Command> {
    for (name, value) in commands.iter_mut().flat_map(|command| &mut command.arguments) {
        if name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("Credential")) {
            let user = value.get("UserName").and_then(Value::text).map(str::to_owned);
            let password = match value.get("Password") {
                Some(Value::SecureString(sealed)) => stamp.endpoint.reveal(shell, sealed),
                _ => None,
            };
            *value = match (user, password.filter(|password| !password.is_empty())) {
                (Some(user), Some(_)) => Value::String(user),
                _ => Value::Null,
            };
        }
    }
    commands
}

fn record(cmdlet: &str, error: &CmdletError) -> ErrorRecord {
    let reason = error.exception.rsplit('.').next().unwrap_or_default();
    let bare = matches!(error.id, "CommandNotFoundException" | "ScriptsNotAllowed");
    ErrorRecord {
        message: error.message.clone(),
        exception: error.exception.into(),
        id: if bare { error.id.into() } else { format!("{},{cmdlet}", error.id) },
        category: error.category,
        activity: cmdlet.to_owned(),
        reason: reason.into(),
        target: if error.id == "CommandNotFoundException" { cmdlet.to_owned() } else { String::new() },
        target_type: if error.id == "CommandNotFoundException" { "String".into() } else { String::new() },
        ..ErrorRecord::default()
    }
}

async fn pipeline_result(
    state: &Arc<State>,
    stamp: &Arc<StampState>,
    push: &(dyn Fn(Push) + Sync),
    commands: &[Command],
) -> Result<Vec<Value>, CmdletError> {
    if let Some(script) = commands.iter().find(|c| c.is_script || c.name.contains([' ', ';', '$', '{', '|', '\n'])) {
        tracing::debug!(script = script.name.len(), "script refused");
        return Err(CmdletError {
            id: "ScriptsNotAllowed",
            exception: "System.Management.Automation.PSInvalidOperationException",
            category: 7,
            message:
                "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode."
                    .into(),
        });
    }
    let [command, rest @ ..] = commands else { return Ok(Vec::new()) };
    // What a client's own plumbing appends to a command is let through; anything else would be a pipeline.
    if let Some(other) = rest.iter().find(|c| !["Out-Default", "Out-String", "Out-Null"].contains(&c.name.as_str())) {
        return Err(unknown(&other.name));
    }
    let (cmdlet, list) = parameters(&command.name, &stamp.world()).ok_or_else(|| unknown(&command.name))?;
    let bound = bind(cmdlet, &list, command)?;
    let asked = Asked { plane: "pep", method: "", route: cmdlet };
    let strike = |after: bool| state.faults().strike(&asked, after);
    if let Some(then) = strike(false) {
        let (error, body) = (then.error.clone(), then.body.clone());
        if matches!(then.apply(None).await, Err(_) | Ok(Some(_))) && error.is_none() && body.is_none() {
            return Err(CmdletError::failed("The privileged endpoint lost the command: a fault of the lab."));
        }
        if let Some(error) = error {
            return Err(CmdletError::failed(error));
        }
        if let Some(text) = body.as_ref().and_then(Json::as_str) {
            return Ok(vec![Value::from(text)]);
        }
    }
    let outputs = if bound.switch("AsJob") && cmdlet != "Get-Command" {
        let (state, stamp) = (Arc::clone(state), Arc::clone(stamp));
        tokio::spawn(async move { act(&state, &stamp, &|_| {}, cmdlet, &bound).await.map(drop) });
        vec![Object::custom([("Id", Value::I32(1)), ("Name", "Job1".into()), ("State", "Running".into())]).into()]
    } else {
        act(state, stamp, push, cmdlet, &bound).await?
    };
    let after = strike(true);
    if let Some(then) = after {
        let error = then.error.clone();
        let _ = then.apply(None).await;
        if let Some(error) = error {
            return Err(CmdletError::failed(error));
        }
    }
    Ok(outputs)
}

/// The parameters of a command, as `Get-Command` tells them across a session: by name, the metadata as their type's name.
fn metadata(list: &[Parameter]) -> Value {
    let names = list.iter().map(|parameter| parameter.name).chain(COMMON.iter().copied());
    let entries = names.map(|name| (name.into(), "System.Management.Automation.ParameterMetadata".into()));
    let types = vec![
        "System.Collections.Generic.Dictionary`2[[System.String],[System.Management.Automation.ParameterMetadata]]"
            .into(),
        "System.Object".into(),
    ];
    Object { types, content: Content::Dictionary(entries.collect()), ..Object::default() }.into()
}

fn unknown(name: &str) -> CmdletError {
    CmdletError {
        id: "CommandNotFoundException",
        exception: "System.Management.Automation.CommandNotFoundException",
        category: 13,
        message: format!(
            "The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program. Check the spelling of the name, or if a path was included, verify that the path is correct and try again."
        ),
    }
}

async fn act(
    state: &Arc<State>,
    stamp: &Arc<StampState>,
    push: &(dyn Fn(Push) + Sync),
    cmdlet: &'static str,
    bound: &Bound,
) -> Result<Vec<Value>, CmdletError> {
    let now = state.now();
    match cmdlet {
        "Get-AzureStackStampInformation" => Ok(vec![information(stamp)]),
        "Get-Command" => {
            let wanted = bound.get("Name").and_then(|names| {
                names
                    .items()
                    .map(|items| items.iter().filter_map(Value::display).collect::<Vec<_>>())
                    .or_else(|| names.display().map(|n| vec![n]))
            });
            let world = stamp.world();
            let all = NAMES.iter().filter_map(|name| parameters(name, &world));
            Ok(all
                .filter(|(name, _)| {
                    wanted.as_ref().is_none_or(|w| w.iter().any(|w| crate::world::roles::matches(w, name)))
                })
                .map(|(name, list)| {
                    let kind = Object::enumeration("System.Management.Automation.CommandTypes", "Function", 2);
                    Object {
                        text: Some(name.into()),
                        ..Object::custom([
                            ("Name", Value::from(name)),
                            ("CommandType", kind.into()),
                            ("Version", Value::Null),
                            ("Source", "".into()),
                            ("Parameters", metadata(&list)),
                        ])
                    }
                    .into()
                })
                .collect())
        }
        "Get-ActionStatus" => Ok(status(state, stamp, bound)),
        "Close-PrivilegedEndpoint" => {
            if let Some(share) = bound.text("TranscriptsPathDestination").filter(|share| !share.is_empty()) {
                if !share.starts_with("\\\\") {
                    return Err(CmdletError::failed(format!("The transcripts destination '{share}' is not a share.")));
                }
                let Some(user) = bound.text("Credential").filter(|user| !user.is_empty()) else {
                    return Err(CmdletError::failed(
                        "The credential for the transcripts destination could not be read.",
                    ));
                };
                stamp.world().transcripts.push(format!("{share} as {user}"));
            }
            Ok(Vec::new())
        }
        "Save-HCILicense" => {
            let license = bound.text("License").unwrap_or_default();
            stamp.world().hci_license = Some(azsreg_model::digest(&license));
            Ok(vec!["The license was saved.".into()])
        }
        "Set-RegistrationKeyPair" => {
            let mut world = stamp.world();
            let run = world.begin(&mut state.azure().draw, now, cmdlet, None, Effect::None)?;
            world.key_pair = true;
            world.end(cmdlet, Ok(()));
            push(Push::Verbose(format!("Action plan {run} has set the registration key pair.")));
            Ok(Vec::new())
        }
        "New-AzureBridgeServicePrincipal" => bridge(state, stamp, push, bound).await,
        "New-RegistrationToken" => {
            let request = TokenRequest {
                billing_model: bound.text("BillingModel").unwrap_or_default(),
                agreement_number: bound.text("AgreementNumber"),
                ms_asset_tag: bound.text("MsAssetTag"),
                marketplace: bound.switch("MarketplaceSyndicationEnabled"),
                usage: bound.switch("UsageReportingEnabled"),
                version: bound.text("TokenVersion"),
            };
            Ok(vec![Value::String(state.token(stamp.world().registration_token(&request)?))])
        }
        "New-AzureStackActivation" => activate(state, stamp, push, bound).await,
        "Remove-AzureStackActivation" => {
            let inactive = {
                let mut world = stamp.world();
                world.settle(now);
                world.activation.is_none() && world.running().is_none()
            };
            if inactive {
                let message = "NotActivated: Azure Stack is not activated, there is nothing to remove.".to_owned();
                return Err(CmdletError { id: "NotActivated", ..CmdletError::failed(message) });
            }
            let takes = stamp.world().options.activation;
            timed(state, stamp, push, cmdlet, takes, ActivationKind::Remove).await?;
            Ok(Vec::new())
        }
        _ => Err(unknown(cmdlet)),
    }
}

async fn bridge(
    state: &Arc<State>,
    stamp: &Arc<StampState>,
    push: &(dyn Fn(Push) + Sync),
    bound: &Bound,
) -> Result<Vec<Value>, CmdletError> {
    const NAME: &str = "New-AzureBridgeServicePrincipal";
    let cloud_id = {
        let mut world = stamp.world();
        world.begin(&mut state.azure().draw, state.now(), NAME, None, Effect::None)?;
        world.cloud_id
    };
    progress(push, NAME, 10, "Configuring the bridge identity", false);
    // The action goes on when the client that started it vanishes: a task of its own does the work.
    let (tenant, token) = (bound.text("TenantId").unwrap_or_default(), bound.text("RefreshToken").unwrap_or_default());
    let task = {
        let (state, stamp) = (Arc::clone(state), Arc::clone(stamp));
        tokio::spawn(async move {
            let made = stamp.link.bridge(state.urls(), cloud_id, &tenant, &token).await;
            let mut world = stamp.world();
            match made {
                Ok(bridge) => {
                    world.bridge = Some(bridge.clone());
                    world.end(NAME, Ok(()));
                    Ok(bridge)
                }
                Err(why) => {
                    let message = format!(
                        "Action plan execution failed. Error: Type 'ConfigureBridgeIdentity' of Role 'AzureBridge' raised an exception: {why}"
                    );
                    world.end(NAME, Err(message.clone()));
                    Err(CmdletError::failed(message))
                }
            }
        })
    };
    let bridge = task.await.map_err(|_| CmdletError::failed("The action plan was stopped."))??;
    progress(push, NAME, 100, "Done", true);
    Ok(vec![
        Object::custom([
            ("ObjectId", Value::String(bridge.object_id.to_string())),
            ("ApplicationId", Value::String(bridge.app_id.to_string())),
            ("TenantId", Value::String(bridge.tenant)),
        ])
        .into(),
    ])
}

async fn activate(
    state: &Arc<State>,
    stamp: &Arc<StampState>,
    push: &(dyn Fn(Push) + Sync),
    bound: &Bound,
) -> Result<Vec<Value>, CmdletError> {
    let key = bound.text("ActivationKey").unwrap_or_default();
    let keys = match stamp.link.activation_keys(state.urls()).await {
        Ok(keys) => keys,
        // A disconnected stamp has them from its deployment.
        Err(_) => serde_json::json!({"keys": [state.keys.activation().jwk()]}),
    };
    let claims: Json = keys::verify(key.trim(), &keys)
        .ok_or_else(|| CmdletError::failed("The activation key is not valid: its signature could not be verified."))?;
    let claims = match claims["sealed"].as_str().and_then(crate::world::token::unseal) {
        Some(sealed) => serde_json::from_slice(&sealed).unwrap_or_default(),
        None => claims,
    };
    let now = state.now();
    let (activation, takes) = {
        let world = stamp.world();
        (world.activation_of(&claims, now)?, world.options.activation)
    };
    timed(state, stamp, push, "New-AzureStackActivation", takes, ActivationKind::Write(Box::new(activation))).await?;
    Ok(Vec::new())
}

/// An action that takes its time and then has its effect, whether its client still listens or not.
async fn timed(
    state: &Arc<State>,
    stamp: &Arc<StampState>,
    push: &(dyn Fn(Push) + Sync),
    name: &'static str,
    takes: SignedDuration,
    kind: ActivationKind,
) -> Result<(), CmdletError> {
    let effect = match kind {
        ActivationKind::Write(activation) => Effect::Activate(activation),
        ActivationKind::Remove => Effect::Deactivate,
    };
    let takes = state.scaled(takes);
    let run = {
        let mut world = stamp.world();
        world.begin(&mut state.azure().draw, state.now(), name, Some(takes), effect)?
    };
    // That it goes on whatever becomes of the client is a promise too.
    if let Err(error) = state.keep().await {
        stamp.world().runs.remove(name);
        return Err(unkept(&error));
    }
    push(Push::Verbose(format!("Action plan {run} has started.")));
    progress(push, name, 0, "Running", false);
    let end = tokio::time::Instant::now() + Duration::try_from(takes).unwrap_or_default();
    let started = tokio::time::Instant::now();
    loop {
        let now = tokio::time::Instant::now();
        if now >= end {
            break;
        }
        let total = (end - started).as_secs_f64().max(0.001);
        let percent = ((now - started).as_secs_f64() / total * 100.0) as i32;
        progress(push, name, percent, "Running", false);
        tokio::time::sleep((end - now).min(Duration::from_millis(500))).await;
    }
    {
        let mut world = stamp.world();
        world.settle(state.now());
        // The clock that the world goes by may lag behind the timer by a hair.
        if world.runs.get(name).is_some_and(|r| r.id == run && r.result.is_none()) {
            let ends = world.runs.get(name).and_then(|r| r.ends).unwrap_or_else(|| state.now());
            world.settle(ends);
        }
    }
    progress(push, name, 100, "Done", true);
    Ok(())
}

fn progress(push: &(dyn Fn(Push) + Sync), activity: &str, percent: i32, status: &str, completed: bool) {
    push(Push::Progress(ProgressRecord {
        activity: activity.into(),
        activity_id: 1,
        status: status.into(),
        operation: String::new(),
        percent,
        seconds_remaining: -1,
        completed,
    }));
}

fn information(stamp: &StampState) -> Value {
    let world = stamp.world();
    let text = |text: String| Value::String(text);
    let endpoints = |pairs: Vec<(&'static str, String)>| {
        Value::from(Object::custom(pairs.into_iter().map(|(name, url)| (name, Value::String(url)))))
    };
    let addresses = stamp.urls().pep.iter().map(|address| Value::from(address.as_str())).collect();
    Object::custom([
        ("StampVersion", text(world.options.build.clone())),
        ("CloudID", text(world.cloud_id.to_string())),
        ("DeploymentID", text(world.deployment_id.to_string())),
        ("NumberOfNodes", Value::I32(world.options.nodes as i32)),
        ("AADTenantID", text(world.tenant.to_string())),
        ("AADTenantName", text(world.tenant_name.clone())),
        ("IdentitySystem", text(if world.options.identity == "adfs" { "ADFS".into() } else { "AzureAD".into() })),
        ("RegionName", text(world.region.clone())),
        ("ExternalDomainFQDN", text(world.domain.clone())),
        ("CompanyName", text("azsreg lab".into())),
        ("PrefixedHostname", text("AZS".into())),
        (
            "EmergencyConsoleIPAddresses",
            Object {
                content: Content::List(addresses),
                types: vec!["System.Object[]".into(), "System.Array".into(), "System.Object".into()],
                ..Object::default()
            }
            .into(),
        ),
        ("AdminExternalEndpoints", endpoints(vec![("AdminResourceManager", stamp.urls().admin_arm.clone())])),
        (
            "TenantExternalEndpoints",
            endpoints(vec![("TenantResourceManager", format!("https://management.{}", world.domain))]),
        ),
    ])
    .into()
}

fn status(state: &State, stamp: &StampState, bound: &Bound) -> Vec<Value> {
    let mut world = stamp.world();
    world.settle(state.now());
    let wanted = bound.text("FunctionName").or_else(|| bound.text("ActionType")).filter(|name| !name.is_empty());
    world
        .runs
        .values()
        .filter(|run| wanted.as_deref().is_none_or(|name| run.name.eq_ignore_ascii_case(name)))
        .map(|run| {
            let (shown, error) = match &run.result {
                None => ("Running", None),
                Some(Ok(())) => ("Completed", None),
                Some(Err(why)) => ("Failed", Some(why.clone())),
            };
            Object::custom([
                ("FunctionName", Value::from(run.name.as_str())),
                ("ActionPlanInstanceID", Value::String(run.id.to_string())),
                ("Status", shown.into()),
                ("StartDateTime", Value::DateTime(run.started.to_string())),
                ("ErrorMessage", error.map_or(Value::Null, Value::String)),
            ])
            .into()
        })
        .collect()
}
