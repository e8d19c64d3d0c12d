//! Redis: the length of a list, by its text protocol (RESP, version 2).

use super::{Poll, host_port};
use crate::polling::failed;
use crate::polling::stream::{Stream, Target};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::RedisSource;

/// Upper bound on the bytes of a text in an answer: the types of keys have some ten.
const TEXT_MAX: usize = 512;

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Integer(i64),
    /// The error's own code, such as `WRONGPASS`.
    Error(String),
}

pub(super) fn ask(poll: &Poll<'_>, source: &RedisSource) -> Result<f64, PollError> {
    let address = match poll.given(source.address.as_deref(), &["address", "addresses"]) {
        Some(address) => address.to_owned(),
        None => match (poll.auth.optional("host"), poll.auth.optional("port")) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => return Err(poll.missing("address")),
        },
    };
    let Some((host, port)) = host_port(&address) else {
        return Err(poll.auth.fault("parameter address is not of the form host:port"));
    };
    let encrypted = poll.encrypted(source.tls, "enableTLS")?;
    let server = format!("{}://{address}", if encrypted { "rediss" } else { "redis" });
    let target = Target { host, port, server: &server, timeout: poll.timeout, deadline: poll.deadline };
    let mut stream = poll.transport.connect(target)?;
    if encrypted {
        stream = poll.transport.secure(stream, &poll.tls(source.unsafe_ssl)?)?;
    }

    let (user, password) = (poll.auth.optional("username"), poll.auth.optional("password"));
    let mut commands = Vec::new();
    if let Some(password) = password {
        let words: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password]).collect();
        commands.push(words);
    }
    let database = source.database.to_string();
    if source.database > 0 {
        commands.push(vec!["SELECT", &database]);
    }
    commands.push(vec!["TYPE", &source.list_name]);
    // A text with a line break could be a command to a server that is no Redis.
    if commands.iter().flatten().any(|word| word.chars().any(char::is_control)) {
        return Err(poll.auth.fault("a parameter holds a line break or control character"));
    }
    let wrong = |class, what: String| failed(class, format!("{server} {what}"));
    for command in &commands {
        stream.write(&encode(command))?;
        let reply = read(&mut stream, &server)?;
        match (command[0], reply) {
            ("TYPE", Reply::Text(kind)) => {
                let size = size_command(&kind).ok_or_else(|| {
                    let what = format!("has a {kind} as {}, not a list, set, sorted set or hash", source.list_name);
                    wrong(ErrorClass::Query, what)
                })?;
                stream.write(&encode(&[size, &source.list_name]))?;
                return match read(&mut stream, &server)? {
                    // Far less than 2^53.
                    #[expect(clippy::cast_precision_loss)]
                    Reply::Integer(size) => Ok(size as f64),
                    Reply::Error(code) => Err(wrong(ErrorClass::Query, format!("refuses {size}: {code}"))),
                    Reply::Text(_) => Err(wrong(ErrorClass::Response, "does not answer as Redis does".to_owned())),
                };
            }
            ("AUTH", Reply::Error(code)) => {
                let what = format!("refuses the password of the authentication: {code}");
                return Err(wrong(ErrorClass::Authentication, what));
            }
            (_, Reply::Error(code)) if code == "NOAUTH" => {
                let what = "wants a password: give parameter password by an authentication (NOAUTH)";
                return Err(wrong(ErrorClass::Authentication, what.to_owned()));
            }
            (name, Reply::Error(code)) => return Err(wrong(ErrorClass::Query, format!("refuses {name}: {code}"))),
            (_, Reply::Text(text)) if text == "OK" => {}
            _ => return Err(wrong(ErrorClass::Response, "does not answer as Redis does".to_owned())),
        }
    }
    Err(wrong(ErrorClass::Response, "does not answer as Redis does".to_owned()))
}

/// Returns the command that gives the size of a key of this type. A key that does not exist is an empty list.
fn size_command(kind: &str) -> Option<&'static str> {
    match kind {
        "list" | "none" => Some("LLEN"),
        "set" => Some("SCARD"),
        "zset" => Some("ZCARD"),
        "hash" => Some("HLEN"),
        _ => None,
    }
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    bytes.into_bytes()
}

fn read(stream: &mut Stream<'_>, server: &str) -> Result<Reply, PollError> {
    let line = stream.line()?;
    let strange = || failed(ErrorClass::Response, format!("{server} does not answer as Redis does"));
    match parse(&line) {
        Some(Line::Reply(reply)) => Ok(reply),
        Some(Line::Bulk(length)) => {
            let mut text = stream.take(length + 2)?;
            text.truncate(length);
            String::from_utf8(text).map(Reply::Text).map_err(|_| strange())
        }
        None => Err(strange()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Reply(Reply),
    /// A text of so many bytes follows.
    Bulk(usize),
}

fn parse(line: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= TEXT_MAX)?;
    let (kind, rest) = text.split_at_checked(1)?;
    match kind {
        "+" => Some(Line::Reply(Reply::Text(rest.to_owned()))),
        ":" => rest.parse().ok().map(|number| Line::Reply(Reply::Integer(number))),
        "-" => {
            let code = rest.split(' ').next().unwrap_or_default();
            let is_code = !code.is_empty() && code.len() <= 32 && code.chars().all(|c| c.is_ascii_uppercase());
            Some(Line::Reply(Reply::Error(if is_code { code } else { "an error" }.to_owned())))
        }
        "$" => rest.parse().ok().filter(|length| *length <= TEXT_MAX).map(Line::Bulk),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_replies() {
        assert_eq!(encode(&["LLEN", "jöbs"]), "*2\r\n$4\r\nLLEN\r\n$5\r\njöbs\r\n".as_bytes());
        for (line, expected) in [
            ("+OK", Some(Line::Reply(Reply::Text("OK".to_owned())))),
            (":42", Some(Line::Reply(Reply::Integer(42)))),
            ("$3", Some(Line::Bulk(3))),
            ("-WRONGPASS invalid pair", Some(Line::Reply(Reply::Error("WRONGPASS".to_owned())))),
            ("-root:x:0:0", Some(Line::Reply(Reply::Error("an error".to_owned())))),
            ("$-1", None),
            ("$100000", None),
            (":x", None),
            ("HTTP/1.1 400 Bad Request", None),
            ("", None),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }
}
