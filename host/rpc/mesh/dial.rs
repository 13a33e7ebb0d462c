//! The links of this node to its peers: one task each, for as long as the operator wants the peer.
//!
//! ```text
//! dial -> Connect -> Link -> Hello, first offers -> up: changes, beats -> gone -> pause -> dial
//!                                                    `- every link_s: dial -> Link -> swap (nothing is lost)
//! ```
//! A link is made anew while it is up, so that certificates that are good no longer end it, keys do not grow old, and
//! nothing depends on how long the other side keeps a connection.

use super::conn::{Conn, Way};
use super::known::{BEYOND_MAX, Known};
use super::lines::Line;
use super::{Inner, text};
use crate::domain::{CollectorId, Namespace, now};
use crate::mesh::{LinkKey, Peer, PeerPolicy, Phase};
use crate::rpc::pb;
use crate::rpc::pb::collective_dispatcher_client::CollectiveDispatcherClient;
use crate::rpc::pb::mesh::v1::{LinkEvent, LinkRequest, link_event::Event, mesh_client::MeshClient};
use crate::rpc::tls::DialError;
use futures_util::future::BoxFuture;
use http::Uri;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Request, Status, Streaming};

/// Largest event. 1 MiB: what the other side sends is half of it.
pub(super) const EVENT_MAX: usize = 1 << 20;
/// How long a peer gets until the link is up: 5 s of it for the connection.
const OPENING: Duration = Duration::from_secs(15);
/// How long a peer may be silent that says something each second.
const SILENCE: Duration = Duration::from_secs(5);
/// The shortest and the longest pause before a peer is dialled again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A link that was up for so long is dialled again at once when it goes; a shorter one goes on with longer pauses.
const STEADY: Duration = Duration::from_secs(5);
/// How soon after an attempt a peer that calls can have another made.
const WAKE_GAP: Duration = Duration::from_millis(500);
/// How long the old one of two links stays after the new one is up: calls may be on their way that carry its key.
const OVERLAP: Duration = Duration::from_secs(2);
/// How soon a link that could not be made anew is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(2);

/// Why there is no link, or not any more.
#[derive(Debug)]
enum Ended {
    /// The peer is not there, or something on the way.
    Away(String),
    /// It says that it stops.
    Draining,
    /// One of the two sides does not want it.
    Refused(String),
}

impl From<DialError> for Ended {
    fn from(why: DialError) -> Self {
        match why {
            DialError::Away(why) => Self::Away(why.to_string()),
            why @ (DialError::Untrusted(_) | DialError::Files(_) | DialError::NoIdentity) => {
                Self::Refused(why.to_string())
            }
        }
    }
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        let said = text(&status);
        match status.code() {
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::NotFound => Self::Refused(said),
            _ => Self::Away(said),
        }
    }
}

impl Ended {
    const fn phase(&self) -> Phase {
        match self {
            Self::Away(_) => Phase::Dialling,
            Self::Draining => Phase::Draining,
            Self::Refused(_) => Phase::Refused,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Away(why) | Self::Refused(why) => why,
            Self::Draining => "the peer is shutting down",
        }
    }
}

/// A link that was just opened.
struct Fresh {
    id: CollectorId,
    version: String,
    line: Arc<Line>,
    events: Streaming<LinkEvent>,
    offers: Known,
}

/// What Connect answered.
struct Met {
    id: String,
    connection: String,
    namespaces: Vec<Namespace>,
}

/// Keeps the link to one peer.
pub(super) struct Task {
    inner: Arc<Inner>,
    policy: Arc<PeerPolicy>,
    way: Way,
    wake: Arc<Notify>,
}

impl Task {
    /// * `wake`: the peer is there again, try it now.
    pub(super) fn new(inner: Arc<Inner>, policy: Arc<PeerPolicy>, wake: Arc<Notify>) -> Result<Self, String> {
        let scheme = if inner.parts.dialer.is_tls() { "https" } else { "http" };
        let base = format!("{scheme}://{}/", policy.address).parse::<Uri>().map_err(|why| why.to_string())?;
        let way = Way {
            dialer: inner.parts.dialer.clone(),
            base,
            identity: policy.identity.clone(),
            runner: inner.runner.clone(),
            counts: inner.parts.links.counts(&policy.address).unwrap_or_default(),
        };
        Ok(Self { inner, policy, way, wake })
    }

    /// Until it is dropped.
    pub(super) async fn run(self) {
        let mut pause = Duration::ZERO;
        loop {
            let began = Instant::now();
            self.way.counts.dialled();
            let ended = match self.first().await {
                Ok((met, fresh)) => self.hold(met, fresh).await,
                Err(ended) => ended,
            };
            tracing::debug!(peer = self.policy.address, why = ended.text(), "no link");
            self.inner.parts.links.phase(&self.policy.address, ended.phase(), Some(ended.text()));
            pause = match &ended {
                Ended::Refused(_) => PAUSE_MAX,
                _ if began.elapsed() >= STEADY => Duration::ZERO,
                _ => (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX),
            };
            self.wait(jittered(pause), began, matches!(ended, Ended::Refused(_))).await;
        }
    }

    /// * `deaf`: what the peer says changes nothing.
    async fn wait(&self, pause: Duration, began: Instant, deaf: bool) {
        let until = Instant::now() + pause;
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.wake.notified(), if !deaf => sleep_until(until.min(began + WAKE_GAP)).await,
        }
    }

    async fn first(&self) -> Result<(Met, Fresh), Ended> {
        let opening = async {
            let conn = Conn::open(&self.way).await?;
            let met = self.connect(&conn).await?;
            let fresh = self.link(conn).await?;
            match met.id == fresh.id.as_str() {
                true => Ok((met, fresh)),
                false => Err(Ended::Refused("the peer gives itself two ids".to_owned())),
            }
        };
        timeout(OPENING, opening).await.unwrap_or_else(|_late| Err(Ended::Away("no link in 15 s".to_owned())))
    }

    /// The same link once more, with another key.
    async fn again(&self) -> Result<Fresh, Ended> {
        let opening = async { self.link(Conn::open(&self.way).await?).await };
        timeout(OPENING, opening).await.unwrap_or_else(|_late| Err(Ended::Away("no link in 15 s".to_owned())))
    }

    async fn connect(&self, conn: &Conn) -> Result<Met, Ended> {
        let parts = &self.inner.parts;
        let ours = parts.registry.namespaces().into_iter();
        let ours = ours.filter(|namespace| self.policy.shares(namespace)).take(super::NAMESPACES_MAX);
        let request = pb::ConnectRequest {
            address: parts.advertised.clone(),
            namespaces: ours.map(|namespace| namespace.to_string()).collect(),
            metadata: HashMap::from([(super::COLLECTOR_ID.to_owned(), parts.mesh.own().to_string())]),
        };
        let mut client = CollectiveDispatcherClient::new(conn.clone()).max_decoding_message_size(EVENT_MAX);
        let met = client.connect(Request::new(request)).await?.into_inner();
        let namespaces = met.shared_namespaces.iter().filter_map(|name| name.parse().ok());
        let namespaces = namespaces.filter(|namespace| self.policy.shares(namespace));
        let connection = crate::domain::one_line(&met.connection_id, super::LABEL_MAX);
        let namespaces = namespaces.take(super::NAMESPACES_MAX).collect();
        Ok(Met { id: met.target_collector_id, connection, namespaces })
    }

    async fn link(&self, conn: Conn) -> Result<Fresh, Ended> {
        let key = LinkKey::fresh().map_err(|why| Ended::Away(why.to_string()))?;
        let request = LinkRequest {
            collector_id: self.inner.parts.mesh.own().to_string(),
            link_id: key.id().to_vec(),
            link_key: key.secret().to_vec(),
        };
        let mut client = MeshClient::new(conn.clone()).max_decoding_message_size(EVENT_MAX);
        let mut events = client.link(Request::new(request)).await?.into_inner();
        let odd = |what: &str| Ended::Refused(format!("the peer does not speak as a collector: {what}"));
        let Some(Event::Hello(hello)) = next(&mut events).await? else { return Err(odd("no Hello")) };
        let id: CollectorId = hello.collector_id.parse().map_err(|_| odd("an id that is none"))?;
        self.check(&id)?;
        let mut offers = Known::new(Arc::clone(&self.policy));
        loop {
            match next(&mut events).await? {
                Some(Event::Offers(said)) => {
                    let is_last = said.complete;
                    offers.take(said).map_err(|why| odd(&why))?;
                    if is_last {
                        break;
                    }
                }
                Some(Event::Around(said)) => drop(offers.around(said).map_err(|why| odd(&why))?),
                Some(Event::Beat(_)) => {}
                Some(Event::Draining(_)) => return Err(Ended::Draining),
                Some(Event::Hello(_)) | None => return Err(odd("no offers")),
            }
        }
        let line = Line::new(key, self.way.clone(), conn);
        let version = crate::domain::one_line(&hello.version, super::LABEL_MAX);
        Ok(Fresh { id, version, line, events, offers })
    }

    /// Whether the collector is the one that the operator meant.
    fn check(&self, id: &CollectorId) -> Result<(), Ended> {
        if id == self.inner.parts.mesh.own() {
            let problem = "this address leads to the node itself: remove the peer, or correct its address";
            return Err(Ended::Refused(problem.to_owned()));
        }
        match &self.policy.name {
            Some(name) if name != id => Err(Ended::Refused(format!(
                "the peer calls itself {id} and its certificate {name}; set mesh.id there to what the certificate says"
            ))),
            _ => Ok(()),
        }
    }

    async fn hold(&self, met: Met, fresh: Fresh) -> Ended {
        let Some(_claim) = self.inner.claim(&fresh.id, &self.policy.address) else {
            let problem = "this collector is linked already, under another address; remove one of the two peers";
            return Ended::Refused(problem.to_owned());
        };
        let Fresh { id, version, line, events, offers } = fresh;
        let peer = Peer::new(id.clone(), Arc::clone(&self.policy));
        let peer = self.inner.parts.mesh.linked(peer.counted(Arc::clone(&self.way.counts)));
        self.way.counts.linked();
        self.inner.lines.put(id, Arc::clone(&line));
        self.inner.parts.mesh.offered(&peer, offers.all());
        self.inner.parts.mesh.told(&peer, offers.ways());
        self.inner.parts.links.change(&self.policy.address, |link| {
            (link.peer, link.version) = (Some(peer.id.clone()), version);
            (link.connection, link.namespaces) = (met.connection, met.namespaces);
            (link.heard, link.offers, link.error) = (now(), offers.len(), None);
        });
        self.inner.parts.links.phase(&self.policy.address, Phase::Linked, None);
        tracing::info!(peer = %peer.id, address = self.policy.address, offers = offers.len(), "linked");
        let mut up = Up { task: self, peer, line, events, old: None, offers, told: BTreeSet::new() };
        up.tell();
        let ended = up.last().await;
        tracing::info!(address = self.policy.address, why = ended.text(), "the link ended");
        ended
    }
}

/// A link that is up. Dropped, it is not.
struct Up<'a> {
    task: &'a Task,
    peer: Arc<Peer>,
    line: Arc<Line>,
    events: Streaming<LinkEvent>,
    /// The link before, until then.
    old: Option<(Streaming<LinkEvent>, Instant)>,
    offers: Known,
    /// Namespaces that the peer has no business in, and that were written down.
    told: BTreeSet<Namespace>,
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let inner = &self.task.inner;
        inner.parts.mesh.lost(&self.peer);
        inner.lines.remove(&self.peer.id, &self.line);
    }
}

impl Up<'_> {
    /// Until it ends.
    async fn last(mut self) -> Ended {
        let task = self.task;
        let mut renew_at = Instant::now() + jittered(task.inner.parts.renew_every);
        let mut renewing: Option<BoxFuture<'_, Result<Fresh, Ended>>> = None;
        loop {
            let overlap = self.old.as_ref().map(|(_, until)| *until);
            tokio::select! {
                event = timeout(SILENCE, next(&mut self.events)) => {
                    let event = event.unwrap_or_else(|_silent| Err(Ended::Away("the peer fell silent".to_owned())));
                    if let Err(ended) = event.and_then(|event| self.heard(event)) {
                        return ended;
                    }
                }
                () = sleep_until(renew_at), if renewing.is_none() => renewing = Some(Box::pin(task.again())),
                fresh = done(&mut renewing) => {
                    renewing = None;
                    renew_at = Instant::now() + jittered(task.inner.parts.renew_every);
                    match fresh {
                        Ok(fresh) if fresh.id == self.peer.id => self.swap(fresh),
                        Ok(_) => return Ended::Away("another collector answers at this address".to_owned()),
                        Err(Ended::Away(_)) => renew_at = Instant::now() + RENEW_AGAIN,
                        Err(ended) => return ended,
                    }
                }
                () = until(overlap) => self.old = None,
            }
        }
    }

    fn heard(&mut self, event: Option<Event>) -> Result<(), Ended> {
        let odd = |what: &str| Ended::Refused(format!("the peer does not speak as a collector: {what}"));
        let (parts, address) = (&self.task.inner.parts, &self.task.policy.address);
        match event {
            Some(Event::Offers(said)) => {
                let changes = self.offers.take(said).map_err(|why| odd(&why))?;
                parts.mesh.offered(&self.peer, changes);
                let offers = self.offers.len();
                parts.links.change(address, |link| (link.offers, link.heard) = (offers, now()));
                self.tell();
            }
            Some(Event::Around(said)) => {
                if self.offers.around(said).map_err(|why| odd(&why))? {
                    parts.mesh.told(&self.peer, self.offers.ways());
                }
                parts.links.change(address, |link| link.heard = now());
            }
            Some(Event::Beat(beat)) => {
                parts.links.change(address, |link| (link.calls, link.heard) = (beat.calls, now()));
            }
            Some(Event::Draining(_)) => return Err(Ended::Draining),
            Some(Event::Hello(_)) => return Err(odd("Hello twice")),
            None => return Err(Ended::Away("the peer ended the link".to_owned())),
        }
        Ok(())
    }

    /// Goes on with a newer link.
    fn swap(&mut self, fresh: Fresh) {
        let inner = &self.task.inner;
        inner.lines.put(self.peer.id.clone(), Arc::clone(&fresh.line));
        self.line = fresh.line;
        let old = std::mem::replace(&mut self.events, fresh.events);
        self.old = Some((old, Instant::now() + OVERLAP));
        let changes = self.offers.changes_to(&fresh.offers);
        let is_around = self.offers.ways() != fresh.offers.ways();
        self.offers = fresh.offers;
        inner.parts.mesh.offered(&self.peer, changes);
        if is_around {
            inner.parts.mesh.told(&self.peer, self.offers.ways());
        }
        let offers = self.offers.len();
        inner.parts.links.change(&self.task.policy.address, |link| link.offers = offers);
        self.tell();
    }

    /// Writes down what the peer offers and is not trusted with, once.
    fn tell(&mut self) {
        for namespace in self.offers.beyond() {
            if self.told.len() < BEYOND_MAX && self.told.insert(namespace.clone()) {
                self.task.inner.beyond(&self.peer.id, namespace);
            }
        }
    }
}

/// What the peer says next; `None`: nothing more.
async fn next(events: &mut Streaming<LinkEvent>) -> Result<Option<Event>, Ended> {
    loop {
        match events.message().await? {
            None => return Ok(None),
            // Of a newer program, for others.
            Some(LinkEvent { event: None }) => {}
            Some(LinkEvent { event }) => return Ok(event),
        }
    }
}

async fn done(work: &mut Option<BoxFuture<'_, Result<Fresh, Ended>>>) -> Result<Fresh, Ended> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Within a quarter: collectors that lost a peer at one moment do not all come back at one moment.
fn jittered(span: Duration) -> Duration {
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    span.mul_f64(0.75 + share * 0.25)
}

/// Lets the peers' tasks come and go as the operator says.
pub(super) async fn supervise(inner: Arc<Inner>) {
    let mut changes = inner.parts.peers.changes();
    let mut running: HashMap<String, (Arc<PeerPolicy>, tokio_util::sync::DropGuard)> = HashMap::new();
    loop {
        changes.mark_unchanged();
        let wanted = inner.parts.peers.all();
        running.retain(|address, (policy, _stop)| {
            let stays = wanted.iter().any(|one| one == policy);
            if !stays {
                inner.forget(address);
            }
            stays
        });
        for policy in wanted {
            if running.contains_key(&policy.address) {
                continue;
            }
            let (address, stop) = (policy.address.clone(), inner.closed.child_token());
            match Task::new(Arc::clone(&inner), Arc::clone(&policy), inner.remember(&address)) {
                Ok(task) => {
                    let stopped = stop.clone();
                    drop(inner.parts.lifecycle.spawn(async move {
                        stopped.run_until_cancelled(task.run()).await;
                    }));
                    running.insert(address, (policy, stop.drop_guard()));
                }
                Err(why) => inner.parts.links.phase(&address, Phase::Refused, Some(&why)),
            }
        }
        tokio::select! {
            () = inner.closed.cancelled() => return,
            changed = changes.changed() => if changed.is_err() {
                // Nobody can change them any more.
                inner.closed.cancelled().await;
                return;
            }
        }
    }
}
