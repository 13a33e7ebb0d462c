//! Whose calls a connection carries, and where they are answered.

use crate::domain::Namespace;
use crate::exec::wasm::Aside;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The namespace of a connection's calls, as long as all are of one. Clones are one.
///
/// Behind a proxy that carries everybody's calls over one connection nobody answers for the others.
#[derive(Debug, Clone, Default)]
pub(super) struct Whose(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    first: OnceLock<Namespace>,
    several: AtomicBool,
}

impl Whose {
    /// Notes that a call of `who` was let in.
    pub(super) fn note(&self, who: &Namespace) {
        if self.0.first.get_or_init(|| who.clone()) != who {
            self.0.several.store(true, Ordering::Relaxed);
        }
    }

    /// The one namespace, if there is one.
    fn only(&self) -> Option<&Namespace> {
        self.0.first.get().filter(|_| !self.0.several.load(Ordering::Relaxed))
    }
}

/// Takes the answering of a connection's requests off the threads of the network, if its namespace has used up its
/// allowance there.
#[derive(Debug, Clone)]
pub(super) struct Apart {
    pub(super) aside: Aside,
    pub(super) whose: Whose,
}

impl Apart {
    /// Gives `answering` back if it may run here.
    pub(super) fn take<F: Future<Output = ()> + Send + 'static>(&self, answering: F) -> Option<F> {
        match self.whose.only() {
            Some(who) => self.aside.take(who, answering),
            None => Some(answering),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_of_one_namespace_until_another_one_calls() {
        let whose = Whose::default();
        assert_eq!(whose.only(), None);
        let [acme, rival] = ["acme", "rival"].map(|name| name.parse::<Namespace>().unwrap());
        whose.note(&acme);
        whose.note(&acme);
        assert_eq!(whose.only(), Some(&acme));
        whose.note(&rival);
        whose.note(&acme);
        assert_eq!(whose.only(), None, "for good");
    }
}
