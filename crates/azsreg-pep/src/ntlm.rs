//! The client's side of NTLM (MS-NLMP), version 2 with extended session security and nothing weaker.
//!
//! No published crate sends all that a hardened server asks for: the channel bindings, the target name, and no LMv2
//! response where the challenge carries a time. What is here is pure: randomness and time come in as [`Draw`].

use aws_lc_rs::rand;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md4::Md4;
use md5::{Digest as _, Md5};
use rc4::{Rc4, StreamCipher as _};
use zeroize::Zeroizing;

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

/// The flags of MS-NLMP 2.2.2.5 that we speak.
mod flag {
    pub(super) const UNICODE: u32 = 0x0000_0001;
    pub(super) const REQUEST_TARGET: u32 = 0x0000_0004;
    pub(super) const SIGN: u32 = 0x0000_0010;
    pub(super) const SEAL: u32 = 0x0000_0020;
    pub(super) const NTLM: u32 = 0x0000_0200;
    pub(super) const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub(super) const EXTENDED_SECURITY: u32 = 0x0008_0000;
    pub(super) const TARGET_INFO: u32 = 0x0080_0000;
    pub(super) const VERSION: u32 = 0x0200_0000;
    pub(super) const KEY_128: u32 = 0x2000_0000;
    pub(super) const KEY_EXCHANGE: u32 = 0x4000_0000;
}

const OFFERED: u32 = flag::UNICODE
    | flag::REQUEST_TARGET
    | flag::SIGN
    | flag::SEAL
    | flag::NTLM
    | flag::ALWAYS_SIGN
    | flag::EXTENDED_SECURITY
    | flag::VERSION
    | flag::KEY_128
    | flag::KEY_EXCHANGE;

/// What a challenge has to keep, and how the lack of it is named.
const REQUIRED: &[(u32, &str)] = &[
    (flag::UNICODE, "Unicode"),
    (flag::EXTENDED_SECURITY, "extended session security (NTLMv2)"),
    (flag::TARGET_INFO, "the target information (NTLMv2)"),
    (flag::SIGN, "signing"),
    (flag::SEAL, "sealing"),
    (flag::KEY_128, "128-bit keys"),
    (flag::KEY_EXCHANGE, "the exchange of a session key"),
];

/// Windows 10 (10.0.17763), NTLM revision 15 (MS-NLMP 2.2.2.10).
const VERSION: [u8; 8] = [10, 0, 0x63, 0x45, 0, 0, 0, 15];

/// The attributes of MS-NLMP 2.2.2.1 that we write or look for.
mod attribute {
    pub(super) const END: u16 = 0;
    pub(super) const FLAGS: u16 = 6;
    pub(super) const TIMESTAMP: u16 = 7;
    pub(super) const TARGET_NAME: u16 = 9;
    pub(super) const CHANNEL_BINDINGS: u16 = 10;
}

/// `MsvAvFlags`: the message carries an integrity code.
const HAS_MIC: u32 = 2;

/// Why a challenge is not answered. Nothing that depends on the password has been sent then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswerable {
    /// Not a challenge, or cut off.
    Malformed(&'static str),
    /// It takes back what makes the sign-in safe.
    Lacks(&'static str),
}

/// Who signs in, as the messages have it.
pub(crate) struct Identity<'a> {
    pub(crate) domain: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

impl<'a> Identity<'a> {
    /// `DOMAIN\user`; anything else is a user (or a principal name) without a domain beside it.
    pub(crate) fn new(name: &'a str, password: &'a str) -> Self {
        let (domain, user) = name.split_once('\\').unwrap_or(("", name));
        Self { domain, user, password }
    }
}

/// What is drawn for one answer.
pub(crate) struct Draw {
    pub(crate) challenge: [u8; 8],
    pub(crate) session_key: [u8; 16],
    /// 100 ns since 1601.
    pub(crate) now: u64,
}

impl Draw {
    /// From the system; `None` if it has no randomness to give.
    pub(crate) fn new() -> Option<Self> {
        let mut draw = Self { challenge: [0; 8], session_key: [0; 16], now: 0 };
        rand::fill(&mut draw.challenge).ok()?;
        rand::fill(&mut draw.session_key).ok()?;
        let ticks = jiff::Timestamp::now().as_nanosecond() / 100 + 116_444_736_000_000_000;
        draw.now = u64::try_from(ticks).unwrap_or(0);
        Some(draw)
    }
}

/// What the answer is for: it is part of the proof, so that nobody can use it elsewhere.
pub(crate) struct Purpose<'a> {
    /// The service's principal name, `HTTP/host`.
    pub(crate) target: &'a str,
    /// [`channel_bindings`] of the TLS connection underneath; zeros where there is none.
    pub(crate) bindings: [u8; 16],
}

fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // HMAC takes keys of every length.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("any length is a key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn cipher(key: &[u8; 16]) -> Rc4 {
    // RC4 takes keys of 1 to 256 bytes.
    #[allow(clippy::expect_used)]
    Rc4::new_from_slice(key).expect("sixteen bytes are a key")
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Upper case as Windows has it: one character for one.
fn upper(text: &str) -> String {
    let one = |c: char| {
        let mut several = c.to_uppercase();
        match (several.next(), several.next()) {
            (Some(upper), None) => upper,
            _ => c,
        }
    };
    text.chars().map(one).collect()
}

/// `NTOWFv2` (MS-NLMP 3.3.2).
fn response_key(identity: &Identity<'_>) -> Zeroizing<[u8; 16]> {
    let password = Zeroizing::new(utf16(identity.password));
    let hash: Zeroizing<[u8; 16]> = Zeroizing::new(Md4::digest(&*password).into());
    Zeroizing::new(hmac_md5(&*hash, &[&utf16(&upper(identity.user)), &utf16(identity.domain)]))
}

/// The NTLMv2 response and the session base key (MS-NLMP 3.3.2).
fn respond(
    key: &[u8; 16],
    server: &[u8; 8],
    client: &[u8; 8],
    time: u64,
    info: &[u8],
) -> (Vec<u8>, Zeroizing<[u8; 16]>) {
    let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
    blob.extend(time.to_le_bytes());
    blob.extend(client);
    blob.extend([0; 4]);
    blob.extend(info);
    blob.extend([0; 4]);
    let proof = hmac_md5(key, &[server, &blob]);
    let base = Zeroizing::new(hmac_md5(key, &[&proof]));
    ([&proof[..], &blob].concat(), base)
}

/// The LMv2 response (MS-NLMP 3.3.2).
fn respond_lm(key: &[u8; 16], server: &[u8; 8], client: &[u8; 8]) -> Vec<u8> {
    [&hmac_md5(key, &[server, client])[..], client].concat()
}

/// The MD5 of the `gss_channel_bindings_struct` (RFC 2744, MS-NLMP 3.1.5.1.2) around what RFC 5929 says of the connection.
pub(crate) fn channel_bindings(application_data: &[u8]) -> [u8; 16] {
    let length = u32::try_from(application_data.len()).unwrap_or(u32::MAX).to_le_bytes();
    Md5::new().chain_update([0; 16]).chain_update(length).chain_update(application_data).finalize().into()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The pairs of a target information, up to its end mark.
fn pairs(mut info: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut pairs = Vec::new();
    loop {
        let (id, length) = (u16::from_le_bytes(array(info, 0)?), u16::from_le_bytes(array(info, 2)?));
        if id == attribute::END {
            return Some(pairs);
        }
        let end = 4 + usize::from(length);
        pairs.push((id, info.get(4..end)?));
        info = &info[end..];
    }
}

/// A sign-in that has begun: the NEGOTIATE message goes first.
pub(crate) struct Client {
    negotiate: Vec<u8>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let mut negotiate = SIGNATURE.to_vec();
        negotiate.extend(1u32.to_le_bytes());
        negotiate.extend(OFFERED.to_le_bytes());
        // Neither a domain nor a workstation is said before the server has spoken.
        negotiate.extend([0; 16]);
        negotiate.extend(VERSION);
        Self { negotiate }
    }

    pub(crate) fn negotiate(&self) -> &[u8] {
        &self.negotiate
    }

    /// The AUTHENTICATE message for a challenge, and the keys of the session.
    pub(crate) fn authenticate(
        &self,
        challenge: &[u8],
        identity: &Identity<'_>,
        purpose: &Purpose<'_>,
        draw: &Draw,
    ) -> Result<(Vec<u8>, Security), Unanswerable> {
        let cut = Unanswerable::Malformed("the challenge is cut off");
        if !challenge.starts_with(SIGNATURE) || array(challenge, 8) != Some(2u32.to_le_bytes()) {
            return Err(Unanswerable::Malformed("it is not a challenge"));
        }
        let flags = u32::from_le_bytes(array(challenge, 20).ok_or(cut)?);
        if let Some((_, name)) = REQUIRED.iter().find(|(flag, _)| flags & flag == 0) {
            return Err(Unanswerable::Lacks(name));
        }
        let server: [u8; 8] = array(challenge, 24).ok_or(cut)?;
        let length = usize::from(u16::from_le_bytes(array(challenge, 40).ok_or(cut)?));
        let offset = u32::from_le_bytes(array(challenge, 44).ok_or(cut)?) as usize;
        let info = offset.checked_add(length).and_then(|end| challenge.get(offset..end)).ok_or(cut)?;
        let given = pairs(info).ok_or(cut)?;
        let of = |id: u16| given.iter().find(|(known, _)| *known == id).map(|(_, value)| *value);
        let time = match of(attribute::TIMESTAMP) {
            None => None,
            Some(value) if value.len() == 8 => array(value, 0).map(u64::from_le_bytes),
            Some(_) => return Err(Unanswerable::Malformed("the challenge's time is no time")),
        };

        let mut info = Vec::with_capacity(length + 64 + 2 * purpose.target.len());
        let mut add = |id: u16, value: &[u8]| {
            info.extend(id.to_le_bytes());
            info.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
            info.extend(value);
        };
        for (id, value) in &given {
            // What says what we are for is ours to say.
            if ![attribute::FLAGS, attribute::TARGET_NAME, attribute::CHANNEL_BINDINGS].contains(id) {
                add(*id, value);
            }
        }
        let said = of(attribute::FLAGS).and_then(|value| array(value, 0)).map_or(0, u32::from_le_bytes);
        let said = if time.is_some() { said | HAS_MIC } else { said & !HAS_MIC };
        if said != 0 {
            add(attribute::FLAGS, &said.to_le_bytes());
        }
        add(attribute::CHANNEL_BINDINGS, &purpose.bindings);
        add(attribute::TARGET_NAME, &utf16(purpose.target));
        add(attribute::END, &[]);

        let key = response_key(identity);
        let (response, base) = respond(&key, &server, &draw.challenge, time.unwrap_or(draw.now), &info);
        // With a time in the challenge there is no LMv2 response, but zeros (MS-NLMP 3.1.5.1.2).
        let lm = if time.is_some() { vec![0; 24] } else { respond_lm(&key, &server, &draw.challenge) };
        let mut exchanged = draw.session_key;
        cipher(&base).apply_keystream(&mut exchanged);

        let flags = flags & (OFFERED | flag::TARGET_INFO) | flag::VERSION;
        let head = if time.is_some() { 88 } else { 72 };
        let parts = [lm, response, utf16(identity.domain), utf16(identity.user), Vec::new(), exchanged.to_vec()];
        let mut message = SIGNATURE.to_vec();
        message.extend(3u32.to_le_bytes());
        let mut at = head;
        for part in &parts {
            let length = u16::try_from(part.len()).map_err(|_| Unanswerable::Malformed("the challenge is too long"))?;
            message.extend(length.to_le_bytes());
            message.extend(length.to_le_bytes());
            message.extend(u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes());
            at += part.len();
        }
        message.extend(flags.to_le_bytes());
        message.extend(VERSION);
        message.resize(head, 0);
        parts.iter().for_each(|part| message.extend(part));
        if time.is_some() {
            let mic = hmac_md5(&draw.session_key, &[&self.negotiate, challenge, &message]);
            message[72..88].copy_from_slice(&mic);
        }
        Ok((message, Security::new(&draw.session_key)))
    }
}

/// One direction of a session: what is sealed is signed, and counted.
struct Direction {
    sign_key: Zeroizing<[u8; 16]>,
    seal_key: Zeroizing<[u8; 16]>,
    cipher: Rc4,
    sequence: u32,
}

impl Direction {
    fn new(session: &[u8; 16], from: &str) -> Self {
        // MS-NLMP 3.4.5.2 and 3.4.5.3 for 128-bit keys; the final zero belongs to the words.
        let key = |purpose: &str| -> Zeroizing<[u8; 16]> {
            let words = format!("session key to {from} {purpose} key magic constant\0");
            Zeroizing::new(Md5::new().chain_update(session).chain_update(words).finalize().into())
        };
        let seal_key = key("sealing");
        Self { sign_key: key("signing"), cipher: cipher(&seal_key), seal_key, sequence: 0 }
    }

    /// The signature of the next message, under the cipher where it is (MS-NLMP 3.4.4.2, with key exchange).
    fn signature(&mut self, plain: &[u8]) -> [u8; 16] {
        let sequence = self.sequence.to_le_bytes();
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = [0; 16];
        out[..4].copy_from_slice(&1u32.to_le_bytes());
        out[4..12].copy_from_slice(&hmac_md5(&*self.sign_key, &[&sequence, plain])[..8]);
        self.cipher.apply_keystream(&mut out[4..12]);
        out[12..].copy_from_slice(&sequence);
        out
    }

    /// After the signature over SPNEGO's mechanisms the cipher begins anew; the count goes on (MS-SPNG 3.3.5.1).
    fn restart(&mut self) {
        self.cipher = cipher(&self.seal_key);
    }
}

/// An established session.
pub(crate) struct Security {
    ours: Direction,
    theirs: Direction,
}

impl Security {
    fn new(session: &[u8; 16]) -> Self {
        Self { ours: Direction::new(session, "client-to-server"), theirs: Direction::new(session, "server-to-client") }
    }

    /// Seals a message: its signature and its ciphertext.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> ([u8; 16], Vec<u8>) {
        let mut sealed = plain.to_vec();
        self.ours.cipher.apply_keystream(&mut sealed);
        (self.ours.signature(plain), sealed)
    }

    /// Opens a message; `None` if its signature is not the one that the password gives.
    pub(crate) fn unseal(&mut self, signature: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        self.theirs.cipher.apply_keystream(&mut sealed);
        same(&self.theirs.signature(&sealed), signature).then_some(sealed)
    }

    /// Our signature over SPNEGO's list of mechanisms.
    pub(crate) fn sign_mechanisms(&mut self, list: &[u8]) -> [u8; 16] {
        let signature = self.ours.signature(list);
        self.ours.restart();
        signature
    }

    /// Whether theirs is right.
    pub(crate) fn verify_mechanisms(&mut self, list: &[u8], signature: &[u8]) -> bool {
        let expected = self.theirs.signature(list);
        self.theirs.restart();
        same(&expected, signature)
    }
}

/// Compares without telling by time where two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
    }

    const USER: Identity<'_> = Identity { domain: "Domain", user: "User", password: "Password" };
    const SERVER: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    /// The target information of MS-NLMP 4.2.4: domain and server.
    const INFO: &str = "02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000";
    /// The CHALLENGE message of MS-NLMP 4.2.4.3.
    const CHALLENGE: &str = "4e544c4d53535000 02000000 0c000c00 38000000 33828ae2 0123456789abcdef 0000000000000000
        24002400 44000000 060070170000000f 530065007200760065007200
        02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000";

    fn draw() -> Draw {
        Draw { challenge: [0xaa; 8], session_key: [0x55; 16], now: 0 }
    }

    fn purpose() -> Purpose<'static> {
        Purpose { target: "HTTP/azs-ercs01", bindings: [0; 16] }
    }

    /// The challenge of the specification with other flags and other pairs.
    fn challenge(flags: u32, info: &[u8]) -> Vec<u8> {
        let mut bytes = hex(CHALLENGE)[..68].to_vec();
        bytes[20..24].copy_from_slice(&flags.to_le_bytes());
        let length = u16::try_from(info.len()).unwrap().to_le_bytes();
        bytes[40..44].copy_from_slice(&[length, length].concat());
        bytes.extend(info);
        bytes
    }

    /// A challenge that a server of today would send.
    pub(crate) fn with_time(ticks: u64) -> Vec<u8> {
        let mut info = hex(INFO);
        info.truncate(info.len() - 4);
        info.extend([7, 0, 8, 0]);
        info.extend(ticks.to_le_bytes());
        info.extend([0; 4]);
        challenge(0xe28a_8233, &info)
    }

    fn part(message: &[u8], at: usize) -> &[u8] {
        let length = usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
        let offset = u32::from_le_bytes(message[at + 4..at + 8].try_into().unwrap()) as usize;
        &message[offset..offset + length]
    }

    #[test]
    fn the_values_of_the_specification() {
        // MS-NLMP 4.2.4.1 and 4.2.4.2.
        let key = response_key(&USER);
        assert_eq!(key.to_vec(), hex("0c868a403bfd7a93a3001ef22ef02e3f"));
        let (response, base) = respond(&key, &SERVER, &[0xaa; 8], 0, &hex(INFO));
        assert_eq!(response[..16], hex("68cd0ab851e51c96aabc927bebef6a1c"));
        let blob = "0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa 00000000
            02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000 00000000";
        assert_eq!(response[16..], hex(blob));
        assert_eq!(base.to_vec(), hex("8de40ccadbc14a82f15cb0ad0de95ca3"));
        assert_eq!(respond_lm(&key, &SERVER, &[0xaa; 8]), hex("86c35097ac9cec102554764a57cccc19 aaaaaaaaaaaaaaaa"));
        let mut exchanged = [0x55; 16];
        cipher(&base).apply_keystream(&mut exchanged);
        assert_eq!(exchanged.to_vec(), hex("c5dad2544fc9799094ce1ce90bc9d03e"));
        // MS-NLMP 4.2.4.4: "Plaintext" sealed by the client.
        let mut security = Security::new(&[0x55; 16]);
        assert_eq!(security.ours.sign_key.to_vec(), hex("4788dc861b4782f35d43fd98fe1a2d39"));
        assert_eq!(security.ours.seal_key.to_vec(), hex("59f600973cc4960a25480a7c196e4c58"));
        let (signature, sealed) = security.seal(&utf16("Plaintext"));
        assert_eq!(sealed, hex("54e50165bf1936dc996020c1811b0f06fb5f"));
        assert_eq!(signature.to_vec(), hex("010000007fb38ec5c55d497600000000"));
    }

    /// The first as Windows computed it (the trace in Microsoft's article "NTLM and Channel Binding Hash"), the second as
    /// pyspnego does.
    #[test]
    fn channel_bindings_are_those_of_windows() {
        for (hash, bindings) in [
            ("ea05fefecc6b0bd571dbbc5baa3ed45386d0446835f7b74c85621b9983475f95", "6586e99d81c2fc984e47172fd4dd0310"),
            ("e3ca49271e5089cc48ce82109f1324f41dbeddc29a777410c738f7868c4ff405", "6ea19df066da4622051f9c4f92c6df74"),
        ] {
            let data = [b"tls-server-end-point:".as_slice(), &hex(hash)].concat();
            assert_eq!(channel_bindings(&data).to_vec(), hex(bindings));
        }
    }

    #[test]
    fn the_challenge_of_the_specification_is_answered() {
        let client = Client::new();
        let (message, _) = client.authenticate(&hex(CHALLENGE), &USER, &purpose(), &draw()).unwrap();
        assert_eq!(part(&message, 12), hex("86c35097ac9cec102554764a57cccc19 aaaaaaaaaaaaaaaa"), "no time: LMv2");
        assert_eq!(part(&message, 28), utf16("Domain"));
        assert_eq!(part(&message, 36), utf16("User"));
        let response = part(&message, 20);
        let sent = pairs(&response[44..]).unwrap();
        let of = |id: u16| sent.iter().find(|(known, _)| *known == id).map(|(_, value)| *value);
        assert_eq!(of(9), Some(utf16("HTTP/azs-ercs01").as_slice()));
        assert_eq!(of(10), Some([0; 16].as_slice()));
        assert_eq!(of(6), None, "no time: no integrity code is announced");
        assert_eq!(u32::from_le_bytes(message[16..20].try_into().unwrap()), 72, "no time: no room for one");
        // What was sent as the session key opens with the base key that this response gives.
        let base = hmac_md5(&*response_key(&USER), &[&response[..16]]);
        let mut key: [u8; 16] = part(&message, 52).try_into().unwrap();
        cipher(&base).apply_keystream(&mut key);
        assert_eq!(key, [0x55; 16]);
    }

    #[test]
    fn a_time_in_the_challenge_means_an_integrity_code_and_no_lmv2() {
        let client = Client::new();
        let challenge = with_time(0x01d0_0000_0000_0000);
        let purpose = Purpose { bindings: [7; 16], ..purpose() };
        let (mut message, _) = client.authenticate(&challenge, &USER, &purpose, &draw()).unwrap();
        assert_eq!(part(&message, 12), [0; 24]);
        let response = part(&message, 20).to_vec();
        assert_eq!(response[24..32], 0x01d0_0000_0000_0000u64.to_le_bytes(), "the server's time, not ours");
        let sent = pairs(&response[44..]).unwrap();
        let of = |id: u16| sent.iter().find(|(known, _)| *known == id).map(|(_, value)| *value);
        assert_eq!(of(6), Some([2, 0, 0, 0].as_slice()));
        assert_eq!(of(10), Some([7; 16].as_slice()));
        let mic = message[72..88].to_vec();
        message[72..88].fill(0);
        assert_eq!(mic, hmac_md5(&[0x55; 16], &[client.negotiate(), &challenge, &message]));
    }

    #[test]
    fn what_a_server_says_of_our_purpose_does_not_count() {
        let mut info = Vec::new();
        for (id, value) in [(9u16, utf16("HTTP/elsewhere")), (10, vec![9; 16]), (6, vec![2, 0, 0, 0])] {
            info.extend(id.to_le_bytes());
            info.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            info.extend(value);
        }
        info.extend([0; 4]);
        let (message, _) =
            Client::new().authenticate(&challenge(0xe28a_8233, &info), &USER, &purpose(), &draw()).unwrap();
        let sent = pairs(&part(&message, 20)[44..]).unwrap();
        let all = |id: u16| sent.iter().filter(|(known, _)| *known == id).map(|(_, v)| v.to_vec()).collect::<Vec<_>>();
        assert_eq!(all(9), [utf16("HTTP/azs-ercs01")]);
        assert_eq!(all(10), [vec![0; 16]]);
        assert!(all(6).is_empty());
    }

    #[test]
    fn a_weaker_challenge_is_not_answered() {
        for (flag, name) in REQUIRED {
            let weak = challenge(0xe28a_8233 & !flag, &hex(INFO));
            let refused = Client::new().authenticate(&weak, &USER, &purpose(), &draw()).err();
            assert_eq!(refused, Some(Unanswerable::Lacks(name)));
        }
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let whole = with_time(5);
        for length in 0..whole.len() {
            assert!(Client::new().authenticate(&whole[..length], &USER, &purpose(), &draw()).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let _ = Client::new().authenticate(&bytes, &USER, &purpose(), &draw());
            }
        }
    }

    #[test]
    fn a_message_opens_once_and_in_its_place() {
        let session = [3; 16];
        let mut server = Security::new(&session);
        std::mem::swap(&mut server.ours, &mut server.theirs);
        let first = server.seal(b"first");
        let second = server.seal(b"second");
        let mut client = Security::new(&session);
        assert_eq!(client.unseal(&first.0, first.1.clone()).as_deref(), Some(b"first".as_slice()));
        assert_eq!(client.unseal(&first.0, first.1), None, "replayed");
        let mut client = Security::new(&session);
        assert_eq!(client.unseal(&second.0, second.1), None, "out of order");
    }

    #[test]
    fn upper_case_is_one_for_one() {
        assert_eq!(upper("straße\u{149}ä"), "STRAßE\u{149}Ä");
    }
}
