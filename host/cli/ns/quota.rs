//! `collector ns quota`

use super::super::client::ClientError;
use super::super::output::{Output, table};
use super::{Change, sorted, value};
use crate::domain::one_line;
use crate::rpc::pb::admin::v1 as pb;
use std::collections::HashMap;

/// `collector ns quota`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    change: Change,
    /// Quotas that are to be as the node's configuration has them again, by name
    #[arg(long, value_name = "QUOTA", value_delimiter = ',')]
    reset: Vec<String>,
}

/// Quotas by name. 0 is no limit.
#[derive(Debug, clap::Args)]
pub(super) struct Numbers {
    /// Share beside other namespaces that want the same, 1 to 1000
    #[arg(long)]
    weight: Option<u64>,
    /// Calls that may begin in a second
    #[arg(long)]
    calls_per_second: Option<u64>,
    /// Calls at once, streams included
    #[arg(long)]
    concurrent_calls: Option<u64>,
    /// Milliseconds of guests' time in a second
    #[arg(long)]
    cpu_ms_per_second: Option<u64>,
    /// MiB of all running guests; of native ones and containers all that they may use
    #[arg(long)]
    memory_mib: Option<u64>,
    /// MiB of records on disk
    #[arg(long)]
    stored_mib: Option<u64>,
    /// Records
    #[arg(long)]
    stored_records: Option<u64>,
    /// Artifacts of deployments
    #[arg(long)]
    artifacts: Option<u64>,
    /// MiB of artifacts of deployments
    #[arg(long)]
    artifacts_mib: Option<u64>,
    /// Milliseconds of compiling in a minute
    #[arg(long)]
    compile_ms_per_minute: Option<u64>,
    /// KiB that guests exchange with other machines in a second
    #[arg(long)]
    egress_kib_per_second: Option<u64>,
}

impl Numbers {
    /// Those that were given.
    pub(super) fn given(&self) -> HashMap<String, u64> {
        let all = [
            ("weight", self.weight),
            ("calls_per_second", self.calls_per_second),
            ("concurrent_calls", self.concurrent_calls),
            ("cpu_ms_per_second", self.cpu_ms_per_second),
            ("memory_mib", self.memory_mib),
            ("stored_mib", self.stored_mib),
            ("stored_records", self.stored_records),
            ("artifacts", self.artifacts),
            ("artifacts_mib", self.artifacts_mib),
            ("compile_ms_per_minute", self.compile_ms_per_minute),
            ("egress_kib_per_second", self.egress_kib_per_second),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let Args { change: Change { one, numbers }, reset } = args;
    let client = one.at.connect().await?;
    let (namespace, quota) = (one.name, numbers.given());
    let found = if quota.is_empty() && reset.is_empty() {
        let request = pb::GetNamespaceRequest { namespace };
        client.namespaces().get(request).await.map_err(ClientError::from)?.into_inner().namespace
    } else {
        let request = pb::SetQuotaRequest { namespace, quota, reset };
        client.namespaces().set_quota(request).await.map_err(ClientError::from)?.into_inner().namespace
    };
    let found = found.unwrap_or_default();
    let row = |(name, value): (&str, u64)| {
        let limit = if value == 0 { "none".to_owned() } else { value.to_string() };
        let from = if found.own.contains_key(name) { "its own" } else { "the node's" };
        vec![one_line(name, 64), limit, from.to_owned()]
    };
    let rows: Vec<_> = sorted(&found.quota).into_iter().map(row).collect();
    output.answer(&table(&["QUOTA", "LIMIT", "FROM"], &rows), &value(&found));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::Quota;
    use clap::{Args as _, Command, FromArgMatches as _};

    #[test]
    fn every_quota_has_a_flag() {
        let flags = Quota::names().map(|name| format!("--{}=7", name.replace('_', "-")));
        let line = std::iter::once("x".to_owned()).chain(flags);
        let matches = Numbers::augment_args(Command::new("x")).try_get_matches_from(line).unwrap();
        let given = Numbers::from_arg_matches(&matches).unwrap().given();
        assert!(Quota::names().iter().all(|name| given.get(*name) == Some(&7)));
        assert_eq!(given.len(), Quota::names().len());
    }
}
