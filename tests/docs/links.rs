//! Links between the documents.

use std::path::{Path, PathBuf};

use super::{documents, read, root};

/// Returns the targets of `[text](target)` outside code blocks.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let prose = text.split("```").step_by(2);
    for part in prose.flat_map(|part| part.split('`').step_by(2).collect::<Vec<_>>()) {
        targets.extend(part.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    targets
}

/// Returns GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

fn anchors(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("\n```").step_by(2).collect();
    let lines = prose.iter().flat_map(|part| part.lines());
    lines.filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for file in documents() {
        for target in targets(&read(&file)) {
            seen += 1;
            if target.starts_with("https://") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((&target, ""));
            let leads_to = if path.is_empty() { file.clone() } else { beside(&file, path) };
            assert!(root().join(&leads_to).exists(), "{}: {target}", file.display());
            let known = || anchors(&read(&leads_to));
            assert!(
                fragment.is_empty() || known().iter().any(|anchor| anchor == fragment),
                "{}: {target}: {:?}",
                file.display(),
                known()
            );
        }
    }
    assert!(seen >= 7, "{seen}");
}

fn beside(file: &Path, path: &str) -> PathBuf {
    let mut leads_to = file.parent().unwrap_or(Path::new("")).to_owned();
    for part in path.split('/') {
        match part {
            ".." => {
                leads_to.pop();
            }
            part => leads_to.push(part),
        }
    }
    leads_to
}

/// Whatever looks like a file of this repository in code spans must exist.
#[test]
fn files_that_are_named_exist() {
    for file in documents() {
        let text = read(&file);
        for code in text.replace("```", "").split('`').skip(1).step_by(2) {
            let is_path = code.starts_with("k8s/")
                || code.starts_with("tests/")
                || code.starts_with("sql/")
                || code.starts_with("src/");
            if is_path && !code.contains([' ', '*', '{']) {
                assert!(root().join(code).exists(), "{}: {code}", file.display());
            }
        }
    }
}
