//! Secrets, ConfigMaps, tokens and pod templates, read by name when a poll needs them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::clock::wall_millis;
use crate::encode::base64_decode;
use crate::kube::client::Client;
use crate::kube::error::Error;
use crate::kube::request::Resource;
use crate::kube::resources::{self, CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS};
use crate::polling::credentials::{BoundToken, DataObject, FetchError, FetchErrorKind, SecretSource};
use crate::polling::env::{Container, DataKind, EnvFrom, EnvValue, EnvVar};
use crate::scaling::event::EnvTarget;
use crate::scaling::model::UnixMillis;
use crate::wire;

/// Requested lifetime of a service account's token: KEDA's default.
const TOKEN_SECONDS: i64 = 3600;

/// Time limit for a read that a poll needs: it blocks a worker, and the next poll tries again.
pub(super) const POLL_READ: Duration = Duration::from_secs(5);

/// Reads from the API server.
pub(super) struct KubeSecrets {
    pub(super) client: Client,
}

impl SecretSource for KubeSecrets {
    fn secret(&self, namespace: &str, name: &str) -> Result<DataObject, FetchError> {
        self.data(&SECRETS, namespace, name, true)
    }

    fn config_map(&self, namespace: &str, name: &str) -> Result<DataObject, FetchError> {
        self.data(&CONFIG_MAPS, namespace, name, false)
    }

    fn service_account_token(&self, namespace: &str, service_account: &str) -> Result<BoundToken, FetchError> {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": TOKEN_SECONDS },
        });
        let request = SERVICE_ACCOUNTS
            .create_subresource(Some(namespace), service_account, "token", body.to_string().into_bytes())
            .map_err(|error| fetch_error(&error.into()))?;
        let answer: TokenRequest = self.client.json_within(&request, POLL_READ).map_err(|error| fetch_error(&error))?;
        let expires_at = wire::time::parse_rfc3339(&answer.status.expiration_timestamp)
            .unwrap_or(UnixMillis(wall_millis() + TOKEN_SECONDS * 1000));
        Ok(BoundToken { token: answer.status.token, expires_at })
    }

    fn containers(&self, target: &EnvTarget) -> Result<Vec<Container>, FetchError> {
        let request = resources::of(&target.gvkr)
            .get(Some(&target.namespace), &target.name)
            .map_err(|error| fetch_error(&error.into()))?;
        let target: Templated = self.client.json_within(&request, POLL_READ).map_err(|error| fetch_error(&error))?;
        Ok(target.spec.template.spec.containers.into_iter().map(Into::into).collect())
    }
}

impl KubeSecrets {
    fn data(&self, resource: &Resource, namespace: &str, name: &str, encoded: bool) -> Result<DataObject, FetchError> {
        let request = resource.get(Some(namespace), name).map_err(|error| fetch_error(&error.into()))?;
        let found: DataWire = self.client.json_within(&request, POLL_READ).map_err(|error| fetch_error(&error))?;
        let decode = |(key, value): (String, String)| base64_decode(&value).map(|value| (key, value));
        let data = if encoded {
            found.data.into_iter().filter_map(decode).collect()
        } else {
            let text = found.data.into_iter().map(|(key, value)| (key, value.into_bytes()));
            text.chain(found.binary_data.into_iter().filter_map(decode)).collect()
        };
        Ok(DataObject { data: Arc::new(data), resource_version: found.metadata.resource_version })
    }
}

pub(super) fn fetch_error(error: &Error) -> FetchError {
    let kind = if error.is_not_found() { FetchErrorKind::NotFound } else { FetchErrorKind::Other };
    let message = match error.status() {
        Some(status) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    };
    FetchError { kind, message }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataWire {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    binary_data: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    resource_version: String,
}

#[derive(Deserialize)]
struct TokenRequest {
    status: TokenStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenStatus {
    token: String,
    #[serde(default)]
    expiration_timestamp: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Templated {
    spec: TemplatedSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplatedSpec {
    template: Template,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodSpec {
    containers: Vec<WireContainer>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireContainer {
    name: String,
    env: Vec<WireEnv>,
    env_from: Vec<WireEnvFrom>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireEnv {
    name: String,
    value: Option<String>,
    value_from: Option<WireValueFrom>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireValueFrom {
    secret_key_ref: Option<WireKeyRef>,
    config_map_key_ref: Option<WireKeyRef>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireKeyRef {
    name: String,
    key: String,
    optional: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireEnvFrom {
    prefix: String,
    secret_ref: Option<WireKeyRef>,
    config_map_ref: Option<WireKeyRef>,
}

impl From<WireContainer> for Container {
    fn from(wire: WireContainer) -> Self {
        let env_from = wire.env_from.into_iter().filter_map(|from| {
            let (kind, reference) = match (from.secret_ref, from.config_map_ref) {
                (Some(secret), _) => (DataKind::Secret, secret),
                (None, Some(config_map)) => (DataKind::ConfigMap, config_map),
                (None, None) => return None,
            };
            Some(EnvFrom { prefix: from.prefix, kind, name: reference.name, optional: reference.optional })
        });
        let env =
            wire.env.into_iter().map(|env| EnvVar { name: env.name, value: env_value(env.value, env.value_from) });
        Self { name: wire.name, env_from: env_from.collect(), env: env.collect() }
    }
}

fn env_value(value: Option<String>, from: Option<WireValueFrom>) -> EnvValue {
    let key = |kind, reference: WireKeyRef| EnvValue::Key {
        kind,
        name: reference.name,
        key: reference.key,
        optional: reference.optional,
    };
    match from {
        None => EnvValue::Literal(value.unwrap_or_default()),
        Some(WireValueFrom { secret_key_ref: Some(reference), .. }) => key(DataKind::Secret, reference),
        Some(WireValueFrom { config_map_key_ref: Some(reference), .. }) => key(DataKind::ConfigMap, reference),
        Some(_) => EnvValue::Unknown,
    }
}
