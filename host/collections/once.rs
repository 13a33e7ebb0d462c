//! Writes that are asked for again: a repeat gets the first answer.

use super::{Operation, Place};
use crate::store::{Labels, Once};

/// What a request asks for, in 32 bytes. Everything is told with its length, so that no two requests are the same text.
pub(super) struct Fingerprint(blake3::Hasher);

impl Fingerprint {
    /// * `rpc`: its name.
    pub(super) fn new(rpc: &str, place: &Place) -> Self {
        let mut fingerprint = Self(blake3::Hasher::new());
        fingerprint.text(rpc).text(place.namespace.as_str()).text(place.collection.as_str());
        fingerprint
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(super) fn operation(&mut self, operation: &Operation) -> &mut Self {
        match operation {
            Operation::Create { id, item, labels } => {
                let id = id.as_ref().map_or("", |id| id.as_str());
                self.text("create").text(id).text(&item.type_url).bytes(&item.bytes).labels(labels)
            }
            Operation::Update { id, item, mask, labels } => {
                self.text("update").text(id.as_str()).text(&item.type_url).bytes(&item.bytes).labels(labels);
                mask.iter().fold(self.number(mask.len() as u64), |all, path| all.text(path))
            }
            Operation::Delete { id } => self.text("delete").text(id.as_str()),
        }
    }

    /// * `key`: the caller's.
    pub(super) fn once(self, rpc: &str, key: &str) -> Once {
        Once { key: format!("{rpc}\0{key}"), fingerprint: *self.0.finalize().as_bytes() }
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64).0.update(bytes);
        self
    }

    fn labels(&mut self, labels: &Labels) -> &mut Self {
        labels.iter().fold(self.number(labels.len() as u64), |all, (key, value)| all.text(key).text(value))
    }
}

/// The same for one of the writes that a call is made of.
pub(super) fn part(once: &Once, part: usize) -> Once {
    Once { key: format!("{}\0{part}", once.key), fingerprint: once.fingerprint }
}
