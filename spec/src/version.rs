//! Room versions as a table of constants. The difference between two versions is what the struct update names.
//!
//! Each rule that changes between versions is one named field of [`RoomVersionRules`]; no code elsewhere
//! compares version numbers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::BorrowedStr;

#[cfg(test)]
mod tests;

/// A room version of the specification (Room Versions §Complete list of room versions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoomVersion {
    V1,
    V2,
    V3,
    V4,
    V5,
    V6,
    V7,
    V8,
    V9,
    V10,
    V11,
    V12,
    /// Version 10 with owned state (MSC3757), `org.matrix.msc3757.10`.
    V10Owned,
    /// Version 11 with owned state (MSC3757), `org.matrix.msc3757.11`.
    V11Owned,
}

/// The version string is not one of ours. The client or the remote server asked for something we do not support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("room version {0:?} is not supported")]
pub struct UnknownVersion(pub Box<str>);

impl RoomVersion {
    /// Versions of proposals, which no specification has.
    pub const UNSTABLE: [Self; 2] = [Self::V10Owned, Self::V11Owned];

    /// Every supported version of the specification, oldest first.
    pub const ALL: [Self; 12] = [
        Self::V1,
        Self::V2,
        Self::V3,
        Self::V4,
        Self::V5,
        Self::V6,
        Self::V7,
        Self::V8,
        Self::V9,
        Self::V10,
        Self::V11,
        Self::V12,
    ];

    /// The version as `m.room.create` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1",
            Self::V2 => "2",
            Self::V3 => "3",
            Self::V4 => "4",
            Self::V5 => "5",
            Self::V6 => "6",
            Self::V7 => "7",
            Self::V8 => "8",
            Self::V9 => "9",
            Self::V10 => "10",
            Self::V11 => "11",
            Self::V12 => "12",
            Self::V10Owned => "org.matrix.msc3757.10",
            Self::V11Owned => "org.matrix.msc3757.11",
        }
    }

    /// The rules of the version.
    pub const fn rules(self) -> &'static RoomVersionRules {
        match self {
            Self::V1 => &RoomVersionRules::V1,
            Self::V2 => &RoomVersionRules::V2,
            Self::V3 => &RoomVersionRules::V3,
            Self::V4 => &RoomVersionRules::V4,
            Self::V5 => &RoomVersionRules::V5,
            Self::V6 => &RoomVersionRules::V6,
            Self::V7 => &RoomVersionRules::V7,
            Self::V8 => &RoomVersionRules::V8,
            Self::V9 => &RoomVersionRules::V9,
            Self::V10 => &RoomVersionRules::V10,
            Self::V11 => &RoomVersionRules::V11,
            Self::V12 => &RoomVersionRules::V12,
            Self::V10Owned => &RoomVersionRules::V10_OWNED,
            Self::V11Owned => &RoomVersionRules::V11_OWNED,
        }
    }
}

impl FromStr for RoomVersion {
    type Err = UnknownVersion;

    fn from_str(version: &str) -> Result<Self, UnknownVersion> {
        Self::ALL
            .into_iter()
            .chain(Self::UNSTABLE)
            .find(|known| known.as_str() == version)
            .ok_or_else(|| UnknownVersion(version.into()))
    }
}

impl fmt::Display for RoomVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RoomVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RoomVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BorrowedStr::deserialize(deserializer)?.0.parse().map_err(D::Error::custom)
    }
}

/// Where an event's id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventIdFormat {
    /// The `event_id` property, chosen by the server that made the event (versions 1 and 2).
    Given,
    /// The reference hash in unpadded base64 (version 3).
    Base64,
    /// The reference hash in URL-safe unpadded base64 (version 4 on).
    UrlSafeBase64,
}

/// The state resolution algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateResVersion {
    /// Version 1: by depth and SHA-1 of the event id.
    V1,
    /// Versions 2 to 11.
    V2,
    /// Version 12: iterative auth checks start from no state, and the conflicted state subgraph takes part.
    V2_1,
}

/// What redaction keeps beyond the properties that all versions keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedactionRules {
    /// `aliases` of `m.room.aliases` (versions 1 to 5).
    pub keep_aliases: bool,
    /// The top-level properties `origin`, `membership` and `prev_state` (versions 1 to 10).
    pub keep_origin_membership_prev_state: bool,
    /// `allow` of `m.room.join_rules` (version 8 on).
    pub keep_join_rules_allow: bool,
    /// `join_authorised_via_users_server` of `m.room.member` (version 9 on).
    pub keep_join_authorised_via: bool,
    /// The whole content of `m.room.create`, not only `creator` (version 11 on).
    pub keep_create_content: bool,
    /// `invite` of `m.room.power_levels` (version 11 on).
    pub keep_power_levels_invite: bool,
    /// `redacts` of `m.room.redaction` (version 11 on).
    pub keep_redacts: bool,
    /// `third_party_invite.signed` of `m.room.member` (version 11 on).
    pub keep_third_party_signed: bool,
}

/// Everything that depends on the room version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomVersionRules {
    /// The version these rules belong to. For reporting; rules ask the other fields.
    pub version: RoomVersion,
    /// How event ids are made.
    pub event_id: EventIdFormat,
    /// `prev_events` and `auth_events` hold `[event id, hashes]` pairs instead of event ids (versions 1 and 2).
    pub pair_references: bool,
    /// The room id is `!` and the hash of the create event, which itself has no `room_id` (version 12 on).
    pub room_id_is_create_hash: bool,
    /// Events are canonical JSON: integers within ±(2^53 − 1) and no floats (version 6 on).
    pub strict_canonical_json: bool,
    /// Signing keys must have been valid at `origin_server_ts` (version 5 on).
    pub enforce_key_validity: bool,
    /// The redacted event is named in `content.redacts` instead of the top level (version 11 on).
    pub redacts_in_content: bool,
    /// What redaction keeps.
    pub redaction: RedactionRules,
    /// How state is resolved.
    pub state_res: StateResVersion,
    /// Auth rule 4: `m.room.aliases` is allowed to the server that its state key names (versions 1 to 5).
    pub special_case_aliases: bool,
    /// Auth rule 11: redactions need the redact level or the domain of the redacted event (versions 1 and 2).
    pub special_case_redactions: bool,
    /// `notifications` of `m.room.power_levels` is limited by the sender's level, like `events` (version 6 on).
    pub limit_notifications_power_levels: bool,
    /// The membership and join rule `knock` exist (version 7 on).
    pub knocking: bool,
    /// The join rule `restricted` exists (version 8 on).
    pub restricted_join: bool,
    /// The join rule `knock_restricted` exists (version 10 on).
    pub knock_restricted: bool,
    /// Power levels are integers; before, strings of integers count as well (version 10 on).
    pub integer_power_levels: bool,
    /// The creator is the sender of the create event, and `content.creator` means nothing (version 11 on).
    pub use_room_create_sender: bool,
    /// Creators have infinite power and may not be listed in `m.room.power_levels` (version 12 on).
    pub explicitly_privilege_room_creators: bool,
    /// `content.additional_creators` of the create event is checked and adds creators (version 12 on).
    pub additional_creators: bool,
    /// A state key may be a user id with a suffix after `_`, and those of more power may set the state of others
    /// (MSC3757, no version of the specification).
    pub owned_state: bool,
}

impl RoomVersionRules {
    /// Room version 1.
    pub const V1: Self = Self {
        version: RoomVersion::V1,
        event_id: EventIdFormat::Given,
        pair_references: true,
        room_id_is_create_hash: false,
        strict_canonical_json: false,
        enforce_key_validity: false,
        redacts_in_content: false,
        redaction: RedactionRules {
            keep_aliases: true,
            keep_origin_membership_prev_state: true,
            keep_join_rules_allow: false,
            keep_join_authorised_via: false,
            keep_create_content: false,
            keep_power_levels_invite: false,
            keep_redacts: false,
            keep_third_party_signed: false,
        },
        state_res: StateResVersion::V1,
        special_case_aliases: true,
        special_case_redactions: true,
        limit_notifications_power_levels: false,
        knocking: false,
        restricted_join: false,
        knock_restricted: false,
        integer_power_levels: false,
        use_room_create_sender: false,
        explicitly_privilege_room_creators: false,
        additional_creators: false,
        owned_state: false,
    };

    /// Room version 2: state resolution v2.
    pub const V2: Self = Self { version: RoomVersion::V2, state_res: StateResVersion::V2, ..Self::V1 };

    /// Room version 3: event ids are hashes, redactions are no longer authorised by a rule of their own.
    pub const V3: Self = Self {
        version: RoomVersion::V3,
        event_id: EventIdFormat::Base64,
        pair_references: false,
        special_case_redactions: false,
        ..Self::V2
    };

    /// Room version 4: event ids in URL-safe base64.
    pub const V4: Self = Self { version: RoomVersion::V4, event_id: EventIdFormat::UrlSafeBase64, ..Self::V3 };

    /// Room version 5: signing keys must have been valid.
    pub const V5: Self = Self { version: RoomVersion::V5, enforce_key_validity: true, ..Self::V4 };

    /// Room version 6: strict canonical JSON, no special aliases, notification levels are limited.
    pub const V6: Self = Self {
        version: RoomVersion::V6,
        strict_canonical_json: true,
        special_case_aliases: false,
        limit_notifications_power_levels: true,
        redaction: RedactionRules { keep_aliases: false, ..Self::V5.redaction },
        ..Self::V5
    };

    /// Room version 7: knocking.
    pub const V7: Self = Self { version: RoomVersion::V7, knocking: true, ..Self::V6 };

    /// Room version 8: restricted joins.
    pub const V8: Self = Self {
        version: RoomVersion::V8,
        restricted_join: true,
        redaction: RedactionRules { keep_join_rules_allow: true, ..Self::V7.redaction },
        ..Self::V7
    };

    /// Room version 9: redaction keeps who authorised a restricted join.
    pub const V9: Self = Self {
        version: RoomVersion::V9,
        redaction: RedactionRules { keep_join_authorised_via: true, ..Self::V8.redaction },
        ..Self::V8
    };

    /// Room version 10: `knock_restricted` and integer power levels.
    pub const V10: Self =
        Self { version: RoomVersion::V10, knock_restricted: true, integer_power_levels: true, ..Self::V9 };

    /// Room version 11: clarified redaction, `redacts` in content, the creator is the sender.
    pub const V11: Self = Self {
        version: RoomVersion::V11,
        use_room_create_sender: true,
        redacts_in_content: true,
        redaction: RedactionRules {
            keep_origin_membership_prev_state: false,
            keep_create_content: true,
            keep_power_levels_invite: true,
            keep_redacts: true,
            keep_third_party_signed: true,
            ..Self::V10.redaction
        },
        ..Self::V10
    };

    /// Room version 12: hashed room ids, privileged creators, state resolution v2.1.
    pub const V12: Self = Self {
        version: RoomVersion::V12,
        room_id_is_create_hash: true,
        explicitly_privilege_room_creators: true,
        additional_creators: true,
        state_res: StateResVersion::V2_1,
        ..Self::V11
    };

    /// Room version 10 with owned state.
    pub const V10_OWNED: Self = Self { version: RoomVersion::V10Owned, owned_state: true, ..Self::V10 };

    /// Room version 11 with owned state.
    pub const V11_OWNED: Self = Self { version: RoomVersion::V11Owned, owned_state: true, ..Self::V11 };
}
