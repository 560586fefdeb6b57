//! Nothing is lost for good without somebody having agreed to it.

use std::io::{BufRead as _, IsTerminal as _};

use azsreg_model::{Problem, code};

use crate::cli::{CareOptions, Global};
use crate::watch::Screen;

/// Lists what is lost and asks, unless `--yes` says so beforehand.
pub(crate) fn agree(
    global: &Global,
    care: &CareOptions,
    screen: &Screen,
    what: &str,
    lost: &[String],
) -> Result<(), Problem> {
    let mut lines = vec![what.to_owned()];
    lines.extend(lost.iter().map(|item| format!("  lost: {item}")));
    if care.yes {
        if !lost.is_empty() {
            screen.asides(&lines);
        }
        return Ok(());
    }
    if global.non_interactive || !std::io::stdin().is_terminal() {
        let mut problem = Problem::new(&code::NOT_CONFIRMED, format!("nobody has agreed to this: {what}"));
        problem.details = lost.iter().map(|item| format!("lost: {item}")).collect();
        return Err(problem);
    }
    lines.push("Go on? Type yes: ".into());
    screen.asks();
    screen.asides(&lines);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Problem::new(&code::NOT_CONFIRMED, format!("{what} The answer was not yes.")))
}
