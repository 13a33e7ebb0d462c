//! A registry that has a few images, as the engine asks it. Source: OCI distribution and image specifications.

use bytes::Bytes;
use collector::domain::{Digest, ImageRef};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What is there, by digest: its type and its bytes.
type Blobs = Arc<Mutex<HashMap<Digest, (&'static str, Bytes)>>>;

/// The registry, on a port of its own. Dropped, it is gone.
pub struct OciRegistry {
    address: SocketAddr,
    blobs: Blobs,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl OciRegistry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (blobs, asked) = (Blobs::default(), Arc::new(Mutex::new(Vec::new())));
        let (served, log) = (Arc::clone(&blobs), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (blobs, log) = (Arc::clone(&served), Arc::clone(&log));
                let service = service_fn(move |request| {
                    log.lock().unwrap().push(request.uri().path().to_owned());
                    let answer = answer(&blobs, &request);
                    async { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, blobs, asked, task }
    }

    /// Its name in front of repositories.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.address.port())
    }

    /// Paths that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Adds an image: files with their modes, and its `config` (`Entrypoint`, `Volumes`).
    pub fn image(&self, repository: &str, files: &[(&str, u32, &[u8])], config: Value) -> ImageRef {
        let tar = archive(files);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let layer = self.add(LAYER, gzip.finish().unwrap());
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let rootfs = json!({ "type": "layers", "diff_ids": [format!("sha256:{}", Digest::of(&tar))] });
        let config = json!({ "architecture": architecture, "os": "linux", "config": config, "rootfs": rootfs });
        let config = self.add(CONFIG, config.to_string().into_bytes());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] }).to_string();
        self.add(MANIFEST, manifest.clone().into_bytes());
        format!("{}/{repository}@sha256:{}", self.host(), Digest::of(manifest.as_bytes())).parse().unwrap()
    }

    /// Keeps bytes; the descriptor that names them.
    fn add(&self, kind: &'static str, bytes: Vec<u8>) -> Value {
        let digest = Digest::of(&bytes);
        let descriptor = json!({ "mediaType": kind, "size": bytes.len(), "digest": format!("sha256:{digest}") });
        self.blobs.lock().unwrap().insert(digest, (kind, bytes.into()));
        descriptor
    }
}

impl Drop for OciRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(blobs: &Blobs, request: &Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let response = Response::builder();
    if request.uri().path() == "/v2/" {
        return response.body(Full::default()).unwrap();
    }
    let named = request.uri().path().rsplit_once("sha256:").and_then(|(_, hex)| hex.parse::<Digest>().ok());
    let found = named.and_then(|digest| blobs.lock().unwrap().get(&digest).cloned().map(|blob| (digest, blob)));
    let Some((digest, (kind, bytes))) = found else {
        let unknown = json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "manifest unknown" }] });
        let response = response.status(404).header("content-type", "application/json");
        return response.body(Full::from(unknown.to_string())).unwrap();
    };
    let head = request.method() == hyper::Method::HEAD;
    let body = if head { Bytes::new() } else { bytes.clone() };
    response
        .header("content-type", kind)
        .header("content-length", bytes.len())
        .header("docker-content-digest", format!("sha256:{digest}"))
        .body(Full::new(body))
        .unwrap()
}

fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}
