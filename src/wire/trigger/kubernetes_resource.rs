//! The `kubernetes-resource` trigger: a number in a ConfigMap or a Secret of the object's namespace.

use super::super::fields::Diagnostics;
use super::metrics_api::value_location;
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, normalized, target};
use crate::scaling::model::{BodyFormat, OnMissing, ParameterSource, Query, ResourceSource, Server, Source, Step};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "kubernetes-resource",
    reference: &[
        Row {
            parameters: &["resourceKind"],
            default: "required",
            meaning: "`ConfigMap` or `Secret`, of the object's own namespace",
        },
        Row {
            parameters: &["resourceName", "key"],
            default: "required",
            meaning: "its name, and the key of the number",
        },
        Row {
            parameters: &["targetValue"],
            default: "required",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationTargetValue"], default: "0", meaning: "above this the trigger is active" },
        Row {
            parameters: &["format"],
            default: "number",
            meaning: "of the text: `number`, also of a quantity such as `1500m`, or `json` or `yaml`",
        },
        Row {
            parameters: &["valueLocation"],
            default: "–",
            meaning: "where the number is in JSON or YAML, as for the metrics-api trigger",
        },
        Row {
            parameters: &["valueType"],
            default: "float64",
            meaning: "`float64`, `quantity`, or `int64` without its fraction",
        },
    ],
    without_effect: &[],
    can_be_cached: true,
    from_env: &[],
    parse,
};

/// Where its text comes from.
pub(super) fn parameter(source: &ResourceSource) -> ParameterSource {
    let (parameter, name, key) = (ResourceSource::PARAMETER.to_owned(), source.name.clone(), source.key.clone());
    if source.is_secret {
        ParameterSource::Secret { parameter, name, key }
    } else {
        ParameterSource::ConfigMap { parameter, name, key }
    }
}

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let kinds = [("ConfigMap", false), ("Secret", true)];
    let is_secret = match parameters.get("resourceKind") {
        None => parameters.required("resourceKind", "write ConfigMap or Secret", report).map(|_| false).ok_or(()),
        Some(_) => parameters.one_of("resourceKind", &kinds, report).map(|kind| kind.unwrap_or(false)),
    };
    let name = parameters.required("resourceName", "write the name of the ConfigMap or Secret", report);
    let key = parameters.required("key", "write the key of the number", report);
    let formats = [("number", None), ("json", Some(BodyFormat::Json)), ("yaml", Some(BodyFormat::Yaml))];
    let location = match parameters.one_of("format", &formats, report).ok()?.flatten() {
        Some(format) => Some((format, value_location(parameters, format, report)?)),
        None if parameters.get("valueLocation").is_some() => {
            let fix = "write format json or yaml, or remove valueLocation";
            parameters.problem("valueLocation", "has no meaning in a number", fix, report);
            return None;
        }
        None => None,
    };
    let types = [("float64", false), ("quantity", false), ("int64", true)];
    let is_whole = parameters.one_of("valueType", &types, report);
    let threshold = target::read(context, "targetValue", "write the wanted value per replica, e.g. \"10\"", report);
    let activation_threshold = parameters.number("activationTargetValue", report);
    let metric_type = external_metric_type(context, report);
    // The names of a ClusterTriggerAuthentication are those of another namespace.
    if context.fields.has("authenticationRef") {
        let message = "has no meaning: the object's own namespace is read";
        report.problem(Step::BuildScalers, context.fields.path("authenticationRef"), message, "remove it");
        return None;
    }
    let (is_secret, name, key) = (is_secret.ok()?, name?, key?);
    let kind = if is_secret { "secret" } else { "configmap" };
    let source = ResourceSource {
        server: Server::Elsewhere(format!("API server, for {}", context.namespace)),
        is_secret,
        name: name.to_owned(),
        key: key.to_owned(),
        location,
        is_whole: is_whole.ok()?.unwrap_or(false),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&format!("{kind}-{name}-{key}"))).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Resource(source.into())),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, problems, trigger};
    use super::*;

    fn resource(change: Value) -> Value {
        let metadata = json!({"resourceKind": "ConfigMap", "resourceName": "limits", "key": "a.b", "targetValue": "2"});
        changed(json!({"type": "kubernetes-resource", "metadata": metadata}), &change)
    }

    #[test]
    fn a_key_of_the_own_namespace() {
        let read = trigger(&resource(json!({})));
        assert_eq!((&*read.metric_name, read.threshold), ("s0-configmap-limits-a-b", 2.0));
        let (parameter, name, key) = ("key".to_owned(), "limits".to_owned(), "a.b".to_owned());
        assert_eq!(read.env, [ParameterSource::ConfigMap { parameter, name, key }]);
        assert_eq!(read.source.query().expect("a query").written_server(), None);
        let secret = trigger(&resource(json!({"resourceKind": "Secret", "format": "json", "valueLocation": "n"})));
        assert!(matches!(&secret.env[..], [ParameterSource::Secret { .. }]));
    }

    #[test]
    fn mistakes() {
        for (change, words) in [
            (json!({"resourceKind": null}), "metadata.resourceKind: missing required parameter"),
            (json!({"resourceKind": "Pod"}), "metadata.resourceKind: \"Pod\" is no resourceKind"),
            (json!({"key": null}), "metadata.key: missing required parameter"),
            (json!({"valueLocation": "a"}), "metadata.valueLocation: has no meaning in a number"),
            (json!({"format": "yaml"}), "metadata.valueLocation: missing required parameter"),
            (json!({"targetValue": "0"}), "metadata.targetValue: \"0\" is not above 0"),
            (json!({"authenticationRef": {"name": "a"}}), "authenticationRef: has no meaning"),
        ] {
            let found = problems(&resource(change.clone()));
            assert!(found.len() == 1 && found[0].contains(words), "{change}: {found:?}");
        }
    }
}
