//! H: what running code asks of the node.

use super::files;
use crate::case::{Case, Cost, Miss, Verdict, check, done, refused, told};
use crate::outside::Outside;
use crate::target::{ERRANDS, LONG, Target, code, overruns};
use collector::rpc::pb;
use prost_types::Any;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

const SHORT: Duration = Duration::from_millis(250);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "H01",
            "a flood to stdout and to the log; escape codes, line ends and fake JSON in lines",
            "cut at 64 KiB; one line each, escaped",
            |t| Box::pin(h01(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "H02",
            "a poll of 1 M entries, timers of zero, what is never ready, a sleep of an hour",
            "RESOURCE_EXHAUSTED, trap or DEADLINE_EXCEEDED",
            |t| Box::pin(h02(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "H03",
            "2^40 random bytes; the clock without end; a timer built of its readings",
            "RESOURCE_EXHAUSTED; DEADLINE_EXCEEDED; no step below 1 ms",
            |t| Box::pin(h03(t)),
        )
        .costs(Cost::Slow),
        Case::new("H04", "a look for files, folders, variables and arguments", "there are none", |t| Box::pin(h04(t))),
        files::filled(),
        files::read_only(),
        Case::new(
            "H07",
            "two lengths, 100,000 headers, a body too large, cut off, without end; headers with line ends of its own",
            "an error, in 14 s where the other side dribbles",
            |t| Box::pin(h07(t)),
        )
        .costs(Cost::Waits),
        Case::new("H08", "any use of sockets", "refused by name before anything runs", |t| Box::pin(h08(t))),
        Case::new(
            "H09",
            "collections, secrets and services of another namespace, by name and by path; a trap that holds a secret",
            "NOT_FOUND or INVALID_ARGUMENT, the secret in no answer and no line of the log",
            |t| Box::pin(h09(t)),
        )
        .costs(Cost::Slow),
        Case::new("H10", "a grant taken back during a call", "the next host call is denied, within 1 s", |t| {
            Box::pin(h10(t))
        })
        .costs(Cost::Slow),
    ]
}

async fn h01(t: &Target) -> Verdict {
    t.prepare().await?;
    let flood = t.many(32 << 20, 1 << 30) as u64;
    let (done_, logged) = t
        .logged(async {
            done("stdout", t.sin("FloodStdout", flood, "", Some(LONG)).await)?;
            done("the log", t.sin("FloodLog", 100_000, "all work and no play", Some(LONG)).await)
        })
        .await;
    done_?;
    // Two calls of 64 KiB, and what the log writes around each line.
    check(logged < 2 << 20, || format!("{logged} bytes were logged"))?;
    let fake = "\u{1b}[2J\r\n{\"level\":\"ERROR\",\"message\":\"fake\"}\n2026-01-01T00:00:00Z ERROR fake";
    done("odd lines", t.sin("FloodLog", 3, fake, Some(LONG)).await)?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    if let Some(node) = &t.node {
        let tail = node.log_tail();
        check(!tail.contains('\u{1b}'), || "an escape code is in the log".to_owned())?;
        let forged = tail.lines().find(|line| line.starts_with("{\"level") || line.starts_with("2026-01-01T00"));
        check(forged.is_none(), || "a line of the log is the guest's".to_owned())?;
    }
    Ok(format!("{} KiB of log for {} MiB", logged >> 10, flood >> 20))
}

async fn h02(t: &Target) -> Verdict {
    t.prepare().await?;
    let codes = [Code::ResourceExhausted, Code::Unknown, Code::DeadlineExceeded];
    let many = refused("1 M entries", t.sin("PollMany", 1_000_000, "", Some(LONG / 8)).await, &codes)?;
    let answer = t.sin("PollNothing", 1_000_000_000, "", Some(SHORT)).await;
    refused("timers of zero", answer, &[Code::DeadlineExceeded, Code::ResourceExhausted])?;
    for (what, method, amount) in [("never ready", "PollMany", 1), ("an hour", "Sleep", 3_600_000)] {
        overruns(what, SHORT, || async { t.sin(method, amount, "", Some(SHORT)).await.map(drop) }).await?;
    }
    Ok(format!("1 M entries: {:?}", many.code()))
}

async fn h03(t: &Target) -> Verdict {
    t.prepare().await?;
    for amount in [1 << 40, (64 << 10) + 1] {
        let answer = t.sin("HugeRandom", amount, "", Some(LONG)).await;
        refused(&format!("{amount} random bytes"), answer, &[Code::ResourceExhausted, Code::Unknown])?;
    }
    let late =
        overruns("the clock", SHORT, || async { t.sin("ClockForever", 0, "", Some(SHORT)).await.map(drop) }).await?;
    let (step, _) = done("the clock's step", t.sin("ClockStep", 100_000, "", Some(LONG)).await)?;
    check(step.amount >= 1_000_000, || format!("the clock has steps of {} ns", step.amount))?;
    Ok(format!("stopped {} ms late; steps of {} us", late.as_millis(), step.amount / 1_000))
}

async fn h04(t: &Target) -> Verdict {
    t.prepare().await?;
    let (found, _) = done("a look around", t.sin("ReadSecrets", 0, "", Some(LONG)).await)?;
    check(found.amount == 0, || format!("it found {}", found.text.escape_debug()))?;
    Ok("nothing found".into())
}

async fn h08(t: &Target) -> Verdict {
    let sockets = &t.guests.sockets;
    let input = Any { type_url: "type.googleapis.com/misbehave.sockets.v1.ConnectRequest".into(), ..Any::default() };
    let answer = t.serve("misbehave.sockets.v1.Sockets", "Connect", input, code(sockets), Some(LONG)).await;
    let status = refused("sockets", answer, &[Code::FailedPrecondition])?;
    check(status.message().contains("wasi:sockets/"), || format!("not named: {}", told(&status)))?;
    Ok("refused by name".into())
}

async fn h07(t: &Target) -> Verdict {
    if t.node.is_none() {
        return Err(Miss::Skipped("the node would have to reach a server of the suite's: net.allow".into()));
    }
    let t = &t.part("-b");
    t.errands().await?;
    let many: String = (0..100_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = "x".repeat((1 << 20) + 1);
    let ok = "HTTP/1.1 200 OK\r\n";
    let answers = [
        ("two lengths", format!("{ok}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!"), Code::Unavailable),
        ("100,000 headers", format!("{ok}{many}\r\n"), Code::Unavailable),
        ("a header of 1 MiB", format!("{ok}x: {large}\r\n\r\n"), Code::Unavailable),
        ("a body too large", format!("{ok}\r\n{large}"), Code::ResourceExhausted),
        ("a body cut off", format!("{ok}content-length: 10\r\n\r\nshort"), Code::Unavailable),
        ("a broken chunk", format!("{ok}transfer-encoding: chunked\r\n\r\nzzz\r\n"), Code::Unavailable),
        ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n".to_owned(), Code::Unavailable),
        ("nothing", String::new(), Code::Unavailable),
    ];
    let count = answers.len();
    let mut last = None;
    for (what, answer, code) in answers {
        let outside = Outside::saying(answer, false).await?;
        t.grant(&[&outside.grant()]).await?;
        refused(what, t.fetch(&outside.order(&[])).await, &[code])?;
        last = Some(outside);
    }
    let outside = last.ok_or("no server")?;
    let crowd = [("x", "y"); 101];
    for headers in [&[("x", "a\r\nb: c")][..], &[("content-length", "1")], &[("Host", "other")], &crowd] {
        let what = format!("own headers, {} of them, {:?}", headers.len(), headers.first());
        refused(&what, t.fetch(&outside.order(headers)).await, &[Code::InvalidArgument])?;
    }
    let dribble = Outside::saying(format!("{ok}content-length: 1000000\r\n\r\n"), true).await?;
    t.grant(&[&dribble.grant()]).await?;
    let began = Instant::now();
    refused("a body without end", t.fetch(&dribble.order(&[])).await, &[Code::DeadlineExceeded])?;
    let took = began.elapsed();
    check(took < Duration::from_secs(14), || format!("a body without end took {} s", took.as_secs()))?;
    Ok(format!("{} refused, the dribble after {:.1} s", count + 5, took.as_secs_f64()))
}

/// Sets a secret.
async fn keep_secret(t: &Target, namespace: &str, name: &str, value: &str) -> Result<(), Miss> {
    let order = pb::admin::v1::SetSecretRequest {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        value: value.as_bytes().to_vec(),
    };
    t.administer("collector.admin.v1.Secrets/SetSecret", &order).await
}

async fn h09(t: &Target) -> Verdict {
    const SECRET: &str = "s3cr3t-that-nobody-may-see";
    let t = &t.part("-b");
    let foreign = &t.bystander.namespace;
    // The bystander's is its canary: wherever it turned up, I7 would find it.
    keep_secret(t, foreign, "theirs", t.bystander.canary()).await?;
    keep_secret(t, &t.namespace, "own", SECRET).await?;
    t.errands().await?;
    t.grant(&["secret=theirs", "collections=*:write", "dispatch=*"]).await?;
    let (missing, bad) = (&[Code::NotFound][..], &[Code::InvalidArgument][..]);
    let ledger = crate::bystander::COLLECTION;
    let by_path = format!("{foreign}/{ledger}");
    let mut tried = 0;
    for (method, name, codes) in [
        ("OpenSecret", "theirs", missing),
        ("OpenSecret", &format!("{foreign}/theirs"), bad),
        ("Get", ledger, missing),
        ("Put", ledger, missing),
        ("List", ledger, missing),
        ("Get", &by_path, bad),
        ("Put", &by_path, bad),
        ("Remove", &by_path, bad),
        ("List", &by_path, bad),
        ("Search", &by_path, bad),
        ("Get", &format!("../{foreign}"), bad),
        ("Get", "system/secrets", bad),
        ("Get", "", bad),
        ("Get", "secrets", missing),
    ] {
        let answer = t.errand(method, name, "entry-0").await;
        refused(&format!("{method} of {name:?}"), answer, codes)?;
        tried += 1;
    }
    // What is deployed is the bystander's greeter, and there is none here.
    for name in ["greeter.v1.Greeter", &format!("{foreign}/greeter.v1.Greeter")] {
        let codes = [Code::NotFound, Code::InvalidArgument, Code::PermissionDenied];
        refused(&format!("Call of {name:?}"), t.errand("Call", name, "").await, &codes)?;
        tried += 1;
    }
    done("open its own", t.errand("OpenSecret", "own", "").await)?;
    let died = refused("a trap that holds a secret", t.errand("DieWithSecret", "own", "").await, &[Code::Unknown])?;
    check(!format!("{died:?}").contains(SECRET), || "the secret is in the answer".to_owned())?;
    if let Some(node) = &t.node {
        check(!node.log_tail().contains(SECRET), || "the secret is in the log".to_owned())?;
    }
    Ok(format!("{tried} refused, the secret is nowhere"))
}

async fn h10(t: &Target) -> Verdict {
    let t = &t.part("-b");
    t.errands().await?;
    let order = pb::plugin::v1::RevokeRequest {
        namespace: t.namespace.clone(),
        name: ERRANDS.into(),
        grants: vec!["collections".into()],
    };
    // It reads the collection over and over, and ends with what it was told when it no longer may.
    let insist = async { (t.errand("Insist", "notes", "").await, Instant::now()) };
    let revoke = async {
        tokio::time::sleep(SHORT * 2).await;
        t.administer("collector.plugin.v1.Plugins/Revoke", &order).await.map(|()| Instant::now())
    };
    let ((answer, denied), revoked) = tokio::join!(insist, revoke);
    let (words, revoked) = (done("a call that goes on", answer)?, revoked?);
    check(words.starts_with("PERMISSION_DENIED"), || format!("it was told {}", words.escape_debug()))?;
    let late = denied.saturating_duration_since(revoked);
    check(late < Duration::from_secs(1), || format!("denied {} ms late", late.as_millis()))?;
    Ok(format!("denied {} ms after it was taken back", late.as_millis()))
}
