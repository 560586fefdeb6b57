//! Serving HTTP on loopback: one listener, one handler, faults in between.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) use azsreg_portal::pairs;
use azsreg_portal::{Answer, Ask, is_loopback};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) type Reply = Response<Body>;

/// The body of an answer: whole, or in pieces that are made as they are sent.
pub(crate) enum Body {
    Whole(Option<Bytes>),
    Pieces { pieces: Box<dyn Iterator<Item = io::Result<Bytes>> + Send>, left: u64 },
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut *self {
            Self::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()).map(Ok),
            Self::Pieces { pieces, left } => pieces.next().inspect(|piece| {
                *left = left.saturating_sub(piece.as_ref().map_or(0, |piece| piece.len() as u64));
            }),
        };
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Pieces { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Pieces { left, .. } => *left,
        })
    }
}

/// The largest body that the lab takes.
const MAX_BODY: usize = 24 << 20;

/// A request with its body read.
pub(crate) type Read = Request<Bytes>;

/// The connection is to be dropped without an answer.
#[derive(Debug, thiserror::Error)]
#[error("dropped")]
pub(crate) struct Dropped;

/// Accepts connections until the task is aborted. `connection` makes the handler of one connection.
pub(crate) async fn serve<C, H, F>(listener: TcpListener, tls: Option<TlsAcceptor>, connection: C)
where
    C: Fn() -> H,
    H: Fn(Read) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Reply, Dropped>> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, mostly: a moment later some are free again.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (tls, handler) = (tls.clone(), connection());
        tokio::spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drive(stream, handler).await;
                    }
                }
                None => drive(stream, handler).await,
            }
        });
    }
}

async fn drive<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Read) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Reply, Dropped>> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
                return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, ""));
            };
            handler(Request::from_parts(parts, body.to_bytes())).await
        }
    });
    // Reading and writing headers has no deadline of its own here: the peers are on loopback.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An answer with a JSON body.
pub(crate) fn json(status: u16, body: &Value) -> Reply {
    let mut reply = Response::new(Body::Whole(Some(Bytes::from(body.to_string()))));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    reply
}

/// A page of a list at `base`: pages are small, so that clients have to follow `nextLink`.
pub(crate) fn page(request: &Read, base: &str, size: usize, items: Vec<Value>) -> Reply {
    let query = request.uri().query().unwrap_or_default();
    let skip: usize = value(&pairs(query), "$skiptoken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let next = skip.saturating_add(size);
    let more = items.len() > next;
    let shown: Vec<Value> = items.into_iter().skip(skip).take(size).collect();
    let mut body = json!({ "value": shown });
    if more {
        body["nextLink"] = json!(link(request, base, "$skiptoken", &next.to_string()));
    }
    self::json(200, &body)
}

/// The address of the next page of a list whose pages are known by a continuation token.
pub(crate) fn next_link(request: &Read, base: &str, token: &str) -> String {
    link(request, base, "continuationToken", token)
}

/// The same query with another token.
fn link(request: &Read, base: &str, name: &str, token: &str) -> String {
    let query = request.uri().query().unwrap_or_default();
    let is_token = |pair: &&str| {
        let (given, _) = pair.split_once('=').unwrap_or((pair, ""));
        given.replace("%24", "$").eq_ignore_ascii_case(name)
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    format!("{base}{}?{}&{name}={token}", request.uri().path(), kept.join("&"))
}

/// An answer of the pages. A name that somebody else's site made to lead here is not ours.
pub(crate) async fn page_of(request: &Read, answer: impl AsyncFnOnce(Ask<'_>) -> Answer) -> Reply {
    let mut values = pairs(request.uri().query().unwrap_or_default());
    values.extend(pairs(std::str::from_utf8(request.body()).unwrap_or_default()));
    let named = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !named("host").is_some_and(is_loopback) {
        return paged(request, Answer::refused(421, "This is not the address of this page."));
    }
    let path = format!("/{}", segments(request.uri().path()).join("/"));
    let ask = Ask {
        method: request.method().as_str(),
        path: &path,
        values: &values,
        host: named("host").unwrap_or_default(),
        origin: named("origin"),
        cookie: None,
    };
    paged(request, answer(ask).await)
}

/// A page as it is sent.
pub(crate) fn paged(request: &Read, answer: Answer) -> Reply {
    let Answer { status, kind, headers, body } = answer;
    let body = if request.method() == "HEAD" { String::new() } else { body };
    let mut reply = text(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body);
    header(&mut reply, "content-type", kind);
    for (name, value) in &headers {
        header(&mut reply, name, value);
    }
    reply
}

/// An answer with a text body, or none.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Body::Whole(Some(body.into())));
    *reply.status_mut() = status;
    reply
}

/// Sets a header whose value is known to be one.
pub(crate) fn header(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// Binds a listener on loopback, on a port of the system's choice unless one is given.
pub(crate) async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

/// The path's segments, percent-decoded before they are split, empty ones dropped (`wire-azure.md`, trap 1).
pub(crate) fn segments(path: &str) -> Vec<String> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    decoded.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// The value of a name in pairs, without regard to case.
pub(crate) fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
