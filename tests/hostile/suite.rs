//! Everything that a run needs, and one case after the other with the invariants around each.

use crate::audit::Journal;
use crate::bystander::Bystander;
use crate::case::{Case, Miss};
use crate::dial::Address;
use crate::guests::Guests;
use crate::node::Node;
use crate::process::{Held, Slack, Watched};
use crate::report::{Outcome, Row};
use crate::target::{PARTS, Target};
use crate::wire::{Seen, Wire};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The longest that a case may take. Ten minutes: the largest of a full run.
const LONGEST: Duration = Duration::from_secs(600);
/// The cases that take most memory in passing.
const LARGEST: [&str; 3] = ["P02", "P03", "W03"];
/// Rounds that may pass until the node has what it keeps warm.
const WARM_UPS: u64 = 8;

/// What is attacked.
pub enum Place {
    /// A node of this program, with more settings.
    Own { program: PathBuf, settings: Vec<String> },
    /// A node that runs already.
    Given {
        url: String,
        ca: Option<PathBuf>,
        token: Option<String>,
        bystander_token: Option<String>,
        admin_token: Option<String>,
    },
}

/// One run.
pub struct Suite {
    address: Address,
    token: Option<String>,
    admin: Option<String>,
    namespace: String,
    pub audit: Mutex<Journal>,
    pub guests: Arc<Guests>,
    pub bystander: Arc<Bystander>,
    pub node: Option<Arc<Node>>,
    pub seen: Arc<Seen>,
    seed: u64,
    full: bool,
}

impl Suite {
    /// Starts the node, or finds it, and the bystander in it.
    ///
    /// * `run`: what the names of the namespaces end with; `None`: something of this run alone.
    pub async fn start(place: Place, run: Option<&str>, seed: u64, full: bool) -> Result<Self, String> {
        let guests = tokio::task::spawn_blocking(Guests::build).await.map_err(|why| why.to_string())??;
        let guests = Arc::new(guests);
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let canary = format!("canary{mark}");
        let short = run.or_else(|| mark.get(..8)).unwrap_or_default();
        let named = format!("bystander-{short}");
        let namespace = format!("attacker-{short}");
        let (node, url, ca, [token, bystander_token, admin]) = match place {
            Place::Own { program, settings } => {
                let keys = [attackers(&namespace), roles(&named)];
                let node = Node::start(&program, &settings, &canary, &named, &keys)?;
                let mut keys = node.keys.iter().cloned();
                let (admin, token, other) = (keys.next(), keys.next(), keys.next());
                let url = node.address.clone();
                (Some(Arc::new(node)), url, None, [token, other, admin])
            }
            Place::Given { url, ca, token, bystander_token, admin_token } => {
                let other = bystander_token.or_else(|| token.clone());
                let admin = admin_token.or_else(|| token.clone());
                (None, url, ca, [token, other, admin])
            }
        };
        let address = Address::parse(&url, ca.as_deref())?;
        let bystanders = Wire::new(&address, bystander_token, Arc::new(Seen::default()))?;
        let bystander = Bystander::start(bystanders, &named, &canary, &guests).await?;
        Ok(Self {
            address,
            token,
            admin,
            namespace,
            audit: Mutex::new(Journal::new(node.as_deref(), &named)),
            guests,
            bystander: Arc::new(bystander),
            node,
            seen: Arc::new(Seen::new(&canary)),
            seed,
            full,
        })
    }

    /// What a case sees: connections of its own, a namespace of its job's.
    ///
    /// * `alone`: nothing else runs, so that what `/proc` tells is this case's doing.
    pub fn target(&self, round: u64, job: usize, alone: bool) -> Result<Target, String> {
        Ok(Target {
            wire: Wire::new(&self.address, self.token.clone(), Arc::clone(&self.seen))?,
            address: self.address.clone(),
            token: self.token.clone(),
            admin: self.admin.clone(),
            namespace: if job == 0 { self.namespace.clone() } else { format!("{}-{job}", self.namespace) },
            bystander: Arc::clone(&self.bystander),
            guests: Arc::clone(&self.guests),
            node: self.node.clone().filter(|_| alone),
            seed: (self.seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(1),
            full: self.full && alone,
        })
    }

    pub fn watched(&self) -> Option<Watched> {
        self.node.as_ref().map(|node| Watched { id: node.id(), folder: node.folder() })
    }

    /// Uses everything that the node keeps warm by design, until it holds no more for it; what it holds then.
    pub async fn warm_up(&self) -> Result<Option<Held>, String> {
        let (mut before, mut quiet) = (0, 0);
        // Rounds of their own: what they compile is not what the cases do.
        for round in 1_001..=1_000 + WARM_UPS {
            self.largest(round).await?;
            let target = self.target(0, 0, true)?;
            target.prepare().await?;
            target.lives().await?;
            for sin in ["Trap", "Recurse", "Panic"] {
                let _ = target.sin(sin, 0, "once", Some(crate::target::LONG)).await; // what a first trap loads
            }
            let mut calls = JoinSet::new();
            for _ in 0..64 {
                let target = target.again();
                calls.spawn(async move { target.sin("GrowMemory", 48, "", Some(crate::target::LONG)).await.map(drop) });
            }
            calls.join_all().await;
            target.part("-b").errands().await?;
            let Some(watched) = self.watched() else { return Ok(None) };
            let held = watched.held()?;
            // Twice: the allocator's arenas fill by chance.
            quiet = if held.rss_kib < before + before / 100 { quiet + 1 } else { 0 };
            if quiet == 2 {
                break;
            }
            before = before.max(held.rss_kib);
        }
        self.watched().map(|watched| watched.held()).transpose()
    }

    /// The cases that take most memory in passing, several at once: what the allocator keeps of the largest messages and
    /// compilations, on whichever threads they end up; and the databases of the namespaces that sampling uses.
    async fn largest(&self, round: u64) -> Result<(), String> {
        let all = crate::cases::all();
        let largest = all.iter().filter(|case| LARGEST.contains(&case.id));
        let runs = largest.flat_map(|case| (1..=crate::sample::JOBS).map(move |job| (case, job))).map(
            |(case, job)| async move {
                let ended = (case.run)(&self.target(round, job, false)?).await;
                ended.map(drop).map_err(|why| format!("warming up, {}: {why:?}", case.id))
            },
        );
        futures_util::future::try_join_all(runs).await.map(drop)
    }

    /// Runs one case with the invariants around it.
    pub async fn run(&self, case: &Case, round: u64) -> Row {
        let began = Instant::now();
        let invariants = Invariants::before(self).await;
        let verdict = match self.target(round, 0, true) {
            Ok(target) => timeout(LONGEST, (case.run)(&target)).await,
            Err(why) => Ok(Err(Miss::Failed(why))),
        };
        let verdict = verdict.unwrap_or_else(|_| Err(Miss::Failed("it did not end".to_owned())));
        let took = began.elapsed();
        let broken = match invariants {
            Ok(invariants) => invariants.after(self, Slack::CASE).await,
            Err(why) => vec![why],
        };
        let rss_kib = self.watched().and_then(|watched| watched.held().ok()).map(|held| held.rss_kib);
        Row { rss_kib, ..judge(case, verdict, &broken, took) }
    }

    /// Runs cases that mostly wait, beside each other; the invariants are the last one's to answer for.
    pub async fn run_together(&self, cases: &[&Case]) -> Vec<Row> {
        let began = Instant::now();
        let invariants = Invariants::before(self).await;
        let mut rows = Vec::new();
        let mut waiting = Vec::new();
        for (job, case) in cases.iter().enumerate() {
            let target = self.target(job as u64, 0, true);
            waiting.push(async move {
                match target {
                    Ok(target) => (case.run)(&target).await,
                    Err(why) => Err(Miss::Failed(why)),
                }
            });
        }
        let verdicts = futures_util::future::join_all(waiting).await;
        let mut broken = match invariants {
            Ok(invariants) => invariants.after(self, Slack::CASE).await,
            Err(why) => vec![why],
        };
        for (case, verdict) in cases.iter().zip(verdicts) {
            rows.push(judge(case, verdict, &broken, began.elapsed()));
            broken.clear();
        }
        rows
    }
}

fn judge(case: &Case, verdict: Result<String, Miss>, broken: &[String], took: Duration) -> Row {
    let (outcome, figure) = match verdict {
        Ok(figure) if broken.is_empty() => (Outcome::Held, figure),
        Ok(figure) => (Outcome::Failed, format!("{} ({figure})", broken.join("; "))),
        Err(Miss::Skipped(why)) => (Outcome::Skipped, why),
        Err(Miss::Failed(why)) => {
            let all = std::iter::once(why.as_str()).chain(broken.iter().map(String::as_str));
            (Outcome::Failed, all.collect::<Vec<_>>().join("; "))
        }
    };
    Row::of(case, outcome, figure, took)
}

/// What has to hold whatever is done to the node.
pub struct Invariants {
    held: Option<Held>,
    record: String,
}

impl Invariants {
    pub async fn before(suite: &Suite) -> Result<Self, String> {
        let record = suite.bystander.keep().await?;
        suite.bystander.forget();
        suite.seen.take_findings();
        suite.seen.take_changed();
        suite.audit.lock().unwrap().read()?;
        let held = suite.watched().map(|watched| watched.held()).transpose()?;
        Ok(Self { held, record })
    }

    /// What did not hold.
    pub async fn after(self, suite: &Suite, slack: Slack) -> Vec<String> {
        let mut broken = Vec::new();
        broken.extend(suite.bystander.fared().await.judge().err());
        broken.extend(suite.bystander.kept(&self.record).await.err());
        if let Some((watched, held)) = suite.watched().zip(self.held) {
            broken.extend(watched.settles(&held, slack).await);
        }
        broken.extend(audited(suite).await.err());
        broken.extend(suite.seen.take_findings());
        broken.extend(suite.node.iter().flat_map(|node| node.take_findings()));
        broken
    }
}

/// Invariant I6: a record of every change that the attacker was told was made; and of one change and one refusal that are
/// made now, with their request ids.
async fn audited(suite: &Suite) -> Result<(), String> {
    if suite.node.is_none() {
        return Ok(());
    }
    let target = suite.target(0, 0, true)?;
    let make = |namespace: &str| crate::target::collection(namespace, "audited", "");
    let path = "collector.CollectionRepo/CreateCollection";
    let _ = target.wire.to(path).status(&make(&target.namespace)).await;
    let again = target.wire.to(path).status(&make(&target.namespace)).await;
    let again = crate::case::refused("I6: a collection made twice", again, &[tonic::Code::AlreadyExists])?;
    let foreign = target.wire.to(path).status(&make(&target.bystander.namespace)).await;
    let foreign = crate::case::refused("I6: a foreign collection", foreign, &[tonic::Code::PermissionDenied])?;
    let mut journal = suite.audit.lock().unwrap();
    let written = journal.read()?;
    written.has_change(&request_id(&again)?)?;
    written.has_refusal(&request_id(&foreign)?)?;
    written.covers(&suite.seen.take_changed())
}

fn request_id(status: &tonic::Status) -> Result<String, String> {
    let info = tonic_types::StatusExt::get_details_request_info(status);
    info.map(|info| info.request_id).ok_or_else(|| "I6: a refusal without a request id".to_owned())
}

/// All that the attacker may: to bring code and types and to write records, in namespaces of its own.
fn attackers(namespace: &str) -> Vec<String> {
    let jobs = (1..=crate::sample::JOBS).map(|job| format!("{namespace}-{job}"));
    let jobs = jobs.flat_map(|one| PARTS[..2].iter().map(move |part| format!("{one}{part}")));
    let alone = PARTS.iter().map(|part| format!("{namespace}{part}"));
    alone.chain(jobs).flat_map(|one| roles(&one)).collect()
}

fn roles(namespace: &str) -> Vec<String> {
    ["deployer", "writer"].map(|role| format!("{namespace}:{role}")).to_vec()
}
