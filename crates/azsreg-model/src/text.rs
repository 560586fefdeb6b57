//! What editors, word processors, mail programs and clipboards put around a value and into it. The one place that decides which
//! of it is read, which is stripped and which is refused: for options, variables, secrets and files alike.

use std::fmt;

use thiserror::Error;

use crate::is_hidden;

/// A character that has no place where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub struct Odd {
    /// The character.
    pub character: char,
    /// Its line, from 1; none where there is one line only.
    pub line: Option<usize>,
    /// Its place in the line, from 1.
    pub at: usize,
}

impl Odd {
    /// The character at a byte of a text.
    #[must_use]
    pub fn at(text: &str, byte: usize) -> Option<Self> {
        let character = text.get(byte..)?.chars().next()?;
        let before = &text[..byte];
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = (start > 0).then(|| before.matches('\n').count() + 1);
        Some(Self { character, line, at: before[start..].chars().count() + 1 })
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { character, line, at } = *self;
        match name(character) {
            Some(name) => write!(f, "{name}")?,
            None => write!(f, "'{character}'")?,
        }
        // A line end is seen where it is.
        if character != '\n' {
            write!(f, " (U+{:04X})", u32::from(character))?;
        }
        f.write_str(" at ")?;
        line.map_or(Ok(()), |line| write!(f, "line {line}, "))?;
        write!(f, "character {at}")
    }
}

/// What a character is called that is not seen as itself, or is easily taken for another one.
fn name(c: char) -> Option<&'static str> {
    Some(match c {
        '\0' => "a NUL",
        '\t' => "a tab",
        '\n' => "a line end",
        '\r' => "a carriage return",
        '\u{1b}' => "an escape",
        '\u{a0}' => "a no-break space",
        '\u{ad}' => "a soft hyphen",
        '\u{200b}' => "a zero width space",
        '\u{200c}' => "a zero width non-joiner",
        '\u{200d}' => "a zero width joiner",
        '\u{200e}' => "a left-to-right mark",
        '\u{200f}' => "a right-to-left mark",
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "a mark that turns the direction of text",
        '\u{202f}' => "a narrow no-break space",
        '\u{2028}' => "a line separator",
        '\u{2029}' => "a paragraph separator",
        '\u{2060}' => "a word joiner",
        '\u{feff}' => "a byte order mark",
        '\u{2018}' => "a left single quotation mark",
        '\u{2019}' => "a right single quotation mark",
        '\u{201c}' => "a left double quotation mark",
        '\u{201d}' => "a right double quotation mark",
        '\u{201a}' | '\u{201e}' => "a low quotation mark",
        '\u{ab}' | '\u{bb}' | '\u{2039}' | '\u{203a}' => "an angle quotation mark",
        '\u{2010}' => "a hyphen that is not the usual one",
        '\u{2011}' => "a no-break hyphen",
        '\u{2013}' => "an en dash",
        '\u{2014}' => "an em dash",
        '\u{2012}' | '\u{2015}' => "a dash that is not the usual one",
        '\u{2212}' => "a minus sign that is not the usual one",
        '\u{2026}' => "an ellipsis",
        c if c.is_control() => "a control character",
        c if is_hidden(c) => "an invisible character",
        c if c.is_whitespace() && c != ' ' => "a space that is not the usual one",
        c if is_quote(c) => "a quotation mark that is not the usual one",
        ' ' => "a space",
        _ => return None,
    })
}

/// Quotation marks that a word processor makes.
fn is_quote(c: char) -> bool {
    matches!(c, '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2039}' | '\u{203a}' | '\u{2032}' | '\u{2033}')
}

/// What a word processor makes of a quotation mark, a hyphen, a space or three dots.
fn is_typeset(c: char) -> bool {
    is_quote(c)
        || matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2026}')
        || (c.is_whitespace() && c != ' ' && !is_hidden(c))
}

/// What surrounds a value and is no part of it.
fn surrounds(c: char) -> bool {
    c.is_whitespace() || is_hidden(c)
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A GUID.
    Id,
    /// A name, an address, a user, a number, a word of a list: no character of it comes from a word processor.
    Word,
    /// A file's path, which may hold whatever is seen.
    Path,
    /// Words for people.
    Text,
}

impl ValueKind {
    /// The value itself: without what surrounds it.
    ///
    /// # Errors
    /// What stands in it and can't be meant.
    pub fn read(self, text: &str) -> Result<&str, Odd> {
        let mut value = text.trim_matches(surrounds);
        if self != Self::Text {
            while let Some(inner) = self.unwrapped(value) {
                value = inner.trim_matches(surrounds);
            }
        }
        let refused = |c: char| is_hidden(c) || matches!(self, Self::Id | Self::Word) && is_typeset(c);
        // Its place is that in what was given.
        let start = value.as_ptr() as usize - text.as_ptr() as usize;
        value.find(refused).and_then(|at| Odd::at(text, start + at)).map_or(Ok(value), Err)
    }

    /// What is in a pair of quotation marks, or in the braces of a GUID.
    fn unwrapped(self, value: &str) -> Option<&str> {
        let mut inner = value.chars();
        let (first, last) = (inner.next()?, inner.next_back()?);
        let quoted = first == last && ['"', '\'', '`'].contains(&first) || is_quote(first) && is_quote(last);
        let braced = self == Self::Id && matches!((first, last), ('{', '}') | ('(', ')'));
        (quoted || braced).then_some(inner.as_str())
    }
}

/// Why a secret is not used as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFlaw {
    /// No person types this.
    Refused(Odd),
    /// A word processor or a clipboard makes this, and a password may hold it.
    Doubtful(Odd),
}

/// A password as it is meant: without a byte order mark at its start and a line end at its end.
///
/// # Errors
/// It holds what is not meant, or may not be.
pub fn read_password(text: &str) -> Result<&str, SecretFlaw> {
    let password = as_written(text);
    let odd = |is: fn(char) -> bool| password.find(is).and_then(|at| Odd::at(password, at));
    if let Some(odd) = odd(|c| c != '\t' && is_hidden(c)) {
        return Err(SecretFlaw::Refused(odd));
    }
    match odd(|c| c == '\t' || is_typeset(c)) {
        Some(odd) => Err(SecretFlaw::Doubtful(odd)),
        None => Ok(password),
    }
}

/// A text without a byte order mark at its start and a line end at its end.
#[must_use]
pub fn as_written(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Bytes that are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is neither UTF-8 nor UTF-16 text (byte {0})")]
pub struct NotText(pub usize);

/// Text in UTF-8 or in UTF-16 of either order, without its byte order mark. UTF-16 without one is taken where the zeros of its
/// bytes leave no doubt.
///
/// # Errors
/// The first byte that is none.
pub fn decode_text(bytes: &[u8]) -> Result<String, NotText> {
    let text = decode_marked_text(bytes)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The same, with the byte order mark.
///
/// # Errors
/// The first byte that is none.
pub fn decode_marked_text(bytes: &[u8]) -> Result<String, NotText> {
    let zeros = |odd: usize| bytes.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    // Most of a text is of ASCII: half of each such character is zero, always the same half.
    let most = |count: usize| bytes.len().is_multiple_of(2) && count * 4 > bytes.len();
    match bytes {
        [0xff, 0xfe, ..] => wide(bytes, u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(bytes, u16::from_be_bytes),
        _ => match (zeros(0), zeros(1)) {
            (0, low) if most(low) => wide(bytes, u16::from_le_bytes),
            (high, 0) if most(high) => wide(bytes, u16::from_be_bytes),
            _ => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(text.to_owned()),
                Err(error) => Err(NotText(error.valid_up_to() + 1)),
            },
        },
    }
}

fn wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    for (at, c) in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).enumerate() {
        text.push(c.map_err(|_| NotText(2 * at + 1))?);
    }
    if rest.is_empty() { Ok(text) } else { Err(NotText(bytes.len())) }
}

/// A log, whatever is in it: one that is cut in the middle of a character, of another code page, or of two encodings (a redirection
/// that was appended to a file of the other kind). What matters in a log is plain.
#[must_use]
pub fn decode_log(bytes: &[u8]) -> String {
    if let Some(text) = decode_text(bytes).ok().filter(|text| !text.contains('\0')) {
        return text;
    }
    let zeros = |odd: usize| bytes.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let units = |unit: fn([u8; 2]) -> u16| -> String {
        let pairs = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
        char::decode_utf16(pairs).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    let text = match (bytes, zeros(0), zeros(1)) {
        ([0xff, 0xfe, ..], ..) => units(u16::from_le_bytes),
        ([0xfe, 0xff, ..], ..) => units(u16::from_be_bytes),
        (_, 0, low) if low * 4 > bytes.len() => units(u16::from_le_bytes),
        (_, high, 0) if high * 4 > bytes.len() => units(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    text.trim_start_matches('\u{feff}').replace('\0', "")
}

/// Where JSON can't be read for a character that a word processor or a clipboard has put in: the character.
#[must_use]
pub fn odd_in_json(text: &str, error: &serde_json::Error) -> Option<Odd> {
    let line = text.split_inclusive('\n').nth(error.line().checked_sub(1)?)?;
    let start = line.as_ptr() as usize - text.as_ptr() as usize;
    // The column is of bytes, and of the last one that was read.
    let at = (start + error.column().saturating_sub(1)).min(text.len().checked_sub(1)?);
    let at = (0..=at).rev().find(|at| text.is_char_boundary(*at))?;
    Odd::at(text, at).filter(|odd| is_typeset(odd.character) || is_hidden(odd.character) && odd.character != '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: ValueKind, text: &str) -> String {
        value.read(text).map_or_else(|odd| format!("! {odd}"), str::to_owned)
    }

    /// What stands around is stripped, what stands inside is refused and named.
    #[test]
    fn each_character_around_and_inside_each_kind_of_value() {
        const GUID: &str = "5e2f6b1c-7d3a-4f0e-9a51-1f2e3d4c5b6a";
        let values = [
            (ValueKind::Id, GUID),
            (ValueKind::Word, "azure.stack-1"),
            (ValueKind::Path, "/tmp/a b"),
            (ValueKind::Text, "a bc"),
        ];
        let hidden =
            ['\u{feff}', '\r', '\n', '\t', '\0', '\u{200b}', '\u{200d}', '\u{2060}', '\u{ad}', '\u{202e}', '\u{85}'];
        let spaces = ['\u{a0}', '\u{202f}', '\u{3000}'];
        let typeset = ['\u{201c}', '\u{2019}', '\u{ab}', '\u{2013}', '\u{2011}', '\u{2026}'];
        for (value, plain) in values {
            for c in hidden.into_iter().chain(spaces) {
                for around in [format!("{c}{plain}"), format!("{plain}{c}"), format!("{c} {plain}{c}{c}")] {
                    assert_eq!(read(value, &around), plain, "{value:?} {around:?}");
                }
            }
            let (before, after) = plain.split_at(3);
            let inside = |c: char| format!("{before}{c}{after}");
            for c in hidden {
                let said = read(value, &inside(c));
                let number = if c == '\n' { "a line end".into() } else { format!("(U+{:04X})", u32::from(c)) };
                assert!(said.contains(&format!("{number} at character 4")), "{value:?} {c:?}: {said}");
            }
            for c in spaces.into_iter().chain(typeset) {
                let said = read(value, &inside(c));
                let taken = matches!(value, ValueKind::Path | ValueKind::Text);
                assert_eq!(said == inside(c), taken, "{value:?} {c:?}: {said}");
                assert!(taken || said.contains("at character 4"), "{said}");
            }
        }
        for (open, close) in
            [("{", "}"), ("(", ")"), ("\"", "\""), ("\u{201c}{", "}\u{201d}"), ("\u{a0}{\u{200b}", "}\r")]
        {
            assert_eq!(read(ValueKind::Id, &format!("{open}{GUID}{close}")), GUID);
        }
        assert_eq!(read(ValueKind::Word, "\u{201e}azurestack\u{201c}"), "azurestack");
        assert_eq!(read(ValueKind::Word, "'azurestack\u{a0}'"), "azurestack");
        assert_eq!(read(ValueKind::Word, "{azurestack}"), "{azurestack}");
        assert_eq!(read(ValueKind::Text, "\"a\""), "\"a\"");
        assert_eq!(
            read(ValueKind::Word, "\u{201c}azurestack"),
            "! a left double quotation mark (U+201C) at character 1"
        );
        assert_eq!(read(ValueKind::Word, " \u{feff}a\u{200b}b"), "! a zero width space (U+200B) at character 4");
        assert_eq!(read(ValueKind::Word, "a\nb\u{200b}c"), "! a line end at character 2");
        assert_eq!(read(ValueKind::Id, "\u{feff}"), "");
        assert_eq!(read(ValueKind::Word, "\""), "\"");
    }

    #[test]
    fn a_password_is_read_refused_or_doubted() {
        let read = |text: &str| match read_password(text) {
            Ok(password) => password.to_owned(),
            Err(SecretFlaw::Refused(odd)) => format!("refused: {odd}"),
            Err(SecretFlaw::Doubtful(odd)) => format!("doubtful: {odd}"),
        };
        for text in ["pa ss", "pa ss\n", "pa ss\r\n", "pa ss\r", "\u{feff}pa ss", "\u{feff}pa ss\r\n"] {
            assert_eq!(read(text), "pa ss", "{text:?}");
        }
        assert_eq!(read(" p\u{e4}\u{df}\"'-_ "), " p\u{e4}\u{df}\"'-_ ");
        for (text, said) in [
            ("p\u{200b}w", "refused: a zero width space (U+200B) at character 2"),
            ("pw\u{200b}", "refused: a zero width space (U+200B) at character 3"),
            ("\u{feff}\u{feff}pw", "refused: a byte order mark (U+FEFF) at character 1"),
            ("p\rw", "refused: a carriage return (U+000D) at character 2"),
            ("pw\r\r\n", "refused: a carriage return (U+000D) at character 3"),
            ("pw\nother", "refused: a line end at character 3"),
            ("pw\n\n", "refused: a line end at character 3"),
            ("p\u{201d}w\u{200b}", "refused: a zero width space (U+200B) at character 4"),
            ("p\u{201d}w", "doubtful: a right double quotation mark (U+201D) at character 2"),
            ("pw\u{a0}", "doubtful: a no-break space (U+00A0) at character 3"),
            ("p\u{2013}w", "doubtful: an en dash (U+2013) at character 2"),
            ("p\tw", "doubtful: a tab (U+0009) at character 2"),
        ] {
            assert_eq!(read(text), said, "{text:?}");
        }
    }

    #[test]
    fn utf_16_is_read_with_and_without_a_mark() {
        let wide = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for text in ["pw", "a", "P\u{e4}ssw\u{f6}rd \u{20ac}\r\n", "x\u{1d11e}yz\n", ""] {
            assert_eq!(decode_text(text.as_bytes()).as_deref(), Ok(text));
            assert_eq!(decode_text(format!("\u{feff}{text}").as_bytes()).as_deref(), Ok(text));
            for (unit, mark) in
                [(u16::to_le_bytes as fn(u16) -> [u8; 2], [0xff, 0xfe]), (u16::to_be_bytes, [0xfe, 0xff])]
            {
                assert_eq!(decode_text(&wide(text, unit)).as_deref(), Ok(text), "{text:?}");
                assert_eq!(decode_text(&[&mark[..], &wide(text, unit)].concat()).as_deref(), Ok(text), "{text:?}");
            }
        }
        // One NUL is no sign of UTF-16.
        assert_eq!(decode_text(b"pas\0word").as_deref(), Ok("pas\0word"));
        assert_eq!(decode_text(b"ab\xffcd"), Err(NotText(3)));
        assert_eq!(decode_text(b"\xff\xfe\x00\xd8"), Err(NotText(3)));
        assert_eq!(decode_text(b"\xff\xfea\x00b"), Err(NotText(5)));
    }

    #[test]
    fn what_breaks_json_is_named() {
        let named = |text: &str| {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            odd_in_json(text, &error).map(|odd| odd.to_string()).unwrap_or_default()
        };
        assert_eq!(named("{\n  \u{201c}a\": 1}"), "a left double quotation mark (U+201C) at line 2, character 3");
        assert_eq!(named("{\"a\":\u{a0}1}"), "a no-break space (U+00A0) at character 6");
        assert_eq!(named("{\"a\": 1,}"), "");
        assert_eq!(named(""), "");
    }

    #[test]
    fn a_log_is_read_whatever_is_in_it() {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let marked = [vec![0xff, 0xfe], wide("LogonFailure,PSSession")].concat();
        let plain = wide("LogonFailure,PSSession");
        let mixed = [b"first line\r\n".to_vec(), wide("LogonFailure,PSSession")].concat();
        let latin = b"Gr\xf6\xdfe LogonFailure,PSSession".to_vec();
        for bytes in [&marked[..], &marked[..marked.len() - 1], &plain[..], &plain[..plain.len() - 1], &mixed, &latin] {
            let text = decode_log(bytes);
            assert!(text.contains("LogonFailure,PSSessio") && !text.contains('\u{feff}'), "{text:?}");
        }
    }
}
