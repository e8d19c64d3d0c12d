//! All Kubernetes resources that hpalite reads and writes: the RBAC rules in `k8s/base` grant exactly these.

use std::borrow::Cow;

use super::request::Resource;
use crate::scaling::model::{ApiGroup, AuthenticationKind, Gvkr};

pub(crate) const HPAS: Resource = Resource::new("autoscaling", "v2", "horizontalpodautoscalers", true);
pub(crate) const EVENTS: Resource = Resource::new("events.k8s.io", "v1", "events", true);
pub(crate) const NAMESPACES: Resource = Resource::new("", "v1", "namespaces", false);
pub(crate) const PODS: Resource = Resource::new("", "v1", "pods", true);
pub(crate) const SERVICES: Resource = Resource::new("", "v1", "services", true);
pub(crate) const ENDPOINT_SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices", true);
pub(crate) const SECRETS: Resource = Resource::new("", "v1", "secrets", true);
pub(crate) const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps", true);
pub(crate) const SERVICE_ACCOUNTS: Resource = Resource::new("", "v1", "serviceaccounts", true);
pub(crate) const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases", true);
pub(crate) const API_SERVICES: Resource = Resource::new("apiregistration.k8s.io", "v1", "apiservices", false);

/// The APIServices of metrics of objects. Either may be missing.
pub(crate) const CUSTOM_METRICS: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];

pub(crate) fn scaled_objects(group: ApiGroup) -> Resource {
    Resource::new(group.name(), "v1alpha1", "scaledobjects", true)
}

pub(crate) fn authentications(group: ApiGroup, kind: AuthenticationKind) -> Resource {
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
pub(crate) fn of(gvkr: &Gvkr) -> Resource {
    Resource {
        group: Cow::Owned(gvkr.group.clone()),
        version: Cow::Owned(gvkr.version.clone()),
        plural: Cow::Owned(gvkr.resource.clone()),
        namespaced: true,
    }
}
