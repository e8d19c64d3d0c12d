//! The front proxy: which client may speak for users in headers, and what those headers say.
//!
//! The kube-apiserver authenticates with a client certificate and names the user it acts for in `X-Remote-*`
//! headers. The rules come from a ConfigMap ([`FrontProxyTrust::from_config_map`]). Pure apart from verifying
//! signatures: no clock, no cluster. The caller keeps the last good rules when a new version is broken.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::chain::{self, BundleError, ChainError, ChainVerifier};
use super::{User, uri};
use crate::encode::cut;

/// Upper bound on the bytes of an error that quote the ConfigMap.
const QUOTE_MAX: usize = 256;

/// The rules in force.
#[derive(Debug, Clone)]
pub struct FrontProxyTrust {
    chains: ChainVerifier,
    /// If empty, any common name that the CA has signed is accepted.
    allowed_names: Vec<String>,
    headers: IdentityHeaders,
}

/// Names of the headers that carry an identity; compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeaders {
    pub username: Vec<String>,
    /// If empty, no header can set a uid.
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefixes: Vec<String>,
}

impl Default for IdentityHeaders {
    /// The headers that every kube-apiserver is configured with in practice.
    fn default() -> Self {
        IdentityHeaders {
            username: vec!["X-Remote-User".to_owned()],
            uid: vec!["X-Remote-Uid".to_owned()],
            group: vec!["X-Remote-Group".to_owned()],
            extra_prefixes: vec!["X-Remote-Extra-".to_owned()],
        }
    }
}

/// Why a certificate is not that of the front proxy.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// No front proxy is configured.
    NotConfigured,
    Chain(ChainError),
    NameNotAllowed(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotConfigured => f.write_str("no front proxy is configured"),
            Reason::Chain(error) => error.fmt(f),
            Reason::NameNotAllowed(name) => {
                write!(f, "common name {name:?} is not an allowed front proxy")
            }
        }
    }
}

/// Why the headers of a verified front proxy name no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFault {
    NoUsername,
    /// Another reader of the request might choose a different one.
    SeveralUsernames,
    SeveralUids,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderFault::NoUsername => "front proxy named no user",
            HeaderFault::SeveralUsernames => "front proxy named several users",
            HeaderFault::SeveralUids => "front proxy named several uids",
        })
    }
}

/// What is wrong with the ConfigMap.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigError {
    /// Not a JSON array of strings.
    List {
        key: &'static str,
        error: String,
    },
    Bundle {
        key: &'static str,
        error: BundleError,
    },
    /// Without such a header no request could name a user.
    NoUsernameHeaders,
    /// Not a valid header name, which is probably a typing mistake.
    HeaderName {
        key: &'static str,
        name: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::List { key, error } => {
                write!(f, "{key} is not a JSON array of strings: {}", cut(error, QUOTE_MAX))
            }
            ConfigError::Bundle { key, error } => write!(f, "{key}: {error}"),
            ConfigError::NoUsernameHeaders => write!(f, "{USERNAME_KEY} is empty"),
            ConfigError::HeaderName { key, name } => {
                write!(f, "{key} holds {}, which is no header name", cut(&format!("{name:?}"), QUOTE_MAX))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

pub const CLIENT_CA_KEY: &str = "client-ca-file";
const CA_KEY: &str = "requestheader-client-ca-file";
const NAMES_KEY: &str = "requestheader-allowed-names";
const USERNAME_KEY: &str = "requestheader-username-headers";
const UID_KEY: &str = "requestheader-uid-headers";
const GROUP_KEY: &str = "requestheader-group-headers";
const EXTRA_KEY: &str = "requestheader-extra-headers-prefix";

impl FrontProxyTrust {
    pub fn new(
        ca: Vec<CertificateDer<'static>>,
        allowed_names: Vec<String>,
        headers: IdentityHeaders,
        provider: &Arc<CryptoProvider>,
    ) -> Result<FrontProxyTrust, BundleError> {
        Ok(FrontProxyTrust { chains: ChainVerifier::new(ca, provider)?, allowed_names, headers })
    }

    /// Reads `kube-system/extension-apiserver-authentication`. None if the cluster has no front proxy, which is what
    /// the absence of its CA means.
    pub fn from_config_map(
        data: &BTreeMap<String, String>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<FrontProxyTrust>, ConfigError> {
        let Some(pem) = data.get(CA_KEY) else {
            return Ok(None);
        };
        let bundle = |error| ConfigError::Bundle { key: CA_KEY, error };
        let ca = chain::certificates_from_pem(pem).map_err(bundle)?;
        let headers = IdentityHeaders {
            username: header_names(data, USERNAME_KEY)?,
            uid: header_names(data, UID_KEY)?,
            group: header_names(data, GROUP_KEY)?,
            extra_prefixes: header_names(data, EXTRA_KEY)?,
        };
        if headers.username.is_empty() {
            return Err(ConfigError::NoUsernameHeaders);
        }
        let allowed_names = list(data, NAMES_KEY)?;
        FrontProxyTrust::new(ca, allowed_names, headers, provider).map(Some).map_err(bundle)
    }

    /// Returns true if every certificate of the CA is accepted as the front proxy's. Worth a warning where client
    /// certificates come from the same CA: any user could claim any identity.
    pub fn accepts_any_name(&self) -> bool {
        self.allowed_names.is_empty()
    }

    /// The CAs that sign the certificates of front proxies.
    pub fn authorities(&self) -> &ChainVerifier {
        &self.chains
    }

    /// Returns the common name of the chain's end entity, if that is the front proxy.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<String, Reason> {
        let name = self.chains.verify(chain, now).map_err(Reason::Chain)?.common_name;
        if self.allowed_names.is_empty() || self.allowed_names.contains(&name) {
            Ok(name)
        } else {
            Err(Reason::NameNotAllowed(name))
        }
    }

    /// Returns the user for whom a verified front proxy acts.
    pub fn user(&self, headers: &[(&str, &str)]) -> Result<User, HeaderFault> {
        let name = single(headers, &self.headers.username, HeaderFault::SeveralUsernames)?;
        let uid = single(headers, &self.headers.uid, HeaderFault::SeveralUids)?;
        if name.is_empty() {
            return Err(HeaderFault::NoUsername);
        }
        let mut user = User { name: name.to_owned(), uid: uid.to_owned(), ..User::default() };
        for (header, value) in headers {
            if is_one_of(header, &self.headers.group) {
                user.groups.push((*value).to_owned());
            } else if let Some(key) = self.headers.extra_prefixes.iter().find_map(|prefix| extra_key(header, prefix)) {
                user.extra.entry(key).or_default().push((*value).to_owned());
            }
        }
        Ok(user)
    }

    /// Returns true for headers that handlers must not see, because they carry an identity or look as if they did.
    pub fn is_identity_header(&self, name: &str) -> bool {
        let IdentityHeaders { username, uid, group, extra_prefixes } = &self.headers;
        [username, uid, group].into_iter().any(|names| is_one_of(name, names))
            || extra_prefixes.iter().any(|prefix| strip_prefix(name, prefix).is_some())
    }
}

/// Returns the single value of the first of `names` that is present; empty if none is.
fn single<'h>(headers: &[(&str, &'h str)], names: &[String], several: HeaderFault) -> Result<&'h str, HeaderFault> {
    for name in names {
        let mut values = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => return Err(several),
            (Some(value), None) if !value.is_empty() => return Ok(value),
            _ => {}
        }
    }
    Ok("")
}

fn is_one_of(header: &str, names: &[String]) -> bool {
    names.iter().any(|name| header.eq_ignore_ascii_case(name))
}

fn strip_prefix<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let start = name.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &name[prefix.len()..])
}

/// Returns the key of an extra: the rest of its header's name in lower case, percent-decoded. A broken escape leaves it
/// undecoded, as in the kube-apiserver.
fn extra_key(header: &str, prefix: &str) -> Option<String> {
    let raw = strip_prefix(header, prefix)?.to_ascii_lowercase();
    Some(uri::decode(&raw).unwrap_or(raw))
}

fn list(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, ConfigError> {
    match data.get(key).map(|text| text.trim()) {
        None | Some("") => Ok(Vec::new()),
        Some(text) => {
            // Go writes a nil slice as null.
            let parsed: Result<Option<Vec<String>>, _> = serde_json::from_str(text);
            parsed.map(Option::unwrap_or_default).map_err(|error| ConfigError::List { key, error: error.to_string() })
        }
    }
}

fn header_names(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, ConfigError> {
    let names = list(data, key)?;
    let is_token = |name: &String| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    match names.iter().find(|name| !is_token(name)) {
        Some(name) => Err(ConfigError::HeaderName { key, name: name.clone() }),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tls;

    fn ca_pem() -> String {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    /// Reads the ConfigMap that kube-apiservers write, with `changes` applied.
    fn read(changes: &[(&str, Option<&str>)]) -> Result<Option<FrontProxyTrust>, ConfigError> {
        let mut data: BTreeMap<String, String> = [
            (CLIENT_CA_KEY, ca_pem()),
            (CA_KEY, ca_pem()),
            (NAMES_KEY, r#"["front-proxy-client"]"#.to_owned()),
            (USERNAME_KEY, r#"["X-Remote-User"]"#.to_owned()),
            (GROUP_KEY, r#"["X-Remote-Group"]"#.to_owned()),
            (EXTRA_KEY, r#"["X-Remote-Extra-"]"#.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        for (key, value) in changes {
            match value {
                Some(value) => data.insert((*key).to_owned(), (*value).to_owned()),
                None => data.remove(*key),
            };
        }
        FrontProxyTrust::from_config_map(&data, &tls::provider())
    }

    fn error(changes: &[(&str, Option<&str>)]) -> String {
        read(changes).unwrap_err().to_string()
    }

    #[test]
    fn config_maps() {
        let trust = read(&[]).unwrap().unwrap();
        assert_eq!(trust.allowed_names, ["front-proxy-client"]);
        let expected = IdentityHeaders { uid: Vec::new(), ..IdentityHeaders::default() };
        assert_eq!(trust.headers, expected);
        assert!(!trust.accepts_any_name());
        assert!(read(&[(CA_KEY, None)]).unwrap().is_none());
        for empty in [None, Some(""), Some("[]"), Some("null"), Some(" \n")] {
            assert!(read(&[(NAMES_KEY, empty)]).unwrap().unwrap().accepts_any_name(), "{empty:?}");
        }
        let two = format!("{}{}", ca_pem(), ca_pem());
        assert!(read(&[(CA_KEY, Some(&two))]).unwrap().is_some());
    }

    #[test]
    fn broken_config_maps_say_what_is_wrong() {
        assert_eq!(error(&[(CA_KEY, Some(""))]), "requestheader-client-ca-file: bundle holds no certificate");
        let cut = &ca_pem()[..100];
        assert!(error(&[(CA_KEY, Some(cut))]).starts_with("requestheader-client-ca-file: cannot read"));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(error(&[(CA_KEY, Some(nonsense))]).contains("unusable certificate"));
        for key in [NAMES_KEY, USERNAME_KEY, UID_KEY, GROUP_KEY, EXTRA_KEY] {
            for broken in ["{", "X-Remote-User", "[1]", r#"{"a":"b"}"#, r#"["a"] x"#] {
                let message = error(&[(key, Some(broken))]);
                assert!(message.starts_with(&format!("{key} is not a JSON array")), "{message}");
            }
        }
        for key in [USERNAME_KEY, UID_KEY, GROUP_KEY, EXTRA_KEY] {
            for name in ["", "X Remote", "X:", "ü"] {
                let message = error(&[(key, Some(&format!("[\"{name}\"]")))]);
                assert!(message.ends_with("which is no header name"), "{message}");
            }
        }
        assert_eq!(error(&[(USERNAME_KEY, None)]), "requestheader-username-headers is empty");
    }

    #[test]
    fn of_a_long_value_little_is_quoted() {
        let long = "\u{1}x".repeat(2_000);
        for value in [serde_json::json!(long), serde_json::json!([long])].map(|value| value.to_string()) {
            let message = error(&[(UID_KEY, Some(&value))]);
            assert!(message.len() < 500 && !message.contains('\u{1}'), "{message:?}");
        }
    }

    #[test]
    fn users() {
        let trust = read(&[(USERNAME_KEY, Some(r#"["X-First","X-Second"]"#)), (UID_KEY, Some(r#"["X-Uid"]"#))])
            .unwrap()
            .unwrap();
        let name = |headers: &[(&str, &str)]| trust.user(headers).map(|user| user.name);
        assert_eq!(name(&[("x-second", "b")]), Ok("b".into()));
        assert_eq!(name(&[("X-Second", "b"), ("X-First", "a")]), Ok("a".into()));
        assert_eq!(name(&[("X-First", ""), ("X-Second", "b")]), Ok("b".into()));
        assert_eq!(name(&[("X_First", "a")]), Err(HeaderFault::NoUsername));
        assert_eq!(name(&[("X-First", "a"), ("x-first", "a")]), Err(HeaderFault::SeveralUsernames));
        let uids = [("X-First", "a"), ("X-Uid", "1"), ("X-Uid", "2")];
        assert_eq!(name(&uids), Err(HeaderFault::SeveralUids));
        let user = trust
            .user(&[
                ("X-First", "a"),
                ("X-Remote-Extra-Scopes", "x"),
                ("x-remote-extra-scopes", "y"),
                ("X-Remote-Extra-", "z"),
                ("X-Remote-Extra-Ac%4De.com%2FFoo", "w"),
                ("X-Remote-Group", ""),
                ("X-Remote-Uid", "not the configured one"),
            ])
            .unwrap();
        assert_eq!((user.groups, user.uid), (vec![String::new()], String::new()));
        let extra: Vec<_> = user.extra.iter().map(|(k, v)| (k.as_str(), v.join(","))).collect();
        let expected = [("", "z"), ("acMe.com/foo", "w"), ("scopes", "x,y")];
        assert_eq!(extra, expected.map(|(k, v)| (k, v.to_owned())));
        for name in ["x-first", "X-SECOND", "x-uid", "x-remote-group", "X-Remote-Extra-a"] {
            assert!(trust.is_identity_header(name), "{name}");
        }
        for name in ["x-third", "x_first", "x-remote-extra"] {
            assert!(!trust.is_identity_header(name), "{name}");
        }
    }
}
