//! Who may do what: the one place that hands out [`Permit`]s.
//!
//! Nobody works in `system` but who runs the node.

mod caller;
mod namespaces;
mod quota;
mod verb;

pub use caller::{Caller, Principal};
pub use namespaces::{Config, Existence, Listed, NamespaceError, Namespaces};
pub use quota::{BadQuota, Config as QuotaConfig, Overrides, Quota, Quotas, Usage};
pub use verb::Verb;

use crate::domain::{Exceeded, Namespace};
use namespaces::Known;
use quota::Place;
use std::sync::Arc;

/// Proof that a caller may do something in a namespace. Only [`Tenancy::authorize`] makes one.
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
}

/// The policy decision point. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tenancy(Arc<Policy>);

#[derive(Debug, Default)]
struct Policy {
    known: Arc<Known>,
    quotas: Arc<Quotas>,
}

impl Tenancy {
    /// * `namespaces`: which there are, and what each may use.
    pub fn new(namespaces: &Namespaces) -> Self {
        let (known, quotas) = (Arc::clone(namespaces.known()), Arc::clone(namespaces.quotas()));
        Self(Arc::new(Policy { known, quotas }))
    }

    /// Takes the caller's place, once per request: the first thing that happens to it. What it returns, and its clones,
    /// hold that place, and those in the namespaces that it is let into, until the last of them is dropped.
    ///
    /// * errors: `Quota`, of the caller.
    pub fn enter(&self, caller: Caller) -> Result<Caller, Refused> {
        let visit = self.0.quotas.enter(&caller.identity())?;
        Ok(caller.entered(visit))
    }

    /// Decides whether `caller` may do `verb` in `namespace`, and takes its place there. Looking around and running the
    /// node take none: an owner can see why nothing works, and an operator can help.
    pub fn authorize(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> Result<Permit, Refused> {
        if !self.0.allows(caller, namespace, verb) {
            return Err(Refused::Forbidden);
        }
        let place = match verb {
            Verb::Discover | Verb::Manage | Verb::Operate => None,
            Verb::Invoke | Verb::Deploy | Verb::Define | Verb::Read | Verb::Write => {
                self.0.quotas.admit(caller.visit(), namespace)?
            }
        };
        let (namespace, caller, quotas) = (namespace.clone(), caller.clone(), Arc::clone(&self.0.quotas));
        Ok(Permit { namespace, caller, quotas, _place: place.map(Arc::new) })
    }

    /// Whether it would, without asking for it: what a listing shows is no attempt.
    pub fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        self.0.allows(caller, namespace, verb)
    }
}

impl Policy {
    fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        // Whoever makes a namespace asks for it before it is there.
        if verb != Verb::Operate && !self.known.has(namespace) {
            return false;
        }
        match (caller.principal(), verb) {
            // The node's own records are for its operators, who cannot be told apart yet.
            (Principal::Anonymous, _) if *namespace == Namespace::system() => false,
            (Principal::Anonymous, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
