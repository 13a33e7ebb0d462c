//! The host side of `streaming`: a guest that waits for a message, or for a reader, holds no thread.

use super::imports::streaming::{Host, HostExchange};
use super::imports::{Code, Fault, Guest};
use super::stdio::ReplyTooLarge;
use super::ticker::TICK;
use crate::domain::Limits;
use crate::exec::Streams;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use wasmtime::component::Resource;

/// The message streams of one call, as a guest holds them.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Exchange {
    streams: Streams,
    /// Most bytes of one reply message.
    message_max: usize,
    /// Longest wait for the caller.
    patience: Duration,
}

/// The guest waited for its caller for too long.
#[derive(Debug, thiserror::Error)]
#[error("the caller was silent for too long")]
pub(super) struct Idle;

impl Exchange {
    pub(super) fn new(streams: Streams, limits: &Limits) -> Self {
        let patience = Duration::from_millis(limits.stream_idle_ms);
        Self { streams, message_max: limits.output_bytes, patience }
    }
}

impl Host for Guest {}

impl HostExchange for Guest {
    async fn next(&mut self, exchange: Resource<Exchange>) -> wasmtime::Result<Result<Option<Vec<u8>>, Fault>> {
        let Exchange { streams, patience, .. } = self.table.get_mut(&exchange)?;
        let next = timeout(*patience, streams.inbound.recv());
        let message = noting_waits(next, &mut self.pace).await.map_err(|_| Idle)?;
        Ok(Ok(message.map(Vec::from)))
    }

    async fn send(&mut self, exchange: Resource<Exchange>, message: Vec<u8>) -> wasmtime::Result<Result<(), Fault>> {
        let Exchange { streams, message_max, patience } = self.table.get(&exchange)?;
        if message.len() > *message_max {
            return Err(ReplyTooLarge.into());
        }
        let sent = timeout(*patience, streams.outbound.send(message.into()));
        let sent = noting_waits(sent, &mut self.pace).await.map_err(|_| Idle)?;
        Ok(sent.map_err(|_hung_up| gone()))
    }

    async fn drop(&mut self, exchange: Resource<Exchange>) -> wasmtime::Result<()> {
        self.table.delete(exchange)?;
        Ok(())
    }
}

fn gone() -> Fault {
    Fault { code: Code::Cancelled, message: "the caller does not read any more".to_owned(), details: Vec::new() }
}

/// How much of a call's time is waiting for its caller, and how much the guest's own.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when the guest computes.
    resumed: Option<Instant>,
    /// How long it has computed between waits.
    computed: Duration,
    /// It waited for a tick or longer since somebody asked.
    waited: bool,
}

/// What a guest may compute between waits before it counts like one that does not wait. Four ticks: a conversation of a
/// thousand short answers.
const UNCOUNTED: Duration = TICK.saturating_mul(4);

impl Pace {
    /// Whether the ticks that just passed were waiting, and not those of a guest that computes a lot in between.
    pub(super) fn take_wait(&mut self) -> bool {
        std::mem::take(&mut self.waited) && self.computed < UNCOUNTED
    }
}

/// Awaits `work`, noting whether it had to wait for a tick or longer: the time that passes then is not the guest's. A
/// shorter wait is not noted, or a guest could wait a little and compute a lot, and never be taken for a slow one.
pub(super) async fn noting_waits<T>(work: impl Future<Output = T>, pace: &mut Pace) -> T {
    let mut work = pin!(work);
    let mut since = None;
    pace.computed += pace.resumed.take().map_or(Duration::ZERO, |resumed| resumed.elapsed());
    let done = poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            since.get_or_insert_with(Instant::now);
        }
        polled
    });
    let done = done.await;
    pace.waited |= since.is_some_and(|since| since.elapsed() >= TICK);
    pace.resumed = Some(Instant::now());
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_wait_that_takes_a_tick_is_noted() {
        let mut pace = Pace::default();
        assert_eq!(noting_waits(async { 7 }, &mut pace).await, 7);
        assert!(!pace.waited, "it was ready at once");
        noting_waits(tokio::time::sleep(TICK), &mut pace).await;
        noting_waits(async {}, &mut pace).await;
        assert!(pace.take_wait(), "until somebody asks");
        assert!(!pace.take_wait());
    }

    #[tokio::test]
    async fn a_guest_that_computes_between_waits_counts_in_the_end() {
        let mut pace = Pace::default();
        noting_waits(tokio::time::sleep(TICK), &mut pace).await;
        for computed in 1..=4 {
            assert!(pace.take_wait(), "{computed} ticks so far");
            pace.resumed = pace.resumed.and_then(|resumed| resumed.checked_sub(TICK)); // the guest computes
            noting_waits(tokio::time::sleep(TICK), &mut pace).await;
        }
        assert!(!pace.take_wait());
    }
}
