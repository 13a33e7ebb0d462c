//! Records of the namespace: `collector plugin grant NAME collections=orders:write`.
//!
//! Every write is a transaction of its own: one that was made stays, even if the handler fails afterwards.
//!
//! ```no_run
//! # use collector_guest::prost;
//! # #[derive(Clone, PartialEq, prost::Message)]
//! # struct Note { #[prost(string, tag = "1")] text: String }
//! # impl prost::Name for Note { const NAME: &'static str = "Note"; const PACKAGE: &'static str = "notes.v1"; }
//! use collector_guest::collections::Collection;
//!
//! let notes = Collection::<Note>::named("notes");
//! notes.create(Some("first"), &Note { text: "hi".into() })?;
//! let (mut note, revision) = notes.get("first")?;
//! note.text.push('!');
//! notes.update("first", &note, Some(revision))?; // ABORTED if somebody else was quicker
//! for (id, note) in notes.list()?.records { /* the newest hundred */ }
//! # Ok::<_, collector_guest::Fault>(())
//! ```

use crate::{Fault, stream};
use prost::{Message, Name};
use std::marker::PhantomData;

/// A collection whose records are messages of type `T`.
#[derive(Clone, Debug)]
pub struct Collection<T> {
    name: String,
    records: PhantomData<fn() -> T>,
}

/// Some of the records.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// Ids and records, in order.
    pub records: Vec<(String, T)>,
    /// For [`Collection::list_after`]; empty: these were the last.
    pub next: String,
    /// All that there are.
    pub total: u64,
}

impl<T: Message + Name + Default> Collection<T> {
    /// The collection of this name. Nothing is asked yet.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), records: PhantomData }
    }

    /// A record and its revision.
    /// * errors: `NOT_FOUND`; of all here: `PERMISSION_DENIED` without the grant.
    pub fn get(&self, id: &str) -> Result<(T, u64), Fault> {
        let (_, bytes, revision) = node::get(&self.name, id)?;
        Ok((decode(&bytes)?, revision))
    }

    /// Makes a record; returns its id and revision.
    /// * `id`: `None`: one is made.
    /// * errors: `ALREADY_EXISTS`, `INVALID_ARGUMENT`.
    pub fn create(&self, id: Option<&str>, record: &T) -> Result<(String, u64), Fault> {
        node::create(&self.name, id, &T::type_url_of_record(), record.encode_to_vec())
    }

    /// Replaces a record; returns its new revision.
    /// * `revision`: that it must have; `None`: any.
    /// * errors: `NOT_FOUND`; `ABORTED` if it has another revision by now.
    pub fn update(&self, id: &str, record: &T, revision: Option<u64>) -> Result<u64, Fault> {
        node::update(&self.name, id, &T::type_url_of_record(), record.encode_to_vec(), revision)
    }

    /// Removes a record, if it is there.
    pub fn delete(&self, id: &str) -> Result<(), Fault> {
        node::delete(&self.name, id)
    }

    /// The newest hundred.
    pub fn list(&self) -> Result<Page<T>, Fault> {
        self.list_after("", 0)
    }

    /// The page after another.
    /// * `token`: [`Page::next`] of that one; empty: the first.
    /// * `size`: most records, the same for all pages; 0: 100.
    pub fn list_after(&self, token: &str, size: u32) -> Result<Page<T>, Fault> {
        let (found, next, total) = node::list(&self.name, size, token)?;
        Ok(Page { records: decode_all(found)?, next, total })
    }

    /// The best records for a text: words, `AND`, `OR`, `NOT`, `"a phrase"`, `begin*`.
    /// * `limit`: most records; 0: 100.
    pub fn search(&self, text: &str, limit: u32) -> Result<Vec<(String, T)>, Fault> {
        decode_all(node::search(&self.name, text, limit)?)
    }
}

trait Typed: Name {
    fn type_url_of_record() -> String {
        ["type.googleapis.com/", &Self::full_name()].concat()
    }
}

impl<T: Name> Typed for T {}

fn decode<T: Message + Name + Default>(bytes: &[u8]) -> Result<T, Fault> {
    stream::decode("the record", &T::full_name(), bytes)
}

fn decode_all<T: Message + Name + Default>(found: Vec<Raw>) -> Result<Vec<(String, T)>, Fault> {
    found.into_iter().map(|(id, bytes, _)| Ok((id, decode(&bytes)?))).collect()
}

/// Id, bytes, revision.
type Raw = (String, Vec<u8>, u64);

#[cfg(target_family = "wasm")]
mod node {
    use super::{Fault, Raw};
    use crate::component::bindings::collector::plugin::collections as wit;

    fn raw(entry: wit::Entry) -> Raw {
        (entry.id, entry.item.value, entry.revision)
    }

    fn item(type_url: &str, value: Vec<u8>) -> wit::Item {
        wit::Item { type_url: type_url.to_owned(), value }
    }

    pub(super) fn get(name: &str, id: &str) -> Result<Raw, Fault> {
        Ok(raw(wit::get(name, id)?))
    }

    pub(super) fn create(name: &str, id: Option<&str>, type_url: &str, value: Vec<u8>) -> Result<(String, u64), Fault> {
        Ok(wit::create(name, id, &item(type_url, value), &[])?)
    }

    pub(super) fn update(
        name: &str,
        id: &str,
        type_url: &str,
        value: Vec<u8>,
        revision: Option<u64>,
    ) -> Result<u64, Fault> {
        Ok(wit::update(name, id, &item(type_url, value), &[], revision)?)
    }

    pub(super) fn delete(name: &str, id: &str) -> Result<(), Fault> {
        Ok(wit::delete(name, id, None)?)
    }

    pub(super) fn list(name: &str, size: u32, token: &str) -> Result<(Vec<Raw>, String, u64), Fault> {
        let page = wit::list(name, &[], "", size, token)?;
        Ok((page.entries.into_iter().map(raw).collect(), page.next, page.total))
    }

    pub(super) fn search(name: &str, text: &str, limit: u32) -> Result<Vec<Raw>, Fault> {
        Ok(wit::search(name, text, &[], "", limit)?.into_iter().map(raw).collect())
    }
}

#[cfg(not(target_family = "wasm"))]
mod node {
    use super::{Fault, Raw};

    fn nowhere<T>(name: &str) -> Result<T, Fault> {
        Err(crate::not_on_a_node(&["the collection ", name].concat()))
    }

    pub(super) fn get(name: &str, _: &str) -> Result<Raw, Fault> {
        nowhere(name)
    }

    pub(super) fn create(name: &str, _: Option<&str>, _: &str, _: Vec<u8>) -> Result<(String, u64), Fault> {
        nowhere(name)
    }

    pub(super) fn update(name: &str, _: &str, _: &str, _: Vec<u8>, _: Option<u64>) -> Result<u64, Fault> {
        nowhere(name)
    }

    pub(super) fn delete(name: &str, _: &str) -> Result<(), Fault> {
        nowhere(name)
    }

    pub(super) fn list(name: &str, _: u32, _: &str) -> Result<(Vec<Raw>, String, u64), Fault> {
        nowhere(name)
    }

    pub(super) fn search(name: &str, _: &str, _: u32) -> Result<Vec<Raw>, Fault> {
        nowhere(name)
    }
}
