//! The server's side of NTLM and SPNEGO, of its own: a mistake of the client's codec is not made here too.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md4::Md4;
use md5::{Digest as _, Md5};
use rc4::{Rc4, StreamCipher as _};

pub(crate) const UNICODE: u32 = 1;
pub(crate) const SIGN: u32 = 0x10;
pub(crate) const SEAL: u32 = 0x20;
pub(crate) const LM_KEY: u32 = 0x80;
pub(crate) const NTLM: u32 = 0x200;
pub(crate) const EXTENDED: u32 = 0x8_0000;
pub(crate) const TARGET_INFO: u32 = 0x80_0000;
pub(crate) const VERSION: u32 = 0x200_0000;
pub(crate) const KEY_128: u32 = 0x2000_0000;
pub(crate) const KEY_EXCHANGE: u32 = 0x4000_0000;
pub(crate) const FLAGS: u32 = UNICODE | SIGN | SEAL | NTLM | EXTENDED | TARGET_INFO | VERSION | KEY_128 | KEY_EXCHANGE;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub(crate) fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// One direction of the seal.
pub(crate) struct Way {
    sign: [u8; 16],
    cipher: Rc4,
    count: u32,
}

impl Way {
    pub(crate) fn new(key: &[u8; 16], from: &str) -> Self {
        let derived = |what: &str| -> [u8; 16] {
            Md5::digest([&key[..], format!("session key to {from} {what} key magic constant\0").as_bytes()].concat())
                .into()
        };
        Self { sign: derived("signing"), cipher: Rc4::new_from_slice(&derived("sealing")).unwrap(), count: 0 }
    }

    pub(crate) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut data = plain.to_vec();
        self.cipher.apply_keystream(&mut data);
        let mut sum = hmac_md5(&self.sign, &[&self.count.to_le_bytes(), plain])[..8].to_vec();
        self.cipher.apply_keystream(&mut sum);
        let count = self.count.to_le_bytes();
        self.count += 1;
        [&[16, 0, 0, 0, 1, 0, 0, 0][..], &sum, &count, &data].concat()
    }

    /// The text; the signature moves the cipher on, and is not looked at.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Vec<u8> {
        let mut data = sealed[20..].to_vec();
        self.cipher.apply_keystream(&mut data);
        self.cipher.apply_keystream(&mut [0; 8]);
        data
    }
}

pub(crate) struct Session {
    pub(crate) client: Way,
    pub(crate) server: Way,
    /// The last answer as it was sent.
    pub(crate) last: Vec<u8>,
}

pub(crate) fn field(message: &[u8], at: usize) -> &[u8] {
    let length = usize::from(u16::from_le_bytes(message[at..at + 2].try_into().unwrap()));
    let offset = u32::from_le_bytes(message[at + 4..at + 8].try_into().unwrap()) as usize;
    &message[offset..offset + length]
}

pub(crate) const NONCE: [u8; 8] = *b"\x01\x23\x45\x67\x89\xab\xcd\xef";

pub(crate) fn challenge(flags: u32, time: bool) -> Vec<u8> {
    let mut info = Vec::new();
    let mut pair = |id: u16, value: &[u8]| {
        info.extend(id.to_le_bytes());
        info.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        info.extend(value);
    };
    pair(2, &utf16("AZURESTACK"));
    pair(1, &utf16("AZS-ERCS01"));
    if time {
        pair(7, &0x01d0_0000_0000_0000u64.to_le_bytes());
    }
    pair(0, &[]);
    let length = u16::try_from(info.len()).unwrap().to_le_bytes();
    let mut message = b"NTLMSSP\0\x02\0\0\0\0\0\0\0\x38\0\0\0".to_vec();
    message.extend(flags.to_le_bytes());
    message.extend(NONCE);
    message.extend([0; 8]);
    message.extend([length, length].concat());
    message.extend(56u32.to_le_bytes());
    message.extend([10, 0, 0x63, 0x45, 0, 0, 0, 15]);
    message.extend(info);
    message
}

/// The session of a proof, if it is one of the password. Otherwise what is wrong.
pub(crate) fn accept(message: &[u8]) -> Result<Session, &'static str> {
    let (response, domain, user) = (field(message, 20), field(message, 28), field(message, 36));
    if user != utf16("CloudAdmin") || domain != utf16("AZURESTACK") {
        return Err("the user is not the one that was given");
    }
    let hash = Md4::digest(utf16(PASSWORD));
    let key = hmac_md5(&hash, &[&utf16("CLOUDADMIN"), domain]);
    let (proof, blob) = response.split_at(16);
    if hmac_md5(&key, &[&NONCE, blob]) != proof {
        return Err("the proof is not one of the password");
    }
    let target = utf16("HTTP/127.0.0.1");
    if !blob.windows(target.len()).any(|window| window == target) {
        return Err("the proof does not name its target");
    }
    let with_time =
        blob.windows(12).any(|w| w == [&[7, 0, 8, 0][..], &0x01d0_0000_0000_0000u64.to_le_bytes()].concat());
    if with_time == field(message, 12).iter().any(|byte| *byte != 0) {
        return Err("an LMv2 response where there was a time, or none where there was no time");
    }
    let mut session: [u8; 16] = field(message, 52).try_into().unwrap();
    Rc4::new_from_slice(&hmac_md5(&key, &[proof])).unwrap().apply_keystream(&mut session);
    Ok(Session {
        client: Way::new(&session, "client-to-server"),
        server: Way::new(&session, "server-to-client"),
        last: Vec::new(),
    })
}

/// A token of SPNEGO with one member.
pub(crate) fn spnego(member: u8, content: &[u8]) -> Vec<u8> {
    let wrap = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, content].concat()
    };
    wrap(0xa1, &wrap(0x30, &wrap(member, &wrap(4, content))))
}

pub(crate) const SEALED: &str = "Content-Type: multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\"\r\n";

pub(crate) fn sealed(length: usize, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\tOriginalContent: \
         type=application/soap+xml;charset=UTF-8;Length={length}\r\n--Encrypted Boundary\r\n\tContent-Type: \
         application/octet-stream\r\n"
    )
    .into_bytes();
    out.extend(body);
    out.extend(b"--Encrypted Boundary--\r\n");
    out
}
