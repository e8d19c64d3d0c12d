//! Reads the endpoints of a Service when a metrics-api trigger queries all of them.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::Deserialize;

use super::secrets::{POLL_READ, fetch_error};
use crate::kube::client::Client;
use crate::kube::request::ListOptions;
use crate::kube::resources::{ENDPOINT_SLICES, SERVICES};
use crate::metrics_api::service::{Endpoints, ServiceSource, Slice};
use crate::polling::credentials::FetchError;

/// Upper bound on a Service's EndpointSlices that are read. Each usually has 100 endpoints, and querying more than 50,000
/// pods one by one is not sensible.
const SLICES_MAX: u32 = 500;

/// Reads from the API server.
pub(super) struct KubeServices {
    pub(super) client: Client,
}

impl ServiceSource for KubeServices {
    fn endpoints(&self, namespace: &str, service: &str) -> Result<Endpoints, FetchError> {
        let request = SERVICES.get(Some(namespace), service).map_err(|error| fetch_error(&error.into()))?;
        let found: Service = self.client.json_within(&request, POLL_READ).map_err(|error| fetch_error(&error))?;
        let selector = format!("kubernetes.io/service-name={service}");
        let options = ListOptions { label_selector: Some(&selector), limit: SLICES_MAX, ..ListOptions::default() };
        let request = |options: &ListOptions<'_>| ENDPOINT_SLICES.list(Some(namespace), options);
        let mut slices = Vec::new();
        let listed = self.client.list(&options, request, Some(Instant::now() + POLL_READ), |slice: WireSlice| {
            slices.push(slice.into());
            if slices.len() < SLICES_MAX as usize { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        listed.map_err(|error| fetch_error(&error))?;
        Ok(Endpoints { ports: ports(found.spec.ports), slices })
    }
}

fn ports(ports: Option<Vec<Port>>) -> Vec<(String, u16)> {
    let ports = ports.unwrap_or_default().into_iter();
    ports.filter_map(|Port { name, port }| Some((name.unwrap_or_default(), port?))).collect()
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    ports: Option<Vec<Port>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireSlice {
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Option<Conditions>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
}

impl From<WireSlice> for Slice {
    fn from(wire: WireSlice) -> Self {
        let endpoints = wire.endpoints.unwrap_or_default().into_iter();
        // The API defines that unknown counts as ready.
        let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
        Slice { ports: ports(wire.ports), ready: ready.flat_map(|endpoint| endpoint.addresses).collect() }
    }
}
