//! Against a real Prometheus that scrapes itself. Runs when HPALITE_TEST_PROMETHEUS names its binary.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hpalite::polling::transport::Transport;
use hpalite::prometheus::query;
use hpalite::scaling::event::{Answer, ErrorClass, Missing};
use hpalite::scaling::model::UnixMillis;

use super::setup::{GENEROUS, assert_failed, source, transport};

struct Prometheus {
    process: Child,
    _folder: tempfile::TempDir,
    url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(binary: &str) -> Prometheus {
    // Prometheus cannot be asked which port it chose, so that one is chosen for it.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['{address}']}}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let process = Command::new(binary)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Prometheus { process, _folder: folder, url: format!("http://{address}") }
}

fn ask_now(transport: &Transport, url: &str, text: &str) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = UnixMillis(i64::try_from(now).unwrap());
    let request = query::build(&source(url, text), None, &Default::default(), now).unwrap();
    hpalite::prometheus::ask(transport, &request, Some(Duration::from_secs(5)))
}

#[test]
fn a_real_prometheus() {
    let Ok(binary) = std::env::var("HPALITE_TEST_PROMETHEUS") else { return };
    let prometheus = start(&binary);
    let transport = transport();
    let ask = |text: &str| ask_now(&transport, &prometheus.url, text);
    let deadline = Instant::now() + GENEROUS;
    while ask("up{job=\"self\"}") != Answer::Value(1.0) {
        assert!(Instant::now() < deadline, "{:?}", ask("up"));
        std::thread::yield_now();
    }
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
    assert_failed(ask("prometheus_http_requests_total"), ErrorClass::Query, "series, aggregate it");
    assert_eq!(ask("sum("), ask("sum("));
}
