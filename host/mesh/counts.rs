//! What there is to count of a peer, for as long as the node knows it: a few numbers each, that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a call that a peer was to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered it, whatever it said.
    Answered,
    /// The peer said that it did not begin it, and why.
    Refused,
    /// It did not get there; another peer may have got it.
    Unsent,
    /// The peer had it, and was lost before it had answered.
    Lost,
    /// The peer's answer could not be passed on.
    Unusable,
    /// Its caller left, or its deadline passed, before the peer had answered.
    GivenUp,
}

/// The numbers of one peer. The node's own links to it, and the calls over them.
#[derive(Debug, Default)]
pub struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
    unsent: AtomicU64,
    lost: AtomicU64,
    unusable: AtomicU64,
    given_up: AtomicU64,
    dials: AtomicU64,
    links: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls, by [`Outcome`].
    pub answered: u64,
    /// See [`Outcome::Refused`].
    pub refused: u64,
    /// See [`Outcome::Unsent`].
    pub unsent: u64,
    /// See [`Outcome::Lost`].
    pub lost: u64,
    /// See [`Outcome::Unusable`].
    pub unusable: u64,
    /// See [`Outcome::GivenUp`].
    pub given_up: u64,
    /// Times that a link was tried.
    pub dials: u64,
    /// Times that it came up.
    pub links: u64,
    /// Bytes written to its connections, as HTTP/2 has them.
    pub sent_bytes: u64,
    /// Bytes read from them.
    pub received_bytes: u64,
}

impl Counts {
    /// A call is over, as far as the peer is concerned.
    pub(super) fn call(&self, outcome: Outcome) {
        let which = match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Refused => &self.refused,
            Outcome::Unsent => &self.unsent,
            Outcome::Lost => &self.lost,
            Outcome::Unusable => &self.unusable,
            Outcome::GivenUp => &self.given_up,
        };
        which.fetch_add(1, Ordering::Relaxed);
    }

    /// A link is tried.
    pub fn dialled(&self) {
        self.dials.fetch_add(1, Ordering::Relaxed);
    }

    /// It came up.
    pub fn linked(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    /// So much was written to a connection.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So much was read from it.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All of them.
    pub fn tally(&self) -> Tally {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            answered: now(&self.answered),
            refused: now(&self.refused),
            unsent: now(&self.unsent),
            lost: now(&self.lost),
            unusable: now(&self.unusable),
            given_up: now(&self.given_up),
            dials: now(&self.dials),
            links: now(&self.links),
            sent_bytes: now(&self.sent),
            received_bytes: now(&self.received),
        }
    }
}

impl Tally {
    /// Each of them with its name.
    pub fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("calls_answered", self.answered),
            ("calls_refused", self.refused),
            ("calls_unsent", self.unsent),
            ("calls_lost", self.lost),
            ("calls_unusable", self.unusable),
            ("calls_given_up", self.given_up),
            ("dials", self.dials),
            ("links", self.links),
            ("sent_bytes", self.sent_bytes),
            ("received_bytes", self.received_bytes),
        ]
    }
}
