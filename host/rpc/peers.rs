//! `collector.admin.v1.Peers`: convert, one domain call, convert.

use super::convert::BadRequest;
use super::edge::{self, RequestId};
use super::mesh::LinkKeeper;
use super::pb::admin::v1 as pb;
use super::status;
use crate::domain::timestamp;
use crate::mesh::{Added, LinkState, PeerError, PeerPolicy, Phase, Tally};
use crate::tenancy::{Binding, Caller, Permit, Tenancy};
use std::collections::HashMap;
use tonic::{Request, Response, Status};

/// The service.
pub struct PeersService {
    links: LinkKeeper,
    tenancy: Tenancy,
    /// Whether those whom nobody asks are operators.
    trusting: bool,
}

impl PeersService {
    /// * `trusting`: only this machine reaches the node.
    pub(super) fn new(links: LinkKeeper, tenancy: Tenancy, trusting: bool) -> Self {
        Self { links, tenancy, trusting }
    }

    fn operate(&self, caller: &Caller, id: &RequestId) -> Result<Permit, Status> {
        if !self.tenancy.asks() && !self.trusting {
            return Err(status::peer(&PeerError::Nobody, id));
        }
        self.tenancy.operate(caller).map_err(|why| status::refused(&why, id))
    }

    fn peer(&self, policy: &PeerPolicy, added: Option<&Added>) -> pb::Peer {
        let link = self.links.links().get(&policy.address);
        let name = link.as_ref().and_then(|link| link.peer.clone()).or_else(|| policy.name.clone());
        let topology = self.links.mesh().topology();
        let is_up = |link: &LinkState| matches!(link.phase, Phase::Linked | Phase::Draining);
        let live = link.as_ref().filter(|link| is_up(link)).and(name.as_ref()).and_then(|name| topology.peer(name));
        let link = link.as_ref();
        let tally = self.links.links().counts(&policy.address).map(|counts| counts.tally()).unwrap_or_default();
        pb::Peer {
            address: policy.address.clone(),
            identity: policy.identity.clone().unwrap_or_default(),
            allows: policy.allows.iter().map(ToString::to_string).collect(),
            configured: added.is_none(),
            collector_id: name.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: link.map_or(pb::peer::State::Unspecified, |link| state(link.phase)).into(),
            since: link.map(|link| timestamp(link.since)),
            last_error: link.and_then(|link| link.error.clone()).unwrap_or_default(),
            offers: link.map_or(0, |link| link.offers as u64),
            in_flight: live.map_or(0, |peer| peer.in_flight() as u64),
            latency: live.and_then(|peer| prost_types::Duration::try_from(peer.latency()).ok()),
            version: link.map(|link| link.version.clone()).unwrap_or_default(),
            created_at: added.map(|added| timestamp(added.created_at)),
            is_paused: live.is_some_and(|peer| peer.is_paused()),
            calls: Some(calls(&tally)),
            dials: tally.dials,
            links: tally.links,
            sent_bytes: tally.sent_bytes,
            received_bytes: tally.received_bytes,
        }
    }
}

fn calls(tally: &Tally) -> pb::peer::Calls {
    pb::peer::Calls {
        answered: tally.answered,
        refused: tally.refused,
        unsent: tally.unsent,
        lost: tally.lost,
        unusable: tally.unusable,
        given_up: tally.given_up,
    }
}

fn state(phase: Phase) -> pb::peer::State {
    match phase {
        Phase::Dialling => pb::peer::State::Dialling,
        Phase::Linked => pb::peer::State::Linked,
        Phase::Draining => pb::peer::State::Draining,
        Phase::Refused => pb::peer::State::Refused,
    }
}

fn bindings(texts: &[String]) -> Result<Vec<Binding>, BadRequest> {
    let field = |at: usize, problem: String| BadRequest::Field { field: format!("allows[{at}]"), problem };
    let parse = |(at, text): (usize, &String)| {
        text.parse().map_err(|why: crate::tenancy::NoBinding| field(at, why.to_string()))
    };
    texts.iter().enumerate().map(parse).collect()
}

#[tonic::async_trait]
impl pb::peers_server::Peers for PeersService {
    async fn add(&self, request: Request<pb::AddPeerRequest>) -> Result<Response<pb::AddPeerResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let permit = self.operate(&caller, &id)?;
        let pb::AddPeerRequest { address, identity, allows } = request.into_inner();
        let bad = |why| status::bad_request(why, &id);
        if address.is_empty() {
            return Err(bad(BadRequest::Required("address")));
        }
        let allows = bindings(&allows).map_err(bad)?;
        let identity = Some(identity).filter(|identity| !identity.is_empty());
        let added = self.links.peers().add(&permit, address, identity, allows).await;
        let added = added.map_err(|why| status::peer(&why, &id))?;
        Ok(Response::new(pb::AddPeerResponse { peer: Some(self.peer(&added.policy, Some(&added))) }))
    }

    async fn list(&self, request: Request<pb::ListPeersRequest>) -> Result<Response<pb::ListPeersResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        self.operate(&caller, &id)?;
        let added: HashMap<String, Added> =
            self.links.peers().added().into_iter().map(|one| (one.policy.address.clone(), one)).collect();
        let all = self.links.peers().all();
        let peers = all.iter().map(|policy| self.peer(policy, added.get(&policy.address))).collect();
        Ok(Response::new(pb::ListPeersResponse { peers }))
    }

    async fn remove(
        &self,
        request: Request<pb::RemovePeerRequest>,
    ) -> Result<Response<pb::RemovePeerResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let permit = self.operate(&caller, &id)?;
        let gone = self.links.peers().remove(&permit, request.into_inner().address).await;
        let gone = gone.map_err(|why| status::peer(&why, &id))?;
        Ok(Response::new(pb::RemovePeerResponse { peer: Some(self.peer(&gone.policy, Some(&gone))) }))
    }
}
