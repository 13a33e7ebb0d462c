//! Clients that call while nodes come and go.

use super::unsent::is_unsent;
use super::{BYTES, NAMESPACE};
use crate::Failure;
use crate::echo::{HELLO, Hello};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// A call that failed.
pub(super) struct Failed {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) status: Status,
}

impl Failed {
    /// A node says that another had the call, and was lost. What was never begun anywhere says so.
    pub(super) fn is_peer_lost(&self) -> bool {
        let reason = self.status.get_details_error_info().map(|info| info.reason);
        let began = self.status.metadata().get("collector-began").is_none_or(|began| began != "no");
        self.status.code() == Code::Unavailable && reason.as_deref() == Some("PEER_LOST") && began
    }
}

/// Clients, until it is ended.
pub(super) struct Crowd {
    stop: CancellationToken,
    clients: JoinSet<Result<usize, Failure>>,
    failed: Arc<Mutex<Vec<Failed>>>,
}

impl Crowd {
    /// * `addresses`: each begins with another, and goes on with the next where a call is not sent.
    /// * `every`: how often each calls; `None`: one call after the other.
    pub(super) fn of(addresses: &[String], clients: u32, every: Option<Duration>) -> Self {
        let (stop, failed) = (CancellationToken::new(), Arc::<Mutex<Vec<Failed>>>::default());
        let mut all = JoinSet::new();
        for number in 0..clients {
            let turned = addresses.iter().cycle().skip(number as usize % addresses.len().max(1));
            let addresses: Vec<String> = turned.take(addresses.len()).cloned().collect();
            // Not all at one moment.
            let first = Instant::now() + every.unwrap_or_default() * number / clients;
            all.spawn(calls(Client { addresses, at: 0, channel: None }, first, every, stop.clone(), failed.clone()));
        }
        Self { stop, clients: all, failed }
    }

    /// How many calls there were, and which failed.
    pub(super) async fn end(mut self) -> Result<(usize, Vec<Failed>), Failure> {
        self.stop.cancel();
        let mut calls = 0;
        while let Some(ended) = self.clients.join_next().await {
            calls += ended??;
        }
        Ok((calls, std::mem::take(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner))))
    }
}

async fn calls(
    mut client: Client,
    first: Instant,
    every: Option<Duration>,
    stop: CancellationToken,
    failed: Arc<Mutex<Vec<Failed>>>,
) -> Result<usize, Failure> {
    let mut ticks = every.map(|every| interval_at(first, every));
    let mut calls = 0;
    loop {
        if let Some(ticks) = &mut ticks {
            stop.run_until_cancelled(ticks.tick()).await;
        }
        if stop.is_cancelled() {
            return Ok(calls);
        }
        let began = Instant::now();
        calls += 1;
        if let Err(status) = client.call().await? {
            let one = Failed { began, ended: Instant::now(), status };
            failed.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }
    }
}

/// A stock client with a list of addresses.
struct Client {
    addresses: Vec<String>,
    at: usize,
    channel: Option<Channel>,
}

impl Client {
    /// * errors: nobody can be called at all.
    async fn call(&mut self) -> Result<Result<(), Status>, Failure> {
        const TRIES: usize = 1_000;
        for _ in 0..TRIES {
            let Some(channel) = self.channel().await? else { continue };
            let mut request = Request::new(Hello { text: "x".repeat(BYTES) });
            request.metadata_mut().insert("collector-namespace", NAMESPACE.parse()?);
            let mut grpc = Grpc::new(channel);
            let answer = match grpc.ready().await {
                Ok(()) => {
                    let codec = ProstCodec::<Hello, Hello>::default();
                    grpc.unary(request, HELLO.parse()?, codec).await.map(drop)
                }
                Err(why) => Err(Status::from_error(why.into())),
            };
            match answer {
                Err(status) if is_unsent(&status) => self.next().await,
                answer => return Ok(answer),
            }
        }
        Err("nobody takes a call".into())
    }

    async fn channel(&mut self) -> Result<Option<Channel>, Failure> {
        if self.channel.is_none() {
            let address = self.addresses.get(self.at).ok_or("no address")?;
            match Endpoint::from_shared(address.clone())?.tcp_nodelay(true).connect().await {
                Ok(channel) => self.channel = Some(channel),
                Err(_) => self.next().await,
            }
        }
        Ok(self.channel.clone())
    }

    async fn next(&mut self) {
        self.channel = None;
        self.at = (self.at + 1) % self.addresses.len().max(1);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
