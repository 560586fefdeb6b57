//! CLIXML to values.

use std::collections::{HashMap, HashSet};

use super::{Content, Object, Value};
use crate::DecodeError;
use crate::wsman::decode_base64;
use crate::xml::{Element, MAX_DEPTH};

/// A document may hold this many values once references are followed.
pub const MAX_VALUES: usize = 50_000;
/// A document's values may have this many bytes of text once references are followed.
const MAX_TEXT: usize = 16 << 20;

/// Reads one value: an element such as `<S>`, `<Obj>`, `<Nil/>`, or the first child of an `<Objs>` document.
///
/// # Errors
/// Not well-formed, a primitive that is not of its type, a reference to nothing, or a limit passed. An element that
/// MS-PSRP 2.2.5 does not know is an error too.
pub fn from_xml(document: &str) -> Result<Value, DecodeError> {
    let root = Element::parse(document)?;
    let mut reader = Reader::default();
    referenced(&root, &mut reader.wanted);
    if root.name == "Objs" {
        return root.children.first().map_or(Ok(Value::Null), |first| reader.value(first));
    }
    reader.value(&root)
}

/// The ids that references name: only those objects are kept aside.
fn referenced(element: &Element, wanted: &mut HashSet<String>) {
    if element.name == "Ref"
        && let Some(id) = element.attribute("RefId")
    {
        wanted.insert(id.to_owned());
    }
    for child in &element.children {
        referenced(child, wanted);
    }
}

/// What a value costs: it is paid again for every reference to it, before it is copied.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    values: usize,
    text: usize,
    /// Levels below the value itself.
    depth: usize,
}

#[derive(Default)]
struct Reader {
    wanted: HashSet<String>,
    objects: HashMap<String, (Value, Cost)>,
    types: HashMap<String, Vec<String>>,
    count: usize,
    text: usize,
    /// Levels above the value that is being read, and the deepest level that was reached below it.
    depth: usize,
    deepest: usize,
}

impl Reader {
    fn spend_text(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.text = self.text.saturating_add(bytes);
        if self.text > MAX_TEXT {
            return Err(DecodeError::Limit { what: "CLIXML text", limit: MAX_TEXT });
        }
        Ok(())
    }

    /// What is copied to here is as deep as what was written here.
    fn reach(&mut self, depth: usize) -> Result<(), DecodeError> {
        self.deepest = self.deepest.max(depth);
        if depth > MAX_DEPTH {
            return Err(DecodeError::Limit { what: "CLIXML depth", limit: MAX_DEPTH });
        }
        Ok(())
    }

    fn spend(&mut self, values: usize) -> Result<(), DecodeError> {
        self.count = self.count.saturating_add(values);
        if self.count > MAX_VALUES {
            return Err(DecodeError::Limit { what: "CLIXML value count", limit: MAX_VALUES });
        }
        Ok(())
    }

    fn value(&mut self, element: &Element) -> Result<Value, DecodeError> {
        if element.name == "Obj" {
            return self.object(element);
        }
        if element.name == "Ref" {
            let id = element.attribute("RefId").ok_or(DecodeError::Missing("a reference's RefId"))?;
            // A reference from inside the object that it names (a cycle) is null here: we have no use for cycles.
            let Some(cost) = self.objects.get(id).map(|(_, cost)| *cost) else {
                return Err(DecodeError::malformed("a reference", id));
            };
            self.spend(cost.values)?;
            self.spend_text(cost.text)?;
            self.reach(self.depth + cost.depth)?;
            return Ok(self.objects.get(id).map_or(Value::Null, |(value, _)| value.clone()));
        }
        self.spend(1)?;
        self.spend_text(element.text.len())?;
        primitive(element)
    }

    fn object(&mut self, element: &Element) -> Result<Value, DecodeError> {
        let before = Cost { values: self.count, text: self.text, depth: self.deepest };
        self.spend(1)?;
        self.reach(self.depth)?;
        self.deepest = self.depth;
        self.depth += 1;
        let id = element.attribute("RefId").filter(|id| self.wanted.contains(*id)).map(str::to_owned);
        if let Some(id) = &id {
            self.objects.insert(id.clone(), (Value::Null, Cost { values: 1, text: 0, depth: 0 }));
        }
        let mut object = Object::default();
        for child in &element.children {
            match child.name.as_str() {
                "TN" => {
                    object.types = child.children.iter().filter(|t| t.name == "T").map(|t| t.text.clone()).collect();
                    if let Some(id) = child.attribute("RefId") {
                        self.types.insert(id.to_owned(), object.types.clone());
                    }
                }
                "TNRef" => {
                    let id = child.attribute("RefId").ok_or(DecodeError::Missing("a type reference's RefId"))?;
                    object.types =
                        self.types.get(id).cloned().ok_or_else(|| DecodeError::malformed("a type reference", id))?;
                    self.spend(object.types.len())?;
                    self.spend_text(object.types.iter().map(String::len).sum())?;
                }
                "ToString" => object.text = Some(unescape_string(&child.text)),
                "Props" => object.adapted = self.properties(child)?,
                "MS" => object.extended = self.properties(child)?,
                "LST" | "IE" => object.content = Content::List(self.items(child)?),
                "STK" => object.content = Content::Stack(self.items(child)?),
                "QUE" => object.content = Content::Queue(self.items(child)?),
                "DCT" => object.content = Content::Dictionary(self.entries(child)?),
                _ => object.content = Content::Primitive(self.value(child)?),
            }
        }
        let value = Value::from(object);
        self.depth -= 1;
        let depth = self.deepest.saturating_sub(self.depth);
        self.deepest = self.deepest.max(before.depth);
        if let Some(id) = id {
            let cost = Cost { values: self.count - before.values, text: self.text - before.text, depth };
            self.spend_text(cost.text)?;
            self.objects.insert(id, (value.clone(), cost));
        }
        Ok(value)
    }

    fn items(&mut self, element: &Element) -> Result<Vec<Value>, DecodeError> {
        element.children.iter().map(|child| self.value(child)).collect()
    }

    fn properties(&mut self, element: &Element) -> Result<Vec<(String, Value)>, DecodeError> {
        let mut properties = Vec::with_capacity(element.children.len());
        for child in &element.children {
            // A member set (`MS` in `MS`) has no name of its own and nothing that we read.
            let Some(name) = child.attribute("N") else { continue };
            properties.push((unescape_string(name), self.value(child)?));
        }
        Ok(properties)
    }

    fn entries(&mut self, element: &Element) -> Result<Vec<(Value, Value)>, DecodeError> {
        let mut entries = Vec::with_capacity(element.children.len());
        for entry in &element.children {
            let part = |name: &str| entry.children.iter().find(|child| child.attribute("N") == Some(name));
            let key = part("Key").ok_or(DecodeError::Missing("a dictionary entry's Key"))?;
            let value = part("Value").ok_or(DecodeError::Missing("a dictionary entry's Value"))?;
            entries.push((self.value(key)?, self.value(value)?));
        }
        Ok(entries)
    }
}

fn primitive(element: &Element) -> Result<Value, DecodeError> {
    let text = element.text.as_str();
    let trimmed = text.trim();
    fn number<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, DecodeError> {
        text.parse().map_err(|_| DecodeError::malformed(what, text))
    }
    let base64 = |what| decode_base64(trimmed).ok_or_else(|| DecodeError::malformed(what, trimmed));
    Ok(match element.name.as_str() {
        "Nil" => Value::Null,
        "B" => match trimmed {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            other => return Err(DecodeError::malformed("a boolean", other)),
        },
        "By" => Value::Byte(number("a byte", trimmed)?),
        "SB" => Value::SByte(number("a signed byte", trimmed)?),
        "I16" => Value::I16(number("a 16-bit number", trimmed)?),
        "U16" => Value::U16(number("an unsigned 16-bit number", trimmed)?),
        "I32" => Value::I32(number("a 32-bit number", trimmed)?),
        "U32" => Value::U32(number("an unsigned 32-bit number", trimmed)?),
        "I64" => Value::I64(number("a 64-bit number", trimmed)?),
        "U64" => Value::U64(number("an unsigned 64-bit number", trimmed)?),
        "Sg" => Value::Single(number("a single", &dotnet_float(trimmed))?),
        "Db" => Value::Double(number("a double", &dotnet_float(trimmed))?),
        "D" => {
            let digits = trimmed.strip_prefix('-').unwrap_or(trimmed);
            if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
                return Err(DecodeError::malformed("a decimal", trimmed));
            }
            Value::Decimal(trimmed.to_owned())
        }
        "C" => Value::Char(number("a character", trimmed)?),
        "S" => Value::String(unescape_string(text)),
        "DT" => {
            if trimmed.len() < 19 || trimmed.as_bytes()[10] != b'T' {
                return Err(DecodeError::malformed("a date and time", trimmed));
            }
            Value::DateTime(trimmed.to_owned())
        }
        "TS" => {
            if !trimmed.trim_start_matches('-').starts_with('P') {
                return Err(DecodeError::malformed("a duration", trimmed));
            }
            Value::Duration(trimmed.to_owned())
        }
        "G" => Value::Guid(number("a GUID", trimmed)?),
        "Version" => {
            let parts = trimmed.split('.').collect::<Vec<_>>();
            if !(2..=4).contains(&parts.len()) || parts.iter().any(|p| p.parse::<u32>().is_err()) {
                return Err(DecodeError::malformed("a version", trimmed));
            }
            Value::Version(trimmed.to_owned())
        }
        "BA" => Value::Bytes(base64("a byte array")?),
        "URI" => Value::Uri(unescape_string(text)),
        "SBK" => Value::ScriptBlock(unescape_string(text)),
        "XD" => Value::XmlDocument(unescape_string(text)),
        "SS" => Value::SecureString(base64("a secure string")?),
        other => return Err(DecodeError::malformed("a CLIXML element", other)),
    })
}

/// .NET writes `INF`, `-INF` and `NaN`.
fn dotnet_float(text: &str) -> String {
    text.replace("INF", "inf")
}

/// Undoes the `_xHHHH_` escapes of MS-PSRP 2.2.5.3.2; surrogate halves are joined.
fn unescape_string(text: &str) -> String {
    if !text.contains("_x") {
        return text.to_owned();
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let escaped = rest.as_bytes();
        if escaped.len() >= 7
            && escaped.starts_with(b"_x")
            && escaped[6] == b'_'
            && escaped[2..6].iter().all(u8::is_ascii_hexdigit)
            && let Ok(unit) = u16::from_str_radix(&rest[2..6], 16)
        {
            units.push(unit);
            rest = &rest[7..];
            continue;
        }
        units.extend_from_slice(next.encode_utf16(&mut [0; 2]));
        rest = &rest[next.len_utf8()..];
    }
    String::from_utf16_lossy(&units)
}
