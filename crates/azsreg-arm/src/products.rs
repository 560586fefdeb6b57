//! Products as Azure and a stamp write them, and Azure's marketplace as a registration sees it
//! (`facts-azure-api.md` section 4; Swagger, Microsoft.AzureStack Product.json).

use azsreg_model::redact;
use azsreg_model::{
    Compatibility, ItemState, Part, PartRole, Product, ProductDetails, ProductKind, RegistrationId, StampItem,
    is_file_name,
};
use azsreg_operations::marketplace::{Catalogue, Device};
use azsreg_operations::ports::PortError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::absent::{self, is_of_kind, says_absent};
use crate::azure::AzurePort;
use crate::error::ArmError;

/// What the offline tool speaks, and every cloud knows.
const PRODUCTS: &str = "2016-01-01";
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as a segment of a path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a resource is the item of this name.
pub(crate) fn is_named(resource: &Value, name: &str) -> bool {
    product(resource).is_some_and(|found| found.name.eq_ignore_ascii_case(name))
}

/// A product out of its resource, of Azure's or of a stamp's provider; `None` where it has no name.
#[must_use]
pub fn product(resource: &Value) -> Option<Product> {
    let name = text(resource, "/name");
    let name = name.split_once('/').map_or(name, |(_, name)| name);
    // A name that leads elsewhere as a path is none.
    if !is_file_name(name) {
        return None;
    }
    let mut properties = resource.get("properties").cloned().unwrap_or_default();
    let compatibility =
        properties.get("compatibility").filter(|known| known["isCompatible"].is_boolean()).map(|known| {
            // A stamp says "None" where there is nothing to say.
            let why = [text(known, "/description"), text(known, "/message")];
            let why = why.into_iter().find(|why| !why.is_empty() && *why != "None").unwrap_or_default();
            let issues = known["issues"].as_array().into_iter().flatten();
            Compatibility {
                is_compatible: known["isCompatible"].as_bool().unwrap_or(true),
                why: why.to_owned(),
                issues: issues.filter_map(|issue| issue.as_str().map(str::to_owned)).collect(),
            }
        });
    let icons = properties.get("iconUris").and_then(Value::as_object).into_iter().flatten();
    let icons = icons
        .filter_map(|(size, uri)| Some((size.clone(), uri.as_str().filter(|uri| !uri.is_empty())?.to_owned())))
        .filter(|(size, _)| is_file_name(size))
        .collect();
    strip(&mut properties);
    let title = [text(&properties, "/displayName"), name].into_iter().find(|title| !title.is_empty());
    Some(Product {
        name: name.to_owned(),
        title: title.unwrap_or_default().to_owned(),
        publisher: text(&properties, "/publisherDisplayName").to_owned(),
        kind: ProductKind::from(text(&properties, "/productKind").to_owned()),
        version: text(&properties, "/productProperties/version").to_owned(),
        bytes: properties.get("payloadLength").and_then(Value::as_u64),
        compatibility,
        legal_terms: text(&properties, "/legalTerms").to_owned(),
        description: text(&properties, "/description").to_owned(),
        gallery_item: text(&properties, "/galleryItemIdentity").to_owned(),
        icons,
        properties,
    })
}

/// An item of a stamp.
#[must_use]
pub fn item(resource: &Value) -> Option<StampItem> {
    let state = ItemState::from(text(resource, "/properties/provisioningState"));
    Some(StampItem { product: product(resource)?, state })
}

/// What `listDetails` gives: the parts, under the names that the offline tool gives them (`facts-stamp.md` section 3).
///
/// # Errors
/// A product without a part to fetch, or with a name that is none for a file.
pub fn details(product: &Product, body: &Value) -> Result<ProductDetails, ArmError> {
    let bad = |why: String| ArmError::Unreadable { host: "Azure".into(), reason: format!("{}: {why}", product.name) };
    let gallery = if product.gallery_item.is_empty() { &product.name } else { &product.gallery_item };
    let mut inner = body.get("properties").cloned().unwrap_or_default();
    let mut parts: Vec<Part> = Vec::new();
    let mut add = |role, pointer: String, file: String, address: &str| {
        if !address.is_empty() {
            // Whoever has the signature has the file.
            if let Some((_, signature)) = address.split_once("sig=") {
                let signature = signature.split('&').next().unwrap_or_default();
                redact::remember(&percent_decode_str(signature).decode_utf8_lossy());
            }
            parts.push(Part { role, pointer, file, address: address.to_owned().into() });
        }
    };
    let of = |rest: &str| format!("/productDetailsProperties{rest}");
    add(
        PartRole::Package,
        "/galleryPackageBlobSasUri".into(),
        format!("{gallery}.azpkg"),
        text(body, "/galleryPackageBlobSasUri"),
    );
    let disk = text(&inner, "/osDiskImage/sourceBlobSasUri");
    add(PartRole::OsDisk, of("/OsDiskImage/sourceBlobSasUri"), format!("{gallery}.vhd"), disk);
    for (at, image) in inner["dataDiskImages"].as_array().into_iter().flatten().enumerate() {
        let lun = image["lun"].as_u64().unwrap_or(at as u64);
        let pointer = of(&format!("/DataDiskImages/{at}/sourceBlobSasUri"));
        add(PartRole::DataDisk, pointer, format!("{gallery}-lun{lun}.vhd"), text(image, "/sourceBlobSasUri"));
    }
    add(PartRole::Archive, of("/sourceBlob/uri"), format!("{gallery}.zip"), text(&inner, "/sourceBlob/uri"));
    for (at, container) in inner["fileContainers"].as_array().into_iter().flatten().enumerate() {
        let (id, address) = (text(container, "/id"), text(container, "/sourceUri"));
        let last = unsigned(address).rsplit('/').next().unwrap_or_default();
        let ending = match text(container, "/type").to_lowercase().contains("zip") {
            true => ".zip".to_owned(),
            false => last.rsplit_once('.').map_or_else(String::new, |(_, ending)| format!(".{ending}")),
        };
        add(PartRole::Container, of(&format!("/fileContainers/{at}/sourceUri")), format!("{id}{ending}"), address);
    }
    if let Some(part) = parts.iter().find(|part| !is_file_name(&part.file)) {
        return Err(bad(format!("{:?} is no name for a file", part.file)));
    }
    if product.kind == ProductKind::VirtualMachine && disk.is_empty() {
        return Err(bad("Azure gave no address of its disk".into()));
    }
    if parts.is_empty() {
        return Err(bad("Azure gave no address to download it from".into()));
    }
    let dependents = Product::depends_on(&inner);
    strip(&mut inner);
    // As the old tool writes it: these two begin with a capital there, and an extension's archive is a file's name.
    for (name, written) in [("osDiskImage", "OsDiskImage"), ("dataDiskImages", "DataDiskImages")] {
        if let Some(value) = inner.as_object_mut().and_then(|inner| inner.remove(name)) {
            inner[written] = value;
        }
    }
    if inner["sourceBlob"]["uri"].is_string() {
        inner["sourceBlob"]["uri"] = json!(format!("{gallery}.zip"));
    }
    let mut properties = json!({
        "galleryPackageBlobSasUri": unsigned(text(body, "/galleryPackageBlobSasUri")), "productDetailsProperties": inner,
    });
    // At the top the old tool has ids alone.
    if let Some(containers) = properties["productDetailsProperties"]["fileContainers"].as_array() {
        let ids: Vec<Value> = containers.iter().map(|container| json!({"id": container["id"]})).collect();
        properties["fileContainers"] = json!(ids);
    }
    if let Some(names) = properties["productDetailsProperties"].get("dependentProducts").cloned() {
        properties["dependentProducts"] = names;
    }
    Ok(ProductDetails { parts, dependents, properties })
}

/// An address without its signature.
fn unsigned(address: &str) -> &str {
    address.split('?').next().unwrap_or(address)
}

/// Takes the signatures off every address.
fn strip(value: &mut Value) {
    match value {
        Value::String(text) if text.get(..8).is_some_and(|head| head.eq_ignore_ascii_case("https://")) => {
            *text = unsigned(text).to_owned();
        }
        Value::Object(members) => members.values_mut().for_each(strip),
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The body that says which stamp it is.
fn configuration(device: &Device) -> Value {
    json!({"deviceVersion": device.build, "identitySystem": device.identity})
}

impl Catalogue for AzurePort<'_> {
    async fn products(&self, id: &RegistrationId, device: Option<&Device>) -> Result<Vec<Product>, PortError> {
        let found = match device {
            None => self.manager().resources(&format!("{id}/products"), PRODUCTS, absent::RESOURCE, "products").await?,
            Some(device) => {
                let path = format!("{id}/products/_all/getProducts");
                let mut body = self.manager().call(Method::POST, &path, PRODUCTS, Some(&configuration(device))).await?;
                match body.get_mut("value").map(Value::take) {
                    Some(Value::Array(found)) if found.iter().all(|one| is_of_kind(one, "products")) => found,
                    _ => return Err(self.manager().unclear(&path, "the answer is no list of products").into()),
                }
            }
        };
        Ok(found.iter().filter_map(product).collect())
    }

    async fn product(
        &self,
        id: &RegistrationId,
        name: &str,
        device: Option<&Device>,
    ) -> Result<Option<Product>, PortError> {
        let path = format!("{id}/products/{}", segment(name));
        let found = match device {
            None => self.manager().find(&path, PRODUCTS, absent::ITEM).await?,
            Some(device) => {
                let path = format!("{path}/getProduct");
                match self.manager().call(Method::POST, &path, PRODUCTS, Some(&configuration(device))).await {
                    Ok(found) => Some(found),
                    Err(error) if says_absent(&error, absent::ITEM) => None,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        match found {
            Some(found) if !is_named(&found, name) => {
                Err(self.manager().unclear(&path, "the answer is not that item").into())
            }
            found => Ok(found.as_ref().and_then(product)),
        }
    }

    async fn product_details(&self, id: &RegistrationId, name: &str) -> Result<ProductDetails, PortError> {
        let path = format!("{id}/products/{}", segment(name));
        let found = self.manager().find(&path, PRODUCTS, absent::ITEM).await?;
        if found.as_ref().is_some_and(|found| !is_named(found, name)) {
            return Err(self.manager().unclear(&path, "the answer is not that item").into());
        }
        let Some(product) = found.as_ref().and_then(product) else {
            return Err(PortError::permanent(azsreg_operations::marketplace::unknown(name, &[])));
        };
        let body = self.manager().call(Method::POST, &format!("{path}/listDetails"), PRODUCTS, None).await?;
        Ok(details(&product, &body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_its_segment() {
        assert_eq!(segment("a b/../c?x"), "a%20b%2F..%2Fc%3Fx");
        assert_eq!(segment("microsoft.sql-1.0"), "microsoft.sql-1.0");
    }

    #[test]
    fn a_part_whose_name_is_no_file_is_refused() {
        let product = product(
            &json!({"name": "r/p", "properties": {"galleryItemIdentity": "../../x", "productKind": "solution"}}),
        )
        .unwrap();
        assert!(details(&product, &json!({"galleryPackageBlobSasUri": "https://a/b", "properties": {}})).is_err());
    }
}
