//! `podIdentity` and `oauth2` of an authentication: identities that are proved, and not copied.

use serde_json::Value;

use super::fields::{Diagnostics, Fields, quoted, scalar_text};
use crate::encode::escape;
use crate::formats::url::Url;
use crate::scaling::model::{ParameterSource, PodIdentity, Step};

/// Microsoft's own authorities. Any other that a token of hpalite's service account is sent to could use it.
const AZURE_AUTHORITIES: [&str; 4] = [
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
];

/// Reads `podIdentity`; `None` without one, or after a problem.
pub(super) fn pod_identity(spec: &Fields<'_>, report: &mut Diagnostics) -> Option<PodIdentity> {
    let identity = spec.child("podIdentity", report);
    match identity.filled("provider", report)? {
        "none" => None,
        "aws" => Some(aws(&identity, report)),
        "azure-workload" => Some(azure(&identity, report)),
        "gcp" => Some(PodIdentity::Gcp),
        other => {
            let fix = match other {
                "aws-eks" => "write aws, with the role as roleArn",
                _ => "write aws, azure-workload, gcp or none, or give the credentials by secretTargetRef",
            };
            let message = format!("pod identity {} is not supported", quoted(other));
            report.problem(Step::BuildScalers, identity.path("provider"), message, fix);
            None
        }
    }
}

fn aws(identity: &Fields<'_>, report: &mut Diagnostics) -> PodIdentity {
    let role_arn = identity.filled("roleArn", report);
    let external_id = identity.filled("externalID", report);
    let owner = identity.filled("identityOwner", report);
    let mut problem = |field: &str, message: String, fix: &str| {
        report.problem(Step::BuildScalers, identity.path(field), message, fix);
    };
    if owner == Some("workload") {
        let message = "workload is not supported: no role is taken from the workload's service account";
        problem("identityOwner", message.to_owned(), "write that role as roleArn instead");
    }
    if let Some(arn) = role_arn.filter(|arn| !is_role(arn)) {
        let fix = "write the ARN of a role, such as \"arn:aws:iam::123456789012:role/metrics\"";
        problem("roleArn", format!("{} is not the ARN of a role", quoted(arn)), fix);
    }
    if external_id.is_some() && role_arn.is_none() {
        problem("externalID", "is only sent to assume a role".to_owned(), "write roleArn, or remove externalID");
    }
    PodIdentity::Aws { role_arn: role_arn.map(str::to_owned), external_id: external_id.map(str::to_owned) }
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    arn.len() <= 2048
        && arn.chars().all(|c| c.is_ascii_graphic())
        && matches!(parts[..], ["arn", partition, "iam", "", _, role] if partition.starts_with("aws") && role.starts_with("role/"))
}

fn azure(identity: &Fields<'_>, report: &mut Diagnostics) -> PodIdentity {
    let client_id = identity.filled("identityId", report);
    let tenant_id = identity.filled("identityTenantId", report);
    let authority_host = identity.filled("identityAuthorityHost", report);
    let mut problem = |field: &str, message: String, fix: &str| {
        report.problem(Step::BuildScalers, identity.path(field), message, fix);
    };
    if tenant_id.is_some() && client_id.is_none() {
        problem("identityId", "is missing; identityTenantId needs it".to_owned(), "write the identity's client id");
    }
    if authority_host.is_some() && tenant_id.is_none() {
        let message = "is missing; identityAuthorityHost needs it";
        problem("identityTenantId", message.to_owned(), "write the id of the identity's tenant");
    }
    if let Some(tenant) = tenant_id.filter(|tenant| !is_tenant(tenant)) {
        let message = format!("{} is neither the id nor the domain of a tenant", quoted(tenant));
        problem("identityTenantId", message, "write letters, digits, '-' and '.'");
    }
    let host = authority_host.map(|text| text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/'));
    if let Some(host) = host.filter(|host| !AZURE_AUTHORITIES.contains(host)) {
        let fix = format!("write one of: {}", AZURE_AUTHORITIES.join(", "));
        problem("identityAuthorityHost", format!("{} is no authority of Microsoft's", quoted(host)), &fix);
    }
    PodIdentity::AzureWorkload {
        client_id: client_id.map(str::to_owned),
        tenant_id: tenant_id.map(str::to_owned),
        authority_host: host.map(|host| format!("https://{host}/")),
    }
}

pub(super) fn is_tenant(text: &str) -> bool {
    text.len() <= 253 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.') && !text.contains("..")
}

/// Reads `oauth2` as the parameters of mode `oauth`, under the names that KEDA gives them.
pub(super) fn oauth2(spec: &Fields<'_>, report: &mut Diagnostics) -> Vec<ParameterSource> {
    let oauth2 = spec.child("oauth2", report);
    if !oauth2.is_present() {
        return Vec::new();
    }
    if let Some(kind) = oauth2.filled("type", report).filter(|kind| *kind != "clientCredentials") {
        let message = format!("{} is not supported", quoted(kind));
        report.problem(Step::BuildScalers, oauth2.path("type"), message, "write clientCredentials");
    }
    let mut sources = Vec::new();
    let mut value = |parameter: &str, value: String| {
        sources.push(ParameterSource::Value { parameter: parameter.to_owned(), value });
    };
    let [client_id, url] = oauth2.required(["clientId", "tokenUrl"], report);
    if let Some(Err(reason)) = url.as_deref().map(Url::parse) {
        let message = format!("{} {reason}", quoted(url.as_deref().unwrap_or_default()));
        let fix = "write a URL such as \"https://login.example.com/token\"";
        report.problem(Step::BuildScalers, oauth2.path("tokenUrl"), message, fix);
    }
    client_id.into_iter().for_each(|id| value("clientID", id));
    url.into_iter().for_each(|url| value("oauthTokenURI", url));
    let scopes: Vec<&str> = match oauth2.get("scopes") {
        Some(Value::Array(scopes)) => scopes.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !scopes.is_empty() {
        value("scopes", scopes.join(","));
    }
    let parameters = oauth2.child("tokenUrlParams", report);
    let pairs: Vec<String> =
        parameters.entries().map(|(name, value)| format!("{}={}", escape(name), escape(&scalar_text(value)))).collect();
    if !pairs.is_empty() {
        value("endpointParams", pairs.join("&"));
    }
    let secret = oauth2.child("clientSecret", report).child("valueFrom", report).child("secretKeyRef", report);
    if secret.is_present()
        && let [Some(name), Some(key)] = secret.required(["name", "key"], report)
    {
        sources.push(ParameterSource::Secret { parameter: "clientSecret".to_owned(), name, key });
    }
    sources
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: &Value) -> (Option<PodIdentity>, Vec<ParameterSource>, Vec<String>) {
        let mut report = Diagnostics::default();
        let fields = Fields::new("spec", Some(spec), Step::BuildScalers, &mut report);
        let identity = pod_identity(&fields, &mut report);
        let sources = oauth2(&fields, &mut report);
        (identity, sources, report.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn identities_and_what_is_wrong_with_them() {
        let text = |text: &str| Some(text.to_owned());
        let role = "arn:aws:iam::123456789012:role/team/metrics";
        for (spec, expected) in [
            (json!({}), None),
            (json!({"provider": "none"}), None),
            (json!({"provider": "aws"}), Some(PodIdentity::Aws { role_arn: None, external_id: None })),
            (
                json!({"provider": "aws", "roleArn": role, "externalID": "x", "identityOwner": "keda"}),
                Some(PodIdentity::Aws { role_arn: text(role), external_id: text("x") }),
            ),
            (json!({"provider": "gcp"}), Some(PodIdentity::Gcp)),
            (
                json!({"provider": "azure-workload", "identityId": "c", "identityTenantId": "t-1",
                    "identityAuthorityHost": "https://login.microsoftonline.us/"}),
                Some(PodIdentity::AzureWorkload {
                    client_id: text("c"),
                    tenant_id: text("t-1"),
                    authority_host: text("https://login.microsoftonline.us/"),
                }),
            ),
        ] {
            let (identity, _, problems) = read(&json!({"podIdentity": spec}));
            assert_eq!((identity, problems), (expected, Vec::new()), "{spec}");
        }
        for (spec, words) in [
            (
                json!({"provider": "aws-eks"}),
                "provider: pod identity \"aws-eks\" is not supported (write aws, with the role",
            ),
            (json!({"provider": "aws", "identityOwner": "workload"}), "identityOwner: workload is not supported"),
            (json!({"provider": "aws", "roleArn": "metrics"}), "roleArn: \"metrics\" is not the ARN of a role"),
            (json!({"provider": "aws", "externalID": "x"}), "externalID: is only sent to assume a role"),
            (
                json!({"provider": "azure-workload", "identityId": "c", "identityTenantId": "t",
                    "identityAuthorityHost": "https://evil.example/"}),
                "identityAuthorityHost: \"evil.example\" is no authority of Microsoft's",
            ),
            (json!({"provider": "azure-workload", "identityTenantId": "t"}), "identityId: is missing"),
            (
                json!({"provider": "azure-workload", "identityId": "c", "identityTenantId": "../x"}),
                "identityTenantId: \"../x\" is neither the id nor the domain",
            ),
        ] {
            let (_, _, problems) = read(&json!({"podIdentity": spec}));
            let expected = format!("spec.podIdentity.{words}");
            assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{spec}: {problems:?}");
        }
    }

    #[test]
    fn oauth2_becomes_parameters() {
        let spec = json!({"oauth2": {
            "type": "clientCredentials", "clientId": "me", "tokenUrl": "https://login/token", "scopes": ["a", "b"],
            "tokenUrlParams": {"audience": "x y"},
            "clientSecret": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        }});
        let (_, sources, problems) = read(&spec);
        assert_eq!(problems, [""; 0]);
        let value = |parameter: &str, value: &str| ParameterSource::Value {
            parameter: parameter.to_owned(),
            value: value.to_owned(),
        };
        let (parameter, name, key) = ("clientSecret".to_owned(), "s".to_owned(), "k".to_owned());
        let expected = [
            value("clientID", "me"),
            value("oauthTokenURI", "https://login/token"),
            value("scopes", "a,b"),
            value("endpointParams", "audience=x+y"),
            ParameterSource::Secret { parameter, name, key },
        ];
        assert_eq!(sources, expected);
        let (_, _, problems) = read(&json!({"oauth2": {"type": "password", "clientId": "me", "tokenUrl": "login"}}));
        assert!(problems.len() == 2 && problems[1].contains("tokenUrl: \"login\" is not a URL"), "{problems:?}");
    }
}
