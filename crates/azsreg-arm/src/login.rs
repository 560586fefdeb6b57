//! Signing in: device code, browser, client secret, client certificate, refresh token (`wire-azure.md`, "Sign-in").

use std::time::Duration;

use azsreg_model::redact::{self, of_server};
use azsreg_model::{Problem, Signed, aadsts_number, aadsts_sentence, claims_problem, code};
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
use crate::challenge::{Claims, Wanted, requested};
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
    Ok((certificate.to_vec(), pem[start..].to_owned().into()))
}

/// The other tokens that a call has been given: each way to one is gone once.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    newer: bool,
    claims: bool,
    person: bool,
}

impl Tries {
    /// Whether a newer token was given than the first.
    pub(crate) fn newer(&self) -> bool {
        self.newer
    }
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

    /// Another token in place of one that was not taken, as the refusal asks for; `None` where there is no other way to one.
    ///
    /// # Errors
    /// The directory refuses, or can't be asked; what is asked for needs a person, and none can be asked, or gave it before.
    pub(crate) async fn another(
        &self,
        audience: &str,
        refused: &SecretString,
        wanted: &Wanted,
        tries: &mut Tries,
    ) -> Result<Option<SecretString>, ArmError> {
        let mut tokens = self.tokens.lock().await;
        let newer = |token: &&Token| token.text.expose_secret() != refused.expose_secret();
        if let Some(token) = tokens.iter().filter(|token| token.audience == audience).find(newer) {
            // A call beside this one was given it.
            return Ok(Some(token.text.clone()));
        }
        let token = match wanted {
            Wanted::Newer if tries.newer || !self.draws_alone().await => return Ok(None),
            Wanted::Newer => {
                tries.newer = true;
                self.draw(audience, None).await?
            }
            Wanted::Claims(claims) => self.with_claims(audience, claims, tries).await?,
        };
        Ok(Some(put(&mut tokens, token)))
    }

    /// A token with claims: of what is known first, then of a person.
    async fn with_claims(&self, audience: &str, claims: &Claims, tries: &mut Tries) -> Result<Token, ArmError> {
        let mut needed = claims_problem(&host_of(&self.place.endpoint), &claims.words(), self.signed());
        if !self.is_adfs() && self.draws_alone().await && !std::mem::replace(&mut tries.claims, true) {
            match self.draw(audience, Some(claims)).await {
                Err(ArmError::SignIn { error, description, .. }) if wants_person(&error, &description) => {
                    needed = needed.detail(of_server(&aadsts_sentence(&description)));
                }
                other => return other,
            }
        }
        // What is only good to know is not worth a second factor.
        if audience != self.place.audience {
            return Err(ArmError::ClaimsNeeded(Box::new(needed)));
        }
        // The next `azsreg login` asks for it, if the person does not give it now.
        if let Some(account) = self.user.lock().await.as_mut() {
            account.claims = Some(claims.clone());
        }
        let mut asked = self.asked.lock().await;
        let was_asked = !matches!(self.sign_in, SignIn::Cached(_));
        let may_ask = self.is_user() && !self.is_adfs() && self.prompt.may_ask(was_asked);
        if !may_ask || asked.contains(claims) || std::mem::replace(&mut tries.person, true) {
            return Err(ArmError::ClaimsNeeded(Box::new(needed)));
        }
        asked.push(claims.clone());
        let who = self.user.lock().await.as_ref().map(|account| account.user.clone()).unwrap_or_default();
        let who = if who.is_empty() { String::new() } else { format!(" as {who}") };
        self.prompt.again(&format!("{}: sign in again{who}.", needed.message));
        let mut user = self.user.lock().await;
        let answer = self.ask(audience, Some(claims), user.as_ref()).await?;
        let before = user.as_ref().map(|account| account.user.as_str()).filter(|name| !name.is_empty());
        if let (Some(before), Some(name)) = (before, name_of(&answer))
            && !before.eq_ignore_ascii_case(&name)
        {
            let message = format!("{} signed in; {before} was asked to", of_server(&name));
            return Err(Problem::new(&code::ANOTHER_ACCOUNT, message).into());
        }
        self.remember(&answer, &mut user, None);
        self.take(audience, &answer)
    }

    /// Whether a token can be drawn without a person.
    async fn draws_alone(&self) -> bool {
        !self.is_user() || self.user.lock().await.is_some()
    }

    /// Who is asked for more than the sign-in has.
    fn signed(&self) -> Signed {
        match (self.is_user(), self.operator) {
            (false, _) => Signed::Application,
            (true, true) => Signed::Operator,
            (true, false) => Signed::Person,
        }
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

    /// A person signs in, as before.
    async fn ask(&self, audience: &str, claims: Option<&Claims>, before: Option<&Account>) -> Result<Value, ArmError> {
        let scope = of_a_person(&self.scope(audience));
        match self.uses_browser() {
            true => self.browser(&scope, claims, before).await,
            false => self.device_code(&scope, audience, claims).await,
        }
    }

    /// Whether the person signs in with a browser; with a code otherwise.
    fn uses_browser(&self) -> bool {
        match &self.sign_in {
            SignIn::Cached(account) => account.browser,
            other => matches!(other, SignIn::Browser),
        }
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

    async fn device_code(&self, scope: &str, audience: &str, claims: Option<&Claims>) -> Result<Value, ArmError> {
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

    /// A client assertion (RFC 7523) signed with the certificate's key, named by its thumbprint.
    fn assertion(&self, client: Uuid, certificate: &[u8], key_pem: &SecretString) -> Result<String, ArmError> {
        let bad = |why: String| {
            ArmError::from(Problem::new(&code::BAD_CLIENT_SECRET, format!("the certificate's key can't sign: {why}")))
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

/// Whether a directory that refuses a refresh token may give one to the person. What a policy blocks it gives to neither.
fn wants_person(error: &str, description: &str) -> bool {
    let blocked = matches!(aadsts_number(description), Some(53_000..=53_003));
    ["interaction_required", "login_required", "invalid_grant"].contains(&error) && !blocked
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
