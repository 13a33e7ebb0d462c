//! More frames, headers and streams than anybody needs.

use super::raw::*;
use super::{Victim, beside};
use std::time::Duration;
use tokio::time::Instant;

/// Whether the node said that it had enough.
fn calmed(said: &[Frame]) -> bool {
    said.iter().any(|frame| frame.kind == GOAWAY && frame.code() == ENHANCE_YOUR_CALM)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_rapid_resets_end_the_connection() {
    let victim = Victim::start(&[]).await;
    let mut raw = Raw::connect(victim.address(), &[]).await;
    let attack = async {
        for batch in 0..1_000_u32 {
            let pair = |n: u32| {
                let stream = (batch * 100 + n) * 2 + 1;
                [
                    open_call(stream, "/collector.CollectiveDispatcher/Serve"),
                    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
                ]
            };
            let resets: Vec<u8> = (0..100).flat_map(pair).flatten().collect();
            if raw.send(&resets).await.is_err() {
                break;
            }
        }
        raw.flood(&[], 0).await
    };
    let (said, closed) = beside(victim.address(), attack).await;
    assert!(closed, "calmed: {}", calmed(&said));
    assert!(victim.worked() < Duration::from_millis(2_500), "{:?}", victim.worked());
    assert!(victim.grown() <= 16, "{} MiB", victim.grown());
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t02_headers_that_never_end_end_the_connection() {
    let victim = Victim::start(&[]).await;
    for part in [vec![0; 16_384], fields(&[("x", "y")]), Vec::new()] {
        let mut raw = Raw::connect(victim.address(), &[]).await;
        raw.send(&frame(HEADERS, 0, 1, &request(REFLECTION))).await.unwrap();
        let began = Instant::now();
        let (_, closed) = beside(victim.address(), raw.flood(&frame(CONTINUATION, 0, 1, &part), 100_000)).await;
        assert!(closed, "{} bytes a frame", part.len());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(victim.grown() <= 16, "{} MiB", victim.grown());
    }
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t03_headers_that_unfold_are_refused_and_held_streams_stay_small() {
    let victim = Victim::start(&[]).await;
    // One entry of the table, and then one byte for each time that it comes again.
    let entry = |value: usize| {
        let length = [&[0x7f][..], &varint(value - 127)].concat();
        [&[0x40, 1, b'x'][..], &length, &vec![b'y'; value]].concat()
    };
    for (value, again, fits) in [(200, 10, true), (127, 80, true), (200, 100_000, false), (3_900, 100_000, false)] {
        let mut raw = Raw::connect(victim.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
        for stream in (0..100).map(|n| n * 2 + 1) {
            let first = if stream == 1 { entry(value) } else { Vec::new() };
            let block = [request(REFLECTION), first, vec![0xbe; again]].concat();
            let mut parts = block.chunks(16_000).enumerate().peekable();
            let mut bytes = Vec::new();
            while let Some((index, part)) = parts.next() {
                let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
                bytes.extend(frame(if index == 0 { HEADERS } else { CONTINUATION }, flags, stream, part));
            }
            if raw.send(&bytes).await.is_err() {
                break;
            }
        }
        if fits {
            // All of them are held at this moment: a PING is answered after them.
            raw.send(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
            let pong = raw.find(|frame| frame.kind == PING && frame.flags & ACK != 0 || frame.kind == GOAWAY).await;
            assert!(pong.is_some_and(|frame| frame.kind == PING), "{value} x {again}");
        } else {
            let end = raw.find(|frame| [RST_STREAM, GOAWAY, HEADERS].contains(&frame.kind)).await;
            assert!(end.is_none_or(|frame| frame.kind != HEADERS || frame.flags & END_STREAM != 0));
        }
        assert!(victim.grown() <= 16, "{value} x {again}: {} MiB", victim.grown());
    }
    victim.is_well().await;
}

/// The rest of an integer that does not fit its prefix. Source: RFC 7541 section 5.1.
fn varint(mut rest: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t04_streams_beyond_a_hundred_are_refused() {
    for (opened, ends) in [(100_u32, false), (101, false), (5_000, true)] {
        let victim = Victim::start(&[]).await;
        let mut raw = Raw::connect(victim.address(), &[]).await;
        let attack = async {
            let calls: Vec<u8> = (0..opened).flat_map(|n| open_call(n * 2 + 1, REFLECTION)).collect();
            let _ = raw.send(&calls).await;
            let _ = raw.send(&frame(PING, 0, 0, &[7; 8])).await;
            let (mut refused, mut closed) = (0, false);
            loop {
                match raw.next().await {
                    None => {
                        closed = true;
                        break (refused, closed);
                    }
                    Some(frame) if frame.kind == RST_STREAM => {
                        assert_eq!(frame.code(), REFUSED_STREAM);
                        refused += 1;
                    }
                    Some(frame) if frame.kind == PING && frame.flags & ACK != 0 => break (refused, closed),
                    Some(_) => {}
                }
            }
        };
        let (refused, closed) = beside(victim.address(), attack).await;
        assert_eq!(closed, ends, "a client that does not stop has to go");
        if !closed {
            assert_eq!(refused, opened - 100);
        }
        drop(raw);
        victim.is_well().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t05_empty_data_ends_the_connection() {
    let victim = Victim::start(&[]).await;
    let mut raw = Raw::connect(victim.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.send(&open_call(1, REFLECTION)).await.unwrap();
    let many = frame(DATA, 0, 1, &[]).repeat(100);
    let (_, closed) = beside(victim.address(), raw.flood(&many, 10_000)).await;
    assert!(closed);
    assert!(victim.grown() <= 16, "{} MiB", victim.grown());
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t05_tiny_data_on_an_unread_stream_ends_the_connection() {
    let victim = Victim::start(&[]).await;
    let mut raw = Raw::connect(victim.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.find(|frame| frame.kind == WINDOW_UPDATE).await.unwrap(); // from now on a stream has 256 KiB
    // A call that is not read further: its answer finds no room.
    raw.send(&open_call(1, REFLECTION)).await.unwrap();
    let message = [prefix(false, 3), vec![0x3a, 1, b'*']].concat(); // list_services
    raw.send(&frame(DATA, 0, 1, &message.repeat(8))).await.unwrap();
    let tiny: Vec<u8> = frame(DATA, 0, 1, &[0]).repeat(1_000);
    let (said, closed) = beside(victim.address(), raw.flood(&tiny, 260)).await;
    assert!(closed && calmed(&said), "{said:?}");
    assert!(victim.grown() <= 16, "{} MiB", victim.grown());
    drop(raw);
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t13_pings_and_settings_without_end_end_the_connection() {
    let victim = Victim::start(&[]).await;
    for one in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[]), frame(2, 0, 1, &[0, 0, 0, 3, 9])] {
        let mut raw = Raw::connect(victim.address(), &[]).await;
        let (_, closed) = beside(victim.address(), raw.flood(&one.repeat(100), 10_000)).await;
        assert!(closed, "frames of kind {}", one[3]);
    }
    assert!(victim.worked() < Duration::from_secs(5), "{:?}", victim.worked());
    assert!(victim.grown() <= 16, "{} MiB", victim.grown());
    victim.is_well().await;
}
