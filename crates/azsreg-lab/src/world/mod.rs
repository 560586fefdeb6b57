//! What an Azure and a stamp *do*: state and rules, without a socket, a thread or a clock.
//!
//! Every function takes the time it happens at. The wires (`crate::azure`, `crate::stamp`) and `azsreg-trial` drive the
//! same state. Behaviour that no source states is our inference: `COMPAT.md` says so, row by row.

pub mod arm;
pub mod directory;
pub mod graph;
pub mod roles;
pub mod stamp;
pub mod token;

use uuid::Uuid;

/// Random draws from the lab's seed. Keys, TLS and NTLM nonces are drawn elsewhere, from the system.
#[derive(Debug, Clone)]
pub struct Draw(fastrand::Rng);

impl Draw {
    /// Draws of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A version-4 GUID.
    pub fn guid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.0.u128(..).to_be_bytes()).into_uuid()
    }

    /// This many hexadecimal digits.
    pub fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from_digit(self.0.u32(0..16), 16).unwrap_or('0')).collect()
    }

    /// An opaque token: 86 characters of the URL-safe alphabet.
    pub fn opaque(&mut self) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..86).map(|_| char::from(ALPHABET[self.0.usize(0..ALPHABET.len())])).collect()
    }

    /// A user code such as `B7QK2MXRT`: no vowels, nothing that reads as something else.
    pub fn user_code(&mut self) -> String {
        const ALPHABET: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ2346789";
        (0..9).map(|_| char::from(ALPHABET[self.0.usize(0..ALPHABET.len())])).collect()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.0.u32(0..end)
    }
}
