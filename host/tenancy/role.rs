//! Roles: which verbs a caller may use, and where.

use super::Verb;
use crate::domain::{NameError, Namespace};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Bindings of one caller. 64: a caller of more namespaces than that is one of all of them.
pub const BINDINGS_MAX: usize = 64;

/// What somebody is in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Everything.
    Admin,
    /// Brings code and types, makes collections, and looks at what came of it.
    Deployer,
    /// Calls what others deployed.
    Invoker,
    /// Writes and reads records.
    Writer,
    /// Reads records.
    Reader,
}

impl Role {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Deployer, Self::Invoker, Self::Writer, Self::Reader];

    /// The word in settings, tokens and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Deployer => "deployer",
            Self::Invoker => "invoker",
            Self::Writer => "writer",
            Self::Reader => "reader",
        }
    }

    /// The table of roles and verbs.
    pub const fn may(self, verb: Verb) -> bool {
        match self {
            Self::Admin => true,
            Self::Deployer => {
                matches!(verb, Verb::Deploy | Verb::Discover | Verb::Invoke | Verb::Define | Verb::Read)
            }
            Self::Invoker => matches!(verb, Verb::Invoke | Verb::Discover),
            Self::Writer => matches!(verb, Verb::Write | Verb::Read | Verb::Discover),
            Self::Reader => matches!(verb, Verb::Read | Verb::Discover),
        }
    }

    /// Whether it may do all that `other` may.
    fn includes(self, other: Self) -> bool {
        Verb::ALL.into_iter().all(|verb| self.may(verb) || !other.may(verb))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// In every namespace.
    All,
    /// In one.
    One(Namespace),
}

impl Scope {
    /// Whether it reaches there.
    pub fn covers(&self, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == namespace,
        }
    }

    /// Whether there may be a namespace that both reach.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(one), Self::One(other)) => one == other,
            _ => true,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::One(namespace) => namespace.fmt(f),
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

/// A role and where it holds: `namespace:role`, or `*:role` for every namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Binding {
    /// Where.
    pub scope: Scope,
    /// What.
    pub role: Role,
}

/// A text that is no binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no NAMESPACE:ROLE; the roles are admin, deployer, invoker, writer and reader, * stands for every namespace"
)]
pub struct NoBinding;

impl Binding {
    /// Whether it lets its holder do `verb` in `namespace`. Who runs the node may look at what the node keeps about itself;
    /// nobody works in `system`.
    pub fn allows(&self, namespace: &Namespace, verb: Verb) -> bool {
        let everywhere = self.scope == Scope::All;
        let here = match verb {
            Verb::Operate => everywhere,
            _ => self.scope.covers(namespace),
        };
        let own = !namespace.is_system()
            || (everywhere && self.role == Role::Admin && matches!(verb, Verb::Discover | Verb::Read | Verb::Operate));
        here && own && self.role.may(verb)
    }

    /// As much of it as `cap` leaves.
    pub(super) fn within(&self, cap: &Self) -> Option<Self> {
        let scope = match (&self.scope, &cap.scope) {
            (own, Scope::All) => own,
            (Scope::All, one) => one,
            (own, one) if own == one => own,
            _ => return None,
        };
        let role = match (cap.role.includes(self.role), self.role.includes(cap.role)) {
            (true, _) => self.role,
            (false, true) => cap.role,
            (false, false) => return None,
        };
        Some(Self { scope: scope.clone(), role })
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope, self.role)
    }
}

impl FromStr for Binding {
    type Err = NoBinding;

    fn from_str(text: &str) -> Result<Self, NoBinding> {
        let (scope, role) = text.split_once(':').ok_or(NoBinding)?;
        let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or(NoBinding)?;
        Ok(Self { scope: scope.parse().map_err(|_| NoBinding)?, role })
    }
}

impl Serialize for Binding {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        text.parse().map_err(|why| serde::de::Error::custom(format!("{text:?} {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(text: &str) -> Binding {
        text.parse().unwrap()
    }

    #[test]
    fn u02_each_role_may_do_what_the_table_says_and_nothing_else() {
        use Verb::{Define, Deploy, Discover, Invoke, Read, Write};
        for (role, may) in [
            (Role::Admin, &Verb::ALL[..]),
            (Role::Deployer, &[Deploy, Discover, Invoke, Define, Read]),
            (Role::Invoker, &[Invoke, Discover]),
            (Role::Writer, &[Write, Read, Discover]),
            (Role::Reader, &[Read, Discover]),
        ] {
            for verb in Verb::ALL {
                assert_eq!(role.may(verb), may.contains(&verb), "{role} {verb:?}");
                let one = Binding { scope: binding("acme:reader").scope, role };
                let (here, there) = ("acme".parse().unwrap(), "Acme".parse().unwrap());
                assert_eq!(one.allows(&here, verb), may.contains(&verb) && verb != Verb::Operate, "{role} {verb:?}");
                assert!(!one.allows(&there, verb), "names compare byte for byte");
                assert_eq!(Binding { scope: Scope::All, role }.allows(&there, verb), may.contains(&verb));
            }
        }
    }

    #[test]
    fn system_is_read_by_who_runs_the_node_and_by_nobody_else() {
        let system = Namespace::system();
        for verb in Verb::ALL {
            let reads = matches!(verb, Verb::Discover | Verb::Read | Verb::Operate);
            assert_eq!(binding("*:admin").allows(&system, verb), reads, "{verb:?}");
            for other in ["system:admin", "*:deployer", "*:reader", "*:writer", "system:reader"] {
                assert!(!binding(other).allows(&system, verb), "{other} {verb:?}");
            }
        }
    }

    #[test]
    fn a_cap_leaves_what_both_allow() {
        for (own, cap, left) in [
            ("acme:admin", "*:admin", Some("acme:admin")),
            ("*:admin", "acme:admin", Some("acme:admin")),
            ("*:admin", "*:invoker", Some("*:invoker")),
            ("acme:reader", "acme:deployer", Some("acme:reader")),
            ("acme:writer", "acme:deployer", None),
            ("acme:reader", "*:invoker", None),
            ("acme:invoker", "globex:admin", None),
        ] {
            assert_eq!(binding(own).within(&binding(cap)).map(|left| left.to_string()).as_deref(), left, "{own} {cap}");
        }
    }

    #[test]
    fn bindings_are_read_as_they_are_written() {
        for text in ["acme:admin", "*:reader", "a.b-c_d:writer"] {
            assert_eq!(binding(text).to_string(), text);
        }
        for bad in ["", "acme", "acme:", ":admin", "acme:root", "acme:Admin", "**:admin", "a/b:admin", "a:b:admin"] {
            assert!(bad.parse::<Binding>().is_err(), "{bad}");
        }
    }
}
