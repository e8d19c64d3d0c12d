//! What stops the scaling of an object: the pause annotations of a ScaledObject and of its Namespace.
//!
//! Owns which of the two holds, until when, and how it is worded.

use super::time::UnixMillis;

/// Annotations that stop scaling, fully or in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// `autoscaling.keda.sh/paused-replicas`: full pause at this count; `Err` has a text that is not a number.
    pub replicas: Option<Result<u32, String>>,
    /// `autoscaling.keda.sh/paused`, or `paused-until` alone: full pause at the current count.
    pub paused: bool,
    /// `autoscaling.keda.sh/paused: "false"`: a pause of the Namespace does not apply to this object.
    pub is_declined: bool,
    pub scale_in: bool,
    pub scale_out: bool,
    /// `autoscaling.keda.sh/paused-until`: when it ends by itself; `Err` has a text that is no time.
    pub until: Option<Result<UnixMillis, String>>,
    /// `hpalite.dev/paused-reason`.
    pub reason: Option<String>,
    /// The annotations are those of the Namespace.
    pub is_of_namespace: bool,
}

impl Pause {
    /// Both directions are stopped and the HPA is removed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.paused || self.replicas.is_some()
    }

    #[must_use]
    pub fn is_any(&self) -> bool {
        self.is_full() || self.scale_in || self.scale_out
    }

    /// The time until which it was to hold has come.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        matches!(self.until, Some(Ok(at)) if at <= now)
    }

    /// When it ends by itself, if it has not ended yet.
    #[must_use]
    pub fn ends_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.until.as_ref().and_then(|until| until.as_ref().ok()).copied().filter(|at| *at > now)
    }

    /// What holds at `now`. The object's own annotations take precedence, except that a full pause of the Namespace
    /// includes one in a single direction.
    #[must_use]
    pub fn in_force(own: &Self, namespace: Option<&Self>, now: UnixMillis) -> Self {
        let own = Some(own).filter(|own| (own.is_any() || own.is_declined) && !own.is_over(now));
        let namespace = namespace.filter(|pause| pause.is_any() && !pause.is_over(now));
        let found = match (own, namespace) {
            (Some(own), Some(namespace)) if namespace.is_full() && !own.is_full() && !own.is_declined => namespace,
            (Some(own), _) => own,
            (None, Some(namespace)) => namespace,
            (None, None) => return Self::default(),
        };
        found.clone()
    }

    /// What is wrong with the annotations: the field, what is wrong with it, and the fix. The pause holds nevertheless,
    /// and without an end.
    #[must_use]
    pub fn problem(&self) -> Option<(String, String, &'static str)> {
        let (name, message, fix) = match (&self.replicas, &self.until) {
            (Some(Err(text)), _) => (
                "paused-replicas",
                format!("\"{text}\" is not a whole number of at least 0"),
                "write for example \"3\"",
            ),
            (_, Some(Err(text))) => {
                let fix = "write for example \"2027-01-31T06:00:00Z\"";
                ("paused-until", format!("\"{text}\" is no time in RFC 3339 with a zone"), fix)
            }
            _ => return None,
        };
        let place = if self.is_of_namespace { " of its Namespace" } else { "" };
        let field = format!("metadata.annotations[autoscaling.keda.sh/{name}]{place}");
        Some((field, message, fix))
    }

    /// The message of the condition Paused: KEDA's own, followed by what KEDA does not have.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = "ScaledObject is paused".to_owned();
        if self.is_of_namespace {
            text.push_str(" by its Namespace");
        }
        if let Some(Ok(at)) = self.until {
            text.push_str(&format!(" until {at}"));
        }
        if let Some(reason) = &self.reason {
            text.push_str(&format!(": {reason}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn until(at: i64, pause: Pause) -> Pause {
        Pause { until: Some(Ok(UnixMillis(at))), ..pause }
    }

    #[test]
    fn the_objects_own_annotations_take_precedence_while_they_hold() {
        let (none, full, inward) = (
            Pause::default(),
            Pause { paused: true, ..Pause::default() },
            Pause { scale_in: true, ..Pause::default() },
        );
        let declined = Pause { is_declined: true, ..Pause::default() };
        let at_three = Pause { replicas: Some(Ok(3)), ..Pause::default() };
        let of = |pause: &Pause| Pause { is_of_namespace: true, ..pause.clone() };
        for (own, namespace, expected) in [
            (none.clone(), None, none.clone()),
            (full.clone(), None, full.clone()),
            (none.clone(), Some(of(&full)), of(&full)),
            (at_three.clone(), Some(of(&full)), at_three.clone()),
            (full.clone(), Some(of(&at_three)), full.clone()),
            (declined.clone(), Some(of(&full)), declined.clone()),
            (inward.clone(), Some(of(&full)), of(&full)),
            (inward.clone(), Some(of(&Pause { scale_out: true, ..Pause::default() })), inward.clone()),
            (until(999, at_three.clone()), Some(of(&full)), of(&full)),
            (until(1_000, full.clone()), None, none.clone()),
            (until(1_001, full.clone()), None, until(1_001, full.clone())),
            (none.clone(), Some(until(1_000, of(&full))), none.clone()),
            (until(1_000, declined), Some(of(&full)), of(&full)),
            (inward.clone(), Some(until(1_000, of(&full))), inward.clone()),
        ] {
            assert_eq!(Pause::in_force(&own, namespace.as_ref(), NOW), expected, "{own:?}, {namespace:?}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_holds_without_end_and_is_named() {
        let pause = Pause { paused: true, until: Some(Err("soon".to_owned())), ..Pause::default() };
        assert!(!pause.is_over(UnixMillis(i64::MAX)) && pause.ends_at(NOW).is_none());
        let (field, message, _) = pause.problem().unwrap();
        assert_eq!(field, "metadata.annotations[autoscaling.keda.sh/paused-until]");
        assert_eq!(message, "\"soon\" is no time in RFC 3339 with a zone");
        let of_namespace = Pause { is_of_namespace: true, ..pause };
        assert!(of_namespace.problem().unwrap().0.ends_with("paused-until] of its Namespace"));
    }

    #[test]
    fn the_message_is_kedas_with_more_where_there_is_more() {
        let plain = Pause { paused: true, ..Pause::default() };
        assert_eq!(plain.message(), "ScaledObject is paused");
        let pause = Pause { reason: Some("INC-7".to_owned()), is_of_namespace: true, ..until(86_400_000, plain) };
        assert_eq!(pause.message(), "ScaledObject is paused by its Namespace until 1970-01-02T00:00:00Z: INC-7");
    }
}
