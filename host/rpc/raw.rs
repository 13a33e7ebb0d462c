//! A message of ours that is kept as it came: descriptors whose custom options no struct of ours knows.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::DecodeError;
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, decode_varint, encode_key, encode_varint, encoded_len_varint, skip_field,
};

/// An encoded message, field for field as it came. Stands in the generated code for `google.protobuf`'s
/// `FileDescriptorProto` and `ServiceDescriptorProto`; named in `build.rs`.
#[derive(Clone, PartialEq, Default)]
pub struct RawDescriptor(BytesMut);

impl RawDescriptor {
    /// The encoded message.
    pub fn bytes(&self) -> Bytes {
        self.0.clone().freeze()
    }

    /// Encodes `message`.
    pub fn of(message: &impl Message) -> Self {
        Self(message.encode_to_vec().as_slice().into())
    }
}

impl From<Bytes> for RawDescriptor {
    fn from(bytes: Bytes) -> Self {
        Self(bytes.into())
    }
}

impl std::fmt::Debug for RawDescriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawDescriptor({} bytes)", self.0.len())
    }
}

/// Encodes fields again as they are read. Bytes differ from what came only where that was not the shortest form.
impl Message for RawDescriptor {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let enough = |length: usize, buf: &dyn Buf| match buf.remaining() >= length {
            true => Ok(length),
            false => Err(truncated()),
        };
        let length = match wire_type {
            WireType::Varint => {
                let value = decode_varint(buf)?;
                encode_key(tag, wire_type, &mut self.0);
                encode_varint(value, &mut self.0);
                return Ok(());
            }
            WireType::SixtyFourBit => enough(8, buf)?,
            WireType::ThirtyTwoBit => enough(4, buf)?,
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(buf)?).map_err(|_| truncated())?;
                let length = enough(length, buf)?;
                self.0.reserve(length + encoded_len_varint(length as u64) + 5);
                encode_key(tag, wire_type, &mut self.0);
                encode_varint(length as u64, &mut self.0);
                self.0.put(buf.take(length));
                return Ok(());
            }
            // No descriptor has groups; an unknown one is passed over, as every parser may.
            WireType::StartGroup | WireType::EndGroup => return skip_field(wire_type, tag, buf, ctx),
        };
        encode_key(tag, wire_type, &mut self.0);
        self.0.put(buf.take(length));
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

fn truncated() -> DecodeError {
    // prost makes its errors itself: an empty buffer is a truncated varint.
    decode_varint(&mut Bytes::new()).err().unwrap_or_else(|| DecodeError::new_unexpected_type_url("", ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::FileDescriptorProto;

    #[derive(Clone, PartialEq, Message)]
    struct Holder {
        #[prost(message, optional, tag = "2")]
        file: Option<RawDescriptor>,
    }

    #[test]
    fn what_came_is_what_is_kept() {
        let file = FileDescriptorProto {
            name: Some("a.proto".into()),
            dependency: vec!["b.proto".into(), "c.proto".into()],
            ..Default::default()
        };
        let mut raw = file.encode_to_vec();
        raw.extend_from_slice(
            b"\xc2\x3e\x03abc\xc8\x3e\x7f\xcd\x3e\x01\x02\x03\x04\xc9\x3e\x01\x02\x03\x04\x05\x06\x07\x08",
        );
        let held = Holder { file: Some(RawDescriptor::from(Bytes::from(raw.clone()))) }.encode_to_vec();
        let back = Holder::decode(held.as_slice()).unwrap().file.unwrap();
        assert_eq!(back.bytes(), raw);
        assert!(Holder::decode(&held[..held.len() - 1]).is_err());
        assert!(Holder::decode(&b"\x12\x03\x0a\x05a"[..]).is_err(), "a length that leads out of the message");
    }
}
