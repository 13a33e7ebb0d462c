//! The composition root: the only file that knows every concrete type.
//!
//! Starting: lock the data folder, load the node's key and identity, build the engine, bind, serve, call oneself over
//! the own port, and only then report healthy. Stopping: report unhealthy, take no more calls, let calls finish.

use crate::config::{Config, ConfigError};
use crate::data::{DataError, DataFolder};
use crate::dispatch::Dispatcher;
use crate::dispatch::artifacts::Artifacts;
use crate::exec::wasm::{Stats, WasmExecutor};
use crate::lifecycle::Lifecycle;
use crate::rpc::{self, DispatcherService, Server, ServerError};
use crate::selfcheck;
use crate::tenancy::Tenancy;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be kept.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The port cannot be had.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The engine cannot run on this machine.
    #[error("the Wasm engine cannot start: {0:#}")]
    Engine(anyhow::Error),
    /// The node does not answer itself.
    #[error("the node does not answer on its own port: {0}")]
    SelfCheck(String),
}

/// A running node. Dropping it stops it without grace; [`Node::stop`] is the polite way.
pub struct Node {
    address: SocketAddr,
    id: String,
    executor: Arc<WasmExecutor>,
    lifecycle: Lifecycle,
    health: HealthReporter,
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
        let server = Server::bind(config.server.clone()).await?;
        let lifecycle = Lifecycle::default();
        let executor = WasmExecutor::new(config.wasm.clone(), &data.compiled(), data.key(), lifecycle.clone());
        let executor = Arc::new(executor.map_err(NodeError::Engine)?);
        let artifacts = Artifacts::open(&data.artifacts(), &config.artifacts)
            .map_err(|why| DataError::Io { what: "list the artifacts", why })?;
        let dispatcher =
            Arc::new(Dispatcher::new(Tenancy, artifacts, Arc::clone(&executor) as _, config.limits.clone()));

        let (health, health_service) = tonic_health::server::health_reporter();
        let dispatcher = DispatcherService::new(dispatcher, data.id().to_owned());
        let routes = rpc::routes(dispatcher, health_service, config.artifacts.max_mib << 20);
        let address = server.address();
        let longest = config.limits.deadline();
        let life = lifecycle.clone();
        let serving = lifecycle.spawn(server.run(routes, longest, life));
        let id = data.id().to_owned();
        let node = Self { address, id, executor, lifecycle, health, serving: Some(serving), _data: data };
        node.report(ServingStatus::NotServing).await;
        selfcheck::run(node.address).await.map_err(NodeError::SelfCheck)?;
        node.report(ServingStatus::Serving).await;
        tracing::info!(%address, id = node.id, "serving");
        Ok(node)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The collector's id: `executor_id` of its answers.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the Wasm executor holds.
    pub async fn wasm_stats(&self) -> Stats {
        self.executor.stats().await
    }

    /// Stops: unhealthy at once, no new calls, calls in flight finish within the grace period.
    pub async fn stop(mut self) {
        self.report(ServingStatus::NotServing).await;
        self.lifecycle.drain();
        if let Some(serving) = self.serving.take() {
            let _ = serving.await;
        }
        let left = self.lifecycle.end(Duration::from_secs(1)).await;
        if left > 0 {
            tracing::warn!(left, "tasks were still running at the end");
        }
        tracing::info!("stopped");
    }

    async fn report(&self, status: ServingStatus) {
        for service in rpc::CORE_SERVICES.into_iter().chain([""]) {
            self.health.set_service_status(service, status).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lifecycle.drain();
        self.lifecycle.kill();
    }
}
