//! A real browser, driven over WebDriver: a driver process of its own for each test, on a port of its own choice.

use std::io::{BufRead as _, BufReader};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use thirtyfour::LoggingPrefsLogLevel;
use thirtyfour::common::capabilities::chromium::ChromiumLikeCapabilities as _;
use thirtyfour::prelude::*;

use crate::common::runtime;

/// How long anything on a page may take to become so.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Browser {
    driver: WebDriver,
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

/// Does something in a browser, which is closed at the end, come what may.
pub fn browse(reader: Reader, work: impl AsyncFnOnce(&Browser)) {
    let mut command = Command::new(named("AZSREG_CHROMEDRIVER"));
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process(command.spawn().unwrap());
    let out = BufReader::new(process.0.stdout.take().unwrap());
    let port = out.lines().map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once("successfully on port ")?;
        rest.trim_end_matches('.').parse::<u16>().ok()
    });
    let port = port.expect("the driver names its port");
    let profile = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut wanted = DesiredCapabilities::chrome();
        for argument in [
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
            &format!("--user-data-dir={}", profile.path().display()),
        ] {
            wanted.add_arg(argument).unwrap();
        }
        // The lab's authority is its own.
        wanted.accept_insecure_certs(true).unwrap();
        wanted.set_logging_prefs("browser", LoggingPrefsLogLevel::All).unwrap();
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await.unwrap();
        let browser = Browser { driver: driver.clone() };
        let outcome = AssertUnwindSafe(async {
            browser.is(reader).await;
            work(&browser).await;
        })
        .catch_unwind()
        .await;
        if outcome.is_err() {
            let page = driver.source().await.unwrap_or_default();
            eprintln!("the page at {:?}:\n{page}", driver.current_url().await.map(|url| url.to_string()));
        }
        let _ = driver.quit().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Browser {
    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.driver.cdp().send_raw(command, parameters).await.unwrap()
    }

    /// From here on the browser is this reader's.
    pub async fn is(&self, reader: Reader) {
        let (width, height) = if reader.phone { (390, 844) } else { (1280, 800) };
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
        self.driver.goto(url).await.unwrap();
    }

    pub async fn again(&self) {
        self.driver.refresh().await.unwrap();
    }

    pub async fn address(&self) -> String {
        self.driver.current_url().await.unwrap().to_string()
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
            let read = async { self.driver.find(By::Css(selector)).await?.text().await };
            match read.await {
                Ok(text) => return text,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{selector}: {error}"),
            }
        }
    }

    pub async fn attribute(&self, selector: &str, name: &str) -> Option<String> {
        self.driver.find(By::Css(selector)).await.unwrap().attr(name).await.unwrap()
    }

    pub async fn count(&self, selector: &str) -> usize {
        self.driver.find_all(By::Css(selector)).await.unwrap().len()
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
        let found = self.driver.find(By::Css(selector)).await.unwrap_or_else(|e| panic!("{selector}: {e}"));
        found.click().await.unwrap();
    }

    /// Follows a link by what it says first.
    pub async fn follow(&self, text: &str) {
        let path = format!("//a[normalize-space(text()[1])='{text}']");
        self.driver.find(By::XPath(path)).await.unwrap_or_else(|e| panic!("{text}: {e}")).click().await.unwrap();
    }

    pub async fn write(&self, selector: &str, text: &str) {
        self.driver.find(By::Css(selector)).await.unwrap().send_keys(text).await.unwrap();
    }

    /// Presses a key, as somebody without a mouse does.
    pub async fn press(&self, key: Key) {
        self.driver.action_chain().send_keys(key).perform().await.unwrap();
    }

    /// Runs a script in the page, whatever the page's policy.
    pub async fn run(&self, script: &str) -> Value {
        self.driver.execute(script, Vec::new()).await.unwrap().json().clone()
    }

    pub async fn run_async(&self, script: &str) -> Value {
        self.driver.execute_async(script, Vec::new()).await.unwrap().json().clone()
    }

    /// The whole page as a picture.
    pub async fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let shot =
            self.devtools("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true})).await;
        base64::prelude::BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// What the browser complained of: a refused script, a broken policy, a missing file.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.driver.browser_log().await.unwrap();
        log.into_iter().map(|entry| entry.message).collect()
    }
}
