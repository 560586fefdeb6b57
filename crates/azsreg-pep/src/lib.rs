//! The privileged endpoint of a stamp, over a real connection.
//!
//! One pinned HTTP connection, because NTLM belongs to it; sealed, unless TLS is underneath; directly, never through a
//! proxy. Several addresses are tried at once, but the password is proven to one, once: accounts lock out.

mod address;
mod answered;
mod auth;
mod connection;
mod error;
mod failure;
mod meter;
mod ntlm;
mod probe;
#[cfg(test)]
mod recorded;
mod session;
mod spnego;
mod stamp;
mod wire;

pub use address::{AddressError, PepAddress};
pub use answered::{Answered, Leaf};
pub use auth::{Credentials, Mechanism, try_again};
pub use error::PepError;
pub use failure::Failure;
pub use session::{Invocation, Options, Session, Transcript};
pub use stamp::{Closed, News, PrivilegedEndpoint};
pub use wire::Wire;
