//! HTTPS with the system's authorities (and more, where asked), through the proxies that the environment names.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azsreg_operations::crash;
use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::address;
use crate::error::ArmError;

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

fn date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// When the other side wrote its answer, by its own clock.
fn dated(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    date(headers.get(DATE)?.to_str().ok()?)
}

fn note_date(headers: &HeaderMap, of_a_stamp: bool) {
    if let Some(at) = dated(headers) {
        let skew = if of_a_stamp { &STAMPS } else { &AZURES };
        skew.store(at.as_second() - jiff::Timestamp::now().as_second(), Ordering::Relaxed);
    }
}

/// The largest answer that we take, in bytes.
pub(crate) const MAX_ANSWER: usize = 16 << 20;
/// The most memory that an answer, or a list of several, may need once it is read, in bytes.
pub(crate) const MAX_HELD: usize = 64 << 20;
/// No file takes longer.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// How calls are made.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Authorities besides the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// How long to wait for a connection, with its TLS.
    pub connect_timeout: Duration,
    /// How long to wait for an answer, from the request to the last byte.
    pub answer_timeout: Duration,
    /// Whether http is taken on loopback.
    pub allow_http: bool,
    /// Never through a proxy: for the stamp's own Resource Manager.
    pub direct: bool,
}

/// A client of one trust.
#[derive(Debug)]
pub struct Http {
    client: Client,
    of_a_stamp: bool,
    connect_timeout: Duration,
    answer_timeout: Duration,
    allow_http: bool,
    hosts: Mutex<HashMap<String, Met>>,
}

/// What is known of a host from the calls to it.
#[derive(Debug, Clone, Copy, Default)]
struct Met {
    /// It has answered.
    reached: bool,
    /// How often in a row an answer did not come in time.
    hung: u32,
}

/// An answer: status, headers, and a body that is JSON or empty.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// About how much memory the body needs.
    pub(crate) weight: usize,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After`, as seconds or as a date.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }
}

/// `Retry-After`: seconds, or a date by the clock of whoever wrote it. What is neither was not said.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = dated(headers).unwrap_or_else(jiff::Timestamp::now);
    Some(Duration::try_from(date(value)?.duration_since(now)).unwrap_or(Duration::ZERO))
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
            .https_only(!options.allow_http)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("azsreg/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &options.ca_pem {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(failed)?);
        }
        if options.direct {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(failed)?;
        Ok(Self {
            client,
            of_a_stamp: options.direct,
            connect_timeout: options.connect_timeout,
            answer_timeout: options.answer_timeout,
            allow_http: options.allow_http,
            hosts: Mutex::default(),
        })
    }

    /// Whether http is taken on loopback.
    pub(crate) fn allow_http(&self) -> bool {
        self.allow_http
    }

    /// How far the clock of those that this client asks is ahead; nothing while none of them has said.
    pub(crate) fn skew(&self) -> SignedDuration {
        let skew = known(if self.of_a_stamp { &STAMPS } else { &AZURES });
        SignedDuration::from_secs(skew.unwrap_or(0))
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Body<'_>,
    ) -> Result<Answer, ArmError> {
        let url = self.address(url)?;
        let host = address::host(&url);
        let mut request = self.client.request(method.clone(), url.clone());
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        request = match body {
            Body::None if method == Method::POST || method == Method::PUT => request.header("content-length", 0),
            Body::None => request,
            Body::Json(value) => request.json(value),
            Body::Form(pairs) => request.form(pairs),
        };
        let (status, headers, bytes) = self.exchange(request, &method, &url).await?;
        note_date(&headers, self.of_a_stamp);
        let weight = weight(&bytes);
        let body = if bytes.iter().all(u8::is_ascii_whitespace) {
            Value::Null
        } else if weight > MAX_HELD {
            return Err(address::too_large(&format!("an answer of {host}"), "bytes once it is read", MAX_HELD));
        } else {
            match serde_json::from_slice(&bytes) {
                Ok(body) => body,
                // A proxy's page, mostly. Its status still says something.
                Err(_) if !status.is_success() => Value::Null,
                Err(error) => return Err(ArmError::Unreadable { host, reason: error.to_string() }),
            }
        };
        Ok(Answer { status, headers, body, weight })
    }

    /// A call whose answer is bytes, with headers of the caller's.
    pub(crate) async fn raw(
        &self,
        method: Method,
        url: &str,
        headers: &[(String, String)],
        body: Option<Bytes>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ArmError> {
        let url = self.address(url)?;
        let mut request = self.client.request(method.clone(), url.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request = match body {
            Some(body) => request.body(body),
            None if method == Method::PUT => request.header("content-length", 0),
            None => request,
        };
        let (status, headers, bytes) = self.exchange(request, &method, &url).await?;
        Ok((status, headers, bytes.into()))
    }

    /// A GET whose answer is taken as it comes, however long that takes.
    pub(crate) async fn open(&self, url: &str, headers: &[(&str, String)]) -> Result<Response, ArmError> {
        let url = self.address(url)?;
        let mut request = self.client.get(url.clone()).timeout(WEEK);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let reply = self.sent(request, &Method::GET, &url, Instant::now() + self.answer_timeout).await?;
        self.met(&url, |met| met.hung = 0);
        crash::point("https <");
        tracing::debug!(url = shown(url.as_str()), status = reply.status().as_u16(), "HTTPS, as it comes");
        Ok(reply)
    }

    /// Every address goes through here before anything is sent there.
    fn address(&self, url: &str) -> Result<Url, ArmError> {
        address::checked(url, "an address to be asked", self.allow_http)
    }

    /// A request and all of its answer, within the time that an answer may take.
    async fn exchange(
        &self,
        request: RequestBuilder,
        method: &Method,
        url: &Url,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ArmError> {
        let until = Instant::now() + self.answer_timeout;
        let mut reply = self.sent(request, method, url, until).await?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let bytes = self.whole(&mut reply, method, url, until).await?;
        self.met(url, |met| met.hung = 0);
        crash::point("https <");
        tracing::debug!(%method, url = shown(url.as_str()), status = status.as_u16(), bytes = bytes.len(), "HTTPS");
        Ok((status, headers, bytes))
    }

    /// A request, until the headers of its answer are there. A redirection is refused.
    async fn sent(
        &self,
        request: RequestBuilder,
        method: &Method,
        url: &Url,
        until: Instant,
    ) -> Result<Response, ArmError> {
        crash::point("https >");
        let reply = match timeout_at(until, request.send()).await {
            Err(_) => return Err(self.too_late(url, format!("an answer to {method} {}", url.path()))),
            Ok(Err(error)) => return Err(self.failure(url, &error)),
            Ok(Ok(reply)) => reply,
        };
        self.met(url, |met| met.reached = true);
        if reply.status().is_redirection() && reply.status() != StatusCode::NOT_MODIFIED {
            let location = reply.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            return Err(address::redirected(url, reply.status(), location));
        }
        Ok(reply)
    }

    /// All of an answer, if it is not too much and ends in time.
    async fn whole(
        &self,
        reply: &mut Response,
        method: &Method,
        url: &Url,
        until: Instant,
    ) -> Result<Vec<u8>, ArmError> {
        let mut bytes = Vec::new();
        loop {
            match timeout_at(until, reply.chunk()).await {
                Err(_) => {
                    let came = bytes.len();
                    let what = format!("the end of the answer to {method} {} ({came} bytes came)", url.path());
                    return Err(self.too_late(url, what));
                }
                Ok(Err(error)) => return Err(self.failure(url, &error)),
                Ok(Ok(None)) => return Ok(bytes),
                Ok(Ok(Some(chunk))) => {
                    if bytes.len() + chunk.len() > MAX_ANSWER {
                        let what = format!("an answer of {}", address::host(url));
                        return Err(address::too_large(&what, "bytes", MAX_ANSWER));
                    }
                    bytes.extend_from_slice(&chunk);
                }
            }
        }
    }

    /// What did not come in time. Twice in a row is once too often: who is hung is not asked six times.
    fn too_late(&self, url: &Url, what: String) -> ArmError {
        let again = self.met(url, |met| met.hung += 1).hung > 1;
        ArmError::TooLate { host: address::host(url), what, waited: self.answer_timeout, again }
    }

    /// What is known of a host, after a change.
    fn met(&self, url: &Url, change: impl FnOnce(&mut Met)) -> Met {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let met = hosts.entry(address::host(url)).or_default();
        change(met);
        *met
    }

    fn failure(&self, url: &Url, error: &reqwest::Error) -> ArmError {
        let host = address::host(url);
        let reached = self.met(url, |_| {}).reached;
        if let Some(rustls::Error::InvalidCertificate(why)) = tls_error(error) {
            return ArmError::Certificate { host, reason: why.to_string() };
        }
        if error.is_connect() && error.is_timeout() {
            let reason = format!("no connection within {} s", self.connect_timeout.as_secs_f32());
            return ArmError::Unreachable { host, reason, reached };
        }
        let reason = chain(error);
        if error.is_connect() {
            ArmError::Unreachable { host, reason, reached }
        } else {
            ArmError::Broken { host, reason }
        }
    }
}

/// About as many bytes as a text of JSON needs once it is read: an element of a list needs more than its text, an object
/// far more. It counts brackets, commas and quotes, so it is never less than what the parser will need.
pub(crate) fn weight(json: &[u8]) -> usize {
    const OBJECT: usize = 700;
    const OTHER: usize = 64;
    let (mut weight, mut in_text, mut escaped) = (json.len(), false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => {
                in_text = !in_text;
                weight += OTHER / 2;
            }
            _ if in_text => {}
            b'{' => weight += OBJECT,
            b'[' | b',' => weight += OTHER,
            _ => {}
        }
    }
    weight
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_clock_of_who_wrote_it() {
        let after = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs)).map(|after| after.as_secs());
        assert_eq!(after(&[("retry-after", "7")]), Some(7));
        assert_eq!(after(&[("retry-after", " 604800 ")]), Some(604_800));
        for none in ["-5", "soon", "", "1.5", "99999999999999999999"] {
            assert_eq!(after(&[("retry-after", none)]), None, "{none}");
        }
        let date = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(after(&[date, ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")]), Some(30));
        assert_eq!(after(&[date, ("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT")]), Some(0));
        assert!(after(&[("retry-after", "Thu, 31 Dec 2099 23:59:59 GMT")]).unwrap() > 86_400);
    }

    #[test]
    fn the_weight_of_small_things_is_that_of_the_memory_they_need() {
        // A million empty objects in three megabytes of text: hundreds of megabytes once they are read.
        assert!(weight("[{\"a\":0},".repeat(100_000).as_bytes()) > 70_000_000);
        assert!(weight(format!("[{}0]", "0,".repeat(1_100_000)).as_bytes()) > MAX_HELD);
        // A page of a thousand rows of usage, as the services write them, is far below.
        let row = json_row();
        assert!(weight(row.repeat(1_000).as_bytes()) < MAX_HELD / 8);
        // Brackets inside a text are text.
        assert!(weight(b"\"{{{{{{[[[[\\\"{{{{,,,,\"") < 200);
    }

    fn json_row() -> String {
        let instance = "{\\\"Microsoft.Resources\\\":{\\\"resourceUri\\\":\\\"/subscriptions/a/b\\\"}}";
        format!(
            "{{\"id\":\"x\",\"properties\":{{\"subscriptionId\":\"s\",\"quantity\":1.5,\"instanceData\":\"{instance}\"}}}},"
        )
    }
}
