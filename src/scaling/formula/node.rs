//! The tree of a formula. Nodes stand in one list, parts before the whole, so that neither dropping
//! nor cloning a deep tree recurses.

use super::builtin::{Each, Function};
use super::types::Type;

/// Position in the list of nodes.
pub(super) type NodeId = usize;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// Where an error in it is shown, from 1.
    pub(super) column: u32,
    pub(super) of: Type,
    /// Nodes on the longest way down from here, this one included.
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
    /// Position among the `let`s around it, outermost first.
    Local(usize),
    /// `#`, `#acc` and `#index` of the innermost closure.
    Element,
    Accumulator,
    Index,
    Array(Vec<NodeId>),
    Not(NodeId),
    Minus(NodeId),
    /// Requires a number and changes nothing.
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
    /// All are evaluated, the last one counts.
    Sequence(Vec<NodeId>),
    Call(Function, Vec<NodeId>),
    ForEach {
        each: Each,
        array: NodeId,
        closure: Option<NodeId>,
        /// First `#acc` of `reduce`.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    More,
    LessOrEqual,
    MoreOrEqual,
    In,
    Range,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Coalesce,
}

impl Binary {
    /// The operator, how tightly it binds, and whether it groups from the right: as in expr.
    const TABLE: [(&'static str, Self, u16, bool); 20] = [
        ("or", Self::Or, 10, false),
        ("||", Self::Or, 10, false),
        ("and", Self::And, 15, false),
        ("&&", Self::And, 15, false),
        ("==", Self::Equal, 20, false),
        ("!=", Self::NotEqual, 20, false),
        ("<", Self::Less, 20, false),
        (">", Self::More, 20, false),
        ("<=", Self::LessOrEqual, 20, false),
        (">=", Self::MoreOrEqual, 20, false),
        ("in", Self::In, 20, false),
        ("..", Self::Range, 25, false),
        ("+", Self::Add, 30, false),
        ("-", Self::Subtract, 30, false),
        ("*", Self::Multiply, 60, false),
        ("/", Self::Divide, 60, false),
        ("%", Self::Modulo, 60, false),
        ("**", Self::Power, 100, true),
        ("^", Self::Power, 100, true),
        ("??", Self::Coalesce, 500, false),
    ];

    /// With its precedence, and whether it groups from the right.
    pub(super) fn from_symbol(symbol: &str) -> Option<(Self, u16, bool)> {
        let (_, binary, precedence, from_right) = Self::TABLE.iter().find(|(known, ..)| *known == symbol)?;
        Some((*binary, *precedence, *from_right))
    }

    pub(super) fn symbol(self) -> &'static str {
        Self::TABLE.iter().find(|(_, known, ..)| *known == self).map_or("", |(symbol, ..)| symbol)
    }

    /// Those that chain: `1 < a < 3`.
    pub(super) fn is_comparison(self) -> bool {
        matches!(self, Self::Less | Self::More | Self::LessOrEqual | Self::MoreOrEqual)
    }
}
