//! A person signs in: with a code on another device, or in this machine's browser.

use std::time::Duration;

use azsreg_model::{Problem, code};
use azsreg_operations::waits;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::{AZURE_POWERSHELL, Identity, SignIn, of_a_person};
use crate::address::checked;
use crate::browser;
use crate::cache::Account;
use crate::challenge::{Claims, requested};
use crate::error::ArmError;
use crate::http::{Body, host_of};

/// How long a person has to enter a code at most, whatever the directory says: its own is a quarter of an hour.
const CODE_LIFE: i64 = 1_800;

impl Identity<'_> {
    /// A person signs in, as before.
    pub(super) async fn ask(
        &self,
        audience: &str,
        claims: Option<&Claims>,
        before: Option<&Account>,
    ) -> Result<Value, ArmError> {
        let scope = of_a_person(&self.scope(audience));
        match self.uses_browser() {
            true => self.browser(&scope, claims, before).await,
            false => self.device_code(&scope, audience, claims).await,
        }
    }

    /// Whether the person signs in with a browser; with a code otherwise.
    pub(super) fn uses_browser(&self) -> bool {
        match &self.sign_in {
            SignIn::Cached(account) => account.browser,
            other => matches!(other, SignIn::Browser),
        }
    }

    async fn device_code(&self, scope: &str, audience: &str, claims: Option<&Claims>) -> Result<Value, ArmError> {
        if self.is_adfs() {
            self.offers_codes().await?;
        }
        let client = AZURE_POWERSHELL.to_string();
        let form = [("client_id", client.as_str()), ("scope", scope)];
        let started = self.post("devicecode", &form, Some(audience), claims).await?;
        let text = |name: &str| started[name].as_str().unwrap_or_default();
        let url = if text("verification_uri").is_empty() { text("verification_url") } else { text("verification_uri") };
        // The person types a secret there.
        checked(url, "the page to enter the code at", self.http.allow_http())?;
        self.prompt.device_code(url, text("user_code"), text("message"));
        let mut interval = Duration::from_secs(started["interval"].as_u64().unwrap_or(5).clamp(1, 60));
        let life = started["expires_in"].as_i64().unwrap_or(900).clamp(1, CODE_LIFE);
        let deadline = Instant::now() + Duration::from_secs(life.unsigned_abs());
        let late = || {
            let message = format!("no code was entered within {life} s, which is as long as it lives");
            ArmError::from(Problem::new(&code::SIGN_IN_DECLINED, message))
        };
        // The first question is put at once (who is approved by then waits for nothing), the others an interval apart.
        let mut first = true;
        let patience = Duration::from_secs(life.unsigned_abs());
        let _asking = waits::person("the person who signs in", patience);
        loop {
            if !std::mem::take(&mut first) {
                // A directory that asks for a longer wait than the code lives is not waited for.
                let next = Instant::now() + interval;
                tokio::time::sleep_until(next.min(deadline)).await;
                if next >= deadline {
                    return Err(late());
                }
            }
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("client_id", &client),
                ("device_code", text("device_code")),
            ];
            let polled =
                tokio::time::timeout_at(deadline, self.grant(&form, None, claims)).await.map_err(|_| late())?;
            match polled {
                Err(ArmError::SignIn { error, .. }) if error == "authorization_pending" => {}
                Err(ArmError::SignIn { error, .. }) if error == "slow_down" => interval += Duration::from_secs(5),
                // A poll that broke costs nothing: the next one asks again, later if that was said.
                Err(ArmError::Broken { .. } | ArmError::TooLate { .. }) => {}
                Err(ArmError::SignIn { status, retry_after, .. }) if status == 429 || status >= 500 => {
                    interval = interval.max(retry_after.unwrap_or(interval));
                }
                Err(error) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
            if Instant::now() > deadline {
                return Err(late());
            }
        }
    }

    /// Entra has codes always; AD FS where its own metadata says so (since Windows Server 2019).
    async fn offers_codes(&self) -> Result<(), ArmError> {
        let url = format!("{}/.well-known/openid-configuration", self.place.authority);
        let answer = self.http.call(Method::GET, &url, None, Body::None).await;
        let offered = match answer {
            Ok(answer) => answer.body["device_authorization_endpoint"].as_str().is_some_and(|url| !url.is_empty()),
            Err(ArmError::Unreadable { .. }) => false,
            Err(error) => return Err(error),
        };
        if offered {
            return Ok(());
        }
        let message = format!("the AD FS at {} does not offer sign-in with a code", host_of(&self.place.authority));
        let problem = Problem::new(&code::STAMP_ARM, message)
            .cause("Its metadata (.well-known/openid-configuration) names no device_authorization_endpoint.")
            .next("Use an application of the stamp's directory: --stamp-client-id with --stamp-client-certificate or --stamp-client-secret.");
        Err(problem.into())
    }

    async fn browser(&self, scope: &str, claims: Option<&Claims>, before: Option<&Account>) -> Result<Value, ArmError> {
        let local = |error: std::io::Error| {
            ArmError::from(Problem::new(
                &code::SIGN_IN_DECLINED,
                format!("no loopback port for the browser's answer: {error}"),
            ))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(local)?;
        let port = listener.local_addr().map_err(local)?.port();
        let redirect = format!("http://localhost:{port}");
        let (verifier, state) = (random(), random());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let client = AZURE_POWERSHELL.to_string();
        // Who signed in before is to sign in again; otherwise the person chooses.
        let who = before.map(|account| account.user.as_str()).filter(|user| !user.is_empty());
        let who = who.map_or("prompt=select_account".to_owned(), |user| format!("login_hint={}", encode(user)));
        let url = format!(
            "{}?response_type=code&response_mode=query&client_id={client}&redirect_uri={}&scope={}&state={state}&code_challenge={challenge}&code_challenge_method=S256&{who}&claims={}",
            self.endpoint("authorize"),
            encode(&redirect),
            encode(scope),
            encode(&requested(claims))
        );
        self.prompt.browser(&url, browser::open(&url).is_ok());
        let _asking = waits::person("the person who signs in", Duration::from_secs(600));
        let declined = |text: &str| ArmError::from(Problem::new(&code::SIGN_IN_DECLINED, text.to_owned()));
        let query = tokio::time::timeout(Duration::from_secs(600), browser::wait(listener))
            .await
            .map_err(|_| declined("the sign-in with the browser took too long"))?
            .map_err(local)?;
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.to_owned(), percent_decode_str(&v.replace('+', " ")).decode_utf8_lossy().into_owned()))
            .collect();
        let field = |name: &str| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        if field("state") != Some(state.as_str()) {
            return Err(declined("the browser's answer is not to this sign-in"));
        }
        if let Some(error) = field("error") {
            let description = field("error_description").unwrap_or_default().to_owned();
            return Err(ArmError::SignIn { error: error.to_owned(), description, status: 400, retry_after: None });
        }
        let code = field("code").ok_or_else(|| declined("the browser's answer holds no code"))?;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &client),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", &verifier),
            ("scope", scope),
        ];
        self.grant(&form, None, claims).await
    }
}

/// 43 characters of the URL-safe alphabet from the system's randomness (RFC 7636 section 4.1).
fn random() -> String {
    let bytes = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
