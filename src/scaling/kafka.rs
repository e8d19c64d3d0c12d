//! The lag of a consumer group in Kafka: what a trigger asks for, and the number that partitions' offsets make.

use super::queue::{ABOVE_ACTIVATION, Server};

/// A kafka or apache-kafka trigger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KafkaSource {
    pub server: Server,
    /// The type of the trigger.
    pub kind: &'static str,
    /// `host:port` of brokers, comma-separated; `None` if the workload's environment has them, as of the next two.
    pub bootstrap_servers: Option<String>,
    pub group: Option<String>,
    /// Comma-separated.
    pub topics: Option<String>,
    /// The only partitions that count, as ranges with both ends; `None` means all.
    pub partitions: Option<Vec<(i32, i32)>>,
    pub rules: LagRules,
    /// `None`: the authentication has it, if anything has. So of `tls`.
    pub sasl: Option<Sasl>,
    pub tls: Option<bool>,
    pub unsafe_ssl: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sasl {
    None,
    Plain,
    ScramSha256,
    ScramSha512,
    OAuthBearer,
}

impl Sasl {
    /// The names in a trigger.
    pub const NAMES: &[(&str, Self)] = &[
        ("none", Self::None),
        ("plaintext", Self::Plain),
        ("scram_sha256", Self::ScramSha256),
        ("scram_sha512", Self::ScramSha512),
        ("oauthbearer", Self::OAuthBearer),
    ];
}

impl KafkaSource {
    /// Returns group and topics for the history, as far as the trigger itself has them.
    #[must_use]
    pub(super) fn shown(&self) -> String {
        [&self.group, &self.topics].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/")
    }
}

/// What is made of the offsets of all partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LagRules {
    /// Messages a replica, not 0.
    pub threshold: u32,
    pub activation: u32,
    /// A group without a committed offset begins with the first message, and not with the next one.
    pub from_earliest: bool,
    /// There may be more replicas than partitions.
    pub allows_idle_consumers: bool,
    /// A partition does not count whose committed offset has not changed since the poll before. The text is what
    /// sets the trigger apart from others that ask for the same.
    pub excludes_persistent: Option<String>,
    /// A partition without a committed offset is no reason to scale.
    pub zero_on_invalid_offset: bool,
    /// No more replicas than partitions that have a lag.
    pub limits_to_partitions_with_lag: bool,
    /// Only numbers of replicas that all have the same number of partitions.
    pub distributes_evenly: bool,
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What the group committed.
    pub committed: Option<i64>,
    /// The next message's; `None` if the broker left it out, as Azure's Event Hubs do at times.
    pub end: Option<i64>,
    /// What was committed at the poll before, where that counts.
    pub before: Option<i64>,
}

impl LagRules {
    /// Returns the number of the trigger. As in KEDA, it is bounded by the number of partitions, and a lag that persists
    /// makes a trigger active that it adds nothing to.
    #[must_use]
    pub fn number(&self, partitions: &[Partition]) -> f64 {
        let (mut lag, mut with_persistent, mut lagging) = (0_u64, 0_u64, 0_u64);
        for partition in partitions {
            let of_all = self.lag(*partition);
            let is_stuck = self.excludes_persistent.is_some()
                && partition.committed.is_some()
                && partition.before == partition.committed;
            let counted = if is_stuck { 0 } else { of_all };
            with_persistent = with_persistent.saturating_add(of_all);
            lag = lag.saturating_add(counted);
            lagging += u64::from(counted > 0);
        }
        let (threshold, count) = (u64::from(self.threshold), partitions.len() as u64);
        if self.distributes_evenly {
            lag = even_replicas(lag, count, threshold) * threshold;
        }
        let most = if self.limits_to_partitions_with_lag { lagging } else { count };
        if !self.allows_idle_consumers || self.limits_to_partitions_with_lag || self.distributes_evenly {
            lag = lag.min(most * threshold);
        }
        // A lag above 2^53 has no meaning in single messages.
        #[expect(clippy::cast_precision_loss)]
        let lag = lag as f64;
        let activation = f64::from(self.activation);
        match with_persistent > u64::from(self.activation) {
            true if lag > activation => lag,
            true => activation + ABOVE_ACTIVATION,
            false => lag.min(activation),
        }
    }

    fn lag(&self, partition: Partition) -> u64 {
        match (partition.committed, partition.end) {
            (None, _) if self.zero_on_invalid_offset => 0,
            // The group has to start before it commits anything.
            (None, _) if !self.from_earliest => 1,
            (_, None) => 0,
            // A topic that was made anew begins below what was committed.
            (committed, Some(end)) => u64::try_from(end.saturating_sub(committed.unwrap_or(0))).unwrap_or(0),
        }
    }
}

/// Returns the smallest number of replicas that divides the partitions and is enough for the lag.
fn even_replicas(lag: u64, partitions: u64, threshold: u64) -> u64 {
    let divides = |count: &u64| partitions.is_multiple_of(*count);
    (1..=partitions).filter(divides).find(|count| count * threshold >= lag).unwrap_or(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> LagRules {
        LagRules { threshold: 10, ..LagRules::default() }
    }

    fn partition(committed: impl Into<Option<i64>>, end: impl Into<Option<i64>>) -> Partition {
        Partition { committed: committed.into(), end: end.into(), before: None }
    }

    #[test]
    fn lags_are_added_and_bounded_by_the_partitions() {
        let of = |rules: &LagRules, partitions: &[Partition]| rules.number(partitions);
        let three = [partition(5, 10), partition(7, 7), partition(0, 12)];
        assert_eq!(of(&rules(), &three), 17.0);
        let much = [partition(0, 1000), partition(7, 7)];
        assert_eq!(of(&rules(), &much), 20.0);
        assert_eq!(of(&LagRules { allows_idle_consumers: true, ..rules() }, &much), 1000.0);
        assert_eq!(of(&LagRules { limits_to_partitions_with_lag: true, ..rules() }, &much), 10.0);
        // 35 messages would be four replicas for three partitions.
        assert_eq!(of(&rules(), &[partition(0, 35), partition(0, 0), partition(0, 0)]), 30.0);
        // A topic that was made anew, and a partition that was left out.
        assert_eq!(of(&rules(), &[partition(900, 3), partition(0, 4), partition(0, None)]), 4.0);
        assert_eq!(of(&rules(), &[partition(0, i64::MAX), partition(0, i64::MAX), partition(-5, i64::MAX)]), 30.0);
        assert_eq!(of(&rules(), &[]), 0.0);
    }

    #[test]
    fn groups_without_an_offset() {
        let none = [partition(None, 100), partition(None, 7)];
        let of = |from_earliest, zero_on_invalid_offset| {
            LagRules { from_earliest, zero_on_invalid_offset, allows_idle_consumers: true, ..rules() }.number(&none)
        };
        assert_eq!((of(false, false), of(false, true)), (2.0, 0.0));
        assert_eq!((of(true, false), of(true, true)), (107.0, 0.0));
    }

    #[test]
    fn even_distribution() {
        let twelve = |lag: i64| {
            let mut partitions = [partition(0, 0); 12];
            partitions[0].end = Some(lag);
            LagRules { distributes_evenly: true, ..rules() }.number(&partitions)
        };
        assert_eq!((twelve(0), twelve(1), twelve(31), twelve(41), twelve(61)), (0.0, 10.0, 40.0, 60.0, 120.0));
        assert_eq!(twelve(10_000), 120.0);
    }

    #[test]
    fn lag_that_persists_keeps_a_trigger_active_and_adds_nothing() {
        let rules = LagRules { excludes_persistent: Some("shop/so/0".to_owned()), ..rules() };
        let stuck = Partition { before: Some(5), ..partition(5, 30) };
        let moved = Partition { before: Some(4), ..partition(5, 30) };
        assert_eq!(rules.number(&[moved, moved]), 20.0);
        assert_eq!(rules.number(&[stuck, moved]), 20.0);
        assert_eq!(rules.number(&[stuck, stuck]), 0.001);
        let higher = LagRules { activation: 60, ..rules.clone() };
        assert_eq!(higher.number(&[stuck, stuck]), 0.0, "50 are not above 60");
        let limited = LagRules { limits_to_partitions_with_lag: true, ..rules };
        assert_eq!(limited.number(&[stuck, moved]), 10.0);
    }

    #[test]
    fn activation() {
        let with = |activation| LagRules { activation, ..rules() };
        assert_eq!(with(17).number(&[partition(0, 17), partition(0, 0)]), 17.0);
        // Active by its lag, although the bound is below the activation.
        assert_eq!(with(50).number(&[partition(0, 1000)]), 50.001);
        let even = LagRules { distributes_evenly: true, ..with(50) };
        let mut partitions = [partition(0, 0); 12];
        partitions[0].end = Some(45);
        assert_eq!(even.number(&partitions), 50.0, "45 are not above 50, and 60 would be");
    }
}
