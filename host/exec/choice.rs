//! Which executor runs what: a match on the kind, decided before anything runs. Never chosen because another one failed.

use super::container::ContainerExecutor;
use super::memexec::MemExecutor;
use super::{BoxFuture, Code, Config, ExecError, ExecFailure, Executor, Job, Native, Origin, Streams};
use crate::domain::{Account, Accounts, Kind, Namespace, Outcome, Unlimited};
use crate::lifecycle::Lifecycle;
use std::sync::Arc;
use std::time::Duration;

/// Whether an executor works on this machine; else why not and what to do about it, for operators.
pub type Availability = Result<(), String>;

/// Something about the machine that an executor depends on, and what was found: `Landlock`, `ABI 7`.
pub type Fact = (String, String);

/// An executor beside Wasm, which not every machine can have.
pub trait Fallback: Executor {
    /// Whether it works here, right now.
    fn availability(&self) -> Availability;

    /// Waits until that is known, if what it needs was not asked yet.
    fn asked(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What it found on this machine.
    fn facts(&self) -> Vec<Fact>;
}

impl Fallback for MemExecutor {
    fn availability(&self) -> Availability {
        self.availability()
    }

    fn facts(&self) -> Vec<Fact> {
        self.facts()
    }
}

impl Fallback for ContainerExecutor {
    fn availability(&self) -> Availability {
        self.availability()
    }

    fn asked(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.asked())
    }

    fn facts(&self) -> Vec<Fact> {
        self.facts()
    }
}

/// In the place of a node's id and key: what a survey makes is no node's, and it runs nothing.
const SURVEYOR: (&str, &[u8; 32]) = ("doctor", &[0; 32]);
/// How long a survey waits for what it started. 2 s: removing a container takes some hundred milliseconds.
const SURVEY_GRACE: Duration = Duration::from_secs(2);

/// All executors of a node.
pub struct Executors {
    config: Config,
    wasm: Arc<dyn Executor>,
    fallbacks: Fallbacks,
}

/// Those beside Wasm.
struct Fallbacks {
    memexec: Box<dyn Fallback>,
    container: Box<dyn Fallback>,
}

/// One fallback, for operators.
#[derive(Debug, Clone)]
pub struct Report {
    /// The word in the setting and in receipts.
    pub name: &'static str,
    /// Whether the settings allow it for anybody.
    pub allowed: bool,
    /// Whether it works here; else why not and what to do.
    pub works: Availability,
    /// What it found on this machine.
    pub facts: Vec<Fact>,
}

impl Executors {
    /// Starts what may run code beside Wasm. What is not allowed for anybody is not started; what is allowed and cannot
    /// work here says so in the log, and is no error.
    ///
    /// * `accounts`: the books that they charge; those of Wasm it has already.
    /// * `node`: its id and its key.
    /// * `memory_mib`: `limits.memory_mib`.
    pub async fn start(
        config: Config,
        wasm: Arc<dyn Executor>,
        accounts: Arc<dyn Accounts>,
        node: (&str, &[u8; 32]),
        memory_mib: u64,
        lifecycle: Lifecycle,
    ) -> Self {
        let fallbacks = Fallbacks::start(&config, |one| config.wants(one), accounts, node, memory_mib, lifecycle).await;
        for Report { name, works, .. } in fallbacks.reports(&config).into_iter().filter(|report| report.allowed) {
            match works {
                Ok(()) => tracing::info!(executor = name, "native code may run"),
                Err(why) => tracing::warn!(executor = name, why, "allowed, but cannot work on this machine"),
            }
        }
        Self { config, wasm, fallbacks }
    }

    /// What operators want to know of each fallback.
    pub fn reports(&self) -> Vec<Report> {
        self.fallbacks.reports(&self.config)
    }

    fn of(&self, namespace: &Namespace, kind: Kind) -> Result<&dyn Executor, ExecError> {
        match kind {
            Kind::WasmHandler | Kind::WasmCommand => Ok(&*self.wasm),
            Kind::NativeElf => self.native(namespace),
            Kind::Image if self.config.allows_images(namespace) => Ok(&*self.fallbacks.container),
            Kind::Image => Err(ExecError::ImageNotAllowed),
        }
    }

    /// The same for the code itself. Whether an image is listed does not depend on whether there is an engine for it.
    fn of_code(&self, namespace: &Namespace, code: &Code) -> Result<&dyn Executor, ExecError> {
        match &code.origin {
            Origin::Image(image) if !self.config.container.lists(image.repository()) => Err(ExecError::ImageNotAllowed),
            Origin::Image(_) | Origin::File(_) => self.of(namespace, code.kind),
        }
    }

    /// The first that is allowed and works here.
    fn native(&self, namespace: &Namespace) -> Result<&dyn Executor, ExecError> {
        let mut refused = Vec::new();
        for one in self.config.allowed(namespace) {
            let fallback = self.fallbacks.get(one);
            match fallback.availability() {
                Ok(()) => return Ok(fallback),
                Err(_) => refused.push(one.name()),
            }
        }
        match refused.is_empty() {
            true if self.config.native.is_empty() => Err(ExecError::NativeOff("exec.native")),
            true => Err(ExecError::NativeOff("exec.namespaces")),
            // Why not is for operators: in the log, and in `collector doctor`.
            false => {
                let tried = refused.join(", ");
                let what = "native binaries cannot run on this node at the moment";
                Err(ExecError::Unavailable(format!("{what} ({tried}); ask who operates it to run `collector doctor`")))
            }
        }
    }
}

impl Fallbacks {
    /// * `wanted`: which are started.
    async fn start(
        config: &Config,
        wanted: impl Fn(Native) -> bool,
        accounts: Arc<dyn Accounts>,
        node: (&str, &[u8; 32]),
        memory_mib: u64,
        lifecycle: Lifecycle,
    ) -> Self {
        let (memory, wanted) = (wanted(Native::Memexec), wanted(Native::Container));
        let (id, key) = node;
        let memexec = MemExecutor::start(config.memexec.clone(), memory, id, memory_mib, lifecycle.clone());
        let container = ContainerExecutor::start(config.container.clone(), wanted, id, key, memory_mib, lifecycle);
        let (memexec, container) = tokio::join!(memexec, container);
        let memexec = Box::new(memexec.with_accounts(Arc::clone(&accounts)));
        Self { memexec, container: Box::new(container.with_accounts(accounts)) }
    }

    fn get(&self, one: Native) -> &dyn Fallback {
        match one {
            Native::Memexec => &*self.memexec,
            Native::Container => &*self.container,
        }
    }

    fn reports(&self, config: &Config) -> Vec<Report> {
        let report = |one: Native| {
            let fallback = self.get(one);
            let (works, facts) = (fallback.availability(), fallback.facts());
            Report { name: one.name(), allowed: config.wants(one), works, facts }
        };
        Native::ALL.map(report).to_vec()
    }
}

/// Tries every fallback on this machine, whether or not it is allowed, and takes it down again.
///
/// * cancel: what was started ends.
pub async fn survey(config: &Config, memory_mib: u64) -> Vec<Report> {
    let lifecycle = Lifecycle::default();
    let fallbacks =
        Fallbacks::start(config, |_all| true, Arc::new(Unlimited), SURVEYOR, memory_mib, lifecycle.clone()).await;
    for one in Native::ALL {
        fallbacks.get(one).asked().await;
    }
    let reports = fallbacks.reports(config);
    lifecycle.drain();
    lifecycle.kill();
    drop(fallbacks);
    lifecycle.end(SURVEY_GRACE).await;
    reports
}

impl Executor for Executors {
    fn accepts(&self, namespace: &Namespace, kind: Kind) -> Result<(), ExecError> {
        self.of(namespace, kind)?.accepts(namespace, kind)
    }

    fn prepare<'a>(
        &'a self,
        namespace: &'a Namespace,
        caller: Option<&'a Arc<dyn Account>>,
        code: &'a Code,
    ) -> BoxFuture<'a, Result<(), ExecError>> {
        Box::pin(async move { self.of_code(namespace, code)?.prepare(namespace, caller, code).await })
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(async move { self.of_code(&job.namespace, &job.code)?.run(job).await })
    }

    fn stream(&self, job: Job, streams: Streams) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(async move { self.of_code(&job.namespace, &job.code)?.stream(job, streams).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Deadline, Digest, ImageRef, Limits};
    use crate::exec::Origin;
    use bytes::Bytes;
    use std::sync::Mutex;

    /// Which executors were asked to run something, in order.
    type Ran = Arc<Mutex<Vec<&'static str>>>;

    /// Refuses every call, with a word of its own.
    struct Fake {
        name: &'static str,
        works: bool,
        ran: Ran,
    }

    impl Fake {
        fn refuse(&self) -> ExecFailure {
            self.ran.lock().unwrap().push(self.name);
            ExecError::Trap(self.name.to_owned()).into()
        }
    }

    impl Executor for Fake {
        fn accepts(&self, _namespace: &Namespace, _kind: Kind) -> Result<(), ExecError> {
            Ok(())
        }

        fn prepare<'a>(
            &'a self,
            _namespace: &'a Namespace,
            _caller: Option<&'a Arc<dyn Account>>,
            _code: &'a Code,
        ) -> BoxFuture<'a, Result<(), ExecError>> {
            Box::pin(async { Err(self.refuse().error) })
        }

        fn run(&self, _job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
            Box::pin(async { Err(self.refuse()) })
        }

        fn stream(&self, _job: Job, _streams: Streams) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
            Box::pin(async { Err(self.refuse()) })
        }
    }

    impl Fallback for Fake {
        fn availability(&self) -> Availability {
            if self.works { Ok(()) } else { Err("no such thing here".to_owned()) }
        }

        fn facts(&self) -> Vec<Fact> {
            Vec::new()
        }
    }

    fn executors(change: impl FnOnce(&mut Config), working: &[&str]) -> (Executors, Ran) {
        let ran = Ran::default();
        let fake = |name| Fake { name, works: working.contains(&name), ran: Arc::clone(&ran) };
        let fallbacks = Fallbacks { memexec: Box::new(fake("memexec")), container: Box::new(fake("container")) };
        let mut config = Config::default();
        change(&mut config);
        (Executors { config, wasm: Arc::new(fake("wasm")), fallbacks }, ran)
    }

    fn acme() -> Namespace {
        "acme".parse().unwrap()
    }

    fn job(kind: Kind) -> Job {
        let limits = Limits::default();
        Job {
            code: Code { digest: Digest::of(b""), kind, origin: Origin::File("none".into()) },
            namespace: acme(),
            caller: None,
            service: "S".into(),
            method: "M".into(),
            input: Bytes::new(),
            json: None,
            metadata: Vec::new(),
            deadline: Deadline::after(limits.deadline()),
            limits,
            calls: None,
        }
    }

    const BOTH: [Native; 2] = [Native::Memexec, Native::Container];

    #[tokio::test]
    async fn the_first_that_is_allowed_and_works_is_taken_and_no_other() {
        for (native, working, expected) in [
            (&[Native::Memexec, Native::Container][..], &["memexec", "container"][..], "memexec"),
            (&[Native::Container, Native::Memexec], &["memexec", "container"], "container"),
            (&BOTH, &["container"], "container"),
            (&[Native::Memexec], &["memexec", "container"], "memexec"),
        ] {
            let (executors, ran) = executors(|config| config.native = native.to_vec(), working);
            assert_eq!(executors.accepts(&acme(), Kind::NativeElf).map_err(|why| why.to_string()), Ok(()));
            assert!(executors.run(job(Kind::NativeElf)).await.is_err());
            assert_eq!(*ran.lock().unwrap(), [expected], "a failure is not tried again elsewhere");
        }
    }

    #[tokio::test]
    async fn what_is_not_allowed_or_cannot_work_says_which_and_never_why() {
        let (off, ran) = executors(|_| (), &["memexec", "container"]);
        let refused = off.run(job(Kind::NativeElf)).await.unwrap_err().error;
        assert!(matches!(refused, ExecError::NativeOff("exec.native")), "{refused}");
        let (none, _) = executors(
            |config| {
                config.native = BOTH.to_vec();
                config.namespaces.insert("acme".into(), Vec::new());
            },
            &["memexec", "container"],
        );
        let refused = none.accepts(&acme(), Kind::NativeElf).unwrap_err();
        assert!(matches!(refused, ExecError::NativeOff("exec.namespaces")), "{refused}");
        let (narrowed, _) = executors(
            |config| {
                config.native = BOTH.to_vec();
                config.namespaces.insert("acme".into(), vec![Native::Container]);
            },
            &["memexec"],
        );
        let refused = narrowed.accepts(&acme(), Kind::NativeElf).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("at the moment (container)") && said.contains("collector doctor"), "{said}");
        assert!(narrowed.accepts(&"rival".parse().unwrap(), Kind::NativeElf).is_ok());
        let (broken, _) = executors(|config| config.native = BOTH.to_vec(), &[]);
        let refused = broken.accepts(&acme(), Kind::NativeElf).unwrap_err();
        assert!(refused.to_string().contains("(memexec, container)"), "{refused}");
        assert!(ran.lock().unwrap().is_empty());
        assert!(broken.reports().iter().all(|report| report.allowed && report.works.is_err()));
    }

    #[tokio::test]
    async fn components_stay_with_wasm_and_images_with_containers() {
        let all = ["wasm", "memexec", "container"];
        for kind in [Kind::WasmHandler, Kind::WasmCommand] {
            let (executors, ran) = executors(|config| config.native = BOTH.to_vec(), &all);
            assert!(executors.run(job(kind)).await.is_err());
            assert_eq!(*ran.lock().unwrap(), ["wasm"], "a component that fails runs nowhere else");
        }
        let (executors, ran) = executors(|config| config.container.images = vec!["tool".into()], &["memexec"]);
        let listed: ImageRef = format!("tool@sha256:{}", "0".repeat(64)).parse().unwrap();
        assert!(executors.run(Job { code: Code::image(listed), ..job(Kind::Image) }).await.is_err());
        assert_eq!(*ran.lock().unwrap(), ["container"], "whose own refusal counts");
        let image: ImageRef = format!("other@sha256:{}", "0".repeat(64)).parse().unwrap();
        let unlisted = Job { code: Code::image(image), ..job(Kind::Image) };
        assert!(matches!(executors.run(unlisted).await.unwrap_err().error, ExecError::ImageNotAllowed));
        assert_eq!(ran.lock().unwrap().len(), 1, "and nobody is asked about one that is not listed");
        let (executors, _) = self::executors(|config| config.native = BOTH.to_vec(), &all);
        assert!(matches!(executors.accepts(&acme(), Kind::Image), Err(ExecError::ImageNotAllowed)));
        let narrowed = |config: &mut Config| {
            config.container.images = vec!["tool".into()];
            config.namespaces.insert("acme".into(), vec![Native::Memexec]);
        };
        let (executors, ran) = self::executors(narrowed, &all);
        let refused = executors.run(job(Kind::Image)).await.unwrap_err().error;
        assert!(matches!(refused, ExecError::ImageNotAllowed) && refused.to_string().contains("exec.namespaces"));
        assert!(ran.lock().unwrap().is_empty());
        assert!(executors.accepts(&"rival".parse().unwrap(), Kind::Image).is_ok());
    }
}
