//! What other settings would have done, for the page: the lines and figures of `hpalite replay`.
//!
//! A replay takes seconds of a core, unlike everything else here, so one runs at a time, over a week at most, and only for
//! the page itself: another page in the same browser cannot send its header.

use std::path::Path;
use std::sync::Mutex;

use super::problem;
use crate::history::command::find;
use crate::http::Response;
use crate::replay::{Choice, Model, what_if};
use crate::scaling::model::ApiGroup;
use crate::store::Reader;
use crate::store::read::Range;

/// Set by the page on its own requests; browsers let no page of another origin do so.
pub(super) const HEADER: &str = "Hpalite-Replay";
/// At a poll each second some six seconds of a core.
const RANGE_MAX_MS: i64 = 7 * 86_400_000;
/// Of the assignments, which come in a URL anyway.
const SET_BYTES_MAX: usize = 4 * 1024;

static TURN: Mutex<()> = Mutex::new(());

/// What is asked for.
pub(super) struct Question<'q> {
    pub(super) namespace: &'q str,
    pub(super) name: &'q str,
    pub(super) group: Option<ApiGroup>,
    pub(super) range: Range,
    /// `PATH=VALUE[,PATH=VALUE…]`; empty for today's settings alone.
    pub(super) set: &'q str,
}

pub(super) fn answer(db: &Path, is_of_page: bool, question: &Question<'_>) -> Result<Response, Response> {
    if !is_of_page {
        return Err(problem(403, &format!("replays are for the page: send the header {HEADER}: 1")));
    }
    let Range { from, to } = question.range;
    if to - from > RANGE_MAX_MS {
        return Err(problem(400, "a replay here covers 7 days at most: hpalite replay --since takes longer ones"));
    }
    if question.set.len() > SET_BYTES_MAX {
        return Err(problem(400, &format!("set: at most {SET_BYTES_MAX} bytes")));
    }
    let Ok(_turn) = TURN.try_lock() else {
        return Err(problem(503, "another replay is under way: try again in a moment"));
    };
    let mut reader = Reader::open(db).map_err(|error| problem(503, &error.to_string()))?;
    let key =
        find(&mut reader, question.namespace, question.name, question.group).map_err(|text| problem(404, &text))?;
    let choices: Vec<Choice> =
        Some(question.set).filter(|set| !set.is_empty()).map(|set| Choice::Set(set.to_owned())).into_iter().collect();
    let report = what_if(&mut reader, &key, question.range, &choices, Model::default());
    let report = report.map_err(|problems| problem(400, &problems.join("; ")))?;
    serde_json::to_vec(&report).map(|body| Response::json(200, body)).map_err(|error| problem(500, &error.to_string()))
}
