//! What an operator who works with several stamps is told to run: each command says at which stamp, and repeats what this one
//! was told, so that it sees the same. Secrets are files here, and files are named.

use azsreg_model::{Problem, StatusReport, command_of, quoted};
use clap::{Args as _, CommandFactory as _};
use uuid::Uuid;

use crate::cli::{Cli, SidesOptions};
use crate::secrets::Sources;
use crate::stamps::Way;

/// How commands are completed.
pub(crate) struct Advice {
    command: clap::Command,
    /// What this command was told on its line and others understand: the option's id, and what was typed.
    line: Vec<(String, Vec<String>)>,
}

/// What an entry of `stamps.json` says in place of the line.
const OF_AN_ENTRY: &[&str] = &[
    "pep_user",
    "pep_password",
    "transcript_share",
    "transcript_user",
    "transcript_password",
    "stamp_client_id",
    "stamp_client_secret",
    "stamp_client_certificate",
];

impl Advice {
    pub(crate) fn of(sources: &Sources) -> Self {
        let mut command = Cli::command();
        command.build();
        // How the sides are reached, and nothing that was agreed to or asked for.
        let ways = SidesOptions::augment_args(clap::Command::new("sides"));
        let mut ways: Vec<&str> = ways.get_arguments().map(|argument| argument.get_id().as_str()).collect();
        ways.retain(|id| *id != "pep");
        ways.push("state_dir");
        let given = |wanted: &str| sources.line().iter().find(|(id, _)| id == wanted).cloned();
        let line = ways.into_iter().filter_map(given).collect();
        Self { command, line }
    }

    /// Completes what to run next about a problem of a stamp.
    pub(crate) fn about(&self, problem: &mut Problem, way: Option<&Way>, subscription: Option<Uuid>) {
        problem.next = Some(self.next(problem.then(), way, subscription)).filter(|next| !next.is_empty());
    }

    /// Completes all that a report says of a stamp.
    pub(crate) fn report(&self, report: &mut StatusReport, way: Option<&Way>, subscription: Option<Uuid>) {
        let StatusReport { findings, azure, stamp, .. } = report;
        for problem in findings.iter_mut().chain(azure.as_mut().err()).chain(stamp.as_mut().err()) {
            self.about(problem, way, subscription);
        }
    }

    /// What to run next at a stamp that is registered in `subscription`. A sentence stays as it is.
    pub(crate) fn next(&self, then: &str, way: Option<&Way>, subscription: Option<Uuid>) -> String {
        let Some((typed, remark)) = command_of(then) else { return then.to_owned() };
        // An entry says its subscription itself.
        let own = way.filter(|way| way.name.is_some()).and_then(|way| way.subscription);
        let typed = &own.map_or_else(|| typed.to_owned(), |id| typed.replace(&format!(" --subscription {id}"), ""));
        let mut command = &self.command;
        for word in typed.split(' ').skip(1) {
            let Some(inner) = command.find_subcommand(word) else { break };
            command = inner;
        }
        let option = |id: &str| {
            let argument = command.get_arguments().find(|argument| argument.get_id() == id)?;
            let option = format!("--{}", argument.get_long()?);
            (!typed.split(' ').any(|word| word == option)).then_some(option)
        };
        let mut words = vec![typed.clone()];
        let mut named = false;
        if let Some(pep) = option("pep") {
            match way {
                // From here nobody reaches it: whoever is there runs it as it is.
                None if remark.contains("(at the stamp)") => return then.to_owned(),
                None => {
                    return format!("Name it in stamps.json, then run: {typed} --at NAME  {remark}").trim().to_owned();
                }
                Some(Way { name: Some(name), .. }) => {
                    named = true;
                    words.push(format!("--at {}", quoted(name)));
                }
                Some(way) => {
                    words.extend(way.pep.iter().map(|address| format!("{pep} {}", quoted(&address.to_string()))))
                }
            }
        }
        if let Some(id) = subscription.filter(|id| !named || own != Some(*id))
            && let Some(option) = option("subscription")
        {
            words.push(format!("{option} {id}"));
        }
        for (id, values) in &self.line {
            let by_entry = named && OF_AN_ENTRY.contains(&id.as_str());
            let Some(option) = option(id).filter(|_| !by_entry) else { continue };
            match values[..] {
                [] => words.push(option),
                _ => words.extend(values.iter().map(|value| format!("{option} {}", quoted(value)))),
            }
        }
        let line = words.join(" ");
        if remark.is_empty() { line } else { format!("{line}  {remark}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(line: &[&str]) -> Advice {
        let matches = Cli::command().try_get_matches_from([&["azsreg", "status", "--web"], line].concat()).unwrap();
        Advice::of(&Sources::of(&matches))
    }

    fn named() -> Way {
        let mut way = Way::default();
        (way.name, way.subscription) = (Some("New York".into()), Some(Uuid::from_u128(1)));
        way
    }

    #[test]
    fn a_command_says_at_which_stamp_and_a_sentence_does_not() {
        let advice = advice(&["--cloud", "AzureUSGovernment", "--pep-user", "CONTOSO\\cloudadmin", "-o", "json"]);
        let next = |then, way, id| advice.next(then, way, id);
        let (way, one, two) = (named(), Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let cloud = "--cloud AzureUSGovernment";
        let at = format!("--at {}", quoted("New York"));
        assert_eq!(next("azsreg renew", Some(&way), one), format!("azsreg renew {at} {cloud}"));
        let other = Uuid::from_u128(2);
        assert_eq!(next("azsreg renew", Some(&way), two), format!("azsreg renew {at} --subscription {other} {cloud}"));
        let typed = format!("azsreg renew --subscription {other}");
        assert_eq!(next(&typed, Some(&way), two), format!("{typed} {at} {cloud}"));
        assert_eq!(next("azsreg stamp info", Some(&way), one), format!("azsreg stamp info {at}"));
        assert_eq!(
            next("azsreg login  signs in.", Some(&way), one),
            format!("azsreg login --subscription {} {cloud}  signs in.", Uuid::from_u128(1))
        );
        assert_eq!(next("Run it again.", Some(&way), one), "Run it again.");
        // Whoever is at the stamp is the only one to reach it.
        let there = "azsreg offline renew start --out FILE  (at the stamp)";
        assert_eq!(next(there, None, one), there);
        // Nobody has said how to reach it: the line must not lead to another stamp, which a variable may name.
        assert_eq!(next("azsreg renew", None, one), "Name it in stamps.json, then run: azsreg renew --at NAME");
        let mut unnamed = Way::default();
        unnamed.pep = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        assert_eq!(
            next("azsreg renew", Some(&unnamed), None),
            format!(
                "azsreg renew --pep 192.0.2.1:5985 --pep 192.0.2.2:5985 --pep-user {} {cloud}",
                quoted("CONTOSO\\cloudadmin")
            )
        );
    }

    /// The options that are said once and for all, in variables or in `stamps.json`, may be left out; all else is in the command.
    #[test]
    fn every_command_of_the_catalogue_is_one() {
        use clap::error::ErrorKind;
        let filled = |word: &str| match word {
            "MODEL" => "capacity".to_owned(),
            "TEXT" | "TENANT" | "FILE" | "NUMBER" | "TAG" | "NAME" => word.to_lowercase(),
            word => word.to_owned(),
        };
        for code in azsreg_model::code::ALL {
            let Some((typed, _)) = command_of(code.next) else { continue };
            let mut words: Vec<String> = typed.split(' ').map(filled).collect();
            let mut command = &Cli::command();
            for word in &words[1..] {
                let Some(inner) = command.find_subcommand(word) else { break };
                command = inner;
            }
            for (id, value) in
                [("pep", "192.0.2.1"), ("subscription", "11111111-1111-4111-8111-111111111111"), ("pep_user", "u")]
            {
                let argument = command.get_arguments().find(|a| a.get_id() == id && a.get_env().is_some());
                if let Some(long) = argument.and_then(clap::Arg::get_long) {
                    words.extend([format!("--{long}"), value.to_owned()]);
                }
            }
            match Cli::command().try_get_matches_from(&words) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::DisplayHelp => {}
                Err(error) => panic!("{}: {typed}: {error}", code.id),
            }
        }
    }
}
