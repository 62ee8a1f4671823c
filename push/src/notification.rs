//! What a push gateway is told (Push Gateway API `POST /_matrix/push/v1/notify`).

use rooms::{Event, Membership, Rooms, UserNid};
use serde_json::{Map, Value, json};
use spec::push::Action;
use users::{InvitePermission, KeptPusher, Users};

use crate::config::BadgeCount;
use crate::error::PushError;

/// Clients that count their badge themselves want no counts (MSC4076).
const WITHOUT_BADGE: &str = "org.matrix.msc4076.disable_badge_count";

/// Whether the pusher wants to be told counts.
pub(crate) fn wants_badge(pusher: &KeptPusher) -> bool {
    pusher.pusher.data.get(WITHOUT_BADGE) != Some(&Value::Bool(true))
}

/// Whether the user wants not to be shown the invitation.
pub(crate) fn is_hidden_invite(users: &Users, user: UserNid, invite: &Event) -> Result<bool, PushError> {
    let Some(sender) = invite.sender_id() else { return Ok(true) };
    let is_ignored = users.ignored_users(user)?.contains(&sender);
    Ok(is_ignored || users.invite_rules(user)?.judge(&sender) == InvitePermission::Ignore)
}

/// What the badge of a user shows. Costs a look into each of their rooms; messages are counted only in those that have
/// something unread.
pub(crate) fn count_badge(rooms: &Rooms, users: &Users, user: UserNid, what: BadgeCount) -> Result<u64, PushError> {
    let mut badge = 0u64;
    for (room, row) in rooms.user_rooms(user)?.iter() {
        badge += match row.membership {
            Membership::Invite if !row.forgotten => {
                u64::from(!is_hidden_invite(users, user, &rooms.event_at(*room, row.seq)?)?)
            }
            Membership::Join => {
                let has_unread = users.has_unread(user, *room)?;
                match what {
                    BadgeCount::Messages if has_unread => users.unread_counts(user, *room)?.total().notifications,
                    _ => u64::from(has_unread),
                }
            }
            _ => 0,
        };
    }
    Ok(badge)
}

/// A notification that changes nothing but the badge.
pub(crate) fn write_badge(pusher: &KeptPusher, badge: u64) -> Vec<u8> {
    let notification = json!({"counts": counts(badge), "devices": [device(pusher, None)], "prio": "low"});
    write(notification)
}

/// A notification of an event.
pub(crate) fn write_event(
    rooms: &Rooms,
    (user, pusher): (UserNid, &KeptPusher),
    event: &Event,
    actions: &[Action],
    badge: Option<u64>,
) -> Result<Vec<u8>, PushError> {
    let room_id = rooms.room_id(event.room())?;
    let tweaks = tweaks(actions);
    // A gateway holds back what is of low priority, to save the device's battery. What an encrypted event may mean for
    // the user only the device can tell.
    let is_urgent = event.kind() == "m.room.encrypted" || tweaks.contains_key("sound") || is_highlight(&tweaks);
    let mut notification = json!({
        "event_id": event.event_id(),
        "room_id": room_id.as_str(),
        "prio": if is_urgent { "high" } else { "low" },
        "devices": [device(pusher, Some(tweaks))],
    });
    if let Some(badge) = badge {
        notification["counts"] = counts(badge);
    }
    if pusher.pusher.data.get("format").and_then(Value::as_str) != Some("event_id_only") {
        describe(rooms, event, user, &mut notification)?;
    }
    Ok(write(notification))
}

/// Adds everything but the ids.
fn describe(rooms: &Rooms, event: &Event, user: UserNid, notification: &mut Value) -> Result<(), PushError> {
    notification["type"] = event.kind().into();
    notification["sender"] = event.sender().into();
    notification["content"] = event.content_as().unwrap_or_else(|| json!({}));
    let about = RoomText::read(rooms, event, user)?;
    let texts = [
        ("sender_display_name", about.find("m.room.member", event.sender(), "displayname")?),
        ("room_name", about.find("m.room.name", "", "name")?),
        ("room_alias", about.find("m.room.canonical_alias", "", "alias")?),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            notification[key] = text.into();
        }
    }
    if event.kind() == "m.room.member" && event.state_key().is_some() {
        notification["user_is_target"] = (event.state_key() == Some(rooms.user_id(user)?.as_str())).into();
        if let Some(membership) = notification["content"].get("membership").and_then(Value::as_str) {
            notification["membership"] = membership.to_owned().into();
        }
    }
    Ok(())
}

/// Where the names of a room are read from.
enum RoomText<'a> {
    Here {
        rooms: &'a Rooms,
        event: &'a Event,
    },
    /// What another server told with its invitation.
    Told(Vec<Value>),
}

impl<'a> RoomText<'a> {
    fn read(rooms: &'a Rooms, event: &'a Event, user: UserNid) -> Result<Self, PushError> {
        Ok(match rooms.stripped_state(event.room(), user)? {
            Some(told) if !event.flags().is_visible() => {
                RoomText::Told(told.iter().filter_map(|event| serde_json::from_str(event.get()).ok()).collect())
            }
            _ => RoomText::Here { rooms, event },
        })
    }

    /// A text in the content of a state event, if it is there and not empty.
    fn find(&self, kind: &str, state_key: &str, field: &str) -> Result<Option<String>, PushError> {
        let content = match self {
            RoomText::Here { rooms, event } => {
                let state = rooms.head(event.room())?.state();
                rooms.state_event(event.room(), state, kind, state_key)?.and_then(|found| found.content_as::<Value>())
            }
            RoomText::Told(events) => {
                let mut events = events.iter();
                let found = events.find(|event| event["type"] == kind && event["state_key"] == state_key);
                found.map(|event| event["content"].clone())
            }
        };
        let text = content.and_then(|content| content.get(field)?.as_str().map(str::to_owned));
        Ok(text.filter(|text| !text.is_empty()))
    }
}

/// A count of zero is written too: a gateway that finds none leaves the badge as it is.
fn counts(badge: u64) -> Value {
    json!({"unread": badge})
}

fn device(pusher: &KeptPusher, tweaks: Option<Map<String, Value>>) -> Value {
    let KeptPusher { pusher, set_at_ms, .. } = pusher;
    let mut data = pusher.data.clone();
    data.remove("url");
    let mut device = json!({
        "app_id": pusher.app_id,
        "pushkey": pusher.pushkey,
        "pushkey_ts": set_at_ms / 1000,
        "data": data,
    });
    if let Some(tweaks) = tweaks.filter(|tweaks| !tweaks.is_empty()) {
        device["tweaks"] = tweaks.into();
    }
    device
}

fn tweaks(actions: &[Action]) -> Map<String, Value> {
    let mut tweaks = Map::new();
    for action in actions {
        if let Action::SetTweak { tweak, value } = action {
            let value = match value {
                Some(value) => value.clone(),
                // Only of this one it is said what it means without a value.
                None if &**tweak == "highlight" => Value::Bool(true),
                None => Value::Null,
            };
            tweaks.insert(tweak.to_string(), value);
        }
    }
    tweaks
}

fn is_highlight(tweaks: &Map<String, Value>) -> bool {
    tweaks.get("highlight") == Some(&Value::Bool(true))
}

fn write(notification: Value) -> Vec<u8> {
    json!({"notification": notification}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tweaks_are_passed_on_as_they_are() {
        let actions: Vec<Action> = serde_json::from_value(json!([
            "notify", {"set_tweak": "sound", "value": "bing"}, {"set_tweak": "highlight"},
            {"set_tweak": "org.example.light", "value": {"colour": "red"}}, {"other": true}
        ]))
        .unwrap();
        let expected = json!({"sound": "bing", "highlight": true, "org.example.light": {"colour": "red"}});
        assert_eq!(Value::Object(tweaks(&actions)), expected);
    }
}
