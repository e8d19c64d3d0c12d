//! TokenReview and SubjectAccessReview: the requests to the kube-apiserver, and the meaning of its answers.
//!
//! Pure: builds and reads bodies. [`TokenReviewer`] and [`AccessReviewer`] send them, with retries and a deadline.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::User;
use super::attributes::Attributes;

/// Asks whose token this is. Called from several threads; must return within a deadline of its own.
pub trait TokenReviewer: Send + Sync {
    fn review(&self, token: &str) -> Result<TokenVerdict, ReviewError>;
}

/// Asks whether a user may do something. Called from several threads; must return within a deadline of its own.
pub trait AccessReviewer: Send + Sync {
    fn review(&self, user: &User, attributes: &Attributes) -> Result<AccessVerdict, ReviewError>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenVerdict {
    Authenticated(User),
    /// The token is unknown, expired, or for another audience.
    Rejected,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessVerdict {
    Allowed,
    /// With the reason that the API server gave, which may be empty.
    NotAllowed(String),
}

/// Why there is no verdict. None of these grants access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReviewError {
    /// The review could not be sent or was not answered, with the reason.
    Ask(String),
    /// The answer is not a review.
    Read(String),
    /// The kube-apiserver could not decide, with its reason.
    Evaluate(String),
    /// Another request's review of the same question did not end in time.
    Shared,
}

impl fmt::Display for ReviewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReviewError::Ask(error) => write!(f, "cannot ask for a review: {error}"),
            ReviewError::Read(error) => write!(f, "cannot read the review: {error}"),
            ReviewError::Evaluate(error) => write!(f, "review not decided: {error}"),
            ReviewError::Shared => f.write_str("no review in time"),
        }
    }
}

impl std::error::Error for ReviewError {}

/// Returns the TokenReview to be created. It contains the token, so it must not be logged.
pub fn token_review(token: &str) -> Vec<u8> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token },
    });
    review.to_string().into_bytes()
}

/// Returns the SubjectAccessReview to be created.
pub fn access_review(user: &User, attributes: &Attributes) -> Vec<u8> {
    let mut spec = json!({ "user": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        spec["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    match attributes {
        Attributes::Resource(resource) => {
            let mut what = json!({
                "verb": resource.verb,
                "group": resource.api.group(),
                "version": resource.api.version(),
                "resource": resource.resource,
            });
            for (key, value) in
                [("namespace", &resource.namespace), ("subresource", &resource.subresource), ("name", &resource.name)]
            {
                if !value.is_empty() {
                    what[key] = Value::from(value.as_str());
                }
            }
            spec["resourceAttributes"] = what;
        }
        Attributes::NonResource { path, verb } => {
            spec["nonResourceAttributes"] = json!({ "path": path, "verb": verb });
        }
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": spec,
    });
    review.to_string().into_bytes()
}

pub fn read_token_review(body: &[u8]) -> Result<TokenVerdict, ReviewError> {
    let status: TokenStatus = read(body, "TokenReview")?;
    match (status.authenticated, status.user) {
        // A user without a name is invalid: no rule could match it.
        (true, Some(user)) if !user.username.is_empty() => Ok(TokenVerdict::Authenticated(User {
            name: user.username,
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })),
        (true, _) => Err(ReviewError::Read("authenticated, but names no user".to_owned())),
        (false, _) => Ok(TokenVerdict::Rejected),
    }
}

pub fn read_access_review(body: &[u8]) -> Result<AccessVerdict, ReviewError> {
    let status: AccessStatus = read(body, "SubjectAccessReview")?;
    match status {
        AccessStatus { denied: true, reason, .. } => Ok(AccessVerdict::NotAllowed(reason.unwrap_or_default())),
        AccessStatus { allowed: true, .. } => Ok(AccessVerdict::Allowed),
        AccessStatus { evaluation_error: Some(error), reason: None, .. } if !error.is_empty() => {
            Err(ReviewError::Evaluate(error))
        }
        AccessStatus { reason, .. } => Ok(AccessVerdict::NotAllowed(reason.unwrap_or_default())),
    }
}

fn read<S: for<'de> Deserialize<'de>>(body: &[u8], kind: &str) -> Result<S, ReviewError> {
    let error = |error: &dyn fmt::Display| ReviewError::Read(error.to_string());
    let review: Review<S> = serde_json::from_slice(body).map_err(|e| error(&e))?;
    if review.kind != kind {
        return Err(ReviewError::Read(format!("not a {kind}")));
    }
    review.status.ok_or_else(|| ReviewError::Read("without status".to_owned()))
}

#[derive(Deserialize)]
#[serde(bound = "S: Deserialize<'de>")]
struct Review<S> {
    kind: String,
    status: Option<S>,
}

#[derive(Deserialize)]
struct TokenStatus {
    #[serde(default)]
    authenticated: bool,
    user: Option<UserInfo>,
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    uid: Option<String>,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessStatus {
    #[serde(default)]
    allowed: bool,
    #[serde(default)]
    denied: bool,
    reason: Option<String>,
    evaluation_error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::attributes::ResourceAttributes;

    fn value(body: &[u8]) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn bodies() {
        assert_eq!(value(&token_review("a\"b"))["spec"]["token"], "a\"b");
        let user = User {
            name: "u".into(),
            groups: vec!["g".into()],
            extra: BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]),
            ..User::default()
        };
        let metric = Attributes::Resource(ResourceAttributes {
            namespace: "ns".into(),
            verb: "list".into(),
            resource: "m".into(),
            ..ResourceAttributes::default()
        });
        let expected = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": "u",
                "groups": ["g"],
                "extra": { "k": ["v"] },
                "resourceAttributes": {
                    "namespace": "ns", "verb": "list", "group": "external.metrics.k8s.io",
                    "version": "v1beta1", "resource": "m",
                },
            },
        });
        assert_eq!(value(&access_review(&user, &metric)), expected);
        let custom = Attributes::Resource(ResourceAttributes {
            api: crate::http::attributes::GroupVersion::CustomV1beta2,
            namespace: "ns".into(),
            verb: "get".into(),
            resource: "pods".into(),
            subresource: "http_requests".into(),
            name: "*".into(),
        });
        let review: Value = serde_json::from_slice(&access_review(&User::default(), &custom)).unwrap();
        assert_eq!(
            review["spec"]["resourceAttributes"],
            json!({
                "namespace": "ns", "verb": "get", "group": "custom.metrics.k8s.io", "version": "v1beta2",
                "resource": "pods", "subresource": "http_requests", "name": "*",
            })
        );
        let path = Attributes::NonResource { path: "/apis".into(), verb: "get".into() };
        let spec = &value(&access_review(&User::default(), &path))["spec"];
        assert_eq!(spec["nonResourceAttributes"], json!({ "path": "/apis", "verb": "get" }));
        assert!(spec.get("uid").is_none() && spec.get("resourceAttributes").is_none());
    }

    #[test]
    fn token_answers() {
        let review = |status: &str| {
            let body = format!(r#"{{"kind":"TokenReview","status":{status}}}"#);
            read_token_review(body.as_bytes())
        };
        let user = r#"{"username":"u","uid":"7","groups":["g"],"extra":{"k":["v"]}}"#;
        let Ok(TokenVerdict::Authenticated(user)) = review(&format!(r#"{{"authenticated":true,"user":{user}}}"#))
        else {
            panic!()
        };
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("u", "7"));
        assert_eq!(user.extra["k"], ["v"]);
        let sparse = review(r#"{"authenticated":true,"user":{"username":"u","groups":null}}"#);
        assert!(matches!(sparse, Ok(TokenVerdict::Authenticated(_))));
        assert_eq!(review(r#"{"authenticated":false,"error":"x"}"#), Ok(TokenVerdict::Rejected));
        assert_eq!(review(r#"{"user":{"username":"u"}}"#), Ok(TokenVerdict::Rejected));
        for broken in [r#"{"authenticated":true}"#, r#"{"authenticated":true,"user":{}}"#, "null", "1"] {
            assert!(matches!(review(broken), Err(ReviewError::Read(_))), "{broken}");
        }
        let other = br#"{"kind":"Status","status":"Failure"}"#;
        assert!(matches!(read_token_review(other), Err(ReviewError::Read(_))));
        assert!(matches!(read_token_review(b"<html>"), Err(ReviewError::Read(_))));
    }

    #[test]
    fn access_answers() {
        let review = |status: &str| {
            let body = format!(r#"{{"kind":"SubjectAccessReview","status":{status}}}"#);
            read_access_review(body.as_bytes())
        };
        let no = |reason: &str| Ok(AccessVerdict::NotAllowed(reason.to_owned()));
        assert_eq!(review(r#"{"allowed":true,"reason":"RBAC"}"#), Ok(AccessVerdict::Allowed));
        assert_eq!(review(r#"{"allowed":true,"denied":true,"reason":"no"}"#), no("no"));
        assert_eq!(review(r#"{"allowed":false,"reason":"because"}"#), no("because"));
        assert_eq!(review(r#"{"allowed":false}"#), no(""));
        assert_eq!(review("{}"), no(""));
        let error = ReviewError::Evaluate("boom".into());
        assert_eq!(review(r#"{"evaluationError":"boom"}"#), Err(error));
        // An error beside a verdict concerns a rule that did not matter.
        assert_eq!(review(r#"{"allowed":true,"evaluationError":"boom"}"#), Ok(AccessVerdict::Allowed));
        assert!(review(r#"{"allowed":"yes"}"#).is_err());
        assert!(review("null").is_err());
    }
}
