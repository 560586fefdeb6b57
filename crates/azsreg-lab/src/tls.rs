//! The lab's certificate authority and the certificate of its listeners, drawn at start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};

/// What the listeners need.
pub(crate) struct Tls {
    /// The authority's certificate as PEM, for `--ca-file`.
    pub(crate) ca_pem: String,
    /// The listeners' configuration.
    pub(crate) server: Arc<ServerConfig>,
    /// SHA-256 of the listeners' certificate, for channel binding (RFC 5929 section 4).
    pub(crate) end_point: [u8; 32],
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
    let chain = vec![leaf.der().clone()];
    let end_point = Sha256::digest(leaf.der()).into();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
    let certificate: &rcgen::Certificate = issuer.as_ref();
    Ok(Tls { ca_pem: certificate.pem(), server: Arc::new(server), end_point })
}
