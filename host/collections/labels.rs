//! The rule for labels, of collections and of records. Source: proto/collector/collection.proto.

use super::BadField;
use crate::domain::one_line;
use crate::store::Labels;

/// Most labels of one thing. They are for sorting things, not for what things hold.
pub(super) const LABELS_MAX: usize = 64;
/// Longest key, in bytes: as long as a name.
const KEY_MAX: usize = 63;
/// Longest value, in bytes: a name with its namespace, a URL.
const VALUE_MAX: usize = 256;
/// Bytes that the keys and values of one thing have together. 4 KiB: the answer to the largest batch repeats all labels
/// of its records, and has to fit into a reply.
const BYTES_MAX: usize = 4_096;

/// Whether labels follow the rule.
///
/// * `field`: the request's, for the error.
pub(super) fn check(field: &str, labels: &Labels) -> Result<(), BadField> {
    if labels.len() > LABELS_MAX {
        return Err(BadField::new(field, format!("has {} labels, at most {LABELS_MAX} are allowed", labels.len())));
    }
    for (key, value) in labels {
        let at = || format!("{field}[{:?}]", one_line(key, KEY_MAX));
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
        let first = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !first || key.len() > KEY_MAX || !key.bytes().all(inner) {
            let problem = "is no key of a label: 1 to 63 bytes of `[A-Za-z0-9_./-]`, the first a letter or digit";
            return Err(BadField::new(at(), problem));
        }
        if value.len() > VALUE_MAX {
            let problem = format!("has {} bytes, at most {VALUE_MAX} are allowed", value.len());
            return Err(BadField::new(at(), problem));
        }
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > BYTES_MAX {
        return Err(BadField::new(field, format!("have {bytes} bytes together, at most {BYTES_MAX} are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(key: &str, value: &str) -> bool {
        check("labels", &[(key.to_owned(), value.to_owned())].into()).is_ok()
    }

    #[test]
    fn c01_keys_are_names_and_values_are_short() {
        for good in ["a", "9", "app.example/tier_1-x", &"k".repeat(63)] {
            assert!(holds(good, "any \"text\"; é"), "{good}");
        }
        for bad in ["", "-a", "/a", "a b", "a'b", "a\"b", "é", "a\0", "$", &"k".repeat(64)] {
            assert!(!holds(bad, ""), "{bad}");
        }
        assert!(holds("a", &"v".repeat(256)) && !holds("a", &"v".repeat(257)));
        let many = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(check("labels", &many(64)).is_ok() && check("labels", &many(65)).is_err());
    }

    #[test]
    fn keys_and_values_have_four_kibibytes_together() {
        let of = |last: usize| {
            let mut labels: Labels = (0..16).map(|n| (format!("k{n:02}"), "v".repeat(252))).collect();
            labels.insert("more".to_owned(), "v".repeat(last));
            labels
        };
        assert_eq!(check("labels", &of(12)), Ok(()));
        let refused = check("labels", &of(13)).unwrap_err();
        assert_eq!(
            (&*refused.field, &*refused.problem),
            ("labels", "have 4097 bytes together, at most 4096 are allowed")
        );
    }
}
