//! Other settings to be tried: `--set PATH=VALUE` and `--candidate FILE`, applied to today's manifest.
//!
//! Owns their syntax and what is wrong with them. A candidate is judged as `hpalite check` would judge it, and as the
//! daemon would read it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::track::{SourceId, Track};
use crate::check::{self, Check, Severity};
use crate::history::changes;
use crate::scaling::model::{ApiGroup, Definition, ScaledObject};
use crate::wire::{Servers, scaled_object, trigger};

/// Candidates in one run: more do not fit beside each other.
pub const CANDIDATES_MAX: usize = 16;

/// Bytes of a manifest; the API server takes 1.5 MB.
const FILE_MAX: u64 = 2 << 20;

/// Steps of a path.
const DEPTH_MAX: usize = 16;

/// What a candidate is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// `PATH=VALUE[,PATH=VALUE…]`: today's settings, but for these.
    Set(String),
    /// A manifest; `-` is standard input.
    File(PathBuf),
    /// A manifest that standard input had.
    Text(String),
}

/// Settings that can be replayed.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub title: String,
    /// Differences from today's, one for each field; empty for today's.
    pub changes: Vec<String>,
    pub object: ScaledObject,
    pub definition: std::sync::Arc<Definition>,
}

/// The API whose rules a definition is replayed by: an HPA is replayed as the ScaledObject that would ask for the same,
/// which its definition is kept as.
pub(super) fn group_of(group: ApiGroup) -> ApiGroup {
    if group == ApiGroup::Autoscaling { ApiGroup::KedaSh } else { group }
}

/// Reads today's settings.
///
/// # Errors
/// All problems, one a line, each with its field and what to write instead.
pub fn today(group: ApiGroup, manifest: &Value) -> Result<Candidate, Vec<String>> {
    read(group, "today", manifest, Vec::new())
}

/// Reads a candidate.
///
/// # Errors
/// All problems, one a line, each with its field and what to write instead.
pub fn candidate(group: ApiGroup, title: &str, choice: &Choice, manifest: &Value) -> Result<Candidate, Vec<String>> {
    let mut changed = manifest.clone();
    match choice {
        Choice::Set(text) => {
            for assignment in assignments(text) {
                set(&mut changed, assignment).map_err(|problem| vec![format!("--set {problem}")])?;
            }
        }
        Choice::File(path) => {
            let shown = path.display();
            let text = File::open(path).map_err(|error| format!("cannot be read: {error}")).and_then(read_manifest);
            let spec = text.and_then(|text| spec_of(&text, manifest));
            changed["spec"] = spec.map_err(|problem| vec![format!("--candidate {shown}: {problem}")])?;
        }
        Choice::Text(text) => {
            changed["spec"] = spec_of(text, manifest).map_err(|problem| vec![format!("--candidate -: {problem}")])?;
        }
    }
    let before = findings(manifest);
    let problems: Vec<String> = findings(&changed)
        .into_iter()
        .filter(|(severity, text)| *severity == Severity::Error && !before.iter().any(|(_, known)| known == text))
        .map(|(_, text)| format!("{title}: {text}"))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let changes = changes::between(&manifest["spec"].to_string(), &changed["spec"].to_string());
    let changes = changes.into_iter().map(|change| format!("spec.{change}")).collect();
    read(group, title, &changed, changes)
}

/// Why an HPA that is only observed cannot be replayed.
const ONLY_SHOWN: &str = "an HPA without metrics of hpalite's own cannot be replayed: what its status showed was measured with \
                          the replicas that it had, and the load itself is in no history";

fn read(group: ApiGroup, title: &str, manifest: &Value, changes: Vec<String>) -> Result<Candidate, Vec<String>> {
    let types = manifest["spec"]["triggers"].as_array().into_iter().flatten().filter_map(|one| one["type"].as_str());
    if group == ApiGroup::Autoscaling && types.into_iter().any(trigger::shown::is_type) {
        return Err(vec![ONLY_SHOWN.to_owned()]);
    }
    let object = scaled_object::from_value(group_of(group), manifest.clone(), &Servers::default())
        .map_err(|error| vec![error.to_string()])?
        .object;
    let definition = match &object.definition {
        Ok(definition) => std::sync::Arc::clone(definition),
        Err(invalid) => return Err(invalid.problems.iter().map(|problem| format!("{title}: {problem}")).collect()),
    };
    Ok(Candidate { title: title.to_owned(), changes, object, definition })
}

impl Candidate {
    /// Returns what it asks that the history has no answer to, one a line.
    #[must_use]
    pub fn unknown(&self, tracks: &BTreeMap<SourceId, Track>) -> Vec<String> {
        let asking = self.definition.triggers.iter().filter(|trigger| !trigger.is_computed());
        asking
            .filter(|trigger| !tracks.contains_key(&SourceId::of(&trigger.kind, &trigger.source).among(tracks)))
            .map(|trigger| {
                let (_, query) = trigger.source.shown();
                format!(
                    "{}: spec.triggers[{}].metadata: the history has no answer to {query:?} in this time: replay a query \
                     that was asked, a longer --since, or --from-prometheus",
                    self.title, trigger.index
                )
            })
            .collect()
    }
}

/// Splits at the commas before which a path begins: values, such as queries, have commas of their own.
fn assignments(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(",spec.") {
        parts.push(&text[start..at]);
        start = at + 1;
    }
    parts.push(&text[start..]);
    parts
}

/// One step of a path.
#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Item(usize),
}

fn set(manifest: &mut Value, assignment: &str) -> Result<(), String> {
    let example = "for example spec.triggers[0].metadata.threshold=50";
    let Some((path, text)) = assignment.split_once('=') else {
        return Err(format!("\"{assignment}\" has no value: write PATH=VALUE, {example}"));
    };
    let path = path.trim();
    if !path.starts_with("spec.") {
        return Err(format!("\"{path}\": a path begins with spec., {example}"));
    }
    let steps = steps(path).ok_or_else(|| format!("\"{path}\" is not a path of names and [numbers], {example}"))?;
    // Parameters of triggers are texts, whatever they look like.
    let is_parameter = path.contains(".metadata.");
    let value = match serde_json::from_str::<Value>(text) {
        Ok(Value::Null) => Value::Null,
        Ok(value) if !is_parameter => value,
        _ => Value::from(text),
    };
    put(manifest, &steps, value).map_err(|problem| format!("{path}: {problem}"))
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, mut rest) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        if name.is_empty() {
            return None;
        }
        steps.push(Step::Field(name.to_owned()));
        while !rest.is_empty() {
            let (number, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Item(number.parse().ok()?));
            rest = after;
        }
    }
    (steps.len() <= DEPTH_MAX).then_some(steps)
}

/// Puts a value at a path, with the objects on the way to it; `null` removes what is there.
fn put(place: &mut Value, steps: &[Step], value: Value) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *place = value;
        return Ok(());
    };
    match step {
        Step::Field(name) => {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            let Some(fields) = place.as_object_mut() else {
                return Err(format!("{name} cannot be within {place}"));
            };
            if rest.is_empty() && value.is_null() {
                fields.remove(name);
                return Ok(());
            }
            put(fields.entry(name.clone()).or_insert(Value::Null), rest, value)
        }
        Step::Item(at) => {
            let Some(items) = place.as_array_mut() else {
                return Err(format!("[{at}] asks for a list, and there is none"));
            };
            let count = items.len();
            let Some(item) = items.get_mut(*at) else {
                return Err(format!("there is no [{at}]: the list has {count}, counted from 0"));
            };
            put(item, rest, value)
        }
    }
}

fn read_manifest(from: impl Read) -> Result<String, String> {
    let mut text = String::new();
    let read = from.take(FILE_MAX + 1).read_to_string(&mut text);
    let length = read.map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(length).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(format!("is larger than {} MiB", FILE_MAX >> 20));
    }
    Ok(text)
}

/// Takes the manifests that standard input has for each `-`: several are separated by a zero byte, which no YAML has.
///
/// # Errors
/// When it cannot be read, is too large, or has another number of them.
pub(super) fn with_standard_input(choices: &[Choice], from: impl Read) -> Result<Vec<Choice>, String> {
    let is_stdin = |choice: &&Choice| matches!(choice, Choice::File(path) if path.as_os_str() == "-");
    let wanted = choices.iter().filter(is_stdin).count();
    if wanted == 0 {
        return Ok(choices.to_vec());
    }
    let mut text = String::new();
    let max = FILE_MAX * wanted as u64;
    let read = from.take(max + 1).read_to_string(&mut text);
    let length = read.map_err(|error| format!("--candidate -: cannot be read: {error}"))?;
    let mut parts = text.split('\0');
    let count = parts.clone().count();
    if u64::try_from(length).unwrap_or(u64::MAX) > max {
        return Err(format!("--candidate -: is larger than {} MiB", max >> 20));
    }
    if count != wanted {
        return Err(format!("--candidate -: standard input has {count} manifests, and {wanted} are asked for"));
    }
    let replaced = choices.iter().map(|choice| match choice {
        choice if is_stdin(&choice) => Choice::Text(parts.next().unwrap_or_default().to_owned()),
        choice => choice.clone(),
    });
    Ok(replaced.collect())
}

/// Returns the spec of the manifest that is meant: the one of the same name, or the only one.
fn spec_of(text: &str, today: &Value) -> Result<Value, String> {
    let objects = check::objects(text)?;
    let mut found: Vec<Value> = objects.into_iter().filter(|object| object["kind"] == "ScaledObject").collect();
    let is_meant = |object: &Value| object["metadata"]["name"] == today["metadata"]["name"];
    if found.len() > 1 {
        found.retain(is_meant);
    }
    match found.as_mut_slice() {
        [one] => {
            let mut spec = one["spec"].take();
            // A manifest may leave to the cluster what the recorded definition says.
            Servers::of_spec(&today["spec"]).fill_in(&mut spec);
            Ok(spec)
        }
        found => Err(format!("has {} ScaledObjects of the name {}: write one", found.len(), today["metadata"]["name"])),
    }
}

/// Returns what `hpalite check` says of a manifest.
fn findings(manifest: &Value) -> Vec<(Severity, String)> {
    let mut check = Check::default();
    check.file("", &manifest.to_string());
    let text = |finding: check::Finding| {
        let fix = if finding.fix.is_empty() { String::new() } else { format!(" ({})", finding.fix) };
        (finding.severity, format!("{}: {}{fix}", finding.field, finding.message))
    };
    check.finish().findings.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::SampleValue;

    fn manifest() -> Value {
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "scaleTargetRef": {"name": "web"}, "cooldownPeriod": 60,
                "triggers": [{"type": "prometheus", "metadata":
                    {"serverAddress": "http://p:9090", "query": "sum(a, b)", "threshold": "75"}}],
            },
        })
    }

    fn of(choice: &Choice) -> Result<Candidate, Vec<String>> {
        let mut track = Track::default();
        track.push(0, &SampleValue::Number(1.0));
        let tracks = BTreeMap::from([(SourceId::new("prometheus", "", "sum(a, b)"), track)]);
        let found = candidate(ApiGroup::KedaSh, "candidate 1", choice, &manifest())?;
        let unknown = found.unknown(&tracks);
        if unknown.is_empty() { Ok(found) } else { Err(unknown) }
    }

    fn set(text: &str) -> Result<Candidate, Vec<String>> {
        of(&Choice::Set(text.to_owned()))
    }

    #[test]
    fn fields_are_set_by_their_path() {
        let found = set("spec.triggers[0].metadata.threshold=50,spec.cooldownPeriod=10,spec.maxReplicaCount=9");
        let found = found.expect("is valid");
        assert_eq!((found.definition.triggers[0].threshold, found.definition.max_replicas), (50.0, 9));
        assert_eq!(
            found.changes,
            [
                "spec.cooldownPeriod: 60 -> 10",
                "spec.triggers[0].metadata.threshold: \"75\" -> \"50\"",
                "spec.maxReplicaCount: 9 added",
            ]
        );
        let deep = set("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds=60");
        let window = deep.expect("is valid").definition.behavior.as_ref().and_then(|b| b.scale_down.clone());
        assert_eq!(window.and_then(|rules| rules.stabilization_window_seconds), Some(60));
        let gone = set("spec.cooldownPeriod=null").expect("is valid");
        assert_eq!(gone.changes, ["spec.cooldownPeriod: 60 removed"]);
    }

    #[test]
    fn mistakes_name_the_field_and_the_fix() {
        for (text, parts) in [
            ("spec.triggers[0].metadata.threshold", &["has no value", "PATH=VALUE"][..]),
            ("threshold=50", &["\"threshold\"", "begins with spec."]),
            ("spec.triggers[1].metadata.threshold=50", &["spec.triggers[1].metadata.threshold", "the list has 1"]),
            ("spec.triggers[x].type=cron", &["not a path"]),
            ("spec.cooldownPeriod.a=1", &["spec.cooldownPeriod.a", "cannot be within 60"]),
            ("spec.triggers[0].metadata.threshold=many", &["spec.triggers[0].metadata.threshold", "\"many\"", "("]),
            ("spec.cooldownPerod=10", &["spec.cooldownPerod", "cooldownPeriod"]),
            ("spec.maxReplicaCount=0", &["spec.maxReplicaCount"]),
            ("spec.triggers[0].metadata.query=sum(c)", &["spec.triggers[0].metadata", "no answer to \"sum(c)\""]),
        ] {
            let problems = set(text).expect_err(text).join("\n");
            assert!(parts.iter().all(|part| problems.contains(part)), "{text}: {problems}");
        }
    }

    #[test]
    fn manifests_come_from_standard_input() {
        let files = ["-", "a.yaml", "-"].map(|path| Choice::File(path.into()));
        let text = |text: &str| Choice::Text(text.to_owned());
        let found = with_standard_input(&files, &b"one\0two"[..]).expect("two");
        assert_eq!(found, [text("one"), files[1].clone(), text("two")]);
        assert_eq!(with_standard_input(&files[1..2], &b"unread"[..]), Ok(vec![files[1].clone()]));
        assert!(with_standard_input(&files, &b"one"[..]).is_err_and(|problem| problem.contains("has 1 manifests")));
        let large = vec![b'x'; 2 * (2 << 20) + 1];
        assert!(with_standard_input(&files, &large[..]).is_err_and(|problem| problem.contains("larger than 4 MiB")));
        assert!(of(&text("kind: Deployment")).is_err_and(|problems| problems[0].starts_with("--candidate -: has 0")));
    }

    #[test]
    fn a_manifest_is_taken_from_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web.yaml");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        let spec = "spec: {scaleTargetRef: {name: web}, triggers: [{type: prometheus, metadata: \
                    {serverAddress: 'http://q', query: 'sum(a, b)', threshold: '5'}}]}";
        write(&format!(
            "kind: Deployment\n---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: web}}\n{spec}\n"
        ));
        let found = of(&Choice::File(path.clone())).expect("is valid");
        assert_eq!(found.definition.triggers[0].threshold, 5.0);
        write("kind: [");
        assert!(of(&Choice::File(path.clone())).is_err_and(|problems| problems[0].contains("web.yaml: line")));
        write("kind: Deployment");
        assert!(of(&Choice::File(path.clone())).is_err_and(|problems| problems[0].contains("has 0 ScaledObjects")));
        assert!(of(&Choice::File(folder.path().join("none"))).is_err_and(|problems| problems[0].contains("cannot be")));
    }
}
