//! `collector plugin inspect`: what a plugin is, without running it: a file's, or one that a node has.

use super::super::client::{Access, ClientError, NodeClient, request};
use super::super::json::Plugin;
use super::super::output::Output;
use super::super::place::{NAMESPACE, NODE};
use super::upload::standing;
use crate::dispatch::artifacts::{Artifact, Component, Elf};
use crate::domain::{Kind, one_line};
use crate::exec::wasm::{Import, import};
use crate::registry::{Method, Schema, Service};
use crate::rpc::pb::plugin::v1 as pb;
use pb::inspect_request::Artifact as Wanted;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// `collector plugin inspect`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin file; or, of a node, sha256:DIGEST, or with --node the name of a deployment
    what: String,
    /// Address of the node that has it
    #[arg(long, env = "COLLECTOR_NODE", value_name = "URL")]
    node: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Namespace on the node
    #[arg(long, short, env = "COLLECTOR_NAMESPACE", default_value = NAMESPACE, value_name = "NS")]
    namespace: String,
}

/// What is known about a plugin.
struct Known {
    kind: String,
    digest: String,
    bytes: u64,
    schema: Option<Schema>,
    imports: Vec<pb::Power>,
    /// What it offers to a host; of a component's file only.
    exports: Option<Vec<String>>,
    /// The machine that it is for; of a native binary only.
    machine: Option<&'static str>,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let file = Path::new(&args.what);
    let known = match (&args.node, args.what.starts_with("sha256:")) {
        (_, true) => remote(&args, Wanted::Digest(args.what.clone())).await?,
        (Some(_), false) if !file.exists() => remote(&args, Wanted::Name(args.what.clone())).await?,
        _ => local(file)?,
    };
    output.answer(&known.text(), &known.value());
    Ok(())
}

fn local(file: &Path) -> anyhow::Result<Known> {
    let plugin = Plugin::read(file)?;
    let Artifact { digest, kind, schema, imports, bytes } = plugin.artifact;
    let exports = match kind {
        Kind::WasmHandler | Kind::WasmCommand => Some(Component::read(&plugin.bytes)?.exports),
        Kind::NativeElf | Kind::Image => None,
    };
    let imports = imports.into_iter().map(|name| match import(&name) {
        Import::Free => pb::Power { import: name, granted: true, grant: String::new() },
        Import::ByGrant(kind) => pb::Power { import: name, granted: false, grant: kind.to_owned() },
        Import::Unknown => pb::Power { import: name, granted: false, grant: String::new() },
    });
    Ok(Known {
        kind: kind.name().to_owned(),
        digest: format!("sha256:{digest}"),
        bytes,
        schema,
        imports: imports.collect(),
        exports,
        machine: (kind == Kind::NativeElf).then_some(Elf::MACHINE),
    })
}

async fn remote(args: &Args, artifact: Wanted) -> anyhow::Result<Known> {
    let client = NodeClient::connect_with(args.node.as_deref().unwrap_or(NODE), &args.access).await?;
    let wanted = pb::InspectRequest { namespace: args.namespace.clone(), artifact: Some(artifact) };
    let found = client.plugins().inspect(request(&args.namespace, wanted)?).await.map_err(ClientError::from)?;
    let found = found.into_inner();
    let schema = match found.descriptors.is_empty() {
        true => None,
        false => Some(Schema::decode(&found.descriptors)?),
    };
    Ok(Known {
        kind: found.kind,
        digest: found.digest,
        bytes: found.size_bytes,
        schema,
        imports: found.powers,
        exports: None,
        machine: None,
    })
}

impl Known {
    fn services(&self) -> &[Arc<Service>] {
        self.schema.as_ref().map(Schema::services).unwrap_or_default()
    }

    fn missing(&self) -> Vec<&str> {
        self.imports.iter().filter(|power| !power.granted).map(|power| power.import.as_str()).collect()
    }

    fn text(&self) -> String {
        let Self { kind, digest, bytes, .. } = self;
        let mut text = format!("kind      {kind}\ndigest    {digest}\nsize      {bytes} bytes\n");
        if let Some(machine) = self.machine {
            let _ = writeln!(text, "machine   {machine}, statically linked");
        }
        if self.services().is_empty() {
            text.push_str("services  none described: any service and method name is passed on\n");
        }
        for service in self.services() {
            let _ = writeln!(text, "service   {}", one_line(&service.name, 256));
            for method in &service.methods {
                let _ = writeln!(text, "          {}", one_line(&signature(method), 1_024));
            }
        }
        for power in &self.imports {
            let _ = writeln!(text, "import    {}{}", one_line(&power.import, 256), standing(power));
        }
        let never = self.imports.iter().any(|power| !power.granted && power.grant.is_empty());
        text.push_str(match (self.kind.as_str(), self.missing().is_empty()) {
            ("NativeElf", _) => "needs     a node that runs native binaries (setting exec.native)",
            ("Image", _) => "needs     a node that runs this image (setting exec.container.images)",
            (_, true) => "needs     nothing that a node does not give to every plugin",
            (_, false) if !never => "needs     the grants named above (`collector plugin deploy --grant`)",
            (_, false) => "needs     the imports marked above, which this version of the node cannot give",
        });
        text
    }

    fn value(&self) -> Value {
        let services = self.services().iter().map(|service| {
            let methods = service.methods.iter().map(|method| {
                json!({
                    "name": method.name,
                    "input": method.input.name(),
                    "output": method.output.name(),
                    "client_streaming": method.client_streaming,
                    "server_streaming": method.server_streaming,
                })
            });
            json!({ "name": &*service.name, "methods": methods.collect::<Vec<_>>() })
        });
        let mut value = json!({
            "kind": self.kind,
            "digest": self.digest,
            "bytes": self.bytes,
            "services": services.collect::<Vec<_>>(),
            "imports": self.imports.iter().map(|power| &power.import).collect::<Vec<_>>(),
            "not_granted": self.missing(),
        });
        if let Some(exports) = &self.exports {
            value["exports"] = json!(exports);
        }
        if let Some(machine) = self.machine {
            value["machine"] = json!(machine);
        }
        value
    }
}

/// A method as a `.proto` file declares it.
fn signature(method: &Method) -> String {
    let stream = |streams: bool| if streams { "stream " } else { "" };
    format!(
        "rpc {}({}{}) returns ({}{})",
        method.name,
        stream(method.client_streaming),
        method.input.name(),
        stream(method.server_streaming),
        method.output.name()
    )
}
