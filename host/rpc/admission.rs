//! Which connections get in: so many in all, so many of one address, so many that have not said a word yet.
//!
//! What is over a limit is closed at once, and counted. Of those that have not shaken hands yet, one is closed to make
//! room: of the address that has most of them the one that takes longest, so that silent sockets keep out nobody but
//! their own kind.

use super::Config;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a newcomer may take before another takes its place. 20 ms: many that come at the same moment are looked at
/// before any is judged.
const AT_LEAST: Duration = Duration::from_millis(20);
/// How often refusals are worth a line.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Whom an address stands for. IPv6 is given out by the /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Why a connection was closed before it said anything of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// There are `server.connections`.
    Full,
    /// Its address has `server.connections_per_address`.
    Crowded,
    /// It took longest of those of its address, which had most of `server.handshakes`.
    Slow,
    /// The system has no more descriptors, or no more of something else.
    Exhausted,
}

/// How many were closed why, since the last line about it.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    full: u64,
    crowded: u64,
    slow: u64,
    exhausted: u64,
}

/// Counts connections. Clones count the same ones.
#[derive(Debug, Clone)]
pub(super) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: usize,
    per_address: usize,
    handshakes: usize,
    state: Mutex<State>,
    greeted: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    of: HashMap<IpAddr, usize>,
    newcomers: VecDeque<Newcomer>,
    next: u64,
    tally: Tally,
    said: Option<Instant>,
}

#[derive(Debug)]
struct Newcomer {
    id: u64,
    of: IpAddr,
    since: Instant,
    leave: CancellationToken,
}

/// A connection that got in; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    inner: Arc<Inner>,
    of: IpAddr,
    id: u64,
    leave: CancellationToken,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        Self(Arc::new(Inner {
            connections: config.connections,
            per_address: config.connections_per_address,
            handshakes: config.handshakes,
            state: Mutex::default(),
            greeted: Notify::new(),
        }))
    }

    /// Lets a connection in or not. Waits a moment at most, where many newcomers came at once.
    pub(super) async fn admit(&self, address: IpAddr) -> Result<Place, Closed> {
        let of = network(address);
        self.room(of)?;
        self.make_room(of).await;
        Ok(self.enter(of))
    }

    /// Notes what kept a connection out, and says so once in a while.
    pub(super) fn count(&self, why: Closed) {
        self.0.lock().count(why);
    }

    fn room(&self, of: IpAddr) -> Result<(), Closed> {
        let state = self.0.lock();
        if state.open >= self.0.connections {
            return Err(Closed::Full);
        }
        match state.of.get(&of).is_some_and(|open| *open >= self.0.per_address) {
            true => Err(Closed::Crowded),
            false => Ok(()),
        }
    }

    /// Waits until there is room for a newcomer, or closes one of those who have most.
    async fn make_room(&self, of: IpAddr) {
        loop {
            let greeted = self.0.greeted.notified();
            let until = {
                let mut state = self.0.lock();
                if state.newcomers.len() < self.0.handshakes {
                    return;
                }
                let Some(slowest) = state.slowest(of) else { return };
                let until = slowest.since + AT_LEAST;
                if until <= Instant::now() {
                    slowest.leave.cancel();
                    let id = slowest.id;
                    state.greeted(id);
                    state.count(Closed::Slow);
                    return;
                }
                until
            };
            let _ = timeout_at(until, greeted).await;
        }
    }

    fn enter(&self, of: IpAddr) -> Place {
        let mut state = self.0.lock();
        state.open += 1;
        *state.of.entry(of).or_default() += 1;
        let id = state.next;
        state.next += 1;
        let leave = CancellationToken::new();
        state.newcomers.push_back(Newcomer { id, of, since: Instant::now(), leave: leave.clone() });
        Place { inner: Arc::clone(&self.0), of, id, leave }
    }
}

impl Place {
    /// It shook hands and speaks HTTP.
    pub(super) fn greeted(&self) {
        self.inner.lock().greeted(self.id);
        self.inner.greeted.notify_one();
    }

    /// Resolves when it has to make room for another.
    pub(super) async fn unwanted(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.open = state.open.saturating_sub(1);
        if let Some(open) = state.of.get_mut(&self.of) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                state.of.remove(&self.of);
            }
        }
        state.greeted(self.id);
        drop(state);
        self.inner.greeted.notify_one();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who has to make room for one of this address: the oldest newcomer of the address with most of them, counting the
    /// one that comes.
    fn slowest(&self, of: IpAddr) -> Option<&Newcomer> {
        let mut most = HashMap::from([(of, 1)]);
        self.newcomers.iter().for_each(|one| *most.entry(one.of).or_default() += 1);
        let count = |one: &&Newcomer| most.get(&one.of).copied().unwrap_or_default();
        // The first of several, which is the oldest.
        self.newcomers.iter().rev().max_by_key(count)
    }

    fn greeted(&mut self, id: u64) {
        if let Ok(index) = self.newcomers.binary_search_by_key(&id, |newcomer| newcomer.id) {
            self.newcomers.remove(index);
        }
    }

    fn count(&mut self, why: Closed) {
        let count = match why {
            Closed::Full => &mut self.tally.full,
            Closed::Crowded => &mut self.tally.crowded,
            Closed::Slow => &mut self.tally.slow,
            Closed::Exhausted => &mut self.tally.exhausted,
        };
        *count += 1;
        if self.said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        let Tally { full, crowded, slow, exhausted } = std::mem::take(&mut self.tally);
        tracing::warn!(full, crowded, slow, exhausted, "connections were closed at once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, connections_per_address: usize, handshakes: usize) -> Admission {
        Admission::new(&Config { connections, connections_per_address, handshakes, ..Config::default() })
    }

    async fn enter(admission: &Admission, address: &str) -> Result<Place, Closed> {
        let place = admission.admit(address.parse().unwrap()).await?;
        place.greeted();
        Ok(place)
    }

    #[tokio::test]
    async fn connections_below_at_and_above_their_limits() {
        let admission = admission(3, 2, 8);
        let first = enter(&admission, "10.0.0.1").await.unwrap();
        let _second = enter(&admission, "::ffff:10.0.0.1").await.unwrap();
        assert_eq!(enter(&admission, "10.0.0.1").await.err(), Some(Closed::Crowded));
        let _third = enter(&admission, "10.0.0.2").await.unwrap();
        assert_eq!(enter(&admission, "10.0.0.3").await.err(), Some(Closed::Full));
        drop(first);
        let _fourth = enter(&admission, "10.0.0.1").await.unwrap();
    }

    #[tokio::test]
    async fn an_ipv6_network_is_one_address() {
        let admission = admission(8, 1, 8);
        let _first = enter(&admission, "2001:db8:1:2::1").await.unwrap();
        assert_eq!(enter(&admission, "2001:db8:1:2:ffff::9").await.err(), Some(Closed::Crowded));
        let _other = enter(&admission, "2001:db8:1:3::1").await.unwrap();
    }

    #[tokio::test]
    async fn the_slowest_newcomer_makes_room() {
        let admission = admission(8, 8, 2);
        let address = "10.0.0.1".parse().unwrap();
        let slow = admission.admit(address).await.unwrap();
        let quick = admission.admit(address).await.unwrap();
        quick.greeted();
        let third = admission.admit(address).await.unwrap();
        assert!(!slow.leave.is_cancelled(), "two may be slow");
        let _fourth = admission.admit(address).await.unwrap();
        assert!(slow.leave.is_cancelled(), "the third is one too many");
        assert!(!third.leave.is_cancelled() && !quick.leave.is_cancelled());
        slow.unwanted().await;
    }

    #[tokio::test]
    async fn t06_silent_sockets_make_room_for_each_other_and_not_for_their_like() {
        let admission = admission(64, 64, 3);
        let newcomer = async |address: &str| admission.admit(address.parse().unwrap()).await.unwrap();
        // The quiet one is the oldest, and slow: far away.
        let (quiet, mut flood) = (newcomer("10.0.0.1").await, vec![]);
        for _ in 0..20 {
            flood.push(newcomer("10.0.0.2").await);
            assert!(!quiet.leave.is_cancelled(), "after {}", flood.len());
        }
        assert_eq!(flood.iter().filter(|one| !one.leave.is_cancelled()).count(), 2);
        let other = newcomer("10.0.0.3").await;
        assert!(!quiet.leave.is_cancelled() && !other.leave.is_cancelled());
        assert_eq!(flood.iter().filter(|one| !one.leave.is_cancelled()).count(), 1);
    }

    #[tokio::test]
    async fn nothing_is_left_of_connections_that_ended() {
        let admission = admission(4, 4, 4);
        for _ in 0..10 {
            drop(admission.admit("10.0.0.1".parse().unwrap()).await.unwrap());
        }
        let state = admission.0.lock();
        assert_eq!((state.open, state.of.len(), state.newcomers.len()), (0, 0, 0));
    }
}
