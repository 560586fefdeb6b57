//! One file a command.

pub(crate) mod lab;
pub(crate) mod login;
pub(crate) mod register;
pub(crate) mod rehearse;
pub(crate) mod shared;
pub(crate) mod stamp;
pub(crate) mod status;
