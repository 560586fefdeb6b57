//! A small element tree over quick-xml, with limits.
//!
//! SOAP envelopes and CLIXML are both read whole and looked at from several sides, so a tree is simpler than events.
//! DTDs and entities other than the five predefined ones are refused; depth and element count are limited, so that a
//! peer can't make us hold more than a small multiple of what it sent.

use quick_xml::NsReader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;

use crate::DecodeError;

/// Elements may nest this deep: PowerShell writes up to a hundred levels.
pub const MAX_DEPTH: usize = 128;
/// A document may hold this many elements and attributes.
pub const MAX_NODES: usize = 100_000;
/// An element may have this many attributes, namespace declarations included.
pub const MAX_ATTRIBUTES: usize = 64;
/// A namespace may have this many bytes: each element has a copy of its own.
pub const MAX_NAMESPACE: usize = 256;
/// A document may have this many bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// An element: its namespace (empty for none), local name, attributes by local name, children, and its own text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// The namespace URI, or empty.
    pub ns: String,
    /// The local name.
    pub name: String,
    /// Attributes as (local name, value), in document order; namespace declarations are left out.
    pub attributes: Vec<(String, String)>,
    /// Child elements in document order.
    pub children: Vec<Element>,
    /// The text directly inside, all pieces joined; white space kept.
    pub text: String,
}

impl Element {
    /// Parses a document to its root element.
    ///
    /// # Errors
    /// Not well-formed, a DTD, an unknown entity, or a limit passed.
    pub fn parse(document: &str) -> Result<Self, DecodeError> {
        if document.len() > MAX_BYTES {
            return Err(DecodeError::Limit { what: "XML document's size", limit: MAX_BYTES });
        }
        let mut reader = NsReader::from_str(document.trim_start_matches('\u{feff}'));
        let mut open: Vec<Element> = Vec::new();
        let mut count = 0;
        loop {
            let at = reader.buffer_position();
            let fail = |reason: String| DecodeError::Xml { at, reason };
            let (resolved, event) = reader.read_resolved_event().map_err(|e| fail(e.to_string()))?;
            let ns = match resolved {
                ResolveResult::Bound(ns) if ns.as_ref().len() > MAX_NAMESPACE => {
                    return Err(DecodeError::Limit { what: "XML namespace's length", limit: MAX_NAMESPACE });
                }
                ResolveResult::Bound(ns) => ns.as_ref().to_owned(),
                ResolveResult::Unbound => String::new(),
                ResolveResult::Unknown(_) => return Err(fail("an undeclared namespace prefix".into())),
            };
            let closed = match event {
                Event::Start(ref start) | Event::Empty(ref start) => {
                    // Before anything compares them with each other.
                    let attributes = start.attributes().with_checks(false).take(MAX_ATTRIBUTES + 1).count();
                    if attributes > MAX_ATTRIBUTES {
                        return Err(DecodeError::Limit { what: "XML attribute count", limit: MAX_ATTRIBUTES });
                    }
                    count += 1 + attributes;
                    if count > MAX_NODES {
                        return Err(DecodeError::Limit { what: "XML element count", limit: MAX_NODES });
                    }
                    if open.len() >= MAX_DEPTH {
                        return Err(DecodeError::Limit { what: "XML depth", limit: MAX_DEPTH });
                    }
                    open.push(Self::opened(ns, start).map_err(fail)?);
                    matches!(event, Event::Empty(_))
                }
                Event::End(_) => true,
                Event::Text(text) => {
                    if let Some(parent) = open.last_mut() {
                        parent.text.push_str(&text.xml10_content());
                    } else if !text.xml10_content().trim().is_empty() {
                        return Err(fail("text outside the root element".into()));
                    }
                    false
                }
                Event::CData(data) => {
                    let Some(parent) = open.last_mut() else { return Err(fail("CDATA outside the root".into())) };
                    parent.text.push_str(&data.xml10_content());
                    false
                }
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref().map_err(|e| fail(e.to_string()))? {
                        Some(character) => character,
                        None => match &*reference.xml10_content() {
                            "amp" => '&',
                            "lt" => '<',
                            "gt" => '>',
                            "quot" => '"',
                            "apos" => '\'',
                            other => return Err(fail(format!("the entity &{other}; is not predefined"))),
                        },
                    };
                    let Some(parent) = open.last_mut() else { return Err(fail("an entity outside the root".into())) };
                    parent.text.push(character);
                    false
                }
                Event::DocType(_) => return Err(fail("a document type declaration is not allowed".into())),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => false,
                Event::Eof => return Err(fail("the document ends before its root element does".into())),
            };
            if closed {
                let Some(done) = open.pop() else { return Err(fail("an end tag without a start".into())) };
                match open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => return Ok(done),
                }
            }
        }
    }

    fn opened(ns: String, start: &BytesStart<'_>) -> Result<Self, String> {
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| e.to_string())?;
            let key: &str = attribute.key.as_ref();
            if key == "xmlns" || key.starts_with("xmlns:") {
                continue;
            }
            let local = key.rsplit(':').next().unwrap_or(key).to_owned();
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| e.to_string())?;
            attributes.push((local, value.into_owned()));
        }
        let name: &str = start.local_name().into_inner();
        Ok(Self { ns, name: name.to_owned(), attributes, children: Vec::new(), text: String::new() })
    }

    /// The value of the attribute with this local name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first child with this local name, whatever its namespace.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The element at the end of a path of local names.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// The trimmed text of the element at a path, if it is there.
    #[must_use]
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).map(|element| element.text.trim())
    }
}

/// Appends `text` with the five predefined entities escaped; fit for element text and for attribute values.
pub fn escape_into(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            other => out.push(other),
        }
    }
}

/// [`escape_into`] as a new string.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    escape_into(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_attributes_and_entities_are_read() {
        let root =
            Element::parse(r#"<?xml version="1.0"?><a:r xmlns:a="urn:x" a:k="&lt;1"><b>x &amp; &#65;</b><c/></a:r>"#)
                .unwrap();
        assert_eq!((root.ns.as_str(), root.name.as_str()), ("urn:x", "r"));
        assert_eq!(root.attribute("k"), Some("<1"));
        assert_eq!(root.text_at(&["b"]), Some("x & A"));
        assert!(root.child("c").is_some());
    }

    #[test]
    fn what_could_hurt_is_refused() {
        assert!(matches!(Element::parse("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), Err(DecodeError::Xml { .. })));
        assert!(matches!(Element::parse("<a>&x;</a>"), Err(DecodeError::Xml { .. })));
        assert!(matches!(Element::parse("<a><b></a>"), Err(DecodeError::Xml { .. })));
        assert!(matches!(Element::parse("<a>"), Err(DecodeError::Xml { .. })));
        assert!(matches!(Element::parse(""), Err(DecodeError::Xml { .. })));
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        assert!(matches!(Element::parse(&deep), Err(DecodeError::Limit { .. })));
    }

    #[test]
    fn small_documents_do_not_become_large_trees() {
        let refused = |document: &str| match Element::parse(document) {
            Err(DecodeError::Limit { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        // Every element would have its own copy of a namespace of a megabyte.
        let long = format!(r#"<a xmlns="{}">{}</a>"#, "n".repeat(1 << 20), "<b/>".repeat(50_000));
        assert_eq!(refused(&long), "XML namespace's length");
        assert_eq!(refused(&format!("<a>{}</a>", "<b/>".repeat(MAX_NODES))), "XML element count");
        assert_eq!(refused(&format!("<a>{}</a>", "<b c=''/>".repeat(MAX_NODES / 2))), "XML element count");
        // Attributes are compared with each other: a hundred thousand would take minutes.
        let attributes: String = (0..100_000).map(|n| format!(" a{n}=''")).collect();
        assert_eq!(refused(&format!("<a{attributes}/>")), "XML attribute count");
        // The parser itself refuses to keep so many names.
        let declared: String = (0..100_000).map(|n| format!(" xmlns:a{n}='u'")).collect();
        assert!(Element::parse(&format!("<a{declared}/>")).is_err());
    }
}
