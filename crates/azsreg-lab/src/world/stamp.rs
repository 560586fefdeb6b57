//! What a stamp does: its information, its tokens, its actions one at a time, its activation.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::accounts::Accounts;
use super::alerts::Alert;
use super::market::{Downloaded, Operation};
use super::usage::Usage;
use super::{Draw, token};

/// A build as four numbers.
pub type Build = (u32, u32, u32, u32);

/// The first build that knows MsAssetTag and custom billing.
const ASSET_TAG: Build = (1, 1912, 0, 19);
/// The first build that knows TokenVersion.
const TOKEN_VERSION: Build = (1, 2008, 0, 49);
/// Builds above this have the registration key pair.
const KEY_PAIR: Build = (1, 2209, 0, 23);
/// Builds above this make tokens of version 6.0 when asked.
const TOKEN_6: Build = (1, 2309, 0, 4);

/// How an expiry begins that stands for never.
const CALENDARS_END: &str = "9999-12-3";

/// Parses a build.
#[must_use]
pub fn parse_build(text: &str) -> Option<Build> {
    let parts = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
    match parts[..] {
        [a, b, c, d] => Some((a, b, c, d)),
        _ => None,
    }
}

/// A failure of a cmdlet, as PowerShell shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmdletError {
    /// `FullyQualifiedErrorId` without the cmdlet's name.
    pub id: &'static str,
    /// The exception's full type.
    pub exception: &'static str,
    /// The category's number.
    pub category: i32,
    /// The message.
    pub message: String,
}

impl CmdletError {
    /// A run-time failure of the stamp's own code.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            id: "RuntimeException",
            exception: "System.Management.Automation.RuntimeException",
            category: 14,
            message: message.into(),
        }
    }

    /// A value that a parameter does not take.
    pub fn argument(message: impl Into<String>) -> Self {
        Self {
            id: "ParameterArgumentValidationError",
            exception: "System.Management.Automation.ParameterBindingValidationException",
            category: 6,
            message: message.into(),
        }
    }
}

/// The activation record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Activation {
    /// The registration's resource id.
    pub registration: String,
    /// The expiry as the key writes it.
    pub expiration: String,
    /// The expiry as a time.
    pub expires: Timestamp,
    /// Marketplace syndication.
    pub marketplace: bool,
    /// Usage reporting.
    pub usage: bool,
    /// The billing model.
    #[serde(default)]
    pub billing_model: String,
    /// Where usage is uploaded to.
    #[serde(default)]
    pub usage_endpoint: String,
    /// For whom the token is that it is uploaded with.
    #[serde(default)]
    pub usage_resource: String,
    /// The bridge's principal.
    pub object_id: Option<Uuid>,
    /// When it was written.
    pub written: Timestamp,
}

impl Activation {
    /// When it ends; none where it never does, which is written as the end of the calendar.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        (!self.expiration.starts_with(CALENDARS_END)).then_some(self.expires)
    }
}

/// What a running action will do when it ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Effect {
    /// Write this record.
    Activate(Box<Activation>),
    /// Remove the record.
    Deactivate,
    /// Nothing: the caller ends the action itself.
    None,
}

/// A run of an action.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The cmdlet.
    pub name: String,
    /// The run's id.
    pub id: Uuid,
    /// When it began.
    pub started: Timestamp,
    /// When it ends by itself; none if its caller ends it.
    pub ends: Option<Timestamp>,
    /// `None` while it runs, then success or the failure's words.
    pub result: Option<Result<(), String>>,
    effect: Effect,
}

/// The bridge's identity, once made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bridge {
    /// The service principal's object id.
    pub object_id: Uuid,
    /// The client id.
    pub app_id: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The secret that it signs in with.
    #[serde(default)]
    pub secret: String,
}

/// How a stamp is built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StampOptions {
    /// The name, such as `stamp1`.
    pub name: String,
    /// The build.
    pub build: String,
    /// The number of hosts.
    pub nodes: u32,
    /// `aad` or `adfs`.
    pub identity: String,
    /// Whether it reaches Azure.
    pub connected: bool,
    /// How long an activation takes.
    pub activation: SignedDuration,
    /// How many tenants use it.
    #[serde(default = "tenants")]
    pub tenants: usize,
}

/// As many tenants as a stamp has unless somebody says otherwise.
fn tenants() -> usize {
    2
}

impl Default for StampOptions {
    fn default() -> Self {
        Self {
            name: "stamp1".into(),
            build: "1.2501.0.21".into(),
            nodes: 4,
            identity: "aad".into(),
            connected: true,
            activation: SignedDuration::ZERO,
            tenants: tenants(),
        }
    }
}

/// A stamp.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stamp {
    /// How it is built.
    pub options: StampOptions,
    /// The build, parsed.
    pub build: Build,
    /// The cloud id.
    pub cloud_id: Uuid,
    /// The deployment id.
    pub deployment_id: Uuid,
    /// The default provider subscription.
    pub provider_subscription: Uuid,
    /// The region.
    pub region: String,
    /// The DNS suffix.
    pub domain: String,
    /// The directory of the stamp.
    pub tenant: Uuid,
    /// That directory's name.
    pub tenant_name: String,
    /// `DOMAIN` of the CloudAdmin.
    pub netbios: String,
    /// The CloudAdmin's password.
    pub password: String,
    /// The hosts.
    pub hosts: Value,
    /// The newest run of each action.
    pub runs: BTreeMap<String, Run>,
    /// The activation record.
    pub activation: Option<Activation>,
    /// The bridge's identity.
    pub bridge: Option<Bridge>,
    /// Whether the registration key pair was set.
    pub key_pair: bool,
    /// A host whose hardware can't be read.
    pub broken_host: Option<String>,
    /// Marketplace items that were downloaded, or are about to be: a deactivation removes them.
    pub downloaded: Vec<Downloaded>,
    /// Operations on items, oldest first.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// Its own resource groups and storage accounts.
    #[serde(default)]
    pub accounts: Accounts,
    /// Its alerts, oldest first.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// What its tenants use, and what of it is to be uploaded.
    #[serde(default)]
    pub usage: Usage,
    /// The HCI licence that was saved, as its digest.
    pub hci_license: Option<String>,
    /// Where transcripts were delivered to.
    pub transcripts: Vec<String>,
    /// Refused logons.
    pub logons_failed: u64,
    /// Granted logons.
    pub logons_succeeded: u64,
}

impl Stamp {
    /// A stamp of these options; `None` if the build is not one.
    #[must_use]
    pub fn new(draw: &mut Draw, options: StampOptions, tenant: Uuid, tenant_name: &str) -> Option<Self> {
        let build = parse_build(&options.build)?;
        let hosts = (1..=options.nodes).map(|n| host(draw, n)).collect();
        let adfs = options.identity == "adfs";
        let region = "local".to_owned();
        Some(Self {
            build,
            cloud_id: draw.guid(),
            deployment_id: draw.guid(),
            provider_subscription: draw.guid(),
            domain: format!("{}.azurestack.lab.invalid", options.name),
            region,
            tenant,
            tenant_name: if adfs { "ADFS.azurestack.local".into() } else { tenant_name.to_owned() },
            netbios: "AZURESTACK".into(),
            password: format!("Lab-{}!", draw.hex(16)),
            hosts: Value::Array(hosts),
            runs: BTreeMap::new(),
            activation: None,
            bridge: None,
            key_pair: false,
            broken_host: None,
            downloaded: Vec::new(),
            operations: Vec::new(),
            accounts: Accounts::default(),
            alerts: Vec::new(),
            usage: Usage::default(),
            hci_license: None,
            transcripts: Vec::new(),
            logons_failed: 0,
            logons_succeeded: 0,
            options,
        })
    }

    /// Adds nodes, or removes the last ones. Those that stay keep their hardware.
    pub fn scale(&mut self, draw: &mut Draw, nodes: u32) {
        if let Value::Array(hosts) = &mut self.hosts {
            hosts.truncate(nodes as usize);
            while hosts.len() < nodes as usize {
                let next = u32::try_from(hosts.len()).unwrap_or(u32::MAX).saturating_add(1);
                hosts.push(host(draw, next));
            }
        }
        self.options.nodes = nodes;
    }

    /// Whether the build knows MsAssetTag.
    #[must_use]
    pub fn knows_asset_tag(&self) -> bool {
        self.build >= ASSET_TAG
    }

    /// Whether the build knows TokenVersion.
    #[must_use]
    pub fn knows_token_version(&self) -> bool {
        self.build >= TOKEN_VERSION
    }

    /// Whether the build has the registration key pair.
    #[must_use]
    pub fn has_key_pair(&self) -> bool {
        self.build > KEY_PAIR && self.options.nodes > 1
    }

    /// Ends what has run its time.
    pub fn settle(&mut self, now: Timestamp) {
        let over = |run: &&mut Run| run.result.is_none() && run.ends.is_some_and(|ends| ends <= now);
        while let Some(run) = self.runs.values_mut().find(over) {
            run.result = Some(Ok(()));
            let (effect, ends) = (std::mem::replace(&mut run.effect, Effect::None), run.ends);
            // The hours before it are as they were before it.
            self.collect(ends.unwrap_or(now));
            match effect {
                Effect::Activate(activation) => self.activation = Some(*activation),
                Effect::Deactivate => {
                    self.activation = None;
                    self.downloaded.clear();
                }
                Effect::None => {}
            }
        }
        self.collect(now);
        self.raise_alerts(now);
    }

    /// The action that runs now, if any.
    #[must_use]
    pub fn running(&self) -> Option<&Run> {
        self.runs.values().find(|run| run.result.is_none())
    }

    /// Begins an action.
    ///
    /// # Errors
    /// Another one is in progress.
    pub fn begin(
        &mut self,
        draw: &mut Draw,
        now: Timestamp,
        name: &str,
        takes: Option<SignedDuration>,
        effect: Effect,
    ) -> Result<Uuid, CmdletError> {
        self.settle(now);
        if let Some(run) = self.running() {
            return Err(CmdletError {
                id: "RuntimeException",
                exception: "System.Management.Automation.RuntimeException",
                category: 14,
                message: format!("Cannot invoke action plan because another action is in progress: {}", run.id),
            });
        }
        let id = draw.guid();
        let ends = takes.map(|takes| now + takes);
        self.runs.insert(name.to_owned(), Run { name: name.to_owned(), id, started: now, ends, result: None, effect });
        self.settle(now);
        Ok(id)
    }

    /// Ends an action whose caller ends it.
    pub fn end(&mut self, name: &str, result: Result<(), String>) {
        if let Some(run) = self.runs.get_mut(name) {
            run.result = Some(result);
        }
    }

    /// `New-RegistrationToken`, its arguments already bound.
    ///
    /// # Errors
    /// The rules of the model, the version asked for, or a host that can't be read.
    pub fn registration_token(&self, request: &TokenRequest) -> Result<String, CmdletError> {
        let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        if request.billing_model == "Capacity" && empty(&request.agreement_number) {
            return Err(CmdletError::failed("Agreement number is null or empty when BillingModel is set to Capacity"));
        }
        if request.billing_model == "Custom" && empty(&request.ms_asset_tag) {
            return Err(CmdletError::failed("MsAssetTag is null or empty when BillingModel is set to Custom"));
        }
        if let Some(host) = &self.broken_host {
            return Err(CmdletError::failed(format!(
                "Could not retrieve mandatory hardware info for {host}. Please run Test-AzureStack and verify the host."
            )));
        }
        let version = match request.version.as_deref() {
            None if self.knows_token_version() => "3.0",
            None => "1.0",
            Some("6.0") if self.build <= TOKEN_6 => {
                return Err(CmdletError::failed("The registration token version 6.0 is not supported by this build."));
            }
            Some(version) => version,
        };
        let mut members = json!({
            "billingModel": request.billing_model,
            "cloudId": self.cloud_id,
            "marketplaceSyndicationEnabled": request.marketplace,
            "usageReportingEnabled": request.usage,
            "hardwareInfo": self.hosts,
            "issuer": "azsreg lab stamp",
            "version": version,
        });
        if let Some(bridge) = &self.bridge {
            members["objectId"] = json!(bridge.object_id);
        }
        for (name, value) in [("agreementNumber", &request.agreement_number), ("msAssetTag", &request.ms_asset_tag)] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                members[name] = json!(value);
            }
        }
        if version == "6.0" {
            members["registrationPublicKey"] = json!(format!("lab-{}", self.deployment_id));
        }
        Ok(token::encode(&members))
    }

    /// Checks an activation key whose signature has been verified, and gives the record that it leads to.
    ///
    /// # Errors
    /// Another stamp's key, or an expired one.
    pub fn activation_of(&self, claims: &Value, now: Timestamp) -> Result<Activation, CmdletError> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let cloud_id: Option<Uuid> = text("cloudId").parse().ok();
        if cloud_id != Some(self.cloud_id) {
            return Err(CmdletError::failed(format!(
                "The activation key is not valid for this Azure Stack: cloud identifier {} does not match {}.",
                text("cloudId"),
                self.cloud_id
            )));
        }
        let expiration = text("expires").to_owned();
        let expires = expiry(&expiration)
            .ok_or_else(|| CmdletError::failed("The activation key is malformed: expires is not a time."))?;
        if expires <= now {
            return Err(CmdletError::failed(format!("The activation key has expired at {expiration}.")));
        }
        let flag = |name: &str| claims.get(name).and_then(Value::as_bool).unwrap_or(false);
        Ok(Activation {
            registration: super::arm::registration_scope(
                text("subscriptionId").parse().unwrap_or_default(),
                text("resourceGroupName"),
                text("registrationName"),
            ),
            expiration,
            expires,
            marketplace: flag("marketplaceSyndicationEnabled"),
            usage: flag("usageReportingEnabled"),
            billing_model: text("billingModel").to_owned(),
            usage_endpoint: text("usageEndpoint").to_owned(),
            usage_resource: text("usageResourceUri").to_owned(),
            object_id: text("objectId").parse().ok(),
            written: now,
        })
    }

    /// The resource id of the activation record.
    #[must_use]
    pub fn activation_id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/azurestack-activation/providers/Microsoft.AzureBridge.Admin/activations/default",
            self.provider_subscription
        )
    }

    /// The activation record's body.
    #[must_use]
    pub fn activation_body(&self) -> Option<Value> {
        let activation = self.activation.as_ref()?;
        Some(json!({
            "id": self.activation_id(),
            "name": "default",
            "type": "Microsoft.AzureBridge.Admin/activations",
            "location": self.region,
            "etag": format!("W/\"datetime'{}'\"", activation.written),
            "properties": {
                "displayName": "Azure Stack Activation",
                "azureRegistrationResourceIdentifier": activation.registration,
                "azureEnvironmentName": "AzureCloud",
                "provisioningState": "Succeeded",
                "expiration": activation.expiration,
                "marketplaceSyndicationEnabled": activation.marketplace,
                "usageReportingEnabled": activation.usage,
            },
        }))
    }
}

/// A host's hardware: digests that look like the real ones.
fn host(draw: &mut Draw, n: u32) -> Value {
    let digests = |draw: &mut Draw, n: usize| (0..n).map(|_| json!(draw.hex(32))).collect::<Vec<_>>();
    json!({
        "numCores": 40, "bios": digests(draw, 1), "nic": digests(draw, 4), "cpu": digests(draw, 2),
        "disk": digests(draw, 10), "memory": digests(draw, 24), "name": format!("AZS-HC{n:02}"), "uuid": draw.guid(),
    })
}

/// The arguments of `New-RegistrationToken`.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct TokenRequest {
    pub billing_model: String,
    pub agreement_number: Option<String>,
    pub ms_asset_tag: Option<String>,
    pub marketplace: bool,
    pub usage: bool,
    pub version: Option<String>,
}

fn expiry(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    // The last day of the calendar is past what a time stamp can hold.
    text.starts_with(CALENDARS_END).then_some(Timestamp::MAX)
}

/// The two actions on the activation record.
#[derive(Debug, Clone)]
pub enum ActivationKind {
    /// Write it.
    Write(Box<Activation>),
    /// Remove it.
    Remove,
}
