//! What an Azure and a stamp *do*: state and rules, without a socket, a thread or a clock.
//!
//! Every function takes the time it happens at. The wires (`crate::azure`, `crate::stamp`) and `azsreg-trial` drive the
//! same state. Behaviour that no source states is our inference: `COMPAT.md` says so, row by row.

mod access;
pub mod accounts;
pub mod alerts;
pub mod arm;
pub mod catalogue;
pub mod condition;
pub mod content;
pub mod customers;
pub mod directory;
pub mod graph;
pub mod history;
pub mod ledger;
pub mod market;
pub mod metering;
pub mod moves;
pub mod roles;
pub mod stamp;
pub mod token;
pub mod usage;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Maps whose keys are no text, as lists of pairs.
pub(crate) mod pairs {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<'m, M, K, V, S>(map: &'m M, serializer: S) -> Result<S::Ok, S::Error>
    where
        &'m M: IntoIterator<Item = (&'m K, &'m V)>,
        K: Serialize + 'm,
        V: Serialize + 'm,
        S: Serializer,
    {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, M, K, V, D>(deserializer: D) -> Result<M, D::Error>
    where
        M: FromIterator<(K, V)>,
        K: Deserialize<'de>,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Random draws from the lab's seed. Keys, TLS and NTLM nonces are drawn elsewhere, from the system.
#[derive(Debug, Clone)]
pub struct Draw(fastrand::Rng);

impl Serialize for Draw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.get_seed().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Draw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::new)
    }
}

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
