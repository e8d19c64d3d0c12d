//! Memory for answers that would be large as trees, measured in a process of its own.

use std::process::Command;

use hpalite::metrics_api::answer;
use hpalite::prometheus;
use hpalite::scaling::model::BodyFormat;

/// Marks the process that reads the answers.
const CHILD: &str = "HPALITE_TEST_READS_TREES";

/// The default number of poll threads.
const READERS: usize = 8;

const BODY: usize = (1 << 20) - 64;

fn filled(begin: &str, part: &str, end: &str) -> String {
    format!("{begin}{}{end}", part.repeat((BODY - begin.len() - end.len()) / part.len()))
}

/// Returns the peak resident memory in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs in the other process; in this one it does nothing.
#[test]
#[allow(clippy::print_stdout, reason = "the other process says so what it took")]
fn reads_trees() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let bomb = format!("a: &a [{}]\nb: [{}]\nn: 1\n", vec!["x"; 60].join(","), vec!["*a"; 40_000].join(","));
    let trees = [
        (BodyFormat::Json, filled("[{\"a\":0}", ",{\"a\":0}", "]"), "0.a"),
        (BodyFormat::Json, filled("[{\"a\":0}", ",{\"a\":0}", "]"), "#.a|#"),
        (BodyFormat::Json, filled("[[[[1]]]", ",[[[1]]]", "]"), "#(#>9)#|#"),
        (BodyFormat::Yaml, bomb, "n"),
        (BodyFormat::Yaml, filled("", "- a: 0\n", ""), "0.a"),
        (BodyFormat::Yaml, filled("n: 1\nl: [", "[[0]],", "]"), "n"),
        (BodyFormat::Xml, filled("<a>", "<b><c/></b>", "</a>"), "a.b.0.c"),
        (BodyFormat::Prometheus, filled("q{", "a=\"\",", "} 1\n"), "q{a=\"\"}"),
    ];
    let series = r#"{"metric":{"a":"b"},"value":[1,"2"]}"#;
    let many = filled(
        &format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{series}"),
        &format!(",{series}"),
        "]}}",
    );
    let before = peak_kib();
    for (format, body, location) in &trees {
        std::thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| answer::parse("http://api/stats", 200, body.as_bytes(), *format, location));
            }
        });
        println!("PEAK {format:?} {location} {}", peak_kib() - before);
    }
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| prometheus::answer::parse("http://prometheus", 200, many.as_bytes(), false));
        }
    });
    println!("PEAK series {}", peak_kib() - before);
}

/// Eight readers at once of a megabyte each, although the process reads such answers one at a time.
#[test]
fn no_answer_becomes_a_tree() {
    let me = std::env::current_exe().unwrap();
    let child = Command::new(me)
        .args(["--exact", "prometheus::memory::reads_trees", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{text}{}", String::from_utf8_lossy(&child.stderr));
    let peaks: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("PEAK ").or_else(|| line.split_once("PEAK ").map(|(_, rest)| rest)))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert_eq!(peaks.len(), 9, "{text}");
    assert!(peaks.iter().all(|kib| *kib < 96 << 10), "KiB more than before:\n{text}");
}
