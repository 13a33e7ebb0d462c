//! Text expressions: the grammar of FTS5's full-text queries, as SQLite implements it. Source: fts5parse.y, fts5_expr.c.
//!
//! ```text
//! or    = and {"OR" and}          not   = unit {"NOT" unit}
//! and   = not {"AND" not}         unit  = "(" or ")" | near {near}         (next to each other: both)
//! near  = phrase | "^" phrase | "NEAR" "(" phrase {phrase} ["," number] ")"
//! phrase = string ["*"] {"+" string ["*"]}
//! ```
//! Stricter than SQLite: there are no columns, a `*` stands at the end of a phrase only, and there are bounds.

use crate::collections::BadField;
use crate::domain::{cut, one_line};
use crate::store::{Phrase, TERMS_MAX, TEXT_BREAK, TEXT_MAX, Text};

/// Longest expression, in bytes: the store's bound.
const EXPRESSION_MAX: usize = TEXT_MAX;
/// How deep parentheses may nest. 24: what the database takes.
const NESTED_MAX: usize = 24;
/// Most words between the phrases of a NEAR.
const DISTANCE_MAX: u32 = 10_000;
/// Words between the phrases of a NEAR that does not say. Source: FTS5_DEFAULT_NEARDIST.
const DISTANCE: u32 = 10;

/// What `full_text` comes to. `None`: it is empty.
///
/// * errors: `full_text`: malformed, or beyond a bound.
pub(in crate::collections) fn text(expression: &str) -> Result<Option<Text>, BadField> {
    if expression.is_empty() {
        return Ok(None);
    }
    let bad = |problem: String| BadField::new("full_text", problem);
    if expression.len() > EXPRESSION_MAX {
        return Err(bad(format!("has {} bytes, at most {EXPRESSION_MAX} are allowed", expression.len())));
    }
    let mut parser = Parser { input: expression, at: 0, next: (Token::End, 0), left: NESTED_MAX, terms: 0 };
    let parsed = parser.advance().and_then(|()| parser.any()).and_then(|found| parser.expect_end().map(|()| found));
    parsed.map(Some).map_err(bad)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    /// A word that is no operator.
    Word(&'a str),
    /// What is between the quotes, doubled ones as they are.
    Quoted(&'a str),
    And,
    Or,
    Not,
    /// One of `( ) { } : , + * - ^`.
    Sign(char),
    End,
}

struct Parser<'a> {
    input: &'a str,
    /// Where the token after the next begins.
    at: usize,
    /// And where it begins.
    next: (Token<'a>, usize),
    left: usize,
    terms: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<(), String> {
        let rest = self.rest().trim_start_matches([' ', '\t', '\n', '\r']);
        let start = self.input.len() - rest.len();
        let (token, length) = match rest.chars().next() {
            None => (Token::End, 0),
            Some(sign @ ('(' | ')' | '{' | '}' | ':' | ',' | '+' | '*' | '-' | '^')) => (Token::Sign(sign), 1),
            Some('"') => {
                let inside =
                    quoted(rest).ok_or_else(|| format!("is malformed at byte {start}: a quote is not closed"))?;
                (Token::Quoted(inside), inside.len() + 2)
            }
            Some(first) if is_word(first) => {
                let word = rest.split(|c| !is_word(c)).next().unwrap_or_default();
                let token = match word {
                    "AND" => Token::And,
                    "OR" => Token::Or,
                    "NOT" => Token::Not,
                    word => Token::Word(word),
                };
                (token, word.len())
            }
            Some(odd) => {
                let shown = one_line(&odd.to_string(), 16);
                return Err(format!("is malformed at byte {start}: {shown:?} has to stand in quotes"));
            }
        };
        self.next = (token, start);
        self.at = start + length;
        Ok(())
    }

    fn wanted<T>(&self, what: &str) -> Result<T, String> {
        let (token, at) = self.next;
        let found = match token {
            Token::End => "the end".to_owned(),
            _ => format!("{:?}", cut(self.input.get(at..self.at).unwrap_or_default(), 32)),
        };
        Err(format!("is malformed at byte {at}: expected {what}, found {found}"))
    }

    fn take(&mut self, token: Token<'a>) -> Result<bool, String> {
        let there = self.next.0 == token;
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    fn expect_end(&self) -> Result<(), String> {
        if self.next.0 == Token::End { Ok(()) } else { self.wanted("AND, OR, NOT or the end") }
    }

    fn any(&mut self) -> Result<Text, String> {
        let mut found = self.all()?;
        while self.take(Token::Or)? {
            found = Text::Or(Box::new(found), Box::new(self.all()?));
        }
        Ok(found)
    }

    fn all(&mut self) -> Result<Text, String> {
        let mut found = self.without()?;
        while self.take(Token::And)? {
            found = Text::And(Box::new(found), Box::new(self.without()?));
        }
        Ok(found)
    }

    fn without(&mut self) -> Result<Text, String> {
        let mut found = self.unit()?;
        while self.take(Token::Not)? {
            found = Text::Not(Box::new(found), Box::new(self.unit()?));
        }
        Ok(found)
    }

    fn unit(&mut self) -> Result<Text, String> {
        if self.take(Token::Sign('('))? {
            let deeper = self.left.checked_sub(1);
            self.left = deeper.ok_or_else(|| format!("nests deeper than {NESTED_MAX}"))?;
            let found = self.any()?;
            self.left += 1;
            return if self.take(Token::Sign(')'))? { Ok(found) } else { self.wanted("AND, OR, NOT or \")\"") };
        }
        let mut found = self.near()?;
        while matches!(self.next.0, Token::Word(_) | Token::Quoted(_) | Token::Sign('^')) {
            found = Text::And(Box::new(found), Box::new(self.near()?));
        }
        Ok(found)
    }

    fn near(&mut self) -> Result<Text, String> {
        if self.take(Token::Sign('^'))? {
            let phrase = self.phrase()?;
            return Ok(Text::Phrase(Phrase { initial: true, ..phrase }));
        }
        let rest = self.rest().trim_start_matches([' ', '\t', '\n', '\r']);
        let opens = rest.starts_with('(');
        match self.next.0 {
            Token::Word("NEAR") if opens => self.near_phrases(),
            Token::Word(_) | Token::Quoted(_) if opens => {
                self.advance()?;
                self.wanted("AND, OR or NOT before \"(\"")
            }
            Token::Word(_) | Token::Quoted(_) if rest.starts_with(':') => self.no_columns(),
            Token::Sign('{' | '-') => self.no_columns(),
            _ => self.phrase().map(Text::Phrase),
        }
    }

    fn no_columns<T>(&self) -> Result<T, String> {
        let at = self.next.1;
        Err(format!(
            "is malformed at byte {at}: there are no columns to choose from, all texts of a record are searched"
        ))
    }

    fn near_phrases(&mut self) -> Result<Text, String> {
        self.advance()?;
        self.advance()?;
        let mut phrases = vec![self.phrase()?];
        while matches!(self.next.0, Token::Word(_) | Token::Quoted(_)) {
            phrases.push(self.phrase()?);
        }
        let mut distance = DISTANCE;
        if self.take(Token::Sign(','))? {
            let Token::Word(digits) = self.next.0 else { return self.wanted("a number") };
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return self.wanted("a number");
            }
            distance = digits
                .parse()
                .ok()
                .filter(|distance| *distance <= DISTANCE_MAX)
                .ok_or_else(|| format!("has a NEAR of more than {DISTANCE_MAX} words, at byte {}", self.next.1))?;
            self.advance()?;
        }
        if !self.take(Token::Sign(')'))? {
            return self.wanted("a word, \",\" or \")\"");
        }
        let single = if phrases.len() == 1 { phrases.pop() } else { None };
        Ok(single.map_or_else(|| Text::Near(phrases, distance), Text::Phrase))
    }

    fn phrase(&mut self) -> Result<Phrase, String> {
        let mut phrase = Phrase { words: String::new(), prefix: false, initial: false };
        loop {
            match self.next.0 {
                Token::Word(word) => self.words(word, &mut phrase)?,
                Token::Quoted(inside) => self.words(&inside.replace("\"\"", "\""), &mut phrase)?,
                _ => return self.wanted("a word or a phrase in quotes"),
            }
            self.advance()?;
            phrase.prefix = self.take(Token::Sign('*'))?;
            if self.next.0 != Token::Sign('+') {
                return Ok(phrase);
            }
            if phrase.prefix {
                return self.wanted("the end of the phrase, as only its last word can be a prefix");
            }
            self.advance()?;
        }
    }

    /// Adds to a phrase, counting the words as the index has them, more or less.
    fn words(&mut self, words: &str, phrase: &mut Phrase) -> Result<(), String> {
        let count = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).count();
        self.terms += count.max(1);
        if self.terms > TERMS_MAX {
            return Err(format!("has more than {TERMS_MAX} words"));
        }
        if !phrase.words.is_empty() {
            phrase.words.push(' ');
        }
        phrase.words.push_str(&words.replace(TEXT_BREAK, " "));
        Ok(())
    }
}

/// What is between the quotes that `text` begins with.
fn quoted(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?;
    let mut skip = false;
    let mut bytes = inside.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        if std::mem::take(&mut skip) || byte != b'"' {
            continue;
        }
        if bytes.peek().is_none_or(|(_, next)| *next != b'"') {
            // FTS5 reads no NUL.
            return inside.get(..at).filter(|inside| !inside.contains('\0'));
        }
        skip = true;
    }
    None
}

/// Characters of words without quotes. Source: sqlite3Fts5IsBareword.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '\u{1a}' || !c.is_ascii()
}
