//! Trigger authentications: missing, appearing, listing who uses them, and let go.

use super::*;
use crate::scaling::allowed::Allowed;
use crate::scaling::model::{AuthenticationKind, AuthenticationRef};
use crate::scaling::testing::authentication;

fn uses_authentication(definition: &mut Definition) {
    definition.triggers[0].authentication =
        Some(AuthenticationRef { kind: AuthenticationKind::TriggerAuthentication, name: "token".to_owned() });
}

#[test]
fn a_missing_authentication_is_named_and_heals_at_once() {
    let mut rig = shop(1, 500.0, uses_authentication);
    rig.seconds(5);
    assert!(rig.polls.is_empty(), "never asked without credentials");
    let event = rig.events.last().unwrap();
    assert_eq!(event.reason, "KEDAScalerFailed");
    assert_eq!(
        event.note,
        "s0-prometheus: TriggerAuthentication default/token not found (spec.triggers[0].authenticationRef names it)"
    );
    assert_eq!(conditions(&rig, "shop")[0], "Ready=False TriggerError");
    rig.cluster.put_authentication(authentication("token"));
    rig.seconds(2);
    assert_eq!(conditions(&rig, "shop")[0], "Ready=True ScaledObjectReady");
    assert_eq!(rig.polls.len(), 1);
}

#[test]
fn a_cluster_wide_one_serves_whom_its_annotations_name() {
    let mut rig = shop(1, 500.0, |definition| {
        definition.triggers[0].authentication = Some(AuthenticationRef {
            kind: AuthenticationKind::ClusterTriggerAuthentication,
            name: "token".to_owned(),
        });
    });
    let mut found = authentication("token");
    found.key.kind = AuthenticationKind::ClusterTriggerAuthentication;
    found.key.namespace.clear();
    for (namespaces, servers, refusal) in [
        ("other", "*", "hpalite.dev/allowed-namespaces does not name namespace default"),
        ("default", "*.example", "hpalite.dev/allowed-servers does not name http://prometheus:9090"),
    ] {
        found.allowed = Allowed::read(Some(namespaces), Some(servers));
        rig.cluster.put_authentication(found.clone());
        rig.seconds(35);
        assert!(rig.polls.is_empty(), "its values go nowhere");
        let expected = format!(
            "s0-prometheus: ClusterTriggerAuthentication token: its annotation {refusal} (spec.triggers[0] refers to it)"
        );
        assert_eq!(rig.events.iter().rfind(|event| event.reason == "KEDAScalerFailed").unwrap().note, expected);
        assert_eq!(conditions(&rig, "shop")[0], "Ready=False TriggerError");
    }
    // Once allowed, it is used at once.
    found.allowed = Allowed::read(Some("other, def*"), Some("prometheus:9090"));
    rig.cluster.put_authentication(found.clone());
    rig.seconds(2);
    assert_eq!((rig.polls.len(), &*conditions(&rig, "shop")[0]), (1, "Ready=True ScaledObjectReady"));
    // When no longer allowed, it is not used.
    found.allowed = Allowed::read(Some("other"), None);
    rig.cluster.put_authentication(found);
    rig.seconds(60);
    assert_eq!((rig.polls.len(), &*conditions(&rig, "shop")[0]), (1, "Ready=False TriggerError"));
}

#[test]
fn at_start_an_authentication_that_is_not_listed_yet_is_no_error() {
    let mut definition = testing::definition();
    uses_authentication(&mut definition);
    let mut cluster = Cluster::default();
    cluster.put_object(fresh("shop", "web", definition));
    cluster.put_workload(&deployment(), workload("web", 1));
    cluster.put_authentication(authentication("token"));
    let mut rig = Rig::new(cluster);
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(5);
    assert!(!rig.reasons().contains(&"KEDAScalerFailed"));
    assert_eq!(conditions(&rig, "shop")[0], "Ready=True ScaledObjectReady");
}

#[test]
fn users_are_listed_on_the_authentication_and_taken_off() {
    let mut rig = shop(1, 500.0, uses_authentication);
    rig.cluster.put_authentication(authentication("token"));
    rig.seconds(5);
    let status = |rig: &Rig| {
        let id = authentication("token").key;
        rig.cluster.authentications[&id].status_scaled_objects.clone()
    };
    assert_eq!(status(&rig), "shop");
    let mut definition = testing::definition();
    uses_authentication(&mut definition);
    rig.cluster.put_object(fresh("alpha", "other", definition));
    rig.seconds(5);
    assert_eq!(status(&rig), "shop,alpha");
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert_eq!(status(&rig), "alpha");
    let writes = rig.kinds();
    let count = writes.iter().filter(|kind| **kind == "AuthenticationStatus");
    assert_eq!(count.count(), 3);
    // Who sees some of the objects takes off no other.
    let settings = crate::scaling::world::Settings { selects_objects: true, ..rig::settings() };
    let mut rig = Rig::with(rig.cluster, settings);
    let mut found = rig.cluster.authentications[&authentication("token").key].clone();
    found.status_scaled_objects = "unseen".to_owned();
    rig.cluster.put_authentication(found);
    rig.seconds(5);
    assert_eq!(status(&rig), "unseen,alpha");
}

#[test]
fn a_deleted_authentication_with_keda_s_finalizer_is_released() {
    let mut rig = shop(1, 500.0, uses_authentication);
    let mut found = authentication("token");
    found.finalizers = vec!["finalizer.keda.sh".to_owned()];
    found.deletion_requested = true;
    rig.cluster.put_authentication(found);
    rig.seconds(5);
    assert!(rig.cluster.authentications.is_empty());
    let kinds = rig.kinds();
    let count = kinds.iter().filter(|kind| **kind == "AuthenticationFinalizers");
    assert_eq!(count.count(), 1);
}

/// Regression: the retry of a write stayed for ever if its authentication went while the write was under way.
#[test]
fn nothing_stays_of_an_authentication_that_is_gone() {
    let mut rig = shop(1, 500.0, uses_authentication);
    rig.cluster.put_authentication(authentication("token"));
    rig.write_ms = 5_000;
    rig.seconds(2);
    assert!(rig.kinds().contains(&"AuthenticationStatus"), "it is under way: {:?}", rig.kinds());
    let id = authentication("token").key;
    rig.cluster.remove_authentication(&id);
    rig.seconds(600);
    assert!(rig.world.authentication_retries.is_empty());
    assert!(rig.world.next_deadline().is_none_or(|at| at > rig.now));
}
