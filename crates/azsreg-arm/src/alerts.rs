//! `Microsoft.InfrastructureInsights.Admin`: the alerts of a stamp (`facts-stamp.md` section 4).

use azsreg_model::{Alert, StampInformation, redact};
use azsreg_operations::ports::{Alerts, PortError};
use reqwest::Method;
use serde_json::{Value, json};

use crate::absent;
use crate::manager::Manager;
use crate::products::segment;
use crate::records::RecordsPort;

const INSIGHTS: &str = "2016-05-01";

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Rich text as plain text: runs of text, line ends, links as what they show.
fn plain(runs: &Value) -> String {
    let mut out = String::new();
    for run in runs.as_array().into_iter().flatten() {
        match text(run, "/type") {
            "Text" => out.push_str(text(run, "/text")),
            "NewLine" => out.push(' '),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An alert out of its resource; `None` where it has no name.
#[must_use]
pub fn alert(resource: &Value) -> Option<Alert> {
    let name = text(resource, "/name");
    // Some lists give a name with its parents'.
    let name = name.rsplit('/').next().filter(|name| !name.is_empty())?;
    let of = |member: &str| text(resource, &format!("/properties/{member}")).to_owned();
    let code = text(resource, "/properties/alertProperties/errorCode");
    Some(Alert {
        name: name.to_owned(),
        title: redact::of_server(&of("title")).into_owned(),
        severity: of("severity"),
        active: of("state").eq_ignore_ascii_case("Active"),
        fault_type: of("faultTypeId"),
        created: of("createdTimestamp").parse().ok(),
        closed: of("closedTimestamp").parse().ok(),
        description: redact::of_server(&plain(&resource["properties"]["description"])).into_owned(),
        remediation: redact::of_server(&plain(&resource["properties"]["remediation"])).into_owned(),
        impacted: of("impactedResourceDisplayName"),
        error_code: Some(code.to_owned()).filter(|code| !code.is_empty()),
    })
}

impl<'a> RecordsPort<'a> {
    async fn insights(&self, stamp: &StampInformation) -> Result<(Manager<'_>, String), PortError> {
        let (manager, record) = self.at(stamp).await.map_err(|error| self.failed(error))?;
        let subscription: String = record.split('/').take(3).collect::<Vec<_>>().join("/");
        let region = segment(stamp.region.as_deref().unwrap_or("local"));
        let path = format!(
            "{subscription}/resourceGroups/System.{region}/providers/Microsoft.InfrastructureInsights.Admin/regionHealths/{region}/alerts"
        );
        Ok((manager, path))
    }
}

impl Alerts for RecordsPort<'_> {
    async fn alerts(&self, stamp: &StampInformation) -> Result<Vec<Alert>, PortError> {
        let (manager, path) = self.insights(stamp).await?;
        let found =
            manager.resources(&path, INSIGHTS, absent::NEVER, "alerts").await.map_err(|error| self.failed(error))?;
        Ok(found.iter().filter_map(alert).collect())
    }

    async fn close_alert(&self, stamp: &StampInformation, name: &str) -> Result<(), PortError> {
        let (manager, path) = self.insights(stamp).await?;
        let path = format!("{path}/{}", segment(name));
        // The whole resource goes back, with its state changed: as the official client does it.
        let Some(mut resource) =
            manager.find(&path, INSIGHTS, absent::ALERT).await.map_err(|error| self.failed(error))?
        else {
            return Ok(());
        };
        // It is written back: something else would be written in its place.
        let ours = alert(&resource).is_some_and(|found| found.name.eq_ignore_ascii_case(name));
        if !ours || !resource["properties"].is_object() {
            return Err(self.failed(manager.unclear(&path, "the answer is not that alert")));
        }
        let by = "azsreg";
        resource["properties"]["state"] = json!("Closed");
        resource["properties"]["closedByUserAlias"] = json!(by);
        let path = format!("{path}?user={by}");
        manager.call(Method::PUT, &path, INSIGHTS, Some(&resource)).await.map_err(|error| self.failed(error))?;
        Ok(())
    }
}
