//! Where a trigger's authentication parameters come from, and which servers it must not query.

use std::sync::Arc;

use super::event::{Credentials, EnvTarget, ErrorClass, PollError};
use super::model::{
    Authentication, AuthenticationKey, Gvkr, ObjectKey, ParameterSource, Query, ScaledObject, Source, Trigger,
};

impl Credentials {
    /// Returns those of a trigger of `object`; None if it refers to no authentication. `find` looks authentications up,
    /// and `target` returns the object with the kind of its target.
    ///
    /// # Errors
    /// A dangling reference is an error, so that no query is sent without the credentials that were asked for.
    pub fn of<'a>(
        object: &ObjectKey,
        trigger: &Trigger,
        find: impl FnOnce(&AuthenticationKey) -> Option<&'a Authentication>,
        target: impl FnOnce() -> Option<(&'a ScaledObject, Gvkr)>,
    ) -> Result<Option<Self>, PollError> {
        let Some(reference) = &trigger.authentication else {
            return Ok(None);
        };
        let id = AuthenticationKey::of(object, reference);
        let error = |message: String| PollError { class: ErrorClass::Authentication, message };
        let Some(found) = find(&id) else {
            return Err(error(format!("{id} not found (spec.triggers[{}].authenticationRef names it)", trigger.index)));
        };
        if let Some(problem) = &found.unsupported {
            return Err(error(format!("{id}: {problem}")));
        }
        let url = trigger.source.query().map(Query::server);
        if let Some(refusal) = found.allowed.refusal(&object.namespace, url) {
            return Err(error(format!("{id}: {refusal} (spec.triggers[{}] refers to it)", trigger.index)));
        }
        let uses_env = found.sources.iter().any(|source| matches!(source, ParameterSource::Env { .. }));
        let env_target = uses_env.then(target).flatten().map(|(spec, gvkr)| EnvTarget {
            gvkr,
            namespace: object.namespace.to_string(),
            name: spec.target.name.clone(),
            container: spec.target.env_source_container.clone(),
        });
        Ok(Some(Self {
            resource_version: found.resource_version.clone(),
            namespace: id.namespace.clone(),
            authentication: id,
            sources: Arc::new(found.sources.clone()),
            env_target,
        }))
    }
}

impl Trigger {
    /// Returns why a trigger of `object` must not ask the endpoints of another namespace's Service: users of that
    /// namespace decide whether it exists and where its pods are, and an answer would reveal that.
    #[must_use]
    pub fn foreign_service(&self, object: &ObjectKey) -> Option<String> {
        let Source::Query(Query::MetricsApi(source)) = &self.source else {
            return None;
        };
        let namespace = &source.aggregation.as_ref()?.namespace;
        (**namespace != *object.namespace).then(|| {
            format!(
                "spec.triggers[{}].metadata.url names a Service of namespace {namespace}, and \
                 aggregateFromKubeServiceEndpoints asks those of the object's own namespace, {}, unless hpalite runs with \
                 --allow-cross-namespace-services",
                self.index, object.namespace
            )
        })
    }
}
