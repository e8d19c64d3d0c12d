//! Paths into JSON: the part of GJSON's syntax that can lead to a number.
//!
//! Supports names and indices between dots, `*` and `?` in names, `#` for the length of a list or each of its elements,
//! `#(…)` and `#(…)#` for elements by a condition, `|`, and `\` to escape a character. What only builds other JSON
//! (modifiers, multipaths, literals) is refused by name.

use std::cmp::Ordering;

use serde_json::Value;

use super::glob::Pattern;
use super::json::{Kind, Parts, Raw};
use crate::encode::printable;

/// Upper bound on the bytes of a path. One that leads to a number has a few dozen.
pub const BYTES_MAX: usize = 1_024;

/// Upper bound on the steps of a path and its conditions, since each takes a stack frame.
const STEPS_MAX: usize = 64;

/// Bytes that may be looked at while a path is followed, each once for every look: 32 times a whole answer, and
/// some tenths of a second. A path passes over an answer about once for each segment.
const WORK_MAX: usize = 32 << 20;

/// Upper bound on the intermediate elements kept, of 32 bytes each. A list that is only counted keeps none.
const KEPT_MAX: usize = 1 << 17;

/// Maximum nesting of conditions.
const NESTED_MAX: usize = 8;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq)]
struct Segment {
    kind: SegmentKind,
    /// Follows a `|`: applies to a list as such, not to its elements.
    is_piped: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum SegmentKind {
    Key(Pattern),
    /// `#`
    Each,
    /// `#(…)`
    First(Condition),
    /// `#(…)#`
    All(Condition),
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    path: Path,
    /// Without a test, the path only has to exist.
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
    Like(Pattern),
    Unlike(Pattern),
}

/// The result of following a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    Nothing,
    Value(Raw<'a>),
    /// The length of a list.
    Count(usize),
    List(Vec<Found<'a>>),
}

/// The path costs more to follow than any realistic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

impl Path {
    /// Parses a path.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("is longer than {BYTES_MAX} bytes"));
        }
        let mut left = STEPS_MAX;
        Self::parse_within(text, &mut left, 0)
    }

    fn parse_within(text: &str, left: &mut usize, depth: usize) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut rest = text;
        let mut is_piped = false;
        loop {
            *left = left.checked_sub(1).ok_or_else(|| format!("has more than {STEPS_MAX} segments"))?;
            match rest.chars().next() {
                Some('@') => return Err("uses a modifier (@…), which is not supported".to_owned()),
                Some('!') => return Err("uses a literal (!…), which is not supported".to_owned()),
                Some('{' | '[') => return Err("makes new JSON ({…} or […]), which is not supported".to_owned()),
                Some('.') if segments.is_empty() => return Err("begins with a dot".to_owned()),
                None | Some('.' | '|') => return Err("has an empty segment".to_owned()),
                _ => {}
            }
            let (kind, after) = segment(rest, left, depth)?;
            segments.push(Segment { kind, is_piped });
            match after.chars().next() {
                None => return Ok(Self { segments }),
                Some('.') => is_piped = false,
                Some('|') => is_piped = true,
                Some(other) => return Err(format!("has {other:?} where a dot must be")),
            }
            rest = &after[1..];
        }
    }

    /// Follows the path. If two members have the same name, the first one counts.
    ///
    /// # Errors
    /// If that costs more than any realistic path.
    pub fn find<'a>(&self, value: Raw<'a>) -> Result<Found<'a>, TooMuch> {
        Walk { work_left: WORK_MAX, kept_left: KEPT_MAX }.follow(&self.segments, Found::Value(value))
    }
}

/// One segment, and what follows it.
fn segment<'t>(text: &'t str, left: &mut usize, depth: usize) -> Result<(SegmentKind, &'t str), String> {
    if let Some(after) = text.strip_prefix('#') {
        if let Some(inner) = after.strip_prefix('(') {
            let end = closing(inner).ok_or("has a '(' that is not closed")?;
            let condition = condition(&inner[..end], left, depth)?;
            let after = &inner[end + 1..];
            return Ok(match after.strip_prefix('#') {
                Some(after) => (SegmentKind::All(condition), after),
                None => (SegmentKind::First(condition), after),
            });
        }
        if after.is_empty() || after.starts_with(['.', '|']) {
            return Ok((SegmentKind::Each, after));
        }
    }
    let end = unescaped(text, |c| c == '.' || c == '|').unwrap_or(text.len());
    Ok((SegmentKind::Key(Pattern::parse(&text[..end])), &text[end..]))
}

/// Returns the byte offset of the first unescaped character that fits.
fn unescaped(text: &str, fits: impl Fn(char) -> bool) -> Option<usize> {
    let mut is_escaped = false;
    let found = text.char_indices().find(|(_, c)| {
        let was_escaped = is_escaped;
        is_escaped = *c == '\\' && !was_escaped;
        !was_escaped && fits(*c)
    });
    found.map(|(at, _)| at)
}

/// Yields the unescaped characters outside strings and parentheses, including an unbalanced `)`.
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

/// Returns the offset of the `)` that closes a `(` before the text.
fn closing(text: &str) -> Option<usize> {
    outside(text).find(|(_, c)| *c == ')').map(|(at, _)| at)
}

fn condition(text: &str, left: &mut usize, depth: usize) -> Result<Condition, String> {
    if depth >= NESTED_MAX {
        return Err(format!("has conditions more than {NESTED_MAX} deep"));
    }
    let at = operator_at(text).unwrap_or(text.len());
    let (path, rest) = (text[..at].trim(), &text[at..]);
    let path = if path.is_empty() { Path { segments: Vec::new() } } else { Path::parse_within(path, left, depth + 1)? };
    let read = |prefixes: &[&str]| prefixes.iter().find_map(|prefix| rest.strip_prefix(prefix)).map(str::trim);
    let test = if rest.is_empty() {
        if path.segments.is_empty() {
            return Err("has an empty condition".to_owned());
        }
        None
    } else if let Some(value) = read(&["!%"]) {
        Some((Operator::Unlike(Pattern::parse(&text_of(&operand(value)?)?)), Value::Null))
    } else if let Some(value) = read(&["%"]) {
        Some((Operator::Like(Pattern::parse(&text_of(&operand(value)?)?)), Value::Null))
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

/// Returns the offset of a condition's operator.
fn operator_at(text: &str) -> Option<usize> {
    outside(text).find(|(_, c)| "=!<>%".contains(*c)).map(|(at, _)| at)
}

/// Parses a condition's operand: JSON, or else unquoted text.
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
        Err(_) if text.starts_with('"') => Err(format!("has the broken string {}", printable(text))),
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err("has a '%' that does not compare with text".to_owned()),
    }
}

/// A path being followed, with its remaining budgets.
struct Walk {
    work_left: usize,
    kept_left: usize,
}

impl Walk {
    fn work(&mut self, cost: usize) -> Result<(), TooMuch> {
        self.work_left = self.work_left.checked_sub(cost.saturating_add(1)).ok_or(TooMuch)?;
        Ok(())
    }

    fn follow<'a>(&mut self, segments: &[Segment], found: Found<'a>) -> Result<Found<'a>, TooMuch> {
        let Some((segment, rest)) = segments.split_first() else {
            return Ok(found);
        };
        match &segment.kind {
            SegmentKind::Key(key) => match self.child(found, key)? {
                Found::Nothing => Ok(Found::Nothing),
                child => self.follow(rest, child),
            },
            SegmentKind::Each if rest.first().is_none_or(|next| next.is_piped) => {
                let Some(elements) = Elements::of(found) else { return Ok(Found::Nothing) };
                let mut count = 0;
                for element in elements {
                    self.work(element.length())?;
                    count += 1;
                }
                self.follow(rest, Found::Count(count))
            }
            SegmentKind::Each => self.each(None, rest, found),
            SegmentKind::All(condition) => self.each(Some(condition), rest, found),
            SegmentKind::First(condition) => {
                for element in Elements::of(found).into_iter().flatten() {
                    self.work(element.length())?;
                    if self.holds(condition, &element)? {
                        return self.follow(rest, element);
                    }
                }
                Ok(Found::Nothing)
            }
        }
    }

    /// Follows the steps for each element of a list, up to the next pipe.
    fn each<'a>(
        &mut self,
        condition: Option<&Condition>,
        rest: &[Segment],
        found: Found<'a>,
    ) -> Result<Found<'a>, TooMuch> {
        let end = rest.iter().position(|segment| segment.is_piped).unwrap_or(rest.len());
        let Some(elements) = Elements::of(found) else { return Ok(Found::Nothing) };
        let mut kept = Vec::new();
        for element in elements {
            self.work(element.length())?;
            if condition.map_or(Ok(true), |condition| self.holds(condition, &element))? {
                match self.follow(&rest[..end], element)? {
                    Found::Nothing => {}
                    found => {
                        self.kept_left = self.kept_left.checked_sub(1).ok_or(TooMuch)?;
                        kept.push(found);
                    }
                }
            }
        }
        self.follow(&rest[end..], Found::List(kept))
    }

    fn child<'a>(&mut self, found: Found<'a>, key: &Pattern) -> Result<Found<'a>, TooMuch> {
        if let Found::Value(value) = found
            && let Some(mut parts) = value.members()
        {
            while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                self.work(name.len() + value.len())?;
                let Some(name) = name.text() else { continue };
                let fits = match key.literal() {
                    Some(literal) => name == literal,
                    None => {
                        self.work(key.cost(name.len()))?;
                        key.matches(&name)
                    }
                };
                if fits {
                    return Ok(Found::Value(value));
                }
            }
            return Ok(Found::Nothing);
        }
        let Some(index) = key.literal().and_then(|text| text.parse::<usize>().ok()) else { return Ok(Found::Nothing) };
        for (at, element) in Elements::of(found).into_iter().flatten().enumerate() {
            self.work(element.length())?;
            if at == index {
                return Ok(element);
            }
        }
        Ok(Found::Nothing)
    }

    fn holds(&mut self, condition: &Condition, element: &Found<'_>) -> Result<bool, TooMuch> {
        self.work(element.length())?;
        let found = self.follow(&condition.path.segments, element.clone())?;
        let Some((operator, operand)) = &condition.test else {
            return Ok(found != Found::Nothing);
        };
        if let Found::Value(value) = &found {
            // Unescaping copies the text.
            self.work(value.len())?;
        }
        let (Operator::Like(pattern) | Operator::Unlike(pattern)) = operator else {
            return Ok(compare(&found, operand).is_some_and(|order| match operator {
                Operator::Equal => order == Ordering::Equal,
                Operator::NotEqual => order != Ordering::Equal,
                Operator::Less => order == Ordering::Less,
                Operator::LessOrEqual => order != Ordering::Greater,
                Operator::Greater => order == Ordering::Greater,
                Operator::GreaterOrEqual => order != Ordering::Less,
                Operator::Like(_) | Operator::Unlike(_) => false,
            }));
        };
        let Found::Value(value) = found else { return Ok(false) };
        let Some(text) = value.text() else { return Ok(false) };
        self.work(pattern.cost(text.len()))?;
        Ok(pattern.matches(&text) == matches!(operator, Operator::Like(_)))
    }
}

impl Found<'_> {
    /// Returns the cost of skipping or copying it.
    fn length(&self) -> usize {
        match self {
            Found::Value(value) => value.len(),
            Found::List(elements) => elements.iter().map(Found::length).sum::<usize>() + elements.len(),
            Found::Nothing | Found::Count(_) => 0,
        }
    }
}

/// Elements of a list in the text, or of an intermediate one.
enum Elements<'a> {
    Raw(Parts<'a>),
    Kept(std::vec::IntoIter<Found<'a>>),
}

impl<'a> Elements<'a> {
    fn of(found: Found<'a>) -> Option<Self> {
        match found {
            Found::Value(value) => value.elements().map(Self::Raw),
            Found::List(elements) => Some(Self::Kept(elements.into_iter())),
            Found::Nothing | Found::Count(_) => None,
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        match self {
            Self::Raw(parts) => parts.next().map(Found::Value),
            Self::Kept(elements) => elements.next(),
        }
    }
}

/// Returns `None` for values of different types, which satisfy no condition.
fn compare(found: &Found<'_>, operand: &Value) -> Option<Ordering> {
    let value = match found {
        // A body has fewer than 2^53 elements.
        #[expect(clippy::cast_precision_loss)]
        Found::Count(count) => Kind::Number(*count as f64),
        Found::Value(value) => value.kind(),
        Found::Nothing | Found::List(_) => return None,
    };
    match (value, operand) {
        (Kind::Number(found), Value::Number(number)) => found.partial_cmp(&number.as_f64()?),
        (Kind::Text(found), Value::String(text)) => Some(found.as_ref().cmp(text)),
        (Kind::Bool(found), Value::Bool(flag)) => Some(found.cmp(flag)),
        (Kind::Null, Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

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
        let value = value.to_string();
        let path = Path::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        show(&path.find(Raw::parse(value.as_bytes()).unwrap()).unwrap())
    }

    fn show(found: &Found<'_>) -> String {
        match found {
            Found::Nothing => "nothing".to_owned(),
            Found::Value(value) => value.show().to_owned(),
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
    fn invalid_paths_are_refused() {
        for (path, expected) in [
            ("", "has an empty segment"),
            ("a.", "has an empty segment"),
            ("a..b", "has an empty segment"),
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
        assert_eq!(Path::parse(&"a.".repeat(100)).unwrap_err(), "has more than 64 segments");
        let deep = format!("{}a{}", "#(".repeat(20), ")".repeat(20));
        assert_eq!(Path::parse(&deep).unwrap_err(), "has conditions more than 8 deep");
    }

    /// Following a path is quick and takes little memory, whatever the path and the answer.
    #[test]
    fn no_path_costs_much() {
        let begun = Instant::now();
        let long = "a".repeat(1 << 19);
        let bodies = [
            format!("[{}]", vec!["{\"a\":0}"; 1 << 17].join(",")),
            format!("{{\"{long}\":\"{long}\"}}"),
            format!("[{}]", vec!["[[[[[[[[1]]]]]]]]"; 1 << 15].join(",")),
            format!("[{}]", vec!["9"; 1 << 19].join(",")),
        ];
        let globs = format!("{}b", "*a?".repeat(300));
        let paths = [
            "#.a".to_owned(),
            "#.#.#.#.#.#.#.#.#|#".to_owned(),
            "#(>5)#|#(>5)#|#(>5)#|#(>5)#|#".to_owned(),
            "#(#(#(#(#(#(#(#(>1)))))))".to_owned(),
            "#(a%\"*\")#|#".to_owned(),
            format!("#.{}", vec!["0"; 60].join("|")),
            globs.clone(),
            format!("*.#(%\"{globs}\")"),
        ];
        for body in &bodies {
            let value = Raw::parse(body.as_bytes()).unwrap();
            for path in &paths {
                let Ok(path) = Path::parse(path) else { continue };
                let _ = path.find(value);
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        let all = Raw::parse(bodies[3].as_bytes()).unwrap();
        let path = |text: &str| Path::parse(text).unwrap();
        assert_eq!(path("#").find(all), Ok(Found::Count(1 << 19)), "what is only counted is not kept");
        assert_eq!(path("#(>5)#|#").find(all), Err(TooMuch));
        assert_eq!(path("#.#").find(all), Ok(Found::List(Vec::new())));
        assert_eq!(Path::parse(&"*".repeat(8_000)).unwrap_err(), "is longer than 1024 bytes");
    }

    /// The same as in GJSON, whose syntax paths use.
    #[test]
    fn the_first_of_equal_names_counts() {
        let value = Raw::parse(br#"{"b":1,"a":2,"b":3,"\u0061c":4}"#).unwrap();
        for (path, expected) in [("b", "1"), ("?", "1"), ("ac", "4")] {
            assert_eq!(show(&Path::parse(path).unwrap().find(value).unwrap()), expected, "{path}");
        }
    }
}
