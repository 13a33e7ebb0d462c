//! `collector plugin inspect`: what a file is, without running it.

use super::super::json::Plugin;
use super::super::output::Output;
use crate::dispatch::artifacts::Component;
use crate::domain::one_line;
use crate::exec::wasm::is_granted;
use crate::registry::Method;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;

pub(super) fn run(file: &Path, output: &Output) -> anyhow::Result<()> {
    let plugin = Plugin::read(file)?;
    let outside = Component::read(&plugin.bytes)?;
    let services = plugin.artifact.schema.as_ref().map(|schema| schema.services()).unwrap_or_default();
    let missing: Vec<&String> = outside.imports.iter().filter(|import| !is_granted(import)).collect();

    let mut text = format!(
        "kind      {}\ndigest    sha256:{}\nsize      {} bytes\n",
        plugin.artifact.kind.name(),
        plugin.artifact.digest,
        plugin.bytes.len()
    );
    if services.is_empty() {
        text.push_str("services  none described: any service and method name is passed on\n");
    }
    for service in services {
        let _ = writeln!(text, "service   {}", one_line(&service.name, 256));
        for method in &service.methods {
            let _ = writeln!(text, "          {}", one_line(&signature(method), 1_024));
        }
    }
    for import in &outside.imports {
        let _ = writeln!(text, "import    {import}{}", if is_granted(import) { "" } else { "   NOT GRANTED" });
    }
    text.push_str(if missing.is_empty() {
        "needs     nothing that a node does not give to every plugin"
    } else {
        "needs     the imports marked above, which this version of the node cannot give"
    });
    let value = json!({
        "kind": plugin.artifact.kind.name(),
        "digest": format!("sha256:{}", plugin.artifact.digest),
        "bytes": plugin.bytes.len(),
        "services": services.iter().map(|service| json!({
            "name": service.name,
            "methods": service.methods.iter().map(|method| json!({
                "name": method.name,
                "input": method.input,
                "output": method.output,
                "client_streaming": method.client_streaming,
                "server_streaming": method.server_streaming,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "imports": outside.imports,
        "exports": outside.exports,
        "not_granted": missing,
    });
    output.answer(&text, &value);
    Ok(())
}

/// A method as a `.proto` file declares it.
fn signature(method: &Method) -> String {
    let stream = |streams: bool| if streams { "stream " } else { "" };
    format!(
        "rpc {}({}{}) returns ({}{})",
        method.name,
        stream(method.client_streaming),
        method.input,
        stream(method.server_streaming),
        method.output
    )
}
