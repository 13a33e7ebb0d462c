//! What a running guest may ask of the node: every host call with the rights of the deployment whose code it is.
//!
//! ```text
//! guest -> exec (words) -> grants of the deployment, as they are now -> Permit of the deployment -> collections,
//!                                                                        files, dispatch, net
//! ```
//! Who called the guest counts for getting in; what its code then does is the deployment's, as its grants say: a caller who
//! may only invoke can make code write a record, and an administrator cannot make it reach more than it was granted.
//! There is no way to name another namespace.

mod fault;
mod fetch;
mod files;
mod records;

use crate::collections::Collections;
use crate::dispatch::deployments::Deployments;
use crate::dispatch::{Dispatcher, GuestCalls};
use crate::domain::{
    Accounts, BoxFuture, Deadline, DeploymentName, Fault, FaultCode, Namespace, PageTokens, SecretName,
};
use crate::exec::host_calls::{
    Entry, EntryPage, FetchRequest, FetchResponse, FileAt, FileChange, FileInfo, FilePage, FileQuery, HostCalls,
    RecordQuery, RecordWrite,
};
use crate::exec::wasm::DEPTH_MAX;
use crate::files::Files;
use crate::net::Fetcher;
use crate::tenancy::{Caller, Grants, NotGranted, Permit, Secrets, Tenancy, Verb};
use bytes::Bytes;
use fault::fault;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::runtime::Handle;

/// What host calls are answered with.
pub(crate) struct Parts {
    /// Answers calls. Not held: it holds this.
    pub(crate) dispatcher: Weak<Dispatcher>,
    /// Keeps records. Not held: it holds the dispatcher.
    pub(crate) collections: Weak<Collections>,
    /// Keeps files.
    pub(crate) files: Files,
    /// Knows the grants.
    pub(crate) deployments: Arc<Deployments>,
    /// Decides.
    pub(crate) tenancy: Tenancy,
    /// Keeps secrets.
    pub(crate) secrets: Secrets,
    /// The way out.
    pub(crate) fetcher: Fetcher,
    /// Makes page tokens.
    pub(crate) pages: PageTokens,
    /// The node's own runtime: a guest that was moved to the slow lane has no I/O there.
    pub(crate) runtime: Handle,
    /// Books that bytes which go out and come in are charged to.
    pub(crate) accounts: Arc<dyn Accounts>,
}

/// Answers the host calls of all guests.
pub(crate) struct NodeCalls(Arc<Parts>);

impl NodeCalls {
    /// * `parts`: shared with the rest of the node.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl GuestCalls for NodeCalls {
    fn of(&self, permit: &Permit, deployment: &DeploymentName, deadline: Deadline, depth: usize) -> Arc<dyn HostCalls> {
        let namespace = permit.namespace().clone();
        let code = Caller::deployment(permit, deployment.clone());
        Arc::new(OneCall {
            parts: Arc::clone(&self.0),
            namespace,
            deployment: deployment.clone(),
            code,
            deadline,
            depth,
            denied: AtomicU32::new(0),
        })
    }
}

/// Answers those of one call.
struct OneCall {
    parts: Arc<Parts>,
    namespace: Namespace,
    deployment: DeploymentName,
    /// The deployment as a caller.
    code: Caller,
    deadline: Deadline,
    depth: usize,
    /// What it was refused, by the bit of the verb: written down once each.
    denied: AtomicU32,
}

impl fmt::Debug for OneCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneCall({}/{}, depth {})", self.namespace, self.deployment, self.depth)
    }
}

impl OneCall {
    /// The grants as they are at this moment; none once the deployment is gone.
    fn grants(&self) -> Grants {
        let deployment = self.parts.deployments.get(&self.namespace, &self.deployment);
        deployment.map(|deployment| deployment.grants.clone()).unwrap_or_default()
    }

    fn permit(&self, verb: Verb) -> Result<Permit, Fault> {
        let permit = self.parts.tenancy.authorize(&self.code, &self.namespace, verb);
        permit.map_err(|why| fault::not_permitted(&why))
    }

    /// What the guest is told of a call that its deployment has no grant for, which is written down.
    fn deny(&self, why: &NotGranted, verb: Verb) -> Fault {
        self.note_denied(verb);
        fault::denied(why)
    }

    /// Writes down that the guest was refused something, once of each kind in a call: it may ask a million times.
    fn note_denied(&self, verb: Verb) {
        let bit = 1 << (verb as u32);
        if self.denied.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.parts.tenancy.refused(&self.code, &self.namespace, verb);
        }
    }

    /// Runs `work` as a part of the node, whichever thread the guest is on.
    fn within<'a, T: 'a>(&self, work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
        Box::pin(Within { runtime: self.parts.runtime.clone(), work: Box::pin(work) })
    }

    fn secret_name(&self, name: &str) -> Result<SecretName, Fault> {
        let name: SecretName =
            name.parse().map_err(|why| fault(FaultCode::InvalidArgument, format!("the secret's name {why}")))?;
        self.grants().secret(&name).map_err(|why| self.deny(&why, Verb::Invoke))?;
        Ok(name)
    }

    async fn dispatch_now(&self, service: String, method: String, input: Bytes) -> Result<Bytes, Fault> {
        let grants = self.grants();
        if !grants.has("dispatch") {
            return grants.dispatch(&service).map(|()| Bytes::new()).map_err(|why| self.deny(&why, Verb::Invoke));
        }
        if self.depth >= DEPTH_MAX {
            let problem = format!("the call is inside of {DEPTH_MAX} others already, deeper ones are not made");
            return Err(fault(FaultCode::ResourceExhausted, problem));
        }
        let wrong = |what: &str, why: &dyn fmt::Display| fault(FaultCode::InvalidArgument, format!("the {what} {why}"));
        let service = service.parse().map_err(|why| wrong("service", &why))?;
        let method = method.parse().map_err(|why| wrong("method", &why))?;
        let dispatcher = self.parts.dispatcher.upgrade().ok_or_else(fault::draining)?;
        let ready = dispatcher.resolve(&self.code, &self.namespace, &service, &method).map_err(fault::dispatch)?;
        grants.dispatch(ready.service()).map_err(|why| self.deny(&why, Verb::Invoke))?;
        if ready.method().streams() {
            return Err(fault(FaultCode::Unimplemented, "the method streams; only unary methods can be called"));
        }
        let answer = dispatcher.unary(ready.inside(self.depth + 1), input, Vec::new(), self.deadline).await;
        answer.map_err(fault::dispatch)?.reply
    }
}

impl HostCalls for OneCall {
    fn depth(&self) -> usize {
        self.depth
    }

    fn config(&self, key: &str) -> Option<String> {
        self.grants().config(key).map(str::to_owned)
    }

    fn config_keys(&self) -> Vec<String> {
        self.grants().config_keys().map(str::to_owned).collect()
    }

    fn secret(&self, name: &str) -> Result<(), Fault> {
        let name = self.secret_name(name)?;
        match self.parts.secrets.has(&self.permit(Verb::Invoke)?, &name) {
            true => Ok(()),
            false => Err(fault(FaultCode::NotFound, format!("no secret {name} is set in this namespace"))),
        }
    }

    fn get(&self, collection: String, id: String) -> BoxFuture<'_, Result<Entry, Fault>> {
        self.within(self.get_now(collection, id))
    }

    fn write(&self, collection: String, write: RecordWrite) -> BoxFuture<'_, Result<Option<(String, u64)>, Fault>> {
        self.within(self.write_now(collection, write))
    }

    fn list(&self, collection: String, query: RecordQuery) -> BoxFuture<'_, Result<EntryPage, Fault>> {
        self.within(self.list_now(collection, query))
    }

    fn search(&self, collection: String, query: RecordQuery) -> BoxFuture<'_, Result<Vec<Entry>, Fault>> {
        self.within(self.search_now(collection, query))
    }

    fn read_file(&self, file: FileAt, offset: u64, length: usize) -> BoxFuture<'_, Result<Bytes, Fault>> {
        self.within(self.read_file_now(file, offset, length))
    }

    fn stat_file(&self, file: FileAt) -> BoxFuture<'_, Result<FileInfo, Fault>> {
        self.within(self.stat_file_now(file))
    }

    fn list_files(&self, query: FileQuery) -> BoxFuture<'_, Result<FilePage, Fault>> {
        self.within(self.list_files_now(query))
    }

    fn change_file(&self, file: FileAt, change: FileChange) -> BoxFuture<'_, Result<(), Fault>> {
        self.within(self.change_file_now(file, change))
    }

    fn dispatch(&self, service: String, method: String, input: Bytes) -> BoxFuture<'_, Result<Bytes, Fault>> {
        self.within(self.dispatch_now(service, method, input))
    }

    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, Fault>> {
        self.within(self.fetch_now(request))
    }
}

/// A future that is polled inside of a runtime, whichever thread polls it.
struct Within<'a, T> {
    runtime: Handle,
    work: BoxFuture<'a, T>,
}

impl<T> Future for Within<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { runtime, work } = &mut *self;
        let _entered = runtime.enter();
        work.as_mut().poll(cx)
    }
}
