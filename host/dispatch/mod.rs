//! From a call to the code that answers it.
//!
//! ```text
//! Serve:  Call -> Permit (tenancy) -> artifact or deployment -> ValidCall (registry) -> Job -> Outcome (exec)
//! native: names -> Permit -> MethodRef (registry) -> Active (deployments) = Ready -> checked messages -> Outcome
//! ```
//!
//! Not here yet: built-in services as targets of Serve. Calls that another node answers are handed over by rpc.

pub mod artifacts;
pub mod deployments;
mod error;
mod json;
pub mod placing;
mod stream;

pub use error::DispatchError;
pub use stream::{Requests, StreamCall};

use crate::domain::{
    Call, CodeSource, Deadline, DeploymentName, Limits, MetadataEntry, MethodName, Namespace, Outcome, ServiceName,
};
use crate::exec::wasm::{Import, import};
use crate::exec::{Code, ExecError, ExecFailure, Executor, HostCalls, Job};
use crate::lifecycle::Lifecycle;
use crate::registry::{self, MethodRef, Registry, Snapshot};
use crate::tenancy::{Caller, Permit, Principal, Tenancy, Verb};
use artifacts::{Artifact, Artifacts};
use bytes::Bytes;
use deployments::{Active, Deployments};
use json::Types;
use std::sync::{Arc, OnceLock};
use stream::Stage;

/// Answers calls.
pub struct Dispatcher {
    parts: Parts,
    limits: Limits,
    guests: OnceLock<Arc<dyn GuestCalls>>,
}

/// Makes what a running guest may ask of the node. It works with the dispatcher, so it comes after it.
pub trait GuestCalls: Send + Sync {
    /// For one call.
    ///
    /// * `permit`: of the call that the guest serves.
    /// * `deployment`: whose code runs, and whose grants count.
    /// * `depth`: inside of how many other calls it runs.
    fn of(&self, permit: &Permit, deployment: &DeploymentName, deadline: Deadline, depth: usize) -> Arc<dyn HostCalls>;
}

/// What the dispatcher works with.
pub struct Parts {
    /// Decides.
    pub tenancy: Tenancy,
    /// Knows types.
    pub registry: Arc<Registry>,
    /// Keeps code.
    pub artifacts: Arc<Artifacts>,
    /// Knows which code answers.
    pub deployments: Arc<Deployments>,
    /// Runs it.
    pub executor: Arc<dyn Executor>,
    /// Ends it.
    pub lifecycle: Lifecycle,
}

/// A call that was answered.
#[derive(Debug)]
pub struct Served {
    /// The answer and its receipt.
    pub outcome: Outcome,
    /// Full protobuf name of the reply message, where it is known.
    pub output_type: Option<Arc<str>>,
}

/// A permitted native call of a method that code answers. What it resolved to stays, whatever is deployed meanwhile.
#[derive(Debug, Clone)]
pub struct Ready {
    permit: Permit,
    snapshot: Arc<Snapshot>,
    method: MethodRef,
    active: Arc<Active>,
    depth: usize,
}

impl Ready {
    /// Full name of the service.
    pub fn service(&self) -> &str {
        &self.method.service().name
    }

    /// The same call, made by code that runs inside of `depth - 1` others.
    #[must_use]
    pub fn inside(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// The method.
    pub fn method(&self) -> &registry::Method {
        self.method.method()
    }
}

/// Where a service is answered, as far as this node knows.
#[derive(Debug, Clone)]
pub enum Here {
    /// By code that is deployed here.
    Deployed,
    /// By the node itself; this is the method.
    BuiltIn(MethodRef),
    /// Not here; the method, if its types are known here.
    Nowhere(Option<MethodRef>),
}

/// What runs for one `Serve`.
struct Found {
    code: Code,
    artifact: Option<Arc<Artifact>>,
    active: Option<Arc<Active>>,
}

impl Dispatcher {
    /// * `limits`: the node's own; a call may lower them.
    pub fn new(parts: Parts, limits: Limits) -> Self {
        Self { parts, limits, guests: OnceLock::new() }
    }

    /// Lets guests ask for what they are granted. Before that, and without it, nothing is.
    pub fn answer_guests(&self, guests: Arc<dyn GuestCalls>) {
        let _ = self.guests.set(guests);
    }

    /// What the code of a deployment may ask in one call; `None` for code that imports nothing of the kind.
    fn calls(&self, permit: &Permit, active: &Active, deadline: Deadline, depth: usize) -> Option<Arc<dyn HostCalls>> {
        // A call inside of another has to say so even if it asks for nothing.
        let wanted = active.asks || depth > 0;
        wanted.then(|| self.guests.get().map(|guests| guests.of(permit, &active.deployment, deadline, depth)))?
    }

    /// Runs one method here.
    ///
    /// * cancel: dropping the future stops the guest; an artifact that was being kept is whole or absent.
    pub async fn serve(&self, caller: &Caller, mut call: Call) -> Result<Served, DispatchError> {
        let limits = self.limits.lowered(&call.limits);
        let deadline = call.deadline.at_most(limits.deadline());
        // Taken out of the call, so that the upload's buffer is gone before the guest runs.
        let source = std::mem::replace(&mut call.code, CodeSource::Deployed);
        let verb = match &source {
            CodeSource::Bytes(_) | CodeSource::Image(_) => Verb::Deploy, // code that the caller chooses
            CodeSource::Artifact(_) | CodeSource::Deployed => Verb::Invoke,
        };
        let permit = self.parts.tenancy.authorize(caller, &call.namespace, verb)?;
        if call.input.len() > limits.input_bytes {
            return Err(input_too_large(limits.input_bytes).into());
        }
        let snapshot = self.parts.registry.snapshot(permit.namespace());
        let found = self.find(&permit, source, &call, &snapshot).await?;
        ungranted(found.artifact.as_deref())?;
        let schema = found.artifact.as_ref().and_then(|artifact| artifact.schema.as_ref());
        let valid = registry::validate(&permit, call, schema, &snapshot)?;
        let (service, method) = (valid.service().to_owned(), valid.method().cloned());
        let call = valid.into_call();
        let types = match schema {
            Some(schema) => Types::Own(schema),
            None => Types::Registered(&self.parts.registry, &snapshot),
        };
        let json = types.json(&found.code, method.as_ref(), &call.input, deadline).await;
        let calls = found.active.as_ref().and_then(|active| self.calls(&permit, active, deadline, 0));
        let version = found.active.as_ref().map(|active| active.version);
        let job = Job {
            code: found.code,
            namespace: call.namespace,
            caller: permit.caller().payer().cloned(),
            service,
            method: call.method.as_str().to_owned(),
            input: call.input,
            json,
            metadata: call.metadata,
            deadline,
            limits,
            calls,
        };
        let outcome = self.run(&permit, job, version, method.as_ref()).await?;
        let output_type = method.map(|method| method.method().output.shared_name());
        Ok(Served { outcome, output_type })
    }

    /// The code that is to answer a `Serve`.
    async fn find(
        &self,
        permit: &Permit,
        source: CodeSource,
        call: &Call,
        snapshot: &Snapshot,
    ) -> Result<Found, DispatchError> {
        let stored = match source {
            CodeSource::Bytes(bytes) => self.parts.artifacts.admit(permit, bytes).await?,
            CodeSource::Artifact(digest) => self.parts.artifacts.find(permit, &digest).await?,
            CodeSource::Image(image) => return Ok(Found { code: Code::image(image), artifact: None, active: None }),
            CodeSource::Deployed => {
                let service = snapshot.find_service(&call.service).map_err(|why| match why {
                    registry::CallError::NoService { .. } => DispatchError::NotDeployed,
                    other => other.into(),
                })?;
                let active = self.parts.deployments.active(permit.namespace(), &service.name);
                let active = active.ok_or(DispatchError::NotDeployed)?;
                return Ok(Found { code: active.code.clone(), artifact: None, active: Some(active) });
            }
        };
        Ok(Found { code: stored.code, artifact: Some(stored.artifact), active: None })
    }

    /// Finds what answers a native call. No I/O.
    ///
    /// * errors: `Refused`; `Call` for a service or method that is not registered; `NoImplementation`; `Draining`.
    pub fn resolve(
        &self,
        caller: &Caller,
        namespace: &Namespace,
        service: &ServiceName,
        method: &MethodName,
    ) -> Result<Ready, DispatchError> {
        let permit = self.parts.tenancy.authorize(caller, namespace, Verb::Invoke)?;
        let snapshot = self.parts.registry.snapshot(namespace);
        let method = snapshot.find_method(service, method)?;
        let full = &method.service().name;
        let Some(active) = self.parts.deployments.active(namespace, full) else {
            return Err(DispatchError::NoImplementation(full.to_string()));
        };
        if self.turns_away(caller) {
            return Err(DispatchError::Draining);
        }
        Ok(Ready { permit, snapshot, method, active, depth: 0 })
    }

    /// Answers a native unary call.
    ///
    /// * cancel: dropping the future stops the guest.
    pub async fn unary(
        &self,
        ready: Ready,
        input: Bytes,
        metadata: Vec<MetadataEntry>,
        deadline: Deadline,
    ) -> Result<Outcome, DispatchError> {
        if input.len() > self.limits.input_bytes {
            return Err(input_too_large(self.limits.input_bytes).into());
        }
        registry::check_input(ready.method(), &input)?;
        let deadline = deadline.at_most(self.limits.deadline());
        let types = Types::Registered(&self.parts.registry, &ready.snapshot);
        let json = types.json(&ready.active.code, Some(&ready.method), &input, deadline).await;
        let calls = self.calls(&ready.permit, &ready.active, deadline, ready.depth);
        let job = Job { json, calls, ..ready.job(input, metadata, deadline, self.limits.clone()) };
        self.run(&ready.permit, job, Some(ready.active.version), Some(&ready.method)).await
    }

    /// Starts a native streaming call.
    ///
    /// * cancel: dropping what it returns stops the guest.
    pub fn stream(
        &self,
        ready: Ready,
        requests: Requests,
        metadata: Vec<MetadataEntry>,
        deadline: Deadline,
    ) -> StreamCall {
        let executor = Arc::clone(&self.parts.executor);
        let calls = self.calls(&ready.permit, &ready.active, deadline, 0);
        let stage = Stage { executor, ready, limits: self.limits.clone(), metadata, deadline, calls };
        let (call, work) = stage.open(requests);
        drop(self.parts.lifecycle.spawn(tracing::Instrument::in_current_span(work)));
        call
    }

    /// Whether a method is answered here.
    ///
    /// * `permit`: to invoke.
    /// * errors: `Call`, of a service of the node's own, or one whose name is ambiguous.
    pub fn here(&self, permit: &Permit, service: &ServiceName, method: &MethodName) -> Result<Here, DispatchError> {
        let snapshot = self.parts.registry.snapshot(permit.namespace());
        let known = match snapshot.find_service(service) {
            Ok(known) => known,
            Err(registry::CallError::NoService { .. }) => return Ok(Here::Nowhere(None)),
            Err(other) => return Err(other.into()),
        };
        if snapshot.is_built_in(&known.name) {
            return Ok(Here::BuiltIn(snapshot.find_method(service, method)?));
        }
        Ok(match self.parts.deployments.active(permit.namespace(), &known.name) {
            Some(_) => Here::Deployed,
            None => Here::Nowhere(snapshot.find_method(service, method).ok()),
        })
    }

    /// Whether a call is not begun because the node stops: one that a peer hands over, which knows others. A client's own
    /// that came before the client could hear of it is answered: its connection takes no more soon enough.
    pub fn turns_away(&self, caller: &Caller) -> bool {
        self.is_draining() && matches!(caller.principal(), Principal::Forwarded { .. })
    }

    /// Whether the node takes no more calls.
    pub fn is_draining(&self) -> bool {
        self.parts.lifecycle.is_draining()
    }

    /// Whether a service answers in a namespace: `None` if it is not known there.
    pub fn is_served(&self, namespace: &Namespace, service: &str) -> Option<bool> {
        let snapshot = self.parts.registry.snapshot(namespace);
        snapshot.service(service)?;
        Some(snapshot.is_built_in(service) || self.parts.deployments.active(namespace, service).is_some())
    }

    /// Counts what may change that, each time after it did.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.parts.registry.changes()
    }

    async fn run(
        &self,
        permit: &Permit,
        job: Job,
        version: Option<u32>,
        method: Option<&MethodRef>,
    ) -> Result<Outcome, DispatchError> {
        let digest = job.code.digest;
        let outcome = match of_version(self.parts.executor.run(job).await, version) {
            Ok(outcome) => outcome,
            Err(failure) => {
                if matches!(failure.error, ExecError::Missing) {
                    self.parts.artifacts.forget(permit, &digest).await; // so that the next upload is kept
                }
                return Err(failure.into());
            }
        };
        if let (Some(method), Ok(reply)) = (method, &outcome.reply)
            && let Err(error) = registry::check_output(method.method(), reply)
        {
            return Err(DispatchError::Output { error, receipt: Some(Box::new(outcome.receipt)) });
        }
        Ok(outcome)
    }
}

/// Notes in the receipt which version of a deployment ran.
fn of_version(result: Result<Outcome, ExecFailure>, version: Option<u32>) -> Result<Outcome, ExecFailure> {
    match result {
        Ok(mut outcome) => {
            outcome.receipt.version = version;
            Ok(outcome)
        }
        Err(mut failure) => {
            if let Some(receipt) = &mut failure.receipt {
                receipt.version = version;
            }
            Err(failure)
        }
    }
}

/// Refuses code of no deployment that wants what only deployments are granted.
fn ungranted(artifact: Option<&Artifact>) -> Result<(), DispatchError> {
    let imports = artifact.map(|artifact| artifact.imports.as_slice()).unwrap_or_default();
    let missing = imports.iter().filter(|name| matches!(import(name), Import::ByGrant(_)));
    match missing.cloned().collect::<Vec<_>>() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(ExecFailure::from(ExecError::Imports(missing)).into()),
    }
}

fn input_too_large(most: usize) -> ExecFailure {
    let (reason, what) = ("INPUT_LIMIT", "the request is too large");
    ExecError::Limit { reason, what, key: "input_bytes", limit: most as u64 }.into()
}
