//! `collector peer init`: an authority, and a certificate for each node of a mesh.
//!
//! The authority's key is needed for nothing but making more certificates: it belongs on no node.

use super::super::output::Output;
use super::revoke;
use crate::domain::{CollectorId, is_endpoint};
use anyhow::{Context as _, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::json;
use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// How long the authority is good: ten years, longer than any certificate of its.
pub(super) const AUTHORITY_DAYS: u64 = 3_650;
/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Port of a node that was named without one.
const PORT: u16 = 50_051;
/// Nodes of one command: the peers that one node may have, and itself.
const NODES_MAX: usize = crate::mesh::PEERS_MAX + 1;
/// Largest file that is read. 64 KiB: a key and a certificate have about one.
const FILE_MAX: u64 = 64 << 10;

/// `collector peer init`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What the nodes have in common, as `mesh.example`: first part of their identities
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: TrustDomain,
    /// Folder for the files; made if it is missing. An authority that is there already signs for the new nodes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days that the nodes' certificates are good for
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=AUTHORITY_DAYS))]
    days: u64,
    /// The nodes: NAME, or NAME=HOST:PORT where that is not NAME:50051
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<Node>,
}

/// A name in lower case, as SPIFFE has it.
#[derive(Debug, Clone)]
pub(super) struct TrustDomain(String);

impl FromStr for TrustDomain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        match !text.is_empty() && text.len() <= 128 && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err("write a name of at most 128 lower-case letters, digits, `-`, `.` and `_`"),
        }
    }
}

/// A node, and where the others reach it.
#[derive(Debug, Clone)]
struct Node {
    id: CollectorId,
    address: String,
}

impl FromStr for Node {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = match text.split_once('=') {
            Some((name, address)) => (name, address.to_owned()),
            None => (text, format!("{text}:{PORT}")),
        };
        let id: CollectorId = name.parse().map_err(|why| format!("the name {why}"))?;
        match is_endpoint(&address) {
            true => Ok(Self { id, address }),
            false => Err("write NAME or NAME=HOST:PORT".to_owned()),
        }
    }
}

impl Node {
    fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']']))
    }

    fn identity(&self, domain: &TrustDomain) -> String {
        format!("spiffe://{}/collector/{}", domain.0, self.id)
    }
}

pub(super) fn run(args: &Args, output: &Output) -> anyhow::Result<()> {
    let Args { nodes, trust_domain, out, .. } = args;
    if nodes.len() > NODES_MAX {
        bail!("at most {NODES_MAX} nodes at once: that is one and as many peers as it may have");
    }
    for (at, node) in nodes.iter().enumerate() {
        if nodes.iter().skip(at + 1).any(|other| other.id == node.id || other.address == node.address) {
            bail!("{} is named twice, or has another node's address", node.id);
        }
        if let Some(there) = files(out, &node.id).into_iter().find(|file| file.exists()) {
            bail!("{} is there already: nothing was made; leave {} out, or remove it", there.display(), node.id);
        }
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(out)
        .with_context(|| format!("cannot make {}", out.display()))?;
    let (authority, is_new) = authority(trust_domain, out)?;
    revoke::begin(out, &authority)?;
    for node in nodes {
        certify(node, args, &authority)?;
    }
    let out = std::fs::canonicalize(out).with_context(|| format!("cannot read {}", out.display()))?;
    let configs: Vec<(&Node, String)> =
        nodes.iter().map(|node| (node, config(node, nodes, trust_domain, &out))).collect();
    let mut text = format!(
        "{} the authority {}; keep {} off the nodes\n",
        if is_new { "made" } else { "took" },
        out.join(AUTHORITY).display(),
        out.join(AUTHORITY_KEY).display()
    );
    for (node, config) in &configs {
        let [certificate, key] = files(&out, &node.id);
        let (certificate, key) = (certificate.display(), key.display());
        let _ = write!(
            text,
            "\n# {}: copy {certificate}, {key}, {AUTHORITY} and {AUTHORITY_LIST} to it, and paste\n{config}",
            node.id
        );
    }
    let value = json!({
        "authority": out.join(AUTHORITY),
        "authority_key": out.join(AUTHORITY_KEY),
        "nodes": configs.iter().map(|(node, config)| {
            let [certificate, key] = files(&out, &node.id);
            json!({
                "id": node.id.as_str(),
                "address": node.address,
                "identity": node.identity(trust_domain),
                "certificate": certificate,
                "key": key,
                "config": config,
            })
        }).collect::<Vec<_>>(),
    });
    output.answer(&text, &value);
    Ok(())
}

pub(super) const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key.pem";
/// What it has taken back.
pub(super) const AUTHORITY_LIST: &str = "ca.crl.pem";

pub(super) fn files(out: &Path, id: &CollectorId) -> [PathBuf; 2] {
    [out.join(format!("{id}.pem")), out.join(format!("{id}.key.pem"))]
}

/// The authority of the folder, made if there is none.
///
/// * returns: besides, whether it is new.
pub(super) fn authority(domain: &TrustDomain, out: &Path) -> anyhow::Result<(Issuer<'static, KeyPair>, bool)> {
    let (certificate, key) = (out.join(AUTHORITY), out.join(AUTHORITY_KEY));
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("collectors of {}", domain.0));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - SKEW).into(), (now + DAY * days(AUTHORITY_DAYS)).into());
    if !certificate.exists() && !key.exists() {
        let pair = KeyPair::generate()?;
        let made = params.self_signed(&pair)?;
        write(&key, &Zeroizing::new(pair.serialize_pem()), 0o600)?;
        write(&certificate, &made.pem(), 0o644)?;
        return Ok((Issuer::new(params, pair), true));
    }
    let pair = KeyPair::from_pem(&read(&key)?);
    // What the parser says of a key stays unsaid: it may quote it.
    let pair = pair.map_err(|_| anyhow::anyhow!("{} holds no key that can sign", key.display()))?;
    let signs = params.self_signed(&pair)?;
    if !same_authority(&read(&certificate)?, signs.der()) {
        bail!(
            "{} is not the authority of {} with the key beside it: name its own --trust-domain, or another --out",
            certificate.display(),
            domain.0
        );
    }
    Ok((Issuer::new(params, pair), false))
}

/// Whether the certificate in the file has the name and the key of this one.
fn same_authority(pem: &str, der: &[u8]) -> bool {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let Ok(there) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
    match (X509Certificate::from_der(&there), X509Certificate::from_der(der)) {
        (Ok((_, one)), Ok((_, other))) => one.subject() == other.subject() && one.public_key() == other.public_key(),
        _ => false,
    }
}

/// A certificate with one URI, for both ends of connections, and its key.
fn certify(node: &Node, args: &Args, authority: &Issuer<'static, KeyPair>) -> anyhow::Result<()> {
    let [certificate, key] = files(&args.out, &node.id);
    let names = ["localhost", "127.0.0.1", node.host()].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, node.id.as_str());
    let uri = node.identity(&args.trust_domain);
    params.subject_alt_names.dedup();
    params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - SKEW).into(), (now + DAY * days(args.days)).into());
    let pair = KeyPair::generate()?;
    let made = params.signed_by(&pair, authority)?;
    write(&key, &Zeroizing::new(pair.serialize_pem()), 0o600)?;
    write(&certificate, &made.pem(), 0o644)
}

pub(super) fn days(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut content = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(FILE_MAX).read_to_string(&mut content).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(content)
}

/// Makes a file that was not there, never readable for more than `mode` says.
fn write(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(content.as_bytes())?;
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))
}

/// Puts a file in the place of another, at once.
pub(super) fn replace(path: &Path, content: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    drop(std::fs::remove_file(&fresh)); // of a command that was cut off
    write(&fresh, content, 0o644)?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}

/// What a node has to be told, as TOML.
fn config(node: &Node, all: &[Node], domain: &TrustDomain, out: &Path) -> String {
    let [certificate, key] = files(out, &node.id);
    let path = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
    let port = node.address.rsplit_once(':').map_or("", |(_, port)| port);
    let mut text = format!(
        "[mesh]\nid = \"{}\"\n\n[server]\nlisten = \"0.0.0.0:{port}\"\nadvertised_address = \"{}\"\n\n[server.tls]\n\
         certificate = {}\nkey = {}\nclient_ca = {}\nclient_crl = {}\n\n[auth]\nmode = \"required\"\n",
        node.id,
        node.address,
        path(&certificate),
        path(&key),
        path(&out.join(AUTHORITY)),
        path(&out.join(AUTHORITY_LIST)),
    );
    for peer in all.iter().filter(|peer| peer.id != node.id) {
        let _ = write!(
            text,
            "\n[[peers]]\naddress = \"{}\"\nidentity = \"{}\"\n\
             allows = [] # what its callers may do here, for example [\"acme:invoker\"]\n",
            peer.address,
            peer.identity(domain),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_with_or_without_their_address() {
        let node: Node = "a".parse().unwrap();
        assert_eq!((node.id.as_str(), node.address.as_str(), node.host()), ("a", "a:50051", "a"));
        let node: Node = "a=[::1]:7".parse().unwrap();
        assert_eq!((node.address.as_str(), node.host()), ("[::1]:7", "::1"));
        for bad in ["", "a/b", "=x:1", "a=", "a=x", "a=http://x:1", "a:1"] {
            assert!(bad.parse::<Node>().is_err(), "{bad}");
        }
        for bad in ["", "A", "a/b", "a b", &"a".repeat(129)] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_is_a_configuration() {
        let nodes: Vec<Node> = ["a=a.example:1", "b=b.example:2"].iter().map(|text| text.parse().unwrap()).collect();
        let text = config(&nodes[0], &nodes, &TrustDomain("d.example".into()), Path::new("/etc/\"odd\" folder"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, text).unwrap();
        let config = crate::config::Config::load(Some(&file), [], &[]).unwrap();
        assert_eq!((config.mesh.id.as_str(), config.peers.len()), ("a", 1));
        assert_eq!(config.peers[0].identity, "spiffe://d.example/collector/b");
        assert_eq!(config.server.tls.client_ca, Path::new("/etc/\"odd\" folder/ca.pem"));
    }
}
