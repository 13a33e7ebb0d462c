//! What one request leaves in the log.

use super::{Audit, Entry, Ticket, Unrecorded, lock};
use crate::domain::Namespace;
use crate::tenancy::{Principal, Verb};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// Changes that one request begins and that get a record each. 64: a request asks for one or two; a batch asks for the same
/// again and again, which is one.
const OPEN_MAX: usize = 64;

/// Somebody who did not say who they are, or not truly.
const STRANGER: &str = "unknown";

/// One request, from its first permit to its answer. Clones are the same request.
#[derive(Debug, Clone)]
pub struct Trail(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    request: Uuid,
    source: Option<IpAddr>,
    action: Box<str>,
    open: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    caller: String,
    verb: Verb,
    namespace: Namespace,
    ticket: Ticket,
}

impl Trail {
    /// * `action`: the path of the RPC.
    pub fn new(request: Uuid, source: Option<IpAddr>, action: &str) -> Self {
        Self(Arc::new(Inner { request, source, action: action.into(), open: Mutex::default() }))
    }

    /// The request was answered with the code of this name: so end all changes that it began.
    pub fn end(&self, outcome: &str) {
        let open = std::mem::take(&mut *lock(&self.0.open));
        for Open { ticket, .. } in open {
            ticket.end(outcome);
        }
    }

    /// What it asks for now.
    fn entry<'a>(&'a self, caller: &'a str, verb: Verb, namespace: &'a Namespace) -> Entry<'a> {
        let Inner { request, source, action, .. } = &*self.0;
        let (request, namespace) = (Some(*request), namespace.as_str());
        Entry { request, caller, source: *source, action, verb: verb.name(), namespace }
    }
}

/// Somebody outside of a request: the node itself.
fn alone<'a>(caller: &'a str, verb: Verb, namespace: &'a Namespace) -> Entry<'a> {
    Entry { request: None, caller, source: None, action: "", verb: verb.name(), namespace: namespace.as_str() }
}

impl Audit {
    /// Writes that a caller is about to change something, once for each request, caller, verb and namespace.
    ///
    /// * errors: `Unrecorded`: it must not.
    pub(in crate::tenancy) fn permitted(
        &self,
        who: &Principal,
        trail: Option<&Trail>,
        verb: Verb,
        namespace: &Namespace,
    ) -> Result<(), Unrecorded> {
        let caller = who.to_string();
        let Some(trail) = trail else {
            self.begin(&alone(&caller, verb, namespace))?.leave();
            return Ok(());
        };
        let mut open = lock(&trail.0.open);
        let is_same = |one: &Open| one.verb == verb && one.namespace == *namespace && one.caller == caller;
        let is_known = open.iter().any(is_same);
        if is_known {
            return Ok(());
        }
        let ticket = self.begin(&trail.entry(&caller, verb, namespace))?;
        match open.len() < OPEN_MAX {
            true => open.push(Open { caller, verb, namespace: namespace.clone(), ticket }),
            false => ticket.leave(),
        }
        Ok(())
    }

    /// Writes that somebody was turned away whom the node does not know.
    pub(in crate::tenancy) fn turned_away(&self, trail: &Trail) {
        let Inner { request, source, action, .. } = &*trail.0;
        let (request, source) = (Some(*request), *source);
        // Counted as one, wherever they are: who has a million addresses does not push others out of the log.
        let entry = Entry { request, caller: STRANGER, source, action, verb: "call", namespace: "" };
        self.denied_as(STRANGER.to_owned(), &entry);
    }

    /// Writes that a caller was refused.
    pub(in crate::tenancy) fn refused(
        &self,
        who: &Principal,
        trail: Option<&Trail>,
        verb: Verb,
        namespace: &Namespace,
    ) {
        let caller = who.to_string();
        match trail {
            Some(trail) => self.denied(&trail.entry(&caller, verb, namespace)),
            None => self.denied(&alone(&caller, verb, namespace)),
        }
    }
}
