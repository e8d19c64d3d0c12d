//! The binary as a person meets it: exit codes and what goes to which stream.

use std::process::{Command, Output};

fn hpalite(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hpalite"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .expect("the binary can be run")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_command_line_is_refused_whole() {
    let output = hpalite(&["run", "--listen", "nowhere", "--poll-threads", "none", "--unknown"]);
    assert_eq!(output.status.code(), Some(2));
    for part in ["--listen", "--poll-threads", "--unknown"] {
        assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
    }
}

#[test]
fn everything_that_keeps_the_daemon_from_starting_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{name: c, context: {cluster: k, user: u}}]\n\
         clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\n\
         users: [{name: u, user: {exec: {command: aws}}}]\n",
    )
    .unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let output = hpalite(&[
        "run",
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--db",
        "/proc/hpalite.db",
        "--listen",
        &taken,
        "--http",
        "127.0.0.1:0",
        "--ui",
        &taken,
    ]);
    assert_eq!(output.status.code(), Some(2));
    let problems = stderr(&output);
    for part in ["exec", "/proc/hpalite.db", &format!("--listen {taken}"), &format!("--ui {taken}")] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
}

#[test]
fn version_and_help_go_to_standard_output() {
    let version = hpalite(&["version"]);
    assert!(version.status.success());
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("hpalite "));
    let help = hpalite(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("--poll-threads"));
}

#[test]
fn sql_on_a_file_that_is_not_there_names_it() {
    let output = hpalite(&["sql", "--db", "/nowhere/hpalite.db", "SELECT 1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/hpalite.db"), "{}", stderr(&output));
}

/// What the README says about flags is what the binary says.
#[test]
fn the_readme_lists_flags_that_exist() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let listed = readme.split('`').filter(|code| code.starts_with("--"));
    let mut count = 0;
    for code in listed {
        // With what joins it to its value, as that matters.
        let flag = code.split_inclusive(['=', ' ']).next().unwrap().trim_end_matches([' ', ',']);
        assert!(hpalite::cli::HELP.contains(flag), "{flag}");
        count += 1;
    }
    assert!(count >= 8, "{count}");
}
