//! Checks the workflows: valid YAML, minimal permissions, and calls of existing scripts of this repository.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{read, root};

fn files(folder: &str) -> Vec<(PathBuf, Value)> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let files: Vec<PathBuf> = entries.map(|entry| Path::new(folder).join(entry.unwrap().file_name())).collect();
    let parse = |path: PathBuf| {
        let value = serde_saphyr::from_str(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, value)
    };
    files.into_iter().map(parse).collect()
}

fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().expect("jobs").iter()
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn issue_forms_have_a_name_and_fields() {
    for (path, form) in files(".github/ISSUE_TEMPLATE") {
        if path.ends_with("config.yml") {
            continue;
        }
        assert!(form["name"].is_string() && form["description"].is_string(), "{}", path.display());
        let fields = form["body"].as_array().unwrap();
        let ids: BTreeSet<&str> = fields.iter().map(|field| field["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), fields.len(), "{}: an id is used twice", path.display());
        for field in fields {
            assert!(["textarea", "input"].contains(&field["type"].as_str().unwrap()), "{}: {field}", path.display());
            assert!(field["attributes"]["label"].is_string(), "{}: {field}", path.display());
        }
    }
}

#[test]
fn workflows_may_only_read_unless_a_job_says_otherwise() {
    let may_write = BTreeSet::from([
        "release.yml publish contents",
        "release.yml publish id-token",
        "release.yml publish packages",
    ]);
    let mut written = BTreeSet::new();
    for (path, workflow) in files(".github/workflows") {
        let file = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(workflow["permissions"], serde_json::json!({ "contents": "read" }), "{file}");
        // That would run the code of strangers with the rights of this repository.
        assert!(!read(&path).contains("pull_request_target"), "{file}");
        for (name, job) in jobs(&workflow) {
            let permissions = job["permissions"].as_object().into_iter().flatten();
            written.extend(
                permissions.filter(|(_, right)| *right == "write").map(|(what, _)| format!("{file} {name} {what}")),
            );
            assert!(job["uses"].is_string() || job["timeout-minutes"].is_u64(), "{file}: {name} may run for ever");
        }
    }
    assert_eq!(written.iter().map(String::as_str).collect::<BTreeSet<_>>(), may_write);
}

/// A tag of an action can be moved to other code, a commit cannot.
#[test]
fn actions_are_pinned_to_commits() {
    for (path, workflow) in files(".github/workflows") {
        for (_, job) in jobs(&workflow) {
            let used = steps(job).iter().chain([job]).filter_map(|step| step["uses"].as_str());
            for action in used {
                if let Some(own) = action.strip_prefix("./") {
                    assert!(root().join(own).exists(), "{}: {action}", path.display());
                    continue;
                }
                let (_, commit) = action.split_once('@').unwrap();
                let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
                assert!(is_commit, "{}: {action}", path.display());
            }
        }
    }
}

#[test]
fn scripts_that_are_called_exist_and_can_be_run() {
    let mut called = BTreeSet::new();
    let mut collect = |text: &str| {
        let words = text.split([' ', '\n', '(', ')', '"']);
        let is_script = |word: &&str| word.starts_with(".ci/") || word.starts_with("tests/");
        called.extend(words.filter(is_script).map(|word| word.trim_end_matches([',', ';', '.', ':']).to_owned()));
    };
    for (_, workflow) in files(".github/workflows") {
        for (_, job) in jobs(&workflow) {
            // Text from outside must not become part of a command.
            for run in steps(job).iter().filter_map(|step| step["run"].as_str()) {
                assert!(!run.contains("${{"), "{run}");
                collect(run);
            }
        }
    }
    for script in fs::read_dir(root().join(".ci")).unwrap() {
        let text = fs::read_to_string(script.unwrap().path()).unwrap();
        text.lines().filter(|line| !line.trim_start().starts_with('#')).for_each(&mut collect);
    }
    assert!(
        [".ci/image", ".ci/krew", ".ci/plugin", ".ci/release", ".ci/run", "tests/run", "tests/setup"]
            .iter()
            .all(|s| called.contains(*s))
    );
    let data = [".txt", ".toml"];
    for script in called.iter().filter(|name| !data.iter().any(|end| name.ends_with(end))) {
        let file = fs::metadata(root().join(script)).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(file.permissions().mode() & 0o111 != 0, "{script} cannot be run");
    }
}

#[test]
fn images_are_built_for_the_platforms_of_the_dockerfile() {
    let dockerfile = read(Path::new("Dockerfile"));
    let platforms = |text: &str| -> BTreeSet<String> {
        let (_, rest) = text.split_once("--platform linux/").or_else(|| text.split_once("--platform=linux/")).unwrap();
        let list = rest.split_whitespace().next().unwrap().to_owned();
        format!("linux/{list}").split(',').map(str::to_owned).collect()
    };
    let documented = platforms(dockerfile.lines().find(|line| line.contains("# docker buildx build")).unwrap());
    assert_eq!(platforms(&read(Path::new(".ci/image"))), documented);
    let release = read(Path::new(".ci/release"));
    for platform in documented {
        assert!(release.contains(&platform.replace('/', "_")), "no binary for {platform}");
    }
}

/// What krew itself demands of a manifest, whose checksums are those of the archives.
#[test]
fn krew_installs_what_the_release_has() {
    let folder = tempfile::tempdir().unwrap();
    let targets = [
        "x86_64-unknown-linux-musl",
        "aarch64-unknown-linux-musl",
        "armv7-unknown-linux-musleabihf",
        "x86_64-apple-darwin",
        "aarch64-apple-darwin",
        "x86_64-pc-windows-msvc",
    ];
    let binary = folder.path().join("hpalite");
    fs::write(&binary, "a binary").unwrap();
    for target in targets {
        let packed =
            Command::new(root().join(".ci/plugin")).arg(target).args([folder.path(), &binary]).status().unwrap();
        assert!(packed.success(), "{target}");
    }
    let manifest =
        Command::new(root().join(".ci/krew")).args(["v1.2.3", "owner/hpalite"]).arg(folder.path()).output().unwrap();
    assert!(manifest.status.success(), "{}", String::from_utf8_lossy(&manifest.stderr));
    let manifest: Value = serde_saphyr::from_str(str::from_utf8(&manifest.stdout).unwrap()).unwrap();
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((&manifest["kind"], &manifest["metadata"]["name"]), (&Value::from("Plugin"), &Value::from("hpalite")));
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], "v1.2.3");
    let short = spec["shortDescription"].as_str().unwrap();
    assert!((1..=50).contains(&short.len()) && !short.ends_with('.') && !short.contains('\n'), "{short}");
    assert!(spec["description"].as_str().is_some_and(|text| text.lines().all(|line| line.len() <= 80)), "{spec}");
    let mut systems = BTreeSet::new();
    for platform in spec["platforms"].as_array().unwrap() {
        let labels = &platform["selector"]["matchLabels"];
        let (system, architecture) = (labels["os"].as_str().unwrap(), labels["arch"].as_str().unwrap());
        assert!(systems.insert(format!("{system}/{architecture}")), "{labels}");
        let uri = platform["uri"].as_str().unwrap();
        let file = uri.strip_prefix("https://github.com/owner/hpalite/releases/download/v1.2.3/").expect(uri);
        assert_eq!(file, format!("kubectl-hpalite_{system}_{architecture}.tar.gz"));
        let archive = folder.path().join(file);
        let sum = Command::new("sha256sum").arg(&archive).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert_eq!(platform["sha256"].as_str(), sum.split(' ').next());
        let listed = Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.lines().any(|name| platform["bin"] == name) && listed.contains("LICENSE"), "{listed}");
    }
    let expected = ["darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm", "linux/arm64", "windows/amd64"];
    assert_eq!(systems.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
