//! The JSON behind the page; `sql/page.md` describes it.

use std::path::Path;

use serde::Serialize;

use super::problem;
use super::replay::{self, Question};
use crate::explain;
use crate::history::{self, Grid, overview};
use crate::http::{Request, Response, uri};
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use crate::store::read::{Listing, Range};
use crate::store::{Error, Reader, now_unix_ms};

/// Maximum and default number of lines of the overview.
const OBJECTS_MAX: u32 = 500;
/// Maximum and default number of points per trigger.
const POINTS_MAX: usize = 2_000;
const POINTS: usize = 600;
/// Longest time range, in ms: a request of a client whose clock is far off is not worth a scan.
const RANGE_MAX_MS: i64 = 10 * 366 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// Only the end of a longer range is explained, because explaining reads every sample.
const WHY_MAX_MS: i64 = 24 * HOUR_MS;
/// Maximum number of entries of an explanation, more than anyone reads.
const ENTRIES_MAX: usize = 200;

/// Answers a request for a path below `/api/`.
pub(super) fn answer(db: &Path, request: &Request) -> Response {
    try_answer(db, request).unwrap_or_else(|response| response)
}

fn try_answer(db: &Path, request: &Request) -> Result<Response, Response> {
    let bad = |message: String| problem(400, &message);
    let segments = uri::segments(&request.path).map_err(|error| bad(format!("path: {error}")))?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let pairs =
        uri::query_pairs(request.query.as_deref().unwrap_or("")).map_err(|error| bad(format!("query: {error}")))?;
    let query = Query { pairs };
    match segments.as_slice() {
        ["api", "objects"] => {
            query.only(&["q", "removed", "limit", "offset"]).map_err(bad)?;
            objects(db, &query)
        }
        ["api", "objects", namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            query.only(&["group", "last", "from", "to", "points"]).map_err(bad)?;
            object(db, &query, namespace, name)
        }
        ["api", "objects", namespace, name, "replay"] if !namespace.is_empty() && !name.is_empty() => {
            query.only(&["group", "last", "from", "to", "set"]).map_err(bad)?;
            let is_of_page = request.header(replay::HEADER).is_some();
            let (group, range) = (query.group()?, query.range(now_unix_ms())?);
            let set = query.get("set").unwrap_or_default();
            replay::answer(db, is_of_page, &Question { namespace, name, group, range, set })
        }
        ["api", "objects", namespace, name, "why"] if !namespace.is_empty() && !name.is_empty() => {
            query.only(&["group", "last", "from", "to"]).map_err(bad)?;
            why(db, &query, namespace, name)
        }
        _ => Err(problem(404, "there is nothing here: see / and /api/objects")),
    }
}

fn objects(db: &Path, query: &Query) -> Result<Response, Response> {
    let limit: u32 = query.number("limit", OBJECTS_MAX)?;
    let listing = Listing {
        text: query.get("q").unwrap_or(""),
        removed: query.get("removed").is_some_and(|value| value == "true"),
        limit: limit.min(OBJECTS_MAX),
        offset: query.number("offset", 0)?,
    };
    let mut reader = Reader::open(db).map_err(failed)?;
    json(&overview::load(&mut reader, &listing, now_unix_ms()).map_err(failed)?)
}

fn object(db: &Path, query: &Query, namespace: &str, name: &str) -> Result<Response, Response> {
    let group = query.group()?.unwrap_or(ApiGroup::KedaSh);
    let now = now_unix_ms();
    let range = query.range(now)?;
    let points = query.number("points", POINTS)?.clamp(1, POINTS_MAX);
    let mut reader = Reader::open(db).map_err(failed)?;
    let key = ObjectKey::new(group, namespace, name);
    let found = history::load(&mut reader, &key, range, |points_max| Grid::aligned(range, points.min(points_max)));
    match found.map_err(failed)? {
        Some(history) => json(&Document { now, history }),
        None => {
            Err(problem(404, &format!("the history knows no {} {namespace}/{name} in {}", group.noun(), group.name())))
        }
    }
}

fn why(db: &Path, query: &Query, namespace: &str, name: &str) -> Result<Response, Response> {
    let group = query.group()?.unwrap_or(ApiGroup::KedaSh);
    let now = now_unix_ms();
    let range = query.range(now)?;
    let to = range.to.min(now);
    let from = range.from.clamp(to - WHY_MAX_MS, to);
    let question = explain::Question::Between(UnixMillis(from), UnixMillis(to));
    let mut report = explain::why(db, namespace, name, Some(group), question).map_err(|error| match error {
        explain::Error::Store(error) => failed(error),
        explain::Error::Version { .. } | explain::Error::TooMuch => problem(503, &error.to_string()),
        explain::Error::Unknown { .. } => problem(404, &error.to_string()),
    })?;
    let older = report.entries.len().saturating_sub(ENTRIES_MAX);
    report.entries.drain(..older);
    json(&Why { now, from, to, older, report })
}

#[derive(Serialize)]
struct Why {
    now: i64,
    /// The range that is explained, which may be shorter than requested.
    from: i64,
    to: i64,
    /// Number of entries left out.
    older: usize,
    #[serde(flatten)]
    report: explain::Explanation,
}

#[derive(Serialize)]
struct Document {
    now: i64,
    #[serde(flatten)]
    history: history::History,
}

fn json(value: &impl Serialize) -> Result<Response, Response> {
    serde_json::to_vec(value).map(|body| Response::json(200, body)).map_err(|error| problem(500, &error.to_string()))
}

fn failed(error: Error) -> Response {
    log::debug!(error:% = error; "page not answered");
    problem(503, &error.to_string())
}

struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reports a misspelt parameter rather than ignore it.
    fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.pairs.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(format!("{key}: no such parameter, use {}", known.join(", "))),
            None => Ok(()),
        }
    }

    fn group(&self) -> Result<Option<ApiGroup>, Response> {
        let Some(name) = self.get("group") else { return Ok(None) };
        ApiGroup::from_name(name)
            .map(Some)
            .ok_or_else(|| problem(400, "group: must be keda.sh, keda.k8s.io or autoscaling"))
    }

    /// Returns the range from `from` and `to`, or `last`; by default the last hour.
    fn range(&self, now: i64) -> Result<Range, Response> {
        let to: i64 = self.number("to", now)?;
        let from: i64 = match self.get("last") {
            Some(_) => to.saturating_sub(self.number("last", HOUR_MS)?),
            None => self.number("from", to.saturating_sub(HOUR_MS))?,
        };
        if from < 0 || from >= to || to - from > RANGE_MAX_MS {
            return Err(problem(400, "from, to and last: times in milliseconds since 1970, at most 10 years apart"));
        }
        Ok(Range { from, to })
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, Response> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| problem(400, &format!("{name}: {text:?} is not a whole number"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::http::{Body, testing};
    use crate::store::{Options, Store};

    /// Regression: a day of decisions of many triggers took more memory than the daemon has, and a name of many lives as
    /// many reads.
    #[test]
    fn what_is_too_much_is_cut_and_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let store = Store::start(&path, Options::default()).expect("it starts");
        assert!(store.stop(std::time::Duration::from_secs(120)).complete);
        let now = now_unix_ms();
        // A decision each minute, with 26 KB of triggers.
        let rows = format!(
            "INSERT INTO scaled_object VALUES (1, 'keda.sh', 'shop', 'web', 'u', {now} - 90000000, NULL);
             INSERT INTO definition VALUES (1, 1, 1, {now} - 90000000, NULL, '{{}}', NULL);
             INSERT INTO replica_change (object_id, at_unix_ms, from_replicas, to_replicas, actor, source)
                 VALUES (1, {now} - 60500, 3, 4, 'hpalite', 'observed');
             CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT 1440) SELECT i FROM n;
             INSERT INTO decision (object_id, at_unix_ms, reason, detail, from_replicas, to_replicas, triggers_json, min_replicas, force_activation)
                 SELECT 1, {now} - 1000 - i * 60000, 'Active', 'minute ' || i, 3, 4,
                     '[{{\"metric\":\"s0\",\"error\":\"' || hex(zeroblob(13000)) || '\"}}]', 0, 0 FROM temp.n;
             INSERT INTO scaled_object SELECT 2 + i, 'keda.sh', 'shop', 'again', 'u', {now} - 1000 - (150 - i) * 2000, {now} - (150 - i) * 2000 FROM temp.n WHERE i < 150;"
        );
        rusqlite::Connection::open(&path).expect("a file").execute_batch(&rows).expect("rows");
        let ask = |target: &str| -> Value {
            let response = answer(&path, &testing::request("GET", target, &[]));
            assert_eq!(response.status, 200, "{target}");
            let Body::Owned(body) = response.body else { panic!("{target}") };
            serde_json::from_slice(&body).expect("JSON")
        };
        let texts = |why: &Value, part: &str| -> usize {
            let entries = why["entries"].as_array().into_iter().flatten();
            entries.filter(|entry| entry["text"].as_str().is_some_and(|text| text.contains(part))).count()
        };
        let day = ask("/api/objects/shop/web/why?last=86400000");
        assert!(day["cut"].is_string(), "{day}");
        assert_eq!((&day["replicas"], texts(&day, "3→4 by hpalite")), (&Value::from(4), 1), "{day}");
        let hour = ask("/api/objects/shop/web/why?last=3600000");
        assert_eq!((&hour["cut"], texts(&hour, "3→4 by hpalite")), (&Value::Null, 1), "{hour}");
        let lives = ask("/api/objects/shop/again/why?last=3600000");
        assert!(lives["cut"].is_string() && texts(&lives, "was removed") == 50, "{lives}");
        let history = ask("/api/objects/shop/web?last=86400000");
        let decisions = history["decisions"].as_array().expect("a list");
        assert!((50..200).contains(&decisions.len()), "{}", decisions.len());
        assert_eq!(
            (&decisions[0]["detail"], &decisions[0]["triggers"][0]["metric"]),
            (&"minute 0".into(), &"s0".into())
        );
        assert_eq!(history["cut"], serde_json::json!(["decisions"]));
    }
}
