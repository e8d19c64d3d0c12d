//! An HPA that scales to zero by itself, which is the default from Kubernetes 1.37 on, and a feature gate before.

use serde_json::json;

use super::Exclusive;
use super::annotated::{hpa, of, wait_for_replicas};
use super::case::{Case, Source};
use super::observed::wait_for_words;
use crate::support::cluster::Daemon;

#[test]
fn an_hpa_that_scales_to_zero_by_itself_is_served_and_explained() {
    let case = Case::exclusive(Exclusive::Faults, "native-zero").deployment(2);
    let source = Source::new(0.0);
    let daemon = Daemon::serve(case.cluster, &["--prometheus-server", &source.url()]);
    let annotations = [of("events", "query", "load"), of("events", "interval", "1s")];
    hpa(&case, "api", "events", &json!({ "type": "prometheus" }), &annotations);
    case.kubectl(&["patch", "hpa", "api", "--type=merge", "-p", r#"{"spec":{"minReplicas":0}}"#]);
    let object = format!("hpa/{}/api", case.namespace);

    wait_for_replicas(&case, "api", 0);
    wait_for_words(&daemon, &object, &["→0 by the HPA", "events 0 / 10 per replica → 0"]);
    wait_for_words(&daemon, &object, &["held by the HPA, which scaled to zero by itself"]);
    source.set(30.0);
    wait_for_replicas(&case, "api", 3);
    wait_for_words(&daemon, &object, &["0→3 by the HPA", "events 30 / 10 per replica → 3"]);
    // Nothing of this was for hpalite to decide.
    let decided = format!(
        "SELECT count(*) AS n FROM v_decision WHERE namespace = '{}' AND to_replicas <> from_replicas",
        case.namespace
    );
    assert_eq!(daemon.sql(&decided)[0]["n"], 0);
    daemon.stop();
}
