//! Other people's words on a terminal: what a server, a token or a file's name holds is data, and data moves no cursor, breaks
//! no line and turns no direction.

use std::borrow::Cow;

/// Whether a character is not to be seen as itself: controls (C0, DEL, C1), what turns the direction of text, and what takes no
/// room (UAX #9, and the default ignorable code points of UAX #44).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn breaks(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// A text as one line that a terminal shows as it is: line breaks and tabs are a space, other hidden characters are written out
/// (`\x1b`, `\u{202e}`).
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    let mut broken = false;
    for c in text.trim_matches(breaks).chars() {
        if breaks(c) {
            broken = true;
            continue;
        }
        if std::mem::take(&mut broken) {
            line.push(' ');
        }
        match u32::from(c) {
            code if is_hidden(c) && code < 0x100 => line.push_str(&format!("\\x{code:02x}")),
            code if is_hidden(c) => line.push_str(&format!("\\u{{{code:x}}}")),
            _ => line.push(c),
        }
    }
    Cow::Owned(line)
}

/// JSON with what serde leaves as it is and a terminal would obey (DEL, C1, directions) as `\uXXXX`: the same value. The line
/// breaks between members stay.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c >= '\u{7f}' && is_hidden(c);
    if json.is_ascii() && !json.contains('\u{7f}') || !json.contains(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if obeyed(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_or_begins_a_line() {
        assert_eq!(printable("a b é 漢 'x' \\n"), "a b é 漢 'x' \\n");
        assert_eq!(printable("bad\r\nnext: rm -rf\n"), "bad next: rm -rf");
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}Hc\u{7f}\u{0}"), "a\\x1b[2Jb\\x9bHc\\x7f\\x00");
        assert_eq!(
            printable("x\u{202e}y\u{2066}z\u{200b}\u{feff}\u{e0041}"),
            "x\\u{202e}y\\u{2066}z\\u{200b}\\u{feff}\\u{e0041}"
        );
        assert_eq!(printable("a\u{2028}b\u{85}c\td"), "a b c d");
        for code in (0..=0x10_ffff).filter_map(char::from_u32) {
            let shown = printable(&format!("a{code}b")).into_owned();
            assert!(!shown.contains(is_hidden), "{code:?} is shown as {shown:?}");
            assert_eq!(printable(&shown), shown, "what is printable stays");
        }
    }

    #[test]
    fn json_keeps_every_character_escaped() {
        let all: String = ('\0'..='\u{2ff}').chain(['\u{202e}', '\u{e0041}', '漢', '\u{1f600}']).collect();
        let json = serde_json::to_string_pretty(&serde_json::json!({ "a": all })).unwrap();
        assert!(json.contains('\u{9b}'), "serde leaves C1 as it is");
        let shown = printable_json(&json);
        assert!(!shown.contains(|c| is_hidden(c) && c != '\n'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["a"], all);
        assert!(shown.contains("\\u009b") && shown.contains("\\udb40\\udc41") && shown.contains('漢'));
    }
}
