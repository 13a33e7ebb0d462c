//! Indexed fields.

use super::path::{End, Resolved, resolve};
use crate::collections::document::{VectorField, is_floating};
use crate::collections::form::Holds;
use crate::collections::{BadField, Form};
use crate::domain::one_line;
use crate::store::{INDEXED_MEMBER_MAX, INDEXED_PATH_MAX, INDEXES_MAX, Path, Step};

/// What of the records has an index.
#[derive(Debug, Default, PartialEq)]
pub(in crate::collections) struct Indexes {
    /// In the order given, without the vector.
    pub(in crate::collections) paths: Vec<Path>,
    /// The field marked `path:vector`.
    pub(in crate::collections) vector: Option<VectorField>,
}

/// What `indexed_fields` come to.
///
/// * errors: `indexed_fields[3]`: a path that leads nowhere, to several values or to a message, or that is there twice;
///   a second vector. `indexed_fields`: more than [`INDEXES_MAX`].
pub(in crate::collections) fn indexes(form: &Form, indexed_fields: &[String]) -> Result<Indexes, BadField> {
    if indexed_fields.len() > INDEXES_MAX {
        let problem = format!("has {} entries, at most {INDEXES_MAX} are allowed", indexed_fields.len());
        return Err(BadField::new("indexed_fields", problem));
    }
    let mut all = Indexes::default();
    for (nth, path) in indexed_fields.iter().enumerate() {
        let named =
            |why| BadField::new(format!("indexed_fields[{nth}]"), format!("is {:?}: {why}", one_line(path, 256)));
        all.add(form, path).map_err(named)?;
    }
    Ok(all)
}

impl Indexes {
    fn add(&mut self, form: &Form, path: &str) -> Result<(), String> {
        if let Some(path) = path.strip_suffix(":vector") {
            if self.vector.is_some() {
                return Err("there is a vector already".to_owned());
            }
            self.vector = Some(vector(form, &resolve(form, path)?)?);
            return Ok(());
        }
        let path = single(&resolve(form, path)?)?;
        if self.paths.contains(&path) {
            return Err("it stands there twice".to_owned());
        }
        self.paths.push(path);
        Ok(())
    }
}

fn single(found: &Resolved) -> Result<Path, String> {
    match &found.end {
        End::Each(_) => return Err("it leads to several values".to_owned()),
        End::One(Holds::Message(_), _) => return Err("it leads to a message, which has no value".to_owned()),
        End::Open | End::One(..) => {}
    }
    if found.is_repeated() || found.through_map {
        return Err("it leads through a map or a repeated field".to_owned());
    }
    members(found)?;
    let path = found.path()?;
    match path.is_indexable() {
        true => Ok(path),
        false => {
            Err(format!("the path of an index has at most {INDEXED_PATH_MAX} bytes, and three more for each name"))
        }
    }
}

fn vector(form: &Form, found: &Resolved) -> Result<VectorField, String> {
    if found.through_map {
        return Err("it leads through a map".to_owned());
    }
    match (form, &found.end) {
        (Form::Loose, _) => members(found).map(VectorField::Loose),
        (Form::Typed { .. }, End::Each(Holds::Scalar(kind))) if is_floating(kind) => {
            let repeated = found.steps.iter().filter(|step| **step == Step::Elements).count();
            let numbers = (repeated == 1).then(|| found.numbers.clone());
            numbers.map(VectorField::Typed).ok_or_else(|| "it leads through a repeated field".to_owned())
        }
        (Form::Typed { .. }, _) => Err("a vector is a repeated float or double field".to_owned()),
    }
}

/// The names on the way, all of them plain.
fn members(found: &Resolved) -> Result<Vec<String>, String> {
    let names = found.steps.iter().filter_map(|step| match step {
        Step::Member(name) => Some(name),
        Step::Elements | Step::Values | Step::Spread => None,
    });
    let plain = |name: &String| {
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let odd = || {
            format!(
                "a name in the path of an index has only letters, digits and `_`, {:?} does not",
                one_line(name, 128)
            )
        };
        if !letters {
            return Err(odd());
        }
        if name.len() > INDEXED_MEMBER_MAX {
            return Err(format!("a name in the path of an index has at most {INDEXED_MEMBER_MAX} bytes"));
        }
        Ok(name.clone())
    };
    names.map(plain).collect()
}
