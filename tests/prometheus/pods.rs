//! Polls of pods for an HPA's Pods metric: each at its own address, and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hpalite::polling::credentials::FetchError;
use hpalite::scaling::event::{Answer, PollDone, PollJob};
use hpalite::scaling::model::{PodMetricSource, Query, UnixMillis};
use hpalite::sources::pods::{Pod, PodSource};

use super::credentials::FakeSource;
use super::poller::asker;
use crate::support::fake_prometheus::{FakePrometheus, Reply};

impl PodSource for FakeSource {
    fn pods(&self, _: &PodMetricSource) -> Result<(String, Vec<Pod>), FetchError> {
        Ok(("app=web".to_owned(), self.pods.lock().unwrap().clone()))
    }
}

fn pod(name: &str, address: &str) -> Pod {
    let (name, address) = (name.to_owned(), address.to_owned());
    Pod { name, address, ready_since: Some(UnixMillis(0)), ..Pod::default() }
}

fn ask(pods: Vec<Pod>, fake: &FakePrometheus, path: &str) -> PollDone {
    let source = PodMetricSource {
        whose: "pods of shop/Deployment/web".to_owned(),
        namespace: "shop".to_owned(),
        kind: "Deployment".to_owned(),
        name: "web".to_owned(),
        https: false,
        port: fake.url().rsplit_once(':').unwrap().1.parse().unwrap(),
        path: path.to_owned(),
        json_key: "$.rps".to_owned(),
        aggregator: None,
        timeout: Some(Duration::from_secs(5)),
        min_ready_age: Duration::ZERO,
    };
    let known = Arc::new(FakeSource::default());
    *known.pods.lock().unwrap() = pods;
    let query = Query::PodMetric(Arc::new(source));
    let server = query.server().into();
    asker(&known).ask(PollJob { id: 1, server, query, credentials: None, group: None, due_at: UnixMillis(0) })
}

fn failure(done: PollDone) -> String {
    assert_eq!(done.pods, None);
    match done.answer {
        Answer::Failed(error) => error.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_pod_is_asked_at_its_address_and_nowhere_else() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let fake = FakePrometheus::start(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        match request.target.as_str() {
            "/metrics?a=b" => Reply::json(r#"{"rps": 2.5}"#),
            "/moved" => Reply::redirect(302, "/metrics?a=b"),
            _ => Reply::status(404, "no"),
        }
    });
    let requests = || count.load(Ordering::SeqCst);
    let here = |name: &str| pod(name, "127.0.0.1");
    // The third has no server, and a fourth is on the network of its node.
    let of_node = Pod { is_of_node: true, ..here("web-4") };
    let done =
        ask(vec![here("web-2"), here("web-1"), pod("web-3", "127.0.0.9"), of_node.clone()], &fake, "/metrics?a=b");
    let found = done.pods.expect("two pods answer");
    assert_eq!(found.values, [("web-1".to_owned(), 2.5), ("web-2".to_owned(), 2.5)]);
    assert_eq!((found.selector.as_str(), &done.answer), ("app=web", &Answer::Value(5.0)));
    let before = requests();
    let moved = failure(ask(vec![here("web-1")], &fake, "/moved"));
    assert!(moved.contains("302") && moved.contains("pods of shop/Deployment/web"), "{moved}");
    assert_eq!(requests(), before + 1, "a redirect is not followed");
    assert!(failure(ask(vec![of_node], &fake, "/metrics?a=b")).contains("hostNetwork pods are not asked"));
    // No pod has the address of a metadata service.
    let metadata = failure(ask(vec![pod("web-1", "169.254.169.254")], &fake, "/metrics?a=b"));
    assert!(metadata.contains("one of the pods of shop") && !metadata.contains("169.254.169.254:"), "{metadata}");
    let many = (0..201).map(|number| here(&number.to_string())).collect();
    assert!(failure(ask(many, &fake, "/metrics?a=b")).contains("more than 200 pods"));
    assert_eq!(requests(), before + 1);
}
