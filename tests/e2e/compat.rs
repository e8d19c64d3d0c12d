//! The recorded cases on a control plane: the same manifests have the same results as with KEDA 2.20.2, except for the
//! listed differences.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::differences::RECORDED;
use super::picture::{self, Allowed, Pictures, Places};
use crate::support::cluster::{Cluster, Daemon};

const MANIFESTS: &str = include_str!("../fixtures/compat/manifests.json");
const RECORD: &str = include_str!("../fixtures/compat/keda-2.20.2.json");
/// HPAs go through several states, on a machine that runs other tests.
const SETTLED: Duration = Duration::from_secs(150);

/// A control plane with a frequent HPA sync and its own daemon.
pub(super) fn compat_cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<(Cluster, Daemon)> = OnceLock::new();
    let (cluster, _daemon) = CLUSTER.get_or_init(|| {
        let cluster = Cluster::start(&["--hpa-sync", "2s", "--hpa-stabilization", "5m"]);
        cluster.install();
        for app in ["app-0", "app-1", "app-2"] {
            cluster.set_gauge(&format!("app_load{{app=\"{app}\"}}"), 10.0);
        }
        let daemon = Daemon::serve(&cluster, &[]);
        (cluster, daemon)
    });
    cluster
}

/// Waits until only the allowed differences are left; then all of those must be present.
pub(super) fn check(
    cluster: &Cluster,
    namespace: &str,
    expected: &BTreeMap<String, Places>,
    allowed: &[Allowed],
    ignored: fn(&str) -> bool,
) {
    let started = Instant::now();
    loop {
        let mut pictures = picture::take(cluster, namespace);
        picture::read_metrics(cluster, namespace, expected, &mut pictures);
        let places = |(name, picture): (&String, &Value)| {
            let mut places = picture::places(picture);
            places.retain(|place, _| !ignored(place));
            (name.clone(), places)
        };
        let found: BTreeMap<String, Places> = pictures.iter().map(places).collect();
        let (diffs, unseen) = picture::unexpected(expected, &found, allowed);
        if diffs.is_empty() && unseen.is_empty() {
            return;
        }
        assert!(
            started.elapsed() < SETTLED,
            "{} unexpected differences\n{}",
            diffs.len() + unseen.len(),
            picture::explain(&diffs, &unseen)
        );
        // The pause between two comparisons, which does not wait for an event.
        std::thread::park_timeout(Duration::from_millis(500));
    }
}

#[test]
fn the_recorded_cases_leave_what_keda_leaves() {
    let cluster = compat_cluster();
    cluster.kubectl(&["create", "namespace", "compat"]);
    let refused = cluster.try_apply(&MANIFESTS.replace("__PROMETHEUS__", cluster.prometheus())).unwrap_err();
    // The API server refuses these, so they never reach a controller.
    for (name, text) in [
        ("c17-minmax-bad", "minReplicaCount must be less than or equal to maxReplicaCount"),
        ("c49-notriggers", "spec.triggers in body should have at least 1 items"),
        ("c19-badthreshold", "metadata.threshold of a prometheus trigger must be a JSON number"),
    ] {
        assert!(refused.contains(&format!("\"{name}\" is invalid")) && refused.contains(text), "{name}: {refused}");
    }
    assert_eq!(refused.matches("is invalid").count(), 3, "{refused}");
    let record: Pictures = serde_json::from_str(&RECORD.replace("__PROMETHEUS__", cluster.prometheus())).unwrap();
    let expected = record.iter().map(|(name, picture)| (name.clone(), picture::places(picture))).collect();
    check(cluster, "compat", &expected, RECORDED, |_| false);
}
