//! A call of what the node serves: typed by reflection, made as any gRPC client makes it.

use super::super::client::{ClientError, NodeClient, Target, receipt};
use super::super::guest::Ui;
use super::super::json::to_json;
use super::super::native::{self, Replies};
use super::super::output::Output;
use super::super::reflect::Reflection;
use super::input::{Broken, Requests};
use super::{Args, micros, print_example, receipt_line};
use prost_reflect::MethodDescriptor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) async fn run(args: &Args, mut target: Target, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let client = NodeClient::connect_with(&args.node, &args.access).await?;
    let reflection = Reflection::open(&client, &target.namespace).await?;
    let method = reflection.method(&target.service, &target.method).await?;
    if args.example {
        return print_example(&method.input(), output);
    }
    target.headers.push(format!("collector-namespace:{}", target.namespace));
    let mut requests = Requests::of(&method, args.data.as_deref())?;
    let broken = requests.broken();
    let mut shown = Shown { streams: method.is_server_streaming(), output, replies: Vec::new() };
    let talk = async {
        let replies = native::call(&client, &method, &target, requests.stream).await?;
        shown.all(replies).await
    };
    let ended: Result<_, Broken> = tokio::select! {
        ended = talk => Ok(ended),
        broken = broken => Err(broken), // the call is dropped before the stream is: it ends cancelled, not complete
    };
    match ended.map_err(|broken| broken.why)? {
        Ok((receipt, took)) => {
            if args.verbose {
                ui.note(&receipt_line(&receipt, took));
            }
            shown.finish(&method, &receipt, took)
        }
        Err(why) => {
            if args.verbose
                && let Some(status) = why.downcast_ref::<ClientError>().and_then(ClientError::status)
            {
                ui.note(&receipt_line(&receipt(status.metadata()), Duration::ZERO));
            }
            shown.partly();
            Err(why)
        }
    }
}

/// Replies on their way to the user.
struct Shown<'a> {
    streams: bool,
    output: &'a Output,
    replies: Vec<Value>,
}

impl Shown<'_> {
    /// Takes replies until the last: a stream's are printed as they come, one a line.
    async fn all(&mut self, mut replies: Replies) -> anyhow::Result<(BTreeMap<String, String>, Duration)> {
        while let Some(reply) = replies.next().await? {
            let reply = to_json(&reply)?;
            if self.output.is_json() || !self.streams {
                self.replies.push(reply);
            } else if !self.output.line(&reply.to_string())? {
                break; // nobody reads any more
            }
        }
        Ok(replies.receipt().await)
    }

    fn finish(
        self,
        method: &MethodDescriptor,
        receipt: &BTreeMap<String, String>,
        took: Duration,
    ) -> anyhow::Result<()> {
        let took = micros(took);
        if self.streams {
            self.output.finish(&json!({ "replies": self.replies, "receipt": receipt, "took_us": took }));
            return Ok(());
        }
        let Some(reply) = self.replies.first() else { anyhow::bail!("{} gave no reply", method.full_name()) };
        let value = json!({ "reply": reply, "receipt": receipt, "took_us": took });
        self.output.answer(&serde_json::to_string_pretty(reply)?, &value);
        Ok(())
    }

    /// What came before the call failed.
    fn partly(&self) {
        if self.streams && !self.replies.is_empty() {
            self.output.finish(&json!({ "replies": self.replies }));
        }
    }
}
