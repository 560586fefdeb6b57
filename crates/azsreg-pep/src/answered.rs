//! The form of a cmdlet's answer: names and types of members, and what kind of text each holds. Values stay behind, except
//! the build and the number of nodes, which say nothing of anybody.

use std::collections::BTreeMap;

use azsreg_psrp::clixml::{Content, Value};

/// Members whose values are of no person and no place.
const PLAIN: &[&str] = &["StampVersion", "NumberOfNodes"];
/// No answer's form is deeper than this.
const DEPTH: usize = 6;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// `completed`, or the error's `FullyQualifiedErrorId`.
    pub ended: String,
    /// Member paths, such as `AdminExternalEndpoints.AdminResourceManager`, and the type of each.
    pub form: BTreeMap<String, String>,
    /// The values of the members that may be shown.
    pub values: BTreeMap<String, String>,
}

impl Answered {
    pub(crate) fn of(ended: &str, output: &[Value]) -> Self {
        let mut answered = Self { ended: ended.to_owned(), form: BTreeMap::new(), values: BTreeMap::new() };
        for value in output {
            answered.walk("", value, DEPTH);
        }
        answered
    }

    fn walk(&mut self, path: &str, value: &Value, depth: usize) {
        let shown = if path.is_empty() { "." } else { path };
        if PLAIN.contains(&path)
            && let Some(text) = value.display()
        {
            self.values.insert(path.to_owned(), text);
        }
        self.form.insert(shown.to_owned(), kind(value));
        let Some(object) = value.object().filter(|_| depth > 0) else { return };
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, member) in object.extended.iter().chain(&object.adapted) {
            // What a client's own plumbing adds is no member of the answer.
            if !["PSComputerName", "RunspaceId", "PSShowComputerName"].contains(&name.as_str()) {
                self.walk(&below(name), member, depth - 1);
            }
        }
        match &object.content {
            Content::List(items) | Content::Stack(items) | Content::Queue(items) => {
                for item in items {
                    self.walk(&format!("{path}[]"), item, depth - 1);
                }
            }
            Content::Dictionary(entries) => {
                for (key, item) in entries {
                    self.walk(&below(&key.display().unwrap_or_default()), item, depth - 1);
                }
            }
            Content::None | Content::Primitive(_) => {}
        }
    }
}

/// The type, and for text what it looks like.
fn kind(value: &Value) -> String {
    let looks = |text: &str| {
        if text.is_empty() {
            "empty"
        } else if text.parse::<uuid::Uuid>().is_ok() {
            "guid"
        } else if text.contains("://") {
            "url"
        } else if text.split('.').count() > 2 && text.split('.').all(|part| part.parse::<u32>().is_ok()) {
            "numbers with dots"
        } else {
            "text"
        }
    };
    match value {
        Value::Null => "Null".into(),
        Value::Bool(_) => "Boolean".into(),
        Value::String(text) => format!("String ({})", looks(text)),
        Value::Guid(_) => "Guid".into(),
        Value::Version(_) => "Version".into(),
        Value::DateTime(_) => "DateTime".into(),
        Value::Uri(_) => "Uri".into(),
        Value::Object(object) => {
            let name = object.types.first().map_or("Object", String::as_str).trim_start_matches("Deserialized.");
            name.to_owned()
        }
        other if other.integer().is_some() => "Integer".into(),
        _ => "Value".into(),
    }
}
