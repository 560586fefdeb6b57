//! What comes in at a listener goes to its plane's handler, with the faults that are set struck before and after.

use std::sync::Arc;

use azsreg_portal::Answer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::State;
use crate::faults::Asked;
use crate::http::{self, Dropped, Read, Reply};
use crate::stamp::pep::Connection;
use crate::storage::StorageError;
use crate::store::StoreError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    Login,
    Arm,
    Graph,
    Blobs,
    Usage,
    Portal,
    Pep(usize, bool),
    StampArm(usize),
    StampBlobs(usize),
    StampPortal(usize),
    Control,
}

impl Plane {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Arm => "arm",
            Self::Graph => "graph",
            Self::Blobs => "blobs",
            Self::Usage => "usage",
            Self::Portal => "portal",
            Self::Pep(..) => "pep",
            Self::StampArm(_) => "stamp-arm",
            Self::StampBlobs(_) => "stamp-blobs",
            Self::StampPortal(_) => "stamp-portal",
            Self::Control => "control",
        }
    }
}

pub(super) fn listen(state: Arc<State>, plane: Plane, listener: TcpListener, tls: TlsAcceptor) -> JoinHandle<()> {
    match plane {
        Plane::Pep(index, secure) => tokio::spawn(async move {
            let tls = secure.then_some(tls);
            let connection = || {
                let stamp = Arc::clone(&state.stamps[index]);
                let connection = Arc::new(Connection::new(Arc::clone(&state), stamp, secure));
                move |request: Read| {
                    let connection = Arc::clone(&connection);
                    async move { connection.handle(request).await }
                }
            };
            http::serve(listener, tls, connection).await;
        }),
        Plane::Control => tokio::spawn(async move {
            let connection = || {
                let state = Arc::clone(&state);
                move |request: Read| {
                    let state = Arc::clone(&state);
                    async move { Ok(kept(&state, plane, &request).await) }
                }
            };
            http::serve(listener, None, connection).await;
        }),
        _ => tokio::spawn(async move {
            // A browser does not trust the lab's authority: pages are plain, as the control port is.
            let tls = (!matches!(plane, Plane::StampPortal(_) | Plane::Portal)).then_some(tls);
            let connection = || {
                let state = Arc::clone(&state);
                move |request: Read| {
                    let state = Arc::clone(&state);
                    async move { faulty(&state, plane, &request).await }
                }
            };
            http::serve(listener, tls, connection).await;
        }),
    }
}

async fn faulty(state: &Arc<State>, plane: Plane, request: &Read) -> Result<Reply, Dropped> {
    let route = request.uri().path();
    let asked = Asked { plane: plane.name(), method: request.method().as_str(), route };
    let before = state.faults().strike(&asked, false);
    if let Some(then) = before
        && let Some(mut reply) = then.apply(None).await?
    {
        dated(state, &mut reply);
        return Ok(reply);
    }
    let mut reply = kept(state, plane, request).await;
    // As a line does that loses an answer: the same request comes again, and the second answer is the one.
    if state.faults().duplicates(&asked) {
        reply = kept(state, plane, request).await;
    }
    dated(state, &mut reply);
    let after = state.faults().strike(&asked, true);
    match after {
        None => Ok(reply),
        Some(then) => Ok(then.apply(Some(reply)).await?.unwrap_or_else(|| http::text(hyper::StatusCode::OK, ""))),
    }
}

/// The answer to a request, when what it did and what it shows is kept: an answer to a GET may show what another request
/// has just done. What can't be kept is not acknowledged.
async fn kept(state: &Arc<State>, plane: Plane, request: &Read) -> Reply {
    let reply = match state.catch_up().await {
        Ok(()) => answer(state, plane, request).await,
        Err(error) => return unkept(plane, request, &error),
    };
    match state.keep().await {
        Ok(()) => reply,
        Err(error) => unkept(plane, request, &error),
    }
}

/// What is answered in place of what could not be kept, in the envelope of who speaks there.
fn unkept(plane: Plane, request: &Read, error: &StoreError) -> Reply {
    let (status, code) = if error.is_full() { (507, "InsufficientStorage") } else { (503, "ServiceUnavailable") };
    let message =
        format!("The lab could not keep what it was asked for, and acknowledges nothing until it can. {error}");
    match plane {
        Plane::Control => http::json(status, &json!({ "error": message })),
        Plane::Login => http::json(status, &json!({"error": "temporarily_unavailable", "error_description": message})),
        Plane::Blobs | Plane::StampBlobs(_) => StorageError::new(status, code, &message).reply(),
        Plane::Portal | Plane::StampPortal(_) => http::paged(request, Answer::refused(status, &message)),
        _ => http::json(status, &json!({"error": {"code": code, "message": message}})),
    }
}

/// The lab's own time, in every answer: clients go by it.
fn dated(state: &State, reply: &mut Reply) {
    let date = state.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    http::header(reply, "date", &date);
}

async fn answer(state: &Arc<State>, plane: Plane, request: &Read) -> Reply {
    match plane {
        Plane::Login => crate::azure::login::handle(state, request),
        Plane::Arm => crate::azure::arm::handle(state, request),
        Plane::Graph => crate::azure::graph::handle(state, request),
        Plane::Blobs => crate::azure::blobs::handle(state, request).await,
        Plane::Usage => crate::azure::usage::handle(state, request),
        Plane::Portal => crate::azure::portal::handle(state, request).await,
        Plane::StampArm(index) => crate::stamp::admin::handle(state, &state.stamps[index], request).await,
        Plane::StampPortal(index) => crate::stamp::portal::handle(state, &state.stamps[index], request).await,
        Plane::StampBlobs(index) => crate::stamp::storage::handle(state, &state.stamps[index], request),
        Plane::Control => crate::control::handle(state, request),
        Plane::Pep(..) => http::text(hyper::StatusCode::NOT_FOUND, ""),
    }
}
