//! Which things were used when, and how much they weigh together: the books of every bounded store. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Keys by their last use, each with its weight in bytes. Every operation costs the logarithm of the number of keys.
#[derive(Debug)]
pub struct Recency<K> {
    entries: HashMap<K, Entry>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    used: u64,
    bytes: u64,
}

impl<K> Default for Recency<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0 }
    }
}

impl<K: Clone + Eq + Hash> Recency<K> {
    /// Adds a key as used just now; one that is there already is counted once, with its new weight.
    pub fn insert(&mut self, key: K, bytes: u64) {
        self.remove(&key);
        self.uses += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_use.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { used: self.uses, bytes });
    }

    /// Whether the key is there; marks it as used just now.
    pub fn touch(&mut self, key: &K) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        self.uses += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        true
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }

    /// What was not used for longest, if there are more than `most_bytes` or `most_entries`; the newest is never over.
    pub fn oldest_over(&self, most_bytes: u64, most_entries: usize) -> Option<K> {
        let over = self.bytes > most_bytes || self.entries.len() > most_entries;
        self.by_use.values().next().filter(|_| over && self.entries.len() > 1).cloned()
    }

    /// Weight of all keys.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_stay_in_step() {
        let mut books = Recency::default();
        for key in ["a", "b", "c"] {
            books.insert(key, 10);
        }
        assert_eq!(books.oldest_over(30, 3), None, "at the bounds");
        assert_eq!((books.oldest_over(29, 3), books.oldest_over(30, 2)), (Some("a"), Some("a")));
        assert!(books.touch(&"a") && !books.touch(&"x"));
        assert_eq!(books.oldest_over(0, 0), Some("b"));
        books.insert("b", 5);
        assert_eq!((books.bytes(), books.len(), books.by_use.len()), (25, 3, 3), "counted once");
        books.remove(&"c");
        books.remove(&"a");
        assert_eq!((books.bytes(), books.len(), books.oldest_over(0, 0)), (5, 1, None), "the newest always stays");
        books.remove(&"b");
        assert!(books.is_empty() && books.by_use.is_empty() && books.bytes() == 0);
    }
}
