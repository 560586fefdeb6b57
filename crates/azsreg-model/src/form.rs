//! What is whole but can't be read: registration tokens and activation keys are opaque to whoever carries them, and the only
//! published examples are of version 1.0. What azsreg can't read it passes on, for Azure and the stamp to judge.

use thiserror::Error;

/// In what a token or key differs from the forms that azsreg knows.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum UnknownForm {
    /// It may be encrypted, or written in another way.
    #[error("it does not hold JSON")]
    NotJson,
    /// A member is absent or written in another way.
    #[error("its member {0:?} is missing or written in another way")]
    Member(&'static str),
    /// A version that was never seen.
    #[error("it is of version {0}; azsreg knows 1.0, 3.0, 4.0 and 6.0")]
    Version(String),
    /// Another signature.
    #[error("it is signed with {0:?}, not with RS256")]
    Algorithm(String),
}

/// What held JSON before something of it was lost, at its end or at its front: a text, not a cipher.
pub(crate) fn was_json(bytes: &[u8]) -> bool {
    let mut seen = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
    let begins = seen.next() == Some(&b'{') && seen.next().is_none_or(|second| *second == b'"');
    begins || bytes.trim_ascii_end().ends_with(b"}") && std::str::from_utf8(bytes).is_ok()
}

/// The member of this name, however its letters are written.
pub(crate) fn member<'v>(
    object: &'v serde_json::Map<String, serde_json::Value>,
    name: &str,
) -> Option<&'v serde_json::Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
