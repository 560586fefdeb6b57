//! The proxy that a call goes through: the variables that curl reads, else the system's settings.
//!
//! What a variable says is used or refused by its name. A value that can't be used is never passed over: the direct way out
//! that would be taken in its place may be closed, or forbidden.

use std::time::Duration;

use azsreg_model::{Problem, code, redact};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address;

/// In this order; the first that is set counts.
const NAMES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Which calls go through a proxy, and which one.
#[derive(Debug, Clone)]
pub(crate) struct Proxies {
    by: By,
    except: Vec<Exception>,
    /// Whether loopback is never behind a proxy.
    loopback_directly: bool,
}

#[derive(Debug, Clone)]
enum By {
    /// No call does.
    Nothing,
    /// A variable.
    Variable(Result<Url, Box<Problem>>),
    /// The settings of a system that has some.
    System(std::sync::Arc<Matcher>),
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone)]
struct Exception {
    port: Option<u16>,
    /// `None` is every host.
    hosts: Option<std::sync::Arc<Matcher>>,
}

impl Proxies {
    /// No proxy.
    pub(crate) fn none() -> Self {
        Self { by: By::Nothing, except: Vec::new(), loopback_directly: true }
    }

    /// As the environment says.
    pub(crate) fn of_environment(loopback_directly: bool) -> Self {
        Self::read(|name| std::env::var(name).ok(), loopback_directly)
    }

    fn read(variable: impl Fn(&str) -> Option<String>, loopback_directly: bool) -> Self {
        let set = |name: &&'static str| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?));
        let by = match NAMES.iter().find_map(set) {
            Some((name, value)) => By::Variable(proxy(name, value.trim()).map_err(Box::new)),
            None => By::System(std::sync::Arc::new(Matcher::from_system())),
        };
        let except = EXCEPT.iter().find_map(set).map(|(_, list)| exceptions(&list)).unwrap_or_default();
        Self { by, except, loopback_directly }
    }

    /// The proxy for an address; `None` where it is asked directly.
    ///
    /// # Errors
    /// A proxy is named in a way that can't be used.
    pub(crate) fn of(&self, url: &Url) -> Result<Option<Url>, Box<Problem>> {
        if (self.loopback_directly && address::is_loopback(url)) || self.except.iter().any(|one| one.holds(url)) {
            return Ok(None);
        }
        match &self.by {
            By::Nothing => Ok(None),
            By::Variable(proxy) => proxy.clone().map(Some),
            By::System(matcher) => Ok(intercepted(matcher, url)),
        }
    }
}

fn intercepted(matcher: &Matcher, url: &Url) -> Option<Url> {
    let uri = url.as_str().parse().ok()?;
    Url::parse(&matcher.intercept(&uri)?.uri().to_string()).ok()
}

/// What a variable names, or why that can't be used.
fn proxy(name: &str, value: &str) -> Result<Url, Problem> {
    // Who stands before the @ is a secret.
    let shown = value.rsplit_once('@').map_or_else(|| value.to_owned(), |(_, rest)| format!("...@{rest}"));
    let refused = |why: &str| Problem::new(&code::PROXY_SETTING, format!("{name}={shown}: {why}"));
    if value.chars().any(char::is_whitespace) {
        return Err(refused("a blank stands in it"));
    }
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&whole).map_err(|_| refused("it is no address of a proxy"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(refused(&format!("azsreg uses proxies of http:// and https://, not of {}://", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refused("it names no host"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refused("more than a host and a port stands in it"));
    }
    url.password().iter().for_each(|password| {
        redact::remember(password);
        redact::remember(&percent_decode_str(password).decode_utf8_lossy());
    });
    Ok(url)
}

fn exceptions(list: &str) -> Vec<Exception> {
    let entries = list.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(Exception::read).collect()
}

impl Exception {
    fn read(entry: &str) -> Self {
        let (host, port) = match entry.rsplit_once(':') {
            // The colons of an address of IPv6 are its own, but behind brackets.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry, None),
            },
            _ => (entry, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_start_matches('*');
        // Any proxy will do: it is asked for what is left out.
        let hosts = || std::sync::Arc::new(Matcher::builder().all("http://proxy.invalid").no(host.to_owned()).build());
        Self { port, hosts: (!host.is_empty()).then(hosts) }
    }

    fn holds(&self, url: &Url) -> bool {
        self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
            && self.hosts.as_ref().is_none_or(|hosts| intercepted(hosts, url).is_none())
    }
}

/// What stands in the chain of an error when it is the proxy's, and what it means.
pub(crate) fn failure(proxy: &Url, host: &str, causes: &[String]) -> Problem {
    let shown = address::shown(proxy);
    let tunnel = causes.iter().find_map(|cause| cause.strip_prefix("tunnel error: "));
    let last = causes.last().map_or("", String::as_str);
    let refused = |what: &str| Problem::new(&code::PROXY_REFUSED, format!("the proxy {shown} {what} to {host}"));
    match tunnel {
        Some("failed to create underlying connection") | None => {
            Problem::new(&code::PROXY_UNREACHABLE, format!("the proxy {shown} can't be reached: {last}"))
                .detail(format!("The call was to {host}."))
        }
        Some("proxy authorization required") => signs_in(proxy, host),
        Some("unsuccessful") => refused("does not open the way"),
        Some(_) => refused("closed the connection in place of opening the way"),
    }
}

fn signs_in(proxy: &Url, host: &str) -> Problem {
    let shown = address::shown(proxy);
    let problem = |text: &str| {
        Problem::new(&code::PROXY_REFUSED, format!("the proxy {shown} {text} for {host} (HTTP status 407)"))
    };
    if proxy.username().is_empty() {
        problem("asks for a user and a password")
            .cause("The proxy lets through only who signs in, and no user is given.")
            .next("Put the proxy's user into HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT; azsreg speaks Basic alone), or have the host allowed without a sign-in.")
    } else {
        problem("does not take the user that is given")
            .cause("The user or the password is not the proxy's, or the proxy wants NTLM or Kerberos: azsreg speaks Basic alone.")
            .next("Check the user in HTTPS_PROXY (reserved characters as %XX), or have the host allowed without a sign-in.")
    }
}

/// Asks a proxy again for the way to a host, for the status of its refusal: the client that asked does not tell it.
pub(crate) async fn status(proxy: &Url, url: &Url, limit: Duration) -> Option<u16> {
    if proxy.scheme() != "http" {
        return None;
    }
    let asked = async {
        let at = (proxy.host_str()?.trim_start_matches('[').trim_end_matches(']'), proxy.port_or_known_default()?);
        let mut stream = BufReader::new(TcpStream::connect(at).await.ok()?);
        let to = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = match proxy.username() {
            "" => String::new(),
            user => {
                let pair = format!("{}:{}", plain(user), plain(proxy.password().unwrap_or_default()));
                format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair))
            }
        };
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{user}\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut line = String::new();
        tokio::io::AsyncReadExt::take(&mut stream, 1_024).read_line(&mut line).await.ok()?;
        line.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()
    };
    timeout(limit, asked).await.ok().flatten()
}

/// The refusal with its status.
pub(crate) fn with_status(problem: Problem, status: u16) -> Problem {
    let Problem { code: entry, message, .. } = &problem;
    let said = Problem::new(entry, format!("{message} (HTTP status {status})"));
    match status {
        403 | 405 | 451 => said
            .cause("The proxy's rules forbid this host or port.")
            .next("Have the host and its port allowed on the proxy, then run the same command again."),
        502..=504 => said
            .cause("The proxy does not reach the host, or does not know its name. The host itself was not asked.")
            .next("Check the host's name, and the proxy's own way out, then run the same command again. If the host is in your own network: NO_PROXY."),
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        let of = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Proxies::read(of, false)
    }

    fn of(proxies: &Proxies, url: &str) -> String {
        match proxies.of(&Url::parse(url).unwrap()) {
            Ok(found) => found.map_or("directly".into(), |url| url.to_string()),
            Err(problem) => format!("{}: {}", problem.code.id, problem.message),
        }
    }

    #[test]
    fn a_value_is_used_or_refused_by_name() {
        for (value, expected) in [
            ("proxy.example:3128", "http://proxy.example:3128/"),
            (" http://proxy.example:3128\r\n", "http://proxy.example:3128/"),
            ("https://proxy.example", "https://proxy.example/"),
            ("http://user:w%40rd@proxy.example:3128/", "http://user:w%40rd@proxy.example:3128/"),
            ("", "directly"),
            (
                "ftp://127.0.0.1:1",
                "AZR5024: HTTPS_PROXY=ftp://127.0.0.1:1: azsreg uses proxies of http:// and https://, not of ftp://",
            ),
            (
                "socks5h://127.0.0.1:1",
                "AZR5024: HTTPS_PROXY=socks5h://127.0.0.1:1: azsreg uses proxies of http:// and https://, not of socks5h://",
            ),
            ("http://proxy one:3128", "AZR5024: HTTPS_PROXY=http://proxy one:3128: a blank stands in it"),
            ("http://proxy:port", "AZR5024: HTTPS_PROXY=http://proxy:port: it is no address of a proxy"),
            ("http://user:word@proxy:port", "AZR5024: HTTPS_PROXY=...@proxy:port: it is no address of a proxy"),
            (
                "http://proxy:1/wpad.dat",
                "AZR5024: HTTPS_PROXY=http://proxy:1/wpad.dat: more than a host and a port stands in it",
            ),
            ("none", "http://none/"),
            ("://", "AZR5024: HTTPS_PROXY=://: it is no address of a proxy"),
        ] {
            assert_eq!(of(&proxies(&[("HTTPS_PROXY", value)]), "https://a.example/"), expected, "{value}");
        }
        let two = proxies(&[("ALL_PROXY", "socks5://x:1"), ("https_proxy", "http://b:2")]);
        assert_eq!(of(&two, "https://a.example/"), "http://b:2/");
        assert!(
            of(&proxies(&[("all_proxy", "socks5://x:1")]), "https://a.example/").starts_with("AZR5024: all_proxy=")
        );
        // What needs no proxy is not stopped by one that can't be used.
        let bad = proxies(&[("HTTPS_PROXY", "ftp://x"), ("NO_PROXY", "a.example")]);
        assert_eq!(of(&bad, "https://a.example/"), "directly");
    }

    #[test]
    fn no_proxy_names_hosts_addresses_ports_and_everything() {
        for (list, url, directly) in [
            ("*", "https://a.example/", true),
            ("*", "https://127.0.0.1:9/", true),
            ("*", "https://[::1]:9/", true),
            ("b.example, *", "https://192.0.2.1/", true),
            ("a.example", "https://a.example:8443/", true),
            ("A.example", "https://x.a.example/", true),
            ("*.a.example", "https://x.a.example/", true),
            (".a.example", "https://x.a.example/", true),
            ("a.example", "https://ba.example/", false),
            ("a.example:443", "https://a.example/", true),
            ("a.example:8443", "https://a.example/", false),
            ("127.0.0.1:5000", "https://127.0.0.1:5000/", true),
            ("127.0.0.1:5000", "https://127.0.0.1:5001/", false),
            ("[::1]:5000", "https://[::1]:5000/", true),
            ("::1", "https://[::1]:5000/", true),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("a.example b.example", "https://b.example/", true),
        ] {
            let some = proxies(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)]);
            assert_eq!(of(&some, url) == "directly", directly, "{list} and {url}");
        }
    }

    #[test]
    fn loopback_is_asked_directly_where_http_was_allowed() {
        let some = Proxies { loopback_directly: true, ..proxies(&[("HTTPS_PROXY", "http://p:1")]) };
        for url in ["http://127.0.0.1:1/", "https://localhost/", "https://[::1]/"] {
            assert_eq!(of(&some, url), "directly", "{url}");
        }
        assert_eq!(of(&some, "https://a.example/"), "http://p:1/");
    }
}
