//! Whose component is compiled next: one at a time for each namespace, a few in all, the namespaces in turns.

use crate::domain::Namespace;
use crate::exec::ExecError;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The line before the compilers. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::exec) struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    at_once: usize,
    queue: usize,
    own_queue: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    /// Namespaces that compile or wait.
    lines: HashMap<Namespace, Line>,
    /// Namespaces with somebody waiting, in the order of their next turn.
    order: VecDeque<Namespace>,
}

#[derive(Debug, Default)]
struct Line {
    running: bool,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to compile, given back on drop.
#[derive(Debug)]
pub(in crate::exec) struct Turn {
    shared: Arc<Shared>,
    namespace: Option<Namespace>,
}

impl Turns {
    /// * `at_once`: components that are compiled at the same time.
    /// * `queue`: that may wait for it, in all.
    /// * `own_queue`: that may wait of one namespace.
    pub(in crate::exec) fn new(at_once: NonZeroUsize, queue: usize, own_queue: usize) -> Self {
        let at_once = at_once.get();
        Self(Arc::new(Shared { at_once, queue, own_queue, state: Mutex::default() }))
    }

    /// Waits for the namespace's turn.
    ///
    /// * errors: `Busy` at once if too many wait already, of this namespace or in all.
    /// * cancel: safe; the turn goes to the next.
    pub(in crate::exec) async fn take(&self, namespace: &Namespace) -> Result<Turn, ExecError> {
        let (sender, turn) = oneshot::channel();
        {
            let mut guard = self.0.lock();
            let state = &mut *guard;
            let line = state.lines.get(namespace);
            let idle = state.running < self.0.at_once && line.is_none_or(|line| !line.running);
            let own = line.map_or(0, |line| line.waiting.len());
            if !idle && (own >= self.0.own_queue || state.waiting >= self.0.queue) {
                return Err(ExecError::Busy);
            }
            state.lines.entry(namespace.clone()).or_default().waiting.push_back(sender);
            state.waiting += 1;
            if own == 0 {
                state.order.push_back(namespace.clone());
            }
        }
        self.0.next();
        turn.await.map_err(ExecError::internal)
    }

    /// Components that wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out turns as long as there are some and somebody may take one.
    fn next(self: &Arc<Self>) {
        loop {
            // Bound before it is sent: a turn that nobody takes is dropped, which takes the lock.
            let picked = self.lock().pick(self.at_once);
            let Some((namespace, waiter)) = picked else { return };
            let turn = Turn { shared: Arc::clone(self), namespace: Some(namespace) };
            if let Err(mut untaken) = waiter.send(turn)
                && let Some(namespace) = untaken.namespace.take()
            {
                self.lock().release(&namespace);
            }
        }
    }
}

impl State {
    fn pick(&mut self, at_once: usize) -> Option<(Namespace, oneshot::Sender<Turn>)> {
        if self.running >= at_once {
            return None;
        }
        let free = |name: &Namespace| self.lines.get(name).is_some_and(|line| !line.running);
        let place = self.order.iter().position(free)?;
        let namespace = self.order.remove(place)?;
        let line = self.lines.get_mut(&namespace)?;
        let waiter = line.waiting.pop_front()?;
        line.running = true;
        if !line.waiting.is_empty() {
            self.order.push_back(namespace.clone()); // behind all others that wait
        }
        self.waiting -= 1;
        self.running += 1;
        Some((namespace, waiter))
    }

    fn release(&mut self, namespace: &Namespace) {
        self.running = self.running.saturating_sub(1);
        if let Some(line) = self.lines.get_mut(namespace) {
            line.running = false;
            if line.waiting.is_empty() {
                self.lines.remove(namespace);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.take() {
            self.shared.lock().release(&namespace);
            self.shared.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn turns(at_once: usize, queue: usize, own: usize) -> Turns {
        Turns::new(at_once.try_into().unwrap(), queue, own)
    }

    fn name(text: &str) -> Namespace {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn w09_a_namespace_in_a_hurry_waits_for_itself_only() {
        let turns = turns(2, 100, 50);
        let first = turns.take(&name("greedy")).await.unwrap();
        let mut waiting: Vec<_> = (0..50)
            .map(|_| {
                let (turns, greedy) = (turns.clone(), name("greedy"));
                Box::pin(async move { turns.take(&greedy).await })
            })
            .collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()), "one at a time");
        assert!(matches!(turns.take(&name("greedy")).now_or_never(), Some(Err(ExecError::Busy))), "its line is full");
        let quiet = turns.take(&name("quiet")).now_or_never().expect("a compiler is free for others").unwrap();
        let third = name("third");
        let mut third = Box::pin(turns.take(&third));
        assert!(third.as_mut().now_or_never().is_none(), "two in all");
        drop(first);
        let _second = waiting[0].as_mut().now_or_never().expect("its turn came before").unwrap();
        drop(quiet);
        assert!(third.as_mut().now_or_never().is_some(), "no later than second");
        assert_eq!(turns.waiting(), 49);
    }

    #[tokio::test]
    async fn w09_namespaces_take_turns_and_all_lines_together_are_bounded() {
        let turns = turns(1, 4, 3);
        let running = turns.take(&name("a")).await.unwrap();
        let mut line: Vec<_> = ["a", "a", "a", "b"]
            .into_iter()
            .map(|who| {
                let (turns, who) = (turns.clone(), name(who));
                Box::pin(async move { turns.take(&who).await })
            })
            .collect();
        assert!(line.iter_mut().all(|one| one.now_or_never().is_none()));
        assert!(matches!(turns.take(&name("c")).now_or_never(), Some(Err(ExecError::Busy))), "4 wait");
        drop(running);
        let first = line[0].as_mut().now_or_never().unwrap();
        drop(first);
        let second = line[3].as_mut().now_or_never().expect("b before the others of a").unwrap();
        assert!(line[1].as_mut().now_or_never().is_none());
        drop(line.remove(1)); // leaves while it waits
        drop(second);
        assert!(line[1].as_mut().now_or_never().is_some());
        drop(line);
        let state = turns.0.lock();
        assert_eq!((state.waiting, state.running, state.lines.len()), (0, 0, 0), "all given back");
    }

    #[tokio::test]
    async fn no_line_at_all_still_lets_one_through() {
        let turns = turns(1, 0, 0);
        let one = turns.take(&name("a")).await.unwrap();
        assert!(turns.take(&name("b")).await.is_err());
        drop(one);
        assert!(turns.take(&name("b")).await.is_ok());
    }
}
