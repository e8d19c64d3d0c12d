//! Evaluation: walks the tree with the variables' values. Work is bounded, and so is memory, since every element of an
//! array that is created or read counts.

use std::rc::Rc;

use super::Error;
use super::builtin::{Each, Function};
use super::node::{Node, NodeId, NodeKind};
use super::operator::Binary;
use super::parser::Tree;
use super::value::{self, Array, Value};

/// Nodes evaluated and elements touched in one evaluation. Real formulas need some hundreds; the thread that decides
/// for all objects can spare this many for one of them.
const STEPS_MAX: usize = 20_000;

/// Returns the value of the formula. `variables` are in the order of the formula's names; `None` is nil.
pub(super) fn evaluate(tree: &Tree, variables: &[Option<f64>]) -> Result<Value, Error> {
    Evaluation { nodes: &tree.nodes, variables, locals: Vec::new(), scopes: Vec::new(), steps: 0 }.node(tree.root)
}

struct Evaluation<'a> {
    nodes: &'a [Node],
    variables: &'a [Option<f64>],
    /// Values of the enclosing `let`s.
    locals: Vec<Value>,
    /// The enclosing closures.
    scopes: Vec<Scope>,
    steps: usize,
}

struct Scope {
    array: Rc<Array>,
    index: usize,
    accumulator: Value,
}

type Evaluated = Result<Value, Error>;

impl Evaluation<'_> {
    fn spend(&mut self, steps: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX {
            return Err(format!("the formula takes more than {STEPS_MAX} steps"));
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId) -> Evaluated {
        let node = &self.nodes[id];
        let at_node = |message: String| Error::at(node.column, message);
        self.spend(1).map_err(at_node)?;
        match &node.kind {
            NodeKind::Nil => Ok(Value::Nil),
            NodeKind::Bool(value) => Ok(Value::Bool(*value)),
            NodeKind::Int(value) => Ok(Value::Int(*value)),
            NodeKind::Float(value) => Ok(Value::Float(*value)),
            NodeKind::Variable(position) => {
                Ok(self.variables.get(*position).copied().flatten().map_or(Value::Nil, Value::Float))
            }
            NodeKind::Local(position) => Ok(self.locals.get(*position).cloned().unwrap_or(Value::Nil)),
            NodeKind::Element | NodeKind::Accumulator | NodeKind::Index => Ok(self.pointer(&node.kind)),
            NodeKind::Array(parts) => {
                let items = self.all(parts)?;
                Value::array(items).map_err(at_node)
            }
            NodeKind::Not(part) => Ok(Value::Bool(!self.condition(*part)?)),
            NodeKind::Minus(part) => {
                let value = self.node(*part)?;
                negated(&value).map_err(at_node)
            }
            NodeKind::Plus(part) => self.node(*part),
            NodeKind::Binary(operator, left, right) => self.binary(node.column, *operator, *left, *right),
            NodeKind::Conditional { condition, yes, no } => {
                let chosen = if self.condition(*condition)? { *yes } else { *no };
                self.node(chosen)
            }
            NodeKind::At { array, position } => {
                let (array, position) = (self.node(*array)?, self.node(*position)?);
                at(&array, &position).map_err(at_node)
            }
            NodeKind::Let { value, body } => {
                let value = self.node(*value)?;
                self.locals.push(value);
                let body = self.node(*body);
                self.locals.pop();
                body
            }
            NodeKind::Sequence(parts) => Ok(self.all(parts)?.pop().unwrap_or(Value::Nil)),
            NodeKind::Call(function, arguments) => {
                let arguments = self.all(arguments)?;
                self.call(*function, &arguments).map_err(at_node)
            }
            NodeKind::ForEach { each, array, closure, initial } => {
                self.for_each(node.column, *each, *array, *closure, *initial)
            }
        }
    }

    fn all(&mut self, parts: &[NodeId]) -> Result<Vec<Value>, Error> {
        parts.iter().map(|part| self.node(*part)).collect()
    }

    fn pointer(&self, kind: &NodeKind) -> Value {
        let Some(scope) = self.scopes.last() else {
            return Value::Nil;
        };
        match kind {
            NodeKind::Element => scope.array.items.get(scope.index).cloned().unwrap_or(Value::Nil),
            NodeKind::Accumulator => scope.accumulator.clone(),
            _ => Value::Int(i64::try_from(scope.index).unwrap_or(i64::MAX)),
        }
    }

    fn condition(&mut self, id: NodeId) -> Result<bool, Error> {
        match self.node(id)? {
            Value::Bool(value) => Ok(value),
            other => Err(Error::at(self.nodes[id].column, format!("must be true or false, and is {other}"))),
        }
    }

    fn binary(&mut self, column: u32, operator: Binary, left: NodeId, right: NodeId) -> Evaluated {
        // These three evaluate the right side only if the left one does not decide the result.
        match operator {
            Binary::Or => return Ok(Value::Bool(self.condition(left)? || self.condition(right)?)),
            Binary::And => return Ok(Value::Bool(self.condition(left)? && self.condition(right)?)),
            Binary::Coalesce => {
                return match self.node(left)? {
                    Value::Nil => self.node(right),
                    other => Ok(other),
                };
            }
            _ => {}
        }
        let (left, right) = (self.node(left)?, self.node(right)?);
        self.operate(operator, &left, &right).map_err(|message| Error::at(column, message))
    }

    fn operate(&mut self, operator: Binary, left: &Value, right: &Value) -> Result<Value, String> {
        match operator {
            Binary::Equal => Ok(Value::Bool(self.equal(left, right)?)),
            Binary::NotEqual => Ok(Value::Bool(!self.equal(left, right)?)),
            Binary::Less | Binary::More | Binary::LessOrEqual | Binary::MoreOrEqual => {
                value::compare(operator, left, right).map(Value::Bool)
            }
            Binary::In => match right {
                Value::Array(array) => {
                    self.spend(array.items.len())?;
                    for item in &array.items {
                        if self.equal(item, left)? {
                            return Ok(Value::Bool(true));
                        }
                    }
                    Ok(Value::Bool(false))
                }
                Value::Nil => Ok(Value::Bool(false)),
                other => Err(format!("in needs an array, and this is {other}")),
            },
            Binary::Range => self.range(left, right),
            _ => value::arithmetic(operator, left, right),
        }
    }

    fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, String> {
        value::equal(left, right, &mut |steps| self.spend(steps))
    }

    fn range(&mut self, from: &Value, to: &Value) -> Result<Value, String> {
        let (Value::Int(from), Value::Int(to)) = (from, to) else {
            return Err(".. needs whole numbers: write int(…) around them".to_owned());
        };
        let length = if from > to { 0 } else { from.abs_diff(*to).saturating_add(1) };
        self.spend(usize::try_from(length).unwrap_or(usize::MAX))?;
        Value::array(if length == 0 { Vec::new() } else { (*from..=*to).map(Value::Int).collect() })
    }

    fn call(&mut self, function: Function, arguments: &[Value]) -> Result<Value, String> {
        let first = arguments.first().unwrap_or(&Value::Nil);
        let number = || first.number().ok_or_else(|| format!("{} cannot take {first}", function.name()));
        match function {
            Function::Abs => match first {
                Value::Int(number) => number.checked_abs().map(Value::Int).ok_or_else(value::overflow),
                _ => number().map(|number| Value::Float(number.abs())),
            },
            Function::Ceil => number().map(|number| Value::Float(number.ceil())),
            Function::Floor => number().map(|number| Value::Float(number.floor())),
            // Halves are rounded away from zero.
            Function::Round => number().map(|number| Value::Float(number.round())),
            Function::Float => number().map(Value::Float),
            Function::Int => value::whole(first).map(Value::Int),
            Function::Len | Function::First | Function::Last => {
                let Value::Array(array) = first else {
                    return Err(format!("{} cannot take {first}", function.name()));
                };
                Ok(match function {
                    Function::Len => Value::Int(i64::try_from(array.items.len()).unwrap_or(i64::MAX)),
                    Function::First => array.items.first().cloned().unwrap_or(Value::Nil),
                    _ => array.items.last().cloned().unwrap_or(Value::Nil),
                })
            }
            Function::Min | Function::Max => self.extreme(function, arguments),
            Function::Mean | Function::Median => {
                let mut numbers = Vec::new();
                self.flatten(function, arguments, &mut numbers)?;
                let numbers: Vec<f64> = numbers.iter().filter_map(Value::number).collect();
                Ok(Value::Float(if function == Function::Mean { mean(&numbers) } else { median(numbers) }))
            }
        }
    }

    /// Returns the smallest or largest number; nil if there is none.
    fn extreme(&mut self, function: Function, arguments: &[Value]) -> Result<Value, String> {
        if let [single @ (Value::Nil | Value::Bool(_))] = arguments {
            return Ok(single.clone());
        }
        let mut numbers = Vec::new();
        self.flatten(function, arguments, &mut numbers)?;
        let better = if function == Function::Min { Binary::More } else { Binary::Less };
        let mut best = Value::Nil;
        for number in numbers {
            if matches!(best, Value::Nil) || value::compare(better, &best, &number)? {
                best = number;
            }
        }
        Ok(best)
    }

    /// Collects the numbers of nested arrays.
    fn flatten(&mut self, function: Function, values: &[Value], numbers: &mut Vec<Value>) -> Result<(), String> {
        self.spend(values.len())?;
        for value in values {
            match value {
                Value::Array(array) => self.flatten(function, &array.items, numbers)?,
                Value::Int(_) | Value::Float(_) => numbers.push(value.clone()),
                other => return Err(format!("{} cannot take {other}", function.name())),
            }
        }
        Ok(())
    }

    fn for_each(
        &mut self,
        column: u32,
        each: Each,
        array: NodeId,
        closure: Option<NodeId>,
        initial: Option<NodeId>,
    ) -> Evaluated {
        let at_node = |message: String| Error::at(column, message);
        let array = match self.node(array)? {
            Value::Array(array) => array,
            other => return Err(at_node(format!("{} cannot take {other}", each.name()))),
        };
        self.spend(array.items.len()).map_err(at_node)?;
        let initial = initial.map(|initial| self.node(initial)).transpose()?;
        self.scopes.push(Scope { array: Rc::clone(&array), index: 0, accumulator: Value::Nil });
        let result = match each {
            Each::Reduce => self.reduce(column, &array, closure, initial),
            Each::Sum => self.sum(column, &array, closure),
            Each::Map | Each::Filter => self.select(column, each, &array, closure),
            _ => self.search(column, each, &array, closure),
        };
        self.scopes.pop();
        result
    }

    /// Returns the closure's result for element `index`; without a closure the element itself.
    fn element(&mut self, array: &Array, closure: Option<NodeId>, index: usize) -> Evaluated {
        let Some(closure) = closure else {
            return Ok(array.items.get(index).cloned().unwrap_or(Value::Nil));
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.index = index;
        }
        self.node(closure)
    }

    fn is_chosen(&mut self, column: u32, array: &Array, closure: Option<NodeId>, index: usize) -> Result<bool, Error> {
        match self.element(array, closure, index)? {
            Value::Bool(chosen) => Ok(chosen),
            other => Err(Error::at(column, format!("each element must give true or false, and one gives {other}"))),
        }
    }

    fn reduce(&mut self, column: u32, array: &Array, closure: Option<NodeId>, initial: Option<Value>) -> Evaluated {
        let (mut result, start) = match (initial, array.items.first()) {
            (Some(initial), _) => (initial, 0),
            (None, Some(first)) => (first.clone(), 1),
            (None, None) => {
                return Err(Error::at(column, "reduce of an empty array needs a first value as third argument"));
            }
        };
        for index in start..array.items.len() {
            if let Some(scope) = self.scopes.last_mut() {
                scope.accumulator = result;
            }
            result = self.element(array, closure, index)?;
        }
        Ok(result)
    }

    fn sum(&mut self, column: u32, array: &Array, closure: Option<NodeId>) -> Evaluated {
        let mut total = Value::Int(0);
        for index in 0..array.items.len() {
            let value = self.element(array, closure, index)?;
            total = value::arithmetic(Binary::Add, &value, &total).map_err(|message| Error::at(column, message))?;
        }
        Ok(total)
    }

    /// Evaluates `map` and `filter`.
    fn select(&mut self, column: u32, each: Each, array: &Array, closure: Option<NodeId>) -> Evaluated {
        let mut items = Vec::new();
        for (index, item) in array.items.iter().enumerate() {
            if each == Each::Map {
                items.push(self.element(array, closure, index)?);
            } else if self.is_chosen(column, array, closure, index)? {
                items.push(item.clone());
            }
        }
        Value::array(items).map_err(|message| Error::at(column, message))
    }

    /// Evaluates the functions whose result depends on which elements match.
    fn search(&mut self, column: u32, each: Each, array: &Array, closure: Option<NodeId>) -> Evaluated {
        let length = array.items.len();
        let from_last = matches!(each, Each::FindLast | Each::FindLastIndex);
        let mut chosen = 0;
        for step in 0..length {
            let index = if from_last { length - 1 - step } else { step };
            let is_chosen = self.is_chosen(column, array, closure, index)?;
            chosen += i64::from(is_chosen);
            match (each, is_chosen) {
                (Each::All, false) | (Each::None, true) => return Ok(Value::Bool(false)),
                (Each::Any, true) => return Ok(Value::Bool(true)),
                (Each::Find | Each::FindLast, true) => {
                    return Ok(array.items.get(index).cloned().unwrap_or(Value::Nil));
                }
                (Each::FindIndex | Each::FindLastIndex, true) => {
                    return Ok(Value::Int(i64::try_from(index).unwrap_or(i64::MAX)));
                }
                _ => {}
            }
        }
        Ok(match each {
            Each::All | Each::None => Value::Bool(true),
            Each::Any => Value::Bool(false),
            Each::One => Value::Bool(chosen == 1),
            Each::Count => Value::Int(chosen),
            _ => Value::Nil,
        })
    }
}

fn negated(value: &Value) -> Result<Value, String> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(value::overflow),
        Value::Float(number) => Ok(Value::Float(-number)),
        other => Err(format!("- cannot be used before {other}")),
    }
}

/// Negative positions count from the end.
fn at(array: &Value, position: &Value) -> Result<Value, String> {
    let Value::Array(array) = array else {
        return Err(format!("[…] needs an array before it, and this is {array}"));
    };
    let length = i64::try_from(array.items.len()).unwrap_or(i64::MAX);
    let wanted = value::whole(position)?;
    let found = if wanted < 0 { length.checked_add(wanted) } else { Some(wanted) };
    let found = found.and_then(|found| usize::try_from(found).ok()).and_then(|found| array.items.get(found));
    found.cloned().ok_or_else(|| format!("there is no element {wanted} in an array of {length}"))
}

fn mean(numbers: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most the number of steps")]
    let count = numbers.len() as f64;
    if numbers.is_empty() { 0.0 } else { numbers.iter().sum::<f64>() / count }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers[..] {
        [] => 0.0,
        _ if numbers.len() % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}
