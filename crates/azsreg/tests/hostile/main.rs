//! Against servers that were made to do harm: small ones, written here by hand, that share nothing with the lab. Each
//! misbehaviour is a row of a table: the code that it ends with, what the servers received, the memory that it cost at most
//! and the time.
//!
//! `arm.rs` has the Resource Manager and the metadata, `authority.rs` the directory and the kept sign-ins, `claims.rs` a
//! Resource Manager that challenges every write, `pep.rs` the privileged endpoint.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod arm;
mod authority;
mod claims;
mod ntlm;
mod pep;
mod server;
mod wires;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use server::{SECRET, Stage, Who};

/// No server makes azsreg hold more, in KiB.
const MOST_HELD: u64 = 256 << 10;
/// As many commands run side by side.
const SIDE_BY_SIDE: usize = 6;

/// What ran, and what it cost.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) took: Duration,
    /// The most memory that it held at once, in KiB; 0 where the system does not say.
    pub(crate) held: u64,
}

/// Runs a command to its end, and watches its memory.
pub(crate) fn watched(command: &mut Command) -> Ran {
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let file = |path: &Path| std::fs::File::create(path).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err)).spawn().unwrap();
    let mut held = 0;
    let code = loop {
        held = held.max(memory(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if begun.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = format!("{}{}", std::fs::read_to_string(out).unwrap(), std::fs::read_to_string(err).unwrap());
    Ran { code, said, took: begun.elapsed(), held }
}

/// The most memory that a process has held at once, in KiB.
fn memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// One misbehaviour, and what is to come of it.
pub(crate) struct Row {
    pub(crate) name: String,
    /// The command.
    pub(crate) arguments: Vec<&'static str>,
    /// Whose endpoint it is pointed at.
    pub(crate) at: Who,
    /// With which sign-in.
    pub(crate) sign_in: SignedIn,
    /// The code that it ends with; none if it ends well.
    pub(crate) code: Option<&'static str>,
    /// How long it may take.
    pub(crate) seconds: u64,
    /// As often may the directory be sent the secret.
    pub(crate) secrets: usize,
    /// What the servers do otherwise than honest ones.
    pub(crate) scene: server::Scene,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignedIn {
    /// An application's secret.
    Secret,
    /// What `azsreg login` at the first cloud has kept.
    Kept,
    /// An application's secret, after somebody has logged in at the first cloud.
    SecretBesideKept,
    /// A person is shown a code.
    Device,
}

impl Row {
    pub(crate) fn new(
        name: impl Into<String>,
        code: &'static str,
        scene: impl Fn(&Stage, Who, &server::Request) -> Option<server::Reply> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            arguments: vec!["list"],
            at: Who::Arm,
            sign_in: SignedIn::Secret,
            code: (!code.is_empty()).then_some(code),
            seconds: 10,
            secrets: 1,
            scene: Box::new(scene),
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Plays every row, several at a time, and says of all of them what went wrong.
pub(crate) fn play(rows: Vec<Row>) {
    let wrong = Mutex::new(Vec::new());
    let count = rows.len();
    let rows = Mutex::new(rows.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(row) = rows.lock().unwrap().next() else { break };
                    let name = row.name.clone();
                    if let Err(why) = played(row) {
                        wrong.lock().unwrap().push(format!("{name}: {why}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {count} rows:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

fn played(row: Row) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::open(row.scene);
    std::fs::write(dir.path().join("ca.pem"), server::ca_pem()).unwrap();
    std::fs::write(dir.path().join("secret"), SECRET).unwrap();
    if matches!(row.sign_in, SignedIn::Kept | SignedIn::SecretBesideKept) {
        stage.honest(true);
        let ran = watched(&mut command(&stage, dir.path(), Who::Arm, SignedIn::Device, &["login"]));
        if ran.code != Some(0) {
            return Err(format!("the honest sign-in failed: {}", ran.said));
        }
        stage.honest(false);
    }
    let ran = watched(&mut command(&stage, dir.path(), row.at, row.sign_in, &row.arguments));
    println!("{:6} {:7} KiB {:5} ms  {}", row.code.unwrap_or("well"), ran.held, ran.took.as_millis(), row.name);
    let shown = format!("exit {:?} after {:?}, {} KiB: {}", ran.code, ran.took, ran.held, ran.said);
    match row.code {
        Some(code) if ran.code == Some(0) || !ran.said.contains(code) => return Err(format!("not {code}: {shown}")),
        None if ran.code != Some(0) => return Err(format!("did not end well: {shown}")),
        _ => {}
    }
    if ran.took > Duration::from_secs(row.seconds) {
        return Err(format!("took longer than {} s: {shown}", row.seconds));
    }
    if ran.held > MOST_HELD {
        return Err(format!("held more than {MOST_HELD} KiB: {shown}"));
    }
    for secret in [SECRET, server::REFRESH] {
        if ran.said.contains(secret) {
            return Err(format!("a secret was printed: {shown}"));
        }
    }
    let leaks = stage.leaks(row.at, row.secrets);
    if leaks.is_empty() { Ok(()) } else { Err(format!("{}: {shown}", leaks.join("; "))) }
}

/// The command, pointed at the stage.
pub(crate) fn command(stage: &Stage, dir: &Path, at: Who, sign_in: SignedIn, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AZSREG_") || name.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
        .env("AZSREG_STATE_DIR", dir.join("state"))
        .env("AZSREG_CLOUD_ENDPOINT", stage.url(at))
        .env("AZSREG_CA_FILE", dir.join("ca.pem"))
        .env("AZSREG_SUBSCRIPTION", server::SUBSCRIPTION)
        .env("AZSREG_CONNECT_TIMEOUT", "2")
        .env("AZSREG_ANSWER_TIMEOUT", "2")
        .env("AZSREG_NON_INTERACTIVE", (sign_in != SignedIn::Device).to_string());
    match sign_in {
        SignedIn::Secret | SignedIn::SecretBesideKept => {
            command.env("AZSREG_CLIENT_ID", server::SUBSCRIPTION);
            command.env("AZSREG_CLIENT_SECRET", format!("@{}", dir.join("secret").display()));
        }
        SignedIn::Device if arguments != ["login"] => {
            command.env("AZSREG_DEVICE_CODE", "true");
        }
        _ => {}
    }
    command.args(arguments);
    command
}
