//! One pinned HTTP connection: connected, signed in, sealed.
//!
//! Every wait here has an end, and every answer a size: whoever answers may be no stamp at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use azsreg_model::code;
use azsreg_operations::{clocks, crash, waits};
use azsreg_psrp::DecodeError;
use azsreg_psrp::multipart::{self, Sealed};
use azsreg_tls::{Failed, client_config, failed, untrusted};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::PepAddress;
use crate::auth::{self, BadToken, Credentials, Gate, Security, Verdict};
use crate::error::PepError;
use crate::meter::{Meter, Metered};
use crate::session::Options;
use crate::wire::Wire;

/// The largest answer that we take. We ask for envelopes of 150 KB at most.
const MAX_ANSWER: usize = 2 << 20;
/// Its header may have this many bytes.
const MAX_HEAD: usize = 64 << 10;
/// What else may come with an answer: frames of chunks, trailers, interim answers.
const MAX_AROUND: usize = 256 << 10;
/// Interim answers (such as `100 Continue`) before one answer.
const MAX_INTERIM: u32 = 16;
/// Where WinRM listens for http, and where for https.
const PORT_HTTP: u16 = 5985;
const PORT_HTTPS: u16 = 5986;
/// A leg of the sign-in may take this long at least: the endpoint asks a domain controller.
const LEG: Duration = Duration::from_secs(10);

pub(crate) struct Connection {
    address: PepAddress,
    sender: SendRequest<Full<Bytes>>,
    security: Security,
    meter: Arc<Meter>,
    user: String,
    /// Held until the endpoint has shown that it took the proof.
    gate: Option<Gate>,
    /// Whether the endpoint has shown by its own signature that it knows the password, and nothing was asked since.
    proven: bool,
    /// Whether the last request got no answer of use: no other can be made here.
    spent: bool,
    /// For transcripts.
    pub(crate) wire: Wire,
}

fn dropped(error: impl std::fmt::Display) -> PepError {
    PepError::Dropped { reason: error.to_string(), untaken: false }
}

/// What the endpoint answers, before it has read the request, on a connection whose sign-in it has let go.
fn let_go(reason: &str) -> PepError {
    PepError::Dropped { reason: reason.into(), untaken: true }
}

/// Connects to all addresses at once and keeps the first that answers; the others are let go before anything is said.
async fn connect_any(options: &Options) -> Result<(PepAddress, TcpStream), PepError> {
    let mut tries = tokio::task::JoinSet::new();
    for (order, address) in options.addresses.iter().cloned().enumerate() {
        tries.spawn(async move {
            // In the order given, a little apart, so that the first one is used when all are well.
            tokio::time::sleep(Duration::from_millis(150) * u32::try_from(order).unwrap_or(0)).await;
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
            (address, stream)
        });
    }
    let names = || options.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut reason = "no address was given".to_owned();
    let race = async {
        while let Some(tried) = tries.join_next().await {
            match tried {
                Ok((address, Ok(stream))) => return Some((address, stream)),
                Ok((address, Err(error))) => reason = format!("{address}: {error}"),
                Err(error) => reason = error.to_string(),
            }
        }
        None
    };
    match timeout(options.connect_timeout, race).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(PepError::Unreachable { addresses: names(), reason }),
        Err(_) => Err(PepError::Unreachable {
            addresses: names(),
            reason: format!("no answer within {} s", options.connect_timeout.as_secs_f32()),
        }),
    }
}

/// Why TLS did not come about: the certificate, another kind of server, or the network.
fn of_tls(address: &PepAddress, error: &std::io::Error) -> PepError {
    if let Some(untrusted) = untrusted(error) {
        let other = clocks::other().map(|(whose, ahead)| (whose.name(), ahead));
        return untrusted.problem(&code::PEP_CERTIFICATE, &address.to_string(), other).into();
    }
    match failed(error) {
        Some(why @ Failed::NotTls) => PepError::Scheme { address: address.clone(), came: why.words().into() },
        // HTTP.sys hangs up on what is no HTTP.
        None if address.port == PORT_HTTP => {
            PepError::Scheme { address: address.clone(), came: "hung up when TLS began".into() }
        }
        Some(why) => PepError::Unreachable { addresses: address.to_string(), reason: format!("it {}", why.words()) },
        None => PepError::Unreachable { addresses: address.to_string(), reason: format!("TLS broke: {error}") },
    }
}

/// Whom a connection is for, and how long it waits for a leg of the sign-in.
pub(crate) struct Peer<'a> {
    pub(crate) address: PepAddress,
    pub(crate) credentials: &'a Credentials,
    /// [`auth::bindings_of`] its certificate; zeros without TLS.
    pub(crate) bindings: [u8; 16],
    pub(crate) leg: Duration,
}

impl Connection {
    /// Connects and signs in: once, with one mechanism, at one address.
    pub(crate) async fn open(options: &Options) -> Result<Self, PepError> {
        crash::point("pep connect >");
        let gate = match Gate::pass(&options.addresses, &options.credentials).await {
            Ok(gate) => gate,
            Err(verdict) => {
                let addresses = options.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(not_accepted(verdict, addresses, options.credentials.user.clone(), true));
            }
        };
        let (address, stream) = connect_any(options).await?;
        stream.set_nodelay(true).map_err(dropped)?;
        let leg = options.connect_timeout.max(LEG);
        let mut peer = Peer { address, credentials: &options.credentials, bindings: [0; 16], leg };
        let security = Security::new(options.mechanism);
        if !peer.address.tls {
            return Self::over(stream, peer, security, gate).await;
        }
        let address = &peer.address;
        let config = client_config(&options.authorities)?;
        let name = ServerName::try_from(address.host.clone()).map_err(|_| PepError::Unreachable {
            addresses: address.to_string(),
            reason: format!("{} can't be the name of a server with a certificate", address.host),
        })?;
        let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = timeout(options.connect_timeout, connect)
            .await
            .map_err(|_| PepError::Unreachable {
                addresses: address.to_string(),
                reason: "no TLS handshake in time".into(),
            })?
            .map_err(|error| of_tls(address, &error))?;
        if let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            peer.bindings = auth::bindings_of(certificate);
        }
        Self::over(stream, peer, security, gate).await
    }

    /// Signs in over a stream that is there.
    pub(crate) async fn over<S>(stream: S, peer: Peer<'_>, security: Security, gate: Gate) -> Result<Self, PepError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let meter = Arc::new(Meter::default());
        let stream = TokioIo::new(Metered::new(stream, Arc::clone(&meter)));
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEAD);
        let (sender, connection) = http.handshake(stream).await.map_err(dropped)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the privileged endpoint ended");
            }
        });
        let user = peer.credentials.user.clone();
        let mut opened = Self {
            address: peer.address.clone(),
            sender,
            security,
            meter,
            user,
            gate: None,
            proven: false,
            spent: false,
            wire: Wire::default(),
        };
        opened.sign_in(&peer, gate).await?;
        Ok(opened)
    }

    async fn leg(&mut self, token: &[u8], patience: Duration) -> Result<Response<Bytes>, PepError> {
        let value = format!("Negotiate {}", BASE64_STANDARD.encode(token));
        let request = self.request("application/soap+xml;charset=UTF-8", Bytes::new(), Some(&value));
        let _answer = waits::answer_of(self.address.authority(), patience);
        timeout(patience, self.send(request)).await.map_err(|_| PepError::Unreachable {
            addresses: self.address.to_string(),
            reason: format!("no answer to the sign-in within {} s", patience.as_secs_f32()),
        })?
    }

    /// Two legs: what we can, then the proof. The proof is sent once, whatever comes back.
    async fn sign_in(&mut self, peer: &Peer<'_>, mut gate: Gate) -> Result<(), PepError> {
        let first = self.security.begin();
        let reply = self.leg(&first, peer.leg).await.map_err(|error| self.of_first(error))?;
        let challenge = match (reply.status(), token_of(reply.headers())) {
            (StatusCode::UNAUTHORIZED, Some(token)) => token,
            (StatusCode::UNAUTHORIZED, None) => {
                let offered = schemes_of(reply.headers());
                let takes = |scheme: &str| offered.split(", ").any(|offered| offered.eq_ignore_ascii_case(scheme));
                if takes("Kerberos") || takes("Negotiate") {
                    let address = self.address.to_string();
                    let came = format!("it has no answer to NTLM, and offers {offered}");
                    return Err(PepError::NoNtlm { address, came });
                }
                let lacks = format!("the challenge of Negotiate (it offers {offered})");
                return Err(PepError::Weak { address: self.address.to_string(), lacks });
            }
            (StatusCode::OK, _) => {
                // It takes whoever comes: nothing would be sealed.
                return Err(PepError::Weak { address: self.address.to_string(), lacks: "any sign-in".into() });
            }
            (StatusCode::BAD_REQUEST, _) => return Err(self.of_first(PepError::Status(400))),
            (status, _) => return Err(PepError::Status(status.as_u16())),
        };
        self.wire = Wire::of_challenge(self.address.tls, reply.headers(), &challenge);
        let host = peer.address.host.as_str();
        let proof =
            self.security.prove(&challenge, peer.credentials, host, peer.bindings).map_err(|why| self.of_token(why))?;
        self.sender.ready().await.map_err(dropped)?;
        gate.shown();
        let verdict = match self.leg(&proof, peer.leg).await {
            Ok(reply) => match reply.status() {
                StatusCode::OK => match self.security.finish(token_of(reply.headers()).as_deref()) {
                    Ok(proven) => {
                        self.gate = Some(gate);
                        self.proven = proven;
                        self.wire.signed = proven;
                        return Ok(());
                    }
                    Err(why) => {
                        gate.end(Verdict::Unanswered("the answer was not signed by the stamp".into()));
                        return Err(self.of_token(why));
                    }
                },
                StatusCode::UNAUTHORIZED => Verdict::Refused,
                StatusCode::FORBIDDEN => Verdict::NotAllowed("it answered with HTTP status 403".into()),
                status => Verdict::Unanswered(format!("it answered with HTTP status {}", status.as_u16())),
            },
            Err(error) => Verdict::Unanswered(error.to_string()),
        };
        gate.end(verdict.clone());
        Err(not_accepted(verdict, self.address.to_string(), self.user.clone(), false))
    }

    fn of_token(&self, why: BadToken) -> PepError {
        let address = self.address.to_string();
        match why {
            BadToken::Malformed(why) => PepError::Decode(DecodeError::Protocol(why)),
            BadToken::Lacks(what) => PepError::Weak { address, lacks: what.into() },
            BadToken::NoNtlm => PepError::NoNtlm { address, came: "it refuses NTLM within Negotiate".into() },
            BadToken::Signature => PepError::NotGenuine { address },
        }
    }

    /// A first leg that failed, where that shows that TLS is spoken there.
    fn of_first(&self, error: PepError) -> PepError {
        if self.address.tls {
            return error;
        }
        let came = match &error {
            _ if self.meter.began_with_tls() => "answers http with TLS",
            PepError::Dropped { .. } if self.address.port == PORT_HTTPS => "hung up on http",
            PepError::Status(400) if self.address.port == PORT_HTTPS => "answers http with HTTP status 400",
            _ => return error,
        };
        PepError::Scheme { address: self.address.clone(), came: came.into() }
    }

    /// The account is known there, and not admitted.
    pub(crate) fn not_allowed(&self, reason: String) -> PepError {
        PepError::NotAllowed { address: self.address.to_string(), user: self.user.clone(), reason }
    }

    pub(crate) fn address(&self) -> &PepAddress {
        &self.address
    }

    fn request(&self, content_type: &str, body: Bytes, authorization: Option<&str>) -> Request<Full<Bytes>> {
        let mut builder = Request::post("/wsman")
            .header(HOST, self.address.authority())
            .header(USER_AGENT, concat!("azsreg/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, body.len());
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        // The parts are ours and valid; an invalid one would be a fault of this function.
        builder.body(Full::new(body)).unwrap_or_default()
    }

    fn over_limit(&self, what: &'static str, limit: usize) -> PepError {
        PepError::Over { address: self.address.to_string(), what, limit }
    }

    /// What hyper's complaint means; the meter knows of a stream that it has cut off.
    fn of_hyper(&self, error: &hyper::Error) -> PepError {
        if self.meter.is_over() {
            self.over_limit("size of one answer, in bytes", MAX_ANSWER)
        } else if error.is_parse_too_large() {
            self.over_limit("size of an answer's header, in bytes", MAX_HEAD)
        } else if over_frames(error) {
            self.over_limit("size of an answer's chunk frames or trailer, in bytes", 16 << 10)
        } else if error.is_parse() {
            PepError::Decode(DecodeError::Protocol("an answer that is not HTTP"))
        } else {
            // Closed before the request was begun.
            PepError::Dropped { reason: error.to_string(), untaken: error.is_canceled() || error.is_closed() }
        }
    }

    /// Whether the last request has no answer of use.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Whether another request can be made here.
    pub(crate) fn is_usable(&self) -> bool {
        !self.spent && !self.sender.is_closed()
    }

    async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, PepError> {
        crash::point("pep >");
        self.meter.allow(MAX_ANSWER + MAX_HEAD + MAX_AROUND);
        let endless = Arc::new(Notify::new());
        let (count, tell) = (AtomicU32::new(0), Arc::clone(&endless));
        hyper::ext::on_informational(&mut request, move |_| {
            if count.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
                tell.notify_one();
            }
        });
        self.sender.ready().await.map_err(|error| self.of_hyper(&error))?;
        let sent = self.sender.send_request(request);
        let reply = tokio::select! {
            reply = sent => reply.map_err(|error| self.of_hyper(&error))?,
            () = endless.notified() => {
                return Err(self.over_limit("number of interim answers (100 Continue)", MAX_INTERIM as usize));
            }
        };
        let (parts, body) = reply.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return self.over_limit("size of one answer, in bytes", MAX_ANSWER);
            }
            error.downcast_ref::<hyper::Error>().map_or_else(|| dropped(&error), |error| self.of_hyper(error))
        })?;
        crash::point("pep <");
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    /// Sends an envelope and gives the answer's envelope: a success or a fault. `asked` names it where nothing comes.
    pub(crate) async fn exchange(
        &mut self,
        envelope: &str,
        asked: &'static str,
        patience: Duration,
    ) -> Result<String, PepError> {
        // Who gives up waiting for the answer leaves it so.
        self.spent = true;
        let result = self.exchanged(envelope, asked, patience).await;
        self.spent = result.is_err();
        self.proven = false;
        // The first answer that only the password's owner could give shows that the proof was taken.
        match (result, self.gate.take()) {
            (Ok(answer), gate) => {
                if let Some(gate) = gate {
                    gate.open();
                }
                Ok(answer)
            }
            (Err(error), None) => Err(error),
            (Err(error), Some(gate)) => {
                let verdict = match &error {
                    PepError::NotAllowed { reason, .. } => Verdict::NotAllowed(reason.clone()),
                    other => Verdict::Unanswered(other.to_string()),
                };
                gate.end(verdict.clone());
                match error {
                    PepError::Dropped { .. } | PepError::Silent { .. } | PepError::Status(_) => {
                        Err(not_accepted(verdict, self.address.to_string(), self.user.clone(), false))
                    }
                    other => Err(other),
                }
            }
        }
    }

    async fn exchanged(&mut self, envelope: &str, asked: &'static str, patience: Duration) -> Result<String, PepError> {
        let request = if self.address.tls {
            self.request("application/soap+xml;charset=UTF-8", Bytes::from(envelope.to_owned()), None)
        } else {
            let sealed = self.security.seal(envelope.as_bytes());
            let sealed = sealed.ok_or(DecodeError::Protocol("a request before the sign-in"))?;
            self.request(multipart::CONTENT_TYPE, Bytes::from(sealed.encode()), None)
        };
        let _answer = waits::answer_of(self.address.authority(), patience);
        let reply = timeout(patience, self.send(request)).await.map_err(|_| PepError::Silent {
            address: self.address.to_string(),
            asked,
            seconds: patience.as_secs(),
        })??;
        let status = reply.status();
        let content_type = reply.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let sealed = content_type.starts_with("multipart/encrypted");
        let body = reply.body();
        if status == StatusCode::FORBIDDEN {
            return Err(self.not_allowed("it answered with HTTP status 403".into()));
        }
        // It has shown that it knows the password, and says no all the same.
        if status == StatusCode::UNAUTHORIZED && self.proven {
            return Err(self.not_allowed("it answered with HTTP status 401".into()));
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(let_go("the sign-in is no longer valid on this connection"));
        }
        // So WinRM answers on a connection that was idle for about two minutes.
        if status == StatusCode::BAD_REQUEST && body.is_empty() && self.gate.is_none() {
            return Err(let_go("it answered with HTTP status 400 and no body: it has let an idle connection go"));
        }
        let plain = if sealed {
            let opened = self.security.unseal(Sealed::decode(body)?);
            opened.ok_or_else(|| PepError::NotGenuine { address: self.address.to_string() })?
        } else if self.address.tls || body.is_empty() {
            body.to_vec()
        } else {
            return Err(PepError::NotSealed { address: self.address.to_string() });
        };
        if plain.is_empty() {
            return Err(PepError::Status(status.as_u16()));
        }
        String::from_utf8(plain).map_err(|_| DecodeError::Protocol("an answer that is not UTF-8").into())
    }
}

/// hyper's own limit of what stands around the chunks of a body, which it tells by words alone.
fn over_frames(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| {
        source.kind() == std::io::ErrorKind::InvalidData && source.to_string().starts_with("chunk ")
    })
}

fn not_accepted(verdict: Verdict, address: String, user: String, before: bool) -> PepError {
    match verdict {
        Verdict::Refused => PepError::Refused { address, user, before },
        Verdict::NotAllowed(reason) => PepError::NotAllowed { address, user, reason },
        Verdict::Unanswered(reason) => PepError::Unproven { address, user, reason, before },
    }
}

/// What a server says in `WWW-Authenticate`. Several schemes may share a line; base64 holds no comma.
fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|value| value.split(',').map(str::trim)).filter(|value| !value.is_empty())
}

fn token_of(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (_, token) = offers(headers)
        .filter_map(|value| value.split_once(' '))
        .find(|(scheme, _)| scheme.eq_ignore_ascii_case("negotiate"))?;
    BASE64_STANDARD.decode(token.trim()).ok()
}

/// The names of the schemes, for a person.
fn schemes_of(headers: &HeaderMap) -> String {
    let mut names: Vec<String> = offers(headers)
        .filter_map(|value| value.split(' ').next())
        .filter(|name| name.len() < 20 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .map(str::to_owned)
        .collect();
    names.dedup();
    names.truncate(5);
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::auth::Mechanism;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    /// The body of the next request; `None` at the end.
    pub(crate) async fn read(stream: &mut DuplexStream) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            if let Some(end) = bytes.windows(4).position(|window: &[u8]| window == b"\r\n\r\n") {
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
                    return Some(bytes.split_off(end + 4));
                }
            }
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
            }
        }
    }

    /// A server that gives these answers and then nothing more.
    fn server(answers: Vec<String>) -> DuplexStream {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            for answer in answers {
                read(&mut theirs).await;
                theirs.write_all(answer.as_bytes()).await.unwrap();
            }
            while read(&mut theirs).await.is_some() {}
        });
        ours
    }

    pub(crate) fn challenge() -> String {
        let token = BASE64_STANDARD.encode(crate::ntlm::tests::with_time(5));
        format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate {token}\r\nContent-Length: 0\r\n\r\n")
    }

    pub(crate) fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Signs in as over TLS, where no seal is needed, at an address of the test's own.
    async fn connect(port: u16, answers: Vec<String>) -> Result<Connection, PepError> {
        connect_to(server(answers), port).await
    }

    pub(crate) async fn connect_to(stream: DuplexStream, port: u16) -> Result<Connection, PepError> {
        let address = PepAddress { tls: true, host: "192.0.2.1".into(), port };
        let credentials = Credentials { user: "A\\b".into(), password: "p".to_owned().into() };
        let gate = match Gate::pass(std::slice::from_ref(&address), &credentials).await {
            Ok(gate) => gate,
            Err(verdict) => return Err(not_accepted(verdict, address.to_string(), credentials.user, true)),
        };
        let leg = Duration::from_millis(50);
        let peer = Peer { address, credentials: &credentials, bindings: [0; 16], leg };
        Connection::over(stream, peer, Security::new(Mechanism::Ntlm), gate).await
    }

    const WAIT: Duration = Duration::from_millis(50);

    #[test]
    fn a_server_that_hangs_up_on_tls_is_one_of_http_where_the_port_is() {
        let address = |port| PepAddress { tls: true, host: "192.0.2.1".into(), port };
        let hung_up = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let said = |error: PepError| {
            let problem = *azsreg_operations::ports::PortError::from(error).problem;
            (problem.code.id, problem.then().to_owned())
        };
        let (id, next) = said(of_tls(&address(5985), &hung_up()));
        assert_eq!(id, "AZR2037");
        assert!(next.contains("Use --pep 192.0.2.1 (http at 5985") && next.contains("--pep https://192.0.2.1:5986"));
        assert_eq!(said(of_tls(&address(5986), &hung_up())).0, "AZR2001");
        let not_tls = rustls::Error::from(rustls::InvalidMessage::InvalidContentType);
        let (id, next) = said(of_tls(&address(443), &std::io::Error::other(not_tls)));
        assert_eq!(id, "AZR2037");
        assert!(next.contains("--pep http://192.0.2.1:443"));
    }

    #[tokio::test]
    async fn silence_after_the_sign_in_has_an_end_and_a_name() {
        let mut connection = connect(1, vec![challenge(), ok(""), ok("<one/>")]).await.unwrap();
        assert_eq!(connection.exchange("<a/>", "a command", WAIT).await.unwrap(), "<one/>");
        let error = connection.exchange("<a/>", "a command", WAIT).await.unwrap_err();
        assert_eq!(error.to_string(), "https://192.0.2.1:1 gave no answer to a command within 0 s");
        // The proof was taken: a new connection may make another.
        assert!(connect(1, vec![challenge(), ok("")]).await.is_ok());
    }

    #[tokio::test]
    async fn each_leg_has_an_end() {
        let error = connect(2, vec![]).await.err().unwrap();
        assert!(
            matches!(&error, PepError::Unreachable { addresses, .. } if addresses == "https://192.0.2.1:2"),
            "{error}"
        );
        let error = connect(2, vec![challenge()]).await.err().unwrap();
        assert!(matches!(error, PepError::Unproven { before: false, .. }), "{error}");
        let error = connect(2, vec![challenge(), ok("")]).await.err().unwrap();
        assert!(matches!(error, PepError::Unproven { before: true, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_proof_counts_as_taken_only_when_the_endpoint_has_spoken() {
        let mut connection = connect(3, vec![challenge(), ok("")]).await.unwrap();
        let error = connection.exchange("<a/>", "a command", WAIT).await.unwrap_err();
        assert!(matches!(error, PepError::Unproven { before: false, .. }), "{error}");
        let error = connect(3, vec![challenge(), ok("")]).await.err().unwrap();
        assert!(matches!(error, PepError::Unproven { before: true, .. }), "{error}");
    }
}
