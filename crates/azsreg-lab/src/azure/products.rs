//! `registrations/{name}/products`: the marketplace as a registration sees it (`facts-azure-api.md` section 4).

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arm::{Answer, Call, Guard, body_of, not_allowed, page};
use super::blobs::Blobs;
use crate::http;
use crate::lab::State;
use crate::world::arm::{ArmError, Registration, registration_scope};
use crate::world::catalogue::{Device, ITEMS, Item, find};

/// What a stamp has logged of its work with a product.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProductLog(pub(crate) Value);

/// How long an address from `listDetails` may be read, unless the control port says otherwise.
pub(crate) const SIGNED_FOR: Duration = Duration::from_secs(24 * 3_600);

fn missing(name: &str) -> ArmError {
    ArmError::new(404, "ProductNotFound", format!("The product '{name}' was not found."))
}

/// A stamp that says nothing of itself, or no stamp at all, is no failure: the official SDK sends neither member.
fn configuration(call: &Call<'_>) -> Result<Value, ArmError> {
    if call.request.body().is_empty() { Ok(json!({})) } else { body_of(call.request) }
}

fn body(state: &State, registration: &Registration, item: &Item, version: &str, device: Option<&Device>) -> Value {
    let mut properties = item.properties(&format!("{}/icons", Blobs::base(state)));
    if let Some(device) = device {
        properties["compatibility"] = item.compatibility(device);
    }
    let mut body = json!({
        "id": format!("{}/products/{}", registration.id(), item.name),
        "name": format!("{}/{}", registration.name, item.name),
        "type": "Microsoft.AzureStack/registrations/products",
        "properties": properties,
    });
    if version == "2020-06-01-preview" {
        body["systemData"] = registration.system_data(registration.written);
    }
    body
}

/// A call below `products`. `rest` is what follows that word, as written.
pub(super) fn products(call: &Call<'_>, mut guard: Guard<'_>, group: &str, name: &str, rest: &[String]) -> Answer {
    let azure = &mut *guard;
    let version = http::value(call.query, "api-version").unwrap_or_default();
    let verb = rest.get(1).map(|verb| verb.to_ascii_lowercase());
    let action = match verb.as_deref() {
        None => "read",
        Some("listdetails") => "listDetails/action",
        Some("getproducts") => "getProducts/action",
        // The preview between two stable versions does not have it (Swagger, Product.json of each).
        Some("listproducts") if version != "2020-06-01-preview" => "listProducts/action",
        Some("getproduct") => "getProduct/action",
        Some("uploadproductlog") => "uploadProductLog/action",
        Some(other) => {
            let message = format!(
                "The resource type 'registrations/products/{other}' could not be found in the namespace 'Microsoft.AzureStack' for api version '{version}'."
            );
            return Err(ArmError::new(404, "InvalidResourceType", message));
        }
    };
    let found = azure.arm.registration(call.subscription, group, name).cloned();
    let scope = found.as_ref().map_or_else(|_| registration_scope(call.subscription, group, name), Registration::id);
    call.may(azure, &format!("Microsoft.AzureStack/registrations/products/{action}"), &scope)?;
    azure.arm.provider_ready(call.subscription)?;
    let registration = found.map_err(|_| {
        let message =
            format!("Can not perform requested operation on nested resource. Parent resource '{name}' not found.");
        ArmError::new(404, "ParentResourceNotFound", message)
    })?;
    if call.method != "GET" {
        // Every action is a POST, the ones that only look as well.
        azure.arm.writable(&format!("{scope}/products/{}", rest.first().map_or("", String::as_str)))?;
    }
    if registration.expires().is_some_and(|end| end <= call.state.now()) {
        let message = format!("The registration '{name}' has expired. Renew it to download marketplace items.");
        return Err(ArmError::new(409, "RegistrationExpired", message));
    }
    let device = Device {
        billing_model: registration.token.billing_model.clone(),
        connected: registration.token.object_id.is_some(),
        ..Device::default()
    };
    let item = || rest.first().and_then(|name| find(name)).ok_or_else(|| missing(rest.first().map_or("", |n| n)));
    match (call.method, verb.as_deref()) {
        ("GET", None) if rest.is_empty() => {
            drop(guard);
            let items = ITEMS.iter().map(|item| body(call.state, &registration, item, version, None)).collect();
            Ok(page(call.state, call.request, items))
        }
        ("GET", None) => Ok(http::json(200, &body(call.state, &registration, item()?, version, None))),
        ("POST", Some("getproducts" | "listproducts")) => {
            if !rest[0].eq_ignore_ascii_case("_all") {
                return Err(missing(&rest[0]));
            }
            let device = device.configured(&configuration(call)?);
            let items: Vec<Value> =
                ITEMS.iter().map(|item| body(call.state, &registration, item, version, Some(&device))).collect();
            Ok(http::json(200, &json!({ "value": items })))
        }
        ("POST", Some("getproduct")) => {
            let item = item()?;
            let device = device.configured(&configuration(call)?);
            Ok(http::json(200, &body(call.state, &registration, item, version, Some(&device))))
        }
        ("POST", Some("listdetails")) => {
            let (item, base) = (item()?, Blobs::base(call.state));
            let end = call.state.now() + call.state.signed_for();
            Ok(http::json(200, &item.details(&|path| call.state.blobs.signed(&base, path, end))))
        }
        ("POST", Some("uploadproductlog")) => {
            let item = item()?;
            let update = body_of(call.request)?;
            let text = |name: &str| update[name].as_str().unwrap_or_default().to_owned();
            let now = call.state.now();
            let log = json!({
                "id": azure.draw.guid(), "productId": item.name, "subscriptionId": call.subscription,
                "registrationName": registration.name, "resourceGroupName": registration.group,
                "operation": text("operation"), "status": text("status"), "error": text("error"), "details": text("details"),
                "startDate": now.strftime("%m-%d-%Y %H:%M:%S").to_string(), "endDate": now.strftime("%m-%d-%Y %H:%M:%S").to_string(),
            });
            azure.product_logs.push(ProductLog(log.clone()));
            // Yesterday's news: a log is for looking at, not for keeping.
            let most = azure.product_logs.len().saturating_sub(1_000);
            azure.product_logs.drain(..most);
            Ok(http::json(200, &log))
        }
        _ => not_allowed(),
    }
}

impl State {
    /// How long an address from `listDetails` may be read.
    pub(crate) fn signed_for(&self) -> SignedDuration {
        SignedDuration::from_secs(self.signed_for.load(std::sync::atomic::Ordering::Relaxed))
    }
}
