use std::time::Duration;

use super::*;
use crate::scaling::model::{MetricType, OnMissing, Query};

fn servers() -> Servers {
    Servers::parse("http://default:9090", &["long-term=http://thanos:9090".to_owned()]).unwrap()
}

/// An HPA with these annotations and External metrics of target 10 a replica.
fn hpa(annotations: &[(&str, &str)], metrics: &[(&str, &[(&str, &str)])]) -> Value {
    let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
    let metrics: Vec<Value> = metrics
        .iter()
        .map(|(name, labels)| {
            let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
            json!({"type": "External", "external": {
                "metric": {"name": name, "selector": {"matchLabels": labels}},
                "target": {"type": "AverageValue", "averageValue": "10"},
            }})
        })
        .collect();
    json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": annotations},
        "spec": {"minReplicas": 2, "maxReplicas": 9, "metrics": metrics,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    })
}

fn read_one(object: Value) -> ParsedObject {
    from_value(object, &servers()).unwrap().expect("is annotated")
}

fn problems(object: Value) -> Vec<String> {
    let read = read_one(object).object.definition;
    read.err().map_or_else(Vec::new, |invalid| invalid.problems.iter().map(ToString::to_string).collect())
}

const TYPE: &[(&str, &str)] = &[("type", "prometheus")];

/// Server and query of each trigger.
fn asks(object: Value) -> Vec<(String, String)> {
    let read = read_one(object);
    let definition = read.object.definition.expect("is valid");
    assert_eq!(definition.triggers.len(), read.object.asked.len());
    definition.triggers.iter().map(|trigger| trigger.source.shown()).collect()
}

fn pair(server: &str, query: &str) -> (String, String) {
    (server.to_owned(), query.to_owned())
}

#[test]
fn every_form_says_what_to_ask_whom() {
    let newer = "metric-config.external.rps.prometheus";
    let query = format!("{newer}/query");
    assert_eq!(asks(hpa(&[(&query, "sum(a)\n")], &[("rps", TYPE)])), [pair("http://default:9090", "sum(a)")]);
    // Without the label, the annotation says enough.
    assert_eq!(asks(hpa(&[(&query, "sum(a)")], &[("rps", &[])])), [pair("http://default:9090", "sum(a)")]);
    let (server, alias) = (format!("{newer}/prometheus-server"), format!("{newer}/prometheus-server-alias"));
    let own = [(query.as_str(), "a"), (&server, "http://own/"), (&alias, "long-term")];
    assert_eq!(asks(hpa(&own, &[("rps", TYPE)])), [pair("http://own", "a")]);
    assert_eq!(asks(hpa(&[own[0], own[2]], &[("rps", TYPE)])), [pair("http://thanos:9090", "a")]);
    let older = "metric-config.external.prometheus-query.prometheus";
    let (one, two) = (format!("{older}/one"), format!("{older}/two"));
    let metrics: &[(&str, &[(&str, &str)])] =
        &[("prometheus-query", &[("query-name", "one")]), ("prometheus-query", &[("query-name", "two")])];
    let read = asks(hpa(&[(&one, "a"), (&two, "b")], metrics));
    assert_eq!(read, [pair("http://default:9090", "a"), pair("http://default:9090", "b")]);
    let dotted = hpa(&[("metric-config.external.http.rps.prometheus/query", "a")], &[("http.rps", TYPE)]);
    assert_eq!(asks(dotted), [pair("http://default:9090", "a")]);
    // The older label and the newer one together, as kube-metrics-adapter takes them.
    let both: &[(&str, &[(&str, &str)])] = &[("rps", &[("type", "prometheus"), ("query-name", "one")])];
    let one = format!("{newer}/one");
    assert_eq!(asks(hpa(&[(&one, "a")], both)), [pair("http://default:9090", "a")]);
}

#[test]
fn an_hpa_becomes_the_scaled_object_that_would_ask_for_the_same() {
    let annotations = [
        ("metric-config.external.rps.prometheus/query", "sum(a)"),
        ("metric-config.external.rps.prometheus/interval", "1m30s"),
        ("metric-config.external.rps.prometheus/authentication", "token"),
        ("metric-config.external.rps.prometheus/auth-modes", "bearer"),
        ("metric-config.external.queue.prometheus/query", "b"),
        ("metric-config.external.queue.prometheus/interval", "1500ms"),
    ];
    let mut object = hpa(&annotations, &[("rps", TYPE), ("queue", TYPE), ("sqs", &[("type", "sqs-queue-length")])]);
    let metrics = object["spec"]["metrics"].as_array_mut().unwrap();
    metrics[1]["external"]["target"] = json!({"type": "Value", "value": "2500m"});
    metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 60}}}));
    object["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 60}});
    let read = read_one(object.clone());
    assert_eq!((read.warnings.as_slice(), read.object.key.to_string().as_str()), (&[][..], "hpa/shop/web"));
    let shown: Vec<String> = read.object.asked.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["rps{type=prometheus}", "queue{type=prometheus}"], "the third is another adapter's");
    let definition = read.object.definition.clone().expect("is valid");
    assert_eq!(definition.polling_interval, Duration::from_secs(2), "the shortest, rounded up");
    assert_eq!((definition.min(), definition.max_replicas, definition.hpa_name.as_str()), (2, 9, "web"));
    assert_eq!((definition.triggers[0].threshold, definition.triggers[1].threshold), (10.0, 2.5));
    assert_eq!(&*definition.triggers[0].metric_name, "rps");
    assert_eq!(definition.triggers[0].on_missing, OnMissing::Error, "no answer is no zero");
    assert_eq!(definition.triggers[0].authentication.as_ref().map(|found| found.name.as_str()), Some("token"));
    let Some(Query::Prometheus(source)) = definition.triggers[0].source.query() else { panic!("{definition:?}") };
    assert_eq!(source.auth_modes, [crate::scaling::model::AuthMode::Bearer]);
    assert_eq!(definition.resource_triggers[0].target, MetricTarget::Utilization(60));
    let window = definition.behavior.as_ref().and_then(|rules| rules.scale_down.as_ref()?.stabilization_window_seconds);
    assert_eq!(window, Some(60));
    // The recorded spec reads as the same, for those who explain it later.
    let again = json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": serde_json::from_str::<Value>(&read.object.spec_json).unwrap()});
    let again = scaled_object::from_value(ApiGroup::Autoscaling, again, &Servers::default()).unwrap().object;
    assert_eq!(again.definition, Ok(definition));
    // The number stays with the same content, and changes with it.
    assert_eq!(read_one(object.clone()).object.generation, read.object.generation);
    object["spec"]["metrics"][0]["external"]["metric"]["selector"]["matchLabels"]["x"] = json!("y");
    assert_ne!(read_one(object).object.generation, read.object.generation);
}

#[test]
fn an_authentication_may_say_the_server() {
    let of = |key: &str| format!("metric-config.external.rps.prometheus/{key}");
    let read = |servers: &Servers, more: &[(&str, &str)]| {
        let named: Vec<(String, &str)> = [("query", "a"), ("authentication", "prom")]
            .iter()
            .chain(more)
            .map(|(key, value)| (of(key), *value))
            .collect();
        let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let read = from_value(hpa(&named, &[("rps", TYPE)]), servers).unwrap().expect("is annotated");
        let definition = read.object.definition.expect("is valid");
        let Some(Query::Prometheus(source)) = definition.triggers[0].source.query() else { panic!("{definition:?}") };
        (source.server_address.clone(), source.authentication.as_deref().map(str::to_owned))
    };
    let authentication = Some("TriggerAuthentication shop/prom".to_owned());
    assert_eq!(read(&Servers::default(), &[]), (String::new(), authentication.clone()));
    assert_eq!(read(&servers(), &[]), ("http://default:9090".to_owned(), authentication));
    assert_eq!(read(&servers(), &[("prometheus-server", "http://own")]), ("http://own".to_owned(), None));
    let by_alias = [("prometheus-server-alias", "long-term")];
    assert_eq!(read(&servers(), &by_alias), ("http://thanos:9090".to_owned(), None));
}

#[test]
fn what_is_wrong_is_said_of_its_annotation() {
    let of = |key: &str| format!("metric-config.external.rps.prometheus/{key}");
    for (annotations, field, words) in [
        (vec![], "query", "is missing (write the PromQL query"),
        (vec![("query", "")], "query", "is missing"),
        (vec![("query", "a"), ("prometheus-server", "prometheus:9090")], "prometheus-server", "is not a URL"),
        (vec![("query", "a"), ("prometheus-server-alias", "x")], "prometheus-server-alias", "known are long-term"),
        (vec![("query", "a"), ("interval", "soon")], "interval", "\"soon\" is not a duration above 0"),
        (vec![("query", "a"), ("interval", "0s")], "interval", "is not a duration above 0"),
        (vec![("query", "a"), ("auth-modes", "bearer")], "authentication", "is missing"),
        (vec![("query", "a"), ("auth-modes", "barer")], "auth-modes", "write bearer"),
        (vec![("query", "a"), ("timeout", "1h")], "timeout", "is longer than"),
        (vec![("query", "a"), ("activation-threshold", "x")], "activation-threshold", "is not a number"),
    ] {
        let named: Vec<(String, &str)> = annotations.iter().map(|(key, value)| (of(key), *value)).collect();
        let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let found = problems(hpa(&named, &[("rps", TYPE)]));
        let expected = format!("metadata.annotations[{}]: ", of(field));
        assert_eq!(found.len(), 1, "{annotations:?}: {found:?}");
        assert!(found[0].starts_with(&expected) && found[0].contains(words), "{annotations:?}: {found:?}");
    }
    let none = from_value(hpa(&[(&of("query"), "a")], &[("rps", TYPE)]), &Servers::default()).unwrap().unwrap();
    let none = none.object.definition.unwrap_err().all();
    for words in ["/prometheus-server]: is missing", "parameter serverAddress", "--prometheus-server"] {
        assert!(none.contains(words), "{none}");
    }
    let legacy = problems(hpa(&[], &[("prometheus-query", &[("query-name", "one")])]));
    assert_eq!(legacy.len(), 1);
    assert!(
        legacy[0].contains("metric-config.external.prometheus-query.prometheus/query]: is missing")
            || legacy[0].contains("prometheus-query.prometheus/one]: is missing"),
        "{legacy:?}"
    );
    let misnamed = problems(hpa(&[(&of("query"), "a")], &[("rsp", &[])]));
    assert!(misnamed.len() == 1 && misnamed[0].contains("no External metric of this HPA"), "{misnamed:?}");
}

/// An HPA that asks for `rps` of an Ingress, with this target.
fn of_ingress(annotations: &[(&str, &str)], target: Value) -> Value {
    let mut object = hpa(annotations, &[]);
    object["spec"]["metrics"] = json!([{"type": "Object", "object": {
        "metric": {"name": "rps"}, "target": target,
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web"},
    }}]);
    object
}

#[test]
fn an_object_metric_is_asked_for_as_an_external_one() {
    let of = |key: &str| format!("metric-config.object.rps.prometheus/{key}");
    let (query, per_replica, interval) = (of("query"), of("per-replica"), of("interval"));
    let query = (query.as_str(), "sum(a)");
    let read = |more: &[(&str, &str)], target: Value| read_one(of_ingress(&[&[query], more].concat(), target));
    let whole = read(&[(&interval, "15s")], json!({"type": "Value", "value": "10"})).object;
    assert_eq!(whole.asked[0].to_string(), "rps{} of Ingress web");
    assert_eq!(
        whole.asked[0].of,
        AskedOf::Object(Described {
            api_version: "networking.k8s.io/v1".to_owned(),
            kind: "Ingress".to_owned(),
            name: "web".to_owned(),
        })
    );
    let definition = whole.definition.expect("is valid");
    assert_eq!(definition.polling_interval, Duration::from_secs(15));
    let trigger = &definition.triggers[0];
    assert_eq!((trigger.metric_type, trigger.threshold), (MetricType::Value, 10.0));
    assert_eq!(trigger.source.shown(), pair("http://default:9090", "sum(a)"));
    assert!(whole.per_replica.is_empty());
    // What one replica has is multiplied by the replicas again.
    let shared = read(&[(&per_replica, "true")], json!({"type": "Value", "value": "10"}));
    assert_eq!((shared.object.per_replica.as_slice(), shared.warnings.len()), (&[0][..], 0));
    assert_eq!(shared.object.definition.expect("is valid").triggers[0].metric_type, MetricType::AverageValue);
    let twice = read(&[(&per_replica, "true")], json!({"type": "AverageValue", "averageValue": "10"}));
    assert!(twice.warnings[0].message.contains("does so once more"), "{:?}", twice.warnings);
    // Whoever has no annotations has rules, or another adapter.
    let none = from_value(of_ingress(&[], json!({"type": "Value", "value": "10"})), &servers()).unwrap();
    assert!(none.is_none());
    let missing = problems(of_ingress(&[(&interval, "15s")], json!({"type": "Value", "value": "10"})));
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].contains("metric-config.object.rps.prometheus/query]: is missing"), "{missing:?}");
    let misnamed = [("metric-config.object.rsp.prometheus/query", "a")];
    let misnamed = problems(of_ingress(&misnamed, json!({"type": "Value", "value": "10"})));
    assert!(misnamed[0].contains("no Object metric of this HPA") && misnamed[0].contains("called rsp"), "{misnamed:?}");
}

/// An HPA that asks its pods for `rps`.
fn of_pods(annotations: &[(&str, &str)]) -> Value {
    let named: Vec<(String, &str)> =
        annotations.iter().map(|(key, value)| (format!("metric-config.pods.rps.json-path/{key}"), *value)).collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let mut object = hpa(&named, &[]);
    object["spec"]["metrics"] = json!([{"type": "Pods", "pods": {
        "metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "1k"}}}]);
    object
}

const DOCUMENT: [(&str, &str); 3] = [("json-key", "$.http.rps"), ("path", "/metrics"), ("port", "9090")];

#[test]
fn a_metric_of_pods_says_where_each_shows_what() {
    let more = [
        ("scheme", "https"),
        ("aggregator", "max"),
        ("raw-query", "a=b&c"),
        ("request-timeout", "2s"),
        ("connect-timeout", "500ms"),
        ("min-pod-ready-age", "30s"),
        ("interval", "20s"),
    ];
    let read = read_one(of_pods(&[&DOCUMENT[..], &more].concat()));
    assert_eq!(read.warnings, []);
    assert_eq!(read.object.asked[0].to_string(), "rps{} of the pods of Deployment web");
    let definition = read.object.definition.clone().expect("is valid");
    assert_eq!((definition.polling_interval, definition.triggers[0].threshold), (Duration::from_secs(20), 1000.0));
    let Some(Query::PodMetric(source)) = definition.triggers[0].source.query() else { panic!("{definition:?}") };
    assert_eq!(source.whose, "pods of shop/Deployment/web");
    assert_eq!((source.https, source.port, source.path.as_str()), (true, 9090, "/metrics?a=b&c"));
    assert_eq!((source.timeout, source.min_ready_age), (Some(Duration::from_secs(2)), Duration::from_secs(30)));
    // The recorded spec reads as the same.
    let again = json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": serde_json::from_str::<Value>(&read.object.spec_json).unwrap()});
    let again = scaled_object::from_value(ApiGroup::Autoscaling, again, &Servers::default()).unwrap().object;
    assert_eq!(again.definition, Ok(definition));
    // No ScaledObject has such a trigger.
    let trigger =
        json!({"type": "json-path", "metadata": {"jsonKey": "$.a", "path": "/", "port": "1", "threshold": "1"}});
    let object = json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [trigger]}});
    let refused = scaled_object::from_value(ApiGroup::KedaSh, object, &Servers::default()).unwrap().object;
    assert!(refused.definition.unwrap_err().all().contains("json-path"));
}

#[test]
fn what_is_wrong_with_a_metric_of_pods_is_said_of_its_annotation() {
    for (change, field, words) in [
        (("json-key", ""), "json-key", "is missing"),
        (("json-key", "http.rps"), "json-key", "does not begin with $"),
        (("json-key", "$..rps"), "json-key", "all levels"),
        (("path", ""), "path", "is missing"),
        (("path", "/a b"), "path", "space"),
        (("port", ""), "port", "is missing"),
        (("port", "http"), "port", "is not a port"),
        (("port", "0"), "port", "is not a port"),
        (("scheme", "ftp"), "scheme", "write one of http, https"),
        (("aggregator", "mean"), "aggregator", "write one of avg, max, min, sum"),
        (("raw-query", "a b"), "raw-query", "space"),
        (("request-timeout", "soon"), "request-timeout", "is not a duration"),
        (("request-timeout", "1h"), "request-timeout", "longer than 30 s"),
        (("min-pod-ready-age", "-1s"), "min-pod-ready-age", "is not a duration"),
    ] {
        let kept = DOCUMENT.into_iter().filter(|(key, _)| *key != change.0);
        let found = problems(of_pods(&kept.chain([change]).collect::<Vec<_>>()));
        let expected = format!("metadata.annotations[metric-config.pods.rps.json-path/{field}]: ");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{change:?}: {found:?}");
        assert!(found[0].contains(words), "{change:?}: {found:?}");
    }
    let evaluated = problems(of_pods(&[("json-eval", "1 + 1"), DOCUMENT[1], DOCUMENT[2]]));
    assert!(evaluated[0].contains("json-eval]: is not supported"), "{evaluated:?}");
    let mut of_rollout = of_pods(&DOCUMENT);
    of_rollout["spec"]["scaleTargetRef"]["kind"] = json!("Rollout");
    assert!(problems(of_rollout)[0].contains("spec.scaleTargetRef.kind: pods of \"Rollout\" are not asked"));
}

#[test]
fn leftovers_are_warned_about() {
    let read = read_one(hpa(
        &[
            ("metric-config.object.rps.prometheus/query", "a"),
            ("metric-config.external.rps.prometheus/query", "a"),
            ("metric-config.external.rps.prometheus/qeury", "b"),
            ("metric-config.external.rps.prometheus/per-replica", "true"),
            ("metric-config.external.gone.prometheus/query", "c"),
            ("metric-config.pods.rps.json-path/path", "/metrics"),
            ("hpalite.dev/cooldown", "1m"),
        ],
        &[("rps", TYPE)],
    ));
    assert!(read.object.definition.is_ok());
    let warnings: Vec<String> = read.warnings.iter().map(|one| format!("{} {}", one.message, one.fix)).collect();
    assert_eq!(warnings.len(), 6, "{warnings:#?}");
    for words in [
        "no Object metric",
        "no Pods metric",
        "did you mean query?",
        "no effect on an External",
        "is called gone",
        "without hpalite",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{words}: {warnings:#?}");
    }
}

#[test]
fn a_metric_that_stands_twice_is_one_and_too_many_are_refused() {
    let query = ("metric-config.external.rps.prometheus/query", "a");
    assert_eq!(asks(hpa(&[query], &[("rps", TYPE), ("rps", TYPE)])).len(), 1);
    let values: Vec<String> = (0..150).map(|n| n.to_string()).collect();
    let labels: Vec<[(&str, &str); 1]> = values.iter().map(|value| [("n", value.as_str())]).collect();
    let metrics: Vec<(&str, &[(&str, &str)])> = labels.iter().map(|labels| ("rps", labels.as_slice())).collect();
    let found = problems(hpa(&[query], &metrics));
    assert_eq!(found, ["spec.metrics: more than 100 metrics by annotations (ask for fewer)"]);
    assert_eq!(asks(hpa(&[query], &metrics[..100])).len(), 100);
}

#[test]
fn others_are_left_alone() {
    let none = |object: Value| from_value(object, &servers()).unwrap().is_none();
    assert!(none(hpa(&[], &[])));
    assert!(none(hpa(&[], &[("s0-prometheus", &[("scaledobject.keda.sh/name", "web")])])));
    assert!(none(hpa(&[("metric-config.pods.rps.other/path", "/")], &[])));
    assert!(none(hpa(&[("metric-config.external.sqs.sqs-queue-length/region", "x")], &[("sqs", &[("type", "sqs")])])));
    let mut owned = hpa(&[("metric-config.external.rps.prometheus/query", "a")], &[("rps", TYPE)]);
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "s", "uid": "2", "controller": true}]);
    assert!(none(owned), "a ScaledObject copies its annotations");
}

#[test]
fn scaling_to_zero_is_asked_for_by_name() {
    let query = ("metric-config.external.rps.prometheus/query", "a");
    let with = |own: &[(&'static str, &'static str)]| hpa(&[&[query], own].concat(), &[("rps", TYPE)]);
    let read = read_one(with(&[("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "90s")])).object;
    let definition = read.definition.expect("is valid");
    assert!(read.scales_to_zero);
    assert_eq!((definition.idle_replicas, definition.min_replicas), (Some(0), Some(2)));
    assert_eq!(definition.cooldown_period, Duration::from_secs(90));
    assert!(!read_one(with(&[("hpalite.dev/scale-to-zero", "false")])).object.scales_to_zero);
    assert!(!read_one(with(&[])).object.scales_to_zero);
    assert!(problems(with(&[("hpalite.dev/scale-to-zero", "yes")]))[0].contains("neither true nor false"));
    let bad = with(&[("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "-1s")]);
    assert!(problems(bad)[0].contains("\"-1s\" is not a duration"));
    let mut native = with(&[("hpalite.dev/scale-to-zero", "true")]);
    native["spec"]["minReplicas"] = json!(0);
    let native = read_one(native);
    assert!(!native.object.scales_to_zero && native.warnings[0].message.contains("by itself"));
    let blind = problems(hpa(&[("hpalite.dev/scale-to-zero", "true")], &[]));
    assert!(blind[0].contains("nothing could tell when to run again"), "{blind:?}");
}

#[test]
fn nothing_is_scaled_to_zero_while_a_metric_of_somebody_else_may_need_it() {
    let annotations = [("metric-config.external.rps.prometheus/query", "a"), ("hpalite.dev/scale-to-zero", "true")];
    let read = read_one(hpa(&annotations, &[("rps", TYPE), ("queue", &[])]));
    assert!(!read.object.scales_to_zero);
    assert_eq!(read.object.definition.expect("rps is served").idle_replicas, None);
    let message = "has no effect: hpalite does not read \"queue\", which may need replicas";
    assert_eq!(read.warnings[0].message, message);
    assert!(read.object.unheeded.expect("is reported").contains(message));
    // Without pods nobody answers for theirs, and one that answers 0 says nothing of another that does not answer.
    let mut of_pods = of_pods(&DOCUMENT);
    of_pods["metadata"]["annotations"]["hpalite.dev/scale-to-zero"] = json!("true");
    let read = read_one(of_pods);
    assert!(!read.object.scales_to_zero && read.object.definition.is_ok());
    assert_eq!(read.warnings[0].message, "has no effect: without pods nobody answers for \"rps\"");
    // What the HPA controller measures counts as it does for a ScaledObject: it cannot bring a target back from zero.
    let mut with_cpu = hpa(&annotations, &[("rps", TYPE)]);
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
    with_cpu["spec"]["metrics"].as_array_mut().unwrap().push(cpu);
    let read = read_one(with_cpu).object;
    assert!(read.scales_to_zero && read.unheeded.is_none());
}
