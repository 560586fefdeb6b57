//! What Resource Manager says of itself and of its providers: endpoints, namespaces, operations, the cloud manifest.

use serde_json::{Value, json};
use uuid::Uuid;

use super::arm::Answer;
use crate::http;
use crate::lab::{AzureWorld, State};
use crate::world::arm::ArmError;
use crate::world::roles::{matches, subscription_of};

pub(super) fn known_namespace(ns: &str) -> Result<&'static str, ArmError> {
    ["Microsoft.AzureStack", "Microsoft.Authorization", "Microsoft.Resources"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(ns))
        .ok_or_else(|| {
            ArmError::new(404, "InvalidResourceNamespace", format!("The resource namespace '{ns}' is invalid."))
        })
}

pub(super) fn provider_body(azure: &AzureWorld, subscription: Uuid, ns: &str) -> Value {
    let scope = format!("/subscriptions/{subscription}");
    let registered = !ns.eq_ignore_ascii_case("Microsoft.AzureStack") || azure.arm.provider_ready(subscription).is_ok();
    let kinds =
        if ns == "Microsoft.AzureStack" { vec!["operations", "registrations", "cloudManifestFiles"] } else { vec![] };
    let kinds: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"resourceType": kind, "locations": ["Global", "West Central US"], "apiVersions": ["2022-06-01", "2020-06-01-preview", "2017-06-01", "2016-01-01"], "capabilities": "None"}))
        .collect();
    json!({
        "id": format!("{}/providers/{ns}", subscription_of(&scope)), "namespace": ns, "registrationPolicy": "RegistrationRequired",
        "registrationState": if registered { "Registered" } else { "NotRegistered" }, "resourceTypes": kinds,
    })
}

pub(super) fn operations() -> Value {
    let names = [
        ("Operations/read", "Lists operations"),
        ("register/action", "Registers the subscription"),
        ("cloudManifestFiles/read", "Reads the cloud manifest file"),
        ("registrations/read", "Reads registrations"),
        ("registrations/write", "Writes registrations"),
        ("registrations/delete", "Deletes registrations"),
        ("registrations/getActivationKey/action", "Gets the activation key"),
        ("registrations/products/read", "Reads marketplace products"),
        ("registrations/products/listDetails/action", "Reads extended details of a product"),
        ("registrations/customerSubscriptions/read", "Reads customer subscriptions"),
        ("registrations/customerSubscriptions/write", "Writes customer subscriptions"),
        ("registrations/customerSubscriptions/delete", "Deletes customer subscriptions"),
    ];
    let items = names.iter().map(|(name, shown)| {
        let resource = name.rsplit_once('/').map_or(*name, |(resource, _)| resource);
        json!({"name": format!("Microsoft.AzureStack/{name}"), "origin": "user,system", "display": {"provider": "azsreg lab resource provider", "resource": resource, "operation": shown, "description": shown}})
    });
    debug_assert!(matches("Microsoft.AzureStack/*", "Microsoft.AzureStack/register/action"));
    json!({"value": items.collect::<Vec<_>>()})
}

pub(super) fn manifests(state: &State, version: &str, name: Option<&str>) -> Answer {
    if version == "2016-01-01" {
        return Err(ArmError::new(
            400,
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for location 'global' and API version '{version}' for type 'cloudManifestFiles'. The supported api-versions are '2017-06-01, 2020-06-01-preview, 2022-06-01'. The supported locations are 'global'."
            ),
        ));
    }
    let one = json!({
        "id": "/providers/Microsoft.AzureStack/cloudManifestFiles/latest", "name": "latest", "type": "Microsoft.AzureStack/cloudManifestFiles",
        "properties": {"deploymentData": {"externalDsmsCertificates": "", "customCloudVerificationKey": "", "customEnvironmentEndpoints": {"customCloudArmEndpoint": state.urls().arm, "externalDsmsEndpoint": ""}}, "signature": ""},
    });
    match name {
        // The specification's list gives the one file itself, not a page.
        None => Ok(http::json(200, &one)),
        Some(name) if name.eq_ignore_ascii_case("latest") => Ok(http::json(200, &one)),
        Some(name) => {
            Err(ArmError::new(404, "ResourceNotFound", format!("The cloud manifest file '{name}' was not found.")))
        }
    }
}

pub(super) fn metadata(state: &State, version: &str) -> Answer {
    let urls = state.urls();
    let body = if version < "2019-05-01" {
        json!({
            "galleryEndpoint": format!("{}/gallery", urls.arm), "graphEndpoint": urls.graph, "portalEndpoint": urls.arm,
            "authentication": {"loginEndpoint": format!("{}/", urls.authority), "audiences": [format!("{}/", urls.arm)]},
        })
    } else {
        json!({
            "name": "AzsregLab", "portal": urls.arm, "resourceManager": urls.arm, "graph": urls.graph, "graphAudience": urls.graph,
            "microsoftGraphResourceId": urls.graph, "gallery": format!("{}/gallery", urls.arm), "batch": "", "media": "",
            "authentication": {"loginEndpoint": urls.authority, "audiences": [format!("{}/", urls.arm)], "tenant": "common", "identityProvider": "AAD"},
            "suffixes": {"storage": "core.azurestack.lab.invalid", "keyVaultDns": "vault.azurestack.lab.invalid", "acrLoginServer": "azurecr.lab.invalid"},
        })
    };
    Ok(http::json(200, &body))
}
