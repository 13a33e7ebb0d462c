//! A certificate that the node makes for itself.

use super::{TlsError, files};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long one is good. A year: what clients believe at most.
const GOOD_FOR: Duration = Duration::from_secs(365 * 86_400);
/// How long before its end another one is made.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(3_600);

/// A certificate and its key.
pub(super) struct SelfSigned {
    pub(super) certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl SelfSigned {
    /// * `names`: names and addresses of whom it is for.
    pub(super) fn new(names: &[String]) -> Result<Self, TlsError> {
        let odd = |why: rcgen::Error| TlsError::SelfSigned(why.to_string());
        let mut params = CertificateParams::new(names).map_err(odd)?;
        params.distinguished_name.push(DnType::CommonName, "collector");
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + GOOD_FOR).into();
        let key = KeyPair::generate().map_err(odd)?;
        let certificate = params.self_signed(&key).map_err(odd)?;
        Ok(Self { pem: certificate.pem(), certificate: certificate.into(), key })
    }

    pub(super) fn into_key(self) -> PrivateKeyDer<'static> {
        self.key.into()
    }
}

/// The certificate and the key in the folder, made anew unless what is there is for all these names and good for long.
///
/// * returns: the paths of both.
pub(super) fn ensure(folder: &Path, names: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    if fits(&certificate, &key, names) {
        return Ok((certificate, key));
    }
    let made = SelfSigned::new(names)?;
    let wrote = std::fs::create_dir_all(folder)
        .and_then(|()| write(&key, &made.key.serialize_pem(), 0o600))
        .and_then(|()| write(&certificate, &made.pem, 0o644));
    wrote.map_err(|why| TlsError::SelfSigned(why.to_string()))?;
    Ok((certificate, key))
}

/// Whether there is a certificate with its key that these names can use.
fn fits(certificate: &Path, key: &Path, names: &[String]) -> bool {
    let what = "server.tls.self_signed";
    let (Ok(chain), Ok(key)) = (files::certificates(what, certificate), files::key(what, key)) else { return false };
    let Some(leaf) = chain.first().cloned() else { return false };
    let pair = CertifiedKey::from_der(chain, key, &super::provider());
    pair.is_ok() && is_for(&leaf, names).unwrap_or(false)
}

fn is_for(leaf: &CertificateDer<'_>, names: &[String]) -> Option<bool> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let until = u64::try_from(leaf.validity().not_after.timestamp()).ok()?;
    let needed = SystemTime::now().duration_since(UNIX_EPOCH).ok()? + RENEW_BEFORE;
    let own = &leaf.subject_alternative_name().ok()??.value.general_names;
    let has = |name: &String| {
        let address = name.parse::<IpAddr>().ok().map(|address| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        });
        own.iter().any(|one| match (one, &address) {
            (GeneralName::IPAddress(own), Some(address)) => *own == address.as_slice(),
            (GeneralName::DNSName(own), None) => *own == name,
            _ => false,
        })
    };
    Some(until > needed.as_secs() && names.iter().all(has))
}

/// Whole or absent, and never readable for more than `mode` says.
fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
