//! SQLite's binary JSON, read in place. Source: "The JSONB Format", sqlite.org/jsonb.html.
//!
//! What is damaged reads as if it ended there; nothing is assumed of the bytes.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A value of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    kind: u8,
    content: &'a [u8],
}

/// A value that can be compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain<'a> {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Real(f64),
    /// Text.
    Text(Cow<'a, str>),
}

/// Of one kind are those that a filter may compare where nobody declared a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// True and false.
    Bool,
    /// Numbers.
    Number,
    /// Text.
    Text,
}

const NULL: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 5;
const TEXT: u8 = 7;
/// Text with JSON's escapes.
const TEXT_ESCAPED: u8 = 8;
/// Text as it is, which JSON would have to escape.
const TEXT_RAW: u8 = 10;
const ARRAY: u8 = 11;
const OBJECT: u8 = 12;

impl<'a> Value<'a> {
    /// The value at the beginning of some bytes.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        Values(bytes).next()
    }

    /// Whether it is null.
    pub(super) fn is_null(self) -> bool {
        self.kind == NULL
    }

    /// Whether it is an array.
    pub(super) fn is_array(self) -> bool {
        self.kind == ARRAY
    }

    /// Elements of an array; nothing else has any.
    pub(super) fn elements(self) -> impl Iterator<Item = Value<'a>> {
        Values(if self.kind == ARRAY { self.content } else { &[] })
    }

    /// Names and values of an object; nothing else has any.
    fn members(self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        let mut values = Values(if self.kind == OBJECT { self.content } else { &[] });
        std::iter::from_fn(move || Some((values.next()?, values.next()?)))
    }

    /// Values of an object; nothing else has any.
    pub(super) fn values(self) -> impl Iterator<Item = Value<'a>> {
        self.members().map(|(_, value)| value)
    }

    /// The member of an object.
    pub(super) fn member(self, name: &str) -> Option<Value<'a>> {
        self.members().find(|(label, _)| label.reads(name)).map(|(_, value)| value)
    }

    fn reads(self, name: &str) -> bool {
        if self.kind == TEXT { self.content == name.as_bytes() } else { self.text().is_some_and(|text| text == name) }
    }

    fn text(self) -> Option<Cow<'a, str>> {
        let raw = std::str::from_utf8(self.content).ok()?;
        match self.kind {
            TEXT | TEXT_RAW => Some(Cow::Borrowed(raw)),
            TEXT_ESCAPED => serde_json::from_str(&format!("\"{raw}\"")).ok().map(Cow::Owned),
            _ => None,
        }
    }

    /// What it is, if it can be compared: not null, no array and no object.
    pub(super) fn plain(self) -> Option<Plain<'a>> {
        let number = || std::str::from_utf8(self.content).ok();
        match self.kind {
            TRUE => Some(Plain::Bool(true)),
            FALSE => Some(Plain::Bool(false)),
            INT => number()?.parse().map(Plain::Int).or_else(|_| number().unwrap_or("").parse().map(Plain::Real)).ok(),
            FLOAT => number()?.parse().map(Plain::Real).ok(),
            _ => self.text().map(Plain::Text),
        }
    }
}

/// Values, one after another.
struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (&first, rest) = self.0.split_first()?;
        let inline = usize::from(first >> 4);
        let width = match inline {
            12 => 1,
            13 => 2,
            14 => 4,
            15 => 8,
            _ => 0,
        };
        let (size, rest) = rest.split_at_checked(width)?;
        let size = if width == 0 {
            inline
        } else {
            let size = size.iter().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
            usize::try_from(size).ok()?
        };
        let (content, rest) = rest.split_at_checked(size)?;
        self.0 = rest;
        Some(Value { kind: first & 0x0F, content })
    }
}

impl Plain<'_> {
    /// Which others it may be compared with where nobody declared a type.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) | Self::Real(_) => Kind::Number,
            Self::Text(_) => Kind::Text,
        }
    }

    /// As the database orders values: true is 1, numbers are below text, text by bytes. NaN is equal to everything, but
    /// no document holds one.
    pub(super) fn order(&self, other: &Plain<'_>) -> Ordering {
        match (self.number(), other.number()) {
            (Some(mine), Some(other)) => mine.order(other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => match (self, other) {
                (Self::Text(mine), Plain::Text(other)) => mine.as_bytes().cmp(other.as_bytes()),
                _ => Ordering::Equal,
            },
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Bool(value) => Some(Number::Int(i64::from(*value))),
            Self::Int(value) => Some(Number::Int(*value)),
            Self::Real(value) => Some(Number::Real(*value)),
            Self::Text(_) => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Real(f64),
}

impl Number {
    fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(mine), Self::Int(other)) => mine.cmp(&other),
            (Self::Real(mine), Self::Real(other)) => mine.partial_cmp(&other).unwrap_or(Ordering::Equal),
            (Self::Int(mine), Self::Real(other)) => exact(mine, other),
            (Self::Real(mine), Self::Int(other)) => exact(other, mine).reverse(),
        }
    }
}

/// Without rounding the whole number, as 2^53 + 1 would be.
#[allow(clippy::cast_possible_truncation, reason = "checked to be within the range, and whole")]
fn exact(whole: i64, real: f64) -> Ordering {
    /// 2^63: the first number above all whole ones.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if real >= END {
        Ordering::Less
    } else if real < -END {
        Ordering::Greater
    } else {
        let below = real.floor();
        whole.cmp(&(below as i64)).then(if real > below { Ordering::Less } else { Ordering::Equal })
    }
}
