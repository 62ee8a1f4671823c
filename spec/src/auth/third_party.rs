//! Invitations that redeem an `m.room.third_party_invite` (rule 5.4.1 of room version 12 and its predecessors).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    AuthFailure, Membership, RoomState, THIRD_PARTY_INVITE,
    peek::{as_string, find_property},
};
use crate::{
    ids::BorrowedStr,
    pdu::Pdu,
    signing::{VerifyKey, signing_key_ids, verify_json},
};

/// The token of `content.third_party_invite`, which is the state key of the invite it redeems.
pub(super) fn token(invite: &RawValue) -> Option<Cow<'_, str>> {
    let signed = find_property(invite, "signed").ok()??;
    as_string(find_property(signed, "token").ok()??)
}

/// Checks an invitation of `target` by the `content.third_party_invite` of the event.
pub(super) fn check_third_party_invite(
    room: &RoomState<'_>,
    event: &Pdu,
    target: &str,
    invite: &RawValue,
) -> Result<(), AuthFailure> {
    if room.membership(target)? == Membership::Ban {
        return Err(AuthFailure::ThirdPartyTargetBanned);
    }
    let signed = find_property(invite, "signed").ok().flatten().ok_or(AuthFailure::ThirdPartyUnsigned)?;
    let signed: Map<String, Value> =
        serde_json::from_str(signed.get()).map_err(|_| AuthFailure::ThirdPartyIncomplete)?;
    let string = |key| signed.get(key).and_then(Value::as_str).ok_or(AuthFailure::ThirdPartyIncomplete);
    let (mxid, token) = (string("mxid")?, string("token")?);
    if mxid != target {
        return Err(AuthFailure::ThirdPartyOtherUser);
    }
    let offer = (room.lookup)(THIRD_PARTY_INVITE, token).ok_or(AuthFailure::ThirdPartyUnknownToken)?;
    if offer.sender != event.sender {
        return Err(AuthFailure::ThirdPartyOtherSender);
    }
    let keys = public_keys(&offer);
    let signers = signed.get("signatures").and_then(Value::as_object);
    let mut entities = signers.into_iter().flatten().map(|(entity, _)| entity);
    let is_signed = entities.any(|entity| {
        let mut by_any_key = keys.iter().flat_map(|key| signing_key_ids(&signed, entity).map(move |id| (id, key)));
        by_any_key.any(|(id, key)| verify_json(&signed, entity, id, key).is_ok())
    });
    if is_signed { Ok(()) } else { Err(AuthFailure::ThirdPartyBadSignature) }
}

/// The usable keys of an `m.room.third_party_invite`.
fn public_keys(offer: &Pdu) -> Vec<VerifyKey> {
    #[derive(Deserialize)]
    struct Listed<'a> {
        #[serde(borrow)]
        public_key: BorrowedStr<'a>,
    }

    let property = |key| find_property(&offer.content, key).ok().flatten();
    let single = property("public_key").and_then(as_string);
    let list = property("public_keys").and_then(|keys| serde_json::from_str::<Vec<Listed<'_>>>(keys.get()).ok());
    let listed = list.unwrap_or_default().into_iter().map(|listed| listed.public_key.0);
    single.into_iter().chain(listed).filter_map(|key| VerifyKey::parse(&key).ok()).collect()
}
