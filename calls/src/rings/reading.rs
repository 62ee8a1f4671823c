//! What an event says of ringing.

use rooms::Event;
use serde::Deserialize;
use spec::ids::UserId;

/// How long a call rings that does not say it, and at most, in milliseconds (MSC4075 bounds it at two minutes).
const USUAL_MS: u64 = 30_000;
const LONGEST_MS: u64 = 120_000;

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It begins to ring.
    Ring { callees: Callees, call: Option<String>, lifetime_ms: u64 },
    /// The sender refuses the call that an event began.
    Decline { event_id: String },
    /// The sender answers a call between two.
    Answer { call: String },
    /// The sender refuses or ends a call between two.
    End { call: String },
    /// The sender takes part in the call of the room.
    Join,
}

/// Whom a call rings for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Callees {
    /// Everybody in the room.
    Everybody,
    These(Vec<UserId>),
}

#[derive(Deserialize)]
struct Notification {
    #[serde(alias = "notify_type")]
    notification_type: String,
    lifetime: Option<u64>,
    #[serde(rename = "m.mentions", default)]
    mentions: Mentions,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Mentions {
    user_ids: Vec<UserId>,
    room: bool,
}

#[derive(Deserialize)]
struct Relating {
    #[serde(rename = "m.relates_to")]
    relates_to: Relation,
}

#[derive(Deserialize)]
struct Relation {
    event_id: String,
}

#[derive(Deserialize)]
struct Telephone {
    call_id: String,
    lifetime: Option<u64>,
    invitee: Option<UserId>,
}

/// What an event says of ringing, if anything.
pub(super) fn read(event: &Event) -> Option<Said> {
    match event.kind() {
        "m.rtc.notification" | "org.matrix.msc4075.rtc.notification" | "org.matrix.msc4075.call.notify" => {
            let read: Notification = event.content_as()?;
            (read.notification_type == "ring").then(|| {
                let Mentions { user_ids, room } = read.mentions;
                let callees = if room { Callees::Everybody } else { Callees::These(user_ids) };
                Said::Ring { callees, call: None, lifetime_ms: bound(read.lifetime) }
            })
        }
        "m.rtc.decline" | "org.matrix.msc4310.rtc.decline" => {
            let read: Relating = event.content_as()?;
            Some(Said::Decline { event_id: read.relates_to.event_id })
        }
        "m.call.invite" => {
            let read: Telephone = event.content_as()?;
            let callees = read.invitee.map_or(Callees::Everybody, |invitee| Callees::These(vec![invitee]));
            Some(Said::Ring { callees, call: Some(read.call_id), lifetime_ms: bound(read.lifetime) })
        }
        "m.call.answer" => event.content_as().map(|read: Telephone| Said::Answer { call: read.call_id }),
        "m.call.reject" | "m.call.hangup" => event.content_as().map(|read: Telephone| Said::End { call: read.call_id }),
        "m.rtc.member" | "org.matrix.msc4143.rtc.member" | "m.call.member" | "org.matrix.msc3401.call.member" => {
            // Who leaves says so with empty content.
            (event.content().trim() != "{}").then_some(Said::Join)
        }
        _ => None,
    }
}

fn bound(lifetime: Option<u64>) -> u64 {
    lifetime.filter(|lifetime| *lifetime > 0).map_or(USUAL_MS, |lifetime| lifetime.min(LONGEST_MS))
}
