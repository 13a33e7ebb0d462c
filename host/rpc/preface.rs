//! The first bytes of a connection: clients speak first, and soon, in HTTP/2 or HTTP/1.1.
//! Source: RFC 9113 section 3.4, RFC 9112 section 3.
//!
//! hyper waits for them without a limit, so a thousand silent sockets would hold every place. They are read here, under
//! a deadline, and handed to hyper with the rest. What begins like neither (a TLS hello on a plain port, noise) is closed.

use super::flood::Gauge;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// What every HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How an HTTP/1.1 request may begin.
const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS "];

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until they have shaken hands and their first bytes are there.
    pub(super) first: Duration,
    /// Until they take the next bytes of an answer.
    pub(super) write: Duration,
}

/// 5 s for the first bytes, by threats.md B1. 30 s for an answer that nobody takes: HTTP/2 has its pings for that, about
/// as often, and HTTP/1.1 has nothing.
pub(super) const PATIENCE: Patience = Patience { first: Duration::from_secs(5), write: Duration::from_secs(30) };

/// A connection whose client speaks HTTP; reads give its first bytes again.
pub(super) struct Greeted<S> {
    stream: S,
    said: [u8; PREFACE.len()],
    len: usize,
    given: usize,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Of HTTP/2.
    gauge: Option<Gauge>,
}

/// Reads until it is clear what the client speaks.
///
/// * `shaken`: the connection, once hands are shaken, and what was learned by that.
/// * errors: `TimedOut`, `InvalidData` for anything but HTTP, `UnexpectedEof`; what `shaken` fails with.
pub(super) async fn greet<S: AsyncRead + Unpin, T>(
    shaken: impl Future<Output = io::Result<(S, T)>>,
    patience: Patience,
) -> io::Result<(Greeted<S>, T)> {
    let greeting = async {
        let (mut stream, learned) = shaken.await?;
        let mut said = [0; PREFACE.len()];
        let len = listen(&mut stream, &mut said).await?;
        let gauge = (said == *PREFACE).then(Gauge::new);
        let patience = patience.write;
        Ok((Greeted { stream, said, len, given: 0, patience, stalled: None, gauge }, learned))
    };
    timeout(patience.first, greeting).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn listen<S: AsyncRead + Unpin>(stream: &mut S, said: &mut [u8; PREFACE.len()]) -> io::Result<usize> {
    let mut len = 0;
    loop {
        let read = stream.read(said.get_mut(len..).unwrap_or_default()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        len += read;
        match judge(said.get(..len).unwrap_or_default()) {
            Some(true) => return Ok(len),
            Some(false) => return Err(io::ErrorKind::InvalidData.into()),
            None => {}
        }
    }
}

/// Whether these first bytes are HTTP; `None` while they could still become it.
fn judge(said: &[u8]) -> Option<bool> {
    if said == PREFACE || METHODS.iter().any(|method| said.starts_with(method)) {
        return Some(true);
    }
    let possible = PREFACE.starts_with(said) || METHODS.iter().any(|method| method.starts_with(said));
    if possible { None } else { Some(false) }
}

impl<S> Greeted<S> {
    /// Passes on what became of a write; one that waits too long fails.
    fn watched<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.said.get(self.given..self.len).filter(|left| !left.is_empty()) {
            None => {
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
                if let Some(gauge) = &mut self.gauge {
                    gauge.read(buf.filled().get(before..).unwrap_or_default()).map_err(io::Error::other)?;
                }
                Poll::Ready(Ok(()))
            }
            Some(left) => {
                let (now, _) = left.split_at(left.len().min(buf.remaining()));
                let now_len = now.len();
                buf.put_slice(now);
                self.given += now_len;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watched(cx, done)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt as _, duplex};

    /// Of a connection on which nobody shakes hands.
    async fn greet<S: AsyncRead + Unpin>(stream: S, patience: Patience) -> io::Result<Greeted<S>> {
        super::greet(async { Ok((stream, ())) }, patience).await.map(|(greeted, ())| greeted)
    }

    const SHORT: Patience = Patience { first: Duration::from_millis(20), write: Duration::from_millis(20) };

    #[test]
    fn first_bytes_are_judged_as_soon_as_they_can_be() {
        for (said, verdict) in [
            (&b""[..], None),
            (b"P", None),
            (b"PR", None),
            (b"PO", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (PREFACE, Some(true)),
            (b"POST ", Some(true)),
            (b"GET / HTTP/1.1", Some(true)),
            (b"OPTIONS ", Some(true)),
            (b"GETS", Some(false)),
            (b"get ", Some(false)),
            (b"CONNECT ", Some(false)),
            (b"PRI * HTTP/1", Some(false)),
            (b"\x16\x03\x01", Some(false)),
            (b"\r\n", Some(false)),
        ] {
            assert_eq!(judge(said), verdict, "{said:?}");
        }
    }

    #[tokio::test]
    async fn what_was_read_is_given_again() {
        for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"] {
            let (mut client, server) = duplex(1);
            let writer = async move { client.write_all(said).await.unwrap() };
            let reader = async move {
                let mut greeted = greet(server, PATIENCE).await.unwrap();
                let mut all = Vec::new();
                greeted.read_to_end(&mut all).await.unwrap();
                all
            };
            let ((), all) = tokio::join!(writer, reader);
            assert_eq!(all, said);
        }
    }

    #[tokio::test]
    async fn silence_trickles_and_noise_end() {
        let kind = |greeted: io::Result<Greeted<_>>| greeted.err().map(|why| why.kind());
        let (mut client, server) = duplex(64);
        client.write_all(b"PRI * HTTP").await.unwrap();
        assert_eq!(kind(greet(server, SHORT).await), Some(io::ErrorKind::TimedOut));
        let (mut client, server) = duplex(64);
        client.write_all(b"\x16\x03").await.unwrap();
        assert_eq!(kind(greet(server, PATIENCE).await), Some(io::ErrorKind::InvalidData));
        let (client, server) = duplex(64);
        drop(client);
        assert_eq!(kind(greet(server, PATIENCE).await), Some(io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_ends_the_connection_and_a_slow_reader_does_not() {
        let (mut client, server) = duplex(64);
        client.write_all(b"GET / HTTP/1.1").await.unwrap();
        let mut greeted = greet(server, SHORT).await.unwrap();
        let slow = async {
            let mut byte = [0; 8];
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                client.read_exact(&mut byte).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(greeted.write_all(&[0; 128]), slow);
        written.unwrap();
        let stalled = greeted.write_all(&[0; 128]).await;
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
