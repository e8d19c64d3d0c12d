//! The answer to a group of queries, split among its members.
//!
//! Strict: if the answer is not exactly what Prometheus returns for such a query, each member is queried on its own, and
//! its own answer then shows the problem.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::answer::{number, parse};
use super::wire::{Cell, Flag, Warnings};
use crate::polling::transport::BODY_MAX;
use crate::scaling::event::{Answer, Group, Missing, Split};

#[derive(Deserialize)]
struct Body<'b> {
    #[serde(borrow)]
    status: &'b str,
    #[serde(borrow)]
    data: Data<'b>,
    #[serde(default, rename = "isPartial")]
    is_partial: Flag,
    #[serde(default)]
    warnings: Warnings,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'b> {
    #[serde(borrow)]
    result_type: &'b str,
    result: Vec<Series>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    metric: BTreeMap<String, String>,
    /// Time, and the number as text.
    value: (f64, String),
}

/// What the answer to a group says: the same for all members, or something for each. `server` is named in errors; `body` is
/// as in [`parse`].
#[must_use]
pub fn split(server: &str, status: u16, body: &[u8], accepts_partial: bool, group: &Group) -> (Answer, Option<Split>) {
    // The server is overloaded or broken, and more queries would not help.
    if status == 429 || status >= 500 {
        return (parse(server, status, body, accepts_partial), None);
    }
    let each = (200..=299).contains(&status).then(|| each(server, body, accepts_partial, group)).flatten();
    (Answer::Missing(Missing::Empty), Some(each.map_or(Split::Singly, Split::Each)))
}

fn each(server: &str, body: &[u8], accepts_partial: bool, group: &Group) -> Option<Vec<(u64, Answer)>> {
    let body: Body<'_> = serde_json::from_slice(body.get(..BODY_MAX).map_or(body, |_| &[])).ok()?;
    let is_whole = !body.is_partial.0 && body.warnings.of_data.is_none();
    if body.status != "success" || body.data.result_type != "vector" || !(is_whole || accepts_partial) {
        return None;
    }
    let mut answers = HashMap::with_capacity(body.data.result.len());
    for mut series in body.data.result {
        let value = series.metric.remove(&group.label).filter(|_| series.metric.is_empty())?;
        let answer = number(server, Some(&Cell::Text(series.value.1))).unwrap_or_else(Answer::Failed);
        if answers.insert(value, answer).is_some() {
            return None;
        }
    }
    // A group without series is what the single query calls an empty result.
    let mut answer = |value: &String| answers.remove(value).unwrap_or(Answer::Missing(Missing::Empty));
    let all = group.members.iter().map(|(id, value)| (*id, answer(value))).collect();
    answers.is_empty().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        let members = ["a", "b", "c"].into_iter().zip(1..).map(|(value, id)| (id, value.to_owned())).collect();
        Group { family: 0, query: String::new(), label: "service".to_owned(), members }
    }

    fn body(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
    }

    fn read(body: &str) -> (Answer, Option<Split>) {
        split("http://p", 200, body.as_bytes(), false, &group())
    }

    const A: &str = r#"{"metric":{"service":"a"},"value":[1.5,"2"]}"#;

    #[test]
    fn each_has_its_own() {
        let nan = r#"{"metric":{"service":"c"},"value":[1,"NaN"]}"#;
        let expected =
            vec![(1, Answer::Value(2.0)), (2, Answer::Missing(Missing::Empty)), (3, Answer::Missing(Missing::NaN))];
        assert_eq!(read(&body(&format!("{A},{nan}"))).1, Some(Split::Each(expected)));
        let empty = (1..=3).map(|id| (id, Answer::Missing(Missing::Empty))).collect();
        assert_eq!(read(&body("")).1, Some(Split::Each(empty)));
    }

    #[test]
    fn on_doubt_each_is_asked_by_itself() {
        let partial = body(A).replacen('{', r#"{"isPartial":true,"#, 1);
        let warned = body(A).replacen('{', r#"{"warnings":["store away"],"#, 1);
        for text in [
            "",
            "{}",
            "null",
            r#"{"status":"error","errorType":"execution","error":"too many samples"}"#,
            &body(A).replace("vector", "matrix"),
            &body(r#"{"metric":{"service":"a"},"histogram":[1,{}]}"#),
            &body(r#"{"metric":{"service":"z"},"value":[1,"2"]}"#),
            &body(r#"{"metric":{"service":"a","x":"y"},"value":[1,"2"]}"#),
            &body(r#"{"metric":{},"value":[1,"2"]}"#),
            &body(r#"{"metric":{"service":"a"},"value":[1,2]}"#),
            &body(&format!("{A},{A}")),
            &body(&" ".repeat(BODY_MAX)),
            &partial,
            &warned,
        ] {
            assert_eq!(read(text).1, Some(Split::Singly), "{text}");
        }
        for text in [&partial, &warned] {
            let (_, split) = split("http://p", 200, text.as_bytes(), true, &group());
            assert!(matches!(split, Some(Split::Each(_))), "{text}");
        }
        assert_eq!(split("http://p", 422, b"", false, &group()).1, Some(Split::Singly));
    }

    #[test]
    fn a_server_in_trouble_is_not_asked_more() {
        for status in [429, 500, 503] {
            let (answer, split) = split("http://p", status, b"", false, &group());
            assert!(matches!(answer, Answer::Failed(_)) && split.is_none(), "{status}");
        }
    }
}
