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

/// An error as a console shows it: `New-PSSession : ...`.
pub(super) fn is_error(line: &str) -> bool {
    line.split_once(" : ").is_some_and(|(head, _)| {
        head.contains('-') && head.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}
