//! A secret that was put where it does not belong is not repeated: a client secret as --client-id, a token as an argument of its
//! own. What looks like a secret is shown by its first characters and its length.

use std::ffi::OsString;
use std::sync::OnceLock;

use azsreg_model::{ExitCode, Problem, code, redact};

/// Values on the command line that follow the option of a secret.
static AFTER: OnceLock<Vec<String>> = OnceLock::new();

/// Looks at the command line and at the variables.
pub(crate) fn look(arguments: &[OsString]) {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|argument| argument.to_str()).collect();
    let variables = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AZSREG_"));
    let variables: Vec<String> = variables.filter_map(|(_, value)| value.into_string().ok()).collect();
    let values = words.iter().map(|word| value_of(word)).chain(variables.iter().map(String::as_str));
    // It may come back in other words than those about the command line.
    values.filter(|value| is_token(value) || is_client_secret(value)).for_each(redact::remember);
    let _ = AFTER.set(after(&words));
}

/// Shortens what looks like a secret in what is said of the command line.
pub(crate) fn shorten(problem: &mut Problem) {
    // An address is the operator's word, too.
    let addresses = [&code::PEP_UNREACHABLE, &code::AZURE_UNREACHABLE, &code::PROXY_UNREACHABLE, &code::PROXY_REFUSED];
    if problem.code.exit == ExitCode::Usage || addresses.contains(&problem.code) {
        let after = AFTER.get().map(Vec::as_slice).unwrap_or_default();
        let texts = [Some(&mut problem.message), problem.cause.as_mut(), problem.next.as_mut()];
        for text in texts.into_iter().flatten().chain(&mut problem.details) {
            *text = shortened(text, after);
        }
    }
}

/// The value in `--option=value`, or all of it.
fn value_of(word: &str) -> &str {
    match word.split_once('=') {
        Some((name, value))
            if !value.is_empty()
                && !value.starts_with('=')
                && name.len() <= 40
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                && (name.starts_with('-') || !name.contains(|c: char| c.is_ascii_digit())) =>
        {
            value
        }
        _ => word,
    }
}

/// How the options of secrets end.
const ENDS: &[&str] = &["secret", "password", "passwd", "pass", "pwd", "token", "key", "license", "licence"];

/// What follows the option of a secret, as far as the next option. A file's name is none.
fn after(words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut secret = false;
    for word in words {
        let value = if let Some(option) = word.strip_prefix("--") {
            let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
            let name = name.to_ascii_lowercase();
            secret = ENDS.iter().any(|end| name.ends_with(end));
            value
        } else {
            // A short option ends it, as a long one does.
            secret &= !word.starts_with('-') || *word == "-";
            Some(*word)
        };
        if let Some(value) =
            value.filter(|value| secret && !value.is_empty() && *value != "-" && !value.starts_with('@'))
        {
            found.push(value.to_owned());
        }
    }
    found
}

/// A text with the secrets in it shortened.
fn shortened(text: &str, after: &[String]) -> String {
    let mut text = text.to_owned();
    for value in after {
        text = text.replace(&format!("'{value}'"), &format!("'{}'", short(value)));
    }
    let apart = |c: char| c.is_whitespace() || "'\"`()[]<>,;\\".contains(c);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(apart).unwrap_or(rest.len());
        let (word, after_word) = rest.split_at(end);
        let value = value_of(word);
        shown.push_str(&word[..word.len() - value.len()]);
        // A port is no part of it.
        let name = value.trim_end_matches([':', '.']);
        let host = name.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let colon = host.map_or(name, |(host, _)| host);
        shown.push_str(&hidden(colon).unwrap_or_else(|| colon.to_owned()));
        shown.push_str(&value[colon.len()..]);
        let gap = after_word.find(|c| !apart(c)).unwrap_or(after_word.len());
        shown.push_str(&after_word[..gap]);
        rest = &after_word[gap..];
    }
    shown
}

/// How a word is shown that looks like a secret.
fn hidden(word: &str) -> Option<String> {
    if let Some((scheme, rest)) = word.split_once("://").filter(|(scheme, _)| scheme.len() <= 10) {
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (user, host) = host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user), host));
        if user.is_none() && query.is_none() {
            return None;
        }
        let user = if user.is_some() { "...@" } else { "" };
        let query = query.map(|query| format!("?{}", short(query))).unwrap_or_default();
        return Some(format!("{scheme}://{user}{host}{path}{query}"));
    }
    (is_token(word) || is_client_secret(word) || is_base64(word)).then(|| short(word))
}

/// The first characters, where there are many, and how many there are.
fn short(secret: &str) -> String {
    let length = secret.chars().count();
    let start: String = secret.chars().take(if length < 24 { 0 } else { 4 }).collect();
    let s = if length == 1 { "" } else { "s" };
    format!("{start}... ({length} character{s})")
}

fn is_url_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// A compact JWS or JWE, or a refresh token of the directory: parts in base64url with dots between.
fn is_token(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() > 1
        && word.len() > 40
        && word.chars().all(|c| is_url_base64(c) || c == '.' || c == '=')
        && (word.starts_with("eyJ") || parts.iter().any(|part| part.len() > 40 && is_base64(part)))
}

/// The form of the directory's client secrets: 34 to 40 characters, a tilde among them.
fn is_client_secret(word: &str) -> bool {
    (34..=40).contains(&word.len())
        && word.contains('~')
        && word.chars().all(|c| is_url_base64(c) || c == '~' || c == '.')
        && word.contains(|c: char| c.is_ascii_digit())
}

/// Base64 of more than 40 characters; no path, and no name with a GUID in it.
fn is_base64(word: &str) -> bool {
    if word.len() <= 40 || !word.chars().all(|c| is_url_base64(c) || "+/=".contains(c)) {
        return false;
    }
    // Letters of both cases, or bytes in hexadecimal: words of a language are neither.
    let drawn = |part: &str| {
        let has = |is: fn(&char) -> bool| part.chars().any(|c| is(&c));
        let hex = part.chars().all(|c| c.is_ascii_hexdigit()) && has(char::is_ascii_digit);
        hex || (has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase))
    };
    let plain = without_guids(word);
    let longest = plain.split('/').max_by_key(|part| part.len()).unwrap_or_default();
    // The parts of a path are short.
    let path = if plain.starts_with('/') { 40 } else { 24 };
    let parts = if plain.contains('/') { longest.len() >= path } else { plain.len() > 40 };
    parts && drawn(longest)
}

fn without_guids(word: &str) -> String {
    let mut left = word.to_owned();
    let mut at = 0;
    while let Some(candidate) = left.get(at..at + 36) {
        if candidate.bytes().filter(|byte| *byte == b'-').count() == 4 && candidate.parse::<uuid::Uuid>().is_ok() {
            left.replace_range(at..at + 36, "");
        } else {
            at += 1;
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_shown_by_its_beginning_and_its_length() {
        let jws = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", "eyJhIjoxfQ".repeat(4), "c2lnbmF0dXJl".repeat(4));
        let refresh = format!("1.AVsA{}.AgABAAEAAAD{}", "q3V7xY".repeat(10), "-_xQ9".repeat(40));
        let base64 = "cDhRfi9hImJcYzxkPiZlK2YlZyDDqT1oJzAxMjM0NTY3ODk=";
        let of_letters = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh";
        let with_slashes = "q3V7xYq3V7xYq3V7xYq3V7xYq3V7xY/q3V7xYq3V7xYq3V7/xYq3V7xY+w==";
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let client = [
            "abc8Q~defghijklmnopqrstuvwxyzABCDEFGHIJ",
            "Xy_8Q~1.2-3~4567890abcdefghijklmnopqrs",
            "a.b~c1defghijklmnopqrstuvwxyzABCDE",
        ];
        for secret in [&jws, &refresh, base64, of_letters, with_slashes, hex].into_iter().chain(client) {
            let shown = format!("{}... ({} characters)", &secret[..4], secret.len());
            let address = |host: &str| format!("none of {host}:5985 answers: {host}:5985: no such name");
            assert_eq!(shortened(&address(secret), &[]), address(&shown));
            let domain = |name: &str| format!("Use the stamp's domain: --pep-user 'AZURESTACK\\{name}'.");
            assert_eq!(shortened(&domain(secret), &[]), domain(&shown));
            let said = |value: &str| format!("invalid value '{value}' for '--client-id <ID>': not a GUID");
            assert_eq!(shortened(&said(secret), &[]), said(&shown));
            assert_eq!(
                shortened(&format!("--pep-user {secret} names no domain"), &[]),
                format!("--pep-user {shown} names no domain")
            );
            assert_eq!(
                shortened(&format!("unexpected argument '--x={secret}' found"), &[]),
                format!("unexpected argument '--x={shown}' found")
            );
        }
        let sas = "https://x.blob.example/c/b.vhd?sv=2020&sig=abcdefghijklmnop%3D";
        assert_eq!(shortened(sas, &[]), "https://x.blob.example/c/b.vhd?sv=2... (31 characters)");
        assert_eq!(shortened("https://user:pw@x.example/", &[]), "https://...@x.example/");
    }

    #[test]
    fn a_guid_a_path_a_url_and_a_name_are_shown_whole() {
        for plain in [
            "5e2f6b1c-7d3a-4f0e-9a51-1f2e3d4c5b6a",
            "azurestack-5e2f6b1c-7d3a-4f0e-9a51-1f2e3d4c5b6a",
            "Contoso-Prod-5E2F6B1C-7D3A-4F0E-9A51-1F2E3D4C5B6A",
            "/home/operator/Secrets/AzureStack/Production/client-secret-2026",
            "@/run/secrets/AzureStackHub/Region1/cloudadmin/password/current",
            "C:\\Users\\CloudAdmin\\Documents\\AzureStack\\Production\\token.txt",
            "Secrets/AzureStack/Production/Region1/ClientSecretOfToday2026",
            "/subscriptions/5e2f6b1c-7d3a-4f0e-9a51-1f2e3d4c5b6a/resourceGroups/AzureStack/providers/Microsoft.AzureStack",
            "https://adminmanagement.local.azurestack.external/metadata/endpoints",
            "ercs01.region1.azurestack.contoso.example.com",
            "AZURESTACK\\CloudAdmin",
            "cloudadmin@azurestack.local",
            "--a-very-long-option-that-nobody-has-and-that-goes-on-and-on",
            "~/AzureStack/secrets/2026/production.txt",
            "none of 192.0.2.1:5985 answers: timed out",
        ] {
            assert_eq!(shortened(plain, &[]), plain);
            assert_eq!(shortened(&format!("x '{plain}' y"), &[]), format!("x '{plain}' y"));
        }
    }

    #[test]
    fn what_follows_the_option_of_a_secret_is_one() {
        let line = [
            "register",
            "--pep-password",
            "two",
            "words",
            "--client-secret=hunter2",
            "--token-version",
            "2",
            "--pasword",
            "x",
        ];
        assert_eq!(after(&line), ["two", "words", "hunter2"]);
        assert!(after(&["--pep-password", "@/a/file", "-o", "json", "--client-secret", "-", "--name", "n"]).is_empty());
        assert_eq!(
            shortened("unexpected argument 'words' found", &after(&line)),
            "unexpected argument '... (5 characters)' found"
        );
    }
}
