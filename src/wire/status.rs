//! A ScaledObject's status: JSON in, JSON out, and the merge patch between two of them.
//!
//! Reading is lenient, field by field: a broken status must not stop the object, and is simply written again.

use std::sync::Arc;

use litemap::LiteMap;
use serde_json::{Map, Value, json};

use super::metadata::{exact, exact_map};
use super::time::{format_seconds, parse_rfc3339};
use crate::scaling::event::StatusPatch;
use crate::scaling::model::{Condition, ConditionKind, ConditionStatus, Gvkr, Health, Status};

/// Reads the valid parts of a status.
#[must_use]
pub fn from_value(status: &Value) -> Status {
    let text = |name: &str| status.get(name).and_then(Value::as_str).map(str::to_owned);
    let count = |name: &str| status.get(name).and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
    let texts = |name: &str| -> Vec<String> {
        let items = status.get(name).and_then(Value::as_array).into_iter().flatten();
        exact(items.filter_map(Value::as_str).map(str::to_owned))
    };
    Status {
        scale_target_kind: text("scaleTargetKind"),
        scale_target_gvkr: status.get("scaleTargetGVKR").and_then(gvkr).map(Arc::new),
        original_replica_count: count("originalReplicaCount"),
        last_active_at: text("lastActiveTime").as_deref().and_then(parse_rfc3339),
        external_metric_names: texts("externalMetricNames"),
        resource_metric_names: texts("resourceMetricNames"),
        composite_scaler_name: text("compositeScalerName"),
        conditions: exact(
            status.get("conditions").and_then(Value::as_array).into_iter().flatten().filter_map(condition),
        ),
        health: map(status.get("health"), |entry| {
            Some(Health {
                number_of_failures: u32::try_from(entry.get("numberOfFailures")?.as_u64()?).ok()?,
                failing: entry.get("status").and_then(Value::as_str) == Some("Failing"),
            })
        }),
        triggers_activity: map(status.get("triggersActivity"), |entry| entry.get("isActive")?.as_bool()),
        paused_replica_count: count("pausedReplicaCount"),
        hpa_name: text("hpaName"),
        triggers_types: text("triggersTypes"),
        authentications_types: text("authenticationsTypes"),
    }
}

fn map<T>(value: Option<&Value>, read: impl Fn(&Value) -> Option<T>) -> LiteMap<String, T> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    exact_map(entries.filter_map(|(name, entry)| Some((name.clone(), read(entry)?))).collect())
}

fn gvkr(value: &Value) -> Option<Gvkr> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Gvkr { group: text("group")?, version: text("version")?, kind: text("kind")?, resource: text("resource")? })
}

fn condition(value: &Value) -> Option<Condition> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let status = match text("status")? {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    let (reason, message) =
        (text("reason").unwrap_or_default().to_owned(), text("message").unwrap_or_default().to_owned());
    Some(Condition::new(ConditionKind::from_name(text("type")?)?, status, reason, message))
}

/// Returns the whole status without empty fields.
#[must_use]
pub fn to_value(status: &Status) -> Value {
    Value::Object(fields(status).collect())
}

/// Returns the body of a JSON merge patch on the status subresource; `None` if nothing differs on the wire.
#[must_use]
pub fn merge_patch(patch: &StatusPatch) -> Option<Value> {
    let before: Map<String, Value> = fields(&patch.before).collect();
    let mut after: Map<String, Value> = fields(&patch.after).collect();
    let mut changes = Map::new();
    for (name, old) in &before {
        match after.remove(name) {
            None => {
                changes.insert(name.clone(), Value::Null);
            }
            Some(new) if new == *old => {}
            Some(new) => {
                let change = match (old, new) {
                    (Value::Object(old), Value::Object(new)) => merge_entries(old, new),
                    // A merge patch replaces arrays as a whole.
                    (_, new) => new,
                };
                changes.insert(name.clone(), change);
            }
        }
    }
    changes.append(&mut after);
    (!changes.is_empty()).then(|| json!({ "status": changes }))
}

/// Returns changed entries of a map, with `null` for removed ones.
fn merge_entries(old: &Map<String, Value>, new: Map<String, Value>) -> Value {
    let mut changes: Map<String, Value> =
        old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null)).collect();
    changes.extend(new.into_iter().filter(|(name, value)| old.get(name) != Some(value)));
    Value::Object(changes)
}

/// Iterates over the top-level fields that are set, by name.
fn fields(status: &Status) -> impl Iterator<Item = (String, Value)> {
    let text = |text: &Option<String>| text.clone().map(Value::String);
    let list = |names: &Vec<String>| (!names.is_empty()).then(|| json!(names));
    let health: Map<String, Value> = status
        .health
        .iter()
        .map(|(name, health)| {
            let state = if health.failing { "Failing" } else { "Happy" };
            (name.clone(), json!({"numberOfFailures": health.number_of_failures, "status": state}))
        })
        .collect();
    let activity: Map<String, Value> =
        status.triggers_activity.iter().map(|(name, active)| (name.clone(), json!({ "isActive": active }))).collect();
    let conditions: Vec<Value> = status.conditions.iter().map(condition_value).collect();
    [
        ("scaleTargetKind", text(&status.scale_target_kind)),
        ("scaleTargetGVKR", status.scale_target_gvkr.as_deref().map(gvkr_value)),
        ("originalReplicaCount", status.original_replica_count.map(Value::from)),
        ("lastActiveTime", status.last_active_at.map(|at| Value::String(format_seconds(at)))),
        ("externalMetricNames", list(&status.external_metric_names)),
        ("resourceMetricNames", list(&status.resource_metric_names)),
        ("compositeScalerName", text(&status.composite_scaler_name)),
        ("conditions", (!conditions.is_empty()).then_some(Value::Array(conditions))),
        ("health", (!health.is_empty()).then_some(Value::Object(health))),
        ("triggersActivity", (!activity.is_empty()).then_some(Value::Object(activity))),
        ("pausedReplicaCount", status.paused_replica_count.map(Value::from)),
        ("hpaName", text(&status.hpa_name)),
        ("triggersTypes", text(&status.triggers_types)),
        ("authenticationsTypes", text(&status.authentications_types)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

fn gvkr_value(gvkr: &Gvkr) -> Value {
    json!({"group": gvkr.group, "version": gvkr.version, "kind": gvkr.kind, "resource": gvkr.resource})
}

fn condition_value(condition: &Condition) -> Value {
    let mut value = json!({"type": condition.kind.name(), "status": condition.status.name()});
    for (name, text) in [("reason", &condition.reason), ("message", &condition.message)] {
        if !text.is_empty() {
            value[name] = json!(text);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::UnixMillis;

    /// Applies a patch by RFC 7386, as the API server does.
    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let Some(map) = target.as_object_mut() else {
            return;
        };
        for (name, value) in patch {
            if value.is_null() {
                map.remove(name);
            } else {
                apply(map.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }

    fn random_status(random: &mut fastrand::Rng) -> Status {
        let word = |random: &mut fastrand::Rng| random.bool().then(|| format!("w{}", random.u8(0..3)));
        let names = |random: &mut fastrand::Rng| (0..random.usize(0..3)).map(|i| format!("s{i}")).collect::<Vec<_>>();
        let gvkr = random.bool().then(|| Gvkr {
            group: format!("g{}", random.u8(0..2)),
            version: "v1".to_owned(),
            kind: "K".to_owned(),
            resource: "ks".to_owned(),
        });
        Status {
            scale_target_kind: word(random),
            scale_target_gvkr: gvkr.map(Arc::new),
            original_replica_count: random.bool().then(|| random.u32(0..3)),
            last_active_at: random.bool().then(|| UnixMillis(random.i64(0..5) * 1000)),
            external_metric_names: names(random),
            resource_metric_names: names(random),
            composite_scaler_name: word(random),
            conditions: (0..random.usize(0..3))
                .map(|_| {
                    let reason = word(random).unwrap_or_default();
                    Condition::new(ConditionKind::Ready, ConditionStatus::Unknown, reason, "")
                })
                .collect(),
            health: names(random)
                .into_iter()
                .map(|name| (name, Health { number_of_failures: random.u32(0..3), failing: random.bool() }))
                .collect(),
            triggers_activity: names(random).into_iter().map(|name| (name, random.bool())).collect(),
            paused_replica_count: random.bool().then(|| random.u32(0..3)),
            hpa_name: word(random),
            triggers_types: word(random),
            authentications_types: random.bool().then(String::new),
        }
    }

    #[test]
    fn a_patch_turns_before_into_after() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..5_000 {
            let (before, after) = (random_status(&mut random), random_status(&mut random));
            assert_eq!(from_value(&to_value(&before)), before);
            let mut stored = json!({"status": to_value(&before)});
            let patch = StatusPatch { before: before.clone(), after: after.clone() };
            if let Some(body) = merge_patch(&patch) {
                apply(&mut stored, &body);
            } else {
                assert_eq!(before, after);
            }
            assert_eq!(stored["status"], to_value(&after));
        }
    }

    #[test]
    fn a_patch_carries_only_what_changed() {
        let before = Status {
            hpa_name: Some("h".to_owned()),
            paused_replica_count: Some(3),
            last_active_at: Some(UnixMillis(1_767_323_045_100)),
            triggers_activity: LiteMap::from_iter([("a".to_owned(), true), ("b".to_owned(), true)]),
            ..Status::default()
        };
        let after = Status {
            hpa_name: Some("h".to_owned()),
            last_active_at: Some(UnixMillis(1_767_323_045_900)),
            triggers_activity: LiteMap::from_iter([("b".to_owned(), false), ("c".to_owned(), true)]),
            ..Status::default()
        };
        let patch = StatusPatch { before: before.clone(), after };
        assert_eq!(
            merge_patch(&patch),
            Some(json!({"status": {
                "pausedReplicaCount": null,
                "triggersActivity": {"a": null, "b": {"isActive": false}, "c": {"isActive": true}},
            }}))
        );
        let same_second = Status { last_active_at: Some(UnixMillis(1_767_323_045_999)), ..before.clone() };
        assert_eq!(merge_patch(&StatusPatch { before, after: same_second }), None);
    }

    #[test]
    fn broken_fields_are_skipped() {
        let status = from_value(&json!({
            "originalReplicaCount": -1, "hpaName": 5, "lastActiveTime": "yesterday", "health": [],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Mine", "status": "True"}, 5],
            "triggersActivity": {"a": {"isActive": "x"}, "b": {"isActive": true}},
        }));
        assert_eq!(status.conditions.len(), 1);
        assert_eq!(status.triggers_activity, LiteMap::from_iter([("b".to_owned(), true)]));
        assert_eq!((status.original_replica_count, status.hpa_name, status.last_active_at), (None, None, None));
        assert_eq!(from_value(&Value::Null), Status::default());
    }
}
