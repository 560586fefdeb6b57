//! `azsreg explain`: a code, all codes, or what went wrong in a log of the PowerShell module.

use azsreg_model::{Code, ExitCode, LogEnd, LogRun, Problem, code, decode_log, read_module_log};
use azsreg_operations::files::input::Input;
use serde_json::json;

use crate::Ended;
use crate::cli::ExplainOptions;
use crate::state;
use crate::view::View;

pub(crate) fn run(options: &ExplainOptions, view: &View) -> Result<ExitCode, Ended> {
    match (&options.code, &options.from_log) {
        (_, Some(path)) => from_log(path, view),
        (Some(wanted), None) => one(wanted, view),
        (None, None) => {
            if view.is_json() {
                let all: Vec<_> = code::ALL.iter().map(|code| entry(code)).collect();
                view.json(&all);
            } else {
                for code in code::ALL {
                    view.line(&format!("{}  {}", code.id, code.title));
                }
            }
            Ok(ExitCode::Done)
        }
    }
}

fn entry(code: &Code) -> serde_json::Value {
    json!({"code": code.id, "title": code.title, "cause": code.cause, "next": code.next, "exit_code": code.exit})
}

fn one(wanted: &str, view: &View) -> Result<ExitCode, Ended> {
    let plain = wanted.trim().trim_start_matches("error[").trim_end_matches(']').to_ascii_uppercase();
    let digits = plain.trim_start_matches("AZR");
    let found = code::ALL.iter().find(|code| code.id == plain || &code.id[3..] == digits);
    let Some(code) = found else {
        return Err(Problem::new(&code::UNKNOWN_CODE, format!("there is no code {wanted}")).into());
    };
    if view.is_json() {
        view.json(&entry(code));
    } else {
        view.line(&format!("{}: {}", code.id, code.title));
        view.line(&format!("  why: {}", code.cause));
        view.line(&format!(" next: {}", code.next));
        view.line(&format!(
            " exit: {}, unless a step had begun: then 6, and the same command resumes",
            u8::from(code.exit)
        ));
    }
    Ok(ExitCode::Done)
}

fn from_log(path: &std::path::Path, view: &View) -> Result<ExitCode, Ended> {
    let bytes = state::read("--from-log", path, Input::Log)?;
    // PowerShell 7 paints its errors.
    let text = anstream::adapter::strip_str(&decode_log(&bytes)).to_string();
    let runs = read_module_log(&text);
    if view.is_json() {
        view.json(&runs.iter().map(run_entry).collect::<Vec<_>>());
        return Ok(ExitCode::Done);
    }
    if runs.iter().all(|run| run.findings.is_empty() && matches!(run.end, LogEnd::NotSeen)) {
        view.line("Nothing that azsreg knows went wrong in this log.");
        view.line("Look at its last lines; azsreg check looks at everything that registering needs.");
        return Ok(ExitCode::Done);
    }
    for run in &runs {
        shown(run, view);
    }
    Ok(ExitCode::Done)
}

fn run_entry(run: &LogRun) -> serde_json::Value {
    let findings = run.findings.iter().map(|found| {
        let mut value = entry(found.code);
        value["cause"] = json!(found.cause);
        value["next"] = json!(found.next);
        value["who"] = json!(found.who);
        value["line"] = json!(found.line);
        value["times"] = json!(found.times);
        value["excerpt"] = json!(found.excerpt);
        value["passed"] = json!(found.passed);
        value
    });
    let (end, stopped) = match &run.end {
        LogEnd::Done => ("done", None),
        LogEnd::Failed => ("failed", None),
        LogEnd::Stopped { line, step } => ("stopped", Some(json!({"line": line, "step": step}))),
        LogEnd::NotSeen => ("not-seen", None),
    };
    json!({
        "function": run.function, "line": run.line, "end": end, "stopped": stopped, "findings": findings.collect::<Vec<_>>(),
    })
}

fn shown(run: &LogRun, view: &View) {
    let times = |count: usize| if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let tries = || run.findings.iter().map(|found| found.times).sum::<usize>();
    let end = match &run.end {
        LogEnd::Done if run.findings.is_empty() => Some("it ended well.".to_owned()),
        LogEnd::Done => Some(format!("it ended well. What failed on the way ({}) went through later.", times(tries()))),
        LogEnd::Failed => Some("it failed.".to_owned()),
        LogEnd::Stopped { line, step } if step.is_empty() => Some(format!("the log stops at line {line}.")),
        LogEnd::Stopped { line, step } => Some(format!("the log stops at line {line}, after: {step}")),
        LogEnd::NotSeen => None,
    };
    if let Some(end) = end {
        let function = run.function.as_deref().unwrap_or("A run");
        view.line(&format!("{function}, line {}: {end}", run.line));
    }
    for found in &run.findings {
        let times = if found.times > 1 { format!(" ({} times)", found.times) } else { String::new() };
        let past = if found.passed && run.end != LogEnd::Done { "; it went through later" } else { "" };
        view.line(&format!("{} line {}{times}: {}{past}", found.code.id, found.line, found.code.title));
        if !found.passed {
            view.line(&format!("  why: {}", found.cause));
        }
        view.line(&format!("  log: {}", found.excerpt));
        if found.passed {
            continue;
        }
        if let Some(who) = found.who {
            view.line(&format!("  who: {who}"));
        }
        view.line(&format!(" next: {}", found.next));
    }
    let open = run.findings.iter().all(|found| found.passed);
    if open && matches!(run.end, LogEnd::Stopped { .. }) {
        let goes_on = goes_on_with(run.function.as_deref().unwrap_or_default());
        view.line(&format!(" next: azsreg status  shows what is there; then {goes_on} goes on from it."));
    }
}

/// The command that does what a function of the module was at.
fn goes_on_with(function: &str) -> &'static str {
    const COMMANDS: &[(&str, &str)] = &[
        ("Remove-AzsRegistration", "azsreg unregister"),
        ("Unregister-AzsEnvironment", "azsreg offline unregister"),
        ("Get-AzsRegistrationToken", "azsreg offline token"),
        ("Register-AzsEnvironment", "azsreg offline register"),
        ("Get-AzsActivationKey", "azsreg offline key"),
        ("New-AzsActivationResource", "azsreg offline activate"),
        ("Remove-AzsActivationResource", "azsreg offline deactivate"),
        ("Set-AzsRegistrationSubscription", "azsreg change-subscription"),
    ];
    let known = COMMANDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(function));
    known.map_or("azsreg register", |(_, command)| command)
}
