//! Four servers of one stage, in threads, a connection each: a Resource Manager, its directory, another Resource Manager, and
//! one that speaks plain HTTP. They are honest until a scene says otherwise, and write down what they receive.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

pub(crate) const SUBSCRIPTION: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const SECRET: &str = "the-secret-of-the-application-8Q~";
pub(crate) const REFRESH: &str = "the-refresh-token-of-the-person-0.AAA";

/// One of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The Resource Manager, with its metadata.
    Arm,
    /// Its directory.
    Authority,
    /// Another Resource Manager, of the same directory.
    Other,
    /// Plain HTTP.
    Plain,
}

const ALL: [Who; 4] = [Who::Arm, Who::Authority, Who::Other, Who::Plain];

/// What a server received.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    head: String,
    pub(crate) body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }

    /// A member of the form.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        Self::member(&self.body, name)
    }

    /// A member of the query.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        Self::member(self.path.split_once('?')?.1, name)
    }

    fn member(form: &str, name: &str) -> Option<String> {
        let pair = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        let (mut text, mut rest) = (Vec::new(), pair.bytes());
        while let Some(byte) = rest.next() {
            let hex = |rest: &mut std::str::Bytes<'_>| Some(char::from(rest.next()?).to_digit(16)? as u8);
            match byte {
                b'%' => text.push(hex(&mut rest)? * 16 + hex(&mut rest)?),
                b'+' => text.push(b' '),
                byte => text.push(byte),
            }
        }
        String::from_utf8(text).ok()
    }
}

pub(crate) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

type Written = Box<dyn FnOnce(&mut dyn Wire) -> io::Result<()> + Send>;

/// An answer: written by hand, and whether the connection stays open after it.
pub(crate) struct Reply {
    write: Written,
    keep: bool,
}

/// An answer as it should be, with headers of its own.
pub(crate) fn full(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
    let body = body.into();
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    head.push_str("\r\n");
    let write = move |wire: &mut dyn Wire| wire.write_all(&[head.into_bytes(), body].concat());
    Reply { write: Box::new(write), keep: true }
}

pub(crate) fn answer(status: u16, body: &Value) -> Reply {
    full(status, &[("Content-Type", "application/json")], body.to_string())
}

/// Anything at all; the connection is closed after it.
pub(crate) fn raw(write: impl FnOnce(&mut dyn Wire) -> io::Result<()> + Send + 'static) -> Reply {
    Reply { write: Box::new(write), keep: false }
}

/// Nothing, for longer than anybody waits.
pub(crate) fn silence(wire: &mut dyn Wire) -> io::Result<()> {
    wire.flush()?;
    // Until the other end goes away.
    wire.read(&mut [0]).map(drop)
}

pub(crate) type Scene = Box<dyn Fn(&Stage, Who, &Request) -> Option<Reply> + Send + Sync>;

/// The servers, and what they have seen.
pub(crate) struct Stage {
    addresses: [SocketAddr; 4],
    received: Mutex<Vec<(Who, Request)>>,
    honest: AtomicBool,
    calls: AtomicUsize,
    scene: Scene,
}

impl Stage {
    pub(crate) fn open(scene: Scene) -> Arc<Self> {
        let listeners = ALL.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [0, 1, 2, 3].map(|index| listeners[index].local_addr().unwrap());
        let (received, calls) = (Mutex::default(), AtomicUsize::new(0));
        let stage = Arc::new(Self { addresses, received, honest: AtomicBool::new(false), calls, scene });
        for (who, listener) in ALL.into_iter().zip(listeners) {
            let stage = Arc::clone(&stage);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (Ok(stream), stage) = (stream, Arc::clone(&stage)) else { continue };
                    std::thread::spawn(move || serve(&stage, who, stream));
                }
            });
        }
        stage
    }

    /// While honest, no scene is played.
    pub(crate) fn honest(&self, honest: bool) {
        self.honest.store(honest, Ordering::Relaxed);
    }

    pub(crate) fn url(&self, who: Who) -> String {
        let scheme = if who == Who::Plain { "http" } else { "https" };
        format!("{scheme}://{}", self.addresses[who as usize])
    }

    /// What was received, in order.
    pub(crate) fn received(&self) -> Vec<(Who, Request)> {
        self.received.lock().unwrap().clone()
    }

    /// A number that was not given before.
    pub(crate) fn next(&self) -> usize {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Metadata of a server, with this directory and audience.
    pub(crate) fn metadata(&self, authority: &str, audience: &str) -> Value {
        json!({"name": "here", "authentication": {"loginEndpoint": authority, "audiences": [audience]}})
    }

    /// What was received that should not have been.
    pub(crate) fn leaks(&self, at: Who, secrets: usize) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let mut leaks = Vec::new();
        let mut sent = 0;
        for (who, request) in received.iter() {
            let what = format!("{who:?} received {} {}", request.method, request.path);
            let text = format!("{} {}", request.head, request.body);
            let secret = request.form("client_secret").is_some_and(|secret| secret == SECRET);
            sent += usize::from(secret);
            if *who != Who::Authority && at != Who::Plain {
                let held = [SECRET, REFRESH, "refresh_token", "client_secret"].iter().any(|word| text.contains(word));
                if held || secret || request.form("refresh_token").is_some() {
                    leaks.push(format!("{what} with a secret"));
                }
            }
            if *who == Who::Plain && at != Who::Plain {
                leaks.push(format!("{what} in clear"));
            }
            if let Some(bearer) = request.bearer() {
                let claims = bearer.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
                let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
                let own = self.url(*who).replace("http://", "https://");
                // Tokens that name no audience go to who was asked, and to nobody else.
                let right = claims["aud"].as_str().map_or(*who == at, |aud| aud.trim_end_matches('/') == own);
                if !right {
                    leaks.push(format!("{what} with a token for {}", claims["aud"]));
                }
            }
        }
        if sent > secrets {
            leaks.push(format!("the secret was sent {sent} times"));
        }
        leaks
    }
}

/// A token for an audience, with more claims.
pub(crate) fn token(audience: &str, more: &Value) -> String {
    let mut claims = json!({"aud": audience, "preferred_username": "person@here.example", "tid": "tenant-1"});
    if let (Some(claims), Some(more)) = (claims.as_object_mut(), more.as_object()) {
        claims.extend(more.clone());
        claims.retain(|_, value| !value.is_null());
    }
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(&claims))
}

/// The audience that a request for a token names.
pub(crate) fn asked_for(request: &Request) -> String {
    let scope = request.form("scope").unwrap_or_default();
    let first = scope.split(' ').next().unwrap_or_default();
    first.trim_end_matches("/.default").to_owned()
}

/// What an honest server answers.
fn honest(stage: &Stage, who: Who, request: &Request) -> Reply {
    let own = stage.url(who);
    let path = request.path.split('?').next().unwrap_or_default();
    if who == Who::Authority || (who == Who::Plain && request.is("POST", "/oauth2/")) {
        return directory(stage, request);
    }
    if path == "/metadata/endpoints" {
        let authority = if who == Who::Plain { own.clone() } else { stage.url(Who::Authority) };
        // An audience is a name: it is https even where http was allowed.
        return answer(200, &stage.metadata(&authority, &format!("{}/", own.replace("http://", "https://"))));
    }
    if request.bearer().is_none() {
        let challenge = format!("Bearer authorization_uri=\"{}/tenant-1\"", stage.url(Who::Authority));
        return full(401, &[("WWW-Authenticate", &challenge)], "{}");
    }
    if path == "/subscriptions" {
        let own = json!({"subscriptionId": SUBSCRIPTION, "displayName": "mine", "tenantId": "tenant-1"});
        return answer(200, &json!({ "value": [own] }));
    }
    if request.method == "PUT" {
        return answer(200, &json!({ "id": path }));
    }
    answer(200, &json!({"value": []}))
}

fn directory(stage: &Stage, request: &Request) -> Reply {
    if request.path.ends_with("/devicecode") {
        let page = format!("{}/devicelogin", stage.url(Who::Authority));
        return answer(
            200,
            &json!({"device_code": asked_for(request), "user_code": "ABC", "verification_uri": page, "interval": 1, "expires_in": 900}),
        );
    }
    // A code was made for an audience, and is redeemed for that.
    let audience = request.form("device_code").unwrap_or_else(|| asked_for(request));
    let mut body = json!({"access_token": token(&audience, &json!({})), "expires_in": 3600});
    if request.form("grant_type").is_some_and(|grant| grant != "client_credentials") {
        body["refresh_token"] = json!(REFRESH);
    }
    answer(200, &body)
}

fn serve(stage: &Stage, who: Who, stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let _ = stream.set_nodelay(true);
    if who == Who::Plain {
        talk(stage, who, stream);
        return;
    }
    let Ok(connection) = ServerConnection::new(tls()) else { return };
    talk(stage, who, StreamOwned::new(connection, stream));
}

fn talk(stage: &Stage, who: Who, stream: impl Wire) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream) {
        stage.received.lock().unwrap().push((who, request.clone()));
        let played = if stage.honest.load(Ordering::Relaxed) { None } else { (stage.scene)(stage, who, &request) };
        let reply = played.unwrap_or_else(|| honest(stage, who, &request));
        let wire = stream.get_mut();
        if (reply.write)(wire).and_then(|()| wire.flush()).is_err() || !reply.keep {
            return;
        }
    }
}

fn read(stream: &mut BufReader<impl Wire>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut first = head.lines().next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let mut request = Request { method, path, head, body: String::new() };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}

struct Authority {
    pem: String,
    config: Arc<ServerConfig>,
}

fn made() -> &'static Authority {
    static MADE: OnceLock<Authority> = OnceLock::new();
    MADE.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "hostile tests");
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        let certificate = params.signed_by(&own, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Authority { pem: ca.pem(), config: Arc::new(config) }
    })
}

fn tls() -> Arc<ServerConfig> {
    Arc::clone(&made().config)
}

/// The authority that signed the servers' certificate.
pub(crate) fn ca_pem() -> &'static str {
    &made().pem
}
