//! `collector ns usage`

use super::super::client::ClientError;
use super::super::output::{Output, table};
use super::One;
use crate::rpc::pb::admin::v1 as pb;
use serde_json::json;

pub(super) async fn run(args: &One, output: &Output) -> anyhow::Result<()> {
    let client = args.at.connect().await?;
    let namespace = args.name.clone();
    let request = pb::UsageRequest { namespace: namespace.clone() };
    let used = client.namespaces().usage(request).await.map_err(ClientError::from)?.into_inner().usage;
    let used = used.unwrap_or_default();
    let request = pb::GetNamespaceRequest { namespace };
    let found = client.namespaces().get(request).await.map_err(ClientError::from)?.into_inner().namespace;
    let quota = found.unwrap_or_default().quota;
    let millis = |span: &Option<prost_types::Duration>| {
        let span = span.unwrap_or_default();
        span.seconds.saturating_mul(1_000).saturating_add(i64::from(span.nanos) / 1_000_000)
    };
    let (cpu, compile) = (millis(&used.cpu), millis(&used.compile));
    let limit = |name: &str, unit: &str| match quota.get(name) {
        None | Some(0) => "none".to_owned(),
        Some(limit) => format!("{limit}{unit}"),
    };
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let row = |name: &str, used: String, limit: String| vec![name.to_owned(), used, limit];
    let rows = [
        row("calls at once", used.running_calls.to_string(), limit("concurrent_calls", "")),
        row("calls", used.calls.to_string(), limit("calls_per_second", " per second")),
        row("refused", used.refused.to_string(), String::new()),
        row("guest time", format!("{cpu} ms"), limit("cpu_ms_per_second", " ms per second")),
        row("guest memory", mib(used.memory_bytes), limit("memory_mib", " MiB")),
        row("stored", mib(used.stored_bytes), limit("stored_mib", " MiB")),
        row("records, files", used.stored_records.to_string(), limit("stored_records", "")),
        row("files among them", used.files.to_string(), String::new()),
        row("file bytes", mib(used.file_bytes), String::new()),
        row("artifacts", used.artifacts.to_string(), limit("artifacts", "")),
        row("artifact bytes", mib(used.artifact_bytes), limit("artifacts_mib", " MiB")),
        row("compiling", format!("{compile} ms"), limit("compile_ms_per_minute", " ms per minute")),
        row("egress", mib(used.egress_bytes), limit("egress_kib_per_second", " KiB per second")),
    ];
    let value = json!({
        "namespace": args.name,
        "running_calls": used.running_calls,
        "calls": used.calls,
        "refused": used.refused,
        "cpu_ms": cpu,
        "memory_bytes": used.memory_bytes,
        "stored_bytes": used.stored_bytes,
        "stored_records": used.stored_records,
        "files": used.files,
        "file_bytes": used.file_bytes,
        "artifacts": used.artifacts,
        "artifact_bytes": used.artifact_bytes,
        "compile_ms": compile,
        "egress_bytes": used.egress_bytes,
        "quota": super::sorted(&quota),
    });
    output.answer(&table(&["USE", "NOW OR SO FAR", "LIMIT"], &rows), &value);
    Ok(())
}
