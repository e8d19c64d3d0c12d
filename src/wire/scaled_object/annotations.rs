//! The annotations of a ScaledObject that control scaling. They take effect even if the spec is invalid.

use litemap::LiteMap;

use super::super::fields::{Diagnostics, quoted};
use super::super::time::parse_rfc3339;
use crate::encode::cut;
use crate::scaling::model::Pause;

pub(crate) const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
pub(crate) const PAUSED: &str = "autoscaling.keda.sh/paused";
pub(crate) const PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
pub(crate) const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
pub(crate) const PAUSED_UNTIL: &str = "autoscaling.keda.sh/paused-until";
pub(crate) const PAUSED_REASON: &str = "hpalite.dev/paused-reason";
/// Bytes that are kept of a text that somebody wrote.
const TEXT_MAX: usize = 256;
const FORCE_ACTIVATION: &str = "autoscaling.keda.sh/force-activation";
const TRANSFER_HPA_OWNERSHIP: &str = "scaledobject.keda.sh/transfer-hpa-ownership";
const MODE: &str = "hpalite.dev/mode";
const EXCLUDED_LABELS: &str = "scaledobject.keda.sh/hpa-excluded-labels";

pub(super) struct Annotations {
    pub(super) pause: Pause,
    pub(super) force_activation: bool,
    pub(super) is_shadow: bool,
    pub(super) transfer_hpa_ownership: bool,
}

pub(super) fn read(annotations: &LiteMap<String, String>, report: &mut Diagnostics) -> Annotations {
    let pause = pause(annotations, report);
    let force_activation = flag(annotations, FORCE_ACTIVATION, report);
    if pause.replicas.is_some() && annotations.contains_key(PAUSED) {
        report.warn(
            format!("metadata.annotations[{PAUSED}]"),
            "has no effect beside paused-replicas",
            "remove one of the two",
        );
    }
    let mode = annotations.get(MODE).map(String::as_str);
    if !matches!(mode, None | Some("shadow")) {
        // A misspelt mode must not act where it was not to.
        report.warn(format!("metadata.annotations[{MODE}]"), "counts as \"shadow\"", "write \"shadow\", or remove it");
    }
    Annotations {
        pause,
        is_shadow: mode.is_some(),
        force_activation,
        transfer_hpa_ownership: annotations.get(TRANSFER_HPA_OWNERSHIP).is_some_and(|text| text == "true"),
    }
}

/// Reads the pause annotations of a ScaledObject or of a Namespace.
pub(crate) fn pause(annotations: &LiteMap<String, String>, report: &mut Diagnostics) -> Pause {
    let mut pause = Pause {
        replicas: annotations.get(PAUSED_REPLICAS).map(|text| replicas(text)),
        paused: flag(annotations, PAUSED, report),
        is_declined: annotations.get(PAUSED).is_some_and(|text| boolean(text) == Some(false)),
        scale_in: flag(annotations, PAUSED_SCALE_IN, report),
        scale_out: flag(annotations, PAUSED_SCALE_OUT, report),
        until: annotations
            .get(PAUSED_UNTIL)
            .map(|text| parse_rfc3339(text).ok_or_else(|| cut(text, TEXT_MAX).to_owned())),
        reason: annotations.get(PAUSED_REASON).map(|text| cut(text, TEXT_MAX).to_owned()),
        is_of_namespace: false,
    };
    // An end alone pauses until then.
    pause.paused |= pause.until.is_some() && !pause.is_any() && !pause.is_declined;
    pause
}

fn flag(annotations: &LiteMap<String, String>, name: &str, report: &mut Diagnostics) -> bool {
    let Some(text) = annotations.get(name) else {
        return false;
    };
    boolean(text).unwrap_or_else(|| {
        report.warn(
            format!("metadata.annotations[{name}]"),
            format!("{} is no boolean and counts as true", quoted(text)),
            "write \"true\" or \"false\"",
        );
        true
    })
}

/// Returns label keys that are not copied to the HPA. As in KEDA, blanks count.
pub(super) fn excluded_labels(annotations: &LiteMap<String, String>) -> Vec<String> {
    annotations
        .get(EXCLUDED_LABELS)
        .map(|text| text.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Reads a boolean as Go does.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a count that the API allows; an error is the text itself.
fn replicas(text: &str) -> Result<u32, String> {
    text.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok()).ok_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(name: &str, text: &str) -> (Annotations, Diagnostics) {
        let mut report = Diagnostics::default();
        let annotations = LiteMap::from_iter([(name.to_owned(), text.to_owned())]);
        (read(&annotations, &mut report), report)
    }

    #[test]
    fn booleans_and_junk() {
        for (text, value, warned) in [
            ("true", true, false),
            ("1", true, false),
            ("T", true, false),
            ("false", false, false),
            ("0", false, false),
            ("F", false, false),
            ("", true, true),
            ("no", true, true),
            ("tRUE", true, true),
            (" false", true, true),
        ] {
            for name in [PAUSED, PAUSED_SCALE_IN, PAUSED_SCALE_OUT, FORCE_ACTIVATION] {
                let (annotations, report) = read_one(name, text);
                let read = match name {
                    PAUSED => annotations.pause.paused,
                    PAUSED_SCALE_IN => annotations.pause.scale_in,
                    PAUSED_SCALE_OUT => annotations.pause.scale_out,
                    _ => annotations.force_activation,
                };
                assert_eq!((read, !report.warnings.is_empty()), (value, warned), "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn paused_replicas() {
        for (text, count) in [("0", Some(0)), ("3", Some(3)), ("+3", Some(3)), ("2147483647", Some(2_147_483_647))] {
            assert_eq!(read_one(PAUSED_REPLICAS, text).0.pause.replicas.map(Result::ok), Some(count), "{text}");
        }
        for text in ["", "-1", "x", "1.5", "2147483648"] {
            assert_eq!(read_one(PAUSED_REPLICAS, text).0.pause.replicas, Some(Err(text.to_owned())), "{text}");
        }
        assert_eq!(read_one("other", "3").0.pause, Pause::default());
    }

    #[test]
    fn an_end_holds_for_what_is_beside_it_or_pauses_alone() {
        let read = |annotations: &[(&str, &str)]| {
            let annotations = annotations.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            pause(&annotations, &mut Diagnostics::default())
        };
        let until = (PAUSED_UNTIL, "2027-01-31T06:00:00+01:00");
        let alone = read(&[until]);
        assert!(
            alone.paused && alone.until == Some(Ok(crate::scaling::model::UnixMillis(1_801_371_600_000))),
            "{alone:?}"
        );
        let beside = read(&[until, (PAUSED_SCALE_IN, "true"), (PAUSED_REASON, "INC-7")]);
        assert!(!beside.is_full() && beside.scale_in && beside.reason.as_deref() == Some("INC-7"), "{beside:?}");
        assert!(!read(&[until, (PAUSED, "false")]).is_any());
        for text in ["", "soon", "2027-01-31", "2027-01-31T06:00:00", "1h"] {
            let bad = read(&[(PAUSED_UNTIL, text)]);
            assert!(bad.paused && bad.until == Some(Err(text.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn excluded_label_keys_are_not_trimmed() {
        let annotations = LiteMap::from_iter([(EXCLUDED_LABELS.to_owned(), "a,b/c, d,".to_owned())]);
        assert_eq!(excluded_labels(&annotations), ["a", "b/c", " d"]);
    }
}
