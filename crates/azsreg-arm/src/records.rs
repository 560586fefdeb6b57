//! The port of the stamp's own Resource Manager: the activation record (`facts-stamp.md` section 1).

use azsreg_model::{ActivationRecord, Expiration, Problem, StampInformation, code};
use azsreg_operations::marketplace::stamp::scrubbed;
use azsreg_operations::ports::{Class, PortError, Records};
use reqwest::Method;
use serde_json::Value;

use crate::absent::{self, is_resource};
use crate::address::{self, checked};
use crate::cloud::authority;
use crate::error::{ArmError, too_long};
use crate::http::{Body, Http, host_of};
use crate::login::{Identity, Prompt, SignIn, is_tenant};
use crate::manager::{Manager, Seen};
use crate::place::{Known, Place};

const SUBSCRIPTIONS: &str = "2015-11-01";
/// What the bridge's provider speaks.
pub(crate) const BRIDGE: &str = "2016-01-01";

/// The records of a stamp, read with a sign-in of an operator of the stamp.
pub struct RecordsPort<'a> {
    /// For the directory, through a proxy where there is one.
    login: &'a Http,
    /// For the stamp, directly.
    http: &'a Http,
    sign_in: SignIn,
    prompt: &'a dyn Prompt,
    known: Known,
    identity: tokio::sync::OnceCell<Identity<'a>>,
    /// The stamp's Resource Manager.
    host: tokio::sync::OnceCell<String>,
    /// The path of the activation record.
    record: tokio::sync::OnceCell<String>,
    /// The pages of usage that were read.
    pub(crate) seen: Seen,
}

impl<'a> RecordsPort<'a> {
    /// Records over a client that takes no proxy; `login` is the client for the directory. `known` are the clouds: the stamp
    /// is none of them.
    #[must_use]
    pub fn new(login: &'a Http, http: &'a Http, sign_in: SignIn, prompt: &'a dyn Prompt, known: Known) -> Self {
        Self {
            login,
            http,
            sign_in,
            prompt,
            known,
            seen: Seen::default(),
            identity: tokio::sync::OnceCell::new(),
            host: tokio::sync::OnceCell::new(),
            record: tokio::sync::OnceCell::new(),
        }
    }

    /// The client for the stamp.
    pub(crate) fn http(&self) -> &Http {
        self.http
    }

    /// What is wrong there is wrong at the stamp: say so with its host, and keep what was said. A directory or a proxy in
    /// between answers for itself.
    pub(crate) fn failed(&self, error: ArmError) -> PortError {
        let host = self.host.get().map_or("", String::as_str);
        let manager = format!("the stamp's Resource Manager {host}");
        let fault = match &error {
            ArmError::Refused { status: status @ (408 | 429 | 500..), retry_after, .. } => {
                if let Some(problem) = too_long(&manager, *retry_after) {
                    return PortError::permanent(problem);
                }
                let what = if *status == 429 { "asks for fewer calls:" } else { "failed with" };
                Some(format!("{manager} {what} HTTP status {status}"))
            }
            ArmError::Unreachable { host: whose, reason, .. } | ArmError::Broken { host: whose, reason } => {
                (whose == host).then(|| format!("the call to {manager} broke: {reason}"))
            }
            _ => None,
        };
        let refused = matches!(&error, ArmError::Refused { .. });
        let elsewhere = matches!(&error, ArmError::Unreachable { host: whose, .. } if whose != host);
        let error = PortError::from(error);
        let entry = error.problem.code;
        let azures = [&code::AZURE_FAULT, &code::AZURE_UNREACHABLE, &code::THROTTLED];
        if matches!(error.class, Class::Transient | Class::Throttled(_)) {
            return match fault.filter(|_| azures.contains(&entry)) {
                Some(message) => {
                    let mut problem = Problem::new(&code::STAMP_FAULT, message);
                    problem.details = error.problem.details.iter().map(|detail| scrubbed(detail)).collect();
                    PortError { problem: Box::new(problem), class: error.class }
                }
                None => error,
            };
        }
        // What a server may not do has a code of its own, at a stamp as elsewhere; so has what stands in between.
        let own = ["AZR302", "AZR404", "AZR405"].iter().any(|range| entry.id.starts_with(range))
            || [&code::STAMP_ARM, &code::AZURE_CERTIFICATE, &code::PROXY_SETTING].contains(&entry);
        if own || elsewhere {
            return error;
        }
        let mut problem = *error.problem;
        problem.code = &code::STAMP_ARM;
        // What else fails names its host itself.
        let who = if refused { manager.as_str() } else { "the stamp's Resource Manager" };
        problem.message = format!("{who} can't be used: {}", problem.message);
        problem.details = problem.details.iter().map(|detail| scrubbed(detail)).collect();
        PortError { problem: Box::new(problem), class: error.class }
    }

    /// The stamp says where to sign in to it and for which audience.
    async fn signed_in(&self, endpoint: &str, stamp: &StampInformation) -> Result<Identity<'a>, ArmError> {
        let allow_http = self.http.allow_http();
        let host = address::host(&checked(endpoint, "the Resource Manager that the stamp names", allow_http)?);
        self.known.check_stamp(endpoint)?;
        let url = format!("{}/metadata/endpoints?api-version=2015-01-01", endpoint.trim_end_matches('/'));
        let answer = self.http.call(Method::GET, &url, None, Body::None).await?;
        let text = |pointer: &str| answer.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (login, audience) = (text("/authentication/loginEndpoint"), text("/authentication/audiences/0"));
        if login.is_empty() || audience.is_empty() {
            return Err(ArmError::Unreadable {
                host: host_of(endpoint),
                reason: "it is not a stamp's metadata".into(),
            });
        }
        let (at, named) = authority(login, &host, allow_http)?;
        let adfs = at.to_ascii_lowercase().ends_with("/adfs");
        // The tenant is the stamp's own, whether the address names it or not.
        let named = if adfs { Some("adfs".to_owned()) } else { named };
        let tenant = named.or_else(|| stamp.tenant_id.clone()).filter(|tenant| is_tenant(tenant));
        let place = Place {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            authority: at,
            audience: audience.to_owned(),
            graph: String::new(),
        };
        self.known.check(&place)?;
        // The stamp's own authority is reached as the stamp is; a directory perhaps through a proxy.
        let http = if adfs { self.http } else { self.login };
        let tenant = tenant.unwrap_or_else(|| "organizations".into());
        Ok(Identity::new(http, &place, &self.known, &tenant, self.sign_in.clone(), self.prompt).of_an_operator())
    }

    /// The manager, and the path of the activation record in the Default Provider Subscription.
    pub(crate) async fn at(&self, stamp: &StampInformation) -> Result<(Manager<'_>, String), ArmError> {
        let endpoint = stamp.admin_arm_endpoint.as_deref().ok_or_else(|| {
            ArmError::from(Problem::new(&code::STAMP_ARM, "the stamp does not say where its Resource Manager is"))
        })?;
        self.host.get_or_init(async || host_of(endpoint)).await;
        let signed_in = self.identity.get_or_try_init(|| self.signed_in(endpoint, stamp)).await?;
        let manager = Manager::new(self.http, signed_in);
        let path = self.record.get_or_try_init(async || {
            let subscriptions = manager.list("/subscriptions", SUBSCRIPTIONS, absent::NEVER).await?;
            let provider = subscriptions
                .iter()
                .find(|s| s["displayName"].as_str() == Some("Default Provider Subscription"))
                .and_then(|s| s["subscriptionId"].as_str())
                .ok_or_else(|| {
                    ArmError::from(Problem::new(
                        &code::STAMP_ARM,
                        "the operator sign-in does not see the Default Provider Subscription of the stamp",
                    ))
                })?;
            Ok::<_, ArmError>(format!(
                "/subscriptions/{provider}/resourceGroups/azurestack-activation/providers/Microsoft.AzureBridge.Admin/activations/default"
            ))
        });
        let path = path.await?.clone();
        Ok((manager, path))
    }

    async fn read(&self, stamp: &StampInformation) -> Result<Option<ActivationRecord>, ArmError> {
        let (manager, path) = self.at(stamp).await?;
        let unclear =
            |reason: String| ArmError::Unclear { host: manager.host(), what: "the stamp's activation".into(), reason };
        match manager.call(Method::GET, &path, BRIDGE, None).await {
            Ok(body) => match read(&body, &path) {
                Some(record) => Ok(record),
                None => Err(unclear("the answer is no activation record".into())),
            },
            Err(ArmError::Unreadable { reason, .. }) => Err(unclear(reason)),
            // What the stamp's Resource Manager itself says to be absent is looked for in the list as well: an activation that is
            // believed to be absent is not removed.
            Err(ArmError::Refused { status: 404, code, .. }) if !code.starts_with("HTTP ") => {
                let all = path.rsplit_once('/').map_or(path.as_str(), |(all, _)| all);
                match manager.list(all, BRIDGE, absent::NEVER).await {
                    Ok(list) if list.is_empty() => Ok(None),
                    Ok(_) => Err(unclear("it is said to be missing, and is in the list of activations".into())),
                    Err(ArmError::Refused { status: 404, code: of_list, .. }) => {
                        Err(unclear(format!("it is said to be missing ({code}), and so is the list ({of_list})")))
                    }
                    Err(ArmError::Unreadable { reason, .. }) => Err(unclear(reason)),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// What a body says of the activation at a path: the record, or that there is none, which a deactivation may leave as a record
/// that names no registration. `None` where it is no activation record, or names a registration in a way that can't be read.
fn read(body: &Value, path: &str) -> Option<Option<ActivationRecord>> {
    let properties = body["properties"].as_object()?;
    match properties.get("azureRegistrationResourceIdentifier").and_then(Value::as_str).map(str::trim) {
        // Only the record itself may say that there is none.
        None | Some("") => is_resource(body, path).then_some(None),
        Some(_) => activation(body).map(Some),
    }
}

/// The activation record out of its resource; one that names no registration is what a deactivation leaves.
#[must_use]
pub fn activation(record: &Value) -> Option<ActivationRecord> {
    let property = |name: &str| record.pointer(&format!("/properties/{name}"));
    let text = |name: &str| property(name).and_then(Value::as_str).unwrap_or_default();
    let flag = |name: &str| property(name).and_then(Value::as_bool);
    Some(ActivationRecord {
        registration: text("azureRegistrationResourceIdentifier").parse().ok()?,
        provisioning_state: text("provisioningState").to_owned(),
        expiration: Expiration::parse(text("expiration")),
        marketplace: flag("marketplaceSyndicationEnabled"),
        usage_reporting: flag("usageReportingEnabled"),
    })
}

impl Records for RecordsPort<'_> {
    async fn activation(&self, stamp: &StampInformation) -> Result<Option<ActivationRecord>, PortError> {
        self.read(stamp).await.map_err(|error| self.failed(error))
    }

    async fn downloaded(&self, stamp: &StampInformation) -> Result<Vec<String>, PortError> {
        let list = async {
            let (manager, path) = self.at(stamp).await?;
            let path = format!("{path}/downloadedProducts");
            manager.resources(&path, BRIDGE, absent::RESOURCE, "downloadedProducts").await
        };
        let items = list.await.map_err(|error| self.failed(error))?;
        let shown = |item: &Value| {
            let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            text("/properties/displayName").or_else(|| text("/name"))
        };
        Ok(items.iter().filter_map(shown).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Nobody, http, metadata, server, stamp};
    use serde_json::json;

    fn place(endpoint: &str, audience: &str) -> Place {
        Place {
            endpoint: endpoint.into(),
            authority: "https://login.example".into(),
            audience: audience.into(),
            graph: String::new(),
        }
    }

    /// A server that answers everything with this, and says where it is.
    async fn answering(answer: &'static str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 8_192]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn what_fails_at_the_stamp_is_the_stamps_and_has_its_host() {
        const END: &str = "Connection: close\r\nContent-Length: 0\r\n\r\n";
        for (answer, id, what) in [
            (format!("HTTP/1.1 503 Busy\r\n{END}"), "AZR2038", "failed with HTTP status 503"),
            (format!("HTTP/1.1 503 Busy\r\nRetry-After: 3\r\n{END}"), "AZR2038", "failed with HTTP status 503"),
            (format!("HTTP/1.1 503 Busy\r\nRetry-After: 604800\r\n{END}"), "AZR4046", "asks to wait 604800 s"),
            (format!("HTTP/1.1 429 Slowly\r\n{END}"), "AZR2038", "asks for fewer calls: HTTP status 429"),
            (String::new(), "AZR2038", "broke"),
        ] {
            let answer: &'static str = answer.leak();
            let host = answering(answer).await;
            let http = http(true);
            let sign_in = SignIn::ClientSecret { client: uuid::Uuid::nil(), secret: "the secret".to_owned().into() };
            let port = RecordsPort::new(&http, &http, sign_in, &Nobody, Known::default());
            let (login, _) = server(vec![("/", json!({"access_token": "t", "expires_in": 3600}).to_string())]).await;
            let place = place(&format!("http://{host}"), "https://a.example/x");
            let place = Place { authority: login, ..place };
            port.host.set(host.clone()).unwrap();
            let identity = Identity::new(&http, &place, &port.known, "tenant-1", port.sign_in.clone(), &Nobody);
            let manager = Manager::new(&http, &identity);
            let error = manager.list("/subscriptions", SUBSCRIPTIONS, absent::NEVER).await.unwrap_err();
            let error = port.failed(error);
            assert_eq!(error.problem.code.id, id, "{answer}: {}", error.problem.message);
            assert!(
                error.problem.message.contains(&host) && error.problem.message.contains(what),
                "{}",
                error.problem.message
            );
            assert!(!error.problem.message.contains("Azure"), "{}", error.problem.message);
        }
    }

    /// What asking the stamp for its record ends with, of a stamp that names this Resource Manager.
    async fn asked(endpoint: &str, known: Known, allow_http: bool) -> String {
        let http = http(allow_http);
        let sign_in = SignIn::ClientSecret { client: uuid::Uuid::nil(), secret: "the secret".to_owned().into() };
        let port = RecordsPort::new(&http, &http, sign_in, &Nobody, known);
        match port.activation(&stamp(endpoint)).await {
            Ok(_) => "read".into(),
            Err(error) => error.problem.code.id.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_stamp_gets_no_token_of_anybody_else() {
        let (login, given) = server(vec![("/", json!({"access_token": "t", "expires_in": 3600}).to_string())]).await;
        let own = "https://adminmanagement.contoso.onmicrosoft.com/8e2f1ee1-0000-4000-8000-000000000001";
        let cloud = "https://management.contoso.example/";
        for (audience, expected) in [
            (own, "AZR2017"),
            (cloud, "AZR3020"),
            ("https://management.azure.com/", "AZR3020"),
            ("797f4846-ba00-4fd7-ba43-dac1f8f63013", "AZR3020"),
        ] {
            given.lock().unwrap().clear();
            let (stamp, received) = server(vec![
                ("/metadata", metadata(&format!("{login}/tenant-1"), audience)),
                ("/subscriptions", json!({"value": []}).to_string()),
            ])
            .await;
            let known = Known::new(vec![place("https://management.contoso.example", cloud)]);
            // An honest one is asked, and has no Default Provider Subscription.
            assert_eq!(asked(&stamp, known, true).await, expected, "{audience}");
            let honest = usize::from(audience == own);
            assert_eq!(given.lock().unwrap().len(), honest, "{audience}");
            let bearers = received.lock().unwrap().iter().filter(|sent| sent.contains("Bearer")).count();
            assert_eq!(bearers, honest, "{audience}");
        }
        // A cloud that the stamp calls its own is not even asked for its metadata.
        let (cloud, received) = server(vec![("/metadata", metadata(&login, own))]).await;
        assert_eq!(asked(&cloud, Known::new(vec![place(&cloud, "https://x.example/")]), true).await, "AZR3023");
        assert_eq!(asked("https://management.azure.com", Known::default(), true).await, "AZR3023");
        assert!(received.lock().unwrap().is_empty());
    }

    /// A stamp asks for a second factor too. What it asks for goes to its directory; to AD FS, which knows no claims, none does.
    #[tokio::test]
    async fn a_stamp_that_challenges_its_operator_ends_with_a_code() {
        // {"access_token":{"acrs":{"essential":true,"values":["p1"]}}}
        let claims = "eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlcyI6WyJwMSJdfX19";
        let challenge = format!(
            "HTTP/1.1 401 X\r\nConnection: close\r\nContent-Length: 2\r\nWWW-Authenticate: Bearer error=\"insufficient_claims\", claims=\"{claims}\"\r\n\r\n{{}}"
        );
        let own = "https://adminmanagement.contoso.onmicrosoft.com/8e2f1ee1-0000-4000-8000-000000000001";
        let code = json!({"device_code": "d", "user_code": "u", "verification_uri": "https://login.example/device", "interval": 1});
        let token = json!({"access_token": "t", "refresh_token": "r", "expires_in": 3600});
        for (path, device, asked) in
            [("tenant-1", "/tenant-1/oauth2/v2.0/devicecode", 3), ("adfs", "/adfs/oauth2/devicecode", 3)]
        {
            let offer = json!({"device_authorization_endpoint": "https://adfs.example/adfs/oauth2/devicecode"});
            let answers =
                vec![(device, code.to_string()), ("/adfs/.well-known/", offer.to_string()), ("/", token.to_string())];
            let (login, given) = server(answers).await;
            let metadata = metadata(&format!("{login}/{path}"), own);
            let (arm, _) = server(vec![("/metadata", metadata), ("/subscriptions", challenge.clone())]).await;
            let http = http(true);
            let port = RecordsPort::new(&http, &http, SignIn::DeviceCode, &Nobody, Known::default());
            let error = port.activation(&stamp(&arm)).await.unwrap_err();
            assert_eq!((error.problem.code.id, error.class), ("AZR3024", Class::Refused), "{error}");
            let next = if path == "adfs" { "Find out" } else { "Run the same command again at a terminal" };
            assert!(error.problem.then().starts_with(next), "{error}");
            let given = given.lock().unwrap();
            let with_claims = given.iter().filter(|sent| sent.contains("claims=") && sent.contains("acrs")).count();
            let expected = if path == "adfs" { (0, 0) } else { (1, 3) };
            let all = given.iter().filter(|sent| sent.contains("claims=")).count();
            assert_eq!((with_claims, all, given.len()), (expected.0, expected.1, asked), "{given:?}");
        }
    }

    /// AD FS of before 2019 has no codes: its own metadata says what it has, and nothing else is tried.
    #[tokio::test]
    async fn a_code_is_asked_for_where_the_metadata_offers_it_alone() {
        let own = "https://adminmanagement.contoso.example/8e2f1ee1-0000-4000-8000-000000000001";
        for metadata_of_adfs in
            [json!({"token_endpoint": "https://adfs.example/adfs/oauth2/token"}).to_string(), "-".into()]
        {
            let (login, given) = server(vec![("/adfs/.well-known/", metadata_of_adfs)]).await;
            let (arm, _) = server(vec![("/metadata", metadata(&format!("{login}/adfs"), own))]).await;
            let http = http(true);
            let port = RecordsPort::new(&http, &http, SignIn::DeviceCode, &Nobody, Known::default());
            let problem = port.activation(&stamp(&arm)).await.unwrap_err().problem;
            assert_eq!(problem.code.id, "AZR2017", "{problem}");
            assert!(problem.then().contains("--stamp-client-certificate"), "{}", problem.then());
            assert_eq!(given.lock().unwrap().len(), 1, "no code was asked for");
        }
    }

    /// An application of AD FS signs its assertion for AD FS's own token endpoint, and names its certificate by thumbprint.
    #[tokio::test]
    async fn an_application_of_ad_fs_signs_in_with_its_certificate() {
        let key = rsa_key();
        let own = "https://adminmanagement.contoso.example/8e2f1ee1-0000-4000-8000-000000000001";
        let token = json!({"access_token": "t", "expires_in": 3600});
        let (login, given) = server(vec![("/adfs/oauth2/token", token.to_string())]).await;
        let (arm, asked) = server(vec![
            ("/metadata", metadata(&format!("{login}/adfs"), own)),
            ("/subscriptions", json!({"value": []}).to_string()),
        ])
        .await;
        let http = http(true);
        let client = uuid::Uuid::from_u128(7);
        let sign_in = SignIn::ClientCertificate { client, certificate: b"certificate".to_vec(), key_pem: key.into() };
        let port = RecordsPort::new(&http, &http, sign_in, &Nobody, Known::default());
        // There is no Default Provider Subscription: it came as far as asking for it.
        assert_eq!(port.activation(&stamp(&arm)).await.unwrap_err().problem.code.id, "AZR2017");
        assert!(asked.lock().unwrap().iter().any(|sent| sent.contains("Bearer t")), "the token is used");
        let given = given.lock().unwrap();
        let field = |name: &str| {
            given[0].split(['&', '\n']).find_map(|part| part.trim().strip_prefix(name)).unwrap().to_owned()
        };
        assert!(given[0].contains("resource="), "AD FS takes the resource by itself");
        let assertion = field("client_assertion=");
        let part = |at: usize| -> Value {
            use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(assertion.split('.').nth(at).unwrap()).unwrap())
                .unwrap()
        };
        assert_eq!(part(0)["alg"], "RS256");
        assert!(part(0)["x5t"].is_string(), "AD FS finds the certificate by its thumbprint");
        assert_eq!((&part(1)["iss"], &part(1)["sub"]), (&json!(client), &json!(client)));
        assert_eq!(part(1)["aud"], json!(format!("{login}/adfs/oauth2/token")));
    }

    /// An RSA key that can sign.
    fn rsa_key() -> String {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
    }

    #[tokio::test]
    async fn a_stamp_is_asked_over_https_alone() {
        let (login, given) = server(vec![]).await;
        let (stamp, received) = server(vec![("/metadata", metadata(&login, "https://a.example/x"))]).await;
        assert_eq!(asked(&stamp, Known::default(), false).await, "AZR4040");
        assert_eq!(asked("http://adminmanagement.east.corp", Known::default(), true).await, "AZR4040");
        assert!(received.lock().unwrap().is_empty() && given.lock().unwrap().is_empty());
        // The stamp's own address is on loopback, but its directory's is elsewhere, and in clear.
        let (stamp, _) = server(vec![("/metadata", metadata("http://login.example/", "https://a.example/x"))]).await;
        assert_eq!(asked(&stamp, Known::default(), true).await, "AZR4040");
    }
}
