//! W: code that must not be compiled, or not for long.

use crate::case::{Case, Cost, Miss, Verdict, check, done_or, refused, told};
use crate::guests::{big, wat};
use crate::process::Watched;
use crate::target::{LONG, Target, deploy, deploy_with};
use bytes::Bytes;
use collector::rpc::pb::plugin::v1 as plugins;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

const DEPLOY: &str = "collector.plugin.v1.Plugins/Deploy";
/// How long a compiler is waited for that was not built for what it is given.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "W01",
            "nothing, noise, a core module, machine code, an ELF file, a component cut at each percent",
            "INVALID_ARGUMENT (ELF: FAILED_PRECONDITION)",
            |t| Box::pin(w01(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "W02",
            "a 7 MB function, 1 M functions, 60,000 types, 50,000 locals, 1 M targets, 100,000 segments",
            "INVALID_ARGUMENT in 1 s",
            |t| Box::pin(w02(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "W03",
            "shapes that compilers are slow at: deep blocks, values that live long",
            "done, or RESOURCE_EXHAUSTED; the bystander goes on",
            |t| Box::pin(w03(t)),
        )
        .costs(Cost::Heavy),
        Case::new(
            "W04",
            "a compiler that aborts, crashes, says nothing, nonsense, or too much; a component that does so is not known",
            "FAILED_PRECONDITION, the child is gone",
            |t| Box::pin(w04(t)),
        )
        .costs(Cost::Heavy),
        Case::new(
            "W06",
            "each proposal that is off: threads, memory64, several memories, tail calls, GC, exceptions and more",
            "INVALID_ARGUMENT naming it",
            |t| Box::pin(w06(t)),
        ),
        Case::new("W06b", "strings that are not UTF-8; an asynchronous function", "INVALID_ARGUMENT", |t| {
            Box::pin(w06b(t))
        }),
        Case::new(
            "W07",
            "imports beyond the grant; an entry of the wrong type",
            "FAILED_PRECONDITION listing them, nothing is deployed",
            |t| Box::pin(w07(t)),
        ),
        Case::new(
            "W09",
            "100 different components at once from one tenant that may compile for 0.2 s in each minute",
            "RESOURCE_EXHAUSTED (QUOTA) once that is spent; the bystander goes on",
            |t| Box::pin(w09(t)),
        )
        .costs(Cost::Heavy),
    ]
}

async fn w01(t: &Target) -> Verdict {
    let whole = &t.guests.greeter.bytes;
    let mut random = t.random();
    let noise = (0..4_096).map(|_| (random() >> 32) as u8).collect::<Vec<u8>>();
    let mut precompiled = b"\x7fELF\x02\x01\x01\x00".to_vec(); // what a `.cwasm` begins with
    precompiled.extend(&noise);
    let mut damaged = whole.to_vec();
    damaged[whole.len() / 2..].fill(0xff);
    let mut uploads = vec![
        ("nothing".to_owned(), Vec::new()),
        ("noise".to_owned(), noise),
        ("a core module".to_owned(), wat::bytes("(module)")?),
        ("machine code".to_owned(), precompiled),
        ("a script".to_owned(), b"#!/bin/sh\necho".to_vec()),
        ("text".to_owned(), b"(component)".to_vec()),
        ("an empty component".to_owned(), wat::bytes("(component)")?),
        ("half of it overwritten".to_owned(), damaged),
    ];
    let step = if t.full { 1 } else { 3 };
    let percents = (1..100).step_by(step);
    uploads.extend(percents.map(|percent| (format!("{percent} %"), whole[..whole.len() * percent / 100].to_vec())));
    let count = uploads.len();
    for (what, bytes) in uploads {
        // Machine code is FAILED_PRECONDITION where the node runs none.
        refused(&what, t.upload(bytes, LONG).await, &[Code::InvalidArgument, Code::FailedPrecondition])?;
    }
    Ok(format!("{count} refused"))
}

type Make = fn() -> Result<Vec<u8>, String>;

async fn w02(t: &Target) -> Verdict {
    let uploads: [(&str, Make); 6] = [
        ("a function of 7 MB", || big::long_function(7 << 20)),
        ("1 M functions", || big::many_functions(999_000)),
        ("60,000 types", || big::many_types(60_000)),
        ("50,000 locals", || big::many_locals(50_000)),
        ("1 M branch targets", || big::many_targets(1_000_000)),
        ("100,000 segments", || big::many_segments(100_000)),
    ];
    let mut longest = Duration::ZERO;
    for (what, make) in uploads {
        let bytes = make()?;
        let began = Instant::now(); // with the time on the way
        refused(what, t.upload(bytes, PATIENCE).await, &[Code::InvalidArgument])?;
        longest = longest.max(began.elapsed());
    }
    check(longest <= Duration::from_secs(1), || format!("the slowest took {} ms", longest.as_millis()))?;
    Ok(format!("{} refused, the slowest in {} ms", uploads.len(), longest.as_millis()))
}

async fn w03(t: &Target) -> Verdict {
    let blocks = t.many(1_000, 9_000) as u32;
    let uploads = [
        ("deep blocks", big::deep_blocks(blocks)?),
        ("long lives", big::long_lives(500, blocks * 2 + (t.seed % 32) as u32)?),
        ("a long function", big::long_function((500 << 10) - (t.seed % 1_024) as usize)?),
    ];
    let mut figures = Vec::new();
    for (what, bytes) in uploads {
        let began = Instant::now();
        let codes = [Code::ResourceExhausted, Code::FailedPrecondition, Code::DeadlineExceeded];
        let compiled = done_or(what, t.upload(bytes, LONG).await, &codes)?;
        figures.push(format!(
            "{what} {} in {} ms",
            ["refused", "done"][usize::from(compiled)],
            began.elapsed().as_millis()
        ));
    }
    Ok(figures.join(", "))
}

/// A compiler that does what a file of shell words says, then what it should.
fn moody(program: &Path, words: &Path, real: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let write = || {
        let script = format!("#!/bin/sh\n. {}\nexec {} \"$@\"\n", words.display(), real.display());
        std::fs::write(program, script)?;
        std::fs::write(words, "")?;
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))
    };
    write().map_err(|why| why.to_string())
}

async fn w04(t: &Target) -> Verdict {
    let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
    let (program, words) = (folder.path().join("compiler"), folder.path().join("words"));
    let here = t.node.as_ref().ok_or(Miss::Skipped("it takes a node with a compiler of its own".into()))?;
    moody(&program, &words, here.program())?;
    let (node, other) = t.other(&[format!("wasm.compiler={}", program.display())])?;
    let watched = Watched { id: node.id(), folder: node.folder() };
    let mut tried = 0;
    for (what, does) in [
        ("aborts", "kill -ABRT $$"),
        ("crashes", "kill -SEGV $$"),
        ("exits", "exit 3"),
        ("says nothing", "exit 0"),
        ("says nonsense", "echo nonsense; exit 0"),
        ("talks without end", "exec /bin/cat /dev/zero"),
    ] {
        std::fs::write(&words, does).map_err(|why| why.to_string())?;
        for _ in 0..t.many(4, 20) {
            let bytes = distinct(tried)?;
            refused(what, other.upload(bytes, LONG).await, &[Code::FailedPrecondition])?;
            tried += 1;
        }
    }
    let until = Instant::now() + PATIENCE;
    while !watched.held()?.children.is_empty() {
        check(Instant::now() < until, || "I5: a compiler is left".to_owned())?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(format!("{tried} refused, no process left"))
}

async fn w06(t: &Target) -> Verdict {
    let run = r#"(func (export "run") (result i32) i32.const 0)"#;
    let modules = [
        ("threads", "thread", "(memory 1 1 shared)"),
        ("memory64", "memory64", "(memory i64 1)"),
        ("several memories", "memor", "(memory 1) (memory 1)"),
        ("tail calls", "tail", "(func $f (result i32) return_call $f)"),
        ("GC", "gc", "(type (struct))"),
        ("exceptions", "exception", "(tag)"),
        ("custom page sizes", "page", "(memory 1 (pagesize 1))"),
        ("function references", "reference", "(type $t (func)) (func (param (ref $t)))"),
        ("relaxed SIMD", "relaxed", "(func (param v128) (result v128) local.get 0 i32x4.relaxed_trunc_f32x4_s)"),
    ];
    let mut unnamed = Vec::new();
    for (what, word, body) in modules {
        let answer = t.upload(wat::command(&format!("{body} {run}"))?, LONG).await;
        let status = refused(what, answer, &[Code::InvalidArgument])?;
        if !status.message().to_lowercase().contains(word) {
            unnamed.push(what);
        }
    }
    check(unnamed.is_empty(), || format!("refused without naming {}", unnamed.join(", ")))?;
    Ok(format!("{} refused", modules.len()))
}

async fn w06b(t: &Target) -> Verdict {
    let utf16 = wat::command_with(
        r#"(import "collector:plugin/log@0.1.0" (instance $log (type (enum "trace" "debug" "info" "warn" "error" "critical"))
            (export "level" (type (eq 0)))
            (export "write" (func (param "level" 1) (param "target" string) (param "message" string)))))
        (core module $mem (memory (export "memory") 1)) (core instance $mem (instantiate $mem))
        (core func $write (canon lower (func $log "write") (memory (core memory $mem "memory")) string-encoding=utf16))"#,
        r#"(func (export "run") (result i32) i32.const 0)"#,
    )?;
    let asynchronous = wat::bytes(
        r#"(component (core module $m (func (export "run")))
            (core instance $i (instantiate $m))
            (func $run async (result (result)) (canon lift (core func $i "run") async))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#,
    );
    refused("strings that are not UTF-8", t.upload(utf16, LONG).await, &[Code::InvalidArgument])?;
    if let Ok(asynchronous) = asynchronous {
        refused("an asynchronous function", t.upload(asynchronous, LONG).await, &[Code::InvalidArgument])?;
    }
    Ok("2 refused".into())
}

async fn w07(t: &Target) -> Verdict {
    let codes = [Code::FailedPrecondition, Code::InvalidArgument];
    let answer = t.wire.to(DEPLOY).bytes(deploy(&t.namespace, &t.guests.sockets)).await;
    let status = refused("sockets", answer, &[Code::FailedPrecondition])?;
    check(status.message().contains("wasi:sockets/"), || format!("not listed: {}", told(&status)))?;
    let wrong = wat::bytes(
        r#"(component (core module $m (func (export "handle") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $handle (result u32) (canon lift (core func $i "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "collector:plugin/handler@0.1.0" (instance $handler)))"#,
    )?;
    let header = plugins::DeployHeader {
        namespace: t.namespace.clone(),
        name: "wrong".into(),
        services: vec!["greeter.v1.Greeter".into()],
        ..Default::default()
    };
    let answer = t.wire.to(DEPLOY).bytes(deploy_with(header, &Bytes::from(wrong))).await;
    refused("an entry of the wrong type", answer, &codes)?;
    let list = plugins::ListRequest { namespace: t.namespace.clone(), ..Default::default() };
    let listed = t.wire.to("collector.plugin.v1.Plugins/List").ask::<plugins::ListResponse>(&list).await;
    let listed = listed.map_err(|status| told(&status))?.deployments;
    check(listed.is_empty(), || format!("deployed all the same: {}", listed[0].name))?;
    Ok("2 refused".into())
}

/// A command that is no other.
fn distinct(mark: u64) -> Result<Vec<u8>, String> {
    wat::command(&format!(r#"(func (export "run") (result i32) (drop (i64.const {mark})) i32.const 0)"#))
}

async fn w09(t: &Target) -> Verdict {
    let t = &t.part("-d");
    t.quota(&[("compile_ms_per_minute", 200)]).await?;
    let mut race = JoinSet::new();
    for mark in 0..100 {
        // Each some ten milliseconds of a compiler: time is charged by the system's ticks.
        let bytes = big::long_lives(400, 4_000 + (t.seed % 32) as u32 * 100 + mark)?;
        let request = collector::rpc::pb::ServeRequest {
            namespace: t.namespace.clone(),
            service: Some(collector::rpc::pb::ServiceTypeRef { namespace: String::new(), service_name: "S".into() }),
            method_name: "M".into(),
            service_def: Some(collector::rpc::pb::serve_request::ServiceDef::ServiceBinary(bytes.into())),
            ..Default::default()
        };
        let wire = t.wire.clone();
        race.spawn(async move { wire.to(crate::target::SERVE).timeout(LONG).status(&request).await });
    }
    let (mut compiled, mut bound) = (0, false);
    for answer in race.join_all().await {
        bound |= answer.as_ref().is_err_and(|status| told(status).contains("[QUOTA]"));
        compiled += usize::from(done_or("one of 100", answer, &[Code::ResourceExhausted])?);
    }
    check(bound, || format!("{compiled} of 100 compiled, and no quota was met"))?;
    Ok(format!("{compiled} of 100 compiled, the rest refused"))
}
