//! PostgreSQL: the number that a query returns, by the frontend/backend protocol, version 3.

use super::scram::{SHA_256, Scram, nonce};
use super::{Poll, md5};
use crate::encode::percent_decode;
use crate::polling::failed;
use crate::polling::stream::{Stream, Target};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::PostgresSource;

const PROTOCOL: i32 = 196_608;
const SSL_REQUEST: i32 = 80_877_103;

/// Upper bound on the bytes of one message.
const MESSAGE_MAX: usize = 32 << 10;

/// What leads to a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Connection {
    host: String,
    port: String,
    user: String,
    password: String,
    database: String,
    ssl_mode: String,
}

struct Message {
    kind: u8,
    body: Vec<u8>,
}

pub(super) fn ask(poll: &Poll<'_>, source: &PostgresSource) -> Result<f64, PollError> {
    let connection = connection(poll, source)?;
    let Connection { host, port, user, password, database, ssl_mode } = &connection;
    let port = port.parse::<u16>().map_err(|_| poll.auth.fault("parameter port is not a port"))?;
    if [user, database, &source.query].iter().any(|text| text.contains('\0')) {
        return Err(poll.auth.fault("a parameter holds a NUL character"));
    }
    let named = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let server = format!("postgresql://{named}:{port}");
    let target = Target { host, port, server: &server, timeout: poll.timeout, deadline: poll.deadline };
    let mut stream = poll.transport.connect(target)?;
    if wants_tls(poll, ssl_mode)? {
        stream.write(&[8_i32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat())?;
        match stream.take(1)?[0] {
            b'S' => {
                // As in libpq, only the modes that verify do so.
                let material = poll.tls(!ssl_mode.starts_with("verify"))?;
                stream = poll.transport.secure(stream, &material)?;
            }
            b'N' if ssl_mode == "prefer" => {}
            b'N' => {
                let message = format!("{server} offers no TLS, which sslmode {ssl_mode} wants");
                return Err(failed(ErrorClass::Tls, message));
            }
            _ => return Err(strange(&server)),
        }
    }
    let mut startup = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, "application_name", "hpalite", ""] {
        startup.extend_from_slice(text.as_bytes());
        startup.push(0);
    }
    stream.write(&[length(startup.len()).as_slice(), &startup].concat())?;
    talk(stream, &server, (user, password), nonce, &source.query)
}

/// Signs in and asks, over a connection that has begun.
pub(super) fn talk(
    mut stream: Stream<'_>,
    server: &str,
    login: (&str, &str),
    nonce: fn() -> Option<String>,
    query: &str,
) -> Result<f64, PollError> {
    sign_in(&mut stream, server, login, nonce)?;
    stream.write(&message(b'Q', &[query.as_bytes(), b"\0"].concat()))?;
    let value = result(&mut stream, server)?;
    let _ = stream.write(&message(b'X', b""));
    value
        .trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| failed(ErrorClass::Query, format!("the query's first column on {server} is no number")))
}

fn wants_tls(poll: &Poll<'_>, mode: &str) -> Result<bool, PollError> {
    match mode {
        "disable" | "allow" => Ok(false),
        "prefer" | "require" | "verify-ca" | "verify-full" => Ok(true),
        _ => {
            Err(poll.auth.fault("parameter sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"))
        }
    }
}

fn connection(poll: &Poll<'_>, source: &PostgresSource) -> Result<Connection, PollError> {
    if let Some(text) = poll.auth.optional("connection") {
        let read = if text.contains("://") { from_url(text) } else { from_words(text) };
        return read.map_err(|why| poll.auth.fault(&format!("parameter connection {why}")));
    }
    let found = |name: &str, written: &Option<String>| {
        poll.auth.optional(name).or(written.as_deref()).map(str::to_owned).ok_or_else(|| poll.missing(name))
    };
    Ok(Connection {
        host: found("host", &source.host)?,
        port: found("port", &source.port)?,
        user: found("userName", &source.user)?,
        password: poll.auth.optional("password").unwrap_or_default().to_owned(),
        database: found("dbName", &source.database)?,
        ssl_mode: found("sslmode", &source.ssl_mode)?,
    })
}

/// Reads `postgresql://user:password@host:port/database?sslmode=…`.
fn from_url(text: &str) -> Result<Connection, &'static str> {
    let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
    let rest = rest.ok_or("is no postgresql:// URL")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or("5432")),
        None => place.split_once(':').unwrap_or((place, "5432")),
    };
    let decode = |text: &str| String::from_utf8(percent_decode(text)).map_err(|_| "is not text");
    let mut found = Connection {
        host: host.to_owned(),
        port: port.to_owned(),
        user: decode(user)?,
        password: decode(password)?,
        database: decode(database)?,
        ssl_mode: String::new(),
    };
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        found.set(name, decode(value)?);
    }
    found.complete()
}

/// Reads `host=… port=… user=… password='…' dbname=… sslmode=…`.
fn from_words(text: &str) -> Result<Connection, &'static str> {
    let mut found = Connection { port: "5432".to_owned(), ..Connection::default() };
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("is neither a URL nor words of the form name=value")?;
        let after = after.trim_start();
        let is_quoted = after.starts_with('\'');
        let mut value = String::new();
        let mut characters = after.char_indices().skip(usize::from(is_quoted));
        let mut end = after.len();
        let mut is_closed = !is_quoted;
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => value.extend(characters.next().map(|(_, c)| c)),
                '\'' if is_quoted => {
                    (end, is_closed) = (at + 1, true);
                    break;
                }
                c if c.is_whitespace() && !is_quoted => {
                    end = at;
                    break;
                }
                c => value.push(c),
            }
        }
        if !is_closed {
            return Err("has a quote without its end");
        }
        found.set(name.trim(), value);
        rest = after[end..].trim_start();
    }
    found.complete()
}

impl Connection {
    fn set(&mut self, name: &str, value: String) {
        match name {
            "host" | "hostaddr" => self.host = value,
            "port" => self.port = value,
            "user" => self.user = value,
            "password" => self.password = value,
            "dbname" => self.database = value,
            "sslmode" => self.ssl_mode = value,
            // Others, such as connect_timeout, have no meaning here.
            _ => {}
        }
    }

    fn complete(mut self) -> Result<Self, &'static str> {
        if self.host.is_empty() {
            return Err("has no host");
        }
        if self.user.is_empty() {
            return Err("has no user");
        }
        if self.database.is_empty() {
            self.database.clone_from(&self.user);
        }
        if self.ssl_mode.is_empty() {
            "prefer".clone_into(&mut self.ssl_mode);
        }
        Ok(self)
    }
}

fn sign_in(
    stream: &mut Stream<'_>,
    server: &str,
    (user, password): (&str, &str),
    nonce: fn() -> Option<String>,
) -> Result<(), PollError> {
    let refused = |why: &str| failed(ErrorClass::Authentication, format!("cannot sign in at {server}: {why}"));
    let mut scram = None;
    loop {
        let Message { kind, body } = read(stream, server)?;
        match kind {
            b'R' => {
                let (code, rest) = body.split_first_chunk::<4>().ok_or_else(|| strange(server))?;
                let text = || std::str::from_utf8(rest).map_err(|_| strange(server));
                match i32::from_be_bytes(*code) {
                    0 if scram.as_ref().is_none_or(|(_, is_verified)| *is_verified) => {}
                    3 => stream.write(&message(b'p', &[password.as_bytes(), b"\0"].concat()))?,
                    5 => {
                        let salt = *rest.first_chunk::<4>().ok_or_else(|| strange(server))?;
                        let answer = md5::answer(user, password, salt);
                        stream.write(&message(b'p', &[answer.as_bytes(), b"\0"].concat()))?;
                    }
                    10 if text()?.split('\0').any(|name| name == SHA_256.name) => {
                        let begun =
                            Scram::new(&SHA_256, "", password, nonce().ok_or_else(|| refused("no random numbers"))?);
                        let first = begun.first_message();
                        let body = [SHA_256.name.as_bytes(), b"\0", &count(first.len()), first.as_bytes()].concat();
                        stream.write(&message(b'p', &body))?;
                        scram = Some((begun, false));
                    }
                    11 => {
                        let (scram, _) = scram.as_mut().ok_or_else(|| strange(server))?;
                        let last = scram.final_message(text()?).map_err(refused)?;
                        stream.write(&message(b'p', last.as_bytes()))?;
                    }
                    12 => {
                        let (scram, is_verified) = scram.as_mut().ok_or_else(|| strange(server))?;
                        scram.verify(text()?).map_err(refused)?;
                        *is_verified = true;
                    }
                    _ => return Err(refused("it wants a kind of authentication that is not supported")),
                }
            }
            b'Z' => return Ok(()),
            b'E' => return Err(error(server, &body)),
            // Parameters, the key to cancel with, and notices.
            b'S' | b'K' | b'N' => {}
            _ => return Err(strange(server)),
        }
    }
}

/// Returns the first column of the only row.
fn result(stream: &mut Stream<'_>, server: &str) -> Result<String, PollError> {
    let query = |what: &str| failed(ErrorClass::Query, format!("the query on {server} returned {what}"));
    let (mut value, mut rows, mut results) = (None, 0_u32, 0_u32);
    loop {
        let Message { kind, body } = read(stream, server)?;
        match kind {
            b'T' => results += 1,
            b'D' => {
                rows += 1;
                value = Some(first_column(&body).ok_or_else(|| strange(server))?);
                if rows > 1 {
                    return Err(query("more than one row"));
                }
            }
            b'Z' => break,
            b'E' => return Err(error(server, &body)),
            b'C' | b'S' | b'N' | b'I' => {}
            _ => return Err(strange(server)),
        }
    }
    match value {
        _ if results > 1 => Err(query("more than one result")),
        Some(Some(text)) => Ok(text),
        Some(None) => Err(query("NULL")),
        None => Err(query("no row")),
    }
}

/// Returns the text of a row's first column, `None` inside for NULL.
fn first_column(body: &[u8]) -> Option<Option<String>> {
    let (columns, rest) = body.split_first_chunk::<2>()?;
    if u16::from_be_bytes(*columns) == 0 {
        return None;
    }
    let (length, rest) = rest.split_first_chunk::<4>()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Err(_) => Some(None),
        Ok(length) => String::from_utf8(rest.get(..length)?.to_vec()).ok().map(Some),
    }
}

fn read(stream: &mut Stream<'_>, server: &str) -> Result<Message, PollError> {
    let head = stream.take(5)?;
    let length = head[1..].iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let length = length.checked_sub(4).filter(|length| *length <= MESSAGE_MAX).ok_or_else(|| strange(server))?;
    Ok(Message { kind: head[0], body: stream.take(length)? })
}

/// Puts an error in words of our own: the server's text may hold data.
fn error(server: &str, body: &[u8]) -> PollError {
    let mut fields = body.split(|byte| *byte == 0).filter_map(|field| field.split_first());
    let code = fields.find(|(kind, _)| **kind == b'C').and_then(|(_, code)| std::str::from_utf8(code).ok());
    let code = code.filter(|code| code.len() == 5 && code.chars().all(|c| c.is_ascii_alphanumeric()));
    let code = code.unwrap_or("without a code");
    let (class, what) = match code {
        "28P01" => (ErrorClass::Authentication, "the password is wrong"),
        "28000" => (ErrorClass::Authentication, "the user may not sign in"),
        "3D000" => (ErrorClass::Query, "the database does not exist"),
        "42P01" => (ErrorClass::Query, "a table of the query does not exist"),
        "42703" => (ErrorClass::Query, "a column of the query does not exist"),
        "42883" => (ErrorClass::Query, "a function of the query does not exist"),
        "42601" => (ErrorClass::Query, "the query has a syntax error"),
        "42501" => (ErrorClass::Query, "the user has no right to what the query reads"),
        "53300" => (ErrorClass::Status, "it has too many connections"),
        "57014" => (ErrorClass::Query, "the query took too long"),
        "57P03" => (ErrorClass::Status, "it is starting up"),
        _ => (ErrorClass::Query, "the query or the connection failed"),
    };
    failed(class, format!("{server} answered an error: {what} (SQLSTATE {code})"))
}

fn strange(server: &str) -> PollError {
    failed(ErrorClass::Response, format!("{server} does not answer as PostgreSQL does"))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], length(body.len()).as_slice(), body].concat()
}

/// The length of a message with this body, which counts itself.
fn length(body: usize) -> [u8; 4] {
    count(body + 4)
}

/// No text that is sent has more than some kilobytes.
fn count(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(password: &str, ssl_mode: &str) -> Connection {
        Connection {
            host: "db".to_owned(),
            port: "5433".to_owned(),
            user: "me".to_owned(),
            password: password.to_owned(),
            database: "shop".to_owned(),
            ssl_mode: ssl_mode.to_owned(),
        }
    }

    #[test]
    fn connections() {
        for (text, expected) in [
            ("postgresql://me:p%40ss@db:5433/shop?sslmode=disable", Ok(whole("p@ss", "disable"))),
            ("postgres://me@db:5433/shop", Ok(whole("", "prefer"))),
            ("mysql://me@db", Err("is no postgresql:// URL")),
            ("postgresql://db/shop", Err("has no user")),
        ] {
            assert_eq!(from_url(text), expected, "{text}");
        }
        for (text, expected) in [
            ("host=db port=5433 user=me dbname=shop sslmode=require password=x", Ok(whole("x", "require"))),
            (
                "host = db port=5433 user='me' dbname=shop password='it\\'s \\\\ a=b' connect_timeout=3",
                Ok(whole("it's \\ a=b", "prefer")),
            ),
            ("host=db port=5433 user=me dbname=shop password=", Ok(whole("", "prefer"))),
            ("host=db", Err("has no user")),
            ("nonsense", Err("is neither a URL nor words of the form name=value")),
            ("host=db password='x", Err("has a quote without its end")),
        ] {
            assert_eq!(from_words(text), expected, "{text}");
        }
        let address = from_url("postgresql://me@[::1]:5433/shop").unwrap();
        assert_eq!((address.host.as_str(), address.port.as_str()), ("::1", "5433"));
    }

    #[test]
    fn rows_and_errors() {
        assert_eq!(first_column(b"\0\x01\0\0\0\x0242"), Some(Some("42".to_owned())));
        assert_eq!(first_column(b"\0\x01\xff\xff\xff\xff"), Some(None));
        for bad in [&b""[..], b"\0\0", b"\0\x01\0\0\0\x09x"] {
            assert_eq!(first_column(bad), None);
        }
        let of = |body: &[u8]| error("postgresql://db:5432", body);
        let wrong = of(b"SFATAL\0C28P01\0Mpassword authentication failed for user \"me\"\0\0");
        assert_eq!(wrong.class, ErrorClass::Authentication);
        assert_eq!(wrong.message, "postgresql://db:5432 answered an error: the password is wrong (SQLSTATE 28P01)");
        assert!(of(b"Msecret\0\0").message.ends_with("(SQLSTATE without a code)"));
    }
}
