//! Which module may import which, by the paths in the source: `crate::…`, `super::…` and `self::…` outside tests.
//! Names re-exported by a parent are not recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{root, sources};

/// A top-level module, what it may import, and why no more.
struct Layer {
    module: &'static str,
    may_import: &'static str,
    because: &'static str,
}

const fn layer(module: &'static str, may_import: &'static str, because: &'static str) -> Layer {
    Layer { module, may_import, because }
}

/// From the bottom to the top.
const LAYERS: &[Layer] = &[
    layer("encode", "", "an encoding does not depend on what it encodes"),
    layer("formats", "encode", "finding a value in a document needs only its text"),
    layer("spelling", "", "finding the most similar of several words needs only their text"),
    layer("random", "", "random numbers do not depend on what they spread"),
    layer("logfmt", "", "formats a line of the log, for every module that logs"),
    layer("telemetry", "", "every module may count, so counting depends on none"),
    layer("workers", "", "a pool of threads does not depend on what it runs"),
    layer("permit", "", "a permit does not depend on what it is for"),
    layer("tls", "", "certificates are verified in the same way in both directions"),
    layer("outbound", "", "addresses are judged by the same rules for all connections"),
    layer(
        "scaling",
        "random spelling",
        "the core decides without I/O, JSON and SQL, so that it can be simulated: facts come in as events, effects go \
         out as commands",
    ),
    layer("clock", "scaling", "time is read in one place, and handed to the core as a number"),
    layer("wire", "encode formats scaling spelling", "translating between the API's JSON and the model needs no I/O"),
    layer(
        "check",
        "scaling spelling wire",
        "manifests are judged without a cluster, by the rules that the daemon follows",
    ),
    layer(
        "kube",
        "encode formats outbound permit random scaling tls wire",
        "a client of the API server does not depend on its users",
    ),
    layer("rights", "kube", "asks the API server for the rights of a user, for any command"),
    layer("unserved", "kube scaling wire", "asks the API server what only KEDA would run, for any command"),
    layer(
        "polling",
        "encode outbound permit scaling tls workers",
        "the engine sends requests; the functions that build them and parse the answers are its arguments",
    ),
    layer(
        "identity",
        "encode formats polling scaling wire",
        "tokens and signatures do not depend on the source that they are for",
    ),
    layer(
        "prometheus",
        "encode formats polling scaling wire",
        "one source: what to ask Prometheus, and how to read its answer",
    ),
    layer(
        "metrics_api",
        "encode formats polling prometheus scaling wire workers",
        "one source: what to ask a service, and how to read its answer",
    ),
    layer(
        "queues",
        "encode formats identity polling prometheus scaling wire",
        "sources of other protocols: what to ask a queue or a database, and how to read its answer",
    ),
    layer("store", "encode scaling wire", "the history is written and read without knowing who does"),
    layer(
        "http",
        "encode logfmt scaling tls wire",
        "serves what others have published; it must answer whatever they do",
    ),
    layer(
        "explain",
        "encode logfmt scaling spelling store wire",
        "derives explanations from rows of the history alone",
    ),
    layer("history", "scaling store wire", "plots rows of the history alone"),
    layer(
        "replay",
        "check explain history outbound polling prometheus scaling store wire",
        "runs the core on what the history has: it judges candidates as check does, and asks the Prometheus that the command line names",
    ),
    layer(
        "status",
        "encode history kube scaling store wire",
        "a command beside the daemon: what it recorded, and what the API server says of it",
    ),
    layer("plugin", "kube", "carries command lines into the pod without knowing what they mean"),
    layer(
        "ui",
        "explain history http outbound replay scaling store",
        "a view of the history; it must not reach the daemon",
    ),
    layer(
        "migration",
        "clock encode kube rights scaling unserved wire",
        "a command beside the daemon, which needs the API server alone",
    ),
    layer("config", "kube logfmt outbound scaling store tls wire", "the settings of a daemon, for all that need them"),
    layer(
        "adapter",
        "clock config http kube polling prometheus scaling telemetry wire",
        "answers the API's reads by rules: it asks Prometheus and the API server, and knows no ScaledObject",
    ),
    layer(
        "forward",
        "config encode http polling scaling telemetry wire",
        "answers the API's reads as another adapter does: it knows neither objects nor rules",
    ),
    layer(
        "sources",
        "clock config encode formats identity kube metrics_api outbound polling prometheus queues scaling wire workers",
        "chooses the source of a query and its credentials, for the daemon and for doctor alike",
    ),
    layer(
        "doctor",
        "config encode forward http kube rights scaling sources store tls unserved wire",
        "a command beside the daemon: it must work where no daemon runs",
    ),
    layer(
        "daemon",
        "adapter clock config encode forward http kube logfmt outbound polling scaling sources store telemetry ui wire \
         workers",
        "ties the parts together; only the command line stands above it",
    ),
    layer(
        "cli",
        "check config daemon doctor explain formats history kube logfmt migration outbound plugin replay scaling status store tls wire",
        "reads flags and starts a command; nobody below needs to know of flags",
    ),
];

/// `scaling::world`, split into its parts.
type Module = Vec<String>;

/// Removes comments, and a test module at the end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn modules() -> BTreeMap<Module, String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let rust = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let modules = rust.map(|file| {
        let path = file.strip_prefix(root().join("src")).unwrap().with_extension("");
        let mut parts: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        (parts, code(&fs::read_to_string(file).unwrap()))
    });
    // The roots of a crate name every module.
    modules.filter(|(parts, _)| !["lib", "main", "build"].contains(&parts[0].as_str())).collect()
}

/// Reads `a::b::{c, d::e}` and adds a path for each end.
fn tree(text: &str, before: &[String], found: &mut Vec<Module>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        path.push(rest[..word].to_owned());
        at += word;
        if !text[at..].starts_with("::") {
            break;
        }
        at += 2;
        if text[at..].starts_with('{') {
            at += 1;
            while !text[at..].starts_with('}') && at < text.len() {
                let next = text[at..].chars().next().unwrap();
                at += if next.is_alphanumeric() || next == '_' {
                    tree(&text[at..], &path, found)
                } else {
                    next.len_utf8()
                };
            }
            return at + 1;
        }
    }
    found.push(path);
    at
}

/// Returns the paths from the root of the crate that a module's code names.
fn paths(module: &[String], code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_whole {
                tree(&code[at..], &[], &mut found);
            }
        }
    }
    let absolute = |path: Module| {
        let mut from = if path[0] == "crate" { Vec::new() } else { module.to_vec() };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(from.pop()),
                _ => from.push(part),
            }
        }
        from
    };
    found.into_iter().map(absolute).collect()
}

/// For each folder, which of its modules (with everything below them) names which other one, and where.
type Arrows = BTreeMap<Module, BTreeMap<(String, String), BTreeSet<String>>>;

fn arrows() -> Arrows {
    let modules = modules();
    let mut arrows = Arrows::new();
    for (module, code) in &modules {
        for path in paths(module, code) {
            // The module that contains the item.
            let Some(target) = (1..=path.len()).rev().map(|to| &path[..to]).find(|part| modules.contains_key(*part))
            else {
                continue;
            };
            let shared = module.iter().zip(target).take_while(|(one, other)| one == other).count();
            // A module and those inside of it belong together.
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let within = arrows.entry(module[..shared].to_vec()).or_default();
                within.entry((from.clone(), to.clone())).or_default().insert(module.join("::"));
            }
        }
    }
    arrows
}

#[test]
fn modules_import_what_their_layer_allows() {
    let arrows = arrows();
    let at_the_top = &arrows[&Vec::new()];
    assert!(at_the_top.len() > 50, "{at_the_top:?}");
    let mut wrong = Vec::new();
    for ((from, to), places) in at_the_top {
        let layer = LAYERS.iter().find(|layer| layer.module == from.as_str());
        let Some(layer) = layer else {
            wrong.push(format!("{from} has no row in LAYERS: what may it import, and why?"));
            continue;
        };
        let is_allowed = layer.may_import.split(' ').any(|name| name == to.as_str());
        if !is_allowed {
            wrong.push(format!("{from} must not import {to}, because {}; see {places:?}", layer.because));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each layer may import only layers that are above it in the table.
#[test]
fn the_layers_have_no_circle() {
    for (at, layer) in LAYERS.iter().enumerate() {
        for name in layer.may_import.split(' ').filter(|name| !name.is_empty()) {
            assert!(LAYERS[..at].iter().any(|below| below.module == name), "{} may import {name}", layer.module);
        }
    }
}

/// Returns all modules that can be reached from a module.
fn reached(from: &str, arrows: &BTreeMap<(String, String), BTreeSet<String>>) -> BTreeSet<String> {
    let (mut reached, mut waiting) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = waiting.pop() {
        for (_, to) in arrows.keys().filter(|(one, _)| *one == module) {
            if reached.insert(to.clone()) {
                waiting.push(to.clone());
            }
        }
    }
    reached
}

#[test]
fn no_modules_form_a_circle() {
    let mut circles = Vec::new();
    for (folder, within) in arrows() {
        let names: BTreeSet<String> = within.keys().map(|(from, _)| from.clone()).collect();
        let reach: BTreeMap<&String, BTreeSet<String>> =
            names.iter().map(|name| (name, reached(name, &within))).collect();
        let together = |name: &String| -> BTreeSet<&String> {
            names.iter().filter(|other| reach[name].contains(*other) && reach[*other].contains(name)).collect()
        };
        let components: BTreeSet<BTreeSet<&String>> = names.iter().map(together).filter(|set| set.len() > 1).collect();
        let folder = folder.join("::");
        for component in components {
            let ways: Vec<_> =
                within.iter().filter(|((from, to), _)| component.contains(from) && component.contains(to)).collect();
            circles.push(format!("in {folder:?} {component:?} need each other: {ways:?}"));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

const ON_LINUX: &str = "#[cfg(target_os = \"linux\")]";

/// Removes the items that exist on Linux alone.
fn elsewhere(code: &str) -> String {
    let mut parts = code.split(ON_LINUX);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut depth = 0;
        let end = part.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && (*c == ';' || *c == '}')
        });
        rest.push_str(&part[end.map_or(part.len(), |(at, _)| at + 1)..]);
    }
    rest
}

/// The commands of persons are built for systems without the modules of the daemon.
#[test]
fn what_every_system_has_does_without_linux() {
    let modules = modules();
    // Names the modules that are declared in a file for Linux alone.
    let of_linux = |code: &str| -> Vec<String> {
        let declared = code.split(ON_LINUX).skip(1).filter_map(|rest| {
            let rest = rest.trim_start().trim_start_matches("pub ").strip_prefix("mod ")?;
            Some(rest.split(';').next()?.to_owned())
        });
        declared.collect()
    };
    let root = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let at_the_top = of_linux(&root);
    assert!(at_the_top.contains(&"polling".to_owned()), "{at_the_top:?}");
    let is_of_linux = |module: &Module| {
        at_the_top.contains(&module[0])
            || (1..module.len()).any(|to| {
                let parent = modules.get(&module[..to]).map(String::as_str).unwrap_or_default();
                of_linux(parent).contains(&module[to])
            })
    };
    let mut wrong = Vec::new();
    for (module, code) in modules.iter().filter(|(module, _)| !is_of_linux(module)) {
        for path in paths(module, &elsewhere(code)) {
            if path.first().is_some_and(|first| at_the_top.contains(first) && first != "doctor") {
                wrong.push(format!("{} needs {}", module.join("::"), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "on other systems there is no such module:\n{}", wrong.join("\n"));
}

#[test]
fn paths_are_read() {
    let module = ["a".to_owned(), "b".to_owned()];
    let code = "use crate::{x::{y, Z}, w};\nuse super::c::d as e;\nlet f = self::g::h(std::crate_::i);";
    let found: Vec<String> = paths(&module, code).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["x::y", "x::Z", "w", "a::c::d", "a::b::g::h"]);
}
