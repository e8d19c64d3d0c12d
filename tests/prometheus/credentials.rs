//! Parameters from Secrets, ConfigMaps, env, files and tokens, from a scripted source.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hpalite::metrics_api::service::Endpoints;
use hpalite::polling::credentials::{
    BoundToken, DataObject, FetchError, FetchErrorKind, Resolver, ResolverConfig, SecretSource,
};
use hpalite::polling::env::{Container, DataKind, EnvFrom, EnvValue, EnvVar};
use hpalite::scaling::event::{Credentials, EnvTarget, ErrorClass};
use hpalite::scaling::model::{ApiGroup, AuthenticationKey, AuthenticationKind, Gvkr, ParameterSource, UnixMillis};
use hpalite::sources::pods::Pod;

/// The existing objects, and the look-ups so far.
#[derive(Default)]
pub(crate) struct FakeSource {
    /// `Secret ns/name` or `ConfigMap ns/name` to its data.
    pub(crate) objects: Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    containers: Mutex<Option<Vec<Container>>>,
    /// By `namespace/name`.
    pub(crate) services: Mutex<BTreeMap<String, Endpoints>>,
    pub(crate) pods: Mutex<Vec<Pod>>,
    /// The answer to look-ups instead of the objects.
    broken: Mutex<Option<FetchError>>,
    asked: Mutex<Vec<String>>,
    pub(crate) now: AtomicI64,
}

impl FakeSource {
    pub(crate) fn set(&self, object: &str, pairs: &[(&str, &str)]) {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        self.objects.lock().unwrap().insert(object.to_owned(), data);
    }

    fn get(&self, object: String) -> Result<DataObject, FetchError> {
        self.asked.lock().unwrap().push(object.clone());
        if let Some(error) = self.broken.lock().unwrap().clone() {
            return Err(error);
        }
        let found = self.objects.lock().unwrap().get(&object).cloned();
        found.map(|data| DataObject { data: Arc::new(data), resource_version: "1".into() }).ok_or_else(not_found)
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn not_found() -> FetchError {
    FetchError { kind: FetchErrorKind::NotFound, message: "not found".into() }
}

impl SecretSource for FakeSource {
    fn secret(&self, namespace: &str, name: &str) -> Result<DataObject, FetchError> {
        self.get(format!("Secret {namespace}/{name}"))
    }

    fn config_map(&self, namespace: &str, name: &str) -> Result<DataObject, FetchError> {
        self.get(format!("ConfigMap {namespace}/{name}"))
    }

    fn service_account_token(&self, namespace: &str, service_account: &str) -> Result<BoundToken, FetchError> {
        self.get(format!("ServiceAccount {namespace}/{service_account}"))?;
        let now = UnixMillis(self.now.load(Ordering::SeqCst));
        Ok(BoundToken { token: format!("token-{}", self.asked()), expires_at: now.plus(Duration::from_secs(3_600)) })
    }

    fn containers(&self, _: &EnvTarget) -> Result<Vec<Container>, FetchError> {
        self.containers.lock().unwrap().clone().ok_or_else(not_found)
    }
}

pub(crate) fn resolver(source: &Arc<FakeSource>, config: ResolverConfig) -> Resolver {
    let clock = Arc::clone(source);
    Resolver::new(Arc::clone(source) as _, config, Arc::new(move || UnixMillis(clock.now.load(Ordering::SeqCst))))
}

fn plain(source: &Arc<FakeSource>) -> Resolver {
    resolver(source, ResolverConfig { cluster_object_namespace: "keda".into(), ..ResolverConfig::default() })
}

pub(crate) fn credentials(kind: AuthenticationKind, sources: &[ParameterSource]) -> Credentials {
    let namespace = if kind == AuthenticationKind::TriggerAuthentication { "shop" } else { "" };
    Credentials {
        authentication: Some(AuthenticationKey {
            group: ApiGroup::KedaSh,
            kind,
            namespace: namespace.into(),
            name: "prom".into(),
        }),
        resource_version: "1".into(),
        namespace: namespace.into(),
        sources: Arc::new(sources.to_vec()),
        pod_identity: None,
        env_target: Some(EnvTarget {
            gvkr: Gvkr { kind: "Deployment".into(), ..Gvkr::default() }.into(),
            namespace: "shop".into(),
            name: "web".into(),
            container: None,
        }),
        servers: None,
    }
}

fn own(sources: &[ParameterSource]) -> Credentials {
    credentials(AuthenticationKind::TriggerAuthentication, sources)
}

pub(crate) fn secret(parameter: &str, name: &str, key: &str) -> ParameterSource {
    ParameterSource::Secret { parameter: parameter.into(), name: name.into(), key: key.into() }
}

fn config_map(parameter: &str, name: &str, key: &str) -> ParameterSource {
    ParameterSource::ConfigMap { parameter: parameter.into(), name: name.into(), key: key.into() }
}

fn env(parameter: &str, name: &str, container: Option<&str>) -> ParameterSource {
    ParameterSource::Env { parameter: parameter.into(), name: name.into(), container: container.map(str::to_owned) }
}

fn token(parameter: &str) -> ParameterSource {
    ParameterSource::BoundServiceAccountToken { parameter: parameter.into(), service_account: "robot".into() }
}

#[test]
fn later_sources_override() {
    let source = Arc::new(FakeSource::default());
    source.set("ConfigMap shop/c", &[("user", "from-map"), ("only", "o")]);
    source.set("Secret shop/s", &[("user", "from-secret")]);
    let sources = [config_map("username", "c", "user"), config_map("x", "c", "only"), secret("username", "s", "user")];
    let found = plain(&source).resolve(&own(&sources), None).unwrap();
    assert_eq!(found, BTreeMap::from([("username".into(), "from-secret".into()), ("x".into(), "o".into())]));
    // A later source may have what an earlier one lacks.
    let sources = [config_map("username", "absent", "user"), secret("username", "s", "user")];
    assert_eq!(plain(&source).resolve(&own(&sources), None).unwrap()["username"], "from-secret");
}

#[test]
fn what_is_missing_is_named() {
    let source = Arc::new(FakeSource::default());
    source.set("Secret shop/s", &[("user", "u")]);
    source.objects.lock().unwrap().insert("Secret shop/b".into(), BTreeMap::from([("k".into(), vec![0xff])]));
    let head = "TriggerAuthentication shop/prom: ";
    let rows = [
        (secret("token", "absent", "t"), "parameter token of ", "Secret shop/absent does not exist"),
        (secret("token", "s", "t"), "parameter token of ", "Secret shop/s has no key t"),
        (secret("token", "b", "k"), "parameter token of ", "Secret shop/b: key k is not text"),
        (config_map("ca", "absent", "t"), "parameter ca of ", "ConfigMap shop/absent does not exist"),
        (token("token"), "parameter token of ", "ServiceAccount shop/robot does not exist"),
        (env("token", "T", None), "parameter token of ", "Deployment shop/web does not exist"),
        (
            ParameterSource::FilePath("f".into()),
            "filePath f of ",
            "only a ClusterTriggerAuthentication may use filePath",
        ),
    ];
    for (missing, start, end) in rows {
        // An earlier source of the same parameter does not help, since it was to be overridden.
        let error = plain(&source).resolve(&own(&[secret("token", "s", "user"), missing]), None).unwrap_err();
        assert_eq!(error.class, ErrorClass::Authentication);
        assert_eq!(error.message, format!("{start}{head}{end}"));
    }
    *source.broken.lock().unwrap() = Some(FetchError { kind: FetchErrorKind::Other, message: "forbidden".into() });
    let error = plain(&source).resolve(&own(&[secret("token", "s", "user")]), None).unwrap_err();
    assert_eq!(error.message, format!("parameter token of {head}Secret shop/s cannot be read: forbidden"));
}

#[test]
fn look_ups_are_shared_for_a_second_and_rotation_shows_after_it() {
    let source = Arc::new(FakeSource::default());
    source.set("Secret shop/s", &[("user", "old")]);
    let (resolver, wanted) = (plain(&source), own(&[secret("username", "s", "user")]));
    let at = |millis| {
        source.now.store(millis, Ordering::SeqCst);
        resolver.resolve(&wanted, None).map(|found| found["username"].clone())
    };
    for millis in [0, 500, 999] {
        assert_eq!(at(millis).unwrap(), "old");
        source.set("Secret shop/s", &[("user", "new")]);
    }
    assert_eq!(source.asked(), 1);
    assert_eq!(at(1_000).unwrap(), "new");
    // Failures are shared as well.
    source.objects.lock().unwrap().clear();
    assert!(at(2_000).is_err());
    source.set("Secret shop/s", &[("user", "back")]);
    assert!(at(2_999).is_err());
    assert_eq!(at(3_000).unwrap(), "back");
    assert_eq!(source.asked(), 4);
}

#[test]
fn tokens_live_for_four_fifths() {
    let source = Arc::new(FakeSource::default());
    source.set("ServiceAccount shop/robot", &[]);
    let (resolver, wanted) = (plain(&source), own(&[token("bearerToken")]));
    let at = |seconds: i64| {
        source.now.store(seconds * 1_000, Ordering::SeqCst);
        resolver.resolve(&wanted, None).unwrap()["bearerToken"].clone()
    };
    assert_eq!([at(0), at(2_879), at(2_880), at(2_881)], ["token-1", "token-1", "token-2", "token-2"]);
}

#[test]
fn cluster_wide_references_are_in_the_configured_namespace() {
    let source = Arc::new(FakeSource::default());
    source.set("Secret keda/s", &[("user", "u")]);
    source.set("Secret shop/s", &[("user", "v")]);
    let wanted = credentials(AuthenticationKind::ClusterTriggerAuthentication, &[secret("username", "s", "user")]);
    assert_eq!(plain(&source).resolve(&wanted, None).unwrap()["username"], "u");
    let restricted = ResolverConfig {
        cluster_object_namespace: "keda".into(),
        restrict_secret_access: true,
        ..ResolverConfig::default()
    };
    let resolver = resolver(&source, restricted);
    assert_eq!(resolver.resolve(&wanted, None).unwrap()["username"], "u");
    let error = resolver.resolve(&own(&[secret("username", "s", "user")]), None).unwrap_err();
    assert!(error.message.contains("KEDA_RESTRICT_SECRET_ACCESS"), "{}", error.message);
}

#[test]
fn env_of_the_target() {
    let source = Arc::new(FakeSource::default());
    source.set("Secret shop/s", &[("TOKEN", "t")]);
    let from = EnvFrom { prefix: "P_".into(), kind: DataKind::Secret, name: "s".into(), optional: false };
    let literal = |value: &str| vec![EnvVar { name: "V".into(), value: EnvValue::Literal(value.into()) }];
    *source.containers.lock().unwrap() = Some(vec![
        Container { name: "main".into(), env_from: vec![from], env: literal("a$(P_TOKEN)") },
        Container { name: "side".into(), env: literal("side"), ..Container::default() },
    ]);
    let resolver = plain(&source);
    let sources = [env("a", "V", None), env("b", "V", Some("side")), env("c", "P_TOKEN", None)];
    let found = resolver.resolve(&own(&sources), None).unwrap();
    assert_eq!([&found["a"], &found["b"], &found["c"]], ["at", "side", "t"]);
    for (wanted, words) in [
        (env("a", "NONE", None), "container main of Deployment shop/web has no variable NONE"),
        (env("a", "V", Some("none")), "Deployment shop/web has no container none"),
    ] {
        let error = resolver.resolve(&own(&[wanted]), None).unwrap_err();
        assert!(error.message.ends_with(words), "{}", error.message);
    }
    // The container that the object selects.
    let mut wanted = own(&[env("a", "V", None)]);
    wanted.env_target.as_mut().unwrap().container = Some("side".into());
    assert_eq!(resolver.resolve(&wanted, None).unwrap()["a"], "side");
    // The first container's Secret is deleted, which affects only reads of that container.
    source.objects.lock().unwrap().clear();
    source.now.store(5_000, Ordering::SeqCst);
    assert_eq!(resolver.resolve(&wanted, None).unwrap()["a"], "side");
    let error = resolver.resolve(&own(&[env("a", "V", None)]), None).unwrap_err();
    assert!(error.message.contains("Secret s does not exist"), "{}", error.message);
}

#[test]
fn files_below_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("sub/good.json"), r#"{"bearerToken":"t","username":"u"}"#).unwrap();
    fs::write(root.join("bad.json"), r#"{"bearerToken":1}"#).unwrap();
    fs::write(folder.path().join("outside.json"), r#"{"a":"b"}"#).unwrap();
    std::os::unix::fs::symlink(root.join("sub/good.json"), root.join("link")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside.json"), root.join("out")).unwrap();
    let source = Arc::new(FakeSource::default());
    source.set("Secret keda/s", &[("k", "v")]);
    let config =
        ResolverConfig { file_root: Some(root), cluster_object_namespace: "keda".into(), ..ResolverConfig::default() };
    let resolver = resolver(&source, config);
    let file = |path: &str| {
        // Replaces earlier sources and ends the list.
        let sources = [secret("x", "s", "k"), ParameterSource::FilePath(path.into()), secret("y", "absent", "k")];
        resolver.resolve(&credentials(AuthenticationKind::ClusterTriggerAuthentication, &sources), None)
    };
    let expected = BTreeMap::from([("bearerToken".to_owned(), "t".to_owned()), ("username".into(), "u".into())]);
    assert_eq!(file("sub/good.json").unwrap(), expected);
    assert_eq!(file("link").unwrap(), expected);
    for (path, words) in [
        ("../outside.json", "without .."),
        ("/etc/hostname", "must be relative"),
        ("", "must be relative"),
        ("out", "out of the configured root"),
        ("absent", "cannot be read: entity not found"),
        ("bad.json", "not a JSON object of strings"),
    ] {
        let error = file(path).unwrap_err();
        assert_eq!(error.class, ErrorClass::Authentication);
        assert!(error.message.contains(words), "{path}: {}", error.message);
    }
    let unset = plain(&source);
    let wanted =
        credentials(AuthenticationKind::ClusterTriggerAuthentication, &[ParameterSource::FilePath("a".into())]);
    assert!(unset.resolve(&wanted, None).unwrap_err().message.contains("--filepath-auth-root-path"));
}
