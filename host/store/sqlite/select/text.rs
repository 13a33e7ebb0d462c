//! Text expressions in FTS5's language: every word quoted, so that nothing of a tenant's can be an operator.

use super::super::norm;
use crate::store::{Phrase, StoreError, TERMS_MAX, TEXT_MAX, Text};

/// Most parentheses in one another. 24: FTS5's parser takes some 30.
const DEPTH_MAX: usize = 24;
/// Distance that is as good as none: no text has so many words.
const FAR: u32 = 10_000_000;

/// The phrases of an expression as FTS5 counts them, from left to right.
pub(super) fn phrases(text: &Text) -> Vec<&Phrase> {
    let (mut found, mut left) = (Vec::new(), vec![text]);
    while let Some(text) = left.pop() {
        match text {
            Text::Phrase(phrase) => found.push(phrase),
            Text::Near(phrases, _) => found.extend(near(phrases)),
            Text::And(one, other) | Text::Or(one, other) | Text::Not(one, other) => left.extend([&**other, &**one]),
        }
    }
    found
}

/// Phrases without a word are nothing to be near to; FTS5 leaves them out too. One is left if all are so.
fn near(phrases: &[Phrase]) -> impl Iterator<Item = &Phrase> {
    let blank = phrases.iter().all(|phrase| norm::words(&phrase.words) == 0);
    phrases
        .iter()
        .enumerate()
        .filter(move |(at, phrase)| (blank && *at == 0) || norm::words(&phrase.words) > 0)
        .map(|(_, phrase)| phrase)
}

/// Whether an expression is within the bounds.
pub(super) fn check(text: &Text) -> Result<(), StoreError> {
    let mut left = vec![text];
    let (mut words, mut bytes) = (0, 0);
    while let Some(text) = left.pop() {
        let phrases = match text {
            Text::Phrase(phrase) => std::slice::from_ref(phrase),
            Text::Near(phrases, _) if phrases.is_empty() => {
                return Err(StoreError::Invalid("NEAR has no phrases".to_owned()));
            }
            Text::Near(phrases, _) if phrases.iter().any(|phrase| phrase.initial) => {
                return Err(StoreError::Invalid("a phrase in NEAR cannot be the first".to_owned()));
            }
            Text::Near(phrases, _) => phrases,
            Text::And(one, other) | Text::Or(one, other) | Text::Not(one, other) => {
                left.extend([&**other, &**one]);
                &[]
            }
        };
        words += phrases.iter().map(|phrase| norm::words(&phrase.words).max(1)).sum::<u64>();
        bytes += phrases.iter().map(|phrase| phrase.words.len()).sum::<usize>();
        if bytes > TEXT_MAX {
            return Err(StoreError::Invalid(format!("the text expression has more than {TEXT_MAX} bytes")));
        }
        if words > TERMS_MAX as u64 || left.len() > TERMS_MAX {
            return Err(StoreError::Invalid(format!("the text expression has more than {TERMS_MAX} words")));
        }
    }
    Ok(())
}

/// An expression that was checked, as FTS5 reads it.
///
/// * errors: `Invalid` if it is nested too deeply.
pub(super) fn expression(text: &Text) -> Result<String, StoreError> {
    let mut out = String::new();
    write(text, 0, &mut out)?;
    Ok(out)
}

/// A phrase alone.
pub(super) fn phrase(phrase: &Phrase) -> String {
    let mut out = String::new();
    write_phrase(phrase, &mut out);
    out
}

fn write(text: &Text, depth: usize, out: &mut String) -> Result<(), StoreError> {
    if depth > DEPTH_MAX {
        return Err(StoreError::Invalid(format!("the text expression is nested more than {DEPTH_MAX} deep")));
    }
    match text {
        Text::Phrase(phrase) => write_phrase(phrase, out),
        Text::Near(phrases, most) => write_near(phrases, *most, out),
        Text::And(..) => join(
            operands(text, |text| match text {
                Text::And(one, other) => Some((one, other)),
                _ => None,
            }),
            " AND ",
            depth,
            out,
        )?,
        Text::Or(..) => join(
            operands(text, |text| match text {
                Text::Or(one, other) => Some((one, other)),
                _ => None,
            }),
            " OR ",
            depth,
            out,
        )?,
        Text::Not(one, other) => write_not(one, other, depth, out)?,
    }
    Ok(())
}

/// What a chain of one operator joins, however it is nested.
fn operands<'t>(text: &'t Text, split: impl Fn(&'t Text) -> Option<(&'t Text, &'t Text)>) -> Vec<&'t Text> {
    let (mut found, mut left) = (Vec::new(), vec![text]);
    while let Some(text) = left.pop() {
        match split(text) {
            Some((one, other)) => left.extend([other, one]),
            None => found.push(text),
        }
    }
    found
}

fn join(operands: Vec<&Text>, operator: &str, depth: usize, out: &mut String) -> Result<(), StoreError> {
    for (at, operand) in operands.into_iter().enumerate() {
        if at > 0 {
            out.push_str(operator);
        }
        write_operand(operand, depth, out)?;
    }
    Ok(())
}

/// `a NOT b NOT c` is `a NOT (b OR c)`, which nests no deeper with every word.
fn write_not(one: &Text, other: &Text, depth: usize, out: &mut String) -> Result<(), StoreError> {
    let (mut first, mut others) = (one, vec![other]);
    while let Text::Not(one, other) = first {
        others.push(other);
        first = one;
    }
    others.reverse();
    write_operand(first, depth, out)?;
    out.push_str(" NOT (");
    join(others, " OR ", depth + 1, out)?;
    out.push(')');
    Ok(())
}

fn write_operand(text: &Text, depth: usize, out: &mut String) -> Result<(), StoreError> {
    if matches!(text, Text::Phrase(_) | Text::Near(..)) {
        return write(text, depth, out);
    }
    out.push('(');
    write(text, depth + 1, out)?;
    out.push(')');
    Ok(())
}

fn write_near(phrases: &[Phrase], most: u32, out: &mut String) {
    out.push_str("NEAR(");
    for phrase in near(phrases) {
        write_phrase(phrase, out);
        out.push(' ');
    }
    out.push_str(&format!(", {})", most.min(FAR)));
}

fn write_phrase(phrase: &Phrase, out: &mut String) {
    if phrase.initial {
        out.push_str("^ ");
    }
    out.push('"');
    // FTS5 would stop reading at a NUL; to the tokenizer it is no part of a word.
    out.push_str(&phrase.words.replace('"', "\"\"").replace('\0', " "));
    out.push('"');
    if phrase.prefix {
        out.push_str(" *");
    }
}
