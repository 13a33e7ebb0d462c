//! What the records of each collection are, worked out once for each revision of the namespace's types.

use super::document::VectorField;
use super::{Definition, Form, ask};
use crate::domain::{CollectionName, Namespace};
use crate::registry::Snapshot;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// Namespaces to remember. 1,024: what a large node works on at a time; one more, and all are worked out again.
const NAMESPACES: usize = 1_024;
/// Collections to remember of a namespace, dropped ones among them. 2,048: twice what it may have by default.
const COLLECTIONS: usize = 2_048;
/// What marks the indexed field that vector search compares.
const VECTOR: &str = ":vector";

/// What the records of a collection are, and what is looked for in them.
pub(super) struct Known {
    pub(super) form: Form,
    pub(super) vector: Option<VectorField>,
}

impl Known {
    /// CPU work that grows with the namespace, unless its types are linked already.
    pub(super) fn of(snapshot: &Snapshot, definition: &Definition) -> Self {
        let form = Form::of(snapshot, definition.message_type.as_deref());
        let marked: Vec<String> = vector_fields(definition).map(str::to_owned).collect();
        // A field that the type does not have (any more) is no vector of a record.
        let vector = ask::indexes(&form, &marked).ok().and_then(|indexes| indexes.vector);
        Self { form, vector }
    }
}

/// The indexed fields that are marked as vectors, mark and all: none or one.
fn vector_fields(definition: &Definition) -> impl Iterator<Item = &str> {
    definition.indexed_fields.iter().map(String::as_str).filter(|field| field.ends_with(VECTOR))
}

/// Path of the vector of the records.
pub(super) fn vector_path(definition: &Definition) -> Option<&str> {
    vector_fields(definition).next().and_then(|field| field.strip_suffix(VECTOR))
}

/// What was worked out.
#[derive(Default)]
pub(super) struct Forms {
    spaces: RwLock<HashMap<Namespace, Arc<Space>>>,
}

/// Definitions are not held on to: who changes one waits until nobody works by it any more.
type OfDefinitions = HashMap<CollectionName, (Weak<Definition>, Arc<Known>)>;

/// Of one namespace at one revision: what is of another is dropped together, as it holds all types of its time.
struct Space {
    snapshot: Arc<Snapshot>,
    known: RwLock<OfDefinitions>,
}

impl Space {
    fn is_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        // The snapshot of a namespace in which nothing is registered is made anew each time.
        Arc::ptr_eq(&self.snapshot, snapshot) || (self.snapshot.is_blank() && snapshot.is_blank())
    }
}

impl Forms {
    /// What is known of the collection, if it was worked out for this revision and this definition.
    pub(super) fn get(&self, snapshot: &Arc<Snapshot>, definition: &Arc<Definition>) -> Option<Arc<Known>> {
        let space = self.space(snapshot, &definition.namespace)?;
        let known = space.known.read().unwrap_or_else(PoisonError::into_inner);
        let (of, known) = known.get(&definition.name)?;
        std::ptr::eq(of.as_ptr(), Arc::as_ptr(definition)).then(|| Arc::clone(known))
    }

    /// Remembers it.
    pub(super) fn keep(&self, snapshot: &Arc<Snapshot>, definition: &Arc<Definition>, known: &Arc<Known>) {
        let space = self.space(snapshot, &definition.namespace).unwrap_or_else(|| {
            let space = Arc::new(Space { snapshot: Arc::clone(snapshot), known: RwLock::default() });
            let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
            if spaces.len() >= NAMESPACES {
                spaces.clear();
            }
            spaces.insert(definition.namespace.clone(), Arc::clone(&space));
            space
        });
        let mut all = space.known.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COLLECTIONS {
            all.clear();
        }
        all.insert(definition.name.clone(), (Arc::downgrade(definition), Arc::clone(known)));
    }

    fn space(&self, snapshot: &Arc<Snapshot>, namespace: &Namespace) -> Option<Arc<Space>> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.get(namespace).filter(|space| space.is_of(snapshot)).cloned()
    }
}
