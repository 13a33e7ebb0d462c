//! TLS: the node's certificate, whose clients it believes, and the client side of the same.
//!
//! TLS 1.2 and 1.3 by rustls. Files are read again when they change, so a renewed certificate needs no restart: the next
//! connection gets the new one. Those that are open keep what they began with, but for clients whose certificate is not
//! good any more: they are cut. A change that does not load (a certificate that is there before its key) is logged and the
//! old one stays.

mod dial;
mod files;
mod peer;
mod self_signed;
mod wire;

pub use dial::{Dialer, Trust};
pub(super) use peer::{DialError, identity};
pub use peer::{PeerDialer, PeerFiles};
pub use wire::Wire;

use super::BadSetting;
use crate::lifecycle::Lifecycle;
use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use self_signed::SelfSigned;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// How often the files are looked at. 500 ms: four calls of the system, and what is taken back is gone within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How soon after its end a certificate's connection is cut. 10 s: a check takes a tenth of a millisecond, and of links a
/// minute is asked.
const EXPIRES_WITHIN: Duration = Duration::from_secs(10);
/// Sessions that a client may resume. 1,024: as many as connections; each is some hundred bytes and a certificate.
const SESSIONS: usize = 1_024;

/// The `[server.tls]` section of the configuration. Without certificate and without `self_signed` the port is plain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the node's certificate and those between it and its authority. Empty: none.
    pub certificate: PathBuf,
    /// PEM file of its key, which nobody but its owner may read.
    pub key: PathBuf,
    /// PEM file of authorities whose client certificates are believed. Empty: clients are not asked for any.
    pub client_ca: PathBuf,
    /// PEM file of revocation lists of those authorities: certificates on them are refused, and connections of theirs cut,
    /// within a second. Empty: nothing is taken back before its time.
    pub client_crl: PathBuf,
    /// Whether clients may come without one, where there is a `client_ca`.
    pub client_certificates: ClientCertificates,
    /// Makes a certificate of its own and keeps it in the data folder: for development.
    pub self_signed: bool,
}

/// Whether a client has to show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// It may show another credential instead.
    #[default]
    Optional,
    /// No connection without.
    Required,
}

impl TlsConfig {
    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        self.self_signed || !self.certificate.as_os_str().is_empty()
    }

    /// Whether connections can be encrypted with what is in the files.
    pub(super) fn problem(&self) -> Option<TlsError> {
        if self.certificate.as_os_str().is_empty() {
            return None; // none, or one that is made
        }
        Sources::new(self, (self.certificate.clone(), self.key.clone())).load(None).err()
    }

    /// Refuses halves of a pair.
    pub(super) fn check(&self) -> Result<(), BadSetting> {
        let bad = |key, problem: &str| Err(BadSetting { key, problem: problem.to_owned() });
        let [certificate, key, client_ca] =
            [&self.certificate, &self.key, &self.client_ca].map(|path| !path.as_os_str().is_empty());
        if certificate != key {
            return bad("server.tls.certificate", "needs server.tls.key, and the other way round");
        }
        if certificate && self.self_signed {
            return bad("server.tls.self_signed", "excludes server.tls.certificate: take one of the two");
        }
        if client_ca && !self.is_on() {
            return bad("server.tls.client_ca", "needs server.tls.certificate or server.tls.self_signed");
        }
        if !client_ca && !self.client_crl.as_os_str().is_empty() {
            return bad("server.tls.client_crl", "needs server.tls.client_ca, whose certificates it takes back");
        }
        if !client_ca && self.client_certificates == ClientCertificates::Required {
            return bad("server.tls.client_certificates", "needs server.tls.client_ca");
        }
        Ok(())
    }
}

/// Why certificates and keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not there or not readable.
    #[error("{what}: cannot read the file: {why}")]
    File {
        /// Which, by its setting or flag.
        what: &'static str,
        /// What the system said.
        why: io::Error,
    },
    /// A key for everybody is none.
    #[error("{0}: the file can be read by others than its owner; make it private (chmod 600)")]
    NotPrivate(&'static str),
    /// The file holds something else.
    #[error("{what}: {problem}")]
    Content {
        /// Which, by its setting or flag.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("server.tls.self_signed: cannot make a certificate: {0}")]
    SelfSigned(String),
}

/// The one implementation of ciphers that is compiled in.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The server's side, with what is in the files at present.
#[derive(Debug)]
pub(super) struct Tls {
    sources: Sources,
    current: ArcSwap<Loaded>,
    certificate: CertificateDer<'static>,
    /// Counts changes of `current`.
    renewed: watch::Sender<u64>,
}

/// What the files say.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Where clients are asked for certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    leaf: CertificateDer<'static>,
}

/// Certificates that a client showed and that were good: its own first, then those between it and its authority.
#[derive(Debug)]
pub(super) struct Shown(Vec<CertificateDer<'static>>);

impl Shown {
    /// Its own (DER).
    pub(super) fn leaf(&self) -> Option<Arc<[u8]>> {
        self.0.first().map(|leaf| Arc::from(leaf.as_ref()))
    }
}

/// Where certificates come from.
#[derive(Debug, Clone)]
struct Sources {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
    required: bool,
}

/// What tells that a file is another.
type Stamp = Vec<Option<(SystemTime, u64, u64)>>;

impl Tls {
    /// Reads or makes what the configuration names.
    ///
    /// * `folder`: of the node's own certificate.
    /// * `names`: whom that one is for.
    /// * returns: besides, how the node calls itself, and what lets it in where clients must have a certificate.
    pub(super) fn open(config: &TlsConfig, folder: &Path, names: &[String]) -> Result<(Self, Dialer), TlsError> {
        let pair = match config.self_signed {
            true => self_signed::ensure(folder, names)?,
            false => (config.certificate.clone(), config.key.clone()),
        };
        let sources = Sources::new(config, pair);
        let required = sources.required;
        // Known to this process for the moment of its self-check; gone with the next reading of the files.
        let own = required.then(|| SelfSigned::new(&["collector-self-check".to_owned()])).transpose()?;
        let loaded = sources.load(own.as_ref().map(|own| own.certificate.clone()))?;
        let certificate = loaded.leaf.clone();
        let dialer = Dialer::pinned(certificate.clone(), own)?;
        let (current, renewed) = (ArcSwap::from_pointee(loaded), watch::Sender::new(0));
        Ok((Self { sources, current, certificate, renewed }, dialer))
    }

    /// The certificate that the node began with, as its file has it.
    pub(super) fn file(&self) -> &Path {
        &self.sources.certificate
    }

    /// Shakes hands.
    ///
    /// * cancel: the connection is gone.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(Wire, Option<Shown>)> {
        let config = Arc::clone(&self.current.load().config);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let shown = chain.map(|chain| Shown(chain.iter().map(|one| one.clone().into_owned()).collect()));
        Ok((Wire::Tls(Box::new(stream.into())), shown))
    }

    /// Waits until what a client showed is good no longer: it was taken back, its authority is believed no more, or its time
    /// is up.
    pub(super) async fn revoked(&self, shown: &Shown) {
        let mut renewed = self.renewed.subscribe();
        loop {
            // Marked as seen before looking, so that a change meanwhile is looked at, too.
            renewed.mark_unchanged();
            if !self.is_good(shown) {
                return;
            }
            // Whichever it was, it is looked at again.
            drop(tokio::time::timeout(EXPIRES_WITHIN, renewed.changed()).await);
        }
    }

    fn is_good(&self, Shown(chain): &Shown) -> bool {
        let current = self.current.load();
        match (&current.verifier, &chain[..]) {
            (Some(verifier), [leaf, rest @ ..]) => verifier.verify_client_cert(leaf, rest, UnixTime::now()).is_ok(),
            _ => false,
        }
    }

    /// Reads the files again whenever one of them changed, until the node drains.
    pub(super) async fn keep_fresh(self: Arc<Self>, lifecycle: Lifecycle) {
        let mut seen = self.sources.stamp();
        loop {
            tokio::select! {
                () = lifecycle.draining() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let this = Arc::clone(&self);
            let before = seen.clone();
            let look = move || {
                let now = this.sources.stamp();
                if now != before {
                    this.renew();
                }
                now
            };
            seen = tokio::task::spawn_blocking(look).await.unwrap_or(seen);
        }
    }

    fn renew(&self) {
        match self.sources.load(None) {
            Ok(loaded) => {
                let same = loaded.leaf == self.certificate;
                self.current.store(Arc::new(loaded));
                self.renewed.send_modify(|count| *count += 1);
                tracing::info!(same, "certificates were read again");
            }
            Err(why) => tracing::warn!(%why, "changed certificates cannot be used; the old ones stay"),
        }
    }
}

impl Sources {
    /// * `certificate`, `key`: those of the configuration, or those that the node made.
    fn new(config: &TlsConfig, (certificate, key): (PathBuf, PathBuf)) -> Self {
        let named = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let (client_ca, client_crl) = (named(&config.client_ca), named(&config.client_crl));
        let required = config.client_certificates == ClientCertificates::Required;
        Self { certificate, key, client_ca, client_crl, required }
    }

    /// * `own`: a client's certificate to believe besides.
    fn load(&self, own: Option<CertificateDer<'static>>) -> Result<Loaded, TlsError> {
        let (certificate, key) = ("server.tls.certificate", "server.tls.key");
        let chain = files::certificates(certificate, &self.certificate)?;
        let problem = |problem: rustls::Error| TlsError::Content { what: certificate, problem: problem.to_string() };
        let leaf = chain.first().cloned().ok_or_else(|| problem(rustls::Error::NoCertificatesPresented))?;
        let key = files::key(key, &self.key)?;
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(problem)?;
        let (builder, verifier) = match &self.client_ca {
            None => (builder.with_no_client_auth(), None),
            Some(path) => {
                let what = "server.tls.client_ca";
                let mut roots = files::roots(what, path)?;
                let odd = |problem: String| TlsError::Content { what, problem };
                if let Some(own) = own {
                    roots.add(own).map_err(|why| odd(why.to_string()))?;
                }
                let verifier = self.verifier(roots, self.revoked()?).map_err(|why| odd(why.to_string()))?;
                (builder.with_client_cert_verifier(Arc::clone(&verifier)), Some(verifier))
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(problem)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Loaded { config: Arc::new(config), verifier, leaf })
    }

    fn verifier(
        &self,
        roots: RootCertStore,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        // An authority without a list takes nothing back.
        let verifier = verifier.with_crls(revoked).allow_unknown_revocation_status();
        if self.required { verifier.build() } else { verifier.allow_unauthenticated().build() }
    }

    fn revoked(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        self.client_crl.as_ref().map_or(Ok(Vec::new()), |path| files::revoked("server.tls.client_crl", path))
    }

    fn stamp(&self) -> Stamp {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref(), self.client_crl.as_ref()];
        let stamp = |path: &PathBuf| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len(), about.ino()))
        };
        files.into_iter().flatten().map(stamp).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn halves_of_a_pair_are_refused() {
        let path = PathBuf::from("file.pem");
        let (certificate, key, client_ca) = (path.clone(), path.clone(), path);
        let required = ClientCertificates::Required;
        let none = TlsConfig::default();
        assert!(none.check().is_ok() && !none.is_on());
        let pair = TlsConfig { certificate, key, ..none.clone() };
        assert!(pair.check().is_ok() && pair.is_on());
        let all = TlsConfig { client_ca, client_certificates: required, ..pair.clone() };
        assert!(all.check().is_ok());
        for (bad, key) in [
            (TlsConfig { key: PathBuf::new(), ..pair.clone() }, "server.tls.certificate"),
            (TlsConfig { certificate: PathBuf::new(), ..pair.clone() }, "server.tls.certificate"),
            (TlsConfig { self_signed: true, ..pair.clone() }, "server.tls.self_signed"),
            (TlsConfig { client_ca: all.client_ca.clone(), ..none }, "server.tls.client_ca"),
            (TlsConfig { client_crl: all.client_ca.clone(), ..pair.clone() }, "server.tls.client_crl"),
            (TlsConfig { client_certificates: required, ..pair }, "server.tls.client_certificates"),
        ] {
            assert_eq!(bad.check().unwrap_err().key, key);
        }
    }

    #[test]
    fn a_self_signed_certificate_is_kept_while_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tls");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (certificate, key) = self_signed::ensure(&folder, &names(&["localhost", "127.0.0.1", "::1"])).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let first = std::fs::read(&certificate).unwrap();
        self_signed::ensure(&folder, &names(&["localhost", "127.0.0.1"])).unwrap();
        assert_eq!(std::fs::read(&certificate).unwrap(), first, "it names them all");
        self_signed::ensure(&folder, &names(&["localhost", "10.0.0.1"])).unwrap();
        let second = std::fs::read(&certificate).unwrap();
        assert_ne!(second, first, "it did not name the address");
        std::fs::write(&key, "damaged").unwrap();
        self_signed::ensure(&folder, &names(&["localhost"])).unwrap();
        assert_ne!(std::fs::read(&certificate).unwrap(), second, "it had lost its key");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (_, key) = self_signed::ensure(dir.path(), &["localhost".to_owned()]).unwrap();
        for (mode, fits) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            let read = files::key("server.tls.key", &key);
            assert_eq!(read.is_ok(), fits, "{mode:o}");
            if let Err(why) = read {
                assert!(why.to_string().contains("chmod 600"), "{why}");
            }
        }
    }
}
