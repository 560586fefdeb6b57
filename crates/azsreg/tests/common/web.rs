//! `azsreg status --web`, and the file of stamps that it reads.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{World, runtime};

/// The running command, and the link that it printed.
pub struct Web {
    pub child: Child,
    pub link: String,
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Web {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.args(["status", "--web"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().expect("a link is printed").unwrap();
        let link = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        Self { child, link }
    }

    /// Opens the link, as a program does.
    pub fn open(self) -> Page {
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().no_proxy().redirect(none).build().unwrap();
        let first = runtime().block_on(async { client.get(&self.link).send().await.unwrap() });
        assert_eq!(first.status(), 303);
        let header = |name: &str| first.headers()[name].to_str().unwrap().to_owned();
        let home = format!("{}{}", self.link.split("/?").next().unwrap(), header("location"));
        let cookie = header("set-cookie").split(';').next().unwrap().to_owned();
        Page { web: self, client, home, cookie }
    }
}

/// The page behind the link.
pub struct Page {
    pub web: Web,
    client: reqwest::Client,
    home: String,
    cookie: String,
}

impl Page {
    pub fn read(&self) -> String {
        runtime().block_on(async {
            let answer = self.client.get(&self.home).header("cookie", &self.cookie).send().await.unwrap();
            answer.text().await.unwrap()
        })
    }

    /// The page, once nobody is being asked any more.
    pub fn settled(&self) -> String {
        self.settled_with(|_| ())
    }

    /// Likewise; every page until then is looked at. It fails when nothing changes for a while.
    pub fn settled_with(&self, look: impl Fn(&str)) -> String {
        let (mut begun, mut before) = (Instant::now(), String::new());
        loop {
            let page = self.read();
            look(&page);
            if !page.contains("data-live") {
                return page;
            }
            let waiting = page.split("being asked.").next().unwrap_or_default().to_owned();
            if waiting != before {
                (begun, before) = (Instant::now(), waiting);
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "nothing changes any more: {page}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks a stamp, or all, and waits for what they say.
    pub fn ask(&self, id: &str) -> String {
        let page = self.read();
        let secret = page.split("name=\"secret\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let form = [("secret", secret.as_str()), ("id", id)];
        let form = if id.is_empty() { &form[..1] } else { &form };
        let status = runtime().block_on(async {
            let asked = self.client.post(format!("{}ask", self.home)).header("cookie", &self.cookie).form(form);
            asked.send().await.unwrap().status()
        });
        assert_eq!(status, 303);
        self.settled()
    }
}

impl World {
    /// Writes `stamps.json`: the lab's stamps under these names, changed by the function.
    pub fn stamps(&self, names: &[&str], change: impl Fn(&str, &mut Value)) {
        let told = self.lab.descriptor();
        let entries = names.iter().zip(&told.stamps).map(|(name, stamp)| {
            let mut entry = json!({
                "name": name, "pep": stamp.pep, "pep_user": stamp.pep_user,
                "pep_password": format!("@{}", stamp.pep_password_file.display()), "stamp_client_id": stamp.stamp_client_id,
                "stamp_client_secret": format!("@{}", stamp.stamp_client_secret_file.display()),
            });
            change(name, &mut entry);
            entry
        });
        std::fs::create_dir_all(self.state()).unwrap();
        let file = json!({"stamps": entries.collect::<Vec<_>>()}).to_string();
        // As an editor of Windows writes it.
        std::fs::write(self.state().join("stamps.json"), format!("\u{feff}{file}")).unwrap();
    }

    /// A command that knows no stamp but those of `stamps.json`.
    pub fn nowhere(&self) -> Command {
        let mut command = self.command(0, &self.state());
        self.signed_in(&mut command);
        for name in ["AZSREG_PEP", "AZSREG_PEP_USER", "AZSREG_PEP_PASSWORD"] {
            command.env_remove(name);
        }
        command
    }
}
