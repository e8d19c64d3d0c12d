//! Helpers for the tests of the trigger types: read one trigger and return the result.

use serde_json::{Value, json};

use super::super::fields::{Diagnostics, Fields};
use super::super::metadata::Metadata;
use super::read_all;
use crate::scaling::model::{ApiGroup, ResourceTrigger, Step, Trigger};

pub(super) struct Read {
    pub(super) triggers: Vec<Trigger>,
    pub(super) resource_triggers: Vec<ResourceTrigger>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn read(trigger: &Value) -> Read {
    let mut report = Diagnostics::default();
    let spec = json!({"triggers": [trigger]});
    let metadata = Metadata { name: "so".to_owned(), namespace: "shop".to_owned(), ..Metadata::default() };
    let fields = Fields::new("spec", Some(&spec), Step::BuildScalers, &mut report);
    let read = read_all(ApiGroup::KedaSh, &metadata, &fields, false, &mut report);
    Read {
        triggers: read.triggers,
        resource_triggers: read.resource_triggers,
        problems: report.problems.iter().map(ToString::to_string).collect(),
        warnings: report.warnings.iter().map(|warning| format!("{}: {}", warning.field, warning.message)).collect(),
    }
}

/// Returns the trigger, which must be valid.
pub(super) fn trigger(trigger: &Value) -> Trigger {
    let read = read(trigger);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    read.triggers.into_iter().next().expect("one trigger that is asked")
}

pub(super) fn problems(trigger: &Value) -> Vec<String> {
    read(trigger).problems
}

pub(super) fn warnings(trigger: &Value) -> Vec<String> {
    read(trigger).warnings
}

/// Changes a trigger: null removes a key of its metadata, an object stands beside them, and anything else is one of them.
pub(super) fn changed(mut trigger: Value, change: &Value) -> Value {
    for (key, value) in change.as_object().expect("an object") {
        match value {
            Value::Null => drop(trigger["metadata"].as_object_mut().expect("an object").remove(key)),
            Value::Object(_) => trigger[key] = value.clone(),
            _ => trigger["metadata"][key] = value.clone(),
        }
    }
    trigger
}
