//! Keys of hpalite's own pod on Amazon, and of roles that it assumes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Identity;
use super::settings;
use super::sigv4::{self, Keys};
use super::tokens::{self, Fresh, key, word};
use crate::encode::escape;
use crate::formats::url::Url;
use crate::formats::xml;
use crate::polling::auth::Auth;
use crate::polling::failed;
use crate::polling::request::{Header, Method, Request};
use crate::scaling::event::{ErrorClass, PollError};
use crate::wire::time::parse_rfc3339;

/// The version of STS' API.
const STS_VERSION: &str = "2011-06-15";

/// How long the token for the metadata service is good, in seconds; it is used at once.
const METADATA_SECONDS: &str = "60";

/// How long keys are used whose lifetime is not known.
const UNKNOWN: Duration = Duration::from_mins(5);

/// How a role is assumed.
enum Assume<'a> {
    /// With the token of our service account.
    WebIdentity(String),
    /// With keys of another role.
    Keys { keys: Arc<Keys>, external_id: Option<&'a str> },
}

impl Identity {
    /// Returns the keys of our own pod, or those of a role that it assumes: with the token of its service account, or else
    /// with its own keys.
    pub(super) fn pod_keys(
        &self,
        auth: &Auth<'_>,
        role: Option<&str>,
        external_id: Option<&str>,
        region: &str,
    ) -> Result<Arc<Keys>, PollError> {
        let Some(role) = role else {
            return self.own_keys(auth, region);
        };
        let key = key(&["role", role, external_id.unwrap_or_default(), region]);
        self.keys.get(key, auth.namespace, &self.clock, || {
            let by_token = match self.web_identity_token(auth) {
                Some(token) => self.assume(role, region, Assume::WebIdentity(token?)),
                None => Err(failed(ErrorClass::Authentication, "")),
            };
            by_token.or_else(|first| {
                let own =
                    self.own_keys(auth, region).map_err(|own| if first.message.is_empty() { own } else { first })?;
                self.assume(role, region, Assume::Keys { keys: own, external_id })
            })
        })
    }

    /// Looks where Amazon's own programs look, in their order.
    fn own_keys(&self, auth: &Auth<'_>, region: &str) -> Result<Arc<Keys>, PollError> {
        let settings = &self.settings.aws;
        if let Some((id, secret, session)) = &settings.keys {
            return Ok(Arc::new(Keys { id: id.clone(), secret: secret.clone(), session: session.clone() }));
        }
        self.keys.get(key(&["pod", region]), auth.namespace, &self.clock, || {
            if let (Some(role), Some(token)) = (&settings.role_arn, self.web_identity_token(auth)) {
                return self.assume(role, region, Assume::WebIdentity(token?));
            }
            if let Some((url, file)) = &settings.container {
                let token = file.as_deref().map(|path| self.read(auth, path)).transpose()?;
                return self.container_keys(url, token);
            }
            match &settings.metadata {
                Some(url) => self.instance_keys(url),
                None => Err(auth.fault(
                    "podIdentity aws finds no identity of hpalite's pod: give its service account a role, by \
                     eks.amazonaws.com/role-arn or EKS Pod Identity, or run hpalite with --instance-metadata",
                )),
            }
        })
    }

    fn web_identity_token(&self, auth: &Auth<'_>) -> Option<Result<String, PollError>> {
        self.settings.aws.token_file.as_deref().map(|path| self.read(auth, path))
    }

    fn assume(&self, role: &str, region: &str, how: Assume<'_>) -> Result<Fresh<Keys>, PollError> {
        let settings = &self.settings.aws;
        let action = if matches!(how, Assume::WebIdentity(_)) { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
        let name = &settings.session_name;
        let mut form =
            format!("Action={action}&Version={STS_VERSION}&RoleArn={}&RoleSessionName={}", escape(role), escape(name));
        let url = match &settings.sts {
            Some(url) => url.clone(),
            None => format!("https://sts.{region}.{}/", domain(region)),
        };
        match &how {
            Assume::WebIdentity(token) => form.push_str(&format!("&WebIdentityToken={}", escape(token))),
            Assume::Keys { external_id: Some(id), .. } => form.push_str(&format!("&ExternalId={}", escape(id))),
            Assume::Keys { .. } => {}
        }
        let mut request = post(&url, form, settings.sts.is_some());
        if let Assume::Keys { keys, .. } = &how {
            sigv4::sign(&mut request, keys, region, "sts", (self.clock)())?;
        }
        let body = tokens::ask(&self.transport, request, |body| {
            let text = std::str::from_utf8(body).ok()?;
            let code = xml::find(text, "ErrorResponse.Error.Code").ok()??;
            Some(format!("{} for role {role}", word(code.as_str()?)?))
        })?;
        let found = |name: &str| {
            let path = format!("{action}Response.{action}Result.Credentials.{name}");
            let value = xml::find(std::str::from_utf8(&body).ok()?, &path).ok()??;
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let keys = found("AccessKeyId").zip(found("SecretAccessKey")).zip(found("SessionToken"));
        let ((id, secret), session) = keys.ok_or_else(|| unreadable("STS"))?;
        Ok((Keys { id, secret, session: Some(session) }, self.until(found("Expiration").as_deref())))
    }

    /// EKS Pod Identity: an agent on the node gives keys to whoever shows the token of the pod.
    fn container_keys(&self, url: &str, token: Option<String>) -> Result<Fresh<Keys>, PollError> {
        let headers = token.map(|token| secret("Authorization", token)).into_iter().collect();
        self.json_keys(get(url, headers), "the agent of EKS Pod Identity")
    }

    /// The role of the instance, by the second version of the metadata service.
    fn instance_keys(&self, url: &str) -> Result<Fresh<Keys>, PollError> {
        let nothing = |_: &[u8]| None;
        let ttl = vec![secret("X-aws-ec2-metadata-token-ttl-seconds", METADATA_SECONDS.to_owned())];
        let request =
            Request { method: Method::Put, form: Some(String::new()), ..get(&format!("{url}/latest/api/token"), ttl) };
        let token = text(tokens::ask(&self.transport, request, nothing)?)?;
        let ask = |path: &str| {
            let path = format!("{url}/latest/meta-data/iam/security-credentials/{path}");
            get(&path, vec![secret("X-aws-ec2-metadata-token", token.clone())])
        };
        let role = text(tokens::ask(&self.transport, ask(""), nothing)?)?;
        let role = role.lines().next().and_then(word_of_role).ok_or_else(|| unreadable("the metadata service"))?;
        self.json_keys(ask(&role), "the metadata service")
    }

    fn json_keys(&self, request: Request, who: &str) -> Result<Fresh<Keys>, PollError> {
        let body = tokens::ask(&self.transport, request, |_| None)?;
        let answer: Value = serde_json::from_slice(&body).map_err(|_| unreadable(who))?;
        let found = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (id, secret) = found("AccessKeyId").zip(found("SecretAccessKey")).ok_or_else(|| unreadable(who))?;
        let keys = Keys { id: id.to_owned(), secret: secret.to_owned(), session: found("Token").map(str::to_owned) };
        Ok((keys, self.until(found("Expiration"))))
    }

    /// Returns the time from now until an expiration.
    pub(super) fn until(&self, expiration: Option<&str>) -> Duration {
        let now = (self.clock)();
        expiration.and_then(parse_rfc3339).map_or(UNKNOWN, |until| until.since(now))
    }
}

/// Where Amazon's services of a region are.
pub(crate) fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

fn word_of_role(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    (!text.is_empty() && text.len() <= 64 && text.chars().all(is_plain)).then(|| text.to_owned())
}

fn text(body: Vec<u8>) -> Result<String, PollError> {
    let text = String::from_utf8(body).map_err(|_| unreadable("the metadata service"))?;
    Ok(text.trim().to_owned())
}

pub(super) fn unreadable(who: &str) -> PollError {
    failed(ErrorClass::Authentication, format!("no token: the answer of {who} cannot be read"))
}

pub(super) fn secret(name: &str, value: String) -> Header {
    Header { name: name.to_owned(), value, secret: true }
}

/// A request to a server that the operator or a cloud chose by this URL.
pub(super) fn get(url: &str, headers: Vec<Header>) -> Request {
    let server = Url::parse(url).map_or_else(|_| settings::NAMELESS.to_owned(), |url| url.server());
    Request { headers, trusted: true, ..Request::get(url.to_owned(), server) }
}

pub(super) fn post(url: &str, form: String, trusted: bool) -> Request {
    Request { method: Method::Post, form: Some(form), trusted, ..get(url, Vec::new()) }
}
