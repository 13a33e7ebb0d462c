//! H: what running code asks of the node.

use crate::case::{Case, Cost, Verdict, check, done, not_yet, refused, told};
use crate::target::{LONG, Target, code, overruns};
use prost_types::Any;
use std::time::Duration;
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
        not_yet("H04b", "a granted folder filled up", "the guest's error; space returns", "no files are granted yet"),
        not_yet("H05", "truncate, link and rename in a folder that is read only", "denied", "no files are granted yet"),
        not_yet("H07", "broken headers and slow bodies in http.fetch", "an error in 10 s", "no http.fetch yet"),
        Case::new("H08", "any use of sockets", "refused by name before anything runs", |t| Box::pin(h08(t))),
        not_yet(
            "H09",
            "collections, config, secrets and calls of another namespace",
            "permission error, no secret anywhere",
            "no such host calls yet",
        ),
        not_yet("H10", "a grant taken back during a call", "the next host call is denied", "no grants yet"),
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
