//! The guide tells the truth: its console blocks are run, in order, against the lab that each page names; and the page that
//! maps the article leaves nothing out.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide")
}

/// A command of a page and what has to be seen of it.
struct Step {
    machine: String,
    command: String,
    exit: i32,
    expected: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut machine: Option<String> = None;
    let mut continued = false;
    for line in page.lines() {
        if let Some(info) = line.strip_prefix("```") {
            let mut words = info.split_whitespace();
            machine = match (&machine, words.next()) {
                (None, Some("console")) => Some(words.next().unwrap_or("state").to_owned()),
                _ => None,
            };
            continued = false;
            continue;
        }
        let Some(machine) = &machine else { continue };
        if continued {
            let step = steps.last_mut().unwrap();
            step.command.push(' ');
            step.command.push_str(line.strip_prefix("> ").unwrap_or(line).trim());
        } else if let Some(command) = line.strip_prefix("$ ") {
            let step = Step { machine: machine.clone(), command: command.to_owned(), exit: 0, expected: Vec::new() };
            steps.push(step);
        } else if !line.trim().is_empty() {
            steps.last_mut().unwrap().expected.push(line.trim().to_owned());
            continue;
        } else {
            continue;
        }
        let step = steps.last_mut().unwrap();
        continued = step.command.ends_with('\\');
        if continued {
            step.command.truncate(step.command.len() - 1);
        } else if let Some((command, exit)) = step.command.clone().rsplit_once("# exit ") {
            step.exit = exit.trim().parse().unwrap();
            step.command = command.trim().to_owned();
        }
    }
    steps
}

/// Any GUID for a GUID, any date for a date.
fn plain(text: &str) -> String {
    let digits = |part: &str, count: usize| part.len() == count && part.chars().all(|c| c.is_ascii_hexdigit());
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let guid = rest.get(..36).filter(|g| {
            let parts: Vec<&str> = g.split('-').collect();
            parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, count)| digits(part, count))
        });
        let date = rest.get(..10).filter(|d| {
            let parts: Vec<&str> = d.split('-').collect();
            parts.len() == 3 && digits(parts[0], 4) && digits(parts[1], 2) && digits(parts[2], 2)
        });
        match (guid, date) {
            (Some(guid), _) => {
                out.push_str("[guid]");
                rest = &rest[guid.len()..];
            }
            (None, Some(date)) => {
                out.push_str("[date]");
                rest = &rest[date.len()..];
            }
            (None, None) => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// Whether a line is as expected: `...` stands for anything.
fn fits(expected: &str, line: &str) -> bool {
    let (expected, line) = (plain(expected), plain(line.trim()));
    let mut rest = line.as_str();
    let parts: Vec<&str> = expected.split("...").collect();
    for (at, part) in parts.iter().enumerate() {
        let Some(found) = rest.find(part.trim()) else { return false };
        if at == 0 && !expected.starts_with("...") && found != 0 {
            return false;
        }
        rest = &rest[found + part.trim().len()..];
    }
    expected.ends_with("...") || rest.is_empty()
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a page: what does not hold.
fn run_page(path: &Path) -> Vec<String> {
    let page = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let steps = steps(&page);
    if steps.is_empty() {
        return Vec::new();
    }
    let lab = page.lines().find_map(|line| line.trim().strip_prefix("<!-- lab:")?.strip_suffix("-->").map(str::trim));
    let lab = lab.unwrap_or_else(|| panic!("{name} has console blocks and names no lab"));
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_azsreg"), bin.join("azsreg")).unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir_all(&work).unwrap();
    let bash = |script: &str| {
        let mut command = Command::new("bash");
        for (variable, _) in std::env::vars_os() {
            let variable = variable.to_string_lossy().into_owned();
            if variable.starts_with("AZSREG_") || variable.to_lowercase().ends_with("_proxy") {
                command.env_remove(variable);
            }
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).current_dir(&work).stdin(Stdio::null()).arg("-c").arg(script);
        command
    };
    let home = dir.path().join("home");
    // The ids on the pages are those of the first seed.
    let start = format!("exec azsreg lab up --seed 1 --state-dir '{}' {lab}", home.display());
    let mut child = bash(&start).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut told = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut told).unwrap();
    let _lab = Running(child);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    // One shell for all commands of the page: what one sets the next one sees.
    let mut script = format!(
        "eval \"$(azsreg lab env --state-dir '{}')\"\nexport AZSREG_LAB_PORTAL={}\n",
        home.display(),
        told["stamps"][0]["portal_endpoint"]
    );
    let machine = |name: &str| format!("export AZSREG_STATE_DIR='{}'\n", dir.path().join(name).display());
    for name in ["state", "internet"] {
        script.push_str(&format!("{}azsreg login >/dev/null 2>&1\n", machine(name)));
    }
    // The lab's own commands look for the lab where it noted itself.
    for name in ["state", "internet", "stamp"] {
        let to = dir.path().join(name).join("lab");
        script.push_str(&format!("mkdir -p '{0}' && cp '{1}/lab/current.json' '{0}/'\n", to.display(), home.display()));
    }
    script.push_str("export AZSREG_NON_INTERACTIVE=true\n");
    for (at, step) in steps.iter().enumerate() {
        script.push_str(&machine(&step.machine));
        script.push_str(&format!(
            "{{ {}\n}} >'{1}/{at}.out' 2>&1; echo $? >'{1}/{at}.exit'\n",
            step.command,
            dir.path().display()
        ));
    }
    assert!(bash(&script).stdout(Stdio::null()).status().unwrap().success(), "{name}");
    let mut broken = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let read = |what: &str| std::fs::read_to_string(dir.path().join(format!("{at}.{what}"))).unwrap_or_default();
        let (output, exit) = (read("out"), read("exit"));
        if exit.trim() != step.exit.to_string() {
            broken.push(format!("$ {}\nexit {} in place of {}\n{output}", step.command, exit.trim(), step.exit));
            continue;
        }
        let mut lines = output.lines();
        for expected in &step.expected {
            if !lines.any(|line| fits(expected, line)) {
                broken.push(format!("$ {}\nexpected: {expected}\n{output}", step.command));
                break;
            }
        }
    }
    broken.into_iter().map(|what| format!("{name}:\n{what}")).collect()
}

#[cfg(unix)]
#[test]
fn the_console_blocks_of_every_page_hold() {
    let mut pages: Vec<PathBuf> = std::fs::read_dir(guide()).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    assert!(pages.len() > 10, "{pages:?}");
    let broken: Vec<String> = pages.iter().flat_map(|page| run_page(page)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_heading_cmdlet_and_parameter_of_the_article_is_mapped() {
    let page = std::fs::read_to_string(guide().join("from-the-article.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let list = include_str!("article.txt");
    let mut count = 0;
    for line in list.lines().filter(|line| !line.is_empty()) {
        let (_, item) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let row = rows.iter().find(|row| row.first() == Some(&item)).unwrap_or_else(|| panic!("{item} is not mapped"));
        let to = row.get(1).copied().unwrap_or_default();
        assert!(
            to.contains("azsreg") || to.contains("--") || to.contains("ot needed") || to.contains(".md"),
            "{item}: {to}"
        );
        count += 1;
    }
    assert!(count >= 100, "only {count} items are listed");
    // Where the article itself is at hand, the list is compared with it.
    let article = guide().join("../../../shared/reference/register-azure-stack-with-azure.md");
    if let Ok(article) = std::fs::read_to_string(article) {
        for line in article.lines().filter(|line| line.starts_with('#')) {
            let anchor = line.split("name=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            let plain = |text: &str| text.to_lowercase().replace([' ', '-', ',', '/', '.'], "");
            let known = list
                .lines()
                .any(|item| item.strip_prefix("heading: ").is_some_and(|heading| plain(heading) == plain(anchor)));
            assert!(known || anchor.is_empty(), "the heading {anchor} is not listed");
        }
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    for entry in std::fs::read_dir(guide()).unwrap() {
        let path = entry.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                assert!(guide().join(file).exists(), "{}: {link}", path.display());
            }
        }
    }
}
