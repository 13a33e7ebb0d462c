//! Whose calls a connection carries, and where they are answered.

use crate::domain::Namespace;
use crate::exec::wasm::Aside;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, oneshot};

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
/// allowance there; else writes down what that takes. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Apart(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    aside: Aside,
    whose: Whose,
    /// For what is answered elsewhere.
    room: Arc<Semaphore>,
}

impl Apart {
    /// * `streams`: requests at once on the connection. Twice as many may be answered elsewhere: those that the client has
    ///   taken back stay in line until they are seen to be over. What is beyond that is answered here.
    pub(super) fn new(aside: Aside, whose: Whose, streams: u32) -> Self {
        let room = usize::try_from(streams).unwrap_or(usize::MAX).saturating_mul(2).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner { aside, whose, room: Arc::new(Semaphore::new(room)) }))
    }

    /// Gives `answering` back if it is to run here.
    pub(super) fn take<F: Future<Output = ()> + Send + 'static>(
        &self,
        answering: F,
    ) -> Option<impl Future<Output = ()> + Send + use<F>> {
        let Inner { aside, whose, room } = &*self.0;
        if let Some(who) = whose.only()
            && !aside.may_begin(who)
            && let Ok(place) = Arc::clone(room).try_acquire_owned()
        {
            let held = async move {
                answering.await;
                drop(place);
            };
            aside.spawn(held, who);
            return None;
        }
        let this = self.clone();
        Some(async move {
            let mut answering = pin!(answering);
            let Inner { aside, whose, .. } = &*this.0;
            poll_fn(|cx| aside.metered(|| whose.only(), || answering.as_mut().poll(cx))).await;
        })
    }

    /// Answers a request of a connection that has one at a time, here or elsewhere.
    ///
    /// * returns: `None`: what answers it panicked, or ended with the node.
    /// * cancel: drops `answering`.
    pub(super) async fn answer<T: Send + 'static>(
        &self,
        answering: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (mut say, said) = oneshot::channel();
        let work = async move {
            tokio::select! {
                answer = answering => drop(say.send(answer)),
                () = say.closed() => {}
            }
        };
        if let Some(work) = self.take(work) {
            work.await;
        }
        said.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::watch;
    use tokio::time::{Instant, timeout};

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

    #[tokio::test]
    async fn so_many_of_a_connection_are_answered_elsewhere_and_the_rest_here() {
        let aside = Aside::testing();
        let [loud, quiet] = ["loud", "quiet"].map(|name| name.parse::<Namespace>().unwrap());
        let whose = Whose::default();
        let apart = Apart::new(aside.clone(), whose.clone(), 2);
        assert!(apart.take(async {}).is_some(), "nobody knows whose it is");
        whose.note(&loud);
        assert!(apart.take(async {}).is_some(), "nobody else calls");
        assert!(aside.may_begin(&quiet));
        let until = Instant::now() + Duration::from_millis(100);
        let spin = || while Instant::now() < until {};
        aside.metered(|| Some(&loud), spin);
        let (end, ended) = watch::channel(false);
        let waits = || {
            let mut ended = ended.clone();
            async move { drop(ended.wait_for(|ended| *ended).await) }
        };
        for n in 0..4 {
            assert!(apart.take(waits()).is_none(), "{n}");
        }
        assert!(apart.take(waits()).is_some(), "twice as many as streams are in line");
        end.send_replace(true);
        let room = async {
            while apart.take(async {}).is_some() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), room).await.expect("there is room again");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_is_dropped() {
        let apart = Apart::new(Aside::testing(), Whose::default(), 1);
        assert_eq!(apart.answer(async { 7 }).await, Some(7));
        let held = Arc::new(());
        let theirs = Arc::clone(&held);
        let waits = apart.answer(async move {
            let _theirs = theirs;
            std::future::pending::<()>().await;
        });
        assert!(timeout(Duration::from_millis(20), waits).await.is_err());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
