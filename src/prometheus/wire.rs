//! Deserialises Prometheus' JSON in one pass, keeping only what is needed.
//!
//! Pure. Tolerates values of other types than Prometheus', so that [`super::answer`] can report what is wrong; of a
//! megabyte of series, only two are kept.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON object and nothing else: derived types also accept a list of their fields.
pub(super) struct JsonObject<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = JsonObject<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
            }
        }
        deserializer.deserialize_map(Map(PhantomData))
    }
}

#[derive(Deserialize)]
pub(super) struct Body {
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) data: Option<JsonObject<Data>>,
    #[serde(default, rename = "errorType")]
    pub(super) error_type: Option<String>,
    #[serde(default)]
    pub(super) error: Option<String>,
    /// Set by VictoriaMetrics if some of its storage did not answer.
    #[serde(default, rename = "isPartial")]
    pub(super) is_partial: Flag,
    #[serde(default)]
    pub(super) warnings: Warnings,
}

/// Whether the value is `true`; anything else counts as false.
#[derive(Default)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Element::deserialize(deserializer).map(|element| Self(matches!(element, Element::Cell(Cell::True))))
    }
}

/// The first warning about the data, skipping PromQL's annotations, which come with complete answers.
#[derive(Default)]
pub(super) struct Warnings {
    pub(super) of_data: Option<String>,
}

/// Matches PromQL's annotations, and the line that summarises those beyond Prometheus' limit of ten.
fn is_remark(warning: &str) -> bool {
    warning.starts_with("PromQL info:")
        || warning.starts_with("PromQL warning:")
        || warning.ends_with("annotations omitted")
}

impl<'de> Deserialize<'de> for Warnings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Warnings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Warnings, E> {
                Ok(Warnings::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Warnings, E> {
                Ok(Warnings::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Warnings, E> {
                Ok(Warnings::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Warnings, E> {
                Ok(Warnings::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Warnings, E> {
                Ok(Warnings::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Warnings, E> {
                Ok(Warnings::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Warnings, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Warnings::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Warnings, A::Error> {
                let mut of_data = None;
                while let Some(element) = list.next_element::<Element>()? {
                    if let (None, Element::Cell(Cell::Text(text))) = (&of_data, element) {
                        of_data = Some(text).filter(|text| !is_remark(text));
                    }
                }
                Ok(Warnings { of_data })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[derive(Default, Deserialize)]
pub(super) struct Data {
    #[serde(default, rename = "resultType")]
    pub(super) result_type: Option<String>,
    #[serde(default)]
    pub(super) result: Option<Elements>,
}

/// A result list: only its first two elements and its length, so that a large answer costs little.
#[derive(Default)]
pub(super) struct Elements {
    pub(super) first: Option<Element>,
    pub(super) second: Option<Element>,
    pub(super) count: usize,
}

pub(super) enum Element {
    Series(Series),
    Cell(Cell),
}

impl Element {
    pub(super) fn into_cell(self) -> Cell {
        match self {
            Self::Cell(cell) => cell,
            Self::Series(_) => Cell::Other,
        }
    }
}

#[derive(Default)]
pub(super) struct Series {
    pub(super) value: Value,
    pub(super) values: bool,
    pub(super) histogram: bool,
}

/// `[time, "number"]`: the first two cells and the length.
#[derive(Default)]
pub(super) struct Value {
    pub(super) cells: Vec<Cell>,
    pub(super) count: usize,
}

pub(super) enum Cell {
    Null,
    Text(String),
    Number,
    True,
    Other,
}

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Elements;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Elements, A::Error> {
                let mut all = Elements { first: list.next_element()?, ..Elements::default() };
                if all.first.is_some() {
                    all.second = list.next_element()?;
                    all.count = 1 + usize::from(all.second.is_some());
                }
                if all.count == 2 {
                    while list.next_element::<IgnoredAny>()?.is_some() {
                        all.count += 1;
                    }
                }
                Ok(all)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or null")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut value = Value::default();
                while value.count < 2 {
                    let Some(element) = list.next_element::<Element>()? else { return Ok(value) };
                    value.cells.push(element.into_cell());
                    value.count += 1;
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    value.count += 1;
                }
                Ok(value)
            }
        }
        deserializer.deserialize_any(Pair)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Element;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Element, E> {
                Ok(Element::Cell(Cell::Null))
            }
            fn visit_bool<E>(self, is_true: bool) -> Result<Element, E> {
                Ok(Element::Cell(if is_true { Cell::True } else { Cell::Other }))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
                Ok(Element::Cell(Cell::Number))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
                Ok(Element::Cell(Cell::Number))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
                Ok(Element::Cell(Cell::Number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Cell(Cell::Text(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Element::Cell(Cell::Other))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
                let mut series = Series::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "value" => series.value = map.next_value()?,
                        other => {
                            series.values |= other == "values";
                            series.histogram |= other == "histogram";
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Element::Series(series))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
