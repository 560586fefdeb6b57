//! The portals in a real browser. `cargo xtask test` installs it and names it; a bare `cargo test` leaves these out.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod driver;
mod in_a_browser;
