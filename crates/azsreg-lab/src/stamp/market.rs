//! Marketplace items over the stamp's admin Resource Manager, fetched with the bridge's own principal
//! (`facts-stamp.md` section 2).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::StatusCode;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use uuid::Uuid;

use super::link::Refusal;
use super::storage::named_blob;
use crate::http::{self, Read, Reply, header, text};
use crate::lab::{StampState, State};
use crate::world::arm::ArmError;
use crate::world::market::{ItemState, parts};
use crate::world::stamp::Stamp;

/// What the bridge speaks to Azure.
const AZURE: &str = "2016-01-01";

type Answer = Result<Reply, ArmError>;

/// What Azure refused, as the stamp tells its operator (the article, "Registration failures": "unable to access the
/// registration resource").
fn refused(refusal: Refusal) -> ArmError {
    match refusal {
        Refusal::Unreachable(why) => ArmError::new(502, "AzureUnreachable", why),
        Refusal::Azure { code, message } => ArmError {
            details: Some(json!([{"code": code, "message": message}])),
            ..ArmError::new(
                409,
                "RegistrationNotAccessible",
                format!("Azure Stack is unable to access the registration resource. {code}: {message}"),
            )
        },
    }
}

/// A session with Azure: a token, and where the registration's products are.
struct Azure {
    token: String,
    base: String,
    device: Value,
}

impl Azure {
    async fn open(state: &State, stamp: &StampState) -> Result<Self, ArmError> {
        let (bridge, registration, device) = {
            let world = stamp.world();
            let registration = world.syndicates(state.now())?.to_owned();
            let identity = if world.options.identity == "adfs" { "ADFS" } else { "AzureAD" };
            let device = json!({"deviceVersion": world.options.build, "identitySystem": identity});
            (world.bridge.clone(), registration, device)
        };
        let none =
            || Refusal::Unreachable("Unable to connect to the remote server: this Azure Stack is disconnected.".into());
        let bridge = bridge.ok_or_else(none).map_err(refused)?;
        let token = stamp.link.sign_in(state.urls(), &bridge, &state.urls().arm).await.map_err(refused)?;
        Ok(Self { token, base: format!("{}{registration}/products", state.urls().arm), device })
    }

    async fn post(&self, stamp: &StampState, path: &str, body: &Value) -> Result<Value, ArmError> {
        let url = format!("{}/{path}?api-version={AZURE}", self.base);
        stamp.link.call(&url, &self.token, Some(body)).await.map_err(refused)
    }

    /// A product as Azure has it, with what this stamp makes of it.
    async fn product(&self, stamp: &StampState, name: &str) -> Result<Value, ArmError> {
        self.post(stamp, &format!("{name}/getProduct"), &self.device).await.map_err(|error| {
            let missing = error.details.as_ref().is_some_and(|details| details[0]["code"] == "ProductNotFound");
            if missing { not_found("products", name) } else { error }
        })
    }
}

fn not_found(kind: &str, name: &str) -> ArmError {
    let message = format!(
        "The Resource 'Microsoft.AzureBridge.Admin/activations/default/{kind}/{name}' under resource group 'azurestack-activation' was not found."
    );
    ArmError::new(404, "ResourceNotFound", message)
}

/// A product of Azure as one of the stamp's.
fn as_ours(world: &Stamp, product: &Value) -> Value {
    let name = product["name"].as_str().unwrap_or_default();
    let name = name.split_once('/').map_or(name, |(_, name)| name);
    let mut properties = product["properties"].clone();
    let state = world.item(name).map_or("Succeeded", |item| match item.state {
        ItemState::Downloading => "Downloading",
        ItemState::Succeeded => "Succeeded",
        ItemState::Failed => "Failed",
    });
    properties["provisioningState"] = json!(state);
    json!({
        "id": format!("{}/products/{name}", world.activation_id()), "name": format!("default/{name}"),
        "type": "Microsoft.AzureBridge.Admin/activations/products", "properties": properties,
    })
}

/// A call below `activations/default`: `rest` as written.
pub(super) async fn handle(state: &Arc<State>, stamp: &Arc<StampState>, request: &Read, rest: &[String]) -> Answer {
    let lower: Vec<String> = rest.iter().map(|part| part.to_ascii_lowercase()).collect();
    let parts: Vec<&str> = lower.iter().map(String::as_str).collect();
    let name = rest.get(1).map(String::as_str).unwrap_or_default();
    match (request.method().as_str(), &parts[..]) {
        ("GET", ["products"]) => {
            let items = offers(state, stamp).await?;
            Ok(http::page(request, &stamp.urls().admin_arm, state.options.page_size, items))
        }
        ("GET", ["products", _]) => {
            let azure = Azure::open(state, stamp).await?;
            let found = azure.product(stamp, name).await?;
            Ok(http::json(200, &as_ours(&stamp.world(), &found)))
        }
        ("POST", ["products", _, "download"]) => match download(state, stamp, name).await? {
            Download::Here(body) => Ok(http::json(200, &body)),
            Download::Going(operation, body) => Ok(accepted(stamp, operation, &body)),
        },
        ("GET", ["downloadedproducts"]) => {
            let world = stamp.world();
            let items = world.downloaded.iter().map(|item| world.item_body(item)).collect();
            Ok(http::page(request, &stamp.urls().admin_arm, state.options.page_size, items))
        }
        ("GET", ["downloadedproducts", _]) => {
            let world = stamp.world();
            let item = world.item(name).ok_or_else(|| not_found("downloadedProducts", name))?;
            Ok(http::json(200, &world.item_body(item)))
        }
        ("PUT", ["downloadedproducts", _]) => import(state, stamp, request, name),
        ("DELETE", ["downloadedproducts", _]) => {
            let removed = stamp.world().remove_item(name)?;
            Ok(if removed { http::json(200, &json!({})) } else { text(StatusCode::NO_CONTENT, "") })
        }
        (_, ["products" | "downloadedproducts", ..]) => Ok(text(StatusCode::METHOD_NOT_ALLOWED, "")),
        _ => Err(ArmError::new(
            404,
            "InvalidResourceType",
            "The resource type could not be found in the namespace 'Microsoft.AzureBridge.Admin'.",
        )),
    }
}

/// 202 with the two addresses that clients follow.
fn accepted(stamp: &StampState, operation: Uuid, body: &Value) -> Reply {
    let mut reply = http::json(202, body);
    let url = {
        let world = stamp.world();
        format!(
            "{}/subscriptions/{}/providers/Microsoft.AzureBridge.Admin/locations/{}/operationResults/{operation}?api-version=2016-01-01",
            stamp.urls().admin_arm,
            world.provider_subscription,
            world.region
        )
    };
    header(&mut reply, "azure-asyncoperation", &url);
    header(&mut reply, "location", &format!("{url}&operationResultResponseType=Location"));
    header(&mut reply, "retry-after", "1");
    reply
}

/// What Azure offers to this stamp, each as one of its own products.
pub(super) async fn offers(state: &State, stamp: &StampState) -> Result<Vec<Value>, ArmError> {
    let azure = Azure::open(state, stamp).await?;
    let found = azure.post(stamp, "_all/getProducts", &azure.device).await?;
    let world = stamp.world();
    Ok(found["value"].as_array().into_iter().flatten().map(|item| as_ours(&world, item)).collect())
}

/// What came of asking for a product: the item's body, and the operation that brings it.
pub(super) enum Download {
    Here(Value),
    Going(Uuid, Value),
}

/// Begins to download a product, unless the stamp has it or is about it.
pub(super) async fn download(state: &Arc<State>, stamp: &Arc<StampState>, name: &str) -> Result<Download, ArmError> {
    let azure = Azure::open(state, stamp).await?;
    let product = azure.product(stamp, name).await?;
    let properties = product["properties"].clone();
    if properties["compatibility"]["isCompatible"] == json!(false) {
        let why = properties["compatibility"]["description"].as_str().unwrap_or_default();
        return Err(ArmError::new(
            400,
            "ProductNotCompatible",
            format!("The product '{name}' is not compatible with this Azure Stack. {why}"),
        ));
    }
    // Azure's own way to write the name.
    let known =
        product["name"].as_str().and_then(|full| full.split_once('/')).map_or(name, |(_, name)| name).to_owned();
    let (operation, body, begun) = {
        let id = state.azure_draw_guid();
        let mut world = stamp.world();
        let going = world.item(&known).cloned();
        if let Some(item) = going.as_ref().filter(|item| item.state == ItemState::Succeeded) {
            return Ok(Download::Here(world.item_body(item)));
        }
        if going.as_ref().is_some_and(|item| item.state == ItemState::Failed) {
            let message = "The last operation on the product failed. Please delete failed resource and retry the operation again.";
            return Err(ArmError::new(409, "RequestConflict", message));
        }
        let operation = world.begin_item(state.now(), id, &known, properties, Value::Null, false);
        let body = world.item(&known).map(|item| world.item_body(item)).unwrap_or_default();
        (operation, body, going.is_none())
    };
    if begun {
        spawn(state, stamp, &known, operation);
    }
    Ok(Download::Going(operation, body))
}

fn import(state: &Arc<State>, stamp: &Arc<StampState>, request: &Read, name: &str) -> Answer {
    let body: Value = serde_json::from_slice(request.body()).map_err(|_| {
        ArmError::new(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
    })?;
    let (properties, details) = Stamp::import_of(&body)?;
    let id = state.azure_draw_guid();
    let (operation, body, begun) = {
        let mut world = stamp.world();
        // An import needs no syndication: a stamp that is registered may have items.
        if world.activation.is_none() {
            let message = "The Resource 'Microsoft.AzureBridge.Admin/activations/default' under resource group 'azurestack-activation' was not found.";
            return Err(ArmError::new(404, "ResourceNotFound", message));
        }
        let going = world.item(name).is_some_and(|item| item.state == ItemState::Downloading);
        let operation = world.begin_item(state.now(), id, name, properties, details, true);
        let body = world.item(name).map(|item| world.item_body(item)).unwrap_or_default();
        (operation, body, !going)
    };
    if begun {
        spawn(state, stamp, name, operation);
    }
    Ok(accepted(stamp, operation, &body))
}

/// `locations/{region}/operationResults/{id}`: as a status, or as the resource for who follows `Location`.
pub(super) fn operation(stamp: &StampState, request: &Read, id: &str) -> Answer {
    let query = http::pairs(request.uri().query().unwrap_or_default());
    let by_location =
        http::value(&query, "operationResultResponseType").is_some_and(|kind| kind.eq_ignore_ascii_case("Location"));
    let world = stamp.world();
    let wanted: Option<Uuid> = id.parse().ok();
    let missing = || ArmError::new(404, "OperationNotFound", format!("The operation '{id}' was not found."));
    let operation = world.operations.iter().find(|known| Some(known.id) == wanted).ok_or_else(missing)?;
    if !by_location {
        let mut reply = http::json(200, &operation.body(request.uri().path()));
        if operation.result.is_none() {
            header(&mut reply, "retry-after", "1");
        }
        return Ok(reply);
    }
    match &operation.result {
        None => {
            let (id, body) = (operation.id, operation.body(request.uri().path()));
            drop(world);
            Ok(accepted(stamp, id, &body))
        }
        Some(Ok(())) => {
            let item =
                world.item(&operation.product).ok_or_else(|| not_found("downloadedProducts", &operation.product))?;
            Ok(http::json(200, &world.item_body(item)))
        }
        Some(Err(error)) => {
            let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            Err(ArmError::new(409, &text("code"), text("message")))
        }
    }
}

/// Goes on with what was being brought when the lab was stopped.
pub(crate) fn resume(state: &Arc<State>) {
    for stamp in &state.stamps {
        let going: Vec<(String, Uuid)> = {
            let world = stamp.world();
            let going = world.downloaded.iter().filter(|item| item.state == ItemState::Downloading);
            going.map(|item| (item.name.clone(), item.operation)).collect()
        };
        for (name, operation) in going {
            spawn(state, stamp, &name, operation);
        }
    }
}

/// Brings a product, whoever asked for it: the client may be gone.
fn spawn(state: &Arc<State>, stamp: &Arc<StampState>, name: &str, operation: Uuid) {
    let (state, stamp, name) = (Arc::clone(state), Arc::clone(stamp), name.to_owned());
    tokio::spawn(async move {
        let result = bring(&state, &stamp, &name, operation).await;
        let result = result.map_err(|error| error.body()["error"].take());
        let failed = result.as_ref().err().cloned();
        stamp.world().end_item(state.now(), operation, result);
        // What is not kept now is kept before anybody is told of it.
        let _ = state.keep().await;
        log(&state, &stamp, &name, failed).await;
    });
}

/// Tells Azure how it went, as far as Azure listens.
async fn log(state: &State, stamp: &StampState, name: &str, failed: Option<Value>) {
    if let Ok(azure) = Azure::open(state, stamp).await {
        let text = |name: &str| failed.as_ref().and_then(|error| error[name].as_str()).unwrap_or_default().to_owned();
        let status = if failed.is_none() { "Succeeded" } else { "Failed" };
        let body =
            json!({"operation": "Download", "status": status, "error": text("code"), "details": text("message")});
        let _ = azure.post(stamp, &format!("{name}/uploadProductLog"), &body).await;
    }
}

async fn bring(state: &Arc<State>, stamp: &Arc<StampState>, name: &str, operation: Uuid) -> Result<(), ArmError> {
    let item = stamp.world().item(name).cloned().ok_or_else(|| not_found("downloadedProducts", name))?;
    if item.imported {
        for part in parts(&item.details) {
            named_blob(state, stamp, &part).map_err(|why| ArmError::new(400, "SourceBlobNotAccessible", why))?;
        }
        // A stamp takes a moment to put it into its gallery.
        return paced(state, stamp, operation, item.properties["payloadLength"].as_u64().unwrap_or(0)).await;
    }
    let azure = Azure::open(state, stamp).await?;
    let details = azure.post(stamp, &format!("{name}/listDetails"), &json!({})).await?;
    for kept in stamp.world().downloaded.iter_mut().filter(|item| item.operation == operation) {
        kept.details.clone_from(&details);
    }
    // What it can't do without comes along.
    for needed in details["properties"]["dependentProducts"].as_array().into_iter().flatten().filter_map(Value::as_str)
    {
        if stamp.world().item(needed).is_none() {
            let product = azure.product(stamp, needed).await?;
            let id = state.azure_draw_guid();
            let properties = product["properties"].clone();
            let begun = stamp.world().begin_item(state.now(), id, needed, properties, Value::Null, false);
            spawn(state, stamp, needed, begun);
        }
    }
    let total = item.properties["payloadLength"].as_u64().unwrap_or(0).max(1);
    let mut have = 0;
    for part in parts(&details) {
        let mut answer = stamp.link.blob(&part).await.map_err(refused)?;
        let expected = answer.content_length();
        let wanted = answer.headers().get("content-md5").and_then(|md5| BASE64_STANDARD.decode(md5).ok());
        let (mut sum, mut of_part) = (Md5::new(), 0);
        while let Some(chunk) = answer.chunk().await.map_err(|error| refused(Refusal::broken(error)))? {
            if wanted.is_some() {
                sum.update(&chunk);
            }
            of_part += chunk.len() as u64;
            have += chunk.len() as u64;
            #[allow(clippy::cast_precision_loss)]
            let percent = have as f64 / total as f64 * 100.0;
            if !stamp.world().item_progress(operation, percent.min(99.0)) {
                return Err(ArmError::new(
                    409,
                    "OperationCancelled",
                    "The product was removed while it was downloaded.",
                ));
            }
            pause(stamp, chunk.len() as u64).await;
        }
        let whole = expected.is_none_or(|expected| expected == of_part);
        if !whole || wanted.is_some_and(|wanted| wanted[..] != sum.finalize()[..]) {
            return Err(ArmError::new(
                409,
                "ContentMismatch",
                "A downloaded file is not what the storage service says that it is.",
            ));
        }
    }
    Ok(())
}

/// As long as a stamp of this rate takes for so many bytes; without a rate, no time.
async fn pause(stamp: &StampState, bytes: u64) {
    let rate = stamp.download_rate.load(Ordering::Relaxed);
    match bytes.saturating_mul(1_000).checked_div(rate) {
        Some(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        None => tokio::task::yield_now().await,
    }
}

async fn paced(_: &State, stamp: &StampState, operation: Uuid, total: u64) -> Result<(), ArmError> {
    const STEPS: u32 = 20;
    for step in 1..=STEPS {
        pause(stamp, total / u64::from(STEPS)).await;
        if !stamp.world().item_progress(operation, f64::from(step) / f64::from(STEPS) * 99.0) {
            return Err(ArmError::new(409, "OperationCancelled", "The product was removed while it was imported."));
        }
    }
    Ok(())
}
