//! How a person signs in: with a code on another device, or in this machine's browser.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Directory, Grant, GrantError, refused};
use crate::world::Draw;

const CODE_LIFE: SignedDuration = SignedDuration::from_mins(15);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Device {
    user_code: String,
    tenant: String,
    client: Uuid,
    scope: String,
    expires: Timestamp,
    approved: Option<Uuid>,
    declined: bool,
    #[serde(default)]
    pub(super) acrs: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Code {
    tenant: String,
    client: Uuid,
    scope: String,
    redirect: String,
    challenge: Option<String>,
    nonce: Option<String>,
    user: Uuid,
    expires: Timestamp,
    #[serde(default)]
    acrs: Vec<String>,
}

/// What a browser asks of the authorisation endpoint.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct AuthorizeRequest {
    pub client: Option<Uuid>,
    pub redirect: String,
    pub scope: String,
    pub challenge: Option<String>,
    pub challenge_method: Option<String>,
    pub nonce: Option<String>,
    pub acrs: Vec<String>,
}

impl Directory {
    /// Begins a device-code sign-in: the device code and the user code.
    ///
    /// # Errors
    /// AADSTS90002, 700016.
    pub fn device_start(
        &mut self,
        draw: &mut Draw,
        now: Timestamp,
        tenant: &str,
        client: Uuid,
        scope: &str,
    ) -> Result<(String, String), GrantError> {
        self.tenant(tenant)?;
        self.public_client(client)?;
        self.devices.retain(|_, device| device.expires > now);
        let (code, user_code) = (draw.opaque(), draw.user_code());
        let device = Device {
            user_code: user_code.clone(),
            tenant: tenant.to_owned(),
            client,
            scope: scope.to_owned(),
            expires: now + CODE_LIFE,
            approved: self.auto_approve,
            declined: false,
            acrs: Vec::new(),
        };
        self.devices.insert(code.clone(), device);
        Ok((code, user_code))
    }

    /// Somebody types the user code in: approves or declines. False if there is no such code.
    pub fn device_decide(&mut self, now: Timestamp, user_code: &str, user: Uuid, approve: bool) -> bool {
        let wanted = user_code.trim();
        let device = self
            .devices
            .values_mut()
            .find(|device| device.user_code.eq_ignore_ascii_case(wanted) && device.expires > now);
        match device {
            None => false,
            Some(device) => {
                device.approved = approve.then_some(user);
                device.declined = !approve;
                true
            }
        }
    }

    /// The device asks whether somebody has approved.
    ///
    /// # Errors
    /// 70016 while pending, 70020 when expired, 70000-family when declined, or the tenant's policy.
    pub fn device_poll(
        &mut self,
        draw: &mut Draw,
        now: Timestamp,
        client: Uuid,
        code: &str,
    ) -> Result<Grant, GrantError> {
        let Some(device) = self.devices.get(code).filter(|device| device.client == client).cloned() else {
            return Err(refused(400, "bad_verification_code", 70020, "The device code is not valid or has expired."));
        };
        if device.expires <= now {
            return Err(refused(
                400,
                "expired_token",
                70020,
                "The provided value for the input parameter 'device_code' is not valid. Device code has expired.",
            ));
        }
        if device.declined {
            return Err(refused(
                400,
                "authorization_declined",
                70018,
                "The end user has denied the authorization request.",
            ));
        }
        let Some(user) = device.approved else {
            return Err(refused(
                400,
                "authorization_pending",
                70016,
                "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
            ));
        };
        let grant = self.grant_user(draw, user, &device.tenant, client, &device.scope, None)?;
        self.devices.remove(code);
        let factor = !device.acrs.is_empty();
        Ok(self.with_contexts(grant, device.acrs, factor))
    }

    /// A browser asks for a code; the lab's user approves at once.
    ///
    /// # Errors
    /// An unknown client or tenant, or no PKCE.
    pub fn authorize(
        &mut self,
        draw: &mut Draw,
        now: Timestamp,
        tenant: &str,
        user: Uuid,
        request: AuthorizeRequest,
    ) -> Result<String, GrantError> {
        self.tenant(tenant)?;
        let client = request.client.ok_or_else(|| {
            refused(
                400,
                "invalid_request",
                900144,
                "The request body must contain the following parameter: 'client_id'.",
            )
        })?;
        self.public_client(client)?;
        if !is_loopback(&request.redirect) {
            return Err(refused(
                400,
                "invalid_request",
                50011,
                format!(
                    "The redirect URI '{}' specified in the request does not match the redirect URIs configured for the application.",
                    request.redirect
                ),
            ));
        }
        if request.challenge.is_none() || request.challenge_method.as_deref() != Some("S256") {
            return Err(refused(
                400,
                "invalid_request",
                9002325,
                "Proof Key for Code Exchange is required for cross-origin authorization code redemption.",
            ));
        }
        let code = format!("1.{}", draw.opaque());
        self.codes.insert(
            code.clone(),
            Code {
                tenant: tenant.to_owned(),
                client,
                scope: request.scope,
                redirect: request.redirect,
                challenge: request.challenge,
                nonce: request.nonce,
                user,
                expires: now + CODE_LIFE,
                acrs: request.acrs,
            },
        );
        Ok(code)
    }

    /// A code for tokens. `challenge` is the S256 of the verifier that came.
    ///
    /// # Errors
    /// A code that is none, used, expired, or of another client, redirect or verifier.
    pub fn by_code(
        &mut self,
        draw: &mut Draw,
        now: Timestamp,
        client: Uuid,
        code: &str,
        redirect: &str,
        challenge: Option<&str>,
    ) -> Result<Grant, GrantError> {
        let Some(known) = self.codes.remove(code) else {
            return Err(refused(
                400,
                "invalid_grant",
                54005,
                "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.",
            ));
        };
        if known.client != client || known.redirect != redirect || known.expires <= now {
            return Err(refused(
                400,
                "invalid_grant",
                70008,
                "The provided authorization code or refresh token has expired or is of another request.",
            ));
        }
        if known.challenge.as_deref() != challenge {
            return Err(refused(
                400,
                "invalid_grant",
                501481,
                "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
            ));
        }
        let grant = self.grant_user(draw, known.user, &known.tenant, client, &known.scope, known.nonce)?;
        let factor = !known.acrs.is_empty();
        Ok(self.with_contexts(grant, known.acrs, factor))
    }
}

/// Whether a reply goes to this machine, on any port (RFC 8252, section 7.3): all that the public clients may ask for. The
/// address is read as a browser reads it, so that neither another host's name nor a user's looks like it.
fn is_loopback(redirect: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(redirect) else { return false };
    let host = url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
    url.scheme() == "http" && host && url.username().is_empty() && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_to_this_machine_alone() {
        for own in [
            "http://localhost",
            "http://localhost/",
            "http://localhost:8400/",
            "http://127.0.0.1:53123",
            "http://127.0.0.1:53123/done?of=this",
            "http://[::1]:9/",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "localhost",
            "https://localhost/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://localhost:80@evil.example/",
            "http://evil.example\\@localhost/",
            "http://somebody@localhost/",
            "http://[::1].evil.example/",
            "http://127.0.0.2/",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
