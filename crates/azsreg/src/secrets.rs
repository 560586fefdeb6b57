//! Where secrets come from: `@FILE`, standard input, a variable, a prompt; never a value on the command line.

use std::path::Path;

use azsreg_model::{Problem, code, redact};
use azsreg_operations::files::input::{self, Input};
use clap::ArgMatches;
use clap::parser::ValueSource;
use secrecy::SecretString;
use uuid::Uuid;

use crate::ask;
use crate::cli::{Global, SecretArgument};
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

    fn expected(&self) -> Option<Uuid> {
        self.at.as_ref()?.cloud_id
    }

    /// Refuses a stamp that is another one than `stamps.json` says of the name that was given.
    pub(crate) fn check_stamp(&self, cloud_id: Uuid) -> Result<(), Problem> {
        match self.expected() {
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
        self.expected().is_some()
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

/// Reads a secret. `id` is the option's, `option` how it is written.
pub(crate) fn read(sources: &Sources, id: &str, option: &str, given: &SecretArgument) -> Result<SecretString, Problem> {
    let SecretArgument(text) = given;
    let secret = if let Some(path) = text.strip_prefix('@') {
        // A variable may hold a secret that begins with @: it is not repeated.
        let shown = if sources.on_command_line(id) { text.as_str() } else { "from the environment" };
        let read = input::read(Path::new(path), Input::Secret);
        utf8(read.map_err(|error| error.problem(&format!("{option} {shown}"), &code::SECRET_UNREADABLE))?, option)?
    } else if text == "-" {
        let read = input::stdin(Input::Secret);
        utf8(
            read.map_err(|error| error.problem(&format!("{option} -: standard input"), &code::SECRET_UNREADABLE))?,
            option,
        )?
    } else if sources.on_command_line(id) {
        return Err(Problem::new(
            &code::SECRET_ON_COMMAND_LINE,
            format!("{option} was given a value in place of @FILE"),
        ));
    } else {
        text.clone()
    };
    let secret = secret.strip_prefix('\u{feff}').unwrap_or(&secret).trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Problem::new(&code::SECRET_UNREADABLE, format!("{option}: the secret is empty")));
    }
    redact::remember(secret);
    Ok(secret.to_owned().into())
}

fn utf8(bytes: Vec<u8>, option: &str) -> Result<String, Problem> {
    String::from_utf8(bytes)
        .map_err(|_| Problem::new(&code::SECRET_UNREADABLE, format!("{option}: the secret is not UTF-8 text")))
}

/// The password of the privileged endpoint: as given, or asked for.
pub(crate) fn password(
    sources: &Sources,
    global: &Global,
    user: &str,
    given: Option<&SecretArgument>,
) -> Result<SecretString, Problem> {
    match given {
        Some(given) => read(sources, "pep_password", "--pep-password", given),
        None if !ask::is_there(global) => {
            Err(Problem::new(&code::BAD_ARGUMENT, "--pep-password is missing, and nobody can be asked for it")
                .next("Add --pep-password @FILE, or set AZSREG_PEP_PASSWORD."))
        }
        None => {
            let password = ask::password(&format!("Password of {user}: "))?;
            redact::remember(&password);
            Ok(password.into())
        }
    }
}
