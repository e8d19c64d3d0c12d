//! The status page of the running daemon, and `hpalite history`.

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::{bounded, http_get, wait_seeing};

#[test]
fn the_page_and_the_plot_show_what_the_daemon_does() {
    let case = Case::new("page").deployment(0);
    let (_, daemon) = daemon();
    let source = Source::new(30.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);

    let log = daemon.log();
    let (_, rest) = log.split_once("gate=ui address=").expect("the page listens");
    let base = format!("http://{}", rest.split_whitespace().next().unwrap());
    assert!(http_get(&base).contains("<title>hpalite</title>"));
    // The history is written asynchronously, within a second or so.
    wait_seeing("the object on the page", || {
        let list: Value =
            serde_json::from_str(&http_get(&format!("{base}/api/objects?q={}/so", case.namespace))).unwrap();
        let object = &list["objects"][0];
        let shown = object["replicas"] == 3 && object["triggers"][0]["value"] == 30.0 && object["state"] == "active";
        shown.then_some(()).ok_or_else(|| list.to_string())
    });
    let path = format!("{base}/api/objects/{}/so?last=3600000", case.namespace);
    let history: Value = serde_json::from_str(&http_get(&path)).unwrap();
    assert_eq!(history["triggers"][0]["thresholds"][0]["threshold"], 10.0, "{history}");
    assert_eq!(history["definitions"][0]["first"], true, "{history}");
    let reasons: Vec<&str> =
        history["decisions"].as_array().unwrap().iter().filter_map(|decision| decision["reason"].as_str()).collect();
    assert!(reasons.contains(&"Activated"), "{history}");
    let now = history["replicas"].as_array().unwrap().last().unwrap().as_array().unwrap();
    assert_eq!(now.last(), Some(&Value::from(3)), "{history}");

    let plot = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["history", &format!("{}/so", case.namespace), "--since", "10m", "--width", "100", "--db"])
        .arg(daemon.db())
        .output()
        .unwrap();
    let text = String::from_utf8(plot.stdout).unwrap();
    for part in ["last 30  threshold 10 per replica", "replicas  last 3  most 3", "activated by", "▲"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
