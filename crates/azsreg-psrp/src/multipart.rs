//! The body of a sealed message: `multipart/encrypted` (MS-WSMV 2.2.9.1, `reference/wire-pep.md` rows 3 and 4).

use crate::DecodeError;

/// The protocol string of NTLM and SPNEGO.
pub const SPNEGO: &str = "application/HTTP-SPNEGO-session-encrypted";
/// The value of the `Content-Type` header of a sealed request or answer.
pub const CONTENT_TYPE: &str =
    "multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\"";

const BOUNDARY: &[u8] = b"--Encrypted Boundary";

/// A sealed message: the plaintext's length with padding, the signature, and the ciphertext.
#[derive(Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of plaintext after unsealing.
    pub length: usize,
    /// The mechanism's signature (16 bytes for NTLM).
    pub signature: Vec<u8>,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
}

impl Sealed {
    /// The body's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.ciphertext.len() + 300);
        out.extend_from_slice(BOUNDARY);
        out.extend_from_slice(
            format!(
                "\r\n\tContent-Type: {SPNEGO}\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={}\r\n",
                self.length
            )
            .as_bytes(),
        );
        out.extend_from_slice(BOUNDARY);
        out.extend_from_slice(b"\r\n\tContent-Type: application/octet-stream\r\n");
        out.extend_from_slice(&u32::try_from(self.signature.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(&self.ciphertext);
        out.extend_from_slice(BOUNDARY);
        out.extend_from_slice(b"--\r\n");
        out
    }

    /// Reads a body. The ciphertext is cut from the end by the closing boundary's own length, never searched for:
    /// ciphertext may hold any bytes.
    ///
    /// # Errors
    /// Anything not of the form above.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let bad = DecodeError::Multipart;
        let rest = strip_boundary(body).ok_or(bad("no opening boundary"))?;
        let split = find(rest, BOUNDARY_START).ok_or(bad("no second part"))?;
        let head = std::str::from_utf8(&rest[..split]).map_err(|_| bad("the first part is not text"))?;
        let length = head
            .split("Length=")
            .nth(1)
            .and_then(|tail| tail.split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|digits| digits.parse::<usize>().ok())
            .ok_or(bad("no Length"))?;
        let rest = strip_boundary(&rest[split..]).ok_or(bad("no second boundary"))?;
        let start = find(rest, b"octet-stream\r\n").ok_or(bad("the second part is not an octet stream"))?
            + b"octet-stream\r\n".len();
        let rest = &rest[start..];
        let size = rest.get(..4).ok_or(bad("no signature length"))?;
        let size = u32::from_le_bytes(size.try_into().unwrap_or_default()) as usize;
        let end = [b"--Encrypted Boundary--\r\n".as_slice(), b"-- Encrypted Boundary--\r\n", b"--Encrypted Boundary--"]
            .iter()
            .find_map(|closing| rest.strip_suffix(*closing))
            .ok_or(bad("no closing boundary"))?
            .len();
        if size > 256 || 4 + size > end {
            return Err(bad("the signature is longer than the part"));
        }
        Ok(Self { length, signature: rest[4..4 + size].to_vec(), ciphertext: rest[4 + size..end].to_vec() })
    }
}

const BOUNDARY_START: &[u8] = b"--";

/// After `--Encrypted Boundary\r\n`; some servers put a space after the dashes.
fn strip_boundary(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"--")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    rest.strip_prefix(b"Encrypted Boundary\r\n")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_ciphertext_survives(signature in proptest::collection::vec(any::<u8>(), 16), ciphertext in proptest::collection::vec(any::<u8>(), 0..300)) {
            let sealed = Sealed { length: ciphertext.len(), signature, ciphertext };
            prop_assert_eq!(Sealed::decode(&sealed.encode()).unwrap(), sealed);
        }

        #[test]
        fn garbage_is_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Sealed::decode(&bytes);
        }
    }

    #[test]
    fn ciphertext_with_a_boundary_inside_is_not_cut() {
        let sealed =
            Sealed { length: 26, signature: vec![1; 16], ciphertext: b"--Encrypted Boundary--\r\nxy".to_vec() };
        assert_eq!(Sealed::decode(&sealed.encode()).unwrap(), sealed);
    }
}
