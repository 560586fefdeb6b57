//! `stamps.json` in the state directory: how each stamp of a fleet is reached. It names files of secrets, never a secret.

use std::path::Path;

use azsreg_model::{Problem, code};
use azsreg_pep::PepAddress;
use serde::Deserialize;
use thiserror::Error;
use uuid::Uuid;

use crate::cli::{SecretArgument, SidesOptions};

/// How a stamp is reached.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) name: Option<String>,
    pub(super) cloud_id: Option<Uuid>,
    pub(super) subscription: Option<Uuid>,
    pub(super) pep: Vec<PepAddress>,
    user: Option<String>,
    password: Option<SecretArgument>,
    client: Option<Uuid>,
    client_secret: Option<SecretArgument>,
}

impl Way {
    /// What it goes by until its stamp has said its cloud id.
    pub(super) fn id(&self) -> String {
        let address = || self.pep.first().map(ToString::to_string).unwrap_or_default();
        self.name.clone().unwrap_or_else(address)
    }

    /// Points the options at this stamp. One of the file has its own sign-ins alone: what was given for another stamp is
    /// never sent to it.
    ///
    /// # Errors
    /// A file of a secret can't be read.
    pub(super) fn point(&self, sides: &mut SidesOptions) -> Result<(), Problem> {
        let Some(name) = &self.name else { return Ok(()) };
        for (member, secret) in [("pep_password", &self.password), ("stamp_client_secret", &self.client_secret)] {
            if let Some(path) = secret.as_ref().and_then(|secret| secret.0.strip_prefix('@')) {
                std::fs::File::open(path).map_err(|error| {
                    Problem::new(
                        &code::SECRET_UNREADABLE,
                        format!("{member} of {name} in stamps.json: {path}: {error}"),
                    )
                })?;
            }
        }
        sides.pep.pep.clone_from(&self.pep);
        sides.pep.pep_user.clone_from(&self.user);
        sides.pep.pep_password.clone_from(&self.password);
        sides.stamp_sign_in.stamp_client_id = self.client;
        sides.stamp_sign_in.stamp_client_secret.clone_from(&self.client_secret);
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stamps: Vec<Written>,
}

/// A stamp as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    pep: Vec<String>,
    pep_user: String,
    pep_password: String,
    cloud_id: Option<Uuid>,
    subscription: Option<Uuid>,
    stamp_client_id: Option<Uuid>,
    stamp_client_secret: Option<String>,
}

/// The stamps that can be asked: those of the file, and the one that the options name.
pub(super) fn ways(state_dir: &Path, options: &SidesOptions) -> Result<Vec<Way>, Problem> {
    let path = state_dir.join("stamps.json");
    let mut ways = match std::fs::read(&path) {
        Ok(bytes) => read(state_dir, &bytes).map_err(|why| {
            Problem::new(&code::FILE_UNREADABLE, format!("{}: {why}", path.display()))
                .next("Write it as the guide, \"The portals\", shows.")
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return Err(Problem::new(&code::FILE_UNREADABLE, format!("{}: {error}", path.display())));
        }
    };
    let given = &options.pep.pep;
    let listed = ways.iter().any(|way| way.pep.iter().any(|address| given.contains(address)));
    if !given.is_empty() && !listed {
        let (name, password, client_secret) = (None, None, None);
        let pep = given.clone();
        ways.push(Way {
            name,
            cloud_id: None,
            subscription: None,
            pep,
            user: None,
            password,
            client: None,
            client_secret,
        });
    }
    Ok(ways)
}

/// What is wrong with the file. A secret that stands in it is not repeated.
#[derive(Debug, Error)]
enum Wrong {
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    #[error("{member} of {name:?} is not @FILE: a secret is never written here")]
    Secret { member: &'static str, name: String },
    #[error("pep of {name:?}: {address} is not an address")]
    Address { name: String, address: String },
    #[error("a stamp has no name, or no address of its privileged endpoint")]
    Empty,
    #[error("{0:?} and another entry have the same name or cloud id")]
    Twice(String),
}

fn read(state_dir: &Path, bytes: &[u8]) -> Result<Vec<Way>, Wrong> {
    let file: File = serde_json::from_slice(bytes)?;
    let mut ways: Vec<Way> = Vec::new();
    for Written { name, pep, pep_user, pep_password, cloud_id, subscription, stamp_client_id, stamp_client_secret } in
        file.stamps
    {
        // A secret stands in a file of its own: beside this one, unless its path says otherwise.
        let secret = |member, text: &str| match text.strip_prefix('@') {
            Some(path) if !path.is_empty() => Ok(SecretArgument(format!("@{}", state_dir.join(path).display()))),
            _ => Err(Wrong::Secret { member, name: name.clone() }),
        };
        let password = Some(secret("pep_password", &pep_password)?);
        let client_secret = stamp_client_secret.as_ref().map(|text| secret("stamp_client_secret", text)).transpose()?;
        let addresses =
            pep.into_iter().map(|address| address.parse().map_err(|_| Wrong::Address { name: name.clone(), address }));
        let pep = addresses.collect::<Result<Vec<PepAddress>, _>>()?;
        if name.is_empty() || pep.is_empty() {
            return Err(Wrong::Empty);
        }
        let same = |way: &Way| way.name.as_ref() == Some(&name) || cloud_id.is_some() && way.cloud_id == cloud_id;
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
        });
    }
    Ok(ways)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_guide_is_read() {
        let guide = include_str!("../../../../../docs/guide/portals.md");
        let block = guide.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        let ways = read(Path::new("/state"), block.as_bytes()).unwrap_or_default();
        let names: Vec<String> = ways.iter().map(Way::id).collect();
        assert_eq!(names, ["Lisbon", "Porto"]);
    }

    #[test]
    fn a_secret_in_the_file_is_refused_without_being_repeated() {
        let file = |password: &str| {
            format!(
                r#"{{"stamps": [{{"name": "Lisbon", "pep": ["10.0.0.1"], "pep_user": "A\\B", "pep_password": "{password}"}}]}}"#
            )
        };
        let read = |text: &str| super::read(Path::new("/state"), text.as_bytes());
        let ways = read(&file("@lisbon.txt")).unwrap_or_default();
        assert_eq!(ways.first().and_then(|way| way.password.clone()).map(|p| p.0), Some("@/state/lisbon.txt".into()));
        let why = read(&file("hunter2")).err().map(|wrong| wrong.to_string()).unwrap_or_default();
        assert!(why.contains("pep_password of \"Lisbon\"") && !why.contains("hunter2"), "{why}");
        assert!(read(r#"{"stamps": [], "more": 1}"#).is_err());
        assert!(read(r#"{"stamps": [{"name": "L", "pep": [], "pep_user": "u", "pep_password": "@f"}]}"#).is_err());
    }
}
