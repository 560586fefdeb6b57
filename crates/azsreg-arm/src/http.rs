//! HTTPS with the system's authorities (and more, where asked), through the proxies that the environment names.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use azsreg_operations::{crash, waits};
use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, StatusCode, redirect};
use serde_json::Value;

use crate::error::ArmError;

/// How long one request may take with its answer.
const REQUEST: Duration = Duration::from_secs(120);

/// How many seconds Azure's clock, and a stamp's, are ahead of this machine's, by their newest `Date`; the least number is
/// unknown.
static AZURES: AtomicI64 = AtomicI64::new(i64::MIN);
static STAMPS: AtomicI64 = AtomicI64::new(i64::MIN);

/// How far the clock of Azure is ahead of this machine's; while only a stamp has answered, the stamp's. `None` before any
/// answer with a date. Azure's is the better one: of several stamps one may be wrong.
#[must_use]
pub fn clock_skew() -> Option<SignedDuration> {
    known(&AZURES).or_else(|| known(&STAMPS)).map(SignedDuration::from_secs)
}

/// How far the clock of the stamp that answered last is ahead; Azure's, while none has. A stamp's storage refuses what is signed
/// with another time.
pub(crate) fn stamp_clock_skew() -> Option<SignedDuration> {
    known(&STAMPS).or_else(|| known(&AZURES)).map(SignedDuration::from_secs)
}

fn known(skew: &AtomicI64) -> Option<i64> {
    Some(skew.load(Ordering::Relaxed)).filter(|skew| *skew != i64::MIN)
}

fn note_date(headers: &HeaderMap, of_a_stamp: bool) {
    let date = headers.get(DATE).and_then(|value| value.to_str().ok());
    let at = date.and_then(|text| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok());
    if let Some(at) = at {
        let skew = if of_a_stamp { &STAMPS } else { &AZURES };
        skew.store(at.as_second() - jiff::Timestamp::now().as_second(), Ordering::Relaxed);
    }
}

/// The largest answer that we take.
const MAX_ANSWER: usize = 64 << 20;

/// How calls are made.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Authorities besides the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// Never through a proxy: for the stamp's own Resource Manager.
    pub direct: bool,
}

/// A client of one trust.
#[derive(Debug)]
pub struct Http {
    client: Client,
    of_a_stamp: bool,
    reached: AtomicBool,
}

/// An answer: status, headers, and a body that is JSON or empty.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After`, as seconds or as a date.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
        Some(Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or(Duration::ZERO))
    }
}

/// A body to send.
pub(crate) enum Body<'a> {
    None,
    Json(&'a Value),
    Form(&'a [(&'a str, &'a str)]),
}

impl Http {
    /// A client.
    ///
    /// # Errors
    /// `--ca-file` is not PEM, or the system has no authorities at all.
    pub fn new(options: &HttpOptions) -> Result<Self, ArmError> {
        let failed = |error: reqwest::Error| ArmError::Certificate {
            host: "the authorities of this machine".into(),
            reason: chain(&error),
        };
        let mut builder = Client::builder()
            .connect_timeout(options.connect_timeout)
            .timeout(REQUEST)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("azsreg/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &options.ca_pem {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(failed)?);
        }
        if options.direct {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(failed)?;
        Ok(Self { client, of_a_stamp: options.direct, reached: AtomicBool::new(false) })
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Body<'_>,
    ) -> Result<Answer, ArmError> {
        let host = host_of(url);
        let mut request = self.client.request(method.clone(), url);
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        request = match body {
            Body::None if method == Method::POST || method == Method::PUT => request.header("content-length", 0),
            Body::None => request,
            Body::Json(value) => request.json(value),
            Body::Form(pairs) => request.form(pairs),
        };
        crash::point("https >");
        let reached = self.reached.load(Ordering::Relaxed);
        let _answer = waits::answer_of(host.as_str(), REQUEST);
        let mut reply = request.send().await.map_err(|error| failure(&host, &error, reached))?;
        self.reached.store(true, Ordering::Relaxed);
        let (status, headers) = (reply.status(), reply.headers().clone());
        note_date(&headers, self.of_a_stamp);
        let bytes = whole(&mut reply, &host).await?;
        crash::point("https <");
        tracing::debug!(%method, url = shown(url), status = status.as_u16(), bytes = bytes.len(), "HTTPS");
        let body = if bytes.iter().all(u8::is_ascii_whitespace) {
            Value::Null
        } else {
            match serde_json::from_slice(&bytes) {
                Ok(body) => body,
                // A proxy's page, mostly. Its status still says something.
                Err(_) if !status.is_success() => Value::Null,
                Err(error) => return Err(ArmError::Unreadable { host, reason: error.to_string() }),
            }
        };
        Ok(Answer { status, headers, body })
    }
}

impl Http {
    /// A call whose answer is bytes, with headers of the caller's.
    pub(crate) async fn raw(
        &self,
        method: Method,
        url: &str,
        headers: &[(String, String)],
        body: Option<Bytes>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ArmError> {
        let host = host_of(url);
        let mut request = self.client.request(method.clone(), url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request = match body {
            Some(body) => request.body(body),
            None if method == Method::PUT => request.header("content-length", 0),
            None => request,
        };
        crash::point("https >");
        let reached = self.reached.load(Ordering::Relaxed);
        let _answer = waits::answer_of(host.as_str(), REQUEST);
        let mut reply = request.send().await.map_err(|error| failure(&host, &error, reached))?;
        self.reached.store(true, Ordering::Relaxed);
        let (status, headers) = (reply.status(), reply.headers().clone());
        let bytes = whole(&mut reply, &host).await?;
        crash::point("https <");
        tracing::debug!(%method, url = shown(url), status = status.as_u16(), bytes = bytes.len(), "HTTPS");
        Ok((status, headers, bytes.into()))
    }

    /// A GET whose answer is taken as it comes, however long that takes.
    pub(crate) async fn open(&self, url: &str, headers: &[(&str, String)]) -> Result<reqwest::Response, ArmError> {
        /// No file takes longer.
        const WEEK: Duration = Duration::from_secs(7 * 86_400);
        let host = host_of(url);
        let mut request = self.client.get(url).timeout(WEEK);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        crash::point("https >");
        let reached = self.reached.load(Ordering::Relaxed);
        let _answer = waits::answer_of(host.as_str(), REQUEST);
        let answering = tokio::time::timeout(REQUEST, request.send()).await;
        let broken = ArmError::Broken { host: host.clone(), reason: "no answer in time".into() };
        let reply = answering.map_err(|_| broken)?.map_err(|error| failure(&host, &error, reached))?;
        self.reached.store(true, Ordering::Relaxed);
        crash::point("https <");
        tracing::debug!(url = shown(url), status = reply.status().as_u16(), "HTTPS, as it comes");
        Ok(reply)
    }
}

/// All of an answer, if it is not too much.
async fn whole(reply: &mut reqwest::Response, host: &str) -> Result<Vec<u8>, ArmError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reply.chunk().await.map_err(|error| failure(host, &error, true))? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(ArmError::Unreadable { host: host.to_owned(), reason: "it is too large".into() });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The URL without its query: a query may hold a code.
fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// `host:port` of a URL.
pub(crate) fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest).to_owned()
}

/// The last cause of an error.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// The TLS error inside an error, however deep the layers between have wrapped it.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    // What an I/O error wraps is not its source: it has to be asked for.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let wrapped = wrapped.map(|inner| inner as &(dyn std::error::Error + 'static));
    wrapped.and_then(tls_error).or_else(|| error.source().and_then(tls_error))
}

fn failure(host: &str, error: &reqwest::Error, reached: bool) -> ArmError {
    let host = host.to_owned();
    if let Some(rustls::Error::InvalidCertificate(why)) = tls_error(error) {
        return ArmError::Certificate { host, reason: why.to_string() };
    }
    let reason = if error.is_timeout() { "no answer in time".to_owned() } else { chain(error) };
    if error.is_connect() { ArmError::Unreachable { host, reason, reached } } else { ArmError::Broken { host, reason } }
}
