//! Code that travels: what peers may read of it, and place here.

use super::courier::CHUNK;
use crate::dispatch::artifacts::{ArtifactError, Artifacts};
use crate::dispatch::placing::{Placement, Placing};
use crate::domain::{CollectorId, Namespace, ServiceName};
use crate::exec::Origin;
use crate::rpc::convert::{self, BadRequest};
use crate::rpc::pb::mesh::v1 as pb;
use crate::rpc::{edge, status};
use crate::tenancy::{Caller, Grant, Permit, Principal, Tenancy, Verb};
use bytes::BytesMut;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

/// How long a peer may take to read an artifact. 60 s: as long as it waits for one.
const READ_TIME: Duration = Duration::from_secs(60);

/// Answers Fetch and Place.
pub(in crate::rpc) struct Shelf {
    artifacts: Arc<Artifacts>,
    placing: Arc<Placing>,
    tenancy: Tenancy,
}

/// Chunks of an artifact.
pub(super) type Fetched = BoxStream<'static, Result<pb::FetchChunk, Status>>;

/// An artifact on its way to a peer.
struct Reading {
    file: File,
    until: Instant,
    /// Its place in the namespace.
    _permit: Permit,
}

impl Shelf {
    pub(in crate::rpc) fn new(artifacts: Arc<Artifacts>, placing: Arc<Placing>, tenancy: Tenancy) -> Self {
        Self { artifacts, placing, tenancy }
    }

    /// An artifact of a namespace in which the peer may deploy.
    pub(super) async fn fetch(&self, request: Request<pb::FetchRequest>) -> Result<Response<Fetched>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        sent_by(&caller)?;
        let request = request.into_inner();
        let bad = |why| status::bad_request(why, &id);
        let namespace: Namespace = convert::required("namespace", &request.namespace).map_err(bad)?;
        let digest = convert::digest("digest", &request.digest).map_err(bad)?;
        // To call code is not to have it. Whoever takes it deploys it, and that it is taken is written down.
        let permit = self.tenancy.authorize(&caller, &namespace, Verb::Deploy);
        let permit = permit.map_err(|why| status::refused(&why, &id))?;
        let gone = |why: ArtifactError| status::deploy(why.into(), &id);
        let stored = self.artifacts.find(&permit, &digest).await.map_err(gone)?;
        let Origin::File(path) = stored.code.origin else { return Err(gone(ArtifactError::NotFound)) };
        let file = File::open(path).await.map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => gone(ArtifactError::NotFound), // removed meanwhile
            _ => gone(ArtifactError::Io(why.into())),
        })?;
        let reading = Reading { file, until: Instant::now() + READ_TIME, _permit: permit };
        Ok(Response::new(stream::unfold(Some(reading), chunk).boxed()))
    }

    /// Fetches an artifact from the peer that asks, and deploys it.
    pub(super) async fn place(
        &self,
        request: Request<pb::PlaceRequest>,
    ) -> Result<Response<pb::PlaceResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let from = sent_by(&caller)?;
        let request = request.into_inner();
        let bad = |why| status::bad_request(why, &id);
        let namespace: Namespace = convert::required("namespace", &request.namespace).map_err(bad)?;
        let permit = |verb| {
            let permit = self.tenancy.authorize(&caller, &namespace, verb);
            permit.map_err(|why| status::refused(&why, &id))
        };
        let may = permit(Verb::Deploy)?;
        let digest = convert::digest("digest", &request.digest).map_err(bad)?;
        let name = match request.deployment.as_str() {
            "" => None,
            name => Some(convert::required("deployment", name).map_err(bad)?),
        };
        let services = request.services.iter().map(|name| convert::required("services", name));
        let services = services.collect::<Result<Vec<ServiceName>, BadRequest>>().map_err(bad)?;
        let grants: Result<Vec<Grant>, _> = request.grants.iter().map(|text| text.parse()).collect();
        let grants = grants.map_err(|why: crate::tenancy::BadGrant| status::deploy(why.into(), &id))?;
        if !grants.is_empty() {
            permit(Verb::Manage)?;
        }
        let placed = self.placing.place(&may, Placement { from, name, digest, wanted: None, services, grants }).await;
        let (_, version) = placed.map_err(|why| status::place(why, &id))?;
        Ok(Response::new(pb::PlaceResponse { version }))
    }
}

/// The peer that makes a request on behalf of somebody. Others have nothing to do here.
fn sent_by(caller: &Caller) -> Result<CollectorId, Status> {
    match caller.principal() {
        Principal::Forwarded { peer, .. } => Ok(peer.clone()),
        _ => {
            let message = "this is for linked collectors: it comes over a link";
            Err(status::plain(Code::PermissionDenied, "NOT_A_PEER", message))
        }
    }
}

async fn chunk(reading: Option<Reading>) -> Option<(Result<pb::FetchChunk, Status>, Option<Reading>)> {
    let mut reading = reading?;
    if Instant::now() > reading.until {
        let message = "the artifact was not read in time; try again";
        return Some((Err(status::plain(Code::DeadlineExceeded, "DEADLINE", message)), None));
    }
    let mut data = BytesMut::with_capacity(CHUNK);
    while data.len() < CHUNK {
        match (&mut reading.file).take((CHUNK - data.len()) as u64).read_buf(&mut data).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(why) => {
                tracing::error!(%why, "an artifact cannot be read");
                let message = "the artifact cannot be read";
                return Some((Err(status::plain(Code::Internal, "STORAGE", message)), None));
            }
        }
    }
    (!data.is_empty()).then(|| (Ok(pb::FetchChunk { data: data.into() }), Some(reading)))
}
