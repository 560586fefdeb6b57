//! The secrets in a log of the PowerShell module.

use super::entries::begins_entry;

/// So many characters of base64 in a row are a secret.
const SECRET: usize = 40;

/// Names before a secret; those with `true` also with nothing but a space between.
const SECRET_NAMES: &[(&str, bool)] = &[
    ("refreshtoken", true),
    ("activationkey", true),
    ("registrationtoken", true),
    ("convertto-securestring", true),
    ("refresh_token", false),
    ("accesstoken", false),
    ("access_token", false),
    ("clientsecret", false),
    ("client_secret", false),
    ("password", false),
];

/// Which bytes of a text belong to a secret: long runs of base64 or a JWT's characters, over line breaks, and values
/// of [`SECRET_NAMES`].
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
                && !begins_entry(&text[next + 1..])
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
    mask
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
