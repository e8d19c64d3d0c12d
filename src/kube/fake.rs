//! An API server on loopback, for tests of what asks one.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::client::Client;
use super::config::ClusterConfig;

/// Returns a client of a server that gives, for a method with its path and for a body, a status and a body.
pub(crate) fn client(mut answer: impl FnMut(&str, &[u8]) -> (u16, String) + Send + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = ClusterConfig::of_server(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (line, body) = read(&stream);
            let (code, body) = answer(&line, &body);
            let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    Client::new(config)
}

/// Reads a request: returns the method and the path without its query, and the body.
pub(crate) fn read(stream: &TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let target = first.trim_end().trim_end_matches(" HTTP/1.1");
    (target.split('?').next().unwrap_or_default().to_owned(), body)
}
