//! The system's verifier, under one that says why it refuses.

use std::sync::Arc;

use azsreg_model::{Problem, code};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;

use crate::authorities::Authorities;
use crate::untrusted::Untrusted;

/// What a client trusts: the system's authorities and these.
///
/// # Errors
/// There is no authority at all.
pub fn client_config(authorities: &Authorities) -> Result<ClientConfig, Problem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let telling = Telling::new(authorities, &provider).map_err(|error| no_authorities(&error))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| no_authorities(&error))?.dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(telling)).with_no_client_auth())
}

/// Nothing to trust: mostly a variable that leads nowhere.
fn no_authorities(error: &Error) -> Problem {
    let named: Vec<String> = named_places().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let problem = if named.is_empty() {
        Problem::new(&code::NO_AUTHORITIES, "this machine has no authorities to trust")
            .cause("The system's list of certificate authorities is missing or empty.")
            .next("Install the system's authorities (the package ca-certificates), or give a file of them with --ca-file.")
    } else {
        Problem::new(&code::NO_AUTHORITIES, format!("{} gives no authority to trust", named.join(", ")))
    };
    match error {
        Error::General(words) => problem.detail(words.as_str()),
        other => problem.detail(other.to_string()),
    }
}

/// The variables that say where the system's authorities are, where the system is one that reads them.
pub(crate) fn named_places() -> Vec<(&'static str, String)> {
    let reads = cfg!(all(unix, not(target_vendor = "apple")));
    let set = |name: &'static str| std::env::var_os(name).map(|value| (name, value.to_string_lossy().into_owned()));
    ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter(|_| reads).filter_map(set).collect()
}

#[derive(Debug)]
struct Telling {
    inner: Verifier,
    /// Whether authorities were given besides the system's.
    given: bool,
}

impl Telling {
    fn new(authorities: &Authorities, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let inner = Verifier::new_with_extra_roots(authorities.certificates(), Arc::clone(provider))?;
        Ok(Self { inner, given: authorities.given() })
    }
}

impl ServerCertVerifier for Telling {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verdict.map_err(|error| match error {
            Error::InvalidCertificate(why) => {
                let shown = std::iter::once(end_entity).chain(intermediates);
                let untrusted = Untrusted::of(&why, shown, server_name, now, self.given);
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(untrusted))))
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
