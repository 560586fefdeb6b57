//! What a lab with `--data-dir` acknowledged is there after a SIGKILL, what it can't keep it does not acknowledge, and a store that
//! is not what it left is refused. And what an earlier azsreg left opens.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use azsreg_lab::{Lab, LabOptions};
use common::{Ran, copy, recorded, run, runtime};
use serde_json::{Value, json};

fn azsreg() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AZSREG_") || name.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).env("AZSREG_NON_INTERACTIVE", "true");
    command
}

/// `lab up` on a data directory, ready to run.
fn up(data: &Path, state: &Path) -> Command {
    let mut command = azsreg();
    command.args(["lab", "up", "--data-dir"]).arg(data).arg("--state-dir").arg(state);
    command
}

/// A lab as a process of its own, killed when it goes out of scope.
struct Running {
    child: Child,
    told: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(data: &Path, state: &Path) -> Self {
        let mut child = up(data, state).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, told: serde_json::from_str(&line).unwrap() }
    }

    /// A command that is pointed at it.
    fn command(&self, state: &Path) -> Command {
        pointed(&self.told, state)
    }
}

fn pointed(told: &Value, state: &Path) -> Command {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let stamp = &told["stamps"][0];
    let mut command = azsreg();
    command
        .env("AZSREG_STATE_DIR", state)
        .env("AZSREG_CLOUD_ENDPOINT", text(&told["arm_endpoint"]))
        .env("AZSREG_CA_FILE", text(&told["ca_file"]))
        .env("AZSREG_SUBSCRIPTION", text(&told["subscription_id"]))
        .env("AZSREG_PEP", text(&stamp["pep"][0]))
        .env("AZSREG_PEP_USER", text(&stamp["pep_user"]))
        .env("AZSREG_PEP_PASSWORD", format!("@{}", text(&stamp["pep_password_file"])))
        .env("AZSREG_STAMP_CLIENT_ID", text(&stamp["stamp_client_id"]))
        .env("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", text(&stamp["stamp_client_secret_file"])));
    command
}

/// A request of the test's own: status and JSON. No answer at all is status 0.
fn ask(told: &Value, method: &str, url: &str, body: &Value) -> (u16, Value) {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(told["ca_file"].as_str().unwrap()).unwrap()).unwrap();
    runtime().block_on(async {
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        match client.request(method.parse().unwrap(), url).json(body).send().await {
            Err(_) => (0, Value::Null),
            Ok(answer) => {
                let status = answer.status().as_u16();
                (status, serde_json::from_slice(&answer.bytes().await.unwrap_or_default()).unwrap_or(Value::Null))
            }
        }
    })
}

/// A call to the control port.
fn control(told: &Value, method: &str, path: &str, body: &Value) -> (u16, Value) {
    ask(told, method, &format!("{}{path}", told["control_endpoint"].as_str().unwrap()), body)
}

/// Waits for something to be so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A lab in this process on a data directory; gone, with all its tasks, when this returns.
fn on<T>(data: &Path, look: impl FnOnce(&Lab) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lab = runtime.block_on(Lab::start(LabOptions { data_dir: Some(data.to_owned()), ..LabOptions::default() }));
    let lab = lab.unwrap();
    let seen = look(&lab);
    drop(lab);
    runtime.shutdown_timeout(Duration::from_secs(10));
    seen
}

#[test]
fn a_data_directory_of_an_earlier_azsreg_opens_with_all_that_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    copy(&recorded("data-dir"), &data);
    let billed = std::fs::read(data.join("usage.jsonl")).unwrap();
    let look = |lab: &Lab| {
        let told = serde_json::to_value(lab.descriptor()).unwrap();
        let world = lab.world();
        let names = |list: &str| -> Vec<String> {
            world[list].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
        };
        let stamps = [
            "3c55ebe6-0d1e-48f0-b3e0-ab7465a6ee61",
            "b19cbefb-1849-478a-8950-d6812112378c",
            "61a7b656-1244-465d-a788-1808f5deecbe",
        ];
        assert_eq!(names("registrations"), stamps.map(|id| format!("AzureStack-{id}")));
        assert_eq!(names("stamps"), ["stamp1", "stamp2", "stamp3", "stamp4"]);
        let activated =
            |at: usize| world["stamps"][at]["activation"]["properties"]["azureRegistrationResourceIdentifier"].clone();
        assert_eq!(activated(0), world["registrations"][0]["id"]);
        assert_eq!((activated(1), activated(2)), (Value::Null, world["registrations"][2]["id"].clone()));
        // A minute of it is in the write-ahead log alone.
        let (status, health) = control(&told, "GET", "/health", &Value::Null);
        assert_eq!(status, 200);
        let now: jiff::Timestamp = health["now"].as_str().unwrap().parse().unwrap();
        let ahead = now.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((93_650..=93_660).contains(&ahead), "{ahead}");
        let text = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
        assert_eq!(text("client-secret"), std::fs::read_to_string(recorded("data-dir").join("client-secret")).unwrap());
        assert_eq!(text("ca.pem"), std::fs::read_to_string(recorded("data-dir").join("ca.pem")).unwrap());
        (told["control_token"].clone(), told["tenant_id"].clone(), world["registrations"].clone())
    };
    let first = on(&data, look);
    let second = on(&data, look);
    assert_eq!(first, second, "and once more, in today's form");
    let now = std::fs::read(data.join("usage.jsonl")).unwrap();
    assert!(now.starts_with(&billed), "what was billed stays billed");
    #[cfg(unix)]
    for name in
        ["lab.sqlite", "usage.jsonl", "client-secret", "ca.pem", "stamp1-pep-password", "stamp1-operator-secret"]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}

#[test]
fn a_data_directory_that_is_not_what_a_lab_left_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    copy(&recorded("data-dir"), &whole);
    // In today's form, and with nothing in the log.
    on(&whole, |_| ());
    let store = std::fs::read(whole.join("lab.sqlite")).unwrap();
    let mut newer = store.clone();
    newer[60..64].copy_from_slice(&99u32.to_be_bytes());
    let books = std::fs::read(whole.join("usage.jsonl")).unwrap();
    let cut_books = books[..books.len() - 200].to_vec();
    let half = store[..store.len() / 2].to_vec();
    let cases: [(&str, &str, Option<Vec<u8>>, &str); 7] = [
        ("emptied", "lab.sqlite", Some(Vec::new()), "AZR8006"),
        ("cut short", "lab.sqlite", Some(half), "AZR8006"),
        ("something else", "lab.sqlite", Some(vec![b'x'; 8192]), "AZR8006"),
        ("gone", "lab.sqlite", None, "AZR8006"),
        ("newer", "lab.sqlite", Some(newer), "AZR8007"),
        ("books cut short", "usage.jsonl", Some(cut_books), "AZR8006"),
        ("books gone", "usage.jsonl", None, "AZR8006"),
    ];
    for (what, file, bytes, code) in cases {
        let data = dir.path().join("data");
        let _ = std::fs::remove_dir_all(&data);
        copy(&whole, &data);
        let _ = std::fs::remove_file(data.join("lab.sqlite-wal"));
        let path = data.join(file);
        match &bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let ran = run(&mut up(&data, &dir.path().join("lab")));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{what}: {}", ran.stderr);
        assert!(ran.stderr.contains(code), "{what}: {}", ran.stderr);
        assert!(ran.stderr.contains(&path.display().to_string()), "{what}: the file is named: {}", ran.stderr);
        assert!(ran.stderr.contains("--data-dir"), "{what}: what to do is said: {}", ran.stderr);
        assert_eq!(std::fs::read(&path).ok(), bytes, "{what}: it is left as it is");
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (data, state) = (dir.path().join("data"), dir.path().join("lab"));
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..3 {
        let lab = Running::start(&data, &state);
        let told = lab.told.clone();
        let (_, before) = control(&told, "GET", "/export", &Value::Null);
        for id in acknowledged.lock().unwrap().iter() {
            assert!(before["arm"]["subscriptions"].get(id).is_some(), "round {round}: {id} is gone");
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let (status, made) = control(&told, "POST", "/subscriptions", &json!({}));
                        if status == 200 {
                            acknowledged.lock().unwrap().push(made["subscription_id"].as_str().unwrap().to_owned());
                        }
                    }
                });
            }
            // In the middle of it.
            let had = acknowledged.lock().unwrap().len();
            until("nothing is acknowledged", || acknowledged.lock().unwrap().len() > had + 10);
            drop(lab);
            over.store(true, Ordering::SeqCst);
        });
    }
    on(&data, |lab| {
        for id in acknowledged.lock().unwrap().iter() {
            assert!(lab.export()["arm"]["subscriptions"].get(id).is_some(), "{id} is gone");
        }
    });
}

#[test]
fn an_action_of_the_stamp_that_was_begun_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (data, state) = (dir.path().join("data"), dir.path().join("lab"));
    let lab = Running::start(&data, &state);
    assert_eq!(control(&lab.told, "POST", "/stamps/stamp1", &json!({"activation_seconds": 3})).0, 200);
    let operator = dir.path().join("operator");
    run(lab.command(&operator).env("AZSREG_NON_INTERACTIVE", "false").arg("login")).ends(0);
    let mut register = lab.command(&operator);
    let mut register = register.args(["register", "--billing-model", "development"]);
    register = register.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = register.spawn().unwrap();
    until("it is activated", || {
        let (_, world) = control(&lab.told, "GET", "/world", &Value::Null);
        world["stamps"][0]["running"] == "New-AzureStackActivation"
    });
    drop(lab);
    child.kill().unwrap();
    child.wait().unwrap();
    let lab = Running::start(&data, &state);
    until("the activation goes on", || {
        let (_, world) = control(&lab.told, "GET", "/world", &Value::Null);
        !world["stamps"][0]["activation"].is_null()
    });
}

/// A lab whose data directory is on a file system of its own that has little room, where this machine lets us have one.
#[cfg(target_os = "linux")]
struct Small {
    child: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
    line: PathBuf,
    errors: PathBuf,
    /// Where its file system is, there.
    at: String,
}

#[cfg(target_os = "linux")]
impl Drop for Small {
    fn drop(&mut self) {
        let _ = writeln!(self.words, "down");
        let _ = writeln!(self.words, "end");
        let _ = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
impl Small {
    fn new(dir: &Path) -> Option<Self> {
        let small = dir.join("small");
        std::fs::create_dir_all(&small).unwrap();
        let mount = ["-Urm", "mount", "-t", "tmpfs", "none"];
        if Ran::of(Command::new("unshare").args(mount).arg(&small).output().ok()?).code != Some(0) {
            println!("no name space of its own on this machine: left out");
            return None;
        }
        let (line, errors) = (dir.join("told"), dir.join("errors"));
        let script = "mount -t tmpfs -o size=6m none \"$SMALL\" || exit 1
            while read -r word; do
                case $word in
                up) \"$@\" >\"$TOLD\" 2>\"$ERRORS\" </dev/null & lab=$!;;
                wait) wait $lab; code=$?; echo \"code $code\" >>\"$ERRORS\";;
                down) kill -9 $lab 2>/dev/null; wait $lab;;
                fill) dd if=/dev/zero of=\"$SMALL/filler\" bs=4k 2>/dev/null;;
                free) rm -f \"$SMALL/filler\";;
                end) exit 0;;
                esac
                echo done
            done";
        let lab = up(&small.join("data"), &dir.join("lab"));
        let mut sh = Command::new("unshare");
        sh.args(["-Urm", "sh", "-c", script]).arg("sh").arg(lab.get_program()).args(lab.get_args());
        sh.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", dir);
        sh.env("SMALL", &small).env("TOLD", &line).env("ERRORS", &errors);
        let mut child = sh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (words, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, words, answers, line, errors, at: small.display().to_string() })
    }

    fn does(&mut self, word: &str) {
        writeln!(self.words, "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{word}");
    }

    /// Starts the lab, and what it told, its files as this process sees them.
    fn up(&mut self) -> Value {
        let _ = std::fs::remove_file(&self.line);
        self.does("up");
        let line = self.line.clone();
        until("the lab is up", || std::fs::read_to_string(&line).is_ok_and(|line| line.ends_with('\n')));
        let told = std::fs::read_to_string(&self.line).unwrap();
        let seen = format!("/proc/{}/root{}", self.child.id(), self.at);
        serde_json::from_str(&told.replace(&self.at, &seen)).unwrap()
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_what_was_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut small) = Small::new(dir.path()) else { return };
    let told = small.up();
    let plain = |method: &str, path: &str, body: &Value| control(&told, method, path, body);
    let at = |method: &str, endpoint: &str, path: &str| {
        let url = format!("{}{path}", told[endpoint].as_str().unwrap());
        let ca = reqwest::Certificate::from_pem(&std::fs::read(told["ca_file"].as_str().unwrap()).unwrap()).unwrap();
        runtime().block_on(async {
            let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
            let answer = client.request(method.parse().unwrap(), url).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    };
    let mut acknowledged: Vec<String> = Vec::new();
    let more = |acknowledged: &mut Vec<String>| {
        let (status, made) = plain("POST", "/subscriptions", &json!({}));
        if status == 200 {
            acknowledged.push(made["subscription_id"].as_str().unwrap().to_owned());
        }
        (status, made)
    };
    let there = |acknowledged: &[String]| {
        let (status, world) = plain("GET", "/export", &Value::Null);
        assert_eq!(status, 200, "{world}");
        for id in acknowledged {
            assert!(world["arm"]["subscriptions"].get(id).is_some(), "{id} is gone");
        }
        world["arm"]["subscriptions"].as_object().unwrap().len()
    };
    assert_eq!(more(&mut acknowledged).0, 200);
    let known = there(&acknowledged);
    for _ in 0..2 {
        small.does("fill");
        // Larger than what a file system keeps aside, and what is left in the files that are there.
        let (status, answer) = plain("POST", "/subscriptions", &json!({"name": "x".repeat(400_000)}));
        assert_eq!(status, 507, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("lab.sqlite: the disk is full"), "{answer}");
        assert_eq!(more(&mut acknowledged).0, 507);
        // Nobody is shown what may be gone after a restart, and each is refused in the words of who speaks there.
        assert_eq!(plain("GET", "/world", &Value::Null).0, 507);
        let (status, body) = at("GET", "arm_endpoint", "/metadata/endpoints?api-version=2015-01-01");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]["code"]), (507, &json!("InsufficientStorage")), "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains("the disk is full"), "{body}");
        let (status, body) = at("POST", "authority", "/common/oauth2/v2.0/token");
        assert!(status == 507 && body.contains("temporarily_unavailable"), "{status} {body}");
        let (status, body) = at("GET", "blob_endpoint", "/azstmktlab/icons/x.png");
        assert!(status == 507 && body.contains("<Code>InsufficientStorage</Code>"), "{status} {body}");
        let (status, body) = at("GET", "portal_endpoint", "/");
        assert!(status == 507 && body.contains("the disk is full"), "{status} {body}");
        // Neither does the privileged endpoint.
        let mut command = pointed(&told, &dir.path().join("operator"));
        let out = dir.path().join("token").display().to_string();
        command.args(["offline", "token", "--billing-model", "capacity", "--agreement-number", "1", "--out", &out]);
        let ran = run(&mut command);
        assert!(ran.code != Some(0) && ran.stderr.contains("the disk is full"), "{:?} {}", ran.code, ran.stderr);
        // With room again it goes on.
        small.does("free");
        assert_eq!(more(&mut acknowledged).0, 200);
        there(&acknowledged);
        assert_eq!(plain("GET", "/world", &Value::Null).1["stamps"][0]["key_pair"], false);
    }
    assert!(acknowledged.len() >= 3);
    assert!(there(&acknowledged) >= known + acknowledged.len() - 1);
    // Killed while it was full: nothing that was acknowledged is missing, and no new world is begun.
    small.does("fill");
    assert_eq!(plain("POST", "/subscriptions", &json!({"name": "x".repeat(400_000)})).0, 507);
    small.does("down");
    small.does("free");
    let again = small.up();
    assert_eq!(again["control_endpoint"], told["control_endpoint"]);
    there(&acknowledged);
    small.does("down");
}

#[cfg(target_os = "linux")]
#[test]
fn a_lab_that_has_no_room_to_begin_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut small) = Small::new(dir.path()) else { return };
    small.does("fill");
    small.does("up");
    small.does("wait");
    let said = std::fs::read_to_string(&small.errors).unwrap();
    assert!(said.contains("AZR8008") && said.ends_with("code 1\n"), "{said}");
    // Nothing is left that would be taken for a world.
    small.does("free");
    small.up();
    small.does("down");
}
