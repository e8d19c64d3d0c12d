//! Faults of the metric server and of the way to it.

use std::time::{Duration, Instant};

use super::fake_prometheus::Reply;
use super::link::{Link, Mode};
use super::stage::{Outcome, Stage, pass, right};

/// Returns why the object is not ready, as it says itself.
fn told(stage: &Stage) -> String {
    let object = stage.cluster.get("scaledobject", super::stage::NAMESPACE, "steady").unwrap_or_default();
    match super::cluster::condition(&object, "TriggersHealthy") {
        Some((status, ..)) if status == "True" => "TriggersHealthy stays True".to_owned(),
        Some((_, _, message)) => message.chars().take(150).collect(),
        None => String::new(),
    }
}

fn by_link(stage: &mut Stage, lasts: Duration, mode: Mode) -> Outcome {
    stage.to_source.set(mode);
    pass(lasts);
    let told = told(stage);
    stage.to_source.set(Mode::Open);
    Outcome::Made(told)
}

fn by_answer(stage: &mut Stage, lasts: Duration, answer: impl Fn(f64) -> Reply + Send + 'static) -> Outcome {
    stage.answer(answer);
    pass(lasts);
    let told = told(stage);
    stage.answer(right);
    Outcome::Made(told)
}

pub(crate) fn refusing(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Refusing)
}

pub(crate) fn unreachable(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Unreachable)
}

pub(crate) fn silent(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Silent)
}

/// Kept connections are dead when they are used next, new ones work.
pub(crate) fn forgotten(stage: &mut Stage, _lasts: Duration) -> Outcome {
    stage.to_source.forget();
    Outcome::Made("new connections work".to_owned())
}

pub(crate) fn cutting(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Cutting(40))
}

pub(crate) fn slow(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Slow(Duration::from_secs(5)))
}

pub(crate) fn status(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_answer(stage, lasts, |_| Reply::status(503, "down"))
}

pub(crate) fn garbage(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_answer(stage, lasts, |_| Reply::Full {
        status: 200,
        headers: Vec::new(),
        body: (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
    })
}

/// A series with a megabyte of labels, and another value than the right one.
pub(crate) fn megabyte(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_answer(stage, lasts, |_| {
        let labels: Vec<String> = (0..50_000).map(|n| format!(r#""label_{n:06}":"v""#)).collect();
        Reply::json(&format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{{}}},"value":[1,"0"]}},{{"metric":{{}},"value":[1,"0"]}}]}}}}"#,
            labels.join(",")
        ))
    })
}

pub(crate) fn half(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_answer(stage, lasts, |_| {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0"#;
        Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{body}").into_bytes())
    })
}

pub(crate) fn nan(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_answer(stage, lasts, |_| Reply::value("NaN"))
}

/// The name leads to another address, where the same server listens; nobody answers at the one of before.
pub(crate) fn moved(stage: &mut Stage, lasts: Duration) -> Outcome {
    if !stage.has_names() {
        return Outcome::NotTried("another /etc/hosts needs root and unshare(1)".to_owned());
    }
    let mut address = stage.to_source.address();
    address.set_ip([127, 0, 0, 2].into());
    let there = Link::at(address, stage.source_address());
    stage.point_name_at("127.0.0.2");
    stage.to_source.set(Mode::Silent);
    pass(lasts);
    let told = format!("{}, {} connections to the new address", told(stage), there.connections());
    stage.look("during the fault");
    let recovered = stage.recover(Instant::now()).and_then(|time| stage.is_told().map(|()| time));
    stage.point_name_at("127.0.0.1");
    stage.to_source.set(Mode::Open);
    drop(there);
    match recovered {
        Ok(recovered) => Outcome::Judged { recovered, seen: told },
        Err(why) => Outcome::Failed(why),
    }
}
