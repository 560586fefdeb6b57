//! Resource groups and storage accounts of the stamp, over its admin Resource Manager: what an import of marketplace items
//! makes and removes (`facts-stamp.md` section 3).

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::http::{self, Read, Reply, header, text};
use crate::lab::{StampState, State};
use crate::world::accounts::StampGroup;
use crate::world::arm::ArmError;

/// A call below `resourceGroups`: `names` as written, `parts` in lower case.
pub(super) fn handle(
    state: &State,
    stamp: &StampState,
    request: &Read,
    names: &[String],
    parts: &[&str],
) -> Result<Reply, ArmError> {
    let body = || -> Result<Value, ArmError> {
        serde_json::from_slice(request.body()).map_err(|_| {
            ArmError::new(
                400,
                "InvalidRequestContent",
                "The request content was invalid and could not be deserialized.",
            )
        })
    };
    // Stamps before Azure, as everywhere.
    let mut world = stamp.world();
    let mut azure = state.azure();
    let draw = &mut azure.draw;
    let scope = |group: &str, provider| format!("/subscriptions/{provider}/resourceGroups/{group}");
    let (provider, region) = (world.provider_subscription, world.region.clone());
    let group_body = |group: &StampGroup| {
        json!({
            "id": scope(&group.name, provider), "name": group.name, "location": group.location, "tags": group.tags,
            "properties": {"provisioningState": "Succeeded"},
        })
    };
    let account_missing = |name: &str, group: &str| {
        let message = format!(
            "The Resource 'Microsoft.Storage/storageAccounts/{name}' under resource group '{group}' was not found."
        );
        ArmError::new(404, "ResourceNotFound", message)
    };
    let group = names.first().map(String::as_str).unwrap_or_default();
    match (request.method().as_str(), parts) {
        ("GET", []) => {
            let groups = world.accounts.groups.values().map(group_body).collect();
            Ok(http::page(request, &stamp.urls().admin_arm, state.options.page_size, groups))
        }
        ("PUT", [_]) => {
            let (new, made) = world.accounts.put_group(group, &body()?)?;
            Ok(http::json(if new { 201 } else { 200 }, &group_body(made)))
        }
        ("GET", [_]) => {
            let known = world.accounts.group(group)?;
            Ok(http::json(200, &group_body(known)))
        }
        ("HEAD", [_]) => {
            let found = world.accounts.group(group).is_ok();
            Ok(text(if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }, ""))
        }
        ("DELETE", [_]) => {
            world.accounts.delete_group(group)?;
            let mut reply = text(StatusCode::ACCEPTED, "");
            let url = format!(
                "{}/subscriptions/{provider}/resourceGroups/{group}?api-version=2016-09-01",
                stamp.urls().admin_arm
            );
            header(&mut reply, "location", &url);
            header(&mut reply, "retry-after", "0");
            Ok(reply)
        }
        ("PUT", [_, "providers", "microsoft.storage", "storageaccounts", _]) => {
            let name = names[4].to_ascii_lowercase();
            let endpoint = format!("{}/{name}/", stamp.urls().blobs);
            let account = world.accounts.put_account(draw, group, &name, &body()?)?;
            Ok(http::json(200, &account.body(&scope(&account.group, provider), &region, &endpoint)))
        }
        ("GET", [_, "providers", "microsoft.storage", "storageaccounts"]) => {
            world.accounts.group(group)?;
            let inside = world.accounts.accounts.values().filter(|account| account.group.eq_ignore_ascii_case(group));
            let bodies = inside.map(|account| {
                let endpoint = format!("{}/{}/", stamp.urls().blobs, account.name);
                account.body(&scope(&account.group, provider), &region, &endpoint)
            });
            Ok(http::json(200, &json!({"value": bodies.collect::<Vec<_>>()})))
        }
        (verb @ ("GET" | "DELETE"), [_, "providers", "microsoft.storage", "storageaccounts", name]) => {
            world.accounts.group(group)?;
            let Some(account) = world.accounts.accounts.get(*name).filter(|a| a.group.eq_ignore_ascii_case(group))
            else {
                return if verb == "GET" {
                    Err(account_missing(name, group))
                } else {
                    Ok(text(StatusCode::NO_CONTENT, ""))
                };
            };
            if verb == "GET" {
                let endpoint = format!("{}/{name}/", stamp.urls().blobs);
                return Ok(http::json(200, &account.body(&scope(&account.group, provider), &region, &endpoint)));
            }
            world.accounts.accounts.remove(*name);
            Ok(text(StatusCode::OK, ""))
        }
        ("POST", [_, "providers", "microsoft.storage", "storageaccounts", name, "listkeys"]) => {
            world.accounts.group(group)?;
            let account = world.accounts.accounts.get(*name).filter(|a| a.group.eq_ignore_ascii_case(group));
            let key = &account.ok_or_else(|| account_missing(name, group))?.key;
            Ok(http::json(200, &json!({"keys": [{"keyName": "key1", "value": key, "permissions": "Full"}]})))
        }
        _ => Err(ArmError::new(404, "NotFound", "The lab's stamp does not know this route.")),
    }
}
