//! OAuth2 client credentials, and the answers of token endpoints, which clouds give in the same form.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Identity;
use super::aws::{post, secret, unreadable};
use super::tokens::{self, Fresh, key, word};
use crate::encode::{base64_encode, escape};
use crate::formats::url::Url;
use crate::polling::auth::Auth;
use crate::polling::request::TlsMaterial;
use crate::scaling::event::{ErrorClass, PollError};

/// Upper bound on the bytes of a file with a token or a key.
const FILE_MAX: u64 = 64 << 10;

/// How long a token is used whose lifetime the server does not say.
const UNKNOWN: Duration = Duration::from_mins(1);

impl Identity {
    /// Returns a token for mode `oauth`.
    pub(super) fn oauth(&self, auth: &Auth<'_>) -> Result<Arc<String>, PollError> {
        let url = auth.required("oauth", &["oauthTokenURI"])?;
        let client = auth.required("oauth", &["clientID"])?;
        let given = |name| auth.optional(name).unwrap_or_default();
        let (secret_text, ca) = (given("clientSecret"), auth.optional("ca"));
        let scopes = given("scopes").split(',').map(str::trim).filter(|scope| !scope.is_empty());
        let scopes = scopes.collect::<Vec<_>>().join(" ");
        let parameters = given("endpointParams");
        if let Err(what) = Url::parse(url) {
            return Err(auth.fault(&format!("parameter oauthTokenURI {what}")));
        }
        let key = key(&["oauth", url, client, secret_text, &scopes, parameters, ca.unwrap_or_default()]);
        self.bearers.get(key, auth.namespace, &self.clock, || {
            let mut form = "grant_type=client_credentials".to_owned();
            if !scopes.is_empty() {
                form.push_str(&format!("&scope={}", escape(&scopes)));
            }
            if !parameters.is_empty() {
                form.push_str(&format!("&{}", parameters.trim_start_matches('&')));
            }
            // RFC 6749 wants every server to take the client's name and secret in the header; some take them in the form only.
            let mut request = post(url, form.clone(), false);
            request.tls = TlsMaterial { ca: ca.map(str::to_owned), ..TlsMaterial::default() };
            let pair = format!("{}:{}", escape(client), escape(secret_text));
            let mut in_header = request.clone();
            in_header.headers.push(secret("Authorization", format!("Basic {}", base64_encode(pair.as_bytes()))));
            let answer = tokens::ask(&self.transport, in_header, refusal).or_else(|first| {
                if !["status 400", "status 401"].iter().any(|status| first.message.contains(status)) {
                    return Err(first);
                }
                form.push_str(&format!("&client_id={}&client_secret={}", escape(client), escape(secret_text)));
                request.form = Some(form);
                tokens::ask(&self.transport, request, refusal).map_err(|_| first)
            });
            access_token(&answer?)
        })
    }

    /// Reads a file with a token or a key that the operator named.
    pub(super) fn read(&self, auth: &Auth<'_>, path: &Path) -> Result<String, PollError> {
        use std::io::Read;
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(text.trim().to_owned()),
            Err(error) => Err(auth.fault(&format!("{} cannot be read: {}", path.display(), error.kind()))),
        }
    }
}

/// Reads `access_token` and `expires_in`.
pub(super) fn access_token(body: &[u8]) -> Result<Fresh<String>, PollError> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| unreadable("the token endpoint"))?;
    let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default();
    // It becomes a header.
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(PollError { class: ErrorClass::Authentication, ..unreadable("the token endpoint") });
    }
    let seconds = answer.get("expires_in").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    });
    Ok((tokens::measured(token, "the token endpoint")?, seconds.map_or(UNKNOWN, Duration::from_secs)))
}

/// Returns the error code of a token endpoint, as of RFC 6749, and that of Microsoft's.
pub(super) fn refusal(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let code = word(answer.get("error")?.as_str()?)?;
    let description = answer.get("error_description").and_then(Value::as_str).unwrap_or_default();
    let microsofts = description.split(':').next().filter(|code| code.starts_with("AADSTS")).and_then(word);
    Some(microsofts.map_or_else(|| code.clone(), |number| format!("{code}, {number}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a thousand tokens were kept whatever their length, up to 1 MiB each.
    #[test]
    fn a_token_is_no_longer_than_a_header() {
        let token = |length: usize| {
            let body = serde_json::json!({ "access_token": "t".repeat(length), "expires_in": 60 });
            access_token(body.to_string().as_bytes()).map(|(token, _)| token.len()).map_err(|error| error.message)
        };
        assert_eq!(token(12 << 10), Ok(12 << 10));
        assert_eq!(token((12 << 10) + 1).unwrap_err(), "no token: that of the token endpoint has more than 12 KiB");
    }

    #[test]
    fn answers_of_token_endpoints() {
        let token = |body: &str| access_token(body.as_bytes()).ok();
        let hour = Some(("t".to_owned(), Duration::from_hours(1)));
        assert_eq!(token(r#"{"access_token":"t","expires_in":3600}"#), hour);
        assert_eq!(token(r#"{"access_token":"t","expires_in":"3600"}"#), hour);
        assert_eq!(token(r#"{"access_token":"t"}"#), Some(("t".to_owned(), UNKNOWN)));
        for body in ["", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\r\nX: y"}"#] {
            assert_eq!(token(body), None, "{body}");
        }
        let refused = |body: &str| refusal(body.as_bytes());
        assert_eq!(refused(r#"{"error":"invalid_client"}"#).as_deref(), Some("invalid_client"));
        let microsofts = r#"{"error":"invalid_request","error_description":"AADSTS70021: No matching …"}"#;
        assert_eq!(refused(microsofts).as_deref(), Some("invalid_request, AADSTS70021"));
        assert_eq!(refused(r#"{"error":"a secret text"}"#), None);
    }
}
