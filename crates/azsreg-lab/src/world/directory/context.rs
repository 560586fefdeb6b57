//! Authentication contexts: what a token may be asked to prove, such as `p1`, a second factor. A person who signs in for one
//! gives the factor; a refresh token gives it on if its sign-in had it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Directory, Grant, GrantError, policy_error};

/// What Resource Manager asks of a person's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The authentication context.
    pub acrs: String,
    /// For reads as well as for writes.
    #[serde(default)]
    pub reads: bool,
}

impl Challenge {
    /// The claims that ask for it.
    #[must_use]
    pub fn claims(&self) -> Value {
        json!({"access_token": {"acrs": {"essential": true, "values": [self.acrs]}}})
    }
}

/// The contexts that the `claims` of a request ask for.
#[must_use]
pub fn contexts(claims: &str) -> Vec<String> {
    let claims: Value = serde_json::from_str(claims).unwrap_or_default();
    let acrs = &claims["access_token"]["acrs"];
    let listed = acrs["values"].as_array().into_iter().flatten();
    listed.chain(acrs.get("value")).filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

impl Directory {
    /// Whether a refresh token's sign-in had a second factor.
    #[must_use]
    pub fn has_factor(&self, token: &str) -> bool {
        self.refresh.get(token).is_some_and(|refresh| refresh.factor)
    }

    /// Whether a refresh token may be redeemed for these contexts.
    ///
    /// # Errors
    /// AADSTS50076 with the claims to sign in for, where its sign-in had no second factor.
    pub fn check_contexts(&self, token: &str, acrs: &[String]) -> Result<(), GrantError> {
        if acrs.is_empty() || !self.refresh.contains_key(token) || self.has_factor(token) {
            return Ok(());
        }
        let claims = json!({"access_token": {"acrs": {"essential": true, "values": acrs}}});
        Err(GrantError { claims: Some(claims.to_string()), ..policy_error(50_076) })
    }

    /// A person's grant that proves these contexts, of a sign-in with or without a second factor.
    #[must_use]
    pub fn with_contexts(&mut self, grant: Grant, acrs: Vec<String>, factor: bool) -> Grant {
        let refresh = grant.refresh_token.as_ref().and_then(|token| self.refresh.get_mut(token));
        if let Some(refresh) = refresh {
            refresh.factor = factor;
        }
        Grant { acrs, factor, ..grant }
    }

    /// The person who enters a device's code is asked for these contexts.
    pub fn device_asks(&mut self, code: &str, acrs: Vec<String>) {
        if let Some(device) = self.devices.get_mut(code) {
            device.acrs = acrs;
        }
    }
}
