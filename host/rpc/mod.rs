//! gRPC: the only importer of tonic and hyper.
//!
//! A request comes in through [`Server`] (connections) and the edge (deadline, panics, receipts), is decoded by tonic, turned
//! into domain words by `convert`, handed on in one call, and answered; failures become statuses in `status`.

mod admission;
mod alone;
mod anywhere;
mod builtin;
mod calls;
mod coalesce;
mod codec;
mod collection_repo;
mod collection_service;
mod collections;
mod config;
mod convert;
mod details;
mod dispatcher;
mod door;
mod edge;
mod ended;
mod fixed;
mod flood;
mod heads;
mod health;
mod identify;
mod incoming;
mod keys;
mod lifetime;
mod mesh;
mod namespaces;
mod native;
mod not_yet;
mod page;
pub mod pb;
mod peers;
mod plugins;
mod policy;
mod preface;
mod raw;
mod record;
mod reflection;
mod registry;
mod secrets;
mod server;
mod stalled;
mod status;
mod tls;
mod verdict;
mod web;
mod weight;
mod whose;

pub use builtin::built_in;
pub use codec::{StrictCodec, StrictDecoder};
pub use config::{BadSetting, Config};
pub use door::Door;
pub use fixed::fixed;
pub use identify::Identify;
pub use mesh::{LinkKeeper, LinkParts, Load};
pub use page::Pages;
pub use policy::{NATIVE, Needs, Place, TABLE};
pub use raw::RawDescriptor;
pub use server::{Server, ServerError, obstacles};
pub use tls::{ClientCertificates, Dialer, PeerDialer, PeerFiles, TlsConfig, TlsError, Trust, Wire};
pub use web::{Metrics, Web};

use crate::collections::Collections;
use crate::dispatch::Dispatcher;
use crate::dispatch::artifacts::Artifacts;
use crate::dispatch::deployments::Deployments;
use crate::dispatch::placing::Placing;
use crate::domain::{Limits, Namespace};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::tenancy::{Namespaces, Secrets, Tenancy};
use anywhere::Anywhere;
use collection_repo::RepoService;
use collection_service::CollectionService;
use dispatcher::DispatcherService;
use health::{HealthService, Liveness};
use keys::KeysService;
use mesh::{Shelf, Spread};
use namespaces::NamespacesService;
use native::Native;
use pb::admin::v1::keys_server::KeysServer;
use pb::admin::v1::namespaces_server::NamespacesServer;
use pb::admin::v1::peers_server::PeersServer;
use pb::admin::v1::secrets_server::SecretsServer;
use pb::collection_repo_server::CollectionRepoServer;
use pb::collection_service_server::CollectionServiceServer;
use pb::collective_dispatcher_server::CollectiveDispatcherServer;
use pb::collector_registry_server::CollectorRegistryServer;
use pb::mesh::v1::mesh_server::MeshServer;
use pb::plugin::v1::plugins_server::PluginsServer;
use pb::record::v1::collections_server::CollectionsServer;
use peers::PeersService;
use plugins::PluginsService;
use record::CollectionsService;
use reflection::ReflectionService;
use registry::RegistryService;
use secrets::SecretsService;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tonic::service::Routes;

/// How requests may be compressed: some stock clients do it unasked. What a message grows to is bounded like one that was
/// not compressed; answers are not compressed.
const GZIP: CompressionEncoding = CompressionEncoding::Gzip;
/// Largest message of a service that carries no code. 4 MiB: gRPC's default.
const MESSAGE_MAX: usize = 4 << 20;
/// Largest reply: twice the default, for pages of records, and room for what stands beside a guest's own 8 MiB.
const REPLY_MAX: usize = (8 << 20) + (64 << 10);
/// Largest listing. 64 MiB: all services of the largest namespace; ListServices has no pages.
const LISTING_MAX: usize = 64 << 20;
/// Largest request about a secret: the value and two names.
const SECRET_REQUEST_MAX: usize = 16 << 10;
/// Largest request about a peer: 64 bindings, an address and an identity.
const PEERS_REQUEST_MAX: usize = 16 << 10;
/// Room for what stands around a chunk of an upload.
const CHUNK_FRAME: usize = 64;
/// Room for the rest of a `ServeRequest` beside its binary.
const BESIDE_BINARY: usize = 4 << 20;

/// Full names of the core services, each with an entry of its own in health.
pub const CORE_SERVICES: [&str; 4] = [
    CollectorRegistryServer::<()>::NAME,
    CollectionServiceServer::<()>::NAME,
    CollectiveDispatcherServer::<()>::NAME,
    CollectionRepoServer::<()>::NAME,
];

/// What the services work with.
pub struct Services {
    /// Answers calls.
    pub dispatcher: Arc<Dispatcher>,
    /// Knows types.
    pub registry: Arc<Registry>,
    /// Keeps records.
    pub collections: Arc<Collections>,
    /// Knows which code answers.
    pub deployments: Arc<Deployments>,
    /// Keeps code.
    pub artifacts: Arc<Artifacts>,
    /// Decides.
    pub tenancy: Tenancy,
    /// Keeps what plugins use and nobody reads.
    pub secrets: Secrets,
    /// Knows which namespaces there are.
    pub namespaces: Arc<Namespaces>,
    /// Links to other collectors.
    pub links: LinkKeeper,
    /// Only this machine reaches the node.
    pub on_loopback: bool,
    /// What the node calls itself.
    pub collector_id: String,
    /// Where others reach the node: `host:port`.
    pub advertised: String,
    /// Makes page tokens.
    pub pages: Pages,
    /// What one call may use.
    pub limits: Limits,
    /// Bytes of the largest artifact.
    pub binary_max: usize,
    /// Whether the node takes calls.
    pub ready: watch::Receiver<bool>,
    /// Ends streams that never end by themselves.
    pub lifecycle: Lifecycle,
}

/// What answers, as health wants to know it.
struct Live(Arc<Dispatcher>);

impl Liveness for Live {
    fn state(&self, namespace: &Namespace, service: &str) -> Option<bool> {
        self.0.is_served(namespace, service)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

/// All services of a node behind one door.
///
/// * `default`: the namespace of requests that name none.
pub fn door(services: Services, default: &Namespace) -> Door {
    let Services { dispatcher, registry, collections, deployments, artifacts, tenancy, pages, binary_max, .. } =
        services;
    let forwarder = services.links.forwarder(&services.limits);
    let abroad = (tenancy.clone(), forwarder.clone());
    let native = Native::new(Arc::clone(&dispatcher), abroad, default.clone(), &services.limits);
    let health = HealthService::new(
        Arc::new(Live(Arc::clone(&dispatcher))),
        services.ready,
        tenancy.clone(),
        default.clone(),
        services.lifecycle.clone(),
    );
    let reflection = ReflectionService::new(
        Arc::clone(&registry),
        tenancy.clone(),
        default.clone(),
        Duration::from_millis(services.limits.stream_idle_ms),
        services.lifecycle,
    );
    let peers = services.links.peers().clone();
    let repo = RepoService::new(Arc::clone(&collections), pages.clone(), services.advertised, peers);
    let record = CollectionsService::new(Arc::clone(&collections));
    let collections = CollectionService::new(collections, pages.clone());
    let keys = KeysService::new(tenancy.clone(), pages.clone());
    let keys = KeysServer::new(keys).accept_compressed(GZIP).max_decoding_message_size(MESSAGE_MAX);
    let secrets = SecretsService::new(services.secrets, tenancy.clone());
    let secrets = SecretsServer::new(secrets).max_decoding_message_size(SECRET_REQUEST_MAX);
    let namespaces =
        NamespacesService::new(services.namespaces, Arc::clone(&deployments), tenancy.clone(), pages.clone());
    let peers = PeersService::new(services.links.clone(), tenancy.clone(), services.on_loopback);
    let courier = services.links.courier();
    let sources = Arc::new(courier.clone());
    let placing = Placing::new(Arc::clone(&deployments), Arc::clone(&artifacts), sources, binary_max);
    let placing = Arc::new(placing);
    let shelf = Shelf::new(Arc::clone(&artifacts), Arc::clone(&placing), tenancy.clone());
    let spread = Spread::new(courier, placing);
    let plugins = PluginsService::new((deployments, artifacts, spread.clone()), tenancy.clone(), pages, binary_max);
    let registry = RegistryService::new(registry, tenancy.clone(), default.clone());
    let mesh = MeshServer::new(services.links.service(shelf)).max_decoding_message_size(mesh::REQUEST_MAX);
    let anywhere = Anywhere::new(Arc::clone(&dispatcher), tenancy.clone(), forwarder, spread);
    let dispatcher = DispatcherService::new(dispatcher, services.collector_id, services.links, anywhere);
    let dispatcher = CollectiveDispatcherServer::new(dispatcher)
        .accept_compressed(GZIP)
        .max_decoding_message_size(binary_max.saturating_add(BESIDE_BINARY))
        .max_encoding_message_size(REPLY_MAX);
    let registry = CollectorRegistryServer::new(registry)
        .accept_compressed(GZIP)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(LISTING_MAX);
    let plugins = PluginsServer::new(plugins)
        .accept_compressed(GZIP)
        .max_decoding_message_size(MESSAGE_MAX + CHUNK_FRAME)
        .max_encoding_message_size(LISTING_MAX);
    let collections = CollectionServiceServer::new(collections)
        .accept_compressed(GZIP)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(REPLY_MAX);
    let repo = CollectionRepoServer::new(repo)
        .accept_compressed(GZIP)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(REPLY_MAX);
    let record = CollectionsServer::new(record).accept_compressed(GZIP).max_decoding_message_size(MESSAGE_MAX);
    let own = Routes::new(health.server())
        .add_service(reflection.v1())
        .add_service(reflection.v1alpha())
        .add_service(plugins)
        .add_service(secrets)
        .add_service(NamespacesServer::new(namespaces).max_decoding_message_size(MESSAGE_MAX))
        .add_service(PeersServer::new(peers).max_decoding_message_size(PEERS_REQUEST_MAX))
        .add_service(dispatcher)
        .add_service(mesh)
        .add_service(registry)
        .add_service(collections)
        .add_service(repo)
        .add_service(record)
        .add_service(keys);
    Door::new(own, built_in().services, native, tenancy)
}
