//! A client's signalling connection: decodes its messages for the media thread, and sends what that has to
//! say. Pings are answered here, so that they measure the network and not the thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message as Frame, WebSocket};
use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use tokio::sync::mpsc;

use super::limits::Bucket;
use super::params::Hello;
use crate::room::{Goodbye, JoinOptions, JoinRefusal, Link, encode, signed};
use crate::server::Shared;
use crate::shard::{Command, Seat};
use crate::token::Grant;

/// Messages that may wait for a client; one who reads slower is cut off and may resume.
const FRAMES: usize = 512;
/// A client that says nothing for this long is gone; it pings every five seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// How often the client gets a new token, so that it can resume long after the first has expired.
const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// How long the media thread may take to let somebody in.
const JOIN_LIMIT: Duration = Duration::from_secs(5);
/// How long a client may take to receive one message.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Tokens given on the way are valid for at least this long.
const REFRESHED_LIFETIME: Duration = Duration::from_secs(600);

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Serves one connection until it ends.
pub async fn serve(shared: Arc<Shared>, mut socket: WebSocket, grant: Grant, hello: Hello, single: bool) {
    shared.metrics.connections.add(1);
    let outcome = join(&shared, &grant, hello, single).await;
    match outcome {
        Ok((seat, frames)) => {
            let (mut frames, shutdown) = (frames, shared.tasks.shutdown_token());
            converse(&shared, &mut socket, seat, &mut frames, &grant, &shutdown).await;
            shared.shards.send(seat, Command::Lost { seat });
            // What was said last, such as a goodbye, still goes out.
            while let Ok(frame) = frames.try_recv() {
                if !send(&shared, &mut socket, frame).await {
                    break;
                }
            }
        }
        Err(refusal) => {
            let message = if refusal == JoinRefusal::NoSession { Goodbye::no_session() } else { Goodbye::refused() };
            send(&shared, &mut socket, encode(message)).await;
        }
    }
    let _ = shared.clock.timeout(SEND_LIMIT, socket.send(Frame::Close(None))).await;
    shared.metrics.connections.add(-1);
}

async fn join(
    shared: &Shared,
    grant: &Grant,
    hello: Hello,
    single: bool,
) -> Result<(Seat, mpsc::Receiver<Bytes>), JoinRefusal> {
    let (sender, frames) = mpsc::channel(FRAMES);
    let link = Link { connection: NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed), frames: sender };
    let servers = shared.relay.as_ref().map(|relay| relay.ice_servers(&grant.identity)).unwrap_or_default();
    let ice_servers = servers
        .into_iter()
        .map(|server| proto::IceServer { urls: server.urls, username: server.username, credential: server.credential })
        .collect();
    let options = Box::new(JoinOptions {
        grant: grant.clone(),
        client: hello.client,
        auto_subscribe: hello.auto_subscribe,
        adaptive_stream: hello.adaptive_stream,
        metadata: hello.metadata,
        attributes: hello.attributes,
        single,
        tracks: hello.tracks,
        offer: hello.offer,
        resume: hello.resume,
        ice_servers,
        link,
    });
    let Some(answer) = shared.shards.join(options) else { return Err(JoinRefusal::Full) };
    match shared.clock.timeout(JOIN_LIMIT, answer).await {
        Some(Ok(outcome)) => outcome.map(|seat| (seat, frames)),
        Some(Err(_)) | None => Err(JoinRefusal::Full),
    }
}

/// Carries messages both ways until one side ends it.
async fn converse(
    shared: &Shared,
    socket: &mut WebSocket,
    seat: Seat,
    frames: &mut mpsc::Receiver<Bytes>,
    grant: &Grant,
    shutdown: &runtime::CancellationToken,
) {
    let limit = shared.config.messages;
    let mut bucket = Bucket::full(limit, shared.clock.monotonic());
    let mut negotiations = Bucket::full(shared.config.negotiations, shared.clock.monotonic());
    let mut heard = shared.clock.monotonic();
    let mut refreshed = heard;
    loop {
        let now = shared.clock.monotonic();
        if now.saturating_sub(heard) > SILENCE {
            return;
        }
        if now.saturating_sub(refreshed) > REFRESH_EVERY {
            refreshed = now;
            let lifetime = grant.lifetime.max(REFRESHED_LIFETIME);
            let token = shared.key.sign(&Grant { lifetime, ..grant.clone() }, shared.clock.now_ms());
            if !send(shared, socket, encode(Response::RefreshToken(token))).await {
                return;
            }
        }
        tokio::select! {
            frame = frames.recv() => {
                let Some(frame) = frame else { return };
                if !send(shared, socket, frame).await {
                    return;
                }
            }
            frame = socket.recv() => {
                let Some(Ok(frame)) = frame else { return };
                heard = shared.clock.monotonic();
                let Frame::Binary(bytes) = frame else {
                    if matches!(frame, Frame::Close(_)) {
                        return;
                    }
                    continue;
                };
                shared.metrics.messages.add(1);
                if !bucket.take(limit, heard) {
                    shared.metrics.count_refusal("messages");
                    return;
                }
                if !take(shared, socket, seat, &bytes, &mut negotiations).await {
                    return;
                }
            }
            () = shared.clock.sleep(SILENCE / 4) => {}
            () = shutdown.cancelled() => {
                // The media thread says goodbye at shutdown; its frames are sent by the caller.
                shared.clock.sleep(Duration::from_millis(200)).await;
                return;
            }
        }
    }
}

/// Takes one message; `false` when the connection is over.
async fn take(shared: &Shared, socket: &mut WebSocket, seat: Seat, bytes: &[u8], negotiations: &mut Bucket) -> bool {
    let Ok(request) = proto::SignalRequest::decode(bytes) else { return false };
    let now_ms = signed(shared.clock.now_ms());
    match request.message {
        // Of a later version of the protocol.
        None => true,
        Some(Request::Ping(_)) => send(shared, socket, encode(Response::Pong(now_ms))).await,
        Some(Request::PingReq(ping)) => {
            let pong = proto::Pong { last_ping_timestamp: ping.timestamp, timestamp: now_ms };
            send(shared, socket, encode(Response::PongResp(pong))).await
        }
        Some(message) => {
            if negotiates(&message) && !negotiations.take(shared.config.negotiations, shared.clock.monotonic()) {
                shared.metrics.count_refusal("negotiations");
                return false;
            }
            shared.shards.send(seat, Command::Message { seat, message: Box::new(message) })
        }
    }
}

/// Whether a message makes the media thread read or write a session description.
fn negotiates(message: &Request) -> bool {
    matches!(message, Request::Offer(_) | Request::Answer(_) | Request::AddTrack(_))
}

async fn send(shared: &Shared, socket: &mut WebSocket, frame: Bytes) -> bool {
    matches!(shared.clock.timeout(SEND_LIMIT, socket.send(Frame::Binary(frame))).await, Some(Ok(())))
}
