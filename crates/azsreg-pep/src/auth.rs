//! Signing in to WinRM: NTLM, raw or in SPNEGO.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use azsreg_psrp::multipart::Sealed;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OwnedMutexGuard;

use crate::address::PepAddress;
use crate::ntlm::{self, Client, Draw, Identity, Purpose, Unanswerable};
use crate::spnego;

/// Who signs in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `DOMAIN\user` or `user@domain`.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mechanism {
    /// SPNEGO, with NTLM inside.
    #[default]
    Negotiate,
    /// NTLM without a wrapper.
    Ntlm,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negotiate => "negotiate",
            Self::Ntlm => "ntlm",
        })
    }
}

impl FromStr for Mechanism {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "negotiate" => Ok(Self::Negotiate),
            "ntlm" => Ok(Self::Ntlm),
            _ => Err("expected negotiate or ntlm"),
        }
    }
}

/// How a proof of the password ended that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The endpoint said no.
    Refused,
    /// Nobody knows: what happened in place of an answer.
    Unanswered(String),
}

/// The sign-ins of this process, by endpoint, user and password. Each has the last verdict, if it was a bad one.
static GATES: LazyLock<Gates> = LazyLock::new(Gates::default);

#[derive(Default)]
struct Gates {
    state: RandomState,
    gates: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<Option<Verdict>>>>>,
}

/// A person asks for one more sign-in where the last was refused: what was refused before is not held against it.
pub fn try_again() {
    GATES.gates.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The right to prove the password to an endpoint. One at a time has it, and a proof that was not accepted is the last:
/// accounts lock out. While it is held the verdict is open, and stays a bad one if it is given up.
pub(crate) struct Gate(OwnedMutexGuard<Option<Verdict>>);

impl Gate {
    /// Waits until no other sign-in of this process is under way there.
    ///
    /// # Errors
    /// The same proof was not accepted before.
    pub(crate) async fn pass(addresses: &[PepAddress], credentials: &Credentials) -> Result<Self, Verdict> {
        // All addresses are one endpoint: what one of them refused is shown to none.
        let mut names: Vec<String> = addresses.iter().map(PepAddress::authority).collect();
        names.sort_unstable();
        let user = credentials.user.to_lowercase();
        let key = GATES.state.hash_one((names, user, credentials.password.expose_secret()));
        let gate = {
            let mut gates = GATES.gates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(gates.entry(key).or_default())
        };
        let guard = gate.lock_owned().await;
        match &*guard {
            None => Ok(Self(guard)),
            Some(verdict) => Err(verdict.clone()),
        }
    }

    /// The proof goes out: from here on only an acceptance opens the gate again.
    pub(crate) fn shown(&mut self) {
        *self.0 = Some(Verdict::Unanswered("the sign-in was broken off".into()));
    }

    /// The proof was not accepted.
    pub(crate) fn end(mut self, verdict: Verdict) {
        *self.0 = Some(verdict);
    }

    /// The endpoint has shown that it took the proof.
    pub(crate) fn open(mut self) {
        *self.0 = None;
    }
}

/// Why a server's token is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadToken {
    /// It can't be read.
    Malformed(&'static str),
    /// It takes back what makes the sign-in safe.
    Lacks(&'static str),
    /// It is not signed as the password's owner would sign it.
    Signature,
}

impl From<Unanswerable> for BadToken {
    fn from(why: Unanswerable) -> Self {
        match why {
            Unanswerable::Malformed(why) => Self::Malformed(why),
            Unanswerable::Lacks(what) => Self::Lacks(what),
        }
    }
}

/// A sign-in in progress, then the session that seals.
pub(crate) struct Security {
    mechanism: Mechanism,
    client: Client,
    session: Option<ntlm::Security>,
}

impl Security {
    pub(crate) fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, client: Client::new(), session: None }
    }

    /// The first token.
    pub(crate) fn begin(&self) -> Vec<u8> {
        match self.mechanism {
            Mechanism::Ntlm => self.client.negotiate().to_vec(),
            Mechanism::Negotiate => spnego::init(self.client.negotiate()),
        }
    }

    /// The second token, which proves the password, for the server's challenge. It is made once.
    pub(crate) fn prove(
        &mut self,
        token: &[u8],
        credentials: &Credentials,
        host: &str,
        bindings: [u8; 16],
    ) -> Result<Vec<u8>, BadToken> {
        let challenge = match self.mechanism {
            Mechanism::Ntlm => token,
            Mechanism::Negotiate => {
                let answer = spnego::answer(token).ok_or(BadToken::Malformed("the token is not one of SPNEGO"))?;
                if answer.rejected {
                    return Err(BadToken::Lacks("NTLM"));
                }
                answer.token.ok_or(BadToken::Malformed("the token holds no challenge"))?
            }
        };
        let draw = Draw::new().ok_or(BadToken::Malformed("this machine has no randomness to give"))?;
        let identity = Identity::new(&credentials.user, credentials.password.expose_secret());
        let target = format!("HTTP/{host}");
        let purpose = Purpose { target: &target, bindings };
        let (message, mut session) = self.client.authenticate(challenge, &identity, &purpose, &draw)?;
        let token = match self.mechanism {
            Mechanism::Ntlm => message,
            Mechanism::Negotiate => spnego::respond(&message, &session.sign_mechanisms(spnego::MECHANISMS)),
        };
        self.session = Some(session);
        Ok(token)
    }

    /// The server's last token, if it sends one: SPNEGO's, with its integrity code over the mechanisms.
    pub(crate) fn finish(&mut self, token: Option<&[u8]>) -> Result<(), BadToken> {
        let (Mechanism::Negotiate, Some(token)) = (self.mechanism, token) else { return Ok(()) };
        let answer = spnego::answer(token).ok_or(BadToken::Malformed("the last token is not one of SPNEGO"))?;
        let session = self.session.as_mut().ok_or(BadToken::Malformed("nothing was proven"))?;
        match answer.mic {
            Some(mic) if !session.verify_mechanisms(spnego::MECHANISMS, mic) => Err(BadToken::Signature),
            // With one mechanism there is nothing to negotiate down: a server may leave the code out.
            _ => Ok(()),
        }
    }

    pub(crate) fn seal(&mut self, plain: &[u8]) -> Option<Sealed> {
        let (signature, ciphertext) = self.session.as_mut()?.seal(plain);
        Some(Sealed { length: plain.len(), signature: signature.to_vec(), ciphertext })
    }

    /// The plain text, if the signature is the one that the password gives.
    pub(crate) fn unseal(&mut self, sealed: Sealed) -> Option<Vec<u8>> {
        let plain = self.session.as_mut()?.unseal(&sealed.signature, sealed.ciphertext)?;
        (plain.len() == sealed.length).then_some(plain)
    }
}

/// What binds a sign-in to the TLS connection: `tls-server-end-point` of RFC 5929. Zeros, which is "not bound", where its
/// certificate is signed in a way that the RFC gives no hash for.
pub(crate) fn bindings_of(certificate: &[u8]) -> [u8; 16] {
    let Some(hash) = end_point(certificate) else { return [0; 16] };
    ntlm::channel_bindings(&[b"tls-server-end-point:".as_slice(), &hash].concat())
}

/// The certificate's hash by its own signature's algorithm, SHA-256 in place of MD5 and SHA-1 (RFC 5929, section 4.1).
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    use x509_parser::signature_algorithm::SignatureAlgorithm;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = &parsed.signature_algorithm;
    let name = algorithm.algorithm.to_id_string();
    let pss = match SignatureAlgorithm::try_from(algorithm).ok() {
        Some(SignatureAlgorithm::RSASSA_PSS(params)) => Some(params.hash_algorithm_oid().to_id_string()),
        _ => None,
    };
    let hash = match pss.as_deref().unwrap_or(&name) {
        // md5, sha1 and sha256 with RSA; ECDSA with the last two; DSA; and the bare hashes of PSS.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2"
        | "1.3.14.3.2.26"
        | "2.16.840.1.101.3.4.2.1" => &SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => &SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => &SHA512,
        _ => return None,
    };
    Some(digest(hash, certificate).as_ref().to_vec())
}
