//! How this node's own links are: for those who look, and for the records.

use super::counts::Counts;
use crate::domain::{CollectorId, Namespace, now};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Bytes of an error that are kept: a line.
const ERROR_MAX: usize = 256;

/// Where a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is tried, or will be in a moment.
    Dialling,
    /// It is up.
    Linked,
    /// The peer stops; it is tried again later.
    Draining,
    /// One of the two sides does not want it; it is tried again, rarely.
    Refused,
}

impl Phase {
    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dialling => "dialling",
            Self::Linked => "linked",
            Self::Draining => "draining",
            Self::Refused => "refused",
        }
    }
}

/// One link of this node's, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// `host:port` of the peer, as it was configured.
    pub address: String,
    /// Its id, once it was linked.
    pub peer: Option<CollectorId>,
    /// Where the link is.
    pub phase: Phase,
    /// Since when, Unix microseconds.
    pub since: i64,
    /// When the peer was last heard, Unix microseconds; 0: never.
    pub heard: i64,
    /// Why it is not up, or why it was not before.
    pub error: Option<String>,
    /// Services that it offers and this node takes.
    pub offers: usize,
    /// Calls that the peer answers, from whomever, as it said last.
    pub calls: u32,
    /// Program version of the peer.
    pub version: String,
    /// What the peer called the link in its answer to Connect.
    pub connection: String,
    /// Where both work.
    pub namespaces: Vec<Namespace>,
}

/// All links of this node's, by address. Clones share them.
#[derive(Debug, Clone)]
pub struct Links(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: Mutex<BTreeMap<String, Link>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Link {
    state: LinkState,
    counts: Arc<Counts>,
}

impl Default for Links {
    fn default() -> Self {
        Self(Arc::new(Shared { all: Mutex::default(), changed: watch::Sender::new(0) }))
    }
}

impl Links {
    /// All of them, by address.
    pub fn all(&self) -> Vec<LinkState> {
        self.lock().values().map(|link| link.state.clone()).collect()
    }

    /// One of them.
    pub fn get(&self, address: &str) -> Option<LinkState> {
        self.lock().get(address).map(|link| link.state.clone())
    }

    /// What is counted of one of them.
    pub fn counts(&self, address: &str) -> Option<Arc<Counts>> {
        self.lock().get(address).map(|link| Arc::clone(&link.counts))
    }

    /// Counts changes other than signs of life.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// There is going to be one.
    pub fn begin(&self, address: &str) {
        let fresh = LinkState {
            address: address.to_owned(),
            peer: None,
            phase: Phase::Dialling,
            since: now(),
            heard: 0,
            error: None,
            offers: 0,
            calls: 0,
            version: String::new(),
            connection: String::new(),
            namespaces: Vec::new(),
        };
        let counts = Arc::default();
        self.lock().insert(address.to_owned(), Link { state: fresh, counts });
        self.tell();
    }

    /// There will be none any more.
    pub fn end(&self, address: &str) {
        self.lock().remove(address);
        self.tell();
    }

    /// It is somewhere else now.
    ///
    /// * `error`: why; `None` leaves what there is.
    pub fn phase(&self, address: &str, phase: Phase, error: Option<&str>) {
        self.change(address, |link| {
            if link.phase != phase {
                (link.phase, link.since) = (phase, now());
            }
            if let Some(error) = error {
                link.error = Some(crate::domain::one_line(error, ERROR_MAX));
            }
            if phase != Phase::Linked {
                (link.offers, link.calls) = (0, 0);
            }
        });
        self.tell();
    }

    /// Changes what is known of a link.
    pub fn change(&self, address: &str, change: impl FnOnce(&mut LinkState)) {
        if let Some(link) = self.lock().get_mut(address) {
            change(&mut link.state);
        }
    }

    /// What [`Links::change`] changed is worth a look.
    pub fn tell(&self) {
        self.0.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Link>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_its_last_error_and_the_time_of_its_phase() {
        let links = Links::default();
        links.begin("a:1");
        links.phase("a:1", Phase::Refused, Some("not\na peer"));
        let refused = links.get("a:1").unwrap();
        assert_eq!((refused.phase, refused.phase.name()), (Phase::Refused, "refused"));
        assert_eq!(refused.error.as_deref().map(|error| error.contains('\n')), Some(false));
        links.phase("a:1", Phase::Refused, None);
        assert_eq!(links.get("a:1").unwrap(), refused);
        links.phase("b:1", Phase::Linked, None);
        assert_eq!(links.all().len(), 1, "of one that there is not nothing is known");
        links.end("a:1");
        assert!(links.all().is_empty());
    }
}
