//! Making images: from a binary, or by a pull. Few at once, and a short line before them.

use super::engine::{Engine, PATIENCE};
use super::images::Image;
use super::life::NODE_LABEL;
use super::pull;
use super::warm::RUNNER;
use crate::domain::{Digest, Namespace};
use crate::exec::load::{blocking, read};
use crate::exec::{Code, ExecError, Origin};
use crate::fair::{Slots, WEIGHT};
use bollard::body_stream;
use bollard::models::ImageSummary;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use std::sync::Arc;
use tokio::sync::Notify;

/// Label of an image made from a binary: the binary's digest.
const DIGEST_LABEL: &str = "collector.digest";
/// Label of an image made from a binary: what else is in it, by digest. Another version of this program makes it anew.
const RUNNER_LABEL: &str = "collector.runner";
/// Label of an image made from a binary: that this node has made it. Whoever builds an image chooses its other labels.
const SEAL_LABEL: &str = "collector.seal";
/// What the node's key is used for here. Source: blake3, `derive_key`.
const CONTEXT: &str = "collector 2026-11 images made from binaries";
/// Binaries that are read and handed over at once: each is in memory twice meanwhile.
const IMPORTS: usize = 2;
/// Images that are pulled at once: each is up to a GiB of other people's network and of the engine's disk.
const PULLS: usize = 2;
/// Images of each sort that may wait to be made. 16: with a second each that is as long as a caller waits.
const WAITING: usize = 16;
/// Bytes that go to the engine at once: how often it has to show that it takes them.
const PIECE: usize = 64 << 10;

/// Makes images, each when nobody else does.
pub(super) struct Maker {
    engine: Arc<Engine>,
    imports: Slots,
    pulls: Slots,
    /// Digest of the runner that goes into images of binaries; `None` where no container is kept.
    runner: Option<Digest>,
    key: [u8; 32],
}

/// Whose an image is that the engine has.
pub(super) enum Made {
    /// This node's, of the binary with this digest, and of use.
    Ours(Digest),
    /// This node's, and of no use to this version of it.
    Old,
    /// Somebody else's, whatever it says of itself.
    Other,
}

impl Maker {
    /// * `node_key`: authenticates what this node has made.
    /// * `with_runner`: whether images of binaries can be kept running between calls.
    pub(super) fn new(engine: &Arc<Engine>, node_key: &[u8; 32], with_runner: bool) -> Self {
        Self {
            engine: Arc::clone(engine),
            imports: Slots::new(IMPORTS, WAITING),
            pulls: Slots::new(PULLS, WAITING),
            runner: with_runner.then(|| Digest::of(RUNNER)),
            key: blake3::derive_key(CONTEXT, node_key),
        }
    }

    /// An image that is made is for whoever asks for it, so all stand in one line: the node's.
    ///
    /// * errors: `Busy` if too many are made already, `Missing`, `Pull`, `Image`, `Broken`.
    pub(super) async fn make(&self, code: &Code) -> Result<Image, ExecError> {
        match &code.origin {
            Origin::File(_) => {
                let _turn = self.imports.take(&Namespace::system(), WEIGHT).await?;
                self.import(code).await
            }
            Origin::Image(image) => {
                let _turn = self.pulls.take(&Namespace::system(), WEIGHT).await?;
                let ours = pull::get(&self.engine, image).await?;
                Ok(Image::new(&self.engine, image.to_string(), ours))
            }
        }
    }

    /// Hands the binary to the engine as the only file of an image. Nothing of it runs, nothing else is in it.
    async fn import(&self, code: &Code) -> Result<Image, ExecError> {
        let binary = read(code).await?;
        let runner = self.runner.is_some();
        let tar = blocking(move || archive(&binary, runner)).await?.map_err(ExecError::internal)?;
        let runner = self.runner_label();
        let labels = [
            (NODE_LABEL, self.engine.node.clone()),
            (DIGEST_LABEL, code.digest.to_string()),
            (SEAL_LABEL, self.seal(&code.digest, &runner).to_hex().to_string()),
            (RUNNER_LABEL, runner),
        ];
        let labels = labels.iter().map(|(name, value)| format!("LABEL {name}={value}")).collect();
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(&self.engine.config.image)
            .tag(&self.tag(&code.digest))
            .changes(labels)
            .build();
        let id = self.hand_over(options, tar).await?.filter(|id| id.starts_with("sha256:"));
        let id = id.ok_or_else(|| ExecError::Broken("the container engine made no image".to_owned()))?;
        Ok(Image::new(&self.engine, id, true))
    }

    /// The engine's last word on it. An engine that neither takes a piece nor says anything for a while is gone.
    async fn hand_over(
        &self,
        options: bollard::query_parameters::CreateImageOptions,
        tar: Bytes,
    ) -> Result<Option<String>, ExecError> {
        const WHAT: &str = "import a binary";
        let moved = Arc::new(Notify::new());
        let docker = self.engine.docker().await?;
        let mut said = docker.create_image(Some(options), Some(body_stream(pieces(tar, Arc::clone(&moved)))), None);
        let mut last = None;
        loop {
            let line = tokio::select! {
                line = said.next() => line,
                () = moved.notified() => continue,
                () = tokio::time::sleep(PATIENCE) => return Err(self.engine.lost(WHAT, "no progress in time").into()),
            };
            match line {
                Some(Ok(line)) => last = line.status.or(last),
                Some(Err(why)) => return Err(self.engine.failed(WHAT, &why).into()),
                None => return Ok(last),
            }
        }
    }

    /// Whose it is. Labels alone say nothing: a seal does that only this node can set, and that a registry gave it
    /// speaks against it.
    pub(super) fn whose(&self, image: &ImageSummary) -> Made {
        let label = |name: &str| image.labels.get(name).map(String::as_str).unwrap_or_default();
        let runner = label(RUNNER_LABEL);
        let sealed = |digest: &Digest| {
            // blake3's hashes compare in constant time.
            blake3::Hash::from_hex(label(SEAL_LABEL)).is_ok_and(|seal| seal == self.seal(digest, runner))
        };
        let Some(digest) = label(DIGEST_LABEL).parse().ok().filter(sealed) else { return Made::Other };
        let tag = format!("{}:{}", familiar(&self.engine.config.image), self.tag(&digest));
        let in_place = image.repo_tags == [tag] && image.repo_digests.is_empty();
        match in_place && runner == self.runner_label() {
            true => Made::Ours(digest),
            false => Made::Old,
        }
    }

    fn seal(&self, digest: &Digest, runner: &str) -> blake3::Hash {
        // No part has a zero byte in it.
        let text = [digest.to_string().as_str(), runner, &self.engine.node].join("\0");
        blake3::keyed_hash(&self.key, text.as_bytes())
    }

    /// With the node in it: nodes that share an engine must not take each other's tags away.
    fn tag(&self, digest: &Digest) -> String {
        format!("{}-{digest}", self.engine.node)
    }

    fn runner_label(&self) -> String {
        self.runner.map_or_else(|| "none".to_owned(), |runner| runner.to_string())
    }
}

/// A repository as the engine lists it: without the names of the registry that it asks by default.
fn familiar(repository: &str) -> &str {
    let short = repository.strip_prefix("docker.io/").unwrap_or(repository);
    short.strip_prefix("library/").unwrap_or(short)
}

/// The same bytes, saying whenever some of them are taken.
fn pieces(all: Bytes, moved: Arc<Notify>) -> impl Stream<Item = Bytes> {
    stream::unfold(all, move |mut left| {
        moved.notify_one();
        let piece = left.split_to(left.len().min(PIECE));
        async { (!piece.is_empty()).then_some((piece, left)) }
    })
}

/// The root folder of an image: the binary, which nobody may change, and the folder that its scratch space goes to.
fn archive(binary: &[u8], runner: bool) -> std::io::Result<Bytes> {
    let mut tar = tar::Builder::new(Vec::with_capacity(binary.len() + RUNNER.len() + (16 << 10)));
    let mut file = |name: &str, kind: tar::EntryType, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes)
    };
    file("tmp/", tar::EntryType::Directory, 0o1777, &[])?;
    file("plugin", tar::EntryType::Regular, 0o555, binary)?;
    if runner {
        file("runner", tar::EntryType::Regular, 0o555, RUNNER)?;
    }
    tar.into_inner().map(Bytes::from)
}
