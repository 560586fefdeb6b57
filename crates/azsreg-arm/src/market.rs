//! The marketplace of a stamp, over its admin Resource Manager (`facts-stamp.md` section 2).

use azsreg_model::{ItemProgress, Problem, Product, StampInformation, StampItem, code};
use azsreg_operations::marketplace::{StampMarket, stamp, unknown};
use azsreg_operations::ports::{Class, PortError, Records as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::absent::{self, says_absent};
use crate::error::ArmError;
use crate::products::{is_named, item, product, segment};
use crate::records::{BRIDGE, RecordsPort};
use crate::storage::StampStorage;

/// The marketplace of one stamp, and the storage account for what is carried to it.
pub struct MarketPort<'r, 'a> {
    pub(crate) records: &'r RecordsPort<'a>,
    pub(crate) information: StampInformation,
    pub(crate) storage: StampStorage,
    pub(crate) sent: Box<dyn Fn(u64)>,
}

impl<'r, 'a> MarketPort<'r, 'a> {
    /// The marketplace of a stamp whose records somebody may read. `sent` is told of the bytes that were uploaded.
    #[must_use]
    pub fn new(records: &'r RecordsPort<'a>, information: &StampInformation, sent: Box<dyn Fn(u64)>) -> Self {
        Self { records, information: information.clone(), storage: StampStorage::default(), sent }
    }

    async fn list(&self, kind: &str) -> Result<Vec<Value>, PortError> {
        let (manager, path) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let path = format!("{path}/{kind}");
        match manager.resources(&path, BRIDGE, absent::NEVER, kind).await {
            Ok(found) => Ok(found),
            // A stamp that is not activated has none; of one that is, the list is there.
            Err(error) if says_absent(&error, absent::RESOURCE) => {
                self.activated().await?;
                Err(refused(self.records, error))
            }
            Err(error) => Err(refused(self.records, error)),
        }
    }

    /// The resource of an item, if it is there.
    async fn one(&self, kind: &str, name: &str) -> Result<Option<Value>, PortError> {
        let (manager, path) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let path = format!("{path}/{kind}/{}", segment(name));
        let found = manager.find(&path, BRIDGE, absent::ITEM).await.map_err(|error| refused(self.records, error))?;
        match found {
            Some(found) if !is_named(&found, name) => {
                Err(self.records.failed(manager.unclear(&path, "the answer is not that item")))
            }
            found => Ok(found),
        }
    }

    /// A list that is empty may be that of a stamp that is not activated.
    async fn activated(&self) -> Result<(), PortError> {
        if self.records.activation(&self.information).await?.is_some() {
            return Ok(());
        }
        let message = format!("the stamp {} is not activated: it has no marketplace", self.information.cloud_id);
        let problem = Problem::new(&code::NOT_REGISTERED, message).cause("The stamp has no activation record.");
        Err(PortError::permanent(problem.next(
            "azsreg status  shows what is missing; connected: azsreg register, disconnected: azsreg offline token.",
        )))
    }
}

/// What the stamp refuses: the words of Azure are mostly inside.
fn refused(records: &RecordsPort<'_>, error: ArmError) -> PortError {
    let ArmError::Refused { code: inner, message, request_id, .. } = &error else { return records.failed(error) };
    let with_id = |problem: Problem| match request_id {
        Some(id) => problem.detail(format!("x-ms-request-id: {id}")),
        None => problem,
    };
    // The stamp's own refusals of its operator have codes that Azure's refusals of the bridge have too.
    let operator =
        ["Authorization", "Authentication", "InvalidAuthentication", "ExpiredAuthentication", "SubscriptionNotFound"];
    if operator.iter().any(|begins| inner.starts_with(begins)) {
        return records.failed(error);
    }
    if let Some(problem) = stamp::refusal(inner, message) {
        return PortError::permanent(with_id(problem));
    }
    let problem = match inner.as_str() {
        "AzureUnreachable" => Problem::new(&code::STAMP_OFFLINE, "the stamp can't reach Azure"),
        "RequestConflict" => Problem::new(&code::ITEM_BUSY, "the stamp is still at work on the item"),
        "ProductNotCompatible" => Problem::new(&code::ITEM_INCOMPATIBLE, "the item is not for this stamp"),
        "RegistrationNotAccessible" => Problem::new(&code::SYNDICATION_REFUSED, "the stamp can't use its registration"),
        "OperationNotFound" => Problem::new(&code::ITEM_UNKNOWN, "the stamp does not know the operation any more"),
        _ => return records.failed(error),
    };
    let problem = with_id(problem.detail(stamp::words(inner, message)));
    PortError::new(Class::Permanent, problem)
}

impl StampMarket for MarketPort<'_, '_> {
    async fn products(&self) -> Result<Vec<Product>, PortError> {
        let found = self.list("products").await?;
        if found.is_empty() {
            self.activated().await?;
        }
        Ok(found.iter().filter_map(product).collect())
    }

    async fn product(&self, name: &str) -> Result<Option<Product>, PortError> {
        Ok(self.one("products", name).await?.as_ref().and_then(product))
    }

    async fn items(&self) -> Result<Vec<StampItem>, PortError> {
        let found = self.list("downloadedProducts").await?;
        if found.is_empty() {
            self.activated().await?;
        }
        Ok(found.iter().filter_map(item).collect())
    }

    async fn item(&self, name: &str) -> Result<Option<StampItem>, PortError> {
        Ok(self.one("downloadedProducts", name).await?.as_ref().and_then(item))
    }

    async fn download(&self, name: &str) -> Result<Option<String>, PortError> {
        let (manager, path) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let path = format!("{path}/products/{}/download", segment(name));
        match manager.begin(Method::POST, &path, BRIDGE, None).await {
            Ok(operation) => Ok(operation),
            Err(error) if says_absent(&error, absent::ITEM) => Err(PortError::permanent(unknown(name, &[]))),
            Err(error) => Err(refused(self.records, error)),
        }
    }

    async fn progress(&self, operation: &str) -> Result<ItemProgress, PortError> {
        let (manager, _) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let body = match manager.look(operation).await {
            Ok(body) => body,
            Err(error) if says_absent(&error, absent::ITEM) => {
                let problem = Problem::new(&code::ITEM_UNKNOWN, "the stamp does not know the operation any more");
                return Err(PortError::permanent(problem));
            }
            Err(error) => return Err(refused(self.records, error)),
        };
        let percent = body["percentComplete"].as_f64().filter(|percent| (0.0..=100.0).contains(percent));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let percent = percent.map(|percent| percent as u8);
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(match body["status"].as_str().unwrap_or("Running").to_lowercase().as_str() {
            "succeeded" => ItemProgress::Succeeded,
            status @ ("failed" | "canceled" | "cancelled") => {
                let code = text("/error/code");
                ItemProgress::Failed(if code.is_empty() { status.to_owned() } else { code }, text("/error/message"))
            }
            _ => ItemProgress::Running(percent),
        })
    }

    async fn remove(&self, name: &str) -> Result<(), PortError> {
        let (manager, path) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let path = format!("{path}/downloadedProducts/{}", segment(name));
        manager.delete(&path, BRIDGE, absent::ITEM).await.map_err(|error| refused(self.records, error))
    }

    async fn put(&self, name: &str, properties: &Value) -> Result<Option<String>, PortError> {
        let (manager, path) = self.records.at(&self.information).await.map_err(|error| self.records.failed(error))?;
        let path = format!("{path}/downloadedProducts/{}", segment(name));
        let body = json!({ "properties": properties });
        match manager.begin(Method::PUT, &path, BRIDGE, Some(&body)).await {
            Ok(operation) => Ok(operation),
            Err(error) if says_absent(&error, absent::ITEM) => {
                self.activated().await?;
                Err(refused(self.records, error))
            }
            Err(error) => Err(refused(self.records, error)),
        }
    }
}
