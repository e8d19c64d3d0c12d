//! The tables of `k8s/operations.md` against the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

/// The first column of the table under a heading.
fn first_column(heading: &str) -> Vec<String> {
    let text = read(Path::new("k8s/operations.md"));
    let (_, section) = text.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = section.split("\n### ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_start_matches("| ").split(" | ").next().unwrap().to_owned()).collect()
}

/// Texts in backticks.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_messages_are_in_the_code() {
    let mut source = String::new();
    sources(&root().join("src"), &mut source);
    // Texts that go over several lines of the source.
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

#[test]
fn every_finding_of_doctor_is_in_the_table() {
    let mut source = String::new();
    sources(&root().join("src/doctor"), &mut source);
    // Names of other things that look alike.
    let others = [
        "keda-operator",
        "prometheus-adapter",
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
