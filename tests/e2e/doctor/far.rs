//! What doctor checks beyond the API server: metric servers, the daemon's certificate, the database.

use rustls::ServerConfig;
use serde_json::{Value, json};

use super::{base64, findings, report};
use crate::e2e::case::Case;
use crate::e2e::{Exclusive, exclusive};
use crate::gate::support::{Authority, Holder};
use crate::support::cluster::{APISERVICE, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

/// Ids of the findings, each with its whole text.
fn id_and_text(report: &Value) -> Vec<(String, String)> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let whole = |found: &Value| format!("{}: {}", text(found, "subject"), text(found, "cause"));
    findings(report).iter().map(|found| (text(found, "id"), whole(found))).collect()
}

#[test]
fn queries_that_do_not_give_one_number_are_reported() {
    let case = Case::exclusive(Exclusive::Installations, "doctor-queries");
    let cluster = case.cluster;
    let series = |value: &str| json!({ "metric": {}, "value": [1, value] });
    let vector = |result: Value| {
        Reply::json(&json!({ "status": "success", "data": { "resultType": "vector", "result": result } }).to_string())
    };
    let prometheus = FakePrometheus::start(move |request| match request {
        asked if asked.target.contains("query=good") => Reply::value("1"),
        asked if asked.target.contains("query=many") => vector(json!([series("1"), series("2")])),
        asked if asked.target.contains("query=none") => vector(json!([])),
        asked if asked.target.contains("query=nan") => vector(json!([series("NaN")])),
        _ => Reply::status(400, r#"{"status":"error","errorType":"bad_data","error":"parse error: unclosed paren"}"#),
    });
    let trigger = |server: &str, query: &str| json!({ "type": "prometheus", "metadata": { "serverAddress": server, "query": query, "threshold": "1" } });
    for name in ["good", "many", "none", "nan", "sum("] {
        let object = name.trim_end_matches('(');
        case.scale(object, json!({ "triggers": [trigger(&prometheus.url(), name)] }));
    }
    case.scale("down", json!({ "triggers": [trigger("http://127.0.0.1:1", "good")] }));
    let mut secret = trigger(&prometheus.url(), "good");
    secret["authenticationRef"] = json!({ "name": "a" });
    secret["metadata"]["authModes"] = "bearer".into();
    case.scale("secret", json!({ "triggers": [secret] }));
    secret["authenticationRef"] = json!({ "name": "b" });
    case.scale("lost", json!({ "triggers": [secret] }));
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "a", "namespace": case.namespace },
        "spec": { "secretTargetRef": [{ "parameter": "bearerToken", "name": "no-such-secret", "key": "token" }] },
    }));
    let (_, report) = report(cluster.env("KUBECONFIG"), &["--namespace", &case.namespace]);
    let found = id_and_text(&report);
    for (id, object, words) in [
        ("query-many-values", "many", "2 series"),
        ("query-empty", "none", "reads as 0"),
        ("query-not-a-number", "nan", "nan"),
        ("query-failed", "sum", "unclosed paren"),
        ("metric-server-unreachable", "http://127.0.0.1:1", "triggers that ask it: 1"),
        ("authentication-unusable", "secret", "no-such-secret"),
        ("authentication-unusable", "lost", "not found"),
    ] {
        let is_it = |(found, text): &&(String, String)| found == id && text.contains(object) && text.contains(words);
        assert!(found.iter().any(|found| is_it(&found)), "{id} {object}: {found:#?}");
    }
    assert!(!found.iter().any(|(_, text)| text.contains("/good ")), "{found:#?}");
    assert_eq!(prometheus.requests().len(), 5, "each question once");
    case.kubectl(&["delete", "scaledobjects.keda.sh", "--all", "--timeout=170s"]);
}

#[test]
fn a_certificate_that_the_api_server_cannot_verify_is_reported() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    cluster.install();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let bundle = json!({ "spec": { "caBundle": base64(ours.pem().as_bytes()) } }).to_string();
    cluster.kubectl(&["patch", "apiservice", APISERVICE, "--type=merge", "-p", &bundle]);
    let named = |authority: &Authority, name: &str, until: i32| {
        authority.sign("hpalite", |params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())];
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
        })
    };
    let right = "hpalite.hpalite.svc";
    for (holder, id) in [
        (named(&ours, right, 2100), None),
        (named(&ours, "other.hpalite.svc", 2100), Some("certificate-wrong-name")),
        (named(&ours, right, 2020), Some("certificate-expired")),
        (named(&other, right, 2100), Some("certificate-untrusted")),
    ] {
        let server = FakePrometheus::start_tls(serving(&holder), |_| Reply::status(200, "ok"));
        let listen = server.url().replace("https://localhost", "127.0.0.1");
        let (_, report) = report(cluster.env("KUBECONFIG"), &["--listen", &listen]);
        let found = id_and_text(&report).into_iter().find(|(id, _)| id.starts_with("certificate-")).map(|(id, _)| id);
        assert_eq!(found.as_deref(), id, "{report}");
    }
    wait_seeing("a port where nobody listens", || {
        let (_, report) = report(cluster.env("KUBECONFIG"), &["--listen", "127.0.0.1:1"]);
        let found = id_and_text(&report);
        if found.iter().any(|(id, _)| id == "not-listening") { Ok(()) } else { Err(format!("{found:?}")) }
    });
    cluster.install();
}

fn serving(holder: &Holder) -> ServerConfig {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(holder.chain.clone(), holder.key())
        .unwrap()
}

#[test]
fn a_database_that_cannot_be_used_is_reported() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("rubbish"), "this is no database, whatever its name says").unwrap();
    let newer = rusqlite::Connection::open(file("newer")).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let whole = hpalite::store::Store::start(file("whole").as_ref(), Default::default()).unwrap();
    assert!(whole.stop(std::time::Duration::from_secs(60)).complete);
    let mut bytes = std::fs::read(file("whole")).unwrap();
    for page in bytes[8 * 4096..].chunks_mut(4096) {
        page[..100].fill(0xA5);
    }
    std::fs::write(file("damaged"), bytes).unwrap();
    for (name, ends) in [("unlucky", 2), ("looping", 3)] {
        std::fs::copy(file("whole"), file(name)).unwrap();
        let run =
            "INSERT INTO process_run (version, started_at_unix_ms, state) VALUES ('1', unixepoch() * 1000, 'lost')";
        let connection = rusqlite::Connection::open(file(name)).unwrap();
        (0..ends).for_each(|_| assert_eq!(connection.execute(run, []).unwrap(), 1));
    }
    for (name, id) in [
        ("whole", None),
        ("unlucky", None),
        ("looping", Some("restart-loop")),
        ("missing", Some("database-missing")),
        ("rubbish", Some("database-unreadable")),
        ("newer", Some("database-newer")),
        ("damaged", Some("database-corrupt")),
    ] {
        let (_, report) = report(cluster.env("KUBECONFIG"), &["--db", &file(name)]);
        let is_of_file = |id: &str| id.starts_with("database-") || id == "restart-loop";
        let found = id_and_text(&report).into_iter().find(|(id, _)| is_of_file(id)).map(|(id, _)| id);
        assert_eq!(found.as_deref(), id, "{name}: {report}");
    }
}
