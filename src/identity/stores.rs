//! Secret stores: what to ask a Vault, Azure Key Vault, AWS Secrets Manager and Google Secret Manager, and how to read
//! their answers.
//!
//! A store is at an address that the author of an authentication wrote, or at a cloud's own. A token of hpalite's own goes to
//! the cloud's own servers and to those that `--identity-server` names; the author's go where the author says. Secrets are
//! kept for [`KEPT`], so that a store that is away for a while harms nobody, and asked for again after [`RENEWED`]. No
//! secret, token or text of a store's own is in an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Identity;
use super::aws::{domain, get, post, secret, unreadable};
use super::oauth::{access_token, refusal};
use super::settings;
use super::sigv4::{self, Keys};
use super::tokens::{self, LIFETIME_MAX, key, word};
use crate::encode::{base64_decode, escape, escape_segment};
use crate::polling::auth::{Auth, is_header_value};
use crate::polling::credentials::{StoreQuestion, StoreSource};
use crate::polling::request::{Header, Request};
use crate::polling::{Parameters, failed};
use crate::scaling::allowed;
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::PodIdentity;
use crate::scaling::secret_store::{AwsLogin, AzureLogin, Engine, SecretStore, StoredSecret, VaultAccount, VaultLogin};
use crate::wire::trigger::identity::is_aws_region;

/// How long a secret is used at most while its store gives no other.
const KEPT: Duration = Duration::from_mins(5);
/// The age at which a secret is asked for again.
const RENEWED: Duration = Duration::from_mins(1);
/// Upper bound on the bytes of a store's answer: Amazon and Google have no larger secrets.
const ANSWER_MAX: usize = 96 << 10;
/// Time limit of each question: it blocks a worker.
const PATIENCE: Duration = Duration::from_secs(4);
/// What a token for Google's store is for.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Why a store gave nothing.
struct Refused {
    /// 0 without an answer.
    status: u16,
    error: PollError,
}

impl From<PollError> for Refused {
    fn from(error: PollError) -> Self {
        Self { status: 0, error }
    }
}

impl StoreSource for Identity {
    fn read(&self, question: &StoreQuestion<'_>) -> Result<String, PollError> {
        let parameters = Parameters::new();
        let auth = Auth { parameters: &parameters, named: Some(question.named), namespace: question.namespace };
        let secret = question.secret;
        let text = match question.store {
            SecretStore::Vault { address, namespace, login } => {
                self.vault(&auth, question, (address, namespace.as_deref()), login)?
            }
            SecretStore::Azure { uri, resource, login } => self.key_vault(&auth, question, (uri, resource), login)?,
            SecretStore::Aws { region, login } => self.secrets_manager(&auth, question, region.as_deref(), login)?,
            SecretStore::Google(_) => self.secret_manager(&auth, question)?,
        };
        match &secret.key {
            None => Ok(text.to_string()),
            Some(key) => member(&text, key, secret.engine)
                .map_err(|what| fault(format!("secret {} of {} {what}", secret.name, question.store))),
        }
    }
}

impl Identity {
    /// Sends a request, and returns the JSON of an answer with a status of success. `what` is the beginning of a sentence
    /// on its failure, and `code` points to the store's own word for it.
    fn fetch(&self, store: &SecretStore, request: Request, what: &str, code: &str) -> Result<Value, Refused> {
        let asked = self.transport.exchange(request, PATIENCE, Instant::now() + PATIENCE, |reply| reply);
        let reply = asked.map_err(|error| fault(format!("{what} of {store} cannot be had: {}", error.message)))?;
        let status = reply.status;
        let answer: Option<Value> =
            (reply.body.len() <= ANSWER_MAX).then(|| serde_json::from_slice(&reply.body).ok()).flatten();
        if (200..300).contains(&status) {
            let what = format!("the answer of {store} for {what} is no JSON of at most {} KiB", ANSWER_MAX >> 10);
            return answer.ok_or_else(|| fault(what).into());
        }
        let why = answer.as_ref().and_then(|answer| word(answer.pointer(code)?.as_str()?.rsplit(['#', '.']).next()?));
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let verdict = match status {
            401 | 403 => "is refused",
            404 => "does not exist",
            _ => "cannot be had",
        };
        Err(Refused { status, error: fault(format!("{what} {verdict}: {store} answered status {status}{why}")) })
    }

    fn vault(
        &self,
        auth: &Auth<'_>,
        question: &StoreQuestion<'_>,
        (address, namespace): (&str, Option<&str>),
        login: &VaultLogin,
    ) -> Result<Arc<String>, PollError> {
        let path = question.secret.name.as_str();
        let space = namespace.unwrap_or_default();
        let asked = |path: &str, mut headers: Vec<Header>| {
            headers.extend(namespace.map(|name| secret("X-Vault-Namespace", name.to_owned())));
            let path = path.split('/').map(escape_segment).collect::<Vec<_>>().join("/");
            Request { trusted: false, ..get(&format!("{address}/v1/{path}"), headers) }
        };
        let read = |token: &str| {
            let request = asked(path, vec![secret("X-Vault-Token", token.to_owned())]);
            let answer = self.fetch(question.store, request, &format!("secret {path}"), "")?;
            let Some(data) = answer.get("data").filter(|data| data.is_object()) else {
                return Err(fault(format!("secret {path} of {} has no data", question.store)).into());
            };
            let (lifetime, renewed) = times(&answer);
            Ok((data.to_string(), lifetime, renewed))
        };
        // With the status of a refusal, which may be while an answer is kept.
        let get_secret = |token: &str| {
            let mut refusal = 0;
            let key = key(&["vault", address, space, token, path]);
            let found = self.secrets.get_ahead(key, auth.namespace, &self.clock, || {
                read(token).map_err(|Refused { status, error }| {
                    refusal = status;
                    error
                })
            });
            (found, refusal)
        };
        let (mount, role, account) = match login {
            VaultLogin::Token(given) => {
                let own = || self.settings.vault_token.as_deref();
                let token = match given {
                    Some(given) => given.0.trim(),
                    None => {
                        let missing = "hashiCorpVault has no credential.token, and hpalite no VAULT_TOKEN";
                        let token = own().ok_or_else(|| auth.fault(missing))?;
                        self.check_vault(auth, address)?;
                        token
                    }
                };
                if !is_header_value(token) || token.is_empty() {
                    return Err(auth.fault("the token for the Vault is empty or holds a control character"));
                }
                return get_secret(token).0;
            }
            VaultLogin::Kubernetes { mount, role, account } => (mount, role, account),
        };
        let proof = match account {
            VaultAccount::Named(_) => question.proofs.first().cloned().unwrap_or_default(),
            VaultAccount::Own(path) => {
                self.check_vault(auth, address)?;
                self.read(auth, path.as_ref())?
            }
        };
        let login_key = key(&["vault-login", address, space, mount, role, &proof]);
        let log_in = || {
            let body = json!({ "jwt": proof, "role": role }).to_string();
            let mut request = Request { form: Some(body), ..asked(&format!("auth/{mount}/login"), vec![json_type()]) };
            request.method = crate::polling::request::Method::Post;
            let what = format!("the login at {mount} with role {role}");
            let answer = self.fetch(question.store, request, &what, "").map_err(|refused| refused.error)?;
            let found = answer.pointer("/auth/client_token").and_then(Value::as_str).unwrap_or_default();
            if found.is_empty() || !is_header_value(found) {
                return Err(unreadable("the Vault"));
            }
            let lease = answer.pointer("/auth/lease_duration").and_then(Value::as_u64).filter(|lease| *lease > 0);
            Ok((tokens::measured(found, "the Vault")?, lease.map_or(KEPT, Duration::from_secs)))
        };
        let token = self.bearers.get(login_key, auth.namespace, &self.clock, log_in)?;
        let (found, refusal) = get_secret(&token);
        if !matches!(refusal, 401 | 403) {
            return found;
        }
        // The token may have been revoked, or the Vault have lost it.
        self.bearers.forget(&login_key);
        match self.bearers.get(login_key, auth.namespace, &self.clock, log_in) {
            Ok(again) if again != token => get_secret(&again).0.or(found),
            _ => found,
        }
    }

    /// Refuses to show what proves to be hpalite to a Vault that the operator did not name.
    fn check_vault(&self, auth: &Auth<'_>, address: &str) -> Result<(), PollError> {
        if allowed::names(&self.settings.servers, address) {
            return Ok(());
        }
        Err(auth.fault(
            "hpalite's own token is given to a Vault only that --identity-server names: write credential.serviceAccountName \
             or credential.token, or name it",
        ))
    }

    fn key_vault(
        &self,
        auth: &Auth<'_>,
        question: &StoreQuestion<'_>,
        (uri, resource): (&str, &str),
        login: &AzureLogin,
    ) -> Result<Arc<String>, PollError> {
        let scope = format!("{resource}/.default");
        let (token, who) = match login {
            AzureLogin::Identity(identity) => {
                self.check_server(auth, identity, settings::AZURE_VAULTS, uri)?;
                (self.azure(auth, identity, &scope)?, format!("{identity:?}"))
            }
            AzureLogin::Client { authority, tenant, id, .. } => {
                let proof = question.proofs.first().map(|proof| proof.trim()).unwrap_or_default();
                let url = format!("{authority}/{tenant}/oauth2/v2.0/token");
                let token = self.bearers.get(
                    key(&["azure-client", &url, id, proof, &scope]),
                    auth.namespace,
                    &self.clock,
                    || {
                        let (id, proof, scope) = (escape(id), escape(proof), escape(&scope));
                        let form =
                            format!("grant_type=client_credentials&client_id={id}&client_secret={proof}&scope={scope}");
                        access_token(&tokens::ask(&self.transport, post(&url, form, false), refusal)?)
                    },
                )?;
                (token, format!("{url} {id} {proof}"))
            }
        };
        let StoredSecret { name, version, .. } = question.secret;
        let version = version.as_deref().unwrap_or_default();
        self.secrets.get_ahead(key(&["key-vault", uri, &who, name, version]), auth.namespace, &self.clock, || {
            let url = format!("{uri}/secrets/{}/{}?api-version=7.4", escape_segment(name), escape_segment(version));
            let request = Request { trusted: false, ..get(&url, vec![bearer(&token)]) };
            let code = "/error/code";
            let answer = self.fetch(question.store, request, &format!("secret {name}"), code);
            text_of(question, answer.map_err(|refused| refused.error)?.get("value").and_then(Value::as_str))
        })
    }

    fn secrets_manager(
        &self,
        auth: &Auth<'_>,
        question: &StoreQuestion<'_>,
        region: Option<&str>,
        login: &AwsLogin,
    ) -> Result<Arc<String>, PollError> {
        let region = region.or(self.settings.aws.region.as_deref()).filter(|region| is_aws_region(region));
        let region =
            region.ok_or_else(|| auth.fault("awsSecretManager has no region, and hpalite's pod none either"))?;
        let keys = match login {
            AwsLogin::Identity(PodIdentity::Aws { role_arn, external_id }) => {
                self.pod_keys(auth, role_arn.as_deref(), external_id.as_deref(), region)?
            }
            AwsLogin::Identity(_) => return Err(auth.fault("podIdentity is not aws")),
            AwsLogin::Keys { .. } => {
                let mut proofs = question.proofs.iter().map(|proof| proof.trim().to_owned());
                let mut next = || proofs.next().unwrap_or_default();
                let (id, secret) = (next(), next());
                Arc::new(Keys { id, secret, session: Some(next()).filter(|session| !session.is_empty()) })
            }
        };
        // Keys of a role change before their end, but what they may read does not.
        let who = match login {
            AwsLogin::Identity(identity) => format!("{identity:?}"),
            AwsLogin::Keys { .. } => format!("{} {}", keys.id, keys.secret),
        };
        let StoredSecret { name, version, stage, .. } = question.secret;
        let [version, stage] = [version, stage].map(|text| text.as_deref().unwrap_or_default());
        self.secrets.get_ahead(key(&["aws", region, &who, name, version, stage]), auth.namespace, &self.clock, || {
            let own = self.settings.aws.secrets_manager.as_deref();
            let url = own.map_or_else(|| format!("https://secretsmanager.{region}.{}/", domain(region)), str::to_owned);
            let mut body = json!({ "SecretId": name });
            for (field, text) in [("VersionId", version), ("VersionStage", stage)] {
                if !text.is_empty() {
                    body[field] = text.into();
                }
            }
            let header =
                |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned(), secret: false };
            let mut request = post(&url, body.to_string(), own.is_some());
            request.headers = vec![
                header("Content-Type", "application/x-amz-json-1.1"),
                header("X-Amz-Target", "secretsmanager.GetSecretValue"),
            ];
            sigv4::sign(&mut request, &keys, region, "secretsmanager", (self.clock)())?;
            let code = "/__type";
            let answer = self.fetch(question.store, request, &format!("secret {name}"), code);
            text_of(question, answer.map_err(|refused| refused.error)?.get("SecretString").and_then(Value::as_str))
        })
    }

    fn secret_manager(&self, auth: &Auth<'_>, question: &StoreQuestion<'_>) -> Result<Arc<String>, PollError> {
        let proof = question.proofs.first();
        let token = match proof {
            Some(text) => self.google_key(auth, text, GOOGLE_SCOPE)?,
            None => self.gcp(auth, GOOGLE_SCOPE)?,
        };
        let project = match proof {
            Some(text) => {
                let file: Option<Value> = serde_json::from_str(text).ok();
                file.as_ref().and_then(|file| file.get("project_id")?.as_str()).map(str::to_owned)
            }
            None => self.google_project(auth)?,
        };
        let project = project.filter(|project| word(project).is_some());
        let project =
            project.ok_or_else(|| auth.fault("no project of Google's is known: set CLOUDSDK_CORE_PROJECT"))?;
        let StoredSecret { name, version, .. } = question.secret;
        let version = version.as_deref().unwrap_or("latest");
        let who = proof.map_or("", String::as_str);
        self.secrets.get_ahead(key(&["google", who, &project, name, version]), auth.namespace, &self.clock, || {
            let own = self.settings.google_secrets.as_deref();
            let server = own.unwrap_or("https://secretmanager.googleapis.com").trim_end_matches('/');
            let [name, version] = [name, version].map(escape_segment);
            let url = format!("{server}/v1/projects/{project}/secrets/{name}/versions/{version}:access");
            let request = Request { trusted: own.is_some(), ..get(&url, vec![bearer(&token)]) };
            let code = "/error/status";
            let answer = self.fetch(question.store, request, &format!("secret {name}"), code);
            let answer = answer.map_err(|refused| refused.error)?;
            let data = answer.pointer("/payload/data").and_then(Value::as_str).and_then(base64_decode);
            text_of(question, data.and_then(|data| String::from_utf8(data).ok()).as_deref())
        })
    }

    /// Returns the project that our own pod is in, if that is known.
    fn google_project(&self, auth: &Auth<'_>) -> Result<Option<String>, PollError> {
        if let Some(project) = &self.settings.google_project {
            return Ok(Some(project.clone()));
        }
        let Some(url) = &self.settings.google_metadata else { return Ok(None) };
        let project = self.bearers.get(key(&["google-project"]), auth.namespace, &self.clock, || {
            let flavor = Header { name: "Metadata-Flavor".to_owned(), value: "Google".to_owned(), secret: false };
            let request = get(&format!("{url}/computeMetadata/v1/project/project-id"), vec![flavor]);
            let body = tokens::ask(&self.transport, request, |_| None)?;
            let text = String::from_utf8(body).map_err(|_| unreadable("the metadata service"))?;
            Ok((text.trim().to_owned(), Duration::from_hours(1)))
        });
        project.map(|project| Some(project.to_string()))
    }
}

fn fault(what: String) -> PollError {
    failed(ErrorClass::Authentication, what)
}

fn bearer(token: &str) -> Header {
    secret("Authorization", format!("Bearer {token}"))
}

fn json_type() -> Header {
    Header { name: "Content-Type".to_owned(), value: "application/json".to_owned(), secret: false }
}

/// Returns how long the secret of a Vault's answer is used, and the age at which it is asked for again.
fn times(answer: &Value) -> (Duration, Duration) {
    // What a lease has is new at each question, so it is used for as long as it lasts.
    let is_leased = answer.get("lease_id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    let lease = answer.get("lease_duration").and_then(Value::as_u64).map(Duration::from_secs);
    // A Vault may say any number of seconds, which is cut before it is multiplied.
    let lease = lease.map(|lease| lease.min(LIFETIME_MAX));
    match lease.filter(|lease| is_leased && !lease.is_zero()) {
        Some(lease) => (lease, lease * 4 / 5),
        None => (KEPT, RENEWED),
    }
}

/// Returns a secret that a store gave, with the times that it is used.
fn text_of(question: &StoreQuestion<'_>, text: Option<&str>) -> Result<(String, Duration, Duration), PollError> {
    match text {
        Some(text) => Ok((text.to_owned(), KEPT, RENEWED)),
        None => Err(fault(format!("secret {} of {} is no text", question.secret.name, question.store))),
    }
}

/// Returns a member of a secret that is a JSON object; the second engine of a Vault has those in `data`.
fn member(text: &str, key: &str, engine: Engine) -> Result<String, String> {
    let whole: Value = serde_json::from_str(text).map_err(|_| "is no JSON object".to_owned())?;
    let inner = whole.get("data").filter(|data| data.is_object());
    let object = match engine {
        Engine::One => &whole,
        Engine::Two => inner.ok_or("has no data, as the second version of the engine gives them")?,
        Engine::Any => inner.unwrap_or(&whole),
    };
    let value = object.get(key).ok_or_else(|| format!("has no key {key}"))?;
    value.as_str().map(str::to_owned).ok_or_else(|| format!("has a key {key} that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a lease that lasts longer than a number of seconds can be multiplied was a panic.
    #[test]
    fn leases_are_used_for_as_long_as_they_last_but_not_for_ever() {
        let times = |id: &str, seconds: u64| times(&json!({ "lease_id": id, "lease_duration": seconds }));
        assert_eq!(times("a", 100), (Duration::from_secs(100), Duration::from_secs(80)));
        assert_eq!(times("a", u64::MAX), (LIFETIME_MAX, LIFETIME_MAX * 4 / 5));
        assert_eq!(times("a", 0), (KEPT, RENEWED));
        assert_eq!(times("", 100), (KEPT, RENEWED));
    }

    #[test]
    fn members_of_either_engine() {
        let (one, two) = (r#"{"k":"a","n":1}"#, r#"{"data":{"k":"b"},"metadata":{}}"#);
        for (text, engine, wanted) in [
            (one, Engine::Any, Ok("a")),
            (one, Engine::One, Ok("a")),
            (one, Engine::Two, Err("has no data, as the second version of the engine gives them")),
            (two, Engine::Any, Ok("b")),
            (two, Engine::Two, Ok("b")),
            (two, Engine::One, Err("has no key k")),
            ("[]", Engine::Any, Err("has no key k")),
            ("x", Engine::Any, Err("is no JSON object")),
        ] {
            let found = member(text, "k", engine);
            assert_eq!(found.as_deref().map_err(String::as_str), wanted, "{text} {engine:?}");
        }
        assert_eq!(member(one, "n", Engine::Any), Err("has a key n that is no text".to_owned()));
    }
}
