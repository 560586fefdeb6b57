//! `Microsoft.InfrastructureInsights.Admin`: the stamp's alerts (`facts-stamp.md` section 4).

use hyper::StatusCode;

use crate::http::{self, Read, Reply, value};
use crate::lab::{StampState, State};
use crate::world::alerts::no_alert;
use crate::world::arm::ArmError;

/// A call below `alerts`. `rest` is what follows that word.
pub(super) fn handle(state: &State, stamp: &StampState, request: &Read, rest: &[&str]) -> Result<Reply, ArmError> {
    let now = state.now();
    let mut world = stamp.world();
    world.raise_alerts(now);
    match (request.method().as_str(), rest) {
        ("GET", []) => {
            let items = world.alerts.iter().map(|alert| world.alert_body(alert)).collect();
            Ok(http::page(request, &stamp.urls().admin_arm, state.options.page_size, items))
        }
        ("GET", [name]) => {
            let alert =
                world.alerts.iter().find(|alert| alert.id.to_string() == *name).ok_or_else(|| no_alert(name))?;
            Ok(http::json(200, &world.alert_body(alert)))
        }
        ("PUT", [name]) => {
            let body = serde_json::from_slice(request.body()).map_err(|_| {
                ArmError::new(
                    400,
                    "InvalidRequestContent",
                    "The request content was invalid and could not be deserialized.",
                )
            })?;
            let query = http::pairs(request.uri().query().unwrap_or_default());
            let by = value(&query, "user").unwrap_or_default();
            Ok(http::json(200, &world.close_alert(name, &body, by, now)?))
        }
        _ => Ok(http::text(StatusCode::METHOD_NOT_ALLOWED, "")),
    }
}
