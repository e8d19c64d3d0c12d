//! Resolves authentication parameters to their values at the time of the poll.
//!
//! Owns the order of sources, the sharing of look-ups and the error texts. If a parameter cannot be resolved, the poll
//! fails instead of running without it. Values appear in no log and no error text.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Good, SharedCache};
use super::env::{self, Container, Data, DataKind};
use super::{Parameters, failed};
use crate::scaling::event::{Credentials, EnvTarget, ErrorClass, PollError};
use crate::scaling::model::{AuthenticationKind, ParameterSource, UnixMillis};
use crate::scaling::secret_store::{Needed, SecretKey, SecretStore, StoredSecret};

/// How long a value or a failure is shared: shorter than any sensible polling interval, so that the next poll uses a
/// rotated Secret, and long enough that 100 triggers that fall due together cause one request.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Upper bound on the bytes of each cache. A Secret usually has 4 KiB, and one of 1 MiB still leaves room for others.
const BYTES_MAX: usize = 16 << 20;

/// What an entry counts for at least, so that a cache has no more than 1,024.
const ENTRY_BYTES_MIN: usize = 16 << 10;

/// After this time no further source is read, since a worker is blocked meanwhile.
const RESOLVE_MAX: Duration = Duration::from_secs(10);

/// Upper bound on the bytes of a credentials file: the largest size of a Secret.
const FILE_MAX: u64 = 1 << 20;

/// Provides Secrets, ConfigMaps, tokens and pod templates. Calls block, with their own time limits.
pub trait SecretSource: Send + Sync {
    /// # Errors
    /// `NotFound` when it does not exist.
    fn secret(&self, namespace: &str, name: &str) -> Result<DataObject, FetchError>;

    /// Reads `data` and `binaryData`.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    fn config_map(&self, namespace: &str, name: &str) -> Result<DataObject, FetchError>;

    /// Requests a token with the API server's default audience and the configured lifetime.
    ///
    /// # Errors
    /// `NotFound` when the service account does not exist.
    fn service_account_token(&self, namespace: &str, service_account: &str) -> Result<BoundToken, FetchError>;

    /// Reads the containers of the target's pod template, in their order; empty if it has none.
    ///
    /// # Errors
    /// `NotFound` when the target does not exist.
    fn containers(&self, target: &EnvTarget) -> Result<Vec<Container>, FetchError>;
}

/// Reads secrets of stores beside the API server. Calls block, with their own time limits.
pub trait StoreSource: Send + Sync {
    /// # Errors
    /// Why there is no value, in words that hold no secret.
    fn read(&self, question: &StoreQuestion<'_>) -> Result<String, PollError>;
}

/// A secret that a store is asked for. No `Debug`: it holds secrets.
pub struct StoreQuestion<'a> {
    pub store: &'a SecretStore,
    pub secret: &'a StoredSecret,
    /// What [`SecretStore::needs`] asks for, in its order.
    pub proofs: Vec<String>,
    /// The authentication, for errors.
    pub named: &'a str,
    /// The namespace that asks.
    pub namespace: &'a str,
}

/// A Secret or ConfigMap. No `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct DataObject {
    /// Decoded. Shared, since it may have a megabyte.
    pub data: Arc<Data>,
    pub resource_version: String,
}

impl DataObject {
    /// Returns about how many bytes it takes.
    fn bytes(&self) -> usize {
        let pairs = self.data.iter().map(|(key, value)| size_of::<(String, Vec<u8>)>() + key.len() + value.len());
        pairs.sum()
    }
}

#[derive(Clone)]
pub struct BoundToken {
    pub token: String,
    pub expires_at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    pub kind: FetchErrorKind,
    /// The API server's own text. Equal faults have equal texts.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    NotFound,
    /// Such as a missing right, or a network fault.
    Other,
}

pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

#[derive(Clone, Debug, Default)]
pub struct ResolverConfig {
    /// Where the references of a ClusterTriggerAuthentication are looked up.
    pub cluster_object_namespace: String,
    /// `--filepath-auth-root-path`
    pub file_root: Option<PathBuf>,
    /// `KEDA_RESTRICT_SECRET_ACCESS`: Secrets only of the cluster object namespace.
    pub restrict_secret_access: bool,
}

type Name = (String, String);
type Shared<K, V> = SharedCache<K, Result<Arc<V>, FetchError>>;

/// Resolves credentials, for all threads.
pub struct Resolver {
    source: Arc<dyn SecretSource>,
    config: ResolverConfig,
    clock: Clock,
    data: Shared<(DataKind, Name), DataObject>,
    tokens: Shared<Name, BoundToken>,
    containers: Shared<EnvTarget, Vec<Container>>,
}

impl Resolver {
    #[must_use]
    pub fn new(source: Arc<dyn SecretSource>, config: ResolverConfig, clock: Clock) -> Self {
        let data = SharedCache::new(BYTES_MAX, |found| weight(found, DataObject::bytes));
        let tokens = SharedCache::new(BYTES_MAX, |found| weight(found, |token: &BoundToken| token.token.len()));
        let containers = SharedCache::new(BYTES_MAX, |found| {
            weight(found, |containers: &Vec<Container>| containers.iter().map(Container::bytes).sum())
        });
        Self { source, config, clock, data, tokens, containers }
    }

    /// Returns all parameters; a later source overrides an earlier one. Without `stores` their secrets are missing.
    ///
    /// # Errors
    /// Class `Authentication`, naming the parameter, the authentication and what is missing.
    pub fn resolve(
        &self,
        credentials: &Credentials,
        stores: Option<&dyn StoreSource>,
    ) -> Result<Parameters, PollError> {
        let namespace = match credentials.namespace.as_str() {
            "" => self.config.cluster_object_namespace.as_str(),
            namespace => namespace,
        };
        let named = || match &credentials.authentication {
            Some(authentication) => authentication.to_string(),
            None => "the trigger's metadata".to_owned(),
        };
        let mut parameters = Parameters::new();
        // Reported only at the end, since a later source may have what an earlier one lacks. The reverse is an error at
        // once, since the later source was meant to override.
        let mut missing: BTreeMap<&str, String> = BTreeMap::new();
        let ends_at = Instant::now() + RESOLVE_MAX;
        for source in credentials.sources.iter() {
            if Instant::now() > ends_at {
                let message = format!("parameters of {}: {}", named(), too_late());
                return Err(failed(ErrorClass::Authentication, message));
            }
            let (parameter, value) = match source {
                ParameterSource::FilePath(path) => {
                    return self.file(credentials, path).map_err(|why| {
                        failed(ErrorClass::Authentication, format!("filePath {path} of {}: {why}", named()))
                    });
                }
                ParameterSource::Env { parameter, name, container } => {
                    (parameter, self.variable(credentials, container.as_deref(), name, ends_at))
                }
                ParameterSource::ConfigMap { parameter, name, key } => {
                    (parameter, self.key(DataKind::ConfigMap, namespace, name, key))
                }
                ParameterSource::Secret { parameter, name, key } => {
                    (parameter, self.key(DataKind::Secret, namespace, name, key))
                }
                ParameterSource::Value { parameter, value } => (parameter, Ok(value.clone())),
                ParameterSource::BoundServiceAccountToken { parameter, service_account } => {
                    (parameter, self.token(namespace, service_account))
                }
                ParameterSource::Store { parameter, store, secret } => {
                    (parameter, self.stored((namespace, credentials.asker()), store, secret, &named(), stores))
                }
            };
            match value {
                Ok(value) => {
                    missing.remove(parameter.as_str());
                    parameters.insert(parameter.clone(), value);
                }
                Err(why) => {
                    missing.insert(parameter, why);
                }
            }
        }
        match missing.first_key_value() {
            None => Ok(parameters),
            Some((parameter, why)) => {
                Err(failed(ErrorClass::Authentication, format!("parameter {parameter} of {}: {why}", named())))
            }
        }
    }

    fn key(&self, kind: DataKind, namespace: &str, name: &str, key: &str) -> Result<String, String> {
        let label = kind.name();
        let object =
            self.object(kind, namespace, name)?.ok_or_else(|| format!("{label} {namespace}/{name} does not exist"))?;
        let value = object.data.get(key).ok_or_else(|| format!("{label} {namespace}/{name} has no key {key}"))?;
        String::from_utf8(value.clone()).map_err(|_| format!("{label} {namespace}/{name}: key {key} is not text"))
    }

    fn stored(
        &self,
        (namespace, asker): (&str, &str),
        store: &SecretStore,
        secret: &StoredSecret,
        named: &str,
        stores: Option<&dyn StoreSource>,
    ) -> Result<String, String> {
        let proof = |needed| match needed {
            Needed::Secret(SecretKey { name, key }) => self.key(DataKind::Secret, namespace, name, key),
            Needed::Token(account) => self.token(namespace, account),
        };
        let proofs = store.needs().into_iter().map(proof).collect::<Result<_, _>>()?;
        let stores = stores.ok_or_else(|| format!("{store} is not asked here"))?;
        stores.read(&StoreQuestion { store, secret, proofs, named, namespace: asker }).map_err(|error| error.message)
    }

    fn object(&self, kind: DataKind, namespace: &str, name: &str) -> Result<Option<Arc<DataObject>>, String> {
        let restricted = self.config.restrict_secret_access && kind == DataKind::Secret;
        if restricted && namespace != self.config.cluster_object_namespace {
            return Err(format!("Secret {namespace}/{name} may not be read (KEDA_RESTRICT_SECRET_ACCESS)"));
        }
        let key = (kind, (namespace.to_owned(), name.to_owned()));
        let found = self.data.get(&key, namespace, &*self.clock, |_| {
            let result = match kind {
                DataKind::Secret => self.source.secret(namespace, name),
                DataKind::ConfigMap => self.source.config_map(namespace, name),
            };
            (result.map(Arc::new), Good::For(SHARED_FOR))
        });
        present(found, || format!("{} {namespace}/{name}", kind.name()))
    }

    fn token(&self, namespace: &str, service_account: &str) -> Result<String, String> {
        let key = (namespace.to_owned(), service_account.to_owned());
        let found = self.tokens.get(&key, namespace, &*self.clock, |from| {
            match self.source.service_account_token(namespace, service_account) {
                Ok(token) => {
                    // Renewed with a fifth of its lifetime left, as the kubelet does, so that a short outage of the API
                    // server does no harm.
                    let until = from.plus(token.expires_at.since(from) * 4 / 5);
                    (Ok(Arc::new(token)), Good::Until(until))
                }
                Err(error) => (Err(error), Good::For(SHARED_FOR)),
            }
        });
        let label = || format!("ServiceAccount {namespace}/{service_account}");
        let token = present(found, label)?.ok_or_else(|| format!("{} does not exist", label()))?;
        Ok(token.token.clone())
    }

    /// After `ends_at` nothing more is looked up.
    fn variable(
        &self,
        credentials: &Credentials,
        container: Option<&str>,
        name: &str,
        ends_at: Instant,
    ) -> Result<String, String> {
        let Some(target) = &credentials.env_target else {
            return Err(format!("variable {name}: the scale target has no containers to take it from"));
        };
        let label = || format!("{} {}/{}", target.gvkr.kind, target.namespace, target.name);
        let found = self.containers.get(target, &target.namespace, &*self.clock, |_| {
            (self.source.containers(target).map(Arc::new), Good::For(SHARED_FOR))
        });
        let containers = present(found, label)?.ok_or_else(|| format!("{} does not exist", label()))?;
        let wanted = container.or(target.container.as_deref()).filter(|wanted| !wanted.is_empty());
        let container = match wanted {
            Some(wanted) => containers.iter().find(|container| container.name == wanted),
            None => containers.first(),
        };
        let container = container.ok_or_else(|| match wanted {
            Some(wanted) => format!("{} has no container {wanted}", label()),
            None => format!("{} has no containers", label()),
        })?;
        let variables = env::variables(container, |kind, name| {
            if Instant::now() > ends_at {
                return Err(format!("its Secrets and ConfigMaps: {}", too_late()));
            }
            Ok(self.object(kind, &target.namespace, name)?.map(|object| Arc::clone(&object.data)))
        })
        .map_err(|why| format!("container {} of {}: {why}", container.name, label()))?;
        let missing = || format!("container {} of {} has no variable {name}", container.name, label());
        variables.get(name).cloned().ok_or_else(missing)
    }

    fn file(&self, credentials: &Credentials, path: &str) -> Result<Parameters, String> {
        let kind = credentials.authentication.as_ref().map(|authentication| authentication.kind);
        if kind != Some(AuthenticationKind::ClusterTriggerAuthentication) {
            return Err("only a ClusterTriggerAuthentication may use filePath".to_owned());
        }
        let root = self.config.file_root.as_deref().ok_or("no --filepath-auth-root-path is configured")?;
        read_parameters(root, Path::new(path))
    }
}

fn too_late() -> String {
    format!("the API server did not give them within {} s", RESOLVE_MAX.as_secs())
}

/// Returns for how many bytes a found value or a failure counts.
fn weight<V>(found: &Result<Arc<V>, FetchError>, bytes: impl Fn(&V) -> usize) -> usize {
    let bytes = match found {
        Ok(value) => bytes(value),
        Err(error) => error.message.len(),
    };
    bytes.max(ENTRY_BYTES_MIN)
}

/// Returns `None` if the file does not exist.
fn present<V>(found: Option<Result<Arc<V>, FetchError>>, label: impl Fn() -> String) -> Result<Option<Arc<V>>, String> {
    match found {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(error)) if error.kind == FetchErrorKind::NotFound => Ok(None),
        Some(Err(error)) => Err(format!("{} cannot be read: {}", label(), error.message)),
        None => Err(format!("{} cannot be read: the API server does not answer", label())),
    }
}

fn read_parameters(root: &Path, path: &Path) -> Result<Parameters, String> {
    if !path.components().all(|part| matches!(part, Component::Normal(_))) || path.as_os_str().is_empty() {
        return Err("it must be relative and without ..".to_owned());
    }
    let read = |error: std::io::Error| format!("it cannot be read: {}", error.kind());
    let root = root.canonicalize().map_err(read)?;
    // Mounted Secrets are links within the mount; links that lead out of the root are not followed.
    let full = root.join(path).canonicalize().map_err(read)?;
    if !full.starts_with(&root) {
        return Err("it leads out of the configured root".to_owned());
    }
    let mut bytes = Vec::new();
    fs::File::open(full).map_err(read)?.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(format!("it is larger than {} KiB", FILE_MAX >> 10));
    }
    // serde_json's own message may quote the content.
    serde_json::from_slice(&bytes).map_err(|_| "it is not a JSON object of strings".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use super::*;
    use crate::polling::env::{EnvValue, EnvVar};
    use crate::scaling::model::Gvkr;

    /// Gives Secrets of this size.
    struct Sized {
        bytes: usize,
        containers: Vec<Container>,
        asked: AtomicUsize,
    }

    impl SecretSource for Sized {
        fn secret(&self, _: &str, _: &str) -> Result<DataObject, FetchError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let data = Data::from([("k".to_owned(), vec![b'x'; self.bytes])]);
            Ok(DataObject { data: Arc::new(data), resource_version: String::new() })
        }

        fn config_map(&self, namespace: &str, name: &str) -> Result<DataObject, FetchError> {
            self.secret(namespace, name)
        }

        fn service_account_token(&self, _: &str, _: &str) -> Result<BoundToken, FetchError> {
            Err(FetchError { kind: FetchErrorKind::NotFound, message: String::new() })
        }

        fn containers(&self, _: &EnvTarget) -> Result<Vec<Container>, FetchError> {
            Ok(self.containers.clone())
        }
    }

    /// Takes five seconds for each answer, by the clock of the resolver.
    #[derive(Default)]
    struct Slow {
        now: Arc<AtomicI64>,
        asked: AtomicUsize,
    }

    impl Slow {
        fn answer<T>(&self) -> Result<T, FetchError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.now.fetch_add(5_000, Ordering::SeqCst);
            Err(FetchError { kind: FetchErrorKind::Other, message: "busy".to_owned() })
        }
    }

    impl SecretSource for Slow {
        fn secret(&self, _: &str, name: &str) -> Result<DataObject, FetchError> {
            let failed = self.answer();
            if name == "good" { Ok(DataObject::default()) } else { failed }
        }

        fn config_map(&self, _: &str, _: &str) -> Result<DataObject, FetchError> {
            self.answer()
        }

        fn service_account_token(&self, _: &str, _: &str) -> Result<BoundToken, FetchError> {
            self.answer()
        }

        fn containers(&self, _: &EnvTarget) -> Result<Vec<Container>, FetchError> {
            self.answer()
        }
    }

    /// Regression: what took more than a second to read had expired when it came, so that all who waited read it anew.
    #[test]
    fn what_is_slow_to_read_is_shared_too() {
        let source = Arc::new(Slow::default());
        let now = Arc::clone(&source.now);
        let clock: Clock = Arc::new(move || UnixMillis(now.load(Ordering::SeqCst)));
        let resolver = Resolver::new(Arc::clone(&source) as _, ResolverConfig::default(), clock);
        for asked in 1..=4 {
            let ask = || match asked {
                1 => resolver.key(DataKind::Secret, "shop", "good", "k"),
                2 => resolver.key(DataKind::Secret, "shop", "bad", "k"),
                3 => resolver.key(DataKind::ConfigMap, "shop", "bad", "k"),
                _ => resolver.token("shop", "bad"),
            };
            assert_eq!((ask().is_err(), ask().is_err()), (true, true));
            assert_eq!(source.asked.load(Ordering::SeqCst), asked);
        }
    }

    /// Regression: the variables of one container were read for as long as it took.
    #[test]
    fn a_container_is_not_read_for_longer_than_all_parameters() {
        let env = (0..3).map(|n| EnvVar {
            name: "V".to_owned(),
            value: EnvValue::Key { kind: DataKind::Secret, name: n.to_string(), key: "k".to_owned(), optional: false },
        });
        let containers = vec![Container { name: "main".to_owned(), env: env.collect(), ..Container::default() }];
        let source = Arc::new(Sized { bytes: 4, containers, asked: AtomicUsize::new(0) });
        let resolver = Resolver::new(Arc::clone(&source) as _, ResolverConfig::default(), Arc::new(|| UnixMillis(0)));
        let target = EnvTarget {
            gvkr: Gvkr { kind: "Deployment".to_owned(), ..Gvkr::default() }.into(),
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            container: None,
        };
        let credentials = Credentials {
            authentication: None,
            resource_version: String::new(),
            namespace: "shop".to_owned(),
            sources: Arc::default(),
            pod_identity: None,
            env_target: Some(target),
            servers: None,
        };
        let now = Instant::now();
        let late = resolver.variable(&credentials, None, "V", now.checked_sub(Duration::from_millis(1)).unwrap());
        let words = "container main of Deployment shop/web: its Secrets and ConfigMaps: the API server did not give them within 10 s";
        assert_eq!((late.unwrap_err().as_str(), source.asked.load(Ordering::SeqCst)), (words, 0));
        assert_eq!(resolver.variable(&credentials, None, "V", now + RESOLVE_MAX).as_deref(), Ok("xxxx"));
    }

    /// Regression: a thousand Secrets of 1 MiB were kept at once.
    #[test]
    fn many_secrets_are_kept_but_few_large_ones() {
        for (bytes, kept) in [(4 << 10, true), (1 << 20, false)] {
            let source = Arc::new(Sized { bytes, containers: Vec::new(), asked: AtomicUsize::new(0) });
            let clock: Clock = Arc::new(|| UnixMillis(0));
            let resolver = Resolver::new(Arc::clone(&source) as _, ResolverConfig::default(), clock);
            let ask = |name: usize| {
                let before = source.asked.load(Ordering::SeqCst);
                assert_eq!(resolver.key(DataKind::Secret, "shop", &name.to_string(), "k").unwrap().len(), bytes);
                source.asked.load(Ordering::SeqCst) > before
            };
            assert!((0..40).all(ask));
            assert!(!ask(39));
            let again = (0..40).filter(|name| ask(*name)).count();
            assert_eq!(again == 0, kept, "{again} Secrets of {bytes} bytes were fetched again");
        }
    }
}
