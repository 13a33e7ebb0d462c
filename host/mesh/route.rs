//! Which peer gets a call: a pure function of what is known at this moment.
//!
//! The nearest that has the method; of several as near, the better of two picked at random, by calls in flight and pace
//! (<https://brooker.co.za/blog/2012/01/17/two-random.html>): the best of all would get everybody's calls at once.

use super::topology::Server;
use super::ways::Way;
use super::{HOPS_MAX, OfferedMethod, Peer, Served, Topology};
use crate::domain::{CollectorId, Namespace};
use std::sync::Arc;
use tokio::time::Instant;

/// Times that a peer is picked at random before all are looked at.
const PICKS: u32 = 4;

/// What a call wants, and where it has been.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The collector that decides.
    pub own: &'a CollectorId,
    /// Where the method is to run.
    pub namespace: &'a Namespace,
    /// Full name of the service, or its last segment.
    pub service: &'a str,
    /// Simple name.
    pub method: &'a str,
    /// The collector that is to run it; `None`: any.
    pub target: Option<&'a CollectorId>,
    /// Collectors that the call has passed, oldest first, without the one that decides.
    pub visited: &'a [CollectorId],
    /// Peers that were tried and did not begin it.
    pub tried: &'a [CollectorId],
}

/// Who gets the call.
#[derive(Debug, Clone)]
pub struct Found {
    /// To whom it is handed.
    pub peer: Arc<Peer>,
    /// The method, as it is offered; `None` where a target was asked for: it knows better.
    pub method: Option<OfferedMethod>,
}

/// Nobody gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The target is not linked, and on no known way that the namespace's calls may go.
    #[error("no connection to collector")]
    Unlinked,
    /// No peer has the service.
    #[error("no collector found for namespace")]
    Nobody,
    /// Those that have the service have no such method.
    #[error("service {service} has no method {method} on the collectors that serve it")]
    NoMethod {
        /// As asked for.
        service: String,
        /// As asked for.
        method: String,
    },
    /// A short name that several services end in.
    #[error("service {service} is ambiguous, say which: {}", crate::domain::some_of(.candidates))]
    Ambiguous {
        /// As asked for.
        service: String,
        /// Their full names.
        candidates: Vec<String>,
    },
    /// All ways are longer than a call may go.
    #[error("the call has been handed over {HOPS_MAX} times: the collector that answers must be nearer")]
    Hops,
    /// All ways lead back.
    #[error("the call has been at every collector that could answer it; dispatch it to one that serves it")]
    Visited,
    /// Those that could answer do not, at this moment.
    #[error("the collectors that could answer cannot be reached; try again")]
    Away,
}

/// What keeps a peer from getting the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hindrance {
    NoMethod,
    /// It is not trusted with the namespace.
    Foreign,
    Visited,
    Hops,
    Away,
}

impl Topology {
    /// Who gets a call.
    ///
    /// * `random`: another number each time.
    pub fn route(&self, wanted: &Wanted<'_>, now: Instant, random: u64) -> Result<Found, NoRoute> {
        if let Some(target) = wanted.target {
            return self.towards(target, wanted, now, random);
        }
        let what = Served { namespace: wanted.namespace.clone(), service: wanted.service.into() };
        let mut all = self.servers(&what);
        if all.is_empty() && !wanted.service.contains('.') {
            all = match &self.meant(wanted.namespace, wanted.service)[..] {
                [] => return Err(NoRoute::Nobody),
                [only] => self.servers(&Served { service: Arc::clone(only), ..what }),
                several => return Err(ambiguous(wanted, several)),
            };
        }
        let hindrance = |server: &Server| hindrance(server, wanted, now);
        let (peer, offer) = choose(all, hindrance, now, random).ok_or_else(|| why_not(all, hindrance, wanted))?;
        Ok(Found { peer: Arc::clone(peer), method: offer.method(wanted.method).cloned() })
    }

    /// Who hands a call on to `target`: itself if it is linked, else who is on a way to it. What it serves it knows better
    /// than anybody.
    fn towards(&self, target: &CollectorId, wanted: &Wanted<'_>, now: Instant, random: u64) -> Result<Found, NoRoute> {
        let shares = |peer: &Arc<Peer>| peer.policy.shares(wanted.namespace);
        let direct: [Way; 1];
        let all = match self.peer(target) {
            Some(peer) => {
                direct = [(Arc::clone(peer), Arc::default())];
                &direct[..]
            }
            None => self.ways(target),
        };
        if !all.iter().any(|(peer, _)| shares(peer)) {
            return Err(NoRoute::Unlinked);
        }
        let hindrance = |(peer, through): &Way| match shares(peer) {
            true => blocked(peer, through, wanted, now),
            false => Some(Hindrance::Foreign),
        };
        let (peer, _) = choose(all, hindrance, now, random).ok_or_else(|| why_not(all, hindrance, wanted))?;
        Ok(Found { peer: Arc::clone(peer), method: None })
    }
}

/// A candidate: who would get the call, and how many would after it.
trait Candidate {
    fn peer(&self) -> &Arc<Peer>;
    fn behind(&self) -> usize;
}

impl Candidate for Server {
    fn peer(&self) -> &Arc<Peer> {
        &self.0
    }

    fn behind(&self) -> usize {
        self.1.through.len()
    }
}

impl Candidate for Way {
    fn peer(&self) -> &Arc<Peer> {
        &self.0
    }

    fn behind(&self) -> usize {
        self.1.len()
    }
}

fn ambiguous(wanted: &Wanted<'_>, several: &[Arc<str>]) -> NoRoute {
    let candidates = several.iter().map(ToString::to_string).collect();
    NoRoute::Ambiguous { service: wanted.service.to_owned(), candidates }
}

fn choose<T: Candidate>(
    all: &[T],
    hindrance: impl Fn(&T) -> Option<Hindrance>,
    now: Instant,
    random: u64,
) -> Option<&T> {
    let fits = |one: &&T| hindrance(*one).is_none();
    let nearest = all.first()?.behind();
    let near = all.partition_point(|one| one.behind() == nearest);
    let pick = |nth: u32| {
        let part = usize::try_from((random >> (16 * nth)) & 0xffff).unwrap_or_default();
        all.get(part % near).filter(fits)
    };
    let mut picks = (0..PICKS).filter_map(pick);
    if let Some(one) = picks.next() {
        let other = picks.find(|two| !Arc::ptr_eq(two.peer(), one.peer()));
        if near == 1 {
            return Some(one);
        }
        if let Some(other) = other {
            return Some(if other.peer().cost(now) < one.peer().cost(now) { other } else { one });
        }
    }
    all.iter().filter(fits).min_by_key(|one| (one.behind(), one.peer().cost(now)))
}

fn hindrance((peer, offer): &Server, wanted: &Wanted<'_>, now: Instant) -> Option<Hindrance> {
    match offer.method(wanted.method) {
        Some(_) => blocked(peer, &offer.through, wanted, now),
        None => Some(Hindrance::NoMethod),
    }
}

/// What is wrong with a way.
fn blocked(peer: &Peer, through: &[CollectorId], wanted: &Wanted<'_>, now: Instant) -> Option<Hindrance> {
    let is_back = |id: &CollectorId| id == wanted.own || wanted.visited.contains(id);
    if is_back(&peer.id) || through.iter().any(is_back) {
        return Some(Hindrance::Visited);
    }
    if wanted.visited.len() + 1 + through.len() > HOPS_MAX {
        return Some(Hindrance::Hops);
    }
    let is_away = wanted.tried.contains(&peer.id) || !peer.is_healthy(now);
    is_away.then_some(Hindrance::Away)
}

/// What to say where nobody gets it: what the caller can do most about.
fn why_not<T>(all: &[T], hindrance: impl Fn(&T) -> Option<Hindrance>, wanted: &Wanted<'_>) -> NoRoute {
    let found: Vec<Hindrance> = all.iter().filter_map(hindrance).collect();
    match () {
        () if found.contains(&Hindrance::Away) => NoRoute::Away,
        () if found.contains(&Hindrance::Hops) => NoRoute::Hops,
        () if found.contains(&Hindrance::Visited) => NoRoute::Visited,
        () if found.contains(&Hindrance::NoMethod) => {
            NoRoute::NoMethod { service: wanted.service.to_owned(), method: wanted.method.to_owned() }
        }
        () => NoRoute::Nobody,
    }
}

#[cfg(test)]
mod tests;
