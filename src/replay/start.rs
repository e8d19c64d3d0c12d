//! How long pods take to start, as far as the history shows it.

use std::fmt;
use std::time::Duration;

/// Where nothing shows it.
const UNKNOWN_MS: i64 = 10_000;

/// From a scale-out until all of its pods are ready, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StartUp {
    /// Where pods were running already.
    usual: i64,
    /// Where none was: an image may have to be pulled again, or a node to be started.
    from_zero: i64,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Given,
    /// From this many scale-outs of a running target, and from zero.
    Learnt(usize, usize),
    Unknown,
}

impl StartUp {
    /// Takes what was given, or else the median of what was seen: from how many replicas, and milliseconds.
    pub(super) fn of(given: Option<Duration>, seen: &[(u32, i64)]) -> Self {
        if let Some(given) = given {
            let given = i64::try_from(given.as_millis()).unwrap_or(i64::MAX / 2);
            return Self { usual: given, from_zero: given, origin: Origin::Given };
        }
        let of = |is_zero: bool| -> Vec<i64> {
            seen.iter().filter(|(from, _)| (*from == 0) == is_zero).map(|(_, took)| (*took).max(0)).collect()
        };
        let (mut usual, mut from_zero) = (of(false), of(true));
        let origin = match (usual.len(), from_zero.len()) {
            (0, 0) => Origin::Unknown,
            (usual, from_zero) => Origin::Learnt(usual, from_zero),
        };
        // Either says more about the other than nothing does.
        let (usual, from_zero) = (median(&mut usual), median(&mut from_zero));
        Self {
            usual: usual.or(from_zero).unwrap_or(UNKNOWN_MS),
            from_zero: from_zero.or(usual).unwrap_or(UNKNOWN_MS),
            origin,
        }
    }

    /// Returns how long pods take that are added to so many.
    pub(super) fn after(self, replicas: u32) -> i64 {
        if replicas == 0 { self.from_zero } else { self.usual }
    }
}

fn median(values: &mut [i64]) -> Option<i64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

/// What a reader must know of it.
impl fmt::Display for StartUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64();
        let (usual, from_zero) = (seconds(self.usual), seconds(self.from_zero));
        match self.origin {
            Origin::Given => write!(f, "a new pod is ready after {usual} s (--pod-start)"),
            Origin::Unknown => write!(
                f,
                "a new pod is ready after {usual} s, since the history does not show how long pods take (--pod-start)"
            ),
            Origin::Learnt(0, starts) => {
                write!(f, "a new pod is ready after {from_zero:.1} s, the median of {starts} starts from zero")
            }
            Origin::Learnt(outs, 0) => {
                write!(f, "a new pod is ready after {usual:.1} s, the median of {outs} scale-outs")
            }
            Origin::Learnt(outs, starts) => write!(
                f,
                "a new pod is ready after {usual:.1} s, the median of {outs} scale-outs, and from zero after \
                 {from_zero:.1} s, that of {starts}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_counts_then_what_was_seen() {
        let seen = [(0, 40_000), (1, 12_000), (3, 9_000), (2, 300_000), (0, 50_000), (0, 45_000)];
        for (given, seen, usual, from_zero, says) in [
            (Some(Duration::from_secs(7)), &seen[..], 7_000, 7_000, "7 s (--pod-start)"),
            (
                None,
                &seen[..],
                12_000,
                45_000,
                "12.0 s, the median of 3 scale-outs, and from zero after 45.0 s, that of 3",
            ),
            (None, &seen[..1], 40_000, 40_000, "40.0 s, the median of 1 starts from zero"),
            (None, &seen[1..3], 12_000, 12_000, "12.0 s, the median of 2 scale-outs"),
            (None, &[], 10_000, 10_000, "10 s, since the history does not show"),
        ] {
            let start_up = StartUp::of(given, seen);
            assert_eq!((start_up.after(3), start_up.after(0)), (usual, from_zero), "{says}");
            assert!(start_up.to_string().contains(says), "{start_up}");
        }
    }
}
