//! Secret stores, against servers that let in whom the real ones would.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hpalite::identity::Identity;
use hpalite::identity::settings::{Aws, Azure, Settings};
use hpalite::outbound::names::Names;
use hpalite::polling::credentials::{Resolver, ResolverConfig};
use hpalite::polling::proxy::ProxySettings;
use hpalite::polling::tls::Roots;
use hpalite::polling::transport::{Transport, TransportConfig};
use hpalite::scaling::event::Credentials;
use hpalite::scaling::model::{ApiGroup, AuthenticationKind, UnixMillis};
use hpalite::wire;
use serde_json::{Value, json};

use super::credentials::{FakeSource, credentials, resolver};
use super::identity::{file, form, has, openssl};
use super::setup::{GENEROUS, loopback, transport};
use super::tls::{Authority, server};
use crate::support::fake_prometheus::{FakePrometheus, Reply, Request};
use crate::support::sigv4::{Known, verify};

/// A daemon's part that resolves parameters, with a clock that the test turns.
struct Bench {
    objects: Arc<FakeSource>,
    resolver: Resolver,
    identity: Identity,
    now: Arc<AtomicI64>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self::over(transport(), settings)
    }

    fn over(transport: Transport, settings: Settings) -> Self {
        let objects = Arc::new(FakeSource::default());
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let clock = Arc::clone(&now);
        let clock = Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst)));
        let identity = Identity::new(settings, Arc::new(transport), clock);
        Self { resolver: resolver(&objects, ResolverConfig::default()), objects, identity, now }
    }

    fn seconds(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    /// Returns the parameters of an authentication with this spec, or why there are none.
    fn resolve(&self, spec: &Value) -> Result<BTreeMap<String, String>, String> {
        let object = json!({ "metadata": { "name": "prom", "namespace": "shop" }, "spec": spec });
        let kind = AuthenticationKind::TriggerAuthentication;
        let parsed = wire::authentication::from_value(ApiGroup::KedaSh, kind, object).unwrap();
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let credentials: Credentials = credentials(kind, &parsed.authentication.sources);
        let found = self.resolver.resolve(&credentials, Some(&self.identity));
        found.map_err(|error| {
            for secret in ["s.root", "s.login", "token-", "c-secret", "hidden", "s3cret"] {
                assert!(!error.message.contains(secret), "{}", error.message);
            }
            error.message
        })
    }

    fn fails(&self, spec: &Value, words: &str) {
        let error = self.resolve(spec).expect_err(words);
        assert!(error.contains(words), "{words} is not in {error}");
        assert!(error.contains("TriggerAuthentication shop/prom"), "{error}");
    }
}

fn found(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
    Ok(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

/// A Vault with one secret in either engine, whose logins are good until they are revoked.
struct Vault {
    tokens: Mutex<Vec<String>>,
    password: Mutex<&'static str>,
}

impl Vault {
    fn new() -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::new(vec!["s.root".to_owned()]), password: Mutex::new("p1") })
    }

    fn answer(&self, request: &Request) -> Reply {
        let refused = |status| Reply::status(status, r#"{"errors":["hidden: text of the Vault"]}"#);
        let mut tokens = self.tokens.lock().unwrap();
        if request.target == "/v1/auth/kubernetes/login" {
            let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
            if request.method != "POST" || body["role"] != "shop" || !body["jwt"].as_str().is_some_and(is_jwt) {
                return refused(400);
            }
            let token = format!("s.login{}", tokens.len());
            tokens.push(token.clone());
            let auth = json!({ "auth": { "client_token": token, "lease_duration": 3600 } });
            return Reply::json(&auth.to_string());
        }
        if !tokens.iter().any(|token| request.header("x-vault-token") == Some(token)) {
            return refused(403);
        }
        let data = json!({ "password": *self.password.lock().unwrap(), "user": "u", "port": 5432 });
        let answer = |data: Value| json!({ "lease_id": "", "lease_duration": 2_764_800, "data": data });
        match (request.target.as_str(), request.header("x-vault-namespace")) {
            ("/v1/secret/data/team/db", None) => Reply::json(&answer(json!({ "data": data })).to_string()),
            ("/v1/kv/db", Some("eu")) => Reply::json(&answer(data).to_string()),
            ("/v1/database/creds/app", None) => {
                let user = format!("user-{}", tokens.len());
                let lease =
                    json!({ "lease_id": "database/creds/app/1", "lease_duration": 1000, "data": { "user": user } });
                Reply::json(&lease.to_string())
            }
            _ => Reply::status(404, r#"{"errors":[]}"#),
        }
    }
}

fn is_jwt(text: &str) -> bool {
    text.starts_with("token-") || text == "the pod's token"
}

fn vault(address: &str, login: &Value, secrets: &[(&str, &str, &str)]) -> Value {
    let secret =
        |(parameter, path, key): &(&str, &str, &str)| json!({ "parameter": parameter, "path": path, "key": key });
    let mut store = login.clone();
    store["address"] = address.into();
    store["secrets"] = secrets.iter().map(secret).collect();
    json!({ "hashiCorpVault": store })
}

#[test]
fn a_vault_is_asked_with_a_token_and_kept_for_a_while() {
    let state = Vault::new();
    let answers = Arc::clone(&state);
    let fake = FakePrometheus::start(move |request| answers.answer(request));
    let bench = Bench::new(Settings::default());
    let token = json!({ "authentication": "token", "credential": { "token": "s.root" } });
    let missing = [("password", "secret/data/db", "password")];
    bench.fails(&vault(&fake.url(), &token, &missing), "secret secret/data/db does not exist: the Vault http://");
    let two = [("password", "secret/data/team/db", "password")];
    assert_eq!(bench.resolve(&vault(&fake.url(), &token, &two)), found(&[("password", "p1")]), "of the second engine");
    let mut one = json!({ "authentication": "token", "namespace": "eu", "credential": { "token": "s.root" } });
    let db = [("username", "kv/db", "user"), ("password", "/kv/db", "password")];
    let before = fake.requests().len();
    for _ in 0..3 {
        let wanted = found(&[("username", "u"), ("password", "p1")]);
        assert_eq!(bench.resolve(&vault(&fake.url(), &one, &db)), wanted);
    }
    assert_eq!(fake.requests().len() - before, 1, "both keys are of one answer, which is kept");
    bench.fails(&vault(&fake.url(), &one, &[("p", "kv/db", "other")]), "secret kv/db of the Vault");
    bench.fails(&vault(&fake.url(), &one, &[("p", "kv/db", "port")]), "has a key port that is no text");
    *state.password.lock().unwrap() = "p2";
    bench.seconds(59);
    let password = vault(&fake.url(), &one, &[("password", "kv/db", "password")]);
    assert_eq!(bench.resolve(&password), found(&[("password", "p1")]));
    bench.seconds(1);
    assert_eq!(bench.resolve(&password), found(&[("password", "p2")]), "asked again each minute");
    // A Vault that is away for a while harms nobody.
    state.tokens.lock().unwrap().clear();
    bench.seconds(280);
    assert_eq!(bench.resolve(&password), found(&[("password", "p2")]));
    bench.seconds(20);
    bench.fails(&password, "parameter password of TriggerAuthentication shop/prom: secret kv/db is refused: the Vault");
    one["credential"] = json!({ "token": "s.wrong" });
    bench.fails(&vault(&fake.url(), &one, &db), "answered status 403");
    let gone = vault("http://127.0.0.1:1", &token, &db);
    bench.fails(&gone, "secret kv/db of the Vault http://127.0.0.1:1 cannot be had: ");
    let refused = vault("http://169.254.169.254", &token, &db);
    bench.fails(&refused, "cannot be had: ");
    let large = FakePrometheus::start(|_| Reply::json(&json!({ "data": { "k": "x".repeat(100_000) } }).to_string()));
    bench.fails(&vault(&large.url(), &token, &[("p", "a", "k")]), "is no JSON of at most 96 KiB");
}

#[test]
fn a_vault_lets_service_accounts_in_and_only_a_named_one_gets_our_own_token() {
    let state = Vault::new();
    let answers = Arc::clone(&state);
    let fake = FakePrometheus::start(move |request| answers.answer(request));
    let logins = || fake.requests().iter().filter(|request| request.method == "POST").count();
    let bench = Bench::new(Settings::default());
    bench.objects.set("ServiceAccount shop/reader", &[]);
    let login = |role: &str, credential: Value| json!({ "authentication": "kubernetes", "mount": "kubernetes", "role": role, "namespace": "eu", "credential": credential });
    let db = [("password", "kv/db", "password")];
    let named = vault(&fake.url(), &login("shop", json!({ "serviceAccountName": "reader" })), &db);
    for _ in 0..2 {
        assert_eq!(bench.resolve(&named), found(&[("password", "p1")]));
    }
    assert_eq!(logins(), 1);
    // A token that the Vault has forgotten is replaced at once.
    state.tokens.lock().unwrap().pop();
    *state.password.lock().unwrap() = "p2";
    state.tokens.lock().unwrap().push("s.other".to_owned());
    bench.seconds(60);
    assert_eq!(bench.resolve(&named), found(&[("password", "p2")]));
    assert_eq!(logins(), 2);
    let other = vault(&fake.url(), &login("other", json!({ "serviceAccountName": "reader" })), &db);
    bench.fails(&other, "the login at kubernetes with role other cannot be had: the Vault");
    let nobody = vault(&fake.url(), &login("shop", json!({ "serviceAccountName": "nobody" })), &db);
    bench.fails(&nobody, "ServiceAccount shop/nobody does not exist");
    // What a lease has is not asked for again while it lasts.
    let mut lease = login("shop", json!({ "serviceAccountName": "reader" }));
    lease.as_object_mut().unwrap().remove("namespace");
    let lease = vault(&fake.url(), &lease, &[("user", "database/creds/app", "user")]);
    let first = bench.resolve(&lease).unwrap();
    state.tokens.lock().unwrap().push("s.more".to_owned());
    bench.seconds(700);
    assert_eq!(bench.resolve(&lease).unwrap(), first);
    bench.seconds(200);
    assert_ne!(bench.resolve(&lease).unwrap(), first);

    let own = vault(&fake.url(), &json!({ "authentication": "token" }), &[("p", "kv/db", "user")]);
    bench.fails(&own, "hashiCorpVault has no credential.token, and hpalite no VAULT_TOKEN");
    let ours = Settings { vault_token: Some("s.root".to_owned()), ..Settings::default() };
    let asked = fake.requests().len();
    Bench::new(ours.clone()).fails(&own, "given to a Vault only that --identity-server names");
    let account = vault(&fake.url(), &login("shop", json!({})), &db);
    Bench::new(ours.clone()).fails(&account, "given to a Vault only that --identity-server names");
    assert_eq!(fake.requests().len(), asked, "nobody else gets it");
    let trusted = Bench::new(Settings { servers: vec![fake.url()], ..ours });
    let namespaced = json!({ "authentication": "token", "namespace": "eu" });
    let own = vault(&fake.url(), &namespaced, &[("p", "kv/db", "user")]);
    assert_eq!(trusted.resolve(&own), found(&[("p", "u")]));
    // There is no such file in a test.
    trusted.fails(&account, "/var/run/secrets/kubernetes.io/serviceaccount/token cannot be read");
}

#[test]
fn a_vault_is_trusted_by_the_authorities_of_ca_dir() {
    let authority = Authority::new();
    let state = Vault::new();
    let fake = FakePrometheus::start_tls(server(&authority.issue("localhost", |_| {}), None), move |request| {
        state.answer(request)
    });
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "ca.crt", &authority.pem);
    let over = |directories: &[PathBuf]| {
        let config = TransportConfig {
            roots: Roots::load(None, directories),
            proxy: ProxySettings::from_variables(|_| None),
            default_timeout: GENEROUS,
            user_agent: "hpalite/test".into(),
            names: Arc::new(Names::new(4)),
            rules: Arc::new(loopback()),
            tls_min: hpalite::tls::Version::Tls13,
            keep_alive: true,
            poll_threads: 32,
        };
        Bench::over(Transport::new(config).unwrap(), Settings::default())
    };
    let login = json!({ "authentication": "token", "namespace": "eu", "credential": { "token": "s.root" } });
    let spec = vault(&fake.url(), &login, &[("p", "kv/db", "user")]);
    assert_eq!(over(&[folder.path().to_owned()]).resolve(&spec), found(&[("p", "u")]));
    over(&[]).fails(&spec, "cannot be had");
}

fn key_ref(name: &str, key: &str) -> Value {
    json!({ "valueFrom": { "secretKeyRef": { "name": name, "key": key } } })
}

#[test]
fn azures_key_vault_by_a_client_or_our_own_identity() {
    let login = FakePrometheus::start(|request| {
        let scope = ("scope", "https://vault.example/.default");
        let client = [("client_id", "c"), ("client_secret", "c-secret"), scope];
        let public = ("scope", "https://vault.azure.net/.default");
        let own = [("client_assertion", "federated"), public];
        if has(request, &client).is_ok() || has(request, &own).is_ok() {
            assert_eq!(request.target, "/tenant/oauth2/v2.0/token");
            return Reply::json(r#"{"access_token":"azure","expires_in":3599}"#);
        }
        Reply::status(401, r#"{"error":"invalid_client"}"#)
    });
    let store = FakePrometheus::start(|request| {
        if request.header("authorization") != Some("Bearer azure") {
            return Reply::status(403, r#"{"error":{"code":"Forbidden","message":"hidden"}}"#);
        }
        match request.target.as_str() {
            "/secrets/db/?api-version=7.4" => Reply::json(r#"{"value":"now"}"#),
            "/secrets/db/v1?api-version=7.4" => Reply::json(r#"{"value":"before"}"#),
            _ => Reply::status(404, r#"{"error":{"code":"SecretNotFound","message":"hidden"}}"#),
        }
    });
    let cloud = json!({ "type": "Private", "keyVaultResourceURL": "https://vault.example", "activeDirectoryEndpoint": login.url() });
    let credentials =
        |key: &str| json!({ "clientId": "c", "tenantId": "tenant", "clientSecret": key_ref("client", key) });
    let spec = |key: &str, secrets: Value| json!({ "azureKeyVault": { "vaultUri": store.url(), "cloud": cloud, "credentials": credentials(key), "secrets": secrets } });
    let bench = Bench::new(Settings::default());
    bench.objects.set("Secret shop/client", &[("right", "c-secret\n"), ("wrong", "x")]);
    let two = json!([{ "parameter": "a", "name": "db" }, { "parameter": "b", "name": "db", "version": "v1" }]);
    for _ in 0..2 {
        assert_eq!(bench.resolve(&spec("right", two.clone())), found(&[("a", "now"), ("b", "before")]));
    }
    assert_eq!((login.requests().len(), store.requests().len()), (1, 2));
    let missing = json!([{ "parameter": "a", "name": "gone" }]);
    bench.fails(&spec("right", missing), "secret gone does not exist: the Azure Key Vault http://");
    bench.fails(&spec("wrong", two.clone()), "answered status 401 (invalid_client)");
    bench.fails(&spec("none", two.clone()), "Secret shop/client has no key none");

    let folder = tempfile::tempdir().unwrap();
    let settings = |servers: Vec<String>| Settings {
        azure: Azure {
            client_id: Some("own".to_owned()),
            tenant_id: Some("tenant".to_owned()),
            token_file: Some(file(folder.path(), "azure", "federated")),
            authority: Some(login.url()),
        },
        servers,
        ..Settings::default()
    };
    let own = json!({ "azureKeyVault": {
        "vaultUri": store.url(), "podIdentity": { "provider": "azure-workload" }, "secrets": two,
    } });
    assert_eq!(Bench::new(settings(vec![store.url()])).resolve(&own), found(&[("a", "now"), ("b", "before")]));
    let asked = store.requests().len();
    Bench::new(settings(Vec::new())).fails(&own, "gives its token to the provider's own servers only");
    assert_eq!(store.requests().len(), asked, "nobody else gets the token");
}

#[test]
fn amazons_secrets_manager_verifies_signatures() {
    const KEYS: Known<'_> = Known { id: "AKID", secret: "s3cret/key", session: None };
    let fake = FakePrometheus::start(|request| {
        assert_eq!(request.header("x-amz-target"), Some("secretsmanager.GetSecretValue"));
        if verify(request, "secretsmanager", &[KEYS]).is_err() {
            return Reply::status(400, r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException"}"#);
        }
        let body: Value = serde_json::from_str(&request.body).unwrap();
        match (body["SecretId"].as_str(), body["VersionStage"].as_str()) {
            (Some("plain"), None) => Reply::json(r#"{"SecretString":"whole"}"#),
            (Some("team/db"), Some("AWSPREVIOUS")) => Reply::json(r#"{"SecretString":"{\"password\":\"p\"}"}"#),
            _ => Reply::status(400, r#"{"__type":"ResourceNotFoundException","Message":"hidden"}"#),
        }
    });
    let settings = |keys| Settings {
        aws: Aws { keys, region: Some("eu-west-1".to_owned()), secrets_manager: Some(fake.url()), ..Aws::default() },
        ..Settings::default()
    };
    let bench = Bench::new(settings(None));
    bench.objects.set("Secret shop/aws", &[("id", KEYS.id), ("key", KEYS.secret), ("wrong", "x")]);
    let spec = |key: &str, secret: Value| {
        json!({ "awsSecretManager": {
            "region": "eu-west-1", "secrets": [secret],
            "credentials": { "accessKey": key_ref("aws", "id"), "accessSecretKey": key_ref("aws", key) },
        } })
    };
    let plain = json!({ "parameter": "p", "name": "plain" });
    let member = json!({ "parameter": "p", "name": "team/db", "secretKey": "password", "versionStage": "AWSPREVIOUS" });
    assert_eq!(bench.resolve(&spec("key", plain.clone())), found(&[("p", "whole")]));
    assert_eq!(bench.resolve(&spec("key", member)), found(&[("p", "p")]));
    let missing = json!({ "parameter": "p", "name": "gone" });
    bench.fails(&spec("key", missing), "AWS Secrets Manager answered status 400 (ResourceNotFoundException)");
    bench.fails(&spec("wrong", plain.clone()), "answered status 400 (UnrecognizedClientException)");
    let own = json!({ "awsSecretManager": { "podIdentity": { "provider": "aws" }, "secrets": [plain] } });
    let ours = settings(Some((KEYS.id.to_owned(), KEYS.secret.to_owned(), None)));
    assert_eq!(Bench::new(ours).resolve(&own), found(&[("p", "whole")]));
    bench.fails(&own, "podIdentity aws finds no identity of hpalite's pod");
}

#[test]
fn googles_secret_manager_by_a_key_or_our_own_identity() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let key_path = key.to_str().unwrap();
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key_path]);
    let fake = FakePrometheus::start(|request| {
        let token = |token: &str| Reply::json(&json!({ "access_token": token, "expires_in": 3600 }).to_string());
        let path = request.target.split('?').next().unwrap_or_default();
        let flavor = request.header("metadata-flavor") == Some("Google");
        match path {
            "/token" => {
                let form = form(request);
                let assertion = form.iter().find(|(name, _)| name == "assertion").map_or("", |(_, text)| text);
                let claims = assertion.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
                let claims: Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
                assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
                token("google")
            }
            "/computeMetadata/v1/instance/service-accounts/default/token" if flavor => token("google"),
            "/computeMetadata/v1/project/project-id" if flavor => Reply::status(200, "ours"),
            _ if request.header("authorization") != Some("Bearer google") => Reply::status(401, "{}"),
            "/v1/projects/theirs/secrets/db/versions/3:access"
            | "/v1/projects/ours/secrets/db/versions/latest:access" => {
                Reply::json(&json!({ "payload": { "data": STANDARD.encode("value") } }).to_string())
            }
            _ => Reply::status(404, r#"{"error":{"status":"NOT_FOUND","message":"hidden"}}"#),
        }
    });
    let account = json!({ "type": "service_account", "client_email": "me@theirs", "private_key_id": "1", "project_id": "theirs",
        "private_key": std::fs::read_to_string(&key).unwrap(), "token_uri": format!("{}/token", fake.url()) });
    let settings = Settings { google_secrets: Some(fake.url()), ..Settings::default() };
    let bench = Bench::new(settings.clone());
    bench.objects.set("Secret shop/google", &[("key", &account.to_string()), ("bad", "{}")]);
    let spec = |key: &str, id: &str| {
        json!({ "gcpSecretManager": {
            "credentials": { "clientSecret": key_ref("google", key) },
            "secrets": [{ "parameter": "p", "id": id, "version": "3" }],
        } })
    };
    assert_eq!(bench.resolve(&spec("key", "db")), found(&[("p", "value")]));
    bench.fails(
        &spec("key", "gone"),
        "secret gone does not exist: Google Secret Manager answered status 404 (NOT_FOUND)",
    );
    bench.fails(&spec("bad", "db"), "are not those of a service_account");
    let own = json!({ "gcpSecretManager": { "podIdentity": { "provider": "gcp" }, "secrets": [{ "parameter": "p", "id": "db" }] } });
    bench.fails(&own, "podIdentity gcp finds no identity of hpalite's pod");
    let ours = Bench::new(Settings { google_metadata: Some(fake.url()), ..settings });
    assert_eq!(ours.resolve(&own), found(&[("p", "value")]));
}
