//! Brings what was deployed here to peers, and what peers have here.

use super::courier::Courier;
use crate::dispatch::placing::{FetchError, PlaceError, Placement, Placing};
use crate::domain::{CollectorId, Digest, Namespace, ServiceName, one_line};
use crate::mesh::Served;
use crate::rpc::pb::mesh::v1 as mesh_pb;
use crate::rpc::pb::plugin::v1 as pb;
use crate::tenancy::Permit;
use futures_util::stream::{self, StreamExt as _};
use std::sync::Arc;
use tonic::Status;
use tonic_types::StatusExt as _;

/// Peers that are asked at once. 8: each reads the artifact from here.
const AT_ONCE: usize = 8;
/// Collectors that one deployment may name: every peer that there may be.
pub(in crate::rpc) const TARGETS_MAX: usize = crate::mesh::PEERS_MAX;
/// Bytes of what a peer says of a failure.
const SAID_MAX: usize = 512;

/// Knows who has code, and who should. Clones are the same.
#[derive(Clone)]
pub(in crate::rpc) struct Spread {
    courier: Courier,
    placing: Arc<Placing>,
}

/// Where a deployment goes besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rpc) enum Targets {
    /// To every linked collector.
    All,
    /// To these.
    Named(Vec<CollectorId>),
}

impl Targets {
    /// Reads what a deployer names.
    ///
    /// * returns: `None` for nobody.
    /// * errors: why a text is none.
    pub(in crate::rpc) fn read(names: &[String]) -> Result<Option<Self>, String> {
        if names.len() > TARGETS_MAX {
            return Err(format!("has more than {TARGETS_MAX} entries"));
        }
        match names {
            [] => Ok(None),
            [all] if all == "all" => Ok(Some(Self::All)),
            names => {
                let mut ids = Vec::with_capacity(names.len());
                for name in names {
                    let id: CollectorId = name.parse().map_err(|why| format!("names a collector that {why}"))?;
                    if !ids.contains(&id) {
                        ids.push(id);
                    }
                }
                Ok(Some(Self::Named(ids)))
            }
        }
    }
}

impl Spread {
    pub(in crate::rpc) fn new(courier: Courier, placing: Arc<Placing>) -> Self {
        Self { courier, placing }
    }

    /// Asks collectors to fetch what is deployed here. What becomes of it is each one's own answer.
    ///
    /// * `permit`: to deploy.
    pub(in crate::rpc) async fn to(
        &self,
        targets: Targets,
        permit: &Permit,
        wanted: mesh_pb::PlaceRequest,
    ) -> Vec<pb::Placed> {
        let own = self.courier.mesh().own();
        let mut ids = match targets {
            Targets::Named(ids) => ids,
            Targets::All => self.courier.mesh().topology().peers().map(|peer| peer.id.clone()).collect(),
        };
        ids.retain(|id| id != own);
        ids.sort_unstable();
        let ask = |id: CollectorId| {
            let wanted = wanted.clone();
            async move {
                let done = match self.courier.mesh().topology().peer(&id).is_some() {
                    true => self.courier.place(&id, permit, wanted).await,
                    false => Err(Status::not_found("this collector has no link to that one")),
                };
                placed(&id, done)
            }
        };
        stream::iter(ids).map(ask).buffered(AT_ONCE).collect().await
    }

    /// Brings a service here that a peer has, under the name that it has there. Where no linked collector has it itself
    /// nothing is done.
    ///
    /// * `permit`: to deploy.
    /// * errors: of the last that was asked.
    pub(in crate::rpc) async fn here(&self, permit: &Permit, service: &ServiceName) -> Result<(), PlaceError> {
        let mut last = None;
        for placement in self.offered(permit.namespace(), service) {
            match self.placing.place(permit, placement).await {
                Ok(_) => return Ok(()),
                // Another may have it; what was refused here is refused wherever it comes from.
                Err(PlaceError::Fetch(why)) => last = Some(why),
                Err(why) => return Err(why),
            }
        }
        last.map_or(Ok(()), |why: FetchError| Err(why.into()))
    }

    /// Who has it, by their own code.
    fn offered(&self, namespace: &Namespace, service: &ServiceName) -> Vec<Placement> {
        let topology = self.courier.mesh().topology();
        let mut names: Vec<Arc<str>> = vec![service.as_str().into()];
        // A short name that may mean several is none.
        if let [only] = &topology.meant(namespace, service.as_str())[..] {
            names.push(Arc::clone(only));
        }
        let mut found: Vec<Placement> = Vec::new();
        for service in names {
            let what = Served { namespace: namespace.clone(), service: Arc::clone(&service) };
            for (peer, offer) in topology.servers(&what) {
                let (Some(digest), true) = (offer.digest, offer.through.is_empty()) else { continue };
                let (from, name) = (peer.id.clone(), offer.deployment.clone());
                if !found.iter().any(|known| known.from == from) {
                    let wanted = Some(Arc::clone(&service));
                    let (services, grants) = (Vec::new(), Vec::new());
                    found.push(Placement { from, name, digest, wanted, services, grants });
                }
            }
        }
        found
    }
}

/// What a peer is asked to do about a deployment.
pub(in crate::rpc) fn order(
    deployment: &crate::dispatch::deployments::Deployment,
    digest: &Digest,
    (services, grants): (Vec<String>, Vec<String>),
) -> mesh_pb::PlaceRequest {
    mesh_pb::PlaceRequest {
        namespace: deployment.namespace.to_string(),
        deployment: deployment.name.to_string(),
        digest: format!("sha256:{digest}"),
        grants,
        services,
    }
}

fn placed(id: &CollectorId, done: Result<u32, Status>) -> pb::Placed {
    let collector_id = id.to_string();
    match done {
        Ok(version) => pb::Placed { collector_id, version, ..Default::default() },
        Err(why) => pb::Placed {
            collector_id,
            version: 0,
            error: one_line(why.message(), SAID_MAX),
            reason: why.get_details_error_info().map(|info| one_line(&info.reason, 64)).unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_all_or_ids() {
        let read = |names: &[&str]| Targets::read(&names.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["all"]), Ok(Some(Targets::All)));
        let id = |id: &str| id.parse().unwrap();
        assert_eq!(read(&["a", "b", "a"]), Ok(Some(Targets::Named(vec![id("a"), id("b")]))));
        assert!(read(&["a/b"]).is_err() && read(&["a", ""]).is_err());
        let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(Targets::read(&many(TARGETS_MAX)).is_ok() && Targets::read(&many(TARGETS_MAX + 1)).is_err());
    }
}
