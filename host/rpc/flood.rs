//! Frames that carry nothing, counted before h2 reads them: an HTTP/2 client that sends more of them than any has a use
//! for is a flood, and its connection ends. Source: RFC 9113 section 10.5; threats.md T01, T05, T13.
//!
//! h2 answers each PING and SETTINGS and skips each empty DATA frame, at whatever rate they come. Only the nine bytes of
//! frame heads are looked at.

use super::heads::Heads;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// Most that a connection may spend at once. 20,000: a second or two of a client that measures its line with PINGs.
const BURST: u32 = 20_000;
/// What it gets back in a second. 10,000: ten times what clients were seen to need, a twentieth of a core.
const PER_SECOND: u32 = 10_000;
/// Price of PING, SETTINGS, PRIORITY and what is not known.
const CONTROL: u32 = 1;
/// Price of giving a call up. 5: two thousand a second is more than anybody has to give up.
const RESET: u32 = 5;
/// Window updates of a connection at once and in a second. 200,000: one for each of ten streams' every 16 KiB at a
/// gigabyte a second; as many keep a twentieth of a core busy. They are no part of the other budget: who reads a lot sends
/// a lot of them.
const UPDATES: u32 = 200_000;
/// Price of a frame without content, which no client has a reason to send.
const EMPTY: u32 = 100;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// The last frame of a stream may be empty: there is no other way to say so.
const END_STREAM: u8 = 1;

/// Reads along with one connection.
#[derive(Debug)]
pub(super) struct Gauge {
    heads: Heads<HEAD>,
    controls: Purse,
    updates: Purse,
}

/// What may be spent, and comes back with time.
#[derive(Debug)]
struct Purse {
    credit: u32,
    most: u32,
    per_second: u32,
    counted: Instant,
}

/// More than any client has a use for.
#[derive(Debug, thiserror::Error)]
#[error("a flood of HTTP/2 frames without content")]
pub(super) struct Flood;

impl Gauge {
    /// From the end of the preface on.
    pub(super) fn new() -> Self {
        let (controls, updates) = (Purse::new(BURST, PER_SECOND), Purse::new(UPDATES, UPDATES));
        Self { heads: Heads::new(), controls, updates }
    }

    /// Looks at the next bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while let Some([a, b, c, kind, flags, ..]) = self.heads.next(&mut bytes) {
            let payload = u32::from_be_bytes([0, a, b, c]) as usize;
            self.heads.skip(payload);
            match kind {
                WINDOW_UPDATE => self.updates.pay(1)?,
                _ => self.controls.pay(price(kind, flags, payload))?,
            }
        }
        Ok(())
    }
}

impl Purse {
    fn new(most: u32, per_second: u32) -> Self {
        Self { credit: most, most, per_second, counted: Instant::now() }
    }

    fn pay(&mut self, price: u32) -> Result<(), Flood> {
        if self.credit < price {
            let now = Instant::now();
            let earned = now.duration_since(self.counted).min(Duration::from_secs(60));
            self.counted = now;
            let earned = u32::try_from(earned.as_millis()).unwrap_or(0).saturating_mul(self.per_second / 1_000);
            self.credit = self.credit.saturating_add(earned).min(self.most);
        }
        self.credit = self.credit.checked_sub(price).ok_or(Flood)?;
        Ok(())
    }
}

fn price(kind: u8, flags: u8, payload: usize) -> u32 {
    match kind {
        DATA if payload == 0 && flags & END_STREAM == 0 => EMPTY,
        HEADERS | CONTINUATION if payload == 0 => EMPTY,
        // Calls and what they carry are bounded where they are served.
        DATA | HEADERS | CONTINUATION => 0,
        RST_STREAM => RESET,
        _ => CONTROL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = [&length[1..], &[kind, flags, 0, 0, 0, 1]].concat();
        frame.resize(HEAD + payload, 0xff);
        frame
    }

    #[test]
    fn t13_pings_below_at_and_above_the_limit() {
        let mut gauge = Gauge::new();
        for _ in 0..BURST {
            gauge.read(&frame(PING, 0, 8)).unwrap();
        }
        gauge.controls.counted = Instant::now(); // nothing was earned meanwhile
        assert!(gauge.read(&frame(PING, 0, 8)).is_err());
        let mut steady = Gauge::new();
        steady.controls.credit = 0;
        for _ in 0..120 {
            steady.controls.counted = Instant::now() - Duration::from_secs(1);
            for _ in 0..PER_SECOND {
                steady.read(&frame(PING, 0, 8)).unwrap();
            }
        }
    }

    #[test]
    fn t13_window_updates_below_at_and_above_the_limit() {
        let mut gauge = Gauge::new();
        gauge.read(&frame(WINDOW_UPDATE, 0, 4).repeat(UPDATES as usize)).unwrap();
        gauge.updates.counted = Instant::now();
        gauge.read(&frame(PING, 0, 8)).unwrap();
        assert!(gauge.read(&frame(WINDOW_UPDATE, 0, 4)).is_err());
        gauge.updates.counted = Instant::now() - Duration::from_secs(1);
        gauge.read(&frame(WINDOW_UPDATE, 0, 4).repeat(UPDATES as usize)).unwrap();
    }

    #[test]
    fn t05_empty_frames_cost_more_and_ends_of_streams_nothing() {
        let mut gauge = Gauge::new();
        for _ in 0..BURST / EMPTY {
            gauge.read(&frame(DATA, 0, 0)).unwrap();
        }
        for _ in 0..1_000_000 {
            gauge.read(&frame(DATA, END_STREAM, 0)).unwrap();
            gauge.read(&frame(HEADERS, 4, 3)).unwrap();
        }
        gauge.controls.counted = Instant::now();
        assert!(gauge.read(&frame(DATA, 0, 0)).is_err());
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let traffic: Vec<u8> =
            (0..100).flat_map(|n| [frame(DATA, 0, n * 7 + 1), frame(RST_STREAM, 0, 4)].concat()).collect();
        for size in [1, 2, 8, 9, 10, 1_000, traffic.len()] {
            let mut gauge = Gauge::new();
            for part in traffic.chunks(size) {
                gauge.read(part).unwrap();
            }
            assert!(!gauge.heads.is_midway());
            assert_eq!(gauge.controls.credit, BURST - 100 * RESET, "{size}");
        }
    }
}
