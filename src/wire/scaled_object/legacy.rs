//! The spec of `keda.k8s.io/v1alpha1`: objects of KEDA 1 are served beside the newer ones, so that a cluster can be
//! migrated step by step.

use super::super::fields::{Diagnostics, Fields, quoted};
use super::super::metadata::Metadata;
use super::super::names::is_dns_subdomain;
use super::super::trigger;
use super::{Spec, annotations, bounds, targets};
use crate::scaling::model::{ApiGroup, Definition, Step, TargetRef};

/// Label of an old ScaledObject, and in its HPA's metric selectors; its value is the Deployment's name.
const DEPLOYMENT_LABEL: &str = "deploymentName";
const NAME_BYTES_MAX: usize = 63;

pub(super) fn read(metadata: &Metadata, spec: &Fields<'_>, report: &mut Diagnostics) -> Spec {
    report.warn(
        "apiVersion",
        "keda.k8s.io/v1alpha1 is the API of KEDA 1",
        "move to keda.sh/v1alpha1 when nothing needs the old form any more",
    );
    let target = target(spec, report);
    let numbers = bounds::read(ApiGroup::KedaK8sIo, spec, report);
    let triggers = trigger::read_all(ApiGroup::KedaK8sIo, metadata, spec, false, report);
    let definition = Definition {
        hpa_name: format!("keda-hpa-{}", target.name),
        triggers: triggers.triggers,
        resource_triggers: triggers.resource_triggers,
        selector: (DEPLOYMENT_LABEL.to_owned(), target.name.clone()),
        excluded_labels: annotations::excluded_labels(&metadata.annotations),
        ..numbers
    };
    Spec {
        target,
        triggers_types: triggers.types_text,
        authentications_types: triggers.authentications_text,
        restore_to_original: false,
        definition,
    }
}

fn target(spec: &Fields<'_>, report: &mut Diagnostics) -> TargetRef {
    let fields = spec.child_at("scaleTargetRef", Step::Target, report);
    let target = TargetRef {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: fields.filled("deploymentName", report).unwrap_or_default().to_owned(),
        env_source_container: fields.filled("containerName", report).map(str::to_owned),
    };
    const DEPLOYMENTS_ONLY: &str = "only Deployments are supported: write scaleTargetRef.deploymentName";
    let scale_type = spec.text("scaleType", report).unwrap_or("deployment");
    if scale_type != "deployment" {
        report.problem(
            Step::Target,
            spec.path("scaleType"),
            format!("{} cannot be scaled", quoted(scale_type)),
            DEPLOYMENTS_ONLY,
        );
    }
    if spec.has("jobTargetRef") {
        report.problem(Step::Target, spec.path("jobTargetRef"), "jobs cannot be scaled", DEPLOYMENTS_ONLY);
    }
    let is_blank = fields.get("deploymentName").is_none_or(|name| name == "");
    if is_blank && !spec.has("jobTargetRef") {
        let fix = match fields.get("name").and_then(|name| name.as_str()) {
            Some(new) => format!("write deploymentName: {new}; name is of keda.sh"),
            None => "write the name of the Deployment to scale".to_owned(),
        };
        report.problem(Step::Target, fields.path("deploymentName"), "is missing", fix);
    } else if !is_dns_subdomain(&target.name) {
        targets::check_name(&fields, "deploymentName", &target.name, report);
    } else if target.name.len() > NAME_BYTES_MAX {
        report.problem(
            Step::Target,
            fields.path("deploymentName"),
            format!(
                "{} is longer than {NAME_BYTES_MAX} characters and cannot be a label's value",
                quoted(&target.name)
            ),
            "move the object to keda.sh, where the Deployment's name is no label",
        );
    }
    target
}
