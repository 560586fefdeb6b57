//! The form of answers, and what of their values may be told.

use std::collections::BTreeMap;

use azsreg_model::StampVersion;
use azsreg_pep::{Answered, Leaf};
use serde_json::Value;

use super::Values;
use super::standins::StandIns;

/// Members whose values are words of software: states, codes and kinds.
const WORDS: &[&str] =
    &["Status", "IdentitySystem", "CommandType", "code", "registrationState", "provisioningState", "billingModel"];
/// No answer is told in more detail than this.
const MEMBERS: usize = 1_000;
const DEPTH: usize = 10;

/// Whether it is the version of a build, and not an address in numbers.
pub(super) fn is_build(text: &str) -> bool {
    text.parse::<StampVersion>().is_ok_and(|version| version.1 > 255)
}

/// A cmdlet's answer; values only where they are asked for.
pub(super) fn of_answer(
    answered: &Answered,
    stand_ins: &mut StandIns,
    with_values: bool,
) -> (BTreeMap<String, String>, Values) {
    let told = answered.form.iter().filter(|(path, _)| !path.starts_with("Parameters.")).take(MEMBERS);
    let output = told.map(|(path, kind)| (stand_ins.path(path), stand_ins.kind(kind))).collect();
    let mut values = Values::new();
    for leaf in answered.leaves.iter().filter(|_| with_values) {
        add_value(&mut values, &leaf.path, &leaf.text, stand_ins);
    }
    (output, values)
}

fn add_value(values: &mut Values, path: &str, text: &str, stand_ins: &mut StandIns) {
    let member = path.rsplit('.').next().unwrap_or_default();
    let told = if WORDS.contains(&member) { Some(stand_ins.word(text)) } else { stand_ins.value(text) };
    if let Some(told) = told.filter(|_| values.len() < MEMBERS) {
        values.entry(stand_ins.path(path)).or_default().insert(told);
    }
}

/// The commands of an endpoint, and the parameters of each, as `Get-Command` tells them.
pub(super) fn commands(answered: &Answered, stand_ins: &StandIns) -> Values {
    let mut commands = Values::new();
    for named in answered.leaves.iter().filter(|leaf| leaf.path == "Name" && stand_ins.words(&leaf.text) == leaf.text) {
        let of_it = |leaf: &&Leaf| leaf.object == named.object;
        let parameters = answered.leaves.iter().filter(of_it).filter_map(|leaf| leaf.path.strip_prefix("Parameters."));
        commands
            .entry(named.text.clone())
            .or_default()
            .extend(parameters.filter(|name| stand_ins.word(name) == *name).map(str::to_owned));
    }
    commands
}

/// A Resource Manager's answer.
pub(super) fn of_json(body: &Value, stand_ins: &mut StandIns) -> (BTreeMap<String, String>, Values) {
    let (mut output, mut values) = (BTreeMap::new(), Values::new());
    walk("", body, DEPTH, &mut |path, value| {
        let kind = match value {
            Value::Null => "Null",
            Value::Bool(_) => "Boolean",
            Value::Number(_) => "Number",
            Value::String(_) => "String",
            Value::Array(_) => "List",
            Value::Object(_) => "Object",
        };
        if output.len() < MEMBERS {
            output.insert(stand_ins.path(if path.is_empty() { "." } else { path }), kind.to_owned());
        }
        if let Value::String(text) = value {
            add_value(&mut values, path, text, stand_ins);
        }
    });
    (output, values)
}

fn walk(path: &str, value: &Value, depth: usize, see: &mut impl FnMut(&str, &Value)) {
    see(path, value);
    match value {
        _ if depth == 0 => {}
        Value::Array(items) => items.iter().for_each(|item| walk(&format!("{path}[]"), item, depth - 1, see)),
        // What people write on a resource is theirs, the names too.
        Value::Object(members) if !path.ends_with("tags") => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&path, member, depth - 1, see);
            }
        }
        _ => {}
    }
}

/// The api-versions of a provider's resource types.
pub(super) fn api_versions(what: &str, body: &Value, stand_ins: &StandIns, known: &mut Values) {
    let namespace = match what {
        "azure provider" => "Microsoft.AzureStack",
        "stamp provider" => "Microsoft.AzureBridge.Admin",
        _ => return,
    };
    for kind in body["resourceTypes"].as_array().into_iter().flatten().take(MEMBERS) {
        let name = stand_ins.words(kind["resourceType"].as_str().unwrap_or_default());
        let versions = kind["apiVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let versions = versions.filter(|version| is_api_version(version)).map(str::to_owned);
        known.entry(format!("{namespace}/{name}")).or_default().extend(versions);
    }
}

/// `2017-06-01`, `2020-06-01-preview`.
fn is_api_version(text: &str) -> bool {
    let (date, rest) = text.split_at_checked(10).unwrap_or_default();
    date.parse::<jiff::civil::Date>().is_ok() && ["", "-preview", "-privatepreview"].contains(&rest)
}
