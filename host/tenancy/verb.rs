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
