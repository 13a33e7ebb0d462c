//! How long a connection stays: until it is old, idle, or the node drains. Then it is told to go away (GOAWAY), and what
//! runs on it may end.

use super::Config;
use super::stalled::Answers;
use hyper_util::server::graceful::GracefulConnection;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// How long what may last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    age: Option<Duration>,
    idle: Option<Duration>,
    grace: Duration,
}

impl Lifetime {
    pub(super) fn new(config: &Config) -> Self {
        let some = |seconds| (seconds > 0).then(|| Duration::from_secs(seconds));
        Self { age: some(config.age_s), idle: some(config.idle_s), grace: Duration::from_secs(config.age_grace_s) }
    }

    /// The age within a tenth: clients that came at the same moment do not come back at the same moment.
    fn jittered(self) -> Option<Duration> {
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
        self.age.map(|age| age.mul_f64(0.9 + share * 0.2))
    }
}

/// Counts what runs on one connection, and knows its answers. Clones count the same.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    born: Instant,
    running: AtomicUsize,
    /// When the last one ended, in milliseconds since `born`.
    ended: AtomicU64,
    answers: Answers,
    /// How long an answer may wait for its reader.
    unread: Duration,
}

/// Something runs on the connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Running(Activity);

impl Activity {
    /// * `unread`: how long an answer may wait for its reader.
    pub(super) fn new(unread: Duration) -> Self {
        let (running, ended, answers) = (AtomicUsize::new(0), AtomicU64::new(0), Answers::default());
        Self(Arc::new(Counts { born: Instant::now(), running, ended, answers, unread }))
    }

    /// A request has come.
    pub(super) fn begin(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        Running(self.clone())
    }

    /// The body of an answer, for as long as it is read.
    ///
    /// * `longest`: how long it may wait for its reader, where that is not as usual.
    pub(super) fn watch(&self, body: Body, longest: Option<Duration>) -> Body {
        let Counts { answers, unread, .. } = &*self.0;
        answers.watch(body, longest.unwrap_or(*unread))
    }

    /// Whether more than one thing runs.
    pub(super) fn is_shared(&self) -> bool {
        self.0.running.load(Ordering::Relaxed) > 1
    }

    /// When it will have been idle for so long, as it looks now.
    fn idle_at(&self, idle: Duration) -> Instant {
        if self.0.running.load(Ordering::Acquire) > 0 {
            return Instant::now() + idle;
        }
        self.0.born + Duration::from_millis(self.0.ended.load(Ordering::Acquire)) + idle
    }

    /// Resolves once nothing has run for so long.
    async fn idle(&self, idle: Option<Duration>) {
        let Some(idle) = idle else { return std::future::pending().await };
        loop {
            let at = self.idle_at(idle);
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }
}

impl Running {
    /// Where it is counted.
    pub(super) fn activity(&self) -> Activity {
        self.0.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let counts = &self.0.0;
        let now = u64::try_from(counts.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        counts.ended.fetch_max(now, Ordering::AcqRel);
        counts.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves a connection to its end.
///
/// * `drain`: the node stops; whoever says so cuts what does not end.
/// * cancel: cuts it.
pub(super) async fn tend<C: GracefulConnection>(
    connection: C,
    lifetime: Lifetime,
    activity: &Activity,
    drain: &CancellationToken,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    let old = async {
        match lifetime.jittered() {
            Some(age) => sleep(age).await,
            None => std::future::pending().await,
        }
    };
    let mut unread = pin!(activity.0.answers.tend());
    let grace = tokio::select! {
        // First: what was asked before it was told to close is answered.
        biased;
        ended = connection.as_mut() => return ended,
        () = &mut unread => None,
        () = drain.cancelled() => None,
        () = old => Some(lifetime.grace),
        () = activity.idle(lifetime.idle) => Some(lifetime.grace),
    };
    connection.as_mut().graceful_shutdown();
    let over = async {
        match grace {
            Some(grace) => sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = connection => ended,
        () = unread => Ok(()),
        () = over => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_when_nothing_has_run_for_long_enough() {
        let (activity, idle) = (Activity::new(Duration::from_secs(60)), Duration::from_millis(40));
        let began = Instant::now();
        let running = activity.begin();
        sleep(Duration::from_millis(100)).await;
        drop(running);
        activity.idle(Some(idle)).await;
        assert!(began.elapsed() >= Duration::from_millis(139), "{:?}", began.elapsed());
    }

    #[test]
    fn ages_differ_by_a_tenth() {
        let lifetime = Lifetime::new(&Config::default());
        for _ in 0..100 {
            let age = lifetime.jittered().unwrap().as_secs();
            assert!((1_620..=1_980).contains(&age), "{age}");
        }
        assert_eq!(Lifetime::new(&Config { age_s: 0, ..Config::default() }).jittered(), None);
    }
}
