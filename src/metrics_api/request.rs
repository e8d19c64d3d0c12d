//! Builds the request: one GET with its authentication.
//!
//! Pure. Must not put a parameter's value into an error text.

use crate::encode::escape;
use crate::formats::url::Url;
use crate::polling::auth::{Auth, is_header_name};
use crate::polling::request::{Header, IGNORED_HEADERS, Request, TlsMaterial};
use crate::polling::{Parameters, failed};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{ApiKeyPlace, AuthMode, MetricsApiSource};

/// Builds the request to `url`. `authentication` names the (Cluster)TriggerAuthentication that provided `parameters`,
/// for error texts; `None` if the trigger refers to none.
///
/// # Errors
/// `Authentication` if a mode lacks a parameter.
pub fn build(
    source: &MetricsApiSource,
    url: &Url,
    authentication: Option<&str>,
    parameters: &Parameters,
) -> Result<Request, PollError> {
    let auth = Auth { parameters, named: authentication, namespace: "" };
    let modes = auth.modes(&source.auth_modes)?;
    let mut headers = vec![Header { name: "Accept".into(), value: "*/*".into(), secret: false }];
    if let Some(credentials) = auth.header(&modes)? {
        headers.push(credentials);
    } else if let Some(value) = url.basic_credentials() {
        headers.push(Header { name: "Authorization".into(), value, secret: true });
    }
    let mut query = url.query.clone();
    if modes.contains(&AuthMode::ApiKey) {
        let key = match source.api_key.key.as_deref() {
            Some(key) => key,
            None => auth.required("apiKey", &["apiKey"])?,
        };
        let place = match (source.api_key.place, auth.optional("method")) {
            (Some(place), _) => place,
            (None, None | Some("header")) => ApiKeyPlace::Header,
            (None, Some("query")) => ApiKeyPlace::Query,
            (None, Some(_)) => return Err(auth.fault("parameter method is neither header nor query")),
        };
        let name = source.api_key.name.as_deref().or_else(|| auth.optional("keyParamName"));
        match place {
            ApiKeyPlace::Header => {
                let name = name.unwrap_or("X-API-KEY");
                if !is_header_name(name) || IGNORED_HEADERS.iter().any(|ignored| name.eq_ignore_ascii_case(ignored)) {
                    return Err(auth.fault("parameter keyParamName is not a usable header name"));
                }
                headers.retain(|header| !header.name.eq_ignore_ascii_case(name));
                headers.push(auth.secret_header(name, key.to_owned(), "apiKey")?);
            }
            ApiKeyPlace::Query => {
                let pair = format!("{}={}", escape(name.unwrap_or("api_key")), escape(key));
                query = Some(match query.filter(|query| !query.is_empty()) {
                    Some(query) => format!("{query}&{pair}"),
                    None => pair,
                });
            }
        }
    }
    let tls = TlsMaterial {
        unsafe_ssl: source.unsafe_ssl,
        ca: auth.optional("ca").map(str::to_owned),
        client: auth.client_certificate(&modes)?,
    };
    let server = url.server();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{server}{}{query}", url.path);
    Ok(Request { headers, tls, ..Request::get(url, server) })
}

/// Returns the error for a URL that passed validation but cannot be queried.
pub(super) fn unusable(what: &str) -> PollError {
    failed(ErrorClass::Configuration, format!("url {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::{ApiKey, BodyFormat};

    fn source(modes: &[AuthMode], api_key: ApiKey) -> MetricsApiSource {
        MetricsApiSource {
            server: "http://api".to_owned(),
            url: "http://api/stats?a=b".to_owned(),
            format: BodyFormat::Json,
            value_location: "count".to_owned(),
            unsafe_ssl: false,
            timeout: None,
            auth_modes: modes.to_vec(),
            api_key,
            aggregation: None,
        }
    }

    fn sent(source: &MetricsApiSource, pairs: &[(&str, &str)]) -> Result<String, String> {
        let parameters = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = Url::parse(&source.url).unwrap();
        let named = Some("TriggerAuthentication shop/api");
        let request = build(source, &url, named, &parameters).map_err(|error| error.message)?;
        let headers: Vec<String> = request
            .headers
            .iter()
            .filter(|header| header.name != "Accept")
            .map(|header| format!(" {}: {}{}", header.name, header.value, if header.secret { " (secret)" } else { "" }))
            .collect();
        Ok(format!("{}{}", request.url, headers.concat()))
    }

    #[test]
    fn credentials_go_to_the_configured_place() {
        use AuthMode::{Basic, Bearer};
        let own = |key: &str, place, name: &str| ApiKey {
            key: Some(key.to_owned()),
            place,
            name: (!name.is_empty()).then(|| name.to_owned()),
        };
        let none = ApiKey::default;
        let url = "http://api/stats?a=b";
        for (source, pairs, expected) in [
            (source(&[], none()), vec![("token", "t")], url.to_owned()),
            (source(&[Bearer], none()), vec![("token", "t\n")], format!("{url} Authorization: Bearer t (secret)")),
            (source(&[Basic], none()), vec![("username", "u")], format!("{url} Authorization: Basic dTo= (secret)")),
            (source(&[AuthMode::ApiKey], none()), vec![("apiKey", "k")], format!("{url} X-API-KEY: k (secret)")),
            (
                source(&[AuthMode::ApiKey], none()),
                vec![("apiKey", "k&"), ("method", "query"), ("keyParamName", "key")],
                format!("{url}&key=k%26"),
            ),
            (source(&[AuthMode::ApiKey], own("k", Some(ApiKeyPlace::Query), "")), vec![], format!("{url}&api_key=k")),
            (
                source(&[AuthMode::ApiKey], own("k", None, "X-Key")),
                vec![("apiKey", "other")],
                format!("{url} X-Key: k (secret)"),
            ),
            (
                source(&[], none()),
                vec![("authModes", "apiKey"), ("apiKey", "k")],
                format!("{url} X-API-KEY: k (secret)"),
            ),
        ] {
            assert_eq!(sent(&source, &pairs), Ok(expected), "{source:?}");
        }
        let with_user = MetricsApiSource { url: "https://u:p%40@api:8443".to_owned(), ..source(&[], none()) };
        assert_eq!(sent(&with_user, &[]).unwrap(), "https://api:8443/ Authorization: Basic dTpwQA== (secret)");
    }

    #[test]
    fn missing_parameters_are_reported() {
        let of = |modes: &[AuthMode], pairs| sent(&source(modes, ApiKey::default()), pairs).unwrap_err();
        let text = of(&[AuthMode::ApiKey], &[]);
        assert_eq!(text, "authMode apiKey needs parameter apiKey, which TriggerAuthentication shop/api does not set");
        let text = of(&[AuthMode::ApiKey], &[("apiKey", "k"), ("method", "body")]);
        assert_eq!(text, "parameter method is neither header nor query (TriggerAuthentication shop/api)");
        let text = of(&[AuthMode::ApiKey], &[("apiKey", "k"), ("keyParamName", "a b")]);
        assert_eq!(text, "parameter keyParamName is not a usable header name (TriggerAuthentication shop/api)");
        assert!(of(&[AuthMode::ApiKey], &[("apiKey", "k\nx")]).contains("line break"));
        assert!(of(&[AuthMode::Tls], &[("cert", "c")]).contains("parameter key"));
    }
}
