//! Signing in: device code, browser, client secret, client certificate, refresh token (`wire-azure.md`, "Sign-in").

use azsreg_model::{Problem, code, redact};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::address;
use crate::cache::Account;
use crate::challenge::{Claims, requested};
use crate::error::ArmError;
use crate::http::{Body, Http, host_of};
use crate::place::{Known, Place};

mod another;
mod person;

pub(crate) use another::Tries;

/// Azure PowerShell's public client: what the stamp has always been given a refresh token of.
const AZURE_POWERSHELL: Uuid = Uuid::from_u128(0x1950_a258_227b_4e31_a9cf_7174_9594_5fc2);
/// A token that is about to expire is not used any more.
const MARGIN: i64 = 120;
/// A directory's tokens are some kilobytes; no Resource Manager takes a header of this size.
const LONGEST_TOKEN: usize = 64 << 10;
/// Who shows a person what to do.
pub trait Prompt {
    /// A page to open and a code to enter there.
    fn device_code(&self, url: &str, code: &str, message: &str);
    /// A page that was opened in the browser, or has to be.
    fn browser(&self, url: &str, opened: bool);
    /// Whether a person can be asked in the middle of a run; `was_asked`: one has signed in for this run already.
    fn may_ask(&self, was_asked: bool) -> bool;
    /// Why a person has to sign in again.
    fn again(&self, why: &str);
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
    /// What the first sign-in of a person asks for.
    claims: Option<Claims>,
    /// Whether it is an operator of a stamp: nothing of that sign-in is kept.
    operator: bool,
    tokens: Mutex<Vec<Token>>,
    user: Mutex<Option<Account>>,
    /// What a person has been asked for in this run.
    asked: Mutex<Vec<Claims>>,
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
            claims: None,
            operator: false,
            tokens: Mutex::default(),
            user: Mutex::new(user),
            asked: Mutex::default(),
        }
    }

    /// And a person who signs in is asked for these claims at once.
    #[must_use]
    pub fn asking(self, claims: Option<Claims>) -> Self {
        Self { claims, ..self }
    }

    /// And it is an operator of a stamp who signs in.
    pub(crate) fn of_an_operator(self) -> Self {
        Self { operator: true, ..self }
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

    /// Whether the newest sign-in has been through multi-factor authentication; `None` where its tokens do not say.
    #[must_use]
    pub fn has_second_factor(&self) -> Option<bool> {
        let tokens = self.tokens.try_lock().ok()?;
        tokens.iter().rev().find_map(|token| second_factor(token.text.expose_secret()))
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
        let token = self.draw(audience, None).await?;
        Ok(put(&mut tokens, token))
    }

    /// A token of the directory: for an application's secret or key, a person's refresh token, or a person's sign-in.
    async fn draw(&self, audience: &str, claims: Option<&Claims>) -> Result<Token, ArmError> {
        let scope = self.scope(audience);
        let answer = match &self.sign_in {
            SignIn::ClientSecret { client, secret } => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", &client.to_string()),
                    ("client_secret", secret.expose_secret()),
                    ("scope", &scope),
                ];
                self.grant(&form, Some(audience), claims).await?
            }
            SignIn::ClientCertificate { client, certificate, key_pem } => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", &client.to_string()),
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", &self.assertion(*client, certificate, key_pem)?),
                    ("scope", &scope),
                ];
                self.grant(&form, Some(audience), claims).await?
            }
            SignIn::DeviceCode | SignIn::Browser | SignIn::Cached(_) => {
                let mut user = self.user.lock().await;
                let answer = match user.as_ref() {
                    Some(account) => {
                        let form = [
                            ("grant_type", "refresh_token"),
                            ("client_id", &account.client.to_string()),
                            ("refresh_token", account.refresh_token.expose_secret()),
                            ("scope", &of_a_person(&scope)),
                        ];
                        self.grant(&form, Some(audience), claims).await?
                    }
                    // On the heap: every call's future would be as large as a sign-in.
                    None => Box::pin(self.ask(audience, self.claims.as_ref(), None)).await?,
                };
                // What a person was to be asked for stays so, but for what was given now.
                let unmet = user.as_ref().and_then(|account| account.claims.clone());
                self.remember(&answer, &mut user, unmet.filter(|unmet| claims != Some(unmet)));
                answer
            }
        };
        self.take(audience, &answer)
    }

    /// AD FS takes the resource by itself; the scope of the newer protocol is beside it for those that want that.
    fn scope(&self, audience: &str) -> String {
        if self.is_adfs() { "openid".to_owned() } else { format!("{audience}/.default") }
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

    /// The signed-in user as far as it is known: nothing is asked for it.
    pub async fn known_account(&self) -> Option<Account> {
        self.user.lock().await.clone()
    }

    /// What a directory gave to a person is the sign-in from now on.
    fn remember(&self, answer: &Value, user: &mut Option<Account>, unmet: Option<Claims>) {
        let Some(refresh) = answer["refresh_token"].as_str() else { return };
        let before = user.as_ref().map(|account| account.user.clone());
        let client = user.as_ref().map_or(AZURE_POWERSHELL, |account| account.client);
        *user = Some(Account {
            user: name_of(answer).or(before).unwrap_or_default(),
            tenant: claim_of(answer, &["tid"]).filter(|tid| is_tenant(tid)).unwrap_or_else(|| self.tenant.clone()),
            asked: self.tenant.clone(),
            place: Some(self.place.clone()),
            authority: self.place.authority.clone(),
            client,
            refresh_token: refresh.to_owned().into(),
            browser: self.uses_browser(),
            claims: unmet,
        });
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

    async fn grant(
        &self,
        form: &[(&str, &str)],
        audience: Option<&str>,
        claims: Option<&Claims>,
    ) -> Result<Value, ArmError> {
        self.post("token", form, audience, claims).await
    }

    /// A form to the directory; with the claims, or with the resource where it is AD FS, which knows no claims.
    async fn post(
        &self,
        what: &str,
        form: &[(&str, &str)],
        audience: Option<&str>,
        claims: Option<&Claims>,
    ) -> Result<Value, ArmError> {
        let claims = (!self.is_adfs()).then(|| requested(claims));
        let resource = audience.filter(|_| self.is_adfs()).map(|audience| ("resource", audience));
        let claims = claims.as_deref().map(|claims| ("claims", claims));
        let form: &[_] = &form.iter().copied().chain(resource).chain(claims).collect::<Vec<_>>();
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

/// Whether a token says that its person has given a second factor; an application's says nothing of it.
fn second_factor(token: &str) -> Option<bool> {
    let claims = claims_of(Some(token))?;
    let methods = claims["amr"].as_array()?;
    Some(methods.iter().any(|method| method == "mfa"))
}

/// Keeps a token in place of the one before, and gives it.
fn put(tokens: &mut Vec<Token>, token: Token) -> SecretString {
    let text = token.text.clone();
    tokens.retain(|known| known.audience != token.audience);
    tokens.push(token);
    text
}

/// What a person's sign-in asks for besides.
fn of_a_person(scope: &str) -> String {
    format!("{scope} offline_access openid profile")
}

/// Whether a text is a tenant's id or name: it becomes a part of an address.
pub(crate) fn is_tenant(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty() && text.len() <= 255 && text.chars().all(good) && text.chars().any(|c| c != '.')
}

/// The name of the person whom a directory gave something to.
fn name_of(answer: &Value) -> Option<String> {
    claim_of(answer, &["preferred_username", "upn"])
}

/// The first of these claims that the tokens of an answer hold.
fn claim_of(answer: &Value, names: &[&str]) -> Option<String> {
    let claims = claims_of(answer["id_token"].as_str()).or_else(|| claims_of(answer["access_token"].as_str()))?;
    names.iter().find_map(|name| claims[*name].as_str().map(str::to_owned))
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

    #[test]
    fn a_token_says_whether_a_second_factor_was_given() {
        let of = |claims: Value| {
            let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
            second_factor(&format!("e30.{payload}.c2ln"))
        };
        assert_eq!(of(json!({"amr": ["pwd", "mfa"], "upn": "a@b"})), Some(true));
        assert_eq!(of(json!({"amr": ["pwd"]})), Some(false));
        assert_eq!(of(json!({"oid": "x", "idtyp": "app"})), None);
        assert_eq!(second_factor("opaque"), None);
    }
}
