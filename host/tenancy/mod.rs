//! Who may do what: the one place that hands out [`Permit`]s.
//!
//! Nobody works in `system` but who runs the node.

mod caller;
mod grants;
mod secrets;
mod verb;

pub use caller::{Caller, Principal};
pub use grants::{BadGrant, GRANTS_MAX, Grant, Grants, NotGranted, Origin};
pub use secrets::{SECRET_MAX, SECRET_MIN, SECRETS_MAX, SecretError, Secrets};
pub use verb::Verb;

use crate::domain::Namespace;
use std::sync::Arc;

/// Proof that a caller may do something in a namespace. Only [`Tenancy::authorize`] makes one.
#[derive(Debug, Clone)]
pub struct Permit {
    namespace: Namespace,
    caller: Caller,
}

impl Permit {
    /// Where.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
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
}

/// The policy decision point. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tenancy(Arc<Policy>);

#[derive(Debug, Default)]
struct Policy {}

impl Tenancy {
    /// Decides whether `caller` may do `verb` in `namespace`.
    pub fn authorize(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> Result<Permit, Refused> {
        match self.0.allows(caller, namespace, verb) {
            true => Ok(Permit { namespace: namespace.clone(), caller: caller.clone() }),
            false => Err(Refused::Forbidden),
        }
    }

    /// Whether it would, without asking for it: what a listing shows is no attempt.
    pub fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        self.0.allows(caller, namespace, verb)
    }
}

impl Policy {
    fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        match (caller.principal(), verb) {
            // The node's own records are for its operators, who cannot be told apart yet.
            (Principal::Anonymous, _) if *namespace == Namespace::system() => false,
            (Principal::Anonymous, _) => true,
            (Principal::Deployment { namespace: own, .. }, Verb::Read | Verb::Write | Verb::Invoke) => {
                own == namespace && *namespace != Namespace::system()
            }
            (Principal::Deployment { .. }, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h09_code_stays_in_its_namespace() {
        let (tenancy, acme) = (Tenancy::default(), "acme".parse::<Namespace>().unwrap());
        let code = Caller::deployment(acme.clone(), "orders".parse().unwrap());
        for verb in Verb::ALL {
            let may = matches!(verb, Verb::Read | Verb::Write | Verb::Invoke);
            assert_eq!(tenancy.authorize(&code, &acme, verb).is_ok(), may, "{verb:?}");
            for other in ["rival", "Acme", "system"] {
                assert!(tenancy.authorize(&code, &other.parse().unwrap(), verb).is_err(), "{verb:?} in {other}");
            }
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
