//! Why TLS did not come about, other than for a certificate.

use std::error::Error;

use crate::untrusted::of_tls;

/// Why TLS failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// What came is not TLS.
    NotTls,
    /// The server ended it, or the two have nothing in common: in words.
    Ended(String),
}

impl Failed {
    /// What the server did.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            Self::NotTls => "answers TLS with something that is not TLS",
            Self::Ended(words) => words,
        }
    }
}

/// Why TLS failed; `None` where the error is not of TLS.
#[must_use]
pub fn failed(error: &(dyn Error + 'static)) -> Option<Failed> {
    Some(match of_tls(error)? {
        rustls::Error::InvalidMessage(_) => Failed::NotTls,
        rustls::Error::AlertReceived(alert) => {
            Failed::Ended(format!("ends TLS with an alert ({})", words(&format!("{alert:?}"))))
        }
        rustls::Error::PeerIncompatible(_) => {
            Failed::Ended("has no version or cipher of TLS in common with azsreg, which takes 1.2 and 1.3".into())
        }
        _ => Failed::Ended("breaks the rules of TLS".into()),
    })
}

/// `HandshakeFailure` as words.
fn words(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars().take(60) {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

    #[test]
    fn what_ends_tls_is_told_in_words() {
        let of = |error: rustls::Error| failed(&std::io::Error::other(error)).unwrap().words().to_owned();
        assert_eq!(
            of(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)),
            "ends TLS with an alert (handshake failure)"
        );
        assert!(of(PeerIncompatible::NoCipherSuitesInCommon.into()).starts_with("has no version or cipher"));
        assert_eq!(of(InvalidMessage::InvalidContentType.into()), Failed::NotTls.words());
        assert_eq!(failed(&std::io::Error::other("the network")), None);
    }
}
