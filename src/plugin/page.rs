//! `hpalite page`: the page of the pod on this machine, as `kubectl port-forward` brings it.
//!
//! Each connection of a browser has a WebSocket of its own (`v4.channel.k8s.io`), which the API server passes on to the
//! kubelet. The listener is on loopback alone, and as many connections as a browser opens are served at once.

use std::io::{ErrorKind, Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::pod::{PODS, Pod};
use super::{Failure, Place};
use crate::kube::Client;
use crate::kube::tunnel::{Receiver, Sender};

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Of the one port that is asked for.
const DATA: u8 = 0;
const ERROR: u8 = 1;
/// The daemon's default.
const PORT: u16 = 8081;
const CHUNK_BYTES: usize = 16 * 1024;
/// Connections at once; a browser opens six.
const CONNECTIONS_MAX: usize = 32;
/// Of an error's text.
const ERROR_BYTES_MAX: usize = 4 * 1024;

/// Serves the page until the process is ended.
///
/// # Errors
/// Why it cannot be served.
pub fn page(place: &Place, port: u16, out: &mut dyn Write) -> Result<(), Failure> {
    let client = place.client()?;
    let pod = Pod::find(&client, place.service.as_ref())?;
    let of_pod = match pod.flag("ui") {
        None => PORT,
        Some("") => return Err(Failure::new("the page is switched off in the pod: its --ui is empty".to_owned())),
        Some(address) => address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(PORT),
    };
    // Before a browser asks, so that a missing right or a page that is not there is reported here.
    let (sender, _) = open(&client, &pod, of_pod)?;
    sender.close();
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let failed = |error: std::io::Error| Failure::new(format!("{address}: {error}; another --port may be free"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let said = writeln!(out, "the page of {}/{} is at http://{address}/ until Ctrl-C", pod.namespace, pod.name);
    said.and_then(|()| out.flush()).map_err(|error| super::exec::cannot_write(&error))?;
    let under_way = Arc::new(());
    for socket in listener.incoming() {
        let Ok(socket) = socket else { continue };
        if Arc::strong_count(&under_way) > CONNECTIONS_MAX {
            continue;
        }
        let (client, pod, turn) = (client.clone(), pod.clone(), Arc::clone(&under_way));
        let serve = move || {
            let _turn = turn;
            if let Err(failure) = forward(&client, &pod, of_pod, socket) {
                log::warn!(error:% = failure.problems.join("; "); "a connection to the page broke");
            }
        };
        if let Err(error) = thread::Builder::new().name("page".to_owned()).spawn(serve) {
            log::warn!(error:% = error; "a connection to the page was not served");
        }
    }
    Ok(())
}

fn open(client: &Client, pod: &Pod, port: u16) -> Result<(Sender, Receiver), Failure> {
    let refused = |error: crate::kube::Error| {
        let fix = "; the page needs the verbs get and create on pods/portforward in the pod's namespace";
        let fix = if error.is_forbidden() { fix } else { "" };
        Failure::new(format!("pod {}/{}: {error}{fix}", pod.namespace, pod.name))
    };
    let request = PODS.get_subresource(Some(&pod.namespace), &pod.name, "portforward");
    let request = request.map_err(|error| refused(error.into()))?.with_query("ports", &port.to_string());
    client.upgrade(&request.path_and_query, PROTOCOL).map_err(refused)
}

/// Carries one connection of a browser.
fn forward(client: &Client, pod: &Pod, port: u16, socket: TcpStream) -> Result<(), Failure> {
    let (sender, mut receiver) = open(client, pod, port)?;
    let failed = |error: std::io::Error| Failure::new(error.to_string());
    let mut from_browser = socket.try_clone().map_err(failed)?;
    let up = sender.clone();
    let upward = move || {
        let mut buffer = [0; CHUNK_BYTES + 1];
        buffer[0] = DATA;
        loop {
            match from_browser.read(&mut buffer[1..]) {
                Ok(0) => return,
                Ok(amount) if up.send(&buffer[..=amount]).is_ok() => {}
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    };
    let thread = thread::Builder::new().name("page-up".to_owned()).spawn(upward).map_err(failed)?;
    let result = downward(&mut receiver, &socket);
    sender.close();
    // Ends the other thread's read.
    let _ = socket.shutdown(Shutdown::Both);
    let _ = thread.join();
    result
}

fn downward(receiver: &mut Receiver, mut socket: &TcpStream) -> Result<(), Failure> {
    // The first message of each channel repeats the port.
    let mut heads = [false; 2];
    while let Some(message) = receiver.receive().map_err(|error| Failure::new(error.to_string()))? {
        let Some((channel @ (&DATA | &ERROR), content)) = message.split_first() else { continue };
        if !std::mem::replace(&mut heads[usize::from(*channel)], true) || content.is_empty() {
            continue;
        }
        if *channel == ERROR {
            let text = String::from_utf8_lossy(&content[..content.len().min(ERROR_BYTES_MAX)]);
            return Err(Failure::new(text.into_owned()));
        }
        // A browser that has gone needs no more.
        if socket.write_all(content).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
