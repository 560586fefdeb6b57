//! The door: whatever leaves azsreg in words goes through here, be it to stdout, to stderr, to the progress line, to the log or
//! to a file for support. Secrets are taken out, and other people's words are data: they move no cursor and begin no line.
//!
//! What is printed is made of pieces that are cleaned as they come in; colours are put on afterwards. A line has no other way.

use std::borrow::Cow;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use azsreg_model::redact::redacted;
use azsreg_model::{is_hidden, printable, printable_json};
use owo_colors::{OwoColorize as _, Style};
use serde::Serialize;

use crate::fold;

/// A text as one line that a terminal shows as it is, without secrets.
pub(crate) fn clean(text: &str) -> String {
    printable(&redacted(text)).into_owned()
}

/// A line of the command's, as it is printed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Line(String);

impl Line {
    pub(crate) fn of(text: &str) -> Self {
        Self(clean(text))
    }

    /// With a further piece.
    pub(crate) fn then(mut self, text: &str) -> Self {
        self.0.push_str(&clean(text));
        self
    }

    /// With a further piece, painted.
    pub(crate) fn painted(mut self, text: &str, style: Style) -> Self {
        self.0.push_str(&clean(text).style(style).to_string());
        self
    }

    /// To stdout: data.
    pub(crate) fn say(&self) {
        match fold::stdout() {
            Some(width) => put_data(&fold::fold(&self.0, width)),
            None => put_data(&self.0),
        }
    }

    /// To stdout, as it is however wide the terminal is: what a shell or a program reads.
    pub(crate) fn say_whole(&self) {
        put_data(&self.0);
    }

    /// To stderr: for the person.
    pub(crate) fn tell(&self) {
        let folded = fold::stderr().map(|width| fold::fold(&self.0, width));
        let _ = writeln!(anstream::stderr(), "{}", folded.as_deref().unwrap_or(&self.0));
    }

    /// As it is printed.
    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A document to stderr, where stdout has begun something else.
pub(crate) fn tell_json(value: &impl Serialize) {
    let _ = writeln!(anstream::stderr(), "{}", json_line(value));
}

/// A document to stdout.
pub(crate) fn say_json(value: &impl Serialize) {
    put_data(&json_pretty(value));
}

/// A JSON document over several lines: every character is kept, what a terminal would obey is escaped.
pub(crate) fn json_pretty(value: &impl Serialize) -> String {
    safe_json(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A JSON document in one line.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    safe_json(&serde_json::to_string(value).unwrap_or_default())
}

fn safe_json(json: &str) -> String {
    printable_json(&without_secrets(json)).into_owned()
}

/// JSON whose strings hold no secret. Its form is not touched, whatever a secret is made of.
fn without_secrets(json: &str) -> Cow<'_, str> {
    if matches!(redacted(json), Cow::Borrowed(_)) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(start) = rest.find('"') {
        text.push_str(&rest[..start]);
        let inner = &rest.as_bytes()[start + 1..];
        let mut escaped = false;
        let end = inner.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let (token, after) = rest[start..].split_at(end.map_or(rest.len() - start, |end| end + 2));
        let string: String = serde_json::from_str(token).unwrap_or_default();
        match redacted(&string) {
            Cow::Borrowed(_) => text.push_str(token),
            Cow::Owned(shown) => text.push_str(&serde_json::to_string(&shown).unwrap_or_default()),
        }
        rest = after;
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// A cell of CSV (RFC 4180). A text that a spreadsheet would take for a formula begins with an apostrophe; a number is left.
pub(crate) fn csv_cell(text: &str) -> String {
    let formula =
        text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) || text.starts_with(['\t', '\r']);
    let number = !text.is_empty() && text.parse::<f64>().is_ok_and(f64::is_finite);
    let mark = if formula && !number { "'" } else { "" };
    let cell = format!("{mark}{}", clean(text));
    if cell.contains([',', '"']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// The value of a Prometheus label, with its quotes.
pub(crate) fn label(text: &str) -> String {
    let lines: Vec<String> =
        redacted(text).split('\n').map(|line| printable(line).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}

/// A log whose every event is one line, without secrets: what an event quotes can't be taken for another event. That an event
/// can't be written decides nothing: it is said once, and the command goes on.
pub(crate) struct Log<W>(pub(crate) W);

/// Whether it was said that the log can't be written.
static LOG_FAILED: AtomicBool = AtomicBool::new(false);

impl<W: Write> Write for Log<W> {
    /// An event, whole: so the subscriber writes it.
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = clean(text.strip_suffix('\n').unwrap_or(&text));
        let written = self.0.write_all(format!("{line}\n").as_bytes());
        if let Err(error) = written.and_then(|()| self.0.flush())
            && !LOG_FAILED.swap(true, Ordering::Relaxed)
        {
            Line::of(&format!("warning: the log can't be written: {error}. The command goes on.")).tell();
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What could not be written to stdout, and why.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) why: String,
    pub(crate) lines: Vec<String>,
    /// How much was lost beside the lines.
    pub(crate) more: bool,
}

static LOST: Mutex<Option<Lost>> = Mutex::new(None);

/// So much of what could not be written is said elsewhere.
const KEPT: usize = 16 << 10;

/// What could not be written, if anything.
pub(crate) fn lost() -> Option<Lost> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Data could not be written: a full disk, mostly. A reader that has gone (`| head`) is no failure of the command.
pub(crate) fn lose(text: Option<&str>, error: &std::io::Error) {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return;
    }
    let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = lost.get_or_insert_with(|| Lost { why: error.to_string(), lines: Vec::new(), more: false });
    match text {
        Some(text) if lost.lines.iter().map(String::len).sum::<usize>() + text.len() <= KEPT => {
            lost.lines.push(text.to_owned());
        }
        _ => lost.more = true,
    }
}

/// Prints lines that are clean.
fn put_data(text: &str) {
    debug_assert!(
        !text.contains(|c| is_hidden(c) && c != '\n' && c != '\u{1b}'),
        "{text:?} did not come through the door"
    );
    if let Err(error) = writeln!(anstream::stdout(), "{text}") {
        // Without colours: it is said elsewhere.
        lose(Some(&anstream::adapter::strip_str(text).to_string()), &error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azsreg_model::redact::remember;

    #[test]
    fn a_log_has_one_line_an_event_whatever_the_event_quotes() {
        remember("canary-0123456789-canary");
        let mut log = Log(Vec::new());
        log.write_all(b" WARN azsreg_pep: x\n2026-11-28 INFO azsreg: registered canary-0123456789-\ncanary\x1b[2K\n")
            .unwrap();
        log.write_all(b" INFO azsreg: y\n").unwrap();
        assert_eq!(
            String::from_utf8(log.0).unwrap(),
            " WARN azsreg_pep: x 2026-11-28 INFO azsreg: registered [redacted]\\x1b[2K\n INFO azsreg: y\n"
        );
    }

    #[test]
    fn json_keeps_its_form_whatever_a_secret_is_made_of() {
        remember("\"quoted\": \"0123456789abcdef\\");
        let document = serde_json::json!({"a": "\"quoted\": \"0123456789abcdef\\", "quoted": "0123456789abcdef", "b": ["x\u{9b}y", 1]});
        let shown = json_line(&document);
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["a"], "[redacted]");
        assert_eq!(read["b"], serde_json::json!(["x\u{9b}y", 1]));
        assert!(shown.contains("x\\u009by"), "{shown}");
    }

    #[test]
    fn a_spreadsheet_computes_nothing_of_ours() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'=1"),
            ("\r=1", "'=1"),
            ("  =1", "'  =1"),
            ("＝1", "'＝1"),
            ("=HYPERLINK(\"x\",\"y\")", "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\""),
            ("-5", "-5"),
            ("-0.00001", "-0.00001"),
            ("+1.5", "+1.5"),
            ("-inf", "'-inf"),
            ("a=b", "a=b"),
            ("", ""),
            ("a\nb", "a b"),
            ("a\u{1b}[2J", "a\\x1b[2J"),
        ] {
            assert_eq!(csv_cell(text), cell, "{text:?}");
        }
    }

    #[test]
    fn a_label_is_one_value_and_its_escapes_are_those_of_the_format() {
        assert_eq!(label("a\"b\\c\nd\u{1b}[2J"), r#""a\"b\\c\nd\\x1b[2J""#);
    }

    #[test]
    fn a_colour_is_ours_and_what_is_quoted_has_none() {
        let line = Line::of("\u{1b}[31mx").painted("y\u{1b}[0m\nnext: z", Style::new().red()).then("\r\nnext: w");
        assert_eq!(line.as_str(), "\\x1b[31mx\u{1b}[31my\\x1b[0m next: z\u{1b}[0mnext: w");
    }
}
