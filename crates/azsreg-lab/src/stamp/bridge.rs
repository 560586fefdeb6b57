//! The usage bridge's wire: uploads what waits in the spool to the endpoint that the activation key named.
//!
//! Microsoft's format is not public; this one is ours (`COMPAT.md`). A batch is put under its own name, so that one that
//! is sent again, because its answer was lost or because the bridge died, is the same batch to Azure.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::task::JoinHandle;

use super::link::Refusal;
use crate::lab::{StampState, State};
use crate::world::usage::{Batch, Failing};

/// The longest wait between two tries.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer that takes longer is not waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// The world is kept after so many batches, and when nothing waits any more.
const KEEP: u32 = 64;

/// Starts the bridge of a stamp.
pub(crate) fn start(state: &Arc<State>, stamp: &Arc<StampState>) -> JoinHandle<()> {
    tokio::spawn(run(Arc::clone(state), Arc::clone(stamp)))
}

async fn run(state: Arc<State>, stamp: Arc<StampState>) {
    let mut moved = state.moved.subscribe();
    let mut token = None;
    let mut failures = 0u32;
    loop {
        moved.mark_unchanged();
        let mut sent = 0;
        let ended = drain(&state, &stamp, &mut token, &mut sent).await;
        if sent > 0 {
            failures = 0;
            stamp.world().raise_alerts(state.now());
            // Not kept, it is uploaded again after a restart: Azure knows each batch by its name.
            let _ = state.keep().await;
        }
        let wait = match ended {
            Ok(()) => {
                failures = 0;
                // The next hour's end.
                let passed = u64::try_from(state.now().as_second().rem_euclid(3600)).unwrap_or(0);
                Duration::from_secs(3601 - passed)
            }
            Err(failing) => {
                tracing::info!(stamp = %stamp.name, code = %failing.code, message = %failing.message, "an upload of usage failed");
                let mut world = stamp.world();
                world.usage.failing = Some(failing);
                world.raise_alerts(state.now());
                failures += 1;
                PATIENCE.min(Duration::from_millis(20) * 2u32.pow(failures.min(12)))
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            gone = moved.changed() => if gone.is_err() { return },
        }
    }
}

/// Uploads until nothing waits, and counts what was acknowledged.
async fn drain(state: &State, stamp: &StampState, token: &mut Option<String>, sent: &mut u32) -> Result<(), Failing> {
    loop {
        let (batch, to) = {
            let mut world = stamp.world();
            world.settle(state.now());
            let batch = world.next_batch(state.now());
            let activation = world.activation.as_ref();
            let to = activation.map(|a| (a.usage_endpoint.clone(), a.usage_resource.clone())).zip(world.bridge.clone());
            (batch, to)
        };
        let (Some(batch), Some(((endpoint, resource), bridge))) = (batch, to) else { return Ok(()) };
        let kept = token.take();
        let fresh = kept.is_none();
        let bearer = match kept {
            Some(token) => token,
            None => {
                let signed_in = stamp.link.sign_in(state.urls(), &bridge, &resource).await;
                signed_in.map_err(|refusal| Failing { code: "LoginError".into(), message: said(refusal) })?
            }
        };
        match put(stamp, &endpoint, &bearer, &batch).await {
            // The token was of an hour ago: with a new one, then.
            Err(failing) if failing.code == "Unauthorized" && !fresh => continue,
            result => result?,
        }
        *token = Some(bearer);
        stamp.world().acknowledged(&batch, state.now());
        *sent += 1;
        if sent.is_multiple_of(KEEP) {
            let _ = state.keep().await;
        }
    }
}

fn said(refusal: Refusal) -> String {
    match refusal {
        Refusal::Unreachable(message) => message,
        Refusal::Azure { code, message } => format!("{code}: {message}"),
    }
}

async fn put(stamp: &StampState, endpoint: &str, token: &str, batch: &Batch) -> Result<(), Failing> {
    let failing = |code: &str, message: String| Failing { code: code.to_owned(), message };
    let client = stamp.link.client().map_err(|message| failing("NetworkError", message))?;
    let url = format!("{endpoint}/stamps/{}/batches/{}", batch.cloud_id, batch.name);
    let sent = client.put(url).timeout(ANSWER).bearer_auth(token).json(batch).send().await;
    let broken = |error: reqwest::Error| {
        let text = format!("{error:?}");
        let code = match () {
            () if error.is_timeout() => "RequestTimedOut",
            () if text.contains("InvalidCertificate") => "CertificateValidationError",
            () => "NetworkError",
        };
        failing(code, said(Refusal::broken(error)))
    };
    let answer = sent.map_err(broken)?;
    let status = answer.status();
    // The whole of the answer, or it was none.
    let body = answer.bytes().await.map_err(broken)?;
    if status.is_success() {
        return Ok(());
    }
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    let code = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => "Unauthorized",
        _ => "NetworkError",
    };
    Err(failing(code, format!("status {}: {}: {}", status.as_u16(), text("code"), text("message"))))
}
