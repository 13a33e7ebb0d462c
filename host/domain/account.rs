//! The books of a namespace, or of a caller, as those see them who spend: executors, compilers, the store, whoever sends bytes away.
//!
//! tenancy keeps them; the modules below it are handed these traits.

use super::Namespace;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whose quota it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The namespace's, whoever calls.
    Namespace,
    /// The caller's, in all namespaces together.
    Caller,
    /// The linked collector's, for all calls that it hands over.
    Peer,
}

impl Scope {
    /// As error details spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Caller => "caller",
            Self::Peer => "peer",
        }
    }
}

/// A quota that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Its name in the configuration and in `collector ns quota`.
    pub quota: &'static str,
    /// Whose.
    pub scope: Scope,
    /// What it is set to.
    pub limit: u64,
    /// When there is room again, where time alone makes some.
    pub wait: Option<Duration>,
}

/// When to ask again where only somebody's doing makes room. 10 s: nobody knows, and who asks each moment helps nobody.
const ASK_AGAIN: Duration = Duration::from_secs(10);

impl Exceeded {
    /// When to try again: when there is room again, where that is known.
    pub fn retry_after(&self) -> Duration {
        self.wait.unwrap_or(ASK_AGAIN)
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quota, scope, limit, wait } = self;
        write!(f, "the {}'s quota {quota} = {limit} is used up; ", scope.name())?;
        match wait {
            Some(wait) => write!(f, "try again in {} ms", wait.as_millis().max(1)),
            None => f.write_str("use less, or ask the operator for more"),
        }
    }
}

impl std::error::Error for Exceeded {}

/// What is charged after it was spent: nobody knows before how much it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    /// Nanoseconds that components kept a thread, that native binaries computed, and that containers were held.
    Cpu,
    /// Nanoseconds of CPU that compiling took.
    Compile,
    /// Bytes that guests sent to other machines and received from them.
    Egress,
}

/// How much a namespace may keep; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Records of all collections.
    pub records: u64,
    /// MiB of its database, indexes included.
    pub mib: u64,
    /// Its files: each counts as a record, and their bytes beside the database's.
    pub files: KeptFiles,
}

/// The files of a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptFiles {
    /// How many.
    pub count: u64,
    /// What they take on disk, and their folders.
    pub bytes: u64,
}

impl Ceiling {
    /// Why there is no room, if there is none.
    ///
    /// * `records`, `bytes`: that are there after what is asked for, without files.
    /// * `more`: whether records or files are added, not only bytes.
    pub fn over(&self, records: u64, bytes: u64, more: bool) -> Option<Exceeded> {
        let over = |quota, limit| Some(Exceeded { quota, scope: Scope::Namespace, limit, wait: None });
        if self.records > 0 && more && records.saturating_add(self.files.count) > self.records {
            return over("stored_records", self.records);
        }
        if self.mib > 0 && bytes.saturating_add(self.files.bytes) > self.mib << 20 {
            return over("stored_mib", self.mib);
        }
        None
    }
}

/// The books of one namespace, or of one caller in all of them.
pub trait Account: Send + Sync + fmt::Debug {
    /// Its share of what is scarce, beside others': 1 and more.
    fn weight(&self) -> u32;

    /// Books memory of running guests.
    ///
    /// * errors: it would be more than the quota; nothing is booked.
    fn take_memory(&self, bytes: u64) -> Result<(), Exceeded>;

    /// Gives back what was booked.
    fn give_memory(&self, bytes: u64);

    /// From now on something runs that will be charged when it ends: until [`Account::end`] it is not forgotten.
    fn begin(&self);

    /// What [`Account::begin`] told of has been charged.
    fn end(&self);

    /// Writes down what was spent. It may go below nothing.
    fn charge(&self, what: Charge, amount: u64);

    /// The same of what is counted in nanoseconds.
    fn charge_time(&self, what: Charge, took: Duration) {
        self.charge(what, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Why no more of it may begin; `None` if it may.
    fn over(&self, what: Charge) -> Option<Exceeded>;

    /// Why what runs has to end: it is over by a whole burst.
    fn far_over(&self, what: Charge) -> Option<Exceeded>;

    /// How much it may keep; what it does keep is not known here.
    fn ceiling(&self) -> Ceiling;
}

/// Two accounts that pay for the same: what is spent is charged to both, and either may say no.
#[derive(Debug)]
pub struct Both {
    first: Arc<dyn Account>,
    second: Arc<dyn Account>,
}

impl Both {
    /// * `first`: whose weight and whose ceiling hold: the namespace's.
    /// * `second`: the caller's, where there is one.
    pub fn of(first: Arc<dyn Account>, second: Option<&Arc<dyn Account>>) -> Arc<dyn Account> {
        match second {
            Some(second) => Arc::new(Self { first, second: Arc::clone(second) }),
            None => first,
        }
    }
}

impl Account for Both {
    fn weight(&self) -> u32 {
        self.first.weight()
    }

    fn take_memory(&self, bytes: u64) -> Result<(), Exceeded> {
        self.first.take_memory(bytes)?;
        self.second.take_memory(bytes).inspect_err(|_| self.first.give_memory(bytes))
    }

    fn give_memory(&self, bytes: u64) {
        self.first.give_memory(bytes);
        self.second.give_memory(bytes);
    }

    fn begin(&self) {
        self.first.begin();
        self.second.begin();
    }

    fn end(&self) {
        self.first.end();
        self.second.end();
    }

    fn charge(&self, what: Charge, amount: u64) {
        self.first.charge(what, amount);
        self.second.charge(what, amount);
    }

    fn over(&self, what: Charge) -> Option<Exceeded> {
        self.first.over(what).or_else(|| self.second.over(what))
    }

    fn far_over(&self, what: Charge) -> Option<Exceeded> {
        self.first.far_over(what).or_else(|| self.second.far_over(what))
    }

    fn ceiling(&self) -> Ceiling {
        self.first.ceiling()
    }
}

/// Finds the books of a namespace.
pub trait Accounts: Send + Sync + fmt::Debug {
    /// Those of one. Asked once per call, not once per step.
    fn of(&self, namespace: &Namespace) -> Arc<dyn Account>;

    /// How much it may keep, and what of it are files.
    fn room(&self, namespace: &Namespace) -> Ceiling {
        self.of(namespace).ceiling()
    }

    /// Writes down what files it keeps, so that whoever keeps records knows.
    fn keeps(&self, _namespace: &Namespace, _files: KeptFiles) {}
}

/// Books without quotas: for tests and tools, where nobody shares anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Account for Unlimited {
    fn weight(&self) -> u32 {
        1
    }

    fn take_memory(&self, _bytes: u64) -> Result<(), Exceeded> {
        Ok(())
    }

    fn give_memory(&self, _bytes: u64) {}

    fn begin(&self) {}

    fn end(&self) {}

    fn charge(&self, _what: Charge, _amount: u64) {}

    fn over(&self, _what: Charge) -> Option<Exceeded> {
        None
    }

    fn far_over(&self, _what: Charge) -> Option<Exceeded> {
        None
    }

    fn ceiling(&self) -> Ceiling {
        Ceiling::default()
    }
}

impl Accounts for Unlimited {
    fn of(&self, _namespace: &Namespace) -> Arc<dyn Account> {
        Arc::new(Self)
    }
}
