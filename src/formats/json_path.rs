//! JSONPath: the part of it that leads to numbers.
//!
//! Supports `$`, names after a dot or in brackets with quotes, indices, from the end if negative, and `*`. Filters, slices,
//! unions, recursion and functions are refused by name.

use super::json::Raw;

/// Upper bound on the bytes of a path.
pub const BYTES_MAX: usize = 1_024;

/// Values that a path may lead to, and that are kept on the way.
const FOUND_MAX: usize = 10_000;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Name(String),
    Index(i64),
    /// All elements of a list, or values of an object.
    All,
}

/// The path leads to more values than any realistic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl JsonPath {
    /// Parses a path.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("is longer than {BYTES_MAX} bytes"));
        }
        let mut rest = text.trim().strip_prefix('$').ok_or("does not begin with $")?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest)?;
            steps.push(step);
            rest = after;
        }
        Ok(Self { steps })
    }

    /// Returns the values that the path leads to, in their order.
    ///
    /// # Errors
    /// If there are too many.
    pub fn find<'a>(&self, root: Raw<'a>) -> Result<Vec<Raw<'a>>, TooMany> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next)?;
            }
            found = next;
        }
        Ok(found)
    }
}

impl Step {
    fn follow<'a>(&self, value: Raw<'a>, found: &mut Vec<Raw<'a>>) -> Result<(), TooMany> {
        match self {
            Self::Name(name) => {
                let mut members = value.members().into_iter().flatten();
                while let (Some(key), Some(value)) = (members.next(), members.next()) {
                    if key.text().is_some_and(|key| key == name.as_str()) {
                        found.push(value);
                        break;
                    }
                }
            }
            Self::Index(at) => {
                let Some(mut elements) = value.elements() else { return Ok(()) };
                let from_end = |count: usize| count.checked_sub(usize::try_from(at.unsigned_abs()).ok()?);
                let at = if *at < 0 { from_end(elements.clone().count()) } else { usize::try_from(*at).ok() };
                found.extend(at.and_then(|at| elements.nth(at)));
            }
            Self::All => {
                let elements = value.elements().into_iter().flatten();
                let values = value.members().into_iter().flatten().skip(1).step_by(2);
                found.extend(elements.chain(values).take(FOUND_MAX + 1));
            }
        }
        if found.len() > FOUND_MAX { Err(TooMany) } else { Ok(()) }
    }
}

/// Reads one step; returns it with what follows.
fn step(text: &str) -> Result<(Step, &str), String> {
    if text.starts_with("..") {
        return Err("searches all levels (..), which is not supported: write each name".to_owned());
    }
    if let Some(rest) = text.strip_prefix('.') {
        let until = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(until);
        return match name.trim() {
            "" => Err("has an empty name".to_owned()),
            "*" => Ok((Step::All, after)),
            name if name.contains(['(', ')', '?', '@']) => {
                Err("uses a function or a filter, which is not supported".to_owned())
            }
            name => Ok((Step::Name(name.to_owned()), after)),
        };
    }
    let Some(rest) = text.strip_prefix('[') else {
        return Err(format!("has {:?} where a dot or a bracket must be", text.chars().next().unwrap_or(' ')));
    };
    let rest = rest.trim_start();
    if let Some(quote) = rest.chars().next().filter(|first| matches!(first, '\'' | '"')) {
        let inner = &rest[1..];
        let end = inner.find(quote).ok_or("has a name without its closing quote")?;
        let (name, after) = (&inner[..end], inner[end + 1..].trim_start());
        if name.contains('\\') {
            return Err("has an escape in a name, which is not supported".to_owned());
        }
        let after = after.strip_prefix(']').ok_or("has more than one name in brackets, which is not supported")?;
        return Ok((Step::Name(name.to_owned()), after));
    }
    let (inner, after) = rest.split_once(']').ok_or("has a bracket that is not closed")?;
    let inner = inner.trim();
    if inner == "*" {
        return Ok((Step::All, after));
    }
    let index = inner.parse().map_err(
        |_| "has a filter, a slice or a union in brackets, which is not supported: write a quoted name, an index or *",
    )?;
    Ok((Step::Index(index), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str, body: &str) -> Vec<String> {
        let path = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path} {error}"));
        let root = Raw::parse(body.as_bytes()).unwrap();
        path.find(root).unwrap().into_iter().map(|value| value.show().to_owned()).collect()
    }

    #[test]
    fn paths_lead_to_values() {
        let body = r#"{"a": {"b c": [1, {"d": 2}, [3, 4]], "e": null}, "f": {"x": 5, "y": 6}, "a.b": 7}"#;
        for (path, expected) in [
            ("$.a['b c'][0]", vec!["1"]),
            (r#"$.a["b c"][1].d"#, vec!["2"]),
            ("$.a['b c'][-1][*]", vec!["3", "4"]),
            ("$.f.*", vec!["5", "6"]),
            ("$['a.b']", vec!["7"]),
            ("$.a.e", vec!["null"]),
            ("$.a['b c'][-4]", vec![]),
            ("$.a['b c'][9]", vec![]),
            ("$.nothing.there", vec![]),
            ("$.f[0]", vec![]),
            ("$.a['b c'].d", vec![]),
        ] {
            assert_eq!(find(path, body), expected, "{path}");
        }
        assert_eq!(find("$", "5"), ["5"]);
        assert_eq!(find(" $.x ", r#"{"x":1,"x":2}"#), ["1"]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (path, words) in [
            ("a.b", "does not begin with $"),
            ("$..a", "all levels"),
            ("$.a[?(@.b > 1)]", "filter, a slice or a union"),
            ("$.a[0:2]", "slice"),
            ("$.a['b','c']", "more than one name"),
            ("$.a.length()", "function"),
            ("$.a.", "empty name"),
            ("$a", "where a dot or a bracket must be"),
            ("$['a", "closing quote"),
            ("$[0", "not closed"),
            (r"$['a\'b']", "escape"),
        ] {
            let refused = JsonPath::parse(path).unwrap_err();
            assert!(refused.contains(words), "{path}: {refused}");
        }
        assert!(JsonPath::parse(&format!("$.{}", "a".repeat(BYTES_MAX))).is_err());
    }

    #[test]
    fn what_is_found_is_bounded() {
        let many = format!("[{}0]", "0,".repeat(FOUND_MAX));
        let root = Raw::parse(many.as_bytes()).unwrap();
        assert_eq!(JsonPath::parse("$[*]").unwrap().find(root), Err(TooMany));
        // Each step multiplies, and is bounded for itself.
        let nested = format!("[{}[]]", format!("[{}0],", "0,".repeat(199)).repeat(199));
        let root = Raw::parse(nested.as_bytes()).unwrap();
        assert_eq!(JsonPath::parse("$[*][*]").unwrap().find(root), Err(TooMany));
    }
}
