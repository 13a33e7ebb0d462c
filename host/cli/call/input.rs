//! Requests of a call: one JSON value, or a stream of them that may still be coming in.

use super::super::json::{next_message, parse_all};
use anyhow::{Context as _, anyhow, bail};
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use std::io::{BufReader, Read};
use std::pin::Pin;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

/// Requests read ahead of what the node takes.
const AHEAD: usize = 16;

/// What the client sends.
pub(super) struct Requests {
    /// The requests; the stream stays open while `broken` has something to say.
    pub(super) stream: Pin<Box<dyn Stream<Item = DynamicMessage> + Send>>,
    broken: Option<oneshot::Receiver<Broken>>,
}

/// Input that is no request, and the open end of the stream: closed, it would tell the node that all is said.
pub(super) struct Broken {
    pub(super) why: anyhow::Error,
    _open: mpsc::Sender<DynamicMessage>,
}

impl Requests {
    /// * `data`: as the command line has it; none is `{}`, or stdin for a method that takes a stream.
    /// * errors: input that is no request, as far as it is all there.
    pub(super) fn of(method: &MethodDescriptor, data: Option<&str>) -> anyhow::Result<Self> {
        let message = method.input();
        if method.is_client_streaming() && matches!(data, None | Some("-")) {
            return Ok(Self::reading(message, std::io::stdin()));
        }
        let all = parse_all(&message, read(data.unwrap_or("{}"))?.as_slice())?;
        if !method.is_client_streaming() && all.len() != 1 {
            bail!("{} takes one request, {} were given", method.full_name(), all.len());
        }
        Ok(Self { stream: Box::pin(tokio_stream::iter(all)), broken: None })
    }

    /// Requests as they come in: each is sent when it is complete.
    fn reading(message: MessageDescriptor, from: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (broken, told) = oneshot::channel();
        // Detached: nobody can wake a thread that waits for a terminal, and it must not keep the process.
        std::thread::spawn(move || {
            if let Err(why) = pass_on(&message, from, &sender) {
                let _ = broken.send(Broken { why, _open: sender });
            }
        });
        Self { stream: Box::pin(ReceiverStream::new(receiver)), broken: Some(told) }
    }

    /// Resolves when input turns out to be no request; never if all of it is.
    pub(super) fn broken(&mut self) -> impl Future<Output = Broken> + use<> {
        let told = self.broken.take();
        async move {
            match told {
                Some(told) => match told.await {
                    Ok(broken) => broken,
                    Err(_all_well) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        }
    }
}

fn pass_on(message: &MessageDescriptor, from: impl Read, sender: &mpsc::Sender<DynamicMessage>) -> anyhow::Result<()> {
    let mut text = serde_json::Deserializer::from_reader(BufReader::new(from));
    while let Some(request) = next_message(message, &mut text)? {
        if sender.blocking_send(request).is_err() {
            break; // the call has ended
        }
    }
    Ok(())
}

/// Reads `-d`: the text itself, `@FILE`, or `-` for stdin.
pub(in crate::cli) fn read(data: &str) -> anyhow::Result<Vec<u8>> {
    if data == "-" {
        let mut input = Vec::new();
        std::io::stdin().read_to_end(&mut input).context("cannot read stdin")?;
        return Ok(input);
    }
    match data.strip_prefix('@') {
        Some("") => Err(anyhow!("no file after @")),
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {path}")),
        None => Ok(data.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::render::tests::compile;
    use super::*;
    use tokio_stream::StreamExt as _;

    const PROTO: &str = r#"
        syntax = "proto3";
        package t.v1;
        service S { rpc One(M) returns (M); rpc Many(stream M) returns (M); }
        message M { int32 n = 1; }
    "#;

    fn method(name: &str) -> MethodDescriptor {
        let service = compile(PROTO).get_service_by_name("t.v1.S").unwrap();
        service.methods().find(|method| method.name() == name).unwrap()
    }

    #[tokio::test]
    async fn a_stream_is_one_value_after_the_other() {
        let requests = Requests::of(&method("Many"), Some("{\"n\":1}{\"n\":2}\n\n {}")).unwrap();
        assert_eq!(requests.stream.collect::<Vec<_>>().await.len(), 3);
        assert_eq!(Requests::of(&method("One"), None).unwrap().stream.collect::<Vec<_>>().await.len(), 1);
        let said = |name: &str, data| Requests::of(&method(name), Some(data)).err().unwrap().to_string();
        assert!(said("One", "{}{}").contains("takes one request, 2 were given"));
        assert!(said("One", "").contains("0 were given"));
        assert!(said("Many", "{} {\"m\":1}").contains("t.v1.M"));
    }

    #[tokio::test]
    async fn what_breaks_later_leaves_the_stream_open() {
        let mut requests = Requests::reading(method("Many").input(), &b"{\"n\":1} nonsense"[..]);
        assert!(requests.stream.next().await.is_some());
        let broken = requests.broken().await;
        assert!(broken.why.to_string().contains("t.v1.M"), "{}", broken.why);
        let next = tokio::time::timeout(std::time::Duration::from_millis(10), requests.stream.next()).await;
        assert!(next.is_err(), "the node must not take it for the end");
    }
}
