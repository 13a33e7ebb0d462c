//! The import table of style.md section 1, read off the `use crate::` lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Who may import whom. A module that is not here may not exist.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("domain", vec![]),
        ("lifecycle", vec![]),
        ("telemetry", vec!["domain"]),
        ("data", vec![]),
        ("net", vec!["domain"]),
        ("fair", vec!["domain"]),
        ("exec", vec!["domain", "fair", "lifecycle"]),
        ("tenancy", vec!["domain", "lifecycle", "store"]),
        ("store", vec!["domain"]),
        ("files", vec!["domain", "lifecycle", "store"]),
        ("registry", vec!["domain", "tenancy", "store", "lifecycle"]),
        ("dispatch", vec!["domain", "tenancy", "registry", "exec", "store", "lifecycle"]),
        ("collections", vec!["domain", "tenancy", "registry", "dispatch", "store", "lifecycle"]),
        ("mesh", vec!["domain", "tenancy", "store", "lifecycle"]),
        // net: which addresses strangers may name, in Connect.
        (
            "rpc",
            vec![
                "domain",
                "tenancy",
                "registry",
                "dispatch",
                "exec",
                "store",
                "lifecycle",
                "collections",
                "mesh",
                "net",
                "fair",
            ],
        ),
        (
            "guest_calls",
            vec![
                "domain",
                "tenancy",
                "registry",
                "dispatch",
                "exec",
                "store",
                "lifecycle",
                "collections",
                "files",
                "net",
            ],
        ),
        ("selfcheck", vec!["rpc", "tenancy"]),
        (
            "config",
            vec![
                "domain",
                "exec",
                "dispatch",
                "registry",
                "rpc",
                "telemetry",
                "tenancy",
                "collections",
                "files",
                "net",
                "mesh",
                "store",
            ],
        ),
        (
            "node",
            vec![
                "collections",
                "config",
                "data",
                "dispatch",
                "domain",
                "exec",
                "files",
                "guest_calls",
                "lifecycle",
                "mesh",
                "net",
                "registry",
                "rpc",
                "selfcheck",
                "store",
                "telemetry",
                "tenancy",
            ],
        ),
        (
            "cli",
            vec![
                "config",
                "data",
                "dispatch",
                "domain",
                "exec",
                "mesh",
                "node",
                "registry",
                "rpc",
                "telemetry",
                "tenancy",
            ],
        ),
    ])
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

/// First path segments after `crate::` in a text.
fn imports(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    text.split("crate::").skip(1).map(word).filter(|word| !word.is_empty()).collect()
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("host");
    let allowed = allowed();
    let mut files = Vec::new();
    sources(&host, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&host).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let Some(may) = allowed.get(module) else {
            wrong.push(format!("{} belongs to no known module", relative.display()));
            continue;
        };
        let text = std::fs::read_to_string(&file).unwrap();
        if text.contains("crate::{") {
            wrong.push(format!("{} imports a group from the root; name the module", relative.display()));
        }
        for import in imports(&text) {
            if import != module && !may.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_rpc_speaks_grpc() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("host");
    let mut files = Vec::new();
    sources(&host, &mut files);
    // The client side: the node calling itself, the command line, the health entries that the node sets, and plain HTTP.
    let clients = ["rpc", "cli", "selfcheck.rs", "node.rs", "net"];
    let wrong: Vec<PathBuf> = files
        .into_iter()
        .filter(|file| !clients.iter().any(|client| file.starts_with(host.join(client))))
        .filter(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            ["tonic::", "use tonic;", "hyper::", "use hyper;", "axum::", "use axum;"]
                .iter()
                .any(|transport| text.contains(transport))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
