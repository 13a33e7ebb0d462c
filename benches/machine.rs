//! Where, when and with what was measured.

use crate::options::Options;
use serde_json::{Value, json};
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names and values, of one level.
pub(crate) fn header(options: &Options) -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let lock = read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap_or_default();
    json!({
        "date": date(),
        "processor": format!("{cores} x {}", field("/proc/cpuinfo", "model name")),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "load": read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "collector": said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
            .map_or(env!("CARGO_PKG_VERSION").to_owned(), |at| format!("{} ({at})", env!("CARGO_PKG_VERSION"))),
        "rustc": said("rustc", &["--version"]).unwrap_or_else(|| "not known".to_owned()),
        "wasmtime": locked(&lock, "wasmtime"),
        "tonic": locked(&lock, "tonic"),
        "profile": if cfg!(debug_assertions) { "dev: figures mean nothing" } else { "release" },
        "size": options.pick(if options.full { "full" } else { "usual" }, "quick: figures mean nothing"),
        "rounds": options.rounds(),
    })
}

/// The first line of such a name in a file of `/proc`.
fn field(file: &str, name: &str) -> String {
    let text = read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_once(':')).map_or("not known".to_owned(), |(_, value)| value.trim().to_owned())
}

/// The version that Cargo.lock has of a package.
pub(crate) fn locked(lock: &str, package: &str) -> String {
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = "));
    version.unwrap_or("not known").trim_matches('"').to_owned()
}

/// What a program says, if it is there.
fn said(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Today in UTC. Source: days to civil date, Howard Hinnant.
fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = i64::try_from(seconds / 86_400).unwrap_or_default() + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let part = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * part + 2) / 5 + 1, if part < 10 { part + 3 } else { part - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3_600 % 24, seconds / 60 % 60)
}
