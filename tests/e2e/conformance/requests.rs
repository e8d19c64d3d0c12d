//! Rows 16 to 20: all forms of a request.

use std::io::Write as _;

use serde_json::json;

use super::door::{Answer, ask};
use super::scene::{GV, MASTER, scene};
use crate::e2e::case::Source;
use crate::support::cluster::wait_seeing;

#[test]
fn row_16_accept() {
    let scene = scene();
    let metric = scene.metric();
    let with = |accept: &str| {
        let header = format!("Accept: {accept}");
        scene.door.get(Some(&scene.front), &metric, &[&MASTER[..], &[&header]].concat())
    };
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table_first = format!("{table},application/json");
    for accept in
        ["application/vnd.kubernetes.protobuf, */*", &table_first, "", "*/*", "application/*", "text/html, */*;q=0.1"]
    {
        let answer = with(accept);
        assert_eq!(
            (answer.value().as_str(), answer.header("Content-Type")),
            ("5", Some("application/json")),
            "{accept}"
        );
    }
    for accept in
        [table, "text/html", "application/json;q=0", "application/yaml", "application/vnd.kubernetes.protobuf"]
    {
        let answer = with(accept);
        assert_eq!((answer.code, &answer.json()["reason"]), (406, &"NotAcceptable".into()), "{accept}");
        assert!(answer.message().contains("application/json"), "{}", answer.message());
    }
    assert_eq!(with(&"a/b,".repeat(25_000)).code, 431);
}

#[test]
fn row_16_through_the_kube_apiserver() {
    let scene = scene();
    // kubectl asks for a Table first.
    let listed = scene.case.cluster.try_kubectl(&["get", "externalmetrics", "-A"]);
    assert!(listed.unwrap_err().contains("NotFound"), "no adapter lists them");
    let text = scene.case.kubectl(&["get", "--raw", &scene.metric()]);
    assert!(text.contains("\"ExternalMetricValueList\""), "{text}");
}

#[test]
fn row_17_methods() {
    let scene = scene();
    for target in [scene.metric(), GV.to_owned()] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            for (length, sent) in [(0, 0), (5, 5), (60_000, 60_000), (60_000, 100), (5, 0)] {
                let mut client = scene.door.client(Some(&scene.front));
                let claims = MASTER.join("\r\n");
                write!(client, "{method} {target} HTTP/1.1\r\nHost: a\r\n{claims}\r\nContent-Length: {length}\r\n\r\n")
                    .unwrap();
                client.write_all(&vec![b'x'; sent]).unwrap();
                // The answer does not wait for the rest of a body.
                let answer = Answer::read(&mut client, &target);
                assert_eq!((answer.code, &answer.json()["reason"]), (405, &"MethodNotAllowed".into()), "{method}");
                assert_eq!(answer.header("Connection"), (length > 0).then_some("close"), "{method} {length}");
                if length == 0 {
                    assert_eq!(ask(&mut client, "GET", GV, &MASTER).code, 200, "{method}");
                }
            }
        }
        let head = scene.door.raw(
            Some(&scene.front),
            format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n{}\r\nConnection: close\r\n\r\n", MASTER.join("\r\n"))
                .as_bytes(),
        );
        assert!(head.starts_with("HTTP/1.1 405 ") && head.ends_with("\r\n\r\n"), "{head}");
        // A user who may not read may not use other methods either.
        assert_eq!(scene.door.ask(Some(&scene.front), "DELETE", &target, &["X-Remote-User: bob"]).code, 403);
    }
    let error = scene.case.cluster.try_kubectl(&["delete", "--raw", &scene.bare()]).unwrap_err();
    assert!(error.contains("MethodNotAllowed") || error.contains("does not allow"), "{error}");
}

#[test]
fn row_18_lists_that_are_none() {
    let scene = scene();
    let more = |query: &str| scene.as_master(&format!("{}&{query}", scene.metric()));
    for query in ["watch=1", "watch=true", "watch"] {
        assert_eq!(more(query).code, 405, "{query}");
    }
    for query in ["limit=abc", "timeoutSeconds=x", "limit=1.5"] {
        let answer = more(query);
        assert_eq!((answer.code, &answer.json()["reason"]), (400, &"BadRequest".into()), "{query}");
    }
    for query in [
        "limit=5&continue=x",
        "watch=0",
        "watch=false",
        "resourceVersion=7",
        "fieldSelector=a%3Db",
        "timeout=5s",
        "other",
    ] {
        assert_eq!(more(query).value(), "5", "{query}");
    }
    let through = |query: &str| scene.case.cluster.raw(&format!("{}&{query}", scene.metric()));
    assert_eq!(through("limit=5&continue=x").unwrap()["items"][0]["value"], "5");
    let error = through("limit=abc").unwrap_err();
    assert!(error.contains("not an integer"), "{error}");
}

#[test]
fn row_19_label_selectors() {
    let scene = scene();
    // Its name ends with a number, for > and <.
    let second = Source::new(2.0);
    scene.case.cluster.deployment(&scene.case.namespace, "api-7", 1);
    let spec =
        json!({ "scaleTargetRef": { "name": "api-7" }, "minReplicaCount": 1, "triggers": [second.trigger("10")] });
    scene.case.scale("7", spec);
    let with = |selector: &str| {
        let encoded: String = selector.bytes().map(|byte| format!("%{byte:02X}")).collect();
        scene.as_master(&format!("{}?labelSelector={encoded}", scene.bare()))
    };
    let name = "scaledobject.keda.sh/name";
    wait_seeing("the second metric", || match with(&format!("{name}=7")) {
        answer if answer.code == 200 => Ok(()),
        answer => Err(answer.body),
    });
    let values = |answer: &Answer| {
        let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(",")
    };
    for (selector, expected) in [
        (format!("{name}=so"), "5"),
        (format!("{name}==so"), "5"),
        (format!(" {name} = so "), "5"),
        (format!("{name}!=so"), "2"),
        (format!("{name} in (so)"), "5"),
        (format!("{name} in (so, 7)"), "2,5"),
        (format!("{name} notin (so,x)"), "2"),
        (name.to_owned(), "2,5"),
        (format!("{name}>6"), "2"),
        (format!("{name}<8"), "2"),
        (format!("{name}=so,{name}!=7"), "5"),
        (format!("{name}=so,!other"), "5"),
        (format!("{name}=so,other!=x"), "5"),
        ("other notin (x)".to_owned(), "2,5"),
        ("!other".to_owned(), "2,5"),
        (String::new(), "2,5"),
    ] {
        let answer = with(&selector);
        assert_eq!((answer.code, values(&answer).as_str()), (200, expected), "{selector}: {}", answer.body);
    }
    assert_eq!(values(&scene.as_master(&scene.bare())), "2,5", "without a selector");
    // Valid selectors that match nothing: `in` is a legal key and a legal value.
    for selector in ["in in (in)", "in", "notin notin (a),in", "!scaledobject.keda.sh/name", "a=", &format!("{name}>7")]
    {
        assert_eq!(with(selector).code, 404, "{selector}");
    }
    let (long, longest) = (format!("a={}", "b".repeat(64)), format!("a={}", "b".repeat(63)));
    assert_eq!(with(&longest).code, 404);
    for selector in ["a===(", "a=b=c", "a in b", "a in ()", "!a=b", "=b", "a>b", "a,", "-a=b", "a/b/c=d", &long] {
        let answer = with(selector);
        assert_eq!((answer.code, &answer.json()["reason"]), (400, &"BadRequest".into()), "{selector}");
        assert!(answer.message().starts_with("unable to parse labelSelector: "), "{}", answer.message());
    }
    let repeated = scene.as_master(&format!("{}&labelSelector=a", scene.metric()));
    assert_eq!(repeated.code, 400);
    let huge = format!("{}?labelSelector={}", scene.bare(), "a,".repeat(32 << 10));
    assert!([414, 431].contains(&scene.as_master(&huge).code));
    // In the kube-apiserver's encoding.
    let through = |selector: &str| scene.case.cluster.raw(&format!("{}?labelSelector={selector}", scene.bare()));
    let name = "scaledobject.keda.sh%2Fname";
    assert_eq!(through(&format!("{name}%20in%20(so,x),!y")).unwrap()["items"][0]["value"], "5");
    assert!(through("a%3D%3D%3D(").unwrap_err().contains("unable to parse labelSelector"));
}

#[test]
fn row_20_paths() {
    let scene = scene();
    let namespace = &scene.case.namespace;
    let inside = format!("{GV}/namespaces/{namespace}");
    assert_eq!(
        scene.as_master(&format!("{inside}/s0-prometheus/?labelSelector=scaledobject.keda.sh%2Fname%3Dso")).value(),
        "5"
    );
    assert_eq!(scene.as_master(&format!("{GV}/")).code, 200);
    for path in [
        format!("{GV}/s0-prometheus"),
        format!("{inside}/s0-prometheus/x"),
        format!("{inside}/s0-prometheus//"),
        format!("{GV}//namespaces/{namespace}/s0-prometheus"),
        format!("{GV}/namespaces//s0-prometheus"),
        format!("{GV}/namespaces/../s0-prometheus"),
        format!("{inside}/../{namespace}/s0-prometheus"),
        format!("{inside}/status"),
        format!("{inside}/finalize"),
        format!("{inside}/a%2Fb"),
        format!("{inside}/s0%2Dprometheus%00"),
        format!("{inside}/%C0%AF"),
        format!("{inside}/%zz"),
        format!("{inside}/."),
        format!("{inside}/%2e"),
        format!("{inside}/"),
        inside.clone(),
        "/apis/external.metrics.k8s.io/v1/namespaces/a/b".to_owned(),
        "/apis/custom.metrics.k8s.io/v1".to_owned(),
        "//apis".to_owned(),
        "/apis/external.metrics.k8s.io/v1beta1/../v1beta1".to_owned(),
    ] {
        let code = scene.as_master(&path).code;
        assert!(code == 404 || code == 400, "{path}: {code}");
    }
    for path in ["/s0-prometheus/x", "/status", "/unknown"] {
        let error = scene.case.cluster.raw(&format!("{inside}{path}")).unwrap_err();
        assert!(error.contains("NotFound"), "{path}: {error}");
    }
    // The name of a metric may contain escapes and be in any case.
    assert_eq!(
        scene.as_master(&format!("{inside}/S0%2Dprometheus?labelSelector=scaledobject.keda.sh/name=so")).value(),
        "5"
    );
}
