//! Where hpalite is meant to differ from KEDA 2.20.2. The README's table tells users the same, row by row.

use super::picture::Allowed;

/// One row of the README's table, which has the id in a comment.
pub(super) struct Difference {
    pub(super) id: &'static str,
    pub(super) keda: &'static str,
    pub(super) hpalite: &'static str,
    pub(super) why: &'static str,
}

/// Those that the cases show. The README has more.
pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        id: "names",
        keda: "HPAs say `managed-by: keda-operator` and KEDA's version",
        hpalite: "they say `managed-by: hpalite` and hpalite's version",
        why: "names that say who made a thing",
    },
    Difference {
        id: "admission",
        keda: "a webhook, else the object's conditions, tell of wrong replica counts, trigger names and parameters",
        hpalite: "the CRD's own rules refuse them",
        why: "no webhook that can be down, and the mistake is told at once",
    },
    Difference {
        id: "problem-texts",
        keda: "the first error, in Go's words",
        hpalite: "all problems of the failing step, each with its field and what to write instead",
        why: "one round of corrections instead of several",
    },
    Difference {
        id: "long-events",
        keda: "no event of a failed check whose text has more than 128 characters",
        hpalite: "the event is written",
        why: "an oversight: the text is also sent as the event's `action`, which is limited",
    },
    Difference {
        id: "metric-errors",
        keda: "a failed read is a Status without reason that says only that there was an error",
        hpalite: "reason `InternalError` (500) or `NotFound` (404), and the cause, also in the HPA's conditions",
        why: "the cause is read where the symptom is seen",
    },
    Difference {
        id: "query-errors",
        keda: "events name the status code alone, or repeat the query",
        hpalite: "events name the server and repeat Prometheus' own explanation",
        why: "the parse error of a query is what its author needs",
    },
    Difference {
        id: "trigger-health",
        keda: "what is wrong with a trigger is in events, which expire",
        hpalite: "it is also in the condition `TriggersHealthy`, by the trigger's name, for as long as it lasts; the condition is there from the first trouble on",
        why: "the cause is still on the object in the morning",
    },
    Difference {
        id: "trigger-names",
        keda: "events of a failing trigger do not say which one it is",
        hpalite: "they begin with its name, or that of its metric",
        why: "three triggers may ask one server",
    },
    Difference {
        id: "silence",
        keda: "nothing says that an empty result, which reads as 0, has scaled in",
        hpalite: "an event and the condition `TriggersHealthy` say it",
        why: "series that vanish look like a quiet night otherwise",
    },
    Difference {
        id: "partial",
        keda: "an answer that the server calls incomplete (`isPartial` of VictoriaMetrics, `warnings` of Thanos and of a remote read) is taken for a whole one",
        hpalite: "it is an error, which holds, unless `onPartial: accept`; `PromQL warning:` and `PromQL info:` are remarks on the query and none",
        why: "a sum over a part of the series is too low, and scales in",
    },
    Difference {
        id: "quantities",
        keda: "fractions from 1 on keep three decimals: `100.500`",
        hpalite: "canonical quantities: `100500m`",
        why: "what Kubernetes itself prints; the values are equal",
    },
    Difference {
        id: "tiny-threshold",
        keda: "a threshold below 0.0005 fails when the API server refuses the HPA",
        hpalite: "it is refused before, with what to write",
        why: "the text names the field that the user wrote",
    },
    Difference {
        id: "long-names",
        keda: "HPA names above 63 characters work, or are refused by the webhook where there is one",
        hpalite: "always refused",
        why: "the name is a label's value, which would be cut",
    },
    Difference {
        id: "two-owners",
        keda: "two ScaledObjects on one target are both Ready without the webhook, and their HPAs block each other",
        hpalite: "the first keeps the target, the second is not Ready and says why",
        why: "one working object instead of two broken ones",
    },
    Difference {
        id: "no-authentication",
        keda: "a missing TriggerAuthentication is logged and the query sent without credentials",
        hpalite: "it is an error of the trigger",
        why: "a server that then answers with an empty result would scale to zero",
    },
    Difference {
        id: "not-a-number",
        keda: "NaN and infinities are read as 0 unless `ignoreNullValues` is false",
        hpalite: "they are errors, as is null",
        why: "a division by zero must not scale to zero",
    },
    Difference {
        id: "scalar",
        keda: "scalar results are errors, against the documentation",
        hpalite: "they work",
        why: "the documentation promises it",
    },
    Difference {
        id: "built-events",
        keda: "of several trigger types only the first is seen in `Scaler … is built`",
        hpalite: "an event for each type",
        why: "the API counts the others as repetitions of the first",
    },
    Difference {
        id: "formula-reads",
        keda: "with a formula, any metric name is answered with `composite-metric`",
        hpalite: "each name is answered with its own value",
        why: "an HPA that is not updated yet must not take one for the other",
    },
    Difference {
        id: "workload-at-once",
        keda: "pods are counted every `pollingInterval`",
        hpalite: "a change of the count is acted on at once",
        why: "the watch has seen it anyway",
    },
    Difference {
        id: "metrics-api-checks",
        keda: "a broken `url` or `valueLocation` fails at each poll, NaN and infinities are read as 0",
        hpalite: "the first is an error of the object, the second one of the trigger",
        why: "told once and at once; a division by zero must not scale to zero",
    },
    Difference {
        id: "gjson",
        keda: "`valueLocation` is any GJSON path",
        hpalite: "modifiers, multipaths and literals are refused by name",
        why: "what leads to a number needs none of them",
    },
    Difference {
        id: "service-ports",
        keda: "with `aggregateFromKubeServiceEndpoints` the port of the `url` is the pods' own",
        hpalite: "it is the Service's, which says the port of the pods",
        why: "a Service may have another port than its pods; one that it does not have is taken as KEDA takes it",
    },
];

/// Nothing of an object that fails its checks is there, but for what the checks left.
const NOTHING_RUNS: &str = "hpa|replicas|metrics.*|status.conditions|status.conditions.Active|status.conditions.HPAActive|status.externalMetricNames\
    |status.resourceMetricNames|status.hpaName|status.triggersActivity|events: Normal *";

const HPA_TELLS: &str = "hpa.conditions.ScalingActive|status.conditions.HPAActive";

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
        place: HPA_TELLS,
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

#[test]
fn the_readme_tells_every_difference() {
    let readme = include_str!("../../README.md");
    let table = readme.split_once("\n## Differences from KEDA\n").expect("the section").1;
    let table = table.split("\n## ").next().unwrap();
    for difference in DIFFERENCES {
        let row = table.lines().find(|line| line.contains(&format!("<!-- {} -->", difference.id)));
        let row = row.unwrap_or_else(|| panic!("no row with <!-- {} -->", difference.id));
        let expected =
            format!("| {} | {} | {} <!-- {} --> |", difference.keda, difference.hpalite, difference.why, difference.id);
        assert_eq!(row, expected);
    }
    for allowed in RECORDED.iter().chain(MORE) {
        assert!(DIFFERENCES.iter().any(|difference| difference.id == allowed.id), "{}", allowed.id);
    }
}
