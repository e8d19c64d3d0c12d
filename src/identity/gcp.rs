//! Tokens of Google's: for a key of a service account, for a federated identity, or from the metadata service.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Identity;
use super::aws::{get, post, secret, unreadable};
use super::jwt;
use super::oauth::{access_token, refusal};
use super::tokens::{self, Fresh, key};
use crate::encode::escape;
use crate::polling::auth::Auth;
use crate::polling::request::Header;
use crate::scaling::event::PollError;

/// What a token for Google's own Prometheus is for.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/monitoring.read";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// What a federated identity is exchanged for before it becomes that of a service account.
const PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Lifetime in seconds that is asked for, which is the longest.
const SECONDS: i64 = 3600;

impl Identity {
    /// Returns a token for the identity of our own pod.
    pub(super) fn gcp(&self, auth: &Auth<'_>, scope: &str) -> Result<Arc<String>, PollError> {
        self.bearers.get(key(&["gcp", scope]), auth.namespace, &self.clock, || {
            if let Some(path) = &self.settings.google_file {
                let text = self.read(auth, path)?;
                let file: Value = serde_json::from_str(&text)
                    .map_err(|_| auth.fault(&format!("{} is no JSON", path.display())))?;
                return match file.get("type").and_then(Value::as_str) {
                    Some("external_account") => self.federated(auth, &file, scope),
                    // The operator chose the file and what it names.
                    _ => self.by_key(auth, &file, scope, true),
                };
            }
            let Some(url) = &self.settings.google_metadata else {
                return Err(auth.fault(
                    "podIdentity gcp finds no identity of hpalite's pod: run hpalite with --instance-metadata on GKE, or \
                     give it a federation by GOOGLE_APPLICATION_CREDENTIALS",
                ));
            };
            let url = format!(
                "{url}/computeMetadata/v1/instance/service-accounts/default/token?scopes={}",
                escape(scope)
            );
            let flavor = Header { name: "Metadata-Flavor".to_owned(), value: "Google".to_owned(), secret: false };
            access_token(&tokens::ask(&self.transport, get(&url, vec![flavor]), refusal)?)
        })
    }

    /// Returns a token for the key of a service account, a JSON text that a parameter has.
    pub(super) fn google_key(&self, auth: &Auth<'_>, text: &str, scope: &str) -> Result<Arc<String>, PollError> {
        self.bearers.get(key(&["google-key", scope, text]), auth.namespace, &self.clock, || {
            let wrong = || auth.fault("the Google credentials are no JSON");
            let file: Value = serde_json::from_str(text).map_err(|_| wrong())?;
            // A federation would read files of ours.
            self.by_key(auth, &file, scope, false)
        })
    }

    fn by_key(&self, auth: &Auth<'_>, file: &Value, scope: &str, trusted: bool) -> Result<Fresh<String>, PollError> {
        let found = |name: &str| file.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if found("type") != Some("service_account") {
            return Err(auth.fault("the Google credentials are not those of a service_account"));
        }
        let (Some(email), Some(private_key)) = (found("client_email"), found("private_key")) else {
            return Err(auth.fault("the Google credentials have no client_email or private_key"));
        };
        let url = found("token_uri").unwrap_or(TOKEN_URL);
        let now = (self.clock)().0 / 1000;
        let claims = json!({ "iss": email, "scope": scope, "aud": url, "iat": now, "exp": now + SECONDS });
        let assertion = jwt::sign(found("private_key_id").unwrap_or_default(), private_key, &claims)
            .map_err(|why| auth.fault(&format!("the Google credentials cannot be used: {why}")))?;
        let form =
            format!("grant_type={}&assertion={assertion}", escape("urn:ietf:params:oauth:grant-type:jwt-bearer"));
        access_token(&tokens::ask(&self.transport, post(url, form, trusted), refusal)?)
    }

    /// Workload identity federation: a token of the cluster is exchanged for Google's, which may become that of a service
    /// account.
    fn federated(&self, auth: &Auth<'_>, file: &Value, scope: &str) -> Result<Fresh<String>, PollError> {
        let found = |path: &str| file.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let missing = |what: &str| auth.fault(&format!("the Google federation has no {what}"));
        let audience = found("/audience").ok_or_else(|| missing("audience"))?;
        let url = found("/token_url").ok_or_else(|| missing("token_url"))?;
        let path = found("/credential_source/file").ok_or_else(|| missing("credential_source.file"))?;
        let text = self.read(auth, path.as_ref())?;
        let subject = match found("/credential_source/format/type") {
            Some("json") => {
                let name = found("/credential_source/format/subject_token_field_name").unwrap_or("access_token");
                let json: Option<Value> = serde_json::from_str(&text).ok();
                let token = json.as_ref().and_then(|json| json.get(name)?.as_str());
                token.ok_or_else(|| missing(&format!("{name} in {path}")))?.to_owned()
            }
            _ => text,
        };
        let impersonates = found("/service_account_impersonation_url");
        let form = format!(
            "grant_type={}&requested_token_type={}&audience={}&scope={}&subject_token_type={}&subject_token={}",
            escape("urn:ietf:params:oauth:grant-type:token-exchange"),
            escape("urn:ietf:params:oauth:token-type:access_token"),
            escape(audience),
            escape(if impersonates.is_some() { PLATFORM } else { scope }),
            escape(found("/subject_token_type").unwrap_or("urn:ietf:params:oauth:token-type:jwt")),
            escape(&subject),
        );
        let (token, lifetime) = access_token(&tokens::ask(&self.transport, post(url, form, true), refusal)?)?;
        let Some(url) = impersonates else {
            return Ok((token, lifetime));
        };
        let body = json!({ "scope": [scope], "lifetime": format!("{SECONDS}s") });
        let mut request = post(url, body.to_string(), true);
        let json = Header { name: "Content-Type".to_owned(), value: "application/json".to_owned(), secret: false };
        request.headers = vec![json, secret("Authorization", format!("Bearer {token}"))];
        let body = tokens::ask(&self.transport, request, |_| None)?;
        let answer: Value = serde_json::from_slice(&body).map_err(|_| unreadable("Google"))?;
        let found = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let token = found("accessToken").ok_or_else(|| unreadable("Google"))?;
        Ok((tokens::measured(token, "Google")?, self.until(found("expireTime"))))
    }
}
