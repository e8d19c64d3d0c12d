//! Identities of cloud providers: which one an authentication asks for, and what a query proves with it.

/// `podIdentity` of an authentication: the identity of hpalite's own pod, or one that it may assume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PodIdentity {
    Aws {
        /// A role to assume instead of the pod's own.
        role_arn: Option<String>,
        /// Sent when assuming the role by `AssumeRole`.
        external_id: Option<String>,
    },
    AzureWorkload {
        /// Replaces the pod's own client id.
        client_id: Option<String>,
        /// Replaces the pod's own tenant.
        tenant_id: Option<String>,
        /// Replaces the pod's own authority, `https://<host>/`; one of Microsoft's.
        authority_host: Option<String>,
    },
    Gcp,
}

impl PodIdentity {
    /// Returns `podIdentity.provider`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "aws",
            Self::AzureWorkload { .. } => "azure-workload",
            Self::Gcp => "gcp",
        }
    }
}

/// A cloud of Microsoft's, which decides what a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AzureCloud {
    #[default]
    Public,
    UsGovernment,
    China,
}

impl AzureCloud {
    /// The end of the names of Service Bus' hosts.
    #[must_use]
    pub fn service_bus(self) -> &'static str {
        match self {
            Self::Public => "servicebus.windows.net",
            Self::UsGovernment => "servicebus.usgovcloudapi.net",
            Self::China => "servicebus.chinacloudapi.cn",
        }
    }
}
