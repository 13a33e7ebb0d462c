//! The first bytes of a connection: an HTTP/2 client speaks first, and soon. Source: RFC 9113 section 3.4.
//!
//! hyper waits for the preface without a limit, so a thousand silent sockets would hold every place. It is read here,
//! under a deadline, and handed to hyper with the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What every HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long it may take. Source: threats.md B1.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection whose client speaks HTTP/2; reads give its preface again.
pub(super) struct Greeted {
    stream: TcpStream,
    given: usize,
}

/// Reads the preface.
///
/// * errors: `TimedOut` after five seconds, `InvalidData` for anything else (HTTP/1.1, TLS, noise).
pub(super) async fn greet(mut stream: TcpStream) -> io::Result<Greeted> {
    let mut said = [0; PREFACE.len()];
    timeout(PATIENCE, stream.read_exact(&mut said)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if &said != PREFACE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Greeted { stream, given: 0 })
}

impl AsyncRead for Greeted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match PREFACE.get(self.given..).filter(|left| !left.is_empty()) {
            None => Pin::new(&mut self.stream).poll_read(cx, buf),
            Some(left) => {
                let (now, _) = left.split_at(left.len().min(buf.remaining()));
                buf.put_slice(now);
                self.given += now.len();
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
