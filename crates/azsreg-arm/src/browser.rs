//! The authorisation-code flow's two ends on this machine: a browser, and a loopback port that waits for it.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// How long a connection to the loopback port may take to say what it asks for.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// Opens a URL in the person's browser. The one call to the operating system of this crate.
///
/// # Errors
/// There is no program that opens URLs.
pub fn open(url: &str) -> io::Result<()> {
    let mut command = if let Some(browser) = std::env::var_os("BROWSER").filter(|b| !b.is_empty()) {
        let mut command = Command::new(browser);
        command.arg(url);
        command
    } else if cfg!(windows) {
        let mut command = Command::new("rundll32");
        command.args(["url.dll,FileProtocolHandler", url]);
        command
    } else if cfg!(target_os = "macos") {
        let mut command = Command::new("open");
        command.arg(url);
        command
    } else {
        let mut command = Command::new("xdg-open");
        command.arg(url);
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}

/// Waits for the browser's redirect and gives its query.
pub(crate) async fn wait(listener: TcpListener) -> io::Result<String> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        // Who connects and says nothing does not keep the browser out.
        let asked = tokio::time::timeout(ASKED_WITHIN, (&mut stream).take(16 << 10).read_line(&mut line)).await;
        if !matches!(asked, Ok(Ok(_))) {
            continue;
        }
        let path = line.split(' ').nth(1).unwrap_or_default();
        let query = path.split_once('?').map(|(_, query)| query.to_owned());
        // The browser may ask for an icon before or after: only the redirect has a query.
        let (status, text) = match &query {
            Some(query) if query.contains("error=") => {
                ("200 OK", "The sign-in was declined. You may close this window.")
            }
            Some(_) => ("200 OK", "You have signed in. You may close this window and go back to azsreg."),
            None => ("404 Not Found", ""),
        };
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>azsreg</title><p style=\"font:16px system-ui;margin:4rem\">{text}</p></html>"
        );
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        );
        // The answer is a courtesy: the sign-in goes on without it.
        let said = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        };
        let _ = tokio::time::timeout(ASKED_WITHIN, said).await;
        if let Some(query) = query {
            return Ok(query);
        }
    }
}
