//! HPAs that hpalite only observes: it asks nothing for them and writes nothing of them, and remembers what their own
//! status shows.
//!
//! Owns when a reading of such a status becomes a sample: when it changes, and now and then while it stays, so that a
//! reader of the history finds one near every time.

use std::time::Duration;

use super::answer::Answer;
use super::time::UnixMillis;

/// Samples of one HPA are at least this far apart, whoever writes its status however often. Its controller looks every
/// 15 s, and polls of other objects are a second apart at least.
const APART: Duration = Duration::from_secs(1);

/// What a status still shows is recorded again after this time. Explanations read the samples of an hour.
const AGAIN: Duration = Duration::from_mins(10);

/// Whether an HPA that nobody else knows is to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    Yes,
    /// Until it is seen again, when more is known of who serves its metrics.
    Meanwhile,
    /// If it was before: it asks for metrics that nobody here gives at this time.
    IfKnown,
}

/// What is known of such an HPA.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub remember: Remember,
    /// What the status shows of each metric, by its position in the HPA; `None` where it shows nothing yet.
    pub shown: Vec<Option<Answer>>,
    /// What was recorded last of each.
    recorded: Vec<Option<(UnixMillis, Answer)>>,
    /// Nothing is recorded before this time.
    rests_until: UnixMillis,
    /// When what stays is looked at again.
    looks_at: UnixMillis,
}

impl Observed {
    #[must_use]
    pub fn new(remember: Remember, shown: Vec<Option<Answer>>) -> Self {
        let (rests_until, looks_at) = (UnixMillis::default(), UnixMillis::default());
        Self { remember, shown, recorded: Vec::new(), rests_until, looks_at }
    }

    /// Goes on from what was recorded of an earlier version of the HPA; with `is_same` it has the same metrics.
    pub(super) fn follow(&mut self, before: &mut Self, is_same: bool) {
        (self.rests_until, self.looks_at) = (before.rests_until, before.looks_at);
        if is_same {
            self.recorded = std::mem::take(&mut before.recorded);
        }
    }

    /// Forgets what was recorded, which is in another file.
    pub(super) fn forget(&mut self) {
        self.recorded.clear();
        self.rests_until = UnixMillis::default();
    }

    pub(super) fn shift(&mut self, shift: impl Fn(UnixMillis) -> UnixMillis) {
        self.rests_until = shift(self.rests_until);
        self.looks_at = shift(self.looks_at);
        self.recorded.iter_mut().flatten().for_each(|(at, _)| *at = shift(*at));
    }

    /// Returns what is to be recorded now, by position, and when to look again, if nobody will do so anyway.
    pub(super) fn due(&mut self, now: UnixMillis) -> (Vec<(usize, Answer)>, Option<UnixMillis>) {
        self.recorded.resize_with(self.shown.len(), || None);
        let is_news = |(shown, recorded): &(&Option<Answer>, &mut Option<(UnixMillis, Answer)>)| match (shown, recorded)
        {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(shown), Some((at, recorded))) => shown != recorded || now.since(*at) >= AGAIN,
        };
        let mut news = Vec::new();
        let is_resting = now < self.rests_until;
        for (position, (shown, recorded)) in
            self.shown.iter().zip(&mut self.recorded).enumerate().filter(|(_, pair)| is_news(pair))
        {
            if is_resting {
                return (Vec::new(), Some(self.rests_until));
            }
            if let Some(answer) = shown {
                *recorded = Some((now, answer.clone()));
                news.push((position, answer.clone()));
            }
        }
        if !news.is_empty() {
            self.rests_until = now.plus(APART);
        }
        let look = (self.looks_at <= now && !self.shown.is_empty()).then(|| now.plus(AGAIN));
        self.looks_at = look.unwrap_or(self.looks_at);
        (news, look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    #[test]
    fn a_reading_is_recorded_when_it_changes_and_now_and_then() {
        let mut observed = Observed::new(Remember::Yes, vec![Some(Answer::Value(1.0)), None]);
        let (news, look) = observed.due(seconds(1_000));
        assert_eq!((news, look), (vec![(0, Answer::Value(1.0))], Some(seconds(1_600))));
        assert_eq!(observed.due(seconds(1_015)), (Vec::new(), None), "nothing has changed");
        let mut next = Observed::new(Remember::Yes, vec![Some(Answer::Value(1.0)), Some(Answer::Value(5.0))]);
        next.follow(&mut observed, true);
        assert_eq!(next.due(seconds(1_030)), (vec![(1, Answer::Value(5.0))], None));
        let (news, look) = next.due(seconds(1_600));
        assert_eq!((news, look), (vec![(0, Answer::Value(1.0))], Some(seconds(2_200))), "the second is not that old");
    }

    #[test]
    fn a_status_that_changes_all_the_time_is_recorded_once_a_second() {
        let (mut recorded, mut before) = (0, Observed::new(Remember::Yes, vec![Some(Answer::Value(0.0))]));
        for step in 0..1_000_i32 {
            let now = UnixMillis(50_000 + i64::from(step) * 10);
            let mut next = Observed::new(Remember::Yes, vec![Some(Answer::Value(f64::from(step)))]);
            // Nor does another definition let it go faster.
            next.follow(&mut before, step % 2 == 0);
            let (news, look) = next.due(now);
            recorded += news.len();
            assert!(!news.is_empty() || look.is_some_and(|at| at > now && at.since(now) <= APART), "{look:?}");
            before = next;
        }
        assert_eq!(recorded, 10);
    }
}
