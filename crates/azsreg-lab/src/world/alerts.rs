//! The alerts of a stamp that have to do with its registration (`facts-stamp.md` section 5).

use azsreg_model::SOON;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::arm::{Answer, ArmError};
use super::stamp::Stamp;

/// The provider that raises them.
const PROVIDER: &str = "e56bc7b8-c8b5-4e25-b00c-4f951effb22c";
/// So many are remembered.
const MOST: usize = 100;

/// An alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alert {
    /// Its id.
    pub id: Uuid,
    /// The kind of its fault.
    pub fault: String,
    /// What it says of this case.
    pub properties: Value,
    /// When it was raised.
    pub created: Timestamp,
    /// When it was closed, by itself or by somebody.
    pub closed: Option<Timestamp>,
    /// Who closed it; empty where it closed by itself.
    pub closed_by: String,
}

/// What a kind of fault says: title, description, remediation, infrastructure role and its name.
fn words(fault: &str) -> (&'static str, &'static str, &'static str, &'static str, &'static str) {
    match fault {
        "AzureBridge.NotActivated" => (
            "Activation Required",
            "Azure Stack is not activated.",
            "Register Azure Stack with Azure: azsreg register, or azsreg offline token for a disconnected one.",
            "AzureBridge",
            "Azure bridge",
        ),
        "AzureBridge.RegistrationExpired" => (
            "Registration expired",
            "The registration of this Azure Stack with Azure has expired.",
            "Renew it: azsreg renew, or azsreg offline renew start for a disconnected one.",
            "AzureBridge",
            "Azure bridge",
        ),
        "UsageBridge.UsageNetworkError" => (
            "Unable to connect to the remote service",
            "The usage bridge can't reach the remote service, so the stamp's usage is not sent to Azure.",
            "Look at the error code, mend the way to Azure, and see what waits: azsreg usage status.",
            "UsageBridge",
            "Usage bridge",
        ),
        _ => (
            "Registration expires soon",
            "The registration of this Azure Stack with Azure expires soon.",
            "Renew it: azsreg renew, or azsreg offline renew start for a disconnected one.",
            "AzureBridge",
            "Azure bridge",
        ),
    }
}

impl Stamp {
    /// Raises what is wrong now, and closes what is not wrong any more.
    pub fn raise_alerts(&mut self, now: Timestamp) {
        let ends = self.activation.as_ref().map(|activation| activation.expires);
        let expired = ends.is_some_and(|ends| ends <= now);
        // No source says when a real stamp warns of it: it is when `azsreg status` does.
        let near = ends.is_some_and(|ends| ends > now && ends.duration_since(now) < SOON);
        let expiration = self.activation.as_ref().map(|activation| activation.expiration.clone());
        let failing = self.usage.failing.as_ref().filter(|_| self.activation.as_ref().is_some_and(|a| a.usage));
        let upload = failing.map(|f| json!({"errorCode": f.code, "errorMessage": f.message}));
        let conditions = [
            ("UsageBridge.UsageNetworkError", upload.is_some(), upload.unwrap_or_default()),
            ("AzureBridge.NotActivated", ends.is_none(), json!({})),
            ("AzureBridge.RegistrationExpired", expired, json!({ "expiration": expiration })),
            ("AzureBridge.RegistrationExpiring", near, json!({ "expiration": expiration })),
        ];
        for (fault, wrong, properties) in conditions {
            let last = self.alerts.iter_mut().rev().find(|alert| alert.fault == fault);
            match (wrong, last) {
                // One that somebody closed is raised again when it is wrong anew.
                (true, Some(last)) if last.closed.is_none() => last.properties = properties,
                (true, Some(last)) if !last.closed_by.is_empty() => {}
                (true, _) => {
                    let id = Uuid::new_v5(&self.deployment_id, format!("{fault}|{now}").as_bytes());
                    let fault = fault.to_owned();
                    let alert = Alert { id, fault, properties, created: now, closed: None, closed_by: String::new() };
                    self.alerts.push(alert);
                    // What is long over is forgotten.
                    if self.alerts.len() > MOST
                        && let Some(oldest) = self.alerts.iter().position(|alert| alert.closed.is_some())
                    {
                        self.alerts.remove(oldest);
                    }
                }
                (false, Some(last)) => {
                    last.closed = last.closed.or(Some(now));
                    last.closed_by.clear();
                }
                (false, None) => {}
            }
        }
    }

    /// Closes an alert.
    ///
    /// # Errors
    /// 404 for one that is not there, 400 for a body that does not close it.
    pub fn close_alert(&mut self, name: &str, body: &Value, by: &str, now: Timestamp) -> Answer<Value> {
        let state = body.pointer("/properties/state").and_then(Value::as_str).unwrap_or_default();
        if !state.eq_ignore_ascii_case("Closed") {
            let message = "The alert can only be closed: its state has to be 'Closed'.";
            return Err(ArmError::new(400, "InvalidRequestContent", message));
        }
        let by = body
            .pointer("/properties/closedByUserAlias")
            .and_then(Value::as_str)
            .filter(|by| !by.is_empty())
            .unwrap_or(by);
        let by = if by.is_empty() { "operator" } else { by }.to_owned();
        let missing = no_alert(name);
        let alert = self.alerts.iter_mut().find(|alert| alert.id.to_string().eq_ignore_ascii_case(name));
        let alert = alert.ok_or(missing)?;
        if alert.closed.is_none() {
            (alert.closed, alert.closed_by) = (Some(now), by);
        }
        let alert = alert.clone();
        Ok(self.alert_body(&alert))
    }

    /// An alert's body.
    #[must_use]
    pub fn alert_body(&self, alert: &Alert) -> Value {
        let (title, description, remediation, role, shown) = words(&alert.fault);
        let (provider, region) = (self.provider_subscription, &self.region);
        let group = format!("/subscriptions/{provider}/resourceGroups/System.{region}/providers");
        let text = |text: &str| json!([{"text": text, "type": "Text"}]);
        // Rich text with a link in it, as the recorded alerts have it.
        let link = "https://docs.azsreg-lab.invalid/azure-stack-registration";
        let remediation = json!([
            {"text": format!("{remediation} See "), "type": "Text"},
            {"linkType": "Uri", "uri": link, "resourceId": "", "type": "LinkBegin"},
            {"text": link, "type": "Text"},
            {"type": "LinkEnd"},
            {"text": ".", "type": "Text"},
        ]);
        json!({
            "id": format!("{group}/Microsoft.InfrastructureInsights.Admin/regionHealths/{region}/alerts/{}", alert.id),
            "name": alert.id, "type": "Microsoft.InfrastructureInsights.Admin/regionHealths/alerts", "location": region, "tags": {},
            "properties": {
                "alertId": alert.id, "faultId": format!("{}:{}", alert.fault, self.deployment_id), "faultTypeId": alert.fault,
                "title": title, "severity": "Warning", "state": if alert.closed.is_none() { "Active" } else { "Closed" },
                "createdTimestamp": alert.created, "lastUpdatedTimestamp": alert.closed.unwrap_or(alert.created),
                "closedTimestamp": alert.closed.map(|at| at.to_string()).unwrap_or_default(), "closedByUserAlias": alert.closed_by,
                "description": text(&described(description, &alert.properties)), "remediation": remediation, "alertProperties": alert.properties,
                "resourceRegistrationId": self.deployment_id, "resourceProviderRegistrationId": PROVIDER,
                "impactedResourceId": format!("{group}/Microsoft.Fabric.Admin/fabricLocations/{region}/infraRoles/{role}"),
                "impactedResourceDisplayName": shown, "hasValidRemediationAction": false,
            },
        })
    }
}

/// The description, with what the case says of its error.
fn described(description: &str, properties: &Value) -> String {
    match (properties["errorCode"].as_str(), properties["errorMessage"].as_str()) {
        (Some(code), Some(message)) => format!("{description} ErrorCode: {code}. ErrorMessage: {message}"),
        _ => description.to_owned(),
    }
}

/// The refusal of an alert that is not there.
#[must_use]
pub fn no_alert(name: &str) -> ArmError {
    ArmError::new(404, "AlertNotFound", format!("The alert '{name}' was not found."))
}
