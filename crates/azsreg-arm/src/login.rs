//! Signing in: device code, browser, client secret, client certificate, refresh token (`wire-azure.md`, "Sign-in").

use std::time::Duration;

use azsreg_model::{Problem, code, redact};
use azsreg_operations::waits;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::address::{self, checked};
use crate::browser;
use crate::cache::Account;
use crate::error::ArmError;
use crate::http::{Body, Http, host_of};
use crate::place::{Known, Place};

/// Azure PowerShell's public client: what the stamp has always been given a refresh token of.
const AZURE_POWERSHELL: Uuid = Uuid::from_u128(0x1950_a258_227b_4e31_a9cf_7174_9594_5fc2);
/// A token that is about to expire is not used any more.
const MARGIN: i64 = 120;
/// A directory's tokens are some kilobytes; no Resource Manager takes a header of this size.
const LONGEST_TOKEN: usize = 64 << 10;
/// How long a person has to enter a code at most, whatever the directory says: its own is a quarter of an hour.
const CODE_LIFE: i64 = 1_800;

/// Who shows a person what to do.
pub trait Prompt {
    /// A page to open and a code to enter there.
    fn device_code(&self, url: &str, code: &str, message: &str);
    /// A page that was opened in the browser, or has to be.
    fn browser(&self, url: &str, opened: bool);
}

/// How to sign in.
#[derive(Debug, Clone)]
pub enum SignIn {
    /// A person, with a code on another device.
    DeviceCode,
    /// A person, in the browser of this machine.
    Browser,
    /// A person who signed in before.
    Cached(Box<Account>),
    /// An application with a secret.
    ClientSecret {
        /// The application.
        client: Uuid,
        /// The secret.
        secret: SecretString,
    },
    /// An application with a certificate: the DER of it and the PEM of its key.
    ClientCertificate {
        /// The application.
        client: Uuid,
        /// The certificate.
        certificate: Vec<u8>,
        /// The private key as PEM.
        key_pem: SecretString,
    },
}

impl SignIn {
    /// Whether it is a person's.
    #[must_use]
    pub fn is_user(&self) -> bool {
        matches!(self, Self::DeviceCode | Self::Browser | Self::Cached(_))
    }
}

/// Splits a PEM file into a certificate and its private key.
///
/// # Errors
/// One of the two is not there.
pub fn certificate_from_pem(pem: &str) -> Result<(Vec<u8>, SecretString), &'static str> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "it holds no certificate")?;
    let start = pem.find("-----BEGIN PRIVATE KEY").or_else(|| pem.find("-----BEGIN RSA PRIVATE KEY"));
    let start = start.ok_or("it holds no RSA private key")?;
    redact::remember_pem(&pem[start..]);
    EncodingKey::from_rsa_pem(&pem.as_bytes()[start..])
        .map_err(|_| "its private key is no RSA key that can be read")?;
    Ok((certificate.to_vec(), pem[start..].to_owned().into()))
}

struct Token {
    audience: String,
    text: SecretString,
    /// When it is not used any more.
    until: Timestamp,
}

/// A signed-in identity of one place: gives tokens for its Resource Manager and its Graph, for nobody else, and signs in
/// when the first is asked for.
pub struct Identity<'a> {
    http: &'a Http,
    place: Place,
    known: Known,
    tenant: String,
    sign_in: SignIn,
    prompt: &'a dyn Prompt,
    tokens: Mutex<Vec<Token>>,
    user: Mutex<Option<Account>>,
}

impl<'a> Identity<'a> {
    /// An identity of a tenant at a place. `known` are the other places, whose tokens are not taken here.
    #[must_use]
    pub fn new(
        http: &'a Http,
        place: &Place,
        known: &Known,
        tenant: &str,
        sign_in: SignIn,
        prompt: &'a dyn Prompt,
    ) -> Self {
        let user = match &sign_in {
            SignIn::Cached(account) => Some((**account).clone()),
            _ => None,
        };
        let authority = place.authority.trim_end_matches('/').to_owned();
        Self {
            http,
            place: Place { authority, ..place.clone() },
            known: known.clone(),
            tenant: tenant.to_owned(),
            sign_in,
            prompt,
            tokens: Mutex::new(Vec::new()),
            user: Mutex::new(user),
        }
    }

    fn endpoint(&self, what: &str) -> String {
        if self.is_adfs() {
            // AD FS has neither tenants nor versions in its paths.
            return format!("{}/oauth2/{what}", self.place.authority);
        }
        format!("{}/{}/oauth2/v2.0/{what}", self.place.authority, self.tenant)
    }

    /// Whether the authority is Active Directory Federation Services: a stamp's own, mostly.
    fn is_adfs(&self) -> bool {
        self.place.authority.to_ascii_lowercase().ends_with("/adfs")
    }

    /// The tenant that is signed in to, as it was named.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Where it belongs.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether a person signs in here.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.sign_in.is_user()
    }

    /// An access token for an audience, to be shown to an endpoint.
    ///
    /// # Errors
    /// The two are not of this identity's place; the directory refuses, or can't be asked.
    pub(crate) async fn token(&self, endpoint: &str, audience: &str) -> Result<SecretString, ArmError> {
        let kept_elsewhere = |account: &Account| !account.place.as_ref().is_some_and(|place| place.is(&self.place));
        let elsewhere = matches!(&self.sign_in, SignIn::Cached(account) if kept_elsewhere(account));
        if elsewhere || !self.place.gives(endpoint, audience) {
            let message = format!("the sign-in for {} gives no token to {endpoint}", self.place.endpoint);
            return Err(Problem::new(&code::SIGN_IN_ELSEWHERE, message).into());
        }
        let mut tokens = self.tokens.lock().await;
        let good = |token: &&Token| token.audience == audience && token.until > Timestamp::now();
        if let Some(token) = tokens.iter().find(good) {
            return Ok(token.text.clone());
        }
        // AD FS takes the resource by itself; the scope of the newer protocol is beside it for those that want that.
        let scope = if self.is_adfs() { "openid".to_owned() } else { format!("{audience}/.default") };
        let answer = match &self.sign_in {
            SignIn::ClientSecret { client, secret } => {
                let client = client.to_string();
                self.grant(
                    &[
                        ("grant_type", "client_credentials"),
                        ("client_id", &client),
                        ("client_secret", secret.expose_secret()),
                        ("scope", &scope),
                        ("resource", audience),
                    ][..if self.is_adfs() { 5 } else { 4 }],
                )
                .await?
            }
            SignIn::ClientCertificate { client, certificate, key_pem } => {
                let assertion = self.assertion(*client, certificate, key_pem)?;
                let client = client.to_string();
                self.grant(
                    &[
                        ("grant_type", "client_credentials"),
                        ("client_id", &client),
                        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                        ("client_assertion", &assertion),
                        ("scope", &scope),
                        ("resource", audience),
                    ][..if self.is_adfs() { 6 } else { 5 }],
                )
                .await?
            }
            SignIn::DeviceCode | SignIn::Browser | SignIn::Cached(_) => self.user_token(&scope, audience).await?,
        };
        let token = self.take(audience, &answer)?;
        let text = token.text.clone();
        tokens.retain(|known| known.audience != audience);
        tokens.push(token);
        Ok(text)
    }

    /// What the directory gave, if it can be used: a token that is expired or somebody else's would only be refused, and
    /// the secret sent for it again.
    fn take(&self, audience: &str, answer: &Value) -> Result<Token, ArmError> {
        let unusable = |why: &str| {
            let message = format!("{} answered the sign-in, but {why}", host_of(&self.place.authority));
            ArmError::from(Problem::new(&code::TOKEN_UNUSABLE, message))
        };
        let text = answer["access_token"].as_str().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| unusable("the answer holds no access token"))?;
        if text.len() > LONGEST_TOKEN {
            return Err(address::too_large("the access token", "bytes", LONGEST_TOKEN));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("the access token has characters that no token has"));
        }
        let life = &answer["expires_in"];
        let life = life.as_i64().or_else(|| life.as_str()?.parse().ok()).unwrap_or(300).clamp(0, 86_400);
        let now = Timestamp::now();
        // The directory's own clock counts: this machine's may be wrong.
        let theirs = now.as_second() + self.http.skew().as_secs();
        let claims = claims_of(Some(text)).unwrap_or_default();
        if life == 0 || claims["exp"].as_i64().is_some_and(|end| end.saturating_add(300) < theirs) {
            return Err(unusable("the access token has expired already"));
        }
        if claims["aud"].as_str().is_some_and(|own| self.known.is_of_another(&self.place, own)) {
            return Err(unusable("the access token is for another endpoint"));
        }
        // One that lives for moments is used for half of them: it is not drawn anew for each call.
        let until = now + jiff::SignedDuration::from_secs(life - MARGIN.min(life / 2));
        Ok(Token { audience: audience.to_owned(), text: text.to_owned().into(), until })
    }

    /// The signed-in user, with the refresh token that the stamp's bridge needs.
    ///
    /// # Errors
    /// It is an application that is signed in, or the sign-in fails.
    pub async fn account(&self) -> Result<Account, ArmError> {
        if !self.is_user() {
            return Err(Problem::new(
                &code::USER_SIGN_IN_NEEDED,
                "an application is signed in; it has no refresh token",
            )
            .into());
        }
        self.token(&self.place.endpoint, &self.place.audience).await?;
        let user = self.user.lock().await;
        user.clone().ok_or_else(|| {
            ArmError::from(Problem::new(
                &code::USER_SIGN_IN_NEEDED,
                "the directory gave no refresh token with the sign-in",
            ))
        })
    }

    async fn user_token(&self, scope: &str, audience: &str) -> Result<Value, ArmError> {
        let mut user = self.user.lock().await;
        let known = user.as_ref().map(|account| (account.refresh_token.clone(), account.client));
        let full = format!("{scope} offline_access openid profile");
        let answer = match (known, &self.sign_in) {
            (Some((refresh, client)), _) => {
                let client = client.to_string();
                self.grant(
                    &[
                        ("grant_type", "refresh_token"),
                        ("client_id", &client),
                        ("refresh_token", refresh.expose_secret()),
                        ("scope", &full),
                        ("resource", audience),
                    ][..if self.is_adfs() { 5 } else { 4 }],
                )
                .await?
            }
            (None, SignIn::Browser) => self.browser(&full).await?,
            (None, _) => self.device_code(&full, audience).await?,
        };
        if let Some(refresh) = answer["refresh_token"].as_str() {
            let claims = claims_of(answer["id_token"].as_str()).or_else(|| claims_of(answer["access_token"].as_str()));
            let claim = |names: &[&str]| {
                let claims = claims.as_ref()?;
                names.iter().find_map(|name| claims[*name].as_str().map(str::to_owned))
            };
            let before = user.as_ref().map(|account| account.user.clone());
            let client = user.as_ref().map_or(AZURE_POWERSHELL, |account| account.client);
            *user = Some(Account {
                user: claim(&["preferred_username", "upn"]).or(before).unwrap_or_default(),
                tenant: claim(&["tid"]).filter(|tid| is_tenant(tid)).unwrap_or_else(|| self.tenant.clone()),
                asked: self.tenant.clone(),
                place: Some(self.place.clone()),
                authority: self.place.authority.clone(),
                client,
                refresh_token: refresh.to_owned().into(),
            });
        }
        Ok(answer)
    }

    async fn device_code(&self, scope: &str, audience: &str) -> Result<Value, ArmError> {
        let client = AZURE_POWERSHELL.to_string();
        let form = [("client_id", client.as_str()), ("scope", scope), ("resource", audience)];
        let started = self.post("devicecode", &form[..if self.is_adfs() { 3 } else { 2 }]).await?;
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
        let _answer = waits::answer_of("the person who signs in", patience);
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
            let polled = tokio::time::timeout_at(deadline, self.grant(&form)).await.map_err(|_| late())?;
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

    async fn browser(&self, scope: &str) -> Result<Value, ArmError> {
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
        let url = format!(
            "{}?response_type=code&response_mode=query&client_id={client}&redirect_uri={}&scope={}&state={state}&code_challenge={challenge}&code_challenge_method=S256&prompt=select_account",
            self.endpoint("authorize"),
            encode(&redirect),
            encode(scope)
        );
        self.prompt.browser(&url, browser::open(&url).is_ok());
        let _answer = waits::answer_of("the person who signs in", Duration::from_secs(600));
        let declined = |text: &str| ArmError::from(Problem::new(&code::SIGN_IN_DECLINED, text.to_owned()));
        let query = tokio::time::timeout(Duration::from_secs(600), browser::wait(listener))
            .await
            .map_err(|_| declined("nobody signed in with the browser in time"))?
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
        self.grant(&[
            ("grant_type", "authorization_code"),
            ("client_id", &client),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", &verifier),
            ("scope", scope),
        ])
        .await
    }

    /// A client assertion (RFC 7523) signed with the certificate's key, named by its thumbprint.
    fn assertion(&self, client: Uuid, certificate: &[u8], key_pem: &SecretString) -> Result<String, ArmError> {
        // Azure was not asked: the key is this machine's.
        let bad = |why: String| {
            ArmError::from(Problem::new(&code::FILE_UNREADABLE, format!("the certificate's key can't sign: {why}")))
        };
        let key = EncodingKey::from_rsa_pem(key_pem.expose_secret().as_bytes()).map_err(|e| bad(e.to_string()))?;
        let mut header = Header::new(Algorithm::RS256);
        header.x5t = Some(BASE64_URL_SAFE_NO_PAD.encode(Sha1::digest(certificate)));
        header.x5t_s256 = Some(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate)));
        let now = Timestamp::now().as_second();
        let claims = json!({
            "aud": self.endpoint("token"), "iss": client, "sub": client, "jti": Uuid::new_v4(), "nbf": now - 60, "exp": now + 600,
        });
        jsonwebtoken::encode(&header, &claims, &key).map_err(|e| bad(e.to_string()))
    }

    async fn grant(&self, form: &[(&str, &str)]) -> Result<Value, ArmError> {
        self.post("token", form).await
    }

    async fn post(&self, what: &str, form: &[(&str, &str)]) -> Result<Value, ArmError> {
        const SENT: &[&str] =
            &["client_secret", "client_assertion", "refresh_token", "device_code", "code", "code_verifier"];
        form.iter().filter(|(name, _)| SENT.contains(name)).for_each(|(_, secret)| redact::remember(secret));
        let asked = self.http.call(Method::POST, &self.endpoint(what), None, Body::Form(form)).await;
        let answer = asked.map_err(|error| match error {
            ArmError::Unreadable { host, reason } => {
                let message = format!("{host} answered the sign-in, but the answer can't be read: {reason}");
                ArmError::from(Problem::new(&code::TOKEN_UNUSABLE, message))
            }
            other => other,
        })?;
        for name in ["access_token", "refresh_token", "id_token", "device_code"] {
            redact::remember(answer.body[name].as_str().unwrap_or_default());
        }
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let text = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        Err(ArmError::SignIn {
            error: text("error"),
            description: text("error_description"),
            status: answer.status.as_u16(),
            retry_after: answer.retry_after(),
        })
    }
}

/// Whether a text is a tenant's id or name: it becomes a part of an address.
pub(crate) fn is_tenant(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty() && text.len() <= 255 && text.chars().all(good) && text.chars().any(|c| c != '.')
}

/// 43 characters of the URL-safe alphabet from the system's randomness (RFC 7636 section 4.1).
fn random() -> String {
    let bytes = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims of a token that came straight from the directory over TLS: nothing is decided by them, they are shown.
fn claims_of(token: Option<&str>) -> Option<Value> {
    let payload = token?.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_can_not_sign_is_known_when_its_file_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let of = |pem: String| certificate_from_pem(&pem).err();
        assert_eq!(of(certificate.clone()), Some("it holds no RSA private key"));
        assert_eq!(
            of(format!("{certificate}{}", key.serialize_pem())),
            Some("its private key is no RSA key that can be read")
        );
        assert_eq!(of(key.serialize_pem()), Some("it holds no certificate"));
    }
}
