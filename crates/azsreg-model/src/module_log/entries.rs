//! The entries of a log, or of a console's transcript.

/// The entries: each from a time, a stream's name, a prompt or a cmdlet's error to the next one.
pub(super) fn entries(text: &str) -> Vec<(usize, usize)> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at > 0 && begins_entry(line) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).collect()
}

/// Where the entry ends that `from` is in.
pub(super) fn end_of_entry(text: &str, from: usize) -> usize {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if at > from && begins_entry(line) {
            break;
        }
        at += line.len();
    }
    at
}

/// The command that was typed at a prompt: its first word, where it is one of a module.
pub(super) fn command_of(entry: &str) -> Option<&str> {
    let line = entry.lines().next().filter(|line| is_prompt(line))?;
    let typed = line.split_once('>')?.1.trim();
    (!typed.is_empty()).then(|| typed.split_whitespace().find(|word| is_cmdlet(word)).unwrap_or(typed))
}

/// A time, a stream, a prompt, or an error as a console shows it: `New-PSSession : ...`.
pub(super) fn begins_entry(line: &str) -> bool {
    has_time(line.as_bytes())
        || ["VERBOSE:", "WARNING:", "DEBUG:"].iter().any(|stream| line.starts_with(stream))
        || is_prompt(line)
        || is_error(line)
}

/// `2026-03-01.10-15-00`.
fn has_time(line: &[u8]) -> bool {
    let shape = b"0000-00-00.00-00-00";
    line.len() >= shape.len()
        && shape
            .iter()
            .zip(line)
            .all(|(shape, byte)| if *shape == b'0' { byte.is_ascii_digit() } else { shape == byte })
}

/// `PS C:\>` or `[azs-ercs01]: PS>`.
pub(super) fn is_prompt(line: &str) -> bool {
    let line = line.lines().next().unwrap_or_default();
    (line.starts_with("PS ") && line.contains('>')) || (line.starts_with('[') && line.contains("]: PS>"))
}

/// An error as a console shows it: `New-PSSession : ...`, or `New-PSSession: ...` since PowerShell 7.
pub(super) fn is_error(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line.split_once(" : ").or_else(|| line.split_once(": ")).is_some_and(|(head, _)| is_cmdlet(head))
}

/// `Verb-Noun`.
fn is_cmdlet(word: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.split_once('-').is_some_and(|(verb, noun)| plain(verb) && plain(noun))
}
