//! Who may manage whose keys: the admins of all namespaces that a key is for.

use super::{
    Binding, Caller, Key, KeyError, Known, NewKey, Permit, Policy, Principal, Refused, Scope, Secret, Tenancy, Verb,
};
use crate::domain::Namespace;
use std::sync::Arc;

impl Tenancy {
    /// Makes a key. The caller has to be an admin wherever the key is to work, so it gives nothing that it does not have.
    ///
    /// * errors: `Off`, `Refused`; those of [`Keys::create`](super::Keys::create).
    pub async fn create_key(&self, caller: &Caller, new: NewKey) -> Result<(Key, Secret), KeyError> {
        let known = self.known()?;
        self.manage_all(caller, &new.bindings)?;
        known.keys.create(new, caller.principal().to_string()).await
    }

    /// Keys by id, at most `limit` of those after `after`: of the namespace, or all that the caller may manage. What a key
    /// may do where the caller manages nothing is left out.
    ///
    /// * errors: `Off`; `Refused`, of a namespace.
    pub fn list_keys(
        &self,
        caller: &Caller,
        namespace: Option<&Namespace>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Key>, KeyError> {
        let known = self.known()?;
        if let Some(namespace) = namespace {
            self.authorize(caller, namespace, Verb::Manage)?;
        }
        let fits = |binding: &Binding| match (namespace, &binding.scope) {
            (Some(namespace), Scope::One(one)) => one == namespace,
            (Some(_), Scope::All) => false,
            (None, _) => self.manages(caller, binding),
        };
        let mut found = known.keys.list(after, limit, |key| key.bindings.iter().any(fits));
        for key in &mut found {
            key.bindings.retain(|binding| self.manages(caller, binding));
            // Whoever made it may be of another namespace.
            if !self.operates(caller) {
                key.created_by.clear();
            }
        }
        Ok(found)
    }

    /// Ends a key, for new calls and open streams.
    ///
    /// * errors: `Off`; `Refused` for a key that is for other namespaces too; `NotFound`, also for one that is only for
    ///   others; `Store`.
    pub async fn revoke_key(&self, caller: &Caller, id: &str) -> Result<Key, KeyError> {
        let known = self.known()?;
        let key = known.keys.get(id).ok_or(KeyError::NotFound)?;
        let is_known = key.bindings.iter().any(|binding| self.manages(caller, binding));
        let managed = self.manage_all(caller, &key.bindings);
        if !is_known {
            return Err(KeyError::NotFound);
        }
        managed?;
        known.keys.revoke(id).await
    }

    /// Ends all tokens of this `jti`. Tokens may be for any namespace, so this is for who runs the node.
    ///
    /// * `expires_at`: the token's `exp`, in Unix microseconds.
    /// * errors: `Off`, `NoTokens`, `Refused`, `Field`, `TooMany`, `Store`.
    pub async fn revoke_token(&self, caller: &Caller, id: String, expires_at: i64) -> Result<(), KeyError> {
        let known = self.known()?;
        self.authorize(caller, &Namespace::system(), Verb::Operate)?;
        known.tokens.as_ref().ok_or(KeyError::NoTokens)?.revoke(id, expires_at).await
    }

    /// Lets the caller change the node itself. Where nobody is asked who they are, whoever calls it runs it.
    ///
    /// * errors: those of [`Tenancy::authorize`].
    pub fn operate(&self, caller: &Caller) -> Result<Permit, Refused> {
        let system = Namespace::system();
        if self.asks() || *caller.principal() != Principal::Anonymous {
            return self.authorize(caller, &system, Verb::Operate);
        }
        let Policy { audit, quotas, .. } = &*self.0;
        if let Some(audit) = audit {
            audit.permitted(caller.principal(), caller.trail(), Verb::Operate, &system)?;
        }
        Ok(Permit { namespace: system, caller: caller.clone(), quotas: Arc::clone(quotas), _place: None })
    }

    fn known(&self) -> Result<&Known, KeyError> {
        self.0.asked().ok_or(KeyError::Off)
    }

    /// Whether the caller runs the node.
    pub fn operates(&self, caller: &Caller) -> bool {
        self.allows(caller, &Namespace::system(), Verb::Operate)
    }

    fn manages(&self, caller: &Caller, binding: &Binding) -> bool {
        let (namespace, verb) = needed(binding);
        self.allows(caller, &namespace, verb)
    }

    /// Writes down that the caller changes something wherever these hold, or that it was refused.
    fn manage_all(&self, caller: &Caller, bindings: &[Binding]) -> Result<(), Refused> {
        // What it lacks first: nothing is begun that will not be done.
        let (has, lacks): (Vec<&Binding>, _) = bindings.iter().partition(|binding| self.manages(caller, binding));
        for binding in lacks.into_iter().chain(has) {
            let (namespace, verb) = needed(binding);
            self.authorize(caller, &namespace, verb)?;
        }
        Ok(())
    }
}

/// What it takes to give this to others, or to take it from them.
fn needed(binding: &Binding) -> (Namespace, Verb) {
    match &binding.scope {
        Scope::One(namespace) if !namespace.is_system() => (namespace.clone(), Verb::Manage),
        Scope::One(_) | Scope::All => (Namespace::system(), Verb::Operate),
    }
}
