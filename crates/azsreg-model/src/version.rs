//! The stamp's version, and what each build can do (`facts-protocol.md` section 4).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::TokenVersion;

/// A build such as `1.2501.0.21`: major, year and month, patch, revision. Orders as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StampVersion(pub u32, pub u32, pub u32, pub u32);

/// Not four numbers with dots.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{0:?} is not a stamp version such as 1.2501.0.21")]
pub struct VersionError(String);

impl StampVersion {
    /// From here on the stamp knows custom billing and the MsAssetTag parameter.
    pub const CUSTOM_BILLING: Self = Self(1, 1912, 0, 19);
    /// From here on the stamp knows the TokenVersion parameter.
    pub const TOKEN_VERSION: Self = Self(1, 2008, 0, 49);
    /// Above this the stamp has the registration key pair (several nodes only).
    pub const KEY_PAIR_ABOVE: Self = Self(1, 2209, 0, 23);
    /// Above this tokens are of version 6.0.
    pub const TOKEN_6_ABOVE: Self = Self(1, 2309, 0, 4);

    /// Whether custom billing works and MsAssetTag may be sent.
    #[must_use]
    pub fn knows_custom_billing(self) -> bool {
        self >= Self::CUSTOM_BILLING
    }

    /// The token version to ask for; none where the parameter does not exist.
    #[must_use]
    pub fn token_version(self) -> Option<TokenVersion> {
        if self < Self::TOKEN_VERSION {
            None
        } else if self > Self::TOKEN_6_ABOVE {
            Some(TokenVersion::V6)
        } else {
            Some(TokenVersion::V4)
        }
    }

    /// Whether `Set-RegistrationKeyPair` exists and applies.
    #[must_use]
    pub fn has_key_pair(self, nodes: u32) -> bool {
        self > Self::KEY_PAIR_ABOVE && nodes > 1
    }
}

impl fmt::Display for StampVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.0, self.1, self.2, self.3)
    }
}

impl FromStr for StampVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || VersionError(text.to_owned());
        let parts = text.trim().split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().map_err(|_| bad())?;
        let [a, b, c, d] = parts[..] else { return Err(bad()) };
        Ok(Self(a, b, c, d))
    }
}

impl TryFrom<String> for StampVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<StampVersion> for String {
    fn from(version: StampVersion) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> StampVersion {
        text.parse().unwrap()
    }

    #[test]
    fn the_gates_are_where_the_facts_say() {
        assert!(!v("1.1912.0.18").knows_custom_billing() && v("1.1912.0.19").knows_custom_billing());
        assert_eq!(v("1.2008.0.48").token_version(), None);
        assert_eq!(v("1.2008.0.49").token_version(), Some(TokenVersion::V4));
        assert_eq!(v("1.2309.0.4").token_version(), Some(TokenVersion::V4));
        assert_eq!(v("1.2309.0.5").token_version(), Some(TokenVersion::V6));
        assert!(!v("1.2209.0.23").has_key_pair(4) && v("1.2209.0.24").has_key_pair(4));
        assert!(!v("1.2501.0.21").has_key_pair(1));
        assert!(v("1.999.0.0") < v("1.1000.0.0"), "versions order as numbers");
    }

    #[test]
    fn what_is_no_version_is_said() {
        for bad in ["", "1.2.3", "1.2.3.4.5", "1.x.0.0", "-1.0.0.0"] {
            assert!(bad.parse::<StampVersion>().is_err(), "{bad}");
        }
    }
}
