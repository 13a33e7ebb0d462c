//! Lists in the configuration.

use serde::de::value::{SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a list, or a text with commas: flags and environment variables know no lists.
///
/// * errors: name the entry that does not fit.
pub fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(reader: D) -> Result<Vec<T>, D::Error> {
    struct Written<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Written<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, or a text with commas")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            let entries = text.split(',').map(str::trim).filter(|one| !one.is_empty());
            entries.map(|one| T::deserialize(StrDeserializer::new(one))).collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(entries))
        }
    }

    reader.deserialize_any(Written(PhantomData))
}
