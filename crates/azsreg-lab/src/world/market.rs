//! The marketplace items of a stamp: what it downloads, what it has, and the operations that its clients follow
//! (`facts-stamp.md` section 2).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::arm::{Answer, ArmError};
use super::stamp::Stamp;

/// The state of a downloaded product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ItemState {
    Downloading,
    Succeeded,
    Failed,
}

/// A product that the stamp has, or is about to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Downloaded {
    /// The product's name.
    pub name: String,
    /// Its properties, as the catalogue or an import has them.
    pub properties: Value,
    /// Where its parts are, while they are read.
    pub details: Value,
    /// Whether it is whole.
    pub state: ItemState,
    /// The operation that brings it.
    pub operation: Uuid,
    /// Whether it came out of the stamp's own storage account.
    pub imported: bool,
    /// When it was begun.
    pub written: Timestamp,
}

impl Downloaded {
    /// An item that is there, of which nothing but its name is known.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            properties: json!({"displayName": name, "productKind": "virtualMachine", "payloadLength": 0}),
            details: Value::Null,
            state: ItemState::Succeeded,
            operation: Uuid::nil(),
            imported: false,
            written: Timestamp::UNIX_EPOCH,
        }
    }
}

/// An operation on a product.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// The product's name.
    pub product: String,
    /// The product's display name.
    pub title: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// `None` while it goes on.
    pub result: Option<Result<(), Value>>,
    /// From 0 to 100.
    pub percent: f64,
}

impl Operation {
    /// The status body.
    #[must_use]
    pub fn body(&self, id: &str) -> Value {
        let mut body = json!({
            "id": id, "name": self.id, "startTime": self.started, "percentComplete": self.percent,
            "properties": {"productDisplayName": self.title},
            "status": match self.result { None => "Running", Some(Ok(())) => "Succeeded", Some(Err(_)) => "Failed" },
        });
        if let Some(ended) = self.ended {
            body["endTime"] = json!(ended);
        }
        if let Some(Err(error)) = &self.result {
            body["error"] = error.clone();
        }
        body
    }
}

/// The members that an import has to give (`facts-stamp.md` section 3).
const REQUIRED: &[&str] = &[
    "/displayName",
    "/publisherDisplayName",
    "/publisherIdentifier",
    "/productProperties",
    "/payloadLength",
    "/productKind",
    "/iconUris/small",
    "/iconUris/medium",
    "/iconUris/large",
    "/iconUris/wide",
];

impl Stamp {
    /// Whether the marketplace may be used at all: the registration that the stamp is activated for.
    ///
    /// # Errors
    /// 404 without an activation, 409 where it has expired or syndication is off.
    pub fn syndicates(&self, now: Timestamp) -> Answer<&str> {
        let activation = self.activation.as_ref().ok_or_else(|| {
            let message = "The Resource 'Microsoft.AzureBridge.Admin/activations/default' under resource group 'azurestack-activation' was not found.";
            ArmError::new(404, "ResourceNotFound", message)
        })?;
        if activation.expires <= now {
            let message = format!("The registration of this Azure Stack has expired at {}.", activation.expiration);
            return Err(ArmError::new(409, "RegistrationExpired", message));
        }
        if !activation.marketplace {
            let message = "Marketplace syndication is disabled for the registration of this Azure Stack.";
            return Err(ArmError::new(409, "MarketplaceSyndicationDisabled", message));
        }
        Ok(&activation.registration)
    }

    /// A product that the stamp has.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&Downloaded> {
        self.downloaded.iter().find(|item| item.name.eq_ignore_ascii_case(name))
    }

    /// Begins to bring a product; one that is already under way goes on.
    pub fn begin_item(
        &mut self,
        now: Timestamp,
        id: Uuid,
        name: &str,
        properties: Value,
        details: Value,
        imported: bool,
    ) -> Uuid {
        if let Some(known) = self.item(name).filter(|item| item.state == ItemState::Downloading) {
            return known.operation;
        }
        let title = properties["displayName"].as_str().unwrap_or(name).to_owned();
        self.downloaded.retain(|item| !item.name.eq_ignore_ascii_case(name));
        self.downloaded.push(Downloaded {
            name: name.to_owned(),
            properties,
            details,
            state: ItemState::Downloading,
            operation: id,
            imported,
            written: now,
        });
        let operation =
            Operation { id, product: name.to_owned(), title, started: now, ended: None, result: None, percent: 0.0 };
        self.operations.push(operation);
        // A stamp forgets the oldest: nobody follows them any more.
        let most = self.operations.len().saturating_sub(200);
        self.operations.drain(..most);
        id
    }

    /// How far an operation is; false if its product is not wanted any more.
    pub fn item_progress(&mut self, operation: Uuid, percent: f64) -> bool {
        if let Some(known) = self.operations.iter_mut().find(|known| known.id == operation) {
            known.percent = known.percent.max(percent.clamp(0.0, 100.0));
        }
        self.downloaded.iter().any(|item| item.operation == operation)
    }

    /// Ends an operation. A product that could not be brought stays as failed, until somebody deletes it.
    pub fn end_item(&mut self, now: Timestamp, operation: Uuid, result: Result<(), Value>) {
        let there = self.downloaded.iter().any(|item| item.operation == operation);
        let gone =
            || json!({"code": "OperationCancelled", "message": "The product was removed while it was downloaded."});
        let result = if there { result } else { Err(gone()) };
        for item in self.downloaded.iter_mut().filter(|item| item.operation == operation) {
            item.state = if result.is_ok() { ItemState::Succeeded } else { ItemState::Failed };
        }
        if let Some(known) = self.operations.iter_mut().find(|known| known.id == operation) {
            if result.is_ok() {
                known.percent = 100.0;
            }
            known.ended = Some(now);
            known.result = Some(result);
        }
    }

    /// Removes a product; false if there is none.
    ///
    /// # Errors
    /// 409 RequestConflict while it is downloaded.
    pub fn remove_item(&mut self, name: &str) -> Answer<bool> {
        let Some(item) = self.item(name) else { return Ok(false) };
        if item.state == ItemState::Downloading {
            let message = format!(
                "Cannot delete resource '{}/downloadedProducts/{}'. The provisioning state of the resource is not terminal: 'Downloading'. Please retry the operation after the resource has reached a terminal provisioning state.",
                self.activation_id(),
                item.name
            );
            return Err(ArmError::new(409, "RequestConflict", message));
        }
        let name = item.name.clone();
        self.downloaded.retain(|item| item.name != name);
        Ok(true)
    }

    /// What an import puts: its properties, and where its parts are.
    ///
    /// # Errors
    /// 400 for a member that is missing.
    pub fn import_of(body: &Value) -> Answer<(Value, Value)> {
        let properties = body.get("properties").cloned().unwrap_or_default();
        let missing: Vec<&str> =
            REQUIRED.iter().copied().filter(|pointer| properties.pointer(pointer).is_none_or(Value::is_null)).collect();
        if !missing.is_empty() {
            let names = missing.join(", ").replace('/', ".").replace("..", ".");
            let message = format!(
                "The request content is invalid: these properties are missing: {}.",
                names.trim_start_matches('.')
            );
            return Err(ArmError::new(400, "InvalidRequestContent", message));
        }
        let details = json!({
            "galleryPackageBlobSasUri": properties["galleryPackageBlobSasUri"],
            "properties": properties["productDetailsProperties"],
        });
        Ok((properties, details))
    }

    /// A product's body. Icons lie in the stamp once it is whole.
    #[must_use]
    pub fn item_body(&self, item: &Downloaded) -> Value {
        let mut properties = item.properties.clone();
        properties["provisioningState"] = json!(item.state);
        if item.state == ItemState::Succeeded
            && let Some(icons) = properties["iconUris"].as_object_mut()
        {
            for (size, uri) in icons {
                *uri =
                    json!(format!("https://azurebridgerp.blob.{}:443/producticons/{}/{size}", self.domain, item.name));
            }
        }
        if let Some(uri) = item.details.get("galleryPackageBlobSasUri").filter(|uri| uri.is_string()) {
            properties["galleryPackageBlobSasUri"] = json!(unsigned(uri.as_str().unwrap_or_default()));
        }
        if let Some(details) = item.details.get("properties").filter(|details| details.is_object()) {
            properties["productDetailsProperties"] = details.clone();
            strip(&mut properties["productDetailsProperties"]);
        }
        json!({
            "id": format!("{}/downloadedProducts/{}", self.activation_id(), item.name),
            "name": format!("default/{}", item.name),
            "type": "Microsoft.AzureBridge.Admin/activations/downloadedProducts",
            "etag": format!("W/\"datetime'{}'\"", item.written),
            "properties": properties,
        })
    }
}

/// An address without its signature.
fn unsigned(uri: &str) -> &str {
    uri.split('?').next().unwrap_or(uri)
}

/// Takes the signatures off every address.
fn strip(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("https://") => *text = unsigned(text).to_owned(),
        Value::Object(members) => members.values_mut().for_each(strip),
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Every address of a part: the package, disks, archives, containers.
#[must_use]
pub fn parts(details: &Value) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) if text.starts_with("https://") => found.push(text.clone()),
            Value::Object(members) => members.values().for_each(|inner| walk(inner, found)),
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(details, &mut found);
    found
}
