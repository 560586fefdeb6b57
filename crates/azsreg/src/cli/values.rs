//! How the value of an option, or of its variable, is read: `azsreg_model::ValueKind` decides, before clap's own parser sees it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use azsreg_model::{Odd, ValueKind};
use clap::builder::{EnumValueParser, PathBufValueParser, PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error, ValueEnum};
use thiserror::Error;
use uuid::Uuid;

/// Why a value is refused.
#[derive(Debug, Clone, Copy, Error)]
#[error("it holds {0}")]
pub(crate) struct Holds(pub(crate) Odd);

/// A parser of what is left of a value without what surrounds it.
#[derive(Debug, Clone)]
pub(super) struct Read<P> {
    kind: ValueKind,
    inner: P,
}

impl<P: TypedValueParser> TypedValueParser for Read<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<P::Value, Error> {
        if value.to_str().is_none() {
            return self.inner.parse_ref(command, argument, value);
        }
        let kind = self.kind;
        let read = move |text: &str| plain(kind, text).map(str::to_owned);
        let value = TypedValueParser::parse_ref(&read, command, argument, value)?;
        self.inner.parse_ref(command, argument, OsStr::new(&value))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.inner.possible_values()
    }
}

/// A value without what surrounds it. A file that is there is called as it is called.
fn plain(kind: ValueKind, text: &str) -> Result<&str, Holds> {
    if kind == ValueKind::Path && Path::new(text).symlink_metadata().is_ok() {
        return Ok(text);
    }
    kind.read(text).map_err(Holds)
}

/// The path in a text that is not an option's own value.
pub(crate) fn path_in(text: &str) -> Result<PathBuf, Holds> {
    plain(ValueKind::Path, text).map(PathBuf::from)
}

pub(super) type FromText<T> = Read<fn(&str) -> Result<T, <T as FromStr>::Err>>;

/// A GUID.
pub(super) fn id() -> FromText<Uuid> {
    Read { kind: ValueKind::Id, inner: Uuid::from_str }
}

/// A word or a number that has a type of its own.
pub(super) fn word<T: FromStr>() -> FromText<T> {
    Read { kind: ValueKind::Word, inner: T::from_str }
}

/// One of a list of words.
pub(super) fn choice<T: ValueEnum + Clone + Send + Sync + 'static>() -> Read<EnumValueParser<T>> {
    read(EnumValueParser::new())
}

/// A name, an address, a user.
pub(super) fn name() -> Read<StringValueParser> {
    read(StringValueParser::new())
}

/// Words for people.
pub(super) fn text() -> Read<StringValueParser> {
    Read { kind: ValueKind::Text, inner: StringValueParser::new() }
}

/// A file or a directory.
pub(super) fn path() -> Read<PathBufValueParser> {
    Read { kind: ValueKind::Path, inner: PathBufValueParser::new() }
}

/// What another parser takes.
pub(super) fn read<P: TypedValueParser>(inner: P) -> Read<P> {
    Read { kind: ValueKind::Word, inner }
}

/// clap's parser of a switch's variable, over what surrounds the value.
#[derive(Debug, Clone)]
pub(super) struct BoolishValueParser;

impl BoolishValueParser {
    pub(super) fn new() -> Self {
        Self
    }
}

impl TypedValueParser for BoolishValueParser {
    type Value = bool;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<bool, Error> {
        read(clap::builder::BoolishValueParser::new()).parse_ref(command, argument, value)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use clap::{ArgAction, CommandFactory as _};

    use super::*;
    use crate::cli::{Cli, SecretArgument};

    /// Every option and argument of every command but the lab's, with the command's words.
    fn arguments(command: &Command, path: &str, all: &mut Vec<(String, Arg)>) {
        let path = format!("{path} {}", command.get_name());
        if ["lab", "rehearse", "help"].contains(&command.get_name()) {
            return;
        }
        all.extend(command.get_arguments().map(|argument| (path.clone(), argument.clone())));
        command.get_subcommands().for_each(|inner| arguments(inner, &path, all));
    }

    /// What a value comes to where it is the only one of a line.
    fn parsed(argument: &Arg, value: &str) -> Result<(), Error> {
        // Its own rules about other arguments are not of interest.
        let mut alone = Arg::new("x").action(ArgAction::Set).allow_hyphen_values(true);
        alone = alone.value_parser(argument.get_value_parser().clone());
        Command::new("x").arg(alone).try_get_matches_from(["x", value]).map(|_| ())
    }

    #[test]
    fn every_option_names_the_character_that_it_does_not_take() {
        let mut command = Cli::command();
        command.build();
        let mut all = Vec::new();
        arguments(&command, "", &mut all);
        let secret = clap::builder::ValueParser::from(clap::value_parser!(SecretArgument)).type_id();
        let mut seen = 0;
        for (path, argument) in all {
            let is_flag = !argument.get_action().takes_values();
            let is_secret = argument.get_value_parser().type_id() == secret;
            if is_secret || is_flag && argument.get_env().is_none() {
                continue;
            }
            let named = format!("{path}: {}", argument.get_id());
            let error = parsed(&argument, "a\u{200b}b").expect_err(&named);
            assert!(error.source().is_some_and(|source| source.is::<Holds>()), "{named}: {error}");
            assert!(error.to_string().contains("a zero width space (U+200B) at character 2"), "{named}: {error}");
            seen += 1;
        }
        assert!(seen > 300, "{seen}");
    }

    #[test]
    fn what_surrounds_a_value_is_stripped() {
        const ID: &str = "5e2f6b1c-7d3a-4f0e-9a51-1f2e3d4c5b6a";
        for given in [format!("{{{ID}}}"), format!("\u{feff}{ID}\r\n"), format!("\u{201c}{ID}\u{201d}\u{a0}")] {
            let value = TypedValueParser::parse_ref(&id(), &Command::new("x"), None, OsStr::new(&given)).unwrap();
            assert_eq!(value.to_string(), ID, "{given:?}");
        }
        let on = TypedValueParser::parse_ref(&BoolishValueParser, &Command::new("x"), None, OsStr::new("true\r"));
        assert!(on.unwrap());
    }

    #[test]
    fn a_file_that_is_there_is_called_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("a\u{200b}b"), "").unwrap();
        assert_eq!(path_in(&path("a\u{200b}b")).unwrap(), dir.path().join("a\u{200b}b"));
        assert_eq!(path_in(&path("none\r")).unwrap(), dir.path().join("none"));
        assert!(path_in(&path("no\u{200b}ne")).unwrap_err().to_string().contains("U+200B"));
    }
}
