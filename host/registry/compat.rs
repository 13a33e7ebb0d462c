//! What breaks when a registered file is replaced by another.
//!
//! Records stay encoded as they were written, in JSON they keep their names, and callers keep their stubs; so a new
//! revision must read what the old one wrote, on the wire and as JSON. The rules are those of buf's `WIRE_JSON`
//! category and what it leaves to `FILE` but tears a name out of a caller's hands: `FILE_SAME_PACKAGE`,
//! `FILE_SAME_SYNTAX`, `MESSAGE_NO_DELETE`, `MESSAGE_SAME_REQUIRED_FIELDS`, `FIELD_NO_DELETE_UNLESS_NUMBER_RESERVED`,
//! `FIELD_NO_DELETE_UNLESS_NAME_RESERVED`, `FIELD_SAME_NAME`, `FIELD_SAME_JSON_NAME`, `FIELD_SAME_ONEOF`,
//! `FIELD_SAME_DEFAULT`, `FIELD_WIRE_JSON_COMPATIBLE_TYPE`, `FIELD_WIRE_JSON_COMPATIBLE_CARDINALITY`,
//! `ENUM_NO_DELETE`, `ENUM_VALUE_NO_DELETE_UNLESS_NUMBER_RESERVED`, `ENUM_VALUE_NO_DELETE_UNLESS_NAME_RESERVED`,
//! `ENUM_VALUE_SAME_NAME`, `RESERVED_MESSAGE_NO_DELETE`, `RESERVED_ENUM_NO_DELETE`, `EXTENSION_NO_DELETE`,
//! `EXTENSION_MESSAGE_NO_DELETE`, `SERVICE_NO_DELETE`, `RPC_NO_DELETE`, `RPC_SAME_REQUEST_TYPE`,
//! `RPC_SAME_RESPONSE_TYPE`, `RPC_SAME_CLIENT_STREAMING`, `RPC_SAME_SERVER_STREAMING`.
//!
//! Left out: custom options, and whether a type of another file changed (that file has its own comparison). Both files
//! have been vetted. Invariant: the same two files give the same lines in the same order.

use crate::domain::one_line;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use prost_types::{MethodDescriptorProto, ServiceDescriptorProto};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

mod enums;
mod messages;
mod ranges;

/// Breaking changes that are told one by one; an error is a message, not a report.
pub const MOST_LINES: usize = 100;
/// Bytes of one line: names are tenants' text, up to a thousand bytes each.
const LINE: usize = 400;

/// Every breaking change from `old` to `new`, one line each, as in
/// `shop.v1.Order.total (field 3): type changed from int64 to string`.
///
/// * `old`, `new`: revisions of one file. Type names are compared as they resolve within the file; give files whose
///   names are complete (the pool's are) if they may be written relative to names of other files.
/// * returns: empty if `new` may replace `old`. At most [`MOST_LINES`], and then one more: `and 12 more`.
pub fn breaking(old: &FileDescriptorProto, new: &FileDescriptorProto) -> Vec<String> {
    let mut report = Report::default();
    if old.package() != new.package() {
        // Every name changes with it: telling each is no help.
        report.add(format_args!("{}: package changed from {} to {}", old.name(), old.package(), new.package()));
        return report.into_lines();
    }
    if syntax(old) != syntax(new) {
        report.add(format_args!("{}: syntax changed from {} to {}", old.name(), syntax(old), syntax(new)));
    }
    let (old, new) = (Names::of(old), Names::of(new));
    messages::compare(&old, &new, &mut report);
    enums::compare(&old, &new, &mut report);
    messages::compare_extensions(&old, &new, &mut report);
    compare_services(&old, &new, &mut report);
    report.into_lines()
}

/// What happened to a service or method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Only the new file has it.
    Added,
    /// Its request, reply or streaming differs.
    Changed,
    /// Only the old file has it.
    Removed,
}

/// One difference between the services of two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub action: Action,
    /// Full name of the service.
    pub service: String,
    /// Simple name of the method; empty for the service itself.
    pub method: String,
}

/// The services and methods that differ, by service and then method name; a service comes before its methods.
///
/// * `old`, `new`: `None` for a file that is not there, so that all of the other's is added or removed. A service that
///   is added or removed is told itself and with each of its methods.
pub fn service_changes(old: Option<&FileDescriptorProto>, new: Option<&FileDescriptorProto>) -> Vec<Change> {
    let (old, new) = (old.map(Names::of).unwrap_or_default(), new.map(Names::of).unwrap_or_default());
    let (before, after) = (signatures(&old), signatures(&new));
    let mut changes = Vec::new();
    let mut add = |action, (service, method): &(&str, &str)| {
        changes.push(Change { action, service: (*service).to_owned(), method: (*method).to_owned() });
    };
    for (key, was) in &before {
        match after.get(key) {
            None => add(Action::Removed, key),
            Some(is) if is != was => add(Action::Changed, key),
            Some(_) => {}
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        add(Action::Added, key);
    }
    changes.sort_by(|a, b| (&a.service, &a.method).cmp(&(&b.service, &b.method)));
    changes
}

/// Request, reply, and who streams.
type Signature = (String, String, bool, bool);

/// Each service (with an empty method name) and each of its methods.
fn signatures<'a>(names: &'a Names<'_>) -> BTreeMap<(&'a str, &'a str), Option<Signature>> {
    let mut all = BTreeMap::new();
    for (name, service) in &names.services {
        all.insert((name.as_str(), ""), None);
        for method in &service.method {
            let (input, output) = (names.resolve(name, method.input_type()), names.resolve(name, method.output_type()));
            let signature = (input, output, method.client_streaming(), method.server_streaming());
            all.insert((name.as_str(), method.name()), Some(signature));
        }
    }
    all
}

fn compare_services(old: &Names<'_>, new: &Names<'_>, report: &mut Report) {
    for (name, was) in &old.services {
        let Some(is) = new.services.get(name) else {
            report.add(format_args!("{name}: service removed"));
            continue;
        };
        let methods: HashMap<&str, &MethodDescriptorProto> = is.method.iter().map(|m| (m.name(), m)).collect();
        for method in &was.method {
            let element = format!("{name}.{}", method.name());
            match methods.get(method.name()) {
                None => report.add(format_args!("{element}: method removed")),
                Some(is) => compare_method(&element, (old, method), (new, is), report),
            }
        }
    }
}

fn compare_method(
    element: &str,
    (old, was): (&Names<'_>, &MethodDescriptorProto),
    (new, is): (&Names<'_>, &MethodDescriptorProto),
    report: &mut Report,
) {
    for (what, was, is) in
        [("request", was.input_type(), is.input_type()), ("reply", was.output_type(), is.output_type())]
    {
        let (was, is) = (old.resolve(element, was), new.resolve(element, is));
        if was != is {
            report.add(format_args!("{element}: {what} type changed from {was} to {is}"));
        }
    }
    let word = |streams: bool| if streams { "a stream" } else { "one message" };
    for (what, was, is) in [
        ("request", was.client_streaming(), is.client_streaming()),
        ("reply", was.server_streaming(), is.server_streaming()),
    ] {
        if was != is {
            report.add(format_args!("{element}: {what} changed from {} to {}", word(was), word(is)));
        }
    }
}

fn syntax(file: &FileDescriptorProto) -> &str {
    if file.syntax().is_empty() { "proto2" } else { file.syntax() }
}

/// The lines so far, and how many did not fit.
#[derive(Debug, Default)]
struct Report {
    lines: Vec<String>,
    more: usize,
}

impl Report {
    fn add(&mut self, line: fmt::Arguments<'_>) {
        if self.lines.len() < MOST_LINES {
            self.lines.push(one_line(&line.to_string(), LINE));
        } else {
            self.more += 1;
        }
    }

    fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        self.lines
    }
}

/// All declarations of one file by full name, nested ones too.
#[derive(Debug, Default)]
struct Names<'a> {
    /// Without map entries: those are compared as part of their field.
    messages: BTreeMap<String, &'a DescriptorProto>,
    entries: HashMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    services: BTreeMap<String, &'a ServiceDescriptorProto>,
    /// By extended message and field number.
    extensions: BTreeMap<(String, i32), Extension<'a>>,
}

/// An extension, and the scope its type name is looked up in.
#[derive(Debug)]
struct Extension<'a> {
    name: String,
    scope: String,
    field: &'a FieldDescriptorProto,
}

impl<'a> Names<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let mut names = Self::default();
        let mut extensions = Vec::new();
        let package = file.package();
        file.message_type.iter().for_each(|message| names.add_message(package, message, &mut extensions));
        names.enums.extend(file.enum_type.iter().map(|of| (join(package, of.name()), of)));
        names.services.extend(file.service.iter().map(|service| (join(package, service.name()), service)));
        extensions.extend(file.extension.iter().map(|field| (package.to_owned(), field)));
        // Last, since extendees are looked up among the names.
        for (scope, field) in extensions {
            let extendee = names.resolve(&scope, field.extendee());
            let name = join(&scope, field.name());
            names.extensions.insert((extendee, field.number()), Extension { name, scope, field });
        }
        names
    }

    /// Recursion is bounded: vetted files do not nest deeply.
    fn add_message(
        &mut self,
        scope: &str,
        message: &'a DescriptorProto,
        extensions: &mut Vec<(String, &'a FieldDescriptorProto)>,
    ) {
        let name = join(scope, message.name());
        message.nested_type.iter().for_each(|nested| self.add_message(&name, nested, extensions));
        self.enums.extend(message.enum_type.iter().map(|of| (join(&name, of.name()), of)));
        extensions.extend(message.extension.iter().map(|field| (name.clone(), field)));
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            self.entries.insert(name, message);
        } else {
            self.messages.insert(name, message);
        }
    }

    /// The full name that `name` means in `scope`, innermost scope first. A name of another file stays as it is.
    fn resolve(&self, scope: &str, name: &str) -> String {
        if let Some(full) = name.strip_prefix('.') {
            return full.to_owned();
        }
        let mut scope = scope;
        loop {
            let full = join(scope, name);
            if self.messages.contains_key(&full) || self.enums.contains_key(&full) || self.entries.contains_key(&full) {
                return full;
            }
            if scope.is_empty() {
                return name.to_owned();
            }
            scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
    }
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// Whether the message that `name` is nested in is gone as well, which says it all.
fn went_with_parent(name: &str, old: &Names<'_>, new: &Names<'_>) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(parent, _)| old.messages.contains_key(parent) && !new.messages.contains_key(parent))
}

#[cfg(test)]
mod tests;
