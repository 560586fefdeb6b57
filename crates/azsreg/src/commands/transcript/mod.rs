//! How a stamp and Azure answer to calls that only read: names, types, states and versions, with stand-ins for what is of a
//! person or a place. `azsreg check --transcript` takes it at a real stamp; `azsreg lab compare` says which rows of COMPAT.md
//! it confirms or refutes, and where the lab differs.

mod compare;
mod form;
mod rows;
mod standins;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use azsreg_arm::{Asked, AzurePort, RecordsPort};
use azsreg_model::{Problem, code};
use azsreg_operations::files::input::{self, Input};
use azsreg_operations::files::{
    self,
    output::{self, Rights},
};
use azsreg_operations::ports::Stamp as _;
use azsreg_pep::{Answered, PrivilegedEndpoint, Wire};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use compare::compare;
use standins::StandIns;

use crate::ask;
use crate::cli::{CheckOptions, Global};
use crate::view::View;

/// The form of the file. The one before is read as well.
const FORMAT: u32 = 2;
const INFORMATION: &str = "Get-AzureStackStampInformation";
const COMMANDS: &str = "Get-Command";
const STATUS: &str = "Get-ActionStatus";

/// The calls that are made: all of them only read.
const CALLS: &[(&str, &[(&str, &str)])] = &[
    (INFORMATION, &[]),
    (STATUS, &[("FunctionName", "New-AzureStackActivation")]),
    (STATUS, &[("FunctionName", "New-AzureBridgeServicePrincipal")]),
    (STATUS, &[("FunctionName", "Remove-AzureStackActivation")]),
    (COMMANDS, &[]),
];

/// Member paths, and what is there.
type Values = BTreeMap<String, BTreeSet<String>>;

/// One call and the form of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Call {
    cmdlet: String,
    arguments: BTreeMap<String, String>,
    /// `completed`, or the error's `FullyQualifiedErrorId`.
    ended: String,
    /// Member paths and the type of each, such as `AdminExternalEndpoints.AdminResourceManager: String (url)`.
    output: BTreeMap<String, String>,
    /// States, and stand-ins for ids and addresses.
    #[serde(default)]
    values: Values,
}

/// One question to a Resource Manager, and the form of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Question {
    what: String,
    status: u16,
    /// The code in Resource Manager's envelope; empty where there is none.
    code: String,
    output: BTreeMap<String, String>,
    values: Values,
}

/// How the connection to the privileged endpoint came about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Negotiated {
    tls: bool,
    server: String,
    mechanism: String,
    flags: Vec<String>,
    windows: String,
    signed: bool,
    psrp: String,
}

/// What came of leaving the connection silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Silence {
    seconds: u64,
    came: String,
}

/// A transcript.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Transcript {
    azsreg_transcript: u32,
    build: String,
    nodes: String,
    /// What could not be asked, and why.
    #[serde(default)]
    left_out: Vec<String>,
    #[serde(default)]
    wire: Option<Negotiated>,
    #[serde(default)]
    silence: Option<Silence>,
    /// The resource types of both providers, and the api-versions of each.
    #[serde(default)]
    api_versions: Values,
    #[serde(default)]
    asked: Vec<Question>,
    calls: Vec<Call>,
    /// The commands that the endpoint offers, and the parameters of each.
    #[serde(default)]
    commands: Values,
}

/// Whom a transcript asks, beside the privileged endpoint.
#[derive(Default)]
struct Others<'a, 'p> {
    azure: Option<(&'a AzurePort<'p>, Uuid, &'a str)>,
    records: Option<&'a RecordsPort<'p>>,
    silent_for: Option<Duration>,
    /// Names of this place that the operator gave.
    names: Vec<String>,
}

/// A transcript that was taken, and not yet shown.
pub(crate) struct Taken(Transcript);

/// Takes a transcript for `check`, of everybody who can be asked.
pub(crate) async fn take_for<'p>(
    options: &CheckOptions,
    stamp: &PrivilegedEndpoint,
    azure: Option<&AzurePort<'p>>,
    records: Option<&RecordsPort<'p>>,
) -> Result<Option<Taken>, Problem> {
    if options.transcript.is_none() {
        return Ok(None);
    }
    let mut names: Vec<String> = options.sides.pep.pep.iter().map(ToString::to_string).collect();
    names.extend(options.sides.pep.pep_user.clone());
    names.extend([&options.name, &options.location, &options.sides.cloud.tenant].into_iter().flatten().cloned());
    names.push(options.resource_group.clone());
    let azure = azure.map(|azure| (azure, options.subscription, options.resource_group.as_str()));
    take(stamp, &Others { azure, records, silent_for: options.silent_for, names }).await.map(|taken| Some(Taken(taken)))
}

async fn take(stamp: &PrivilegedEndpoint, others: &Others<'_, '_>) -> Result<Transcript, Problem> {
    let mut stand_ins = StandIns::default();
    others.names.iter().for_each(|name| stand_ins.are_of_this_place(name));
    let mut transcript = Transcript { azsreg_transcript: FORMAT, ..Transcript::default() };
    for (cmdlet, arguments) in CALLS {
        let answered = match stamp.ask(cmdlet, arguments).await {
            Ok(answered) => answered,
            // Without the stamp there is nothing to tell.
            Err(error) if *cmdlet == INFORMATION => return Err(*error.problem),
            Err(error) => {
                transcript.left_out.push(format!("{cmdlet}: {}", error.problem.code.id));
                continue;
            }
        };
        add_call(&mut transcript, &mut stand_ins, cmdlet, arguments, &answered);
    }
    transcript.wire = stamp.wire().await.map(|wire| negotiated(&wire));
    let mut asked = Vec::new();
    match (others.records, stamp.information().await) {
        (Some(records), Ok(information)) => asked.extend(records.probe(&information).await),
        (None, _) => transcript.left_out.push("the stamp's Resource Manager: no sign-in to it was given".into()),
        (_, Err(error)) => transcript.left_out.push(format!("the stamp's Resource Manager: {}", error.problem.code.id)),
    }
    match others.azure {
        Some((azure, subscription, group)) => asked.extend(azure.probe(subscription, group).await),
        None => transcript.left_out.push("Azure: no account is signed in".into()),
    }
    asked.iter().for_each(|asked| add_question(&mut transcript, &mut stand_ins, asked));
    match others.silent_for {
        Some(silent) => {
            let came = stamp.after_silence(silent).await.to_owned();
            transcript.silence = Some(Silence { seconds: silent.as_secs(), came });
        }
        None => transcript.left_out.push("a silent connection: --silent-for was not given".into()),
    }
    Ok(transcript)
}

fn add_call(
    transcript: &mut Transcript,
    stand_ins: &mut StandIns,
    cmdlet: &str,
    arguments: &[(&str, &str)],
    answered: &Answered,
) {
    if cmdlet == INFORMATION {
        let value = |path: &str| answered.leaves.iter().find(|leaf| leaf.path == path).map(|leaf| leaf.text.as_str());
        transcript.build = value("StampVersion").filter(|text| form::is_build(text)).unwrap_or_default().to_owned();
        transcript.nodes = value("NumberOfNodes").filter(|n| n.parse::<u16>().is_ok()).unwrap_or_default().to_owned();
        let general = ["StampVersion", "NumberOfNodes", "IdentitySystem"];
        for leaf in answered.leaves.iter().filter(|leaf| !general.contains(&leaf.path.as_str())) {
            stand_ins.are_of_this_place(&leaf.text);
        }
    }
    if cmdlet == COMMANDS {
        transcript.commands = form::commands(answered, stand_ins);
    }
    let (output, values) = form::of_answer(answered, stand_ins, cmdlet != COMMANDS);
    transcript.calls.push(Call {
        cmdlet: cmdlet.to_owned(),
        arguments: arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ended: stand_ins.words(&answered.ended),
        output,
        values,
    });
}

fn add_question(transcript: &mut Transcript, stand_ins: &mut StandIns, asked: &Asked) {
    let (status, body) = match &asked.came {
        Ok(came) => came,
        Err(error) => {
            transcript.left_out.push(format!("{}: {}", asked.what, error.problem.code.id));
            return;
        }
    };
    let code = body.pointer("/error/code").and_then(serde_json::Value::as_str);
    let code = code.map_or(String::new(), |code| stand_ins.word(code));
    form::api_versions(asked.what, body, stand_ins, &mut transcript.api_versions);
    let (output, values) = form::of_json(body, stand_ins);
    transcript.asked.push(Question { what: asked.what.to_owned(), status: *status, code, output, values });
}

/// The flags of NTLM that matter, by name (MS-NLMP 2.2.2.5).
const FLAGS: &[(u32, &str)] = &[
    (0x0000_0010, "sign"),
    (0x0000_0020, "seal"),
    (0x0008_0000, "extended session security"),
    (0x0080_0000, "target information"),
    (0x0200_0000, "version"),
    (0x2000_0000, "128-bit keys"),
    (0x4000_0000, "key exchange"),
    (0x8000_0000, "56-bit keys"),
];

fn negotiated(wire: &Wire) -> Negotiated {
    let numbers = |text: &str| text.len() < 8 && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let server = match wire.server.strip_prefix("Microsoft-HTTPAPI/") {
        Some(version) if numbers(version) => wire.server.as_str(),
        _ if wire.server.is_empty() => "",
        _ => "another",
    };
    Negotiated {
        tls: wire.tls,
        server: server.to_owned(),
        mechanism: if wire.spnego { "NTLM in SPNEGO" } else { "NTLM" }.into(),
        flags: FLAGS.iter().filter(|(flag, _)| wire.flags & flag != 0).map(|(_, name)| (*name).to_owned()).collect(),
        windows: wire.windows.map_or(String::new(), |(major, minor, build)| format!("{major}.{minor}.{build}")),
        signed: wire.signed,
        psrp: wire.protocol.clone().filter(|text| numbers(text)).unwrap_or_default(),
    }
}

/// Shows a transcript, and writes it if that is agreed to.
pub(crate) fn offer(options: &CheckOptions, path: &Path, taken: &Taken) -> Result<(), Problem> {
    let text = crate::door::json_pretty(&taken.0);
    if !options.yes {
        let question =
            format!("{text}\nThis is all that would be in the file. Write it to {}? Type yes: ", path.display());
        if !ask::line(&question)?.is_some_and(|answer| answer.eq_ignore_ascii_case("yes")) {
            View::note("the transcript was not written: the answer was not yes.");
            return Ok(());
        }
    }
    check_file(path)?;
    output::write(path, format!("{text}\n").as_bytes(), Rights::Private).map_err(|error| unwritable(path, &error))?;
    View::note(&format!("the transcript is in {}. Read it before you send it.", path.display()));
    Ok(())
}

/// Looks beforehand at what a transcript needs: a person to show it to, and a place.
pub(crate) fn check_options(global: &Global, options: &CheckOptions) -> Result<(), Problem> {
    let Some(path) = &options.transcript else { return Ok(()) };
    check_file(path)?;
    if !options.yes && !ask::is_there(global) {
        let message = "--transcript shows the file before it writes it, and there is no terminal to show it at";
        return Err(Problem::new(&code::NOT_CONFIRMED, message)
            .next("Run it at a terminal; or add --yes, and read the file before you send it."));
    }
    Ok(())
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
fn check_file(path: &Path) -> Result<(), Problem> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use azsreg_model::redact;
    use azsreg_pep::Leaf;
    use serde_json::{Value, json};

    /// Ids, addresses, people and secrets, as they turn up in answers.
    const PLANTED: &[&str] = &[
        "5f3b1c8e-0a6b-4c8f-9a6c-0f8c2b7d1e11",
        "{5F3B1C8E-0A6B-4C8F-9A6C-0F8C2B7D1E11}",
        "10.23.45.67",
        "https://anna.smith:secretive@adminmanagement.lisbon.contoso.example:30024/x/Q3Vyc2U?sig=AbC%2F123",
        "/subscriptions/5f3b1c8e-0a6b-4c8f-9a6c-0f8c2b7d1e11/resourceGroups/annas-group",
        "CONTOSO\\anna.smith",
        "anna.smith@contoso.example",
        "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJl",
        "-----BEGIN PRIVATE KEY----- MIIEvQ",
        "ERCS01",
        "2026-11-28T10:00:00Z",
        // Letters alone, but known: a password, and a name of the place.
        "correcthorsebatterystaple",
        "hunterhunter",
        "Lisbon",
        "contoso",
    ];
    /// What must not be in the file, in whatever case.
    const NEVER: &[&str] = &[
        "5f3b1c8e",
        "0f8c2b7d",
        "23.45",
        "anna",
        "lisbon",
        "contoso",
        "30024",
        "sig=",
        "abc%",
        "q3vyc2u",
        "eyj",
        "private",
        "ercs",
        "2026-11",
        "horse",
        "hunter",
        "secretive",
        "group-",
        "annas",
    ];

    fn answered(planted: &str) -> Answered {
        let leaf = |path: &str| Leaf { object: 0, path: path.into(), text: planted.into() };
        let paths =
            ["StampVersion", "NumberOfNodes", "IdentitySystem", "Name", "Status", "CloudID", "Parameters.X", "a[]"];
        let mut leaves: Vec<Leaf> = paths.iter().map(|path| leaf(path)).collect();
        leaves.extend([leaf(planted), leaf(&format!("Parameters.{planted}")), leaf(&format!("A.{planted}[]"))]);
        let form = [
            (planted.to_owned(), "String (text)".to_owned()),
            (format!("A.{planted}.b"), planted.to_owned()),
            ("Member".to_owned(), format!("String ({planted})")),
            ("Generic".to_owned(), format!("Dictionary`2[[{planted}]]")),
        ];
        Answered { ended: planted.into(), form: form.into(), leaves }
    }

    fn body(planted: &str) -> Value {
        json!({
            planted: {planted: [planted]}, "error": {"code": planted, "message": planted}, "tags": {"Mallory": planted},
            "value": [{"type": planted, "id": planted, "properties": {"provisioningState": planted}}],
            "registrationState": planted, "apiVersions": [planted],
            "resourceTypes": [{"resourceType": planted, "apiVersions": [planted, "2017-06-01"]}],
        })
    }

    #[test]
    fn what_is_planted_everywhere_is_nowhere_in_the_file() {
        redact::remember("correcthorsebatterystaple");
        redact::remember("hunterhunter");
        let mut stand_ins = StandIns::default();
        ["CONTOSO\\anna.smith", "Lisbon", "annas-group"].iter().for_each(|name| stand_ins.are_of_this_place(name));
        let mut transcript = Transcript::default();
        for planted in PLANTED {
            for cmdlet in [INFORMATION, STATUS, COMMANDS] {
                add_call(&mut transcript, &mut stand_ins, cmdlet, &[], &answered(planted));
            }
            for what in ["azure provider", "stamp provider", "stamp activation"] {
                add_question(&mut transcript, &mut stand_ins, &Asked { what, came: Ok((200, body(planted))) });
            }
            for server in [(*planted).to_owned(), format!("{planted}/2.0"), format!("Microsoft-HTTPAPI/{planted}")] {
                let wire = Wire { server, protocol: Some((*planted).to_owned()), ..Wire::default() };
                transcript.wire = Some(negotiated(&wire));
                let text = crate::door::json_pretty(&transcript).to_lowercase();
                for never in NEVER {
                    assert!(!text.contains(never), "{never} of {planted}: {text}");
                }
            }
        }
        let text = crate::door::json_pretty(&transcript);
        // It is not that nothing is told.
        for told in ["guid-1", "name-1", "2017-06-01", "member-1", "properties.provisioningState"] {
            assert!(text.contains(told), "{told}: {text}");
        }
        assert!(!text.contains("Mallory"), "{text}");
    }
}
