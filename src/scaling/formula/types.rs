//! What is known of a node's value before it is evaluated, so that most mistakes are found when the formula is written.
//! Follows expr's own checker, which accepts what may turn out to be valid.

use std::fmt;

use super::builtin::{Each, Function};
use super::operator::Binary;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    /// Known only at evaluation.
    Any,
    Nil,
    Bool,
    Int,
    Float,
    /// With the type of its elements.
    Array(Box<Type>),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any value",
            Self::Nil => "nil",
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Array(_) => "an array",
        })
    }
}

impl Type {
    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Float)
    }

    fn may_be_number(&self) -> bool {
        self.is_number() || *self == Self::Any
    }

    pub(super) fn may_be_bool(&self) -> bool {
        matches!(self, Self::Bool | Self::Any)
    }

    pub(super) fn may_be_array(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Any)
    }

    pub(super) fn element(&self) -> Self {
        match self {
            Self::Array(element) => (**element).clone(),
            _ => Self::Any,
        }
    }

    pub(super) fn array_of(elements: &[Self]) -> Self {
        let same_kind = |pair: &[Self]| std::mem::discriminant(&pair[0]) == std::mem::discriminant(&pair[1]);
        let element = match elements.last() {
            Some(last) if elements.windows(2).all(same_kind) => last.clone(),
            _ => Self::Any,
        };
        Self::Array(Box::new(element))
    }

    /// The type of `if`, `? :` and, if the first operand is never nil, `??`.
    pub(super) fn either(yes: &Self, no: &Self) -> Self {
        match (yes, no) {
            (Self::Nil, other) | (other, Self::Nil) => other.clone(),
            (yes, no) if yes == no => yes.clone(),
            (Self::Array(_), Self::Array(_)) => Self::Array(Box::new(Self::Any)),
            _ => Self::Any,
        }
    }

    fn is_comparable(&self, other: &Self) -> bool {
        matches!(self, Self::Any | Self::Nil)
            || matches!(other, Self::Any | Self::Nil)
            || (self.is_number() && other.is_number())
            || std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

pub(super) fn not(of: &Type) -> Result<Type, String> {
    if of.may_be_bool() { Ok(Type::Bool) } else { Err(format!("! needs true or false, and this is {of}")) }
}

pub(super) fn sign(symbol: &str, of: &Type) -> Result<Type, String> {
    if of.may_be_number() { Ok(of.clone()) } else { Err(format!("{symbol} needs a number, and this is {of}")) }
}

pub(super) fn binary(operator: Binary, left: &Type, right: &Type) -> Result<Type, String> {
    let number = || match (left, right) {
        (Type::Any, _) | (_, Type::Any) => Type::Any,
        (Type::Int, Type::Int) => Type::Int,
        _ => Type::Float,
    };
    let are_numbers = left.may_be_number() && right.may_be_number();
    let may_be_int = |of: &Type| matches!(of, Type::Int | Type::Any);
    let found = match operator {
        Binary::Or | Binary::And => (left.may_be_bool() && right.may_be_bool()).then_some(Type::Bool),
        Binary::Equal | Binary::NotEqual => left.is_comparable(right).then_some(Type::Bool),
        Binary::Less | Binary::More | Binary::LessOrEqual | Binary::MoreOrEqual => are_numbers.then_some(Type::Bool),
        Binary::Add | Binary::Subtract | Binary::Multiply => are_numbers.then(number),
        Binary::Divide | Binary::Power => are_numbers.then_some(Type::Float),
        Binary::Modulo => (may_be_int(left) && may_be_int(right)).then_some(Type::Int),
        Binary::Range => (may_be_int(left) && may_be_int(right)).then(|| Type::array_of(&[Type::Int])),
        Binary::In => (right.may_be_array() && left.is_comparable(&right.element())).then_some(Type::Bool),
        Binary::Coalesce => Some(Type::either(left, right)),
    };
    found.ok_or_else(|| {
        let symbol = operator.symbol();
        match operator {
            Binary::Modulo | Binary::Range => {
                format!("{symbol} needs whole numbers, and gets {left} and {right}: write int(…) around them")
            }
            _ => format!("{symbol} cannot be used between {left} and {right}"),
        }
    })
}

pub(super) fn at(array: &Type, position: &Type) -> Result<Type, String> {
    if !array.may_be_array() {
        return Err(format!("[…] needs an array before it, and this is {array}"));
    }
    if !matches!(position, Type::Int | Type::Any) {
        return Err(format!("elements are selected by a whole number, and this is {position}: write int(…) around it"));
    }
    Ok(array.element())
}

/// Returns the type of a call with these arguments; an error names the wrong argument, if it is one.
pub(super) fn call(function: Function, arguments: &[Type]) -> Result<Type, (Option<usize>, String)> {
    let name = function.name();
    let takes_several = matches!(function, Function::Min | Function::Max | Function::Mean | Function::Median);
    if arguments.is_empty() || (arguments.len() > 1 && !takes_several) {
        let wanted = if takes_several { "at least one argument" } else { "one argument" };
        return Err((None, format!("{name} needs {wanted}, and gets {}", arguments.len())));
    }
    let takes = |of: &Type| match function {
        Function::Min | Function::Max | Function::Mean | Function::Median => of.may_be_number() || of.may_be_array(),
        Function::Len | Function::First | Function::Last => of.may_be_array(),
        _ => of.may_be_number(),
    };
    if let Some((position, of)) = arguments.iter().enumerate().find(|(_, of)| !takes(of)) {
        return Err((Some(position), format!("{name} cannot take {of}")));
    }
    Ok(match function {
        Function::Abs => arguments[0].clone(),
        Function::Ceil | Function::Floor | Function::Round | Function::Float => Type::Float,
        Function::Int | Function::Len => Type::Int,
        Function::First | Function::Last => arguments[0].element(),
        // For integers the result may be an integer or not.
        Function::Min | Function::Max | Function::Mean | Function::Median => Type::Any,
    })
}

pub(super) fn collection(each: Each, array: &Type) -> Result<(), String> {
    if array.may_be_array() { Ok(()) } else { Err(format!("{} needs an array, and this is {array}", each.name())) }
}

pub(super) fn closure(each: Each, of: &Type) -> Result<(), String> {
    if each.is_predicate() && !of.may_be_bool() {
        return Err(format!("{} needs a condition, and this is {of}", each.name()));
    }
    if *of == Type::Nil {
        return Err(format!("{} cannot work with nil", each.name()));
    }
    Ok(())
}

pub(super) fn for_each(each: Each, array: &Type, closure: Option<&Type>) -> Type {
    match each {
        Each::All | Each::Any | Each::None | Each::One => Type::Bool,
        Each::Count | Each::FindIndex | Each::FindLastIndex => Type::Int,
        Each::Sum => closure.cloned().unwrap_or_else(|| array.element()),
        Each::Filter => Type::Array(Box::new(array.element())),
        Each::Map => Type::Array(Box::new(closure.cloned().unwrap_or(Type::Any))),
        Each::Find | Each::FindLast => array.element(),
        Each::Reduce => closure.cloned().unwrap_or(Type::Any),
    }
}
