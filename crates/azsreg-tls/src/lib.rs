//! TLS for both ways: to Azure and the stamp's Resource Manager, and to the privileged endpoint.
//!
//! rustls says that a certificate is bad, and neither which names nor which dates it has. So the system's verifier is wrapped
//! by one that looks at what was shown when it refuses: [`untrusted`] finds its words in whatever error they are wrapped in.

mod authorities;
mod failed;
mod untrusted;
mod verifier;

pub use authorities::{Authorities, NoAuthority};
pub use failed::{Failed, failed};
pub use untrusted::{Untrusted, untrusted};
pub use verifier::client_config;
