//! The spec of the ScaledObject that would ask for what an annotated HPA asks for, as [`crate::wire::hpa`] makes it and
//! the history keeps it.
//!
//! The API server has checked the HPA, so that its names and counts are taken as they are.

use super::super::fields::{Diagnostics, Fields};
use super::super::metadata::Metadata;
use super::super::trigger;
use super::{Spec, behavior, bounds};
use crate::scaling::model::{ApiGroup, Definition, Step, TargetRef};

pub(super) fn read(metadata: &Metadata, spec: &Fields<'_>, report: &mut Diagnostics) -> Spec {
    let fields = spec.child_at("scaleTargetRef", Step::Target, report);
    let mut text = |name: &str| fields.filled(name, report).unwrap_or_default().to_owned();
    let target = TargetRef {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        env_source_container: None,
    };
    let numbers = bounds::read(ApiGroup::Autoscaling, spec, report);
    let triggers = trigger::read_all(ApiGroup::Autoscaling, metadata, spec, false, report);
    let config = spec.child("advanced", report).child("horizontalPodAutoscalerConfig", report);
    let definition = Definition {
        hpa_name: metadata.name.clone(),
        behavior: behavior::read(&config, report),
        triggers: triggers.triggers,
        resource_triggers: triggers.resource_triggers,
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
