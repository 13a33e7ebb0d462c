//! Descriptors as the text of a `.proto` file: compact, without comments and custom options.

mod types;

#[cfg(test)]
pub(super) mod tests;

use crate::domain::one_line;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
};
use std::fmt::Write as _;

/// Longest line; names come from strangers.
const LINE_MAX: usize = 2_048;

/// Where names are looked up from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// Names in it are shown without it.
    pub(super) package: &'a str,
    /// Whether fields have no label of their own.
    pub(super) proto3: bool,
}

impl<'a> Scope<'a> {
    /// The scope of a file's own names.
    pub(super) fn of(file: &'a FileDescriptorProto) -> Self {
        Self { package: file.package(), proto3: file.syntax() == "proto3" }
    }

    /// A type as it is named here. `.a.b.C` is `C` in `a.b`, and `a.b.C` elsewhere.
    pub(super) fn name<'n>(&self, full: &'n str) -> &'n str {
        let full = full.trim_start_matches('.');
        let inside = full.strip_prefix(self.package).and_then(|rest| rest.strip_prefix('.'));
        inside.filter(|_| !self.package.is_empty()).unwrap_or(full)
    }
}

/// A whole file.
pub(super) fn file(file: &FileDescriptorProto) -> String {
    let mut text = Text::new(Scope::of(file));
    let syntax = if file.syntax().is_empty() { "proto2" } else { file.syntax() };
    text.line(&format!("syntax = \"{syntax}\";"));
    if !file.package().is_empty() {
        text.line("");
        text.line(&format!("package {};", file.package()));
    }
    for (at, import) in file.dependency.iter().enumerate() {
        if at == 0 {
            text.line("");
        }
        let public = file.public_dependency.iter().any(|index| usize::try_from(*index) == Ok(at));
        text.line(&format!("import {}\"{import}\";", if public { "public " } else { "" }));
    }
    for service in &file.service {
        text.line("");
        text.service(service);
    }
    for message in &file.message_type {
        text.line("");
        text.message(message);
    }
    for one in &file.enum_type {
        text.line("");
        text.enumeration(one);
    }
    text.extensions(&file.extension);
    text.out
}

/// One service.
pub(super) fn service(service: &ServiceDescriptorProto, scope: Scope<'_>) -> String {
    let mut text = Text::new(scope);
    text.service(service);
    text.out
}

/// One message, with what is nested in it.
pub(super) fn message(message: &DescriptorProto, scope: Scope<'_>) -> String {
    let mut text = Text::new(scope);
    text.message(message);
    text.out
}

/// One enum.
pub(super) fn enumeration(one: &EnumDescriptorProto, scope: Scope<'_>) -> String {
    let mut text = Text::new(scope);
    text.enumeration(one);
    text.out
}

/// One method: `rpc Get(A) returns (stream B)`.
pub(super) fn method(method: &MethodDescriptorProto, scope: Scope<'_>) -> String {
    let side = |streams: bool, name: &str| stream(streams, scope.name(name));
    let input = side(method.client_streaming(), method.input_type());
    let output = side(method.server_streaming(), method.output_type());
    format!("rpc {}({input}) returns ({output})", method.name())
}

/// A type of a method: `stream X` where it streams.
pub(super) fn stream(streams: bool, name: &str) -> String {
    format!("{}{name}", if streams { "stream " } else { "" })
}

struct Text<'a> {
    out: String,
    depth: usize,
    scope: Scope<'a>,
}

impl<'a> Text<'a> {
    fn new(scope: Scope<'a>) -> Self {
        Self { out: String::new(), depth: 0, scope }
    }

    fn line(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = write!(self.out, "{:indent$}{}", "", one_line(text, LINE_MAX), indent = self.depth * 2);
        }
        self.out.push('\n');
    }

    /// `head {`, what `inside` writes, `}`; on one line where that is nothing.
    fn block(&mut self, head: &str, inside: impl FnOnce(&mut Self)) {
        self.line(&format!("{head} {{"));
        let before = self.out.len();
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        if self.out.len() == before {
            self.out.pop();
            self.out.push_str("}\n");
        } else {
            self.line("}");
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        let deprecated = service.options.as_ref().is_some_and(|options| options.deprecated());
        self.block(&format!("service {}", service.name()), |text| {
            text.option(deprecated, "deprecated = true");
            for one in &service.method {
                text.method(one);
            }
        });
    }

    fn method(&mut self, one: &MethodDescriptorProto) {
        let head = method(one, self.scope);
        match one.options.as_ref().is_some_and(|options| options.deprecated()) {
            true => self.block(&head, |text| text.option(true, "deprecated = true")),
            false => self.line(&format!("{head};")),
        }
    }

    fn option(&mut self, is_set: bool, option: &str) {
        if is_set {
            self.line(&format!("option {option};"));
        }
    }
}
