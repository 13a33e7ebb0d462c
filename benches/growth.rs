//! What a call costs with ever more services beside it, and point operations with ever more records.
//!
//! All sizes are there at once, in nodes and collections of their own, and are measured in turns.

use crate::collections::{NAMESPACE, TYPE, Words, load, make, register};
use crate::echo::{HELLO, Hello};
use crate::load::{Job, Kind, Load};
use crate::node::{channel, deploy};
use crate::options::Options;
use crate::process::Process;
use crate::report::{Rounds, Row};
use crate::{Failure, plugins};
use collector::rpc::{RawDescriptor, pb};
use pb::collection_service_client::CollectionServiceClient;
use pb::collector_registry_client::CollectorRegistryClient;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};
use tempfile::TempDir;

/// Records of one batch.
const BATCH: usize = 1_000;
/// By how much a cost may have grown.
const BAR: f64 = 1.10;

/// Group `growth`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let mut rows = services(options).await?;
    rows.extend(records(options).await?);
    Ok(rows)
}

/// A native call in namespaces of so many services.
async fn services(options: &Options) -> Result<Vec<Row>, Failure> {
    let usual: &[usize] = if options.full { &[1, 100, 1_000, 10_000] } else { &[1, 100, 1_000] };
    let sizes = options.pick(usual, &[1, 20]);
    let greeter = plugins::component("greeter")?;
    let mut nodes: Vec<(String, Process, TempDir)> = Vec::new();
    for size in sizes {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        // More than a namespace may have by default: the greeter's own file is one too.
        let node = Process::node(data.path(), &["registry.files=20000"])?;
        deploy(&channel(&node.address).await?, None, NAMESPACE, &greeter).await?;
        let mut client = CollectorRegistryClient::new(channel(&node.address).await?);
        for number in 1..*size {
            client.register_service(service(number)).await?;
        }
        nodes.push((format!("native call, {size} services registered"), node, data));
    }
    let (mut rounds, mut generator) = (Rounds::default(), Load::start()?);
    for _ in 0..options.rounds() {
        for (name, node, _) in &nodes {
            let message = Hello { text: "Ada".to_owned() }.encode_to_vec();
            let mut job = Job::new(&node.address, HELLO, Kind::Grpc).message(&message);
            job = job.header("collector-namespace", NAMESPACE);
            job.calls = options.pick(2_000, 50);
            generator.round(&mut rounds, name, &job, Some(node)).await?;
        }
    }
    let names: Vec<&str> = nodes.iter().map(|(name, ..)| name.as_str()).collect();
    Ok(grown(&rounds, &names))
}

/// Each beside the first, and the bar of the last.
fn grown(rounds: &Rounds, names: &[&str]) -> Vec<Row> {
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return Vec::new() };
    let mut rows: Vec<Row> = names.iter().map(|name| rounds.row(name, first)).collect();
    rows.push(Row::at_most(&format!("{last} / the least"), rounds.ratio(last, first), BAR));
    rows
}

/// The n-th of many small services.
fn service(number: usize) -> pb::RegisterServiceRequest {
    let package = format!("growth.n{number}");
    let of = |name: &str| Some(format!(".{package}.{name}"));
    let method = MethodDescriptorProto {
        name: Some("Do".into()),
        input_type: of("Thing"),
        output_type: of("Thing"),
        ..Default::default()
    };
    let service = ServiceDescriptorProto { name: Some("Service".into()), method: vec![method], options: None };
    let file = FileDescriptorProto {
        name: Some(format!("growth/n{number}.proto")),
        package: Some(package.clone()),
        syntax: Some("proto3".into()),
        message_type: vec![DescriptorProto { name: Some("Thing".into()), ..Default::default() }],
        service: vec![service.clone()],
        ..Default::default()
    };
    pb::RegisterServiceRequest {
        namespace: NAMESPACE.to_owned(),
        service_descriptor: Some(RawDescriptor::of(&service)),
        file_descriptor: Some(RawDescriptor::of(&file)),
    }
}

/// Get and Create in collections of so many records, without full text: its index grows with the words.
async fn records(options: &Options) -> Result<Vec<Row>, Failure> {
    let usual: &[usize] = if options.full { &[1_000, 100_000, 1_000_000] } else { &[1_000, 100_000] };
    let sizes = options.pick(usual, &[1_000, 2_000]);
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let node = Process::node(data.path(), &[])?;
    register(&node.address).await?;
    for size in sizes {
        let name = format!("of{size}");
        make(&node.address, &name, pb::FullText::Off, &["number"]).await?;
        fill(&node.address, &name, *size).await?;
    }
    let (mut rounds, mut generator) = (Rounds::default(), Load::start()?);
    for round in 0..options.rounds() {
        for size in sizes {
            generator.round(&mut rounds, &named("Get", *size), &gets(&node, *size, options), Some(&node)).await?;
            let creates = creates(&node, *size, round, options);
            generator.round(&mut rounds, &named("durable Create", *size), &creates, Some(&node)).await?;
        }
    }
    let of = |what: &str| {
        let names: Vec<String> = sizes.iter().map(|size| named(what, *size)).collect();
        grown(&rounds, &names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    Ok(["Get", "durable Create"].into_iter().flat_map(of).collect())
}

fn named(what: &str, size: usize) -> String {
    format!("{what}, {size} records in the collection")
}

async fn fill(address: &str, collection: &str, size: usize) -> Result<(), Failure> {
    let client = CollectionServiceClient::new(channel(address).await?);
    let mut client = client.max_encoding_message_size(64 << 20).max_decoding_message_size(64 << 20);
    let mut words = Words::new(17);
    for first in (0..size).step_by(BATCH) {
        client.batch(load(collection, "r", first, BATCH, &mut words)).await?;
    }
    Ok(())
}

fn gets(node: &Process, size: usize, options: &Options) -> Job {
    let mut job = Job::new(&node.address, "/collector.CollectionService/Get", Kind::Grpc);
    // All over the collection, in no order that a cache could guess.
    job.calls = options.pick(1_000, 20);
    job.least = 200;
    (0..job.calls).fold(job, |job, number| {
        let (namespace, collection_name) = (NAMESPACE.to_owned(), format!("of{size}"));
        let id = format!("r-{}", number * 7_919 % size);
        job.message(&pb::GetRequest { namespace, collection_name, id }.encode_to_vec())
    })
}

fn creates(node: &Process, size: usize, round: usize, options: &Options) -> Job {
    let mut job = Job::new(&node.address, "/collector.CollectionService/Create", Kind::Grpc);
    job.calls = options.pick(500, 20);
    let mut words = Words::new(19);
    // One more than is counted: the generator warms up with one.
    (0..=job.calls).fold(job, |job, number| {
        let request = pb::CreateRequest {
            namespace: NAMESPACE.to_owned(),
            collection_name: format!("of{size}"),
            item: Some(prost_types::Any {
                type_url: format!("type.googleapis.com/{TYPE}"),
                value: words.article(number).encode_to_vec(),
            }),
            id: format!("new-{round}-{number}"),
            ..Default::default()
        };
        job.message(&request.encode_to_vec())
    })
}
