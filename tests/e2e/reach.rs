//! Which addresses triggers may query, and what a tenant learns by trying.

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;

fn api(url: &str) -> Value {
    let metadata = json!({ "url": url, "valueLocation": "a", "targetValue": "1", "format": "xml" });
    json!({ "type": "metrics-api", "metadata": metadata })
}

/// The attack: a tenant's trigger queries what only the daemon can reach, directly or by a redirect, and reads errors.
#[test]
fn no_trigger_asks_ourselves_or_a_metadata_service() {
    let case = Case::new("reach").deployment(1);
    let own = &daemon().1.http;
    let source = Source::new(10.0);
    case.scale("so", json!({ "triggers": [api(&format!("{own}/metrics"))] }));
    case.wait_for_event("KEDAScalerFailed", "is a port of hpalite's own, which no trigger may ask");
    case.scale("so", json!({ "triggers": [api("http://169.254.169.254/latest/meta-data/")] }));
    let note = case.wait_for_event("KEDAScalerFailed", "169.254.169.254 is a link-local address");
    assert!(note.contains("--allow-network 169.254.0.0/16 would allow it"), "{note}");
    // Via another address, such as that of the Service, such a request is still recognised.
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let answer = agent.get(format!("{own}/metrics")).header("hpalite-poll", "1").call().unwrap();
    assert_eq!(answer.status(), 403);
    // Other objects are not affected.
    case.cluster.deployment(&case.namespace, "good", 1);
    case.scale("good", json!({ "scaleTargetRef": { "name": "good" }, "triggers": [source.trigger("10")] }));
    source.asked(2);
}
