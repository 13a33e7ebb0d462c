//! Servers that guests ask, which answer as they are told.

use crate::messages::{FetchErrand, FetchHeader};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A server outside that says this to everybody, then, when `slowly`, a byte now and then.
pub struct Outside {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Outside {
    pub async fn saying(answer: String, slowly: bool) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|why| why.to_string())?;
        let port = listener.local_addr().map_err(|why| why.to_string())?.port();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4_096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                while slowly && stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let _ = stream.shutdown().await;
            }
        });
        Ok(Self { port, task })
    }

    /// What lets guests ask it.
    pub fn grant(&self) -> String {
        format!("http=http://127.0.0.1:{}", self.port)
    }

    /// A request to it.
    pub fn order(&self, headers: &[(&str, &str)]) -> FetchErrand {
        let header = |&(name, value): &(&str, &str)| FetchHeader {
            name: name.into(),
            value: value.into(),
            secret: String::new(),
        };
        FetchErrand {
            method: "GET".into(),
            url: format!("http://127.0.0.1:{}/", self.port),
            headers: headers.iter().map(header).collect(),
            body: Vec::new(),
        }
    }
}
