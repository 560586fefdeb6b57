//! HTTPS with the system's authorities (and more, where asked), through the proxies that the environment names.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azsreg_model::{Problem, code};
use azsreg_operations::clocks::{self, Whose};
use azsreg_operations::{crash, waits};
use azsreg_tls::{Authorities, client_config, failed, untrusted};
use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::address;
use crate::error::ArmError;
use crate::proxy::{self, Proxies};

/// How far the clock of Azure is ahead of this machine's; while only a stamp has answered, the stamp's. `None` before any
/// answer with a date.
#[must_use]
pub fn clock_skew() -> Option<SignedDuration> {
    clocks::other().map(|(_, ahead)| ahead)
}

/// How far the clock of the stamp that answered last is ahead; Azure's, while none has. A stamp's storage refuses what is signed
/// with another time.
pub(crate) fn stamp_clock_skew() -> Option<SignedDuration> {
    Whose::Stamp.ahead().or_else(|| Whose::Azure.ahead())
}

fn date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// When the other side wrote its answer, by its own clock.
fn dated(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    date(headers.get(DATE)?.to_str().ok()?)
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
    /// Authorities besides the system's.
    pub authorities: Authorities,
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
    /// Whom it asks.
    whose: Whose,
    proxies: Arc<Proxies>,
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
    /// There is no authority to trust at all.
    pub fn new(options: &HttpOptions) -> Result<Self, ArmError> {
        let proxies =
            Arc::new(if options.direct { Proxies::none() } else { Proxies::of_environment(options.allow_http) });
        let of = Arc::clone(&proxies);
        let client = Client::builder()
            .connect_timeout(options.connect_timeout)
            .https_only(!options.allow_http)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("azsreg/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(client_config(&options.authorities)?)
            // What can't be used was refused with the address.
            .proxy(reqwest::Proxy::custom(move |url| of.of(url).ok().flatten()))
            .build()
            .map_err(|error| ArmError::from(Problem::new(&code::NO_AUTHORITIES, chain(&error))))?;
        Ok(Self {
            client,
            whose: if options.direct { Whose::Stamp } else { Whose::Azure },
            proxies,
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
        self.whose.ahead().unwrap_or_default()
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
        let _answer = waits::answer_of(address::host(&url), self.answer_timeout);
        let (status, headers, bytes) = self.exchange(request, &method, &url).await?;
        if let Some(at) = dated(&headers) {
            self.whose.says(at);
        }
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
        let _answer = waits::answer_of(address::host(&url), self.answer_timeout);
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
        let _answer = waits::answer_of(address::host(&url), self.answer_timeout);
        let reply = self.sent(request, &Method::GET, &url, Instant::now() + self.answer_timeout).await?;
        self.met(&url, |met| met.hung = 0);
        crash::point("https <");
        tracing::debug!(url = shown(url.as_str()), status = reply.status().as_u16(), "HTTPS, as it comes");
        Ok(reply)
    }

    /// Every address goes through here before anything is sent there.
    fn address(&self, url: &str) -> Result<Url, ArmError> {
        let url = address::checked(url, "an address to be asked", self.allow_http)?;
        self.proxies.of(&url).map_err(ArmError::Unavailable)?;
        Ok(url)
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
            Ok(Err(error)) => return Err(self.failure(url, &error).await),
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
                Ok(Err(error)) => return Err(self.failure(url, &error).await),
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

    /// Whose failure it is, and what it means.
    async fn failure(&self, url: &Url, error: &reqwest::Error) -> ArmError {
        let host = address::host(url);
        let reached = self.met(url, |_| {}).reached;
        if let Some(untrusted) = untrusted(error) {
            let entry = match self.whose {
                Whose::Azure => &code::AZURE_CERTIFICATE,
                Whose::Stamp => &code::STAMP_ARM,
            };
            let other = clocks::other().map(|(whose, ahead)| (whose.name(), ahead));
            let problem = untrusted.problem(entry, &host, other);
            return self.through(url).map_or(problem.clone(), |proxy| problem.detail(proxy)).into();
        }
        if !error.is_connect() {
            return ArmError::Broken { host, reason: chain(error) };
        }
        let causes = causes(error);
        let before_tls =
            |cause: &String| ["tunnel error: ", "tcp ", "dns error"].iter().any(|begins| cause.starts_with(begins));
        if let Ok(Some(proxy)) = self.proxies.of(url)
            && causes.iter().any(before_tls)
        {
            let problem = proxy::failure(&proxy, &host, &causes);
            let refused = problem.code == &code::PROXY_REFUSED && problem.cause.is_none();
            let status = if refused { proxy::status(&proxy, url, self.connect_timeout).await } else { None };
            return status.map_or(problem.clone(), |status| proxy::with_status(problem, status)).into();
        }
        let mut reason = failed(error).map_or_else(|| chain(error), |why| format!("it {}", why.words()));
        if error.is_timeout() {
            reason = format!("no connection within {} s", self.connect_timeout.as_secs_f32());
        }
        if let Some(through) = self.through(url) {
            reason = format!("{reason} ({through})");
        }
        ArmError::Unreachable { host, reason, reached }
    }

    /// `through the proxy P`, where there is one.
    fn through(&self, url: &Url) -> Option<String> {
        let proxy = self.proxies.of(url).ok().flatten()?;
        Some(format!("through the proxy {}", address::shown(&proxy)))
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

/// The causes of an error, the last one last.
fn causes(error: &reqwest::Error) -> Vec<String> {
    let (mut causes, mut source) = (Vec::new(), error.source());
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    causes
}

/// The last cause of an error.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    causes(error).pop().unwrap_or_else(|| error.to_string())
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
