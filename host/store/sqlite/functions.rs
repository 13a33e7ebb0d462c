//! What our statements call and SQLite does not have. None of it can stand in a schema: a database file cannot make the
//! node run it.

use super::rank;
use super::select::filter::Prepared;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

/// Makes them known to a connection:
/// * `holds(document, labels, filter)`: whether a record is what a filter wants; both may be NULL.
/// * `nearness(vector, wanted)`: the cosine of two vectors, or NULL if they cannot be compared.
/// * `score(text table, weights)`: see `rank.rs`.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(c"holds", 3, flags, holds)?;
    connection.create_scalar_function(c"nearness", 2, flags, nearness)?;
    rank::register(connection)
}

fn holds(context: &Context<'_>) -> rusqlite::Result<bool> {
    // Bound to the statement: SQLite keeps what was made of it from row to row.
    let filter = context.get_or_create_aux(2, |value| Prepared::decode(value.as_str()?))?;
    let part = |at| match context.get_raw(at) {
        ValueRef::Null => Ok(None),
        value => value.as_blob().map(Some),
    };
    Ok(filter.matches(part(0)?, part(1)?))
}

fn nearness(context: &Context<'_>) -> rusqlite::Result<Option<f64>> {
    let wanted = context.get_or_create_aux(1, |value| value.as_blob().map(Wanted::new))?;
    let vector = context.get_raw(0).as_blob().map_err(|why| Error::UserFunctionError(why.into()))?;
    Ok(wanted.cosine(vector))
}

/// A vector that others are compared with.
struct Wanted {
    numbers: Vec<f32>,
    length: f64,
}

impl Wanted {
    fn new(bytes: &[u8]) -> Self {
        let (numbers, _) = bytes.as_chunks();
        let numbers = numbers.iter().copied().map(f32::from_le_bytes).collect::<Vec<_>>();
        let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
        Self { numbers, length }
    }

    /// Rounded to what an `f32` tells apart, so that a vector is as near as can be to itself.
    #[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
    fn cosine(&self, other: &[u8]) -> Option<f64> {
        let (other, rest) = other.as_chunks();
        if other.len() != self.numbers.len() || !rest.is_empty() {
            return None;
        }
        let (mut product, mut square) = (0.0_f64, 0.0_f64);
        for (mine, other) in self.numbers.iter().zip(other) {
            let other = f64::from(f32::from_le_bytes(*other));
            product += f64::from(*mine) * other;
            square += other * other;
        }
        let cosine = product / (self.length * square.sqrt());
        // NaN where one of them has no direction.
        (!cosine.is_nan()).then(|| f64::from((cosine as f32).clamp(-1.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().copied().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn vectors_are_near_to_themselves_and_to_none_of_another_length() {
        for numbers in [vec![0.1, 0.7, -3.0], vec![1e-30, 1e-38], vec![f32::MAX, f32::MAX]] {
            let wanted = Wanted::new(&bytes(&numbers));
            assert_eq!(wanted.cosine(&bytes(&numbers)), Some(1.0));
            let turned = numbers.iter().map(|number| -number).collect::<Vec<_>>();
            assert_eq!(wanted.cosine(&bytes(&turned)), Some(-1.0));
            assert_eq!(wanted.cosine(&bytes(&numbers[1..])), None);
            assert_eq!(wanted.cosine(&bytes(&vec![0.0; numbers.len()])), None);
        }
        assert_eq!(Wanted::new(&bytes(&[1.0, 0.0])).cosine(&bytes(&[0.0, 5.0])), Some(0.0));
        assert_eq!(Wanted::new(&bytes(&[1.0])).cosine(&[0, 0, 0, 0, 0]), None);
    }
}
