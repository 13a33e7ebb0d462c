//! Certificates for tests, and who signs them.

use collector::cli::Access;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// An authority, and the folder that its files are in.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { issuer, folder };
        authority.revoke(&[]);
        authority
    }

    /// What it has taken back.
    pub fn crl(&self) -> PathBuf {
        self.folder.path().join("ca.crl.pem")
    }

    /// Takes these certificates back, and no others.
    pub fn revoke(&self, certificates: &[&Path]) {
        let revoked_certs = certificates.iter().map(|path| {
            let der = CertificateDer::from_pem_file(path).unwrap();
            let (_, parsed) = X509Certificate::from_der(&der).unwrap();
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(parsed.raw_serial()),
                revocation_time: rcgen::date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let fresh = self.crl().with_extension("new");
        std::fs::write(&fresh, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        std::fs::rename(fresh, self.crl()).unwrap();
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What a client needs to believe the authority's servers.
    pub fn access(&self) -> Access {
        Access { ca: Some(self.ca()), ..Access::default() }
    }

    /// Files of a certificate with this name of a host, and of its key.
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        self.sign(name, CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// Files of a certificate with these URIs, and of its key.
    ///
    /// * `is_good`: its time has not passed.
    pub fn identify(&self, file: &str, uris: &[&str], is_good: bool) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        if !is_good {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        self.sign(file, params)
    }

    /// Files that are there are replaced, each at once.
    fn sign(&self, file: &str, params: CertificateParams) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let [certificate, private] = ["pem", "key"].map(|kind| self.folder.path().join(format!("{file}.{kind}")));
        let put = |path: &Path, content: String| {
            let fresh = path.with_extension("new");
            std::fs::write(&fresh, content).unwrap();
            std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)).unwrap();
            std::fs::rename(fresh, path).unwrap();
        };
        put(&private, key.serialize_pem());
        put(&certificate, pem);
        (certificate, private)
    }
}
