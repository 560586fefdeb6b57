//! A secret that the other side quotes back is taken out before anybody reads it.
//!
//! Where a secret is read or received it is [`remember`]ed, for as long as the process runs (the registry holds it in memory, as
//! the process does anyway). Where words leave the process (a view, the log, the journal, a file for support) they go through
//! [`redacted`]; where a server's words come in, through [`of_server`]. Files that are asked for hold what they are for.
//!
//! A secret of 16 characters or more is found as it is, in base64 (of UTF-8, of UTF-16 as PowerShell makes it, inside a longer
//! text too), percent- and form-encoded, escaped for JSON or XML, cut at either end down to 16 characters, and with line breaks
//! or spaces in it: every 16 characters in a row of it are taken out. A shorter one could be an everyday word: it is taken out
//! of a server's words alone, and only where it stands as a whole word.
//!
//! The work is linear in the text, whatever is in it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{LazyLock, PoisonError, RwLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";

/// So many characters of a secret are taken for it, wherever they stand.
const LEAST: usize = 16;
/// A shorter secret is nobody's.
const SHORTEST: usize = 4;
/// Of a longer secret the beginning is remembered.
const LONGEST: usize = 256 << 10;
/// A secret up to this size is looked for in base64 of UTF-16, too.
const UTF16: usize = 16 << 10;
/// A text is looked at in pieces of this size, which overlap: what is kept beside it has a limit.
const PIECE: usize = 256 << 10;
const OVERLAP: usize = 4 << 10;
/// Escapes are undone this often: JSON within XML, say.
const LEVELS: usize = 2;
/// Bits of the filter before the set.
const FILTER: usize = 1 << 20;

static SECRETS: LazyLock<RwLock<Redactor>> = LazyLock::new(RwLock::default);

/// From here on this secret does not leave the process in words.
pub fn remember(secret: &str) {
    if !SECRETS.read().unwrap_or_else(PoisonError::into_inner).knows(secret) {
        SECRETS.write().unwrap_or_else(PoisonError::into_inner).remember(secret);
    }
}

/// From here on the body of this PEM does not leave the process in words.
pub fn remember_pem(pem: &str) {
    let body: Vec<&str> = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    remember(&body.concat());
}

/// Our words, without what was remembered.
#[must_use]
pub fn redacted(text: &str) -> Cow<'_, str> {
    SECRETS.read().unwrap_or_else(PoisonError::into_inner).redacted(text)
}

/// A server's words, without what was remembered, be it short.
#[must_use]
pub fn of_server(text: &str) -> Cow<'_, str> {
    SECRETS.read().unwrap_or_else(PoisonError::into_inner).of_server(text)
}

/// Secrets, and how to take them out of a text.
#[derive(Default)]
pub struct Redactor {
    /// Every 16 bytes in a row of every form.
    windows: HashSet<u128>,
    filter: Vec<u64>,
    /// Short secrets and their forms.
    words: Vec<Vec<u8>>,
    known: HashSet<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.known.len())
    }
}

impl Redactor {
    fn knows(&self, secret: &str) -> bool {
        self.known.contains(&crate::digest(secret))
    }

    /// Takes note of a secret.
    pub fn remember(&mut self, secret: &str) {
        let secret = secret.trim();
        let length = secret.chars().filter(|c| !is_dropped(*c)).count();
        if length < SHORTEST || !self.known.insert(crate::digest(secret)) {
            return;
        }
        let secret = &secret[..secret.floor_char_boundary(LONGEST)];
        if length < LEAST {
            let forms = [secret.as_bytes().to_vec(), utf16(secret)];
            self.words.push(secret.as_bytes().to_vec());
            for form in forms.iter().map(|form| BASE64_STANDARD.encode(form)) {
                self.words.push(form.trim_end_matches('=').as_bytes().to_vec());
                self.words.push(form.into_bytes());
            }
            self.words.sort_by_key(|word| std::cmp::Reverse(word.len()));
            self.words.dedup();
            return;
        }
        self.form(secret);
        if secret.contains(' ') {
            self.form(&secret.replace(' ', "+"));
        }
        self.base64(secret.as_bytes());
        if secret.len() <= UTF16 {
            self.base64(&utf16(secret));
        }
    }

    /// The bytes as base64 by themselves, and inside of more bytes at each of the three places that differ.
    fn base64(&mut self, bytes: &[u8]) {
        self.form(&BASE64_STANDARD.encode(bytes));
        for before in 0..3 {
            let text = BASE64_STANDARD.encode([&[0; 2][..before], bytes].concat());
            // What depends on the neighbours is left out.
            let end = text.find('=').map_or(text.len(), |padding| padding - 1);
            self.form(text.get([0, 2, 3][before]..end).unwrap_or_default());
        }
    }

    fn form(&mut self, form: &str) {
        self.filter.resize(FILTER / 64, 0);
        for window in windows(&stripped(form, 0)) {
            self.windows.insert(window.key);
            let bit = bit(window.key);
            self.filter[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Our words without long secrets.
    #[must_use]
    pub fn redacted<'t>(&self, text: &'t str) -> Cow<'t, str> {
        cut(text, self.long(text))
    }

    /// A server's words without any.
    #[must_use]
    pub fn of_server<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut marks = self.long(text);
        if !self.words.is_empty() {
            let mut units = as_is(text, 0);
            for level in 0..=LEVELS {
                self.short(&units, &mut marks);
                if level == LEVELS || !escapes(&units) {
                    break;
                }
                units = decoded(&units);
            }
        }
        cut(text, marks)
    }

    fn long(&self, text: &str) -> Vec<(usize, usize)> {
        let mut marks = Vec::new();
        if self.windows.is_empty() || text.len() < LEAST || self.is_plain(text) {
            return marks;
        }
        let mut start = 0;
        loop {
            let end = text.floor_char_boundary(start + PIECE);
            let mut units = stripped(&text[start..end], start);
            for level in 0..=LEVELS {
                for window in windows(&units) {
                    if self.may_be(window.key) && self.windows.contains(&window.key) {
                        mark(&mut marks, window.start, window.end);
                    }
                }
                if level == LEVELS || !escapes(&units) {
                    break;
                }
                units = decoded(&units);
                units.retain(|unit| !unit.byte.is_ascii_whitespace() && !unit.byte.is_ascii_control());
            }
            if end == text.len() {
                return marks;
            }
            start = text.floor_char_boundary(end - OVERLAP);
        }
    }

    /// Whether nothing of a secret is in a text of plain characters, without keeping anything beside it: rows come by the
    /// million. What it can't say at once it leaves to the others.
    fn is_plain(&self, text: &str) -> bool {
        let (mut key, mut length) = (0u128, 0);
        let mut before = 0;
        for byte in text.bytes() {
            let escape = matches!(byte, b'%' | b'\\' | b'&') || (byte == b'x' && before == b'_');
            if escape || matches!(byte, b'\n' | b'\r' | 0x1b) || !byte.is_ascii() {
                return false;
            }
            before = byte;
            if byte <= b' ' || byte == 0x7f {
                continue;
            }
            key = (key << 8) | u128::from(folded(byte));
            length += 1;
            if length >= LEAST && self.may_be(key) {
                return false;
            }
        }
        true
    }

    fn may_be(&self, key: u128) -> bool {
        let bit = bit(key);
        self.filter[bit / 64] & (1 << (bit % 64)) != 0
    }

    fn short(&self, units: &[Unit], marks: &mut Vec<(usize, usize)>) {
        for word in &self.words {
            let Some(first) = word.first() else { continue };
            let mut at = 0;
            while let Some(found) = units[at..].iter().position(|unit| unit.byte == *first) {
                let (from, to) = (at + found, at + found + word.len());
                at = from + 1;
                let Some(here) = units.get(from..to) else { break };
                if here.iter().zip(word).all(|(unit, byte)| unit.byte == *byte)
                    && begins(&units[from.saturating_sub(4)..from])
                    && ends(&units[to..units.len().min(to + 5)])
                {
                    mark(marks, here[0].start, here[here.len() - 1].end);
                    at = to;
                }
            }
        }
    }
}

/// A byte of a text as it is after escapes were undone, and where it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Unit {
    byte: u8,
    start: usize,
    end: usize,
}

struct Window {
    key: u128,
    start: usize,
    end: usize,
}

/// Each 16 bytes in a row.
fn windows(units: &[Unit]) -> impl Iterator<Item = Window> {
    let mut key = 0u128;
    units.iter().enumerate().filter_map(move |(at, unit)| {
        key = (key << 8) | u128::from(folded(unit.byte));
        (at + 1 >= LEAST).then(|| Window { key, start: units[at + 1 - LEAST].start, end: unit.end })
    })
}

/// The two alphabets of base64 are one.
fn folded(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    }
}

/// Where a key stands in the filter.
fn bit(key: u128) -> usize {
    let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize % FILTER
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn is_dropped(c: char) -> bool {
    c.is_whitespace() || crate::is_hidden(c)
}

/// A text as it stands, `start` bytes into a longer one.
fn as_is(text: &str, start: usize) -> Vec<Unit> {
    text.bytes().enumerate().map(|(at, byte)| Unit { byte, start: start + at, end: start + at + 1 }).collect()
}

/// The same without white space, colours and what is not to be seen, and without the rule at the left where PowerShell wraps.
fn stripped(text: &str, start: usize) -> Vec<Unit> {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text.char_indices().peekable();
    let mut fresh = false;
    while let Some((at, c)) = rest.next() {
        if c == '\u{9b}' || (c == '\u{1b}' && rest.next_if(|(_, c)| *c == '[').is_some()) {
            while rest.next_if(|(_, c)| matches!(c, ' '..='?')).is_some() {}
            rest.next_if(|(_, c)| matches!(c, '@'..='~'));
            continue;
        }
        if is_dropped(c) {
            fresh |= matches!(c, '\n' | '\r');
            continue;
        }
        if std::mem::take(&mut fresh) && matches!(c, '|' | '+' | '>') && rest.peek().is_some_and(|(_, c)| *c == ' ') {
            continue;
        }
        let end = start + at + c.len_utf8();
        let mut buffer = [0; 4];
        units.extend(c.encode_utf8(&mut buffer).bytes().map(|byte| Unit { byte, start: start + at, end }));
    }
    units
}

fn escapes(units: &[Unit]) -> bool {
    let clixml = |pair: &[Unit]| pair[0].byte == b'_' && pair[1].byte == b'x';
    units.iter().any(|unit| matches!(unit.byte, b'%' | b'\\' | b'&')) || units.windows(2).any(clixml)
}

/// Undoes one layer of escapes: of URLs, of JSON, of XML and of CLIXML.
fn decoded(units: &[Unit]) -> Vec<Unit> {
    let byte = |at: usize| units.get(at).map(|unit| unit.byte);
    let hex = |from: usize, count: usize| {
        (from..from + count).try_fold(0u32, |value, at| Some(value * 16 + char::from(byte(at)?).to_digit(16)?))
    };
    let mut out: Vec<Unit> = Vec::with_capacity(units.len());
    let mut high = None;
    let mut at = 0;
    while let Some(first) = byte(at) {
        // What it stands for, and how many units it takes.
        let found: Option<(u32, usize, bool)> = match first {
            b'%' => hex(at + 1, 2).map(|value| (value, 3, true)),
            b'\\' => match byte(at + 1) {
                Some(b'u') => hex(at + 2, 4).map(|value| (value, 6, false)),
                Some(b'n') => Some((0x0a, 2, false)),
                Some(b'r') => Some((0x0d, 2, false)),
                Some(b't') => Some((0x09, 2, false)),
                Some(escaped @ (b'"' | b'\\' | b'/' | b'\'')) => Some((escaped.into(), 2, false)),
                _ => None,
            },
            b'_' if byte(at + 1) == Some(b'x') && byte(at + 6) == Some(b'_') => {
                hex(at + 2, 4).map(|value| (value, 7, false))
            }
            b'&' => entity(&units[at + 1..units.len().min(at + 11)]).map(|(value, count)| (value, count + 1, false)),
            _ => None,
        };
        let Some((value, count, is_byte)) = found else {
            out.push(units[at]);
            at += 1;
            continue;
        };
        let (start, end) = (units[at].start, units[at + count - 1].end);
        at += count;
        if is_byte {
            out.extend(u8::try_from(value).map(|byte| Unit { byte, start, end }));
            continue;
        }
        // Two halves of one character.
        let (value, start) = match (high.take(), value) {
            (_, 0xd800..=0xdbff) => {
                high = Some((value, start));
                continue;
            }
            (Some((high, start)), 0xdc00..=0xdfff) => (0x1_0000 + ((high - 0xd800) << 10) + (value - 0xdc00), start),
            (_, value) => (value, start),
        };
        let mut buffer = [0; 4];
        let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend(c.encode_utf8(&mut buffer).bytes().map(|byte| Unit { byte, start, end }));
    }
    out
}

/// What follows `&`: the character, and how many units with the semicolon.
fn entity(units: &[Unit]) -> Option<(u32, usize)> {
    let end = units.iter().position(|unit| unit.byte == b';')?;
    let name: String = units[..end].iter().map(|unit| char::from(unit.byte)).collect();
    let value = match name.as_str() {
        "amp" => u32::from(b'&'),
        "lt" => u32::from(b'<'),
        "gt" => u32::from(b'>'),
        "quot" => u32::from(b'"'),
        "apos" => u32::from(b'\''),
        other => {
            let number = other.strip_prefix('#')?;
            match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            }
        }
    };
    Some((value, end + 1))
}

fn stands_apart(c: char) -> bool {
    c.is_whitespace()
        || crate::is_hidden(c)
        || "\"'`()[]{}<>=,;:!?|&*".contains(c)
        || (!c.is_ascii() && !c.is_alphanumeric())
}

/// Whether a word may begin after these bytes.
fn begins(before: &[Unit]) -> bool {
    let bytes: Vec<u8> = before.iter().map(|unit| unit.byte).collect();
    (0..bytes.len())
        .rev()
        .find_map(|at| std::str::from_utf8(&bytes[at..]).ok()?.chars().next())
        .is_none_or(stands_apart)
}

/// Whether a word may end before these bytes. A full stop ends a word where it ends a sentence.
fn ends(after: &[Unit]) -> bool {
    let bytes: Vec<u8> = after.iter().map(|unit| unit.byte).collect();
    let text = bytes.utf8_chunks().next().map(|chunk| chunk.valid().to_owned()).unwrap_or_default();
    let mut next = text.chars();
    match next.next() {
        Some('.') => next.next().is_none_or(stands_apart),
        other => other.is_none_or(stands_apart),
    }
}

/// Adds a place; what touches the one before is one with it.
fn mark(marks: &mut Vec<(usize, usize)>, start: usize, end: usize) {
    match marks.last_mut() {
        Some(last) if start >= last.0 && start <= last.1 => last.1 = last.1.max(end),
        _ => marks.push((start, end)),
    }
}

fn cut(text: &str, mut marks: Vec<(usize, usize)>) -> Cow<'_, str> {
    if marks.is_empty() {
        return Cow::Borrowed(text);
    }
    marks.sort_unstable();
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end) in marks {
        if start >= at {
            // Two that touch are shown once.
            if start > at || kept.is_empty() {
                kept.push_str(&text[at..start]);
                kept.push_str(REDACTED);
            }
        }
        at = at.max(end);
    }
    kept.push_str(&text[at..]);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all that an encoder may have to escape.
    const SECRET: &str = "p8Q~/a\"b\\c<d>&e+f%g é=h'0123456789";

    /// The same as other people's encoders write it (Python's urllib, json, html, xml.sax and base64).
    const FORMS: &[(&str, &str)] = &[
        ("as it is", SECRET),
        ("percent", "p8Q~%2Fa%22b%5Cc%3Cd%3E%26e%2Bf%25g%20%C3%A9%3Dh%270123456789"),
        ("percent, small", "p8Q~%2fa%22b%5cc%3cd%3e%26e%2bf%25g%20%c3%a9%3dh%270123456789"),
        ("form", "p8Q~%2Fa%22b%5Cc%3Cd%3E%26e%2Bf%25g+%C3%A9%3Dh%270123456789"),
        ("JSON", r#"p8Q~/a\"b\\c<d>&e+f%g \u00e9=h'0123456789"#),
        ("JSON of .NET", r#"p8Q~\/a\"b\\c\u003cd\u003e\u0026e\u002Bf%g \u00e9=h\u00270123456789"#),
        ("XML", "p8Q~/a\"b\\c&lt;d&gt;&amp;e+f%g é=h'0123456789"),
        ("HTML", "p8Q~/a&quot;b\\c&lt;d&gt;&amp;e+f%g é=h&#x27;0123456789"),
        ("JSON in JSON", r#"p8Q~/a\\\"b\\\\c<d>&e+f%g \\u00e9=h'0123456789"#),
        ("JSON in XML", r#"p8Q~/a\"b\\c&lt;d&gt;&amp;e+f%g \u00e9=h'0123456789"#),
        ("base64", "cDhRfi9hImJcYzxkPiZlK2YlZyDDqT1oJzAxMjM0NTY3ODk="),
        (
            "base64 of UTF-16",
            "cAA4AFEAfgAvAGEAIgBiAFwAYwA8AGQAPgAmAGUAKwBmACUAZwAgAOkAPQBoACcAMAAxADIAMwA0ADUANgA3ADgAOQA=",
        ),
        ("base64 of user:SECRET", "dXNlcjpwOFF+L2EiYlxjPGQ+JmUrZiVnIMOpPWgnMDEyMzQ1Njc4OQ=="),
        ("base64 of us:SECRETxyz", "dXM6cDhRfi9hImJcYzxkPiZlK2YlZyDDqT1oJzAxMjM0NTY3ODl4eXo="),
        ("base64url of user:SECRET", "dXNlcjpwOFF-L2EiYlxjPGQ-JmUrZiVnIMOpPWgnMDEyMzQ1Njc4OQ"),
    ];

    fn knowing(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        secrets.iter().for_each(|secret| redactor.remember(secret));
        redactor
    }

    /// No 16 characters in a row of a text are left, white space aside.
    fn assert_gone(left: &str, of: &str, what: &str) {
        let plain = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>();
        let (left, of) = (plain(left), plain(of));
        for part in of.windows(LEAST) {
            assert!(!left.windows(LEAST).any(|seen| seen == part), "{what}: {:?}", left.iter().collect::<String>());
        }
    }

    #[test]
    fn every_form_of_a_long_secret_is_taken_out_and_nothing_beside_it() {
        let redactor = knowing(&[SECRET]);
        for (form, text) in FORMS {
            let whole = redactor.redacted(&format!("the token {text} is not good")).into_owned();
            assert_gone(&whole, text, form);
            assert!(whole.starts_with("the token ") && whole.ends_with(" is not good"), "{form}: {whole}");
            assert!(whole.contains(REDACTED) && whole.len() < 60, "{form}: {whole}");
            // Wrapped, as a console does it, with a rule at the left or with a colour in between.
            for wrap in ["\r\n", "\n    ", "\n     | ", "\u{1b}[31m"] {
                let chars: Vec<char> = text.chars().collect();
                let wrapped: Vec<String> = chars.chunks(11).map(|chunk| chunk.iter().collect()).collect();
                let shown = redactor.redacted(&format!("x {} y", wrapped.join(wrap))).into_owned();
                assert!(shown.len() < 40, "{form}, wrapped with {wrap:?}: {shown}");
            }
        }
    }

    #[test]
    fn what_is_cut_at_either_end_goes_down_to_sixteen_characters() {
        let secret = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ";
        let redactor = knowing(&[secret]);
        for kept in LEAST..secret.len() {
            for part in [&secret[..kept], &secret[secret.len() - kept..]] {
                assert_eq!(redactor.redacted(&format!("<{part}...>")), "<[redacted]...>", "{kept}");
            }
        }
        let fifteen = format!("<{}...>", &secret[..15]);
        assert_eq!(redactor.redacted(&fifteen), fifteen);
        let base64 = BASE64_STANDARD.encode(secret);
        assert_eq!(redactor.redacted(&format!("<{}>", &base64[..16])), "<[redacted]>");
        assert_eq!(redactor.redacted(&format!("<{}>", &base64[base64.len() - 16..])), "<[redacted]>");
    }

    #[test]
    fn a_short_secret_goes_as_a_whole_word_from_a_servers_words_alone() {
        let redactor = knowing(&["azurestack"]);
        let ours = "AZURESTACK\\azurestack azurestack YXp1cmVzdGFjaw==";
        assert_eq!(redactor.redacted(ours), ours);
        for (said, shown) in [
            ("the password azurestack is wrong", "the password [redacted] is wrong"),
            ("wrong: 'azurestack'.", "wrong: '[redacted]'."),
            ("It is azurestack.", "It is [redacted]."),
            ("password=azurestack&user=x", "password=[redacted]&user=x"),
            ("“azurestack”", "“[redacted]”"),
            ("in base64: YXp1cmVzdGFjaw==", "in base64: [redacted]"),
            ("escaped: {\\\"p\\\":\\\"azurestack\\\"}", "escaped: {\\\"p\\\":\\\"[redacted]\\\"}"),
        ] {
            assert_eq!(redactor.of_server(said), shown);
        }
        for kept in [
            "azurestack-5e2f",
            "x.azurestack.external",
            "/registrations/azurestack",
            "AZURESTACK\\CloudAdmin",
            "azurestacks éazurestack azurestacké",
            "Microsoft.azurestack",
        ] {
            assert_eq!(redactor.of_server(kept), kept);
        }
        // With something to escape in it.
        let redactor = knowing(&["P&ss \"w\"rd"]);
        for said in ["P&ss \"w\"rd", "P&amp;ss &quot;w&quot;rd", "P%26ss%20%22w%22rd", r#"P&ss \"w\"rd"#] {
            assert_eq!(redactor.of_server(&format!("<{said}>")), "<[redacted]>");
        }
    }

    #[test]
    fn what_is_nobodys_secret_stays_and_the_same_secret_counts_once() {
        let mut redactor = knowing(&["", "  ", "ab", SECRET, SECRET]);
        assert_eq!(format!("{redactor:?}"), "Redactor(1 secrets)");
        let text = "a ab 'ab' é漢 \u{202e}% & \\ _ &; %2 \\u12 \\ud83d &#xZZ; _x00";
        assert_eq!(redactor.of_server(text), text);
        let windows = redactor.windows.len();
        redactor.remember(SECRET);
        assert_eq!(redactor.windows.len(), windows);
    }

    #[test]
    fn long_texts_take_time_in_proportion_and_nothing_is_missed_at_a_seam() {
        let secret = "0123456789abcdefghijklmnopqrstuvwxyz";
        let redactor = knowing(&[secret, "azurestack"]);
        for before in (PIECE - OVERLAP - 40..PIECE - OVERLAP + 8).step_by(6) {
            let text = format!("{}{secret}", "é".repeat(before / 2));
            assert!(redactor.redacted(&text).ends_with("é[redacted]"), "{before}");
        }
        for before in (PIECE - 40..PIECE + 8).step_by(5) {
            let text = format!("{}{secret}{}", ".".repeat(before), ".".repeat(before));
            let shown = redactor.redacted(&text);
            assert_eq!(shown.len(), before * 2 + REDACTED.len(), "{before}");
        }
        // What is nearly the secret at every place: each more than tenfold time would be a square.
        let time = |size: usize| {
            let texts = ["0123456789abcde ".repeat(size / 16), "%25".repeat(size / 3), "azurestac".repeat(size / 9)];
            let begun = std::time::Instant::now();
            assert!(texts.iter().all(|text| redactor.of_server(text) == text.as_str()));
            begun.elapsed()
        };
        time(50_000);
        let (small, large) = (time(50_000), time(1_000_000));
        assert!(large < small * 100, "{small:?} for a twentieth of {large:?}");
    }

    #[test]
    fn real_powershell_says_a_thrown_text_twice_and_neither_shows_it() {
        // `throw "the token $RefreshToken is not good"`: the message, and the FullyQualifiedErrorId.
        let token = format!("1.AVsA{}", "q3V7xY_-".repeat(150));
        let redactor = knowing(&[&token]);
        let said = format!("the token {token} is not good");
        for text in [said.clone(), format!("FullyQualifiedErrorId: {said},New-AzureBridgeServicePrincipal")] {
            let shown = redactor.of_server(&text).into_owned();
            assert_gone(&shown, &token, "thrown");
            assert!(shown.contains("the token [redacted] is not good"), "{shown}");
        }
    }

    #[test]
    fn a_private_keys_body_is_a_secret_and_its_frame_is_not() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----\n";
        remember_pem(pem);
        assert_eq!(redacted("-----BEGIN PRIVATE KEY----- is missing"), "-----BEGIN PRIVATE KEY----- is missing");
        assert_eq!(
            redacted("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIB and BgkqhkiG9w0B\nAQEFAAS"),
            "[redacted] and [redacted]"
        );
    }
}
