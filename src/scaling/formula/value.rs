//! Values during the evaluation of a formula, and expr's arithmetic over them: integers stay integers under `+ - *`,
//! `/` and `**` yield fractions, nil is not a number.
//!
//! Where expr silently yields garbage, on overflow, these are errors.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use super::operator::Binary;

#[derive(Clone, Debug)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Array(Rc<Array>),
}

#[derive(Debug)]
pub(super) struct Array {
    pub(super) items: Vec<Value>,
    /// Levels of nested arrays, including this one, which bounds the recursion over them.
    depth: usize,
}

/// Levels of nested arrays.
const DEPTH_MAX: usize = 32;

impl Value {
    /// # Errors
    /// If arrays are nested too deeply.
    pub(super) fn array(items: Vec<Self>) -> Result<Self, String> {
        let below = items.iter().map(|item| match item {
            Self::Array(array) => array.depth,
            _ => 0,
        });
        let depth = below.max().unwrap_or(0) + 1;
        if depth > DEPTH_MAX {
            return Err(format!("arrays stand in each other more than {DEPTH_MAX} deep"));
        }
        Ok(Self::Array(Rc::new(Array { items, depth })))
    }

    /// Returns the number, integer or not.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "as expr does")]
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }
}

/// For messages: a number itself, any other value as its type.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(_) | Self::Float(_) => f.write_str("a number"),
            Self::Array(_) => f.write_str("an array"),
        }
    }
}

/// Compares any two values; numbers by value, arrays by their elements. `spend` is called for each element that is
/// compared.
pub(super) fn equal(
    left: &Value,
    right: &Value,
    spend: &mut dyn FnMut(usize) -> Result<(), String>,
) -> Result<bool, String> {
    Ok(match (left, right) {
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (Value::Array(left), Value::Array(right)) => {
            if left.items.len() != right.items.len() {
                return Ok(false);
            }
            spend(left.items.len())?;
            for (left, right) in left.items.iter().zip(&right.items) {
                if !equal(left, right, spend)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => matches!((left.number(), right.number()), (Some(left), Some(right)) if left == right),
    })
}

pub(super) fn compare(operator: Binary, left: &Value, right: &Value) -> Result<bool, String> {
    let order = match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => return Err(misused(operator, left, right)),
        },
    };
    // Without an order one operand is NaN, and every comparison is false.
    Ok(order.is_some_and(|order| match operator {
        Binary::Less => order == Ordering::Less,
        Binary::More => order == Ordering::Greater,
        Binary::LessOrEqual => order != Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

pub(super) fn arithmetic(operator: Binary, left: &Value, right: &Value) -> Result<Value, String> {
    if let (Value::Int(a), Value::Int(b)) = (left, right) {
        let whole = match operator {
            Binary::Add => a.checked_add(*b),
            Binary::Subtract => a.checked_sub(*b),
            Binary::Multiply => a.checked_mul(*b),
            Binary::Modulo if *b == 0 => return Err("the right side of % is zero".to_owned()),
            Binary::Modulo => Some(a.wrapping_rem(*b)),
            _ => return fraction(operator, left, right),
        };
        return whole.map(Value::Int).ok_or_else(overflow);
    }
    fraction(operator, left, right)
}

fn fraction(operator: Binary, left: &Value, right: &Value) -> Result<Value, String> {
    let (Some(a), Some(b)) = (left.number(), right.number()) else {
        return Err(misused(operator, left, right));
    };
    Ok(Value::Float(match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::Power => a.powf(b),
        _ => return Err(format!("{} needs whole numbers: write int(…) around them", operator.symbol())),
    }))
}

/// Returns the integer part.
pub(super) fn whole(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(*number),
        // 2^63 is the first number that does not fit; -2^63 fits.
        #[expect(clippy::cast_possible_truncation, reason = "in range, and cut on purpose")]
        Value::Float(number) if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(number) => {
            Ok(*number as i64)
        }
        Value::Float(number) => Err(format!("int cannot take {number:e}: it does not fit a whole number")),
        other => Err(format!("int cannot take {other}")),
    }
}

pub(super) fn overflow() -> String {
    "a whole number becomes too large".to_owned()
}

fn misused(operator: Binary, left: &Value, right: &Value) -> String {
    format!("{} cannot be used between {left} and {right}", operator.symbol())
}
