//! Lines that are longer than the terminal: folded between words, with what follows under what it belongs to. An id or a GUID is
//! never broken; a path that is longer than the terminal is broken after a slash. A command to type is folded as any text is, so
//! that each of its words stays whole. What goes to a file or a pipe is left as it is.

use std::io::IsTerminal as _;

use console::measure_text_width;

/// No terminal is taken for narrower.
const NARROWEST: usize = 44;
/// As much as a GUID needs under a hanging indent; where less is left, the indent is small.
const ROOM: usize = 38;

/// How wide stdout is, where it is a terminal.
pub(crate) fn stdout() -> Option<usize> {
    width(std::io::stdout().is_terminal(), &console::Term::stdout())
}

/// How wide stderr is, where it is a terminal.
pub(crate) fn stderr() -> Option<usize> {
    width(std::io::stderr().is_terminal(), &console::Term::stderr())
}

fn width(terminal: bool, term: &console::Term) -> Option<usize> {
    if !terminal {
        return None;
    }
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    let width = asked.or_else(|| term.size_checked().map(|(_, columns)| usize::from(columns)))?;
    Some(width.max(NARROWEST))
}

/// A line in lines of a width.
pub(crate) fn fold(line: &str, width: usize) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let hang = hanging(line, width);
    let (mut text, mut at, mut begun) = (String::new(), 0, false);
    for word in words(line, width - hang) {
        let size = measure_text_width(word.trim_end());
        if begun && at + size > width {
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
            text.push_str(&" ".repeat(hang));
            at = hang;
            let word = word.trim_start();
            text.push_str(word);
            at += measure_text_width(word);
        } else {
            text.push_str(word);
            at += measure_text_width(word);
        }
        begun |= size > 0;
    }
    text.truncate(text.trim_end_matches(' ').len());
    text
}

/// Where a GUID begins in a word.
fn guid_in(word: &str) -> Option<usize> {
    const SHAPE: &[u8] = b"00000000-0000-0000-0000-000000000000";
    let fits = |part: &[u8]| {
        SHAPE
            .iter()
            .zip(part)
            .all(|(shape, byte)| if *shape == b'-' { *byte == b'-' } else { byte.is_ascii_hexdigit() })
    };
    word.as_bytes().windows(SHAPE.len()).position(fits)
}

/// Words with the blanks after them; one that is longer than the room is cut after its slashes and before its GUID.
fn words(line: &str, room: usize) -> Vec<&str> {
    let mut words = Vec::new();
    for word in line.split_inclusive(' ') {
        if measure_text_width(word.trim_end()) > room {
            for part in word.split_inclusive('/') {
                let (before, guid) = part.split_at(guid_in(part).unwrap_or(0));
                words.extend([before, guid].into_iter().filter(|part| !part.is_empty()));
            }
        } else {
            words.push(word);
        }
    }
    words
}

/// Where what follows begins: under the text of a label (`next: `) or of the last column, if enough room is left there.
fn hanging(line: &str, width: usize) -> usize {
    let plain = console::strip_ansi_codes(line);
    let indent = plain.len() - plain.trim_start().len();
    let label = plain.trim_start().split_once(": ").map(|(label, _)| label);
    let label = label.filter(|label| label.len() <= 12 && label.bytes().all(|byte| byte.is_ascii_lowercase()));
    let column = plain.char_indices().take(40).filter(|(at, _)| plain[*at..].starts_with("  ")).last();
    let hang = match (label, column) {
        (Some(label), _) => indent + label.len() + 2,
        (None, Some((at, _))) if at > indent => at + 2,
        _ => indent + 2,
    };
    if hang + ROOM <= width { hang } else { (indent + 2).min(6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "2d890443-c2a8-4079-b3bc-a7248143924b";

    fn assert_folded(line: &str) {
        for width in [44, 80, 120] {
            let text = fold(line, width);
            for row in text.lines() {
                assert!(measure_text_width(row) <= width, "{width}: {row:?} of {text}");
            }
            assert_eq!(text.matches(GUID).count(), line.matches(GUID).count(), "{width}: {text}");
            let words = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(words(&text), words(line), "nothing is lost or added");
        }
    }

    #[test]
    fn nothing_is_longer_than_the_terminal_and_no_id_is_broken() {
        for line in [
            format!("error[AZR4003]: the sign-in does not see the subscription {GUID}; it sees {GUID} (azsreg lab)"),
            format!("  would     registration       create AzureStack-x in {GUID} with a token of the stamp"),
            format!(
                "  note: lost: the registration /subscriptions/{GUID}/resourceGroups/azurestack/providers/Microsoft.AzureStack/registrations/AzureStack-1"
            ),
            " next: azsreg register --billing-model capacity --agreement-number NUMBER --subscription ID --name NAME"
                .to_owned(),
            format!("Azure  registration       AzureStack-{GUID}"),
            "Größe Ä Ö Ü 大阪の登録 ".repeat(12),
        ] {
            assert_folded(&line);
        }
    }

    #[test]
    fn what_follows_stands_under_what_it_belongs_to() {
        let text =
            fold(" next: Mend what Azure complains of, then run the same command again: it resumes where it was.", 60);
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows.len() > 1 && rows[1..].iter().all(|row| row.starts_with("       ")), "{text}");
        // In a narrow terminal there is no room under a far column.
        let text = fold(&format!("  done      service-principal  {GUID}, made by this operation before"), 44);
        assert!(text.lines().any(|row| row.trim() == format!("{GUID},")), "{text}");
        assert_eq!(fold("short", 44), "short");
    }

    #[test]
    fn colours_take_no_room() {
        let red = format!("\u{1b}[31m{}\u{1b}[0m", "x".repeat(40));
        assert_eq!(fold(&red, 44), red);
    }
}
