//! One pinned HTTP connection: connected, signed in, sealed.

use std::sync::Arc;
use std::time::Duration;

use azsreg_operations::{crash, waits};
use azsreg_psrp::multipart::{self, Sealed};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::PepAddress;
use crate::auth::Security;
use crate::error::PepError;
use crate::session::Options;

/// The largest answer that we take.
const MAX_ANSWER: usize = 8 << 20;

pub(crate) struct Connection {
    address: PepAddress,
    sender: SendRequest<Full<Bytes>>,
    security: Security,
}

fn dropped(error: impl std::fmt::Display) -> PepError {
    PepError::Dropped { reason: error.to_string() }
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

fn tls_config(options: &Options) -> Result<ClientConfig, PepError> {
    let failed = |reason: String| PepError::Certificate { address: "the authorities of this machine".into(), reason };
    let extra = match &options.ca_pem {
        None => Vec::new(),
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(format!("--ca-file: {error}")))?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
        .map_err(|error| failed(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

impl Connection {
    /// Connects and signs in: once, with one mechanism, at one address.
    pub(crate) async fn open(options: &Options) -> Result<Self, PepError> {
        crash::point("pep connect >");
        let (address, stream) = connect_any(options).await?;
        stream.set_nodelay(true).map_err(dropped)?;
        let sender = if address.tls {
            let config = tls_config(options)?;
            let name = ServerName::try_from(address.host.clone())
                .map_err(|error| PepError::Certificate { address: address.to_string(), reason: error.to_string() })?;
            let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
            let stream = timeout(options.connect_timeout, connect)
                .await
                .map_err(|_| PepError::Unreachable {
                    addresses: address.to_string(),
                    reason: "no TLS handshake in time".into(),
                })?
                .map_err(|error| match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                    Some(rustls::Error::InvalidCertificate(why)) => {
                        PepError::Certificate { address: address.to_string(), reason: why.to_string() }
                    }
                    _ => PepError::Unreachable { addresses: address.to_string(), reason: error.to_string() },
                })?;
            handshake(stream).await?
        } else {
            handshake(stream).await?
        };
        let security = Security::new(options.mechanism, &options.credentials, &address.host)?;
        let mut connection = Self { address, sender, security };
        connection.sign_in(options).await?;
        Ok(connection)
    }

    async fn sign_in(&mut self, options: &Options) -> Result<(), PepError> {
        let refused = |address: &PepAddress| PepError::Refused {
            address: address.to_string(),
            user: options.credentials.user.clone(),
        };
        let mut answer = Vec::new();
        // NTLM takes two legs; SPNEGO may take one more to agree on the mechanism.
        for _ in 0..4 {
            // A token of the server that the library can't take is the server's doing: no second try.
            let Some(token) = self.security.step(&answer)? else { return Ok(()) };
            let value = format!("Negotiate {}", BASE64_STANDARD.encode(token));
            let request = self.request("application/soap+xml;charset=UTF-8", Bytes::new(), Some(&value));
            let _answer =
                waits::answer_of(self.address.authority(), options.connect_timeout.max(Duration::from_secs(10)));
            let reply = timeout(options.connect_timeout.max(Duration::from_secs(10)), self.send(request))
                .await
                .map_err(|_| PepError::Unreachable {
                    addresses: self.address.to_string(),
                    reason: "no answer to the sign-in".into(),
                })??;
            let offered = reply
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                // Several schemes may share a line; base64 holds no comma.
                .flat_map(|value| value.split(',').map(str::trim))
                .find_map(|value| value.split_once(' ').filter(|(s, _)| s.eq_ignore_ascii_case("negotiate")))
                .and_then(|(_, token)| BASE64_STANDARD.decode(token.trim()).ok());
            match (reply.status(), offered) {
                (StatusCode::OK, token) => {
                    if let Some(token) = token.filter(|_| !self.security.is_done()) {
                        // SPNEGO's last word, with the integrity code over what was negotiated.
                        self.security.step(&token)?;
                    }
                    return Ok(());
                }
                (StatusCode::UNAUTHORIZED, Some(token)) if !self.security.is_done() || answer.is_empty() => {
                    answer = token
                }
                (StatusCode::UNAUTHORIZED, _) => return Err(refused(&self.address)),
                (status, _) => return Err(PepError::Status(status.as_u16())),
            }
        }
        Err(refused(&self.address))
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

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, PepError> {
        crash::point("pep >");
        self.sender.ready().await.map_err(dropped)?;
        let reply = self.sender.send_request(request).await.map_err(dropped)?;
        let (parts, body) = reply.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(dropped)?.to_bytes();
        crash::point("pep <");
        Ok(Response::from_parts(parts, body))
    }

    /// Sends an envelope and gives the answer's envelope: a success or a fault.
    pub(crate) async fn exchange(&mut self, envelope: &str, patience: Duration) -> Result<String, PepError> {
        let request = if self.address.tls {
            self.request("application/soap+xml;charset=UTF-8", Bytes::from(envelope.to_owned()), None)
        } else {
            let body = self.security.seal(envelope.as_bytes())?.encode();
            self.request(multipart::CONTENT_TYPE, Bytes::from(body), None)
        };
        let _answer = waits::answer_of(self.address.authority(), patience);
        let reply = timeout(patience, self.send(request))
            .await
            .map_err(|_| PepError::Dropped { reason: format!("no answer within {} s", patience.as_secs()) })??;
        let status = reply.status();
        let content_type = reply.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let sealed = content_type.starts_with("multipart/encrypted");
        let body = reply.body().clone();
        if status == StatusCode::UNAUTHORIZED {
            return Err(PepError::Dropped { reason: "the sign-in is no longer valid on this connection".into() });
        }
        let plain = if sealed {
            self.security.unseal(Sealed::decode(&body)?)?
        } else if self.address.tls || body.is_empty() {
            body.to_vec()
        } else {
            return Err(PepError::NotSealed { address: self.address.to_string() });
        };
        if plain.is_empty() {
            return Err(PepError::Status(status.as_u16()));
        }
        String::from_utf8(plain).map_err(|_| azsreg_psrp::DecodeError::Protocol("an answer that is not UTF-8").into())
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, PepError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(dropped)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the privileged endpoint ended");
        }
    });
    Ok(sender)
}
