//! An update of parts of a record, made on the bytes: what is not named stays as it came, unknown fields too.

use super::layout::{Layout, Layouts, Many};
use super::scalar::push_text;
use super::walk::{drop_overruled, entry};
use super::wire::{Fields, Found, run};
use super::{ITEM_VALUE, RECORD_MAX, check, json};
use crate::collections::ask::{find, into_scalar, map_key, map_kinds, segment};
use crate::collections::form::Holds;
use crate::collections::{BadField, Form, Item};
use crate::domain::one_line;
use crate::registry::{MOST_NESTED, Problem};
use crate::store::STEPS_MAX;
use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{Kind, MessageDescriptor};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Most paths of one update. 100: more is simpler said by sending the record.
const PATHS_MAX: usize = 100;
const MASK: &str = "update_mask";

/// What the paths name of a message, a map or an object.
#[derive(Debug, Default)]
struct Node {
    /// All of it.
    whole: bool,
    /// Fields by number.
    fields: BTreeMap<u32, Node>,
    /// Entries of a map, or members of an object.
    keys: BTreeMap<String, Node>,
}

enum Step {
    Field(u32),
    Key(String),
}

impl Node {
    fn add(&mut self, steps: Vec<Step>) {
        let mut node = self;
        for step in steps {
            node = match step {
                Step::Field(number) => node.fields.entry(number).or_default(),
                Step::Key(key) => node.keys.entry(key).or_default(),
            };
        }
        node.whole = true;
    }
}

/// `current` with the parts that `mask` names taken from `item`; what is absent there is cleared.
///
/// * `item`: checked. What comes of it is not: [`super::index`] does that.
/// * errors: `update_mask`: a path that leads nowhere, `id` among them; more than [`PATHS_MAX`]; a record that has no
///   parts; a result of more than [`RECORD_MAX`] bytes. `item.value`: what is no object where a record of JSON has parts.
pub(in crate::collections) fn merge(
    form: &Form,
    current: &Item,
    item: &Item,
    mask: &[String],
) -> Result<Item, BadField> {
    if mask.len() > PATHS_MAX {
        return Err(bad(format!("has {} paths, at most {PATHS_MAX} are allowed", mask.len())));
    }
    let mut root = Node::default();
    for path in mask {
        let steps = if path == "id" {
            Err("the id of a record stays; a field of that name is \"id\", quotes and all".to_owned())
        } else {
            match form {
                Form::Typed { descriptor, .. } => typed_steps(descriptor, path),
                Form::Loose => loose_steps(path),
            }
        };
        root.add(steps.map_err(|why| bad(format!("has {:?}: {why}", one_line(path, 256))))?);
    }
    let bytes = match form {
        Form::Loose => merge_json(current, item, &root)?,
        Form::Typed { descriptor, .. } => {
            check(form, current).map_err(|why| bad(format!("cannot name parts of this record: it {}", why.problem)))?;
            let mut out = Vec::with_capacity(current.bytes.len() + item.bytes.len());
            let mut splice = Splice { layouts: Layouts::default() };
            let spliced = splice.message(descriptor, &root, (&[&current.bytes], &[&item.bytes]), &mut out);
            spliced.map_err(|problem| BadField::new(ITEM_VALUE, problem.to_string()))?;
            Bytes::from(out)
        }
    };
    if bytes.len() > RECORD_MAX {
        return Err(bad(format!("makes a record of {} bytes, at most {RECORD_MAX} are allowed", bytes.len())));
    }
    Ok(Item { type_url: current.type_url.clone(), bytes })
}

fn bad(problem: String) -> BadField {
    BadField::new(MASK, problem)
}

fn typed_steps(descriptor: &MessageDescriptor, path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut message = descriptor.clone();
    let mut rest = Some(path);
    while let Some(path) = rest {
        if steps.len() >= STEPS_MAX {
            return Err(format!("a path has at most {STEPS_MAX} steps"));
        }
        let (field, after) = match Holds::of_message(message.clone()) {
            Holds::Message(_) => {
                let (name, after) = segment(path)?;
                (find(&message, name)?, after)
            }
            // Their members are entries of the map `fields`.
            Holds::Struct => (find(&message, "fields")?, rest),
            Holds::Value => (find(&message, "struct_value")?, rest),
            closed => return Err(into_scalar(&closed, rest)),
        };
        rest = after;
        steps.push(Step::Field(field.number()));
        let mut inside = field.kind();
        if let Some((key, value)) = map_kinds(&field) {
            if rest.is_none() {
                break;
            }
            steps.push(Step::Key(map_key(&key, &Holds::of(value.clone()), &mut rest)?));
            inside = value;
        } else if field.is_list() && rest.is_some() {
            return Err(format!("{:?} is replaced whole, its elements cannot be named", field.name()));
        }
        match inside {
            Kind::Message(inside) => message = inside,
            scalar if rest.is_some() => return Err(into_scalar(&Holds::of(scalar), rest)),
            _ => {}
        }
    }
    Ok(steps)
}

fn loose_steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = Some(path);
    while let Some(path) = rest {
        if steps.len() >= STEPS_MAX {
            return Err(format!("a path has at most {STEPS_MAX} steps"));
        }
        let (name, after) = segment(path)?;
        steps.push(Step::Key(name.to_owned()));
        rest = after;
    }
    Ok(steps)
}

/// The same message or map as it is, and as the parts are taken from.
type Both<'b, T> = (&'b [T], &'b [T]);

/// Takes parts of messages from others.
struct Splice {
    layouts: Layouts,
}

impl Splice {
    fn message(
        &mut self,
        message: &MessageDescriptor,
        node: &Node,
        (current, item): Both<'_, &[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        let layout = self.layouts.of(message);
        let (current, item) = (alive(&layout, current)?, alive(&layout, item)?);
        let oneof = |number: u32| layout.find(number).and_then(|(_, field)| field.oneof);
        // A member of a oneof that is taken from the item takes the place of the others.
        let given = |number: &&u32| item.iter().any(|found| found.number == **number);
        let taken: Vec<usize> = node.fields.keys().filter(given).filter_map(|number| oneof(*number)).collect();
        for found in &current {
            let replaced = oneof(found.number).is_some_and(|oneof| taken.contains(&oneof));
            if !replaced && !node.fields.contains_key(&found.number) {
                out.extend_from_slice(found.raw);
            }
        }
        for (number, part) in &node.fields {
            let Some((_, field)) = layout.find(*number) else { continue };
            let (current, item) = (of_number(&current, *number), of_number(&item, *number));
            if part.whole {
                item.iter().for_each(|found| out.extend_from_slice(found.raw));
            } else if let (Many::Map(key, _), Kind::Message(entry)) = (&field.many, field.descriptor.kind()) {
                self.map(&entry, key, part, (&current, &item), out)?;
            } else if let Kind::Message(inside) = field.descriptor.kind() {
                let group = field.descriptor.is_group();
                self.inside(&inside, (*number, group), part, (&current, &item), out)?;
            }
        }
        Ok(())
    }

    /// Writes the field of a message that some parts are taken of, if there is one on either side.
    fn inside(
        &mut self,
        message: &MessageDescriptor,
        (number, group): (u32, bool),
        part: &Node,
        (current, item): Both<'_, Found<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        if current.is_empty() && item.is_empty() {
            return Ok(());
        }
        let mut content = Vec::new();
        self.message(message, part, (&parts(current)?, &parts(item)?), &mut content)?;
        if group {
            encode_key(number, WireType::StartGroup, out);
            out.extend_from_slice(&content);
            encode_key(number, WireType::EndGroup, out);
        } else {
            push_run(number, &content, out);
        }
        Ok(())
    }

    fn map(
        &mut self,
        message: &MessageDescriptor,
        key: &Kind,
        node: &Node,
        (current, item): Both<'_, Found<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        let number = current.iter().chain(item).map(|found| found.number).next().unwrap_or_default();
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        for found in current {
            let name = entry(key, run(found.wire)?, MOST_NESTED)?.0;
            if node.keys.contains_key(&*name) {
                old.insert(name, *found);
            } else {
                out.extend_from_slice(found.raw);
            }
        }
        for found in item {
            new.insert(entry(key, run(found.wire)?, MOST_NESTED)?.0, *found);
        }
        for (name, part) in &node.keys {
            let (old, new) = (old.get(name.as_str()), new.get(name.as_str()));
            if part.whole {
                new.into_iter().for_each(|found| out.extend_from_slice(found.raw));
                continue;
            }
            // An entry is a message of a key and a value: the value's parts are parts of it, and the key stays.
            let (Some(kept), Kind::Message(value)) = (old.or(new), value_kind(message)) else { continue };
            let mut content = Vec::new();
            for field in Fields::of(run(kept.wire)?, MOST_NESTED) {
                let field = field?;
                if field.number == 1 {
                    content.extend_from_slice(field.raw);
                }
            }
            let (old, new) = (values(old)?, values(new)?);
            self.inside(&value, (2, false), part, (&old, &new), &mut content)?;
            push_run(number, &content, out);
        }
        Ok(())
    }
}

fn of_number<'a>(all: &[Found<'a>], number: u32) -> Vec<Found<'a>> {
    all.iter().filter(|found| found.number == number).copied().collect()
}

fn value_kind(entry: &MessageDescriptor) -> Kind {
    entry.get_field(2).map_or(Kind::Bool, |value| value.kind())
}

/// What stands for the value in a map's entry.
fn values<'a>(entry: Option<&Found<'a>>) -> Result<Vec<Found<'a>>, Problem> {
    let bytes = entry.map_or(Ok(&[][..]), |entry| run(entry.wire))?;
    Fields::of(bytes, MOST_NESTED).filter(|field| field.as_ref().map_or(true, |field| field.number == 2)).collect()
}

fn parts<'a>(found: &[Found<'a>]) -> Result<Vec<&'a [u8]>, Problem> {
    found.iter().map(|found| run(found.wire)).collect()
}

fn push_run(number: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// The fields of a message, but for members of oneofs that later ones overrule.
fn alive<'a>(layout: &Layout, parts: &[&'a [u8]]) -> Result<Vec<Found<'a>>, Problem> {
    let fields = parts.iter().flat_map(|part| Fields::of(part, MOST_NESTED));
    let mut found = fields.collect::<Result<Vec<_>, _>>()?;
    drop_overruled(&mut found, |found| layout.find(found.number).and_then(|(at, field)| Some((field.oneof?, at))));
    Ok(found)
}

fn merge_json(current: &Item, item: &Item, root: &Node) -> Result<Bytes, BadField> {
    // Whether they are objects, and of what size and depth; their members are taken from the text, as they stand there.
    if json::parse(&current.bytes)?.is_none() {
        return Err(bad(
            "cannot name parts of this record: it is no JSON object, and its type is not registered".into()
        ));
    }
    if json::parse(&item.bytes)?.is_none() {
        return Err(BadField::new(ITEM_VALUE, "must be a JSON object where update_mask names parts of one"));
    }
    let unread = |why: serde_json::Error| BadField::new(ITEM_VALUE, format!("is JSON that cannot be read: {why}"));
    let current = serde_json::from_slice(&current.bytes).map_err(unread)?;
    let item = serde_json::from_slice(&item.bytes).map_err(unread)?;
    merge_object(&current, &item, root).map(Bytes::from)
}

/// Writes `current` with the parts taken from `item`: what is not named stays as it stands there, what is new comes last.
fn merge_object(current: &Members<'_>, item: &Members<'_>, node: &Node) -> Result<String, BadField> {
    let (old, new) = (current.named(node), item.named(node));
    let mut named = BTreeMap::new();
    for (name, part) in &node.keys {
        let name = name.as_str();
        if let Some(value) = merge_member(name, (old.get(name).copied(), new.get(name).copied()), part)? {
            named.insert(name, value);
        }
    }
    let mut out = String::from("{");
    let mut push = |name: &str, value: &str| {
        if out.len() > 1 {
            out.push(',');
        }
        push_text(name, &mut out);
        out.push(':');
        out.push_str(value);
    };
    for (name, value) in &current.0 {
        if !node.keys.contains_key(name) {
            push(name, value.get());
        } else if let Some(value) = named.remove(name.as_str()) {
            push(name, &value);
        }
    }
    named.iter().for_each(|(name, value)| push(name, value));
    out.push('}');
    Ok(out)
}

/// What becomes of a member that the mask names or leads into. `None`: there is none afterwards.
fn merge_member<'a>(
    name: &str,
    (old, new): (Option<&'a RawValue>, Option<&'a RawValue>),
    part: &Node,
) -> Result<Option<Cow<'a, str>>, BadField> {
    if part.whole {
        return Ok(new.map(|new| Cow::Borrowed(new.get())));
    }
    let inside = new.and_then(Members::of);
    let members = match old {
        Some(old) if old.get() != "null" => Members::of(old)
            .ok_or_else(|| bad(format!("leads into {:?}, which is no object in this record", one_line(name, 128))))?,
        _ if inside.is_some() => Members::default(),
        absent => return Ok(absent.map(|null| Cow::Borrowed(null.get()))),
    };
    merge_object(&members, &inside.unwrap_or_default(), part).map(|merged| Some(Cow::Owned(merged)))
}

/// The members of an object in their order, values as they stand in the text.
#[derive(Default)]
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The members of an object; `None` if it is something else.
    fn of(value: &'a RawValue) -> Option<Self> {
        if value.get().starts_with('{') { serde_json::from_str(value.get()).ok() } else { None }
    }

    /// Those that the mask names or leads into. Of several of one name it is the last, as everybody reads it.
    fn named(&self, node: &Node) -> BTreeMap<&str, &'a RawValue> {
        let named = self.0.iter().filter(|(name, _)| node.keys.contains_key(name));
        named.map(|(name, value)| (name.as_str(), *value)).collect()
    }
}

impl<'a> Deserialize<'a> for Members<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'a> Visitor<'a> for Reader {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Members<'a>, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = members.next_entry()? {
            all.push(member);
        }
        Ok(Members(all))
    }
}
