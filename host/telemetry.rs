//! The log. What is never in it: payloads, credentials, request metadata, a guest's words unescaped.

use crate::domain::one_line;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The `[log]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is logged: `info`, `debug`, or directives as `collector=debug,guest=warn`.
    pub level: String,
    /// For people or for machines.
    pub format: Format,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Text }
    }
}

/// What is logged at a level, whatever libraries would say there.
fn filter(level: &str) -> Result<EnvFilter, anyhow::Error> {
    let filter = EnvFilter::try_new(level);
    let filter = filter.map_err(|why| anyhow::anyhow!("log.level {level:?} is not a filter: {why}"))?;
    // The client of the container engine logs its requests in full: a call's arguments and environment.
    Ok(filter.add_directive("bollard=info".parse()?))
}

/// Sends the log of this process to stderr. Once per process, by whoever owns it (the command line).
///
/// * errors: directives that are none, or a log that is set up already.
pub fn init(config: &Config) -> Result<(), anyhow::Error> {
    let filter = filter(&config.level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        Format::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).finish().try_init()?,
        Format::Json => lines.json().finish().try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        // A caught panic may quote a tenant's bytes: one line, escaped, like everything else in the log.
        tracing::error!(panic = one_line(&panic.to_string(), 2_048), "a task panicked");
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_level_logs_what_calls_carry() {
        for level in ["debug", "trace,bollard=trace", "info"] {
            let filter = filter(level).unwrap().to_string();
            assert!(filter.contains("bollard=info") && !filter.contains("bollard=trace"), "{filter}");
        }
        assert!(filter("no=such=level").is_err());
    }
}
