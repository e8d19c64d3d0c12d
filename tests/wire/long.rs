//! Texts as long as the API server allows: read quickly, whatever is in them.

use std::time::{Duration, Instant};

use hpalite::scaling::model::ApiGroup;
use hpalite::wire::scaled_object;
use serde_json::{Value, json};

/// The CRD's limit for one parameter.
const LENGTH: usize = 16_384;

const TRIGGERS: usize = 10;

fn filled(part: &str) -> String {
    part.repeat(LENGTH / part.len())
}

fn many(kind: &str, metadata: &[(&str, String)]) -> Vec<Value> {
    let metadata: serde_json::Map<String, Value> =
        metadata.iter().map(|(name, text)| ((*name).to_owned(), Value::String(text.clone()))).collect();
    vec![json!({"type": kind, "metadata": metadata}); TRIGGERS]
}

#[test]
fn no_definition_takes_long_to_read() {
    let pairs: String = (0..LENGTH / 7).map(|i| format!("{i:x}=,")).collect();
    let prometheus = |name: &'static str, text: String| {
        let text = |key: &str, value: &str| if key == name { text.clone() } else { value.to_owned() };
        ["serverAddress", "query", "threshold", "customHeaders", "timeout", "ignoreNullValues", "onMissing"]
            .map(|key| (key, text(key, if key == "serverAddress" { "http://p" } else { "5" })))
    };
    let location = |format: &str, location: String| {
        [
            ("url", "http://api".into()),
            ("targetValue", "5".into()),
            ("format", format.into()),
            ("valueLocation", location),
        ]
    };
    let cron = |zone: String, start: String, end: String| {
        [("timezone", zone), ("start", start), ("end", end), ("desiredReplicas", "5".to_owned())]
    };
    let utc = || "Etc/UTC".to_owned();
    let cases = vec![
        many("prometheus", &prometheus("serverAddress", format!("http://{}", filled("a:@")))),
        many("prometheus", &prometheus("serverAddress", filled("://"))),
        many("prometheus", &prometheus("query", filled("http://a@"))),
        many("prometheus", &prometheus("customHeaders", pairs)),
        many("prometheus", &prometheus("timeout", filled("1h"))),
        many("prometheus", &prometheus("onMissing", filled("zero"))),
        many("prometheus", &prometheus("threshold", filled("9"))),
        many("prometheus", &[(filled("query").as_str(), filled("x"))]),
        many(&filled("prometheus"), &[]),
        many("metrics-api", &location("json", filled("*"))),
        many("metrics-api", &location("json", filled("#("))),
        many("metrics-api", &location("json", filled("a.#(b==\"\\"))),
        many("metrics-api", &location("prometheus", format!("a{{{}}}", filled("b=\"\",")))),
        many("metrics-api", &location("yaml", filled("a."))),
        many("metrics-api", &location(&filled("json"), "a".into())),
        many("cron", &cron(filled("Europe/Berlin"), "0 8 * * *".into(), "0 9 * * *".into())),
        many("cron", &cron(utc(), filled("0-59,"), filled("*/1 "))),
        many("cron", &cron(utc(), format!("TZ={} 0 8 * * *", filled("Etc/")), "0 0 30 2 *".into())),
        many("cron", &cron(utc(), "0 0 29 2 *".into(), "0 0 30 2 *".into())),
        many("kubernetes-workload", &[("podSelector", filled("a in (b),")), ("value", filled("1"))]),
        many("kubernetes-workload", &[("podSelector", filled("(((")), ("value", "1".into())]),
        many("cpu", &[("value", filled("9")), ("type", filled("Utilization"))]),
    ];
    let mut slowest = (Duration::ZERO, String::new());
    for triggers in cases {
        let name = triggers[0].to_string().chars().take(200).collect::<String>();
        let formula = json!({"scalingModifiers": {"formula": filled("a+"), "target": filled("1")}});
        let object = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"scaleTargetRef": {"name": "web"}, "triggers": triggers, "advanced": formula},
        });
        let bytes = object.to_string();
        let begun = Instant::now();
        let read =
            scaled_object::from_slice(ApiGroup::KedaSh, bytes.as_bytes(), &hpalite::wire::Servers::default()).unwrap();
        slowest = slowest.max((begun.elapsed(), name));
        // What is recorded and reported is short.
        assert!(read.spec_json.len() <= 64 << 10);
    }
    // A tenth of a second each without optimisation; quadratic algorithms took minutes.
    assert!(slowest.0 < Duration::from_secs(30), "{slowest:?}");
}
