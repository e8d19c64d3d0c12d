//! Sources of other protocols, against scripted servers, hostile ones among them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hpalite::outbound::names::Names;
use hpalite::outbound::networks::Rules;
use hpalite::scaling::event::{Answer, Credentials, ErrorClass, PollJob};
use hpalite::scaling::model::{
    AuthenticationKind, Exact, KafkaSource, LagRules, ParameterSource, PostgresSource, PrometheusSource, Query,
    QueueMeasure, RabbitMqSource, RedisSetup, RedisSize, RedisSource, Server, SqsSource, UnixMillis,
};
use hpalite::sources::Asker;

use super::credentials::{FakeSource, credentials};
use super::poller::asker;
use super::setup::{assert_failed, loopback, transport_of, transport_within};
use crate::support::fake_prometheus::{FakePrometheus, Reply};
use crate::support::sigv4::{Known, verify};

pub(crate) fn ask(asker: &Asker, query: Query, credentials: Option<Credentials>) -> Answer {
    let job = PollJob { id: 1, server: query.server().into(), query, credentials, group: None, due_at: UnixMillis(0) };
    asker.ask(job).answer
}

pub(crate) fn given(parameters: &[(&str, &str)]) -> Option<Credentials> {
    let value = |(name, text): &(&str, &str)| ParameterSource::Value {
        parameter: (*name).to_owned(),
        value: (*text).to_owned(),
    };
    let sources: Vec<_> = parameters.iter().map(value).collect();
    Some(credentials(AuthenticationKind::TriggerAuthentication, &sources))
}

fn redis(address: &str) -> Query {
    Query::Redis(Arc::new(RedisSource {
        server: Server::Written(format!("redis://{address}")),
        address: Some(address.to_owned()),
        setup: RedisSetup::Single,
        sentinel_master: None,
        size: RedisSize::Collection("jobs".to_owned()),
        database: 0,
        tls: None,
        unsafe_ssl: false,
    }))
}

fn kafka(servers: &str) -> Query {
    Query::Kafka(Arc::new(KafkaSource {
        server: Server::Written(format!("kafka://{servers}")),
        kind: "kafka",
        bootstrap_servers: Some(servers.to_owned()),
        group: Some("shop".to_owned()),
        topics: Some("jobs".to_owned()),
        partitions: None,
        rules: LagRules { threshold: 10, ..LagRules::default() },
        sasl: None,
        tls: None,
        unsafe_ssl: false,
    }))
}

/// Answers of a broker that speaks what is needed: their bodies, numbered from 1, after that of `ApiVersions`.
fn broker(answers: &[&[u8]]) -> &'static [u8] {
    let versions = b"\0\0\0\0\0\x04\0\x02\0\0\0\x09\0\x03\0\0\0\x09\0\x09\0\0\0\x09\0\x0a\0\0\0\x09";
    let all = [&[&versions[..]], answers].concat();
    let message = |(number, body): (u32, &&[u8])| {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&length.to_be_bytes(), &number.to_be_bytes(), *body].concat()
    };
    (1..).zip(&all).flat_map(message).collect::<Vec<u8>>().leak()
}

#[test]
fn brokers_that_lie_harm_nobody() {
    let asker = impatient();
    let coordinator = |host: &str, port: u16| {
        let host = [&u16::try_from(host.len()).unwrap().to_be_bytes(), host.as_bytes()].concat();
        [b"\0\0\0\0\0\0\xff\xff\0\0\0\x01", host.as_slice(), &u32::from(port).to_be_bytes()].concat()
    };
    let node = coordinator("169.254.169.254", 80);
    let nobody = b"\0\0\0\0\0\x0f\xff\xff\xff\xff\xff\xff\0\0\xff\xff\xff\xff";
    let lacks = b"\0\0\0\0\0\x01\0\x03\0\0\0\x03";
    for (bytes, forever, class, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, ErrorClass::Response, "does not answer as Kafka does"),
        (b"\x15\x03\x03\0\x02\x02\x0a", false, ErrorClass::Tls, "speaks TLS: write tls: enable"),
        // Announces 128 KiB, and an answer to another question.
        (b"\0\x02\0\0\0\0\0\x01", false, ErrorClass::Timeout, "within 1s"),
        (b"\0\0\0\x06\0\0\0\x02\0\0", false, ErrorClass::Response, "does not answer as Kafka does"),
        (b"\0\x04\0\x04\0\0\0\x01", true, ErrorClass::Response, "answered more than 256 KiB"),
        (b"\0\0\0\x0a\0\0\0\x01\0\0\x7f\xff\xff\xff", false, ErrorClass::Response, "does not answer as Kafka does"),
        (
            &[b"\0\0\0\x10\0\0\0\x01", &lacks[..]].concat().leak()[..],
            false,
            ErrorClass::Response,
            "does not speak ListOffsets in version 1",
        ),
        (broker(&[nobody]), false, ErrorClass::Status, "is not ready for group shop"),
        // It would have the metadata service of the node asked.
        (broker(&[&node]), false, ErrorClass::Configuration, "kafka://169.254.169.254:80 is not asked"),
    ] {
        let port = saying(bytes, forever);
        assert_failed(ask(&asker, kafka(&format!("127.0.0.1:{port}")), None), class, words);
    }
    // The next bootstrap server is asked where one does not answer, and nobody where one refuses the credentials.
    let port = saying(broker(&[nobody]), false);
    let answer = ask(&asker, kafka(&format!("127.0.0.1:1,127.0.0.1:{port}")), None);
    assert_failed(answer, ErrorClass::Status, "is not ready");
    let missing = ask(&asker, kafka("127.0.0.1:1"), given(&[("sasl", "plaintext"), ("username", "u")]));
    assert_failed(missing, ErrorClass::Authentication, "parameter password is not set");
}

fn postgres(port: u16) -> Query {
    let text = |text: &str| Some(text.to_owned());
    Query::Postgres(Arc::new(PostgresSource {
        server: Server::Written(format!("postgresql://127.0.0.1:{port}")),
        query: "SELECT 1".to_owned(),
        host: text("127.0.0.1"),
        port: Some(port.to_string()),
        user: text("me"),
        database: text("shop"),
        ssl_mode: text("disable"),
    }))
}

/// Answers whatever is said with these bytes, again and again if they must not end; returns its port.
fn saying(bytes: &'static [u8], forever: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming().take(4) {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 1024]);
            let bytes = bytes.repeat(if forever { 1_000 } else { 1 });
            // Until the client hangs up.
            while socket.write_all(&bytes).is_ok() && forever {}
            let _ = socket.read_to_end(&mut Vec::new());
        }
    });
    port
}

/// A client with a short time limit.
fn impatient() -> Asker {
    let mut asker = asker(&Arc::new(FakeSource::default()));
    let rules = loopback();
    asker.transport = Arc::new(transport_within(Duration::from_secs(1), rules));
    asker
}

#[test]
fn servers_that_are_something_else_or_never_end_are_told_apart() {
    let asker = impatient();
    for (bytes, forever, class, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, ErrorClass::Response, "does not answer as Redis does"),
        (b"-NOAUTH Authentication required.\r\n", false, ErrorClass::Authentication, "wants a password"),
        (b"-ERR secret words\r\n", false, ErrorClass::Query, "refuses TYPE: ERR"),
        (b"x", true, ErrorClass::Response, "answered more than 256 KiB"),
        (b"", false, ErrorClass::Timeout, "within 1s"),
    ] {
        let answer = ask(&asker, redis(&format!("127.0.0.1:{}", saying(bytes, forever))), None);
        assert_failed(answer.clone(), class, words);
        let Answer::Failed(error) = answer else { panic!() };
        assert!(!error.message.contains("secret words"), "{}", error.message);
    }
    for (bytes, forever, class, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, ErrorClass::Response, "does not answer as PostgreSQL does"),
        (b"R\0\0\0\x0a\0\0\0\x05sa", false, ErrorClass::Response, "does not answer as PostgreSQL does"),
        (b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", false, ErrorClass::Timeout, "within 1s"),
        // It signs us in without a proof that it knows the password.
        (b"R\0\0\0\x08\0\0\0\x0a", false, ErrorClass::Authentication, "a kind of authentication that is not supported"),
        (b"N\x7f\xff\xff\xff", false, ErrorClass::Response, "does not answer as PostgreSQL does"),
        (b"S\0\0\0\x04", true, ErrorClass::Response, "answered more than 64 KiB"),
    ] {
        let answer = ask(&asker, postgres(saying(bytes, forever)), given(&[("password", "p")]));
        assert_failed(answer, class, words);
    }
}

#[test]
fn addresses_of_queues_are_judged() {
    let mut asker = asker(&Arc::new(FakeSource::default()));
    asker.transport = Arc::new(transport_of(&[], Rules::default(), Names::new(1)));
    for host in ["127.0.0.1", "localhost", "169.254.169.254"] {
        let answer = ask(&asker, redis(&format!("{host}:6379")), None);
        assert_failed(answer, ErrorClass::Configuration, &format!("redis://{host}:6379 is not asked: "));
    }
    // So is what an authentication says.
    let elsewhere = Query::Redis(Arc::new(RedisSource {
        server: Server::Elsewhere("redis of TriggerAuthentication shop/prom".to_owned()),
        address: None,
        setup: RedisSetup::Single,
        sentinel_master: None,
        size: RedisSize::Collection("jobs".to_owned()),
        database: 0,
        tls: None,
        unsafe_ssl: false,
    }));
    let answer = ask(&asker, elsewhere.clone(), given(&[("address", "127.0.0.1:6379")]));
    assert_failed(answer, ErrorClass::Configuration, "redis://127.0.0.1:6379 is not asked: ");
    assert_failed(ask(&asker, elsewhere, given(&[])), ErrorClass::Authentication, "parameter address is not set");
    // No password becomes a command to something that is no Redis.
    let smuggled = ask(&impatient(), redis("127.0.0.1:1"), given(&[("password", "a\r\nFLUSHALL")]));
    assert_failed(smuggled, ErrorClass::Connect, "connection refused");
    let port = saying(b"+OK\r\n", true);
    let smuggled = ask(&impatient(), redis(&format!("127.0.0.1:{port}")), given(&[("password", "a\r\nFLUSHALL")]));
    assert_failed(smuggled, ErrorClass::Authentication, "holds a line break");
}

#[test]
fn a_loki_and_a_rabbitmq_are_asked_over_http() {
    let fake = FakePrometheus::start(|request| match request.target.split('?').next() {
        Some("/loki/api/v1/query") if request.header("x-scope-orgid") == Some("team") => Reply::value("0.5"),
        Some("/api/queues/shop/or%2Fders") if request.header("authorization") == Some("Basic dTpw") => {
            Reply::json(r#"{"messages":4,"messages_ready":1}"#)
        }
        _ => Reply::status(404, ""),
    });
    let asker = asker(&Arc::new(FakeSource::default()));
    let loki = PrometheusSource {
        server_address: fake.url(),
        query: "sum(rate({a=\"b\"}[1m]))".to_owned(),
        custom_headers: vec![("X-Scope-OrgID".to_owned(), "team".to_owned())],
        api: "/loki",
        ..PrometheusSource::default()
    };
    assert_eq!(ask(&asker, Query::Loki(Arc::new(loki)), None), Answer::Value(0.5));
    let rabbit = |queue: &str| {
        Query::RabbitMq(Arc::new(RabbitMqSource {
            server: Server::Elsewhere("rabbitmq".to_owned()),
            host: None,
            vhost: Some("shop".to_owned()),
            queue: queue.to_owned(),
            measure: QueueMeasure::Length,
            regex: None,
            excludes_unacknowledged: false,
            activation: Exact(0.0),
            unsafe_ssl: false,
            timeout: None,
        }))
    };
    let host = fake.url().replace("http://", "http://u:p@");
    assert_eq!(ask(&asker, rabbit("or/ders"), given(&[("host", &host)])), Answer::Value(4.0));
    let gone = ask(&asker, rabbit("gone"), given(&[("host", &host)]));
    assert_failed(gone, ErrorClass::Status, &format!("{} has no queue gone", fake.url()));
    let other = ask(&asker, rabbit("gone"), given(&[("host", "stomp://u:secret@rabbit/")]));
    assert_failed(other, ErrorClass::Authentication, "parameter host is not an http or https or amqp or amqps URL");
}

#[test]
fn a_queue_of_amazons_is_asked_with_a_signature() {
    let fake = FakePrometheus::start(|request| {
        let known = [Known { id: "AKIDSHOP", secret: "secret", session: Some("session") }];
        if let Err(why) = verify(request, "sqs", &known) {
            return Reply::status(403, &format!(r#"{{"__type":"com.amazon.coral.service#{}"}}"#, why.replace(' ', "")));
        }
        assert_eq!(request.header("content-type"), Some("application/x-amz-json-1.0"));
        assert_eq!(request.header("x-amz-target"), Some("AmazonSQS.GetQueueAttributes"));
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["AttributeNames"].as_array().map(Vec::len), Some(2));
        match body["QueueUrl"].as_str() {
            Some("orders") => Reply::json(
                r#"{"Attributes":{"ApproximateNumberOfMessages":"7","ApproximateNumberOfMessagesNotVisible":"2"}}"#,
            ),
            _ => Reply::status(400, r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no"}"#),
        }
    });
    let asker = asker(&Arc::new(FakeSource::default()));
    let sqs = |queue: &str| {
        Query::Sqs(Arc::new(SqsSource {
            server: Server::Written(fake.url()),
            endpoint: Some(fake.url()),
            queue: Some(queue.to_owned()),
            region: Some("eu-west-1".to_owned()),
            in_flight: true,
            delayed: false,
        }))
    };
    let keys = |secret| {
        given(&[("awsAccessKeyID", "AKIDSHOP"), ("awsSecretAccessKey", secret), ("awsSessionToken", "session")])
    };
    assert_eq!(ask(&asker, sqs("orders"), keys("secret")), Answer::Value(9.0));
    let gone = format!("{} answered status 400 for queue gone: QueueDoesNotExist", fake.url());
    assert_failed(ask(&asker, sqs("gone"), keys("secret")), ErrorClass::Status, &gone);
    assert_failed(ask(&asker, sqs("orders"), keys("wrong")), ErrorClass::Status, "thesignatureiswrong");
    assert_failed(ask(&asker, sqs("orders"), given(&[])), ErrorClass::Authentication, "neither podIdentity aws nor");
}
