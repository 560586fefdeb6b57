//! The session key that protects secure strings (MS-PSRP 2.2.2.3 to 2.2.2.5, 2.2.5.1.24).
//!
//! The client sends an RSA-2048 public key, the server answers with an AES-256 key under it (PKCS#1 v1.5); a secure
//! string is UTF-16LE under AES-256-CBC with a zero initialisation vector.

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    KeySize, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::DecodeError;

/// The 16 bytes that stand before exponent and modulus: a Windows PUBLICKEYBLOB for RSA-2048 key exchange.
const PUBLIC_BLOB: [u8; 16] = [6, 2, 0, 0, 0, 0xa4, 0, 0, b'R', b'S', b'A', b'1', 0, 8, 0, 0];
/// The 12 bytes that stand before an encrypted key: a Windows SIMPLEBLOB for AES-256 under RSA key exchange.
const SIMPLE_BLOB: [u8; 12] = [1, 2, 0, 0, 0x10, 0x66, 0, 0, 0, 0xa4, 0, 0];

/// A session key.
pub struct SessionKey([u8; 32]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey")
    }
}

/// A client's side of the exchange: the key pair that the session key is sent under.
pub struct Exchange(PrivateDecryptingKey);

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

/// Where modulus and exponent are in the SubjectPublicKeyInfo of an RSA-2048 key with the exponent 65537: its length tells.
const SPKI_2048: usize = 294;

impl Exchange {
    /// Draws a key pair.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, DecodeError> {
        let failed = |_| DecodeError::Protocol("no key pair for a session key");
        PrivateDecryptingKey::generate(KeySize::Rsa2048).map(Self).map_err(failed)
    }

    /// The text of PUBLIC_KEY.
    ///
    /// # Errors
    /// The key is of an unexpected form.
    pub fn public_key(&self) -> Result<String, DecodeError> {
        let bad = || DecodeError::Protocol("a key pair of an unexpected form");
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().map_err(|_| bad())?;
        let der = der.as_ref();
        if der.len() != SPKI_2048 {
            return Err(bad());
        }
        let mut blob = PUBLIC_BLOB.to_vec();
        blob.extend([der[SPKI_2048 - 1], der[SPKI_2048 - 2], der[SPKI_2048 - 3], 0]);
        blob.extend(der[SPKI_2048 - 261..SPKI_2048 - 5].iter().rev());
        Ok(BASE64_STANDARD.encode(blob))
    }

    /// The session key out of the text of ENCRYPTED_SESSION_KEY.
    ///
    /// # Errors
    /// It is not one, or not for this key pair.
    pub fn session_key(self, text: &str) -> Result<SessionKey, DecodeError> {
        let bad = || DecodeError::Protocol("an encrypted session key that can't be read");
        let blob = BASE64_STANDARD.decode(text.trim()).map_err(|_| bad())?;
        let sealed: Vec<u8> = blob.get(SIMPLE_BLOB.len()..).ok_or_else(bad)?.iter().rev().copied().collect();
        let key = Pkcs1PrivateDecryptingKey::new(self.0).map_err(|_| bad())?;
        let mut out = vec![0; key.min_output_size()];
        let plain = key.decrypt(&sealed, &mut out).map_err(|_| bad())?;
        Ok(SessionKey((&*plain).try_into().map_err(|_| bad())?))
    }
}

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

    /// A secure string of a text.
    ///
    /// # Errors
    /// The cipher failed.
    pub fn seal(&self, text: &str) -> Result<Vec<u8>, DecodeError> {
        let bad = |_| DecodeError::Protocol("a secure string could not be made");
        let key = UnboundCipherKey::new(&AES_256, &self.0).map_err(bad)?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(bad)?;
        let mut buffer: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        key.less_safe_encrypt(&mut buffer, EncryptionContext::Iv128(FixedLength::from([0; 16]))).map_err(bad)?;
        Ok(buffer)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_seals_the_server_reveals() {
        let server = SessionKey::generate().unwrap();
        let exchange = Exchange::generate().unwrap();
        let sent = server.encrypted_for(&exchange.public_key().unwrap()).unwrap();
        let client = exchange.session_key(&sent).unwrap();
        assert_eq!(server.reveal(&client.seal("Pa$$wörd").unwrap()).unwrap(), "Pa$$wörd");
    }
}
