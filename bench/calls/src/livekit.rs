//! A participant as `livekit-client` is one: protobuf over a WebSocket, one peer connection for both directions (`/rtc/v1`),
//! of which it always makes the offers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use prost::Message as _;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use str0m::media::Mid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Interval, interval};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::peer::{Line, Sends};
use crate::plan::{Media, track_name};
use crate::source::{Audio, LAYERS, Video};
use crate::worker::PeerHandle;

const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Lines for receiving in the first offer, of each kind, as `livekit-client` has them.
const SPARE_LINES: usize = 3;

/// Someone in a call.
pub struct Participant {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    peer: PeerHandle,
    ping: Interval,
    offer: u32,
    /// An offer waits for its answer.
    pending: bool,
    /// Lines of the next offer.
    wanted: Vec<Line>,
    /// Lines of the last offer that send, by the track's id.
    sending: HashMap<String, Mid>,
    published: usize,
    /// The quality that is asked for of every video; none: whatever the server gives.
    quality: Option<proto::VideoQuality>,
}

impl Participant {
    /// Joins a call. `quality`: which of the layers to ask for.
    pub async fn join(
        server: &str,
        room: &str,
        identity: &str,
        peer: PeerHandle,
        subscribe: bool,
        quality: Option<u8>,
    ) -> Result<Self> {
        let token = token(server, room, identity).await?;
        let lines: Vec<Line> =
            [false, true].into_iter().flat_map(|video| vec![Line::receiving(video); SPARE_LINES]).collect();
        let (sdp, _) = peer.with(move |peer| peer.offer(&lines)).await??;
        let join = proto::JoinRequest {
            client_info: Some(proto::ClientInfo { protocol: 17, version: "2.21.0".to_owned(), ..Default::default() }),
            connection_settings: Some(proto::ConnectionSettings { auto_subscribe: subscribe, ..Default::default() }),
            publisher_offer: Some(offer(sdp, 1)),
            ..Default::default()
        };
        let wrapped = proto::WrappedJoinRequest { join_request: join.encode_to_vec(), ..Default::default() };
        let join = URL_SAFE_NO_PAD.encode(wrapped.encode_to_vec());
        let url = format!("ws://{server}/sfu/rtc/v1?access_token={token}&join_request={join}");
        let (socket, _) = connect_async(url).await.with_context(|| format!("{identity} cannot join"))?;
        let quality = quality.and_then(|level| proto::VideoQuality::try_from(i32::from(level)).ok());
        let mut participant = Self {
            socket,
            peer,
            ping: interval(PING_INTERVAL),
            offer: 1,
            pending: true,
            wanted: Vec::new(),
            sending: HashMap::new(),
            published: 0,
            quality,
        };
        while participant.pending {
            participant.step().await?;
        }
        Ok(participant)
    }

    /// Publishes audio, video or both, and begins to send.
    pub async fn publish(&mut self, publisher: u16, media: &Media, first: Instant) -> Result<()> {
        let tracks = media.tracks();
        for video in &tracks {
            self.send(Request::AddTrack(add_track(publisher, *video, &media.levels))).await?;
        }
        while self.published < tracks.len() {
            self.step().await?;
        }
        self.wanted.extend(tracks.iter().map(|video| {
            let levels = if *video { media.levels.clone() } else { Vec::new() };
            Line { video: *video, sends: Some(Sends { cid: track_name(publisher, *video), levels }) }
        }));
        self.negotiate().await?;
        while self.pending {
            self.step().await?;
        }
        let sending = std::mem::take(&mut self.sending);
        let levels = media.levels.clone();
        self.peer
            .with(move |peer| {
                if let Some(mid) = sending.get(&track_name(publisher, false)) {
                    peer.send_audio(*mid, Audio::new(publisher, first));
                }
                if let Some(mid) = sending.get(&track_name(publisher, true)) {
                    peer.send_video(*mid, Video::new(publisher, first, &levels));
                }
            })
            .await
    }

    /// Takes part until the connection fails.
    pub async fn stay(mut self) -> Result<()> {
        loop {
            self.step().await?;
        }
    }

    /// Handles the next message, and keeps the connection alive while there is none.
    async fn step(&mut self) -> Result<()> {
        let message = tokio::select! {
            _ = self.ping.tick() => return self.send(Request::PingReq(proto::Ping { timestamp: 1, rtt: 0 })).await,
            message = self.socket.next() => message.context("the server closed the signalling connection")??,
        };
        let Message::Binary(bytes) = message else { return Ok(()) };
        let Some(message) = proto::SignalResponse::decode(bytes.as_ref())?.message else { return Ok(()) };
        self.handle(message).await
    }

    async fn handle(&mut self, message: Response) -> Result<()> {
        match message {
            Response::Join(join) => self.choose(&join.other_participants).await,
            Response::Update(update) => self.choose(&update.participants).await,
            Response::Answer(answer) if answer.id == self.offer || answer.id == 0 => {
                self.peer.with(move |peer| peer.answer(&answer.sdp)).await??;
                self.pending = false;
                if self.wanted.is_empty() { Ok(()) } else { self.negotiate().await }
            }
            Response::Trickle(trickle) => {
                let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init)?;
                let candidate = init["candidate"].as_str().unwrap_or_default().to_owned();
                // Kinds that are not understood, such as those of names, are of no use here.
                let _ = self.peer.with(move |peer| peer.remote_candidate(&candidate)).await?;
                Ok(())
            }
            Response::TrackPublished(_) => {
                self.published += 1;
                Ok(())
            }
            Response::MediaSectionsRequirement(required) => {
                // An offer without a change cannot be made here: where none is asked for, one more line is.
                let audios = if required.num_audios + required.num_videos == 0 { 1 } else { required.num_audios };
                self.wanted.extend((0..audios).map(|_| Line::receiving(false)));
                self.wanted.extend((0..required.num_videos).map(|_| Line::receiving(true)));
                self.negotiate().await
            }
            Response::SubscribedQualityUpdate(update) => {
                let levels = wanted_levels(&update);
                self.peer.with(move |peer| peer.enable_levels(&levels)).await
            }
            Response::Leave(leave) => bail!("the server sent one away: {leave:?}"),
            _ => Ok(()),
        }
    }

    async fn negotiate(&mut self) -> Result<()> {
        if self.pending {
            return Ok(());
        }
        self.pending = true;
        let lines = std::mem::take(&mut self.wanted);
        let cids: Vec<_> = lines.iter().map(|line| line.sends.as_ref().map(|sends| sends.cid.clone())).collect();
        let (sdp, mids) = self.peer.with(move |peer| peer.offer(&lines)).await??;
        self.sending.extend(cids.into_iter().zip(mids).filter_map(|(cid, mid)| Some((cid?, mid))));
        self.offer += 1;
        self.send(Request::Offer(offer(sdp, self.offer))).await
    }

    /// Asks for the wanted layer of all videos there are.
    async fn choose(&mut self, participants: &[proto::ParticipantInfo]) -> Result<()> {
        let Some(quality) = self.quality else { return Ok(()) };
        let tracks = participants.iter().flat_map(|participant| &participant.tracks);
        let videos = tracks.filter(|track| track.r#type() == proto::TrackType::Video);
        let track_sids: Vec<String> = videos.map(|track| track.sid.clone()).collect();
        if track_sids.is_empty() {
            return Ok(());
        }
        self.send(Request::TrackSetting(proto::UpdateTrackSettings {
            track_sids,
            quality: quality.into(),
            ..Default::default()
        }))
        .await
    }

    async fn send(&mut self, message: Request) -> Result<()> {
        let bytes = proto::SignalRequest { message: Some(message) }.encode_to_vec();
        Ok(self.socket.send(Message::binary(bytes)).await?)
    }
}

fn offer(sdp: String, id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: "offer".to_owned(), sdp, id, ..Default::default() }
}

fn add_track(publisher: u16, video: bool, levels: &[u8]) -> proto::AddTrackRequest {
    let cid = track_name(publisher, video);
    if !video {
        let (kind, source) = (proto::TrackType::Audio, proto::TrackSource::Microphone);
        return proto::AddTrackRequest { cid, r#type: kind.into(), source: source.into(), ..Default::default() };
    }
    let plans = levels.iter().filter_map(|level| Some((*level, LAYERS.get(usize::from(*level))?)));
    let simulcast = levels.len() > 1;
    let layers: Vec<proto::VideoLayer> = plans
        .map(|(level, plan)| proto::VideoLayer {
            // A layer that is alone counts as the best there is.
            quality: if simulcast { i32::from(level) } else { proto::VideoQuality::High.into() },
            width: plan.size.0.into(),
            height: plan.size.1.into(),
            bitrate: plan.bits_a_second as u32,
            rid: if simulcast { plan.rid.to_owned() } else { String::new() },
            ..Default::default()
        })
        .collect();
    let (width, height) = layers.last().map_or((0, 0), |layer| (layer.width, layer.height));
    let codec = proto::SimulcastCodec {
        codec: "vp8".to_owned(),
        cid: cid.clone(),
        layers: layers.clone(),
        ..Default::default()
    };
    proto::AddTrackRequest {
        cid,
        r#type: proto::TrackType::Video.into(),
        source: proto::TrackSource::Camera.into(),
        width,
        height,
        layers,
        simulcast_codecs: vec![codec],
        ..Default::default()
    }
}

/// The layers somebody wants (dynacast).
fn wanted_levels(update: &proto::SubscribedQualityUpdate) -> Vec<u8> {
    let qualities = update.subscribed_codecs.iter().flat_map(|codec| &codec.qualities);
    qualities.filter(|quality| quality.enabled).filter_map(|quality| u8::try_from(quality.quality).ok()).collect()
}

/// The server's token for someone in a room, by HTTP.
async fn token(server: &str, room: &str, identity: &str) -> Result<String> {
    let mut stream = TcpStream::connect(server).await.with_context(|| format!("{server} does not listen"))?;
    let request =
        format!("GET /token?room={room}&identity={identity} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("no token: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.trim().to_owned())
}
