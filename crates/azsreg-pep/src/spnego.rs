//! SPNEGO (RFC 4178, MS-SPNG) as far as an initiator of NTLM needs it.

/// DER of the list of our mechanisms: NTLM alone (1.3.6.1.4.1.311.2.2.10). The integrity code is over these bytes.
pub(crate) const MECHANISMS: &[u8] =
    &[0x30, 0x0c, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a];
/// DER of NTLM's identifier alone.
const NTLM: &[u8] = MECHANISMS.split_at(2).1;
/// DER of SPNEGO's own identifier, 1.3.6.1.5.5.2.
const SPNEGO: &[u8] = &[0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// It takes none of our mechanisms, or chooses one that is not ours.
    pub(crate) rejected: bool,
    pub(crate) token: Option<&'a [u8]>,
    pub(crate) mic: Option<&'a [u8]>,
}

/// A value under a tag.
fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let used = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    if content.len() >= 0x80 {
        out.push(0x80 | used.len() as u8);
    }
    out.extend(used);
    out.extend(content);
    out
}

/// The first token: our mechanisms, and NTLM's first message.
pub(crate) fn init(token: &[u8]) -> Vec<u8> {
    let content = [wrap(0xa0, MECHANISMS), wrap(0xa2, &wrap(0x04, token))].concat();
    let inner = wrap(0xa0, &wrap(0x30, &content));
    wrap(0x60, &[SPNEGO, &inner].concat())
}

/// The second: NTLM's last message, and the integrity code over the list of mechanisms.
pub(crate) fn respond(token: &[u8], mic: &[u8]) -> Vec<u8> {
    let content = [wrap(0xa0, &[0x0a, 1, 1]), wrap(0xa2, &wrap(0x04, token)), wrap(0xa3, &wrap(0x04, mic))].concat();
    wrap(0xa1, &wrap(0x30, &content))
}

/// A value: its tag, its content and what follows.
fn read(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (digits.iter().try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add((*byte).into()))?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn inside(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    read(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, _)| content)
}

/// Reads a server's answer; `None` if it is not one.
pub(crate) fn answer(bytes: &[u8]) -> Option<Answer<'_>> {
    let mut rest = inside(0x30, inside(0xa1, bytes)?)?;
    let mut answer = Answer { rejected: false, token: None, mic: None };
    while !rest.is_empty() {
        let (tag, content, after) = read(rest)?;
        match tag {
            0xa0 => answer.rejected |= inside(0x0a, content)? == [2],
            0xa1 => answer.rejected |= content != NTLM,
            0xa2 => answer.token = Some(inside(0x04, content)?),
            0xa3 => answer.mic = Some(inside(0x04, content)?),
            _ => {}
        }
        rest = after;
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What pyspnego 0.12.4 sends as its first token, around other bytes of NTLM.
    #[test]
    fn the_first_token_has_the_form_that_others_send() {
        let token = init(&[0x5a; 40]);
        let head = [
            0x60, 0x48, 0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02, 0xa0, 0x3e, 0x30, 0x3c, 0xa0, 0x0e, 0x30, 0x0c,
            0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a, 0xa2, 0x2a, 0x04, 0x28,
        ];
        assert_eq!(token, [&head[..], &[0x5a; 40]].concat());
    }

    #[test]
    fn answers_are_read_at_any_length() {
        for length in [3, 127, 128, 255, 256, 70_000] {
            let token = vec![7; length];
            let bytes = respond(&token, &[9; 16]);
            let read = answer(&bytes).unwrap();
            assert_eq!((read.token, read.mic, read.rejected), (Some(&token[..]), Some(&[9; 16][..]), false));
            for cut in 0..bytes.len().min(300) {
                assert_eq!(answer(&bytes[..cut]), None);
            }
        }
        assert!(answer(&[0xa1, 7, 0x30, 5, 0xa0, 3, 0x0a, 1, 2]).unwrap().rejected);
        // Kerberos as the chosen mechanism.
        let kerberos = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 0x01, 0x02, 0x02];
        assert!(answer(&wrap(0xa1, &wrap(0x30, &wrap(0xa1, &kerberos)))).unwrap().rejected);
    }
}
