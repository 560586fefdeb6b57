//! The secrets in a log of the PowerShell module.

use super::entries::begins_entry;

/// So many characters of base64 in a row are a secret.
const SECRET: usize = 40;

/// Names before a secret; those with `true` also with nothing but a space between.
const SECRET_NAMES: &[(&str, bool)] = &[
    ("refreshtoken", true),
    ("activationkey", true),
    ("registrationtoken", true),
    ("refresh_token", false),
    ("accesstoken", false),
    ("access_token", false),
    ("clientsecret", false),
    ("client_secret", false),
    ("password", false),
    ("passphrase", false),
    ("passwd", false),
    ("pass", false),
    ("pwd", false),
    ("secret", false),
    ("accountkey", false),
];

/// What a sentence goes on with after "the password is", where it is not the password.
const SAID_OF_PASSWORDS: &[&str] =
    &["a", "case", "empty", "expired", "incorrect", "invalid", "missing", "not", "required", "set", "too", "wrong"];

/// Which bytes of a text belong to a secret: long runs of base64 or a JWT's characters, over line breaks, values of
/// [`SECRET_NAMES`], and what is given to `ConvertTo-SecureString` and to `net use`.
pub(super) fn secrets(text: &str) -> Vec<bool> {
    let bytes = text.as_bytes();
    let mut mask = vec![false; bytes.len()];
    let of_run =
        |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/=_-.%~".contains(byte));
    let mut at = 0;
    while at < bytes.len() {
        let (mut end, mut length) = (at, 0);
        loop {
            let next = end + usize::from(bytes.get(end) == Some(&b'\r'));
            if of_run(end) {
                (end, length) = (end + 1, length + 1);
            } else if length > 0
                && bytes.get(next) == Some(&b'\n')
                && of_run(next + 1)
                && !begins_entry(text[next + 1..].lines().next().unwrap_or_default())
            {
                end = next + 1;
            } else {
                break;
            }
        }
        if length >= SECRET && !is_name(&text[at..end], text[..at].ends_with(':')) {
            mask[at..end].fill(true);
        }
        at = end.max(at + 1);
    }
    let lower = text.to_ascii_lowercase();
    for (name, spaced) in SECRET_NAMES {
        for (start, _) in lower.match_indices(name) {
            if let Some((from, to)) = value_after(text, start, start + name.len(), *spaced) {
                mask[from..to].fill(true);
            }
        }
    }
    let further = [("convertto-securestring", secure_string as fn(&str, usize, usize) -> Vec<Span>)];
    let further = further.into_iter().chain([("net use", net_use as _), ("password is", prose as _)]);
    for (name, values) in further {
        for (start, _) in lower.match_indices(name) {
            values(text, start, start + name.len()).into_iter().for_each(|(from, to)| mask[from..to].fill(true));
        }
    }
    mask
}

/// From where to where.
type Span = (usize, usize);

/// The words of a text from `at` on to the end of a command, quoted ones whole, without their quotes.
fn command_words(text: &str, at: usize) -> Vec<Span> {
    let (mut words, mut at) = (Vec::new(), at);
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let Some(first) = text[at..].chars().next().filter(|first| !";|)}".contains(*first)) else { return words };
        let (from, length) = match first {
            '"' | '\'' => (at + 1, text[at + 1..].find(first)),
            _ => (at, text[at..].find(|c: char| c.is_whitespace() || ";|)}".contains(c))),
        };
        let to = length.map_or(text.len(), |length| from + length);
        words.push((from, to));
        at = to + usize::from(from > at && to < text.len());
    }
}

/// Where a command ends that a console may have broken over some lines.
fn end_of_command(text: &str, at: usize) -> usize {
    let lines = text[at..].split_inclusive('\n').enumerate();
    let own = lines.take(3).take_while(|(index, line)| *index == 0 || !begins_entry(line));
    at + own.map(|(_, line)| line.len()).sum::<usize>()
}

/// What is given to `ConvertTo-SecureString`: whatever is none of its parameters, or comes through a pipe.
fn secure_string(text: &str, start: usize, end: usize) -> Vec<Span> {
    let command = &text[..end_of_command(text, end)];
    // Behind a colon stands an error of its own.
    let words = if command[end..].trim_start().starts_with(':') { Vec::new() } else { command_words(command, end) };
    let given = words.into_iter().filter(|(from, to)| !text[*from..*to].starts_with('-') && &text[*from..*to] != "`");
    let before = text[..start].trim_end().strip_suffix('|').map(str::trim_end);
    let piped = before.and_then(|before| {
        let quote = before.chars().next_back().filter(|last| "\"'".contains(*last));
        let to = before.len() - usize::from(quote.is_some());
        let from = before[..to].rfind(|c: char| quote.map_or(c.is_whitespace() || c == '(', |quote| c == quote));
        (to > 0).then(|| (from.map_or(0, |from| from + 1), to))
    });
    given.chain(piped).collect()
}

/// What is given to `net use` besides its device, its share and its switches.
fn net_use(text: &str, _: usize, end: usize) -> Vec<Span> {
    let line = text[end..].find('\n').map_or(text.len(), |newline| end + newline);
    let plain = |(from, to): &Span| {
        let word = &text[*from..*to];
        !(word.starts_with(['/', '\\', '*']) || word.len() == 2 && word.ends_with(':'))
    };
    command_words(&text[..line], end).into_iter().filter(plain).collect()
}

/// "The password is X", where X is not what a sentence says of passwords.
fn prose(text: &str, _: usize, end: usize) -> Vec<Span> {
    let word = command_words(text, end).into_iter().next();
    let said = |word: &str| word.trim_end_matches(['.', ',', '!']).to_ascii_lowercase();
    word.filter(|(from, to)| !SAID_OF_PASSWORDS.contains(&said(&text[*from..*to]).as_str())).into_iter().collect()
}

/// Where the value of a secret's name is, as a parameter, an assignment or in JSON; the name is at `start..end`.
fn value_after(text: &str, start: usize, end: usize, spaced: bool) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let word =
        bytes[..start].iter().rposition(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').map_or(0, |at| at + 1);
    let dashed = word > 0 && bytes[word - 1] == b'-';
    let parameter = dashed && (word < 2 || !bytes[word - 2].is_ascii_alphanumeric());
    // Not `InvalidRegistrationToken : The ...`, nor `New-RegistrationToken : The ...`.
    let alone = parameter || (word == start && !dashed);
    let unquoted = text[end..].trim_start_matches(['"', '\'', '\\']);
    let quoted = text.len() - unquoted.len() > end;
    let rest = unquoted.trim_start();
    let value = match rest.bytes().next()? {
        b'=' => &rest[1..],
        b':' if quoted || alone => &rest[1..],
        b':' | b'-' => return None,
        _ if (parameter || (alone && spaced)) && !quoted && rest.len() < unquoted.len() => rest,
        _ => return None,
    };
    let value = value.trim_start().trim_start_matches('\\');
    let (value, length) = match value.chars().next()? {
        quote @ ('"' | '\'') => (&value[1..], value[1..].find(quote).or(value[1..].find('\n'))),
        _ => (value, value.find(|char: char| char.is_whitespace() || ",;)}\"'".contains(char))),
    };
    let from = text.len() - value.len();
    Some((from, from + length.unwrap_or(value.len())))
}

/// A resource id, an action, a type or a registration's default name: long, but of short words.
fn is_name(run: &str, after_colon: bool) -> bool {
    let lower = run.to_ascii_lowercase();
    (["/subscriptions/", "microsoft.", "azurestack"].iter().any(|start| lower.starts_with(start))
        || (after_colon && lower.starts_with("//")))
        && lower.split(['/', '.', '-', '_', '=']).all(|word| word.len() <= 32)
}

#[cfg(test)]
mod tests {
    use super::secrets;

    fn shown(text: &str) -> String {
        let mask = secrets(text);
        text.char_indices().map(|(at, char)| if mask[at] { '#' } else { char }).collect()
    }

    #[test]
    fn a_password_is_found_however_powershell_and_people_write_it() {
        for line in [
            "$p = ConvertTo-SecureString -String 'CANARY 1!' -AsPlainText -Force; New-PSSession x",
            "(ConvertTo-SecureString -AsPlainText -Force -String \"CANARY 1!\")",
            "ConvertTo-SecureString CANARY1! -AsPlainText -Force",
            "ConvertTo-SecureString -AsPlainText 'CANARY 1!' -Force",
            "ConvertTo-SecureString `\n  -String 'CANARY 1!' `\n  -AsPlainText",
            "ConvertTo-SecureString -Key $k -String CANARY1! ",
            "ConvertTo-SecureString -AsPlainText -String CANA\nRY1! -Force\n",
            "'CANARY 1!' | ConvertTo-SecureString -AsPlainText -Force",
            "$x = (\"CANARY 1!\" | ConvertTo-SecureString -AsPlainText -Force)",
            "Invoke-It -Secret CANARY1! -Other y",
            "-ClientSecret 'CANARY 1!'",
            "pwd=CANARY1!;server=x",
            "net use Z: \\\\srv\\share /user:AZS\\cloudadmin CANARY1!",
            "net use \\\\srv\\share CANARY1! /user:AZS\\cloudadmin",
            "cmdkey /add:srv /user:u /pass:CANARY1!",
            "Password is CANARY1!",
            "$env:AZSREG_PEP_PASSWORD='CANARY 1!'",
        ] {
            let shown = shown(line);
            assert!(!shown.contains("CANA") && !shown.contains("1!"), "{line}: {shown}");
        }
        for line in [
            "The user name or password is incorrect.",
            "AADSTS7000215: Invalid client secret provided.",
            "ConvertTo-SecureString : A parameter cannot be found",
            "x | ConvertTo-SecureString\n2026-03-01.10-15-00: what comes next",
            "net use Z: \\\\srv\\share /user:AZS\\cloudadmin",
        ] {
            assert!(!shown(line).contains("###"), "{line}: {}", shown(line));
        }
    }
}
