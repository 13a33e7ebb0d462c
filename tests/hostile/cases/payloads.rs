//! P: messages that decode into more than they are, or not at all.

use crate::case::{Case, Cost, PATIENCE, Verdict, check, done, done_or, refused};
use crate::target::{SERVE, Target, any, proto};
use collector::rpc::pb;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::{Any, Value, value::Kind};
use std::time::Duration;
use tonic::Code;

const CREATE: &str = "collector.CollectionService/Create";
const BATCH: &str = "collector.CollectionService/Batch";
const LIST: &str = "collector.CollectionService/List";
const SEARCH: &str = "collector.CollectionService/Search";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "P01",
            "messages and groups nested 99, 100, 101 and 10,000 deep",
            "taken up to one depth, INVALID_ARGUMENT from there",
            |t| Box::pin(p01(t)),
        ),
        Case::new(
            "P02",
            "4 MiB of empty sub-messages; of equal keys of a map",
            "RESOURCE_EXHAUSTED, peak at most 64 MiB more",
            |t| Box::pin(p02(t)),
        )
        .costs(Cost::Slow),
        Case::new("P03", "3.9 MiB of unknown fields in an item", "kept once, byte for byte", |t| Box::pin(p03(t)))
            .costs(Cost::Slow),
        Case::new(
            "P04",
            "items of a foreign type, no type, a type of 64 KiB; `Any` in itself 50 deep",
            "INVALID_ARGUMENT",
            |t| Box::pin(p04(t)),
        ),
        Case::new(
            "P05",
            "broken UTF-8, NUL, surrogates, long varints, cut and overlapping fields",
            "INVALID_ARGUMENT, never INTERNAL",
            |t| Box::pin(p05(t)),
        ),
        Case::new(
            "P06",
            "a filter 100 deep; OP_IN with 100,000 values",
            "INVALID_ARGUMENT or RESOURCE_EXHAUSTED",
            |t| Box::pin(p06(t)),
        )
        .costs(Cost::Slow),
    ]
}

/// A field of any bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(bytes.len() + 10);
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

/// `message Nest { Nest nest = 1; }` in itself.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| field(1, &inner))
}

async fn p01(t: &Target) -> Verdict {
    let file = proto("hostile/nest.proto", "syntax = \"proto3\"; package hostile; message Nest { Nest nest = 1; }");
    done("its type", t.register(&file).await)?;
    t.collection("nests", "hostile.Nest").await?;
    let (mut deepest, mut refused_once) = (0, false);
    for depth in [1, 50, 97, 98, 99, 100, 101, 102, 10_000] {
        let item = Any { type_url: "type.googleapis.com/hostile.Nest".into(), value: nested(depth) };
        t.delete("nests", "n").await?;
        let taken = done_or(&format!("{depth} deep"), t.create("nests", "n", item).await, &[Code::InvalidArgument])?;
        check(!(taken && refused_once), || format!("{depth} deep was taken, and less was not"))?;
        refused_once |= !taken;
        if taken {
            deepest = depth;
        }
    }
    check((50..10_000).contains(&deepest), || format!("taken up to {deepest} deep"))?;
    for depth in [99, 100, 101, 10_000] {
        // Groups of a field that nobody knows, opened and closed in order.
        let mut groups = Vec::new();
        (0..depth).for_each(|_| encode_key(99, WireType::StartGroup, &mut groups));
        (0..depth).for_each(|_| encode_key(99, WireType::EndGroup, &mut groups));
        let answer = t.wire.to(LIST).bytes(vec![groups]).await;
        refused(&format!("groups {depth} deep"), answer, &[Code::InvalidArgument])?;
    }
    Ok(format!("deepest taken: {deepest}"))
}

async fn p02(t: &Target) -> Verdict {
    let watched = t.watched();
    let before = watched.as_ref().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    if let Some(node) = &watched {
        node.forget_peak();
    }
    for (what, path, empty) in [("operations", BATCH, [0x1a, 0]), ("labels", CREATE, [0x2a, 0])] {
        let answer = t.wire.to(path).bytes(vec![empty.repeat(2_000_000)]).await;
        refused(what, answer, &[Code::ResourceExhausted])?;
    }
    let Some(node) = watched else { return Ok("2 refused".into()) };
    let more = node.peak_kib().saturating_sub(before) >> 10;
    check(more <= 64, || format!("the peak was {more} MiB higher"))?;
    Ok(format!("peak {more} MiB more"))
}

async fn p03(t: &Target) -> Verdict {
    let file = proto("hostile/note.proto", "syntax = \"proto3\"; package hostile; message Note { string text = 1; }");
    done("its type", t.register(&file).await)?;
    t.collection("unknown", "hostile.Note").await?;
    let size = 3_900 << 10;
    let item = Any { type_url: "type.googleapis.com/hostile.Note".into(), value: field(1_000, &vec![b'u'; size]) };
    t.delete("unknown", "u").await?;
    done("an item of unknown fields", t.create("unknown", "u", item.clone()).await)?;
    let found = done("read it again", t.get("unknown", "u").await)?;
    check(found.item == Some(item), || "other bytes came back".to_owned())?;
    let ask = pb::DescribeRequest { namespace: t.namespace.clone(), collection_name: "unknown".into() };
    let described = t.wire.to("collector.CollectionService/Describe").ask::<pb::DescribeResponse>(&ask).await;
    let stored = done("describe it", described)?.storage_size_bytes;
    t.delete("unknown", "u").await?;
    check(stored < 2 * size as i64, || format!("{stored} bytes for {size}"))?;
    Ok(format!("{} KiB stored for {} KiB", stored >> 10, size >> 10))
}

async fn p04(t: &Target) -> Verdict {
    let file = proto("hostile/note.proto", "syntax = \"proto3\"; package hostile; message Note { string text = 1; }");
    done("its type", t.register(&file).await)?;
    t.collection("typed", "hostile.Note").await?;
    let within = (0..50).fold(Any::default(), |inner, _| any("google.protobuf.Any", &inner));
    let foreign = format!("type.googleapis.com/{}", crate::bystander::TYPE);
    let kinds = [
        ("a foreign type", Any { type_url: foreign, ..Any::default() }),
        ("no type", Any::default()),
        ("a long type", Any { type_url: "x".repeat(64 << 10), ..Any::default() }),
        ("itself", within.clone()),
    ];
    for (what, item) in &kinds {
        refused(what, t.create("typed", "k", item.clone()).await, &[Code::InvalidArgument])?;
    }
    let kind = pb::MessageTypeRef {
        namespace: t.bystander.namespace.clone(),
        message_name: crate::bystander::TYPE.to_owned(),
    };
    let mut foreign = crate::target::collection(&t.namespace, "foreign", "");
    if let Some(collection) = &mut foreign.collection {
        collection.message_type = Some(kind);
    }
    let made = t.wire.to("collector.CollectionRepo/CreateCollection").status(&foreign).await;
    refused("a collection of a foreign type", made, &[Code::InvalidArgument, Code::PermissionDenied])?;
    let greeter = crate::target::code(&t.guests.greeter);
    let called = t.serve("greeter.v1.Greeter", "SayHello", within, greeter, None).await;
    refused("a call with itself", called, &[Code::InvalidArgument])?;
    Ok(format!("{} refused", kinds.len() + 2))
}

async fn p05(t: &Target) -> Verdict {
    let mut long_varint = Vec::new();
    encode_key(100, WireType::Varint, &mut long_varint);
    long_varint.extend([0xff; 10]);
    long_varint.push(1);
    let bodies: [(&str, Vec<u8>); 11] = [
        ("broken UTF-8", field(1, &[0xff, 0xfe])),
        ("NUL", field(1, &[0])),
        ("a surrogate", field(1, &[0xed, 0xa0, 0x80])),
        ("an overlong character", field(1, &[0xc0, 0xaf])),
        ("a varint of 11 bytes", long_varint),
        ("a cut text", vec![0x0a, 5, b'a']),
        ("a length beyond the end", vec![0x0a, 0x7f, b'a']),
        ("a length of 2^63", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("field 0", vec![0, 0]),
        ("wire type 7", vec![0x0f]),
        ("the end of no group", vec![0x0c]),
    ];
    let paths = [
        CREATE,
        LIST,
        SERVE,
        "collector.CollectorRegistry/RegisterProto",
        "collector.CollectionRepo/Route",
        "collector.plugin.v1.Plugins/Get",
    ];
    for path in paths {
        for (what, body) in &bodies {
            let answer = t.wire.to(path).bytes(vec![body.clone()]).await;
            refused(&format!("{what} to {path}"), answer, &[Code::InvalidArgument])?;
        }
    }
    Ok(format!("{} refused", paths.len() * bodies.len()))
}

async fn p06(t: &Target) -> Verdict {
    t.collection("filtered", "").await?;
    let codes = [Code::InvalidArgument, Code::ResourceExhausted];
    let deep = (0..100).fold(Value { kind: Some(Kind::BoolValue(true)) }, |inner, _| {
        let fields = [("a".to_owned(), inner)].into_iter().collect();
        Value { kind: Some(Kind::StructValue(prost_types::Struct { fields })) }
    });
    let filter = prost_types::Struct { fields: [("a".to_owned(), deep)].into_iter().collect() };
    let list = pb::ListRequest {
        namespace: t.namespace.clone(),
        collection_name: "filtered".into(),
        filter: Some(filter),
        ..Default::default()
    };
    refused("a deep filter", t.wire.to(LIST).bytes(vec![list.encode_to_vec()]).await, &codes)?;
    let values = (0..100_000).map(|n| Value { kind: Some(Kind::NumberValue(f64::from(n))) }).collect();
    let filter = pb::Filter {
        operator: pb::FilterOperator::OpIn.into(),
        value: Some(Value { kind: Some(Kind::ListValue(prost_types::ListValue { values })) }),
    };
    let search = pb::SearchRequest {
        namespace: t.namespace.clone(),
        collection_name: "filtered".into(),
        filters: [("n".to_owned(), filter)].into_iter().collect(),
        ..Default::default()
    };
    let began = tokio::time::Instant::now();
    refused("100,000 values", t.wire.to(SEARCH).bytes(vec![search.encode_to_vec()]).await, &codes)?;
    let took = began.elapsed();
    check(took <= Duration::from_millis(50) * PATIENCE, || format!("refused after {} ms", took.as_millis()))?;
    Ok(format!("refused in {} ms", took.as_millis()))
}
