//! Usage on both sides: `Microsoft.Commerce.Admin/subscriberUsageAggregates` at the stamp, `Microsoft.Commerce/UsageAggregates`
//! in Azure (`facts-billing-usage.md` section 5).

use azsreg_model::{Problem, StampInformation, UsagePage, UsageRow, code, quantity};
use azsreg_operations::ports::{Billed, Class, PortError, Recorded, UsageQuery};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::azure::AzurePort;
use crate::error::{ArmError, too_long};
use crate::manager::{Manager, Seen};
use crate::records::RecordsPort;

/// What both providers speak.
const COMMERCE: &str = "2015-06-01-preview";

/// A page as both services write it. Members that we don't use are let pass: there are several.
#[derive(Deserialize)]
struct Page {
    value: Vec<Item>,
    #[serde(rename = "nextLink")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    subscription_id: String,
    usage_start_time: String,
    usage_end_time: String,
    meter_id: String,
    quantity: Option<f64>,
    instance_data: Option<String>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(rename = "Microsoft.Resources")]
    resources: Option<Resources>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    resource_uri: Option<String>,
    location: Option<String>,
    additional_info: Option<Value>,
}

/// A time with an offset, or of UTC without one.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}Z").parse().ok())
}

impl Resources {
    /// A member of the additional details, which are an object, or an object as text.
    fn detail(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let parsed;
        let details = match self.additional_info.as_ref()? {
            Value::String(text) => {
                parsed = serde_json::from_str(text).ok()?;
                &parsed
            }
            other => other,
        };
        let found = details.as_object()?.iter().find(|(name, _)| wanted(&name.to_ascii_lowercase()));
        found.and_then(|(_, value)| value.as_str()).map(str::to_owned)
    }

    /// The subscription that a resource's id begins with.
    fn subscription(&self) -> Option<String> {
        let mut parts = self.resource_uri.as_deref()?.split('/').skip_while(|part| part.is_empty());
        let first = parts.next()?;
        first.eq_ignore_ascii_case("subscriptions").then(|| parts.next().map(str::to_ascii_lowercase)).flatten()
    }
}

/// A row; `None` where a time is none.
fn row(properties: Properties, billed: bool) -> Option<UsageRow> {
    let Properties { subscription_id, usage_start_time, usage_end_time, meter_id, quantity: amount, instance_data } =
        properties;
    let instance = instance_data.and_then(|text| serde_json::from_str::<Instance>(&text).ok());
    let resources = instance.and_then(|instance| instance.resources);
    let detail = |wanted: &dyn Fn(&str) -> bool| resources.as_ref().and_then(|resources| resources.detail(wanted));
    // Azure's rows are of the subscription that pays; the tenant's is in the details, or in the resource's id.
    let tenant = if billed {
        detail(&|name| name.contains("subscription")).or_else(|| resources.as_ref()?.subscription()).unwrap_or_default()
    } else {
        subscription_id
    };
    let size = detail(&|name| name == "servicetype");
    Some(UsageRow {
        start: time(&usage_start_time)?,
        end: time(&usage_end_time)?,
        subscription: tenant.to_ascii_lowercase(),
        meter: meter_id,
        quantity: quantity(amount.unwrap_or(0.0))?,
        size,
        location: resources.as_ref().and_then(|resources| resources.location.clone()),
        resource: resources.and_then(|resources| resources.resource_uri),
    })
}

/// A page of rows.
///
/// # Errors
/// It is not a page, or a row has no time.
pub fn page(body: Value, billed: bool) -> Result<UsagePage, String> {
    let Page { value, next } = serde_json::from_value(body).map_err(|error| error.to_string())?;
    let rows = value.into_iter().map(|item| row(item.properties, billed).ok_or("a row of usage without a time".into()));
    Ok(UsagePage { rows: rows.collect::<Result<_, String>>()?, next: next.filter(|link| !link.is_empty()) })
}

fn path(scope: &str, provider: &str, query: &UsageQuery, more: &str) -> String {
    let at = |at: Timestamp| {
        utf8_percent_encode(&at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(), NON_ALPHANUMERIC).to_string()
    };
    format!(
        "{scope}/providers/{provider}?reportedStartTime={}&reportedEndTime={}&aggregationGranularity={}{more}",
        at(query.reported.from),
        at(query.reported.to),
        query.granularity.wire(),
    )
}

async fn read(
    manager: &Manager<'_>,
    seen: &Seen,
    path: &str,
    next: Option<&str>,
    billed: bool,
) -> Result<UsagePage, ArmError> {
    let body = manager.page(path, COMMERCE, next).await?;
    let page = page(body, billed).map_err(|reason| ArmError::Unreadable { host: manager.host(), reason })?;
    seen.page(&manager.host(), path, next, page.next.as_deref(), page.rows.len())?;
    Ok(page)
}

/// What the documented codes of the usage service mean to an operator (`facts-errors.md` rows 80 and 81).
fn explained(records: &RecordsPort<'_>, error: ArmError) -> PortError {
    let known = match &error {
        ArmError::Refused { status: 504, .. } => {
            Some((&code::USAGE_TOO_LONG, "the stamp took too long to collect usage"))
        }
        ArmError::Refused { status: 202, .. } => None,
        ArmError::Refused { code: said, .. } => match said.as_str() {
            "InvalidProperty" | "InvalidAggregationGranularity" | "NoApiVersion" | "SubscriptionIdMissingInRequest" => {
                Some((&code::USAGE_QUERY, "the stamp does not take the query for usage"))
            }
            "RequestEndTimeIsInFuture" => Some((&code::USAGE_FUTURE, "the stamp says that the end is in the future")),
            "SubscriberIdIsNotDirectTenant" => {
                Some((&code::TENANT_UNKNOWN, "the stamp has no such tenant's subscription"))
            }
            _ => None,
        },
        _ => None,
    };
    match (known, &error) {
        (Some((entry, text)), ArmError::Refused { code, message, .. }) => {
            PortError::permanent(Problem::new(entry, text).detail(format!("{code}: {message}")))
        }
        _ => not_ready(&error).unwrap_or_else(|| records.failed(error)),
    }
}

/// 202: the usage of that time is still being worked on.
fn not_ready(error: &ArmError) -> Option<PortError> {
    let ArmError::Refused { status: 202, retry_after, .. } = error else { return None };
    if let Some(problem) = too_long("the service", *retry_after) {
        return Some(PortError::permanent(problem));
    }
    let problem = Problem::new(&code::USAGE_NOT_READY, "the usage of that time is still being processed");
    let class = if retry_after.is_some() { Class::Throttled(*retry_after) } else { Class::Transient };
    Some(PortError::new(class, problem))
}

impl Recorded for RecordsPort<'_> {
    async fn recorded(
        &self,
        stamp: &StampInformation,
        query: &UsageQuery,
        next: Option<&str>,
    ) -> Result<UsagePage, PortError> {
        let (manager, record) = self.at(stamp).await.map_err(|error| self.failed(error))?;
        let scope: String = record.split('/').take(3).collect::<Vec<_>>().join("/");
        let only = query.subscription.map(|id| format!("&subscriberId={id}")).unwrap_or_default();
        let path = path(&scope, "Microsoft.Commerce.Admin/subscriberUsageAggregates", query, &only);
        read(&manager, &self.seen, &path, next, false).await.map_err(|error| {
            let error = explained(self, error);
            // Only a query can be asked in halves; a page that takes too long is asked for again.
            let late = next.is_some() && error.problem.code == &code::USAGE_TOO_LONG;
            if late { PortError { class: Class::Transient, ..error } } else { error }
        })
    }
}

impl Billed for AzurePort<'_> {
    async fn billed(&self, payer: Uuid, query: &UsageQuery, next: Option<&str>) -> Result<UsagePage, PortError> {
        let scope = format!("/subscriptions/{payer}");
        let path = path(&scope, "Microsoft.Commerce/UsageAggregates", query, "&showDetails=true");
        let page = read(self.manager(), &self.seen, &path, next, true).await;
        page.map_err(|error| not_ready(&error).unwrap_or_else(|| error.into()))
    }
}
