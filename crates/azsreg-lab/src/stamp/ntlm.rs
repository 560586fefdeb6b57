//! An NTLM acceptor (MS-NLMP) that compares the proof: `sspi`'s own acceptor checks a password only through the
//! message integrity code, and takes any password where a client leaves that out (`reference/wire-pep.md` row 7).

use aws_lc_rs::rand;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md4::Md4;
use md5::{Digest as _, Md5};
use rc4::{Rc4, StreamCipher as _};

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

const UNICODE: u32 = 0x0000_0001;
const REQUEST_TARGET: u32 = 0x0000_0004;
const SIGN: u32 = 0x0000_0010;
const SEAL: u32 = 0x0000_0020;
const NTLM: u32 = 0x0000_0200;
const ALWAYS_SIGN: u32 = 0x0000_8000;
const TARGET_DOMAIN: u32 = 0x0001_0000;
const EXTENDED_SECURITY: u32 = 0x0008_0000;
const TARGET_INFO: u32 = 0x0080_0000;
const VERSION: u32 = 0x0200_0000;
const KEY_128: u32 = 0x2000_0000;
const KEY_EXCHANGE: u32 = 0x4000_0000;
const KEY_56: u32 = 0x8000_0000;

/// The account that may sign in.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) domain: String,
    pub(crate) user: String,
    pub(crate) password: String,
    /// The machine that answers.
    pub(crate) machine: String,
    /// The DNS name of the domain.
    pub(crate) dns: String,
}

/// Why a sign-in is refused. The wire never says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not a message of the kind that is due, or cut off.
    Malformed,
    /// Another user or domain.
    User,
    /// Another password.
    Proof,
    /// A message integrity code that is not right, or missing though announced.
    Integrity,
    /// Bound to another TLS channel.
    Channel,
    /// No NTLMv2, no session security.
    Weak,
}

/// A challenge that waits for its answer.
pub(crate) struct Challenge {
    negotiate: Vec<u8>,
    message: Vec<u8>,
    nonce: [u8; 8],
    account: Account,
    end_point: Option<[u8; 32]>,
}

fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // HMAC takes keys of every length.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("any length is a key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn field(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])))?;
    let offset = word(bytes, at + 4)? as usize;
    bytes.get(offset..offset.checked_add(length)?)
}

fn is_message(bytes: &[u8], kind: u32) -> bool {
    bytes.starts_with(SIGNATURE) && word(bytes, 8) == Some(kind)
}

impl Challenge {
    /// Answers a NEGOTIATE message. `file_time` is 100 ns since 1601.
    pub(crate) fn new(
        negotiate: &[u8],
        account: Account,
        file_time: u64,
        end_point: Option<[u8; 32]>,
    ) -> Result<Self, Refused> {
        if !is_message(negotiate, 1) {
            return Err(Refused::Malformed);
        }
        let asked = word(negotiate, 12).ok_or(Refused::Malformed)?;
        if asked & UNICODE == 0 || asked & EXTENDED_SECURITY == 0 {
            return Err(Refused::Weak);
        }
        let mut nonce = [0; 8];
        rand::fill(&mut nonce).map_err(|_| Refused::Malformed)?;
        let flags = UNICODE
            | REQUEST_TARGET
            | SIGN
            | SEAL
            | NTLM
            | ALWAYS_SIGN
            | TARGET_DOMAIN
            | EXTENDED_SECURITY
            | TARGET_INFO
            | VERSION
            | KEY_128
            | KEY_EXCHANGE
            | KEY_56;
        let target = utf16(&account.domain);
        let mut info = Vec::new();
        let mut pair = |id: u16, value: &[u8]| {
            info.extend_from_slice(&id.to_le_bytes());
            info.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
            info.extend_from_slice(value);
        };
        pair(2, &utf16(&account.domain));
        pair(1, &utf16(&account.machine));
        pair(4, &utf16(&account.dns));
        pair(3, &utf16(&format!("{}.{}", account.machine, account.dns)));
        pair(7, &file_time.to_le_bytes());
        pair(0, &[]);
        let mut message = SIGNATURE.to_vec();
        message.extend_from_slice(&2u32.to_le_bytes());
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
        for (bytes, offset) in [(&target, 56usize), (&info, 56 + target.len())] {
            let header = [length(bytes), length(bytes)].concat();
            let offset = u32::try_from(offset).unwrap_or(0).to_le_bytes();
            if bytes == &target {
                message.extend_from_slice(&header);
                message.extend_from_slice(&offset);
                message.extend_from_slice(&flags.to_le_bytes());
                message.extend_from_slice(&nonce);
                message.extend_from_slice(&[0; 8]);
            } else {
                message.extend_from_slice(&header);
                message.extend_from_slice(&offset);
            }
        }
        // Version 10.0.17763, NTLM revision 15 (MS-NLMP 2.2.2.10).
        message.extend_from_slice(&[10, 0, 0x63, 0x45, 0, 0, 0, 15]);
        message.extend_from_slice(&target);
        message.extend_from_slice(&info);
        Ok(Self { negotiate: negotiate.to_vec(), message, nonce, account, end_point })
    }

    /// The CHALLENGE message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Checks an AUTHENTICATE message: the user, the proof of the password, the integrity of all three messages.
    pub(crate) fn accept(self, authenticate: &[u8]) -> Result<Security, Refused> {
        if !is_message(authenticate, 3) {
            return Err(Refused::Malformed);
        }
        let part = |at| field(authenticate, at).ok_or(Refused::Malformed);
        let (response, domain, user) = (part(20)?, part(28)?, part(36)?);
        let wide = |bytes: &[u8]| {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            String::from_utf16(&units).map_err(|_| Refused::Malformed)
        };
        let (domain, user) = (wide(domain)?, wide(user)?);
        let flags = word(authenticate, 60).ok_or(Refused::Malformed)?;
        if response.len() < 16 + 28 || flags & EXTENDED_SECURITY == 0 {
            return Err(Refused::Weak);
        }
        let known_domain = |domain: &str| {
            domain.eq_ignore_ascii_case(&self.account.domain) || domain.eq_ignore_ascii_case(&self.account.dns)
        };
        // A user principal name may come whole, with no domain beside it.
        let known_user = match user.split_once('@') {
            Some((name, suffix)) if domain.is_empty() => {
                name.eq_ignore_ascii_case(&self.account.user) && known_domain(suffix)
            }
            _ => user.eq_ignore_ascii_case(&self.account.user) && known_domain(&domain),
        };
        let hash = Md4::digest(utf16(&self.account.password));
        let key = hmac_md5(&hash, &[&utf16(&user.to_uppercase()), &utf16(&domain)]);
        let (proof, blob) = response.split_at(16);
        let expected = hmac_md5(&key, &[&self.nonce, blob]);
        if !same(&expected, proof) {
            return Err(if known_user { Refused::Proof } else { Refused::User });
        }
        if !known_user {
            return Err(Refused::User);
        }
        let base = hmac_md5(&key, &[proof]);
        let session: [u8; 16] = if flags & KEY_EXCHANGE == 0 {
            base
        } else {
            let mut key: [u8; 16] = part(52)?.try_into().map_err(|_| Refused::Malformed)?;
            cipher(&base).apply_keystream(&mut key);
            key
        };
        let pairs = blob.get(28..).ok_or(Refused::Malformed)?;
        let announced = av_pair(pairs, 6).and_then(|v| v.first()).is_some_and(|flags| flags & 2 != 0);
        // Bound channels must be ours; an absent or empty binding is taken, as Windows does unless hardened.
        if let (Some(binding), Some(end_point)) = (av_pair(pairs, 10), &self.end_point)
            && binding.iter().any(|b| *b != 0)
            && binding != channel_binding(end_point)
        {
            return Err(Refused::Channel);
        }
        let at = if flags & VERSION != 0 { 72 } else { 64 };
        let smallest = [12, 20, 28, 36, 44, 52].iter().filter_map(|at| word(authenticate, at + 4)).min().unwrap_or(0);
        let room = smallest as usize >= at + 16;
        let sent = authenticate.get(at..at + 16).filter(|_| room);
        let present = sent.is_some_and(|mic| mic.iter().any(|b| *b != 0));
        if announced || present {
            let Some(sent) = sent else { return Err(Refused::Integrity) };
            let mut zeroed = authenticate.to_vec();
            zeroed[at..at + 16].fill(0);
            let mic = hmac_md5(&session, &[&self.negotiate, &self.message, &zeroed]);
            if !same(&mic, sent) {
                return Err(Refused::Integrity);
            }
        }
        if flags & SEAL == 0 || flags & SIGN == 0 {
            return Err(Refused::Weak);
        }
        Ok(Security::new(&session))
    }
}

/// Compares without telling by time where two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

fn av_pair(mut pairs: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let id = u16::from_le_bytes([*pairs.first()?, *pairs.get(1)?]);
        let length = usize::from(u16::from_le_bytes([*pairs.get(2)?, *pairs.get(3)?]));
        let value = pairs.get(4..4 + length)?;
        if id == 0 {
            return None;
        }
        if id == wanted {
            return Some(value);
        }
        pairs = &pairs[4 + length..];
    }
}

/// The MD5 of the channel-binding structure of RFC 2744 around `tls-server-end-point` (RFC 5929).
fn channel_binding(end_point: &[u8; 32]) -> [u8; 16] {
    let data = [b"tls-server-end-point:".as_slice(), end_point].concat();
    let mut bytes = vec![0; 16];
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&data);
    Md5::digest(bytes).into()
}

fn cipher(key: &[u8]) -> Rc4 {
    // RC4 takes keys of 1 to 256 bytes; ours have 16.
    #[allow(clippy::expect_used)]
    Rc4::new_from_slice(key).expect("sixteen bytes are a key")
}

struct Direction {
    sign: [u8; 16],
    seal_key: [u8; 16],
    seal: Rc4,
    sequence: u32,
}

impl Direction {
    fn new(session: &[u8], from: &str) -> Self {
        // The constants of MS-NLMP 3.4.5.2 and 3.4.5.3, their final zero included.
        let key = |what: &str| -> [u8; 16] {
            let magic = format!("session key to {from} {what} key magic constant\0");
            Md5::digest([session, magic.as_bytes()].concat()).into()
        };
        let seal_key = key("sealing");
        Self { sign: key("signing"), seal_key, seal: cipher(&seal_key), sequence: 0 }
    }

    fn signature(&mut self, plain: &[u8]) -> [u8; 16] {
        let mac = hmac_md5(&self.sign, &[&self.sequence.to_le_bytes(), plain]);
        let mut sum: [u8; 8] = [0; 8];
        sum.copy_from_slice(&mac[..8]);
        self.seal.apply_keystream(&mut sum);
        let mut out = [0; 16];
        out[..4].copy_from_slice(&1u32.to_le_bytes());
        out[4..12].copy_from_slice(&sum);
        out[12..].copy_from_slice(&self.sequence.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        out
    }

    /// After a mechListMIC the cipher starts afresh; the sequence goes on (MS-SPNG 3.3.5.1).
    fn restart(&mut self) {
        self.seal = cipher(&self.seal_key);
    }
}

/// An established session: signs, seals and unseals, strictly in order.
pub(crate) struct Security {
    client: Direction,
    server: Direction,
}

impl Security {
    fn new(session: &[u8; 16]) -> Self {
        Self {
            client: Direction::new(session, "client-to-server"),
            server: Direction::new(session, "server-to-client"),
        }
    }

    /// Opens a sealed message.
    pub(crate) fn unseal(&mut self, signature: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
        let mut plain = ciphertext.to_vec();
        self.client.seal.apply_keystream(&mut plain);
        same(&self.client.signature(&plain), signature).then_some(plain)
    }

    /// Seals a message: signature and ciphertext.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> ([u8; 16], Vec<u8>) {
        let mut sealed = plain.to_vec();
        self.server.seal.apply_keystream(&mut sealed);
        (self.server.signature(plain), sealed)
    }

    /// Verifies the client's mechListMIC and gives the server's.
    pub(crate) fn exchange_mic(&mut self, list: &[u8], sent: &[u8]) -> Option<[u8; 16]> {
        let right = same(&self.client.signature(list), sent);
        self.client.restart();
        let ours = self.server.signature(list);
        self.server.restart();
        right.then_some(ours)
    }
}
