//! Making text from strangers safe to show.

use std::fmt::Write as _;

/// The longest prefix of `text` that has at most `max` bytes and ends between characters.
pub fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// `text` as one physical line: control characters escaped (`\n`, `\u{1b}`), at most `max` bytes of output, `…` where
/// something was left out. Printable text of any script stays as it is.
pub fn one_line(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let before = line.len();
        if c.is_control() || is_invisible(c) {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
        if line.len() > max {
            line.truncate(before);
            line.push('…');
            break;
        }
    }
    line
}

/// Characters that are no controls to Unicode but let a line pose as another: line separators and text direction.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Names at most ten of `names`, and how many more there are: a message is no place for a hundred thousand.
pub fn some_of(names: &[String]) -> String {
    first_of(names.iter().map(String::as_str))
}

/// The same of names that come one by one; only those that are named are looked at.
pub fn first_of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 10;
    let count = names.len();
    let mut shown: Vec<&str> = names.take(SHOWN).collect();
    let more = format!("and {} more", count.saturating_sub(SHOWN));
    match count {
        0 => shown.push("nothing"),
        1..=SHOWN => {}
        _ => shown.push(&more),
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_line_stays_one_line() {
        assert_eq!(one_line("a\r\nb\x1b[31mc\u{202e}d", 100), "a\\r\\nb\\u{1b}[31mc\\u{202e}d");
        assert_eq!(one_line("größe ✓", 100), "größe ✓");
    }

    #[test]
    fn lists_stay_short() {
        let names = |n: u32| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(some_of(&names(0)), "nothing");
        assert_eq!(some_of(&names(10)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert_eq!(some_of(&names(11)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 1 more");
    }

    #[test]
    fn cutting_happens_between_characters_and_escapes() {
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcdef…");
        assert_eq!(one_line("ab\n", 3), "ab…");
        assert_eq!(cut("ää", 3), "ä");
        assert_eq!(cut("ää", 4), "ää");
    }
}
