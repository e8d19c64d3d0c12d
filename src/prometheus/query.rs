//! Builds an instant query as an HTTP request.
//!
//! Owns the URL, its escaping and the headers; [`crate::polling::auth`] has the authentication modes. Pure: no
//! clock, no socket. Must not put a parameter's value into an error text.

use std::fmt::Write as _;
use std::time::Duration;

use crate::encode::{cut, escape};
use crate::formats::url::Url;
use crate::polling::auth::{Auth, is_header_name, is_header_value};
use crate::polling::request::{Header, IGNORED_HEADERS, Method, Request, TlsMaterial};
use crate::polling::{Parameters, failed};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{PrometheusSource, UnixMillis};
use crate::wire::time::format_seconds;

/// A longer query moves from the URL to a form body. Servers and proxies usually accept request lines of at least 8,000
/// bytes; 2,000 leaves room for what is added on the way and for gateways with browsers' limits.
const URL_LENGTH_MAX: usize = 2_000;

/// Builds the request. `authentication` names the (Cluster)TriggerAuthentication that provided `parameters`, for error
/// texts; `None` if the trigger refers to none.
///
/// # Errors
/// `Configuration` if the source cannot be queried, `Authentication` if a mode lacks a parameter.
pub fn build(
    source: &PrometheusSource,
    authentication: Option<&str>,
    parameters: &Parameters,
    now: UnixMillis,
) -> Result<Request, PollError> {
    let query = format!("query={}&time={}", escape(&source.query), format_seconds(now));
    request(source, authentication, parameters, "query", query)
}

/// Builds a request for the values from `from` to `to`, both included, one each `step`; without authentication.
///
/// # Errors
/// `Configuration` if the source cannot be queried.
pub fn build_range(
    source: &PrometheusSource,
    from: UnixMillis,
    to: UnixMillis,
    step: Duration,
) -> Result<Request, PollError> {
    let seconds = |at: UnixMillis| format!("{}.{:03}", at.0.div_euclid(1000), at.0.rem_euclid(1000));
    let (from, to, step) = (seconds(from), seconds(to), step.as_secs_f64());
    let query = format!("query={}&start={from}&end={to}&step={step}", escape(&source.query));
    request(source, None, &Parameters::default(), "query_range", query)
}

/// Builds a request for a list: `endpoint` is `labels`, or `label/NAME/values`. It is of series that `selector` matches
/// and that have samples since `from`; without authentication.
///
/// # Errors
/// `Configuration` if the source cannot be queried.
pub fn build_list(
    source: &PrometheusSource,
    endpoint: &str,
    selector: &str,
    from: UnixMillis,
) -> Result<Request, PollError> {
    let query = format!("match[]={}&start={}", escape(selector), format_seconds(from));
    request(source, None, &Parameters::default(), endpoint, query)
}

fn request(
    source: &PrometheusSource,
    authentication: Option<&str>,
    parameters: &Parameters,
    endpoint: &str,
    query: String,
) -> Result<Request, PollError> {
    let (address, path) = base(source)?;
    let auth = Auth { parameters, named: authentication, namespace: "" };
    let modes = auth.modes(&source.auth_modes)?;
    let mut headers = custom_headers(source)?;
    if let Some(credentials) = auth.header(&modes)? {
        headers.retain(|header| !header.name.eq_ignore_ascii_case(&credentials.name));
        headers.push(credentials);
    } else if let Some(value) = address.basic_credentials()
        && !headers.iter().any(|header| header.name.eq_ignore_ascii_case("authorization"))
    {
        headers.push(Header { name: "Authorization".into(), value, secret: true });
    }
    let tls = TlsMaterial {
        unsafe_ssl: source.unsafe_ssl,
        ca: auth.optional("ca").map(str::to_owned),
        client: auth.client_certificate(&modes)?,
    };

    // Multi-tenant gateways look for the tenant in the URL even of a POST, so these parameters always stay there.
    let mut rest = String::new();
    if let Some(namespace) = source.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        let _ = write!(rest, "&namespace={}", escape(namespace));
    }
    for (name, value) in &source.query_parameters {
        let _ = write!(rest, "&{}={}", escape(name), escape(value));
    }
    let server = address.server();
    let api = format!("{server}{path}{}/api/v1/{endpoint}", source.api);
    let url = format!("{api}?{query}{rest}");
    if url.len() <= URL_LENGTH_MAX {
        return Ok(Request { headers, tls, ..Request::get(url, server) });
    }
    let url = if rest.is_empty() { api } else { format!("{api}?{}", &rest[1..]) };
    Ok(Request { method: Method::Post, headers, form: Some(query), tls, ..Request::get(url, server) })
}

/// The server's address and the path that the API is under, without trailing slashes.
fn base(source: &PrometheusSource) -> Result<(Url, String), PollError> {
    let url = Url::parse_base(source.server_address.trim())
        .map_err(|what| failed(ErrorClass::Configuration, format!("serverAddress {what}")))?;
    let path = url.path.trim_end_matches('/').to_owned();
    Ok((url, path))
}

fn custom_headers(source: &PrometheusSource) -> Result<Vec<Header>, PollError> {
    let mut headers = Vec::new();
    for (name, value) in &source.custom_headers {
        if IGNORED_HEADERS.iter().any(|ignored| name.eq_ignore_ascii_case(ignored)) {
            continue;
        }
        if !is_header_name(name) || !is_header_value(value) {
            let message = format!(
                "customHeaders: header {:?} is not a valid HTTP header (a name without blanks, a value without line breaks)",
                cut(name, 64)
            );
            return Err(failed(ErrorClass::Configuration, message));
        }
        // Any header may be a key, since gateways have their own names for them, so all are secret.
        headers.push(Header { name: name.clone(), value: value.clone(), secret: true });
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::AuthMode;

    fn source(address: &str, query: &str) -> PrometheusSource {
        PrometheusSource { server_address: address.into(), query: query.into(), ..PrometheusSource::default() }
    }

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const NAMED: Option<&str> = Some("TriggerAuthentication shop/prom");

    fn built(source: &PrometheusSource, pairs: &[(&str, &str)]) -> Result<Request, PollError> {
        build(source, NAMED, &parameters(pairs), UnixMillis(1_700_000_000_999))
    }

    fn with_modes(modes: &[AuthMode], pairs: &[(&str, &str)]) -> Result<Request, PollError> {
        built(&PrometheusSource { auth_modes: modes.to_vec(), ..source("https://p:9090", "up") }, pairs)
    }

    fn headers(request: &Request) -> Vec<String> {
        request.headers.iter().map(|header| format!("{}: {}", header.name, header.value)).collect()
    }

    #[test]
    fn url() {
        let rows = [
            ("http://p:9090", "up", "http://p:9090/api/v1/query?query=up&time=2023-11-14T22:13:20Z"),
            ("http://p:9090//", "up", "http://p:9090/api/v1/query?query=up&time=2023-11-14T22:13:20Z"),
            ("HTTP://p/prom/", "a b", "http://p/prom/api/v1/query?query=a+b&time=2023-11-14T22:13:20Z"),
            (
                "http://[::1]:9090",
                "a{b=\"c\"}",
                "http://[::1]:9090/api/v1/query?query=a%7Bb%3D%22c%22%7D&time=2023-11-14T22:13:20Z",
            ),
        ];
        for (address, query, url) in rows {
            assert_eq!(built(&source(address, query), &[]).unwrap().url, url);
        }
    }

    #[test]
    fn namespace_and_parameters_are_escaped_and_ordered() {
        let source = PrometheusSource {
            namespace: Some("a&b".into()),
            query_parameters: vec![("z".into(), "1 2".into()), ("a=".into(), "ü".into())],
            ..source("http://p", "up")
        };
        let url = built(&source, &[]).unwrap().url;
        assert!(url.ends_with("Z&namespace=a%26b&z=1+2&a%3D=%C3%BC"), "{url}");
    }

    #[test]
    fn a_long_query_is_a_form_and_the_tenant_stays_in_the_url() {
        let query = "x".repeat(URL_LENGTH_MAX);
        let plain = built(&source("http://p", &query), &[]).unwrap();
        assert_eq!((plain.method, plain.url.as_str()), (Method::Post, "http://p/api/v1/query"));
        assert_eq!(plain.form.unwrap(), format!("query={query}&time=2023-11-14T22:13:20Z"));
        let tenant = PrometheusSource { namespace: Some("shop".into()), ..source("http://p", &query) };
        assert_eq!(built(&tenant, &[]).unwrap().url, "http://p/api/v1/query?namespace=shop");
    }

    #[test]
    fn unusable_addresses_say_what_is_wrong() {
        for address in [
            "prometheus:9090",
            "ftp://p",
            "http://",
            "http://:9090",
            "http://u:geheim@",
            "http://p/?a=b",
            "http://p\r\nX: y",
        ] {
            let error = built(&source(address, "up"), &[]).unwrap_err();
            assert_eq!(error.class, ErrorClass::Configuration, "{address}");
            assert!(
                error.message.starts_with("serverAddress ") && !error.message.contains("geheim"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn user_information_becomes_a_header_and_is_never_named() {
        let request = built(&source("http://me:p%40ss@p:9090", "up"), &[]).unwrap();
        assert_eq!(headers(&request), ["Authorization: Basic bWU6cEBzcw=="]);
        assert_eq!(request.server, "http://p:9090");
        assert!(!request.url.contains("me:"));
        assert!(!format!("{request:?}").contains("bWU6"));
    }

    #[test]
    fn modes_and_their_combinations() {
        use AuthMode::{ApiKey, Basic, Bearer, Custom, OAuth, Tls};
        let all = [
            ("bearerToken", "tok\n"),
            ("username", "me"),
            ("password", "pw"),
            ("customAuthHeader", "X-Key"),
            ("customAuthValue", "v"),
            ("cert", "C"),
            ("key", "K"),
            ("ca", "A"),
        ];
        let rows: [(&[AuthMode], &[&str], bool); 9] = [
            (&[], &[], false),
            (&[ApiKey, OAuth], &[], false),
            (&[Bearer], &["Authorization: Bearer tok"], false),
            (&[Basic], &["Authorization: Basic bWU6cHc="], false),
            (&[Custom], &["X-Key: v"], false),
            (&[Tls], &[], true),
            (&[Tls, Bearer], &["Authorization: Bearer tok"], true),
            (&[Tls, Custom], &["X-Key: v"], true),
            (&[Custom, Basic], &["Authorization: Basic bWU6cHc="], false),
        ];
        for (modes, expected, client) in rows {
            let request = with_modes(modes, &all).unwrap();
            assert_eq!(headers(&request), expected, "{modes:?}");
            assert_eq!(request.tls.client.is_some(), client, "{modes:?}");
            // The CA applies with and without modes, as KEDA's documentation promises.
            assert_eq!(request.tls.ca.as_deref(), Some("A"));
        }
    }

    #[test]
    fn aliases_and_modes_from_the_authentication() {
        let request = built(
            &source("http://p", "up"),
            &[("authModes", "tls, bearer"), ("token", "t"), ("cert", "C"), ("key", "K")],
        )
        .unwrap();
        assert_eq!(headers(&request), ["Authorization: Bearer t"]);
        assert!(request.tls.client.is_some());
        let request = built(&source("http://p", "up"), &[("authMode", "basic"), ("username", "u")]).unwrap();
        assert_eq!(headers(&request), ["Authorization: Basic dTo="]);
        for modes in ["Bearer", "bearer,basic"] {
            let error = built(&source("http://p", "up"), &[("authModes", modes), ("token", "t")]).unwrap_err();
            assert_eq!(error.class, ErrorClass::Authentication);
            assert!(error.message.contains("TriggerAuthentication shop/prom"), "{}", error.message);
        }
    }

    #[test]
    fn a_missing_parameter_is_named_with_its_authentication() {
        use AuthMode::{Basic, Bearer, Custom, Tls};
        let none: &[(&str, &str)] = &[];
        let rows = [
            (vec![Bearer], none, "bearerToken"),
            (vec![Bearer], &[("bearerToken", " \n")], "bearerToken"),
            (vec![Basic], &[("password", "x")], "username"),
            (vec![Tls], &[("cert", "x")], "key"),
            (vec![Custom], &[("customAuthHeader", "X")], "customAuthValue"),
            (vec![Bearer, Custom], &[("token", "t")], "customAuthHeader"),
        ];
        for (modes, pairs, name) in rows {
            let error = with_modes(&modes, pairs).unwrap_err();
            assert_eq!(error.class, ErrorClass::Authentication);
            let expected = format!("needs parameter {name}, which TriggerAuthentication shop/prom does not set");
            assert!(error.message.contains(&expected), "{}", error.message);
        }
    }

    #[test]
    fn headers_cannot_be_injected() {
        let smuggle = |name: &str, value: &str| PrometheusSource {
            custom_headers: vec![(name.into(), value.into())],
            ..source("http://p", "up")
        };
        for (name, value) in [("X", "a\r\nY: b"), ("X", "a\nb"), ("X\r\nY", "b"), ("X Y", "b"), ("", "b"), ("X", "\0")]
        {
            assert_eq!(built(&smuggle(name, value), &[]).unwrap_err().class, ErrorClass::Configuration);
        }
        let token = with_modes(&[AuthMode::Bearer], &[("token", "geheim\r\nX: y")]).unwrap_err();
        assert_eq!(token.class, ErrorClass::Authentication);
        assert!(!token.message.contains("geheim"));
        assert!(built(&smuggle("Content-Length", "9"), &[]).unwrap().headers.is_empty());
        assert_eq!(headers(&built(&smuggle("X-Scope-OrgID", "a"), &[]).unwrap()), ["X-Scope-OrgID: a"]);
    }

    #[test]
    fn a_mode_replaces_a_custom_header_of_the_same_name() {
        let source = PrometheusSource {
            custom_headers: vec![("authorization".into(), "x".into())],
            auth_modes: vec![AuthMode::Bearer],
            ..source("http://p", "up")
        };
        assert_eq!(headers(&built(&source, &[("token", "t")]).unwrap()), ["Authorization: Bearer t"]);
    }
}
