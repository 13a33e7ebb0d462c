//! Certificates for tests, and who signs them.

use collector::cli::Access;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

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
        Self { issuer, folder }
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
