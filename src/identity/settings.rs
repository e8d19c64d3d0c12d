//! What the pod was given to prove its identity with: variables that clouds inject, and flags.
//!
//! Pure: variables are an argument. The files that they name are read when a token is needed.

use std::path::PathBuf;

/// Where Azure's own Prometheus is.
pub(super) const AZURE_SERVERS: &[&str] = &[
    "https://*.prometheus.monitor.azure.com",
    "https://*.prometheus.monitor.azure.us",
    "https://*.prometheus.monitor.azure.cn",
];

/// Where Google's own Prometheus is.
pub(super) const GOOGLE_SERVERS: &[&str] =
    &["https://monitoring.googleapis.com", "https://monitoring.*.googleapis.com"];

/// Where Azure's Key Vaults are.
pub(super) const AZURE_VAULTS: &[&str] =
    &["https://*.vault.azure.net", "https://*.vault.usgovcloudapi.net", "https://*.vault.azure.cn"];

/// For errors about an endpoint whose URL cannot be read.
pub(super) const NAMELESS: &str = "the token endpoint";

/// The metadata service of Amazon's and Google's instances.
const METADATA: &str = "http://169.254.169.254";

/// Everything that is known of the pod's own identity.
#[derive(Clone, Default)]
pub struct Settings {
    pub aws: Aws,
    pub azure: Azure,
    /// A file with a Google key or a federation, `GOOGLE_APPLICATION_CREDENTIALS`.
    pub google_file: Option<PathBuf>,
    /// `scheme://host:port` of the metadata service of Google; `None` unless `--instance-metadata` allows it.
    pub google_metadata: Option<String>,
    /// The operator's own Secret Manager of Google's, `CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER`.
    pub google_secrets: Option<String>,
    /// `CLOUDSDK_CORE_PROJECT`; without it the metadata service's.
    pub google_project: Option<String>,
    /// `VAULT_TOKEN`, for Vaults that `servers` name.
    pub vault_token: Option<String>,
    /// Servers besides the providers' own that may get their tokens.
    pub servers: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Aws {
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    pub keys: Option<(String, String, Option<String>)>,
    pub role_arn: Option<String>,
    /// The token that a role is assumed with: IAM roles for service accounts.
    pub token_file: Option<PathBuf>,
    pub session_name: String,
    /// The operator's own STS; without it that of the region.
    pub sts: Option<String>,
    /// The operator's own Secrets Manager; without it that of the region.
    pub secrets_manager: Option<String>,
    /// Where EKS Pod Identity gives keys, and the file with its token.
    pub container: Option<(String, Option<PathBuf>)>,
    /// `scheme://host:port` of the metadata service; `None` unless `--instance-metadata` allows it.
    pub metadata: Option<String>,
}

#[derive(Clone, Default)]
pub struct Azure {
    pub client_id: Option<String>,
    pub tenant_id: Option<String>,
    pub token_file: Option<PathBuf>,
    /// `https://<host>/`
    pub authority: Option<String>,
}

impl Settings {
    /// Reads the variables that clouds inject. `env` returns `None` for an empty one.
    #[must_use]
    pub fn from_variables(env: impl Fn(&str) -> Option<String>, instance_metadata: bool, servers: Vec<String>) -> Self {
        let file = |name: &str| env(name).map(PathBuf::from);
        let keys = env("AWS_ACCESS_KEY_ID")
            .zip(env("AWS_SECRET_ACCESS_KEY"))
            .map(|(id, secret)| (id, secret, env("AWS_SESSION_TOKEN")));
        let container =
            env("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(|url| (url, file("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")));
        let metadata = |url: Option<String>| instance_metadata.then(|| url.unwrap_or_else(|| METADATA.to_owned()));
        Self {
            aws: Aws {
                region: env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")),
                keys,
                role_arn: env("AWS_ROLE_ARN"),
                token_file: file("AWS_WEB_IDENTITY_TOKEN_FILE"),
                session_name: env("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "hpalite".to_owned()),
                sts: env("AWS_ENDPOINT_URL_STS").or_else(|| env("AWS_ENDPOINT_URL")),
                secrets_manager: env("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| env("AWS_ENDPOINT_URL")),
                container,
                metadata: metadata(env("AWS_EC2_METADATA_SERVICE_ENDPOINT")),
            },
            azure: Azure {
                client_id: env("AZURE_CLIENT_ID"),
                tenant_id: env("AZURE_TENANT_ID"),
                token_file: file("AZURE_FEDERATED_TOKEN_FILE"),
                authority: env("AZURE_AUTHORITY_HOST"),
            },
            google_file: file("GOOGLE_APPLICATION_CREDENTIALS"),
            google_metadata: metadata(env("GCE_METADATA_HOST").map(|host| format!("http://{host}"))),
            google_secrets: env("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"),
            google_project: env("CLOUDSDK_CORE_PROJECT"),
            vault_token: env("VAULT_TOKEN"),
            servers,
        }
    }
}
