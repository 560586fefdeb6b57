//! Azure's Resource Manager and the stamp's own, over HTTPS, and signing in to both.
//!
//! A thin layer: typed errors out of the ARM envelope, paging, 202 polling, Retry-After, request ids. It implements the
//! ports `Azure` and `Records`; what an operation does with them is not its business.

mod absent;
mod address;
mod alerts;
mod azure;
mod blobs;
mod browser;
mod cache;
mod challenge;
mod cloud;
mod error;
mod graph;
mod http;
mod login;
mod manager;
mod market;
#[cfg(test)]
mod odd;
mod place;
mod probe;
mod products;
mod proxy;
mod records;
mod storage;
#[cfg(test)]
mod testing;
mod usage;

pub use alerts::alert;
pub use azure::{AzurePort, customer};
pub use blobs::BlobPort;
pub use browser::open as open_in_browser;
pub use cache::{Account, Forgotten, SignInCache};
pub use challenge::Claims;
pub use cloud::{custom_cloud, tenant_of_subscription};
pub use error::ArmError;
pub use http::{Http, HttpOptions, clock_skew};
pub use login::{Identity, Prompt, SignIn, certificate_from_pem};
pub use manager::Manager;
pub use market::MarketPort;
pub use place::{Known, Place};
pub use probe::Asked;
pub use products::{details as product_details, item as stamp_item, product};
pub use records::{RecordsPort, activation};
pub use usage::page as usage_page;
