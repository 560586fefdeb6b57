//! PSRP fragments: a message cut to what fits the transport, and joined again (MS-PSRP 2.2.4).

use crate::DecodeError;

/// Bytes of a fragment before its blob: object id (8), fragment id (8), flags (1), blob length (4).
pub const HEADER: usize = 21;
/// A message may have this many bytes once joined.
pub const MAX_MESSAGE: usize = 4 << 20;

const START: u8 = 1;
const END: u8 = 2;

/// Cuts messages into fragments. Object ids count from 1 for the life of the sender.
#[derive(Debug)]
pub struct Fragmenter {
    next_object: u64,
}

impl Default for Fragmenter {
    fn default() -> Self {
        Self { next_object: 1 }
    }
}

impl Fragmenter {
    /// Cuts `message` into fragments of at most `limit` bytes each, header included.
    ///
    /// # Panics
    /// If `limit` leaves no room for a byte of the message.
    pub fn cut(&mut self, message: &[u8], limit: usize) -> Vec<Vec<u8>> {
        assert!(limit > HEADER, "a fragment needs room for its header");
        let object = self.next_object;
        self.next_object += 1;
        let room = limit - HEADER;
        let count = message.len().div_ceil(room).max(1);
        let mut fragments = Vec::with_capacity(count);
        for index in 0..count {
            let blob = &message[index * room..message.len().min((index + 1) * room)];
            let mut flags = 0;
            if index == 0 {
                flags |= START;
            }
            if index + 1 == count {
                flags |= END;
            }
            let mut fragment = Vec::with_capacity(HEADER + blob.len());
            fragment.extend_from_slice(&object.to_be_bytes());
            fragment.extend_from_slice(&(index as u64).to_be_bytes());
            fragment.push(flags);
            fragment.extend_from_slice(&u32::try_from(blob.len()).unwrap_or(u32::MAX).to_be_bytes());
            fragment.extend_from_slice(blob);
            fragments.push(fragment);
        }
        fragments
    }
}

/// Joins fragments to messages. One per direction and stream: WS-Management keeps the order.
#[derive(Debug, Default)]
pub struct Defragmenter {
    buffer: Vec<u8>,
    open: Option<(u64, u64, Vec<u8>)>,
}

impl Defragmenter {
    /// Takes bytes as they came and returns the messages that they complete, in order.
    ///
    /// # Errors
    /// A fragment out of order or a message over [`MAX_MESSAGE`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
        if self.buffer.len() + bytes.len() > MAX_MESSAGE {
            return Err(DecodeError::Limit { what: "PSRP message's size", limit: MAX_MESSAGE });
        }
        self.buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let mut at = 0;
        while self.buffer.len() - at >= HEADER {
            let header = &self.buffer[at..at + HEADER];
            let object = u64::from_be_bytes(header[0..8].try_into().unwrap_or_default());
            let index = u64::from_be_bytes(header[8..16].try_into().unwrap_or_default());
            let flags = header[16];
            let length = u32::from_be_bytes(header[17..21].try_into().unwrap_or_default()) as usize;
            if length > MAX_MESSAGE {
                return Err(DecodeError::Limit { what: "PSRP fragment's size", limit: MAX_MESSAGE });
            }
            if self.buffer.len() - at - HEADER < length {
                break;
            }
            let blob = &self.buffer[at + HEADER..at + HEADER + length];
            at += HEADER + length;
            let (_, _, mut joined) = match (flags & START != 0, self.open.take()) {
                (true, None) if index == 0 => (object, index, Vec::new()),
                (true, None) => return Err(DecodeError::Fragment("a start that is not the first")),
                (true, Some(_)) => return Err(DecodeError::Fragment("a start inside another message")),
                (false, Some(open)) if open.0 == object && open.1 + 1 == index => open,
                (false, _) => return Err(DecodeError::Fragment("a continuation of nothing")),
            };
            if joined.len() + blob.len() > MAX_MESSAGE {
                return Err(DecodeError::Limit { what: "PSRP message's size", limit: MAX_MESSAGE });
            }
            joined.extend_from_slice(blob);
            if flags & END != 0 {
                messages.push(joined);
            } else {
                self.open = Some((object, index, joined));
            }
        }
        self.buffer.drain(..at);
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_message_survives_any_cut(message in proptest::collection::vec(any::<u8>(), 0..400), limit in 22usize..90, step in 1usize..50) {
            let mut cutter = Fragmenter::default();
            let mut bytes = Vec::new();
            for fragment in cutter.cut(&message, limit) {
                prop_assert!(fragment.len() <= limit);
                bytes.extend(fragment);
            }
            bytes.extend(cutter.cut(b"next", 100).concat());
            let mut joiner = Defragmenter::default();
            let mut out = Vec::new();
            for piece in bytes.chunks(step) {
                out.extend(joiner.push(piece).unwrap());
            }
            prop_assert_eq!(out, vec![message, b"next".to_vec()]);
        }

        #[test]
        fn garbage_is_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Defragmenter::default().push(&bytes);
        }
    }

    #[test]
    fn the_example_of_the_specification() {
        // Object id 1, fragment id 0, start and end, four bytes (MS-PSRP 2.2.4).
        let bytes = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, b'a', b'b', b'c', b'd'];
        assert_eq!(Fragmenter::default().cut(b"abcd", 1000), vec![bytes.to_vec()]);
        assert_eq!(Defragmenter::default().push(&bytes).unwrap(), vec![b"abcd".to_vec()]);
    }
}
