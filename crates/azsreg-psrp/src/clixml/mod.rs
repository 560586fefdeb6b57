//! CLIXML: .NET objects as PSRP carries them (MS-PSRP 2.2.5).
//!
//! [`Value`] is the tree, [`read`](from_xml) and [`write`](to_xml) its two directions. What a peer sends is limited
//! in depth ([`crate::xml::MAX_DEPTH`]), in size and in count ([`MAX_VALUES`]), references included: a reference costs as
//! much as what it refers to.

mod read;
mod write;

use uuid::Uuid;

pub use read::{MAX_VALUES, from_xml};
pub use write::{escape_string, to_xml};

/// A value of CLIXML.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `Nil`.
    Null,
    /// `B`.
    Bool(bool),
    /// `By`.
    Byte(u8),
    /// `SB`.
    SByte(i8),
    /// `I16`.
    I16(i16),
    /// `U16`.
    U16(u16),
    /// `I32`.
    I32(i32),
    /// `U32`.
    U32(u32),
    /// `I64`.
    I64(i64),
    /// `U64`.
    U64(u64),
    /// `Sg`.
    Single(f32),
    /// `Db`.
    Double(f64),
    /// `D`: a decimal, in its invariant text.
    Decimal(String),
    /// `C`: a UTF-16 unit.
    Char(u16),
    /// `S`.
    String(String),
    /// `DT`: an ISO 8601 date and time, as sent.
    DateTime(String),
    /// `TS`: an XML duration, as sent.
    Duration(String),
    /// `G`.
    Guid(Uuid),
    /// `Version`: two to four numbers with dots, as sent.
    Version(String),
    /// `BA`.
    Bytes(Vec<u8>),
    /// `URI`.
    Uri(String),
    /// `SBK`: the text of a script block.
    ScriptBlock(String),
    /// `XD`: an XML document as text.
    XmlDocument(String),
    /// `SS`: a secure string, still encrypted under the session key.
    SecureString(Vec<u8>),
    /// `Obj`.
    Object(Box<Object>),
}

/// A complex object: its type names, its text form, what it contains, and its properties.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object {
    /// The type and its bases, most derived first. Empty where none were sent.
    pub types: Vec<String>,
    /// What `ToString()` gives.
    pub text: Option<String>,
    /// What it wraps or contains.
    pub content: Content,
    /// `Props`: the adapted properties, those of the type itself.
    pub adapted: Vec<(String, Value)>,
    /// `MS`: the extended properties.
    pub extended: Vec<(String, Value)>,
}

/// What an object wraps or contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Content {
    /// Nothing but properties.
    #[default]
    None,
    /// An extended primitive: an enum's number, a string with properties.
    Primitive(Value),
    /// `LST`, and `IE` where read.
    List(Vec<Value>),
    /// `STK`.
    Stack(Vec<Value>),
    /// `QUE`.
    Queue(Vec<Value>),
    /// `DCT`.
    Dictionary(Vec<(Value, Value)>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Guid(value)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(Box::new(object))
    }
}

impl Object {
    /// A `PSCustomObject` with these extended properties, in this order.
    #[must_use]
    pub fn custom<K: Into<String>, V: Into<Value>>(properties: impl IntoIterator<Item = (K, V)>) -> Self {
        Self {
            types: vec!["System.Management.Automation.PSCustomObject".into(), "System.Object".into()],
            ..Self::bare(properties)
        }
    }

    /// An object with extended properties and no type, as PSRP's own messages are.
    #[must_use]
    pub fn bare<K: Into<String>, V: Into<Value>>(properties: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { extended: properties.into_iter().map(|(k, v)| (k.into(), v.into())).collect(), ..Self::default() }
    }

    /// An enum of the .NET type `name`, with its text and number.
    #[must_use]
    pub fn enumeration(name: &str, text: &str, number: i32) -> Self {
        Self {
            types: vec![name.into(), "System.Enum".into(), "System.ValueType".into(), "System.Object".into()],
            text: Some(text.into()),
            content: Content::Primitive(Value::I32(number)),
            ..Self::default()
        }
    }

    /// A list of the .NET type `ArrayList`.
    #[must_use]
    pub fn list(items: Vec<Value>) -> Self {
        Self {
            types: vec!["System.Collections.ArrayList".into(), "System.Object".into()],
            content: Content::List(items),
            ..Self::default()
        }
    }

    fn weight(&self) -> usize {
        let texts = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.capacity()).sum::<usize>();
        let values = |values: &[Value]| values.iter().map(Value::weight).sum::<usize>();
        let members = |members: &[(String, Value)]| {
            members.iter().map(|(name, value)| size_of::<String>() + name.capacity() + value.weight()).sum::<usize>()
        };
        let content = match &self.content {
            Content::None => 0,
            Content::Primitive(value) => value.weight(),
            Content::List(items) | Content::Stack(items) | Content::Queue(items) => values(items),
            Content::Dictionary(entries) => entries.iter().map(|(key, value)| key.weight() + value.weight()).sum(),
        };
        let text = self.text.as_ref().map_or(0, String::capacity);
        size_of::<Self>() + texts(&self.types) + text + content + members(&self.adapted) + members(&self.extended)
    }

    /// A property by name, extended before adapted, without regard to case (as PowerShell looks them up).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let find = |list: &'_ [(String, Value)]| list.iter().position(|(key, _)| key.eq_ignore_ascii_case(name));
        find(&self.extended)
            .map(|at| &self.extended[at].1)
            .or_else(|| find(&self.adapted).map(|at| &self.adapted[at].1))
            .or_else(|| match &self.content {
                // PowerShell reads a hashtable's keys as it reads properties.
                Content::Dictionary(entries) => entries
                    .iter()
                    .find(|(key, _)| key.text().is_some_and(|key| key.eq_ignore_ascii_case(name)))
                    .map(|(_, value)| value),
                _ => None,
            })
    }
}

impl Value {
    /// A list, as an object without type names.
    #[must_use]
    pub fn list(items: Vec<Value>) -> Self {
        Object::list(items).into()
    }

    /// The object, if it is one.
    #[must_use]
    pub fn object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A property, if this is an object that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.object().and_then(|object| object.get(name))
    }

    /// The items of a list, or of an object around one.
    #[must_use]
    pub fn items(&self) -> Option<&[Value]> {
        match &self.object()?.content {
            Content::List(items) | Content::Stack(items) | Content::Queue(items) => Some(items),
            _ => None,
        }
    }

    /// The primitive inside: the value itself, or what an object wraps (an enum's number).
    #[must_use]
    pub fn primitive(&self) -> &Value {
        match self {
            Self::Object(object) => match &object.content {
                Content::Primitive(value) => value,
                _ => self,
            },
            other => other,
        }
    }

    /// The text of a string, version, URI or the like, or an object's text form. Numbers and ids are not text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text)
            | Self::Version(text)
            | Self::Uri(text)
            | Self::DateTime(text)
            | Self::Duration(text)
            | Self::Decimal(text)
            | Self::ScriptBlock(text)
            | Self::XmlDocument(text) => Some(text),
            Self::Object(object) => object.text.as_deref().or(match &object.content {
                Content::Primitive(value) => value.text(),
                _ => None,
            }),
            _ => None,
        }
    }

    /// What PowerShell would print for a scalar: text, a number, an id, `True` or `False`.
    #[must_use]
    pub fn display(&self) -> Option<String> {
        Some(match self {
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Guid(id) => id.to_string(),
            Self::Single(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
            other => match other.integer() {
                Some(number) => number.to_string(),
                None => other.text()?.to_owned(),
            },
        })
    }

    /// The number of any integer type, or of an enum.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self.primitive() {
            Self::Byte(v) => Some((*v).into()),
            Self::SByte(v) => Some((*v).into()),
            Self::I16(v) => Some((*v).into()),
            Self::U16(v) => Some((*v).into()),
            Self::I32(v) => Some((*v).into()),
            Self::U32(v) => Some((*v).into()),
            Self::I64(v) => Some(*v),
            Self::U64(v) => i64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// A whole number, in whichever form it came: of any numeric type, or as text.
    #[must_use]
    pub fn whole(&self) -> Option<i64> {
        let of_float = |value: f64| (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64);
        match self.primitive() {
            Self::Single(value) => of_float(f64::from(*value)),
            Self::Double(value) => of_float(*value),
            _ => self.integer().or_else(|| {
                let text = self.text()?.trim();
                text.parse().ok().or_else(|| of_float(text.parse().ok()?))
            }),
        }
    }

    /// Roughly how many bytes of memory it holds.
    pub(crate) fn weight(&self) -> usize {
        let below = match self {
            Self::String(text)
            | Self::Decimal(text)
            | Self::DateTime(text)
            | Self::Duration(text)
            | Self::Version(text)
            | Self::Uri(text)
            | Self::ScriptBlock(text)
            | Self::XmlDocument(text) => text.capacity(),
            Self::Bytes(bytes) | Self::SecureString(bytes) => bytes.capacity(),
            Self::Object(object) => object.weight(),
            _ => 0,
        };
        below + size_of::<Self>()
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        match self.primitive() {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
