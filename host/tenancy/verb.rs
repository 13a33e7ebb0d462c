//! What a caller may want.

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Say what code may reach and who may come in: grants, secrets, keys of this namespace.
    Manage,
    /// Run the node: namespaces, quotas, keys of every namespace, its own records.
    Operate,
}

impl Verb {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Invoke,
        Self::Deploy,
        Self::Discover,
        Self::Define,
        Self::Read,
        Self::Write,
        Self::Manage,
        Self::Operate,
    ];

    /// A word for it, in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Deploy => "deploy",
            Self::Discover => "discover",
            Self::Define => "define",
            Self::Read => "read",
            Self::Write => "write",
            Self::Manage => "manage",
            Self::Operate => "operate",
        }
    }

    /// Whether it changes something that stays, so that it has to be written down first.
    pub const fn changes(self) -> bool {
        match self {
            Self::Invoke | Self::Discover | Self::Read => false,
            Self::Deploy | Self::Define | Self::Write | Self::Manage | Self::Operate => true,
        }
    }
}

/// Some of the verbs: what somebody may do in one namespace, as collectors tell each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Verbs(u32);

impl Verbs {
    /// Those for which `may` holds.
    pub fn those(may: impl Fn(Verb) -> bool) -> Self {
        Verb::ALL.into_iter().filter(|verb| may(*verb)).fold(Self(0), |Self(all), verb| Self(all | Self::bit(verb)))
    }

    /// As they travel. A bit that is not known here is a verb that is not known here: nobody asks for it.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The same for travel: [`Verb::ALL`] from the lowest bit up. That order stays.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether it is one of them.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & Self::bit(verb) != 0
    }

    fn bit(verb: Verb) -> u32 {
        Verb::ALL.into_iter().position(|one| one == verb).map_or(0, |at| 1 << at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_travel_as_bits_in_an_order_that_stays() {
        let all = Verb::ALL.map(|verb| Verbs::those(|one| one == verb).bits());
        assert_eq!(all, [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(Verb::ALL.map(Verb::name)[..3], ["invoke", "deploy", "discover"]);
        let two = Verbs::from_bits(Verbs::those(|verb| matches!(verb, Verb::Read | Verb::Invoke)).bits() | 1 << 31);
        assert!(Verb::ALL.into_iter().all(|verb| two.has(verb) == matches!(verb, Verb::Read | Verb::Invoke)));
    }
}
