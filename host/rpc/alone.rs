//! One connection, one task, one turn: what is alone on its connection is read, answered and written without a detour.
//!
//! hyper hands the answering of every request to an executor. A task of its own lets requests of one connection run side
//! by side, and costs a wake-up of another thread to take it, and one back to write the answer. The first request of a
//! connection that has no other is answered where it was read. All others get tasks. What is answered for a namespace that
//! has used up its allowance here runs elsewhere: [`Apart`].
//!
//! Its answer wakes the connection that it is a part of. A runtime would put that task at the end of its run queue, and
//! wake another thread to take it from there; here it is polled once more.

use super::coalesce::Turn;
use super::whose::Apart;
use futures_util::task::AtomicWaker;
use hyper_util::rt::TokioExecutor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls in one turn. 4: read, answer, write, and once more for what was woken meanwhile; then others get their turn.
const POLLS_MAX: usize = 4;

type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes what answers the requests of one connection. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Alone {
    place: Arc<Place>,
    apart: Option<Apart>,
}

#[derive(Default)]
struct Place {
    taken: AtomicBool,
    given: Mutex<Option<Answering>>,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Alone {
    fn execute(&self, answering: F) {
        match &self.apart {
            Some(apart) => {
                if let Some(answering) = apart.take(answering) {
                    self.place.give(answering);
                }
            }
            None => self.place.give(answering),
        }
    }
}

impl Place {
    /// To the connection's own task, or to one of its own if that has something.
    fn give(&self, answering: impl Future<Output = ()> + Send + 'static) {
        if self.taken.swap(true, Ordering::AcqRel) {
            hyper::rt::Executor::execute(&TokioExecutor::new(), answering);
            return;
        }
        *self.given() = Some(Box::pin(answering));
    }

    fn given(&self) -> MutexGuard<'_, Option<Answering>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alone {
    /// * `apart`: takes what is not answered on the threads of the network.
    pub(super) fn new(apart: Apart) -> Self {
        Self { apart: Some(apart), ..Self::default() }
    }

    /// Serves a connection that was built with this executor.
    ///
    /// * `turn`: whether what it writes waits for another turn.
    /// * cancel: drops the connection and what answers in its task.
    pub(super) fn drive<C: Future + Unpin>(self, connection: C, turn: Turn) -> Driven<C> {
        let woken = Arc::new(Woken::default());
        Driven { connection, place: self.place, answering: None, turn, waker: Arc::clone(&woken).into(), woken }
    }
}

/// Who wakes the connection: itself while it is polled, or somebody else.
#[derive(Default)]
struct Woken {
    again: AtomicBool,
    polling: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order, and looked at in the other one: a wake-up is seen by who polls, or by the task.
        self.again.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Woken {
    /// The task is polled now; what wakes it from here on is seen at the end.
    fn begin(&self, waker: &Waker) {
        self.polling.store(true, Ordering::SeqCst);
        self.task.register(waker);
    }

    /// Whether something has woken it since this was asked last.
    fn again(&self) -> bool {
        self.again.swap(false, Ordering::SeqCst)
    }

    /// The poll is over. Returns whether something has woken it meanwhile.
    fn end(&self) -> bool {
        self.polling.store(false, Ordering::SeqCst);
        self.again.load(Ordering::SeqCst)
    }
}

/// A connection and what is answered in its task.
pub(super) struct Driven<C> {
    connection: C,
    place: Arc<Place>,
    answering: Option<Answering>,
    turn: Turn,
    waker: Waker,
    woken: Arc<Woken>,
}

impl<C: Future + Unpin> Driven<C> {
    /// Polls the connection and what it answers, each once.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<C::Output> {
        if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx) {
            // Others that run have tasks, and end by themselves; so does this one.
            if let Some(rest) = self.answering.take().or_else(|| self.place.given().take()) {
                hyper::rt::Executor::execute(&TokioExecutor::new(), rest);
            }
            return Poll::Ready(ended);
        }
        if self.answering.is_none() && self.place.taken.load(Ordering::Acquire) {
            self.answering = self.place.given().take();
        }
        // What panics ends, as it would in a task of its own; the connection goes on.
        let polled =
            self.answering.as_mut().map(|answering| catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))));
        if polled.is_some_and(|polled| !matches!(polled, Ok(Poll::Pending))) {
            self.answering = None;
            self.place.taken.store(false, Ordering::Release);
            self.woken.again.store(true, Ordering::SeqCst); // its last words are to be written
        }
        Poll::Pending
    }
}

impl<C: Future + Unpin> Future for Driven<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        let waker = this.waker.clone();
        this.turn.begin();
        this.woken.begin(cx.waker());
        for _ in 0..POLLS_MAX {
            this.woken.again();
            if let Poll::Ready(ended) = this.step(&mut Context::from_waker(&waker)) {
                return Poll::Ready(ended);
            }
            if !this.woken.again.load(Ordering::SeqCst) {
                break;
            }
        }
        if this.woken.end() || this.turn.is_asked() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::task::noop_waker;
    use hyper::rt::Executor as _;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::oneshot;

    /// Gives the executor one piece of work at a time, so many times, as a connection does.
    struct Connection {
        alone: Alone,
        left: usize,
        done: Arc<AtomicUsize>,
    }

    impl Future for Connection {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if self.left == 0 {
                return Poll::Ready(());
            }
            self.left -= 1;
            let done = Arc::clone(&self.done);
            self.alone.execute(async move {
                done.fetch_add(1, Ordering::Relaxed);
            });
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn requests_one_after_the_other_are_all_answered_here() {
        let (alone, done) = (Alone::default(), Arc::new(AtomicUsize::new(0)));
        let connection = Connection { alone: alone.clone(), left: 10, done: Arc::clone(&done) };
        alone.drive(connection, Turn::default()).await;
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn one_that_panics_ends_and_the_connection_goes_on() {
        let (alone, done) = (Alone::default(), Arc::new(AtomicUsize::new(0)));
        alone.execute(async { panic!("an answer") });
        let connection = Connection { alone: alone.clone(), left: 3, done: Arc::clone(&done) };
        alone.drive(connection, Turn::default()).await;
        tokio::task::yield_now().await; // the first of them has a task of its own
        assert_eq!(done.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn while_one_runs_others_get_tasks_and_it_outlives_the_connection() {
        let alone = Alone::default();
        let (finish, finished) = oneshot::channel::<()>();
        let (say, said) = oneshot::channel::<()>();
        alone.execute(async move {
            let _ = finished.await;
            let _ = say.send(());
        });
        let (end, ended) = oneshot::channel::<()>();
        let mut driven = Box::pin(alone.clone().drive(ended, Turn::default()));
        assert!(driven.as_mut().now_or_never().is_none());
        let (second, done) = oneshot::channel::<()>();
        alone.execute(async move {
            let _ = second.send(());
        });
        done.await.expect("a task of its own");
        end.send(()).unwrap();
        driven.await.unwrap();
        finish.send(()).unwrap();
        said.await.expect("what ran goes on");
    }

    #[tokio::test]
    async fn what_wakes_itself_for_ever_lets_others_run() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let restless = std::future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut driven = Alone::default().drive(Box::pin(restless), Turn::default());
        assert!(driven.poll_unpin(&mut Context::from_waker(&noop_waker())).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), POLLS_MAX);
        let woken = tokio::time::timeout(std::time::Duration::from_millis(20), driven).await;
        assert!(woken.is_err() && polls.load(Ordering::Relaxed) > POLLS_MAX, "it is polled again, and the timer fires");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_wake_up_from_another_thread_is_lost() {
        let lifecycle = crate::lifecycle::Lifecycle::default();
        for _ in 0..2_000 {
            let (send, receive) = oneshot::channel::<u32>();
            let driven = lifecycle.spawn(Alone::default().drive(receive, Turn::default()));
            drop(lifecycle.spawn(async move { send.send(7) }));
            let got = tokio::time::timeout(std::time::Duration::from_secs(5), driven).await;
            assert_eq!(got.expect("it is woken").unwrap(), Ok(7));
        }
    }
}
