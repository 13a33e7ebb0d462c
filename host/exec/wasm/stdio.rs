//! The three streams of a guest, in memory and bounded.

use crate::exec::log::{GuestLog, Stream};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Most bytes that one write may bring. WASI's own usual permit.
const PERMIT: usize = 64 << 10;

/// Where a guest's output goes.
#[derive(Clone)]
pub(super) enum Sink {
    /// Into the log, line by line; what is over the log's budget is dropped, the guest goes on.
    Log(Arc<GuestLog>, Stream),
    /// Kept as the reply of a command; what is over the limit ends the guest.
    Reply(Arc<ReplyBuffer>),
}

/// The reply of a command while it is written.
pub(super) struct ReplyBuffer {
    limit: usize,
    kept: Mutex<Vec<u8>>,
}

/// A command wrote more than its reply may have.
#[derive(Debug, thiserror::Error)]
#[error("the reply is over its limit")]
pub(super) struct ReplyTooLarge;

impl ReplyBuffer {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    pub(super) fn take(&self) -> Bytes {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn write(&self, bytes: &[u8]) -> Result<(), ReplyTooLarge> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len().saturating_add(bytes.len()) > self.limit {
            return Err(ReplyTooLarge);
        }
        kept.extend_from_slice(bytes);
        Ok(())
    }
}

impl Sink {
    fn put(&self, bytes: &[u8]) -> Result<(), ReplyTooLarge> {
        match self {
            Self::Log(log, stream) => {
                log.write(*stream, bytes);
                Ok(())
            }
            Self::Reply(buffer) => buffer.write(bytes),
        }
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.put(&bytes).map_err(|over| StreamError::Trap(over.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.put(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
