//! Authorisation rules of room versions 1 to 12 (Room Versions §Authorisation rules, Server-Server API
//! §Authorisation rules).
//!
//! The rules come in two halves. [`check_auth_events`] asks only the event and its auth events and is run
//! once, on receipt. [`check_state`] asks a state and is run against several: the auth events, the state
//! before the event, the current state. Two conditions are the caller's: that no auth event (and, in room
//! version 12, not the create event) was itself rejected, and that the event is signed by the server of
//! [`join_authoriser`].

use std::{borrow::Cow, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    ids::UserId,
    pdu::Pdu,
    power::{BadLevel, LevelField, PowerView},
    version::RoomVersionRules,
};

pub(crate) mod create;
mod failure;
mod levels;
mod member;
pub(crate) mod peek;
#[cfg(test)]
pub(crate) mod tests;
mod third_party;

pub use failure::AuthFailure;
pub(crate) use member::{Membership, membership};

pub(crate) const CREATE: &str = "m.room.create";
pub(crate) const MEMBER: &str = "m.room.member";
pub(crate) const POWER_LEVELS: &str = "m.room.power_levels";
pub(crate) const JOIN_RULES: &str = "m.room.join_rules";
const THIRD_PARTY_INVITE: &str = "m.room.third_party_invite";

/// The rules that no state is needed for: all of those for the create event, and for other events what
/// their auth events have to be. `auth_events` holds the events that `event.auth_events` names, in any
/// order; others are ignored.
pub fn check_auth_events(rules: &RoomVersionRules, event: &Pdu, auth_events: &[Arc<Pdu>]) -> Result<(), AuthFailure> {
    if &*event.kind == CREATE {
        return create::check_create(rules, event);
    }
    let allowed = auth_keys(rules, &event.kind, &event.sender, event.state_key.as_deref(), &event.content);
    let mut seen = vec![false; allowed.len()];
    let mut has_create = false;
    for id in &event.auth_events {
        let auth = auth_events.iter().find(|auth| auth.event_id == *id).ok_or(AuthFailure::AuthEventMissing)?;
        if auth.room_id != event.room_id {
            return Err(AuthFailure::AuthEventOfOtherRoom);
        }
        let is_of = |(kind, key): &(&str, Cow<'_, str>)| *auth.kind == **kind && auth.state_key.as_deref() == Some(key);
        let slot = allowed.iter().position(is_of).and_then(|at| seen.get_mut(at));
        let slot = slot.ok_or(AuthFailure::AuthEventUnexpected)?;
        if std::mem::replace(slot, true) {
            return Err(AuthFailure::AuthEventDuplicate);
        }
        has_create |= &*auth.kind == CREATE;
    }
    if rules.room_id_is_create_hash {
        event.room_id.create_event_id().map(drop).ok_or(AuthFailure::RoomIdNotCreateEvent)
    } else if has_create {
        Ok(())
    } else {
        Err(AuthFailure::AuthEventsWithoutCreate)
    }
}

/// The rules that depend on the state. `state` gives the state event of a type and state key; it is asked
/// for those of [`auth_types`] and for the create event only.
pub fn check_state(
    rules: &RoomVersionRules,
    event: &Pdu,
    state: &dyn Fn(&str, &str) -> Option<Arc<Pdu>>,
) -> Result<(), AuthFailure> {
    if &*event.kind == CREATE {
        return Ok(());
    }
    let create = state(CREATE, "").ok_or(AuthFailure::NoCreateEvent)?;
    if rules.room_id_is_create_hash && event.room_id.create_event_id().as_ref() != Some(&create.event_id) {
        return Err(AuthFailure::RoomIdNotCreateEvent);
    }
    if create.sender.server_name() != event.sender.server_name() && !create::is_federated(&create) {
        return Err(AuthFailure::NotFederated);
    }
    if rules.special_case_aliases && &*event.kind == "m.room.aliases" {
        return check_aliases(event);
    }
    let room = RoomState { rules, lookup: state, create: &create };
    if &*event.kind == MEMBER {
        return member::check_member(&room, event);
    }
    if room.membership(event.sender.as_str())? != Membership::Join {
        return Err(AuthFailure::SenderNotJoined);
    }
    check_levels(&room, event)
}

/// The state that authorises an event of this shape: pairs of type and state key, no duplicates
/// (Server-Server API §Auth events selection). Empty for the create event; without the create event in
/// room version 12, where the room id stands for it.
pub fn auth_types(
    rules: &RoomVersionRules,
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Vec<(Box<str>, Box<str>)> {
    let keys = auth_keys(rules, kind, sender, state_key, content);
    keys.into_iter().map(|(kind, key)| (Box::from(kind), Box::from(key))).collect()
}

/// [`auth_types`] without copying.
pub(crate) fn auth_keys<'a>(
    rules: &RoomVersionRules,
    kind: &str,
    sender: &'a UserId,
    state_key: Option<&'a str>,
    content: &'a RawValue,
) -> Vec<(&'static str, Cow<'a, str>)> {
    if kind == CREATE {
        return Vec::new();
    }
    let mut keys = Vec::with_capacity(6);
    if !rules.room_id_is_create_hash {
        keys.push((CREATE, Cow::Borrowed("")));
    }
    keys.push((POWER_LEVELS, Cow::Borrowed("")));
    keys.push((MEMBER, Cow::Borrowed(sender.as_str())));
    if kind == MEMBER {
        member::push_auth_keys(rules, state_key, content, &mut keys);
    }
    keys
}

/// The user whose server has to have signed this membership event besides the sender's, because the user
/// let the sender into a restricted room (room version 8 on, rule 4.2). The caller verifies that signature.
pub fn join_authoriser(rules: &RoomVersionRules, event: &Pdu) -> Result<Option<UserId>, AuthFailure> {
    if !rules.restricted_join || &*event.kind != MEMBER {
        return Ok(None);
    }
    match peek::find_property(&event.content, "join_authorised_via_users_server") {
        Ok(None) => Ok(None),
        Ok(Some(user)) => {
            let user = peek::as_string(user).and_then(|user| UserId::parse(user).ok());
            user.map(Some).ok_or(AuthFailure::JoinAuthoriserMalformed)
        }
        Err(_) => Err(AuthFailure::MalformedContent),
    }
}

/// The state an event is checked against.
struct RoomState<'a> {
    rules: &'a RoomVersionRules,
    lookup: &'a dyn Fn(&str, &str) -> Option<Arc<Pdu>>,
    create: &'a Pdu,
}

impl RoomState<'_> {
    /// The membership of a user, `Leave` if there never was one.
    fn membership(&self, user: &str) -> Result<Membership, AuthFailure> {
        match (self.lookup)(MEMBER, user) {
            Some(event) => membership(&event.content).ok_or(AuthFailure::MalformedState(MEMBER)),
            None => Ok(Membership::Leave),
        }
    }

    /// Asks `question` of the power levels.
    fn with_power<T>(&self, question: impl FnOnce(&PowerView<'_>) -> Result<T, AuthFailure>) -> Result<T, AuthFailure> {
        let event = (self.lookup)(POWER_LEVELS, "");
        question(&PowerView::new(self.rules, self.create, event.as_deref())?)
    }
}

/// A level that cannot be read stands in the room's state; the event at hand is checked by [`levels`].
impl From<BadLevel> for AuthFailure {
    fn from(_: BadLevel) -> Self {
        Self::MalformedState(POWER_LEVELS)
    }
}

/// Rule 4 of room versions 1 to 5.
fn check_aliases(event: &Pdu) -> Result<(), AuthFailure> {
    match event.state_key.as_deref() {
        None => Err(AuthFailure::AliasesWithoutStateKey),
        Some(server) if server == event.sender.server_name() => Ok(()),
        Some(_) => Err(AuthFailure::AliasesOfOtherServer),
    }
}

/// The rules for a joined sender, from `m.room.third_party_invite` on.
fn check_levels(room: &RoomState<'_>, event: &Pdu) -> Result<(), AuthFailure> {
    room.with_power(|power| {
        let sender_power = power.user(event.sender.as_str())?;
        if &*event.kind == THIRD_PARTY_INVITE {
            let may_invite = sender_power.at_least(power.level(LevelField::Invite)?);
            return if may_invite { Ok(()) } else { Err(AuthFailure::ThirdPartyInviteLevel) };
        }
        let required = power.required_for_event(&event.kind, event.is_state())?;
        if !sender_power.at_least(required) {
            return Err(AuthFailure::EventLevel { required });
        }
        if let Some(key) = event.state_key.as_deref().filter(|key| key.starts_with('@')) {
            check_state_owner(room, event, power, key)?;
        }
        if &*event.kind == POWER_LEVELS {
            return levels::check_power_levels(room, event, power, sender_power);
        }
        if room.rules.special_case_redactions && &*event.kind == "m.room.redaction" {
            let may_redact = sender_power.at_least(power.level(LevelField::Redact)?);
            if !may_redact && !is_redaction_of_own_server(room.rules, event) {
                return Err(AuthFailure::RedactionLevel);
            }
        }
        Ok(())
    })
}

/// Whose state it is that has this state key, which begins with `@`: its sender's, or in rooms with owned state
/// (MSC3757) that of a user with less power than the sender, whose id a suffix may follow.
fn check_state_owner(room: &RoomState<'_>, event: &Pdu, power: &PowerView<'_>, key: &str) -> Result<(), AuthFailure> {
    if key == event.sender.as_str() {
        return Ok(());
    }
    if !room.rules.owned_state {
        return Err(AuthFailure::StateKeyOfOtherUser);
    }
    let owner = owner_of_state(key).ok_or(AuthFailure::StateKeyWithoutOwner)?;
    if owner == event.sender || power.user(event.sender.as_str())? > power.user(owner.as_str())? {
        return Ok(());
    }
    Err(AuthFailure::StateKeyOfOtherUser)
}

/// The user id at the beginning of a state key: no server name has a `_`, so the first one after the colon ends it.
fn owner_of_state(key: &str) -> Option<UserId> {
    let (localpart, rest) = key.split_once(':')?;
    let server = rest.split_once('_').map_or(rest, |(server, _)| server);
    UserId::parse(format!("{localpart}:{server}")).ok()
}

/// Whether the redaction and the event it redacts were named by the same server (room versions 1 and 2).
fn is_redaction_of_own_server(rules: &RoomVersionRules, event: &Pdu) -> bool {
    let target = event.redacts(rules);
    target.is_some_and(|target| target.server_name().is_some() && target.server_name() == event.event_id.server_name())
}
