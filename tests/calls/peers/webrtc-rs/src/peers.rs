//! The connections of the `webrtc` crate: what is sent on them, and what comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message as _;
use webrtc::api::APIBuilder;
use webrtc::api::interceptor_registry::register_default_interceptors;
use webrtc::api::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine};
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice_transport::ice_server::RTCIceServer;
use webrtc::interceptor::registry::Registry;
use webrtc::media::Sample;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;
use webrtc::peer_connection::policy::ice_transport_policy::RTCIceTransportPolicy;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::track::track_local::TrackLocal;
use webrtc::track::track_local::track_local_static_sample::TrackLocalStaticSample;

use crate::Failure;

/// A frame of Opus without any sound, of 20 ms.
const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];
/// A key frame of VP8: 64 by 64, of one colour.
const PICTURE: &[u8] = &[
    0x90, 0x03, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x00, 0x40, 0x00, 0x00, 0x47, 0x08, 0x85, 0x85, 0x88, 0x85, 0x84, 0x88,
    0x02, 0x02, 0x02, 0x75, 0xaa, 0x03, 0xf8, 0x02, 0x06, 0xe8, 0x4a, 0x30, 0x15, 0x64, 0x41, 0xee, 0xcc, 0x4e, 0x00,
    0xfe, 0xfb, 0x68, 0x97, 0xff, 0x3d, 0x33, 0x5e, 0x60, 0xff, 0x27, 0x3f, 0xfd, 0xb9, 0x1f, 0xed, 0xc8, 0xff, 0x6e,
    0x47, 0xff, 0xb6, 0xc2, 0x00,
];
/// So many packets of a track are counted before they are told again.
const STEP: usize = 25;

/// A connection that has the relay and only that, or none.
pub async fn connection(servers: &[proto::IceServer], relay: bool) -> Result<Arc<RTCPeerConnection>, Failure> {
    let mut media = MediaEngine::default();
    media.register_default_codecs()?;
    let registry = register_default_interceptors(Registry::new(), &mut media)?;
    let mut settings = SettingEngine::default();
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    let api = APIBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_setting_engine(settings)
        .build();
    // The crate knows the relay over UDP only.
    let usable = |url: &&String| url.starts_with("turn:") && !url.contains("transport=tcp");
    let ice_servers = servers
        .iter()
        .map(|server| RTCIceServer {
            urls: server.urls.iter().filter(usable).cloned().collect(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        })
        .filter(|server| relay && !server.urls.is_empty())
        .collect();
    let ice_transport_policy = if relay { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
    let configuration = RTCConfiguration { ice_servers, ice_transport_policy, ..Default::default() };
    Ok(Arc::new(api.new_peer_connection(configuration).await?))
}

/// Says between which addresses the media travel once they do.
pub fn tell_way(connection: &Arc<RTCPeerConnection>) {
    let transport = connection.sctp().transport();
    connection.on_peer_connection_state_change(Box::new(move |state| {
        let transport = transport.clone();
        Box::pin(async move {
            if state != RTCPeerConnectionState::Connected {
                return;
            }
            if let Some(pair) = transport.ice_transport().get_selected_candidate_pair().await {
                println!("way {}/{} {}", pair.local.typ, pair.local.address, pair.remote.address);
            }
        })
    }));
}

/// Counts the packets of each track, and tells the messages.
pub fn count_what_comes(connection: &RTCPeerConnection) {
    connection.on_track(Box::new(|track, _, _| {
        Box::pin(async move {
            tokio::spawn(async move {
                let (kind, mut count) = (track.kind(), 0_usize);
                while track.read_rtp().await.is_ok() {
                    count += 1;
                    if count.is_multiple_of(STEP) {
                        println!("received {kind} {count}");
                    }
                }
            });
        })
    }));
    connection.on_data_channel(Box::new(|channel| {
        Box::pin(async move {
            channel.on_message(Box::new(|message| {
                if let Ok(packet) = proto::DataPacket::decode(message.data)
                    && let Some(proto::data_packet::Value::User(user)) = packet.value
                {
                    println!("data {} {}", packet.participant_identity, String::from_utf8_lossy(&user.payload));
                }
                Box::pin(async {})
            }));
        })
    }));
}

/// A track to be sent, and how the server is told of it.
pub struct Outgoing {
    pub description: proto::AddTrackRequest,
    track: Arc<TrackLocalStaticSample>,
    frame: &'static [u8],
    every: Duration,
}

impl Outgoing {
    pub async fn audio(connection: &RTCPeerConnection) -> Result<Outgoing, Failure> {
        let codec = RTCRtpCodecCapability {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            ..Default::default()
        };
        let description = proto::AddTrackRequest {
            r#type: proto::TrackType::Audio as i32,
            source: proto::TrackSource::Microphone as i32,
            ..named("audio")
        };
        Outgoing::add(connection, description, codec, SILENCE, Duration::from_millis(20)).await
    }

    pub async fn video(connection: &RTCPeerConnection) -> Result<Outgoing, Failure> {
        let codec =
            RTCRtpCodecCapability { mime_type: MIME_TYPE_VP8.to_owned(), clock_rate: 90_000, ..Default::default() };
        let description = proto::AddTrackRequest {
            r#type: proto::TrackType::Video as i32,
            source: proto::TrackSource::Camera as i32,
            width: 64,
            height: 64,
            ..named("video")
        };
        Outgoing::add(connection, description, codec, PICTURE, Duration::from_millis(100)).await
    }

    async fn add(
        connection: &RTCPeerConnection,
        description: proto::AddTrackRequest,
        codec: RTCRtpCodecCapability,
        frame: &'static [u8],
        every: Duration,
    ) -> Result<Outgoing, Failure> {
        let track = Arc::new(TrackLocalStaticSample::new(codec, description.cid.clone(), "webrtc-rs".to_owned()));
        let sender = connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal + Send + Sync>).await?;
        // Reports are looked at by the crate only when somebody reads them.
        tokio::spawn(async move { while sender.read_rtcp().await.is_ok() {} });
        Ok(Outgoing { description, track, frame, every })
    }

    /// Sends from now on.
    pub fn send(self) {
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(self.every);
            loop {
                clock.tick().await;
                let sample =
                    Sample { data: Bytes::from_static(self.frame), duration: self.every, ..Default::default() };
                if self.track.write_sample(&sample).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn named(name: &str) -> proto::AddTrackRequest {
    proto::AddTrackRequest { cid: format!("webrtc-rs-{name}"), name: name.to_owned(), ..Default::default() }
}
