//! The guests: plugins of this repository by name, and components written by hand.

pub mod big;
pub mod wat;

use bytes::Bytes;
use collector::cli::PluginFile;
use collector::cli::guest::{BuildOptions, Ui, build};
use std::path::Path;

/// RegisterProto.
pub const PROTO: &str = "collector.CollectorRegistry/RegisterProto";

/// The plugins that the suite needs.
const PLUGINS: [&str; 6] = ["errands", "greeter", "hostile", "misbehave", "misbehave-sockets", "misbehave-start"];

/// Guests that a compiler made.
pub struct Guests {
    pub errands: PluginFile,
    pub greeter: PluginFile,
    pub hostile: PluginFile,
    pub misbehave: PluginFile,
    pub sockets: PluginFile,
    pub start: PluginFile,
}

impl Guests {
    /// Builds them; nothing to do when they are built.
    pub fn build() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
        let options = BuildOptions {
            native: false,
            target_dir: Some(folder.join("target")),
            packages: PLUGINS.map(str::to_owned).to_vec(),
            quiet: true,
        };
        let built = build(&folder, None, &options, &Ui::new(false)).map_err(|why| why.to_string())?;
        let load = |name: &str| {
            let path = &built.iter().find(|one| one.package == name).ok_or(format!("no plugin {name}"))?.path;
            let bytes = std::fs::read(path).map_err(|why| format!("{}: {why}", path.display()))?;
            PluginFile::of(Bytes::from(bytes)).map_err(|why| why.to_string())
        };
        Ok(Self {
            errands: load("errands")?,
            greeter: load("greeter")?,
            hostile: load("hostile")?,
            misbehave: load("misbehave")?,
            sockets: load("misbehave-sockets")?,
            start: load("misbehave-start")?,
        })
    }
}
