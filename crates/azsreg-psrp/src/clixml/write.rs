//! Values to CLIXML.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::{Content, Object, Value};
use crate::xml::escape_into;

/// Writes one value as an element without an `<Objs>` around it, as PSRP's messages carry it.
#[must_use]
pub fn to_xml(value: &Value) -> String {
    let mut writer = Writer::default();
    writer.value(value, None);
    writer.out
}

/// A string with control characters as `_xHHHH_`, and what looks like such an escape escaped itself
/// (MS-PSRP 2.2.5.3.2). The result is not yet XML-escaped.
#[must_use]
pub fn escape_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let escaped = text.as_bytes();
        let looks_escaped = character == '_' && matches!(escaped.get(at + 1), Some(b'x' | b'X'));
        if looks_escaped
            || (character as u32) < 0x20
            || (0x7f..=0x9f).contains(&(character as u32))
            || matches!(character, '\u{fffe}' | '\u{ffff}')
        {
            let _ = write!(out, "_x{:04X}_", character as u32);
        } else {
            out.push(character);
        }
    }
    out
}

#[derive(Default)]
struct Writer {
    out: String,
    next_object: usize,
    types: HashMap<Vec<String>, usize>,
}

impl Writer {
    fn open(&mut self, tag: &str, name: Option<&str>) {
        self.out.push('<');
        self.out.push_str(tag);
        if let Some(name) = name {
            self.out.push_str(" N=\"");
            escape_into(&mut self.out, &escape_string(name));
            self.out.push('"');
        }
    }

    fn text(&mut self, tag: &str, name: Option<&str>, text: &str) {
        self.open(tag, name);
        self.out.push('>');
        escape_into(&mut self.out, text);
        let _ = write!(self.out, "</{tag}>");
    }

    fn value(&mut self, value: &Value, name: Option<&str>) {
        match value {
            Value::Null => {
                self.open("Nil", name);
                self.out.push_str(" />");
            }
            Value::Bool(v) => self.text("B", name, if *v { "true" } else { "false" }),
            Value::Byte(v) => self.text("By", name, &v.to_string()),
            Value::SByte(v) => self.text("SB", name, &v.to_string()),
            Value::I16(v) => self.text("I16", name, &v.to_string()),
            Value::U16(v) => self.text("U16", name, &v.to_string()),
            Value::I32(v) => self.text("I32", name, &v.to_string()),
            Value::U32(v) => self.text("U32", name, &v.to_string()),
            Value::I64(v) => self.text("I64", name, &v.to_string()),
            Value::U64(v) => self.text("U64", name, &v.to_string()),
            Value::Single(v) => self.text("Sg", name, &v.to_string().replace("inf", "INF")),
            Value::Double(v) => self.text("Db", name, &v.to_string().replace("inf", "INF")),
            Value::Decimal(v) => self.text("D", name, v),
            Value::Char(v) => self.text("C", name, &v.to_string()),
            Value::String(v) => self.text("S", name, &escape_string(v)),
            Value::DateTime(v) => self.text("DT", name, v),
            Value::Duration(v) => self.text("TS", name, v),
            Value::Guid(v) => self.text("G", name, &v.to_string()),
            Value::Version(v) => self.text("Version", name, v),
            Value::Bytes(v) => self.text("BA", name, &BASE64_STANDARD.encode(v)),
            Value::Uri(v) => self.text("URI", name, &escape_string(v)),
            Value::ScriptBlock(v) => self.text("SBK", name, &escape_string(v)),
            Value::XmlDocument(v) => self.text("XD", name, &escape_string(v)),
            Value::SecureString(v) => self.text("SS", name, &BASE64_STANDARD.encode(v)),
            Value::Object(object) => self.object(object, name),
        }
    }

    fn object(&mut self, object: &Object, name: Option<&str>) {
        self.open("Obj", name);
        let _ = write!(self.out, " RefId=\"{}\">", self.next_object);
        self.next_object += 1;
        if !object.types.is_empty() {
            if let Some(id) = self.types.get(&object.types) {
                let _ = write!(self.out, "<TNRef RefId=\"{id}\" />");
            } else {
                let id = self.types.len();
                self.types.insert(object.types.clone(), id);
                let _ = write!(self.out, "<TN RefId=\"{id}\">");
                for name in &object.types {
                    self.text("T", None, name);
                }
                self.out.push_str("</TN>");
            }
        }
        if let Some(text) = &object.text {
            self.text("ToString", None, &escape_string(text));
        }
        match &object.content {
            Content::None => {}
            Content::Primitive(value) => self.value(value, None),
            Content::List(items) => self.items("LST", items),
            Content::Stack(items) => self.items("STK", items),
            Content::Queue(items) => self.items("QUE", items),
            Content::Dictionary(entries) => {
                self.out.push_str("<DCT>");
                for (key, value) in entries {
                    self.out.push_str("<En>");
                    self.value(key, Some("Key"));
                    self.value(value, Some("Value"));
                    self.out.push_str("</En>");
                }
                self.out.push_str("</DCT>");
            }
        }
        self.properties("Props", &object.adapted);
        self.properties("MS", &object.extended);
        self.out.push_str("</Obj>");
    }

    fn items(&mut self, tag: &str, items: &[Value]) {
        let _ = write!(self.out, "<{tag}>");
        for item in items {
            self.value(item, None);
        }
        let _ = write!(self.out, "</{tag}>");
    }

    fn properties(&mut self, tag: &str, properties: &[(String, Value)]) {
        if properties.is_empty() {
            return;
        }
        let _ = write!(self.out, "<{tag}>");
        for (name, value) in properties {
            self.value(value, Some(name));
        }
        let _ = write!(self.out, "</{tag}>");
    }
}
