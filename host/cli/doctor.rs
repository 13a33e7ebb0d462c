//! `collector doctor`: what of the configuration works on this machine, why the rest does not, and what to do about it.
//!
//! Starts every executor as a node would, without a data folder, and takes it down again. What an executor found comes
//! from the executor itself. Every limit in force stands below, with where it came from.

mod lacks;

use super::output::Output;
use super::peer;
use super::serve::NodeArgs;
use crate::config::{Config, Origin, leaves};
use crate::exec::{Allowance, Native, Report, survey, wasm};
use crate::mesh;
use crate::rpc;
use anyhow::bail;
use lacks::Lacks;
use rustix::process::{Resource, getrlimit};
use rustix::system::{sysinfo, uname};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// `collector doctor`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

/// What was found.
struct Findings {
    machine: Vec<(&'static str, String)>,
    reports: Vec<Report>,
    /// What may run for whom.
    allowed: Vec<Allowance>,
    /// Repositories that `image:` may name.
    images: Vec<String>,
    /// Peers of the configuration, and what is known of them.
    peers: Vec<(String, String)>,
    limits: Vec<Limit>,
    /// Limits that no setting changes.
    fixed: Vec<(&'static str, String)>,
    /// What this machine lacks for the settings, and what to do about it.
    lacks: Lacks,
}

/// A setting in force.
struct Limit {
    key: String,
    value: toml::Value,
    origin: Origin,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let (config, origins) = args.node.load_with_origins()?;
    let limits = leaves(&toml::Table::try_from(&config)?);
    let limits = limits.into_iter().map(|(key, value)| Limit { origin: origins.of(&key), key, value });
    let findings = Findings::of(&config, limits.collect()).await;
    output.answer(&findings.text(), &findings.value());
    let broken: Vec<&str> = findings.broken().map(|report| report.name).collect();
    if !broken.is_empty() {
        bail!("allowed and not working, see above: {}", broken.join(", "));
    }
    if !findings.lacks.stops.is_empty() {
        bail!("a node with these settings does not start here, see above");
    }
    Ok(())
}

impl Findings {
    async fn of(config: &Config, limits: Vec<Limit>) -> Self {
        let works = wasm::check(&config.wasm).await.map_err(|why| format!("{why:#}"));
        let mut reports = vec![Report { name: "wasm", allowed: true, works, facts: Vec::new() }];
        reports.extend(survey(&config.exec, config.limits.memory_mib).await);
        let images = config.exec.container.images.clone();
        let allowed = config.exec.allowances();
        let survey = peer::survey(config);
        let mut lacks = Lacks::of(config).await;
        lacks.others.extend(survey.missing);
        Self { machine: machine(), reports, allowed, images, peers: survey.facts, limits, fixed: fixed(), lacks }
    }

    /// What is allowed and does not work.
    fn broken(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter().filter(|report| report.allowed && report.works.is_err())
    }

    fn text(&self) -> String {
        let mut text = format!("collector   {}\n", env!("CARGO_PKG_VERSION"));
        for (what, found) in &self.machine {
            let _ = writeln!(text, "{what:<11} {found}");
        }
        for Report { name, allowed, works, facts } in &self.reports {
            let (proof, setting) = (proof(name), setting(name));
            let _ = match works {
                Ok(()) if *allowed => writeln!(text, "\n{name:<11} works{proof}"),
                Ok(()) => writeln!(text, "\n{name:<11} works here{proof}, and is not allowed ({setting})"),
                Err(why) if *allowed => writeln!(text, "\n{name:<11} DOES NOT WORK: {why}"),
                Err(why) => writeln!(text, "\n{name:<11} is not allowed ({setting}), and would not work: {why}"),
            };
            if works.is_err() {
                let _ = writeln!(text, "  {:<28} {}", "what to do", next_step(name));
            }
            for (what, found) in facts {
                let _ = writeln!(text, "  {what:<28} {found}");
            }
        }
        let _ = writeln!(text, "\nmay run beside components (exec.native, exec.namespaces, exec.container.images)");
        for Allowance { namespace, native, images } in &self.allowed {
            let whose = if namespace == "*" { "every other namespace" } else { namespace };
            let mut what: Vec<&str> = native.iter().map(|one| one.name()).collect();
            what.extend(images.then_some("images"));
            let what = if what.is_empty() { "nothing".to_owned() } else { what.join(", ") };
            let _ = writeln!(text, "  {whose:<28} {what}");
        }
        for image in &self.images {
            let _ = writeln!(text, "  {:<28} {image}", "images of");
        }
        if !self.peers.is_empty() {
            let _ = writeln!(text, "\npeers ([[peers]], [mesh])");
        }
        for (what, found) in &self.peers {
            let _ = writeln!(text, "  {what:<28} {found}");
        }
        let _ = writeln!(text, "\nlimits and settings in force, and where each came from");
        let width = self.limits.iter().map(|limit| limit.key.len()).max().unwrap_or_default();
        for Limit { key, value, origin } in &self.limits {
            let _ = writeln!(text, "  {key:<width$}  {value}  ({origin})");
        }
        let _ = writeln!(text, "\nlimits that no setting changes");
        let width = self.fixed.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
        for (what, value) in &self.fixed {
            let _ = writeln!(text, "  {what:<width$}  {value}  (built in)");
        }
        for lack in self.lacks.all() {
            let _ = writeln!(text, "\nMISSING     {lack}");
        }
        text
    }

    fn value(&self) -> Value {
        let texts = |pairs: &[(String, String)]| {
            pairs.iter().map(|(what, found)| (what.clone(), json!(found))).collect::<Map<_, _>>()
        };
        let machine: Map<String, Value> =
            self.machine.iter().map(|(what, found)| ((*what).to_owned(), json!(found))).collect();
        let executors = self.reports.iter().map(|Report { name, allowed, works, facts }| {
            json!({
                "name": name,
                "allowed": allowed,
                "works": works.is_ok(),
                "why_not": works.as_ref().err(),
                "what_to_do": works.is_err().then(|| next_step(name)),
                "facts": texts(facts),
            })
        });
        let allowed = self.allowed.iter().map(|Allowance { namespace, native, images }| {
            let native: Vec<&str> = native.iter().map(|one| one.name()).collect();
            json!({ "namespace": namespace, "native": native, "images": images })
        });
        let limits = self
            .limits
            .iter()
            .map(|Limit { key, value, origin }| json!({ "key": key, "value": value, "origin": origin.to_string() }));
        json!({
            "limits": limits.collect::<Vec<_>>(),
            "built_in": self.fixed.iter().map(|(what, value)| json!({ "what": what, "value": value })).collect::<Vec<_>>(),
            "missing": self.lacks.all().collect::<Vec<_>>(),
            "starts": self.lacks.stops.is_empty(),
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine,
            "executors": executors.collect::<Vec<_>>(),
            "allowed": allowed.collect::<Vec<_>>(),
            "images": self.images,
            "peers": texts(&self.peers),
            "ok": self.broken().next().is_none(),
        })
    }
}

/// On what "works" rests, where nothing was run.
fn proof(name: &str) -> &'static str {
    if name == Native::Container.name() { " by what its engine says (no container was made)" } else { "" }
}

/// What allows it.
fn setting(name: &str) -> &'static str {
    match name == Native::Container.name() {
        true => "settings exec.native and exec.container.images",
        false => "setting exec.native",
    }
}

/// What to do about one that does not work, whatever the reason.
fn next_step(name: &str) -> &'static str {
    if name == Native::Container.name() {
        "see that `docker info` answers at exec.container.socket, or let neither exec.native nor exec.container.images ask for it"
    } else if name == Native::Memexec.name() {
        "take Linux 6.12 with what is missing below, or list container instead in exec.native"
    } else {
        "if it is the engine: ask for less in the section [wasm] (wasm.slots), or give the process more addresses \
         (ulimit -v); if it is the compiler: as said above"
    }
}

/// Limits that no setting changes, as far as they are of use to who runs the node.
fn fixed() -> Vec<(&'static str, String)> {
    let mut fixed = rpc::fixed();
    fixed.extend([
        ("mesh: peers", mesh::PEERS_MAX.to_string()),
        ("mesh: collectors that a call visits", mesh::HOPS_MAX.to_string()),
        ("mesh: services remembered of a peer", mesh::OFFERS_MAX.to_string()),
        ("mesh: collectors behind a peer", mesh::WAYS_MAX.to_string()),
    ]);
    fixed
}

fn machine() -> Vec<(&'static str, String)> {
    let (system, kernel) = (sysinfo(), uname());
    let memory = u128::from(system.totalram) * u128::from(system.mem_unit);
    let cores = std::thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |count| count.to_string());
    vec![
        ("kernel", kernel.release().to_string_lossy().into_owned()),
        ("machine", kernel.machine().to_string_lossy().into_owned()),
        ("cores", cores),
        ("memory", format!("{} MiB", memory >> 20)),
        (
            "open files",
            getrlimit(Resource::Nofile).current.map_or_else(|| "no limit".to_owned(), |most| most.to_string()),
        ),
    ]
}
