//! Looking into one file for what has no entry in a snapshot's tables: fields, oneofs, methods. Tables of those would be
//! several times as large as the rest, and only people who explore ask for them.

use super::source::Source;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto};

impl Source {
    /// Whether the file defines a message with this full name. Decodes the file.
    pub(super) fn has_message(&self, full_name: &str) -> bool {
        FileDescriptorProto::decode(self.raw.clone()).is_ok_and(|file| message(&file, full_name).is_some())
    }

    /// Whether the file defines a field, oneof or method with this full name. Decodes the file.
    pub(super) fn has_member(&self, full_name: &str) -> bool {
        let Ok(file) = FileDescriptorProto::decode(self.raw.clone()) else { return false };
        let Some((scope, name)) = full_name.rsplit_once('.') else { return false };
        let of_message = |message: &DescriptorProto| {
            message.field.iter().any(|field| field.name() == name)
                || message.oneof_decl.iter().any(|oneof| oneof.name() == name)
        };
        let of_service = |service: &str| {
            let service = file.service.iter().find(|found| found.name() == service);
            service.is_some_and(|service| service.method.iter().any(|method| method.name() == name))
        };
        message(&file, scope).is_some_and(of_message) || local(&file, scope).is_some_and(of_service)
    }
}

/// The name without the file's package.
fn local<'a>(file: &FileDescriptorProto, full_name: &'a str) -> Option<&'a str> {
    match file.package() {
        "" => Some(full_name),
        package => full_name.strip_prefix(package)?.strip_prefix('.'),
    }
}

fn message<'a>(file: &'a FileDescriptorProto, full_name: &str) -> Option<&'a DescriptorProto> {
    let find = |all: &'a [DescriptorProto], name: &str| all.iter().find(|message| message.name() == name);
    let mut path = local(file, full_name)?.split('.');
    let outermost = find(&file.message_type, path.next()?)?;
    path.try_fold(outermost, |message, name| find(&message.nested_type, name))
}

#[cfg(test)]
mod tests {
    use super::super::vet::vet;
    use super::*;
    use prost_types::{FieldDescriptorProto, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto};

    fn source(package: &str) -> Source {
        let field = FieldDescriptorProto {
            name: Some("id".into()),
            number: Some(1),
            r#type: Some(9),
            label: Some(1),
            oneof_index: Some(0),
            ..Default::default()
        };
        let inner = DescriptorProto { name: Some("Inner".into()), field: vec![field], ..Default::default() };
        let inner = DescriptorProto {
            oneof_decl: vec![OneofDescriptorProto { name: Some("which".into()), options: None }],
            ..inner
        };
        let outer = DescriptorProto { name: Some("Outer".into()), nested_type: vec![inner], ..Default::default() };
        let outer_type = format!("{}Outer", if package.is_empty() { ".".into() } else { format!(".{package}.") });
        let method = MethodDescriptorProto {
            name: Some("Get".into()),
            input_type: Some(outer_type.clone()),
            output_type: Some(outer_type),
            ..Default::default()
        };
        let service = ServiceDescriptorProto { name: Some("Things".into()), method: vec![method], options: None };
        let file = FileDescriptorProto {
            name: Some("things.proto".into()),
            package: Some(package.into()).filter(|package: &String| !package.is_empty()),
            message_type: vec![outer],
            service: vec![service],
            syntax: Some("proto3".into()),
            ..Default::default()
        };
        Source::new(vet(&file.encode_to_vec().into()).unwrap(), &[], true, 0, 0)
    }

    #[test]
    fn members_are_found_by_their_full_names_only() {
        for package in ["", "a", "a.v1"] {
            let source = source(package);
            let name = |local: &str| if package.is_empty() { local.to_owned() } else { format!("{package}.{local}") };
            for message in ["Outer", "Outer.Inner"] {
                assert!(source.has_message(&name(message)), "{package} {message}");
            }
            for member in ["Outer.Inner.id", "Outer.Inner.which", "Things.Get"] {
                assert!(source.has_member(&name(member)), "{package} {member}");
            }
            for other in ["Outer.id", "Things.Put", "Things", "Inner.id", "Outer.Inner.id.x", "", "."] {
                assert!(!source.has_member(&name(other)), "{package} {other}");
            }
            for other in ["Things", "Inner", "Outer.Inner.id", "Outer.", ""] {
                assert!(!source.has_message(&name(other)), "{package} {other}");
            }
        }
    }
}
