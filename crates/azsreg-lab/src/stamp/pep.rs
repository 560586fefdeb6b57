//! The privileged endpoint over WinRM: authentication per connection, sealing, and the shells behind it.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use azsreg_psrp::multipart::{self, Sealed};
use azsreg_psrp::server::{Effect, Handled, Push, Receive, Server};
use azsreg_psrp::wsman::Fault;
use uuid::Uuid;

use super::cmdlets;
use super::ntlm::{Account, Challenge, Refused, Security};
use super::spnego::{self, Token};
use crate::http::{Dropped, Read, Reply, header, text};
use crate::lab::{StampState, State, lock};

/// The endpoint of one stamp; its three addresses share the shells.
pub(crate) struct Endpoint {
    server: Mutex<Server>,
    news: Notify,
}

impl Endpoint {
    pub(crate) fn new(url: &str) -> Self {
        Self { server: Mutex::new(Server::new(url, "PrivilegedEndpoint", "5.1.17763.0")), news: Notify::new() }
    }

    pub(crate) fn push(&self, shell: Uuid, pipeline: Uuid, push: Push) {
        self.server().push(shell, pipeline, push);
        self.news.notify_waiters();
    }

    /// The text of a secure string that came over a shell.
    pub(crate) fn reveal(&self, shell: Uuid, secure_string: &[u8]) -> Option<String> {
        self.server().reveal(shell, secure_string)
    }

    /// How many shells are open, and how many commands are in them.
    pub(crate) fn shells(&self) -> (usize, usize) {
        self.server().open()
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        lock(&self.server)
    }

    async fn wait(&self, receive: Receive) -> Handled {
        let deadline = Instant::now() + receive.timeout;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(handled) = self.server().poll(&receive) {
                return handled;
            }
            tokio::select! {
                () = news => {}
                () = sleep_until(deadline) => return Server::timed_out(&receive),
            }
        }
    }
}

enum Auth {
    None,
    /// The client has named its mechanisms, and NTLM was not the first.
    Asked {
        mechanisms: Vec<u8>,
    },
    Challenged {
        challenge: Box<Challenge>,
        spnego: Option<Vec<u8>>,
    },
    Ready(Box<Security>),
}

/// One connection: NTLM belongs to it, in order.
pub(crate) struct Connection {
    state: Arc<State>,
    stamp: Arc<StampState>,
    tls: bool,
    auth: Mutex<Auth>,
}

enum Step {
    Continue(Vec<u8>),
    Granted(Option<Vec<u8>>),
    /// Refused before a password was tried.
    Refused,
    /// A logon that failed.
    Failed,
}

impl Connection {
    pub(crate) fn new(state: Arc<State>, stamp: Arc<StampState>, tls: bool) -> Self {
        Self { state, stamp, tls, auth: Mutex::new(Auth::None) }
    }

    pub(crate) async fn handle(&self, request: Read) -> Result<Reply, Dropped> {
        self.stamp.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if !self.state.options.response_delay.is_zero() {
            tokio::time::sleep(self.state.options.response_delay).await;
        }
        if request.uri().path().trim_end_matches('/') != "/wsman" {
            return Ok(text(StatusCode::NOT_FOUND, ""));
        }
        if request.method() != "POST" {
            return Ok(text(StatusCode::METHOD_NOT_ALLOWED, ""));
        }
        let authorization = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let mut granted = None;
        if let Some(value) = authorization {
            let token = value
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("negotiate"))
                .and_then(|(_, token)| BASE64_STANDARD.decode(token.trim()).ok());
            let step = token.map_or(Step::Refused, |token| self.step(&token));
            match step {
                Step::Continue(token) => return Ok(unauthorized(Some(&token))),
                Step::Refused => return Ok(unauthorized(None)),
                Step::Failed => {
                    self.stamp.world().logons_failed += 1;
                    return Ok(unauthorized(None));
                }
                Step::Granted(token) => {
                    self.stamp.world().logons_succeeded += 1;
                    granted = Some(token);
                }
            }
        }
        if !matches!(*lock(&self.auth), Auth::Ready(_)) {
            return Ok(unauthorized(None));
        }
        let mut reply = if granted.is_some() && request.body().is_empty() {
            text(StatusCode::OK, "")
        } else {
            self.soap(&request).await?
        };
        if let Some(Some(token)) = granted {
            header(&mut reply, "www-authenticate", &format!("Negotiate {}", BASE64_STANDARD.encode(token)));
        }
        Ok(reply)
    }

    fn account(&self) -> Account {
        let world = self.stamp.world();
        Account {
            domain: world.netbios.clone(),
            user: "CloudAdmin".into(),
            password: world.password.clone(),
            machine: "AZS-ERCS01".into(),
            dns: "azurestack.local".into(),
        }
    }

    fn step(&self, token: &[u8]) -> Step {
        let Some(token) = spnego::read(token) else { return Step::Refused };
        let mut auth = lock(&self.auth);
        let current = std::mem::replace(&mut *auth, Auth::None);
        // 100 ns units from 1601 to 1970 and on.
        let file_time = (self.state.now().as_nanosecond() / 100 + 116_444_736_000_000_000) as u64;
        let end_point = self.tls.then_some(self.state.end_point);
        let challenge = |negotiate: &[u8]| Challenge::new(negotiate, self.account(), file_time, end_point);
        let (next, step) = match (current, token) {
            (Auth::Challenged { challenge, spnego }, Token::Raw(message)) if spnego.is_none() => {
                match challenge.accept(message) {
                    Ok(security) => (Auth::Ready(Box::new(security)), Step::Granted(None)),
                    Err(why) => (Auth::None, failed(why)),
                }
            }
            (Auth::Challenged { challenge, spnego: Some(list) }, Token::Response { token: Some(message), mic }) => {
                match challenge.accept(message) {
                    Err(why) => (Auth::None, failed(why)),
                    Ok(mut security) => match mic.map(|mic| security.exchange_mic(&list, mic)) {
                        Some(None) => (Auth::None, Step::Failed),
                        Some(Some(ours)) => {
                            let token = spnego::respond(false, false, None, Some(&ours));
                            (Auth::Ready(Box::new(security)), Step::Granted(Some(token)))
                        }
                        None => {
                            let token = spnego::respond(false, false, None, None);
                            (Auth::Ready(Box::new(security)), Step::Granted(Some(token)))
                        }
                    },
                }
            }
            (_, Token::Raw(message)) => match challenge(message) {
                Ok(made) => {
                    let answer = made.message().to_vec();
                    (Auth::Challenged { challenge: Box::new(made), spnego: None }, Step::Continue(answer))
                }
                Err(_) => (Auth::None, Step::Refused),
            },
            (_, Token::Init { mechanisms, ntlm_first, token }) => match token.filter(|_| ntlm_first) {
                None => {
                    let answer = spnego::respond(true, true, None, None);
                    (Auth::Asked { mechanisms: mechanisms.to_vec() }, Step::Continue(answer))
                }
                Some(message) => wrapped(challenge(message), mechanisms),
            },
            (Auth::Asked { mechanisms }, Token::Response { token: Some(message), .. }) => {
                wrapped(challenge(message), &mechanisms)
            }
            (_, Token::Response { .. }) => (Auth::None, Step::Refused),
        };
        *auth = next;
        step
    }

    async fn soap(&self, request: &Read) -> Result<Reply, Dropped> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let sealed = content_type.starts_with("multipart/encrypted");
        let envelope = if sealed {
            let unsealed = Sealed::decode(request.body()).ok().and_then(|sealed| {
                let mut auth = lock(&self.auth);
                let Auth::Ready(security) = &mut *auth else { return None };
                let plain = security.unseal(&sealed.signature, &sealed.ciphertext)?;
                (plain.len() == sealed.length).then_some(plain)
            });
            match unsealed {
                Some(plain) => plain,
                None => {
                    // Out of step: the connection is of no use any more.
                    *lock(&self.auth) = Auth::None;
                    return Ok(text(StatusCode::BAD_REQUEST, ""));
                }
            }
        } else if self.tls {
            request.body().to_vec()
        } else {
            let fault = Fault {
                code: 5,
                subcode: "w:AccessDenied".into(),
                reason: "Unencrypted traffic is disabled on this endpoint.".into(),
            };
            let mut reply = text(StatusCode::INTERNAL_SERVER_ERROR, fault.encode("uuid:0"));
            soap_type(&mut reply);
            return Ok(reply);
        };
        let Ok(envelope) = String::from_utf8(envelope) else { return Ok(text(StatusCode::BAD_REQUEST, "")) };
        let endpoint = &self.stamp.endpoint;
        let (handled, effects) = endpoint.server().handle(&envelope);
        // A request may itself give a waiting Receive something to say: a stop, a session key, a deletion.
        endpoint.news.notify_waiters();
        for effect in effects {
            if let Effect::Run { shell, pipeline, commands } = effect {
                let (state, stamp) = (Arc::clone(&self.state), Arc::clone(&self.stamp));
                tokio::spawn(async move { cmdlets::run(state, stamp, shell, pipeline, commands).await });
            }
        }
        let handled = match handled {
            Handled::Wait(receive) => endpoint.wait(receive).await,
            other => other,
        };
        let (status, answer) = match handled {
            Handled::Reply(answer) => (StatusCode::OK, answer),
            Handled::Fault(answer) => (StatusCode::INTERNAL_SERVER_ERROR, answer),
            Handled::Wait(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        };
        if !sealed {
            let mut reply = text(status, answer);
            soap_type(&mut reply);
            return Ok(reply);
        }
        let mut auth = lock(&self.auth);
        let Auth::Ready(security) = &mut *auth else { return Err(Dropped) };
        let (signature, ciphertext) = security.seal(answer.as_bytes());
        let body = Sealed { length: answer.len(), signature: signature.to_vec(), ciphertext }.encode();
        let mut reply = text(status, body);
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(multipart::CONTENT_TYPE));
        Ok(reply)
    }
}

fn wrapped(challenge: Result<Challenge, Refused>, mechanisms: &[u8]) -> (Auth, Step) {
    match challenge {
        Ok(made) => {
            let answer = spnego::respond(true, true, Some(made.message()), None);
            (Auth::Challenged { challenge: Box::new(made), spnego: Some(mechanisms.to_vec()) }, Step::Continue(answer))
        }
        Err(_) => (Auth::None, Step::Refused),
    }
}

fn failed(why: Refused) -> Step {
    tracing::debug!(?why, "logon refused");
    match why {
        Refused::Malformed => Step::Refused,
        _ => Step::Failed,
    }
}

fn soap_type(reply: &mut Reply) {
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/soap+xml;charset=UTF-8"));
}

fn unauthorized(token: Option<&[u8]>) -> Reply {
    let mut reply = text(StatusCode::UNAUTHORIZED, "");
    let value = token.map_or("Negotiate".to_owned(), |token| format!("Negotiate {}", BASE64_STANDARD.encode(token)));
    header(&mut reply, "www-authenticate", &value);
    reply
}
