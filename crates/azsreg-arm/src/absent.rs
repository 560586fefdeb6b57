//! Which answers mean that something is not there: for each read a list of Resource Manager's codes. Any other 404 is a
//! proxy's page, another service's, or about something above what was asked for, and proves nothing: what is taken for absent
//! is deleted, or made anew.

use serde_json::Value;

use crate::error::ArmError;

/// A resource, its group or its parent.
pub(crate) const RESOURCE: &[&str] = &["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound"];
/// A resource group.
pub(crate) const GROUP: &[&str] = &["ResourceGroupNotFound"];
/// A lock, to be deleted.
pub(crate) const LOCK: &[&str] =
    &["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound", "LockNotFound"];
/// A role assignment, to be deleted.
pub(crate) const ROLE: &[&str] =
    &["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound", "RoleAssignmentNotFound"];
/// A registration, to be looked at: where the provider is not registered there is none. To be deleted it has to be absent
/// itself.
pub(crate) const REGISTRATION: &[&str] =
    &["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound", "MissingSubscriptionRegistration"];
/// The registrations of a subscription.
pub(crate) const REGISTRATIONS: &[&str] = &["MissingSubscriptionRegistration"];
/// A customer's mapping, to be deleted.
pub(crate) const CUSTOMER: &[&str] = &["ResourceNotFound", "CustomerSubscriptionNotFound"];
/// An alert of a stamp.
pub(crate) const ALERT: &[&str] = &["ResourceNotFound"];
/// An item of a marketplace, at Azure or at the stamp.
pub(crate) const ITEM: &[&str] = &["ResourceNotFound", "ProductNotFound"];
/// A blob, its container or its account, by the blob service's own codes.
pub(crate) const BLOB: &[&str] = &["BlobNotFound", "ContainerNotFound", "ResourceNotFound"];
/// A principal of the directory.
pub(crate) const PRINCIPAL: &[&str] = &["Request_ResourceNotFound"];
/// Nothing: what is asked for is always there.
pub(crate) const NEVER: &[&str] = &[];

/// Whether an answer says that it is not there.
pub(crate) fn says_absent(error: &ArmError, codes: &[&str]) -> bool {
    codes.iter().any(|code| match *code {
        "MissingSubscriptionRegistration" => error.is_code(code),
        code => matches!(error, ArmError::Refused { status: 404, .. }) && error.is_code(code),
    })
}

/// Whether an answer is the resource that was asked for: some gateways answer 200 with a page of their own.
pub(crate) fn is_resource(body: &Value, id: &str) -> bool {
    body["id"].as_str().is_some_and(|found| plain(found) == plain(id))
}

/// An id as it is compared: some services write it as an address, with a host in front and a query behind.
fn plain(id: &str) -> String {
    let path = id.trim().split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => path,
    };
    path.trim_matches('/').to_ascii_lowercase()
}

/// Whether a resource is one of this kind, by its id: `.../{kind}/{name}`.
pub(crate) fn is_of_kind(resource: &Value, kind: &str) -> bool {
    let id = plain(resource["id"].as_str().unwrap_or_default());
    id.rsplit('/').nth(1).is_some_and(|found| found.eq_ignore_ascii_case(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_told_by_its_id_however_that_is_written() {
        let id = "/subscriptions/s/resourceGroups/g/providers/P/registrations/r/customerSubscriptions/c";
        for written in [
            id.to_owned(),
            id.to_uppercase(),
            format!("https://management.example{id}"),
            format!("{id} "),
            format!("{id}/?api-version=1"),
        ] {
            let body = serde_json::json!({"id": written});
            assert!(is_resource(&body, id) && is_of_kind(&body, "customerSubscriptions"), "{written}");
        }
        for other in ["", "/subscriptions/s", "/subscriptions/s/resourceGroups/g/providers/P/registrations/r"] {
            let body = serde_json::json!({"id": other});
            assert!(!is_resource(&body, id) && !is_of_kind(&body, "customerSubscriptions"), "{other}");
        }
    }

    #[test]
    fn only_its_own_code_says_that_something_is_not_there() {
        let refused = |status: u16, code: &str| ArmError::Refused {
            status,
            code: code.into(),
            message: String::new(),
            request_id: None,
            retry_after: None,
        };
        for code in ["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound"] {
            assert!(says_absent(&refused(404, code), REGISTRATION), "{code}");
            assert!(!says_absent(&refused(403, code), REGISTRATION), "{code}");
        }
        assert!(says_absent(&refused(409, "MissingSubscriptionRegistration"), REGISTRATION));
        assert!(!says_absent(&refused(409, "MissingSubscriptionRegistration"), RESOURCE));
        for code in ["HTTP 404", "SubscriptionNotFound", "NotFound", "InvalidResourceType", "NoRegisteredProviderFound"]
        {
            for table in
                [RESOURCE, GROUP, LOCK, ROLE, REGISTRATION, REGISTRATIONS, CUSTOMER, ALERT, ITEM, PRINCIPAL, NEVER]
            {
                assert!(!says_absent(&refused(404, code), table), "{code}");
            }
        }
    }
}
