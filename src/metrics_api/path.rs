//! Paths into JSON: the part of GJSON's syntax that can lead to a number.
//!
//! Names and indices between dots, `*` and `?` in names, `#` for the length of a list or each of its
//! elements, `#(…)` and `#(…)#` for elements by a condition, `|`, and `\` before a character that is to
//! mean itself. What only builds other JSON (modifiers, multipaths, literals) is refused by name.

use std::cmp::Ordering;

use serde_json::Value;

/// Steps of a path and of the conditions in it: a stack frame each.
const STEPS_MAX: usize = 64;

/// Conditions within conditions.
const NESTED_MAX: usize = 8;

/// A path that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    kind: StepKind,
    /// Follows a `|`: applies to a list as such, not to its elements.
    is_piped: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum StepKind {
    Key(Vec<Glob>),
    /// `#`
    Each,
    /// `#(…)`
    First(Condition),
    /// `#(…)#`
    All(Condition),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Glob {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Any,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    path: Path,
    /// Without one the path must lead somewhere.
    test: Option<(Operator, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like(Vec<Glob>),
    Unlike(Vec<Glob>),
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    Nothing,
    Value(&'a Value),
    /// The length of a list.
    Count(usize),
    List(Vec<Found<'a>>),
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut left = STEPS_MAX;
        Self::parse_within(text, &mut left, 0)
    }

    fn parse_within(text: &str, left: &mut usize, depth: usize) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        let mut is_piped = false;
        loop {
            *left = left.checked_sub(1).ok_or_else(|| format!("has more than {STEPS_MAX} steps"))?;
            match rest.chars().next() {
                Some('@') => return Err("uses a modifier (@…), which is not supported".to_owned()),
                Some('!') => return Err("uses a literal (!…), which is not supported".to_owned()),
                Some('{' | '[') => return Err("makes new JSON ({…} or […]), which is not supported".to_owned()),
                Some('.') if steps.is_empty() => return Err("begins with a dot".to_owned()),
                None | Some('.' | '|') => return Err("has an empty step".to_owned()),
                _ => {}
            }
            let (kind, after) = step(rest, left, depth)?;
            steps.push(Step { kind, is_piped });
            match after.chars().next() {
                None => return Ok(Self { steps }),
                Some('.') => is_piped = false,
                Some('|') => is_piped = true,
                Some(other) => return Err(format!("has {other:?} where a dot must be")),
            }
            rest = &after[1..];
        }
    }

    /// Follows the path.
    #[must_use]
    pub fn find<'a>(&self, value: &'a Value) -> Found<'a> {
        follow(&self.steps, Found::Value(value))
    }
}

/// One step, and what follows it.
fn step<'t>(text: &'t str, left: &mut usize, depth: usize) -> Result<(StepKind, &'t str), String> {
    if let Some(after) = text.strip_prefix('#') {
        if let Some(inner) = after.strip_prefix('(') {
            let end = closing(inner).ok_or("has a '(' that is not closed")?;
            let condition = condition(&inner[..end], left, depth)?;
            let after = &inner[end + 1..];
            return Ok(match after.strip_prefix('#') {
                Some(after) => (StepKind::All(condition), after),
                None => (StepKind::First(condition), after),
            });
        }
        if after.is_empty() || after.starts_with(['.', '|']) {
            return Ok((StepKind::Each, after));
        }
    }
    let end = unescaped(text, |c| c == '.' || c == '|').unwrap_or(text.len());
    Ok((StepKind::Key(glob(&text[..end])), &text[end..]))
}

/// Byte offset of the first character that is not escaped and fits.
fn unescaped(text: &str, fits: impl Fn(char) -> bool) -> Option<usize> {
    let mut is_escaped = false;
    let found = text.char_indices().find(|(_, c)| {
        let was_escaped = is_escaped;
        is_escaped = *c == '\\' && !was_escaped;
        !was_escaped && fits(*c)
    });
    found.map(|(at, _)| at)
}

/// What stands outside strings and pairs of parentheses, unescaped; a `)` too many is handed out.
fn outside(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    text.char_indices().filter(move |(_, c)| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ => return depth == 0,
        }
        false
    })
}

/// Offset of the `)` that belongs to a `(` before the text.
fn closing(text: &str) -> Option<usize> {
    outside(text).find(|(_, c)| *c == ')').map(|(at, _)| at)
}

fn glob(text: &str) -> Vec<Glob> {
    let mut parts = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '\\' => Glob::Literal(chars.next().unwrap_or('\\')),
            '*' => Glob::Any,
            '?' => Glob::One,
            other => Glob::Literal(other),
        });
    }
    parts
}

fn condition(text: &str, left: &mut usize, depth: usize) -> Result<Condition, String> {
    if depth >= NESTED_MAX {
        return Err(format!("has conditions more than {NESTED_MAX} deep"));
    }
    let at = operator_at(text).unwrap_or(text.len());
    let (path, rest) = (text[..at].trim(), &text[at..]);
    let path = if path.is_empty() { Path { steps: Vec::new() } } else { Path::parse_within(path, left, depth + 1)? };
    let read = |prefixes: &[&str]| prefixes.iter().find_map(|prefix| rest.strip_prefix(prefix)).map(str::trim);
    let test = if rest.is_empty() {
        if path.steps.is_empty() {
            return Err("has an empty condition".to_owned());
        }
        None
    } else if let Some(value) = read(&["!%"]) {
        Some((Operator::Unlike(glob(&text_of(&operand(value)?)?)), Value::Null))
    } else if let Some(value) = read(&["%"]) {
        Some((Operator::Like(glob(&text_of(&operand(value)?)?)), Value::Null))
    } else {
        let (operator, value) = if let Some(value) = read(&["!="]) {
            (Operator::NotEqual, value)
        } else if let Some(value) = read(&["<="]) {
            (Operator::LessOrEqual, value)
        } else if let Some(value) = read(&[">="]) {
            (Operator::GreaterOrEqual, value)
        } else if let Some(value) = read(&["==", "="]) {
            (Operator::Equal, value)
        } else if let Some(value) = read(&["<"]) {
            (Operator::Less, value)
        } else if let Some(value) = read(&[">"]) {
            (Operator::Greater, value)
        } else {
            return Err(format!("has a condition with the unknown operator {rest:?}"));
        };
        Some((operator, operand(value)?))
    };
    Ok(Condition { path, test })
}

/// Where the operator of a condition begins.
fn operator_at(text: &str) -> Option<usize> {
    outside(text).find(|(_, c)| "=!<>%".contains(*c)).map(|(at, _)| at)
}

/// What a condition compares with: JSON, or else text without quotes.
fn operand(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Err("has a condition that compares with nothing".to_owned());
    }
    if text.starts_with('~') {
        return Err("uses '~' in a condition, which is not supported".to_owned());
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => Ok(value),
        Ok(_) => Err("has a condition that compares with a list or an object".to_owned()),
        Err(_) if text.starts_with('"') => Err(format!("has the broken string {text}")),
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err("has a '%' that does not compare with text".to_owned()),
    }
}

fn follow<'a>(steps: &[Step], found: Found<'a>) -> Found<'a> {
    let Some((step, rest)) = steps.split_first() else {
        return found;
    };
    // A list's elements go on by themselves up to the next pipe.
    let each = |elements: Vec<Found<'a>>| {
        let end = rest.iter().position(|step| step.is_piped).unwrap_or(rest.len());
        let on = elements.into_iter().map(|element| follow(&rest[..end], element));
        follow(&rest[end..], Found::List(on.filter(|found| *found != Found::Nothing).collect()))
    };
    match &step.kind {
        StepKind::Key(key) => match child(&found, key) {
            Found::Nothing => Found::Nothing,
            child => follow(rest, child),
        },
        StepKind::Each => match elements(found) {
            None => Found::Nothing,
            Some(elements) if rest.first().is_none_or(|next| next.is_piped) => {
                follow(rest, Found::Count(elements.len()))
            }
            Some(elements) => each(elements),
        },
        StepKind::First(condition) => {
            let first = elements(found).into_iter().flatten().find(|element| condition.holds(element));
            first.map_or(Found::Nothing, |element| follow(rest, element))
        }
        StepKind::All(condition) => match elements(found) {
            None => Found::Nothing,
            Some(elements) => each(elements.into_iter().filter(|element| condition.holds(element)).collect()),
        },
    }
}

fn elements(found: Found<'_>) -> Option<Vec<Found<'_>>> {
    match found {
        Found::Value(Value::Array(elements)) => Some(elements.iter().map(Found::Value).collect()),
        Found::List(elements) => Some(elements),
        _ => None,
    }
}

fn child<'a>(found: &Found<'a>, key: &[Glob]) -> Found<'a> {
    let literal: Option<String> =
        key.iter().map(|part| if let Glob::Literal(c) = part { Some(*c) } else { None }).collect();
    let index = || literal.as_deref().and_then(|text| text.parse::<usize>().ok());
    match found {
        Found::Value(Value::Object(members)) => match &literal {
            Some(key) => members.get(key),
            None => members.iter().find(|(name, _)| is_like(name, key)).map(|(_, value)| value),
        }
        .map_or(Found::Nothing, Found::Value),
        Found::Value(Value::Array(elements)) => {
            index().and_then(|at| elements.get(at)).map_or(Found::Nothing, Found::Value)
        }
        Found::List(elements) => index().and_then(|at| elements.get(at)).cloned().unwrap_or(Found::Nothing),
        Found::Value(_) | Found::Count(_) | Found::Nothing => Found::Nothing,
    }
}

/// In time of the product of the lengths at most: only the last `*` is ever given more.
fn is_like(text: &str, pattern: &[Glob]) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut part) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(part) {
            Some(Glob::Any) => {
                last_any = Some((part, at));
                part += 1;
            }
            Some(Glob::One) => (at, part) = (at + 1, part + 1),
            Some(Glob::Literal(c)) if *c == text[at] => (at, part) = (at + 1, part + 1),
            _ => {
                let Some((any, from)) = last_any else { return false };
                last_any = Some((any, from + 1));
                (at, part) = (from + 1, any + 1);
            }
        }
    }
    pattern[part..].iter().all(|part| *part == Glob::Any)
}

impl Condition {
    fn holds(&self, element: &Found<'_>) -> bool {
        let found = follow(&self.path.steps, element.clone());
        let Some((operator, operand)) = &self.test else {
            return found != Found::Nothing;
        };
        match (operator, &found) {
            (Operator::Like(pattern), Found::Value(Value::String(text))) => is_like(text, pattern),
            (Operator::Unlike(pattern), Found::Value(Value::String(text))) => !is_like(text, pattern),
            (Operator::Like(_) | Operator::Unlike(_), _) => false,
            (operator, found) => compare(found, operand).is_some_and(|order| match operator {
                Operator::Equal => order == Ordering::Equal,
                Operator::NotEqual => order != Ordering::Equal,
                Operator::Less => order == Ordering::Less,
                Operator::LessOrEqual => order != Ordering::Greater,
                Operator::Greater => order == Ordering::Greater,
                Operator::GreaterOrEqual => order != Ordering::Less,
                Operator::Like(_) | Operator::Unlike(_) => false,
            }),
        }
    }
}

/// `None` for values of different kinds, of which no condition holds.
fn compare(found: &Found<'_>, operand: &Value) -> Option<Ordering> {
    match (found, operand) {
        #[expect(clippy::cast_precision_loss, reason = "a body has fewer than 2^53 elements")]
        (Found::Count(count), Value::Number(number)) => (*count as f64).partial_cmp(&number.as_f64()?),
        (Found::Value(Value::Number(found)), Value::Number(number)) => found.as_f64()?.partial_cmp(&number.as_f64()?),
        (Found::Value(Value::String(found)), Value::String(text)) => Some(found.as_str().cmp(text)),
        (Found::Value(Value::Bool(found)), Value::Bool(flag)) => Some(found.cmp(flag)),
        (Found::Value(Value::Null), Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(path: &str) -> String {
        let value = json!({
            "name": {"first": "Tom", "last": "Anderson"},
            "age": 37,
            "children": ["Sara", "Alex", "Jack"],
            "fav.movie": "Deer Hunter",
            "0": "zero",
            "friends": [
                {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb", "tw"]},
                {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"]},
                {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]},
            ],
            "numbers": [3, 9, 27],
        });
        let path = Path::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        show(&path.find(&value))
    }

    fn show(found: &Found<'_>) -> String {
        match found {
            Found::Nothing => "nothing".to_owned(),
            Found::Value(value) => value.to_string(),
            Found::Count(count) => format!("count {count}"),
            Found::List(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(",")),
        }
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("name.last", "\"Anderson\""),
            ("age", "37"),
            ("children", "[\"Sara\",\"Alex\",\"Jack\"]"),
            ("children.#", "count 3"),
            ("children.1", "\"Alex\""),
            ("child*.2", "\"Jack\""),
            ("c?ildren.0", "\"Sara\""),
            ("fav\\.movie", "\"Deer Hunter\""),
            ("0", "\"zero\""),
            ("friends.#.first", "[\"Dale\",\"Roger\",\"Jane\"]"),
            ("friends.1.last", "\"Craig\""),
            ("friends.#(last==\"Murphy\").first", "\"Dale\""),
            ("friends.#(last=Craig).age", "68"),
            ("friends.#(last==\"Murphy\")#.first", "[\"Dale\",\"Jane\"]"),
            ("friends.#(last==\"Murphy\")#|#", "count 2"),
            ("friends.#(last==\"Murphy\")#|1.age", "47"),
            ("friends.#(age>45)#.last", "[\"Craig\",\"Murphy\"]"),
            ("friends.#(age>=47)#|#", "count 2"),
            ("friends.#(age<47)#|#", "count 1"),
            ("friends.#(age<=47)#|#", "count 2"),
            ("friends.#(age!=47)#|#", "count 2"),
            ("friends.#(first%\"D*\").last", "\"Murphy\""),
            ("friends.#(first!%\"D*\").last", "\"Craig\""),
            ("friends.#(nets.#(==\"fb\"))#.first", "[\"Dale\",\"Roger\"]"),
            ("friends.#(nets.#>2).first", "\"Dale\""),
            ("friends.#.nets.#", "[count 3,count 2,count 2]"),
            ("friends.#.nets|1|0", "\"fb\""),
            ("friends.#(age)#|#", "count 3"),
            ("numbers.#(>5)", "9"),
            ("numbers.#(>5)#|#", "count 2"),
            ("name|first", "\"Tom\""),
            ("friends.#(last==\")\").first", "nothing"),
            ("missing", "nothing"),
            ("age.deeper", "nothing"),
            ("age.#", "nothing"),
            ("children.9", "nothing"),
            ("children.first", "nothing"),
            ("friends.#(age>\"45\")#|#", "count 0"),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path() {
        for (path, expected) in [
            ("", "has an empty step"),
            ("a.", "has an empty step"),
            ("a..b", "has an empty step"),
            (".a", "begins with a dot"),
            ("..#", "begins with a dot"),
            ("a|@reverse", "uses a modifier (@…), which is not supported"),
            ("{a,b}", "makes new JSON ({…} or […]), which is not supported"),
            ("a.[b]", "makes new JSON ({…} or […]), which is not supported"),
            ("!\"x\"", "uses a literal (!…), which is not supported"),
            ("a.#(b", "has a '(' that is not closed"),
            ("a.#()", "has an empty condition"),
            ("a.#(b==)", "has a condition that compares with nothing"),
            ("a.#(b==~true)", "uses '~' in a condition, which is not supported"),
            ("a.#(b==\"x)", "has a '(' that is not closed"),
            ("a.#(b==[1])", "has a condition that compares with a list or an object"),
            ("a.#(b%5)", "has a '%' that does not compare with text"),
            ("a.#(b!5)", "has a condition with the unknown operator \"!5\""),
            ("a.#(b==1)c", "has 'c' where a dot must be"),
        ] {
            assert_eq!(Path::parse(path).unwrap_err(), expected, "{path}");
        }
        assert_eq!(Path::parse(&"a.".repeat(100)).unwrap_err(), "has more than 64 steps");
        let deep = format!("{}a{}", "#(".repeat(20), ")".repeat(20));
        assert_eq!(Path::parse(&deep).unwrap_err(), "has conditions more than 8 deep");
    }

    #[test]
    fn patterns() {
        for (text, pattern, expected) in [
            ("abc", "a*c", true),
            ("abc", "*", true),
            ("abc", "a?c", true),
            ("abc", "a?", false),
            ("abcbc", "a*bc", true),
            ("abcbd", "a*bc", false),
            ("a*c", "a\\*c", true),
            ("abc", "a\\*c", false),
            ("", "*", true),
            ("", "?", false),
        ] {
            assert_eq!(is_like(text, &glob(pattern)), expected, "{text} {pattern}");
        }
    }
}
