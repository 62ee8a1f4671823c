//! Why an event is not authorised.

/// The authorisation rule that an event breaks, one variant per rule (Room Versions §Authorisation rules).
/// Always the fault of the event's sender; `Display` is a sentence to show to that client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    /// Rule 1: a create event is the first event of its room.
    #[error("A create event cannot follow other events.")]
    CreateWithPrevEvents,
    /// Rule 1, versions 1 to 11: the room id names the sender's server.
    #[error("The room ID does not belong to the server that creates the room.")]
    CreateRoomIdDomain,
    /// Rule 1, version 12: the room id follows from the create event.
    #[error("A create event cannot carry a room ID in this room version.")]
    CreateWithRoomId,
    /// Rule 1: `room_version` is recognised.
    #[error("The room version is not supported.")]
    CreateUnknownVersion,
    /// Rule 1, versions 1 to 10: `creator` is present.
    #[error("The create event does not name a creator.")]
    CreateWithoutCreator,
    /// Rule 1, version 12: `additional_creators` is a list of user ids.
    #[error("The additional creators are not a list of user IDs.")]
    CreateBadAdditionalCreators,
    /// Rule 2, version 12: the room id names the create event of the room.
    #[error("The room ID does not match the room's create event.")]
    RoomIdNotCreateEvent,
    /// Auth events: one of the listed events was not handed in.
    #[error("An auth event is missing.")]
    AuthEventMissing,
    /// Auth events: no two for the same type and state key.
    #[error("Two auth events have the same type and state key.")]
    AuthEventDuplicate,
    /// Auth events: only those that the selection algorithm asks for.
    #[error("An auth event is of a type that does not authorise this event.")]
    AuthEventUnexpected,
    /// Auth events, versions 1 to 11: the create event is among them.
    #[error("The create event is not among the auth events.")]
    AuthEventsWithoutCreate,
    /// Auth events: all of the same room.
    #[error("An auth event belongs to another room.")]
    AuthEventOfOtherRoom,
    /// The state has no create event, so the room does not exist.
    #[error("The room has no create event.")]
    NoCreateEvent,
    /// `m.federate` is `false` and the sender is on another server.
    #[error("This room does not allow users of other servers.")]
    NotFederated,
    /// Versions 1 to 5: `m.room.aliases` is a state event.
    #[error("An aliases event needs a state key.")]
    AliasesWithoutStateKey,
    /// Versions 1 to 5: a server sets only its own aliases.
    #[error("Aliases can be set only for your own server.")]
    AliasesOfOtherServer,
    /// Member events have a state key.
    #[error("A membership event needs a state key.")]
    MemberWithoutStateKey,
    /// The state key of a member event is a user id.
    #[error("The state key of a membership event must be a user ID.")]
    MemberStateKeyNotUser,
    /// Member events have a `membership`.
    #[error("The membership event does not say which membership.")]
    MemberWithoutMembership,
    /// The membership exists in this room version.
    #[error("The membership is not known in this room version.")]
    MembershipUnknown,
    /// `join_authorised_via_users_server` is a user id.
    #[error("The user who authorises the join is not a valid user ID.")]
    JoinAuthoriserMalformed,
    /// join: only for oneself.
    #[error("You cannot join on behalf of another user.")]
    JoinForOtherUser,
    /// join: not while banned.
    #[error("You are banned from this room.")]
    JoinBanned,
    /// join: the rules `invite` and `knock` ask for an invitation.
    #[error("You are not invited to this room.")]
    JoinNotInvited,
    /// join: the rules `restricted` and `knock_restricted` ask for an invitation or an authorising member.
    #[error("You need an invitation, or membership in one of the rooms that allow joining.")]
    JoinNotAuthorised,
    /// join: the authorising user is joined.
    #[error("The user who authorises the join is not in the room.")]
    JoinAuthoriserNotJoined,
    /// join: the authorising user may invite.
    #[error("The user who authorises the join is not allowed to invite.")]
    JoinAuthoriserMayNotInvite,
    /// join: no other join rule lets anyone in.
    #[error("The join rule of this room does not let you join.")]
    JoinRuleForbids,
    /// third-party invite: the target is not banned.
    #[error("The invited user is banned from this room.")]
    ThirdPartyTargetBanned,
    /// third-party invite: `signed` is there.
    #[error("The third-party invite is not signed.")]
    ThirdPartyUnsigned,
    /// third-party invite: `signed` has `mxid` and `token`.
    #[error("The third-party invite lacks a user ID or a token.")]
    ThirdPartyIncomplete,
    /// third-party invite: it was signed for the target.
    #[error("The third-party invite is meant for another user.")]
    ThirdPartyOtherUser,
    /// third-party invite: the room has an invite with that token.
    #[error("The room has no third-party invite with this token.")]
    ThirdPartyUnknownToken,
    /// third-party invite: the same user sent both events.
    #[error("The third-party invite was sent by another user.")]
    ThirdPartyOtherSender,
    /// third-party invite: a signature fits one of the public keys.
    #[error("No signature on the third-party invite is valid.")]
    ThirdPartyBadSignature,
    /// invite: only from inside.
    #[error("You cannot invite because you are not in the room.")]
    InviteSenderNotJoined,
    /// invite: the target is outside.
    #[error("The user is already in the room.")]
    InviteTargetJoined,
    /// invite: the target is not banned.
    #[error("The user is banned from this room.")]
    InviteTargetBanned,
    /// invite: the invite level.
    #[error("You do not have permission to invite.")]
    InviteLevel,
    /// leave: one can leave only what one is in.
    #[error("You are not in this room.")]
    LeaveNotInRoom,
    /// kick: only from inside.
    #[error("You cannot remove users because you are not in the room.")]
    KickSenderNotJoined,
    /// unban: the ban level.
    #[error("You do not have permission to unban.")]
    UnbanLevel,
    /// kick: the kick level.
    #[error("You do not have permission to remove users.")]
    KickLevel,
    /// kick: more power than the target.
    #[error("You cannot remove a user who has at least as much power as you.")]
    KickTargetLevel,
    /// ban: only from inside.
    #[error("You cannot ban because you are not in the room.")]
    BanSenderNotJoined,
    /// ban: the ban level.
    #[error("You do not have permission to ban.")]
    BanLevel,
    /// ban: more power than the target.
    #[error("You cannot ban a user who has at least as much power as you.")]
    BanTargetLevel,
    /// knock: the join rule allows it.
    #[error("This room does not accept knocks.")]
    KnockRule,
    /// knock: only for oneself.
    #[error("You cannot knock on behalf of another user.")]
    KnockForOtherUser,
    /// knock: not while banned.
    #[error("You are banned from this room.")]
    KnockBanned,
    /// knock: not while invited or joined.
    #[error("You are already invited to or in this room.")]
    KnockInRoom,
    /// Everything but memberships needs the sender in the room.
    #[error("You are not in this room.")]
    SenderNotJoined,
    /// `m.room.third_party_invite`: the invite level.
    #[error("You do not have permission to invite.")]
    ThirdPartyInviteLevel,
    /// The level required for the event type.
    #[error("You do not have permission to send this event: it requires power level {required}.")]
    EventLevel {
        /// The level that the event type requires.
        required: i64,
    },
    /// A state key that is a user id belongs to that user.
    #[error("Only the user named by the state key can send this event.")]
    StateKeyOfOtherUser,
    /// MSC3757: a state key that begins with `@` begins with a user id.
    #[error("The state key begins with @ but not with a user ID.")]
    StateKeyWithoutOwner,
    /// `m.room.power_levels`: a property has the wrong type.
    #[error("The power levels are malformed at `{0}`.")]
    PowerMalformed(&'static str),
    /// `m.room.power_levels`: keys of `users` are user ids.
    #[error("The power levels list something that is not a user ID.")]
    PowerUserInvalid,
    /// `m.room.power_levels`, version 12: creators are not listed.
    #[error("The power of a room creator cannot be set.")]
    PowerOfCreator,
    /// `m.room.power_levels`: the old and the new value of a property are within the sender's power.
    #[error("You do not have permission to change the power level `{0}`.")]
    PowerField(&'static str),
    /// `m.room.power_levels`: the old and the new value for an event type are within the sender's power.
    #[error("You do not have permission to change the power level required for `{0}`.")]
    PowerEvent(Box<str>),
    /// `m.room.power_levels`, version 6 on: the same for notification keys.
    #[error("You do not have permission to change the power level required for the notification `{0}`.")]
    PowerNotification(Box<str>),
    /// `m.room.power_levels`: another user's level changes only from below the sender's.
    #[error("You cannot change the power of {0}, who has at least as much power as you.")]
    PowerOfPeer(Box<str>),
    /// `m.room.power_levels`: nobody is given more than the sender has.
    #[error("You cannot give {0} more power than you have.")]
    PowerAboveOwn(Box<str>),
    /// Versions 1 and 2: redacting events of other servers needs the redact level.
    #[error("You do not have permission to redact this event.")]
    RedactionLevel,
    /// The content is not an object, or a property that a rule needs has the wrong type.
    #[error("The content of the event is malformed.")]
    MalformedContent,
    /// A state event that a rule needs cannot be understood.
    #[error("The room's `{0}` is malformed.")]
    MalformedState(&'static str),
}
