//! `azsreg lab compare`: what a transcript says of COMPAT.md's rows, and where the lab differs from it.

use azsreg_lab::{Lab, LabOptions, StampOptions};
use azsreg_model::{ExitCode, Problem, code, decode_text};
use azsreg_operations::files::input::Input;
use azsreg_pep::{Credentials, Mechanism, Options, PrivilegedEndpoint};
use serde_json::json;

use super::rows::{ROWS, Verdict};
use super::{COMMANDS, FORMAT, Others, STATUS, Transcript, take};
use crate::Ended;
use crate::cli::LabCompareOptions;
use crate::state;
use crate::view::View;

/// Parameters that PowerShell adds to every advanced function.
const COMMON: &[&str] = &[
    "Debug",
    "ErrorAction",
    "ErrorVariable",
    "InformationAction",
    "InformationVariable",
    "OutBuffer",
    "OutVariable",
    "PipelineVariable",
    "ProgressAction",
    "Verbose",
    "WarningAction",
    "WarningVariable",
];

fn read(options: &LabCompareOptions) -> Result<Transcript, Problem> {
    let bytes = state::read("FILE", &options.file, Input::Transcript)?;
    let text = decode_text(&bytes).unwrap_or_default();
    let unreadable = |why: String| Problem::new(&code::FILE_UNREADABLE, format!("{}: {why}", options.file.display()));
    let transcript: Transcript = serde_json::from_str(&text).map_err(|error| {
        unreadable(format!("it is no transcript: {error}")).next("azsreg check --transcript FILE  makes one.")
    })?;
    if transcript.azsreg_transcript > FORMAT {
        let why =
            format!("it is a transcript of format {}, and this azsreg reads {FORMAT}", transcript.azsreg_transcript);
        return Err(unreadable(why).next("Use the azsreg that made it, or a newer one."));
    }
    Ok(transcript)
}

/// A lab's stamp of the same build and size, asked the same.
async fn twin(theirs: &Transcript) -> Result<Transcript, Ended> {
    let nodes = theirs.nodes.parse().unwrap_or(4);
    let mut stamp = StampOptions { nodes, ..StampOptions::default() };
    if azsreg_lab::world::stamp::parse_build(&theirs.build).is_some() {
        stamp.build.clone_from(&theirs.build);
    }
    let lab = Lab::start(LabOptions { stamps: vec![stamp], ..LabOptions::default() })
        .await
        .map_err(|error| crate::commands::lab::start_problem(&error))?;
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
    let ours = take(&endpoint, &Others::default()).await;
    endpoint.close().await;
    Ok(ours?)
}

/// Compares a transcript with the rows, and with a lab's stamp.
pub(crate) async fn compare(options: &LabCompareOptions, view: &View) -> Result<ExitCode, Ended> {
    let theirs = read(options)?;
    let differences = differences(&theirs, &twin(&theirs).await?);
    let rows: Vec<(&str, Verdict)> = ROWS.iter().map(|row| (row.name, (row.judge)(&theirs))).collect();
    let refuted = rows.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Refuted(_))).count();
    let differs = !differences.is_empty() || refuted > 0;
    let exit = if differs { ExitCode::CheckFailed } else { ExitCode::Done };
    if view.is_json() {
        let rows = rows.iter().map(|(name, verdict)| {
            let mut row = json!(verdict);
            row["row"] = json!(name);
            row
        });
        let message = format!(
            "{refuted} rows are refuted, {} answers differ from those of the stamp of build {}",
            differences.len(),
            theirs.build
        );
        let problem = differs.then(|| Problem::new(&code::LAB_DIFFERS, message));
        let document = json!({"build": theirs.build, "value": rows.collect::<Vec<_>>(), "differences": differences});
        view.document(&document, exit, problem.as_slice());
    } else {
        view.line("Rows of COMPAT.md:");
        for (name, verdict) in &rows {
            let (word, what) = match verdict {
                Verdict::Confirmed(what) => ("confirmed", what.as_str()),
                Verdict::Refuted(what) => ("refuted  ", what.as_str()),
                Verdict::Open(why) => ("open     ", *why),
            };
            view.line(&format!("  {word}  {}: {what}", name.replace('`', "")));
        }
        view.line("");
        match differences.is_empty() {
            true => view.line(&format!("The lab answers as the stamp of build {} did, call for call.", theirs.build)),
            false => view.line("Where the lab answers in another way:"),
        }
        differences.iter().for_each(|line| view.line(&format!("  {line}")));
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
        if call.cmdlet == STATUS && !ran {
            continue;
        }
        // The form before had the parameters of all commands together.
        let of_all = |path: &str| call.cmdlet == COMMANDS && path.starts_with("Parameters");
        for (path, kind) in call.output.iter().filter(|(path, _)| !of_all(path)) {
            match twin.output.get(path) {
                None => lines.push(format!("{what}: the lab lacks {path} ({kind})")),
                Some(other) if other != kind => {
                    lines.push(format!("{what}: {path} is {kind} on the stamp, {other} in the lab"));
                }
                Some(_) => {}
            }
        }
        for path in twin.output.keys().filter(|path| !of_all(path) && !call.output.contains_key(*path)) {
            lines.push(format!("{what}: the stamp lacks {path}"));
        }
    }
    // An endpoint has more commands than the lab: only those of the lab are compared, where any were told.
    for (name, parameters) in ours.commands.iter().filter(|_| !theirs.commands.is_empty()) {
        let Some(told) = theirs.commands.get(name) else {
            lines.push(format!("{name}: the stamp lacks it"));
            continue;
        };
        let beside = |parameter: &&String| !COMMON.contains(&parameter.as_str());
        if !told.is_empty() {
            let lacks = |whose: &str, parameter| format!("{name}: the {whose} lacks -{parameter}");
            lines.extend(told.difference(parameters).filter(beside).map(|parameter| lacks("lab", parameter)));
            lines.extend(parameters.difference(told).filter(beside).map(|parameter| lacks("stamp", parameter)));
        }
    }
    lines
}
