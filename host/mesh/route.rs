//! Which peer gets a call: a pure function of what is known at this moment.
//!
//! The nearest that has the method; of several as near, the better of two picked at random, by calls in flight and pace
//! (<https://brooker.co.za/blog/2012/01/17/two-random.html>): the best of all would get everybody's calls at once.

use super::topology::Server;
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
    /// The method, as it is offered; `None` where a target was asked for that knows better.
    pub method: Option<OfferedMethod>,
}

/// Nobody gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The target is not linked, and on no known way.
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
    Visited,
    Hops,
    Away,
}

impl Topology {
    /// Who gets a call.
    ///
    /// * `random`: another number each time.
    pub fn route(&self, wanted: &Wanted<'_>, now: Instant, random: u64) -> Result<Found, NoRoute> {
        if let Some(target) = wanted.target
            && let Some(peer) = self.peer(target)
        {
            return directly(peer, wanted, now);
        }
        let none = || if wanted.target.is_some() { NoRoute::Unlinked } else { NoRoute::Nobody };
        let what = Served { namespace: wanted.namespace.clone(), service: wanted.service.into() };
        let mut all = self.servers(&what);
        if all.is_empty() && !wanted.service.contains('.') {
            all = match &self.meant(wanted.namespace, wanted.service)[..] {
                [] => return Err(none()),
                [only] => self.servers(&Served { service: Arc::clone(only), ..what }),
                several => return Err(ambiguous(wanted, several)),
            };
        }
        if wanted.target.is_some_and(|target| !all.iter().any(|(peer, offer)| offer.server(&peer.id) == target)) {
            return Err(none());
        }
        let (peer, offer) =
            choose(all, wanted, now, random).ok_or_else(|| why_not(all, wanted, now).unwrap_or_else(none))?;
        Ok(Found { peer: Arc::clone(peer), method: offer.method(wanted.method).cloned() })
    }
}

/// To a target that is linked: it knows better than anybody what it has.
fn directly(peer: &Arc<Peer>, wanted: &Wanted<'_>, now: Instant) -> Result<Found, NoRoute> {
    if wanted.visited.contains(&peer.id) {
        return Err(NoRoute::Visited);
    }
    if wanted.visited.len() + 1 > HOPS_MAX {
        return Err(NoRoute::Hops);
    }
    if wanted.tried.contains(&peer.id) || !peer.is_healthy(now) {
        return Err(NoRoute::Away);
    }
    Ok(Found { peer: Arc::clone(peer), method: None })
}

fn ambiguous(wanted: &Wanted<'_>, several: &[Arc<str>]) -> NoRoute {
    let candidates = several.iter().map(ToString::to_string).collect();
    NoRoute::Ambiguous { service: wanted.service.to_owned(), candidates }
}

fn choose<'a>(all: &'a [Server], wanted: &Wanted<'_>, now: Instant, random: u64) -> Option<&'a Server> {
    let fits = |server: &Server| hindrance(server, wanted, now).is_none();
    let nearest = all.first()?.1.through.len();
    let near = all.partition_point(|(_, offer)| offer.through.len() == nearest);
    let pick = |nth: u32| {
        let part = usize::try_from((random >> (16 * nth)) & 0xffff).unwrap_or_default();
        all.get(part % near).filter(|server| fits(server))
    };
    let mut picks = (0..PICKS).filter_map(pick);
    if let Some(one) = picks.next() {
        let other = picks.find(|two| !Arc::ptr_eq(&two.0, &one.0));
        if near == 1 {
            return Some(one);
        }
        if let Some(other) = other {
            return Some(if other.0.cost(now) < one.0.cost(now) { other } else { one });
        }
    }
    all.iter().filter(|server| fits(server)).min_by_key(|(peer, offer)| (offer.through.len(), peer.cost(now)))
}

fn hindrance((peer, offer): &Server, wanted: &Wanted<'_>, now: Instant) -> Option<Hindrance> {
    if wanted.target.is_some_and(|target| offer.server(&peer.id) != target) || offer.method(wanted.method).is_none() {
        return Some(Hindrance::NoMethod);
    }
    let is_back = |id: &CollectorId| id == wanted.own || wanted.visited.contains(id);
    if is_back(&peer.id) || offer.through.iter().any(is_back) {
        return Some(Hindrance::Visited);
    }
    if wanted.visited.len() + 1 + offer.through.len() > HOPS_MAX {
        return Some(Hindrance::Hops);
    }
    let is_away = wanted.tried.contains(&peer.id) || !peer.is_healthy(now);
    is_away.then_some(Hindrance::Away)
}

/// What to say where nobody gets it: what the caller can do most about. `None`: there is nobody.
fn why_not(all: &[Server], wanted: &Wanted<'_>, now: Instant) -> Option<NoRoute> {
    let found: Vec<Hindrance> = all.iter().filter_map(|server| hindrance(server, wanted, now)).collect();
    if found.is_empty() {
        return None;
    }
    Some(match () {
        () if found.contains(&Hindrance::Away) => NoRoute::Away,
        () if found.contains(&Hindrance::Hops) => NoRoute::Hops,
        () if found.contains(&Hindrance::Visited) => NoRoute::Visited,
        () => NoRoute::NoMethod { service: wanted.service.to_owned(), method: wanted.method.to_owned() },
    })
}

#[cfg(test)]
mod tests;
