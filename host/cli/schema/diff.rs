//! `collector schema diff`: files of this machine against what the node serves.

use super::super::client::{BREAKING, ClientError, NodeClient, reason, request, violations};
use super::super::descriptors::{RawFile, embed};
use super::super::output::Output;
use super::super::place::Place;
use super::super::reflect::Reflection;
use super::local::{Local, Sources};
use crate::domain::one_line;
use crate::registry::{Action, service_changes};
use crate::rpc::pb;
use prost::Message as _;
use prost_types::ServiceDescriptorProto;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tonic::Status;

/// `collector schema diff`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    place: Place,
}

/// How a file differs from the one that the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Added,
    Changed,
    Same,
}

/// One service or method that differs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    service: String,
    method: String,
    action: &'static str,
}

/// What a push would do.
#[derive(Debug, Default)]
pub(super) struct Difference {
    files: Vec<(String, State)>,
    services: Vec<Line>,
    breaking: Vec<String>,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let local = Local::read(&args.sources)?;
    let client = args.place.connect().await?;
    let difference = Difference::find(&client, &args.place.namespace, &local).await?;
    output.answer(&difference.text(), &difference.value());
    difference.refuse_breaking()
}

impl Difference {
    /// Compares, and has the node check what would be sent. Nothing changes.
    ///
    /// * errors: files that the node would refuse for another reason than breaking changes.
    pub(super) async fn find(client: &NodeClient, namespace: &str, local: &Local) -> anyhow::Result<Self> {
        let reflection = Reflection::open(client, namespace).await?;
        let mut found = Self::default();
        for file in &local.files {
            let served = reflection.file(&file.name).await?;
            let state = match &served {
                None => State::Added,
                Some(served) if served.same(file) => State::Same,
                Some(_) => State::Changed,
            };
            if state != State::Same {
                found.compare(served.as_ref(), file)?;
                found.check(client, namespace, local, file).await?;
            }
            if local.is_named(file) {
                found.add_missing(reflection.services(), file)?;
            }
            found.files.push((file.name.clone(), state));
        }
        found.services.sort_unstable();
        found.services.dedup();
        Ok(found)
    }

    fn compare(&mut self, served: Option<&RawFile>, file: &RawFile) -> anyhow::Result<()> {
        let served = served.map(RawFile::proto).transpose()?;
        for change in service_changes(served.as_ref(), Some(&file.proto()?)) {
            let action = match change.action {
                Action::Added => "added",
                Action::Changed => "changed",
                Action::Removed => "removed",
            };
            self.services.push(Line { service: change.service, method: change.method, action });
        }
        Ok(())
    }

    /// Services of a file that is there, but which nobody can call yet.
    fn add_missing(&mut self, served: &[String], file: &RawFile) -> anyhow::Result<()> {
        for raw in &file.services {
            let service = full_name(file, ServiceDescriptorProto::decode(raw.clone())?.name());
            if !served.contains(&service) && !self.services.iter().any(|line| line.service == service) {
                self.services.push(Line { service, method: String::new(), action: "added" });
            }
        }
        Ok(())
    }

    async fn check(
        &mut self,
        client: &NodeClient,
        namespace: &str,
        local: &Local,
        file: &RawFile,
    ) -> anyhow::Result<()> {
        let imports = local.imports_of(file);
        let mut wanted = request(namespace, register(namespace, file, &imports))?;
        wanted.metadata_mut().insert("collector-validate-only", tonic::metadata::MetadataValue::from_static("true"));
        match client.registry().register_proto(wanted).await {
            Ok(_) => Ok(()),
            Err(status) if reason(&status).as_deref() == Some(BREAKING) => {
                let mut listed = violations(&status);
                if listed.is_empty() {
                    listed.push(status.message().to_owned());
                }
                listed.retain(|line| !self.breaking.contains(line));
                self.breaking.extend(listed);
                Ok(())
            }
            Err(status) => Err(ClientError::from(status).into()),
        }
    }

    /// The error that a push of this would be, if it would be one.
    pub(super) fn refuse_breaking(&self) -> anyhow::Result<()> {
        match self.breaking.len() {
            0 => Ok(()),
            count => {
                let changes = if count == 1 { "1 breaking change" } else { &format!("{count} breaking changes") };
                let why = format!("{changes}; keep what callers use, or give the new types a package of their own");
                Err(ClientError::from(Status::failed_precondition(why)).into())
            }
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, state) in &self.files {
            let _ = writeln!(text, "{:<8} {}", state.name(), one_line(name, 256));
        }
        for line in &self.services {
            let sign = match line.action {
                "added" => '+',
                "removed" => '-',
                _ => '~',
            };
            let slash = if line.method.is_empty() { "" } else { "/" };
            let _ = writeln!(text, "  {sign} {}", one_line(&[&line.service, slash, &line.method].concat(), 512));
        }
        for line in &self.breaking {
            let _ = writeln!(text, "BREAKING {}", one_line(line, 1_024));
        }
        text
    }

    /// For programs.
    pub(super) fn value(&self) -> Value {
        let files = self.files.iter().map(|(name, state)| json!({ "name": name, "state": state.name() }));
        let services = self.services.iter();
        let services =
            services.map(|line| json!({ "action": line.action, "service": line.service, "method": line.method }));
        json!({
            "files": files.collect::<Vec<_>>(),
            "services": services.collect::<Vec<_>>(),
            "breaking": self.breaking,
        })
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Same => "same",
        }
    }
}

/// The request that registers a file.
pub(super) fn register(namespace: &str, file: &RawFile, dependencies: &[&RawFile]) -> pb::RegisterProtoRequest {
    pb::RegisterProtoRequest {
        namespace: namespace.to_owned(),
        file_descriptor: Some(embed(&file.raw)),
        dependencies: dependencies.iter().map(|file| embed(&file.raw)).collect(),
    }
}

/// The full name of something at the top of a file.
fn full_name(file: &RawFile, name: &str) -> String {
    if file.package.is_empty() { name.to_owned() } else { format!("{}.{name}", file.package) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_reads_as_one() {
        let line = |action, method: &str| Line { service: "a.S".into(), method: method.into(), action };
        let mut found = Difference {
            files: vec![("a.proto".into(), State::Changed), ("b.proto".into(), State::Same)],
            services: vec![line("added", "New"), line("removed", "Old"), line("changed", "")],
            breaking: Vec::new(),
        };
        assert_eq!(found.text(), "changed  a.proto\nsame     b.proto\n  + a.S/New\n  - a.S/Old\n  ~ a.S\n");
        assert!(found.refuse_breaking().is_ok());
        found.breaking.push("a.M.x: type changed".into());
        assert!(found.text().ends_with("BREAKING a.M.x: type changed\n"));
        assert!(found.refuse_breaking().unwrap_err().to_string().contains("1 breaking change;"));
        assert_eq!(found.value()["services"][1]["action"], "removed");
    }
}
