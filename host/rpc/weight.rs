//! How much memory a request takes once it is decoded: two bytes on the wire may become hundreds.

use super::pb;
use crate::registry::{Input, MOST_NESTED, Problem, skip_unknown};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Requests up to this size are not weighed. 64 KiB: nothing in it grows to more than some twelve MiB.
const UNWEIGHED: usize = 64 << 10;
/// Most that a request may weigh, what are bytes in it not counted. 32 MiB: with what a list that grows takes in passing,
/// and with the request itself, it stays below 64 MiB; a batch of 1,000 updates, each with 64 labels and 100 paths, has
/// room.
const WEIGHT_MAX: usize = 32 << 20;
/// Of a message: more than any of ours takes in a list.
const MESSAGE: usize = 512;
/// Of a `google.protobuf.Value`, in a list that grows.
const VALUE: usize = 128;
/// Of a `google.protobuf.Struct`: a tree of one member has room for eleven.
const STRUCT: usize = 1_024;
/// Of a map's entry, beside its key and its value.
const ENTRY: usize = 64;
/// Of a text or of bytes, beside what is in it.
const TEXT: usize = 64;
/// Of a number.
const NUMBER: usize = 16;

/// What our services take, by full name. Replies are not weighed: whoever asks a node trusts it.
static REQUESTS: LazyLock<HashMap<String, MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|method| (method.input().full_name().to_owned(), method.input())).collect()
});

/// Whether a message takes more memory than a request may. Reads no further than it has to; bytes that are no message are
/// not judged here.
///
/// * `name`: full name of its type.
pub(super) fn is_too_heavy(name: &str, bytes: &[u8]) -> bool {
    if bytes.len() <= UNWEIGHED {
        return false;
    }
    let Some(message) = REQUESTS.get(name) else { return false };
    let mut scale = Scale { room: WEIGHT_MAX };
    matches!(scale.message(message, bytes, MOST_NESTED), Err(Stop::Heavy))
}

enum Stop {
    Heavy,
    /// The decoder says what is wrong.
    Malformed,
}

impl From<Problem> for Stop {
    fn from(_: Problem) -> Self {
        Self::Malformed
    }
}

struct Scale {
    room: usize,
}

impl Scale {
    fn take(&mut self, weight: usize) -> Result<(), Stop> {
        self.room = self.room.checked_sub(weight).ok_or(Stop::Heavy)?;
        Ok(())
    }

    fn message(&mut self, message: &MessageDescriptor, bytes: &[u8], left: u32) -> Result<(), Stop> {
        let left = left.checked_sub(1).ok_or(Stop::Malformed)?;
        let mut input = Input(bytes);
        while !input.0.is_empty() {
            let (number, wire) = input.key()?;
            match (message.get_field(number), wire) {
                (Some(field), 2) => self.run(&field, input.run()?, left)?,
                (Some(_), 0 | 1 | 5) => {
                    self.take(NUMBER)?;
                    skip_unknown(number, wire, &mut input, left)?;
                }
                // Unknown fields are skipped, and take nothing.
                _ => skip_unknown(number, wire, &mut input, left)?,
            }
        }
        Ok(())
    }

    fn run(&mut self, field: &FieldDescriptor, run: &[u8], left: u32) -> Result<(), Stop> {
        match field.kind() {
            Kind::String | Kind::Bytes => self.take(TEXT),
            Kind::Message(inside) => {
                let (weight, kept) = match inside.full_name() {
                    // Kept as they come.
                    "google.protobuf.FileDescriptorProto" | "google.protobuf.ServiceDescriptorProto" => (MESSAGE, true),
                    "google.protobuf.Struct" => (STRUCT, false),
                    "google.protobuf.Value" => (VALUE, false),
                    _ if inside.is_map_entry() => (ENTRY, false),
                    _ => (MESSAGE, false),
                };
                self.take(weight)?;
                if kept { Ok(()) } else { self.message(&inside, run, left) }
            }
            // Packed: each of its numbers has at least a byte.
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 | Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
                self.take(run.len())
            }
            _ => self.take(run.len().saturating_mul(NUMBER)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::{Message as _, Name as _};
    use std::collections::HashMap;

    fn heavy<T: prost::Message + prost::Name>(message: &T) -> bool {
        let bytes = message.encode_to_vec();
        assert!((UNWEIGHED..=4 << 20).contains(&bytes.len()), "{} bytes", bytes.len());
        is_too_heavy(&T::full_name(), &bytes)
    }

    #[test]
    fn p02_two_million_empty_messages_are_too_heavy_and_so_are_a_million_equal_keys() {
        let name = pb::BatchRequest::full_name();
        assert!(is_too_heavy(&name, &[0x1a, 0].repeat(2 << 20)), "operations");
        // operations { create { labels {} labels {} .. } }
        let labels = [&[0x2a, 0][..]].concat().repeat(1 << 20);
        let labels = pb::CreateRequest::default().encode_to_vec().into_iter().chain(labels).collect::<Vec<_>>();
        let run = |number, content: &Vec<u8>| {
            let mut out = Vec::new();
            prost::encoding::bytes::encode(number, content, &mut out);
            out
        };
        let inside = run(3, &run(1, &labels));
        assert!(is_too_heavy(&name, &inside), "labels of one operation");
        let structs = run(3, &run(1, &run(2, &run(6, &[0x0a, 2, 0x2a, 0].repeat(700_000)))));
        assert!(is_too_heavy(&pb::ListRequest::full_name(), &structs), "objects in a list of a filter");
        assert!(is_too_heavy(&pb::UpdateRequest::full_name(), &[0x2a, 0].repeat(2 << 20)), "paths or labels");
    }

    #[test]
    fn what_is_allowed_is_not_too_heavy() {
        let labels: HashMap<String, String> = (0..64).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        let update = pb::UpdateRequest {
            id: "r".into(),
            item: Some(prost_types::Any::default()),
            update_mask: vec!["a".to_owned(); 100],
            labels,
            ..Default::default()
        };
        let operation = pb::RequestOp { operation: Some(pb::request_op::Operation::Update(update)) };
        assert!(!heavy(&pb::BatchRequest { operations: vec![operation; 1_000], ..Default::default() }));
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(1.0)) };
        let values = prost_types::ListValue { values: vec![value; 1_000] };
        let values = prost_types::Value { kind: Some(prost_types::value::Kind::ListValue(values)) };
        let filter = pb::Filter { operator: pb::FilterOperator::OpIn.into(), value: Some(values) };
        let filters = (0..64).map(|n| (format!("f{n}"), filter.clone())).collect();
        assert!(!heavy(&pb::SearchRequest { filters, vector: vec![0.5; 4_096], ..Default::default() }));
        let ids = vec!["i".repeat(1_024); 1_000];
        assert!(!heavy(&pb::InvokeRequest { item_ids: ids, ..Default::default() }));
        let item = prost_types::Any { type_url: String::new(), value: vec![0; 3 << 20] };
        assert!(!heavy(&pb::CreateRequest { item: Some(item), ..Default::default() }), "bytes are bytes");
    }

    #[test]
    fn what_nobody_knows_weighs_nothing() {
        let unknown = [0xf8, 0x3f, 0].repeat(1 << 20);
        assert!(!is_too_heavy(&pb::BatchRequest::full_name(), &unknown));
        assert!(!is_too_heavy(&pb::BatchRequest::full_name(), &[0xff].repeat(1 << 20)), "the decoder says what it is");
    }
}
