//! The tree of a formula. Nodes are in one list, operands before their operators, so that neither dropping nor cloning
//! a deep tree recurses.

use super::builtin::{Each, Function};
use super::operator::Binary;
use super::types::Type;

/// Position in the list of nodes.
pub(super) type NodeId = usize;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// Column at which its errors are reported, from 1.
    pub(super) column: u32,
    pub(super) of: Type,
    /// Nodes on the longest path down from here, including this one.
    pub(super) height: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum NodeKind {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Position among the formula's names.
    Variable(usize),
    /// Position among the enclosing `let`s, outermost first.
    Local(usize),
    /// `#`, `#acc` and `#index` of the innermost closure.
    Element,
    Accumulator,
    Index,
    Array(Vec<NodeId>),
    Not(NodeId),
    Minus(NodeId),
    /// Requires a number and returns it unchanged.
    Plus(NodeId),
    Binary(Binary, NodeId, NodeId),
    Conditional {
        condition: NodeId,
        yes: NodeId,
        no: NodeId,
    },
    At {
        array: NodeId,
        position: NodeId,
    },
    Let {
        value: NodeId,
        body: NodeId,
    },
    /// Evaluates all; the value is that of the last one.
    Sequence(Vec<NodeId>),
    Call(Function, Vec<NodeId>),
    ForEach {
        each: Each,
        array: NodeId,
        closure: Option<NodeId>,
        /// The initial `#acc` of `reduce`.
        initial: Option<NodeId>,
    },
}

impl NodeKind {
    pub(super) fn parts(&self) -> Vec<NodeId> {
        match self {
            Self::Nil
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Variable(_)
            | Self::Local(_)
            | Self::Element
            | Self::Accumulator
            | Self::Index => Vec::new(),
            Self::Array(parts) | Self::Sequence(parts) | Self::Call(_, parts) => parts.clone(),
            Self::Not(part) | Self::Minus(part) | Self::Plus(part) => vec![*part],
            Self::Binary(_, left, right) => vec![*left, *right],
            Self::Conditional { condition, yes, no } => vec![*condition, *yes, *no],
            Self::At { array, position } => vec![*array, *position],
            Self::Let { value, body } => vec![*value, *body],
            Self::ForEach { array, closure, initial, .. } => {
                [Some(*array), *closure, *initial].into_iter().flatten().collect()
            }
        }
    }
}
