//! SPNEGO (RFC 4178) as far as an acceptor of NTLM needs it.

/// The DER of NTLM's object identifier, 1.3.6.1.4.1.311.2.2.10.
const NTLM: &[u8] = &[0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a];
/// The DER of SPNEGO's own, 1.3.6.1.5.5.2.
const SPNEGO: &[u8] = &[0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];

/// A token of the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// NTLM without a wrapper: normal under `Negotiate`.
    Raw(&'a [u8]),
    /// The first: the DER of the mechanism list and a token for its first mechanism.
    Init { mechanisms: &'a [u8], ntlm_first: bool, token: Option<&'a [u8]> },
    /// A further one.
    Response { token: Option<&'a [u8]>, mic: Option<&'a [u8]> },
}

fn tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 3 {
            return None;
        }
        (rest.get(..count)?.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)), &rest[count..])
    };
    Some((tag, rest.get(..length)?, &rest[length..]))
}

/// Finds the context-tagged member of a sequence's content.
fn member(mut content: &[u8], wanted: u8) -> Option<&[u8]> {
    while !content.is_empty() {
        let (tag, value, rest) = tlv(content)?;
        if tag == 0xa0 | wanted {
            return Some(value);
        }
        content = rest;
    }
    None
}

fn octets(content: &[u8], wanted: u8) -> Option<&[u8]> {
    let (tag, value, _) = tlv(member(content, wanted)?)?;
    (tag == 0x04).then_some(value)
}

/// Reads a token.
pub(crate) fn read(bytes: &[u8]) -> Option<Token<'_>> {
    if bytes.starts_with(b"NTLMSSP\0") {
        return Some(Token::Raw(bytes));
    }
    match tlv(bytes)? {
        (0x60, content, _) => {
            let init = content.strip_prefix(SPNEGO)?;
            let (0xa0, sequence, _) = tlv(init)? else { return None };
            let (0x30, content, _) = tlv(sequence)? else { return None };
            let mechanisms = member(content, 0)?;
            let (0x30, list, _) = tlv(mechanisms)? else { return None };
            let offers = list.windows(NTLM.len()).any(|window| window == NTLM);
            offers.then_some(Token::Init { mechanisms, ntlm_first: list.starts_with(NTLM), token: octets(content, 2) })
        }
        (0xa1, sequence, _) => {
            let (0x30, content, _) = tlv(sequence)? else { return None };
            Some(Token::Response { token: octets(content, 2), mic: octets(content, 3) })
        }
        _ => None,
    }
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..0x80 => out.push(short as u8),
        short @ 0x80..0x100 => out.extend([0x81, short as u8]),
        long => {
            out.push(0x82);
            out.extend((long as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

/// Writes an answer: `incomplete` asks for another leg.
pub(crate) fn respond(incomplete: bool, first: bool, token: Option<&[u8]>, mic: Option<&[u8]>) -> Vec<u8> {
    let mut content = wrap(0xa0, &[0x0a, 1, u8::from(incomplete)]);
    if first {
        content.extend(wrap(0xa1, NTLM));
    }
    if let Some(token) = token {
        content.extend(wrap(0xa2, &wrap(0x04, token)));
    }
    if let Some(mic) = mic {
        content.extend(wrap(0xa3, &wrap(0x04, mic)));
    }
    wrap(0xa1, &wrap(0x30, &content))
}
