//! Saves an Azure Stack HCI licence on a stamp. The journal has its digest.

use azsreg_model::{StampInformation, digest};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::engine::retry::Policy;
use crate::engine::session::FileBooks;
use crate::engine::{Failure, Steps, Watch};
use crate::marketplace::begin_in;
use crate::ports::{Clock, Stamp};

/// Saves a licence.
///
/// # Errors
/// The stamp refused it, or the journal can't be written.
pub async fn save<S: Stamp, C: Clock>(
    stamp: &S,
    clock: &C,
    books: &FileBooks,
    information: &StampInformation,
    license: &SecretString,
    watch: &mut dyn Watch,
) -> Result<(), Failure> {
    let request = json!({ "licence": format!("sha256:{}", digest(license.expose_secret())) });
    let dir = books.within("licences");
    let (_lock, mut journal) = begin_in(&dir, information.cloud_id, ("hci-license", 1), &request, clock)?;
    let none = || Vec::new();
    let mut steps = Steps::new(&mut journal, clock, watch, &none);
    let act = async || {
        stamp.save_hci_license(license).await?;
        Ok(Some(((), "saved".to_owned())))
    };
    let saved = steps.step("licence", "Save the licence", Policy::AZURE, async || Ok(None), act, |()| request.clone());
    saved.await.map_err(|failure| {
        let exit = failure.problems.first().map_or(failure.exit, |problem| problem.code.exit);
        Failure { exit, step: None, ..failure }
    })?;
    steps.finish("done")
}
