//! Queries to a real Prometheus that scrapes itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hpalite::polling::transport::Transport;
use hpalite::prometheus::query;
use hpalite::scaling::event::{Answer, ErrorClass, Missing};
use hpalite::scaling::model::{PrometheusSource, UnixMillis};

use super::setup::{assert_failed, send, source, transport};
use crate::support::cluster::wait_seeing;
use crate::support::prometheus::Prometheus;

fn ask_now(transport: &Transport, url: &str, text: &str) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = UnixMillis(i64::try_from(now).unwrap());
    let source = PrometheusSource { timeout: Some(Duration::from_secs(5)), ..source(url, text) };
    let request = query::build(&source, None, &Default::default(), now).unwrap();
    send(transport, request, &source)
}

#[test]
fn a_real_prometheus() {
    let prometheus = Prometheus::scraping(&[]);
    let transport = transport();
    let ask = |text: &str| ask_now(&transport, &prometheus.url, text);
    prometheus.series("up{job=\"self\"} == 1");
    // Queries are for whole seconds, so the first sample may be later than the first query.
    wait_seeing("up to be known", || match ask("up{job=\"self\"}") {
        Answer::Value(1.0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(ask("vector(1.5)"), Answer::Value(1.5));
    assert_eq!(ask("42"), Answer::Value(42.0));
    assert_eq!(ask("scalar(vector(-3))"), Answer::Value(-3.0));
    assert_eq!(ask("absent_metric"), Answer::Missing(Missing::Empty));
    assert_eq!(ask("absent(absent_metric)"), Answer::Value(1.0));
    assert_eq!(ask("vector(0)/0"), Answer::Missing(Missing::NaN));
    assert_eq!(ask("vector(-1)/0"), Answer::Missing(Missing::Infinite { positive: false }));
    assert_eq!(ask(&format!("vector(1){}", " + vector(1)".repeat(500))), Answer::Value(501.0));
    assert_failed(ask("sum("), ErrorClass::Status, "status 400: bad_data: ");
    assert_failed(ask("up[1m]"), ErrorClass::Query, "matrix");
    assert_failed(ask("absent_metric[1m]"), ErrorClass::Query, "matrix");
    assert_failed(ask("\"text\""), ErrorClass::Query, "a string");
    assert_failed(
        ask(r#"label_replace(vector(1), "a", "b", "", "") or vector(2)"#),
        ErrorClass::Query,
        "series, aggregate it",
    );
    assert_eq!(ask("sum("), ask("sum("));
}
