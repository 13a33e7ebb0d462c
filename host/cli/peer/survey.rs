//! What `collector doctor` says of peers: who they are, and whether this node's certificate is what they will look for.

use crate::config::Config;
use crate::domain::one_line;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long before its end a certificate is spoken of. 30 days: time to make another.
const WARN_BEFORE: i64 = 30 * 86_400;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Survey {
    /// What is so: what and how.
    pub(in crate::cli) facts: Vec<(String, String)>,
    /// What will not do, and what to do about it.
    pub(in crate::cli) missing: Vec<String>,
}

/// Looks at the configuration's peers, and at the certificate that they are shown. Nobody is dialled.
pub(in crate::cli) fn survey(config: &Config) -> Survey {
    let mut found = Survey::default();
    if config.peers.is_empty() {
        return found;
    }
    let id = match config.mesh.id.as_str() {
        "" => "made at the first start (mesh.id)",
        id => id,
    };
    found.facts.push(("this collector".to_owned(), id.to_owned()));
    if config.server.tls.is_on() {
        certificate(config, &mut found);
    }
    for peer in &config.peers {
        let allows: Vec<String> = peer.allows.iter().map(ToString::to_string).collect();
        let may = if allows.is_empty() { "nothing".to_owned() } else { allows.join(" ") };
        let identity = if peer.identity.is_empty() { "known by its address" } else { &peer.identity };
        found.facts.push((peer.address.clone(), format!("{identity}, may {may} here")));
    }
    found
}

fn certificate(config: &Config, found: &mut Survey) {
    let (key, path) = match config.mesh.certificate.as_os_str().is_empty() {
        true => ("server.tls.certificate", &config.server.tls.certificate),
        false => ("mesh.certificate", &config.mesh.certificate),
    };
    let mut lacks = |problem: String| found.missing.push(format!("peers: {key} {problem}"));
    let Some((uris, until)) = read(path) else {
        return lacks("cannot be read, or holds no certificate; `collector peer init` makes one".to_owned());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    match until - now {
        left if left < 0 => lacks("has expired: no peer believes it; make another".to_owned()),
        left if left < WARN_BEFORE => lacks(format!("expires in {} days; make another", left / 86_400)),
        _ => {}
    }
    match uris.as_slice() {
        [only] if only.rsplit_once("/collector/").is_some_and(|(_, id)| id == config.mesh.id) => {
            found.facts.push(("shows itself as".to_owned(), one_line(only, 256)));
        }
        [only] => lacks(format!(
            "says {}, but mesh.id is {:?}: peers refuse a collector that calls itself something else; set mesh.id to the \
             last part of the URI",
            one_line(only, 256),
            config.mesh.id
        )),
        _ => lacks(format!("has {} URIs, peers want exactly one: spiffe://TRUST-DOMAIN/collector/ID", uris.len())),
    }
}

/// The URIs of a file's first certificate, and its last second.
fn read(path: &Path) -> Option<(Vec<String>, i64)> {
    let der = CertificateDer::from_pem_file(path).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None };
    Some((names.iter().filter_map(uri).collect(), certificate.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Entry;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn config(folder: &Path, id: &str, uris: &[&str], year: i32) -> Config {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let file = folder.join("node.pem");
        std::fs::write(&file, params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
        let mut config = Config::default();
        config.mesh.id = id.into();
        (config.server.tls.certificate, config.server.tls.key) = (file, "k".into());
        config.peers = vec![Entry { address: "b:1".into(), identity: "spiffe://d/collector/b".into(), allows: vec![] }];
        config
    }

    #[test]
    fn m07_a_certificate_that_peers_will_refuse_is_spoken_of() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = ("spiffe://d/collector/a", "spiffe://d/collector/c");
        let good = survey(&config(dir.path(), "a", &[own], 2090));
        assert_eq!(good.missing, [""; 0]);
        assert!(good.facts.iter().any(|(_, how)| how == own), "{good:?}");
        assert!(good.facts.iter().any(|(what, how)| what == "b:1" && how.contains("may nothing")), "{good:?}");
        for (id, uris, year, wanted) in [
            ("a", &[other][..], 2090, "mesh.id"),
            ("", &[own], 2090, "mesh.id"),
            ("a", &[own, other], 2090, "2 URIs"),
            ("a", &[], 2090, "0 URIs"),
            ("a", &[own], 2001, "expired"),
        ] {
            let found = survey(&config(dir.path(), id, uris, year));
            assert!(matches!(&found.missing[..], [one] if one.contains(wanted)), "{wanted}: {found:?}");
        }
        let mut none = config(dir.path(), "a", &[own], 2090);
        none.mesh.certificate = dir.path().join("none.pem");
        assert!(survey(&none).missing[0].starts_with("peers: mesh.certificate cannot be read"));
        assert_eq!(survey(&Config::default()), Survey::default());
    }
}
