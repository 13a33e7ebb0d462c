//! The composition root: the only file that knows every concrete type.
//!
//! Starting: lock the data folder, load the node's key and identity, build the engine, bind, serve, call oneself over
//! the own port, and only then report healthy. Stopping: report unhealthy, take no more calls, let calls finish.

use crate::collections::{self, Catalogue, Collections};
use crate::config::{Config, ConfigError};
use crate::data::{DataError, DataFolder};
use crate::dispatch::artifacts::Artifacts;
use crate::dispatch::deployments::{Deployments, Stored};
use crate::dispatch::{Dispatcher, Parts};
use crate::domain::{Accounts, PageTokens};
use crate::exec::wasm::{Stats, WasmExecutor};
use crate::exec::{Executor as _, Executors, Report};
use crate::files::Files;
use crate::guest_calls::{self, NodeCalls};
use crate::lifecycle::Lifecycle;
use crate::mesh::{self, Inbound, LinkState, Links, Mesh, Peers, record::Records};
use crate::net::{self, Fetcher};
use crate::registry::{Registry, RegistryError};
use crate::rpc::{
    self, Identify, LinkKeeper, LinkParts, Load, Metrics, Pages, PeerDialer, PeerFiles, Server, ServerError, Services,
    Web,
};
use crate::selfcheck;
use crate::store::sqlite;
use crate::store::{SqliteStore, Store, StoreError};
use crate::tenancy::audit::{self, Audit, AuditError, Entry, Ticket};
use crate::tenancy::{
    self, Binding, Key, KeyError, Keys, Namespaces, NewKey, OpenError, Quotas, Refused, Secret, Secrets, Tenancy,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be kept.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The node's own records cannot be read.
    #[error("the data folder's records cannot be used: {0}")]
    Store(#[from] StoreError),
    /// What was registered before cannot be used.
    #[error("the registrations cannot be used: {0}")]
    Registry(#[from] RegistryError),
    /// What is known of callers cannot be used.
    #[error(transparent)]
    Auth(#[from] OpenError),
    /// The port cannot be had.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The engine cannot run on this machine.
    #[error("the Wasm engine cannot start: {0:#}")]
    Engine(anyhow::Error),
    /// Nothing could be written down.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A setting of the way out.
    #[error(transparent)]
    Net(#[from] net::BadSetting),
    /// The node does not answer itself.
    #[error("the node does not answer on its own port: {0}")]
    SelfCheck(String),
}

/// A running node. Dropping it stops it without grace; [`Node::stop`] is the polite way.
pub struct Node {
    address: SocketAddr,
    certificate: Option<PathBuf>,
    id: String,
    wasm: Arc<WasmExecutor>,
    executors: Arc<Executors>,
    lifecycle: Lifecycle,
    tenancy: Tenancy,
    links: LinkKeeper,
    ready: watch::Sender<bool>,
    serving: Option<JoinHandle<()>>,
    _data: DataFolder,
}

impl Node {
    /// Starts a node; when this returns it answers and reports healthy.
    ///
    /// * errors: see [`NodeError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        config.check()?;
        let data = DataFolder::open(&config.data)?;
        let default = config.default_namespace()?;
        let authenticated = config.auth.is_required();
        let (server, dialer) = Server::bind(config.server.clone(), &data.tls(), authenticated).await?;
        let lifecycle = Lifecycle::default();
        let wasm = WasmExecutor::new(config.wasm.clone(), &data.compiled(), data.key(), lifecycle.clone());
        let quotas = Arc::new(Quotas::new(config.quotas.clone()));
        let wasm = Arc::new(wasm.map_err(NodeError::Engine)?.with_accounts(Arc::clone(&quotas) as _));
        wasm.probe().await.map_err(NodeError::Engine)?;
        let (exec, memory_mib) = (config.exec.clone(), config.limits.memory_mib);
        let node = (data.id(), data.key());
        let accounts: Arc<dyn Accounts> = Arc::clone(&quotas) as _;
        let executors = Executors::start(exec, Arc::clone(&wasm) as _, accounts, node, memory_mib, lifecycle.clone());
        let executors = Arc::new(executors.await);
        let ready = watch::Sender::new(false);
        let advertised = match config.server.advertised_address.as_str() {
            "" => server.address().to_string(),
            named => named.to_owned(),
        };
        let beside = (advertised, ready.subscribe());
        let services = services(&config, &data, &executors, quotas, beside, server.load(), &lifecycle).await?;
        let server = server.with_aside(wasm.aside());
        let web = Web::new(&config.server, default.clone(), Arc::clone(&services.registry), services.tenancy.clone());
        let web = web.map_err(ConfigError::from)?;
        let tenancy = services.tenancy.clone();
        let (links, id) = (services.links.clone(), services.collector_id.clone());
        let on_loopback = config.server.listen.ip().is_loopback();
        let web = web.with_metrics(Metrics::new(links.clone(), tenancy.clone(), on_loopback));
        let identify =
            Identify::new(tenancy.clone()).with_peers(links.peers().clone()).with_links(links.inbound().clone());
        let door = rpc::door(services, &default);
        let address = server.address();
        let certificate = server.certificate().map(Path::to_owned);
        let longest = config.limits.deadline();
        let serving = lifecycle.spawn(server.run(identify, web, door, longest, lifecycle.clone()));
        let node = Self {
            address,
            certificate,
            id,
            wasm,
            executors,
            lifecycle,
            tenancy: tenancy.clone(),
            links,
            ready,
            serving: Some(serving),
            _data: data,
        };
        selfcheck::run(node.address, dialer, tenancy.own_secret()).await.map_err(NodeError::SelfCheck)?;
        node.ready.send_replace(true);
        node.links.start();
        tracing::info!(%address, id = node.id, "serving");
        Ok(node)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The file with the certificate that clients see; none where connections are in clear.
    pub fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// The collector's id: `executor_id` of its answers.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How its links to other collectors are.
    pub fn links(&self) -> Vec<LinkState> {
        self.links.links().all()
    }

    /// What it knows of other collectors.
    pub fn mesh(&self) -> &Mesh {
        self.links.mesh()
    }

    /// What the Wasm executor holds.
    pub async fn wasm_stats(&self) -> Stats {
        self.wasm.stats().await
    }

    /// What runs code beside Wasm, and what does not and why.
    pub fn executors(&self) -> Vec<Report> {
        self.executors.reports()
    }

    /// Stops: unhealthy at once, no new calls, calls in flight finish within the grace period.
    pub async fn stop(mut self) {
        self.ready.send_replace(false);
        self.lifecycle.drain();
        if let Some(serving) = self.serving.take() {
            let _ = serving.await;
        }
        self.links.close();
        let left = self.lifecycle.end(Duration::from_secs(1)).await;
        if left > 0 {
            tracing::warn!(left, "tasks were still running at the end");
        }
        self.tenancy.close();
        tracing::info!("stopped");
    }
}

/// Opens what the data folder keeps and puts the services on it.
async fn services(
    config: &Config,
    data: &DataFolder,
    executor: &Arc<Executors>,
    quotas: Arc<Quotas>,
    (advertised, ready): (String, watch::Receiver<bool>),
    load: Load,
    lifecycle: &Lifecycle,
) -> Result<Services, NodeError> {
    let (accounts, headroom) = (Arc::clone(&quotas) as _, config.store);
    let sizes = sqlite::Config { accounts, headroom, ..sqlite::Config::default() };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::with_config(&data.records(), sizes)?);
    let namespaces = Namespaces::open(Arc::clone(&store), quotas, config.tenancy.clone(), lifecycle.clone()).await?;
    let stored = Stored::read(&*store).await?;
    let judge = Arc::clone(executor);
    let accepts = Box::new(move |namespace: &_, kind| judge.accepts(namespace, kind));
    let artifacts = Artifacts::open(&data.artifacts(), &config.artifacts, stored.artifacts(), accepts);
    let artifacts = artifacts.map_err(|why| DataError::Io { what: "list the artifacts", why })?;
    let artifacts = Arc::new(artifacts.leaving(headroom));
    let registry =
        Registry::open(Arc::clone(&store), &rpc::built_in(), config.registry.clone(), lifecycle.clone()).await?;
    let registry = Arc::new(registry);
    let deployments = Arc::new(Deployments::new(
        stored,
        Arc::clone(&registry),
        Arc::clone(&artifacts),
        Arc::clone(executor) as _,
        config.deployments.clone(),
        lifecycle.clone(),
    ));
    let audit = match config.audit.on {
        true => Some(Audit::open(&data.audit(), &config.audit)?),
        false => None,
    };
    let tenancy = Tenancy::open(&config.auth, audit, &namespaces, Arc::clone(&store), lifecycle.clone()).await?;
    let parts = Parts {
        tenancy: tenancy.clone(),
        registry: Arc::clone(&registry),
        artifacts: Arc::clone(&artifacts),
        deployments: Arc::clone(&deployments),
        executor: Arc::clone(executor) as _,
        lifecycle: lifecycle.clone(),
    };
    let dispatcher = Arc::new(Dispatcher::new(parts, config.limits.clone()));
    let accounts = Arc::clone(namespaces.quotas()) as _;
    let files =
        Files::open(&data.files(), config.files.clone(), (Arc::clone(&store), headroom), accounts, lifecycle.clone());
    let files = files.map_err(|why| DataError::Io { what: "keep files", why })?;
    let id = config.mesh.own_id().map_err(ConfigError::from)?.map_or_else(|| data.id().to_owned(), |id| id.to_string());
    let links = links(
        config,
        (&id, &advertised),
        &store,
        LinkBase { registry: &registry, deployments: &deployments, tenancy: &tenancy, load, lifecycle },
    )
    .await?;
    let secrets = Secrets::open(Arc::clone(&store), data.key(), lifecycle.clone()).await?;
    let collections = collections(config, store, tenancy.clone(), &registry, &dispatcher, lifecycle).await?;
    dispatcher.answer_guests(Arc::new(NodeCalls::new(guest_calls::Parts {
        dispatcher: Arc::downgrade(&dispatcher),
        collections: Arc::downgrade(&collections),
        files,
        deployments: Arc::clone(&deployments),
        tenancy: tenancy.clone(),
        secrets: secrets.clone(),
        fetcher: Fetcher::new(&config.net)?,
        pages: PageTokens::new(data.key()),
        runtime: tokio::runtime::Handle::current(),
        accounts: Arc::clone(namespaces.quotas()) as _,
    })));
    Ok(Services {
        dispatcher,
        registry,
        collections,
        deployments,
        artifacts,
        tenancy,
        secrets,
        namespaces: Arc::new(namespaces),
        links,
        on_loopback: config.server.listen.ip().is_loopback(),
        collector_id: id,
        advertised,
        pages: Pages::new(data.key()),
        limits: config.limits.clone(),
        binary_max: config.artifacts.max_mib << 20,
        ready,
        lifecycle: lifecycle.clone(),
    })
}

/// What links stand on.
struct LinkBase<'a> {
    registry: &'a Arc<Registry>,
    deployments: &'a Arc<Deployments>,
    tenancy: &'a Tenancy,
    load: Load,
    lifecycle: &'a Lifecycle,
}

/// Gets ready to link other collectors.
async fn links(
    config: &Config,
    (id, advertised): (&str, &str),
    store: &Arc<dyn Store>,
    base: LinkBase<'_>,
) -> Result<LinkKeeper, NodeError> {
    let peers = Peers::open(Arc::clone(store), &config.peers, config.ground(), base.lifecycle.clone()).await?;
    let links = Links::default();
    let records = Records::open(Arc::clone(store), id.to_owned(), advertised.to_owned(), links.clone()).await?;
    let own = id.parse().map_err(|why| ConfigError::Value(format!("mesh.id {why}")))?;
    Ok(LinkKeeper::new(LinkParts {
        mesh: Mesh::new(own),
        peers,
        links,
        inbound: Inbound::default(),
        records,
        dialer: PeerDialer::new(peer_files(&config.mesh, &config.server)),
        advertised: advertised.to_owned(),
        guard: config.net.guard()?,
        renew_every: Duration::from_secs(config.mesh.link_s),
        read_idle: Duration::from_secs(config.mesh.read_idle_s),
        registry: Arc::clone(base.registry),
        deployments: Arc::clone(base.deployments),
        tenancy: base.tenancy.clone(),
        load: base.load,
        lifecycle: base.lifecycle.clone(),
    }))
}

/// What keeps a node with these settings from starting, as far as that is known before it does. Nothing is made.
pub async fn obstacles(config: &Config) -> Vec<String> {
    let mut found = rpc::obstacles(&config.server, config.auth.is_required());
    let links = peer_files(&config.mesh, &config.server).filter(|_| !config.peers.is_empty());
    found.extend(links.and_then(|files| files.problem()).map(|why| why.to_string()));
    found.extend(config.auth.problem().await.map(|why| why.to_string()));
    found.extend(config.net.problem().map(|why| why.to_string()));
    found
}

/// The certificates of links, where connections are encrypted.
fn peer_files(mesh: &mesh::Config, server: &rpc::Config) -> Option<PeerFiles> {
    let or = |own: &PathBuf, other: &PathBuf| if own.as_os_str().is_empty() { other.clone() } else { own.clone() };
    server.tls.is_on().then(|| PeerFiles {
        certificate: or(&mesh.certificate, &server.tls.certificate),
        key: or(&mesh.key, &server.tls.key),
        ca: or(&mesh.ca, &server.tls.client_ca),
        crl: or(&mesh.crl, &server.tls.client_crl),
    })
}

/// Opens the collections and goes on with what was left undone.
async fn collections(
    config: &Config,
    store: Arc<dyn Store>,
    tenancy: Tenancy,
    registry: &Arc<Registry>,
    dispatcher: &Arc<Dispatcher>,
    lifecycle: &Lifecycle,
) -> Result<Arc<Collections>, NodeError> {
    let catalogue = Catalogue::open(Arc::clone(&store), config.collections.clone()).await?;
    let collections = Arc::new(Collections::new(collections::Parts {
        tenancy,
        registry: Arc::clone(registry),
        catalogue: Arc::new(catalogue),
        store,
        dispatcher: Arc::clone(dispatcher),
        lifecycle: lifecycle.clone(),
    }));
    collections.resume().await?;
    Ok(collections)
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lifecycle.drain();
        self.lifecycle.kill();
        self.links.close();
        self.tenancy.close();
    }
}

/// Who changes keys that no node keeps.
const OFFLINE: &str = "data folder";

/// The keys of a data folder that no node uses; the folder is locked meanwhile.
pub struct OfflineKeys {
    keys: Keys,
    audit: Audit,
    lifecycle: Lifecycle,
    _data: DataFolder,
}

impl OfflineKeys {
    /// * `data`: the folder; made if it is missing.
    /// * errors: `Data`, also for a folder that a node uses; `Store`.
    pub async fn open(data: &Path, config: &tenancy::Config) -> Result<Self, NodeError> {
        let data = DataFolder::open(data)?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data.records())?);
        let lifecycle = Lifecycle::default();
        let keys = Keys::open(store, config, lifecycle.clone()).await?;
        // Whatever the node's settings are: this removes no file.
        let audit = Audit::open(&data.audit(), &audit::Config { files: 0, ..audit::Config::default() })?;
        Ok(Self { keys, audit, lifecycle, _data: data })
    }

    /// Writes that keys are about to be changed.
    fn record(&self, action: &str, bindings: &[Binding]) -> Result<Ticket, KeyError> {
        let scopes: BTreeSet<String> = bindings.iter().map(|binding| binding.scope.to_string()).collect();
        let namespace = scopes.into_iter().collect::<Vec<_>>().join(",");
        let entry =
            Entry { request: None, caller: OFFLINE, source: None, action, verb: "manage", namespace: &namespace };
        self.audit.begin(&entry).map_err(|why| Refused::from(why).into())
    }

    /// Makes a key. Whoever has the folder may do anything anyway.
    pub async fn create(&self, new: NewKey) -> Result<(Key, Secret), KeyError> {
        let record = self.record("auth key create", &new.bindings)?;
        let made = self.keys.create(new, OFFLINE.to_owned()).await;
        record.end(if made.is_ok() { "OK" } else { "FAILED" });
        made
    }

    /// All keys, by id.
    pub fn list(&self) -> Vec<Key> {
        self.keys.list(None, usize::MAX, |_| true)
    }

    /// Ends a key.
    pub async fn revoke(&self, id: &str) -> Result<Key, KeyError> {
        let key = self.keys.get(id).ok_or(KeyError::NotFound)?;
        let record = self.record("auth key revoke", &key.bindings)?;
        let revoked = self.keys.revoke(id).await;
        record.end(if revoked.is_ok() { "OK" } else { "FAILED" });
        revoked
    }
}

impl Drop for OfflineKeys {
    fn drop(&mut self) {
        self.lifecycle.drain();
    }
}
