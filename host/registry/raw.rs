//! Descriptors as bytes. The bytes that were registered are what counts: decoding them into structs would lose custom
//! options, so a service is put into a file by splicing.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use prost_types::ServiceDescriptorProto;

/// `FileDescriptorProto.service`. Source: google/protobuf/descriptor.proto.
const SERVICE: u32 = 6;
/// `FileDescriptorSet.file`.
const FILE: u32 = 1;

/// One service of a file.
pub(super) struct RawService {
    pub(super) proto: ServiceDescriptorProto,
    pub(super) raw: Bytes,
}

/// One top-level field: its number, all its bytes, and where it has a length, its content.
struct Field {
    number: u32,
    whole: Bytes,
    content: Bytes,
}

/// The top-level fields of a message that decodes; ends at the first byte that is none.
fn fields(raw: &Bytes) -> Vec<Field> {
    let mut left = raw.clone();
    let mut found = Vec::new();
    while !left.is_empty() {
        let before = left.clone();
        let Ok((number, wire)) = decode_key(&mut left) else { break };
        let mut content = Bytes::new();
        if wire == WireType::LengthDelimited {
            let length = decode_varint(&mut left).ok().and_then(|length| usize::try_from(length).ok());
            let Some(length) = length.filter(|length| *length <= left.len()) else { break };
            content = left.split_to(length);
        } else if skip_field(wire, number, &mut left, DecodeContext::default()).is_err() {
            break;
        }
        let whole = before.slice(..before.len() - left.len());
        found.push(Field { number, whole, content });
    }
    found
}

/// The services that a file declares, in order.
pub(super) fn services(file: &Bytes) -> Vec<RawService> {
    let declared = fields(file).into_iter().filter(|field| field.number == SERVICE);
    declared
        .filter_map(|field| {
            let proto = ServiceDescriptorProto::decode(field.content.clone()).ok()?;
            Some(RawService { proto, raw: field.content })
        })
        .collect()
}

/// The file with one more service, or with this one in the place of the one that has its name.
pub(super) fn with_service(file: &Bytes, name: &str, service: &Bytes) -> Bytes {
    let is_it = |field: &Field| {
        field.number == SERVICE
            && ServiceDescriptorProto::decode(field.content.clone()).is_ok_and(|found| found.name() == name)
    };
    let mut out = BytesMut::with_capacity(file.len() + service.len() + 8);
    let mut placed = false;
    for field in fields(file) {
        if is_it(&field) {
            if !placed {
                put(&mut out, SERVICE, service);
            }
            placed = true;
        } else {
            out.put(field.whole);
        }
    }
    if !placed {
        put(&mut out, SERVICE, service);
    }
    out.freeze()
}

/// The files of an encoded `FileDescriptorSet`, in order.
pub(super) fn files(set: &Bytes) -> Vec<Bytes> {
    fields(set).into_iter().filter(|field| field.number == FILE).map(|field| field.content).collect()
}

/// An encoded `FileDescriptorSet` of these files.
pub(super) fn set<'a>(files: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut out = BytesMut::new();
    for file in files {
        put(&mut out, FILE, file);
    }
    out.freeze()
}

fn put(out: &mut BytesMut, number: u32, content: &Bytes) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.put_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::FileDescriptorProto;

    fn service(name: &str, methods: usize) -> ServiceDescriptorProto {
        ServiceDescriptorProto { name: Some(name.into()), method: vec![Default::default(); methods], options: None }
    }

    #[test]
    fn a_service_is_added_or_takes_its_own_place_and_all_else_stays() {
        let file = FileDescriptorProto {
            name: Some("a.proto".into()),
            service: vec![service("A", 0), service("B", 0)],
            syntax: Some("proto3".into()),
            ..Default::default()
        };
        let mut raw = file.encode_to_vec();
        raw.extend_from_slice(b"\xc2\x3e\x03abc"); // an unknown field, as a custom option is one
        let raw = Bytes::from(raw);
        let names = |file: &Bytes| -> Vec<(String, usize)> {
            services(file).iter().map(|s| (s.proto.name().to_owned(), s.proto.method.len())).collect()
        };
        let more = with_service(&raw, "C", &service("C", 1).encode_to_vec().into());
        assert_eq!(names(&more), [("A".into(), 0), ("B".into(), 0), ("C".into(), 1)]);
        let other = with_service(&raw, "A", &service("A", 2).encode_to_vec().into());
        assert_eq!(names(&other), [("A".into(), 2), ("B".into(), 0)]);
        assert!(other.windows(6).any(|window| window == b"\xc2\x3e\x03abc"), "unknown fields stay");
        assert_eq!(files(&set([&raw, &more])), [raw, more]);
    }
}
