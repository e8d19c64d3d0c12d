//! Where a Prometheus is, if the trigger's authentication may say it.
//!
//! Pure. Must not put the address into an error text, since it may come from a Secret and hold a password.

use std::sync::Arc;

use crate::formats::url::Url;
use crate::polling::auth::Auth;
use crate::polling::{Parameters, failed};
use crate::scaling::allowed;
use crate::scaling::event::{Credentials, ErrorClass, PollError};
use crate::scaling::model::PrometheusSource;

/// Returns the source with the address that is asked: the trigger's own, else the one that the authentication gives, else
/// the one that is named for all.
///
/// # Errors
/// `Authentication` if there is none, or the authentication's cannot be used.
pub fn locate(
    source: Arc<PrometheusSource>,
    credentials: Option<&Credentials>,
    parameters: &Parameters,
) -> Result<Arc<PrometheusSource>, PollError> {
    let Some(named) = &source.authentication else { return Ok(source) };
    let fails = |message: String| Err(failed(ErrorClass::Authentication, message));
    let auth = Auth { parameters, named: Some(named), namespace: "" };
    let address = match auth.optional(PrometheusSource::ADDRESS) {
        Some(given) => {
            if let Err(why) = Url::parse_base(given) {
                return fails(format!(
                    "parameter serverAddress of {named} {why}: write a URL such as \"http://prometheus.monitoring:9090\""
                ));
            }
            given.trim_end_matches('/')
        }
        // Whoever names the parameter means a server, and no other one must stand in for it.
        None if parameters.contains_key(PrometheusSource::ADDRESS) => {
            return fails(format!(
                "parameter serverAddress of {named} is empty: write a URL such as \"http://prometheus.monitoring:9090\""
            ));
        }
        None if source.server_address.is_empty() => {
            return fails(format!(
                "no server is named: write serverAddress into the trigger, give it as parameter serverAddress of {named}, \
                 or name one for all with --prometheus-server"
            ));
        }
        None => &source.server_address,
    };
    if let Some(patterns) = credentials.and_then(|found| found.servers.as_deref())
        && !allowed::names(patterns, address)
    {
        return fails(format!("{named}: its annotation {} does not name the server that is asked", allowed::SERVERS));
    }
    let address = address.to_owned();
    Ok(Arc::new(PrometheusSource { server_address: address, authentication: None, ..(*source).clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: &str = "ClusterTriggerAuthentication prom";

    fn located(of_all: &str, given: Option<&str>, servers: Option<&str>) -> Result<String, String> {
        let source = PrometheusSource {
            server_address: of_all.to_owned(),
            authentication: Some(NAMED.into()),
            ..PrometheusSource::default()
        };
        let credentials = Credentials {
            authentication: None,
            resource_version: String::new(),
            namespace: String::new(),
            sources: Arc::default(),
            pod_identity: None,
            env_target: None,
            servers: servers.map(|one| Arc::from([one.to_owned()])),
        };
        let parameters = given.iter().map(|text| ("serverAddress".to_owned(), (*text).to_owned())).collect();
        let found = locate(Arc::new(source), Some(&credentials), &parameters);
        found.map(|source| source.server_address.clone()).map_err(|error| {
            assert_eq!(error.class, ErrorClass::Authentication);
            error.message
        })
    }

    #[test]
    fn an_authentication_goes_before_the_server_of_all() {
        for (of_all, given, servers, expected) in [
            ("http://of-all", Some("http://given/x//\n"), None, "http://given/x"),
            ("", Some("http://given"), None, "http://given"),
            ("http://of-all", None, None, "http://of-all"),
            ("http://of-all", Some("http://given"), Some("given:80"), "http://given"),
            ("http://of-all", None, Some("of-*"), "http://of-all"),
        ] {
            assert_eq!(located(of_all, given, servers).as_deref(), Ok(expected));
        }
        let own = PrometheusSource { server_address: "http://own".to_owned(), ..PrometheusSource::default() };
        let parameters = [("serverAddress".to_owned(), "http://given".to_owned())].into();
        let found = locate(Arc::new(own.clone()), None, &parameters);
        assert_eq!(found.map(|source| (*source).clone()), Ok(own), "the trigger's own stays");
    }

    #[test]
    fn what_cannot_be_asked_names_the_authentication_and_the_fix_and_no_secret() {
        for (given, servers, words) in [
            (
                Some("prometheus:geheim"),
                None,
                "parameter serverAddress of ClusterTriggerAuthentication prom is not a URL: write",
            ),
            (
                Some("ftp://u:geheim@p"),
                None,
                "parameter serverAddress of ClusterTriggerAuthentication prom is not an http",
            ),
            (Some("http://u:geheim@p/?a=b"), None, "contains a query or a fragment"),
            (Some(" \n"), None, "parameter serverAddress of ClusterTriggerAuthentication prom is empty"),
            (Some("http://geheim"), Some("p"), "hpalite.dev/allowed-servers does not name the server"),
            (
                None,
                None,
                "give it as parameter serverAddress of ClusterTriggerAuthentication prom, or name one for all with",
            ),
        ] {
            let error = located("", given, servers).unwrap_err();
            assert!(error.contains(words) && !error.contains("geheim"), "{given:?}: {error}");
        }
        assert!(located("http://of-all", Some(""), None).is_err(), "no other server stands in");
        assert!(located("http://of-all", None, Some("p")).is_err(), "nor gets what is not for it");
    }
}
