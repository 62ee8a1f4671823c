//! Upgrading a room to another version (Client-Server API §Room upgrades).

use serde_json::{Map, Value, json};
use spec::ids::{RoomId, UserId};
use spec::pdu::Pdu;
use spec::policy::POLICY_EVENT;
use spec::power::PowerLevels;
use spec::version::RoomVersion;

use crate::create::{CreateRoom, Preset, object};
use crate::draft::Draft;
use crate::error::RoomError;
use crate::event::Event;
use crate::head::Head;
use crate::ids::RoomNid;
use crate::membership::{Membership, MembershipChange};
use crate::rooms::Rooms;

/// State that the new room takes over from the old one, beside what names its policy server.
const KEPT: [&str; 10] = [
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.pinned_events",
    "m.space.parent",
];

impl Rooms {
    /// Makes a successor of the room, points to it from a tombstone, and moves the local aliases and the
    /// public listing over. Not cancel-safe: dropped half-way, the old room may stand without a tombstone.
    ///
    /// # Errors
    /// [`RoomError::Refused`] if the user may not close the room; those of [`Rooms::recommend`] if its policy server
    /// does not let it be closed: the user has then left the successor.
    pub async fn upgrade_room(
        &self,
        old: &RoomId,
        user: &UserId,
        profile: Map<String, Value>,
        version: RoomVersion,
        additional_creators: Vec<Value>,
    ) -> Result<RoomId, RoomError> {
        let nid = self.known_room(old)?;
        let sender = self.user_nid(user)?.ok_or(RoomError::NotInRoom)?;
        let view = self.as_user(old, sender)?;
        let head = view.head().clone();
        let create = head.create().ok_or(RoomError::Inconsistent("room without a create event"))?;
        let levels = PowerLevels::from_state(head.power_levels().map(|event| &**event), create, head.rules());
        if !view.is_joined() || !levels.user(user).at_least(levels.required_for_event("m.room.tombstone", true)) {
            return Err(RoomError::Refused("you do not have the power to upgrade this room"));
        }
        let successor = CreateRoom {
            creator: user.clone(),
            creator_profile: profile,
            version,
            preset: Preset::PrivateChat,
            public: self.is_public(nid)?,
            alias: None,
            name: None,
            topic: None,
            invites: Vec::new(),
            is_direct: false,
            creation_content: carry_creation(&head, create, version, &additional_creators),
            initial_state: carry_state(&head, view.state_events()?),
            power_levels: carry_power_levels(&head, user, &additional_creators, version),
        };
        let new = self.create_room(successor).await?;
        let content = object(json!({"body": "This room has been replaced", "replacement_room": new.as_str()}));
        let tombstone = Draft::state(user.clone(), "m.room.tombstone", "", content);
        if let Err(error) = self.append(nid, vec![tombstone], None).await {
            self.abandon_room(&new, user).await;
            return Err(error);
        }
        self.set_public(old, false).await?;
        self.move_aliases(nid, self.known_room(&new)?).await?;
        self.close_room(nid, user, &head).await;
        Ok(new)
    }

    /// Takes the user out of a successor that the old room does not point to (its policy server would not have it).
    async fn abandon_room(&self, room: &RoomId, user: &UserId) {
        let (sender, target, membership) = (user.clone(), user.clone(), Membership::Leave);
        let leave = MembershipChange { sender, target, membership, content: Map::new() };
        let leaving = async {
            self.set_public(room, false).await?;
            let nid = self.known_room(room)?;
            if self.policy_server(nid)?.is_some() {
                // It is this server's, and would not have that somebody leaves either. To give it up it is not asked.
                let none = Draft::state(user.clone(), POLICY_EVENT, "", Map::new());
                self.append(nid, vec![none], None).await?;
            }
            self.change_membership(room, leave).await
        };
        if let Err(error) = leaving.await {
            tracing::warn!(room_id = room.as_str(), %error, "a room that was to replace another is left over");
        }
    }

    /// Raises the levels for speaking and inviting in a replaced room, where its version and the user's power allow.
    async fn close_room(&self, room: RoomNid, user: &UserId, head: &Head) {
        let Some(mut content) = head.power_levels().and_then(|event| event.content::<Map<String, Value>>().ok()) else {
            return;
        };
        let default = content.get("users_default").and_then(Value::as_i64).unwrap_or(0);
        let closed = (default + 1).max(50);
        content.insert("events_default".into(), closed.into());
        content.insert("invite".into(), closed.into());
        // Recommended only: a user without the power for it has still upgraded the room.
        if let Err(error) =
            self.append(room, vec![Draft::state(user.clone(), "m.room.power_levels", "", content)], None).await
        {
            tracing::debug!(room = room.0, %error, "a replaced room stays open");
        }
    }
}

/// What the new room is created with: what the old one was, and which it follows.
fn carry_creation(
    head: &Head,
    create: &Pdu,
    version: RoomVersion,
    additional_creators: &[Value],
) -> Map<String, Value> {
    let mut content: Map<String, Value> = create.content().unwrap_or_default();
    content
        .retain(|key, _| !matches!(key.as_str(), "creator" | "room_version" | "predecessor" | "additional_creators"));
    let mut predecessor = json!({"room_id": head.room_id().as_str()});
    if !version.rules().room_id_is_create_hash
        && let Some((last, _)) = head.row.extremities.first()
    {
        predecessor["event_id"] = (&**last).into();
    }
    content.insert("predecessor".into(), predecessor);
    if version.rules().additional_creators && !additional_creators.is_empty() {
        content.insert("additional_creators".into(), additional_creators.into());
    }
    content
}

/// The old room's state, as far as the new one takes it over: [`KEPT`], bans, and the rooms of a space. What names a
/// policy server goes along if that could sign anything, as server ACLs do: it means nothing until a user of that
/// server joins the new room, and from then on it is protected as the old one was.
fn carry_state(head: &Head, events: Vec<Event>) -> Vec<(String, String, Map<String, Value>)> {
    let mut carried = Vec::new();
    for event in events {
        let (kind, key) = (event.kind(), event.state_key().unwrap_or_default());
        let is_kept = match kind {
            "m.room.member" => event.content_as::<Value>().is_some_and(|content| content["membership"] == "ban"),
            "m.space.child" => event.content() != "{}",
            POLICY_EVENT => key.is_empty() && head.policy.as_ref().is_some_and(|policy| policy.has_key()),
            kind => KEPT.contains(&kind),
        };
        if is_kept {
            carried.push((kind.to_owned(), key.to_owned(), event.content_as().unwrap_or_default()));
        }
    }
    carried
}

/// The old room's levels, as the new version can have them.
fn carry_power_levels(
    head: &Head,
    user: &UserId,
    additional_creators: &[Value],
    version: RoomVersion,
) -> Map<String, Value> {
    let mut levels: Map<String, Value> = head.power_levels().and_then(|event| event.content().ok()).unwrap_or_default();
    if version.rules().explicitly_privilege_room_creators {
        if let Some(Value::Object(users)) = levels.get_mut("users") {
            users.retain(|name, _| name != user.as_str() && !additional_creators.iter().any(|creator| creator == name));
        }
    } else if head.rules().explicitly_privilege_room_creators {
        let users = levels.entry("users").or_insert_with(|| json!({}));
        users[user.as_str()] = 100.into();
    }
    levels
}
