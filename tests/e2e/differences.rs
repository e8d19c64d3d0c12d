//! Intended differences from KEDA 2.20.2. `k8s/keda.md` documents each for users, in a row with the same id.

use std::collections::BTreeSet;

use super::picture::Allowed;

/// For an object that fails its checks: everything is absent except what the checks themselves write.
const NOTHING_RUNS: &str = "hpa|replicas|metrics.*|status.conditions|status.conditions.Active|status.conditions.HPAActive|status.externalMetricNames\
    |status.resourceMetricNames|status.hpaName|status.triggersActivity|events: Normal *";

const HPA_CONDITION: &str = "hpa.conditions.ScalingActive|status.conditions.HPAActive";

pub(super) const RECORDED: &[Allowed] = &[
    Allowed {
        id: "trigger-health",
        case: "c21-nullerr c23-multi c37-badquery",
        place: "status.conditions",
        keda: "Ready Active Fallback Paused HPAActive",
        hpalite: "Ready Active Fallback Paused TriggersHealthy HPAActive",
    },
    Allowed {
        id: "trigger-health",
        case: "c21-nullerr c23-multi c37-badquery",
        place: "status.conditions.TriggersHealthy",
        keda: "absent",
        hpalite: "False TriggerFailed: s0-prometheus: *",
    },
    Allowed {
        id: "trigger-names",
        case: "c21-nullerr",
        place: "events: Warning KEDAScalerFailed: prometheus metrics 'prometheus' target may be lost, the result is empty",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "trigger-names",
        case: "c21-nullerr",
        place: "events: Warning KEDAScalerFailed: s0-prometheus: prometheus metrics 'prometheus' target may be lost, the result is empty",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "names",
        case: "*",
        place: "hpa.labels",
        keda: "*\"keda-operator\"*\"main\"*",
        hpalite: "*\"hpalite\"*",
    },
    Allowed { id: "admission", case: "c19-badthreshold", place: "object", keda: "there", hpalite: "absent" },
    Allowed {
        id: "metric-errors",
        case: "c21-nullerr c23-multi c37-badquery",
        place: HPA_CONDITION,
        keda: "False FailedGetExternalMetric: *: rpc error: code = Unknown desc = *",
        hpalite: "False FailedGetExternalMetric: *: metric s0-prometheus of ScaledObject compat/*: *",
    },
    Allowed {
        id: "metric-errors",
        case: "c21-nullerr c23-multi c37-badquery",
        place: "metrics.s0-prometheus",
        keda: "Error from server: rpc error: *",
        hpalite: "Error from server (InternalError): metric s0-prometheus of ScaledObject compat/*: *",
    },
    Allowed {
        id: "query-errors",
        case: "c23-multi",
        place: "events: Warning KEDAScalerFailed: prometheus query app_load returned multiple elements",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "query-errors",
        case: "c23-multi",
        place: "events: Warning KEDAScalerFailed: s0-prometheus: prometheus query returned 3 series, aggregate it to one*",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "query-errors",
        case: "c37-badquery",
        place: "events: Warning KEDAScalerFailed: prometheus query api returned error. status: 400",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "query-errors",
        case: "c37-badquery",
        place: "events: Warning KEDAScalerFailed: s*-prometheus: http://* answered status 400: bad_data: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "tiny-threshold",
        case: "c29-tiny",
        place: "status.conditions.Ready",
        keda: "*Invalid value: \"0\": must be positive",
        hpalite: "*: spec.triggers[0].metadata.threshold: \"0.0001\" becomes the HPA target \"0\"*",
    },
    Allowed {
        id: "tiny-threshold",
        case: "c29-tiny",
        place: "status.externalMetricNames|events: Normal KEDAScalersStarted: Scaler prometheus is built",
        keda: "*",
        hpalite: "absent",
    },
    Allowed {
        id: "tiny-threshold",
        case: "c29-tiny",
        place: "events: Warning *: spec.triggers[0].metadata.threshold: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "two-owners",
        case: "c01-float",
        place: "hpa.conditions*|status.conditions.HPAActive|status.conditions.Fallback",
        keda: "*",
        hpalite: "*",
    },
    Allowed { id: "two-owners", case: "c33-dup", place: NOTHING_RUNS, keda: "*", hpalite: "*" },
    Allowed {
        id: "two-owners",
        case: "c33-dup",
        place: "status.originalReplicaCount|status.hpaName",
        keda: "*",
        hpalite: "*",
    },
    Allowed {
        id: "two-owners",
        case: "c33-dup",
        place: "status.conditions.Ready",
        keda: "True *",
        hpalite: "False ScaledObjectCheckFailed: *: the workload 'c01-float' of type 'apps/v1.Deployment' is already managed by the ScaledObject 'c01-float'",
    },
    Allowed {
        id: "two-owners",
        case: "c33-dup",
        place: "events: Warning ScaledObjectCheckFailed: * is already managed by the ScaledObject 'c01-float'",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "problem-texts",
        case: "c45-formula-bad",
        place: "status.conditions.Ready",
        keda: "*error validating formula in ScalingModifiers*",
        hpalite: "False ScaledObjectCheckFailed: *: spec.advanced.scalingModifiers.formula: formula, column 6: unexpected end (trigger names: rps)",
    },
    Allowed {
        id: "problem-texts",
        case: "c45-formula-bad",
        place: "events: Normal KEDAScalersStarted: Scaler prometheus is built",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "problem-texts",
        case: "c45-formula-bad",
        place: "events: Warning KEDAScalerFailed: spec.advanced.scalingModifiers.formula: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "long-events",
        case: "c45-formula-bad",
        place: "events: Warning ScaledObjectCheckFailed: *: spec.advanced.scalingModifiers.formula: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "built-events",
        case: "c09-cpuprom",
        place: "events: Normal KEDAScalersStarted: Scaler cpu is built",
        keda: "absent",
        hpalite: "seen",
    },
];

const LONG: &str = "a-name-that-is-short-enough-for-a-label-but-not-for-its-hpa";
const BROKEN: &str = "fallback-* partly-broken";
const TROUBLED: &str = "fallback-* partly-broken formula-coalesced no-authentication not-a-number";

pub(super) const MORE: &[Allowed] = &[
    Allowed {
        id: "problem-texts",
        case: "daemon-set",
        place: "status.conditions.Ready",
        keda: "False ScaledObjectCheckFailed: *: the server could not find the requested resource",
        hpalite: "False ScaledObjectCheckFailed: *: spec.scaleTargetRef.kind: a DaemonSet cannot be scaled: *",
    },
    Allowed {
        id: "problem-texts",
        case: "daemon-set",
        place: "events: Warning ScaledObjectCheckFailed: *: spec.scaleTargetRef.kind: a DaemonSet cannot be scaled: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "problem-texts",
        case: "daemon-set",
        place: "events: Warning ScaledObjectCheckFailed: *: the server could not find the requested resource|events: Warning ScaledObjectCheckFailed: Target resource doesn't expose /scale subresource",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "trigger-health",
        case: TROUBLED,
        place: "status.conditions",
        keda: "Ready Active Fallback Paused*",
        hpalite: "Ready Active Fallback Paused*TriggersHealthy*",
    },
    Allowed {
        id: "trigger-health",
        case: TROUBLED,
        place: "status.conditions.TriggersHealthy",
        keda: "absent",
        hpalite: "False TriggerFailed: *: *",
    },
    Allowed {
        id: "silence",
        case: "empty-is-zero",
        place: "status.conditions|status.conditions.TriggersHealthy|events: Normal ScaledInWithoutSeries: scaled in from 1 to 0: *",
        keda: "*",
        hpalite: "*",
    },
    Allowed {
        id: "names",
        case: "*",
        place: "hpa.labels",
        keda: "*\"app.kubernetes.io/version\":\"main\"*",
        hpalite: "*",
    },
    Allowed {
        id: "metric-errors",
        case: "partly-broken",
        place: "metrics.s1-prometheus",
        keda: "Error from server: rpc error: *",
        hpalite: "Error from server (InternalError): metric s1-prometheus of ScaledObject *",
    },
    Allowed {
        id: "query-errors",
        case: BROKEN,
        place: "events: Warning KEDAScalerFailed: prometheus query api returned error. status: 400",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "query-errors",
        case: BROKEN,
        place: "events: Warning KEDAScalerFailed: s*-prometheus: http://* answered status 400: bad_data: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "query-errors",
        case: "formula-coalesced",
        place: "events: Warning KEDAMetricSourceFailed: prometheus query api returned error. status: 400",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "query-errors",
        case: "formula-coalesced",
        place: "events: Warning KEDAMetricSourceFailed: rps: http://* answered status 400: bad_data: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "formula-reads",
        case: "formula",
        place: "metrics.s0-prometheus",
        keda: "*\"composite-metric\"*\"265\"*",
        hpalite: "*\"s0-prometheus\"*\"500\"*",
    },
    Allowed {
        id: "problem-texts",
        case: "fallback-without-pods",
        place: "events: Warning KEDAScalerFailed: error performing fallback",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "problem-texts",
        case: "fallback-without-pods",
        place: "events: Warning KEDAScalerFailed: s0-prometheus: fallback of a Value metric needs at least one ready pod*",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "metric-errors",
        case: "fallback-without-pods",
        place: "metrics.s0-prometheus",
        keda: "Error from server: rpc error: *",
        hpalite: "*: fallback of a Value metric needs at least one ready pod*",
    },
    Allowed {
        id: "metric-errors",
        case: "fallback-without-pods",
        place: "status.conditions.HPAActive",
        keda: "*: rpc error: code = *",
        hpalite: "*: fallback of a Value metric needs at least one ready pod*",
    },
    Allowed {
        id: "quantities",
        case: "threshold-decimals",
        place: "hpa.spec.metrics",
        keda: "*\"100.500\"*",
        hpalite: "*\"100500m\"*",
    },
    Allowed {
        id: "quantities",
        case: "threshold-decimals",
        place: "metrics.s0-prometheus",
        keda: "*\"301.500\"*",
        hpalite: "*\"301500m\"*",
    },
    Allowed {
        id: "problem-texts",
        case: "paused-junk",
        place: "status.conditions.Ready",
        keda: "*: strconv.ParseInt: parsing \"three\": invalid syntax",
        hpalite: "False ScaledObjectCheckFailed: failed to scale target to paused replica count: failed to parse paused replica count: *\"three\" is not a whole number*",
    },
    Allowed {
        id: "long-events",
        case: "paused-junk",
        place: "events: Warning ScaledObjectCheckFailed: failed to scale target to paused replica count: *",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "problem-texts",
        case: "unknown-type",
        place: "status.conditions.Ready",
        keda: "*: no scaler found for type: promtheus",
        hpalite: "False ScaledObjectCheckFailed: *trigger type \"promtheus\" is unknown (did you mean prometheus?*",
    },
    Allowed {
        id: "problem-texts",
        case: "unknown-type",
        place: "events: Warning *: no scaler found for type: promtheus",
        keda: "seen",
        hpalite: "absent",
    },
    Allowed {
        id: "problem-texts",
        case: "unknown-type",
        place: "events: Warning *KEDAScalerFailed: spec.triggers[0].type: trigger type \"promtheus\" is unknown*",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "problem-texts",
        case: "unknown-type",
        place: "events: Warning ScaledObjectCheckFailed: *: trigger type \"promtheus\" is unknown*",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed { id: "long-names", case: LONG, place: NOTHING_RUNS, keda: "*", hpalite: "*" },
    Allowed {
        id: "long-names",
        case: LONG,
        place: "status.conditions.Ready",
        keda: "True *",
        hpalite: "False ScaledObjectCheckFailed: * is longer than 63 characters (set spec.advanced.horizontalPodAutoscalerConfig.name *",
    },
    Allowed {
        id: "long-names",
        case: LONG,
        place: "events: Warning * is longer than 63 characters*",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "no-authentication",
        case: "no-authentication",
        place: "metrics.s0-prometheus",
        keda: "*\"500\"*",
        hpalite: "Error from server (InternalError): *: TriggerAuthentication compat-more/nobody not found*",
    },
    Allowed {
        id: "no-authentication",
        case: "no-authentication",
        place: "events: Warning KEDAScalerFailed: s0-prometheus: TriggerAuthentication compat-more/nobody not found*",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed { id: "no-authentication", case: "no-authentication", place: "replicas", keda: "7", hpalite: "1" },
    Allowed {
        id: "no-authentication",
        case: "no-authentication",
        place: "status.conditions.Ready",
        keda: "True *",
        hpalite: "False TriggerError: *",
    },
    Allowed {
        id: "no-authentication",
        case: "no-authentication",
        place: "status.conditions.Active",
        keda: "True *",
        hpalite: "False ScalerNotActive: *",
    },
    Allowed {
        id: "no-authentication",
        case: "no-authentication",
        place: "status.conditions.HPAActive",
        keda: "True *",
        hpalite: "False FailedGetExternalMetric: *",
    },
    Allowed {
        id: "no-authentication",
        case: "no-authentication",
        place: "status.triggersActivity",
        keda: "*true*",
        hpalite: "*false*",
    },
    Allowed {
        id: "not-a-number",
        case: "not-a-number",
        place: "metrics.s0-prometheus",
        keda: "*\"0\"*",
        hpalite: "Error from server (InternalError): *: prometheus query returns NaN, since *",
    },
    Allowed {
        id: "not-a-number",
        case: "not-a-number",
        place: "events: Warning KEDAScalerFailed: s0-prometheus: prometheus query returns NaN",
        keda: "absent",
        hpalite: "seen",
    },
    Allowed {
        id: "not-a-number",
        case: "not-a-number",
        place: "status.conditions.Ready",
        keda: "True *",
        hpalite: "False TriggerError: *",
    },
    Allowed {
        id: "not-a-number",
        case: "not-a-number",
        place: "status.conditions.HPAActive",
        keda: "True *",
        hpalite: "False FailedGetExternalMetric: *",
    },
    Allowed {
        id: "scalar",
        case: "scalar",
        place: "metrics.s0-prometheus",
        keda: "Error from server: rpc error: *",
        hpalite: "*\"value\":\"500\"*",
    },
    Allowed { id: "scalar", case: "scalar", place: "replicas", keda: "1", hpalite: "7" },
    Allowed {
        id: "scalar",
        case: "scalar",
        place: "status.conditions.Ready",
        keda: "False TriggerError: *",
        hpalite: "True *",
    },
    Allowed { id: "scalar", case: "scalar", place: "status.conditions.Active", keda: "False *", hpalite: "True *" },
    Allowed { id: "scalar", case: "scalar", place: "status.conditions.HPAActive", keda: "False *", hpalite: "True *" },
    Allowed { id: "scalar", case: "scalar", place: "status.triggersActivity", keda: "*false*", hpalite: "*true*" },
];

/// An allowed difference must be documented for users, with both behaviours and the reason.
#[test]
fn every_difference_is_documented() {
    let document = include_str!("../../k8s/keda.md");
    let (_, table) = document.split_once("\n## Differences\n").expect("the section");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut ids = BTreeSet::new();
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{row}");
        let (why, id) = cells[2].split_once(" <!-- ").unwrap_or_else(|| panic!("no id in {row}"));
        assert!(![cells[0], cells[1], why].contains(&""), "{row}");
        let id = id.strip_suffix(" -->").unwrap_or_else(|| panic!("no id in {row}"));
        assert!(ids.insert(id), "two rows have the id {id}");
    }
    for allowed in RECORDED.iter().chain(MORE) {
        assert!(ids.contains(allowed.id), "k8s/keda.md has no row with <!-- {} -->", allowed.id);
    }
}
