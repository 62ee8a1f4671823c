//! The rules for `m.room.member` (rule 5 of room version 12 and its predecessors).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    AuthFailure, JOIN_RULES, MEMBER, RoomState, THIRD_PARTY_INVITE, join_authoriser,
    peek::{as_string, find_property, present},
    third_party,
};
use crate::{
    auth::create::creator,
    ids::UserId,
    pdu::Pdu,
    power::{LevelField, PowerLevel},
    version::RoomVersionRules,
};

/// The memberships that rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Join,
    Invite,
    Leave,
    Ban,
    Knock,
    Other,
}

impl Membership {
    fn parse(membership: &str) -> Self {
        match membership {
            "join" => Self::Join,
            "invite" => Self::Invite,
            "leave" => Self::Leave,
            "ban" => Self::Ban,
            "knock" => Self::Knock,
            _ => Self::Other,
        }
    }
}

/// The membership that a member event's content gives, `None` if it gives none.
pub(crate) fn membership(content: &RawValue) -> Option<Membership> {
    as_string(find_property(content, "membership").ok()??).map(|membership| Membership::parse(&membership))
}

/// The properties of a member event's content that rules look at.
#[derive(Deserialize)]
struct MemberContent<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    membership: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    third_party_invite: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    join_authorised_via_users_server: Option<&'a RawValue>,
}

impl<'a> MemberContent<'a> {
    fn parse(content: &'a RawValue) -> Option<Self> {
        serde_json::from_str(content.get()).ok()
    }

    fn membership(&self) -> Option<Membership> {
        self.membership.and_then(as_string).map(|membership| Membership::parse(&membership))
    }
}

/// Adds what the selection algorithm asks for member events beyond other events.
pub(super) fn push_auth_keys<'a>(
    rules: &RoomVersionRules,
    target: Option<&'a str>,
    content: &'a RawValue,
    keys: &mut Vec<(&'static str, Cow<'a, str>)>,
) {
    let mut push = |kind: &'static str, key: Cow<'a, str>| {
        if !keys.iter().any(|known| *known.0 == *kind && known.1 == key) {
            keys.push((kind, key));
        }
    };
    if let Some(target) = target {
        push(MEMBER, Cow::Borrowed(target));
    }
    let Some(content) = MemberContent::parse(content) else { return };
    let Some(membership) = content.membership() else { return };
    if matches!(membership, Membership::Join | Membership::Invite | Membership::Knock) {
        push(JOIN_RULES, Cow::Borrowed(""));
    }
    if membership == Membership::Invite
        && let Some(token) = content.third_party_invite.and_then(third_party::token)
    {
        push(THIRD_PARTY_INVITE, token);
    }
    if membership == Membership::Join
        && rules.restricted_join
        && let Some(authoriser) = content.join_authorised_via_users_server.and_then(as_string)
    {
        push(MEMBER, authoriser);
    }
}

/// Checks a member event, in the order of the rules.
pub(super) fn check_member(room: &RoomState<'_>, event: &Pdu) -> Result<(), AuthFailure> {
    let target = event.state_key.as_deref().ok_or(AuthFailure::MemberWithoutStateKey)?;
    let content = MemberContent::parse(&event.content).ok_or(AuthFailure::MalformedContent)?;
    let membership = content.membership().ok_or(AuthFailure::MemberWithoutMembership)?;
    if UserId::parse(target).is_err() {
        return Err(AuthFailure::MemberStateKeyNotUser);
    }
    match membership {
        Membership::Join => check_join(room, event, target),
        Membership::Invite => match content.third_party_invite {
            Some(invite) => third_party::check_third_party_invite(room, event, target, invite),
            None => check_invite(room, event, target),
        },
        Membership::Leave => check_leave(room, event, target),
        Membership::Ban => check_ban(room, event, target),
        Membership::Knock if room.rules.knocking => check_knock(room, event, target),
        Membership::Knock | Membership::Other => Err(AuthFailure::MembershipUnknown),
    }
}

/// The join rules that rules tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum JoinRule {
    Public,
    Invite,
    Knock,
    Restricted,
    KnockRestricted,
    Other,
}

/// The join rule in force. A room whose state has none counts as invite-only, as servers in the field hold;
/// one that this room version does not know lets nobody in.
fn join_rule(room: &RoomState<'_>) -> Result<JoinRule, AuthFailure> {
    let Some(event) = (room.lookup)(JOIN_RULES, "") else { return Ok(JoinRule::Invite) };
    let rule = find_property(&event.content, "join_rule").ok().flatten().and_then(as_string);
    let rules = room.rules;
    Ok(match &*rule.ok_or(AuthFailure::MalformedState(JOIN_RULES))? {
        "public" => JoinRule::Public,
        "invite" => JoinRule::Invite,
        "knock" if rules.knocking => JoinRule::Knock,
        "restricted" if rules.restricted_join => JoinRule::Restricted,
        "knock_restricted" if rules.knock_restricted => JoinRule::KnockRestricted,
        _ => JoinRule::Other,
    })
}

fn check_join(room: &RoomState<'_>, event: &Pdu, target: &str) -> Result<(), AuthFailure> {
    let follows_create = matches!(&*event.prev_events, [only] if *only == room.create.event_id);
    if follows_create && creator(room.rules, room.create).is_some_and(|creator| creator == target) {
        return Ok(());
    }
    if event.sender.as_str() != target {
        return Err(AuthFailure::JoinForOtherUser);
    }
    let current = room.membership(target)?;
    if current == Membership::Ban {
        return Err(AuthFailure::JoinBanned);
    }
    let is_expected = matches!(current, Membership::Invite | Membership::Join);
    match join_rule(room)? {
        JoinRule::Public => Ok(()),
        JoinRule::Invite | JoinRule::Knock if is_expected => Ok(()),
        JoinRule::Invite | JoinRule::Knock => Err(AuthFailure::JoinNotInvited),
        JoinRule::Restricted | JoinRule::KnockRestricted if is_expected => Ok(()),
        JoinRule::Restricted | JoinRule::KnockRestricted => check_join_authoriser(room, event),
        JoinRule::Other => Err(AuthFailure::JoinRuleForbids),
    }
}

/// A joined member with the power to invite stands in for the invitation.
fn check_join_authoriser(room: &RoomState<'_>, event: &Pdu) -> Result<(), AuthFailure> {
    let authoriser = join_authoriser(room.rules, event)?.ok_or(AuthFailure::JoinNotAuthorised)?;
    if room.membership(authoriser.as_str())? != Membership::Join {
        return Err(AuthFailure::JoinAuthoriserNotJoined);
    }
    let may_invite =
        room.with_power(|power| Ok(power.user(authoriser.as_str())?.at_least(power.level(LevelField::Invite)?)))?;
    if may_invite { Ok(()) } else { Err(AuthFailure::JoinAuthoriserMayNotInvite) }
}

fn check_invite(room: &RoomState<'_>, event: &Pdu, target: &str) -> Result<(), AuthFailure> {
    if room.membership(event.sender.as_str())? != Membership::Join {
        return Err(AuthFailure::InviteSenderNotJoined);
    }
    match room.membership(target)? {
        Membership::Join => return Err(AuthFailure::InviteTargetJoined),
        Membership::Ban => return Err(AuthFailure::InviteTargetBanned),
        _ => {}
    }
    let sender = event.sender.as_str();
    let may_invite = room.with_power(|power| Ok(power.user(sender)?.at_least(power.level(LevelField::Invite)?)))?;
    if may_invite { Ok(()) } else { Err(AuthFailure::InviteLevel) }
}

/// Leaving, rejecting an invitation, withdrawing a knock, kicking and unbanning.
fn check_leave(room: &RoomState<'_>, event: &Pdu, target: &str) -> Result<(), AuthFailure> {
    let sender_membership = room.membership(event.sender.as_str())?;
    if event.sender.as_str() == target {
        return match sender_membership {
            Membership::Invite | Membership::Join => Ok(()),
            Membership::Knock if room.rules.knocking => Ok(()),
            _ => Err(AuthFailure::LeaveNotInRoom),
        };
    }
    if sender_membership != Membership::Join {
        return Err(AuthFailure::KickSenderNotJoined);
    }
    let target_membership = room.membership(target)?;
    let (sender, levels) = compare_power(room, event, target)?;
    if target_membership == Membership::Ban && !sender.at_least(levels.ban) {
        return Err(AuthFailure::UnbanLevel);
    }
    if !sender.at_least(levels.kick) {
        return Err(AuthFailure::KickLevel);
    }
    if levels.target < sender { Ok(()) } else { Err(AuthFailure::KickTargetLevel) }
}

fn check_ban(room: &RoomState<'_>, event: &Pdu, target: &str) -> Result<(), AuthFailure> {
    if room.membership(event.sender.as_str())? != Membership::Join {
        return Err(AuthFailure::BanSenderNotJoined);
    }
    let (sender, levels) = compare_power(room, event, target)?;
    if !sender.at_least(levels.ban) {
        return Err(AuthFailure::BanLevel);
    }
    if levels.target < sender { Ok(()) } else { Err(AuthFailure::BanTargetLevel) }
}

fn check_knock(room: &RoomState<'_>, event: &Pdu, target: &str) -> Result<(), AuthFailure> {
    if !matches!(join_rule(room)?, JoinRule::Knock | JoinRule::KnockRestricted) {
        return Err(AuthFailure::KnockRule);
    }
    if event.sender.as_str() != target {
        return Err(AuthFailure::KnockForOtherUser);
    }
    match room.membership(target)? {
        Membership::Ban => Err(AuthFailure::KnockBanned),
        Membership::Invite | Membership::Join => Err(AuthFailure::KnockInRoom),
        Membership::Leave | Membership::Knock | Membership::Other => Ok(()),
    }
}

/// What the sender's power is measured against.
struct TargetLevels {
    target: PowerLevel,
    kick: i64,
    ban: i64,
}

fn compare_power(room: &RoomState<'_>, event: &Pdu, target: &str) -> Result<(PowerLevel, TargetLevels), AuthFailure> {
    room.with_power(|power| {
        let levels = TargetLevels {
            target: power.user(target)?,
            kick: power.level(LevelField::Kick)?,
            ban: power.level(LevelField::Ban)?,
        };
        Ok((power.user(event.sender.as_str())?, levels))
    })
}
