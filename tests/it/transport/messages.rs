//! Messages that lie about their length, trickle, or unfold.

use super::raw::*;
use super::{Victim, beside};
use crate::support::*;
use std::io::Write as _;
use tokio::time::Instant;

const OUT_OF_RANGE: &str = "11";
const RESOURCE_EXHAUSTED: &str = "8";
const DEADLINE_EXCEEDED: &str = "4";

/// Services and the largest message that each takes.
const LIMITS: [(&str, u32); 4] = [
    ("/collector.CollectionService/Get", 4 << 20),
    ("/collector.CollectorRegistry/LookupService", 4 << 20),
    ("/grpc.health.v1.Health/Check", 4 << 10),
    (REFLECTION, 4 << 10),
];

fn too_large(answer: Option<&String>) -> bool {
    answer.is_some_and(|code| [OUT_OF_RANGE, RESOURCE_EXHAUSTED].contains(&code.as_str()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_lengths_above_the_limit_are_refused_before_anything_is_kept() {
    let victim = Victim::start(&[]).await;
    for (path, limit) in LIMITS {
        for length in [limit + 1, u32::MAX] {
            let mut raw = Raw::connect(victim.address(), &[]).await;
            // A hundred at once, each with a prefix and nothing after it.
            for stream in (0..100).map(|n| n * 2 + 1) {
                let lie = frame(DATA, 0, stream, &prefix(false, length));
                raw.send(&[open_call(stream, path), lie].concat()).await.unwrap();
            }
            let answer = beside(victim.address(), raw.answer(1)).await.unwrap();
            assert!(too_large(answer.get("grpc-status")), "{path} {length}: {answer:?}");
            assert!(victim.grown() <= 16, "{path} {length}: {} MiB", victim.grown());
        }
        // At the limit it is a message: not enough of one here.
        let mut raw = Raw::connect(victim.address(), &[]).await;
        let short = frame(DATA, END_STREAM, 1, &prefix(false, limit));
        raw.send(&[open_call(1, path), short].concat()).await.unwrap();
        let answer = raw.answer(1).await.unwrap();
        assert!(!too_large(answer.get("grpc-status")), "{path}: {answer:?}");
    }
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_messages_that_unfold_end_at_the_limit() {
    let victim = Victim::start(&[]).await;
    let gzip = |size: usize| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        (0..size >> 20).for_each(|_| encoder.write_all(&vec![0; 1 << 20]).unwrap());
        encoder.finish().unwrap()
    };
    let bomb = gzip(200 << 20);
    assert!(bomb.len() < 250 << 10, "1:1000, and within the window of a stream: {}", bomb.len());
    for path in ["/collector.CollectionService/Get", "/collector.CollectorRegistry/LookupService"] {
        let head = [request(path), fields(&[("grpc-encoding", "gzip")])].concat();
        for _ in 0..8 {
            let mut raw = Raw::connect(victim.address(), &[]).await;
            let body = [prefix(true, u32::try_from(bomb.len()).unwrap()), bomb.clone()].concat();
            let mut parts = body.chunks(16_384).peekable();
            raw.find(|frame| frame.kind == WINDOW_UPDATE).await.unwrap(); // from now on a stream has 256 KiB
            raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await.unwrap();
            while let Some(part) = parts.next() {
                let flags = if parts.peek().is_none() { END_STREAM } else { 0 };
                if raw.send(&frame(DATA, flags, 1, part)).await.is_err() {
                    break;
                }
            }
            let answer = beside(victim.address(), raw.answer(1)).await.unwrap();
            assert!(too_large(answer.get("grpc-status")), "{path}: {answer:?}");
        }
    }
    assert!(victim.grown() <= 32, "{} MiB", victim.grown());
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t07_a_message_that_stops_halfway_is_given_up_in_ten_seconds() {
    let victim = Victim::start(&[]).await;
    let mut raw = Raw::connect(victim.address(), &[]).await;
    // One that stops, and one that goes on byte by byte until it is given up.
    let began = Instant::now();
    for stream in [1, 3] {
        let part = frame(DATA, 0, stream, &[&prefix(false, 1_000)[..], &[0]].concat());
        raw.send(&[open_call(stream, "/collector.CollectionService/Get"), part].concat()).await.unwrap();
    }
    let attack = async {
        let mut dribble = tokio::time::interval(std::time::Duration::from_secs(1));
        let (mut stopped, mut dribbled) = (None, None);
        while stopped.is_none() || dribbled.is_none() {
            tokio::select! {
                frame = raw.next() => {
                    let frame = frame.expect("the connection goes on");
                    if frame.kind == HEADERS || frame.kind == RST_STREAM {
                        let ended = if frame.stream == 1 { &mut stopped } else { &mut dribbled };
                        ended.get_or_insert((began.elapsed(), frame));
                    }
                    continue;
                }
                _ = dribble.tick() => {}
            }
            if dribbled.is_none() {
                raw.send(&frame(DATA, 0, 3, &[0])).await.unwrap();
            }
        }
        [stopped.unwrap(), dribbled.unwrap()]
    };
    for (took, ended) in beside(victim.address(), attack).await {
        let seconds = took.as_secs();
        assert!((9..20).contains(&seconds), "{seconds} s");
        if ended.kind == HEADERS {
            let fields = hpack::Decoder::new().decode(&ended.payload);
            let code = fields.ok().and_then(|fields| fields.into_iter().find(|(name, _)| name == b"grpc-status"));
            assert!(code.is_none_or(|(_, code)| code == DEADLINE_EXCEEDED.as_bytes()));
        }
    }
    drop(raw);
    victim.is_well().await;
}

#[tokio::test]
async fn t11_the_longest_timeout_is_taken_and_clamped() {
    let node = TestNode::start_with(|config| config.limits.deadline_ms = 500).await;
    for longest in ["99999999H", "99999999M", "99999999S"] {
        let mut raw = Raw::connect(&node.address(), &[]).await;
        let head = [request("/collector.CollectionService/Get"), fields(&[("grpc-timeout", longest)])].concat();
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await.unwrap();
        // No body ever: what ends it is the node's own deadline.
        let answer = raw.answer(1).await.unwrap();
        assert_eq!(answer.get("grpc-status").map(String::as_str), Some(DEADLINE_EXCEEDED), "{longest}: {answer:?}");
    }
}
