//! The ports of calls: the media server, the TURN server, and other homeservers.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use spec::ids::{ServerName, UserId};

use crate::error::CallError;
use crate::history::LegStatistics;
use crate::openid::OpenIdProof;
use crate::seat::Seat;

/// What a port returns that asks others: a boxed future.
pub type CallAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// What a participant may do on the media server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The call, by its name there.
    pub room: String,
    /// The participant, by its name there.
    pub identity: String,
    /// Whether it may send media, and not only receive.
    pub can_publish: bool,
    /// Whether it may be the first in the call.
    pub may_create: bool,
    /// For how long it may join.
    pub lifetime: Duration,
}

/// A participant as the media server sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveLeg {
    /// The participant, by its name there.
    pub identity: String,
    /// How it has gone so far.
    pub statistics: LegStatistics,
    /// What it sends now, in bit/s.
    pub bitrate_up: u64,
    /// What it is sent now, in bit/s.
    pub bitrate_down: u64,
    /// What it publishes.
    pub tracks: Vec<LiveTrack>,
}

/// A track that is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTrack {
    /// The media server's name of it.
    pub id: String,
    /// `microphone`, `camera`, `screen_share`, `screen_share_audio` or `unknown`.
    pub source: String,
    /// The codec, such as `video/VP8`; empty until media have arrived.
    pub codec: String,
    /// Whether it is muted.
    pub muted: bool,
    /// Whether it is encrypted end to end.
    pub encrypted: bool,
    /// The bit rate of each layer, lowest quality first, in bit/s.
    pub layers: Vec<u64>,
    /// How many receive it.
    pub receivers: usize,
}

/// The media server of group calls. No method waits for anything.
pub trait MediaServer: Send + Sync {
    /// The signed token with which a participant joins.
    fn token(&self, grant: &Grant) -> String;

    /// Ends a participation, if there is one.
    fn disconnect(&self, room: &str, identity: &str);

    /// Who is in a call, as of a few seconds ago.
    fn participants(&self, room: &str) -> Vec<LiveLeg>;

    /// Mutes a track of a participant.
    fn mute(&self, room: &str, identity: &str, track: &str);
}

/// A recording that is to begin.
pub struct RecordingStart {
    /// The call, by the media server's name of it.
    pub call: String,
    /// The file's name.
    pub id: String,
    /// How long it may get.
    pub max_duration: Duration,
    /// How large the file may get.
    pub max_bytes: u64,
    /// To be called once after the file is complete, however the recording ended; does not block. Not to be called if the
    /// recording does not begin.
    pub ended: Box<dyn FnOnce() + Send>,
}

/// A recording that was stored as media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecording {
    /// Its `mxc://` address.
    pub url: String,
    /// Its length.
    pub bytes: u64,
    /// How long it plays, in milliseconds.
    pub duration_ms: u64,
    /// Width and height of its pictures, if it has some.
    pub pictures: Option<(u16, u16)>,
}

/// Records calls into files, and stores these as media.
pub trait Recorder: Send + Sync {
    /// Begins to record a call.
    fn start(&self, order: RecordingStart) -> CallAnswer<'_, ()>;

    /// Ends the recording of a call, if there is one. Does not wait.
    fn stop(&self, call: &str);

    /// Stores the file of a recording that has ended as media of a user; `None` if there is no such file, or nothing in it.
    fn store<'a>(&'a self, id: &'a str, user: &'a UserId, name: &'a str) -> CallAnswer<'a, Option<StoredRecording>>;

    /// Removes the file of a recording, if it is there.
    fn discard<'a>(&'a self, id: &'a str) -> CallAnswer<'a, ()>;
}

/// Credentials for a TURN server (Client-Server API §`GET /voip/turnServer`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnCredentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// Where it is: `turn:` and `turns:` addresses.
    pub uris: Vec<String>,
    /// For how long they are good.
    pub ttl: Duration,
}

/// The TURN server. No method waits for anything.
pub trait TurnServer: Send + Sync {
    /// Credentials for a user.
    fn credentials(&self, user_key: &str, lifetime: Duration) -> TurnCredentials;
}

/// What is asked of the homeserver whose media server a user of this one wants to join (MSC4195, federation API).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSeat {
    /// The user, of this server.
    pub user: UserId,
    /// The address of the media server.
    pub url: String,
    /// The place.
    pub seat: Seat,
}

/// What other homeservers can be asked about calls; each method has its own time limit. The federation edge implements
/// it.
pub trait RemoteCalls: Send + Sync {
    /// Whose OpenID token it is, as its server says (Server-Server API §OpenID).
    fn openid_user<'a>(&'a self, server: &'a ServerName, proof: &'a OpenIdProof) -> CallAnswer<'a, UserId>;

    /// A token for the media server of another homeserver.
    fn token<'a>(&'a self, server: &'a ServerName, wanted: &'a RemoteSeat) -> CallAnswer<'a, String>;
}
