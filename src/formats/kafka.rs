//! Kafka's protocol: the requests that find the lag of a group, and their answers. Pure.
//!
//! Each request has the first version that every broker from Kafka 1.0 up to the newest speaks. Their layouts are in
//! Kafka's protocol guide. An answer is read as a whole or not at all, and nothing is reserved for what it only announces.

/// Upper bound on the bytes of an answer, of which each partition of a topic takes some fifty.
pub const ANSWER_MAX: usize = 256 << 10;

/// Upper bound on the entries of any list in an answer.
const LIST_MAX: usize = 10_000;

/// Upper bound on the bytes of a name: of a topic or a host.
const NAME_MAX: usize = 255;

/// The newest message of a partition, as a time to look up its offset for.
const LATEST: i64 = -1;

/// A request and the version in which it is sent and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    pub key: i16,
    pub version: i16,
    pub name: &'static str,
}

const fn api(key: i16, version: i16, name: &'static str) -> Api {
    Api { key, version, name }
}

pub const LIST_OFFSETS: Api = api(2, 1, "ListOffsets");
pub const METADATA: Api = api(3, 4, "Metadata");
pub const OFFSET_FETCH: Api = api(9, 3, "OffsetFetch");
pub const FIND_COORDINATOR: Api = api(10, 1, "FindCoordinator");
pub const SASL_HANDSHAKE: Api = api(17, 1, "SaslHandshake");
pub const API_VERSIONS: Api = api(18, 0, "ApiVersions");
pub const SASL_AUTHENTICATE: Api = api(36, 0, "SaslAuthenticate");

/// What a broker must speak.
pub const NEEDED: [Api; 4] = [LIST_OFFSETS, METADATA, OFFSET_FETCH, FIND_COORDINATOR];

/// Builds a request.
#[derive(Clone, Default)]
pub struct Body(Vec<u8>);

impl Body {
    #[must_use]
    pub fn number(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text of up to 32 KiB; a longer one is cut.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(&text.as_bytes()[..usize::from(length.unsigned_abs())]);
        self
    }

    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.length(bytes.len()).number(bytes)
    }

    /// The number of elements or bytes that follow.
    #[must_use]
    pub fn length(self, count: usize) -> Self {
        self.number(&i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes())
    }

    /// Partitions by topic, each followed by what `with` writes.
    fn topics(mut self, topics: &[(&str, Vec<i32>)], with: &[u8]) -> Self {
        self = self.length(topics.len());
        for (topic, partitions) in topics {
            self = self.text(topic).length(partitions.len());
            for partition in partitions {
                self = self.number(&partition.to_be_bytes()).number(with);
            }
        }
        self
    }

    /// Returns the whole message.
    #[must_use]
    pub fn request(self, api: Api, correlation: i32) -> Vec<u8> {
        let head = Self::default().number(&api.key.to_be_bytes()).number(&api.version.to_be_bytes());
        let head = head.number(&correlation.to_be_bytes()).text("hpalite");
        Self::default().length(head.0.len() + self.0.len()).number(&head.0).number(&self.0).0
    }
}

/// Asks for the partitions of these topics, without creating any.
#[must_use]
pub fn metadata(topics: &[&str]) -> Body {
    let body = Body::default().length(topics.len());
    topics.iter().fold(body, |body, topic| body.text(topic)).number(&[0])
}

#[must_use]
pub fn find_coordinator(group: &str) -> Body {
    // The key is the name of a group.
    Body::default().text(group).number(&[0])
}

/// Asks for the committed offsets of these topics, or of all that the group has.
#[must_use]
pub fn offset_fetch(group: &str, topics: Option<&[(&str, Vec<i32>)]>) -> Body {
    let body = Body::default().text(group);
    match topics {
        Some(topics) => body.topics(topics, &[]),
        None => body.number(&(-1_i32).to_be_bytes()),
    }
}

#[must_use]
pub fn list_offsets(topics: &[(&str, Vec<i32>)]) -> Body {
    // Asked by a client, which is no replica.
    Body::default().number(&(-1_i32).to_be_bytes()).topics(topics, &LATEST.to_be_bytes())
}

/// Reads an answer from its begin.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn short(&mut self) -> Option<i16> {
        self.number().map(i16::from_be_bytes)
    }

    fn int(&mut self) -> Option<i32> {
        self.number().map(i32::from_be_bytes)
    }

    fn long(&mut self) -> Option<i64> {
        self.number().map(i64::from_be_bytes)
    }

    /// A name that is printable ASCII, so that it can be shown.
    fn name(&mut self) -> Option<String> {
        let length = usize::try_from(self.short()?).ok().filter(|length| *length <= NAME_MAX)?;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.to_owned())
    }

    /// A text that may be null, and is of no interest.
    fn skip_text(&mut self) -> Option<()> {
        match usize::try_from(self.short()?) {
            Ok(length) => self.take(length).map(|_| ()),
            Err(_) => Some(()),
        }
    }

    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // A negative one is that of a list that is null.
        let count = usize::try_from(self.int()?).unwrap_or(0);
        let mut found = Vec::new();
        for _ in 0..Some(count).filter(|count| *count <= LIST_MAX)? {
            found.push(element(self)?);
        }
        Some(found)
    }

    fn end<T>(&self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }
}

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

fn address(read: &mut Reader<'_>) -> Option<Address> {
    let host = read.name()?;
    Some(Address { host, port: u16::try_from(read.int()?).ok()? })
}

/// The answer to [`API_VERSIONS`]: the first needed request that the broker does not speak.
#[must_use]
pub fn read_versions(answer: &[u8]) -> Option<Result<(), Api>> {
    let mut read = Reader(answer);
    let code = read.short()?;
    let spoken = read.list(|read| Some((read.short()?, read.short()?, read.short()?)))?;
    read.end(())?;
    if code != 0 {
        return None;
    }
    let speaks =
        |api: &Api| spoken.iter().any(|(key, low, high)| *key == api.key && (*low..=*high).contains(&api.version));
    Some(NEEDED.into_iter().find(|api| !speaks(api)).map_or(Ok(()), Err))
}

/// The answer to [`SASL_HANDSHAKE`]: an error code, and the mechanisms that there are.
#[must_use]
pub fn read_handshake(answer: &[u8]) -> Option<(i16, Vec<String>)> {
    let mut read = Reader(answer);
    let found = (read.short()?, read.list(Reader::name)?);
    read.end(found)
}

/// The answer to [`SASL_AUTHENTICATE`]: an error code, and what the server says by the mechanism.
#[must_use]
pub fn read_authenticate(answer: &[u8]) -> Option<(i16, &[u8])> {
    let mut read = Reader(answer);
    let code = read.short()?;
    read.skip_text()?;
    let length = usize::try_from(read.int()?).unwrap_or(0);
    let said = read.take(length)?;
    read.end((code, said))
}

/// The answer to [`FIND_COORDINATOR`]: an error code, or where it is.
#[must_use]
pub fn read_coordinator(answer: &[u8]) -> Option<Result<Address, i16>> {
    let mut read = Reader(answer);
    let (_throttled, code) = (read.int()?, read.short()?);
    read.skip_text()?;
    let _id = read.int()?;
    if code != 0 {
        return Some(Err(code));
    }
    let found = address(&mut read)?;
    read.end(Ok(found))
}

/// A topic of an answer, with an error code or its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic<T> {
    pub name: String,
    pub partitions: Vec<(i32, Result<T, i16>)>,
}

/// The answer to [`METADATA`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub brokers: Vec<(i32, Address)>,
    /// With each partition's leader, or the error codes of topics and partitions.
    pub topics: Vec<(i16, Topic<i32>)>,
}

#[must_use]
pub fn read_metadata(answer: &[u8]) -> Option<Metadata> {
    let mut read = Reader(answer);
    let _throttled = read.int()?;
    let brokers = read.list(|read| {
        let broker = (read.int()?, address(read)?);
        read.skip_text()?;
        Some(broker)
    })?;
    read.skip_text()?;
    let _controller = read.int()?;
    let topics = read.list(|read| {
        let (code, name) = (read.short()?, read.name()?);
        let _is_internal = read.take(1)?;
        let partitions = read.list(|read| {
            let (code, partition, leader) = (read.short()?, read.int()?, read.int()?);
            let (_replicas, _in_sync) = (read.list(Reader::int)?, read.list(Reader::int)?);
            Some((partition, if leader < 0 { Err(code) } else { Ok(leader) }))
        })?;
        Some((code, Topic { name, partitions }))
    })?;
    read.end(Metadata { brokers, topics })
}

/// The answer to [`OFFSET_FETCH`]: an error code, or the offset that the group committed for each partition, -1 for none.
#[must_use]
pub fn read_offset_fetch(answer: &[u8]) -> Option<Result<Vec<Topic<i64>>, i16>> {
    let mut read = Reader(answer);
    let _throttled = read.int()?;
    let topics = read.list(|read| {
        let name = read.name()?;
        let partitions = read.list(|read| {
            let (partition, offset) = (read.int()?, read.long()?);
            read.skip_text()?;
            let code = read.short()?;
            Some((partition, if code == 0 { Ok(offset) } else { Err(code) }))
        })?;
        Some(Topic { name, partitions })
    })?;
    let code = read.short()?;
    read.end(if code == 0 { Ok(topics) } else { Err(code) })
}

/// The answer to [`LIST_OFFSETS`]: the offset of the next message of each partition.
#[must_use]
pub fn read_list_offsets(answer: &[u8]) -> Option<Vec<Topic<i64>>> {
    let mut read = Reader(answer);
    let topics = read.list(|read| {
        let name = read.name()?;
        let partitions = read.list(|read| {
            let (partition, code, _time, offset) = (read.int()?, read.short()?, read.long()?, read.long()?);
            Some((partition, if code == 0 { Ok(offset) } else { Err(code) }))
        })?;
        Some(Topic { name, partitions })
    })?;
    read.end(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let bytes = metadata(&["jobs"]).request(METADATA, 7);
        assert_eq!(bytes, b"\0\0\0\x1c\0\x03\0\x04\0\0\0\x07\0\x07hpalite\0\0\0\x01\0\x04jobs\0");
        let of_all = offset_fetch("g", None).request(OFFSET_FETCH, 1);
        assert_eq!(of_all, b"\0\0\0\x18\0\x09\0\x03\0\0\0\x01\0\x07hpalite\0\x01g\xff\xff\xff\xff");
        let newest = list_offsets(&[("t", vec![3])]);
        let expected = b"\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(newest.0, expected);
    }

    #[test]
    fn answers() {
        let versions = |high: i16| {
            let mut bytes = b"\0\0\0\0\0\x04".to_vec();
            for api in NEEDED {
                let high = if api == METADATA { high } else { 9 };
                [api.key, 0, high].iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
            }
            read_versions(&bytes)
        };
        assert_eq!((versions(4), versions(3)), (Some(Ok(())), Some(Err(METADATA))));
        assert_eq!(read_handshake(b"\0\x21\0\0\0\x01\0\x05PLAIN"), Some((33, vec!["PLAIN".to_owned()])));
        assert_eq!(read_authenticate(b"\0\0\xff\xff\0\0\0\x02ok"), Some((0, &b"ok"[..])));
        assert_eq!(read_authenticate(b"\0\x3a\0\x03bad\0\0\0\0"), Some((58, &b""[..])));
        let here = Address { host: "b".to_owned(), port: 9092 };
        let found = b"\0\0\0\0\0\0\xff\xff\0\0\0\x01\0\x01b\0\0\x23\x84";
        assert_eq!(read_coordinator(found), Some(Ok(here.clone())));
        assert_eq!(read_coordinator(b"\0\0\0\0\0\x0f\xff\xff\xff\xff\xff\xff\0\0\xff\xff\xff\xff"), Some(Err(15)));
        let bytes =
            b"\0\0\0\0\0\0\0\x01\0\0\0\x01\0\x01b\0\0\x23\x84\xff\xff\0\x01c\0\0\0\x01\0\0\0\x01\0\0\0\x04jobs\0\
            \0\0\0\x02\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\
            \0\x05\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0";
        let partitions = vec![(0, Ok(1)), (1, Err(5))];
        let topics = vec![(0, Topic { name: "jobs".to_owned(), partitions })];
        assert_eq!(read_metadata(bytes), Some(Metadata { brokers: vec![(1, here)], topics }));
        let bytes = b"\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0";
        let topics = vec![Topic { name: "t".to_owned(), partitions: vec![(0, Ok(42))] }];
        assert_eq!(read_offset_fetch(bytes), Some(Ok(topics.clone())));
        let bytes = b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x2a";
        assert_eq!(read_list_offsets(bytes), Some(topics));
        // Cut off anywhere, or with something behind it, it is no answer.
        for end in 0..bytes.len() {
            assert_eq!(read_list_offsets(&bytes[..end]), None, "{end}");
        }
        assert_eq!(read_list_offsets(&[&bytes[..], b"x"].concat()), None);
    }

    #[test]
    fn lies() {
        for bad in [
            &b"\x7f\xff\xff\xff"[..],
            b"\0\0\x27\x11",
            b"\0\0\0\x01\x7f\xff",
            b"\0\0\0\x01\xff\xff\0\0\0\0",
            b"\0\0\0\x01\0\x01\x07\0\0\0\0",
            b"\0\0\0\x01\0\x01t\x7f\xff\xff\xff",
        ] {
            assert_eq!(read_list_offsets(bad), None, "{bad:?}");
        }
        // Such a port is none.
        assert_eq!(read_coordinator(b"\0\0\0\0\0\0\xff\xff\0\0\0\x01\0\x01b\0\x01\0\0"), None);
    }
}
