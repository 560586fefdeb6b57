//! What the lab's stamps speak: WinRM for the privileged endpoint, HTTPS for the admin Resource Manager.

pub(crate) mod adfs;
pub(crate) mod admin;
pub(crate) mod bridge;
pub(crate) mod cmdlets;
mod commerce;
mod insights;
pub(crate) mod link;
pub(crate) mod market;
pub(crate) mod ntlm;
mod parameters;
pub(crate) mod pep;
pub(crate) mod portal;
mod resources;
pub(crate) mod spnego;
pub(crate) mod storage;
