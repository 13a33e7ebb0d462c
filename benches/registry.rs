//! What types cost: deploying until the first answer, checking a message, ten thousand registrations.

use crate::Failure;
use crate::echo::HelloClient;
use crate::node::{channel, deploy, parts};
use crate::options::Options;
use crate::plugins;
use crate::process::Process;
use crate::report::{Rounds, Row, Unit, micros};
use bytes::Bytes;
use collector::registry::Schema;
use collector::rpc::pb;
use pb::collector_registry_client::CollectorRegistryClient;
use pb::plugin::v1::UndeployRequest;
use pb::plugin::v1::plugins_client::PluginsClient;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto,
};
use std::hint::black_box;
use std::time::Duration;
use tokio::time::Instant;

/// Namespace of the calls.
const NAMESPACE: &str = "bench";

/// Group `registry`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let data = tempfile::tempdir()?;
    let node = Process::node(data.path(), &[])?;
    let greeter = plugins::component("greeter")?;
    deploy(&channel(&node.address).await?, None, NAMESPACE, &greeter).await?;
    let mut rows = vec![check(options.rounds())?];
    rows.extend(deploy_to_answer(&node.address, &greeter, options.rounds()).await?);
    let resident = || node.resident_kib();
    rows.push(registrations(&node.address, options.pick(10_000, 200), resident).await?);
    Ok(rows)
}

/// From the reply of `Deploy` to the first answer that a stock client gets, and how long `Deploy` itself took.
async fn deploy_to_answer(address: &str, plugin: &Bytes, count: usize) -> Result<[Row; 2], Failure> {
    const DEPLOY: &str = "Deploy of known code";
    const ANSWER: &str = "from the reply of Deploy to the first answer";
    let mut client = PluginsClient::new(channel(address).await?);
    let mut rounds = Rounds::default();
    for _ in 0..count {
        let gone = UndeployRequest { namespace: NAMESPACE.into(), name: "greeter.v1.Greeter".into(), version: 0 };
        client.undeploy(gone).await?;
        // A client that is there already, as stock clients are.
        let mut hello = HelloClient::connect(address)?;
        if hello.call("nobody").await.is_ok() {
            return Err("it still answers".into());
        }
        let began = Instant::now();
        client.deploy(tokio_stream::iter(parts(NAMESPACE, plugin))).await?;
        rounds.calls(DEPLOY, &[began.elapsed()]);
        let began = Instant::now();
        hello.call("Ada").await?;
        rounds.calls(ANSWER, &[began.elapsed()]);
    }
    Ok([rounds.alone(DEPLOY), rounds.alone(ANSWER)])
}

fn field(name: &str, number: i32, kind: field_descriptor_proto::Type, of: Option<&str>) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(field_descriptor_proto::Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: of.map(str::to_owned),
        ..Default::default()
    }
}

/// A message of 256 bytes as services have them: strings, numbers, a nested message.
fn message() -> Result<(Schema, Vec<u8>), Failure> {
    use field_descriptor_proto::Type;
    let kinds = [Type::String, Type::Int64, Type::Bool, Type::Double, Type::Bytes];
    let fields = |nested: bool| {
        let scalar = (1..=20).zip(kinds.into_iter().cycle()).map(|(n, kind)| field(&format!("f{n}"), n, kind, None));
        let below = nested.then(|| field("below", 21, Type::Message, Some(".bench.Inner")));
        scalar.chain(below).collect::<Vec<_>>()
    };
    let of = |name: &str, nested: bool| DescriptorProto {
        name: Some(name.to_owned()),
        field: fields(nested),
        ..Default::default()
    };
    let method = prost_types::MethodDescriptorProto {
        name: Some("Check".into()),
        input_type: Some(".bench.Outer".into()),
        output_type: Some(".bench.Outer".into()),
        ..Default::default()
    };
    let service =
        prost_types::ServiceDescriptorProto { name: Some("Checks".into()), method: vec![method], options: None };
    let file = FileDescriptorProto {
        name: Some("bench.proto".into()),
        package: Some("bench".into()),
        syntax: Some("proto3".into()),
        message_type: vec![of("Outer", true), of("Inner", false)],
        service: vec![service],
        ..Default::default()
    };
    let mut inner = Vec::new();
    for n in 1..=20_u8 {
        let (tag, wide) = (|wire: u8| u32::from(n) << 3 | u32::from(wire), n >= 16);
        let key = |wire: u8, out: &mut Vec<u8>| match wide {
            true => out.extend([(tag(wire) & 0x7f | 0x80) as u8, (tag(wire) >> 7) as u8]),
            false => out.push(tag(wire) as u8),
        };
        match n % 5 {
            1 | 0 => {
                key(2, &mut inner);
                inner.extend([4, b't', b'e', b'x', b't']);
            }
            2 | 3 => {
                key(0, &mut inner);
                inner.push(1);
            }
            _ => {
                key(1, &mut inner);
                inner.extend([0; 8]);
            }
        }
    }
    let mut outer = inner.clone();
    outer.extend([0xaa, 0x01, u8::try_from(inner.len())?]);
    outer.extend(&inner);
    // Filled up with text to the 256 bytes that the figure is about.
    let room = 256 - outer.len() - 3;
    outer.extend([0x0a, u8::try_from(room + 1)?]);
    outer.extend(std::iter::repeat_n(b'x', room + 1));
    Ok((Schema::decode(&FileDescriptorSet { file: vec![file] }.encode_to_vec())?, outer))
}

/// One check of a 256-byte message against its type.
fn check(count: usize) -> Result<Row, Failure> {
    const CHECKS: u32 = 20_000;
    let (schema, message) = message()?;
    let method = schema.services().first().and_then(|service| service.method("Check")).ok_or("no method")?;
    method.input.check(&message).map_err(|why| why.problem)?;
    let (mut rounds, name) = (Rounds::default(), format!("check of a {}-byte message", message.len()));
    for _ in 0..count {
        let began = Instant::now();
        for _ in 0..CHECKS {
            black_box(method.input.check(black_box(&message)).is_ok());
        }
        rounds.value(&name, Unit::Time, micros(began.elapsed()) / f64::from(CHECKS), CHECKS as usize);
    }
    Ok(rounds.alone(&name))
}

/// Registrations of one file, every second one invalid, and what is left of them in memory. The floor is
/// the first tenth of them.
async fn registrations(
    address: &str,
    count: usize,
    resident_kib: impl Fn() -> Result<u64, Failure>,
) -> Result<Row, Failure> {
    let mut client = CollectorRegistryClient::new(channel(address).await?);
    let mut took = Vec::new();
    let mut before = 0;
    for n in 0..count {
        let began = Instant::now();
        let answer = client.register_proto(request(n)).await;
        took.push(began.elapsed());
        if answer.is_ok() != (n % 2 == 0) {
            return Err(format!("registration {n}: {answer:?}").into());
        }
        if n + 1 == count / 10 {
            before = resident_kib()?; // warmed up
        }
    }
    let after = resident_kib()?;
    let part = |from: usize| -> Vec<Duration> {
        let valid = took.iter().skip(from).step_by(2);
        valid.take(count / 20).copied().collect()
    };
    let mut rounds = Rounds::default();
    rounds.calls("first", &part(0));
    let name = format!("registration, the last tenth of {count}, half of them invalid");
    rounds.calls(&name, &part(count - count / 10));
    let kib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX));
    let row = rounds.row_over(&name, "the first tenth", rounds.each("first"));
    Ok(row.with("resident KiB after a tenth", kib(before)).with("at the end", kib(after)))
}

/// The n-th revision of one file: a field comes, a field goes reserved; the odd ones break something.
fn request(n: usize) -> pb::RegisterProtoRequest {
    use field_descriptor_proto::Type;
    let kind = if n.is_multiple_of(2) { Type::String } else { Type::Int32 };
    let comment = FieldDescriptorProto { json_name: None, ..field("note", 2, Type::String, None) };
    let message = DescriptorProto {
        name: Some("Thing".into()),
        field: vec![field("id", 1, kind, None), comment],
        ..Default::default()
    };
    // A file option that differs makes it another revision and breaks nothing.
    let options = prost_types::FileOptions { go_package: Some(format!("example.test/r{n}")), ..Default::default() };
    let file = FileDescriptorProto {
        name: Some("bench/thing.proto".into()),
        package: Some("bench.things".into()),
        syntax: Some("proto3".into()),
        message_type: vec![message],
        options: Some(options),
        ..Default::default()
    };
    pb::RegisterProtoRequest {
        namespace: "registrations".into(),
        file_descriptor: Some(collector::rpc::RawDescriptor::of(&file)),
        dependencies: Vec::new(),
    }
}
