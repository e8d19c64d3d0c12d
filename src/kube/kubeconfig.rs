//! Reads the text of a kubeconfig, which may be spread over files, and selects what its current context names.
//!
//! Owns the file format, and one clear problem for each wrong field, all at once.
//! Must not open files (certificates and tokens stay paths here) or print a field that may be secret. `config` reads
//! the files and builds the TLS settings.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::formats::url::Url;

/// What the current context of a kubeconfig says; other files are not read yet.
#[derive(Default)]
pub(super) struct Selected {
    pub(super) cluster_name: String,
    pub(super) user_name: String,
    pub(super) namespace: Option<String>,
    pub(super) server: String,
    pub(super) certificate_authority: Option<Material>,
    pub(super) tls_server_name: Option<String>,
    pub(super) insecure_skip_tls_verify: bool,
    pub(super) proxy_url: Option<String>,
    pub(super) client_certificate: Option<Material>,
    pub(super) client_key: Option<Material>,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) basic: Option<(String, String)>,
    pub(super) exec: Option<Exec>,
}

/// A credential plugin, as `users[].user.exec` names it.
#[derive(Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Exec {
    pub(super) api_version: String,
    pub(super) command: String,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<ExecVariable>>,
    pub(super) provide_cluster_info: bool,
    pub(super) install_hint: String,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub(super) struct ExecVariable {
    pub(super) name: String,
    pub(super) value: String,
}

/// One file.
pub(super) struct Text {
    pub(super) name: String,
    /// What relative paths in it are relative to.
    pub(super) folder: PathBuf,
    pub(super) content: String,
}

/// Bytes in the kubeconfig itself, or in a file that it names.
pub(super) enum Material {
    Inline(Vec<u8>),
    File(PathBuf),
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    current_context: String,
    clusters: Option<Vec<NamedCluster>>,
    contexts: Option<Vec<NamedContext>>,
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default)]
    cluster: Option<Cluster>,
    /// Which of the files has it.
    #[serde(skip)]
    at: usize,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default)]
    context: Option<Context>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Option<User>,
    /// Which of the files has it.
    #[serde(skip)]
    at: usize,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    proxy_url: Option<String>,
}

/// `tokenFile` is the only key of the format that is not in kebab case.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<Exec>,
    auth_provider: Option<serde::de::IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
}

/// The location of a problem: file, list, entry.
struct Place<'a> {
    file: &'a str,
    entry: String,
}

impl Place<'_> {
    fn problem(&self, field: &str, what: &str) -> String {
        format!("{}: {}.{field}: {what}", self.file, self.entry)
    }
}

/// Parses YAML or JSON. Of what several files have, the first counts, as for kubectl. Without `context` it is the current
/// one.
pub(super) fn parse(texts: &[Text], context: Option<&str>) -> Result<Selected, Vec<String>> {
    let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();
    let file = names.join(", ");
    let parsed = merged(texts)?;
    let mut problems = Vec::new();
    let mut selected = Selected::default();

    let Some(context) = pick_context(&parsed, context, &file, &mut problems) else {
        return Err(problems);
    };
    selected.namespace = non_empty(context.namespace.as_deref());
    if let Some(namespace) = &selected.namespace
        && namespace.contains(['/', '%'])
    {
        problems.push(format!("{file}: contexts[].namespace: {namespace:?} is not a name"));
    }

    let clusters = parsed.clusters.as_deref().unwrap_or_default();
    match clusters.iter().find(|c| c.name == context.cluster) {
        Some(entry) => {
            let text = &texts[entry.at];
            let place = Place { file: &text.name, entry: format!("clusters[{}].cluster", entry.name) };
            match &entry.cluster {
                Some(cluster) => {
                    read_cluster(cluster, &place, &text.folder, &mut selected, &mut problems);
                }
                None => problems.push(place.problem("server", "missing")),
            }
            selected.cluster_name.clone_from(&entry.name);
        }
        None => problems.push(format!(
            "{file}: the current context names the cluster {:?}, which is not under clusters",
            context.cluster
        )),
    }

    let users = parsed.users.as_deref().unwrap_or_default();
    match users.iter().find(|u| u.name == context.user) {
        Some(entry) => {
            let text = &texts[entry.at];
            let place = Place { file: &text.name, entry: format!("users[{}].user", entry.name) };
            if let Some(user) = &entry.user {
                read_user(user, &place, &text.folder, &mut selected, &mut problems);
            }
            selected.user_name.clone_from(&entry.name);
        }
        // A context without a user is anonymous, as for kubectl.
        None if context.user.is_empty() => {}
        None => problems
            .push(format!("{file}: the current context names the user {:?}, which is not under users", context.user)),
    }

    if problems.is_empty() { Ok(selected) } else { Err(problems) }
}

fn merged(texts: &[Text]) -> Result<File, Vec<String>> {
    let mut whole = File::default();
    let mut problems = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let file = match decode(&text.content) {
            Ok(file) => file,
            Err(problem) => {
                problems.push(format!("{}: {problem}", text.name));
                continue;
            }
        };
        if whole.current_context.is_empty() {
            whole.current_context = file.current_context;
        }
        let clusters = file.clusters.unwrap_or_default().into_iter().map(|entry| NamedCluster { at, ..entry });
        whole.clusters.get_or_insert_default().extend(clusters);
        whole.contexts.get_or_insert_default().extend(file.contexts.unwrap_or_default());
        let users = file.users.unwrap_or_default().into_iter().map(|entry| NamedUser { at, ..entry });
        whole.users.get_or_insert_default().extend(users);
    }
    if problems.is_empty() { Ok(whole) } else { Err(problems) }
}

/// JSON is parsed as such: the errors are better, and some of JSON's escapes are not YAML.
fn decode(text: &str) -> Result<File, String> {
    if text.trim().is_empty() {
        return Err("the file is empty".to_owned());
    }
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("not a kubeconfig: {error}"));
    }
    // Without snippets, since the lines around a mistake may contain a key or a token.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| format!("not a kubeconfig: {error}"))
}

fn pick_context<'a>(
    parsed: &'a File,
    wanted: Option<&str>,
    file: &str,
    problems: &mut Vec<String>,
) -> Option<&'a Context> {
    let name = wanted.unwrap_or(&parsed.current_context);
    if name.is_empty() {
        problems.push(format!("{file}: current-context: missing; set one with kubectl config use-context"));
        return None;
    }
    let contexts = parsed.contexts.as_deref().unwrap_or_default();
    let entry = contexts.iter().find(|c| c.name == name);
    let Some(context) = entry.and_then(|c| c.context.as_ref()) else {
        let field = if wanted.is_some() { "--context" } else { "current-context" };
        problems.push(format!("{file}: {field}: {name:?} is not under contexts"));
        return None;
    };
    if context.cluster.is_empty() {
        problems.push(format!("{file}: contexts[{name}].context.cluster: missing"));
        return None;
    }
    Some(context)
}

fn read_cluster(
    cluster: &Cluster,
    place: &Place<'_>,
    folder: &Path,
    selected: &mut Selected,
    problems: &mut Vec<String>,
) {
    match non_empty(cluster.server.as_deref()) {
        Some(server) => match check_server(&server) {
            Ok(server) => selected.server = server,
            Err(what) => problems.push(place.problem("server", &what)),
        },
        None => problems.push(place.problem("server", "missing")),
    }
    selected.certificate_authority = material(
        cluster.certificate_authority.as_deref(),
        cluster.certificate_authority_data.as_deref(),
        "certificate-authority",
        place,
        folder,
        problems,
    );
    selected.tls_server_name = non_empty(cluster.tls_server_name.as_deref());
    selected.insecure_skip_tls_verify = cluster.insecure_skip_tls_verify.unwrap_or(false);
    if selected.insecure_skip_tls_verify && selected.certificate_authority.is_some() {
        problems
            .push(place.problem("insecure-skip-tls-verify", "contradicts certificate-authority; remove one of them"));
    }
    selected.proxy_url = non_empty(cluster.proxy_url.as_deref());
    if let Some(proxy) = &selected.proxy_url
        && let Err(what) = check_proxy(proxy)
    {
        problems.push(place.problem("proxy-url", what));
    }
}

fn read_user(user: &User, place: &Place<'_>, folder: &Path, selected: &mut Selected, problems: &mut Vec<String>) {
    let fix = "use a service account token (kubectl create token) or a client certificate";
    selected.exec.clone_from(&user.exec);
    if let Some(exec) = &mut selected.exec
        && exec.command.contains(std::path::is_separator)
    {
        exec.command = folder.join(&exec.command).display().to_string();
    }
    if user.auth_provider.is_some() {
        let what = format!("auth providers are not supported; {fix}");
        problems.push(place.problem("auth-provider", &what));
    }
    if non_empty(user.impersonate.as_deref()).is_some() {
        problems.push(place.problem("as", "impersonation is not supported; use the credentials of that user"));
    }
    selected.client_certificate = material(
        user.client_certificate.as_deref(),
        user.client_certificate_data.as_deref(),
        "client-certificate",
        place,
        folder,
        problems,
    );
    selected.client_key =
        material(user.client_key.as_deref(), user.client_key_data.as_deref(), "client-key", place, folder, problems);
    let has = |plain: &Option<String>, data: &Option<String>| {
        non_empty(plain.as_deref()).is_some() || non_empty(data.as_deref()).is_some()
    };
    let certificate = has(&user.client_certificate, &user.client_certificate_data);
    let key = has(&user.client_key, &user.client_key_data);
    if certificate && !key {
        problems.push(place.problem("client-key", "missing beside client-certificate"));
    }
    if key && !certificate {
        problems.push(place.problem("client-certificate", "missing beside client-key"));
    }
    selected.token = non_empty(user.token.as_deref());
    selected.token_file = non_empty(user.token_file.as_deref()).map(|path| folder.join(path));
    let username = non_empty(user.username.as_deref());
    match (username, non_empty(user.password.as_deref())) {
        (Some(name), Some(password)) => selected.basic = Some((name, password)),
        (Some(_), None) => problems.push(place.problem("password", "missing beside username")),
        (None, Some(_)) => problems.push(place.problem("username", "missing beside password")),
        (None, None) => {}
    }
    let has_token = selected.token.is_some() || selected.token_file.is_some();
    if has_token && selected.basic.is_some() {
        problems.push(place.problem("username", "contradicts the token; remove one of them"));
    }
}

/// `*-data` takes precedence over the file, as in kubectl.
fn material(
    path: Option<&str>,
    data: Option<&str>,
    field: &str,
    place: &Place<'_>,
    folder: &Path,
    problems: &mut Vec<String>,
) -> Option<Material> {
    if let Some(data) = non_empty(data) {
        return match crate::encode::base64_decode(&data) {
            Some(bytes) => Some(Material::Inline(bytes)),
            None => {
                problems.push(place.problem(&format!("{field}-data"), "not base64"));
                None
            }
        };
    }
    non_empty(path).map(|path| Material::File(folder.join(path)))
}

/// Normalises a server URL to `scheme://host[:port][/base]`.
pub(super) fn check_server(server: &str) -> Result<String, String> {
    let url = Url::parse(server)?;
    if url.user.is_some() {
        return Err("credentials do not belong into the url; use the user entry".to_owned());
    }
    if url.query.is_some() {
        return Err(format!("{server:?} has a query, which a server url cannot have"));
    }
    Ok(server.trim_end_matches('/').to_owned())
}

/// Refuses what the transport does not support, without printing the URL, which may contain a password.
fn check_proxy(proxy: &str) -> Result<(), &'static str> {
    let (scheme, _) = proxy.split_once("://").ok_or("needs to start with http://")?;
    match scheme {
        "http" | "socks4" | "socks4a" | "socks5" | "socks5h" => {}
        "https" => return Err("proxies spoken to over tls are not supported; use http://"),
        _ => return Err("only http:// and socks5:// proxies are supported"),
    }
    match ureq::Proxy::new(proxy) {
        Ok(_) => Ok(()),
        Err(_) => Err("not a proxy url"),
    }
}

fn non_empty(value: Option<&str>) -> Option<String> {
    value.filter(|v| !v.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u, namespace: shop}}}}]\n\
             clusters: [{{name: k, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    fn read(text: &str) -> Result<Selected, Vec<String>> {
        parse(&[text_of("/etc/kc", text)], None)
    }

    fn text_of(name: &str, content: &str) -> Text {
        let folder = Path::new(name).parent().expect("a folder").to_owned();
        Text { name: name.to_owned(), folder, content: content.to_owned() }
    }

    fn problems(text: &str) -> Vec<String> {
        read(text).err().expect("a refusal")
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = config(
            "server: 'https://[::1]:6443/k8s/', certificate-authority: ca.crt, \
             tls-server-name: kubernetes, proxy-url: 'socks5://localhost:1080', extensions: []",
            "client-certificate: /abs/crt, client-key-data: aGk=, token: t, tokenFile: tok",
        );
        let selected = read(&text).map_err(|p| p.join("\n")).expect("a config");
        assert_eq!(selected.server, "https://[::1]:6443/k8s");
        assert_eq!(selected.namespace.as_deref(), Some("shop"));
        assert_eq!(selected.tls_server_name.as_deref(), Some("kubernetes"));
        assert_eq!(selected.proxy_url.as_deref(), Some("socks5://localhost:1080"));
        assert!(matches!(&selected.certificate_authority,
            Some(Material::File(path)) if path == Path::new("/etc/ca.crt")));
        assert!(matches!(&selected.client_certificate,
            Some(Material::File(path)) if path == Path::new("/abs/crt")));
        assert!(matches!(&selected.client_key, Some(Material::Inline(b)) if b == b"hi"));
        assert_eq!(selected.token_file, Some(PathBuf::from("/etc/tok")));
    }

    #[test]
    fn json_is_read_too() {
        let text = r#"{"current-context":"c","contexts":[{"name":"c","context":{"cluster":"k"}}],
            "clusters":[{"name":"k","cluster":{"server":"https://a"}}],"users":null}"#;
        assert_eq!(read(text).map_err(|p| p.join("\n")).expect("a config").server, "https://a");
    }

    /// One row per mistake: the text, and what the only problem must say.
    #[test]
    fn mistakes_are_named() {
        let no_context = "current-context: x\ncontexts: []\nclusters: []\nusers: []\n";
        let ok = "server: 'https://a'";
        let table: Vec<(String, &str)> = vec![
            (String::new(), "/etc/kc: the file is empty"),
            ("a: [".into(), "/etc/kc: not a kubeconfig"),
            ("{\"a\":".into(), "/etc/kc: not a kubeconfig"),
            ("clusters: {}".into(), "/etc/kc: not a kubeconfig"),
            ("kind: Config".into(), "current-context: missing"),
            (no_context.into(), "\"x\" is not under contexts"),
            (config(ok, "").replace("name: k", "name: other"), "names the cluster \"k\", which is not under clusters"),
            (config(ok, "").replace("name: u", "name: other"), "names the user \"u\", which is not under users"),
            (config("", ""), "clusters[k].cluster.server: missing"),
            (config("server: 'ftp://a'", ""), "is not an http or https URL"),
            (config("server: 'https://a:b'", ""), "has no valid port"),
            (config("server: 'https://[::1]:99999'", ""), "has no valid port"),
            (config("server: a", ""), "is not a URL"),
            (config("server: 'https://u:p@a'", ""), "credentials do not belong into the url"),
            (config("server: 'https://a?b=c'", ""), "has a query"),
            (
                config(&format!("{ok}, certificate-authority-data: '***'"), ""),
                "clusters[k].cluster.certificate-authority-data: not base64",
            ),
            (
                config(&format!("{ok}, insecure-skip-tls-verify: true, certificate-authority: x"), ""),
                "insecure-skip-tls-verify: contradicts",
            ),
            (config(&format!("{ok}, proxy-url: 'https://p'"), ""), "proxy-url: proxies spoken"),
            (config(&format!("{ok}, proxy-url: 'ftp://p'"), ""), "proxy-url: only http://"),
            (config(&format!("{ok}, proxy-url: p"), ""), "proxy-url: needs to start"),
            (config(ok, "auth-provider: {name: gcp}"), "users[u].user.auth-provider: auth"),
            (config(ok, "as: root"), "users[u].user.as: impersonation"),
            (config(ok, "client-certificate: x"), "client-key: missing beside"),
            (config(ok, "client-key: x"), "client-certificate: missing beside"),
            (config(ok, "client-key-data: x, client-certificate: y"), "client-key-data: not base64"),
            (config(ok, "username: x"), "password: missing beside username"),
            (config(ok, "password: x"), "username: missing beside password"),
            (config(ok, "token: t, username: x, password: y"), "username: contradicts the token"),
        ];
        for (text, expected) in table {
            let found = problems(&text);
            assert_eq!(found.len(), 1, "{text}\n{found:?}");
            assert!(found[0].contains(expected), "{text}\n{found:?}\n{expected}");
            assert!(found[0].starts_with("/etc/kc: "), "{found:?}");
        }
    }

    #[test]
    fn all_problems_come_at_once() {
        let text = config("proxy-url: x", "auth-provider: {}, username: x");
        assert_eq!(problems(&text).len(), 4);
    }

    #[test]
    fn several_files_are_one() {
        let cluster = "clusters: [{name: k, cluster: {server: 'https://first', certificate-authority: ca}}]\n";
        let first = text_of("/a/kc", cluster);
        let second = text_of("/b/kc", &config("server: 'https://second'", "client-key: key, client-certificate: crt"));
        let third = text_of("/c/kc", "contexts: [{name: d, context: {cluster: k}}]\ncurrent-context: d\n");
        let files = [first, second, third];
        let selected = parse(&files, None).map_err(|p| p.join("\n")).expect("a config");
        assert_eq!((selected.server.as_str(), selected.namespace.as_deref()), ("https://first", Some("shop")));
        assert!(matches!(&selected.certificate_authority, Some(Material::File(path)) if path == Path::new("/a/ca")));
        assert!(matches!(&selected.client_key, Some(Material::File(path)) if path == Path::new("/b/key")));
        assert_eq!(parse(&files, Some("d")).map_err(|p| p.join("\n")).expect("a config").namespace, None);
        let wrong = parse(&files, Some("x")).err().expect("a refusal");
        assert_eq!(wrong, ["/a/kc, /b/kc, /c/kc: --context: \"x\" is not under contexts"]);
    }

    #[test]
    fn no_secret_is_printed() {
        let secret = "s3cr3t-t0ken";
        for text in [
            format!("users:\n- name: u\n  user: {{token: {secret}, client-key: [\n"),
            config("server: 'https://a'", &format!("token: {secret}, exec: [{secret}]")),
            config(&format!("server: 'https://a', proxy-url: 'ftp://u:{secret}@p'"), ""),
        ] {
            let found = problems(&text).join("\n");
            assert!(!found.contains(secret), "{found}");
        }
    }
}
