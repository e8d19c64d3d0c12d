//! Certificates and trust change while the API is served.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hpalite::http::certificates::{OwnCertificates, ServiceNames};
use hpalite::http::rotation::Rotation;
use hpalite::store::{Options, Store};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use super::Exclusive;
use super::case::{Case, Source};
use super::instances::Reader;
use crate::gate::support::{Authority, Holder, TlsClient, ask, client_config, connect, read_answer, roots, status};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, wait_for, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

fn names() -> ServiceNames {
    ServiceNames { service: "hpalite".to_owned(), namespace: "hpalite".to_owned() }
}

fn bundle(cluster: &Cluster) -> Vec<u8> {
    let found = cluster.get("apiservice", "", APISERVICE).expect("the APIService");
    let text = found["spec"]["caBundle"].as_str().unwrap_or_default().to_owned();
    let mut child = std::process::Command::new("base64")
        .arg("-d")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

fn client(port: u16, config: ClientConfig) -> TlsClient {
    let name = ServerName::try_from("hpalite.hpalite.svc").unwrap();
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(address))
}

/// Returns the certificate of a new handshake, verified with these roots.
fn served(port: u16, roots_pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    let mut client = client(port, client_config(roots(roots_pem), None));
    write!(client, "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").map_err(|error| error.to_string())?;
    let (head, _) = read_answer(&mut client).map_err(|error| error.to_string())?;
    assert_eq!(status(&head), 200);
    Ok(client.conn.peer_certificates().unwrap()[0].clone().into_owned())
}

/// Stores a rotation in a database, with a CA that is due for renewal soon.
fn keep(folder: &Path, rotation: &Rotation) {
    let store = Store::start(&folder.join("hpalite.db"), Options::default()).unwrap();
    store.write_kv("certificates", &rotation.to_json()).unwrap();
    assert!(store.stop(Duration::from_secs(60)).complete);
}

#[test]
fn the_ca_is_renewed_through_the_real_api_server_and_no_read_fails() {
    let case = Case::exclusive(Exclusive::Faults, "rotation").deployment(0);
    let cluster = case.cluster;
    let source = Source::new(20.0);
    // Valid for ten years and renewed when two are left: due a few seconds after the start.
    let eight_years = Duration::from_secs(8 * 365 * 24 * 3600);
    let made_at = SystemTime::now() - eight_years + Duration::from_secs(15);
    let old = OwnCertificates::generate(&names(), made_at).unwrap();
    let old = old.renew_serving(&names(), SystemTime::now()).unwrap();
    let folder = tempfile::tempdir_in(&cluster.folder).unwrap();
    keep(folder.path(), &Rotation::new(old.clone()));
    let arguments = ["--namespace", &case.namespace];
    // Removes the CAs of other tests' daemons, which would be kept for a while.
    cluster.kubectl(&["patch", "apiservice", APISERVICE, "--type=merge", "-p", r#"{"spec":{"caBundle":null}}"#]);
    let daemon = Daemon::start_in(cluster, &arguments, folder);
    daemon.route(cluster);
    assert_eq!(String::from_utf8(bundle(cluster)).unwrap(), old.ca_pem);
    let first = served(daemon.port, &bundle(cluster)).unwrap();
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(2);
    let reader = Reader::start(&case);
    wait_seeing("the new CA to join the old one", || {
        let bundle = String::from_utf8(bundle(cluster)).unwrap();
        let both = bundle.starts_with(&old.ca_pem) && bundle.len() > old.ca_pem.len();
        both.then_some(()).ok_or(bundle)
    });
    assert_eq!(served(daemon.port, &bundle(cluster)).unwrap(), first, "not served before it is trusted");
    wait_seeing("the new certificate to be served", || {
        // A client with the bundle accepts the server at every moment.
        let now = served(daemon.port, &bundle(cluster)).unwrap();
        (now != first).then_some(()).ok_or_else(|| daemon.log())
    });
    assert!(served(daemon.port, old.ca_pem.as_bytes()).is_err(), "signed by the new one alone");
    source.asked(3);
    let reads = reader.finish();
    assert!(reads > 50, "{reads}");
    let bundle_before = bundle(cluster);
    // A restart in the middle of the rotation, while the old CA is not retired yet.
    let folder = daemon.kill();
    let daemon = Daemon::start_in(cluster, &arguments, folder);
    assert_eq!(bundle(cluster), bundle_before);
    served(daemon.port, &bundle(cluster)).unwrap();
    // A change by somebody else is undone immediately.
    cluster.kubectl(&["patch", "apiservice", APISERVICE, "--type=merge", "-p", r#"{"spec":{"caBundle":null}}"#]);
    wait_seeing("the bundle to be back", || {
        let now = bundle(cluster);
        (now == bundle_before).then_some(()).ok_or_else(|| String::from_utf8_lossy(&now).into_owned())
    });
}

/// Row 27 of the conformance list.
#[test]
fn row_27_a_certificate_from_files_is_followed() {
    let case = Case::exclusive(Exclusive::Faults, "files");
    let cluster = case.cluster;
    let volume = tempfile::tempdir_in(&cluster.folder).unwrap();
    let generation = |number: u32, own: &OwnCertificates| {
        // Like the kubelet: a folder per version, and a symbolic link that is moved from one to the next.
        let folder = volume.path().join(format!("..{number}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("tls.crt"), &own.serving_pem).unwrap();
        std::fs::write(folder.join("tls.key"), &own.serving_key_pem).unwrap();
        let link = volume.path().join("..new");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        std::fs::rename(&link, volume.path().join("..data")).unwrap();
    };
    for file in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), volume.path().join(file)).unwrap();
    }
    let made = || OwnCertificates::generate(&names(), SystemTime::now()).unwrap();
    let (first, second) = (made(), made());
    generation(1, &first);
    let (crt, key) = (volume.path().join("tls.crt"), volume.path().join("tls.key"));
    let arguments = [
        "--namespace",
        &case.namespace,
        "--tls-cert-file",
        crt.to_str().unwrap(),
        "--tls-private-key-file",
        key.to_str().unwrap(),
    ];
    let daemon = Daemon::start(cluster, &arguments);
    let mut standing = client(daemon.port, client_config(roots(&first.ca_pem), None));
    assert_eq!(ask(&mut standing, "GET /healthz HTTP/1.1").0, 200);
    generation(2, &OwnCertificates { serving_key_pem: first.serving_key_pem.clone(), ..second.clone() });
    wait_seeing("the problem to be logged", || {
        daemon.log().contains("new certificate is unusable").then_some(()).ok_or_else(|| daemon.log())
    });
    served(daemon.port, first.ca_pem.as_bytes()).expect("the old one is served on");
    generation(3, &second);
    wait_seeing("the new certificate", || served(daemon.port, second.ca_pem.as_bytes()).map(drop));
    assert_eq!(ask(&mut standing, "GET /healthz HTTP/1.1").0, 200, "who is connected stays so");
}

const CONFIG_MAP: [&str; 4] = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];

fn patch_trust(cluster: &Cluster, data: &Value) {
    let patch = json!({ "data": data }).to_string();
    cluster.kubectl(&[&["patch"], &CONFIG_MAP[..], &["--type=merge", "-p", &patch]].concat());
}

/// Row 15 of the conformance list. The kube-apiserver keeps its own values in the ConfigMap, so others are added.
#[test]
fn row_15_who_may_speak_for_others_follows_the_config_map() {
    let case = Case::exclusive(Exclusive::Faults, "trust");
    let cluster = case.cluster;
    let daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    let ca = Authority::new("another-front-proxy-ca");
    let proxy: Holder = ca.client("another-front-proxy");
    let mut client = client(daemon.port, client_config(roots(bundle(cluster)), Some(&proxy)));
    let head =
        "GET /apis/external.metrics.k8s.io/v1beta1 HTTP/1.1\r\nX-Remote-User: alice\r\nX-Remote-Group: system:masters";
    let mut wait_for_status = |what: &str, wanted: u16| {
        wait_seeing(what, || match ask(&mut client, head).0 {
            seen if seen == wanted => Ok(()),
            seen => Err(format!("{seen}\n{}", daemon.log())),
        });
    };
    wait_for_status("a stranger to be refused", 401);
    let text = cluster.kubectl(&[&["get"], &CONFIG_MAP[..], &["-o", "json"]].concat());
    let data = serde_json::from_str::<Value>(&text).unwrap()["data"].take();
    let bundle = data["requestheader-client-ca-file"].as_str().unwrap();
    patch_trust(cluster, &json!({ "requestheader-client-ca-file": format!("{bundle}{}", ca.pem()) }));
    let mut names: Vec<String> = serde_json::from_str(data["requestheader-allowed-names"].as_str().unwrap()).unwrap();
    names.push("another-front-proxy".to_owned());
    patch_trust(cluster, &json!({ "requestheader-allowed-names": json!(names).to_string() }));
    wait_for_status("the new front proxy to be believed", 200);
    // A malformed value is reported and changes nothing.
    patch_trust(cluster, &json!({ "requestheader-extra-headers-prefix": "[broken" }));
    wait_seeing("the problem to be logged", || {
        daemon.log().contains("is unusable, what it last said holds").then_some(()).ok_or_else(|| daemon.log())
    });
    wait_for_status("the last good rules to hold", 200);
    // Deleted: the kube-apiserver creates it again, with only its own values.
    cluster.kubectl(&[&["delete"], &CONFIG_MAP[..]].concat());
    wait_for_status("the other front proxy to be a stranger again", 401);
    daemon.route(cluster);
}

#[test]
fn a_first_read_waits_for_the_first_answer() {
    let case = Case::exclusive(Exclusive::Faults, "first").deployment(1);
    let cluster = case.cluster;
    // Answers once the test allows it.
    let may_answer = Arc::new((Mutex::new(false), Condvar::new()));
    let gate = Arc::clone(&may_answer);
    let fake = FakePrometheus::start(move |_| {
        drop(gate.1.wait_while(gate.0.lock().unwrap(), |may| !*may).unwrap());
        Reply::value("20")
    });
    let trigger = json!({ "type": "prometheus", "metadata": {
        "serverAddress": fake.url(), "query": "load", "threshold": "10", "timeout": "30s",
    } });
    let daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    case.scale("so", json!({ "minReplicaCount": 1, "pollingInterval": 300, "triggers": [trigger] }));
    wait_for("the first question", || (fake.connections() > 0).then_some(()));
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dso",
        case.namespace
    );
    let began = Instant::now();
    let message = cluster.raw(&path).expect_err("nobody waits for ever");
    assert!(began.elapsed() > Duration::from_secs(4) && began.elapsed() < Duration::from_secs(30), "{began:?}");
    assert!(message.contains("its trigger has not been asked yet"), "{message}");
    let served = || daemon.metric("hpalite_http_requests_total").unwrap();
    let before = served();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| cluster.raw(&path));
        wait_for("the read to be under way", || (served() > before).then_some(()));
        assert_eq!(fake.connections(), 1, "one question for all who read");
        *may_answer.0.lock().unwrap() = true;
        may_answer.1.notify_all();
        let read = reader.join().unwrap().unwrap();
        assert_eq!(read["items"][0]["value"], "20");
    });
}

#[test]
fn a_failed_read_says_since_when_in_the_same_words_each_time() {
    let case = Case::exclusive(Exclusive::Faults, "since").deployment(1);
    let cluster = case.cluster;
    let source = Source::new(None);
    let _daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    let message = case.wait_for_hpa_condition("False", ", since 20");
    assert!(message.contains(&source.url()) && message.contains("ScaledObject"), "{message}");
    source.asked(3);
    assert_eq!(case.wait_for_hpa_condition("False", ", since 20"), message);
}
