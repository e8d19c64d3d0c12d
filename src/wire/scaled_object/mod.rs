//! A ScaledObject of either API group, from JSON to the core's model.
//!
//! Owns the assembly; the parts stand in the files below. Must not refuse an object for its spec:
//! what is wrong ends in `definition`, all of it at once.

mod annotations;
mod behavior;
mod bounds;
mod current;
mod fallback;
mod legacy;
mod modifiers;

use std::sync::Arc;

use serde_json::Value;

use super::fields::{Fields, Report, Warning};
use super::metadata::{Metadata, Unreadable};
use super::status;
use crate::scaling::model::{
    ApiGroup, Definition, Invalid, ObjectKey, ScaledObject, Step, TargetRef,
};

/// The object, and what its author may want to know beyond what is wrong.
#[derive(Debug)]
pub struct Reading {
    pub object: ScaledObject,
    pub warnings: Vec<Warning>,
}

/// What both forms of a spec are reduced to.
struct Spec {
    target: TargetRef,
    triggers_types: String,
    authentications_types: String,
    restore_to_original: bool,
    /// Meaningless when any problem was reported.
    definition: Definition,
}

/// Reads one object as the API server sends it.
///
/// # Errors
/// When the bytes are no JSON object with a `metadata.name`.
pub fn from_slice(group: ApiGroup, json: &[u8]) -> Result<ScaledObject, Unreadable> {
    let value = serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
    from_value(group, value).map(|reading| reading.object)
}

/// The same from a parsed value, with the warnings that `check` prints.
///
/// # Errors
/// When there is no `metadata.name`.
pub fn from_value(group: ApiGroup, mut object: Value) -> Result<Reading, Unreadable> {
    let mut report = Report::default();
    let metadata = Metadata::take(&mut object, &mut report)?;
    let created_at = metadata.created_at();
    if object.get("spec").is_none_or(Value::is_null) {
        report.problem(
            Step::Target,
            "spec",
            "is missing",
            "write a spec with scaleTargetRef and triggers",
        );
    }
    let spec_fields = Fields::new("spec", object.get("spec"), Step::BuildScalers, &mut report);
    let spec = match group {
        ApiGroup::KedaSh => current::read(&metadata, &spec_fields, &mut report),
        ApiGroup::KedaK8sIo => legacy::read(&metadata, &spec_fields, &mut report),
    };
    let annotations = annotations::read(&metadata.annotations, &mut report);
    // serde_json keeps keys sorted, which makes the text canonical.
    let spec_json = object.get("spec").unwrap_or(&Value::Null).to_string();
    let status = object
        .get("status")
        .map(status::from_value)
        .unwrap_or_default();

    let Report {
        mut problems,
        warnings,
    } = report;
    // Stable, so that within a step the order of the walk stays.
    problems.sort_by_key(|problem| problem.step);
    let definition = if problems.is_empty() {
        Ok(Arc::new(spec.definition))
    } else {
        Err(Invalid { problems })
    };
    let object = ScaledObject {
        key: ObjectKey::new(group, &metadata.namespace, &metadata.name),
        uid: metadata.uid,
        generation: metadata.generation,
        resource_version: metadata.resource_version,
        created_at,
        deletion_requested: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers,
        labels: metadata.labels,
        annotations: metadata.annotations,
        target: spec.target,
        triggers_types: spec.triggers_types,
        authentications_types: spec.authentications_types,
        definition,
        pause: annotations.pause,
        force_activation: annotations.force_activation,
        transfer_hpa_ownership: annotations.transfer_hpa_ownership,
        restore_to_original: spec.restore_to_original,
        spec_json: spec_json.into(),
        status,
    };
    Ok(Reading { object, warnings })
}
