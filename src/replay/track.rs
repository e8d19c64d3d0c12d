//! What one source answered, in the order of time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scaling::event::{Answer, ErrorClass, Missing, PollError};
use crate::scaling::model::Source;
use crate::store::SampleValue;

/// What is asked, whichever trigger does: kind of trigger, server, query, as the history has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    pub kind: String,
    pub server: String,
    pub query: String,
}

impl SourceId {
    #[must_use]
    pub fn new(kind: &str, server: &str, query: &str) -> Self {
        Self { kind: kind.to_owned(), server: server.to_owned(), query: query.to_owned() }
    }

    /// The use of `cpu` or `memory`, of one container or of whole pods: all pods together, in percent of what one pod
    /// requests or in units.
    #[must_use]
    pub fn of_resource(name: &str, container: Option<&str>, is_utilization: bool) -> Self {
        let unit = if is_utilization { "percent" } else { "units" };
        Self::new(name, container.unwrap_or_default(), unit)
    }

    /// Returns whether it is the use of a resource, which the HPA controller measures.
    #[must_use]
    pub fn is_resource(&self) -> bool {
        matches!(self.kind.as_str(), "cpu" | "memory")
    }

    #[must_use]
    pub fn of(kind: &str, source: &Source) -> Self {
        let (server, query) = source.shown();
        Self::new(kind, &server, &query)
    }

    /// The same query to Prometheus, wherever that is.
    fn anywhere(&self) -> Option<Self> {
        (self.kind == "prometheus").then(|| Self::new(&self.kind, "", &self.query))
    }

    /// Returns the name by which the tracks have what is asked.
    #[must_use]
    pub fn among(self, tracks: &BTreeMap<Self, Track>) -> Self {
        match self.anywhere() {
            Some(anywhere) if !tracks.contains_key(&self) && tracks.contains_key(&anywhere) => anywhere,
            _ => self,
        }
    }
}

/// Joins the answers of a query whose Prometheus has moved: it means the same wherever that is, unless several were asked
/// at the same time. Another server may have moved too, but its query does not say what it measures.
pub(super) fn join(tracks: BTreeMap<SourceId, Track>) -> BTreeMap<SourceId, Track> {
    let mut joined: BTreeMap<SourceId, Track> = BTreeMap::new();
    let mut moved: BTreeMap<SourceId, Vec<(SourceId, Track)>> = BTreeMap::new();
    for (id, mut track) in tracks {
        track.sort();
        match id.anywhere() {
            Some(anywhere) => moved.entry(anywhere).or_default().push((id, track)),
            None => drop(joined.insert(id, track)),
        }
    }
    for (anywhere, mut servers) in moved {
        servers.sort_by_key(|(_, track)| track.first_at());
        if servers.windows(2).all(|pair| pair[0].1.last_at() <= pair[1].1.first_at()) {
            let mut all = Track::default();
            servers.into_iter().for_each(|(_, track)| all.append(track));
            joined.insert(anywhere, all);
        } else {
            joined.extend(servers);
        }
    }
    joined
}

/// An answer is recorded when it arrives, a moment after the question that a replay asks at the same time as it was
/// asked then: this much at most, and at most this part of the time between two answers.
const ANSWER_MS: i64 = 1_000;
const ANSWER_PART: i64 = 4;

/// The time between two answers, as a multiple of what is usual, from which on some are missing.
const HOLE_FACTOR: i64 = 3;
/// Less is no hole, whatever is usual: a restart takes as long.
const HOLE_MS: i64 = 30_000;

/// One answer: 24 bytes, so that a month at 5 s has 12 MB.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: i64,
    value: f64,
    /// Position in the track's outcomes plus one; 0 for a number.
    outcome: u32,
}

/// The answers of one source.
#[derive(Clone, Debug, Default)]
pub struct Track {
    points: Vec<Point>,
    outcomes: Vec<Arc<str>>,
}

impl Track {
    pub fn push(&mut self, at: i64, value: &SampleValue) {
        let (value, outcome) = match value {
            SampleValue::Number(number) => (*number, 0),
            SampleValue::Outcome(name) => {
                let known = self.outcomes.iter().position(|known| known == name);
                let position = known.unwrap_or_else(|| {
                    self.outcomes.push(Arc::clone(name));
                    self.outcomes.len() - 1
                });
                (0.0, u32::try_from(position + 1).unwrap_or(u32::MAX))
            }
        };
        self.points.push(Point { at, value, outcome });
    }

    /// Adds the answers of another track, which are later.
    fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for point in &later.points {
            let value = match point.outcome.checked_sub(1).and_then(|at| later.outcomes.get(at as usize)) {
                None => SampleValue::Number(point.value),
                Some(outcome) => SampleValue::Outcome(Arc::clone(outcome)),
            };
            self.push(point.at, &value);
        }
        self.sort();
    }

    /// To be called once all answers are there: blocks are not stored by time.
    pub fn sort(&mut self) {
        self.points.sort_by_key(|point| point.at);
        self.points.dedup_by_key(|point| point.at);
    }

    #[must_use]
    pub fn first_at(&self) -> Option<i64> {
        self.points.first().map(|point| point.at)
    }

    #[must_use]
    pub fn last_at(&self) -> Option<i64> {
        self.points.last().map(|point| point.at)
    }

    /// Returns whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Returns the stretches without an answer, from the last before to the first after.
    #[must_use]
    pub fn holes(&self) -> Vec<(i64, i64)> {
        let mut holes = Vec::new();
        let mut usual = None;
        for pair in self.points.windows(2) {
            let gap = pair[1].at - pair[0].at;
            let expected = *usual.get_or_insert(gap);
            if gap > HOLE_MS.max(expected.saturating_mul(HOLE_FACTOR)) {
                holes.push((pair[0].at, pair[1].at));
            } else {
                usual = Some((expected * 7 + gap) / 8);
            }
        }
        holes
    }

    /// Returns the answer of a time.
    fn answer(&self, place: usize) -> Answer {
        let Some(point) = self.points.get(place) else {
            return failed(ErrorClass::Response, "not recorded");
        };
        match point.outcome.checked_sub(1).and_then(|at| self.outcomes.get(at as usize)) {
            None => Answer::Value(point.value),
            Some(outcome) => answer_of(outcome),
        }
    }
}

/// Reads a track forwards.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'t> {
    track: &'t Track,
    place: usize,
}

impl<'t> Cursor<'t> {
    #[must_use]
    pub(super) fn new(track: &'t Track) -> Self {
        Self { track, place: 0 }
    }

    /// Returns the newest answer at a time, which must not be before that of the last call. Where some are missing, the
    /// last one stands.
    pub(super) fn at(&mut self, now: i64) -> Answer {
        self.place = self.place_at(now);
        self.track.answer(self.place)
    }

    /// Returns the same without going on: the answer's place in the track, and its number; `None` if it has none.
    pub(super) fn peek(&self, now: i64) -> Option<(usize, f64)> {
        let place = self.place_at(now);
        let point = self.track.points.get(place).filter(|point| point.outcome == 0)?;
        Some((place, point.value))
    }

    fn place_at(&self, now: i64) -> usize {
        let mut place = self.place;
        while let Some([this, next]) = self.track.points.get(place..place + 2) {
            if next.at > now + ANSWER_MS.min((next.at - this.at) / ANSWER_PART) {
                break;
            }
            place += 1;
        }
        place
    }

    /// When the next answer comes.
    #[must_use]
    pub(super) fn next_at(&self) -> Option<i64> {
        self.track.points.get(self.place + 1).map(|next| next.at)
    }
}

fn failed(class: ErrorClass, message: &str) -> Answer {
    Answer::Failed(PollError::new(class, message))
}

/// Returns the answer whose outcome the history has by this name.
fn answer_of(outcome: &str) -> Answer {
    const CLASSES: [ErrorClass; 11] = [
        ErrorClass::Authentication,
        ErrorClass::Connect,
        ErrorClass::Tls,
        ErrorClass::Timeout,
        ErrorClass::Status,
        ErrorClass::Response,
        ErrorClass::Query,
        ErrorClass::Partial,
        ErrorClass::Missing,
        ErrorClass::Configuration,
        ErrorClass::Formula,
    ];
    match outcome {
        "empty" => Answer::Missing(Missing::Empty),
        "null" => Answer::Missing(Missing::Null),
        "nan" => Answer::Missing(Missing::NaN),
        "infinite" => Answer::Missing(Missing::Infinite { positive: true }),
        _ => {
            let class = CLASSES.into_iter().find(|class| class.id() == outcome).unwrap_or(ErrorClass::Response);
            failed(class, outcome)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(points: &[(i64, f64)]) -> Track {
        let mut track = Track::default();
        points.iter().for_each(|(at, value)| track.push(*at, &SampleValue::Number(*value)));
        track.sort();
        track
    }

    #[test]
    fn the_newest_answer_stands_until_the_next() {
        let mut track = track(&[(20_000, 2.0), (10_000, 1.0)]);
        track.push(30_000, &SampleValue::Outcome("timeout".into()));
        track.push(40_000, &SampleValue::Outcome("empty".into()));
        let mut cursor = Cursor::new(&track);
        assert_eq!(cursor.at(0), Answer::Value(1.0), "before the first, it stands");
        assert_eq!(cursor.at(18_000), Answer::Value(1.0));
        assert_eq!(cursor.at(19_500), Answer::Value(2.0), "it was asked a moment before it was answered");
        assert!(matches!(cursor.at(30_000), Answer::Failed(error) if error.class == ErrorClass::Timeout));
        assert_eq!(cursor.at(90_000), Answer::Missing(Missing::Empty));
    }

    #[test]
    fn holes_are_told_by_what_is_usual() {
        let mut points: Vec<(i64, f64)> = (0..20).map(|n| (n * 15_000, 1.0)).collect();
        points.extend((40..50).map(|n| (n * 15_000, 1.0)));
        assert_eq!(track(&points).holes(), [(19 * 15_000, 40 * 15_000)]);
        let hourly: Vec<(i64, f64)> = (0..9).map(|n| (n * 3_600_000, 1.0)).collect();
        assert_eq!(track(&hourly).holes(), []);
    }

    #[test]
    fn a_query_follows_its_prometheus_unless_two_are_asked_at_once() {
        type Answered<'a> = (&'a str, &'a str, &'a [(i64, f64)]);
        let at = |server: &str, kind: &str| SourceId::new(kind, server, "load");
        let of = |points: &[Answered<'_>]| {
            join(points.iter().map(|(kind, server, points)| (at(server, kind), track(points))).collect())
        };
        let moved =
            of(&[("prometheus", "http://new", &[(3, 3.0)]), ("prometheus", "http://old", &[(1, 1.0), (2, 2.0)])]);
        assert_eq!(at("http://new", "prometheus").among(&moved), at("", "prometheus"));
        assert_eq!(at("http://newest", "prometheus").among(&moved), at("", "prometheus"), "a candidate's");
        let all = &moved[&at("", "prometheus")];
        assert_eq!((all.first_at(), all.last_at(), all.points.len()), (Some(1), Some(3), 3));
        let both = of(&[("prometheus", "http://a", &[(1, 1.0), (3, 1.0)]), ("prometheus", "http://b", &[(2, 9.0)])]);
        assert_eq!(at("http://b", "prometheus").among(&both), at("http://b", "prometheus"));
        assert_eq!(both[&at("http://b", "prometheus")].points.len(), 1);
        let others = of(&[("metrics-api", "http://a", &[(1, 1.0)]), ("metrics-api", "http://b", &[(2, 9.0)])]);
        assert_eq!(others.len(), 2);
    }
}
