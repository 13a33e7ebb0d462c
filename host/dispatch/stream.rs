//! A streaming call: messages in, messages out, each checked, whoever is slower slows the other.
//!
//! ```text
//! caller -> [check input] -> 1 message -> guest -> 1 message -> [check output] -> 1 message -> caller
//! ```
//!
//! So a call holds at most four messages, one of them in each hand-over, whatever its parties do.

use super::{DispatchError, Ready};
use crate::domain::{Deadline, Fault, Limits, MetadataEntry, Outcome};
use crate::exec::{ExecError, ExecFailure, Executor, HostCalls, Job, Streams};
use crate::registry::{MethodRef, check_input, check_output};
use bytes::Bytes;
use futures_util::future::{Either, pending, select, try_join};
use futures_util::{Stream, StreamExt as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait between two parties.
const WAITING: usize = 1;

/// How long after the deadline a caller may still take what it was sent. 5 s: a slow network, not a client that never
/// reads.
const GRACE: Duration = Duration::from_secs(5);

/// The caller's messages; an error is why there are no more.
pub type Requests = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// A streaming call under way. Dropping it stops the guest.
#[derive(Debug)]
pub struct StreamCall {
    /// Checked replies.
    pub replies: mpsc::Receiver<Bytes>,
    /// How it ended; comes after the last reply was taken.
    pub end: oneshot::Receiver<Result<Outcome, DispatchError>>,
}

/// What a streaming call is about.
pub(super) struct Stage {
    pub(super) executor: Arc<dyn Executor>,
    pub(super) ready: Ready,
    pub(super) limits: Limits,
    pub(super) metadata: Vec<MetadataEntry>,
    pub(super) deadline: Deadline,
    /// What the guest may ask of the node.
    pub(super) calls: Option<Arc<dyn HostCalls>>,
}

impl Stage {
    /// The call and the work that carries it out.
    pub(super) fn open(self, requests: Requests) -> (StreamCall, impl Future<Output = ()> + Send + 'static) {
        let (replies_in, replies) = mpsc::channel(WAITING);
        let (end_in, end) = oneshot::channel();
        let work = async move {
            let gone = replies_in.clone();
            let done = match select(pin!(gone.closed()), pin!(self.run(requests, replies_in))).await {
                Either::Left(((), _)) => Err(DispatchError::Gone),
                Either::Right((done, _)) => done,
            };
            let _ = end_in.send(done);
        };
        (StreamCall { replies, end }, work)
    }

    async fn run(self, requests: Requests, replies: mpsc::Sender<Bytes>) -> Result<Outcome, DispatchError> {
        let (to_guest, inbound) = mpsc::channel(WAITING);
        let (outbound, from_guest) = mpsc::channel(WAITING);
        let method = self.ready.method.clone();
        let version = self.ready.active.version;
        let fed = feed(requests, to_guest, method.clone(), self.limits.input_bytes);
        let job = self.ready.job(Bytes::new(), self.metadata, self.deadline, self.limits);
        let job = Job { calls: self.calls, ..job };
        let guest = async { Ok(self.executor.stream(job, Streams { inbound, outbound }).await) };
        // The guest's end of the stream closes with it, and then so does the pump, after the last reply.
        let answered = try_join(guest, pump(from_guest, replies, method, self.deadline));
        match select(pin!(answered), pin!(fed)).await {
            Either::Left((answered, _)) => Ok(super::of_version(answered?.0, Some(version))?),
            Either::Right((broken, _)) => Err(broken),
        }
    }
}

impl Ready {
    pub(super) fn job(&self, input: Bytes, metadata: Vec<MetadataEntry>, deadline: Deadline, limits: Limits) -> Job {
        Job {
            code: self.active.code.clone(),
            namespace: self.permit.namespace().clone(),
            caller: self.permit.caller().payer().cloned(),
            service: self.method.service().name.to_string(),
            method: self.method.method().name.clone(),
            input,
            json: None,
            metadata,
            deadline,
            limits,
            calls: None,
        }
    }
}

/// Hands the caller's messages to the guest. Ends only when one of them is wrong.
async fn feed(mut requests: Requests, to_guest: mpsc::Sender<Bytes>, method: MethodRef, most: usize) -> DispatchError {
    loop {
        let request = tokio::select! {
            biased;
            () = to_guest.closed() => break, // the guest wants no more; how it ended decides
            request = requests.next() => request,
        };
        let Some(request) = request else { break };
        let request = match request {
            Ok(request) => request,
            Err(why) => return DispatchError::Requests(why),
        };
        if request.len() > most {
            return super::input_too_large(most).into();
        }
        if let Err(why) = check_input(method.method(), &request) {
            return why.into();
        }
        if to_guest.send(request).await.is_err() {
            break;
        }
    }
    drop(to_guest); // this is how the guest hears that there is no more
    pending().await
}

/// Hands the guest's messages to the caller until the guest ends.
async fn pump(
    mut from_guest: mpsc::Receiver<Bytes>,
    replies: mpsc::Sender<Bytes>,
    method: MethodRef,
    deadline: Deadline,
) -> Result<(), DispatchError> {
    let last = deadline.instant() + GRACE;
    while let Some(reply) = from_guest.recv().await {
        check_output(method.method(), &reply).map_err(|error| DispatchError::Output { error, receipt: None })?;
        let sent = tokio::time::timeout_at(last, replies.send(reply)).await;
        sent.map_err(|_| ExecFailure::from(ExecError::Deadline))?.map_err(|_| DispatchError::Gone)?;
    }
    Ok(())
}
