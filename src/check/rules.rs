//! The CEL rules and the patterns of the CRDs, looked up by their text: there are few, and an interpreter of either
//! language would be larger than the rest of `check`. A test fails if a CRD has one that is missing here.

use serde_json::Value;

use crate::wire::time::parse_go_duration;

/// A CRD's rule with normalised whitespace, and whether a value of the right types satisfies it.
type Rule = (&'static str, fn(&Value) -> bool);

const TYPES_WITH_A_TARGET: [&str; 4] = ["prometheus", "metrics-api", "kubernetes-workload", "cron"];

const RULES: &[Rule] = &[
    (
        "!has(self.minReplicaCount) || self.minReplicaCount <= (has(self.maxReplicaCount) ? self.maxReplicaCount : 100)",
        |spec| number(spec, "minReplicaCount").is_none_or(|min| min <= number(spec, "maxReplicaCount").unwrap_or(100)),
    ),
    (
        "!has(self.idleReplicaCount) || (has(self.minReplicaCount) && self.idleReplicaCount < \
         (self.minReplicaCount > 0 ? self.minReplicaCount : 1))",
        |spec| {
            let min = number(spec, "minReplicaCount");
            number(spec, "idleReplicaCount").is_none_or(|idle| min.is_some_and(|min| idle < min.max(1)))
        },
    ),
    (
        "(has(self.advanced) && has(self.advanced.scalingModifiers) && has(self.advanced.scalingModifiers.formula) && \
         self.advanced.scalingModifiers.formula != '') || self.triggers.all(t, !has(t.metricType) || \
         !(t.type in ['prometheus', 'metrics-api', 'kubernetes-workload', 'cron']) || t.metricType in \
         ['', 'AverageValue', 'Value', 'Utilization'])",
        |spec| {
            has_formula(spec)
                || triggers(spec).all(|trigger| {
                    !is_of(trigger, &TYPES_WITH_A_TARGET)
                        || text(trigger, "metricType")
                            .is_none_or(|kind| ["", "AverageValue", "Value", "Utilization"].contains(&kind))
                })
        },
    ),
    (
        "(has(self.advanced) && has(self.advanced.scalingModifiers) && has(self.advanced.scalingModifiers.formula) && \
         self.advanced.scalingModifiers.formula != '') || self.triggers.all(t, t.type != 'prometheus' || \
         ('threshold' in t.metadata && t.metadata['threshold'].trim() != ''))",
        |spec| {
            has_formula(spec)
                || triggers(spec).all(|trigger| !is_of(trigger, &["prometheus"]) || is_filled(trigger, "threshold"))
        },
    ),
    ("!has(self.formula) || self.formula == '' || (has(self.target) && self.target != '')", |modifiers| {
        text(modifiers, "formula").is_none_or(str::is_empty)
            || text(modifiers, "target").is_some_and(|target| !target.is_empty())
    }),
    ("self.all(t, !has(t.name) || t.name == '' || self.exists_one(u, has(u.name) && u.name == t.name))", |triggers| {
        let names = || triggers.as_array().into_iter().flatten().filter_map(|trigger| text(trigger, "name"));
        names().all(|name| name.is_empty() || names().filter(|other| *other == name).count() == 1)
    }),
    ("self.type != 'prometheus' || ('query' in self.metadata && self.metadata['query'].trim() != '')", |trigger| {
        !is_of(trigger, &["prometheus"]) || is_filled(trigger, "query")
    }),
    (
        "self.type != 'prometheus' || !('threshold' in self.metadata) || \
         self.metadata['threshold'].trim().matches(r'^(-?(0|[1-9]\\d*)(\\.\\d+)?([eE][-+]?\\d+)?)?$')",
        |trigger| !is_of(trigger, &["prometheus"]) || is_number(trigger, "threshold"),
    ),
    (
        "self.type != 'prometheus' || !('activationThreshold' in self.metadata) || \
         self.metadata['activationThreshold'].trim().matches(r'^(-?(0|[1-9]\\d*)(\\.\\d+)?([eE][-+]?\\d+)?)?$')",
        |trigger| !is_of(trigger, &["prometheus"]) || is_number(trigger, "activationThreshold"),
    ),
    (
        "!(self.type in ['prometheus', 'metrics-api', 'kubernetes-workload', 'cron']) || !has(self.metricType) || \
         self.metricType != 'Utilization'",
        |trigger| !is_of(trigger, &TYPES_WITH_A_TARGET) || text(trigger, "metricType") != Some("Utilization"),
    ),
    (
        "!(self.type in ['cpu', 'memory']) || (has(self.metricType) && self.metricType in ['Utilization', 'AverageValue'])",
        |trigger| {
            !is_of(trigger, &["cpu", "memory"])
                || matches!(text(trigger, "metricType"), Some("Utilization" | "AverageValue"))
        },
    ),
    (
        "!(self.type in ['cpu', 'memory']) || !('type' in self.metadata) || self.metadata['type'].trim() == ''",
        |trigger| !is_of(trigger, &["cpu", "memory"]) || !is_filled(trigger, "type"),
    ),
    (
        "!(self.type in ['cpu', 'memory']) || ('value' in self.metadata && self.metadata['value'].trim() != '')",
        |trigger| !is_of(trigger, &["cpu", "memory"]) || is_filled(trigger, "value"),
    ),
    (
        "self.type != 'cron' || ['timezone', 'start', 'end', 'desiredReplicas'].all(key, key in self.metadata && \
         self.metadata[key].trim() != '')",
        |trigger| {
            let names = ["timezone", "start", "end", "desiredReplicas"];
            !is_of(trigger, &["cron"]) || names.iter().all(|name| is_filled(trigger, name))
        },
    ),
    (
        "self.type != 'cron' || !('start' in self.metadata) || !('end' in self.metadata) || \
         self.metadata['start'].trim() != self.metadata['end'].trim()",
        |trigger| {
            let (start, end) = (parameter(trigger, "start"), parameter(trigger, "end"));
            !is_of(trigger, &["cron"]) || start.is_none() || end.is_none() || start != end
        },
    ),
    ("!(self.type in ['cpu', 'memory', 'cron']) || !has(self.useCachedMetrics) || !self.useCachedMetrics", |trigger| {
        !is_of(trigger, &["cpu", "memory", "cron"]) || trigger.get("useCachedMetrics") != Some(&true.into())
    }),
    (
        "!(self.type in ['prometheus', 'metrics-api']) || !('timeout' in self.metadata) || \
         (self.metadata['timeout'].matches('^[0-9]{1,9}$') ? int(self.metadata['timeout']) <= 30000 : \
         !self.metadata['timeout'].matches('^([0-9.]+(ns|us|ms|s|m|h))+$') || \
         duration(self.metadata['timeout']) <= duration('30s'))",
        |trigger| {
            let timeout = trigger.get("metadata").and_then(|metadata| text(metadata, "timeout"));
            !is_of(trigger, &["prometheus", "metrics-api"]) || timeout.is_none_or(is_short_timeout)
        },
    ),
    ("has(self.scaleTargetRef) != has(self.jobTargetRef)", |spec| {
        spec.get("scaleTargetRef").is_some() != spec.get("jobTargetRef").is_some()
    }),
];

/// The pattern of a quantity, as in Kubernetes' own types.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Normalises whitespace to one blank between words.
pub(super) fn normal(rule: &str) -> String {
    rule.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns whether `value`, which has the types of its schema, satisfies the rule. Unknown rules count as satisfied:
/// the API server decides.
pub(super) fn holds(rule: &str, value: &Value) -> bool {
    let rule = normal(rule);
    RULES.iter().find(|(known, _)| *known == rule).is_none_or(|(_, holds)| holds(value))
}

/// Returns whether `text` matches; unknown patterns count as matched.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    pattern != QUANTITY || is_quantity(text)
}

fn is_quantity(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let Some(suffix) = after_decimal(text) else {
        return false;
    };
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        // A bare E is the suffix for exa.
        return suffix == "E" || suffix == "Ei" || after_decimal(exponent) == Some("");
    }
    matches!(suffix, "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi")
}

/// Returns what follows `1`, `1.`, `1.5` or `.5`; `None` without such a number.
fn after_decimal(text: &str) -> Option<&str> {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let whole = digits(text);
    let rest = &text[whole..];
    let Some(fraction) = rest.strip_prefix('.') else {
        return (whole > 0).then_some(rest);
    };
    let decimals = digits(fraction);
    (whole + decimals > 0).then_some(&fraction[decimals..])
}

fn number(value: &Value, name: &str) -> Option<i64> {
    value.get(name).and_then(Value::as_i64)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn triggers(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.get("triggers").and_then(Value::as_array).into_iter().flatten()
}

fn has_formula(spec: &Value) -> bool {
    let formula = spec.pointer("/advanced/scalingModifiers/formula").and_then(Value::as_str);
    formula.is_some_and(|formula| !formula.is_empty())
}

fn is_of(trigger: &Value, kinds: &[&str]) -> bool {
    text(trigger, "type").is_some_and(|kind| kinds.contains(&kind))
}

/// Returns a trigger's parameter without surrounding blanks.
fn parameter<'a>(trigger: &'a Value, name: &str) -> Option<&'a str> {
    trigger.get("metadata").and_then(|metadata| text(metadata, name)).map(str::trim)
}

fn is_filled(trigger: &Value, name: &str) -> bool {
    parameter(trigger, name).is_some_and(|text| !text.is_empty())
}

/// Returns whether a timeout in milliseconds or as a duration is at most 30 seconds; other texts are checked elsewhere.
fn is_short_timeout(text: &str) -> bool {
    if (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|milliseconds| milliseconds <= 30_000);
    }
    // A text that looks like a duration but is invalid makes the API server's CEL fail, which refuses the object.
    !looks_like_duration(text) || parse_go_duration(text).is_some_and(|nanos| nanos <= 30_000_000_000)
}

fn looks_like_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let found = ["ns", "us", "ms", "s", "m", "h"].iter().find_map(|name| unit.strip_prefix(name));
        match found {
            Some(next) if unit.len() < rest.len() => rest = next,
            _ => return false,
        }
    }
    !text.is_empty()
}

/// Returns whether a parameter is absent, empty, or a number in JSON's notation.
fn is_number(trigger: &Value, name: &str) -> bool {
    parameter(trigger, name).is_none_or(|text| text.is_empty() || is_json_number(text))
}

/// Checks the notation without parsing, because the magnitude does not matter.
fn is_json_number(text: &str) -> bool {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let text = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with('0')) {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let decimals = digits(fraction);
        if decimals == 0 {
            return false;
        }
        rest = &fraction[decimals..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

/// Compares both ways: every rule in the CRDs is known here, and every rule here is in the CRDs.
#[cfg(test)]
pub(super) fn assert_known(rules: &std::collections::BTreeSet<String>, patterns: &std::collections::BTreeSet<&str>) {
    let known: std::collections::BTreeSet<String> = RULES.iter().map(|(rule, _)| normal(rule)).collect();
    assert_eq!(rules, &known, "the rules of the CRDs, and those that check knows");
    assert_eq!(patterns.iter().copied().collect::<Vec<_>>(), [QUANTITY]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_form_that_the_pattern_wants() {
        for text in ["1", "1.", "1.5", ".5", "+1", "-0.1", "100m", "1Ki", "1Ei", "1E", "1e3", "1E-3", "1e.5", "5k"] {
            assert!(matches(QUANTITY, text), "{text}");
        }
        for text in ["", ".", "+", "1K", "1mi", "1 ", "e3", "1e", "1e+", "ten", "1ee3", "--1", "0x1", "1Eii"] {
            assert!(!matches(QUANTITY, text), "{text}");
        }
    }

    #[test]
    fn numbers_have_the_form_of_json() {
        for text in ["0", "75", "-1", "0.5", "1e3", "1E+30000", "-0.0"] {
            assert!(is_json_number(text), "{text}");
        }
        for text in ["", "-", "05", "5.", ".5", "+5", "1e", "1e+", "0x1", "5m", "1 2", "NaN"] {
            assert!(!is_json_number(text), "{text}");
        }
    }
}
