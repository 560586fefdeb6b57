//! The portals' pages of a lab with 200 registered stamps: how many a second, how long the slowest of a hundred takes, and
//! how large they are.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::{Lab, get, lab_of, pointed, post, pss};

const STAMPS: usize = 200;
/// Readers at a time, and how many pages each reads.
const READERS: usize = 2;
const READS: usize = 300;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A connection that reads one page after the other.
struct Reader {
    stream: BufReader<TcpStream>,
    host: String,
    cookie: String,
}

impl Reader {
    fn open(host: &str, cookie: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: host.to_owned(), cookie: cookie.to_owned() })
    }

    /// A page: its status, its head, and its body.
    fn read(&mut self, path: &str) -> Result<(u16, String, String), String> {
        let error = |error: std::io::Error| error.to_string();
        let ask = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", self.host, self.cookie);
        self.stream.get_mut().write_all(ask.as_bytes()).map_err(error)?;
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).map_err(error)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(|_| format!("{line:?} is no length"))?;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(error)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, head, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// A page read again and again by several readers: one row.
fn row(name: &str, endpoint: &str, path: &str, cookie: &str) -> Result<(), String> {
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let one = || -> Result<(Vec<f64>, usize), String> {
        let mut reader = Reader::open(host, cookie).map_err(|error| error.to_string())?;
        let (mut took, mut largest) = (Vec::with_capacity(READS), 0);
        for _ in 0..READS {
            let begun = Instant::now();
            let (status, _, body) = reader.read(path)?;
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
            if status != 200 {
                return Err(format!("{name}: {path} answers {status}: {body}"));
            }
            largest = largest.max(body.len());
        }
        Ok((took, largest))
    };
    let begun = Instant::now();
    let results: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(one)).collect();
        readers.into_iter().map(|reader| reader.join().unwrap_or_else(|_| Err("a reader died".into()))).collect()
    });
    let whole = begun.elapsed().as_secs_f64();
    let (mut all, mut largest) = (Vec::new(), 0);
    for result in results {
        let (took, size) = result?;
        all.extend(took);
        largest = largest.max(size);
    }
    all.sort_by(f64::total_cmp);
    let p99 = all.get(all.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    let rate = all.len() as f64 / whole;
    println!("{name:<58}{rate:>12.0}{p99:>12.2}{:>9.1}", largest as f64 / 1000.0);
    Ok(())
}

/// azsreg at the nth stamp.
fn at(lab: &Lab, state: &str, stamp: &Value, arguments: &[&str]) -> Command {
    let mut command = pointed(lab, state, arguments);
    command.env("AZSREG_PEP", text(&stamp["pep"][0])).env("AZSREG_PEP_USER", text(&stamp["pep_user"]));
    command.env("AZSREG_PEP_PASSWORD", format!("@{}", text(&stamp["pep_password_file"])));
    command.env("AZSREG_STAMP_CLIENT_ID", text(&stamp["stamp_client_id"]));
    command.env("AZSREG_STAMP_CLIENT_SECRET", format!("@{}", text(&stamp["stamp_client_secret_file"])));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Registers every stamp, two at a time.
fn register(lab: &Lab, state: &str, refresh: &str) -> Result<(), String> {
    let stamps = lab.told["stamps"].as_array().cloned().unwrap_or_default();
    let next = AtomicUsize::new(0);
    let one = || -> Result<(), String> {
        while let Some(stamp) = stamps.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut command = at(lab, state, stamp, &["register", "--billing-model", "pay-as-you-use"]);
            command.env("AZSREG_BRIDGE_REFRESH_TOKEN", format!("@{refresh}")).stderr(Stdio::piped());
            let output = command.output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(one)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a worker died".into())))
    })
}

/// The rows of the portals.
pub(crate) fn measure(state: &str) -> Result<(), String> {
    let work = PathBuf::from(state).join("portals");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let path = |name: &str| work.join(name).display().to_string();
    let lab = lab_of(&["--stamps", &STAMPS.to_string()], &path("lab"))?;
    let control = text(&lab.told["control_endpoint"]);
    let token = post(&control, "/refresh-token", "{}")?;
    let refresh = path("refresh");
    std::fs::write(&refresh, text(&token["refresh_token"])).map_err(|error| error.to_string())?;
    register(&lab, &path("state"), &refresh)?;
    post(&control, "/clock", "{\"advance_seconds\": 2678400}")?;
    let begun = Instant::now();
    for stamp in lab.told["stamps"].as_array().into_iter().flatten() {
        let usage = format!("/stamps/{}/usage", text(&stamp["name"]));
        while get(&control, &usage)?["waiting_hours"].as_i64().is_none_or(|hours| hours > 2) {
            if begun.elapsed() > Duration::from_secs(300) {
                return Err("the usage is not uploaded".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let stamp = &lab.told["stamps"][0];
    let (portal, azure) = (text(&stamp["portal_endpoint"]), text(&lab.told["portal_endpoint"]));
    println!(
        "\n{:<58}{:>12}{:>12}{:>9}",
        format!("portals of a lab with {STAMPS} stamps"),
        "pages/s",
        "p99 (ms)",
        "KB"
    );
    println!("{:<58}{:>12}{:>12}{:>9}", "  aim", "", 50, 100);
    for (name, path) in [
        ("dashboard", "/"),
        ("Properties", "/properties"),
        ("Marketplace management", "/marketplace"),
        ("Add from Azure (the stamp asks Azure)", "/marketplace/add"),
        ("Alerts", "/alerts"),
        ("Usage of 31 days", "/usage?days=31"),
    ] {
        row(name, &portal, path, "")?;
    }
    let mut reader = Reader::open(azure.trim_start_matches("http://"), "").map_err(|error| error.to_string())?;
    let (_, _, list) = reader.read("/?hidden=yes&page=2")?;
    let link = list.split("href=\"/registration?").nth(1).and_then(|rest| rest.split('"').next());
    let link = format!("/registration?{}", link.ok_or("the list has no registration")?);
    for (name, path) in [
        ("Azure: all resources, hidden types too", "/?hidden=yes"),
        ("Azure: a registration", &link),
        ("Azure: cost of 31 days", "/cost?days=31"),
        ("Azure: activity log", "/activity"),
    ] {
        row(name, &azure, path, "")?;
    }
    fleet(&lab, &path("state"))?;
    println!("{:<58}{:>12.1}", "  (MiB, PSS of the whole lab, afterwards)", pss(lab.child.id()).unwrap_or(f64::NAN));
    drop(lab);
    let _ = std::fs::remove_dir_all(&work);
    Ok(())
}

/// The page of `azsreg status --web`, once all stamps have answered.
fn fleet(lab: &Lab, state: &str) -> Result<(), String> {
    let entry = |stamp: &Value| {
        json!({
            "name": stamp["name"], "pep": stamp["pep"], "pep_user": stamp["pep_user"], "cloud_id": stamp["cloud_id"],
            "pep_password": format!("@{}", text(&stamp["pep_password_file"])), "stamp_client_id": stamp["stamp_client_id"],
            "stamp_client_secret": format!("@{}", text(&stamp["stamp_client_secret_file"])),
        })
    };
    let stamps: Vec<Value> = lab.told["stamps"].as_array().into_iter().flatten().map(entry).collect();
    let file = json!({ "stamps": stamps }).to_string();
    std::fs::write(PathBuf::from(state).join("stamps.json"), file).map_err(|error| error.to_string())?;
    let mut command = at(lab, state, &lab.told["stamps"][0], &["status", "--web"]);
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let measured = (|| {
        let mut line = String::new();
        let out = child.stdout.take().ok_or("no output")?;
        BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
        let link = line.split_whitespace().find(|word| word.starts_with("http://")).ok_or("no link")?.to_owned();
        let (endpoint, once) = link.split_once("/?").ok_or("no secret")?;
        let host = endpoint.trim_start_matches("http://");
        let mut reader = Reader::open(host, "").map_err(|error| error.to_string())?;
        let (_, head, _) = reader.read(&format!("/?{once}"))?;
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).ok_or("no cookie")?;
        reader.cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let home = head.lines().find_map(|line| line.strip_prefix("location: ")).ok_or("no place")?.trim().to_owned();
        while reader.read(&home)?.2.contains("data-live") {
            if begun.elapsed() > Duration::from_secs(300) {
                return Err("the stamps do not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("{:<58}{:>12.1}", format!("status --web: {STAMPS} stamps asked (s)"), begun.elapsed().as_secs_f64());
        row("status --web: the stamps", endpoint, &home, &reader.cookie)
    })();
    let _ = child.kill();
    let _ = child.wait();
    measured
}
