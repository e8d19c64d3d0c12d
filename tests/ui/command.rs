//! `hpalite history` on a command line, beside an open database.

use std::process::{Command, Output};

use super::scene::Scene;

fn history(scene: &Scene, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hpalite"))
        .arg("history")
        .args(arguments)
        .arg("--db")
        .arg(scene.db())
        .env_remove("COLUMNS")
        .env_remove("LC_ALL")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn plot_csv_and_json() {
    let scene = Scene::full();
    let plot = text(&history(&scene, &["shop/recommendations", "--since", "1h"]));
    assert!(plot.contains("s0-prometheus  last 0  threshold 50"), "{plot}");
    assert_eq!(plot.lines().map(|line| line.chars().count()).max(), Some(80), "{plot}");
    assert!(!plot.contains('\x1b'), "no colours into a pipe");
    let plot = text(&history(&scene, &["batch/imports", "--since", "1h", "--ascii", "--width", "60"]));
    assert!(plot.is_ascii() && plot.contains("xxxxx"), "{plot}");

    let csv = text(&history(&scene, &["batch/imports", "--since", "2h", "--csv", "--width", "2000"]));
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("at,trigger,metric,min,max,last,samples,threshold,activation_threshold,replicas"));
    // 25 minutes of numbers, four per minute; the errors since then have no lines.
    assert_eq!(lines.clone().count(), 100, "{csv}");
    assert!(lines.all(|line| line.ends_with(",1,10,5,2") && line.contains("Z,0,s0-prometheus,")), "{csv}");

    let json: serde_json::Value = serde_json::from_str(&text(&history(&scene, &["batch/imports", "--json"]))).unwrap();
    assert_eq!(json["triggers"][0]["errors"][0]["outcome"], "connect");
}

#[test]
fn a_month_is_plotted_from_what_is_left_of_it() {
    let scene = Scene::old();
    let plot = text(&history(&scene, &["shop/archive", "--since", "30d", "--ascii"]));
    assert!(plot.contains("s0-prometheus  last") && plot.contains("* value"), "{plot}");
    let json = text(&history(&scene, &["shop/archive", "--since", "30d", "--width", "1000", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let trigger = &json["triggers"][0];
    assert_eq!((&json["step"], &trigger["samples"]), (&3_600_000.into(), &(24 * 60 * 4).into()), "{trigger}");
    let points = trigger["stretches"][0].as_array().unwrap();
    assert!((24..=25).contains(&points.len()), "{trigger}");
    // The first and the last hour are incomplete.
    assert!(points[1..points.len() - 1].iter().all(|point| point[2] == 89), "{trigger}");
    // A higher resolution has exactly the same hours.
    let hours = text(&history(&scene, &["shop/archive", "--since", "30d", "--width", "2000", "--csv"]));
    assert_eq!(hours.lines().count(), 1 + points.len(), "{hours}");
}

#[test]
fn what_cannot_be_shown_is_reported() {
    let scene = Scene::full();
    for (arguments, part) in [
        (&["shop/nothing"][..], "knows no ScaledObject shop/nothing"),
        (&["shop/checkout"], "several API groups: add --group keda.sh or --group keda.k8s.io"),
        (&["batch/imports", "--group", "keda.k8s.io"], "batch/imports in keda.k8s.io"),
    ] {
        let output = history(&scene, arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let plot = text(&history(&scene, &["shop/checkout", "--group", "keda.k8s.io"]));
    assert!(plot.starts_with("shop/checkout (keda.k8s.io)\n"), "{plot}");
}
