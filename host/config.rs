//! One configuration: a struct of each module's own. Flags > `COLLECTOR_*` > file > defaults; unknown keys are refused.
//!
//! A key of the file is `section.key`, in the environment `COLLECTOR_SECTION__KEY`, as a flag `--set section.key=value`.

mod origin;

pub use origin::{Origin, Origins, leaves};

use crate::collections;
use crate::dispatch::{artifacts, deployments};
use crate::domain::{Limits, Namespace};
use crate::exec::{self, wasm};
use crate::files;
use crate::mesh;
use crate::net;
use crate::registry;
use crate::rpc;
use crate::store;
use crate::telemetry;
use crate::tenancy::{self, audit};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The whole configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data folder: artifacts, compiled code, the node's key and identity. One node at a time.
    pub data: PathBuf,
    /// The port and its connections.
    pub server: rpc::Config,
    /// Who may call.
    pub auth: tenancy::Config,
    /// What one call may use.
    pub limits: Limits,
    /// Uploaded code.
    pub artifacts: artifacts::Config,
    /// Deployed code.
    pub deployments: deployments::Config,
    /// Registered types.
    pub registry: registry::Config,
    /// Collections of records.
    pub collections: collections::Config,
    /// Space that tenants' writes leave free.
    pub store: store::Headroom,
    /// Files of guests.
    pub files: files::Config,
    /// The Wasm engine.
    pub wasm: wasm::Config,
    /// What runs beside Wasm.
    pub exec: exec::Config,
    /// The way out, for plugins.
    pub net: net::Config,
    /// Which namespaces there are.
    pub tenancy: tenancy::NamespacesConfig,
    /// What namespaces and callers may use.
    pub quotas: tenancy::QuotaConfig,
    /// What the node is among others.
    pub mesh: mesh::Config,
    /// Which others those are. Set in a file: there is one section for each.
    pub peers: Vec<mesh::Entry>,
    /// The log.
    pub log: telemetry::Config,
    /// The log of changes and refusals.
    pub audit: audit::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            server: rpc::Config::default(),
            auth: tenancy::Config::default(),
            limits: Limits::default(),
            artifacts: artifacts::Config::default(),
            deployments: deployments::Config::default(),
            registry: registry::Config::default(),
            collections: collections::Config::default(),
            files: files::Config::default(),
            store: store::Headroom::default(),
            wasm: wasm::Config::default(),
            exec: exec::Config::default(),
            net: net::Config::default(),
            tenancy: tenancy::NamespacesConfig::default(),
            quotas: tenancy::QuotaConfig::default(),
            mesh: mesh::Config::default(),
            peers: Vec::new(),
            log: telemetry::Config::default(),
            audit: audit::Config::default(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("cannot read the configuration {path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {why}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        why: Box<toml::de::Error>,
    },
    /// A flag or variable names no key.
    #[error("{0} names no setting: write section.key=value")]
    NoKey(String),
    /// An unknown key, or a value of the wrong type.
    #[error("{0}")]
    Value(String),
    /// A limit that cannot be kept.
    #[error(transparent)]
    Limits(#[from] crate::domain::LimitsError),
    /// A setting of who may call.
    #[error(transparent)]
    Auth(#[from] tenancy::BadSetting),
    /// A setting of what runs beside Wasm.
    #[error(transparent)]
    Exec(#[from] exec::BadSetting),
    /// A setting of the way out.
    #[error(transparent)]
    Net(#[from] net::BadSetting),
    /// A setting of files.
    #[error(transparent)]
    Files(#[from] files::BadSetting),
    /// A setting of peers.
    #[error(transparent)]
    Mesh(#[from] mesh::BadSetting),
    /// A setting of the port that cannot be kept.
    #[error(transparent)]
    Server(#[from] rpc::BadSetting),
}

/// The key that a variable sets. Others that start alike are somebody else's: Kubernetes gives every pod
/// `COLLECTOR_SERVICE_HOST` and more beside a Service called collector.
fn setting(name: &str) -> Option<&str> {
    let key = name.strip_prefix("COLLECTOR_")?;
    (key.contains("__") || key == "DATA").then_some(key)
}

impl Config {
    /// Puts the layers together.
    ///
    /// * `file`: the configuration file, if any.
    /// * `environment`: variables; all but `COLLECTOR_DATA` and `COLLECTOR_SECTION__KEY` are passed over.
    /// * `flags`: `section.key=value`, the last one of a key wins.
    /// * errors: a key or value that does not fit, naming it; never a silent default.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, ConfigError> {
        Self::load_with_origins(file, environment, flags).map(|(config, _)| config)
    }

    /// The same, and where each setting came from.
    pub fn load_with_origins(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<(Self, Origins), ConfigError> {
        let mut table = match file {
            Some(path) => read(path)?,
            None => Table::new(),
        };
        let mut origins = Origins::default();
        origins.note_all(&table);
        for (name, value) in environment {
            if let Some(key) = setting(&name) {
                let path: Vec<String> = key.to_lowercase().split("__").map(str::to_owned).collect();
                if set(&mut table, &path, &value).is_none() {
                    return Err(ConfigError::NoKey(name));
                }
                origins.note(path.join("."), Origin::Variable(name));
            }
        }
        for flag in flags {
            let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::NoKey(flag.clone()))?;
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            set(&mut table, &path, value).ok_or_else(|| ConfigError::NoKey(flag.clone()))?;
            origins.note(key.to_owned(), Origin::Flag);
        }
        let config: Self = table
            .try_into()
            .map_err(|why: toml::de::Error| ConfigError::Value(format!("configuration: {}", why.to_string().trim())))?;
        config.check()?;
        Ok((config, origins))
    }

    /// The namespace of requests that name none.
    ///
    /// * errors: the setting is no name.
    pub fn default_namespace(&self) -> Result<Namespace, ConfigError> {
        let name = &self.server.default_namespace;
        name.parse().map_err(|why| ConfigError::Value(format!("server.default_namespace {why}")))
    }

    /// What there is to know peers by.
    pub fn ground(&self) -> mesh::Ground {
        let (tls, mesh) = (&self.server.tls, &self.mesh);
        let named = |path: &Path| !path.as_os_str().is_empty();
        mesh::Ground {
            tls: tls.is_on(),
            authorities: named(&tls.client_ca),
            certificate: named(&mesh.certificate) || named(&tls.certificate),
            asks: self.auth.is_required(),
            insecure: self.server.insecure,
        }
    }

    /// Refuses combinations that cannot be kept.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.limits.check()?;
        self.server.check()?;
        self.auth.check()?;
        self.exec.check()?;
        self.files.check()?;
        self.net.check()?;
        self.mesh.check(&self.peers, self.ground())?;
        self.quotas.check().map_err(|why| ConfigError::Value(format!("quotas: {why}")))?;
        self.default_namespace()?;
        if !self.wasm.metering && self.limits.fuel > 0 {
            return Err(ConfigError::Value("limits.fuel needs wasm.metering = true".to_owned()));
        }
        for (key, zero) in [
            ("wasm.slots", self.wasm.slots == 0),
            ("wasm.streams", self.wasm.streams == 0),
            ("wasm.nested", self.wasm.nested == 0),
            ("wasm.compilers", self.wasm.compilers == 0),
            ("wasm.programs_mib", self.wasm.programs_mib == 0),
            ("wasm.compile_queue", self.wasm.compile_queue == 0),
            ("wasm.compile_queue_own", self.wasm.compile_queue_own == 0),
            ("wasm.compile_seconds", self.wasm.compile_seconds == 0),
            ("wasm.compile_memory_mib", self.wasm.compile_memory_mib == 0),
            ("server.connections", self.server.connections == 0),
            ("server.streams", self.server.streams == 0),
            ("audit.file_mib", self.audit.file_mib == 0),
            ("artifacts.max_mib", self.artifacts.max_mib == 0),
            ("tenancy.count", self.tenancy.count == 0),
            ("deployments.versions", self.deployments.versions == 0),
        ] {
            if zero {
                return Err(ConfigError::Value(format!("{key} must be above 0")));
            }
        }
        for (key, places, most) in [("wasm.slots", self.wasm.slots, 4_096), ("wasm.nested", self.wasm.nested, 512)] {
            if places > most {
                let problem = format!("{key} must be at most {most}: each place reserves 4 GiB of addresses");
                return Err(ConfigError::Value(problem));
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|why| ConfigError::File { path: path.to_owned(), why })?;
    text.parse().map_err(|why| ConfigError::Syntax { path: path.to_owned(), why: Box::new(why) })
}

/// Puts a value at a path; `None` if the path leads nowhere.
fn set(table: &mut Table, path: &[String], value: &str) -> Option<()> {
    let (key, rest) = path.split_first()?;
    if key.is_empty() {
        return None;
    }
    if rest.is_empty() {
        table.insert(key.clone(), scalar(value));
        return Some(());
    }
    let below = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
    set(below.as_table_mut()?, rest, value)
}

/// A number or a truth value where the text is one, else the text.
fn scalar(text: &str) -> Value {
    match (text.parse::<i64>(), text.parse::<bool>()) {
        (Ok(number), _) => Value::Integer(number),
        (_, Ok(truth)) => Value::Boolean(truth),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn load(file: &str, env: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("collector.toml");
        std::fs::write(&path, file).unwrap();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Config::load(Some(&path), vars(env), &flags)
    }

    #[test]
    fn nearer_layers_win() {
        let file = "[limits]\nmemory_mib = 10\nlog_bytes = 1\nfuel = 7";
        let env = [
            ("COLLECTOR_LIMITS__MEMORY_MIB", "20"),
            ("COLLECTOR_LIMITS__FUEL", "8"),
            ("HOME", "x"),
            ("COLLECTOR_SERVICE_HOST", "10.0.0.1"),
        ];
        let config = load(file, &env, &["limits.fuel=9", "server.listen=127.0.0.1:1"]).unwrap();
        assert_eq!((config.limits.log_bytes, config.limits.memory_mib, config.limits.fuel), (1, 20, 9));
        assert_eq!(config.server.listen.port(), 1);
        assert_eq!(config.limits.resources, Limits::default().resources);
    }

    #[test]
    fn origins_come_as_a_list_or_with_commas() {
        let wanted = ["https://a.example", "http://localhost:5173"];
        let file =
            load("[server]\ncors_origins = [\"https://a.example\", \"http://localhost:5173\"]", &[], &[]).unwrap();
        let flag = load("", &[], &["server.cors_origins=https://a.example, http://localhost:5173"]).unwrap();
        assert_eq!(
            (file.server.cors_origins, flag.server.cors_origins),
            (wanted.map(str::to_owned).to_vec(), wanted.map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn executors_come_from_files_variables_and_flags() {
        use exec::Native::{Container, Memexec};
        let file = "[exec]\nnative = [\"memexec\", \"container\"]\n[exec.namespaces]\nacme = [\"memexec\"]\n\"*\" = []";
        let from_file = load(file, &[], &[]).unwrap().exec;
        let variables =
            [("COLLECTOR_EXEC__NATIVE", "memexec,container"), ("COLLECTOR_EXEC__NAMESPACES__ACME", "memexec")];
        let from_variables = load("", &variables, &["exec.namespaces.*="]).unwrap().exec;
        let flags = ["exec.native=memexec, container", "exec.namespaces.acme=memexec", "exec.namespaces.*="];
        let from_flags = load("", &[], &flags).unwrap().exec;
        assert_eq!(from_file.native, [Memexec, Container]);
        assert_eq!((&from_file, &from_file), (&from_variables, &from_flags));
        let images = load("", &[("COLLECTOR_EXEC__CONTAINER__IMAGES", "tool,registry.example/team/*")], &[]).unwrap();
        assert_eq!(images.exec.container.images, ["tool", "registry.example/team/*"]);

        let says = |file: &str, flags: &[&str]| load(file, &[], flags).unwrap_err().to_string();
        for said in [
            says("", &["exec.native=memexec,dockr"]),
            says("[exec]\nnative = [\"dockr\"]", &[]),
            says("", &["exec.namespaces.acme=dockr"]),
        ] {
            assert!(said.contains("`dockr`, expected `memexec` or `container`"), "{said}");
        }
        assert!(says("", &["exec.namespaces._=memexec"]).contains("exec.namespaces: \"_\""));
        assert!(says("", &["exec.memexec.slots=0"]).contains("exec.memexec.slots"));
        assert!(says("", &["exec.container.memory_mib=5"]).contains("exec.container.memory_mib"));
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        let says = |file: &str, env: &[(&str, &str)], flags: &[&str]| load(file, env, flags).unwrap_err().to_string();
        assert!(says("[limit]\nx = 1", &[], &[]).contains("limit"));
        assert!(says("", &[("COLLECTOR_LIMITS__MEMROY", "1")], &[]).contains("memroy"));
        assert!(says("", &[], &["limits.memory_mib=lots"]).contains("memory_mib"));
        assert!(says("", &[], &["limits.memory_mib=0"]).contains("memory_mib"));
        assert!(says("", &[], &["data"]).contains("data"));
        assert!(says("", &[], &["wasm.metering=false", "limits.fuel=1"]).contains("metering"));
        assert!(says("not toml", &[], &[]).contains("not valid TOML"));
        let origins = says("", &[], &["server.cors_origins=https://a.example,b.example"]);
        assert!(origins.contains("server.cors_origins") && origins.contains("b.example"), "{origins}");
        assert!(says("", &[], &["server.default_namespace=a/b"]).contains("server.default_namespace"));
        let missing = Config::load(Some(Path::new("no-such-file.toml")), [], &[]);
        assert!(matches!(missing, Err(ConfigError::File { .. })));
    }

    #[test]
    fn each_setting_knows_its_layer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("collector.toml");
        std::fs::write(&path, "[limits]\nmemory_mib = 10\nfuel = 7\n[exec.namespaces]\nacme = [\"memexec\"]").unwrap();
        let flags = ["limits.fuel=9".to_owned()];
        let variables = vars(&[("COLLECTOR_LIMITS__LOG_BYTES", "20"), ("COLLECTOR_LIMITS__FUEL", "8")]);
        let (config, origins) = Config::load_with_origins(Some(&path), variables, &flags).unwrap();
        let of = |key: &str| origins.of(key).to_string();
        assert_eq!((of("limits.memory_mib"), of("limits.fuel")), ("file".to_owned(), "flag".to_owned()));
        assert_eq!(of("limits.log_bytes"), "COLLECTOR_LIMITS__LOG_BYTES");
        assert_eq!((of("limits.resources"), of("exec.namespaces.acme")), ("default".to_owned(), "file".to_owned()));
        let all = leaves(&Table::try_from(&config).unwrap());
        let find = |key: &str| all.iter().find(|(name, _)| name == key).map(|(_, value)| value.to_string());
        assert_eq!((find("limits.fuel"), find("data")), (Some("9".to_owned()), Some("\"data\"".to_owned())));
    }

    #[test]
    fn defaults_pass_their_own_check() {
        assert!(Config::default().check().is_ok());
        assert_eq!(Config::load(None, [], &[]).unwrap(), Config::default());
    }
}
