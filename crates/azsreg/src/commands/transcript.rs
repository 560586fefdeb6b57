//! What a stamp answers to reading calls, by its form: names and types, values only where they are of no person and no place.
//! `azsreg check --transcript` writes it at a real stamp, `azsreg lab compare` says where the lab differs.

use std::collections::BTreeMap;
use std::path::Path;

use azsreg_lab::{Lab, LabOptions, StampOptions};
use azsreg_model::{ExitCode, Problem, code, decode_text};
use azsreg_operations::files::input::{self, Input};
use azsreg_operations::files::{
    self,
    output::{self, Rights},
};
use azsreg_pep::{Answered, Credentials, Mechanism, Options, PrivilegedEndpoint};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Ended;
use crate::cli::LabCompareOptions;
use crate::state;
use crate::view::View;

/// The calls that are made: all of them only read.
const CALLS: &[(&str, &[(&str, &str)])] = &[
    ("Get-AzureStackStampInformation", &[]),
    ("Get-ActionStatus", &[("FunctionName", "New-AzureStackActivation")]),
    ("Get-ActionStatus", &[("FunctionName", "New-AzureBridgeServicePrincipal")]),
    ("Get-Command", &[]),
];

/// One call and the form of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Call {
    cmdlet: String,
    arguments: BTreeMap<String, String>,
    /// `completed`, or the error's `FullyQualifiedErrorId`.
    ended: String,
    /// Member paths and the type of each, such as `AdminExternalEndpoints.AdminResourceManager: String (url)`.
    output: BTreeMap<String, String>,
}

/// A transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Transcript {
    azsreg_transcript: u32,
    build: String,
    nodes: String,
    calls: Vec<Call>,
}

async fn take(stamp: &PrivilegedEndpoint) -> Result<Transcript, Ended> {
    let mut calls = Vec::new();
    let (mut build, mut nodes) = (String::new(), String::new());
    for (cmdlet, arguments) in CALLS {
        let answered: Answered = stamp.ask(cmdlet, arguments).await?;
        if *cmdlet == "Get-AzureStackStampInformation" {
            build = answered.values.get("StampVersion").cloned().unwrap_or_default();
            nodes = answered.values.get("NumberOfNodes").cloned().unwrap_or_default();
        }
        calls.push(Call {
            cmdlet: (*cmdlet).to_owned(),
            arguments: arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ended: answered.ended,
            output: answered.form,
        });
    }
    Ok(Transcript { azsreg_transcript: 1, build, nodes, calls })
}

/// Takes a transcript of a stamp and writes it.
pub(crate) async fn write(stamp: &PrivilegedEndpoint, path: &Path) -> Result<(), Ended> {
    let transcript = take(stamp).await?;
    // It is for other people: what a cmdlet's error quotes of ours is not in it.
    let text = crate::door::json_pretty(&transcript);
    check_file(path)?;
    output::write(path, format!("{text}\n").as_bytes(), Rights::Private)
        .map_err(|error| unwritable(path, &error).into())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Problem {
    let named = format!("--transcript {}", path.display());
    match files::no_descriptors(error) {
        true => files::out_of_descriptors(&named),
        false => {
            Problem::new(&code::STATE_UNWRITABLE, format!("{named}: {error}")).next("Choose another --transcript.")
        }
    }
}

/// Refuses to write over a file that is no earlier transcript, before anybody is asked. Makes nothing.
pub(crate) fn check_file(path: &Path) -> Result<(), Problem> {
    let taken = |why: &str| {
        Problem::new(&code::FILE_EXISTS, format!("--transcript {}: {why}", path.display()))
            .next("Choose another --transcript, or move the file away.")
    };
    match output::there(path).map_err(|error| unwritable(path, &error))? {
        None => {}
        Some(found) if found.is_symlink() => return Err(taken("it is a link, which is not followed")),
        Some(found) if !found.is_file() => return Err(taken("it is not a file")),
        Some(_) => {
            let earlier = input::read(path, Input::Transcript)
                .is_ok_and(|bytes| serde_json::from_slice::<Transcript>(&bytes).is_ok());
            if !earlier {
                return Err(taken("the file exists, and is no transcript"));
            }
        }
    }
    output::writable(path).map_err(|error| unwritable(path, &error))
}

/// Compares a transcript with one of a lab's stamp of the same build and size.
pub(crate) async fn compare(options: &LabCompareOptions, view: &View) -> Result<ExitCode, Ended> {
    let bytes = state::read("FILE", &options.file, Input::Transcript)?;
    let text = decode_text(&bytes).unwrap_or_default();
    let theirs: Transcript = serde_json::from_str(&text).map_err(|error| {
        Problem::new(&code::FILE_UNREADABLE, format!("{}: it is no transcript: {error}", options.file.display()))
            .next("azsreg check --transcript FILE  makes one.")
    })?;
    let nodes = theirs.nodes.parse().unwrap_or(4);
    let mut stamp = StampOptions { nodes, ..StampOptions::default() };
    if azsreg_lab::world::stamp::parse_build(&theirs.build).is_some() {
        stamp.build.clone_from(&theirs.build);
    }
    let lab = Lab::start(LabOptions { stamps: vec![stamp], ..LabOptions::default() })
        .await
        .map_err(|error| super::lab::start_problem(&error))?;
    let told = &lab.descriptor().stamps[0];
    let password = std::fs::read_to_string(&told.pep_password_file)
        .map_err(|error| Problem::new(&code::FILE_UNREADABLE, error.to_string()))?;
    let pep = Options {
        addresses: told.pep.iter().filter_map(|address| address.parse().ok()).collect(),
        credentials: Credentials { user: told.pep_user.clone(), password: password.into() },
        mechanism: Mechanism::Negotiate,
        configuration: "PrivilegedEndpoint".into(),
        connect_timeout: std::time::Duration::from_secs(10),
        authorities: azsreg_tls::Authorities::default(),
        transcript: None,
    };
    let endpoint = PrivilegedEndpoint::new(pep, Box::new(|_| {}));
    let ours = take(&endpoint).await;
    endpoint.close().await;
    let differences = differences(&theirs, &ours?);
    let exit = if differences.is_empty() { ExitCode::Done } else { ExitCode::CheckFailed };
    if view.is_json() {
        let message = format!("{} answers differ from those of the stamp of build {}", differences.len(), theirs.build);
        let problem = Problem::new(&code::LAB_DIFFERS, message);
        let problems = if exit == ExitCode::Done { &[] } else { std::slice::from_ref(&problem) };
        view.document(&json!({ "build": theirs.build, "value": differences }), exit, problems);
    } else if differences.is_empty() {
        view.line(&format!("The lab answers as the stamp of build {} did, call for call.", theirs.build));
    } else {
        for line in &differences {
            view.line(line);
        }
    }
    Ok(exit)
}

fn differences(theirs: &Transcript, ours: &Transcript) -> Vec<String> {
    let mut lines = Vec::new();
    for call in &theirs.calls {
        let what = match call.arguments.values().next() {
            Some(argument) => format!("{} {argument}", call.cmdlet),
            None => call.cmdlet.clone(),
        };
        let Some(twin) =
            ours.calls.iter().find(|other| other.cmdlet == call.cmdlet && other.arguments == call.arguments)
        else {
            lines.push(format!("{what}: the lab was not asked"));
            continue;
        };
        if twin.ended != call.ended {
            lines.push(format!("{what}: the stamp ended with {}, the lab with {}", call.ended, twin.ended));
        }
        // What an action that never ran has no status of is no difference.
        let ran = !twin.output.is_empty() && !call.output.is_empty();
        if call.cmdlet == "Get-ActionStatus" && !ran {
            continue;
        }
        for (path, kind) in &call.output {
            match twin.output.get(path) {
                None => lines.push(format!("{what}: the lab lacks {path} ({kind})")),
                Some(other) if other != kind => {
                    lines.push(format!("{what}: {path} is {kind} on the stamp, {other} in the lab"));
                }
                Some(_) => {}
            }
        }
        for path in twin.output.keys().filter(|path| !call.output.contains_key(*path)) {
            lines.push(format!("{what}: the stamp lacks {path}"));
        }
    }
    lines
}
