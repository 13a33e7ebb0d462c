//! `collector secret`: what plugins use in requests and nobody reads.

use super::client::{ClientError, request};
use super::output::Output;
use super::place::Place;
use crate::domain::one_line;
use crate::rpc::pb::admin::v1 as pb;
use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::json;
use std::io::Read as _;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Bytes that are read as a value: a little more than a node takes, so that it says what is wrong.
const READ_MAX: u64 = 8 << 10;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set a secret from stdin or a file; on the command line others could see it
    Set {
        /// Its name
        name: String,
        /// Read it from here instead of stdin; a line break at the end is left out
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// List the names of secrets
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Forget a secret
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Set { name, file, place } => {
            let value = read(file)?.to_vec();
            let client = place.connect().await?;
            let wanted = pb::SetSecretRequest { namespace: place.namespace.clone(), name: name.clone(), value };
            client.secrets().set_secret(request(&place.namespace, wanted)?).await.map_err(ClientError::from)?;
            let text = format!("{name} is set in {}; plugins with the grant secret={name} use it", place.namespace);
            output.answer(&text, &json!({ "namespace": place.namespace, "name": name }));
        }
        Command::List { place } => {
            let client = place.connect().await?;
            let wanted = pb::ListSecretsRequest { namespace: place.namespace.clone() };
            let found = client.secrets().list_secrets(request(&place.namespace, wanted)?).await;
            let names = found.map_err(ClientError::from)?.into_inner().names;
            let lines: Vec<String> = names.iter().map(|name| one_line(name, 128)).collect();
            let text = match names.is_empty() {
                true => format!("no secrets in namespace {}; set one with `collector secret set`", place.namespace),
                false => lines.join("\n"),
            };
            output.answer(&text, &json!({ "namespace": place.namespace, "names": names }));
        }
        Command::Delete { name, place } => {
            let client = place.connect().await?;
            let wanted = pb::DeleteSecretRequest { namespace: place.namespace.clone(), name: name.clone() };
            client.secrets().delete_secret(request(&place.namespace, wanted)?).await.map_err(ClientError::from)?;
            output.answer(&format!("{name} is gone from {}", place.namespace), &json!({ "name": name }));
        }
    }
    Ok(())
}

fn read(file: Option<PathBuf>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::with_capacity(usize::try_from(READ_MAX)?));
    match file {
        Some(path) => {
            let file = std::fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
            file.take(READ_MAX).read_to_end(&mut value)?;
        }
        None => drop(std::io::stdin().lock().take(READ_MAX).read_to_end(&mut value)?),
    }
    while value.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        value.pop();
    }
    if value.is_empty() {
        bail!("there is no secret on stdin: pipe it in, or name a --file");
    }
    Ok(value)
}
