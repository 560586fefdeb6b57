//! The port of a stamp: its cmdlets, typed (`facts-protocol.md` sections 2 and 3).

use std::cell::Cell;

use azsreg_model::{
    ActionRun, ActionState, ActivationKey, IdentitySystem, RegistrationToken, StampInformation, redact,
};
use azsreg_operations::ports::{Action, PortError, Stamp, TokenRequest};
use azsreg_psrp::clixml::Value;
use azsreg_psrp::messages::Command;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::answered::Answered;
use crate::error::{NO_SESSION, PepError, no_session};
use crate::session::{Invocation, Options, Session, Transcript};

/// How long the stamp may take for its principal and for activation, in seconds: the defaults of 420 and 1000 are too
/// short for a busy stamp (`facts-protocol.md` section 10).
const STAMP_TIMEOUT: i32 = 1_800;

/// What a stamp says while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// What goes on.
    pub activity: String,
    /// Where it is.
    pub status: String,
    /// 0 to 100, or -1 for unknown.
    pub percent: i32,
    /// Nothing goes on: it is why there is a wait.
    pub waits: bool,
}

/// A stamp's privileged endpoint. Opens a session when it is first needed and again when one has broken.
pub struct PrivilegedEndpoint {
    options: Options,
    session: Mutex<Option<Session>>,
    reached: Cell<bool>,
    news: Box<dyn Fn(News)>,
}

impl PrivilegedEndpoint {
    /// The endpoint of these options; `news` is told of progress.
    #[must_use]
    pub fn new(options: Options, news: Box<dyn Fn(News)>) -> Self {
        Self { options, session: Mutex::new(None), reached: Cell::new(false), news }
    }

    /// Runs one command; a session that broke is forgotten.
    async fn call(&self, command: Command) -> Result<Invocation, PepError> {
        let mut slot = self.session.lock().await;
        let mut session = match slot.take() {
            Some(session) => session,
            None => match Session::open(&self.options).await {
                // It was there a moment ago: an ERCS machine restarts, a link flaps.
                Err(PepError::Unreachable { reason, .. }) if self.reached.get() => {
                    return Err(PepError::Dropped { reason });
                }
                Err(PepError::Fault(fault)) if no_session(&fault) => {
                    let (activity, status) = (String::new(), NO_SESSION.to_owned());
                    (self.news)(News { activity, status, percent: -1, waits: true });
                    return Err(fault.into());
                }
                other => other?,
            },
        };
        self.reached.set(true);
        tracing::debug!(cmdlet = command.name, arguments = ?shown(&command), "PEP command");
        let progress = |record: &azsreg_psrp::messages::ProgressRecord| {
            (self.news)(News {
                activity: record.activity.clone(),
                status: record.status.clone(),
                percent: if record.completed { 100 } else { record.percent },
                waits: false,
            });
        };
        let secrets = secrets_of(&command);
        for (name, value) in &command.arguments {
            // An agreement number is no secret to its operator, only to a log.
            if name.as_deref().is_some_and(|name| SECRET.contains(&name) && name != "AgreementNumber") {
                redact::remember(value.text().unwrap_or_default());
            }
        }
        let result = redacted(session.invoke(command, &progress).await, &secrets);
        if result.as_ref().err().is_none_or(|error| !error.ends_session()) {
            *slot = Some(session);
        }
        result
    }

    /// Closes the session, if there is one: its transcript is delivered where a share was named, then the shell deleted. A
    /// shell that can't be deleted ends by itself and is not the operator's concern; a transcript that was asked for is.
    ///
    /// # Errors
    /// The transcript was not delivered.
    pub async fn close(&self) -> Result<(), PortError> {
        let Some(mut session) = self.session.lock().await.take() else { return Ok(()) };
        let mut delivered = Ok(());
        if let Some(transcript) = &self.options.transcript {
            delivered = deliver(&mut session, transcript).await.map_err(PortError::from);
        }
        if let Err(error) = session.close().await {
            tracing::debug!(%error, "the shell was not deleted");
        }
        delivered
    }

    /// Asks a reading cmdlet and gives the form of its answer: for transcripts.
    ///
    /// # Errors
    /// The endpoint could not be asked; a cmdlet that fails is an answer.
    pub async fn ask(&self, cmdlet: &str, arguments: &[(&str, &str)]) -> Result<Answered, PortError> {
        let mut command = Command::new(cmdlet);
        for (name, value) in arguments {
            command = command.with(name, *value);
        }
        match self.call(command).await {
            Ok(result) => Ok(Answered::of("completed", &result.output)),
            Err(PepError::Cmdlet { record, .. }) => Ok(Answered::of(&redact::of_server(&record.id), &[])),
            Err(error) => Err(error.into()),
        }
    }
}

async fn deliver(session: &mut Session, transcript: &Transcript) -> Result<(), PepError> {
    let credential = session.credential(&transcript.credentials).await?;
    let command = Command::new("Close-PrivilegedEndpoint")
        .with("TranscriptsPathDestination", transcript.share.as_str())
        .with("Credential", credential);
    match session.invoke(command, &|_| {}).await {
        Ok(_) => Ok(()),
        // The cmdlet closes the session that it runs in: an end without an answer is its success.
        Err(PepError::Dropped { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Parameters whose values never reach a log.
const SECRET: &[&str] = &["RefreshToken", "ActivationKey", "AgreementNumber", "License"];

fn secrets_of(command: &Command) -> Vec<String> {
    let secret = |(name, value): &(Option<String>, Value)| {
        let known = name.as_deref().is_some_and(|name| SECRET.contains(&name));
        value.text().filter(|text| known && text.len() > 3).map(str::to_owned)
    };
    command.arguments.iter().filter_map(secret).collect()
}

/// A server may quote an argument in its complaint: what was secret on the way there is secret on the way back, whether the
/// complaint ended the cmdlet or not.
fn redacted(mut result: Result<Invocation, PepError>, secrets: &[String]) -> Result<Invocation, PepError> {
    let records = match &mut result {
        Ok(invocation) => &mut invocation.errors[..],
        Err(PepError::Cmdlet { record, .. }) => std::slice::from_mut(&mut **record),
        Err(_) => &mut [],
    };
    for record in records {
        for text in [&mut record.message, &mut record.target, &mut record.id] {
            for secret in secrets {
                *text = text.replace(secret.as_str(), "[redacted]");
            }
        }
    }
    result
}

/// Arguments for the log: secrets by their digest.
fn shown(command: &Command) -> Vec<String> {
    command
        .arguments
        .iter()
        .map(|(name, value)| {
            let name = name.as_deref().unwrap_or_default();
            let text = value.display().unwrap_or_default();
            if SECRET.contains(&name) {
                format!("-{name} sha256:{}", azsreg_model::digest(&text))
            } else {
                format!("-{name} {text}")
            }
        })
        .collect()
}

impl Stamp for PrivilegedEndpoint {
    async fn information(&self) -> Result<StampInformation, PortError> {
        let result = self.call(Command::new("Get-AzureStackStampInformation")).await?;
        let flat = result.output.iter().flat_map(|value| value.items().unwrap_or(std::slice::from_ref(value)));
        let output = flat.into_iter().find(|value| value.get("CloudID").is_some());
        let member = PepError::Output { cmdlet: "Get-AzureStackStampInformation", member: "CloudID" };
        Ok(information(output.ok_or(member)?)?)
    }

    async fn action_run(&self, action: Action) -> Result<ActionRun, PortError> {
        let command = Command::new("Get-ActionStatus").with("FunctionName", action.cmdlet());
        let result = match self.call(command).await {
            Ok(result) => result,
            // Not every build has the cmdlet, and an action that never ran may be an error to it. A stamp that is busy
            // says so again when the action itself is asked for.
            Err(PepError::Cmdlet { .. }) => return Ok(ActionRun::NONE),
            Err(error) => return Err(error.into()),
        };
        let Some(newest) = result.output.last() else { return Ok(ActionRun::NONE) };
        // An enum has a number and a text: the text is what can be told apart.
        let text = |name: &str| {
            let value = newest.get(name);
            value.and_then(|v| v.text().map(str::to_owned).or_else(|| v.display())).unwrap_or_default()
        };
        let state = match text("Status").to_ascii_lowercase().as_str() {
            "running" | "inprogress" | "in progress" | "started" | "pending" => ActionState::Running,
            "failed" | "error" | "cancelled" | "aborted" => {
                ActionState::Failed(redact::of_server(&text("ErrorMessage")).into_owned())
            }
            "" => ActionState::None,
            _ => ActionState::Completed,
        };
        let id = Some(text("ActionPlanInstanceID")).filter(|id| !id.is_empty());
        Ok(ActionRun { state, id, started: text("StartDateTime").parse().ok() })
    }

    async fn set_registration_key_pair(&self) -> Result<(), PortError> {
        const NAME: &str = "Set-RegistrationKeyPair";
        let result = self.call(Command::new(NAME)).await?;
        ended_well(NAME, result).map(drop)
    }

    async fn new_bridge_service_principal(
        &self,
        environment: &str,
        tenant: &str,
        refresh_token: &SecretString,
    ) -> Result<Uuid, PortError> {
        const NAME: &str = "New-AzureBridgeServicePrincipal";
        let command = Command::new(NAME)
            .with("AzureEnvironment", environment)
            .with("TenantId", tenant)
            .with("RefreshToken", refresh_token.expose_secret())
            .with("TimeoutInSeconds", STAMP_TIMEOUT);
        let result = self.call(command).await?;
        let id = result.output.iter().find_map(|value| guid(value.get("ObjectId")?));
        match id {
            Some(id) => Ok(id),
            None => {
                ended_well(NAME, result)?;
                Err(PepError::Output { cmdlet: NAME, member: "ObjectId" }.into())
            }
        }
    }

    async fn new_registration_token(&self, request: &TokenRequest) -> Result<RegistrationToken, PortError> {
        const NAME: &str = "New-RegistrationToken";
        let mut command = Command::new(NAME)
            .with("BillingModel", request.billing_model.wire())
            .with("MarketplaceSyndicationEnabled", request.marketplace)
            .with("UsageReportingEnabled", request.usage_reporting);
        if let Some(number) = &request.agreement_number {
            command = command.with("AgreementNumber", number.as_str());
        }
        if let Some(tag) = &request.ms_asset_tag {
            command = command.with("MsAssetTag", tag.as_str());
        }
        if let Some(version) = request.version {
            command = command.with("TokenVersion", version.as_str());
        }
        let result = self.call(command).await?;
        match result.output.iter().rev().find_map(Value::text) {
            Some(text) => {
                redact::remember(text);
                Ok(RegistrationToken::new(text))
            }
            None => {
                ended_well(NAME, result)?;
                Err(PepError::Output { cmdlet: NAME, member: "token" }.into())
            }
        }
    }

    async fn new_activation(&self, key: &ActivationKey) -> Result<(), PortError> {
        let command = Command::new("New-AzureStackActivation")
            .with("ActivationKey", key.expose())
            .with("TimeoutInSeconds", STAMP_TIMEOUT);
        let result = self.call(command).await?;
        ended_well("New-AzureStackActivation", result).map(drop)
    }

    async fn remove_activation(&self) -> Result<(), PortError> {
        const NAME: &str = "Remove-AzureStackActivation";
        let result = self.call(Command::new(NAME).with("TimeoutInSeconds", STAMP_TIMEOUT)).await?;
        ended_well(NAME, result).map(drop)
    }

    async fn save_hci_license(&self, license: &SecretString) -> Result<(), PortError> {
        const NAME: &str = "Save-HCILicense";
        let result = self.call(Command::new(NAME).with("License", license.expose_secret())).await?;
        ended_well(NAME, result).map(drop)
    }
}

/// A non-terminating error of a cmdlet that gives nothing else is its failure.
fn ended_well(cmdlet: &str, result: Invocation) -> Result<Invocation, PortError> {
    match result.errors.first() {
        None => Ok(result),
        Some(record) => Err(PepError::Cmdlet { cmdlet: cmdlet.to_owned(), record: Box::new(record.clone()) }.into()),
    }
}

fn guid(value: &Value) -> Option<Uuid> {
    match value {
        Value::Guid(id) => Some(*id),
        other => other.text()?.trim().trim_matches(['{', '}']).parse().ok(),
    }
}

fn information(value: &Value) -> Result<StampInformation, PepError> {
    const NAME: &str = "Get-AzureStackStampInformation";
    let text = |name: &str| value.get(name).and_then(Value::display).filter(|text| !text.is_empty());
    let missing = |member| PepError::Output { cmdlet: NAME, member };
    let endpoint = |group: &str, name: &str| {
        let url = value.get(group)?.get(name)?.text()?.trim_end_matches('/').to_owned();
        Some(url).filter(|url| !url.is_empty())
    };
    let nodes = value.get("NumberOfNodes").and_then(|n| n.integer().or_else(|| n.text()?.trim().parse().ok()));
    let identity = text("IdentitySystem").unwrap_or_default();
    const KNOWN: [&str; 10] = [
        "CloudID",
        "DeploymentID",
        "StampVersion",
        "NumberOfNodes",
        "IdentitySystem",
        "AADTenantID",
        "AADTenantName",
        "ExternalDomainFQDN",
        "RegionName",
        "RunspaceId",
    ];
    let members = value.object().into_iter().flat_map(|object| &object.extended);
    let other = members.filter(|(name, _)| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)));
    let other =
        other.filter_map(|(name, value)| Some((name.clone(), redact::of_server(&value.display()?).into_owned())));
    Ok(StampInformation {
        cloud_id: value.get("CloudID").and_then(guid).ok_or(missing("CloudID"))?,
        deployment_id: value.get("DeploymentID").and_then(guid),
        version: text("StampVersion").and_then(|v| v.parse().ok()),
        nodes: nodes.and_then(|n| u32::try_from(n).ok()),
        identity_system: if identity.eq_ignore_ascii_case("adfs") { IdentitySystem::Adfs } else { IdentitySystem::Aad },
        tenant_id: text("AADTenantID"),
        tenant_name: text("AADTenantName"),
        domain: text("ExternalDomainFQDN"),
        region: text("RegionName"),
        admin_arm_endpoint: endpoint("AdminExternalEndpoints", "AdminResourceManager"),
        tenant_arm_endpoint: endpoint("TenantExternalEndpoints", "TenantResourceManager"),
        other: other.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_secret_on_the_way_there_is_secret_in_every_complaint() {
        let secrets = secrets_of(&Command::new("New-RegistrationToken").with("AgreementNumber", "CANARY-17"));
        let record = azsreg_psrp::messages::ErrorRecord {
            message: "CANARY-17 is no agreement".into(),
            target: "CANARY-17".into(),
            id: "Bad,CANARY-17".into(),
            ..Default::default()
        };
        let went_on = Invocation { errors: vec![record.clone()], ..Invocation::default() };
        let ended = PepError::Cmdlet { cmdlet: "New-RegistrationToken".into(), record: Box::new(record) };
        for result in [Ok(went_on), Err(ended)] {
            let failure = redacted(result, &secrets).map_err(PortError::from);
            let failure = failure.and_then(|result| ended_well("New-RegistrationToken", result)).unwrap_err();
            assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
        }
    }
}
