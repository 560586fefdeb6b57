//! The PSRP message: a 40-byte header and CLIXML (MS-PSRP 2.2.1).

use uuid::Uuid;

use crate::DecodeError;

/// Bytes of the header: destination, type, runspace pool id, pipeline id.
pub const HEADER: usize = 40;

/// Message types that this crate speaks (MS-PSRP 2.2.1).
#[allow(missing_docs)]
pub mod kind {
    pub const SESSION_CAPABILITY: u32 = 0x0001_0002;
    pub const INIT_RUNSPACEPOOL: u32 = 0x0001_0004;
    pub const PUBLIC_KEY: u32 = 0x0001_0005;
    pub const ENCRYPTED_SESSION_KEY: u32 = 0x0001_0006;
    pub const PUBLIC_KEY_REQUEST: u32 = 0x0001_0007;
    pub const CONNECT_RUNSPACEPOOL: u32 = 0x0001_0008;
    pub const RUNSPACEPOOL_INIT_DATA: u32 = 0x0002_100B;
    pub const RESET_RUNSPACE_STATE: u32 = 0x0002_100C;
    pub const SET_MAX_RUNSPACES: u32 = 0x0002_1002;
    pub const SET_MIN_RUNSPACES: u32 = 0x0002_1003;
    pub const RUNSPACE_AVAILABILITY: u32 = 0x0002_1004;
    pub const RUNSPACEPOOL_STATE: u32 = 0x0002_1005;
    pub const CREATE_PIPELINE: u32 = 0x0002_1006;
    pub const GET_AVAILABLE_RUNSPACES: u32 = 0x0002_1007;
    pub const USER_EVENT: u32 = 0x0002_1008;
    pub const APPLICATION_PRIVATE_DATA: u32 = 0x0002_1009;
    pub const GET_COMMAND_METADATA: u32 = 0x0002_100A;
    pub const RUNSPACEPOOL_HOST_CALL: u32 = 0x0002_1100;
    pub const RUNSPACEPOOL_HOST_RESPONSE: u32 = 0x0002_1101;
    pub const PIPELINE_INPUT: u32 = 0x0004_1002;
    pub const END_OF_PIPELINE_INPUT: u32 = 0x0004_1003;
    pub const PIPELINE_OUTPUT: u32 = 0x0004_1004;
    pub const ERROR_RECORD: u32 = 0x0004_1005;
    pub const PIPELINE_STATE: u32 = 0x0004_1006;
    pub const DEBUG_RECORD: u32 = 0x0004_1007;
    pub const VERBOSE_RECORD: u32 = 0x0004_1008;
    pub const WARNING_RECORD: u32 = 0x0004_1009;
    pub const PROGRESS_RECORD: u32 = 0x0004_1010;
    pub const INFORMATION_RECORD: u32 = 0x0004_1011;
    pub const PIPELINE_HOST_CALL: u32 = 0x0004_1100;
    pub const PIPELINE_HOST_RESPONSE: u32 = 0x0004_1101;
}

/// Who a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The client.
    Client = 1,
    /// The server.
    Server = 2,
}

/// A whole message. `data` is CLIXML, without a byte-order mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who it is for.
    pub destination: Destination,
    /// One of [`kind`], or a type that we don't know.
    pub kind: u32,
    /// The runspace pool.
    pub pool: Uuid,
    /// The pipeline; nil for the pool itself.
    pub pipeline: Uuid,
    /// CLIXML, or empty.
    pub data: String,
}

impl Message {
    /// The message's bytes; ids in .NET's mixed-endian order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.data.len());
        out.extend_from_slice(&(self.destination as u32).to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.pool.to_bytes_le());
        out.extend_from_slice(&self.pipeline.to_bytes_le());
        out.extend_from_slice(self.data.as_bytes());
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Too short, an unknown destination, or text that is not UTF-8.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header: &[u8; HEADER] =
            bytes.get(..HEADER).and_then(|h| h.try_into().ok()).ok_or(DecodeError::Missing("a PSRP message header"))?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let guid = |at: usize| {
            let mut id = [0; 16];
            id.copy_from_slice(&header[at..at + 16]);
            Uuid::from_bytes_le(id)
        };
        let destination = match word(0) {
            1 => Destination::Client,
            2 => Destination::Server,
            other => return Err(DecodeError::malformed("a PSRP destination", &other.to_string())),
        };
        let data = std::str::from_utf8(&bytes[HEADER..])
            .map_err(|_| DecodeError::Protocol("a PSRP message that is not UTF-8"))?
            .trim_start_matches('\u{feff}');
        Ok(Self { destination, kind: word(4), pool: guid(8), pipeline: guid(24), data: data.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_pypsrp_are_read() {
        // SESSION_CAPABILITY as pypsrp 0.9.1 packs it (pool 5417d9aa-ed83-4bc0-9c44-cf442d2fecc5).
        let mut bytes = b"\x02\x00\x00\x00\x02\x00\x01\x00\xaa\xd9\x17T\x83\xed\xc0K\x9cD\xcfD-/\xec\xc5".to_vec();
        bytes.extend([0; 16]);
        bytes.extend(b"\xef\xbb\xbf<Obj/>");
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.kind, kind::SESSION_CAPABILITY);
        assert_eq!(message.pool.to_string(), "5417d9aa-ed83-4bc0-9c44-cf442d2fecc5");
        assert_eq!(message.data, "<Obj/>");
        bytes.drain(40..43);
        assert_eq!(message.encode(), bytes);
    }
}
