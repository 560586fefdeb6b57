//! The directory's Graph, as far as it says what an operator wants to know beforehand. What the caller may not see is
//! unknown, not wrong.

use azsreg_model::code;
use azsreg_operations::ports::{AdGraph, BridgeOwners, DirectoryRights};
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::absent::{self, says_absent};
use crate::error::ArmError;
use crate::manager::Manager;

/// Directory roles with which somebody may register applications though users may not.
const ROLES: &[&str] =
    &["Application Administrator", "Application Developer", "Cloud Application Administrator", "Global Administrator"];

/// A GET; `None` where the caller may not look or the object is not there.
async fn get(graph: &Manager<'_>, path: &str) -> Result<Option<Value>, ArmError> {
    let url = format!("{}/v1.0/{path}", graph.endpoint());
    match graph.send(Method::GET, &url, None).await {
        Ok(answer) => Ok(Some(answer.body)),
        Err(error) if may_not_look(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the caller is not shown something. A second factor is not asked for to look at what is only good to know.
fn may_not_look(error: &ArmError) -> bool {
    match error {
        ArmError::Refused { status, .. } => matches!(status, 400 | 401 | 403 | 404),
        ArmError::Unavailable(problem) => problem.code == &code::NEW_TOKEN_EXPIRED,
        error => matches!(error, ArmError::ClaimsNeeded(_)),
    }
}

/// What a list holds; `None` where it was not to be seen, or is none.
fn items(list: Option<Value>) -> Option<Vec<Value>> {
    list.and_then(|list| list["value"].as_array().cloned())
}

pub(crate) async fn principal_exists(graph: &Manager<'_>, principal: Uuid) -> Result<Option<bool>, ArmError> {
    let url = format!("{}/v1.0/servicePrincipals/{principal}", graph.endpoint());
    match graph.send(Method::GET, &url, None).await {
        Ok(answer) if answer.body["id"].as_str().is_some_and(|id| id.parse() == Ok(principal)) => Ok(Some(true)),
        // Neither the principal nor its absence.
        Ok(_) => Ok(None),
        Err(error) if says_absent(&error, absent::PRINCIPAL) => Ok(Some(false)),
        Err(error) if may_not_look(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn rights(graph: &Manager<'_>, principal: Option<Uuid>) -> Result<DirectoryRights, ArmError> {
    let policy = get(graph, "policies/authorizationPolicy").await?;
    let allowed = policy.and_then(|policy| policy["defaultUserRolePermissions"]["allowedToCreateApps"].as_bool());
    // What a directory lets its users do it does not let its guests do, unless a role does.
    let may_register_applications = if allowed == Some(false) || allowed == Some(true) && is_guest(graph).await? {
        let mine = items(get(graph, "me/memberOf").await?);
        let may = |role: &Value| role["displayName"].as_str().is_some_and(|name| ROLES.contains(&name));
        mine.map(|mine| mine.iter().any(may))
    } else {
        allowed
    };
    let application = application(graph, principal).await?;
    let ad_graph = application.as_ref().and_then(ad_graph);
    let bridge = match &application {
        Some(application) => owners(graph, application).await?,
        None => None,
    };
    Ok(DirectoryRights { may_register_applications, bridge, ad_graph })
}

/// Whether a guest of the directory is signed in; an application is none.
async fn is_guest(graph: &Manager<'_>) -> Result<bool, ArmError> {
    let me = get(graph, "me?$select=userType").await?;
    Ok(me.is_some_and(|me| me["userType"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("guest"))))
}

/// The application of a principal.
async fn application(graph: &Manager<'_>, principal: Option<Uuid>) -> Result<Option<Value>, ArmError> {
    let Some(principal) = principal else { return Ok(None) };
    let Some(found) = get(graph, &format!("servicePrincipals/{principal}")).await? else { return Ok(None) };
    let Some(app_id) = found["appId"].as_str() else { return Ok(None) };
    let select = "$select=id,appId,authenticationBehaviors";
    let applications = items(get(graph, &format!("applications?$filter=appId eq '{app_id}'&{select}")).await?);
    Ok(applications.into_iter().flatten().next())
}

/// Whether it may use Azure AD Graph; `None` where the directory does not say.
fn ad_graph(application: &Value) -> Option<AdGraph> {
    let behaviours = application.as_object()?.get("authenticationBehaviors")?;
    Some(match behaviours["blockAzureADGraphAccess"].as_bool() {
        Some(true) => AdGraph::Blocked,
        Some(false) => AdGraph::Exempt,
        None => AdGraph::NotSet,
    })
}

async fn owners(graph: &Manager<'_>, application: &Value) -> Result<Option<BridgeOwners>, ArmError> {
    let Some(me) = get(graph, "me").await? else { return Ok(None) };
    let id = application["id"].as_str().unwrap_or_default();
    let Some(list) = items(get(graph, &format!("applications/{id}/owners")).await?) else { return Ok(None) };
    let name = |owner: &Value| {
        let text = |name: &str| owner[name].as_str().map(str::to_owned);
        text("userPrincipalName").or_else(|| text("displayName")).or_else(|| text("id")).unwrap_or_default()
    };
    Ok(Some(BridgeOwners {
        owned: list.iter().any(|owner| owner["id"].is_string() && owner["id"] == me["id"]),
        owners: list.iter().map(name).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Http;
    use crate::login::{Identity, SignIn};
    use crate::place::{Known, Place};
    use crate::testing::{Nobody, http, server};
    use serde_json::json;

    #[test]
    fn what_is_null_is_not_set_and_what_is_not_said_is_not_known() {
        for (application, expected) in [
            (json!({"authenticationBehaviors": {"blockAzureADGraphAccess": true}}), Some(AdGraph::Blocked)),
            (json!({"authenticationBehaviors": {"blockAzureADGraphAccess": false}}), Some(AdGraph::Exempt)),
            (json!({"authenticationBehaviors": {"blockAzureADGraphAccess": null}}), Some(AdGraph::NotSet)),
            (json!({"authenticationBehaviors": null}), Some(AdGraph::NotSet)),
            (json!({"id": "1"}), None),
        ] {
            assert_eq!(ad_graph(&application), expected, "{application}");
        }
    }

    /// What a directory lets its users do: whether the caller, of this kind and with this role, may do it too.
    async fn may(allowed: bool, kind: &str, role: Option<&str>) -> Option<bool> {
        let policy = json!({"defaultUserRolePermissions": {"allowedToCreateApps": allowed}});
        let roles: Vec<Value> = role.into_iter().map(|name| json!({"displayName": name})).collect();
        let (address, _) = server(vec![
            ("/v1.0/policies/", policy.to_string()),
            ("/v1.0/me/memberOf", json!({"value": roles}).to_string()),
            ("/v1.0/me?$select=userType", json!({"userType": kind}).to_string()),
            ("/tenant-1/oauth2/", json!({"access_token": "t", "expires_in": 3600}).to_string()),
        ])
        .await;
        let http: Http = http(true);
        let place = Place {
            endpoint: address.clone(),
            authority: address.clone(),
            audience: "https://management.example/".into(),
            graph: address,
        };
        let sign_in = SignIn::ClientSecret { client: Uuid::nil(), secret: "the secret".to_owned().into() };
        let identity = Identity::new(&http, &place, &Known::default(), "tenant-1", sign_in, &Nobody);
        let graph = Manager::new(&http, &identity).graph().unwrap();
        rights(&graph, None).await.unwrap().may_register_applications
    }

    #[tokio::test]
    async fn a_guest_is_not_told_that_it_may_register_applications() {
        assert_eq!(may(true, "Member", None).await, Some(true));
        assert_eq!(may(true, "Guest", None).await, Some(false));
        assert_eq!(may(true, "Guest", Some("Application Developer")).await, Some(true));
        assert_eq!(may(false, "Member", None).await, Some(false));
    }
}
