//! What administration needs of parts that it does not know: traits, implemented by the program or by an edge.

use std::sync::Arc;

use rooms::{RemoteRooms, RoomData};
use spec::ids::ServerName;

use crate::caller::Caller;
use crate::entry::BoxFuture;

/// The ports. One that is `None` is not there, as in tests of other parts.
#[derive(Clone, Default)]
pub struct Ports {
    /// Rooms of other servers.
    pub remote_rooms: Option<Arc<dyn RemoteRooms>>,
    /// Other servers, as destinations.
    pub other_servers: Option<Arc<dyn OtherServers>>,
    /// The program around the server.
    pub program: Option<Arc<dyn Program>>,
    /// Its configuration.
    pub configuration: Option<Arc<dyn Configuration>>,
    /// What other parts keep about rooms, to be taken out when one is deleted.
    pub room_data: Vec<Arc<dyn RoomData>>,
}

/// How sending to a server goes. Times are in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationState {
    /// Whether the operator lets anything be exchanged with it.
    pub is_allowed: bool,
    /// Since when it fails, if it does.
    pub failing_since_ms: Option<u64>,
    /// Until when it is left alone, if it is.
    pub retry_at_ms: Option<u64>,
    /// How many tries failed.
    pub failures: u32,
    /// Whether something waits to be sent to it.
    pub is_pending: bool,
}

/// Other servers, as destinations of what happens here.
pub trait OtherServers: Send + Sync {
    /// How sending to a server goes.
    fn state(&self, server: &ServerName) -> DestinationState;
    /// The servers that fail.
    fn failing(&self) -> Vec<ServerName>;
    /// Forgets that a server fails: it is asked again at once. Cancel-safe.
    fn reset(&self, server: ServerName) -> BoxFuture<()>;
}

/// The program around the server.
pub trait Program: Send + Sync {
    /// Copies everything the server keeps into a new or empty folder, and tells `caller` how far that is. Returns what
    /// was copied, for people, or why it was not.
    fn back_up(&self, directory: String, caller: Caller) -> BoxFuture<Result<String, String>>;
}

/// The configuration of the running server. Values are in TOML, and those of secrets are hidden.
pub trait Configuration: Send + Sync {
    /// The values in force, by key.
    fn values(&self) -> Vec<(String, String)>;
    /// What is in force otherwise than by default.
    fn differences(&self) -> Vec<ConfigDifference>;
    /// Reads the configuration again from where it came from, and takes over what can be. What is wrong with it is the
    /// error: then nothing has changed. Runs to its end even if it is dropped.
    fn reload(&self) -> BoxFuture<Result<ConfigReload, String>>;
}

/// A key of the configuration with two values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDifference {
    /// The key.
    pub key: String,
    /// The default, or the value before; none if it was not set.
    pub before: Option<String>,
    /// The value now; none if it is not set.
    pub after: Option<String>,
}

/// What came of reading the configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigReload {
    /// What is in force now.
    pub changed: Vec<ConfigDifference>,
    /// What needs a restart.
    pub needs_restart: Vec<ConfigDifference>,
    /// How many registrations of application services were read.
    pub appservices: usize,
}
