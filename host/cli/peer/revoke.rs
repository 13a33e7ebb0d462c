//! `collector peer revoke`: takes certificates of nodes back, before their time is up.
//!
//! What is taken back stands in the authority's revocation list (RFC 5280 section 5), beside the authority. Nodes read their
//! copy of it again when it changes.

use super::super::output::Output;
use super::init::{AUTHORITY, AUTHORITY_DAYS, AUTHORITY_LIST, DAY, TrustDomain, authority, days, files, read, replace};
use crate::domain::CollectorId;
use anyhow::{Context as _, bail};
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

/// `collector peer revoke`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What the nodes have in common, as it was given to `peer init`
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: TrustDomain,
    /// Folder with the authority and the certificates
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The nodes whose certificates are taken back
    #[arg(required = true, value_name = "NAME")]
    nodes: Vec<CollectorId>,
}

/// Serial numbers that were taken back, and when, in Unix seconds.
type Revoked = BTreeMap<Vec<u8>, i64>;

pub(super) fn run(args: &Args, output: &Output) -> anyhow::Result<()> {
    let path = args.out.join(AUTHORITY_LIST);
    if !args.out.join(AUTHORITY).exists() {
        bail!("{} holds no authority, so that there is nothing to take back; name its folder", args.out.display());
    }
    let (authority, _) = authority(&args.trust_domain, &args.out)?;
    let (mut revoked, number) = listed(&path)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
    for id in &args.nodes {
        let [certificate, _] = files(&args.out, id);
        revoked.entry(serial(&certificate)?).or_insert(now);
    }
    write_list(&path, &authority, &revoked, number + 1)?;
    let path = std::fs::canonicalize(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names = args.nodes.iter().map(CollectorId::as_str).collect::<Vec<_>>();
    let text = format!(
        "took back {}; {} certificates are taken back now\ncopy {} to each node, as its server.tls.client_crl: \
         connections with those certificates are cut within a second\na node's name can have another certificate \
         (`collector peer init`) once the old files are moved away",
        names.join(", "),
        revoked.len(),
        path.display()
    );
    output.answer(&text, &json!({ "list": path, "revoked": names, "count": revoked.len() }));
    Ok(())
}

/// A list of nothing, where there is none.
pub(super) fn begin(out: &Path, authority: &Issuer<'static, KeyPair>) -> anyhow::Result<()> {
    let path = out.join(AUTHORITY_LIST);
    match path.exists() {
        true => Ok(()),
        false => write_list(&path, authority, &Revoked::new(), 1),
    }
}

fn write_list(path: &Path, authority: &Issuer<'static, KeyPair>, revoked: &Revoked, number: u64) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let revoked_certs = revoked.iter().map(|(serial, at)| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: (SystemTime::UNIX_EPOCH + Duration::from_secs((*at).max(0).cast_unsigned())).into(),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: now.into(),
        // As long as its authority is good: nodes do not ask for a newer one.
        next_update: (now + DAY * days(AUTHORITY_DAYS)).into(),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    replace(path, &list.signed_by(authority)?.pem()?)
}

/// What the list says, and its number.
fn listed(path: &Path) -> anyhow::Result<(Revoked, u64)> {
    if !path.exists() {
        return Ok((Revoked::new(), 0));
    }
    let odd = || format!("{} is no revocation list; remove it to begin another", path.display());
    let der = CertificateRevocationListDer::from_pem_slice(read(path)?.as_bytes()).ok().with_context(odd)?;
    let (_, list) = CertificateRevocationList::from_der(&der).ok().with_context(odd)?;
    let each = list.iter_revoked_certificates();
    let revoked = each.map(|one| (one.raw_serial().to_vec(), one.revocation_date.timestamp())).collect();
    let number = list.crl_number().and_then(|number| number.to_u64_digits().first().copied()).unwrap_or(0);
    Ok((revoked, number))
}

fn serial(path: &Path) -> anyhow::Result<Vec<u8>> {
    let odd = || format!("{} is no certificate", path.display());
    let der = CertificateDer::from_pem_slice(read(path)?.as_bytes()).ok().with_context(odd)?;
    let (_, certificate) = X509Certificate::from_der(&der).ok().with_context(odd)?;
    Ok(certificate.raw_serial().to_vec())
}
