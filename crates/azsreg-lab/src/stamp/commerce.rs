//! `Microsoft.Commerce.Admin`: the usage of the stamp's tenants (`facts-billing-usage.md` section 5).

use azsreg_model::METERS;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hyper::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::azure::commerce::time;
use crate::http::{self, Read, Reply, value};
use crate::lab::{StampState, State};
use crate::world::arm::ArmError;
use crate::world::ledger::{amount, offset};
use crate::world::metering::{Asked, Place, hour_of, list, time_of};

/// What the provider speaks.
const VERSION: &str = "2015-06-01-preview";
/// How many rows a page has.
const PAGE: usize = 1_000;

fn refused(code: &str, message: &str) -> ArmError {
    ArmError::new(400, code, message)
}

/// The refusal of a call without an api-version.
pub(super) fn no_version() -> ArmError {
    refused("NoApiVersion", "The api-version query parameter is missing.")
}

/// The refusal of a call without a subscription.
pub(super) fn no_subscription() -> ArmError {
    refused("SubscriptionIdMissingInRequest", "The subscription ID of the caller is missing.")
}

/// A call below `Microsoft.Commerce.Admin`.
pub(super) fn handle(state: &State, stamp: &StampState, request: &Read, rest: &[&str]) -> Result<Reply, ArmError> {
    let query = http::pairs(request.uri().query().unwrap_or_default());
    match value(&query, "api-version") {
        Some(VERSION) => {}
        version => {
            let message = format!(
                "The api-version '{}' is invalid. The supported versions are '{VERSION}'.",
                version.unwrap_or_default()
            );
            return Err(refused("InvalidApiVersionParameter", &message));
        }
    }
    match (request.method().as_str(), rest) {
        ("GET", ["subscriberusageaggregates"]) => rows(state, stamp, request, &query),
        ("POST", ["updateencryption"]) => Ok(http::text(StatusCode::OK, "")),
        (_, ["subscriberusageaggregates" | "updateencryption"]) => Ok(http::text(StatusCode::METHOD_NOT_ALLOWED, "")),
        _ => Err(ArmError::new(404, "NotFound", "The lab's stamp does not know this route.")),
    }
}

fn rows(state: &State, stamp: &StampState, request: &Read, query: &[(String, String)]) -> Result<Reply, ArmError> {
    let property = |name: &str, why: &str| refused("InvalidProperty", &format!("The property '{name}' {why}."));
    let given = |name: &str| value(query, name).filter(|text| !text.is_empty());
    let bucket = match given("aggregationGranularity").unwrap_or("daily").to_ascii_lowercase().as_str() {
        "daily" => 24,
        "hourly" => 1,
        other => {
            let message =
                format!("The aggregation granularity '{other}' is invalid. Valid values are daily and hourly.");
            return Err(refused("InvalidAggregationGranularity", &message));
        }
    };
    let at = |name: &str| {
        let text = given(name).ok_or_else(|| property(name, "is missing"))?;
        let at = time(text).ok_or_else(|| property(name, "is not a time"))?;
        let whole = time_of(hour_of(at)) == at && (bucket == 1 || hour_of(at).rem_euclid(24) == 0);
        let what = if bucket == 1 { "an hour" } else { "a day" };
        if whole { Ok(at) } else { Err(property(name, &format!("is not the beginning of {what} of UTC"))) }
    };
    let (from, to) = (at("reportedStartTime")?, at("reportedEndTime")?);
    if to > state.now() {
        return Err(refused("RequestEndTimeIsInFuture", "The value for reportedEndTime is in the future."));
    }
    if from >= to {
        return Err(property("reportedEndTime", "is not after reportedStartTime"));
    }
    let place = match given("continuationToken") {
        None => Place::default(),
        Some(token) => place(token).ok_or_else(|| property("continuationToken", "is not a token of this service"))?,
    };
    let mut world = stamp.world();
    let provider = world.provider_subscription;
    let (tenants, fleets) = world.fleets();
    let subscription = match given("subscriberId") {
        None => None,
        Some(id) => {
            let known = id.parse().ok().filter(|id: &Uuid| tenants.iter().any(|tenant| tenant.subscription == *id));
            let message = format!("The subscription '{id}' is not a direct tenant of the caller.");
            Some(known.ok_or_else(|| refused("SubscriberIdIsNotDirectTenant", &message))?)
        }
    };
    let asked = Asked { from: hour_of(from), to: hour_of(to), bucket, subscription };
    let mut items: Vec<Value> = Vec::new();
    let next = list(tenants, fleets, asked, place, |hour, reading| {
        if items.len() == PAGE {
            return false;
        }
        let (tenant, meter) = (reading.tenant.subscription, METERS[reading.meter].id);
        items.push(json!({
            "id": format!("/subscriptions/{provider}/providers/Microsoft.Commerce/UsageAggregate/{tenant}-{meter}"),
            "name": format!("{tenant}-{meter}"),
            "type": "Microsoft.Commerce/UsageAggregate",
            "properties": {
                "subscriptionId": tenant,
                "usageStartTime": offset(time_of(hour)), "usageEndTime": offset(time_of(hour + bucket)),
                "instanceData": reading.resource.instance,
                "quantity": amount(reading.quantity),
                "meterId": meter,
            },
        }));
        true
    });
    drop(world);
    let mut body = json!({ "value": items });
    if let Some(next) = next {
        let token = BASE64.encode(format!("{} {} {} {}", next.hour, next.tenant, next.resource, next.given));
        body["nextLink"] = json!(http::next_link(request, &stamp.urls().admin_arm, &token));
    }
    Ok(http::json(200, &body))
}

fn place(token: &str) -> Option<Place> {
    let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
    let mut parts = text.split(' ');
    let place = Place {
        hour: parts.next()?.parse().ok()?,
        tenant: parts.next()?.parse().ok()?,
        resource: parts.next()?.parse().ok()?,
        given: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(place)
}
