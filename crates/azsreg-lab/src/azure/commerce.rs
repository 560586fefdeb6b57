//! `Microsoft.Commerce/UsageAggregates`: what a subscription is billed for (`specs/commerce`, 2015-06-01-preview).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::arm::{Answer, Call, Guard, not_allowed};
use crate::http::{self, value};
use crate::lab::lock;
use crate::world::arm::ArmError;
use crate::world::ledger::{Key, Query};
use crate::world::metering::{hour_of, time_of};

/// What the provider speaks.
const VERSION: &str = "2015-06-01-preview";
/// How many lines a page has.
const PAGE: usize = 1_000;

fn invalid(message: &str) -> ArmError {
    ArmError::new(400, "InvalidInput", message)
}

/// A time as clients write it: ISO 8601, with an offset, a Z, or both as some documentation has it.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    // A plus that was not escaped came as a space.
    let text = text.trim().replace(' ', "+");
    let plain = text.strip_suffix(['Z', 'z']).filter(|rest| rest.rfind(['+', '-']).is_some_and(|at| at > 10));
    plain.unwrap_or(&text).parse().ok()
}

/// A call to `UsageAggregates` of the subscription.
pub(super) fn aggregates(call: &Call<'_>, guard: Guard<'_>) -> Answer {
    if call.method != "GET" {
        return not_allowed();
    }
    let version = value(call.query, "api-version").unwrap_or_default();
    if version != VERSION {
        let message = format!("The api-version '{version}' is invalid. The supported versions are '{VERSION}'.");
        return Err(ArmError::new(400, "InvalidApiVersionParameter", message));
    }
    let scope = format!("/subscriptions/{}", call.subscription);
    call.may(&guard, "Microsoft.Commerce/UsageAggregates/read", &scope)?;
    drop(guard);
    let given = |name: &str| value(call.query, name).filter(|text| !text.is_empty());
    let bucket = match given("aggregationGranularity").unwrap_or("Daily").to_ascii_lowercase().as_str() {
        "daily" => 24,
        "hourly" => 1,
        other => return Err(invalid(&format!("The aggregationGranularity '{other}' is invalid: Daily or Hourly."))),
    };
    let details = match given("showDetails").unwrap_or("true").to_ascii_lowercase().as_str() {
        "true" => true,
        "false" => false,
        _ => return Err(invalid("showDetails is true or false.")),
    };
    let at = |name: &str| {
        let text = given(name).ok_or_else(|| invalid(&format!("{name} is missing.")))?;
        let at = time(text).ok_or_else(|| invalid(&format!("{name} is not a time.")))?;
        let whole = time_of(hour_of(at)) == at && (bucket == 1 || hour_of(at).rem_euclid(24) == 0);
        if whole { Ok(at) } else { Err(invalid(&format!("{name} is not the beginning of an hour or a day of UTC."))) }
    };
    let (from, to) = (at("reportedStartTime")?, at("reportedEndTime")?);
    // The bucket that is filled now can be asked for, what comes after it can't.
    if from >= to || hour_of(to) - bucket > hour_of(call.state.now()) {
        return Err(invalid("reportedEndTime is not after reportedStartTime, or is in the future."));
    }
    let after: Option<Key> = match given("continuationToken") {
        None => None,
        Some(token) => Some(key(token).ok_or_else(|| invalid("The continuationToken is not one of this service."))?),
    };
    let query = Query { subscription: call.subscription, from: hour_of(from), to: hour_of(to), bucket, details };
    let books = lock(&call.state.books);
    let mut lines = books.ledger.page(query, after, PAGE + 1);
    let more = lines.len() > PAGE;
    lines.truncate(PAGE);
    let items: Vec<Value> = lines.iter().map(|(key, quantity)| books.ledger.body(query, *key, *quantity)).collect();
    drop(books);
    let mut body = json!({ "value": items });
    if let Some(((hour, meter, resource), _)) = lines.last().filter(|_| more) {
        let token = BASE64.encode(format!("{hour} {meter} {resource}"));
        body["nextLink"] = json!(http::next_link(call.request, &call.state.urls().arm, &token));
    }
    Ok(http::json(200, &body))
}

fn key(token: &str) -> Option<Key> {
    let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
    let mut parts = text.split(' ');
    let key = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(key)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_taken_as_clients_write_them() {
        let expected = time("2015-06-16T18:00:00Z");
        assert!(expected.is_some());
        for text in ["2015-06-16T18:00:00+00:00", "2015-06-16T18:00:00+00:00Z", "2015-06-16T18:00:00 00:00"] {
            assert_eq!(time(text), expected, "{text}");
        }
        assert_eq!(time("2015-06-16"), None);
        assert_eq!(time("yesterday"), None);
    }
}
