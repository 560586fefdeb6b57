//! The directory: tenants, users, applications, and the grants that give tokens (`wire-azure.md`, "Sign-in").

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Draw;

mod context;
mod interactive;

pub use context::{Challenge, contexts};
pub use interactive::AuthorizeRequest;
use interactive::{Code, Device};

/// Azure PowerShell's public client: what the stamp has always been given a refresh token of.
pub const AZURE_POWERSHELL: Uuid = Uuid::from_u128(0x1950_a258_227b_4e31_a9cf_7174_9594_5fc2);
/// The Azure CLI's public client.
pub const AZURE_CLI: Uuid = Uuid::from_u128(0x04b0_7795_8ddb_461a_bbee_02f9_e1bf_7b46);

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: Uuid,
    /// Its verified domain.
    pub domain: String,
    /// Whether users may register applications.
    pub users_may_register_applications: bool,
    /// A policy that stops user grants: the AADSTS number and the audience it applies to (`arm`, `graph`, `all`).
    pub policy: Option<(u32, String)>,
}

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    /// The object id.
    pub object_id: Uuid,
    /// The user principal name.
    pub upn: String,
    /// The home tenant.
    pub tenant: Uuid,
}

/// An application with its service principal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Application {
    /// The client id.
    pub app_id: Uuid,
    /// The application's own object id.
    pub object_id: Uuid,
    /// The service principal's object id, once there is one.
    pub principal: Option<Uuid>,
    /// The tenant.
    pub tenant: Uuid,
    /// The display name.
    pub name: String,
    /// Identifier URIs.
    pub uris: Vec<String>,
    /// Client secrets.
    pub secrets: Vec<String>,
    /// Registered certificates: DER of the certificate.
    pub certificates: Vec<Vec<u8>>,
    /// Object ids of the owners.
    pub owners: Vec<Uuid>,
}

/// A refused grant, in the words of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantError {
    /// The HTTP status.
    pub status: u16,
    /// The OAuth error.
    pub error: &'static str,
    /// The AADSTS number.
    pub number: u32,
    /// The sentence.
    pub message: String,
    /// A suberror, where there is one.
    pub suberror: Option<&'static str>,
    /// The claims to sign in for, where they are what is missing.
    pub claims: Option<String>,
}

fn refused(status: u16, error: &'static str, number: u32, message: impl Into<String>) -> GrantError {
    GrantError { status, error, number, message: message.into(), suberror: None, claims: None }
}

/// A granted sign-in: who, for whom, and what besides the access token.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The tenant that speaks.
    pub tenant: Uuid,
    /// The object id of who signed in.
    pub object_id: Uuid,
    /// The client.
    pub client: Uuid,
    /// The audience.
    pub audience: String,
    /// The user's name; none for an application by itself.
    pub upn: Option<String>,
    /// The home tenant of the user.
    pub home: Uuid,
    /// A new refresh token, where `offline_access` was asked for.
    pub refresh_token: Option<String>,
    /// Whether an id token was asked for, and the nonce to echo.
    pub id_token: Option<Option<String>>,
    /// The scopes as asked for.
    pub scope: String,
    /// The authentication contexts that it proves.
    pub acrs: Vec<String>,
    /// Whether its sign-in had a second factor.
    pub factor: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Refresh {
    user: Uuid,
    tenant: Uuid,
    client: Uuid,
    revoked: Option<u32>,
    /// Whether the person gave a second factor.
    #[serde(default)]
    factor: bool,
}

/// The directory of the lab's Azure.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Directory {
    /// Tenants by id.
    pub tenants: BTreeMap<Uuid, Tenant>,
    /// Users.
    pub users: Vec<User>,
    /// Applications.
    pub applications: Vec<Application>,
    /// Whether device codes are approved as soon as they are asked for, and by whom.
    pub auto_approve: Option<Uuid>,
    /// The audience of Graph.
    pub graph_audience: String,
    /// What Resource Manager asks of a person's token, if it asks for something.
    #[serde(default)]
    pub challenge: Option<Challenge>,
    refresh: HashMap<String, Refresh>,
    devices: HashMap<String, Device>,
    codes: HashMap<String, Code>,
}

impl Directory {
    /// The tenant that a path segment names: an id, a domain, or the user's home for `organizations` and `common`.
    ///
    /// # Errors
    /// AADSTS90002.
    pub fn tenant(&self, segment: &str) -> Result<Option<&Tenant>, GrantError> {
        if ["organizations", "common"].iter().any(|word| word.eq_ignore_ascii_case(segment)) {
            return Ok(None);
        }
        let found = match segment.parse::<Uuid>() {
            Ok(id) => self.tenants.get(&id),
            Err(_) => self.tenants.values().find(|tenant| tenant.domain.eq_ignore_ascii_case(segment)),
        };
        found.map(Some).ok_or_else(|| {
            refused(
                400,
                "invalid_request",
                90002,
                format!(
                    "Tenant '{segment}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
                ),
            )
        })
    }

    /// The application with this client id, in any tenant.
    #[must_use]
    pub fn application(&self, app_id: Uuid) -> Option<&Application> {
        self.applications.iter().find(|application| application.app_id == app_id)
    }

    /// The user or service principal behind an object id, as a name for messages.
    #[must_use]
    pub fn name_of(&self, object_id: Uuid) -> String {
        let user = self.users.iter().find(|user| user.object_id == object_id).map(|user| user.upn.clone());
        user.or_else(|| {
            let application = self.applications.iter().find(|a| a.principal == Some(object_id))?;
            Some(application.app_id.to_string())
        })
        .unwrap_or_else(|| object_id.to_string())
    }

    fn client_of(&self, tenant: Uuid, client: Uuid) -> Result<&Application, GrantError> {
        self.applications.iter().find(|a| a.app_id == client && a.tenant == tenant).ok_or_else(|| {
            let domain = self.tenants.get(&tenant).map_or_else(|| tenant.to_string(), |t| t.domain.clone());
            refused(
                400,
                "unauthorized_client",
                700016,
                format!(
                    "Application with identifier '{client}' was not found in the directory '{domain}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
                ),
            )
        })
    }

    /// Client credentials with a secret.
    ///
    /// # Errors
    /// AADSTS90002, 700016, 7000215.
    pub fn by_secret(&self, tenant: &str, client: Uuid, secret: &str, scope: &str) -> Result<Grant, GrantError> {
        let tenant = self.tenant_of_application(tenant)?;
        let application = self.client_of(tenant, client)?;
        if !application.secrets.iter().any(|known| known == secret) {
            return Err(refused(
                401,
                "invalid_client",
                7000215,
                format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client}'."
                ),
            ));
        }
        Self::grant_application(application, scope)
    }

    /// The certificates that an assertion of this client may be signed with.
    ///
    /// # Errors
    /// AADSTS90002, 700016.
    pub fn certificates(&self, tenant: &str, client: Uuid) -> Result<Vec<Vec<u8>>, GrantError> {
        let tenant = self.tenant_of_application(tenant)?;
        Ok(self.client_of(tenant, client)?.certificates.clone())
    }

    /// Client credentials whose assertion has been verified with one of [`certificates`](Self::certificates).
    ///
    /// # Errors
    /// AADSTS90002, 700016.
    pub fn by_certificate(&self, tenant: &str, client: Uuid, scope: &str) -> Result<Grant, GrantError> {
        let tenant = self.tenant_of_application(tenant)?;
        Self::grant_application(self.client_of(tenant, client)?, scope)
    }

    /// An assertion that no registered certificate verifies.
    #[must_use]
    pub fn bad_assertion(why: &str) -> GrantError {
        refused(
            401,
            "invalid_client",
            700027,
            format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. {why}"
            ),
        )
    }

    fn tenant_of_application(&self, segment: &str) -> Result<Uuid, GrantError> {
        self.tenant(segment)?.map(|tenant| tenant.id).ok_or_else(|| {
            refused(
                400,
                "invalid_request",
                50194,
                "Application is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps.",
            )
        })
    }

    fn grant_application(application: &Application, scope: &str) -> Result<Grant, GrantError> {
        Ok(Grant {
            tenant: application.tenant,
            object_id: application.principal.unwrap_or(application.object_id),
            client: application.app_id,
            audience: audience(scope)?,
            upn: None,
            home: application.tenant,
            refresh_token: None,
            id_token: None,
            scope: scope.to_owned(),
            acrs: Vec::new(),
            factor: false,
        })
    }

    fn public_client(&self, client: Uuid) -> Result<(), GrantError> {
        if client == AZURE_POWERSHELL || client == AZURE_CLI {
            return Ok(());
        }
        Err(refused(
            400,
            "unauthorized_client",
            700016,
            format!("Application with identifier '{client}' was not found in the directory."),
        ))
    }

    fn grant_user(
        &mut self,
        draw: &mut Draw,
        user: Uuid,
        tenant: &str,
        client: Uuid,
        scope: &str,
        nonce: Option<String>,
    ) -> Result<Grant, GrantError> {
        let Some(user) = self.users.iter().find(|known| known.object_id == user).cloned() else {
            return Err(refused(400, "invalid_grant", 50034, "The user account does not exist in the directory."));
        };
        let tenant = self.tenant(tenant)?.map_or(user.tenant, |tenant| tenant.id);
        // A guest of another directory is somebody of the same name there.
        let guest = self.users.iter().find(|known| known.upn == user.upn && known.tenant == tenant).cloned();
        let home = user.tenant;
        let Some(user) = guest else {
            return Err(refused(
                400,
                "invalid_grant",
                50034,
                format!(
                    "The user account {} does not exist in the {tenant} directory. To sign into this application, the account must be added to the directory.",
                    user.upn
                ),
            ));
        };
        let audience = audience(scope)?;
        if let Some((number, on)) = self.tenants.get(&tenant).and_then(|tenant| tenant.policy.clone()) {
            let is_graph = audience.trim_end_matches('/') == self.graph_audience.trim_end_matches('/');
            if on == "all" || (on == "graph") == is_graph {
                return Err(policy_error(number));
            }
        }
        let asked = |word: &str| scope.split_whitespace().any(|s| s == word);
        let refresh_token = asked("offline_access").then(|| {
            let token = format!("0.{}", draw.opaque());
            self.refresh
                .insert(token.clone(), Refresh { user: user.object_id, tenant, client, revoked: None, factor: false });
            token
        });
        Ok(Grant {
            tenant,
            object_id: user.object_id,
            client,
            audience,
            upn: Some(user.upn),
            home,
            refresh_token,
            id_token: asked("openid").then_some(nonce),
            scope: scope.to_owned(),
            acrs: Vec::new(),
            factor: false,
        })
    }

    /// A refresh token for an access token; it may be used again, and a new one comes with it.
    ///
    /// # Errors
    /// AADSTS9002313 for a token that is none, 700082, 50173, or the tenant's policy.
    pub fn by_refresh_token(
        &mut self,
        draw: &mut Draw,
        tenant: &str,
        client: Uuid,
        token: &str,
        scope: &str,
    ) -> Result<Grant, GrantError> {
        self.tenant(tenant)?;
        let Some(refresh) = self.refresh.get(token).cloned() else {
            return Err(refused(400, "invalid_grant", 9002313, "Invalid request. Request is malformed or invalid."));
        };
        if refresh.client != client {
            return Err(refused(
                400,
                "invalid_grant",
                700005,
                "Provided authorization code or refresh token is intended to use against other application.",
            ));
        }
        if let Some(number) = refresh.revoked {
            return Err(policy_error(number));
        }
        let segment = match self.tenant(tenant)? {
            Some(tenant) => tenant.id.to_string(),
            None => refresh.tenant.to_string(),
        };
        let scope = if scope.contains("offline_access") { scope.to_owned() } else { format!("{scope} offline_access") };
        self.grant_user(draw, refresh.user, &segment, client, &scope, None)
    }

    /// A refresh token of the default user, as an operator would have one. For tests through the control port.
    pub fn issue_refresh_token(&mut self, draw: &mut Draw, user: Uuid) -> Option<String> {
        let tenant = self.users.iter().find(|known| known.object_id == user)?.tenant;
        let token = format!("0.{}", draw.opaque());
        self.refresh
            .insert(token.clone(), Refresh { user, tenant, client: AZURE_POWERSHELL, revoked: None, factor: false });
        Some(token)
    }

    /// Makes every refresh token fail with this AADSTS number from now on (700082, 50173).
    pub fn revoke_refresh_tokens(&mut self, number: u32) {
        for refresh in self.refresh.values_mut() {
            refresh.revoked = Some(number);
        }
    }
}

/// The audience of a scope list: the first that ends in `/.default` or names a resource.
fn audience(scope: &str) -> Result<String, GrantError> {
    let resource = scope.split_whitespace().find(|s| s.contains("://"));
    let Some(resource) = resource else {
        return Err(refused(
            400,
            "invalid_scope",
            70011,
            format!("The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."),
        ));
    };
    Ok(match resource.strip_suffix("/.default") {
        Some(audience) => audience.to_owned(),
        None => resource.rsplit_once('/').map_or(resource, |(audience, _)| audience).to_owned(),
    })
}

/// A policy's refusal, by its AADSTS number.
#[must_use]
pub fn policy_error(number: u32) -> GrantError {
    let (error, message, suberror) = match number {
        50076 => (
            "interaction_required",
            "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.",
            Some("basic_action"),
        ),
        50079 => (
            "interaction_required",
            "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access the resource.",
            Some("basic_action"),
        ),
        53000 => (
            "interaction_required",
            "Your device is required to be managed to access this resource.",
            Some("message_only"),
        ),
        53001 => (
            "interaction_required",
            "Device is not in required device state. Conditional Access policy requires a domain joined device, and the device is not domain joined.",
            Some("message_only"),
        ),
        53002 => (
            "interaction_required",
            "Application used is not an approved application for Conditional Access.",
            Some("message_only"),
        ),
        53003 => (
            "interaction_required",
            "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
            Some("message_only"),
        ),
        700082 => ("invalid_grant", "The refresh token has expired due to inactivity.", Some("bad_token")),
        50173 => (
            "invalid_grant",
            "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.",
            Some("bad_token"),
        ),
        65001 => (
            "invalid_grant",
            "The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource.",
            Some("consent_required"),
        ),
        50034 => (
            "invalid_grant",
            "The user account does not exist in the directory. To sign into this application, the account must be added to the directory.",
            None,
        ),
        50055 => ("invalid_grant", "The password is expired.", Some("user_password_expired")),
        _ => ("invalid_grant", "The request was refused by a policy of the tenant.", None),
    };
    GrantError { status: 400, error, number, message: message.into(), suberror, claims: None }
}
