//! The Kubernetes resources that the daemon reads and writes, in one place: the RBAC rules in
//! `k8s/base` grant exactly these.

use std::borrow::Cow;

use crate::kube::request::Resource;
use crate::scaling::model::{ApiGroup, AuthenticationKind, Gvkr};

pub(super) const HPAS: Resource = Resource::new("autoscaling", "v2", "horizontalpodautoscalers", true);
pub(super) const EVENTS: Resource = Resource::new("events.k8s.io", "v1", "events", true);
pub(super) const PODS: Resource = Resource::new("", "v1", "pods", true);
pub(super) const SERVICES: Resource = Resource::new("", "v1", "services", true);
pub(super) const ENDPOINT_SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices", true);
pub(super) const SECRETS: Resource = Resource::new("", "v1", "secrets", true);
pub(super) const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps", true);
pub(super) const SERVICE_ACCOUNTS: Resource = Resource::new("", "v1", "serviceaccounts", true);
pub(super) const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases", true);
pub(super) const API_SERVICES: Resource = Resource::new("apiregistration.k8s.io", "v1", "apiservices", false);

pub(super) fn scaled_objects(group: ApiGroup) -> Resource {
    Resource::new(group.name(), "v1alpha1", "scaledobjects", true)
}

pub(super) fn authentications(group: ApiGroup, kind: AuthenticationKind) -> Resource {
    match kind {
        AuthenticationKind::TriggerAuthentication => {
            Resource::new(group.name(), "v1alpha1", "triggerauthentications", true)
        }
        AuthenticationKind::ClusterTriggerAuthentication => {
            Resource::new(group.name(), "v1alpha1", "clustertriggerauthentications", false)
        }
    }
}

/// The resource of a scale target.
pub(super) fn of(gvkr: &Gvkr) -> Resource {
    Resource {
        group: Cow::Owned(gvkr.group.clone()),
        version: Cow::Owned(gvkr.version.clone()),
        plural: Cow::Owned(gvkr.resource.clone()),
        namespaced: true,
    }
}
