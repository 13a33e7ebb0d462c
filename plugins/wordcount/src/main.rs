//! Counts lines, words and bytes of standard input, as `wc` does: a plugin in the form of any command, without the SDK.

use std::io::{Read, Write};

fn main() -> std::io::Result<()> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    writeln!(std::io::stdout(), "{}", count(&text))
}

/// `lines words bytes`; a word is what stands between ASCII white space.
fn count(text: &[u8]) -> String {
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
    format!("{lines} {words} {}", text.len())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_as_wc_does() {
        assert_eq!(count(b""), "0 0 0");
        assert_eq!(count(b"one two\n three\n"), "2 3 15");
        assert_eq!(count(b"no newline"), "0 2 10");
        assert_eq!(count(b"\xff \xfe\n"), "1 2 4", "any bytes");
    }
}
