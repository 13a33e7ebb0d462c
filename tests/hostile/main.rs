//! `collector-hostile`: the attacks of threats.md (groups T, P, D, W, R, H, U, O) against a running node.
//!
//! Without arguments it starts a node of its own, attacks it with every case once, checks after each that the node is
//! well (invariants I1 to I7), and fails when a case does. `--address` attacks any node; what only its own process tells
//! is not checked then. `cargo test --test collector-hostile -- --help` has the rest.
//!
//! A case is a value ([`case::Case`]); the modules of [`cases`] have them, by group.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::large_futures,
    missing_docs,
    unreachable_pub,
    reason = "a test, although clippy does not see it: its tasks end with its runtime, and it may panic"
)]

mod audit;
mod bystander;
mod case;
mod cases;
mod dial;
mod guests;
mod messages;
mod node;
mod outside;
mod process;
mod raw;
mod report;
mod sample;
mod selftest;
mod suite;
mod target;
mod wire;

use case::{Case, Cost};
use clap::Parser as _;
use process::Slack;
use report::{Outcome, Row};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use suite::{Place, Suite};
use tokio::time::Instant;

/// Attacks a node, and checks that it does not mind
#[derive(Debug, clap::Parser)]
#[command(name = "collector-hostile")]
struct Args {
    /// Only cases whose id begins so, in any case
    filter: Option<String>,
    /// Attack this node (http://HOST:PORT or https://HOST:PORT) instead of one of my own
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// The attacker's token
    #[arg(long, requires = "address", value_name = "T", env = "HOSTILE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The bystander's token [default: the attacker's]
    #[arg(long, requires = "address", value_name = "T", env = "HOSTILE_BYSTANDER_TOKEN", hide_env_values = true)]
    bystander_token: Option<String>,
    /// An administrator's token, for cases that take away what was granted [default: the attacker's]
    #[arg(long, requires = "address", value_name = "T", env = "HOSTILE_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// Ends the names of the namespaces, for tokens that are bound to them: attacker-NAME, and the same with -b to -e, and
    /// bystander-NAME [default: of this run alone]
    #[arg(long, requires = "address", value_name = "NAME")]
    run: Option<String>,
    /// Who signed the node's certificate (PEM)
    #[arg(long, requires = "address", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The node to start [default: the one that was built with me]
    #[arg(long, value_name = "FILE", conflicts_with = "address")]
    program: Option<PathBuf>,
    /// A setting of the node to start; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", conflicts_with = "address")]
    set: Vec<String>,
    /// These cases
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    case: Vec<String>,
    /// Cases of these groups: T, P, D, W, R, H, U, O
    #[arg(long, value_delimiter = ',', value_name = "LETTER")]
    group: Vec<String>,
    /// List the cases and end
    #[arg(long)]
    list: bool,
    /// Each case as large as threats.md has it: an hour and more
    #[arg(long)]
    full: bool,
    /// Every case so many times
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: u64,
    /// Then cases at random until so many hostile calls were made
    #[arg(long, value_name = "N")]
    calls: Option<u64>,
    /// Where chance begins [default: the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write what came of it as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table between the markers of this file
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Only show that every invariant is found broken when it is
    #[arg(long)]
    self_test: bool,
    #[arg(long, hide = true)]
    leak: Option<String>,
    #[command(flatten)]
    harness: Harness,
}

/// What `cargo test` hands to every test program.
#[derive(Debug, clap::Args)]
struct Harness {
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    no_capture: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    format: Option<String>,
    #[arg(long, hide = true)]
    color: Option<String>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
}

impl Args {
    fn wants(&self, case: &Case) -> bool {
        let named = |id: &str| self.case.iter().any(|wanted| wanted.eq_ignore_ascii_case(id));
        let group = |id: &str| self.group.iter().any(|wanted| wanted.eq_ignore_ascii_case(id));
        let filter = self.filter.as_ref().is_none_or(|filter| {
            let begins = case.id.get(..filter.len()).unwrap_or_default();
            begins.eq_ignore_ascii_case(filter) && !filter.is_empty()
        });
        let all = self.case.is_empty() && self.group.is_empty();
        filter && !self.harness.ignored && (all || named(case.id) || group(case.group()))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(what) = &args.leak {
        selftest::leak_on_demand(what);
        return ExitCode::SUCCESS;
    }
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| args.wants(case)).collect();
    if args.list {
        for case in &cases {
            println!("{:<6} {} -> {}", case.id, case.title, case.wants);
        }
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() && !args.self_test {
        println!("no such case");
        return if args.case.is_empty() && args.group.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(run(&args, &cases)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("the suite cannot run: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything held.
async fn run(args: &Args, cases: &[Case]) -> Result<bool, String> {
    let colours = std::io::stdout().is_terminal();
    let began = Instant::now();
    let mut rows = Vec::new();
    let tell = |rows: &mut Vec<Row>, row: Row| {
        row.print(colours);
        rows.push(row);
    };
    let missing = cases::missing();
    if !missing.is_empty() {
        return Err(format!("threats.md lists cases that are none here: {}", missing.join(", ")));
    }
    let (outcome, figure) = match selftest::run().await {
        Ok(figure) => (Outcome::Held, figure),
        Err(why) => (Outcome::Failed, why),
    };
    tell(&mut rows, Row::whole("SELF", outcome, figure, began.elapsed()));
    if args.self_test {
        return Ok(outcome == Outcome::Held);
    }
    let seed = args.seed.unwrap_or_else(clock);
    println!("seed {seed}");
    let suite = Suite::start(place(args), args.run.as_deref(), seed, args.full).await?;
    let baseline = suite.warm_up().await?;
    let waiting: Vec<&Case> = cases.iter().filter(|case| case.cost == Cost::Waits).collect();
    if !waiting.is_empty() {
        for row in suite.run_together(&waiting).await {
            tell(&mut rows, row);
        }
    }
    for round in 0..args.repeat {
        for case in cases.iter().filter(|case| case.cost != Cost::Waits) {
            tell(&mut rows, suite.run(case, round).await);
        }
    }
    if let Some(calls) = args.calls {
        tell(&mut rows, sample::sample(&suite, cases, calls, seed).await);
    }
    if let Some((watched, before)) = suite.watched().zip(baseline) {
        let left = watched.settles(&before, Slack::RUN).await;
        let now = watched.held().map_or(0, |held| held.rss_kib >> 10);
        let figure = format!("{} calls; {} MiB before, {now} MiB after", suite.seen.calls(), before.rss_kib >> 10);
        let (outcome, figure) = match left.is_empty() {
            true => (Outcome::Held, figure),
            false => (Outcome::Failed, format!("{}; {figure}", left.join("; "))),
        };
        tell(&mut rows, Row::whole("RUN", outcome, figure, began.elapsed()));
    } else {
        let why = "memory, descriptors, threads and the log show in the node's own process only".to_owned();
        tell(&mut rows, Row::whole("RUN", Outcome::Skipped, why, began.elapsed()));
    }
    // In the order of threats.md, not of the run.
    let order = |row: &Row| cases.iter().position(|case| case.id == row.id).unwrap_or(usize::MAX);
    rows.sort_by_key(order);
    if let Some(file) = &args.json {
        report::write_json(file, seed, &rows).map_err(|why| why.to_string())?;
    }
    if let Some(file) = &args.table {
        report::write_table(file, &rows)?;
    }
    let count = |outcome: Outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    println!(
        "{} held, {} failed, {} skipped in {:.0} s",
        count(Outcome::Held),
        count(Outcome::Failed),
        count(Outcome::Skipped),
        began.elapsed().as_secs_f64()
    );
    let failed = count(Outcome::Failed) > 0;
    if let Some(node) = suite.node.as_ref().filter(|_| failed) {
        let tail = node.log_tail();
        let lines: Vec<&str> = tail.lines().rev().take(40).collect();
        eprintln!("the end of the node's log:");
        lines.into_iter().rev().for_each(|line| eprintln!("{line}"));
    }
    Ok(!failed)
}

fn place(args: &Args) -> Place {
    match &args.address {
        Some(url) => Place::Given {
            url: url.clone(),
            ca: args.ca.clone(),
            token: args.token.clone(),
            bystander_token: args.bystander_token.clone(),
            admin_token: args.admin_token.clone(),
        },
        None => {
            let built = || PathBuf::from(env!("CARGO_BIN_EXE_collector"));
            Place::Own { program: args.program.clone().unwrap_or_else(built), settings: args.set.clone() }
        }
    }
}

fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_micros() as u64)
}
