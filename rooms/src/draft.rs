//! An event that does not exist yet: what a client asked for, before the writer gives it its place.

use serde_json::{Map, Value};
use spec::ids::{EventId, UserId};

/// An event to be built by the writer. The sender is authenticated; nothing else is checked yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who sends it.
    pub sender: UserId,
    /// The event type.
    pub kind: Box<str>,
    /// Present for state events.
    pub state_key: Option<Box<str>>,
    /// The content.
    pub content: Map<String, Value>,
    /// For redactions: what is redacted.
    pub redacts: Option<EventId>,
    /// The time to claim instead of now, in milliseconds (application services only).
    pub timestamp: Option<i64>,
    /// Answers with the current state event where it has the same sender and content already.
    pub skip_if_unchanged: bool,
    /// Refused unless the sender is joined when it is written: for what is sent in a member's name.
    pub only_if_joined: bool,
    /// The id of the delayed event that it was until now.
    pub delay_id: Option<Box<str>>,
    /// For how many milliseconds it is to be sticky (MSC4354), at most [`crate::MAX_STICKY_MS`].
    pub sticky_ms: Option<u64>,
}

impl Draft {
    /// A message event.
    #[must_use]
    pub fn message(sender: UserId, kind: &str, content: Map<String, Value>) -> Draft {
        let kind = kind.into();
        Draft {
            sender,
            kind,
            state_key: None,
            content,
            redacts: None,
            timestamp: None,
            skip_if_unchanged: false,
            only_if_joined: false,
            delay_id: None,
            sticky_ms: None,
        }
    }

    /// A state event.
    #[must_use]
    pub fn state(sender: UserId, kind: &str, state_key: &str, content: Map<String, Value>) -> Draft {
        Draft { state_key: Some(state_key.into()), ..Draft::message(sender, kind, content) }
    }

    /// A redaction.
    #[must_use]
    pub fn redaction(sender: UserId, redacts: EventId, content: Map<String, Value>) -> Draft {
        Draft { redacts: Some(redacts), ..Draft::message(sender, "m.room.redaction", content) }
    }
}

/// A client's transaction: the same id in the same scope makes one event only (Client-Server API
/// §Transaction identifiers).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// The device, or what stands for it.
    pub device: Box<str>,
    /// Endpoint and room that the id is bound to.
    pub scope: Box<str>,
    /// The client's id.
    pub id: Box<str>,
}

impl Transaction {
    pub(crate) fn key(&self) -> String {
        format!("{}\u{1f}{}", self.scope, self.id)
    }
}
