//! Pauses scaling for a time, and ends that early: `hpalite freeze` and `hpalite thaw`.
//!
//! Both only write annotations: of one ScaledObject, or of Namespaces, which then hold for all ScaledObjects in them. Pauses
//! that others made are left alone; the annotation of the reason marks what is ours.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use litemap::LiteMap;
use serde_json::{Value, json};

use super::{Failure, Migration, Plan};
use crate::clock::wall_millis;
use crate::kube::untyped::{condition, items, text};
use crate::kube::{Error, Kubeconfig, Request, Resource};
use crate::rights::{self, Right};
use crate::scaling::model::{ApiGroup, Pause, UnixMillis};
use crate::wire::scaled_object::annotations::{self, PAUSED, PAUSED_REASON, PAUSED_REPLICAS, PAUSED_UNTIL};

const NAMESPACES: Resource = Resource::new("", "v1", "namespaces", false);

fn scaled_objects(group: ApiGroup) -> Resource {
    Resource::new(group.name(), "v1alpha1", "scaledobjects", true)
}

/// What is frozen or thawed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every Namespace with ScaledObjects.
    All,
    Namespace(String),
    Object {
        namespace: String,
        name: String,
    },
}

/// How it is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// `None` keeps the current count.
    pub replicas: Option<u32>,
    pub until: End,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    At(UnixMillis),
    After(Duration),
}

/// Writes the pause, or with `None` removes what an earlier freeze has written.
///
/// # Errors
/// Refused before anything was done, or for some of the objects: then which ones, and why.
pub fn freeze(
    kubeconfig: Option<&Kubeconfig>,
    plan: &Plan,
    scope: &Scope,
    freeze: Option<&Freeze>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut migration = Migration::new(kubeconfig, plan, out)?;
    let problems = match freeze {
        Some(freeze) => migration.freeze(scope, freeze)?,
        None => migration.thaw(scope)?,
    };
    if problems.is_empty() { Ok(()) } else { Err(Failure::Stopped(problems)) }
}

/// A ScaledObject or a Namespace.
struct Subject {
    resource: Resource,
    object: Value,
    title: String,
}

impl Subject {
    fn namespace(object: Value) -> Self {
        let title = format!("Namespace {}", text(&object, "/metadata/name"));
        Self { resource: NAMESPACES, object, title }
    }

    fn annotations(&self) -> LiteMap<String, String> {
        serde_json::from_value(self.object["metadata"]["annotations"].clone()).unwrap_or_default()
    }

    fn is_ours(&self) -> bool {
        self.annotations().contains_key(PAUSED_REASON)
    }

    /// The pause annotations that somebody else wrote, for a message; empty if there is none.
    fn foreign(&self) -> String {
        let is_pause = |name: &String| name.starts_with(PAUSED);
        let found: Vec<String> = self.annotations().into_iter().map(|(name, _)| name).filter(is_pause).collect();
        if self.is_ours() { String::new() } else { found.join(", ") }
    }
}

impl Migration<'_> {
    fn freeze(&mut self, scope: &Scope, freeze: &Freeze) -> Result<Vec<String>, Failure> {
        let now = UnixMillis(wall_millis());
        let until = match freeze.until {
            End::At(at) => at,
            End::After(time) => now.plus(time),
        };
        if until <= now {
            return Err(Failure::Stopped(vec![format!("--until: {until} is past: write a time to come")]));
        }
        let patch = json!({ "metadata": { "annotations": {
            PAUSED: freeze.replicas.is_none().then_some("true"),
            PAUSED_REPLICAS: freeze.replicas.map(|replicas| replicas.to_string()),
            PAUSED_UNTIL: until.to_string(),
            PAUSED_REASON: freeze.reason,
        } } });
        let count =
            freeze.replicas.map_or("the current replicas".to_owned(), |replicas| format!("{replicas} replicas"));
        let subjects = match scope {
            Scope::Object { namespace, name } => self.objects(namespace, Some(name))?,
            Scope::Namespace(_) | Scope::All => {
                self.can_see_namespaces()?;
                self.namespaces(scope)?
            }
        };
        let mut problems = Vec::new();
        for subject in subjects {
            let foreign = subject.foreign();
            if !foreign.is_empty() {
                let fix = "remove it, or let it be";
                problems.push(format!("{} is left as it is, since it has {foreign} already: {fix}", subject.title));
                continue;
            }
            if self.step(&format!("pause {} at {count} until {until}: {}", subject.title, freeze.reason))? {
                self.annotate(&subject, &patch)?;
            }
            if subject.resource == NAMESPACES {
                match self.say_what_follows(text(&subject.object, "/metadata/name"), now) {
                    // The pause is written, and this only describes it.
                    Err(Failure::Stopped(problems)) => {
                        let problems = problems.join("; ");
                        self.say(&format!("warning: for which objects that holds could not be read: {problems}"))?;
                    }
                    said => said?,
                }
            }
        }
        Ok(problems)
    }

    /// Says of each object in a Namespace whether its pause holds for it.
    fn say_what_follows(&mut self, namespace: &str, now: UnixMillis) -> Result<(), Failure> {
        let pause = Pause { paused: true, is_of_namespace: true, ..Pause::default() };
        for object in self.objects(namespace, None)? {
            let own = annotations::pause(&object.annotations(), &mut Default::default());
            let text = if Pause::in_force(&own, Some(&pause), now).is_of_namespace {
                format!("  {} with it", object.title)
            } else {
                format!("  not {}, whose own annotations take precedence", object.title)
            };
            self.say(&text)?;
        }
        Ok(())
    }

    fn thaw(&mut self, scope: &Scope) -> Result<Vec<String>, Failure> {
        let subjects = match scope {
            Scope::Object { namespace, name } => self.objects(namespace, Some(name))?,
            Scope::Namespace(_) | Scope::All => self.namespaces(scope)?,
        };
        let of_namespace = |subject: &Subject| {
            let paused = condition(&subject.object, "Paused");
            paused
                .is_some_and(|found| found["status"] == "True" && text(found, "/message").contains("by its Namespace"))
        };
        let paused_by = match scope {
            Scope::Object { namespace, .. } if subjects.iter().any(of_namespace) => Some(namespace),
            _ => None,
        };
        let mut is_any = self.thaw_each(&subjects)?;
        let mut problems = Vec::new();
        // After the Namespaces, which can be frozen without the right to list what is in them.
        for namespace in subjects.iter().filter(|subject| subject.resource == NAMESPACES) {
            match self.objects(text(&namespace.object, "/metadata/name"), None) {
                Ok(objects) => is_any |= self.thaw_each(&objects)?,
                Err(Failure::Stopped(why)) => {
                    let (title, why) = (&namespace.title, why.join("; "));
                    problems.push(format!("the ScaledObjects of {title} are left as they are: {why}"));
                }
                Err(failure) => return Err(failure),
            }
        }
        if let Some(namespace) = paused_by {
            self.say(&format!("it is paused by its Namespace too: hpalite thaw -n {namespace}"))?;
        }
        if !is_any && problems.is_empty() {
            self.say("nothing here is frozen by annotations of its own")?;
        }
        Ok(problems)
    }

    /// Returns whether any of them was frozen by annotations of its own.
    fn thaw_each(&mut self, subjects: &[Subject]) -> Result<bool, Failure> {
        let none = Value::Null;
        let patch = json!({ "metadata": { "annotations": {
            PAUSED: none, PAUSED_REPLICAS: none, PAUSED_UNTIL: none, PAUSED_REASON: none,
        } } });
        let mut is_any = false;
        for subject in subjects {
            let foreign = subject.foreign();
            if !foreign.is_empty() {
                self.say(&format!("{} stays paused by {foreign}, which hpalite freeze did not write", subject.title))?;
            } else if subject.is_ours() {
                is_any = true;
                if self.step(&format!("thaw {}", subject.title))? {
                    self.annotate(subject, &patch)?;
                }
            }
        }
        Ok(is_any)
    }

    fn annotate(&self, subject: &Subject, patch: &Value) -> Result<(), Failure> {
        let metadata = &subject.object["metadata"];
        let (namespace, name) = (metadata["namespace"].as_str(), text(metadata, "/name"));
        Ok(self.change(&subject.resource, namespace, name, |_| patch.clone())?)
    }

    /// The ScaledObjects of a namespace, of both groups; with a name only those, of which there must be one.
    fn objects(&self, namespace: &str, name: Option<&str>) -> Result<Vec<Subject>, Failure> {
        let mut found = Vec::new();
        for group in ApiGroup::ALL {
            for object in self.of_group(group, Some(namespace), name)? {
                let title = format!("ScaledObject {namespace}/{}", text(&object, "/metadata/name"));
                found.push(Subject { resource: scaled_objects(group), object, title });
            }
        }
        match name {
            Some(name) if found.is_empty() => {
                Err(Failure::Stopped(vec![format!("there is no ScaledObject {namespace}/{name}")]))
            }
            _ => Ok(found),
        }
    }

    /// The ScaledObjects of a group, or the one of a name.
    fn of_group(&self, group: ApiGroup, namespace: Option<&str>, name: Option<&str>) -> Result<Vec<Value>, Error> {
        let resource = scaled_objects(group);
        let found = match name {
            Some(name) => self.get(&resource, namespace, name).map(|found| match found {
                Value::Null => Vec::new(),
                found => vec![found],
            }),
            None => self.list(&resource, namespace, None),
        };
        match found {
            // The API server refuses who has no rights on a group before it looks whether there is one.
            Err(error) if error.is_forbidden() && self.serves(group.name()).is_ok_and(|serves| !serves) => {
                Ok(Vec::new())
            }
            found => found,
        }
    }

    /// Whether the cluster has a group, as everybody may ask.
    fn serves(&self, group: &str) -> Result<bool, Error> {
        let groups: Value = self.client.json(&Request::get_path("/apis"))?;
        Ok(items(&groups, "/groups").iter().any(|found| found["name"] == group))
    }

    fn namespaces(&self, scope: &Scope) -> Result<Vec<Subject>, Failure> {
        if let Scope::Namespace(name) = scope {
            let found = self.get(&NAMESPACES, None, name)?;
            let missing = || Failure::Stopped(vec![format!("there is no Namespace {name}")]);
            return if found.is_null() { Err(missing()) } else { Ok(vec![Subject::namespace(found)]) };
        }
        let mut used = BTreeSet::new();
        for group in ApiGroup::ALL {
            let objects = self.of_group(group, None, None)?;
            used.extend(objects.iter().map(|object| text(object, "/metadata/namespace").to_owned()));
        }
        let all = self.list(&NAMESPACES, None, None)?.into_iter();
        Ok(all.filter(|found| used.contains(text(found, "/metadata/name"))).map(Subject::namespace).collect())
    }

    /// A daemon that does not see Namespaces would not follow. Only an administrator can ask for its rights.
    fn can_see_namespaces(&mut self) -> Result<(), Failure> {
        let own = &self.plan.service.1;
        let asked = rights::service_account(&self.client, &self.plan.service).and_then(|account| {
            let right = Right { group: "", resource: "namespaces", verbs: Vec::new(), namespace: "", object: "" };
            rights::may(&self.client, (own, &account), &right, "watch")
        });
        match asked {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Stopped(vec![format!(
                "hpalite in namespace {own} may not watch Namespaces, so it would not see the pause: grant list and watch on \
                 namespaces as in k8s/base/rbac.yaml, name another installation by --service, or freeze NAMESPACE/NAME"
            )])),
            Err(error) => self.say(&format!("warning: whether hpalite sees Namespaces could not be asked: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::kube::fake;

    const WEB: &str = "/apis/keda.sh/v1alpha1/namespaces/shop/scaledobjects/web";

    /// Freezes or thaws in a cluster without `keda.k8s.io`, with rights on `keda.sh` alone; on single objects only if
    /// `lists` is false. Returns what came of it, what was printed, and what was written.
    fn run(scope: &Scope, freezes: bool, lists: bool) -> (Result<Vec<String>, Failure>, String, Vec<String>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writes = Arc::clone(&written);
        let annotations = json!({ PAUSED_REASON: "INC-7" });
        let annotations = if freezes { json!({}) } else { annotations };
        let web = json!({ "metadata": { "namespace": "shop", "name": "web", "annotations": annotations } });
        let shop = json!({ "metadata": { "name": "shop", "annotations": annotations } });
        let client = fake::client(move |line, _| {
            let listed =
                ["/apis/keda.sh/v1alpha1/namespaces/shop/scaledobjects", "/apis/keda.sh/v1alpha1/scaledobjects"];
            let (method, path) = line.split_once(' ').unwrap();
            if method == "PATCH" {
                writes.lock().unwrap().push(path.to_owned());
            }
            let found = match path {
                "/apis" => json!({ "groups": [{ "name": "keda.sh" }] }),
                "/api/v1/namespaces" => json!({ "items": [shop] }),
                "/api/v1/namespaces/shop" => shop.clone(),
                WEB => web.clone(),
                path if lists && listed.contains(&path) => json!({ "items": [web] }),
                path if method == "POST" && path.ends_with("/subjectaccessreviews") => {
                    json!({ "status": { "allowed": true } })
                }
                _ => return (403, json!({ "kind": "Status", "code": 403, "reason": "Forbidden" }).to_string()),
            };
            (if method == "POST" { 201 } else { 200 }, found.to_string())
        });
        let plan = Plan {
            service: ("hpalite".to_owned(), "hpalite".to_owned()),
            apiservice: String::new(),
            timeout: Duration::ZERO,
            dry_run: false,
        };
        let mut out = Vec::new();
        let mut migration = Migration { client, plan: &plan, out: &mut out };
        let until = End::After(Duration::from_mins(1));
        let freeze = Freeze { replicas: None, until, reason: "INC-7".to_owned() };
        let ended = if freezes { migration.freeze(scope, &freeze) } else { migration.thaw(scope) };
        let written = written.lock().unwrap().clone();
        (ended, String::from_utf8(out).unwrap(), written)
    }

    /// Regression: the API server refuses a group that is not there, too, to who has no rights on it, so that a Namespace was
    /// paused and the command failed nevertheless.
    #[test]
    fn rights_on_keda_sh_are_enough_where_there_is_no_other_group() {
        let namespace = "/api/v1/namespaces/shop".to_owned();
        let object = Scope::Object { namespace: "shop".to_owned(), name: "web".to_owned() };
        for (scope, freezes, writes) in [
            (Scope::All, true, vec![namespace.clone()]),
            (Scope::Namespace("shop".to_owned()), true, vec![namespace.clone()]),
            (object.clone(), true, vec![WEB.to_owned()]),
            (Scope::All, false, vec![namespace.clone(), WEB.to_owned()]),
            (object, false, vec![WEB.to_owned()]),
        ] {
            let (ended, printed, written) = run(&scope, freezes, true);
            assert!(matches!(&ended, Ok(problems) if problems.is_empty()), "{scope:?} {ended:?}");
            assert_eq!(written, writes, "{scope:?} {printed}");
            assert!(!printed.contains("warning: for"), "{printed}");
        }
    }

    /// Regression: all objects of the namespace were listed to find one.
    #[test]
    fn one_object_is_frozen_with_rights_on_it_alone() {
        let object = Scope::Object { namespace: "shop".to_owned(), name: "web".to_owned() };
        let (ended, printed, written) = run(&object, true, false);
        assert!(ended.is_ok(), "{ended:?} {printed}");
        assert_eq!(written, [WEB]);
        let other = Scope::Object { namespace: "shop".to_owned(), name: "other".to_owned() };
        let (ended, _, written) = run(&other, true, false);
        assert!(ended.is_err() && written.is_empty(), "{ended:?}");
    }

    /// Regression: the command failed after it had paused the Namespace, when only its objects could not be listed.
    #[test]
    fn a_pause_that_is_written_is_a_success_though_its_objects_cannot_be_listed() {
        let (ended, printed, written) = run(&Scope::Namespace("shop".to_owned()), true, false);
        assert!(matches!(&ended, Ok(problems) if problems.is_empty()), "{ended:?}");
        assert_eq!(written, ["/api/v1/namespaces/shop"]);
        assert!(
            printed.contains("warning: for which objects that holds could not be read: the API server: "),
            "{printed}"
        );
    }

    /// Regression: whoever had frozen a Namespace without the right to list its objects could not thaw it.
    #[test]
    fn a_namespace_is_thawed_though_its_objects_cannot_be_listed() {
        let (ended, printed, written) = run(&Scope::Namespace("shop".to_owned()), false, false);
        assert_eq!(written, ["/api/v1/namespaces/shop"], "{printed}");
        let Ok(problems) = &ended else { panic!("{ended:?}") };
        let named = "the ScaledObjects of Namespace shop are left as they are: the API server: ";
        assert!(matches!(&problems[..], [problem] if problem.starts_with(named)), "{problems:?}");
        assert!(!printed.contains("nothing here is frozen"), "{printed}");
    }
}
