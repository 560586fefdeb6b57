//! The lab's certificate authority and the certificate of its listeners, drawn at start or kept from an earlier one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What is kept of it: the authority as PEM, certificate and key as base64 of DER.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    ca_pem: String,
    leaf: String,
    key: String,
}

/// What the listeners need.
pub(crate) struct Tls {
    /// The authority's certificate as PEM, for `--ca-file`.
    pub(crate) ca_pem: String,
    /// The listeners' configuration.
    pub(crate) server: Arc<ServerConfig>,
    /// SHA-256 of the listeners' certificate, for channel binding (RFC 5929 section 4).
    pub(crate) end_point: [u8; 32],
    /// For keeping.
    pub(crate) kept: Kept,
}

/// Draws authority and certificate.
pub(crate) fn generate() -> Result<Tls, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "azsreg lab authority");
    params.distinguished_name.push(DnType::OrganizationName, "azsreg lab");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = CertificateParams::new(vec!["localhost".into()])?;
    params.distinguished_name.push(DnType::CommonName, "azsreg lab");
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?;
    let certificate: &rcgen::Certificate = issuer.as_ref();
    listeners(Kept {
        ca_pem: certificate.pem(),
        leaf: BASE64_STANDARD.encode(leaf.der()),
        key: BASE64_STANDARD.encode(key.serialize_der()),
    })
}

/// Authority and certificate of an earlier start.
pub(crate) fn listeners(kept: Kept) -> Result<Tls, rcgen::Error> {
    let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| rcgen::Error::CouldNotParseCertificate);
    let leaf = CertificateDer::from(bytes(&kept.leaf)?);
    let end_point = Sha256::digest(&leaf).into();
    let chain = vec![leaf];
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bytes(&kept.key)?));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
    Ok(Tls { ca_pem: kept.ca_pem.clone(), server: Arc::new(server), end_point, kept })
}
