//! The rows of the history, one type for each table that is read.

use rusqlite::Row;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::Found;
use crate::scaling::attribution::Attribution;
use crate::scaling::decision::WOULD_HAVE;
use crate::scaling::model::ObjectKey;

/// A time range in milliseconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: i64,
    pub to: i64,
}

/// One line of the overview.
#[derive(Clone, Debug)]
pub struct ObjectRow {
    pub id: i64,
    pub key: ObjectKey,
    pub added_at: i64,
    pub removed_at: Option<i64>,
    pub generation: Option<i64>,
    /// What is wrong with the current definition.
    pub invalid: Option<String>,
    pub replicas: Option<u32>,
    pub last_active_at: Option<i64>,
}

/// Which objects, see [`super::Snapshot::objects`].
#[derive(Clone, Copy, Debug)]
pub struct Listing<'q> {
    /// A substring of `NAMESPACE/NAME`.
    pub text: &'q str,
    /// Whether to include removed objects.
    pub removed: bool,
    pub limit: u32,
    pub offset: u32,
}

/// One life of an object: an object that is deleted and recreated begins another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub id: i64,
    pub added_at: i64,
    pub removed_at: Option<i64>,
}

/// A trigger with a definition that was in force for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRow {
    pub id: i64,
    pub trigger: u16,
    pub kind: String,
    pub name: Option<String>,
    pub metric_name: String,
    pub threshold: f64,
    pub activation_threshold: f64,
    pub from: i64,
    pub until: Option<i64>,
    /// Without anything that may be secret.
    pub server: String,
    pub query: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConditionRow {
    pub at: i64,
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaRow {
    pub at: i64,
    pub from: Option<u32>,
    pub to: u32,
    pub actor: String,
    pub source: String,
    pub manager: Option<String>,
    /// Who changed the replicas, in words.
    pub by: String,
    /// The change may be as old as this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_since: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DecisionRow {
    pub at: i64,
    pub from: u32,
    pub to: u32,
    pub reason: String,
    pub detail: String,
    /// `done`, `failed: …`, `shadow`, `nothing to do` or `open`, as in `v_decision`.
    pub outcome: String,
    /// Contribution of each trigger, as it is stored: parsed it takes several times the memory.
    #[serde(rename = "triggers", serialize_with = "as_json")]
    pub triggers_json: String,
    #[serde(skip)]
    pub pause: Option<String>,
    #[serde(skip)]
    pub cooldown_until: Option<i64>,
}

impl DecisionRow {
    /// Parses the contribution of each trigger; empty if it cannot be read.
    #[must_use]
    pub fn triggers(&self) -> Vec<DecidedRow> {
        serde_json::from_str(&self.triggers_json).unwrap_or_default()
    }
}

/// What a decision has of a trigger, as far as it is interpreted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DecidedRow {
    pub metric: String,
    pub value: Option<f64>,
    pub fallback: bool,
    /// How a missing number was interpreted, in words.
    pub absence: Option<String>,
    #[serde(rename = "absent_since_unix_ms")]
    pub absent_since: Option<i64>,
}

/// Writes a text that is JSON as it is.
fn as_json<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<&RawValue>(text).ok().serialize(serializer)
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorRow {
    pub from: i64,
    /// Last poll with this outcome.
    pub last_at: i64,
    /// `None` while it lasts.
    pub until: Option<i64>,
    pub outcome: String,
    pub message: String,
    pub polls: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionRow {
    pub at: i64,
    pub generation: i64,
    pub invalid: Option<String>,
    pub spec_json: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunRow {
    pub version: String,
    #[serde(rename = "from")]
    pub started_at: i64,
    /// `None`: it runs, or it was killed (`lost`).
    #[serde(rename = "until")]
    pub stopped_at: Option<i64>,
    /// `running`, `orderly` or `lost`.
    pub state: String,
    /// Until when another instance decided: `None` if it never stood by, and the largest number while it does.
    #[serde(skip)]
    pub stood_by_until: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HpaRow {
    pub at: i64,
    pub current: i64,
    pub desired: i64,
    pub conditions_json: String,
    /// `status.currentMetrics`.
    pub metrics_json: String,
}

#[derive(Clone, Debug)]
pub struct LossRow {
    pub from: i64,
    pub until: i64,
    pub samples: i64,
    /// Other records.
    pub others: i64,
    pub cause: String,
}

/// A stretch in which hpalite could not see or do what it should, or whose times deceive.
#[derive(Clone, Debug)]
pub struct InterruptionRow {
    /// The id of an [`Interruption`](crate::scaling::event::Interruption).
    pub kind: String,
    pub from: i64,
    pub until: i64,
    /// How many there were.
    pub times: i64,
}

pub(super) fn condition_row(row: &Row<'_>) -> Found<ConditionRow> {
    Ok(ConditionRow { status: row.get(0)?, reason: row.get(1)?, message: row.get(2)?, at: row.get(3)? })
}

pub(super) fn replica_row(row: &Row<'_>) -> Found<ReplicaRow> {
    let (actor, manager): (String, Option<String>) = (row.get(3)?, row.get(5)?);
    let by = Attribution::from_row(&actor, manager.as_deref()).to_string();
    let (at, from, to, source, unseen_since) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?, row.get(6)?);
    Ok(ReplicaRow { at, from, to, actor, source, manager, by, unseen_since })
}

pub(super) fn definition_row(row: &Row<'_>) -> Found<DefinitionRow> {
    Ok(DefinitionRow { generation: row.get(0)?, at: row.get(1)?, invalid: row.get(2)?, spec_json: row.get(3)? })
}

pub(super) fn decision_row(row: &Row<'_>) -> Found<DecisionRow> {
    let (from, to): (u32, u32) = (row.get(1)?, row.get(2)?);
    let (acted, error): (Option<bool>, Option<String>) = (row.get(8)?, row.get(9)?);
    let detail: String = row.get(4)?;
    let is_shadow = detail.starts_with(WOULD_HAVE);
    Ok(DecisionRow {
        at: row.get(0)?,
        from,
        to,
        reason: row.get(3)?,
        detail,
        outcome: match error {
            Some(error) => format!("failed: {error}"),
            None if acted == Some(true) => "done".to_owned(),
            None if is_shadow => "shadow".to_owned(),
            None if from == to => "nothing to do".to_owned(),
            None => "open".to_owned(),
        },
        triggers_json: row.get(5)?,
        pause: row.get(6)?,
        cooldown_until: row.get(7)?,
    })
}

pub(super) fn hpa_row(row: &Row<'_>) -> Found<HpaRow> {
    Ok(HpaRow {
        at: row.get(0)?,
        current: row.get(1)?,
        desired: row.get(2)?,
        conditions_json: row.get(3)?,
        metrics_json: row.get(4)?,
    })
}

pub(super) fn loss_row(row: &Row<'_>) -> Found<LossRow> {
    Ok(LossRow { from: row.get(0)?, until: row.get(1)?, samples: row.get(2)?, others: row.get(3)?, cause: row.get(4)? })
}
