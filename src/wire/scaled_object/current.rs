//! The spec of `keda.sh/v1alpha1`.

use super::super::fields::{Diagnostics, Fields, quoted};
use super::super::metadata::Metadata;
use super::super::names::is_dns_subdomain;
use super::super::trigger;
use super::{Spec, annotations, behavior, bounds, fallback, modifiers, targets};
use crate::scaling::model::{ApiGroup, Definition, Step, TargetRef};

/// Label of a ScaledObject, and in its HPA's metric selectors.
const NAME_LABEL: &str = "scaledobject.keda.sh/name";
/// Maximum length of a label's value, which both names become.
const NAME_BYTES_MAX: usize = 63;

pub(super) fn read(metadata: &Metadata, spec: &Fields<'_>, report: &mut Diagnostics) -> Spec {
    let target = target(spec, report);
    let numbers = bounds::read(ApiGroup::KedaSh, spec, report);
    let advanced = spec.child("advanced", report);
    let restore_to_original = advanced.boolean("restoreToOriginalReplicaCount", report).unwrap_or(false);
    let has_formula = modifiers::has_formula(spec);
    let triggers = trigger::read_all(ApiGroup::KedaSh, metadata, spec, has_formula, report);
    if numbers.min() == 0 && !triggers.kinds.is_empty() && triggers.are_of_resources_only() {
        report.warn(
            spec.path("minReplicaCount"),
            "scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't work in this case)",
            "write minReplicaCount: 1, or add a trigger that can tell when to run at all",
        );
    }
    let config = advanced.child("horizontalPodAutoscalerConfig", report);
    let hpa_name = hpa_name(metadata, &config, report);
    let behavior = behavior::read(&config, report);
    let modifiers = modifiers::read(spec, &advanced, report);
    let fallback = fallback::read(spec, &triggers, has_formula, report);
    let definition = Definition {
        fallback,
        hpa_name,
        behavior,
        modifiers,
        triggers: triggers.triggers,
        resource_triggers: triggers.resource_triggers,
        selector: (NAME_LABEL.to_owned(), metadata.name.clone()),
        excluded_labels: annotations::excluded_labels(&metadata.annotations),
        ..numbers
    };
    Spec {
        target,
        triggers_types: triggers.types_text,
        authentications_types: triggers.authentications_text,
        restore_to_original,
        definition,
    }
}

fn target(spec: &Fields<'_>, report: &mut Diagnostics) -> TargetRef {
    let fields = spec.child_at("scaleTargetRef", Step::Target, report);
    let name = fields.text("name", report).unwrap_or_default();
    if name.is_empty() && !fields.has("name") || fields.get("name").is_some_and(|name| name == "") {
        let fix = match fields.get("deploymentName").and_then(|name| name.as_str()) {
            Some(old) => format!("write name: {old}; deploymentName is of keda.k8s.io"),
            None => "write the name of the Deployment or other workload to scale".to_owned(),
        };
        report.problem(Step::Target, fields.path("name"), "is missing", fix);
    }
    let api_version = fields.filled("apiVersion", report).unwrap_or("apps/v1");
    let kind = fields.filled("kind", report).unwrap_or("Deployment");
    let parts: Vec<&str> = api_version.split('/').collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) {
        report.problem(
            Step::Target,
            fields.path("apiVersion"),
            format!("{} is not a group and version", quoted(api_version)),
            "write e.g. apps/v1",
        );
    } else {
        targets::check(&fields, api_version, kind, report);
    }
    targets::check_name(&fields, "name", name, report);
    TargetRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        env_source_container: fields.filled("envSourceContainerName", report).map(str::to_owned),
    }
}

fn hpa_name(metadata: &Metadata, config: &Fields<'_>, report: &mut Diagnostics) -> String {
    let given = config.filled("name", report);
    let name = given.map_or_else(|| format!("keda-hpa-{}", metadata.name), str::to_owned);
    if metadata.name.len() > NAME_BYTES_MAX {
        report.problem(
            Step::BuildScalers,
            "metadata.name",
            format!(
                "{} is longer than {NAME_BYTES_MAX} characters and cannot be a label's value",
                quoted(&metadata.name)
            ),
            "give the ScaledObject a shorter name",
        );
    } else if name.len() > NAME_BYTES_MAX {
        let (field, fix) = match given {
            Some(_) => (config.path("name"), format!("write at most {NAME_BYTES_MAX} characters")),
            None => (
                "metadata.name".to_owned(),
                "set spec.advanced.horizontalPodAutoscalerConfig.name to a shorter name for the HPA".to_owned(),
            ),
        };
        report.problem(
            Step::BuildScalers,
            field,
            format!("the HPA's name {} is longer than {NAME_BYTES_MAX} characters", quoted(&name)),
            fix,
        );
    } else if given.is_some() && !is_dns_subdomain(&name) {
        report.problem(
            Step::BuildScalers,
            config.path("name"),
            format!("{} cannot name an HPA", quoted(&name)),
            "write lower-case letters, digits, '-' and '.', with a letter or digit at both ends",
        );
    }
    name
}
