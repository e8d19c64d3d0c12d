//! Builders for these tests.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hpalite::outbound::names::Names;
use hpalite::outbound::networks::Rules;
use hpalite::polling::proxy::ProxySettings;
use hpalite::polling::request::Request;
use hpalite::polling::tls::Roots;
use hpalite::polling::transport::{Transport, TransportConfig};
use hpalite::prometheus::query;
use hpalite::scaling::event::{Answer, ErrorClass, PollError};
use hpalite::scaling::model::{AuthMode, PrometheusSource, UnixMillis};
use hpalite::tls::Version;

/// Far longer than a loopback answer takes, so that only tests of time limits reach it.
pub(crate) const GENEROUS: Duration = Duration::from_secs(90);

pub(crate) fn transport() -> Transport {
    transport_with(&[])
}

/// With these environment variables for proxies.
pub(crate) fn transport_with(variables: &[(&str, &str)]) -> Transport {
    transport_of(variables, loopback(), Names::new(4))
}

/// Allows loopback, where the fakes are.
pub(crate) fn loopback() -> Rules {
    let allowed = ["127.0.0.0/8", "::1"].map(|network| network.parse().unwrap()).to_vec();
    Rules { allowed, own: Vec::new() }
}

/// With this time limit for sources that have none.
pub(crate) fn transport_within(default_timeout: Duration, rules: Rules) -> Transport {
    transport_with_all(&[], rules, Names::new(4), default_timeout, true)
}

/// One that closes each connection after its answer.
pub(crate) fn transport_without_keep_alive() -> Transport {
    transport_with_all(&[], loopback(), Names::new(4), GENEROUS, false)
}

pub(crate) fn transport_of(variables: &[(&str, &str)], rules: Rules, names: Names) -> Transport {
    transport_with_all(variables, rules, names, GENEROUS, true)
}

/// With every parameter of a transport.
fn transport_with_all(
    variables: &[(&str, &str)],
    rules: Rules,
    names: Names,
    default_timeout: Duration,
    keep_alive: bool,
) -> Transport {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Transport::new(TransportConfig {
        roots: Roots::load(None, &[]),
        proxy: ProxySettings::from_variables(|name| variables.get(name).cloned()),
        default_timeout,
        user_agent: "hpalite/test".into(),
        names: Arc::new(names),
        rules: Arc::new(rules),
        tls_min: Version::default(),
        keep_alive,
        poll_threads: 32,
    })
    .unwrap()
}

pub(crate) fn source(address: &str, query: &str) -> PrometheusSource {
    PrometheusSource { server_address: address.into(), query: query.into(), ..PrometheusSource::default() }
}

pub(crate) fn with_modes(address: &str, modes: &[AuthMode]) -> PrometheusSource {
    PrometheusSource { auth_modes: modes.to_vec(), ..source(address, "up") }
}

pub(crate) fn ask(transport: &Transport, source: &PrometheusSource, parameters: &[(&str, &str)]) -> Answer {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    match query::build(source, Some("TriggerAuthentication shop/prom"), &parameters, UnixMillis(1_700_000_000_000)) {
        Ok(request) => send(transport, request, source),
        Err(error) => Answer::Failed(error),
    }
}

/// Waits for the answer.
pub(crate) fn send(transport: &Transport, request: Request, source: &PrometheusSource) -> Answer {
    let (sender, answer) = mpsc::sync_channel(1);
    let done = move |answer, _, _| sender.send(answer).unwrap();
    hpalite::prometheus::ask(transport, request, Arc::new(source.clone()), None, done);
    answer.recv().unwrap()
}

pub(crate) fn failed(answer: Answer) -> (ErrorClass, String) {
    match answer {
        Answer::Failed(PollError { class, message }) => (class, message),
        other => panic!("{other:?}"),
    }
}

/// Asserts the class and a part of the message of an error.
pub(crate) fn assert_failed(answer: Answer, class: ErrorClass, words: &str) {
    let (found, message) = failed(answer);
    assert_eq!(found, class, "{message}");
    assert!(message.contains(words), "{message}");
}
