//! Where secrets come from: `@FILE`, standard input, a variable, a prompt; never a value on the command line.

use azsreg_model::{Odd, Problem, SecretFlaw, ValueKind, as_written, code, decode_marked_text, read_password, redact};
use azsreg_operations::files::input::{self, Input};
use clap::ArgMatches;
use clap::parser::ValueSource;
use secrecy::SecretString;
use uuid::Uuid;

use crate::ask;
use crate::cli::{self, Global, Holds, SecretArgument};
use crate::stamps::Way;

/// Where each option's value came from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    given: Vec<(String, ValueSource)>,
    /// What was typed on the line, but for what may be a secret.
    line: Vec<(String, Vec<String>)>,
    at: Option<Way>,
}

impl Sources {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let (mut sources, mut line) = (Vec::new(), Vec::new());
        let mut level = Some(matches);
        while let Some(matches) = level {
            for id in matches.ids() {
                // Groups have no source of their own.
                if let Ok(Some(source)) =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| matches.value_source(id.as_str())))
                {
                    sources.push((id.to_string(), source));
                    if source == ValueSource::CommandLine {
                        line.extend(typed(matches, id.as_str()).map(|values| (id.to_string(), values)));
                    }
                }
            }
            level = matches.subcommand().map(|(_, inner)| inner);
        }
        Self { given: sources, line, at: None }
    }

    /// What was typed on the line: an option's id and its values, none for a switch. Of secrets there are names of files only.
    pub(crate) fn line(&self) -> &[(String, Vec<String>)] {
        &self.line
    }

    /// The same, of a command at a stamp that `--at` has named.
    pub(crate) fn at(self, at: Option<Way>) -> Self {
        Self { at, ..self }
    }

    /// The entry that `--at` has named.
    pub(crate) fn way(&self) -> Option<&Way> {
        self.at.as_ref()
    }

    /// The subscription that the line says, or the entry.
    pub(crate) fn subscription(&self) -> Option<Uuid> {
        let (_, values) = self.line.iter().find(|(id, _)| id == "subscription")?;
        values.first()?.parse().ok()
    }

    /// The cloud id that the entry says.
    pub(crate) fn cloud_id(&self) -> Option<Uuid> {
        self.at.as_ref()?.cloud_id
    }

    /// Refuses a stamp that is another one than `stamps.json` says of the name that was given.
    pub(crate) fn check_stamp(&self, cloud_id: Uuid) -> Result<(), Problem> {
        match self.cloud_id() {
            Some(expected) if expected != cloud_id => {
                let message = format!("stamps.json says {expected}, the stamp says {cloud_id}");
                Err(Problem::new(&code::OTHER_CLOUD_ID, message)
                    .cause("An address or the cloud id of that entry is another stamp's.")
                    .next("Put stamps.json in the state directory right. Nothing was changed."))
            }
            _ => Ok(()),
        }
    }

    /// Whether a stamp has to have a certain cloud id.
    pub(crate) fn expects(&self) -> bool {
        self.cloud_id().is_some()
    }

    /// Whether `--at` names the stamp: then the variables may be of another one.
    pub(crate) fn at_a_named_stamp(&self) -> bool {
        self.given.iter().any(|(known, _)| known == "at")
    }

    pub(crate) fn on_command_line(&self, id: &str) -> bool {
        self.given.iter().any(|(known, source)| known == id && *source == ValueSource::CommandLine)
    }
}

/// The values of an option as they were typed; not of one that may have been given a secret itself.
fn typed(matches: &ArgMatches, id: &str) -> Option<Vec<String>> {
    if matches.try_get_one::<bool>(id).is_ok() {
        return Some(Vec::new());
    }
    let values = matches.get_raw(id)?.map(|value| value.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
    let secret = matches.try_get_one::<SecretArgument>(id).is_ok();
    (!secret || values.iter().all(|value| value.starts_with('@'))).then_some(values)
}

/// Reads a secret that holds no space of any kind: an application's secret, a token. `id` is the option's, `option` how it is
/// written.
pub(crate) fn read(sources: &Sources, id: &str, option: &str, given: &SecretArgument) -> Result<SecretString, Problem> {
    let text = text_of(sources, id, option, given)?;
    let secret = ValueKind::Word.read(&text).map_err(|odd| refused(option, odd))?;
    kept(secret, option)
}

/// Reads a text that may have several lines: a licence.
pub(crate) fn read_text(
    sources: &Sources,
    id: &str,
    option: &str,
    given: &SecretArgument,
) -> Result<SecretString, Problem> {
    kept(as_written(&text_of(sources, id, option, given)?), option)
}

/// What was given, as text.
fn text_of(sources: &Sources, id: &str, option: &str, given: &SecretArgument) -> Result<String, Problem> {
    let SecretArgument(text) = given;
    // What surrounds a file's name is no part of it, as what surrounds a secret.
    let named = text.trim_start_matches(|c: char| c == '\u{feff}' || c.is_whitespace());
    let (bytes, from) = if let Some(path) = named.strip_prefix('@') {
        // A variable may hold a secret that begins with @: it is not repeated.
        let shown = if sources.on_command_line(id) { text.as_str() } else { "from the environment" };
        let named = format!("{option} {shown}");
        let path = cli::path_in(path).map_err(|holds| odd_value(&named, holds))?;
        (input::read(&path, Input::Secret), named)
    } else if named.trim_end() == "-" {
        (input::stdin(Input::Secret), format!("{option} -: standard input"))
    } else if sources.on_command_line(id) {
        let message = format!("{option} was given a value in place of @FILE");
        return Err(Problem::new(&code::SECRET_ON_COMMAND_LINE, message));
    } else {
        return Ok(text.clone());
    };
    let bytes = bytes.map_err(|error| error.problem(&from, &code::SECRET_UNREADABLE))?;
    decode_marked_text(&bytes).map_err(|error| Problem::new(&code::SECRET_UNREADABLE, format!("{option}: {error}")))
}

/// Refuses a value for a character in it.
pub(crate) fn odd_value(named: &str, holds: Holds) -> Problem {
    Problem::new(&code::ODD_CHARACTER, format!("{named}: {holds}"))
}

fn refused(option: &str, odd: Odd) -> Problem {
    Problem::new(&code::SECRET_ODD_CHARACTER, format!("{option}: the secret holds {odd}"))
}

fn kept(secret: &str, option: &str) -> Result<SecretString, Problem> {
    if secret.is_empty() {
        return Err(Problem::new(&code::SECRET_UNREADABLE, format!("{option}: the secret is empty")));
    }
    redact::remember(secret);
    Ok(secret.to_owned().into())
}

/// What decides about a password that may not be meant as it is.
#[derive(Clone, Copy)]
pub(crate) struct Passwords<'p> {
    pub(crate) sources: &'p Sources,
    pub(crate) global: &'p Global,
    /// `--password-as-is`.
    pub(crate) as_is: bool,
}

impl Passwords<'_> {
    /// Reads a password.
    pub(crate) fn read(&self, id: &str, option: &str, given: &SecretArgument) -> Result<SecretString, Problem> {
        self.meant(&text_of(self.sources, id, option, given)?, option)
    }

    /// The password of the privileged endpoint: as given, or asked for.
    pub(crate) fn of_endpoint(&self, user: &str, given: Option<&SecretArgument>) -> Result<SecretString, Problem> {
        match given {
            Some(given) => self.read("pep_password", "--pep-password", given),
            None if !ask::is_there(self.global) => {
                Err(Problem::new(&code::BAD_ARGUMENT, "--pep-password is missing, and azsreg can't ask for it")
                    .next("Add --pep-password @FILE, or set AZSREG_PEP_PASSWORD."))
            }
            None => {
                let password = ask::password(&format!("Password of {user}: "))?;
                self.meant(&password, "the password of the privileged endpoint")
            }
        }
    }

    /// The password that is sent: each one that is not meant counts towards the account's lockout.
    fn meant(&self, text: &str, option: &str) -> Result<SecretString, Problem> {
        let is_meant = |odd| match self.as_is || !ask::is_there(self.global) {
            true => Ok(self.as_is),
            false => agreed(option, odd),
        };
        kept(judged(text, option, is_meant)?, option)
    }
}

/// A password that is sent; `is_meant` says whether a character that is doubted is meant.
fn judged<'t>(
    text: &'t str,
    option: &str,
    is_meant: impl FnOnce(Odd) -> Result<bool, Problem>,
) -> Result<&'t str, Problem> {
    match read_password(text) {
        Ok(password) => Ok(password),
        Err(SecretFlaw::Refused(odd)) => Err(refused(option, odd)),
        Err(SecretFlaw::Doubtful(odd)) => match is_meant(odd)? {
            true => Ok(as_written(text)),
            false => Err(Problem::new(&code::SECRET_DOUBTFUL, format!("{option}: the password holds {odd}"))),
        },
    }
}

/// Asks whether a character of a password is meant.
fn agreed(option: &str, odd: Odd) -> Result<bool, Problem> {
    let question = "Each wrong password counts towards the account's lockout. Is this one right? Type yes:";
    let answer = ask::line(&format!("{option}: the password holds {odd}.\n{question}"))?;
    Ok(answer.is_some_and(|answer| answer.eq_ignore_ascii_case("yes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_asked_about_what_a_password_may_hold_and_about_nothing_else() {
        let asked = std::cell::Cell::new(0);
        let judge = |text, answer| {
            let is_meant = |_| {
                asked.set(asked.get() + 1);
                Ok(answer)
            };
            judged(text, "--pep-password", is_meant).map_err(|problem| problem.code.id)
        };
        assert_eq!(judge("p w\r\n", false), Ok("p w"));
        for refused in ["p\u{200b}w", "p\rw", "p\nw", "p\u{201d}w\u{feff}"] {
            assert_eq!(judge(refused, true), Err("AZR1021"), "{refused:?}");
        }
        assert_eq!(asked.get(), 0);
        assert_eq!(judge("\u{feff}p\u{201d}w\n", true), Ok("p\u{201d}w"));
        assert_eq!(judge("p\u{a0}w", false), Err("AZR1022"));
        assert_eq!(asked.get(), 2);
    }
}
