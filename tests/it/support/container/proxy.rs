//! A socket before the engine's: what goes through it, a test decides.

use std::path::PathBuf;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the engine is, from behind the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it is.
    Well,
    /// Takes connections and never says a word.
    Silent,
    /// Says things, none of them HTTP.
    Garbage,
    /// Says HTTP with nonsense in it.
    Nonsense,
    /// Closes every connection.
    Away,
    /// As it is, until one is asked for something with this in its first line: then nothing comes any more.
    Hangs(&'static str),
    /// As it is, until it has said this: then the connection is closed, as by somebody between.
    CutsAfter(&'static str),
    /// As it is, but who asks for something with this in its first line is told 502 when it was done.
    Spoils(&'static str),
}

/// The socket. Dropped, it is gone.
pub struct Proxy {
    folder: TempDir,
    mood: watch::Sender<Mood>,
    task: Option<JoinHandle<()>>,
}

impl Proxy {
    /// No socket yet.
    pub fn absent() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), mood: watch::Sender::new(Mood::Well), task: None }
    }

    pub fn of(mood: Mood) -> Self {
        let mut proxy = Self::absent();
        proxy.open(mood);
        proxy
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// The value of the setting.
    pub fn socket(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    pub fn open(&mut self, mood: Mood) {
        self.mood.send_replace(mood);
        let (listener, mood) = (UnixListener::bind(self.path()).unwrap(), self.mood.subscribe());
        self.task = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, mood.clone()));
            }
        }));
    }

    /// From now on, also for connections that are open.
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(mut client: UnixStream, mut mood: watch::Receiver<Mood>) {
    let now = *mood.borrow_and_update();
    let talk = async {
        match now {
            Mood::Well => {
                let mut engine = connected().await;
                let _ended = copy_bidirectional(&mut client, &mut engine).await;
            }
            Mood::Silent => std::future::pending().await,
            Mood::Garbage => {
                let _read = client.read(&mut [0; 1_024]).await;
                let _written = client.write_all(&[0xff; 4_096]).await;
            }
            Mood::Nonsense => {
                let _read = client.read(&mut [0; 1_024]).await;
                let _written = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":[[").await;
            }
            Mood::Away => {}
            Mood::Hangs(_) | Mood::CutsAfter(_) | Mood::Spoils(_) => pass(&mut client, now).await,
        }
    };
    tokio::select! {
        () = talk => {}
        _changed = mood.changed() => {}
    }
}

/// The engine that the tests were given, wherever its socket is.
async fn connected() -> UnixStream {
    UnixStream::connect(super::engine_socket().trim_start_matches("unix://")).await.unwrap()
}

/// Passes everything on, up to what the mood is about.
async fn pass(client: &mut UnixStream, mood: Mood) {
    let mut engine = connected().await;
    let (mut asked, mut said) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let has = |bytes: &[u8], words: &str| bytes.windows(words.len()).any(|some| some == words.as_bytes());
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let Ok(1..) = count else { return };
                let bytes = &asked[..count.unwrap()];
                let line = bytes.split(|byte| *byte == b'\r').next().unwrap();
                if matches!(mood, Mood::Hangs(words) if has(line, words)) {
                    std::future::pending::<()>().await;
                }
                let _sent = engine.write_all(bytes).await;
                if matches!(mood, Mood::Spoils(words) if has(line, words)) {
                    let _done = engine.read(&mut said).await;
                    let bad = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                    let _sent = client.write_all(bad).await;
                    return;
                }
            }
            count = engine.read(&mut said) => {
                let Ok(1..) = count else { return };
                let bytes = &said[..count.unwrap()];
                let _sent = client.write_all(bytes).await;
                if matches!(mood, Mood::CutsAfter(words) if has(bytes, words)) {
                    return;
                }
            }
        }
    }
}
