//! `azsreg lab`: the simulated world, for as long as the command runs.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use azsreg_lab::{Descriptor, Lab, LabOptions, StampOptions};
use azsreg_model::{ExitCode, Problem, code};
use azsreg_operations::files::{
    self, kept,
    output::{self, Rights},
};

use serde_json::json;

use crate::Ended;
use crate::cli::{Global, LabClockOptions, LabEnvOptions, LabUpOptions};
use crate::interrupt;
use crate::state;
use crate::view::View;
use crate::{document, door};

/// The directory of labs in the state directory, and the state directory of whoever works with one: what a lab leaves is not among
/// what is known of real stamps.
const HOME: &str = "lab";

/// Where labs are noted, and where what is done with them is kept. A shell that `lab env` has set up is there already.
fn home(global: &Global) -> Result<PathBuf, Problem> {
    let directory = state::directory(global)?;
    let inside = directory.file_name().is_some_and(|name| name == HOME) && !directory.join(HOME).exists();
    Ok(if inside { directory } else { directory.join(HOME) })
}

fn note(global: &Global) -> Result<PathBuf, Problem> {
    Ok(home(global)?.join("current.json"))
}

/// The seed that was asked for, or one that no other lab has: two labs' stamps have ids of their own.
pub(crate) fn seed(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0))
}

/// `build=...,nodes=...,identity=...,activation=...,name=...,connected=...,tenants=...`.
fn stamp(text: &str, index: usize) -> Result<StampOptions, Problem> {
    let mut stamp = StampOptions { name: format!("stamp{index}"), ..StampOptions::default() };
    let bad = |why: String| {
        Problem::new(&code::BAD_ARGUMENT, format!("--stamp {text}: {why}"))
            .next("azsreg lab up --stamp build=1.2501.0.21,nodes=4,identity=aad")
    };
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| bad(format!("{pair} has no value")))?;
        match name {
            "name" if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                stamp.name = value.into();
            }
            "build" if azsreg_lab::world::stamp::parse_build(value).is_some() => stamp.build = value.into(),
            "nodes" => {
                stamp.nodes = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=16).contains(n))
                    .ok_or_else(|| bad("nodes is 1 to 16".into()))?;
            }
            "tenants" => {
                stamp.tenants =
                    value.parse().ok().filter(|n| *n <= 5_000).ok_or_else(|| bad("tenants is 0 to 5000".into()))?;
            }
            "identity" if ["aad", "adfs"].contains(&value) => stamp.identity = value.into(),
            "connected" if ["yes", "no"].contains(&value) => stamp.connected = value == "yes",
            "activation" => {
                let seconds: f64 = value.parse().map_err(|_| bad("activation is in seconds".into()))?;
                stamp.activation = jiff::SignedDuration::try_from_secs_f64(seconds).map_err(|e| bad(e.to_string()))?;
            }
            "name" | "build" | "identity" | "connected" => return Err(bad(format!("{value} is not a {name}"))),
            other => return Err(bad(format!("it has no property {other}"))),
        }
    }
    Ok(stamp)
}

pub(crate) fn start_problem(error: &azsreg_lab::LabError) -> Problem {
    use azsreg_lab::LabError;
    let code = match error {
        LabError::Store(_) => &code::LAB_STORE,
        LabError::Damaged(_) => &code::LAB_STORE_DAMAGED,
        LabError::Newer(_) => &code::LAB_STORE_NEWER,
        LabError::Full(_) => &code::LAB_STORE_FULL,
        _ => &code::LAB_START,
    };
    let mut problem = Problem::new(code, error.to_string());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        problem = problem.detail(cause.to_string());
        source = cause.source();
    }
    problem
}

pub(crate) async fn up(global: &Global, options: &LabUpOptions, view: &View) -> Result<ExitCode, Ended> {
    if !(options.time_scale.is_finite() && options.time_scale > 0.0) {
        return Err(Problem::new(&code::BAD_ARGUMENT, "--time-scale is a number above 0").into());
    }
    let mut stamps = Vec::new();
    for (index, text) in options.stamp.iter().enumerate() {
        stamps.push(stamp(text, index + 1)?);
    }
    for index in stamps.len()..usize::from(options.stamps) {
        stamps.push(StampOptions { name: format!("stamp{}", index + 1), ..StampOptions::default() });
    }
    let lab = Lab::start(LabOptions {
        seed: seed(options.seed),
        stamps,
        time_scale: options.time_scale,
        auto_approve: !options.no_auto_approve,
        response_delay: Duration::from_millis(options.pep_delay),
        // What is told of it has to hold in every directory.
        data_dir: options.data_dir.as_ref().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone())),
        ..LabOptions::default()
    })
    .await
    .map_err(|error| start_problem(&error))?;
    let text = serde_json::to_string(lab.descriptor()).unwrap_or_default();
    let note = note(global)?;
    let before = noted(&note);
    // Whole or not at all: somebody may be reading. It names files of secrets: its owner's alone.
    let noted = note.parent().map_or(Ok(()), kept::make_directory);
    let noted = noted.and_then(|()| output::write(&note, text.as_bytes(), Rights::Private));
    noted.map_err(|error| files::problem(&note, &error))?;
    // One line: a script that waits for it reads one.
    view.whole(&door::json_line(&document::of(lab.descriptor(), None, &[])));
    let _ = std::io::stdout().flush();
    View::person(&format!(
        "azsreg lab, seed {}: a simulated Azure and {} stamp(s), on loopback only.",
        lab.descriptor().seed,
        lab.descriptor().stamps.len()
    ));
    if let Some((_, other)) = &before {
        View::person(&format!(
            "Another lab runs here, seed {}: azsreg lab env and azsreg lab clock are of this one until it ends. A --state-dir of its own keeps two labs apart.",
            other.seed
        ));
    }
    View::person("Point azsreg at it with  eval \"$(azsreg lab env)\"  and stop it with ^C.");
    interrupt::signal().await;
    if std::fs::read_to_string(&note).is_ok_and(|now| now == text) {
        let _ = match before.filter(|(_, other)| is_alive(other)) {
            Some((text, _)) => output::write(&note, text.as_bytes(), Rights::Private),
            None => std::fs::remove_file(&note),
        };
    }
    Ok(ExitCode::Done)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The lab of a note, and the note's text, if it runs.
fn noted(note: &Path) -> Option<(String, Descriptor)> {
    let text = std::fs::read_to_string(note).ok()?;
    let lab = serde_json::from_str(&text).ok()?;
    is_alive(&lab).then_some((text, lab))
}

fn is_alive(lab: &Descriptor) -> bool {
    let address = control_port(lab).0.parse().ok();
    address.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// The lab that runs, if one does.
fn running(global: &Global) -> Result<Descriptor, Problem> {
    let note = note(global)?;
    // One that was started a moment ago, in the background of the same script, is waited for.
    let begun = std::time::Instant::now();
    while !note.exists() && begun.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(50));
    }
    noted(&note).map(|(_, lab)| lab).ok_or_else(|| Problem::new(&code::NO_LAB, "no lab is running"))
}

/// A number with s, m, h or d.
fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// `azsreg lab clock advance`.
pub(crate) fn advance(global: &Global, options: &LabClockOptions, view: &View) -> Result<ExitCode, Ended> {
    let by = seconds(&options.by).ok_or_else(|| {
        Problem::new(&code::BAD_ARGUMENT, format!("{} is not a time such as 366d, 12h, 30m or 90s", options.by))
            .next("azsreg lab clock advance 366d")
    })?;
    let lab = running(global)?;
    let answer = control(&lab, "/clock", &serde_json::json!({ "advance_seconds": by }))?;
    if view.is_json() {
        view.json(&answer);
    } else {
        view.line(&format!("The lab's clock stands at {}.", answer["now"].as_str().unwrap_or_default()));
    }
    Ok(ExitCode::Done)
}

/// The control port's address, and where its paths begin.
fn control_port(lab: &Descriptor) -> (&str, &str) {
    let endpoint = lab.control_endpoint.trim_start_matches("http://");
    let at = endpoint.find('/').unwrap_or(endpoint.len());
    endpoint.split_at(at)
}

/// Calls the control port.
fn control(lab: &Descriptor, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, Problem> {
    use std::io::Read as _;
    let failed = |why: String| Problem::new(&code::LAB_CONTROL, why);
    let (address, base) = control_port(lab);
    let mut stream = TcpStream::connect(address).map_err(|error| failed(error.to_string()))?;
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "POST {base}{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .map_err(|error| failed(error.to_string()))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| failed(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    if head.starts_with("HTTP/1.1 200") { Ok(value) } else { Err(failed(format!("the control port refused: {value}"))) }
}

pub(crate) fn env(global: &Global, options: &LabEnvOptions, view: &View) -> Result<ExitCode, Ended> {
    let (lab, home) = (running(global)?, home(global)?);
    let stamp = match &options.stamp {
        None => lab.stamps.first(),
        Some(name) => lab.stamps.iter().find(|stamp| stamp.name == *name),
    };
    let mut variables = vec![
        ("AZSREG_CLOUD_ENDPOINT", lab.arm_endpoint.clone()),
        ("AZSREG_CA_FILE", lab.ca_file.display().to_string()),
        ("AZSREG_TENANT", lab.tenant_id.to_string()),
        ("AZSREG_SUBSCRIPTION", lab.subscription_id.to_string()),
        ("AZSREG_BILLING_MODEL", "pay-as-you-use".into()),
    ];
    let stamp = stamp.ok_or_else(|| {
        let names: Vec<&str> = lab.stamps.iter().map(|stamp| stamp.name.as_str()).collect();
        let asked = options.stamp.as_deref().unwrap_or_default();
        Problem::new(&code::BAD_ARGUMENT, format!("--stamp {asked}: the lab has {}", names.join(", ")))
            .next("azsreg lab env --stamp NAME")
    })?;
    variables.extend([
        ("AZSREG_CLOUD_ID", stamp.cloud_id.to_string()),
        ("AZSREG_PEP", stamp.pep.join(",")),
        ("AZSREG_PEP_USER", stamp.pep_user.clone()),
        ("AZSREG_PEP_PASSWORD", format!("@{}", stamp.pep_password_file.display())),
        ("AZSREG_STAMP_CLIENT_ID", stamp.stamp_client_id.to_string()),
        ("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", stamp.stamp_client_secret_file.display())),
        ("AZSREG_LAB_CONTROL", lab.control_endpoint.clone()),
        ("AZSREG_STATE_DIR", std::path::absolute(&home).unwrap_or(home).display().to_string()),
    ]);
    if view.is_json() {
        let map: serde_json::Map<_, _> = variables.into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
        view.json(&json!({ "value": map }));
    } else {
        for (name, value) in variables {
            view.whole(&format!("export {name}={}", quoted(&value)));
        }
    }
    Ok(ExitCode::Done)
}
