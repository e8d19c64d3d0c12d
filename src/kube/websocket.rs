//! The frames and the handshake of WebSockets (RFC 6455), as a client needs them. Pure: bytes in, messages out.
//!
//! Owns what a server may send: no message is larger than [`MESSAGE_BYTES_MAX`], and what breaks the protocol ends the
//! connection. Extensions are never offered, so none can be in use.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::encode::base64_encode;

/// API servers and kubelets send at most 32 KB at once.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// RFC 6455 says that no control frame is larger.
const CONTROL_BYTES_MAX: usize = 125;

/// What the server appends to the key before it hashes both (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Binary(&'a [u8]),
    Ping,
    Pong(&'a [u8]),
    Close,
}

/// What a server has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Text counts as its bytes.
    Data(Vec<u8>),
    /// To be answered with a pong of the same bytes.
    Ping(Vec<u8>),
    Pong,
    /// The server's last message, with its reason in words; empty if it gave none.
    Close(String),
}

/// Returns what the server must answer to a key.
pub(super) fn accept(key: &str) -> String {
    base64_encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()).as_ref())
}

/// Encodes one whole message. `mask` must not be predictable by whoever chooses the content.
pub(super) fn encode(frame: Frame<'_>, mask: [u8; 4]) -> Vec<u8> {
    let (opcode, content) = match frame {
        Frame::Binary(content) => (BINARY, content),
        Frame::Ping => (PING, &[][..]),
        Frame::Pong(content) => (PONG, content),
        // Normal closure.
        Frame::Close => (CLOSE, &[0x03, 0xE8][..]),
    };
    let mut bytes = Vec::with_capacity(content.len() + 14);
    bytes.push(0x80 | opcode);
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(short @ ..=125), _) => bytes.push(0x80 | short),
        (_, Ok(long)) => {
            bytes.push(0x80 | 126);
            bytes.extend(long.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((content.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// One frame of a server.
struct Received {
    /// Of its message.
    is_last: bool,
    opcode: u8,
    content: Vec<u8>,
}

/// Reassembles what a server sends.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Received and not yet a whole frame.
    pending: Vec<u8>,
    /// The fragments so far of a message that continues; control frames may come in between.
    fragments: Option<Vec<u8>>,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Returns the next message; `None` if more bytes are needed.
    ///
    /// # Errors
    /// What in the bytes breaks the protocol or a limit; the connection is then of no use any more.
    pub(super) fn next(&mut self) -> Result<Option<Message>, &'static str> {
        while let Some(Received { is_last, opcode, content }) = self.frame()? {
            match opcode {
                PING => return Ok(Some(Message::Ping(content))),
                PONG => return Ok(Some(Message::Pong)),
                CLOSE => {
                    let reason = content.get(2..).unwrap_or_default();
                    return Ok(Some(Message::Close(String::from_utf8_lossy(reason).into_owned())));
                }
                TEXT | BINARY if self.fragments.is_none() && is_last => return Ok(Some(Message::Data(content))),
                TEXT | BINARY if self.fragments.is_none() => self.fragments = Some(content),
                CONTINUATION => {
                    let Some(mut whole) = self.fragments.take() else {
                        return Err("a frame continues a message that has not begun");
                    };
                    if whole.len() + content.len() > MESSAGE_BYTES_MAX {
                        return Err("a message is larger than 1 MB");
                    }
                    whole.extend(content);
                    if is_last {
                        return Ok(Some(Message::Data(whole)));
                    }
                    self.fragments = Some(whole);
                }
                TEXT | BINARY => return Err("a message begins within another"),
                _ => return Err("a frame has an unknown opcode"),
            }
        }
        Ok(None)
    }

    /// Takes one whole frame.
    fn frame(&mut self) -> Result<Option<Received>, &'static str> {
        let [first, second, rest @ ..] = self.pending.as_slice() else { return Ok(None) };
        let (is_last, opcode) = (first & 0x80 != 0, first & 0x0F);
        if first & 0x70 != 0 {
            return Err("a frame uses an extension that was not agreed on");
        }
        if second & 0x80 != 0 {
            return Err("a frame of the server is masked");
        }
        let (length, head) = match (second & 0x7F, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 2),
        };
        let is_control = opcode & 0x8 != 0;
        let max = if is_control { CONTROL_BYTES_MAX } else { MESSAGE_BYTES_MAX };
        let length = usize::try_from(length).ok().filter(|length| *length <= max).ok_or("a frame is too large")?;
        if is_control && !is_last {
            return Err("a control frame is in fragments");
        }
        let Some(content) = self.pending.get(head..head + length) else { return Ok(None) };
        let content = content.to_vec();
        self.pending.drain(..head + length);
        Ok(Some(Received { is_last, opcode, content }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<Message>, &'static str> {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        // Byte by byte, since a network may cut anywhere.
        for byte in bytes {
            decoder.push(&[*byte]);
            while let Some(message) = decoder.next()? {
                found.push(message);
            }
        }
        assert!(decoder.pending.is_empty() || found.is_empty(), "{decoder:?}");
        Ok(found)
    }

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_of_a_client_are_masked() {
        // "Hello" of RFC 6455, section 5.7, as a binary message.
        let hello = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(encode(Frame::Binary(b"Hello"), [0x37, 0xfa, 0x21, 0x3d]), hello);
        assert_eq!(encode(Frame::Ping, [0; 4]), [0x89, 0x80, 0, 0, 0, 0]);
        assert_eq!(encode(Frame::Binary(&[7; 126]), [0; 4])[..4], [0x82, 0xFE, 0, 126]);
        assert_eq!(encode(Frame::Binary(&vec![7; 65_536]), [0; 4])[..10], [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn messages_come_whole_whatever_arrives_when() {
        let mut bytes = vec![0x82, 0x02, 1, b'a'];
        // A message in three fragments, with a ping in between.
        bytes.extend([0x02, 0x01, 1, 0x00, 0x01, b'b', 0x89, 0x01, b'?', 0x80, 0x01, b'c']);
        bytes.extend([0x81, 126, 0, 126]);
        bytes.extend([b'x'; 126]);
        bytes.extend([0x8A, 0x00, 0x88, 0x05, 0x03, 0xE8, b'b', b'y', b'e']);
        assert_eq!(
            decoded(&bytes).expect("they are valid"),
            [
                Message::Data(vec![1, b'a']),
                Message::Ping(vec![b'?']),
                Message::Data(vec![1, b'b', b'c']),
                Message::Data(vec![b'x'; 126]),
                Message::Pong,
                Message::Close("bye".to_owned()),
            ]
        );
    }

    #[test]
    fn what_breaks_the_protocol_or_a_limit_is_refused() {
        let large = MESSAGE_BYTES_MAX as u64 + 1;
        let too_large = [&[0x82, 127][..], &large.to_be_bytes()].concat();
        for (bytes, expected) in [
            (&[0xC2, 0x00][..], "extension"),
            (&[0x82, 0x80], "masked"),
            (&[0x83, 0x00], "opcode"),
            (&[0x80, 0x00], "not begun"),
            (&[0x02, 0x00, 0x82, 0x00], "within another"),
            (&[0x09, 0x00], "fragments"),
            (&[0x89, 126, 0, 126], "too large"),
            (&too_large, "too large"),
        ] {
            let error = decoded(bytes).expect_err("it is invalid");
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
        // No sum of fragments grows beyond it either.
        let mut decoder = Decoder::default();
        let half = (MESSAGE_BYTES_MAX / 2 + 1) as u64;
        for first in [0x02, 0x00] {
            decoder.push(&[first, 127]);
            decoder.push(&half.to_be_bytes());
            decoder.push(&vec![0; MESSAGE_BYTES_MAX / 2 + 1]);
        }
        assert_eq!(decoder.next(), Err("a message is larger than 1 MB"));
    }
}
