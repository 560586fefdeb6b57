//! The port of a stamp: its cmdlets, typed (`facts-protocol.md` sections 2 and 3).

use std::cell::{Cell, RefCell};

use azsreg_model::{
    ActionRun, ActionState, ActivationKey, IdentitySystem, Problem, RegistrationToken, StampInformation, code, redact,
};
use azsreg_operations::ports::{Action, PortError, Stamp, TokenRequest};
use azsreg_psrp::clixml::Value;
use azsreg_psrp::messages::Command;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{Leaves, NO_SESSION, PepError, no_session};
use crate::failure::Failure;
use crate::session::{Invocation, Options, STOPPING, Session, Transcript};

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
    /// The operator should know, whatever else is shown.
    pub warns: bool,
}

/// What closing a session left.
#[derive(Debug, Default)]
pub struct Closed {
    /// A cmdlet that changes the stamp, and goes on there.
    pub left: Option<String>,
    /// Why the transcript that was asked for was not delivered.
    pub undelivered: Option<PortError>,
}

/// A stamp's privileged endpoint. Opens a session when it is first needed and again when one has broken.
pub struct PrivilegedEndpoint {
    options: Options,
    pub(crate) session: Mutex<Option<Session>>,
    reached: Cell<bool>,
    /// What was warned of last: a cmdlet that is asked again and again says it each time.
    warned: RefCell<String>,
    news: Box<dyn Fn(News)>,
}

impl PrivilegedEndpoint {
    /// The endpoint of these options; `news` is told of progress.
    #[must_use]
    pub fn new(options: Options, news: Box<dyn Fn(News)>) -> Self {
        Self { options, session: Mutex::new(None), reached: Cell::new(false), warned: RefCell::default(), news }
    }

    /// A session: the one that is there, over a new connection where its own was closed while it was idle, or a new one.
    async fn ready<'s>(&self, slot: &'s mut Option<Session>) -> Result<&'s mut Session, PepError> {
        if let Some(session) = slot.as_mut().filter(|session| !session.is_ready()) {
            // One in which the stamp is being changed takes nothing else, and is not stopped.
            let mended = session.changes().is_none() && self.mended(session).await?;
            if !mended {
                *slot = None;
            }
        }
        match slot {
            Some(session) => Ok(session),
            None => {
                let connected = Session::connect(&self.options).await;
                let connected = connected.map_err(|error| match error {
                    // It was there a moment ago: an ERCS machine restarts, a link flaps.
                    PepError::Unreachable { reason, .. } if self.reached.get() => {
                        PepError::Dropped { reason, untaken: true }
                    }
                    other => other,
                })?;
                self.reached.set(true);
                Ok(slot.insert(connected))
            }
        }
    }

    async fn mended(&self, session: &mut Session) -> Result<bool, PepError> {
        match session.mend(&self.options).await {
            Ok(()) => Ok(true),
            Err(error)
                if error.leaves() == Leaves::Nothing
                    && !matches!(error, PepError::Unreachable { .. } | PepError::Fault(_)) =>
            {
                Err(error)
            }
            Err(error) => {
                tracing::debug!(%error, "the session was not reached again");
                Ok(false)
            }
        }
    }

    /// Opens the session where it is not open yet, and runs one command.
    async fn run(&self, session: &mut Session, command: Command) -> Result<Invocation, PepError> {
        if !session.is_open() {
            let begun = session.begin().await;
            if let Err(PepError::Fault(fault)) = &begun
                && no_session(fault)
            {
                let (activity, status) = (String::new(), NO_SESSION.to_owned());
                (self.news)(News { activity, status, percent: -1, waits: true, warns: false });
            }
            begun?;
        }
        let progress = |record: &azsreg_psrp::messages::ProgressRecord| {
            (self.news)(News {
                activity: record.activity.clone(),
                status: record.status.clone(),
                percent: if record.completed { 100 } else { record.percent },
                waits: false,
                warns: false,
            });
        };
        session.invoke(command, &progress).await
    }

    /// Runs one command. What becomes of its session is known whenever the waiting for it ends: the session stays here.
    pub(crate) async fn call(&self, command: Command) -> Result<Invocation, PepError> {
        let mut slot = self.session.lock().await;
        tracing::debug!(cmdlet = command.name, arguments = ?shown(&command), "PEP command");
        let secrets = secrets_of(&command);
        for (name, value) in &command.arguments {
            // An agreement number is no secret to its operator, only to a log.
            if name.as_deref().is_some_and(|name| SECRET.contains(&name) && name != "AgreementNumber") {
                redact::remember(value.text().unwrap_or_default());
            }
        }
        let session = self.ready(&mut slot).await?;
        let mut result = self.run(session, command.clone()).await;
        if result.as_ref().is_err_and(PepError::is_untaken) && session.is_open() && !session.is_running() {
            tracing::debug!("the connection was let go while nothing was asked: it is opened again");
            let session = self.ready(&mut slot).await?;
            result = self.run(session, command).await;
        }
        if let Err(error) = &result
            && let Some(session) = slot.take()
        {
            *slot = self.left(session, error.leaves()).await;
        }
        redacted(result, &secrets)
    }

    /// What an error leaves of a session for the next command, or for [`close`](Self::close).
    async fn left(&self, session: Session, leaves: Leaves) -> Option<Session> {
        match leaves {
            Leaves::Session if session.is_open() => Some(session),
            Leaves::Shell if session.is_open() && !session.is_ready() => Some(session),
            // Its cmdlet goes on, and changes the stamp.
            Leaves::Remains if session.changes().is_some() => Some(session),
            Leaves::Remains | Leaves::Session if session.has_shell() => {
                self.abandon(session).await;
                None
            }
            _ => None,
        }
    }

    /// Deletes a session's shell, in no more time than who has given up waits.
    async fn abandon(&self, session: Session) {
        match timeout(STOPPING, session.abandon(&self.options)).await {
            Ok(Ok(())) => {}
            // It ends by itself when it was idle for long enough.
            Ok(Err(error)) => tracing::debug!(%error, "the shell was not deleted"),
            Err(_) => tracing::debug!("the shell was not deleted in time"),
        }
    }

    /// Closes the session, if there is one: its transcript is delivered where a share was named, then the shell deleted. A
    /// shell that can't be deleted ends by itself and is not the operator's concern; a transcript that was asked for is.
    ///
    /// Where a command was broken off, a cmdlet that only reads is stopped; one that changes the stamp is left to end by
    /// itself, which is safer than a stop in the middle.
    pub async fn close(&self) -> Closed {
        let Some(mut session) = self.session.lock().await.take() else { return Closed::default() };
        let left = session.changes().map(str::to_owned);
        if session.is_amid() {
            if left.is_none() {
                self.abandon(session).await;
            }
            let undelivered = self.options.transcript.as_ref().map(|_| {
                let message = "the command ended in the middle of a cmdlet: the session's transcript was not asked for";
                PortError::permanent(Problem::new(&code::TRANSCRIPT_NOT_DELIVERED, message))
            });
            return Closed { left, undelivered };
        }
        let mut undelivered = None;
        if let Some(transcript) = &self.options.transcript {
            let mut delivered = deliver(&mut session, transcript, &self.options).await;
            if delivered.as_ref().is_err_and(PepError::is_untaken) {
                delivered = deliver(&mut session, transcript, &self.options).await;
            }
            undelivered = delivered.err().map(PortError::from);
        }
        if let Err(error) = session.abandon(&self.options).await {
            tracing::debug!(%error, "the shell was not deleted");
        }
        Closed { left: None, undelivered }
    }

    /// Says of errors that stood beside a result.
    fn beside(&self, cmdlet: &str, result: &Invocation) {
        for record in &result.errors {
            let words = record.words().join("; ");
            let status = format!("{cmdlet} gave what it was asked for, and an error: {words}");
            tracing::warn!(cmdlet, "{}", redact::of_server(&status));
            if self.warned.replace(status.clone()) == status {
                continue;
            }
            (self.news)(News { activity: cmdlet.to_owned(), status, percent: -1, waits: false, warns: true });
        }
    }
}

async fn deliver(session: &mut Session, transcript: &Transcript, options: &Options) -> Result<(), PepError> {
    session.mend(options).await?;
    let credential = session.credential(&transcript.credentials).await?;
    let command = Command::new("Close-PrivilegedEndpoint")
        .with("TranscriptsPathDestination", transcript.share.as_str())
        .with("Credential", credential);
    match session.invoke(command, &|_| {}).await {
        Ok(result) => ended_well("Close-PrivilegedEndpoint", result).map(drop),
        // The cmdlet closes the session that it runs in: an end without an answer is its success.
        Err(PepError::Dropped { untaken: false, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Parameters whose values never reach a log.
const SECRET: &[&str] = &["RefreshToken", "ActivationKey", "AgreementNumber", "License"];

pub(crate) fn secrets_of(command: &Command) -> Vec<String> {
    let secret = |(name, value): &(Option<String>, Value)| {
        let known = name.as_deref().is_some_and(|name| SECRET.contains(&name));
        value.text().filter(|text| known && text.len() > 3).map(str::to_owned)
    };
    command.arguments.iter().filter_map(secret).collect()
}

/// A server may quote an argument in its complaint: what was secret on the way there is secret on the way back, whether the
/// complaint ended the cmdlet or not.
fn redacted(mut result: Result<Invocation, PepError>, secrets: &[String]) -> Result<Invocation, PepError> {
    let texts: Box<dyn Iterator<Item = &mut String> + '_> = match &mut result {
        Ok(Invocation { errors, said, .. }) => {
            Box::new(errors.iter_mut().flat_map(azsreg_psrp::messages::ErrorRecord::texts_mut).chain(said))
        }
        Err(PepError::Cmdlet { failure, .. }) => Box::new(failure.texts_mut()),
        Err(_) => Box::new(std::iter::empty()),
    };
    for text in texts {
        for secret in secrets {
            *text = text.replace(secret.as_str(), "[redacted]");
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
        const NAME: &str = "Get-AzureStackStampInformation";
        let Some(found) = result.objects().find(|value| value.get("CloudID").is_some()).cloned() else {
            ended_well(NAME, result)?;
            return Err(PepError::Output { cmdlet: NAME, member: "CloudID" }.into());
        };
        self.beside(NAME, &result);
        Ok(information(&found)?)
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
        self.beside("Get-ActionStatus", &result);
        let runs = result.objects().filter(|value| value.get("Status").is_some());
        let Some(newest) = runs.last() else { return Ok(ActionRun::NONE) };
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

    async fn cmdlets(&self) -> Result<Vec<String>, PortError> {
        let result = self.call(Command::new("Get-Command")).await?;
        let name =
            |value: &Value| value.get("Name").and_then(Value::display).or_else(|| value.text().map(str::to_owned));
        Ok(result.objects().filter_map(name).collect())
    }

    async fn set_registration_key_pair(&self) -> Result<(), PortError> {
        const NAME: &str = "Set-RegistrationKeyPair";
        let result = self.call(Command::new(NAME)).await?;
        Ok(ended_well(NAME, result).map(drop)?)
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
        let id = result.objects().find_map(|value| guid(value.get("ObjectId")?));
        match id {
            Some(id) => {
                self.beside(NAME, &result);
                Ok(id)
            }
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
        match token(&result) {
            Some(text) => {
                redact::remember(text);
                self.beside(NAME, &result);
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
        Ok(ended_well("New-AzureStackActivation", result).map(drop)?)
    }

    async fn remove_activation(&self) -> Result<(), PortError> {
        const NAME: &str = "Remove-AzureStackActivation";
        let result = self.call(Command::new(NAME).with("TimeoutInSeconds", STAMP_TIMEOUT)).await?;
        Ok(ended_well(NAME, result).map(drop)?)
    }

    async fn save_hci_license(&self, license: &SecretString) -> Result<(), PortError> {
        const NAME: &str = "Save-HCILicense";
        let result = self.call(Command::new(NAME).with("License", license.expose_secret())).await?;
        Ok(ended_well(NAME, result).map(drop)?)
    }
}

/// Non-terminating errors of a cmdlet that gives nothing else are its failure: the last one, with those before it.
pub(crate) fn ended_well(cmdlet: &str, mut result: Invocation) -> Result<Invocation, PepError> {
    match result.errors.pop() {
        None => Ok(result),
        Some(last) => {
            let failure = Box::new(Failure::new(last, result.errors, result.said));
            Err(PepError::Cmdlet { cmdlet: cmdlet.to_owned(), failure })
        }
    }
}

/// The registration token: the first text of its form. One of a form that is not known is the first text at all.
fn token(result: &Invocation) -> Option<&str> {
    let texts = || {
        let strings = result.objects().filter(|value| matches!(value.primitive(), Value::String(_)));
        strings.filter_map(|value| value.primitive().text()).map(str::trim).filter(|text| !text.is_empty())
    };
    texts().find(|text| RegistrationToken::new(text).decode().is_ok()).or_else(|| texts().next())
}

fn guid(value: &Value) -> Option<Uuid> {
    match value.primitive() {
        Value::Guid(id) => Some(*id),
        _ => value.text()?.trim().trim_matches(['{', '}']).parse().ok(),
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
    let nodes = value.get("NumberOfNodes").and_then(Value::whole);
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
    use crate::recorded::outcome;
    use azsreg_psrp::clixml::Object;

    /// As real PowerShell gave them.
    #[test]
    fn a_result_is_the_first_of_its_form() {
        let known = "YSB0b2tlbiBvZiBhIGZvcm0gdGhhdCBpcyBub3Qga25vd24=";
        for scenario in ["a token and what follows", "a token with a note"] {
            assert_eq!(token(&outcome(scenario).unwrap()), Some(known), "{scenario}");
        }
        let found = outcome("other forms of values").unwrap();
        let stamp = information(found.objects().next().unwrap()).unwrap();
        assert_eq!(stamp.cloud_id.to_string(), "11111111-2222-4333-8444-555555555555");
        assert_eq!((stamp.nodes, stamp.region.as_deref()), (Some(4), Some("east")));
        let listed = outcome("a principal in a list").unwrap();
        assert!(listed.objects().any(|value| value.get("ObjectId").and_then(guid) == Some(stamp.cloud_id)));
    }

    #[test]
    fn a_stamps_information_needs_its_cloud_id_alone() {
        let cloud_id = Uuid::from_u128(7);
        let said = Object::custom([
            ("CloudID", Value::from(cloud_id)),
            ("StampVersion", Value::from("2601 (preview)")),
            ("HardwareOEM", Value::from("Contoso")),
        ]);
        let found = information(&said.into()).unwrap();
        assert_eq!((found.cloud_id, found.version, found.nodes), (cloud_id, None, None));
        assert!(!found.has_key_pair(), "what is not known is not asked for");
        assert_eq!(found.other.get("HardwareOEM").map(String::as_str), Some("Contoso"), "what is said besides is kept");
        let without = Object::custom([("StampVersion", Value::from("1.2501.0.21"))]);
        assert!(matches!(information(&without.into()), Err(PepError::Output { member: "CloudID", .. })));
    }

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
        let failure = Box::new(Failure::new(record, Vec::new(), vec!["VERBOSE: CANARY-17 is asked for".into()]));
        let ended = PepError::Cmdlet { cmdlet: "New-RegistrationToken".into(), failure };
        for result in [Ok(went_on), Err(ended)] {
            let failure = redacted(result, &secrets).and_then(|result| ended_well("New-RegistrationToken", result));
            let failure = PortError::from(failure.unwrap_err());
            assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
        }
    }
}
