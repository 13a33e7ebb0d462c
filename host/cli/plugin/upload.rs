//! A plugin on its way to a node: by digest if the node has it, else with its bytes; or the name of an image.

use super::super::client::{ClientError, NodeClient, is_unknown_artifact, request};
use super::super::guest::Ui;
use crate::domain::{Digest, one_line};
use crate::rpc::pb::plugin::v1 as pb;
use bytes::Bytes;
use pb::deploy_request::Part;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tokio_stream::{Stream, StreamExt as _};

/// Bytes of one message of an upload. 256 KiB: the middle of what the node calls good.
const CHUNK: usize = 256 << 10;

/// What to deploy, and how.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Deploy {
    pub(in crate::cli) namespace: String,
    /// Empty: the node names it after its first service.
    pub(in crate::cli) name: String,
    /// For a plugin without descriptors.
    pub(in crate::cli) services: Vec<String>,
    /// Check, keep nothing.
    pub(in crate::cli) dry_run: bool,
    /// Add the version, leave the active one.
    pub(in crate::cli) inactive: bool,
    /// To be given beside those that the deployment has.
    pub(in crate::cli) grants: Vec<String>,
    /// Collectors that are to have it too.
    pub(in crate::cli) to: Vec<String>,
}

/// What answers.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Code {
    /// A component or a native binary.
    Bytes(Bytes),
    /// A container image, as people name it.
    Image(String),
}

impl Code {
    /// `sha256:` and the digest; of an image its own, which its name ends in.
    pub(in crate::cli) fn digest(&self) -> String {
        match self {
            Self::Bytes(bytes) => format!("sha256:{}", Digest::of(bytes)),
            Self::Image(image) => image.split_once('@').map(|(_, digest)| digest.to_owned()).unwrap_or_default(),
        }
    }
}

/// Deploys a plugin. Its bytes travel only if the namespace does not have them.
pub(in crate::cli) async fn deploy(
    client: &NodeClient,
    what: &Deploy,
    code: Code,
    ui: &Ui,
) -> Result<pb::DeployResponse, ClientError> {
    let (digest, image) = match &code {
        Code::Bytes(_) => (code.digest(), String::new()),
        Code::Image(image) => (String::new(), image.clone()),
    };
    let header = pb::DeployHeader {
        namespace: what.namespace.clone(),
        name: what.name.clone(),
        digest,
        size_bytes: 0,
        services: what.services.clone(),
        validate_only: what.dry_run,
        keep_inactive: what.inactive,
        image,
        grants: what.grants.clone(),
        to: what.to.clone(),
    };
    match (send(client, tokio_stream::once(part(Part::Header(header.clone()))), &what.namespace).await, code) {
        (Err(ClientError::Call(status)), Code::Bytes(bytes)) if is_unknown_artifact(&status) => {
            let total = bytes.len() as u64;
            let bar = ui.bytes("uploading", total);
            let header = part(Part::Header(pb::DeployHeader { size_bytes: total, ..header }));
            let mut sent = 0;
            let chunks = tokio_stream::iter(chunks(bytes)).map(move |chunk| {
                sent += chunk.len() as u64;
                bar.set(sent);
                part(Part::Chunk(chunk))
            });
            send(client, tokio_stream::once(header).chain(chunks), &what.namespace).await
        }
        (answer, _) => answer,
    }
}

async fn send(
    client: &NodeClient,
    parts: impl Stream<Item = pb::DeployRequest> + Send + 'static,
    namespace: &str,
) -> Result<pb::DeployResponse, ClientError> {
    Ok(client.plugins().deploy(request(namespace, parts)?).await?.into_inner())
}

fn part(part: Part) -> pb::DeployRequest {
    pb::DeployRequest { part: Some(part) }
}

fn chunks(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(CHUNK.min(bytes.len()))))
}

/// A plan for people: a line per change, breaking change and missing power.
pub(in crate::cli) fn plan_text(plan: &pb::Plan) -> String {
    let mut text = String::new();
    for change in &plan.changes {
        let sign = match change.action() {
            pb::change::Action::Added => '+',
            pb::change::Action::Removed => '-',
            pb::change::Action::Changed | pb::change::Action::Unspecified => '~',
        };
        let slash = if change.method.is_empty() { "" } else { "/" };
        let _ = writeln!(text, "  {sign} {}", one_line(&[&change.service, slash, &change.method].concat(), 512));
    }
    for line in &plan.breaking {
        let _ = writeln!(text, "  BREAKING {}", one_line(line, 1_024));
    }
    for power in &plan.powers {
        let _ = writeln!(text, "  import {}{}", one_line(&power.import, 256), standing(power));
    }
    text
}

/// What is to be said of an import beside its name.
pub(super) fn standing(power: &pb::Power) -> String {
    match (power.granted, power.grant.as_str()) {
        (true, "") => String::new(),
        (true, grant) => format!("   granted by {}=", one_line(grant, 32)),
        (false, "") => "   NOT GRANTED".to_owned(),
        (false, grant) => format!("   NOT GRANTED, needs --grant {}=...", one_line(grant, 32)),
    }
}

/// A plan for programs.
pub(in crate::cli) fn plan_value(plan: &pb::Plan) -> Value {
    let changes = plan.changes.iter().map(|change| {
        let action = match change.action() {
            pb::change::Action::Added => "added",
            pb::change::Action::Changed => "changed",
            pb::change::Action::Removed => "removed",
            pb::change::Action::Unspecified => "unspecified",
        };
        json!({ "action": action, "service": change.service, "method": change.method })
    });
    let powers = plan
        .powers
        .iter()
        .map(|power| json!({ "import": power.import, "granted": power.granted, "grant": power.grant }));
    json!({
        "changes": changes.collect::<Vec<_>>(),
        "breaking": plan.breaking,
        "powers": powers.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_bytes_in_order() {
        let sizes = |size: usize| chunks(vec![7; size].into()).map(|chunk| chunk.len()).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(CHUNK), [CHUNK]);
        assert_eq!(sizes(2 * CHUNK + 1), [CHUNK, CHUNK, 1]);
    }

    #[test]
    fn a_plan_reads_as_one() {
        let change = |action: pb::change::Action, method: &str| pb::Change {
            action: action.into(),
            service: "a.S".into(),
            method: method.into(),
        };
        let plan = pb::Plan {
            changes: vec![change(pb::change::Action::Added, "New"), change(pb::change::Action::Removed, "")],
            breaking: vec!["gone".into()],
            powers: vec![
                pb::Power { import: "wasi:io/poll".into(), granted: true, grant: String::new() },
                pb::Power { import: "wasi:sockets/tcp".into(), granted: false, grant: String::new() },
            ],
        };
        let text =
            "  + a.S/New\n  - a.S\n  BREAKING gone\n  import wasi:io/poll\n  import wasi:sockets/tcp   NOT GRANTED\n";
        assert_eq!(plan_text(&plan), text);
        assert_eq!(plan_value(&plan)["changes"][0]["action"], "added");
    }
}
