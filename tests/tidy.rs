//! Rules about the source text: what the core must not use, and constants that must agree.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().and_then(|name| name.to_str()) {
            // Tests may read an environment variable to replay a seed.
            Some(name) if ["tests", "tests.rs", "testing.rs"].contains(&name) || name.ends_with("_tests.rs") => {}
            _ if path.is_dir() => sources(&path, found),
            _ => found.push(path),
        }
    }
}

#[test]
fn the_core_is_pure() {
    let mut files = Vec::new();
    sources(&root().join("src/scaling"), &mut files);
    assert!(files.len() > 15, "{files:?}");
    let forbidden = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::io",
        "std::env",
        "Instant",
        "SystemTime",
        // Only jiff's arithmetic is allowed.
        "Timestamp::now",
        "Zoned",
        "TimeZone::system",
        "TimeZone::get",
        "serde",
        "rusqlite",
        "log::",
        "crate::wire",
        "crate::kube",
        "crate::http",
        "crate::store",
        "crate::polling",
        "crate::prometheus",
        "crate::daemon",
    ];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let word = forbidden.iter().find(|word| line.contains(**word));
            assert_eq!(word, None, "{}: {line}", file.display());
        }
    }
}

#[test]
fn the_image_is_built_by_the_rust_that_the_crate_asks_for() {
    let cargo = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = cargo.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("rust:{version}-")), "the Dockerfile's toolchain is not {version}");
}

/// The top level contains only known files, and nothing that was fetched or built.
#[test]
fn the_top_level_holds_what_it_should() {
    let known =
        ["Cargo.lock", "Cargo.toml", "Dockerfile", "LICENSE", "README.md", "k8s", "sql", "src", "target", "tests"];
    let strays: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !known.contains(&name.as_str()))
        .collect();
    assert_eq!(strays, [""; 0]);
}

/// Clippy cannot say this of tests, which may do the other things that `.clippy.toml` bans.
#[test]
fn no_test_sleeps() {
    let mut files = Vec::new();
    sources(&root().join("tests"), &mut files);
    let rust = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    for file in rust {
        assert!(!fs::read_to_string(file).unwrap().contains(concat!("thread::", "sleep")), "{}", file.display());
    }
}
