//! JSON to binary protobuf and back, with the types of a namespace. Source: protobuf.dev/programming-guides/json.
//!
//! Both the text and the types are strangers', and a message in memory takes up to thirty times its bytes (a varint of
//! one byte becomes a value of 56), so what is transcoded at once is bounded for the whole node.

use super::super::status;
use super::envelope;
use crate::registry::{JsonError, MethodRef, Registry, Snapshot, from_json, to_json};
use bytes::Bytes;
use prost_reflect::MessageDescriptor;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

/// Largest JSON text taken. 4 MiB: gRPC's default for a message.
pub(super) const TEXT_MAX: usize = 4 << 20;
/// Largest JSON text made of a reply. 16 MiB: 8 MiB of bytes are 11 MiB of base64, while 8 MiB of control characters
/// would be 48.
const REPLY_TEXT_MAX: usize = 16 << 20;
/// What is transcoded where it stands. 64 KiB: well below a millisecond, and a thread hop costs as much.
const INLINE: usize = 64 << 10;
/// Granule of the budget.
const KIB: usize = 1 << 10;
/// KiB of larger messages that are transcoded at once on the whole node. 8,192: one of the largest reply, or two of the
/// largest request; in memory half a GiB at worst.
const BUDGET: u32 = 8_192;

/// Transcodes for everybody on the node.
#[derive(Debug, Clone)]
pub(super) struct Json {
    budget: Arc<Semaphore>,
}

/// What a method takes and answers.
#[derive(Debug, Clone)]
pub(super) struct Types {
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
}

impl Types {
    /// The types of a method.
    ///
    /// * errors: INTERNAL if registered types do not link, which registration should have found.
    pub(super) async fn of(registry: &Registry, snapshot: &Arc<Snapshot>, method: &MethodRef) -> Result<Self, Status> {
        let pool = registry.linked(snapshot).await;
        let found = |name: &str| pool.and_then(|pool| pool.get_message_by_name(name));
        let (input, output) = (found(method.method().input.name()), found(method.method().output.name()));
        let (Some(input), Some(output)) = (input, output) else {
            let names = format!("the types of {}.{} do not link", method.service().name, method.method().name);
            tracing::error!(namespace = %snapshot.namespace(), "{names}");
            return Err(status::plain(Code::Internal, "INTERNAL", names));
        };
        Ok(Self { input, output })
    }
}

impl Default for Json {
    fn default() -> Self {
        Self { budget: Arc::new(Semaphore::new(BUDGET as usize)) }
    }
}

impl Json {
    /// Binary form of a JSON text.
    ///
    /// * errors: INVALID_ARGUMENT naming the place, RESOURCE_EXHAUSTED above [`TEXT_MAX`].
    pub(super) async fn to_binary(&self, kind: &MessageDescriptor, text: Bytes) -> Result<Bytes, Status> {
        if text.len() > TEXT_MAX {
            return Err(envelope::too_long(text.len() as u64, TEXT_MAX as u64));
        }
        let kind = kind.clone();
        self.run(text.len(), move || read(kind, &text)).await
    }

    /// JSON text of a binary message.
    ///
    /// * errors: UNKNOWN for a message that has no JSON form: it is not ours, and not the caller's doing.
    pub(super) async fn to_text(&self, kind: &MessageDescriptor, binary: Bytes) -> Result<Bytes, Status> {
        let kind = kind.clone();
        self.run(binary.len(), move || write(kind, &binary)).await
    }

    /// Runs `work` on a message of `len` bytes, when the budget allows, on a thread that may be busy for a while.
    async fn run<T: Send + 'static>(
        &self,
        len: usize,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        if len <= INLINE {
            return work();
        }
        let share = u32::try_from(len.div_ceil(KIB)).unwrap_or(u32::MAX).min(BUDGET);
        let permit = Arc::clone(&self.budget).acquire_many_owned(share).await.map_err(internal)?;
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(internal)?
    }
}

fn internal(why: impl std::fmt::Display) -> Status {
    tracing::error!(%why, "JSON is not available");
    status::plain(Code::Internal, "INTERNAL", "the node failed to transcode")
}

fn read(kind: MessageDescriptor, text: &[u8]) -> Result<Bytes, Status> {
    let name = kind.full_name().to_owned();
    from_json(kind, text).map_err(|why| {
        refused(why, |why| (Code::InvalidArgument, "JSON", format!("the request is no JSON of {name}: {why}")))
    })
}

fn write(kind: MessageDescriptor, binary: &[u8]) -> Result<Bytes, Status> {
    let name = kind.full_name().to_owned();
    let text = to_json(kind, binary, REPLY_TEXT_MAX).map_err(|why| {
        refused(why, |why| {
            let message = format!("the reply has no JSON form as {name}: {why}; ask for application/proto");
            (Code::Unknown, "REPLY_NOT_JSON", message)
        })
    });
    text.map(Bytes::from)
}

fn refused(why: JsonError, unfit: impl FnOnce(String) -> (Code, &'static str, String)) -> Status {
    let (code, reason, message) = match why {
        JsonError::Unfit(why) => unfit(why),
        JsonError::Types => (Code::Internal, "INTERNAL", why.to_string()),
    };
    status::plain(code, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    fn kind(name: &str) -> MessageDescriptor {
        DescriptorPool::global().get_message_by_name(name).unwrap()
    }

    /// An Any in an Any in an Any.
    fn nested(levels: usize) -> Vec<u8> {
        (0..levels).fold(Vec::new(), |value, _| {
            prost_types::Any { type_url: "/google.protobuf.Any".into(), value }.encode_to_vec()
        })
    }

    #[tokio::test]
    async fn json_goes_both_ways_and_defaults_are_left_out() {
        let json = Json::default();
        let field = kind("google.protobuf.FieldDescriptorProto");
        let text = Bytes::from_static(br#"{"name":"n","number":7,"type":"TYPE_STRING","jsonName":"j"}"#);
        let binary = json.to_binary(&field, text).await.unwrap();
        let back = json.to_text(&field, binary).await.unwrap();
        let back: serde_json::Value = serde_json::from_slice(&back).unwrap();
        assert_eq!(back, serde_json::json!({"name": "n", "number": 7, "type": "TYPE_STRING", "jsonName": "j"}));
        assert_eq!(json.to_text(&field, Bytes::new()).await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn what_is_no_json_of_the_type_is_the_callers_fault() {
        let json = Json::default();
        let field = kind("google.protobuf.FieldDescriptorProto");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let value = kind("google.protobuf.Value");
        for (kind, text) in [
            (&field, ""),
            (&field, "{"),
            (&field, "[]"),
            (&field, "{} {}"),
            (&field, r#"{"nmae":"n"}"#),
            (&field, r#"{"number":"x"}"#),
            (&field, "{\"name\":\"\u{0}\"}"),
            (&value, deep.as_str()),
        ] {
            let refused = json.to_binary(kind, Bytes::copy_from_slice(text.as_bytes())).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            assert!(refused.message().len() < 700);
        }
        let raw = json.to_binary(&field, Bytes::from_static(b"{\"name\":\"\xff\"}")).await;
        assert_eq!(raw.unwrap_err().code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_text_at_the_limit_is_taken_and_one_above_is_not() {
        let json = Json::default();
        let string = kind("google.protobuf.StringValue");
        let text = |len: usize| Bytes::from(format!("\"{}\"", "x".repeat(len - 2)));
        assert!(json.to_binary(&string, text(TEXT_MAX)).await.unwrap().len() > TEXT_MAX - 2);
        let refused = json.to_binary(&string, text(TEXT_MAX + 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn replies_that_nest_any_in_any_without_end_are_refused() {
        let json = Json::default();
        let any = kind("google.protobuf.Any");
        assert!(json.to_text(&any, nested(50).into()).await.is_err(), "the innermost names no type");
        for levels in [101, 2_000] {
            let refused = json.to_text(&any, nested(levels).into()).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unknown);
            assert!(refused.message().contains("more than 100"), "{refused}");
        }
        let mut held = prost_types::Any { type_url: "/google.protobuf.Empty".into(), value: Vec::new() };
        for _ in 0..50 {
            held = prost_types::Any { type_url: "/google.protobuf.Any".into(), value: held.encode_to_vec() };
        }
        assert!(json.to_text(&any, held.encode_to_vec().into()).await.is_ok());
    }

    #[tokio::test]
    async fn replies_that_have_no_json_form_say_so() {
        let json = Json::default();
        let late = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }.encode_to_vec();
        let refused = json.to_text(&kind("google.protobuf.Timestamp"), late.into()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unknown);
        let long = "\u{1}".repeat((REPLY_TEXT_MAX / 6) + 1).encode_to_vec(); // a StringValue, too
        let refused = json.to_text(&kind("google.protobuf.StringValue"), long.into()).await.unwrap_err();
        assert!(refused.message().contains("more than 16777216 bytes"), "{refused}");
        let strange = prost_types::Any { type_url: "/no.Such".into(), value: Vec::new() }.encode_to_vec();
        let refused = json.to_text(&kind("google.protobuf.Any"), strange.into()).await.unwrap_err();
        assert!(refused.message().contains("no.Such"), "{refused}");
    }
}
