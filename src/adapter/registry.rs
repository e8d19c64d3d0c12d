//! Which metric is which query: the rules, and what their last list of series gave.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::resources::{ApiResource, Resources};
use crate::http::discovery::Listed;
use crate::prometheus::vector::Sample;
use crate::scaling::hpa::HpaMetric;
use crate::wire::adapter::{Rule, Rules};

/// Metrics in all; each takes some 200 bytes.
const METRICS_MAX: usize = 50_000;

/// What is known at a time. Never changed, but replaced.
#[derive(Default)]
pub(super) struct Registry {
    /// Whether series have been listed at all.
    pub(super) is_listed: bool,
    resources: Arc<Resources>,
    /// By metric and resource.
    objects: HashMap<(String, usize), Entry>,
    external: BTreeMap<String, Entry>,
    /// All metrics of objects, for discovery, which is asked several times a minute.
    pub(super) listed: Listed,
    /// What each rule gave, in order, to be kept if the next list of one fails.
    given: Vec<Given>,
    pub(super) problems: usize,
}

/// A metric: the series and the rule that ask for it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) series: Arc<str>,
    pub(super) rule: Arc<Rule>,
}

/// What a rule gave.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) rule: Arc<Rule>,
    /// Names of series, with the resource that a label names; `None` for external metrics.
    pub(super) series: Vec<(Arc<str>, Option<usize>)>,
    /// Why its series could not be listed the last time.
    pub(super) error: Option<String>,
}

impl Given {
    /// Returns its series, where their resources are now; those of a resource that is gone are gone with it.
    fn kept(&self, place: impl Fn(usize) -> Option<usize>) -> Series {
        let kept = |(series, resource): &(Arc<str>, Option<usize>)| match resource {
            Some(at) => Some((Arc::clone(series), Some(place(*at)?))),
            None => Some((Arc::clone(series), None)),
        };
        self.series.iter().filter_map(kept).collect()
    }
}

/// Lists names: of labels, or of metrics that a selector matches.
pub(super) trait Lister {
    /// # Errors
    /// Why they are not known.
    fn labels(&mut self, selector: &str) -> Result<Arc<[String]>, String>;
    /// # Errors
    /// Why they are not known.
    fn metrics(&mut self, selector: &str) -> Result<Arc<[String]>, String>;
}

impl Registry {
    /// Lists the series of each rule. A rule whose list fails keeps what it had in `before`.
    pub(super) fn list(
        rules: &Rules,
        problems: usize,
        resources: Arc<Resources>,
        before: &Self,
        lister: &mut dyn Lister,
    ) -> Self {
        let places = before.resources.places_in(&resources);
        let place = |at: usize| places.get(at).copied().flatten();
        let custom = rules.custom.iter().map(|rule| (rule, false));
        let external = rules.external.iter().map(|rule| (rule, true));
        let given = custom.chain(external).map(|(rule, is_external)| {
            let listed = if is_external { of_external(rule, lister) } else { of_objects(rule, &resources, lister) };
            let (series, error) = match listed {
                Ok(series) => (series, None),
                Err(error) => {
                    let same = |given: &&Given| Arc::ptr_eq(&given.rule, rule);
                    let old = before.given.iter().find(same).map(|given| given.kept(place));
                    (old.unwrap_or_default(), Some(error))
                }
            };
            Given { rule: Arc::clone(rule), series, error }
        });
        let mut registry = Self { is_listed: true, given: given.collect(), resources, problems, ..Self::default() };
        for given in &registry.given {
            for (series, resource) in &given.series {
                let Some(metric) = given.rule.metric(series) else { continue };
                let entry = Entry { series: Arc::clone(series), rule: Arc::clone(&given.rule) };
                // A later rule wins, and of one rule a later series.
                match resource {
                    Some(resource) if registry.objects.len() < METRICS_MAX => {
                        registry.objects.insert((metric, *resource), entry);
                    }
                    None if registry.external.len() < METRICS_MAX => {
                        registry.external.insert(metric, entry);
                    }
                    _ => {}
                }
            }
        }
        registry.listed = registry.all();
        registry
    }

    /// Finds the metric of a resource that is named as in a path: singular or plural, its group whole or in part.
    pub(super) fn of_object(&self, resource: &str, group: &str, metric: &str) -> Option<(&ApiResource, &Entry)> {
        let at = self.resources.find(resource, group)?;
        let entry = self.objects.get(&(metric.to_owned(), at))?;
        Some((self.resources.get(at)?, entry))
    }

    pub(super) fn external(&self, metric: &str) -> Option<&Entry> {
        self.external.get(metric)
    }

    /// Returns whether a rule gives a metric of an HPA; `None` before any rule has given anything.
    pub(super) fn gives(&self, metric: &HpaMetric) -> Option<bool> {
        let is_given = match metric {
            HpaMetric::External { name, .. } => self.external(name).is_some(),
            HpaMetric::Pods { name, .. } => self.of_object("pods", "", name).is_some(),
            HpaMetric::Object { name, described, .. } => {
                self.of_object(&described.kind, described.group(), name).is_some()
            }
            HpaMetric::Other { kind, name, .. } => match kind.as_str() {
                "External" => self.external(name).is_some(),
                "Pods" => self.of_object("pods", "", name).is_some(),
                // Of which object is not known.
                "Object" => self.objects.keys().any(|(metric, _)| metric == name),
                _ => false,
            },
            HpaMetric::Resource { .. } | HpaMetric::ContainerResource { .. } => false,
        };
        let is_listed = self.is_listed && (self.objects_len() + self.external_len() > 0 || self.failing() == 0);
        (is_given || is_listed).then_some(is_given)
    }

    /// Returns all metrics of objects, ordered by name.
    fn all(&self) -> Listed {
        let named = self.objects.keys().filter_map(|(metric, at)| {
            let resource = self.resources.get(*at)?;
            Some((format!("{}/{metric}", resource.qualified()), resource.namespaced))
        });
        let mut listed: Vec<_> = named.collect();
        listed.sort();
        listed.into()
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given.iter().filter_map(|given| Some((given.rule.place.as_str(), given.error.as_deref()?)))
    }

    pub(super) fn objects_len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn external_len(&self) -> usize {
        self.external.len()
    }

    pub(super) fn rules_len(&self) -> usize {
        self.given.len()
    }

    pub(super) fn failing(&self) -> usize {
        self.errors().count()
    }
}

type Series = Vec<(Arc<str>, Option<usize>)>;

fn of_external(rule: &Rule, lister: &mut dyn Lister) -> Result<Series, String> {
    let names = lister.metrics(rule.series.as_str())?;
    let wanted = names.iter().filter(|name| rule.metric(name).is_some());
    Ok(wanted.map(|name| (Arc::from(name.as_str()), None)).collect())
}

/// Asks for each label that names a resource which series have it. All series themselves would be a list of any size.
fn of_objects(rule: &Rule, resources: &Resources, lister: &mut dyn Lister) -> Result<Series, String> {
    let mut labels: BTreeMap<String, usize> = BTreeMap::new();
    for (label, named) in rule.overrides() {
        if let Some(at) = resources.find(&named.resource, &named.group) {
            labels.insert(label.clone(), at);
        }
    }
    if rule.has_template() {
        let present = lister.labels(rule.series.as_str())?;
        for (at, resource) in resources.all().iter().enumerate() {
            let label = rule.label_of(resource.named()).filter(|label| present.contains(label));
            // Without the group in it, a label is of the first resource of that name.
            if let Some(label) = label {
                labels.entry(label).or_insert(at);
            }
        }
    }
    let mut series = Vec::new();
    for (label, at) in labels {
        let names = lister.metrics(&rule.series.with_label(&label))?;
        let wanted = names.iter().filter(|name| rule.metric(name).is_some());
        series.extend(wanted.map(|name| (Arc::from(name.as_str()), Some(at))));
    }
    Ok(series)
}

/// Returns the values of objects in the order of their names. One without a number has none: the HPA controller counts
/// such a pod as missing, while a zero would scale in.
pub(super) fn of_names(names: Vec<String>, label: &str, samples: Vec<Sample>) -> Vec<(String, f64)> {
    let mut values: HashMap<String, f64> = HashMap::new();
    for mut sample in samples {
        // As by prometheus-adapter, a series without the label is of no object, and the last of several counts.
        if let Some(name) = sample.labels.remove(label) {
            values.insert(name, sample.value);
        }
    }
    let value = |name: String| {
        let value = values.get(&name).copied().filter(|value| value.is_finite())?;
        Some((name, value))
    };
    names.into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::adapter;

    /// Series as `name{label,label}`.
    struct Fake {
        series: Vec<(&'static str, &'static [&'static str])>,
        fails_on: &'static str,
        asked: Vec<String>,
    }

    impl Fake {
        fn of(series: &[(&'static str, &'static [&'static str])]) -> Self {
            Self { series: series.to_vec(), fails_on: "-", asked: Vec::new() }
        }
    }

    impl Lister for Fake {
        fn labels(&mut self, selector: &str) -> Result<Arc<[String]>, String> {
            self.asked.push(format!("labels {selector}"));
            let labels = self.series.iter().flat_map(|(_, labels)| labels.iter());
            Ok(labels.map(|label| (*label).to_owned()).collect())
        }

        fn metrics(&mut self, selector: &str) -> Result<Arc<[String]>, String> {
            self.asked.push(selector.to_owned());
            if selector.contains(self.fails_on) {
                return Err("down".to_owned());
            }
            let named = selector.split('{').next().unwrap_or_default();
            let has = |labels: &[&str]| match selector.rsplit_once([',', '{']) {
                Some((_, last)) => labels.iter().any(|label| last.starts_with(&format!("{label}!="))),
                None => true,
            };
            Ok(self
                .series
                .iter()
                .filter(|(name, labels)| (named.is_empty() || *name == named) && has(labels))
                .map(|(name, _)| (*name).to_owned())
                .collect())
        }
    }

    fn resources() -> Arc<Resources> {
        Arc::new(Resources::of(&[
            ("", "v1", "pods", "pod", "Pod", true),
            ("", "v1", "namespaces", "namespace", "Namespace", false),
            ("", "v1", "services", "service", "Service", true),
            ("", "v1", "nodes", "node", "Node", false),
            ("apps", "v1", "deployments", "deployment", "Deployment", true),
            ("batch", "v1", "jobs", "job", "Job", true),
            ("serving.example.org", "v1", "services", "service", "Service", true),
        ]))
    }

    const RULES: &str = r#"rules:
- seriesQuery: '{namespace!=""}'
  resources: {template: "<<.Resource>>"}
  name: {matches: "^(.*)_total$"}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)
- seriesQuery: 'queue{queue!=""}'
  resources: {overrides: {app: {group: apps, resource: deployment}, namespace: {resource: namespace}}}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
externalRules:
- seriesQuery: depth
  resources: {namespaced: false}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>})
"#;

    fn list(rules: &Rules, before: &Registry, resources: &Arc<Resources>, fake: &mut Fake) -> Registry {
        Registry::list(rules, 0, Arc::clone(resources), before, fake)
    }

    #[test]
    fn metrics_are_those_of_the_labels_that_series_have() {
        let rules = adapter::parse(RULES).unwrap().rules;
        let mut fake = Fake::of(&[
            ("http_requests_total", &["namespace", "pod", "service", "job", "instance"]),
            ("node_reboots_total", &["node"]),
            ("up", &["namespace", "pod"]),
        ]);
        let registry = list(&rules, &Registry::default(), &resources(), &mut fake);
        let listed: Vec<&str> = registry.listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            listed,
            [
                "jobs.batch/http_requests",
                "namespaces/http_requests",
                "nodes/node_reboots",
                "pods/http_requests",
                "services/http_requests",
            ]
        );
        assert!(fake.asked.contains(&r#"{namespace!="",pod!=""}"#.to_owned()), "{:?}", fake.asked);
        let (resource, entry) = registry.of_object("pods", "", "http_requests").unwrap();
        assert_eq!((resource.kind.as_str(), &*entry.series), ("Pod", "http_requests_total"));
        assert!(
            registry.of_object("Pod", "", "http_requests").is_some() && registry.of_object("pods", "", "up").is_none()
        );
        assert!(registry.of_object("services", "serving", "http_requests").is_none(), "the label is of the first");
        assert!(registry.of_object("jobs", "batch", "http_requests").is_some());
        assert!(registry.external("depth").is_none());
    }

    #[test]
    fn a_rule_that_fails_keeps_what_it_had_and_harms_no_other() {
        let rules = adapter::parse(RULES).unwrap().rules;
        let resources = resources();
        let mut fake = Fake::of(&[("queue", &["namespace", "app"])]);
        let first = list(&rules, &Registry::default(), &resources, &mut fake);
        assert!(first.of_object("deployments", "apps", "queue").is_some());
        let mut fake = Fake { fails_on: "queue", ..Fake::of(&[("http_total", &["pod"])]) };
        let second = list(&rules, &first, &resources, &mut fake);
        assert!(second.of_object("deployments", "apps", "queue").is_some(), "kept");
        assert!(second.of_object("pods", "", "http").is_some(), "new");
        assert_eq!(second.errors().collect::<Vec<_>>(), [("rules[1]", "down")]);
        // Another file has other rules.
        let other = adapter::parse(RULES).unwrap().rules;
        let third = list(&other, &second, &resources, &mut fake);
        assert!(third.of_object("deployments", "apps", "queue").is_none());
    }

    /// Regression: what a rule had was lost if its list failed just when the cluster had another kind.
    #[test]
    fn a_rule_that_fails_keeps_what_it_had_though_the_kinds_of_the_cluster_change() {
        let rules = adapter::parse(RULES).unwrap().rules;
        let mut fake = Fake::of(&[("queue", &["namespace", "app"])]);
        let first = list(&rules, &Registry::default(), &resources(), &mut fake);
        let mut down = Fake { fails_on: "queue", ..Fake::of(&[]) };
        // Other kinds come before it, and one is gone.
        let changed = Arc::new(Resources::of(&[
            ("", "v1", "secrets", "secret", "Secret", true),
            ("", "v1", "pods", "pod", "Pod", true),
            ("apps", "v2", "deployments", "deployment", "Deployment", true),
        ]));
        let second = list(&rules, &first, &changed, &mut down);
        let (kind, entry) = second.of_object("deployments", "apps", "queue").unwrap();
        assert_eq!((kind.kind.as_str(), kind.version.as_str(), &*entry.series), ("Deployment", "v2", "queue"));
        assert_eq!(second.objects_len(), 1, "that of namespaces is gone");
    }

    #[test]
    fn it_is_known_whose_metric_an_hpa_asks_for() {
        use crate::scaling::model::{Described, MetricTarget};
        let rules = adapter::parse(RULES).unwrap().rules;
        let (target, match_labels) = (MetricTarget::Value(1000), litemap::LiteMap::new);
        let pods = |name: &str| HpaMetric::Pods { name: name.to_owned(), match_labels: match_labels(), target };
        let external = |name: &str| HpaMetric::External { name: name.to_owned(), match_labels: match_labels(), target };
        let object = |api_version: &str, kind: &str| {
            let (api_version, kind, name) = (api_version.to_owned(), kind.to_owned(), "front".to_owned());
            let described = Described { api_version, kind, name };
            HpaMetric::Object { name: "http".to_owned(), match_labels: match_labels(), described, target }
        };
        assert_eq!(Registry::default().gives(&pods("http")), None, "nothing is known yet");
        let mut down = Fake { fails_on: "", ..Fake::of(&[]) };
        let failed = list(&rules, &Registry::default(), &resources(), &mut down);
        assert_eq!(failed.gives(&pods("http")), None, "Prometheus is away");
        let mut fake = Fake::of(&[("http_total", &["namespace", "pod", "service"]), ("depth", &[])]);
        let registry = list(&rules, &failed, &resources(), &mut fake);
        for (metric, given) in [
            (pods("http"), true),
            (pods("depth"), false),
            (external("depth"), true),
            (external("http"), false),
            (object("v1", "Service"), true),
            (object("apps/v1", "Deployment"), false),
            (HpaMetric::Resource { name: "http".to_owned(), target }, false),
        ] {
            assert_eq!(registry.gives(&metric), Some(given), "{metric:?}");
        }
    }

    #[test]
    fn objects_without_a_number_have_no_value() {
        let sample = |labels: &[(&str, &str)], value: f64| Sample {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            value,
        };
        let names = || ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let samples = vec![
            sample(&[("pod", "c")], 3.0),
            sample(&[("pod", "a")], 1.0),
            sample(&[("pod", "b")], f64::NAN),
            sample(&[("pod", "other")], 9.0),
            sample(&[], 9.0),
        ];
        assert_eq!(of_names(names(), "pod", samples), [("a".to_owned(), 1.0), ("c".to_owned(), 3.0)]);
    }
}
