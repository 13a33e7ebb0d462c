//! Paths of requests, resolved against what the records are.

use crate::collections::Form;
use crate::collections::form::Holds;
use crate::domain::one_line;
use crate::store::{MEMBER_MAX, Path, STEPS_MAX, Step};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Where a path leads to.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Into the document.
    pub(super) steps: Vec<Step>,
    /// Numbers of the fields on the way, where the types know them.
    pub(super) numbers: Vec<u32>,
    /// Whether a step is the key of a map.
    pub(super) through_map: bool,
    pub(super) end: End,
}

/// What is there.
#[derive(Debug)]
pub(super) enum End {
    /// What nobody declared. The steps end with a member; a [`Step::Spread`] is still to come for what looks at elements.
    Open,
    /// One value; with the field if it has no presence.
    One(Holds, Option<FieldDescriptor>),
    /// Every element of a repeated field, or every value of a map: the last step says so.
    Each(Holds),
}

impl Resolved {
    /// For comparisons.
    pub(super) fn path(&self) -> Result<Path, String> {
        let open = match &self.end {
            End::Open => true,
            End::One(holds, _) | End::Each(holds) => holds.is_loose(),
        };
        let open = open.then_some(Step::Spread);
        made(self.steps.iter().cloned().chain(open).collect())
    }

    /// Whether a declared repeated field or map is on the way, as a whole.
    pub(super) fn is_repeated(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Elements | Step::Values))
    }

    /// For whatever has to be there: the value itself, or the list or map as a whole.
    pub(super) fn whole(&self) -> Result<Path, String> {
        let steps = match (&self.end, self.steps.split_last()) {
            (End::Each(_), Some((_, container))) => container,
            _ => &self.steps,
        };
        made(steps.to_vec())
    }
}

fn made(steps: Vec<Step>) -> Result<Path, String> {
    Path::new(steps).map_err(|why| why.to_string())
}

/// * errors: why it leads nowhere, as a sentence of its own.
pub(super) fn resolve(form: &Form, path: &str) -> Result<Resolved, String> {
    let mut way = Way { steps: Vec::new(), numbers: Vec::new(), through_map: false, rest: Some(path) };
    let end = match form {
        Form::Loose => way.open()?,
        Form::Typed { descriptor, .. } => way.typed(Holds::of_root(descriptor))?,
    };
    Ok(Resolved { steps: way.steps, numbers: way.numbers, through_map: way.through_map, end })
}

struct Way<'p> {
    steps: Vec<Step>,
    numbers: Vec<u32>,
    through_map: bool,
    rest: Option<&'p str>,
}

impl<'p> Way<'p> {
    fn next(&mut self) -> Result<&'p str, String> {
        if self.steps.len() >= STEPS_MAX {
            return Err(format!("a path has at most {STEPS_MAX} steps"));
        }
        let (segment, rest) = segment(self.rest.unwrap_or_default())?;
        self.rest = rest;
        Ok(segment)
    }

    /// Through what nobody declared.
    fn open(&mut self) -> Result<End, String> {
        while self.rest.is_some() {
            let name = self.next()?.to_owned();
            self.steps.push(Step::Member(name));
            if self.rest.is_some() {
                self.steps.push(Step::Spread);
            }
        }
        Ok(End::Open)
    }

    fn typed(&mut self, root: Holds) -> Result<End, String> {
        let mut holds = root;
        loop {
            match holds {
                Holds::Message(message) => match self.field(&message)? {
                    (end, None) => return Ok(end),
                    (_, Some(inside)) => holds = inside,
                },
                Holds::Struct | Holds::Any => return self.open(),
                Holds::Value | Holds::List => {
                    self.steps.push(Step::Spread);
                    return self.open();
                }
                closed => return Err(into_scalar(&closed, self.rest)),
            }
        }
    }

    /// One field on. Returns where that is, and what there is to go on into if the path does.
    fn field(&mut self, message: &MessageDescriptor) -> Result<(End, Option<Holds>), String> {
        let field = find(message, self.next()?)?;
        self.steps.push(Step::Member(field.name().to_owned()));
        self.numbers.push(field.number());
        if let Some((key, value)) = map_kinds(&field) {
            let value = Holds::of(value);
            if self.rest.is_none() {
                self.steps.push(Step::Values);
                return Ok((ended(End::Each(value)), None));
            }
            let key = map_key(&key, &value, &mut self.rest)?;
            self.steps.push(Step::Member(key));
            self.through_map = true;
            return Ok(match self.rest {
                None => (ended(End::One(value, None)), None),
                Some(_) => (End::Open, Some(value)),
            });
        }
        let holds = Holds::of(field.kind());
        let list = field.is_list();
        if list {
            self.steps.push(Step::Elements);
        }
        Ok(match self.rest {
            Some(_) => (End::Open, Some(holds)),
            None if list => (ended(End::Each(holds)), None),
            None => {
                let implicit = (!field.supports_presence()).then_some(field);
                (ended(End::One(holds, implicit)), None)
            }
        })
    }
}

/// One value of an open kind is open.
fn ended(end: End) -> End {
    match end {
        End::One(holds, _) if holds.is_loose() => End::Open,
        other => other,
    }
}

/// The field of that proto name or JSON name.
pub(in crate::collections) fn find(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let found = message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
    found.ok_or_else(|| {
        let close = message.fields().filter_map(|field| {
            let distance = distance(field.name(), name).min(distance(field.json_name(), name));
            (distance <= 2 && distance < field.name().len()).then(|| (distance, field.name().to_owned()))
        });
        let hint = close.min().map(|(_, name)| format!("; did you mean {name:?}?")).unwrap_or_default();
        format!("there is no field {:?} in {}{hint}", one_line(name, 128), message.full_name())
    })
}

/// Kinds of key and value, if the field is a map.
pub(in crate::collections) fn map_kinds(field: &FieldDescriptor) -> Option<(Kind, Kind)> {
    let kind = field.kind();
    let entry = kind.as_message().filter(|entry| field.is_map() && entry.is_map_entry())?;
    Some((entry.get_field(1)?.kind(), entry.get_field(2)?.kind()))
}

/// Takes the key of a map off the path: the next segment, or all of it where nothing can come after it.
pub(in crate::collections) fn map_key(kind: &Kind, value: &Holds, rest: &mut Option<&str>) -> Result<String, String> {
    let path = rest.unwrap_or_default();
    if path.is_empty() {
        return Err("a name in the path is empty".to_owned());
    }
    let goes_on = value.is_loose() || matches!(value, Holds::Message(_));
    let (key, after) = if goes_on || path.starts_with('"') { segment(path)? } else { (path, None) };
    if after.is_some() && !goes_on {
        return Err(into_scalar(value, after));
    }
    *rest = after;
    let odd = || format!("{:?} is no key of this map", one_line(key, 128));
    match kind {
        Kind::String => Ok(key.to_owned()),
        Kind::Bool => key.parse::<bool>().map(|key| key.to_string()).map_err(|_| odd()),
        Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64 => {
            key.parse::<u64>().map(|key| key.to_string()).map_err(|_| odd())
        }
        _ => key.parse::<i64>().map(|key| key.to_string()).map_err(|_| odd()),
    }
}

pub(in crate::collections) fn into_scalar(holds: &Holds, rest: Option<&str>) -> String {
    let what = match holds {
        Holds::Scalar(_) | Holds::Wrapper(_) => "a single value",
        Holds::Timestamp => "a google.protobuf.Timestamp",
        Holds::Duration => "a google.protobuf.Duration",
        Holds::Mask => "a google.protobuf.FieldMask",
        Holds::Any => "a google.protobuf.Any",
        Holds::Struct | Holds::Value | Holds::List | Holds::Message(_) => "a message",
    };
    format!("{:?} would lead into {what}, which has no fields here", one_line(rest.unwrap_or_default(), 128))
}

/// The first segment of a path, and what comes after its dot.
pub(in crate::collections) fn segment(path: &str) -> Result<(&str, Option<&str>), String> {
    let (name, rest) = match path.strip_prefix('"') {
        None => path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest))),
        Some(quoted) => {
            let (name, rest) = quoted.split_once('"').ok_or("a quote is not closed")?;
            match rest.strip_prefix('.') {
                None if !rest.is_empty() => return Err("only a dot may follow a closing quote".to_owned()),
                after => (name, after),
            }
        }
    };
    if name.is_empty() {
        return Err("a name in the path is empty".to_owned());
    }
    if name.len() > MEMBER_MAX {
        return Err(format!("a name in the path has {} bytes, at most {MEMBER_MAX} are allowed", name.len()));
    }
    Ok((name, rest))
}

/// How many letters have to be added, taken away or replaced. Names that are far longer are far away.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (nth, from) in a.bytes().enumerate() {
        let mut diagonal = nth;
        let mut left = nth + 1;
        let mut next = vec![left];
        for (above, to) in row.iter().skip(1).zip(b.bytes()) {
            left = (left + 1).min(above + 1).min(diagonal + usize::from(from != to));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}
