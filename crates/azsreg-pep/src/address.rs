//! Where a privileged endpoint is.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// `[http://|https://]HOST[:PORT]`; port 5985 for HTTP and 5986 for HTTPS, which port 5986 implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PepAddress {
    /// Whether TLS is underneath.
    pub tls: bool,
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Not an address.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("expected HOST, HOST:PORT or https://HOST:PORT")]
pub struct AddressError;

impl FromStr for PepAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let rest = rest.strip_suffix("/wsman").unwrap_or(rest).trim_end_matches('/');
        let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (host, tail) = inner.split_once(']').ok_or(AddressError)?;
            (host, tail.strip_prefix(':'))
        } else if rest.matches(':').count() > 1 {
            (rest, None)
        } else {
            rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
        };
        let port = port.map(|port| port.parse::<u16>().map_err(|_| AddressError)).transpose()?;
        let tls = match scheme {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(AddressError),
            None => port == Some(5986),
        };
        let valid = !host.is_empty() && !host.contains(['/', ' ', '@', '\\', '?']) && port != Some(0);
        if !valid {
            return Err(AddressError);
        }
        Ok(Self { tls, host: host.to_owned(), port: port.unwrap_or(if tls { 5986 } else { 5985 }) })
    }
}

impl PepAddress {
    /// `host:port`, an IPv6 address in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The endpoint's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}/wsman", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl fmt::Display for PepAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls { write!(f, "https://{}", self.authority()) } else { f.write_str(&self.authority()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let url = |text: &str| text.parse::<PepAddress>().unwrap().url();
        assert_eq!(url("azs-ercs01"), "http://azs-ercs01:5985/wsman");
        assert_eq!(url("10.0.0.1:5986"), "https://10.0.0.1:5986/wsman");
        assert_eq!(url("https://azs-ercs01"), "https://azs-ercs01:5986/wsman");
        assert_eq!(url("https://azs-ercs01:443/wsman"), "https://azs-ercs01:443/wsman");
        assert_eq!(url("[::1]:5985"), "http://[::1]:5985/wsman");
        assert_eq!(url("fe80::1"), "http://[fe80::1]:5985/wsman");
        for bad in ["", "ftp://x", "a b", "x:99999", "x:0", "http://", "[::1"] {
            assert!(bad.parse::<PepAddress>().is_err(), "{bad}");
        }
    }
}
