//! What the pods of a workload are asked for a Pods metric of an HPA, and what they answered.

use std::time::Duration;

/// Time limit of a poll of all pods. The next one follows after an interval, whose default is a minute.
pub const POLL_MAX: Duration = Duration::from_secs(10);

/// A number that each ready pod of a workload shows in a JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodMetricSource {
    /// `pods of NAMESPACE/KIND/NAME`: polls in flight are bounded for each.
    pub whose: String,
    pub namespace: String,
    /// The kind and name of the workload: a Deployment or StatefulSet.
    pub kind: String,
    pub name: String,
    pub https: bool,
    pub port: u16,
    /// Begins with a slash, with the query if there is one.
    pub path: String,
    /// A valid JSONPath.
    pub json_key: String,
    /// How several numbers become one; `None` if there must be one.
    pub aggregator: Option<Aggregator>,
    /// Time limit of a request to one pod; `None` means the process-wide default.
    pub timeout: Option<Duration>,
    /// Pods that became ready later than this ago are not asked.
    pub min_ready_age: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregator {
    Average,
    Maximum,
    Minimum,
    Sum,
}

impl Aggregator {
    /// Returns one number for several; `None` for none.
    #[must_use]
    pub fn of(self, numbers: &[f64]) -> Option<f64> {
        let first = *numbers.first()?;
        let sum = || numbers.iter().sum::<f64>();
        #[expect(clippy::cast_precision_loss, reason = "a document has far fewer numbers than 2^53")]
        Some(match self {
            Self::Average => sum() / numbers.len() as f64,
            Self::Maximum => numbers.iter().copied().fold(first, f64::max),
            Self::Minimum => numbers.iter().copied().fold(first, f64::min),
            Self::Sum => sum(),
        })
    }
}

/// What each pod answered that did, with the label selector of the workload, by which the HPA reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct PodValues {
    pub selector: String,
    pub values: Vec<(String, f64)>,
}

impl PodValues {
    /// The number that the history has: the sum, which the HPA divides by its target.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.values.iter().map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_numbers_become_one() {
        let of = |aggregator: Aggregator| aggregator.of(&[3.0, 1.0, 2.0]);
        let all = [Aggregator::Average, Aggregator::Maximum, Aggregator::Minimum, Aggregator::Sum];
        assert_eq!(all.map(of), [Some(2.0), Some(3.0), Some(1.0), Some(6.0)]);
        assert_eq!(Aggregator::Sum.of(&[]), None);
    }
}
