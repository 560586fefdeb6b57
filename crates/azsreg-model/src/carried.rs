//! What is carried, as people carry it: through mail, chat, a screen or PowerShell. What only wraps or surrounds it is taken
//! off. A bundle has its checksum and a token or key its own form, so that what is read so is what was made; all else is named.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::text::ValueKind;
use crate::{ActivationKey, Bundle, BundleError, Odd, RegistrationToken, UnknownForm, decode_text, is_hidden};

/// A carried file, whoever wrote it.
#[derive(Debug, Clone)]
pub enum Carried {
    /// A bundle of ours.
    Bundle(Box<Bundle>),
    /// A bare token, as the PowerShell module writes it.
    Token(RegistrationToken),
    /// A bare key, as the PowerShell module writes it.
    Key(ActivationKey),
}

/// Which of them a damaged text was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarriedText {
    /// A token.
    Token,
    /// A key.
    Key,
    /// One of both: too little of it is left to tell.
    Either,
}

impl std::fmt::Display for CarriedText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token => "the registration token",
            Self::Key => "the activation key",
            Self::Either => "the token or key",
        })
    }
}

/// The names that the PowerShell module and Azure give them.
const LABELS: [(&str, CarriedText); 4] = [
    ("registrationtoken", CarriedText::Token),
    ("registration token", CarriedText::Token),
    ("activationkey", CarriedText::Key),
    ("activation key", CarriedText::Key),
];

/// No token and no key of any form is shorter than this.
const LEAST: usize = 64;

impl Carried {
    /// No bundle and no token is longer than this.
    pub const MAX_BYTES: usize = 4 << 20;

    /// Reads a file of any of the forms.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(BundleError::TooLong);
        }
        let text = decode_text(bytes)?;
        let plain = ValueKind::Text.read(&text).unwrap_or(&text).trim();
        if plain.is_empty() {
            return Err(BundleError::Empty);
        }
        let strings = clixml_strings(plain);
        let text = match &strings[..] {
            [] => &text,
            // The one of an object's strings that is carried.
            several => several.iter().find(|text| Self::whole(text).is_ok()).unwrap_or(&several[0]),
        };
        Self::whole(text)
    }

    /// Reads a text that may be wrapped and surrounded.
    fn whole(text: &str) -> Result<Self, BundleError> {
        let lines = Lines::of(text);
        let mut failed = None;
        for joined in [lines.joined(), lines.joined_soft()] {
            match Self::bare(&joined) {
                Ok(carried) => return Ok(carried),
                Err(error) => failed = failed.or(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Err(lines.flaw(text)),
        }
    }

    /// Reads one line without anything around it. An error that says no more than that it is none of them is not kept.
    fn bare(line: &str) -> Result<Self, Option<BundleError>> {
        if let (Some(start), Some(end)) = (line.find('{'), line.rfind('}')) {
            let object = &line[start..=end.max(start)];
            let object = if object.starts_with("{\u{201c}") || object.starts_with("{\u{201d}") {
                object.replace(['\u{201c}', '\u{201d}'], "\"")
            } else {
                object.to_owned()
            };
            let value: serde_json::Value =
                serde_json::from_str(&object).map_err(|error| Some(BundleError::NotBundle(error.to_string())))?;
            // What Azure answers, kept whole.
            let member = |part: CarriedText| {
                let names = || LABELS.iter().filter(move |(_, of)| *of == part).map(|(name, _)| *name);
                let object = value.as_object()?;
                let found = object.iter().find(|(key, _)| names().any(|name| key.eq_ignore_ascii_case(name)));
                found.and_then(|(_, value)| value.as_str())
            };
            if value.get("azsreg_bundle").is_none()
                && let Some(inner) = member(CarriedText::Token).or_else(|| member(CarriedText::Key))
            {
                return Self::bare(inner);
            }
            if value.get("azsreg_bundle").is_none() && value.get("key_sha256_16").is_some() {
                return Err(Some(BundleError::Receipt(Box::new(value))));
            }
            return Bundle::from_value(value).map(|bundle| Self::Bundle(Box::new(bundle))).map_err(Some);
        }
        if line.starts_with('{') {
            return Err(Some(BundleError::NotBundle("its end is missing".into())));
        }
        // A key has two dots, and no character of a token is one. What can't be read is long, or it is any other text.
        let (carried, unknown) = if line.contains('.') {
            let key = ActivationKey::new(line);
            let unknown = key.decode().map_err(|_| None)?.unknown;
            (Self::Key(key), unknown)
        } else {
            let token = RegistrationToken::new(line);
            let unknown = token.decode().map_err(|_| None)?.unknown;
            (Self::Token(token), unknown)
        };
        match unknown {
            Some(UnknownForm::NotJson) if line.len() < LEAST => Err(None),
            _ => Ok(carried),
        }
    }

    /// A carried registration token; a bundle's is told by its kind. What is signed as a key is and names no registration may
    /// be a token of a newer form.
    ///
    /// # Errors
    /// It is something else, which is given back.
    pub fn into_token(self) -> Result<RegistrationToken, Self> {
        match self {
            Self::Token(token) => Ok(token),
            Self::Key(key) if key.decode().is_ok_and(|claims| claims.name.is_none()) => {
                Ok(RegistrationToken::new(key.expose()))
            }
            other => Err(other),
        }
    }
}

/// What a text is, or was before it was damaged: a key begins with its header, a token with its members.
fn part_of(text: &str) -> CarriedText {
    let first: String = text
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "+/-_".contains(*c))
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let start = BASE64_STANDARD.decode(&first[..first.len() / 4 * 4]).unwrap_or_default();
    let start = String::from_utf8_lossy(start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start)).into_owned();
    let is_header = ["\"alg\"", "\"typ\"", "\"kid\"", "\"x5t\""].iter().any(|name| start.contains(name));
    match start.trim_start().starts_with('{') {
        true if is_header => CarriedText::Key,
        true if start.len() > 12 => CarriedText::Token,
        _ => CarriedText::Either,
    }
}

/// The strings of what `Export-Clixml` writes.
fn clixml_strings(text: &str) -> Vec<String> {
    let is_clixml = text.starts_with("#< CLIXML") || text.contains("<Objs ");
    let pieces = text.split("<S").skip(1).filter(|_| is_clixml);
    let strings = pieces.filter_map(|piece| {
        // Only <S> and <S N="...">.
        let (attributes, rest) = piece.split_once('>')?;
        let (inner, _) = rest.split_once("</S>")?;
        (attributes.is_empty() || attributes.starts_with(' ')).then(|| {
            let text = inner.replace("_x000D_", "\r").replace("_x000A_", "\n").replace("_xFEFF_", "");
            text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        })
    });
    strings.collect()
}

/// The lines of a text without what mail, chat and PowerShell put around them, each with its place in the text.
struct Lines<'t> {
    lines: Vec<&'t str>,
    /// What a label says that it is.
    labelled: Option<CarriedText>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let mut lines: Vec<&str> = Vec::new();
        let mut labelled = None;
        for line in text.lines() {
            let quoted = |c: char| c == '>' || c == '|' || c.is_whitespace() || is_hidden(c);
            let mut line = line.trim_start_matches(quoted);
            line = line.trim_end_matches(|c: char| c.is_whitespace() || is_hidden(c));
            let is_rule = labelled.is_some() && lines.iter().all(|line| line.is_empty()) && line.starts_with("---");
            // A fence of Markdown, the rule under a table's title.
            if line.is_empty() || line.starts_with("```") || is_rule {
                continue;
            }
            if lines.is_empty()
                && let Some((rest, part)) = without_label(line)
            {
                labelled = Some(part);
                line = rest;
            }
            lines.push(line);
        }
        lines.retain(|line| !line.is_empty());
        let mark =
            |c: char| "\"'`,;".contains(c) || ('\u{2018}'..='\u{201f}').contains(&c) || c == '\u{ab}' || c == '\u{bb}';
        if let Some(first) = lines.first_mut() {
            *first = first.trim_start_matches(mark);
        }
        if let Some(last) = lines.last_mut() {
            *last = last.trim_end_matches(mark);
        }
        Self { lines, labelled }
    }

    fn kept(line: &str) -> impl Iterator<Item = char> + '_ {
        line.chars().filter(|c| !is_hidden(*c) && (*c == ' ' || !c.is_whitespace()))
    }

    /// One line of them.
    fn joined(&self) -> String {
        let one: String = self.lines.iter().flat_map(|line| Self::kept(line)).collect();
        // Nothing but a bundle may hold a space.
        if one.contains('{') { one } else { one.replace(' ', "") }
    }

    /// One line of them, where a mail program has written `=` at the end of each (quoted-printable).
    fn joined_soft(&self) -> String {
        let last = self.lines.len().saturating_sub(1);
        let soft = |(at, line): (usize, &&'t str)| {
            let line = if at < last { line.strip_suffix('=').unwrap_or(line) } else { line };
            Self::kept(line).collect::<String>()
        };
        self.lines.iter().enumerate().map(soft).collect::<String>().replace("=3D", "=").replace("=3d", "=")
    }

    /// What is wrong with what is none of them.
    fn flaw(&self, text: &str) -> BundleError {
        let joined = self.joined();
        let part = match (part_of(&joined), self.labelled) {
            (CarriedText::Either, Some(part)) => part,
            (part, _) => part,
        };
        let place = |inside: &str| Odd::at(text, inside.as_ptr() as usize - text.as_ptr() as usize);
        // Dots are ahead of all else: a key has some, but never side by side.
        for line in &self.lines {
            let dots = [line.find("..."), line.find('\u{2026}'), line.find("..")].into_iter().flatten().next();
            if let Some(odd) = dots.and_then(|at| place(&line[at..]))
                && (part != CarriedText::Either || joined.starts_with("eyJ") || joined.starts_with("ew"))
            {
                return BundleError::Dots(part, odd);
            }
        }
        let more = match part {
            CarriedText::Token => "+/=",
            CarriedText::Key => "-_.=",
            CarriedText::Either => "+/-_.=",
        };
        let encoded = joined.len() >= LEAST && joined.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        if part == CarriedText::Either && !joined.starts_with("eyJ") && !encoded {
            return BundleError::Unknown;
        }
        for line in &self.lines {
            let foreign =
                |c: char| !c.is_ascii_alphanumeric() && !more.contains(c) && !c.is_whitespace() && !is_hidden(c);
            if let Some(odd) = line.find(foreign).and_then(|at| place(&line[at..])) {
                return BundleError::Holds(part, odd);
            }
        }
        let line_end = match &self.lines[..] {
            [first, _, ..] => {
                let end = first.as_ptr() as usize - text.as_ptr() as usize + first.len();
                text[end..].find(['\n', '\r']).and_then(|at| Odd::at(text, end + at))
            }
            _ => None,
        };
        BundleError::Short { part, length: joined.chars().count(), line_end }
    }
}

/// A line without the label that PowerShell or a person has put before the value.
fn without_label(line: &str) -> Option<(&str, CarriedText)> {
    let bare = line.trim_start_matches(['"', '\'', '$']);
    let (label, part) = LABELS
        .iter()
        .find(|(label, _)| bare.get(..label.len()).is_some_and(|start| start.eq_ignore_ascii_case(label)))?;
    let rest = bare[label.len()..].trim_start_matches(['"', '\'']).trim_start();
    // A table has the label as its title.
    let rest = if rest.is_empty() { rest } else { rest.strip_prefix([':', '='])? };
    Some((rest.trim_start(), *part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BundleKind, encode_module_text};
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    const STAMP: &str = "b6f2c3d4-aaaa-4bbb-8ccc-ddddeeeeffff";

    /// A token whose base64 has all of the alphabet's signs, and padding.
    fn token() -> String {
        let hosts: Vec<String> = (0..6).map(|n| format!(r#"{{"name":"h{n}???>>>","numCores":24}}"#)).collect();
        let json = format!(
            r#"{{"version":"6.0","cloudId":"{STAMP}","billingModel":"Capacity","hardwareInfo":[{}]}}  "#,
            hosts.join(",")
        );
        let text = BASE64_STANDARD.encode(json.trim_end().to_owned() + if json.len() % 3 == 0 { "  " } else { " " });
        assert!(text.contains('/'));
        text
    }

    fn key() -> String {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let payload = format!(
            r#"{{"subscriptionId":"{STAMP}","resourceGroupName":"azurestack","registrationName":"r???","cloudId":"{STAMP}","expires":"9999-12-30T23:59:59.9999999Z"}}"#
        );
        format!("{}.{}.{}", part(r#"{"alg":"RS256","typ":"JWT"}"#), part(&payload), part(&"signature".repeat(20)))
    }

    fn bundle() -> String {
        let mut bundle =
            Bundle::new(BundleKind::RegistrationToken, STAMP.parse().unwrap(), jiff::Timestamp::UNIX_EPOCH);
        bundle.token = Some(RegistrationToken::new(&token()));
        bundle.to_text()
    }

    fn wrapped(text: &str, width: usize, before: &str, end: &str) -> String {
        let lines: Vec<String> =
            text.as_bytes().chunks(width).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        lines.iter().map(|line| format!("{before}{line}")).collect::<Vec<_>>().join(end)
    }

    /// The same text again, whatever kind it is.
    fn read(bytes: &[u8]) -> String {
        match Carried::read(bytes) {
            Ok(Carried::Bundle(bundle)) => bundle.to_text().trim().to_owned(),
            Ok(Carried::Token(token)) => token.expose().to_owned(),
            Ok(Carried::Key(key)) => key.expose().to_owned(),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn what_wraps_or_surrounds_is_taken_off() {
        for (label, text) in [("RegistrationToken", token()), ("ActivationKey", key()), ("Bundle", bundle())] {
            let text = text.trim();
            let soft = text.replace('=', "=3D");
            let forms = [
                text.to_owned(),
                format!("{text}\r\n"),
                format!("\u{feff}{text}\n"),
                format!("\u{200b}\u{a0}{text}\u{a0}"),
                format!("\"{text}\"\n"),
                format!("'{text}',"),
                format!("\u{201c}{text}\u{201d}"),
                format!("```\n{text}\n```\n"),
                format!("{}\u{200b}{}", &text[..40], &text[40..]),
                wrapped(text, 76, "", "\n"),
                wrapped(text, 76, "", "\r\n") + "\r\n",
                wrapped(text, 64, "    ", " \n"),
                wrapped(text, 72, "> ", "\n"),
                wrapped(text, 72, ">> ", "\r\n"),
                wrapped(text, 75, "", "=\n"),
                wrapped(&soft, 75, "", "=\r\n"),
                wrapped(text, 1, "", "\n"),
            ];
            for form in &forms {
                assert_eq!(read(form.as_bytes()), text, "{form}");
                let wide: Vec<u8> = form.encode_utf16().flat_map(u16::to_le_bytes).collect();
                assert_eq!(read(&wide), text, "UTF-16: {form}");
            }
            assert_eq!(read(&encode_module_text(text)), text);
            let xml = text.replace('"', "&quot;");
            let clixml = format!(
                "<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\"><Obj RefId=\"0\"><MS><S N=\"PSComputerName\">host</S><S N=\"{label}\">{xml}_x000D__x000A_</S></MS></Obj></Objs>"
            );
            assert_eq!(read(clixml.as_bytes()), text);
            assert_eq!(read(format!("#< CLIXML\r\n<Objs Version=\"1\"><S>{xml}</S></Objs>").as_bytes()), text);
            if label != "Bundle" {
                for form in [
                    format!("{label} : {text}"),
                    format!("\r\n{label} : {}\r\n", wrapped(text, 50, "", "\r\n                    ")),
                    format!("${label} = \"{text}\""),
                    format!("{label}\r\n-----------------\r\n{text}\r\n"),
                    format!("{{\"{}\": \"{text}\"}}", label.to_lowercase()),
                    format!("{}:\n{text}", label.replace("nT", "n t").replace("nK", "n k")),
                ] {
                    assert_eq!(read(form.as_bytes()), text, "{form}");
                }
            } else {
                let curly = text.replace('"', "\u{201d}");
                assert_eq!(read(curly.as_bytes()), text);
                assert_eq!(
                    read(format!("Here is the file:\n\n{}\n\nRegards\n", wrapped(text, 70, "", "\n")).as_bytes()),
                    text
                );
            }
        }
    }

    #[test]
    fn what_is_damaged_is_named_for_what_it_is() {
        let (token, key) = (token(), key());
        let (of_token, of_key) = ("! the registration token", "! the activation key");
        for (text, what) in [(&token, of_token), (&key, of_key)] {
            for dots in ["...", "\u{2026}", "...\n"] {
                assert_eq!(
                    read(format!("{}{dots}", &text[..76]).as_bytes()),
                    format!("{what} is cut: in place of the rest it has dots at character 77")
                );
            }
            let odd = format!("{}*{}", &text[..76], &text[76..]);
            assert_eq!(
                read(odd.as_bytes()),
                format!("{what} holds '*' (U+002A) at character 77, which is no part of it")
            );
            let in_lines = wrapped(&odd, 40, "> ", "\n");
            assert_eq!(
                read(in_lines.as_bytes()),
                format!("{what} holds '*' (U+002A) at line 2, character 39, which is no part of it")
            );
            let cut = &text[..121];
            assert_eq!(read(cut.as_bytes()), format!("{what} is cut or changed: it has 121 characters"));
            let lines = format!("{}\n{}", &text[..76], &text[77..120]);
            assert_eq!(
                read(lines.as_bytes()),
                format!("{what} is cut or changed: it has 119 characters, and a line end at character 77")
            );
        }
        assert_eq!(
            read(b"RegistrationToken\n-----\neyJ..."),
            format!("{of_token} is cut: in place of the rest it has dots at line 3, character 4")
        );
        assert_eq!(
            read(b"ActivationKey : eyJ..."),
            format!("{of_key} is cut: in place of the rest it has dots at character 20")
        );
        assert!(read(b"eyJ...").starts_with("! the token or key is cut"));
        for text in ["something else", "www.example.com", "a.b.c", "Hello...", "ab*d"] {
            assert_eq!(read(text.as_bytes()), format!("! {}", BundleError::Unknown), "{text}");
        }
        for text in ["", " \r\n", "\u{feff}\u{200b}\n", "\u{a0}"] {
            assert_eq!(Carried::read(text.as_bytes()).unwrap_err(), BundleError::Empty, "{text:?}");
        }
        assert!(matches!(Carried::read(b"ab\xffcd"), Err(BundleError::NotText(_))));
        // Two of them are none.
        let two = read(format!("{token}\n{token}\n").as_bytes());
        assert!(
            two.starts_with(&format!("{of_token} is cut or changed: it has {} characters", 2 * token.len())),
            "{two}"
        );
    }

    #[test]
    fn what_is_whole_and_of_an_unknown_form_is_carried() {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let sealed = "sealed ".repeat(14);
        let tokens =
            [BASE64_STANDARD.encode(r#"{"version":"5.0","cloudId":"x"}"#), BASE64_STANDARD.encode(sealed.as_str())];
        for text in &tokens {
            for form in [text.clone(), wrapped(text, 40, "> ", "\r\n"), format!("RegistrationToken : {text}")] {
                assert!(matches!(Carried::read(form.as_bytes()), Ok(Carried::Token(_))), "{form}");
                assert_eq!(read(form.as_bytes()), *text);
            }
        }
        let key = format!("{}.{}.{}", part(r#"{"alg":"PS512"}"#), part(&sealed), part("signature"));
        assert!(matches!(Carried::read(key.as_bytes()), Ok(Carried::Key(_))));
        assert_eq!(Carried::read(key.as_bytes()).unwrap().into_token().unwrap().expose(), key);
        assert!(Carried::read(self::key().as_bytes()).unwrap().into_token().is_err(), "it names a registration");
        // Cut, it is told to be cut, whatever it was.
        let cut = &tokens[1][..101];
        assert_eq!(read(cut.as_bytes()), "! the token or key is cut or changed: it has 101 characters");
    }

    #[test]
    fn every_cut_of_a_token_or_key_is_called_by_its_own_name() {
        for (text, other) in [(token(), "! the activation key"), (key(), "! the registration token")] {
            for end in 1..text.len() - 1 {
                let said = read(&text.as_bytes()[..end]);
                assert!(!said.starts_with(other), "cut at {end}: {said}");
            }
        }
    }
}
