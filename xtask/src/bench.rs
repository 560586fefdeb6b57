//! Measures, side by side with peers, in one run: medians and ratios, since the machine is noisy. No test times anything.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tools::python;
use crate::{cargo, root, run as run_command};

pub(crate) struct Lab {
    pub(crate) child: Child,
    pub(crate) told: Value,
    /// From spawn to the first answer, in milliseconds.
    ready: f64,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn binary(name: &str) -> PathBuf {
    root().join("target/release").join(name)
}

pub(crate) fn get(endpoint: &str, path: &str) -> Result<Value, String> {
    ask(endpoint, &format!("GET {path}"), "")
}

fn ask(endpoint: &str, what: &str, body: &str) -> Result<Value, String> {
    // The control port's token is the first segment of its paths.
    let endpoint = endpoint.trim_start_matches("http://");
    let (address, base) = endpoint.split_at(endpoint.find('/').unwrap_or(endpoint.len()));
    let (verb, path) = what.split_once(' ').unwrap_or((what, "/"));
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(text)?;
    let head = format!(
        "{verb} {base}{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|error| error.to_string())
}

pub(crate) fn post(endpoint: &str, path: &str, body: &str) -> Result<Value, String> {
    ask(endpoint, &format!("POST {path}"), body)
}

fn lab(delay: u64, state: &str) -> Result<Lab, String> {
    lab_of(&["--pep-delay", &delay.to_string()], state)
}

pub(crate) fn lab_of(options: &[&str], state: &str) -> Result<Lab, String> {
    let begun = Instant::now();
    let mut child = Command::new(binary("azsreg"))
        .args(["lab", "up", "--state-dir", state])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
    }
    let told: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    get(told["control_endpoint"].as_str().unwrap_or_default(), "/health")?;
    Ok(Lab { child, told, ready: begun.elapsed().as_secs_f64() * 1000.0 })
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn lines(command: &mut Command) -> Result<Vec<f64>, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("{command:?} failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.trim().parse().ok()).collect())
}

fn requests(lab: &Lab) -> f64 {
    let control = lab.told["control_endpoint"].as_str().unwrap_or_default();
    get(control, "/stamps/stamp1/logons").ok().and_then(|v| v["requests"].as_f64()).unwrap_or(f64::NAN)
}

/// Wall time of a whole process, in milliseconds.
fn process(program: &PathBuf, arguments: &[&str], times: usize) -> Result<f64, String> {
    let mut all = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        let status = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !status.map_err(|error| error.to_string())?.success() {
            return Err(format!("{} {arguments:?} failed", program.display()));
        }
        all.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(all))
}

/// The memory of a process that is its own share, in MiB. Linux only.
pub(crate) fn pss(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Wall time in milliseconds and peak memory in MiB of a process. Linux only: the kernel keeps the peak.
fn measure(command: &mut Command) -> Result<(f64, f64), String> {
    measured_into(command, Stdio::null())
}

/// Likewise, with its output somewhere.
fn measured_into(command: &mut Command, out: impl Into<Stdio>) -> Result<(f64, f64), String> {
    let begun = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = f64::NAN;
    loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
            peak = kib.map_or(peak, |kib| kib / 1024.0);
        }
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            if !status.success() {
                let mut text = String::new();
                let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
                return Err(format!("{command:?}: {status}: {text}"));
            }
            return Ok((took, peak));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// azsreg, pointed at a lab by the environment.
pub(crate) fn pointed(lab: &Lab, state: &str, arguments: &[&str]) -> Command {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (told, stamp) = (&lab.told, &lab.told["stamps"][0]);
    let mut command = Command::new(binary("azsreg"));
    command.args(arguments).env("AZSREG_STATE_DIR", state).env("AZSREG_NON_INTERACTIVE", "true");
    command.env("AZSREG_CLOUD_ENDPOINT", text(&told["arm_endpoint"])).env("AZSREG_CA_FILE", text(&told["ca_file"]));
    command.env("AZSREG_TENANT", text(&told["tenant_id"])).env("AZSREG_SUBSCRIPTION", text(&told["subscription_id"]));
    command.env("AZSREG_CLIENT_ID", text(&told["client_id"]));
    command.env("AZSREG_CLIENT_SECRET", format!("@{}", text(&told["client_secret_file"])));
    command.env("AZSREG_PEP", text(&stamp["pep"][0])).env("AZSREG_PEP_USER", text(&stamp["pep_user"]));
    command.env("AZSREG_PEP_PASSWORD", format!("@{}", text(&stamp["pep_password_file"])));
    command
}

/// `marketplace download` of a disk of 2 GiB, beside `curl -o F` and `sha256sum F` of the same blob, in turns.
fn against_curl(state: &str) -> Result<(), String> {
    const ITEM: &str = "canonical.ubuntu-server-jammy22.04-22.04.202410150";
    const ROUNDS: usize = 5;
    let lab = lab(0, state)?;
    let work = PathBuf::from(state).join("marketplace");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let stamp = &lab.told["stamps"][0];
    let path = |name: &str| work.join(name).display().to_string();
    let ours = |arguments: &[&str]| {
        let mut command = pointed(&lab, &path("state"), arguments);
        command.stdin(Stdio::null());
        command
    };
    let (token, key) = (path("token"), path("key"));
    let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
    measure(&mut ours(&ask))?;
    measure(&mut ours(&["offline", "register", &token, "--out", &key]))?;
    // The address comes from the lab's control port: what curl is given, azsreg asks for itself.
    let control = text(&lab.told["control_endpoint"]);
    let address = get(&control, &format!("/blobs/{ITEM}"))?;
    let address = address["address"].as_str().ok_or("the lab gave no address")?.to_owned();
    let (file, folder) = (path("F"), path("folder"));
    let (mut curl_all, mut ours_all, mut peak_pss) = (Vec::new(), Vec::new(), 0.0f64);
    for _ in 0..ROUNDS {
        let _ = std::fs::remove_file(&file);
        let fetch = "curl --silent --fail --cacert \"$1\" -o \"$2\" \"$3\" && sha256sum \"$2\"";
        let mut script = Command::new("sh");
        script.args(["-c", fetch, "sh", &text(&lab.told["ca_file"]), &file, &address]);
        curl_all.push(measure(&mut script)?.0);
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::remove_dir_all(&folder);
        let begun = Instant::now();
        let mut command = ours(&["marketplace", "download", ITEM, "--to", &folder, "--accept-legal-terms"]);
        command.args(["--cloud-id", &text(&stamp["cloud_id"])]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            peak_pss = peak_pss.max(pss(child.id()).unwrap_or(0.0));
            std::thread::sleep(Duration::from_millis(50));
        };
        if !status.success() {
            return Err(format!("marketplace download: {status}"));
        }
        ours_all.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    let _ = std::fs::remove_dir_all(&work);
    let (ours, theirs) = (median(ours_all), median(curl_all));
    println!("\n{:<58}{:>12}{:>12}{:>9}{:>9}", "", "azsreg", "curl+sha", "ratio", "aim");
    let rate = |took: f64| 2048.0 / (took / 1000.0);
    println!(
        "{:<58}{:>12.0}{:>12.0}{:>9.2}{:>9.2}",
        "marketplace download of 2 GiB (MiB/s)",
        rate(ours),
        rate(theirs),
        theirs / ours,
        0.7
    );
    println!("{:<58}{peak_pss:>12.1}{:>12}{:>9}{:>9}", "  (MiB, PSS, peak)", "", "", 64);
    Ok(())
}

/// Rows of usage: listed by the command beside a Python script that reads the same pages, and taken by the lab's Azure.
fn usage(state: &str, python: Option<&PathBuf>) -> Result<(), String> {
    const ROUNDS: usize = 3;
    let work = PathBuf::from(state).join("usage");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let path = |name: &str| work.join(name).display().to_string();
    let lab = lab_of(&["--stamp", "tenants=720"], &path("lab"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (stamp, control) = (&lab.told["stamps"][0], text(&lab.told["control_endpoint"]));
    let told = path("lab.json");
    std::fs::write(&told, lab.told.to_string()).map_err(|error| error.to_string())?;
    let now = text(&get(&control, "/health")?["now"]);
    let today = now.split('T').next().unwrap_or_default().to_owned();
    let ours = |arguments: &[&str]| {
        let mut command = pointed(&lab, &path("state"), arguments);
        command.env("AZSREG_STAMP_CLIENT_ID", text(&stamp["stamp_client_id"]));
        command.env("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", text(&stamp["stamp_client_secret_file"])));
        command
    };
    let refresh = path("refresh");
    let token = post(&control, "/refresh-token", "{}")?;
    std::fs::write(&refresh, text(&token["refresh_token"])).map_err(|error| error.to_string())?;
    // What the tenants used in the week before the lab began, hour by hour.
    let (from, to) = (day_before(&today, 7)?, day_before(&today, 0)?);
    let csv = path("rows.csv");
    let (mut rows, mut all, mut theirs) = (0, Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut command = ours(&["usage", "show", "--by", "resource", "--granularity", "hourly", "-o", "csv"]);
        command.args(["--from", &format!("{from}T00:00Z"), "--to", &format!("{to}T00:00Z")]);
        let file = std::fs::File::create(&csv).map_err(|error| error.to_string())?;
        all.push(measured_into(&mut command, file)?);
        rows =
            std::fs::read(&csv).map_err(|error| error.to_string())?.iter().filter(|byte| **byte == b'\n').count() - 1;
        if let Some(python) = python {
            let script = root().join("tests/peers/usage.py");
            let out = path("theirs.csv");
            let printed = lines(Command::new(python).arg(script).args([&told, &from, &to, &out]))?;
            match printed[..] {
                [took, memory, _] => theirs.push((took, memory)),
                _ => return Err(format!("usage.py printed {printed:?}")),
            }
        }
    }
    let column = |list: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| median(list.iter().map(pick).collect());
    let (a, b) = (column(&all, |m| m.0), column(&theirs, |m| m.0));
    let rate = |took: f64| rows as f64 / (took / 1000.0);
    println!("\n{:<58}{:>12}{:>12}{:>9}{:>9}", "", "azsreg", "requests", "ratio", "aim");
    println!(
        "{:<58}{:>12.0}{:>12.0}{:>9.2}{:>9}",
        format!("usage show, {rows} rows (rows/s)"),
        rate(a),
        rate(b),
        rate(a) / rate(b),
        ""
    );
    let (a, b) = (column(&all, |m| m.1), column(&theirs, |m| m.1));
    println!("{:<58}{a:>12.1}{b:>12.1}{:>9.2}{:>9}", "  (MiB, peak)", a / b, 64);

    // A month of it, all at once: metered, sent over TLS, mapped and entered.
    let mut register = ours(&["register", "--billing-model", "pay-as-you-use"]);
    measure(register.env("AZSREG_BRIDGE_REFRESH_TOKEN", format!("@{refresh}")))?;
    post(&control, "/stamps/stamp1", "{\"usage_bridge\": \"kill\"}")?;
    post(&control, "/clock", "{\"advance_seconds\": 345600}")?;
    post(&control, "/stamps/stamp1", "{\"usage_bridge\": \"start\"}")?;
    let begun = Instant::now();
    let (took, uploaded) = loop {
        let told = get(&control, "/stamps/stamp1/usage")?;
        if told["waiting_hours"].as_i64().is_some_and(|hours| hours <= 2) {
            break (begun.elapsed().as_secs_f64(), told["uploaded"].as_f64().unwrap_or(f64::NAN));
        }
        if begun.elapsed() > Duration::from_secs(300) {
            return Err(format!("the usage is not uploaded: {told}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    println!("{:<58}{:>12.0}", format!("lab's Azure: {uploaded:.0} rows of usage taken (rows/s)"), uploaded / took);
    println!("{:<58}{:>12.1}", "  (MiB, PSS of the whole lab, afterwards)", pss(lab.child.id()).unwrap_or(f64::NAN));
    let _ = std::fs::remove_dir_all(&work);
    Ok(())
}

/// A day, so many days before another one.
fn day_before(day: &str, days: i64) -> Result<String, String> {
    let day: jiff::civil::Date = day.parse().map_err(|_| format!("{day} is no day"))?;
    day.checked_sub(jiff::Span::new().days(days)).map(|day| day.to_string()).map_err(|error| error.to_string())
}

/// The disconnected round trip (token, register, activate) and `status`, beside Python scripts that make the same calls.
fn against_scripts(delay: u64, state: &str, python: Option<&PathBuf>) -> Result<(), String> {
    const ROUNDS: usize = 9;
    let lab = lab(delay, state)?;
    let work = PathBuf::from(state).join("scripts");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let told = work.join("lab.json");
    std::fs::write(&told, lab.told.to_string()).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let stamp = &lab.told["stamps"][0];
    let path = |name: &str| work.join(name).display().to_string();
    let ours = |arguments: &[&str]| measure(&mut pointed(&lab, &path("state"), arguments));
    let script = |name: &str, python: &PathBuf| -> Result<(f64, f64), String> {
        let lines = lines(Command::new(python).arg(root().join("tests/peers").join(name)).arg(&told).arg("bench"))?;
        match lines[..] {
            [took, memory] => Ok((took, memory)),
            _ => Err(format!("{name} printed {lines:?}")),
        }
    };
    let (token, key, receipt) = (path("token"), path("key"), path("receipt"));
    let rows = |what: &str, ours: &[(f64, f64)], theirs: &[(f64, f64)]| {
        let column = |list: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| median(list.iter().map(pick).collect());
        for (unit, pick) in [("ms", (|m| m.0) as fn(&(f64, f64)) -> f64), ("MiB, peak", |m| m.1)] {
            let (a, b) = (column(ours, pick), column(theirs, pick));
            println!(
                "{:<58}{a:>12.1}{b:>12.1}{:>9.2}{:>9.2}",
                format!("{what}; {delay} ms per response ({unit})"),
                a / b,
                0.3
            );
        }
    };
    let (mut our_trips, mut their_trips, mut our_status, mut their_status) = (vec![], vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let ask = ["offline", "token", "--billing-model", "capacity", "--agreement-number", "A", "--out", &token];
        let visits = [
            ours(&ask)?,
            ours(&["offline", "register", &token, "--name", "bench", "--out", &key])?,
            ours(&["offline", "activate", &key])?,
        ];
        let trip = visits.iter().fold((0.0, 0.0), |sum: (f64, f64), one| (sum.0 + one.0, sum.1.max(one.1)));
        let sign_in =
            ["--stamp-client-id", &text(&stamp["stamp_client_id"]), "--stamp-client-secret"].map(str::to_owned);
        let secret = format!("@{}", text(&stamp["stamp_client_secret_file"]));
        let mut status = vec!["status", "--name", "bench"];
        status.extend(sign_in.iter().map(String::as_str));
        status.push(&secret);
        let looked = ours(&status)?;
        let looked_by_script = python.map(|python| script("status.py", python)).transpose()?;
        ours(&["offline", "deactivate", "--yes", "--out", &receipt])?;
        ours(&["offline", "unregister", "--name", "bench", "--yes"])?;
        let trip_of_script = python.map(|python| script("disconnected.py", python)).transpose()?;
        // The first round warms both up.
        if round > 0 {
            our_trips.push(trip);
            our_status.push(looked);
            their_trips.extend(trip_of_script);
            their_status.extend(looked_by_script);
        }
    }
    rows("disconnected round trip", &our_trips, &their_trips);
    rows("status", &our_status, &their_status);
    Ok(())
}

/// The rows of usage alone.
pub(crate) fn run_usage() -> Result<(), String> {
    run_command(&mut cargo(&["build", "--quiet", "--release", "-p", "azsreg"]))?;
    usage(&root().join("target/bench-state").to_string_lossy(), python().as_ref().ok())
}

/// The rows of the portals alone.
pub(crate) fn run_portals() -> Result<(), String> {
    run_command(&mut cargo(&["build", "--quiet", "--release", "-p", "azsreg"]))?;
    crate::pages::measure(&root().join("target/bench-state").to_string_lossy())
}

pub(crate) fn run() -> Result<(), String> {
    run_command(&mut cargo(&["build", "--quiet", "--release", "-p", "azsreg"]))?;
    run_command(&mut cargo(&["build", "--quiet", "--release", "-p", "azsreg-pep", "--example", "roundtrip"]))?;
    let python = python();
    let state = root().join("target/bench-state");
    let state = state.to_string_lossy().into_owned();
    println!("{:<58}{:>12}{:>12}{:>9}{:>9}", "", "azsreg", "pypsrp", "ratio", "aim");

    for (delay, aim) in [(0u64, 0.5), (50, 0.8)] {
        let lab = lab(delay, &state)?;
        let stamp = &lab.told["stamps"][0];
        let text = |name: &str| stamp[name].as_str().unwrap_or_default().to_owned();
        let (address, user, file) =
            (stamp["pep"][0].as_str().unwrap_or_default(), text("pep_user"), text("pep_password_file"));
        let (count, rounds) = if delay == 0 { ("20", 5) } else { ("4", 5) };
        let (mut ours, mut theirs, mut asked) = (Vec::new(), Vec::new(), [0.0, 0.0]);
        for _ in 0..rounds {
            let before = requests(&lab);
            ours.extend(lines(Command::new(binary("examples/roundtrip")).args([address, &user, &file, count]))?);
            asked[0] += requests(&lab) - before;
            if let Ok(python) = &python {
                let before = requests(&lab);
                let script = root().join("tests/peers/roundtrip.py");
                theirs.extend(lines(Command::new(python).arg(script).args([address, &user, &file, count]))?);
                asked[1] += requests(&lab) - before;
            }
        }
        let (n, m) = (ours.len() as f64, theirs.len() as f64);
        let (a, b) = (median(ours), median(theirs));
        let what = format!("PEP open, one cmdlet, close; {delay} ms per response (ms)");
        println!("{what:<58}{a:>12.1}{b:>12.1}{:>9.2}{aim:>9.2}", a / b);
        println!("{:<58}{:>12.1}{:>12.1}{:>9}{:>9}", "  requests", asked[0] / n, asked[1] / m, "", 7);
    }

    let version = process(&binary("azsreg"), &["--version"], 40)?;
    println!("{:<58}{version:>12.1}{:>12}{:>9}{:>9}", "azsreg --version (ms)", "", "", 5);
    let mut ready = Vec::new();
    for _ in 0..10 {
        ready.push(lab(0, &state)?.ready);
    }
    println!("{:<58}{:>12.1}{:>12}{:>9}{:>9}", "lab: spawn to first answer (ms)", median(ready), "", "", 100);
    let idle = lab(0, &state)?;
    std::thread::sleep(Duration::from_secs(10));
    match pss(idle.child.id()) {
        Some(mib) => println!("{:<58}{mib:>12.1}{:>12}{:>9}{:>9}", "lab: idle for 10 s (MiB, PSS)", "", "", 25),
        None => println!("{:<58}{:>12}", "lab: idle for 10 s (MiB, PSS)", "not on this system"),
    }
    let rehearse = process(&binary("azsreg"), &["rehearse", "--stamp-delay", "0"], 7)?;
    println!("{:<58}{rehearse:>12.1}", "azsreg rehearse, stamp delays at zero (ms)");
    for delay in [0, 50] {
        if let Err(why) = against_scripts(delay, &state, python.as_ref().ok()) {
            println!("the disconnected round trip and status were left out: {why}");
        }
    }
    if let Err(why) = usage(&state, python.as_ref().ok()) {
        println!("usage was left out: {why}");
    }
    if let Err(why) = crate::pages::measure(&state) {
        println!("the portals were left out: {why}");
    }
    if let Err(why) = against_curl(&state) {
        println!("marketplace download beside curl was left out: {why}");
    }
    if let Err(why) = python {
        println!("pypsrp was left out: {why}");
    }
    Ok(())
}
