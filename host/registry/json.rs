//! JSON to binary protobuf and back, with the types of a namespace. Source: protobuf.dev/programming-guides/json.
//!
//! Both the text and the types are strangers': texts are bounded, nesting is, and what prost-reflect makes of odd types
//! is caught.

use super::Registry;
use super::snapshot::Snapshot;
use crate::domain::one_line;
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Messages in messages that become JSON, those inside `Any` included. 100: what protobuf decoders take; prost-reflect
/// itself starts counting anew in every `Any` and would overflow its stack.
const DEPTH: usize = 100;
/// Longest text about why something does not fit.
const WHY_MAX: usize = 512;

/// Why a message did not become JSON, or a text no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The one has no form as the other.
    #[error("{0}")]
    Unfit(String),
    /// The types are so odd that nothing can be said.
    #[error("the types cannot be transcoded")]
    Types,
}

fn unfit(why: impl ToString) -> JsonError {
    JsonError::Unfit(one_line(&why.to_string(), WHY_MAX))
}

/// Binary form of a JSON text. CPU work, linear in its length; in memory up to thirty times that.
///
/// * errors: `Unfit` names the place.
pub fn from_json(kind: MessageDescriptor, text: &[u8]) -> Result<Bytes, JsonError> {
    guarded(move || {
        // serde_json keeps to 128 levels, so a text cannot overflow the stack.
        let mut reader = serde_json::Deserializer::from_slice(text);
        let message = DynamicMessage::deserialize(kind, &mut reader).map_err(unfit)?;
        reader.end().map_err(unfit)?;
        Ok(message.encode_to_vec().into())
    })
}

/// JSON text of a binary message, canonical: fields that have their default are left out. CPU work as of [`from_json`].
///
/// * `most`: bytes that the text may have.
/// * errors: `Unfit` for one that has no JSON form, or a longer one.
pub fn to_json(kind: MessageDescriptor, binary: &[u8], most: usize) -> Result<Vec<u8>, JsonError> {
    guarded(move || {
        let message = DynamicMessage::decode(kind, binary).map_err(unfit)?;
        measure(&message, DEPTH).map_err(unfit)?;
        let mut text = Bounded { text: Vec::new(), most };
        serde_json::to_writer(&mut text, &message).map_err(unfit)?;
        Ok(text.text)
    })
}

/// prost-reflect panics on some odd types; they are their namespace's trouble, not the connection's.
fn guarded<T>(work: impl FnOnce() -> Result<T, JsonError>) -> Result<T, JsonError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(JsonError::Types))
}

impl Registry {
    /// All types of the namespace and of the node. Links them when nobody has yet, in turns, off this thread.
    ///
    /// * returns: `None` if they do not link, which registration should have found.
    /// * cancel: safe; linking goes on for whoever asks next.
    pub async fn linked<'a>(&self, snapshot: &'a Arc<Snapshot>) -> Option<&'a DescriptorPool> {
        if !snapshot.is_linked() {
            let turn = Arc::clone(&self.workers).acquire_owned().await.ok()?;
            let snapshot = Arc::clone(snapshot);
            let link = move || {
                let _turn = turn; // held to the end, even when the caller has left
                snapshot.pool().is_some()
            };
            tokio::task::spawn_blocking(link).await.ok()?;
        }
        snapshot.pool()
    }
}

/// Text that stays below a bound.
struct Bounded {
    text: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.text.len().saturating_add(text.len()) > self.most {
            return Err(io::Error::other(format!("more than {} bytes of text", self.most)));
        }
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses what is nested too deeply, looking into every `Any` as the serializer will.
fn measure(message: &DynamicMessage, left: usize) -> Result<(), String> {
    let left = left.checked_sub(1).ok_or_else(|| format!("more than {DEPTH} messages in messages"))?;
    if message.descriptor().full_name() == "google.protobuf.Any" {
        let any = message.transcode_to::<prost_types::Any>().map_err(|why| why.to_string())?;
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let kind = message.descriptor().parent_pool().get_message_by_name(name);
        let kind = kind.ok_or_else(|| format!("its Any holds a {name}, which the namespace does not know"))?;
        let held = DynamicMessage::decode(kind, &*any.value).map_err(|why| why.to_string())?;
        return measure(&held, left);
    }
    message.fields().try_for_each(|(_, value)| measure_value(value, left))?;
    message.extensions().try_for_each(|(_, value)| measure_value(value, left))
}

fn measure_value(value: &Value, left: usize) -> Result<(), String> {
    match value {
        Value::Message(message) => measure(message, left),
        Value::List(values) => values.iter().try_for_each(|value| measure_value(value, left)),
        Value::Map(entries) => entries.values().try_for_each(|value| measure_value(value, left)),
        _ => Ok(()),
    }
}
