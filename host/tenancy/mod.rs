//! Who may do what: the one place that hands out [`Permit`]s.
//!
//! Callers are not told apart yet (API keys, tokens and roles are still to come), so the node refuses to listen beyond
//! loopback unless told `--insecure`. What is decided here already: nobody but the node itself works in `system`.

use crate::domain::Namespace;

/// Who is calling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who reached the port. Until callers are authenticated, everybody is this.
    Anonymous,
}

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Call a method of code that is there.
    Invoke,
    /// Bring code and run it, register types, take either away.
    Deploy,
    /// See what services and types there are.
    Discover,
    /// Make, change and drop collections.
    Define,
    /// Read records.
    Read,
    /// Write records.
    Write,
}

/// Proof that a caller may do something in a namespace. Only [`Tenancy::authorize`] makes one.
#[derive(Debug, Clone)]
pub struct Permit {
    namespace: Namespace,
}

impl Permit {
    /// Where.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// A caller may not do what it asked for. Says nothing of what exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not allowed in this namespace")]
pub struct Denied;

/// The policy decision point.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tenancy;

impl Tenancy {
    /// Decides whether `caller` may do `verb` in `namespace`.
    pub fn authorize(&self, caller: Caller, namespace: &Namespace, verb: Verb) -> Result<Permit, Denied> {
        match (caller, verb) {
            // The node's own records are for its operators, who cannot be told apart yet.
            (Caller::Anonymous, _) if *namespace == Namespace::system() => Err(Denied),
            (
                Caller::Anonymous,
                Verb::Invoke | Verb::Deploy | Verb::Discover | Verb::Define | Verb::Read | Verb::Write,
            ) => Ok(Permit { namespace: namespace.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_runs_code_in_system() {
        for verb in [Verb::Invoke, Verb::Deploy, Verb::Discover, Verb::Define, Verb::Read, Verb::Write] {
            let system = "system".parse().unwrap();
            assert_eq!(Tenancy.authorize(Caller::Anonymous, &system, verb).err(), Some(Denied));
            let other = "System".parse().unwrap();
            assert!(Tenancy.authorize(Caller::Anonymous, &other, verb).is_ok(), "names compare byte for byte");
        }
    }
}
