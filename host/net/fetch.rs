//! One HTTP request and its answer: a connection of its own, every size bounded, no redirects.

use super::guard::Forbidden;
use super::tls::Tls;
use super::turns::{Turn, Turns};
use super::{BadSetting, Config, FetchError, Guard, Target};
use crate::domain::Namespace;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Bytes of a body, either way. 1 MiB: an answer of an API, not a download; it is held in memory.
const BODY_MAX: usize = 1 << 20;
/// Headers, either way. 100: browsers send twenty.
pub const HEADERS_MAX: usize = 100;
/// Bytes of a request's headers. 16 KiB: what servers take.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes of an answer's head.
const HEAD_MAX: usize = 64 << 10;
/// Seconds from the first step to the last byte of the answer. 10: a guest waits for it, and with it somebody else.
const PATIENCE: u64 = 10;
/// How long one address of several gets to answer before the next is tried.
const PER_ADDRESS: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Names that are looked up at once on the node. 32: each holds a thread until the system's resolver gives up.
const LOOKUPS: usize = 32;

/// A request whose host may be asked by whoever sends it.
#[derive(Debug)]
pub struct Request {
    /// As [`method`] gives it.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// As [`check_header`] gives them; at most [`HEADERS_MAX`].
    pub headers: HeaderMap,
    /// At most 1 MiB.
    pub body: Bytes,
}

/// The answer.
#[derive(Debug)]
pub struct Response {
    /// HTTP status, 3xx too.
    pub status: u16,
    /// Without those of the connection.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most 1 MiB.
    pub body: Bytes,
}

/// Whose a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderRule {
    /// Its sender's.
    Theirs,
    /// The connection's: set here, or not at all. Two that differ are how requests are smuggled.
    Ours,
}

impl HeaderRule {
    /// Of this header.
    pub fn of(name: &HeaderName) -> Self {
        const OURS: [HeaderName; 11] = [
            header::HOST,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
            header::UPGRADE,
            header::TE,
            header::TRAILER,
            header::EXPECT,
            header::PROXY_AUTHENTICATE,
            header::PROXY_AUTHORIZATION,
            HeaderName::from_static("keep-alive"),
        ];
        if OURS.contains(name) || name.as_str().starts_with("proxy-") { Self::Ours } else { Self::Theirs }
    }
}

/// A header as it may be sent.
///
/// * errors: `Request`: no name or value of one, line breaks above all; a header of the connection. The value is in none.
pub fn check_header(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), FetchError> {
    let wrong =
        |problem: &str| FetchError::Request(format!("header {:?} {problem}", crate::domain::one_line(name, 64)));
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("has no name of a header"))?;
    if HeaderRule::of(&name) == HeaderRule::Ours {
        return Err(wrong("belongs to the connection, leave it out"));
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| wrong("has line breaks or control characters in it"))?;
    Ok((name, value))
}

/// A method that may be sent.
///
/// * errors: `Request`: any other; CONNECT would be a tunnel.
pub fn method(name: &str) -> Result<Method, FetchError> {
    match name {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "OPTIONS" => Ok(Method::OPTIONS),
        _ => {
            let known = "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS";
            Err(FetchError::Request(format!("the method must be {known}")))
        }
    }
}

/// Sends requests.
pub struct Fetcher {
    guard: Guard,
    tls: Tls,
    turns: Arc<Turns>,
    most: usize,
    lookups: Arc<Semaphore>,
}

impl Fetcher {
    /// * errors: a setting that cannot be kept.
    pub fn new(config: &Config) -> Result<Self, BadSetting> {
        Ok(Self {
            guard: config.guard()?,
            tls: Tls::new(config)?,
            turns: Arc::default(),
            most: config.fetches,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        })
    }

    /// Sends one request and reads the whole answer.
    ///
    /// * `namespace`: whose turn it takes.
    /// * errors: see [`FetchError`]; after `Late` and `Answer` the request may have been carried out.
    /// * `moved`: told of the request's bytes before it goes out and of the answer's as they come in, so that they count
    ///   however it ends.
    /// * cancel: closes the connection.
    pub async fn send(
        &self,
        namespace: &Namespace,
        request: Request,
        moved: &(dyn Fn(usize) + Sync),
    ) -> Result<Response, FetchError> {
        let turn = Arc::new(self.turns.take(namespace, self.most).ok_or(FetchError::Busy(self.most))?);
        if request.body.len() > BODY_MAX {
            return Err(FetchError::TooLarge { what: "the request's body", most: BODY_MAX });
        }
        let bytes: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if request.headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
            return Err(FetchError::TooLarge { what: "the request's head", most: HEADER_BYTES_MAX });
        }
        // An address carries as much out as a body does.
        moved(bytes + request.target.path().len() + request.body.len());
        let answer = timeout(Duration::from_secs(PATIENCE), self.exchange(&turn, request, moved)).await;
        answer.map_err(|_| FetchError::Late(PATIENCE))?
    }

    async fn exchange(
        &self,
        turn: &Arc<Turn>,
        request: Request,
        moved: &(dyn Fn(usize) + Sync),
    ) -> Result<Response, FetchError> {
        let addresses = self.resolve(turn, &request.target).await?;
        let stream = connect(&addresses).await?;
        match request.target.scheme() {
            "https" => {
                let stream = self.tls.connect(request.target.host(), stream).await?;
                talk(stream, request, moved).await
            }
            _ => talk(stream, request, moved).await,
        }
    }

    /// The addresses of the target, all of which may be reached.
    async fn resolve(&self, turn: &Arc<Turn>, target: &Target) -> Result<Vec<SocketAddr>, FetchError> {
        let addresses = match target.literal() {
            Some(literal) => vec![SocketAddr::new(literal, target.port())],
            None => self.look_up(Arc::clone(turn), target.host().to_owned(), target.port()).await?,
        };
        if addresses.is_empty() {
            return Err(FetchError::Resolve);
        }
        // One that is refused among others: the name is somebody's attempt, not a server's.
        match addresses.iter().all(|address| self.guard.admits(address.ip())) {
            true => Ok(addresses),
            false => Err(Forbidden.into()),
        }
    }

    /// * `own`: the namespace's turn. It has no other while a thread looks a name up for it, so that names that nobody
    ///   answers for do not take every thread.
    async fn look_up(&self, own: Arc<Turn>, host: String, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
        let turn = Arc::clone(&self.lookups).acquire_owned().await.map_err(|_| FetchError::Resolve)?;
        let look = move || {
            // Held by the thread, not by who waits: a resolver that hangs keeps its thread.
            let _turns = (own, turn);
            (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
        };
        let found = tokio::task::spawn_blocking(look).await.map_err(|_| FetchError::Resolve)?;
        found.map_err(|_| FetchError::Resolve)
    }
}

/// A connection to the first of the addresses that answers.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    for address in addresses.iter().take(ADDRESSES_MAX) {
        if let Ok(Ok(stream)) = timeout(PER_ADDRESS, TcpStream::connect(address)).await {
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(FetchError::Connect)
}

async fn talk<S>(stream: S, request: Request, moved: &(dyn Fn(usize) + Sync)) -> Result<Response, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |_: hyper::Error| FetchError::Answer;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = head(request)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        moved(head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum());
        let body = body.map_frame(|frame| {
            moved(frame.data_ref().map_or(0, Bytes::len));
            frame
        });
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(|why| match why.is::<LengthLimitError>() {
            true => FetchError::TooLarge { what: "the answer's body", most: BODY_MAX },
            false => FetchError::Answer,
        })?;
        let theirs = head.headers.iter().filter(|(name, _)| HeaderRule::of(name) == HeaderRule::Theirs);
        let headers = theirs.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        Ok(Response { status: head.status.as_u16(), headers, body: body.to_bytes() })
    };
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What it has read is still to be taken.
        _closed = &mut connection => answer.await,
    }
}

/// The request as it goes over the wire.
fn head(request: Request) -> Result<http::Request<Full<Bytes>>, FetchError> {
    let wrong = |_| FetchError::Request("the url cannot be sent".to_owned());
    let host = HeaderValue::try_from(request.target.authority());
    let host = host.map_err(|_| FetchError::Request("the url's host cannot be sent".to_owned()))?;
    let mut wire = http::Request::builder()
        .method(request.method)
        .uri(request.target.path())
        .body(Full::new(request.body))
        .map_err(wrong)?;
    *wire.headers_mut() = request.headers;
    wire.headers_mut().insert(header::HOST, host);
    wire.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h07_headers_that_would_break_out_are_refused() {
        assert!(check_header("X-Good", b"a b\tc").is_ok());
        for (name, value) in [
            ("x", "a\r\nb: c"),
            ("x", "a\nb"),
            ("x", "a\0b"),
            ("x\r\ny", "a"),
            ("x y", "a"),
            ("", "a"),
            ("x:", "a"),
            ("Host", "a"),
            ("content-length", "1"),
            ("Content-Length", "0"),
            ("transfer-encoding", "chunked"),
            ("connection", "keep-alive"),
            ("proxy-anything", "a"),
            ("upgrade", "h2c"),
        ] {
            let refused = check_header(name, value.as_bytes()).unwrap_err().to_string();
            assert!(!refused.contains("a\\r") && !refused.contains('\n'), "{refused}");
        }
        for bad in ["CONNECT", "TRACE", "get", "", "GET /"] {
            assert!(method(bad).is_err(), "{bad}");
        }
    }
}
