//! The daemon's watches, which turn what the API server sends into the core's events.

use std::ops::ControlFlow;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Once};

use log::warn;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::adapter::Adapter;
use crate::config::Config;
use crate::kube::client::Client;
use crate::kube::resources::{self, HPAS, NAMESPACES};
use crate::kube::watch::{HasMeta, ObjectRef, WatchSettings, unreadable};
use crate::kube::watcher::{Watch, Watcher};
use crate::scaling::event::{Event, UnreadableObject, WatchEvent};
use crate::scaling::hpa::ObservedHpa;
use crate::scaling::model::{ApiGroup, AuthenticationKind, Remember, ScaledObject};
use crate::scaling::world::watched_workloads;
use crate::wire;
use crate::wire::Unreadable;
use crate::wire::labels::Selector;

/// An object as raw JSON, which its own lenient reader parses.
#[derive(Deserialize)]
#[serde(try_from = "Box<RawValue>")]
struct Raw {
    json: Box<RawValue>,
    meta: ObjectRef,
}

#[derive(Deserialize)]
struct OnlyMeta {
    #[serde(default)]
    metadata: ObjectRef,
}

impl TryFrom<Box<RawValue>> for Raw {
    type Error = serde_json::Error;

    fn try_from(json: Box<RawValue>) -> Result<Self, Self::Error> {
        let OnlyMeta { metadata } = serde_json::from_str(json.get())?;
        Ok(Self { json, meta: metadata })
    }
}

impl HasMeta for Raw {
    fn resource_version(&self) -> &str {
        &self.meta.resource_version
    }
}

/// Which objects of a kind are watched; the default is all.
#[derive(Clone, Copy, Default)]
struct Scope<'a> {
    /// Empty for all.
    namespaces: &'a [String],
    /// A label selector, by which the API server chooses: what leaves it is seen as deleted.
    selector: Option<&'a str>,
}

/// Starts every watch. Each has its own threads and ends when the inbox closes. With an adapter, HPAs are remembered whose
/// metrics its rules give.
pub(super) fn start(
    client: &Client,
    config: &Config,
    adapter: Option<Arc<Adapter>>,
    inbox: &SyncSender<Event>,
) -> std::io::Result<Vec<Watcher>> {
    let Config { namespaces, servers, object_selector, authentication_selector, .. } = config;
    let all = Scope { namespaces, selector: None };
    let mut watchers = Vec::new();
    for group in ApiGroup::ALL {
        let name = if group == ApiGroup::KedaK8sIo { "objects-v1" } else { "objects" };
        let servers = servers.clone();
        let read = move |json: &[u8]| wire::scaled_object::from_slice(group, json, &servers).map(Box::new);
        let event = move |seen| Event::ScaledObject(group, seen);
        let scope = Scope { selector: object_selector.as_deref(), ..all };
        watchers.push(watch(client, name, &resources::scaled_objects(group), scope, inbox, read, event)?);
    }
    let (servers, explains_all) = (servers.clone(), config.explains_all_hpas);
    // All HPAs are watched, since those of other owners may have the target of an object that is selected.
    let selector = object_selector.as_deref().and_then(|text| Selector::parse(text).ok()).unwrap_or_default();
    let read = move |json: &[u8]| {
        let hpa = wire::hpa::from_slice(json)?;
        let is_selected = selector.matches(|key| hpa.labels.get(key).map(String::as_str));
        let object = if is_selected { object_of(&hpa, &servers, explains_all, adapter.as_deref()) } else { None };
        Ok((Box::new(hpa), object.map(Box::new)))
    };
    watchers.push(watch_both(client, "hpas", &HPAS, all, inbox, read, both)?);
    for gvkr in watched_workloads() {
        let resource = resources::of(&gvkr);
        let name = gvkr.resource.clone();
        watchers.push(watch(client, &name, &resource, all, inbox, wire::workload::from_slice, move |seen| {
            Event::Workload(gvkr.clone(), seen)
        })?);
    }
    let kinds = [
        (ApiGroup::KedaSh, AuthenticationKind::TriggerAuthentication, "auth"),
        (ApiGroup::KedaSh, AuthenticationKind::ClusterTriggerAuthentication, "auth-cluster"),
        (ApiGroup::KedaK8sIo, AuthenticationKind::TriggerAuthentication, "auth-v1"),
    ];
    for (group, kind, name) in kinds {
        let cluster_scoped = kind == AuthenticationKind::ClusterTriggerAuthentication;
        watchers.push(watch(
            client,
            name,
            &resources::authentications(group, kind),
            Scope {
                namespaces: if cluster_scoped { &[] } else { namespaces },
                selector: authentication_selector.as_deref(),
            },
            inbox,
            move |json| wire::authentication::from_slice(group, kind, json).map(Box::new),
            move |seen| Event::Authentication(group, kind, seen),
        )?);
    }
    // Whole objects, since a Namespace has next to nothing beside its metadata. Without the right to see them the watch
    // goes on trying, as for any other kind.
    let read = wire::namespace::from_slice;
    watchers.push(watch(client, "namespaces", &NAMESPACES, Scope::default(), inbox, read, |seen| {
        static SAID: Once = Once::new();
        if let WatchEvent::ListFailed { is_denied: true, .. } = &seen {
            SAID.call_once(|| warn!("pauses of Namespaces are not seen without list and watch on namespaces"));
        }
        Event::Namespace(seen)
    })?);
    Ok(watchers)
}

/// Returns what is to be known of an HPA beside itself: what its annotations ask for, or else what its status shows.
fn object_of(
    hpa: &ObservedHpa,
    servers: &wire::Servers,
    explains_all: bool,
    adapter: Option<&Adapter>,
) -> Option<ScaledObject> {
    if let Some(read) = wire::hpa::annotated::read(hpa, servers) {
        return Some(read.object);
    }
    let remember = match adapter.filter(|_| !explains_all) {
        Some(adapter) if wire::hpa::observed::asks_adapter(hpa) => match adapter.gives_any(&hpa.metrics) {
            Some(true) => Remember::Yes,
            Some(false) => Remember::IfKnown,
            None => Remember::Meanwhile,
        },
        None if explains_all => Remember::Yes,
        _ => return None,
    };
    wire::hpa::observed::read(hpa, remember)
}

/// An HPA, and what is to be known of it as an object, if anything is.
type SeenHpa = (Box<ObservedHpa>, Option<Box<ScaledObject>>);

/// One watch shows HPAs and annotated objects. Of an HPA that is no object, or no longer, the object is gone. The object
/// comes first, so that what is observed of its HPA is recorded for it.
fn both(seen: WatchEvent<SeenHpa>) -> (Option<Event>, Event) {
    use WatchEvent::{Changed, Deleted, Interrupted, ListEnd, ListFailed, ListStart, Listed, Resumed, Unreadable};
    let (object, hpa) = match seen {
        ListStart { scope } => (Some(ListStart { scope: scope.clone() }), ListStart { scope }),
        ListEnd { scope } => (Some(ListEnd { scope: scope.clone() }), ListEnd { scope }),
        Listed((hpa, object)) => (object.map(Listed), Listed(hpa)),
        Changed((hpa, Some(object))) => (Some(Changed(object)), Changed(hpa)),
        Changed((hpa, None)) => {
            let (namespace, name, uid) = (hpa.namespace.clone(), hpa.name.clone(), hpa.uid.clone());
            (Some(Deleted { namespace, name, uid }), Changed(hpa))
        }
        Deleted { namespace, name, uid } => {
            let object = Deleted { namespace: namespace.clone(), name: name.clone(), uid: uid.clone() };
            (Some(object), Deleted { namespace, name, uid })
        }
        Unreadable(object) => (Some(Unreadable(object.clone())), Unreadable(object)),
        Interrupted { scope, silent_for } => (None, Interrupted { scope, silent_for }),
        Resumed { scope } => (None, Resumed { scope }),
        ListFailed { error, is_denied, is_absent } => (None, ListFailed { error, is_denied, is_absent }),
    };
    (object.map(|seen| Event::ScaledObject(ApiGroup::Autoscaling, seen)), Event::Hpa(hpa))
}

fn watch<T: Send + 'static>(
    client: &Client,
    name: &str,
    resource: &crate::kube::request::Resource,
    scope: Scope<'_>,
    inbox: &SyncSender<Event>,
    read: impl Fn(&[u8]) -> Result<T, Unreadable> + Clone + Send + 'static,
    event: impl Fn(WatchEvent<T>) -> Event + Clone + Send + 'static,
) -> std::io::Result<Watcher> {
    watch_both(client, name, resource, scope, inbox, read, move |seen| (None, event(seen)))
}

/// Like [`watch`], for what is two events.
fn watch_both<T: Send + 'static>(
    client: &Client,
    name: &str,
    resource: &crate::kube::request::Resource,
    scope: Scope<'_>,
    inbox: &SyncSender<Event>,
    read: impl Fn(&[u8]) -> Result<T, Unreadable> + Clone + Send + 'static,
    events: impl Fn(WatchEvent<T>) -> (Option<Event>, Event) + Clone + Send + 'static,
) -> std::io::Result<Watcher> {
    let inbox = inbox.clone();
    let what = name.to_owned();
    // The old API is installed only where objects of it still exist.
    let settings = WatchSettings { optional: resource.group == ApiGroup::KedaK8sIo.name(), ..WatchSettings::default() };
    let (namespaces, label_selector) = (scope.namespaces.to_vec(), scope.selector.map(str::to_owned));
    let watch = Watch { namespaces, label_selector, settings, ..Watch::all(name, resource.clone()) };
    Watcher::spawn::<Raw, _>(client, watch, move |seen| {
        let seen = seen.read(|Raw { json, meta }| {
            let object = read(json.get().as_bytes());
            object.map_err(|Unreadable(error)| unreadable(meta, &error))
        });
        if let WatchEvent::Unreadable(UnreadableObject { namespace, name, error }) = &seen {
            warn!(watch = what, namespace, name, error; "object cannot be read, ignored");
        }
        let (first, second) = events(seen);
        let is_closed = first.is_some_and(|event| inbox.send(event).is_err()) || inbox.send(second).is_err();
        if is_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}
