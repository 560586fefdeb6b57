//! How the endpoint and we came to terms: for transcripts. No names, no keys, no times.

use hyper::header::{HeaderMap, SERVER};

use crate::spnego;

/// What the endpoint said while the connection came about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wire {
    /// Whether TLS is underneath.
    pub tls: bool,
    /// The `Server` header of the challenge, as it came.
    pub server: String,
    /// Whether the challenge came in SPNEGO; plain NTLM otherwise.
    pub spnego: bool,
    /// The flags of the NTLM challenge (MS-NLMP 2.2.2.5).
    pub flags: u32,
    /// Which version of Windows the challenge names: major, minor and build.
    pub windows: Option<(u8, u8, u16)>,
    /// Whether the last token proved that the endpoint knows the password, before anything was asked.
    pub signed: bool,
    /// The version of PSRP that it named.
    pub protocol: Option<String>,
}

/// The challenge names its version.
const VERSION: u32 = 0x0200_0000;

impl Wire {
    /// Out of the answer to the first leg.
    pub(crate) fn of_challenge(tls: bool, headers: &HeaderMap, token: &[u8]) -> Self {
        let inner = spnego::answer(token).and_then(|answer| answer.token);
        let challenge = inner.unwrap_or(token);
        let number = |at: usize| challenge.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let flags = number(20).map_or(0, u32::from_le_bytes);
        let windows = number(48).filter(|_| flags & VERSION != 0);
        Self {
            tls,
            server: headers.get(SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned(),
            spnego: inner.is_some(),
            flags,
            windows: windows.map(|[major, minor, low, high]| (major, minor, u16::from_le_bytes([low, high]))),
            signed: false,
            protocol: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntlm::tests::with_time;

    #[test]
    fn a_challenge_is_told_by_its_flags_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER, "Microsoft-HTTPAPI/2.0".parse().unwrap());
        let challenge = with_time(1);
        let wire = Wire::of_challenge(false, &headers, &challenge);
        assert_eq!(wire.flags.to_le_bytes(), challenge[20..24]);
        assert_eq!((wire.server.as_str(), wire.spnego), ("Microsoft-HTTPAPI/2.0", false));
        // Cut off or nothing at all: nothing is known, and nothing breaks.
        for length in 0..challenge.len() {
            Wire::of_challenge(true, &headers, &challenge[..length]);
        }
        assert_eq!(Wire::of_challenge(true, &HeaderMap::new(), &[]), Wire { tls: true, ..Wire::default() });
    }
}
