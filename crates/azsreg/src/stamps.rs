//! `stamps.json` in the state directory: how each stamp of a fleet is reached, for `--at NAME` and for `status --web`. It
//! names files of secrets, never a secret.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use azsreg_model::{NotText, Odd, Problem, ValueKind, code, decode_text, odd_in_json};
use azsreg_operations::files::{
    self,
    input::{self, Input, InputError},
    kept,
    output::{self, Rights},
};
use azsreg_pep::PepAddress;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _};
use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;
use uuid::Uuid;

use crate::cli::{Cli, SecretArgument, SidesOptions};
use crate::state;

/// How a stamp is reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    pub(crate) name: Option<String>,
    pub(crate) cloud_id: Option<Uuid>,
    pub(crate) subscription: Option<Uuid>,
    pub(crate) pep: Vec<PepAddress>,
    user: Option<String>,
    password: Option<SecretArgument>,
    client: Option<Uuid>,
    client_secret: Option<SecretArgument>,
    client_certificate: Option<PathBuf>,
}

impl Way {
    /// Whether it goes by this name, in any case.
    fn is_called(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|known| known.to_lowercase() == name.to_lowercase())
    }

    /// What it goes by until its stamp has said its cloud id.
    pub(crate) fn id(&self) -> String {
        let address = || self.pep.first().map(ToString::to_string).unwrap_or_default();
        self.name.clone().unwrap_or_else(address)
    }

    /// Points the options at this stamp. One of the file has its own sign-ins alone: what was given for another stamp is
    /// never sent to it.
    ///
    /// # Errors
    /// A file of a secret can't be read.
    pub(crate) fn point(&self, sides: &mut SidesOptions) -> Result<(), Problem> {
        let Some(name) = &self.name else { return Ok(()) };
        for (member, secret) in [("pep_password", &self.password), ("stamp_client_secret", &self.client_secret)] {
            if let Some(path) = secret.as_ref().and_then(|secret| secret.0.strip_prefix('@')) {
                input::check(Path::new(path), Input::Secret).map_err(|error| {
                    let named = format!("{member} of {name} in stamps.json: {path}");
                    error.problem(&named, &code::SECRET_UNREADABLE)
                })?;
            }
        }
        sides.pep.pep.clone_from(&self.pep);
        sides.pep.pep_user.clone_from(&self.user);
        sides.pep.pep_password.clone_from(&self.password);
        let pep = &mut sides.pep;
        (pep.transcript_share, pep.transcript_user, pep.transcript_password) = (None, None, None);
        sides.stamp_sign_in.stamp_client_id = self.client;
        sides.stamp_sign_in.stamp_client_secret.clone_from(&self.client_secret);
        sides.stamp_sign_in.stamp_client_certificate.clone_from(&self.client_certificate);
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with a list \"stamps\"")]
struct File {
    stamps: Vec<serde_json::Value>,
}

/// A stamp as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with name, pep, pep_user and pep_password")]
struct Written {
    name: String,
    pep: Vec<String>,
    pep_user: String,
    /// Of any kind, as the next one: what stands there in place of a file's name is not repeated, be it a number.
    pep_password: serde_json::Value,
    cloud_id: Option<Uuid>,
    subscription: Option<Uuid>,
    stamp_client_id: Option<Uuid>,
    stamp_client_secret: Option<serde_json::Value>,
    stamp_client_certificate: Option<PathBuf>,
}

/// The stamps of the file; none where there is no file.
fn listed(state_dir: &Path) -> Result<Vec<Way>, Problem> {
    let path = state_dir.join("stamps.json");
    let unreadable = |why: &dyn std::fmt::Display| {
        Problem::new(&code::FILE_UNREADABLE, format!("{}: {why}", path.display()))
            .cause("It is missing, or you may not read it, or it is not written as it has to be.")
            .next("Write it as docs/guide/portals.md shows, in UTF-8.")
    };
    match input::read(&path, Input::Stamps) {
        Ok(bytes) => read(state_dir, &bytes).map_err(|why| unreadable(&why)),
        Err(error) if error.is_missing() => Ok(Vec::new()),
        Err(InputError::Io(error)) if !files::no_descriptors(&error) => Err(unreadable(&error)),
        Err(error) => Err(error.problem(&path.display(), &code::FILE_UNREADABLE)),
    }
}

/// The stamps that can be asked: those of the file, and the one that the options name.
pub(crate) fn ways(state_dir: &Path, options: &SidesOptions) -> Result<Vec<Way>, Problem> {
    let mut ways = listed(state_dir)?;
    let given = &options.pep.pep;
    let listed = ways.iter().any(|way| way.pep.iter().any(|address| given.contains(address)));
    if !given.is_empty() && !listed {
        ways.push(Way { pep: given.clone(), ..Way::default() });
    }
    Ok(ways)
}

/// The entry of the file that goes by a name, or is of a stamp.
pub(crate) fn entry(state_dir: &Path, name: &str) -> Result<Option<Way>, Problem> {
    let id: Option<Uuid> = name.parse().ok();
    let is_meant = |way: &Way| way.is_called(name) || id.is_some() && way.cloud_id == id;
    Ok(listed(state_dir)?.into_iter().find(is_meant))
}

/// Takes an entry out of the file. As it was before, the file is kept beside the journals that were forgotten.
pub(crate) fn remove(state_dir: &Path, name: &str, now: Timestamp) -> Result<(), Problem> {
    let path = state_dir.join("stamps.json");
    let failed = |error: std::io::Error| files::problem(&path, &error);
    let at = listed(state_dir)?.iter().position(|way| way.is_called(name));
    let bytes =
        input::read(&path, Input::Stamps).map_err(|error| error.problem(&path.display(), &code::FILE_UNREADABLE))?;
    let text = decode_text(&bytes).unwrap_or_default();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let (Some(at), Some(stamps)) = (at, file["stamps"].as_array_mut()) else { return Ok(()) };
    stamps.remove(at);
    let archive = state_dir.join("forgotten");
    kept::make_directory(&archive).map_err(failed)?;
    let copy = archive.join(format!("stamps-{}.json", now.strftime("%Y%m%dT%H%M%SZ")));
    output::write(&copy, &bytes, Rights::Kept).map_err(|error| files::problem(&copy, &error))?;
    output::write(&path, format!("{file:#}\n").as_bytes(), Rights::Kept).map_err(failed)
}

/// A command's line, and the entry that `--at` has named in it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) way: Option<Way>,
}

/// The line with what `--at NAME` stands for: the stamp's endpoint, its sign-ins and its subscription, as far as the command
/// has such options. Without `--at` it stays as it is. There is no variable for it: a stamp is chosen on the line.
///
/// # Errors
/// The file can't be read or does not name the stamp; another stamp is named beside it, on the line or by a variable; the
/// command is at no stamp.
pub(crate) fn at(mut arguments: Vec<OsString>) -> Result<Line, Problem> {
    let asked = |argument: &OsString| argument.to_str().is_some_and(|text| text == "--at" || text.starts_with("--at="));
    if !arguments.iter().any(asked) {
        return Ok(Line { arguments, way: None });
    }
    // What is wrong otherwise is said when the whole line is read.
    let mut command = crate::without_empty(Cli::command()).ignore_errors(true);
    let Ok(matches) = command.try_get_matches_from_mut(&arguments) else {
        return Ok(Line { arguments, way: None });
    };
    let (mut command, mut matches, mut after) = (&command, &matches, 1);
    while let Some((name, inner)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name) else { break };
        (command, matches) = (found, inner);
        let word = arguments.iter().skip(after).position(|argument| argument == name);
        after += word.map_or(0, |at| at + 1);
    }
    let has = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
    let from = |id: &str| if has(id) { source(matches, id) } else { None };
    let on_line = |id: &str| from(id) == Some(ValueSource::CommandLine);
    let Ok(Some(name)) = matches.try_get_one::<String>("at") else { return Ok(Line { arguments, way: None }) };
    let refused = |message: String, next: &str| Err(Problem::new(&code::BAD_ARGUMENT, message).next(next));
    if !has("pep") {
        return refused("--at is for commands at a stamp".into(), "Leave it out here.");
    }
    if let Some(id) = ["pep", "pep_user", "pep_password"].into_iter().find(|id| on_line(id)) {
        return refused(format!("--at {name} and --{} are given both", id.replace('_', "-")), "Keep one of them.");
    }
    // What names a registration by a variable was set for some stamp, and nobody knows for which.
    if from("name") == Some(ValueSource::EnvVariable) {
        return refused(format!("AZSREG_NAME is set beside --at {name}"), "Unset it, or say --name on the line.");
    }
    if from("orphan").is_some() {
        let next =
            "Say --pep, --name and --subscription in place of --at: what is removed is looked at from one side only.";
        return refused(format!("--at {name} and --orphan are given both"), next);
    }
    let given = matches.try_get_one::<PathBuf>("state_dir").ok().flatten().cloned();
    let state_dir = state::directory_of(given)?;
    let ways = listed(&state_dir)?;
    let Some(way) = ways.iter().find(|way| way.is_called(name)) else {
        let names: Vec<&str> = ways.iter().filter_map(|way| way.name.as_deref()).collect();
        let message = format!("{} does not name {name}", state_dir.join("stamps.json").display());
        let next = match names[..] {
            [] => "Name it there, as docs/guide/portals.md shows: no stamp is named yet.".to_owned(),
            _ => format!("It names {}.", names.join(", ")),
        };
        return refused(message, &next);
    };
    let mut own: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: String| own.extend([option.into(), value.into()]);
    for address in &way.pep {
        add("--pep", address.to_string());
    }
    if let Some(user) = &way.user {
        add("--pep-user", user.clone());
    }
    if let Some(SecretArgument(file)) = &way.password {
        add("--pep-password", file.clone());
    }
    let sign_in = ["stamp_client_id", "stamp_client_secret", "stamp_client_certificate", "stamp_device_code"];
    let has_own = !has(sign_in[0]) || sign_in.into_iter().any(on_line);
    if let (Some(client), Some(SecretArgument(file)), false) = (way.client, &way.client_secret, has_own) {
        add("--stamp-client-id", client.to_string());
        add("--stamp-client-secret", file.clone());
    }
    if let (Some(client), Some(file), None, false) = (way.client, &way.client_certificate, &way.client_secret, has_own)
    {
        add("--stamp-client-id", client.to_string());
        add("--stamp-client-certificate", file.display().to_string());
    }
    if let Some(subscription) = way.subscription.filter(|_| has("subscription") && !on_line("subscription")) {
        add("--subscription", subscription.to_string());
    }
    // Right behind the command's words: nothing that stands further on can take them for its value.
    arguments.splice(after..after, own);
    Ok(Line { arguments, way: Some(way.clone()) })
}

/// Where a value came from; an id that the command does not have came from nowhere.
fn source(matches: &ArgMatches, id: &str) -> Option<ValueSource> {
    matches.try_contains_id(id).ok().filter(|there| *there).and_then(|_| matches.value_source(id))
}

/// What is wrong with the file. A secret that stands in it is not repeated.
#[derive(Debug, Error)]
enum Wrong {
    #[error("{0}")]
    Text(#[from] NotText),
    #[error("{0}")]
    Form(#[source] serde_json::Error),
    #[error("{0} holds {1}")]
    Holds(String, Odd),
    #[error("the stamp {0}: {1}")]
    Stamp(String, #[source] serde_json::Error),
    #[error("{member} of {name:?} is not @FILE: a secret is never written here")]
    Secret { member: &'static str, name: String },
    #[error("pep of {name:?}: {address} is not an address")]
    Address { name: String, address: String },
    #[error("the name {0:?} is empty, begins with -, is longer than 60 characters, or has two spaces in a row")]
    Name(String),
    #[error("{0:?} has no address of its privileged endpoint")]
    NoAddress(String),
    #[error("{0:?} and another entry have the same name, cloud id or privileged endpoint")]
    Twice(String),
}

/// An entry whose name, ids, addresses and users are without what surrounds them.
fn plain(mut stamp: serde_json::Value, called: &str) -> Result<serde_json::Value, Wrong> {
    for (member, value) in stamp.as_object_mut().into_iter().flatten() {
        let kind = match member.as_str() {
            "cloud_id" | "subscription" | "stamp_client_id" => ValueKind::Id,
            "pep" | "pep_user" => ValueKind::Word,
            "name" => ValueKind::Text,
            _ => continue,
        };
        let texts = match value {
            serde_json::Value::Array(several) => several.iter_mut().collect(),
            one => vec![one],
        };
        for text in texts {
            if let serde_json::Value::String(text) = text {
                let read = kind.read(text).map_err(|odd| Wrong::Holds(format!("{member} of {called}"), odd))?;
                *text = read.to_owned();
            }
        }
    }
    Ok(stamp)
}

fn read(state_dir: &Path, bytes: &[u8]) -> Result<Vec<Way>, Wrong> {
    let text = decode_text(bytes)?;
    let file: File = serde_json::from_str(&text).map_err(|error| match odd_in_json(&text, &error) {
        Some(odd) => Wrong::Holds("the file".into(), odd),
        None => Wrong::Form(error),
    })?;
    let mut ways: Vec<Way> = Vec::new();
    for (at, stamp) in file.stamps.into_iter().enumerate() {
        let called = stamp["name"].as_str().map_or_else(|| format!("number {}", at + 1), |name| format!("{name:?}"));
        let stamp = plain(stamp, &called)?;
        let written = serde_json::from_value(stamp).map_err(|error| Wrong::Stamp(called, error))?;
        let Written {
            name,
            pep,
            pep_user,
            pep_password,
            cloud_id,
            subscription,
            stamp_client_id,
            stamp_client_secret,
            stamp_client_certificate,
        } = written;
        // A secret stands in a file of its own: beside this one, unless its path says otherwise.
        let secret = |member, text: &serde_json::Value| match text.as_str().and_then(|text| text.strip_prefix('@')) {
            Some(path) if !path.is_empty() => Ok(SecretArgument(format!("@{}", state_dir.join(path).display()))),
            _ => Err(Wrong::Secret { member, name: name.clone() }),
        };
        let password = Some(secret("pep_password", &pep_password)?);
        let client_secret = stamp_client_secret.as_ref().map(|text| secret("stamp_client_secret", text)).transpose()?;
        let addresses =
            pep.into_iter().map(|address| address.parse().map_err(|_| Wrong::Address { name: name.clone(), address }));
        let pep = addresses.collect::<Result<Vec<PepAddress>, _>>()?;
        if name.is_empty() || name.starts_with('-') || name.chars().count() > 60 || name.contains("  ") {
            return Err(Wrong::Name(name.chars().take(60).collect()));
        }
        if pep.is_empty() {
            return Err(Wrong::NoAddress(name));
        }
        let same = |way: &Way| {
            way.is_called(&name)
                || cloud_id.is_some() && way.cloud_id == cloud_id
                || way.pep.iter().any(|address| pep.contains(address))
        };
        if ways.iter().any(same) {
            return Err(Wrong::Twice(name));
        }
        ways.push(Way {
            name: Some(name),
            cloud_id,
            subscription,
            pep,
            user: Some(pep_user),
            password,
            client: stamp_client_id,
            client_secret,
            client_certificate: stamp_client_certificate.map(|path| state_dir.join(path)),
        });
    }
    Ok(ways)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_guide_is_read() {
        let guide = include_str!("../../../docs/guide/portals.md");
        let block = guide.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        let ways = read(Path::new("/state"), block.as_bytes()).unwrap_or_default();
        let names: Vec<String> = ways.iter().map(Way::id).collect();
        assert_eq!(names, ["Lisbon", "Porto"]);
    }

    #[test]
    fn what_a_word_processor_or_an_editor_puts_in_is_read_or_named() {
        const ID: &str = "5e2f6b1c-7d3a-4f0e-9a51-1f2e3d4c5b6a";
        let text = format!(
            r#"{{"stamps": [{{"name": " L’Aquila\u200b", "pep": ["\ufeff10.0.0.1\r"], "pep_user": "A\\B\u00a0", "pep_password": "@f", "cloud_id": "{{{ID}}}"}}]}}"#
        );
        let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for bytes in [text.clone().into_bytes(), format!("\u{feff}{text}").into_bytes(), wide(u16::to_le_bytes)] {
            let ways = super::read(Path::new("/state"), &bytes).unwrap();
            assert_eq!((ways[0].id(), ways[0].user.as_deref()), ("L’Aquila".into(), Some("A\\B")));
            assert_eq!(ways[0].cloud_id.unwrap().to_string(), ID);
        }
        let why = |text: &str| super::read(Path::new("/state"), text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            why("{\n “stamps\": []}"),
            "the file holds a left double quotation mark (U+201C) at line 2, character 2"
        );
        assert_eq!(
            why(&text.replace("10.0.0.1", "10.0\\u200b.0.1")),
            "pep of \" L’Aquila\\u{200b}\" holds a zero width space (U+200B) at character 6"
        );
        assert!(why(&text.replace("L’Aquila", "L\\u202eA")).starts_with("name of "));
    }

    #[test]
    fn a_secret_in_the_file_is_refused_without_being_repeated() {
        let file = |password: &str| {
            format!(
                r#"{{"stamps": [{{"name": "Lisbon", "pep": ["10.0.0.1"], "pep_user": "A\\B", "pep_password": "{password}"}}]}}"#
            )
        };
        let read = |text: &str| super::read(Path::new("/state"), text.as_bytes());
        let why =
            read(&file("x").replace("\"x\"", "12345678")).err().map(|wrong| wrong.to_string()).unwrap_or_default();
        assert!(why.contains("pep_password of \"Lisbon\"") && !why.contains("12345678"), "{why}");
        let ways = read(&file("@lisbon.txt")).unwrap_or_default();
        assert_eq!(ways.first().and_then(|way| way.password.clone()).map(|p| p.0), Some("@/state/lisbon.txt".into()));
        let why = read(&file("hunter2")).err().map(|wrong| wrong.to_string()).unwrap_or_default();
        assert!(why.contains("pep_password of \"Lisbon\"") && !why.contains("hunter2"), "{why}");
        assert!(read(r#"{"stamps": [], "more": 1}"#).is_err());
        assert!(read(r#"{"stamps": [{"name": "L", "pep": [], "pep_user": "u", "pep_password": "@f"}]}"#).is_err());
    }
}
