//! Clients that call all the time, and keep what failed.

use super::unsent::is_unsent;
use super::*;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// `HelloRequest` of the greeter.
pub fn greeting() -> Vec<u8> {
    plugin("greeter").encode("greeter.v1.HelloRequest", r#"{"name":"Ada"}"#).unwrap()
}

/// A short sleep in the plugin `misbehave`.
pub fn nap(millis: u64, target: &str) -> pb::DispatchRequest {
    let input = plugin("misbehave").encode("misbehave.v1.Sin", &amount(millis).to_string()).unwrap();
    pb::DispatchRequest {
        namespace: "acme".into(),
        service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "misbehave.v1.Misbehave".into() }),
        method_name: "Sleep".into(),
        input: Some(Any { type_url: "type.googleapis.com/misbehave.v1.Sin".into(), value: input }),
        target_collector_id: target.into(),
        ..Default::default()
    }
}

/// A call that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    pub began: Instant,
    pub ended: Instant,
    pub status: Status,
}

#[derive(Default)]
struct Heard {
    good: Vec<(Instant, Instant)>,
    failed: Vec<Failed>,
}

/// Clients, until it is ended.
pub struct Crowd {
    heard: Arc<Mutex<Heard>>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Crowd {
    /// One client of each place, which calls it and nobody else: short sleeps, one after the other.
    pub fn naps(places: &[&Place]) -> Self {
        Self::of(places.iter().map(|place| vec![(*place).clone()]), nap(3, ""))
    }

    /// Clients that know all places, each beginning with another, and go on to the next where a connection is refused.
    pub fn that_go_on(places: &[Place], clients: usize) -> Self {
        let turned = |by: usize| places.iter().cycle().skip(by).take(places.len()).cloned().collect();
        Self::of((0..clients).map(turned), nap(1, ""))
    }

    fn of(clients: impl Iterator<Item = Vec<Place>>, request: pb::DispatchRequest) -> Self {
        let (heard, stop) = (Arc::<Mutex<Heard>>::default(), CancellationToken::new());
        let mut all = JoinSet::new();
        let input = request.input.as_ref().unwrap().value.clone();
        for places in clients {
            let (heard, stop, input) = (Arc::clone(&heard), stop.clone(), input.clone());
            all.spawn(async move {
                let mut client = Client { places, at: 0, channel: None };
                while !stop.is_cancelled() {
                    let began = Instant::now();
                    let answer = client.call(input.clone()).await;
                    let ended = Instant::now();
                    let mut heard = heard.lock().unwrap();
                    match answer {
                        Ok(()) => heard.good.push((began, ended)),
                        Err(status) => heard.failed.push(Failed { began, ended, status }),
                    }
                }
            });
        }
        Self { heard, stop, clients: all }
    }

    /// Waits for so many more good answers.
    pub async fn calls(&self, more: usize) {
        let good = || self.heard.lock().unwrap().good.len();
        let wanted = good() + more;
        until("the calls", async || good() >= wanted).await;
    }

    /// When the first call that began then had its answer.
    pub fn first_good_after(&self, then: Instant) -> Instant {
        let heard = self.heard.lock().unwrap();
        heard.good.iter().filter(|(began, _)| *began > then).map(|(_, ended)| *ended).min().unwrap()
    }

    /// What failed.
    pub async fn end(mut self) -> Vec<Failed> {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.heard.lock().unwrap().failed)
    }
}

/// A stock client with a list of addresses.
struct Client {
    places: Vec<Place>,
    at: usize,
    channel: Option<Channel>,
}

impl Client {
    async fn call(&mut self, input: Vec<u8>) -> Result<(), Status> {
        for _ in 0..1_000 {
            let channel = match self.channel.take() {
                Some(channel) => channel,
                None => match Endpoint::from_shared(self.places[self.at].url()).unwrap().connect().await {
                    Ok(channel) => channel,
                    Err(_) => {
                        self.next().await;
                        continue;
                    }
                },
            };
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            let mut request = tonic::Request::new(input.clone());
            request.metadata_mut().insert("collector-namespace", "acme".parse().unwrap());
            let path = http::uri::PathAndQuery::from_static("/misbehave.v1.Misbehave/Sleep");
            let answer = match grpc.ready().await {
                Ok(()) => grpc.unary(request, path, RawCodec).await,
                Err(why) => Err(Status::from_error(why.into())),
            };
            match answer {
                Ok(_) => {
                    self.channel = Some(channel);
                    return Ok(());
                }
                Err(status) if is_unsent(&status) && self.places.len() > 1 => self.next().await,
                Err(status) => {
                    self.channel = Some(channel);
                    return Err(status);
                }
            }
        }
        Err(Status::unavailable("nobody is there"))
    }

    async fn next(&mut self) {
        self.at = (self.at + 1) % self.places.len();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
