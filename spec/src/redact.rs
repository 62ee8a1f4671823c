//! The redaction algorithm of every room version (Room Versions §Redactions).
//!
//! Two forms of one rule table: a serialisable view that leaves out what redaction removes, for hashes and
//! signatures, and functions that build the redacted object.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use crate::version::{RedactionRules, RoomVersionRules};

#[cfg(test)]
mod tests;

/// The redacted copy of an event. `content` is the only property that is changed rather than kept or removed.
pub fn redact_event(event: &Map<String, Value>, rules: &RoomVersionRules) -> Map<String, Value> {
    let kind = kind_of(event);
    event
        .iter()
        .filter(|(key, _)| keeps_property(key, &rules.redaction))
        .map(|(key, value)| match value {
            Value::Object(content) if key == "content" => {
                (key.clone(), Value::Object(redact_content(kind, content, rules)))
            }
            value => (key.clone(), value.clone()),
        })
        .collect()
}

/// The redacted copy of the content of an event of type `kind`.
pub fn redact_content(kind: &str, content: &Map<String, Value>, rules: &RoomVersionRules) -> Map<String, Value> {
    content
        .iter()
        .filter_map(|(key, value)| match content_part(kind, key, &rules.redaction) {
            Part::Nothing => None,
            Part::Whole => Some((key.clone(), value.clone())),
            Part::Only(inner) => {
                let kept = value.as_object()?.get_key_value(inner);
                let kept = kept.map(|(inner, value)| (inner.clone(), value.clone())).into_iter().collect();
                Some((key.clone(), Value::Object(kept)))
            }
        })
        .collect()
}

/// Serialises as the redacted event without `signatures` and `unsigned`: the bytes that signatures and the
/// reference hash cover.
pub(crate) struct RedactedView<'a> {
    pub(crate) event: &'a Map<String, Value>,
    pub(crate) rules: &'a RoomVersionRules,
}

impl Serialize for RedactedView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rules = &self.rules.redaction;
        let kind = kind_of(self.event);
        let mut out = serializer.serialize_map(None)?;
        for (key, value) in self.event {
            if key == "signatures" || !keeps_property(key, rules) {
                continue;
            }
            match value {
                Value::Object(content) if key == "content" => {
                    out.serialize_entry(key, &RedactedContent { kind, content, rules })?;
                }
                value => out.serialize_entry(key, value)?,
            }
        }
        out.end()
    }
}

struct RedactedContent<'a> {
    kind: &'a str,
    content: &'a Map<String, Value>,
    rules: &'a RedactionRules,
}

impl Serialize for RedactedContent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        for (key, value) in self.content {
            match (content_part(self.kind, key, self.rules), value) {
                (Part::Whole, value) => out.serialize_entry(key, value)?,
                (Part::Only(inner), Value::Object(object)) => {
                    out.serialize_entry(key, &OnlyKey { object, key: inner })?;
                }
                (Part::Only(_) | Part::Nothing, _) => {}
            }
        }
        out.end()
    }
}

struct OnlyKey<'a> {
    object: &'a Map<String, Value>,
    key: &'a str,
}

impl Serialize for OnlyKey<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.object.get(self.key).map(|value| (self.key, value)))
    }
}

/// What is left of one property of `content`.
#[derive(Clone, Copy)]
enum Part {
    Nothing,
    Whole,
    /// The value if it is an object, reduced to this key; nothing if it is not an object.
    Only(&'static str),
}

fn kind_of(event: &Map<String, Value>) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn keeps_property(key: &str, rules: &RedactionRules) -> bool {
    match key {
        "event_id" | "type" | "room_id" | "sender" | "state_key" | "content" | "hashes" | "signatures" | "depth"
        | "prev_events" | "auth_events" | "origin_server_ts" => true,
        "origin" | "membership" | "prev_state" => rules.keep_origin_membership_prev_state,
        _ => false,
    }
}

fn content_part(kind: &str, key: &str, rules: &RedactionRules) -> Part {
    let kept = match kind {
        "m.room.member" => match key {
            "membership" => true,
            "join_authorised_via_users_server" => rules.keep_join_authorised_via,
            "third_party_invite" if rules.keep_third_party_signed => return Part::Only("signed"),
            _ => false,
        },
        "m.room.create" => key == "creator" || rules.keep_create_content,
        "m.room.join_rules" => key == "join_rule" || (key == "allow" && rules.keep_join_rules_allow),
        "m.room.power_levels" => match key {
            "ban" | "events" | "events_default" | "kick" | "redact" | "state_default" | "users" | "users_default" => {
                true
            }
            "invite" => rules.keep_power_levels_invite,
            _ => false,
        },
        "m.room.aliases" => key == "aliases" && rules.keep_aliases,
        "m.room.history_visibility" => key == "history_visibility",
        "m.room.redaction" => key == "redacts" && rules.keep_redacts,
        _ => false,
    };
    if kept { Part::Whole } else { Part::Nothing }
}
