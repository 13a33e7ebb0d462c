//! `CollectiveDispatcher.Connect`: a collector introduces itself.

use super::{COLLECTOR_ID, Inner, LABEL_MAX, NAMESPACES_MAX};
use crate::domain::{CollectorId, Namespace, is_endpoint};
use crate::mesh::{PeerPolicy, record};
use crate::rpc::convert::{self, BadRequest};
use crate::rpc::{edge, pb, status};
use crate::tenancy::{Caller, Refused, Verb};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

/// Entries of its metadata that are kept of one collector.
const LABELS_MAX: usize = 16;

impl Inner {
    /// Records the caller; a peer's own link is tried again at once. Nothing is ever dialled but what the operator named.
    pub(in crate::rpc) fn connect(
        &self,
        request: &Request<pb::ConnectRequest>,
    ) -> Result<Response<pb::ConnectResponse>, Status> {
        let id = edge::request_id(request);
        let caller = edge::caller(request)?;
        let bad = |why| status::bad_request(why, &id);
        let message = request.get_ref();
        let said = Said::read(message).map_err(bad)?;
        let policy = match self.parts.dialer.is_tls() || self.parts.tenancy.asks() {
            true => self.peer(request, said.id.as_ref()),
            // Nobody is asked: who says where it is and who it is is believed, if the operator named the place.
            false => self.parts.peers.find_by_address(&message.address).filter(|_| said.id.is_some()),
        };
        let name = policy.as_ref().and_then(|policy| policy.name.clone()).or_else(|| said.id.clone());
        let own = name.as_ref() == Some(self.parts.mesh.own()) || message.address == self.parts.advertised;
        if own {
            let message = "a collector is no peer of itself";
            return Err(status::plain(Code::FailedPrecondition, "SELF", message));
        }
        if policy.is_none() {
            self.admit(&caller, &message.address).map_err(|why| status::refused(&why, &id))?;
        }
        if let (Some(policy), Some(name)) = (&policy, &name) {
            self.introduce(policy, name);
        }
        let shared = self.shared(&caller, policy.as_deref(), said.namespaces);
        let name = name.map_or_else(|| message.address.clone(), |name| name.to_string());
        let noted = record::Caller::new(name, message.address.clone(), shared.clone(), said.labels);
        let connection_id = noted.connection.clone();
        self.parts.records.connected(noted);
        Ok(Response::new(pb::ConnectResponse {
            status: convert::ok(),
            connection_id,
            shared_namespaces: shared.iter().map(ToString::to_string).collect(),
            target_collector_id: self.parts.mesh.own().to_string(),
        }))
    }

    /// Whether somebody who is no peer may say where it is: whoever runs the node, or anybody where nobody is asked; and
    /// only an address that this node would connect to for others.
    fn admit(&self, caller: &Caller, address: &str) -> Result<(), Refused> {
        let tenancy = &self.parts.tenancy;
        let known = self.parts.peers.find_by_address(address).is_some();
        if tenancy.asks() {
            tenancy.authorize(caller, &Namespace::system(), Verb::Operate)?;
        }
        match known || self.parts.guard.check(address).is_ok() {
            true => Ok(()),
            false => {
                tenancy.refused(caller, &Namespace::system(), Verb::Operate);
                Err(Refused::Forbidden)
            }
        }
    }

    /// Namespaces of both, in the caller's order.
    fn shared(&self, caller: &Caller, policy: Option<&PeerPolicy>, theirs: Vec<Namespace>) -> Vec<Namespace> {
        let own = self.parts.registry.namespaces();
        let seen = |namespace: &Namespace| match policy {
            Some(policy) => policy.shares(namespace),
            None => self.parts.tenancy.allows(caller, namespace, Verb::Discover),
        };
        theirs.into_iter().filter(|namespace| own.binary_search(namespace).is_ok() && seen(namespace)).collect()
    }
}

/// What a ConnectRequest says.
struct Said {
    id: Option<CollectorId>,
    namespaces: Vec<Namespace>,
    labels: BTreeMap<String, String>,
}

impl Said {
    fn read(message: &pb::ConnectRequest) -> Result<Self, BadRequest> {
        let field = |field: &str, problem: String| BadRequest::Field { field: field.to_owned(), problem };
        if message.address.is_empty() {
            return Err(BadRequest::Required("address"));
        }
        if !is_endpoint(&message.address) {
            return Err(field("address", "is not host:port".to_owned()));
        }
        if message.namespaces.len() > NAMESPACES_MAX {
            return Err(field("namespaces", format!("has more than {NAMESPACES_MAX} entries")));
        }
        let mut namespaces = Vec::new();
        for (at, name) in message.namespaces.iter().enumerate() {
            let name: Namespace = name.parse().map_err(|why| field(&format!("namespaces[{at}]"), format!("{why}")))?;
            if !namespaces.contains(&name) {
                namespaces.push(name);
            }
        }
        let id = message.metadata.get(COLLECTOR_ID).map(|id| id.parse());
        let id = id.transpose().map_err(|why| field("metadata[\"collector_id\"]", format!("{why}")))?;
        let labels = message.metadata.iter().filter(|(key, _)| *key != COLLECTOR_ID);
        if labels.clone().count() > LABELS_MAX {
            return Err(field("metadata", format!("has more than {LABELS_MAX} entries")));
        }
        if labels.clone().any(|(key, value)| key.is_empty() || key.len() > LABEL_MAX || value.len() > LABEL_MAX) {
            return Err(field("metadata", format!("has an entry without a name, or longer than {LABEL_MAX} bytes")));
        }
        let labels = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { id, namespaces, labels })
    }
}

impl Inner {
    /// Remembers which collector a peer is, and tries the link to it now.
    fn introduce(&self, policy: &Arc<PeerPolicy>, name: &CollectorId) {
        let mut met = self.met();
        met.retain(|_, known| known != name);
        met.insert(policy.address.clone(), name.clone());
        drop(met);
        self.wake(&policy.address);
    }
}
