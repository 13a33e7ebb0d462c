//! PEM files of certificates and keys.

use super::TlsError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tokio_rustls::rustls::RootCertStore;
use zeroize::Zeroizing;

/// Largest file. 1 MiB: all authorities that browsers know fit in a quarter of it.
const FILE_MAX: u64 = 1 << 20;

/// The certificates in a file, at least one.
///
/// * `what`: the setting or flag that names the file.
pub(super) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all(what, path, ("certificate", "certificates"))
}

/// What a file takes back of the authorities' certificates: at least one list, since a file that was emptied by accident
/// must not let everybody in again.
pub(super) fn revoked(what: &'static str, path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    all(what, path, ("revocation list", "revocation lists"))
}

/// All of one kind that a file holds, at least one.
fn all<T: PemObject>(what: &'static str, path: &Path, (one, many): (&str, &str)) -> Result<Vec<T>, TlsError> {
    let pem = read(what, &open(what, path)?)?;
    let odd = |problem: String| TlsError::Content { what, problem };
    let found: Result<Vec<T>, _> = T::pem_slice_iter(&pem).collect();
    let found = found.map_err(|why| odd(format!("not a PEM file of {many}: {why}")))?;
    match found.is_empty() {
        true => Err(odd(format!("no {one} in the file; it has to be PEM"))),
        false => Ok(found),
    }
}

/// The certificates in a file as authorities.
pub(super) fn roots(what: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots.add(certificate).map_err(|why| TlsError::Content { what, problem: why.to_string() })?;
    }
    Ok(roots)
}

/// The private key in a file that only its owner can read.
pub(super) fn key(what: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = open(what, path)?;
    let about = file.metadata().map_err(|why| TlsError::File { what, why })?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(TlsError::NotPrivate(what));
    }
    let pem = read(what, &file)?;
    // What the parser says of a key stays unsaid: it may quote it.
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::Content { what, problem: "no private key in the file; it has to be PEM".to_owned() })
}

fn open(what: &'static str, path: &Path) -> Result<File, TlsError> {
    File::open(path).map_err(|why| TlsError::File { what, why })
}

fn read(what: &'static str, file: &File) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let mut content = Zeroizing::new(Vec::new());
    let read = file.take(FILE_MAX + 1).read_to_end(&mut content).map_err(|why| TlsError::File { what, why })?;
    if read as u64 > FILE_MAX {
        return Err(TlsError::File { what, why: io::Error::from(io::ErrorKind::FileTooLarge) });
    }
    Ok(content)
}
