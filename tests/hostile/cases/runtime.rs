//! R: what runs, and does not want to stop, or wants more than it may.

use crate::case::{Case, Cost, Verdict, check, done, done_or, refused, told};
use crate::guests::wat::{self, Handler};
use crate::target::{LONG, Target, code, overruns};
use collector::rpc::pb::serve_request::ServiceDef;
use prost::Message as _;
use prost_types::Any;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// What a guest that never ends gets.
const SHORT: Duration = Duration::from_millis(250);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "R01",
            "loops without end: in the method, at the start, in realloc, in post-return",
            "DEADLINE_EXCEEDED at the deadline",
            |t| Box::pin(r01(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "R02",
            "loops of memory.copy over 32 MiB, memory.fill and table.fill",
            "DEADLINE_EXCEEDED at the deadline",
            |t| Box::pin(r02(t)),
        )
        .costs(Cost::Slow),
        Case::new("R03", "recursion without end", "UNKNOWN (GUEST_TRAP)", |t| Box::pin(r03(t))),
        Case::new(
            "R04",
            "memory, tables, resources and instances until there are no more",
            "refused to the guest, or RESOURCE_EXHAUSTED",
            |t| Box::pin(r04(t)),
        ),
        Case::new(
            "R05",
            "host calls that span the whole memory, over and over",
            "RESOURCE_EXHAUSTED (HOST_CALL_LIMIT) or trap",
            |t| Box::pin(r05(t)),
        ),
        Case::new(
            "R07",
            "results with bad discriminants, codes, lengths, broken UTF-8; the same in host calls",
            "UNKNOWN (GUEST_TRAP)",
            |t| Box::pin(r07(t)),
        ),
        Case::new("R08", "handles that are forged, freed, or dropped twice", "UNKNOWN (GUEST_TRAP)", |t| {
            Box::pin(r08(t))
        }),
        Case::new(
            "R09",
            "a marker left all over memory and tables, then fresh instances that look for it",
            "not one byte of it",
            |t| Box::pin(r09(t)),
        )
        .costs(Cost::Slow),
        Case::new("R10", "clients that hang up at random moments of a call", "every slot comes back", |t| {
            Box::pin(r10(t))
        })
        .costs(Cost::Slow),
        Case::new("R11", "traps 1,000 frames deep, panics with 1 MiB to say", "message and log are cut", |t| {
            Box::pin(r11(t))
        }),
    ]
}

fn ended(answer: Result<impl Sized, Status>) -> Result<(), Status> {
    answer.map(drop)
}

/// Calls a handler made by hand.
async fn handler(t: &Target, component: &[u8], timeout: Duration) -> Result<(), Status> {
    let code = ServiceDef::ServiceBinary(component.to_vec().into());
    let input = Any { value: vec![b'i'; 100], ..Any::default() };
    ended(t.serve("S", "M", input, code, Some(timeout)).await)
}

async fn r01(t: &Target) -> Verdict {
    t.prepare().await?;
    let mut latest = Duration::ZERO;
    let sin = overruns("in the method", SHORT, || async { ended(t.sin("Spin", 0, "", Some(SHORT)).await) });
    latest = latest.max(sin.await?);
    let start = overruns("at the start", SHORT, || async {
        let start = code(&t.guests.start);
        ended(t.serve("misbehave.v1.Start", "Any", Any::default(), start, Some(SHORT)).await)
    });
    latest = latest.max(start.await?);
    let forever = "(loop br 0)";
    for (what, handler_) in [
        ("in realloc", Handler { realloc: "(loop br 0) unreachable", ..Handler::ECHO }),
        ("in post-return", Handler { post_return: Some(forever), ..Handler::ECHO }),
    ] {
        let bytes = handler_.bytes()?;
        let bytes = bytes.as_slice();
        latest = latest.max(overruns(what, SHORT, || handler(t, bytes, SHORT)).await?);
    }
    Ok(format!("at most {} ms late", latest.as_millis()))
}

async fn r02(t: &Target) -> Verdict {
    t.prepare().await?;
    let copy = r#"(memory 1000) (func (export "run") (result i32)
        (loop (memory.copy (i32.const 0) (i32.const 32000000) (i32.const 32000000)) br 0) i32.const 0)"#;
    let fill = r#"(memory 1000) (func (export "run") (result i32)
        (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65000000)) br 0) i32.const 0)"#;
    let table = r#"(table 20000 funcref) (func (export "run") (result i32)
        (loop (table.fill (i32.const 0) (ref.null func) (i32.const 20000)) br 0) i32.const 0)"#;
    let mut latest = Duration::ZERO;
    for (what, body) in [("memory.copy", copy), ("memory.fill", fill), ("table.fill", table)] {
        let bytes = wat::command(body)?;
        let late = overruns(what, SHORT, || async { ended(t.upload(bytes.clone(), SHORT).await) });
        latest = latest.max(late.await?);
    }
    let by_a_compiler =
        overruns("copy_within", SHORT, || async { ended(t.sin("CopyForever", 32, "", Some(SHORT)).await) });
    latest = latest.max(by_a_compiler.await?);
    Ok(format!("at most {} ms late", latest.as_millis()))
}

async fn r03(t: &Target) -> Verdict {
    t.prepare().await?;
    let status = refused("recursion", t.sin("Recurse", 0, "", Some(LONG)).await, &[Code::Unknown])?;
    check(reason(&status) == "GUEST_TRAP", || told(&status))?;
    let mutual = r#"(func $a call $b) (func $b call $a) (func (export "run") (result i32) call $a i32.const 0)"#;
    refused("two functions", t.upload(wat::command(mutual)?, LONG).await, &[Code::Unknown])?;
    Ok("2 traps".into())
}

async fn r04(t: &Target) -> Verdict {
    t.prepare().await?;
    let limit = [Code::ResourceExhausted];
    refused("memory", t.sin("GrowMemory", 1_000, "", Some(LONG)).await, &limit)?;
    let (got, _) = done("memory, asked for politely", t.sin("GrowMemoryPolitely", 1_000, "", Some(LONG)).await)?;
    check(got.amount <= 128, || format!("it got {} MiB", got.amount))?;
    refused("resources", t.sin("LeakResources", 1_000_000, "", Some(LONG)).await, &limit)?;
    let grow = r#"(table 1 funcref) (func (export "run") (result i32)
        (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)"#;
    refused("tables", t.upload(wat::command(grow)?, LONG).await, &[Code::ResourceExhausted, Code::Unknown])?;
    let codes = [Code::FailedPrecondition, Code::InvalidArgument];
    for (what, bytes) in [
        ("instances", wat::instances(64, "")?),
        ("memories", wat::instances(4, "(memory 1)")?),
        ("tables of a component", wat::instances(16, "(table 1 funcref)")?),
        ("a memory of 4 GiB", wat::instances(1, "(memory 65536)")?),
    ] {
        refused(what, t.upload(bytes, LONG).await, &codes)?;
    }
    Ok(format!("{} MiB were given, 7 refusals", got.amount))
}

async fn r05(t: &Target) -> Verdict {
    t.prepare().await?;
    let before = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    if let Some(node) = t.watched() {
        node.forget_peak();
    }
    refused("one call of 48 MiB", t.sin("HugeHostCall", 48 << 20, "", Some(LONG)).await, &[Code::ResourceExhausted])?;
    let peak = |since: u64| t.watched().map_or(0, |node| node.peak_kib().saturating_sub(since) >> 10);
    let first = peak(before);
    check(first <= 48 + 16, || format!("{first} MiB more for a guest of 48 and a call that is refused"))?;
    let before = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    if let Some(node) = t.watched() {
        node.forget_peak();
    }
    // The same span as target and message, without end: each call lifts it all.
    let aliasing = Handler {
        handle:
            "(loop (call $log (i32.const 2) (i32.const 0) (i32.const 131072) (i32.const 0) (i32.const 131072)) br 0)
            unreachable",
        ..Handler::ECHO
    };
    let codes = [Code::DeadlineExceeded, Code::ResourceExhausted, Code::Unknown];
    refused("the same span again and again", handler(t, &aliasing.bytes()?, SHORT * 4).await, &codes)?;
    let beyond = Handler {
        handle: "(call $log (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 65536) (i32.const -1)) i32.const 0",
        ..Handler::ECHO
    };
    refused("a span beyond the memory", handler(t, &beyond.bytes()?, LONG).await, &codes[1..])?;
    let again = peak(before);
    check(again <= 16, || format!("{again} MiB more for guests of 128 KiB"))?;
    Ok(format!("peak {first} MiB more with a guest of 48, {again} with those of 128 KiB"))
}

async fn r07(t: &Target) -> Verdict {
    // A result at 1024: discriminant, then a list, or a fault of code (4), message (8, 12), details (16, 20).
    const BAD: [(&str, &str); 9] = [
        ("a discriminant of 2", "(i32.store8 (i32.const 1024) (i32.const 2)) i32.const 1024"),
        ("a discriminant of 255", "(i32.store8 (i32.const 1024) (i32.const 255)) i32.const 1024"),
        (
            "a fault's code of 200",
            "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1028) (i32.const 200)) i32.const 1024",
        ),
        (
            "a fault of broken UTF-8",
            "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store (i32.const 1032) (i32.const 2048))
             (i32.store (i32.const 1036) (i32.const 4)) (i32.store (i32.const 2048) (i32.const -1)) i32.const 1024",
        ),
        (
            "a reply beyond the memory",
            "(i32.store (i32.const 1028) (i32.const 131000)) (i32.store (i32.const 1032) (i32.const 1000)) i32.const 1024",
        ),
        ("a reply of 4 GiB", "(i32.store (i32.const 1032) (i32.const -1)) i32.const 1024"),
        ("a result that is not aligned", "i32.const 1025"),
        ("a result beyond the memory", "i32.const -4"),
        (
            "a log level of 200",
            "(call $log (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) i32.const 1024",
        ),
    ];
    for (what, handle) in BAD {
        let bytes = Handler { handle, ..Handler::ECHO }.bytes()?;
        let codes = [Code::Unknown, Code::ResourceExhausted];
        let status = refused(what, handler(t, &bytes, LONG).await, &codes)?;
        let reason = reason(&status);
        check(matches!(reason.as_str(), "GUEST_TRAP" | "OUTPUT_LIMIT" | "HOST_CALL_LIMIT"), || {
            format!("{what}: {}", told(&status))
        })?;
    }
    let broken = Handler {
        handle: "(i32.store (i32.const 2048) (i32.const -1))
            (call $log (i32.const 2) (i32.const 2048) (i32.const 4) (i32.const 2048) (i32.const 4)) i32.const 1024",
        ..Handler::ECHO
    };
    refused("a log line of broken UTF-8", handler(t, &broken.bytes()?, LONG).await, &[Code::Unknown])?;
    let realloc = Handler { realloc: "i32.const -8", ..Handler::ECHO };
    refused("memory that is not there", handler(t, &realloc.bytes()?, LONG).await, &[Code::Unknown])?;
    let overlapping = Handler { realloc: "i32.const 0", ..Handler::ECHO };
    done_or("all in one place", handler(t, &overlapping.bytes()?, LONG).await, &[Code::Unknown])?;
    Ok(format!("{} traps", BAD.len() + 2))
}

async fn r08(t: &Target) -> Verdict {
    let timer = "(call $timer (i64.const 0))";
    let bad = [
        ("a forged handle, dropped", "(call $drop (i32.const 7))".to_owned()),
        ("a forged handle, used", "(call $block (i32.const 1))".to_owned()),
        ("handle 0", "(call $block (i32.const 0))".to_owned()),
        ("a handle of -1", "(call $drop (i32.const -1))".to_owned()),
        (
            "dropped twice",
            format!("(local $p i32) (local.set $p {timer}) (call $drop (local.get $p)) (call $drop (local.get $p))"),
        ),
        (
            "used after it was freed",
            format!("(local $p i32) (local.set $p {timer}) (call $drop (local.get $p)) (call $block (local.get $p))"),
        ),
        ("the next one", format!("(call $block (i32.add {timer} (i32.const 1)))")),
    ];
    for (what, body) in &bad {
        let status = refused(what, t.upload(wat::pollables(body)?, LONG).await, &[Code::Unknown])?;
        check(reason(&status) == "GUEST_TRAP", || format!("{what}: {}", told(&status)))?;
    }
    let fair =
        format!("(local $p i32) (local.set $p {timer}) (call $block (local.get $p)) (call $drop (local.get $p))");
    done("an honest one", t.upload(wat::pollables(&fair)?, LONG).await)?;
    Ok(format!("{} traps", bad.len()))
}

async fn r09(t: &Target) -> Verdict {
    t.prepare().await?;
    let rounds = t.many(20, 1_000);
    let fill = wat::command(
        r#"(memory 320) (table 1000 funcref) (elem declare func $f) (func $f)
        (func (export "run") (result i32)
            (memory.fill (i32.const 0) (i32.const 165) (i32.const 20971520))
            (table.fill (i32.const 0) (ref.func $f) (i32.const 1000)) i32.const 0)"#,
    )?;
    // Ends in a trap when it finds anything: memory that nobody wrote, and tables that nobody filled.
    let scan = wat::command(
        r#"(memory 320) (table 1000 funcref)
        (func (export "run") (result i32) (local $at i32)
            (loop
                (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
                (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 20971520))))
            (local.set $at (i32.const 0))
            (loop
                (if (i32.eqz (ref.is_null (table.get (local.get $at)))) (then unreachable))
                (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 1000))))
            i32.const 0)"#,
    )?;
    let mut scanned = 0;
    for round in 0..rounds {
        done("the marker", t.upload(fill.clone(), LONG).await)?;
        if round % 2 == 0 {
            done("the marker, by a compiler", t.sin("Mark", 24, "marker of another tenant ", Some(LONG)).await)?;
            let (found, _) = done("the scan, by a compiler", t.sin("Scan", 24, "", Some(LONG)).await)?;
            check(found.amount == 0, || format!("{} bytes were left", found.amount))?;
            scanned += 1;
        }
        done("the scan", t.upload(scan.clone(), LONG).await)?;
        scanned += 1;
    }
    Ok(format!("{scanned} scans, nothing found"))
}

async fn r10(t: &Target) -> Verdict {
    t.prepare().await?;
    let mut random = t.random();
    let cancels = t.many(200, 10_000);
    for chunk in 0..cancels.div_ceil(20) {
        let mut calls = JoinSet::new();
        let wire = t.fresh()?;
        for n in 0..20 {
            let wire = wire.clone();
            let method = if (chunk + n) % 2 == 0 { "Spin" } else { "PollMany" };
            let sin = crate::messages::Sin { amount: 8, text: String::new() };
            let input = crate::target::any("misbehave.v1.Sin", &sin);
            let code = format!("sha256:{}", t.guests.misbehave.artifact.digest);
            let request = collector::rpc::pb::ServeRequest {
                namespace: t.namespace.clone(),
                service: Some(collector::rpc::pb::ServiceTypeRef {
                    namespace: String::new(),
                    service_name: "misbehave.v1.Misbehave".into(),
                }),
                method_name: method.into(),
                input: Some(input),
                service_def: Some(ServiceDef::ServiceUri(code)),
                ..Default::default()
            };
            let moment = Duration::from_micros(random() % 30_000);
            calls.spawn(async move {
                let call = wire.to(crate::target::SERVE).bytes(vec![request.encode_to_vec()]);
                let _ = tokio::time::timeout(moment, call).await; // hangs up
            });
        }
        calls.join_all().await;
    }
    t.lives().await?;
    Ok(format!("{cancels} calls given up"))
}

async fn r11(t: &Target) -> Verdict {
    t.prepare().await?;
    let traps = t.many(30, 3_000);
    let text = "\u{1b}[31mwoe\r\n".repeat((1 << 20) / 10);
    let (longest, logged) = t
        .logged(async {
            let mut longest = 0;
            for _ in 0..traps {
                let status = refused("a panic", t.sin("Panic", 0, &text, Some(LONG)).await, &[Code::Unknown])?;
                longest = longest.max(status.message().len());
                let deep = t.sin("TrapDeep", 1_000, "deep", Some(LONG)).await;
                longest = longest.max(refused("a deep trap", deep, &[Code::Unknown])?.message().len());
            }
            Ok::<_, String>(longest)
        })
        .await;
    let longest = longest?;
    check(longest <= 4_096, || format!("a message of {longest} bytes"))?;
    let each = logged / (2 * traps as u64);
    check(each <= 8_192, || format!("{each} bytes of log for each"))?;
    Ok(format!("messages up to {longest} bytes, {each} bytes of log each"))
}

fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
