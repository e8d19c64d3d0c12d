//! Builds the tree from tokens: grammar, names and types in one pass, since each node's operands come first.
//!
//! A Pratt parser with expr's own precedences. It bounds the depth of the tree, on which every recursive walk relies.

use std::ops::Range;

use super::builtin::{self, Each, Function};
use super::node::{Node, NodeId, NodeKind};
use super::operator::Binary;
use super::token::{self, Token, TokenKind};
use super::types::{self, Type};
use super::{Error, shown};
use crate::spelling::nearest;

/// Nested brackets, conditions and signs: a test goes this deep on a thread with 2 MiB of stack, without optimisation.
const NESTING_MAX: usize = 64;
/// Nodes on a path down the tree: a sum over 100 triggers, the most that an object can have, needs 100.
const HEIGHT_MAX: usize = 160;

/// Precedence of `!` and `not`, and that of signs.
const NOT: u16 = 50;
const SIGN: u16 = 90;

/// A parsed formula.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
    /// Ranges of the text with variables, in order, and which variable each is.
    pub(super) uses: Vec<(Range<usize>, usize)>,
}

pub(super) fn parse(text: &str, names: &[String]) -> Result<Tree, Error> {
    let mut parser = Parser {
        tokens: token::tokens(text)?,
        at: 0,
        names,
        nodes: Vec::new(),
        uses: Vec::new(),
        locals: Vec::new(),
        closures: Vec::new(),
        nesting: 0,
    };
    let root = parser.sequence()?;
    parser.expect_end()?;
    Ok(Tree { nodes: parser.nodes, root, uses: parser.uses })
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    names: &'a [String],
    nodes: Vec<Node>,
    uses: Vec<(Range<usize>, usize)>,
    /// Names and types of the enclosing `let`s.
    locals: Vec<(String, Type)>,
    /// Functions of the enclosing closures, with the type of their elements.
    closures: Vec<(Each, Type)>,
    nesting: usize,
}

type Parsed = Result<NodeId, Error>;

impl Parser<'_> {
    fn token(&self) -> &Token {
        // The last token is the end, and no position goes beyond it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn column(&self) -> u32 {
        self.token().column
    }

    fn is(&self, symbol: &str) -> bool {
        self.symbol() == Some(symbol)
    }

    fn symbol(&self) -> Option<&'static str> {
        match self.token().kind {
            TokenKind::Symbol(symbol) => Some(symbol),
            _ => None,
        }
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let is = self.is(symbol);
        if is {
            self.advance();
        }
        is
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Error> {
        if self.accept(symbol) { Ok(()) } else { Err(self.unexpected(&format!(", expected {symbol}"))) }
    }

    fn expect_end(&self) -> Result<(), Error> {
        match &self.token().kind {
            TokenKind::End => Ok(()),
            TokenKind::Symbol(":") => Err(Error::at(self.column(), "unexpected \":\" (slices are not supported)")),
            TokenKind::Name(name) if matches!(name.as_str(), "contains" | "startsWith" | "endsWith" | "matches") => {
                Err(Error::at(self.column(), format!("the operator {name} is not supported: formulas know no text")))
            }
            _ => Err(self.unexpected("")),
        }
    }

    fn unexpected(&self, suffix: &str) -> Error {
        let what = match &self.token().kind {
            TokenKind::End => "end".to_owned(),
            TokenKind::Int(number) => number.to_string(),
            TokenKind::Float(number) => number.to_string(),
            TokenKind::Name(name) => shown(name),
            TokenKind::Symbol(symbol) => shown(symbol),
        };
        Error::at(self.column(), format!("unexpected {what}{suffix}"))
    }

    fn of(&self, id: NodeId) -> &Type {
        &self.nodes[id].of
    }

    fn add(&mut self, column: u32, kind: NodeKind, of: Type) -> Parsed {
        let below = kind.parts().into_iter().map(|part| self.nodes[part].height).max().unwrap_or(0);
        if below >= HEIGHT_MAX {
            return Err(Error::at(column, "the formula is too deep: write it in parts with let"));
        }
        self.nodes.push(Node { kind, column, of, height: below + 1 });
        Ok(self.nodes.len() - 1)
    }

    fn typed(&mut self, column: u32, kind: NodeKind, of: Result<Type, String>) -> Parsed {
        let of = of.map_err(|message| Error::at(column, message))?;
        self.add(column, kind, of)
    }

    /// Expressions separated by `;`.
    fn sequence(&mut self) -> Parsed {
        let column = self.column();
        let mut parts = vec![self.expression(0)?];
        while self.accept(";") {
            if self.token().kind == TokenKind::End {
                break;
            }
            parts.push(self.expression(0)?);
        }
        match parts[..] {
            [one] => Ok(one),
            [.., last] => {
                let of = self.of(last).clone();
                self.add(column, NodeKind::Sequence(parts), of)
            }
            [] => Err(self.unexpected("")),
        }
    }

    fn expression(&mut self, precedence: u16) -> Parsed {
        if self.nesting >= NESTING_MAX {
            return Err(Error::at(self.column(), "the formula is nested too deeply: write it in parts with let"));
        }
        self.nesting += 1;
        let parsed = match self.symbol() {
            Some("let") if precedence == 0 => self.declaration(),
            Some("if") if precedence == 0 => self.condition(),
            _ => self.operators(precedence),
        };
        self.nesting -= 1;
        parsed
    }

    fn operators(&mut self, precedence: u16) -> Parsed {
        let mut left = self.primary()?;
        let mut after_coalesce = false;
        loop {
            let column = self.column();
            let is_negated = self.is("not");
            let symbol = if is_negated {
                match self.tokens.get(self.at + 1).map(|token| &token.kind) {
                    Some(TokenKind::Symbol("in")) => "in",
                    _ => {
                        self.advance();
                        return Err(self.unexpected(", expected in"));
                    }
                }
            } else {
                self.symbol().unwrap_or("")
            };
            if symbol == "|" && precedence == 0 {
                self.advance();
                left = self.pipe(left)?;
                after_coalesce = false;
                continue;
            }
            let Some((operator, binds, from_right)) = Binary::from_symbol(symbol) else {
                break;
            };
            if binds < precedence {
                break;
            }
            self.at += if is_negated { 2 } else { 1 };
            if after_coalesce && operator != Binary::Coalesce {
                return Err(Error::at(
                    column,
                    format!("{symbol} after ?? is ambiguous: write one of them in parentheses"),
                ));
            }
            after_coalesce = operator == Binary::Coalesce;
            if operator.is_comparison() {
                left = self.comparisons(left, operator, column, binds)?;
                continue;
            }
            let right = self.expression(if from_right { binds } else { binds + 1 })?;
            left = self.binary(column, operator, left, right)?;
            if is_negated {
                left = self.add(column, NodeKind::Not(left), Type::Bool)?;
            }
        }
        if precedence == 0 { self.conditionals(left) } else { Ok(left) }
    }

    fn binary(&mut self, column: u32, operator: Binary, left: NodeId, right: NodeId) -> Parsed {
        let of = types::binary(operator, self.of(left), self.of(right));
        self.typed(column, NodeKind::Binary(operator, left, right), of)
    }

    /// `a < b < c` is `a < b && b < c`.
    fn comparisons(&mut self, first: NodeId, first_operator: Binary, first_column: u32, binds: u16) -> Parsed {
        let (mut left, mut operator, mut column) = (first, first_operator, first_column);
        let mut whole = None;
        loop {
            let right = self.expression(binds + 1)?;
            let compared = self.binary(column, operator, left, right)?;
            let joined = match whole {
                None => compared,
                Some(before) => self.binary(column, Binary::And, before, compared)?,
            };
            whole = Some(joined);
            match self.symbol().and_then(Binary::from_symbol) {
                Some((next, ..)) if next.is_comparison() => {
                    (left, operator, column) = (right, next, self.column());
                    self.advance();
                }
                _ => return Ok(joined),
            }
        }
    }

    /// Any number of `? :`.
    fn conditionals(&mut self, first: NodeId) -> Parsed {
        let mut whole = first;
        while self.is("?") {
            let column = self.column();
            self.advance();
            let (yes, no) = if self.accept(":") {
                (whole, self.expression(0)?)
            } else {
                let yes = self.expression(0)?;
                self.expect(":")?;
                (yes, self.expression(0)?)
            };
            whole = self.conditional(column, whole, yes, no)?;
        }
        Ok(whole)
    }

    fn conditional(&mut self, column: u32, condition: NodeId, yes: NodeId, no: NodeId) -> Parsed {
        let of = self.of(condition);
        if !of.may_be_bool() {
            let column = self.nodes[condition].column;
            return Err(Error::at(column, format!("a condition must be true or false, and this is {of}")));
        }
        let of = Type::either(self.of(yes), self.of(no));
        self.add(column, NodeKind::Conditional { condition, yes, no }, of)
    }

    /// `if a {b} else {c}`
    fn condition(&mut self) -> Parsed {
        if self.nesting >= NESTING_MAX {
            return Err(Error::at(self.column(), "the formula is nested too deeply"));
        }
        let column = self.column();
        self.expect("if")?;
        let condition = self.expression(0)?;
        let yes = self.block()?;
        self.expect("else")?;
        let no = if self.is("if") {
            self.nesting += 1;
            let no = self.condition();
            self.nesting -= 1;
            no?
        } else {
            self.block()?
        };
        self.conditional(column, condition, yes, no)
    }

    fn block(&mut self) -> Parsed {
        self.expect("{")?;
        let body = self.sequence()?;
        self.expect("}")?;
        Ok(body)
    }

    /// `let x = a; b`
    fn declaration(&mut self) -> Parsed {
        self.expect("let")?;
        let column = self.column();
        let TokenKind::Name(name) = self.token().kind.clone() else {
            return Err(self.unexpected(", expected a name"));
        };
        if self.names.contains(&name) || self.locals.iter().any(|(known, _)| *known == name) {
            return Err(Error::at(column, format!("{} is taken, let needs a new name", shown(&name))));
        }
        if is_taken_by_function(&name) {
            return Err(Error::at(column, format!("{} is a function, let needs another name", shown(&name))));
        }
        self.advance();
        self.expect("=")?;
        let value = self.expression(0)?;
        self.expect(";")?;
        self.locals.push((name, self.of(value).clone()));
        let body = self.sequence();
        self.locals.pop();
        let body = body?;
        let of = self.of(body).clone();
        self.add(column, NodeKind::Let { value, body }, of)
    }

    fn primary(&mut self) -> Parsed {
        let column = self.column();
        let whole = match self.symbol() {
            Some("!" | "not") => {
                self.advance();
                let part = self.expression(NOT)?;
                let of = types::not(self.of(part));
                self.typed(column, NodeKind::Not(part), of)?
            }
            Some(symbol @ ("-" | "+")) => {
                self.advance();
                let part = self.expression(SIGN)?;
                let of = types::sign(symbol, self.of(part));
                let kind = if symbol == "-" { NodeKind::Minus(part) } else { NodeKind::Plus(part) };
                self.typed(column, kind, of)?
            }
            Some("(") => {
                self.advance();
                let part = self.sequence()?;
                self.expect(")")?;
                part
            }
            Some("[") => self.array()?,
            Some("#") => self.pointer()?,
            Some("{") => return Err(Error::at(column, "maps are not supported in formulas")),
            _ => self.atom()?,
        };
        self.postfix(whole)
    }

    fn postfix(&mut self, first: NodeId) -> Parsed {
        let mut whole = first;
        while self.is("[") {
            let column = self.column();
            self.advance();
            if self.is(":") {
                return Err(Error::at(column, "slices are not supported in formulas"));
            }
            let position = self.expression(0)?;
            if self.is(":") {
                return Err(Error::at(column, "slices are not supported in formulas"));
            }
            self.expect("]")?;
            let of = types::at(self.of(whole), self.of(position));
            whole = self.typed(column, NodeKind::At { array: whole, position }, of)?;
        }
        if self.is(".") {
            let text =
                "members and methods, which a . leads to, are not supported in formulas, which are about numbers";
            return Err(Error::at(self.column(), text));
        }
        Ok(whole)
    }

    fn array(&mut self) -> Parsed {
        let column = self.column();
        self.expect("[")?;
        let elements = self.list("]")?;
        let types: Vec<Type> = elements.iter().map(|element| self.of(*element).clone()).collect();
        self.add(column, NodeKind::Array(elements), Type::array_of(&types))
    }

    /// Expressions separated by `,`, with an optional one at the end, up to the closing bracket.
    fn list(&mut self, end: &str) -> Result<Vec<NodeId>, Error> {
        let mut parts = Vec::new();
        while !self.accept(end) {
            if !parts.is_empty() {
                self.expect(",")?;
                if self.accept(end) {
                    break;
                }
            }
            parts.push(self.expression(0)?);
        }
        Ok(parts)
    }

    /// `#`, `#acc`, `#index`
    fn pointer(&mut self) -> Parsed {
        let column = self.column();
        let end = self.token().span.end;
        self.advance();
        let Some((each, element)) = self.closures.last().cloned() else {
            return Err(Error::at(column, "# is an element of the array that a function goes over, and there is none"));
        };
        let name = match &self.token().kind {
            TokenKind::Name(name) if self.token().span.start == end => name.clone(),
            _ => return self.add(column, NodeKind::Element, element),
        };
        self.advance();
        match name.as_str() {
            "acc" if each == Each::Reduce => self.add(column, NodeKind::Accumulator, Type::Any),
            "index" if each.has_index() => self.add(column, NodeKind::Index, Type::Int),
            name => Err(Error::at(column, format!("{} has no {}", each.name(), shown(&format!("#{name}"))))),
        }
    }

    fn atom(&mut self) -> Parsed {
        let column = self.column();
        match self.token().kind.clone() {
            TokenKind::Int(number) => {
                self.advance();
                self.add(column, NodeKind::Int(number), Type::Int)
            }
            TokenKind::Float(number) => {
                self.advance();
                self.add(column, NodeKind::Float(number), Type::Float)
            }
            TokenKind::Name(name) => {
                let span = self.token().span.clone();
                self.advance();
                match name.as_str() {
                    "true" | "false" => self.add(column, NodeKind::Bool(name == "true"), Type::Bool),
                    "nil" => self.add(column, NodeKind::Nil, Type::Nil),
                    _ if self.is("(") => self.call(column, &name, None),
                    _ => self.name(column, &name, span),
                }
            }
            TokenKind::Symbol(_) | TokenKind::End => Err(self.unexpected("")),
        }
    }

    fn name(&mut self, column: u32, name: &str, span: Range<usize>) -> Parsed {
        if let Some(position) = self.locals.iter().rposition(|(known, _)| known == name) {
            let of = self.locals[position].1.clone();
            return self.add(column, NodeKind::Local(position), of);
        }
        if let Some(position) = self.names.iter().position(|known| known == name) {
            self.uses.push((span, position));
            return self.add(column, NodeKind::Variable(position), Type::Float);
        }
        if builtin::is_function(name) {
            return Err(Error::at(column, format!("{} is a function, write {name}(…)", shown(name))));
        }
        let cut = self.names.iter().find(|known| !token::is_name(known) && known.starts_with(name));
        if let Some(known) = cut {
            return Err(Error::at(
                column,
                format!(
                    "unknown name {}: the trigger name {} cannot stand in a formula, use letters, digits and _",
                    shown(name),
                    shown(known)
                ),
            ));
        }
        let known = self.names.iter().map(String::as_str).chain(self.locals.iter().map(|(name, _)| name.as_str()));
        Err(unknown(column, "name", name, &known.collect::<Vec<_>>()))
    }

    /// `left | function(…)`
    fn pipe(&mut self, left: NodeId) -> Parsed {
        let column = self.column();
        let TokenKind::Name(name) = self.token().kind.clone() else {
            return Err(self.unexpected(", expected a function after |"));
        };
        self.advance();
        let call = self.call(column, &name, Some(left))?;
        self.postfix(call)
    }

    /// A call; `piped` is its first argument.
    fn call(&mut self, column: u32, name: &str, piped: Option<NodeId>) -> Parsed {
        if let Some(each) = Each::from_name(name) {
            return self.for_each(column, each, piped);
        }
        let Some(function) = Function::from_name(name) else {
            if let Some((_, why)) = builtin::NOT_SUPPORTED.iter().find(|(known, _)| *known == name) {
                return Err(Error::at(
                    column,
                    format!("the function {name}() is not supported: formulas know no {why}"),
                ));
            }
            if self.names.iter().any(|known| known == name) {
                return Err(Error::at(column, format!("{} is a number, not a function", shown(name))));
            }
            if matches!(name, "avg" | "average") {
                return Err(Error::at(column, format!("unknown function {}, did you mean \"mean\"?", shown(name))));
            }
            return Err(unknown(column, "function", name, &builtin::names().collect::<Vec<_>>()));
        };
        self.expect("(")?;
        let mut arguments: Vec<NodeId> = piped.into_iter().collect();
        arguments.extend(self.list(")")?);
        let types: Vec<Type> = arguments.iter().map(|argument| self.of(*argument).clone()).collect();
        let of = types::call(function, &types).map_err(|(position, message)| {
            let column = position.map_or(column, |position| self.nodes[arguments[position]].column);
            Error::at(column, message)
        })?;
        self.add(column, NodeKind::Call(function, arguments), of)
    }

    fn for_each(&mut self, column: u32, each: Each, piped: Option<NodeId>) -> Parsed {
        self.expect("(")?;
        let is_piped = piped.is_some();
        let array = match piped {
            Some(array) => array,
            None => self.expression(0)?,
        };
        types::collection(each, self.of(array)).map_err(|text| Error::at(self.nodes[array].column, text))?;
        let has_more = |parser: &mut Self, is_first: bool| -> Result<bool, Error> {
            if parser.is(")") {
                return Ok(false);
            }
            if !is_first {
                parser.expect(",")?;
            }
            Ok(true)
        };
        let closure = if has_more(self, is_piped)? { Some(self.closure(each, array)?) } else { None };
        if closure.is_none() && each.needs_closure() {
            let text = format!("{} needs a second argument that says what to do with each element", each.name());
            return Err(Error::at(self.column(), text));
        }
        let initial = match each {
            Each::Reduce if has_more(self, false)? => Some(self.expression(0)?),
            _ => None,
        };
        self.accept(",");
        self.expect(")")?;
        let of = types::for_each(each, self.of(array), closure.map(|closure| self.of(closure)));
        self.add(column, NodeKind::ForEach { each, array, closure, initial }, of)
    }

    fn closure(&mut self, each: Each, array: NodeId) -> Parsed {
        let column = self.column();
        let element = self.of(array).element();
        self.closures.push((each, element));
        let body = if self.is("{") { self.block() } else { self.expression(0) };
        self.closures.pop();
        let body = body?;
        if self.is(";") {
            return Err(Error::at(self.column(), "unexpected \";\": write { and } around both expressions"));
        }
        types::closure(each, self.of(body)).map_err(|text| Error::at(column, text))?;
        Ok(body)
    }
}

fn is_taken_by_function(name: &str) -> bool {
    builtin::is_function(name) || builtin::NOT_SUPPORTED.iter().any(|(known, _)| *known == name)
}

fn unknown(column: u32, what: &str, name: &str, known: &[&str]) -> Error {
    let suggestion = nearest(name, known).map(|near| format!(", did you mean {}?", shown(near))).unwrap_or_default();
    Error::at(column, format!("unknown {what} {}{suggestion}", shown(name)))
}
