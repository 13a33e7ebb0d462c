//! Native gRPC calls of methods whose types are known at run time only: `/package.Service/Method`, all four kinds.

use super::client::{ClientError, NodeClient, Target, VERDICT_PATIENCE, by, prepare, receipt};
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status, Streaming};

/// Replies as they come in.
pub(super) struct Replies {
    stream: Streaming<DynamicMessage>,
    receipt: BTreeMap<String, String>,
    began: Instant,
    give_up: Option<Instant>,
}

/// Starts a call.
///
/// * `target`: its headers and deadline count; the method is in `method`.
/// * `requests`: its end is the end of what the client sends.
/// * returns: as soon as the node has answered with its headers.
pub(super) async fn call(
    client: &NodeClient,
    method: &MethodDescriptor,
    target: &Target,
    requests: impl Stream<Item = DynamicMessage> + Send + 'static,
) -> Result<Replies, ClientError> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut request = Request::new(requests);
    prepare(&mut request, target)?;
    let began = Instant::now();
    let give_up = target.timeout.map(|limit| began + limit + VERDICT_PATIENCE);
    let answer = by(give_up, start(client, &path, request, DynamicCodec(method.output()))).await?;
    let (metadata, stream, _) = answer.into_parts();
    Ok(Replies { stream, receipt: receipt(&metadata), began, give_up })
}

/// Starts any call, as a stream in both directions: on the wire the other three kinds look the same.
pub(super) async fn start<C: Codec>(
    client: &NodeClient,
    path: &str,
    request: Request<impl Stream<Item = C::Encode> + Send + 'static>,
    codec: C,
) -> Result<tonic::Response<Streaming<C::Decode>>, Status>
where
    C::Encode: Send + Sync,
    C::Decode: Send + Sync,
{
    let path = PathAndQuery::try_from(path).map_err(|_| Status::invalid_argument(format!("{path} is no path")))?;
    let mut grpc = client.dynamic();
    grpc.ready().await.map_err(|why| Status::unavailable(why.to_string()))?;
    grpc.streaming(request, path, codec).await
}

impl Replies {
    /// The next reply; `None` after the last one of a call that ended well.
    pub(super) async fn next(&mut self) -> Result<Option<DynamicMessage>, ClientError> {
        by(self.give_up, self.stream.message()).await
    }

    /// The receipt, and how long the call took. For after the last reply.
    pub(super) async fn receipt(mut self) -> (BTreeMap<String, String>, Duration) {
        let took = self.began.elapsed();
        if let Ok(Some(trailers)) = self.stream.trailers().await {
            self.receipt.extend(receipt(&trailers));
        }
        (self.receipt, took)
    }
}

/// Messages by descriptor, with the replies'.
#[derive(Debug)]
struct DynamicCodec(MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder(self.0.clone())
    }
}

#[derive(Debug)]
struct DynamicEncoder;

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|why| Status::internal(why.to_string()))
    }
}

#[derive(Debug)]
struct DynamicDecoder(MessageDescriptor);

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let wrong = |why| Status::internal(format!("the reply is no {}: {why}", self.0.full_name()));
        DynamicMessage::decode(self.0.clone(), buffer).map(Some).map_err(wrong)
    }
}
