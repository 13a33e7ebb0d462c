//! How much of something each namespace has under way.

use crate::domain::Namespace;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts per namespace; holds only namespaces that have something under way.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Namespace, usize>>);

/// One of them, given back on drop.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    namespace: Namespace,
}

impl Turns {
    /// A turn, if the namespace has fewer than `most`.
    pub(super) fn take(self: &Arc<Self>, namespace: &Namespace, most: usize) -> Option<Turn> {
        let mut taken = self.lock();
        let count = taken.entry(namespace.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Turn { turns: Arc::clone(self), namespace: namespace.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Namespace, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.lock();
        if let Some(count) = taken.get_mut(&self.namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_turns_and_no_more() {
        let turns = Arc::new(Turns::default());
        let (acme, rival): (Namespace, Namespace) = ("acme".parse().unwrap(), "rival".parse().unwrap());
        let held = [turns.take(&acme, 2), turns.take(&acme, 2)];
        assert!(held.iter().all(Option::is_some));
        assert!(turns.take(&acme, 2).is_none() && turns.take(&rival, 2).is_some());
        drop(held);
        assert!(turns.lock().is_empty(), "nothing stays of those who are done");
    }
}
