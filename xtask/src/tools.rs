//! What the tests need of others, installed under `target/` where it can be; Debian's packages where it must.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{cargo, has, root, run};

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

/// A browser with its driver, and axe.
pub(crate) struct Browser {
    driver: PathBuf,
    axe: PathBuf,
}

impl Browser {
    /// Tells a command where they are.
    pub(crate) fn name<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("AZSREG_CHROMEDRIVER", &self.driver).env("AZSREG_AXE", &self.axe)
    }
}

/// The browser of this machine, or Debian's, and axe as `tests/browser/package-lock.json` pins it.
pub(crate) fn browser() -> Result<Browser, String> {
    let driver = PathBuf::from("chromedriver");
    let there = || has("chromedriver", &["--version"]);
    if !there() {
        let packages = ["chromium", "chromium-driver", "fonts-dejavu-core"];
        let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
        install.extend(packages);
        if !has("apt-get", &["--version"]) {
            return Err("chromedriver is not there, and only Debian's is installed from here".into());
        }
        for arguments in [&["update", "--quiet"][..], &install[..]] {
            let apt = |mut command: Command| {
                command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
                run(command.args(arguments))
            };
            let as_root = || {
                let mut command = Command::new("sudo");
                command.args(["--non-interactive", "apt-get"]);
                command
            };
            apt(Command::new("apt-get")).or_else(|_| apt(as_root()))?;
        }
        if !there() {
            return Err("chromedriver is not there after it was installed".into());
        }
    }
    let home = root().join("target/browser");
    let axe = home.join("node_modules/axe-core/axe.min.js");
    let pinned = root().join("tests/browser");
    let text = |path: PathBuf| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let lock = text(pinned.join("package-lock.json"))?;
    // Written last: what is marked was installed whole.
    let mark = home.join("installed.json");
    if !axe.exists() || !text(mark.clone()).is_ok_and(|now| now == lock) {
        std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(pinned.join(file), home.join(file)).map_err(|error| format!("{file}: {error}"))?;
        }
        let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
        run(Command::new(npm)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
            .current_dir(&home))?;
        std::fs::write(&mark, &lock).map_err(|error| error.to_string())?;
    }
    Ok(Browser { driver, axe })
}

/// The version of cargo-deny that is installed where there is none.
const DENY: &str = "0.20.2";

/// Licences, sources and duplicates by `deny.toml`. Advisories need a database from the network and are left to releases.
pub(crate) fn deny() -> Result<(), Option<String>> {
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
