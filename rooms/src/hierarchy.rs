//! Room summaries and the hierarchy of spaces (Client-Server API §Spaces, `GET /room_summary`).

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use spec::ids::{RoomId, ServerName};
use storage::Read;

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, UserNid};
use crate::keyspaces::SERVER_MEMBERS;
use crate::membership::Membership;
use crate::rooms::Rooms;

/// What may be told of a room to someone who is not in it.
#[derive(Clone, Debug, Serialize)]
pub struct RoomSummary {
    /// The room.
    pub room_id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its avatar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// Its main alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_alias: Option<String>,
    /// How many users are joined.
    pub num_joined_members: u32,
    /// Whether it can be read without joining.
    pub world_readable: bool,
    /// Whether guests may join.
    pub guest_can_join: bool,
    /// Its join rule.
    pub join_rule: String,
    /// The rooms whose members may join, under restricted rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_room_ids: Vec<String>,
    /// Its type: `m.space`, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_type: Option<String>,
    /// Its version.
    pub room_version: String,
    /// Its encryption algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
}

impl Rooms {
    /// What may be told of a room. Its caller has checked that it may be told.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn summary(&self, room: RoomNid) -> Result<RoomSummary, RoomError> {
        let head = self.head(room)?;
        let content = |kind: &str| -> Result<Map<String, Value>, RoomError> {
            let event = self.state_event(room, head.state(), kind, "")?;
            Ok(event.and_then(|event| event.content_as()).unwrap_or_default())
        };
        let text = |kind: &str, key: &str| -> Result<Option<String>, RoomError> {
            Ok(content(kind)?.get(key).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.is_empty()))
        };
        let join_rules = content("m.room.join_rules")?;
        let allowed = join_rules.get("allow").and_then(Value::as_array).into_iter().flatten();
        let allowed = allowed.filter(|allow| allow["type"] == "m.room_membership");
        Ok(RoomSummary {
            room_id: head.room_id().as_str().to_owned(),
            name: text("m.room.name", "name")?,
            topic: text("m.room.topic", "topic")?,
            avatar_url: text("m.room.avatar", "url")?,
            canonical_alias: text("m.room.canonical_alias", "alias")?,
            num_joined_members: head.joined_count(),
            world_readable: text("m.room.history_visibility", "history_visibility")?.as_deref()
                == Some("world_readable"),
            guest_can_join: text("m.room.guest_access", "guest_access")?.as_deref() == Some("can_join"),
            join_rule: join_rules.get("join_rule").and_then(Value::as_str).unwrap_or("invite").to_owned(),
            allowed_room_ids: allowed.filter_map(|allow| allow["room_id"].as_str().map(str::to_owned)).collect(),
            room_type: text("m.room.create", "type")?,
            room_version: head.version().as_str().to_owned(),
            encryption: text("m.room.encryption", "algorithm")?,
        })
    }

    /// Whether a user (or, without one, anybody) may know of the room what a summary tells.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn may_know(&self, room: RoomNid, user: Option<UserNid>) -> Result<bool, RoomError> {
        if let Some(row) = user.map(|user| self.membership(room, user)).transpose()?.flatten()
            && matches!(row.membership, Membership::Join | Membership::Invite)
        {
            return Ok(true);
        }
        let summary = self.summary(room)?;
        if summary.world_readable || matches!(summary.join_rule.as_str(), "public" | "knock" | "knock_restricted") {
            return Ok(true);
        }
        match user {
            Some(user) => self.is_in_any(&summary.allowed_room_ids, user),
            None => Ok(false),
        }
    }

    /// Whether another server may know of the room what a summary tells: its users are in it or invited, or could come
    /// in (Server-Server API §Spaces).
    ///
    /// # Errors
    /// Storage errors only.
    pub fn may_server_know(&self, room: RoomNid, server: &ServerName) -> Result<bool, RoomError> {
        if self.has_users_of(room, server)? || self.may_know(room, None)? {
            return Ok(true);
        }
        let summary = self.summary(room)?;
        for id in &summary.allowed_room_ids {
            let Ok(id) = RoomId::parse(id) else { continue };
            let Some(allowed) = self.room_nid(&id)? else { continue };
            if self.room_servers(allowed)?.get(server).is_some_and(|stay| stay.joined > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a user of the server is in the room, or invited.
    fn has_users_of(&self, room: RoomNid, server: &ServerName) -> Result<bool, RoomError> {
        for key in self.store.scan(&SERVER_MEMBERS, &(room, server.as_str().to_owned())).keys() {
            let row = self.membership(room, key?.2)?;
            if row.is_some_and(|row| matches!(row.membership, Membership::Join | Membership::Invite)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_in_any(&self, rooms: &[String], user: UserNid) -> Result<bool, RoomError> {
        for id in rooms {
            let Some(room) = RoomId::parse(id).ok().map(|id| self.room_nid(&id)).transpose()?.flatten() else {
                continue;
            };
            if self.membership(room, user)?.is_some_and(|row| row.membership == Membership::Join) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The children of a space in the specified order: the child's id and its stripped event with a time.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn space_children(
        &self,
        room: RoomNid,
        suggested_only: bool,
    ) -> Result<Vec<(String, Box<RawValue>)>, RoomError> {
        let head = self.head(room)?;
        let mut children = Vec::new();
        for seq in self.state_seqs(room, head.state())? {
            let event = self.event_at(room, seq)?;
            if event.kind() != "m.space.child" {
                continue;
            }
            let content: Map<String, Value> = event.content_as().unwrap_or_default();
            let has_via = content.get("via").and_then(Value::as_array).is_some_and(|via| !via.is_empty());
            let suggested = content.get("suggested").and_then(Value::as_bool).unwrap_or(false);
            if !has_via || (suggested_only && !suggested) {
                continue;
            }
            let order = content.get("order").and_then(Value::as_str).filter(|order| is_valid_order(order));
            let key = (
                order.is_none(),
                order.map(str::to_owned),
                event.origin_server_ts(),
                event.state_key().map(str::to_owned),
            );
            children.push((key, event.state_key().unwrap_or_default().to_owned(), stripped(&event)?));
        }
        children.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(children.into_iter().map(|(_, child, event)| (child, event)).collect())
    }
}

/// `order`: at most 50 characters from space to tilde.
fn is_valid_order(order: &str) -> bool {
    order.len() <= 50 && order.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn stripped(event: &Event) -> Result<Box<RawValue>, RoomError> {
    #[derive(Serialize)]
    struct Stripped<'a> {
        content: &'a RawValue,
        origin_server_ts: i64,
        sender: &'a str,
        state_key: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
    }
    let content: &RawValue =
        serde_json::from_str(event.content()).map_err(|_| RoomError::Inconsistent("an event does not parse"))?;
    let stripped = Stripped {
        content,
        origin_server_ts: event.origin_server_ts(),
        sender: event.sender(),
        state_key: event.state_key().unwrap_or_default(),
        kind: event.kind(),
    };
    serde_json::value::to_raw_value(&stripped).map_err(|_| RoomError::Inconsistent("an event cannot be written"))
}
