//! Identities of clouds and OAuth2, against servers that verify them as the clouds do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hpalite::identity::Identity;
use hpalite::identity::settings::{Aws, Azure, Settings};
use hpalite::scaling::event::{Answer, Credentials, ErrorClass, PollJob};
use hpalite::scaling::model::{
    AuthMode, AuthenticationKind, ParameterSource, PodIdentity, PrometheusSource, Query, UnixMillis,
};
use hpalite::sources::Asker;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use super::credentials::{FakeSource, credentials};
use super::poller::asker;
use super::setup::assert_failed;
use crate::support::fake_prometheus::{FakePrometheus, Reply, Request};
use crate::support::sigv4::{Known, verify};

const ROLE: &str = "arn:aws:iam::123456789012:role/metrics";
const STATIC: Known<'_> = Known { id: "AKIDSTATIC", secret: "static/secret", session: None };
const OF_ROLE: Known<'_> = Known { id: "ASIAROLE", secret: "role+secret", session: Some("role/session==") };

fn value(parameter: &str, value: &str) -> ParameterSource {
    ParameterSource::Value { parameter: parameter.to_owned(), value: value.to_owned() }
}

fn given(identity: Option<PodIdentity>, parameters: &[(&str, &str)]) -> Credentials {
    let sources: Vec<_> = parameters.iter().map(|(name, text)| value(name, text)).collect();
    Credentials { pod_identity: identity, ..credentials(AuthenticationKind::TriggerAuthentication, &sources) }
}

fn asking(settings: Settings) -> Asker {
    let mut asker = asker(&Arc::new(FakeSource::default()));
    let (transport, clock) = (Arc::clone(&asker.transport), Arc::clone(&asker.clock));
    asker.identity = Arc::new(Identity::new(settings, transport, clock));
    asker
}

fn ask(asker: &Asker, url: &str, modes: &[AuthMode], credentials: Credentials) -> Answer {
    let source = PrometheusSource {
        server_address: url.to_owned(),
        query: "sum(a + b) / 2".to_owned(),
        auth_modes: modes.to_vec(),
        aws_region: Some("eu-west-1".to_owned()),
        ..PrometheusSource::default()
    };
    let (server, query) = (source.server_address.as_str().into(), Query::Prometheus(Arc::new(source)));
    let job = PollJob { id: 1, server, query, credentials: Some(credentials), group: None, due_at: UnixMillis(0) };
    asker.ask(job).answer
}

fn checked(result: Result<(), String>) -> Reply {
    match result {
        Ok(()) => Reply::value("7"),
        Err(why) => Reply::status(403, &why),
    }
}

/// A Prometheus that wants this header.
fn bearing(token: &'static str) -> FakePrometheus {
    FakePrometheus::start(move |request| {
        let is_right = request.header("authorization") == Some(&format!("Bearer {token}"));
        checked(is_right.then_some(()).ok_or_else(|| "wrong token".to_owned()))
    })
}

/// Reads the pairs of a form.
pub(super) fn form(request: &Request) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(&text.replace('+', " ")).collect();
        String::from_utf8(bytes).unwrap()
    };
    request.body.split('&').filter_map(|pair| pair.split_once('=')).map(|(a, b)| (decode(a), decode(b))).collect()
}

pub(super) fn has(request: &Request, pairs: &[(&str, &str)]) -> Result<(), String> {
    let form = form(request);
    let missing = pairs.iter().find(|(name, text)| !form.iter().any(|(a, b)| a == name && b == text));
    missing.map_or(Ok(()), |(name, _)| Err(format!("wrong {name}")))
}

pub(super) fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn sts_answer(action: &str) -> Reply {
    let Known { id, secret, session } = OF_ROLE;
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>2023-11-14T23:13:20Z</Expiration></Credentials></{action}Result></{action}Response>",
        session.unwrap()
    );
    Reply::status(200, &body)
}

#[test]
fn requests_are_signed_with_keys_of_parameters() {
    let prometheus = FakePrometheus::start(|request| checked(verify(request, "aps", &[STATIC])));
    let asker = asking(Settings::default());
    let keys = |secret| given(None, &[("awsAccessKeyID", STATIC.id), ("awsSecretAccessKey", secret)]);
    let url = format!("{}/workspaces/ws-1", prometheus.url());
    assert_eq!(ask(&asker, &url, &[], keys(STATIC.secret)), Answer::Value(7.0));
    assert_failed(ask(&asker, &url, &[], keys("other")), ErrorClass::Status, "answered status 403");
    let half = given(None, &[("awsAccessKeyID", STATIC.id)]);
    assert_failed(ask(&asker, &url, &[], half), ErrorClass::Authentication, "needs awsSecretAccessKey");
    // With authModes the keys are of no use, as in KEDA.
    let basic = given(None, &[("awsAccessKeyID", STATIC.id), ("username", "u")]);
    assert_failed(ask(&asker, &url, &[AuthMode::Basic], basic), ErrorClass::Status, "answered status 403");
}

#[test]
fn a_role_is_assumed_with_the_token_of_the_service_account_or_with_the_pods_own_keys() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let sts = FakePrometheus::start(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        let role = ("RoleArn", ROLE);
        let by_token = ("Action", "AssumeRoleWithWebIdentity");
        if has(request, &[by_token, role, ("WebIdentityToken", "the pod's token")]).is_ok() {
            return sts_answer("AssumeRoleWithWebIdentity");
        }
        let by_keys = has(request, &[("Action", "AssumeRole"), role, ("ExternalId", "shop")]);
        match by_keys.and_then(|()| verify(request, "sts", &[STATIC])) {
            Ok(()) => sts_answer("AssumeRole"),
            Err(_) => Reply::status(403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"),
        }
    });
    let prometheus = FakePrometheus::start(|request| checked(verify(request, "aps", &[OF_ROLE])));
    let folder = tempfile::tempdir().unwrap();
    let aws = |token: &str| Aws {
        role_arn: Some(ROLE.to_owned()),
        token_file: Some(file(folder.path(), token, token)),
        sts: Some(sts.url()),
        session_name: "hpalite".to_owned(),
        ..Aws::default()
    };
    let own = PodIdentity::Aws { role_arn: None, external_id: None };
    let other = PodIdentity::Aws { role_arn: Some(ROLE.to_owned()), external_id: Some("shop".to_owned()) };
    let settings = |aws| Settings { aws, ..Settings::default() };

    let irsa = asking(settings(aws("the pod's token")));
    for _ in 0..3 {
        assert_eq!(ask(&irsa, &prometheus.url(), &[], given(Some(own.clone()), &[])), Answer::Value(7.0));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the keys are kept");
    assert_eq!(ask(&irsa, &prometheus.url(), &[], given(Some(other.clone()), &[])), Answer::Value(7.0));
    let by_keys = Aws { keys: Some((STATIC.id.into(), STATIC.secret.into(), None)), token_file: None, ..aws("x") };
    let assumed = ask(&asking(settings(by_keys)), &prometheus.url(), &[], given(Some(other), &[]));
    assert_eq!(assumed, Answer::Value(7.0));

    let refused = ask(&asking(settings(aws("a stale token"))), &prometheus.url(), &[], given(Some(own.clone()), &[]));
    assert_failed(
        refused.clone(),
        ErrorClass::Authentication,
        "answered status 403 (AccessDenied for role arn:aws:iam",
    );
    let Answer::Failed(error) = refused else { panic!() };
    assert!(!error.message.contains("stale"), "{}", error.message);
    let nobody = ask(&asking(Settings::default()), &prometheus.url(), &[], given(Some(own), &[]));
    assert_failed(nobody, ErrorClass::Authentication, "podIdentity aws finds no identity of hpalite's pod");
}

#[test]
fn keys_come_from_eks_pod_identity_or_the_instance() {
    let keys = json!({ "AccessKeyId": OF_ROLE.id, "SecretAccessKey": OF_ROLE.secret, "Token": OF_ROLE.session,
        "Expiration": "2023-11-14T23:13:20Z" });
    let keys = keys.to_string();
    let agent = FakePrometheus::start(move |request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/v1/credentials") if request.header("authorization") == Some("pod") => Reply::json(&keys),
        ("PUT", "/latest/api/token") if request.header("X-aws-ec2-metadata-token-ttl-seconds").is_some() => {
            Reply::status(200, "imds")
        }
        ("GET", path) if request.header("X-aws-ec2-metadata-token") == Some("imds") => {
            match path.strip_prefix("/latest/meta-data/iam/security-credentials/") {
                Some("") => Reply::status(200, "node-role\n"),
                Some("node-role") => Reply::json(&keys),
                _ => Reply::status(404, ""),
            }
        }
        _ => Reply::status(401, ""),
    });
    let prometheus = FakePrometheus::start(|request| checked(verify(request, "aps", &[OF_ROLE])));
    let folder = tempfile::tempdir().unwrap();
    let token = file(folder.path(), "token", "pod\n");
    let container = Aws { container: Some((format!("{}/v1/credentials", agent.url()), Some(token))), ..Aws::default() };
    let instance = Aws { metadata: Some(agent.url()), ..Aws::default() };
    for aws in [container, instance] {
        let asker = asking(Settings { aws, ..Settings::default() });
        let own = given(Some(PodIdentity::Aws { role_arn: None, external_id: None }), &[]);
        assert_eq!(ask(&asker, &prometheus.url(), &[], own), Answer::Value(7.0));
    }
}

#[test]
fn azures_token_is_exchanged_and_goes_to_azure_alone() {
    let login = FakePrometheus::start(|request| {
        let right = has(
            request,
            &[
                ("grant_type", "client_credentials"),
                ("client_id", "client"),
                ("scope", "https://prometheus.monitor.azure.com/.default"),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", "federated"),
            ],
        );
        match (request.target.as_str(), right) {
            ("/tenant/oauth2/v2.0/token", Ok(())) => Reply::json(r#"{"access_token":"azure","expires_in":3599}"#),
            _ => Reply::status(
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS700016: Application client was not found"}"#,
            ),
        }
    });
    let prometheus = bearing("azure");
    let folder = tempfile::tempdir().unwrap();
    let settings = |tenant: &str, servers: Vec<String>| Settings {
        azure: Azure {
            client_id: Some("client".to_owned()),
            tenant_id: Some(tenant.to_owned()),
            token_file: Some(file(folder.path(), "azure", "federated")),
            authority: Some(format!("{}/", login.url())),
        },
        servers,
        ..Settings::default()
    };
    let own =
        || given(Some(PodIdentity::AzureWorkload { client_id: None, tenant_id: None, authority_host: None }), &[]);
    let allowed = || vec![prometheus.url()];
    assert_eq!(ask(&asking(settings("tenant", allowed())), &prometheus.url(), &[], own()), Answer::Value(7.0));
    let elsewhere = ask(&asking(settings("tenant", Vec::new())), &prometheus.url(), &[], own());
    assert_failed(elsewhere, ErrorClass::Authentication, "gives its token to the provider's own servers only");
    assert_eq!(prometheus.requests().len(), 1, "nobody else gets the token");
    let refused = ask(&asking(settings("other", allowed())), &prometheus.url(), &[], own());
    assert_failed(refused, ErrorClass::Authentication, "answered status 401 (invalid_client, AADSTS700016)");
}

pub(super) fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn googles_token_is_given_for_a_key_a_federation_or_the_instance() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let key_path = key.to_str().unwrap();
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key_path]);
    let public = openssl(&["rsa", "-in", key_path, "-RSAPublicKey_out", "-outform", "DER"]);
    const SCOPE: &str = "https://www.googleapis.com/auth/monitoring.read";
    let google = FakePrometheus::start(move |request| {
        let answer = |token: &str| Reply::json(&json!({ "access_token": token, "expires_in": 3600 }).to_string());
        let target = request.target.split('?').next().unwrap_or_default();
        match target {
            "/token" => {
                let form = form(request);
                let assertion = form.iter().find(|(name, _)| name == "assertion").map_or("", |(_, text)| text);
                let (text, signature) = assertion.rsplit_once('.').unwrap_or_default();
                let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
                let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public);
                let claims =
                    text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
                let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
                let audience = format!("http://{}/token", request.header("host").unwrap_or_default());
                let is_right = key.verify(text.as_bytes(), &signature).is_ok()
                    && claims["iss"] == "me@project"
                    && claims["scope"] == SCOPE
                    && claims["aud"] == audience.as_str()
                    && claims["iat"] == 1_700_000_000
                    && claims["exp"] == 1_700_003_600;
                if is_right { answer("google") } else { Reply::status(400, r#"{"error":"invalid_grant"}"#) }
            }
            "/sts" => match has(request, &[("subject_token", "cluster"), ("audience", "//iam/pool")]) {
                Ok(()) => answer("federated"),
                Err(why) => Reply::status(400, &why),
            },
            "/impersonate" if request.header("authorization") == Some("Bearer federated") => {
                let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
                assert_eq!(
                    (&body["scope"][0], request.header("content-type")),
                    (&json!(SCOPE), Some("application/json"))
                );
                Reply::json(r#"{"accessToken":"google","expireTime":"2023-11-14T23:13:20Z"}"#)
            }
            "/computeMetadata/v1/instance/service-accounts/default/token"
                if request.header("metadata-flavor") == Some("Google") =>
            {
                answer("google")
            }
            _ => Reply::status(404, ""),
        }
    });
    let account = json!({ "type": "service_account", "client_email": "me@project", "private_key_id": "1",
        "private_key": fs::read_to_string(&key).unwrap(), "token_uri": format!("{}/token", google.url()) });
    let federation = json!({ "type": "external_account", "audience": "//iam/pool", "token_url": format!("{}/sts", google.url()),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "credential_source": { "file": file(folder.path(), "cluster", "cluster") },
        "service_account_impersonation_url": format!("{}/impersonate", google.url()) });
    let prometheus = bearing("google");
    let servers = vec![prometheus.url()];
    let of_file = |name: &str, json: &Value| Settings {
        google_file: Some(file(folder.path(), name, &json.to_string())),
        servers: servers.clone(),
        ..Settings::default()
    };
    let of_instance = Settings { google_metadata: Some(google.url()), servers: servers.clone(), ..Settings::default() };
    for settings in [of_file("account", &account), of_file("federation", &federation), of_instance] {
        let answer = ask(&asking(settings), &prometheus.url(), &[], given(Some(PodIdentity::Gcp), &[]));
        assert_eq!(answer, Answer::Value(7.0));
    }
    // A key that is a tenant's own may be used for any server, and names no files.
    let asker = asking(Settings::default());
    let with = |json: &Value| given(None, &[("GoogleApplicationCredentials", &json.to_string())]);
    assert_eq!(ask(&asker, &prometheus.url(), &[], with(&account)), Answer::Value(7.0));
    let read = ask(&asker, &prometheus.url(), &[], with(&federation));
    assert_failed(read, ErrorClass::Authentication, "are not those of a service_account");
    let nobody =
        ask(&asking(Settings::default()), "https://monitoring.googleapis.com", &[], given(Some(PodIdentity::Gcp), &[]));
    assert_failed(nobody, ErrorClass::Authentication, "podIdentity gcp finds no identity of hpalite's pod");
}

#[test]
fn oauth_clients_get_a_token_by_header_or_form() {
    for by_header in [true, false] {
        let login = FakePrometheus::start(move |request| {
            let basic = format!("Basic {}", STANDARD.encode("me:s%2Fecret"));
            let is_known = if by_header {
                request.header("authorization") == Some(&basic)
            } else {
                has(request, &[("client_id", "me"), ("client_secret", "s/ecret")]).is_ok()
            };
            let asked = [("grant_type", "client_credentials"), ("scope", "a b"), ("audience", "x y")];
            match has(request, &asked) {
                Ok(()) if is_known => Reply::json(r#"{"access_token":"oauth","token_type":"Bearer"}"#),
                _ => Reply::status(401, r#"{"error":"invalid_client"}"#),
            }
        });
        let prometheus = bearing("oauth");
        let asker = asking(Settings::default());
        let (token_url, gone) = (format!("{}/token", login.url()), "http://127.0.0.1:1/token".to_owned());
        let client = |secret: &str, url: &str| {
            let parameters = [
                ("oauthTokenURI", url),
                ("clientID", "me"),
                ("clientSecret", secret),
                ("scopes", "a, b"),
                ("endpointParams", "audience=x+y"),
            ];
            given(None, &parameters)
        };
        let of = |secret: &str, url: &str| ask(&asker, &prometheus.url(), &[AuthMode::OAuth], client(secret, url));
        assert_eq!(of("s/ecret", &token_url), Answer::Value(7.0));
        assert_eq!(of("s/ecret", &token_url), Answer::Value(7.0));
        assert_eq!(login.requests().len(), if by_header { 1 } else { 2 });
        assert_failed(of("wrong", &token_url), ErrorClass::Authentication, "answered status 401 (invalid_client)");
        assert_failed(of("s/ecret", &gone), ErrorClass::Authentication, "no token: cannot reach http://127.0.0.1:1");
        let half = given(None, &[("oauthTokenURI", &token_url)]);
        let half = ask(&asker, &prometheus.url(), &[AuthMode::OAuth], half);
        assert_failed(half, ErrorClass::Authentication, "authMode oauth needs parameter clientID");
    }
}
