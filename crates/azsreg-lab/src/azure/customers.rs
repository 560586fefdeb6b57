//! `registrations/{name}/customerSubscriptions` (`facts-azure-api.md` section 5).

use hyper::StatusCode;

use super::arm::{Answer, Call, Guard, body_of, not_allowed, page};
use crate::http;
use crate::world::arm::{ArmError, Registration, registration_scope};

/// A call below `customerSubscriptions`. `rest` is what follows that word, as written.
pub(super) fn customers(call: &Call<'_>, mut guard: Guard<'_>, group: &str, name: &str, rest: &[String]) -> Answer {
    let azure = &mut *guard;
    let version = http::value(call.query, "api-version").unwrap_or_default();
    if version == "2016-01-01" {
        let message = format!(
            "The resource type 'registrations/customerSubscriptions' could not be found in the namespace 'Microsoft.AzureStack' for api version '{version}'."
        );
        return Err(ArmError::new(404, "InvalidResourceType", message));
    }
    let verb = match call.method {
        "GET" => "read",
        "DELETE" => "delete",
        _ => "write",
    };
    let found = azure.arm.registration(call.subscription, group, name).cloned();
    let scope = found.as_ref().map_or_else(|_| registration_scope(call.subscription, group, name), Registration::id);
    call.may(azure, &format!("Microsoft.AzureStack/registrations/customerSubscriptions/{verb}"), &scope)?;
    azure.arm.provider_ready(call.subscription)?;
    let registration = found
        .map_err(|_| ArmError::new(404, "RegistrationNotFound", format!("The registration '{name}' was not found.")))?;
    match (call.method, rest) {
        ("GET", []) => {
            let items = azure.arm.customers_of(&registration).iter().map(|c| c.body(&registration, version)).collect();
            drop(guard);
            Ok(page(call.state, call.request, items))
        }
        ("GET", [customer]) => {
            Ok(http::json(200, &azure.arm.customer(&registration, customer)?.body(&registration, version)))
        }
        ("PUT", [customer]) => {
            let body = body_of(call.request)?;
            let made = azure.arm.put_customer(&registration, customer, &body, call.state.now())?;
            Ok(http::json(200, &made.body(&registration, version)))
        }
        ("DELETE", [customer]) => {
            let existed = azure.arm.delete_customer(&registration, customer, call.state.now())?;
            Ok(http::text(if existed { StatusCode::OK } else { StatusCode::NO_CONTENT }, ""))
        }
        _ => not_allowed(),
    }
}
