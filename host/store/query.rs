//! What can be asked of a collection, in words that no database owns. Whoever builds a [`Query`] has resolved names and
//! values against the type of the records; a store only compares.

use super::Record;
use super::shape::Path;
use serde::{Deserialize, Serialize};

/// Most conditions of one query, alternatives counted. 64: the database's limit on nested expressions is 100.
pub const CONDITIONS_MAX: usize = 64;
/// Most values of one `In`. 1,000: the database's limit on variables is 2,000.
pub const IN_MAX: usize = 1_000;
/// Most keys to order by.
pub const ORDER_MAX: usize = 8;
/// Most hits of one query.
pub const HITS_MAX: usize = 1_000;
/// Most hits to skip. Whoever needs more walks by [`Position`].
pub const OFFSET_MAX: usize = 100_000;
/// Most words, phrases and prefixes of one text expression.
pub const TERMS_MAX: usize = 256;
/// Longest text expression, all phrases together, in bytes. 4 KiB: the database cuts words by rules of its own, at marks that
/// look like letters too, and each word costs memory in proportion to what it finds.
pub const TEXT_MAX: usize = 4 << 10;
/// Most numbers of a vector.
pub const DIMENSIONS_MAX: usize = 4_096;
/// Stands between two texts of a record, so that no phrase spans them. It is a word of its own, and in no text.
pub const TEXT_BREAK: char = '\u{E000}';

/// A value as documents have them. The order of a kind is its usual one; text compares by bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number. Never NaN. Written as its bits: JSON has no infinity, and pages must go on where they ended.
    #[serde(with = "bits")]
    Real(f64),
    /// Text.
    Text(String),
}

mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// Equal.
    Equal,
    /// Present and not equal.
    NotEqual,
    /// Above.
    Greater,
    /// Below.
    Less,
    /// Above or equal.
    GreaterEqual,
    /// Below or equal.
    LessEqual,
}

/// What a value has to be. Where the path is loose, a value matches only if it is of the same kind as what it is compared
/// with (bool, number or text); else the query's builder knows that it is, but for text in a field of numbers (NaN),
/// which is above every number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Test {
    /// It compares so with the value.
    Compare(Compare, Scalar),
    /// It equals one of them; never, if there are none. At most [`IN_MAX`].
    In(Vec<Scalar>),
    /// It is a text that holds this one, byte for byte.
    Substring(String),
    /// It is there, and not null.
    Present,
}

/// Alternatives. A record matches if, for one of them, one of the values that the path leads to is what it has to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// At least one.
    pub any: Vec<(Path, Test)>,
    /// Turns it round: the record matches if none of that is so.
    pub negate: bool,
}

/// What a text has to hold. Source: the grammar of FTS5's full-text queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Text {
    /// The words in this order, next to each other.
    Phrase(Phrase),
    /// All phrases, with at most so many words between the first and the last.
    Near(Vec<Phrase>, u32),
    /// Both.
    And(Box<Text>, Box<Text>),
    /// One or both.
    Or(Box<Text>, Box<Text>),
    /// The first and not the second.
    Not(Box<Text>, Box<Text>),
}

/// Words next to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phrase {
    /// Cut into words as the texts are; case and accents do not matter.
    pub words: String,
    /// Whether the last word may go on.
    pub prefix: bool,
    /// Whether it has to stand at the beginning of the record's texts.
    pub initial: bool,
}

/// What the rank of a text is worked out from, where several collections are to be compared. Source: BM25.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TextStats {
    /// Records.
    pub records: u64,
    /// Words in them.
    pub words: u64,
    /// Records that hold it, for each phrase of the expression from left to right.
    pub holding: Vec<u64>,
}

/// By what hits are ordered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The value at a single or loose path, of a text above 1 KiB its first 256 characters; absent is below everything,
    /// numbers are below text. True is 1, an array or an
    /// object is its JSON text, and nothing is there if an array is on the way.
    Field(Path),
    /// When the record was made.
    CreatedAt,
    /// When it was last changed.
    UpdatedAt,
    /// Its id, by bytes.
    Id,
    /// How well it matches: the text's rank, or the cosine if there is a vector.
    Score,
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// By what.
    pub key: Key,
    /// Highest first.
    pub descending: bool,
}

/// What is nearest to a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// 1 to [`DIMENSIONS_MAX`] finite numbers, not all of them 0. Records whose vector has another length do not match.
    pub vector: Vec<f32>,
    /// Least cosine.
    pub at_least: Option<f32>,
}

/// A question. All of it must match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// What the texts must hold.
    pub text: Option<Text>,
    /// Instead of the collection's own.
    pub stats: Option<TextStats>,
    /// What the fields must be. At most [`CONDITIONS_MAX`] alternatives together.
    pub conditions: Vec<Condition>,
    /// Labels that the record must have.
    pub labels: Vec<(String, String)>,
    /// What its vector must be near to.
    pub nearest: Option<Nearest>,
    /// At most [`ORDER_MAX`]. Ties by id, ascending; of `Score` alone, highest first, the newest first. Empty: by `Score`
    /// if there is a text or a vector, else newest first.
    pub order: Vec<Order>,
    /// Only what comes after this in the order. Not with `Score` in the order.
    pub after: Option<Position>,
    /// Hits to skip: at most [`OFFSET_MAX`].
    pub offset: usize,
    /// Most hits: at most [`HITS_MAX`]. The page ends early once it holds [`super::SCAN_BYTES`], or `bytes`.
    pub limit: usize,
    /// Bytes of records after which the page ends early, if that is less than [`super::SCAN_BYTES`]; 0: it is not.
    pub bytes: usize,
    /// Whether all matches are to be counted, those before and after this page too.
    pub total: bool,
}

/// Where in an order a hit stands. Good for the same order only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// The values of the keys; absent ones are `None`.
    pub keys: Vec<Option<Scalar>>,
    /// The record.
    pub id: String,
    /// Its place in the order of creation.
    pub sequence: i64,
}

/// A record that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The record.
    pub record: Record,
    /// The text's rank, or the cosine if there is a vector; 0 with neither.
    pub score: f64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// In order.
    pub hits: Vec<Hit>,
    /// All matches, if they were to be counted: of the same moment as the hits.
    pub total: Option<u64>,
    /// Where it goes on; `None`: this is the end. Always `None` with `Score` in the order.
    pub next: Option<Position>,
}

/// How a query would be carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The database's own words, outer loops first, without its names for our things.
    pub steps: Vec<String>,
    /// The indexes that it uses.
    pub indexes: Vec<Path>,
}
