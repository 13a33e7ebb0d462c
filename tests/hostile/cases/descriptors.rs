//! D: schemas that lie, collide, or are too much.

use crate::case::{Case, Cost, PATIENCE, Verdict, check, done, refused, told};
use crate::guests::PROTO;
use crate::target::{Target, any, proto};
use collector::rpc::{RawDescriptor, pb};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileOptions, UninterpretedOption, uninterpreted_option::NamePart,
};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "D01",
            "files that import each other in circles of 1, 2 and 200; a missing import",
            "INVALID_ARGUMENT, nothing kept",
            |t| Box::pin(d01(t)),
        ),
        Case::new("D02", "files that pose as google/protobuf/ and as the node's own", "PERMISSION_DENIED", |t| {
            Box::pin(d02(t))
        }),
        Case::new(
            "D04",
            "a type with the full name of the bystander's, and other fields",
            "both work, each by its own",
            |t| Box::pin(d04(t)),
        ),
        Case::new(
            "D05",
            "a type redefined while there are records of it",
            "FAILED_PRECONDITION, records readable",
            |t| Box::pin(d05(t)),
        ),
        Case::new("D06", "100,000 enum values, fields, types; names of 64 KiB; 10,000 dots", "INVALID_ARGUMENT", |t| {
            Box::pin(d06(t))
        })
        .costs(Cost::Slow),
        Case::new(
            "D07",
            "options that a compiler left unparsed, 2,000 levels of them, 300 KiB of them",
            "INVALID_ARGUMENT",
            |t| Box::pin(d07(t)),
        ),
        Case::new(
            "D09",
            "register and replace over and over, every other time broken",
            "memory returns, the last as fast as the first",
            |t| Box::pin(d09(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "D10",
            "32 clients race definitions that exclude each other",
            "one wins, the rest ALREADY_EXISTS",
            |t| Box::pin(d10(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "D11",
            "services asked for with `../`, in another case, empty, in foreign namespaces",
            "refused, and all alike",
            |t| Box::pin(d11(t)),
        ),
    ]
}

fn file(name: &str) -> FileDescriptorProto {
    FileDescriptorProto { name: Some(name.into()), syntax: Some("proto3".into()), ..Default::default() }
}

async fn d01(t: &Target) -> Verdict {
    for length in [1, 2, 200_usize] {
        let files: Vec<FileDescriptorProto> = (0..length)
            .map(|n| FileDescriptorProto {
                dependency: vec![format!("hostile/c{}.proto", (n + 1) % length)],
                ..file(&format!("hostile/c{n}.proto"))
            })
            .collect();
        let (first, others) = files.split_first().ok_or("no files".to_owned())?;
        refused(&format!("a circle of {length}"), t.register_with(first, others).await, &[Code::InvalidArgument])?;
    }
    let missing = FileDescriptorProto { dependency: vec!["hostile/c1.proto".into()], ..file("hostile/m.proto") };
    // Would be there if one of the circles had been kept.
    let status = refused("a missing import", t.register(&missing).await, &[Code::InvalidArgument])?;
    check(status.message().contains("hostile/c1.proto"), || format!("it is not named: {}", told(&status)))?;
    Ok("4 refused".into())
}

async fn d02(t: &Target) -> Verdict {
    let timestamp = "syntax = \"proto3\"; package google.protobuf; message Timestamp { string when = 1; }";
    let posing = [
        proto("google/protobuf/timestamp.proto", timestamp),
        proto("hostile/mine.proto", timestamp),
        proto("hostile/node.proto", "syntax = \"proto3\"; package collector; message Mine {}"),
        proto("google/protobuf/../protobuf/any.proto", "syntax = \"proto3\"; message Mine {}"),
    ];
    let codes = [Code::PermissionDenied, Code::InvalidArgument];
    for file in &posing {
        refused(file.name(), t.register(file).await, &codes)?;
    }
    let honest = "syntax = \"proto3\"; package hostile; import \"google/protobuf/timestamp.proto\";
        message At { google.protobuf.Timestamp at = 1; }";
    done("the real one still works", t.register(&proto("hostile/at.proto", honest)).await)?;
    Ok(format!("{} refused", posing.len()))
}

async fn d04(t: &Target) -> Verdict {
    let mine = "syntax = \"proto3\"; package ledger.v1; message Entry { int64 number = 1; bytes other = 2; }";
    done("the same name", t.register(&proto("ledger/v1/ledger.proto", mine)).await)?;
    t.collection("mine", "ledger.v1.Entry").await?;
    t.delete("mine", "m").await?;
    // Field 1 as a number: the bystander's is a text.
    let item = prost_types::Any { type_url: "type.googleapis.com/ledger.v1.Entry".into(), value: vec![0x08, 7] };
    done("an item by my own type", t.create("mine", "m", item).await)?;
    let theirs = any("ledger.v1.Entry", &crate::messages::Text { text: "text".into() });
    refused("an item by their type", t.create("mine", "n", theirs).await, &[Code::InvalidArgument])?;
    let id = t.bystander.keep().await?;
    t.bystander.kept(&id).await?;
    Ok("each by its own".into())
}

async fn d05(t: &Target) -> Verdict {
    let text = |fields: &str| format!("syntax = \"proto3\"; package hostile.kept; message Kept {{ {fields} }}");
    done("the type", t.register(&proto("hostile/kept.proto", &text("string text = 1;"))).await)?;
    t.collection("kept", "hostile.kept.Kept").await?;
    t.delete("kept", "k").await?;
    let item = any("hostile.kept.Kept", &crate::messages::Text { text: "kept".into() });
    done("a record", t.create("kept", "k", item.clone()).await)?;
    for fields in ["int32 text = 1;", "string other = 2;", "repeated bytes text = 1;"] {
        let broken = proto("hostile/kept.proto", &text(fields));
        refused(fields, t.register(&broken).await, &[Code::FailedPrecondition])?;
    }
    let found = done("the record afterwards", t.get("kept", "k").await)?;
    check(found.item == Some(item), || "it reads otherwise".to_owned())?;
    Ok("3 refused".into())
}

async fn d06(t: &Target) -> Verdict {
    let value = |n: i32| EnumValueDescriptorProto { name: Some(format!("V{n}")), number: Some(n), options: None };
    let field = |n: i32| FieldDescriptorProto {
        name: Some(format!("f{n}")),
        number: Some(n),
        r#type: Some(9),
        label: Some(1),
        ..Default::default()
    };
    let message = |name: String| DescriptorProto { name: Some(name), ..Default::default() };
    let values =
        EnumDescriptorProto { name: Some("E".into()), value: (0..100_000).map(value).collect(), ..Default::default() };
    let fields = DescriptorProto { field: (1..=100_000).map(field).collect(), ..message("M".into()) };
    let deep = (0..1_000)
        .fold(message("D".into()), |inner, _| DescriptorProto { nested_type: vec![inner], ..message("D".into()) });
    let files = [
        ("enum values", FileDescriptorProto { enum_type: vec![values], ..file("hostile/d06.proto") }),
        ("fields", FileDescriptorProto { message_type: vec![fields], ..file("hostile/d06.proto") }),
        (
            "types",
            FileDescriptorProto {
                message_type: (0..100_000).map(|n| message(format!("M{n}"))).collect(),
                ..file("hostile/d06.proto")
            },
        ),
        ("types in types", FileDescriptorProto { message_type: vec![deep], ..file("hostile/d06.proto") }),
        (
            "a long name",
            FileDescriptorProto { message_type: vec![message("M".repeat(64 << 10))], ..file("hostile/d06.proto") },
        ),
        ("dots", FileDescriptorProto { package: Some("a.".repeat(10_000) + "a"), ..file("hostile/d06.proto") }),
        ("a long file name", file(&"f".repeat(64 << 10))),
    ];
    let mut longest = Duration::ZERO;
    for (what, file) in &files {
        let began = Instant::now();
        let codes = [Code::InvalidArgument, Code::ResourceExhausted];
        refused(what, t.register(file).await, &codes)?;
        longest = longest.max(began.elapsed());
    }
    check(longest <= Duration::from_millis(200) * PATIENCE, || format!("one took {} ms", longest.as_millis()))?;
    Ok(format!("{} refused, the slowest in {} ms", files.len(), longest.as_millis()))
}

async fn d07(t: &Target) -> Verdict {
    let option = |text: String| UninterpretedOption {
        name: vec![NamePart { name_part: "opt".into(), is_extension: true }],
        aggregate_value: Some(text),
        ..Default::default()
    };
    for (what, text) in [("2,000 levels", "a{".repeat(2_000)), ("300 KiB", "a".repeat(300 << 10))] {
        let options = FileOptions { uninterpreted_option: vec![option(text)], ..Default::default() };
        let file = FileDescriptorProto { options: Some(options), ..file("hostile/d07.proto") };
        refused(what, t.register(&file).await, &[Code::InvalidArgument])?;
    }
    Ok("2 refused".into())
}

async fn d09(t: &Target) -> Verdict {
    let cycles = t.many(60, 5_000);
    let mut took = Vec::with_capacity(cycles);
    for n in 0..cycles {
        let mut good =
            proto("hostile/d09.proto", "syntax = \"proto3\"; package hostile.d09; message M { string a = 1; }");
        good.options = Some(FileOptions { java_package: Some(format!("p{}", n % 7)), ..Default::default() });
        let began = Instant::now();
        done("a revision", t.register(&good).await)?;
        took.push(began.elapsed());
        let bad = FileDescriptorProto { dependency: vec!["no/such.proto".into()], ..good };
        refused("a broken revision", t.register(&bad).await, &[Code::InvalidArgument])?;
    }
    // The fastest of each: what else runs on the machine only ever adds.
    let fastest = |part: &[Duration]| part.iter().min().copied().unwrap_or_default();
    let (first, last) = (fastest(&took[..cycles / 4]), fastest(&took[cycles - cycles / 4..]));
    let slower = last.as_secs_f64() / first.as_secs_f64().max(1e-6);
    check(slower < 2.0 || t.node.is_none(), || format!("the last took {slower:.1} times as long as the first"))?;
    Ok(format!("{} cycles, the last {slower:.2} times the first", cycles))
}

async fn d10(t: &Target) -> Verdict {
    let mut race = JoinSet::new();
    // Another name for every run: a race is lost once for good.
    let mark = t.seed % 64;
    for n in 0..32 {
        let text = format!("syntax = \"proto3\"; package hostile.race{mark}; message Winner {{ string n{n} = 1; }}");
        let request = pb::RegisterProtoRequest {
            namespace: t.namespace.clone(),
            file_descriptor: Some(RawDescriptor::of(&proto(&format!("hostile/race{mark}/{n}.proto"), &text))),
            dependencies: Vec::new(),
        };
        let wire = t.wire.clone();
        race.spawn(async move { (n, wire.to(PROTO).status(&request).await) });
    }
    let mut winners = Vec::new();
    for (n, ended) in race.join_all().await {
        match ended {
            Ok(()) => winners.push(n),
            Err(status) => drop(refused::<()>("a loser", Err(status), &[Code::AlreadyExists])?),
        }
    }
    check(winners.len() == 1, || format!("winners: {winners:?}"))?;
    Ok(format!("1 of 32, number {}", winners[0]))
}

async fn d11(t: &Target) -> Verdict {
    let mut asked = 0;
    let names =
        ["../Greeter", "greeter.v1.greeter", "GREETER.V1.GREETER", "", "a\0b", "*", "greeter.v1", "%2e%2e/Greeter"];
    for name in names {
        for namespace in [t.namespace.as_str(), "", "system", "no-such-namespace"] {
            let request = pb::LookupServiceRequest { namespace: namespace.into(), service_name: name.into() };
            let found = t.wire.to("collector.CollectorRegistry/LookupService").status(&request).await;
            let codes = [Code::NotFound, Code::PermissionDenied, Code::InvalidArgument];
            refused(&format!("{name:?} in {namespace:?}"), found, &codes)?;
            let request = pb::ValidateMethodRequest {
                namespace: namespace.into(),
                service_name: name.into(),
                method_name: "SayHello".into(),
            };
            let path = "collector.CollectorRegistry/ValidateMethod";
            match t.wire.to(path).ask::<pb::ValidateMethodResponse>(&request).await {
                Ok(reply) => check(!reply.is_valid, || format!("{name:?} in {namespace:?} is valid"))?,
                Err(status) => drop(refused::<()>("validate", Err(status), &[Code::PermissionDenied])?),
            }
            asked += 2;
        }
    }
    // What somebody else has, and what nobody has.
    for name in names.into_iter().chain(["greeter.v1.Greeter", "greeter.v1.HelloRequest"]) {
        let (theirs, nobodys) = (told_of(t, &t.bystander.namespace, name).await, told_of(t, NOBODYS, name).await);
        check(theirs == nobodys, || format!("{name:?}: {theirs:?} of what is there, {nobodys:?} of what is not"))?;
        asked += 4;
    }
    Ok(format!("{asked} refused, those of others' as those of nobody's"))
}

/// A namespace that there is not.
const NOBODYS: &str = "no-such-namespace";

/// All that is told of a service in a namespace, but for the namespace's name.
async fn told_of(t: &Target, namespace: &str, name: &str) -> Vec<String> {
    let anonymous = |text: String| text.replace(namespace, "NAMESPACE");
    let lookup = pb::LookupServiceRequest { namespace: namespace.into(), service_name: name.into() };
    let found = t.wire.to("collector.CollectorRegistry/LookupService").status(&lookup).await;
    let validate = pb::ValidateMethodRequest {
        namespace: namespace.into(),
        service_name: name.into(),
        method_name: "SayHello".into(),
    };
    let path = "collector.CollectorRegistry/ValidateMethod";
    let valid = t.wire.to(path).ask::<pb::ValidateMethodResponse>(&validate).await;
    let found = found.map_or_else(|status| told(&status), |()| "found".to_owned());
    let valid = valid.map_or_else(|status| told(&status), |reply| format!("{reply:?}"));
    vec![anonymous(found), anonymous(valid)]
}
