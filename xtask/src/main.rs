//! What a developer of azsreg runs: `cargo xtask test [--all]`, `bench`, `simulate`.
//!
//! It installs what the tests need under `target/`. What a machine lacks is named, left out and counted.

mod bench;
mod pages;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use tools::{Browser, browser, deny, python};

const USAGE: &str = "\
cargo xtask test          run the tests (at most 10 minutes after the build)
cargo xtask test --all    and the long suites: format, lints, licences, a thousand seeds, the release rehearsal
cargo xtask generate      write docs/reference/ anew from the code
cargo xtask screenshots   write a picture of every page of the portals to target/screenshots/, and the README's to docs/
cargo xtask bench [usage|portals]
                          measure side by side with peers, all or one part alone
cargo xtask simulate [--seed N] [--seeds M] [--pairs]
                          replay trials in virtual time; with --pairs two operators at one stamp alone";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["test"] => test(false),
        ["test", "--all"] => test(true),
        ["generate"] => {
            run(cargo(&["test", "--quiet", "-p", "azsreg", "--test", "generated"]).env("AZSREG_GENERATE", "1"))
        }
        ["screenshots"] => screenshots(),
        ["bench"] => bench::run(),
        ["bench", "usage"] => bench::run_usage(),
        ["bench", "portals"] => bench::run_portals(),
        ["simulate", ref rest @ ..] => {
            run(cargo(&["run", "--quiet", "--release", "-p", "azsreg-trial", "--"]).args(rest))
        }
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    eprintln!("$ {}", shown(command));
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", shown(command))) }
}

fn shown(command: &Command) -> String {
    let mut text = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

pub(crate) fn has(program: &str, arguments: &[&str]) -> bool {
    let found = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn test(all: bool) -> Result<(), String> {
    let mut lacking: Vec<String> = Vec::new();
    if all {
        if has("cargo", &["fmt", "--version"]) {
            run(&mut cargo(&["fmt", "--all", "--check"]))?;
        } else {
            lacking.push("rustfmt: the format was not checked".into());
        }
        if has("cargo", &["clippy", "--version"]) {
            let lints = [
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--features",
                "azsreg/crash-points",
                "--",
                "-D",
                "warnings",
            ];
            run(&mut cargo(&lints))?;
        } else {
            lacking.push("clippy: the lints were not run".into());
        }
        match deny() {
            Ok(()) => {}
            Err(None) => lacking.push("cargo-deny: licences and sources were not checked".into()),
            Err(Some(why)) => return Err(why),
        }
        // The README's first command, from the release build, twice in a row.
        for _ in 0..2 {
            run(cargo(&["run", "--quiet", "--release", "--", "rehearse"]).stdin(Stdio::null()))?;
        }
        for seeds in [&["--seeds", "1000"][..], &["--pairs", "--seeds", "2500"]] {
            let trials = ["run", "--quiet", "--release", "-p", "azsreg-trial", "--"];
            run(cargo(&trials).args(seeds).stdout(Stdio::null()))?;
        }
    }
    let peers = python();
    if let Err(why) = &peers {
        lacking.push(format!("Python packages ({why}): the tests with independent peers were left out"));
    }
    // The tests that a bare run leaves out are run all together, or not at all.
    let browser = if peers.is_ok() { browser() } else { Err("Python is lacking too".to_owned()) };
    if let Err(why) = &browser {
        lacking.push(format!("a browser ({why}): the tests in it were left out"));
    }
    let features = ["--workspace", "--features", "azsreg/crash-points"];
    // Each operation is killed at a spread of its points, or at every one.
    let nextest = has("cargo", &["nextest", "--version"]);
    let mut command = if nextest { cargo(&["nextest", "run"]) } else { cargo(&["test"]) };
    command.args(features);
    if all {
        command.env("AZSREG_EVERY_POINT", "1");
    }
    if let Ok(python) = &peers {
        command.env("AZSREG_PYTHON", python);
        command.args(if nextest { &["--run-ignored", "all", "--"][..] } else { &["--", "--include-ignored"][..] });
        match &browser {
            Ok(browser) => browser.name(&mut command),
            Err(_) => command.args(["--skip", "in_a_browser"]),
        };
    }
    if !nextest {
        lacking.push("cargo-nextest: cargo test was used in its place".into());
    }
    for what in &lacking {
        eprintln!("this machine lacks {what}");
    }
    eprintln!("{} things lacking", lacking.len());
    run(&mut command)
}

/// The pictures that the README shows.
const SHOWN: &[&str] = &["dashboard-wide-light", "marketplace-wide-light", "fleet-wide-dark"];

/// Every page as everybody sees it, by the test that looks at every page.
fn screenshots() -> Result<(), String> {
    let (directory, shown) = (root().join("target/screenshots"), root().join("docs/screenshots"));
    for directory in [&directory, &shown] {
        std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    }
    let browser: Browser = browser()?;
    let mut command = cargo(&["test", "--quiet", "-p", "azsreg", "--test", "browser"]);
    command.args(["--", "--include-ignored", "every_page"]).env("AZSREG_SCREENSHOTS", &directory);
    browser.name(&mut command);
    run(&mut command)?;
    for name in SHOWN {
        let file = format!("{name}.png");
        std::fs::copy(directory.join(&file), shown.join(&file)).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}
