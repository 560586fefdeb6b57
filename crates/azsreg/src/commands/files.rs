//! The files that are carried: read whatever their form, written whole or not at all, never over something else.

use std::path::{Path, PathBuf};

use azsreg_model::{
    ActivationKey, Bundle, BundleError, BundleKind, Carried, CarriedText, Problem, RegistrationId, RegistrationToken,
    code, encode_module_text,
};
use azsreg_operations::files::input::{self, Input, InputError};
use azsreg_operations::files::{
    self,
    output::{self, Rights},
};
use serde_json::json;
use uuid::Uuid;

use crate::cli::OutOptions;
use crate::document::FORMAT_VERSION;
use crate::state;
use crate::view::View;

/// A carried file. What is wrong with it is said before anything changes.
pub(crate) fn carried(path: &Path) -> Result<Carried, Problem> {
    read(path)?.map_err(|error| refused(path, &error))
}

/// The same, with what is wrong with it apart.
pub(crate) fn read(path: &Path) -> Result<Result<Carried, BundleError>, Problem> {
    Ok(Carried::read(&state::read("FILE", path, Input::Carried)?))
}

/// Why a file can't be taken.
pub(crate) fn refused(path: &Path, error: &BundleError) -> Problem {
    let message = format!("{}: {error}", path.display());
    let entry = match error.part() {
        Some(CarriedText::Token) => &code::MALFORMED_TOKEN,
        Some(CarriedText::Key) => &code::MALFORMED_KEY,
        None if matches!(error, BundleError::Receipt(_)) => &code::BUNDLE_KIND,
        _ => &code::BUNDLE_DAMAGED,
    };
    let problem = Problem::new(entry, message);
    match error.part() {
        Some(_) => problem
            .next("Carry it again from where it was made, as a file: a screen or a mail may leave some of it out."),
        None if matches!(error, BundleError::Receipt(_)) => {
            let key = path.display().to_string();
            let key = key.strip_suffix(".receipt.json").unwrap_or("FILE");
            problem.next(next(BundleKind::ActivationKey, Path::new(key)))
        }
        None => problem,
    }
}

/// Refuses a file that is for another step, and says for which.
pub(crate) fn wrong_kind(path: &Path, kind: BundleKind) -> Problem {
    let message = format!("{} holds {}", path.display(), kind.title());
    let next = next(kind, path);
    Problem::new(&code::BUNDLE_KIND, message).next(next)
}

fn failed(path: &Path, error: &std::io::Error) -> Problem {
    let named = format!("--out {}", path.display());
    if files::no_descriptors(error) {
        return files::out_of_descriptors(&named);
    }
    Problem::new(&code::STATE_UNWRITABLE, format!("{named}: {error}")).next("Choose another --out.")
}

fn taken(path: &Path, why: &str) -> Problem {
    Problem::new(&code::FILE_EXISTS, format!("--out {}: {why}", path.display()))
}

/// The receipt beside a key.
fn receipt_path(out: &Path) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(".receipt.json");
    path.into()
}

/// Who writes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// A run that begins.
    New,
    /// One that goes on from an interrupted one, which may have written it.
    Resumed,
}

/// Refuses to write over a file, unless it is an earlier key for the same stamp, or this run's own: a token or a receipt may be
/// on its way, a key can be fetched again. What is read (`inputs`) is not what is written. Makes nothing.
pub(crate) fn check_out(
    out: &Path,
    kind: BundleKind,
    cloud_id: Uuid,
    inputs: &[&Path],
    writer: Writer,
) -> Result<(), Problem> {
    let Some(there) = plain_file(out)? else {
        return output::writable(out).map_err(|error| failed(out, &error));
    };
    if let Some(input) = inputs.iter().find(|input| output::same(out, input)) {
        let why = format!("it is the file that is read, {}", input.display());
        return Err(taken(out, &why));
    }
    let earlier = match &there {
        Carried::Bundle(bundle) => bundle.kind == kind && bundle.cloud_id == cloud_id,
        // The module's form does not say whether it is of a renewal.
        Carried::Token(token) => {
            matches!(kind, BundleKind::RegistrationToken | BundleKind::RenewalToken)
                && token.decode().is_ok_and(|contents| contents.cloud_id == Some(cloud_id))
        }
        Carried::Key(key) => {
            matches!(kind, BundleKind::ActivationKey | BundleKind::RenewalKey)
                && key.decode().is_ok_and(|claims| claims.cloud_id == Some(cloud_id))
        }
    };
    let kept = matches!(kind, BundleKind::RegistrationToken | BundleKind::RenewalToken | BundleKind::Deactivation);
    if !earlier || kept && writer == Writer::New {
        let (holds, of) = match &there {
            Carried::Bundle(bundle) => (bundle.kind.title(), Some(bundle.cloud_id)),
            Carried::Token(_) => ("a registration token", None),
            Carried::Key(_) => ("an activation key", None),
        };
        let of = of.filter(|of| *of != cloud_id).map(|of| format!(" of the stamp {of}")).unwrap_or_default();
        return Err(taken(out, &format!("the file exists and holds {holds}{of}")));
    }
    output::writable(out).map_err(|error| failed(out, &error))
}

/// Refuses what no stamp changes: a place that can't be written, and a file that is none of ours. Makes nothing.
pub(crate) fn check_place(out: &Path) -> Result<(), Problem> {
    plain_file(out)?;
    output::writable(out).map_err(|error| failed(out, &error))
}

/// The same, of the receipt beside a key.
pub(crate) fn check_receipt(out: &Path, cloud_id: Uuid) -> Result<(), Problem> {
    let path = receipt_path(out);
    let Some(bytes) = file_there(&path)? else { return Ok(()) };
    let earlier = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|receipt| {
        receipt["cloud_id"] == json!(cloud_id)
            && receipt.get("key_sha256_16").is_some()
            && receipt.get("azsreg_bundle").is_none()
    });
    if earlier {
        return Ok(());
    }
    let message = format!("the receipt beside the key would be {}: the file exists", path.display());
    Err(Problem::new(&code::FILE_EXISTS, message))
}

/// What stands under a name: a file's bytes, or none. A link is not followed: what is carried would lie somewhere else than
/// the name says.
fn file_there(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    match output::there(path).map_err(|error| failed(path, &error))? {
        None => Ok(None),
        Some(found) if found.is_symlink() => {
            let target = std::fs::read_link(path).unwrap_or_default();
            let why = format!("it is a link to {}, which is not followed", target.display());
            Err(taken(path, &why).next("Name the file itself, or remove the link."))
        }
        Some(found) if found.is_dir() => Err(taken(path, "it is a directory")),
        Some(found) if !found.is_file() => Err(taken(path, "it is not a file")),
        Some(_) => match input::read(path, Input::Carried) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(InputError::Io(error)) => Err(failed(path, &error)),
            Err(_) => Err(taken(path, "the file exists")),
        },
    }
}

fn plain_file(out: &Path) -> Result<Option<Carried>, Problem> {
    let Some(bytes) = file_there(out)? else { return Ok(None) };
    Carried::read(&bytes).map(Some).map_err(|_| taken(out, "the file exists"))
}

/// Writes a file whole or not at all, for its owner alone.
fn write(path: &Path, bytes: &[u8], there: bool) -> Result<(), Problem> {
    let written = match there {
        true => output::write(path, bytes, Rights::Private),
        false => output::write_new(path, bytes, Rights::Private),
    };
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => taken(path, "the file was made by another process in the meantime"),
        _ => failed(path, &error),
    })
}

/// The receipt of a deactivation that is there already and says more than a new one would: a second run finds the stamp
/// deactivated, and no longer what it was activated for.
fn better_receipt(out: &Path, bundle: &Bundle) -> Result<Option<RegistrationId>, Problem> {
    let Some(Carried::Bundle(before)) = plain_file(out)? else { return Ok(None) };
    let knows = |bundle: &Bundle| {
        bundle.registration.clone().or_else(|| bundle.receipt.as_ref().and_then(|receipt| receipt.registration.clone()))
    };
    Ok(if knows(bundle).is_none() { knows(&before) } else { None })
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
    // The file may have come since it was looked at before the work.
    check_out(&out.out, bundle.kind, bundle.cloud_id, &[], Writer::Resumed)?;
    if bundle.kind == BundleKind::Deactivation
        && let Some(registration) = better_receipt(&out.out, bundle)?
    {
        View::note(&format!(
            "{} holds an earlier receipt, which names {registration}. It is kept: the stamp does not say any more what it was activated for.",
            out.out.display()
        ));
        return Ok(());
    }
    let there = file_there(&out.out)?.is_some();
    azsreg_operations::crash::point("file >");
    write(&out.out, &bytes, there)?;
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
    check_receipt(out, bundle.cloud_id)?;
    let path = receipt_path(out);
    let contents = token.decode().ok();
    let text = json!({
        "format_version": FORMAT_VERSION, "registration": bundle.registration, "cloud_id": bundle.cloud_id, "registered_at": bundle.made_at,
        "token_sha256_16": token.digest(), "key_sha256_16": bundle.key.as_ref().map(ActivationKey::digest),
        "billing_model": contents.as_ref().and_then(|c| c.billing_model).map(azsreg_model::BillingModel::wire), "hosts": contents.as_ref().and_then(|c| c.hosts),
        "token_version": contents.as_ref().map(|c| &c.version),
    });
    let there = file_there(&path)?.is_some();
    write(&path, format!("{text:#}\n").as_bytes(), there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use azsreg_model::Receipt;
    use jiff::Timestamp;

    const STAMP: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn receipt(cloud_id: Uuid, registration: Option<RegistrationId>) -> Bundle {
        let mut bundle = Bundle::new(BundleKind::Deactivation, cloud_id, Timestamp::UNIX_EPOCH);
        bundle.registration.clone_from(&registration);
        bundle.receipt = Some(Receipt { deactivated_at: Some(Timestamp::UNIX_EPOCH), registration });
        bundle
    }

    fn registration() -> RegistrationId {
        RegistrationId { subscription: Uuid::nil(), resource_group: "azurestack".into(), name: "S1".into() }
    }

    fn refusal(result: Result<(), Problem>) -> String {
        let problem = result.unwrap_err();
        assert_eq!((problem.code.id, u8::from(problem.code.exit)), ("AZR5006", 2));
        problem.message
    }

    #[test]
    fn only_the_own_file_of_a_run_that_goes_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        check_out(&out, BundleKind::Deactivation, STAMP, &[], Writer::New).unwrap();
        std::fs::write(&out, receipt(STAMP, None).to_text()).unwrap();
        // It may be the one to carry; the run that wrote it may write it again.
        assert!(refusal(check_out(&out, BundleKind::Deactivation, STAMP, &[], Writer::New)).contains("the receipt"));
        check_out(&out, BundleKind::Deactivation, STAMP, &[], Writer::Resumed).unwrap();
        for kind in
            [BundleKind::RegistrationToken, BundleKind::ActivationKey, BundleKind::RenewalToken, BundleKind::RenewalKey]
        {
            assert!(refusal(check_out(&out, kind, STAMP, &[], Writer::New)).contains("the receipt of a deactivation"));
        }
        assert!(
            refusal(check_out(&out, BundleKind::Deactivation, OTHER, &[], Writer::New)).contains(&STAMP.to_string())
        );
        let spelt = dir.path().join(".").join("out");
        assert!(
            refusal(check_out(&out, BundleKind::Deactivation, STAMP, &[&spelt], Writer::New)).contains("that is read")
        );
        std::fs::write(&out, "mine").unwrap();
        assert!(
            refusal(check_out(&out, BundleKind::Deactivation, STAMP, &[], Writer::New)).contains("the file exists")
        );
        assert!(
            refusal(check_out(dir.path(), BundleKind::Deactivation, STAMP, &[], Writer::New)).contains("a directory")
        );
    }

    #[test]
    fn looking_leaves_nothing_and_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (out, draft) = (dir.path().join("out"), dir.path().join("out.new"));
        std::fs::write(&draft, "mine").unwrap();
        check_out(&out, BundleKind::Deactivation, STAMP, &[], Writer::New).unwrap();
        assert_eq!(std::fs::read(&draft).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let gone =
            check_out(&dir.path().join("stick/out"), BundleKind::Deactivation, STAMP, &[], Writer::New).unwrap_err();
        assert_eq!(gone.code.id, "AZR5003");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_refused_wherever_it_points() {
        let dir = tempfile::tempdir().unwrap();
        let (out, target) = (dir.path().join("out"), dir.path().join("target"));
        std::os::unix::fs::symlink(&target, &out).unwrap();
        assert!(refusal(check_out(&out, BundleKind::Deactivation, STAMP, &[], Writer::New)).contains("link"));
        std::fs::write(&target, receipt(STAMP, None).to_text()).unwrap();
        assert!(refusal(check_out(&out, BundleKind::Deactivation, STAMP, &[], Writer::New)).contains("link"));
        assert!(refusal(hand_over(&OutOptions { out, raw: false }, &receipt(STAMP, None))).contains("link"));
    }

    #[test]
    fn a_good_receipt_is_not_replaced_by_a_poorer_one() {
        let dir = tempfile::tempdir().unwrap();
        let out = OutOptions { out: dir.path().join("out"), raw: false };
        hand_over(&out, &receipt(STAMP, Some(registration()))).unwrap();
        let good = std::fs::read(&out.out).unwrap();
        hand_over(&out, &receipt(STAMP, None)).unwrap();
        assert_eq!(std::fs::read(&out.out).unwrap(), good);
        // What says as much is the newer one.
        let mut newer = receipt(STAMP, Some(registration()));
        newer.made_at = Timestamp::from_second(1).unwrap();
        hand_over(&out, &newer).unwrap();
        assert_ne!(std::fs::read(&out.out).unwrap(), good);
    }

    #[test]
    fn a_receipt_beside_the_key_is_not_written_over_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("key");
        check_receipt(&out, STAMP).unwrap();
        let receipt = |of: Uuid| json!({"cloud_id": of, "key_sha256_16": "x"}).to_string();
        for (text, fine) in [
            (receipt(STAMP), true),
            (receipt(OTHER), false),
            ("mine".into(), false),
            (self::receipt(STAMP, None).to_text(), false),
        ] {
            std::fs::write(dir.path().join("key.receipt.json"), &text).unwrap();
            assert_eq!(check_receipt(&out, STAMP).is_ok(), fine, "{text}");
        }
    }
}
