//! Protobuf on the wire: prost's, but a message that does not decode is its sender's fault.
//!
//! tonic-prost answers INTERNAL to bytes that are no message, and INTERNAL is always a bug of ours.

use super::{status, weight};
use bytes::Buf as _;
use prost::{Message, Name};
use std::marker::PhantomData;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

/// The codec of all services in `proto/`; named in `build.rs`.
#[derive(Debug)]
pub struct StrictCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// Decodes, or says INVALID_ARGUMENT; RESOURCE_EXHAUSTED to what would take far more memory than bytes.
#[derive(Debug)]
pub struct StrictDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let undecodable = |why: prost::DecodeError| {
            let message = format!("the message does not decode: {}", crate::domain::one_line(&why.to_string(), 256));
            status::plain(Code::InvalidArgument, "UNDECODABLE", message)
        };
        // The whole message, and no copy of it: tonic hands over one chunk.
        let message = buffer.copy_to_bytes(buffer.remaining());
        if weight::is_too_heavy(&U::full_name(), &message) {
            let problem = "the message has too many fields, elements or entries; send it in parts";
            return Err(status::plain(Code::ResourceExhausted, "TOO_MANY", problem));
        }
        U::decode(message).map(Some).map_err(undecodable)
    }
}
