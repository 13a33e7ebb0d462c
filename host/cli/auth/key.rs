//! `collector auth key`

use super::super::client::ClientError;
use super::super::output::{Output, table};
use super::at::Where;
use crate::config::Config;
use crate::domain::{micros, now, one_line, timestamp};
use crate::node::OfflineKeys;
use crate::rpc::pb::admin::v1 as pb;
use crate::tenancy::{Binding, NewKey, Role, Scope};
use anyhow::{Context as _, bail};
use clap::Subcommand;
use prost_types::Timestamp;
use serde_json::{Value, json};
use std::path::Path;

/// Keys of one page.
const PAGE: i32 = 1_000;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Make a key and print it: this once
    Create(CreateArgs),
    /// List keys; never their text
    List(ListArgs),
    /// End a key, for new calls and open streams
    Revoke(RevokeArgs),
}

/// `collector auth key create`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    at: Where,
    /// What its holder may be: admin, deployer, invoker, writer or reader
    #[arg(long, value_parser = role, requires = "namespace")]
    role: Option<Role>,
    /// Where: a namespace, or * for all; may be repeated
    #[arg(long, short, value_parser = scope, requires = "role", value_name = "NS")]
    namespace: Vec<Scope>,
    /// Another role in another namespace; may be repeated
    #[arg(long, value_name = "NS:ROLE")]
    bind: Vec<Binding>,
    /// What it is for, for people
    #[arg(long, default_value = "")]
    label: String,
    /// How long it is good: a number and s, m, h or d [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires_in: Option<i64>,
}

/// `collector auth key list`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    at: Where,
    /// Only those of one namespace
    #[arg(long, short, value_name = "NS", default_value = "")]
    namespace: String,
}

/// `collector auth key revoke`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RevokeArgs {
    #[command(flatten)]
    at: Where,
    /// Id of the key
    id: String,
}

fn role(text: &str) -> Result<Role, String> {
    let known = Role::ALL.into_iter().find(|role| role.name() == text);
    known.ok_or_else(|| "the roles are admin, deployer, invoker, writer and reader".to_owned())
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse().map_err(|why| format!("{why}"))
}

/// A time as microseconds.
pub(super) fn span(text: &str) -> Result<i64, String> {
    let bad = || "write a number and s, m, h or d, as in 30d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u32 = number.parse().ok().filter(|number| *number > 0).ok_or_else(bad)?;
    Ok(i64::from(number) * seconds * 1_000_000)
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create(args, output).await,
        Command::List(args) => list(args, output).await,
        Command::Revoke(args) => revoke(args, output).await,
    }
}

async fn create(args: CreateArgs, output: &Output) -> anyhow::Result<()> {
    let CreateArgs { at, role, namespace, mut bind, label, expires_in } = args;
    bind.extend(namespace.into_iter().filter_map(|scope| Some(Binding { scope, role: role? })));
    if bind.is_empty() {
        bail!("say what the key may do: --role ROLE --namespace NS, or --bind NS:ROLE");
    }
    let expires_at = expires_in.map(|span| now().saturating_add(span));
    let (key, secret) = match &at.data {
        Some(data) => {
            let new = NewKey { label, bindings: bind, expires_at };
            let (key, secret) = offline(data).await?.create(new).await?;
            (key.into(), secret.expose().to_owned())
        }
        None => {
            let bindings = bind.iter().map(ToString::to_string).collect();
            let new = pb::CreateRequest { label, bindings, expires_at: expires_at.map(timestamp) };
            let made = at.at.connect().await?.keys().create(new).await.map_err(ClientError::from)?;
            let pb::CreateResponse { key, secret } = made.into_inner();
            (key.context("the node sent no key")?, secret)
        }
    };
    let mut shown = value(&key);
    if let Value::Object(fields) = &mut shown {
        fields.insert("secret".to_owned(), secret.clone().into());
    }
    let text = format!(
        "{secret}\n\nThis is the only time that the key is shown. Put it in COLLECTOR_TOKEN, or send it as\n\
         authorization: Bearer. Its id is {}: {}.",
        key.id,
        key.bindings.join(", ")
    );
    output.answer(&text, &shown);
    Ok(())
}

async fn list(args: ListArgs, output: &Output) -> anyhow::Result<()> {
    let ListArgs { at, namespace } = args;
    let keys = match &at.data {
        Some(data) => {
            let all = offline(data).await?.list().into_iter().map(pb::Key::from);
            let of = format!("{namespace}:");
            let wanted = |key: &pb::Key| namespace.is_empty() || key.bindings.iter().any(|one| one.starts_with(&of));
            all.filter(wanted).collect()
        }
        None => {
            let (mut client, mut keys, mut page_token) = (at.at.connect().await?.keys(), Vec::new(), String::new());
            loop {
                let page = pb::ListRequest { namespace: namespace.clone(), page_size: PAGE, page_token };
                let page = client.list(page).await.map_err(ClientError::from)?.into_inner();
                keys.extend(page.keys);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break keys;
                }
            }
        }
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    let text = match rows.is_empty() {
        true => "no keys; make one with `collector auth key create`".to_owned(),
        false => table(&["ID", "ENDS WITH", "MAY", "STATE", "CREATED", "LABEL"], &rows),
    };
    output.answer(&text, &json!({ "keys": keys.iter().map(value).collect::<Vec<_>>() }));
    Ok(())
}

async fn revoke(args: RevokeArgs, output: &Output) -> anyhow::Result<()> {
    let RevokeArgs { at, id } = args;
    let key = match &at.data {
        Some(data) => offline(data).await?.revoke(&id).await?.into(),
        None => {
            let revoked = at.at.connect().await?.keys().revoke(pb::RevokeRequest { id }).await;
            revoked.map_err(ClientError::from)?.into_inner().key.context("the node sent no key")?
        }
    };
    output.answer(&format!("key {} is revoked", key.id), &value(&key));
    Ok(())
}

/// The keys in a data folder; it is made, and locked.
async fn offline(data: &Path) -> anyhow::Result<OfflineKeys> {
    Ok(OfflineKeys::open(data, &Config::default().auth).await?)
}

fn time(time: Option<&Timestamp>) -> Option<String> {
    time.map(ToString::to_string)
}

fn row(key: &pb::Key) -> Vec<String> {
    let state = match (&key.revoked_at, &key.expires_at) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(at)) if micros(Some(*at)) <= now() => "expired".to_owned(),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "good".to_owned(),
    };
    vec![
        one_line(&key.id, 64),
        one_line(&key.ends_with, 16),
        one_line(&key.bindings.join(", "), 256),
        state,
        time(key.created_at.as_ref()).unwrap_or_default(),
        one_line(&key.label, 128),
    ]
}

fn value(key: &pb::Key) -> Value {
    json!({
        "id": key.id,
        "label": key.label,
        "bindings": key.bindings,
        "expires_at": time(key.expires_at.as_ref()),
        "created_at": time(key.created_at.as_ref()),
        "revoked_at": time(key.revoked_at.as_ref()),
        "ends_with": key.ends_with,
        "created_by": key.created_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(span("2m"), Ok(120_000_000));
        assert_eq!(span("30d"), Ok(30 * 86_400 * 1_000_000));
        for bad in ["", "d", "5", "0s", "-1s", "1w", "1.5h", "99999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
