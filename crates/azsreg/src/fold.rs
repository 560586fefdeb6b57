//! Lines that are longer than the terminal: folded between words, with what follows under what it belongs to. An id has a
//! line of its own where it does not fit; one that is longer than the terminal is broken before a slash or its GUID. A
//! command to type stays one command when it is pasted, and an address to open is whole. What goes to a file or a pipe is left
//! as it is.

use std::io::IsTerminal as _;

use azsreg_model::command_of;
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
    let asked = asked.filter(|columns| *columns > 0);
    let width = asked.or_else(|| term.size_checked().map(|(_, columns)| usize::from(columns)))?;
    Some(width.max(NARROWEST))
}

/// A line in lines of a width.
pub(crate) fn fold(line: &str, width: usize) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let hang = hanging(line, width);
    let (mut text, mut at, mut begun, mut goes_on) = (String::new(), 0, false, false);
    for Piece { text: piece, typed, more, apart } in pieces(line, width, hang) {
        let size = measure_text_width(piece.trim_end()) + if more { MORE.len() } else { 0 };
        if begun && (apart || at + size > width) {
            text.truncate(text.trim_end_matches(' ').len());
            text.push_str(if goes_on { MORE } else { "" });
            text.push('\n');
            at = if typed { hang } else { hang.min(width.saturating_sub(size)) };
            text.push_str(&" ".repeat(at));
            let piece = piece.trim_start();
            text.push_str(piece);
            at += measure_text_width(piece);
        } else {
            text.push_str(piece);
            at += measure_text_width(piece);
        }
        begun |= size > 0;
        goes_on = more;
    }
    text.truncate(text.trim_end_matches(' ').len());
    text
}

/// What is kept together, with the blanks after it.
#[derive(Clone, Copy)]
struct Piece<'l> {
    text: &'l str,
    /// Whether it is of a command.
    typed: bool,
    /// Whether the command goes on after it.
    more: bool,
    /// Whether it begins a line.
    apart: bool,
}

/// So a shell knows that a line goes on: without it half a command would run when the whole is pasted.
const MORE: &str = " \\";

fn pieces(line: &str, width: usize, hang: usize) -> Vec<Piece<'_>> {
    let (before, command, after) = parts(line);
    let mut pieces = words(before, width, hang);
    // No mark is one for both cmd and PowerShell: there the terminal wraps the command.
    let typed = if cfg!(windows) { vec![command] } else { shell_words(command) };
    let last = typed.len().saturating_sub(1);
    pieces.extend(typed.into_iter().enumerate().map(|(at, text)| Piece {
        text,
        typed: true,
        more: at < last,
        apart: false,
    }));
    pieces.extend(words(after, width, hang));
    pieces
}

/// What stands before a command to type, the command, and what is said of it.
fn parts(line: &str) -> (&str, &str, &str) {
    let found = line.match_indices("azsreg ").find_map(|(at, _)| {
        let (typed, _) = command_of(&line[at..])?;
        let plain = console::strip_ansi_codes(&line[..at]);
        let before = plain.trim();
        let is_next = before.starts_with("next") || before.starts_with("Next");
        let is_code = before.strip_prefix("AZR").is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
        (is_next && before.ends_with(':') || is_code).then_some((at, at + typed.len()))
    });
    found.map_or((line, "", ""), |(at, end)| (&line[..at], &line[at..end], &line[end..]))
}

/// The words of a command, with the blanks after them; what stands in quotes is one.
fn shell_words(command: &str) -> Vec<&str> {
    let (mut quote, mut escaped, mut begin, mut words) = (None, false, 0, Vec::new());
    for (at, c) in command.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != Some('\'') => escaped = true,
            '\'' | '"' if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(c),
            ' ' if quote.is_none() => {
                words.push(&command[begin..=at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    words.push(&command[begin..]);
    words.retain(|word| !word.is_empty());
    words
}

/// Where GUIDs begin in a word.
fn guids_in(word: &str) -> Vec<usize> {
    const SHAPE: &[u8] = b"00000000-0000-0000-0000-000000000000";
    let fits = |part: &[u8]| {
        SHAPE
            .iter()
            .zip(part)
            .all(|(shape, byte)| if *shape == b'-' { *byte == b'-' } else { byte.is_ascii_hexdigit() })
    };
    let windows = word.as_bytes().windows(SHAPE.len()).enumerate();
    windows.filter(|(_, part)| fits(part)).map(|(at, _)| at).collect()
}

/// Words with the blanks after them. One that does not fit under the indent has a line of its own; one that is longer than any line
/// is cut before its slashes, before its GUID and after a letter of two columns; an address to open is not.
fn words(line: &str, width: usize, hang: usize) -> Vec<Piece<'_>> {
    let plain = Piece { text: "", typed: false, more: false, apart: false };
    let mut words = Vec::new();
    for word in line.split_inclusive(' ') {
        let size = measure_text_width(word.trim_end());
        if size <= width - hang || word.contains("://") {
            words.push(Piece { text: word, ..plain });
        } else if size <= width {
            words.push(Piece { text: word, apart: true, ..plain });
        } else {
            let id = word.contains('/');
            let cut = cut(word).into_iter().enumerate();
            words.extend(cut.map(|(index, text)| Piece { text, apart: id && index == 0, ..plain }));
        }
    }
    words
}

/// The parts of a word that is longer than any line.
fn cut(word: &str) -> Vec<&str> {
    let mut ends: Vec<usize> = word.match_indices('/').map(|(at, _)| at).collect();
    ends.extend(word.char_indices().filter(|(_, c)| is_wide(*c)).map(|(at, c)| at + c.len_utf8()));
    ends.extend(guids_in(word).into_iter().filter(|at| !word[..*at].ends_with('/')));
    ends.push(word.len());
    ends.sort_unstable();
    ends.dedup();
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins.zip(ends.iter().copied()).map(|(from, to)| &word[from..to]).filter(|part| !part.is_empty()).collect()
}

fn is_wide(c: char) -> bool {
    !c.is_ascii() && measure_text_width(c.encode_utf8(&mut [0; 4])) > 1
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
            let words = |text: &str| text.replace(" \\\n", "").split_whitespace().collect::<String>();
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
    fn a_long_id_has_a_line_of_its_own() {
        let id = format!(
            "/subscriptions/{GUID}/resourceGroups/azurestack/providers/Microsoft.AzureStack/registrations/AzureStack-{GUID}"
        );
        let text = fold(&format!("The stamp will be deactivated and {id} deleted."), 80);
        let rows: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(rows[0], "The stamp will be deactivated and");
        assert!(rows[1].starts_with(&format!("/subscriptions/{GUID}/resourceGroups/azurestack")), "{text}");
        assert!(rows.iter().all(|row| !row.ends_with('/')), "{text}");
        // A name with its GUID is whole where a line holds it, whatever the indent.
        let name = format!("AzureStack-{GUID}");
        let text = fold(&format!("  done      registration       {name}, Development"), 50);
        assert!(text.lines().any(|row| row.trim_start().starts_with(&name)), "{text}");
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

    /// What a shell makes of what was pasted.
    fn pasted(text: &str) -> Vec<String> {
        let text = text.split_once("azsreg ").unwrap().1.replace("\\\n", "");
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_command_that_is_folded_is_one_command_when_it_is_pasted() {
        let path = "/home/operator/windows-of-2026/lisbon/registration-tokens-of-november/token.txt";
        let command = format!(
            "azsreg offline register --from {path} --subscription {GUID} --name 'Azure Stack in Lisbon' --plan"
        );
        for head in
            [" next: ", "Next: ", "    next: ", "           AZR4005 ", "Next, from a machine that reaches the stamp: "]
        {
            for width in [44, 80, 120] {
                let text = fold(&format!("{head}{command}"), width);
                assert_eq!(pasted(&text), pasted(&command), "{width}: {text}");
                assert!(text.contains(path) && text.contains("'Azure Stack in Lisbon'"), "{width}: {text}");
                assert!(text.lines().skip(1).all(|row| row.starts_with("  ")), "{width}: {text}");
                for row in text.lines().filter(|row| !row.contains(path)) {
                    assert!(measure_text_width(row) <= width, "{width}: {row:?} of {text}");
                }
            }
        }
        // What is said of it is no part of it, and a sentence is none.
        let text = fold(" next: azsreg status --subscription ID  shows what is there; then go on from it.", 60);
        assert!(!text.contains('\\') && text.contains("it."), "{text}");
        let text = fold(" next: Look at what azsreg status shows, then run the same command again, from here.", 60);
        assert!(!text.contains('\\'), "{text}");
    }

    #[test]
    fn an_address_to_open_is_whole() {
        let url = format!(
            "https://login.example.com/organizations/oauth2/v2.0/authorize?client_id={GUID}&scope=https%3A%2F%2Fx/.default"
        );
        for width in [44, 80, 120] {
            for line in [format!("  {url}"), format!("To sign in, open {url} and enter the code ABCDEFGHI.")] {
                let text = fold(&line, width);
                assert!(text.lines().any(|row| row.contains(&url)), "{width}: {text}");
            }
        }
    }

    #[test]
    fn words_of_two_columns_a_letter_are_measured_and_folded() {
        assert_folded(&format!("error[AZR2001]: {}{GUID}", "登録を有効にできませんでした。".repeat(6)));
    }

    #[test]
    fn colours_take_no_room() {
        let red = format!("\u{1b}[31m{}\u{1b}[0m", "x".repeat(40));
        assert_eq!(fold(&red, 44), red);
    }
}
