//! Measures, side by side with peers, in one run: medians and ratios, since the machine is noisy. No test times anything.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{cargo, python, root, run as run_command};

struct Lab {
    child: Child,
    told: Value,
    /// From spawn to the first answer, in milliseconds.
    ready: f64,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary(name: &str) -> PathBuf {
    root().join("target/release").join(name)
}

fn get(endpoint: &str, path: &str) -> Result<Value, String> {
    let address = endpoint.trim_start_matches("http://");
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(text)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|error| error.to_string())
}

fn lab(delay: u64, state: &str) -> Result<Lab, String> {
    let begun = Instant::now();
    let mut child = Command::new(binary("azsreg"))
        .args(["lab", "up", "--pep-delay", &delay.to_string(), "--state-dir", state])
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

fn median(mut values: Vec<f64>) -> f64 {
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
fn pss(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
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
    if let Err(why) = python {
        println!("pypsrp was left out: {why}");
    }
    Ok(())
}
