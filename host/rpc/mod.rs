//! gRPC: the only importer of tonic and hyper.
//!
//! A request comes in through [`Server`] (connections) and the edge (deadline, panics, receipts), is decoded by tonic, turned
//! into domain words by `convert`, handed on in one call, and answered; failures become statuses in `status`.

mod codec;
mod convert;
mod dispatcher;
mod edge;
mod not_yet;
pub mod pb;
mod preface;
mod server;
mod status;

pub use codec::{StrictCodec, StrictDecoder};
pub use dispatcher::DispatcherService;
pub use server::{Config, Server, ServerError};

use pb::collection_repo_server::CollectionRepoServer;
use pb::collection_service_server::CollectionServiceServer;
use pb::collective_dispatcher_server::CollectiveDispatcherServer;
use pb::collector_registry_server::CollectorRegistryServer;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

/// Largest message of a service that carries no code. 4 MiB: gRPC's default.
const MESSAGE_MAX: usize = 4 << 20;
/// Largest reply: twice the default, for pages of records, and room for what stands beside a guest's own 8 MiB.
const REPLY_MAX: usize = (8 << 20) + (64 << 10);
/// Room for the rest of a `ServeRequest` beside its binary.
const BESIDE_BINARY: usize = 4 << 20;

/// Full names of the core services, each with an entry of its own in health.
pub const CORE_SERVICES: [&str; 4] = [
    CollectorRegistryServer::<()>::NAME,
    CollectionServiceServer::<()>::NAME,
    CollectiveDispatcherServer::<()>::NAME,
    CollectionRepoServer::<()>::NAME,
];

/// All services of a node behind one door.
///
/// * `binary_max`: bytes of the largest artifact that Serve takes.
pub fn routes(dispatcher: DispatcherService, health: HealthServer<impl Health>, binary_max: usize) -> Routes {
    let dispatcher = CollectiveDispatcherServer::new(dispatcher)
        .max_decoding_message_size(binary_max.saturating_add(BESIDE_BINARY))
        .max_encoding_message_size(REPLY_MAX);
    let registry = CollectorRegistryServer::new(not_yet::Registry).max_decoding_message_size(MESSAGE_MAX);
    let collections = CollectionServiceServer::new(not_yet::Collections).max_decoding_message_size(MESSAGE_MAX);
    let repo = CollectionRepoServer::new(not_yet::Repo).max_decoding_message_size(MESSAGE_MAX);
    Routes::new(health).add_service(dispatcher).add_service(registry).add_service(collections).add_service(repo)
}
