//! The form of a cmdlet's answer: names and types of members, and what kind of text each holds.

use std::collections::BTreeMap;

use azsreg_psrp::clixml::{Content, Value};

/// No answer's form is deeper than this.
const DEPTH: usize = 6;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// `completed`, or the error's `FullyQualifiedErrorId`.
    pub ended: String,
    /// Member paths, such as `AdminExternalEndpoints.AdminResourceManager`, and the type of each.
    pub form: BTreeMap<String, String>,
    /// The values as they came: not for other people's eyes before they were replaced.
    pub leaves: Vec<Leaf>,
}

/// A value of an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// In which object of the output: the first one is 0.
    pub object: usize,
    /// Where in it.
    pub path: String,
    /// What stands there.
    pub text: String,
}

/// Without what stands there.
impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaf({} {})", self.object, self.path)
    }
}

impl Answered {
    pub(crate) fn of(ended: &str, output: &[Value]) -> Self {
        let mut answered = Self { ended: ended.to_owned(), form: BTreeMap::new(), leaves: Vec::new() };
        for (object, value) in output.iter().enumerate() {
            answered.walk(object, "", value, DEPTH);
        }
        answered
    }

    fn walk(&mut self, object: usize, path: &str, value: &Value, depth: usize) {
        let shown = if path.is_empty() { "." } else { path };
        if let Some(text) = value.display() {
            self.leaves.push(Leaf { object, path: path.to_owned(), text });
        }
        self.form.insert(shown.to_owned(), kind(value));
        let Some(inside) = value.object().filter(|_| depth > 0) else { return };
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, member) in inside.extended.iter().chain(&inside.adapted) {
            // What a client's own plumbing adds is no member of the answer.
            if !["PSComputerName", "RunspaceId", "PSShowComputerName"].contains(&name.as_str()) {
                self.walk(object, &below(name), member, depth - 1);
            }
        }
        match &inside.content {
            Content::List(items) | Content::Stack(items) | Content::Queue(items) => {
                for item in items {
                    self.walk(object, &format!("{path}[]"), item, depth - 1);
                }
            }
            Content::Dictionary(entries) => {
                for (key, item) in entries {
                    self.walk(object, &below(&key.display().unwrap_or_default()), item, depth - 1);
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
