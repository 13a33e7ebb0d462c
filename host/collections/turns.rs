//! Whose turn it is to read a record and to write what follows from it, so that those who do both queue up instead of
//! overtaking each other again and again. Others may still write in between: the revision tells.

use super::Place;
use crate::domain::RecordId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// The turns of all records. It knows those that somebody has or waits for: at most as many as calls in flight name.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<(Place, RecordId), Queue>>);

/// Those who have or want one record's turn.
#[derive(Default)]
struct Queue {
    lock: Arc<tokio::sync::Mutex<()>>,
    callers: usize,
}

impl Turns {
    /// Waits for the turn of all of them. In the order of ids: nobody waits for somebody who waits for them.
    ///
    /// * cancel: safe; whose turn came meanwhile passes it on.
    pub(super) async fn take<'a>(&self, place: &Place, ids: impl Iterator<Item = &'a RecordId>) -> Vec<Turn<'_>> {
        let mut wanted: Vec<&RecordId> = ids.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut turns = Vec::with_capacity(wanted.len());
        for id in wanted {
            let (mut turn, lock) = self.enter((place.clone(), id.clone()));
            turn.guard = Some(lock.lock_owned().await);
            turns.push(turn);
        }
        turns
    }

    fn enter(&self, key: (Place, RecordId)) -> (Turn<'_>, Arc<tokio::sync::Mutex<()>>) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(key.clone()).or_default();
        queue.callers += 1;
        (Turn { turns: self, key, guard: None }, Arc::clone(&queue.lock))
    }
}

/// A place in the queue for one record; with the guard, its turn. Dropped, it is the next one's.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    key: (Place, RecordId),
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut queues = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut queue) = queues.entry(self.key.clone()) {
            queue.get_mut().callers -= 1;
            if queue.get().callers == 0 {
                queue.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn ids(names: std::ops::Range<u32>) -> Vec<RecordId> {
        names.map(|n| format!("r{n}").parse().unwrap()).collect()
    }

    #[test]
    fn a_batch_of_a_thousand_holds_up_nobody_but_those_who_want_the_same_records() {
        let turns = Turns::default();
        let place = |name: &str| Place { namespace: "acme".parse().unwrap(), collection: name.parse().unwrap() };
        let (mine, other) = (place("a"), place("b"));
        let batch = turns.take(&mine, ids(0..1_000).iter()).now_or_never().unwrap();
        for id in ids(1_000..2_000) {
            assert!(turns.take(&mine, [&id].into_iter()).now_or_never().is_some(), "{id}");
        }
        let same = ids(7..8);
        assert!(turns.take(&other, same.iter()).now_or_never().is_some(), "another collection");
        let mut next = Box::pin(turns.take(&mine, same.iter()));
        assert!(next.as_mut().now_or_never().is_none(), "the same record");
        drop(batch);
        drop(next.now_or_never().unwrap());
        assert!(turns.0.lock().unwrap().is_empty(), "nobody is there, nothing is kept");
    }

    #[test]
    fn who_leaves_the_queue_leaves_nothing() {
        let turns = Turns::default();
        let place = Place { namespace: "acme".parse().unwrap(), collection: "a".parse().unwrap() };
        let wanted = ids(0..2);
        let first = turns.take(&place, wanted.iter()).now_or_never().unwrap();
        let mut gone = Box::pin(turns.take(&place, wanted.iter()));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(first);
        drop(gone); // it is its turn by now, and it never looked
        assert!(turns.0.lock().unwrap().is_empty());
        assert!(turns.take(&place, wanted.iter()).now_or_never().is_some());
    }
}
