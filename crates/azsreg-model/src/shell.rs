//! Words of a command line that a person copies from what we say.

/// A word as a shell takes it for one: as it is, or quoted. A name that no quotes make safe in every shell of the platform, or
/// that would show in another order than it is, is `NAME`: names come from servers too.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| {
        c.is_alphanumeric() || "._-/:=".contains(c) || if cfg!(windows) { c == '\\' } else { "@,".contains(c) }
    };
    let misleading = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    // What cmd and PowerShell take for more than a letter between double quotes.
    let special = |c: char| cfg!(windows) && "\"%$`!\u{201c}\u{201d}\u{201e}".contains(c);
    match () {
        () if word.chars().any(|c| misleading(c) || special(c)) => "NAME".to_owned(),
        () if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        // A backslash at the end would take the quote for a letter.
        () if cfg!(windows) => format!("\"{word}{}\"", if word.ends_with('\\') { "\\" } else { "" }),
        () => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one() {
        assert_eq!(quoted("AzureStack-1_2.3"), "AzureStack-1_2.3");
        let (spaced, prod) =
            if cfg!(windows) { ("\"New York\"", "\"rg(prod)\"") } else { ("'New York'", "'rg(prod)'") };
        assert_eq!((quoted("New York").as_str(), quoted("rg(prod)").as_str()), (spaced, prod));
        assert_eq!((quoted("a\u{202e}b"), quoted("a\nb")), ("NAME".into(), "NAME".into()));
        #[cfg(unix)]
        assert_eq!(
            (quoted("x;curl|sh"), quoted("it's"), quoted("")),
            ("'x;curl|sh'".into(), "'it'\\''s'".into(), "''".into())
        );
        #[cfg(windows)]
        assert_eq!(quoted("a%b"), "NAME");
    }
}
