//! The import graph of a set of files.

use super::{LINE, VetError};
use crate::domain::one_line;
use prost_types::FileDescriptorProto;
use std::collections::HashMap;

/// Ways to walk public imports, over all files of a set: the pool's compiler walks every one of them, and their number
/// doubles with each file that publicly imports two others.
pub const MOST_PUBLIC_PATHS: u64 = 100_000;

/// Refuses a set of vetted files whose imports go in circles, or fan out too far.
///
/// Must come before the set is built: on a circle of public imports the compiler recurses until the stack ends, which
/// no `catch_unwind` catches.
/// * `files`: all of a namespace, without those that are bundled. An import of a file that is not among them is not
///   followed: whether it is bundled or missing is the caller's to say.
/// * errors: `Invalid` naming the files of a circle, `TooLarge`.
pub fn imports(files: &[&FileDescriptorProto]) -> Result<(), VetError> {
    let index: HashMap<&str, usize> = files.iter().zip(0..).map(|(file, at)| (file.name(), at)).collect();
    let imported: Vec<Vec<usize>> = files.iter().map(|file| known(&file.dependency, &index)).collect();
    let order = leaves_first(files, &imported)?;
    let mut paths = vec![0u64; files.len()];
    let mut total = 0u64;
    for at in order {
        let Some(file) = files.get(at) else { continue };
        let public: Vec<String> = file
            .public_dependency
            .iter()
            .filter_map(|nth| usize::try_from(*nth).ok().and_then(|nth| file.dependency.get(nth)).cloned())
            .collect();
        let mine = sum(&paths, &known(&public, &index)).saturating_add(1);
        total = total.saturating_add(sum(&paths, imported.get(at).map_or(&[], Vec::as_slice)));
        if let Some(slot) = paths.get_mut(at) {
            *slot = mine;
        }
    }
    let most = usize::try_from(MOST_PUBLIC_PATHS).unwrap_or(usize::MAX);
    VetError::within("paths of public imports", usize::try_from(total).unwrap_or(usize::MAX), most)
}

fn known(names: &[String], index: &HashMap<&str, usize>) -> Vec<usize> {
    names.iter().filter_map(|name| index.get(name.as_str()).copied()).collect()
}

fn sum(paths: &[u64], of: &[usize]) -> u64 {
    of.iter().filter_map(|at| paths.get(*at)).fold(0, |sum, one| sum.saturating_add(*one))
}

/// All files, each after those it imports.
fn leaves_first(files: &[&FileDescriptorProto], imported: &[Vec<usize>]) -> Result<Vec<usize>, VetError> {
    let mut importers = vec![Vec::new(); files.len()];
    for (from, to) in imported.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |to| (from, *to))) {
        if let Some(list) = importers.get_mut(to) {
            list.push(from);
        }
    }
    let mut waits: Vec<usize> = imported.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = waits.iter().zip(0..).filter(|(waits, _)| **waits == 0).map(|(_, at)| at).collect();
    let mut done = 0;
    while let Some(ready) = order.get(done).copied() {
        done += 1;
        for importer in importers.get(ready).into_iter().flatten() {
            if let Some(waits) = waits.get_mut(*importer) {
                *waits -= 1;
                if *waits == 0 {
                    order.push(*importer);
                }
            }
        }
    }
    if order.len() == files.len() { Ok(order) } else { Err(circle(files, imported, &waits)) }
}

/// Names a circle among the files that still wait: following what waits from any of them ends in one.
fn circle(files: &[&FileDescriptorProto], imported: &[Vec<usize>], waits: &[usize]) -> VetError {
    let waiting = |at: &usize| waits.get(*at).is_some_and(|waits| *waits > 0);
    let mut seen = vec![None; files.len()];
    let mut path = Vec::new();
    let mut next = (0..files.len()).find(waiting);
    while let Some(at) = next {
        let Some(place) = seen.get_mut(at) else { break };
        if let Some(start) = *place {
            path.drain(..start);
            break;
        }
        *place = Some(path.len());
        path.push(at);
        next = imported.get(at).into_iter().flatten().copied().find(waiting);
    }
    let names = path.iter().chain(path.first()).filter_map(|at| files.get(*at)).map(|file| file.name());
    let names: Vec<&str> = names.collect();
    VetError::Invalid(one_line(&format!("imports go in a circle: {}", names.join(" imports ")), LINE))
}
