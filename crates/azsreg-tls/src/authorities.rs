//! A file of authorities (`--ca-file`), in the forms that Windows and OpenSSL write.

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// Authorities that are trusted besides the system's.
#[derive(Debug, Clone, Default)]
pub struct Authorities(Option<Vec<CertificateDer<'static>>>);

/// Why a file is no file of authorities.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoAuthority {
    /// No byte, or white space alone.
    #[error("it is empty")]
    Empty,
    /// Something else.
    #[error("it holds {0}, and no certificate")]
    Holds(&'static str),
    /// Nothing that is known.
    #[error("it holds no certificate, neither as text (PEM) nor as bytes (DER)")]
    Nothing,
    /// A certificate that can't be read.
    #[error("certificate {0} of it can't be read: it is cut or was changed")]
    Damaged(usize),
}

impl Authorities {
    /// Reads a file: PEM as UTF-8 or UTF-16, with a byte order mark or without one, or DER.
    ///
    /// # Errors
    /// It holds no certificate, or one that can't be read.
    pub fn read(bytes: &[u8]) -> Result<Self, NoAuthority> {
        if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return Err(NoAuthority::Empty);
        }
        let text = text(bytes);
        let found: Vec<CertificateDer<'static>> = match &text {
            Some(text) if text.contains("-----BEGIN ") => {
                let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
                if let Some(at) = read.iter().position(Result::is_err) {
                    return Err(NoAuthority::Damaged(at + 1));
                }
                let certificates: Vec<_> = read.into_iter().flatten().collect();
                if certificates.is_empty() {
                    return Err(of_labels(text));
                }
                certificates
            }
            Some(text) if text.trim().is_empty() => return Err(NoAuthority::Empty),
            _ => match of_der(bytes) {
                None => vec![CertificateDer::from(bytes.to_vec())],
                Some(why) => return Err(why),
            },
        };
        let mut trial = RootCertStore::empty();
        if let Some(at) = found.iter().position(|certificate| trial.add(certificate.clone()).is_err()) {
            return Err(NoAuthority::Damaged(at + 1));
        }
        Ok(Self(Some(found)))
    }

    /// Whether a file was given.
    #[must_use]
    pub fn given(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.0.clone().unwrap_or_default()
    }
}

/// The text, whatever byte order mark is before it; `None` for what is no text.
fn text(bytes: &[u8]) -> Option<String> {
    let wide = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| of(*pair)).collect();
        String::from_utf16(&units).ok().filter(|_| rest.is_empty())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

/// What a PEM file without a certificate holds, by its labels.
fn of_labels(text: &str) -> NoAuthority {
    let has = |label: &str| text.lines().any(|line| line.contains("-----BEGIN ") && line.contains(label));
    let known = [
        ("PRIVATE KEY", "a private key"),
        ("CERTIFICATE REQUEST", "a certificate request"),
        ("PUBLIC KEY", "a public key"),
        ("X509 CRL", "a list of revoked certificates"),
        ("PKCS7", "a PKCS#7 store (.p7b)"),
    ];
    known.iter().find(|(label, _)| has(label)).map_or(NoAuthority::Nothing, |(_, what)| NoAuthority::Holds(what))
}

/// Why these bytes are no certificate; `None` where they are one.
fn of_der(bytes: &[u8]) -> Option<NoAuthority> {
    /// DER of 1.2.840.113549.1.7.2, signed data.
    const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    /// A PKCS#12 store begins with its version, 3.
    const VERSION_3: &[u8] = &[0x02, 0x01, 0x03];
    if x509_parser::parse_x509_certificate(bytes).is_ok_and(|(rest, _)| rest.is_empty()) {
        return None;
    }
    let begins = |with: &[u8]| {
        bytes.first() == Some(&0x30) && (2..6).any(|at| bytes.get(at..).is_some_and(|rest| rest.starts_with(with)))
    };
    Some(if begins(VERSION_3) {
        NoAuthority::Holds("a PKCS#12 store (.pfx)")
    } else if begins(SIGNED_DATA) {
        NoAuthority::Holds("a PKCS#7 store (.p7b)")
    } else if PrivateKeyDer::try_from(bytes).is_ok() {
        NoAuthority::Holds("a private key")
    } else if X509CertificationRequest::from_der(bytes).is_ok() {
        NoAuthority::Holds("a certificate request")
    } else if bytes.first() == Some(&0x30) {
        NoAuthority::Damaged(1)
    } else {
        NoAuthority::Nothing
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn made() -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap(), key)
    }

    fn wide(text: &str, of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(of).collect()
    }

    #[test]
    fn a_certificate_is_read_in_every_form_that_tools_write() {
        let (certificate, key) = made();
        let pem = certificate.pem();
        let both = format!("Bag Attributes\n{}{pem}{pem}", key.serialize_pem());
        for (form, bytes, many) in [
            ("PEM", pem.clone().into_bytes(), 1),
            ("PEM with CR LF", pem.replace('\n', "\r\n").into_bytes(), 1),
            ("PEM with a BOM", [b"\xef\xbb\xbf", pem.as_bytes()].concat(), 1),
            ("UTF-16, little end first", wide(&pem, u16::to_le_bytes), 1),
            ("UTF-16, big end first", wide(&pem, u16::to_be_bytes), 1),
            ("DER", certificate.der().to_vec(), 1),
            ("a key and two certificates", both.into_bytes(), 2),
        ] {
            let read = Authorities::read(&bytes).unwrap_or_else(|why| panic!("{form}: {why}"));
            assert_eq!(read.certificates(), vec![certificate.der().clone(); many], "{form}");
            assert!(read.given());
        }
    }

    #[test]
    fn what_holds_no_certificate_is_refused_by_name() {
        let (certificate, key) = made();
        let request = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().serialize_request(&key).unwrap();
        let cut = certificate.pem().replacen("MII", "MIM", 1);
        let der = certificate.der();
        for (bytes, why) in [
            (Vec::new(), "it is empty"),
            (b"\xef\xbb\xbf\r\n".to_vec(), "it is empty"),
            (wide("\r\n", u16::to_le_bytes), "it is empty"),
            (key.serialize_pem().into_bytes(), "it holds a private key, and no certificate"),
            (wide(&key.serialize_pem(), u16::to_le_bytes), "it holds a private key, and no certificate"),
            (key.serialize_der(), "it holds a private key, and no certificate"),
            (request.pem().unwrap().into_bytes(), "it holds a certificate request, and no certificate"),
            (request.der().to_vec(), "it holds a certificate request, and no certificate"),
            (
                b"-----BEGIN PKCS7-----\nMA==\n-----END PKCS7-----\n".to_vec(),
                "it holds a PKCS#7 store (.p7b), and no certificate",
            ),
            (vec![0x30, 0x82, 1, 0, 2, 1, 3, 0x30], "it holds a PKCS#12 store (.pfx), and no certificate"),
            (cut.into_bytes(), "certificate 1 of it can't be read: it is cut or was changed"),
            (der[..der.len() - 9].to_vec(), "certificate 1 of it can't be read: it is cut or was changed"),
            (b"<html>".to_vec(), "it holds no certificate, neither as text (PEM) nor as bytes (DER)"),
        ] {
            assert_eq!(Authorities::read(&bytes).unwrap_err().to_string(), why);
        }
    }
}
