//! `azsreg explain`: a code, all codes, or what went wrong in a log of the PowerShell module.

use azsreg_model::{Code, ExitCode, Problem, code, decode_text, read_module_log};
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
    let findings = read_module_log(&text);
    if view.is_json() {
        let all: Vec<_> = findings
            .iter()
            .map(|found| {
                let mut value = entry(found.code);
                value["line"] = json!(found.line);
                value["times"] = json!(found.times);
                value["excerpt"] = json!(found.excerpt);
                value
            })
            .collect();
        view.json(&all);
        return Ok(ExitCode::Done);
    }
    if findings.is_empty() {
        view.line("Nothing that azsreg knows went wrong in this log.");
        view.line("Look at its last lines; azsreg check looks at everything that registering needs.");
        return Ok(ExitCode::Done);
    }
    for found in &findings {
        let times = if found.times > 1 { format!(" ({} times)", found.times) } else { String::new() };
        view.line(&format!("{} line {}{times}: {}", found.code.id, found.line, found.code.title));
        view.line(&format!("  log: {}", found.excerpt));
        view.line(&format!("  why: {}", found.code.cause));
        view.line(&format!(" next: {}", found.code.next));
    }
    Ok(ExitCode::Done)
}
