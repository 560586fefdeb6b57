//! What azsreg does: operations as lists of steps, each observed before it is repeated.
//!
//! [`ports`] says what an operation needs of Azure, of a stamp and of a clock; it knows neither HTTP nor PSRP. The
//! [`engine`] runs steps, keeps the journal, retries what passes and stops at what doesn't. A person who reads
//! [`register`](mod@register) reads the article's procedure, in order.

pub mod adopt;
pub mod alerts;
pub mod change;
pub mod checks;
pub mod clocks;
pub mod crash;
pub mod customer;
pub mod engine;
pub mod files;
mod forms;
pub mod licence;
pub mod marketplace;
pub mod moving;
pub mod offline;
pub mod ports;
pub mod prerequisites;
pub mod register;
pub mod role;
pub mod status;
pub mod steps;
pub mod unregister;
pub mod usage;
pub mod waits;

pub use engine::Failure;
pub use engine::journal::{FileJournal, Journal, MemoryJournal};
pub use engine::lock::StampLock;
pub use engine::{Silent, Watch};
pub use register::register;
pub use status::status;
