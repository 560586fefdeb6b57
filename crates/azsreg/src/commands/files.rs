//! The files that are carried: read whatever their form, written whole or not at all, never over something else.

use std::path::{Path, PathBuf};

use azsreg_model::{
    ActivationKey, Bundle, BundleError, BundleKind, Carried, Problem, RegistrationToken, code, encode_module_text,
};
use serde_json::json;
use uuid::Uuid;

use crate::cli::OutOptions;
use crate::state::{self, Private as _};
use crate::view::View;

/// A carried file. What is wrong with it is said before anything changes.
pub(crate) fn carried(path: &Path) -> Result<Carried, Problem> {
    let bytes = state::read("FILE", path)?;
    Carried::read(&bytes).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        let entry = match &error {
            BundleError::Token(_) => &code::MALFORMED_TOKEN,
            BundleError::Key(_) => &code::MALFORMED_KEY,
            _ => &code::BUNDLE_DAMAGED,
        };
        let problem = Problem::new(entry, message);
        match error {
            BundleError::Token(_) | BundleError::Key(_) => problem
                .next("Carry the file once more from where it was made, as a file: a copy from a screen is wrapped."),
            _ => problem,
        }
    })
}

/// Refuses a file that is for another step, and says for which.
pub(crate) fn wrong_kind(path: &Path, kind: BundleKind) -> Problem {
    let message = format!("{} holds {}", path.display(), kind.title());
    let next = next(kind, path);
    Problem::new(&code::BUNDLE_KIND, message).next(next)
}

/// Refuses to write over a file, unless it is an earlier one of the same kind for the same stamp.
pub(crate) fn check_out(out: &Path, cloud_id: Option<Uuid>) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        Problem::new(&code::STATE_UNWRITABLE, format!("{}: {error}", out.display())).next("Choose another --out.")
    };
    let bytes = match std::fs::read(out) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return writable(out).map_err(failed),
        Err(error) => return Err(failed(error)),
    };
    let of = match Carried::read(&bytes) {
        Ok(Carried::Bundle(bundle)) => Some(bundle.cloud_id),
        Ok(Carried::Token(token)) => token.decode().ok().map(|contents| contents.cloud_id),
        Ok(Carried::Key(key)) => key.decode().ok().map(|claims| claims.cloud_id),
        Err(_) => None,
    };
    match (of, cloud_id) {
        (Some(of), Some(cloud_id)) if of == cloud_id => writable(out).map_err(failed),
        (Some(_), None) => writable(out).map_err(failed),
        _ => Err(Problem::new(&code::FILE_EXISTS, format!("--out {}: the file exists", out.display()))),
    }
}

fn draft(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    PathBuf::from(draft)
}

/// Whether a file can be written there, asked before anything changes: a stick that is not there, or is read-only.
fn writable(out: &Path) -> std::io::Result<()> {
    let draft = draft(out);
    std::fs::OpenOptions::new().create(true).truncate(true).write(true).private().open(&draft)?;
    std::fs::remove_file(draft)
}

/// Writes a file whole or not at all, for its owner alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        Problem::new(&code::STATE_UNWRITABLE, format!("{}: {error}", path.display())).next("Choose another --out.")
    };
    let draft = draft(path);
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).private().open(&draft).map_err(failed)?;
    std::io::Write::write_all(&mut &file, bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)
}

/// Writes the file that is to be carried.
pub(crate) fn hand_over(out: &OutOptions, bundle: &Bundle) -> Result<(), Problem> {
    let bytes = if out.raw {
        let text = match (&bundle.key, &bundle.token) {
            (Some(key), _) => key.expose().to_owned(),
            (None, Some(token)) => token.expose().to_owned(),
            (None, None) => String::new(),
        };
        encode_module_text(&text)
    } else {
        bundle.to_text().into_bytes()
    };
    azsreg_operations::crash::point("file >");
    write(&out.out, &bytes)?;
    azsreg_operations::crash::point("file <");
    Ok(())
}

/// The command that takes a file, with the file's name in it.
pub(crate) fn next(kind: BundleKind, file: &Path) -> String {
    kind.taken_by().replace("KEY-FILE", "KEY").replace("FILE", &file.display().to_string())
}

/// What the file is and what comes next, for the person.
pub(crate) fn carry(view: &View, out: &Path, kind: BundleKind) {
    if !view.is_json() {
        let secret =
            if kind == BundleKind::Deactivation { "" } else { " It is secret: carry it as you would a password." };
        view.line(&format!("Wrote {}: {}.{secret}", out.display(), kind.title()));
        view.line(&format!("Next: {}", next(kind, out)));
    }
}

/// What was registered, for future reference: names and digests, no secret.
pub(crate) fn receipt_file(out: &Path, bundle: &Bundle, token: &RegistrationToken) -> Result<(), Problem> {
    let mut path = out.as_os_str().to_owned();
    path.push(".receipt.json");
    let contents = token.decode().ok();
    let text = json!({
        "registration": bundle.registration, "cloud_id": bundle.cloud_id, "registered_at": bundle.made_at,
        "token_sha256_16": token.digest(), "key_sha256_16": bundle.key.as_ref().map(ActivationKey::digest),
        "billing_model": contents.as_ref().map(|c| c.billing_model), "hosts": contents.as_ref().map(|c| c.hosts),
        "token_version": contents.as_ref().map(|c| &c.version),
    });
    write(Path::new(&path), format!("{text:#}\n").as_bytes())
}
