//! A real browser, driven over WebDriver (W3C): a driver process of its own for each test, on a port of its own choice.
//!
//! The dozen calls that are needed are made by hand: the published clients bring a hundred crates, or switch a feature of
//! serde_json on for the binary under test.

use std::io::{BufRead as _, BufReader};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::common::runtime;

/// How long anything on a page may take to become so.
const PATIENCE: Duration = Duration::from_secs(60);

/// The screens, in pixels.
pub const PHONE: (u32, u32) = (390, 844);
pub const WIDE: (u32, u32) = (1280, 800);

/// The member that stands for an element (WebDriver, section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The key that sends a form (WebDriver, section 17.4.2).
pub const ENTER: &str = "\u{e007}";

pub struct Browser {
    http: reqwest::Client,
    session: String,
}

/// A reader, as a browser tells it.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    pub scripts: bool,
    pub zone: &'static str,
    pub dark: bool,
    pub phone: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { scripts: true, zone: "Asia/Kolkata", dark: false, phone: false }
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The file that a variable of `cargo xtask test` names.
pub fn named(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.unwrap_or_else(|| panic!("{variable} is not set: run cargo xtask test"))
}

/// A driver and its port. It takes a free port of IPv4 and ends if IPv6 has the same one in use: then another is started.
fn started() -> (Process, u16) {
    let mut said = String::new();
    for _ in 0..5 {
        let mut command = Command::new(named("AZSREG_CHROMEDRIVER"));
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process(command.spawn().unwrap());
        for line in BufReader::new(process.0.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let port =
                line.split_once("successfully on port ").and_then(|(_, rest)| rest.trim_end_matches('.').parse().ok());
            if let Some(port) = port {
                return (process, port);
            }
            said.push_str(&line);
            said.push('\n');
        }
    }
    panic!("the driver does not name its port: {said}");
}

/// Does something in a browser, which is closed at the end, come what may.
pub fn browse(reader: Reader, work: impl AsyncFnOnce(&Browser)) {
    let (_process, port) = started();
    let profile = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let profile = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            // The lab's authority is its own.
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }}});
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let driver = Browser { http, session: format!("http://127.0.0.1:{port}") };
        let begun = driver.call("session", wanted).await.unwrap();
        let session = format!("{}/session/{}", driver.session, begun["sessionId"].as_str().unwrap());
        let browser = Browser { session, ..driver };
        let outcome = AssertUnwindSafe(async {
            browser.is(reader).await;
            work(&browser).await;
        })
        .catch_unwind()
        .await;
        if outcome.is_err() {
            let page = browser.get("source").await.unwrap_or_default();
            eprintln!("the page at {:?}:\n{}", browser.get("url").await, page.as_str().unwrap_or_default());
        }
        let _ = browser.http.delete(&browser.session).send().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Browser {
    /// A command of the protocol, and its value.
    async fn call(&self, path: &str, parameters: Value) -> Result<Value, String> {
        let asked = self.http.post(format!("{}/{path}", self.session)).json(&parameters);
        Self::value(asked).await
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        Self::value(self.http.get(format!("{}/{path}", self.session))).await
    }

    async fn value(asked: reqwest::RequestBuilder) -> Result<Value, String> {
        let answer = asked.send().await.map_err(|error| error.to_string())?;
        let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"].as_str().unwrap_or_default())),
            None => Ok(answer["value"].take()),
        }
    }

    async fn find(&self, using: &str, value: &str) -> Result<String, String> {
        let found = self.call("element", json!({"using": using, "value": value})).await?;
        found[ELEMENT].as_str().map(|id| format!("element/{id}")).ok_or_else(|| format!("{found} is no element"))
    }

    async fn css(&self, selector: &str) -> String {
        self.find("css selector", selector).await.unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await.unwrap()
    }

    /// From here on the browser is this reader's.
    pub async fn is(&self, reader: Reader) {
        let (width, height) = if reader.phone { PHONE } else { WIDE };
        let scheme = if reader.dark { "dark" } else { "light" };
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": reader.phone}),
        )
        .await;
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
        self.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": reader.zone})).await;
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !reader.scripts})).await;
    }

    pub async fn open(&self, url: &str) {
        self.call("url", json!({ "url": url })).await.unwrap();
    }

    pub async fn again(&self) {
        self.call("refresh", json!({})).await.unwrap();
    }

    pub async fn address(&self) -> String {
        self.get("url").await.unwrap().as_str().unwrap().to_owned()
    }

    /// Waits until a form has led somewhere.
    #[track_caller]
    pub fn arrives<'a>(&'a self, part: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let begun = Instant::now();
            while !self.address().await.contains(part) {
                assert!(begun.elapsed() < PATIENCE, "{caller}: {part} is not reached: {}", self.address().await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// What a reader sees of an element. One that goes away while it is read, with its page, is looked for anew.
    pub async fn text(&self, selector: &str) -> String {
        let begun = Instant::now();
        loop {
            let read = async {
                let found = self.find("css selector", selector).await?;
                self.get(&format!("{found}/text")).await
            };
            match read.await {
                Ok(text) => return text.as_str().unwrap().to_owned(),
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{selector}: {error}"),
            }
        }
    }

    pub async fn attribute(&self, selector: &str, name: &str) -> Option<String> {
        let found = self.css(selector).await;
        self.get(&format!("{found}/attribute/{name}")).await.unwrap().as_str().map(str::to_owned)
    }

    pub async fn count(&self, selector: &str) -> usize {
        let found = self.call("elements", json!({"using": "css selector", "value": selector})).await.unwrap();
        found.as_array().unwrap().len()
    }

    /// Asserts that the page shows texts.
    #[track_caller]
    pub fn shows<'a>(&'a self, texts: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let page = self.text("body").await;
            for text in texts {
                assert!(page.contains(text), "{caller}: {text:?} is not shown:\n{page}");
            }
        }
    }

    /// Waits until the page as it stands, without being loaded anew, shows a text.
    #[track_caller]
    pub fn comes_to_show<'a>(&'a self, selector: &'a str, text: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let begun = Instant::now();
            loop {
                let now = self.text(selector).await;
                if now.contains(text) {
                    return;
                }
                assert!(begun.elapsed() < PATIENCE, "{caller}: {text:?} does not come: {now}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Loads the page anew until it shows a text.
    pub async fn in_time_shows(&self, text: &str) {
        let begun = Instant::now();
        while !self.text("body").await.contains(text) {
            assert!(begun.elapsed() < PATIENCE, "{text:?} does not come: {}", self.text("body").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.again().await;
        }
    }

    pub async fn click(&self, selector: &str) {
        let found = self.css(selector).await;
        self.call(&format!("{found}/click"), json!({})).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Follows a link by what it says first.
    pub async fn follow(&self, text: &str) {
        let path = format!("//a[normalize-space(text()[1])='{text}']");
        let found = self.find("xpath", &path).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        self.call(&format!("{found}/click"), json!({})).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }

    /// Types, as somebody without a mouse does.
    pub async fn write(&self, selector: &str, text: &str) {
        let found = self.css(selector).await;
        self.call(&format!("{found}/value"), json!({ "text": text })).await.unwrap();
    }

    /// Runs a script in the page, whatever the page's policy.
    pub async fn run(&self, script: &str) -> Value {
        self.call("execute/sync", json!({"script": script, "args": []})).await.unwrap()
    }

    pub async fn run_async(&self, script: &str) -> Value {
        self.call("execute/async", json!({"script": script, "args": []})).await.unwrap()
    }

    /// The whole page as a picture.
    pub async fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let size = self.run("return [document.body.scrollWidth, document.body.getBoundingClientRect().height]").await;
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let how = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.devtools("Page.captureScreenshot", how).await;
        base64::prelude::BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// What the browser complained of: a refused script, a broken policy, a missing file.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.call("se/log", json!({"type": "browser"})).await.unwrap();
        let entries = log.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }
}
