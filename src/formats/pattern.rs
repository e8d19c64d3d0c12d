//! Regular expressions in Go's syntax, with captures: the part of it that names of metrics are matched by.
//!
//! Every match takes time linear in the text, whatever the expression, since all alternatives advance together. What Go
//! knows beside this (Unicode classes, POSIX classes, `\Q`) is refused by name.

use std::collections::BTreeMap;

/// Steps of a compiled expression. Repetitions multiply, so that a short text can ask for millions.
const STEPS_MAX: usize = 4_000;
/// Nesting of groups, each of which takes some stack.
const DEPTH_MAX: usize = 50;
/// Go's own limit of `{n,m}`.
const REPEAT_MAX: u32 = 1_000;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    steps: Vec<Step>,
    /// Groups, without the whole match.
    groups: usize,
    names: BTreeMap<String, usize>,
}

#[derive(Clone, Debug)]
enum Step {
    One(Set),
    Start,
    End,
    Boundary(bool),
    Save(usize),
    /// Prefers the first.
    Split(usize, usize),
    Jump(usize),
    Match,
}

/// A set of characters: ranges, or all but them.
#[derive(Clone, Debug, Default)]
struct Set {
    ranges: Vec<(char, char)>,
    negated: bool,
}

impl Set {
    fn has(&self, c: char) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != self.negated
    }
}

/// Where a text matches: the whole, then each group, as byte offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captures<'t> {
    text: &'t str,
    at: Vec<Option<usize>>,
}

impl<'t> Captures<'t> {
    /// Returns a group's text; the whole match is group 0.
    #[must_use]
    pub fn get(&self, group: usize) -> Option<&'t str> {
        let (from, to) = (self.at.get(group * 2).copied().flatten()?, self.at.get(group * 2 + 1).copied().flatten()?);
        self.text.get(from..to)
    }
}

impl Pattern {
    /// # Errors
    /// What is wrong with the expression, or not known here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.chars().collect(), at: 0, groups: 0, names: BTreeMap::new(), depth: 0 };
        let node = parser.alternatives(Flags::default())?;
        if parser.peek().is_some() {
            return Err("has a ) without its (".to_owned());
        }
        let mut steps = vec![Step::Save(0)];
        compile(&node, &mut steps)?;
        steps.extend([Step::Save(1), Step::Match]);
        Ok(Self { steps, groups: parser.groups, names: parser.names })
    }

    /// The number of groups, without the whole match.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Returns whether the expression matches anywhere in the text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// Returns the leftmost match, of several there the one that Go prefers.
    #[must_use]
    pub fn find<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        let slots = (self.groups + 1) * 2;
        let mut threads: Vec<(usize, Vec<Option<usize>>)> = Vec::new();
        let mut found = None;
        let mut before = None;
        let ends = std::iter::once((text.len(), None));
        for (at, next) in text.char_indices().map(|(at, c)| (at, Some(c))).chain(ends) {
            let place = Place { at, before, next };
            let mut seen = vec![false; self.steps.len()];
            let mut ready = Vec::new();
            for (step, saved) in threads.drain(..) {
                self.follow(step, saved, place, &mut seen, &mut ready);
            }
            // A later start loses to every earlier one.
            if found.is_none() {
                self.follow(0, vec![None; slots], place, &mut seen, &mut ready);
            }
            for (step, saved) in ready {
                match (&self.steps[step], next) {
                    (Step::Match, _) => {
                        found = Some(saved);
                        // Threads behind this one are less preferred.
                        break;
                    }
                    (Step::One(set), Some(c)) if set.has(c) => threads.push((step + 1, saved)),
                    _ => {}
                }
            }
            if threads.is_empty() && found.is_some() {
                break;
            }
            before = next;
        }
        found.map(|at| Captures { text, at })
    }

    /// Adds the steps that can be reached without reading a character, in order of preference.
    fn follow(
        &self,
        step: usize,
        saved: Vec<Option<usize>>,
        place: Place,
        seen: &mut [bool],
        ready: &mut Vec<(usize, Vec<Option<usize>>)>,
    ) {
        let mut waiting = vec![(step, saved)];
        while let Some((step, mut saved)) = waiting.pop() {
            if std::mem::replace(&mut seen[step], true) {
                continue;
            }
            match &self.steps[step] {
                Step::One(_) | Step::Match => ready.push((step, saved)),
                Step::Jump(to) => waiting.push((*to, saved)),
                Step::Split(first, second) => {
                    waiting.push((*second, saved.clone()));
                    waiting.push((*first, saved));
                }
                Step::Save(slot) => {
                    saved[*slot] = Some(place.at);
                    waiting.push((step + 1, saved));
                }
                Step::Start if place.before.is_none() => waiting.push((step + 1, saved)),
                Step::End if place.next.is_none() => waiting.push((step + 1, saved)),
                Step::Boundary(wanted) if place.is_boundary() == *wanted => waiting.push((step + 1, saved)),
                Step::Start | Step::End | Step::Boundary(_) => {}
            }
        }
    }

    /// Replaces `$1`, `${1}`, `$name` and `${name}` of a template as Go does: without braces the longest name counts, so
    /// that `$1_total` is the group `1_total`, and a group that does not exist is empty.
    #[must_use]
    pub fn expand(&self, template: &str, captures: &Captures<'_>) -> String {
        let mut out = String::new();
        for part in references(template) {
            match part {
                Reference::Text(text) => out.push_str(text),
                Reference::Group(name) => {
                    let group = self.group(name).and_then(|group| captures.get(group));
                    out.push_str(group.unwrap_or_default());
                }
            }
        }
        out
    }

    /// Returns the first group that a template names and the expression does not have.
    #[must_use]
    pub fn missing_group<'t>(&self, template: &'t str) -> Option<&'t str> {
        references(template).into_iter().find_map(|part| match part {
            Reference::Group(name) if self.group(name).is_none() => Some(name),
            _ => None,
        })
    }

    fn group(&self, name: &str) -> Option<usize> {
        match name.parse::<usize>() {
            Ok(number) => Some(number).filter(|number| *number <= self.groups),
            Err(_) => self.names.get(name).copied(),
        }
    }
}

enum Reference<'t> {
    Text(&'t str),
    Group(&'t str),
}

fn references(template: &str) -> Vec<Reference<'_>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        let (text, after) = (&rest[..at], &rest[at + 1..]);
        parts.push(Reference::Text(text));
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let plain = after.len() - after.trim_start_matches(is_name).len();
        rest = match braced {
            Some((name, rest)) if !name.is_empty() && name.chars().all(is_name) => {
                parts.push(Reference::Group(name));
                rest
            }
            _ if plain > 0 => {
                parts.push(Reference::Group(&after[..plain]));
                &after[plain..]
            }
            _ => {
                parts.push(Reference::Text("$"));
                after.strip_prefix('$').unwrap_or(after)
            }
        };
    }
    parts.push(Reference::Text(rest));
    parts
}

#[derive(Clone, Copy)]
struct Place {
    at: usize,
    before: Option<char>,
    next: Option<char>,
}

impl Place {
    fn is_boundary(self) -> bool {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        is_word(self.before) != is_word(self.next)
    }
}

enum Node {
    Empty,
    Step(Step),
    Row(Vec<Node>),
    Either(Vec<Node>),
    Group(usize, Box<Node>),
    Repeat { node: Box<Node>, least: u32, most: Option<u32>, is_lazy: bool },
}

#[derive(Clone, Copy, Default)]
struct Flags {
    ignores_case: bool,
    dot_takes_newline: bool,
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    groups: usize,
    names: BTreeMap<String, usize>,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn takes(&mut self, text: &str) -> bool {
        let is_next = text.chars().zip(self.at..).all(|(c, at)| self.rest.get(at) == Some(&c));
        if is_next {
            self.at += text.chars().count();
        }
        is_next
    }

    fn alternatives(&mut self, mut flags: Flags) -> Result<Node, String> {
        let mut all = vec![self.row(&mut flags)?];
        while self.takes("|") {
            all.push(self.row(&mut flags)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Either(all) })
    }

    fn row(&mut self, flags: &mut Flags) -> Result<Node, String> {
        let mut row = Vec::new();
        while let Some(next) = self.peek().filter(|next| !matches!(next, '|' | ')')) {
            self.at += 1;
            let node = match next {
                '(' => self.group(flags)?,
                '[' => Node::Step(Step::One(self.class(*flags)?)),
                '.' => {
                    let ranges = if flags.dot_takes_newline { Vec::new() } else { vec![('\n', '\n')] };
                    Node::Step(Step::One(Set { ranges, negated: true }))
                }
                '^' => Node::Step(Step::Start),
                '$' => Node::Step(Step::End),
                '\\' => self.escape(*flags)?,
                '*' | '+' | '?' => return Err(format!("has a {next} with nothing before it")),
                c => Node::Step(Step::One(of_char(c, *flags))),
            };
            row.push(self.repeated(node)?);
        }
        Ok(match row.len() {
            0 => Node::Empty,
            1 => row.remove(0),
            _ => Node::Row(row),
        })
    }

    fn group(&mut self, flags: &mut Flags) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("nests groups deeper than {DEPTH_MAX}"));
        }
        let mut inner = *flags;
        let mut number = None;
        if self.takes("?P<") || self.takes("?<") {
            let mut name = String::new();
            loop {
                match self.next() {
                    Some('>') => break,
                    Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                    _ => return Err("has a group whose name is no word".to_owned()),
                }
            }
            self.groups += 1;
            number = Some(self.groups);
            if name.is_empty() || self.names.insert(name, self.groups).is_some() {
                return Err("has a group without a name of its own".to_owned());
            }
        } else if self.takes("?") {
            let mut value = true;
            loop {
                match self.next() {
                    Some('-') => value = false,
                    Some('i') => inner.ignores_case = value,
                    Some('s') => inner.dot_takes_newline = value,
                    Some(':') => break,
                    // The flags hold for the rest of the surrounding group.
                    Some(')') => {
                        *flags = inner;
                        self.depth -= 1;
                        return Ok(Node::Empty);
                    }
                    other => {
                        let shown = other.map_or_else(String::new, |c| c.to_string());
                        return Err(format!("has (?{shown}, which is not known here"));
                    }
                }
            }
        } else {
            self.groups += 1;
            number = Some(self.groups);
        }
        let node = self.alternatives(inner)?;
        if !self.takes(")") {
            return Err("has a ( without its )".to_owned());
        }
        self.depth -= 1;
        Ok(match number {
            Some(number) => Node::Group(number, Box::new(node)),
            None => node,
        })
    }

    fn repeated(&mut self, node: Node) -> Result<Node, String> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.counts() {
                Some(counts) => counts,
                // As in Go, a brace that counts nothing is a character.
                None => return Ok(node),
            },
            _ => return Ok(node),
        };
        self.at += 1;
        if most.is_some_and(|most| most < least) || least > REPEAT_MAX || most.is_some_and(|most| most > REPEAT_MAX) {
            return Err(format!("repeats a part {{{least},…}}: at most {REPEAT_MAX}, the smaller number first"));
        }
        let is_lazy = self.takes("?");
        if matches!(self.peek(), Some('*' | '+')) {
            return Err("repeats a repetition".to_owned());
        }
        Ok(Node::Repeat { node: Box::new(node), least, most, is_lazy })
    }

    /// Reads `{2}`, `{2,}` or `{2,5}` up to its closing brace.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let length = self.rest[self.at..].iter().position(|c| *c == '}')?;
        let text: String = self.rest[self.at + 1..self.at + length].iter().collect();
        let (least, most) = match text.split_once(',') {
            None => (text.parse().ok()?, Some(text.parse().ok()?)),
            Some((least, "")) => (least.parse().ok()?, None),
            Some((least, most)) => (least.parse().ok()?, Some(most.parse().ok()?)),
        };
        self.at += length;
        Some((least, most))
    }

    fn escape(&mut self, flags: Flags) -> Result<Node, String> {
        let Some(c) = self.next() else { return Err("ends with a \\".to_owned()) };
        Ok(Node::Step(match c {
            'b' => Step::Boundary(true),
            'B' => Step::Boundary(false),
            'A' => Step::Start,
            'z' => Step::End,
            _ => match known_class(c) {
                Some(set) => Step::One(set),
                None => Step::One(of_char(escaped(c)?, flags)),
            },
        }))
    }

    fn class(&mut self, flags: Flags) -> Result<Set, String> {
        let mut set = Set { ranges: Vec::new(), negated: self.takes("^") };
        let mut is_first = true;
        loop {
            let from = match self.next() {
                None => return Err("has a [ without its ]".to_owned()),
                Some(']') if !is_first => break,
                Some('[') if self.peek() == Some(':') => {
                    return Err("has a POSIX class, [:…:]: write its ranges".to_owned());
                }
                Some('\\') => {
                    let c = self.next().unwrap_or('\\');
                    match known_class(c) {
                        Some(known) if !known.negated => {
                            set.ranges.extend(known.ranges);
                            is_first = false;
                            continue;
                        }
                        Some(_) => return Err(format!("has \\{c} in brackets: write the ranges that it leaves")),
                        None => escaped(c)?,
                    }
                }
                Some(c) => c,
            };
            is_first = false;
            let is_range = self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|c| *c != ']');
            let to = if is_range {
                self.at += 1;
                match self.next() {
                    Some('\\') => escaped(self.next().unwrap_or('\\'))?,
                    other => other.unwrap_or(from),
                }
            } else {
                from
            };
            if to < from {
                return Err(format!("has the range {from}-{to}, which ends before it begins"));
            }
            set.ranges.push((from, to));
        }
        if flags.ignores_case {
            let letters = set.ranges.clone();
            for (from, to) in letters {
                set.ranges.extend(other_case(from, to));
            }
        }
        Ok(set)
    }
}

/// The same letters in the other case, for ranges of ASCII letters.
fn other_case(from: char, to: char) -> impl Iterator<Item = (char, char)> {
    let clip = |low: char, high: char, shift: fn(&char) -> char| {
        let (from, to) = (from.max(low), to.min(high));
        (from <= to).then(|| (shift(&from), shift(&to)))
    };
    clip('a', 'z', char::to_ascii_uppercase).into_iter().chain(clip('A', 'Z', char::to_ascii_lowercase))
}

fn of_char(c: char, flags: Flags) -> Set {
    let mut ranges = vec![(c, c)];
    if flags.ignores_case {
        ranges.extend(other_case(c, c));
    }
    Set { ranges, negated: false }
}

fn known_class(c: char) -> Option<Set> {
    let ranges: &[(char, char)] = match c.to_ascii_lowercase() {
        'd' => &[('0', '9')],
        'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        's' => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        _ => return None,
    };
    Some(Set { ranges: ranges.to_vec(), negated: c.is_ascii_uppercase() })
}

fn escaped(c: char) -> Result<char, String> {
    match c {
        'n' => Ok('\n'),
        't' => Ok('\t'),
        'r' => Ok('\r'),
        c if c.is_ascii_punctuation() => Ok(c),
        c => Err(format!("has \\{c}, which is not known here")),
    }
}

fn compile(node: &Node, steps: &mut Vec<Step>) -> Result<(), String> {
    if steps.len() > STEPS_MAX {
        return Err(format!("takes more than {STEPS_MAX} steps: repeat less"));
    }
    match node {
        Node::Empty => {}
        Node::Step(step) => steps.push(step.clone()),
        Node::Row(row) => {
            for node in row {
                compile(node, steps)?;
            }
        }
        Node::Either(all) => {
            let mut ends = Vec::new();
            for (left, node) in (0..all.len()).rev().zip(all) {
                let split = steps.len();
                if left > 0 {
                    steps.push(Step::Match);
                }
                compile(node, steps)?;
                if left > 0 {
                    ends.push(steps.len());
                    steps.push(Step::Match);
                    steps[split] = Step::Split(split + 1, steps.len());
                }
            }
            let end = steps.len();
            ends.into_iter().for_each(|at| steps[at] = Step::Jump(end));
        }
        Node::Group(number, node) => {
            steps.push(Step::Save(number * 2));
            compile(node, steps)?;
            steps.push(Step::Save(number * 2 + 1));
        }
        Node::Repeat { node, least, most, is_lazy } => {
            let split = |inside, after| if *is_lazy { Step::Split(after, inside) } else { Step::Split(inside, after) };
            for _ in 0..*least {
                compile(node, steps)?;
            }
            match most {
                None => {
                    let start = steps.len();
                    steps.push(Step::Match);
                    compile(node, steps)?;
                    steps.push(Step::Jump(start));
                    steps[start] = split(start + 1, steps.len());
                }
                Some(most) => {
                    let mut starts = Vec::new();
                    for _ in *least..*most {
                        starts.push(steps.len());
                        steps.push(Step::Match);
                        compile(node, steps)?;
                    }
                    let end = steps.len();
                    starts.into_iter().for_each(|start| steps[start] = split(start + 1, end));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Option<Vec<String>> {
        let pattern = Pattern::parse(pattern).unwrap();
        let captures = pattern.find(text)?;
        Some((0..=pattern.groups()).map(|group| captures.get(group).unwrap_or("-").to_owned()).collect())
    }

    #[test]
    fn matches_are_those_of_go() {
        for (pattern, text, expected) in [
            ("^(.*)_total$", "http_requests_total", Some(vec!["http_requests_total", "http_requests"])),
            ("^(.*)_total", "a_total_total_x", Some(vec!["a_total_total", "a_total"])),
            ("^(.*?)_total", "a_total_total_x", Some(vec!["a_total", "a"])),
            (
                "^container_(.*)_seconds_total$",
                "container_cpu_usage_seconds_total",
                Some(vec!["container_cpu_usage_seconds_total", "cpu_usage"]),
            ),
            ("_total$", "http_requests", None),
            ("", "x", Some(vec![""])),
            ("a|ab", "ab", Some(vec!["a"])),
            ("(a|ab)(c|bcd)(d*)", "abcd", Some(vec!["abcd", "a", "bcd", ""])),
            ("(a+)(b+)?", "xaac", Some(vec!["aa", "aa", "-"])),
            ("(?:a|b){2,3}", "ababa", Some(vec!["aba"])),
            ("a{2}", "aaa", Some(vec!["aa"])),
            ("a{,2}", "a{,2}", Some(vec!["a{,2}"])),
            ("(?P<x>[a-c]+)-(?<y>[^-]*)", "abc-d e", Some(vec!["abc-d e", "abc", "d e"])),
            ("(?i)HTTP_[A-B]", "http_b", Some(vec!["http_b"])),
            ("x(?i:y)z", "xYz", Some(vec!["xYz"])),
            ("x(?i:y)z", "xyZ", None),
            (r"\d+\.\w\s", "v12.a ", Some(vec!["12.a "])),
            (r"[\d.]+[]-]", "1.2]", Some(vec!["1.2]"])),
            (r"\bb\B", "a bc", Some(vec!["b"])),
            ("a.c", "a\nc", None),
            ("(?s)a.c", "a\nc", Some(vec!["a\nc"])),
            ("(ü|ö)+", "xöü", Some(vec!["öü", "ü"])),
            ("(a*)*b", "aaab", Some(vec!["aaab", "aaa"])),
            ("^$", "", Some(vec![""])),
        ] {
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (pattern, words) in [
            ("(", "without its )"),
            (")", "without its ("),
            ("[a", "without its ]"),
            ("*a", "nothing before it"),
            ("a**", "repeats a repetition"),
            (r"\pL", "not known here"),
            (r"a\", "ends with a \\"),
            ("[[:alpha:]]", "POSIX"),
            ("[z-a]", "ends before it begins"),
            ("(?=a)", "not known here"),
            ("a{3,2}", "the smaller number first"),
            ("a{1001}", "at most 1000"),
            ("((a{100}){100})", "steps"),
            (&"(".repeat(60), "deeper than"),
            ("(?P<a>x)(?P<a>y)", "name of its own"),
        ] {
            assert!(Pattern::parse(pattern).is_err_and(|error| error.contains(words)), "{pattern}");
        }
    }

    #[test]
    fn a_hostile_expression_takes_linear_time() {
        let pattern = Pattern::parse("^(a?){500}(a*)*(a|a)*$").unwrap();
        assert!(pattern.matches(&"a".repeat(2_000)) && !pattern.matches(&format!("{}b", "a".repeat(2_000))));
    }

    #[test]
    fn templates_are_expanded_as_go_does() {
        let pattern = Pattern::parse("^(?P<name>.*)_(total|sum)$").unwrap();
        let captures = pattern.find("http_total").unwrap();
        for (template, expected) in [
            ("${1}_per_second", "http_per_second"),
            ("$1_per_second", ""),
            ("$name", "http"),
            ("${name}_$2", "http_total"),
            ("$0", "http_total"),
            ("$3x$", "$"),
            ("$$1", "$1"),
            ("${1", "${1"),
            ("fixed", "fixed"),
        ] {
            assert_eq!(pattern.expand(template, &captures), expected, "{template}");
        }
        assert_eq!(pattern.missing_group("$1_per_second"), Some("1_per_second"));
        assert_eq!(pattern.missing_group("${1}_$name$2"), None);
    }
}
