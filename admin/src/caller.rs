//! Who asks for an operation, and through what.

use std::sync::Arc;

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use spec::ids::UserId;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A user of this server.
    User(UserNid, UserId),
    /// A user of this server, or somebody who says to be one, outside of administration: only on record.
    Account(UserId),
    /// Whoever may open the control socket: it is the operator's way in when every administrator is locked out.
    Operator,
    /// The server itself: work that its configuration asks for.
    Server,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::User(_, user_id) | Actor::Account(user_id) => f.write_str(user_id.as_str()),
            Actor::Operator => f.write_str("operator"),
            Actor::Server => f.write_str("server"),
        }
    }
}

/// Through what they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Face {
    /// The admin room.
    Room,
    /// `conduit admin` over the control socket.
    CommandLine,
    /// `/_conduit/admin/v1`.
    Http,
    /// `/_synapse/admin`.
    Synapse,
    /// The client API: what users do to their own accounts.
    Client,
    /// Nobody asks: the server does it.
    Server,
}

impl Face {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Face::Room => "room",
            Face::CommandLine => "command line",
            Face::Http => "http",
            Face::Synapse => "synapse",
            Face::Client => "client",
            Face::Server => "server",
        }
    }
}

/// What takes the progress of long work.
pub type ProgressSink = Arc<dyn Fn(String) + Send + Sync>;

/// Who asks, through what, and who hears how far it is.
#[derive(Clone)]
pub struct Caller {
    /// Who.
    pub who: Actor,
    /// Through what.
    pub face: Face,
    progress: Option<ProgressSink>,
}

impl Caller {
    /// A caller that hears of no progress.
    #[must_use]
    pub fn new(who: Actor, face: Face) -> Caller {
        Caller { who, face, progress: None }
    }

    /// The server itself.
    #[must_use]
    pub fn server() -> Caller {
        Caller::new(Actor::Server, Face::Server)
    }

    /// The same caller, who hears of progress. `sink` must not block.
    #[must_use]
    pub fn with_progress(self, sink: ProgressSink) -> Caller {
        Caller { progress: Some(sink), ..self }
    }

    /// Tells how far long work is, in a line of text. Costs nothing where nobody listens.
    pub fn progress(&self, text: impl Into<String>) {
        if let Some(sink) = &self.progress {
            sink(text.into());
        }
    }

    /// The user who asks, if it is one.
    #[must_use]
    pub fn user(&self) -> Option<(UserNid, &UserId)> {
        match &self.who {
            Actor::User(user, user_id) => Some((*user, user_id)),
            Actor::Account(_) | Actor::Operator | Actor::Server => None,
        }
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("who", &self.who).field("face", &self.face).finish_non_exhaustive()
    }
}
