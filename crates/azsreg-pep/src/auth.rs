//! Signing in to WinRM: NTLM, raw or in SPNEGO.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

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
    /// It knows the account, and does not admit it: what it said.
    NotAllowed(String),
    /// Nobody knows: what happened in place of an answer.
    Unanswered(String),
}

/// A proof that was not accepted, or not yet.
#[derive(Clone)]
struct Shown {
    to: Vec<PepAddress>,
    verdict: Verdict,
}

/// The proofs of this process that did not end well, by user and password.
static GATES: LazyLock<Gates> = LazyLock::new(Gates::default);

#[derive(Default)]
struct Gates {
    state: RandomState,
    gates: Mutex<HashMap<u64, Arc<Proofs>>>,
}

/// The proofs of one user's password.
#[derive(Default)]
struct Proofs {
    turn: Arc<tokio::sync::Mutex<()>>,
    shown: Mutex<Vec<Shown>>,
}

impl Proofs {
    fn shown(&self) -> MutexGuard<'_, Vec<Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A person asks for one more sign-in to a stamp: what one of its addresses refused before is not held against it. What other
/// stamps refused is.
pub fn try_again(addresses: &[PepAddress]) {
    for proofs in GATES.gates.lock().unwrap_or_else(PoisonError::into_inner).values() {
        proofs.shown().retain(|shown| !shown.to.iter().any(|address| addresses.contains(address)));
    }
}

/// The right to prove a password to an endpoint. One sign-in at a time has it, and a proof that was not accepted is the
/// last: accounts lock out. While it is held the verdict is open, and stays a bad one if it is given up.
pub(crate) struct Gate {
    _turn: OwnedMutexGuard<()>,
    proofs: Arc<Proofs>,
    to: Vec<PepAddress>,
}

impl Gate {
    /// Waits until no other sign-in of this process with this password is under way.
    ///
    /// # Errors
    /// The same proof was not accepted before. All addresses are one endpoint: what one refused is shown to none.
    pub(crate) async fn pass(addresses: &[PepAddress], credentials: &Credentials) -> Result<Self, Verdict> {
        let user = credentials.user.to_lowercase();
        let key = GATES.state.hash_one((user, credentials.password.expose_secret()));
        let proofs = {
            let mut gates = GATES.gates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(gates.entry(key).or_default())
        };
        let turn = Arc::clone(&proofs.turn).lock_owned().await;
        let before = proofs.shown().iter().find(|one| one.to.iter().any(|to| addresses.contains(to))).cloned();
        match before {
            None => Ok(Self { _turn: turn, proofs, to: addresses.to_vec() }),
            Some(shown) => Err(shown.verdict),
        }
    }

    /// The proof goes out: from here on only an acceptance opens the gate again.
    pub(crate) fn shown(&mut self) {
        self.record(Some(Verdict::Unanswered("the sign-in was broken off".into())));
    }

    fn record(&self, verdict: Option<Verdict>) {
        let mut shown = self.proofs.shown();
        shown.retain(|one| one.to != self.to);
        shown.extend(verdict.map(|verdict| Shown { to: self.to.clone(), verdict }));
    }

    /// The proof was not accepted.
    pub(crate) fn end(self, verdict: Verdict) {
        self.record(Some(verdict));
    }

    /// The endpoint has shown that it took the proof.
    pub(crate) fn open(self) {
        self.record(None);
    }
}

/// Why a server's token is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadToken {
    /// It can't be read.
    Malformed(&'static str),
    /// It takes back what makes the sign-in safe.
    Lacks(&'static str),
    /// It takes another mechanism in place of NTLM.
    NoNtlm,
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
                    return Err(BadToken::NoNtlm);
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

    /// The server's last token, if it sends one: SPNEGO's, with its integrity code over the mechanisms. Whether it proves
    /// that the server knows the password.
    pub(crate) fn finish(&mut self, token: Option<&[u8]>) -> Result<bool, BadToken> {
        let (Mechanism::Negotiate, Some(token)) = (self.mechanism, token) else { return Ok(false) };
        let answer = spnego::answer(token).ok_or(BadToken::Malformed("the last token is not one of SPNEGO"))?;
        let session = self.session.as_mut().ok_or(BadToken::Malformed("nothing was proven"))?;
        match answer.mic {
            Some(mic) if !session.verify_mechanisms(spnego::MECHANISMS, mic) => Err(BadToken::Signature),
            // With one mechanism there is nothing to negotiate down: a server may leave the code out.
            code => Ok(code.is_some()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn to_hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// pyspnego as the acceptor.
    struct Acceptor {
        child: Child,
        input: ChildStdin,
        output: BufReader<ChildStdout>,
    }

    impl Acceptor {
        fn start(protocol: &str, binding: &[u8]) -> Self {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
            let python = std::env::var_os("AZSREG_PYTHON").map(PathBuf::from);
            let mut child = Command::new(python.unwrap_or_else(|| root.join("target/peers/bin/python")))
                .arg("-B")
                .arg(root.join("tests/peers/ntlm.py"))
                .args([protocol, &to_hex(binding)])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("Python runs: cargo xtask test installs it");
            let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
            Self { child, input, output }
        }

        fn told(&mut self) -> serde_json::Value {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap()
        }

        fn say(&mut self, line: &str) -> serde_json::Value {
            writeln!(self.input, "{line}").unwrap();
            self.told()
        }
    }

    impl Drop for Acceptor {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    const CHANNEL: &[u8] = b"tls-server-end-point:0123456789abcdef0123456789abcdef";

    #[test]
    #[ignore = "needs Python packages: cargo xtask test"]
    fn pyspnego_takes_the_proof_and_the_seal() {
        for (mechanism, protocol) in [(Mechanism::Ntlm, "ntlm"), (Mechanism::Negotiate, "negotiate")] {
            let mut acceptor = Acceptor::start(protocol, CHANNEL);
            let told = acceptor.told();
            let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
            let credentials = Credentials { user: text(&told, "user"), password: text(&told, "password").into() };
            let mut security = Security::new(mechanism);
            let challenge = acceptor.say(&to_hex(&security.begin()));
            let bindings = ntlm::channel_bindings(CHANNEL);
            let proof = security.prove(&hex(&text(&challenge, "token")), &credentials, "azs-ercs01", bindings).unwrap();
            let verdict = acceptor.say(&to_hex(&proof));
            assert_eq!(verdict["target"], "HTTP/azs-ercs01", "{verdict}");
            assert_eq!((&verdict["bound"], &verdict["flags"]), (&true.into(), &2.into()));
            assert_eq!(verdict["lm"], "00".repeat(24), "its challenge carries a time");
            assert_ne!(verdict["mic"], "00".repeat(16));
            let last = hex(&text(&verdict, "token"));
            security.finish(Some(&last[..]).filter(|token| !token.is_empty())).unwrap();
            for plain in ["first", "second, longer", "third"] {
                let sealed = security.seal(plain.as_bytes()).unwrap();
                let answer = acceptor.say(&format!("{} {}", to_hex(&sealed.signature), to_hex(&sealed.ciphertext)));
                assert_eq!(answer["plain"], plain);
                let (signature, ciphertext) = (hex(&text(&answer, "signature")), hex(&text(&answer, "data")));
                let length = ciphertext.len();
                let opened = security.unseal(Sealed { length, signature, ciphertext }).unwrap();
                assert_eq!(opened, format!("you said: {plain}").as_bytes());
            }
        }
    }

    #[test]
    #[ignore = "needs Python packages: cargo xtask test"]
    fn pyspnego_refuses_a_proof_for_another_channel() {
        let mut acceptor = Acceptor::start("ntlm", CHANNEL);
        let told = acceptor.told();
        let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
        let credentials = Credentials { user: text(&told, "user"), password: text(&told, "password").into() };
        let mut security = Security::new(Mechanism::Ntlm);
        let challenge = acceptor.say(&to_hex(&security.begin()));
        let bindings = ntlm::channel_bindings(b"tls-server-end-point:another");
        let proof = security.prove(&hex(&text(&challenge, "token")), &credentials, "azs-ercs01", bindings).unwrap();
        assert_eq!(acceptor.say(&to_hex(&proof))["refused"], "BadBindingsError");
    }

    #[test]
    fn a_certificate_is_bound_by_the_hash_of_its_own_signature() {
        use aws_lc_rs::digest::{SHA256, SHA384, digest};
        for (pem, algorithm) in [(P256, &SHA256), (P384, &SHA384)] {
            let der = {
                use rustls_pki_types::pem::PemObject as _;
                rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
            };
            assert_eq!(end_point(&der).unwrap(), digest(algorithm, &der).as_ref());
            assert_ne!(bindings_of(&der), [0; 16]);
        }
        assert_eq!(bindings_of(b"no certificate"), [0; 16]);
    }

    #[tokio::test]
    async fn a_proof_that_was_shown_is_the_last_until_it_is_taken() {
        let addresses: [PepAddress; 2] = ["192.0.2.7:5985".parse().unwrap(), "192.0.2.8:5985".parse().unwrap()];
        let turned = [addresses[1].clone(), addresses[0].clone()];
        let who = |password: &str| Credentials { user: "A\\b".into(), password: password.to_owned().into() };
        // Given up before the proof: nothing happened. Taken: all is well.
        drop(Gate::pass(&addresses, &who("one")).await.unwrap());
        let mut gate = Gate::pass(&addresses, &who("one")).await.unwrap();
        gate.shown();
        gate.open();
        // Broken off in between, by Ctrl-C or a deadline.
        let mut gate = Gate::pass(&addresses, &who("one")).await.unwrap();
        gate.shown();
        drop(gate);
        let upper = Credentials { user: "a\\B".into(), ..who("one") };
        assert!(matches!(Gate::pass(&turned, &upper).await.err(), Some(Verdict::Unanswered(_))));
        assert!(Gate::pass(&addresses[1..], &who("one")).await.is_err(), "one of its addresses");
        // Another password, or another endpoint, is another matter.
        assert!(Gate::pass(&addresses, &who("two")).await.is_ok());
        assert!(Gate::pass(&["192.0.2.9:5985".parse().unwrap()], &who("one")).await.is_ok());
        let mut gate = Gate::pass(&addresses, &who("two")).await.unwrap();
        gate.shown();
        gate.end(Verdict::Refused);
        assert_eq!(Gate::pass(&addresses, &who("two")).await.err(), Some(Verdict::Refused));
        // A person asks one stamp again: what another refused stays refused.
        let other: [PepAddress; 1] = ["192.0.2.9:5985".parse().unwrap()];
        let mut gate = Gate::pass(&other, &who("two")).await.unwrap();
        gate.shown();
        gate.end(Verdict::Refused);
        try_again(&addresses[1..]);
        assert!(Gate::pass(&addresses, &who("two")).await.is_ok());
        assert_eq!(Gate::pass(&other, &who("two")).await.err(), Some(Verdict::Refused));
    }

    const P256: &str = "\
-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIUUS9fk0uuJOv5xLXjLYXdiiKLOiwwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKYXpzLWVyY3MwMTAgFw0yNjExMjgwMDQ2MjhaGA8yMTI2MTEw
NDAwNDYyOFowFTETMBEGA1UEAwwKYXpzLWVyY3MwMTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABMgPh4Qo8cER5ePK3f425UnViKBy/Clw2wxS0Z5mRoTxncJHY1yx
kOO8023cBr92TTW7mD4r7sTfOjok1Q9RjO2jUzBRMB0GA1UdDgQWBBQofnVFBb2r
CEWfrpXBbUcyjV+gXTAfBgNVHSMEGDAWgBQofnVFBb2rCEWfrpXBbUcyjV+gXTAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIGMC5tL3L4iuSxp7m8pO
xGTyToZh9qOULJHKz0xE368oAiEAjCPHt2MZ3umyibtStjvnqKCbkZYm45k/+seq
VvxHhIM=
-----END CERTIFICATE-----\n";

    const P384: &str = "\
-----BEGIN CERTIFICATE-----
MIIBvTCCAUSgAwIBAgIUOFgw6c1mYMcluZYL91K+2THhj7wwCgYIKoZIzj0EAwMw
FTETMBEGA1UEAwwKYXpzLWVyY3MwMTAgFw0yNjExMjgwMDQ2MjhaGA8yMTI2MTEw
NDAwNDYyOFowFTETMBEGA1UEAwwKYXpzLWVyY3MwMTB2MBAGByqGSM49AgEGBSuB
BAAiA2IABNLaJNOXbNofNwqroDJCEgIzzdwI1ujeWgpwOdxF/Q9n3TApRr1pU7gH
K1JgcF8Cknrm008TgnKUs3Ew5J1DkZBfxFjyzOx1Lcn8vLK7HSfMbL80OGfod0IE
jFlFVuWkAqNTMFEwHQYDVR0OBBYEFH/H6mxj903AKtL1TbQ/CdfpN7QMMB8GA1Ud
IwQYMBaAFH/H6mxj903AKtL1TbQ/CdfpN7QMMA8GA1UdEwEB/wQFMAMBAf8wCgYI
KoZIzj0EAwMDZwAwZAIwafwc7/eMUfZx55cNk33SUpIJxw+7rIuenL9ds5TZjbQW
t47IJ84ZpfX7sKcj2JuqAjA+Tl9A0dD474ZuDY41rdk06zZY39PKCP/6hiWzqXRM
H89PqT042KGivOElklMQxEM=
-----END CERTIFICATE-----\n";
}
