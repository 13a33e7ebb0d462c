//! Lines of a file of any size, one at a time.

use std::io::{self, BufRead};

/// Longest line that is read: twice what a record may have, for JSON and base64 need more.
pub(super) const LINE_MAX: usize = 8 << 20;
/// What is kept of a line that is too long: enough to find it again.
const KEPT: usize = 1 << 10;

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// From 1.
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    /// Longer than `LINE_MAX`; `bytes` is its beginning.
    pub(super) too_long: bool,
    /// Where it ends in the file.
    pub(super) end: u64,
}

/// The lines of a reader, empty ones left out.
#[derive(Debug)]
pub(super) struct Lines<R> {
    from: R,
    number: u64,
    at: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, number: 0, at: 0 }
    }

    fn line(&mut self) -> io::Result<Option<Text>> {
        let mut line = Text { number: self.number + 1, bytes: Vec::new(), too_long: false, end: self.at };
        loop {
            let buffer = match self.from.fill_buf() {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            let break_at = buffer.iter().position(|&byte| byte == b'\n');
            let part = buffer.get(..break_at.unwrap_or(buffer.len())).unwrap_or_default();
            let ends = break_at.is_some() || buffer.is_empty();
            let taken = break_at.map_or(buffer.len(), |at| at + 1);
            if line.too_long || line.bytes.len() + part.len() > LINE_MAX {
                line.too_long = true;
                let room = KEPT.saturating_sub(line.bytes.len());
                line.bytes.extend(part.iter().take(room));
                line.bytes.truncate(KEPT);
            } else {
                line.bytes.extend_from_slice(part);
            }
            self.from.consume(taken);
            line.end += taken as u64;
            if ends {
                let nothing = line.end == self.at;
                (self.at, self.number) = (line.end, line.number);
                return Ok((!nothing).then_some(line));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Text>;

    fn next(&mut self) -> Option<io::Result<Text>> {
        loop {
            match self.line().transpose()? {
                Ok(line) if line.bytes.iter().all(u8::is_ascii_whitespace) => {}
                line => return Some(line),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_are_numbered_and_empty_ones_left_out() {
        let text = "one\n\n  \r\ntwo\r\nthree";
        let lines: Vec<Text> = Lines::new(BufReader::with_capacity(2, text.as_bytes())).map(Result::unwrap).collect();
        let read: Vec<(u64, &[u8])> = lines.iter().map(|line| (line.number, line.bytes.as_slice())).collect();
        assert_eq!(read, [(1, &b"one"[..]), (4, b"two\r"), (5, b"three")]);
        assert_eq!(lines.last().unwrap().end, text.len() as u64);
        assert_eq!(Lines::new(&b""[..]).count(), 0);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let text = [vec![b'a'; LINE_MAX], b"\n".to_vec(), vec![b'b'; LINE_MAX + 1], b"\nnext\n".to_vec()].concat();
        let lines: Vec<Text> = Lines::new(text.as_slice()).chain(None).map(Result::unwrap).collect();
        let read: Vec<(usize, bool)> = lines.iter().map(|line| (line.bytes.len(), line.too_long)).collect();
        assert_eq!(read, [(LINE_MAX, false), (KEPT, true), (4, false)]);
    }
}
