//! What this node asks of its peers about code: an artifact, and to place one.

use super::lines::{Lines, Lost};
use crate::dispatch::placing::{Chunks, FetchError, Sources};
use crate::domain::{BoxFuture, CollectorId, Digest, Namespace, now, one_line};
use crate::mesh::{LinkKey, Mesh, Statement};
use crate::rpc::pb::mesh::v1 as pb;
use crate::tenancy::{Permit, Principal, Tenancy, Verb, Verbs};
use futures_util::StreamExt as _;
use http::{HeaderValue, Request as HttpRequest, Response as HttpResponse, Uri};
use pb::mesh_client::MeshClient;
use std::error::Error as _;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::{Request, Status};

/// Paths of what is asked.
pub(super) const FETCH: &str = "/collector.mesh.v1.Mesh/Fetch";
pub(super) const PLACE: &str = "/collector.mesh.v1.Mesh/Place";
/// Bytes of a chunk. 256 KiB: the middle of what an upload takes.
pub(super) const CHUNK: usize = 256 << 10;
/// Room for what stands around a chunk.
const AROUND: usize = 64;
/// How long a peer may take to fetch, compile and deploy. 120 s: a minute for the bytes, and one for the compiler.
const PLACE_TIME: Duration = Duration::from_secs(120);
/// How long it may take until the first byte of an artifact comes. 10 s: it has to read it once.
const FETCH_BEGINS: Duration = Duration::from_secs(10);
/// Bytes of what a peer says of a failure.
const SAID_MAX: usize = 256;

/// Goes to peers. Clones are the same.
#[derive(Clone)]
pub(in crate::rpc) struct Courier {
    mesh: Mesh,
    lines: Lines,
    tenancy: Tenancy,
}

impl Courier {
    pub(super) fn new(mesh: Mesh, lines: Lines, tenancy: Tenancy) -> Self {
        Self { mesh, lines, tenancy }
    }

    /// What is known of others.
    pub(in crate::rpc) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Makes a peer fetch an artifact from here and deploy it.
    ///
    /// * `permit`: to deploy here: the peer is told whose wish it is.
    /// * errors: what the peer says; UNAVAILABLE if it says nothing.
    /// * cancel: the peer goes on if it has all of it.
    pub(in crate::rpc) async fn place(
        &self,
        peer: &CollectorId,
        permit: &Permit,
        wanted: pb::PlaceRequest,
    ) -> Result<u32, Status> {
        let mut client = self.client(peer, permit, PLACE);
        let mut request = Request::new(wanted);
        request.set_timeout(PLACE_TIME);
        let away = || Status::unavailable("the collector does not answer");
        match tokio::time::timeout(PLACE_TIME, client.place(request)).await {
            Ok(Ok(placed)) => Ok(placed.into_inner().version),
            Ok(Err(status)) if is_lost(&status) => Err(away()),
            Ok(Err(status)) => Err(status),
            Err(_elapsed) => Err(away()),
        }
    }

    fn client(&self, peer: &CollectorId, permit: &Permit, path: &str) -> MeshClient<Stamped> {
        let statement = statement(&self.tenancy, self.mesh.own(), permit, path, &[]);
        let (lines, peer, namespace) = (self.lines.clone(), peer.clone(), permit.namespace().clone());
        let line = Stamped { lines, peer, namespace, statement };
        // The line puts its own address in the place of this one.
        MeshClient::with_origin(line, Uri::from_static("http://peer")).max_decoding_message_size(CHUNK + AROUND)
    }
}

/// What a peer is told of a call: who called, and no more than that caller may do here.
///
/// * `visited`: where it has been before.
pub(super) fn statement(
    tenancy: &Tenancy,
    own: &CollectorId,
    permit: &Permit,
    path: &str,
    visited: &[CollectorId],
) -> Statement {
    let (caller, namespace) = (permit.caller(), permit.namespace());
    let origin = match caller.principal() {
        Principal::Forwarded { origin, .. } => origin.to_string(),
        here => format!("{own}/{here}"),
    };
    let may = |verb| verb != Verb::Operate && tenancy.allows(caller, namespace, verb);
    Statement {
        origin,
        namespace: namespace.clone(),
        verbs: Verbs::those(may),
        path: path.to_owned(),
        visited: visited.iter().chain([own]).cloned().collect(),
    }
}

/// It as a header's value, good once from now.
pub(super) fn signed(statement: &Statement, key: &LinkKey) -> HeaderValue {
    let value = HeaderValue::try_from(key.sign(statement, now() / 1_000));
    value.unwrap_or_else(|_| HeaderValue::from_static("")) // base64 is always one
}

impl Sources for Courier {
    fn fetch(
        &self,
        from: &CollectorId,
        permit: &Permit,
        digest: &Digest,
    ) -> BoxFuture<'static, Result<Chunks, FetchError>> {
        let is_linked = self.mesh.topology().peer(from).is_some();
        let mut client = self.client(from, permit, FETCH);
        let (namespace, digest) = (permit.namespace().to_string(), format!("sha256:{digest}"));
        Box::pin(async move {
            if !is_linked {
                return Err(FetchError::NoLink);
            }
            let answer = client.fetch(pb::FetchRequest { namespace, digest });
            let answer = tokio::time::timeout(FETCH_BEGINS, answer).await.map_err(|_elapsed| FetchError::Slow)?;
            let chunks = answer.map_err(refused)?.into_inner();
            Ok(chunks.map(|chunk| chunk.map(|chunk| chunk.data.into()).map_err(refused)).boxed() as Chunks)
        })
    }
}

fn refused(status: Status) -> FetchError {
    match is_lost(&status) || status.code() == tonic::Code::Unavailable {
        true => FetchError::Lost,
        false => FetchError::Refused(one_line(status.message(), SAID_MAX)),
    }
}

/// Whether the connection failed, not the peer.
fn is_lost(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<Lost>() || error.is::<hyper::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A line on which every request carries a statement.
struct Stamped {
    lines: Lines,
    peer: CollectorId,
    namespace: Namespace,
    statement: Statement,
}

impl tower::Service<HttpRequest<Body>> for Stamped {
    type Response = HttpResponse<Body>;
    type Error = Lost;
    type Future = BoxFuture<'static, Result<HttpResponse<Body>, Lost>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let (lines, peer, namespace) = (self.lines.clone(), self.peer.clone(), self.namespace.clone());
        let statement = self.statement.clone();
        Box::pin(async move { lines.send(&peer, &namespace, |key: &LinkKey| signed(&statement, key), request).await })
    }
}
