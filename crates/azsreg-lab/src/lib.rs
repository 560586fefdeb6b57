//! The simulated world: an Azure and any number of stamps, on loopback.
//!
//! [`world`] is what they *do* (pure state and rules), [`azure`] and [`stamp`] are what they *speak* (HTTPS, WinRM).
//! Strict by default: what the real one refuses is refused with the same code and text, and what the lab does not know
//! it refuses too. The lab shares no request or response type with our clients; only the codec `azsreg-psrp`, which
//! clients we did not write keep honest.

pub mod azure;
mod beginning;
mod control;
mod faults;
mod files;
mod http;
mod keys;
mod lab;
pub mod stamp;
mod storage;
mod store;
mod tls;
pub mod world;

pub use keys::Keys;
pub use lab::{Descriptor, Lab, LabError, LabOptions, StampDescriptor};
pub use world::stamp::StampOptions;
