//! T: HTTP/2 as no client library speaks it.

use crate::case::{Case, Cost, Miss, Verdict, check, refused};
use crate::messages::Described;
use crate::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FRAME_MAX, HEADERS, PING, REFUSED_STREAM,
    RST_STREAM, Raw, SETTINGS, frame,
};
use crate::target::{Target, code};
use collector::rpc::pb;
use prost::Message as _;
use prost_types::Any;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

/// A path that is there and costs little.
const META: &str = "/collector.CollectionService/Meta";
/// An empty gRPC message.
const EMPTY: [u8; 5] = [0; 5];
/// How long the node may take to end what it has to end at once; a busy machine, a debug build.
const SOON: Duration = Duration::from_secs(5);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("T01", "HEADERS and RST_STREAM by the ten thousand on one connection", "GOAWAY, closed", |t| {
            Box::pin(t01(t))
        })
        .costs(Cost::Slow),
        Case::new("T02", "CONTINUATION without end", "closed", |t| Box::pin(t02(t))),
        Case::new(
            "T03",
            "a HEADERS frame whose one-byte references grow to 16,000 fields, with a window of zero",
            "refused; at most 16 MiB",
            |t| Box::pin(t03(t)),
        ),
        Case::new(
            "T04",
            "5,000 streams opened on one connection",
            "at most 100 open, the rest refused or the connection closed",
            |t| Box::pin(t04(t)),
        ),
        Case::new(
            "T05",
            "empty DATA frames without end on a stream that nobody reads",
            "closed, or taken in memory that stays",
            |t| Box::pin(t05(t)),
        )
        .costs(Cost::Slow),
        // Not beside those that only wait: they could not get in.
        Case::new("T06", "sockets that dribble their first bytes", "closed within 5 s", |t| Box::pin(t06(t)))
            .costs(Cost::Heavy),
        Case::new(
            "T07",
            "a body of one byte a second",
            "reset or DEADLINE_EXCEEDED within 20 s: less than 1 KiB in 10 s",
            |t| Box::pin(t07(t)),
        )
        .costs(Cost::Waits),
        Case::new("T09", "messages that claim 4 GiB, and 4 MiB + 1", "OUT_OF_RANGE or RESOURCE_EXHAUSTED", |t| {
            Box::pin(t09(t))
        }),
        Case::new("T10", "gzip that grows a thousandfold", "UNIMPLEMENTED or RESOURCE_EXHAUSTED", |t| Box::pin(t10(t))),
        Case::new(
            "T11",
            "`grpc-timeout` of 99999999H, -1S, 1x, nothing",
            "held to the node's longest, or INVALID_ARGUMENT",
            |t| Box::pin(t11(t)),
        ),
        Case::new("T13", "PING and SETTINGS by the ten thousand", "closed, or 10 us of a core each at most", |t| {
            Box::pin(t13(t))
        })
        .costs(Cost::Slow),
        Case::new("T13b", "HTTP/1.1, TLS and noise on the port", "closed without a panic", |t| Box::pin(t13b(t))),
        Case::new(
            "T14",
            "more idle connections than the node has places for",
            "it serves again within a second of their end",
            |t| Box::pin(t14(t)),
        )
        .costs(Cost::Heavy),
    ]
}

/// A message with its prefix.
fn grpc(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut body = vec![flag];
    body.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(message);
    body
}

async fn t01(t: &Target) -> Verdict {
    let streams = t.many(20_000, 100_000) as u32;
    let cpu = t.watched().map(|node| node.cpu());
    let mut raw = t.raw(&[]).await?;
    let began = Instant::now();
    let mut sent = 0;
    for stream in (1..).step_by(2).take(streams as usize) {
        let head = raw.head(META, &[]);
        let mut both = frame(HEADERS, END_HEADERS, stream, &head);
        both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        let said = raw.said();
        if raw.bytes(&both).await.is_err() || said.closed || said.goaway.is_some() {
            break;
        }
        sent += 1;
    }
    t.wire.seen.count(sent);
    let said = raw.ends(SOON).await.ok_or(format!("{sent} resets and it is still open"))?;
    check(said.goaway.is_none_or(|why| why == ENHANCE_YOUR_CALM || why == 1), || format!("GOAWAY {:?}", said.goaway))?;
    let cpu = t.watched().map(|node| node.cpu()).zip(cpu).map_or(0.0, |(now, before)| now - before);
    // A quarter of a core for the ten seconds that a hundred thousand are sent in.
    check(cpu <= 2.5, || format!("{cpu:.2} s of a core"))?;
    Ok(format!("closed after {sent} of them, {:.1} s, {cpu:.2} s of a core", began.elapsed().as_secs_f64()))
}

async fn t02(t: &Target) -> Verdict {
    let mut raw = t.raw(&[]).await?;
    let head = raw.head(META, &[]);
    let _ = raw.frame(HEADERS, 0, 1, &head).await;
    // A literal field, never indexed, again and again.
    let field: Vec<u8> = [&[0x10, 1, b'a', 100][..], &[b'b'; 100]].concat();
    let chunk = field.repeat(FRAME_MAX / field.len());
    let began = Instant::now();
    for frames in 0..100_000_u32 {
        let said = raw.said();
        if said.closed || said.goaway.is_some() || raw.frame(CONTINUATION, 0, 1, &chunk).await.is_err() {
            raw.ends(SOON).await.ok_or("the socket breaks, and nobody said why".to_owned())?;
            return Ok(format!("closed after {frames} frames, {} ms", began.elapsed().as_millis()));
        }
    }
    Err(Miss::Failed("100,000 frames and it is still open".into()))
}

async fn t03(t: &Target) -> Verdict {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let before = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    let mut raw = t.raw(&[(INITIAL_WINDOW_SIZE, 0)]).await?;
    for stream in (1..).step_by(2).take(50) {
        let mut head = raw.head(META, &[]);
        // A field of 4 KiB that the table keeps, then references to it, a byte each.
        head.extend([0x40, 1, b'x', 0x7f, 0x81, 0x1e]);
        head.extend([b'y'; 127 + 129 + 30 * 128]);
        head.extend([0x80 | 62; 12_000]);
        if raw.frame(HEADERS, END_HEADERS | END_STREAM, stream, &head[..head.len().min(FRAME_MAX)]).await.is_err() {
            break;
        }
    }
    t.wire.seen.count(50);
    let refused = raw
        .until(SOON, |said| {
            let late = said.headers.values().flatten().any(|(key, value)| key == ":status" && value == "431");
            said.closed || said.goaway.is_some() || !said.resets.is_empty() || late
        })
        .await;
    check(refused.is_some(), || "nothing of it was refused".to_owned())?;
    let after = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    let more = after.saturating_sub(before) >> 10;
    check(more <= 16, || format!("{more} MiB more"))?;
    Ok(format!("{more} MiB more"))
}

async fn t04(t: &Target) -> Verdict {
    t.prepare().await?;
    let mut raw = t.raw(&[]).await?;
    let mut opened = 0_u32;
    for stream in (1..).step_by(2).take(5_000) {
        // Open, and no body: each holds its stream.
        if raw.open(stream, META, &[], 0).await.is_err() {
            break;
        }
        opened += 1;
    }
    t.wire.seen.count(opened.into());
    let said = raw.until(SOON, |said| said.closed || said.goaway.is_some() || said.resets.len() >= 4_900).await;
    let said = said.unwrap_or_else(|| raw.said());
    let gone = said.closed || said.goaway.is_some();
    let refused = said.resets.values().filter(|why| **why == REFUSED_STREAM).count();
    check(gone || opened as usize - said.resets.len() <= 100, || {
        format!("{} streams of {opened} are open", opened as usize - said.resets.len())
    })?;
    t.lives().await?;
    Ok(format!("{refused} of {opened} refused{}", if gone { ", closed" } else { "" }))
}

async fn t05(t: &Target) -> Verdict {
    if t.watched().is_none() {
        return Err(Miss::Skipped("what it takes shows in the node's own process only".into()));
    }
    let frames = t.many(200_000, 1_000_000);
    let before = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    let mut raw = t.raw(&[]).await?;
    raw.open(1, META, &[], 0).await.map_err(|why| why.to_string())?;
    let chunk = frame(DATA, 0, 1, &[]).repeat(1_000);
    let mut sent = 0;
    for _ in 0..frames / 1_000 {
        let said = raw.said();
        if said.closed || said.goaway.is_some() || raw.bytes(&chunk).await.is_err() {
            break;
        }
        sent += 1_000;
    }
    t.wire.seen.count(1);
    // What was sent may be ahead of what was read.
    check(raw.ends(SOON).await.is_some(), || format!("open after {sent} frames"))?;
    let after = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    let more = after.saturating_sub(before) >> 10;
    check(more <= 16, || format!("{more} MiB more"))?;
    Ok(format!("closed, {more} MiB more"))
}

async fn t06(t: &Target) -> Verdict {
    let count = t.many(100, 2_000);
    let mut sockets = JoinSet::new();
    for n in 0..count {
        let address = t.address.clone();
        sockets.spawn(async move {
            // Those that find no place are closed at once: that is fine, too.
            let Ok(socket) = address.tcp().await else { return Duration::ZERO };
            let began = Instant::now();
            let (mut read, mut write) = socket.into_split();
            let first: &[u8] = if n % 2 == 0 { b"PRI * HTTP/2.0\r\n\r\nS" } else { &[22, 3, 1, 2, 0, 1] };
            let dribble = async {
                for byte in first {
                    if write.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                std::future::pending().await
            };
            let closed = async {
                let mut bytes = [0; 256];
                while matches!(read.read(&mut bytes).await, Ok(read) if read > 0) {}
            };
            tokio::select! {
                () = dribble => {}
                () = closed => {}
                () = tokio::time::sleep(Duration::from_secs(20)) => {}
            }
            began.elapsed()
        });
    }
    t.wire.seen.count(count as u64);
    let longest = sockets.join_all().await.into_iter().max().unwrap_or_default();
    // A second more: so late may the machine be to see it.
    check(longest < Duration::from_secs(6), || format!("one was open for {:.1} s", longest.as_secs_f64()))?;
    Ok(format!("{count} closed, the last after {:.1} s", longest.as_secs_f64()))
}

async fn t07(t: &Target) -> Verdict {
    let mut raw = t.raw(&[]).await?;
    raw.open(1, META, &[], 0).await.map_err(|why| why.to_string())?;
    t.wire.seen.count(1);
    let began = Instant::now();
    let mut first = [0_u8, 0, 0, 4, 0].to_vec(); // 1 KiB is to come
    first.resize(64, 0);
    for byte in first {
        if raw.frame(DATA, 0, 1, &[byte]).await.is_err() {
            break;
        }
        let ended = |said: &crate::raw::Said| said.closed || said.ended > 0 || said.resets.contains_key(&1);
        if raw.until(Duration::from_secs(1), ended).await.is_some() || began.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    let said = raw.said();
    let took = began.elapsed();
    check(said.closed || said.ended > 0 || !said.resets.is_empty(), || {
        format!("it is still waited for after {:.0} s", took.as_secs_f64())
    })?;
    if let Some(code) = said.header(1, "grpc-status") {
        check(["4", "8", "1"].contains(&code), || format!("grpc-status {code}"))?;
    }
    Ok(format!("given up after {:.1} s", took.as_secs_f64()))
}

async fn t09(t: &Target) -> Verdict {
    let codes = [Code::OutOfRange, Code::ResourceExhausted];
    let before = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    if let Some(node) = t.watched() {
        node.forget_peak();
    }
    for (what, size) in [("4 GiB", u32::MAX), ("4 MiB + 1", (4 << 20) + 1), ("64 MiB", 64 << 20)] {
        let mut body = vec![0];
        body.extend(size.to_be_bytes());
        body.extend([0; 1_024]);
        for path in [META, "/collector.CollectionService/Batch", "/greeter.v1.Greeter/SayHello"] {
            let namespace = t.bystander.namespace.as_str();
            // The greeter is the bystander's: who may not call it is told so first.
            let (_, status) = t.wire.frame(path, &[("collector-namespace", namespace)], body.clone()).await?;
            let foreign = status.code() == Code::PermissionDenied && path.starts_with("/greeter");
            if !foreign {
                refused::<()>(&format!("{what} to {path}"), Err(status), &codes)?;
            }
        }
    }
    let more = t.watched().map_or(0, |node| node.peak_kib().saturating_sub(before) >> 10);
    check(more <= 16, || format!("the peak was {more} MiB higher"))?;
    Ok(format!("peak {more} MiB more"))
}

async fn t10(t: &Target) -> Verdict {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![0; 64 << 20]).map_err(|why| why.to_string())?;
    let small = gzip.finish().map_err(|why| why.to_string())?;
    let codes = [Code::Unimplemented, Code::ResourceExhausted, Code::OutOfRange];
    let before = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    if let Some(node) = t.watched() {
        node.forget_peak();
    }
    for path in [META, "/collector.CollectionService/Batch"] {
        let (_, status) = t.wire.frame(path, &[("grpc-encoding", "gzip")], grpc(1, &small)).await?;
        refused::<()>(path, Err(status), &codes)?;
    }
    let more = t.watched().map_or(0, |node| node.peak_kib().saturating_sub(before) >> 10);
    check(more <= 32, || format!("the peak was {more} MiB higher"))?;
    Ok(format!("{} KiB that grow to 64 MiB: peak {more} MiB more", small.len() >> 10))
}

async fn t11(t: &Target) -> Verdict {
    let mut longest = 0;
    for timeout in ["99999999H", "-1S", "1x", "", "1", "99999999999S", "1 S", "0x1S", "\u{7f}", "1H1H"] {
        let request = pb::ServeRequest {
            namespace: t.namespace.clone(),
            service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "greeter.v1.Greeter".into() }),
            method_name: "Describe".into(),
            input: Some(Any { type_url: "type.googleapis.com/greeter.v1.DescribeRequest".into(), value: Vec::new() }),
            execution_context: Default::default(),
            service_def: Some(code(&t.guests.greeter)),
        };
        let call = t.wire.to(crate::target::SERVE).header("grpc-timeout", timeout);
        match call.ask::<pb::ServeResponse>(&request).await {
            Ok(reply) => {
                let value = reply.output.unwrap_or_default().value;
                let described = Described::decode(value.as_slice()).map_err(|why| why.to_string())?;
                let left = described.remaining_ms;
                check(described.has_deadline && left <= 600_000, || format!("{timeout:?}: {left} ms"))?;
                longest = longest.max(left);
            }
            // What hyper does not send at all never reached the node.
            Err(status) if status.code() == Code::Aborted && status.message().starts_with("no such header") => {}
            Err(status) => drop(refused::<()>(&format!("{timeout:?}"), Err(status), &[Code::InvalidArgument])?),
        }
    }
    Ok(format!("at most {longest} ms"))
}

async fn t13(t: &Target) -> Verdict {
    let frames = t.many(50_000, 1_000_000);
    let cpu = t.watched().map(|node| node.cpu());
    let mut raw = t.raw(&[]).await?;
    let both = [frame(PING, 0, 0, &[1; 8]), frame(SETTINGS, 0, 0, &[])].concat().repeat(500);
    let began = Instant::now();
    let mut sent = 0;
    for _ in 0..frames / 1_000 {
        let said = raw.said();
        if said.closed || said.goaway.is_some() || raw.bytes(&both).await.is_err() {
            break;
        }
        sent += 1_000;
    }
    t.wire.seen.count(1);
    let answered = raw.until(SOON, |said| said.closed || said.goaway.is_some() || said.acks >= sent).await;
    check(answered.is_some(), || "neither answered nor closed".to_owned())?;
    let cpu = t.watched().map(|node| node.cpu()).zip(cpu).map_or(0.0, |(now, before)| now - before);
    // 10 us each, which is a core for as many in a second as threats.md has, and what the bystander's calls take.
    check(cpu <= 0.25 + sent as f64 * 1e-5, || format!("{cpu:.2} s of a core for {sent}"))?;
    Ok(format!("{sent} in {:.1} s, {cpu:.2} s of a core", began.elapsed().as_secs_f64()))
}

async fn t13b(t: &Target) -> Verdict {
    let hello: [(&str, &[u8]); 5] = [
        ("HTTP/1.1", b"GET /no/such/page HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        ("a broken head", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"),
        ("a TLS hello", &[22, 3, 1, 0, 5, 1, 0, 0, 1, 3, 0, 0, 0]),
        ("noise", &[0xff; 64]),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n"),
    ];
    for (what, bytes) in hello {
        let mut socket = t.address.tcp().await.map_err(|why| why.to_string())?;
        socket.write_all(bytes).await.map_err(|why| why.to_string())?;
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(12), read).await.map_err(|_| format!("{what}: it stays open"))?.ok();
        t.wire.seen.look(what, &answer);
        t.wire.seen.count(1);
    }
    t.lives().await?;
    Ok(format!("{} closed", hello.len()))
}

async fn t14(t: &Target) -> Verdict {
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..1_400 {
        match tokio::time::timeout(Duration::from_millis(100), t.address.tcp()).await {
            Ok(Ok(socket)) => held.push(socket),
            _ => refused += 1,
        }
    }
    let count = held.len();
    t.wire.seen.count(count as u64);
    drop(held);
    let began = Instant::now();
    let mut fresh = Raw::connect(&t.address, t.token.as_deref(), &t.wire.seen, &[]);
    let mut raw = loop {
        match fresh.await {
            Ok(raw) => break raw,
            Err(why) if began.elapsed() > SOON => return Err(Miss::Failed(format!("no new connection: {why}"))),
            Err(_) => fresh = Raw::connect(&t.address, t.token.as_deref(), &t.wire.seen, &[]),
        }
    };
    raw.open(1, META, &[], 0).await.map_err(|why| why.to_string())?;
    raw.frame(DATA, END_STREAM, 1, &EMPTY).await.map_err(|why| why.to_string())?;
    let said = raw.until(SOON * 2, |said| said.header(1, "grpc-status").is_some()).await;
    check(said.is_some(), || "no answer on a new connection".to_owned())?;
    check(began.elapsed() <= Duration::from_secs(1), || format!("only after {} ms", began.elapsed().as_millis()))?;
    Ok(format!("{count} taken, {refused} not; the next answer after {} ms", began.elapsed().as_millis()))
}
