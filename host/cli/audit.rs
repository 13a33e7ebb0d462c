//! `collector audit`: the log of changes and refusals, read from the data folder. The node may run meanwhile, or not.

use super::output::Output;
use super::serve::Settings;
use crate::data::AUDIT;
use crate::domain::one_line;
use crate::tenancy::audit::{Record, files, verify};
use anyhow::{Context as _, bail};
use serde_json::json;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::time::Duration;

/// How often a log that is followed is looked at.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest line that is shown, twice what the node writes.
const SHOWN_MAX: usize = 16 << 10;

/// `collector audit`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check every line against the one before it, and name the first that was edited, dropped, moved or cut off
    Verify(Place),
    /// Show the newest lines
    Tail {
        #[command(flatten)]
        place: Place,
        /// How many
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: usize,
        /// Go on with lines as they are written
        #[arg(long, short)]
        follow: bool,
    },
}

/// Where the log is.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    settings: Settings,
    /// The data folder
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Place {
    fn folder(self) -> anyhow::Result<PathBuf> {
        let data = match self.data {
            Some(data) => data,
            None => self.settings.load()?.data,
        };
        Ok(data.join(AUDIT))
    }
}

pub(super) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Verify(place) => check(place, output),
        Command::Tail { place, lines, follow } => tail(place, lines, follow, output),
    }
}

fn unreadable(folder: &std::path::Path) -> String {
    format!("cannot read the audit log in {}: name the node's data folder with --data", folder.display())
}

fn check(place: Place, output: &Output) -> anyhow::Result<()> {
    let folder = place.folder()?;
    let found = verify(&folder).with_context(|| unreadable(&folder))?;
    let notes: Vec<String> = found.notes.iter().map(|note| one_line(note, 512)).collect();
    let problem = found
        .problem
        .as_ref()
        .map(|problem| json!({ "file": problem.file, "line": problem.line, "what": one_line(&problem.what, 512) }));
    let value = json!({
        "ok": found.problem.is_none(),
        "files": found.files,
        "first": found.first,
        "last": found.last,
        "hash": found.hash,
        "notes": notes,
        "problem": problem,
    });
    let mut text = format!("{} files, records {} to {} are as they were written", found.files, found.first, found.last);
    text.push_str(&format!("\nhash of record {}: {}", found.last, found.hash));
    text.push_str("\nkeep it in another place: who can write to this folder can make a new chain, but not this hash");
    for note in &notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    output.answer(&text, &value);
    match found.problem {
        None => Ok(()),
        Some(problem) if problem.line == 0 => bail!("{}: {}", problem.file, one_line(&problem.what, 512)),
        Some(problem) => bail!("{} line {}: {}", problem.file, problem.line, one_line(&problem.what, 512)),
    }
}

fn tail(place: Place, lines: usize, follow: bool, output: &Output) -> anyhow::Result<()> {
    let folder = place.folder()?;
    let all = files(&folder).with_context(|| unreadable(&folder))?;
    // As many of the newest files as it takes.
    let mut newest = VecDeque::new();
    let mut reader = None;
    for path in all.iter().rev() {
        let mut file = BufReader::new(File::open(path)?);
        let mut these = VecDeque::new();
        read(&mut file, |line| {
            these.push_back(line);
            if these.len() > lines {
                these.pop_front();
            }
            Ok(true)
        })?;
        reader.get_or_insert((path.clone(), file));
        these.append(&mut newest);
        newest = these;
        if newest.len() >= lines {
            break;
        }
    }
    let extra = newest.len().saturating_sub(lines);
    for line in newest.into_iter().skip(extra) {
        if !show(&line, output)? {
            return Ok(());
        }
    }
    let Some((mut path, mut file)) = reader.filter(|_| follow) else { return Ok(()) };
    loop {
        if !read(&mut file, |line| show(&line, output))? {
            return Ok(());
        }
        // A newer file: this one gets no more lines, and the ones between were whole when it began.
        let next = files(&folder)?.into_iter().find(|one| *one > path);
        match next {
            Some(next) => {
                if !read(&mut file, |line| show(&line, output))? {
                    return Ok(());
                }
                file = BufReader::new(File::open(&next)?);
                path = next;
            }
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// Reads whole lines up to the end of the file as it is now; the rest of one stays for the next time.
///
/// * returns: false if `take` wants no more.
fn read(file: &mut BufReader<File>, mut take: impl FnMut(Vec<u8>) -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    loop {
        let mut line = Vec::new();
        let count = file.read_until(b'\n', &mut line)?;
        if line.pop_if(|last| *last == b'\n').is_none() {
            file.seek_relative(-i64::try_from(count)?)?;
            return Ok(true);
        }
        if !take(line)? {
            return Ok(false);
        }
    }
}

/// Shows one line: as it stands for programs, in columns for people.
fn show(line: &[u8], output: &Output) -> anyhow::Result<bool> {
    let raw = String::from_utf8_lossy(line);
    if output.is_json() {
        return output.line(&one_line(&raw, SHOWN_MAX));
    }
    let Some(record) = Record::read(line) else {
        return output.line(&format!("?? {}", one_line(&raw, SHOWN_MAX)));
    };
    let mut text = format!("{:>6} {} {:<7}", record.seq, record.time, record.kind());
    let source = record.source.map(|source| source.to_string());
    let of = record.of.map(|of| format!("of {of}"));
    let left_out = record.left_out.map(|count| format!("{count} more not written"));
    let words = [&record.caller, &source, &record.verb, &record.namespace, &record.action, &record.request];
    for word in words.into_iter().chain([&of, &record.outcome, &left_out, &record.note]).flatten() {
        text.push(' ');
        text.push_str(word);
    }
    output.line(&one_line(&text, SHOWN_MAX))
}
