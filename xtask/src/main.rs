//! What a developer of azsreg runs: `cargo xtask test [--all]`, `bench`, `simulate`.
//!
//! It installs what the tests need under `target/`. What a machine lacks is named, left out and counted.

mod bench;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const USAGE: &str = "\
cargo xtask test          run the tests (at most 10 minutes after the build)
cargo xtask test --all    and the long suites: format, lints, licences, a thousand seeds, the release rehearsal
cargo xtask generate      write docs/reference/ anew from the code
cargo xtask bench [usage] measure side by side with peers, all or the listing and taking of usage alone
cargo xtask simulate [--seed N] [--seeds M]
                          replay trials in virtual time";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["test"] => test(false),
        ["test", "--all"] => test(true),
        ["generate"] => {
            run(cargo(&["test", "--quiet", "-p", "azsreg", "--test", "generated"]).env("AZSREG_GENERATE", "1"))
        }
        ["bench"] => bench::run(),
        ["bench", "usage"] => bench::run_usage(),
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

fn has(program: &str, arguments: &[&str]) -> bool {
    let found = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// The interpreter with the pinned packages of `tests/peers/requirements.txt`, installed if they are not.
pub(crate) fn python() -> Result<PathBuf, String> {
    let home = root().join("target/peers");
    let python = if cfg!(windows) { home.join("Scripts/python.exe") } else { home.join("bin/python") };
    let wanted = root().join("tests/peers/requirements.txt");
    let mark = home.join("requirements.txt");
    let text = std::fs::read_to_string(&wanted).map_err(|error| error.to_string())?;
    if python.exists() && std::fs::read_to_string(&mark).is_ok_and(|now| now == text) {
        return Ok(python);
    }
    let system =
        ["python3", "python"].into_iter().find(|name| has(name, &["--version"])).ok_or("there is no Python 3")?;
    let home_text = home.to_string_lossy().into_owned();
    run(Command::new(system).args(["-m", "venv", "--clear", &home_text]))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"];
    run(Command::new(&python).args(pip).arg(&wanted))?;
    std::fs::write(&mark, text).map_err(|error| error.to_string())?;
    Ok(python)
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
        run(cargo(&["run", "--quiet", "--release", "-p", "azsreg-trial", "--", "--seeds", "1000"])
            .stdout(Stdio::null()))?;
    }
    let peers = python();
    if let Err(why) = &peers {
        lacking.push(format!("Python packages ({why}): the tests with independent peers were left out"));
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
        command.args(if nextest { &["--run-ignored", "all"][..] } else { &["--", "--include-ignored"][..] });
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

/// The version of cargo-deny that is installed where there is none.
const DENY: &str = "0.20.2";

/// Licences, sources and duplicates by `deny.toml`. Advisories need a database from the network and are left to releases.
fn deny() -> Result<(), Option<String>> {
    let tools = root().join("target/tools");
    // The check reads the manifests of every target's crates, and fetches none itself.
    run(&mut cargo(&["fetch", "--locked", "--quiet"])).map_err(|_| None)?;
    let check = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    if has("cargo", &["deny", "--version"]) {
        return run(&mut cargo(&check)).map_err(Some);
    }
    let own = tools.join("bin/cargo-deny");
    if !own.exists() {
        let place = tools.to_string_lossy().into_owned();
        let install = ["install", "--quiet", "cargo-deny", "--version", DENY, "--locked", "--root", &place];
        run(&mut cargo(&install)).map_err(|_| None)?;
    }
    run(Command::new(own).args(check).current_dir(root())).map_err(Some)
}
