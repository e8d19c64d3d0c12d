//! Secret stores that authentications take parameters from, and how such a store is to let hpalite in.

use std::fmt;

use super::identity::PodIdentity;

/// A key of a Secret in the authentication's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretKey {
    pub name: String,
    pub key: String,
}

/// A secret that stands in an authentication itself; it is not printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Inline(pub String);

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretStore {
    Vault {
        /// `scheme://host:port/…` without a slash at its end.
        address: String,
        namespace: Option<String>,
        login: VaultLogin,
    },
    Azure {
        /// As the address of a Vault.
        uri: String,
        /// What a token is for, `https://…`.
        resource: String,
        login: AzureLogin,
    },
    Aws {
        /// `None`: the pod's own.
        region: Option<String>,
        login: AwsLogin,
    },
    /// With the key of a service account, or else the identity of our own pod.
    Google(Option<SecretKey>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VaultLogin {
    /// `None`: the operator's own, `VAULT_TOKEN`.
    Token(Option<Inline>),
    Kubernetes {
        mount: String,
        role: String,
        account: VaultAccount,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VaultAccount {
    /// A service account in the authentication's namespace, whose token is requested.
    Named(String),
    /// A file of our own pod.
    Own(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AzureLogin {
    Identity(PodIdentity),
    Client {
        /// `https://<host>`
        authority: String,
        tenant: String,
        id: String,
        secret: SecretKey,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AwsLogin {
    Identity(PodIdentity),
    Keys { id: SecretKey, secret: SecretKey, session: Option<SecretKey> },
}

/// One secret of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StoredSecret {
    /// Its name, or its path in a Vault.
    pub name: String,
    /// Of a secret that is a JSON object, whose member it is.
    pub key: Option<String>,
    pub version: Option<String>,
    /// Amazon's `versionStage`.
    pub stage: Option<String>,
    /// How a Vault answers.
    pub engine: Engine,
}

/// The engine of a Vault that has a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Known by its answer.
    #[default]
    Any,
    One,
    Two,
}

/// What the API server has to give before a store can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed<'a> {
    Secret(&'a SecretKey),
    /// A token of this service account.
    Token(&'a str),
}

impl SecretStore {
    #[must_use]
    pub fn needs(&self) -> Vec<Needed<'_>> {
        match self {
            Self::Vault { login: VaultLogin::Kubernetes { account: VaultAccount::Named(account), .. }, .. } => {
                vec![Needed::Token(account)]
            }
            Self::Azure { login: AzureLogin::Client { secret, .. }, .. } => vec![Needed::Secret(secret)],
            Self::Aws { login: AwsLogin::Keys { id, secret, session }, .. } => {
                [Some(id), Some(secret), session.as_ref()].into_iter().flatten().map(Needed::Secret).collect()
            }
            Self::Google(Some(key)) => vec![Needed::Secret(key)],
            Self::Vault { .. } | Self::Azure { .. } | Self::Aws { .. } | Self::Google(None) => Vec::new(),
        }
    }
}

impl fmt::Display for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault { address, .. } => write!(f, "the Vault {address}"),
            Self::Azure { uri, .. } => write!(f, "the Azure Key Vault {uri}"),
            Self::Aws { .. } => f.write_str("AWS Secrets Manager"),
            Self::Google(_) => f.write_str("Google Secret Manager"),
        }
    }
}
