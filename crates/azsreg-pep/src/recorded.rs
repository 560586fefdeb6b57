//! What real PowerShell answers, through the client's own decoder: `tests/peers/record_powershell.py` records it anew.

use std::time::Duration;

use azsreg_operations::ports::{Class, PortError};
use azsreg_psrp::client::{Event, Pool};
use azsreg_psrp::messages::{Command, PipelineState};
use azsreg_psrp::wsman;

use crate::error::PepError;
use crate::failure::Failure;
use crate::session::Invocation;

/// The events of a recorded command, each packet of it as one answer.
fn events(scenario: &str) -> (String, Vec<Event>) {
    let recorded = include_str!("recorded.jsonl").lines().map(|line| serde_json::from_str(line).unwrap());
    let recorded: serde_json::Value =
        { recorded }.find(|line: &serde_json::Value| line["scenario"] == scenario).expect("it is recorded");
    let cmdlet = recorded["cmdlet"].as_str().unwrap().to_owned();
    let mut pool = Pool::new("http://stamp:5985/wsman", "PrivilegedEndpoint", Duration::from_secs(20));
    let (pipeline, _) = pool.command(&[Command::new(&cmdlet)]);
    let mut events = Vec::new();
    for fragments in recorded["fragments"].as_array().unwrap() {
        let sent = pool.receive(Some(pipeline));
        let stream = fragments.as_str().unwrap();
        let body = format!(
            r#"<rsp:ReceiveResponse><rsp:Stream Name="stdout" CommandId="{pipeline}">{stream}</rsp:Stream></rsp:ReceiveResponse>"#
        );
        let answer = wsman::respond("urn:x", &format!("uuid:{}", sent.id), &body);
        events.extend(pool.received(&sent, &answer).unwrap());
    }
    (cmdlet, events)
}

/// What a cmdlet gave, gathered as a session does.
pub(crate) fn outcome(scenario: &str) -> Result<Invocation, PortError> {
    let (cmdlet, events) = events(scenario);
    let mut result = Invocation::default();
    for event in events {
        match event {
            Event::Output(value) => result.output.push(value),
            Event::Error(record) => result.errors.push(record),
            Event::Verbose(text) => result.said.push(format!("VERBOSE: {text}")),
            Event::Warning(text) => result.said.push(format!("WARNING: {text}")),
            Event::Information(text) => result.said.push(text),
            Event::Progress(_) => {}
            Event::PipelineEnded(PipelineState::Completed, None) => return Ok(result),
            Event::PipelineEnded(PipelineState::Failed, Some(record)) => {
                let failure = Box::new(Failure::new(record, result.errors, result.said));
                return Err(PepError::Cmdlet { cmdlet, failure }.into());
            }
            other => panic!("{scenario}: {other:?}"),
        }
    }
    panic!("{scenario}: it did not end")
}

#[track_caller]
fn fails(scenario: &str, class: Class, code: &str, told: &[&str]) {
    // An error without a result is the cmdlet's failure, whether it ended it or not.
    let cmdlet = events(scenario).0;
    let ended = outcome(scenario).and_then(|result| Ok(crate::stamp::ended_well(&cmdlet, result)?));
    let error = ended.unwrap_err();
    assert_eq!((error.class, error.problem.code.id), (class, code), "{scenario}: {:?}", error.problem);
    let all = format!("{} {} {}", error.problem.message, error.problem.why(), error.problem.details.join("\n"));
    for words in told {
        assert!(all.contains(words), "{scenario}: no {words:?} in {all}");
    }
}

#[test]
fn a_cmdlet_that_is_missing_is_told_from_one_that_lacks_another() {
    fails("missing", Class::Permanent, "AZR2008", &["Get-AzureStackStampInformation", "CommandNotFoundException"]);
    let inner = ["did not find Get-InnerThing", "busy", "FullyQualifiedErrorId: CommandNotFoundException"];
    fails("missing inside", Class::Again, "AZR2011", &inner);
    let id = "5d1c3a52-0c2b-4f0e-9a67-2b8f0f6f7c11";
    fails(
        "busy, and missing inside",
        Class::Busy,
        "AZR2010",
        &[id, "Get-InnerThing", "CommandNotFoundException,New-RegistrationToken"],
    );
    fails("busy in a warning", Class::Busy, "AZR2010", &[id, "no more is known"]);
}

#[test]
fn the_cause_is_found_wherever_it_stands() {
    let inner = ["AADSTS53003", "The bridge was not made.", "The first."];
    fails("an inner exception", Class::Refused, "AZR3012", &inner);
    let details = ["The activation key is not good.", "recommended action: Ask for another.", "The exception.", "MyId"];
    fails("error details", Class::Permanent, "AZR2016", &details);
    let before = ["another action is in progress", "error before: a second error", "at last"];
    fails("errors before the last", Class::Busy, "AZR2010", &before);
    fails("a thrown text", Class::Again, "AZR2011", &["no more is known"]);
    fails("a rethrown exception", Class::Again, "AZR2011", &["divide by zero"]);
    for (scenario, id) in [
        ("a wrong value", "ParameterArgumentValidationError,New-RegistrationToken"),
        ("an unknown parameter", "NamedParameterNotFound,New-RegistrationToken"),
        ("a missing parameter", "MissingMandatoryParameter,New-RegistrationToken"),
    ] {
        assert!(format!("{:?}", outcome(scenario).unwrap_err()).contains(id), "{scenario}");
    }
}

#[test]
fn what_stands_beside_a_result_is_kept() {
    let result = outcome("a token and what follows").unwrap();
    assert_eq!(result.errors[0].message, "one host gave no serial number");
    assert_eq!(result.said, ["the token is made"]);
    assert_eq!(result.output.len(), 3);
    let only = outcome("only an error").unwrap();
    assert_eq!((only.output.len(), only.errors[0].id.as_str()), (0, "KeysNotMade,Set-RegistrationKeyPair"));
}
