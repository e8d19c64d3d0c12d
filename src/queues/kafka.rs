//! Kafka: the lag of a consumer group.
//!
//! The first bootstrap server that answers says where the group's coordinator and the partitions' leaders are. They are
//! contacted only at addresses that triggers may name themselves, and get the credentials that the first one got.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::scram::{Mechanism, SHA_256, SHA_512, Scram, nonce};
use super::{Node, Poll, first_of};
use crate::formats::kafka as format;
use crate::formats::kafka::{ANSWER_MAX, Address, Api, Body, Topic};
use crate::identity::{Proof, Purpose};
use crate::polling::auth::Auth;
use crate::polling::request::TlsMaterial;
use crate::polling::stream::{Stream, Target};
use crate::polling::{Parameters, failed};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::kafka::Partition;
use crate::scaling::model::{AuthMode, AzureCloud, KafkaSource, Sasl, UnixMillis};

/// Upper bound on the brokers that one poll contacts, one after the other.
const BROKERS_MAX: usize = 100;

/// For messages.
const SCHEME: &str = "kafka";

/// Partitions by topic.
type Partitions<'a> = Vec<(&'a str, Vec<i32>)>;

impl Node {
    fn strange(&self) -> PollError {
        self.fails(ErrorClass::Response, "does not answer as Kafka does")
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

struct Connection<'a> {
    stream: Stream<'a>,
    node: &'a Node,
    /// Numbers the requests.
    sent: i32,
}

/// How to connect.
struct Access<'a> {
    poll: &'a Poll<'a>,
    tls: Option<TlsMaterial>,
    proof: Login,
}

enum Login {
    None,
    Plain { user: String, password: String },
    Scram { mechanism: &'static Mechanism, user: String, password: String },
    OAuthBearer { first: String },
}

pub(super) fn ask(poll: &Poll<'_>, source: &KafkaSource) -> Result<f64, PollError> {
    let servers = poll.given(source.bootstrap_servers.as_deref(), &["bootstrapServers"]);
    let nodes = Node::list(SCHEME, servers.ok_or_else(|| poll.missing("bootstrapServers"))?);
    let wrong = || poll.auth.fault("parameter bootstrapServers is not of the form host:port,host:port");
    let nodes = nodes.ok_or_else(wrong)?;
    let group = poll.given(source.group.as_deref(), &["consumerGroup"]).ok_or_else(|| poll.missing("consumerGroup"))?;
    let topics = poll.given(source.topics.as_deref(), &["topic"]);
    let topics: Vec<&str> =
        topics.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
    let access = Access { poll, tls: encryption(poll, source)?, proof: login(poll, source)? };

    let mut first = first_of(poll, &nodes, |node, deadline| access.connect(node, deadline))?;
    let answer = first.ask(format::FIND_COORDINATOR, format::find_coordinator(group))?;
    let found = format::read_coordinator(&answer).ok_or_else(|| first.node.strange())?;
    let found = found.map_err(|code| refusal(first.node, code, &format!("group {group}")))?;
    let coordinator = node_at(&found).ok_or_else(|| first.node.strange())?;
    let mut other = match coordinator.is(first.node) {
        true => None,
        false => Some(access.connect(&coordinator, poll.deadline)?),
    };

    let mut names: Vec<String> = topics.iter().map(|name| (*name).to_owned()).collect();
    if names.is_empty() {
        let found = committed(other.as_mut().unwrap_or(&mut first), group, None)?;
        names = found.into_iter().map(|topic| topic.name).collect();
    }
    if names.is_empty() {
        let what = format!("knows no topic of group {group}: name the topic, or let the group commit an offset first");
        return Err(coordinator.fails(ErrorClass::Query, what));
    }
    let (brokers, leaders) = leaders(&mut first, &names, source)?;
    let wanted = by_topic(leaders.iter().map(|(topic, partition, _)| (*topic, *partition)));
    let mut offsets = Offsets::new();
    for Topic { name, partitions } in committed(other.as_mut().unwrap_or(&mut first), group, Some(&wanted))? {
        for (partition, offset) in partitions {
            let offset = offset.map_err(|code| refusal(&coordinator, code, &named(partition, &name)))?;
            offsets.insert((name.clone(), partition), offset);
        }
    }

    let mut led: BTreeMap<i32, Vec<(&str, i32)>> = BTreeMap::new();
    leaders.iter().for_each(|(topic, partition, leader)| led.entry(*leader).or_default().push((*topic, *partition)));
    if led.len() > BROKERS_MAX {
        let what = format!("names more than {BROKERS_MAX} brokers that lead these partitions");
        return Err(first.node.fails(ErrorClass::Response, what));
    }
    // Filled for what is wanted, whatever else a broker may say.
    let key = |(topic, partition, _): &(&str, i32, i32)| ((*topic).to_owned(), *partition);
    let mut ends: BTreeMap<(String, i32), Option<i64>> = leaders.iter().map(|leader| (key(leader), None)).collect();
    for (leader, partitions) in led {
        let node = brokers.get(&leader).ok_or_else(|| first.node.strange())?;
        let mut own;
        let connection = if node.is(first.node) {
            &mut first
        } else if let Some(other) = other.as_mut().filter(|other| other.node.is(node)) {
            other
        } else {
            own = access.connect(node, poll.deadline)?;
            &mut own
        };
        connection.ends(&by_topic(partitions.into_iter()), &mut ends)?;
    }

    let mut before = source.rules.excludes_persistent.as_ref().map(|trigger| remember(trigger, &offsets, poll.at));
    let mut found = Vec::with_capacity(leaders.len());
    for key in leaders.iter().map(key) {
        let committed = *offsets.get(&key).ok_or_else(|| coordinator.strange())?;
        found.push(Partition {
            committed: (committed >= 0).then_some(committed),
            end: ends.remove(&key).flatten(),
            before: before.as_mut().and_then(|before| before.remove(&key)),
        });
    }
    Ok(source.rules.number(&found))
}

/// What a partition is called in messages.
fn named(partition: i32, topic: &str) -> String {
    format!("partition {partition} of topic {topic}")
}

fn encryption(poll: &Poll<'_>, source: &KafkaSource) -> Result<Option<TlsMaterial>, PollError> {
    let is_on = poll.encrypted(source.tls, "tls")?;
    is_on.then(|| poll.tls(source.unsafe_ssl)).transpose()
}

fn login(poll: &Poll<'_>, source: &KafkaSource) -> Result<Login, PollError> {
    let sasl = match (source.sasl, poll.auth.optional("sasl")) {
        (Some(_), Some(_)) => return Err(poll.auth.fault("sasl of the trigger and parameter sasl exclude each other")),
        (Some(sasl), None) => sasl,
        (None, None) => Sasl::None,
        (None, Some(name)) => {
            let known = Sasl::NAMES.iter().find(|(known, _)| *known == name);
            known.map(|(_, sasl)| *sasl).ok_or_else(|| {
                let names: Vec<&str> = Sasl::NAMES.iter().map(|(name, _)| *name).collect();
                poll.auth.fault(&format!("parameter sasl is none of {}", names.join(", ")))
            })?
        }
    };
    let credentials = || {
        let user = poll.auth.optional("username").ok_or_else(|| poll.missing("username"))?;
        let password = poll.auth.optional("password").ok_or_else(|| poll.missing("password"))?;
        Ok::<_, PollError>((user.to_owned(), password.to_owned()))
    };
    let scram = |mechanism| {
        let (user, password) = credentials()?;
        Ok(Login::Scram { mechanism, user, password })
    };
    match sasl {
        Sasl::None => Ok(Login::None),
        Sasl::Plain => credentials().map(|(user, password)| Login::Plain { user, password }),
        Sasl::ScramSha256 => scram(&SHA_256),
        Sasl::ScramSha512 => scram(&SHA_512),
        Sasl::OAuthBearer => {
            if poll.auth.optional("saslTokenProvider").is_some_and(|provider| provider != "bearer") {
                return Err(poll.auth.fault("parameter saslTokenProvider is not bearer, the only one that is served"));
            }
            let token = token(poll)?;
            let extensions = poll.auth.optional("oauthExtensions").unwrap_or_default();
            Ok(Login::OAuthBearer { first: bearer(&token, extensions).map_err(|why| poll.auth.fault(why))? })
        }
    }
}

/// Gets a token by the client credentials of the trigger, or of `oauth2` in its authentication.
fn token(poll: &Poll<'_>) -> Result<std::sync::Arc<String>, PollError> {
    let mut parameters = Parameters::new();
    let copied = ["oauthTokenURI", "clientID", "clientSecret", "scopes", "endpointParams", "ca"];
    for (name, kedas) in copied.into_iter().zip(["oauthTokenEndpointUri", "username", "password", "", "", ""]) {
        let value = Some(kedas).filter(|name| !name.is_empty()).and_then(|name| poll.auth.optional(name));
        if let Some(value) = poll.auth.optional(name).or(value) {
            parameters.insert(name.to_owned(), value.to_owned());
        }
    }
    let auth = Auth { parameters: &parameters, ..poll.auth };
    let nowhere = Purpose { url: "", aws_service: "", aws_region: None, azure_cloud: AzureCloud::Public };
    match poll.identity.prove(None, &[AuthMode::OAuth], &auth, nowhere)? {
        Proof::Bearer(token) => Ok(token),
        _ => Err(poll.missing("oauthTokenEndpointUri")),
    }
}

/// The message that begins OAUTHBEARER (RFC 7628), with Kafka's extensions `name=value,name=value`.
fn bearer(token: &str, extensions: &str) -> Result<String, &'static str> {
    let mut first = format!("n,,\u{1}auth=Bearer {token}\u{1}");
    for extension in extensions.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let is_pair = extension.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.contains('='));
        if !is_pair || extension.contains(char::is_control) {
            return Err("parameter oauthExtensions is not of the form name=value,name=value");
        }
        first.push_str(extension);
        first.push('\u{1}');
    }
    first.push('\u{1}');
    Ok(first)
}

impl Access<'_> {
    fn connect<'n>(&'n self, node: &'n Node, deadline: Instant) -> Result<Connection<'n>, PollError> {
        let Node { host, port, name } = node;
        let target = Target { host, port: *port, server: name, timeout: self.poll.timeout, deadline };
        let mut stream = self.poll.transport.connect(target)?;
        if let Some(tls) = &self.tls {
            stream = self.poll.transport.secure(stream, tls)?;
        }
        stream.allow(ANSWER_MAX);
        let mut connection = Connection { stream, node, sent: 0 };
        let answer = connection.ask(format::API_VERSIONS, Body::default())?;
        if let Err(Api { name, version, .. }) = format::read_versions(&answer).ok_or_else(|| node.strange())? {
            let what = format!("does not speak {name} in version {version}, as Kafka from 1.0 on does");
            return Err(node.fails(ErrorClass::Response, what));
        }
        connection.sign_in(&self.proof)?;
        Ok(connection)
    }
}

impl Connection<'_> {
    /// Sends a request, and returns its answer without its head.
    fn ask(&mut self, api: Api, body: Body) -> Result<Vec<u8>, PollError> {
        self.sent += 1;
        self.stream.write(&body.request(api, self.sent))?;
        let head = self.stream.take(4).map_err(|error| {
            // A broker hangs up on whoever should have signed in first.
            let hint = match api {
                format::API_VERSIONS => ": the port may want tls",
                format::FIND_COORDINATOR => ": it may want sasl",
                _ => "",
            };
            let closed = error.class == ErrorClass::Connect && !hint.is_empty();
            if closed { failed(error.class, format!("{}{hint}", error.message)) } else { error }
        })?;
        // An alert of TLS.
        if head.starts_with(&[0x15, 3]) {
            return Err(self.node.fails(ErrorClass::Tls, "speaks TLS: write tls: enable"));
        }
        let length = head.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let length = length.checked_sub(4).filter(|length| *length <= ANSWER_MAX).ok_or_else(|| self.node.strange())?;
        if self.stream.take(4)? != self.sent.to_be_bytes() {
            return Err(self.node.strange());
        }
        self.stream.take(length)
    }

    fn sign_in(&mut self, login: &Login) -> Result<(), PollError> {
        let node = self.node;
        let refused = |what: &str| node.fails(ErrorClass::Authentication, what);
        match login {
            Login::None => Ok(()),
            Login::Plain { user, password } => {
                self.handshake("PLAIN")?;
                self.step(format!("\0{user}\0{password}").as_bytes()).map(|_| ())
            }
            Login::Scram { mechanism, user, password } => {
                self.handshake(mechanism.name)?;
                let nonce = nonce().ok_or_else(|| refused("is not asked: there are no random numbers"))?;
                let mut scram = Scram::new(mechanism, user, password, nonce);
                let cheats = |why: &str| refused(&format!("cannot be trusted with the password: {why}"));
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| node.strange());
                let answer = text(self.step(scram.first_message().as_bytes())?)?;
                let last = scram.final_message(&answer).map_err(cheats)?;
                let answer = text(self.step(last.as_bytes())?)?;
                scram.verify(&answer).map_err(cheats)
            }
            Login::OAuthBearer { first } => {
                self.handshake("OAUTHBEARER")?;
                match self.step(first.as_bytes())?.is_empty() {
                    true => Ok(()),
                    // Says what the token lacks, in JSON.
                    false => Err(refused("refuses the token of the authentication")),
                }
            }
        }
    }

    fn handshake(&mut self, mechanism: &str) -> Result<(), PollError> {
        let answer = self.ask(format::SASL_HANDSHAKE, Body::default().text(mechanism))?;
        let (code, offered) = format::read_handshake(&answer).ok_or_else(|| self.node.strange())?;
        if code == 0 {
            return Ok(());
        }
        const OURS: [(&str, &str); 4] = [
            ("PLAIN", "plaintext"),
            ("SCRAM-SHA-256", "scram_sha256"),
            ("SCRAM-SHA-512", "scram_sha512"),
            ("OAUTHBEARER", "oauthbearer"),
        ];
        let ours = OURS.iter().filter(|(name, _)| offered.iter().any(|offered| offered == name));
        let ours: Vec<&str> = ours.map(|(_, sasl)| *sasl).collect();
        let fix = if ours.is_empty() { String::new() } else { format!(", but sasl: {}", ours.join(", ")) };
        let what = format!("does not take {mechanism}{fix}");
        Err(self.node.fails(ErrorClass::Authentication, what))
    }

    fn step(&mut self, said: &[u8]) -> Result<Vec<u8>, PollError> {
        let answer = self.ask(format::SASL_AUTHENTICATE, Body::default().bytes(said))?;
        match format::read_authenticate(&answer) {
            Some((0, said)) => Ok(said.to_vec()),
            Some(_) => {
                let what = "refuses the credentials of the authentication";
                Err(self.node.fails(ErrorClass::Authentication, what))
            }
            None => Err(self.node.strange()),
        }
    }
}

impl Connection<'_> {
    /// Finds the next offsets of these partitions, which the broker leads.
    fn ends(
        &mut self,
        partitions: &Partitions<'_>,
        ends: &mut BTreeMap<(String, i32), Option<i64>>,
    ) -> Result<(), PollError> {
        let answer = self.ask(format::LIST_OFFSETS, format::list_offsets(partitions))?;
        for Topic { name, partitions } in format::read_list_offsets(&answer).ok_or_else(|| self.node.strange())? {
            for (partition, end) in partitions {
                let end = end.map_err(|code| refusal(self.node, code, &named(partition, &name)))?;
                if let Some(slot) = ends.get_mut(&(name.clone(), partition)) {
                    *slot = Some(end);
                }
            }
        }
        Ok(())
    }
}

/// Returns the offsets that the group committed for these partitions, or for all that it has.
fn committed(
    coordinator: &mut Connection<'_>,
    group: &str,
    wanted: Option<&Partitions<'_>>,
) -> Result<Vec<Topic<i64>>, PollError> {
    let answer = coordinator.ask(format::OFFSET_FETCH, format::offset_fetch(group, wanted.map(Vec::as_slice)))?;
    let found = format::read_offset_fetch(&answer).ok_or_else(|| coordinator.node.strange())?;
    found.map_err(|code| refusal(coordinator.node, code, &format!("group {group}")))
}

fn node_at(address: &Address) -> Option<Node> {
    Node::of(SCHEME, &address.host, &address.port.to_string())
}

type Leaders<'a> = (BTreeMap<i32, Node>, Vec<(&'a str, i32, i32)>);

/// Returns all brokers, and topic, partition and leader of each partition that counts.
fn leaders<'a>(
    first: &mut Connection<'_>,
    names: &'a [String],
    source: &KafkaSource,
) -> Result<Leaders<'a>, PollError> {
    let topics: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = first.ask(format::METADATA, format::metadata(&topics))?;
    let node = first.node;
    let metadata = format::read_metadata(&answer).ok_or_else(|| node.strange())?;
    // One at an address that is none leads nothing.
    let brokers = metadata.brokers.iter().filter_map(|(id, address)| Some((*id, node_at(address)?))).collect();
    let counts = |partition: i32| {
        source
            .partitions
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(|(low, high)| (*low..=*high).contains(&partition)))
    };
    let mut found = Vec::new();
    for name in names {
        let topic = metadata.topics.iter().find(|(_, topic)| topic.name == *name);
        let (code, topic) = topic.ok_or_else(|| node.strange())?;
        if *code != 0 {
            return Err(refusal(node, *code, &format!("topic {name}")));
        }
        let before = found.len();
        for (partition, leader) in topic.partitions.iter().filter(|(partition, _)| counts(*partition)) {
            let leader = leader.map_err(|_| {
                node.fails(ErrorClass::Status, format!("has no leader of partition {partition} of {name}"))
            })?;
            found.push((name.as_str(), *partition, leader));
        }
        if found.len() == before {
            let what = format!("has no partition of topic {name} that partitionLimitation names");
            return Err(node.fails(ErrorClass::Query, what));
        }
    }
    Ok((brokers, found))
}

fn by_topic<'a>(partitions: impl Iterator<Item = (&'a str, i32)>) -> Partitions<'a> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    partitions.for_each(|(topic, partition)| topics.entry(topic).or_default().push(partition));
    topics.into_iter().collect()
}

/// Puts an error code in words.
fn refusal(node: &Node, code: i16, of: &str) -> PollError {
    let (class, what) = match code {
        3 | 17 => (ErrorClass::Query, format!("has no {of}")),
        29 => (ErrorClass::Authentication, format!("does not let the user describe {of}")),
        30 => (ErrorClass::Authentication, format!("does not let the user read {of}")),
        5 | 6 | 14 | 15 | 16 => {
            (ErrorClass::Status, format!("is not ready for {of}: a leader or a coordinator moves (error {code})"))
        }
        _ => (ErrorClass::Query, format!("answered error {code} of Kafka's for {of}")),
    };
    node.fails(class, what)
}

/// What triggers with `excludePersistentLag` saw: by trigger, when, and the committed offsets at that poll and the one before.
struct Memory {
    at: UnixMillis,
    offsets: Offsets,
    before: Offsets,
}

type Offsets = BTreeMap<(String, i32), i64>;

/// Shared, since a poll knows nothing of the one before. One lock of some microseconds a poll.
static MEMORIES: Mutex<BTreeMap<String, Memory>> = Mutex::new(BTreeMap::new());

/// Upper bound on the offsets that are remembered, of some hundred bytes each; those that were asked for longest ago go first.
const REMEMBERED_MAX: usize = 100_000;

/// Polls that follow each other faster, as after a change of the object, count as one.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Returns what the trigger saw at its poll before, and remembers what it sees now.
fn remember(trigger: &str, offsets: &Offsets, at: UnixMillis) -> Offsets {
    let mut memories = MEMORIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = match memories.remove(trigger) {
        None => Memory { at, offsets: offsets.clone(), before: Offsets::new() },
        Some(memory) if at.0 < memory.at.plus(AT_ONCE).0 => memory,
        Some(memory) => Memory { at, offsets: offsets.clone(), before: memory.offsets },
    };
    let found = before.before.clone();
    memories.insert(trigger.to_owned(), before);
    while memories.values().map(|memory| memory.offsets.len() + memory.before.len()).sum::<usize>() > REMEMBERED_MAX {
        let oldest = memories.iter().min_by_key(|(_, memory)| memory.at.0).map(|(trigger, _)| trigger.clone());
        oldest.map(|oldest| memories.remove(&oldest));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_compared_with_the_one_before() {
        let offsets = |offset| Offsets::from([(("t".to_owned(), 0), offset)]);
        let at = |seconds: i64| UnixMillis(seconds * 1_000);
        let see = |offset, seconds| remember("a test", &offsets(offset), at(seconds));
        assert_eq!(see(1, 0), Offsets::new());
        assert_eq!(see(1, 1), Offsets::new(), "at once");
        assert_eq!(see(2, 30), offsets(1));
        assert_eq!(see(2, 31), offsets(1), "at once");
        assert_eq!(see(2, 60), offsets(2));
        assert_eq!(remember("another", &offsets(1), at(60)), Offsets::new());
        // One with too many drives out the others, and then itself.
        let many: Offsets = (0..60_000).map(|partition| (("t".to_owned(), partition), 1)).collect();
        remember("many", &many, at(90));
        remember("many", &many, at(120));
        assert_eq!(see(2, 150), Offsets::new());
    }

    #[test]
    fn tokens_and_their_extensions() {
        assert_eq!(bearer("t", "").as_deref(), Ok("n,,\u{1}auth=Bearer t\u{1}\u{1}"));
        assert_eq!(bearer("t", "a=b, c=d").as_deref(), Ok("n,,\u{1}auth=Bearer t\u{1}a=b\u{1}c=d\u{1}\u{1}"));
        for bad in ["a", "=b", "a=b=c", "a=\u{1}"] {
            assert!(bearer("t", bad).is_err(), "{bad:?}");
        }
    }
}
