//! Runs a command in the pod over a WebSocket, as `kubectl exec` does (`v5.channel.k8s.io`).
//!
//! The first byte of each message is its channel. Output is passed on as it comes; how much of it, and how the command
//! may end, has a bound here.

use std::io::{self, ErrorKind, Write};

use serde::Deserialize;

use super::Failure;
use super::pod::{PODS, Pod};
use crate::kube::Client;

const PROTOCOL: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// How the command ended, as a `v1 Status`.
const STATUS: u8 = 3;
/// Closes the channel that the next byte names.
const CLOSE: u8 = 255;

/// Of input in one message.
const CHUNK_BYTES: usize = 16 * 1024;
/// Of output in all; the JSON of a history is a thousandth of it.
const OUTPUT_BYTES_MAX: usize = 1 << 30;

/// Runs the words in the pod and passes on what they print. Returns their exit code.
pub(super) fn exec(
    client: &Client,
    pod: &Pod,
    words: &[String],
    input: Option<&[u8]>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    let refused = |error: crate::kube::Error| {
        let fix = "; exec in the pod needs the verbs get and create on pods/exec in its namespace";
        let fix = if error.is_forbidden() { fix } else { "" };
        Failure::new(format!("pod {}/{}: {error}{fix}", pod.namespace, pod.name))
    };
    let request =
        PODS.get_subresource(Some(&pod.namespace), &pod.name, "exec").map_err(|error| refused(error.into()))?;
    let mut request = request.with_query("container", &pod.container);
    for word in words {
        request = request.with_query("command", word);
    }
    for stream in ["stdout", "stderr"].into_iter().chain(input.map(|_| "stdin")) {
        request = request.with_query(stream, "true");
    }
    let (sender, mut receiver) = client.upgrade(&request.path_and_query, PROTOCOL).map_err(refused)?;
    if let Some(input) = input {
        // A command that ends before it has read its input says why on the other channels.
        let chunks = input.chunks(CHUNK_BYTES).map(|chunk| [&[STDIN], chunk].concat());
        let _ = chunks.chain([vec![CLOSE, STDIN]]).try_for_each(|message| sender.send(&message));
    }
    let mut ended = Ended::default();
    let mut written = 0;
    while let Some(message) = receiver.receive().map_err(refused)? {
        let Some((channel, content)) = message.split_first() else { continue };
        written += content.len();
        if written > OUTPUT_BYTES_MAX {
            return Err(Failure::new(format!("the command prints more than {} MB", OUTPUT_BYTES_MAX >> 20)));
        }
        let passed_on = match *channel {
            STDOUT => out.write_all(content).and_then(|()| out.flush()),
            STDERR => err.write_all(content),
            STATUS => {
                ended = Ended::read(content)?;
                break;
            }
            _ => Ok(()),
        };
        match passed_on {
            Ok(()) => {}
            // The reader has closed the pipe, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => ended = Ended::Success,
            Err(error) => return Err(cannot_write(&error)),
        }
        if ended == Ended::Success {
            break;
        }
    }
    sender.close();
    match ended {
        Ended::Success => Ok(0),
        Ended::Code(code) => Ok(code),
        Ended::Failed(message) => Err(Failure::new(format!("pod {}/{}: {message}", pod.namespace, pod.name))),
        Ended::Unknown => {
            Err(Failure::new(format!("the connection to pod {}/{} ended before the command", pod.namespace, pod.name)))
        }
    }
}

pub(super) fn cannot_write(error: &io::Error) -> Failure {
    Failure::new(format!("standard output: {error}"))
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Ended {
    #[default]
    Unknown,
    Success,
    Code(u8),
    /// It did not run, or not to its end.
    Failed(String),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    status: String,
    reason: String,
    message: String,
    details: Details,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

impl Ended {
    fn read(content: &[u8]) -> Result<Self, Failure> {
        let status: Status = serde_json::from_slice(content)
            .map_err(|error| Failure::new(format!("how the command ended cannot be read: {error}")))?;
        if status.status == "Success" {
            return Ok(Self::Success);
        }
        let code = status.details.causes.iter().find(|cause| cause.reason == "ExitCode");
        Ok(match code.and_then(|code| code.message.parse().ok()).filter(|_| status.reason == "NonZeroExitCode") {
            Some(code) => Self::Code(code),
            None => Self::Failed(status.message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_command_is_read() {
        let read = |text: &str| Ended::read(text.as_bytes()).expect("it is JSON");
        assert_eq!(read(r#"{"metadata":{},"status":"Success"}"#), Ended::Success);
        let code = r#"{"status":"Failure","message":"command terminated with non-zero exit code","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"2"}]}}"#;
        assert_eq!(read(code), Ended::Code(2));
        let missing = r#"{"status":"Failure","message":"no such file","reason":"InternalError","code":500}"#;
        assert_eq!(read(missing), Ended::Failed("no such file".to_owned()));
        assert!(Ended::read(b"no JSON").is_err());
    }
}
