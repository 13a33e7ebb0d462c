//! An HTTP/2 client that says what it is told, however wrong. Source: RFC 9113, RFC 7541.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A stream that stays open while the client wants it to.
pub const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
    decoder: hpack::Decoder<'static>,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection from an address of this machine.
pub async fn dial_from(address: &str, from: [u8; 4]) -> io::Result<TcpStream> {
    let target: SocketAddr = address.split("://").last().unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(target).await
}

impl Raw {
    /// Connects, says the preface and its settings.
    pub async fn connect(address: &str, settings: &[(u16, u32)]) -> Self {
        Self::over(dial_from(address, [127, 0, 0, 1]).await.unwrap(), settings).await
    }

    pub async fn over(stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self::greeted(stream);
        raw.send(&hello(settings)).await.unwrap();
        raw
    }

    /// Of a connection on which [`hello`] was said.
    pub fn greeted(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new(), decoder: hpack::Decoder::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Sends the same again and again, at most so often, reading what comes meanwhile, until the node has had enough.
    ///
    /// * returns: what it said, and whether it closed the connection.
    pub async fn flood(&mut self, part: &[u8], times: usize) -> (Vec<Frame>, bool) {
        let (mut reader, mut writer) = self.stream.split();
        let write = async {
            for _ in 0..times {
                if writer.write_all(part).await.is_err() {
                    return;
                }
            }
        };
        let read = &mut self.read;
        let mut listen = std::pin::pin!(async {
            // A connection that is cut may say so by a reset.
            while reader.read_buf(read).await.is_ok_and(|count| count > 0) {}
        });
        let closed = timeout(PATIENCE, async {
            tokio::select! {
                () = &mut listen => return true,
                () = write => {}
            }
            timeout(Duration::from_secs(3), &mut listen).await.is_ok()
        });
        let closed = closed.await.expect("the flood ends");
        let mut said = Vec::new();
        while let Some(frame) = self.take() {
            said.push(frame);
        }
        (said, closed)
    }

    /// The next frame; `None` once the connection is closed.
    pub async fn next(&mut self) -> Option<Frame> {
        self.next_within(PATIENCE).await
    }

    /// The same of a node that may say nothing for so long.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                if [PING, SETTINGS].contains(&frame.kind) && frame.flags & ACK == 0 {
                    let echo = if frame.kind == PING { &frame.payload[..] } else { &[] };
                    let _ = self.send(&super::raw::frame(frame.kind, ACK, 0, echo)).await;
                }
                return Some(frame);
            }
            let read = timeout(patience, self.stream.read_buf(&mut self.read)).await.expect("the node says something");
            if !read.is_ok_and(|count| count > 0) {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.read.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        let payload = self.read.get(9..9 + length)?.to_vec();
        self.read.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// The first frame that fits.
    pub async fn find(&mut self, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if fits(&frame) {
                return Some(frame);
            }
        }
    }

    /// The headers and trailers of an answer; the code of a reset as `reset`.
    pub async fn answer(&mut self, stream: u32) -> Option<BTreeMap<String, String>> {
        let mut answer = BTreeMap::new();
        loop {
            let frame = self.next().await?;
            if frame.kind == HEADERS {
                // Whatever stream it is of: the decoder has a state.
                let decoded = self.decoder.decode(&frame.payload).unwrap();
                if frame.stream == stream {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    answer.extend(decoded.iter().map(|(name, value)| (text(name), text(value))));
                }
            }
            if frame.stream == stream && frame.kind == RST_STREAM {
                answer.insert("reset".to_owned(), frame.code().to_string());
                return Some(answer);
            }
            if frame.stream == stream && frame.flags & END_STREAM != 0 && [DATA, HEADERS].contains(&frame.kind) {
                return Some(answer);
            }
        }
    }
}

/// The preface and settings.
pub fn hello(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &payload)].concat()
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields, each as a literal that is not remembered.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = vec![u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short")];
        bytes.extend(text.bytes());
        bytes
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The fields of a gRPC request.
pub fn request(path: &str) -> Vec<u8> {
    fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

/// HEADERS that open a call.
pub fn open_call(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request(path))
}

/// The five bytes before a message.
pub fn prefix(compressed: bool, length: u32) -> Vec<u8> {
    [&[u8::from(compressed)], &length.to_be_bytes()[..]].concat()
}
