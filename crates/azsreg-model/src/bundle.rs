//! What is carried between an air-gapped stamp and a machine with internet: one file for each trip.
//!
//! A bundle is one line of canonical JSON (members in order, no spaces) with a checksum, so that a mis-copied, old or
//! wrong-stamp file is named as such before anything changes. It detects mistakes, not forgery: the activation key's
//! signature is the stamp's to verify. The PowerShell module's own files are read and written too: bare text in UTF-8, UTF-8
//! with a byte order mark, or UTF-16LE with CRLF as `Out-File` writes it (`facts-protocol.md` section 5).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::{ActivationKey, CarriedText, KeyError, NotText, Odd, RegistrationId, RegistrationToken, TokenError};

/// The version of the file's form.
const FORMAT: u32 = 1;

/// Which trip a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BundleKind {
    /// From the stamp to Azure: a registration token.
    RegistrationToken,
    /// From Azure to the stamp: an activation key.
    ActivationKey,
    /// From the stamp to Azure: the receipt of a deactivation.
    Deactivation,
    /// From the stamp to Azure: the receipt of a deactivation and a new token.
    RenewalToken,
    /// From Azure to the stamp: the key of a renewal.
    RenewalKey,
}

impl BundleKind {
    /// What it holds, in words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::RegistrationToken => "a registration token",
            Self::ActivationKey => "an activation key",
            Self::Deactivation => "the receipt of a deactivation",
            Self::RenewalToken => "a new registration token, with the receipt of the deactivation",
            Self::RenewalKey => "the activation key of a renewal",
        }
    }

    /// The command that takes it.
    #[must_use]
    pub fn taken_by(self) -> &'static str {
        match self {
            Self::RegistrationToken => {
                "azsreg offline register FILE --subscription ID --out KEY-FILE  (on a machine with internet)"
            }
            Self::ActivationKey => "azsreg offline activate FILE  (at the stamp)",
            Self::Deactivation => "azsreg offline unregister FILE --subscription ID  (on a machine with internet)",
            Self::RenewalToken => {
                "azsreg offline renew register FILE --subscription ID --out KEY-FILE  (on a machine with internet)"
            }
            Self::RenewalKey => "azsreg offline renew finish FILE  (at the stamp)",
        }
    }
}

/// What a stamp's deactivation leaves, for the undo order to hold across the air gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// When the stamp was deactivated; none where it was not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deactivated_at: Option<Timestamp>,
    /// The registration that the stamp was activated for, where the record could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationId>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Payload {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activation_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    /// The digest of the token that a key comes of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_digest: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct File {
    azsreg_bundle: u32,
    cloud_id: Uuid,
    kind: BundleKind,
    made_at: Timestamp,
    payload: Payload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration: Option<RegistrationId>,
}

/// A bundle. Its secrets are wrapped: no `Display`, no `Serialize`.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Which trip it is for.
    pub kind: BundleKind,
    /// The stamp.
    pub cloud_id: Uuid,
    /// The registration, where it exists.
    pub registration: Option<RegistrationId>,
    /// When it was made.
    pub made_at: Timestamp,
    /// The token, towards Azure.
    pub token: Option<RegistrationToken>,
    /// The key, towards the stamp.
    pub key: Option<ActivationKey>,
    /// The deactivation's receipt.
    pub receipt: Option<Receipt>,
    /// The digest of the token that the key comes of.
    pub token_digest: Option<String>,
}

/// Why a carried file can't be used.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BundleError {
    /// Nothing there.
    #[error("the file is empty")]
    Empty,
    /// Too long for any bundle.
    #[error("the file is longer than any bundle")]
    TooLong,
    /// Not text.
    #[error("the file: {0}")]
    NotText(#[from] NotText),
    /// Text, but nothing that is carried.
    #[error("the file holds no bundle, no registration token and no activation key")]
    Unknown,
    /// Something else in what is carried.
    #[error("{0} holds {1}, which is no part of it")]
    Holds(CarriedText, Odd),
    /// A screen or a mail has left the rest out.
    #[error("{0} is cut: in place of the rest it has dots at {line}character {at}", line = .1.line.map_or_else(String::new, |line| format!("line {line}, ")), at = .1.at)]
    Dots(CarriedText, Odd),
    /// The end is not there, or something in the middle.
    #[error("{part} is cut or changed: it has {length} characters{lines}", lines = .line_end.map_or_else(String::new, |odd| format!(", and {odd}")))]
    Short {
        /// Of what.
        part: CarriedText,
        /// So much is there.
        length: usize,
        /// Where its first line ends, if it has several.
        line_end: Option<Odd>,
    },
    /// What azsreg writes beside a key.
    #[error(
        "the file is the receipt of a registration, which azsreg wrote beside the key: it is to keep, and no step takes it"
    )]
    Receipt(Box<serde_json::Value>),
    /// JSON, but no bundle of ours.
    #[error("the file is cut off or is not a bundle: {0}")]
    NotBundle(String),
    /// Written by a newer azsreg.
    #[error("the bundle is of format {0}; this azsreg reads format {FORMAT}")]
    Format(u32),
    /// Changed on the way.
    #[error("the bundle's checksum does not hold: it was changed or mis-copied")]
    Checksum,
    /// The outside and the inside differ.
    #[error("the bundle says {what} {outside}, but what it holds says {inside}")]
    Disagrees {
        /// What.
        what: &'static str,
        /// On the outside.
        outside: String,
        /// Inside.
        inside: String,
    },
    /// A token inside that is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A key inside that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl BundleError {
    /// What is damaged, where it is a bare token or key.
    #[must_use]
    pub fn part(&self) -> Option<CarriedText> {
        match self {
            Self::Token(_) => Some(CarriedText::Token),
            Self::Key(_) => Some(CarriedText::Key),
            Self::Holds(part, _) | Self::Dots(part, _) | Self::Short { part, .. } => Some(*part),
            _ => None,
        }
    }
}

fn sum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bundle {
    /// An empty bundle of a kind.
    #[must_use]
    pub fn new(kind: BundleKind, cloud_id: Uuid, made_at: Timestamp) -> Self {
        Self { kind, cloud_id, registration: None, made_at, token: None, key: None, receipt: None, token_digest: None }
    }

    /// The file's text: one line of canonical JSON. It holds secrets.
    #[must_use]
    pub fn to_text(&self) -> String {
        let file = File {
            azsreg_bundle: FORMAT,
            cloud_id: self.cloud_id,
            kind: self.kind,
            made_at: self.made_at,
            payload: Payload {
                registration_token: self.token.as_ref().map(|token| token.expose().to_owned()),
                activation_key: self.key.as_ref().map(|key| key.expose().to_owned()),
                receipt: self.receipt.clone(),
                token_digest: self.token_digest.clone(),
            },
            registration: self.registration.clone(),
        };
        // A value's members are ordered by name: the text is canonical.
        let mut value = serde_json::to_value(&file).unwrap_or_default();
        let checksum = sum(&value.to_string());
        value["sha256"] = checksum.into();
        format!("{value}\n")
    }

    pub(crate) fn from_value(mut value: serde_json::Value) -> Result<Self, BundleError> {
        let object = value.as_object_mut().ok_or_else(|| BundleError::NotBundle("it is not an object".into()))?;
        match object.get("azsreg_bundle").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(BundleError::Format(u32::try_from(format).unwrap_or(u32::MAX))),
            None => return Err(BundleError::NotBundle("the member azsreg_bundle is missing".into())),
        }
        let written = object.remove("sha256").and_then(|sum| sum.as_str().map(str::to_owned));
        let written = written.ok_or_else(|| BundleError::NotBundle("the member sha256 is missing".into()))?;
        if !sum(&value.to_string()).eq_ignore_ascii_case(&written) {
            return Err(BundleError::Checksum);
        }
        let file: File = serde_json::from_value(value).map_err(|error| BundleError::NotBundle(error.to_string()))?;
        let bundle = Self {
            kind: file.kind,
            cloud_id: file.cloud_id,
            registration: file.registration,
            made_at: file.made_at,
            token: file.payload.registration_token.as_deref().map(RegistrationToken::new),
            key: file.payload.activation_key.as_deref().map(ActivationKey::new),
            receipt: file.payload.receipt,
            token_digest: file.payload.token_digest,
        };
        bundle.agrees()?;
        Ok(bundle)
    }

    /// Compares the outside with what is inside.
    fn agrees(&self) -> Result<(), BundleError> {
        let differ = |what, outside: String, inside: String| BundleError::Disagrees { what, outside, inside };
        if let Some(token) = &self.token {
            let inside = token.decode()?.cloud_id;
            if let Some(inside) = inside.filter(|inside| *inside != self.cloud_id) {
                return Err(differ("the cloud id", self.cloud_id.to_string(), inside.to_string()));
            }
        }
        if let Some(key) = &self.key {
            let claims = key.decode()?;
            if let Some(inside) = claims.cloud_id.filter(|inside| *inside != self.cloud_id) {
                return Err(differ("the cloud id", self.cloud_id.to_string(), inside.to_string()));
            }
            if let (Some(outside), Some(inside)) = (&self.registration, claims.registration())
                && *outside != inside
            {
                return Err(differ("the registration", outside.to_string(), inside.to_string()));
            }
        }
        let lacks = match self.kind {
            BundleKind::RegistrationToken => self.token.is_none(),
            BundleKind::ActivationKey | BundleKind::RenewalKey => self.key.is_none(),
            BundleKind::Deactivation => self.receipt.is_none(),
            BundleKind::RenewalToken => self.token.is_none() || self.receipt.is_none(),
        };
        if lacks {
            return Err(BundleError::NotBundle(format!("it does not hold {}", self.kind.title())));
        }
        Ok(())
    }
}

/// Text as `Out-File` of Windows PowerShell writes it: UTF-16LE with a byte order mark and CRLF.
#[must_use]
pub fn encode_module_text(text: &str) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(format!("{text}\r\n").encode_utf16().flat_map(u16::to_le_bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Carried;
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    fn token() -> RegistrationToken {
        RegistrationToken::new(&BASE64_STANDARD.encode(
            r#"{"version":"6.0","cloudId":"b6f2c3d4-aaaa-4bbb-8ccc-ddddeeeeffff","billingModel":"Capacity","hardwareInfo":[]}"#,
        ))
    }

    fn bundle() -> Bundle {
        let cloud_id = "b6f2c3d4-aaaa-4bbb-8ccc-ddddeeeeffff".parse().unwrap();
        Bundle {
            token: Some(token()),
            ..Bundle::new(BundleKind::RegistrationToken, cloud_id, "2026-11-24T10:00:00Z".parse().unwrap())
        }
    }

    #[test]
    fn a_bundle_comes_back_and_any_changed_byte_is_noticed() {
        let text = bundle().to_text();
        let Carried::Bundle(back) = Carried::read(text.as_bytes()).unwrap() else { panic!("a bundle") };
        assert_eq!(back.to_text(), text);
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Carried::read(&bytes).is_err(), "byte {at} changed: {}", String::from_utf8_lossy(&bytes));
        }
        for end in 1..text.len() - 1 {
            assert!(Carried::read(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_outside_must_agree_with_the_inside() {
        let other = Bundle { cloud_id: Uuid::nil(), ..bundle() };
        assert!(matches!(Carried::read(other.to_text().as_bytes()), Err(BundleError::Disagrees { .. })));
        let empty = Bundle { token: None, ..bundle() };
        assert!(matches!(Carried::read(empty.to_text().as_bytes()), Err(BundleError::NotBundle(_))));
    }
}
