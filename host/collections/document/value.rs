//! Values whose type has a form of its own in JSON, and those whose inside nobody declared.

use super::walk::{Walk, deeper, entry, run_only, say};
use super::wire::{Fields, Wire, run};
use super::{ANY_NESTED_MAX, Stop, scalar, time};
use crate::collections::form::Holds;
use crate::registry::Problem;
use prost_reflect::Kind;
use std::collections::BTreeMap;

impl Walk {
    /// Writes one value.
    /// * `found`: as it comes on the wire: of a scalar the last one counts, a message is merged of all.
    pub(super) fn value(&mut self, holds: &Holds, found: &[Wire<'_>], left: u32) -> Result<(), Stop> {
        if let Holds::Scalar(kind) = holds {
            return found.last().map_or(Ok(()), |last| self.scalar(kind, *last));
        }
        // Nearly always one.
        let parts: Vec<&[u8]> = found.iter().map(|wire| run(*wire)).collect::<Result<_, Problem>>()?;
        let left = deeper(left)?;
        match holds {
            Holds::Scalar(_) => Ok(()),
            Holds::Message(message) => self.message(message, &parts, left, None),
            Holds::Wrapper(kind) => match last(&parts, 1, left)? {
                Some(wire) => self.scalar(kind, wire),
                None => self.scalar(kind, nothing(kind)),
            },
            Holds::Timestamp => self.time(&parts, left, time::push_moment),
            Holds::Duration => self.time(&parts, left, time::push_span),
            Holds::Mask => self.mask(&parts, left),
            Holds::Struct => self.open_struct(&parts, left),
            Holds::Value => self.open_value(&parts, left),
            Holds::List => self.open_list(&parts, left),
            Holds::Any => self.any(&parts, left),
        }
    }

    fn scalar(&mut self, kind: &Kind, wire: Wire<'_>) -> Result<(), Stop> {
        if let Some(text) = scalar::push(kind, wire, &mut self.document)? {
            say(text, &mut self.text);
        }
        Ok(())
    }

    fn time(&mut self, parts: &[&[u8]], left: u32, push: impl Fn(i128, i64, &mut String)) -> Result<(), Stop> {
        let number = |wire| match wire {
            Some(Wire::Varint(value)) => value,
            _ => 0,
        };
        let seconds = number(last(parts, 1, left)?).cast_signed();
        let nanos = scalar::low(number(last(parts, 2, left)?)).cast_signed();
        self.document.push('"');
        push(seconds.into(), nanos.into(), &mut self.document);
        self.document.push('"');
        Ok(())
    }

    /// The paths as in JSON: `a,b.cD`.
    fn mask(&mut self, parts: &[&[u8]], left: u32) -> Result<(), Stop> {
        let mut mask = String::new();
        for (nth, path) in each(parts, 1, left).enumerate() {
            self.charge()?;
            let path = path?;
            if nth > 0 {
                mask.push(',');
            }
            let mut after_underscore = false;
            for c in text(path)?.chars() {
                match c {
                    '_' => after_underscore = true,
                    c => {
                        mask.push(if after_underscore { c.to_ascii_uppercase() } else { c });
                        after_underscore = false;
                    }
                }
            }
        }
        scalar::push_text(&mask, &mut self.document);
        Ok(())
    }

    fn open_struct(&mut self, parts: &[&[u8]], left: u32) -> Result<(), Stop> {
        let mut members = BTreeMap::new();
        for found in each(parts, 1, left) {
            self.charge()?;
            let (key, value) = entry(&Kind::String, run_only(found?)?, left)?;
            members.insert(key, value);
        }
        self.document.push('{');
        for (key, value) in members {
            self.name(&key);
            self.value(&Holds::Value, &value, left)?;
        }
        self.document.push('}');
        Ok(())
    }

    fn open_value(&mut self, parts: &[&[u8]], left: u32) -> Result<(), Stop> {
        // A oneof, all of it: the last kind is the one, and of messages what came without another kind in between.
        let mut same: Vec<(u32, Wire<'_>)> = Vec::new();
        for field in parts.iter().flat_map(|part| Fields::of(part, left)) {
            let field = field?;
            if !(1..=6).contains(&field.number) {
                continue;
            }
            self.charge()?;
            if same.last().is_some_and(|(number, _)| *number != field.number) {
                same.clear();
            }
            same.push((field.number, field.wire));
        }
        let found: Vec<Wire<'_>> = same.iter().map(|(_, wire)| *wire).collect();
        match same.last() {
            Some((2, wire)) => self.scalar(&Kind::Double, *wire),
            Some((3, wire)) => self.scalar(&Kind::String, *wire),
            Some((4, wire)) => self.scalar(&Kind::Bool, *wire),
            Some((5, _)) => self.value(&Holds::Struct, &found, left),
            Some((6, _)) => self.value(&Holds::List, &found, left),
            _ => {
                self.document.push_str("null");
                Ok(())
            }
        }
    }

    fn open_list(&mut self, parts: &[&[u8]], left: u32) -> Result<(), Stop> {
        self.document.push('[');
        for found in each(parts, 1, left) {
            self.charge()?;
            self.comma();
            self.value(&Holds::Value, &[found?], left)?;
        }
        self.document.push(']');
        Ok(())
    }

    /// Its type, and its fields if the type is known here and the bytes are of it.
    fn any(&mut self, parts: &[&[u8]], left: u32) -> Result<(), Stop> {
        if self.anys == ANY_NESTED_MAX {
            let problem = format!("has google.protobuf.Any nested deeper than {ANY_NESTED_MAX}");
            return Err(Stop::Bounds(problem));
        }
        let url = last(parts, 1, left)?.map_or(Ok(""), text)?;
        let bytes = last(parts, 2, left)?.map_or(Ok(&[][..]), run_only)?;
        self.document.push('{');
        self.name("@type");
        scalar::push_text(url, &mut self.document);
        let named = url.rsplit('/').next().unwrap_or_default();
        if let Some(message) = self.pool.get_message_by_name(named).filter(|message| !message.is_map_entry()) {
            let (document, texts) = (self.document.len(), self.text.len());
            self.anys += 1;
            let written = match Holds::of_message(message) {
                Holds::Message(message) => self.members(&message, &[bytes], left, None),
                known => {
                    self.name("value");
                    self.value(&known, &[Wire::Run(bytes)], left)
                }
            };
            self.anys -= 1;
            match written {
                Err(Stop::Bytes(_)) => {
                    self.document.truncate(document);
                    self.text.truncate(texts);
                }
                other => other?,
            }
        }
        self.document.push('}');
        Ok(())
    }
}

/// The last value of a field of that number.
fn last<'a>(parts: &[&'a [u8]], number: u32, left: u32) -> Result<Option<Wire<'a>>, Problem> {
    each(parts, number, left).try_fold(None, |_, found| found.map(Some))
}

/// All values of a field of that number.
fn each<'a>(parts: &[&'a [u8]], number: u32, left: u32) -> impl Iterator<Item = Result<Wire<'a>, Problem>> {
    let fields = parts.iter().flat_map(move |part| Fields::of(part, left));
    fields.filter(move |field| field.as_ref().map_or(true, |field| field.number == number)).map(|field| Ok(field?.wire))
}

fn text(wire: Wire<'_>) -> Result<&str, Problem> {
    std::str::from_utf8(run_only(wire)?).map_err(|_| Problem::Utf8)
}

/// What a wrapper holds that has nothing on the wire.
fn nothing(kind: &Kind) -> Wire<'static> {
    match kind {
        Kind::Double => Wire::Fixed64(0),
        Kind::Float => Wire::Fixed32(0),
        Kind::String | Kind::Bytes => Wire::Run(&[]),
        _ => Wire::Varint(0),
    }
}
