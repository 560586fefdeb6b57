//! What a program reads: one JSON document for each command, all of one form.

use azsreg_model::{ExitCode, Problem};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The number of the form: a member that goes, or means something else, makes it another.
pub(crate) const FORMAT_VERSION: u8 = 1;

/// A document: what the command has to say, beside how it ends and why. A list stands under `value`; a command that goes on has no
/// `exit` yet.
pub(crate) fn of(value: &impl Serialize, exit: Option<ExitCode>, problems: &[Problem]) -> Value {
    let mut members = match plain(value) {
        Value::Object(members) => members,
        list => Map::from_iter([("value".to_owned(), list)]),
    };
    members.insert("format_version".into(), json!(FORMAT_VERSION));
    members.insert("exit".into(), json!(exit));
    members.insert("problems".into(), plain(&problems));
    Value::Object(members)
}

/// A value in which a text that is empty is null, as one that is not known: the other sides write now the one, now the other.
pub(crate) fn plain(value: &impl Serialize) -> Value {
    fn tidy(value: &mut Value) {
        match value {
            Value::String(text) if text.is_empty() => *value = Value::Null,
            Value::Array(items) => items.iter_mut().for_each(tidy),
            Value::Object(members) => members.values_mut().for_each(tidy),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(value).unwrap_or_default();
    tidy(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use azsreg_model::code;

    #[test]
    fn a_list_an_object_and_what_goes_on_have_one_form() {
        let problem = Problem::new(&code::LOCK_MISSING, "it is not locked");
        let list = of(&[json!({"name": "", "notes": []})], Some(ExitCode::Done), &[]);
        let shown = json!({"format_version": 1, "value": [{"name": null, "notes": []}], "exit": 0, "problems": []});
        assert_eq!(list, shown);
        let object = of(&json!({"outcome": "done"}), Some(ExitCode::Failed), &[problem]);
        assert_eq!((&object["outcome"], &object["exit"]), (&json!("done"), &json!(1)));
        let named: Vec<&String> = object["problems"][0].as_object().unwrap().keys().collect();
        assert_eq!(named, ["cause", "code", "details", "message", "next", "title"], "whoever made it");
        assert_eq!(of(&json!({"link": "x"}), None, &[])["exit"], Value::Null);
    }
}
