//! The log: one physical line for each event, so many a second from one place. What is never in it: payloads, credentials,
//! request metadata, a guest's words unescaped.

mod limit;
mod lines;

use crate::domain::one_line;
use limit::Limit;
use lines::Lines;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

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
    let colours = config.format == Format::Text && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer().with_ansi(colours).with_writer(Lines::new(std::io::stderr, colours));
    let limited = tracing_subscriber::registry().with(filter).with(Limit::default());
    match config.format {
        Format::Text => limited.with(lines).try_init()?,
        Format::Json => limited.with(lines.json()).try_init()?,
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
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// What is logged meanwhile.
    fn logged(colours: bool, work: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let out = kept.clone();
        let lines = fmt::layer().with_ansi(colours).with_writer(Lines::new(move || out.clone(), colours));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Limit::default()).with(lines), work);
        kept.lines()
    }

    #[test]
    fn h01_a_hostile_value_stays_on_its_line() {
        let odd = "a\r\nERROR fake\u{1b}[2J\u{202e}";
        for colours in [false, true] {
            let lines = logged(colours, || tracing::warn!(odd, why = %odd, "said {odd}"));
            let [line] = &lines[..] else { panic!("{lines:?}") };
            assert!(!line.contains("\u{1b}[2J") && !line.contains('\r') && !line.contains('\u{202e}'), "{line:?}");
        }
        assert_eq!(logged(false, || tracing::warn!("plain")).len(), 1);
    }

    #[test]
    fn r11_ten_thousand_lines_a_second_are_a_hundred() {
        let lines = logged(false, || {
            let began = tokio::time::Instant::now();
            let say = |namespace: &str, n: u32| tracing::info!(target: "guest", namespace, n, "trapped");
            (0..10_000).for_each(|n| say("noisy", n));
            say("quiet", 1);
            assert!(began.elapsed() < Duration::from_secs(10), "this machine is too slow for this test");
        });
        let of = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        assert!((100..=1_000).contains(&of("namespace=\"noisy\"")), "{}", of("noisy"));
        assert_eq!(of("namespace=\"quiet\""), 1, "others are heard");
    }

    #[test]
    fn no_level_logs_what_calls_carry() {
        for level in ["debug", "trace,bollard=trace", "info"] {
            let filter = filter(level).unwrap().to_string();
            assert!(filter.contains("bollard=info") && !filter.contains("bollard=trace"), "{filter}");
        }
        assert!(filter("no=such=level").is_err());
    }
}
