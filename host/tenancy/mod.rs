//! Who may do what: the one place that hands out [`Permit`]s.
//!
//! Credentials make a [`Caller`]: a key of this node, a token of the configured issuer, a certificate that the
//! configuration names. A caller has bindings, each a role and where it holds; what a role may do is one table. Nobody
//! works in `system` but who runs the node, and that only reads. What is not allowed is refused, and a namespace that is
//! not there is refused like one that is.

pub mod audit;
mod caller;
mod certificates;
mod config;
mod grants;
mod keys;
mod manage;
mod namespaces;
mod quota;
mod role;
mod secret;
mod secrets;
mod tokens;
mod verb;

pub use caller::{Caller, Principal};
pub(crate) use certificates::uris;
pub use config::{Algorithm, BadSetting, Bindings, Config, Jwt, Mode};
pub use grants::{BadGrant, GRANTS_MAX, Grant, Grants, NotGranted, Origin};
pub use keys::{Key, Keys, NewKey};
pub use namespaces::{Config as NamespacesConfig, Existence, Listed, NamespaceError, Namespaces};
pub use quota::{BadQuota, Config as QuotaConfig, Overrides, Quota, Quotas, Usage};
pub use role::{BINDINGS_MAX, Binding, NoBinding, Role, Scope};
pub use secret::Secret;
pub use secrets::{SECRET_MAX, SECRET_MIN, SECRETS_MAX, SecretError, Secrets};
pub use tokens::token_claims;
pub use verb::{Verb, Verbs};

use crate::domain::{Exceeded, Namespace};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError};
use audit::{Audit, Trail, Unrecorded};
use certificates::Certificates;
use quota::Place;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use tokens::Tokens;

/// Proof that a caller may do something in a namespace. Only [`Tenancy::authorize`] makes one, and [`Tenancy::operate`],
/// which is the same for what the node keeps about itself where nobody is asked who they are.
#[derive(Debug, Clone)]
pub struct Permit {
    namespace: Namespace,
    caller: Caller,
    quotas: Arc<Quotas>,
    _place: Option<Arc<Place>>,
}

impl Permit {
    /// Where.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What the namespace may use, as it is set now.
    pub fn quota(&self) -> Quota {
        self.quotas.quota(&self.namespace)
    }

    /// Who.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// A caller may not do what it asked for. Says nothing of what exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not in this namespace, whether there is one or not.
    #[error("not allowed in this namespace")]
    Forbidden,
    /// It may, but not so much.
    #[error(transparent)]
    Quota(#[from] Exceeded),
    /// It may, but there is no record of it, so it must not.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting that cannot be kept.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The node's own records cannot be read.
    #[error("the keys cannot be read: {0}")]
    Store(StoreError),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// Why nothing was done with a key or a token.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Callers are not asked who they are, so nobody can be told to be in charge of keys.
    #[error("this node does not ask who calls (auth.mode is off): make keys with `collector auth key create --data`")]
    Off,
    /// No issuer is configured.
    #[error("this node takes no tokens: set auth.jwt.issuer")]
    NoTokens,
    /// Not this caller.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No such key, or none that the caller may know of.
    #[error("there is no key of this id; `collector auth key list` shows those that there are")]
    NotFound,
    /// A field that does not do.
    #[error("{field} {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        problem: String,
    },
    /// A bound is reached.
    #[error("there are too many {what}: at most {most}; revoke some")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Draining,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Random,
    /// The records could not be written.
    #[error("the node could not keep it")]
    Store(#[from] StoreError),
}

/// The policy decision point. Clones share it.
#[derive(Clone, Default)]
pub struct Tenancy(Arc<Policy>);

/// The default asks nobody who they are.
#[derive(Default)]
struct Policy {
    known: Option<Known>,
    audit: Option<Audit>,
    listed: Arc<namespaces::Known>,
    quotas: Arc<Quotas>,
}

/// What credentials are compared with.
struct Known {
    required: bool,
    keys: Keys,
    tokens: Option<Arc<Tokens>>,
    certificates: Certificates,
    /// The node's own, for calling itself.
    own: Secret,
}

impl fmt::Debug for Tenancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenancy").field("asks", &self.asks()).finish_non_exhaustive()
    }
}

impl Tenancy {
    /// Reads what is known of callers.
    ///
    /// * `audit`: where it is written down who changes something, and who is refused.
    /// * `namespaces`: which there are, and what each may use.
    /// * errors: see [`OpenError`].
    pub async fn open(
        config: &Config,
        audit: Option<Audit>,
        namespaces: &Namespaces,
        store: Arc<dyn Store>,
        lifecycle: Lifecycle,
    ) -> Result<Self, OpenError> {
        let keys = Keys::open(Arc::clone(&store), config, lifecycle.clone()).await?;
        let tokens = match config.is_required() && config.jwt.is_on() {
            true => Some(Tokens::open(config.jwt.clone(), store, lifecycle).await?),
            false => None,
        };
        let certificates = Certificates::new(&config.certificates);
        let (_, own) = Secret::make(secret::NODE_PREFIX).map_err(|_| OpenError::Random)?;
        let (listed, quotas) = (Arc::clone(namespaces.known()), Arc::clone(namespaces.quotas()));
        let known = Known { required: config.is_required(), keys, tokens, certificates, own };
        if known.required && known.keys.is_empty() && known.tokens.is_none() && known.certificates.is_empty() {
            tracing::warn!(
                "nobody can call: there is no key yet; stop the node and make one with `collector auth key create --data`"
            );
        }
        Ok(Self(Arc::new(Policy { known: Some(known), audit, listed, quotas })))
    }

    /// Whether callers have to say who they are.
    pub fn asks(&self) -> bool {
        self.0.asked().is_some()
    }

    /// Whether this is somebody who should have said who they are, and did not.
    pub fn is_stranger(&self, caller: &Caller) -> bool {
        self.asks() && *caller.principal() == Principal::Anonymous
    }

    /// Whose key or token this is; `None` for anything that is not good, whatever the reason.
    pub fn bearer(&self, text: &str) -> Option<Caller> {
        let known = self.0.asked()?;
        if text.starts_with(secret::KEY_PREFIX) {
            return known.keys.find(&secret::hash(text));
        }
        if text.starts_with(secret::NODE_PREFIX) {
            let same: bool = secret::hash(text).ct_eq(&known.own.hash()).into();
            return same.then(|| Caller::new(Principal::Node, Vec::new(), None));
        }
        known.tokens.as_ref()?.find(text)
    }

    /// Whose certificate this is, of a connection whose TLS found it good.
    ///
    /// * `der`: the leaf.
    pub fn certificate(&self, der: &[u8]) -> Option<Caller> {
        self.0.asked()?.certificates.find(der)
    }

    /// Another collector, known by its certificate, for as long as that is good.
    ///
    /// * `der`: the leaf, of a connection whose TLS found it good.
    /// * `identity`: the one URI in it.
    pub fn peer(&self, der: &[u8], identity: &str) -> Option<Caller> {
        self.0.asked()?.certificates.peer(der, identity)
    }

    /// What the node shows when it calls itself. It may do nothing, but it is somebody.
    pub fn own_secret(&self) -> Option<&Secret> {
        self.0.asked().map(|known| &known.own)
    }

    /// Takes the caller's place, once per request: the first thing that happens to it. What it returns, and its clones,
    /// hold that place, and those in the namespaces that it is let into, until the last of them is dropped.
    ///
    /// * `network`: where it calls from.
    /// * errors: `Quota`, of the caller, or of the collector that hands its call over.
    pub fn enter(&self, caller: Caller, network: Option<IpAddr>) -> Result<Caller, Refused> {
        let visit = self.0.quotas.enter(&caller.identity(network.filter(|_| self.asks())), caller.sent_by())?;
        Ok(caller.entered(visit))
    }

    /// Writes down that somebody was turned away who did not say who they are, or not truly.
    pub fn turned_away(&self, trail: &Trail) {
        if let Some(audit) = &self.0.audit {
            audit.turned_away(trail);
        }
    }

    /// Writes down that a caller was refused by what [`Tenancy::allows`] said of a request.
    pub fn refused(&self, caller: &Caller, namespace: &Namespace, verb: Verb) {
        if let Some(audit) = &self.0.audit {
            audit.refused(caller.principal(), caller.trail(), verb, namespace);
        }
    }

    /// Decides whether `caller` may do `verb` in `namespace`, takes its place there, and writes down what changes
    /// something before this returns. Looking around and running the node take no place: an owner can see why nothing
    /// works, and an operator can help.
    ///
    /// * errors: `Forbidden`; `Quota`; `Unrecorded`.
    pub fn authorize(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> Result<Permit, Refused> {
        let Policy { audit, quotas, .. } = &*self.0;
        if !self.0.allows(caller, namespace, verb) {
            self.refused(caller, namespace, verb);
            return Err(Refused::Forbidden);
        }
        let place = match verb {
            Verb::Discover | Verb::Manage | Verb::Operate => None,
            // It runs in the place of the call that it answers.
            _ if matches!(caller.principal(), Principal::Deployment { .. }) => {
                quotas.admit_again(namespace)?;
                None
            }
            Verb::Invoke | Verb::Deploy | Verb::Define | Verb::Read | Verb::Write => {
                quotas.admit(caller.visit(), namespace)?.map(Arc::new)
            }
        };
        if let Some(audit) = audit.as_ref().filter(|_| verb.changes()) {
            audit.permitted(caller.principal(), caller.trail(), verb, namespace)?;
        }
        let (namespace, caller, quotas) = (namespace.clone(), caller.clone(), Arc::clone(quotas));
        Ok(Permit { namespace, caller, quotas, _place: place })
    }

    /// The node gives its data folder back: nothing is written down any more, so nothing is changed.
    pub fn close(&self) {
        if let Some(audit) = &self.0.audit {
            audit.close();
        }
    }

    /// Whether it would, without asking for it: what a listing shows is no attempt.
    pub fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        self.0.allows(caller, namespace, verb)
    }
}

impl Policy {
    /// What credentials are compared with, where they are asked for.
    fn asked(&self) -> Option<&Known> {
        self.known.as_ref().filter(|known| known.required)
    }

    fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        // Whoever makes a namespace asks for it before it is there.
        if verb != Verb::Operate && !self.listed.has(namespace) {
            return false;
        }
        match caller.principal() {
            // The node's own records are for its operators, who cannot be told apart where nobody is asked.
            Principal::Anonymous => self.asked().is_none() && !namespace.is_system(),
            Principal::Node | Principal::Peer { .. } => false,
            Principal::Key { .. } | Principal::Token { .. } | Principal::Certificate { .. } => {
                !caller.has_ended() && caller.is_bound(namespace, verb)
            }
            // Whether this node asks its own callers or not. Nobody runs it, or works in its records, from afar.
            Principal::Forwarded { .. } => {
                let told = verb != Verb::Operate && !namespace.is_system() && caller.is_told(namespace, verb);
                told && caller.is_bound(namespace, verb)
            }
            Principal::Deployment { namespace: own, .. } => {
                matches!(verb, Verb::Read | Verb::Write | Verb::Invoke) && own == namespace && !namespace.is_system()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h09_code_stays_in_its_namespace() {
        let (tenancy, acme) = (Tenancy::default(), "acme".parse::<Namespace>().unwrap());
        let permit = tenancy.authorize(&Caller::anonymous(), &acme, Verb::Invoke).unwrap();
        let code = Caller::deployment(&permit, "orders".parse().unwrap());
        for verb in Verb::ALL {
            let may = matches!(verb, Verb::Read | Verb::Write | Verb::Invoke);
            assert_eq!(tenancy.authorize(&code, &acme, verb).is_ok(), may, "{verb:?}");
            for other in ["rival", "Acme", "system"] {
                assert!(tenancy.authorize(&code, &other.parse().unwrap(), verb).is_err(), "{verb:?} in {other}");
            }
        }
    }

    #[test]
    fn m02_a_forwarded_caller_may_do_what_its_collector_says_and_what_that_collector_may() {
        let tenancy = Tenancy::default();
        let caller = |allows: &[&str], verbs: &[Verb]| {
            let who = ("b".parse().unwrap(), "a/key:1".into());
            let allows = allows.iter().map(|text| text.parse().unwrap()).collect();
            Caller::forwarded(who, allows, ("acme".parse().unwrap(), Verbs::those(|verb| verbs.contains(&verb))))
        };
        let may = |caller: &Caller, namespace: &str| {
            let namespace = namespace.parse().unwrap();
            Verb::ALL.into_iter().filter(|verb| tenancy.allows(caller, &namespace, *verb)).collect::<Vec<_>>()
        };
        let all = &Verb::ALL[..];
        assert_eq!(may(&caller(&["acme:invoker"], all), "acme"), [Verb::Invoke, Verb::Discover]);
        assert_eq!(may(&caller(&["*:admin"], &[Verb::Read]), "acme"), [Verb::Read]);
        assert!(!may(&caller(&["*:admin"], all), "acme").contains(&Verb::Operate), "nobody runs a node from afar");
        for (allows, namespace) in
            [(&["*:admin"][..], "rival"), (&["*:admin"], "system"), (&["rival:admin"], "acme"), (&[], "acme")]
        {
            assert_eq!(may(&caller(allows, all), namespace), [], "{allows:?} in {namespace}");
        }
    }

    #[test]
    fn nobody_runs_code_in_system() {
        let (tenancy, anybody) = (Tenancy::default(), Caller::anonymous());
        for verb in Verb::ALL {
            let system = "system".parse().unwrap();
            assert_eq!(tenancy.authorize(&anybody, &system, verb).err(), Some(Refused::Forbidden));
            let other = "System".parse().unwrap();
            assert!(tenancy.authorize(&anybody, &other, verb).is_ok(), "names compare byte for byte");
        }
    }
}
