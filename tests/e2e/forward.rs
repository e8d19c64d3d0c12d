//! A second adapter beside hpalite: its external metrics are asked when they are read, and the API goes from it to hpalite
//! and back, with the real HPA controller.

use serde_json::{Value, json};

use super::annotated::wait_for_replicas;
use super::case::{Case, Source};
use super::migration::{Reinstalled, done, refused, takeover};
use super::second::{GROUP, Mood, Second, WithoutSecond, spec};
use super::{Exclusive, exclusive};
use crate::prometheus::tls::Authority;
use crate::support::cluster::{APISERVICE, Cluster, Daemon, bounded, wait_seeing};

#[test]
fn metrics_of_a_second_adapter_are_served_beside_ours_and_the_api_goes_forth_and_back() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    let case = Case::within(cluster, "forward").deployment(1);
    let authority = Authority::new();
    let second = Second::start(&authority);
    let _gone = WithoutSecond(cluster, "second");
    second.install(cluster, "second");
    let before = second.register(cluster, "second", APISERVICE);
    cluster.deployment(&case.namespace, "worker", 1);
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "worker", "namespace": case.namespace },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "worker" },
            "minReplicas": 1, "maxReplicas": 10,
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": "lag", "selector": { "matchLabels": { "topic": "orders" } } },
                "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    }));
    wait_for_replicas(&case, "worker", 3);
    let generation = || case.get("deployment", "worker").unwrap()["metadata"]["generation"].clone();
    let moved = generation();

    // Without the second adapter's metrics hpalite would stop that HPA, so the API stays where it is.
    let daemon = Daemon::start(cluster, &["--namespace", &case.namespace]);
    daemon.route_service(cluster);
    let lost = format!("HPA {}/worker, metric lag: ", case.namespace);
    refused(cluster, &["takeover", "--timeout", "10"], &lost);
    assert_eq!(spec(cluster, APISERVICE), before, "it is put back");
    wait_seeing("its HPA to be read again", || case.cluster.raw(&format!("{GROUP}/namespaces/{}/lag", case.namespace)));
    assert_eq!(generation(), moved, "no replica moved");
    drop(daemon);

    let folder = tempfile::tempdir().unwrap();
    let (token, ca) = (folder.path().join("token"), folder.path().join("ca"));
    std::fs::create_dir(&ca).unwrap();
    std::fs::write(ca.join("ca.crt"), &authority.pem).unwrap();
    std::fs::write(&token, "reader").unwrap();
    let url = second.fake.url();
    let (token, ca) = (token.display().to_string(), ca.display().to_string());
    let flags = ["--forward-external-metrics", &url, "--forward-token-file", &token, "--ca-dir", &ca];
    let daemon = Daemon::start(cluster, &[&["--namespace", &case.namespace], &flags[..]].concat());
    daemon.route_service(cluster);
    let text = takeover(cluster);
    assert!(text.contains("second/prometheus-adapter") && text.contains("metrics are read from hpalite"), "{text}");
    assert_eq!(spec(cluster, APISERVICE)["service"]["name"], "hpalite");
    let read = second.forwarded();
    wait_seeing("the HPA controller to read it from hpalite", || {
        let now = second.forwarded();
        if now >= read + 2 { Ok(()) } else { Err(format!("{now}")) }
    });
    assert_eq!(generation(), moved, "no replica moved");

    // A ScaledObject beside it, and both in discovery.
    let source = Source::new(15.0);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(2);
    second.set(Mood::Gives(50));
    wait_for_replicas(&case, "worker", 5);
    let listed = cluster.raw(GROUP).expect("discovery");
    let names: Vec<&str> =
        listed["resources"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["externalmetrics", "lag"]);
    let answered = format!("hpalite_forwarded_reads_total{{adapter=\"{url}\",outcome=\"answered\"}}");
    assert!(daemon.metric(&answered) >= Some(3.0));
    assert_eq!(daemon.metric(&format!("hpalite_forward_up{{adapter=\"{url}\"}}")), Some(1.0));

    // Its errors are its own, and so is its slowness.
    second.set(Mood::Fails);
    wait_seeing("its error in the HPA", || {
        let hpa = case.get("hpa", "worker").unwrap_or_default();
        let text = hpa["status"]["conditions"].to_string();
        if text.contains(&format!("{url}: its Prometheus is down")) { Ok(()) } else { Err(text) }
    });
    second.set(Mood::Hangs);
    let path = format!("{GROUP}/namespaces/{}", case.namespace);
    std::thread::scope(|scope| {
        let slow: Vec<_> = (0..4).map(|_| scope.spawn(|| cluster.raw(&format!("{path}/lag")))).collect();
        source.set(45.0);
        case.wait_for_replicas(5);
        let own = format!("{path}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dso");
        assert_eq!(cluster.raw(&own).expect("our own metric")["items"][0]["value"], "45");
        for thread in slow {
            thread.join().unwrap().expect_err("it does not answer");
        }
    });
    assert_eq!(case.cluster.replicas(&case.namespace, "worker"), Some(5), "an error holds");

    // Doctor says who answers, and what is wrong with what the daemon was given.
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, "rules: [{seriesQuery: 'sum(x)', metricsQuery: '<<.Series>>'}]").unwrap();
    let (code, report) = doctor(cluster, &flags, &rules.display().to_string());
    let ids: Vec<&str> =
        report["findings"].as_array().unwrap().iter().filter_map(|finding| finding["id"].as_str()).collect();
    assert!(code == Some(1) && ids.contains(&"adapter-rule-invalid"), "{report}");
    assert!(!ids.iter().any(|id| id.starts_with("forward-")), "{report}");
    let checks = report["checks"].as_array().unwrap();
    let who = checks.iter().find(|check| check["check"] == "who answers which metrics").unwrap();
    assert_eq!(who["notes"][0], format!("{APISERVICE}: hpalite"), "{who}");
    std::fs::write(&rules, "rules: [").unwrap();
    let nobody = ["--forward-external-metrics", "https://localhost:1"];
    let (_, report) = doctor(cluster, &nobody, &rules.display().to_string());
    for (id, words) in [("adapter-config-unusable", "rules.yaml"), ("forward-target-unreachable", "localhost:1")] {
        let is_found = |finding: &Value| finding["id"] == id && finding.to_string().contains(words);
        assert!(report["findings"].as_array().unwrap().iter().any(is_found), "{id}: {report}");
    }

    // The way back is its own APIService.
    second.set(Mood::Gives(50));
    second.register(cluster, "second", APISERVICE);
    wait_seeing("the second adapter to answer", || {
        let listed = cluster.raw(GROUP)?;
        let is_theirs = listed["resources"].as_array().is_some_and(|all| all.len() == 1);
        if is_theirs { Ok(()) } else { Err(listed.to_string()) }
    });
    assert_eq!(case.cluster.replicas(&case.namespace, "worker"), Some(5));
    let text = done(cluster, &["takeover", "--dry-run"]);
    assert!(text.contains("would point APIService"), "{text}");
}

fn doctor(cluster: &Cluster, flags: &[&str], rules: &str) -> (Option<i32>, Value) {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["doctor", "--json", "--kubeconfig", cluster.env("KUBECONFIG"), "--adapter-config", rules])
        .env("HPALITE_ALLOW_NETWORKS", "127.0.0.0/8, ::1")
        .args(flags)
        .output()
        .expect("hpalite can be run");
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}
