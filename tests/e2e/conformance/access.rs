//! Rows 5, 6 and 8 to 14: authentication and authorisation.

use std::time::{Duration, SystemTime};

use rcgen::ExtendedKeyUsagePurpose;

use super::door::{Door, ask, holder, kubectl_at};
use super::scene::{GV, Line, MASTER, Mode, Scene, scene};
use crate::e2e::{Exclusive, exclusive};
use crate::gate::support::{Authority, Holder};
use crate::support::cluster::{Daemon, signal, wait_seeing};

#[test]
fn row_05_health_is_open_to_anybody() {
    let scene = scene();
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = scene.door.get(None, path, &[]);
        assert_eq!((answer.code, answer.body.as_str()), (200, "ok"), "{path}");
        // Invalid credentials change nothing.
        assert_eq!(scene.door.get(None, path, &["Authorization: Bearer nonsense"]).code, 200, "{path}");
        assert_eq!(kubectl_at(scene.case.cluster, &scene.door, "nonsense", path).unwrap(), "ok");
    }
}

#[test]
fn row_05_readiness_goes_first_when_draining() {
    let (cluster, _lock) = exclusive(Exclusive::Faults);
    let daemon = Daemon::serve(cluster, &["--drain", "20"]);
    let scene = Scene::within(cluster, &daemon, "draining");
    let mut kept = scene.door.client(Some(&scene.front));
    assert_eq!(ask(&mut kept, "GET", "/readyz", &[]).code, 200);
    signal(daemon.pid(), "TERM");
    let body = wait_seeing("/readyz to fail", || match scene.door.get(None, "/readyz", &[]) {
        answer if answer.code == 503 => Ok(answer.body),
        answer => Err(answer.body),
    });
    assert!(body.contains("shutting down"), "{body}");
    // Endpoints take time to propagate: until then all requests are answered, on old and new connections.
    assert_eq!(scene.door.get(None, "/livez", &[]).code, 200);
    assert_eq!(scene.as_master(GV).code, 200);
    assert_eq!(scene.as_master(&scene.metric()).value(), "5");
    assert_eq!(ask(&mut kept, "GET", &scene.metric(), &MASTER).value(), "5");
    daemon.kill();
}

#[test]
fn row_06_anonymous_gets_nothing_else() {
    let scene = scene();
    for path in ["/metrics", "/readyz/x", "/", "/apis", "/openapi/v2", GV, &scene.metric()] {
        let answer = scene.door.get(None, path, &[]);
        assert_eq!((answer.code, &answer.json()["reason"]), (403, &"Forbidden".into()), "{path}");
        assert!(answer.message().contains("User \"system:anonymous\" cannot "), "{}", answer.message());
    }
}

#[test]
fn row_08_who_may_read_a_metric() {
    let scene = scene();
    let metric = scene.metric();
    assert_eq!(scene.proxied("alice", &metric).value(), "5");
    let denied = scene.proxied("bob", &metric);
    assert_eq!(denied.code, 403);
    let expected = format!(
        "s0-prometheus.external.metrics.k8s.io is forbidden: User \"bob\" cannot list resource \"s0-prometheus\" in API \
         group \"external.metrics.k8s.io\" in the namespace \"{}\"",
        scene.case.namespace
    );
    assert!(denied.message().starts_with(&expected), "{}", denied.message());
    // The right covers one metric in one namespace.
    assert_eq!(scene.proxied("alice", &metric.replace("s0-prometheus", "s1-prometheus")).code, 403);
    assert_eq!(scene.proxied("alice", &format!("{GV}/namespaces/default/s0-prometheus")).code, 403);
    let group = ["X-Remote-User: carol", "X-Remote-Group: system:masters"];
    assert_eq!(scene.door.get(Some(&scene.front), &metric, &group).value(), "5");
}

#[test]
fn row_08_through_the_kube_apiserver() {
    let scene = scene();
    let cluster = scene.case.cluster;
    let value = |arguments: &[&str]| {
        let text = cluster.try_kubectl(&[&["get", "--raw", &scene.metric()], arguments].concat())?;
        let body: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok::<_, String>(body["items"][0]["value"].clone())
    };
    assert_eq!(value(&[]), Ok("5".into()), "an administrator");
    let controller = "--as=system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    assert_eq!(value(&[controller]), Ok("5".into()), "the HPA controller");
    assert_eq!(value(&["--as=alice"]), Ok("5".into()), "a user with the right to it");
    let account = format!("--as=system:serviceaccount:{}:reader", scene.case.namespace);
    assert_eq!(value(&[&account]), Ok("5".into()), "a service account with the right to it");
    for user in ["--as=bob", "--as=system:anonymous"] {
        let error = value(&[user]).unwrap_err();
        assert!(error.contains("forbidden"), "{user}: {error}");
    }
    let nobody = cluster.env("KUBECONFIG_NOBODY");
    let error = value(&["--kubeconfig", nobody]).unwrap_err();
    assert!(error.contains("forbidden"), "{error}");
    // The kube-apiserver drops identity headers of its own clients.
    let apiserver = Door::of_apiserver(cluster);
    let forged = apiserver.get(Some(&holder(cluster, "nobody")), &scene.metric(), &MASTER);
    assert_eq!(forged.code, 403, "{}", forged.body);
    assert!(forged.message().contains("User \"nobody\""), "{}", forged.message());
}

#[test]
fn row_09_claims_count_only_from_the_front_proxy() {
    let scene = scene();
    let metric = scene.metric();
    let claimed = scene.door.get(None, &metric, &MASTER);
    assert_eq!(claimed.code, 403);
    assert!(claimed.message().contains("User \"system:anonymous\""), "{}", claimed.message());
    let mallory = scene.client_ca.client("mallory");
    let with_certificate = scene.door.get(Some(&mallory), &metric, &MASTER);
    assert_eq!(with_certificate.code, 403);
    assert!(with_certificate.message().contains("User \"mallory\""), "{}", with_certificate.message());
    assert_eq!(scene.door.get(Some(&scene.front), &metric, &[]).code, 401);
    assert_eq!(scene.door.get(None, &metric, &["Authorization: Bearer garbage"]).code, 401);
    // A client certificate of the cluster authenticates its holder.
    assert_eq!(scene.door.get(Some(&scene.client_ca.client("alice")), &metric, &[]).value(), "5");
    assert_eq!(scene.door.get(Some(&holder(scene.case.cluster, "admin")), &metric, &[]).value(), "5");
}

#[test]
fn row_10_certificates_that_make_nobody() {
    let scene = scene();
    let for_clients = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let expired = |authority: &Authority, name: &str| {
        authority.sign(name, |params| {
            for_clients(params);
            params.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        })
    };
    let not_yet = scene.front_ca.sign("front-proxy-client", |params| {
        for_clients(params);
        params.not_before = (SystemTime::now() + Duration::from_secs(3600)).into();
    });
    let for_servers = |authority: &Authority, name: &str| {
        authority.sign(name, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
    };
    // It has the name of the real one; only the key differs.
    let unknown = Authority::new("test-front-proxy-ca");
    let cases: [(&str, Holder); 9] = [
        ("another name", scene.front_ca.client("somebody-else")),
        ("expired", expired(&scene.front_ca, "front-proxy-client")),
        ("not yet valid", not_yet),
        ("for servers", for_servers(&scene.front_ca, "front-proxy-client")),
        ("unknown ca", unknown.client("front-proxy-client")),
        ("user, expired", expired(&scene.client_ca, "alice")),
        ("user, for servers", for_servers(&scene.client_ca, "alice")),
        ("user of an unknown ca", Authority::new("test-cluster-ca").client("alice")),
        ("user without a name", scene.client_ca.client("")),
    ];
    for (what, holder) in &cases {
        for headers in [&MASTER[..], &["X-Remote-User: alice"], &[]] {
            assert_eq!(scene.door.get(Some(holder), &scene.metric(), headers).code, 401, "{what}");
        }
    }
    // The allowed name, signed by the CA of users, is only a user of that name.
    let user = scene.client_ca.client("front-proxy-client");
    let answer = scene.door.get(Some(&user), &scene.metric(), &MASTER);
    assert!(answer.code == 403 && answer.message().contains("User \"front-proxy-client\""), "{}", answer.body);
}

#[test]
fn row_11_a_front_proxy_that_names_nobody_or_two() {
    let scene = scene();
    for headers in [
        &["X-Remote-User:"][..],
        &["X-Remote-User: ", "X-Remote-Group: system:masters"],
        &["X-Remote-User: alice", "X-Remote-User: root"],
        &["X-Remote-User: alice", "x-remote-user: alice"],
    ] {
        let answer = scene.door.get(Some(&scene.front), &scene.metric(), headers);
        assert_eq!(answer.code, 401, "{headers:?}");
    }
}

/// That keys of extras are decoded shows in the kube-apiserver's audit log: see `live`.
#[test]
fn row_12_names_of_identity_headers() {
    let scene = scene();
    let code = |headers: &[&str]| scene.door.get(Some(&scene.front), &scene.metric(), headers).code;
    assert_eq!(code(&["X_Remote_User: alice"]), 401);
    assert_eq!(code(&["X_Remote_User: root", "X_Remote_Group: system:masters", "X-Remote-User: bob"]), 403);
    assert_eq!(code(&["x-remote-user: alice"]), 200);
    assert_eq!(code(&["X-REMOTE-USER: bob", "x-remote-GROUP: system:masters"]), 200);
    for extra in ["X-Remote-Extra-Example.com%2fKey: x", "X-Remote-Extra-Bad%zz: y"] {
        assert_eq!(code(&["X-Remote-User: alice", extra]), 200, "{extra}");
    }
}

#[test]
fn row_13_bearer_tokens() {
    let scene = scene();
    let (reader, other) = (scene.token("reader"), scene.token("other"));
    let with = |token: &str| scene.door.get(None, &scene.metric(), &[&format!("Authorization: Bearer {token}")]);
    assert_eq!(with(&reader).value(), "5");
    // The second answer comes from the cache.
    assert_eq!(with(&reader).value(), "5");
    let denied = with(&other);
    assert_eq!(denied.code, 403);
    let name = format!("User \"system:serviceaccount:{}:other\"", scene.case.namespace);
    assert!(denied.message().contains(&name), "{}", denied.message());
    let (start, end) = reader.split_at(reader.len() - 8);
    let tampered = format!("{start}{}", end.chars().rev().collect::<String>());
    for bad in ["x", &tampered, &reader[..reader.len() - 1], "a.b.c"] {
        assert_eq!(with(bad).code, 401, "{bad}");
    }
    // With Go's client, directly and through the kube-apiserver.
    let cluster = scene.case.cluster;
    assert!(kubectl_at(cluster, &scene.door, &reader, &scene.metric()).unwrap().contains("\"value\":\"5\""));
    assert!(kubectl_at(cluster, &scene.door, "x", &scene.metric()).unwrap_err().contains("Unauthorized"));
    let apiserver = Door::of_apiserver(cluster);
    let answer = apiserver.get(None, &scene.metric(), &[&format!("Authorization: Bearer {reader}")]);
    assert_eq!(answer.value(), "5");
}

#[test]
fn row_13_and_14_an_api_server_that_cannot_be_asked() {
    let (cluster, _lock) = exclusive(Exclusive::Faults);
    let line = Line::new(cluster);
    let daemon = Daemon::serve(cluster, &["--kubeconfig", line.kubeconfig()]);
    let scene = Scene::within(cluster, &daemon, "outage");
    let (reader, other) = (scene.token("reader"), scene.token("other"));
    let with = |token: &str| scene.door.get(None, &scene.metric(), &[&format!("Authorization: Bearer {token}")]);
    assert_eq!(scene.proxied("alice", &scene.metric()).value(), "5");
    assert_eq!(with(&reader).value(), "5");
    line.set(Mode::Refusing);
    let answer = scene.proxied("bob", &scene.metric());
    assert_eq!((answer.code, answer.message().as_str()), (500, "cannot authorize: access review failed"));
    assert_eq!(with(&other).code, 401, "a token that nobody can review");
    for path in [GV, "/apis", "/openapi/v2", "/openapi/v3"] {
        assert_eq!(scene.proxied("system:kube-aggregator", path).code, 200, "{path}");
    }
    // An administrator needs no review.
    assert_eq!(scene.as_master(&scene.metric()).value(), "5");
    assert_eq!(scene.door.get(None, "/livez", &[]).code, 200);
    line.set(Mode::Open);
    assert_eq!(scene.proxied("alice", &scene.metric()).value(), "5");
    assert_eq!(scene.proxied("bob", &scene.metric()).code, 403);
}
