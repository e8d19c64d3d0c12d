//! TriggerAuthentication and ClusterTriggerAuthentication of both API groups: the sources of parameters, never their
//! values.
//!
//! Identities that cannot be had are recognised and refused by name, since a trigger without the credentials that it
//! needs would fail with a confusing error.

use serde_json::Value;

use super::fields::{Diagnostics, Fields, Warning, quoted};
use super::identity::{oauth2, pod_identity};
use super::metadata::{Metadata, Unreadable};
use super::stores::stores;
use crate::scaling::allowed::{self, Allowed};
use crate::scaling::model::{
    ApiGroup, Authentication, AuthenticationKey, AuthenticationKind, ParameterSource, Problem, Step,
};

/// The authentication, all its problems (the model keeps the first), and warnings.
#[derive(Debug)]
pub struct ParsedAuthentication {
    pub authentication: Authentication,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

/// Reads an object from the API server's JSON.
///
/// # Errors
/// If the bytes are not a JSON object with a `metadata.name`.
pub fn from_slice(group: ApiGroup, kind: AuthenticationKind, json: &[u8]) -> Result<Authentication, Unreadable> {
    let value = serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
    from_value(group, kind, value).map(|reading| reading.authentication)
}

/// Like [`from_slice`], but from a parsed value, and with everything that `check` prints.
///
/// # Errors
/// When there is no `metadata.name`.
pub fn from_value(
    group: ApiGroup,
    kind: AuthenticationKind,
    mut object: Value,
) -> Result<ParsedAuthentication, Unreadable> {
    let mut report = Diagnostics::default();
    let metadata = Metadata::take(&mut object, &mut report)?;
    let spec = Fields::new("spec", object.get("spec"), Step::BuildScalers, &mut report);
    let sources = sources(kind, &spec, &mut report);
    let pod_identity = pod_identity(&spec, &mut report);
    let status_scaled_objects =
        object.pointer("/status/scaledobjects").and_then(Value::as_str).unwrap_or_default().to_owned();
    let namespace = match kind {
        AuthenticationKind::TriggerAuthentication => metadata.namespace,
        AuthenticationKind::ClusterTriggerAuthentication => String::new(),
    };
    let annotation = |name| metadata.annotations.get(name).map(String::as_str);
    let allowed = match kind {
        // It can only be used in its own namespace.
        AuthenticationKind::TriggerAuthentication => Allowed::default(),
        AuthenticationKind::ClusterTriggerAuthentication => {
            Allowed::read(annotation(allowed::NAMESPACES), annotation(allowed::SERVERS))
        }
    };
    let authentication = Authentication {
        key: AuthenticationKey { group, kind, namespace, name: metadata.name },
        generation: metadata.generation,
        resource_version: metadata.resource_version,
        deletion_requested: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers,
        sources,
        pod_identity,
        allowed,
        unsupported: report.problems.first().cloned(),
        status_scaled_objects,
    };
    Ok(ParsedAuthentication { authentication, problems: report.problems, warnings: report.warnings })
}

/// Returns the sources in order of application: later ones take precedence, and a file replaces all others.
fn sources(kind: AuthenticationKind, spec: &Fields<'_>, report: &mut Diagnostics) -> Vec<ParameterSource> {
    let mut sources = Vec::new();
    for item in spec.objects("env", report) {
        let container = item.filled("containerName", report).map(str::to_owned);
        if let [Some(parameter), Some(name)] = item.required(["parameter", "name"], report) {
            sources.push(ParameterSource::Env { parameter, name, container });
        }
    }
    let file = file_path(kind, spec, report);
    let mut later = Vec::new();
    for item in spec.objects("configMapTargetRef", report) {
        if let [Some(parameter), Some(name), Some(key)] = item.required(["parameter", "name", "key"], report) {
            later.push(ParameterSource::ConfigMap { parameter, name, key });
        }
    }
    for item in spec.objects("secretTargetRef", report) {
        if let [Some(parameter), Some(name), Some(key)] = item.required(["parameter", "name", "key"], report) {
            later.push(ParameterSource::Secret { parameter, name, key });
        }
    }
    later.extend(stores(spec, report));
    for item in spec.objects("boundServiceAccountToken", report) {
        if let [Some(parameter), Some(service_account)] = item.required(["parameter", "serviceAccountName"], report) {
            later.push(ParameterSource::BoundServiceAccountToken { parameter, service_account });
        }
    }
    later.extend(oauth2(spec, report));
    match file {
        Some(file) if sources.is_empty() && later.is_empty() => vec![file],
        Some(file) => {
            report.warn(
                spec.path("filePath"),
                "replaces every other source of this authentication",
                "remove the others",
            );
            vec![file]
        }
        None => {
            sources.append(&mut later);
            sources
        }
    }
}

fn file_path(kind: AuthenticationKind, spec: &Fields<'_>, report: &mut Diagnostics) -> Option<ParameterSource> {
    let path = spec.filled("filePath", report)?;
    let (message, fix) = if kind == AuthenticationKind::TriggerAuthentication {
        (
            "is for ClusterTriggerAuthentication only".to_owned(),
            "use secretTargetRef, or a ClusterTriggerAuthentication",
        )
    } else if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        (format!("{} leaves the folder of authentication files", quoted(path)), "write a relative path without ..")
    } else {
        return Some(ParameterSource::FilePath(path.to_owned()));
    };
    report.problem(Step::BuildScalers, spec.path("filePath"), message, fix);
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: AuthenticationKind, spec: Value) -> ParsedAuthentication {
        let object = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec});
        from_value(ApiGroup::KedaSh, kind, object).expect("has a name")
    }

    #[test]
    fn sources_come_in_the_order_in_which_they_apply() {
        let reading = read(
            AuthenticationKind::TriggerAuthentication,
            json!({
                "boundServiceAccountToken": [{"parameter": "token", "serviceAccountName": "sa"}],
                "secretTargetRef": [{"parameter": "password", "name": "s", "key": "k"}],
                "configMapTargetRef": [{"parameter": "ca", "name": "c", "key": "k"}],
                "env": [{"parameter": "username", "name": "USER"}, {"parameter": "x", "name": "Y", "containerName": "app"}],
                "podIdentity": {"provider": "none"},
            }),
        );
        assert_eq!(reading.authentication.unsupported, None);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            reading.authentication.sources,
            [
                ParameterSource::Env { parameter: text("username"), name: text("USER"), container: None },
                ParameterSource::Env { parameter: text("x"), name: text("Y"), container: Some(text("app")) },
                ParameterSource::ConfigMap { parameter: text("ca"), name: text("c"), key: text("k") },
                ParameterSource::Secret { parameter: text("password"), name: text("s"), key: text("k") },
                ParameterSource::BoundServiceAccountToken { parameter: text("token"), service_account: text("sa") },
            ]
        );
    }

    #[test]
    fn only_the_cluster_kind_has_allow_lists() {
        let of = |kind| {
            let annotations =
                json!({"hpalite.dev/allowed-namespaces": "shop, team-*", "hpalite.dev/allowed-servers": ""});
            let object = json!({"metadata": {"name": "a", "namespace": "n", "annotations": annotations}, "spec": {}});
            from_value(ApiGroup::KedaSh, kind, object).expect("has a name").authentication.allowed
        };
        assert_eq!(of(AuthenticationKind::TriggerAuthentication), Allowed::default());
        let lists =
            Allowed { namespaces: Some(vec!["shop".to_owned(), "team-*".to_owned()]), servers: Some(Vec::new()) };
        assert_eq!(of(AuthenticationKind::ClusterTriggerAuthentication), lists);
    }

    #[test]
    fn a_file_replaces_the_rest() {
        let spec = json!({"filePath": "team/a.json", "env": [{"parameter": "a", "name": "B"}]});
        let reading = read(AuthenticationKind::ClusterTriggerAuthentication, spec);
        assert_eq!(reading.authentication.sources, [ParameterSource::FilePath("team/a.json".to_owned())]);
        assert_eq!(reading.warnings.len(), 1);
        assert_eq!(reading.authentication.key.namespace, "");
    }
}
