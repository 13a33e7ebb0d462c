//! What a handler may know of the call it serves.

use std::cell::OnceCell;
use std::time::Duration;

#[allow(clippy::disallowed_types, reason = "a guest has no async runtime whose clock could be paused")]
type Instant = std::time::Instant;

/// One pair of request metadata.
type Entry = (String, Vec<u8>);

/// The call that this instance was made for. Every part is fetched from the node when it is first asked for.
///
/// A test makes its own:
///
/// ```
/// use collector_guest::Context;
/// use std::time::Duration;
///
/// let context = Context::new("acme", "greeter.v1.Greeter", "SayHello")
///     .with_metadata("x-request-id", "7")
///     .with_remaining(Duration::from_secs(5));
/// assert_eq!(context.metadata().get("x-request-id"), Some("7"));
/// assert!(context.remaining().is_some());
/// ```
#[derive(Debug)]
pub struct Context {
    method: String,
    namespace: OnceCell<String>,
    service: OnceCell<String>,
    metadata: OnceCell<Vec<Entry>>,
    deadline: Deadline,
}

#[derive(Debug)]
enum Deadline {
    None,
    At(Instant),
    #[cfg(target_family = "wasm")]
    AskNode,
}

impl Context {
    /// A context with no metadata and no deadline, for tests and for hosts other than a node.
    #[must_use]
    pub fn new(namespace: impl Into<String>, service: impl Into<String>, method: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            namespace: namespace.into().into(),
            service: service.into().into(),
            metadata: Vec::new().into(),
            deadline: Deadline::None,
        }
    }

    /// Adds a pair of request metadata.
    /// * `key`: lower case; ends in `-bin` if the value is not text.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        let mut entries = self.metadata.take().unwrap_or_default();
        entries.push((key.into(), value.into()));
        self.metadata = entries.into();
        self
    }

    /// Sets the time left, counted from now.
    #[must_use]
    pub fn with_remaining(mut self, remaining: Duration) -> Self {
        self.deadline = Instant::now().checked_add(remaining).map_or(Deadline::None, Deadline::At);
        self
    }

    /// The context of the call that the node is making right now.
    #[cfg(target_family = "wasm")]
    pub(crate) fn of_node(method: String) -> Self {
        Self {
            method,
            namespace: OnceCell::new(),
            service: OnceCell::new(),
            metadata: OnceCell::new(),
            deadline: Deadline::AskNode,
        }
    }

    /// Full protobuf name of the called service (`greeter.v1.Greeter`), or the name as the caller gave it where the
    /// component carries no descriptors.
    #[must_use]
    pub fn service(&self) -> &str {
        self.service.get_or_init(node::service)
    }

    /// Simple name of the called method, `SayHello`.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The namespace that the call was made in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.get_or_init(node::namespace)
    }

    /// Request metadata in the order received, without credentials and without what belongs to the transport.
    /// A native command has none.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata { entries: self.metadata.get_or_init(node::metadata) }
    }

    /// Time until the node stops this call: zero when it is up, `None` if nothing limits it.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        match &self.deadline {
            Deadline::None => None,
            Deadline::At(end) => Some(end.saturating_duration_since(Instant::now())),
            #[cfg(target_family = "wasm")]
            Deadline::AskNode => match node::deadline_ms() {
                u64::MAX => None,
                ms => Some(Duration::from_millis(ms)),
            },
        }
    }
}

/// Request metadata: see [`Context::metadata`].
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    entries: &'a [Entry],
}

impl<'a> Metadata<'a> {
    /// First value under `key`, if it is text.
    #[must_use]
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.get_bytes(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// First value under `key`, text or not: keys that end in `-bin` carry any bytes.
    #[must_use]
    pub fn get_bytes(self, key: &str) -> Option<&'a [u8]> {
        self.iter().find(|(have, _)| have.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    /// All pairs in the order received; a key may come more than once.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

#[cfg(target_family = "wasm")]
use crate::component::node;

/// Outside of a node nothing is left to fetch: [`Context::new`] knows it all.
#[cfg(not(target_family = "wasm"))]
mod node {
    pub(super) fn service() -> String {
        String::new()
    }
    pub(super) fn namespace() -> String {
        String::new()
    }
    pub(super) fn metadata() -> Vec<super::Entry> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_context_says_what_it_was_given() {
        let context = Context::new("acme", "greeter.v1.Greeter", "SayHello");
        assert_eq!(
            (context.namespace(), context.service(), context.method()),
            ("acme", "greeter.v1.Greeter", "SayHello")
        );
        assert_eq!(context.metadata().iter().count(), 0);
        assert_eq!(context.remaining(), None);
    }

    #[test]
    fn metadata_keeps_order_and_finds_the_first_of_a_key() {
        let context = Context::new("acme", "s", "M")
            .with_metadata("x-a", "1")
            .with_metadata("x-bin", [0xff, 0])
            .with_metadata("x-a", "2");
        let metadata = context.metadata();
        assert_eq!(metadata.get("X-A"), Some("1"));
        assert_eq!(metadata.get("x-bin"), None, "not text");
        assert_eq!(metadata.get_bytes("x-bin"), Some([0xff, 0].as_slice()));
        assert_eq!(metadata.get("x-none"), None);
        assert_eq!(metadata.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["x-a", "x-bin", "x-a"]);
    }

    #[test]
    fn time_runs_down_to_zero_and_stays() {
        let context = Context::new("acme", "s", "M").with_remaining(Duration::ZERO);
        assert_eq!(context.remaining(), Some(Duration::ZERO));
        let context = Context::new("acme", "s", "M").with_remaining(Duration::from_secs(60));
        assert!(context.remaining().unwrap() > Duration::from_secs(50));
        assert_eq!(Context::new("acme", "s", "M").with_remaining(Duration::MAX).remaining(), None);
    }
}
