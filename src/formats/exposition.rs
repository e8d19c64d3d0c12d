//! Finds one sample in Prometheus' text format.

/// Upper bound on the labels of a selector, since each is searched for among all labels of a sample.
const LABELS_MAX: usize = 64;

/// Name and labels of a sample, as in `http_requests{code="200"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    name: String,
    labels: Vec<(String, String)>,
}

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (mut name, rest) = name(text);
        let mut labels = Vec::new();
        if !rest.is_empty() {
            let after = read_labels(rest, |operator, label, value| match operator {
                "=" => {
                    labels.push((label.to_owned(), value));
                    Ok(())
                }
                _ => Err(format!("compares label {label} with {operator}; only = is supported")),
            })?;
            if !after.trim().is_empty() {
                return Err(format!("has {:?} after its labels", after.trim()));
            }
        }
        if labels.len() > LABELS_MAX {
            return Err(format!("names more than {LABELS_MAX} labels"));
        }
        let named = labels.iter().position(|(label, _)| label == "__name__").map(|at| labels.remove(at).1);
        if let Some(named) = &named {
            if !name.is_empty() {
                return Err("names its metric twice".to_owned());
            }
            name = named;
        }
        if name.is_empty() {
            return Err("names no metric".to_owned());
        }
        Ok(Self { name: name.to_owned(), labels })
    }

    /// Returns the value of the first sample with this name and these labels; it may have others.
    ///
    /// # Errors
    /// If there is none, or its line is malformed.
    pub fn find(&self, body: &str) -> Result<f64, &'static str> {
        for line in body.lines() {
            let (name, rest) = name(line.trim_start());
            if name != self.name {
                continue;
            }
            // Only the wanted labels are kept, in their order, since a sample may have very many others.
            let mut found: Vec<Option<String>> = vec![None; self.labels.len()];
            let rest = if rest.starts_with('{') {
                read_labels(rest, |_, label, value| {
                    let wanted = self.labels.iter().position(|(wanted, _)| wanted == label);
                    if let Some(place) = wanted.and_then(|at| found.get_mut(at)) {
                        place.get_or_insert(value);
                    }
                    Ok(())
                })
                .map_err(|_| "the line of this metric is not in Prometheus' text format")?
            } else {
                rest
            };
            // A missing label equals an empty one.
            let fits =
                |((_, wanted), found): (&(String, String), &Option<String>)| found.as_deref().unwrap_or("") == wanted;
            if self.labels.iter().zip(&found).all(fits) {
                let value = rest.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
                return value.ok_or("the line of this metric is not in Prometheus' text format");
            }
        }
        Err("it has no such metric")
    }
}

/// Splits off the metric's name at the beginning of the text; the rest has no leading blanks.
fn name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Parses `{a="b",c="d",}`: calls `each` with operator, name and value, and returns the text after it.
fn read_labels(text: &str, mut each: impl FnMut(&str, &str, String) -> Result<(), String>) -> Result<&str, String> {
    let mut rest = text.strip_prefix('{').ok_or_else(|| format!("has {text:?} after its name"))?.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (label, after) = name(rest);
        if label.is_empty() {
            return Err("has a label without a name".to_owned());
        }
        let operator = ["=~", "!=", "!~", "="].into_iter().find(|operator| after.starts_with(operator));
        let operator = operator.ok_or_else(|| format!("has no = after label {label}"))?;
        let after = after[operator.len()..].trim_start();
        let quoted = after.strip_prefix('"').ok_or_else(|| format!("has no quoted value for label {label}"))?;
        let (value, after) = unquote(quoted).ok_or_else(|| format!("does not end the value of label {label}"))?;
        each(operator, label, value)?;
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return Err(format!("has no , or }} after label {label}")),
        }
    }
}

/// Returns the text up to the closing quote, and the rest after it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "# HELP requests So many\n# TYPE requests counter\nrequests{code=\"200\",path=\"/a\\\"b\"} 12 1700000000\n\
        requests{ code = \"500\" , } 3\nrequests_total 9\n  queue\t7.5\nodd NaN\nbroken{a=\"b\" 1\nlatency_sum 1e3\nempty\n";

    #[test]
    fn samples() {
        for (selector, expected) in [
            ("queue", Ok(7.5)),
            ("requests", Ok(12.0)),
            ("requests{code=\"500\"}", Ok(3.0)),
            (" requests { code = \"200\" , path=\"/a\\\"b\" } ", Ok(12.0)),
            ("requests{path=\"\"}", Ok(3.0)),
            ("{__name__=\"requests_total\"}", Ok(9.0)),
            ("latency_sum", Ok(1000.0)),
            ("requests{code=\"404\"}", Err("it has no such metric")),
            ("HELP", Err("it has no such metric")),
            ("broken", Err("the line of this metric is not in Prometheus' text format")),
            ("empty", Err("the line of this metric is not in Prometheus' text format")),
        ] {
            let found = Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}")).find(BODY);
            assert_eq!(found, expected, "{selector}");
        }
        assert!(Selector::parse("odd").unwrap().find(BODY).unwrap().is_nan());
    }

    #[test]
    fn invalid_selectors_are_refused() {
        for (text, expected) in [
            ("", "names no metric"),
            ("{}", "names no metric"),
            ("{a=\"b\"}", "names no metric"),
            ("a{__name__=\"b\"}", "names its metric twice"),
            ("a{b=~\"c\"}", "compares label b with =~; only = is supported"),
            ("a{b!=\"c\"}", "compares label b with !=; only = is supported"),
            ("a{b}", "has no = after label b"),
            ("a{b=c}", "has no quoted value for label b"),
            ("a{b=\"c}", "does not end the value of label b"),
            ("a{b=\"c\" d=\"e\"}", "has no , or } after label b"),
            ("a{=\"c\"}", "has a label without a name"),
            ("a[5m]", "has \"[5m]\" after its name"),
            ("a{b=\"c\"}[5m]", "has \"[5m]\" after its labels"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err(), expected, "{text}");
        }
    }
}
