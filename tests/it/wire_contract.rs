//! The package `collector` is what its clients speak: every fact of `tests/data/wire-contract.txt` holds in our protos,
//! and everything in them says what it means.
//!
//! Left out: what we have beyond the contract. It may grow, so no fact is missed from the fixture here.

use std::collections::{BTreeMap, BTreeSet};

use collector::rpc::pb::FILE_DESCRIPTOR_SET;
use prost_reflect::{
    Cardinality, DescriptorError, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};

const CONTRACT: &str = include_str!("../data/wire-contract.txt");
const PACKAGE: &str = "collector";
/// Lines of each kind in the fixture. The published interface does not change, so neither do these.
const COUNTS: [(&str, usize); 4] = [("enum", 54), ("field", 410), ("message", 1), ("rpc", 38)];

#[test]
fn every_fact_of_the_contract_holds() -> Result<(), DescriptorError> {
    let facts = Package::load()?.facts();
    let mut counts = BTreeMap::from(COUNTS.map(|(kind, _)| (kind, 0_usize)));
    let mut failures = Vec::new();

    for (number, line) in (1..).zip(CONTRACT.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(count) = line.split_whitespace().next().and_then(|kind| counts.get_mut(kind)) else {
            failures.push(format!("line {number}: unknown kind of line: {line}"));
            continue;
        };
        *count += 1;
        if !facts.contains(line) {
            failures.push(format!("line {number}: {line}\n    we have: {}", closest(&facts, line)));
        }
    }

    assert!(failures.is_empty(), "{} broken facts:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(counts, BTreeMap::from(COUNTS), "the fixture has lost or gained lines");
    Ok(())
}

#[test]
fn everything_in_the_package_is_explained() -> Result<(), DescriptorError> {
    let package = Package::load()?;
    let documented = package.documented();
    let items = package.items();

    let silent: Vec<_> = items.iter().filter(|item| !documented.contains(&item.place)).map(|item| &item.name).collect();

    assert!(silent.is_empty(), "{} of {} without a comment before them: {silent:#?}", silent.len(), items.len());
    let least: usize = COUNTS.iter().map(|(_, count)| count).sum();
    assert!(items.len() > least, "only {} things found in the package, the contract alone has {least}", items.len());
    Ok(())
}

/// What we have under the same subject and number (or method) as a fact that does not hold.
fn closest(facts: &BTreeSet<String>, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let same = |fact: &&String| match (words.as_slice(), fact.split_whitespace().collect::<Vec<_>>().as_slice()) {
        (["rpc", path, ..], ["rpc", ours, ..]) => path == ours,
        (["field", of, number, rest @ ..], ["field", ours, at, theirs @ ..]) => {
            of == ours && (number == at || rest.iter().any(|word| theirs.last() == Some(word)))
        }
        (["enum", of, number, name], ["enum", ours, at, theirs]) => of == ours && (number == at || name == theirs),
        _ => false,
    };
    let found: Vec<_> = facts.iter().filter(same).map(String::as_str).collect();
    if found.is_empty() { "nothing like it".to_owned() } else { found.join("; ") }
}

/// Where a thing stands: file, then the path that descriptor.proto defines for source info.
type Place = (String, Vec<i32>);

struct Item {
    name: String,
    place: Place,
}

impl Item {
    fn new(file: &FileDescriptor, path: &[i32], name: &str) -> Self {
        Self { name: name.to_owned(), place: (file.name().to_owned(), path.to_vec()) }
    }
}

/// Everything that our files define in the package, without what the compiler makes up for maps.
struct Package {
    files: Vec<FileDescriptor>,
    messages: Vec<MessageDescriptor>,
    enums: Vec<EnumDescriptor>,
    services: Vec<ServiceDescriptor>,
}

impl Package {
    fn load() -> Result<Self, DescriptorError> {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
        Ok(Self {
            files: pool.files().filter(|file| file.package_name() == PACKAGE).collect(),
            messages: pool
                .all_messages()
                .filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
                .collect(),
            enums: pool.all_enums().filter(|the_enum| the_enum.package_name() == PACKAGE).collect(),
            services: pool.services().filter(|service| service.package_name() == PACKAGE).collect(),
        })
    }

    /// The package written down as the contract writes it, one line per fact.
    fn facts(&self) -> BTreeSet<String> {
        let messages = self.messages.iter().map(|message| format!("message {}", message.full_name()));
        let fields = self.messages.iter().flat_map(|message| message.fields().map(field_fact).collect::<Vec<_>>());
        let values = self.enums.iter().flat_map(enum_facts);
        let methods = self.services.iter().flat_map(|service| service.methods().map(rpc_fact).collect::<Vec<_>>());
        messages.chain(fields).chain(values).chain(methods).collect()
    }

    /// Everything that owes its reader a comment.
    fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        for message in &self.messages {
            let file = message.parent_file();
            items.push(Item::new(&file, message.path(), message.full_name()));
            items.extend(message.fields().map(|field| Item::new(&file, field.path(), field.full_name())));
        }
        for the_enum in &self.enums {
            let file = the_enum.parent_file();
            items.push(Item::new(&file, the_enum.path(), the_enum.full_name()));
            items.extend(the_enum.values().map(|value| Item::new(&file, value.path(), value.full_name())));
        }
        for service in &self.services {
            let file = service.parent_file();
            items.push(Item::new(&file, service.path(), service.full_name()));
            items.extend(service.methods().map(|method| Item::new(&file, method.path(), method.full_name())));
        }
        items
    }

    /// Every place with a comment right before it.
    fn documented(&self) -> BTreeSet<Place> {
        let places = self.files.iter().flat_map(|file| {
            let info = file.file_descriptor_proto().source_code_info.as_ref();
            let locations = info.into_iter().flat_map(|info| &info.location);
            locations
                .filter(|location| !location.leading_comments().trim().is_empty())
                .map(|location| (file.name().to_owned(), location.path.clone()))
        });
        places.collect()
    }
}

fn field_fact(field: FieldDescriptor) -> String {
    let subject = format!("field {} {}", field.parent_message().full_name(), field.number());
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    let member = oneof.map(|oneof| format!(" oneof:{}", oneof.name())).unwrap_or_default();
    format!("{subject} {} {}{member}", field_type(&field), field.name())
}

/// The type as a .proto file spells it, with full names: `Kind`'s `Debug` is the type's protobuf name.
fn field_type(field: &FieldDescriptor) -> String {
    let kind = field.kind();
    if let Some(entry) = kind.as_message().filter(|_| field.is_map()) {
        return format!("map<{:?},{:?}>", entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    }
    let in_real_oneof = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
    let has_presence = field.supports_presence() && !in_real_oneof && kind.as_message().is_none();
    match field.cardinality() {
        Cardinality::Repeated => format!("repeated {kind:?}"),
        Cardinality::Required => format!("required {kind:?}"),
        Cardinality::Optional if has_presence => format!("optional {kind:?}"),
        Cardinality::Optional => format!("{kind:?}"),
    }
}

fn enum_facts(the_enum: &EnumDescriptor) -> Vec<String> {
    let of = the_enum.full_name();
    the_enum.values().map(|value| format!("enum {of} {} {}", value.number(), value.name())).collect()
}

fn rpc_fact(method: MethodDescriptor) -> String {
    let stream = |streaming: bool| if streaming { "stream " } else { "" };
    format!(
        "rpc {}/{} {}{} -> {}{}",
        method.parent_service().full_name(),
        method.name(),
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name()
    )
}
