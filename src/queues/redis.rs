//! Redis: the length of a list or a stream, or what a group has not done, by its text protocol (RESP, version 2).
//!
//! A cluster says which of its nodes has the key, a sentinel which server is the master. Both are contacted only at addresses
//! that triggers may name themselves, and get the credentials of the trigger.

use std::time::Instant;

use super::{Node, Poll, first_of};
use crate::polling::auth::Auth;
use crate::polling::failed;
use crate::polling::request::TlsMaterial;
use crate::polling::stream::{Stream, Target};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{RedisSetup, RedisSize, RedisSource};

/// Upper bound on the bytes of a text in an answer: of a name that a person chose.
const TEXT_MAX: usize = 4 << 10;

/// Upper bound on the bytes of all answers over one connection: the groups of a stream take some 150 bytes each.
const BYTES_MAX: usize = 256 << 10;

/// Upper bound on the elements of an answer with all lists in it.
const ELEMENTS_MAX: usize = 20_000;

/// Upper bound on how deep lists are in lists: those of groups have one level.
const DEPTH_MAX: usize = 4;

/// How often a cluster may name another node.
const MOVES_MAX: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Integer(i64),
    /// The line of an error, which is not shown.
    Error(String),
    List(Vec<Reply>),
    Nothing,
}

pub(super) fn ask(poll: &Poll<'_>, source: &RedisSource) -> Result<f64, PollError> {
    let tls = poll.encrypted(source.tls, "enableTLS")?;
    let tls = tls.then(|| poll.tls(source.unsafe_ssl)).transpose()?;
    let scheme = if tls.is_some() { "rediss" } else { "redis" };
    let wrong = || poll.auth.fault("parameter address is not of the form host:port");
    let nodes = Node::list(scheme, &addresses(poll, source)?).ok_or_else(wrong)?;
    let user = Access { poll, tls, login: login(poll, "username", "password"), database: source.database };
    match source.setup {
        RedisSetup::Single => measure(&mut user.connect(&nodes[0], poll.deadline)?, &source.size),
        RedisSetup::Sentinel => {
            let master = poll.given(source.sentinel_master.as_deref(), &["sentinelMaster"]);
            let master = master.ok_or_else(|| poll.missing("sentinelMaster"))?;
            let login = login(poll, "sentinelUsername", "sentinelPassword");
            let sentinel = Access { poll, tls: user.tls.clone(), login, database: 0 };
            let mut sentinel = first_of(poll, &nodes, |node, deadline| sentinel.connect(node, deadline))?;
            let node = sentinel.master(master)?;
            measure(&mut user.connect(&node, poll.deadline)?, &source.size)
        }
        RedisSetup::Cluster => {
            let mut connection = first_of(poll, &nodes, |node, deadline| user.connect(node, deadline))?;
            let of = key(&source.size);
            // The node of the key knows the answer; any other says where it is.
            let Some(moved) = connection.moved(&of)? else { return measure(&mut connection, &source.size) };
            let (mut node, mut asks) = moved;
            for _ in 0..MOVES_MAX {
                let mut connection = Connection { asks, ..user.connect(&node, poll.deadline)? };
                match connection.moved(&of)? {
                    None => return measure(&mut connection, &source.size),
                    Some(moved) => (node, asks) = moved,
                }
            }
            let what = format!("sends from one node of the cluster to another, {MOVES_MAX} times");
            Err(failed(ErrorClass::Response, format!("{} {what}", node.name)))
        }
    }
}

/// Returns where the servers are, comma-separated: `address`, or pairs of `host` and `port`.
fn addresses(poll: &Poll<'_>, source: &RedisSource) -> Result<String, PollError> {
    if let Some(address) = poll.given(source.address.as_deref(), &["address", "addresses"]) {
        return Ok(address.to_owned());
    }
    let list = |names: [&str; 2]| names.iter().find_map(|name| poll.auth.optional(name)).unwrap_or_default();
    let (hosts, ports) = (list(["host", "hosts"]), list(["port", "ports"]));
    if hosts.is_empty() || ports.is_empty() {
        return Err(poll.missing("address"));
    }
    paired(hosts, ports)
        .ok_or_else(|| poll.auth.fault("parameters hosts and ports have not the same number of elements"))
}

/// Returns hosts and ports as addresses.
fn paired(hosts: &str, ports: &str) -> Option<String> {
    let (hosts, ports): (Vec<&str>, Vec<&str>) = (hosts.split(',').collect(), ports.split(',').collect());
    let pairs = hosts.iter().zip(&ports).map(|(host, port)| format!("{}:{}", host.trim(), port.trim()));
    (hosts.len() == ports.len()).then(|| pairs.collect::<Vec<_>>().join(","))
}

/// User and password.
type Login<'a> = (Option<&'a str>, &'a str);

fn login<'a>(poll: &'a Poll<'_>, user: &str, password: &str) -> Option<Login<'a>> {
    poll.auth.optional(password).map(|password| (poll.auth.optional(user), password))
}

fn key(size: &RedisSize) -> Vec<&str> {
    match size {
        RedisSize::Collection(name) => vec!["TYPE", name],
        RedisSize::Length { stream } | RedisSize::Pending { stream, .. } | RedisSize::Lag { stream, .. } => {
            vec!["TYPE", stream]
        }
    }
}

fn measure(connection: &mut Connection<'_>, size: &RedisSize) -> Result<f64, PollError> {
    let number = match size {
        RedisSize::Collection(name) => {
            let kind = connection.run(&["TYPE", name])?;
            let Reply::Text(kind) = &kind else { return Err(connection.refusal(&kind, "TYPE")) };
            let command = size_command(kind).ok_or_else(|| {
                // Of a text that is no name of a type nothing is shown: it may be of another server.
                let kind = if is_type(kind) { kind } else { "key of another type" };
                let what = format!("has a {kind} as {name}, not a list, set, sorted set or hash");
                connection.fails(ErrorClass::Query, what)
            })?;
            connection.number(&[command, name])?
        }
        RedisSize::Length { stream } => connection.number(&["XLEN", stream])?,
        RedisSize::Pending { stream, group } => match connection.run(&["XPENDING", stream, group])? {
            Reply::List(parts) => match parts.first() {
                Some(Reply::Integer(count)) => *count,
                _ => return Err(connection.strange()),
            },
            Reply::Error(line) if line.starts_with("NOGROUP") => {
                return Err(connection.fails(ErrorClass::Query, format!("has no group {group} of a stream {stream}")));
            }
            other => return Err(connection.refusal(&other, "XPENDING")),
        },
        RedisSize::Lag { stream, group } => match connection.run(&["XINFO", "GROUPS", stream])? {
            Reply::Error(line) if line == "ERR no such key" => 0,
            Reply::List(groups) => match lag(&groups, group) {
                Lag::Known(lag) => lag,
                // The group may begin only once something runs.
                Lag::NoGroup => connection.number(&["XLEN", stream])?,
                Lag::Unsupported => {
                    let what = "does not say a lag, as Redis from 7.0 on does: use pendingEntriesCount";
                    return Err(connection.fails(ErrorClass::Query, what.to_owned()));
                }
                Lag::Unknown => {
                    let what = format!("does not know the lag of group {group}, as after deletions in {stream}");
                    return Err(connection.fails(ErrorClass::Query, what));
                }
            },
            other => return Err(connection.refusal(&other, "XINFO")),
        },
    };
    if number < 0 {
        return Err(connection.strange());
    }
    // Far less than 2^53.
    #[expect(clippy::cast_precision_loss)]
    Ok(number as f64)
}

#[derive(Debug, PartialEq, Eq)]
enum Lag {
    Known(i64),
    NoGroup,
    Unsupported,
    Unknown,
}

/// What fuzzing asks over a connection. Of another server it gets the port.
pub(super) enum Talk {
    Size(RedisSize),
    /// In a cluster, where a key is.
    Moved,
    SignIn,
    /// A sentinel, where the master is.
    Master,
}

pub(super) fn talk<'a>(
    mut stream: Stream<'a>,
    node: &'a Node,
    auth: &'a Auth<'a>,
    talk: &Talk,
) -> Result<f64, PollError> {
    stream.allow(BYTES_MAX);
    let mut connection = Connection { stream, node, auth, asks: matches!(talk, Talk::Moved) };
    match talk {
        Talk::Size(size) => measure(&mut connection, size),
        Talk::Moved => {
            connection.moved(&["TYPE", "key"]).map(|moved| moved.map_or(0.0, |(node, _)| f64::from(node.port)))
        }
        Talk::SignIn => connection.sign_in(Some((Some("u"), "p")), 1).map(|()| 0.0),
        Talk::Master => connection.master("m").map(|node| f64::from(node.port)),
    }
}

/// Finds the lag of a group, whose fields are pairs of a name and a value.
fn lag(groups: &[Reply], name: &str) -> Lag {
    let field = |group: &Reply, name: &str| match group {
        Reply::List(fields) => {
            let pairs = fields.chunks_exact(2);
            pairs.into_iter().find(|pair| pair[0] == Reply::Text(name.to_owned())).map(|pair| pair[1].clone())
        }
        _ => None,
    };
    let is_wanted = |group: &&Reply| field(group, "name") == Some(Reply::Text(name.to_owned()));
    match groups.iter().find(is_wanted).map(|group| field(group, "lag")) {
        None => Lag::NoGroup,
        Some(None) => Lag::Unsupported,
        Some(Some(Reply::Integer(lag))) if lag >= 0 => Lag::Known(lag),
        Some(Some(_)) => Lag::Unknown,
    }
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

/// Returns whether this may be a type of keys that has no size here: one of Redis itself, or of a module, whose types have names
/// of nine characters.
fn is_type(kind: &str) -> bool {
    let is_of_module = kind.len() == 9 && kind.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    matches!(kind, "string" | "stream") || is_of_module
}

/// How to connect.
struct Access<'a> {
    poll: &'a Poll<'a>,
    tls: Option<TlsMaterial>,
    login: Option<Login<'a>>,
    database: u32,
}

impl Access<'_> {
    fn connect<'n>(&'n self, node: &'n Node, deadline: Instant) -> Result<Connection<'n>, PollError> {
        let Self { poll, tls, login, database } = self;
        let Node { host, port, name } = node;
        let mut stream =
            poll.transport.connect(Target { host, port: *port, server: name, timeout: poll.timeout, deadline })?;
        if let Some(tls) = tls {
            stream = poll.transport.secure(stream, tls)?;
        }
        stream.allow(BYTES_MAX);
        let mut connection = Connection { stream, node, auth: &poll.auth, asks: false };
        connection.sign_in(*login, *database)?;
        Ok(connection)
    }
}

struct Connection<'a> {
    stream: Stream<'a>,
    node: &'a Node,
    auth: &'a Auth<'a>,
    /// Whether the node of a cluster is only about to get the key, and answers who says that he knows.
    asks: bool,
}

impl Connection<'_> {
    fn fails(&self, class: ErrorClass, what: String) -> PollError {
        failed(class, format!("{} {what}", self.node.name))
    }

    fn strange(&self) -> PollError {
        self.fails(ErrorClass::Response, "does not answer as Redis does".to_owned())
    }

    /// Puts an answer in words that is not the wanted one.
    fn refusal(&self, reply: &Reply, command: &str) -> PollError {
        match reply {
            Reply::Error(line) if line.starts_with("NOAUTH") => {
                let what = "wants a password: give parameter password by an authentication (NOAUTH)";
                self.fails(ErrorClass::Authentication, what.to_owned())
            }
            Reply::Error(line) => self.fails(ErrorClass::Query, format!("refuses {command}: {}", code(line))),
            _ => self.strange(),
        }
    }

    fn sign_in(&mut self, login: Option<Login<'_>>, database: u32) -> Result<(), PollError> {
        if let Some((user, password)) = login {
            let words: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password]).collect();
            match self.run(&words)? {
                Reply::Text(text) if text == "OK" => {}
                Reply::Error(line) => {
                    let what = format!("refuses the password of the authentication: {}", code(&line));
                    return Err(self.fails(ErrorClass::Authentication, what));
                }
                _ => return Err(self.strange()),
            }
        }
        if database > 0 {
            match self.run(&["SELECT", &database.to_string()])? {
                Reply::Text(text) if text == "OK" => {}
                other => return Err(self.refusal(&other, "SELECT")),
            }
        }
        Ok(())
    }

    /// Returns where a sentinel says that the master of this name is.
    fn master(&mut self, name: &str) -> Result<Node, PollError> {
        let found = self.run(&["SENTINEL", "get-master-addr-by-name", name])?;
        let node = match &found {
            Reply::Nothing => return Err(self.fails(ErrorClass::Query, format!("knows no master {name}"))),
            Reply::List(parts) => match &parts[..] {
                [Reply::Text(host), Reply::Text(port)] => Node::of(self.scheme(), host, port),
                _ => None,
            },
            _ => return Err(self.refusal(&found, "SENTINEL")),
        };
        node.ok_or_else(|| self.strange())
    }

    fn scheme(&self) -> &str {
        self.node.name.split(':').next().unwrap_or_default()
    }

    fn run(&mut self, words: &[&str]) -> Result<Reply, PollError> {
        // A text with a line break could be a command to a server that is no Redis.
        if words.iter().any(|word| word.chars().any(char::is_control)) {
            return Err(self.auth.fault("a parameter holds a line break or control character"));
        }
        if self.asks {
            self.stream.write(&encode(&["ASKING"]))?;
            self.read(DEPTH_MAX, &mut 0)?;
        }
        self.stream.write(&encode(words))?;
        self.read(DEPTH_MAX, &mut 0)
    }

    fn number(&mut self, words: &[&str]) -> Result<i64, PollError> {
        match self.run(words)? {
            Reply::Integer(number) => Ok(number),
            other => Err(self.refusal(&other, words[0])),
        }
    }

    /// Returns the node of a cluster that has the key of this command, if it is not this one, and whether it only will have it.
    fn moved(&mut self, words: &[&str]) -> Result<Option<(Node, bool)>, PollError> {
        let reply = self.run(words)?;
        let Reply::Error(line) = &reply else { return Ok(None) };
        // MOVED and ASK have a slot and an address.
        let mut parts = line.split(' ');
        match (parts.next(), parts.nth(1)) {
            (Some(kind @ ("MOVED" | "ASK")), Some(address)) => {
                let (host, port) = address.rsplit_once(':').unwrap_or_default();
                // Without a host it is another port of the same one.
                let host = if host.is_empty() { &self.node.host } else { host };
                Node::of(self.scheme(), host, port)
                    .map(|node| Some((node, kind == "ASK")))
                    .ok_or_else(|| self.strange())
            }
            (Some("CLUSTERDOWN"), _) => {
                Err(self.fails(ErrorClass::Status, "says that its cluster is down (CLUSTERDOWN)".to_owned()))
            }
            _ => Err(self.refusal(&reply, words[0])),
        }
    }

    fn read(&mut self, depth: usize, elements: &mut usize) -> Result<Reply, PollError> {
        *elements += 1;
        if *elements > ELEMENTS_MAX {
            return Err(self.strange());
        }
        let line = self.stream.line()?;
        match parse(&line).ok_or_else(|| self.strange())? {
            Line::Reply(reply) => Ok(reply),
            Line::Bulk(length) => {
                let mut text = self.stream.take(length + 2)?;
                text.truncate(length);
                Ok(Reply::Text(String::from_utf8_lossy(&text).into_owned()))
            }
            Line::List(count) => {
                let depth = depth.checked_sub(1).ok_or_else(|| self.strange())?;
                (0..count).map(|_| self.read(depth, elements)).collect::<Result<_, _>>().map(Reply::List)
            }
        }
    }
}

/// The error's own code, such as `WRONGPASS`.
fn code(line: &str) -> &str {
    let code = line.split(' ').next().unwrap_or_default();
    let is_code = !code.is_empty() && code.len() <= 32 && code.chars().all(|c| c.is_ascii_uppercase());
    if is_code { code } else { "an error" }
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    bytes.into_bytes()
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Reply(Reply),
    /// A text of so many bytes follows.
    Bulk(usize),
    /// So many elements follow.
    List(usize),
}

fn parse(line: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= TEXT_MAX)?;
    let (kind, rest) = text.split_at_checked(1)?;
    match kind {
        "+" => Some(Line::Reply(Reply::Text(rest.to_owned()))),
        ":" => rest.parse().ok().map(|number| Line::Reply(Reply::Integer(number))),
        "-" => Some(Line::Reply(Reply::Error(rest.to_owned()))),
        "$" | "*" if rest == "-1" => Some(Line::Reply(Reply::Nothing)),
        "$" => rest.parse().ok().filter(|length| *length <= TEXT_MAX).map(Line::Bulk),
        "*" => rest.parse().ok().filter(|count| *count <= ELEMENTS_MAX).map(Line::List),
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
            ("$-1", Some(Line::Reply(Reply::Nothing))),
            ("*2", Some(Line::List(2))),
            ("*-1", Some(Line::Reply(Reply::Nothing))),
            ("-WRONGPASS invalid pair", Some(Line::Reply(Reply::Error("WRONGPASS invalid pair".to_owned())))),
            ("$100000", None),
            ("*100000", None),
            ("*-2", None),
            (":x", None),
            ("HTTP/1.1 400 Bad Request", None),
            ("", None),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
        assert_eq!((is_type("stream"), is_type("ReJSON-RL"), is_type("220 mail ready")), (true, true, false));
        assert_eq!((code("WRONGPASS invalid pair"), code("root:x:0:0")), ("WRONGPASS", "an error"));
    }

    #[test]
    fn lags_of_groups() {
        let text = |text: &str| Reply::Text(text.to_owned());
        let group = |name: &str, lag: Option<Reply>| {
            let lag = lag.map(|lag| [text("lag"), lag]).into_iter().flatten();
            Reply::List([text("name"), text(name)].into_iter().chain(lag).collect())
        };
        let groups = [
            group("a", Some(Reply::Integer(7))),
            group("b", None),
            group("c", Some(Reply::Nothing)),
            group("d", Some(Reply::Integer(-1))),
            Reply::Nothing,
            Reply::List(vec![text("name")]),
        ];
        for (name, expected) in [
            ("a", Lag::Known(7)),
            ("b", Lag::Unsupported),
            ("c", Lag::Unknown),
            ("d", Lag::Unknown),
            ("e", Lag::NoGroup),
        ] {
            assert_eq!(lag(&groups, name), expected, "{name}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(paired("a, b", "1,2").as_deref(), Some("a:1,b:2"));
        assert_eq!(paired("a,b", "1"), None);
    }
}
