//! The words of a log that are shown: without secrets, on one line, and not too many.

use super::secrets::secrets;

/// The most characters of an excerpt.
pub(super) const EXCERPT: usize = 300;

/// A log's text, with what is known of all of it.
pub(super) struct Log<'t> {
    text: &'t str,
    secret: Vec<bool>,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'t> Log<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, secret: secrets(text), lines }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// The line of an offset, from 1.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|begins| *begins <= at)
    }

    /// The words of an entry from the line of `at` on, without where in the script it was.
    pub(super) fn excerpt(&self, at: usize, end: usize) -> String {
        let Self { text, secret, .. } = self;
        let line = self.lines[self.line_of(at) - 1];
        let (start, mut words) = if at - line > 200 {
            (text.floor_char_boundary(at - 100), "…".to_owned())
        } else {
            (line, String::new())
        };
        let mut offset = start;
        for line in text[start..end].split_inclusive('\n') {
            let words_of = line.trim_start();
            let place = (words_of.starts_with("At ") && words_of.contains("char:")) || words_of.starts_with("+ ");
            if offset > start && place {
                break;
            }
            let shown = if offset > start { message_of(line) } else { Some(0) };
            let Some(skipped) = shown else {
                offset += line.len();
                continue;
            };
            for (index, char) in line.char_indices().filter(|(index, _)| *index >= skipped) {
                match secret[offset + index] {
                    true if words.ends_with("[redacted]") => {}
                    true => words.push_str("[redacted]"),
                    false if !char.is_whitespace() && !char.is_control() => words.push(char),
                    false if words.is_empty() || words.ends_with(' ') => {}
                    false => words.push(' '),
                }
            }
            offset += line.len();
        }
        words.trim_end().chars().take(EXCERPT).collect()
    }
}

/// Where the message begins in a line of an error as PowerShell 7 shows it, behind its bar; `None` where the line shows the place
/// in the script.
fn message_of(line: &str) -> Option<usize> {
    let words = line.trim();
    let number = words.split('|').next().unwrap_or_default().trim();
    if words == "Line |"
        || words.contains('|') && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    match words.strip_prefix('|') {
        Some(rest) if rest.trim_start().starts_with('~') => None,
        Some(_) => line.find('|').map(|at| at + 1),
        None => Some(0),
    }
}
