//! The generator's side: prepared requests over plain hyper connections, so that little of what is measured is its own.

use super::{Job, Kind, Ran};
use crate::Failure;
use crate::report::{micros, quantile};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::cell::Cell;
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

/// Takes jobs until stdin ends.
pub(crate) async fn serve() -> Result<(), Failure> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let job: Job = serde_json::from_str(&line)?;
        let ran = LocalSet::new().run_until(run(&job)).await.map_err(|why| why.to_string());
        let mut stdout = std::io::stdout().lock();
        serde_json::to_writer(&mut stdout, &ran)?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
    }
    Ok(())
}

/// A request that only its body differs in.
struct Prepared {
    uri: Uri,
    headers: HeaderMap,
    bodies: Vec<Bytes>,
    kind: Kind,
    least: usize,
}

async fn run(job: &Job) -> Result<Ran, Failure> {
    let prepared = Rc::new(prepare(job)?);
    let mut drivers = JoinSet::new();
    let workers = connect(job, &prepared, &mut drivers).await?;
    let (next, calls) = (Rc::new(Cell::new(0)), job.calls);
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for mut worker in workers {
        let (prepared, next) = (Rc::clone(&prepared), Rc::clone(&next));
        tasks.spawn_local(async move {
            let mut took = Vec::new();
            while next.get() < calls {
                let number = next.replace(next.get() + 1);
                took.push(worker.call(&prepared, number).await?);
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut all: Vec<Duration> = Vec::with_capacity(calls);
    while let Some(ended) = tasks.join_next().await {
        all.extend(ended??);
    }
    let elapsed_us = micros(began.elapsed());
    let mean = all.iter().sum::<Duration>() / u32::try_from(all.len().max(1))?;
    let (p50_us, p99_us) = (micros(quantile(&all, 0.5)), micros(quantile(&all, 0.99)));
    Ok(Ran { calls: all.len(), elapsed_us, mean_us: micros(mean), p50_us, p99_us })
}

fn prepare(job: &Job) -> Result<Prepared, Failure> {
    let uri = format!("{}{}", job.address, job.path).parse::<Uri>()?;
    let kind = match job.kind {
        Kind::Grpc => "application/grpc",
        Kind::GrpcWeb => "application/grpc-web+proto",
        Kind::Json | Kind::JsonOld => "application/json",
    };
    let mut headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    if job.kind == Kind::Grpc {
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    if job.kind == Kind::JsonOld {
        headers.insert(http::header::HOST, HeaderValue::from_str(uri.authority().ok_or("no host")?.as_str())?);
    }
    for (name, value) in &job.headers {
        headers.insert(name.parse::<HeaderName>()?, HeaderValue::from_str(value)?);
    }
    let bodies = job.bodies()?.into_iter().map(Bytes::from).collect();
    Ok(Prepared { uri, headers, bodies, kind: job.kind, least: job.least })
}

/// One that has a call in flight.
enum Worker {
    Shared(http2::SendRequest<Full<Bytes>>),
    Own(http1::SendRequest<Full<Bytes>>),
}

/// As many workers as calls are in flight, spread over the connections. Each has made a call: a server closes connections
/// that say nothing.
async fn connect(job: &Job, prepared: &Prepared, drivers: &mut JoinSet<()>) -> Result<Vec<Worker>, Failure> {
    let uri: Uri = job.address.parse()?;
    let host = uri.authority().ok_or("no host")?.as_str().to_owned();
    let dial = || async {
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        Ok::<_, Failure>(TokioIo::new(stream))
    };
    let (mut workers, mut senders) = (Vec::new(), Vec::new());
    for number in 0..job.in_flight {
        let mut worker = match (job.kind, senders.get(number % job.connections.max(1))) {
            (Kind::JsonOld, _) => {
                let (sender, driver) = http1::handshake(dial().await?).await?;
                drivers.spawn_local(async move { drop(driver.await) });
                Worker::Own(sender)
            }
            (_, Some(sender)) => Worker::Shared(http2::SendRequest::clone(sender)),
            (_, None) => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), dial().await?).await?;
                drivers.spawn_local(async move { drop(driver.await) });
                senders.push(sender.clone());
                Worker::Shared(sender)
            }
        };
        // With the messages after those that are counted, where there are more.
        worker.call(prepared, job.calls + number).await?;
        workers.push(worker);
    }
    Ok(workers)
}

impl Worker {
    /// How long one call took.
    ///
    /// * errors: its answer was not good.
    async fn call(&mut self, prepared: &Prepared, number: usize) -> Result<Duration, Failure> {
        let body = prepared.bodies.get(number % prepared.bodies.len().max(1)).cloned().unwrap_or_default();
        let mut request = Request::post(prepared.uri.clone()).body(Full::new(body))?;
        *request.headers_mut() = prepared.headers.clone();
        if prepared.kind == Kind::JsonOld {
            *request.uri_mut() = prepared.uri.path().parse()?;
        }
        let began = Instant::now();
        let response = match self {
            Self::Shared(sender) => sender.send_request(request).await?,
            Self::Own(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = read(response.into_body(), prepared.kind).await?;
        let took = began.elapsed();
        answer.judge(status, &headers, prepared)?;
        Ok(took)
    }
}

/// What is looked at of an answer: all of it is read, its end is kept.
struct Answer {
    bytes: usize,
    last: Bytes,
    trailers: HeaderMap,
}

async fn read(mut body: Incoming, kind: Kind) -> Result<Answer, Failure> {
    let mut answer = Answer { bytes: 0, last: Bytes::new(), trailers: HeaderMap::new() };
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                answer.bytes += data.len();
                // A trailer frame may be cut in two.
                answer.last = match kind {
                    Kind::GrpcWeb if data.len() < 4_096 => [&answer.last[..], &data[..]].concat().into(),
                    _ => data,
                };
            }
            Err(frame) => answer.trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok(answer)
}

impl Answer {
    fn judge(&self, status: StatusCode, headers: &HeaderMap, prepared: &Prepared) -> Result<(), Failure> {
        let said = |map: &HeaderMap| map.get("grpc-status").is_some_and(|code| code == "0");
        let good = match prepared.kind {
            Kind::Grpc => said(&self.trailers),
            Kind::GrpcWeb => memchr::memmem::find(&self.last, b"grpc-status:0").is_some(),
            Kind::Json | Kind::JsonOld => true,
        };
        if status == StatusCode::OK && good && self.bytes >= prepared.least {
            return Ok(());
        }
        let end = String::from_utf8_lossy(&self.last[self.last.len().saturating_sub(300)..]).into_owned();
        let (bytes, trailers) = (self.bytes, &self.trailers);
        Err(format!("not a good answer: {status}, {bytes} bytes, {headers:?}, {trailers:?}, {end:?}").into())
    }
}
