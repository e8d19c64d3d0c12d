//! The functions of the language.

/// A function of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Ceil,
    Floor,
    Round,
    Int,
    Float,
    Min,
    Max,
    Mean,
    Median,
    Len,
    First,
    Last,
}

impl Function {
    const NAMES: [(&'static str, Self); 13] = [
        ("abs", Self::Abs),
        ("ceil", Self::Ceil),
        ("floor", Self::Floor),
        ("round", Self::Round),
        ("int", Self::Int),
        ("float", Self::Float),
        ("min", Self::Min),
        ("max", Self::Max),
        ("mean", Self::Mean),
        ("median", Self::Median),
        ("len", Self::Len),
        ("first", Self::First),
        ("last", Self::Last),
    ];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// A function over the elements of an array, usually with a closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    All,
    Any,
    None,
    One,
    Count,
    Sum,
    Filter,
    Map,
    Find,
    FindIndex,
    FindLast,
    FindLastIndex,
    Reduce,
}

impl Each {
    const NAMES: [(&'static str, Self); 13] = [
        ("all", Self::All),
        ("any", Self::Any),
        ("none", Self::None),
        ("one", Self::One),
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("filter", Self::Filter),
        ("map", Self::Map),
        ("find", Self::Find),
        ("findIndex", Self::FindIndex),
        ("findLast", Self::FindLast),
        ("findLastIndex", Self::FindLastIndex),
        ("reduce", Self::Reduce),
    ];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, each)| *each)
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    pub(super) fn needs_closure(self) -> bool {
        !matches!(self, Self::Count | Self::Sum)
    }

    /// Returns true if the closure returns a boolean.
    pub(super) fn is_predicate(self) -> bool {
        !matches!(self, Self::Sum | Self::Map | Self::Reduce)
    }

    pub(super) fn has_index(self) -> bool {
        matches!(self, Self::Map | Self::Reduce)
    }
}

/// Returns the names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let values = Function::NAMES.iter().map(|(name, _)| *name);
    values.chain(Each::NAMES.iter().map(|(name, _)| *name))
}

pub(super) fn is_function(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Functions of expr 1.17 that formulas do not have, with what they work on.
pub(super) const NOT_SUPPORTED: [(&str, &str); 45] = [
    ("bitand", "bits"),
    ("bitnand", "bits"),
    ("bitnot", "bits"),
    ("bitor", "bits"),
    ("bitshl", "bits"),
    ("bitshr", "bits"),
    ("bitushr", "bits"),
    ("bitxor", "bits"),
    ("concat", "joining of arrays"),
    ("date", "dates and times"),
    ("duration", "dates and times"),
    ("flatten", "arrays within arrays"),
    ("fromBase64", "text"),
    ("fromJSON", "text"),
    ("fromPairs", "maps"),
    ("get", "maps"),
    ("groupBy", "maps"),
    ("hasPrefix", "text"),
    ("hasSuffix", "text"),
    ("indexOf", "text"),
    ("join", "text"),
    ("keys", "maps"),
    ("lastIndexOf", "text"),
    ("lower", "text"),
    ("now", "dates and times"),
    ("repeat", "text"),
    ("replace", "text"),
    ("reverse", "order of arrays"),
    ("sort", "order of arrays"),
    ("sortBy", "order of arrays"),
    ("split", "text"),
    ("splitAfter", "text"),
    ("string", "text"),
    ("take", "slices of arrays"),
    ("timezone", "dates and times"),
    ("toBase64", "text"),
    ("toJSON", "text"),
    ("toPairs", "maps"),
    ("trim", "text"),
    ("trimPrefix", "text"),
    ("trimSuffix", "text"),
    ("type", "types"),
    ("uniq", "comparing of elements"),
    ("upper", "text"),
    ("values", "maps"),
];
