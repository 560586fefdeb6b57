//! The session key that protects secure strings (MS-PSRP 2.2.2.3 to 2.2.2.5, 2.2.5.1.24).
//!
//! The client sends an RSA-2048 public key, the server answers with an AES-256 key under it (PKCS#1 v1.5); a secure
//! string is UTF-16LE under AES-256-CBC with a zero initialisation vector.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::DecodeError;

/// The 16 bytes that stand before exponent and modulus: a Windows PUBLICKEYBLOB for RSA-2048 key exchange.
const PUBLIC_BLOB: [u8; 16] = [6, 2, 0, 0, 0, 0xa4, 0, 0, b'R', b'S', b'A', b'1', 0, 8, 0, 0];
/// The 12 bytes that stand before an encrypted key: a Windows SIMPLEBLOB for AES-256 under RSA key exchange.
const SIMPLE_BLOB: [u8; 12] = [1, 2, 0, 0, 0x10, 0x66, 0, 0, 0, 0xa4, 0, 0];

/// A server's session key.
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Draws a key.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, DecodeError> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| DecodeError::Protocol("no randomness for a session key"))?;
        Ok(Self(key))
    }

    /// The text of ENCRYPTED_SESSION_KEY for the text of PUBLIC_KEY.
    ///
    /// # Errors
    /// The public key is not a 2048-bit RSA key in the form that MS-PSRP 2.2.2.3 gives.
    pub fn encrypted_for(&self, public_key: &str) -> Result<String, DecodeError> {
        let bad = || DecodeError::malformed("a PSRP public key", public_key);
        let blob = BASE64_STANDARD.decode(public_key.trim()).map_err(|_| bad())?;
        if blob.len() != 16 + 4 + 256 || blob[..16] != PUBLIC_BLOB {
            return Err(bad());
        }
        let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<_>>();
        let der = spki(&reversed(&blob[20..]), &reversed(&blob[16..20]));
        let key = PublicEncryptingKey::from_der(&der).map_err(|_| bad())?;
        let key = Pkcs1PublicEncryptingKey::new(key).map_err(|_| bad())?;
        let mut sealed = vec![0; key.ciphertext_size()];
        let sealed = key.encrypt(&self.0, &mut sealed).map_err(|_| bad())?;
        let mut out = SIMPLE_BLOB.to_vec();
        out.extend(sealed.iter().rev());
        Ok(BASE64_STANDARD.encode(out))
    }

    /// The text of a secure string.
    ///
    /// # Errors
    /// It was not made with this key.
    pub fn reveal(&self, secure_string: &[u8]) -> Result<String, DecodeError> {
        let bad = || DecodeError::Protocol("a secure string that is not under the session key");
        let key = UnboundCipherKey::new(&AES_256, &self.0).map_err(|_| bad())?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| bad())?;
        let mut buffer = secure_string.to_vec();
        let context = DecryptionContext::Iv128(FixedLength::from([0; 16]));
        let plain = key.decrypt(&mut buffer, context).map_err(|_| bad())?;
        let units = plain.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect::<Vec<_>>();
        String::from_utf16(&units).map_err(|_| bad())
    }
}

/// A SubjectPublicKeyInfo for an RSA key (RFC 8017 A.1.1).
fn spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let stripped: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
        let mut content = Vec::new();
        if stripped.first().is_none_or(|b| b & 0x80 != 0) {
            content.push(0);
        }
        content.extend(stripped);
        tlv(0x02, &content)
    };
    let key = tlv(0x30, &[integer(modulus), integer(exponent)].concat());
    let algorithm = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bits = tlv(0x03, &[vec![0], key].concat());
    tlv(0x30, &[algorithm.to_vec(), bits].concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
            out.extend([0x82, length[0], length[1]]);
        }
    }
    out.extend_from_slice(content);
    out
}
