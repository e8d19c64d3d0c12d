//! Which clients may claim an identity.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hpalite::http::certificates::OwnCertificates;
use rcgen::ExtendedKeyUsagePurpose;

use super::support::*;

const CLAIMS: &str = "GET / HTTP/1.1\r\nX-Remote-User: alice\r\nX-Remote-Group: admins\r\nx-remote-group: devs\r\n\
                      X-Remote-Uid: 7\r\nX-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id: x\r\n\
                      X-Remote-Extra-Bad%zz: y\r\nX_Remote_User: mallory";

/// Returns the identity line of `echo`'s answer, and asserts that no identity header reached the handler.
fn line(answer: (u16, String)) -> String {
    assert_eq!(answer.0, 200);
    assert!(!answer.1.to_lowercase().contains("\nx-remote-"), "{}", answer.1);
    answer.1.lines().nth(1).unwrap().to_owned()
}

#[test]
fn the_front_proxy_speaks_for_others() {
    let secure = secure(echo());
    let mut client = secure.client(Some(&secure.front_proxy()));
    let expected = "front-proxy-client for alice 7 [\"admins\", \"devs\"] \
                    {\"authentication.kubernetes.io/credential-id\": [\"x\"], \"bad%zz\": [\"y\"]}";
    assert_eq!(line(ask(&mut client, CLAIMS)), expected);
    let utf8 = "GET / HTTP/1.1\r\nX-Remote-User: jürgen";
    assert_eq!(line(ask(&mut client, utf8)), "front-proxy-client for jürgen  [] {}");
    for (head, expected) in [
        ("GET / HTTP/1.1", "front-proxy-client but front proxy named no user"),
        ("GET / HTTP/1.1\r\nX-Remote-User:", "front-proxy-client but front proxy named no user"),
        ("GET / HTTP/1.1\r\nX_Remote_User: a", "front-proxy-client but front proxy named no user"),
        (
            "GET / HTTP/1.1\r\nX-Remote-User: a\r\nx-remote-user: b",
            "front-proxy-client but front proxy named several users",
        ),
    ] {
        assert_eq!(line(ask(&mut client, head)), expected);
    }
}

#[test]
fn nobody_else_does() {
    let secure = secure(echo());
    let elsewhere = Authority::new("front-proxy-ca");
    let ca = &secure.front_proxy_ca;
    let expired = ca.sign("front-proxy-client", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = (SystemTime::now() - Duration::from_secs(3600)).into();
    });
    let for_servers =
        ca.sign("front-proxy-client", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for (who, holder, expected) in [
        ("no certificate", None, "nobody"),
        ("another name", Some(ca.client("somebody")), "certificate refused: common name \"somebody\""),
        ("no name", Some(ca.client("")), "certificate refused: common name \"\""),
        ("unknown ca of the same name", Some(elsewhere.client("front-proxy-client")), "certificate refused: client"),
        ("expired", Some(expired), "certificate refused: client certificate not trusted: invalid peer certificate"),
        ("for servers", Some(for_servers), "certificate refused: client certificate not trusted"),
    ] {
        let answer = line(ask(&mut secure.client(holder.as_ref()), CLAIMS));
        assert!(answer.starts_with(expected), "{who}: {answer}");
    }
    let gate = plain(echo());
    assert_eq!(line(ask(&mut connect(gate.local_addr()), CLAIMS)), "nobody");
}

#[test]
fn an_expired_authority_makes_no_front_proxy() {
    let secure = secure(echo());
    let hour = Duration::from_secs(3600);
    let expired = Authority::with("front-proxy-ca", |params| params.not_after = (SystemTime::now() - hour).into());
    let holder = expired.client("front-proxy-client");
    secure.tls.set_front_proxy(Some(Arc::new(trust(&expired, &["front-proxy-client"]))));
    let answer = line(ask(&mut secure.client(Some(&holder)), CLAIMS));
    assert!(answer.ends_with("every ca that could have signed it is expired"), "{answer}");
}

/// Certificates expire while connections are open.
#[test]
fn a_front_proxy_whose_certificate_ends_is_none_from_then_on() {
    let secure = secure(echo());
    let head = "GET / HTTP/1.1\r\nX-Remote-User: u";
    let short = secure.front_proxy_ca.sign("front-proxy-client", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = (SystemTime::now() + Duration::from_secs(4)).into();
    });
    let mut client = secure.client(Some(&short));
    let first = line(ask(&mut client, head));
    assert!(first.starts_with("front-proxy-client for u") || first.contains("Expired"), "{first}");
    eventually("it is refused", || line(ask(&mut client, head)).contains("expired"));
}

#[test]
fn a_certificate_without_its_key_does_not_get_through_the_handshake() {
    use std::io::{Read, Write};
    let secure = secure(echo());
    let mut thief = secure.front_proxy_ca.client("front-proxy-client");
    thief.chain = secure.front_proxy().chain;
    // rustls checks that key and certificate match, so the client is built without that check.
    let mut config = secure.client_config(None);
    let stolen = rustls::sign::CertifiedKey::new(thief.chain.clone(), thief.signing_key());
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
    let mut client = secure.client_with(config);
    let result = client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| client.read(&mut [0; 64]));
    assert!(result.is_err(), "{result:?}");
    assert_eq!(secure.gate.counters().requests(), 0);
}

#[test]
fn new_rules_hold_for_the_next_request_of_connections_that_stand() {
    let secure = secure(echo());
    let mut client = secure.client(Some(&secure.front_proxy()));
    let head = "GET / HTTP/1.1\r\nX-Remote-User: u";
    assert_eq!(line(ask(&mut client, head)), "front-proxy-client for u  [] {}");
    secure.tls.set_front_proxy(Some(Arc::new(trust(&secure.front_proxy_ca, &["another"]))));
    assert!(line(ask(&mut client, head)).contains("is not an allowed front proxy"));
    secure.tls.set_front_proxy(None);
    assert!(line(ask(&mut client, head)).contains("no front proxy is configured"));
    secure.tls.set_front_proxy(Some(Arc::new(trust(&secure.front_proxy_ca, &[]))));
    assert_eq!(line(ask(&mut client, head)), "front-proxy-client for u  [] {}");
}

#[test]
fn a_new_certificate_is_served_to_new_handshakes_and_old_connections_stay() {
    let secure = secure(echo());
    let mut before = secure.client(None);
    assert_eq!(ask(&mut before, "GET / HTTP/1.1").0, 200);
    let first = before.conn.peer_certificates().unwrap()[0].clone();
    let renewed: OwnCertificates = secure.own.renew_serving(&names(), SystemTime::now()).unwrap();
    let serving = renewed.serving().unwrap();
    secure.tls.set_certificate(serving.chain.clone(), serving.key).unwrap();
    let mut after = secure.client(None);
    assert_eq!(ask(&mut after, "GET / HTTP/1.1").0, 200);
    assert_eq!(ask(&mut before, "GET / HTTP/1.1").0, 200);
    let second = after.conn.peer_certificates().unwrap()[0].clone();
    assert_eq!(second, serving.chain[0]);
    assert_ne!(first, second);
}
