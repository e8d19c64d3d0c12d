//! Exactly the playground's walkthrough: a ScaledObject with one Prometheus query scales a Deployment from 0 to 1 to N
//! and back to 0.

use std::time::Duration;

use super::daemon;
use crate::support::cluster::{APISERVICE, condition, wait_for, wait_until};

#[test]
fn a_deployment_goes_from_zero_to_seven_and_back() {
    let (cluster, daemon) = daemon();
    let namespace = cluster.namespace("walkthrough");
    let gauge = format!("http_requests{{namespace=\"{namespace}\"}}");
    cluster.set_gauge(&gauge, 0.0);
    cluster.deployment(&namespace, "api", 0);
    cluster.apply(&format!(
        r#"
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{ name: total-request-hpa, namespace: {namespace} }}
spec:
  scaleTargetRef: {{ name: api }}
  pollingInterval: 3
  cooldownPeriod: 5
  minReplicaCount: 0
  maxReplicaCount: 25
  triggers:
    - type: prometheus
      metadata:
        serverAddress: {prometheus}
        metricName: http_requests_total
        query: sum({gauge})
        threshold: "75"
"#,
        prometheus = cluster.prometheus()
    ));
    let object = || cluster.get("scaledobject", &namespace, "total-request-hpa").expect("it exists");
    wait_for("the ScaledObject to be Ready and inactive", || {
        let object = object();
        let is = |kind, status: &str| condition(&object, kind).is_some_and(|(found, ..)| found == status);
        (is("Ready", "True") && is("Active", "False")).then_some(())
    });
    assert_eq!(cluster.replicas(&namespace, "api"), Some(0), "nothing moves without load");

    cluster.set_gauge(&gauge, 500.0);
    wait_for("1 replica or more", || (cluster.replicas(&namespace, "api")? >= 1).then_some(()));
    wait_for("7 replicas, 500 / 75 rounded up", || (cluster.replicas(&namespace, "api")? == 7).then_some(()));
    let hpa = cluster.kubectl(&["get", "hpa", "-n", &namespace]);
    assert!(hpa.contains("keda-hpa-total-request-hpa") && hpa.contains("Deployment/api"), "{hpa}");
    let table = cluster.kubectl(&["get", "scaledobjects", "-n", &namespace]);
    for column in ["SCALETARGETKIND", "apps/v1.Deployment", "READY", "ACTIVE", "prometheus"] {
        assert!(table.contains(column), "{table}");
    }
    let apiservice = cluster.kubectl(&["get", "apiservice", APISERVICE]);
    assert!(apiservice.contains("hpalite/hpalite") && apiservice.contains("True"), "{apiservice}");
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/s0-prometheus\
         ?labelSelector=scaledobject.keda.sh%2Fname%3Dtotal-request-hpa"
    );
    let metric = cluster.raw(&path).expect("the metric can be read");
    assert_eq!((&metric["kind"], &metric["items"][0]["value"]), (&"ExternalMetricValueList".into(), &"500".into()));

    cluster.set_gauge(&gauge, 0.0);
    wait_for("0 replicas after the cooldown", || (cluster.replicas(&namespace, "api")? == 0).then_some(()));
    // The way up is in the history, with the author of each step.
    let steps = wait_until("the history to be written", Duration::from_secs(60), || {
        let rows = daemon.sql(&format!(
            "SELECT from_replicas, to_replicas, actor FROM v_replica_change WHERE namespace = '{namespace}' ORDER BY at_unix_ms"
        ));
        (rows.last()?["to_replicas"] == 0).then_some(rows)
    });
    // After the count that was seen first.
    let steps = &steps[1..];
    assert_eq!(
        (&steps[0]["from_replicas"], &steps[0]["to_replicas"], &steps[0]["actor"]),
        (&0.into(), &1.into(), &"hpalite".into()),
        "{steps:?}"
    );
    assert!(steps.iter().any(|row| row["to_replicas"] == 7 && row["actor"] == "hpa"), "{steps:?}");
    assert_eq!(steps.last().map(|row| row["actor"].clone()), Some("hpalite".into()), "{steps:?}");
    let samples = daemon.sql(&format!("SELECT value FROM v_sample WHERE namespace = '{namespace}'"));
    assert!(
        samples.iter().any(|row| row["value"] == 500.0) && samples.iter().any(|row| row["value"] == 0.0),
        "{samples:?}"
    );
    // Events make way for all other writes.
    for reason in ["KEDAScalersStarted", "ScaledObjectReady", "KEDAScaleTargetActivated", "KEDAScaleTargetDeactivated"]
    {
        wait_for(reason, || {
            let events = cluster.events(&namespace, "total-request-hpa");
            events.iter().any(|(_, found, _)| found == reason).then_some(())
        });
    }
    cluster.kubectl(&["delete", "scaledobject", "-n", &namespace, "total-request-hpa", "--timeout=30s"]);
    wait_for("the HPA to be gone with its owner", || {
        cluster.get("hpa", &namespace, "keda-hpa-total-request-hpa").is_none().then_some(())
    });
}
