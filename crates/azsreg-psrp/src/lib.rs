//! WS-Management, PSRP and CLIXML as pure codecs and state machines, for both ends of the wire.
//!
//! The privileged endpoint of a stamp is a PowerShell-remoting endpoint (MS-PSRP over MS-WSMV). This crate knows
//! the bytes and the order in which they may come; it opens no socket and reads no clock. `azsreg-pep` drives the
//! [`client`], `azsreg-lab` drives the [`server`]; clients we did not write keep both honest.
//!
//! Sources: MS-PSRP (protocol), MS-WSMV (WS-Management extensions), DSP0226 (WS-Management), `reference/wire-pep.md`.

pub mod client;
pub mod clixml;
pub mod fragment;
pub mod message;
pub mod messages;
pub mod multipart;
pub mod server;
pub mod session_key;
pub mod wsman;
pub mod xml;

use thiserror::Error;

/// Why bytes from a peer were refused. Nothing here is worth a retry: the same bytes fail again.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The XML is not well-formed, holds a DTD, or an entity that is not predefined.
    #[error("the XML is not acceptable at byte {at}: {reason}")]
    Xml {
        /// Byte offset in the document.
        at: u64,
        /// What the parser said.
        reason: String,
    },
    /// A limit of ours was passed: depth, size or count.
    #[error("the {what} is over the limit of {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A required element, attribute or property is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value does not have the form its type demands.
    #[error("{what} has the value {value:?}, which is not one")]
    Malformed {
        /// The member or element.
        what: &'static str,
        /// The value, cut to 80 characters.
        value: String,
    },
    /// A fragment is out of order, truncated or of another object.
    #[error("a PSRP fragment is out of order: {0}")]
    Fragment(&'static str),
    /// The multipart body of a sealed message is not of the form that MS-WSMV 2.2.9.1 gives.
    #[error("the sealed body is not well-formed: {0}")]
    Multipart(&'static str),
    /// The peer broke the protocol's order.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
}

impl DecodeError {
    /// A [`DecodeError::Malformed`] with the value cut to a printable length.
    pub(crate) fn malformed(what: &'static str, value: &str) -> Self {
        Self::Malformed { what, value: value.chars().take(80).collect() }
    }
}
