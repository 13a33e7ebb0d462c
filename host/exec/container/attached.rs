//! The standard streams of one container, through the engine.

use super::engine::EngineError;
use super::life::Container;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Of stdout.
    Stdout(Bytes),
    /// Of stderr.
    Stderr(Bytes),
}

/// What the container writes.
pub(super) struct Output(Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>);

/// What the container reads.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

impl Container {
    /// Connects to all three, before the container starts: nothing is lost.
    pub(super) async fn attach(&self) -> Result<(Input, Output), EngineError> {
        let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
        let attached = self.engine().ask("attach to a container", |docker| async move {
            docker.attach_container(self.name(), Some(options)).await
        });
        let AttachContainerResults { output, input } = attached.await?;
        Ok((input, Output(output)))
    }

    /// Starts it.
    pub(super) async fn start(&self) -> Result<(), EngineError> {
        let started = self
            .engine()
            .ask("start a container", |docker| async move { docker.start_container(self.name(), None).await });
        started.await
    }
}

impl Container {
    /// Whether its first process runs. That one is the engine's own init and holds the output open as long as it lives:
    /// an output that ends before it was cut. What the engine says of the container's state comes later, so its processes
    /// are looked at.
    pub(super) async fn runs(&self) -> Result<bool, EngineError> {
        let listed = self.engine().ask("list the processes of a container", |docker| async move {
            docker.top_processes(self.name(), None).await
        });
        let listed = match listed.await {
            Ok(listed) => listed,
            Err(EngineError::Refused { .. }) => return Ok(false), // it has ended
            Err(why) => return Err(why),
        };
        let column = listed.titles.iter().flatten().position(|title| title == "PID");
        let pids = listed.processes.iter().flatten().filter_map(|row| row.get(column?)?.parse::<i64>().ok());
        let pids: Vec<i64> = pids.collect();
        if pids.is_empty() {
            return Ok(false);
        }
        let state = self
            .engine()
            .ask("look at a container", |docker| async move { docker.inspect_container(self.name(), None).await });
        let state = state.await?.state.unwrap_or_default();
        Ok(state.running == Some(true) && state.pid.is_some_and(|first| pids.contains(&first)))
    }
}

impl Output {
    #[cfg(test)]
    pub(super) fn of(pieces: impl Stream<Item = Result<LogOutput, Error>> + Send + 'static) -> Self {
        Self(Box::pin(pieces))
    }

    /// The next piece; `None` at its end, which is the container's, or only the connection's: see [`Container::runs`].
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, EngineError> {
        self.0.next().await.map_or(Ok(None), piece)
    }

    /// Whether nothing has come since the last piece, and it is still open.
    pub(super) fn is_silent(&mut self) -> bool {
        self.0.next().now_or_never().is_none()
    }
}

fn piece(said: Result<LogOutput, Error>) -> Result<Option<Piece>, EngineError> {
    match said {
        Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => Ok(Some(Piece::Stdout(message))),
        Ok(LogOutput::StdErr { message }) => Ok(Some(Piece::Stderr(message))),
        Ok(LogOutput::StdIn { .. }) => Ok(None),
        Err(why) => {
            tracing::debug!(%why, "the output of a container broke off");
            Err(EngineError::Gone)
        }
    }
}

/// Hands all of it over and says that there is no more. Whoever does not read it need not.
pub(super) async fn feed(mut input: Input, bytes: &[u8]) {
    let _unread = input.write_all(bytes).await;
    let _closed = input.shutdown().await;
}
