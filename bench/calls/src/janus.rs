//! A participant of Janus' VideoRoom, by its API over WebSocket: publishers offer, subscribers get one offer with the media of
//! all publishers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Interval, interval};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::peer::{Line, Sends};
use crate::plan::{Media, track_name};
use crate::source::{Audio, Video};
use crate::worker::PeerHandle;

const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// One connection with one handle of the plugin.
pub struct Participant {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: u64,
    handle: u64,
    transaction: u64,
    keep_alive: Interval,
}

impl Participant {
    pub async fn connect(server: &str) -> Result<Self> {
        let mut request = format!("ws://{server}/").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("janus-protocol"));
        let (socket, _) = connect_async(request).await.context("Janus does not listen")?;
        let mut participant = Self { socket, session: 0, handle: 0, transaction: 0, keep_alive: interval(KEEP_ALIVE) };
        participant.session = id(&participant.ask(json!({"janus": "create"})).await?)?;
        let attach = json!({"janus": "attach", "plugin": "janus.plugin.videoroom"});
        participant.handle = id(&participant.ask(attach).await?)?;
        Ok(participant)
    }

    /// Makes the room.
    pub async fn create_room(&mut self, room: u64, publishers: usize) -> Result<()> {
        let create = json!({"request": "create", "room": room, "publishers": publishers, "audiocodec": "opus", "videocodec": "vp8"});
        self.plugin(create, None).await.map(drop)
    }

    /// Joins as a publisher and begins to send; gives the feed's number.
    pub async fn publish(
        &mut self,
        room: u64,
        publisher: u16,
        media: &Media,
        peer: &PeerHandle,
        first: Instant,
    ) -> Result<u64> {
        let joined = self.plugin(json!({"request": "join", "ptype": "publisher", "room": room}), None).await?;
        let feed = joined["plugindata"]["data"]["id"].as_u64().context("no id of the feed")?;
        let tracks = media.tracks();
        let lines = tracks.iter().map(|video| {
            // Janus takes the first layer of an offer for the best.
            let levels = if *video { media.levels.iter().rev().copied().collect() } else { Vec::new() };
            Line { video: *video, sends: Some(Sends { cid: track_name(publisher, *video), levels }) }
        });
        let lines: Vec<Line> = lines.collect();
        let (sdp, mids) = peer.with(move |peer| peer.offer(&lines)).await??;
        let answer = self.plugin(json!({"request": "publish"}), Some(json!({"type": "offer", "sdp": sdp}))).await?;
        let answer = sdp_of(&answer)?;
        let levels = media.levels.clone();
        peer.with(move |peer| {
            peer.answer(&answer)?;
            for (video, mid) in tracks.into_iter().zip(mids) {
                if video {
                    peer.send_video(mid, Video::new(publisher, first, &levels));
                } else {
                    peer.send_audio(mid, Audio::new(publisher, first));
                }
            }
            Ok(feed)
        })
        .await?
    }

    /// Subscribes to everything of the given feeds.
    pub async fn subscribe(&mut self, room: u64, feeds: &[u64], peer: &PeerHandle) -> Result<()> {
        let streams: Vec<Value> = feeds.iter().map(|feed| json!({"feed": feed})).collect();
        let join = json!({"request": "join", "ptype": "subscriber", "room": room, "streams": streams});
        let offer = sdp_of(&self.plugin(join, None).await?)?;
        let answer = peer.with(move |peer| peer.accept(&offer)).await??;
        self.plugin(json!({"request": "start"}), Some(json!({"type": "answer", "sdp": answer}))).await.map(drop)
    }

    /// Takes part until the connection fails.
    pub async fn stay(mut self) -> Result<()> {
        loop {
            self.receive().await?;
        }
    }

    async fn plugin(&mut self, body: Value, jsep: Option<Value>) -> Result<Value> {
        let mut message = json!({"janus": "message", "body": body});
        if let Some(jsep) = jsep {
            message["jsep"] = jsep;
        }
        let answer = self.ask(message).await?;
        match answer["plugindata"]["data"].get("error") {
            Some(error) => bail!("Janus refuses {body}: {error}"),
            None => Ok(answer),
        }
    }

    /// Sends a request and waits for what follows its acknowledgement.
    async fn ask(&mut self, mut request: Value) -> Result<Value> {
        self.transaction += 1;
        let transaction = self.transaction.to_string();
        request["transaction"] = transaction.clone().into();
        self.address(&mut request);
        self.socket.send(Message::text(request.to_string())).await?;
        loop {
            let answer = self.receive().await?;
            if answer["transaction"] == *transaction && answer["janus"] != "ack" {
                return Ok(answer);
            }
        }
    }

    /// The next message; keeps the session alive while there is none.
    async fn receive(&mut self) -> Result<Value> {
        loop {
            tokio::select! {
                _ = self.keep_alive.tick() => {
                    if self.session != 0 {
                        let request = json!({"janus": "keepalive", "session_id": self.session, "transaction": "alive"});
                        self.socket.send(Message::text(request.to_string())).await?;
                    }
                }
                message = self.socket.next() => {
                    let Message::Text(text) = message.context("Janus closed the connection")?? else { continue };
                    let message: Value = serde_json::from_str(&text)?;
                    if message["janus"] == "error" {
                        bail!("Janus: {}", message["error"]);
                    }
                    return Ok(message);
                }
            }
        }
    }

    fn address(&self, request: &mut Value) {
        if self.session != 0 {
            request["session_id"] = self.session.into();
        }
        if self.handle != 0 {
            request["handle_id"] = self.handle.into();
        }
    }
}

fn id(answer: &Value) -> Result<u64> {
    answer["data"]["id"].as_u64().with_context(|| format!("no id in {answer}"))
}

fn sdp_of(answer: &Value) -> Result<String> {
    answer["jsep"]["sdp"].as_str().map(str::to_owned).with_context(|| format!("no description in {answer}"))
}
