//! What may be there: the versions of every record in the order in which its only writer asked for them.
//!
//! A record has one writer, so its versions have one order. `floor` is the oldest of them that may still be there: what
//! was acknowledged, or shown to a reader, must never be followed by anything older. What was asked for and not answered
//! may be there or not, but all that was asked for in one call is, or none of it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// A record: which collection, which id.
pub type Key = (usize, String);

/// What a record of these tests holds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Note {
    /// Names the version that it was first written with. One word.
    #[prost(string, tag = "1")]
    pub token: String,
    #[prost(int64, tag = "2")]
    pub number: i64,
    #[prost(string, tag = "3")]
    pub body: String,
}

/// A version as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub note: Note,
    /// What has to come back; `None` where the node puts the bytes together.
    pub bytes: Option<Vec<u8>>,
}

/// A version as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub note: Note,
    pub bytes: Vec<u8>,
    pub etag: String,
}

impl Held {
    fn is(&self, seen: &Seen) -> bool {
        self.note == seen.note && self.bytes.as_ref().is_none_or(|bytes| *bytes == seen.bytes)
    }
}

/// How a promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A version that had to be there is not, and nothing is.
    Lost,
    /// An older version than one that was acknowledged or read before.
    Stale,
    /// What the node said it had refused.
    Refused,
    /// What nobody wrote.
    Foreign,
    /// A part of what was asked for in one call, and not all of it.
    Torn,
    /// An etag of another version.
    Etag,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Changes that were asked for in one call: their records, and the places of their versions.
#[derive(Clone, Debug)]
pub struct Issued {
    group: u64,
    members: Vec<(Key, usize)>,
}

/// What became of calls that were not answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fates {
    pub present: u64,
    pub absent: u64,
    /// They would have changed nothing.
    pub either: u64,
}

#[derive(Clone, Debug)]
struct Version {
    held: Option<Held>,
    etag: Option<String>,
    void: bool,
}

impl Version {
    fn new(held: Option<Held>) -> Self {
        Self { held, etag: None, void: false }
    }

    fn is(&self, seen: Option<&Seen>) -> bool {
        match (&self.held, seen) {
            (None, None) => true,
            (Some(held), Some(seen)) => held.is(seen),
            _ => false,
        }
    }
}

#[derive(Debug)]
struct History {
    versions: Vec<Version>,
    floor: usize,
    etags: HashSet<String>,
}

impl Default for History {
    fn default() -> Self {
        Self { versions: vec![Version::new(None)], floor: 0, etags: HashSet::new() }
    }
}

impl History {
    /// Where a reading can stand that began when `floor` was the oldest possible version.
    fn places(&self, floor: usize, seen: Option<&Seen>) -> Vec<usize> {
        let fits = |at: &usize| {
            let version = &self.versions[*at];
            let etag = match (&version.etag, seen) {
                (Some(etag), Some(seen)) => *etag == seen.etag,
                _ => true,
            };
            !version.void && version.is(seen) && etag
        };
        (floor..self.versions.len()).filter(fits).collect()
    }

    /// What is wrong with a reading that has no place.
    fn accuse(&self, key: &Key, floor: usize, seen: Option<&Seen>) -> Violation {
        let alike: Vec<usize> = (0..self.versions.len()).filter(|at| self.versions[*at].is(seen)).collect();
        let kind = match alike.last() {
            _ if seen.is_none() => Kind::Lost,
            None => Kind::Foreign,
            Some(at) if *at < floor => Kind::Stale,
            Some(at) if self.versions[*at].void => Kind::Refused,
            Some(_) => Kind::Etag,
        };
        let wanted: Vec<&Version> = self.versions[floor..].iter().filter(|version| !version.void).collect();
        let cut = |text: String| text.chars().take(2_000).collect::<String>();
        let what = format!("{key:?}: read {}; possible {}", cut(format!("{seen:?}")), cut(format!("{wanted:?}")));
        Violation { kind, what }
    }

    fn name(&mut self, key: &Key, at: usize, etag: &str) -> Result<(), Violation> {
        let wrong = |what: &str| Violation { kind: Kind::Etag, what: format!("{key:?}: {what} {etag:?}") };
        match &self.versions[at].etag {
            Some(known) if known == etag => return Ok(()),
            Some(_) => return Err(wrong("a version has a second etag")),
            None => {}
        }
        if !self.etags.insert(etag.to_owned()) {
            return Err(wrong("another version has the etag"));
        }
        self.versions[at].etag = Some(etag.to_owned());
        Ok(())
    }
}

/// All records.
#[derive(Debug, Default)]
pub struct Model {
    histories: BTreeMap<Key, History>,
    open: BTreeMap<u64, Vec<(Key, usize)>>,
    groups: u64,
}

impl Model {
    /// Says that these changes are about to be asked for, in one call.
    pub fn issue(&mut self, changes: Vec<(Key, Option<Held>)>) -> Issued {
        let mut members = Vec::new();
        for (key, held) in changes {
            let history = self.histories.entry(key.clone()).or_default();
            history.versions.push(Version::new(held));
            members.push((key, history.versions.len() - 1));
        }
        self.groups += 1;
        self.open.insert(self.groups, members.clone());
        Issued { group: self.groups, members }
    }

    /// The call was answered with OK and these etags.
    pub fn acknowledge(&mut self, issued: &Issued, etags: &[Option<String>]) -> Result<(), Violation> {
        self.open.remove(&issued.group);
        for ((key, at), etag) in issued.members.iter().zip(etags) {
            let history = self.histories.entry(key.clone()).or_default();
            history.floor = history.floor.max(*at);
            if let Some(etag) = etag {
                history.name(key, *at, etag)?;
            }
        }
        Ok(())
    }

    /// The call was answered with an error that says that nothing was done.
    pub fn refuse(&mut self, issued: &Issued) -> Result<(), Violation> {
        self.open.remove(&issued.group);
        for (key, at) in &issued.members {
            let history = self.histories.entry(key.clone()).or_default();
            if history.floor >= *at {
                let what = format!("{key:?}: a version that a reader had seen was refused");
                return Err(Violation { kind: Kind::Refused, what });
            }
            history.versions[*at].void = true;
        }
        Ok(())
    }

    /// A record that the node named, with its etag. It was asked for with a call of its own.
    pub fn adopt(&mut self, key: Key, held: Held, etag: &str) -> Result<(), Violation> {
        if self.histories.contains_key(&key) {
            return Err(Violation { kind: Kind::Foreign, what: format!("{key:?}: a new record has a known id") });
        }
        let issued = self.issue(vec![(key, Some(held))]);
        self.acknowledge(&issued, &[Some(etag.to_owned())])
    }

    /// What the writer of a record has made of it so far.
    pub fn current(&self, key: &Key) -> Option<&Held> {
        self.last(key)?.held.as_ref()
    }

    /// The etag of that.
    pub fn etag(&self, key: &Key) -> Option<&str> {
        self.last(key)?.etag.as_deref()
    }

    fn last(&self, key: &Key) -> Option<&Version> {
        self.histories.get(key)?.versions.iter().rev().find(|version| !version.void)
    }

    /// All records that were ever asked for.
    pub fn keys(&self) -> Vec<Key> {
        self.histories.keys().cloned().collect()
    }

    /// To be asked before a read begins.
    pub fn floor(&self, key: &Key) -> usize {
        self.histories.get(key).map_or(0, |history| history.floor)
    }

    /// Checks a reading; what it shows is there to stay.
    pub fn observe(&mut self, key: &Key, floor: usize, seen: Option<&Seen>) -> Result<(), Violation> {
        let history = self.histories.entry(key.clone()).or_default();
        let places = history.places(floor, seen);
        let Some(first) = places.first() else { return Err(history.accuse(key, floor, seen)) };
        history.floor = history.floor.max(*first);
        match (seen, &places[..]) {
            (Some(seen), [only]) => history.name(key, *only, &seen.etag),
            _ => Ok(()),
        }
    }

    /// Checks what is there when nothing is under way any more, and takes it for what is there from now on.
    ///
    /// * `read`: every record of [`Model::keys`].
    pub fn settle(&mut self, read: &BTreeMap<Key, Option<Seen>>) -> Result<Fates, Violation> {
        let mut places = BTreeMap::new();
        for (key, history) in &self.histories {
            let seen = read.get(key).unwrap_or_else(|| panic!("{key:?} was not read")).as_ref();
            let found = history.places(history.floor, seen);
            if found.is_empty() {
                return Err(history.accuse(key, history.floor, seen));
            }
            places.insert(key.clone(), found);
        }
        let mut fates = Fates::default();
        for members in std::mem::take(&mut self.open).into_values() {
            let took = |(key, at): &(Key, usize)| match &places[key] {
                found if !found.contains(at) => Some(false),
                found if found.iter().any(|place| place < at) => None,
                _ => Some(true),
            };
            let took: HashSet<bool> = members.iter().filter_map(took).collect();
            match (took.contains(&true), took.contains(&false)) {
                (true, true) => {
                    return Err(Violation { kind: Kind::Torn, what: format!("{members:?} are there in part") });
                }
                (true, false) => fates.present += 1,
                (false, true) => fates.absent += 1,
                (false, false) => fates.either += 1,
            }
        }
        for (key, history) in &mut self.histories {
            let Some(at) = places[key].last() else { continue };
            if let Some(Some(seen)) = read.get(key)
                && history.versions[*at].etag.is_none()
            {
                history.name(key, *at, &seen.etag)?;
            }
            history.versions = vec![history.versions[*at].clone()];
            history.floor = 0;
        }
        Ok(fates)
    }

    /// Forgets records that are gone and that nobody will write again.
    pub fn forget(&mut self, gone: impl Fn(&Key) -> bool) {
        let settled = |history: &History| matches!(&history.versions[..], [Version { held: None, .. }]);
        self.histories.retain(|key, history| !(settled(history) && gone(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        (0, id.to_owned())
    }

    fn held(token: &str) -> Option<Held> {
        let note = Note { token: token.to_owned(), number: 1, body: String::new() };
        Some(Held { bytes: Some(token.as_bytes().to_vec()), note })
    }

    fn seen(token: &str, etag: &str) -> Option<Seen> {
        let Held { note, bytes } = held(token).unwrap();
        Some(Seen { note, bytes: bytes.unwrap(), etag: etag.to_owned() })
    }

    /// A model with `a` written as `v1` and acknowledged with etag `1`, and what is read of it.
    fn written() -> Model {
        let mut model = Model::default();
        let issued = model.issue(vec![(key("a"), held("v1"))]);
        model.acknowledge(&issued, &[Some("1".into())]).unwrap();
        model
    }

    fn settle(model: &mut Model, read: &[(&str, Option<Seen>)]) -> Result<Fates, Kind> {
        let read = read.iter().map(|(id, seen)| (key(id), seen.clone())).collect();
        model.settle(&read).map_err(|why| why.kind)
    }

    #[test]
    fn what_was_acknowledged_is_there_with_its_bytes_and_its_etag() {
        assert!(settle(&mut written(), &[("a", seen("v1", "1"))]).is_ok());
        assert_eq!(settle(&mut written(), &[("a", None)]).unwrap_err(), Kind::Lost);
        assert_eq!(settle(&mut written(), &[("a", seen("v1", "2"))]).unwrap_err(), Kind::Etag);
        assert_eq!(settle(&mut written(), &[("a", seen("v0", "1"))]).unwrap_err(), Kind::Foreign);
        let mut other = seen("v1", "1").unwrap();
        other.bytes.push(b'!');
        assert_eq!(settle(&mut written(), &[("a", Some(other))]).unwrap_err(), Kind::Foreign);
    }

    #[test]
    fn what_was_not_answered_may_be_there_or_not_and_stays_so() {
        for (read, present) in [(seen("v2", "2"), 1), (seen("v1", "1"), 0)] {
            let mut model = written();
            let _unanswered = model.issue(vec![(key("a"), held("v2"))]);
            assert_eq!(settle(&mut model, &[("a", read.clone())]).unwrap().present, present);
            assert!(settle(&mut model, &[("a", read)]).is_ok());
            let other = if present == 1 { seen("v1", "1") } else { seen("v2", "2") };
            assert_eq!(settle(&mut model, &[("a", other)]).unwrap_err(), Kind::Foreign, "it had been settled");
        }
    }

    #[test]
    fn an_older_version_after_a_newer_one_is_caught() {
        let mut model = written();
        let issued = model.issue(vec![(key("a"), held("v2"))]);
        let before = model.floor(&key("a"));
        model.acknowledge(&issued, &[Some("2".into())]).unwrap();
        model.observe(&key("a"), before, seen("v1", "1").as_ref()).unwrap(); // it began before the answer
        let after = model.floor(&key("a"));
        let stale = model.observe(&key("a"), after, seen("v1", "1").as_ref()).unwrap_err();
        assert_eq!(stale.kind, Kind::Stale);
        assert_eq!(settle(&mut model, &[("a", seen("v1", "1"))]).unwrap_err(), Kind::Stale);
    }

    #[test]
    fn what_a_reader_saw_is_there_to_stay() {
        let mut model = written();
        let _unanswered = model.issue(vec![(key("a"), held("v2"))]);
        model.observe(&key("a"), 0, seen("v2", "2").as_ref()).unwrap();
        assert_eq!(settle(&mut model, &[("a", seen("v1", "1"))]).unwrap_err(), Kind::Stale);
    }

    #[test]
    fn a_torn_batch_is_caught() {
        let batch = |read: [Option<Seen>; 2]| {
            let mut model = written();
            let _unanswered = model.issue(vec![(key("a"), held("v2")), (key("b"), held("w1"))]);
            settle(&mut model, &[("a", read[0].clone()), ("b", read[1].clone())])
        };
        assert_eq!(batch([seen("v2", "2"), seen("w1", "3")]).unwrap().present, 1);
        assert_eq!(batch([seen("v1", "1"), None]).unwrap().absent, 1);
        assert_eq!(batch([seen("v2", "2"), None]).unwrap_err(), Kind::Torn);
        assert_eq!(batch([seen("v1", "1"), seen("w1", "3")]).unwrap_err(), Kind::Torn);
    }

    #[test]
    fn a_batch_is_judged_by_what_it_would_have_changed() {
        let mut model = written();
        let _unanswered = model.issue(vec![(key("a"), None), (key("b"), None)]);
        assert_eq!(settle(&mut model, &[("a", seen("v1", "1")), ("b", None)]).unwrap().absent, 1);
        let _unanswered = model.issue(vec![(key("b"), None)]);
        assert_eq!(settle(&mut model, &[("a", seen("v1", "1")), ("b", None)]).unwrap().either, 1);
    }

    #[test]
    fn what_was_refused_must_not_be_there() {
        let mut model = written();
        let issued = model.issue(vec![(key("a"), held("v2"))]);
        model.refuse(&issued).unwrap();
        assert_eq!(model.current(&key("a")), held("v1").as_ref());
        assert_eq!(settle(&mut model, &[("a", seen("v2", "2"))]).unwrap_err(), Kind::Refused);
        let mut model = written();
        let issued = model.issue(vec![(key("a"), held("v2"))]);
        model.observe(&key("a"), 0, seen("v2", "2").as_ref()).unwrap();
        assert_eq!(model.refuse(&issued).unwrap_err().kind, Kind::Refused);
    }

    #[test]
    fn an_etag_names_one_version_even_after_a_delete() {
        let mut model = written();
        let gone = model.issue(vec![(key("a"), None)]);
        model.acknowledge(&gone, &[None]).unwrap();
        let again = model.issue(vec![(key("a"), held("v1"))]);
        assert_eq!(model.acknowledge(&again, &[Some("1".into())]).unwrap_err().kind, Kind::Etag);
    }
}
