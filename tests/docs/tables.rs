//! Compares tables of the documentation with the code and the manifests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{read, root};

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Returns the first column of the table under a heading.
fn first_column(heading: &str) -> Vec<String> {
    let text = read(Path::new("k8s/operations.md"));
    let (_, section) = text.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = section.split("\n### ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_start_matches("| ").split(" | ").next().unwrap().to_owned()).collect()
}

/// Returns the texts in backticks.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_messages_are_in_the_code() {
    let mut source = String::new();
    sources(&root().join("src"), &mut source);
    // Joins texts that span several lines of the source.
    let source = source.split("\\\n").map(str::trim_start).collect::<String>();
    let rows = first_column("What hpalite says");
    assert!(rows.len() > 12, "{rows:?}");
    for row in rows {
        for code in codes(&row) {
            for part in code.split('…').map(str::trim).filter(|part| part.len() > 3) {
                assert!(source.contains(part), "no message with {part:?}");
            }
        }
    }
}

/// The tests that the threat model names must exist: modules, or functions in them.
#[test]
fn the_tests_of_the_security_model_exist() {
    let text = read(Path::new("k8s/security.md"));
    let (_, section) = text.split_once("# Security model\n").unwrap();
    let rows: Vec<&str> =
        section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 9, "{rows:?}");
    // After the header.
    for row in &rows[1..] {
        let names = codes(row.trim_end_matches('|').rsplit('|').next().unwrap());
        assert!(!names.is_empty(), "nothing shows {row}");
        for name in names {
            assert!(is_defined(name), "there is no test {name}");
        }
    }
}

/// Each difference from another adapter names the test that shows it.
#[test]
fn the_tests_of_the_differences_from_other_adapters_exist() {
    for (file, header, least) in [
        ("k8s/annotated-hpas.md", "| kube-metrics-adapter | hpalite | shown by |", 10),
        ("k8s/annotated-hpas.md", "| of such an HPA | the history has | shown by |", 4),
        ("k8s/prometheus-adapter.md", "| prometheus-adapter | hpalite | shown by |", 10),
    ] {
        let text = read(Path::new(file));
        let (_, section) = text.split_once(header).unwrap();
        let rows: Vec<&str> = section.lines().skip(2).take_while(|line| line.starts_with("| ")).collect();
        assert!(rows.len() > least, "{rows:?}");
        for row in rows {
            let names = codes(row.trim_end_matches('|').rsplit('|').next().unwrap());
            assert!(!names.is_empty(), "nothing shows {row}");
            for name in names {
                assert!(is_defined(name), "there is no test {name}");
            }
        }
    }
}

/// Returns whether a path leads to a file of a module, and its last parts to items in that file.
fn is_defined(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_end_matches("()").split("::").collect();
    (1..=parts.len()).rev().any(|length| {
        let module = parts[..length].join("/");
        let files =
            ["src", "tests"].iter().flat_map(|top| [format!("{top}/{module}.rs"), format!("{top}/{module}/mod.rs")]);
        files
            .filter_map(|file| fs::read_to_string(root().join(file)).ok())
            .any(|text| parts[length..].iter().try_fold(text.as_str(), |text, item| definition(text, item)).is_some())
    })
}

/// Returns what follows the beginning of an item: a module, a function, a type, or a field.
fn definition<'t>(text: &'t str, item: &str) -> Option<&'t str> {
    let kinds = [("mod ", " {"), ("fn ", "("), ("fn ", "<"), ("struct ", " {"), ("enum ", " {"), ("pub ", ": ")];
    kinds.iter().find_map(|(kind, end)| Some(text.split_once(&format!("{kind}{item}{end}"))?.1))
}

/// Modules, functions and tests in the table of `src/lib.rs` must exist. A name without a path is a function in one of the
/// modules that its row names.
#[test]
fn the_map_leads_somewhere() {
    let text = read(Path::new("src/lib.rs"));
    let (_, section) = text.split_once("//! # Where is it?\n").unwrap();
    for row in section.split("//! #").next().unwrap().lines().skip(2) {
        let (paths, names): (Vec<&str>, Vec<&str>) = codes(row).into_iter().partition(|name| name.contains("::"));
        for path in &paths {
            assert!(is_defined(path), "{path} is not in the code");
        }
        for name in names.into_iter().filter(|name| *name != "X-Remote-…") {
            let is_there = paths.iter().any(|path| !path.ends_with(')') && is_defined(&format!("{path}::{name}")));
            assert!(is_there, "{name} is in none of {paths:?}");
        }
    }
    assert!(is_defined("scaling::decide::tests::every_row_of_the_table"));
    for wrong in ["scaling::hpa::decide()", "scaling::nothing::decide()", "scaling::decide::none()", "e2e::decide"] {
        assert!(!is_defined(wrong), "{wrong}");
    }
}

#[test]
fn the_lexicon_is_short() {
    let text = read(Path::new("src/lib.rs"));
    let (_, section) = text.split_once("//! # Lexicon\n").unwrap();
    let rows = section.split("//! #").next().unwrap().lines().filter(|line| line.starts_with("//! | ")).skip(1);
    assert!((20..=30).contains(&rows.count()));
}

#[test]
fn every_finding_of_doctor_is_in_the_table() {
    let mut source = String::new();
    sources(&root().join("src/doctor"), &mut source);
    // Similar names of other things.
    let others = [
        "keda-operator",
        "prometheus-adapter",
        "kube-metrics-adapter",
        "kube-system",
        "horizontal-pod-autoscaler",
        "extension-apiserver-authentication",
        "kebab-case",
    ];
    let is_id = |text: &&str| {
        text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !text.ends_with('-')
    };
    let found: BTreeSet<&str> = source.split('"').skip(1).filter(is_id).filter(|id| !others.contains(id)).collect();
    let rows = first_column("What doctor finds");
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| codes(row)).collect();
    assert_eq!(listed, found);
}

/// Group, resource and verb.
type Right = (String, String, String);

/// Returns every combination of a rule's words.
fn rights(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Vec<Right> {
    let mut all = Vec::new();
    for group in groups {
        for resource in resources {
            all.extend(verbs.iter().map(|verb| ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned())));
        }
    }
    all
}

/// Returns what the roles of a manifest grant.
fn granted(manifest: &str) -> Vec<Right> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&read(Path::new(manifest))).unwrap();
    let rules = documents.iter().flat_map(|document| document["rules"].as_array().into_iter().flatten());
    let words = |rule: &Value, field: &str| -> Vec<String> {
        let words = rule[field].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(|word| if word.is_empty() { "core" } else { word }.to_owned()).collect()
    };
    let of = |rule: &Value| {
        let [groups, resources, verbs] = ["apiGroups", "resources", "verbs"].map(|field| words(rule, field));
        let [groups, resources, verbs] =
            [&groups, &resources, &verbs].map(|words| words.iter().map(String::as_str).collect::<Vec<_>>());
        rights(&groups, &resources, &verbs)
    };
    rules.flat_map(of).collect()
}

#[test]
fn the_table_of_rights_is_what_the_roles_grant() {
    let text = read(Path::new("k8s/README.md"));
    let (_, table) = text.split_once("| group | resources | verbs | who needs it |\n|---|---|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with("| "));
    let listed: BTreeSet<Right> = rows
        .flat_map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [groups, resources, verbs, _] = cells[..] else { panic!("{row}") };
            rights(&groups.split(", ").collect::<Vec<_>>(), &codes(resources), &verbs.split(", ").collect::<Vec<_>>())
        })
        .collect();
    let granted: BTreeSet<Right> =
        ["k8s/base/rbac.yaml", "k8s/base/rbac-external-metrics.yaml"].into_iter().flat_map(granted).collect();
    let missing: Vec<_> = granted.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&granted).collect();
    assert!(granted.len() > 40 && missing.is_empty() && stale.is_empty(), "missing {missing:#?}, stale {stale:#?}");
}
