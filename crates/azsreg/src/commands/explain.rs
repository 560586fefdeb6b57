//! `azsreg explain`: a code, all codes, or what went wrong in a log of the PowerShell module.

use azsreg_model::{Code, ExitCode, LogEnd, LogRun, Problem, code, decode_text, read_module_log};
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
    json!({"code": code.id, "title": code.title, "cause": code.cause, "next": code.next, "exit": u8::from(code.exit)})
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
    let text = match decode_text(&bytes) {
        Ok(text) => text,
        // A log in some other code page: what matters in it is plain.
        Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    };
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
    let done = matches!(run.end, LogEnd::Done);
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
        view.line(&format!("{} line {}{times}: {}", found.code.id, found.line, found.code.title));
        view.line(&format!("  log: {}", found.excerpt));
        if done {
            continue;
        }
        view.line(&format!("  why: {}", found.cause));
        if let Some(who) = found.who {
            view.line(&format!("  who: {who}"));
        }
        view.line(&format!(" next: {}", found.next));
    }
    if run.findings.is_empty() && matches!(run.end, LogEnd::Stopped { .. }) {
        view.line(" next: azsreg status  shows what is there; then azsreg register goes on from it.");
    }
}
