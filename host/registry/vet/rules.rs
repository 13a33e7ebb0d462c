//! The rules of the descriptor language, read over one decoded file.

use super::{MOST_DEPTH, MOST_FULL_NAME_BYTES, MOST_IMPORTS, MOST_NAME_BYTES, MOST_OPTION_BYTES, VetError};
use crate::domain::one_line;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
    UninterpretedOption,
};
use std::collections::HashSet;

/// Field numbers of the wire format.
const NUMBERS: std::ops::RangeInclusive<i32> = 1..=536_870_911;
/// Field numbers that protobuf keeps for itself.
const OWN_NUMBERS: std::ops::RangeInclusive<i32> = 19_000..=19_999;
/// Parts of an option's name: each opens a message inside the one before.
const MOST_OPTION_PARTS: usize = 32;
/// Full names that are packages of the node: a message so named would put its nested types among the node's.
const OWN_PACKAGES: [&str; 3] = ["google.protobuf", "collector", "grpc"];

/// Holds a decoded file against every rule; the first one broken is the answer.
pub(super) fn check(file: &FileDescriptorProto) -> Result<(), VetError> {
    file_name(file.name()).map_err(|why| VetError::at("file name", why))?;
    let mut rules = Rules { proto3: file.syntax() == "proto3", scope: String::new(), extensions: HashSet::new() };
    let read = rules.file(file);
    read.map_err(|fault| match fault {
        Fault::Broken(why) if rules.scope.is_empty() => VetError::at(file.name(), why),
        Fault::Broken(why) => {
            VetError::at(&format!("{}: {}", one_line(file.name(), PLACE), one_line(&rules.scope, PLACE)), why)
        }
        Fault::Own => VetError::Reserved { what: format!("message {}", rules.scope) },
    })
}

/// Bytes of a file or element name in an error: enough to find it, and to leave room for what is wrong.
const PLACE: usize = 160;

enum Fault {
    Broken(String),
    /// The element would pose as a package of the node.
    Own,
}

impl<T: Into<String>> From<T> for Fault {
    fn from(why: T) -> Self {
        Self::Broken(why.into())
    }
}

type Read = Result<(), Fault>;

struct Rules<'a> {
    proto3: bool,
    /// Full name of the element being read. Stays as it is when a rule is broken, so that the error can name it.
    scope: String,
    /// Extendee and number of each extension so far.
    extensions: HashSet<(&'a str, i32)>,
}

/// A file name, relative and without ways to say the same name twice.
fn file_name(name: &str) -> Result<(), String> {
    if !(1..=MOST_NAME_BYTES).contains(&name.len()) {
        return Err(format!("has {} bytes, 1 to {MOST_NAME_BYTES} are allowed", name.len()));
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has a backslash or a control character".to_owned());
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{name} is not a plain relative path"));
    }
    Ok(())
}

fn identifier(name: &str) -> Result<(), String> {
    if name.len() > MOST_NAME_BYTES {
        return Err(format!("a name has {} bytes, at most {MOST_NAME_BYTES} are allowed", name.len()));
    }
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(format!("\"{name}\" is not an identifier"))
}

/// Identifiers joined by dots.
fn dotted(name: &str) -> Result<(), String> {
    if name.len() > MOST_FULL_NAME_BYTES {
        return Err(format!("a full name has {} bytes, at most {MOST_FULL_NAME_BYTES} are allowed", name.len()));
    }
    name.split('.').try_for_each(identifier)
}

/// The name of a type, as fields and methods give it: a leading dot says that it is complete.
fn type_name(what: &str, name: Option<&str>) -> Result<(), String> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| format!("has no {what}"))?;
    dotted(name.strip_prefix('.').unwrap_or(name)).map_err(|why| format!("{what}: {why}"))
}

/// Text that is no name, but must fit into one line.
fn label(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MOST_NAME_BYTES {
        return Err(format!("{what} has {} bytes, at most {MOST_NAME_BYTES} are allowed", text.len()));
    }
    if text.chars().any(char::is_control) { Err(format!("{what} has a control character")) } else { Ok(()) }
}

fn unique<'a, T: std::hash::Hash + Eq + std::fmt::Display + 'a>(
    what: &str,
    all: impl IntoIterator<Item = T>,
) -> Result<(), String> {
    let mut seen = HashSet::new();
    for one in all {
        if seen.contains(&one) {
            return Err(format!("{what} {one} is used twice"));
        }
        seen.insert(one);
    }
    Ok(())
}

/// Ranges with their ends included, none of which may meet another.
fn disjoint(mut ranges: Vec<(i32, i32)>) -> Result<(), String> {
    ranges.sort_unstable();
    for (one, next) in ranges.iter().zip(ranges.iter().skip(1)) {
        if next.0 <= one.1 {
            return Err(format!("ranges {} to {} and {} to {} overlap", one.0, one.1, next.0, next.1));
        }
    }
    Ok(())
}

fn number(number: i32) -> Result<(), String> {
    if !NUMBERS.contains(&number) {
        return Err(format!("field number {number} is not within {} to {}", NUMBERS.start(), NUMBERS.end()));
    }
    if OWN_NUMBERS.contains(&number) {
        return Err(format!("field number {number} is one that protobuf keeps for itself"));
    }
    Ok(())
}

/// The default of a `bytes` field, C-escaped. The pool's compiler slices it as text, and adds octal digits unchecked.
fn escaped(text: &str) -> Result<(), String> {
    if !text.is_ascii() {
        return Err("the default value is not ASCII".to_owned());
    }
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'4'..=b'7', b'0'..=b'7', b'0'..=b'7', ..]) => {
                return Err("the default value has an octal escape above 377".to_owned());
            }
            // The escaped byte is not the start of another escape.
            (b'\\', [_, after @ ..]) => after,
            _ => tail,
        };
    }
    Ok(())
}

fn uninterpreted<'a>(options: impl IntoIterator<Item = &'a UninterpretedOption>) -> Result<(), String> {
    for option in options {
        // Text within text, which the compiler parses by recursion without a limit: two kilobytes of it overflow the
        // stack. Compilers resolve options before they write descriptors, so no real file has one.
        if option.aggregate_value.is_some() {
            return Err("an option is an unparsed message: have the compiler resolve options".to_owned());
        }
        if option.name.is_empty() || option.name.len() > MOST_OPTION_PARTS {
            return Err(format!(
                "an option's name has {} parts, 1 to {MOST_OPTION_PARTS} are allowed",
                option.name.len()
            ));
        }
    }
    Ok(())
}

impl<'a> Rules<'a> {
    fn file(&mut self, file: &'a FileDescriptorProto) -> Read {
        match file.syntax.as_deref() {
            None | Some("proto2" | "proto3") => {}
            Some("editions") => return Err("editions are not supported, only proto2 and proto3".into()),
            Some(_) => return Err("the syntax is neither proto2 nor proto3".into()),
        }
        file_imports(file)?;
        uninterpreted(file.options.iter().flat_map(|options| &options.uninterpreted_option))?;
        if !file.package().is_empty() {
            dotted(file.package()).map_err(|why| format!("package: {why}"))?;
            if file.package().split('.').count() > MOST_DEPTH {
                return Err(format!("the package has more than {MOST_DEPTH} parts").into());
            }
            self.scope.push_str(file.package());
        }
        file.message_type.iter().try_for_each(|message| self.message(message, false))?;
        file.enum_type.iter().try_for_each(|of| self.enumeration(of))?;
        file.extension.iter().try_for_each(|field| self.extension(field))?;
        file.service.iter().try_for_each(|service| self.service(service))
    }

    /// Reads the element `name` of the scope. On an error the scope stays where that was.
    fn inside(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Read) -> Read {
        identifier(name)?;
        let outer = self.scope.len();
        if outer > 0 {
            self.scope.push('.');
        }
        self.scope.push_str(name);
        if self.scope.len() > MOST_FULL_NAME_BYTES {
            return Err(format!("the full name has more than {MOST_FULL_NAME_BYTES} bytes").into());
        }
        read(self)?;
        self.scope.truncate(outer);
        Ok(())
    }

    /// Recursion is bounded: the census has refused deep nesting.
    fn message(&mut self, message: &'a DescriptorProto, nested: bool) -> Read {
        self.inside(message.name(), |rules| {
            if OWN_PACKAGES.contains(&rules.scope.as_str()) {
                return Err(Fault::Own);
            }
            message_options(message)?;
            unique("field number", message.field.iter().map(FieldDescriptorProto::number))?;
            unique("name", message.field.iter().map(FieldDescriptorProto::name))?;
            message_ranges(message)?;
            message.field.iter().try_for_each(|field| rules.field(field, message))?;
            rules.oneofs(message)?;
            message.extension.iter().try_for_each(|field| rules.extension(field))?;
            if message.options.as_ref().is_some_and(|options| options.map_entry()) {
                map_entry(message, nested)?;
            }
            message.nested_type.iter().try_for_each(|message| rules.message(message, true))?;
            message.enum_type.iter().try_for_each(|of| rules.enumeration(of))
        })
    }

    fn field(&mut self, field: &'a FieldDescriptorProto, message: &'a DescriptorProto) -> Read {
        self.inside(field.name(), |rules| {
            if field.extendee.is_some() {
                return Err("a field has no extendee, only an extension has".into());
            }
            rules.any_field(field)?;
            let Some(index) = field.oneof_index else {
                return if field.proto3_optional() { Err("optional in proto3 needs a oneof".into()) } else { Ok(()) };
            };
            if usize::try_from(index).ok().and_then(|at| message.oneof_decl.get(at)).is_none() {
                return Err(format!("oneof {index} is not declared").into());
            }
            if field.label() == Label::Optional { Ok(()) } else { Err("a field of a oneof must be optional".into()) }
        })
    }

    fn extension(&mut self, field: &'a FieldDescriptorProto) -> Read {
        self.inside(field.name(), |rules| {
            type_name("extendee", field.extendee.as_deref())?;
            if field.oneof_index.is_some() || field.label() == Label::Required {
                return Err("an extension is neither required nor in a oneof".into());
            }
            let extendee = field.extendee().trim_start_matches('.');
            if !rules.extensions.insert((extendee, field.number())) {
                return Err(format!("field number {} of {extendee} is used twice", field.number()).into());
            }
            rules.any_field(field)
        })
    }

    fn any_field(&self, field: &FieldDescriptorProto) -> Read {
        number(field.number())?;
        let kind = field.r#type.and_then(|kind| Type::try_from(kind).ok()).ok_or("has no known type")?;
        if field.label.is_some_and(|label| Label::try_from(label).is_err()) {
            return Err("has no known label".into());
        }
        match kind {
            Type::Message | Type::Group | Type::Enum => type_name("type name", field.type_name.as_deref())?,
            _ if field.type_name.is_some() => return Err("a scalar field names a type".into()),
            _ => {}
        }
        let old_only = kind == Type::Group || field.label() == Label::Required || field.default_value.is_some();
        if self.proto3 && old_only {
            return Err("groups, required fields and default values are proto2".into());
        }
        if !self.proto3 && field.proto3_optional() {
            return Err("proto3_optional is proto3".into());
        }
        label("the JSON name", field.json_name())?;
        if field.default_value().len() > MOST_OPTION_BYTES {
            return Err(format!("the default value has more than {MOST_OPTION_BYTES} bytes").into());
        }
        if kind == Type::Bytes {
            escaped(field.default_value())?;
        }
        Ok(uninterpreted(field.options.iter().flat_map(|options| &options.uninterpreted_option))?)
    }

    fn oneofs(&mut self, message: &'a DescriptorProto) -> Read {
        let mut members = vec![(0, false); message.oneof_decl.len()];
        for field in &message.field {
            let at = field.oneof_index.and_then(|at| usize::try_from(at).ok());
            if let Some((count, optional)) = at.and_then(|at| members.get_mut(at)) {
                *count += 1;
                *optional |= field.proto3_optional();
            }
        }
        for (oneof, (count, optional)) in message.oneof_decl.iter().zip(members) {
            self.inside(oneof.name(), |_| {
                if count == 0 || (optional && count > 1) {
                    return Err(format!("the oneof has {count} fields").into());
                }
                Ok(uninterpreted(oneof.options.iter().flat_map(|options| &options.uninterpreted_option))?)
            })?;
        }
        Ok(())
    }

    fn enumeration(&mut self, of: &EnumDescriptorProto) -> Read {
        self.inside(of.name(), |rules| {
            let first = of.value.first().ok_or("the enum has no value")?;
            if rules.proto3 && first.number() != 0 {
                return Err("the first value of a proto3 enum must be 0".into());
            }
            uninterpreted(of.options.iter().flat_map(|options| &options.uninterpreted_option))?;
            let ranges: Vec<_> = of.reserved_range.iter().map(|range| (range.start(), range.end())).collect();
            if ranges.iter().any(|(start, end)| start > end) {
                return Err("a reserved range ends before it starts".into());
            }
            disjoint(ranges)?;
            of.reserved_name.iter().try_for_each(|name| label("a reserved name", name))?;
            for value in &of.value {
                identifier(value.name())?;
                uninterpreted(value.options.iter().flat_map(|options| &options.uninterpreted_option))?;
            }
            Ok(())
        })?;
        // Values stand beside their enum, not inside it.
        of.value.iter().try_for_each(|value| self.inside(value.name(), |_| Ok(())))
    }

    fn service(&mut self, service: &ServiceDescriptorProto) -> Read {
        self.inside(service.name(), |rules| {
            uninterpreted(service.options.iter().flat_map(|options| &options.uninterpreted_option))?;
            unique("name", service.method.iter().map(|method| method.name()))?;
            service.method.iter().try_for_each(|method| {
                rules.inside(method.name(), |_| {
                    type_name("input type", method.input_type.as_deref())?;
                    type_name("output type", method.output_type.as_deref())?;
                    Ok(uninterpreted(method.options.iter().flat_map(|options| &options.uninterpreted_option))?)
                })
            })
        })
    }
}

fn file_imports(file: &FileDescriptorProto) -> Result<(), String> {
    let count = file.dependency.len();
    if count > MOST_IMPORTS {
        return Err(format!("has {count} imports, at most {MOST_IMPORTS} are allowed"));
    }
    file.dependency.iter().try_for_each(|name| file_name(name).map_err(|why| format!("an import's name: {why}")))?;
    if file.dependency.iter().any(|name| name == file.name()) {
        return Err("imports itself".to_owned());
    }
    unique("import", &file.dependency)?;
    for (what, indexes) in [("public", &file.public_dependency), ("weak", &file.weak_dependency)] {
        unique(&format!("{what} import"), indexes)?;
        if indexes.iter().any(|index| usize::try_from(*index).map_or(true, |index| index >= count)) {
            return Err(format!("a {what} import is not among the {count} imports"));
        }
    }
    Ok(())
}

/// Options that change what a message is must come from the compiler of the file, and one of them not at all.
fn message_options(message: &DescriptorProto) -> Result<(), String> {
    let Some(options) = &message.options else { return Ok(()) };
    if options.message_set_wire_format() {
        return Err("message_set_wire_format is not supported".to_owned());
    }
    let names = options.uninterpreted_option.iter().filter_map(|option| option.name.first());
    for name in names {
        if matches!(name.name_part.as_str(), "map_entry" | "message_set_wire_format") {
            return Err(format!("the option {} may not be set by hand", name.name_part));
        }
    }
    uninterpreted(&options.uninterpreted_option)
}

fn message_ranges(message: &DescriptorProto) -> Result<(), String> {
    let reserved = message.reserved_range.iter().map(|range| (range.start(), range.end()));
    let extensions = message.extension_range.iter().map(|range| (range.start(), range.end()));
    let ranges: Vec<(i32, i32)> = reserved.chain(extensions).collect();
    // Ends are excluded in the file.
    for (start, end) in &ranges {
        if !NUMBERS.contains(start) || end <= start || !NUMBERS.contains(&(end - 1)) {
            return Err(format!("the range from {start} up to {end} holds no field numbers, or others too"));
        }
    }
    disjoint(ranges.into_iter().map(|(start, end)| (start, end - 1)).collect())?;
    message.reserved_name.iter().try_for_each(|name| label("a reserved name", name))?;
    let options = message.extension_range.iter().filter_map(|range| range.options.as_ref());
    uninterpreted(options.flat_map(|options| &options.uninterpreted_option))
}

/// The message behind a map field. The pool's codec panics on any that is not just a key and a value.
fn map_entry(entry: &DescriptorProto, nested: bool) -> Result<(), String> {
    let [key, value] = entry.field.as_slice() else { return Err("a map entry has a key and a value".to_owned()) };
    let bare = entry.nested_type.is_empty()
        && entry.enum_type.is_empty()
        && entry.extension.is_empty()
        && entry.extension_range.is_empty()
        && entry.oneof_decl.is_empty();
    let fits = |field: &FieldDescriptorProto, name: &str, number: i32| {
        field.name() == name && field.number() == number && field.label() == Label::Optional
    };
    if !nested || !bare || !fits(key, "key", 1) || !fits(value, "value", 2) {
        return Err("a map entry is nested and has just an optional key = 1 and an optional value = 2".to_owned());
    }
    match key.r#type() {
        Type::Double | Type::Float | Type::Bytes | Type::Message | Type::Group | Type::Enum => {
            Err("a map key is a whole number, a bool or a string".to_owned())
        }
        _ if value.r#type() == Type::Group => Err("a map value is no group".to_owned()),
        _ => Ok(()),
    }
}
