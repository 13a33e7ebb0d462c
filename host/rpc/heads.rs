//! Reads along with what comes in parts of any size: heads of one size, each before as much content as it says. Frames of
//! HTTP/2 are like that, and messages of gRPC.

/// Where in it the reading is.
#[derive(Debug)]
pub(super) struct Heads<const SIZE: usize> {
    head: [u8; SIZE],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the content that are still to come.
    content: usize,
}

impl<const SIZE: usize> Heads<SIZE> {
    /// Before the first head.
    pub(super) fn new() -> Self {
        Self { head: [0; SIZE], have: 0, content: 0 }
    }

    /// The next head that is whole; `None`: there is no other in `bytes`, all of which have been read then. Whoever gets
    /// one says how much content follows, by [`Heads::skip`].
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<[u8; SIZE]> {
        let skipped = self.content.min(bytes.len());
        self.content -= skipped;
        *bytes = bytes.get(skipped..).unwrap_or_default();
        let wanted = self.head.get_mut(self.have..).unwrap_or_default();
        let taken = wanted.len().min(bytes.len());
        let (now, rest) = bytes.split_at(taken);
        wanted.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        (*bytes, self.have) = (rest, self.have + taken);
        (self.have == SIZE).then(|| {
            self.have = 0;
            self.head
        })
    }

    /// So many bytes of content follow the head that was read last.
    pub(super) fn skip(&mut self, content: usize) {
        self.content = content;
    }

    /// Whether what was begun is not all there.
    pub(super) fn is_midway(&self) -> bool {
        self.have > 0 || self.content > 0
    }
}
