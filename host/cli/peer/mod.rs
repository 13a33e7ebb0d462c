//! `collector peer`: the collectors that a node is linked with.

mod init;
mod revoke;
mod survey;

pub(super) use survey::survey;

use super::client::ClientError;
use super::output::{Output, table};
use super::place::At;
use crate::domain::one_line;
use crate::rpc::pb::admin::v1 as pb;
use clap::Subcommand;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make another collector a peer: the node dials it, and hands it calls that it cannot answer itself
    Add(Add),
    /// List the peers, and how the links to them are
    List(At),
    /// Forget a peer that was added, and cut its links
    Remove {
        #[command(flatten)]
        at: At,
        /// As it was added
        address: String,
    },
    /// Make an authority and a certificate for each node, and print the configuration of each
    Init(init::Args),
    /// Take certificates of nodes back, before their time is up
    Revoke(revoke::Args),
}

/// `collector peer add`
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    #[command(flatten)]
    at: At,
    /// `host:port` that it advertises
    address: String,
    /// The one URI of its certificate, spiffe://TRUST-DOMAIN/collector/ID: with TLS, and only then
    #[arg(long, value_name = "URI")]
    identity: Option<String>,
    /// What it may do on this node on behalf of its callers, may be repeated; * for every namespace [default: nothing]
    #[arg(long = "allow", value_name = "NAMESPACE:ROLE")]
    allows: Vec<String>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Add(args) => add(args, output).await,
        Command::List(at) => list(&at, output).await,
        Command::Remove { at, address } => remove(&at, address, output).await,
        Command::Init(args) => init::run(&args, output),
        Command::Revoke(args) => revoke::run(&args, output),
    }
}

async fn add(args: Add, output: &Output) -> anyhow::Result<()> {
    let client = args.at.connect().await?;
    let identity = args.identity.unwrap_or_default();
    let request = pb::AddPeerRequest { address: args.address, identity, allows: args.allows };
    let peer = client.peers().add(request).await.map_err(ClientError::from)?.into_inner().peer.unwrap_or_default();
    let text = format!(
        "{} is a peer, and may {} here; `collector peer list` shows the link to it",
        one_line(&peer.address, 256),
        allowed(&peer)
    );
    output.answer(&text, &value(&peer));
    Ok(())
}

async fn list(at: &At, output: &Output) -> anyhow::Result<()> {
    let client = at.connect().await?;
    let found = client.peers().list(pb::ListPeersRequest {}).await.map_err(ClientError::from)?.into_inner().peers;
    let text = match found.is_empty() {
        true => "no peers; add one with `collector peer add HOST:PORT`".to_owned(),
        false => table(&HEADER, &found.iter().flat_map(rows).collect::<Vec<_>>()),
    };
    output.answer(&text, &json!({ "peers": found.iter().map(value).collect::<Vec<_>>() }));
    Ok(())
}

async fn remove(at: &At, address: String, output: &Output) -> anyhow::Result<()> {
    let client = at.connect().await?;
    let gone = client.peers().remove(pb::RemovePeerRequest { address }).await.map_err(ClientError::from)?;
    let peer = gone.into_inner().peer.unwrap_or_default();
    let text = format!("{} is no peer any more, and its links are cut", one_line(&peer.address, 256));
    output.answer(&text, &value(&peer));
    Ok(())
}

const HEADER: [&str; 9] =
    ["ADDRESS", "COLLECTOR", "LINK", "SINCE", "SERVICES", "IN FLIGHT", "ANSWERED", "FAILED", "MAY"];

/// A line, and below it what went wrong last, where there is no link.
fn rows(peer: &pb::Peer) -> Vec<Vec<String>> {
    let line = |text: &str| if text.is_empty() { "-".to_owned() } else { one_line(text, 256) };
    let since = peer.since.as_ref().map(ToString::to_string).unwrap_or_default();
    let calls = peer.calls.unwrap_or_default();
    let mut rows = vec![vec![
        line(&peer.address),
        line(&peer.collector_id),
        if peer.is_paused { format!("{}, paused", state(peer)) } else { state(peer).to_owned() },
        line(&since),
        peer.offers.to_string(),
        peer.in_flight.to_string(),
        calls.answered.to_string(),
        calls.lost.saturating_add(calls.unusable).saturating_add(calls.unsent).to_string(),
        allowed(peer),
    ]];
    if peer.state() != pb::peer::State::Linked && !peer.last_error.is_empty() {
        rows.push(vec![format!("  {}", one_line(&peer.last_error, 512))]);
    }
    rows
}

fn allowed(peer: &pb::Peer) -> String {
    match peer.allows.is_empty() {
        true => "nothing".to_owned(),
        false => one_line(&peer.allows.join(" "), 512),
    }
}

fn state(peer: &pb::Peer) -> &'static str {
    match peer.state() {
        pb::peer::State::Unspecified => "new",
        pb::peer::State::Dialling => "dialling",
        pb::peer::State::Linked => "linked",
        pb::peer::State::Draining => "draining",
        pb::peer::State::Refused => "refused",
    }
}

/// For programs.
fn value(peer: &pb::Peer) -> Value {
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(ToString::to_string);
    let calls = peer.calls.unwrap_or_default();
    let latency = peer.latency.and_then(|latency| Duration::try_from(latency).ok());
    json!({
        "address": peer.address,
        "identity": peer.identity,
        "allows": peer.allows,
        "configured": peer.configured,
        "collector_id": peer.collector_id,
        "state": state(peer),
        "since": time(&peer.since),
        "last_error": peer.last_error,
        "offers": peer.offers,
        "in_flight": peer.in_flight,
        "latency_us": latency.map(|latency| latency.as_micros().min(u128::from(u64::MAX)) as u64),
        "version": peer.version,
        "created_at": time(&peer.created_at),
        "paused": peer.is_paused,
        "calls": {
            "answered": calls.answered,
            "refused": calls.refused,
            "unsent": calls.unsent,
            "lost": calls.lost,
            "unusable": calls.unusable,
            "given_up": calls.given_up,
        },
        "dials": peer.dials,
        "links": peer.links,
        "sent_bytes": peer.sent_bytes,
        "received_bytes": peer.received_bytes,
    })
}
