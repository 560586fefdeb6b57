//! Finding what is said in a text that a console, a log or a service has wrapped and quoted.

/// The most characters, spaces aside, between two parts of a pattern.
const GAP: usize = 300;

/// Parts that follow each other closely.
pub(super) struct Pattern {
    parts: Vec<String>,
    sentence: bool,
    /// It means this only as the code of an answer: in a text it is a part of other names.
    code_alone: bool,
}

impl Pattern {
    pub(super) fn new(said: &str) -> Self {
        let code_alone = said.starts_with('=');
        let parts: Vec<&str> = said.trim_start_matches('=').split('…').collect();
        Self {
            code_alone,
            sentence: parts.first().is_some_and(|first| first.trim().contains(char::is_whitespace)),
            parts: parts.into_iter().map(|part| squeeze(part).0).collect(),
        }
    }

    /// Whether it is of words, not of an id.
    pub(super) fn is_sentence(&self) -> bool {
        self.sentence
    }

    /// Whether it is of this id, or of those that begin so.
    pub(super) fn is_of(&self, id: &str) -> bool {
        let id = squeeze(id).0;
        let fits = |first: &String| if self.code_alone { id == *first } else { id.starts_with(first.as_str()) };
        !self.sentence && self.parts.first().is_some_and(fits)
    }

    /// Whether it is looked for in texts.
    pub(super) fn is_of_texts(&self) -> bool {
        !self.code_alone
    }

    /// Where it begins in a squeezed text. A number is not found inside a longer one.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        let (first, rest) = self.parts.split_first()?;
        let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        text.match_indices(first.as_str()).map(|(start, _)| start).find(|start| {
            let mut end = start + first.len();
            let inside = (digit(end - 1) && digit(end)) || (*start > 0 && digit(start - 1) && digit(*start));
            !inside
                && rest.iter().all(|part| {
                    let reach = text.floor_char_boundary(end + GAP + part.len());
                    let at = text[end..reach].find(part.as_str());
                    end += at.unwrap_or_default() + part.len();
                    at.is_some()
                })
        })
    }
}

/// The text in lower case without white space and quotes (a console breaks lines anywhere), and where each byte was.
pub(crate) fn squeeze(text: &str) -> (String, Vec<usize>) {
    let (mut squeezed, mut offsets) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
    for (at, char) in text.char_indices() {
        if !char.is_whitespace() && !matches!(char, '\'' | '"' | '`' | '\u{2018}'..='\u{201f}' | '\u{feff}') {
            squeezed.push(char.to_ascii_lowercase());
            offsets.resize(squeezed.len(), at);
        }
    }
    (squeezed, offsets)
}
