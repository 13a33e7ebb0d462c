//! The links of this node that are up, as those see them who hand calls over.

use super::conn::{Busy, Conn, Failed, Holding, STREAMS_MAX, Way};
use crate::domain::{CollectorId, Namespace};
use crate::fair::{Slot, Slots, WEIGHT};
use crate::mesh::LinkKey;
use http::{HeaderName, HeaderValue, Request, Response};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;

/// Where a call carries its statement.
pub(in crate::rpc) const FORWARD: HeaderName = HeaderName::from_static("collector-forward");
/// Connections of one link. 4: four hundred calls at once; a node takes 64 of one address.
const CONNECTIONS_MAX: usize = 4;
/// Calls that wait for a place on a link. 4,096: as many as one caller may have in flight.
const WAITING_MAX: usize = 4_096;
/// How often a request that was not begun to be sent is tried on another connection of the same link: once for each that
/// may be found closed.
const TRIES: usize = CONNECTIONS_MAX + 1;
/// How long none is opened after one could not be, while there are others. 1 s: the peer may have as many of this address
/// as it takes.
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no answer. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::rpc) enum Lost {
    /// The peer has not begun the call, and will not: it can be made elsewhere.
    #[error("{0}")]
    NeverBegan(String),
    /// It may have.
    #[error("{0}")]
    Unknown(String),
}

/// The links of this node, as those see them who hand calls over. Clones share them.
#[derive(Clone, Default)]
pub(in crate::rpc) struct Lines(Arc<Mutex<HashMap<CollectorId, Arc<Line>>>>);

impl Lines {
    /// Sends a request over the peer's link, on which namespaces take turns.
    ///
    /// * `who`: whose call it is.
    /// * `stamp`: makes the value of [`FORWARD`] with the link's key.
    /// * errors: see [`Lost`]; `NeverBegan` too if there is no link.
    /// * cancel: the peer is told, and stops.
    pub(in crate::rpc) async fn send(
        &self,
        peer: &CollectorId,
        who: &Namespace,
        stamp: impl FnOnce(&LinkKey) -> HeaderValue,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Lost> {
        let line = self.lock().get(peer).cloned();
        let line = line.ok_or_else(|| Lost::NeverBegan("there is no link to the peer".to_owned()))?;
        let place = line.places.take(who, WEIGHT).await.map_err(|full| Lost::NeverBegan(full.to_string()))?;
        request.headers_mut().insert(FORWARD, stamp(&line.key));
        line.send(request, place).await
    }

    /// There is a link; calls from now on go over it.
    pub(super) fn put(&self, peer: CollectorId, line: Arc<Line>) {
        self.lock().insert(peer, line);
    }

    /// The link is gone; a newer one stays.
    pub(super) fn remove(&self, peer: &CollectorId, line: &Arc<Line>) {
        let mut all = self.lock();
        if all.get(peer).is_some_and(|known| Arc::ptr_eq(known, line)) {
            all.remove(peer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CollectorId, Arc<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One link: its key and its connections, more of them as they are needed.
pub(super) struct Line {
    key: LinkKey,
    way: Way,
    open: Mutex<Vec<Conn>>,
    /// Held while one more is opened; when one last could not be.
    opening: tokio::sync::Mutex<Option<Instant>>,
    /// Calls that the connections take altogether; more of them wait here, each namespace in a line of its own.
    places: Slots,
}

impl Line {
    /// * `first`: the connection that the link was opened on.
    pub(super) fn new(key: LinkKey, way: Way, first: Conn) -> Arc<Self> {
        let places = Slots::new(CONNECTIONS_MAX * STREAMS_MAX, WAITING_MAX);
        let (open, opening) = (Mutex::new(vec![first]), tokio::sync::Mutex::default());
        Arc::new(Self { key, way, open, opening, places })
    }

    async fn send(&self, mut request: Request<Body>, place: Slot) -> Result<Response<Body>, Lost> {
        for _ in 0..TRIES {
            let (conn, busy) = self.pick().await?;
            match conn.send(request).await {
                Ok(answer) => return Ok(Holding::answer(answer, (busy, place))),
                Err(Failed::Lost(why)) => {
                    if matches!(why, Lost::NeverBegan(_)) {
                        self.drop_conn(&conn); // it said goodbye
                    }
                    return Err(why);
                }
                Err(Failed::Unsent(whole)) => {
                    self.drop_conn(&conn);
                    request = *whole;
                }
            }
        }
        Err(Lost::NeverBegan("the connections to the peer had ended".to_owned()))
    }

    /// The connection with the fewest calls, or one more where all have as many as they take. One that cannot be opened
    /// is no reason not to use those that are open: calls wait on them for others to end.
    async fn pick(&self) -> Result<(Conn, Busy), Lost> {
        if let Some(free) = self.free() {
            return Ok(free);
        }
        let asked = Instant::now();
        let mut failed = self.opening.lock().await;
        if let Some(free) = self.free() {
            return Ok(free);
        }
        // Those who waited for an attempt do not each make another.
        let waited = failed.filter(|at| *at >= asked).map(|_| "no connection to the peer could be opened".to_owned());
        if failed.is_some_and(|at| at.elapsed() < PAUSE)
            && let Some(open) = self.least()
        {
            return Ok(open);
        }
        if let Some(why) = waited {
            return Err(Lost::NeverBegan(why));
        }
        match Conn::open(&self.way).await {
            Ok(conn) => {
                *failed = None;
                let busy = conn.begin();
                self.conns().push(conn.clone());
                Ok((conn, busy))
            }
            Err(why) => {
                *failed = Some(Instant::now());
                tracing::debug!(%why, "one more connection to a peer could not be opened");
                self.least().ok_or_else(|| Lost::NeverBegan(why.to_string()))
            }
        }
    }

    fn free(&self) -> Option<(Conn, Busy)> {
        let mut open = self.conns();
        open.retain(|conn| !conn.is_closed());
        let full = open.len() >= CONNECTIONS_MAX;
        let least = open.iter().min_by_key(|conn| (conn.is_full(), conn.busy()))?;
        (full || !least.is_full()).then(|| (least.clone(), least.begin()))
    }

    /// The one with the fewest calls.
    fn least(&self) -> Option<(Conn, Busy)> {
        let open = self.conns();
        let least = open.iter().filter(|conn| !conn.is_closed()).min_by_key(|conn| conn.busy())?;
        Some((least.clone(), least.begin()))
    }

    fn drop_conn(&self, gone: &Conn) {
        self.conns().retain(|conn| !conn.is(gone));
    }

    fn conns(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
