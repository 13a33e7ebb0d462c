//! One program that measures what the node costs, beside the floors under it and its peers, in one run.
//!
//! `cargo bench --bench collector-bench -- all` prints a table; `-- --help` tells the rest, `-- list` what there is.
//! Nodes, the echo (the floor), the load and noisy neighbours are processes of their own; the last three are this program
//! again. What is compared is measured in turns, round by round, so that whatever else the machine does meets all of it.
//!
//! A group is a module with a function that returns rows; its line in `groups.rs` makes it known.

mod calls;
mod cold;
mod collections;
mod density;
mod echo;
mod exec;
mod groups;
mod growth;
mod load;
mod machine;
mod mesh;
mod node;
mod options;
mod peers;
mod plugins;
mod process;
mod registry;
mod report;
mod tenancy;

use clap::Parser as _;
use options::Options;
use report::Report;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--load", ..] = words[..] {
        // One thread, as h2load has: the generator takes a core at most, and leaves the others to what it loads.
        return done(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(load::serve()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words[..] {
        ["--echo", ..] => done(runtime.block_on(echo::serve())),
        ["--noise", address, what, ref token @ ..] => {
            done(runtime.block_on(tenancy::noise(address, what, token.first().copied())))
        }
        _ => runtime.block_on(measure(&Options::parse())),
    }
}

fn done(ended: Result<(), Failure>) -> Result<ExitCode, Failure> {
    ended.map(|()| ExitCode::SUCCESS)
}

async fn measure(options: &Options) -> Result<ExitCode, Failure> {
    if options.wants_list() {
        groups::list();
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = groups::chosen(&options.groups)?;
    let before = options.compare.as_deref().map(report::Before::read).transpose()?;
    let mut report = Report::new(machine::header(options));
    report.print_header();
    for group in chosen {
        report.begin(group.name, group.about);
        match group.rows(options).await {
            Ok(rows) => report.rows(rows),
            Err(why) => report.failed(&why.to_string()),
        }
    }
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    if let Some(folder) = &options.svg {
        report.write_charts(folder)?;
    }
    let worse = before.map(|before| report.compare(&before)).unwrap_or_default();
    Ok(if report.all_ran() && worse == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
