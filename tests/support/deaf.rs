//! Connections that die without a word, as when a firewall forgets them or a node fails.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// Attaches a filter that drops every packet (`SO_ATTACH_FILTER`, `BPF_RET 0`) to the socket that is the standard input.
/// It is Python since Rust has no such option without unsafe code.
const FILTER: &str = r#"
import ctypes, socket, struct
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
program = struct.pack("HL", 1, ctypes.addressof(code))
socket.socket(fileno=0).setsockopt(socket.SOL_SOCKET, 26, program)
"#;

/// From now on nothing that is sent to these sockets arrives, is acknowledged or refused.
pub(crate) fn deafen(sockets: impl IntoIterator<Item = TcpStream>) {
    let spawn = |socket| {
        Command::new("python3").args(["-c", FILTER]).stdin(Stdio::from(OwnedFd::from(socket))).spawn().expect("python3")
    };
    let children: Vec<_> = sockets.into_iter().map(spawn).collect();
    for mut child in children {
        assert!(child.wait().expect("it was started").success(), "no filter attached");
    }
}
