//! Where a trigger's authentication parameters come from, and which servers it must not query.

use std::sync::Arc;

use super::allowed;
use super::event::{Credentials, EnvTarget, ErrorClass, PollError};
use super::model::{
    Authentication, AuthenticationKey, Gvkr, ObjectKey, ParameterSource, PrometheusSource, Query, ScaledObject, Source,
    Trigger,
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
        target: impl FnOnce() -> Option<(&'a ScaledObject, Arc<Gvkr>)>,
    ) -> Result<Option<Self>, PollError> {
        let uses_env =
            |sources: &[ParameterSource]| sources.iter().any(|source| matches!(source, ParameterSource::Env { .. }));
        let env_target = |(spec, gvkr): (&ScaledObject, Arc<Gvkr>)| EnvTarget {
            gvkr,
            namespace: object.namespace.to_string(),
            name: spec.target.name.clone(),
            container: spec.target.env_source_container.clone(),
        };
        let Some(reference) = &trigger.authentication else {
            if trigger.env.is_empty() {
                return Ok(None);
            }
            return Ok(Some(Self {
                authentication: None,
                resource_version: String::new(),
                namespace: object.namespace.to_string(),
                sources: Arc::new(trigger.env.clone()),
                pod_identity: None,
                env_target: target().map(env_target),
                servers: None,
            }));
        };
        let id = AuthenticationKey::of(object, reference);
        let error = |message: String| PollError::new(ErrorClass::Authentication, message);
        let Some(found) = find(&id) else {
            return Err(error(format!("{id} not found (spec.triggers[{}].authenticationRef names it)", trigger.index)));
        };
        if let Some(problem) = &found.unsupported {
            return Err(error(format!("{id}: {problem}")));
        }
        let query = trigger.source.query().map(|query| query.settled_by(&found.sources));
        let url = query.as_ref().and_then(Query::written_server);
        if let Some(refusal) = found.allowed.refusal(&object.namespace, url) {
            return Err(error(format!("{id}: {refusal} (spec.triggers[{}] refers to it)", trigger.index)));
        }
        // Whoever may edit the workload would say where the values go.
        if let Some(parameter) = trigger.address_of_workload(&found.sources).filter(|_| found.allowed.servers.is_some())
        {
            return Err(error(format!(
                "{id}: its annotation {} cannot be compared with {parameter}FromEnv, so write the address itself \
                 (spec.triggers[{}] refers to it)",
                allowed::SERVERS,
                trigger.index
            )));
        }
        let wrong = found.pod_identity.as_ref().and_then(|identity| trigger.source.query()?.refusal(identity));
        if let Some(wrong) = wrong {
            return Err(error(format!(
                "{id}: its podIdentity {wrong} (spec.triggers[{}] refers to it)",
                trigger.index
            )));
        }
        // What the authentication says stands above the metadata.
        let sources: Vec<ParameterSource> = trigger.env.iter().chain(&found.sources).cloned().collect();
        let servers = match query {
            Some(Query::Prometheus(_)) if url.is_none() => found.allowed.servers.as_deref().map(Arc::from),
            _ => None,
        };
        Ok(Some(Self {
            resource_version: found.resource_version.clone(),
            namespace: id.namespace.clone(),
            authentication: Some(id),
            env_target: uses_env(&sources).then(target).flatten().map(env_target),
            sources: Arc::new(sources),
            pod_identity: found.pod_identity.clone(),
            servers,
        }))
    }
}

impl Credentials {
    /// Returns the namespace whose authors choose the parameters; empty if only the operator does, by a cluster-wide
    /// authentication.
    #[must_use]
    pub fn asker(&self) -> &str {
        self.env_target.as_ref().map_or(&self.namespace, |target| &target.namespace)
    }
}

impl Query {
    /// Returns the query as these sources of its authentication leave it: if none of them can give the address, the server
    /// is the one that is named for all.
    #[must_use]
    pub fn settled_by(&self, sources: &[ParameterSource]) -> Self {
        match self {
            Self::Prometheus(source)
                if source.authentication.is_some()
                    && !source.server_address.is_empty()
                    && !sources.iter().any(|found| found.may_give(PrometheusSource::ADDRESS)) =>
            {
                Self::Prometheus(Arc::new(PrometheusSource { authentication: None, ..(**source).clone() }))
            }
            _ => self.clone(),
        }
    }
}

/// Parameters of triggers that say where their server is.
const ADDRESSES: [&str; 7] = ["address", "addresses", "bootstrapServers", "connection", "host", "hosts", "queueURL"];

impl Trigger {
    /// Returns a parameter that says where the server is, and comes from a variable of the workload unless one of these
    /// sources gives it.
    fn address_of_workload(&self, sources: &[ParameterSource]) -> Option<&str> {
        let named = self.env.iter().filter_map(|source| match source {
            ParameterSource::Env { parameter, .. } => Some(parameter.as_str()),
            _ => None,
        });
        let is_left = |parameter: &&str| !sources.iter().any(|source| source.may_give(parameter));
        named.filter(|parameter| ADDRESSES.contains(parameter)).find(is_left)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::allowed::Allowed;
    use crate::scaling::model::{ApiGroup, AuthMode, AuthenticationKind, AuthenticationRef, PodIdentity};
    use crate::scaling::testing;

    fn of(trigger: &Trigger, found: &Authentication) -> Result<Option<Credentials>, String> {
        let object = ObjectKey::new(ApiGroup::KedaSh, "default", "so");
        Credentials::of(&object, trigger, |_| Some(found), || None).map_err(|error| error.message)
    }

    fn referring() -> Trigger {
        let reference = AuthenticationRef { kind: AuthenticationKind::TriggerAuthentication, name: "token".to_owned() };
        Trigger { authentication: Some(reference), ..testing::trigger(0, "up") }
    }

    #[test]
    fn an_identity_must_fit_its_trigger() {
        let aws = PodIdentity::Aws { role_arn: None, external_id: None };
        let found = Authentication { pod_identity: Some(aws.clone()), ..testing::authentication("token") };
        assert_eq!(of(&referring(), &found).unwrap().unwrap().pod_identity, Some(aws));
        let prometheus =
            |modes: &[AuthMode]| Arc::new(PrometheusSource { auth_modes: modes.to_vec(), ..testing::prometheus("up") });
        for (query, words) in [
            (Query::Prometheus(prometheus(&[AuthMode::Basic])), "its podIdentity takes the place of authModes"),
            (Query::Loki(prometheus(&[])), "its podIdentity aws is of no use to a loki trigger"),
        ] {
            let error = of(&Trigger { source: Source::Query(query), ..referring() }, &found).unwrap_err();
            assert!(error.contains(words) && error.contains("spec.triggers[0]"), "{error}");
        }
    }

    #[test]
    fn an_authentication_without_an_address_leaves_the_server_of_all() {
        let named = |parameter: &str| ParameterSource::Value { parameter: parameter.to_owned(), value: String::new() };
        let query = |address: &str| {
            Query::Prometheus(Arc::new(PrometheusSource {
                server_address: address.to_owned(),
                authentication: Some("TriggerAuthentication shop/prom".into()),
                ..PrometheusSource::default()
            }))
        };
        let (of_all, none) = (query("http://u:p@of-all"), query(""));
        assert_eq!((of_all.server(), of_all.written_server()), ("TriggerAuthentication shop/prom", None));
        assert_eq!(of_all.shown().0, "TriggerAuthentication shop/prom, or http://of-all");
        assert_eq!(none.shown().0, "TriggerAuthentication shop/prom");
        assert_eq!(of_all.settled_by(&[named("token")]).written_server(), Some("http://u:p@of-all"));
        for sources in [[named("serverAddress")], [ParameterSource::FilePath("a.json".to_owned())]] {
            assert_eq!(of_all.settled_by(&sources), of_all);
        }
        assert_eq!(none.settled_by(&[]), none, "nothing else says it");
    }

    #[test]
    fn values_go_to_the_servers_that_are_allowed_whoever_says_the_address() {
        let source = PrometheusSource {
            server_address: "http://of-all:9090".to_owned(),
            authentication: Some("TriggerAuthentication default/token".into()),
            ..testing::prometheus("up")
        };
        let trigger = Trigger { source: Source::Query(Query::Prometheus(Arc::new(source))), ..referring() };
        let found = |servers: &str, parameter: &str| Authentication {
            allowed: Allowed::read(None, Some(servers)),
            sources: vec![ParameterSource::Value { parameter: parameter.to_owned(), value: "x".to_owned() }],
            ..testing::authentication("token")
        };
        let error = of(&trigger, &found("other", "bearerToken")).unwrap_err();
        assert!(error.contains("allowed-servers does not name http://of-all:9090"), "{error}");
        assert_eq!(of(&trigger, &found("of-all", "bearerToken")).unwrap().unwrap().servers, None);
        // Its own address is known when a poll reads it.
        let later = of(&trigger, &found("other", "serverAddress")).unwrap().unwrap();
        assert_eq!(later.servers.as_deref(), Some(&["other".to_owned()][..]));
    }

    #[test]
    fn the_workload_does_not_say_where_values_go_that_are_for_some_servers_only() {
        let env = |parameter: &str| ParameterSource::Env {
            parameter: parameter.to_owned(),
            name: "X".to_owned(),
            container: None,
        };
        let with = |parameter: &str| Trigger { env: vec![env(parameter)], ..referring() };
        let found = |servers: Option<&str>, sources: Vec<ParameterSource>| Authentication {
            allowed: Allowed::read(None, servers),
            sources,
            ..testing::authentication("token")
        };
        let some = Some("prometheus");
        let error = of(&with("host"), &found(some, Vec::new())).unwrap_err();
        assert!(error.contains("cannot be compared with hostFromEnv") && error.contains("spec.triggers[0]"), "{error}");
        assert!(of(&with("password"), &found(some, Vec::new())).is_ok(), "no address");
        assert!(of(&with("host"), &found(None, Vec::new())).is_ok(), "for any server");
        assert!(of(&with("host"), &found(some, vec![env("host")])).is_ok(), "the authentication says it");
    }

    #[test]
    fn variables_of_the_workload_stand_below_the_authentication() {
        let env = |parameter: &str| ParameterSource::Env {
            parameter: parameter.to_owned(),
            name: "X".to_owned(),
            container: None,
        };
        let alone = Trigger { env: vec![env("password")], ..testing::trigger(0, "up") };
        let credentials = of(&alone, &testing::authentication("token")).unwrap().unwrap();
        assert_eq!((credentials.authentication, credentials.namespace.as_str()), (None, "default"));
        let value = ParameterSource::Value { parameter: "password".to_owned(), value: "y".to_owned() };
        let found = Authentication { sources: vec![value.clone()], ..testing::authentication("token") };
        let both = Trigger { env: vec![env("password")], ..referring() };
        assert_eq!(of(&both, &found).unwrap().unwrap().sources[..], [env("password"), value]);
        assert_eq!(of(&testing::trigger(0, "up"), &found), Ok(None));
    }
}
