//! The lab's signing keys: drawn at start, never in the binary, never from the seed.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "\n-----END PRIVATE KEY-----\n";

/// An RSA-2048 key that signs RS256.
pub struct Key {
    encoding: EncodingKey,
    /// The private key as PEM, for keeping it.
    pem: String,
    /// The key's id: 32 hexadecimal digits.
    pub kid: String,
    /// The modulus, base64url.
    pub n: String,
    /// The exponent, base64url.
    pub e: String,
}

impl Key {
    fn generate() -> Self {
        // RSA key generation only fails without a random source, and then nothing else works either.
        #[allow(clippy::expect_used)]
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("the system has randomness");
        #[allow(clippy::expect_used)]
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).expect("a key serialises");
        let pem = format!("{BEGIN}{}{END}", BASE64_STANDARD.encode(der.as_ref()));
        #[allow(clippy::expect_used)]
        Self::read(pem).expect("our own PEM is read")
    }

    /// A key that was kept.
    fn read(pem: String) -> Option<Self> {
        let encoding = EncodingKey::from_rsa_pem(pem.as_bytes()).ok()?;
        let der = BASE64_STANDARD.decode(pem.strip_prefix(BEGIN)?.strip_suffix(END)?).ok()?;
        let pair = KeyPair::from_pkcs8(&der).ok()?;
        let public = pair.public_key();
        let n = BASE64_URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let e = BASE64_URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        let kid = Sha256::digest(n.as_bytes()).iter().take(16).map(|b| format!("{b:02X}")).collect();
        Some(Self { encoding, pem, kid, n, e })
    }

    /// A compact JWS of these claims.
    #[must_use]
    pub fn sign(&self, claims: &Value, typ: bool) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.kid.clone());
        if !typ {
            header.typ = None;
        }
        jsonwebtoken::encode(&header, claims, &self.encoding).unwrap_or_default()
    }

    /// The key as a member of a JWKS.
    #[must_use]
    pub fn jwk(&self) -> Value {
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": self.n, "e": self.e})
    }
}

/// The claims of a JWS whose signature one of these JWKS keys verifies. Times and audiences are not looked at.
#[must_use]
pub(crate) fn verify(jws: &str, jwks: &Value) -> Option<Value> {
    let header = jsonwebtoken::decode_header(jws).ok()?;
    if header.alg != Algorithm::RS256 {
        return None;
    }
    let key = jwks["keys"].as_array()?.iter().find(|key| key["kid"].as_str() == header.kid.as_deref())?;
    let key = DecodingKey::from_rsa_components(key["n"].as_str()?, key["e"].as_str()?).ok()?;
    Some(jsonwebtoken::decode::<Value>(jws, &key, &bare(Algorithm::RS256)).ok()?.claims)
}

/// The claims of a JWS that this certificate's key verifies.
#[must_use]
pub(crate) fn verify_with_certificate(jws: &str, certificate: &[u8]) -> Option<Value> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let x509_parser::public_key::PublicKey::RSA(rsa) = certificate.public_key().parsed().ok()? else { return None };
    let strip = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes.strip_prefix(&[0]).unwrap_or(bytes));
    let key = DecodingKey::from_rsa_components(&strip(rsa.modulus), &strip(rsa.exponent)).ok()?;
    let algorithm = jsonwebtoken::decode_header(jws).ok()?.alg;
    if !matches!(algorithm, Algorithm::RS256 | Algorithm::PS256) {
        return None;
    }
    Some(jsonwebtoken::decode::<Value>(jws, &key, &bare(algorithm)).ok()?.claims)
}

fn bare(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// The lab's keys. Drawing one takes a tenth of a second, so it happens aside, and who needs it waits.
#[derive(Default)]
pub struct Keys {
    tokens: OnceLock<Key>,
    activation: OnceLock<Key>,
}

impl Keys {
    /// Keys that a thread of their own is drawing.
    #[must_use]
    pub fn start() -> Arc<Self> {
        let keys = Arc::new(Self::default());
        let drawn = Arc::clone(&keys);
        std::thread::spawn(move || {
            drawn.tokens();
            drawn.activation();
        });
        keys
    }

    /// Keys that were kept; `None` if they are none.
    #[must_use]
    pub(crate) fn kept(tokens: String, activation: String) -> Option<Arc<Self>> {
        let keys = Self::default();
        let _ = keys.tokens.set(Key::read(tokens)?);
        let _ = keys.activation.set(Key::read(activation)?);
        Some(Arc::new(keys))
    }

    /// Both as PEM, for keeping them.
    pub(crate) fn pems(&self) -> (String, String) {
        (self.tokens().pem.clone(), self.activation().pem.clone())
    }

    /// The key that signs access tokens.
    pub fn tokens(&self) -> &Key {
        self.tokens.get_or_init(Key::generate)
    }

    /// The key that signs activation keys.
    pub fn activation(&self) -> &Key {
        self.activation.get_or_init(Key::generate)
    }

    /// The claims of an activation key that these keys signed.
    pub fn verify_activation(&self, jws: &str) -> Option<Value> {
        verify(jws, &json!({"keys": [self.activation().jwk()]}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_verified_and_a_changed_one_is_not() {
        let key = Key::generate();
        let jwks = json!({"keys": [key.jwk()]});
        let jws = key.sign(&json!({"a": 1}), false);
        assert_eq!(verify(&jws, &jwks), Some(json!({"a": 1})));
        let mut parts: Vec<String> = jws.split('.').map(str::to_owned).collect();
        parts[1] = BASE64_URL_SAFE_NO_PAD.encode(r#"{"a":2}"#);
        assert_eq!(verify(&parts.join("."), &jwks), None);
        assert_eq!(verify(&jws, &json!({"keys": [Key::generate().jwk()]})), None);
        let none = format!(
            "{}.{}.",
            BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","kid":"{}"}}"#, key.kid)),
            parts[1]
        );
        assert_eq!(verify(&none, &jwks), None);
    }
}
