//! Calls that run at once, and a bounded, fair line of those that wait.
//!
//! Start-time fair queueing: every namespace has a first-in-first-out line and a virtual time, which is the time that its
//! calls held slots divided by its weight. A slot that becomes free goes to the line whose virtual time is least. A
//! namespace that comes back after a pause begins at the present, so that nobody saves up. What a call will hold is
//! not known when it begins: it is charged what its namespace's calls held lately, and at its end the difference.
//!
//! A few slots of a large pool are kept for namespaces that hold next to none: calls are not taken off their slots, so
//! without these a newcomer would wait for another's slowest guest. But for these no slot is free while somebody waits.

use crate::domain::Namespace;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What holding a slot costs at least, in nanoseconds. 100 us: about the shortest call.
const COST_MIN: u64 = 100_000;
/// What holding a slot costs at most, and how far a line may be ahead of the others, in nanoseconds. 1 s: a stream that
/// held its slot for an hour does not keep its namespace away for an hour. With `COST_MIN` it bounds waiting: every
/// other line gets at most 10,000 slots before one that waits gets its own.
const LEAD_MAX: u64 = 1_000_000_000;
/// Lines that are remembered; beyond that those go in which nobody waits or runs. 1,024: about 100 KB.
const LINES_MAX: usize = 1_024;
/// Which share of the slots is kept for newcomers. A sixteenth, of pools with 32 and more.
const RESERVE: usize = 16;

/// As many wait as may; a caller is told to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wait already; try again")]
pub(crate) struct Full;

/// Of a namespace where nobody says otherwise: all alike.
pub(crate) const WEIGHT: u32 = 1;

/// Places to run in, and the lines before them. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Mutex<Books>>);

/// A place to run in, given back on drop.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    who: Namespace,
    since: Instant,
    charged: u64,
}

/// What came of asking.
pub(crate) enum Asked {
    /// There was one.
    Now(Slot),
    /// There will be.
    Later(Waiting),
}

/// A place in a line, given up on drop.
#[derive(Debug)]
pub(crate) struct Waiting {
    slots: Slots,
    who: Namespace,
    ticket: u64,
    answer: oneshot::Receiver<Result<Slot, Full>>,
}

#[derive(Debug)]
struct Books {
    count: usize,
    free: usize,
    reserve: usize,
    queue: usize,
    waiting: usize,
    tickets: u64,
    /// Virtual time of the line that was served last.
    now: u64,
    lines: HashMap<Namespace, Line>,
}

#[derive(Debug)]
struct Line {
    weight: u64,
    running: usize,
    time: u64,
    /// What its calls held lately, in nanoseconds.
    usual: u64,
    waiting: VecDeque<(u64, oneshot::Sender<Result<Slot, Full>>)>,
}

impl Slots {
    /// * `queue`: calls that may wait, all namespaces together. When it is full, a namespace with fewer in it than
    ///   another takes the last place of the longest line, whose owner is told `Full`; else the newcomer is.
    pub(crate) fn new(count: usize, queue: usize) -> Self {
        let reserve = if count < 2 * RESERVE { 0 } else { count / RESERVE };
        Self::with_reserve(count, queue, reserve)
    }

    /// * `reserve`: slots that only namespaces with next to none get.
    pub(crate) fn with_reserve(count: usize, queue: usize, reserve: usize) -> Self {
        let books = Books {
            count,
            free: count,
            reserve: reserve.min(count.saturating_sub(1)),
            queue,
            waiting: 0,
            tickets: 0,
            now: 0,
            lines: HashMap::new(),
        };
        Self(Arc::new(Mutex::new(books)))
    }

    /// Waits for a slot, unless too many wait already. Dropping what it returns gives the slot back.
    ///
    /// * errors: `Full`, also after it has waited.
    /// * cancel: safe; the place in the line is given up.
    pub(crate) async fn take(&self, who: &Namespace, weight: u32) -> Result<Slot, Full> {
        match self.ask(who, weight)? {
            Asked::Now(slot) => Ok(slot),
            Asked::Later(waiting) => waiting.await,
        }
    }

    /// Takes a slot or a place in the line.
    ///
    /// * errors: `Full`.
    pub(crate) fn ask(&self, who: &Namespace, weight: u32) -> Result<Asked, Full> {
        let mut books = self.books();
        books.line(who).weight = u64::from(weight.max(1));
        if books.may_take(who) {
            return Ok(Asked::Now(books.grant(self, who)));
        }
        if books.waiting >= books.queue {
            books.make_room(who)?;
        }
        books.tickets += 1;
        books.waiting += 1;
        let (ticket, (to, answer)) = (books.tickets, oneshot::channel());
        books.line(who).waiting.push_back((ticket, to));
        Ok(Asked::Later(Waiting { slots: self.clone(), who: who.clone(), ticket, answer }))
    }

    /// Slots that are taken.
    pub(crate) fn running(&self) -> usize {
        let books = self.books();
        books.count.saturating_sub(books.free)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn line(&mut self, who: &Namespace) -> &mut Line {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(who) {
            self.lines.retain(|_, line| line.running > 0 || !line.waiting.is_empty());
        }
        let line = || Line { weight: 1, running: 0, time: 0, usual: COST_MIN, waiting: VecDeque::new() };
        self.lines.entry(who.clone()).or_insert_with(line)
    }

    /// Whether a slot is free for it at once. In a line that has some waiting nobody goes ahead.
    fn may_take(&self, who: &Namespace) -> bool {
        self.lines.get(who).is_some_and(|line| line.waiting.is_empty() && self.is_free_for(line))
    }

    fn is_free_for(&self, line: &Line) -> bool {
        self.free > self.reserve || (self.free > 0 && line.running < (self.reserve / 4).max(1))
    }

    /// Books a free slot.
    fn grant(&mut self, slots: &Slots, who: &Namespace) -> Slot {
        let now = self.now;
        let line = self.line(who);
        let start = line.time.max(now).min(now.saturating_add(LEAD_MAX));
        line.time = start.saturating_add(line.usual / line.weight);
        line.running += 1;
        let charged = line.usual;
        self.now = start.max(now);
        self.free = self.free.saturating_sub(1);
        Slot { slots: slots.clone(), who: who.clone(), since: Instant::now(), charged }
    }

    /// Takes the last place of the longest line, if that has more in it than `who`'s would have.
    fn make_room(&mut self, who: &Namespace) -> Result<(), Full> {
        let own = self.lines.get(who).map_or(0, |line| line.waiting.len());
        let longest = self.lines.values_mut().max_by_key(|line| line.waiting.len() as u64 / line.weight);
        match longest.filter(|line| line.waiting.len() > own + 1).and_then(|line| line.waiting.pop_back()) {
            Some((_, last)) => {
                self.waiting -= 1;
                let _ = last.send(Err(Full)); // it can hold no slot
                Ok(())
            }
            None => Err(Full),
        }
    }

    /// Settles what a call has held.
    fn settle(&mut self, who: &Namespace, held: Duration, charged: u64) {
        let held = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX).clamp(COST_MIN, LEAD_MAX);
        self.free += 1;
        let line = self.line(who);
        line.running = line.running.saturating_sub(1);
        line.time = line.time.saturating_add(held / line.weight).saturating_sub(charged / line.weight);
        line.usual = (line.usual * 7 + held) / 8;
    }

    /// Hands free slots to those who wait. Returns what could not be handed over, to be dropped without the lock.
    fn serve(&mut self, slots: &Slots) -> Vec<Slot> {
        let mut left = Vec::new();
        while self.waiting > 0 {
            let ready = self.lines.iter().filter(|(_, line)| !line.waiting.is_empty() && self.is_free_for(line));
            let Some(who) = ready.min_by_key(|(_, line)| line.time).map(|(who, _)| who.clone()) else { break };
            let Some((_, next)) = self.line(&who).waiting.pop_front() else { break };
            self.waiting -= 1;
            if let Err(Ok(slot)) = next.send(Ok(self.grant(slots, &who))) {
                left.push(slot);
            }
        }
        left
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut books = self.slots.books();
        books.settle(&self.who, self.since.elapsed(), self.charged);
        let left = books.serve(&self.slots);
        drop(books);
        drop(left);
    }
}

impl Future for Waiting {
    type Output = Result<Slot, Full>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender is dropped with an answer only.
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or(Err(Full)))
    }
}

impl Drop for Waiting {
    /// A slot that has come meanwhile is in `answer`, and given back when that is dropped, after this.
    fn drop(&mut self) {
        let mut books = self.slots.books();
        let waiting = books.lines.get_mut(&self.who).map(|line| &mut line.waiting);
        let at = waiting.and_then(|waiting| {
            let at = waiting.iter().position(|(ticket, _)| *ticket == self.ticket)?;
            waiting.remove(at)
        });
        if at.is_some() {
            books.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
