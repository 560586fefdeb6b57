//! The one place that looks at an address before it is used. Addresses come out of metadata, stamp information, links,
//! headers and manifests: who wrote those may be anybody, and what goes there may be a secret.
//!
//! An address is https. With `--allow-http` it may be http too, on loopback alone.

use std::time::Duration;

use azsreg_model::{Problem, code};
use reqwest::{StatusCode, Url};

use crate::error::ArmError;

/// The longest address that is taken from a document. Azure's own stay under 8 KiB.
pub(crate) const LONGEST: usize = 16 << 10;

/// An address that may be used, or why not. `what` says whose it is, such as "the login endpoint of HOST".
///
/// # Errors
/// It is not https (or loopback, where that was allowed), names a user, is too long, or is no address.
pub(crate) fn checked(text: &str, what: &str, allow_http: bool) -> Result<Url, ArmError> {
    if text.len() > LONGEST {
        return Err(too_large(what, "bytes of address", LONGEST));
    }
    let refuse = |why: String| ArmError::from(Problem::new(&code::ADDRESS_REFUSED, format!("{what} {why}")));
    let url = Url::parse(text).map_err(|_| refuse("is not an address".into()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(format!("names a user besides the host {}", host(&url))));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http && is_loopback(&url) => Ok(url),
        "http" if allow_http => Err(refuse(format!("is {}: --allow-http is for loopback alone", shown(&url)))),
        _ => Err(refuse(format!("is {}: it is not https", shown(&url)))),
    }
}

/// Whether the host is this machine by its very name.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let plain = host.trim_start_matches('[').trim_end_matches(']');
            plain.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// A link that the Resource Manager at `endpoint` gave (nextLink, Location, Azure-AsyncOperation), as a whole address.
///
/// Whoever is asked there gets the bearer. So the link has to lead to the same scheme, host and port, or to a host under
/// that host's name: some providers answer with a regional address (`REGION.management.azure.com`), and who owns a name
/// owns the names under it. Every other host is refused.
///
/// # Errors
/// It leads elsewhere, or can't be used.
pub(crate) fn link(endpoint: &str, link: &str, allow_http: bool) -> Result<Url, ArmError> {
    let base = checked(endpoint, "the Resource Manager's address", allow_http)?;
    let from = host(&base);
    if link.len() > LONGEST {
        return Err(too_large(&format!("a link of {from}"), "bytes of address", LONGEST));
    }
    let joined = if link.starts_with('/') { base.join(link).map(String::from) } else { Ok(link.to_owned()) };
    let joined = joined.unwrap_or_else(|_| link.to_owned());
    let url = checked(&joined, &format!("a link of {from}"), allow_http)?;
    let under = match (base.domain(), url.domain()) {
        (Some(base), Some(domain)) => domain.strip_suffix(base).is_some_and(|rest| rest.ends_with('.')),
        _ => false,
    };
    let same_port = base.port_or_known_default() == url.port_or_known_default() && base.scheme() == url.scheme();
    if same_port && (base.host_str() == url.host_str() || under) {
        return Ok(url);
    }
    let message = format!("{from} links to {}, which is another host", shown(&url));
    Err(Problem::new(&code::OTHER_HOST, message).into())
}

/// Scheme, host and port are the same. What can't be read is nobody's.
pub(crate) fn same_origin(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin() == b.origin(),
        _ => false,
    }
}

/// `host:port`, the port where it is not the usual one.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The address as far as it is no secret: a path may name a tenant, a query may hold a signature.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), host(url))
}

/// A redirection is an answer that was not asked for: it is never followed, so nothing is sent to where it leads.
pub(crate) fn redirected(from: &Url, status: StatusCode, location: Option<&str>) -> ArmError {
    let to = location.and_then(|to| from.join(to).ok()).map(|to| shown(&to));
    let to = to.map_or_else(String::new, |to| format!(" to {to}"));
    let message = format!("{} redirects{to} (HTTP status {}); azsreg does not follow", host(from), status.as_u16());
    Problem::new(&code::REDIRECTED, message).into()
}

/// More than the limit.
pub(crate) fn too_large(what: &str, of: &str, limit: usize) -> ArmError {
    Problem::new(&code::TOO_LARGE, format!("{what} is larger than the limit of {limit} {of}")).into()
}

/// A wait that was asked for, unless it is longer than a step may wait.
///
/// # Errors
/// It is longer.
pub(crate) fn wait_within(host: &str, asked: Duration, limit: Duration) -> Result<Duration, Box<Problem>> {
    if asked <= limit {
        return Ok(asked);
    }
    let message = format!("{host} asks to wait {} s; a step waits {} s at most", asked.as_secs(), limit.as_secs());
    Err(Box::new(Problem::new(&code::WAIT_TOO_LONG, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(result: Result<Url, ArmError>) -> String {
        match result {
            Ok(url) => url.to_string(),
            Err(ArmError::Unavailable(problem)) => problem.code.id.to_owned(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_address_is_https_or_loopback_where_that_was_allowed() {
        for (text, strict, lenient) in [
            ("https://a.example/x", "https://a.example/x", "https://a.example/x"),
            ("http://a.example/x", "AZR4040", "AZR4040"),
            ("http://127.0.0.1:8/", "AZR4040", "http://127.0.0.1:8/"),
            ("http://[::1]:8/", "AZR4040", "http://[::1]:8/"),
            ("http://localhost:8/", "AZR4040", "http://localhost:8/"),
            ("http://localhost.evil.example/", "AZR4040", "AZR4040"),
            ("http://127.0.0.1.evil.example/", "AZR4040", "AZR4040"),
            ("http://127.0.0.1@evil.example/", "AZR4040", "AZR4040"),
            ("https://a.example@evil.example/", "AZR4040", "AZR4040"),
            ("https://user:word@a.example/", "AZR4040", "AZR4040"),
            ("ftp://a.example/", "AZR4040", "AZR4040"),
            ("file:///etc/passwd", "AZR4040", "AZR4040"),
            ("//a.example/", "AZR4040", "AZR4040"),
            ("a.example", "AZR4040", "AZR4040"),
            ("", "AZR4040", "AZR4040"),
        ] {
            assert_eq!(code_of(checked(text, "it", false)), strict, "{text}");
            assert_eq!(code_of(checked(text, "it", true)), lenient, "{text}");
        }
        let long = format!("https://a.example/{}", "x".repeat(LONGEST));
        assert_eq!(code_of(checked(&long, "it", false)), "AZR4043");
    }

    #[test]
    fn a_link_stays_with_its_resource_manager() {
        let of = |text: &str| code_of(link("https://management.azure.com", text, false));
        assert_eq!(of("/subscriptions?x=1"), "https://management.azure.com/subscriptions?x=1");
        for good in [
            "https://management.azure.com/a",
            "https://MANAGEMENT.azure.com:443/a",
            "https://westus.management.azure.com/a",
        ] {
            assert!(of(good).starts_with("https://"), "{good}");
        }
        for bad in [
            "https://evilmanagement.azure.com/a",
            "https://management.azure.com.evil.example/a",
            "https://management.azure.com:8443/a",
            "https://azure.com/a",
            "https://evil.example/management.azure.com",
            "//evil.example/a",
            "/\\evil.example/a",
        ] {
            assert_eq!(of(bad), "AZR4041", "{bad}");
        }
        for bad in ["http://management.azure.com/a", "https://management.azure.com@evil.example/a", "relative"] {
            assert_eq!(of(bad), "AZR4040", "{bad}");
        }
        // An address of numbers has nothing under it, and another port is another server.
        assert_eq!(code_of(link("https://127.0.0.1:1", "https://127.0.0.1:2/", false)), "AZR4041");
        assert_eq!(code_of(link("https://127.0.0.1:1", "http://127.0.0.1:1/", true)), "AZR4041");
    }
}
