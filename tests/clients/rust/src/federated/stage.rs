//! The two servers, which whoever started this scenario stops and starts for it.

use anyhow::{Context, Result, ensure};
use tokio::task::spawn_blocking;

/// One of the two servers.
pub struct Server {
    /// The base URL for clients, without a slash at its end.
    pub url: String,
    place: &'static str,
}

impl Server {
    /// The server that the environment names; `place` is `first` or `second`.
    pub fn find(place: &'static str) -> Result<Self> {
        let variable = place.to_uppercase();
        let url = std::env::var(&variable).with_context(|| format!("{variable} is not set"))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), place })
    }

    /// Ends the server at once, as a crash does.
    pub async fn crash(&self) -> Result<()> {
        ask(format!("server stop {}", self.place)).await
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&self) -> Result<()> {
        ask(format!("server start {}", self.place)).await
    }
}

async fn ask(request: String) -> Result<()> {
    let answer = spawn_blocking(move || {
        println!("{request}");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await?.context("reading standard input")?;
    ensure!(answer.trim() == "done", "the answer was {answer:?}");
    Ok(())
}
