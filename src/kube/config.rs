//! The API server's address, the CAs to trust, and the credentials: from a kubeconfig or from the pod.
//!
//! Owns the reading of the files that `kubeconfig` names, and turns them into TLS settings and a credential. Every
//! mistake is found here, before the first request, and all are reported at once.
//! Must not connect to anything, or print a key or a token.

use std::env;
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use log::warn;
use rustls::pki_types::ServerName;

use super::credential::Credential;
use super::credential_plugin::Plugin;
use super::kubeconfig::{self, Material, Selected, Text};
use super::tls::{self, Roots};
use crate::outbound::tls::{TlsCell, TlsSettings};

/// Where the kubelet mounts the service account.
const SERVICE_ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Trusted if a kubeconfig names no CA: the bundles of Debian and Alpine, Fedora, SUSE.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

const NO_PLUGINS: &str =
    "credential plugins are not run; use a service account token (kubectl create token) or a client certificate";

/// An API server, and everything needed to connect to it.
pub struct ClusterConfig {
    /// `scheme://host[:port][/base]`, without a slash at the end.
    pub(super) server: String,
    /// None for `http://`.
    pub(super) tls: Option<TlsCell>,
    pub(super) credential: Credential,
    pub(super) proxy: Option<ureq::Proxy>,
    namespace: Option<String>,
    source: Source,
    /// Hash of the bytes from which `tls` was made.
    tls_hash: AtomicU64,
}

/// The kubeconfig of a person: files of which each adds to those before, and the context to use instead of the current one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubeconfig {
    pub files: Vec<PathBuf>,
    pub context: Option<String>,
}

/// Where a configuration came from.
enum Source {
    Kubeconfig(Kubeconfig),
    /// The folder of the service account.
    Pod(PathBuf),
}

/// All mistakes in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<String>,
}

impl ClusterConfig {
    /// Reads `--kubeconfig FILE` if given, else the pod's service account.
    pub fn load(kubeconfig: Option<&Path>) -> Result<Self, ConfigError> {
        match kubeconfig {
            Some(path) => Self::from_kubeconfig(path),
            None => Self::in_cluster(),
        }
    }

    /// A server without TLS or credentials, for tests of what uses a client.
    #[cfg(test)]
    pub(crate) fn of_server(address: std::net::SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'http://{address}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
        );
        std::fs::write(&path, text).expect("a file");
        Self::from_kubeconfig(&path).expect("a valid kubeconfig")
    }

    pub fn from_kubeconfig(path: &Path) -> Result<Self, ConfigError> {
        Self::from_selected(Kubeconfig { files: vec![path.to_owned()], context: None }, false)
    }

    /// Reads the kubeconfig of a person, else the pod's service account. Runs the credential plugin that it names, which a
    /// daemon does not: it has no person to ask, and its image no other program.
    pub fn of_person(kubeconfig: Option<&Kubeconfig>) -> Result<Self, ConfigError> {
        match kubeconfig {
            Some(kubeconfig) => Self::from_selected(kubeconfig.clone(), true),
            None => Self::in_cluster(),
        }
    }

    /// Reads the files for TLS to the API server, its CA and the client certificate, again, and uses them from the next
    /// handshake on if they have changed; returns true in that case. Token files are reread elsewhere.
    pub fn reread_tls(&self) -> Result<bool, ConfigError> {
        let Some(cell) = &self.tls else { return Ok(false) };
        let mut problems = Vec::new();
        let (settings, hash) = match &self.source {
            Source::Pod(folder) => pod_tls(folder, &mut problems),
            Source::Kubeconfig(kubeconfig) => {
                let selected = select(kubeconfig)?;
                // Hashed first, so that a change in between is noticed the next time.
                let hash = hash_of(&selected);
                (read_tls(&selected, &kubeconfig.to_string(), &mut problems), hash)
            }
        };
        let Some(settings) = settings.filter(|_| problems.is_empty()) else {
            return Err(ConfigError { problems });
        };
        let has_changed = self.tls_hash.swap(hash, Ordering::Relaxed) != hash;
        if has_changed {
            cell.replace(settings);
        }
        Ok(has_changed)
    }

    pub fn in_cluster() -> Result<Self, ConfigError> {
        Self::in_cluster_at(Path::new(SERVICE_ACCOUNT_FOLDER), &|name| env::var(name).ok())
    }

    /// Like `in_cluster`, with the given folder and environment.
    pub fn in_cluster_at(folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut variable = |name: &str| {
            let value = env(name).filter(|v| !v.is_empty());
            if value.is_none() {
                problems.push(format!("{name} is not set; outside a pod, pass --kubeconfig FILE"));
            }
            value.unwrap_or_default()
        };
        let host = variable("KUBERNETES_SERVICE_HOST");
        let port = variable("KUBERNETES_SERVICE_PORT");
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let server =
            if bare.contains(':') { format!("https://[{bare}]:{port}") } else { format!("https://{bare}:{port}") };
        if problems.is_empty()
            && let Err(what) = kubeconfig::check_server(&server)
        {
            problems.push(format!("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: {what}"));
        }
        let (tls, tls_hash) = pod_tls(folder, &mut problems);
        let token = folder.join("token");
        let credential =
            Credential::file(token.clone(), Instant::now()).map_err(|what| format!("{}: {what}", token.display()));
        let credential = noted(&mut problems, credential);
        // Only a default for objects to be created; its absence is no reason to fail at the start.
        let namespace = fs::read_to_string(folder.join("namespace")).ok();
        let (Some(tls), Some(credential), true) = (tls, credential, problems.is_empty()) else {
            return Err(ConfigError { problems });
        };
        Ok(ClusterConfig {
            server,
            tls: Some(TlsCell::new(tls)),
            credential,
            proxy: None,
            namespace: namespace.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()),
            source: Source::Pod(folder.to_owned()),
            tls_hash: AtomicU64::new(tls_hash),
        })
    }

    fn from_selected(kubeconfig: Kubeconfig, runs_plugins: bool) -> Result<Self, ConfigError> {
        let mut selected = select(&kubeconfig)?;
        let file = &kubeconfig.to_string();
        let mut problems = Vec::new();
        let cluster = format!("{file}: clusters[{}].cluster", selected.cluster_name);
        let user = format!("{file}: users[{}].user", selected.user_name);
        let plugin = selected.exec.take().map(|exec| match runs_plugins {
            true => Plugin::start(exec, &selected).map_err(|what| format!("{user}.exec: {what}")),
            false => Err(format!("{user}.exec: {NO_PLUGINS}")),
        });
        let credential = match plugin {
            None => noted(&mut problems, read_credential(&selected, &user)),
            Some(plugin) => noted(&mut problems, plugin).map(|(plugin, certificate)| {
                (selected.client_certificate, selected.client_key) = certificate;
                Credential::Plugin(plugin)
            }),
        };
        let proxy = match selected.proxy_url.as_deref().map(ureq::Proxy::new) {
            None => None,
            Some(proxy) => noted(&mut problems, proxy.map_err(|_| format!("{cluster}.proxy-url: not a proxy url"))),
        };
        let secure = selected.server.starts_with("https://");
        let tls_hash = AtomicU64::new(hash_of(&selected));
        let tls = if secure { read_tls(&selected, file, &mut problems).map(TlsCell::new) } else { None };
        let (Some(credential), true) = (credential, problems.is_empty()) else {
            return Err(ConfigError { problems });
        };
        if !secure && !matches!(credential, Credential::None) {
            warn!(server:% = selected.server; "credentials travel unencrypted to an http:// server");
        }
        if selected.insecure_skip_tls_verify {
            warn!(server:% = selected.server; "insecure-skip-tls-verify: anybody can pose as the api server");
        }
        Ok(ClusterConfig {
            server: selected.server,
            tls,
            credential,
            proxy,
            namespace: selected.namespace,
            source: Source::Kubeconfig(kubeconfig),
            tls_hash,
        })
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of the context or of the pod.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Where the configuration came from, for the start-up log.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Kubeconfig(kubeconfig) => kubeconfig.to_string(),
            Source::Pod(_) => "in-cluster service account".to_owned(),
        }
    }
}

fn select(kubeconfig: &Kubeconfig) -> Result<Selected, ConfigError> {
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for path in &kubeconfig.files {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(content) => {
                texts.push(Text { name, folder: path.parent().unwrap_or(Path::new(".")).to_owned(), content });
            }
            // As for kubectl, one of several may be missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && kubeconfig.files.len() > 1 => {}
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    if texts.is_empty() && problems.is_empty() {
        problems.push(format!("{kubeconfig}: there is no kubeconfig"));
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    kubeconfig::parse(&texts, kubeconfig.context.as_deref()).map_err(|problems| ConfigError { problems })
}

impl From<&str> for Kubeconfig {
    /// Reads a list of files, as the variable KUBECONFIG has them.
    fn from(list: &str) -> Self {
        let files = env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect();
        Self { files, context: None }
    }
}

impl Kubeconfig {
    /// Reads the namespace of the context, which is `default` if that names none; None if there is no such context.
    #[must_use]
    pub fn namespace(&self) -> Option<String> {
        Some(select(self).ok()?.namespace.unwrap_or_else(|| "default".to_owned()))
    }
}

impl fmt::Display for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.files.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&names.join(", "))
    }
}

/// Returns a hash of everything that the TLS settings depend on. An unreadable file counts as empty here: reading it
/// for use will report that.
fn hash_of(selected: &Selected) -> u64 {
    let mut hasher = DefaultHasher::new();
    for material in [&selected.certificate_authority, &selected.client_certificate, &selected.client_key] {
        match material {
            None => 0.hash(&mut hasher),
            Some(Material::Inline(bytes)) => bytes.hash(&mut hasher),
            Some(Material::File(path)) => fs::read(path).unwrap_or_default().hash(&mut hasher),
        }
    }
    (&selected.tls_server_name, selected.insecure_skip_tls_verify).hash(&mut hasher);
    hasher.finish()
}

/// Reads the CA of the pod's service account; also returns the hash of its bytes.
fn pod_tls(folder: &Path, problems: &mut Vec<String>) -> (Option<TlsSettings>, u64) {
    let path = folder.join("ca.crt");
    let in_file = |what: String| format!("{}: {what}", path.display());
    let Some(pem) = noted(problems, fs::read(&path).map_err(|error| in_file(error.to_string()))) else {
        return (None, 0);
    };
    let mut hasher = DefaultHasher::new();
    pem.hash(&mut hasher);
    let settings = tls::read_roots(&pem)
        .and_then(|roots| tls::client_config(Roots::Store(roots), None).map_err(|error| error.to_string()))
        .map(|config| TlsSettings { config, server_name: None });
    (noted(problems, settings.map_err(in_file)), hasher.finish())
}

fn read_credential(selected: &Selected, user: &str) -> Result<Credential, String> {
    if let Some(path) = &selected.token_file {
        return Credential::file(path.clone(), Instant::now())
            .map_err(|what| format!("{user}.tokenFile: {}: {what}", path.display()));
    }
    if let Some(token) = &selected.token {
        return Credential::token(token).map_err(|what| format!("{user}.token: {what}"));
    }
    if let Some((name, password)) = &selected.basic {
        return Credential::basic(name, password).map_err(|what| format!("{user}.username: {what}"));
    }
    Ok(Credential::None)
}

fn read_tls(selected: &Selected, file: &str, problems: &mut Vec<String>) -> Option<TlsSettings> {
    let cluster = format!("{file}: clusters[{}].cluster", selected.cluster_name);
    let user = format!("{file}: users[{}].user", selected.user_name);
    let roots = noted(problems, pick_roots(selected, &cluster));
    let chain = selected.client_certificate.as_ref().map(|material| {
        let field = format!("{user}.client-certificate");
        read_material(material, &field, crate::tls::certificates)
    });
    let key = selected.client_key.as_ref().map(|material| {
        let field = format!("{user}.client-key");
        read_material(material, &field, tls::read_key)
    });
    let chain = chain.and_then(|chain| noted(problems, chain));
    let key = key.and_then(|key| noted(problems, key));
    let server_name = match &selected.tls_server_name {
        None => None,
        Some(name) => noted(
            problems,
            ServerName::try_from(name.clone())
                .map_err(|_| format!("{cluster}.tls-server-name: {name:?} is not a dns name or address")),
        ),
    };
    let config = tls::client_config(roots?, chain.zip(key)).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{user}.client-key: does not belong to client-certificate")
        }
        other => format!("{user}.client-certificate: {other}"),
    });
    Some(TlsSettings { config: noted(problems, config)?, server_name })
}

fn pick_roots(selected: &Selected, cluster: &str) -> Result<Roots, String> {
    if selected.insecure_skip_tls_verify {
        return Ok(Roots::Anybody);
    }
    if let Some(material) = &selected.certificate_authority {
        let field = format!("{cluster}.certificate-authority");
        return read_material(material, &field, tls::read_roots).map(Roots::Store);
    }
    for bundle in SYSTEM_BUNDLES {
        if let Ok(pem) = fs::read(bundle) {
            let store = tls::read_system_roots(&pem);
            if !store.is_empty() {
                return Ok(Roots::Store(store));
            }
        }
    }
    Err(format!("{cluster}.certificate-authority: missing, and this system has no bundle of its own"))
}

fn read_material<T>(material: &Material, field: &str, parse: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    match material {
        Material::Inline(bytes) => parse(bytes).map_err(|what| format!("{field}-data: {what}")),
        Material::File(path) => {
            let in_file = |what: String| format!("{field}: {}: {what}", path.display());
            let bytes = fs::read(path).map_err(|error| in_file(error.to_string()))?;
            parse(&bytes).map_err(in_file)
        }
    }
}

/// Returns the value, or records the problem so that the search for others continues.
fn noted<T>(problems: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proxy URL may hold a password and the TLS settings a key.
        f.debug_struct("ClusterConfig")
            .field("server", &self.server)
            .field("credential", &self.credential)
            .field("proxy", &self.proxy.is_some())
            .field("namespace", &self.namespace)
            .field("origin", &self.origin())
            .finish()
    }
}
