//! Who is calling.

use super::audit::Trail;
use super::quota::Visit;
use super::{Binding, Permit, Verb, Verbs};
use crate::domain::{Account, CollectorId, DeploymentName, Namespace, now, one_line};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::watch;

/// Who made one request, as the edge found out. Clones are the same caller, and hold the same places: see
/// [`super::Tenancy::enter`].
#[derive(Debug, Clone)]
pub struct Caller {
    who: Arc<Who>,
    trail: Option<Trail>,
    visit: Option<Arc<Visit>>,
    /// Who pays beside the namespace for what runs for it.
    payer: Option<Arc<dyn Account>>,
}

#[derive(Debug)]
struct Who {
    principal: Principal,
    bindings: Vec<Binding>,
    life: Option<Life>,
    told: Option<Told>,
}

/// What a peer says that somebody may do where it was asked who they are.
#[derive(Debug)]
struct Told {
    namespace: Namespace,
    verbs: Verbs,
}

/// What a caller showed of itself. Written out it names the caller, never a secret: `key:ID`, `token:SUBJECT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nothing: somebody who reached the port.
    Anonymous,
    /// A key of this node.
    Key {
        /// Its id.
        id: Arc<str>,
    },
    /// A token of the issuer that the node trusts.
    Token {
        /// Claim `iss`.
        issuer: Arc<str>,
        /// Claim `sub`.
        subject: Arc<str>,
        /// Claim `jti`.
        id: Arc<str>,
    },
    /// A client certificate.
    Certificate {
        /// What the configuration names it by.
        identity: Arc<str>,
    },
    /// Code of a deployment, in a host call. What it may do is its grants', whoever called it; here only that it stays in
    /// its namespace.
    Deployment {
        /// Where.
        namespace: Namespace,
        /// Which.
        name: DeploymentName,
    },
    /// Another collector, by its certificate or, where there are none, its id. On its own behalf it may do nothing but link.
    Peer {
        /// Which.
        identity: Arc<str>,
    },
    /// Somebody who called another collector, which hands the call over. May do what both that collector says of it and
    /// this one lets that collector do.
    Forwarded {
        /// Who hands it over.
        peer: CollectorId,
        /// Who called, and where: `COLLECTOR/PRINCIPAL`, as the first collector wrote it.
        origin: Arc<str>,
    },
    /// The node itself.
    Node,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Key { id } => write!(f, "key:{id}"),
            Self::Token { subject, .. } => write!(f, "token:{}", one_line(subject, 256)),
            Self::Certificate { identity } => write!(f, "certificate:{}", one_line(identity, 256)),
            Self::Deployment { namespace, name } => write!(f, "deployment:{namespace}/{name}"),
            Self::Peer { identity } => write!(f, "peer:{}", one_line(identity, 256)),
            Self::Forwarded { peer, origin } => write!(f, "forwarded:{peer}:{}", one_line(origin, 512)),
            Self::Node => f.write_str("node"),
        }
    }
}

impl Caller {
    /// Somebody who reached the port.
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Caller> = LazyLock::new(|| Caller::new(Principal::Anonymous, Vec::new(), None));
        ANONYMOUS.clone()
    }

    /// * `life`: until when; `None`: as long as the node.
    pub(super) fn new(principal: Principal, bindings: Vec<Binding>, life: Option<Life>) -> Self {
        let who = Who { principal, bindings, life, told: None };
        Self { who: Arc::new(who), trail: None, visit: None, payer: None }
    }

    /// Somebody whose call a peer hands over. Only for who has checked the peer's statement.
    ///
    /// * `allows`: what the peer may do here on behalf of its callers.
    /// * `namespace`, `verbs`: what it says that this one may do, and where.
    pub fn forwarded(
        (peer, origin): (CollectorId, Arc<str>),
        allows: Vec<Binding>,
        (namespace, verbs): (Namespace, Verbs),
    ) -> Self {
        let principal = Principal::Forwarded { peer, origin };
        let told = Some(Told { namespace, verbs });
        let who = Who { principal, bindings: allows, life: None, told };
        Self { who: Arc::new(who), trail: None, visit: None, payer: None }
    }

    /// The code of a deployment, running for somebody, who pays for what it has run. Only for what answers host calls.
    ///
    /// * `permit`: to run it: where it is, and the request that what it changes is written as a part of.
    pub fn deployment(permit: &Permit, name: DeploymentName) -> Self {
        let principal = Principal::Deployment { namespace: permit.namespace().clone(), name };
        let Self { trail, payer, .. } = permit.caller().clone();
        Self { trail, payer, ..Self::new(principal, Vec::new(), None) }
    }

    /// Another collector.
    pub fn peer(identity: &str) -> Self {
        Self::new(Principal::Peer { identity: identity.into() }, Vec::new(), None)
    }

    /// What it showed.
    pub fn principal(&self) -> &Principal {
        &self.who.principal
    }

    /// Whose quotas its requests count for.
    ///
    /// * `network`: where a stranger calls from.
    pub(super) fn identity(&self, network: Option<IpAddr>) -> Identity {
        match self.principal() {
            Principal::Anonymous => network.map_or(Identity::Anonymous, Identity::stranger),
            Principal::Token { issuer, subject, .. } => Identity::Subject(Arc::clone(issuer), Arc::clone(subject)),
            Principal::Forwarded { peer, origin } => Identity::afar(peer, origin),
            other => Identity::Known(other.clone()),
        }
    }

    /// The collector whose quotas its requests count for before its own.
    pub(super) fn sent_by(&self) -> Option<&CollectorId> {
        match self.principal() {
            Principal::Forwarded { peer, .. } => Some(peer),
            _ => None,
        }
    }

    /// Its places in the accounts, once it has entered.
    pub(super) fn visit(&self) -> Option<&Visit> {
        self.visit.as_deref()
    }

    /// The same caller, having entered.
    pub(super) fn entered(self, visit: Visit) -> Self {
        Self { payer: Some(visit.payer()), visit: Some(Arc::new(visit)), ..self }
    }

    /// Who pays beside the namespace for what runs for it; nobody before it has entered.
    pub fn payer(&self) -> Option<&Arc<dyn Account>> {
        self.payer.as_ref()
    }

    /// The namespace that its request is about, once it was let into one. `None` for who carries the calls of others.
    pub fn works_in(&self) -> Option<&Namespace> {
        match self.principal() {
            Principal::Forwarded { .. } | Principal::Peer { .. } => None,
            _ => self.visit()?.first(),
        }
    }

    /// What it may do where. Nothing stands here for who is asked for nothing.
    pub fn bindings(&self) -> &[Binding] {
        &self.who.bindings
    }

    pub(super) fn is_bound(&self, namespace: &Namespace, verb: Verb) -> bool {
        self.who.bindings.iter().any(|binding| binding.allows(namespace, verb))
    }

    /// Whether whoever hands the call over says that it may.
    pub(super) fn is_told(&self, namespace: &Namespace, verb: Verb) -> bool {
        self.who.told.as_ref().is_some_and(|told| told.namespace == *namespace && told.verbs.has(verb))
    }

    /// The same caller, what it changes and is refused being written as part of one request.
    pub fn on(self, trail: Trail) -> Self {
        Self { trail: Some(trail), ..self }
    }

    /// The request, where there is one.
    pub(super) fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
    }

    /// Whether its credentials can end before the node does.
    pub fn can_end(&self) -> bool {
        self.who.life.is_some()
    }

    /// Whether its credentials have expired or were revoked.
    pub fn has_ended(&self) -> bool {
        self.who.life.as_ref().is_some_and(Life::is_over)
    }

    /// Resolves when its credentials expire or are revoked. Sleeps until then: no polling.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let life = self.who.life.clone();
        async move {
            match life {
                Some(life) => life.end().await,
                None => std::future::pending().await,
            }
        }
    }
}

/// A caller as its quotas know it: the same for every request and every way to show who one is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// All who showed nothing, where nobody is asked. One for all of them, not one per address: behind a proxy or a NAT
    /// many callers have one address, and one caller has many by IPv6.
    Anonymous,
    /// Those who showed nothing where callers are asked, by their networks: they watch health, which strangers elsewhere
    /// must not keep anybody from.
    Stranger(u64),
    /// Issuer and subject of a token: each call may come with another token.
    Subject(Arc<str>, Arc<str>),
    /// Those who called another collector, by what that one calls them.
    Afar(CollectorId, u64),
    /// Whoever else.
    Known(Principal),
}

/// Accounts of all strangers. 1,024: whoever has more networks than that gets no more accounts, and pushes nobody out.
const STRANGERS: u64 = 1_024;
/// Accounts of all who call through one collector. 128: who they are is that collector's word, which may be another with
/// each call, and a hundred such collectors leave a fifth of the accounts to everybody else.
const AFAR: u64 = 128;

/// Secret, so that nobody picks a name that shares another's account.
static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Identity {
    fn stranger(network: IpAddr) -> Self {
        Self::Stranger(SECRET.hash_one(network) % STRANGERS)
    }

    fn afar(peer: &CollectorId, origin: &str) -> Self {
        Self::Afar(peer.clone(), SECRET.hash_one(origin) % AFAR)
    }
}

/// How long credentials are good.
#[derive(Debug, Clone)]
pub(super) struct Life {
    until: Option<i64>,
    withdrawn: Vec<Arc<AtomicBool>>,
    changes: watch::Receiver<u64>,
}

/// How long one sleep towards an expiry is at most. An hour: wall clocks are set, and then the rest is worked out anew.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

impl Life {
    /// * `until`: Unix microseconds.
    /// * `withdrawn`: one of them set ends it; whoever sets one sends to `changes` afterwards.
    pub(super) fn new(until: Option<i64>, withdrawn: Vec<Arc<AtomicBool>>, changes: watch::Receiver<u64>) -> Self {
        Self { until, withdrawn, changes }
    }

    pub(super) fn is_over(&self) -> bool {
        self.withdrawn.iter().any(|one| one.load(Ordering::Acquire)) || self.until.is_some_and(|until| now() >= until)
    }

    async fn end(mut self) {
        loop {
            // Seen before looking, so that what changes meanwhile wakes us again.
            self.changes.mark_unchanged();
            if self.is_over() {
                return;
            }
            let left = self.until.map_or(SLEEP_MAX, |until| {
                let micros = until.saturating_sub(now()).max(0);
                Duration::from_micros(micros.unsigned_abs()).min(SLEEP_MAX)
            });
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() {
                    // The node is going, and with it all that could revoke.
                    return std::future::pending().await;
                },
                // A millisecond more: timers are no finer.
                () = tokio::time::sleep(left + Duration::from_millis(1)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn u09_a_caller_ends_when_it_is_withdrawn_and_not_before() {
        let (changes, flag) = (watch::Sender::new(0), Arc::new(AtomicBool::new(false)));
        let life = || Some(Life::new(None, vec![Arc::clone(&flag)], changes.subscribe()));
        let caller = Caller::new(Principal::Node, Vec::new(), life());
        let mut ended = Box::pin(caller.ended());
        assert!((&mut ended).now_or_never().is_none() && !caller.has_ended());
        changes.send_modify(|count| *count += 1);
        assert!((&mut ended).now_or_never().is_none(), "somebody else's end");
        flag.store(true, Ordering::Release);
        changes.send_modify(|count| *count += 1);
        tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
        assert!(caller.has_ended());
        assert!(!Caller::anonymous().can_end() && Caller::anonymous().ended().now_or_never().is_none());
    }

    #[test]
    fn strangers_of_a_million_networks_share_a_bounded_number_of_accounts() {
        let network = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let all: std::collections::HashSet<_> =
            (0..100_000).map(|n| Caller::anonymous().identity(network(n))).collect();
        assert!((900..=1_024).contains(&all.len()), "{}", all.len());
        assert_eq!(Caller::anonymous().identity(network(7)), Caller::anonymous().identity(network(7)));
        assert_eq!(Caller::anonymous().identity(None), Identity::Anonymous);
    }

    #[test]
    fn m02_who_calls_through_a_peer_shares_a_bounded_number_of_accounts() {
        let caller = |peer: &str, origin: String| {
            let who = (peer.parse().unwrap(), origin.into());
            Caller::forwarded(who, Vec::new(), ("acme".parse().unwrap(), Verbs::those(|_| true)))
        };
        let account = |n: u32| caller("b", format!("b/key:{n}")).identity(None);
        let all: std::collections::HashSet<_> = (0..10_000).map(account).collect();
        assert!((100..=128).contains(&all.len()), "{}", all.len());
        assert_eq!(account(7), account(7));
        assert_ne!(account(7), caller("c", "b/key:7".into()).identity(None), "each peer has its own");
        assert_eq!(caller("b", String::new()).sent_by().unwrap().as_str(), "b");
        assert_eq!(Caller::anonymous().sent_by(), None);
    }

    #[tokio::test]
    async fn a_caller_ends_at_its_time() {
        let changes = watch::Sender::new(0);
        let past = Caller::new(Principal::Node, Vec::new(), Some(Life::new(Some(now()), vec![], changes.subscribe())));
        assert!(past.has_ended());
        past.ended().await;
        let soon = Life::new(Some(now() + 20_000), vec![], changes.subscribe());
        let soon = Caller::new(Principal::Node, Vec::new(), Some(soon));
        tokio::time::timeout(Duration::from_secs(5), soon.ended()).await.unwrap();
        assert!(soon.has_ended());
    }
}
