//! What is told to operators about calls.

use std::time::Duration;

use serde::Serialize;

/// How the media of a participant travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Not connected yet.
    #[default]
    None,
    /// Directly, over UDP.
    Udp,
    /// Directly, over TCP.
    Tcp,
    /// Through a TURN server.
    Relay,
}

impl Transport {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Transport::None => "none",
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Relay => "relay",
        }
    }
}

/// A call in progress.
#[derive(Clone, Debug, Serialize)]
pub struct RoomOverview {
    /// The name the grants carry.
    pub name: String,
    /// The identifier clients see, `RM_…`.
    pub sid: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Who is in it.
    pub participants: Vec<ParticipantOverview>,
}

/// Somebody in a call.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantOverview {
    /// The identity of the grant.
    pub identity: String,
    /// The identifier clients see, `PA_…`.
    pub sid: String,
    /// When they joined, in milliseconds since the Unix epoch.
    pub joined_ms: u64,
    /// How the connection has been so far.
    pub stats: LegStats,
    /// What they publish.
    pub tracks: Vec<TrackOverview>,
}

/// A published track.
#[derive(Clone, Debug, Serialize)]
pub struct TrackOverview {
    /// The identifier clients see, `TR_…`.
    pub sid: String,
    /// `microphone`, `camera`, `screen_share`, `screen_share_audio` or `unknown`.
    pub source: &'static str,
    /// The codec, such as `video/VP8`; empty until media have arrived.
    pub codec: String,
    /// Whether it is muted.
    pub muted: bool,
    /// Whether it is encrypted end to end.
    pub encrypted: bool,
    /// The bit rate of each layer, lowest quality first, in bit/s.
    pub layers: Vec<u64>,
    /// How many receive it.
    pub subscribers: usize,
}

/// How somebody's connection to a call is or was.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LegStats {
    /// How long the participant has been in the call, in seconds.
    pub seconds: u64,
    /// How the media travel.
    pub transport: Transport,
    /// Round-trip time in milliseconds, averaged over the call.
    pub rtt_ms: Option<u32>,
    /// Share of packets lost on the way to us, 0 to 1, averaged over the call.
    pub loss_up: f32,
    /// Share of packets lost on the way to the participant, 0 to 1, averaged over the call.
    pub loss_down: f32,
    /// Jitter of what the participant sends, in milliseconds, averaged over the call.
    pub jitter_ms: u32,
    /// Media bytes received from the participant.
    pub bytes_up: u64,
    /// Media bytes sent to the participant.
    pub bytes_down: u64,
    /// Bit rate received now, in bit/s.
    pub bitrate_up: u64,
    /// Bit rate sent now, in bit/s.
    pub bitrate_down: u64,
    /// What the way to the participant is estimated to carry, in bit/s.
    pub estimate_down: Option<u64>,
    /// How often the participant came back after a broken connection.
    pub resumes: u32,
}

impl LegStats {
    /// The length of the stay.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
