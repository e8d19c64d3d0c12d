//! prometheus-adapter's configuration file: rules that make series of a Prometheus metrics of Kubernetes objects, and
//! external metrics.
//!
//! Pure. Owns the fields, their defaults and the queries that they lead to, after `pkg/config` and `pkg/naming` of
//! kubernetes-sigs/prometheus-adapter. There one mistake refuses the whole file; here each rule stands for itself, and
//! one with a problem is left out.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod matcher;
mod selector;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::matcher::Matcher;
pub use self::selector::SeriesQuery;
use self::template::{Data, Template};
use super::fields::Warning;
use super::fields::{Diagnostics, Fields, describe, quoted};
use crate::formats::pattern::Pattern;
use crate::formats::yaml;
use crate::scaling::model::{Problem, Step};
use crate::spelling::nearest;

/// A ConfigMap cannot hold more.
pub const BYTES_MAX: usize = 1 << 20;
/// Each rule asks its own questions at every relist.
const RULES_MAX: usize = 500;
/// Labels that a rule maps to resources; each is a question at every relist.
const OVERRIDES_MAX: usize = 32;

const FIELDS: [&str; 6] = ["seriesQuery", "seriesFilters", "resources", "name", "metricsQuery", "namespaced"];

/// The usable rules of a file, in its order; a later rule wins over an earlier one that gives the same metric.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `rules`: metrics of objects.
    pub custom: Vec<Arc<Rule>>,
    /// `externalRules`.
    pub external: Vec<Arc<Rule>>,
}

/// What a file says, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Reading {
    pub rules: Rules,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// As in `rules[3]`.
    pub place: String,
    pub series: SeriesQuery,
    filters: Vec<(Pattern, bool)>,
    name: Pattern,
    name_as: String,
    overrides: BTreeMap<String, GroupResource>,
    label: Option<Template>,
    /// Whether a read of an external metric is of the HPA's own namespace.
    namespaced: bool,
    query: Template,
}

/// A resource as a person names it: singular or plural, the group whole, in its first parts, or left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    pub group: String,
    pub resource: String,
}

/// A resource of the cluster, as discovery names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    pub group: &'a str,
    pub plural: &'a str,
    pub singular: &'a str,
}

/// The resource of a namespace itself.
pub const NAMESPACES: Named<'static> = Named { group: "", plural: "namespaces", singular: "namespace" };

impl GroupResource {
    /// Returns whether this names that resource. A group may be given by its first letters, as for kubectl.
    #[must_use]
    pub fn is(&self, named: Named<'_>) -> bool {
        (self.resource.eq_ignore_ascii_case(named.plural) || self.resource.eq_ignore_ascii_case(named.singular))
            && (named.group.starts_with(&self.group) || sanitized(named.group) == self.group)
    }
}

/// The characters of a group that a label cannot have become underscores.
fn sanitized(group: &str) -> String {
    group.replace(['.', '-'], "_")
}

/// Returns whether a document is such a file: it has one of the lists, and is no Kubernetes object.
#[must_use]
pub fn is_config(value: &Value) -> bool {
    let has = |name: &str| value.get(name).is_some_and(|found| found.is_array() || found.is_object());
    value.get("kind").is_none() && ["rules", "externalRules", "resourceRules"].into_iter().any(has) && {
        // Prometheus' own files have rules too, but no series queries.
        let rules = ["rules", "externalRules"].into_iter().filter_map(|name| value.get(name)?.as_array()).flatten();
        let mut known = rules.map(|rule| FIELDS.iter().any(|field| *field != "name" && rule.get(field).is_some()));
        value.get("resourceRules").is_some() || known.any(|is_known| is_known)
    }
}

/// Reads a file.
///
/// # Errors
/// Why nothing of it can be read: it is too large, or not YAML.
pub fn parse(text: &str) -> Result<Reading, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("is larger than {} KiB", BYTES_MAX >> 10));
    }
    let value = yaml::tree(text)?;
    Ok(from_value(&value, ""))
}

/// Reads the document; `prefix` is its path in the object that holds it.
#[must_use]
pub fn from_value(value: &Value, prefix: &str) -> Reading {
    let mut report = Diagnostics::default();
    let config = Fields::new(prefix, Some(value), STEP, &mut report);
    let mut rules = Rules::default();
    for (name, _) in config.entries() {
        match name.as_str() {
            "rules" | "externalRules" => {}
            "resourceRules" => report.warn(
                config.path(name),
                "metrics.k8s.io is not served: these rules are left out",
                "install metrics-server for CPU and memory, and remove them",
            ),
            other => {
                let fix = nearest(other, &["rules", "externalRules"]).map(|near| format!("did you mean {near}?"));
                report.problem(STEP, config.path(other), "is not known", fix.unwrap_or_default());
            }
        }
    }
    let mut left = RULES_MAX;
    for (list, is_external) in [("rules", false), ("externalRules", true)] {
        for fields in config.objects(list, &mut report) {
            if left == 0 {
                let message = format!("is beyond {RULES_MAX} rules, which is as many as are read");
                report.problem(STEP, fields.here(), message, "write fewer, for more series each");
                break;
            }
            left -= 1;
            let before = report.problems.len();
            let rule = Rule::read(&fields, prefix, is_external, &mut report);
            if let Some(rule) = rule.filter(|_| report.problems.len() == before) {
                if is_external { &mut rules.external } else { &mut rules.custom }.push(Arc::new(rule));
            }
        }
    }
    Reading { rules, problems: report.problems, warnings: report.warnings }
}

const STEP: Step = Step::BuildScalers;

impl Rule {
    fn read(fields: &Fields<'_>, prefix: &str, is_external: bool, report: &mut Diagnostics) -> Option<Self> {
        for (name, _) in fields.entries().filter(|(name, _)| !FIELDS[..5].contains(&name.as_str())) {
            let near = match name.as_str() {
                "namespaced" => Some("resources.namespaced"),
                other => nearest(other, &FIELDS[..5]),
            };
            let fix = near.map(|near| format!("did you mean {near}?")).unwrap_or_default();
            report.problem(STEP, fields.path(name), "is not known", fix);
        }
        let [series, query] = fields.required(["seriesQuery", "metricsQuery"], report);
        let series = series.and_then(|text| {
            let read = SeriesQuery::parse(&text);
            read.map_err(|(message, fix)| report.problem(STEP, fields.path("seriesQuery"), message, fix)).ok()
        });
        let query = query.and_then(|text| {
            let read = Template::parse(&text, template::QUERY);
            read.map_err(|(message, fix)| report.problem(STEP, fields.path("metricsQuery"), message, fix)).ok()
        });
        let mut filters = Vec::new();
        for filter in fields.objects("seriesFilters", report) {
            let (is, is_not) = (filter.filled("is", report), filter.filled("isNot", report));
            match (is, is_not) {
                (Some(text), None) => filters.extend(pattern(&filter, "is", text, report).map(|found| (found, true))),
                (None, Some(text)) => {
                    filters.extend(pattern(&filter, "isNot", text, report).map(|found| (found, false)));
                }
                (Some(_), Some(_)) => {
                    report.problem(STEP, filter.here(), "has both is and isNot", "write a filter for each");
                }
                (None, None) => report.problem(STEP, filter.here(), "has neither is nor isNot", "write one of them"),
            }
        }
        let (name, name_as) = naming(&fields.child("name", report), &mut filters, report)?;
        let resources = fields.child("resources", report);
        let (label, overrides) = mapping(&resources, report);
        let namespaced = resources.boolean("namespaced", report).unwrap_or(true);
        let place = fields.here().strip_prefix(prefix).unwrap_or(fields.here()).trim_start_matches('.').to_owned();
        let (series, query) = (series?, query?);
        let rule = Self { place, series, filters, name, name_as, overrides, label, namespaced, query };
        rule.judge(fields, is_external, report);
        Some(rule)
    }

    /// Reports what leaves the rule without a use.
    fn judge(&self, fields: &Fields<'_>, is_external: bool, report: &mut Diagnostics) {
        let resources = fields.path("resources");
        let has_namespace = self.label_of(NAMESPACES).is_some();
        let fix = "write overrides: {namespace: {resource: namespace}}";
        if is_external {
            if self.namespaced && !has_namespace {
                let message = "has no label for namespaces, by which each read would be restricted";
                report.problem(STEP, resources, message, format!("{fix}, or namespaced: false"));
            }
        } else if self.label.is_none() && self.overrides.is_empty() {
            let message = "says of no label which resource it names";
            report.problem(STEP, resources, message, "write template: \"<<.Resource>>\", or overrides");
        } else if !has_namespace {
            let message = "has no label for namespaces: metrics of objects in namespaces cannot be read";
            report.warn(resources, message, fix);
        }
    }

    /// Returns the name of the metric that a series gives; `None` if a filter leaves the series out.
    #[must_use]
    pub fn metric(&self, series: &str) -> Option<String> {
        if self.filters.iter().any(|(pattern, wanted)| pattern.matches(series) != *wanted) {
            return None;
        }
        self.name.expand(&self.name_as, series).filter(|name| !name.is_empty())
    }

    /// Returns the label that holds the name of an object of this resource.
    #[must_use]
    pub fn label_of(&self, resource: Named<'_>) -> Option<String> {
        let own = self.overrides.iter().find(|(_, named)| named.is(resource));
        own.map(|(label, _)| label.clone()).or_else(|| {
            let group = sanitized(resource.group);
            let data = Data { group: &group, resource: resource.singular, ..Data::default() };
            self.label.as_ref().map(|label| label.render(&data)).filter(|label| !label.is_empty())
        })
    }

    /// The labels that name resources, whatever the series.
    #[must_use]
    pub fn overrides(&self) -> &BTreeMap<String, GroupResource> {
        &self.overrides
    }

    /// Whether any label may name a resource, by its form.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.label.is_some()
    }

    /// Returns the query for these objects of a resource. `namespace` is empty for a resource without one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn objects_query(
        &self,
        series: &str,
        resource: Named<'_>,
        namespace: &str,
        names: &[&str],
        selector: &[Matcher],
    ) -> Result<(String, String), String> {
        let none = |resource: Named<'_>| format!("{} has no label for {}", self.place, resource.plural);
        let mut matchers = selector.to_vec();
        if !namespace.is_empty() {
            let label = self.label_of(NAMESPACES).ok_or_else(|| none(NAMESPACES))?;
            matchers.push(Matcher::equal(&label, namespace));
        }
        let label = self.label_of(resource).ok_or_else(|| none(resource))?;
        matchers.push(Matcher::names(&label, names));
        Ok((self.render(series, &matchers, &[label.as_str()])?, label))
    }

    /// Returns the query for an external metric, read in a namespace.
    ///
    /// # Errors
    /// Why there is none.
    pub fn external_query(&self, series: &str, namespace: &str, selector: &[Matcher]) -> Result<String, String> {
        let mut matchers = selector.to_vec();
        if self.namespaced {
            let label =
                self.label_of(NAMESPACES).ok_or_else(|| format!("{} has no label for namespaces", self.place))?;
            matchers.push(Matcher::equal(&label, namespace));
        }
        self.render(series, &matchers, &[])
    }

    fn render(&self, series: &str, matchers: &[Matcher], group_by: &[&str]) -> Result<String, String> {
        let label_matchers = matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let values = matchers.iter().map(|matcher| (matcher.label.as_str(), matcher.values.join("|"))).collect();
        let data = Data { series, label_matchers: &label_matchers, values, group_by, ..Data::default() };
        let query = self.query.render(&data);
        if query.trim().is_empty() {
            Err(format!("metricsQuery of {} gives an empty query", self.place))
        } else {
            Ok(query)
        }
    }
}

fn pattern(fields: &Fields<'_>, name: &str, text: &str, report: &mut Diagnostics) -> Option<Pattern> {
    let problem = |error| report.problem(STEP, fields.path(name), format!("{} {error}", quoted(text)), "");
    Pattern::parse(text).map_err(problem).ok()
}

/// Reads `name`: what it matches is a filter too.
fn naming(
    fields: &Fields<'_>,
    filters: &mut Vec<(Pattern, bool)>,
    report: &mut Diagnostics,
) -> Option<(Pattern, String)> {
    only(fields, &["matches", "as"], report);
    let matches = fields.filled("matches", report);
    let found = pattern(fields, "matches", matches.unwrap_or(".*"), report)?;
    if matches.is_some() {
        filters.push((found.clone(), true));
    }
    let name_as = match (fields.filled("as", report), found.groups()) {
        (Some(text), _) => text.to_owned(),
        (None, 0) => "$0".to_owned(),
        (None, 1) => "$1".to_owned(),
        (None, groups) => {
            let message = format!("is missing, and matches has {groups} groups");
            report.problem(STEP, fields.path("as"), message, "write as: \"$1\", for example");
            return None;
        }
    };
    if let Some(group) = found.missing_group(&name_as) {
        let digits = group.len() - group.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let fix = match digits {
            0 => String::new(),
            _ => format!("write ${{{}}}{}", &group[..digits], &group[digits..]),
        };
        report.warn(fields.path("as"), format!("matches has no group {}, so that it is empty", quoted(group)), fix);
    }
    Some((found, name_as))
}

/// Reads `resources`: the form of labels, and single ones.
fn mapping(fields: &Fields<'_>, report: &mut Diagnostics) -> (Option<Template>, BTreeMap<String, GroupResource>) {
    only(fields, &["template", "overrides", "namespaced"], report);
    let label = fields.filled("template", report).and_then(|text| {
        let problem = |(message, fix)| report.problem(STEP, fields.path("template"), message, fix);
        let read = Template::parse(text, template::LABEL).map_err(problem).ok()?;
        if !read.has_resource() {
            let message = "does not hold <<.Resource>>, so that all resources would have the same label";
            report.problem(STEP, fields.path("template"), message, "write for example \"kube_<<.Resource>>\"");
            return None;
        }
        Some(read)
    });
    let overrides = fields.child("overrides", report);
    let mut found = BTreeMap::new();
    for (name, value) in overrides.entries() {
        let path = overrides.path(name);
        if !matcher::is_label(name) {
            report.problem(STEP, &path, "is not the name of a label", "");
            continue;
        }
        let fields = Fields::new(&path, Some(value), STEP, report);
        only(&fields, &["group", "resource"], report);
        let group = fields.filled("group", report).unwrap_or_default().to_owned();
        let [resource] = fields.required(["resource"], report);
        found.extend(resource.map(|resource| (name.clone(), GroupResource { group, resource })));
    }
    if found.len() > OVERRIDES_MAX {
        let message = format!("has {} labels: at most {OVERRIDES_MAX}", found.len());
        report.problem(STEP, overrides.here(), message, "write a template for labels of one form");
    }
    (label, found)
}

fn only(fields: &Fields<'_>, known: &[&str], report: &mut Diagnostics) {
    for (name, _) in fields.entries().filter(|(name, _)| !known.contains(&name.as_str())) {
        let fix = nearest(name, known).map(|near| format!("did you mean {near}?")).unwrap_or_default();
        report.problem(STEP, fields.path(name), "is not known", fix);
    }
}

/// Returns the file that a ConfigMap holds: the key, and its text.
#[must_use]
pub fn of_config_map(object: &Value) -> Vec<(&String, &str)> {
    let data = object.get("data").and_then(Value::as_object).map(Map::iter).into_iter().flatten();
    let texts = data.filter_map(|(key, value)| Some((key, value.as_str()?)));
    texts.filter(|(_, text)| text.contains("seriesQuery") || text.contains("resourceRules")).collect()
}

/// Describes a document that is no such file.
#[must_use]
pub fn no_config(value: &Value) -> String {
    format!("must hold rules or externalRules, is {}", describe(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::labels::Selector;

    const PODS: Named<'static> = Named { group: "", plural: "pods", singular: "pod" };
    const INGRESSES: Named<'static> = Named { group: "networking.k8s.io", plural: "ingresses", singular: "ingress" };

    fn read(text: &str) -> Reading {
        parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn one(rule: &str) -> Arc<Rule> {
        let reading = read(&format!("rules:\n- {}\n", rule.replace('\n', "\n  ")));
        assert_eq!(reading.problems, [], "{rule}");
        Arc::clone(&reading.rules.custom[0])
    }

    fn matchers(selector: &str) -> Vec<Matcher> {
        Matcher::of(&Selector::parse(selector).unwrap()).unwrap()
    }

    /// The rule of prometheus-adapter's walkthrough.
    const WALKTHROUGH: &str = r#""seriesQuery": |
   {namespace!="",__name__!~"^container_.*"}
"resources":
  "template": "<<.Resource>>"
"name":
  "matches": "^(.*)_total"
  "as": ""
"metricsQuery": |
  sum by (<<.GroupBy>>) (
    irate (
      <<.Series>>{<<.LabelMatchers>>}[1m]
    )
  )
"#;

    #[test]
    fn the_walkthrough_s_rule_is_read_as_its_author_meant() {
        let rule = one(WALKTHROUGH);
        assert_eq!(rule.series.with_label("pod"), r#"{namespace!="",__name__!~"^container_.*",pod!=""}"#);
        assert_eq!(rule.metric("http_requests_total").as_deref(), Some("http_requests"));
        assert_eq!(rule.metric("up"), None, "what matches is a filter too");
        let (query, label) =
            rule.objects_query("http_requests_total", PODS, "default", &["a", "b"], &matchers("verb=GET")).unwrap();
        let lines: Vec<&str> = query.lines().map(str::trim).collect();
        assert_eq!(lines[0], "sum by (pod) (");
        assert_eq!(lines[2], r#"http_requests_total{verb="GET",namespace="default",pod=~"a|b"}[1m]"#);
        assert_eq!(label, "pod");
        let (query, _) = rule.objects_query("x", PODS, "default", &["a"], &[]).unwrap();
        assert!(query.contains(r#"x{namespace="default",pod="a"}"#), "{query}");
        let (query, _) = rule.objects_query("x", NAMESPACES, "", &["default"], &[]).unwrap();
        assert!(query.contains(r#"sum by (namespace)"#) && query.contains(r#"x{namespace="default"}"#), "{query}");
    }

    /// The kinds of rules that charts of prometheus-adapter come with: one series is of one of them.
    #[test]
    fn rules_with_filters_share_the_series_out() {
        let reading = read(
            r#"rules:
- {seriesQuery: '{__name__=~"^container_.*"}', seriesFilters: [], resources: {overrides: {pod: {resource: pod}}},
   name: {matches: ^container_(.*)_seconds_total$, as: ""}, metricsQuery: a}
- {seriesQuery: '{__name__=~"^container_.*"}', seriesFilters: [{isNot: ^container_.*_seconds_total$}],
   resources: {template: <<.Resource>>}, name: {matches: ^container_(.*)_total$, as: ""}, metricsQuery: b}
- {seriesQuery: '{__name__=~"^container_.*"}', seriesFilters: [{isNot: .*_total$}, {is: ^container_}],
   resources: {template: <<.Resource>>}, name: {matches: "", as: ""}, metricsQuery: c}
"#,
        );
        assert_eq!(reading.problems, []);
        for (series, expected) in [
            ("container_cpu_usage_seconds_total", [Some("cpu_usage"), None, None]),
            ("container_fs_reads_total", [None, Some("fs_reads"), None]),
            ("container_memory_bytes", [None, None, Some("container_memory_bytes")]),
            ("http_requests_total", [None, None, None]),
        ] {
            let found: Vec<Option<String>> = reading.rules.custom.iter().map(|rule| rule.metric(series)).collect();
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "{series}");
        }
    }

    #[test]
    fn labels_are_mapped_by_overrides_before_the_template() {
        let rule = one(r#"seriesQuery: 'a{b="c"}'
resources:
  template: "kube_<<.Group>>_<<.Resource>>"
  overrides: {ns: {resource: namespaces}, site: {group: networking, resource: Ingress}}
metricsQuery: '<<.Series>>{x="<<index .LabelValuesByName "ns">>",<<.LabelMatchers>>} by <<.GroupBySlice>>'"#);
        assert_eq!(rule.label_of(NAMESPACES).as_deref(), Some("ns"));
        assert_eq!(rule.label_of(PODS).as_deref(), Some("kube__pod"));
        assert_eq!(rule.label_of(INGRESSES).as_deref(), Some("site"));
        let other = Named { group: "gateway.networking.k8s.io", plural: "routes", singular: "route" };
        assert_eq!(rule.label_of(other).as_deref(), Some("kube_gateway_networking_k8s_io_route"));
        assert_eq!(rule.metric("a").as_deref(), Some("a"));
        let (query, _) = rule.objects_query("a", INGRESSES, "shop", &["front"], &[]).unwrap();
        assert_eq!(query, r#"a{x="shop",ns="shop",site="front"} by [site]"#);
    }

    #[test]
    fn external_rules_are_of_the_reader_s_namespace_unless_they_say_otherwise() {
        let reading = read(
            r#"externalRules:
- seriesQuery: '{__name__="queue_depth",name!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
  resources: {overrides: {namespace: {resource: namespace}}}
- seriesQuery: '{__name__="queue_depth",name!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
  resources: {namespaced: false}
  name: {as: depth}
- seriesQuery: '{__name__="queue_depth",name!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
"#,
        );
        let [first, second] = &reading.rules.external[..] else { panic!("{reading:?}") };
        let query = first.external_query("queue_depth", "shop", &matchers("topic in (b,a),!x,y,z!=1")).unwrap();
        let expected = r#"sum(queue_depth{topic=~"a|b",x="",y!="",z!="1",namespace="shop"}) by (name)"#;
        assert_eq!(query, expected);
        assert_eq!(second.external_query("queue_depth", "shop", &[]).unwrap(), "sum(queue_depth{}) by (name)");
        assert_eq!(
            (second.metric("queue_depth").as_deref(), second.place.as_str()),
            (Some("depth"), "externalRules[1]")
        );
        assert_eq!(reading.problems.len(), 1);
        assert_eq!(reading.problems[0].field, "externalRules[2].resources");
    }

    #[test]
    fn a_mistake_is_of_its_own_rule_and_names_the_field() {
        let good = "seriesQuery: a\n  metricsQuery: <<.Series>>\n  resources: {template: <<.Resource>>}";
        let bad = |changed: &str| format!("rules:\n- {changed}\n- {good}\n");
        for (rule, field, words) in [
            ("seriesQuery: a", "rules[0].metricsQuery", "is missing"),
            ("metricsQuery: a", "rules[0].seriesQuery", "is missing"),
            ("seriesQuery: 'a{'\n  metricsQuery: b", "rules[0].seriesQuery", "is no series selector"),
            ("seriesQuery: a b\n  metricsQuery: b", "rules[0].seriesQuery", "is no series selector"),
            ("seriesQuery: a\n  metricsQuery: <<.Sereis>>", "rules[0].metricsQuery", "<<.Sereis>>"),
            ("seriesQuery: a\n  metricsQuery: <<range .GroupBySlice>>x<<end>>", "rules[0].metricsQuery", "<<range"),
            ("seriesQuery: a\n  metricsQuery: a<<.Series", "rules[0].metricsQuery", "without >>"),
            (
                "seriesQuery: a\n  metricsQuery: b\n  seriesFilters: [{is: a, isNot: b}]",
                "rules[0].seriesFilters[0]",
                "both",
            ),
            ("seriesQuery: a\n  metricsQuery: b\n  seriesFilters: [{}]", "rules[0].seriesFilters[0]", "neither"),
            (
                "seriesQuery: a\n  metricsQuery: b\n  seriesFilters: [{is: '('}]",
                "rules[0].seriesFilters[0].is",
                "is no regular expression",
            ),
            ("seriesQuery: a\n  metricsQuery: b\n  name: {matches: (a)(b)}", "rules[0].name.as", "2 groups"),
            ("seriesQuery: a\n  metricsQuery: b\n  name: {match: a}", "rules[0].name.match", "is not known"),
            ("seriesQuery: a\n  metricsQuery: b", "rules[0].resources", "which resource"),
            (
                "seriesQuery: a\n  metricsQuery: b\n  resources: {template: pod}",
                "rules[0].resources.template",
                "<<.Resource>>",
            ),
            (
                "seriesQuery: a\n  metricsQuery: b\n  resources: {overrides: {pod: {group: apps}}}",
                "rules[0].resources.overrides.pod.resource",
                "is missing",
            ),
            ("seriesQuery: a\n  metricsQuery: b\n  seriesQueries: c", "rules[0].seriesQueries", "is not known"),
            ("seriesQuery: a\n  metricsQuery: b\n  namespaced: false", "rules[0].namespaced", "is not known"),
            ("seriesQuery: 5\n  metricsQuery: b", "rules[0].seriesQuery", "must be a string"),
        ] {
            let reading = read(&bad(rule));
            let found = reading.problems.iter().any(|p| p.field == field && p.message.contains(words));
            assert!(found, "{rule}: {:#?}", reading.problems);
            assert_eq!(reading.rules.custom.len(), 1, "the other rule is used: {rule}");
            assert_eq!(reading.rules.custom[0].place, "rules[1]");
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        let reading = read("resourceRules: {cpu: {}}\nrules: []\n");
        assert!(reading.warnings[0].fix.contains("metrics-server"), "{reading:?}");
        let reading = read("rule: []\n");
        assert_eq!((&*reading.problems[0].field, &*reading.problems[0].fix), ("rule", "did you mean rules?"));
        let text = "rules: [{seriesQuery: a, metricsQuery: b, resources: {overrides: {pod: {resource: pod}}}, \
                    name: {matches: '^(.*)_total$', as: $1_per_second}}]";
        let reading = read(text);
        let words: Vec<(&str, &str)> =
            reading.warnings.iter().map(|warning| (warning.field.as_str(), warning.fix.as_str())).collect();
        assert_eq!(words[0], ("rules[0].name.as", "write ${1}_per_second"));
        assert_eq!(words[1].0, "rules[0].resources");
        let many = format!(
            "rules:\n{}",
            "- {seriesQuery: a, metricsQuery: b, resources: {template: <<.Resource>>}}\n".repeat(501)
        );
        let reading = read(&many);
        assert_eq!((reading.rules.custom.len(), reading.problems.len()), (500, 1));
        for text in ["- 1", "a: [", "rules: 5", "x"] {
            let refused = parse(text).map_or(true, |reading| !reading.problems.is_empty());
            assert!(refused, "{text}");
        }
        assert!(parse(&" ".repeat(BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn files_are_recognised() {
        let value = |text: &str| yaml::tree(text).unwrap();
        assert!(is_config(&value("rules: [{seriesQuery: a}]")) && is_config(&value("resourceRules: {}")));
        assert!(is_config(&value("externalRules: [{metricsQuery: a}]")));
        for other in ["groups: []", "rules: [{alert: x, expr: y}]", "rules: [{apiGroups: []}]\nkind: Role", "5"] {
            assert!(!is_config(&value(other)), "{other}");
        }
    }
}
