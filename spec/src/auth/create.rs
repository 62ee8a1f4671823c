//! Reading and checking `m.room.create` (rule 1 of the authorisation rules).

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    AuthFailure,
    peek::{as_string, find_property},
};
use crate::{
    ids::{BorrowedStr, UserId},
    pdu::Pdu,
    version::{RoomVersion, RoomVersionRules},
};

/// The one user that made the room: the sender, or before room version 11 the `creator` in the content.
pub(crate) fn creator<'a>(rules: &RoomVersionRules, create: &'a Pdu) -> Option<Cow<'a, str>> {
    if rules.use_room_create_sender {
        return Some(Cow::Borrowed(create.sender.as_str()));
    }
    find_property(&create.content, "creator").ok().flatten().and_then(as_string)
}

/// Whether `user` is a creator of the room, additional creators included.
pub(crate) fn is_creator(rules: &RoomVersionRules, create: &Pdu, user: &str) -> bool {
    creator(rules, create).is_some_and(|creator| creator == user)
        || rules.additional_creators
            && additional_creators(create).is_ok_and(|more| more.iter().any(|creator| creator.0 == user))
}

/// All creators of the room, the maker first. Malformed ones are left out.
pub(crate) fn room_creators(rules: &RoomVersionRules, create: &Pdu) -> Vec<UserId> {
    let mut creators: Vec<UserId> =
        creator(rules, create).and_then(|creator| UserId::parse(creator).ok()).into_iter().collect();
    if rules.additional_creators {
        let more = additional_creators(create).unwrap_or_default();
        creators.extend(more.iter().filter_map(|user| UserId::parse(&user.0).ok()));
    }
    creators
}

/// Whether servers other than the creator's may take part.
pub(super) fn is_federated(create: &Pdu) -> bool {
    !matches!(find_property(&create.content, "m.federate"), Ok(Some(value)) if value.get() == "false")
}

/// Rule 1: whether a room may begin with this event.
pub(super) fn check_create(rules: &RoomVersionRules, event: &Pdu) -> Result<(), AuthFailure> {
    if !event.prev_events.is_empty() {
        return Err(AuthFailure::CreateWithPrevEvents);
    }
    if rules.room_id_is_create_hash {
        if has_room_id(event) || event.room_id.create_event_id().as_ref() != Some(&event.event_id) {
            return Err(AuthFailure::CreateWithRoomId);
        }
    } else if event.room_id.server_name() != Some(event.sender.server_name()) {
        return Err(AuthFailure::CreateRoomIdDomain);
    }
    let property = |key| find_property(&event.content, key).map_err(|_| AuthFailure::MalformedContent);
    if let Some(version) = property("room_version")? {
        let known = as_string(version).is_some_and(|version| version.parse::<RoomVersion>().is_ok());
        if !known {
            return Err(AuthFailure::CreateUnknownVersion);
        }
    }
    if !rules.use_room_create_sender && property("creator")?.is_none() {
        return Err(AuthFailure::CreateWithoutCreator);
    }
    if rules.additional_creators {
        let more = additional_creators(event)?;
        if more.iter().any(|user| UserId::parse(&user.0).is_err()) {
            return Err(AuthFailure::CreateBadAdditionalCreators);
        }
    }
    Ok(())
}

fn additional_creators(create: &Pdu) -> Result<Vec<BorrowedStr<'_>>, AuthFailure> {
    match find_property(&create.content, "additional_creators") {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(list)) => serde_json::from_str(list.get()).map_err(|_| AuthFailure::CreateBadAdditionalCreators),
        Err(_) => Err(AuthFailure::MalformedContent),
    }
}

/// The parsed event always carries a room id, so the question goes to its JSON.
fn has_room_id(event: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct TopLevel {
        #[serde(default, deserialize_with = "is_there")]
        room_id: bool,
    }
    fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| true)
    }
    serde_json::from_slice::<TopLevel>(&event.json).is_ok_and(|event| event.room_id)
}
