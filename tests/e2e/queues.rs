//! Triggers that ask queues and databases: the real servers, and a control plane that scales by them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hpalite::scaling::event::Answer;
use hpalite::scaling::model::ApiGroup;
use hpalite::wire::{Servers, scaled_object};
use serde_json::{Value, json};

use super::case::Case;
use crate::prometheus::credentials::FakeSource;
use crate::prometheus::poller::asker;
use crate::prometheus::queues::{ask, given};
use crate::support::cluster::{try_http_get, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply, Request};
use crate::support::kafka::{self, Kafka};
use crate::support::prometheus::Prometheus;
use crate::support::servers::{Nats, PASSWORD, PlainRedis, Postgres, RabbitMq, Redis};
use crate::support::sigv4::{Known, verify};

/// One kind of server, and how it is asked.
struct Kind {
    name: &'static str,
    /// The trigger for five of what waits a replica, active above one.
    trigger: Value,
    /// Parameters of its authentication, by Secret.
    secret: Value,
    /// What to write into the metadata so that a queue is missing, and what is said then.
    missing: (Value, &'static str),
    /// What is said with a wrong password.
    refused: Option<&'static str>,
    /// What to write into the metadata so that nobody answers.
    dead: Value,
}

impl Kind {
    fn changed(&self, change: &Value) -> Value {
        let mut trigger = self.trigger.clone();
        trigger["metadata"] = with(trigger["metadata"].clone(), change);
        trigger
    }
}

/// Puts so many messages into a queue that was empty, or none.
type Fill<'a> = &'a dyn Fn(usize);

fn goes_from_zero_up_and_back(kind: &Kind, fill: Fill<'_>) {
    let case = Case::new(kind.name).deployment(0);
    let secret = |change: Option<&str>| {
        let mut data = kind.secret.clone();
        if let Some(password) = change {
            data["password"] = password.into();
        }
        case.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "queue", "namespace": case.namespace },
            "stringData": data,
        }));
    };
    let references = kind.secret.as_object().unwrap().keys();
    let references = references.map(|name| json!({ "parameter": name, "name": "queue", "key": name }));
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "queue", "namespace": case.namespace },
        "spec": { "secretTargetRef": references.collect::<Vec<_>>() },
    }));
    let scale = |mut trigger: Value| {
        if kind.secret.as_object().is_some_and(|secret| !secret.is_empty()) {
            trigger["authenticationRef"] = json!({ "name": "queue" });
        }
        case.scale("so", json!({ "triggers": [trigger] }));
    };
    // Mistakes first, each told in words, and none moves anything.
    if let Some(words) = kind.refused {
        secret(Some("wrong"));
        scale(kind.trigger.clone());
        let text = case.wait_for_event("KEDAScalerFailed", words);
        assert!(!text.contains("wrong\"") && !text.contains(PASSWORD), "{text}");
    }
    secret(None);
    let (change, words) = &kind.missing;
    if !words.is_empty() {
        scale(kind.changed(change));
        case.wait_for_event("KEDAScalerFailed", words);
    }
    scale(kind.changed(&kind.dead));
    case.wait_for_event("KEDAScalerFailed", ":1: connection refused");
    assert_eq!(case.replicas(), 0);
    fill(1);
    scale(kind.trigger.clone());
    case.wait_until_ready();
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    fill(15);
    case.wait_for_replicas(3);
    assert_eq!(case.object("so")["status"]["triggersTypes"], kind.trigger["type"]);
    fill(0);
    case.wait_for_replicas(0);
}

#[test]
fn replicas_follow_queues_and_databases() {
    // It takes longest to start.
    let rabbit = RabbitMq::start();
    let redis = Redis::start();
    let address = format!("127.0.0.1:{}", redis.port);
    let kind = Kind {
        name: "redis",
        trigger: json!({ "type": "redis", "metadata": { "address": address, "listName": "jobs", "listLength": "5",
            "activationListLength": "1", "databaseIndex": "3", "enableTLS": "true" } }),
        secret: json!({ "password": PASSWORD, "ca": redis.ca }),
        missing: (json!({ "listName": "text" }), "has a string as text, not a list"),
        refused: Some("refuses the password of the authentication: WRONGPASS"),
        dead: json!({ "address": "127.0.0.1:1" }),
    };
    redis.run(&["SET", "text", "x"]);
    goes_from_zero_up_and_back(&kind, &|count| {
        redis.run(&["DEL", "jobs"]);
        (0..count).for_each(|_| drop(redis.run(&["LPUSH", "jobs", "x"])));
    });

    let postgres = Postgres::start();
    let metadata = json!({ "query": "SELECT count(*) FROM jobs", "targetQueryValue": "5", "activationTargetQueryValue": "1",
        "host": "localhost", "port": postgres.port.to_string(), "userName": "keda", "dbName": "postgres",
        "sslmode": "verify-full" });
    let old = with(metadata.clone(), &json!({ "userName": "old" }));
    let password = |text: &'static str| [("password", text), ("ca", postgres.ca.as_str())];
    assert_eq!(asked("postgresql", &old, &password(PASSWORD)), Ok(0.0));
    assert!(asked("postgresql", &old, &password("other")).unwrap_err().contains("the password is wrong"));
    let kind = Kind {
        name: "postgresql",
        trigger: json!({ "type": "postgresql", "metadata": metadata }),
        secret: json!({ "password": PASSWORD, "ca": postgres.ca }),
        missing: (json!({ "query": "SELECT 1 FROM nowhere" }), "a table of the query does not exist (SQLSTATE 42P01)"),
        refused: Some("the password is wrong (SQLSTATE 28P01)"),
        dead: json!({ "port": "1" }),
    };
    goes_from_zero_up_and_back(&kind, &|count| {
        postgres.run(&format!("TRUNCATE jobs; INSERT INTO jobs SELECT generate_series(1, {count})"));
    });

    let nats = Nats::start();
    let kind = Kind {
        name: "nats",
        trigger: json!({ "type": "nats-jetstream", "metadata": {
            "natsServerMonitoringEndpoint": format!("127.0.0.1:{}", nats.monitoring), "account": "$G", "stream": "orders",
            "consumer": "pull", "lagThreshold": "5", "activationLagThreshold": "1" } }),
        secret: json!({}),
        missing: (json!({ "consumer": "push" }), "knows no consumer push of stream orders"),
        refused: None,
        dead: json!({ "natsServerMonitoringEndpoint": "127.0.0.1:1" }),
    };
    goes_from_zero_up_and_back(&kind, &|count| {
        nats.purge();
        nats.publish(count);
    });

    rabbit.call("PUT", "/queues/%2F/orders", &json!({}));
    let host = format!("http://127.0.0.1:{}/", rabbit.management);
    let kind = Kind {
        name: "rabbitmq",
        trigger: json!({ "type": "rabbitmq", "metadata": {
            "host": host, "queueName": "orders", "mode": "QueueLength", "value": "5", "activationValue": "1" } }),
        secret: json!({ "username": "guest", "password": "guest" }),
        missing: (json!({ "queueName": "nowhere" }), "has no queue nowhere in that virtual host"),
        refused: Some("answered status 401"),
        dead: json!({ "host": "http://127.0.0.1:1/" }),
    };
    goes_from_zero_up_and_back(&kind, &|count| {
        rabbit.call("DELETE", "/queues/%2F/orders/contents", &json!({}));
        rabbit.publish(count);
    });
    rabbit.publish(7);
    by_amqp(&rabbit);
}

/// The queue `orders` has seven messages.
fn by_amqp(rabbit: &RabbitMq) {
    let host = format!("amqp://127.0.0.1:{}", rabbit.amqp);
    let metadata = json!({ "host": host, "queueName": "orders", "protocol": "amqp" });
    let ask = |change: Value, password: &str| {
        asked("rabbitmq", &with(metadata.clone(), &change), &[("username", "guest"), ("password", password)])
    };
    assert_eq!(ask(json!({}), "guest"), Ok(7.0));
    assert_eq!(ask(json!({ "vhostName": "/" }), "guest"), Ok(7.0));
    let unencrypted = format!("amqps://127.0.0.1:{}", rabbit.amqp);
    for (change, password, words) in [
        (json!({}), "wrong", "refuses the credentials of the authentication"),
        (json!({ "queueName": "none" }), "guest", "has no queue none in virtual host /"),
        (json!({ "host": format!("{host}/none") }), "guest", "has no virtual host none that the user may use"),
        (json!({ "host": format!("amqp://127.0.0.1:{}", rabbit.management) }), "guest", "without a complete answer"),
        (json!({ "host": unencrypted }), "guest", "amqps://127.0.0.1:"),
        (json!({ "host": "amqp://127.0.0.1:1" }), "guest", "connection refused"),
    ] {
        let error = ask(change, password).unwrap_err();
        assert!(error.contains(words) && !error.contains("wrong"), "{words}: {error}");
    }
}

/// Asks as a trigger of this type does, and returns the number or what is said.
fn asked(kind: &str, metadata: &Value, parameters: &[(&str, &str)]) -> Result<f64, String> {
    // As the daemon reads it.
    let mut trigger = json!({ "type": kind, "metadata": metadata });
    if !parameters.is_empty() {
        trigger["authenticationRef"] = json!({ "name": "a" });
    }
    let object = json!({ "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": "so", "namespace": "shop", "uid": "1", "generation": 1 },
        "spec": { "scaleTargetRef": { "name": "web" }, "triggers": [trigger] } });
    let read = scaled_object::from_value(ApiGroup::KedaSh, object, &Servers::default()).unwrap();
    let query = read.object.definition.unwrap().triggers[0].source.query().unwrap().clone();
    match ask(&asker(&Arc::new(FakeSource::default())), query, given(parameters)) {
        Answer::Value(number) => Ok(number),
        Answer::Failed(error) => Err(error.message),
        other => Err(format!("{other:?}")),
    }
}

/// Changes an object: null removes a key.
fn with(mut object: Value, change: &Value) -> Value {
    for (key, value) in change.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

/// Asks for the lag of group `shop` as a trigger with these changes does.
fn lag(kafka: &Kafka, change: &Value, parameters: &[(&str, &str)]) -> Result<f64, String> {
    let servers = format!("127.0.0.1:{}", kafka.plain);
    let metadata = json!({ "bootstrapServers": servers, "consumerGroup": "shop", "topic": "jobs" });
    asked("kafka", &with(metadata, change), parameters)
}

/// Every way to sign in, and every rule, at a real broker.
fn lags_are_those_of_the_broker(kafka: &Kafka) {
    let plain = |change: Value| lag(kafka, &change, &[]);
    // Nothing is committed yet: one for each partition.
    assert_eq!(plain(json!({})), Ok(4.0));
    assert_eq!(plain(json!({ "scaleToZeroOnInvalidOffset": "true" })), Ok(0.0));
    assert_eq!(plain(json!({ "offsetResetPolicy": "earliest" })), Ok(40.0));
    assert_eq!(plain(json!({ "offsetResetPolicy": "earliest", "allowIdleConsumers": "true" })), Ok(100.0));
    let nowhere = plain(json!({ "topic": null, "consumerGroup": "nobody" })).unwrap_err();
    assert!(nowhere.contains("knows no topic of group nobody"), "{nowhere}");
    kafka.leave("shop", "jobs", 27);
    kafka.leave("shop", "mail", 5);
    for (change, expected) in [
        (json!({}), 27.0),
        (json!({ "topic": "jobs,mail" }), 32.0),
        (json!({ "topic": null }), 32.0),
        (json!({ "partitionLimitation": "1-3" }), 0.0),
        (json!({ "lagThreshold": "5" }), 20.0),
        (json!({ "lagThreshold": "5", "limitToPartitionsWithLag": "true" }), 5.0),
        (json!({ "ensureEvenDistributionOfPartitions": "true" }), 40.0),
    ] {
        assert_eq!(plain(change.clone()), Ok(expected), "{change}");
    }
    // All topics, with partitions in which nothing is committed.
    kafka.commit("part", "jobs", &[(0, 90)]);
    assert_eq!(plain(json!({ "topic": null, "consumerGroup": "part" })), Ok(13.0));
    let missing = plain(json!({ "partitionLimitation": "9" })).unwrap_err();
    assert!(missing.contains("has no partition of topic jobs that partitionLimitation names"), "{missing}");
    // It has not been made by asking for it.
    for _ in 0..2 {
        let missing = plain(json!({ "topic": "none" })).unwrap_err();
        assert!(missing.contains("has no topic none"), "{missing}");
    }
    // A broker names the address where this listener is.
    let servers = |port: u16| json!({ "bootstrapServers": format!("127.0.0.1:1,localhost:{port}"), "tls": "enable" });
    let user = [("username", kafka::USER), ("password", kafka::PASSWORD), ("ca", &kafka.ca)];
    for (sasl, other) in [("plaintext", "PLAIN"), ("scram_sha256", "SCRAM-SHA-256"), ("scram_sha512", "SCRAM-SHA-512")]
    {
        let mut change = servers(kafka.password);
        change["sasl"] = sasl.into();
        assert_eq!(lag(kafka, &change, &user), Ok(27.0), "{sasl}");
        let refused = lag(kafka, &change, &[user[0], ("password", "wrong"), user[2]]).unwrap_err();
        assert!(refused.contains("refuses the credentials") && !refused.contains("wrong"), "{refused}");
        let mut elsewhere = json!({ "bootstrapServers": format!("127.0.0.1:{}", kafka.token) });
        elsewhere["sasl"] = sasl.into();
        let refused = lag(kafka, &elsewhere, &user).unwrap_err();
        assert!(refused.contains(&format!("does not take {other}, but sasl: oauthbearer")), "{refused}");
    }
    let unsigned = lag(kafka, &servers(kafka.password), &user).unwrap_err();
    assert!(unsigned.contains("it may want sasl"), "{unsigned}");
    let (cert, key) = kafka.client();
    let client = [("ca", kafka.ca.as_str()), ("cert", &cert), ("key", &key)];
    assert_eq!(lag(kafka, &servers(kafka.mutual), &client), Ok(27.0));
    assert!(lag(kafka, &servers(kafka.mutual), &client[..1]).is_err());
    let untrusted = lag(kafka, &servers(kafka.mutual), &[]).unwrap_err();
    assert!(untrusted.contains("certificate"), "{untrusted}");

    // A token that names somebody, without a signature, which this broker does not want.
    let tokens = FakePrometheus::start(move |request| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({ "sub": "keda", "iat": now - 10, "exp": now + 3_600 }).to_string();
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let is_known = request.header("authorization") == Some("Basic a2VkYTpzZXNhbWUlMkY3");
        let token =
            if is_known { format!("{}.{}.", part("{\"alg\":\"none\"}"), part(&claims)) } else { "x".to_owned() };
        Reply::json(&json!({ "access_token": token, "expires_in": 3_600 }).to_string())
    });
    let url = format!("{}/token", tokens.url());
    let change = json!({ "bootstrapServers": format!("127.0.0.1:{}", kafka.token), "sasl": "oauthbearer" });
    let client = [user[0], user[1], ("oauthTokenEndpointUri", url.as_str()), ("oauthExtensions", "a=b")];
    assert_eq!(lag(kafka, &change, &client), Ok(27.0));
    let refused = lag(kafka, &change, &[user[0], ("password", "wrong"), client[2]]).unwrap_err();
    assert!(refused.contains("refuses the token"), "{refused}");
}

#[test]
fn replicas_follow_the_lag_of_a_group() {
    let kafka = Kafka::start();
    lags_are_those_of_the_broker(&kafka);
    kafka.leave("web", "jobs", 0);
    let servers = format!("127.0.0.1:{}", kafka.password);
    let kind = Kind {
        name: "kafka",
        trigger: json!({ "type": "kafka", "metadata": { "bootstrapServers": servers, "consumerGroup": "web", "topic": "jobs",
            "lagThreshold": "5", "activationLagThreshold": "1", "sasl": "scram_sha512", "tls": "enable" } }),
        secret: json!({ "username": kafka::USER, "password": kafka::PASSWORD, "ca": kafka.ca }),
        missing: (json!({ "topic": "nowhere" }), "has no topic nowhere"),
        refused: Some("refuses the credentials of the authentication"),
        dead: json!({ "bootstrapServers": "127.0.0.1:1" }),
    };
    let fill = |count| kafka.leave("web", "jobs", i64::try_from(count).unwrap());
    goes_from_zero_up_and_back(&kind, &fill);
    let metadata = with(kind.trigger["metadata"].clone(), &json!({ "activationLagThreshold": "0" }));
    go_from_zero_up_and_back_together(
        &[("apache-kafka", metadata, kind.secret)],
        "refuses the credentials of the authentication",
        &fill,
    );
}

#[test]
fn replicas_follow_streams_and_lists_of_clusters_and_masters() {
    let cluster = PlainRedis::cluster();
    // The key's slot decides which node has it; each is asked.
    for (key, node) in [("a", 1), ("b", 0)] {
        assert_eq!(cluster[node].run(&["LPUSH", key, "x", "y"]).trim(), "2");
        for asked_first in &cluster {
            let metadata = json!({ "addresses": format!("127.0.0.1:1,{}", asked_first.address()), "listName": key });
            assert_eq!(asked("redis-cluster", &metadata, &[]), Ok(2.0), "{key}");
        }
    }
    let [sentinel, master] = PlainRedis::sentinel();
    let metadata =
        json!({ "addresses": sentinel.address(), "sentinelMaster": "main", "databaseIndex": "2", "listName": "a" });
    let metadata_of_master = metadata.clone();
    let passwords = [("password", "master"), ("sentinelPassword", "sentinel")];
    master.run(&["-n", "2", "LPUSH", "a", "x"]);
    assert_eq!(asked("redis-sentinel", &metadata, &passwords), Ok(1.0));
    let nobody = asked("redis-sentinel", &with(metadata.clone(), &json!({ "sentinelMaster": "other" })), &passwords);
    assert!(nobody.clone().unwrap_err().ends_with(" knows no master other"), "{nobody:?}");
    let unsigned = asked("redis-sentinel", &metadata, &passwords[..1]).unwrap_err();
    assert!(unsigned.contains("wants a password"), "{unsigned}");

    let stream = |change: Value| {
        let metadata = json!({ "address": master.address(), "stream": "orders", "consumerGroup": "g" });
        asked("redis-streams", &with(metadata, &change), &passwords[..1])
    };
    assert_eq!(stream(json!({ "lagCount": "1" })), Ok(0.0), "the stream is not there yet");
    assert_eq!(stream(json!({ "consumerGroup": null })), Ok(0.0));
    assert!(stream(json!({})).unwrap_err().contains("has no group g of a stream orders"));
    for _ in 0..3 {
        master.run(&["XADD", "orders", "*", "a", "b"]);
    }
    assert_eq!(stream(json!({ "consumerGroup": null })), Ok(3.0));
    assert_eq!(stream(json!({ "lagCount": "1" })), Ok(3.0), "without the group all of it counts");
    master.run(&["XGROUP", "CREATE", "orders", "g", "0"]);
    assert_eq!(stream(json!({})), Ok(0.0), "nothing is taken yet");
    master.run(&["XREADGROUP", "GROUP", "g", "me", "COUNT", "2", "STREAMS", "orders", ">"]);
    assert_eq!((stream(json!({})), stream(json!({ "lagCount": "1" }))), (Ok(2.0), Ok(1.0)));
    assert!(stream(json!({ "stream": "list" })).is_err());
    master.run(&["LPUSH", "list", "x"]);
    assert!(stream(json!({ "stream": "list" })).unwrap_err().contains("refuses XPENDING: WRONGTYPE"));

    let metadata = json!({ "addresses": sentinel.address(), "sentinelMaster": "main", "stream": "mail", "consumerGroup": "g",
        "lagCount": "5", "activationLagCount": "1" });
    let kind = Kind {
        name: "redis-sentinel-streams",
        trigger: json!({ "type": "redis-sentinel-streams", "metadata": metadata }),
        secret: json!({ "password": "master", "sentinelPassword": "sentinel" }),
        missing: (json!({ "stream": "list" }), "refuses XINFO: WRONGTYPE"),
        refused: Some("refuses the password of the authentication: WRONGPASS"),
        dead: json!({ "addresses": "127.0.0.1:1" }),
    };
    goes_from_zero_up_and_back(&kind, &|count| {
        master.run(&["DEL", "mail"]);
        master.run(&["XGROUP", "CREATE", "mail", "g", "$", "MKSTREAM"]);
        (0..count).for_each(|_| drop(master.run(&["XADD", "mail", "*", "a", "b"])));
    });

    let addresses = format!("{},{}", cluster[0].address(), cluster[1].address());
    go_from_zero_up_and_back_together(
        &[
            ("redis-cluster", json!({ "addresses": addresses, "listName": "a", "listLength": "5" }), json!({})),
            (
                "redis-cluster-streams",
                json!({ "addresses": addresses, "stream": "{a}mail", "streamLength": "5" }),
                json!({}),
            ),
            (
                "redis-sentinel",
                with(metadata_of_master, &json!({ "listName": "jobs", "listLength": "5" })),
                json!({ "password": "master", "sentinelPassword": "sentinel" }),
            ),
            (
                "redis-streams",
                json!({ "address": master.address(), "stream": "plain", "streamLength": "5" }),
                json!({ "password": "master" }),
            ),
        ],
        "WRONGPASS",
        &|count| {
            let node = &cluster[1];
            node.run(&["DEL", "a", "{a}mail"]);
            master.run(&["DEL", "plain"]);
            master.run(&["-n", "2", "DEL", "jobs"]);
            for _ in 0..count {
                node.run(&["LPUSH", "a", "x"]);
                node.run(&["XADD", "{a}mail", "*", "a", "b"]);
                master.run(&["XADD", "plain", "*", "a", "b"]);
                master.run(&["-n", "2", "LPUSH", "jobs", "x"]);
            }
        },
    );
}

/// Answers as the parts of Amazon's SQS and CloudWatch, Azure's Service Bus, Graphite, InfluxDB and Loki do that are asked,
/// if the request proves the right to it.
fn http_sources(request: &Request, load: usize) -> Reply {
    let keys = [Known { id: "AKIDSHOP", secret: "sesame", session: None }];
    if request.header("x-amz-target").is_some() {
        return match verify(request, "sqs", &keys) {
            Ok(()) if request.body.contains("123/orders") => {
                let attributes = json!({ "ApproximateNumberOfMessages": load.to_string(),
                    "ApproximateNumberOfMessagesNotVisible": "0" });
                Reply::json(&json!({ "Attributes": attributes }).to_string())
            }
            Ok(()) => Reply::status(400, r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}"#),
            Err(_) => Reply::status(403, r#"{"__type":"com.amazon.coral.service#InvalidSignatureException"}"#),
        };
    }
    if request.body.starts_with("Action=GetMetricData&") {
        let error = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>";
        let results = format!("<member><Id>q1</Id><Values><member>{load}</member></Values></member>");
        return match verify(request, "monitoring", &keys) {
            Ok(()) => Reply::status(
                200,
                &format!(
                    "<GetMetricDataResponse><GetMetricDataResult><MetricDataResults>{results}</MetricDataResults>\
                     </GetMetricDataResult></GetMetricDataResponse>"
                ),
            ),
            Err(_) => Reply::status(403, error),
        };
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let authorization = request.header("authorization").unwrap_or_default();
    let entry = |kind: &str| {
        let count = format!("<d2p1:ActiveMessageCount>{load}</d2p1:ActiveMessageCount>");
        let details = format!("<CountDetails xmlns:d2p1=\"d\">{count}</CountDetails>");
        Reply::status(200, &format!("<entry xmlns=\"a\"><content><{kind}>{details}</{kind}></content></entry>"))
    };
    match path {
        "/render" if authorization != "Basic bWU6c2VzYW1l" => Reply::status(401, ""),
        "/render" => match request.target.as_str() {
            "/render?from=-10Minutes&target=sumSeries%28jobs.%2A%29&format=json" => {
                Reply::json(&json!([{ "target": "jobs", "datapoints": [[1, 1], [load, 2], [null, 3]] }]).to_string())
            }
            _ => Reply::json("[]"),
        },
        "/loki/api/v1/query" if request.header("x-scope-orgid") != Some("shop") => Reply::status(401, "no org id"),
        "/loki/api/v1/query" => {
            let vector = json!([{ "metric": {}, "value": [1, load.to_string()] }]);
            let data = json!({ "resultType": "vector", "result": vector });
            Reply::json(&json!({ "status": "success", "data": data }).to_string())
        }
        "/api/v2/query" if authorization != "Token sesame" => Reply::status(401, "{}"),
        "/api/v2/query" if request.target != "/api/v2/query?org=shop" => Reply::status(404, "{}"),
        "/api/v2/query" => Reply::status(200, &format!(",result,table,_value\r\n,_result,0,{load}\r\n\r\n")),
        "/api/v3/query_influxql" if authorization == "Bearer sesame" => {
            Reply::json(&json!([{ "n": load }]).to_string())
        }
        _ if !is_signed(authorization, path) => Reply::status(401, ""),
        "/orders" => entry("QueueDescription"),
        "/mail/Subscriptions/all" => entry("SubscriptionDescription"),
        _ => Reply::status(200, "<feed xmlns=\"a\"></feed>"),
    }
}

/// Returns whether a signature is that of key `sesame` for this path, and not out of date.
fn is_signed(authorization: &str, path: &str) -> bool {
    let Some(fields) = authorization.strip_prefix("SharedAccessSignature ") else { return false };
    let field = |name: &str| {
        let value = fields.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
        (value.to_owned(), percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
    };
    let ((resource, plain), (until, _), (_, signature)) = (field("sr"), field("se"), field("sig"));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"sesame");
    let expected = STANDARD.encode(ring::hmac::sign(&key, format!("{resource}\n{until}").as_bytes()));
    // The clock of these tests' asker stands in the year 2023.
    let is_late = until.parse::<u64>().map_or(true, |until| until < 1_700_000_000);
    field("skn").1 == "root" && plain.ends_with(&path.to_lowercase()) && signature == expected && !is_late
}

#[test]
fn replicas_follow_what_is_asked_over_http() {
    let load = Arc::new(std::sync::Mutex::new(7));
    let shown = Arc::clone(&load);
    let server = FakePrometheus::start(move |request| http_sources(request, *shown.lock().unwrap()));
    let connection = |key: &str| {
        let host = server.address;
        format!("Endpoint=sb://{host}/;SharedAccessKeyName=root;SharedAccessKey={key};UseDevelopmentEmulator=true")
    };
    let bus = |metadata: Value, key: &str| asked("azure-servicebus", &metadata, &[("connection", &connection(key))]);
    assert_eq!(bus(json!({ "queueName": "orders" }), "sesame"), Ok(7.0));
    assert_eq!(bus(json!({ "topicName": "mail", "subscriptionName": "all" }), "sesame"), Ok(7.0));
    let missing = bus(json!({ "queueName": "none" }), "sesame").unwrap_err();
    assert!(missing.ends_with(" has no queue none"), "{missing}");
    let refused = bus(json!({ "queueName": "orders" }), "wrong").unwrap_err();
    assert!(refused.contains("answered status 401") && !refused.contains("wrong"), "{refused}");

    let influx = json!({ "serverURL": server.url(), "organizationName": "shop", "query": "from(bucket: \"b\")",
        "thresholdValue": "5" });
    assert_eq!(asked("influxdb", &influx, &[("authToken", "sesame")]), Ok(7.0));
    let three = with(influx.clone(), &json!({ "influxVersion": "3", "database": "b", "metricKey": "n" }));
    assert_eq!(asked("influxdb", &three, &[("authToken", "sesame")]), Ok(7.0));
    let other = asked("influxdb", &with(three, &json!({ "metricKey": "m" })), &[("authToken", "sesame")]);
    assert!(other.unwrap_err().contains("returned no column metricKey"));
    let elsewhere = with(influx.clone(), &json!({ "organizationName": "other" }));
    assert!(asked("influxdb", &elsewhere, &[("authToken", "sesame")]).unwrap_err().contains("status 404"));
    assert!(asked("influxdb", &influx, &[("authToken", "x")]).unwrap_err().contains("status 401"));

    *load.lock().unwrap() = 0;
    let kind = Kind {
        name: "graphite",
        trigger: json!({ "type": "graphite", "metadata": { "serverAddress": server.url(), "query": "sumSeries(jobs.*)",
            "queryTime": "-10Minutes", "threshold": "5", "activationThreshold": "1", "authMode": "basic" } }),
        secret: json!({ "username": "me", "password": "sesame" }),
        missing: (json!({}), ""),
        refused: Some("answered status 401"),
        dead: json!({ "serverAddress": "http://127.0.0.1:1" }),
    };
    goes_from_zero_up_and_back(&kind, &|count| *load.lock().unwrap() = count);

    let url = server.url();
    let connection = connection("sesame");
    let keys = json!({ "awsAccessKeyID": "AKIDSHOP", "awsSecretAccessKey": "sesame" });
    go_from_zero_up_and_back_together(
        &[
            (
                "azure-servicebus",
                json!({ "queueName": "orders", "messageCount": "5" }),
                json!({ "connection": connection }),
            ),
            ("influxdb", influx, json!({ "authToken": "sesame" })),
            (
                "loki",
                json!({ "serverAddress": url, "query": "sum(rate({app=\"web\"}[1m]))", "threshold": "5", "tenantName": "shop" }),
                json!({}),
            ),
            (
                "aws-sqs-queue",
                json!({ "queueURL": format!("{url}/123/orders"), "awsRegion": "eu-west-1", "awsEndpoint": url,
                    "queueLength": "5" }),
                keys.clone(),
            ),
            (
                "aws-cloudwatch",
                json!({ "namespace": "AWS/SQS", "metricName": "Waiting", "dimensionName": "QueueName",
                    "dimensionValue": "orders", "targetMetricValue": "5", "minMetricValue": "0", "awsRegion": "eu-west-1",
                    "awsEndpoint": url }),
                keys,
            ),
        ],
        "answered status 40",
        &|count| *load.lock().unwrap() = count,
    );
}

/// Types of triggers, each with metadata for five a replica and the secret parameters of its authentication. With others
/// each is refused first in these words, and nothing moves.
fn go_from_zero_up_and_back_together(kinds: &[(&str, Value, Value)], refused: &str, fill: Fill<'_>) {
    let case = Case::new("sources");
    let secret = |kind: &str, data: Value| {
        case.apply(
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": kind, "namespace": case.namespace },
            "stringData": data }),
        );
    };
    fill(0);
    for (kind, metadata, parameters) in kinds {
        case.cluster.deployment(&case.namespace, kind, 0);
        let names: Vec<&String> = parameters.as_object().unwrap().keys().collect();
        let mut trigger = json!({ "type": kind, "metadata": metadata });
        if !names.is_empty() {
            let wrong = parameters.to_string().replace("sesame", "open").replace("master", "open");
            secret(kind, serde_json::from_str(&wrong).unwrap());
            let references: Vec<Value> =
                names.iter().map(|name| json!({ "parameter": name, "name": kind, "key": name })).collect();
            case.apply(json!({ "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
                "metadata": { "name": kind, "namespace": case.namespace }, "spec": { "secretTargetRef": references } }));
            trigger["authenticationRef"] = json!({ "name": kind });
        }
        case.scale(kind, json!({ "scaleTargetRef": { "name": kind }, "triggers": [trigger] }));
    }
    let events = |kind: &str, words: &str| {
        wait_seeing(&format!("{kind} to report {words}"), || {
            let events = case.cluster.events(&case.namespace, kind);
            let is_reported =
                events.iter().any(|(_, reason, note)| reason == "KEDAScalerFailed" && note.contains(words));
            is_reported.then_some(()).ok_or_else(|| format!("{events:?}"))
        });
    };
    for (kind, _, parameters) in kinds.iter().filter(|(.., parameters)| *parameters != json!({})) {
        events(kind, refused);
        assert_eq!(case.cluster.replicas(&case.namespace, kind), Some(0), "{kind}");
        secret(kind, parameters.clone());
    }
    let all_have = |replicas: i64| {
        for (kind, ..) in kinds {
            wait_seeing(&format!("{kind} at {replicas}"), || {
                let found = case.cluster.replicas(&case.namespace, kind);
                let seen = || format!("{found:?} {:?}", case.cluster.events(&case.namespace, kind));
                (found == Some(replicas)).then_some(()).ok_or_else(seen)
            });
        }
    };
    for kind in kinds.iter().map(|(kind, ..)| kind) {
        case.wait_for_condition_of(kind, "Active", "False", "ScalerNotActive");
    }
    fill(15);
    all_have(3);
    fill(0);
    all_have(0);
}

#[test]
fn replicas_follow_a_number_in_a_config_map() {
    let case = Case::new("resource").deployment(0);
    let limits = |text: &str| {
        case.apply(json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "limits", "namespace": case.namespace }, "data": { "state": text } }));
    };
    let metadata = json!({ "resourceKind": "ConfigMap", "resourceName": "limits", "key": "state", "format": "json",
        "valueLocation": "jobs.waiting", "targetValue": "5" });
    case.scale("so", json!({ "triggers": [{ "type": "kubernetes-resource", "metadata": metadata }] }));
    case.wait_for_event("KEDAScalerFailed", "/limits does not exist");
    limits(r#"{"jobs":{"waiting":"many"}}"#);
    case.wait_for_event("KEDAScalerFailed", "valueLocation \"jobs.waiting\" of key state of ConfigMap limits");
    limits(r#"{"jobs":{"waiting":"15"}}"#);
    case.wait_for_replicas(3);
    limits(r#"{"jobs":{"waiting":0}}"#);
    case.wait_for_replicas(0);
}

/// A Prometheus that only answers to signed requests, as Amazon's does.
#[test]
fn replicas_follow_a_prometheus_that_wants_signatures() {
    let load = std::sync::Arc::new(std::sync::Mutex::new(0));
    let shown = std::sync::Arc::clone(&load);
    let exporter = FakePrometheus::start(move |_| Reply::status(200, &format!("load {}\n", shown.lock().unwrap())));
    let prometheus = Prometheus::scraping(&[&exporter.address.to_string()]);
    prometheus.series("load");
    let url = prometheus.url.clone();
    let gateway = FakePrometheus::start(move |request| {
        let known = [Known { id: "AKIDSHOP", secret: "wJalr/XUtn", session: None }];
        let target = request.target.strip_prefix("/workspaces/ws-1").unwrap_or("/nowhere");
        match verify(request, "aps", &known) {
            Ok(()) => Reply::json(&try_http_get(&format!("{url}{target}")).unwrap_or_default()),
            Err(why) => Reply::status(403, &why),
        }
    });
    let case = Case::new("aps").deployment(0);
    let secret = |key: &str| {
        case.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "aws", "namespace": case.namespace },
            "stringData": { "awsAccessKeyID": "AKIDSHOP", "awsSecretAccessKey": key },
        }));
    };
    let reference = |parameter: &str| json!({ "parameter": parameter, "name": "aws", "key": parameter });
    secret("another");
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "aws", "namespace": case.namespace },
        "spec": { "secretTargetRef": [reference("awsAccessKeyID"), reference("awsSecretAccessKey")] },
    }));
    let trigger = json!({ "type": "prometheus", "authenticationRef": { "name": "aws" }, "metadata": {
        "serverAddress": format!("{}/workspaces/ws-1", gateway.url()), "query": "sum(load) + 0", "threshold": "10",
        "awsRegion": "eu-west-1" } });
    case.scale("so", json!({ "triggers": [trigger] }));
    case.wait_for_event("KEDAScalerFailed", "answered status 403: Forbidden");
    assert_eq!(case.replicas(), 0);
    secret("wJalr/XUtn");
    case.wait_until_ready();
    *load.lock().unwrap() = 35;
    case.wait_for_replicas(4);
    *load.lock().unwrap() = 0;
    case.wait_for_replicas(0);
}
