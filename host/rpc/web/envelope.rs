//! Five bytes of flags and length before each message: gRPC's framing and, with other flags, Connect's.
//!
//! Lengths are strangers' words: nothing is reserved for them, and one above the limit is refused before its bytes come.

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::{Code, Status};

use super::super::status;

/// Bytes before a message: a byte of flags, four of length, big-endian.
const HEAD: usize = 5;
/// Both protocols' flag for a compressed message.
pub(super) const COMPRESSED: u8 = 0b1;
/// Connect's flag for what ends a stream. Source: connectrpc.com/docs/protocol, Streaming-Request.
pub(super) const END_STREAM: u8 = 0b10;

/// The head of an envelope without flags around `len` bytes.
///
/// * errors: RESOURCE_EXHAUSTED if the length does not fit four bytes.
pub(super) fn head(flags: u8, len: u64) -> Result<[u8; HEAD], Status> {
    let len = u32::try_from(len).map_err(|_| too_long(len, u64::from(u32::MAX)))?;
    let [a, b, c, d] = len.to_be_bytes();
    Ok([flags, a, b, c, d])
}

/// A message in its envelope.
pub(super) fn seal(flags: u8, message: &[u8]) -> Result<Bytes, Status> {
    let head = head(flags, message.len() as u64)?;
    let mut sealed = BytesMut::with_capacity(HEAD.saturating_add(message.len()));
    sealed.extend_from_slice(&head);
    sealed.extend_from_slice(message);
    Ok(sealed.freeze())
}

pub(super) fn too_long(len: u64, max: u64) -> Status {
    let message = format!("the message has {len} bytes, at most {max} are taken");
    status::plain(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message)
}

/// A message whose flags mean nothing here.
fn odd_flags(flags: u8) -> Status {
    let message = match flags {
        COMPRESSED => "the message is compressed, but its headers name no compression".to_owned(),
        END_STREAM => "a request stream has no end-of-stream message".to_owned(),
        _ => format!("the envelope's flags {flags:#010b} mean nothing"),
    };
    status::plain(Code::InvalidArgument, "ENVELOPE", message)
}

fn cut_short() -> Status {
    status::plain(Code::InvalidArgument, "ENVELOPE", "the stream ends in the middle of a message")
}

/// Takes messages out of bytes that come in pieces of any size.
#[derive(Debug)]
pub(super) struct Envelopes {
    /// At most one message, its head and the piece that brought its last byte.
    buffer: BytesMut,
    max: usize,
    gzip: bool,
}

impl Envelopes {
    /// * `max`: bytes of the longest message taken, compressed and not.
    /// * `gzip`: messages may be compressed.
    pub(super) fn new(max: usize, gzip: bool) -> Self {
        Self { buffer: BytesMut::new(), max, gzip }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// Whether no message has begun.
    pub(super) fn is_between(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole message, if it is there.
    ///
    /// * errors: RESOURCE_EXHAUSTED for one that is too long, INVALID_ARGUMENT for flags.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((&[flags, a, b, c, d], rest)) = self.buffer.split_first_chunk::<HEAD>() else { return Ok(None) };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let compressed = self.gzip && flags == COMPRESSED;
        if flags != 0 && !compressed {
            return Err(odd_flags(flags));
        }
        if len > self.max {
            return Err(too_long(len as u64, self.max as u64));
        }
        if rest.len() < len {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let message = self.buffer.split_to(len).freeze();
        if compressed { decompress(&message, self.max).map(Some) } else { Ok(Some(message)) }
    }
}

/// The messages of a body, one at a time: the next piece is asked for when the last message has been dealt with.
pub(super) struct Messages {
    body: Body,
    envelopes: Envelopes,
    trailers: Option<HeaderMap>,
}

impl Messages {
    /// * `max`, `gzip`: as of [`Envelopes::new`].
    pub(super) fn new(body: Body, max: usize, gzip: bool) -> Self {
        Self { body, envelopes: Envelopes::new(max, gzip), trailers: None }
    }

    /// The next message; `None` at the end.
    ///
    /// * errors: those of [`Envelopes::next`], INVALID_ARGUMENT for a body that ends inside a message, the body's own.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.envelopes.next()? {
                return Ok(Some(message));
            }
            if self.trailers.is_some() {
                return self.end();
            }
            match self.body.frame().await.transpose()? {
                None => return self.end(),
                Some(frame) => match frame.into_data() {
                    Ok(piece) => self.envelopes.push(&piece),
                    Err(other) => self.trailers = Some(other.into_trailers().unwrap_or_default()),
                },
            }
        }
    }

    fn end(&self) -> Result<Option<Bytes>, Status> {
        if self.envelopes.is_between() { Ok(None) } else { Err(cut_short()) }
    }

    /// What came after the last message.
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// The body, for holding on to.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

/// Enveloped messages passed on as they are, piece by piece; only their flags are looked at.
pub(super) struct Passing {
    body: Body,
    /// Bytes of a head so far.
    head: [u8; HEAD],
    got: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    gzip: bool,
    trailers: Option<HeaderMap>,
}

impl Passing {
    /// * `gzip`: messages may be compressed.
    pub(super) fn new(body: Body, gzip: bool) -> Self {
        Self { body, head: [0; HEAD], got: 0, left: 0, gzip, trailers: None }
    }

    /// The next piece; `None` at the end.
    ///
    /// * errors: INVALID_ARGUMENT for flags and for a body that ends inside a message, the body's own.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        while self.trailers.is_none() {
            match self.body.frame().await.transpose()? {
                None => break,
                Some(frame) => match frame.into_data() {
                    Ok(piece) => {
                        self.follow(&piece)?;
                        return Ok(Some(piece));
                    }
                    Err(other) => self.trailers = Some(other.into_trailers().unwrap_or_default()),
                },
            }
        }
        if self.is_between() { Ok(None) } else { Err(cut_short()) }
    }

    /// Whether no message has begun.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && self.got == 0
    }

    /// What came after the last message.
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    fn follow(&mut self, mut piece: &[u8]) -> Result<(), Status> {
        while !piece.is_empty() {
            if self.left > 0 {
                let now = self.left.min(piece.len());
                piece.advance(now);
                self.left -= now;
                continue;
            }
            while let (Some(slot), Some((byte, rest))) = (self.head.get_mut(self.got), piece.split_first()) {
                *slot = *byte;
                self.got += 1;
                piece = rest;
            }
            if self.got == HEAD {
                let [flags, a, b, c, d] = self.head;
                if flags != 0 && !(self.gzip && flags == COMPRESSED) {
                    return Err(odd_flags(flags));
                }
                self.got = 0;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
            }
        }
        Ok(())
    }
}

/// What a gzip stream grows to, if it is not too much. It never takes more memory than `max`.
///
/// * errors: RESOURCE_EXHAUSTED above `max` bytes, INVALID_ARGUMENT for what is no gzip.
pub(super) fn decompress(data: &[u8], max: usize) -> Result<Bytes, Status> {
    let mut grown = Vec::new();
    let most = (max as u64).saturating_add(1);
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(GzDecoder::new(data), most), &mut grown);
    match read {
        Err(_) => Err(status::plain(Code::InvalidArgument, "ENCODING", "the message is no gzip stream")),
        Ok(len) if len > max => Err(too_long(len as u64, max as u64)),
        Ok(_) => Ok(grown.into()),
    }
}

/// The whole of a body, if it is not too much.
///
/// * errors: RESOURCE_EXHAUSTED above `max` bytes, before they are read where the body says its length.
pub(super) async fn whole(mut body: Body, max: usize) -> Result<Bytes, Status> {
    let said = body.size_hint().lower();
    if said > max as u64 {
        return Err(too_long(said, max as u64));
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await.transpose()? {
        let Ok(piece) = frame.into_data() else { continue };
        let len = all.len().saturating_add(piece.len());
        if len > max {
            return Err(too_long(len as u64, max as u64));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn body(pieces: Vec<Vec<u8>>) -> Body {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    fn bytewise(bytes: &[u8]) -> Body {
        body(bytes.iter().map(|byte| vec![*byte]).collect())
    }

    #[tokio::test]
    async fn messages_come_out_whole_however_they_come_in() {
        let sealed = [seal(0, b"one").unwrap(), seal(0, b"").unwrap(), seal(0, b"three").unwrap()].concat();
        for input in [bytewise(&sealed), body(vec![sealed.clone()])] {
            let mut messages = Messages::new(input, 5, false);
            for wanted in ["one", "", "three"] {
                assert_eq!(messages.next().await.unwrap().unwrap(), wanted);
            }
            assert_eq!(messages.next().await.unwrap(), None);
        }
        for input in [bytewise(&sealed), body(vec![sealed.clone()])] {
            let mut passing = Passing::new(input, false);
            let mut out = Vec::new();
            while let Some(piece) = passing.next().await.unwrap() {
                out.extend_from_slice(&piece);
            }
            assert_eq!(out, sealed);
        }
    }

    #[tokio::test]
    async fn a_length_of_four_gigabytes_is_refused_before_anything_is_reserved() {
        let mut envelopes = Envelopes::new(4 << 20, false);
        envelopes.push(&[0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(envelopes.next().unwrap_err().code(), Code::ResourceExhausted);
        assert!(envelopes.buffer.capacity() < 1_024);
        // Passed on, it is the inner door's to refuse; here it costs nothing.
        let mut passing = Passing::new(body(vec![vec![0, 0xff, 0xff, 0xff, 0xff]]), false);
        assert!(passing.next().await.unwrap().is_some());
        assert_eq!(passing.next().await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(head(0, 1 << 32).unwrap_err().code(), Code::ResourceExhausted);
    }

    #[test]
    fn a_message_at_the_limit_is_taken_and_one_above_is_not() {
        let mut envelopes = Envelopes::new(3, false);
        envelopes.push(&seal(0, b"abc").unwrap());
        assert_eq!(envelopes.next().unwrap().unwrap(), "abc");
        envelopes.push(&seal(0, b"abcd").unwrap());
        assert_eq!(envelopes.next().unwrap_err().code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn flags_and_half_messages_are_the_senders_fault() {
        for flags in [1, END_STREAM, 0x80] {
            let sealed = seal(flags, b"x").unwrap().to_vec();
            assert_eq!(
                Messages::new(bytewise(&sealed), 9, false).next().await.unwrap_err().code(),
                Code::InvalidArgument,
                "{flags}"
            );
            assert_eq!(
                Passing::new(body(vec![sealed]), false).next().await.unwrap_err().code(),
                Code::InvalidArgument,
                "{flags}"
            );
        }
        let half = seal(0, b"abc").unwrap().slice(..6).to_vec();
        assert_eq!(Messages::new(bytewise(&half), 9, false).next().await.unwrap_err().code(), Code::InvalidArgument);
        let mut passing = Passing::new(bytewise(&half), false);
        let end = loop {
            match passing.next().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert_eq!(end.unwrap_err().code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_whole_body_has_a_limit_with_and_without_a_said_length() {
        assert_eq!(whole(bytewise(b"abc"), 3).await.unwrap(), "abc");
        assert_eq!(whole(bytewise(b"abcd"), 3).await.unwrap_err().code(), Code::ResourceExhausted);
        let said = Body::new(http_body_util::Full::new(Bytes::from_static(b"abcd")));
        assert_eq!(whole(said, 3).await.unwrap_err().code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn t10_what_is_compressed_grows_to_the_limit_and_no_further() {
        use std::io::Write as _;
        let packed = |bytes: usize| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&vec![b'a'; bytes]).unwrap();
            encoder.finish().unwrap()
        };
        let next = async |message: &[u8], gzip| {
            let sealed = seal(COMPRESSED, message).unwrap().to_vec();
            Messages::new(body(vec![sealed]), 1_000, gzip).next().await.map_err(|status| status.code())
        };
        assert_eq!(next(&packed(1_000), true).await.unwrap().unwrap().len(), 1_000);
        assert_eq!(next(&packed(1_001), true).await, Err(Code::ResourceExhausted));
        assert_eq!(next(&packed(500_000), true).await, Err(Code::ResourceExhausted), "1:1000");
        assert_eq!(next(b"no gzip", true).await, Err(Code::InvalidArgument));
        assert_eq!(next(&packed(10), false).await, Err(Code::InvalidArgument), "not agreed on");
    }
}
