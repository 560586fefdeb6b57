//! A world to test the command in: a lab in this process, state directories of its own, and the binary as a process.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod web;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};

use azsreg_lab::{Keys, Lab, LabOptions, StampOptions};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The runtime that labs live on. They answer while a test waits for the process.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// Signing keys, drawn once: every lab of a test process signs with them.
fn keys() -> Arc<Keys> {
    static KEYS: OnceLock<Arc<Keys>> = OnceLock::new();
    Arc::clone(KEYS.get_or_init(Keys::start))
}

pub struct World {
    pub lab: Lab,
    pub dir: TempDir,
}

pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

impl World {
    pub fn new() -> Self {
        Self::of(vec![StampOptions::default()])
    }

    pub fn of(stamps: Vec<StampOptions>) -> Self {
        Self::with(LabOptions { stamps, ..LabOptions::default() })
    }

    pub fn with(options: LabOptions) -> Self {
        Self::on(runtime(), options)
    }

    /// A world on a runtime of its own: when that is shut down, everything in it dies where it is.
    pub fn on(runtime: &Runtime, options: LabOptions) -> Self {
        let options = LabOptions { keys: Some(keys()), ..options };
        let lab = runtime.block_on(Lab::start(options)).unwrap();
        Self { lab, dir: tempfile::tempdir().unwrap() }
    }

    /// A world that begins where another one was.
    pub fn restored(snapshot: &str) -> Self {
        Self::with(LabOptions { restore: Some(snapshot.to_owned()), ..LabOptions::default() })
    }

    /// A command, ready to run: signed in on both sides, on the nth stamp, with a state directory of its own.
    pub fn both(&self, stamp: usize, state: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command(stamp, state);
        self.signed_in(&mut command);
        self.with_records(stamp, &mut command);
        command.args(arguments);
        command
    }

    /// Likewise on the first stamp with the usual state directory, run to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.both(0, &self.state(), arguments))
    }

    /// A command of a machine at the stamp: no way to Azure.
    pub fn at_stamp(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(0, &self.dir.path().join("state-stamp"));
        self.with_records(0, &mut command);
        command.env("AZSREG_CLOUD_ENDPOINT", "https://127.0.0.1:1").env_remove("AZSREG_SUBSCRIPTION");
        command.args(arguments);
        command
    }

    /// A command of a machine with internet: no way to a stamp.
    pub fn at_azure(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(0, &self.dir.path().join("state-azure"));
        self.signed_in(&mut command);
        for name in ["AZSREG_PEP", "AZSREG_PEP_USER", "AZSREG_PEP_PASSWORD", "AZSREG_BRIDGE_REFRESH_TOKEN"] {
            command.env_remove(name);
        }
        command.args(arguments);
        command
    }

    /// The path of a file in the test's directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Moves the lab's clock by days.
    pub fn days(&self, days: i64) {
        self.control("/clock", &serde_json::json!({ "advance_seconds": days * 86_400 }));
    }

    /// Calls the control port.
    pub fn control(&self, path: &str, body: &Value) -> Value {
        self.control_with("POST", path, body)
    }

    /// Calls the control port with another verb.
    pub fn control_with(&self, verb: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.lab.descriptor().control_endpoint);
        let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let body = body.to_string();
        let path = &url[url.find(&address).unwrap() + address.len()..];
        write!(
            stream,
            "{verb} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// A file in the test's directory.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The command, pointed at the lab and its nth stamp by the environment, with a state directory of its own.
    pub fn command(&self, stamp: usize, state: &Path) -> Command {
        let told = self.lab.descriptor();
        let stamp = &told.stamps[stamp];
        let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("AZSREG_") || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
            .stdin(Stdio::null())
            .env("AZSREG_STATE_DIR", state)
            .env("AZSREG_NON_INTERACTIVE", "true")
            .env("AZSREG_CLOUD_ENDPOINT", &told.arm_endpoint)
            .env("AZSREG_CA_FILE", &told.ca_file)
            .env("AZSREG_SUBSCRIPTION", told.subscription_id.to_string())
            .env("AZSREG_PEP", stamp.pep.join(","))
            .env("AZSREG_PEP_USER", &stamp.pep_user)
            .env("AZSREG_PEP_PASSWORD", format!("@{}", stamp.pep_password_file.display()));
        command
    }

    /// Adds an application's sign-in with a user's refresh token for the bridge.
    pub fn signed_in<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let told = self.lab.descriptor();
        let path = self.dir.path().join("bridge-token");
        if !path.exists() {
            let token = self.control("/refresh-token", &Value::Null);
            std::fs::write(&path, token["refresh_token"].as_str().unwrap()).unwrap();
        }
        command
            .env("AZSREG_CLIENT_ID", told.client_id.to_string())
            .env("AZSREG_CLIENT_SECRET", format!("@{}", told.client_secret_file.display()))
            .env("AZSREG_BRIDGE_REFRESH_TOKEN", format!("@{}", path.display()))
    }

    /// Adds the sign-in to the stamp's Resource Manager.
    pub fn with_records<'c>(&self, stamp: usize, command: &'c mut Command) -> &'c mut Command {
        let stamp = &self.lab.descriptor().stamps[stamp];
        command
            .env("AZSREG_STAMP_CLIENT_ID", stamp.stamp_client_id.to_string())
            .env("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", stamp.stamp_client_secret_file.display()))
    }

    /// `register`, ready to run: signed in on both sides.
    pub fn register(&self, model: &str) -> Command {
        let mut command = self.command(0, &self.state());
        self.signed_in(&mut command);
        self.with_records(0, &mut command);
        command.args(["register", "--billing-model", model]);
        command
    }
}

impl Ran {
    /// Asserts the exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stdout or stderr says something.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "{text:?} is not said.\nstdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// Runs a command to its end.
/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What an earlier azsreg wrote, by name.
pub fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name)
}

/// A world and its files, made once: each run begins from a copy of them.
pub struct Start {
    world: String,
    files: TempDir,
}

impl Start {
    pub fn of(stamp: StampOptions, before: &dyn Fn(&World)) -> Self {
        let world = World::of(vec![stamp]);
        before(&world);
        let files = tempfile::tempdir().unwrap();
        copy(world.dir.path(), files.path());
        Self { world: world.lab.snapshot(), files }
    }

    pub fn world(&self) -> World {
        let world = World::restored(&self.world);
        copy(self.files.path(), world.dir.path());
        let _ = std::fs::remove_file(world.dir.path().join("bridge-token"));
        world
    }
}

pub fn run(command: &mut Command) -> Ran {
    Ran::of(command.output().unwrap())
}

/// The one end that every way of registering leads to.
pub fn assert_registered_once(world: &Value, what: &str) {
    for list in ["registrations", "locks", "role_assignments", "service_principals"] {
        assert_eq!(world[list].as_array().unwrap().len(), 1, "{what}: {list}: {world:#}");
    }
    let stamp = &world["stamps"][0];
    let registration = &world["registrations"][0];
    assert_eq!(stamp["activation"]["properties"]["azureRegistrationResourceIdentifier"], registration["id"], "{what}");
    assert_eq!(registration["properties"]["objectId"], world["service_principals"][0]["object_id"], "{what}");
    assert_eq!(
        world["role_assignments"][0]["properties"]["principalId"], registration["properties"]["objectId"],
        "{what}"
    );
    assert_eq!(world["role_assignments"][0]["properties"]["scope"], registration["id"], "{what}");
    assert!(world["locks"][0]["id"].as_str().unwrap().starts_with(registration["id"].as_str().unwrap()), "{what}");
    assert_eq!(stamp["running"], Value::Null, "{what}");
    assert_eq!(stamp["logons_failed"], 0, "{what}");
}
