//! What an object is known by: the API in which it was written, its namespace and its name.

use std::fmt;
use std::sync::Arc;

use super::fingerprint;

/// The API in which an object was written. All are served side by side, so each may have an object of the same namespace
/// and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiGroup {
    /// `keda.sh/v1alpha1`, KEDA 2.
    KedaSh,
    /// `keda.k8s.io/v1alpha1`, KEDA 1.
    KedaK8sIo,
    /// `autoscaling/v2`: an HPA that asks for metrics by annotations, or is only observed.
    Autoscaling,
}

impl ApiGroup {
    /// Those of ScaledObjects.
    pub const ALL: [Self; 2] = [Self::KedaSh, Self::KedaK8sIo];

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Autoscaling]).find(|group| group.name() == name)
    }

    /// The group as in `apiVersion`, without the version.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KedaSh => "keda.sh",
            Self::KedaK8sIo => "keda.k8s.io",
            Self::Autoscaling => "autoscaling",
        }
    }

    /// What its objects are called in messages.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::KedaSh | Self::KedaK8sIo => "ScaledObject",
            Self::Autoscaling => "HPA",
        }
    }
}

/// Identity of an object within the cluster. Cheap to clone, to compare with its own copies, and to hash, since every
/// index of the core is by it.
#[derive(Clone)]
pub struct ObjectKey(Arc<ObjectKeyParts>);

/// The parts of an [`ObjectKey`].
#[derive(Debug)]
pub struct ObjectKeyParts {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub group: ApiGroup,
    /// A hash of the other fields, computed once. Whoever chooses names cannot slow an index down with it: to make two of
    /// them equal takes billions of attempts, and each index hashes it once more with a random key.
    fingerprint: u64,
}

impl ObjectKey {
    #[must_use]
    pub fn new(group: ApiGroup, namespace: &str, name: &str) -> Self {
        let fingerprint = fingerprint(&(group, namespace, name));
        Self(Arc::new(ObjectKeyParts { namespace: namespace.into(), name: name.into(), group, fingerprint }))
    }
}

impl std::ops::Deref for ObjectKey {
    type Target = ObjectKeyParts;

    fn deref(&self) -> &ObjectKeyParts {
        &self.0
    }
}

impl PartialEq for ObjectKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.fingerprint == other.fingerprint
                && (&self.namespace, &self.name, self.group) == (&other.namespace, &other.name, other.group))
    }
}

impl Eq for ObjectKey {}

impl std::hash::Hash for ObjectKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint);
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By namespace, name, group.
impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return std::cmp::Ordering::Equal;
        }
        (&self.namespace, &self.name, self.group).cmp(&(&other.namespace, &other.name, other.group))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `namespace/name`; an HPA and the older API are marked, since a ScaledObject may have the same name.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            ApiGroup::KedaSh => write!(f, "{}/{}", self.namespace, self.name),
            ApiGroup::KedaK8sIo => write!(f, "{}/{} (keda.k8s.io)", self.namespace, self.name),
            ApiGroup::Autoscaling => write!(f, "hpa/{}/{}", self.namespace, self.name),
        }
    }
}
