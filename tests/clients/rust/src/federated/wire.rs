//! The connections of one client to its server, with a record of what the client sends.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, tcp},
};

/// What the client has sent, by connection.
type Record = Arc<Mutex<Vec<Vec<u8>>>>;

/// A forwarder that the client takes for its server.
pub struct Wire {
    /// The base URL for the client.
    pub url: String,
    record: Record,
}

impl Wire {
    /// Listens on a free port and forwards to the server at `url` (plain HTTP).
    pub async fn lay(url: &str) -> Result<Self> {
        let target = url.strip_prefix("http://").context("the server's URL must be plain HTTP")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let record = Record::default();
        let kept = Arc::clone(&record);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, record) = (target.clone(), Arc::clone(&kept));
                // Whatever goes wrong closes the client's connection, which is all that it has to notice.
                tokio::spawn(async move { forward(client, &target, &record).await });
            }
        });
        Ok(Self { url, record })
    }

    /// Forgets what was sent so far.
    pub fn clear(&self) {
        for sent in self.record.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            sent.clear();
        }
    }

    /// Whether the client has sent this text since the record was cleared.
    pub fn has(&self, text: &str) -> bool {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.iter().any(|sent| sent.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

async fn forward(client: TcpStream, target: &str, record: &Record) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    let ((from_client, mut to_client), (mut from_server, to_server)) = (client.into_split(), server.into_split());
    let number = {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.push(Vec::new());
        record.len() - 1
    };
    tokio::select! {
        done = forward_requests(from_client, to_server, number, record) => done,
        done = copy(&mut from_server, &mut to_client) => done.map(|_| ()),
    }
}

async fn forward_requests(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    number: usize,
    record: &Record,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if let Some(sent) = record.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
            sent.extend_from_slice(&buffer[..length]);
        }
        to.write_all(&buffer[..length]).await?;
    }
}
