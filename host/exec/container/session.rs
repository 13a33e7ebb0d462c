//! What the node and the runner of one kept container say to each other: one call at a time. See `runner/wire.rs`.
//!
//! Whatever comes that should not (another call's frame, a length over the bound, bytes before the request) ends the
//! session, and with it the container.

use super::attached::{Input, Output, Piece};
use super::wire::{CALL, DONE, Fields, HEAD, HELLO, Head, PIECE_MAX, STDERR, STDOUT};
use crate::domain::Limits;
use crate::exec::ExecError;
use crate::exec::command::{self, End};
use crate::exec::log::{GuestLog, Stream};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

/// A conversation with a runner.
pub(super) struct Session {
    input: Input,
    output: Output,
    /// What has come and is not used yet.
    buffer: BytesMut,
}

/// What came of one call.
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) stdout: Bytes,
    /// The runner takes another call.
    pub(super) clean: bool,
}

/// The runner does not keep to what was agreed, or is gone.
fn broken(why: &'static str) -> ExecError {
    tracing::warn!("a kept container is given up: {why}");
    ExecError::Broken("the container that was kept for it is gone".to_owned())
}

impl Session {
    /// * `input`, `output`: of a container that has just been attached to.
    pub(super) fn new(input: Input, output: Output) -> Self {
        Self { input, output, buffer: BytesMut::new() }
    }

    /// Waits for the runner to say that it stands. `Err(Ok(why))` if it says that it cannot keep calls apart here.
    pub(super) async fn hello(&mut self) -> Result<Result<(), String>, ExecError> {
        let (head, body) = self.frame().await?;
        match (head.kind, head.id) {
            (HELLO, 0) if body.is_empty() => Ok(Ok(())),
            (HELLO, 0) => Ok(Err(crate::domain::one_line(&String::from_utf8_lossy(&body), 256))),
            _ => Err(broken("its first word is none")),
        }
    }

    /// Whether it waits for a call and has said nothing since the last one.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.buffer.is_empty() && self.output.is_silent()
    }

    /// Runs one call.
    ///
    /// * errors: `Broken`, `Limit` for the output; then it is of no more use.
    /// * cancel: as after an error.
    pub(super) async fn call(
        &mut self,
        arguments: &[String],
        environment: &[String],
        input: &[u8],
        limits: &Limits,
        log: &GuestLog,
    ) -> Result<Ended, ExecError> {
        let id = Uuid::new_v4().as_u64_pair().1;
        let sent = async {
            self.input.write_all(&request(id, arguments, environment, input)).await?;
            self.input.flush().await
        };
        sent.await.map_err(|_gone| broken("it takes no call"))?;
        let mut stdout = BytesMut::new();
        loop {
            let (head, body) = self.frame().await?;
            if head.id != id {
                return Err(broken("it answers another call"));
            }
            match head.kind {
                STDOUT if stdout.len() + body.len() > limits.output_bytes => {
                    return Err(command::output_too_large(limits));
                }
                STDOUT => stdout.extend_from_slice(&body),
                STDERR => log.write(Stream::Stderr, &body),
                DONE => {
                    let (end, clean) = done(&body).ok_or_else(|| broken("its last word is none"))?;
                    return Ok(Ended { end, stdout: stdout.freeze(), clean });
                }
                _ => return Err(broken("it says what it should not")),
            }
        }
    }

    /// The next frame.
    async fn frame(&mut self) -> Result<(Head, BytesMut), ExecError> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<HEAD>() {
                let head = Head::read(head, PIECE_MAX).ok_or_else(|| broken("what it says is no frame"))?;
                if self.buffer.len() >= HEAD + head.length {
                    self.buffer.advance(HEAD);
                    return Ok((head, self.buffer.split_to(head.length)));
                }
            }
            match self.output.next().await.map_err(|_gone| broken("it broke off"))? {
                Some(Piece::Stdout(bytes)) => self.buffer.extend_from_slice(&bytes),
                // The runner itself has nothing to say there: of no consequence.
                Some(Piece::Stderr(_)) => {}
                None => return Err(broken("it has ended")),
            }
        }
    }
}

/// A whole Call frame, for one write.
fn request(id: u64, arguments: &[String], environment: &[String], input: &[u8]) -> Vec<u8> {
    let lists = [arguments, environment];
    let texts = lists.iter().flat_map(|list| list.iter()).map(|text| text.len() + 4).sum::<usize>();
    let length = 2 * 4 + texts + input.len();
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&Head { kind: CALL, length, id }.bytes());
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    for list in lists {
        frame.extend_from_slice(&number(list.len()));
        for text in list {
            frame.extend_from_slice(&number(text.len()));
            frame.extend_from_slice(text.as_bytes());
        }
    }
    frame.extend_from_slice(input);
    frame
}

/// How the program ended, and whether nothing of it is left.
fn done(body: &[u8]) -> Option<(End, bool)> {
    let mut fields = Fields(body);
    let mut number = || Some(i32::from_le_bytes(fields.take(4)?.try_into().ok()?));
    let (code, signal) = (number()?, number()?);
    let clean = match fields.0 {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    let end = if signal == 0 { End::Exit(code) } else { End::Signal(signal) };
    Some((end, clean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::container::LogOutput;
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio_stream::StreamExt as _;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    /// The runner's end of a session, in the hands of a test.
    struct Runner {
        calls: DuplexStream,
        says: mpsc::UnboundedSender<Vec<u8>>,
    }

    fn session() -> (Session, Runner) {
        let (input, calls) = duplex(1 << 20);
        let (says, said) = mpsc::unbounded_channel();
        let pieces =
            UnboundedReceiverStream::new(said).map(|bytes: Vec<u8>| Ok(LogOutput::StdOut { message: bytes.into() }));
        (Session::new(Box::pin(input), Output::of(pieces)), Runner { calls, says })
    }

    impl Runner {
        fn say(&self, kind: u8, id: u64, body: &[u8]) {
            let head = Head { kind, length: body.len(), id }.bytes();
            self.says.send([&head, body].concat()).unwrap();
        }

        /// Takes one call; its id and its body.
        async fn take(&mut self) -> (u64, Vec<u8>) {
            let mut head = [0; HEAD];
            self.calls.read_exact(&mut head).await.unwrap();
            let head = Head::read(&head, 1 << 20).unwrap();
            let mut body = vec![0; head.length];
            self.calls.read_exact(&mut body).await.unwrap();
            assert_eq!(head.kind, CALL);
            (head.id, body)
        }
    }

    fn log() -> GuestLog {
        GuestLog::new("acme".parse().unwrap(), "a.B".into(), &crate::domain::Digest::of(b""), 1 << 10)
    }

    async fn call(session: &mut Session) -> Result<Ended, ExecError> {
        let limits = Limits { output_bytes: 8, ..Limits::default() };
        session.call(&["a".into()], &["B=c".into()], b"in", &limits, &log()).await
    }

    const DONE_WELL: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[tokio::test]
    async fn a_call_goes_out_whole_and_its_answer_comes_in_pieces() {
        let (mut session, mut runner) = session();
        runner.say(HELLO, 0, b"");
        assert_eq!(session.hello().await.unwrap(), Ok(()));
        assert!(session.is_quiet());
        let (ended, ()) = tokio::join!(call(&mut session), async {
            let (id, body) = runner.take().await;
            assert_eq!(body, b"\x01\0\0\0\x01\0\0\0a\x01\0\0\0\x03\0\0\0B=cin");
            runner.say(STDOUT, id, b"re");
            runner.say(STDERR, id, b"words\n");
            let rest = [&Head { kind: STDOUT, length: 3, id }.bytes()[..], b"ply"].concat();
            for byte in rest {
                runner.says.send(vec![byte]).unwrap();
            }
            runner.say(DONE, id, &DONE_WELL);
        });
        let ended = ended.unwrap();
        assert_eq!((ended.end, &ended.stdout[..], ended.clean), (End::Exit(0), b"reply".as_slice(), true));
        assert!(session.is_quiet(), "it takes the next call");
    }

    #[tokio::test]
    async fn n08_what_is_no_answer_to_the_call_ends_the_session() {
        let whole = |kind, length, id: u64, body: &[u8]| [&Head { kind, length, id }.bytes()[..], body].concat();
        let cases: [(&str, u64, u8, usize, &[u8]); 6] = [
            ("another call's answer", 1, DONE, 9, &DONE_WELL),
            ("4 GiB", 0, STDOUT, u32::MAX as usize, b""),
            ("a piece over its bound", 0, STDOUT, PIECE_MAX + 1, b""),
            ("an unknown word", 0, 77, 0, b""),
            ("a second hello", 0, HELLO, 0, b""),
            ("an end that is none", 0, DONE, 3, b"abc"),
        ];
        for (what, other, kind, length, body) in cases {
            let (mut session, mut runner) = session();
            let (ended, ()) = tokio::join!(call(&mut session), async {
                let (id, _) = runner.take().await;
                runner.says.send(whole(kind, length, id ^ other, body)).unwrap();
            });
            assert!(matches!(ended.err(), Some(ExecError::Broken(_))), "{what}");
        }
    }

    #[tokio::test]
    async fn n08_half_a_frame_silence_and_an_end() {
        let (mut session, runner) = session();
        runner.says.send(Head { kind: DONE, length: 9, id: 0 }.bytes()[..7].to_vec()).unwrap();
        assert!(session.frame().now_or_never().is_none(), "the call's deadline ends the silence");
        drop(runner);
        assert!(matches!(session.frame().await.err(), Some(ExecError::Broken(_))));
    }

    #[tokio::test]
    async fn n08_an_answer_before_the_call_is_seen() {
        let (mut session, runner) = session();
        runner.say(DONE, 1, &DONE_WELL);
        assert!(!session.is_quiet());
        let (mut session, runner) = self::session();
        drop(runner);
        assert!(!session.is_quiet(), "nor does one that has ended take a call");
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_refused() {
        let (mut session, mut runner) = session();
        let (ended, ()) = tokio::join!(call(&mut session), async {
            let (id, _) = runner.take().await;
            runner.say(STDOUT, id, b"nine bytes");
        });
        assert!(matches!(ended.err(), Some(ExecError::Limit { reason: "OUTPUT_LIMIT", .. })));
    }
}
