//! AMQP 0-9-1, as far as a queue is looked at: a declaration that creates nothing says how many messages are ready.

use super::{Node, Poll};
use crate::polling::request::TlsMaterial;
use crate::polling::stream::{Stream, Target};
use crate::scaling::event::{ErrorClass, PollError};

/// Upper bound on the bytes that a server may send in all. Its longest message describes itself.
const ANSWER_MAX: usize = 64 << 10;
/// The longest frame that we take, which [`TUNE_OK`] says.
const FRAME_MAX: u32 = 32 << 10;
/// The longest text of the short kind, such as the name of a queue.
const SHORT_MAX: usize = 255;

/// Class and number of a method.
type Method = (u16, u16);

const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CLOSE: Method = (10, 50);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);

/// What to look at, and as whom.
pub(super) struct Question<'a> {
    pub(super) node: &'a Node,
    /// Encrypted if there is any.
    pub(super) tls: Option<TlsMaterial>,
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    pub(super) vhost: &'a str,
    pub(super) queue: &'a str,
}

/// Returns how many messages of a queue are ready.
pub(super) fn ready(poll: &Poll<'_>, question: &Question<'_>) -> Result<f64, PollError> {
    let Question { node, tls, vhost, queue, .. } = question;
    for (name, text) in [("vhostName", vhost), ("queueName", queue)] {
        if text.len() > SHORT_MAX {
            return Err(poll.auth.fault(&format!("{name} is longer than the {SHORT_MAX} bytes that AMQP allows")));
        }
    }
    let target = Target {
        host: &node.host,
        port: node.port,
        server: &node.name,
        timeout: poll.timeout,
        deadline: poll.deadline,
    };
    let mut stream = poll.transport.connect(target)?;
    if let Some(tls) = tls {
        stream = poll.transport.secure(stream, tls)?;
    }
    talk(stream, question)
}

/// Asks over a connection.
pub(super) fn talk(mut stream: Stream<'_>, question: &Question<'_>) -> Result<f64, PollError> {
    let Question { user, password, vhost, queue, .. } = question;
    stream.allow(ANSWER_MAX);
    let mut connection = Connection { stream, question };
    connection.stream.write(b"AMQP\0\0\x09\x01")?;
    connection.expect(START)?;
    connection.send(0, START_OK, &start_ok(user, password))?;
    let tune = connection.expect(TUNE)?;
    let frame_max = tune.get(2..6).and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u32::from_be_bytes);
    let frame_max = if frame_max == 0 { FRAME_MAX } else { frame_max.min(FRAME_MAX) };
    // One channel, and no heartbeats.
    connection.send(0, TUNE_OK, &[&1_u16.to_be_bytes()[..], &frame_max.to_be_bytes(), &[0, 0]].concat())?;
    connection.send(0, OPEN, &[short(vhost), short(""), vec![0]].concat())?;
    connection.expect(OPEN_OK)?;
    connection.send(1, CHANNEL_OPEN, &short(""))?;
    connection.expect(CHANNEL_OPEN_OK)?;
    connection.send(1, DECLARE, &passive(queue))?;
    let found = connection.expect(DECLARE_OK)?;
    let messages = count(&found).ok_or_else(|| connection.strange())?;
    // Answered or not, the number is known.
    let _ = connection.send(0, CLOSE, &[&200_u16.to_be_bytes()[..], &short(""), &[0; 4]].concat());
    Ok(f64::from(messages))
}

fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or_default();
    [&[length], &text.as_bytes()[..usize::from(length)]].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    [&length.to_be_bytes(), &bytes[..length as usize]].concat()
}

/// Asks for an answer to wrong credentials, and not just the end of the connection.
fn start_ok(user: &str, password: &str) -> Vec<u8> {
    let capability = [&short("authentication_failure_close")[..], b"t\x01"].concat();
    let properties = [&short("capabilities")[..], b"F", &long(&capability)].concat();
    let response = format!("\0{user}\0{password}");
    [long(&properties), short("PLAIN"), long(response.as_bytes()), short("en_US")].concat()
}

/// A declaration that only looks whether the queue is there.
fn passive(queue: &str) -> Vec<u8> {
    [&[0, 0][..], &short(queue), &[1], &long(&[])].concat()
}

/// Returns the messages of an answer to a declaration: behind the queue's name, and before its consumers.
fn count(arguments: &[u8]) -> Option<u32> {
    let name = usize::from(*arguments.first()?);
    arguments.get(1 + name..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// A frame with a method.
fn frame(channel: u16, (class, method): Method, arguments: &[u8]) -> Vec<u8> {
    let length = u32::try_from(arguments.len() + 4).unwrap_or_default();
    let head = [&[1][..], &channel.to_be_bytes(), &length.to_be_bytes()].concat();
    [&head[..], &class.to_be_bytes(), &method.to_be_bytes(), arguments, &[FRAME_END]].concat()
}

const FRAME_END: u8 = 0xce;
const HEARTBEAT: u8 = 8;

struct Connection<'a> {
    stream: Stream<'a>,
    question: &'a Question<'a>,
}

impl Connection<'_> {
    fn strange(&self) -> PollError {
        self.question.node.fails(ErrorClass::Response, "does not answer as an AMQP 0-9-1 server does")
    }

    fn send(&mut self, channel: u16, method: Method, arguments: &[u8]) -> Result<(), PollError> {
        self.stream.write(&frame(channel, method, arguments))
    }

    /// Returns the arguments of the method that is to come.
    fn expect(&mut self, wanted: Method) -> Result<Vec<u8>, PollError> {
        loop {
            let head = self.stream.take(7)?;
            let length = head[3..].iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            // A server of another version answers with its own name.
            if head.starts_with(b"AMQP") || length > FRAME_MAX as usize {
                return Err(self.strange());
            }
            let payload = self.stream.take(length)?;
            if self.stream.take(1)? != [FRAME_END] {
                return Err(self.strange());
            }
            if head[0] == HEARTBEAT {
                continue;
            }
            let number = |at: usize| payload.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
            let method = number(0).zip(number(2)).filter(|_| head[0] == 1).ok_or_else(|| self.strange())?;
            return match method {
                _ if method == wanted => Ok(payload[4..].to_vec()),
                CLOSE | CHANNEL_CLOSE => Err(self.refusal(number(4).unwrap_or_default(), wanted)),
                _ => Err(self.strange()),
            };
        }
    }

    /// Puts a reply code in words that came in place of a method.
    fn refusal(&self, code: u16, wanted: Method) -> PollError {
        let Question { node, vhost, queue, .. } = self.question;
        let (class, what) = match (code, wanted) {
            (403, TUNE) => (ErrorClass::Authentication, "refuses the credentials of the authentication".to_owned()),
            (403, DECLARE_OK) => {
                (ErrorClass::Authentication, format!("does not let the user see queue {queue} of virtual host {vhost}"))
            }
            (403 | 530, _) => {
                (ErrorClass::Authentication, format!("has no virtual host {vhost} that the user may use"))
            }
            (404, _) => (ErrorClass::Status, format!("has no queue {queue} in virtual host {vhost}")),
            (405, _) => (ErrorClass::Status, format!("has a queue {queue} that is exclusive to another connection")),
            _ => (ErrorClass::Status, format!("closed the connection (code {code} of AMQP)")),
        };
        node.fails(class, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_specification() {
        let expected = b"\x01\x00\x01\x00\x00\x00\x10\x00\x32\x00\x0a\x00\x00\x04jobs\x01\x00\x00\x00\x00\xce";
        assert_eq!(frame(1, DECLARE, &passive("jobs")), expected);
        let start = start_ok("me", "pw");
        assert_eq!(start[..4], 49_u32.to_be_bytes());
        assert!(start.ends_with(b"\x05PLAIN\x00\x00\x00\x06\x00me\x00pw\x05en_US"), "{start:?}");
    }

    #[test]
    fn counts() {
        assert_eq!(count(b"\x04jobs\x00\x00\x00\x07\x00\x00\x00\x01"), Some(7));
        for short in [&b""[..], b"\x04jobs", b"\xffjobs\x00\x00\x00\x07", b"\x00\x00"] {
            assert_eq!(count(short), None, "{short:?}");
        }
    }
}
