//! `azsreg offline inspect`: what a carried file holds, secrets as digests.

use std::path::Path;

use azsreg_model::{ActivationKey, BundleError, BundleKind, Carried, ExitCode, RegistrationToken, UnknownForm, code};
use serde_json::{Map, Value, json};

use super::files::{next, read, refused};
use crate::Ended;
use crate::view::View;

fn token(shown: &mut Map<String, Value>, token: &RegistrationToken) {
    shown.insert("token".into(), json!(format!("sha256:{}", token.digest())));
    if let Ok(contents) = token.decode() {
        shown.insert("token cloud id".into(), json!(contents.cloud_id));
        shown.insert("billing model".into(), json!(contents.billing_model.map(azsreg_model::BillingModel::wire)));
        shown.insert("agreement number".into(), json!(contents.agreement_number));
        shown.insert("usage reporting".into(), json!(contents.usage_reporting));
        shown.insert("marketplace".into(), json!(contents.marketplace));
        shown.insert("token version".into(), json!(contents.version));
        shown.insert("hosts".into(), json!(contents.hosts));
        shown.insert("bridge principal".into(), json!(contents.object_id));
        form(shown, contents.unknown.as_ref());
    }
}

fn key(shown: &mut Map<String, Value>, key: &ActivationKey) {
    shown.insert("key".into(), json!(format!("sha256:{}", key.digest())));
    if let Ok(claims) = key.decode() {
        shown.insert("key cloud id".into(), json!(claims.cloud_id));
        shown.insert("key of".into(), json!(claims.registration()));
        shown.insert("expires".into(), json!(claims.expires.and_then(azsreg_model::finite)));
        shown.insert("billing model".into(), json!(claims.billing_model));
        shown.insert("usage reporting".into(), json!(claims.usage_reporting));
        shown.insert("marketplace".into(), json!(claims.marketplace));
        shown.insert("hosts".into(), json!(claims.hosts));
        form(shown, claims.unknown.as_ref());
    }
}

/// What is said of a form that azsreg does not know.
fn form(shown: &mut Map<String, Value>, unknown: Option<&UnknownForm>) {
    let said = unknown.map(|unknown| format!("not known to this azsreg: {unknown}; it is passed on as it is"));
    shown.insert("form".into(), json!(said));
}

/// What azsreg wrote beside a key, for keeping.
fn receipt(receipt: &Value, view: &View) {
    if view.is_json() {
        view.json(receipt);
        return;
    }
    view.line(&format!("{:<19}{}", "file", "the receipt of a registration, to keep: no step takes it"));
    for (name, value) in receipt.as_object().into_iter().flatten() {
        let name = match name.as_str() {
            "key_sha256_16" => "key".to_owned(),
            "token_sha256_16" => "token".to_owned(),
            other => other.replace('_', " "),
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !value.is_null() {
            view.line(&format!("{name:<19}{text}"));
        }
    }
}

pub(crate) fn run(path: &Path, view: &View) -> Result<ExitCode, Ended> {
    let mut shown = Map::new();
    let read = match read(path)? {
        Ok(read) => read,
        Err(BundleError::Receipt(receipt)) => {
            self::receipt(&receipt, view);
            return Ok(ExitCode::Done);
        }
        Err(error) => {
            let problem = refused(path, &error);
            // This command has shown what there is to show.
            let next = "Copy the file again from where it was made, as a file.";
            let again = problem.code == &code::BUNDLE_DAMAGED;
            return Err(if again { problem.next(next) } else { problem }.into());
        }
    };
    let kind = match read {
        Carried::Token(found) => {
            shown.insert("file".into(), json!("a registration token as the PowerShell module writes it"));
            token(&mut shown, &found);
            BundleKind::RegistrationToken
        }
        Carried::Key(found) => {
            shown.insert("file".into(), json!("an activation key as the PowerShell module writes it"));
            key(&mut shown, &found);
            BundleKind::ActivationKey
        }
        Carried::Bundle(bundle) => {
            shown.insert("file".into(), json!(format!("a bundle: {}", bundle.kind.title())));
            shown.insert("cloud id".into(), json!(bundle.cloud_id));
            shown.insert("registration".into(), json!(bundle.registration));
            shown.insert("made at".into(), json!(bundle.made_at.to_string()));
            if let Some(found) = &bundle.token {
                token(&mut shown, found);
            }
            if let Some(found) = &bundle.key {
                key(&mut shown, found);
                shown.insert(
                    "of token".into(),
                    json!(bundle.token_digest.as_ref().map(|digest| format!("sha256:{digest}"))),
                );
            }
            if let Some(receipt) = &bundle.receipt {
                shown.insert("deactivated at".into(), json!(receipt.deactivated_at.map(|at| at.to_string())));
            }
            bundle.kind
        }
    };
    shown.insert("next".into(), json!(next(kind, path)));
    if view.is_json() {
        let named: Map<String, Value> =
            shown.into_iter().map(|(name, value)| (name.replace(' ', "_"), value)).collect();
        view.json(&named);
        return Ok(ExitCode::Done);
    }
    // In the order of reading, not of the alphabet.
    const ORDER: &[&str] = &[
        "file",
        "cloud id",
        "registration",
        "made at",
        "token",
        "token cloud id",
        "key",
        "form",
        "key cloud id",
        "key of",
        "of token",
        "billing model",
        "agreement number",
        "usage reporting",
        "marketplace",
        "token version",
        "hosts",
        "bridge principal",
        "expires",
        "deactivated at",
        "next",
    ];
    // What can't be read of a form that is not known is not known, which is not the same as none.
    const READ: &[&str] = &["token cloud id", "billing model", "key cloud id", "key of", "expires", "hosts"];
    let unread = shown.get("form").is_some_and(Value::is_string);
    for name in ORDER {
        let text = match shown.get(*name) {
            Some(Value::Null) if unread && READ.contains(name) => "not known".to_owned(),
            Some(Value::Null) if *name == "expires" => "never".into(),
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(on)) => {
                if *on {
                    "on".into()
                } else {
                    "off".into()
                }
            }
            Some(other) => other.to_string(),
        };
        view.line(&format!("{name:<19}{text}"));
    }
    Ok(ExitCode::Done)
}
