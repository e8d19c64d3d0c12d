//! Secret stores of an authentication: `hashiCorpVault`, `azureKeyVault`, `gcpSecretManager` and `awsSecretManager`.

use std::sync::Arc;

use super::fields::{Diagnostics, Fields, quoted};
use super::identity::pod_identity;
use super::trigger::identity::is_aws_region;
use crate::formats::url::Url;
use crate::scaling::model::{ParameterSource, PodIdentity, Step};
use crate::scaling::secret_store::{
    AwsLogin, AzureLogin, Engine, Inline, SecretKey, SecretStore, StoredSecret, VaultAccount, VaultLogin,
};

/// The token of hpalite's own service account.
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Below which files of our pod can be proofs, where the kubelet puts tokens.
const TOKENS: &str = "/var/run/secrets/";

/// Microsoft's clouds: the name, what a token for a Key Vault is for, and who gives it.
const AZURE_CLOUDS: [(&str, &str, &str); 3] = [
    ("AzurePublicCloud", "https://vault.azure.net", "https://login.microsoftonline.com"),
    ("AzureUSGovernmentCloud", "https://vault.usgovcloudapi.net", "https://login.microsoftonline.us"),
    ("AzureChinaCloud", "https://vault.azure.cn", "https://login.chinacloudapi.cn"),
];

/// Reads the stores in the order in which they apply.
pub(super) fn stores(spec: &Fields<'_>, report: &mut Diagnostics) -> Vec<ParameterSource> {
    let mut sources = Vec::new();
    type Read = fn(&Fields<'_>, &mut Diagnostics) -> Option<SecretStore>;
    let kinds: [(&str, Read, &str); 4] = [
        ("hashiCorpVault", vault, "path"),
        ("azureKeyVault", azure, "name"),
        ("gcpSecretManager", google, "id"),
        ("awsSecretManager", aws, "name"),
    ];
    for (field, read, name) in kinds {
        let fields = spec.child(field, report);
        if !fields.is_present() {
            continue;
        }
        let store = read(&fields, report).map(Arc::new);
        let items = fields.objects("secrets", report);
        if items.is_empty() {
            problem(&fields, "secrets", "is missing or empty".to_owned(), "name the secrets to take", report);
        }
        for item in items {
            let [parameter, path] = item.required(["parameter", name], report);
            let found = match field {
                "hashiCorpVault" => of_vault(&item, report),
                _ => Some(StoredSecret {
                    key: optional(&item, "secretKey", report),
                    version: optional(&item, if field == "awsSecretManager" { "versionId" } else { "version" }, report),
                    stage: optional(&item, "versionStage", report),
                    ..StoredSecret::default()
                }),
            };
            if let Some(path) = path.as_deref().filter(|path| !is_path(path)) {
                let message = format!("{} is not the name of a secret", quoted(path));
                problem(&item, name, message, "write it without \"..\", \"?\", \"#\" and blanks", report);
                continue;
            }
            if let (Some(store), Some(parameter), Some(path), Some(found)) = (&store, parameter, path, found) {
                let path = path.trim_matches('/').to_owned();
                let secret = Box::new(StoredSecret { name: path, ..found });
                sources.push(ParameterSource::Store { parameter, store: Arc::clone(store), secret });
            }
        }
    }
    sources
}

fn problem(fields: &Fields<'_>, name: &str, message: String, fix: &str, report: &mut Diagnostics) {
    report.problem(Step::BuildScalers, fields.path(name), message, fix);
}

fn optional(fields: &Fields<'_>, name: &str, report: &mut Diagnostics) -> Option<String> {
    fields.filled(name, report).map(str::to_owned)
}

/// Whether a text can be a part of a URL's path.
fn is_path(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"?#\\".contains(c);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    text.len() <= 1024 && text.chars().all(is_plain) && text.trim_matches('/').split('/').all(is_segment)
}

/// Returns an address without a slash at its end.
fn address(fields: &Fields<'_>, name: &str, report: &mut Diagnostics) -> Option<String> {
    let [text] = fields.required([name], report);
    let text = text?;
    let wrong = match Url::parse(&text) {
        Ok(Url { user: None, query: None, .. }) => None,
        Ok(_) => Some("has a user or a query".to_owned()),
        Err(what) => Some(what),
    };
    match wrong {
        None => Some(text.trim_end_matches('/').to_owned()),
        Some(what) => {
            problem(fields, name, what, "write an address such as \"https://vault.example.com:8200\"", report);
            None
        }
    }
}

fn of_vault(item: &Fields<'_>, report: &mut Diagnostics) -> Option<StoredSecret> {
    let [key] = item.required(["key"], report);
    let engine = match item.text("type", report).unwrap_or_default() {
        "" => Engine::Any,
        "secret" => Engine::One,
        "secretV2" => Engine::Two,
        other => {
            let message = format!("{} is not supported", quoted(other));
            problem(item, "type", message, "write secret or secretV2, or read a certificate from a Secret", report);
            return None;
        }
    };
    Some(StoredSecret { key: Some(key?), engine, ..StoredSecret::default() })
}

fn vault(fields: &Fields<'_>, report: &mut Diagnostics) -> Option<SecretStore> {
    let address = address(fields, "address", report);
    let namespace = optional(fields, "namespace", report);
    let credential = fields.child("credential", report);
    let token = optional(&credential, "token", report);
    let [authentication] = fields.required(["authentication"], report);
    let login = match authentication?.as_str() {
        "token" => VaultLogin::Token(token.map(Inline)),
        "kubernetes" => {
            let [mount, role] = fields.required(["mount", "role"], report);
            let named = optional(&credential, "serviceAccountName", report);
            let file = optional(&credential, "serviceAccount", report);
            if let Some(file) = file.as_deref().filter(|file| !file.starts_with(TOKENS) || !is_path(file)) {
                let message = format!("{} is not below {TOKENS}", quoted(file));
                problem(&credential, "serviceAccount", message, "write serviceAccountName instead", report);
            }
            let mount = mount?;
            if !is_path(&mount) {
                let message = format!("{} is not the path of an auth method", quoted(&mount));
                problem(fields, "mount", message, "write it as in \"kubernetes\"", report);
                return None;
            }
            let own = || VaultAccount::Own(file.unwrap_or_else(|| OWN_TOKEN.to_owned()));
            let account = named.map_or_else(own, VaultAccount::Named);
            VaultLogin::Kubernetes { mount: mount.trim_matches('/').to_owned(), role: role?, account }
        }
        other => {
            let message = format!("{} is not supported", quoted(other));
            problem(fields, "authentication", message, "write token or kubernetes", report);
            return None;
        }
    };
    Some(SecretStore::Vault { address: address?, namespace, login })
}

/// Returns the Secret that a credential is in.
fn reference(credentials: &Fields<'_>, name: &str, report: &mut Diagnostics) -> Option<SecretKey> {
    let found = credentials.child(name, report).child("valueFrom", report).child("secretKeyRef", report);
    let [Some(name), Some(key)] = found.required(["name", "key"], report) else { return None };
    Some(SecretKey { name, key })
}

/// Returns the identity of a store, which must be its cloud's. Without one there must be credentials.
fn identity(fields: &Fields<'_>, provider: &str, report: &mut Diagnostics) -> Option<PodIdentity> {
    let identity = pod_identity(fields, report)?;
    if identity.provider() != provider {
        let message = format!("{} is another cloud's", quoted(identity.provider()));
        problem(&fields.child("podIdentity", report), "provider", message, &format!("write {provider}"), report);
        return None;
    }
    Some(identity)
}

fn credentials<'a>(fields: &Fields<'a>, provider: &str, report: &mut Diagnostics) -> Option<Fields<'a>> {
    let credentials = fields.child("credentials", report);
    if !credentials.is_present() {
        let fix = format!("write credentials, or podIdentity with provider {provider}");
        problem(fields, "credentials", "is missing".to_owned(), &fix, report);
        return None;
    }
    Some(credentials)
}

fn azure(fields: &Fields<'_>, report: &mut Diagnostics) -> Option<SecretStore> {
    let uri = address(fields, "vaultUri", report);
    let cloud = fields.child("cloud", report);
    let kind = cloud.filled("type", report).unwrap_or(AZURE_CLOUDS[0].0);
    let known = AZURE_CLOUDS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(kind));
    let (resource, authority) = match known {
        Some((_, resource, authority)) => ((*resource).to_owned(), (*authority).to_owned()),
        None if kind.eq_ignore_ascii_case("Private") => {
            let resource = address(&cloud, "keyVaultResourceURL", report);
            let authority = address(&cloud, "activeDirectoryEndpoint", report);
            (resource?, authority?)
        }
        None => {
            let names = AZURE_CLOUDS.map(|(name, ..)| name).join(", ");
            problem(
                &cloud,
                "type",
                format!("{} is not known", quoted(kind)),
                &format!("write {names} or Private"),
                report,
            );
            return None;
        }
    };
    let login = match identity(fields, "azure-workload", report) {
        Some(identity) => AzureLogin::Identity(identity),
        None => {
            let credentials = credentials(fields, "azure-workload", report)?;
            let [id, tenant] = credentials.required(["clientId", "tenantId"], report);
            let secret = reference(&credentials, "clientSecret", report);
            let tenant = tenant?;
            if !super::identity::is_tenant(&tenant) {
                let message = format!("{} is neither the id nor the domain of a tenant", quoted(&tenant));
                problem(&credentials, "tenantId", message, "write letters, digits, '-' and '.'", report);
                return None;
            }
            AzureLogin::Client { authority, tenant, id: id?, secret: secret? }
        }
    };
    Some(SecretStore::Azure { uri: uri?, resource, login })
}

fn google(fields: &Fields<'_>, report: &mut Diagnostics) -> Option<SecretStore> {
    if identity(fields, "gcp", report).is_some() {
        return Some(SecretStore::Google(None));
    }
    let credentials = credentials(fields, "gcp", report)?;
    Some(SecretStore::Google(Some(reference(&credentials, "clientSecret", report)?)))
}

fn aws(fields: &Fields<'_>, report: &mut Diagnostics) -> Option<SecretStore> {
    let region = optional(fields, "region", report);
    if let Some(text) = region.as_deref().filter(|text| !is_aws_region(text)) {
        let message = format!("{} is not the name of a region", quoted(text));
        problem(fields, "region", message, "write it as in \"eu-west-1\"", report);
        return None;
    }
    let login = match identity(fields, "aws", report) {
        Some(identity) => AwsLogin::Identity(identity),
        None => {
            let credentials = credentials(fields, "aws", report)?;
            let [id, secret] = ["accessKey", "accessSecretKey"].map(|name| reference(&credentials, name, report));
            let has_session = credentials.has("accessToken");
            let session = has_session.then(|| reference(&credentials, "accessToken", report)).flatten();
            AwsLogin::Keys { id: id?, secret: secret?, session }
        }
    };
    Some(SecretStore::Aws { region, login })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value) -> (Vec<ParameterSource>, Vec<String>) {
        let mut report = Diagnostics::default();
        let fields = Fields::new("spec", Some(spec), Step::BuildScalers, &mut report);
        let sources = stores(&fields, &mut report);
        (sources, report.problems.iter().map(ToString::to_string).collect())
    }

    fn of(store: &str, fields: Value, secret: Value) -> (Vec<ParameterSource>, Vec<String>) {
        let mut fields = fields;
        fields["secrets"] = json!([secret]);
        read(&json!({ store: fields }))
    }

    #[test]
    fn stores_with_their_logins() {
        let text = |text: &str| text.to_owned();
        let secret = |name: &str, key: &str| SecretKey { name: text(name), key: text(key) };
        let from = |name: &str, key: &str| json!({"valueFrom": {"secretKeyRef": {"name": name, "key": key}}});
        let named = |name: &str| StoredSecret { name: text(name), ..StoredSecret::default() };
        let path = json!({"parameter": "p", "path": "secret/data/db", "key": "k"});
        let (name, id) =
            (json!({"parameter": "p", "name": "db"}), json!({"parameter": "p", "id": "db", "version": "3"}));
        let in_vault = StoredSecret { key: Some(text("k")), ..named("secret/data/db") };
        let kubernetes = |account| VaultLogin::Kubernetes { mount: text("k8s/eu"), role: text("r"), account };
        let vault = |namespace: Option<&str>, login| SecretStore::Vault {
            address: text("https://vault:8200"),
            namespace: namespace.map(text),
            login,
        };
        let rows = [
            (
                of(
                    "hashiCorpVault",
                    json!({"address": "https://vault:8200/", "authentication": "token", "namespace": "n",
                        "credential": {"token": "s.secret"}}),
                    path.clone(),
                ),
                vault(Some("n"), VaultLogin::Token(Some(Inline(text("s.secret"))))),
                in_vault.clone(),
            ),
            (
                of(
                    "hashiCorpVault",
                    json!({"address": "https://vault:8200", "authentication": "kubernetes", "mount": "k8s/eu/", "role": "r",
                        "credential": {"serviceAccountName": "reader"}}),
                    path.clone(),
                ),
                vault(None, kubernetes(VaultAccount::Named(text("reader")))),
                in_vault.clone(),
            ),
            (
                of(
                    "hashiCorpVault",
                    json!({"address": "https://vault:8200", "authentication": "kubernetes", "mount": "k8s/eu", "role": "r"}),
                    path,
                ),
                vault(None, kubernetes(VaultAccount::Own(text(OWN_TOKEN)))),
                in_vault,
            ),
            (
                of(
                    "azureKeyVault",
                    json!({"vaultUri": "https://v.vault.azure.cn/", "cloud": {"type": "AzureChinaCloud"},
                        "credentials": {"clientId": "c", "tenantId": "t", "clientSecret": from("s", "k")}}),
                    name.clone(),
                ),
                SecretStore::Azure {
                    uri: text("https://v.vault.azure.cn"),
                    resource: text("https://vault.azure.cn"),
                    login: AzureLogin::Client {
                        authority: text("https://login.chinacloudapi.cn"),
                        tenant: text("t"),
                        id: text("c"),
                        secret: secret("s", "k"),
                    },
                },
                named("db"),
            ),
            (
                of("gcpSecretManager", json!({"podIdentity": {"provider": "gcp"}}), id),
                SecretStore::Google(None),
                StoredSecret { version: Some(text("3")), ..named("db") },
            ),
            (
                of(
                    "awsSecretManager",
                    json!({"region": "eu-west-1", "podIdentity": {"provider": "none"},
                        "credentials": {"accessKey": from("a", "id"), "accessSecretKey": from("a", "key")}}),
                    name,
                ),
                SecretStore::Aws {
                    region: Some(text("eu-west-1")),
                    login: AwsLogin::Keys { id: secret("a", "id"), secret: secret("a", "key"), session: None },
                },
                named("db"),
            ),
        ];
        for ((sources, problems), store, secret) in rows {
            assert!(problems.is_empty(), "{problems:?}");
            assert!(!format!("{sources:?}").contains("s.secret"), "{sources:?}");
            let wanted =
                ParameterSource::Store { parameter: text("p"), store: Arc::new(store), secret: Box::new(secret) };
            assert_eq!(sources, [wanted]);
        }
    }
}
