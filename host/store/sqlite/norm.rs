//! How long a record's texts are, in one byte: exact to 40 words, then within an eighth. Source: Lucene's `SmallFloat`.
//!
//! The byte stands in every row's number, so that a rank needs no look-up.

/// Lengths below this are themselves; those above are a float of 4 significant bits, counted from here.
const EXACT: u64 = 24;
/// Significant bits after the first one.
const MANTISSA: u32 = 3;

/// Words of a text, as a rank counts them: runs of letters and digits. What stands between two texts does not count.
pub(super) fn words(text: &str) -> u64 {
    let mut inside = false;
    let mut count = 0;
    for character in text.chars() {
        let word = character.is_alphanumeric() || (inside && is_accent(character));
        count += u64::from(word && !inside);
        inside = word;
    }
    count
}

/// The combining accents: the tokenizer takes them for parts of a word.
fn is_accent(character: char) -> bool {
    ('\u{300}'..='\u{36F}').contains(&character)
}

/// Rises with `words`.
pub(super) fn norm(words: u64) -> u8 {
    let code = match words.checked_sub(EXACT) {
        None => words,
        Some(rest) => EXACT + float(rest),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The least number of words that has this norm.
pub(super) fn least(norm: u8) -> u64 {
    let code = u64::from(norm);
    match code.checked_sub(EXACT) {
        None => code,
        Some(float) => EXACT + unfloat(float),
    }
}

fn float(number: u64) -> u64 {
    let bits = u64::BITS - number.leading_zeros();
    match bits.checked_sub(MANTISSA + 1) {
        None | Some(0) => number,
        Some(shift) => ((number >> shift) & 0b111) | (u64::from(shift + 1) << MANTISSA),
    }
}

fn unfloat(float: u64) -> u64 {
    let mantissa = float & 0b111;
    match (float >> MANTISSA).checked_sub(1) {
        None => mantissa,
        Some(shift) => (mantissa | 0b1000) << shift,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(words(""), 0);
        assert_eq!(words("one, two-three \u{E000} 4th"), 4);
        assert_eq!(words("caf\u{65}\u{301}s 日本 ½"), 3);
        assert_eq!(words("\u{301} ..."), 0);
    }

    #[test]
    fn short_lengths_are_exact_and_long_ones_close() {
        for words in 0..40 {
            assert_eq!(least(norm(words)), words);
        }
        for words in (40..1_000_000).step_by(7) {
            let back = least(norm(words));
            assert!(back <= words && back * 9 >= words * 8, "{words} became {back}");
        }
    }

    #[test]
    fn norms_rise_and_every_length_has_one() {
        for code in 0..=u8::MAX {
            assert_eq!(norm(least(code)), code);
        }
        assert!((1..=u8::MAX).all(|code| least(code - 1) < least(code)));
        assert_eq!(norm(u64::MAX), u8::MAX);
    }
}
