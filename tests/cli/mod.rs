//! The binary on a command line: exit codes, and the output on each stream.

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
fn everything_that_keeps_the_daemon_from_starting_is_reported_at_once() {
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

/// The document has the table that the binary would print. `HPALITE_UPDATE=1` rewrites it.
#[test]
fn the_documented_flags_are_the_declared_ones() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/k8s/flags.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, table) = document.split_at(document.find("| flag |").unwrap());
    let (_, after) = table.split_at(table.find("\n\n").unwrap() + 1);
    let wanted = format!("{before}{}{after}", hpalite::cli::markdown());
    if std::env::var_os("HPALITE_UPDATE").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), wanted, "run this test with HPALITE_UPDATE=1");
}

/// As in a shell: the script is valid, and a prefix is completed.
#[test]
fn bash_completes_subcommands_and_flags() {
    let script = String::from_utf8(hpalite(&["completion", "bash"]).stdout).unwrap();
    let complete = |words: &str, at: usize| {
        let ask =
            format!("{script}\nCOMP_WORDS=({words}); COMP_CWORD={at}; _hpalite; printf '%s\\n' \"${{COMPREPLY[@]}}\"");
        let output = Command::new("bash").args(["-euc", &ask]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("hpalite hist", 1), "history\n");
    assert_eq!(complete("hpalite run --retain-s", 2), "--retain-samples\n");
    assert_eq!(complete("hpalite why --json --si", 3), "--since\n");
    for shell in ["zsh", "fish"] {
        let output = hpalite(&["completion", shell]);
        assert!(String::from_utf8(output.stdout).unwrap().contains("retain-samples"), "{shell}");
    }
}

/// The command shares the pod's memory with the daemon.
#[test]
fn no_statement_takes_much_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let store = hpalite::store::Store::start(&path, hpalite::store::Options::default()).unwrap();
    assert!(store.stop(std::time::Duration::from_secs(120)).complete);
    let db = path.to_str().unwrap();
    for statement in [
        "SELECT zeroblob(1000000000)",
        "WITH RECURSIVE n(i, t) AS (SELECT 1, hex(zeroblob(1000000)) UNION ALL SELECT i + 1, t || i FROM n LIMIT 1000) SELECT count(DISTINCT t) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400) SELECT json_array_length(json_group_array(hex(zeroblob(4000)))) FROM n, n AS m",
    ] {
        // A limit on the address space, which is larger than the memory used.
        let limited =
            format!("ulimit -v 400000; exec {} sql --db {db} --timeout 60 \"$0\"", env!("CARGO_BIN_EXE_hpalite"));
        let output = Command::new("sh").args(["-c", &limited, statement]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{statement}: {}", stderr(&output));
        let words = stderr(&output);
        assert!(words.contains("MiB"), "{statement}: {words}");
    }
    let output = hpalite(&["sql", "--db", db, "SELECT count(*) AS runs FROM v_process_run"]);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), "runs\n----\n1\n"));
}

#[test]
fn the_demo_needs_nothing_and_ends_soon() {
    let output = hpalite(&["replay", "--demo", "--width", "100"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    for part in
        ["made-up week", "candidate 1", "candidate 2", "pod-hours", "replayed: today", "activated by", "assumptions"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.lines().count() < 80, "{text}");
    assert!(text.lines().skip(5).all(|line| line.chars().count() <= 160), "{text}");
}

#[test]
fn a_replay_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("none.db");
    let output = hpalite(&["replay", "shop/web", "--db", db.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("none.db"), "{}", stderr(&output));
    let output = hpalite(&["replay", "--demo", "--set", "spec.triggers[0].metadata.threshold=many"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("candidate 1: spec.triggers[0].metadata.threshold"), "{}", stderr(&output));
}
