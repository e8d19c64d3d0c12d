//! The aggregated API: who may ask what, and which answer it gets.
//!
//! Nothing is served to a caller without the front proxy's verified certificate, except health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::external_metrics::{self, Published, Selection};
use super::{Identity, Request, Response, uri};
use crate::scaling::model::ObjectKey;

/// Group and version that are served.
pub const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";
/// KEDA's label, by which every HPA selects its object.
const NAME_LABEL: &str = "scaledobject.keda.sh/name";

/// What the handlers need.
pub struct Api {
    pub published: Arc<Published>,
    pub ready: Arc<Readiness>,
    /// Told each object that was read.
    pub on_read: Box<dyn Fn(&ObjectKey) + Send + Sync>,
}

/// Whether metrics can be answered. Never about Prometheus: its outage is an error of single
/// metrics, while a pod that is not ready takes the whole API away.
#[derive(Debug, Default)]
pub struct Readiness {
    pub synced: AtomicBool,
    pub trusted: AtomicBool,
    pub stopping: AtomicBool,
}

impl Readiness {
    /// # Errors
    /// What is still missing.
    pub fn check(&self) -> Result<(), &'static str> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        if is(&self.stopping) {
            Err("shutting down")
        } else if !is(&self.trusted) {
            Err("kube-system/extension-apiserver-authentication has not been read yet")
        } else if !is(&self.synced) {
            Err("ScaledObjects and HorizontalPodAutoscalers have not been listed yet")
        } else {
            Ok(())
        }
    }
}

/// Health paths; `None` for any other.
#[must_use]
pub fn health(ready: &Readiness, request: &Request) -> Option<Response> {
    let answer = match request.path.as_str() {
        "/healthz" | "/livez" => Ok(()),
        "/readyz" => ready.check(),
        _ => return None,
    };
    Some(match answer {
        Ok(()) => Response::text(200, "ok"),
        Err(missing) => Response::text(503, format!("not ready: {missing}\n")),
    })
}

impl Api {
    /// Answers one request of the TLS port.
    pub fn handle(&self, request: &Request) -> Response {
        if request.method != "GET" {
            let message = format!("the server does not allow the method {} on the requested resource", request.method);
            return Response::status(405, "MethodNotAllowed", &message);
        }
        if let Some(response) = health(&self.ready, request) {
            return response;
        }
        match &request.peer.identity {
            Identity::FrontProxy { user: Ok(_), .. } => {}
            Identity::FrontProxy { user: Err(_), .. } => return Response::status(401, "Unauthorized", "Unauthorized"),
            Identity::Certificate { .. } => return Response::status(401, "Unauthorized", "Unauthorized"),
            Identity::None => {
                let message = format!("forbidden: User \"system:anonymous\" cannot get path \"{}\"", request.path);
                return Response::status(403, "Forbidden", &message);
            }
        }
        self.route(request)
    }

    fn route(&self, request: &Request) -> Response {
        let Ok(segments) = uri::segments(&request.path) else {
            return Response::status(400, "BadRequest", "the path is not valid percent-encoded UTF-8");
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["apis", "external.metrics.k8s.io", "v1beta1", "namespaces", namespace, metric] if !metric.is_empty() => {
                self.metric(request, namespace, metric)
            }
            ["apis", "external.metrics.k8s.io", "v1beta1"] => Response::json(200, RESOURCES),
            ["apis"] => Response::json(200, GROUPS),
            ["openapi", "v2"] => Response::json(200, r#"{"swagger":"2.0","info":{"title":"hpalite","version":"v0"},"paths":{}}"#),
            ["openapi", "v3"] => Response::json(200, r#"{"paths":{}}"#),
            _ => Response::status(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    fn metric(&self, request: &Request, namespace: &str, metric: &str) -> Response {
        let Ok(pairs) = uri::query_pairs(request.query.as_deref().unwrap_or("")) else {
            return Response::status(400, "BadRequest", "the query is not valid percent-encoded UTF-8");
        };
        let selectors: Vec<&str> =
            pairs.iter().filter(|(key, _)| key == "labelSelector").map(|(_, value)| value.as_str()).collect();
        let selector = match selectors.as_slice() {
            [] => "",
            [one] => one,
            _ => return Response::status(400, "BadRequest", "labelSelector is given more than once"),
        };
        let on_read = |key: &ObjectKey| (self.on_read)(key);
        // The HPA's own selector is one equality; anything else takes the general way.
        if let Some(name) = selector.strip_prefix(NAME_LABEL).and_then(|rest| rest.strip_prefix('='))
            && !name.contains([',', '='])
        {
            return external_metrics::get(&self.published, namespace, metric, &Selection::Name(name), &on_read);
        }
        let Some(terms) = equalities(selector) else {
            let message = format!("unable to parse requirement of labelSelector: {selector}");
            return Response::status(400, "BadRequest", &message);
        };
        let matches = |key: &str, value: &str| terms.iter().all(|(k, v)| *k == key && *v == value);
        external_metrics::get(&self.published, namespace, metric, &Selection::Other(&matches), &on_read)
    }
}

/// `k=v` and `k==v` terms joined by commas.
fn equalities(selector: &str) -> Option<Vec<(&str, &str)>> {
    let terms = selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let (key, value) = term.split_once('=')?;
            let value = value.strip_prefix('=').unwrap_or(value).trim();
            let key = key.trim();
            (!key.is_empty() && !key.contains(['!', ' ', '(']) && !value.contains(['=', '(', ' '])).then_some((key, value))
        })
        .collect()
}

const RESOURCES: &str = r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"external.metrics.k8s.io/v1beta1","resources":[{"name":"externalmetrics","singularName":"","namespaced":true,"kind":"ExternalMetricValueList","verbs":["get"]}]}"#;
const GROUPS: &str = r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"external.metrics.k8s.io","versions":[{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}],"preferredVersion":{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}}]}"#;
