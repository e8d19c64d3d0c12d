//! The daemon's own metrics in Prometheus' text format. Families are written from snapshots at scrape time; there is no
//! registry.

use std::fmt::Write as _;

/// A text exposition under construction.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// Content type of [`Exposition::finish`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Exposition {
    /// Begins a family, whose samples follow.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: &mut self.text, name: name.to_owned() }
    }

    /// Writes a counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help).sample(&[], value);
    }

    /// Writes a gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help).sample(&[], value);
    }

    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

/// One metric family.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.line("", labels, value);
    }

    /// Writes a sample of a histogram's part, whose suffix is `_bucket`, `_sum` or `_count`.
    pub fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (n, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"{}\"", if n == 0 { '{' } else { ',' }, escape(value));
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Returns the length of a label's value as it is written.
#[must_use]
pub fn escaped_len(value: &str) -> usize {
    value.len() + value.bytes().filter(|byte| matches!(byte, b'\\' | b'"' | b'\n')).count()
}

/// Returns the resident memory of this process in bytes, from `/proc`; 0 if that is unavailable.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut out = Exposition::default();
        out.counter("hpalite_a_total", "A.", 3);
        let mut family = out.family("hpalite_b", "gauge", "B.");
        family.sample(&[("x", "a\"b\\c\nd"), ("y", "z")], 1.5);
        assert_eq!(
            out.finish(),
            "# HELP hpalite_a_total A.\n# TYPE hpalite_a_total counter\nhpalite_a_total 3\n\
             # HELP hpalite_b B.\n# TYPE hpalite_b gauge\nhpalite_b{x=\"a\\\"b\\\\c\\nd\",y=\"z\"} 1.5\n"
        );
    }

    #[test]
    fn what_is_escaped_is_longer() {
        for value in ["", "a", "ü", "a\"b\\c\nd"] {
            assert_eq!(escaped_len(value), escape(value).len(), "{value:?}");
        }
    }

    #[test]
    fn resident_memory_is_known_here() {
        assert!(resident_bytes() > 100_000);
    }
}
