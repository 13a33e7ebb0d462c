//! HTTP/2 by hand, for what no client library would send. Source: RFC 9113, RFC 7541.

use crate::dial::{Address, Stream};
use crate::wire::Seen;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest frame that anybody may send without having agreed on more.
pub const FRAME_MAX: usize = 16 << 10;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// RFC 9113, section 7.
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// What the node has said so far.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Its GOAWAY's error.
    pub goaway: Option<u32>,
    /// It ended the connection.
    pub closed: bool,
    /// Streams that it reset, with the error.
    pub resets: BTreeMap<u32, u32>,
    /// Headers by stream, trailers after them.
    pub headers: BTreeMap<u32, Vec<(String, String)>>,
    /// Streams that it ended.
    pub ended: u32,
    /// PINGs and SETTINGS that it answered.
    pub acks: u64,
}

impl Said {
    /// The value of a header or trailer.
    pub fn header(&self, stream: u32, name: &str) -> Option<&str> {
        self.headers.get(&stream)?.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A connection. What comes in is read all the time, so that a flood never waits for itself.
pub struct Raw {
    write: WriteHalf<Box<dyn Stream>>,
    encoder: hpack::Encoder<'static>,
    said: watch::Receiver<Said>,
    reader: JoinHandle<()>,
    authority: String,
    token: Option<String>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Raw {
    /// A connection that has said hello.
    ///
    /// * `settings`: pairs of identifier and value, as SETTINGS has them.
    pub async fn connect(
        address: &Address,
        token: Option<&str>,
        seen: &Arc<Seen>,
        settings: &[(u16, u32)],
    ) -> io::Result<Self> {
        let (read, write) = tokio::io::split(address.dial().await?);
        let (tell, said) = watch::channel(Said::default());
        let seen = Arc::clone(seen);
        let reader = tokio::spawn(async move {
            let _ = listen(read, &tell, &seen).await;
            tell.send_modify(|said| said.closed = true);
        });
        let authority = format!("{}:{}", address.host, address.port);
        let token = token.map(str::to_owned);
        let mut raw = Self { write, encoder: hpack::Encoder::new(), said, reader, authority, token };
        let pairs = settings.iter().flat_map(|(key, value)| {
            let mut pair = key.to_be_bytes().to_vec();
            pair.extend(value.to_be_bytes());
            pair
        });
        let mut hello = PREFACE.to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>()));
        raw.bytes(&hello).await?;
        Ok(raw)
    }

    pub async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.bytes(&frame(kind, flags, stream, payload)).await
    }

    /// The head of a gRPC call of `path`, with more headers; not sent, since some want it in pieces.
    pub fn head(&mut self, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut all = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self.authority.as_str()),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        all.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        all.extend(more);
        self.encoder.encode(all.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())))
    }

    /// Opens a call.
    pub async fn open(&mut self, stream: u32, path: &str, more: &[(&str, &str)], flags: u8) -> io::Result<()> {
        let head = self.head(path, more);
        self.frame(HEADERS, END_HEADERS | flags, stream, &head).await
    }

    /// What the node has said so far.
    pub fn said(&self) -> Said {
        self.said.borrow().clone()
    }

    /// Waits until what the node said is `enough`, and returns it; `None` when it is not within `patience`.
    pub async fn until(&mut self, patience: Duration, enough: impl FnMut(&Said) -> bool) -> Option<Said> {
        let said = tokio::time::timeout(patience, self.said.wait_for(enough)).await.ok()?;
        said.ok().map(|said| said.clone())
    }

    /// Whether the node ends this connection, or says that it will.
    pub async fn ends(&mut self, patience: Duration) -> Option<Said> {
        self.until(patience, |said| said.closed || said.goaway.is_some()).await
    }
}

/// One frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.extend(&length[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

async fn listen(mut read: ReadHalf<Box<dyn Stream>>, tell: &watch::Sender<Said>, seen: &Seen) -> io::Result<()> {
    let mut decoder = hpack::Decoder::new();
    loop {
        let mut head = [0; 9];
        read.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; length as usize];
        read.read_exact(&mut payload).await?;
        seen.look("a raw HTTP/2 connection", &payload);
        let number = |at: usize| payload.get(at..at + 4).map(|four| u32::from_be_bytes(four.try_into().unwrap()));
        let fields = (kind == HEADERS).then(|| decoder.decode(&payload).unwrap_or_default());
        tell.send_modify(|said| {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            match kind {
                GOAWAY => said.goaway = said.goaway.or(number(4)),
                RST_STREAM => drop(said.resets.insert(stream, number(0).unwrap_or(u32::MAX))),
                SETTINGS | PING if flags & ACK != 0 => said.acks += 1,
                HEADERS => {
                    let fields = fields.into_iter().flatten();
                    for (key, value) in fields {
                        let (key, value) = (text(key), text(value));
                        seen.look("a raw HTTP/2 connection", value.as_bytes());
                        said.headers.entry(stream).or_default().push((key, value));
                    }
                }
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                said.ended += 1;
            }
        });
    }
}
