//! The operators between two values.

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
    /// The operator, its precedence, and whether it is right-associative: as in expr.
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

    /// Returns the operator with its precedence, and whether it is right-associative.
    pub(super) fn from_symbol(symbol: &str) -> Option<(Self, u16, bool)> {
        let (_, binary, precedence, from_right) = Self::TABLE.iter().find(|(known, ..)| *known == symbol)?;
        Some((*binary, *precedence, *from_right))
    }

    pub(super) fn symbol(self) -> &'static str {
        Self::TABLE.iter().find(|(_, known, ..)| *known == self).map_or("", |(symbol, ..)| symbol)
    }

    /// Returns true for operators that chain: `1 < a < 3`.
    pub(super) fn is_comparison(self) -> bool {
        matches!(self, Self::Less | Self::More | Self::LessOrEqual | Self::MoreOrEqual)
    }
}
