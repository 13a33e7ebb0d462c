//! `grpc.health.v1`: whether the node and each service of a namespace answers calls.
//!
//! The namespace is the one that the metadata `collector-namespace` names, else the node's default. Nothing is stored
//! here: every answer asks [`Liveness`], and a watcher sleeps until something changed anywhere, looks, and speaks only if
//! its own status is another than it said last. So a thousand watchers cost a thousand lookups per change and no task,
//! and a client that reads slowly misses what was in between, never what is.

use super::builtin::is_built_in;
use super::{convert, edge, status};
use crate::domain::{Namespace, one_line};
use crate::lifecycle::Lifecycle;
use crate::tenancy::{Caller, Tenancy, Verb};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Largest request: one service name of at most 1,000 bytes, which each watcher keeps.
const REQUEST_MAX: usize = 4 << 10;

/// What health asks of the node.
pub trait Liveness: Send + Sync + 'static {
    /// Whether calls of the service, by its full name, are answered in the namespace; `None`: no such service. No I/O.
    fn state(&self, namespace: &Namespace, service: &str) -> Option<bool>;

    /// Counts what may change the state of any service, each time after it did.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The service. The node as a whole is the service with the empty name.
pub struct HealthService(Arc<Inner>);

struct Inner {
    live: Arc<dyn Liveness>,
    ready: watch::Receiver<bool>,
    tenancy: Tenancy,
    default: Namespace,
    lifecycle: Lifecycle,
}

impl HealthService {
    /// * `ready`: whether the node serves; while it does not, nothing does. So it is once the node drains.
    /// * `default`: the namespace of clients that name none.
    pub fn new(
        live: Arc<dyn Liveness>,
        ready: watch::Receiver<bool>,
        tenancy: Tenancy,
        default: Namespace,
        lifecycle: Lifecycle,
    ) -> Self {
        Self(Arc::new(Inner { live, ready, tenancy, default, lifecycle }))
    }

    /// As something to route to.
    pub fn server(self) -> HealthServer<Self> {
        HealthServer::new(self).accept_compressed(super::GZIP).max_decoding_message_size(REQUEST_MAX)
    }

    fn read(&self, request: Request<HealthCheckRequest>) -> Result<(Caller, Namespace, String), Status> {
        let caller = edge::caller(&request)?;
        let id = edge::request_id(&request);
        let namespace = convert::namespace(request.metadata().as_ref(), &self.0.default);
        let namespace = namespace.map_err(|why| status::bad_request(why, &id))?;
        let service = request.into_inner().service;
        let open = service.is_empty() || is_built_in(&service);
        if !open && self.0.tenancy.is_stranger(&caller) {
            return Err(status::unauthenticated());
        }
        Ok((caller, namespace, service))
    }
}

impl Inner {
    /// `None`: no such service. What the caller may not see looks like a namespace that nobody uses.
    fn status(&self, caller: &Caller, namespace: &Namespace, service: &str) -> Option<ServingStatus> {
        let serves = match self.tenancy.allows(caller, namespace, Verb::Discover) {
            _ if service.is_empty() => true,
            true => self.live.state(namespace, service)?,
            false => is_built_in(service).then_some(true)?,
        };
        let ready = *self.ready.borrow() && !self.lifecycle.is_draining();
        Some(if ready && serves { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    /// * errors: NOT_FOUND for a service that the namespace does not have.
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let (caller, namespace, service) = self.read(request)?;
        let found = self.0.status(&caller, &namespace, &service).ok_or_else(|| {
            let message = format!("there is no service {} here", one_line(&service, 256));
            status::plain(Code::NotFound, "NO_SERVICE", message)
        })?;
        Ok(Response::new(response(found)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status now, then each other status. Ends when the node drains, after saying so.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (caller, namespace, service) = self.read(request)?;
        let (changes, ready) = (self.0.live.changes(), self.0.ready.clone());
        let watcher = Watcher { inner: Arc::clone(&self.0), caller, namespace, service, changes, ready, said: None };
        let next = |mut watcher: Watcher| async move { Some((Ok(response(watcher.next().await?)), watcher)) };
        Ok(Response::new(stream::unfold(watcher, next).boxed()))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

struct Watcher {
    inner: Arc<Inner>,
    caller: Caller,
    namespace: Namespace,
    service: String,
    changes: watch::Receiver<u64>,
    ready: watch::Receiver<bool>,
    said: Option<ServingStatus>,
}

impl Watcher {
    /// Waits for a status other than the last; `None`: there will be none.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            // Marked as seen before looking, so that what changes meanwhile wakes us again.
            self.changes.mark_unchanged();
            self.ready.mark_unchanged();
            let last = self.inner.lifecycle.is_draining();
            let found = self
                .inner
                .status(&self.caller, &self.namespace, &self.service)
                .unwrap_or(ServingStatus::ServiceUnknown);
            if self.said != Some(found) {
                self.said = Some(found);
                return self.said;
            }
            if last {
                return None;
            }
            tokio::select! {
                () = self.inner.lifecycle.draining() => {}
                changed = self.changes.changed() => changed.ok()?,
                changed = self.ready.changed() => changed.ok()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Fake {
        states: Mutex<HashMap<(String, String), bool>>,
        looks: AtomicUsize,
        changed: watch::Sender<u64>,
    }

    impl Fake {
        fn set(&self, namespace: &str, service: &str, state: Option<bool>) {
            let key = (namespace.to_owned(), service.to_owned());
            match state {
                Some(state) => drop(self.states.lock().unwrap().insert(key, state)),
                None => drop(self.states.lock().unwrap().remove(&key)),
            }
            self.changed.send_modify(|count| *count += 1);
        }
    }

    impl Liveness for Fake {
        fn state(&self, namespace: &Namespace, service: &str) -> Option<bool> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.states.lock().unwrap().get(&(namespace.to_string(), service.to_owned())).copied()
        }

        fn changes(&self) -> watch::Receiver<u64> {
            self.changed.subscribe()
        }
    }

    struct Node {
        fake: Arc<Fake>,
        ready: watch::Sender<bool>,
        lifecycle: Lifecycle,
        service: HealthService,
    }

    type Statuses = <HealthService as Health>::WatchStream;

    impl Node {
        fn new() -> Self {
            let fake = Fake { states: Mutex::default(), looks: AtomicUsize::new(0), changed: watch::Sender::new(0) };
            let (fake, ready, lifecycle) = (Arc::new(fake), watch::Sender::new(true), Lifecycle::default());
            let live = Arc::clone(&fake) as Arc<dyn Liveness>;
            let default = "main".parse().unwrap();
            let service = HealthService::new(live, ready.subscribe(), Tenancy::default(), default, lifecycle.clone());
            Self { fake, ready, lifecycle, service }
        }

        async fn check(&self, namespace: Option<&'static str>, service: &str) -> Result<ServingStatus, Code> {
            let reply = self.service.check(request(namespace, service)).await;
            reply.map(|reply| reply.into_inner().status()).map_err(|why| why.code())
        }

        async fn watch(&self, namespace: &'static str, service: &str) -> Statuses {
            self.service.watch(request(Some(namespace), service)).await.unwrap().into_inner()
        }
    }

    fn request(namespace: Option<&'static str>, service: &str) -> Request<HealthCheckRequest> {
        let mut request = Request::new(HealthCheckRequest { service: service.to_owned() });
        request.extensions_mut().insert(Caller::anonymous());
        if let Some(namespace) = namespace {
            request.metadata_mut().insert("collector-namespace", namespace.parse().unwrap());
        }
        request
    }

    /// What the stream has to say now: `None` if nothing, `Some(None)` if it is over.
    fn said(statuses: &mut Statuses) -> Option<Option<ServingStatus>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match statuses.as_mut().poll_next(&mut context) {
            std::task::Poll::Pending => None,
            std::task::Poll::Ready(said) => Some(said.map(|said| said.unwrap().status())),
        }
    }

    #[tokio::test]
    async fn a_service_is_as_its_namespace_has_it_and_nothing_serves_before_the_node_does() {
        use ServingStatus::{NotServing, Serving};
        let node = Node::new();
        node.fake.set("main", "a.A", Some(true));
        node.fake.set("other", "a.A", Some(false));
        assert_eq!(node.check(None, "").await, Ok(Serving));
        assert_eq!(node.check(None, "a.A").await, Ok(Serving));
        assert_eq!(node.check(Some("other"), "a.A").await, Ok(NotServing));
        assert_eq!(node.check(Some("third"), "a.A").await, Err(Code::NotFound));
        assert_eq!(node.check(Some("../x"), "a.A").await, Err(Code::InvalidArgument));
        node.ready.send_replace(false);
        for service in ["", "a.A"] {
            assert_eq!(node.check(None, service).await, Ok(NotServing), "{service:?}");
        }
        assert_eq!(node.check(None, "b.B").await, Err(Code::NotFound));
        node.ready.send_replace(true);
        node.lifecycle.drain();
        assert_eq!(node.check(None, "").await, Ok(NotServing));
    }

    #[tokio::test]
    async fn what_the_caller_may_not_see_looks_unused() {
        let node = Node::new();
        node.fake.set("system", "a.Secret", Some(true));
        assert_eq!(node.check(Some("system"), "a.Secret").await, Err(Code::NotFound));
        assert_eq!(node.check(Some("system"), "collector.CollectorRegistry").await, Ok(ServingStatus::Serving));
        assert_eq!(node.check(Some("system"), "").await, Ok(ServingStatus::Serving));
    }

    #[tokio::test]
    async fn a_watcher_hears_each_change_once_and_ends_when_the_node_drains() {
        use ServingStatus::{NotServing, ServiceUnknown, Serving};
        let node = Node::new();
        let mut watch = node.watch("acme", "a.A").await;
        assert_eq!(said(&mut watch), Some(Some(ServiceUnknown)));
        assert_eq!(said(&mut watch), None);
        node.fake.set("acme", "a.A", Some(false));
        assert_eq!(said(&mut watch), Some(Some(NotServing)));
        node.fake.set("other", "a.A", Some(true));
        node.fake.set("acme", "a.B", Some(true));
        assert_eq!(said(&mut watch), None, "others' changes are nothing to say");
        node.fake.set("acme", "a.A", Some(true));
        assert_eq!(said(&mut watch), Some(Some(Serving)));
        node.fake.set("acme", "a.A", None);
        assert_eq!(said(&mut watch), Some(Some(ServiceUnknown)));
        node.fake.set("acme", "a.A", Some(true));
        node.ready.send_replace(false);
        assert_eq!(said(&mut watch), Some(Some(NotServing)), "what was in between is not told");
        node.ready.send_replace(true);
        assert_eq!(said(&mut watch), Some(Some(Serving)));
        node.lifecycle.drain();
        assert_eq!(said(&mut watch), Some(Some(NotServing)));
        assert_eq!(said(&mut watch), Some(None));
        let mut late = node.watch("acme", "a.A").await;
        assert_eq!((said(&mut late), said(&mut late)), (Some(Some(NotServing)), Some(None)));
    }

    #[tokio::test]
    async fn a_thousand_watchers_look_once_per_change_and_leave_nothing_behind() {
        // One task polls them all here, and tokio would have it pause every hundred or so.
        tokio::task::unconstrained(thousand_watchers()).await;
    }

    async fn thousand_watchers() {
        let node = Node::new();
        let mut watchers = Vec::new();
        for _ in 0..1_000 {
            let mut watch = node.watch("acme", "a.A").await;
            assert_eq!(said(&mut watch), Some(Some(ServingStatus::ServiceUnknown)));
            assert_eq!(said(&mut watch), None);
            watchers.push(watch);
        }
        let before = node.fake.looks.load(Ordering::Relaxed);
        node.fake.set("acme", "other", Some(true));
        assert!(watchers.iter_mut().all(|watch| said(watch).is_none()));
        assert_eq!(node.fake.looks.load(Ordering::Relaxed) - before, 1_000);
        assert!(watchers.iter_mut().all(|watch| said(watch).is_none()));
        assert_eq!(node.fake.looks.load(Ordering::Relaxed) - before, 1_000, "nobody looks without a change");
        drop(watchers);
        assert_eq!(node.fake.changed.receiver_count(), 0);
    }
}
