//! The page's connection: HTTP on loopback, for this machine alone.

use std::convert::Infallible;

use azsreg_portal::fleet::{Fleet, FleetPages};
use azsreg_portal::{Answer, Ask, is_loopback, pairs};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The largest form that is read, in bytes.
const MAX_FORM: usize = 64 << 10;

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, pages: &FleetPages, fleet: &impl Fleet) {
    let connections = futures_util::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        if accepted.is_err() {
            // Out of descriptors, mostly: a moment later some are free again.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Some((accepted.ok(), listener))
    });
    let each = connections.for_each_concurrent(None, |stream| async move {
        let Some(stream) = stream else { return };
        let service = hyper::service::service_fn(|request| answer(request, pages, fleet));
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    });
    each.await;
}

async fn answer(
    request: Request<Incoming>,
    pages: &FleetPages,
    fleet: &impl Fleet,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let named = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    // A name that somebody else's site made to lead here is not ours.
    let host = named("host").unwrap_or_default();
    if !is_loopback(host) {
        return Ok(written(Answer::refused(421, "This is not the address of this page."), false));
    }
    let Ok(form) = Limited::new(body, MAX_FORM).collect().await else {
        return Ok(written(Answer::refused(413, "The form is too large."), false));
    };
    let form = form.to_bytes();
    let mut values = pairs(parts.uri.query().unwrap_or_default());
    values.extend(pairs(std::str::from_utf8(&form).unwrap_or_default()));
    let ask = Ask {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        values: &values,
        host,
        origin: named("origin"),
        cookie: named("cookie"),
    };
    Ok(written(pages.answer(ask, fleet), parts.method == "HEAD"))
}

fn written(answer: Answer, head: bool) -> Response<Full<Bytes>> {
    let Answer { status, kind, headers, body } = answer;
    let mut response = Response::builder().status(status).header("content-type", kind);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let body = if head { Bytes::new() } else { Bytes::from(body) };
    response.body(Full::new(body)).unwrap_or_default()
}
