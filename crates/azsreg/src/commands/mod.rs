//! One file a command, or a family of commands.

pub(crate) mod alerts;
pub(crate) mod check;
mod confirm;
mod connect;
pub(crate) mod customer;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod forget;
mod inspect;
pub(crate) mod lab;
pub(crate) mod login;
pub(crate) mod marketplace;
pub(crate) mod moving;
pub(crate) mod offline;
pub(crate) mod register;
pub(crate) mod rehearse;
pub(crate) mod role;
mod shared;
pub(crate) mod stamp;
pub(crate) mod status;
pub(crate) mod transcript;
pub(crate) mod unregister;
pub(crate) mod usage;
pub(crate) mod web;
