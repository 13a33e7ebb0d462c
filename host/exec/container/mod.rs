//! Containers: any program that speaks the command contract, in a container with nothing but itself.
//!
//! ```text
//! Job -> image (there, else made from the binary, else pulled) -> slot -> container (kept, else made) -> Outcome
//! ```
//!
//! What a container can reach is decided in `host_config.rs` and nowhere else. Source: threats.md B10. What this leaves
//! out: streams, networks, registries with credentials.

mod attached;
mod cold;
mod config;
mod engine;
mod engine_check;
mod host_config;
mod images;
mod life;
mod maker;
mod pull;
mod session;
mod warm;
#[path = "runner/wire.rs"]
mod wire;

pub use config::Config;

use super::claim::{Claim, Payer};
use super::log::GuestLog;
use super::stop::stoppable;
use super::{Availability, BoxFuture, Code, ExecError, ExecFailure, Executor, Job, Streams, command};
use crate::domain::{Account, Accounts, Kind, Limits, Namespace, Outcome, Receipt, Start, Unlimited};
use crate::fair::Slots;
use crate::lifecycle::Lifecycle;
use engine::{Engine, PATIENCE};
use host_config::{Purpose, body};
use images::{Images, InUse};
use life::Container;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use warm::{Kept, Pool, RUNNER_PATH};

/// Name of this executor in receipts.
const NAME: &str = "container";
/// Where the binary is in an image that was made from it.
const PLUGIN_PATH: &str = "/plugin";
/// How long the start of a node waits for the engine. 2 s: one that is well answers in milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Runs commands.
pub struct ContainerExecutor {
    engine: Arc<Engine>,
    images: Images,
    slots: Slots,
    pool: Arc<Pool>,
    accounts: Arc<dyn Accounts>,
    node_memory_mib: u64,
}

/// What the executor holds right now, for tests and for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Images that this node uses.
    pub images: u64,
    /// Containers of ours, running a call, kept, or on their way out.
    pub containers: usize,
    /// Containers that are kept and wait for a call.
    pub kept: usize,
    /// Calls that hold a slot.
    pub running: usize,
}

impl ContainerExecutor {
    /// Asks the engine whether it is there, and removes what an earlier life of this node left there.
    /// * `wanted`: whether any setting lets anything run here; if not the engine is never asked for anything.
    ///
    /// Waits a moment for that and no longer: an engine that takes its time is met behind the node's back, and until then
    /// nothing runs here.
    ///
    /// * `node`, `key`: its id, the label of all that it makes, and its key, which says what it has made.
    /// * `node_memory_mib`: `limits.memory_mib`; a call that has less asked for less.
    pub async fn start(
        config: Config,
        wanted: bool,
        node: &str,
        key: &[u8; 32],
        node_memory_mib: u64,
        lifecycle: Lifecycle,
    ) -> Self {
        let pool = Arc::new(Pool::new(config.warm));
        let slots = Slots::new(config.slots, config.queue);
        let engine = Arc::new(Engine::new(config, wanted, node, lifecycle));
        let images = Images::new(&engine, key, pool.off().is_none());
        let this = Self { engine, images, slots, pool, accounts: Arc::new(Unlimited), node_memory_mib };
        if wanted {
            let _late = timeout(START_PATIENCE, this.meet()).await;
        }
        if this.pool.off().is_none() {
            this.tend_pool();
        }
        this
    }

    /// The same with books to charge; without them every namespace has what it takes.
    #[must_use]
    pub fn with_accounts(self, accounts: Arc<dyn Accounts>) -> Self {
        Self { accounts, ..self }
    }

    /// Asks the engine whether it is there; when it is found, now or later, takes over what is left there.
    ///
    /// * cancel: safe; both go on in tasks of their own.
    async fn meet(&self) {
        let (engine, images) = (Arc::clone(&self.engine), self.images.clone());
        let tidied = self.engine.lifecycle.spawn(async move {
            tokio::select! {
                () = engine.found() => {}
                () = engine.lifecycle.draining() => return,
            }
            let reap = engine.lifecycle.spawn(Arc::clone(&engine).reap());
            // What cannot be removed now is tried again for as long as it takes.
            let _late = timeout(PATIENCE, reap).await;
            images.adopt().await;
        });
        let engine = Arc::clone(&self.engine);
        let asked = self.engine.lifecycle.spawn(async move {
            tokio::select! {
                docker = engine.docker() => docker.is_ok(),
                () = engine.lifecycle.draining() => false,
            }
        });
        if asked.await.unwrap_or(false) {
            let _ended = tidied.await;
        }
    }

    /// Waits until it is known whether there is an engine.
    pub async fn asked(&self) {
        let _known = self.engine.docker().await;
    }

    /// Kept containers go when they are not used, and all of them when the node drains.
    fn tend_pool(&self) {
        let (pool, lifecycle) = (Arc::clone(&self.pool), self.engine.lifecycle.clone());
        self.engine.lifecycle.spawn(async move {
            tokio::select! {
                () = pool.tend() => {}
                () = lifecycle.draining() => pool.stop("the node is shutting down"),
            }
        });
    }

    /// Whether this machine can run it, and if not why, for operators. While there is no engine it is asked again, at most
    /// every few seconds: the answer may be another one soon.
    pub fn availability(&self) -> Availability {
        self.engine.availability()
    }

    /// What is known of the engine, for operators.
    pub fn facts(&self) -> Vec<super::Fact> {
        let mut facts = self.engine.facts();
        if !facts.is_empty() {
            let kept = self.pool.off().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
            facts.push(("containers kept between calls".to_owned(), kept));
        }
        facts
    }

    /// What the executor holds right now.
    pub async fn stats(&self) -> Stats {
        Stats {
            images: self.images.count().await,
            containers: self.engine.live().len(),
            kept: self.pool.idle(),
            running: self.slots.running(),
        }
    }

    async fn run_job(&self, mut job: Job) -> Result<Outcome, ExecFailure> {
        if job.limits.fuel > 0 {
            return Err(ExecError::Unmetered.into());
        }
        self.usable()?;
        let memory_bytes = self.memory_mib(&job.limits) << 20;
        let payer = Payer::new(&*self.accounts, &job.namespace, job.caller.as_ref(), memory_bytes)?;
        let (arrived, lifecycle) = (Instant::now(), &self.engine.lifecycle);
        let deadline = job.deadline.instant();
        // One that is away is said so at once, and not after the line for slots that cannot become free.
        stoppable(lifecycle, deadline, self.engine.docker()).await?.map_err(ExecError::from)?;
        let image = stoppable(lifecycle, deadline, self.images.get(&job.code)).await??;
        let claim = stoppable(lifecycle, deadline, payer.claim(&self.slots)).await??;
        let queued = arrived.elapsed();

        job.deadline = job.deadline.at_most(Duration::from_secs(self.engine.config.timeout_s));
        let log = GuestLog::new(job.namespace.clone(), job.service.clone(), &job.code.digest, job.limits.log_bytes);
        let (began, mut start) = (Instant::now(), Start::Cold);
        let call = Box::pin(self.call(&job, (image, claim), &payer, &log, &mut start));
        let result = stoppable(lifecycle, job.deadline.instant(), call).await;
        log.finish();
        let receipt = Receipt {
            executor: NAME,
            digest: job.code.digest,
            version: None,
            fuel: None,
            // The engine does not say, short of asking it all the time.
            peak_memory: None,
            queued,
            ran: began.elapsed(),
            start,
        };
        match result.and_then(|ended| ended) {
            Ok(reply) => Ok(Outcome { reply, receipt }),
            Err(error) => Err(ExecFailure { error, receipt: Some(Box::new(receipt)) }),
        }
    }

    /// In a kept container, or one that is to be kept, or one of its own.
    async fn call(
        &self,
        job: &Job,
        (image, claim): (InUse, Arc<Claim>),
        payer: &Payer,
        log: &GuestLog,
        start: &mut Start,
    ) -> Result<command::Reply, ExecError> {
        let memory_mib = self.memory_mib(&job.limits);
        let limits = Limits { memory_mib, ..job.limits.clone() };
        let keeps = job.code.kind == Kind::NativeElf
            && memory_mib == self.engine.config.memory_mib
            && self.pool.off().is_none();
        let (image, claim) = match keeps {
            false => (image, claim),
            true => match self.kept(job, image, claim, &limits, start).await? {
                Some(kept) => return kept.run(job, &limits, log, &self.pool).await,
                None => (self.images.get(&job.code).await?, payer.claim(&self.slots).await?),
            },
        };
        let container = self.create(job, image, claim, &limits, false).await?;
        cold::run(&container, job, &limits, log).await
    }

    /// A container that is kept, or is to be kept; `None` if calls cannot be kept apart on this machine.
    async fn kept(
        &self,
        job: &Job,
        image: InUse,
        claim: Arc<Claim>,
        limits: &Limits,
        start: &mut Start,
    ) -> Result<Option<Kept>, ExecError> {
        let purpose = warm::Purpose { namespace: job.namespace.clone(), digest: job.code.digest };
        if let Some(mut kept) = self.pool.take(&purpose) {
            *start = Start::Warm;
            kept.hold(claim);
            return Ok(Some(kept));
        }
        let container = self.create(job, image, claim, limits, true).await?;
        let kept = Kept::start(container, purpose).await?;
        if let Err(why) = &kept {
            tracing::warn!(why, "containers are not kept between calls");
            self.pool.stop(why);
        }
        Ok(kept.ok())
    }

    /// Makes a container for the job, and its image once more if somebody has removed it from the engine.
    async fn create(
        &self,
        job: &Job,
        image: InUse,
        claim: Arc<Claim>,
        limits: &Limits,
        kept: bool,
    ) -> Result<Container, ExecError> {
        let request = |image: &InUse| self.request(job, image, limits, kept);
        let reference = image.reference().to_owned();
        let first = Container::create(&self.engine, request(&image), job.code.kind, image, claim).await;
        let claim = match first {
            Err((ExecError::Missing, Some(claim))) => claim,
            first => return first.map_err(|(why, _claim)| why),
        };
        self.images.forget(&job.code, &reference).await;
        let image = self.images.get(&job.code).await?;
        let second = Container::create(&self.engine, request(&image), job.code.kind, image, claim).await;
        second.map_err(|(why, _claim)| why)
    }

    fn request(&self, job: &Job, image: &InUse, limits: &Limits, kept: bool) -> bollard::models::ContainerCreateBody {
        let binary = job.code.kind == Kind::NativeElf;
        let (entrypoint, arguments, environment) = match kept {
            // The call comes later, and others after it.
            true => (Some(RUNNER_PATH), Vec::new(), Vec::new()),
            false => (binary.then_some(PLUGIN_PATH), command::argv(job).to_vec(), environment(job)),
        };
        let memory_mib = limits.memory_mib;
        let purpose = Purpose { image: image.reference(), entrypoint, arguments, environment, memory_mib };
        body(&self.engine.config, &self.engine.node, purpose)
    }

    /// The operator's setting, unless the caller asked for less than the node gives anyway.
    fn memory_mib(&self, limits: &Limits) -> u64 {
        match limits.memory_mib < self.node_memory_mib {
            true => limits.memory_mib.min(self.engine.config.memory_mib),
            false => self.engine.config.memory_mib,
        }
    }

    /// Why nothing runs here, for tenants: the operator's text names settings of this node.
    fn usable(&self) -> Result<(), ExecError> {
        self.availability().map_err(|_why| engine::EngineError::Unusable.into())
    }
}

/// What the program finds in its environment, as the engine and the runner take it.
fn environment(job: &Job) -> Vec<String> {
    command::environment(job).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

impl Executor for ContainerExecutor {
    fn accepts(&self, _namespace: &Namespace, kind: Kind) -> Result<(), ExecError> {
        match kind {
            Kind::Image if self.engine.config.images.is_empty() => Err(ExecError::ImageNotAllowed),
            _ => self.usable(),
        }
    }

    fn prepare<'a>(
        &'a self,
        _namespace: &'a Namespace,
        _caller: Option<&'a Arc<dyn Account>>,
        code: &'a Code,
    ) -> BoxFuture<'a, Result<(), ExecError>> {
        Box::pin(async move {
            self.usable()?;
            self.images.get(code).await.map(|_ready| ())
        })
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(self.run_job(job))
    }

    fn stream(&self, _job: Job, _streams: Streams) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(async { Err(ExecError::NoStreaming.into()) })
    }
}
