//! Credentials: their sources, their use, and that nothing is queried without them.

use serde_json::{Value, json};

use super::annotated::{hpa, of, wait_for_replicas};
use super::case::{Case, Source};
use crate::support::cluster::{Cluster, path, wait_for, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

const AUTHORIZATION: &str = "authorization";

/// Applies a case whose trigger queries `source` with an authMode through TriggerAuthentication `auth`.
fn asks(case: &Case<'_>, source: &Source, modes: &str) {
    let mut trigger = source.trigger("10");
    trigger["metadata"]["authModes"] = modes.into();
    trigger["authenticationRef"] = json!({ "name": "auth" });
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [trigger] }));
}

fn secret(case: &Case<'_>, name: &str, data: Value) {
    case.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": case.namespace }, "stringData": data,
    }));
}

fn authentication(case: &Case<'_>, spec: Value) {
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "auth", "namespace": case.namespace }, "spec": spec,
    }));
}

/// Reads each parameter from the key of the same name in Secret `credentials`.
fn from_secret(parameters: &[&str]) -> Value {
    let reference = |parameter: &&str| json!({ "parameter": parameter, "name": "credentials", "key": parameter });
    json!({ "secretTargetRef": parameters.iter().map(reference).collect::<Vec<_>>() })
}

fn wait_for_header(source: &Source, name: &str, value: &str) {
    wait_seeing(&format!("a query with {name}"), || {
        let last = source.requests().pop().ok_or("no query")?;
        let seen = last.header(name).map(str::to_owned);
        (seen.as_deref() == Some(value)).then_some(()).ok_or_else(|| format!("{seen:?}"))
    });
}

fn all_have(source: &Source, name: &str) {
    let requests = source.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| request.header(name).is_some()), "{requests:?}");
}

#[test]
fn a_bearer_token_is_sent_and_its_rotation_noticed() {
    let case = Case::new("bearer").deployment(1);
    let source = Source::new(0.0);
    secret(&case, "credentials", json!({ "bearerToken": "one" }));
    authentication(&case, from_secret(&["bearerToken"]));
    asks(&case, &source, "bearer");
    wait_for_header(&source, AUTHORIZATION, "Bearer one");
    case.wait_until_ready();
    assert_eq!(case.object("so")["status"]["authenticationsTypes"], "auth");
    secret(&case, "credentials", json!({ "bearerToken": "two" }));
    wait_for_header(&source, AUTHORIZATION, "Bearer two");
    all_have(&source, AUTHORIZATION);
}

#[test]
fn basic_and_custom_headers_are_sent() {
    let case = Case::new("basic").deployment(1);
    let source = Source::new(0.0);
    let data = json!({ "username": "u", "password": "p", "customAuthHeader": "X-Key", "customAuthValue": "k" });
    secret(&case, "credentials", data);
    authentication(&case, from_secret(&["username", "password", "customAuthHeader", "customAuthValue"]));
    asks(&case, &source, "basic");
    wait_for_header(&source, AUTHORIZATION, "Basic dTpw");
    asks(&case, &source, "custom");
    wait_for_header(&source, "x-key", "k");
    assert!(source.requests().last().unwrap().header(AUTHORIZATION).is_none());
}

#[test]
fn whatever_is_missing_is_named_and_nothing_is_asked_without_it() {
    let case = Case::new("missing-auth").deployment(2);
    let source = Source::new(0.0);
    asks(&case, &source, "bearer");
    let note = case.wait_for_event("KEDAScalerFailed", "auth");
    assert!(note.contains("TriggerAuthentication"), "{note}");
    case.wait_for_condition("Ready", "False", "TriggerError");
    authentication(&case, from_secret(&["bearerToken"]));
    let note = case.wait_for_event("KEDAScalerFailed", "credentials");
    assert!(note.contains("bearerToken"), "{note}");
    secret(&case, "credentials", json!({ "other": "x" }));
    case.wait_for_event("KEDAScalerFailed", "key bearerToken");
    assert!(source.requests().is_empty(), "{:?}", source.requests());
    assert_eq!(case.replicas(), 2);
    secret(&case, "credentials", json!({ "bearerToken": "one" }));
    case.wait_until_ready();
    all_have(&source, AUTHORIZATION);
}

#[test]
fn a_cluster_trigger_authentication_reads_our_own_namespace() {
    let case = Case::new("cta").deployment(1);
    let source = Source::new(0.0);
    let name = case.namespace.clone();
    case.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": "hpalite" }, "stringData": { "t": "from-afar" },
    }));
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ClusterTriggerAuthentication", "metadata": { "name": name },
        "spec": { "secretTargetRef": [{ "parameter": "bearerToken", "name": name, "key": "t" }] },
    }));
    let mut trigger = source.trigger("10");
    trigger["metadata"]["authModes"] = "bearer".into();
    trigger["authenticationRef"] = json!({ "name": name, "kind": "ClusterTriggerAuthentication" });
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [trigger] }));
    wait_for_header(&source, AUTHORIZATION, "Bearer from-afar");
    let users =
        || case.cluster.get("clustertriggerauthentication", "", &name).unwrap()["status"]["scaledobjects"].clone();
    wait_for("its status to name its user", || (users() == "so").then_some(()));
}

#[test]
fn config_maps_and_the_environment_of_the_target_are_read() {
    let case = Case::new("env");
    let source = Source::new(0.0);
    secret(&case, "credentials", json!({ "password": "s3cret" }));
    case.apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": case.namespace },
        "data": { "user": "shop" },
    }));
    let env = json!([
        { "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "credentials", "key": "password" } } },
        { "name": "FULL", "value": "$(PASSWORD)-x" },
    ]);
    case.apply(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "api", "namespace": case.namespace },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "api" } }, "template": {
            "metadata": { "labels": { "app": "api" } },
            "spec": { "containers": [{ "name": "side", "image": "x" }, { "name": "main", "image": "x", "env": env }] },
        } },
    }));
    authentication(
        &case,
        json!({
            "configMapTargetRef": [{ "parameter": "username", "name": "settings", "key": "user" }],
            "env": [{ "parameter": "password", "name": "FULL", "containerName": "main" }],
        }),
    );
    asks(&case, &source, "basic");
    // shop:s3cret-x
    wait_for_header(&source, AUTHORIZATION, "Basic c2hvcDpzM2NyZXQteA==");
}

#[test]
fn a_service_account_token_needs_its_role() {
    let case = Case::new("bound").deployment(1);
    let source = Source::new(0.0);
    authentication(
        &case,
        json!({
            "boundServiceAccountToken": [{ "parameter": "bearerToken", "serviceAccountName": "prometheus-reader" }],
        }),
    );
    asks(&case, &source, "bearer");
    let note = case.wait_for_event("KEDAScalerFailed", "prometheus-reader");
    assert!(note.contains("forbidden") || note.contains("not found"), "{note}");
    case.wait_for_condition("Ready", "False", "TriggerError");
    assert!(source.requests().is_empty());
    // The sample, except its ScaledObject, in this namespace.
    let sample = std::fs::read_to_string(path("k8s/samples/bound-service-account-token.yaml")).unwrap();
    let documents: Vec<&str> = sample.split("\n---\n").filter(|document| !document.contains("keda.sh/")).collect();
    assert_eq!(documents.len(), 3, "ServiceAccount, Role, RoleBinding");
    case.cluster
        .apply(&documents.join("\n---\n").replace("namespace: default", &format!("namespace: {}", case.namespace)));
    case.wait_until_ready();
    let seen = source.requests().pop().unwrap();
    let token = seen.header(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap().to_owned();
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token } });
    let answer = case.cluster.kubectl_with(&["create", "-o", "json", "-f", "-"], &review.to_string()).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let user = format!("system:serviceaccount:{}:prometheus-reader", case.namespace);
    assert_eq!(answer["status"]["user"]["username"], user, "the API server knows it");
    // It is issued once and used by every poll.
    source.asked(2);
    let tokens: std::collections::BTreeSet<_> =
        source.requests().iter().map(|request| request.header(AUTHORIZATION).map(str::to_owned)).collect();
    assert_eq!(tokens.len(), 1);
}

/// A Vault whose Kubernetes login asks the cluster whose token it is shown, as the real one does.
fn vault(cluster: &'static Cluster, account: String) -> FakePrometheus {
    FakePrometheus::start(move |request| {
        let refused = || Reply::status(403, r#"{"errors":["permission denied"]}"#);
        match (request.method.as_str(), request.target.as_str()) {
            ("POST", "/v1/auth/kubernetes/login") => {
                let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
                let review = json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": body["jwt"] },
                });
                let answer = cluster.kubectl_with(&["create", "-f", "-", "-o", "json"], &review.to_string());
                let review: Value = serde_json::from_str(&answer.unwrap_or_default()).unwrap_or_default();
                let is_right = review["status"]["user"]["username"] == account.as_str() && body["role"] == "shop";
                let auth = json!({ "auth": { "client_token": "s.login", "lease_duration": 600 } }).to_string();
                if is_right { Reply::json(&auth) } else { refused() }
            }
            _ if request.header("x-vault-token") != Some("s.login") => refused(),
            ("GET", "/v1/secret/data/prometheus") => {
                Reply::json(r#"{"data":{"data":{"token":"from-the-vault"},"metadata":{}}}"#)
            }
            _ => Reply::status(404, r#"{"errors":[]}"#),
        }
    })
}

#[test]
fn a_vault_gives_what_a_service_account_may_read() {
    let case = Case::new("vault").deployment(0);
    let source = Source::new(25.0);
    let (namespace, cluster) = (case.namespace.clone(), case.cluster);
    case.kubectl(&["create", "serviceaccount", "robot"]);
    case.kubectl(&["create", "role", "tokens", "--verb=create", "--resource=serviceaccounts/token"]);
    case.kubectl(&["create", "rolebinding", "tokens", "--role=tokens", "--serviceaccount=hpalite:hpalite"]);
    let vault = vault(cluster, format!("system:serviceaccount:{namespace}:robot"));
    let from = |address: &str, role: &str, path: &str| {
        authentication(
            &case,
            json!({ "hashiCorpVault": {
                "address": address, "authentication": "kubernetes", "mount": "kubernetes", "role": role,
                "credential": { "serviceAccountName": "robot" },
                "secrets": [{ "parameter": "bearerToken", "path": path, "key": "token" }],
            } }),
        );
    };
    from(&vault.url(), "other", "secret/data/prometheus");
    asks(&case, &source, "bearer");
    let note = case.wait_for_event("KEDAScalerFailed", "the login at kubernetes with role other is refused");
    assert!(!note.contains("permission denied"), "the text of a store is not repeated: {note}");
    from(&vault.url(), "shop", "secret/data/nothing");
    case.wait_for_event("KEDAScalerFailed", "secret secret/data/nothing does not exist");
    from("http://127.0.0.1:1", "shop", "secret/data/prometheus");
    case.wait_for_event("KEDAScalerFailed", "the Vault http://127.0.0.1:1 cannot be had");
    assert!(source.requests().is_empty(), "{:?}", source.requests());
    from(&vault.url(), "shop", "secret/data/prometheus");
    wait_for_header(&source, AUTHORIZATION, "Bearer from-the-vault");
    wait_for("the Deployment to scale", || (case.replicas() > 0).then_some(()));
}

#[test]
fn authentications_are_let_go_and_know_their_users() {
    let case = Case::new("users").deployment(1);
    case.cluster.deployment(&case.namespace, "web", 1);
    let source = Source::new(0.0);
    secret(&case, "credentials", json!({ "bearerToken": "one" }));
    // In the state that KEDA leaves.
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "auth", "namespace": case.namespace, "finalizers": ["finalizer.keda.sh"] },
        "spec": from_secret(&["bearerToken"]),
    }));
    asks(&case, &source, "bearer");
    let mut trigger = source.trigger("10");
    trigger["authenticationRef"] = json!({ "name": "auth" });
    case.scale("another", json!({ "scaleTargetRef": { "name": "web" }, "triggers": [trigger] }));
    let users = || case.get("triggerauthentication", "auth").unwrap()["status"]["scaledobjects"].clone();
    let wait_for_users = |wanted: &[&str]| {
        wait_seeing(&format!("users {wanted:?}"), || {
            let seen = users();
            let mut names: Vec<&str> =
                seen.as_str().unwrap_or_default().split(',').filter(|name| !name.is_empty()).collect();
            names.sort_unstable();
            (names == wanted).then_some(()).ok_or_else(|| seen.to_string())
        });
    };
    wait_for_users(&["another", "so"]);
    case.kubectl(&["delete", "scaledobjects.keda.sh", "another", "--timeout=30s"]);
    wait_for_users(&["so"]);
    case.kubectl(&["delete", "triggerauthentications.keda.sh", "auth", "--timeout=30s"]);
    assert!(case.get("triggerauthentication", "auth").is_none(), "a user does not keep it");
    case.wait_for_condition("Ready", "False", "TriggerError");
}

/// The attack in the middle: whoever may write the address tries for what only the daemon reaches.
#[test]
fn an_authentication_says_where_the_server_is() {
    let case = Case::new("address").deployment(0);
    case.cluster.deployment(&case.namespace, "web", 1);
    let (first, second, own) = (Source::new(25.0), Source::new(45.0), Source::new(65.0));
    let name = case.namespace.clone();
    let tell = |address: &str| {
        case.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": "hpalite" },
            "stringData": { "address": address },
        }));
    };
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ClusterTriggerAuthentication", "metadata": { "name": name },
        "spec": { "secretTargetRef": [{ "parameter": "serverAddress", "name": name, "key": "address" }] },
    }));
    tell("prometheus:9090");
    let mut trigger = json!({
        "type": "prometheus", "metadata": { "query": "load", "threshold": "10" },
        "authenticationRef": { "name": name, "kind": "ClusterTriggerAuthentication" },
    });
    case.scale("so", json!({ "triggers": [trigger.clone()] }));
    let wrong =
        format!("parameter serverAddress of ClusterTriggerAuthentication {name} is not a URL: write a URL such as");
    case.wait_for_event("KEDAScalerFailed", &wrong);
    tell("http://169.254.169.254/latest");
    case.wait_for_event("KEDAScalerFailed", "169.254.169.254 is a link-local address");
    tell(&first.url());
    wait_for_replicas(&case, "api", 3);
    tell(&second.url());
    wait_for_replicas(&case, "api", 5);
    let asked = second.requests().len();
    trigger["metadata"]["serverAddress"] = own.url().into();
    case.scale("so", json!({ "triggers": [trigger] }));
    wait_for_replicas(&case, "api", 7);
    assert!(asked > 0 && !own.requests().is_empty(), "the trigger's own address goes before");

    authentication(
        &case,
        json!({ "configMapTargetRef": [{ "parameter": "serverAddress", "name": "settings", "key": "prometheus" }] }),
    );
    let annotations = [of("load", "query", "load"), of("load", "interval", "1s"), of("load", "authentication", "auth")];
    hpa(&case, "web", "load", &json!({ "type": "prometheus" }), &annotations);
    case.apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": case.namespace },
        "data": { "prometheus": first.url() },
    }));
    wait_for_replicas(&case, "web", 3);
}
